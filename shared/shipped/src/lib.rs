//! The law that comes with the binaries: what is known, and the rules that hold before any bundle has come.
//!
//! The texts lie in `policy/rules` and are embedded as they are. They are read once in a process.

use policy::bundle::{self, Content, Named, Prices};
use policy::{Beside, Knowledge, RuleBook};
use std::sync::{Arc, LazyLock};

include!(concat!(env!("OUT_DIR"), "/texts.rs"));

const PRICES: &str = include_str!("../../../policy/rules/prices.toml");

static KNOWLEDGE: LazyLock<Arc<Knowledge>> = LazyLock::new(|| Knowledge::proven(KNOWN).expect("a test reads what is embedded"));

/// How programs, paths, hosts and tools are read.
pub fn knowledge() -> &'static Arc<Knowledge> {
    &KNOWLEDGE
}

/// The rules and prices, as a bundle would bring them.
pub fn content() -> Content {
    Content { rules: named("rules/", RULES), prices: prices(), ..Content::default() }
}

fn prices() -> Prices {
    bundle::prices(&Named { name: "prices.toml".to_owned(), text: PRICES.to_owned() }).expect("a test reads what is embedded")
}

/// The same rules, read. Nothing keeps them: a law takes what it needs.
pub fn book() -> RuleBook {
    RuleBook::read(&content().rules).expect("a test reads what is embedded")
}

/// What no bundle lowers: every shipped rule that is Critical Red.
pub fn floor() -> RuleBook {
    book().floor()
}

/// What stands beside a bundle, with a tenant's own rules.
pub fn beside(own: &[Named]) -> Beside<'_> {
    Beside { knowledge: knowledge(), floor: floor(), own }
}

fn named(folder: &str, texts: &[(&str, &str)]) -> Vec<Named> {
    texts.iter().map(|(name, text)| Named { name: format!("{folder}{name}"), text: (*text).to_owned() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_embedded_has_no_fault_and_prices() {
        let content = content();
        assert_eq!(content.faults(), []);
        assert!(!content.prices.rate("openai", "gpt-4o-mini", false).is_assumed);
    }

    #[test]
    fn what_is_embedded_is_a_law() {
        Knowledge::read(&named("", KNOWN)).unwrap_or_else(|faults| panic!("{faults:#?}"));
        let law = policy::Law::new(knowledge(), &[&book(), &floor()]).unwrap_or_else(|faults| panic!("{faults:#?}"));
        assert!(floor().rules().count() > 20 && law.rules().len() == book().rules().count(), "the floor repeats what is shipped");
    }
}
