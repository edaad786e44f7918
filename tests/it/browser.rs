//! One story in a real Chromium: log in, chat, approve, see the usage on the dashboard. The pictures stay in tests/output.

use service::Clock;
use std::path::Path;
use std::process::Stdio;
use tenant_agent::console::Verb;
use tests::World;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Chromium, Node and the packages of shared/ui"]
async fn a_first_hour_in_a_browser() {
    // A browser waits in real time, so the world's clock runs.
    let world = World::start_with(Clock::system()).await;
    let tenant = world.tenant("alice").await;
    let link = tenant.console(&Verb::OwnerLink {}).await;
    let password = world.hub.operator_password().await.unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let story = tokio::process::Command::new("node")
        .arg(root.join("browser/story.mjs"))
        .env("DASHBOARD", world.hub.operator_origin())
        // The browser logs in with it.
        .env("OPERATOR_PASSWORD", password.expose())
        .env("OWNER_LINK", link["link"].as_str().unwrap())
        .env("GATEHOUSE_SHOTS", root.join("output/browser"))
        .stdin(Stdio::null())
        .output()
        .await
        .expect("node is installed");
    assert!(story.status.success(), "{}", String::from_utf8_lossy(&story.stderr));
    let ran = tenant.gateway.executed();
    assert_eq!(ran.iter().filter(|call| call.starts_with("exec")).count(), 3, "each allowed command ran once: {ran:?}");
    tenant.end().await;
    world.end().await;
}
