//! Passwords: argon2id, a few at a time.
//!
//! Hashing costs 19 MiB and tens of milliseconds, so a storm of logins is held to [`AT_ONCE_MAX`] of them; the rest wait in turn.

use anyhow::{Context, anyhow};
use argon2::password_hash::phc::PasswordHash;
use argon2::{Argon2, PasswordHasher, PasswordVerifier};
use std::sync::LazyLock;
use tokio::sync::Semaphore;

use crate::SecretString;

/// The least length of a password that a person chooses. Length is what counts; composition rules make worse passwords.
pub const CHARS_MIN: usize = 10;
/// Longer input is not a password but an attack on the hash.
pub const BYTES_MAX: usize = 1024;

const AT_ONCE_MAX: usize = 2;
static AT_ONCE: Semaphore = Semaphore::const_new(AT_ONCE_MAX);

/// Compared when there is no such person, so that an unknown name takes as long as a wrong password.
static NOBODY: LazyLock<String> = LazyLock::new(|| hash_now(&crate::random::token()).unwrap_or_default());

pub async fn hash(password: SecretString) -> anyhow::Result<String> {
    let _place = AT_ONCE.acquire().await?;
    // The hash needs the password.
    tokio::task::spawn_blocking(move || hash_now(password.expose())).await?
}

/// Whether the password is the one that was hashed; with `None` the answer is no, after the same time.
pub async fn verify(password: SecretString, hash: Option<String>) -> anyhow::Result<bool> {
    let _place = AT_ONCE.acquire().await?;
    tokio::task::spawn_blocking(move || {
        let known = hash.is_some();
        let hash = hash.unwrap_or_else(|| NOBODY.clone());
        let parsed = PasswordHash::new(&hash).map_err(|error| anyhow!("a stored password hash is unreadable: {error}"))?;
        // The comparison needs the password.
        Ok(Argon2::default().verify_password(password.expose().as_bytes(), &parsed).is_ok() && known)
    })
    .await
    .context("the comparison of a password was cut off")?
}

fn hash_now(password: &str) -> anyhow::Result<String> {
    let salt = crate::random::bytes::<16>();
    let hash = Argon2::default().hash_password_with_salt(password.as_bytes(), &salt);
    Ok(hash.map_err(|error| anyhow!("a password could not be hashed: {error}"))?.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> SecretString {
        SecretString::new(text.to_owned())
    }

    #[tokio::test]
    async fn only_the_password_itself_verifies() {
        let stored = hash(secret("correct horse")).await.unwrap();
        assert!(stored.starts_with("$argon2id$"));
        assert!(verify(secret("correct horse"), Some(stored.clone())).await.unwrap());
        assert!(!verify(secret("correct horse "), Some(stored)).await.unwrap());
        assert!(!verify(secret(""), None).await.unwrap());
        assert!(verify(secret("x"), Some("broken".into())).await.is_err());
    }
}
