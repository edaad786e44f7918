//! What was decided about each call, by the id that the provider gave it.
//!
//! Written by the safety wrapper, read by the egress proxy, which lets no tool result go to a provider that this ledger
//! does not know. It also holds what the plugin announced, and which sessions are frozen.

use crate::audit::{self, Deed};
use policy::{Class, Digest};
use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use service::store::StoreError;
use service::{Clock, Store, Tx};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use tokio::sync::{Notify, watch};
use wire::{ApprovalId, AssistantId};

#[derive(Clone)]
pub struct Ledger {
    store: Store,
    clock: Clock,
    announced: Arc<Mutex<Announced>>,
    heard: Arc<Notify>,
    /// Why the last model call of a session was stopped; OpenClaw does not pass our words on.
    stops: Arc<Mutex<HashMap<String, &'static str>>>,
    frozen: Arc<watch::Sender<u64>>,
    /// The count of changes up to which no session was frozen.
    calm: Arc<Mutex<Option<u64>>>,
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

/// What a decided call asked for, kept so that another law can be tried on it. Secret-shaped texts are masked, long ones cut.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decided {
    /// Its number, the newest has the greatest; 0 before it is written.
    pub n: i64,
    pub at_ms: i64,
    pub assistant: String,
    pub tool: String,
    pub arguments: Value,
    pub workspace: String,
    pub resolved: Vec<(String, Option<String>)>,
    /// The arguments are what they were: nothing is masked or cut.
    pub is_whole: bool,
    pub class: String,
    pub rule: String,
    pub verdict: String,
}

/// An earlier verdict on a call id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Earlier {
    pub digest: String,
    pub runs: bool,
    /// It ran and came back: the verdict was for that time.
    pub ended: bool,
    pub reason: Option<String>,
}

/// A verdict that a call of ours has taken: from now on nobody else gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    pub session: String,
    pub call_id: String,
    /// A person said yes to exactly this call.
    pub is_granted: bool,
    /// That yes.
    pub approval: Option<String>,
}

/// What is known of a result that goes to a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known {
    /// It went out before: history, which was looked at when it was new, and which OpenClaw may have shortened since.
    Seen,
    /// The call ran, with a verdict.
    Ran,
    /// The call was refused, in these words.
    Refused(String),
    Nothing,
}

/// A call that a model proposed, as the egress proxy saw it in the answer. OpenClaw turns some down by itself and asks
/// nobody; what it then writes is compared with this.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    pub call_id: String,
    /// As OpenClaw will name it: plain where it knows the tool, else as the model wrote it.
    pub tool: String,
    /// The tool is among those of the request.
    pub is_known: bool,
    pub words: Words,
}

/// What is said in a call's arguments: each name, text and number, as a hash. OpenClaw bends arguments before it shows
/// them (it drops fields, turns texts into lists), but it adds nothing of its own; so what it shows is compared word for word.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Words(BTreeSet<String>);

impl Words {
    /// Of arguments as the model wrote them; none when they are no JSON or say more than is worth keeping.
    pub fn of(arguments: &str) -> Words {
        let mut words = Words::default();
        if let Ok(value) = serde_json::from_str(arguments) {
            words.add(&value);
        }
        if words.0.len() > WORDS_MAX { Words::default() } else { words }
    }

    /// Whether these arguments say nothing that was not said.
    pub fn hold(&self, arguments: &str) -> bool {
        let mut shown = Words::default();
        let Ok(value) = serde_json::from_str(arguments) else { return false };
        shown.add(&value);
        shown.0.is_subset(&self.0)
    }

    fn add(&mut self, value: &Value) {
        match value {
            Value::Null | Value::Bool(_) => {}
            Value::Number(_) => self.note(&policy::canonical_json(value)),
            Value::String(text) => {
                self.note(text);
                // A list that was written as a text, which OpenClaw reads as the list.
                if let Ok(inner @ (Value::Array(_) | Value::Object(_))) = serde_json::from_str(text) {
                    self.add(&inner);
                }
            }
            Value::Array(items) => items.iter().for_each(|item| self.add(item)),
            Value::Object(map) => map.iter().for_each(|(name, item)| {
                self.note(name);
                self.add(item);
            }),
        }
    }

