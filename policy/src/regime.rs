//! What a bundle comes to for one tenant at one moment: its rules, exceptions, levels and gates, with what is compiled in.
//!
//! ```text
//! class of a call = the highest of   the bundle's rules, as its exceptions lower them until they expire
//!                                    the floor, compiled in: nothing lowers it
//!                                    the tenant's own rules: they only raise
//! ```
//!
//! When a bundle has expired, its rules and levels go on; its exceptions and unlocked gates lapse.

use crate::bundle::{Content, Exception, Fault, Gates, Levels, Named, rule_faults};
use crate::rules::{Rule, Rules, RulesError};
use crate::{Call, Class, Finding, Gate};
use serde::Deserialize;
use std::sync::Arc;

/// The law in force. Cheap to ask; [`Regime::at`] makes the one for another moment.
#[derive(Clone, Debug)]
pub struct Regime {
    parts: Arc<Parts>,
    /// The rules, lowered by the exceptions that hold now.
    rules: Arc<Rules>,
    is_expired: bool,
    until_ms: i64,
}

/// What stays the same as time passes.
#[derive(Debug)]
struct Parts {
    rules: Arc<Rules>,
    floor: Rules,
    own: Option<Rules>,
    levels: Levels,
    gates: Gates,
    exceptions: Vec<Exception>,
    expires_ms: i64,
}

/// Rules that are compiled in, or that a tenant wrote.
#[derive(Clone, Copy, Debug, Default)]
pub struct Beside<'a> {
    pub floor: &'a [Named],
    /// They may only raise a class.
    pub own: &'a [Named],
}

impl Regime {
    /// What this content says for a tenant until `expires_ms`. With `proven`, the examples are taken for good: they were run
    /// when these very bytes first came.
    pub fn new(content: &Content, tenant: &str, beside: Beside<'_>, expires_ms: i64, now_ms: i64, proven: bool) -> Result<Regime, Vec<Fault>> {
        let rules = Arc::new(read(content, proven)?);
        let floor = read_beside(&rules, beside.floor, false)?;
        let own = if beside.own.is_empty() { None } else { Some(read_beside(&rules, beside.own, false)?) };
        let faults: Vec<Fault> = content.exceptions.iter().filter_map(|exception| fault_of(exception, &rules, &floor)).collect();
        if !faults.is_empty() {
            return Err(faults);
        }
        let applies = |exception: &&Exception| exception.tenants.is_empty() || exception.tenants.contains(tenant);
        let parts = Parts {
            floor,
            own,
            levels: content.levels.clone(),
            gates: content.gates.clone(),
            exceptions: content.exceptions.iter().filter(applies).cloned().collect(),
            expires_ms,
            rules: rules.clone(),
        };
        Ok(Regime { parts: Arc::new(parts), rules, is_expired: false, until_ms: 0 }.at(now_ms))
    }

    /// What is wrong with a tenant's own rules under this law, their examples included.
    pub fn own_faults(&self, own: &[Named]) -> Vec<Fault> {
        read_beside(&self.rules, own, true).err().unwrap_or_default()
    }

    /// The same law at another moment.
    #[must_use]
    pub fn at(&self, now_ms: i64) -> Regime {
        let Parts { exceptions, expires_ms, .. } = &*self.parts;
        let is_expired = *expires_ms <= now_ms;
        let holding: Vec<&Exception> = exceptions.iter().filter(|exception| !is_expired && exception.expires_ms > now_ms).collect();
        let until_ms = holding.iter().map(|exception| exception.expires_ms).chain((!is_expired).then_some(*expires_ms)).min();
        Regime { parts: self.parts.clone(), rules: lowered(&self.parts.rules, &holding), is_expired, until_ms: until_ms.unwrap_or(i64::MAX) }
    }

    /// Until when this is how it is: then an exception or the bundle expires.
    pub fn until_ms(&self) -> i64 {
        self.until_ms
    }

    pub fn is_expired(&self) -> bool {
        self.is_expired
    }

