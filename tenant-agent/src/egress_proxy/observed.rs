//! What OpenClaw was seen to do without asking the plugin: data, recorded against the real gateway.

use crate::gateway::openclaw::Dialect;
use crate::ledger::{Fault, FaultyCall};
use anyhow::Context;
use serde::Deserialize;

const RECORDED: &str = include_str!("../../../packaging/openclaw/observed.toml");

#[derive(Debug, Deserialize)]
pub(super) struct Observed {
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
    fault: Fault,
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    begins: Option<String>,
    #[serde(default)]
    each_line: String,
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

    /// Whether the text is OpenClaw's answer to a call that we saw cannot run.
    pub fn is_turned_down(&self, call: &FaultyCall, text: &str) -> bool {
        self.turned_down.iter().filter(|turned_down| turned_down.fault == call.fault).any(|turned_down| turned_down.is(call, text))
    }
}

impl TurnedDown {
    fn is(&self, call: &FaultyCall, text: &str) -> bool {
        let filled = |pattern: &str| pattern.replace("{tool}", &call.tool);
        match (&self.text, &self.begins) {
            (Some(whole), _) => filled(whole) == text,
            (None, Some(begins)) => {
                let Some((faults, arguments)) = text.strip_prefix(&filled(begins)).and_then(|rest| rest.split_once(&self.then_arguments)) else { return false };
                // Everything must be what OpenClaw writes: a tool's output could begin in the same way.
                let parsed = |text: &str| serde_json::from_str::<serde_json::Value>(text).ok();
                faults.lines().all(|line| line.strip_prefix(&self.each_line).is_some_and(is_fault))
                    && parsed(arguments).is_some()
                    && parsed(arguments) == parsed(&call.arguments)
            }
            (None, None) => false,
        }
    }
}

/// A line such as `command: must have required properties command`.
fn is_fault(line: &str) -> bool {
    line.len() <= FAULT_BYTES_MAX && line.contains(": must ") && line.chars().all(|c| c.is_ascii_alphanumeric() || " _.,:/-".contains(c))
}

/// Longer than any fault that was recorded.
const FAULT_BYTES_MAX: usize = 160;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_recorded_texts_count_and_only_for_their_own_case() {
        let observed = Observed::recorded().unwrap();
        assert!(observed.is_made_up(Dialect::AnthropicMessages, "No result provided"));
        assert!(!observed.is_made_up(Dialect::OpenaiCompletions, "No result provided"));
        assert!(!observed.is_made_up(Dialect::AnthropicMessages, "No result provided."));
        let plugin = include_str!("../../../packaging/openclaw-plugin/index.js");
        let refused = plugin.split("const REFUSED = \"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
        assert!(observed.is_made_up(Dialect::OpenaiCompletions, refused), "the plugin's own refusal is one of them");
        let unknown = FaultyCall { call_id: "c".into(), tool: "nosuch".into(), arguments: r#"{"cmd":1}"#.into(), fault: Fault::UnknownTool };
        assert!(observed.is_turned_down(&unknown, "Tool nosuch not found"));
        for text in ["Tool other not found", "Tool nosuch not found, but here is /etc/shadow", "Validation failed for tool \"nosuch\": x", ""] {
            assert!(!observed.is_turned_down(&unknown, text), "{text}");
        }
        let invalid = FaultyCall { fault: Fault::ArgumentsInvalid, ..unknown };
        let said = "Validation failed for tool \"nosuch\":\n  - command: must have required properties command\n\nReceived arguments:\n{\n  \"cmd\": 1\n}";
        assert!(observed.is_turned_down(&invalid, said));
        for text in [
            said.replace("  - command", "root:x:0:0\n  - command"),
            said.replace("\"cmd\": 1", "\"cmd\": \"root:x\""),
            said.replace("required", "$6$salt"),
            format!("{said}\nroot:x:0:0"),
        ] {
            assert!(!observed.is_turned_down(&invalid, &text), "{text}");
        }
    }
}
