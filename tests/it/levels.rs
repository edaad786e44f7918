//! Stories of what the tenant chooses: levels, gates, and stopping an assistant.

use crate::decisions::{decide, person};
use serde_json::{Value, json};
use tenant_agent::console::Verb;
use tenant_agent::people::Role;
use tests::{Browser, PASSWORD, Tenant, World, soon, yes_to};

/// Yellow: it runs unasked from level 2 on.
const YELLOW: &str = r#"[[tool:exec {"command":"mkdir -p drafts"}]]"#;
/// Reaches somebody else, so it asks at every level until its gate is open.
const SENDS: &str = r#"[[tool:message {"action":"send","to":"bob","message":"hello"}]]"#;

async fn assistant(browser: &Browser) -> Value {
    browser.get("/api/levels").await.json()["assistants"][0].clone()
}

async fn change(browser: &Browser, change: Value) -> Result<Value, String> {
    let answer = browser.post("/api/levels", json!({ "assistant": assistant(browser).await["id"], "change": change })).await;
    if answer.status == 200 { Ok(answer.json()) } else { Err(answer.code()) }
}

fn level(to: &str) -> Value {
    json!({ "kind": "level", "to": to })
}

fn gate(tool: &str, open: bool) -> Value {
    json!({ "kind": "gate", "tool": tool, "open": open })
}

/// Whether a gate is open, by what the page is told.
fn is_open(row: &Value, tool: &str) -> bool {
    row["gates"].as_array().unwrap().iter().any(|gate| gate["tool"] == tool && gate["open"] == true)
}

async fn deeds(tenant: &Tenant) -> Vec<(String, String)> {
    let lines = tenant.console(&Verb::AuditLines { after: 0, limit: 500 }).await["lines"].clone();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    lines.as_array().unwrap().iter().map(|line| (text(&line["deed"]), text(&line["detail"]))).collect()
}

#[tokio::test]
async fn lowering_holds_at_once_and_raising_takes_what_the_most_dangerous_call_takes() {
    let world = World::start().await;
    let tenant = world.tenant("alice").await;
    let mut owner = tenant.chat().await;
    owner.ask(YELLOW).await;
    assert_eq!(tenant.gateway.executed().len(), 1, "on level 2 it runs unasked");
    assert_eq!(change(&owner, level("L1")).await.unwrap()["done"], true);
    owner.event("levels", |_| true).await;
    let run = owner.say(YELLOW).await;
    let asked = owner.question().await;
    owner.decide(&asked, "deny").await;
    owner.reply(&run).await;

    let raised = change(&owner, level("L3")).await.unwrap();
    let question = &raised["approval"];
    assert_eq!((raised["done"].as_bool(), question["class"].as_str(), question["tool"].as_str()), (Some(false), Some("critical_red"), Some("levels")));
    assert!(question["sentence"]["de"].as_str().unwrap().contains("Stufe L3"), "{question}");
    assert_eq!(assistant(&owner).await["level"], "L1", "nothing holds before the answer");
    assert_eq!(change(&owner, level("L3")).await.unwrap()["approval"]["id"], question["id"], "one question stands for one wish");
    let unsigned = owner.call("approvals.decide", json!({ "id": question["id"], "digest": question["digest"], "decision": "approve" })).await;
    assert_eq!(unsigned["error"]["code"], "approval_needs_signature");
    assert_eq!(decide(&owner, owner.yes(question).await, None).await, Err("approval_needs_more".into()));
    let mut blind = yes_to(question);
    blind["number"] = json!("07");
    assert_eq!(decide(&owner, owner.signed(blind).await, Some(PASSWORD)).await, Err("approval_number_wrong".into()));
    let yes = owner.yes(question).await;
    assert_eq!(decide(&owner, yes.clone(), Some(PASSWORD)).await.as_deref(), Ok("used"));
    assert_eq!(assistant(&owner).await["level"], "L3");
    assert_eq!(decide(&owner, yes, Some(PASSWORD)).await, Err("statement_replayed".into()));

    // Back to L2 is at once, from L1 to L2 is signed like a dangerous call.
    assert_eq!(change(&owner, level("L1")).await.unwrap()["done"], true);
    let second = change(&owner, level("L2")).await.unwrap();
    assert_eq!(second["approval"]["class"], "red");
    assert_eq!(owner.decide(&second["approval"], "approve").await["payload"]["approval"]["state"], "used");
    assert_eq!(assistant(&owner).await["level"], "L2");

    // What is asked for and not answered goes when something else is chosen.
    let third = change(&owner, level("L3")).await.unwrap()["approval"].clone();
    change(&owner, level("L1")).await.unwrap();
    assert_eq!(decide(&owner, owner.yes(&third).await, Some(PASSWORD)).await, Err("approval_decided".into()));
    let tenant = tenant.restart().await;
    assert_eq!(assistant(&owner).await["level"], "L1", "what was chosen outlives the agent");
    let told: Vec<String> = deeds(&tenant).await.into_iter().filter(|(deed, _)| deed == "level_set").map(|(_, detail)| detail).collect();
    assert_eq!(told.len(), 5, "{told:?}");
    assert!(told[0] == "level L1" && told[1] == format!("level L3 {}", question["id"].as_str().unwrap()), "{told:?}");
    tenant.end().await;
    world.end().await;
}

