//! The vault: secrets that stay on this host, each sealed on its own.
//!
//! Every version of a value has a key of its own, and that key is sealed with the vault's key. So a new vault key means
//! new seals around small keys, in one transaction, and no value is touched. Name, version and tenant are bound into
//! each seal: what is moved to another name, another version or another tenant's file does not open.
//!
//! A value that was replaced or taken back is retired. It stays sealed here for thirty days, so that the redactor goes on
//! finding it, and of each name the last ten versions stay. Then it is forgotten: fingerprint and times are left.
//!
//! What it does not do: hold against somebody who has both the store and the key.

mod backup;
mod import;
mod key;
mod recovery;
mod seal;
mod source;
mod value;

use crate::audit::{self, Deed};
use anyhow::Context;
use backup::recovery_public;
pub use backup::{Restore, Restored};
pub use import::{Entry, Format, IMPORT_BYTES_MAX};
use key::{KeyPlace, Name};
pub use recovery::{Backup, RecoveryKey, RecoveryPublic};
use ring::hmac;
use rusqlite::{Connection, OptionalExtension, Row, params};
use seal::{KEY_BYTES, Key};
use serde::{Deserialize, Serialize};
use service::store::StoreError;
use service::{Clock, SecretString, Store, Tx, log, random};
pub use source::{Given, Source, variable};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, RwLock};
use thiserror::Error;
use tokio::sync::{Mutex, watch};
pub use value::{Allowed, VALUE_BYTES_MAX, VALUE_CHARS_MIN};
use zeroize::Zeroizing;

/// Names with a value. The redactor looks for each of them in everything that leaves.
pub const SECRETS_MAX: i64 = 10_000;
/// All that is sealed, history included and each version with its name and times, so that a backup of it fits through the
/// console.
pub const VAULT_BYTES_MAX: i64 = 12 * 1024 * 1024;
/// What a version takes in a backup beside its value.
const VERSION_BYTES: i64 = 256;
/// Newest versions of a name that are kept, however old.
const VERSIONS_KEPT: i64 = 10;
/// How long a value that was replaced is still looked for: it may live on in a transcript, and at whoever gave it.
const RETIRED_KEPT_MS: i64 = 30 * 24 * 3_600_000;
/// How often what may be forgotten is looked for.
const SWEEP_MS: i64 = 3_600_000;
const BINDINGS_MAX: usize = 64;

#[derive(Debug, Error)]
pub enum VaultError {
    #[error("the name of a secret is 1 to {} of a-z, 0-9, dot, dash and underscore", value::NAME_BYTES_MAX)]
    NameInvalid,
    #[error("the value of `{name}` is empty")]
    ValueEmpty { name: String },
    #[error("the value of `{name}` is larger than {VALUE_BYTES_MAX} bytes, the most that the vault keeps; keep the file elsewhere and its passphrase here")]
    ValueLarge { name: String },
    #[error("the value of `{name}` is not text (invalid UTF-8, NUL or other control characters): --base64 keeps it as base64")]
    ValueBinary { name: String },
    #[error("the value of `{name}` is a placeholder of a masked text, not a secret: set the secret itself")]
    ValuePlaceholder { name: String },
    #[error(
        "the value of `{name}` has fewer than {VALUE_CHARS_MIN} characters: masking it wherever it stands would blank ordinary text. \
         Take a longer one, or --short, and it is kept but not looked for in texts that leave"
    )]
    ValueShort { name: String },
    #[error(
        "the value of `{name}` is an ordinary word or pattern: masking it wherever it stands would blank ordinary text, and anybody guesses it. Take another one, or --common"
    )]
    ValueCommon { name: String },
    #[error("`{name}` has this value already: a rotation needs another one")]
    ValueUnchanged { name: String },
    #[error("there is no secret `{name}`; `tenant-agent vault list` names them")]
    Unknown { name: String },
    #[error("`{name}` has no version {version} that is still kept")]
    VersionUnknown { name: String, version: i64 },
    #[error("the vault is full ({SECRETS_MAX} names, {VAULT_BYTES_MAX} bytes with history): forget something with `tenant-agent vault forget`")]
    Full,
    #[error("`{what}` does not open: what is stored was changed. Set it again, or bring it back from a backup; everything else is as it was")]
    Unreadable { what: String },
    #[error("the vault is sealed with the key {id}, and that key is not here: {seen}. Put the right one back; nothing was changed")]
    KeyWrong { id: String, seen: String },
    #[error("the vault's key is a systemd credential, which only systemd can replace: give the unit a second one, `vault-key-next`, and rotate again")]
    KeyFixed,
    #[error("this cannot be imported: {why}")]
    ImportMalformed { why: String },
    #[error(
        "a secret is bound to tools (a name of letters, digits, `_`, `-`, `.`) and hosts (lower case, `api.example.org` or `*.example.org`), {BINDINGS_MAX} at most"
    )]
    BindingInvalid,
    #[error("there is no recovery key yet, so nobody could open the backup: make one with `tenant-agent vault recovery-key new`")]
    RecoveryKeyMissing,
    #[error("this is no recovery key: it begins with GHR1 and has eight groups of five, the last of which check the others")]
    RecoveryKeyMalformed,
    #[error("this backup opens with the recovery key {wanted}, and the one that was given is {given}")]
    RecoveryKeyWrong { wanted: String, given: String },
    #[error("this is no backup of a vault")]
    BackupMalformed,
    #[error("this backup was changed or damaged: take another copy. Nothing was restored")]
    BackupDamaged,
    #[error("this backup is of the tenant {theirs}, not of {ours}: --other-tenant restores it all the same")]
    BackupForeign { theirs: String, ours: String },
    #[error("this would show a secret on a terminal: {remedy}")]
    Terminal { remedy: &'static str },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Failed(#[from] anyhow::Error),
}

impl VaultError {
    /// A key of the catalogue under `error.`.
    pub fn code(&self) -> &'static str {
        match self {
            VaultError::NameInvalid => "vault_name_invalid",
            VaultError::ValueEmpty { .. } => "vault_value_empty",
            VaultError::ValueLarge { .. } => "vault_value_large",
            VaultError::ValueBinary { .. } => "vault_value_binary",
            VaultError::ValuePlaceholder { .. } => "vault_value_placeholder",
            VaultError::ValueShort { .. } => "vault_value_short",
            VaultError::ValueCommon { .. } => "vault_value_common",
            VaultError::ValueUnchanged { .. } => "vault_value_unchanged",
            VaultError::Unknown { .. } => "secret_unknown",
            VaultError::VersionUnknown { .. } => "secret_version_unknown",
            VaultError::Full => "vault_full",
            VaultError::Unreadable { .. } => "vault_unreadable",
            VaultError::KeyWrong { .. } => "vault_key_wrong",
            VaultError::KeyFixed => "vault_key_fixed",
            VaultError::ImportMalformed { .. } => "vault_import_malformed",
            VaultError::BindingInvalid => "secret_binding_invalid",
            VaultError::RecoveryKeyMissing => "recovery_key_missing",
            VaultError::RecoveryKeyMalformed => "recovery_key_malformed",
            VaultError::RecoveryKeyWrong { .. } => "recovery_key_wrong",
            VaultError::BackupMalformed => "backup_malformed",
            VaultError::BackupDamaged => "backup_damaged",
            VaultError::BackupForeign { .. } => "backup_foreign",
            VaultError::Terminal { .. } => "vault_terminal",
            VaultError::Store(_) | VaultError::Failed(_) => "internal",
        }
    }
}

impl From<rusqlite::Error> for VaultError {
    fn from(error: rusqlite::Error) -> VaultError {
        VaultError::Store(StoreError::Sql(error))
    }
}

type Result<T> = std::result::Result<T, VaultError>;

#[derive(Clone)]
pub struct Vault(Arc<Inner>);

