//! What was spent on model calls and what running ones may still cost, for each limit that can hold.
//!
//! The sums stand in the store, so a call finds room or finds none in the same transaction in which it is written down.
//! What it may cost at most is set aside then, and exchanged for what it did cost when it is settled; so calls at the same
//! time cannot spend the same money, and neither can calls on both sides of a crash.

use crate::audit::{self, Deed};
use policy::budget::{self, Account, Span, Whose};
use rusqlite::{Connection, OptionalExtension, params};
use service::Tx;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// Whose money a call takes, and out of which days and months.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Purse {
    pub assistant: String,
    /// What one message set going: the trace that its calls have in common.
    pub run: String,
    /// When the call began, to the hour. It is paid out of that day, whenever it ends.
    pub hour_ms: i64,
}

const TENANT: &str = "tenant";
/// A run is over when nothing of it was called for this long.
const RUN_LIFE_MS: i64 = 24 * 3_600_000;
/// Sums of days and months are kept this long, to be looked at.
const KEPT_MS: i64 = 400 * 24 * 3_600_000;

impl Purse {
    /// The sums that a call counts in.
    fn sums(&self) -> [(Whose, Span, &str, String); 5] {
        let (day, month) = (budget::day_of(self.hour_ms).to_string(), budget::month_of(self.hour_ms).to_string());
        [
            (Whose::Assistant, Span::Run, &self.assistant, self.run.clone()),
            (Whose::Assistant, Span::Day, &self.assistant, day.clone()),
            (Whose::Assistant, Span::Month, &self.assistant, month.clone()),
            (Whose::Tenant, Span::Day, TENANT, day),
            (Whose::Tenant, Span::Month, TENANT, month),
        ]
    }
}

fn word(span: Span) -> &'static str {
    match span {
        Span::Call => "call",
        Span::Run => "run",
        Span::Day => "day",
        Span::Month => "month",
    }
}

/// How far the limits are used up.
pub(crate) fn standing(connection: &Connection, purse: &Purse, mut accounts: Vec<Account>) -> rusqlite::Result<Vec<Account>> {
    let mut look = connection.prepare_cached("SELECT spent_nano_usd, reserved_nano_usd FROM spending WHERE whose = ?1 AND span = ?2 AND part = ?3")?;
    for (whose, span, name, part) in purse.sums() {
        let Some(account) = accounts.iter_mut().find(|account| (account.whose, account.span) == (whose, span)) else { continue };
        let sums = look.query_row(params![name, word(span), part], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        (account.spent, account.reserved) = sums.unwrap_or((0, 0));
    }
    Ok(accounts)
}

/// What a call takes out of a purse, within these limits.
pub(crate) struct Taking<'a> {
    pub purse: &'a Purse,
    pub limits: &'a [Account],
    /// What it may cost.
    pub at_most: i64,
}

