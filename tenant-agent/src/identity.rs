//! Who this host is: its key, and what the hub told it at enrolment.

use anyhow::Context;
use rusqlite::{Connection, OptionalExtension, params};
use service::Store;
use service::key::SigningKey;
use service::store::StoreError;
use std::path::Path;
use std::sync::Arc;
use wire::enrol::{EnrolAnswer, NamedAssistant};
use wire::{AssistantId, HostId, TenantId};

/// OpenClaw's name for the assistant that every gateway has.
pub const MAIN_AGENT: &str = "main";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub host_id: HostId,
    pub tenant_id: TenantId,
    pub tenant_name: String,
    /// With OpenClaw's own id for each.
    pub assistants: Vec<(String, NamedAssistant)>,
}

impl Identity {
    /// The assistant that OpenClaw calls `agent_id`.
    pub fn assistant(&self, agent_id: &str) -> Option<AssistantId> {
        self.assistants.iter().find(|(id, _)| id == agent_id).map(|(_, assistant)| assistant.id)
    }
}

#[derive(Clone)]
pub struct HostKey(Arc<SigningKey>);

impl HostKey {
    pub fn open(state_folder: &Path) -> anyhow::Result<HostKey> {
        let key = SigningKey::open(&state_folder.join("host.pk8")).context("opening the key of this host")?;
        Ok(HostKey(Arc::new(key)))
    }

    pub fn public(&self) -> String {
        self.0.public()
    }

    pub fn sign(&self, statement: &str) -> String {
        self.0.sign(statement)
    }
}

pub async fn load(store: &Store) -> service::store::Result<Option<Identity>> {
    store.read(read).await
}

/// Keeps the hub's answer. A second answer of the same hub changes nothing that is already kept.
pub async fn keep(store: &Store, answer: EnrolAnswer, now_ms: i64) -> service::store::Result<()> {
    store
        .write(move |tx| {
            let sql = "INSERT INTO identity (one, host_id, tenant_id, tenant_name, enrolled_ms) VALUES (1, ?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING";
            tx.execute(sql, params![answer.host_id.to_string(), answer.tenant_id.to_string(), answer.tenant_name, now_ms])?;
            for (index, assistant) in answer.assistants.iter().enumerate() {
                let agent_id = if index == 0 { MAIN_AGENT.to_owned() } else { format!("assistant-{index}") };
                let sql = "INSERT INTO assistant (id, name, agent_id) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING";
                tx.execute(sql, params![assistant.id.to_string(), assistant.name, agent_id])?;
            }
            Ok::<_, StoreError>(())
        })
        .await
}

fn read(connection: &Connection) -> rusqlite::Result<Option<Identity>> {
    let texts = connection
        .query_row("SELECT host_id, tenant_id, tenant_name FROM identity", [], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get(2)?)))
        .optional()?;
    let Some((host_id, tenant_id, tenant_name)) = texts else { return Ok(None) };
    let mut assistants = Vec::new();
    let mut rows = connection.prepare("SELECT agent_id, id, name FROM assistant ORDER BY agent_id <> 'main', agent_id")?;
    let mut rows = rows.query([])?;
    while let Some(row) = rows.next()? {
        assistants.push((row.get(0)?, NamedAssistant { id: parsed(row, 1)?, name: row.get(2)? }));
    }
    let (Ok(host_id), Ok(tenant_id)) = (host_id.parse(), tenant_id.parse()) else { return Ok(None) };
    Ok(Some(Identity { host_id, tenant_id, tenant_name, assistants }))
}

/// A column that holds a typed text, such as an id.
pub(crate) fn parsed<T>(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<T>
where
    T: std::str::FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    let text: String = row.get(column)?;
    text.parse().map_err(|error| rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error)))
}
