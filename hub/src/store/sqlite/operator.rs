//! The operators' one-time password and their sessions.

use super::parsed;
use crate::store::Store;
use rusqlite::{OptionalExtension, params};
use service::store::{Result, StoreError};
use wire::OperatorId;

impl Store {
    /// The password that the next operator may use; an unspent one ends.
    pub async fn set_operator_password(&self, password_hash: String) -> Result<()> {
        let sql = "INSERT OR REPLACE INTO operator_password (one, password_hash) VALUES (1, ?1)";
        self.db().write(move |tx| Ok(tx.execute(sql, [password_hash]).map(|_| ())?)).await
    }

    pub async fn operator_password(&self) -> Result<Option<String>> {
        self.db().read(|c| c.query_row("SELECT password_hash FROM operator_password", [], |row| row.get(0)).optional()).await
    }

    /// Spends the password for a session, in one transaction. `false` when somebody else was faster.
    pub async fn spend_operator_password(
        &self,
        password_hash: String,
        session_hash: String,
        operator: OperatorId,
        now_ms: i64,
        expires_ms: i64,
    ) -> Result<bool> {
        self.db()
            .write(move |tx| {
                if tx.execute("DELETE FROM operator_password WHERE password_hash = ?1", [password_hash])? == 0 {
                    return Ok(false);
                }
                tx.execute("DELETE FROM operator_session WHERE expires_ms <= ?1", [now_ms])?;
                let sql = "INSERT INTO operator_session (token_hash, operator_id, expires_ms) VALUES (?1, ?2, ?3)";
                tx.execute(sql, params![session_hash, operator.to_string(), expires_ms])?;
                Ok::<_, StoreError>(true)
            })
            .await
    }

    pub async fn operator_session(&self, session_hash: String, now_ms: i64) -> Result<Option<OperatorId>> {
        let sql = "SELECT operator_id FROM operator_session WHERE token_hash = ?1 AND expires_ms > ?2";
        self.db().read(move |c| c.query_row(sql, params![session_hash, now_ms], |row| parsed(row, 0)).optional()).await
    }

    pub async fn end_operator_session(&self, session_hash: String) -> Result<()> {
        self.db().write(move |tx| Ok(tx.execute("DELETE FROM operator_session WHERE token_hash = ?1", [session_hash]).map(|_| ())?)).await
    }
}
