//! tenant-agent: stands between the world and OpenClaw, in every direction.
//!
//! Rooms are ways in: a browser comes through [`auth_proxy`], a tool call is judged in [`safety_wrapper`] and, where the
//! tool is ours, done in [`tools`], a model call comes through [`egress_proxy`], a person on the machine through
//! [`console`]; [`hub_link`] is the way to the company. Cupboards hold what several rooms need. [`agent`] alone knows all of
//! them. docs/ARCHITECTURE.md walks each way through.

pub mod agent;
mod approvals;
pub mod audit;
mod auth_proxy;
mod budget;
pub mod bundle;
mod canary;
pub mod cgroup;
pub mod console;
pub mod devices;
mod egress_proxy;
mod first_hour;
mod forward_proxy;
pub mod gateway;
mod hosts;
mod hub_link;
pub mod identity;
pub mod law;
mod ledger;
mod levels;
pub mod mail;
mod metering;
pub mod network;
pub mod outlet;
pub mod outside;
mod pauses;
pub mod people;
mod providers;
pub mod redaction;
mod safety_wrapper;
mod screen;
pub mod settings;
mod store;
mod target;
pub mod tools;
pub mod vault;

pub use agent::Agent;
pub use settings::Settings;
