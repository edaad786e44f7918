//! Signed bundles: the law as a company hands it to its agents.
//!
//! A [`File`] holds one signed manifest, the sections that it seals by hash, and the key documents that say whose
//! signature counts. [`Trust`] begins with root keys that came with the agent and follows key documents from there;
//! [`File::open`] answers for one file, one agent and one moment whether it is law, or why not ([`Refusal`]).
//!
//! Pure: bytes, keys and the time are arguments. People write TOML, which [`source`] reads and [`diff`] compares; what
//! the content comes to for a call is [`crate::Regime`]'s business.

mod content;
mod diff;
mod file;
mod key;
mod source;
mod trust;

pub use content::{AssistantLevel, Budgets, Content, Exception, Gates, Levels, Limits, Named, Price, Prices, Purpose, Routes, Target};
pub use diff::{Change, Weight, diff};
pub use file::{Draft, File, Held, Manifest, Reader, Signed};
pub use key::{PublicKey, Signature, Signer};
pub use source::{Fault, KeysDraft, compile, compile_keys, is_key_source, prices, rule_faults};
pub use trust::{BundleKey, KeyDocument, Roots, Trust, chain};

use thiserror::Error;

/// The format of manifests and key documents that this build writes, and the newest that it reads.
pub const FORMAT: u32 = 1;
/// A file larger than this is not read: some thousand rules with their examples are a tenth of it.
pub const BYTES_MAX: usize = 8 * 1024 * 1024;
/// A bundle may be from a clock that is a little ahead of ours, not from the future.
pub const CLOCK_AHEAD_MS: i64 = 10 * 60_000;
/// The longest life of a key that signs bundles.
pub const BUNDLE_KEY_DAYS_MAX: i64 = 90;
pub const DAY_MS: i64 = 86_400_000;
/// Signatures under one document, key documents in one file, keys in one document: more than any company has.
pub const LIST_MAX: usize = 32;

/// Why a file is not law. What was law before stays.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    #[error("the file has {bytes} bytes, and at most {BYTES_MAX} are read")]
    TooLarge { bytes: usize },
    #[error("the file is no bundle in canonical form: {why}")]
    Malformed { why: String },
    #[error("nobody signed it")]
    Unsigned,
    #[error("{have} of the {need} signatures that it needs are there")]
    TooFewSignatures { have: usize, need: usize },
    #[error("it is signed with a key that is not trusted here: `{key}`")]
    UnknownKey { key: PublicKey },
    #[error("it is signed with the key `{key}`, which has been revoked")]
    RevokedKey { key: PublicKey },
    #[error("it is signed with the key `{key}`, whose time has run out")]
    KeyExpired { key: PublicKey },
    #[error("`{what}` is not what was signed")]
    Altered { what: String },
    #[error("it holds `{what}`, which the signed manifest does not name")]
    Extraneous { what: String },
    #[error("it is of format {found}, and this version reads up to {FORMAT}")]
    FormatTooNew { found: u32 },
    #[error("it insists on `{field}`, which this version does not know")]
    MustUnknown { field: String },
    #[error("it is for {what} `{theirs}`, not for `{ours}`")]
    Foreign { what: &'static str, theirs: String, ours: String },
    #[error("it needs agent {needed} or newer, and this is {ours}")]
    NeedsNewerAgent { needed: String, ours: String },
    #[error("it is version {version}, and version {held} was in force already")]
    Older { version: i64, held: i64 },
    #[error("another bundle of version {version} is in force already")]
    Equivocation { version: i64 },
    #[error("it expired {} h ago", (now_ms - expires_ms) / 3_600_000)]
    Expired { expires_ms: i64, now_ms: i64 },
    #[error("it was issued {} min after this machine's time: is the clock right?", (issued_ms - now_ms) / 60_000)]
    ClockBehind { issued_ms: i64, now_ms: i64 },
    #[error("its key document {version} is not signed by enough of the root keys")]
    KeysUnsigned { version: i64 },
    #[error("two key documents of version {version} say different things")]
    KeysEquivocation { version: i64 },
    #[error("its key document {version} has expired")]
    KeysExpired { version: i64 },
    #[error("its key document breaks the rules for keys: {why}")]
    KeysWrong { why: String },
    #[error("its rules are not usable: {}", first(faults))]
    RulesWrong { faults: Vec<Fault> },
}

fn first(faults: &[Fault]) -> String {
    let more = if faults.len() > 1 { format!(" (and {} more)", faults.len() - 1) } else { String::new() };
    faults.first().map_or_else(String::new, |fault| format!("{fault}{more}"))
}

impl Refusal {
    pub const CODES: &[&str] = &[
        "too_large",
        "malformed",
        "unsigned",
        "too_few_signatures",
        "unknown_key",
        "revoked_key",
        "key_expired",
        "altered",
        "extraneous",
        "format_too_new",
        "must_unknown",
        "foreign",
        "needs_newer_agent",
        "older",
        "equivocation",
        "expired",
        "clock_behind",
        "keys_unsigned",
        "keys_equivocation",
        "keys_expired",
        "keys_wrong",
        "rules_wrong",
    ];

    /// For programs, and for the sentence that an operator reads.
    pub fn code(&self) -> &'static str {
        match self {
            Refusal::TooLarge { .. } => "too_large",
            Refusal::Malformed { .. } => "malformed",
            Refusal::Unsigned => "unsigned",
            Refusal::TooFewSignatures { .. } => "too_few_signatures",
            Refusal::UnknownKey { .. } => "unknown_key",
            Refusal::RevokedKey { .. } => "revoked_key",
            Refusal::KeyExpired { .. } => "key_expired",
            Refusal::Altered { .. } => "altered",
            Refusal::Extraneous { .. } => "extraneous",
            Refusal::FormatTooNew { .. } => "format_too_new",
            Refusal::MustUnknown { .. } => "must_unknown",
            Refusal::Foreign { .. } => "foreign",
            Refusal::NeedsNewerAgent { .. } => "needs_newer_agent",
            Refusal::Older { .. } => "older",
            Refusal::Equivocation { .. } => "equivocation",
            Refusal::Expired { .. } => "expired",
            Refusal::ClockBehind { .. } => "clock_behind",
            Refusal::KeysUnsigned { .. } => "keys_unsigned",
            Refusal::KeysEquivocation { .. } => "keys_equivocation",
            Refusal::KeysExpired { .. } => "keys_expired",
            Refusal::KeysWrong { .. } => "keys_wrong",
            Refusal::RulesWrong { .. } => "rules_wrong",
        }
    }
}

/// What is said of one number: an integer that every reader reads alike. Floats have several spellings.
fn only_integers(value: &serde_json::Value) -> bool {
    const SAFE: i64 = 1 << 53;
    match value {
        serde_json::Value::Number(number) => number.as_i64().is_some_and(|number| (-SAFE..=SAFE).contains(&number)),
        serde_json::Value::Array(items) => items.iter().all(only_integers),
        serde_json::Value::Object(map) => map.values().all(only_integers),
        _ => true,
    }
}

#[cfg(test)]
mod tests;
