//! Stories of model calls: who gets one, what the provider sees, what is counted.

use crate::secrets::kept;
use policy::bundle::{Limits, Price, Purpose, Target};
use serde_json::{Value, json};
use std::net::SocketAddr;
use tenant_agent::console::{VaultVerb, Verb};
use tenant_agent::gateway::openclaw::Dialect;
use tests::{Answer, Manners, Said, Tenant, World, request, soon};

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
    let files = kept(&tenant.settings.state_folder, None);
    assert!(files.len() > 4, "{files:?}");
    for (file, bytes) in files {
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
    tenant.gateway.behave(Manners { plugin_loaded: false, announces: false, asks: false, obeys: false, ..Default::default() });
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
    let fleet = soon(world.hub.wait_fleet(|fleet| fleet.tenants[0].usage_today.counters.calls == 5)).await.unwrap();
    assert_eq!(serde_json::to_value(fleet.tenants[0].usage_today).unwrap(), usage);
    tenant.end().await;
    world.end().await;
}

/// Prices the scripted model: nothing for input, `output` for each token of output.
fn priced(content: &mut policy::bundle::Content, output: i64) {
    content.prices.models.push(Price {
        provider: "scripted".into(),
        model: "scripted-1".into(),
        input_nano_usd: 0,
        cached_nano_usd: 0,
        output_nano_usd: output,
        cache_write_nano_usd: None,
        cache_write_long_nano_usd: None,
        tool_request_nano_usd: None,
    });
}

#[tokio::test]
async fn a_budget_stops_calls_before_they_are_sent_and_says_who_can_lift_it() {
    let world = World::start().await;
    let tenant = world.tenant("alice").await;
    let mut browser = tenant.chat().await;
    let only = |call, run, day, month| Limits { call_nano_usd: call, run_nano_usd: run, day_nano_usd: day, month_nano_usd: month };
    for (version, own, shared, code) in [
        (1, only(Some(1), None, None, None), Limits::default(), "budget_call"),
        (2, only(None, Some(1), None, None), Limits::default(), "budget_run"),
        (3, only(None, None, Some(1), None), Limits::default(), "budget_day"),
        (4, only(None, None, None, Some(1)), Limits::default(), "budget_month"),
        (5, Limits::default(), only(None, None, Some(1), None), "budget_tenant_day"),
        (6, Limits::default(), only(None, None, None, Some(1)), "budget_tenant_month"),
    ] {
        world.law_with(version, |content| (content.budgets.assistant, content.budgets.tenant) = (own, shared)).await;
        let reply = browser.ask("hello").await;
        assert!(reply.starts_with(&format!("{code}: ")) && reply.contains("the limit"), "{reply}");
    }
    assert_eq!(world.model.requests().len(), 0, "nothing of it reached the provider");

    let bearer = format!("Bearer {}", tenant.gateway.keys().proxy_token);
    let mut body = question("[[text:four]]");
    body["max_tokens"] = json!(1);
    world
        .law_with(7, |content| {
            priced(content, 10);
            content.budgets.assistant = only(Some(10), None, Some(20), None);
        })
        .await;
    let egress = tenant.agent.egress_addr();
    for (status, finding) in [(200, Some("budget_50")), (200, Some("budget_100")), (400, None)] {
        let trace = announced(&tenant).await;
        let headers = [("authorization", bearer.as_str()), ("traceparent", trace.as_str())];
        let answer = soon(call(egress, "/llm/scripted/chat/completions", &headers, &body)).await;
        assert_eq!(answer.status, status, "{}", answer.text());
        if let Some(code) = finding {
            let seen = world.hub.wait_fleet(|fleet| fleet.tenants[0].findings.iter().any(|finding| finding.code == code));
            world.as_time_passes(20, seen).await.unwrap();
        }
    }
    let usage = browser.call("usage.today", json!({})).await["payload"]["usage"].clone();
    assert_eq!((usage["calls"].as_i64(), usage["cost_nano_usd"].as_i64(), usage["unpriced"].as_i64()), (Some(2), Some(20), Some(0)));
    let budgets = tenant.console(&Verb::Status {}).await["budgets"].clone();
    let day = budgets.as_array().unwrap().iter().find(|budget| budget["span"] == "day" && budget["whose"] != "tenant").unwrap().clone();
    assert_eq!((&day["limit_nano_usd"], &day["spent_nano_usd"], &day["reserved_nano_usd"]), (&json!(20), &json!(20), &json!(0)));
    tenant.end().await;
    world.end().await;
}

