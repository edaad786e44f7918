//! Counted model calls: one row an hour, assistant, provider and model, with absolute counters; and the room in the budget
//! that each call takes.
//!
//! A call is written down before it starts and settled before its last byte is released. Whatever is still open when the
//! agent starts was cut off and counts once as partial, at the price that it could have had at most. Rows go to the hub
//! until it says that it has them.

use crate::budget::{self, Purse};
use crate::identity::parsed;
use policy::budget::{Account, Consumed, Rate};
use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter};
use serde::Serialize;
use service::store::{Result, StoreError};
use service::{Clock, Store, Tx};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, LazyLock};
use tokio::sync::watch;
use wire::AssistantId;
use wire::usage::{Counters, DAY_MS, HOUR_MS, UsageDay, UsageRow};

#[derive(Clone)]
pub struct Metering {
    store: Store,
    clock: Clock,
    changes: Arc<watch::Sender<u64>>,
    /// The hour in which old sums were looked for last.
    swept: Arc<AtomicI64>,
}

/// How sure the count of a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quality {
    /// The provider said it all.
    Exact,
    /// It broke off: what was said until then, and the rest reckoned.
    Partial,
    /// It came to its end, and the provider did not say what it used: reckoned.
    Estimated,
}

/// What one call used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    pub consumed: Consumed,
    /// What the provider itself says that it cost.
    pub provider_cost: Option<i64>,
    pub quality: Quality,
}

impl Counted {
    /// The provider refused, and takes nothing for that.
    pub const NOTHING: Counted = Counted {
        consumed: Consumed { input: 0, cache_read: 0, cache_write_short: 0, cache_write_long: 0, output: 0, reasoning: 0, tool_requests: 0 },
        provider_cost: None,
        quality: Quality::Exact,
    };
}

/// A call that is about to be sent.
#[derive(Clone, Debug)]
pub struct NewCall {
    pub assistant: AssistantId,
    pub provider: String,
    pub model: String,
    /// The trace that it has in common with everything that the same message set going.
    pub run: String,
    pub rate: Rate,
    /// What it can cost at most.
    pub at_most: i64,
    pub limits: Vec<Account>,
    /// The digest of what every request of the assistant should begin with.
    pub prefix: Option<String>,
}

/// What requests of an assistant begin with: as long as it stays the same, a provider's cache can give it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Prefix {
    pub assistant: String,
    pub model: String,
    pub digest: String,
    pub first_ms: i64,
    pub last_ms: i64,
    pub calls: i64,
}

/// A call that has been written down and not yet settled.
#[derive(Debug)]
pub struct OpenCall {
    id: i64,
    rate: Rate,
    limits: Vec<Account>,
}

/// Why a call was not written down.
#[derive(Debug)]
pub enum NotBegun {
    /// This limit has no room for it.
    Exhausted(Account),
    Store(StoreError),
}

impl From<StoreError> for NotBegun {
    fn from(error: StoreError) -> NotBegun {
        NotBegun::Store(error)
    }
}

impl From<rusqlite::Error> for NotBegun {
    fn from(error: rusqlite::Error) -> NotBegun {
        NotBegun::Store(error.into())
    }
}

/// Beginnings of requests that are kept for each assistant and model.
const PREFIXES_MAX: i64 = 8;
/// Rows that go to the hub in one frame.
const ROWS_MAX: i64 = 500;

impl Metering {
    /// Settles what a crash left open.
    pub async fn start(store: Store, clock: Clock) -> Result<Metering> {
        let now_ms = clock.wall_ms();
        let cut_off = store.write(move |tx| {
            let mut open = Vec::new();
            let mut rows = tx.prepare("SELECT id FROM model_call")?;
            for id in rows.query_map([], |row| row.get(0))? {
                open.push(id?);
            }
            open.iter().try_for_each(|id| settle(tx, *id, &Ended::CutOff, now_ms))?;
            budget::forget_old(tx, now_ms)?;
            Ok::<_, StoreError>(open.len())
        });
        let cut_off = cut_off.await?;
        if cut_off > 0 {
            tracing::warn!(calls = cut_off, "model calls were cut off by the last stop; counted as partial");
        }
        Ok(Metering { store, clock, changes: Arc::new(watch::Sender::new(0)), swept: Arc::new(AtomicI64::new(now_ms.div_euclid(HOUR_MS))) })
    }