    fn note(&mut self, word: &str) {
        // Nothing, and the zero that nothing is bent into, say nothing.
        if !matches!(word, "" | "0") && self.0.len() <= WORDS_MAX {
            self.0.insert(service::random::token_hash(word)[..WORD_HASH_CHARS].to_owned());
        }
    }

    fn text(&self) -> String {
        self.0.iter().map(String::as_str).collect::<Vec<_>>().join(" ")
    }

    fn parse(text: &str) -> Words {
        Words(text.split_whitespace().map(str::to_owned).collect())
    }
}

/// Names, texts and numbers of one call.
const WORDS_MAX: usize = 1000;
/// 96 bits: enough that nobody finds another word for a hash.
const WORD_HASH_CHARS: usize = 16;

/// A run that the plugin announced: whose model calls it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    pub assistant: AssistantId,
    pub session: String,
}

/// Whose model call it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The session that announced exactly this request, else every session that runs under its trace; empty when nobody did.
    pub runs: Vec<Run>,
    pub exact: bool,
}

/// What the plugin announced. A trace may be shared: a sub-assistant runs under the trace of the one that called it.
#[derive(Default)]
struct Announced {
    runs: HashMap<String, Vec<Run>>,
    /// With the time of the announcement.
    spans: HashMap<String, (Run, u64)>,
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
/// A request follows its announcement at once; a client that tries again does so within minutes.
const SPAN_LIFE_MS: u64 = 600_000;
/// How long a request waits for its announcement, which OpenClaw sends at the same time and not before.
const ANNOUNCE_WAIT_MS: u64 = 1_500;
/// Hex digits of a minted call id.
pub const CALL_ID_DIGITS: usize = 24;
/// What is left of the longest foreign call id.
const CALL_ID_CHARS_MAX: usize = 40;
/// Tool results of one request that are looked up. A longer history is compacted by OpenClaw long before.
pub const RESULTS_MAX: usize = 8192;

/// How old a verdict may be when its call comes: OpenClaw makes a call right after its yes, which a person may have taken
/// a minute for, and calls of one answer one after the other.
const CLAIM_LIFE_MS: i64 = 15 * 60_000;

/// The tool that makes a sub-assistant, and what stands in the name of its session.
pub const SPAWN: &str = "sessions_spawn";
const SUB_SESSION: &str = ":subagent:";
/// A sub-assistant may have helpers of its own; those have none.
pub const SPAWN_DEPTH_MAX: i64 = 2;
/// Of one tenant in an hour: more than a large piece of work takes, and few enough that a loop is stopped.
pub const SPAWNS_MAX: i64 = 40;
const SPAWNS_SPAN_MS: i64 = 3_600_000;

/// Calls that are kept for trying another law on them.
const DECIDED_MAX: i64 = 1000;
/// Of one text in the arguments of a kept call; of all of them.
const DECIDED_TEXT_BYTES_MAX: usize = 4 * 1024;
const DECIDED_BYTES_MAX: usize = 16 * 1024;

/// Arguments that have passed the screen, as they may be kept, and whether nothing was cut; `None` when they are too much.
pub fn kept_arguments(screened: &Value) -> Option<(Value, bool)> {
    let mut kept = screened.clone();
    let is_whole = shorten(&mut kept);
    (kept.to_string().len() <= DECIDED_BYTES_MAX).then_some((kept, is_whole))
}

/// Whether nothing had to be cut.
fn shorten(value: &mut Value) -> bool {
    match value {
        Value::String(text) if text.len() > DECIDED_TEXT_BYTES_MAX => {
            text.truncate(text.floor_char_boundary(DECIDED_TEXT_BYTES_MAX));
            false
        }
        Value::Array(items) => items.iter_mut().map(shorten).filter(|whole| !whole).count() == 0,
        Value::Object(map) => map.values_mut().map(shorten).filter(|whole| !whole).count() == 0,
        _ => true,
    }
}

/// Part of the safety wrapper's transaction.
pub fn note_decided(tx: &Tx, decided: &Decided) -> rusqlite::Result<()> {
    let sql = "INSERT INTO decided_call (at_ms, assistant, tool, arguments, workspace, resolved, is_whole, class, rule, verdict)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
    let Decided { at_ms, assistant, tool, arguments, workspace, resolved, is_whole, class, rule, verdict, .. } = decided;
    let resolved = serde_json::to_string(resolved).unwrap_or_default();
    tx.prepare_cached(sql)?.execute(params![at_ms, assistant, tool, arguments.to_string(), workspace, resolved, is_whole, class, rule, verdict])?;
    tx.prepare_cached("DELETE FROM decided_call WHERE n <= (SELECT max(n) FROM decided_call) - ?1")?.execute([DECIDED_MAX])?;
    Ok(())
}

/// The newest kept calls before number `before`, the newest first.
pub fn decided(connection: &Connection, before: i64, limit: u32) -> rusqlite::Result<Vec<Decided>> {
    let sql = "SELECT n, at_ms, assistant, tool, arguments, workspace, resolved, is_whole, class, rule, verdict FROM decided_call
         WHERE n < ?1 ORDER BY n DESC LIMIT ?2";
    let json = |row: &rusqlite::Row<'_>, column| row.get::<_, String>(column).map(|text| serde_json::from_str::<Value>(&text).unwrap_or_default());
    let mut rows = connection.prepare_cached(sql)?;
    let calls = rows.query_map(params![before, limit], |row| {
        Ok(Decided {
            n: row.get(0)?,
            at_ms: row.get(1)?,
            assistant: row.get(2)?,
            tool: row.get(3)?,
            arguments: json(row, 4)?,
            workspace: row.get(5)?,
            resolved: serde_json::from_value(json(row, 6)?).unwrap_or_default(),
            is_whole: row.get(7)?,
            class: row.get(8)?,
            rule: row.get(9)?,
            verdict: row.get(10)?,
        })
    })?;
    calls.collect()
}

/// Part of the safety wrapper's transaction.
pub fn note(tx: &Tx, entry: &Entry, now_ms: i64) -> rusqlite::Result<()> {
    let sql = "INSERT INTO call (session, call_id, tool, digest, class, verdict, reason, approval_id, decided_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
         -- A call that waits is written down as refused; a grant lifts that, for the same call.
         ON CONFLICT (session, call_id) DO UPDATE SET verdict = excluded.verdict, reason = excluded.reason, approval_id = excluded.approval_id
         WHERE excluded.verdict IN ('granted', 'refused') AND call.verdict = 'refused' AND call.digest = excluded.digest AND call.seen_ms IS NULL";
    let approval = entry.approval.map(|id| id.to_string());
    let row =
        params![entry.session, entry.call_id, entry.tool, entry.digest.to_string(), entry.class.name(), entry.verdict.name(), entry.reason, approval, now_ms];
    tx.prepare_cached(sql)?.execute(row)?;
    Ok(())
}

/// The call came back: its verdict is spent.
pub fn note_end(tx: &Tx, session: &str, call_id: &str, now_ms: i64) -> rusqlite::Result<()> {
    let sql = "UPDATE call SET ended_ms = ?3 WHERE session = ?1 AND call_id = ?2 AND ended_ms IS NULL";
    tx.prepare_cached(sql)?.execute(params![session, call_id, now_ms])?;
    Ok(())
}

/// Takes the verdict that lets exactly this call run, for one time. Two calls of one digest are told apart by nothing, so
/// the older verdict is taken first.
pub fn claim(tx: &Tx, tool: &str, digest: Digest, now_ms: i64) -> rusqlite::Result<Option<Claimed>> {
    let sql = "UPDATE call SET claimed_ms = ?3 WHERE (session, call_id) = (
             SELECT session, call_id FROM call
             WHERE digest = ?1 AND tool = ?2 AND verdict IN ('run', 'granted') AND claimed_ms IS NULL AND ended_ms IS NULL AND seen_ms IS NULL
                 AND decided_ms > ?3 - ?4 AND session NOT IN (SELECT session FROM frozen_session)
             ORDER BY decided_ms, call_id LIMIT 1)
         RETURNING session, call_id, verdict = 'granted', approval_id";
    let row = tx.prepare_cached(sql)?.query_row(params![digest.to_string(), tool, now_ms, CLAIM_LIFE_MS], |row| {
        Ok(Claimed { session: row.get(0)?, call_id: row.get(1)?, is_granted: row.get(2)?, approval: row.get(3)? })
    });
    row.optional()
}

