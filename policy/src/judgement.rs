//! What was found out about a call, put together from its parts: the class is the maximum, the flags stay once set.

use crate::Class;
use serde::Serialize;

/// What a call does to the world, as far as it could be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Deed {
    /// Runs a program.
    Exec,
    Read,
    Write,
    /// Changes in place: mode, owner, content.
    Change,
    Delete,
    /// A file's content leaves to a host.
    Upload,
    /// Speaks to a host.
    Net,
    /// Something reaches other people.
    Send,
    Pay,
    Privilege,
    /// Stays behind and runs again by itself.
    Persist,
    Secret,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Effect {
    pub deed: Deed,
    /// The path, host, program or amount it concerns; empty when it could not be told.
    pub target: String,
}

/// One reason, by the id of the rule that gave it. The sentence is looked up in the law.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Because {
    pub rule: String,
    pub class: Class,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    pub class: Class,
    /// Something leaves to other people. A flag of its own: it survives the maximum.
    pub external: bool,
    /// Not understood: asks at every level.
    pub unknown: bool,
    /// A person is asked, however harmless it is.
    pub asks: bool,
    pub because: Vec<Because>,
    pub effects: Vec<Effect>,
}

impl Default for Judgement {
    /// Nothing found yet. Whoever finds nothing at all must not return this as a proof of harmlessness.
    fn default() -> Judgement {
        Judgement { class: Class::Green, external: false, unknown: false, asks: false, because: Vec::new(), effects: Vec::new() }
    }
}

impl Judgement {
    /// `rule` holds: the class is at least `class`. INVARIANT: nothing here ever lowers anything.
    pub fn raise(&mut self, class: Class, rule: &str) {
        self.class = self.class.max(class);
        let room = self.because.len() < REASONS_MAX;
        match self.because.iter_mut().find(|known| known.rule == rule) {
            Some(known) => known.class = known.class.max(class),
            None if room => self.because.push(Because { rule: rule.to_owned(), class }),
            None => {}
        }
    }

    /// Nobody can read what this does.
    pub fn unreadable(&mut self, rule: &str) {
        self.unknown = true;
        self.raise(Class::Red, rule);
    }

    pub fn effect(&mut self, deed: Deed, target: impl Into<String>) {
        if self.effects.len() < EFFECTS_MAX {
            self.effects.push(Effect { deed, target: target.into() });
        }
    }

    /// The same with some reasons counted for less. Nothing is lowered when not every reason was kept.
    pub(crate) fn lower(&mut self, classes: &std::collections::BTreeMap<String, Class>) {
        if self.because.len() >= REASONS_MAX || !self.because.iter().any(|because| classes.contains_key(&because.rule)) {
            return;
        }
        for because in &mut self.because {
            if let Some(lower) = classes.get(&because.rule) {
                because.class = because.class.min(*lower);
            }
        }
        self.class = self.because.iter().map(|because| because.class).max().unwrap_or(self.class);
    }

    /// Takes these reasons back, for a part that turns out not to happen by itself. False, and nothing is taken back,
    /// when not every reason was kept.
    pub(crate) fn forget(&mut self, rules: &[&str]) -> bool {
        if self.because.len() >= REASONS_MAX {
            return false;
        }
        self.because.retain(|because| !rules.contains(&because.rule.as_str()));
        self.class = self.because.iter().map(|because| because.class).max().unwrap_or(Class::Green);
        self.unknown = self.because.iter().any(|because| UNREADABLE.contains(&because.rule.as_str()));
        true
    }

    pub fn join(&mut self, other: Judgement) {
        self.external |= other.external;
        self.unknown |= other.unknown;
        self.asks |= other.asks;
        for because in other.because {
            self.raise(because.class, &because.rule);
        }
        self.class = self.class.max(other.class);
        for Effect { deed, target } in other.effects {
            self.effect(deed, target);
        }
    }
}

/// Faults that make a part unreadable however it is called.
const UNREADABLE: &[&str] = &["shell.unreadable", "shell.too_long", "shell.too_deep"];

/// More reasons than a person reads, and more effects than a line can sensibly have. The class counts all of them.
pub(crate) const REASONS_MAX: usize = 24;
const EFFECTS_MAX: usize = 64;
