//! What a bundle comes to for one tenant at one moment: its rules, exceptions, levels and gates, with what is compiled in.
//!
//! ```text
//! class of a call = the highest of   the bundle's rules, as its exceptions lower them until they expire
//!                                    the floor, compiled in: nothing lowers it
//!                                    the tenant's own rules: they only raise
//! ```
//!
//! When a bundle has expired, its rules and levels go on; its exceptions, unlocked gates and allowed hosts lapse.

use crate::bundle::{Budgets, Content, Exception, Fault, Gates, Levels, Limits, Named, Prices, Routes};
use crate::choice::{Change, Choices, Refused, Weighed};
use crate::host::Allowed;
use crate::law::{Finding, Knowledge, Law, RuleBook};
use crate::{Call, Class, Gate, Level};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The law in force. Cheap to ask; [`Regime::at`] makes the one for another moment.
#[derive(Clone, Debug)]
pub struct Regime {
    parts: Arc<Parts>,
    /// The rules, lowered by the exceptions that hold now.
    law: Law,
    is_expired: bool,
    until_ms: i64,
    /// What the tenant has chosen within the company's bounds.
    choices: Arc<Choices>,
}

/// What stays the same as time passes.
#[derive(Debug)]
struct Parts {
    law: Law,
    levels: Levels,
    gates: Gates,
    prices: Prices,
    budgets: Budgets,
    routes: Routes,
    exceptions: Vec<Exception>,
    hosts: Vec<Allowed>,
    workflows: Vec<Named>,
    /// The ids of the tenant's own rules.
    own: BTreeSet<String>,
    expires_ms: i64,
}

/// What is compiled in, and what a tenant wrote.
#[derive(Clone, Debug)]
pub struct Beside<'a> {
    pub knowledge: &'a Arc<Knowledge>,
    /// Rules that nothing lowers.
    pub floor: RuleBook,
    /// A tenant's own rules. They may only raise a class, which is all that a rule can do.
    pub own: &'a [Named],
}