struct Inner {
    store: Store,
    clock: Clock,
    /// Bound into each seal.
    tenant: String,
    folder: PathBuf,
    place: KeyPlace,
    unlocked: RwLock<Arc<Unlocked>>,
    given: Given,
    /// Counts what changed which values are known.
    epoch: watch::Sender<u64>,
    /// Keys of providers, as they were at this count: each model call needs one.
    provider_keys: RwLock<(u64, HashMap<String, SecretString>)>,
    /// One rotation of the key, backup or restore at a time.
    turn: Mutex<()>,
    next_sweep_ms: AtomicI64,
}

/// What the vault's key opens.
struct Unlocked {
    /// The key that the store is sealed with and, around a rotation, the one before or after it.
    keys: Vec<Arc<Key>>,
    name: Name,
    fingerprint_key: Zeroizing<[u8; KEY_BYTES]>,
}

/// Whether a value must be new, or may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Put {
    Set,
    Rotate,
}

#[derive(Debug, Serialize)]
pub struct Kept {
    pub name: String,
    pub version: i64,
    pub outcome: Outcome,
    pub masked: String,
    pub fingerprint: String,
    pub warnings: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Added,
    Rotated,
    Unchanged,
}

/// A secret as it may be shown.
#[derive(Debug, Serialize)]
pub struct Listed {
    pub name: String,
    pub version: i64,
    pub state: String,
    pub masked: String,
    pub fingerprint: String,
    pub created_ms: i64,
    /// Since this version came.
    pub age_ms: i64,
    /// When a later version last took the place of an earlier one.
    pub rotated_ms: Option<i64>,
    /// Versions whose values are still kept.
    pub kept: i64,
    pub tools: Vec<String>,
    pub hosts: Vec<String>,
    /// Its seal does not open.
    pub broken: bool,
}

/// A version as it may be shown.
#[derive(Debug, Serialize)]
pub struct Past {
    pub version: i64,
    pub state: String,
    pub fingerprint: String,
    pub created_ms: i64,
    pub retired_ms: Option<i64>,
}

/// A value that must not leave, for whoever sees to that.
#[derive(Clone, Debug)]
pub struct Known {
    pub name: String,
    /// 0: it came with the start of the agent, not from the vault.
    pub version: i64,
    pub value: SecretString,
    pub is_current: bool,
    /// Looking for it everywhere would blank ordinary text.
    pub is_short: bool,
}

/// Where a secret may go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bindings {
    #[serde(default)]
    pub tools: Vec<String>,
    #[serde(default)]
    pub hosts: Vec<String>,
}

/// Which source a name has, first the one that wins.
#[derive(Debug, Serialize)]
pub struct Sources {
    pub name: String,
    pub source: Option<Source>,
    pub others: Vec<Source>,
    /// What would be looked at first. Only keys of providers come in this way.
    pub variable: Option<String>,
}

#[derive(Debug, Serialize)]
pub struct Checked {
    /// Values that open.
    pub values: u64,
    /// Those that do not, as name and version.
    pub broken: Vec<String>,
    pub key_id: String,
    pub key_path: PathBuf,
    pub recovery_key: Option<String>,
}

