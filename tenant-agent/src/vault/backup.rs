//! Backups of the vault, and bringing one back.

use super::recovery::{Backup, RecoveryKey, RecoveryPublic};
use super::seal::{self, KEY_BYTES, Key};
use super::value::{self, Allowed};
use super::{Bindings, COLUMNS, Put, Result, Unlocked, Vault, VaultError, Version, bindings_of, carried, fingerprint_context, is_binding, within_limits};
use crate::audit::{self, Deed};
use crate::store::MIGRATIONS;
use anyhow::Context;
use ring::hmac;
use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};
use service::{SecretString, Store, Tx, random};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use zeroize::Zeroizing;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Restore {
    /// Values of the backup take the place of other ones that the vault has.
    pub replace: bool,
    pub other_tenant: bool,
    /// Only says what would come of it.
    pub dry_run: bool,
}

#[derive(Debug, Default, Serialize)]
pub struct Restored {
    pub made_ms: i64,
    pub added: Vec<String>,
    pub replaced: Vec<String>,
    /// The vault has another value, and it stays.
    pub left: Vec<String>,
    pub unchanged: u64,
}

impl Vault {
    /// Draws the tenant's recovery key. An earlier one goes on opening the backups that were made for it, and no later ones.
    pub async fn new_recovery_key(&self, by: &str) -> Result<RecoveryKey> {
        let key = RecoveryKey::draw();
        let (public, by, now_ms) = (key.public(), by.to_owned(), self.0.clock.wall_ms());
        let written: Result<()> = self
            .0
            .store
            .write(move |tx| {
                let sql = "INSERT OR REPLACE INTO recovery (one, public, created_ms) VALUES (1, ?1, ?2)";
                tx.execute(sql, params![public.0, now_ms])?;
                audit::note(tx, now_ms, &Deed { actor: &by, deed: "recovery_key_new", subject: "", detail: &public.id() })?;
                Ok(())
            })
            .await;
        written.map(|()| key)
    }

    /// Everything that is kept, sealed for the recovery key.
    pub async fn export(&self, by: &str) -> Result<Backup> {
        let _turn = self.0.turn.lock().await;
        let vault = self.clone();
        let (public, rows, bindings) = self
            .0
            .store
            .read(move |c| {
                let sql = format!("SELECT {COLUMNS} FROM secret_version WHERE sealed IS NOT NULL ORDER BY name, version");
                let rows: Vec<Version> = c.prepare(&sql)?.query_map([], Version::of)?.collect::<rusqlite::Result<_>>()?;
                Ok((recovery_public(c)?, rows, bindings_of(c, None)?))
            })
            .await?;
        let public = public.ok_or(VaultError::RecoveryKeyMissing)?;
        let mut secrets = Vec::with_capacity(rows.len());
        for row in &rows {
            // A backup that lacks something is not one: better to hear of it now.
            secrets.push(SavedVersion::of(row, vault.opened(row)?));
        }
        let count = secrets.len() as u64;
        let content = Saved { fingerprint_key: random::base64url(self.unlocked().fingerprint_key.as_slice()), secrets, bindings };
        let backup = Backup::seal(&public, &self.0.tenant, self.0.clock.wall_ms(), count, &content.bytes()?)?;
        self.note(by, "vault_exported", "", &format!("{count} for {}", public.id())).await?;
        Ok(backup)
    }

    /// Brings a backup back. It is written into a store of its own first and read again there, so that what cannot be
    /// restored whole changes nothing; then what is new comes over in one transaction.
    pub async fn restore(&self, by: &str, backup: &Backup, key: &RecoveryKey, how: Restore) -> Result<Restored> {
        let _turn = self.0.turn.lock().await;
        if backup.tenant != self.0.tenant && !how.other_tenant {
            return Err(VaultError::BackupForeign { theirs: backup.tenant.clone(), ours: self.0.tenant.clone() });
        }
        let saved = Saved::parse(&backup.open(key)?)?;
        if saved.secrets.len() as u64 != backup.count {
            return Err(VaultError::BackupDamaged);
        }
        // A vault that never held anything takes the backup's fingerprints over, so that they are what somebody noted.
        let fresh = self.0.store.read(is_fresh).await?;
        let fingerprint_key = if fresh { saved.fingerprint_key()? } else { self.unlocked().fingerprint_key.clone() };
        let sealed = self.rehearsed(&saved, &fingerprint_key).await?;
        let (vault, by, made_ms, taken) = (self.clone(), by.to_owned(), backup.made_ms, fingerprint_key.clone());
        let restored = self.0.store.write(move |tx| {
            if fresh {
                vault.take_fingerprints(tx, &taken)?;
            }
            let restored = vault.bring_over(tx, &by, sealed, &saved, how, made_ms)?;
            within_limits(tx)?;
            // Nothing of it stays.
            if how.dry_run { Err(Rehearsed::Only(restored)) } else { Ok(restored) }
        });
        match restored.await {
            Ok(restored) => {
                let before = self.unlocked();
                self.unlock(Arc::new(Unlocked { keys: before.keys.clone(), name: before.name, fingerprint_key }));
                self.told(Ok(restored))
            }
            Err(Rehearsed::Only(restored)) => Ok(restored),
            Err(Rehearsed::Failed(error)) => Err(error),
        }
    }