    /// Writes a call down and sets aside what it may cost, if every limit has room for that.
    pub async fn begin(&self, call: NewCall) -> std::result::Result<OpenCall, NotBegun> {
        let now_ms = self.clock.wall_ms();
        let purse = Purse { assistant: call.assistant.to_string(), run: call.run, hour_ms: now_ms.div_euclid(HOUR_MS) * HOUR_MS };
        let (rate, limits, at_most) = (call.rate, call.limits.clone(), call.at_most);
        let unpriced = i64::from(rate.is_assumed);
        let id = self.store.write(move |tx| {
            budget::reserve(tx, &purse, call.limits, at_most, now_ms)?.map_err(NotBegun::Exhausted)?;
            let sql = "INSERT INTO model_call (hour_ms, assistant, provider, model, run, at_most_nano_usd, catalogue, unpriced)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
            let row = params![purse.hour_ms, purse.assistant, call.provider, call.model, purse.run, at_most, rate.catalogue, unpriced];
            tx.prepare_cached(sql)?.execute(row)?;
            let id = tx.last_insert_rowid();
            if let Some(digest) = &call.prefix {
                note_prefix(tx, &purse.assistant, &call.model, digest, now_ms)?;
            }
            Ok::<_, NotBegun>(id)
        });
        Ok(OpenCall { id: id.await?, rate, limits })
    }

    pub async fn settle(&self, call: OpenCall, counted: Counted) -> Result<()> {
        let now_ms = self.clock.wall_ms();
        let OpenCall { id, rate, limits } = call;
        self.store.write(move |tx| Ok::<_, StoreError>(settle(tx, id, &Ended::Known { counted, rate, limits }, now_ms)?)).await?;
        self.changes.send_modify(|n| *n += 1);
        Ok(())
    }

    /// A call that never reached the provider costs nothing and is not counted.
    pub async fn abandon(&self, call: OpenCall) -> Result<()> {
        let now_ms = self.clock.wall_ms();
        self.store
            .write(move |tx| {
                if let Some(row) = take(tx, call.id)? {
                    budget::settle(tx, &row.purse, &[], row.at_most, 0, now_ms)?;
                }
                Ok(())
            })
            .await
    }

    /// How far an assistant's and its tenant's limits are used up now.
    pub async fn standing(&self, assistant: AssistantId, limits: Vec<Account>) -> Result<Vec<Account>> {
        let purse = Purse { assistant: assistant.to_string(), run: String::new(), hour_ms: self.clock.wall_ms() };
        self.store.read(move |c| budget::standing(c, &purse, limits)).await
    }

    /// Forgets what nobody asks about any more, once an hour.
    pub async fn sweep(&self) -> Result<()> {
        let now_ms = self.clock.wall_ms();
        let hour = now_ms.div_euclid(HOUR_MS);
        if self.swept.swap(hour, Ordering::Relaxed) == hour {
            return Ok(());
        }
        self.store.write(move |tx| Ok(budget::forget_old(tx, now_ms)?)).await
    }

