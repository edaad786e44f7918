//! The first hour: a template, worked through step by step, with its progress on the disk.
//!
//! What comes next follows from what is written down ([`next`]), so an agent that was killed goes on where it stopped. A step
//! that was begun may be begun again: files that are there are left alone, and a task that the assistant has heard is known by
//! its key in the conversation. Who has to do with calls is [`Hands`]; this only proposes.

mod blueprint;

use crate::approvals::{self, Approvals};
use crate::audit::{self, Deed};
use crate::gateway::{CallError, Gateway};
use crate::pauses::Pauses;
use axum::http::StatusCode;
pub use blueprint::{Blueprint, all, said};
use futures_util::future::BoxFuture;
use policy::bundle::Named;
use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use service::store::StoreError;
use service::text::Language;
use service::{Clock, Refusal, Stop, Store, Tx, random};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::watch;
use wire::AssistantId;
use wire::approval::ApprovalState;

#[derive(Clone)]
pub struct FirstHour(Arc<Inner>);

struct Inner {
    store: Store,
    clock: Clock,
    gateway: Gateway,
    approvals: Approvals,
    pauses: Pauses,
    workspace: PathBuf,
    assistant: AssistantId,
    changes: watch::Sender<u64>,
}

/// The session of calls that a template makes itself. OpenClaw has none of this name, so nobody is told of late grants there.
pub const SESSION: &str = "agent:main:first-hour";
/// The chat, where the assistant gets its tasks.
const CHAT: &str = "agent:main:main";
/// How often a step that is under way is looked at.
const LOOK_EACH_MS: u64 = 2_000;
/// So soon after it was told, the conversation may not show yet that the assistant works.
const BEGIN_MS: i64 = 4_000;
/// Messages in which a task is looked for.
const MESSAGES: u32 = 60;

const UNKNOWN: Refusal = Refusal::new(StatusCode::NOT_FOUND, "template_unknown");
const UNDER_WAY: Refusal = Refusal::new(StatusCode::CONFLICT, "template_under_way");
const STEP_WRONG: Refusal = Refusal::new(StatusCode::CONFLICT, "template_step_wrong");

/// Proposes a call to the safety wrapper and, if it may, has it done.
pub trait Hands: Send + Sync {
    /// `call_id` counts once.
    fn write_file(&self, call_id: String, arguments: Value) -> BoxFuture<'_, Written>;
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    Done,
    /// Not run: it waits for a person, or was refused.
    NotNow,
    Failed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepState {
    Waiting,
    Running,
    Done,
    Skipped,
    Failed,
}

impl StepState {
    const ALL: [StepState; 5] = [StepState::Waiting, StepState::Running, StepState::Done, StepState::Skipped, StepState::Failed];

    fn name(self) -> &'static str {
        match self {
            StepState::Waiting => "waiting",
            StepState::Running => "running",
            StepState::Done => "done",
            StepState::Skipped => "skipped",
            StepState::Failed => "failed",
        }
    }
}

/// A template under way, or the last one.
#[derive(Clone, Debug, Serialize)]
pub struct Run {
    /// Drawn anew for each start.
    pub run: String,
    pub blueprint: Blueprint,
    pub language: Language,
    pub started_ms: i64,
    pub started_by: String,
    pub ended_ms: Option<i64>,
    pub steps: Vec<Progress>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Progress {
    pub state: StepState,
    pub attempt: u32,
    pub since_ms: i64,
    #[serde(skip)]
    pub told_ms: Option<i64>,
    /// A code, where it failed.
    pub why: Option<String>,
}

/// What a person wants of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wish {
    Retry,
    Skip,
}

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Begin(usize),
    GoOn(usize),
    /// Until a person says how.
    Rest,
    End,
}

/// One after the other: the first step that is neither done nor skipped.
fn next(steps: &[Progress]) -> Next {
    let open = steps.iter().position(|step| !matches!(step.state, StepState::Done | StepState::Skipped));
    match open.map(|n| (n, steps[n].state)) {
        None => Next::End,
        Some((n, StepState::Waiting)) => Next::Begin(n),
        Some((n, StepState::Running)) => Next::GoOn(n),
        Some(_) => Next::Rest,
    }
}

