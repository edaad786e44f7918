//! Counted model calls.

use crate::AssistantId;
use serde::{Deserialize, Serialize};

pub const HOUR_MS: i64 = 3_600_000;
pub const DAY_MS: i64 = 24 * HOUR_MS;

/// The absolute counters of one hour, one assistant and one model. The greater `seq` is the newer, so a row may be sent
/// again and out of order without counting anything twice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageRow {
    pub hour_ms: i64,
    pub assistant: AssistantId,
    pub provider: String,
    pub model: String,
    pub seq: i64,
    pub calls: i64,
    /// Calls whose end nobody saw: counted as far as they came.
    pub partial: i64,
    pub input_tokens: i64,
    pub cached_tokens: i64,
    pub output_tokens: i64,
}

/// One day's total (UTC).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageDay {
    pub day_ms: i64,
    pub calls: i64,
    pub partial: i64,
    pub input_tokens: i64,
    pub cached_tokens: i64,
    pub output_tokens: i64,
}
