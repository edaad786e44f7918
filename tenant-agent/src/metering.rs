//! Counted model calls: one row an hour, assistant, provider and model, with absolute counters.
//!
//! A call is written down before it starts and settled before its last byte is released. Whatever is still open when the
//! agent starts was cut off and counts once as partial. Rows go to the hub until it says that it has them.

use crate::identity::parsed;
use rusqlite::{Connection, OptionalExtension, Row, params};
use service::store::{Result, StoreError};
use service::{Clock, Store, Tx};
use std::sync::Arc;
use tokio::sync::watch;
use wire::AssistantId;
use wire::usage::{DAY_MS, HOUR_MS, UsageDay, UsageRow};

#[derive(Clone)]
pub struct Metering {
    store: Store,
    clock: Clock,
    changes: Arc<watch::Sender<u64>>,
}

/// Tokens of one call, as the provider counted them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    /// All input, cached or not.
    pub input: i64,
    pub cached: i64,
    pub output: i64,
}

/// A call that has been written down and not yet settled.
#[derive(Debug)]
pub struct OpenCall(i64);

/// Rows that go to the hub in one frame.
const ROWS_MAX: i64 = 500;

impl Metering {
    /// Settles what a crash left open.
    pub async fn start(store: Store, clock: Clock) -> Result<Metering> {
        let cut_off = store.write(|tx| {
            let mut open = Vec::new();
            let mut rows = tx.prepare("SELECT id FROM model_call")?;
            for id in rows.query_map([], |row| row.get(0))? {
                open.push(id?);
            }
            open.iter().try_for_each(|id| settle(tx, *id, Tokens::default(), false))?;
            Ok::<_, StoreError>(open.len())
        });
        let cut_off = cut_off.await?;
        if cut_off > 0 {
            tracing::warn!(calls = cut_off, "model calls were cut off by the last stop; counted as partial");
        }
        Ok(Metering { store, clock, changes: Arc::new(watch::Sender::new(0)) })
    }

    pub async fn begin(&self, assistant: AssistantId, provider: &str, model: &str) -> Result<OpenCall> {
        let hour_ms = self.clock.wall_ms().div_euclid(HOUR_MS) * HOUR_MS;
        let row = (hour_ms, assistant.to_string(), provider.to_owned(), model.to_owned());
        self.store
            .write(move |tx| {
                tx.prepare_cached("INSERT INTO model_call (hour_ms, assistant, provider, model) VALUES (?1, ?2, ?3, ?4)")?.execute(row)?;
                Ok(OpenCall(tx.last_insert_rowid()))
            })
            .await
    }

    /// `complete`: the provider said how much it was. Otherwise what was seen until the end is counted, and the call as partial.
    pub async fn settle(&self, call: OpenCall, tokens: Tokens, complete: bool) -> Result<()> {
        self.store.write(move |tx| Ok::<_, StoreError>(settle(tx, call.0, tokens, complete)?)).await?;
        self.changes.send_modify(|n| *n += 1);
        Ok(())
    }

    /// A call that never reached the provider costs nothing and is not counted.
    pub async fn abandon(&self, call: OpenCall) -> Result<()> {
        self.store.write(move |tx| Ok(tx.execute("DELETE FROM model_call WHERE id = ?1", [call.0]).map(|_| ())?)).await
    }

    pub async fn today(&self) -> Result<UsageDay> {
        let day_ms = self.clock.wall_ms().div_euclid(DAY_MS) * DAY_MS;
        self.store.read(move |c| day(c, day_ms)).await
    }

