//! What model calls cost, and how much they may: what a call consumed, what it is worth, and whether it still fits.
//!
//! Money is whole billionths of a dollar. A model without a price is never free: it counts at the highest rate that is
//! known. Whether a call may be sent is [`admit`]; what it reserves is what it can cost at most, so that calls that run at
//! the same time cannot spend more than there is together.
//!
//! Limits: one rate a model, without tiers for long inputs, regions or speeds; tokens of a request are reckoned from its bytes.

use crate::bundle::{Limits, Price, Prices};

/// What one model call consumed, in the kinds that have prices of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Consumed {
    /// Input that came from no cache and went into none.
    pub input: i64,
    pub cache_read: i64,
    /// Written into a cache that holds for minutes.
    pub cache_write_short: i64,
    /// Written into a cache that holds for an hour or longer.
    pub cache_write_long: i64,
    /// All output, thoughts included.
    pub output: i64,
    /// The part of the output that was thought.
    pub reasoning: i64,
    /// Searches and the like that the provider ran by itself.
    pub tool_requests: i64,
}

impl Consumed {
    /// All input, cached or not.
    pub fn input_whole(&self) -> i64 {
        [self.cache_read, self.cache_write_short, self.cache_write_long].into_iter().fold(self.input, i64::saturating_add)
    }

    pub fn cache_write(&self) -> i64 {
        self.cache_write_short.saturating_add(self.cache_write_long)
    }
}

/// Bytes of a text that make a token, as a first guess for what nobody counted.
const BYTES_PER_TOKEN: i64 = 4;
/// Dense text has more tokens than a guess says; what is reserved must be enough.
const BYTES_PER_TOKEN_MIN: i64 = 3;
/// What a provider adds to a request by itself.
const ADDED_TOKENS: i64 = 512;

/// About how many tokens a text of this size has.
pub fn about_tokens(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX).saturating_add(BYTES_PER_TOKEN - 1) / BYTES_PER_TOKEN
}

/// More tokens than a request of this size has.
pub fn at_most_tokens(bytes: usize) -> i64 {
    (i64::try_from(bytes).unwrap_or(i64::MAX) / BYTES_PER_TOKEN_MIN).saturating_add(ADDED_TOKENS)
}

/// What a model's tokens cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    input: i64,
    cache_read: i64,
    cache_write_short: i64,
    cache_write_long: i64,
    output: i64,
    tool_request: i64,
    /// Nobody gave a price for this model: this is the highest that is known.
    pub is_assumed: bool,
    /// Of the prices that it is from.
    pub catalogue: i64,
}

/// The least that an unknown model is taken for: what the dearest ordinary models cost.
const ASSUMED: Rate = Rate {
    input: 15_000,
    cache_read: 15_000,
    cache_write_short: 18_750,
    cache_write_long: 30_000,
    output: 75_000,
    tool_request: TOOL_REQUEST_NANO_USD,
    is_assumed: true,
    catalogue: 0,
};
/// A search that a provider runs costs about a cent.
const TOOL_REQUEST_NANO_USD: i64 = 10_000_000;
/// A call that runs on this machine costs nobody money.
const OWN: Rate = Rate { input: 0, cache_read: 0, cache_write_short: 0, cache_write_long: 0, output: 0, tool_request: 0, is_assumed: false, catalogue: 0 };

impl Prices {
    /// The rate of a model. `is_own`: it runs on this machine, so that only a price that somebody gave counts.
    pub fn rate(&self, provider: &str, model: &str, is_own: bool) -> Rate {
        let given = self.models.iter().find(|price| price.provider == provider && price.model == model);
        match given {
            Some(price) => Rate { catalogue: self.catalogue, ..rate(price) },
            None if is_own => Rate { catalogue: self.catalogue, ..OWN },
            None => self.models.iter().map(rate).fold(Rate { catalogue: self.catalogue, ..ASSUMED }, highest),
        }
    }
}