impl FirstHour {
    pub fn new(store: Store, clock: Clock, gateway: Gateway, approvals: Approvals, pauses: Pauses, workspace: PathBuf, assistant: AssistantId) -> FirstHour {
        FirstHour(Arc::new(Inner { store, clock, gateway, approvals, pauses, workspace, assistant, changes: watch::Sender::new(0) }))
    }

    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    pub fn assistant(&self) -> AssistantId {
        self.0.assistant
    }

    pub async fn run(&self) -> service::store::Result<Option<Run>> {
        let assistant = self.0.assistant;
        self.0.store.read(move |c| run(c, assistant)).await
    }

    /// Begins a template; the company's come with the law.
    pub async fn start(&self, by: &str, workflows: &[Named], template: &str, language: Language) -> Result<(), Refusal> {
        let blueprint = all(workflows).into_iter().find(|blueprint| blueprint.id == template).ok_or(UNKNOWN)?;
        let (assistant, by, now_ms, drawn) = (self.0.assistant, by.to_owned(), self.0.clock.wall_ms(), random::token()[..12].to_owned());
        self.0
            .store
            .write(move |tx| {
                if run(tx, assistant)?.is_some_and(|run| run.ended_ms.is_none()) {
                    return Err(UNDER_WAY);
                }
                let id = assistant.to_string();
                let text = serde_json::to_string(&blueprint).map_err(anyhow::Error::new)?;
                let sql = "INSERT OR REPLACE INTO first_hour (assistant, run, blueprint, language, started_ms, started_by) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
                tx.execute(sql, params![id, drawn, text, language.name(), now_ms, by])?;
                tx.execute("DELETE FROM first_hour_step WHERE assistant = ?1", [&id])?;
                for n in 0..blueprint.step.len() {
                    let sql = "INSERT INTO first_hour_step (assistant, n, state, attempt, since_ms) VALUES (?1, ?2, 'waiting', 0, ?3)";
                    tx.execute(sql, params![id, n as i64, now_ms])?;
                }
                Ok(audit::note(tx, now_ms, &Deed { actor: &by, deed: "template_started", subject: &id, detail: &blueprint.id })?)
            })
            .await?;
        self.changed();
        Ok(())
    }

    /// Tries a step again, or leaves it out.
    pub async fn wish(&self, by: &str, n: usize, wish: Wish) -> Result<(), Refusal> {
        let (assistant, by, now_ms) = (self.0.assistant, by.to_owned(), self.0.clock.wall_ms());
        self.0
            .store
            .write(move |tx| {
                let found = run(tx, assistant)?.filter(|run| run.ended_ms.is_none()).ok_or(UNKNOWN)?;
                let state = found.steps.get(n).map(|step| step.state).ok_or(STEP_WRONG)?;
                let to = match (wish, state) {
                    (Wish::Retry, StepState::Failed) => StepState::Waiting,
                    (Wish::Skip, StepState::Waiting | StepState::Running | StepState::Failed) => StepState::Skipped,
                    _ => return Err(STEP_WRONG),
                };
                set(tx, assistant, &found, n, to, None, &by, now_ms)?;
                Ok(if to == StepState::Skipped { approvals::withdraw(tx, SESSION)? } else { Vec::new() })
            })
            .await?
            .into_iter()
            .for_each(|closed| self.0.approvals.announce(closed));
        self.changed();
        Ok(())
    }

    /// Ends the template where it stands. What it has made stays.
    pub async fn end(&self, by: &str) -> Result<(), Refusal> {
        let (assistant, by, now_ms) = (self.0.assistant, by.to_owned(), self.0.clock.wall_ms());
        let work = move |tx: &Tx| if end(tx, assistant, &by, now_ms)? { Ok(approvals::withdraw(tx, SESSION)?) } else { Err(UNKNOWN) };
        self.0.store.write(work).await?.into_iter().for_each(|closed| self.0.approvals.announce(closed));
        self.changed();
        Ok(())
    }

    fn changed(&self) {
        self.0.changes.send_modify(|n| *n += 1);
    }

