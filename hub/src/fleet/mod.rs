//! The way in for agents: enrolment, the link, and what operators see of both.

mod decisions;
mod enrol;
mod link;
pub(crate) mod presence;
pub(crate) mod view;

pub(crate) use decisions::pass;
pub(crate) use enrol::enrol;
pub(crate) use link::open;

use crate::bundles::Bundles;
use crate::store::Store;
use presence::Attendance;
use service::limiter::Limiter;
use service::{Clock, Stop};
use std::sync::Arc;

/// What the handlers of this room need.
pub(crate) struct Reception {
    store: Store,
    bundles: Arc<Bundles>,
    attendance: Arc<Attendance>,
    clock: Clock,
    stop: Stop,
    heartbeat_ms: u64,
    enrolments: Limiter,
    decisions: Limiter,
}

/// A fleet behind one address enrols at most this fast; a guesser gets no further.
const ENROLMENTS_MAX: usize = 30;
const ENROLMENT_WINDOW_MS: u64 = 60_000;
/// Decisions from one address or for one tenant: more than a household has, and too few to keep a host busy.
const DECISIONS_MAX: usize = 30;
const DECISION_WINDOW_MS: u64 = 60_000;

impl Reception {
    pub fn new(store: Store, bundles: Arc<Bundles>, attendance: Arc<Attendance>, clock: Clock, stop: Stop, heartbeat_ms: u64) -> Reception {
        let (enrolments, decisions) = (Limiter::new(ENROLMENTS_MAX, ENROLMENT_WINDOW_MS), Limiter::new(DECISIONS_MAX, DECISION_WINDOW_MS));
        Reception { store, bundles, attendance, clock, stop, heartbeat_ms, enrolments, decisions }
    }
}
