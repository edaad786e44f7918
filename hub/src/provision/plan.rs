//! What comes next for a tenant on this machine, from what is written down, what is seen, and the time. Pure.

use crate::store::StepRecord;
use wire::fleet::{StepState, TenantState};

/// The way into service, in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepName {
    /// Folder, ports, configuration.
    Allocate,
    /// The agent makes a key and becomes known to the hub.
    Enrol,
    /// The agent runs and has its secrets.
    Start,
    /// The agent says that its gateway is well. Nothing is done here but to wait.
    Gateway,
}

pub const STEPS: [StepName; 4] = [StepName::Allocate, StepName::Enrol, StepName::Start, StepName::Gateway];

/// What is seen of a tenant now, as this life of the hub knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    pub is_allocated: bool,
    /// Its agent is kept running.
    pub is_kept: bool,
    /// Its agent answers and has its secrets.
    pub is_up: bool,
    pub is_gateway_well: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Write down that it runs, then do it.
    Do(StepName),
    /// It is reached by itself; write that down.
    Reached(StepName),
    /// It took too long.
    GiveUp(StepName, &'static str),
    /// Nothing to do before this time.
    WaitUntil(i64),
    /// Nothing to do before something else changes.
    Wait,
}

/// After so many tries in a row an operator has to look.
pub const TRIES_MAX: i64 = 5;
const RETRY_MS: i64 = 1_000;
const RETRY_MS_MAX: i64 = 30_000;
/// A gateway on a slow machine that does other things too.
pub const GATEWAY_MS_MAX: i64 = 240_000;
pub const GATEWAY_NOT_READY: &str = "gateway_not_ready";

pub fn next(steps: &[StepRecord; 4], seen: &Seen, now_ms: i64) -> Next {
    for (name, step) in STEPS.into_iter().zip(steps) {
        let is_done = step.state == StepState::Done;
        // What must be true of this very life of the hub is looked at, whatever was written down in an earlier one.
        let holds = match name {
            StepName::Allocate => seen.is_allocated,
            StepName::Enrol | StepName::Gateway => true,
            StepName::Start => seen.is_kept,
        };
        if is_done && holds {
            continue;
        }
        return match (name, step.state) {
            (StepName::Start, StepState::Failed) if seen.is_up => Next::Reached(name),
            (StepName::Gateway, _) if seen.is_gateway_well => Next::Reached(name),
            (StepName::Gateway, StepState::Failed) => Next::Wait,
            (StepName::Gateway, StepState::Running) => match due(step, GATEWAY_MS_MAX, now_ms) {
                None => Next::GiveUp(name, GATEWAY_NOT_READY),
                Some(until_ms) => Next::WaitUntil(until_ms),
            },
            (_, StepState::Failed) if step.tries >= TRIES_MAX => Next::Wait,
            (_, StepState::Failed) => match due(step, retry_ms(step.tries), now_ms) {
                None => Next::Do(name),
                Some(until_ms) => Next::WaitUntil(until_ms),
            },
            (_, StepState::Waiting | StepState::Running | StepState::Done) => Next::Do(name),
        };
    }
    Next::Wait
}

/// The tenant as operators see it. One that was in service stays so while its steps are only gone through again.
pub fn tenant_state(before: TenantState, steps: &[StepRecord; 4]) -> TenantState {
    let is_stuck = |(name, step): (StepName, &StepRecord)| step.state == StepState::Failed && (name == StepName::Gateway || step.tries >= TRIES_MAX);
    if STEPS.into_iter().zip(steps).any(is_stuck) {
        TenantState::NeedsOperator
    } else if before == TenantState::Ready || steps.iter().all(|step| step.state == StepState::Done) {
        TenantState::Ready
    } else {
        TenantState::Provisioning
    }
}

/// The steps as they are written down, those that are missing as waiting.
pub fn complete(records: Vec<StepRecord>) -> [StepRecord; 4] {
    STEPS.map(|name| records.iter().find(|record| record.name == name.text()).cloned().unwrap_or_else(|| name.waiting()))
}

/// What an earlier life left half-way or gave up is begun anew: a new life may have a new configuration.
pub fn renewed(step: &StepRecord, name: StepName) -> StepRecord {
    if step.state == StepState::Done { step.clone() } else { name.waiting() }
}

impl StepName {
    pub fn text(self) -> &'static str {
        match self {
            StepName::Allocate => "allocate",
            StepName::Enrol => "enrol",
            StepName::Start => "start",
            StepName::Gateway => "gateway",
        }
    }

    pub fn index(self) -> usize {
        self as usize
    }

    fn waiting(self) -> StepRecord {
        StepRecord { n: self as i64, name: self.text().to_owned(), state: StepState::Waiting, error: None, tries: 0, changed_ms: 0 }
    }
}

fn retry_ms(tries: i64) -> i64 {
    (RETRY_MS << (tries - 1).clamp(0, 16)).min(RETRY_MS_MAX)
}

