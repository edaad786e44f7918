//! Stories of the link: hosts that come, go, come back, and hosts that are not who they say.

use serde_json::json;
use service::SecretString;
use tenant_agent::agent;
use tests::{World, post_json, soon};
use wire::fleet::{GatewayState, Presence};

#[tokio::test]
async fn a_host_enrols_once_and_is_seen() {
    let world = World::start().await;
    let tenant = world.tenant("alice").await;
    let fleet = soon(world.hub.wait_fleet(|fleet| fleet.tenants.iter().any(|tenant| tenant.gateway.state == GatewayState::Ready))).await.unwrap();
    let seen = &fleet.tenants[0];
    assert_eq!((seen.id, seen.presence, seen.name.as_str()), (tenant.id, Presence::Online, "alice"));
    assert_eq!(seen.agent_version.as_deref(), Some(env!("CARGO_PKG_VERSION")));
    assert_eq!(tenant.agent.identity().tenant_id, tenant.id);
    tenant.end().await;
    world.end().await;
}

#[tokio::test]
async fn a_token_is_for_one_host_and_for_an_hour() {
    let world = World::start().await;
    let (_, token) = world.hub.create_tenant("bob", "http://bob.localhost:1").await.unwrap();
    let settings = world.tenant("alice").await;
    let settings_of = |name: &str| {
        let mut settings = settings.settings.clone();
        settings.state_folder = world.folder().join(name);
        settings
    };
    let token = SecretString::new(token);
    let first = agent::enrol(&settings_of("host-1"), &token).await.unwrap();
    assert_eq!(agent::enrol(&settings_of("host-1"), &token).await.unwrap(), first, "an enrolled host stays who it is");
    // All that is left of the host is its key.
    let (folder, lost) = (world.folder().join("host-1"), world.folder().join("lost"));
    std::fs::rename(&folder, &lost).unwrap();
    std::fs::create_dir(&folder).unwrap();
    std::fs::copy(lost.join("host.pk8"), folder.join("host.pk8")).unwrap();
    assert_eq!(agent::enrol(&settings_of("host-1"), &token).await.unwrap(), first, "a host that lost the answer asks again with its key");
    let error = agent::enrol(&settings_of("host-2"), &token).await.unwrap_err();
    assert!(format!("{error:#}").contains("token_used"), "{error:#}");
    let error = agent::enrol(&settings_of("host-3"), &SecretString::new("guess".into())).await.unwrap_err();
    assert!(format!("{error:#}").contains("token_unknown"), "{error:#}");
    let (_, late) = world.hub.create_tenant("carol", "http://carol.localhost:1").await.unwrap();
    world.clock.advance(3_600_001);
    let error = agent::enrol(&settings_of("host-4"), &SecretString::new(late.clone())).await.unwrap_err();
    assert!(format!("{error:#}").contains("token_expired"), "{error:#}");
    let forged = json!({ "token": late, "public_key": "AAAA", "proof": "AAAA", "agent_version": "0" });
    let answer = post_json(world.hub.public_addr(), "/enrol", &[], &forged).await;
    assert!(matches!(answer.status, 401 | 410), "{}", answer.text());
    let from_a_page = post_json(world.hub.public_addr(), "/enrol", &[("origin", "http://evil.example")], &forged).await;
    assert_eq!(from_a_page.code(), "origin_foreign", "no browser has business here");
    settings.end().await;
    world.end().await;
}

#[tokio::test]
async fn a_host_that_falls_silent_is_late_and_then_offline() {
    let world = World::start().await;
    let tenant = world.tenant("alice").await;
    soon(world.hub.wait_fleet(|fleet| fleet.tenants[0].presence == Presence::Online)).await.unwrap();
    tenant.end().await;
    soon(async {
        loop {
            world.clock.advance(5_000);
            tokio::task::yield_now().await;
            if world.hub.fleet().await.unwrap().tenants[0].presence == Presence::Offline {
                break;
            }
        }
    })
    .await;
    world.end().await;
}

#[tokio::test]
async fn usage_waits_for_the_hub_and_arrives_once() {
    let world = World::start().await;
    let tenant = world.tenant("alice").await;
    let mut browser = tenant.chat().await;
    browser.ask("hello").await;
    soon(world.hub.wait_fleet(|fleet| fleet.tenants[0].usage_today.counters.calls == 1)).await.unwrap();
    // A second start sends again what it is not sure of; nothing is counted twice.
    let tenant = tenant.restart().await;
    tenant.ready().await;
    browser.open().await.unwrap();
    browser.ask("hello").await;
    let fleet = soon(world.hub.wait_fleet(|fleet| fleet.tenants[0].usage_today.counters.calls >= 2)).await.unwrap();
    assert_eq!(fleet.tenants[0].usage_today.counters.calls, 2);
    tenant.end().await;
    world.end().await;
}
