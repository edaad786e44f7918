//! One-time tokens and the hosts that used them.

use super::parsed;
use crate::store::Store;
use rusqlite::{Connection, OptionalExtension, params};
use service::store::{Result, StoreError};
use thiserror::Error;
use wire::enrol::{EnrolAnswer, NamedAssistant};
use wire::{HostId, TenantId};

pub const TOKEN_LIFE_MS: i64 = 3_600_000;

#[derive(Debug, Error)]
pub enum EnrolError {
    #[error("the token is unknown")]
    Unknown,
    #[error("the token has expired")]
    Expired,
    #[error("another host used the token")]
    Used,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<rusqlite::Error> for EnrolError {
    fn from(error: rusqlite::Error) -> EnrolError {
        EnrolError::Store(error.into())
    }
}

/// What a host shows; its proof has been checked.
#[derive(Clone, Debug)]
pub struct Applicant {
    pub token_hash: String,
    pub public_key: String,
    pub agent_version: String,
    /// Its id, if it gets one now.
    pub host_id: HostId,
}

impl Store {
    /// A token for the tenant's next host. Earlier unused ones end.
    pub async fn mint_enrolment(&self, tenant: TenantId, token_hash: String, now_ms: i64) -> Result<()> {
        self.db()
            .write(move |tx| {
                let tenant = tenant.to_string();
                tx.execute("DELETE FROM enrolment WHERE tenant_id = ?1 AND host_id IS NULL", [&tenant])?;
                tx.execute(
                    "INSERT INTO enrolment (token_hash, tenant_id, expires_ms) VALUES (?1, ?2, ?3)",
                    params![token_hash, tenant, now_ms + TOKEN_LIFE_MS],
                )?;
                Ok(())
            })
            .await
    }

    pub async fn enrolled(&self, tenant: TenantId) -> Result<bool> {
        let sql = "SELECT EXISTS (SELECT 1 FROM host WHERE tenant_id = ?1)";
        self.db().read(move |c| c.query_row(sql, [tenant.to_string()], |row| row.get(0))).await
    }

    /// Takes a host in, once for a token; the same host asking again gets the same answer.
    pub async fn enrol(&self, applicant: Applicant, now_ms: i64) -> std::result::Result<EnrolAnswer, EnrolError> {
        let answer = self
            .db()
            .write(move |tx| {
                let sql = "SELECT tenant_id, expires_ms, host_id FROM enrolment WHERE token_hash = ?1";
                let found = tx.query_row(sql, [&applicant.token_hash], |row| Ok((parsed(row, 0)?, row.get::<_, i64>(1)?, row.get::<_, Option<String>>(2)?)));
                let (tenant, expires_ms, host): (TenantId, i64, Option<String>) = found.optional()?.ok_or(EnrolError::Unknown)?;
                let host_id = match host {
                    Some(host) => {
                        let sql = "SELECT id FROM host WHERE id = ?1 AND public_key = ?2";
                        tx.query_row(sql, [&host, &applicant.public_key], |row| parsed(row, 0)).optional()?.ok_or(EnrolError::Used)?
                    }
                    None if now_ms >= expires_ms => return Err(EnrolError::Expired),
                    None => {
                        let sql = "INSERT INTO host (id, tenant_id, public_key, agent_version, enrolled_ms) VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (public_key) DO NOTHING";
                        let id = applicant.host_id.to_string();
                        // A key that is known already belongs to a host of its own.
                        if tx.execute(sql, params![id, tenant.to_string(), applicant.public_key, applicant.agent_version, now_ms])? == 0 {
                            return Err(EnrolError::Used);
                        }
                        tx.execute("UPDATE enrolment SET host_id = ?2 WHERE token_hash = ?1", params![applicant.token_hash, id])?;
                        applicant.host_id
                    }
                };
                Ok(answer(tx, host_id, tenant, now_ms)?)
            })
            .await?;
        self.changed();
        Ok(answer)
    }

    /// The tenant and the key of a host.
    pub async fn host(&self, host: HostId) -> Result<Option<(TenantId, String)>> {
        let sql = "SELECT tenant_id, public_key FROM host WHERE id = ?1";
        self.db().read(move |c| c.query_row(sql, [host.to_string()], |row| Ok((parsed(row, 0)?, row.get(1)?))).optional()).await
    }
}

fn answer(connection: &Connection, host_id: HostId, tenant_id: TenantId, hub_time_ms: i64) -> rusqlite::Result<EnrolAnswer> {
    let tenant = tenant_id.to_string();
    let tenant_name = connection.query_row("SELECT name FROM tenant WHERE id = ?1", [&tenant], |row| row.get(0))?;
    let mut rows = connection.prepare("SELECT id, name FROM assistant WHERE tenant_id = ?1 ORDER BY n")?;
    let assistants = rows.query_map([&tenant], |row| Ok(NamedAssistant { id: parsed(row, 0)?, name: row.get(1)? }))?.collect::<rusqlite::Result<_>>()?;
    Ok(EnrolAnswer { host_id, tenant_id, tenant_name, assistants, hub_time_ms })
}