impl Vault {
    /// `credentials` is systemd's folder of credentials, where the key is called `vault-key`.
    pub async fn open(store: Store, clock: Clock, state_folder: &Path, credentials: Option<&Path>, tenant: &str, given: Given) -> Result<Vault> {
        backup::remove_scratch(state_folder);
        let place = KeyPlace::new(state_folder, credentials);
        let sql = "SELECT key_id, sealed FROM vault";
        let made: Option<(String, Vec<u8>)> = store.read(move |c| c.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?))).optional()).await?;
        let found = place.find(made.as_ref().map(|(id, _)| id.as_str()))?;
        let context = fingerprint_context(tenant);
        let fingerprint_key = match &made {
            Some((_, sealed)) => {
                let opened = found.key.open(&context, sealed).and_then(|bytes| seal::key_bytes(&bytes));
                opened.ok_or_else(|| VaultError::Unreadable { what: format!("the vault of {tenant}") })?
            }
            None => {
                let bytes = Zeroizing::new(random::bytes::<KEY_BYTES>());
                let (id, sealed, now_ms) = (found.key.id().to_owned(), found.key.seal(&context, bytes.as_slice())?, clock.wall_ms());
                let sql = "INSERT INTO vault (one, key_id, sealed, rotated_ms) VALUES (1, ?1, ?2, ?3)";
                let written: service::store::Result<usize> = store.write(move |tx| Ok(tx.execute(sql, params![id, sealed, now_ms])?)).await;
                written?;
                bytes
            }
        };
        let unlocked = Unlocked { keys: vec![found.key], name: found.name, fingerprint_key };
        let vault = Vault(Arc::new(Inner {
            store,
            clock,
            tenant: tenant.to_owned(),
            folder: state_folder.to_owned(),
            place,
            unlocked: RwLock::new(Arc::new(unlocked)),
            given,
            epoch: watch::Sender::new(0),
            turn: Mutex::default(),
            provider_keys: RwLock::default(),
            next_sweep_ms: AtomicI64::new(0),
        }));
        vault.adopt().await?;
        Ok(vault)
    }

    /// Keeps a value. Another one under this name is retired; the same one changes nothing.
    pub async fn set(&self, by: &str, name: &str, value: SecretString, put: Put, allowed: Allowed) -> Result<Kept> {
        value::check_name(name)?;
        // Its form decides whether it is a value at all.
        value::check_value(name, value.expose(), allowed)?;
        let (vault, by, name) = (self.clone(), by.to_owned(), name.to_owned());
        let kept = self.0.store.write(move |tx| {
            let kept = vault.put(tx, &by, &name, &value, put)?;
            within_limits(tx)?;
            Ok(kept)
        });
        self.told(kept.await)
    }

    /// Makes an earlier version's value the current one again.
    pub async fn go_back(&self, by: &str, name: &str, version: i64) -> Result<Kept> {
        let (vault, by, name) = (self.clone(), by.to_owned(), name.to_owned());
        let kept = self.0.store.write(move |tx| {
            let sql = format!("SELECT {COLUMNS} FROM secret_version WHERE name = ?1 AND version = ?2 AND sealed IS NOT NULL");
            let row = tx.query_row(&sql, params![name, version], Version::of).optional()?;
            let row = row.ok_or_else(|| VaultError::VersionUnknown { name: name.clone(), version })?;
            let value = vault.opened(&row)?;
            let kept = vault.put(tx, &by, &name, &value, Put::Rotate)?;
            within_limits(tx)?;
            Ok(kept)
        });
        self.told(kept.await)
    }

    /// Keeps what may be kept, in one transaction, and says why the rest may not.
    pub async fn import(&self, by: &str, entries: Vec<Entry>, allowed: Allowed) -> Result<(Vec<Kept>, Vec<VaultError>)> {
        let mut refused = Vec::new();
        let mut fitting = Vec::new();
        for entry in entries {
            match value::check_value(&entry.name, entry.value.expose(), allowed) {
                Ok(()) => fitting.push(entry),
                Err(error) => refused.push(error),
            }
        }
        let (vault, by) = (self.clone(), by.to_owned());
        let kept = self.0.store.write(move |tx| {
            let mut all = Vec::with_capacity(fitting.len());
            for entry in &fitting {
                let mut kept = vault.put(tx, &by, &entry.name, &entry.value, Put::Set)?;
                kept.warnings.extend(entry.warning.map(str::to_owned));
                all.push(kept);
            }
            within_limits(tx)?;
            Ok::<_, VaultError>(all)
        });
        Ok((self.told(kept.await)?, refused))
    }

    /// From now on nothing gets the value. It stays sealed for thirty days more, so that the redactor finds it: what was
    /// taken back here may still be good where it came from. With `now` it is wiped at once, and no longer found.
    pub async fn forget(&self, by: &str, name: &str, now: bool) -> Result<()> {
        let (by, name, now_ms) = (by.to_owned(), name.to_owned(), self.0.clock.wall_ms());
        let forgotten = self.0.store.write(move |tx| {
            let sql = if now {
                "UPDATE secret_version SET state = 'forgotten', sealed = NULL, sealed_key = NULL, retired_ms = coalesce(retired_ms, ?2) WHERE name = ?1 AND state <> 'forgotten'"
            } else {
                "UPDATE secret_version SET state = 'retired', retired_ms = ?2 WHERE name = ?1 AND state = 'current'"
            };
            if tx.execute(sql, params![name, now_ms])? == 0 {
                return Err(VaultError::Unknown { name });
            }
            tx.execute("DELETE FROM secret_binding WHERE name = ?1", [&name])?;
            let detail = if now { "now" } else { "retired" };
            audit::note(tx, now_ms, &Deed { actor: &by, deed: "secret_forgotten", subject: &name, detail })?;
            Ok(())
        });
        self.told(forgotten.await)
    }

    /// Binds the secret to more tools and hosts, or takes some away.
    pub async fn bind(&self, by: &str, name: &str, bindings: Bindings, bound: bool) -> Result<Bindings> {
        let pairs: Vec<(&'static str, String)> =
            bindings.tools.into_iter().map(|tool| ("tool", tool)).chain(bindings.hosts.into_iter().map(|host| ("host", host))).collect();
        if pairs.is_empty() || pairs.len() > BINDINGS_MAX || !pairs.iter().all(|(kind, value)| is_binding(kind, value)) {
            return Err(VaultError::BindingInvalid);
        }
        let (by, name, now_ms) = (by.to_owned(), name.to_owned(), self.0.clock.wall_ms());
        let outcome = self.0.store.write(move |tx| {
            let sql = "SELECT 1 FROM secret_version WHERE name = ?1 AND state = 'current'";
            if tx.query_row(sql, [&name], |_| Ok(())).optional()?.is_none() {
                return Err(VaultError::Unknown { name });
            }
            for (kind, value) in &pairs {
                let sql = if bound {
                    "INSERT INTO secret_binding (name, kind, value) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING"
                } else {
                    "DELETE FROM secret_binding WHERE name = ?1 AND kind = ?2 AND value = ?3"
                };
                tx.execute(sql, params![name, kind, value])?;
                let deed = if bound { "secret_bound" } else { "secret_unbound" };
                audit::note(tx, now_ms, &Deed { actor: &by, deed, subject: &name, detail: &format!("{kind} {value}") })?;
            }
            let bindings = bindings_of(tx, Some(&name))?.remove(&name).unwrap_or_default();
            if bindings.tools.len() + bindings.hosts.len() > BINDINGS_MAX {
                return Err(VaultError::BindingInvalid);
            }
            Ok(bindings)
        });
        self.told(outcome.await)
    }

    /// Seals every key of a value anew, with a new key of the vault. Killed anywhere, the vault opens with the old one or
    /// with the new one.
    pub async fn rotate_key(&self, by: &str) -> Result<String> {
        let _turn = self.0.turn.lock().await;
        let before = self.unlocked();
        let sql = "SELECT key_id FROM vault";
        let id: String = self.0.store.read(move |c| c.query_row(sql, [], |row| row.get(0))).await?;
        // A rotation whose outcome nobody knows is finished by a start, before another one draws over its key.
        let current = self.0.place.find(Some(&id))?;
        let next = self.0.place.next(&current)?;
        let key = next.key.clone();
        let unlocked = |keys: Vec<Arc<Key>>, name| Arc::new(Unlocked { keys, name, fingerprint_key: before.fingerprint_key.clone() });
        let old = before.keys.iter().find(|key| key.id() == id).cloned().unwrap_or(current.key);
        self.unlock(unlocked(vec![old.clone(), key.clone()], before.name));
        let (vault, by, now_ms, new) = (self.clone(), by.to_owned(), self.0.clock.wall_ms(), key.clone());
        let written: Result<()> = self.0.store.write(move |tx| vault.sealed_anew(tx, &by, now_ms, &old, &new)).await;
        written?;
        let both = self.unlocked().keys.clone();
        // The old one stays for readers that began before, until the next start or rotation.
        self.unlock(unlocked(both, next.name));
        let name = self.0.place.settled(next)?.name;
        self.unlock(unlocked(self.unlocked().keys.clone(), name));
        Ok(key.id().to_owned())
    }

    /// What may be forgotten by now is.
    pub async fn sweep(&self) -> Result<()> {
        let now_ms = self.0.clock.wall_ms();
        if now_ms < self.0.next_sweep_ms.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.0.next_sweep_ms.store(now_ms + SWEEP_MS, Ordering::Relaxed);
        let old_ms = now_ms - RETIRED_KEPT_MS;
        let sql = format!("SELECT count(*) FROM secret_version WHERE {}", outlived());
        let due: i64 = self.0.store.read(move |c| c.query_row(&sql, [old_ms], |row| row.get(0))).await?;
        if due == 0 {
            return Ok(());
        }
        let sql = format!("UPDATE secret_version SET state = 'forgotten', sealed = NULL, sealed_key = NULL WHERE {}", outlived());
        let swept: Result<usize> = self.0.store.write(move |tx| Ok(tx.execute(&sql, [old_ms])?)).await;
        self.told(swept).map(|_| ())
    }

    /// The current value.
    pub async fn value(&self, name: &str) -> Result<Option<SecretString>> {
        let (vault, name) = (self.clone(), name.to_owned());
        let sql = format!("SELECT {COLUMNS} FROM secret_version WHERE name = ?1 AND state = 'current'");
        let row = self.0.store.read(move |c| c.query_row(&sql, [name], Version::of).optional()).await?;
        row.map(|row| vault.opened(&row)).transpose()
    }

    /// The current value, for somebody at the console: written into the audit before it is told.
    pub async fn reveal(&self, by: &str, name: &str) -> Result<SecretString> {
        let value = self.value(name).await?.ok_or_else(|| VaultError::Unknown { name: name.to_owned() })?;
        self.note(by, "secret_revealed", name, "").await?;
        Ok(value)
    }

    /// A provider's key, from wherever it comes first, and where that was.
    pub async fn provider_key(&self, provider: &str) -> Result<Option<(SecretString, Source)>> {
        let name = provider_key_name(provider);
        if let Some((source, value)) = self.0.given.first(&name) {
            return Ok(Some((value.clone(), source)));
        }
        // Before it is read: what changes meanwhile is read again next time.
        let epoch = *self.0.epoch.borrow();
        let known = || self.0.provider_keys.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(key) = Some(known()).filter(|known| known.0 == epoch).and_then(|known| known.1.get(&name).cloned()) {
            return Ok(Some((key, Source::Vault)));
        }
        let Some(key) = self.value(&name).await? else { return Ok(None) };
        let mut known = self.0.provider_keys.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        if known.0 != epoch || known.1.len() >= PROVIDER_KEYS_MAX {
            *known = (epoch, HashMap::new());
        }
        known.1.insert(name, key.clone());
        Ok(Some((key, Source::Vault)))
    }

    /// By what a provider's key is known again, and where it comes from.
    pub async fn provider_fingerprint(&self, provider: &str) -> Result<Option<(String, Source)>> {
        // Exposed to its hash.
        Ok(self.provider_key(provider).await?.map(|(key, source)| (self.unlocked().fingerprint(key.expose()), source)))
    }

    /// Where `name` comes from, or every name that is not only in the vault and every provider's.
    pub async fn sources(&self, name: Option<&str>) -> Result<Vec<Sources>> {
        let sql = "SELECT name FROM secret_version WHERE state = 'current' ORDER BY name";
        let kept: Vec<String> = self.0.store.read(move |c| c.prepare(sql)?.query_map([], |row| row.get(0))?.collect()).await?;
        let mut names: Vec<&str> = match name {
            Some(name) => vec![name],
            None => kept.iter().map(String::as_str).filter(|name| name.starts_with(PROVIDER)).chain(self.0.given.names()).collect(),
        };
        names.sort_unstable();
        names.dedup();
        let of = |name: &str| {
            let mut all = self.0.given.sources(name);
            all.extend(kept.iter().any(|kept| kept == name).then_some(Source::Vault));
            let source = (!all.is_empty()).then(|| all.remove(0));
            Sources { name: name.to_owned(), source, others: all, variable: name.starts_with(PROVIDER).then(|| variable(name)) }
        };
        Ok(names.into_iter().map(of).collect())
    }

    /// Every secret as it may be shown; with `all`, those too that were taken back and are still looked for.
    pub async fn list(&self, all: bool) -> Result<Vec<Listed>> {
        let (vault, now_ms) = (self.clone(), self.0.clock.wall_ms());
        let listed = self.0.store.read(move |c| {
            let mut bindings = bindings_of(c, None)?;
            let sql = format!(
                "SELECT {COLUMNS}, (SELECT count(*) FROM secret_version k WHERE k.name = v.name AND k.sealed IS NOT NULL),
                        (SELECT max(retired_ms) FROM secret_version k WHERE k.name = v.name)
                 FROM secret_version v
                 WHERE version = (SELECT max(version) FROM secret_version k WHERE k.name = v.name) AND (state = 'current' OR ?1)
                 ORDER BY name"
            );
            let mut statement = c.prepare(&sql)?;
            let mut rows = statement.query([all])?;
            let mut listed = Vec::new();
            while let Some(row) = rows.next()? {
                let version = Version::of(row)?;
                let opened = version.sealed.is_some().then(|| vault.opened(&version));
                let Bindings { tools, hosts } = bindings.remove(&version.name).unwrap_or_default();
                listed.push(Listed {
                    // A part of it, for its owner.
                    masked: opened.as_ref().and_then(|value| value.as_ref().ok()).map_or_else(|| "…".to_owned(), |value| value::masked(value.expose())),
                    broken: opened.is_some_and(|value| value.is_err()),
                    age_ms: (now_ms - version.created_ms).max(0),
                    kept: row.get(COLUMNS_COUNT)?,
                    rotated_ms: if version.version > 1 && version.state == "current" { Some(version.created_ms) } else { row.get(COLUMNS_COUNT + 1)? },
                    name: version.name,
                    version: version.version,
                    state: version.state,
                    fingerprint: version.fingerprint,
                    created_ms: version.created_ms,
                    tools,
                    hosts,
                });
            }
            Ok(listed)
        });
        Ok(listed.await?)
    }

    /// Every version of one name, newest first, without values.
    pub async fn history(&self, name: &str) -> Result<Vec<Past>> {
        let (wanted, sql) =
            (name.to_owned(), "SELECT version, state, fingerprint, created_ms, retired_ms FROM secret_version WHERE name = ?1 ORDER BY version DESC");
        let of =
            |row: &Row<'_>| Ok(Past { version: row.get(0)?, state: row.get(1)?, fingerprint: row.get(2)?, created_ms: row.get(3)?, retired_ms: row.get(4)? });
        let history: Vec<Past> = self.0.store.read(move |c| c.prepare(sql)?.query_map([wanted], of)?.collect()).await?;
        if history.is_empty() { Err(VaultError::Unknown { name: name.to_owned() }) } else { Ok(history) }
    }

    /// Where each secret may go.
    pub async fn bindings(&self) -> Result<BTreeMap<String, Bindings>> {
        Ok(self.0.store.read(|c| bindings_of(c, None)).await?)
    }

    /// Every value that must not leave: the current ones, those retired less than thirty days ago, and what came with the
    /// start of the agent. One that does not open is an error: nobody could keep it from leaving.
    pub async fn known(&self) -> Result<Vec<Known>> {
        let (vault, since_ms) = (self.clone(), self.0.clock.wall_ms() - RETIRED_KEPT_MS);
        let stored = self.0.store.read(move |c| {
            let sql =
                format!("SELECT {COLUMNS} FROM secret_version WHERE sealed IS NOT NULL AND (state = 'current' OR retired_ms > ?1) ORDER BY name, version DESC");
            let mut statement = c.prepare(&sql)?;
            let mut rows = statement.query([since_ms])?;
            let mut known = Vec::new();
            while let Some(row) = rows.next()? {
                let version = Version::of(row)?;
                let value = match vault.opened(&version) {
                    Ok(value) => value,
                    Err(error) => return Ok(Err(error)),
                };
                known.push(Known {
                    // Whether it is short.
                    is_short: value::is_short(value.expose()),
                    is_current: version.state == "current",
                    name: version.name,
                    version: version.version,
                    value,
                });
            }
            Ok(Ok(known))
        });
        let mut known = stored.await??;
        // Whether it is short.
        let given = |(name, value): (&str, &SecretString)| Known {
            name: name.to_owned(),
            version: 0,
            value: value.clone(),
            is_current: true,
            is_short: value::is_short(value.expose()),
        };
        known.extend(self.0.given.all().map(given));
        Ok(known)
    }

    /// The key of this tenant's placeholders. It goes with the vault, so that a placeholder means the same after a restart.
    pub fn placeholder_key(&self) -> Zeroizing<[u8; KEY_BYTES]> {
        let unlocked = self.unlocked();
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, unlocked.fingerprint_key.as_slice()), b"gatehouse-placeholders-v1");
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        key.copy_from_slice(tag.as_ref());
        key
    }

    /// Changes whenever [`Vault::known`] or [`Vault::bindings`] says something new.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.epoch.subscribe()
    }

    /// Opens everything once.
    pub async fn check(&self) -> Result<Checked> {
        let vault = self.clone();
        let sql = format!("SELECT {COLUMNS} FROM secret_version WHERE sealed IS NOT NULL ORDER BY name, version");
        let checked = self.0.store.read(move |c| {
            let mut statement = c.prepare(&sql)?;
            let mut rows = statement.query([])?;
            let (mut values, mut broken) = (0, Vec::new());
            while let Some(row) = rows.next()? {
                let version = Version::of(row)?;
                match vault.opened(&version) {
                    Ok(_) => values += 1,
                    Err(_) => broken.push(format!("{} {}", version.name, version.version)),
                }
            }
            let key_id: String = c.query_row("SELECT key_id FROM vault", [], |row| row.get(0))?;
            Ok((values, broken, key_id, recovery_public(c)?))
        });
        let (values, broken, key_id, recovery) = checked.await?;
        let key_path = self.0.place.path(self.unlocked().name).unwrap_or_default();
        Ok(Checked { values, broken, key_id, key_path, recovery_key: recovery.map(|public| public.id()) })
    }

    fn unlocked(&self) -> Arc<Unlocked> {
        self.0.unlocked.read().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    fn unlock(&self, unlocked: Arc<Unlocked>) {
        *self.0.unlocked.write().unwrap_or_else(|poisoned| poisoned.into_inner()) = unlocked;
    }

    /// Hands an outcome on, and says that there is something new when there is.
    fn told<T>(&self, outcome: Result<T>) -> Result<T> {
        if outcome.is_ok() {
            self.0.epoch.send_modify(|epoch| *epoch += 1);
        }
        outcome
    }

    async fn note(&self, by: &str, deed: &'static str, subject: &str, detail: &str) -> Result<()> {
        let (by, subject, detail, now_ms) = (by.to_owned(), subject.to_owned(), detail.to_owned(), self.0.clock.wall_ms());
        self.0.store.write(move |tx| Ok(audit::note(tx, now_ms, &Deed { actor: &by, deed, subject: &subject, detail: &detail })?)).await
    }

    fn put(&self, tx: &Tx, by: &str, name: &str, value: &SecretString, put: Put) -> Result<Kept> {
        let now_ms = self.0.clock.wall_ms();
        let sql = format!("SELECT {COLUMNS} FROM secret_version WHERE name = ?1 AND state = 'current'");
        let current = tx.prepare_cached(&sql)?.query_row([name], Version::of).optional()?;
        if put == Put::Rotate && current.is_none() {
            let sql = "SELECT 1 FROM secret_version WHERE name = ?1 AND sealed IS NOT NULL LIMIT 1";
            tx.query_row(sql, [name], |_| Ok(())).optional()?.ok_or_else(|| VaultError::Unknown { name: name.to_owned() })?;
        }
        // Comparing needs both, sealing and showing need the new one.
        let plain = value.expose();
        let same = current.as_ref().is_some_and(|row| self.opened(row).is_ok_and(|old| random::same(old.expose(), plain)));
        if same && put == Put::Rotate {
            return Err(VaultError::ValueUnchanged { name: name.to_owned() });
        }
        let fingerprint = self.unlocked().fingerprint(plain);
        let kept = |version, outcome| Kept {
            name: name.to_owned(),
            version,
            outcome,
            masked: value::masked(plain),
            fingerprint: fingerprint.clone(),
            warnings: value::warnings(plain),
        };
        if let Some(row) = current.as_ref().filter(|_| same) {
            return Ok(kept(row.version, Outcome::Unchanged));
        }
        let version: i64 = tx.query_row("SELECT coalesce(max(version), 0) + 1 FROM secret_version WHERE name = ?1", [name], |row| row.get(0))?;
        tx.execute("UPDATE secret_version SET state = 'retired', retired_ms = ?2 WHERE name = ?1 AND state = 'current'", params![name, now_ms])?;
        let (sealed_key, sealed) = self.sealed(tx, name, version, plain)?;
        let row = Version {
            name: name.to_owned(),
            version,
            state: "current".to_owned(),
            sealed_key: Some(sealed_key),
            sealed: Some(sealed),
            fingerprint: fingerprint.clone(),
            created_ms: now_ms,
            retired_ms: None,
        };
        row.insert(tx)?;
        let deed = if current.is_some() { "secret_rotated" } else { "secret_set" };
        audit::note(tx, now_ms, &Deed { actor: by, deed, subject: name, detail: &version.to_string() })?;
        if !value::is_short(plain) {
            log::know(value);
        }
        Ok(kept(version, if current.is_some() { Outcome::Rotated } else { Outcome::Added }))
    }

    /// The value under a fresh key, and that key under the vault's.
    fn sealed(&self, tx: &Tx, name: &str, version: i64, plain: &str) -> Result<(Vec<u8>, Vec<u8>)> {
        let key = self.vault_key(tx)?;
        let own = Zeroizing::new(random::bytes::<KEY_BYTES>());
        let sealed = Key::new(&own).seal(&self.context("value", name, version), plain.as_bytes())?;
        Ok((key.seal(&self.context("key", name, version), own.as_slice())?, sealed))
    }

    /// The key that the store is sealed with.
    fn vault_key(&self, c: &Connection) -> Result<Arc<Key>> {
        let id: String = c.query_row("SELECT key_id FROM vault", [], |row| row.get(0))?;
        let unlocked = self.unlocked();
        Ok(unlocked.keys.iter().find(|key| key.id() == id).cloned().context("the key of the store is among the open ones")?)
    }

    fn opened(&self, row: &Version) -> Result<SecretString> {
        let unlocked = self.unlocked();
        let open = || {
            let (sealed_key, sealed) = (row.sealed_key.as_ref()?, row.sealed.as_ref()?);
            let context = self.context("key", &row.name, row.version);
            let own = unlocked.keys.iter().find_map(|key| key.open(&context, sealed_key))?;
            let value = Key::new(&*seal::key_bytes(&own)?).open(&self.context("value", &row.name, row.version), sealed)?;
            seal::text(value)
        };
        open().ok_or_else(|| VaultError::Unreadable { what: row.name.clone() })
    }

    fn context(&self, what: &str, name: &str, version: i64) -> String {
        format!("gatehouse-vault-v2\n{what}\n{}\n{name}\n{version}", self.0.tenant)
    }

    /// Everything under `old` comes under `new`, or nothing does.
    fn sealed_anew(&self, tx: &Tx, by: &str, now_ms: i64, old: &Key, new: &Key) -> Result<()> {
        let sql = "SELECT name, version, sealed_key FROM secret_version WHERE sealed_key IS NOT NULL";
        let of = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
        let rows: Vec<(String, i64, Vec<u8>)> = tx.prepare(sql)?.query_map([], of)?.collect::<rusqlite::Result<_>>()?;
        let mut update = tx.prepare("UPDATE secret_version SET sealed_key = ?3 WHERE name = ?1 AND version = ?2")?;
        for (name, version, sealed_key) in rows {
            let context = self.context("key", &name, version);
            let own = old.open(&context, &sealed_key).ok_or_else(|| VaultError::Unreadable { what: name.clone() })?;
            update.execute(params![name, version, new.seal(&context, &own)?])?;
        }
        let sealed = new.seal(&fingerprint_context(&self.0.tenant), self.unlocked().fingerprint_key.as_slice())?;
        tx.execute("UPDATE vault SET key_id = ?1, sealed = ?2, rotated_ms = ?3", params![new.id(), sealed, now_ms])?;
        audit::note(tx, now_ms, &Deed { actor: by, deed: "vault_key_rotated", subject: old.id(), detail: new.id() })?;
        Ok(())
    }

    /// Values that an earlier version of the agent sealed, directly and without history, become the first of a history.
    async fn adopt(&self) -> Result<()> {
        let vault = self.clone();
        let adopted: Result<usize> = self
            .0
            .store
            .write(move |tx| {
                let of = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?));
                let rows: Vec<(String, i64, Vec<u8>, Vec<u8>)> =
                    tx.prepare("SELECT name, version, nonce, sealed FROM secret")?.query_map([], of)?.collect::<rusqlite::Result<_>>()?;
                for (name, version, nonce, sealed) in &rows {
                    let context = format!("gatehouse-vault-v1\n{}\n{name}\n{version}", vault.0.tenant);
                    let seal = [nonce.as_slice(), sealed].concat();
                    let opened = vault.unlocked().keys.iter().find_map(|key| key.open(&context, &seal)).and_then(seal::text);
                    let value = opened.ok_or_else(|| VaultError::Unreadable { what: name.clone() })?;
                    vault.put(tx, "agent", name, &value, Put::Set)?;
                }
                tx.execute("DELETE FROM secret", [])?;
                Ok(rows.len())
            })
            .await;
        adopted.map(|_| ())
    }
}