    /// Works until the stop. Rests while nothing is under way.
    pub async fn work(self, hands: impl Hands, stop: Stop) {
        let (mut changes, mut answers) = (self.changes(), self.0.approvals.changes());
        while !stop.is_stopped() {
            // A call of it may be held for a person; the stop does not wait for them.
            let is_busy = match stop.or(self.advance(&hands)).await {
                None => return,
                Some(Ok(is_busy)) => is_busy,
                Some(Err(error)) => {
                    tracing::error!(%error, "a template could not go on; it is tried again");
                    true
                }
            };
            let due = self.0.clock.sleep(if is_busy { LOOK_EACH_MS } else { u64::MAX });
            tokio::select! {
                () = stop.stopped() => return,
                () = due => {}
                _ = answers.recv(), if is_busy => {}
                changed = changes.changed() => if changed.is_err() { return },
            }
        }
    }

    /// One look: does what comes next, and says whether there is more to come by itself.
    async fn advance(&self, hands: &impl Hands) -> Result<bool, StoreError> {
        let Some(run) = self.run().await?.filter(|run| run.ended_ms.is_none()) else { return Ok(false) };
        if self.0.pauses.holds(self.0.assistant) {
            return Ok(true);
        }
        match next(&run.steps) {
            Next::Rest => Ok(false),
            Next::End => {
                let (assistant, now_ms) = (self.0.assistant, self.0.clock.wall_ms());
                self.0.store.write(move |tx| Ok::<_, StoreError>(end(tx, assistant, "agent", now_ms)?)).await?;
                self.changed();
                Ok(false)
            }
            Next::Begin(n) => {
                self.becomes(&run, n, StepState::Running, None).await?;
                Ok(true)
            }
            Next::GoOn(n) => {
                let came = if run.blueprint.step[n].ask.is_some() { self.task(&run, n).await? } else { self.files(&run, n, hands).await? };
                match came {
                    None => {}
                    Some(Ok(())) => self.becomes(&run, n, StepState::Done, None).await?,
                    Some(Err(why)) => self.becomes(&run, n, StepState::Failed, Some(why)).await?,
                }
                Ok(true)
            }
        }
    }

