//! Canaries, with the gateway played: what is sent in, what must be heard of it, and what happens when a surface did not ask.

use serde_json::{Value, json};
use tenant_agent::console::Verb;
use tests::{Manners, World, soon};
use wire::fleet::GatewayState;

#[tokio::test]
async fn every_surface_asks_and_nothing_of_it_is_seen() {
    let world = World::start().await;
    let tenant = world.tenant("alice").await;
    let status = tenant.console(&Verb::Status {}).await;
    let surfaces = status["canaries"]["surfaces"].clone();
    assert_eq!(status["canaries"]["ok"], true);
    for surface in ["announcement", "exec", "mcp", "file_read", "file_write", "web_fetch", "plugin_tool", "subagent_spawn", "subagent_tool", "skill", "control"]
    {
        assert_eq!(surfaces[surface], "passed", "{surface}: {surfaces}");
    }
    for surface in ["message", "browser", "nodes", "cron"] {
        assert_eq!(surfaces[surface], "off", "{surface} is not offered and OpenClaw says so: {surfaces}");
    }
    // Nobody is asked, nothing ran, no provider heard of it, nothing is counted and nothing shown.
    let mut browser = tenant.chat().await;
    assert_eq!(browser.ask("[[text:hello]]").await, "hello");
    assert!(!browser.heard.contains("canary"), "{}", browser.heard);
    assert_eq!((tenant.gateway.executed(), status["open_approvals"].as_u64()), (Vec::<String>::new(), Some(0)));
    assert_eq!((world.model.counted().calls, status["usage_today"]["calls"].as_i64()), (1, Some(0)));
    assert!(!world.model.requests()[0].body.to_string().contains("gatehouse-canary"));
    tenant.end().await;
    world.end().await;
}

#[tokio::test]
async fn a_surface_that_does_not_ask_closes_the_way_to_the_model() {
    let world = World::start().await;
    let tenant = world.tenant("alice").await;
    let mut browser = tenant.chat().await;
    for (tool, surface, outcome) in [
        ("gatehouse__exec", "exec", "unasked"),
        ("gatehouse__secret_names", "mcp", "unasked"),
        ("web_fetch", "web_fetch", "unasked"),
        ("gatehouse__write_file", "file_write", "unasked"),
        ("read", "file_read", "unasked"),
        ("sessions_spawn", "subagent_spawn", "unasked"),
        ("gatehouse_canary", "plugin_tool", "ran"),
    ] {
        tenant.gateway.behave(Manners { skips: vec![tool], ..Default::default() });
        let asked = world.model.counted().calls;
        let answer = tenant.console(&Verb::Canaries { now: true }).await;
        assert_eq!(answer["canaries"]["surfaces"][surface], outcome, "{tool}: {answer}");
        assert_eq!(answer["gateway"], json!({ "state": "ungated", "reason": "canary_failed" }), "{tool}");
        assert!(browser.ask("[[text:anybody there?]]").await.contains("canary_failed"), "{tool}");
        assert_eq!(world.model.counted().calls, asked, "no byte goes to a provider");
        let fleet = world.hub.wait_fleet(|fleet| {
            fleet.tenants[0].findings.iter().any(|finding| finding.code == "canary_failed" && finding.detail.contains(&format!("{surface} {outcome}")))
        });
        soon(fleet).await.unwrap();
        tenant.gateway.behave(Manners::default());
        let answer = tenant.console(&Verb::Canaries { now: true }).await;
        assert_eq!((&answer["canaries"]["ok"], &answer["gateway"]["state"]), (&json!(true), &json!("ready")), "{tool}: {answer}");
    }
    let audit = tenant.console(&Verb::AuditLines { after: 0, limit: 500 }).await["lines"].to_string();
    assert!(audit.contains("canaries_failed") && audit.contains("exec unasked") && audit.contains("canaries_passed"));
    tenant.end().await;
    world.end().await;
}

#[tokio::test]
async fn they_are_sent_again_every_hour_and_silence_is_not_believed_for_long() {
    let world = World::start().await;
    let tenant = world.tenant("alice").await;
    tenant.gateway.behave(Manners { skips: vec!["read"], ..Default::default() });
    // Nobody asks for a round: time passes.
    let ungated = async { tenant.gateway_is(GatewayState::Ungated).await };
    world.as_time_passes(60_000, ungated).await;
    tenant.gateway.behave(Manners::default());
    world.as_time_passes(5_000, tenant.ready()).await;
    // A round that is not carried out is made again, and only after some of them nothing is believed.
    tenant.gateway.behave(Manners { answers_canaries: false, ..Default::default() });
    world.as_time_passes(60_000, async { tenant.gateway_is(GatewayState::Ungated).await }).await;
    assert_eq!(tenant.console(&Verb::Status {}).await["gateway"]["reason"], "canary_unanswered");
    tenant.gateway.behave(Manners::default());
    world.as_time_passes(5_000, tenant.ready()).await;
    tenant.end().await;
    world.end().await;
}

#[tokio::test]
async fn whoever_speaks_in_their_place_gets_nothing() {
    let world = World::start().await;
    let tenant = world.tenant("alice").await;
    // No round is on: the canaries' model says nothing, and a call in their session is refused without a question.
    let trace = "a".repeat(32);
    tenant.gateway.announce("run", &trace, "").await;
    let token = tenant.gateway.keys().proxy_token.clone();
    let body = json!({ "model": "canary", "stream": true, "messages": [{ "role": "user", "content": "canary" }], "tools": [] });
    let (authorization, traceparent) = (format!("Bearer {token}"), format!("00-{trace}-{}-01", "b".repeat(16)));
    for (authorization, code) in [(authorization.as_str(), "canary_unknown"), ("Bearer wrong", "proxy_token_wrong")] {
        let headers = [("authorization", authorization), ("traceparent", traceparent.as_str()), ("content-type", "application/json")];
        let path = "/llm/gatehouse-canary/chat/completions";
        // The announcement of the request itself is waited for, in the agent's own time.
        let bytes = body.to_string();
        let asked = tests::request(tenant.agent.egress_addr(), "POST", path, &headers, bytes.as_bytes());
        let answer = world.as_time_passes(500, asked).await;
        assert_eq!((answer.status, &answer.json()["error"]["code"]), (400, &json!(code)));
    }
    let decide = json!({
        "agent_id": "main", "session_key": "agent:main:gatehouse-canary-x", "session_id": "s", "run_id": "r", "trace_id": trace, "call_id": "call_1", "tool": "gatehouse__exec", "params": { "command": "ls" },
    });
    let answer: Value = tenant.gateway.plugin("/decide", &decide).await.json();
    assert_eq!((&answer["allow"], answer["reason"].as_str().is_some_and(|reason| reason.contains("tests the safety check"))), (&json!(false), true));
    assert_eq!(tenant.console(&Verb::Status {}).await["open_approvals"], 0);
    tenant.end().await;
    world.end().await;
}