impl Unlocked {
    fn fingerprint(&self, value: &str) -> String {
        seal::fingerprint(&hmac::Key::new(hmac::HMAC_SHA256, self.fingerprint_key.as_slice()), value)
    }
}

/// A provider's key has this name in the vault.
pub fn provider_key_name(provider: &str) -> String {
    format!("{PROVIDER}{provider}")
}

const PROVIDER: &str = "provider.";
/// Of those that are remembered: more than anybody configures.
const PROVIDER_KEYS_MAX: usize = 64;

pub fn read_import(format: Format, text: &str, prefix: &str) -> Result<Vec<Entry>> {
    import::read(format, text, prefix)
}

fn fingerprint_context(tenant: &str) -> String {
    format!("gatehouse-vault-v2\nfingerprints\n{tenant}")
}

/// A row of `secret_version`.
struct Version {
    name: String,
    version: i64,
    state: String,
    sealed_key: Option<Vec<u8>>,
    sealed: Option<Vec<u8>>,
    fingerprint: String,
    created_ms: i64,
    retired_ms: Option<i64>,
}

const COLUMNS: &str = "name, version, state, sealed_key, sealed, fingerprint, created_ms, retired_ms";
const COLUMNS_COUNT: usize = 8;

impl Version {
    fn of(row: &Row<'_>) -> rusqlite::Result<Version> {
        Ok(Version {
            name: row.get(0)?,
            version: row.get(1)?,
            state: row.get(2)?,
            sealed_key: row.get(3)?,
            sealed: row.get(4)?,
            fingerprint: row.get(5)?,
            created_ms: row.get(6)?,
            retired_ms: row.get(7)?,
        })
    }