#[tokio::test]
async fn a_gate_opens_for_one_tool_by_the_owners_signature_and_closes_at_once() {
    let world = World::start().await;
    let tenant = world.tenant("alice").await;
    let mut owner = tenant.chat().await;
    let asked = change(&owner, gate("message", true)).await.unwrap()["approval"].clone();
    assert_eq!((asked["class"].as_str(), asked["external"].as_bool()), (Some("critical_red"), Some(true)));

    // Others may lock, and nobody but an owner may open or allow the opening.
    let mut approver = person(&tenant, "Approver", Role::Approver).await;
    let member = person(&tenant, "Member", Role::Member).await;
    assert_eq!(change(&approver, gate("message", true)).await, Err("forbidden".into()));
    assert_eq!(change(&approver, gate("message", false)).await.unwrap()["done"], true);
    assert_eq!(change(&member, gate("message", false)).await, Err("forbidden".into()));
    assert_eq!(change(&tenant.browser(), level("L1")).await, Err("session_missing".into()));
    let asked_again = change(&owner, gate("message", true)).await.unwrap()["approval"].clone();
    assert_ne!(asked_again["id"], asked["id"], "the first one went with the locking");
    let code = tenant.console(&Verb::DeviceCode { name: "Approver".into() }).await["code"].as_str().unwrap().to_owned();
    let mut device = tests::Device::key(&tenant.settings.origin);
    let body = json!({ "candidate": device.candidate(&code), "ticket": { "kind": "code", "code": code } });
    device.id = approver.post("/api/devices", body).await.json()["device"].as_str().unwrap().to_owned();
    approver.device = Some(device);
    assert_eq!(decide(&approver, approver.yes(&asked_again).await, Some(PASSWORD)).await, Err("forbidden".into()));
    assert_eq!(decide(&owner, owner.yes(&asked_again).await, Some(PASSWORD)).await.as_deref(), Ok("used"));

    let row = assistant(&owner).await;
    assert!(is_open(&row, "message") && !is_open(&row, "exec"), "one gate, the others stay locked: {row}");
    assert!(owner.ask(SENDS).await.contains("ran message"), "it runs unasked now");
    assert_eq!(change(&owner, gate("message", false)).await.unwrap()["done"], true);
    let run = owner.say(SENDS).await;
    let question = owner.event("approval", |approval| approval["state"] == "pending" && approval["tool"] == "message").await;
    owner.decide(&question, "deny").await;
    owner.reply(&run).await;
    assert_eq!(tenant.gateway.executed().len(), 1);
    assert_eq!(change(&owner, gate("read", true)).await, Err("levels_tool_unknown".into()));
    tenant.end().await;
    world.end().await;
}

