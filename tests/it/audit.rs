//! Stories of the audit: what shows when somebody changes what happened.

use service::random::base64url;
use std::path::Path;
use tenant_agent::audit::{Follower, Line};
use tenant_agent::console::Verb;
use tests::{Tenant, World, soon};

async fn exported(tenant: &Tenant) -> Vec<Line> {
    let answer = tenant.console(&Verb::AuditLines { after: 0, limit: 500 }).await;
    serde_json::from_value(answer["lines"].clone()).unwrap()
}

/// What somebody with the file can do: change a line, and make every hash after it fit again.
fn written_anew(state_folder: &Path, lines: &[Line]) {
    let store = rusqlite::Connection::open(state_folder.join("agent.db")).unwrap();
    store.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
    let mut before = String::new();
    for line in lines {
        let detail = if line.deed == "login" { "nothing to see here" } else { &line.detail };
        let text = serde_json::json!([before, line.at_ms, line.actor, line.deed, line.subject, detail]).to_string();
        before = base64url(ring::digest::digest(&ring::digest::SHA256, text.as_bytes()).as_ref());
        store.execute("UPDATE audit SET detail = ?2, chain = ?3 WHERE n = ?1", rusqlite::params![line.n, detail, before]).unwrap();
    }
}

/// Until a heartbeat has brought the hub as far as the audit goes now.
async fn kept(world: &World, tenant: &Tenant) {
    let count = exported(tenant).await.len() as i64;
    let hub = rusqlite::Connection::open(world.folder().join("hub/hub.db")).unwrap();
    let reached = async {
        while hub.query_row("SELECT coalesce(max(count), 0) FROM audit_anchor", [], |row| row.get::<_, i64>(0)).unwrap() < count {
            tokio::task::yield_now().await;
        }
    };
    world.as_time_passes(1_000, reached).await;
}

async fn found(world: &World, code: &str) {
    let shown = world.hub.wait_fleet(|fleet| fleet.tenants[0].findings.iter().any(|finding| finding.code == code));
    soon(shown).await.unwrap();
}

#[tokio::test]
async fn a_history_that_was_written_anew_does_not_fit_what_the_hub_kept() {
    let world = World::start().await;
    let tenant = world.tenant("alice").await;
    let mut browser = tenant.owner().await;
    let login = serde_json::json!({ "name": "Owner", "password": tests::PASSWORD });
    assert_eq!(browser.enter("/auth/login", login).await.status, 200);
    kept(&world, &tenant).await;
    // A new link begins with what the hub kept.
    let tenant = tenant.restart().await;
    kept(&world, &tenant).await;
    let lines = exported(&tenant).await;
    let mut follower = Follower::default();
    assert!(lines.iter().all(|line| follower.follows(line)) && lines.iter().any(|line| line.deed == "login"));
    assert!(soon(world.hub.fleet()).await.unwrap().tenants[0].findings.iter().all(|finding| !finding.code.starts_with("audit")), "an honest chain fits");

    written_anew(&tenant.settings.state_folder, &lines);
    let status = tenant.console(&Verb::Status {}).await;
    assert_eq!(status["audit_broken_at"], serde_json::Value::Null, "by itself the new chain holds");
    let tenant = tenant.restart().await;
    found(&world, "audit_rewritten").await;
    tenant.end().await;
    world.end().await;
}

#[tokio::test]
async fn an_end_that_was_cut_off_is_missed() {
    let world = World::start().await;
    let tenant = world.tenant("alice").await;
    tenant.owner().await;
    kept(&world, &tenant).await;
    {
        let store = rusqlite::Connection::open(tenant.settings.state_folder.join("agent.db")).unwrap();
        store.execute("DELETE FROM audit WHERE n > 2", []).unwrap();
    }
    let tenant = tenant.restart().await;
    found(&world, "audit_cut").await;
    tenant.end().await;
    world.end().await;
}
