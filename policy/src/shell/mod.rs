//! What a shell line does.
//!
//! ```text
//! line → balance (short and flat enough?) → parser → walk (every command in any context)
//!      → words (constants followed) → argv (read as the program reads it) → command (deeds, rules) → maximum
//! ```
//! Code for other interpreters goes through `inline`, what flows through pipes through `flow`. Whatever cannot be read is
//! Red and marked, and Green is only what was shown to look.

pub(crate) mod argv;
pub mod balance;
mod command;
mod flow;
pub(crate) mod form;
mod inline;
pub(crate) mod lexicon;
pub(crate) mod program;
pub(crate) mod programs;
mod scope;
mod walk;
pub(crate) mod words;

pub use walk::{Seen, Walk};

/// The parser alone, for measuring its share.
pub fn parse_only(line: &str) -> bool {
    shuck_parser::parser::Parser::with_dialect(line, shuck_parser::parser::ShellDialect::Bash).parse().is_ok()
}
