//! What both services need to start, serve, store, log and stop.
//!
//! Each module is one thing that must be the same in hub and agent: one clock, one way to listen, one writer of the
//! store, one place where errors become answers. Nothing here knows what a tenant or an approval is.

pub mod clock;
pub mod config;
pub mod door;
pub mod error;
pub mod key;
pub mod limiter;
pub mod log;
pub mod memory;
pub mod outward;
pub mod pages;
pub mod password;
pub mod random;
pub mod ready;
pub mod secret;
pub mod session;
pub mod stop;
pub mod store;
pub mod text;
pub mod upstream;

pub use clock::Clock;
pub use error::Refusal;
pub use secret::SecretString;
pub use stop::Stop;
pub use store::{Store, Tx};
pub use upstream::Upstream;
