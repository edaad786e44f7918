//! How a host becomes known to the hub, once.

use crate::{AssistantId, HostId, TenantId};
use serde::{Deserialize, Serialize};

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrolRequest {
    pub token: String,
    /// Ed25519, base64url without padding.
    pub public_key: String,
    pub proof: String,
    pub agent_version: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrolAnswer {
    pub host_id: HostId,
    pub tenant_id: TenantId,
    pub tenant_name: String,
    pub assistants: Vec<NamedAssistant>,
    pub hub_time_ms: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedAssistant {
    pub id: AssistantId,
    pub name: String,
}

/// What the proof signs: the token and the key, so that neither can be swapped on the way.
pub fn enrol_statement(token: &str, public_key: &str) -> String {
    format!("gatehouse-enrol-v1\n{token}\n{public_key}")
}