/// One row: whose, which span, which run or day or month.
type Sum = (String, &'static str, String);

/// Sets aside what calls may cost at most, one after the other, or says which limit has no room for a call. Calls that come
/// at the same time mostly count in the same sums, and each sum is read and written once.
pub(crate) fn reserve(tx: &Tx, calls: &[Taking<'_>], now_ms: i64) -> rusqlite::Result<Vec<Result<(), Account>>> {
    let mut look = tx.prepare_cached("SELECT spent_nano_usd, reserved_nano_usd FROM spending WHERE whose = ?1 AND span = ?2 AND part = ?3")?;
    // What was spent and reserved before, and what is reserved now.
    let mut sums: BTreeMap<Sum, (i64, i64, Option<i64>)> = BTreeMap::new();
    let mut outcomes = Vec::with_capacity(calls.len());
    for Taking { purse, limits, at_most } in calls {
        let mut accounts = limits.to_vec();
        let counted_in = purse.sums();
        for (whose, span, name, part) in &counted_in {
            let (spent, before, now) = match sums.entry(((*name).to_owned(), word(*span), part.clone())) {
                Entry::Occupied(known) => *known.into_mut(),
                Entry::Vacant(place) => {
                    let found = look.query_row(params![name, word(*span), part], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
                    let (spent, reserved) = found.unwrap_or((0, 0));
                    *place.insert((spent, reserved, None))
                }
            };
            if let Some(account) = accounts.iter_mut().find(|account| (account.whose, account.span) == (*whose, *span)) {
                (account.spent, account.reserved) = (spent, before.saturating_add(now.unwrap_or(0)));
            }
        }
        if let Err(account) = budget::admit(&accounts, *at_most) {
            outcomes.push(Err(account));
            continue;
        }
        for (_, span, name, part) in counted_in {
            let (.., now) = sums.entry((name.to_owned(), word(span), part)).or_default();
            *now = Some(now.unwrap_or(0).saturating_add(*at_most));
        }
        outcomes.push(Ok(()));
    }
    let sql = "INSERT INTO spending (whose, span, part, spent_nano_usd, reserved_nano_usd, touched_ms) VALUES (?1, ?2, ?3, 0, ?4, ?5)
         ON CONFLICT (whose, span, part) DO UPDATE SET reserved_nano_usd = reserved_nano_usd + excluded.reserved_nano_usd, touched_ms = excluded.touched_ms";
    let mut add = tx.prepare_cached(sql)?;
    for ((name, span, part), (.., now)) in &sums {
        if let Some(now) = now {
            add.execute(params![name, span, part, now, now_ms])?;
        }
    }
    Ok(outcomes)
}

/// Exchanges what was set aside for what calls did cost, with each of them. The first time that a limit is half, four fifths
/// or all used up, the audit says so.
pub(crate) fn settle(tx: &Tx, calls: &[(Taking<'_>, i64)], now_ms: i64) -> rusqlite::Result<()> {
    let sql = "UPDATE spending SET spent_nano_usd = spent_nano_usd + ?4, reserved_nano_usd = max(0, reserved_nano_usd - ?5), touched_ms = ?6
         WHERE whose = ?1 AND span = ?2 AND part = ?3 RETURNING spent_nano_usd, alerted";
    let mut exchange = tx.prepare_cached(sql)?;
    // What each cost, what was set aside, and the limit.
    let mut sums: BTreeMap<Sum, (Vec<i64>, i64, Option<i64>)> = BTreeMap::new();
    for (Taking { purse, limits, at_most }, cost) in calls {
        for (whose, span, name, part) in purse.sums() {
            let limit = limits.iter().find(|account| (account.whose, account.span) == (whose, span)).map(|account| account.limit);
            let sum = sums.entry((name.to_owned(), word(span), part)).or_default();
            sum.0.push(*cost);
            sum.1 = sum.1.saturating_add(*at_most);
            sum.2 = limit.filter(|_| span != Span::Run).or(sum.2);
        }
    }
    for ((name, span, part), (costs, at_most, limit)) in &sums {
        let cost: i64 = costs.iter().copied().fold(0, i64::saturating_add);
        let row = exchange.query_row(params![name, span, part, cost, at_most, now_ms], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)));
        let Some((spent, mut alerted)) = row.optional()? else { continue };
        let mut so_far = spent.saturating_sub(cost);
        for cost in costs {
            so_far = so_far.saturating_add(*cost);
            let reached = limit.and_then(|limit| budget::alert(limit, so_far)).filter(|percent| *percent > alerted);
            let Some(percent) = reached else { continue };
            alerted = percent;
            tx.execute("UPDATE spending SET alerted = ?4 WHERE whose = ?1 AND span = ?2 AND part = ?3", params![name, span, part, percent])?;
            audit::note(tx, now_ms, &Deed { actor: "agent", deed: "budget_alert", subject: name, detail: &format!("{percent} % of the {span}") })?;
            tracing::warn!(whose = name, span, percent, "a budget is used up to this share");
        }
    }
    Ok(())
}

/// Forgets runs that are over, and days of long ago.
pub(crate) fn forget_old(tx: &Tx, now_ms: i64) -> rusqlite::Result<()> {
    let sql = "DELETE FROM spending WHERE reserved_nano_usd = 0 AND touched_ms < CASE span WHEN 'run' THEN ?1 ELSE ?2 END";
    tx.prepare_cached(sql)?.execute([now_ms - RUN_LIFE_MS, now_ms - KEPT_MS])?;
    Ok(())
}