    fn insert(&self, tx: &Tx) -> Result<()> {
        let sql = format!("INSERT INTO secret_version ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)");
        tx.prepare_cached(&sql)?.execute(params![
            self.name,
            self.version,
            self.state,
            self.sealed_key,
            self.sealed,
            self.fingerprint,
            self.created_ms,
            self.retired_ms
        ])?;
        Ok(())
    }
}

/// Retired for long, and either the name has no value any more or enough newer ones.
fn outlived() -> String {
    format!(
        "sealed IS NOT NULL AND state = 'retired' AND retired_ms <= ?1 AND (
            NOT EXISTS (SELECT 1 FROM secret_version n WHERE n.name = secret_version.name AND n.state = 'current')
            OR (SELECT count(*) FROM secret_version n WHERE n.name = secret_version.name AND n.version > secret_version.version) >= {VERSIONS_KEPT})"
    )
}

fn within_limits(tx: &Tx) -> Result<()> {
    let sql = "SELECT count(*) FILTER (WHERE state = 'current'), coalesce(sum(length(sealed) + ?1), 0) FROM secret_version";
    let (names, bytes): (i64, i64) = tx.query_row(sql, [VERSION_BYTES], |row| Ok((row.get(0)?, row.get(1)?)))?;
    if names > SECRETS_MAX || bytes > VAULT_BYTES_MAX { Err(VaultError::Full) } else { Ok(()) }
}

