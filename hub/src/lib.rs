//! The central service: hosts enrol and report here, tenants are brought into service, operators see all of it.
//!
//! `routes` lists what can be asked, a listener a function. Rooms are the ways in: `fleet` for agents, `operator` for
//! people, `provision` for work that nobody asks for twice. `app` puts them together over the cupboards `store` and
//! `providers`. The hub holds no tenant's content and no key that could approve anything.

mod app;
pub mod bundles;
pub mod command;
pub mod config;
pub mod demo;
mod fleet;
mod operator;
mod providers;
mod provision;
mod routes;
mod store;

pub use app::{Hub, Settings, create_tenant};
pub use providers::local::{Local, LocalSettings};
pub use store::Store;
