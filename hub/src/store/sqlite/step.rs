//! The steps that bring a tenant into service, written down before and after each is done.

use super::{named, word};
use crate::store::Store;
use rusqlite::params;
use service::store::{Result, StoreError};
use wire::TenantId;
use wire::fleet::StepState;

/// A step as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepRecord {
    /// Its place among the tenant's steps.
    pub n: i64,
    pub name: String,
    pub state: StepState,
    /// A code, when it failed.
    pub error: Option<String>,
    /// How often it was begun since it last succeeded.
    pub tries: i64,
    pub changed_ms: i64,
}

impl Store {
    /// The tenant's steps, in order.
    pub async fn steps(&self, tenant: TenantId) -> Result<Vec<StepRecord>> {
        let sql = "SELECT n, name, state, error, tries, changed_ms FROM step WHERE tenant_id = ?1 ORDER BY n";
        self.db()
            .read(move |c| {
                let mut rows = c.prepare_cached(sql)?;
                let steps = rows.query_map([tenant.to_string()], |row| {
                    Ok(StepRecord { n: row.get(0)?, name: row.get(1)?, state: word(row, 2)?, error: row.get(3)?, tries: row.get(4)?, changed_ms: row.get(5)? })
                })?;
                steps.collect()
            })
            .await
    }

    /// Writes steps down, all or none. When this returns `Ok`, they are on the disk.
    pub async fn set_steps(&self, tenant: TenantId, steps: Vec<StepRecord>) -> Result<()> {
        let sql = "INSERT OR REPLACE INTO step (tenant_id, n, name, state, error, tries, changed_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
        self.db()
            .write(move |tx| {
                for step in steps {
                    tx.execute(sql, params![tenant.to_string(), step.n, step.name, named(step.state), step.error, step.tries, step.changed_ms])?;
                }
                Ok::<_, StoreError>(())
            })
            .await?;
        self.changed();
        Ok(())
    }
}