/// A kind of token without a price of its own costs what input costs, and what is written into a cache a little more.
fn rate(price: &Price) -> Rate {
    Rate {
        input: price.input_nano_usd,
        cache_read: price.cached_nano_usd,
        cache_write_short: price.cache_write_nano_usd.unwrap_or_else(|| price.input_nano_usd.saturating_mul(5).saturating_add(3) / 4),
        cache_write_long: price.cache_write_long_nano_usd.unwrap_or_else(|| price.input_nano_usd.saturating_mul(2)),
        output: price.output_nano_usd,
        tool_request: price.tool_request_nano_usd.unwrap_or(TOOL_REQUEST_NANO_USD),
        is_assumed: false,
        catalogue: 0,
    }
}

fn highest(one: Rate, other: Rate) -> Rate {
    Rate {
        input: one.input.max(other.input),
        cache_read: one.cache_read.max(other.cache_read),
        cache_write_short: one.cache_write_short.max(other.cache_write_short),
        cache_write_long: one.cache_write_long.max(other.cache_write_long),
        output: one.output.max(other.output),
        tool_request: one.tool_request.max(other.tool_request),
        ..one
    }
}

impl Rate {
    pub fn cost(&self, consumed: &Consumed) -> i64 {
        let parts = [
            (consumed.input, self.input),
            (consumed.cache_read, self.cache_read),
            (consumed.cache_write_short, self.cache_write_short),
            (consumed.cache_write_long, self.cache_write_long),
            (consumed.output, self.output),
            (consumed.tool_requests, self.tool_request),
        ];
        parts.into_iter().fold(0_i64, |sum, (count, each)| sum.saturating_add(count.saturating_mul(each)))
    }

    /// What a call with this much input and output costs at most, whatever caches do.
    pub fn at_most(&self, input: i64, output: i64) -> i64 {
        let dearest = self.input.max(self.cache_read).max(self.cache_write_short).max(self.cache_write_long);
        input.saturating_mul(dearest).saturating_add(output.saturating_mul(self.output))
    }
}

/// Whose money it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Whose {
    Assistant,
    Tenant,
}

/// For how long a limit holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Span {
    /// A single call.
    Call,
    /// Everything that one message of a person sets going.
    Run,
    /// A day (UTC).
    Day,
    /// A month (UTC).
    Month,
}

/// One limit, and how far it is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    pub whose: Whose,
    pub span: Span,
    pub limit: i64,
    pub spent: i64,
    /// What calls that run now may still cost.
    pub reserved: i64,
}

/// The limits that hold for a call of an assistant, the narrowest first; how far each is used up is not known yet.
pub fn accounts(assistant: &Limits, tenant: &Limits) -> Vec<Account> {
    let limits = [
        (Whose::Assistant, Span::Call, assistant.call_nano_usd),
        (Whose::Assistant, Span::Run, assistant.run_nano_usd),
        (Whose::Assistant, Span::Day, assistant.day_nano_usd),
        (Whose::Assistant, Span::Month, assistant.month_nano_usd),
        // Calls and runs are an assistant's.
        (Whose::Tenant, Span::Day, tenant.day_nano_usd),
        (Whose::Tenant, Span::Month, tenant.month_nano_usd),
    ];
    limits.into_iter().filter_map(|(whose, span, limit)| Some(Account { whose, span, limit: limit?, spent: 0, reserved: 0 })).collect()
}

/// The first limit that a call which may cost this much would break.
pub fn admit(accounts: &[Account], at_most: i64) -> Result<(), Account> {
    let breaks = |account: &&Account| account.spent.saturating_add(account.reserved).saturating_add(at_most.max(0)) > account.limit;
    accounts.iter().find(breaks).map_or(Ok(()), |account| Err(*account))
}

/// The shares at which somebody is told, in percent.
pub const ALERTS: [i64; 3] = [50, 80, 100];