#[tokio::test]
async fn the_companys_bounds_are_shown_and_hold_whatever_was_chosen() {
    let world = World::start().await;
    let tenant = world.tenant("alice").await;
    let owner = tenant.chat().await;
    for wish in [level("L3"), gate("message", true)] {
        let asked = change(&owner, wish).await.unwrap()["approval"].clone();
        assert_eq!(decide(&owner, owner.yes(&asked).await, Some(PASSWORD)).await.as_deref(), Ok("used"));
    }
    world
        .law_with(1, |content| {
            content.levels.most = Some(policy::Level::L2);
            content.levels.ask_red = true;
            content.gates.held = ["message".to_owned()].into();
        })
        .await;
    let row = assistant(&owner).await;
    assert_eq!((&row["level"], &row["level_most"], &row["always_asks_red"]), (&json!("L2"), &json!("L2"), &json!(true)));
    assert!(!is_open(&row, "message") && row["gates"].as_array().unwrap().iter().any(|gate| gate["tool"] == "message" && gate["held"] == true), "{row}");
    for (wish, code) in
        [(level("L3"), "levels_above_most"), (gate("message", true), "levels_gate_held"), (json!({ "kind": "ask_red", "ask": false }), "levels_always_asks")]
    {
        assert_eq!(change(&owner, wish).await, Err(code.into()));
    }
    // When the bound goes, what the owner signed counts again.
    world.law_with(2, |_| {}).await;
    let row = assistant(&owner).await;
    assert!(row["level"] == "L3" && is_open(&row, "message"), "{row}");
    tenant.end().await;
    world.end().await;
}

#[tokio::test]
async fn a_change_is_tried_on_the_weeks_calls_before_it_is_made() {
    let world = World::start().await;
    let tenant = world.tenant("alice").await;
    let mut owner = tenant.chat().await;
    owner.ask(YELLOW).await;
    let run = owner.say(SENDS).await;
    let question = owner.question().await;
    owner.decide(&question, "approve").await;
    owner.reply(&run).await;
    let id = assistant(&owner).await["id"].clone();
    let preview = async |change: Value| owner.post("/api/levels/preview", json!({ "assistant": id, "change": change })).await.json();
    let seen =
        |preview: &Value| (preview["weighed"].as_str().unwrap().to_owned(), preview["effect"]["asks_before"].clone(), preview["effect"]["asks_after"].clone());
    assert_eq!(seen(&preview(level("L1")).await), ("at_once".into(), json!(1), json!(2)));
    assert_eq!(seen(&preview(gate("message", true)).await), ("critical_red".into(), json!(1), json!(0)));
    world.clock.advance(8 * 24 * 3_600_000);
    let mut owner = tenant.browser();
    owner.enter("/auth/login", json!({ "name": "Owner", "password": PASSWORD })).await;
    let answer = owner.post("/api/levels/preview", json!({ "assistant": id, "change": level("L1") })).await.json();
    assert_eq!(answer["effect"]["calls"], 0, "last week's are over");
    tenant.end().await;
    world.end().await;
}

#[tokio::test]
async fn the_console_shows_and_lowers_and_asks_for_more() {
    let world = World::start().await;
    let tenant = world.tenant("alice").await;
    let owner = tenant.chat().await;
    let set = |to| Verb::LevelSet { assistant: None, change: policy::Change::Level { to } };
    assert_eq!(tenant.console(&set(policy::Level::L1)).await["assistant"]["level"], "L1");
    let asked = tenant.console(&set(policy::Level::L3)).await;
    assert_eq!(
        (asked["done"].as_bool(), asked["class"].as_str()),
        (Some(false), Some("critical_red")),
        "also whoever has the machine needs the owner's signature"
    );
    let shown = tenant.console(&Verb::Levels {}).await;
    assert_eq!(shown["assistants"][0]["level"], "L1");
    let listed = owner.get("/api/levels").await.json();
    assert_eq!(listed["assistants"][0]["choices"][0]["set_by"], "console");
    assert_eq!(
        tenant.console(&Verb::LevelSet { assistant: Some("Nobody".into()), change: policy::Change::AskRed { ask: true } }).await["code"],
        "assistant_unknown"
    );
    tenant.end().await;
    world.end().await;
}

