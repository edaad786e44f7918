//! What a person's device says and proves: statements, and the proofs that stand beside them.
//!
//! A proof covers the received bytes of a statement behind [`STATEMENT_DOMAIN`], never a re-serialisation.

use crate::approval::Decision;
use crate::{ApprovalId, AssistantId, DeviceId, PersonId, TenantId};
use serde::{Deserialize, Serialize};

/// Stands before every statement under its signature, so that no other text of ours can be taken for one.
pub const STATEMENT_DOMAIN: &str = "gatehouse-statement-v1\n";
/// Stands before what a new key proves of itself.
pub const CANDIDATE_DOMAIN: &str = "gatehouse-device-v1\n";

/// One thing that a person wants, said by one of their devices. Its text is canonical JSON: one statement has one spelling.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    pub tenant: TenantId,
    pub person: PersonId,
    pub device: DeviceId,
    pub deed: Deed,
    pub expires_ms: i64,
    /// Drawn by the device; counts once.
    pub nonce: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Deed {
    Decide {
        approval: ApprovalId,
        digest: String,
        decision: Decision,
        /// Why not, for the assistant.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        reason: String,
        /// The number that stands on the question, as the person read and typed it.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        number: String,
    },
    /// Lets another key of the same person in; `key` is its public key.
    AddDevice {
        key: String,
    },
    RemoveDevice {
        device: DeviceId,
    },
    /// A one-time code with which `person` enrols another device.
    MintCode {
        person: PersonId,
    },
    /// Fresh recovery codes; the older ones end.
    RecoveryCodes {},
    /// Lets an assistant go on that somebody has stopped.
    Resume {
        assistant: AssistantId,
    },
}

/// How a statement is proved. Bytes are base64url without padding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Proof {
    /// ECDSA P-256 with SHA-256 over the text, as r and s in 64 bytes.
    Key { signature: String },
    /// A WebAuthn assertion whose challenge is the SHA-256 of the text.
    Passkey { authenticator_data: String, client_data: String, signature: String },
}

/// A statement with its proof. It may come on any way: who carries it can only lose it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signed {
    pub statement: String,
    pub proof: Proof,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceKind {
    /// A key that a browser keeps and never gives out.
    Key,
    Passkey,
}

/// A device as persons of the tenant see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeviceView {
    pub id: DeviceId,
    pub person: PersonId,
    pub name: String,
    pub kind: DeviceKind,
    /// The credential's own id, for passkeys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
    pub added_ms: i64,
    /// `first`, `device`, `code`, `recovery`, `console` or `reset`.
    pub added_by: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub used_ms: Option<i64>,
}