    /// The newest beginnings of requests, newest first.
    pub async fn prefixes(&self) -> Result<Vec<Prefix>> {
        let sql = "SELECT assistant, model, digest, first_ms, last_ms, calls FROM prompt_prefix ORDER BY last_ms DESC LIMIT ?1";
        let prefix = |row: &Row<'_>| {
            Ok(Prefix { assistant: row.get(0)?, model: row.get(1)?, digest: row.get(2)?, first_ms: row.get(3)?, last_ms: row.get(4)?, calls: row.get(5)? })
        };
        self.store.read(move |c| c.prepare_cached(sql)?.query_map([PREFIXES_MAX], prefix)?.collect()).await
    }

    pub async fn today(&self) -> Result<UsageDay> {
        let day_ms = self.clock.wall_ms().div_euclid(DAY_MS) * DAY_MS;
        self.store.read(move |c| day(c, day_ms)).await
    }

    /// Rows that the hub does not have yet.
    pub async fn unsent(&self) -> Result<Vec<UsageRow>> {
        let columns = Counters::COLUMNS.join(", ");
        let sql =
            format!("SELECT hour_ms, assistant, provider, model, seq, catalogue, {columns} FROM usage_hour WHERE seq > acked_seq ORDER BY hour_ms LIMIT ?1");
        self.store.read(move |c| c.prepare_cached(&sql)?.query_map([ROWS_MAX], row_of)?.collect()).await
    }

    /// The hub has these rows, as they were when they were sent.
    pub async fn acked(&self, rows: Vec<UsageRow>) -> Result<()> {
        self.store
            .write(move |tx| {
                let sql = "UPDATE usage_hour SET acked_seq = max(acked_seq, ?5) WHERE hour_ms = ?1 AND assistant = ?2 AND provider = ?3 AND model = ?4";
                let mut update = tx.prepare_cached(sql)?;
                for row in &rows {
                    update.execute(params![row.hour_ms, row.assistant.to_string(), row.provider, row.model, row.seq])?;
                }
                Ok(())
            })
            .await
    }

    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

fn note_prefix(tx: &Tx, assistant: &str, model: &str, digest: &str, now_ms: i64) -> rusqlite::Result<()> {
    let sql = "UPDATE prompt_prefix SET last_ms = ?4, calls = calls + 1 WHERE assistant = ?1 AND model = ?2 AND digest = ?3";
    if tx.prepare_cached(sql)?.execute(params![assistant, model, digest, now_ms])? > 0 {
        return Ok(());
    }
    let sql = "INSERT INTO prompt_prefix (assistant, model, digest, first_ms, last_ms, calls) VALUES (?1, ?2, ?3, ?4, ?4, 1)";
    tx.prepare_cached(sql)?.execute(params![assistant, model, digest, now_ms])?;
    let sql = "DELETE FROM prompt_prefix WHERE assistant = ?1 AND model = ?2 AND digest NOT IN
         (SELECT digest FROM prompt_prefix WHERE assistant = ?1 AND model = ?2 ORDER BY last_ms DESC, first_ms DESC LIMIT ?3)";
    tx.prepare_cached(sql)?.execute(params![assistant, model, PREFIXES_MAX])?;
    Ok(())
}

/// How a call ended.
enum Ended {
    Known {
        counted: Counted,
        rate: Rate,
        limits: Vec<Account>,
    },
    /// With the agent. What it used nobody knows; it may have cost all that was set aside.
    CutOff,
}

/// A call as it was written down.
struct Written {
    purse: Purse,
    provider: String,
    model: String,
    at_most: i64,
    catalogue: i64,
    unpriced: i64,
}

fn take(tx: &Tx, id: i64) -> rusqlite::Result<Option<Written>> {
    let sql = "DELETE FROM model_call WHERE id = ?1 RETURNING hour_ms, assistant, run, provider, model, at_most_nano_usd, catalogue, unpriced";
    let written = |row: &Row<'_>| {
        Ok(Written {
            purse: Purse { hour_ms: row.get(0)?, assistant: row.get(1)?, run: row.get(2)? },
            provider: row.get(3)?,
            model: row.get(4)?,
            at_most: row.get(5)?,
            catalogue: row.get(6)?,
            unpriced: row.get(7)?,
        })
    };
    tx.prepare_cached(sql)?.query_row([id], written).optional()
}