#[tokio::test]
async fn i_did_not_ask_for_this_stops_the_assistant_until_an_owner_lets_it_go_on() {
    let world = World::start().await;
    let tenant = world.tenant("alice").await;
    let mut owner = tenant.chat().await;
    let first = owner.say(r#"[[tool:exec {"command":"git push --force"}]]"#).await;
    let question = owner.question().await;
    let disowned = owner.call("approvals.disown", json!({ "id": question["id"], "digest": question["digest"] })).await;
    assert_eq!(disowned["payload"]["approval"]["state"], "denied", "{disowned}");
    let paused = owner.event("paused", |paused| !paused["paused"].as_array().unwrap().is_empty()).await;
    assert_eq!(paused["paused"][0]["approval"], question["id"]);
    owner.reply(&first).await;
    assert!(tenant.gateway.refused()[0].contains("paused"), "{:?}", tenant.gateway.refused());
    let refused = owner.call("chat.send", json!({ "sessionKey": "main", "message": "go on", "idempotencyKey": "again" })).await;
    assert_eq!(refused["error"]["code"], "assistant_paused");
    let fleet = soon(world.hub.wait_fleet(|fleet| fleet.tenants[0].findings.iter().any(|finding| finding.code == "assistant_paused"))).await;
    assert!(fleet.is_ok());

    // It outlives the agent; neither calls nor models get through, and others may not end it.
    let tenant = tenant.restart().await;
    tenant.ready().await;
    owner.open().await.unwrap();
    let id = assistant(&owner).await["id"].clone();
    let mut approver = person(&tenant, "Approver", Role::Approver).await;
    let go_on = json!({ "kind": "resume", "assistant": id });
    assert_eq!(approver.post("/api/pauses/end", owner.signed(go_on.clone()).await).await.code(), "forbidden", "it came with somebody else's session");
    assert_eq!(owner.post("/api/pauses/end", json!({ "assistant": id })).await.code(), "body_malformed", "a session alone is not enough");
    let stopped = tenant.gateway.decide("r", "t", "call_x", "read", &json!({ "path": "notes.md" })).await.json();
    assert!(stopped["allow"] == false && stopped["reason"].as_str().unwrap().contains("paused"), "{stopped}");
    let signed = owner.signed(go_on.clone()).await;
    assert_eq!(owner.post("/api/pauses/end", signed.clone()).await.status, 204);
    assert_eq!(owner.post("/api/pauses/end", signed).await.code(), "statement_replayed");
    assert_eq!(owner.post("/api/pauses/end", owner.signed(go_on).await).await.code(), "assistant_not_paused");
    owner.event("paused", |paused| paused["paused"].as_array().unwrap().is_empty()).await;
    owner.ask("[[text:hello]]").await;

    // Whoever sees the assistant may stop it, and only stop it.
    let member = person(&tenant, "Member", Role::Member).await;
    let run = owner.say(r#"[[tool:exec {"command":"git push --force two"}]]"#).await;
    let question = owner.event("approval", |approval| approval["state"] == "pending").await;
    let yes = owner.yes(&question).await;
    assert_eq!(member.post("/api/pauses", json!({ "assistant": id })).await.status, 204);
    owner.reply(&run).await;
    assert_eq!(decide(&owner, yes, None).await.as_deref(), Ok("approved"), "the question was still open");
    assert_eq!(tenant.gateway.executed(), [""; 0], "and nothing runs by it as long as the assistant is paused");
    approver.open().await.unwrap();
    assert_eq!(tenant.console(&Verb::Resume { assistant: None }).await["ok"], true);
    world.as_time_passes(50, owner.event("approval", |approval| approval["state"] == "used")).await;
    let told: Vec<String> = deeds(&tenant).await.into_iter().map(|(deed, _)| deed).filter(|deed| deed.starts_with("assistant_")).collect();
    assert_eq!(told, ["assistant_paused", "assistant_resumed", "assistant_paused", "assistant_resumed"]);
    tenant.end().await;
    world.end().await;
}

#[tokio::test]
async fn operators_see_how_often_each_rule_asks_and_no_word_of_what() {
    let world = World::start().await;
    let tenant = world.tenant("alice").await;
    let mut owner = tenant.chat().await;
    for to in ["bob", "carol"] {
        let run = owner.say(&SENDS.replace("bob", to)).await;
        let question = owner.question().await;
        owner.decide(&question, if to == "bob" { "approve" } else { "deny" }).await;
        owner.reply(&run).await;
    }
    let told = |fleet: &wire::fleet::Fleet| fleet.tenants[0].asks.iter().any(|asks| asks.total() == 2 && asks.yes == 1 && asks.no == 1);
    let fleet = soon(world.hub.wait_fleet(told)).await.unwrap();
    let asks = &fleet.tenants[0].asks;
    assert_eq!((asks[0].rule.as_str(), asks[0].days.as_slice()), ("message.send", &[0, 0, 0, 0, 0, 0, 2][..]));
    let text = serde_json::to_string(&fleet).unwrap();
    assert!(!text.contains("hello") && !text.contains("carol"), "{text}");
    tenant.end().await;
    world.end().await;
}