fn bindings_of(c: &Connection, name: Option<&str>) -> rusqlite::Result<BTreeMap<String, Bindings>> {
    let mut bindings: BTreeMap<String, Bindings> = BTreeMap::new();
    let mut statement = c.prepare("SELECT name, kind, value FROM secret_binding WHERE ?1 IS NULL OR name = ?1 ORDER BY name, kind, value")?;
    let mut rows = statement.query([name])?;
    while let Some(row) = rows.next()? {
        let (kind, value): (String, String) = (row.get(1)?, row.get(2)?);
        let of_name = bindings.entry(row.get(0)?).or_default();
        if kind == "tool" { of_name.tools.push(value) } else { of_name.hosts.push(value) }
    }
    Ok(bindings)
}

impl Bindings {
    fn pairs(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.tools.iter().map(|tool| ("tool", tool.as_str())).chain(self.hosts.iter().map(|host| ("host", host.as_str())))
    }
}

fn is_binding(kind: &str, value: &str) -> bool {
    if value.is_empty() || value.len() > 253 {
        return false;
    }
    if kind == "tool" {
        return value.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'));
    }
    let host = value.strip_prefix("*.").unwrap_or(value);
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
    };
    // `*.org` would be half of the world.
    host.split('.').all(label) && (host == value || host.contains('.'))
}

/// A secret on its way through something that is sealed, or through the console's socket.
pub mod carried {
    use serde::{Deserialize, Deserializer, Serializer};
    use service::SecretString;

