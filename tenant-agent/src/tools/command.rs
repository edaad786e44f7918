//! A shell line, run: exactly the line that was judged, in a folder that is held open, with an environment of its own, in
//! a process group that ends as a whole.

use super::capture::Capture;
use super::hands::Done;
use super::pin::Pins;
use super::sandbox::Sandbox;
use anyhow::Context;
use serde::{Deserialize, Serialize};
use service::Clock;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};
use zeroize::{Zeroize, Zeroizing};

/// What is to be run. It may hold secrets, and is wiped.
#[derive(Serialize, Deserialize)]
pub struct Line {
    pub text: String,
    pub folder: PathBuf,
    pub env: Vec<(String, String)>,
    pub stdin: String,
    pub timeout_secs: u64,
    /// Files that the line runs, with the digests that the yes was for.
    #[serde(default)]
    pub pins: Vec<(PathBuf, String)>,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.env.iter_mut().for_each(|(_, value)| value.zeroize());
        self.stdin.zeroize();
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    Code(i32),
    Signal(i32),
    Late,
}

/// How long a command may take, when it does not say and at most.
pub const TIMEOUT_SECS: u64 = 120;
pub const TIMEOUT_SECS_MAX: u64 = 600;
/// What is read at once.
const PIECE_BYTES: usize = 16 * 1024;
/// The shell whose language the law reads.
const SHELLS: [&str; 2] = ["/bin/bash", "/bin/sh"];
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

pub async fn run(mut line: Line, folder: OwnedFd, pins: Pins, home: &Path, sandbox: Sandbox, clock: &Clock) -> anyhow::Result<Done> {
    let (reader, writer) = std::io::pipe().context("a pipe")?;
    let mut output = pipe::Receiver::from_owned_fd(reader.into()).context("a pipe to read")?;
    let stdin = Zeroizing::new(std::mem::take(&mut line.stdin));
    let mut command = Command::new(SHELLS.into_iter().find(|shell| Path::new(shell).exists()).unwrap_or(SHELLS[1]));
    command
        .arg("-c")
        .arg(&line.text)
        .env_clear()
        .envs([("PATH", PATH), ("LANG", "C.UTF-8"), ("TERM", "dumb")])
        .env("HOME", home)
        // What the call sets comes last.
        .envs(line.env.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::piped())
        .stdout(writer.try_clone().context("a pipe for two")?)
        .stderr(writer)
        .process_group(0)
        .kill_on_drop(true);
    let pins = Arc::new(pins);
    let sandbox = Arc::new(sandbox);
    enter(&mut command, folder, pins.clone(), sandbox.clone());
    let child = match command.spawn() {
        Err(error) if error.raw_os_error() == Some(libc::ESTALE) => return Ok(Done::Swapped),
        child => child.context("starting a shell")?,
    };
    // Its own ends of the pipe must be closed, or the end of the output never comes.
    drop(command);
    let mut group = Group::of(child);
    let input = group.child.stdin.take();
    let feed = async move {
        if let Some(mut input) = input {
            // A command that does not read what it is given is not an error.
            let _ = input.write_all(stdin.as_bytes()).await;
        }
    };
    tokio::pin!(feed);
    let late = clock.sleep(line.timeout_secs.saturating_mul(1000));
    tokio::pin!(late);
    let mut printed = Capture::default();
    let mut piece = vec![0; PIECE_BYTES];
    let (mut is_fed, mut is_closed, mut status) = (false, false, None);
    let end = loop {
        // What still holds the pipe when the shell has ended was left in the background, and ends with it.
        if let Some(status) = status
            && (is_closed || drained(&mut output, &mut printed))
        {
            break end(status);
        }
        tokio::select! {
            () = &mut feed, if !is_fed => is_fed = true,
            read = output.read(&mut piece), if !is_closed => match read {
                Ok(0) | Err(_) => is_closed = true,
                Ok(count) => printed.push(&piece[..count]),
            },
            ended = group.child.wait(), if status.is_none() => status = Some(ended.context("waiting for a command")?),
            () = &mut late => break End::Late,
        }
    };
    group.end();
    // And whatever has left the group.
    drop(sandbox);
    Ok(Done::Ran { printed, end, is_swapped: !pins.hold() })
}

/// Takes what is in the pipe by now. Always true: there is nothing more to wait for.
fn drained(output: &mut pipe::Receiver, printed: &mut Capture) -> bool {
    let mut piece = [0; 4096];
    for _ in 0..DRAINS_MAX {
        match output.try_read(&mut piece) {
            Ok(count) if count > 0 => printed.push(&piece[..count]),
            _ => break,
        }
    }
    true
}

/// A pipe holds no more than this many pieces; a child in the background that fills it anew is not waited for.
const DRAINS_MAX: usize = 64;

fn end(status: ExitStatus) -> End {
    use std::os::unix::process::ExitStatusExt;
    status.code().map_or_else(|| End::Signal(status.signal().unwrap_or_default()), End::Code)
}

#[expect(unsafe_code, reason = "what must hold before the shell begins can only be set in the child; it makes system calls and nothing else")]
fn enter(command: &mut Command, folder: OwnedFd, pins: Arc<Pins>, sandbox: Arc<Sandbox>) {
    unsafe {
        command.pre_exec(move || {
            // The folder that was looked at, whatever its path leads to by now.
            if libc::fchdir(folder.as_raw_fd()) != 0 || libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                return Err(std::io::Error::last_os_error());
            }
            sandbox.enter()?;
            // The last moment before the shell opens them.
            if pins.hold() { Ok(()) } else { Err(std::io::Error::from_raw_os_error(libc::ESTALE)) }
        });
    }
}

/// A child and everything in its process group; ends with this value.
struct Group {
    child: Child,
    id: Option<i32>,
}

impl Group {
    fn of(child: Child) -> Group {
        Group { id: child.id().map(|id| id as i32), child }
    }

    #[expect(unsafe_code, reason = "the standard library cannot signal a process group")]
    fn end(&mut self) {
        if let Some(id) = self.id.take() {
            // The group is gone already when nothing was left behind.
            let _ = unsafe { libc::killpg(id, libc::SIGKILL) };
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.end();
    }
}
