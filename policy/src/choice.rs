//! What a tenant has chosen for its assistants, within the bounds that the company's bundle sets: levels, and which tools may
//! reach other people without a question for that alone.
//!
//! Choices are kept as they were made. What they come to is looked up at each use ([`crate::Regime::gate`]), so a bound that
//! comes later holds at once, and a choice counts again when the bound has gone.

use crate::{Class, Level};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// For each assistant that somebody chose something for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choices(BTreeMap<String, Chosen>);

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chosen {
    /// None: as the company says.
    pub level: Option<Level>,
    /// Asks for Red at level 3, too. The company's own yes to that cannot be taken back.
    pub ask_red: bool,
    /// Whether a tool's gate is open, by the tool's own name; the others are as the company says.
    pub gates: BTreeMap<String, bool>,
}

/// One thing that a person wants to be otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Change {
    Level { to: Level },
    AskRed { ask: bool },
    Gate { tool: String, open: bool },
}

/// What has to stand behind a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weighed {
    /// It makes nothing looser.
    AtOnce,
    /// A person decides, as on a call of this class.
    Asked(Class),
}

impl Weighed {
    /// Looser changes are asked about; the most dangerous ones as the most dangerous calls are.
    pub(crate) fn of(is_looser: bool, is_critical: bool) -> Weighed {
        match (is_looser, is_critical) {
            (false, _) => Weighed::AtOnce,
            (true, false) => Weighed::Asked(Class::Red),
            (true, true) => Weighed::Asked(Class::CriticalRed),
        }
    }
}

/// Why nobody here may make a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The company allows no level so high.
    AboveMost,
    /// The company wants every Red to ask.
    AlwaysAsks,
    /// The company keeps this gate in its own hands.
    Held,
    /// No assistant has this tool, or it reaches nobody.
    ToolUnknown,
}

impl Choices {
    pub fn of(&self, assistant: &str) -> Option<&Chosen> {
        self.0.get(assistant)
    }

    pub fn make(&mut self, assistant: &str, change: &Change) {
        let chosen = self.0.entry(assistant.to_owned()).or_default();
        match change {
            Change::Level { to } => chosen.level = Some(*to),
            Change::AskRed { ask } => chosen.ask_red = *ask,
            Change::Gate { tool, open } => {
                chosen.gates.insert(tool.clone(), *open);
            }
        }
    }
}

