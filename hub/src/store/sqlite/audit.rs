//! What the hub keeps of the hosts' audits: how far each went at some moment, and that a host's no longer fits.
//!
//! A chain that was changed and hashed anew fits itself. It does not fit a head that somebody else kept.

use crate::store::Store;
use rusqlite::{OptionalExtension, Row, params};
use serde::Serialize;
use service::store::Result;
use wire::TenantId;
use wire::link::AuditHead;

/// A head, and when it was said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Anchor {
    pub count: i64,
    pub head: String,
    pub seen_ms: i64,
}

/// The last one of each hour is kept, for a good year.
const HOUR_MS: i64 = 3_600_000;
const KEPT_MS: i64 = 400 * 24 * HOUR_MS;

/// Finding codes.
pub const CUT: &str = "audit_cut";
pub const REWRITTEN: &str = "audit_rewritten";
pub const UNPROVED: &str = "audit_unproved";

/// What is wrong with an audit that is said to go to `now`, if anything is. `kept` is the newest head that the hub has;
/// `expected` was in the welcome of this link, and `then` is what the chain says there.
pub fn fault(kept: Option<&AuditHead>, expected: Option<&AuditHead>, now: &AuditHead, then: Option<&AuditHead>) -> Option<&'static str> {
    match kept {
        Some(kept) if now.count < kept.count => return Some(CUT),
        Some(kept) if now.count == kept.count && now.head != kept.head => return Some(REWRITTEN),
        _ => {}
    }
    match (expected, then) {
        (Some(_), None) => Some(UNPROVED),
        (Some(expected), Some(then)) if expected != then => Some(REWRITTEN),
        _ => None,
    }
}

impl Store {
    /// The newest head of this tenant's audit.
    pub async fn audit_head(&self, tenant: TenantId) -> Result<Option<AuditHead>> {
        self.db().read(move |c| newest(c, tenant)).await
    }

    /// Keeps a head, or that it does not fit. Once it did not, nothing more is kept until somebody has looked.
    pub async fn note_audit(&self, tenant: TenantId, expected: Option<AuditHead>, now: AuditHead, then: Option<AuditHead>, now_ms: i64) -> Result<()> {
        let id = tenant.to_string();
        let changed = self
            .db()
            .write(move |tx| {
                let broken: bool = tx.prepare_cached("SELECT EXISTS (SELECT 1 FROM audit_break WHERE tenant_id = ?1)")?.query_row([&id], |row| row.get(0))?;
                if broken {
                    return Ok(false);
                }
                let kept = newest(tx, tenant)?;
                if let Some(code) = fault(kept.as_ref(), expected.as_ref(), &now, then.as_ref()) {
                    let sql = "INSERT INTO audit_break (tenant_id, code, count, since_ms) VALUES (?1, ?2, ?3, ?4)";
                    tx.execute(sql, params![id, code, kept.or(expected).map_or(0, |head| head.count), now_ms])?;
                    return Ok(true);
                }
                if now.count > 0 && kept.as_ref() != Some(&now) {
                    tx.prepare_cached("DELETE FROM audit_anchor WHERE tenant_id = ?1 AND (seen_ms / ?2 = ?3 / ?2 OR seen_ms < ?3 - ?4)")?
                        .execute(params![id, HOUR_MS, now_ms, KEPT_MS])?;
                    let sql = "INSERT OR REPLACE INTO audit_anchor (tenant_id, count, head, seen_ms) VALUES (?1, ?2, ?3, ?4)";
                    tx.prepare_cached(sql)?.execute(params![id, now.count, now.head, now_ms])?;
                }
                Ok::<_, service::store::StoreError>(false)
            })
            .await?;
        if changed {
            self.changed();
        }
        Ok(())
    }

    /// Every head that is kept, oldest first.
    pub async fn audit_anchors(&self, tenant: TenantId) -> Result<Vec<Anchor>> {
        let sql = "SELECT count, head, seen_ms FROM audit_anchor WHERE tenant_id = ?1 ORDER BY count";
        let anchor_of = |row: &Row<'_>| Ok(Anchor { count: row.get(0)?, head: row.get(1)?, seen_ms: row.get(2)? });
        self.db().read(move |c| c.prepare(sql)?.query_map([tenant.to_string()], anchor_of)?.collect()).await
    }

