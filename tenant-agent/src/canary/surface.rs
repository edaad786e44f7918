//! The surfaces on which OpenClaw runs a tool, and the call that tries each. Data.
//!
//! Every call is harmless should nobody stop it: it looks, or fails, or meets a second refusal on its way.

use serde_json::{Value, json};

/// Where a canary is sent in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A call that the model of a conversation proposes.
    Talk,
    /// The same, and it is let through.
    Spawning,
    /// A call that the model of a sub-assistant proposes.
    Child,
    /// A command of a skill, which OpenClaw takes to a tool without any model.
    Command,
    /// A call over the control connection.
    Control,
}

impl Place {
    /// Whether the id of such a call is OpenClaw's own.
    pub fn is_named_by_openclaw(self) -> bool {
        matches!(self, Place::Command | Place::Control)
    }
}

pub struct Line {
    pub surface: &'static str,
    pub place: Place,
    /// By which names OpenClaw may have the tool; with none of them in a request the first is proposed all the same.
    pub tools: &'static [&'static str],
    arguments: &'static str,
}

/// In the arguments of [`PROBES`]: what the sub-assistant is told.
const TASK: &str = "@TASK@";

impl Line {
    pub fn arguments(&self, task: &str) -> Value {
        serde_json::from_str(&self.arguments.replace(TASK, task)).unwrap_or_else(|_| json!({}))
    }
}

const fn line(surface: &'static str, place: Place, tools: &'static [&'static str], arguments: &'static str) -> Line {
    Line { surface, place, tools, arguments }
}

pub const PROBES: &[Line] = &[
    line("exec", Place::Talk, &["gatehouse__exec", "exec"], r#"{"command":"true"}"#),
    line("mcp", Place::Talk, &["gatehouse__secret_names"], "{}"),
    line("message", Place::Talk, &["message"], r#"{"action":"send","target":"gatehouse-canary","message":"canary"}"#),
    line("web_fetch", Place::Talk, &["web_fetch"], r#"{"url":"https://gatehouse-canary.invalid/"}"#),
    line("file_read", Place::Talk, &["read", "gatehouse__read_file"], r#"{"path":"gatehouse-canary"}"#),
    line("file_write", Place::Talk, &["gatehouse__write_file", "write"], r#"{"path":"gatehouse-canary","content":""}"#),
    line("cron", Place::Talk, &["automations", "cron"], r#"{"action":"status"}"#),
    line("browser", Place::Talk, &["browser"], r#"{"action":"status"}"#),
    line("nodes", Place::Talk, &["nodes"], r#"{"action":"status"}"#),
    line("plugin_tool", Place::Talk, &[super::PLUGIN_TOOL], "{}"),
    line("subagent_spawn", Place::Talk, &["sessions_spawn"], r#"{"task":"canary"}"#),
    line("subagent_tool", Place::Spawning, &["sessions_spawn"], r#"{"task":"@TASK@","cleanup":"delete","expectsCompletionMessage":false}"#),
    line("subagent_tool", Place::Child, &["read", "gatehouse__exec"], r#"{"path":"gatehouse-canary"}"#),
    line("skill", Place::Command, &[super::PLUGIN_TOOL], "{}"),
    line("control", Place::Control, &[super::PLUGIN_TOOL], "{}"),
];
