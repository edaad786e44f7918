//! What was decided about each call, by the id that the provider gave it.
//!
//! Written by the safety wrapper, read by the egress proxy, which lets no tool result go to a provider that this ledger
//! does not know. It also holds what the plugin announced, and which sessions are frozen.

use crate::audit::{self, Deed};
use policy::{Class, Digest};
use rusqlite::{Connection, OptionalExtension, params};
use service::store::StoreError;
use service::{Clock, Store, Tx};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use tokio::sync::{Notify, watch};
use wire::{ApprovalId, AssistantId};

#[derive(Clone)]
pub struct Ledger {
    store: Store,
    clock: Clock,
    announced: Arc<Mutex<Announced>>,
    heard: Arc<Notify>,
    frozen: Arc<watch::Sender<u64>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Run,
    /// Run, by a person's grant.
    Granted,
    Refused,
    /// Never decided, and let pass by an operator who unfroze the session.
    Excused,
}

impl Verdict {
    fn name(self) -> &'static str {
        match self {
            Verdict::Run => "run",
            Verdict::Granted => "granted",
            Verdict::Refused => "refused",
            Verdict::Excused => "excused",
        }
    }
}

#[derive(Clone, Debug)]
pub struct Entry {
    pub session: String,
    pub call_id: String,
    pub tool: String,
    pub digest: Digest,
    pub class: Class,
    pub verdict: Verdict,
    /// What the model is told when it is not run.
    pub reason: Option<String>,
    pub approval: Option<ApprovalId>,
}

/// An earlier verdict on a call id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Earlier {
    pub digest: String,
    pub runs: bool,
    pub reason: Option<String>,
}

/// A run that the plugin announced: whose model calls it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    pub assistant: AssistantId,
    pub session: String,
}

/// What the plugin announced. A trace may be shared: a sub-assistant runs under the trace of the one that called it.
#[derive(Default)]
struct Announced {
    runs: HashMap<String, Vec<Run>>,
    spans: HashMap<String, Run>,
    order: VecDeque<Key>,
}

enum Key {
    Trace(String),
    Span(String),
}

/// Announcements that are remembered. The oldest is forgotten first; its later model calls are refused, which is the safe mistake.
const ANNOUNCED_MAX: usize = 8192;
/// Sessions under one trace.
const RUNS_MAX: usize = 32;
/// How long a request waits for its announcement, which OpenClaw sends at the same time and not before.
const ANNOUNCE_WAIT_MS: u64 = 1_500;
/// What is left of the longest call id.
const CALL_ID_CHARS_MAX: usize = 40;
/// Tool results of one request that are looked up. A longer history is compacted by OpenClaw long before.
pub const RESULTS_MAX: usize = 8192;

/// Part of the safety wrapper's transaction.
pub fn note(tx: &Tx, entry: &Entry, now_ms: i64) -> rusqlite::Result<()> {
    let sql = "INSERT INTO call (session, call_id, tool, digest, class, verdict, reason, approval_id, decided_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
         ON CONFLICT (session, call_id) DO NOTHING";
    let approval = entry.approval.map(|id| id.to_string());
    let row =
        params![entry.session, entry.call_id, entry.tool, entry.digest.to_string(), entry.class.name(), entry.verdict.name(), entry.reason, approval, now_ms];
    tx.prepare_cached(sql)?.execute(row)?;
    Ok(())
}

pub fn earlier(connection: &Connection, session: &str, call_id: &str) -> rusqlite::Result<Option<Earlier>> {
    let sql = "SELECT digest, verdict, reason FROM call WHERE session = ?1 AND call_id = ?2";
    let row = connection.prepare_cached(sql)?.query_row([session, call_id], |row| {
        let verdict: String = row.get(1)?;
        Ok(Earlier { digest: row.get(0)?, runs: verdict == "run" || verdict == "granted", reason: row.get(2)? })
    });
    row.optional()
}

impl Announced {
    fn add(&mut self, trace_id: &str, span_id: &str, run: Run) {
        if span_id.is_empty() {
            let runs = self.runs.entry(trace_id.to_owned()).or_default();
            if runs.is_empty() {
                self.order.push_back(Key::Trace(trace_id.to_owned()));
            }
            if !runs.contains(&run) && runs.len() < RUNS_MAX {
                runs.push(run);
            }
        } else {
            let key = span_key(trace_id, span_id);
            if self.spans.insert(key.clone(), run).is_none() {
                self.order.push_back(Key::Span(key));
            }
        }
        while self.order.len() > ANNOUNCED_MAX {
            match self.order.pop_front() {
                Some(Key::Trace(trace)) => drop(self.runs.remove(&trace)),
                Some(Key::Span(span)) => drop(self.spans.remove(&span)),
                None => {}
            }
        }
    }
}

fn span_key(trace_id: &str, span_id: &str) -> String {
    format!("{trace_id} {span_id}")
}

/// A call id as it survives OpenClaw, which respells ids for each dialect before it sends them to a provider again: the
/// part before `|`, letters and digits only, as many as the strictest dialect keeps.
pub fn canonical_call_id(call_id: &str) -> String {
    let own = call_id.split('|').next().unwrap_or_default();
    own.chars().filter(char::is_ascii_alphanumeric).take(CALL_ID_CHARS_MAX).collect()
}