/// When the wait of a step is over; `None` when it is. A wall clock that jumped back ends it too: nobody waits for a year.
fn due(step: &StepRecord, wait_ms: i64, now_ms: i64) -> Option<i64> {
    let until_ms = step.changed_ms.saturating_add(wait_ms);
    (step.changed_ms <= now_ms && now_ms < until_ms).then_some(until_ms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use StepName::*;
    use StepState::{Done, Failed, Running, Waiting};

    const NOW: i64 = 1_000_000;
    const NOTHING: Seen = Seen { is_allocated: false, is_kept: false, is_up: false, is_gateway_well: false };
    const ALLOCATED: Seen = Seen { is_allocated: true, ..NOTHING };
    const UP: Seen = Seen { is_allocated: true, is_kept: true, is_up: true, is_gateway_well: false };
    const RESTARTING: Seen = Seen { is_up: false, ..UP };
    const WELL: Seen = Seen { is_gateway_well: true, ..UP };

    /// Tries, and how long ago it changed.
    type Told = (StepState, i64, i64);

    fn steps(told: [Told; 4]) -> [StepRecord; 4] {
        let mut steps = complete(Vec::new());
        for (step, (state, tries, ago_ms)) in steps.iter_mut().zip(told) {
            (step.state, step.tries, step.changed_ms) = (state, tries, NOW - ago_ms);
        }
        steps
    }

    #[test]
    fn each_tenant_is_moved_one_step_nearer() {
        let (done, waiting) = ((Done, 0, 0), (Waiting, 0, 0));
        let check = |told: [Told; 4], seen: Seen, expected: Next| assert_eq!(next(&steps(told), &seen, NOW), expected, "{told:?} {seen:?}");
        // The ordinary course.
        check([waiting, waiting, waiting, waiting], NOTHING, Next::Do(Allocate));
        check([done, waiting, waiting, waiting], ALLOCATED, Next::Do(Enrol));
        check([done, done, waiting, waiting], ALLOCATED, Next::Do(Start));
        check([done, done, done, waiting], UP, Next::Do(Gateway));
        check([done, done, done, (Running, 1, 0)], UP, Next::WaitUntil(NOW + GATEWAY_MS_MAX));
        check([done, done, done, (Running, 1, 0)], WELL, Next::Reached(Gateway));
        check([done, done, done, done], WELL, Next::Wait);
        // A kill in the middle of a step.
        check([(Running, 1, 0), waiting, waiting, waiting], NOTHING, Next::Do(Allocate));
        check([done, (Running, 1, 0), waiting, waiting], ALLOCATED, Next::Do(Enrol));
        check([done, done, (Running, 1, 0), waiting], ALLOCATED, Next::Do(Start));
        // A new life of the hub: what was true of the old one is done again, an enrolment is not.
        check([done, done, done, done], NOTHING, Next::Do(Allocate));
        check([done, done, done, done], ALLOCATED, Next::Do(Start));
        // Failures: soon, later, never.
        check([(Failed, 1, 999), waiting, waiting, waiting], NOTHING, Next::WaitUntil(NOW + 1));
        check([(Failed, 1, 1_000), waiting, waiting, waiting], NOTHING, Next::Do(Allocate));
        check([done, done, (Failed, 4, 7_999), waiting], ALLOCATED, Next::WaitUntil(NOW + 1));
        check([done, done, (Failed, 4, 8_000), waiting], ALLOCATED, Next::Do(Start));
        check([done, done, (Failed, TRIES_MAX, 1_000_000), waiting], ALLOCATED, Next::Wait);
        check([(Failed, 1, -60_000), waiting, waiting, waiting], NOTHING, Next::Do(Allocate));
        // An agent that came up after all; one that its keeper is starting again.
        check([done, done, (Failed, TRIES_MAX, 0), waiting], UP, Next::Reached(Start));
        check([done, done, (Failed, 1, 0), waiting], RESTARTING, Next::WaitUntil(NOW + 1_000));
        check([done, done, done, done], RESTARTING, Next::Wait);
        // A gateway that is late, and one that is well after all; one that falls ill later is no step.
        check([done, done, done, (Running, 1, GATEWAY_MS_MAX)], UP, Next::GiveUp(Gateway, GATEWAY_NOT_READY));
        check([done, done, done, (Failed, 1, 1)], UP, Next::Wait);
        check([done, done, done, (Failed, 1, 1)], WELL, Next::Reached(Gateway));
        check([done, done, done, done], UP, Next::Wait);
    }

    #[test]
    fn a_tenant_in_service_stays_so_until_something_fails_for_good() {
        let (done, waiting) = ((Done, 0, 0), (Waiting, 0, 0));
        let check =
            |before: TenantState, told: [Told; 4], expected: TenantState| assert_eq!(tenant_state(before, &steps(told)), expected, "{before:?} {told:?}");
        check(TenantState::Provisioning, [done, done, done, waiting], TenantState::Provisioning);
        check(TenantState::Provisioning, [done, done, done, done], TenantState::Ready);
        check(TenantState::Ready, [done, done, (Running, 1, 0), done], TenantState::Ready);
        check(TenantState::Ready, [done, done, (Failed, 1, 0), done], TenantState::Ready);
        check(TenantState::Ready, [done, done, (Failed, TRIES_MAX, 0), done], TenantState::NeedsOperator);
        check(TenantState::Provisioning, [done, done, done, (Failed, 1, 0)], TenantState::NeedsOperator);
        check(TenantState::NeedsOperator, [done, done, (Running, 1, 0), waiting], TenantState::Provisioning);
        check(TenantState::NeedsOperator, [done, done, done, done], TenantState::Ready);
    }

    #[test]
    fn a_new_life_forgets_failures_and_keeps_what_is_done() {
        let told = steps([(Done, 3, 0), (Running, 2, 0), (Failed, TRIES_MAX, 0), (Failed, 1, 0)]);
        let renewed: Vec<(StepState, i64)> =
            STEPS.into_iter().zip(&told).map(|(name, step)| renewed(step, name)).map(|step| (step.state, step.tries)).collect();
        assert_eq!(renewed, [(Done, 3), (Waiting, 0), (Waiting, 0), (Waiting, 0)]);
    }
}
