//! Stories of the first hour: a template that is worked through step by step, through the same gate as everything else.

use crate::decisions::person;
use serde_json::{Value, json};
use tenant_agent::console::Verb;
use tenant_agent::people::Role;
use tests::{Browser, Tenant, World};

/// So little at a time that no session ends while something is waited for.
const TICK_MS: u64 = 5;

async fn begin(browser: &Browser, template: &str) -> (u16, String) {
    let answer = browser.post("/api/first-hour", json!({ "template": template, "lang": "en" })).await;
    (answer.status, if answer.status == 204 { String::new() } else { answer.code() })
}

async fn wish(browser: &Browser, n: usize, wish: &str) -> u16 {
    browser.post("/api/first-hour/step", json!({ "n": n, "wish": wish })).await.status
}

async fn states(browser: &Browser) -> Vec<String> {
    let run = browser.get("/api/first-hour").await.json()["run"].clone();
    let word = |step: &Value| format!("{}{}", step["state"].as_str().unwrap(), step["why"].as_str().map_or_else(String::new, |why| format!(" {why}")));
    run["steps"].as_array().unwrap().iter().map(word).collect()
}

/// Lets time pass until the steps stand so.
async fn come_to(world: &World, browser: &Browser, expected: &[&str]) {
    let come = async {
        let mut now = states(browser).await;
        while now != expected {
            tokio::task::yield_now().await;
            now = states(browser).await;
        }
    };
    world.as_time_passes(TICK_MS, come).await;
}

async fn deeds(tenant: &Tenant, wanted: &str) -> Vec<String> {
    let lines = tenant.console(&Verb::AuditLines { after: 0, limit: 500 }).await["lines"].clone();
    let of = |line: &Value| (line["deed"] == wanted).then(|| line["detail"].as_str().unwrap().to_owned());
    lines.as_array().unwrap().iter().filter_map(of).collect()
}

#[tokio::test]
async fn a_template_is_worked_through_and_goes_on_after_its_agent_has_ended() {
    let world = World::start().await;
    let tenant = world.tenant("alice").await;
    let owner = tenant.chat().await;
    let listed = owner.get("/api/first-hour").await.json();
    let ids: Vec<&str> = listed["templates"].as_array().unwrap().iter().map(|template| template["id"].as_str().unwrap()).collect();
    assert_eq!((ids, &listed["run"]), (vec!["freelancer", "agency", "e_commerce", "consulting"], &Value::Null));
    let own = "what I wrote myself";
    std::fs::create_dir_all(tenant.workspace().join("clients")).unwrap();
    std::fs::write(tenant.workspace().join("clients/stages.md"), own).unwrap();

    let member = person(&tenant, "Member", Role::Member).await;
    assert_eq!(begin(&member, "consulting").await, (403, "forbidden".into()));
    assert_eq!(begin(&owner, "no_such").await, (404, "template_unknown".into()));
    assert_eq!(begin(&owner, "consulting").await, (204, String::new()));
    assert_eq!(begin(&owner, "agency").await, (409, "template_under_way".into()));
    // On level 2 files in the workspace are written unasked; the report is a task, and nobody here writes one.
    come_to(&world, &owner, &["done", "done", "done", "failed nothing_there"]).await;
    assert!(std::fs::read_to_string(tenant.workspace().join("templates/agreement.md")).unwrap().contains("Agreement on consulting"));
    assert_eq!(std::fs::read_to_string(tenant.workspace().join("clients/stages.md")).unwrap(), own, "what is there is left alone");
    assert_eq!(tenant.gateway.heard().len(), 1, "the task was told once");
    let written: Vec<String> = deeds(&tenant, "run").await.into_iter().filter(|detail| detail.starts_with("gatehouse__write_file")).collect();
    assert_eq!(written.len(), 2, "each file was judged like any call: {written:?}");

    let tenant = tenant.restart().await;
    tenant.ready().await;
    assert_eq!(states(&owner).await, ["done", "done", "done", "failed nothing_there"], "what was reached stays");
    assert_eq!(wish(&owner, 0, "retry").await, 409);
    std::fs::create_dir_all(tenant.workspace().join("reports")).unwrap();
    std::fs::write(tenant.workspace().join("reports/week.md"), "a report").unwrap();
    assert_eq!(wish(&owner, 3, "retry").await, 204);
    come_to(&world, &owner, &["done", "done", "done", "done"]).await;
    world.as_time_passes(TICK_MS, async { while owner.get("/api/first-hour").await.json()["run"]["ended_ms"].is_null() {} }).await;
    assert_eq!(tenant.gateway.heard().len(), 2, "told again because it was wished");
    let steps = deeds(&tenant, "template_step").await;
    assert_eq!((steps[0].as_str(), steps[1].as_str()), ("consulting scheduling running", "consulting scheduling done"));
    assert_eq!(deeds(&tenant, "template_ended").await.len(), 1);
    tenant.end().await;
    world.end().await;
}

