//! An approval as a person of the tenant sees it, and the little that the hub may know of it.

use crate::{ApprovalId, AssistantId, DeviceId, PersonId};
use policy::{Class, Sentence};
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApprovalState {
    Pending,
    Approved,
    Denied,
    Expired,
    /// The grant was handed to its call. Whether that came back is told by the outcome.
    Used,
    /// The same call was asked about anew, because it is more dangerous by now than what was asked here.
    Superseded,
    /// A person took a grant back before it was used.
    Cancelled,
}

impl ApprovalState {
    pub const ALL: [ApprovalState; 7] = [
        ApprovalState::Pending,
        ApprovalState::Approved,
        ApprovalState::Denied,
        ApprovalState::Expired,
        ApprovalState::Used,
        ApprovalState::Superseded,
        ApprovalState::Cancelled,
    ];

    pub fn name(self) -> &'static str {
        match self {
            ApprovalState::Pending => "pending",
            ApprovalState::Approved => "approved",
            ApprovalState::Denied => "denied",
            ApprovalState::Expired => "expired",
            ApprovalState::Used => "used",
            ApprovalState::Superseded => "superseded",
            ApprovalState::Cancelled => "cancelled",
        }
    }

    pub fn parse(name: &str) -> Option<ApprovalState> {
        ApprovalState::ALL.into_iter().find(|state| state.name() == name)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// Yes, once.
    Approve,
    /// Yes, and to every call of the same digest for a day. Only up to Yellow.
    ApproveDay,
    Deny,
    /// Takes back a grant that is not used yet.
    Cancel,
}

/// What a grant covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    Once,
    Day,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Detail {
    pub name: String,
    pub value: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Approval {
    pub id: ApprovalId,
    pub assistant: AssistantId,
    pub session: String,
    /// The id of the tool call that waits, as OpenClaw's events name it; of the newest when it was proposed again.
    pub call_id: String,
    pub tool: String,
    pub class: Class,
    pub external: bool,
    pub unknown: bool,
    pub rule: String,
    /// Written by the policy rule. INVARIANT: never by the model, which would otherwise word its own approval.
    pub sentence: Sentence,
    /// The exact arguments.
    pub details: Vec<Detail>,
    pub digest: String,
    /// Two digits that a person reads and types before the most dangerous calls.
    pub number: String,
    pub created_ms: i64,
    pub expires_ms: i64,
    pub state: ApprovalState,
    pub scope: Scope,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decided_ms: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decided_by: Option<PersonId>,
    /// The device that signed the decision, where one did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signed_by: Option<DeviceId>,
    /// Why a person refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub denial: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
}

/// How a granted call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Ok,
    Failed,
}

/// How often one rule asked on each of the last days, and what became of it: numbers alone, for those who tune rules. A rule that
/// asks often and always hears yes wears people out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asks {
    /// The rule's id; `own` for all of a tenant's own, whose names are its business.
    pub rule: String,
    /// Of each day (UTC), the oldest first, today last.
    pub days: Vec<u32>,
    pub yes: u32,
    pub no: u32,
}

impl Asks {
    pub const DAYS: usize = 7;
    /// Rules in one report, those that ask most.
    pub const RULES_MAX: usize = 20;

    pub fn total(&self) -> u32 {
        self.days.iter().fold(0, |sum, day| sum.saturating_add(*day))
    }
}

/// What the hub may list: that something waits, how dangerous it is, since when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenApproval {
    pub id: ApprovalId,
    pub class: Class,
    pub external: bool,
    pub created_ms: i64,
}
