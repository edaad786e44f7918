//! What an operator sees of the fleet, and the parts of it that agents report.

use crate::TenantId;
use crate::approval::{Asks, OpenApproval};
use crate::usage::UsageDay;
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GatewayState {
    /// No gateway is configured.
    Absent,
    Starting,
    Ready,
    Down,
    /// It runs without the guard plugin: no model answers.
    Ungated,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gateway {
    pub state: GatewayState,
    /// A finding code.
    pub reason: Option<String>,
}

/// How the law stands on a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PolicyState {
    /// What is compiled into the agent: no bundle has come yet.
    Default,
    Active,
    /// Its time has run out. It is enforced all the same; its exceptions and unlocked gates are not.
    Expired,
    /// The newest one was refused; the one named here goes on.
    Refused,
}

/// What a host enforces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    pub state: PolicyState,
    /// Of the bundle in force; 0 for what is compiled in.
    pub version: i64,
    /// Its name; empty for what is compiled in.
    pub digest: String,
    pub expires_ms: Option<i64>,
    /// The version of the key document that it trusts.
    pub keys: i64,
    /// Why the newest was refused: a code of `policy::bundle::Refusal`.
    pub reason: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    Warn,
    Fail,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthFinding {
    pub code: String,
    pub severity: Severity,
    pub since_ms: i64,
    /// Names sessions or files by id; never content.
    pub detail: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Presence {
    Never,
    Online,
    Late,
    Offline,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TenantState {
    Provisioning,
    Ready,
    NeedsOperator,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepState {
    Waiting,
    Running,
    Done,
    Failed,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    pub name: String,
    pub state: StepState,
    pub error: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantView {
    pub id: TenantId,
    pub name: String,
    pub url: String,
    pub state: TenantState,
    pub steps: Vec<Step>,
    pub presence: Presence,
    pub last_seen_ms: Option<i64>,
    pub agent_version: Option<String>,
    pub gateway: Gateway,
    /// `None` until the agent has told, which older ones never do.
    pub policy: Option<Policy>,
    pub usage_today: UsageDay,
    pub approvals: Vec<OpenApproval>,
    /// How often each rule asked lately, those that asked most first.
    #[serde(default)]
    pub asks: Vec<Asks>,
    pub findings: Vec<HealthFinding>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fleet {
    pub revision: u64,
    pub now_ms: i64,
    pub tenants: Vec<TenantView>,
}
