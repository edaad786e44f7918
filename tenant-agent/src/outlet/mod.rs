//! The one way to a host outside: what the lists say of it, which secrets it may have, which addresses it may have, and
//! the request and its answer.
//!
//! Two rooms go through here: the forward proxy, for OpenClaw and what it starts, and the agent's own tools. A host that no
//! list allows is not even looked up: whoever asks for it is told so, and a person is asked. Nothing is followed here: a
//! redirect goes back to whoever asked, and the next request passes every step again.
//! Limits: HTTP/1.1 alone; what changes its protocol (WebSocket) needs a host that is passed through.

pub mod exchange;
mod reach;
mod refused;
mod secrets;

use crate::bundle::InForce;
use crate::hosts::{Hosts, Sought};
use crate::outside::Outside;
use axum::http::{HeaderMap, header};
use policy::Regime;
use policy::host::{Host, Reach, Target, Verdict, decide};
use service::{Clock, Stop};
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub use refused::{Refused, Why, language};
pub use secrets::{Secrets, is_bound};

pub struct Outlet {
    /// Whom OpenClaw calls by itself; nobody is asked about these.
    pub own_hosts: Vec<Host>,
    pub hosts: Hosts,
    pub in_force: InForce,
    pub outside: Outside,
    pub secrets: Secrets,
    pub clock: Clock,
    pub stop: Stop,
    pub bounds: Bounds,
}

/// What all connections share.
pub struct Bounds {
    connections: Arc<Semaphore>,
    /// Of bodies that are held to be looked at, in KiB.
    bodies_kib: Arc<Semaphore>,
}

/// Connections that are held open through here, whatever goes on in them.
const CONNECTIONS_MAX: usize = 256;
/// A body is looked at whole, so it has to fit. What is larger needs a host that is passed through.
const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;
/// All bodies that are held at the same time.
const BODIES_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Head of a request or an answer.
pub const HEAD_BYTES_MAX: usize = 64 * 1024;
pub const HEADERS_MAX: usize = 100;

/// Until a body is here, room for it included.
const BODY_WAIT_MS: u64 = 60_000;
/// Until a host has been looked up and connected, TLS included.
pub const REACH_WAIT_MS: u64 = 20_000;
/// Until a host begins to answer. Long polls take a minute.
const ANSWER_WAIT_MS: u64 = 180_000;
/// Between two pieces of an answer.
const IDLE_WAIT_MS: u64 = 120_000;
/// An answer or a connection that never ends, ends.
pub const LIFE_MS: u64 = 12 * 3_600_000;

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds { connections: Arc::new(Semaphore::new(CONNECTIONS_MAX)), bodies_kib: Arc::new(Semaphore::new(BODIES_BYTES_MAX / 1024)) }
    }
}

impl Outlet {
    pub fn place(&self) -> Option<OwnedSemaphorePermit> {
        self.bounds.connections.clone().try_acquire_owned().ok()
    }

    /// What the lists make of it: the tenant's goes first, then the bundle's.
    pub async fn verdict(&self, target: &Target, method: Option<&str>) -> Result<Verdict, Refused> {
        let own = self.hosts.about(target).await.map_err(unwritten)?;
        let law: Arc<Regime> = self.in_force.law();
        Ok(decide(law.law().http(), target, method, own.iter().chain(law.hosts())))
    }

    /// Asks a person, and says what came of it.
    async fn ask(&self, target: &Target, reach: Reach) -> Refused {
        if self.own_hosts.contains(&target.host) {
            return Why::OWN.about(target);
        }
        match self.hosts.ask(self.in_force.law().law(), target, reach).await {
            Ok(Sought::Waiting(id)) => Why::NOT_ALLOWED.about(target).with_approval(id),
            Ok(Sought::Denied) => Why::DENIED.about(target),
            Ok(Sought::TooMany) => Why::QUESTIONS.about(target),
            Err(error) => unwritten(error),
        }
    }
}

/// Nobody may reach it, whoever asks.
pub fn closed(target: &Target, rule: &'static str) -> Refused {
    tracing::warn!(rule, "a connection that nobody may make was refused");
    Why::CLOSED.about(target)
}

/// The one value of a header. Two are a request that others read differently.
pub fn one(headers: &HeaderMap, name: header::HeaderName) -> Result<Option<&str>, Refused> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(|_| Why::MALFORMED.into()),
        _ => Err(Why::MALFORMED.into()),
    }
}

fn unwritten(error: service::store::StoreError) -> Refused {
    tracing::error!(%error, "the lists of hosts cannot be read or asked for");
    Why::INTERNAL.into()
}

/// What comes in time, or nothing.
pub async fn within<F: Future>(clock: &Clock, wait_ms: u64, work: F) -> Option<F::Output> {
    tokio::select! {
        biased;
        outcome = work => Some(outcome),
        () = clock.sleep(wait_ms) => None,
    }
}
