//! Counted model calls.

use crate::AssistantId;
use serde::{Deserialize, Serialize};

pub const HOUR_MS: i64 = 3_600_000;
pub const DAY_MS: i64 = 24 * HOUR_MS;

/// What was counted. Fields that older agents do not say are nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    pub calls: i64,
    /// Calls whose end nobody saw: counted as far as they came, and the rest reckoned.
    pub partial: i64,
    /// Calls that came to their end without a word of what they used: reckoned.
    #[serde(default)]
    pub estimated: i64,
    /// All input, cached or not.
    pub input_tokens: i64,
    /// The part of it that came from a cache.
    pub cached_tokens: i64,
    /// The part of it that was written into one.
    #[serde(default)]
    pub cache_write_tokens: i64,
    /// The part of that which stays for an hour or longer.
    #[serde(default)]
    pub cache_write_long_tokens: i64,
    /// All output, thoughts included.
    pub output_tokens: i64,
    #[serde(default)]
    pub reasoning_tokens: i64,
    /// Searches and the like that the provider ran by itself.
    #[serde(default)]
    pub tool_requests: i64,
    /// In billionths of a dollar.
    #[serde(default)]
    pub cost_nano_usd: i64,
    /// Calls of models without a price, which count at the highest rate.
    #[serde(default)]
    pub unpriced: i64,
}

impl Counters {
    /// The columns that hold them in a table, in this order.
    pub const COLUMNS: [&'static str; 12] = [
        "calls",
        "partial",
        "estimated",
        "input_tokens",
        "cached_tokens",
        "cache_write_tokens",
        "cache_write_long_tokens",
        "output_tokens",
        "reasoning_tokens",
        "tool_requests",
        "cost_nano_usd",
        "unpriced",
    ];

    pub fn values(&self) -> [i64; 12] {
        self.clone().places().map(|place| *place)
    }

    pub fn of(values: [i64; 12]) -> Counters {
        let mut counters = Counters::default();
        counters.places().into_iter().zip(values).for_each(|(place, value)| *place = value);
        counters
    }

    /// In the order of the columns.
    fn places(&mut self) -> [&mut i64; 12] {
        [
            &mut self.calls,
            &mut self.partial,
            &mut self.estimated,
            &mut self.input_tokens,
            &mut self.cached_tokens,
            &mut self.cache_write_tokens,
            &mut self.cache_write_long_tokens,
            &mut self.output_tokens,
            &mut self.reasoning_tokens,
            &mut self.tool_requests,
            &mut self.cost_nano_usd,
            &mut self.unpriced,
        ]
    }
}

/// The absolute counters of one hour, one assistant and one model. The greater `seq` is the newer, so a row may be sent
/// again and out of order without counting anything twice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageRow {
    pub hour_ms: i64,
    pub assistant: AssistantId,
    pub provider: String,
    pub model: String,
    pub seq: i64,
    /// The prices that the newest call of it was reckoned with.
    #[serde(default)]
    pub catalogue: i64,
    #[serde(flatten)]
    pub counters: Counters,
}

/// One day's total (UTC).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageDay {
    pub day_ms: i64,
    #[serde(flatten)]
    pub counters: Counters,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_and_columns_name_the_same_things() {
        let counters = Counters::of(std::array::from_fn(|n| n as i64 + 1));
        assert_eq!(counters.values(), std::array::from_fn(|n| n as i64 + 1));
        let json = serde_json::to_value(UsageDay { day_ms: 0, counters }).unwrap();
        for (name, value) in Counters::COLUMNS.iter().zip(counters.values()) {
            assert_eq!(json[name], value, "{name}");
        }
    }
}
