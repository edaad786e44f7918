//! The fake world: a real hub, real agents, and fakes on real sockets where the world would be.
//!
//! Tests enter where the world enters: [`Browser`] speaks HTTP and WebSocket as a browser does, [`FakeGateway`] plays
//! OpenClaw with its plugin and its model calls, the scripted model of the hub's demo plays the provider. Time stands still
//! until a test moves it.

mod booted;
mod browser;
pub mod company;
mod device;
mod gateway;
mod http;
mod internet;
mod machines;
pub mod mailbox;
mod processes;
mod provider;
mod world;

pub use booted::booted;
pub use browser::{Browser, yes_to};
pub use company::Company;
pub use device::Device;
pub use gateway::{FakeGateway, Keys, Manners};
pub use http::{Answer, exchange, post_json, request, request_unix, send_raw};
pub use internet::{Internet, Passage};
pub use machines::{Fittings, Machines};
pub use mailbox::{MailManners, Mailbox};
pub use processes::Processes;
pub use provider::{FakeProvider, Said};
pub use world::{PASSWORD, Tenant, World, free_port, soon};