    /// Writes what is not there yet. `None`: it is not over.
    async fn files(&self, run: &Run, n: usize, hands: &impl Hands) -> Result<Option<Result<(), &'static str>>, StoreError> {
        for (k, file) in run.blueprint.step[n].file.iter().enumerate() {
            let path = said(&file.path, run.language);
            if self.is_there(path).await {
                continue;
            }
            let call_ids = format!("fh-{}-{n}-{}-{k}-", run.run, run.steps[n].attempt);
            let asked = self.0.approvals.newest(SESSION, call_ids.clone()).await?.map(|approval| approval.state);
            match asked {
                Some(ApprovalState::Pending) => return Ok(None),
                Some(ApprovalState::Denied | ApprovalState::Cancelled) => return Ok(Some(Err("denied"))),
                Some(ApprovalState::Expired) => return Ok(Some(Err("expired"))),
                // Used and not written: it was ended between the two, so it is asked for again.
                Some(ApprovalState::Approved | ApprovalState::Used | ApprovalState::Superseded) | None => {}
            }
            let arguments = json!({ "path": path, "content": said(&file.text, run.language) });
            match hands.write_file(format!("{call_ids}{}", &random::token()[..8]), arguments).await {
                Written::Done => {}
                Written::Failed => return Ok(Some(Err("unwritten"))),
                Written::NotNow => {
                    let asked = self.0.approvals.newest(SESSION, call_ids).await?;
                    return Ok(if asked.is_some() || self.0.pauses.holds(self.0.assistant) { None } else { Some(Err("refused")) });
                }
            }
        }
        Ok(Some(Ok(())))
    }

    async fn is_there(&self, path: &str) -> bool {
        tokio::fs::symlink_metadata(self.0.workspace.join(path)).await.is_ok()
    }

    /// Tells the assistant its task once, and looks what came of it. `None`: it is not over.
    async fn task(&self, run: &Run, n: usize) -> Result<Option<Result<(), &'static str>>, StoreError> {
        let (step, progress) = (&run.blueprint.step[n], &run.steps[n]);
        let Some(task) = step.ask.as_ref().filter(|_| self.0.gateway.is_gated()) else { return Ok(None) };
        let key = format!("first-hour-{}-{n}-{}", run.run, progress.attempt);
        let Ok(history) = self.0.gateway.history(CHAT, MESSAGES).await else { return Ok(None) };
        let Some(told_ms) = progress.told_ms.or_else(|| has_heard(&history, &key).then_some(progress.since_ms)) else {
            // It would be dropped, and with it the call that somebody is asked about.
            if self.0.approvals.holds(CHAT) {
                return Ok(None);
            }
            return match self.0.gateway.tell(CHAT, said(task, run.language).trim(), &key).await {
                Ok(()) => {
                    self.told(run, n).await?;
                    Ok(None)
                }
                Err(CallError::Refused { .. }) => Ok(Some(Err("untold"))),
                Err(_) => Ok(None),
            };
        };
        let works = !is_settled(&history) || self.0.approvals.holds(CHAT) || self.0.approvals.waits(CHAT, told_ms).await?;
        if works || self.0.clock.wall_ms() - told_ms < BEGIN_MS {
            return Ok(None);
        }
        for path in step.expected(run.language) {
            if !self.is_there(path).await {
                return Ok(Some(Err("nothing_there")));
            }
        }
        Ok(Some(Ok(())))
    }

    async fn told(&self, run: &Run, n: usize) -> Result<(), StoreError> {
        let (assistant, drawn, now_ms) = (self.0.assistant.to_string(), run.run.clone(), self.0.clock.wall_ms());
        let sql = "UPDATE first_hour_step SET told_ms = ?4 WHERE assistant = ?1 AND n = ?2 AND state = 'running'
             AND EXISTS (SELECT 1 FROM first_hour WHERE assistant = ?1 AND run = ?3)";
        self.0.store.write(move |tx| Ok::<_, StoreError>(tx.execute(sql, params![assistant, n as i64, drawn, now_ms]).map(|_| ())?)).await
    }

    /// A step goes on, unless somebody has wished otherwise meanwhile.
    async fn becomes(&self, seen: &Run, n: usize, to: StepState, why: Option<&'static str>) -> Result<(), StoreError> {
        let (assistant, now_ms, drawn, was) = (self.0.assistant, self.0.clock.wall_ms(), seen.run.clone(), seen.steps[n].clone());
        self.0
            .store
            .write(move |tx| {
                let found = run(tx, assistant)?.filter(|run| run.run == drawn && run.ended_ms.is_none());
                if let Some(found) = found.filter(|run| run.steps[n].state == was.state && run.steps[n].attempt == was.attempt) {
                    set(tx, assistant, &found, n, to, why, "agent", now_ms)?;
                }
                Ok::<_, StoreError>(())
            })
            .await?;
        self.changed();
        Ok(())
    }
}

/// Whether the conversation holds what was said under this key.
fn has_heard(history: &Value, key: &str) -> bool {
    let of = |message: &Value| message["idempotencyKey"].as_str().is_some_and(|heard| heard.strip_suffix(":user").unwrap_or(heard) == key);
    history["messages"].as_array().is_some_and(|messages| messages.iter().any(of))
}

/// Whether nothing runs in the session, as far as it says. A word that nobody knows may mean that something does.
fn is_settled(history: &Value) -> bool {
    history["sessionInfo"]["status"].as_str().is_none_or(|status| SETTLED.contains(&status))
}

/// What OpenClaw says of a session in which nothing runs.
const SETTLED: [&str; 6] = ["done", "failed", "killed", "timeout", "error", "idle"];

