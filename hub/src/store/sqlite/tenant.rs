//! Tenants and their assistants.

use super::{named, parsed, word};
use crate::store::Store;
use rusqlite::params;
use service::store::{Result, StoreError};
use wire::fleet::TenantState;
use wire::{AssistantId, TenantId};

/// Who runs the machine that a tenant lives on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provider {
    /// This hub, as processes beside it.
    Local,
    /// Somebody else, who enrols an agent with a token.
    Elsewhere,
}

impl Provider {
    fn name(self) -> &'static str {
        match self {
            Provider::Local => "local",
            Provider::Elsewhere => "elsewhere",
        }
    }
}

#[derive(Clone, Debug)]
pub struct NewTenant {
    pub id: TenantId,
    pub name: String,
    pub url: String,
    pub provider: Provider,
    pub assistant: AssistantId,
    pub assistant_name: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalTenant {
    pub id: TenantId,
    pub name: String,
    pub url: String,
    pub state: TenantState,
}

impl Store {
    /// The tenant of this name, made if there is none.
    pub async fn ensure_tenant(&self, tenant: NewTenant, now_ms: i64) -> Result<TenantId> {
        let id = self.db().write(move |tx| {
            // A tenant elsewhere is in service as soon as its host enrols; nothing of ours leads there.
            let state = if tenant.provider == Provider::Local { TenantState::Provisioning } else { TenantState::Ready };
            let sql = "INSERT INTO tenant (id, name, url, provider, state, created_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (name) DO NOTHING";
            let made = tx.execute(sql, params![tenant.id.to_string(), tenant.name, tenant.url, tenant.provider.name(), named(state), now_ms])?;
            if made > 0 {
                let sql = "INSERT INTO assistant (id, tenant_id, n, name) VALUES (?1, ?2, 0, ?3)";
                tx.execute(sql, params![tenant.assistant.to_string(), tenant.id.to_string(), tenant.assistant_name])?;
            }
            Ok::<_, StoreError>(tx.query_row("SELECT id FROM tenant WHERE name = ?1", [&tenant.name], |row| parsed(row, 0))?)
        });
        let id = id.await?;
        self.changed();
        Ok(id)
    }

    /// The tenants that live on this machine.
    pub async fn local_tenants(&self) -> Result<Vec<LocalTenant>> {
        let sql = "SELECT id, name, url, state FROM tenant WHERE provider = 'local' ORDER BY created_ms, id";
        self.db()
            .read(move |c| {
                let mut rows = c.prepare(sql)?;
                let tenants = rows.query_map([], |row| Ok(LocalTenant { id: parsed(row, 0)?, name: row.get(1)?, url: row.get(2)?, state: word(row, 3)? }))?;
                tenants.collect()
            })
            .await
    }

    pub async fn set_tenant(&self, id: TenantId, url: String, state: TenantState) -> Result<()> {
        let sql = "UPDATE tenant SET url = ?2, state = ?3 WHERE id = ?1 AND (url <> ?2 OR state <> ?3)";
        let changed = self.db().write(move |tx| Ok::<_, StoreError>(tx.execute(sql, params![id.to_string(), url, named(state)])?)).await?;
        if changed > 0 {
            self.changed();
        }
        Ok(())
    }
}
