//! Stories of model calls: who gets one, what the provider sees, what is counted.

use serde_json::{Value, json};
use std::net::SocketAddr;
use tenant_agent::console::{VaultVerb, Verb};
use tests::{Answer, Manners, Tenant, World, request, soon};

/// A model call as somebody would send it who found the proxy.
async fn call(egress: SocketAddr, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
    let headers: Vec<_> = headers.iter().copied().chain([("content-type", "application/json")]).collect();
    request(egress, "POST", path, &headers, body.to_string().as_bytes()).await
}

fn question(text: &str) -> Value {
    json!({ "model": "scripted-1", "stream": true, "messages": [{ "role": "user", "content": text }] })
}

async fn announced(tenant: &Tenant) -> String {
    let (trace, span) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
    assert_eq!(tenant.gateway.announce("run", trace, span).await.status, 200);
    format!("00-{trace}-{span}-01")
}

#[tokio::test]
async fn the_key_is_the_agents_and_stays_there() {
    let world = World::start().await;
    let tenant = world.tenant("alice").await;
    let mut browser = tenant.chat().await;
    browser.ask("hello").await;
    let seen = world.model.requests();
    assert_eq!(seen.len(), 1);
    let sent = format!("{:?}", seen[0]);
    assert!(sent.contains(world.model_key()), "the provider gets its key");
    assert!(!sent.contains(&tenant.gateway.keys().proxy_token), "and not the token of the proxy");
    let mut files = Vec::new();
    let mut folders = vec![tenant.settings.state_folder.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.is_file() {
                files.push(path);
            }
        }
    }
    assert!(files.len() > 4, "{files:?}");
    for file in files {
        let bytes = std::fs::read(&file).unwrap();
        assert!(!bytes.windows(43).any(|part| part == world.model_key().as_bytes()), "the key lies in `{}`", file.display());
    }
    tenant.end().await;
    world.end().await;
}

#[tokio::test]
async fn who_was_not_announced_gets_no_model() {
    let world = World::start().await;
    let tenant = world.tenant("alice").await;
    let egress = tenant.agent.egress_addr();
    let bearer = format!("Bearer {}", tenant.gateway.keys().proxy_token);
    let token = ("authorization", bearer.as_str());
    let trace = announced(&tenant).await;
    let traced = ("traceparent", trace.as_str());
    let path = "/llm/scripted/chat/completions";
    for (path, headers, body, code) in [
        (path, vec![traced], question("hi"), "proxy_token_wrong"),
        (path, vec![("authorization", "Bearer guess"), traced], question("hi"), "proxy_token_wrong"),
        (path, vec![("x-api-key", world.model_key()), traced], question("hi"), "proxy_token_wrong"),
        ("/llm/other/chat/completions", vec![token, traced], question("hi"), "provider_unknown"),
        ("/llm/scripted/embeddings", vec![token, traced], question("hi"), "route_unknown"),
        ("/llm/scripted/../admin", vec![token, traced], question("hi"), "route_unknown"),
        (path, vec![token], question("hi"), "trace_unannounced"),
        (path, vec![token, ("traceparent", "nonsense")], question("hi"), "trace_unannounced"),
        (path, vec![token, traced, ("content-encoding", "gzip")], question("hi"), "encoding_unsupported"),
        (path, vec![token, traced], json!({ "model": "scripted-1" }), "body_malformed"),
        (path, vec![token, traced], json!({ "model": "another", "messages": [] }), "model_unknown"),
        (path, vec![token, traced], json!({ "model": "scripted-1", "messages": [{ "role": "tool", "content": "no id" }] }), "session_frozen"),
    ] {
        let answer = soon(call(egress, path, &headers, &body)).await;
        assert_eq!((answer.status, answer.json()["error"]["type"].as_str(), answer.code().as_str()), (400, Some("gatehouse"), code), "{path} {headers:?}");
    }
    let foreign = "00-ffffffffffffffffffffffffffffffff-ffffffffffffffff-01";
    let headers = [token, ("traceparent", foreign)];
    let body = question("hi");
    // The proxy waits a moment for an announcement that is still on its way.
    let answer = world.as_time_passes(100, call(egress, path, &headers, &body)).await;
    assert_eq!(answer.code(), "trace_unannounced");
    assert_eq!(world.model.requests().len(), 0, "nothing of it reached the provider");

    let session = "agent:main:main".to_owned();
    assert_eq!(tenant.console(&Verb::Unfreeze { session }).await["ok"], true, "the result without an id had frozen it");
    // A trace that was announced is enough for the last words of a turn, and for nothing that could call a tool.
    assert_eq!(tenant.gateway.announce("run", "11111111111111111111111111111111", "").await.status, 200);
    let of_the_run = "00-11111111111111111111111111111111-2222222222222222-01";
    let headers = [token, ("traceparent", of_the_run)];
    for (tools, status) in [(json!([]), 200), (json!([{ "type": "function", "function": { "name": "read" } }]), 400)] {
        let mut body = question("hi");
        body["tools"] = tools;
        let answer = world.as_time_passes(100, call(egress, path, &headers, &body)).await;
        assert_eq!(answer.status, status, "{}", answer.text());
    }
    tenant.end().await;
    world.end().await;
}