#[allow(clippy::too_many_arguments)]
fn set(tx: &Tx, assistant: AssistantId, run: &Run, n: usize, to: StepState, why: Option<&str>, by: &str, now_ms: i64) -> rusqlite::Result<()> {
    let attempt = run.steps[n].attempt + u32::from(to == StepState::Running);
    let sql = "UPDATE first_hour_step SET state = ?3, attempt = ?4, since_ms = ?5, told_ms = NULL, why = ?6 WHERE assistant = ?1 AND n = ?2";
    let id = assistant.to_string();
    tx.execute(sql, params![id, n as i64, to.name(), attempt, now_ms, why])?;
    let (template, step) = (&run.blueprint.id, &run.blueprint.step[n].id);
    let detail = [Some(template.as_str()), Some(step.as_str()), Some(to.name()), why].into_iter().flatten().collect::<Vec<_>>().join(" ");
    audit::note(tx, now_ms, &Deed { actor: by, deed: "template_step", subject: &id, detail: &detail })
}

fn end(tx: &Tx, assistant: AssistantId, by: &str, now_ms: i64) -> rusqlite::Result<bool> {
    let id = assistant.to_string();
    let ended = tx.execute("UPDATE first_hour SET ended_ms = ?2 WHERE assistant = ?1 AND ended_ms IS NULL", params![id, now_ms])? > 0;
    if ended {
        audit::note(tx, now_ms, &Deed { actor: by, deed: "template_ended", subject: &id, detail: "" })?;
    }
    Ok(ended)
}

fn run(connection: &Connection, assistant: AssistantId) -> rusqlite::Result<Option<Run>> {
    let id = assistant.to_string();
    let sql = "SELECT run, blueprint, language, started_ms, started_by, ended_ms FROM first_hour WHERE assistant = ?1";
    let found = connection
        .query_row(sql, [&id], |row| {
            let (text, language): (String, String) = (row.get(1)?, row.get(2)?);
            // One that a later version wrote in another form is none to this one.
            let Ok(blueprint) = serde_json::from_str(&text) else { return Ok(None) };
            let language = Language::parse(&language).unwrap_or_default();
            Ok(Some(Run { run: row.get(0)?, blueprint, language, started_ms: row.get(3)?, started_by: row.get(4)?, ended_ms: row.get(5)?, steps: Vec::new() }))
        })
        .optional()?
        .flatten();
    let Some(mut found) = found else { return Ok(None) };
    let mut rows = connection.prepare_cached("SELECT state, attempt, since_ms, told_ms, why FROM first_hour_step WHERE assistant = ?1 ORDER BY n")?;
    let step = |row: &rusqlite::Row<'_>| {
        let state: String = row.get(0)?;
        let state = StepState::ALL.into_iter().find(|known| known.name() == state).unwrap_or(StepState::Failed);
        Ok(Progress { state, attempt: row.get(1)?, since_ms: row.get(2)?, told_ms: row.get(3)?, why: row.get(4)? })
    };
    found.steps = rows.query_map([&id], step)?.collect::<rusqlite::Result<_>>()?;
    Ok((found.steps.len() == found.blueprint.step.len()).then_some(found))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_come_one_after_the_other_and_a_failed_one_waits_for_a_person() {
        use StepState::*;
        let steps =
            |states: &[StepState]| states.iter().map(|state| Progress { state: *state, attempt: 1, since_ms: 0, told_ms: None, why: None }).collect::<Vec<_>>();
        for (states, expected) in [
            (&[Waiting, Waiting][..], Next::Begin(0)),
            (&[Running, Waiting], Next::GoOn(0)),
            (&[Done, Waiting], Next::Begin(1)),
            (&[Skipped, Running], Next::GoOn(1)),
            (&[Failed, Waiting], Next::Rest),
            (&[Done, Skipped], Next::End),
        ] {
            assert_eq!(next(&steps(states)), expected, "{states:?}");
        }
    }

    #[test]
    fn a_task_that_was_heard_is_known_by_its_key() {
        let history = json!({ "messages": [{ "role": "user", "idempotencyKey": "first-hour-a-0-1:user" }, { "role": "assistant" }], "sessionInfo": { "status": "done" } });
        assert!(has_heard(&history, "first-hour-a-0-1") && !has_heard(&history, "first-hour-a-0-2") && !has_heard(&Value::Null, "first-hour-a-0-1"));
        assert!(is_settled(&history) && !is_settled(&json!({ "sessionInfo": { "status": "running" } })));
    }
}
