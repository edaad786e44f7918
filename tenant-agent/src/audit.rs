//! Who did what, in an order that cannot be changed unnoticed: each row carries the hash of the one before it.
//!
//! Written inside the transaction of the deed, so a deed without its audit does not happen. Subjects and details are
//! ids, names of tools and codes: never content, never a secret.

use ring::digest::{SHA256, digest};
use rusqlite::{Connection, OptionalExtension, params};
use service::Tx;
use service::random::base64url;

/// One line of the audit.
pub(crate) struct Deed<'a> {
    /// A person, `plugin`, `proxy`, `console` or `agent`.
    pub actor: &'a str,
    pub deed: &'a str,
    pub subject: &'a str,
    pub detail: &'a str,
}

pub(crate) fn note(tx: &Tx, at_ms: i64, deed: &Deed<'_>) -> rusqlite::Result<()> {
    let before: Option<String> = tx.query_row("SELECT chain FROM audit ORDER BY n DESC LIMIT 1", [], |row| row.get(0)).optional()?;
    let chain = link(before.as_deref().unwrap_or_default(), at_ms, deed);
    tx.prepare_cached("INSERT INTO audit (at_ms, actor, deed, subject, detail, chain) VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?.execute(params![
        at_ms,
        deed.actor,
        deed.deed,
        deed.subject,
        deed.detail,
        chain
    ])?;
    Ok(())
}

/// The number of the first row that does not follow from the one before it, if there is one.
pub fn first_break(connection: &Connection) -> rusqlite::Result<Option<i64>> {
    let mut rows = connection.prepare("SELECT n, at_ms, actor, deed, subject, detail, chain FROM audit ORDER BY n")?;
    let mut rows = rows.query([])?;
    let mut before = String::new();
    while let Some(row) = rows.next()? {
        let (actor, name, subject, detail): (String, String, String, String) = (row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?);
        let deed = Deed { actor: &actor, deed: &name, subject: &subject, detail: &detail };
        let chain: String = row.get(6)?;
        if chain != link(&before, row.get(1)?, &deed) {
            return row.get(0).map(Some);
        }
        before = chain;
    }
    Ok(None)
}

fn link(before: &str, at_ms: i64, deed: &Deed<'_>) -> String {
    // As JSON, so that no two rows share one text.
    let text = serde_json::json!([before, at_ms, deed.actor, deed.deed, deed.subject, deed.detail]).to_string();
    base64url(digest(&SHA256, text.as_bytes()).as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MIGRATIONS;
    use service::Store;

    #[tokio::test]
    async fn a_changed_row_breaks_the_chain() {
        let folder = std::env::temp_dir().join(service::random::token());
        std::fs::create_dir_all(&folder).unwrap();
        let store = Store::open(&folder.join("a.db"), MIGRATIONS).unwrap();
        for n in 0..3 {
            let subject = format!("apr_{n}");
            let noted: service::store::Result<()> =
                store.write(move |tx| Ok(note(tx, n, &Deed { actor: "plugin", deed: "ask", subject: &subject, detail: "red" })?)).await;
            noted.unwrap();
        }
        assert_eq!(store.read(first_break).await.unwrap(), None);
        let changed: service::store::Result<usize> = store.write(|tx| Ok(tx.execute("UPDATE audit SET detail = 'green' WHERE n = 2", [])?)).await;
        changed.unwrap();
        assert_eq!(store.read(first_break).await.unwrap(), Some(2));
        std::fs::remove_dir_all(folder).unwrap();
    }
}
