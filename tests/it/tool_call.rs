//! Stories of tool calls: what runs, what asks, what never runs.

use serde_json::{Value, json};
use tenant_agent::console::Verb;
use tests::{Manners, Tenant, World, request_unix, soon};
use wire::plugin::{VERSION, VERSION_HEADER};

const HOLD_MS: u64 = 60_000;

/// Moves the clock until the held call has been answered: the hold begins at some moment after the question is seen.
async fn let_the_hold_end(world: &World, tenant: &Tenant, refused: usize) {
    let answered = async {
        while tenant.gateway.refused().len() < refused {
            tokio::task::yield_now().await;
        }
    };
    world.as_time_passes(HOLD_MS, answered).await;
}

#[tokio::test]
async fn reading_runs_and_a_command_waits_for_a_person() {
    let world = World::start().await;
    let tenant = world.tenant("alice").await;
    std::fs::write(tenant.workspace().join("notes.md"), "buy milk").unwrap();
    let mut browser = tenant.chat().await;
    let reply = browser.ask(r#"[[tool:read {"path":"notes.md"}]]"#).await;
    assert!(reply.contains("buy milk"), "{reply}");

    let run = browser.say(r#"[[tool:exec {"command":"git push --force origin","title":"See the system"}]]"#).await;
    let question = browser.question().await;
    assert_eq!(tenant.gateway.executed().len(), 1, "the command has not run");
    assert_eq!((question["class"].as_str(), question["unknown"].as_bool(), question["rule"].as_str()), (Some("red"), Some(false), Some("git.push-force")));
    assert_eq!(
        question["sentence"]["en"], "The assistant wants to overwrite or delete the work of others in the shared repository.",
        "the words are the rule's"
    );
    assert!(question["details"].as_array().unwrap().contains(&json!({ "name": "command", "value": "git push --force origin" })));

    let fleet = soon(world.hub.wait_fleet(|fleet| fleet.tenants.iter().any(|tenant| tenant.approvals.len() == 1))).await.unwrap();
    let listed = serde_json::to_value(&fleet.tenants[0].approvals[0]).unwrap();
    let names: Vec<&String> = listed.as_object().unwrap().keys().collect();
    assert_eq!(names, ["class", "created_ms", "external", "id"], "the hub knows no more");
    assert_eq!(listed["id"], question["id"]);

    assert_eq!(browser.decide(&question, "approve").await["payload"]["approval"]["state"], "approved");
    let reply = browser.reply(&run).await;
    assert!(reply.contains("[exit code 1"), "there is nothing to push, and git says so: {reply}");
    assert_eq!(tenant.gateway.executed()[1], r#"exec {"command":"git push --force origin","title":"See the system"}"#);
    browser.event("approval", |approval| approval["state"] == "used").await;
    soon(world.hub.wait_fleet(|fleet| fleet.tenants[0].approvals.is_empty())).await.unwrap();
    assert_eq!(browser.decide(&question, "approve").await["error"]["code"], "approval_decided");
    tenant.end().await;
    world.end().await;
}

#[tokio::test]
async fn a_refused_command_does_not_run() {
    let world = World::start().await;
    let tenant = world.tenant("alice").await;
    let mut browser = tenant.chat().await;
    let run = browser.say(r#"[[tool:exec {"command":"git push --force"}]]"#).await;
    let question = browser.question().await;
    assert_eq!(browser.decide(&question, "deny").await["payload"]["approval"]["state"], "denied");
    browser.reply(&run).await;
    assert_eq!(tenant.gateway.executed(), [""; 0]);
    assert!(tenant.gateway.refused()[0].contains("refused"), "{:?}", tenant.gateway.refused());
    tenant.end().await;
    world.end().await;
}

#[tokio::test]
async fn a_late_yes_is_for_exactly_that_call() {
    let world = World::start().await;
    let tenant = world.tenant("alice").await;
    let mut browser = tenant.chat().await;
    let run = browser.say(r#"[[tool:exec {"command":"git push --force"}]]"#).await;
    let question = browser.question().await;
    let_the_hold_end(&world, &tenant, 1).await;
    browser.reply(&run).await;
    assert!(tenant.gateway.refused()[0].contains(question["id"].as_str().unwrap()), "the model hears which question stands");
    assert_eq!(browser.decide(&question, "approve").await["ok"], true);
    // The session is told, as a turn of its own, in which the model proposes the same call again.
    browser.event("chat", |chat| chat["runId"].as_str().is_some_and(|run| run.starts_with("nudge-")) && chat["state"] == "final").await;
    assert_eq!(tenant.gateway.executed(), [r#"exec {"command":"git push --force"}"#], "now it ran, without another question");

    let other = browser.say(r#"[[tool:exec {"command":"git push --force origin"}]]"#).await;
    let another = browser.question().await;
    assert_ne!(another["id"], question["id"], "another command is another question");
    browser.decide(&another, "deny").await;
    browser.reply(&other).await;

    let again = browser.say(r#"[[tool:exec {"command":"git push --force"}]]"#).await;
    let third = browser.question().await;
    browser.decide(&third, "deny").await;
    browser.reply(&again).await;
    assert_eq!(tenant.gateway.executed().len(), 1, "the yes was for one time");
    tenant.end().await;
    world.end().await;
}

#[tokio::test]
async fn a_question_outlives_the_agent() {
    let world = World::start().await;
    let tenant = world.tenant("alice").await;
    let mut browser = tenant.chat().await;
    let run = browser.say(r#"[[tool:exec {"command":"git push --force"}]]"#).await;
    let question = browser.question().await;
    drop(run);
    let tenant = tenant.restart().await;
    tenant.ready().await;
    let hello = browser.open().await.unwrap();
    assert_eq!(hello["approvals"][0]["id"], question["id"]);
    assert_eq!(browser.decide(&question, "approve").await["ok"], true);
    browser.event("chat", |chat| chat["runId"].as_str().is_some_and(|run| run.starts_with("nudge-")) && chat["state"] == "final").await;
    assert_eq!(tenant.gateway.executed(), [r#"exec {"command":"git push --force"}"#]);
    tenant.end().await;
    world.end().await;
}

#[tokio::test]
async fn what_is_not_in_the_manifest_is_refused_unasked() {
    let world = World::start().await;
    let tenant = world.tenant("alice").await;
    let mut browser = tenant.chat().await;
    browser.ask(r#"[[tool:gateway {"action":"config.get"}]]"#).await;
    assert_eq!(tenant.gateway.executed(), [""; 0]);
    let refused = tenant.gateway.refused();
    assert!(refused[0].contains("not available"), "{refused:?}");
    assert_eq!(browser.call("approvals.list", json!({})).await["payload"]["approvals"], json!([]), "nobody was asked");
    tenant.end().await;
    world.end().await;
}

#[tokio::test]
async fn paths_are_judged_by_where_they_lead() {
    let world = World::start().await;
    let tenant = world.tenant("alice").await;
    let mut browser = tenant.chat().await;
    let keys = tenant.workspace().parent().unwrap().join(".ssh");
    std::fs::create_dir_all(&keys).unwrap();
    std::fs::write(keys.join("config"), "x").unwrap();
    std::os::unix::fs::symlink(keys.join("config"), tenant.workspace().join("notes.md")).unwrap();
    let run = browser.say(r#"[[tool:read {"path":"notes.md"}]]"#).await;
    let question = browser.question().await;
    assert_eq!(question["rule"], "file.read.secret");
    browser.decide(&question, "deny").await;
    browser.reply(&run).await;
    assert_eq!(tenant.gateway.executed(), [""; 0]);
    tenant.end().await;
    world.end().await;
}

#[tokio::test]
async fn one_id_is_one_call() {
    let world = World::start().await;
    let tenant = world.tenant("alice").await;
    let decide = async |id: &str, tool: &str, params: Value| tenant.gateway.decide("r", "t", id, tool, &params).await.json()["allow"].clone();
    std::fs::write(tenant.workspace().join("a"), "x").unwrap();
    assert_eq!(decide("call_1", "read", json!({ "path": "a" })).await, true);
    assert_eq!(decide("call_1", "read", json!({ "path": "a" })).await, true, "asked again, the same answer");
    let ended = json!({ "agent_id": "main", "session_key": "agent:main:main", "run_id": "r", "call_id": "call_2", "tool": "read", "is_error": false, "duration_ms": 1 });
    assert_eq!(decide("call_2", "read", json!({ "path": "a" })).await, true);
    assert_eq!(tenant.gateway.plugin("/result", &ended).await.status, 200);
    assert_eq!(decide("call_2", "read", json!({ "path": "a" })).await, false, "a verdict is for one time");
    assert_eq!(decide("call_1", "read", json!({ "path": "/etc/shadow" })).await, false, "another call under a known id");
    assert_eq!(decide("call-1", "write", json!({ "path": "a", "content": "x" })).await, false, "nor under an id that OpenClaw would respell to it");
    assert_eq!(decide("", "read", json!({ "path": "a" })).await, false);
    tenant.end().await;
    world.end().await;
}

#[tokio::test]
async fn only_the_plugin_speaks_on_its_socket() {
    let world = World::start().await;
    let tenant = world.tenant("alice").await;
    let socket = tenant.settings.plugin_socket();
    let body = json!({ "agent_id": "main", "session_key": "s", "session_id": "s", "run_id": "r", "trace_id": "t", "call_id": "c", "tool": "read", "params": { "path": "a" } });
    let json_type = ("content-type", "application/json");
    for headers in [vec![json_type], vec![json_type, ("x-gatehouse-key", "guess")], vec![json_type, ("x-gatehouse-key", "")]] {
        for path in ["/decide", "/announce", "/result"] {
            let answer = request_unix(&socket, "POST", path, &headers, body.to_string().as_bytes()).await;
            assert_eq!((answer.status, answer.code().as_str()), (403, "plugin_unknown"), "{path} {headers:?}");
        }
    }
    let key = tenant.gateway.keys().plugin_key.clone();
    for version in [None, Some(""), Some("1"), Some("x")] {
        let headers: Vec<_> = [json_type, ("x-gatehouse-key", key.as_str())].into_iter().chain(version.map(|version| (VERSION_HEADER, version))).collect();
        let answer = request_unix(&socket, "POST", "/decide", &headers, b"{}").await;
        assert_eq!((answer.status, answer.code().as_str()), (409, "plugin_outdated"), "{version:?}");
    }
    let headers = [json_type, ("x-gatehouse-key", key.as_str()), (VERSION_HEADER, VERSION)];
    for bad in [&b"{"[..], b"{}", b"[1]", b"{\"allow\":true}"] {
        let answer = request_unix(&socket, "POST", "/decide", &headers, bad).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "body_malformed"));
    }
    let large = format!("{{\"x\":\"{}\"}}", "y".repeat(2 * 1024 * 1024));
    assert_eq!(request_unix(&socket, "POST", "/decide", &headers, large.as_bytes()).await.status, 413);
    let stranger =
        json!({ "agent_id": "other", "session_key": "s", "session_id": "s", "run_id": "r", "trace_id": "t", "call_id": "c", "tool": "read", "params": {} });
    let answer = request_unix(&socket, "POST", "/decide", &headers, stranger.to_string().as_bytes()).await;
    assert_eq!(answer.json()["allow"], false, "an assistant that is not ours");
    tenant.end().await;
    world.end().await;
}

#[tokio::test]
async fn a_tool_that_runs_unasked_freezes_its_session() {
    let world = World::start().await;
    let tenant = world.tenant("alice").await;
    let mut browser = tenant.chat().await;
    let sent_before = world.model.requests().len();
    tenant.gateway.behave(Manners { asks: false, ..Default::default() });
    std::fs::write(tenant.workspace().join("notes.md"), "buy milk").unwrap();
    let reply = browser.ask(r#"[[tool:read {"path":"notes.md"}]]"#).await;
    assert!(reply.contains("session_frozen"), "{reply}");
    assert_eq!(tenant.gateway.executed().len(), 1, "the hook was skipped, so it ran");
    let sent = world.model.requests();
    assert_eq!(sent.len(), sent_before + 1, "but its result did not reach the provider");

    tenant.gateway.behave(Default::default());
    assert!(browser.ask("hello").await.contains("session_frozen"), "and the session stays frozen");
    let tenant = tenant.restart().await;
    tenant.ready().await;
    browser.open().await.unwrap();
    assert!(browser.ask("hello").await.contains("session_frozen"), "over a restart too");
    let names_it =
        |fleet: &wire::fleet::Fleet| fleet.tenants[0].findings.iter().any(|finding| finding.code == "session_frozen" && finding.detail == "agent:main:main");
    soon(world.hub.wait_fleet(names_it)).await.expect("the operator sees which session is frozen");

    let session = "agent:main:main".to_owned();
    assert_eq!(tenant.console(&Verb::Unfreeze { session: session.clone() }).await["ok"], true);
    assert_eq!(tenant.console(&Verb::Unfreeze { session }).await["code"], "session_not_frozen");
    let reply = browser.ask("[[text:here again]]").await;
    assert_eq!(reply, "here again");
    assert_eq!(tenant.console(&Verb::Status {}).await["audit_broken_at"], Value::Null);
    tenant.end().await;
    world.end().await;
}

#[tokio::test]
async fn a_gateway_that_runs_what_was_refused_is_frozen() {
    let world = World::start().await;
    let tenant = world.tenant("alice").await;
    let mut browser = tenant.chat().await;
    let keys = tenant.workspace().parent().unwrap().join(".ssh");
    std::fs::create_dir_all(&keys).unwrap();
    std::fs::write(keys.join("config"), "Host x").unwrap();
    tenant.gateway.behave(Manners { obeys: false, ..Default::default() });
    let run = browser.say(r#"[[tool:read {"path":"../.ssh/config"}]]"#).await;
    let question = browser.question().await;
    browser.decide(&question, "deny").await;
    let reply = browser.reply(&run).await;
    assert_eq!(tenant.gateway.executed().len(), 1, "it ran all the same");
    assert!(reply.contains("session_frozen"), "but the model did not hear of it: {reply}");
    tenant.end().await;
    world.end().await;
}

#[tokio::test]
async fn a_message_does_not_drop_a_held_call() {
    let world = World::start().await;
    let tenant = world.tenant("alice").await;
    let mut browser = tenant.chat().await;
    let run = browser.say(r#"[[tool:exec {"command":"git push --force"}]]"#).await;
    let question = browser.question().await;
    let refused = browser.call("chat.send", json!({ "sessionKey": "main", "message": "hello", "idempotencyKey": "k" })).await;
    assert_eq!(refused["error"]["code"], "approval_waiting");
    browser.decide(&question, "approve").await;
    let came_back = browser.event("approval", |approval| approval["outcome"] == "failed").await;
    assert_eq!((came_back["state"].as_str(), &came_back["id"]), (Some("used"), &question["id"]), "its end is told: there was nothing to push");
    browser.reply(&run).await;
    tenant.end().await;
    world.end().await;
}

#[tokio::test]
async fn a_grant_that_nothing_came_of_is_told_again() {
    let world = World::start().await;
    let tenant = world.tenant("alice").await;
    let mut browser = tenant.chat().await;
    browser.say(r#"[[tool:exec {"command":"git push --force"}]]"#).await;
    let question = browser.question().await;
    let_the_hold_end(&world, &tenant, 1).await;
    // The session hears of the grant, and the gateway loses it.
    tenant.gateway.behave(Manners { announces: false, ..Default::default() });
    browser.decide(&question, "approve").await;
    let nudged = |chat: &Value| chat["runId"].as_str().is_some_and(|run| run.starts_with("nudge-"));
    world.as_time_passes(100, browser.event("chat", |chat| nudged(chat) && chat["state"] == "error")).await;
    assert_eq!(tenant.gateway.executed(), [""; 0]);
    tenant.gateway.behave(Default::default());
    let ran = async {
        while tenant.gateway.executed().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    world.as_time_passes(1_000, ran).await;
    assert_eq!(tenant.gateway.executed(), [r#"exec {"command":"git push --force"}"#]);
    tenant.end().await;
    world.end().await;
}

#[tokio::test]
async fn odd_spellings_of_a_path_are_asked_about() {
    let world = World::start().await;
    let tenant = world.tenant("alice").await;
    let decide = async |n: usize, tool: &str, path: &str| {
        let params = if tool != "read" { json!({ "path": path, "content": "x" }) } else { json!({ "path": path }) };
        let body = json!({ "agent_id": "main", "session_key": "agent:main:other", "session_id": "s", "run_id": "r", "trace_id": "t", "call_id": format!("call_{n}{tool}"), "tool": tool, "params": params });
        world.as_time_passes(1_000, tenant.gateway.plugin("/decide", &body)).await.json()["allow"].clone()
    };
    let outside = tenant.settings.state_folder.join("vault.key");
    for (n, path) in [
        format!("file://{}", outside.display()),
        format!("@{}", outside.display()),
        "@AGENTS.md".into(),
        "AGENTS.md</arg_value>>".into(),
        "~/x".into(),
        "a\u{202f}b.md".into(),
        "FILE:x".into(),
    ]
    .iter()
    .enumerate()
    {
        for tool in ["read", "gatehouse__write_file"] {
            assert_eq!(decide(n, tool, path).await, false, "{tool} {path}");
        }
    }
    assert_eq!(decide(100, "gatehouse__write_file", "größe.md").await, true, "an ordinary name is ordinary");
    tenant.end().await;
    world.end().await;
}

#[tokio::test]
async fn stop_lets_a_held_call_go_and_keeps_the_question() {
    let world = World::start().await;
    let tenant = world.tenant("alice").await;
    let mut browser = tenant.chat().await;
    let run = browser.say(r#"[[tool:exec {"command":"git push --force"}]]"#).await;
    let question = browser.question().await;
    assert_eq!(browser.call("chat.abort", json!({ "sessionKey": "main" })).await["ok"], true);
    browser.reply(&run).await;
    assert_eq!(tenant.gateway.executed(), [""; 0]);
    assert_eq!(browser.ask("[[text:on we go]]").await, "on we go", "nothing is locked");
    assert_eq!(browser.decide(&question, "approve").await["ok"], true);
    browser.event("approval", |approval| approval["outcome"] == "failed").await;
    assert_eq!(tenant.gateway.executed(), [r#"exec {"command":"git push --force"}"#], "and the yes was worth something");
    tenant.end().await;
    world.end().await;
}
