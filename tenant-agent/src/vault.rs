//! The vault: secrets that stay on this host, each sealed on its own.
//!
//! AES-256-GCM; the name, the version and the tenant are bound into the seal, so a value that is moved to another name
//! or another tenant's file does not open. The key comes from a systemd credential or from a 0600 file beside the store.

use crate::audit::{self, Deed};
use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Key, Nonce};
use anyhow::{Context, anyhow, bail};
use rusqlite::{OptionalExtension, params};
use service::store::StoreError;
use service::{Clock, SecretString, Store, config, log, random};
use std::path::Path;
use zeroize::Zeroizing;

#[derive(Clone)]
pub struct Vault {
    store: Store,
    clock: Clock,
    cipher: Aes256Gcm,
    /// Bound into each seal.
    tenant: String,
}

pub const VALUE_BYTES_MAX: usize = 32 * 1024;
const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 12;

impl Vault {
    /// `credentials` is systemd's folder of credentials, where the key is called `vault-key`.
    pub fn open(store: Store, clock: Clock, state_folder: &Path, credentials: Option<&Path>, tenant: &str) -> anyhow::Result<Vault> {
        let credential = credentials.map(|folder| folder.join("vault-key")).filter(|path| path.exists());
        let path = credential.clone().unwrap_or_else(|| state_folder.join("vault.key"));
        if credential.is_none() && !path.exists() {
            config::write_private(&path, &random::bytes::<KEY_BYTES>())?;
        }
        let bytes = Zeroizing::new(match credential {
            // systemd hands credentials to this unit alone, with modes of its own.
            Some(path) => std::fs::read(&path).with_context(|| format!("reading the credential `{}`", path.display()))?,
            None => config::read_private(&path)?,
        });
        let key = <[u8; KEY_BYTES]>::try_from(bytes.as_slice()).map_err(|_| anyhow!("the vault key `{}` must be {KEY_BYTES} bytes", path.display()))?;
        let key = Zeroizing::new(key);
        Ok(Vault { store, clock, cipher: Aes256Gcm::new(&Key::<Aes256Gcm>::from(*key)), tenant: tenant.to_owned() })
    }

    /// Puts a value under `name`; an earlier one is replaced by the next version.
    pub async fn set(&self, by: &str, name: &str, value: SecretString) -> anyhow::Result<()> {
        let sound = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-');
        if name.is_empty() || name.len() > 64 || !name.chars().all(sound) {
            bail!("the name of a secret is 1 to 64 of a-z, 0-9, dot, dash and underscore");
        }
        // Its length decides whether it is a value at all.
        if value.expose().is_empty() || value.expose().len() > VALUE_BYTES_MAX {
            bail!("the value of `{name}` must be 1 to {VALUE_BYTES_MAX} bytes");
        }
        log::know(&value);
        let (vault, by, name, now_ms) = (self.clone(), by.to_owned(), name.to_owned(), self.clock.wall_ms());
        let outcome: Result<(), StoreError> = self
            .store
            .write(move |tx| {
                let version: i64 = tx.query_row("SELECT coalesce(max(version), 0) + 1 FROM secret WHERE name = ?1", [&name], |row| row.get(0))?;
                let nonce: [u8; NONCE_BYTES] = random::bytes();
                // Sealing needs the value.
                let sealed = vault.seal(&name, version, &nonce, value.expose()).map_err(StoreError::Commit)?;
                let sql = "INSERT OR REPLACE INTO secret (name, version, nonce, sealed, created_ms) VALUES (?1, ?2, ?3, ?4, ?5)";
                tx.execute(sql, params![name, version, nonce, sealed, now_ms])?;
                audit::note(tx, now_ms, &Deed { actor: &by, deed: "secret_set", subject: &name, detail: &version.to_string() })?;
                Ok(())
            })
            .await;
        Ok(outcome?)
    }

    pub async fn value(&self, name: &str) -> anyhow::Result<Option<SecretString>> {
        let key = name.to_owned();
        let sql = "SELECT version, nonce, sealed FROM secret WHERE name = ?1";
        let found = self
            .store
            .read(move |c| {
                c.query_row(sql, [key], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, [u8; NONCE_BYTES]>(1)?, row.get::<_, Vec<u8>>(2)?))).optional()
            })
            .await?;
        let Some((version, nonce, sealed)) = found else { return Ok(None) };
        let context = self.context(name, version);
        let payload = Payload { msg: &sealed, aad: context.as_bytes() };
        let opened = self
            .cipher
            .decrypt(&Nonce::from(nonce), payload)
            .map_err(|_| anyhow!("the secret `{name}` does not open: the vault key or the stored value was changed"))?;
        let value = SecretString::new(String::from_utf8(opened).context("a sealed value is text")?);
        log::know(&value);
        Ok(Some(value))
    }

    fn seal(&self, name: &str, version: i64, nonce: &[u8; NONCE_BYTES], value: &str) -> Result<Vec<u8>, String> {
        let context = self.context(name, version);
        let payload = Payload { msg: value.as_bytes(), aad: context.as_bytes() };
        self.cipher.encrypt(&Nonce::from(*nonce), payload).map_err(|_| "a secret could not be sealed".to_owned())
    }

    fn context(&self, name: &str, version: i64) -> String {
        format!("gatehouse-vault-v1\n{}\n{name}\n{version}", self.tenant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MIGRATIONS;

    #[tokio::test]
    async fn a_value_opens_under_its_own_name_and_tenant_only() {
        let folder = std::env::temp_dir().join(random::token());
        std::fs::create_dir_all(&folder).unwrap();
        let store = Store::open(&folder.join("a.db"), MIGRATIONS).unwrap();
        let open = |tenant: &str| Vault::open(store.clone(), Clock::manual(0), &folder, None, tenant).unwrap();
        let vault = open("ten_a");
        vault.set("console", "provider.x", SecretString::new("the value of x".into())).await.unwrap();
        assert_eq!(vault.value("provider.x").await.unwrap().unwrap().expose(), "the value of x");
        assert!(vault.value("provider.y").await.unwrap().is_none());
        assert!(open("ten_b").value("provider.x").await.is_err());
        let moved: Result<usize, StoreError> = store.write(|tx| Ok(tx.execute("UPDATE secret SET name = 'provider.y'", [])?)).await;
        moved.unwrap();
        assert!(vault.value("provider.y").await.is_err());
        for (name, value) in [("", "x"), ("A", "x"), ("a b", "x"), ("a", "")] {
            assert!(vault.set("console", name, SecretString::new(value.into())).await.is_err(), "{name}");
        }
        let bytes = std::fs::read(folder.join("a.db")).unwrap_or_default();
        let wal = std::fs::read(folder.join("a.db-wal")).unwrap_or_default();
        assert!(![bytes, wal].iter().any(|file| file.windows(14).any(|part| part == b"the value of x")), "the value lies in the clear");
        std::fs::remove_dir_all(folder).unwrap();
    }
}
