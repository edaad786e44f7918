//! Canaries: calls that nobody wants, one on each surface on which OpenClaw runs tools, at its start and every hour. Each must
//! ask the gate and be refused there. They are proposed in a session of their own, whose model is the egress proxy itself:
//! no provider, no budget, nothing that a person is shown.
//!
//! A surface that did not ask, or whose call came back as if it had run, closes the model path until a later round is whole.
//! What OpenClaw does not have as it is configured is `off`, and it must say so itself.

mod round;
mod surface;

pub use round::{Gate, Heard, Proposed, REFUSED, Returned, Says, Surfaces, Word};

use crate::audit::{self, Deed};
use crate::gateway::openclaw::PLUGIN_TOOL;
use crate::gateway::{CANARY_SESSIONS, CallError, DoubtCode, Gateway, LastWord};
use crate::ledger;
use round::{Nonces, Round};
use serde::Serialize;
use service::store::StoreError;
use service::{Clock, Stop, Store, random};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use surface::Place;
use tokio::sync::{Notify, broadcast, watch};

/// The skill's command that OpenClaw takes to that tool.
const COMMAND: &str = "/gatehouse_canary";

#[derive(Clone)]
pub struct Canaries(Arc<Inner>);

struct Inner {
    gateway: Gateway,
    store: Store,
    clock: Clock,
    round: Mutex<Option<Round>>,
    /// Something was asked, heard or answered.
    stirred: Notify,
    /// Somebody wants a round now.
    wanted: Notify,
    report: watch::Sender<Report>,
}

/// The last round.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// When it ended; `None` before the first.
    pub at_ms: Option<i64>,
    pub ok: bool,
    /// What became of the canary on each surface.
    pub surfaces: Surfaces,
    /// Rounds since OpenClaw started, those that could not be made among them.
    pub rounds: u64,
}

impl Report {
    /// The surfaces that are not as they should be.
    pub fn faults(&self) -> String {
        let faults = self.surfaces.iter().filter(|(_, outcome)| outcome.is_fault());
        faults.map(|(surface, outcome)| format!("{surface} {}", outcome.name())).collect::<Vec<_>>().join(", ")
    }
}

/// What a round came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Came {
    Whole,
    Breached,
    /// OpenClaw did not carry it out, or not to its end.
    Unanswered,
}

const EACH_MS: u64 = 3_600_000;
/// After a round that was not whole.
const AGAIN_MS: u64 = 60_000;
/// A first turn on a slow machine loads half of OpenClaw.
const ROUND_WAIT: Duration = Duration::from_secs(180);
/// A round every hour may fail to be made this often, on a machine that is busy, before nothing is believed any more.
const UNANSWERED_MAX: u32 = 3;
/// After the last word of a conversation its sub-assistant may still be at work.
const CHILD_WAIT: Duration = Duration::from_secs(60);

impl Canaries {
    pub fn new(gateway: Gateway, store: Store, clock: Clock) -> Canaries {
        let report = watch::Sender::new(Report::default());
        Canaries(Arc::new(Inner { gateway, store, clock, round: Mutex::default(), stirred: Notify::new(), wanted: Notify::new(), report }))
    }

    pub fn report(&self) -> Report {
        self.0.report.borrow().clone()
    }

    /// Asks for a round now and returns what it came to.
    pub async fn now(&self) -> Report {
        let mut report = self.0.report.subscribe();
        report.mark_unchanged();
        self.0.wanted.notify_one();
        let _ = report.changed().await;
        self.report()
    }

    /// The gate's word about a call; `None` when no canary can have made it.
    pub fn asks(&self, session: &str, call_id: &str, tool: &str) -> Option<Gate> {
        let mut round = self.round();
        let gate = match round.as_mut().filter(|round| round.is_of(session)) {
            Some(round) => Some(round.asks(session, call_id, tool)),
            // Nobody else has any business in there.
            None => session.starts_with(CANARY_SESSIONS).then_some(Gate::Refuse),
        };
        drop(round);
        self.0.stirred.notify_waiters();
        gate
    }

    /// The model's word in a canary's session; `None` when it is none of a round that is on.
    pub fn hears(&self, heard: &Heard<'_>) -> Option<Says> {
        let says = self.round().as_mut().and_then(|round| round.hears(heard));
        self.0.stirred.notify_waiters();
        says
    }

    /// The plugin's own tool ran.
    pub fn runs(&self, session: &str) {
        if let Some(round) = self.round().as_mut() {
            round.runs(session);
        }
        self.0.stirred.notify_waiters();
    }

    fn round(&self) -> MutexGuard<'_, Option<Round>> {
        self.0.round.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the round that is on.
    fn of_round<T>(&self, look: impl FnOnce(&mut Round) -> T) -> Option<T> {
        self.round().as_mut().map(look)
    }