#[tokio::test]
async fn without_the_plugin_no_model_answers_and_the_operator_sees_why() {
    let world = World::start().await;
    let tenant = world.tenant("alice").await;
    let mut browser = tenant.chat().await;
    tenant.gateway.behave(Manners { plugin_loaded: false, announces: false, asks: false, obeys: false });
    browser.event("gateway", |gateway| gateway["state"] == "ungated").await;
    let reply = browser.ask(r#"[[tool:exec {"command":"id"}]]"#).await;
    assert!(reply.contains("plugin_not_loaded"), "{reply}");
    assert_eq!((tenant.gateway.executed().len(), world.model.requests().len()), (0, 0));
    let fleet = soon(world.hub.wait_fleet(|fleet| fleet.tenants[0].findings.iter().any(|finding| finding.code == "plugin_not_loaded"))).await.unwrap();
    assert_eq!(fleet.tenants[0].gateway.reason.as_deref(), Some("plugin_not_loaded"));
    tenant.end().await;
    world.end().await;
}

#[tokio::test]
async fn a_missing_key_is_said_and_costs_nothing() {
    let world = World::start().await;
    let tenant = world.fresh_tenant("alice").await;
    tenant.ready().await;
    let mut browser = tenant.chat().await;
    assert!(browser.ask("hello").await.contains("provider_key_missing"));
    let wrong = Verb::Vault { what: VaultVerb::set("provider.scripted", "not the key") };
    assert_eq!(tenant.console(&wrong).await["ok"], true);
    let reply = browser.ask("hello").await;
    assert!(!reply.contains("not the key"), "{reply}");
    let usage = browser.call("usage.today", json!({})).await["payload"]["usage"].clone();
    assert_eq!(
        (usage["calls"].as_i64(), usage["partial"].as_i64(), usage["input_tokens"].as_i64()),
        (Some(1), Some(0), Some(0)),
        "the provider's refusal is a call without tokens"
    );
    tenant.end().await;
    world.end().await;
}

#[tokio::test]
async fn what_the_provider_counted_is_what_the_operator_sees() {
    let world = World::start().await;
    let tenant = world.tenant("alice").await;
    let mut browser = tenant.chat().await;
    for text in ["hello", "[[text:a b c]]", r#"[[tool:read {"path":"x"}]]"#, "[[text:last]]"] {
        browser.ask(text).await;
    }
    let usage = browser.call("usage.today", json!({})).await["payload"]["usage"].clone();
    assert_eq!((usage["calls"].as_i64(), usage["partial"].as_i64()), (Some(5), Some(0)));
    let expected = world.model.counted();
    assert_eq!((usage["input_tokens"].as_i64(), usage["output_tokens"].as_i64()), (Some(expected.input), Some(expected.output)));
    let fleet = soon(world.hub.wait_fleet(|fleet| fleet.tenants[0].usage_today.calls == 5)).await.unwrap();
    assert_eq!(serde_json::to_value(fleet.tenants[0].usage_today).unwrap(), usage);
    tenant.end().await;
    world.end().await;
}

#[tokio::test]
async fn a_call_that_is_broken_off_is_counted() {
    let world = World::start().await;
    let tenant = world.tenant("alice").await;
    let bearer = format!("Bearer {}", tenant.gateway.keys().proxy_token);
    let trace = announced(&tenant).await;
    let body = question("[[slow:60000]] [[text:a long answer]]").to_string();
    let head = format!(
        "POST /llm/scripted/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: {bearer}\r\ntraceparent: {trace}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = tokio::net::TcpStream::connect(tenant.agent.egress_addr()).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut stream, head.as_bytes()).await.unwrap();
    soon(async {
        while world.model.requests().is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    drop(stream);
    let mut browser = tenant.chat().await;
    soon(async {
        loop {
            let usage = browser.call("usage.today", json!({})).await["payload"]["usage"].clone();
            if usage["calls"] == 1 {
                assert_eq!(usage["partial"], 1);
                break;
            }
        }
    })
    .await;
    tenant.end().await;
    world.end().await;
}