/// How deep below a person's conversation a session is, and how many sub-assistants were allowed in the last hour.
pub fn spawned(connection: &Connection, session: &str, now_ms: i64) -> rusqlite::Result<(i64, i64)> {
    let sql = "SELECT (SELECT count(*) FROM call WHERE tool = 'sessions_spawn' AND verdict IN ('run', 'granted') AND decided_ms > ?1)";
    let count = connection.prepare_cached(sql)?.query_row([now_ms - SPAWNS_SPAN_MS], |row| row.get(0))?;
    Ok((depth(connection, session)?, count))
}

fn depth(connection: &Connection, session: &str) -> rusqlite::Result<i64> {
    let found = connection.prepare_cached("SELECT depth FROM sub_session WHERE session = ?1")?.query_row([session], |row| row.get(0)).optional()?;
    Ok(found.unwrap_or(0))
}

/// Takes the oldest open verdict that lets a sub-assistant be, for this one.
fn claim_spawn(tx: &Tx, session: &str, now_ms: i64) -> rusqlite::Result<bool> {
    let sql = "UPDATE call SET claimed_ms = ?1 WHERE (session, call_id) = (
             SELECT session, call_id FROM call
             WHERE tool = 'sessions_spawn' AND verdict IN ('run', 'granted') AND claimed_ms IS NULL AND decided_ms > ?1 - ?2
                 AND session NOT IN (SELECT session FROM frozen_session)
             ORDER BY decided_ms, call_id LIMIT 1)
         RETURNING session";
    let parent: Option<String> = tx.prepare_cached(sql)?.query_row([now_ms, CLAIM_LIFE_MS], |row| row.get(0)).optional()?;
    let Some(parent) = parent else { return Ok(false) };
    note_sub_session(tx, session, &parent, now_ms)?;
    Ok(true)
}

