//! The frames between agent and hub, after enrolment.

use crate::approval::{Asks, OpenApproval};
use crate::fleet::{Gateway, HealthFinding, Policy};
use crate::usage::UsageRow;
use crate::{HostId, TenantId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};

/// The versions of this protocol that this build speaks.
pub const VERSION_MIN: u32 = 1;
pub const VERSION_MAX: u32 = 1;

/// A frame larger than this closes the link.
pub const FRAME_BYTES_MAX: usize = 256 * 1024;

/// The envelope. The body stays as received until its kind says how to read it.
#[derive(Debug, Deserialize)]
pub struct Frame<'a> {
    pub v: u32,
    pub kind: &'a str,
    pub id: &'a str,
    #[serde(borrow)]
    pub body: &'a RawValue,
    /// Names of body fields that the sender insists on; a receiver that does not know one refuses the frame.
    #[serde(default, borrow)]
    pub must: Vec<&'a str>,
}

impl<'a> Frame<'a> {
    pub fn parse(text: &'a str) -> Option<Frame<'a>> {
        serde_json::from_str(text).ok()
    }

    /// The body, if every field that the sender insists on is known to `T`.
    pub fn body<T: Deserialize<'a>>(&self, known: &[&str]) -> Option<T> {
        if !self.must.iter().all(|name| known.contains(name)) {
            return None;
        }
        serde_json::from_str(self.body.get()).ok()
    }
}

/// The text of a frame.
pub fn frame(kind: &str, id: &str, body: &impl Serialize) -> String {
    let body = serde_json::to_value(body).unwrap_or(Value::Null);
    serde_json::json!({ "v": VERSION_MAX, "kind": kind, "id": id, "body": body }).to_string()
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Challenge {
    pub nonce: String,
    pub hub_time_ms: i64,
    pub min: u32,
    pub max: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    pub min: u32,
    pub max: u32,
    pub host_id: HostId,
    /// Drawn anew by each start of the agent.
    pub boot_id: String,
    pub agent_version: String,
    pub signature: String,
}

/// What the signature in [`Hello`] covers.
pub fn hello_statement(nonce: &str, host_id: HostId, boot_id: &str) -> String {
    format!("gatehouse-link-v1\n{nonce}\n{host_id}\n{boot_id}")
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    pub version: u32,
    pub tenant_id: TenantId,
    pub heartbeat_ms: u64,
    /// The newest head that the hub keeps of this host's audit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit: Option<AuditHead>,
}

/// How far the audit of a host goes, and the hash that stands there. Who keeps it sees later whether what came before was changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditHead {
    pub count: i64,
    /// Empty where the chain does not go so far.
    pub head: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refuse {
    pub code: String,
}

/// The whole present state of a host, so that a lost frame costs nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    pub seq: u64,
    pub uptime_ms: u64,
    pub gateway: Gateway,
    pub findings: Vec<HealthFinding>,
    pub approvals: Vec<OpenApproval>,
    /// What law is in force; older agents do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Policy>,
    /// How far the audit goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit: Option<AuditHead>,
    /// What it says at the count of the head in the welcome: the proof that it still is the same chain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit_then: Option<AuditHead>,
    /// How often each rule asked lately; older agents do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asks: Option<Vec<Asks>>,
}

/// The newest bundle of each channel, said after the welcome and whenever one is published.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyOffer {
    pub bundles: Vec<OfferedBundle>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfferedBundle {
    pub channel: String,
    pub version: i64,
    /// SHA-256 of the file, as hex: what is fetched.
    pub file: String,
    pub bytes: usize,
}

/// Asks for the file from `offset` on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyWant {
    pub file: String,
    pub offset: usize,
}

/// A part of the file. Empty when there is no such file any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyPart {
    pub file: String,
    pub offset: usize,
    pub text: String,
}

/// Escaped as a string of JSON a part may double, and must still fit into a frame.
pub const PART_BYTES_MAX: usize = 96 * 1024;

/// A decision that a person's device signed, as it came: the text of a [`crate::device::Signed`]. Who passes it on can neither make nor change one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    pub signed: String,
}

/// The longest statement with the longest assertion, and room.
pub const BLOB_BYTES_MAX: usize = 24 * 1024;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    pub rows: Vec<UsageRow>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    pub of: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::GatewayState;
    use proptest::prelude::*;

    /// Version 1 as it left the house. A change that breaks one of these breaks agents that are already out there.
    #[test]
    fn version_1_still_reads() {
        for line in include_str!("../golden/link-v1.jsonl").lines() {
            let frame = Frame::parse(line).expect(line);
            let known = match frame.kind {
                "challenge" => frame.body::<Challenge>(&[]).is_some(),
                "hello" => frame.body::<Hello>(&[]).is_some(),
                "welcome" => frame.body::<Welcome>(&[]).is_some(),
                "refuse" => frame.body::<Refuse>(&[]).is_some(),
                "heartbeat" => frame.body::<Heartbeat>(&[]).is_some(),
                "usage" => frame.body::<Usage>(&[]).is_some(),
                "ack" => frame.body::<Ack>(&[]).is_some(),
                "policy" => frame.body::<PolicyOffer>(&[]).is_some(),
                "policy_want" => frame.body::<PolicyWant>(&[]).is_some(),
                "decision" => frame.body::<Decision>(&[]).is_some(),
                "policy_part" => frame.body::<PolicyPart>(&[]).is_some(),
                _ => false,
            };
            assert!(known, "{line}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_frame_or_none(text in ".{0,300}", kind in "[a-z]{0,12}", body in ".{0,60}") {
            let _ = Frame::parse(&text);
            let framed = serde_json::json!({ "v": 1, "kind": kind, "id": "x", "body": body }).to_string();
            if let Some(frame) = Frame::parse(&framed) {
                prop_assert!(frame.body::<Heartbeat>(&[]).is_none() && frame.body::<Usage>(&[]).is_none());
            }
        }
    }

    #[test]
    fn unknown_fields_pass_unless_the_sender_insists() {
        let gateway = Gateway { state: GatewayState::Ready, reason: None };
        let beat = Heartbeat { seq: 1, uptime_ms: 2, gateway, findings: vec![], approvals: vec![], policy: None, audit: None, audit_then: None, asks: None };
        let text = frame("heartbeat", "f1", &beat).replace("\"seq\":1", "\"seq\":1,\"mood\":\"fine\"");
        assert_eq!(Frame::parse(&text).unwrap().body::<Heartbeat>(&[]), Some(beat));
        let insisting = text.replace("\"v\":1", "\"v\":1,\"must\":[\"mood\"]");
        assert_eq!(Frame::parse(&insisting).unwrap().body::<Heartbeat>(&[]), None);
    }
}