const RESPONSES: &str = "event: response.output_item.done\ndata: {\"type\":\"response.output_item.done\",\"output_index\":0,\"item\":{\"type\":\"function_call\",\"id\":\"fc_1\",\"call_id\":\"theirs\",\"name\":\"read\",\"arguments\":\"{}\"}}\n\n\
    event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"output\":[],\"usage\":{\"input_tokens\":2006,\"input_tokens_details\":{\"cached_tokens\":1920},\"output_tokens\":300,\"output_tokens_details\":{\"reasoning_tokens\":192}}}}\n\n";
const GOOGLE: &str = "data: {\"candidates\":[{\"content\":{\"parts\":[{\"functionCall\":{\"name\":\"read\",\"args\":{}}}]},\"finishReason\":\"STOP\"}],\"usageMetadata\":{\"promptTokenCount\":2006,\"cachedContentTokenCount\":1920,\"candidatesTokenCount\":108,\"thoughtsTokenCount\":192,\"totalTokenCount\":2306}}\r\n\r\n";
const OLLAMA: &str = "{\"message\":{\"tool_calls\":[{\"function\":{\"name\":\"read\",\"arguments\":{}}}]},\"done\":false}\n{\"message\":{\"content\":\"\"},\"done\":true,\"prompt_eval_count\":2006,\"prompt_eval_cached_count\":1920,\"eval_count\":300}\n";

#[tokio::test]
async fn every_dialect_is_gated_and_counted() {
    let world = World::start().await;
    let events = "text/event-stream";
    for (name, dialect, path, sent_to, key, stream, question, returned) in [
        (
            "responses",
            Dialect::OpenaiResponses,
            "responses",
            "/responses",
            "authorization",
            Said::stream(events, RESPONSES),
            json!({ "model": "fake-1", "stream": true, "input": "hi" }),
            json!({ "model": "fake-1", "input": [{ "type": "function_call_output", "call_id": "c9", "output": "a secret" }] }),
        ),
        (
            "google",
            Dialect::GoogleGenerativeAi,
            "models/fake-1:streamGenerateContent",
            "/models/fake-1:streamGenerateContent?alt=sse",
            "x-goog-api-key",
            Said::stream(events, GOOGLE),
            json!({ "contents": [{ "role": "user", "parts": [{ "text": "hi" }] }] }),
            json!({ "contents": [{ "role": "user", "parts": [{ "functionResponse": { "id": "c9", "name": "read", "response": { "output": "a secret" } } }] }] }),
        ),
        (
            "ollama",
            Dialect::Ollama,
            "api/chat",
            "/api/chat",
            "authorization",
            Said::stream("application/x-ndjson", OLLAMA),
            json!({ "model": "fake-1", "messages": [{ "role": "user", "content": "hi" }] }),
            json!({ "model": "fake-1", "messages": [{ "role": "tool", "tool_call_id": "c9", "content": "a secret" }] }),
        ),
    ] {
        let provider = world.provider().await;
        let tenant = world.tenant_of(name, &provider, dialect).await;
        let egress = tenant.agent.egress_addr();
        let bearer = format!("Bearer {}", tenant.gateway.keys().proxy_token);
        let trace = announced(&tenant).await;
        let headers = [("authorization", bearer.as_str()), ("traceparent", trace.as_str())];
        let path = format!("/llm/fake/{path}");
        provider.says(stream.clone());
        let answer = soon(call(egress, &path, &headers, &question)).await;
        assert_eq!(answer.status, 200, "{name}: {}", answer.text());
        assert!(answer.text().contains("call_") && !answer.text().contains("theirs"), "{name}: the call has an id of ours: {}", answer.text());
        let asked = provider.asked();
        assert_eq!((asked.len(), asked[0].path.as_str()), (1, sent_to), "{name}");
        assert!(asked[0].headers[key].to_str().unwrap().ends_with(world.model_key()), "{name}");
        assert!(!format!("{asked:?}").contains(&tenant.gateway.keys().proxy_token), "{name}");
        let mut browser = tenant.chat().await;
        let usage = browser.call("usage.today", json!({})).await["payload"]["usage"].clone();
        for (field, expected) in [("calls", 1), ("partial", 0), ("estimated", 0), ("input_tokens", 2006), ("cached_tokens", 1920), ("output_tokens", 300)] {
            assert_eq!(usage[field], expected, "{name} {field}: {usage}");
        }

        // The stream breaks off before it says what it cost, and in another form than the dialect's it is none.
        provider.says(Said { pieces: stream.pieces[..20].to_vec(), ..stream.clone() }.breaking());
        soon(call(egress, &path, &headers, &question)).await;
        provider.says(Said { kind: "text/plain", ..stream });
        assert_eq!(soon(call(egress, &path, &headers, &question)).await.code(), "provider_unreadable", "{name}");
        let usage = browser.call("usage.today", json!({})).await["payload"]["usage"].clone();
        assert_eq!((usage["calls"].as_i64(), usage["partial"].as_i64()), (Some(3), Some(2)), "{name}: {usage}");

        let asked = provider.asked().len();
        assert_eq!(soon(call(egress, &path, &headers, &returned)).await.code(), "session_frozen", "{name}: nobody decided about this result");
        assert_eq!(provider.asked().len(), asked, "{name}");
        tenant.end().await;
    }
    world.end().await;
}

