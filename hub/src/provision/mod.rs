//! Bringing tenants into service, and keeping them there: `plan` decides what comes next, `run` does it.
//!
//! This is a round, not a sequence: it looks at what is written down and at what is, moves each tenant one step nearer,
//! and may be killed anywhere. A step is written down before it is begun and after it has ended, and each can be done again.

mod plan;
pub(crate) mod run;
