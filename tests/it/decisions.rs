//! Stories of decisions: who may say yes to what, and what must stand behind it.

use serde_json::{Value, json};
use tenant_agent::console::Verb;
use tenant_agent::people::{May, Role};
use tests::{Browser, Device, PASSWORD, Tenant, World, post_json, soon, yes_to};

/// Classified Critical Red by the shipped rules.
const CRITICAL: &str = r#"[[tool:exec {"command":"id","elevated":true}]]"#;
const RED: &str = r#"[[tool:exec {"command":"git push --force"}]]"#;
/// External, so it asks at every level.
const YELLOW: &str = r#"[[tool:message {"action":"send","to":"bob","message":"hello"}]]"#;

pub(crate) async fn decide(browser: &Browser, signed: Value, password: Option<&str>) -> Result<String, String> {
    let mut body = json!({ "signed": signed });
    if let Some(password) = password {
        body["password"] = json!(password);
    }
    let answer = browser.post("/approvals/decisions", body).await;
    if answer.status == 200 { Ok(answer.json()["approval"]["state"].as_str().unwrap().to_owned()) } else { Err(answer.code()) }
}

/// Somebody else of this tenant, logged in.
pub(crate) async fn person(tenant: &Tenant, name: &str, role: Role) -> Browser {
    let add = Verb::PersonAdd { name: name.to_owned(), role, lang: service::text::Language::En, password: PASSWORD.to_owned() };
    assert_eq!(tenant.console(&add).await["ok"], true);
    let mut browser = tenant.browser();
    assert_eq!(browser.enter("/auth/login", json!({ "name": name, "password": PASSWORD })).await.status, 200);
    browser
}

#[tokio::test]
async fn the_most_dangerous_call_runs_by_key_password_and_number() {
    let world = World::start().await;
    let tenant = world.tenant("alice").await;
    let mut browser = tenant.chat().await;
    let run = browser.say(CRITICAL).await;
    let question = browser.question().await;
    assert_eq!(question["class"], "critical_red");
    let unsigned = browser.call("approvals.decide", json!({ "id": question["id"], "digest": question["digest"], "decision": "approve" })).await;
    assert_eq!(unsigned["error"]["code"], "approval_needs_signature");
    let mut blind = yes_to(&question);
    blind["number"] = json!("07");
    for (deed, password, code) in [
        (yes_to(&question), None, "approval_needs_more"),
        (yes_to(&question), Some("not the password"), "password_wrong"),
        (blind, Some(PASSWORD), "approval_number_wrong"),
    ] {
        assert_eq!(decide(&browser, browser.signed(deed).await, password).await, Err(code.to_owned()));
    }
    assert_eq!(tenant.gateway.executed(), [""; 0]);
    assert_eq!(decide(&browser, browser.yes(&question).await, Some(PASSWORD)).await.as_deref(), Ok("approved"));
    browser.reply(&run).await;
    let used = browser.event("approval", |approval| approval["state"] == "used").await;
    assert_eq!(used["signed_by"], browser.device.as_ref().unwrap().id.as_str());
    assert_eq!(tenant.gateway.executed().len(), 1);
    tenant.end().await;
    world.end().await;
}

#[tokio::test]
async fn a_passkey_that_knows_its_person_is_enough() {
    let world = World::start().await;
    let tenant = world.tenant("alice").await;
    let mut browser = tenant.chat().await;
    let mut passkey = Device::passkey(&tenant.settings.origin);
    let vouching = browser.signed(json!({ "kind": "add_device", "key": passkey.public_key() })).await;
    let statement: Value = serde_json::from_str(vouching["statement"].as_str().unwrap()).unwrap();
    let candidate = passkey.candidate(statement["nonce"].as_str().unwrap());
    let answer = browser.post("/api/devices", json!({ "candidate": candidate, "ticket": { "kind": "device", "signed": vouching } })).await;
    passkey.id = answer.json()["device"].as_str().unwrap().to_owned();
    let listed = browser.get("/api/devices").await.json();
    assert!(listed["devices"].as_array().unwrap().iter().any(|device| device["id"] == passkey.id.as_str() && device["kind"] == "passkey"), "{listed}");

    let run = browser.say(CRITICAL).await;
    let question = browser.question().await;
    let mut deed = yes_to(&question);
    deed.as_object_mut().unwrap().remove("number");
    let signed = browser.signed_by(&passkey, deed).await;
    assert_eq!(decide(&browser, signed, None).await.as_deref(), Ok("approved"));
    browser.reply(&run).await;
    assert_eq!(tenant.gateway.executed().len(), 1);
    tenant.end().await;
    world.end().await;
}