    /// The backup's versions, sealed for this vault: written into a scratch store, read back from it, opened and compared.
    async fn rehearsed(&self, saved: &Saved, fingerprint_key: &[u8; KEY_BYTES]) -> Result<Vec<Version>> {
        let path = self.0.folder.join(SCRATCH);
        remove_store(&path);
        let outcome = self.rehearse(&path, saved, fingerprint_key).await;
        remove_store(&path);
        outcome
    }

    async fn rehearse(&self, path: &Path, saved: &Saved, fingerprint_key: &[u8; KEY_BYTES]) -> Result<Vec<Version>> {
        let scratch = Store::open(path, MIGRATIONS)?;
        let own_fingerprints = hmac::Key::new(hmac::HMAC_SHA256, fingerprint_key);
        let foreign = hmac::Key::new(hmac::HMAC_SHA256, &saved.fingerprint_key()?[..]);
        let vault = self.clone();
        let vault_key = self.0.store.read(move |c| Ok(vault.vault_key(c))).await??;
        let mut rows = Vec::with_capacity(saved.secrets.len());
        for version in &saved.secrets {
            // Sealing and comparing need the value.
            let plain = version.value.expose();
            value::check_name(&version.name)?;
            value::check_value(&version.name, plain, Allowed { short: true, common: true })?;
            if seal::fingerprint(&foreign, plain) != version.fingerprint {
                return Err(VaultError::BackupDamaged);
            }
            let own = Zeroizing::new(random::bytes::<KEY_BYTES>());
            rows.push(Version {
                sealed_key: Some(vault_key.seal(&self.context("key", &version.name, version.version), own.as_slice())?),
                sealed: Some(Key::new(&own).seal(&self.context("value", &version.name, version.version), plain.as_bytes())?),
                fingerprint: seal::fingerprint(&own_fingerprints, plain),
                name: version.name.clone(),
                version: version.version,
                state: version.state.clone(),
                created_ms: version.created_ms,
                retired_ms: version.retired_ms,
            });
        }
        let count = rows.len();
        let written: Result<()> = scratch
            .write(move |tx| {
                rows.iter().try_for_each(|row| row.insert(tx))?;
                within_limits(tx)
            })
            .await;
        written?;
        let sql = format!("SELECT {COLUMNS} FROM secret_version ORDER BY name, version");
        let read: Vec<Version> = scratch.read(move |c| c.prepare(&sql)?.query_map([], Version::of)?.collect()).await?;
        for row in &read {
            if seal::fingerprint(&own_fingerprints, self.opened(row)?.expose()) != row.fingerprint {
                return Err(VaultError::BackupDamaged);
            }
        }
        if read.len() == count { Ok(read) } else { Err(VaultError::BackupDamaged) }
    }

    fn take_fingerprints(&self, tx: &Tx, key: &[u8; KEY_BYTES]) -> Result<()> {
        if !is_fresh(tx)? {
            return Err(VaultError::Failed(anyhow::anyhow!("somebody kept a secret meanwhile: restore again")));
        }
        let sealed = self.vault_key(tx)?.seal(&fingerprint_context(&self.0.tenant), key)?;
        tx.execute("UPDATE vault SET sealed = ?1", [sealed])?;
        Ok(())
    }

