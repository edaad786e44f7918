//! Who does what was allowed: the agent itself, or a process of OpenClaw's own user in OpenClaw's closed network.
//!
//! On an installed host the agent stands outside of the closed network and under a user of its own, and neither is for a
//! command. So it hands the order over a socket to a unit that systemd starts for this one order, with limits for all of its
//! processes together, and that ends with it. `tenant-agent hands` is that unit's program: one line in, one line out. It
//! decides nothing and knows no secret but those of its order.

use super::capture::{Capture, packed};
use super::command::{self, End, Line};
use super::file::{self, FileError};
use super::pin::Pins;
use super::sandbox::Walls;
use crate::cgroup::Nest;
use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use service::Clock;
use std::path::{Path, PathBuf};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;
use zeroize::Zeroizing;

/// What is to be done. Places are absolute and were looked at; what leads elsewhere by now is not opened.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    Run(Line),
    Read {
        place: PathBuf,
    },
    Write {
        place: PathBuf,
        text: String,
    },
    /// Bytes that need not be text.
    Keep {
        place: PathBuf,
        #[serde(with = "packed")]
        bytes: Vec<u8>,
    },
    Replace {
        place: PathBuf,
        before: String,
        after: String,
    },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Done {
    Ran {
        printed: Capture,
        end: End,
        /// A file that it ran was exchanged meanwhile.
        is_swapped: bool,
    },
    /// A file that it was to run is not the one that was looked at; nothing ran.
    Swapped,
    Text(String),
    Written,
    /// The text to be replaced is not there once.
    Occurs(usize),
    Failed(FileError),
}

#[derive(Clone, Debug)]
pub enum Hands {
    Own(Own),
    /// The socket of the unit.
    Unit(PathBuf),
}

/// Where commands are at home, and what is closed to them.
#[derive(Clone, Debug)]
pub struct Own {
    pub home: PathBuf,
    pub walls: Walls,
    /// Where each command gets a control group; a unit is in one of its own.
    pub nest: Option<Nest>,
}

/// A file, three times as long when it is quoted, or what a command printed.
const LINE_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// How much longer than a command the unit may take.
const SPARE_MS: u64 = 30_000;

impl Hands {
    pub async fn perform(&self, order: Order, clock: &Clock) -> anyhow::Result<Done> {
        match self {
            Hands::Own(own) => own.perform(order, clock).await,
            Hands::Unit(socket) => {
                let late = clock.sleep(SPARE_MS + if let Order::Run(line) = &order { line.timeout_secs.saturating_mul(1000) } else { 0 });
                tokio::select! {
                    done = ask(socket, &order) => done,
                    () = late => bail!("the unit that does the work did not answer in time"),
                }
            }
        }
    }
}

/// Whoever stops waiting closes the socket, and the unit ends.
async fn ask(socket: &Path, order: &Order) -> anyhow::Result<Done> {
    let mut stream = UnixStream::connect(socket).await.with_context(|| format!("no unit answers on `{}`", socket.display()))?;
    let mut line = Zeroizing::new(serde_json::to_vec(order)?);
    line.push(b'\n');
    stream.write_all(&line).await.context("handing an order over")?;
    let mut answer = Vec::new();
    stream.take(LINE_BYTES_MAX).read_to_end(&mut answer).await.context("waiting for an order to be done")?;
    serde_json::from_slice(&answer).context("the unit that does the work ended without an answer")
}

/// `tenant-agent hands`: the other end.
pub async fn serve(folder: &Path, mut input: impl AsyncRead + Unpin, mut output: impl AsyncWrite + Unpin) -> anyhow::Result<()> {
    let own = Own::of(folder)?;
    let order = serde_json::from_slice(&line(&mut input).await?).context("no order")?;
    let clock = Clock::system();
    let mut rest = [0];
    let done = tokio::select! {
        done = own.perform(order, &clock) => done?,
        // Nobody says more: they stopped waiting.
        _ = input.read(&mut rest) => bail!("nobody waits for the order any more"),
    };
    output.write_all(&serde_json::to_vec(&done)?).await.context("telling what was done")?;
    output.flush().await.context("telling what was done")
}

async fn line(input: &mut (impl AsyncRead + Unpin)) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let mut line = Zeroizing::new(Vec::new());
    while line.last() != Some(&b'\n') {
        anyhow::ensure!((line.len() as u64) < LINE_BYTES_MAX, "the order is too long");
        anyhow::ensure!(input.read_buf(&mut *line).await.context("reading an order")? > 0, "the order is not whole");
    }
    Ok(line)
}

impl Own {
    /// For OpenClaw's folder, of which its workspace and its home are open.
    pub fn of(folder: &Path) -> anyhow::Result<Own> {
        let home = crate::gateway::openclaw::Home { folder: folder.to_owned(), is_shared: true };
        Ok(Own { home: home.home(), walls: Walls { closed: folder.to_owned(), open: vec![home.workspace(), home.home()], shown: Vec::new() }, nest: None })
    }

    async fn perform(&self, order: Order, clock: &Clock) -> anyhow::Result<Done> {
        let line = match order {
            Order::Run(line) => line,
            order => return tokio::task::spawn_blocking(move || on_disk(order).unwrap_or_else(Done::Failed)).await.context("work on the disk"),
        };
        let (walls, nest, place, secs, pins) = (self.walls.clone(), self.nest.clone(), line.folder.clone(), line.timeout_secs, line.pins.clone());
        // The files last: what is looked at then is what runs.
        let ready = move || {
            let sandbox = walls.raise(secs, nest.map(|nest| nest.cell()).transpose()?)?;
            anyhow::Ok((file::folder(&place), sandbox, Pins::of(&pins)))
        };
        match tokio::task::spawn_blocking(ready).await.context("walls for a command")?? {
            (Err(error), ..) => Ok(Done::Failed(error)),
            (_, _, None) => Ok(Done::Swapped),
            (Ok(folder), sandbox, Some(pins)) => command::run(line, folder, pins, &self.home, sandbox, clock).await,
        }
    }
}

fn on_disk(order: Order) -> Result<Done, FileError> {
    match order {
        Order::Run(_) => Err(FileError::Special),
        Order::Read { place } => file::read(&place).map(Done::Text),
        Order::Write { place, text } => file::write(&place, text.as_bytes()).map(|()| Done::Written),
        Order::Keep { place, bytes } => file::write(&place, &bytes).map(|()| Done::Written),
        Order::Replace { place, before, after } => match file::replaced(&file::read(&place)?, &before, &after) {
            Ok(text) => file::write(&place, text.as_bytes()).map(|()| Done::Written),
            Err(count) => Ok(Done::Occurs(count)),
        },
    }
}