#[tokio::test]
async fn a_signature_is_good_in_its_own_house_and_its_own_session() {
    let world = World::start().await;
    let (tenant, neighbour) = (world.tenant("alice").await, world.tenant("bob").await);
    let (mut browser, mut other) = (tenant.chat().await, neighbour.chat().await);
    let run = browser.say(RED).await;
    let question = browser.question().await;
    other.say(RED).await;
    let theirs = other.question().await;
    let signed = browser.yes(&question).await;
    assert_eq!(decide(&other, signed.clone(), None).await, Err("statement_foreign".into()), "another tenant's agent does not know it");
    let over_there = other.yes(&theirs).await;
    assert_eq!(decide(&browser, over_there, None).await, Err("statement_foreign".into()));

    let mut approver = person(&tenant, "Approver", Role::Approver).await;
    assert_eq!(decide(&approver, signed.clone(), None).await, Err("forbidden".into()), "it came with somebody else's session");
    approver.open().await.unwrap();
    let unsigned = approver.decide(&question, "approve").await;
    assert_eq!(unsigned["error"]["code"], "approval_needs_signature", "a session without a device is not enough for Red");
    let nobody = tenant.browser();
    assert_eq!(decide(&nobody, signed.clone(), None).await, Err("session_missing".into()));

    assert_eq!(decide(&browser, signed.clone(), None).await.as_deref(), Ok("approved"));
    assert_eq!(decide(&browser, signed.clone(), None).await, Err("statement_replayed".into()));
    browser.reply(&run).await;
    let tenant = tenant.restart().await;
    assert_eq!(decide(&browser, signed, None).await, Err("statement_replayed".into()), "also by an agent that was started anew");
    assert_eq!((tenant.gateway.executed().len(), neighbour.gateway.executed().len()), (1, 0));
    tenant.end().await;
    neighbour.end().await;
    world.end().await;
}

#[tokio::test]
async fn another_persons_device_comes_in_by_a_code_and_goes_by_a_word() {
    let world = World::start().await;
    let tenant = world.tenant("alice").await;
    let mut owner = tenant.chat().await;
    let mut approver = person(&tenant, "Approver", Role::Approver).await;
    let me = approver.get("/api/me").await.json()["person"]["id"].clone();
    let mut device = Device::key(&tenant.settings.origin);
    let enrol = |browser: &Browser, device: &Device, code: &str| {
        let body = json!({ "candidate": device.candidate(code), "ticket": { "kind": "code", "code": code } });
        let browser = Browser::like(browser);
        async move { browser.post("/api/devices", body).await }
    };
    assert_eq!(enrol(&approver, &device, "AAAAA-AAAAA-AAAAA-AAAAA-AAAAA").await.code(), "device_code_wrong");
    let minted = owner.post("/api/devices/statements", owner.signed(json!({ "kind": "mint_code", "person": me })).await).await;
    let code = minted.json()["codes"][0].as_str().unwrap().to_owned();
    device.id = enrol(&approver, &device, &code).await.json()["device"].as_str().unwrap().to_owned();
    approver.device = Some(device);
    assert_eq!(approver.get("/api/devices").await.json()["devices"].as_array().unwrap().len(), 1, "an approver sees their own");
    assert_eq!(owner.get("/api/devices").await.json()["devices"].as_array().unwrap().len(), 2, "an owner sees all");

    let run = owner.say(RED).await;
    let question = owner.question().await;
    let prepared = approver.yes(&question).await;
    let removed = json!({ "kind": "remove_device", "device": approver.device.as_ref().unwrap().id });
    let answer = owner.post("/api/devices/statements", owner.signed(removed).await).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(decide(&approver, prepared, None).await, Err("device_unknown".into()), "a removed device says nothing any more");

    // Whoever stands at the machine can always let somebody in, and the audit keeps it.
    let code = tenant.console(&Verb::DeviceCode { name: "approver".into() }).await["code"].as_str().unwrap().to_owned();
    let mut again = Device::key(&tenant.settings.origin);
    again.id = enrol(&approver, &again, &code).await.json()["device"].as_str().unwrap().to_owned();
    approver.device = Some(again);
    assert_eq!(decide(&approver, approver.yes(&question).await, None).await.as_deref(), Ok("approved"));
    owner.reply(&run).await;
    assert_eq!(tenant.console(&Verb::DeviceCode { name: "Nobody".into() }).await["code"], "person_unknown");
    tenant.end().await;
    world.end().await;
}