fn settle(tx: &Tx, id: i64, ended: &Ended, now_ms: i64) -> rusqlite::Result<()> {
    let Some(Written { purse, provider, model, at_most, catalogue, unpriced }) = take(tx, id)? else { return Ok(()) };
    let counters = match ended {
        Ended::CutOff => Counters { calls: 1, partial: 1, cost_nano_usd: at_most, unpriced, ..Counters::default() },
        Ended::Known { counted: Counted { consumed, provider_cost, quality }, rate, .. } => Counters {
            calls: 1,
            partial: i64::from(*quality == Quality::Partial),
            estimated: i64::from(*quality == Quality::Estimated),
            input_tokens: consumed.input_whole(),
            cached_tokens: consumed.cache_read,
            cache_write_tokens: consumed.cache_write(),
            cache_write_long_tokens: consumed.cache_write_long,
            output_tokens: consumed.output,
            reasoning_tokens: consumed.reasoning,
            tool_requests: consumed.tool_requests,
            cost_nano_usd: provider_cost.unwrap_or_else(|| rate.cost(consumed)),
            unpriced,
        },
    };
    let limits: &[Account] = match ended {
        Ended::Known { limits, .. } => limits,
        Ended::CutOff => &[],
    };
    budget::settle(tx, &purse, limits, at_most, counters.cost_nano_usd, now_ms)?;
    let key = params![purse.hour_ms, purse.assistant, provider, model, catalogue];
    let values = counters.values();
    tx.prepare_cached(&ADD)?.execute(params_from_iter(key.iter().copied().chain(values.iter().map(|value| value as &dyn rusqlite::ToSql))))?;
    Ok(())
}

/// Adds one call to its hour.
static ADD: LazyLock<String> = LazyLock::new(|| {
    let columns = Counters::COLUMNS.join(", ");
    let marks = ["?"; Counters::COLUMNS.len()].join(", ");
    let more = Counters::COLUMNS.map(|column| format!("{column} = {column} + excluded.{column}")).join(", ");
    format!(
        "INSERT INTO usage_hour (hour_ms, assistant, provider, model, catalogue, {columns}, seq) VALUES (?, ?, ?, ?, ?, {marks}, 1)
         ON CONFLICT (hour_ms, assistant, provider, model) DO UPDATE SET seq = seq + 1, catalogue = excluded.catalogue, {more}"
    )
});

fn day(connection: &Connection, day_ms: i64) -> rusqlite::Result<UsageDay> {
    let sums = Counters::COLUMNS.map(|column| format!("coalesce(sum({column}), 0)")).join(", ");
    let sql = format!("SELECT {sums} FROM usage_hour WHERE hour_ms >= ?1 AND hour_ms < ?2");
    connection.query_row(&sql, [day_ms, day_ms + DAY_MS], |row| Ok(UsageDay { day_ms, counters: counters(row, 0)? }))
}

/// The counters, from this column on.
fn counters(row: &Row<'_>, from: usize) -> rusqlite::Result<Counters> {
    let mut values = [0; Counters::COLUMNS.len()];
    values.iter_mut().enumerate().try_for_each(|(n, value)| row.get(from + n).map(|found| *value = found))?;
    Ok(Counters::of(values))
}