    fn bring_over(&self, tx: &Tx, by: &str, sealed: Vec<Version>, saved: &Saved, how: Restore, made_ms: i64) -> Result<Restored> {
        let now_ms = self.0.clock.wall_ms();
        let mut restored = Restored { made_ms, ..Restored::default() };
        let mut by_name: BTreeMap<String, Vec<Version>> = BTreeMap::new();
        for version in sealed {
            by_name.entry(version.name.clone()).or_default().push(version);
        }
        for (name, versions) in by_name {
            let sql = format!("SELECT {COLUMNS} FROM secret_version WHERE name = ?1 ORDER BY version DESC LIMIT 1");
            let Some(newest) = tx.query_row(&sql, [&name], Version::of).optional()? else {
                versions.iter().try_for_each(|version| version.insert(tx))?;
                for (kind, value) in saved.bindings.get(&name).into_iter().flat_map(Bindings::pairs) {
                    tx.execute("INSERT INTO secret_binding (name, kind, value) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING", params![name, kind, value])?;
                }
                restored.added.push(name);
                continue;
            };
            let Some(theirs) = versions.iter().find(|version| version.state == "current") else { continue };
            if newest.state == "current" && newest.fingerprint == theirs.fingerprint && self.opened(&newest).is_ok() {
                restored.unchanged += 1;
            } else if how.replace || self.opened(&newest).is_err() {
                // What was forgotten or does not open is what one restores for.
                self.put(tx, by, &name, &self.opened(theirs)?, Put::Set)?;
                restored.replaced.push(name);
            } else {
                restored.left.push(name);
            }
        }
        let detail = format!("{} added, {} replaced", restored.added.len(), restored.replaced.len());
        audit::note(tx, now_ms, &Deed { actor: by, deed: "vault_restored", subject: "", detail: &detail })?;
        Ok(restored)
    }
}

pub(super) fn recovery_public(c: &Connection) -> rusqlite::Result<Option<RecoveryPublic>> {
    c.query_row("SELECT public FROM recovery", [], |row| row.get(0).map(RecoveryPublic)).optional()
}

fn is_fresh(c: &Connection) -> rusqlite::Result<bool> {
    c.query_row("SELECT NOT EXISTS (SELECT 1 FROM secret_version)", [], |row| row.get(0))
}

/// What a restore that was killed has left; all of it is sealed.
pub(super) fn remove_scratch(folder: &Path) {
    remove_store(&folder.join(SCRATCH));
}

const SCRATCH: &str = "vault-scratch.db";

fn remove_store(path: &Path) {
    for suffix in ["", "-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        // What is not there needs no removing; what stays is sealed.
        let _ = std::fs::remove_file(name);
    }
}

/// How a write is undone that was only tried.
enum Rehearsed {
    Only(Restored),
    Failed(VaultError),
}

impl<E: Into<VaultError>> From<E> for Rehearsed {
    fn from(error: E) -> Rehearsed {
        Rehearsed::Failed(error.into())
    }
}

/// What a backup holds, once it is open.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    fingerprint_key: String,
    secrets: Vec<SavedVersion>,
    bindings: BTreeMap<String, Bindings>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedVersion {
    name: String,
    version: i64,
    state: String,
    created_ms: i64,
    retired_ms: Option<i64>,
    fingerprint: String,
    #[serde(with = "carried")]
    value: SecretString,
}

impl SavedVersion {
    fn of(row: &Version, value: SecretString) -> SavedVersion {
        SavedVersion {
            name: row.name.clone(),
            version: row.version,
            state: row.state.clone(),
            created_ms: row.created_ms,
            retired_ms: row.retired_ms,
            fingerprint: row.fingerprint.clone(),
            value,
        }
    }
}

impl Saved {
    fn bytes(&self) -> anyhow::Result<Zeroizing<Vec<u8>>> {
        // As long as it can become, so that no copy is left behind by growing: a character is two at most, as an escape.
        let capacity = self.secrets.iter().map(|version| 512 + 2 * version.value.expose().len()).sum::<usize>() + 512;
        let bindings = self.bindings.values().flat_map(Bindings::pairs).map(|(_, value)| 64 + value.len()).sum::<usize>();
        let mut bytes = Zeroizing::new(Vec::with_capacity(capacity + bindings + self.bindings.len() * 128));
        serde_json::to_writer(&mut *bytes, self).context("writing what a backup holds")?;
        Ok(bytes)
    }

    fn parse(bytes: &[u8]) -> Result<Saved> {
        let saved: Saved = serde_json::from_slice(bytes).map_err(|_| VaultError::BackupDamaged)?;
        let sound = |version: &SavedVersion| match version.state.as_str() {
            "current" => version.retired_ms.is_none() && version.version > 0,
            "retired" => version.retired_ms.is_some() && version.version > 0,
            _ => false,
        };
        let bound = saved.bindings.values().flat_map(Bindings::pairs).all(|(kind, value)| is_binding(kind, value));
        if saved.secrets.iter().all(sound) && bound { Ok(saved) } else { Err(VaultError::BackupDamaged) }
    }

    fn fingerprint_key(&self) -> Result<Zeroizing<[u8; KEY_BYTES]>> {
        let bytes = Zeroizing::new(random::from_base64url(&self.fingerprint_key).ok_or(VaultError::BackupDamaged)?);
        seal::key_bytes(&bytes).ok_or(VaultError::BackupDamaged)
    }
}
