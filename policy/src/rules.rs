//! The rules as data: one TOML text, checked as a whole when it is read.
//!
//! A rule names tools and a condition, and says the class, whether the call reaches other people, and one sentence in
//! German and English that a tenant sees. Each rule carries examples that must and must not match it; a text whose
//! examples fail is refused, so a rule cannot rot unnoticed.

use crate::class::Class;
use crate::classify::Finding;
use crate::{Call, classify};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use thiserror::Error;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sentence {
    pub de: String,
    pub en: String,
}

#[derive(Clone, Debug)]
pub struct Rules {
    pub(crate) tools: BTreeMap<String, Tool>,
    pub(crate) rules: Vec<Rule>,
    pub(crate) unknown: Sentence,
}

/// What the classifier has to know of a tool before it can read a call of it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tool {
    /// Arguments that hold a path.
    #[serde(default)]
    pub paths: Vec<String>,
    /// Arguments that only change how the call looks or how long it is waited for; they are not part of its digest.
    #[serde(default)]
    pub presentation: Vec<String>,
    /// The tool takes a path as it is written. Others look for a file of a similar name when there is none of this one.
    #[serde(default)]
    pub literal: bool,
    /// Every other argument that the tool is known to take. A call with one that is not named is unreadable.
    #[serde(default)]
    pub arguments: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rule {
    pub id: String,
    pub tools: Vec<String>,
    #[serde(default)]
    pub when: When,
    pub class: Class,
    #[serde(default)]
    pub external: bool,
    /// The call cannot be read well enough to say more than the class.
    #[serde(default)]
    pub unknown: bool,
    /// Red that may run at level 3, with a notice.
    #[serde(default)]
    pub runs_at_level_3: bool,
    pub reason: Sentence,
    #[serde(rename = "match")]
    pub matching: Vec<Example>,
    #[serde(default)]
    pub not_match: Vec<Example>,
}