fn note_sub_session(tx: &Tx, session: &str, parent: &str, now_ms: i64) -> rusqlite::Result<()> {
    let sql = "INSERT INTO sub_session (session, parent, depth, since_ms) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING";
    tx.prepare_cached(sql)?.execute(params![session, parent, depth(tx, parent)? + 1, now_ms])?;
    Ok(())
}

/// Whether the call is over: it came back, or its result went to a provider.
pub fn is_over(connection: &Connection, session: &str, call_id: &str) -> rusqlite::Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM call WHERE session = ?1 AND call_id = ?2 AND (ended_ms IS NOT NULL OR seen_ms IS NOT NULL))";
    connection.query_row(sql, [session, call_id], |row| row.get(0))
}

pub fn earlier(connection: &Connection, session: &str, call_id: &str) -> rusqlite::Result<Option<Earlier>> {
    let sql = "SELECT digest, verdict, reason, ended_ms IS NOT NULL FROM call WHERE session = ?1 AND call_id = ?2";
    let row = connection.prepare_cached(sql)?.query_row([session, call_id], |row| {
        let verdict: String = row.get(1)?;
        Ok(Earlier { digest: row.get(0)?, runs: verdict == "run" || verdict == "granted", reason: row.get(2)?, ended: row.get(3)? })
    });
    row.optional()
}

