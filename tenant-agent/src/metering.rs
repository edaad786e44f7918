//! Counted model calls: one row an hour, assistant, provider and model, with absolute counters; and the room in the budget
//! that each call takes.
//!
//! A call is written down before it starts and settled before its last byte is released. Whatever is still open when the
//! agent starts was cut off and counts once as partial, at the price that it could have had at most. Rows go to the hub
//! until it says that it has them.

use crate::budget::{self, Purse, Taking};
use crate::identity::parsed;
use policy::budget::{Account, Consumed, Rate};
use rusqlite::{Connection, Row, params, params_from_iter};
use serde::Serialize;
use service::store::{Result, StoreError};
use service::{Clock, Store, Tx};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use tokio::sync::{oneshot, watch};
use wire::AssistantId;
use wire::usage::{Counters, DAY_MS, HOUR_MS, UsageDay, UsageRow};

#[derive(Clone)]
pub struct Metering {
    store: Store,
    clock: Clock,
    changes: Arc<watch::Sender<u64>>,
    /// The hour in which old sums were looked for last.
    swept: Arc<AtomicI64>,
    waiting: Arc<Mutex<Waiting>>,
}

/// Calls that begin and end while the writer is busy: it takes all of them at once, because they mostly count in the same rows.
/// Each call waits here once at a time, so the connections of the door bound how many there are.
#[derive(Default)]
struct Waiting {
    begins: Vec<(Begin, oneshot::Sender<std::result::Result<i64, NotBegun>>)>,
    ends: Vec<(End, oneshot::Sender<Result<()>>)>,
}

struct Begin {
    written: Written,
    limits: Vec<Account>,
    prefix: Option<String>,
}

struct End {
    id: i64,
    written: Written,
    limits: Vec<Account>,
    ended: Ended,
}

/// The writer's share of what waits. If it never comes to take it, whoever waits is told so.
struct Gathered(Option<Arc<Mutex<Waiting>>>);

impl Gathered {
    fn take(mut self) -> Waiting {
        self.0.take().map(|waiting| std::mem::take(&mut *lock(&waiting))).unwrap_or_default()
    }
}

impl Drop for Gathered {
    fn drop(&mut self) {
        if let Some(waiting) = self.0.take() {
            drop(std::mem::take(&mut *lock(&waiting)));
        }
    }
}