    /// The rules by themselves: what tools there are and how their arguments are read.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    pub fn manifest(&self, tool: &str) -> bool {
        self.rules.manifest(tool)
    }

    pub fn classify(&self, call: &Call<'_>) -> Finding {
        let own = self.parts.own.iter();
        let above = own.chain([&self.parts.floor]).filter_map(|rules| matching(rules, call));
        above.fold(self.rules.classify(call), higher)
    }

    /// What is set for an assistant and a tool.
    pub fn gate(&self, assistant: &str, tool: &str) -> Gate {
        let Parts { levels, gates, .. } = &*self.parts;
        let own = levels.assistants.get(assistant);
        let unlocked = gates.assistants.get(assistant).unwrap_or(&gates.unlocked);
        Gate {
            level: own.map_or(levels.default, |own| own.level),
            external_unlocked: !self.is_expired && unlocked.contains(tool),
            ask_red: own.map_or(levels.ask_red, |own| own.ask_red),
        }
    }
}

/// The more dangerous of two findings decides, and what either of them warns of is kept.
fn higher(one: Finding, other: Finding) -> Finding {
    let (external, unknown) = (one.external || other.external, one.unknown || other.unknown);
    // Only a finding that is Red has a say in what may run at level 3.
    let runs_at_level_3 = [&one, &other].iter().filter(|finding| finding.class >= Class::Red).all(|finding| finding.runs_at_level_3);
    let worst = if other.class > one.class { other } else { one };
    Finding { external, unknown, runs_at_level_3, ..worst }
}

fn fault_of(exception: &Exception, rules: &Rules, floor: &Rules) -> Option<Fault> {
    let about = format!("exception for `{}`", exception.rule);
    let fault = |what: &str, fix: &str| Some(Fault::at("exceptions.toml", &about, what, fix));
    if class_of(floor, &exception.rule).is_some() {
        return fault("this rule is compiled into the agents, and nothing lowers it", "remove the exception");
    }
    match class_of(rules, &exception.rule) {
        None => fault("no rule of this bundle has this id", "write the id of a rule in rules/, or remove the exception"),
        Some(class) if exception.class >= class => {
            fault(&format!("it does not lower anything: the rule is {} already", class.name()), "remove the exception, or name a lower class")
        }
        Some(_) if exception.reason.trim().is_empty() => fault("it gives no reason", "say why, for whoever reads this in a year"),
        Some(_) => None,
    }
}

// How rule texts become rules: the only place that knows their form.

/// The rules of a bundle. The registry of tools comes first, so that rules may speak about them.
fn read(content: &Content, proven: bool) -> Result<Rules, Vec<Fault>> {
    let files: Vec<&Named> = content.tools.iter().chain(&content.rules).collect();
    let text = joined(&files);
    let rules = if proven { Rules::read(&text) } else { Rules::parse(&text) };
    rules.map_err(|error| faults_of(&files, &error))
}

/// Rules alone, which speak about the tools that `rules` describes. What they say about other tools is passed over: those
/// are refused before anybody asks. Unless `strictly`: then that and examples that fail are faults.
fn read_beside(rules: &Rules, files: &[Named], strictly: bool) -> Result<Rules, Vec<Fault>> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Alone {
        #[serde(default)]
        rule: Vec<Rule>,
    }
    let files: Vec<&Named> = files.iter().collect();
    let Alone { rule } = toml::from_str(&joined(&files)).map_err(|error| faults_of(&files, &error.into()))?;
    let alone = rules.with(rule);
    if strictly { alone.proven().map_err(|error| faults_of(&files, &error)) } else { Ok(alone) }
}

/// What is wrong with these files: their form, each by itself, and what the reader of rules says of them together.
fn faults_of(files: &[&Named], error: &RulesError) -> Vec<Fault> {
    let mut faults: Vec<Fault> = files.iter().flat_map(|named| rule_faults(named)).collect();
    let together = crate::bundle::rules_error(files, error);
    let known = |fault: &Fault| faults.iter().any(|other| other.file == fault.file && (other.about == fault.about || other.line == fault.line));
    let more: Vec<Fault> = together.into_iter().filter(|fault| !known(fault)).collect();
    faults.extend(more);
    faults
}