impl Change {
    /// What it is about: two changes of one thing follow one another, those of two things stand side by side.
    pub fn about(&self) -> String {
        match self {
            Change::Level { .. } => "level".to_owned(),
            Change::AskRed { .. } => "ask_red".to_owned(),
            Change::Gate { tool, .. } => format!("gate {tool}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::{AssistantLevel, Content, Gates, Levels};
    use crate::law::RuleBook;
    use crate::regime::tests::KNOWLEDGE;
    use crate::{Beside, Finding, Regime, Verdict, gate};
    use proptest::prelude::*;
    use std::sync::Arc;

    fn law(levels: Levels, gates: Gates) -> Regime {
        let content = Content { levels, gates, ..Content::default() };
        let floor = RuleBook::read(&[]).unwrap();
        Regime::new(&content, "ten_a", Beside { knowledge: &KNOWLEDGE, floor, own: &[] }, 200, 0, true).unwrap()
    }

    fn chosen(law: &Regime, changes: &[Change]) -> Regime {
        let mut choices = (**law.choices()).clone();
        changes.iter().for_each(|change| choices.make("a", change));
        law.choosing(Arc::new(choices))
    }

    const fn level(to: Level) -> Change {
        Change::Level { to }
    }

    fn of_gate(tool: &str, open: bool) -> Change {
        Change::Gate { tool: tool.to_owned(), open }
    }

    #[test]
    fn every_change_and_what_must_stand_behind_it() {
        use Level::*;
        let (red, critical) = (Ok(Weighed::Asked(Class::Red)), Ok(Weighed::Asked(Class::CriticalRed)));
        let free = law(Levels::default(), Gates::default());
        let check = |law: &Regime, change: &Change, expected| assert_eq!(law.weigh("a", change), expected, "{change:?}");
        for (now, to, expected) in [
            (L1, L1, Ok(Weighed::AtOnce)),
            (L1, L2, red),
            (L1, L3, critical),
            (L2, L1, Ok(Weighed::AtOnce)),
            (L2, L3, critical),
            (L3, L3, Ok(Weighed::AtOnce)),
            (L3, L2, Ok(Weighed::AtOnce)),
            (L3, L1, Ok(Weighed::AtOnce)),
        ] {
            check(&chosen(&free, &[level(now)]), &level(to), expected);
        }
        check(&free, &of_gate("message", true), critical);
        check(&free, &of_gate("message", false), Ok(Weighed::AtOnce));
        check(&chosen(&free, &[of_gate("message", true)]), &of_gate("message", true), Ok(Weighed::AtOnce));
        check(&free, &of_gate("read", true), Err(Refused::ToolUnknown));
        check(&free, &of_gate("no_such_tool", false), Err(Refused::ToolUnknown));
        check(&free, &Change::AskRed { ask: true }, Ok(Weighed::AtOnce));
        check(&free, &Change::AskRed { ask: false }, Ok(Weighed::AtOnce));
        check(&chosen(&free, &[Change::AskRed { ask: true }]), &Change::AskRed { ask: false }, critical);

        let bound = Levels { most: Some(L2), ask_red: true, ..Levels::default() };
        let bound = law(bound, Gates { held: ["message".to_owned()].into(), ..Gates::default() });
        check(&bound, &level(L3), Err(Refused::AboveMost));
        check(&bound, &of_gate("message", true), Err(Refused::Held));
        check(&bound, &of_gate("exec", true), critical);
        check(&bound, &Change::AskRed { ask: false }, Err(Refused::AlwaysAsks));
        let all = law(Levels::default(), Gates { held: ["*".to_owned()].into(), ..Gates::default() });
        check(&all, &of_gate("exec", true), Err(Refused::Held));
    }

    #[test]
    fn a_bound_that_comes_later_holds_at_once_and_only_as_long_as_it_is_there() {
        let wishes = [level(Level::L3), of_gate("message", true), of_gate("exec", false)];
        let company = AssistantLevel { level: Level::L2, ask_red: false };
        let levels = |most| Levels { assistants: [("a".to_owned(), company)].into(), most, ..Levels::default() };
        let gates =
            |held: &[&str]| Gates { unlocked: ["exec".to_owned()].into(), held: held.iter().map(|tool| (*tool).to_owned()).collect(), ..Gates::default() };
        let free = chosen(&law(levels(None), gates(&[])), &wishes);
        let seen = |law: &Regime, tool| (law.gate("a", tool).level, law.gate("a", tool).external_unlocked);
        assert_eq!((seen(&free, "message"), seen(&free, "gatehouse__exec")), ((Level::L3, true), (Level::L3, false)));
        assert_eq!(free.gate("b", "exec"), crate::Gate { level: Level::L2, external_unlocked: true, ask_red: false }, "others are as the company says");
        let bound = law(levels(Some(Level::L2)), gates(&["message"])).choosing(free.choices().clone());
        assert_eq!((seen(&bound, "message"), seen(&bound, "exec")), ((Level::L2, false), (Level::L2, false)));
        let again = law(levels(None), gates(&[])).choosing(bound.choices().clone());
        assert_eq!(seen(&again, "message"), (Level::L3, true));
        let expired = again.at(200);
        assert!(
            expired.is_expired() && expired.gate("a", "message").external_unlocked,
            "what the tenant signed for itself does not end with the company's bundle"
        );
        assert!(!expired.gate("b", "exec").external_unlocked);
    }

    fn any_change() -> impl Strategy<Value = Change> {
        prop_oneof![
            prop::sample::select(Level::ALL.to_vec()).prop_map(level),
            any::<bool>().prop_map(|ask| Change::AskRed { ask }),
            (prop::sample::select(vec!["message", "exec"]), any::<bool>()).prop_map(|(tool, open)| of_gate(tool, open)),
        ]
    }

    fn rank(verdict: Verdict) -> u8 {
        match verdict {
            Verdict::Run => 0,
            Verdict::RunAndNotify => 1,
            Verdict::Ask => 2,
            Verdict::AskSigned => 3,
        }
    }

    proptest! {
        /// INVARIANT: what is done at once makes no call run that would have asked, and no choice goes past a bound.
        #[test]
        fn what_needs_nobody_loosens_nothing(before in prop::collection::vec(any_change(), 0..6), change in any_change(), most in prop::sample::select(Level::ALL.to_vec()), held: bool) {
            let default = Level::L2.min(most);
            let gates = Gates { held: if held { ["message".to_owned()].into() } else { Default::default() }, ..Gates::default() };
            let was = chosen(&law(Levels { default, most: Some(most), ..Levels::default() }, gates), &before);
            let is = chosen(&was, std::slice::from_ref(&change));
            for tool in ["message", "exec", "read"] {
                prop_assert!(is.gate("a", tool).level <= most && !(held && is.gate("a", "message").external_unlocked));
                for class in Class::ALL {
                    for external in [false, true] {
                        let finding = Finding { class, external, unknown: false, runs_at_level_3: true, ..Finding::unknown("test") };
                        let (then, now) = (gate(&finding, was.gate("a", tool)), gate(&finding, is.gate("a", tool)));
                        if was.weigh("a", &change) == Ok(Weighed::AtOnce) {
                            prop_assert!(rank(now) >= rank(then), "{:?} {:?} {} {:?} {:?}", change, class, external, then, now);
                        }
                        prop_assert!(class != Class::CriticalRed || now == Verdict::AskSigned);
                    }
                }
            }
        }
    }
}
