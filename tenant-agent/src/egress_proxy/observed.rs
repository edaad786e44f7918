//! What OpenClaw was seen to do without asking the plugin: data, recorded against the real gateway.

use crate::gateway::openclaw::Dialect;
use crate::ledger::Proposal;
use anyhow::Context;
use serde::Deserialize;

const RECORDED: &str = include_str!("../../../packaging/openclaw/observed.toml");

#[derive(Debug, Deserialize)]
pub struct Observed {
    made_up: Vec<MadeUp>,
    turned_down: Vec<TurnedDown>,
}

#[derive(Debug, Deserialize)]
struct MadeUp {
    /// In every dialect when it is left out.
    #[serde(default)]
    dialect: Option<String>,
    text: String,
}

#[derive(Debug, Deserialize)]
struct TurnedDown {
    /// Whether the tool is one that the request offered.
    is_known: bool,
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    begins: Option<String>,
    #[serde(default)]
    each_line: String,
    #[serde(default)]
    faults: Vec<String>,
    #[serde(default)]
    then_arguments: String,
}

impl Observed {
    pub fn recorded() -> anyhow::Result<Observed> {
        toml::from_str(RECORDED).context("what was recorded of OpenClaw is not readable")
    }

    /// Whether the text is one that OpenClaw makes up when a result is missing.
    pub fn is_made_up(&self, dialect: Dialect, text: &str) -> bool {
        self.made_up.iter().any(|made_up| made_up.dialect.as_deref().is_none_or(|name| name == dialect.name()) && made_up.text == text)
    }

    /// Whether the text is what OpenClaw writes when it turns this call down by itself.
    pub fn is_turned_down(&self, call: &Proposal, text: &str) -> bool {
        self.turned_down.iter().filter(|turned_down| turned_down.is_known == call.is_known).any(|turned_down| turned_down.is(call, text))
    }
}

impl TurnedDown {
    fn is(&self, call: &Proposal, text: &str) -> bool {
        let filled = |pattern: &str| pattern.replace("{tool}", &call.tool);
        match (&self.text, &self.begins) {
            (Some(whole), _) => filled(whole) == text,
            (None, Some(begins)) => {
                let Some((faults, arguments)) = text.strip_prefix(&filled(begins)).and_then(|rest| rest.split_once(&self.then_arguments)) else { return false };
                // Everything must be what OpenClaw writes: a tool's output could begin in the same way.
                let same_arguments = call.words.hold(arguments);
                let faults: Vec<&str> = faults.lines().collect();
                same_arguments
                    && faults.len() <= FAULTS_MAX
                    && faults.iter().all(|line| line.strip_prefix(&self.each_line).is_some_and(|line| self.is_fault(line)))
            }
            (None, None) => false,
        }
    }

    /// A line such as `edits.0.oldText: must be string`.
    fn is_fault(&self, line: &str) -> bool {
        let Some((place, words)) = line.split_once(": ") else { return line == "Unknown validation error" };
        let plain_place = place.chars().all(|c| c.is_ascii_alphanumeric() || "_.-/[]$".contains(c));
        let plain_words = words.chars().all(|c| c.is_ascii_graphic() || c == ' ');
        line.len() <= FAULT_BYTES_MAX && plain_place && plain_words && self.faults.iter().any(|begin| words.starts_with(begin))
    }
}

/// Longer than any fault that was recorded, and too short to carry much else.
const FAULT_BYTES_MAX: usize = 120;
const FAULTS_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Words;

    #[test]
    fn only_the_recorded_texts_count_and_only_for_their_own_case() {
        let observed = Observed::recorded().unwrap();
        assert!(observed.is_made_up(Dialect::AnthropicMessages, "No result provided"));
        assert!(!observed.is_made_up(Dialect::OpenaiCompletions, "No result provided"));
        assert!(!observed.is_made_up(Dialect::AnthropicMessages, "No result provided."));
        let plugin = include_str!("../../../packaging/openclaw-plugin/index.js");
        let refused = plugin.split("const REFUSED = \"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
        assert!(observed.is_made_up(Dialect::OpenaiCompletions, refused), "the plugin's own refusal is one of them");
        let proposal = |tool: &str, is_known, arguments: &str| Proposal { call_id: "c".into(), tool: tool.into(), is_known, words: Words::of(arguments) };
        let unknown = proposal("nosuch", false, "{}");
        assert!(observed.is_turned_down(&unknown, "Tool nosuch not found"));
        for text in ["Tool other not found", "Tool nosuch not found, but here is /etc/shadow", "Validation failed for tool \"nosuch\": x", ""] {
            assert!(!observed.is_turned_down(&unknown, text), "{text}");
        }
        assert!(!observed.is_turned_down(&proposal("nosuch", true, "{}"), "Tool nosuch not found"), "a tool that is there");
        let invalid = proposal("exec", true, r#"{"cmd":1.0}"#);
        let said = |fault: &str| format!("Validation failed for tool \"exec\":\n  - {fault}\n\nReceived arguments:\n{{\n  \"cmd\": 1\n}}");
        for fault in [
            "command: must have required properties command",
            "command: must be string",
            "limit: must be >= 1",
            "edits.0.oldText: must be string",
            "runtime: must be equal to one of the allowed values",
            "name: must match pattern \"^x$\"",
        ] {
            assert!(observed.is_turned_down(&invalid, &said(fault)), "{fault}");
        }
        for fault in ["root:x:0:0", "a: root:x:0:0", "command: must be string\nroot:x:0:0", "pass word: must be string"] {
            assert!(!observed.is_turned_down(&invalid, &said(fault)), "{fault}");
        }
        let sound = said("command: must be string");
        for text in [sound.replace("1\n}", "\"root:x\"\n}"), format!("{sound}\nroot:x:0:0"), sound.replace("exec", "read")] {
            assert!(!observed.is_turned_down(&invalid, &text), "{text}");
        }
        assert!(!observed.is_turned_down(&proposal("exec", true, "{\"cut"), &sound), "arguments that nobody could read");
    }
}