fn lock(waiting: &Mutex<Waiting>) -> MutexGuard<'_, Waiting> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
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
    written: Written,
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
            let ends = open(tx)?;
            settle(tx, &ends, now_ms)?;
            budget::forget_old(tx, now_ms)?;
            Ok::<_, StoreError>(ends.len())
        });
        let cut_off = cut_off.await?;
        if cut_off > 0 {
            tracing::warn!(calls = cut_off, "model calls were cut off by the last stop; counted as partial");
        }
        let swept = Arc::new(AtomicI64::new(now_ms.div_euclid(HOUR_MS)));
        Ok(Metering { store, clock, changes: Arc::new(watch::Sender::new(0)), swept, waiting: Arc::default() })
    }

    /// Writes a call down and sets aside what it may cost, if every limit has room for that.
    pub async fn begin(&self, call: NewCall) -> std::result::Result<OpenCall, NotBegun> {
        let hour_ms = self.clock.wall_ms().div_euclid(HOUR_MS) * HOUR_MS;
        let NewCall { assistant, provider, model, run, rate, at_most, limits, prefix } = call;
        let purse = Purse { assistant: assistant.to_string(), run, hour_ms };
        let written = Written { purse, provider, model, at_most, catalogue: rate.catalogue, unpriced: i64::from(rate.is_assumed) };
        let begin = Begin { written: written.clone(), limits: limits.clone(), prefix };
        let (answer, answered) = oneshot::channel();
        self.wait(|waiting| waiting.begins.push((begin, answer))).await?;
        let id = answered.await.map_err(|_| StoreError::Stopped)??;
        Ok(OpenCall { id, written, rate, limits })
    }

    pub async fn settle(&self, call: OpenCall, counted: Counted) -> Result<()> {
        let OpenCall { id, written, rate, limits } = call;
        self.end(End { id, written, limits, ended: Ended::Known { counted, rate } }).await?;
        self.changes.send_modify(|n| *n += 1);
        Ok(())
    }

    /// A call that never reached the provider costs nothing and is not counted.
    pub async fn abandon(&self, call: OpenCall) -> Result<()> {
        let OpenCall { id, written, limits, .. } = call;
        self.end(End { id, written, limits, ended: Ended::Abandoned }).await
    }

    async fn end(&self, end: End) -> Result<()> {
        let (answer, answered) = oneshot::channel();
        self.wait(|waiting| waiting.ends.push((end, answer))).await?;
        answered.await.map_err(|_| StoreError::Stopped)?
    }

    /// Leaves something for the writer; whoever finds nothing there calls it.
    async fn wait(&self, leave: impl FnOnce(&mut Waiting)) -> Result<()> {
        // From here on nobody is interrupted: who left something has called.
        let turn = self.store.turn().await?;
        {
            let mut waiting = lock(&self.waiting);
            let is_called = !waiting.begins.is_empty() || !waiting.ends.is_empty();
            leave(&mut waiting);
            if is_called {
                return Ok(());
            }
        }
        let (gathered, now_ms) = (Gathered(Some(self.waiting.clone())), self.clock.wall_ms());
        let answers = Arc::new(Mutex::new((Vec::new(), Vec::new())));
        let told = answers.clone();
        let work = move |tx: &Tx| {
            let Waiting { begins, ends } = gathered.take();
            let (begins, to_begun): (Vec<_>, Vec<_>) = begins.into_iter().unzip();
            let (ends, to_ended): (Vec<_>, Vec<_>) = ends.into_iter().unzip();
            *told.lock().unwrap_or_else(PoisonError::into_inner) = (to_begun, to_ended);
            // What ends makes room for what begins.
            settle(tx, &ends, now_ms)?;
            Ok::<_, StoreError>(write_down(tx, begins, now_ms)?)
        };
        turn.write(work, move |outcome| {
            let (to_begun, to_ended) = std::mem::take(&mut *answers.lock().unwrap_or_else(PoisonError::into_inner));
            let failed = outcome.as_ref().err().map(ToString::to_string);
            let again = || failed.clone().map_or(StoreError::Stopped, StoreError::Commit);
            let begun = outcome.ok();
            // Whoever waited may have gone; what was written stands.
            to_ended.into_iter().for_each(|answer| drop(answer.send(if begun.is_some() { Ok(()) } else { Err(again()) })));
            let mut begun = begun.into_iter().flatten();
            for answer in to_begun {
                let outcome = begun.next().map_or_else(|| Err(NotBegun::Store(again())), |begun| begun.map_err(NotBegun::Exhausted));
                drop(answer.send(outcome));
            }
        });
        Ok(())
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

/// Writes calls down, each if every limit has room for it; the numbers they got, in their order.
fn write_down(tx: &Tx, begins: Vec<Begin>, now_ms: i64) -> rusqlite::Result<Vec<std::result::Result<i64, Account>>> {
    let takings: Vec<Taking> = begins.iter().map(|begin| begin.written.taking(&begin.limits)).collect();
    let admitted = budget::reserve(tx, &takings, now_ms)?;
    let sql = "INSERT INTO model_call (hour_ms, assistant, provider, model, run, at_most_nano_usd, catalogue, unpriced)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    let mut insert = tx.prepare_cached(sql)?;
    let mut prefixes: BTreeMap<(&str, &str, &str), i64> = BTreeMap::new();
    let mut outcomes = Vec::with_capacity(begins.len());
    for (Begin { written, prefix, .. }, admitted) in begins.iter().zip(admitted) {
        if let Err(account) = admitted {
            outcomes.push(Err(account));
            continue;
        }
        let Written { purse, provider, model, at_most, catalogue, unpriced } = written;
        insert.execute(params![purse.hour_ms, purse.assistant, provider, model, purse.run, at_most, catalogue, unpriced])?;
        outcomes.push(Ok(tx.last_insert_rowid()));
        if let Some(digest) = prefix {
            *prefixes.entry((&purse.assistant, model, digest)).or_default() += 1;
        }
    }
    for ((assistant, model, digest), calls) in prefixes {
        note_prefix(tx, assistant, model, digest, calls, now_ms)?;
    }
    Ok(outcomes)
}

fn note_prefix(tx: &Tx, assistant: &str, model: &str, digest: &str, calls: i64, now_ms: i64) -> rusqlite::Result<()> {
    let sql = "UPDATE prompt_prefix SET last_ms = ?4, calls = calls + ?5 WHERE assistant = ?1 AND model = ?2 AND digest = ?3";
    if tx.prepare_cached(sql)?.execute(params![assistant, model, digest, now_ms, calls])? > 0 {
        return Ok(());
    }
    let sql = "INSERT INTO prompt_prefix (assistant, model, digest, first_ms, last_ms, calls) VALUES (?1, ?2, ?3, ?4, ?4, ?5)";
    tx.prepare_cached(sql)?.execute(params![assistant, model, digest, now_ms, calls])?;
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
    },
    /// With the agent. What it used nobody knows; it may have cost all that was set aside.
    CutOff,
    /// It never left.
    Abandoned,
}