fn row_of(row: &Row<'_>) -> rusqlite::Result<UsageRow> {
    Ok(UsageRow {
        hour_ms: row.get(0)?,
        assistant: parsed(row, 1)?,
        provider: row.get(2)?,
        model: row.get(3)?,
        seq: row.get(4)?,
        catalogue: row.get(5)?,
        counters: counters(row, 6)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MIGRATIONS;
    use policy::budget::{Span, Whose, accounts};
    use policy::bundle::{Limits, Prices};
    use std::path::PathBuf;

    fn assistant() -> AssistantId {
        AssistantId::new(1)
    }

    /// What nobody gave a price for: 15000 for input, 75000 for output.
    const CONSUMED: Consumed = Consumed { input: 80, cache_read: 20, cache_write_short: 0, cache_write_long: 0, output: 7, reasoning: 3, tool_requests: 1 };
    const COST: i64 = 100 * 15_000 + 7 * 75_000 + 10_000_000;

    async fn opened(clock: &Clock) -> (PathBuf, Store, Metering) {
        let folder = std::env::temp_dir().join(service::random::token());
        std::fs::create_dir_all(&folder).unwrap();
        let store = Store::open(&folder.join("a.db"), MIGRATIONS).unwrap();
        let metering = Metering::start(store.clone(), clock.clone()).await.unwrap();
        (folder, store, metering)
    }

    fn new_call(at_most: i64, limits: Vec<Account>) -> NewCall {
        let rate = Prices { catalogue: 4, ..Prices::default() }.rate("p", "m", false);
        NewCall { assistant: assistant(), provider: "p".into(), model: "m".into(), run: "r".into(), rate, at_most, limits, prefix: None }
    }

    fn counted(consumed: Consumed, quality: Quality) -> Counted {
        Counted { consumed, provider_cost: None, quality }
    }

    #[tokio::test]
    async fn a_call_counts_once_whatever_happens_to_it() {
        let clock = Clock::manual(10 * DAY_MS + HOUR_MS - 1);
        let (folder, store, metering) = opened(&clock).await;
        let begin = async || metering.begin(new_call(1_000, Vec::new())).await.unwrap();
        let (whole, broken, reckoned, told, abandoned, _crashed) = (begin().await, begin().await, begin().await, begin().await, begin().await, begin().await);
        clock.advance(1);
        metering.settle(whole, counted(CONSUMED, Quality::Exact)).await.unwrap();
        metering.settle(broken, counted(Consumed { output: 0, reasoning: 0, ..CONSUMED }, Quality::Partial)).await.unwrap();
        metering.settle(reckoned, counted(CONSUMED, Quality::Estimated)).await.unwrap();
        let own = Counted { provider_cost: Some(5), ..counted(CONSUMED, Quality::Exact) };
        metering.settle(told, own).await.unwrap();
        metering.abandon(abandoned).await.unwrap();
        let sent = metering.unsent().await.unwrap();
        let again = Metering::start(store, clock).await.unwrap();
        let counters = Counters {
            calls: 5,
            partial: 2,
            estimated: 1,
            input_tokens: 400,
            cached_tokens: 80,
            output_tokens: 21,
            reasoning_tokens: 9,
            tool_requests: 4,
            cost_nano_usd: 3 * COST - 7 * 75_000 + 5 + 1_000,
            unpriced: 5,
            ..Counters::default()
        };
        assert_eq!(again.today().await.unwrap(), UsageDay { day_ms: 10 * DAY_MS, counters });
        assert_eq!((sent.len(), sent[0].hour_ms, sent[0].seq, sent[0].catalogue), (1, 10 * DAY_MS, 4, 4), "the hour is the one in which the call began");
        again.acked(sent).await.unwrap();
        let unsent = again.unsent().await.unwrap();
        assert_eq!((unsent.len(), unsent[0].seq), (1, 5), "a row that changed after it was sent is sent again");
        again.acked(unsent).await.unwrap();
        assert_eq!(again.unsent().await.unwrap(), []);
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[tokio::test]
    async fn beginnings_of_requests_are_told_apart_and_few_are_kept() {
        let clock = Clock::manual(0);
        let (folder, _, metering) = opened(&clock).await;
        for n in [0, 1, 0, 2, 3, 4, 5, 6, 7, 8, 0] {
            clock.advance(1);
            let call = NewCall { prefix: Some(format!("p{n}")), ..new_call(0, Vec::new()) };
            metering.begin(call).await.unwrap();
        }
        let kept = metering.prefixes().await.unwrap();
        let first = Prefix { assistant: assistant().to_string(), model: "m".into(), digest: "p0".into(), first_ms: 1, last_ms: 11, calls: 3 };
        assert_eq!((kept.len(), &kept[0]), (8, &first));
        assert!(kept.iter().all(|prefix| prefix.digest != "p1"), "the oldest went");
        std::fs::remove_dir_all(folder).unwrap();
    }

    fn limits(run: i64, day: i64) -> Vec<Account> {
        let own = Limits { run_nano_usd: Some(run), day_nano_usd: Some(day), ..Limits::default() };
        accounts(&own, &Limits { day_nano_usd: Some(day), ..Limits::default() })
    }

    #[tokio::test]
    async fn a_thousand_calls_at_once_spend_no_more_than_there_is() {
        let (folder, store, metering) = opened(&Clock::manual(0)).await;
        let limit = COST * 100;
        let calls: Vec<_> = (0..1_000)
            .map(|_| {
                let metering = metering.clone();
                tokio::spawn(async move {
                    let Ok(call) = metering.begin(new_call(COST, limits(i64::MAX, limit))).await else { return 0 };
                    metering.settle(call, counted(CONSUMED, Quality::Exact)).await.unwrap();
                    1
                })
            })
            .collect();
        let mut went = 0;
        for call in calls {
            went += call.await.unwrap();
        }
        assert_eq!(went, 100, "each call costs what it reserved");
        assert_eq!(metering.today().await.unwrap().counters.cost_nano_usd, limit);
        let alerts = "SELECT detail FROM audit WHERE deed = 'budget_alert' AND subject = 'tenant' ORDER BY n";
        let alerts: Vec<String> = store.read(move |c| c.prepare(alerts)?.query_map([], |row| row.get(0))?.collect()).await.unwrap();
        assert_eq!(alerts, ["50 % of the day", "80 % of the day", "100 % of the day"], "each is told once");
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[tokio::test]
    async fn a_crash_frees_nothing_and_a_new_day_does() {
        let clock = Clock::manual(DAY_MS - HOUR_MS);
        let (folder, store, metering) = opened(&clock).await;
        let full = async |metering: &Metering| match metering.begin(new_call(60, limits(100, 150))).await {
            Err(NotBegun::Exhausted(account)) => Some(account),
            begun => {
                metering.abandon(begun.unwrap()).await.unwrap();
                None
            }
        };
        let _open = metering.begin(new_call(60, limits(100, 150))).await.unwrap();
        assert_eq!(full(&metering).await.map(|account| (account.span, account.reserved)), Some((Span::Run, 60)));
        let metering = Metering::start(store, clock.clone()).await.unwrap();
        let account = full(&metering).await.unwrap();
        assert_eq!((account.whose, account.span, account.spent, account.reserved), (Whose::Assistant, Span::Run, 60, 0), "it may have cost all of it");
        let other = NewCall { run: "another".into(), ..new_call(90, limits(100, 150)) };
        let call = metering.begin(other.clone()).await.unwrap();
        let next = NewCall { run: "a third".into(), at_most: 1, ..other };
        assert!(matches!(metering.begin(next.clone()).await, Err(NotBegun::Exhausted(account)) if account.span == Span::Day));
        clock.advance(HOUR_MS as u64);
        assert!(metering.begin(next).await.is_ok());
        metering.settle(call, Counted { provider_cost: Some(90), ..Counted::NOTHING }).await.unwrap();
        let day = metering.standing(assistant(), limits(100, 150)).await.unwrap();
        let tenant = day.iter().find(|account| account.whose == Whose::Tenant).unwrap();
        assert_eq!((tenant.spent, tenant.reserved), (0, 1), "a call is paid out of the day in which it began");
        clock.advance(2 * DAY_MS as u64);
        metering.sweep().await.unwrap();
        assert_eq!(full(&metering).await, None, "a run that was over long ago is forgotten");
        std::fs::remove_dir_all(folder).unwrap();
    }
}
