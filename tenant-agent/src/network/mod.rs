//! The closed network around OpenClaw: what is written for it, whether it is in force, and what that means here.
//!
//! The agent has no rights to look for itself. It asks on a socket, where root answers one question and reads nothing. On a
//! host that is meant to be closed, no answer is as good as a bad one: no model call passes.

pub mod doctor;
pub mod install;
mod observe;
pub mod plan;

use anyhow::Context;
use doctor::{Law, Verdict};
use plan::Plan;
use service::{Clock, Stop};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::sync::watch;
use wire::fleet::Severity;

#[derive(Clone)]
pub struct Network(Arc<Inner>);

struct Inner {
    /// Where to ask; `None` on a host that is not meant to be closed.
    doctor: Option<PathBuf>,
    verdict: watch::Sender<Verdict>,
}

/// Finding code, and the code of a refused model call.
pub const NOT_CLOSED: &str = "network_open";

/// How long a way may be open before it is noticed.
const LOOK_EACH_MS: u64 = 10_000;
/// The look itself takes a fraction of a second.
const LOOK_WAIT: Duration = Duration::from_secs(10);
const VERDICT_BYTES_MAX: u64 = 64 * 1024;
/// Between two looks at the processes of a host, one of which may just have been starting.
const SETTLE_MS: u64 = 300;
/// Laws that a process may seem to break while it starts.
const PASSING: [&str; 3] = ["processes", "rights", "resolver"];

impl Network {
    /// `doctor`: the socket to ask on, or `None` on a host that is not meant to be closed.
    pub fn new(doctor: Option<PathBuf>) -> Network {
        // Until somebody has looked, nothing is known.
        let verdict = if doctor.is_some() { unseen() } else { Verdict::open() };
        Network(Arc::new(Inner { doctor, verdict: watch::Sender::new(verdict) }))
    }

    /// Whether model calls may pass: the network is closed, or this host is not meant to have a closed one.
    pub fn is_in_force(&self) -> bool {
        self.0.verdict.borrow().ok
    }

    /// Whether this host is meant to be closed.
    pub fn is_looked_after(&self) -> bool {
        self.0.doctor.is_some()
    }

    pub fn verdict(&self) -> Verdict {
        self.0.verdict.borrow().clone()
    }

    pub fn changes(&self) -> watch::Receiver<Verdict> {
        self.0.verdict.subscribe()
    }

    /// What an operator should know, as the link says it: code, severity, since when, detail.
    pub fn findings(&self) -> Vec<(&'static str, Severity, Option<i64>, String)> {
        let verdict = self.0.verdict.borrow();
        let broken: Vec<&str> = verdict.broken().map(|law| law.name.as_str()).collect();
        if verdict.ok { Vec::new() } else { vec![(NOT_CLOSED, Severity::Fail, None, broken.join(", "))] }
    }

    /// Asks once.
    pub async fn look(&self) {
        let Some(doctor) = &self.0.doctor else { return };
        let verdict = ask(doctor).await.unwrap_or_else(|error| {
            tracing::error!(error = format!("{error:#}"), "nobody says whether OpenClaw's network is closed");
            unseen()
        });
        // An answer for another kind of host is none.
        let verdict = if verdict.closed { verdict } else { unseen() };
        let changed = self.0.verdict.send_if_modified(|now| {
            let changed = *now != verdict;
            now.clone_from(&verdict);
            changed
        });
        match (changed, verdict.ok) {
            (true, true) => tracing::info!("OpenClaw's network is closed"),
            (true, false) => {
                let broken: Vec<&str> = verdict.broken().map(|law| law.name.as_str()).collect();
                tracing::error!(laws = broken.join(", "), "OpenClaw's network is not closed: no model call passes. `tenant-agent doctor` says what to do");
            }
            _ => {}
        }
    }

    /// Looks again and again until the stop.
    pub async fn watch(&self, clock: Clock, stop: Stop) {
        if self.0.doctor.is_none() {
            return;
        }
        while stop.or(clock.sleep(LOOK_EACH_MS)).await.is_some() {
            if stop.or(self.look()).await.is_none() {
                return;
            }
        }
    }
}

/// Nobody has looked, or nobody can.
fn unseen() -> Verdict {
    let law = Law {
        name: "unseen".to_owned(),
        ok: false,
        found: "nobody has looked".to_owned(),
        remedy: "systemctl restart gatehouse-doctor.socket; its journal says why it did not answer".to_owned(),
    };
    Verdict { ok: false, closed: true, laws: vec![law], gateway_pid: None }
}

/// Asks root on this socket.
pub async fn ask(doctor: &Path) -> anyhow::Result<Verdict> {
    let answer = async {
        let mut stream = UnixStream::connect(doctor).await?.take(VERDICT_BYTES_MAX);
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        anyhow::Ok(text)
    };
    let text = tokio::time::timeout(LOOK_WAIT, answer).await.context("the doctor did not answer in time")?.context("the doctor does not answer")?;
    serde_json::from_str(&text).context("the doctor's answer is unreadable")
}

/// Looks at this host, as root.
pub async fn examine(plan: Plan, clock: &Clock) -> anyhow::Result<Verdict> {
    let plan = Arc::new(plan);
    let look = || {
        let plan = plan.clone();
        tokio::task::spawn_blocking(move || doctor::examine(&plan, &observe::observe(&plan)))
    };
    let first = look().await.context("looking at this host")?;
    if first.ok || !first.broken().all(|law| PASSING.contains(&law.name.as_str())) {
        return Ok(first);
    }
    clock.sleep(SETTLE_MS).await;
    look().await.context("looking at this host again")
}
