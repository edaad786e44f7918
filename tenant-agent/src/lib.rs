//! tenant-agent: stands between the world and OpenClaw, in every direction.
//!
//! Rooms are ways in: a browser comes through [`auth_proxy`], a tool call through [`safety_wrapper`], a model call through
//! [`egress_proxy`], a person on the machine through [`console`]; [`hub_link`] is the way to the company. Cupboards hold
//! what several rooms need. [`agent`] alone knows all of them. docs/ARCHITECTURE.md walks each way through.

pub mod agent;
mod approvals;
mod audit;
mod auth_proxy;
pub mod bundle;
pub mod console;
mod egress_proxy;
pub mod gateway;
mod hub_link;
pub mod identity;
pub mod law;
mod ledger;
mod metering;
pub mod network;
pub mod people;
pub mod redaction;
mod safety_wrapper;
mod screen;
pub mod settings;
mod store;
pub mod vault;

pub use agent::Agent;
pub use settings::Settings;