/// One text, with the lines of the files in their order.
fn joined(files: &[&Named]) -> String {
    files.iter().fold(String::new(), |mut text, named| {
        text.push_str(named.text.trim_end_matches('\n'));
        text.push('\n');
        text
    })
}

/// What the rules that match say; `None` when none does.
fn matching(rules: &Rules, call: &Call<'_>) -> Option<Finding> {
    rules.rules.iter().any(|rule| crate::classify::matches(rules, rule, call)).then(|| rules.classify(call)).map(|finding| {
        // The arguments may be unreadable to the rules as a whole; what matches counts all the same.
        if finding.rule.starts_with("unknown.") { worst_of(rules, call).unwrap_or(finding) } else { finding }
    })
}

fn worst_of(rules: &Rules, call: &Call<'_>) -> Option<Finding> {
    let matching = rules.rules.iter().filter(|rule| crate::classify::matches(rules, rule, call));
    let worst = matching.max_by_key(|rule| rule.class)?;
    Some(Finding { class: worst.class, external: worst.external, unknown: true, runs_at_level_3: false, rule: worst.id.clone(), reason: worst.reason.clone() })
}

fn class_of(rules: &Rules, id: &str) -> Option<Class> {
    rules.rules.iter().find(|rule| rule.id == id).map(|rule| rule.class)
}