impl Announced {
    fn add(&mut self, trace_id: &str, span_id: &str, run: Run, now_ms: u64) {
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
            if self.spans.insert(key.clone(), (run, now_ms)).is_none() {
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

/// A fresh id for a call that a model proposes. The egress proxy puts it in the place of the provider's own: OpenClaw
/// respells ids for each dialect and numbers repeated ones anew, but lets this form through.
pub fn mint_call_id() -> String {
    format!("call_{}", hex(&service::random::bytes::<{ CALL_ID_DIGITS / 2 }>()))
}

/// What is the same in all spellings of a call id: the digits of an id of ours or of OpenClaw's own, else letters and digits.
pub fn canonical_call_id(call_id: &str) -> String {
    let ours = call_id.strip_prefix("call").map(|rest| rest.strip_prefix('_').unwrap_or(rest)).and_then(|rest| rest.get(..CALL_ID_DIGITS));
    match ours.filter(|digits| digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))) {
        Some(digits) => digits.to_owned(),
        None => call_id.chars().filter(char::is_ascii_alphanumeric).take(CALL_ID_CHARS_MAX).collect(),
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

impl Ledger {
    pub fn new(store: Store, clock: Clock) -> Ledger {
        Ledger {
            store,
            clock,
            announced: Arc::default(),
            heard: Arc::default(),
            stops: Arc::default(),
            frozen: Arc::new(watch::Sender::new(0)),
            calm: Arc::default(),
        }
    }

    /// Notes a run (`span_id` empty) or one request of it.
    pub fn announce(&self, trace_id: &str, span_id: &str, run: Run) {
        let now_ms = self.clock.now().mono_ms;
        self.lock().add(trace_id, span_id, run, now_ms);
        self.heard.notify_waiters();
    }

    /// Whose request this is. Waits a moment for the exact answer.
    pub async fn origin(&self, trace_id: &str, span_id: &str) -> Origin {
        let late = self.clock.sleep(ANNOUNCE_WAIT_MS);
        tokio::pin!(late);
        loop {
            let heard = self.heard.notified();
            tokio::pin!(heard);
            heard.as_mut().enable();
            let now_ms = self.clock.now().mono_ms;
            if let Some((run, at_ms)) = self.lock().spans.get(&span_key(trace_id, span_id))
                && now_ms.saturating_sub(*at_ms) <= SPAN_LIFE_MS
            {
                return Origin { runs: vec![run.clone()], exact: true };
            }
            tokio::select! {
                () = heard => {}
                () = &mut late => return Origin { runs: self.lock().runs.get(trace_id).cloned().unwrap_or_default(), exact: false },
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

    /// What is known of each result, in the order asked.
    pub async fn known(&self, session: &str, call_ids: Vec<String>) -> service::store::Result<Vec<(String, Known)>> {
        if call_ids.is_empty() {
            return Ok(Vec::new());
        }
        let session = session.to_owned();
        self.store
            .read(move |c| {
                let mut known = c.prepare_cached("SELECT seen_ms IS NOT NULL, verdict, reason FROM call WHERE session = ?1 AND call_id = ?2")?;
                let mut found = Vec::with_capacity(call_ids.len());
                for call_id in call_ids {
                    let row = known.query_row([&session, &call_id], |row| {
                        let verdict: String = row.get(1)?;
                        Ok(match verdict.as_str() {
                            _ if row.get(0)? => Known::Seen,
                            "refused" => Known::Refused(row.get::<_, Option<String>>(2)?.unwrap_or_default()),
                            _ => Known::Ran,
                        })
                    });
                    found.push((call_id, row.optional()?.unwrap_or(Known::Nothing)));
                }
                Ok(found)
            })
            .await
    }

    /// These results have been looked at and go out now. Those without a verdict were explained, and stay so.
    pub async fn note_seen(&self, session: &str, call_ids: Vec<String>) -> service::store::Result<()> {
        if call_ids.is_empty() {
            return Ok(());
        }
        let (session, now_ms) = (session.to_owned(), self.clock.wall_ms());
        let sql = "INSERT INTO call (session, call_id, tool, digest, class, verdict, decided_ms, seen_ms) VALUES (?1, ?2, '', '', 'green', 'excused', ?3, ?3)
             ON CONFLICT (session, call_id) DO UPDATE SET seen_ms = excluded.seen_ms WHERE seen_ms IS NULL";
        self.store
            .write(move |tx| {
                let mut note = tx.prepare_cached(sql)?;
                for call_id in call_ids.iter().filter(|call_id| !call_id.is_empty()) {
                    note.execute(params![session, call_id, now_ms])?;
                }
                Ok(())
            })
            .await
    }

    /// Notes what a model proposed, before the end of its answer reaches OpenClaw.
    pub async fn note_proposals(&self, session: &str, proposals: Vec<Proposal>) -> service::store::Result<()> {
        if proposals.is_empty() {
            return Ok(());
        }
        let session = session.to_owned();
        let sql = "INSERT INTO proposal (session, call_id, tool, is_known, words) VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO NOTHING";
        self.store
            .write(move |tx| {
                let mut insert = tx.prepare_cached(sql)?;
                for proposal in &proposals {
                    insert.execute(params![session, canonical_call_id(&proposal.call_id), proposal.tool, proposal.is_known, proposal.words.text()])?;
                }
                Ok(())
            })
            .await
    }

    pub async fn proposal(&self, session: &str, call_id: &str) -> service::store::Result<Option<Proposal>> {
        let (session, call_id) = (session.to_owned(), call_id.to_owned());
        let sql = "SELECT tool, is_known, words FROM proposal WHERE session = ?1 AND call_id = ?2";
        let found = self.store.read(move |c| {
            c.query_row(sql, [&session, &call_id], |row| {
                Ok(Proposal { call_id: call_id.clone(), tool: row.get(0)?, is_known: row.get(1)?, words: Words::parse(&row.get::<_, String>(2)?) })
            })
            .optional()
        });
        found.await
    }

    /// Whether this result went out in any session: one session may begin with a copy of another's history.
    pub async fn is_seen(&self, call_id: &str) -> service::store::Result<bool> {
        let call_id = call_id.to_owned();
        self.store
            .read(move |c| c.query_row("SELECT EXISTS (SELECT 1 FROM call WHERE call_id = ?1 AND seen_ms IS NOT NULL)", [call_id], |row| row.get(0)))
            .await
    }

    /// Whether a verdict let this session be: any that is no sub-assistant's, and a sub-assistant's that a call was allowed to make.
    pub async fn is_allowed(&self, session: &str) -> service::store::Result<bool> {
        if !session.contains(SUB_SESSION) {
            return Ok(true);
        }
        let known = session.to_owned();
        let sql = "SELECT EXISTS (SELECT 1 FROM sub_session WHERE session = ?1)";
        if self.store.read(move |c| c.prepare_cached(sql)?.query_row([known], |row| row.get(0))).await? {
            return Ok(true);
        }
        let (session, now_ms) = (session.to_owned(), self.clock.wall_ms());
        self.store.write(move |tx| Ok::<_, StoreError>(claim_spawn(tx, &session, now_ms)?)).await
    }

    pub async fn is_frozen(&self, session: &str) -> service::store::Result<bool> {
        // Only this ledger writes them, and counts its changes behind each commit.
        let change = *self.frozen.borrow();
        if *self.calm() == Some(change) {
            return Ok(false);
        }
        let session = session.to_owned();
        let sql = "SELECT count(*), coalesce(sum(session = ?1), 0) FROM frozen_session";
        let (all, this): (i64, i64) = self.store.read(move |c| c.query_row(sql, [session], |row| Ok((row.get(0)?, row.get(1)?)))).await?;
        if all == 0 {
            *self.calm() = Some(change);
        }
        Ok(this > 0)
    }

    fn calm(&self) -> std::sync::MutexGuard<'_, Option<u64>> {
        self.calm.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
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
                if session.contains(SUB_SESSION) {
                    note_sub_session(tx, &session, "", now_ms)?;
                }
                for call_id in serde_json::from_str::<Vec<String>>(&ids).unwrap_or_default().into_iter().filter(|call_id| !call_id.is_empty()) {
                    // Also what was refused and came back with other words: from now on it is history.
                    let sql = "INSERT INTO call (session, call_id, tool, digest, class, verdict, decided_ms, seen_ms) VALUES (?1, ?2, '', '', 'critical_red', ?3, ?4, ?4)
                         ON CONFLICT (session, call_id) DO UPDATE SET verdict = excluded.verdict, seen_ms = excluded.seen_ms";
                    tx.execute(sql, params![session, call_id, Verdict::Excused.name(), now_ms])?;
                }
                audit::note(tx, now_ms, &Deed { actor: &by, deed: "unfreeze", subject: &session, detail: &ids })?;
                Ok::<_, StoreError>(true)
            })
            .await?;
        self.frozen.send_modify(|n| *n += 1);
        Ok(thawed)
    }

    /// Keeps why a model call of this session was stopped, for whoever looks at the session.
    pub fn note_stop(&self, session: &str, code: &'static str) {
        let mut stops = self.stops.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if stops.len() >= ANNOUNCED_MAX {
            stops.clear();
        }
        stops.insert(session.to_owned(), code);
    }

    pub fn last_stop(&self, session: &str) -> Option<&'static str> {
        self.stops.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).get(session).copied()
    }

    pub fn forget_stop(&self, session: &str) {
        self.stops.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).remove(session);
    }