#[tokio::test]
async fn a_reason_for_a_no_reaches_the_assistant() {
    let world = World::start().await;
    let tenant = world.tenant("alice").await;
    let mut browser = tenant.chat().await;
    let no = |question: &Value, reason: &str| json!({ "id": question["id"], "digest": question["digest"], "decision": "deny", "reason": reason });
    let run = browser.say(RED).await;
    let question = browser.question().await;
    let denied = browser.call("approvals.decide", no(&question, "the branch is protected")).await;
    assert_eq!(denied["payload"]["approval"]["denial"], "the branch is protected");
    browser.reply(&run).await;
    assert!(tenant.gateway.refused()[0].contains("“the branch is protected”"), "{:?}", tenant.gateway.refused());

    let late = browser.say(r#"[[tool:exec {"command":"git push --force late"}]]"#).await;
    let question = browser.question().await;
    browser.call("chat.abort", json!({ "sessionKey": "main" })).await;
    browser.reply(&late).await;
    browser.call("approvals.decide", no(&question, "not on a Friday")).await;
    let told = browser.event("chat", |chat| chat["runId"].as_str().is_some_and(|run| run.starts_with("nudge-")) && chat["state"] == "final").await;
    assert!(told.is_object());
    assert_eq!(tenant.gateway.executed(), [""; 0]);
    tenant.end().await;
    world.end().await;
}

#[tokio::test]
async fn a_yes_for_a_day_is_for_the_same_call_only() {
    let world = World::start().await;
    let tenant = world.tenant("alice").await;
    let mut browser = tenant.chat().await;
    let for_a_day = |question: &Value| json!({ "id": question["id"], "digest": question["digest"], "decision": "approve_day" });
    let run = browser.say(YELLOW).await;
    let question = browser.question().await;
    assert_eq!((question["class"].as_str(), question["external"].as_bool()), (Some("yellow"), Some(true)), "{question}");
    assert_eq!(browser.call("approvals.decide", for_a_day(&question)).await["payload"]["approval"]["scope"], "day");
    browser.reply(&run).await;
    assert!(browser.ask(YELLOW).await.contains("ran message"), "the same call again runs unasked");
    assert_eq!(tenant.gateway.executed().len(), 2);
    let other = browser.say(&YELLOW.replace("hello", "goodbye")).await;
    let another = browser.event("approval", |approval| approval["state"] == "pending" && approval["id"] != question["id"]).await;
    browser.decide(&another, "deny").await;
    browser.reply(&other).await;
    assert_eq!(browser.decide(&question, "cancel").await["payload"]["approval"]["state"], "cancelled");
    let run = browser.say(YELLOW).await;
    let again = browser.event("approval", |approval| approval["state"] == "pending" && approval["id"] != another["id"]).await;
    assert_ne!(again["id"], question["id"], "what was taken back is asked about again");
    browser.decide(&again, "deny").await;
    browser.reply(&run).await;
    let red = browser.say(RED).await;
    let question = browser.event("approval", |approval| approval["state"] == "pending" && approval["class"] == "red").await;
    assert_eq!(browser.call("approvals.decide", for_a_day(&question)).await["error"]["code"], "approval_once_only");
    browser.decide(&question, "deny").await;
    browser.reply(&red).await;
    tenant.end().await;
    world.end().await;
}

/// What a device sends by way of the hub.
async fn through_the_hub(world: &World, tenant: &Tenant, signed: &Value) -> (u16, String) {
    let answer = post_json(world.hub.public_addr(), "/decisions", &[], &json!({ "tenant": tenant.id, "signed": signed })).await;
    (answer.status, if answer.status == 202 { String::new() } else { answer.code() })
}

#[tokio::test]
async fn a_decision_may_come_through_the_hub_which_can_only_hold_it_back() {
    let world = World::start().await;
    let tenant = world.tenant("alice").await;
    let mut browser = tenant.chat().await;
    let first = browser.say(RED).await;
    let question = browser.question().await;
    soon(world.hub.wait_fleet(|fleet| fleet.tenants[0].approvals.len() == 1)).await.unwrap();
    let genuine = browser.yes(&question).await;

    // What a hub that was broken into can do: make one up, change one, use one of another tenant.
    let text = genuine["statement"].as_str().unwrap();
    let mut changed = genuine.clone();
    changed["statement"] = json!(text.replace("\"approve\"", "\"deny\""));
    let mut foreign = Device::key(&tenant.settings.origin);
    foreign.id = browser.device.as_ref().unwrap().id.clone();
    let forged = browser.signed_by(&foreign, yes_to(&question)).await;
    for bad in [changed, forged, json!({}), json!({ "statement": text, "proof": { "kind": "key", "signature": "" } })] {
        assert_eq!(through_the_hub(&world, &tenant, &bad).await, (202, String::new()), "the hub does not read it");
    }
    let stranger = json!({ "tenant": "ten_00000000000000000000000000000000", "signed": genuine });
    assert_eq!(post_json(world.hub.public_addr(), "/decisions", &[], &stranger).await.code(), "tenant_away");
    assert_eq!(through_the_hub(&world, &tenant, &json!("x".repeat(30_000))).await.1, "body_too_large");

    assert_eq!(through_the_hub(&world, &tenant, &genuine).await.0, 202);
    browser.reply(&first).await;
    assert_eq!(through_the_hub(&world, &tenant, &genuine).await.0, 202);

    // The password never goes this way, so the key alone is not enough for the most dangerous calls.
    let run = browser.say(CRITICAL).await;
    let critical = browser.event("approval", |approval| approval["state"] == "pending" && approval["class"] == "critical_red").await;
    assert_eq!(through_the_hub(&world, &tenant, &browser.yes(&critical).await).await.0, 202);
    let no = json!({ "kind": "decide", "approval": critical["id"], "digest": critical["digest"], "decision": "deny" });
    assert_eq!(through_the_hub(&world, &tenant, &browser.signed(no).await).await.0, 202);
    browser.reply(&run).await;
    assert_eq!(tenant.gateway.executed().len(), 1);
    tenant.end().await;
    world.end().await;
}

#[tokio::test]
async fn a_person_has_to_do_with_the_assistants_that_they_are_held_to() {
    let world = World::start().await;
    let tenant = world.tenant("alice").await;
    let mut owner = tenant.chat().await;
    let mut approver = person(&tenant, "Approver", Role::Approver).await;
    let assistant = owner.get("/api/me").await.json()["assistants"][0]["name"].as_str().unwrap().to_owned();
    let reach = |name: &str, only: Vec<(String, May)>| Verb::PersonReach { name: name.to_owned(), only };
    assert_eq!(tenant.console(&reach("approver", vec![("Nobody".into(), May::See)])).await["code"], "assistant_unknown");
    assert_eq!(tenant.console(&reach("owner", vec![(assistant.clone(), May::See)])).await["code"], "reach_of_owner");
    assert_eq!(tenant.console(&reach("approver", vec![(assistant.clone(), May::See)])).await["ok"], true);

    let run = owner.say(YELLOW).await;
    let question = owner.question().await;
    let hello = approver.open().await.unwrap();
    assert_eq!(hello["approvals"][0]["id"], question["id"], "seen");
    for decision in ["approve", "approve_day", "deny"] {
        assert_eq!(approver.decide(&question, decision).await["error"]["code"], "forbidden", "and not decided");
    }
    assert_eq!(tenant.console(&reach("approver", vec![(assistant, May::Decide)])).await["ok"], true);
    assert_eq!(approver.decide(&question, "approve").await["ok"], true, "from now on");
    owner.reply(&run).await;
    assert_eq!(tenant.gateway.executed().len(), 1);
    tenant.end().await;
    world.end().await;
}
