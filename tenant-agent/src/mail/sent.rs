//! Which letters went out: one yes of a person sends one letter, whatever happens in between.
//!
//! A letter is written down before its first word goes to a server. Should this agent die then, or no answer come, nobody
//! can say whether it went out, and it is not sent again by itself.

use policy::Digest;
use rusqlite::{OptionalExtension, params};
use service::Tx;

/// Why a letter does not go out now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Sent,
    Unclear,
}

/// How long a letter is remembered.
const KEPT_MS: i64 = 30 * 24 * 3_600_000;
/// How long the same letter is not sent unasked when nobody knows of the one before.
const UNCLEAR_MS: i64 = 24 * 3_600_000;

/// Writes down that the letter goes out now. `key`: the yes that lets it, or the call that needs none. `is_asked`: a person
/// said yes to exactly this.
pub fn intend(tx: &Tx, key: &str, digest: &Digest, is_asked: bool, now_ms: i64) -> rusqlite::Result<Result<(), Standing>> {
    tx.execute("DELETE FROM letter WHERE at_ms < ?1", [now_ms - KEPT_MS])?;
    let state: Option<String> = tx.query_row("SELECT state FROM letter WHERE key = ?1", [key], |row| row.get(0)).optional()?;
    match state.as_deref() {
        Some("sent") => return Ok(Err(Standing::Sent)),
        Some("intended") => return Ok(Err(Standing::Unclear)),
        _ => {}
    }
    let sql = "SELECT EXISTS (SELECT 1 FROM letter WHERE digest = ?1 AND state = 'intended' AND at_ms > ?2)";
    if !is_asked && tx.query_row(sql, params![digest.to_string(), now_ms - UNCLEAR_MS], |row| row.get(0))? {
        return Ok(Err(Standing::Unclear));
    }
    let sql = "INSERT OR REPLACE INTO letter (key, digest, state, at_ms) VALUES (?1, ?2, 'intended', ?3)";
    tx.execute(sql, params![key, digest.to_string(), now_ms])?;
    Ok(Ok(()))
}

/// What became of it, when that is known.
pub fn note(tx: &Tx, key: &str, is_sent: bool) -> rusqlite::Result<()> {
    let state = if is_sent { "sent" } else { "failed" };
    tx.execute("UPDATE letter SET state = ?2 WHERE key = ?1", [key, state]).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MIGRATIONS;
    use service::Store;
    use service::store::StoreError;

    #[tokio::test]
    async fn one_yes_sends_one_letter() {
        let folder = std::env::temp_dir().join(service::random::token());
        service::config::private_folder(&folder).unwrap();
        let store = Store::open(&folder.join("a.db"), MIGRATIONS).unwrap();
        let digest = Digest::of(b"letter");
        let intends = async |key: &'static str, is_asked: bool, now_ms: i64| {
            store.write(move |tx| Ok::<_, StoreError>(intend(tx, key, &digest, is_asked, now_ms)?)).await.unwrap()
        };
        let ends = async |key: &'static str, is_sent: bool| store.write(move |tx| Ok::<_, StoreError>(note(tx, key, is_sent)?)).await.unwrap();
        assert_eq!(intends("yes-1", true, 0).await, Ok(()));
        // Nobody knows of it: not the same yes again, nor the same letter unasked; another yes counts.
        assert_eq!(intends("yes-1", true, 1).await, Err(Standing::Unclear));
        assert_eq!(intends("call-1", false, 1).await, Err(Standing::Unclear));
        assert_eq!(intends("yes-2", true, 1).await, Ok(()));
        ends("yes-2", true).await;
        assert_eq!(intends("yes-2", true, 2).await, Err(Standing::Sent));
        // What surely did not go out may be tried again by the same yes.
        ends("yes-1", false).await;
        assert_eq!((intends("yes-1", true, 3).await, intends("call-1", false, 3).await), (Ok(()), Err(Standing::Unclear)));
        assert_eq!(intends("call-1", false, UNCLEAR_MS + 3).await, Ok(()), "a day later it is another letter");
        assert_eq!(intends("yes-2", true, KEPT_MS + 3).await, Ok(()), "what is long past is forgotten");
        std::fs::remove_dir_all(folder).unwrap();
    }
}