    /// Somebody has looked: what the host says next is where its audit begins for the hub. Whether there was anything to accept.
    pub async fn accept_audit(&self, tenant: TenantId) -> Result<bool> {
        let id = tenant.to_string();
        let accepted = self
            .db()
            .write(move |tx| {
                let broken = tx.execute("DELETE FROM audit_break WHERE tenant_id = ?1", [&id])?;
                if broken > 0 {
                    tx.execute("DELETE FROM audit_anchor WHERE tenant_id = ?1", [&id])?;
                }
                Ok::<_, service::store::StoreError>(broken > 0)
            })
            .await?;
        self.changed();
        Ok(accepted)
    }
}

fn newest(connection: &rusqlite::Connection, tenant: TenantId) -> rusqlite::Result<Option<AuditHead>> {
    let sql = "SELECT count, head FROM audit_anchor WHERE tenant_id = ?1 ORDER BY count DESC LIMIT 1";
    connection.prepare_cached(sql)?.query_row([tenant.to_string()], |row| Ok(AuditHead { count: row.get(0)?, head: row.get(1)? })).optional()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_must_fit_every_head_that_was_kept() {
        let at = |count, head: &str| AuditHead { count, head: head.to_owned() };
        let (five, other_five, seven, none) = (at(5, "e"), at(5, "x"), at(7, "g"), at(5, ""));
        for (kept, expected, now, then, fault_is) in [
            (None, None, &at(0, ""), None, None),
            (None, None, &five, None, None),
            (Some(&five), None, &five, None, None),
            (Some(&five), None, &seven, None, None),
            (Some(&seven), None, &five, None, Some(CUT)),
            (Some(&seven), None, &at(0, ""), None, Some(CUT)),
            (Some(&five), None, &other_five, None, Some(REWRITTEN)),
            (Some(&five), Some(&five), &seven, Some(&five), None),
            (Some(&five), Some(&five), &seven, Some(&other_five), Some(REWRITTEN)),
            (Some(&five), Some(&five), &seven, Some(&none), Some(REWRITTEN)),
            (Some(&five), Some(&five), &seven, Some(&seven), Some(REWRITTEN)),
            (Some(&five), Some(&five), &seven, None, Some(UNPROVED)),
            // The hub keeps a newer head by now than this link began with.
            (Some(&seven), Some(&five), &seven, Some(&five), None),
        ] {
            assert_eq!(fault(kept, expected, now, then), fault_is, "{kept:?} {expected:?} {now:?} {then:?}");
        }
    }

    #[tokio::test]
    async fn what_does_not_fit_stays_until_somebody_has_looked() {
        let folder = std::env::temp_dir().join(service::random::token());
        let store = Store::open(&folder).unwrap();
        let clock = service::Clock::system();
        let (tenant, _) = crate::app::create_tenant(&store, "alice", "https://a.example", &clock).await.unwrap();
        let at = |count: i64| AuditHead { count, head: format!("h{count}") };
        for (count, seen_ms) in [(1, 0), (2, 1_000), (3, HOUR_MS - 1), (4, HOUR_MS), (4, HOUR_MS + 1), (9, 2 * HOUR_MS)] {
            store.note_audit(tenant, None, at(count), None, seen_ms).await.unwrap();
        }
        let kept: Vec<i64> = store.audit_anchors(tenant).await.unwrap().into_iter().map(|anchor| anchor.count).collect();
        assert_eq!(kept, [3, 4, 9], "the last of each hour");
        assert!(!store.accept_audit(tenant).await.unwrap(), "nothing is wrong");
        store.note_audit(tenant, None, at(8), None, 2 * HOUR_MS + 1).await.unwrap();
        store.note_audit(tenant, None, at(10), None, 2 * HOUR_MS + 2).await.unwrap();
        let found = store.view(0).await.unwrap().remove(0).findings;
        assert_eq!((found.len(), found[0].code.as_str(), found[0].since_ms, found[0].detail.as_str()), (1, CUT, 2 * HOUR_MS + 1, "line 9"));
        assert_eq!(store.audit_head(tenant).await.unwrap(), Some(at(9)), "the evidence stays");
        assert!(store.accept_audit(tenant).await.unwrap());
        store.note_audit(tenant, None, at(10), None, 3 * HOUR_MS).await.unwrap();
        assert_eq!((store.audit_head(tenant).await.unwrap(), store.view(0).await.unwrap()[0].findings.len()), (Some(at(10)), 0));
        std::fs::remove_dir_all(folder).unwrap();
    }
}
