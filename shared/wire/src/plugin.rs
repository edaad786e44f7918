//! What the plugin inside OpenClaw says to the agent, and hears.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Of what the two say to each other; one greater with every change of it. The plugin shows it in [`VERSION_HEADER`], and one
/// of another version is not listened to.
pub const VERSION: &str = "2";
pub const VERSION_HEADER: &str = "x-gatehouse-version";

/// A run begins; model calls under its trace may pass.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Announce {
    pub agent_id: String,
    pub session_key: String,
    pub session_id: String,
    pub run_id: String,
    pub trace_id: String,
    /// Names one request; empty when the whole run is announced.
    #[serde(default)]
    pub span_id: String,
    /// The hook that announced it.
    pub kind: String,
}

/// May this call run?
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decide {
    pub agent_id: String,
    pub session_key: String,
    pub session_id: String,
    pub run_id: String,
    pub trace_id: String,
    pub call_id: String,
    pub tool: String,
    pub params: Value,
    #[serde(default)]
    pub derived_paths: Vec<String>,
}

/// A call has ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outcome {
    pub agent_id: String,
    pub session_key: String,
    pub run_id: String,
    pub call_id: String,
    pub tool: String,
    pub is_error: bool,
    pub duration_ms: u64,
}

/// What the assistant is told about this server, beside everything else that it is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Told {
    pub ok: bool,
    /// The same in every turn, so that a provider's cache stays warm.
    pub text: String,
}

/// The plugin's own tool, which is there for canaries alone, has run.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ran {
    pub session_key: String,
}

/// What a tool put out, before the model, the transcript or anybody else gets it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Output {
    pub result: Value,
}

/// The same as it may be told on. Without `result` it may be told as it is.
#[derive(Debug, Serialize, Deserialize)]
pub struct Screened {
    pub ok: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    pub allow: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}