/// The highest of the shares that is used up.
pub fn alert(limit: i64, spent: i64) -> Option<i64> {
    let reached = |percent: &i64| i128::from(spent) * 100 >= i128::from(limit) * i128::from(*percent);
    ALERTS.into_iter().rfind(reached)
}

/// The day of a time (UTC), as days since 1970.
pub fn day_of(wall_ms: i64) -> i64 {
    wall_ms.div_euclid(crate::bundle::DAY_MS)
}

/// The month of a time (UTC), as months since the year 0.
pub fn month_of(wall_ms: i64) -> i64 {
    // Years that begin in March, so that the leap day is the last of its year; 400 of them always have as many days.
    let days = day_of(wall_ms) + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let since_march = (5 * of_year + 2) / 153;
    (era * 400 + year) * 12 + since_march + 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::DAY_MS;
    use proptest::prelude::*;

    fn price(model: &str, input: i64, cached: i64, output: i64) -> Price {
        Price {
            provider: "p".to_owned(),
            model: model.to_owned(),
            input_nano_usd: input,
            cached_nano_usd: cached,
            output_nano_usd: output,
            cache_write_nano_usd: None,
            cache_write_long_nano_usd: None,
            tool_request_nano_usd: None,
        }
    }

    #[test]
    fn a_call_costs_what_its_kinds_of_tokens_cost() {
        let opus = Price { cache_write_nano_usd: Some(6_250), cache_write_long_nano_usd: Some(10_000), ..price("opus", 5_000, 500, 25_000) };
        let prices = Prices { catalogue: 7, models: vec![opus, price("mini", 150, 75, 600)] };
        let rate = prices.rate("p", "opus", false);
        assert_eq!((rate.is_assumed, rate.catalogue), (false, 7));
        for (consumed, cost) in [
            (Consumed { input: 1_000_000, ..Consumed::default() }, 5_000_000_000),
            (Consumed { cache_read: 1_000_000, ..Consumed::default() }, 500_000_000),
            (Consumed { cache_write_short: 1_000_000, ..Consumed::default() }, 6_250_000_000),
            (Consumed { cache_write_long: 1_000_000, ..Consumed::default() }, 10_000_000_000),
            (Consumed { output: 1_000, reasoning: 900, ..Consumed::default() }, 25_000_000),
            (Consumed { tool_requests: 2, ..Consumed::default() }, 20_000_000),
            (Consumed { input: i64::MAX, output: i64::MAX, ..Consumed::default() }, i64::MAX),
        ] {
            assert_eq!(rate.cost(&consumed), cost, "{consumed:?}");
        }
        assert_eq!(prices.rate("p", "mini", false).cost(&Consumed { cache_write_short: 4, ..Consumed::default() }), 4 * 188);
    }

    #[test]
    fn a_model_that_nobody_priced_is_never_free() {
        let dear = price("dear", 1, 1, 900_000);
        for prices in [Prices::default(), Prices { catalogue: 1, models: vec![dear] }] {
            for (provider, model) in [("p", "other"), ("other", "dear"), ("p", "DEAR")] {
                let rate = prices.rate(provider, model, false);
                assert!(rate.is_assumed && rate.cost(&Consumed { input: 1, ..Consumed::default() }) == 15_000, "{provider}/{model}");
                let output = prices.models.first().map_or(75_000, |price| price.output_nano_usd);
                assert_eq!(rate.cost(&Consumed { output: 1, ..Consumed::default() }), output);
            }
        }
        assert_eq!(Prices::default().rate("ollama", "llama", true).cost(&Consumed { output: 9, ..Consumed::default() }), 0, "it runs here");
        let priced = Prices { catalogue: 1, models: vec![price("llama", 1, 1, 2)] };
        assert_eq!(priced.rate("p", "llama", true).cost(&Consumed { output: 9, ..Consumed::default() }), 18, "unless somebody gave it a price");
    }

    #[test]
    fn the_narrowest_limit_that_would_break_is_named() {
        let limits = |call, run, day, month| Limits { call_nano_usd: call, run_nano_usd: run, day_nano_usd: day, month_nano_usd: month };
        let mut accounts = accounts(&limits(Some(10), Some(20), Some(30), None), &limits(None, None, Some(50), Some(60)));
        let spans: Vec<(Whose, Span)> = accounts.iter().map(|account| (account.whose, account.span)).collect();
        assert_eq!(
            spans,
            [
                (Whose::Assistant, Span::Call),
                (Whose::Assistant, Span::Run),
                (Whose::Assistant, Span::Day),
                (Whose::Tenant, Span::Day),
                (Whose::Tenant, Span::Month)
            ]
        );
        assert_eq!(admit(&accounts, 10), Ok(()));
        assert_eq!(admit(&accounts, 11).unwrap_err().span, Span::Call);
        accounts[1].spent = 15;
        assert_eq!((admit(&accounts, 5), admit(&accounts, 6).unwrap_err().span), (Ok(()), Span::Run));
        accounts[2].reserved = 29;
        assert_eq!(admit(&accounts, 2).unwrap_err().span, Span::Day);
        accounts[4].spent = 61;
        assert_eq!(admit(&accounts, 0).unwrap_err().whose, Whose::Tenant, "one that is broken already lets nothing through");
        assert_eq!(admit(&[], i64::MAX), Ok(()));
    }

    #[test]
    fn alerts_come_at_a_half_four_fifths_and_all() {
        for (spent, expected) in
            [(0, None), (49, None), (50, Some(50)), (79, Some(50)), (80, Some(80)), (99, Some(80)), (100, Some(100)), (i64::MAX, Some(100))]
        {
            assert_eq!(alert(100, spent), expected, "{spent}");
        }
        assert_eq!(alert(0, 0), Some(100), "nothing may be spent");
    }

    #[test]
    fn months_begin_where_the_calendar_says() {
        let day = |days: i64| days * DAY_MS;
        // 2026-11-01, 2027-01-01, 2028-02-29, 2028-03-01 and the day before each.
        for (first, month) in [(20_758, 2026 * 12 + 10), (20_819, 2027 * 12), (21_244, 2028 * 12 + 2), (0, 1970 * 12)] {
            assert_eq!((month_of(day(first)), month_of(day(first) - 1)), (month, month - 1), "day {first}");
        }
    }

    proptest! {
        /// However calls come and go, what was spent and may still be spent stays within every limit.
        #[test]
        fn calls_at_the_same_time_never_overshoot(limit in 0..1_000_i64, calls in prop::collection::vec((0..300_i64, 0..=100_i64, any::<bool>()), 0..60)) {
            let mut account = Account { whose: Whose::Assistant, span: Span::Day, limit, spent: 0, reserved: 0 };
            let mut open: Vec<(i64, i64)> = Vec::new();
            for (at_most, share, ends) in calls {
                if admit(&[account], at_most).is_ok() {
                    account.reserved += at_most;
                    open.push((at_most, at_most * share / 100));
                }
                if ends && let Some((at_most, cost)) = open.pop() {
                    account.reserved -= at_most;
                    account.spent += cost;
                }
                prop_assert!(account.spent + account.reserved <= limit);
            }
        }

        /// No caching makes a call dearer than what it reserved.
        #[test]
        fn what_is_reserved_is_enough(parts in prop::array::uniform4(0..10_000_i64), output in 0..10_000_i64, input_price in 0..9_000_i64, cached in 0..9_000_i64) {
            let prices = Prices { catalogue: 1, models: vec![price("m", input_price, cached, 7)] };
            let rate = prices.rate("p", "m", false);
            let consumed = Consumed { input: parts[0], cache_read: parts[1], cache_write_short: parts[2], cache_write_long: parts[3], output, ..Consumed::default() };
            prop_assert!(rate.cost(&consumed) <= rate.at_most(consumed.input_whole(), output));
        }
    }
}
