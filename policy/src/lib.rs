//! What may happen: how dangerous a proposed call is, and whether it may run now.
//!
//! Pure. Nothing here does IO, takes the time or draws a random number: rules, levels and calls arrive as arguments
//! and a value comes back, so the same question has the same answer on the VPS, in a test and in the operator's shell.
//!
//! A call passes [`Rules::manifest`] (may this assistant use the tool at all), [`Rules::classify`] (how dangerous, and
//! why) and [`gate`] (run, ask or refuse). [`digest`] names the exact call that a person approves.

pub mod approval;
pub mod budget;
pub mod bundle;
pub mod call;
pub mod choice;
pub mod class;
pub mod fault;
pub mod file;
pub mod gate;
pub mod host;
pub mod http;
pub mod judgement;
pub mod law;
pub mod path;
pub mod regime;
pub mod route;
pub mod shell;
pub mod sql;
pub mod tool;

pub use approval::{Digest, canonical_json, digest};
pub use call::Call;
pub use choice::{Change, Choices, Chosen, Weighed};
pub use class::Class;
pub use gate::{Gate, Level, Verdict, gate};
pub use judgement::{Because, Deed, Effect, Judgement};
pub use law::{Finding, Knowledge, Law, RuleBook, Sentence};
pub use regime::{Beside, Regime};
