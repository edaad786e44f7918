//! Assistants that somebody has stopped: no model answers them, no call of theirs runs, and nothing is said to them, until an
//! owner lets them go on. On the disk before it is acknowledged.

use crate::audit::{self, Deed};
use crate::devices::{self, Heard};
use crate::identity::parsed;
use crate::people::{self, Role};
use axum::http::StatusCode;
use rusqlite::{Connection, Row, params};
use serde::Serialize;
use service::{Clock, Refusal, Store, Tx};
use std::sync::Arc;
use tokio::sync::watch;
use wire::{ApprovalId, AssistantId, PersonId};

#[derive(Clone)]
pub struct Pauses(Arc<Inner>);

struct Inner {
    store: Store,
    clock: Clock,
    now: watch::Sender<Arc<Vec<Pause>>>,
    /// One reading after the other, so that the last one has seen every write.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Pause {
    pub assistant: AssistantId,
    pub since_ms: i64,
    /// A person, or `console`.
    pub by: String,
    /// The question that nobody had asked for, where it was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approval: Option<ApprovalId>,
}

pub const PAUSED: Refusal = Refusal::new(StatusCode::CONFLICT, "assistant_paused");
const NOT_PAUSED: Refusal = Refusal::new(StatusCode::NOT_FOUND, "assistant_not_paused");

impl Pauses {
    /// Nobody is paused, until [`Pauses::reread`].
    pub fn new(store: Store, clock: Clock) -> Pauses {
        Pauses(Arc::new(Inner { store, clock, now: watch::Sender::default(), turn: tokio::sync::Mutex::default() }))
    }

    pub async fn open(store: Store, clock: Clock) -> service::store::Result<Pauses> {
        let pauses = Pauses::new(store, clock);
        pauses.reread().await?;
        Ok(pauses)
    }

    pub fn now(&self) -> Arc<Vec<Pause>> {
        self.0.now.borrow().clone()
    }

    pub fn holds(&self, assistant: AssistantId) -> bool {
        self.0.now.borrow().iter().any(|pause| pause.assistant == assistant)
    }

    pub fn watch(&self) -> watch::Receiver<Arc<Vec<Pause>>> {
        self.0.now.subscribe()
    }

    /// Brings what is on the disk into force.
    pub async fn reread(&self) -> service::store::Result<()> {
        let _turn = self.0.turn.lock().await;
        let found = self.0.store.read(list).await?;
        self.0.now.send_if_modified(|now| {
            let changed = **now != found;
            *now = Arc::new(found);
            changed
        });
        Ok(())
    }

    /// Stops an assistant; whoever sees it may.
    pub async fn pause(&self, by: Option<PersonId>, assistant: AssistantId) -> Result<(), Refusal> {
        let now_ms = self.0.clock.wall_ms();
        self.0
            .store
            .write(move |tx| {
                if let Some(person) = by
                    && !people::reach(tx, person)?.sees(assistant)
                {
                    return Err(Refusal::FORBIDDEN);
                }
                Ok(insert(tx, &actor(by), assistant, None, now_ms)?)
            })
            .await?;
        Ok(self.reread().await?)
    }

    /// Lets an assistant go on: by what an owner's device signed, because somebody else may be why it was stopped.
    pub async fn resume_signed(&self, heard: Heard) -> Result<(), Refusal> {
        let wire::device::Deed::Resume { assistant } = heard.statement.deed else { return Err(devices::MALFORMED) };
        self.resume(Some(heard), assistant).await
    }

    /// The same for somebody at the console.
    pub async fn resume_here(&self, assistant: AssistantId) -> Result<(), Refusal> {
        self.resume(None, assistant).await
    }

    async fn resume(&self, heard: Option<Heard>, assistant: AssistantId) -> Result<(), Refusal> {
        let now_ms = self.0.clock.wall_ms();
        self.0
            .store
            .write(move |tx| {
                let by = heard.as_ref().map(|heard| heard.statement.person);
                if let Some(heard) = &heard {
                    devices::spend(tx, heard, now_ms)?;
                    if people::role(tx, heard.statement.person)? != Some(Role::Owner) {
                        return Err(Refusal::FORBIDDEN);
                    }
                }
                if tx.execute("DELETE FROM paused_assistant WHERE assistant = ?1", [assistant.to_string()])? == 0 {
                    return Err(NOT_PAUSED);
                }
                let deed = Deed { actor: &actor(by), deed: "assistant_resumed", subject: &assistant.to_string(), detail: "" };
                Ok(audit::note(tx, now_ms, &deed)?)
            })
            .await?;
        Ok(self.reread().await?)
    }
}

fn actor(by: Option<PersonId>) -> String {
    by.map_or_else(|| "console".to_owned(), |person| person.to_string())
}

/// Part of the transaction of whoever says that they did not ask for something. One that is paused stays as it is.
pub fn insert(tx: &Tx, by: &str, assistant: AssistantId, approval: Option<ApprovalId>, now_ms: i64) -> rusqlite::Result<()> {
    let sql = "INSERT INTO paused_assistant (assistant, since_ms, by, approval) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING";
    let approval = approval.map(|id| id.to_string());
    if tx.execute(sql, params![assistant.to_string(), now_ms, by, approval])? == 0 {
        return Ok(());
    }
    let detail = approval.as_deref().unwrap_or_default();
    audit::note(tx, now_ms, &Deed { actor: by, deed: "assistant_paused", subject: &assistant.to_string(), detail })
}

/// Whether it is paused at the moment of this transaction.
pub fn holds(connection: &Connection, assistant: AssistantId) -> rusqlite::Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM paused_assistant WHERE assistant = ?1)";
    connection.prepare_cached(sql)?.query_row([assistant.to_string()], |row| row.get(0))
}

fn list(connection: &Connection) -> rusqlite::Result<Vec<Pause>> {
    let mut rows = connection.prepare("SELECT assistant, since_ms, by, approval FROM paused_assistant ORDER BY since_ms, assistant")?;
    rows.query_map([], pause_of)?.collect()
}

fn pause_of(row: &Row<'_>) -> rusqlite::Result<Pause> {
    let approval: Option<String> = row.get(3)?;
    Ok(Pause { assistant: parsed(row, 0)?, since_ms: row.get(1)?, by: row.get(2)?, approval: approval.and_then(|id| id.parse().ok()) })
}
