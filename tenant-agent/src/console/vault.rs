//! The console's verbs for the vault. Values travel over the socket, in both directions; answers are wiped by whoever
//! reads them.

use super::failed;
use crate::agent::Parts;
use crate::vault::{self, Allowed, Backup, Bindings, Format, Put, RecoveryKey, Restore, VaultError};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use service::SecretString;

#[derive(Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum VaultVerb {
    Set {
        name: String,
        #[serde(with = "vault::carried")]
        value: SecretString,
        put: Put,
        #[serde(default)]
        allowed: Allowed,
    },
    GoBack {
        name: String,
        version: i64,
    },
    Import {
        format: Format,
        #[serde(with = "vault::carried")]
        text: SecretString,
        prefix: String,
        #[serde(default)]
        allowed: Allowed,
    },
    List {
        all: bool,
    },
    /// Versions of one name.
    History {
        name: String,
    },
    Reveal {
        name: String,
    },
    Bind {
        name: String,
        bindings: Bindings,
        /// False takes them away.
        bound: bool,
    },
    Forget {
        name: String,
        now: bool,
    },
    RotateKey {},
    NewRecoveryKey {},
    Export {},
    Restore {
        backup: String,
        #[serde(with = "vault::carried")]
        recovery_key: SecretString,
        how: Restore,
    },
    Sources {
        name: Option<String>,
    },
    Check {},
}

impl VaultVerb {
    /// Sets what a test or a script gives, with nothing insisted on.
    pub fn set(name: &str, value: &str) -> VaultVerb {
        VaultVerb::Set { name: name.to_owned(), value: SecretString::new(value.to_owned()), put: Put::Set, allowed: Allowed::default() }
    }
}

impl VaultVerb {
    fn changes_values(&self) -> bool {
        use VaultVerb::*;
        matches!(self, Set { .. } | GoBack { .. } | Import { .. } | Forget { .. } | Restore { .. })
    }
}

const BY: &str = "console";

pub(super) async fn act(verb: VaultVerb, parts: &Parts) -> Value {
    let changes = verb.changes_values();
    match answer(verb, parts).await {
        Ok(mut answer) => {
            // Whoever is told that a secret is kept may rely on it that it leaves no more.
            if changes && !parts.screen.covers_all().await {
                let message = "this is kept, but what must not leave could not be read again, so no model call goes out: `tenant-agent vault check` names what does not open";
                return failed("vault_unscreened", message);
            }
            answer["ok"] = true.into();
            answer
        }
        Err(error) => {
            if error.code() == "internal" {
                tracing::error!(%error, "the vault could not do what the console asked for");
            }
            failed(error.code(), &error.to_string())
        }
    }
}

async fn answer(verb: VaultVerb, parts: &Parts) -> Result<Value, VaultError> {
    let vault = &parts.vault;
    Ok(match verb {
        VaultVerb::Set { name, value, put, allowed } => json!(vault.set(BY, &name, value, put, allowed).await?),
        VaultVerb::GoBack { name, version } => json!(vault.go_back(BY, &name, version).await?),
        VaultVerb::Import { format, text, prefix, allowed } => {
            // Reading it needs the text.
            let entries = vault::read_import(format, text.expose(), &prefix)?;
            let (kept, refused) = vault.import(BY, entries, allowed).await?;
            let refused: Vec<Value> = refused.iter().map(|error| json!({ "code": error.code(), "message": error.to_string() })).collect();
            json!({ "secrets": kept, "refused": refused })
        }
        VaultVerb::List { all } => json!({ "secrets": vault.list(all).await? }),
        VaultVerb::History { name } => json!({ "name": name, "versions": vault.history(&name).await? }),
        // Somebody at the console asked for it, and the audit says so.
        VaultVerb::Reveal { name } => json!({ "name": name, "value": vault.reveal(BY, &name).await?.expose() }),
        VaultVerb::Bind { name, bindings, bound } => {
            let bindings = vault.bind(BY, &name, bindings, bound).await?;
            json!({ "name": name, "tools": bindings.tools, "hosts": bindings.hosts })
        }
        VaultVerb::Forget { name, now } => {
            vault.forget(BY, &name, now).await?;
            json!({ "name": name, "now": now })
        }
        VaultVerb::RotateKey {} => json!({ "key_id": vault.rotate_key(BY).await? }),
        VaultVerb::NewRecoveryKey {} => {
            let key = vault.new_recovery_key(BY).await?;
            // Shown this once, to whoever asked for it.
            json!({ "recovery_key": key.text().expose(), "id": key.public().id() })
        }
        VaultVerb::Export {} => {
            let backup = vault.export(BY).await?;
            json!({ "count": backup.count, "recovery_key": backup.recovery_key, "backup": serde_json::to_string(&backup).map_err(anyhow::Error::from)? })
        }
        VaultVerb::Restore { backup, recovery_key, how } => {
            // Opening the backup needs the key.
            let key = RecoveryKey::parse(recovery_key.expose())?;
            json!(vault.restore(BY, &Backup::parse(&backup)?, &key, how).await?)
        }
        VaultVerb::Sources { name } => json!({ "sources": vault.sources(name.as_deref()).await? }),
        VaultVerb::Check {} => json!(vault.check().await?),
    })
}