fn lowered(rules: &Arc<Rules>, exceptions: &[&Exception]) -> Arc<Rules> {
    if exceptions.is_empty() {
        return rules.clone();
    }
    let mut lowered = Rules::clone(rules);
    for rule in &mut lowered.rules {
        for exception in exceptions.iter().filter(|exception| exception.rule == rule.id) {
            rule.class = rule.class.min(exception.class);
        }
    }
    Arc::new(lowered)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Level;
    use serde_json::json;

    const TOOLS: &str = "[unknown]\nde = \"u\"\nen = \"u\"\n[tool.read]\npaths = [\"path\"]\n[tool.send]\narguments = [\"to\"]\n[tool.root]\n";
    const RULES: &str = r#"
        [[rule]]
        id = "read.outside"
        tools = ["read"]
        when = { paths = "outside" }
        class = "red"
        reason = { de = "d", en = "e" }
        match = [{ tool = "read", arguments = { path = "/etc/x" } }]
        [[rule]]
        id = "read.inside"
        tools = ["read"]
        when = { paths = "inside" }
        class = "green"
        reason = { de = "d", en = "e" }
        match = [{ tool = "read", arguments = { path = "x" } }]
        [[rule]]
        id = "send"
        tools = ["send"]
        class = "yellow"
        external = true
        reason = { de = "d", en = "e" }
        match = [{ tool = "send", arguments = { to = "x" } }]
        [[rule]]
        id = "root"
        tools = ["root"]
        class = "red"
        reason = { de = "d", en = "e" }
        match = [{ tool = "root" }]
    "#;
    const FLOOR: &str =
        "[[rule]]\nid = \"floor.root\"\ntools = [\"root\"]\nclass = \"critical_red\"\nreason = { de = \"d\", en = \"e\" }\nmatch = [{ tool = \"root\" }]\n";

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
            tools: named("tools/a.toml", TOOLS),
            gates: Gates { unlocked: ["send".to_owned()].into(), assistants: [("ast_locked".to_owned(), Default::default())].into() },
            exceptions: vec![
                exception("read.outside", Class::Yellow, 100, &[]),
                exception("root", Class::Green, 150, &["ten_a"]),
                exception("send", Class::Green, 150, &["ten_b"]),
            ],
            ..Content::default()
        }
    }

    fn law(content: &Content, own: &[Named]) -> Result<Regime, Vec<Fault>> {
        let floor = named("floor.toml", FLOOR);
        Regime::new(content, "ten_a", Beside { floor: &floor, own }, 200, 0, false)
    }

    fn class(law: &Regime, tool: &str, arguments: serde_json::Value) -> (Class, String) {
        let found = law.classify(&Call { assistant: "ast_1", tool, arguments: &arguments, workspace: "/w", resolved: &[] });
        (found.class, found.rule)
    }

    #[test]
    fn exceptions_lower_one_rule_for_a_time_and_never_the_floor() {
        let law = law(&content(), &[]).unwrap();
        let outside = json!({ "path": "/etc/x" });
        for (now_ms, expected, until_ms, unlocked) in [
            (0, Class::Yellow, 100, true),
            (99, Class::Yellow, 100, true),
            (100, Class::Red, 150, true),
            (150, Class::Red, 200, true),
            (200, Class::Red, i64::MAX, false),
        ] {
            let law = law.at(now_ms);
            assert_eq!(class(&law, "read", outside.clone()).0, expected, "{now_ms}");
            assert_eq!((law.until_ms(), law.gate("ast_1", "send").external_unlocked), (until_ms, unlocked), "{now_ms}");
            assert_eq!(class(&law, "root", json!({})), (Class::CriticalRed, "floor.root".to_owned()), "{now_ms}");
            assert_eq!(class(&law, "send", json!({ "to": "x" })).0, Class::Yellow, "another tenant's exception");
            assert!(!law.gate("ast_locked", "send").external_unlocked && !law.gate("ast_1", "read").external_unlocked);
        }
        assert!(law.at(200).is_expired() && !law.at(199).is_expired());
    }

    #[test]
    fn the_floor_holds_for_arguments_that_nobody_described() {
        let law = law(&content(), &[]).unwrap();
        let call_arguments = json!({ "odd": 1 });
        let found = law.classify(&Call { assistant: "a", tool: "root", arguments: &call_arguments, workspace: "/w", resolved: &[] });
        assert_eq!((found.class, found.unknown), (Class::CriticalRed, true));
    }

    #[test]
    fn a_tenants_own_rules_only_raise() {
        let own = |class: &str| {
            let text = format!(
                "[[rule]]\nid = \"own\"\ntools = [\"read\"]\nclass = \"{class}\"\nreason = {{ de = \"d\", en = \"e\" }}\nmatch = [{{ tool = \"read\", arguments = {{ path = \"x\" }} }}]\n"
            );
            law(&content(), &named("own.toml", &text)).unwrap().at(120)
        };
        for (class_name, inside, outside) in
            [("green", Class::Green, Class::Red), ("yellow", Class::Yellow, Class::Red), ("critical_red", Class::CriticalRed, Class::CriticalRed)]
        {
            let law = own(class_name);
            assert_eq!(class(&law, "read", json!({ "path": "x" })).0, inside, "{class_name}");
            assert_eq!(class(&law, "read", json!({ "path": "/etc/x" })).0, outside, "{class_name}");
        }
    }

    #[test]
    fn levels_and_gates_are_an_assistants_own_where_it_has_some() {
        let mut content = content();
        content.levels = serde_json::from_value(json!({ "default": "L3", "ask_red": true, "assistants": { "ast_x": { "level": "L1" } } })).unwrap();
        let law = law(&content, &[]).unwrap();
        let gate = |assistant| law.gate(assistant, "send");
        assert_eq!((gate("ast_1").level, gate("ast_1").ask_red), (Level::L3, true));
        assert_eq!((gate("ast_x").level, gate("ast_x").ask_red), (Level::L1, false));
        assert_eq!(law.at(200).gate("ast_1", "send").level, Level::L3, "levels outlive the bundle");
    }

    #[test]
    fn exceptions_that_cannot_be_meant_are_refused() {
        for (rule, class, reason, expected) in [
            ("nowhere", Class::Green, "r", "no rule of this bundle"),
            ("floor.root", Class::Green, "r", "compiled into the agents"),
            ("read.outside", Class::Red, "r", "does not lower anything"),
            ("read.outside", Class::Yellow, " ", "gives no reason"),
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
        content.rules[0].text = RULES.replace("path = \"x\"", "path = \"/elsewhere\"");
        assert!(law(&content, &[]).is_err());
        let floor = named("floor.toml", FLOOR);
        assert!(Regime::new(&content, "ten_a", Beside { floor: &floor, own: &[] }, 200, 0, true).is_ok());
    }
}
