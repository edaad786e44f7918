//! Published policy bundles: the file as it was signed, and what is needed to choose one for a tenant.

use super::json;
use crate::store::Store;
use rusqlite::{OptionalExtension, Row, params};
use service::store::{Result, StoreError};
use thiserror::Error;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundleRecord {
    pub channel: String,
    /// Whom it is for; nobody named: all.
    pub tenants: Vec<String>,
    pub version: i64,
    /// The name of the law in it.
    pub digest: String,
    /// The version of the newest key document in the file.
    pub keys_version: i64,
    /// The hash of the whole file.
    pub file: String,
    pub text: String,
    pub expires_ms: i64,
    pub published_ms: i64,
}

#[derive(Debug, Error)]
pub enum PublishError {
    #[error("version {published} is published on this channel already, and agents take only newer ones: give this one a version above it")]
    Older { published: i64 },
    #[error("another bundle of version {version} is published already: give this one the next version")]
    Equivocation { version: i64 },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Files that are kept, for whoever asks what was law.
const KEPT_MAX: i64 = 100;
const COLUMNS: &str = "channel, tenants, version, digest, keys_version, file, text, expires_ms, published_ms";

impl Store {
    /// Keeps a bundle for the agents. The same law with newer keys takes the place of the one with older keys.
    pub async fn publish_bundle(&self, record: BundleRecord) -> std::result::Result<(), PublishError> {
        let tenants = serde_json::to_string(&record.tenants).unwrap_or_default();
        self.db()
            .write(move |tx| {
                let sql = "SELECT version, digest, keys_version FROM bundle WHERE channel = ?1 ORDER BY version DESC, keys_version DESC LIMIT 1";
                let newest: Option<(i64, String, i64)> =
                    tx.query_row(sql, [&record.channel], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).optional().map_err(StoreError::from)?;
                match newest {
                    // Agents whose key was revoked begin again at a lower number, which the newer keys say.
                    Some((version, ..)) if record.version < version && newest.as_ref().is_some_and(|newest| record.keys_version <= newest.2) => {
                        return Err(PublishError::Older { published: version });
                    }
                    Some((version, digest, _)) if record.version == version && digest != record.digest => {
                        return Err(PublishError::Equivocation { version });
                    }
                    _ => {}
                }
                let write = || {
                    tx.execute(
                        "DELETE FROM bundle WHERE channel = ?1 AND (version > ?2 OR (version = ?2 AND tenants = ?3))",
                        params![record.channel, record.version, tenants],
                    )?;
                    let sql = format!("INSERT INTO bundle ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)");
                    let BundleRecord { channel, version, digest, keys_version, file, text, expires_ms, published_ms, .. } = &record;
                    tx.execute(&sql, params![channel, tenants, version, digest, keys_version, file, text, expires_ms, published_ms])?;
                    tx.execute("DELETE FROM bundle WHERE n <= (SELECT max(n) FROM bundle) - ?1", [KEPT_MAX])
                };
                write().map_err(StoreError::from)?;
                Ok(())
            })
            .await
    }

    /// The newest of each channel for each audience.
    pub async fn bundles(&self) -> Result<Vec<BundleRecord>> {
        let sql = format!(
            "SELECT {COLUMNS} FROM bundle b WHERE version = (SELECT max(version) FROM bundle o WHERE o.channel = b.channel AND o.tenants = b.tenants) ORDER BY channel, tenants"
        );
        self.db().read(move |c| c.prepare_cached(&sql)?.query_map([], read)?.collect()).await
    }

    /// Grows with each publication, also by another process.
    pub async fn bundles_mark(&self) -> Result<i64> {
        self.db().read(|c| c.prepare_cached("SELECT coalesce(max(n), 0) FROM bundle")?.query_row([], |row| row.get(0))).await
    }
}

fn read(row: &Row<'_>) -> rusqlite::Result<BundleRecord> {
    Ok(BundleRecord {
        channel: row.get(0)?,
        tenants: json(row, 1)?,
        version: row.get(2)?,
        digest: row.get(3)?,
        keys_version: row.get(4)?,
        file: row.get(5)?,
        text: row.get(6)?,
        expires_ms: row.get(7)?,
        published_ms: row.get(8)?,
    })
}