/// A call as it was written down.
#[derive(Clone, Debug)]
struct Written {
    purse: Purse,
    provider: String,
    model: String,
    at_most: i64,
    catalogue: i64,
    unpriced: i64,
}

impl Written {
    fn taking<'a>(&'a self, limits: &'a [Account]) -> Taking<'a> {
        Taking { purse: &self.purse, limits, at_most: self.at_most }
    }
}

/// What was cut off: calls that were written down and never settled.
fn open(tx: &Tx) -> rusqlite::Result<Vec<End>> {
    let mut rows = tx.prepare("SELECT hour_ms, assistant, run, provider, model, at_most_nano_usd, catalogue, unpriced, id FROM model_call")?;
    let ends = rows.query_map([], |row| {
        let written = Written {
            purse: Purse { hour_ms: row.get(0)?, assistant: row.get(1)?, run: row.get(2)? },
            provider: row.get(3)?,
            model: row.get(4)?,
            at_most: row.get(5)?,
            catalogue: row.get(6)?,
            unpriced: row.get(7)?,
        };
        Ok(End { id: row.get(8)?, written, limits: Vec::new(), ended: Ended::CutOff })
    })?;
    ends.collect()
}

/// Which hour, of which assistant, provider and model.
type Hour<'a> = (i64, &'a str, &'a str, &'a str);

/// Settles calls that are still open: each once, whoever settles it.
fn settle(tx: &Tx, ends: &[End], now_ms: i64) -> rusqlite::Result<()> {
    let mut take = tx.prepare_cached("DELETE FROM model_call WHERE id = ?1")?;
    let mut takings = Vec::with_capacity(ends.len());
    // Calls that end at the same time mostly count in the same hour.
    let mut hours: BTreeMap<Hour, (i64, [i64; Counters::COLUMNS.len()])> = BTreeMap::new();
    for End { id, written, limits, ended } in ends {
        if take.execute([id])? == 0 {
            continue;
        }
        let Some(counters) = counters_of(written, ended) else {
            takings.push((written.taking(&[]), 0));
            continue;
        };
        takings.push((written.taking(limits), counters.cost_nano_usd));
        let Written { purse, provider, model, catalogue, .. } = written;
        let hour = hours.entry((purse.hour_ms, &purse.assistant, provider, model)).or_default();
        hour.0 = *catalogue;
        hour.1.iter_mut().zip(counters.values()).for_each(|(sum, value)| *sum = sum.saturating_add(value));
    }
    budget::settle(tx, &takings, now_ms)?;
    let mut add = tx.prepare_cached(&ADD)?;
    for ((hour_ms, assistant, provider, model), (catalogue, values)) in &hours {
        let key = params![hour_ms, assistant, provider, model, catalogue];
        add.execute(params_from_iter(key.iter().copied().chain(values.iter().map(|value| value as &dyn rusqlite::ToSql))))?;
    }
    Ok(())
}

/// What a call adds to its hour; nothing when it never left.
fn counters_of(written: &Written, ended: &Ended) -> Option<Counters> {
    let Written { at_most, unpriced, .. } = *written;
    match ended {
        Ended::Abandoned => None,
        Ended::CutOff => Some(Counters { calls: 1, partial: 1, cost_nano_usd: at_most, unpriced, ..Counters::default() }),
        Ended::Known { counted: Counted { consumed, provider_cost, quality }, rate } => Some(Counters {
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
        }),
    }
}

/// Adds calls to their hour.
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