    /// Makes a round whenever OpenClaw has started, and every hour, until the stop.
    pub async fn keep(self, stop: Stop) {
        let mut well = self.0.gateway.watch_well();
        let (mut start, mut unanswered, mut rounds) = (None, 0, 0);
        while !stop.is_stopped() {
            let now = *well.borrow_and_update();
            let Some(begun) = now else {
                if stop.or(well.changed()).await.is_none_or(|changed| changed.is_err()) {
                    return;
                }
                continue;
            };
            if start != Some(begun) {
                (start, unanswered, rounds) = (Some(begun), UNANSWERED_MAX, 0);
            }
            rounds += 1;
            let Some((came, surfaces)) = stop.or(self.make()).await else { return };
            *self.round() = None;
            unanswered = if came == Came::Unanswered { unanswered + 1 } else { 0 };
            let doubt = match came {
                Came::Whole => None,
                Came::Breached => Some(DoubtCode::Failed),
                Came::Unanswered => Some(DoubtCode::Unanswered),
            };
            if came != Came::Unanswered || unanswered >= UNANSWERED_MAX {
                self.tell(came, surfaces, rounds).await;
                self.0.gateway.vouch(begun, doubt);
            } else {
                tracing::warn!(unanswered, "OpenClaw did not carry out a round of canaries; it is tried again");
                self.0.report.send_modify(|report| report.rounds = rounds);
            }
            let next = self.0.clock.sleep(if came == Came::Whole { EACH_MS } else { AGAIN_MS });
            tokio::select! {
                () = stop.stopped() => return,
                () = next => {}
                () = self.0.wanted.notified() => {}
                changed = well.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Whoever asks is told; a change is audited.
    async fn tell(&self, came: Came, surfaces: Surfaces, rounds: u64) {
        let at_ms = self.0.clock.wall_ms();
        let report = Report { at_ms: Some(at_ms), ok: came == Came::Whole, surfaces, rounds };
        let before = self.report();
        if before.at_ms.is_none() || (before.ok, &before.surfaces) != (report.ok, &report.surfaces) {
            let (deed, detail) = (if report.ok { "canaries_passed" } else { "canaries_failed" }, report.faults());
            if !report.ok {
                tracing::error!(faults = detail, "canaries did not meet the safety check: no model answers");
            }
            let write =
                move |tx: &service::Tx| Ok::<_, StoreError>(audit::note(tx, at_ms, &Deed { actor: "agent", deed, subject: "gateway", detail: &detail })?);
            if let Err(error) = self.0.store.write(write).await {
                tracing::error!(%error, "what became of the canaries could not be written down");
            }
        }
        self.0.report.send_replace(report);
    }

    /// One round, from the command of a skill to the call over the control connection.
    async fn make(&self) -> (Came, Surfaces) {
        let nonces = Nonces { talk: random::token(), child: random::token(), command: random::token() };
        let (talk, command) = (format!("canary {}", nonces.talk), format!("{COMMAND} {}", nonces.command));
        // Of its own, so that nothing late of an earlier round comes into this one.
        let session = format!("{CANARY_SESSIONS}{}", random::token().to_lowercase());
        *self.round() = Some(Round::new(&session, nonces, ledger::mint_call_id));
        // The wait is for another process, whose time no clock of ours moves.
        let made = tokio::time::timeout(ROUND_WAIT, self.carry_out(&session, &command, &talk)).await.unwrap_or(Err(CallError::Late));
        if let Err(error) = &made {
            tracing::warn!(%error, "a round of canaries was not carried out");
        }
        self.clear_up(&session).await;
        let (has_breach, surfaces) = self.of_round(|round| (round.has_breach(), round.surfaces())).unwrap_or_default();
        let is_whole = made.is_ok() && !surfaces.is_empty() && surfaces.values().all(|outcome| !outcome.is_fault());
        let came = match (has_breach, is_whole) {
            (true, _) => Came::Breached,
            (false, true) => Came::Whole,
            (false, false) => Came::Unanswered,
        };
        (came, surfaces)
    }

    async fn carry_out(&self, session: &str, command: &str, talk: &str) -> Result<(), CallError> {
        let gateway = &self.0.gateway;
        gateway.begin_canaries(session).await?;
        let mut said = gateway.watch_canaries();
        // A command of a skill first: nothing of the conversation hides whether it asked.
        self.of_round(|round| round.begins(Place::Command));
        let run = format!("canary-{}", random::token());
        gateway.tell(session, command, &run).await?;
        let text = last_word(&mut said, &run).await?;
        self.of_round(|round| {
            round.is_settled(Place::Command) || {
                round.answers(Place::Command, &text);
                true
            }
        });
        let run = format!("canary-{}", random::token());
        gateway.tell(session, talk, &run).await?;
        last_word(&mut said, &run).await?;
        // Not in time is silent.
        let _ = tokio::time::timeout(CHILD_WAIT, self.comes(|round| !round.has_child() || round.is_settled(Place::Child))).await;
        let Some(Some((tool, call_id))) = self.of_round(|round| round.begins(Place::Control)) else { return Ok(()) };
        let answer = gateway.invoke(session, &tool, &call_id).await?;
        self.of_round(|round| round.answers(Place::Control, &answer));
        Ok(())
    }

    /// Waits until something is so.
    async fn comes(&self, is_so: impl Fn(&Round) -> bool) {
        loop {
            let stirred = self.0.stirred.notified();
            tokio::pin!(stirred);
            stirred.as_mut().enable();
            if self.of_round(|round| is_so(round)).unwrap_or(true) {
                return;
            }
            stirred.await;
        }
    }

    /// Nothing of a round stays in OpenClaw.
    async fn clear_up(&self, main: &str) {
        let child = self.of_round(|round| round.child().map(str::to_owned)).flatten();
        for session in child.iter().map(String::as_str).chain([main]) {
            if let Err(error) = self.0.gateway.forget(session).await {
                tracing::debug!(%error, session, "a session of the canaries stays until the next round");
            }
        }
    }
}

/// How a run of the canaries' session ended.
async fn last_word(said: &mut broadcast::Receiver<LastWord>, run: &str) -> Result<String, CallError> {
    loop {
        match said.recv().await {
            Ok(word) if word.run != run => {}
            Ok(word) if word.is_final => return Ok(word.text),
            // The run ended in an error, or was stopped.
            Ok(_) => return Err(CallError::Ended),
            Err(_) => return Err(CallError::Ended),
        }
    }
}
