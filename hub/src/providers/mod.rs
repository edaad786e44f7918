//! Where tenants live. Today there is one answer: `local`, on this machine, as processes beside the hub.

pub mod local;
mod process;