/// Two purposes: the fake provider first, the scripted one behind it.
fn routed(content: &mut policy::bundle::Content) {
    priced(content, 10);
    let mut price = content.prices.models.last().unwrap().clone();
    (price.provider, price.model) = ("fake".into(), "fake-1".into());
    content.prices.models.push(price);
    let fallback = Some(Target { provider: "scripted".into(), model: "scripted-1".into() });
    let purpose = Purpose { provider: "fake".into(), model: "fake-1".into(), output_tokens_max: None, fallback };
    content.routes.purposes = ["review", "general"].map(|name| (name.to_owned(), purpose.clone())).into();
}

#[tokio::test]
async fn another_provider_answers_only_when_the_first_says_nothing_about_the_request() {
    let world = World::start().await;
    let provider = world.provider().await;
    let tenant = world.tenant_of("alice", &provider, Dialect::OpenaiCompletions).await;
    world.law_with(1, routed).await;
    let egress = tenant.agent.egress_addr();
    let bearer = format!("Bearer {}", tenant.gateway.keys().proxy_token);
    let asks = async |purpose: &str, said: Option<Said>| {
        let trace = announced(&tenant).await;
        let headers = [("authorization", bearer.as_str()), ("traceparent", trace.as_str())];
        let (first, second) = (provider.asked().len(), world.model.requests().len());
        said.into_iter().for_each(|said| provider.says(said));
        let mut body = question("[[text:four]]");
        (body["model"], body["temperature"], body["max_tokens"]) = (json!(purpose), json!(1.5), json!(50));
        let answer = soon(call(egress, "/llm/purpose/chat/completions", &headers, &body)).await;
        (answer, provider.asked().len() - first, world.model.requests().len() - second)
    };
    for (purpose, status) in [("general", 429), ("general", 500), ("general", 504), ("general", 529), ("unheard of", 503), ("review", 502)] {
        let (answer, first, second) = asks(purpose, Some(Said::failing(status))).await;
        assert_eq!((answer.status, first, second), (200, 1, 1), "{purpose} {status}: {}", answer.text());
        let sent = world.model.requests().last().unwrap().body.clone();
        let (model, temperature, most) = if purpose == "review" { ("scripted-1", json!(0), 600) } else { ("scripted-1", json!(1.5), 50) };
        assert_eq!((&sent["model"], &sent["temperature"], &sent["max_tokens"]), (&json!(model), &temperature, &json!(most)), "{purpose}");
    }
    for status in [400, 401, 403, 404, 413, 422] {
        let (answer, first, second) = asks("general", Some(Said::failing(status))).await;
        assert_eq!((answer.status, first, second), (status, 1, 0), "{status} is an answer");
    }
    for status in [400, 401, 529] {
        let (answer, first, second) = asks("review", Some(Said::failing(status))).await;
        assert_eq!((answer.code().as_str(), first, second), ("purpose_unanswered", 1, 0), "a review fails closed at {status}");
        assert!(!answer.text().contains("\"no\""), "nothing of the failure gets through");
    }
    let begun = Said::stream("text/event-stream", "data: {\"choices\":[{\"delta\":{\"content\":\"hi\"}}]}\n\n").breaking();
    let (answer, first, second) = asks("general", Some(begun)).await;
    assert_eq!((answer.status, first, second), (200, 1, 0), "never after the first byte");

    let pause = Said { retry_after: Some("30"), ..Said::failing(429) };
    assert_eq!(asks("general", Some(pause)).await.0.status, 200);
    let (answer, first, second) = asks("general", None).await;
    assert_eq!((answer.status, first, second), (200, 0, 1), "who asked for a pause gets it");
    let standing = tenant.console(&Verb::Providers { check: false }).await["providers"].clone();
    let of = |name: &str| standing.as_array().unwrap().iter().find(|provider| provider["name"] == name).unwrap().clone();
    assert_eq!(
        (&of("fake")["state"], &of("fake")["last_error_class"], &of("scripted")["state"]),
        (&json!("DEGRADED"), &json!("transient_quota"), &json!("OK"))
    );
    assert!(of("fake")["key"]["fingerprint"].is_string() && !standing.to_string().contains(world.model_key()));
    world.clock.advance(30_000);
    provider.says(Said::json(r#"{"choices":[{"message":{"content":"back"}}],"usage":{"prompt_tokens":1,"completion_tokens":1}}"#));
    let (answer, first, second) = asks("general", None).await;
    assert_eq!((answer.json()["choices"][0]["message"]["content"].as_str(), first, second), (Some("back"), 1, 0));

    // Every attempt has a row of its own; those that were refused cost nothing.
    let mut browser = tenant.chat().await;
    let usage = browser.call("usage.today", json!({})).await["payload"]["usage"].clone();
    let attempts = provider.asked().len() + world.model.requests().len();
    assert_eq!((usage["calls"].as_u64(), usage["partial"].as_i64()), (Some(attempts as u64), Some(1)), "{usage}");

    world
        .law_with(2, |content| {
            routed(content);
            content.routes.purposes.clear();
            content.routes.disabled = ["fake".to_owned()].into();
        })
        .await;
    assert_eq!(asks("general", None).await.0.code(), "purpose_unknown");
    let trace = announced(&tenant).await;
    let headers = [("authorization", bearer.as_str()), ("traceparent", trace.as_str())];
    let body = json!({ "model": "fake-1", "messages": [] });
    let asked = provider.asked().len();
    assert_eq!(soon(call(egress, "/llm/fake/chat/completions", &headers, &body)).await.code(), "provider_disabled");
    let doctor = tenant.console(&Verb::Providers { check: true }).await;
    assert_eq!(provider.asked().len(), asked, "a provider that is switched off is never called: {doctor}");
    tenant.end().await;
    world.end().await;
}

#[tokio::test]
async fn the_doctor_asks_each_provider_for_what_costs_nothing() {
    let world = World::start().await;
    let provider = world.provider().await;
    let tenant = world.tenant_of("alice", &provider, Dialect::AnthropicMessages).await;
    let seen = async |said: Said| {
        provider.says(said);
        let answer = tenant.console(&Verb::Providers { check: true }).await;
        let of = |name: &str| answer["providers"].as_array().unwrap().iter().find(|provider| provider["name"] == name).unwrap().clone();
        (of("fake")["state"].clone(), of("fake")["last_error_class"].clone(), of("scripted")["state"].clone())
    };
    let trace = announced(&tenant).await;
    let bearer = format!("Bearer {}", tenant.gateway.keys().proxy_token);
    let headers = [("authorization", bearer.as_str()), ("traceparent", trace.as_str())];
    let body = json!({ "model": "fake-1", "max_tokens": 1, "messages": [] });
    for (status, state) in [(401, "DEGRADED"), (400, "OK")] {
        provider.says(Said::failing(status));
        soon(call(tenant.agent.egress_addr(), "/llm/fake/v1/messages", &headers, &body)).await;
        let answer = tenant.console(&Verb::Providers { check: false }).await;
        assert_eq!(answer["providers"][1]["state"], state, "{status} says it of the key or of the request: {answer}");
    }
    for (status, state, class) in [
        (200, "OK", json!("non_transient")),
        (401, "DEGRADED", json!("non_transient")),
        (503, "DEGRADED", json!("transient_server")),
        (429, "DOWN", json!("transient_quota")),
        (200, "OK", json!("transient_quota")),
    ] {
        assert_eq!(seen(Said::failing(status)).await, (json!(state), class, json!("OK")), "{status}");
    }
    let asked = provider.asked().split_off(2);
    assert!(asked.iter().all(|asked| asked.path == "/v1/models" && asked.headers["x-api-key"] == world.model_key()), "{asked:?}");
    let usage = tenant.console(&Verb::Status {}).await["usage_today"].clone();
    assert_eq!(usage["calls"], 2, "asking for models is no call");
    let forget = Verb::Vault { what: VaultVerb::Forget { name: "provider.fake".to_owned(), now: false } };
    assert_eq!(tenant.console(&forget).await["ok"], true);
    assert_eq!(seen(Said::failing(200)).await, (json!("DOWN"), json!("missing_key"), json!("OK")));
    tenant.end().await;
    world.end().await;
}

#[tokio::test]
async fn a_review_that_nobody_answers_leaves_a_record_without_content() {
    let world = World::start().await;
    let provider = world.provider().await;
    let tenant = world.tenant_of("alice", &provider, Dialect::OpenaiCompletions).await;
    world.law_with(1, routed).await;
    let bearer = format!("Bearer {}", tenant.gateway.keys().proxy_token);
    let trace = announced(&tenant).await;
    let headers = [("authorization", bearer.as_str()), ("traceparent", trace.as_str())];
    provider.says(Said::failing(503));
    let mut body = question("[[error:500]] what nobody may read");
    body["model"] = json!("review");
    let answer = soon(call(tenant.agent.egress_addr(), "/llm/purpose/chat/completions", &headers, &body)).await;
    assert_eq!(answer.code(), "purpose_unanswered", "{}", answer.text());
    assert_eq!((provider.asked().len(), world.model.requests().len()), (1, 1));
    let store = rusqlite::Connection::open(tenant.settings.state_folder.join("agent.db")).unwrap();
    let record: (String, String) =
        store.query_row("SELECT subject, detail FROM audit WHERE deed = 'purpose_unanswered'", [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    assert_eq!(record, ("review".to_owned(), "transient_server, then transient_server".to_owned()));
    drop(store);
    tenant.end().await;
    world.end().await;
}

#[tokio::test]
async fn usage_that_nobody_asked_for_is_forced_counted_and_hidden() {
    let world = World::start().await;
    let provider = world.provider().await;
    let tenant = world.tenant_of("alice", &provider, Dialect::OpenaiCompletions).await;
    let bearer = format!("Bearer {}", tenant.gateway.keys().proxy_token);
    let trace = announced(&tenant).await;
    let headers = [("authorization", bearer.as_str()), ("traceparent", trace.as_str())];
    let text = "data: {\"choices\":[{\"delta\":{\"content\":\"Well done. \"}}],\"usage\":null}\n\n";
    let counted = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1117,\"completion_tokens\":46,\"prompt_tokens_details\":{\"cached_tokens\":1024}}}\n\n";
    let whole = format!("{text}{counted}data: [DONE]\n\n");
    let mut body = json!({ "model": "fake-1", "stream": true, "messages": [], "stream_options": { "include_obfuscation": false }, "x_unknown": [1.50, null] });
    for (asks, expected) in [(false, whole.replace(counted, "")), (true, whole.clone())] {
        body["stream_options"]["include_usage"] = json!(asks);
        provider.says(Said::stream("text/event-stream", &whole));
        let answer = soon(call(tenant.agent.egress_addr(), "/llm/fake/chat/completions", &headers, &body)).await;
        assert_eq!(answer.text(), expected);
        let sent: Value = serde_json::from_str(&provider.asked().last().unwrap().body).unwrap();
        assert_eq!((&sent["stream_options"], &sent["x_unknown"]), (&json!({ "include_obfuscation": false, "include_usage": true }), &body["x_unknown"]));
    }
    let mut browser = tenant.chat().await;
    let usage = browser.call("usage.today", json!({})).await["payload"]["usage"].clone();
    assert_eq!((usage["input_tokens"].as_i64(), usage["output_tokens"].as_i64(), usage["estimated"].as_i64()), (Some(2 * 1117), Some(92), Some(0)));
    tenant.end().await;
    world.end().await;
}

#[tokio::test]
async fn what_a_cache_may_hold_is_marked_and_what_it_gave_is_counted() {
    let world = World::start().await;
    let provider = world.provider().await;
    let tenant = world.tenant_of("alice", &provider, Dialect::AnthropicMessages).await;
    let bearer = format!("Bearer {}", tenant.gateway.keys().proxy_token);
    let trace = announced(&tenant).await;
    let headers = [("authorization", bearer.as_str()), ("traceparent", trace.as_str())];
    let answer = r#"{"type":"message","content":[],"usage":{"input_tokens":10,"cache_read_input_tokens":80,"cache_creation":{"ephemeral_5m_input_tokens":4,"ephemeral_1h_input_tokens":6},"output_tokens":1}}"#;
    for said in ["one", "two"] {
        provider.says(Said::json(answer));
        let body = json!({ "model": "fake-1", "max_tokens": 9, "system": "be kind", "messages": [{ "role": "user", "content": said }] });
        assert_eq!(soon(call(tenant.agent.egress_addr(), "/llm/fake/v1/messages", &headers, &body)).await.text(), answer);
        let sent: Value = serde_json::from_str(&provider.asked().last().unwrap().body).unwrap();
        assert_eq!(sent["system"][0], json!({ "type": "text", "text": "be kind", "cache_control": { "type": "ephemeral" } }));
        assert_eq!(sent["messages"][0]["content"][0]["text"], said);
    }
    let status = tenant.console(&Verb::Status {}).await;
    let usage = &status["usage_today"];
    for (field, expected) in [("input_tokens", 200), ("cached_tokens", 160), ("cache_write_tokens", 20), ("cache_write_long_tokens", 12)] {
        assert_eq!(usage[field], expected, "{field}: {usage}");
    }
    let prefixes = status["prompt_prefixes"].as_array().unwrap();
    assert_eq!((prefixes.len(), &prefixes[0]["calls"]), (1, &json!(2)), "the beginning stayed the same: {status}");
    tenant.end().await;
    world.end().await;
}

#[tokio::test]
async fn whatever_a_provider_says_each_call_is_counted_once() {
    let world = World::start().await;
    let provider = world.provider().await;
    let tenant = world.tenant_of("alice", &provider, Dialect::OpenaiCompletions).await;
    let bearer = format!("Bearer {}", tenant.gateway.keys().proxy_token);
    let mut browser = tenant.chat().await;
    let events = "text/event-stream";
    let usage = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":3}}\n\n";
    let nonsense = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":-7,\"completion_tokens\":9e99,\"cost\":\"free\"}}\n\n";
    let (mut calls, mut partial, mut estimated) = (0, 0, 0);
    for (said, is_partial, is_estimated, name) in [
        (Said::stream(events, &format!("{usage}{usage}{usage}data: [DONE]\n\n{usage}data: [DONE]\n\n")), 0, 0, "usage again and again"),
        (Said::stream(events, "data: [DONE]\n\n"), 0, 1, "nothing at all"),
        (Said::stream(events, "data: {\"choices\": oops}\n\n"), 1, 0, "no JSON"),
        (Said::stream(events, "data: {\"choices\":[{\"delta\":{\"tool_calls\":{}}}]}\n\n"), 1, 0, "a call that cannot be read"),
        (Said::stream(events, "data: {\"error\":{\"message\":\"overloaded\"}}\n\ndata: [DONE]\n\n"), 1, 0, "a failure in the middle"),
        (Said::stream(events, "data: {\"choices\":").breaking(), 1, 0, "half an event"),
        (Said::json("{\"choices\":[]"), 1, 0, "half an answer"),
        (Said { kind: "text/html", ..Said::json("<html>") }, 1, 0, "a page"),
        (Said::json("{\"choices\":[]}"), 0, 1, "an answer without usage"),
        (Said { status: 302, ..Said::json("{}") }, 0, 0, "somewhere else"),
        // Last, because it costs more than any budget has.
        (Said::stream(events, &format!("{nonsense}data: [DONE]\n\n")), 0, 0, "numbers that cannot be"),
    ] {
        provider.says(said);
        let trace = announced(&tenant).await;
        let headers = [("authorization", bearer.as_str()), ("traceparent", trace.as_str())];
        let body = json!({ "model": "fake-1", "stream": true, "messages": [] });
        soon(call(tenant.agent.egress_addr(), "/llm/fake/chat/completions", &headers, &body)).await;
        (calls, partial, estimated) = (calls + 1, partial + is_partial, estimated + is_estimated);
        let usage = browser.call("usage.today", json!({})).await["payload"]["usage"].clone();
        let counted = ["calls", "partial", "estimated"].map(|field| usage[field].as_i64().unwrap());
        assert_eq!(counted, [calls, partial, estimated], "{name}: {usage}");
    }
    assert_eq!(provider.asked().len() as i64, calls, "nothing was asked twice");
    tenant.end().await;
    world.end().await;
}

/// A provider that writes bytes as they are: the first of these to the first request, and so on; the last again and again until
/// nobody listens, if it `goes_on`. Then, or behind each answer, it closes.
async fn raw_provider(answers: Vec<(Vec<u8>, bool)>) -> (SocketAddr, tokio::task::JoinHandle<()>) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let speaking = tokio::spawn(async move {
        for (answer, goes_on) in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut read = vec![0; 64 * 1024];
            let _ = stream.read(&mut read).await;
            if stream.write_all(&answer).await.is_err() {
                continue;
            }
            let more = format!(": {}\n\n", "x".repeat(64 * 1024));
            while goes_on && stream.write_all(more.as_bytes()).await.is_ok() {}
        }
    });
    (address, speaking)
}

#[tokio::test]
async fn a_provider_that_lies_about_its_length_or_never_ends_costs_one_partial_call() {
    let mut world = World::start().await;
    let usage = r#""usage":{"prompt_tokens":7,"completion_tokens":3}"#;
    let json = format!(r#"{{"choices":[{{"message":{{"content":"hi"}}}}],{usage}}}"#);
    let events = format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"hi. \"}}}}]}}\n\ndata: {{\"choices\":[],{usage}}}\n\ndata: [DONE]\n\n");
    let says =
        |kind: &str, length: usize, body: &str| format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n{body}").into_bytes();
    let (whole, stream) = ("application/json", "text/event-stream");
    let endless = |kind: &str| format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\n\r\n").into_bytes();
    let other = format!("{json}HTTP/1.1 200 OK\r\ncontent-type: {whole}\r\ncontent-length: 2\r\n\r\n{{}}");
    let cases = [
        ("more was announced than came", says(whole, json.len() + 50, &json), false, [1, 0]),
        ("less was announced than came", says(whole, json.len() - 20, &json), false, [1, 0]),
        ("another answer behind the announced one", says(whole, json.len(), &other), false, [0, 0]),
        ("a stream with more announced than came", says(stream, events.len() + 50, &events[..90]), false, [1, 0]),
        // As far as anybody can tell it came to its end, and nobody said what it cost.
        ("a stream with less announced than came", says(stream, 90, &events), false, [0, 1]),
        ("a whole stream that announced more", says(stream, events.len() + 50, &events), false, [0, 0]),
        ("an answer that never ends", endless(whole), true, [1, 0]),
        ("a stream that never ends", endless(stream), true, [1, 0]),
        ("the truth", says(whole, json.len(), &json), false, [0, 0]),
    ];
    let (address, speaking) = raw_provider(cases.iter().map(|(_, answer, goes_on, _)| (answer.clone(), *goes_on)).collect()).await;
    world.provider = address;
    let tenant = world.tenant("alice").await;
    let mut browser = tenant.chat().await;
    let bearer = format!("Bearer {}", tenant.gateway.keys().proxy_token);
    let (mut calls, mut partial, mut estimated) = (0, 0, 0);
    for (name, _, _, [is_partial, is_estimated]) in &cases {
        let trace = announced(&tenant).await;
        let headers = [("authorization", bearer.as_str()), ("traceparent", trace.as_str())];
        let answer = soon(call(tenant.agent.egress_addr(), "/llm/scripted/chat/completions", &headers, &question("hi"))).await;
        (calls, partial, estimated) = (calls + 1, partial + is_partial, estimated + is_estimated);
        let usage = browser.call("usage.today", json!({})).await["payload"]["usage"].clone();
        let counted = ["calls", "partial", "estimated"].map(|field| usage[field].as_i64().unwrap());
        assert_eq!(counted, [calls, partial, estimated], "{name}: {usage}");
        let text = answer.text();
        assert!(*is_partial == 1 || text.contains("hi") && !text.contains("HTTP/1.1"), "{name}: {text:.200}");
        assert!(!text.ends_with("data: [DONE]\n\n") || is_partial + is_estimated == 0, "{name}: {text:.200}");
    }
    soon(speaking).await.unwrap();
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
