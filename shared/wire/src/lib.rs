//! The words that cross a socket: ids, states and frames, as docs/WIRE.md tells them.
//!
//! serde types only. Foreign fields are ignored where the document says so and refused elsewhere; nothing here decides.

pub mod approval;
pub mod device;
pub mod enrol;
pub mod error;
pub mod fleet;
mod id;
pub mod link;
pub mod plugin;
pub mod usage;

pub use id::{ApprovalId, AssistantId, AuditId, DeviceId, HostId, Id, OperatorId, PersonId, TenantId};