    /// Frozen sessions with the time since when.
    pub async fn frozen(&self) -> service::store::Result<Vec<(String, i64)>> {
        let sql = "SELECT session, since_ms FROM frozen_session ORDER BY since_ms LIMIT 64";
        self.store.read(move |c| c.prepare_cached(sql)?.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()).await
    }

    /// Changes whenever a session is frozen or goes on.
    pub fn watch_frozen(&self) -> watch::Receiver<u64> {
        self.frozen.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_kept_of_arguments_is_bounded() {
        let plain = json!({ "path": "notes.md", "n": 1, "list": ["a"] });
        assert_eq!(kept_arguments(&plain), Some((plain.clone(), true)));
        let (kept, is_whole) = kept_arguments(&json!({ "content": "ä".repeat(100_000) })).unwrap();
        assert!(!is_whole && kept["content"].as_str().unwrap().len() <= DECIDED_TEXT_BYTES_MAX);
        assert_eq!(kept_arguments(&json!(vec!["x".repeat(4000); 10])), None);
    }

    #[test]
    fn bent_arguments_say_nothing_new() {
        let words = Words::of(r#"{"path":"notes.md","edits":[{"old":"a","n":1.0}],"flags":"[\"x\", 7]"}"#);
        for bent in [r#"{"path":"notes.md","edits":[{}]}"#, r#"{"edits":[{"n":1}],"flags":["x",7]}"#, r#"{"path":"","n":0,"old":null}"#, "{}"] {
            assert!(words.hold(bent), "{bent}");
        }
        for new in [r#"{"path":"/etc/shadow"}"#, r#"{"root:x":1}"#, r#"{"path":"notes.md "}"#, "root:x", r#"{"n":2}"#] {
            assert!(!words.hold(new), "{new}");
        }
        assert_eq!(Words::parse(&words.text()), words);
        assert_eq!(Words::of("{\"cut"), Words::default());
    }

    #[test]
    fn a_call_id_is_the_same_in_every_spelling() {
        let minted = mint_call_id();
        let digits = &minted[5..];
        for spelling in [minted.clone(), format!("call{digits}"), format!("{minted}|fc_2f27fe25"), format!("call{digits}fc2f27fe25")] {
            assert_eq!(canonical_call_id(&spelling), digits, "{spelling}");
        }
        for (foreign, expected) in [
            ("toolu_01BB", "toolu01BB"),
            ("call_A1", "callA1"),
            ("functions.exec:0", "functionsexec0"),
            ("", ""),
            ("|", ""),
            ("call_ABCDEFABCDEFABCDEFABCDEF", "callABCDEFABCDEFABCDEFABCDEF"),
        ] {
            assert_eq!(canonical_call_id(foreign), expected);
        }
    }
}
