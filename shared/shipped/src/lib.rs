//! The law that comes with the binaries: what is known, and the rules that hold before any bundle has come.
//!
//! The texts lie in `policy/rules` and are embedded as they are. They are read once in a process. [`regime`] is what a
//! bundle comes to beside them: the law, and the net for secrets.

use policy::bundle::{self, Content, Fault, Named, Prices};
use policy::{Beside, Knowledge, Regime, RuleBook};
use redact::Net;
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

/// Files of patterns in a bundle.
const PATTERN_FILES_MAX: usize = 16;

/// What a bundle comes to beside what is compiled in and a tenant's own rules, or everything that is wrong with it.
/// `proven`: its examples held once, and are not asked again.
pub fn regime(content: &Content, tenant: &str, own: &[Named], expires_ms: i64, now_ms: i64, proven: bool) -> Result<(Regime, Arc<Net>), Vec<Fault>> {
    let beside = Beside { knowledge: knowledge(), floor: floor(), own };
    match (Regime::new(content, tenant, beside, expires_ms, now_ms, proven), net(content, proven)) {
        (Ok(law), Ok(net)) => Ok((law, net)),
        (law, net) => Err(law.err().into_iter().chain(net.err()).flatten().collect()),
    }
}

/// The net for secrets with a bundle's patterns.
pub fn net(content: &Content, proven: bool) -> Result<Arc<Net>, Vec<Fault>> {
    if content.patterns.len() > PATTERN_FILES_MAX {
        return Err(vec![Fault::at("patterns.toml", "", "there are more than 16 files of patterns", "put them into one")]);
    }
    let mut net = Net::built_in().clone();
    for Named { name, text } in &content.patterns {
        let faults = |error: redact::NetError| -> Vec<Fault> {
            error.0.iter().map(|wrong| Fault { line: wrong.line, ..Fault::at(name, &wrong.about, &wrong.what, wrong.fix) }).collect()
        };
        net = Arc::new(net.with(text, proven).map_err(faults)?);
    }
    Ok(net)
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
    #[test]
    fn a_bundle_is_told_of_all_that_is_wrong_with_its_rules_and_its_patterns() {
        let patterns = |text: &str| Content { patterns: vec![Named { name: "patterns.toml".to_owned(), text: text.to_owned() }], ..content() };
        let faults = |content: &Content| -> Vec<String> {
            let outcome = regime(content, "", &[], i64::MAX, 0, false);
            outcome.err().into_iter().flatten().map(|fault| fault.to_string()).collect()
        };
        assert_eq!(faults(&content()), [""; 0]);
        assert!(Arc::ptr_eq(&net(&content(), false).unwrap(), Net::built_in()), "nothing more is kept when nothing is added");
        assert_eq!(faults(&patterns("[[token]]\nid = \"acme_crm\"\nshapes = [\"crm-{digit:12}\"]\n")), [""; 0]);
        let mut broken = patterns("[[token]]\nid = \"acme_crm\"\nshapes = [\"crm-{digit:12}\"]\nmatch = [\"«crm-{digit:4}»\"]\n[allow]\nrules = []\n");
        broken.rules[0].text.push_str("[[rule]]\nid = \"broken\"\n");
        let said = faults(&broken);
        assert!(said.iter().any(|line| line.starts_with("patterns.toml:2: rule `acme_crm`: example 1 is not found;")), "{said:#?}");
        assert!(said.iter().any(|line| line.contains("missing field `class`")), "{said:#?}");
    }
}