/// Every condition that is named must hold.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct When {
    /// All path arguments lie in the workspace (`inside`), or at least one does not (`outside`).
    #[serde(default)]
    pub paths: Option<Where>,
    /// A path argument has one of these parts: a folder or file name, `*` allowed at either end.
    #[serde(default)]
    pub path_parts: Vec<String>,
    /// Each named argument has one of these values.
    #[serde(default)]
    pub arguments: BTreeMap<String, Vec<Value>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Where {
    Inside,
    Outside,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Example {
    pub tool: String,
    #[serde(default)]
    pub arguments: Value,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    unknown: Sentence,
    tool: BTreeMap<String, Tool>,
    rule: Vec<Rule>,
}

#[derive(Debug, Error)]
pub enum RulesError {
    #[error("the rules are not readable: {0}")]
    Unreadable(#[from] toml::de::Error),
    #[error("the rules contradict themselves:\n{}", .0.join("\n"))]
    Wrong(Vec<String>),
}

/// The workspace that examples are written for.
pub(crate) const EXAMPLE_WORKSPACE: &str = "/workspace";

impl Rules {
    /// Reads and checks the whole text; every fault is named at once.
    pub fn parse(text: &str) -> Result<Rules, RulesError> {
        Rules::read(text)?.proven()
    }

    /// Reads a text whose examples were found to hold before.
    pub(crate) fn read(text: &str) -> Result<Rules, RulesError> {
        let Text { unknown, tool, rule } = toml::from_str(text)?;
        Ok(Rules { tools: tool, rules: rule, unknown })
    }

    /// Other rules about the same tools.
    pub(crate) fn with(&self, rules: Vec<Rule>) -> Rules {
        Rules { tools: self.tools.clone(), rules, unknown: self.unknown.clone() }
    }

    pub(crate) fn proven(self) -> Result<Rules, RulesError> {
        let faults = self.faults();
        if faults.is_empty() { Ok(self) } else { Err(RulesError::Wrong(faults)) }
    }

    /// Whether an assistant may use the tool at all. Tools that are not named are refused before anything looks at the call.
    pub fn manifest(&self, tool: &str) -> bool {
        self.tools.contains_key(tool)
    }

    pub fn tools(&self) -> impl Iterator<Item = &str> {
        self.tools.keys().map(String::as_str)
    }

    pub fn classify(&self, call: &Call<'_>) -> Finding {
        classify::classify(self, call)
    }

    /// The arguments of `tool` that hold a path, for the caller to resolve.
    pub fn path_arguments(&self, tool: &str) -> &[String] {
        self.tools.get(tool).map_or(&[], |tool| &tool.paths)
    }

    /// Whether `tool` opens exactly the file that is named, even when there is none.
    pub fn takes_paths_literally(&self, tool: &str) -> bool {
        self.tools.get(tool).is_some_and(|tool| tool.literal)
    }

    /// The arguments of `tool` that are no part of the digest.
    pub fn presentation(&self, tool: &str) -> &[String] {
        self.tools.get(tool).map_or(&[], |tool| &tool.presentation)
    }

    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut seen = std::collections::BTreeSet::new();
        for rule in &self.rules {
            if !seen.insert(&rule.id) {
                faults.push(format!("rule `{}` is written twice", rule.id));
            }
            if rule.matching.is_empty() {
                faults.push(format!("rule `{}` has no example that matches it", rule.id));
            }
            for tool in rule.tools.iter().filter(|tool| !self.tools.contains_key(*tool)) {
                faults.push(format!("rule `{}` names the tool `{tool}`, which is not described", rule.id));
            }
            for (example, expected) in rule.matching.iter().map(|e| (e, true)).chain(rule.not_match.iter().map(|e| (e, false))) {
                let arguments = if example.arguments.is_null() { Value::Object(Default::default()) } else { example.arguments.clone() };
                let call = Call { assistant: "example", tool: &example.tool, arguments: &arguments, workspace: EXAMPLE_WORKSPACE, resolved: &[] };
                if classify::matches(self, rule, &call) != expected {
                    let wording = if expected { "does not match its example" } else { "matches what it must not" };
                    faults.push(format!("rule `{}` {wording}: {} {arguments}", rule.id, example.tool));
                }
            }
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    const SHIPPED: &str = include_str!("../rules/tools.toml");

    fn check(tool: &str, arguments: Value, resolved: &[(String, Option<String>)]) -> (Class, bool, bool, String) {
        let rules = Rules::parse(SHIPPED).unwrap();
        let call = Call { assistant: "ast_1", tool, arguments: &arguments, workspace: "/w", resolved };
        let found = rules.classify(&call);
        (found.class, found.external, found.unknown, found.rule)
    }

    fn resolved(path: Option<&str>) -> Vec<(String, Option<String>)> {
        vec![("path".to_owned(), path.map(str::to_owned))]
    }

    #[test]
    fn calls_have_the_class_that_they_deserve() {
        use Class::*;
        for (tool, arguments, class, external, unknown, rule) in [
            ("read", json!({"path": "notes.md"}), Green, false, false, "file.read"),
            ("read", json!({"path": "/w/sub/../notes.md"}), Green, false, false, "file.read"),
            ("read", json!({"path": "/w-other/notes.md"}), Red, false, false, "file.read.outside"),
            ("read", json!({"path": "~/notes.md"}), Red, false, true, "unknown.path"),
            ("read", json!({"path": "file:///etc/passwd"}), Red, false, true, "unknown.path"),
            ("write", json!({"path": "@AGENTS.md", "content": "x"}), Red, false, true, "unknown.path"),
            ("write", json!({"path": "IDENTITY.md", "content": "x"}), Red, false, false, "file.write.control"),
            ("sessions_spawn", json!({"task": "x", "runtime": "acp"}), Red, false, true, "session.spawn.other"),
            ("read", json!({"path": ["notes.md"]}), Red, false, true, "unknown.path"),
            ("read", json!({"path": "notes.md", "as": "root"}), Red, false, true, "unknown.argument"),
            ("read", json!("notes.md"), Red, false, true, "unknown.arguments"),
            ("write", json!({"path": "notes.md", "content": "x"}), Yellow, false, false, "file.write"),
            ("write", json!({"path": "sub/.ENV", "content": "x"}), Red, false, false, "file.write.control"),
            ("exec", json!({"command": "ls"}), Red, false, true, "shell.command"),
            ("exec", json!({"command": "ls", "elevated": true}), CriticalRed, false, true, "shell.elevated"),
            ("process", json!({"action": "list"}), Green, false, false, "process.look"),
            ("process", json!({"action": "steal"}), Red, false, true, "unknown.call"),
            ("message", json!({"action": "send", "message": "hi"}), Yellow, true, true, "message.send"),
            ("gateway", json!({}), Red, false, true, "unknown.tool"),
        ] {
            let name = arguments.to_string();
            assert_eq!(check(tool, arguments, &[]), (class, external, unknown, rule.to_owned()), "{tool} {name}");
        }
    }

    #[test]
    fn a_link_is_judged_by_where_it_leads() {
        let arguments = json!({"path": "notes.md"});
        assert_eq!(check("read", arguments.clone(), &resolved(Some("/etc/shadow"))).0, Class::Red);
        assert_eq!(check("read", arguments.clone(), &resolved(None)).3, "unknown.path");
        assert_eq!(check("read", arguments, &resolved(Some("/w/real.md"))).0, Class::Green);
    }

    proptest! {
        /// No spelling of a path leads out of the workspace unasked.
        #[test]
        fn nothing_outside_is_green(parts in prop::collection::vec("(\\.\\.|\\.|[a-z~. ]{1,4}|)", 1..8), rooted in any::<bool>()) {
            let path = format!("{}{}", if rooted { "/" } else { "" }, parts.join("/"));
            let arguments = json!({ "path": path });
            let (class, ..) = check("read", arguments, &[]);
            let inside = crate::path::absolute(&path, "/w").is_some_and(|path| crate::path::is_within(&path, "/w"));
            prop_assert!(inside || class >= Class::Red, "{}", path);
        }

        #[test]
        fn any_call_is_classified(tool in "(read|write|exec|process|.{0,8})", key in "(path|command|action|.{0,8})", value in ".{0,40}") {
            check(&tool, json!({ key: value }), &[]);
        }
    }

    #[test]
    fn faults_are_named_all_at_once() {
        let text = SHIPPED.replace("id = \"file.write\"", "id = \"file.read\"").replace("path = \"notes.md\" } }, { tool = \"ls\" }", "path = \"/etc/x\" } }");
        let Err(RulesError::Wrong(faults)) = Rules::parse(&text) else { panic!("accepted") };
        assert!(faults.iter().any(|f| f.contains("written twice")) && faults.iter().any(|f| f.contains("does not match its example")), "{faults:?}");
        assert!(matches!(Rules::parse("unknown = 1"), Err(RulesError::Unreadable(_))));
    }
}