    pub fn serialize<S: Serializer>(value: &SecretString, serializer: S) -> Result<S::Ok, S::Error> {
        // That is what this module is for.
        serializer.serialize_str(value.expose())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SecretString, D::Error> {
        String::deserialize(deserializer).map(SecretString::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MIGRATIONS;

    const DAY_MS: u64 = 24 * 3_600_000;
    const SWAP: &str = "UPDATE secret_version SET sealed_key = b.sealed_key, sealed = b.sealed
        FROM (SELECT name, sealed_key, sealed FROM secret_version) b WHERE b.name <> secret_version.name";

    struct Host {
        folder: PathBuf,
        store: Store,
        clock: Clock,
    }

    impl Drop for Host {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }

    impl Host {
        fn new() -> Host {
            let folder = std::env::temp_dir().join(format!("gatehouse-vault-{}", random::token()));
            std::fs::create_dir_all(&folder).unwrap();
            let store = Store::open(&folder.join("a.db"), MIGRATIONS).unwrap();
            Host { folder, store, clock: Clock::manual(1_795_140_000_000) }
        }

        async fn try_open(&self, tenant: &str) -> Result<Vault> {
            Vault::open(self.store.clone(), self.clock.clone(), &self.folder, None, tenant, Given::default()).await
        }

        async fn open(&self) -> Vault {
            self.try_open("ten_a").await.unwrap()
        }

        async fn sql(&self, sql: &'static str) {
            let changed: service::store::Result<usize> = self.store.write(move |tx| Ok(tx.execute(sql, [])?)).await;
            assert!(changed.unwrap() > 0, "{sql}");
        }
    }

    fn secret(value: &str) -> SecretString {
        SecretString::new(value.to_owned())
    }

    async fn set(vault: &Vault, name: &str, value: &str) -> Kept {
        vault.set("console", name, secret(value), Put::Set, Allowed::default()).await.unwrap()
    }

    async fn value(vault: &Vault, name: &str) -> Option<String> {
        vault.value(name).await.unwrap().map(|value| value.expose().to_owned())
    }

    async fn known(vault: &Vault) -> Vec<String> {
        vault.known().await.unwrap().into_iter().map(|known| known.value.expose().to_owned()).collect()
    }

    #[track_caller]
    fn code<T>(outcome: Result<T>) -> &'static str {
        outcome.err().expect("it is refused").code()
    }

    #[tokio::test]
    async fn a_value_opens_under_its_own_name_version_and_tenant_only() {
        let host = Host::new();
        let vault = host.open().await;
        set(&vault, "provider.x", "the value of x").await;
        set(&vault, "provider.z", "the value of z").await;
        assert_eq!(value(&vault, "provider.x").await.as_deref(), Some("the value of x"));
        assert!(value(&vault, "provider.y").await.is_none());
        assert_eq!(code(host.try_open("ten_b").await), "vault_unreadable");
        host.sql("UPDATE secret_version SET name = 'provider.y' WHERE name = 'provider.x'").await;
        assert_eq!(code(vault.value("provider.y").await), "vault_unreadable");
        host.sql("UPDATE secret_version SET name = 'provider.x' WHERE name = 'provider.y'").await;
        assert_eq!(value(&vault, "provider.x").await.as_deref(), Some("the value of x"), "what was put back opens");
        // Swapped rows.
        host.sql(SWAP).await;
        for name in ["provider.x", "provider.z"] {
            assert_eq!(code(vault.value(name).await), "vault_unreadable");
        }
        host.sql(SWAP).await;
        // Altered bytes: that one is broken, and nothing else.
        host.sql("UPDATE secret_version SET sealed = zeroblob(length(sealed)) WHERE name = 'provider.x'").await;
        assert_eq!(code(vault.value("provider.x").await), "vault_unreadable");
        assert_eq!(value(&vault, "provider.z").await.as_deref(), Some("the value of z"));
        let checked = host.open().await.check().await.unwrap();
        assert_eq!((checked.values, checked.broken), (1, vec!["provider.x 1".to_owned()]));
        host.sql("UPDATE secret_version SET sealed_key = zeroblob(length(sealed_key)) WHERE name = 'provider.x'").await;
        assert_eq!(code(vault.rotate_key("console").await), "vault_unreadable", "a rotation would lose it for good");
        assert_eq!(value(&vault, "provider.z").await.as_deref(), Some("the value of z"));
        set(&vault, "provider.x", "the value of x").await;
        assert_eq!(value(&vault, "provider.x").await.as_deref(), Some("the value of x"), "set again, it is well");
    }

    #[tokio::test]
    async fn nothing_lies_in_the_clear() {
        let host = Host::new();
        let vault = host.open().await;
        set(&vault, "a", "the value of a").await;
        vault.set("console", "a", secret("another value of a"), Put::Rotate, Allowed::default()).await.unwrap();
        vault.new_recovery_key("console").await.unwrap();
        let backup = serde_json::to_string(&vault.export("console").await.unwrap()).unwrap();
        for file in ["a.db", "a.db-wal"] {
            let bytes = std::fs::read(host.folder.join(file)).unwrap_or_default();
            assert!(!bytes.windows(10).any(|part| part == b"value of a"), "{file}");
        }
        assert!(!backup.contains("value of a"));
    }

    #[tokio::test]
    async fn a_wrong_key_is_named_and_changes_nothing() {
        let host = Host::new();
        let vault = host.open().await;
        set(&vault, "a", "the value of a").await;
        let path = host.folder.join("vault.key");
        let right = std::fs::read(&path).unwrap();
        for wrong in [Some(vec![1; 32]), Some(vec![1; 31]), Some(Vec::new()), None] {
            match &wrong {
                Some(bytes) => std::fs::write(&path, bytes).unwrap(),
                None => std::fs::remove_file(&path).unwrap(),
            }
            let error = host.try_open("ten_a").await.err().unwrap().to_string();
            assert!(error.contains("put the right") || error.contains("Put the right"), "{error}");
            assert_eq!(path.exists(), wrong.is_some(), "no key is made for a vault that has one");
        }
        config_private(&path, &right);
        assert_eq!(value(&host.open().await, "a").await.as_deref(), Some("the value of a"));
    }

    fn config_private(path: &Path, bytes: &[u8]) {
        service::config::write_private(path, bytes).unwrap();
    }

    #[tokio::test]
    async fn rotation_keeps_history_and_what_was_replaced_is_still_known() {
        let host = Host::new();
        let vault = host.open().await;
        let mut changes = vault.changes();
        let first = set(&vault, "a", "value number 0").await;
        assert_eq!((first.version, first.outcome), (1, Outcome::Added));
        assert!(changes.has_changed().unwrap());
        changes.mark_unchanged();
        let again = set(&vault, "a", "value number 0").await;
        assert_eq!((again.version, again.outcome, &again.fingerprint), (1, Outcome::Unchanged, &first.fingerprint));
        let rotate = |value: String| vault.set("console", "a", SecretString::new(value), Put::Rotate, Allowed::default());
        assert_eq!(code(rotate("value number 0".into()).await), "vault_value_unchanged");
        assert_eq!(code(vault.set("console", "b", secret("value number 0"), Put::Rotate, Allowed::default()).await), "secret_unknown");
        for number in 1..=14 {
            host.clock.advance(DAY_MS);
            assert_eq!(rotate(format!("value number {number}")).await.unwrap().outcome, Outcome::Rotated);
        }
        assert_eq!(value(&vault, "a").await.as_deref(), Some("value number 14"));
        assert_eq!(known(&vault).await.len(), 15, "all of them are younger than thirty days");
        host.clock.advance(25 * DAY_MS);
        vault.sweep().await.unwrap();
        assert_eq!(known(&vault).await.len(), 6, "retired less than thirty days ago, and the current one");
        let kept = vault.history("a").await.unwrap().iter().filter(|past| past.state != "forgotten").count();
        assert_eq!(kept, 10, "the newest ten stay");
        let listed = vault.list(false).await.unwrap();
        assert_eq!((listed.len(), listed[0].version, listed[0].kept, listed[0].rotated_ms), (1, 15, 10, Some(listed[0].created_ms)));
        assert_eq!(vault.go_back("console", "a", 10).await.unwrap().version, 16);
        assert_eq!(value(&vault, "a").await.as_deref(), Some("value number 9"));
        assert_eq!(code(vault.go_back("console", "a", 1).await), "secret_version_unknown", "it was forgotten");
        assert_eq!(vault.history("a").await.unwrap().last().unwrap().fingerprint, first.fingerprint, "its fingerprint was not");
    }

    #[tokio::test]
    async fn what_is_taken_back_is_looked_for_and_then_wiped() {
        let host = Host::new();
        let vault = host.open().await;
        for name in ["a", "b"] {
            set(&vault, name, &format!("the value of {name}")).await;
        }
        vault.forget("console", "a", false).await.unwrap();
        assert_eq!((value(&vault, "a").await, known(&vault).await.len()), (None, 2));
        assert_eq!(code(vault.forget("console", "a", false).await), "secret_unknown");
        assert_eq!((vault.list(false).await.unwrap().len(), vault.list(true).await.unwrap().len()), (1, 2));
        let epoch = *vault.changes().borrow();
        vault.forget("console", "b", true).await.unwrap();
        assert_eq!((value(&vault, "b").await, known(&vault).await), (None, vec!["the value of a".to_owned()]));
        assert!(*vault.changes().borrow() > epoch);
        host.clock.advance(30 * DAY_MS);
        vault.sweep().await.unwrap();
        assert!(known(&vault).await.is_empty());
        assert_eq!(vault.check().await.unwrap().values, 0, "nothing of them is left");
        assert_eq!(set(&vault, "a", "the value of a").await.version, 2, "a version is never used twice");
    }

    #[tokio::test]
    async fn the_key_rotates_and_values_stay() {
        let host = Host::new();
        let vault = host.open().await;
        for number in 0..5 {
            set(&vault, &format!("s{number}"), &format!("value number {number}")).await;
        }
        let before = vault.check().await.unwrap();
        let sealed = |store: Store| async move {
            store
                .read(|c| {
                    c.prepare("SELECT sealed FROM secret_version WHERE name <> 'later' ORDER BY name")?
                        .query_map([], |row| row.get(0))?
                        .collect::<rusqlite::Result<Vec<Vec<u8>>>>()
                })
                .await
        };
        let values = sealed(host.store.clone()).await.unwrap();
        let fingerprint = vault.history("s1").await.unwrap()[0].fingerprint.clone();
        let old_file = std::fs::read(host.folder.join("vault.key")).unwrap();
        for _ in 0..3 {
            let id = vault.rotate_key("console").await.unwrap();
            set(&vault, "later", &format!("a value under {id}")).await;
            for opened in [&vault, &host.open().await] {
                let checked = opened.check().await.unwrap();
                assert_eq!((&checked.key_id, checked.broken.len()), (&id, 0));
                assert_eq!(value(opened, "s3").await.as_deref(), Some("value number 3"));
            }
        }
        assert_ne!(vault.check().await.unwrap().key_id, before.key_id);
        assert_eq!(sealed(host.store.clone()).await.unwrap(), values, "values were not sealed anew");
        assert_eq!(host.open().await.history("s1").await.unwrap()[0].fingerprint, fingerprint);
        config_private(&host.folder.join("vault.key"), &old_file);
        assert_eq!(code(host.try_open("ten_a").await), "vault_key_wrong", "the old key opens nothing any more");
    }

    #[tokio::test]
    async fn writers_and_readers_go_on_while_the_key_rotates() {
        let host = Host::new();
        let vault = host.open().await;
        set(&vault, "read", "a value that is read").await;
        let rotations = async {
            for _ in 0..5 {
                vault.rotate_key("console").await.unwrap();
            }
        };
        let writes = async {
            for number in 0..40 {
                set(&vault, "written", &format!("value number {number}")).await;
                assert_eq!(value(&vault, "read").await.as_deref(), Some("a value that is read"));
            }
        };
        tokio::join!(rotations, writes);
        assert_eq!(host.open().await.check().await.unwrap().broken, [""; 0]);
    }

    #[tokio::test]
    async fn values_of_an_earlier_version_are_taken_over_once() {
        let host = Host::new();
        let key = [9; KEY_BYTES];
        config_private(&host.folder.join("vault.key"), &key);
        let seal = Key::new(&key).seal("gatehouse-vault-v1\nten_a\nprovider.x\n3", b"a value of old").unwrap();
        let written: service::store::Result<()> = host
            .store
            .write(move |tx| {
                let sql = "INSERT INTO secret (name, version, nonce, sealed, created_ms) VALUES ('provider.x', 3, ?1, ?2, 5)";
                tx.execute(sql, params![&seal[..12], &seal[12..]])?;
                Ok(())
            })
            .await;
        written.unwrap();
        for _ in 0..2 {
            let vault = host.open().await;
            assert_eq!(value(&vault, "provider.x").await.as_deref(), Some("a value of old"));
            assert_eq!(vault.history("provider.x").await.unwrap().len(), 1);
        }
        let left: i64 = host.store.read(|c| c.query_row("SELECT count(*) FROM secret", [], |row| row.get(0))).await.unwrap();
        assert_eq!(left, 0);
    }

    #[tokio::test]
    async fn a_backup_brings_back_what_is_missing_and_leaves_the_rest() {
        let (host, other) = (Host::new(), Host::new());
        let vault = host.open().await;
        assert_eq!(code(vault.export("console").await), "recovery_key_missing");
        let key = vault.new_recovery_key("console").await.unwrap();
        for (name, value) in [("a", "the value of a"), ("b", "the old value of b"), ("b", "the value of b"), ("c", "the value of c\nin two lines")] {
            set(&vault, name, value).await;
        }
        let bound = Bindings { tools: vec!["exec".into()], hosts: vec!["api.example.org".into()] };
        vault.bind("console", "a", bound.clone(), true).await.unwrap();
        let backup = vault.export("console").await.unwrap();
        assert_eq!(backup.count, 4);

        let restored = other.open().await;
        let how = Restore::default();
        assert_eq!(code(restored.restore("console", &backup, &RecoveryKey::draw(), how).await), "recovery_key_wrong");
        let tried = restored.restore("console", &backup, &key, Restore { dry_run: true, ..how }).await.unwrap();
        assert_eq!((tried.added.len(), restored.list(true).await.unwrap().len()), (3, 0), "a trial leaves nothing");
        let done = restored.restore("console", &backup, &key, how).await.unwrap();
        assert_eq!((done.added, done.unchanged), (vec!["a".to_owned(), "b".into(), "c".into()], 0));
        for (name, expected) in [("a", "the value of a"), ("b", "the value of b"), ("c", "the value of c\nin two lines")] {
            assert_eq!(value(&restored, name).await.as_deref(), Some(expected));
        }
        assert_eq!(restored.history("b").await.unwrap().len(), 2, "with its history");
        let fingerprint = |vault: Vault| async move { vault.history("a").await.unwrap()[0].fingerprint.clone() };
        assert_eq!(fingerprint(restored.clone()).await, fingerprint(vault.clone()).await);
        assert_eq!(set(&restored, "a", "the value of a").await.fingerprint, fingerprint(other.open().await).await);
        assert_eq!(restored.bindings().await.unwrap()["a"], bound);
        assert!(!other.folder.join("vault-scratch.db").exists());
        assert_eq!(restored.restore("console", &backup, &key, how).await.unwrap().unchanged, 3, "again: nothing to do");

        set(&restored, "a", "a newer value of a").await;
        restored.forget("console", "c", true).await.unwrap();
        let done = restored.restore("console", &backup, &key, how).await.unwrap();
        assert_eq!((done.left, done.replaced, done.unchanged), (vec!["a".to_owned()], vec!["c".to_owned()], 1));
        assert_eq!(value(&restored, "a").await.as_deref(), Some("a newer value of a"));
        let done = restored.restore("console", &backup, &key, Restore { replace: true, ..how }).await.unwrap();
        assert_eq!((done.replaced, value(&restored, "a").await.as_deref()), (vec!["a".to_owned()], Some("the value of a")));
        assert!(known(&restored).await.contains(&"a newer value of a".to_owned()), "what was replaced is still looked for");

        let foreign = Host::new();
        let third = foreign.try_open("ten_c").await.unwrap();
        assert_eq!(code(third.restore("console", &backup, &key, how).await), "backup_foreign");
        assert_eq!(third.restore("console", &backup, &key, Restore { other_tenant: true, ..how }).await.unwrap().added.len(), 3);
        assert_eq!(value(&third, "b").await.as_deref(), Some("the value of b"));

        let later = vault.new_recovery_key("console").await.unwrap();
        assert_ne!(later.public(), key.public());
        assert_eq!(vault.export("console").await.unwrap().recovery_key, later.public().id());
    }

    #[tokio::test]
    async fn a_secret_is_bound_by_sound_names_only() {
        let host = Host::new();
        let vault = host.open().await;
        set(&vault, "a", "the value of a").await;
        let bind = |tools: &[&str], hosts: &[&str], bound| {
            let owned = |all: &[&str]| all.iter().map(|one| (*one).to_owned()).collect();
            vault.bind("console", "a", Bindings { tools: owned(tools), hosts: owned(hosts) }, bound)
        };
        assert_eq!(bind(&["exec", "http.get"], &["api.example.org", "*.example.org"], true).await.unwrap().hosts.len(), 2);
        assert_eq!(bind(&["exec"], &[], false).await.unwrap().tools, ["http.get"]);
        for (tools, hosts) in [
            (&[][..], &[][..]),
            (&["a b"], &[]),
            (&[""], &[]),
            (&[], &["API.example.org"]),
            (&[], &["https://api.example.org"]),
            (&[], &["api.example.org:443"]),
            (&[], &["*"]),
            (&[], &["*.org"]),
            (&[], &["a.*.org"]),
            (&[], &["-a.org"]),
            (&[], &["a..org"]),
        ] {
            assert_eq!(code(bind(tools, hosts, true).await), "secret_binding_invalid", "{tools:?} {hosts:?}");
        }
        assert_eq!(code(vault.bind("console", "b", Bindings { tools: vec!["exec".into()], hosts: vec![] }, true).await), "secret_unknown");
    }

    #[tokio::test]
    async fn many_come_in_at_once_or_none() {
        let host = Host::new();
        let vault = host.open().await;
        let entries = read_import(Format::Env, "A_KEY='the value of a'\nPORT=8080\nB_KEY=\"the value of b\"\nEMPTY=\nWORD=password", "shop.").unwrap();
        let (kept, refused) = vault.import("console", entries, Allowed::default()).await.unwrap();
        assert_eq!(kept.iter().map(|kept| kept.name.as_str()).collect::<Vec<_>>(), ["shop.a_key", "shop.b_key"]);
        assert_eq!(refused.iter().map(VaultError::code).collect::<Vec<_>>(), ["vault_value_short", "vault_value_empty", "vault_value_common"]);
        let large: String = (0..15).map(|number| format!("K{number}={}\n", "vQ7d".repeat(15_000 + number))).collect();
        let mut outcome = Ok(());
        for prefix in (0..15).map(|number| format!("p{number}.")) {
            let entries = read_import(Format::Env, &large, &prefix).unwrap();
            outcome = vault.import("console", entries, Allowed::default()).await.map(|_| ());
            if outcome.is_err() {
                let kept = vault.list(true).await.unwrap();
                assert!(kept.len() > 150 && !kept.iter().any(|listed| listed.name.starts_with(&prefix)), "none of the last ones");
                break;
            }
        }
        assert_eq!(code(outcome), "vault_full");
    }

    #[tokio::test]
    async fn a_short_value_is_kept_and_said_to_be_short() {
        let host = Host::new();
        let vault = host.open().await;
        let short = Allowed { short: true, ..Allowed::default() };
        let kept = vault.set("console", "pin", secret("4711"), Put::Set, short).await.unwrap();
        assert!(kept.warnings[0].contains("fewer than 8") && kept.masked == "…", "{kept:?}");
        assert!(vault.known().await.unwrap()[0].is_short);
    }

    #[tokio::test]
    async fn a_providers_key_says_where_it_comes_from() {
        let host = Host::new();
        let environment = |name: &str| (name == "GATEHOUSE_SECRET_PROVIDER_A").then(|| "from the environment".to_owned());
        let given = Given::read(&["provider.a".to_owned(), "provider.b".to_owned()], environment, None).unwrap();
        let vault = Vault::open(host.store.clone(), host.clock.clone(), &host.folder, None, "ten_a", given).await.unwrap();
        for name in ["provider.a", "provider.b"] {
            set(&vault, name, "from the vault").await;
        }
        let key = |provider: &'static str| {
            let vault = vault.clone();
            async move { vault.provider_key(provider).await.unwrap().map(|(key, source)| (key.expose().to_owned(), source)) }
        };
        assert_eq!(key("a").await, Some(("from the environment".to_owned(), Source::Environment)));
        assert_eq!(key("b").await, Some(("from the vault".to_owned(), Source::Vault)));
        assert_eq!(key("c").await, None);
        let sources = vault.sources(None).await.unwrap();
        assert_eq!((sources[0].source, &sources[0].others[..]), (Some(Source::Environment), &[Source::Vault][..]));
        assert_eq!((sources[1].source, &sources[1].others[..]), (Some(Source::Vault), &[][..]));
        assert_eq!(vault.sources(Some("provider.c")).await.unwrap()[0].source, None);
        assert!(known(&vault).await.contains(&"from the environment".to_owned()), "it must not leave either");
    }
}