impl Regime {
    /// What this content says for a tenant until `expires_ms`. With `proven`, the examples are taken for good: they were run
    /// when these very bytes first came.
    pub fn new(content: &Content, tenant: &str, beside: Beside<'_>, expires_ms: i64, now_ms: i64, proven: bool) -> Result<Regime, Vec<Fault>> {
        let texts: Vec<Named> = content.tools.iter().chain(&content.rules).cloned().collect();
        let (book, own) = match (RuleBook::read(&texts), RuleBook::read(beside.own).map(RuleBook::without_manifest)) {
            (Ok(book), Ok(own)) => (book, own),
            (book, own) => return Err(book.err().into_iter().chain(own.err()).flatten().collect()),
        };
        let law = Law::new(beside.knowledge, &[&book, &beside.floor, &own])?;
        let untouchable: BTreeSet<&str> = beside.floor.rules().map(|rule| rule.id.as_str()).collect();
        // A tenant's own rules are not lowered either; but that they are there refuses nobody's bundle.
        let of_tenant: BTreeSet<&str> = own.rules().map(|rule| rule.id.as_str()).collect();
        let mut faults: Vec<Fault> = content.exceptions.iter().filter_map(|exception| fault_of(exception, &law, &untouchable)).collect();
        if !proven {
            faults.extend(law.faults_of_examples(&book));
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let applies =
            |exception: &&Exception| (exception.tenants.is_empty() || exception.tenants.contains(tenant)) && !of_tenant.contains(exception.rule.as_str());
        let exceptions = content.exceptions.iter().filter(applies).cloned().collect();
        let parts = Parts {
            law: law.clone(),
            levels: content.levels.clone(),
            gates: content.gates.clone(),
            prices: content.prices.clone(),
            budgets: content.budgets.clone(),
            routes: content.routes.clone(),
            exceptions,
            hosts: content.hosts.clone(),
            workflows: content.workflows.clone(),
            own: own.rules().map(|rule| rule.id.clone()).collect(),
            expires_ms,
        };
        Ok(Regime { parts: Arc::new(parts), law, is_expired: false, until_ms: 0, choices: Arc::default() }.at(now_ms))
    }

    /// What is wrong with a tenant's own rules, their examples included.
    pub fn own_faults(own: &[Named], knowledge: &Arc<Knowledge>) -> Vec<Fault> {
        let tried = RuleBook::read(own).and_then(|book| Law::new(knowledge, &[&book]).map(|law| law.faults_of_examples(&book)));
        tried.unwrap_or_else(|faults| faults)
    }

    /// The same law at another moment.
    #[must_use]
    pub fn at(&self, now_ms: i64) -> Regime {
        let Parts { exceptions, expires_ms, .. } = &*self.parts;
        let is_expired = *expires_ms <= now_ms;
        let holding: Vec<&Exception> = exceptions.iter().filter(|exception| !is_expired && exception.expires_ms > now_ms).collect();
        let until_ms = holding.iter().map(|exception| exception.expires_ms).chain((!is_expired).then_some(*expires_ms)).min();
        let classes: BTreeMap<String, Class> = holding.iter().map(|exception| (exception.rule.clone(), exception.class)).collect();
        Regime {
            parts: self.parts.clone(),
            law: self.parts.law.lowered(classes),
            is_expired,
            until_ms: until_ms.unwrap_or(i64::MAX),
            choices: self.choices.clone(),
        }
    }

    /// The same law with other choices of the tenant.
    #[must_use]
    pub fn choosing(&self, choices: Arc<Choices>) -> Regime {
        Regime { choices, ..self.clone() }
    }

    /// What the tenant has chosen.
    pub fn choices(&self) -> &Arc<Choices> {
        &self.choices
    }

    /// Until when this is how it is: then an exception or the bundle expires.
    pub fn until_ms(&self) -> i64 {
        self.until_ms
    }

    pub fn is_expired(&self) -> bool {
        self.is_expired
    }

    /// The rules by themselves, and what tools there are.
    pub fn law(&self) -> &Law {
        &self.law
    }

    /// Whether the tenant wrote this rule itself.
    pub fn is_own(&self, rule: &str) -> bool {
        self.parts.own.contains(rule)
    }

    /// Whether an assistant may use the tool at all. Tools that are not described are refused before anything looks at the call.
    pub fn manifest(&self, tool: &str) -> bool {
        self.law.manifest().contains(self.law.tools().name_of(tool))
    }

    pub fn classify(&self, call: &Call<'_>) -> Finding {
        self.law.classify(call)
    }

    /// Where every assistant may connect to. An expired bundle allows nothing by this.
    pub fn hosts(&self) -> &[Allowed] {
        if self.is_expired { &[] } else { &self.parts.hosts }
    }

    /// Templates that the company sends along, as texts. They outlive the bundle: whatever they set going passes the gate.
    pub fn workflows(&self) -> &[Named] {
        &self.parts.workflows
    }

    /// What model calls cost.
    pub fn prices(&self) -> &Prices {
        &self.parts.prices
    }

    /// Who answers for a purpose.
    pub fn routes(&self) -> &Routes {
        &self.parts.routes
    }

    /// What an assistant may spend, and what its tenant. They outlive the bundle, as levels do.
    pub fn limits(&self, assistant: &str) -> (&Limits, &Limits) {
        (self.parts.budgets.of(assistant), &self.parts.budgets.tenant)
    }

    /// What is set for an assistant and a tool: what the tenant chose as far as the company lets it, otherwise what the company says.
    pub fn gate(&self, assistant: &str, tool: &str) -> Gate {
        let (ours, name) = (self.gate_of_the_company(assistant, tool), self.law.tools().name_of(tool));
        let chosen = self.choices.of(assistant);
        let is_open = chosen.and_then(|chosen| chosen.gates.get(name).copied());
        Gate {
            level: chosen.and_then(|chosen| chosen.level).unwrap_or(ours.level).min(self.level_most()),
            external_unlocked: is_open.unwrap_or(ours.external_unlocked) && !self.is_held(name),
            ask_red: ours.ask_red || chosen.is_some_and(|chosen| chosen.ask_red),
        }
    }

    fn gate_of_the_company(&self, assistant: &str, tool: &str) -> Gate {
        let Parts { levels, gates, .. } = &*self.parts;
        let own = levels.assistants.get(assistant);
        let unlocked = gates.assistants.get(assistant).unwrap_or(&gates.unlocked);
        Gate {
            level: own.map_or(levels.default, |own| own.level),
            external_unlocked: !self.is_expired && (unlocked.contains(tool) || unlocked.contains(self.law.tools().name_of(tool))),
            ask_red: own.map_or(levels.ask_red, |own| own.ask_red),
        }
    }

    /// The highest level that the tenant may choose.
    pub fn level_most(&self) -> Level {
        self.parts.levels.most.unwrap_or(Level::L3)
    }

    /// Whether the company asks for every Red, whatever the tenant chooses.
    pub fn always_asks_red(&self, assistant: &str) -> bool {
        self.gate_of_the_company(assistant, "").ask_red
    }

    /// Whether the company keeps this tool's gate in its own hands.
    pub fn is_held(&self, tool: &str) -> bool {
        let held = &self.parts.gates.held;
        held.contains("*") || held.contains(tool) || held.contains(self.law.tools().name_of(tool))
    }

    /// The tools whose gate can be unlocked: those that assistants may use and that can reach other people.
    pub fn gated_tools(&self) -> impl Iterator<Item = &str> {
        let tools = self.law.tools();
        self.law.manifest().iter().map(String::as_str).filter(|name| tools.reaches(name))
    }

    /// What has to stand behind a change of the tenant's choices, or why nobody may make it.
    pub fn weigh(&self, assistant: &str, change: &Change) -> Result<Weighed, Refused> {
        match change {
            Change::Level { to } if *to > self.level_most() => Err(Refused::AboveMost),
            Change::Level { to } => {
                let now = self.gate(assistant, "").level;
                Ok(Weighed::of(*to > now, *to == Level::L3))
            }
            Change::AskRed { ask: true } => Ok(Weighed::AtOnce),
            Change::AskRed { ask: false } if self.always_asks_red(assistant) => Err(Refused::AlwaysAsks),
            Change::AskRed { ask: false } => Ok(Weighed::of(self.gate(assistant, "").ask_red, true)),
            Change::Gate { tool, .. } if !self.gated_tools().any(|known| known == tool) => Err(Refused::ToolUnknown),
            Change::Gate { open: false, .. } => Ok(Weighed::AtOnce),
            Change::Gate { tool, open: true } if self.is_held(tool) => Err(Refused::Held),
            Change::Gate { tool, open: true } => Ok(Weighed::of(!self.gate(assistant, tool).external_unlocked, true)),
        }
    }
}

fn fault_of(exception: &Exception, law: &Law, untouchable: &BTreeSet<&str>) -> Option<Fault> {
    let about = format!("exception for `{}`", exception.rule);
    let fault = |what: &str, fix: &str| Some(Fault::at("exceptions.toml", &about, what, fix));
    if untouchable.contains(exception.rule.as_str()) {
        return fault("this rule is compiled into the agents, and nothing lowers it", "remove the exception");
    }
    if law.class_of_known(&exception.rule).is_some_and(|class| class >= Class::Red) {
        return fault("this rule comes with the agents, and exceptions lower only its harmless neighbours", "remove the exception");
    }
    match law.class_of(&exception.rule) {
        None => fault("no rule of this bundle has this id", "write the id of a rule in rules/, or remove the exception"),
        Some(class) if exception.class >= class => {
            fault(&format!("it does not lower anything: the rule is {} already", class.name()), "remove the exception, or name a lower class")
        }
        Some(_) if exception.reason.trim().is_empty() => fault("it gives no reason", "say why, for whoever reads this in a year"),
        Some(_) => None,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::Level;
    use crate::host::{Manner, Reach};
    use serde_json::json;
    use std::sync::LazyLock;

    const RULES: &str = r#"
        [[rule]]
        id = "clean.deep"
        class = "red"
        commands = ["cleaner --deep"]
        reason = { de = "d", en = "e" }
        match = ["cleaner --deep x"]
        [[rule]]
        id = "post"
        class = "yellow"
        external = true
        commands = ["poster"]
        reason = { de = "d", en = "e" }
        match = ["poster x"]
        [[rule]]
        id = "root"
        class = "red"
        commands = ["rooter"]
        reason = { de = "d", en = "e" }
        match = ["rooter"]
    "#;
    const FLOOR: &str =
        "[[rule]]\nid = \"floor.root\"\nclass = \"critical_red\"\ncommands = [\"rooter\"]\nreason = { de = \"d\", en = \"e\" }\nmatch = [\"rooter\"]\n";

    pub(crate) static KNOWLEDGE: LazyLock<Arc<Knowledge>> = LazyLock::new(|| {
        let text = |name: &str, text: &str| Named { name: name.to_owned(), text: text.to_owned() };
        let texts = [
            text("registry.toml", include_str!("../rules/known/registry.toml")),
            text("paths.toml", include_str!("../rules/known/paths.toml")),
            text("http.toml", include_str!("../rules/known/http.toml")),
            text("engine.toml", include_str!("../rules/known/engine.toml")),
        ];
        Knowledge::read(&texts).unwrap_or_else(|faults| panic!("{faults:#?}"))
    });

    fn named(name: &str, text: &str) -> Vec<Named> {
        vec![Named { name: name.to_owned(), text: text.to_owned() }]
    }

    fn content() -> Content {
        let exception = |rule: &str, class, expires_ms, tenants: &[&str]| Exception {
            rule: rule.to_owned(),
            class,
            expires_ms,
            reason: "because".to_owned(),
            tenants: tenants.iter().map(|tenant| (*tenant).to_owned()).collect(),
        };
        Content {
            rules: named("rules/a.toml", RULES),
            gates: Gates { unlocked: ["message".to_owned()].into(), assistants: [("ast_locked".to_owned(), Default::default())].into(), ..Gates::default() },
            exceptions: vec![
                exception("clean.deep", Class::Yellow, 100, &[]),
                exception("root", Class::Green, 150, &["ten_a"]),
                exception("post", Class::Green, 150, &["ten_b"]),
            ],
            hosts: vec![Allowed::new("api.example.org", Reach::Read, Manner::Inspect).unwrap()],
            ..Content::default()
        }
    }

    fn law(content: &Content, own: &[Named]) -> Result<Regime, Vec<Fault>> {
        let floor = RuleBook::read(&named("floor.toml", FLOOR)).unwrap();
        Regime::new(content, "ten_a", Beside { knowledge: &KNOWLEDGE, floor: floor.clone(), own }, 200, 0, false)
    }

    fn class(law: &Regime, command: &str) -> (Class, String) {
        let found = law.classify(&Call { assistant: "ast_1", tool: "exec", arguments: &json!({ "command": command }), workspace: "/w", resolved: &[] });
        (found.class, found.rule)
    }

    #[test]
    fn exceptions_lower_one_rule_for_a_time_and_never_the_floor() {
        let law = law(&content(), &[]).unwrap();
        for (now_ms, expected, until_ms, unlocked) in [
            (0, Class::Yellow, 100, true),
            (99, Class::Yellow, 100, true),
            (100, Class::Red, 150, true),
            (150, Class::Red, 200, true),
            (200, Class::Red, i64::MAX, false),
        ] {
            let law = law.at(now_ms);
            assert_eq!(class(&law, "cleaner --deep x").0, expected, "{now_ms}");
            assert_eq!((law.until_ms(), law.gate("ast_1", "message").external_unlocked), (until_ms, unlocked), "{now_ms}");
            assert_eq!(law.hosts().is_empty(), !unlocked, "{now_ms}");
            assert_eq!(class(&law, "rooter"), (Class::CriticalRed, "floor.root".to_owned()), "{now_ms}");
            assert_eq!(class(&law, "poster x").0, Class::Yellow, "another tenant's exception");
            assert!(!law.gate("ast_locked", "message").external_unlocked && !law.gate("ast_1", "read").external_unlocked);
        }
        assert!(law.at(200).is_expired() && !law.at(199).is_expired());
    }

    #[test]
    fn a_tenants_own_rules_only_raise() {
        let own = |class: &str| {
            let text = format!(
                "[[rule]]\nid = \"own\"\nclass = \"{class}\"\ncommands = [\"cleaner\"]\nreason = {{ de = \"d\", en = \"e\" }}\nmatch = [\"cleaner\"]\n"
            );
            law(&content(), &named("own.toml", &text)).unwrap().at(120)
        };
        for (class_name, plain, deep) in
            [("green", Class::Yellow, Class::Red), ("yellow", Class::Yellow, Class::Red), ("critical_red", Class::CriticalRed, Class::CriticalRed)]
        {
            let law = own(class_name);
            assert_eq!(class(&law, "cleaner x").0, plain, "{class_name}");
            assert_eq!(class(&law, "cleaner --deep x").0, deep, "{class_name}");
        }
    }

    #[test]
    fn a_tenants_rule_with_the_id_of_an_exception_is_not_lowered_and_refuses_no_bundle() {
        let text = "[[rule]]\nid = \"clean.deep\"\nclass = \"red\"\ncommands = [\"cleaner\"]\nreason = { de = \"d\", en = \"e\" }\nmatch = [\"cleaner\"]\n";
        let law = law(&content(), &named("own.toml", text)).unwrap();
        assert_eq!(class(&law, "cleaner x"), (Class::Red, "clean.deep".to_owned()));
    }

    #[test]
    fn levels_and_gates_are_an_assistants_own_where_it_has_some() {
        let mut content = content();
        content.levels = serde_json::from_value(json!({ "default": "L3", "ask_red": true, "assistants": { "ast_x": { "level": "L1" } } })).unwrap();
        let law = law(&content, &[]).unwrap();
        let gate = |assistant| law.gate(assistant, "message");
        assert_eq!((gate("ast_1").level, gate("ast_1").ask_red), (Level::L3, true));
        assert_eq!((gate("ast_x").level, gate("ast_x").ask_red), (Level::L1, false));
        assert_eq!(law.at(200).gate("ast_1", "message").level, Level::L3, "levels outlive the bundle");
    }

    #[test]
    fn exceptions_that_cannot_be_meant_are_refused() {
        for (rule, class, reason, expected) in [
            ("nowhere", Class::Green, "r", "no rule of this bundle"),
            ("floor.root", Class::Green, "r", "compiled into the agents"),
            ("clean.deep", Class::Red, "r", "does not lower anything"),
            ("clean.deep", Class::Yellow, " ", "gives no reason"),
        ] {
            let mut content = content();
            content.exceptions = vec![Exception { rule: rule.into(), class, expires_ms: 1, reason: reason.into(), tenants: Default::default() }];
            let faults = law(&content, &[]).unwrap_err();
            assert!(faults[0].to_string().contains(expected), "{}", faults[0]);
        }
    }

    #[test]
    fn what_was_proven_once_is_not_run_again() {
        let mut content = content();
        content.rules[0].text = RULES.replace("poster x", "nobody");
        assert!(law(&content, &[]).is_err());
        let floor = RuleBook::default();
        assert!(Regime::new(&content, "ten_a", Beside { knowledge: &KNOWLEDGE, floor: floor.clone(), own: &[] }, 200, 0, true).is_ok());
    }
}