    /// Rows that the hub does not have yet.
    pub async fn unsent(&self) -> Result<Vec<UsageRow>> {
        let sql = "SELECT hour_ms, assistant, provider, model, seq, calls, partial, input_tokens, cached_tokens, output_tokens FROM usage_hour WHERE seq > acked_seq ORDER BY hour_ms LIMIT ?1";
        self.store.read(move |c| c.prepare_cached(sql)?.query_map([ROWS_MAX], row_of)?.collect()).await
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

fn settle(tx: &Tx, id: i64, tokens: Tokens, complete: bool) -> rusqlite::Result<()> {
    let open = tx
        .prepare_cached("DELETE FROM model_call WHERE id = ?1 RETURNING hour_ms, assistant, provider, model")?
        .query_row([id], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?, row.get::<_, String>(3)?)));
    let Some((hour_ms, assistant, provider, model)) = open.optional()? else { return Ok(()) };
    let sql = "INSERT INTO usage_hour (hour_ms, assistant, provider, model, seq, calls, partial, input_tokens, cached_tokens, output_tokens)
         VALUES (?1, ?2, ?3, ?4, 1, 1, ?5, ?6, ?7, ?8)
         ON CONFLICT (hour_ms, assistant, provider, model) DO UPDATE SET
             seq = seq + 1, calls = calls + 1, partial = partial + excluded.partial, input_tokens = input_tokens + excluded.input_tokens,
             cached_tokens = cached_tokens + excluded.cached_tokens, output_tokens = output_tokens + excluded.output_tokens";
    let row = params![hour_ms, assistant, provider, model, i64::from(!complete), tokens.input, tokens.cached, tokens.output];
    tx.prepare_cached(sql)?.execute(row)?;
    Ok(())
}

fn day(connection: &Connection, day_ms: i64) -> rusqlite::Result<UsageDay> {
    let sql = "SELECT coalesce(sum(calls), 0), coalesce(sum(partial), 0), coalesce(sum(input_tokens), 0), coalesce(sum(cached_tokens), 0), coalesce(sum(output_tokens), 0)
         FROM usage_hour WHERE hour_ms >= ?1 AND hour_ms < ?2";
    connection.query_row(sql, [day_ms, day_ms + DAY_MS], |row| {
        Ok(UsageDay { day_ms, calls: row.get(0)?, partial: row.get(1)?, input_tokens: row.get(2)?, cached_tokens: row.get(3)?, output_tokens: row.get(4)? })
    })
}

fn row_of(row: &Row<'_>) -> rusqlite::Result<UsageRow> {
    Ok(UsageRow {
        hour_ms: row.get(0)?,
        assistant: parsed(row, 1)?,
        provider: row.get(2)?,
        model: row.get(3)?,
        seq: row.get(4)?,
        calls: row.get(5)?,
        partial: row.get(6)?,
        input_tokens: row.get(7)?,
        cached_tokens: row.get(8)?,
        output_tokens: row.get(9)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MIGRATIONS;

    #[tokio::test]
    async fn a_call_counts_once_whatever_happens_to_it() {
        let folder = std::env::temp_dir().join(service::random::token());
        std::fs::create_dir_all(&folder).unwrap();
        let store = Store::open(&folder.join("a.db"), MIGRATIONS).unwrap();
        let clock = Clock::manual(10 * DAY_MS + HOUR_MS - 1);
        let metering = Metering::start(store.clone(), clock.clone()).await.unwrap();
        let assistant = AssistantId::new(1);
        let tokens = Tokens { input: 100, cached: 20, output: 7 };
        let (whole, broken, abandoned, _crashed) = (
            metering.begin(assistant, "p", "m").await.unwrap(),
            metering.begin(assistant, "p", "m").await.unwrap(),
            metering.begin(assistant, "p", "m").await.unwrap(),
            metering.begin(assistant, "p", "m").await.unwrap(),
        );
        clock.advance(1);
        metering.settle(whole, tokens, true).await.unwrap();
        metering.settle(broken, Tokens { output: 0, ..tokens }, false).await.unwrap();
        metering.abandon(abandoned).await.unwrap();
        let sent = metering.unsent().await.unwrap();
        let again = Metering::start(store, clock).await.unwrap();
        let day = UsageDay { day_ms: 10 * DAY_MS, calls: 3, partial: 2, input_tokens: 200, cached_tokens: 40, output_tokens: 7 };
        assert_eq!(again.today().await.unwrap(), day);
        assert_eq!((sent.len(), sent[0].hour_ms, sent[0].seq), (1, 10 * DAY_MS, 2), "the hour is the one in which the call began");
        again.acked(sent).await.unwrap();
        let unsent = again.unsent().await.unwrap();
        assert_eq!((unsent.len(), unsent[0].seq), (1, 3), "a row that changed after it was sent is sent again");
        again.acked(unsent).await.unwrap();
        assert_eq!(again.unsent().await.unwrap(), []);
        std::fs::remove_dir_all(folder).unwrap();
    }
}
