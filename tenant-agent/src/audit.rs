//! Who did what, in an order that cannot be changed unnoticed: each row carries the hash of the one before it.
//!
//! Written inside the transaction of the deed, so a deed without its audit does not happen. Subjects and details are
//! ids, names of tools and codes: never content, never a secret. Whoever can write the file can write a whole other chain;
//! that shows against the heads that the hub keeps, which come with every heartbeat.

use ring::digest::{SHA256, digest};
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};
use service::Tx;
use service::random::base64url;
use wire::link::AuditHead;

/// One line of the audit.
pub(crate) struct Deed<'a> {
    /// A person, `plugin`, `console` or `agent`.
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

/// A line as it is exported; whoever has them all can follow the chain without the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    pub n: i64,
    pub at_ms: i64,
    pub actor: String,
    pub deed: String,
    pub subject: String,
    pub detail: String,
    pub chain: String,
}

/// Follows a chain line by line. The lines before the first one are believed.
#[derive(Debug, Default)]
pub struct Follower {
    before: Option<(i64, String)>,
}

impl Follower {
    /// From the line after this one on.
    pub fn after(head: AuditHead) -> Follower {
        Follower { before: Some((head.count, head.head)) }
    }

    /// Whether the line comes next: no number left out, its hash over the one before.
    pub fn follows(&mut self, line: &Line) -> bool {
        let (n, chain) = self.before.as_ref().map_or((0, ""), |(n, chain)| (*n, chain.as_str()));
        let deed = Deed { actor: &line.actor, deed: &line.deed, subject: &line.subject, detail: &line.detail };
        let follows = line.n == n + 1 && line.chain == link(chain, line.at_ms, &deed);
        self.before = Some((line.n, line.chain.clone()));
        follows
    }

    pub fn head(&self) -> AuditHead {
        let (count, head) = self.before.clone().unwrap_or_default();
        AuditHead { count, head }
    }
}

/// The number of the first row that does not follow from the one before it, if there is one.
pub fn first_break(connection: &Connection) -> rusqlite::Result<Option<i64>> {
    let mut rows = connection.prepare(&format!("{LINE} ORDER BY n"))?;
    let mut rows = rows.query([])?;
    let mut follower = Follower::default();
    while let Some(row) = rows.next()? {
        let line = line_of(row)?;
        if !follower.follows(&line) {
            return Ok(Some(line.n));
        }
    }
    Ok(None)
}

/// How far the chain goes.
pub fn head(connection: &Connection) -> rusqlite::Result<AuditHead> {
    let head = connection.prepare_cached("SELECT n, chain FROM audit ORDER BY n DESC LIMIT 1")?.query_row([], head_of).optional()?;
    Ok(head.unwrap_or_default())
}

/// What the chain says at this number; an empty head when it does not go so far.
pub fn head_at(connection: &Connection, n: i64) -> rusqlite::Result<AuditHead> {
    let head = connection.prepare_cached("SELECT n, chain FROM audit WHERE n = ?1")?.query_row([n], head_of).optional()?;
    Ok(head.unwrap_or(AuditHead { count: n, head: String::new() }))
}

/// The lines after a number, oldest first.
pub fn lines(connection: &Connection, after: i64, limit: u32) -> rusqlite::Result<Vec<Line>> {
    connection.prepare_cached(&format!("{LINE} WHERE n > ?1 ORDER BY n LIMIT ?2"))?.query_map(params![after, limit], line_of)?.collect()
}

const LINE: &str = "SELECT n, at_ms, actor, deed, subject, detail, chain FROM audit";

fn line_of(row: &Row<'_>) -> rusqlite::Result<Line> {
    Ok(Line { n: row.get(0)?, at_ms: row.get(1)?, actor: row.get(2)?, deed: row.get(3)?, subject: row.get(4)?, detail: row.get(5)?, chain: row.get(6)? })
}

fn head_of(row: &Row<'_>) -> rusqlite::Result<AuditHead> {
    Ok(AuditHead { count: row.get(0)?, head: row.get(1)? })
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

    struct Rig {
        store: Store,
        folder: std::path::PathBuf,
    }

    impl Rig {
        async fn new(lines: i64) -> Rig {
            let folder = std::env::temp_dir().join(service::random::token());
            std::fs::create_dir_all(&folder).unwrap();
            let store = Store::open(&folder.join("a.db"), MIGRATIONS).unwrap();
            for n in 0..lines {
                let subject = format!("apr_{n}");
                let noted: service::store::Result<()> =
                    store.write(move |tx| Ok(note(tx, n, &Deed { actor: "plugin", deed: "ask", subject: &subject, detail: "red" })?)).await;
                noted.unwrap();
            }
            Rig { store, folder }
        }

        async fn sql(&self, sql: &'static str) {
            let changed: service::store::Result<()> = self.store.write(move |tx| Ok(tx.execute_batch(sql)?)).await;
            changed.unwrap();
        }
    }

    impl Drop for Rig {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.folder).unwrap();
        }
    }

    #[tokio::test]
    async fn what_was_changed_moved_or_taken_out_breaks_the_chain() {
        for (sql, broken_at) in [
            ("SELECT 1", None),
            ("UPDATE audit SET detail = 'green' WHERE n = 2", Some(2)),
            ("UPDATE audit SET at_ms = 9 WHERE n = 4", Some(4)),
            ("DELETE FROM audit WHERE n = 3", Some(4)),
            ("DELETE FROM audit WHERE n = 1", Some(2)),
            ("UPDATE audit SET n = 40 WHERE n = 5", Some(40)),
            ("UPDATE audit SET n = -n; UPDATE audit SET n = 5 WHERE n = -1; UPDATE audit SET n = 1 WHERE n = -5; UPDATE audit SET n = -n WHERE n < 0", Some(1)),
            // The end can be cut off without a break; the head that somebody else holds tells it.
            ("DELETE FROM audit WHERE n = 5", None),
        ] {
            let rig = Rig::new(5).await;
            rig.sql(sql).await;
            assert_eq!(rig.store.read(first_break).await.unwrap(), broken_at, "{sql}");
        }
    }

    #[tokio::test]
    async fn an_export_is_followed_without_the_agent() {
        let rig = Rig::new(5).await;
        let exported = rig.store.read(|c| lines(c, 0, 100)).await.unwrap();
        let mut follower = Follower::default();
        assert!(exported.iter().all(|line| follower.follows(line)));
        assert_eq!(follower.head(), rig.store.read(head).await.unwrap());
        let mut rest = Follower::after(rig.store.read(|c| head_at(c, 3)).await.unwrap());
        assert!(rig.store.read(|c| lines(c, 3, 100)).await.unwrap().iter().all(|line| rest.follows(line)));
        let without_one: Vec<&Line> = exported.iter().filter(|line| line.n != 3).collect();
        let mut follower = Follower::default();
        assert!(!without_one.iter().all(|line| follower.follows(line)));
        assert_eq!(rig.store.read(|c| head_at(c, 6)).await.unwrap(), AuditHead { count: 6, head: String::new() }, "it does not go so far");
    }
}
