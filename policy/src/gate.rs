//! Whether a classified call may run now. One function, one table; the test walks the whole matrix.

use crate::{Class, Finding};
use serde::{Deserialize, Serialize};

/// How much an assistant may do unasked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Level {
    L1,
    #[default]
    L2,
    L3,
}

/// What the tenant has set for this assistant and this tool.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gate {
    pub level: Level,
    /// The communications gate of this assistant and tool: locked unless somebody unlocked it.
    pub external_unlocked: bool,
    /// The tenant wants to be asked for Red even at level 3.
    pub ask_red: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Run,
    /// Run, and tell the owner that it ran.
    RunAndNotify,
    Ask,
    /// Ask, and only a signed decision counts.
    AskSigned,
}

/// INVARIANT: raising the class never loosens the verdict.
pub fn gate(finding: &Finding, gate: Gate) -> Verdict {
    if finding.class == Class::CriticalRed {
        return Verdict::AskSigned;
    }
    if finding.unknown || finding.asks {
        return Verdict::Ask;
    }
    if finding.external && !gate.external_unlocked {
        return Verdict::Ask;
    }
    match (finding.class, gate.level) {
        (Class::Green, _) => Verdict::Run,
        (Class::Yellow, Level::L1) => Verdict::Ask,
        (Class::Yellow, Level::L2 | Level::L3) => Verdict::Run,
        (_, Level::L3) if finding.runs_at_level_3 && !gate.ask_red => Verdict::RunAndNotify,
        (_, _) => Verdict::Ask,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every combination, written down: class, external, unknown → verdict at L1, L2, L3 with the gate locked, then unlocked.
    #[test]
    fn the_whole_matrix() {
        use Class::*;
        use Verdict::*;
        let rows = [
            ((Green, false, false), [Run, Run, Run], [Run, Run, Run]),
            ((Green, true, false), [Ask, Ask, Ask], [Run, Run, Run]),
            ((Yellow, false, false), [Ask, Run, Run], [Ask, Run, Run]),
            ((Yellow, true, false), [Ask, Ask, Ask], [Ask, Run, Run]),
            ((Red, false, false), [Ask, Ask, RunAndNotify], [Ask, Ask, RunAndNotify]),
            ((Red, true, false), [Ask, Ask, Ask], [Ask, Ask, RunAndNotify]),
            ((Red, false, true), [Ask, Ask, Ask], [Ask, Ask, Ask]),
            ((Red, true, true), [Ask, Ask, Ask], [Ask, Ask, Ask]),
            ((CriticalRed, false, false), [AskSigned; 3], [AskSigned; 3]),
            ((CriticalRed, true, true), [AskSigned; 3], [AskSigned; 3]),
        ];
        for ((class, external, unknown), locked, unlocked) in rows {
            let finding = Finding { class, external, unknown, runs_at_level_3: true, ..Finding::unknown("test") };
            for (external_unlocked, expected) in [(false, locked), (true, unlocked)] {
                for (level, expected) in [Level::L1, Level::L2, Level::L3].into_iter().zip(expected) {
                    let set = Gate { level, external_unlocked, ask_red: false };
                    assert_eq!(gate(&finding, set), expected, "{class:?} external {external} unknown {unknown} {set:?}");
                }
            }
        }
    }

    #[test]
    fn a_call_that_is_a_question_is_asked_whatever_is_set() {
        for class in [Class::Green, Class::Yellow, Class::Red] {
            let finding = Finding { class, unknown: false, asks: true, runs_at_level_3: true, ..Finding::unknown("test") };
            for level in [Level::L1, Level::L2, Level::L3] {
                assert_eq!(gate(&finding, Gate { level, external_unlocked: true, ask_red: false }), Verdict::Ask, "{class:?} {level:?}");
            }
        }
    }

    #[test]
    fn a_tenant_who_wants_to_be_asked_is_asked() {
        let finding = Finding { unknown: false, runs_at_level_3: true, ..Finding::unknown("test") };
        let set = Gate { level: Level::L3, external_unlocked: true, ask_red: true };
        assert_eq!(gate(&finding, set), Verdict::Ask);
    }
}