#[tokio::test]
async fn where_the_gate_asks_a_template_waits_and_a_no_stops_it() {
    let world = World::start().await;
    let tenant = world.tenant("alice").await;
    let mut owner = tenant.chat().await;
    let lower = Verb::LevelSet { assistant: None, change: policy::Change::Level { to: policy::Level::L1 } };
    assert_eq!(tenant.console(&lower).await["done"], true);
    assert_eq!(begin(&owner, "consulting").await.0, 204);
    let first = owner.question().await;
    assert_eq!((first["session"].as_str(), first["class"].as_str()), (Some("agent:main:first-hour"), Some("yellow")));
    assert!(!tenant.workspace().join("templates/scheduling.md").exists(), "nothing is written before the answer");

    // The question outlives its agent; the step finds it again and uses the yes that comes.
    let tenant = tenant.restart().await;
    tenant.ready().await;
    owner.open().await.unwrap();
    assert_eq!(owner.decide(&first, "approve").await["payload"]["approval"]["state"], "approved");
    let second = owner.event("approval", |approval| approval["state"] == "pending" && approval["id"] != first["id"]).await;
    assert!(tenant.workspace().join("templates/scheduling.md").exists());
    owner.decide(&second, "deny").await;
    come_to(&world, &owner, &["done", "failed denied", "waiting", "waiting"]).await;
    assert!(!tenant.workspace().join("templates/agreement.md").exists());

    assert_eq!(wish(&owner, 1, "skip").await, 204);
    let third = owner.event("approval", |approval| approval["state"] == "pending" && approval["id"] != second["id"]).await;
    assert_eq!(owner.post("/api/first-hour/end", json!({})).await.status, 204);
    owner.event("approval", |approval| approval["id"] == third["id"] && approval["state"] == "superseded").await;
    assert_eq!(states(&owner).await[1..], ["skipped", "running", "waiting"]);
    assert_eq!(tenant.gateway.heard(), [""; 0], "no late grant of ours is told to a session");
    tenant.end().await;
    world.end().await;
}

#[tokio::test]
async fn a_company_brings_templates_of_its_own() {
    let world = World::start().await;
    let tenant = world.tenant("alice").await;
    let owner = tenant.chat().await;
    let text = "id = \"bakery\"\ntitle = { de = \"Bäckerei\", en = \"Bakery\" }\nabout = { de = \"Brot\", en = \"Bread\" }\n[[step]]\nid = \"oven\"\ntitle = { de = \"Ofen\", en = \"Oven\" }\n\
                [[step.file]]\npath = { de = \"ofen.md\", en = \"oven.md\" }\ntext = { de = \"heiß\", en = \"hot\" }\n";
    world.law_with(1, |content| content.workflows = vec![policy::bundle::Named { name: "workflows/bakery.toml".into(), text: text.into() }]).await;
    assert_eq!(begin(&owner, "bakery").await.0, 204);
    come_to(&world, &owner, &["done"]).await;
    assert_eq!(std::fs::read_to_string(tenant.workspace().join("oven.md")).unwrap(), "hot");
    tenant.end().await;
    world.end().await;
}