impl Ledger {
    pub fn new(store: Store, clock: Clock) -> Ledger {
        Ledger { store, clock, announced: Arc::default(), heard: Arc::default(), frozen: Arc::new(watch::Sender::new(0)) }
    }

    /// Notes a run (`span_id` empty) or one request of it.
    pub fn announce(&self, trace_id: &str, span_id: &str, run: Run) {
        self.lock().add(trace_id, span_id, run);
        self.heard.notify_waiters();
    }

    /// Whose request this is: the session whose plugin announced exactly it, else every session that runs under its
    /// trace; empty when nobody announced anything. Waits a moment for the exact answer.
    pub async fn origin(&self, trace_id: &str, span_id: &str) -> Vec<Run> {
        let late = self.clock.sleep(ANNOUNCE_WAIT_MS);
        tokio::pin!(late);
        loop {
            let heard = self.heard.notified();
            tokio::pin!(heard);
            heard.as_mut().enable();
            if let Some(run) = self.lock().spans.get(&span_key(trace_id, span_id)) {
                return vec![run.clone()];
            }
            tokio::select! {
                () = heard => {}
                () = &mut late => return self.lock().runs.get(trace_id).cloned().unwrap_or_default(),
            }
        }
    }

    /// Forgets every announcement: the gateway that they came from is gone.
    pub fn forget_announced(&self) {
        *self.lock() = Announced::default();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Announced> {
        self.announced.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub async fn ended(&self, session: String, call_id: String) -> service::store::Result<()> {
        let now_ms = self.clock.wall_ms();
        let sql = "UPDATE call SET ended_ms = ?3 WHERE session = ?1 AND call_id = ?2 AND ended_ms IS NULL";
        self.store.write(move |tx| Ok(tx.prepare_cached(sql)?.execute(params![session, call_id, now_ms]).map(|_| ())?)).await
    }

    /// Those of `call_ids` that nothing is known of.
    pub async fn unknown(&self, session: &str, call_ids: Vec<String>) -> service::store::Result<Vec<String>> {
        let session = session.to_owned();
        self.store
            .read(move |c| {
                let mut known = c.prepare_cached("SELECT EXISTS (SELECT 1 FROM call WHERE session = ?1 AND call_id = ?2)")?;
                let mut unknown = Vec::new();
                for call_id in call_ids {
                    if !known.query_row([&session, &call_id], |row| row.get::<_, bool>(0))? {
                        unknown.push(call_id);
                    }
                }
                Ok(unknown)
            })
            .await
    }

    pub async fn is_frozen(&self, session: &str) -> service::store::Result<bool> {
        let session = session.to_owned();
        self.store.read(move |c| c.query_row("SELECT EXISTS (SELECT 1 FROM frozen_session WHERE session = ?1)", [session], |row| row.get(0))).await
    }

    /// No model answers this session until somebody unfreezes it.
    pub async fn freeze(&self, session: &str, call_ids: Vec<String>) -> service::store::Result<()> {
        let (session, now_ms) = (session.to_owned(), self.clock.wall_ms());
        self.store
            .write(move |tx| {
                let sql = "INSERT INTO frozen_session (session, call_ids, since_ms) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING";
                let ids = serde_json::to_string(&call_ids).unwrap_or_default();
                if tx.execute(sql, params![session, ids, now_ms])? > 0 {
                    audit::note(tx, now_ms, &Deed { actor: "agent", deed: "freeze", subject: &session, detail: &ids })?;
                }
                Ok::<_, StoreError>(())
            })
            .await?;
        self.frozen.send_modify(|n| *n += 1);
        Ok(())
    }

    /// Lets a frozen session go on: its undecided results are excused, by name, for ever. `false` when it was not frozen.
    pub async fn unfreeze(&self, by: &str, session: &str) -> service::store::Result<bool> {
        let (by, session, now_ms) = (by.to_owned(), session.to_owned(), self.clock.wall_ms());
        let thawed = self
            .store
            .write(move |tx| {
                let ids: Option<String> = tx.query_row("DELETE FROM frozen_session WHERE session = ?1 RETURNING call_ids", [&session], |row| row.get(0)).optional()?;
                let Some(ids) = ids else { return Ok(false) };
                for call_id in serde_json::from_str::<Vec<String>>(&ids).unwrap_or_default() {
                    let sql = "INSERT INTO call (session, call_id, tool, digest, class, verdict, decided_ms) VALUES (?1, ?2, '', '', 'critical_red', ?3, ?4) ON CONFLICT DO NOTHING";
                    tx.execute(sql, params![session, call_id, Verdict::Excused.name(), now_ms])?;
                }
                audit::note(tx, now_ms, &Deed { actor: &by, deed: "unfreeze", subject: &session, detail: &ids })?;
                Ok::<_, StoreError>(true)
            })
            .await?;
        self.frozen.send_modify(|n| *n += 1);
        Ok(thawed)
    }

    /// Frozen sessions with the time since when.
    pub async fn frozen(&self) -> service::store::Result<Vec<(String, i64)>> {
        let sql = "SELECT session, since_ms FROM frozen_session ORDER BY since_ms LIMIT 64";
        self.store.read(move |c| c.prepare(sql)?.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()).await
    }

    /// Changes whenever a session is frozen or goes on.
    pub fn watch_frozen(&self) -> watch::Receiver<u64> {
        self.frozen.subscribe()
    }
}
