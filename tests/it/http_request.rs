//! Stories of requests that an assistant sends by a tool of ours: which hosts get them, what they carry, what comes back.

use crate::tools::{asks_and_uses, audited, keep, uses, uses_with_a_yes};
use axum::Router;
use axum::body::Bytes;
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use axum::routing::any;
use policy::host::{Manner, Reach};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use tenant_agent::console::{HostsVerb, Verb};
use tests::{Browser, Internet, Tenant, World, soon};

const HOST: &str = "api.example.org";
const ADDRESS: &str = "93.184.216.34";
const OTHER: &str = "other.example.net";
const OTHER_ADDRESS: &str = "93.184.216.35";

type Seen = Arc<Mutex<Vec<(String, HeaderMap, Bytes)>>>;

/// A site that keeps what it is sent, and answers as its paths say.
fn site() -> (Router, Seen) {
    let seen = Seen::default();
    let keep = seen.clone();
    let answer = move |request: Request| {
        let keep = keep.clone();
        async move {
            let (head, body) = request.into_parts();
            let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
            let sent = head.headers.get("x-key").map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default();
            let path = head.uri.path().to_owned();
            keep.lock().unwrap().push((format!("{} {}", head.method, head.uri), head.headers, body));
            let away = |location: &str| (StatusCode::FOUND, [("location", location.to_owned())]).into_response();
            match path.as_str() {
                "/here" => away("/news"),
                "/there" => away(&format!("https://{OTHER}/news")),
                "/inside" => away("http://169.254.169.254/latest/meta-data"),
                "/odd" => away(&format!("https://{OTHER}/v1/refunds?id=1&confirm=http://127.0.0.1/")),
                "/round" => away("/round"),
                "/echo" => ([("x-echo", sent.clone()), ("etag", sent.clone())], format!("you sent {sent}")).into_response(),
                "/wrong" => (StatusCode::NOT_FOUND, "no such thing").into_response(),
                "/picture" => ([("content-type", "image/png")], vec![0x89, b'P', b'N', b'G', 0, 1, 2]).into_response(),
                "/large" => "x".repeat(5 << 20).into_response(),
                "/silent" => std::future::pending::<String>().await.into_response(),
                _ => "hello".into_response(),
            }
        }
    };
    (Router::new().fallback(any(answer)), seen)
}

async fn world() -> (World, Tenant, Internet, Seen) {
    let internet = Internet::default();
    let (router, seen) = site();
    internet.site(HOST, ADDRESS, router.clone()).await;
    internet.site(OTHER, OTHER_ADDRESS, router).await;
    let mut world = World::start().await;
    world.outside(internet.network());
    let tenant = world.tenant("alice").await;
    (world, tenant, internet, seen)
}

async fn allow(tenant: &Tenant, host: &str, reach: Reach) {
    let verb = Verb::Hosts { what: HostsVerb::Allow { host: host.to_owned(), reach, manner: Manner::Inspect } };
    assert_eq!(tenant.console(&verb).await["ok"], true);
}

async fn get(tenant: &Tenant, url: &str) -> (String, bool) {
    asks_and_uses(tenant, "http_request", json!({ "url": url })).await
}

fn lines(seen: &Seen) -> Vec<String> {
    seen.lock().unwrap().iter().map(|(line, ..)| line.clone()).collect()
}

async fn end(world: World, tenant: Tenant) {
    assert_eq!(tenant.console(&Verb::Status {}).await["frozen_sessions"], json!([]));
    tenant.end().await;
    world.end().await;
}

#[tokio::test]
async fn a_host_is_asked_for_and_then_read() {
    let (world, tenant, internet, seen) = world().await;
    let mut owner = tenant.chat().await;
    let (said, is_error) = get(&tenant, "https://api.example.org/news").await;
    let question = owner.question().await;
    assert!(is_error && said.contains("Ask the owner to allow api.example.org") && said.contains(question["id"].as_str().unwrap()), "{said}");
    assert!(internet.asked().is_empty(), "nobody outside has heard of it");
    assert_eq!(owner.decide(&question, "approve").await["ok"], true);

    let (said, is_error) = get(&tenant, "https://api.example.org/news?a=1").await;
    assert_eq!((said.as_str(), is_error), ("api.example.org answered 200 OK\ncontent-type: text/plain; charset=utf-8\ncontent-length: 5\n\nhello", false));
    let (said, is_error) = get(&tenant, "https://api.example.org/wrong").await;
    assert!(is_error && said.contains("404 Not Found") && said.ends_with("no such thing"), "{said}");
    let (said, _) = get(&tenant, "https://api.example.org/picture").await;
    assert!(said.ends_with("[no text: 7 bytes, image/png; `saveTo` puts them into a file]"), "{said}");
    let (said, _) = get(&tenant, "https://api.example.org/large").await;
    assert!(said.len() < 64 * 1024 && said.contains("larger than the 4 MiB"), "{}", said.len());
    assert_eq!(lines(&seen), ["GET /news?a=1", "GET /wrong", "GET /picture", "GET /large"]);
    assert!(seen.lock().unwrap().iter().all(|(_, headers, _)| headers["host"] == HOST && !headers.contains_key("authorization")));

    // A name that is allowed and leads inside by now is closed; so is what no list can open.
    internet.name(HOST, &["127.0.0.1"]);
    assert!(get(&tenant, "https://api.example.org/news").await.0.contains("api.example.org lies inside"));
    end(world, tenant).await;
}

#[tokio::test]
async fn what_is_sent_is_asked_about_and_a_yes_is_for_that_request_alone() {
    let (world, tenant, _, seen) = world().await;
    let mut owner = tenant.chat().await;
    let send = json!({ "url": "https://api.example.org/orders", "method": "post", "headers": { "Content-Type": "application/json" }, "body": "{\"a\":1}" });
    let (plugin, asked) = (tenant.gateway.clone(), send.clone());
    let held = tokio::spawn(async move { plugin.decide("r", "t", "c1", "gatehouse__http_request", &asked).await });
    let question = owner.question().await;
    assert_eq!((&question["external"], &question["tool"]), (&json!(true), &json!("gatehouse__http_request")), "{question}");
    let details = question["details"].to_string();
    assert!(details.contains("https://api.example.org/orders") && details.contains(r#"{\"a\":1}"#), "the card shows what goes out: {details}");
    owner.decide(&question, "approve").await;
    assert_eq!(soon(held).await.unwrap().json()["allow"], true);
    // Not another body, not another place; and this one once.
    for other in [
        json!({ "url": "https://api.example.org/orders", "method": "post", "body": "{\"a\":2}" }),
        json!({ "url": "https://other.example.net/orders", "body": "x" }),
    ] {
        assert!(uses(&tenant, "http_request", other).await.0.contains("nobody was asked"));
    }
    let (said, is_error) = uses(&tenant, "http_request", send.clone()).await;
    assert!(!is_error && said.ends_with("hello"), "{said}");
    assert!(uses(&tenant, "http_request", send).await.0.contains("nobody was asked"));
    let (line, headers, body) = seen.lock().unwrap().pop().unwrap();
    assert_eq!((line.as_str(), headers["content-type"].to_str().unwrap(), &body[..]), ("POST /orders", "application/json", &b"{\"a\":1}"[..]));

    // No yes opens what is closed for everybody: it is asked about as the danger that it is, and goes nowhere.
    for url in ["http://127.0.0.1:8080/", "https://printer.local/", "http://169.254.169.254/latest/meta-data", "http://2130706433/"] {
        let id = format!("call_{}", &service::random::token()[..16]);
        let (plugin, url) = (tenant.gateway.clone(), url.to_owned());
        let held = tokio::spawn(async move { plugin.decide("r", "t", &id, "gatehouse__http_request", &json!({ "url": url })).await });
        let question = owner.question().await;
        assert!(["red", "critical_red"].contains(&question["class"].as_str().unwrap()), "{question}");
        owner.decide(&question, "deny").await;
        assert_eq!(soon(held).await.unwrap().json()["allow"], false);
    }
    assert!(seen.lock().unwrap().is_empty());
    end(world, tenant).await;
}

#[tokio::test]
async fn a_redirect_is_another_request() {
    let (world, tenant, _, seen) = world().await;
    allow(&tenant, HOST, Reach::Read).await;
    assert!(get(&tenant, "https://api.example.org/here").await.0.ends_with("hello"), "on the same host it is followed");
    let (said, _) = get(&tenant, "https://api.example.org/there").await;
    assert!(said.contains("Ask the owner to allow other.example.net"), "{said}");
    allow(&tenant, OTHER, Reach::Read).await;
    let named = json!({ "url": "https://api.example.org/there", "headers": { "Authorization": "Basic eDp5", "Cookie": "a=b", "X-Other": "kept" } });
    let mut owner = tenant.chat().await;
    assert!(uses_with_a_yes(&tenant, &mut owner, "http_request", named).await.0.starts_with("other.example.net answered 200"));
    let (line, headers, _) = seen.lock().unwrap().pop().unwrap();
    assert_eq!((line.as_str(), headers.contains_key("authorization"), headers.contains_key("cookie")), ("GET /news", false, false));
    seen.lock().unwrap().clear();
    for (path, why) in [("inside", "by a call of its own"), ("odd", "by a call of its own"), ("round", "there were too many")] {
        let (said, is_error) = get(&tenant, &format!("https://api.example.org/{path}")).await;
        assert!(is_error && said.contains("302 Found") && said.contains(why) && said.contains("location: "), "{path}: {said}");
    }
    assert!(lines(&seen).iter().all(|line| !line.contains("meta-data") && !line.contains("refunds")));
    let moved = json!({ "url": "https://api.example.org/here", "method": "POST", "body": "x" });
    assert!(uses_with_a_yes(&tenant, &mut owner, "http_request", moved).await.0.contains("no mere look"));
    end(world, tenant).await;
}

#[tokio::test]
async fn a_secret_goes_to_its_host_encrypted_and_comes_back_to_nobody() {
    let (world, tenant, _, seen) = world().await;
    allow(&tenant, HOST, Reach::Write).await;
    allow(&tenant, OTHER, Reach::Write).await;
    let value = format!("Kirsch{}Baum-{}", 7, &service::random::token()[..12]);
    keep(&tenant, "api.key", &value, &[], &[HOST]).await;
    keep(&tenant, "loose", &service::random::token(), &["http_request"], &[]).await;
    let mut owner = tenant.chat().await;
    let with = |url: &str, body: &str| json!({ "url": url, "headers": { "X-Key": "SECRET_REF(api.key)" }, "body": body });
    let used = async |owner: &mut Browser, arguments: Value| uses_with_a_yes(&tenant, owner, "http_request", arguments).await;

    let (said, is_error) = used(&mut owner, with("https://api.example.org/echo", "{\"key\":\"SECRET_REF(api.key)\"}")).await;
    assert!(!is_error && said.contains("you sent SECRET_REF(api.key)") && !said.contains(&value), "{said}");
    let (_, headers, body) = seen.lock().unwrap().pop().unwrap();
    assert_eq!((headers["x-key"].to_str().unwrap(), String::from_utf8(body.to_vec()).unwrap()), (value.as_str(), format!("{{\"key\":\"{value}\"}}")));

    // What answers with it is not put into a file; what answers with something else is.
    let saved = tenant.workspace().join("answer");
    let save = |path: &str| {
        let mut arguments = with(&format!("https://api.example.org/{path}"), "x");
        arguments["saveTo"] = json!("answer");
        arguments
    };
    let (said, is_error) = used(&mut owner, save("echo")).await;
    assert!(is_error && said.contains("holds a secret") && !said.contains(&value) && !saved.exists(), "{said}");
    let (said, is_error) = used(&mut owner, save("picture")).await;
    assert!(!is_error && said.contains("7 bytes were put into the file"), "{said}");
    assert_eq!(std::fs::read(&saved).unwrap(), [0x89, b'P', b'N', b'G', 0, 1, 2]);
    seen.lock().unwrap().clear();

    for (arguments, why) in [
        (with("https://other.example.net/", ""), "not bound to the host `other.example.net`"),
        (with("https://api.example.org.evil.example/", ""), "not bound to the host"),
        (with("https://api.example.org:8443@other.example.net/", ""), "not bound to the host `other.example.net`"),
        (json!({ "url": "https://api.example.org:8443@other.example.net/" }), "no address that everybody reads alike"),
        (with("http://api.example.org/", ""), "only where the connection is encrypted"),
        (json!({ "url": "https://api.example.org/?key=SECRET_REF(api.key)" }), "cannot stand in a URL"),
        (json!({ "url": "https://api.example.org/", "body": "SECRET_REF(loose)" }), "bound to no host"),
        (json!({ "url": "https://api.example.org/", "body": "SECRET_REF(nosuch)" }), "no secret `nosuch`"),
        (json!({ "url": "https://api.example.org/", "saveTo": "SECRET_REF(api.key)" }), "cannot stand in `saveto`"),
        (json!({ "url": format!("https://other.example.net/?q={value}") }), "a secret that is not meant for other.example.net"),
    ] {
        let (said, is_error) = used(&mut owner, arguments.clone()).await;
        assert!(is_error && said.contains(why) && !said.contains(&value), "{arguments}: {said}");
    }
    assert!(seen.lock().unwrap().is_empty(), "{:?}", lines(&seen));
    // A redirect does not take it along.
    let (said, _) = used(&mut owner, json!({ "url": "https://api.example.org/there", "headers": { "X-Key": "SECRET_REF(api.key)" } })).await;
    assert!(said.contains("leads away from the host that the secret is for"), "{said}");
    assert_eq!(lines(&seen), ["GET /there"]);

    let history = owner.call("chat.history", json!({ "sessionKey": "main", "limit": 50 })).await.to_string();
    let asked: String = world.model.requests().iter().map(|request| request.body.to_string()).collect();
    let audited = audited(&tenant);
    for place in [history, asked, audited.join("\n"), std::fs::read_to_string(tenant.settings.state_folder.join("openclaw/openclaw.json")).unwrap_or_default()]
    {
        assert!(!place.contains(&value));
    }
    assert_eq!(audited.iter().filter(|line| line.starts_with("secret_refused ")).count(), 8, "{audited:#?}");
    end(world, tenant).await;
}

#[tokio::test]
async fn an_answer_that_never_comes_is_given_up() {
    let (world, tenant, _, seen) = world().await;
    allow(&tenant, HOST, Reach::Read).await;
    let request = json!({ "url": "https://api.example.org/silent", "timeoutSeconds": 20 });
    assert_eq!(tenant.gateway.decide("r", "t", "c1", "gatehouse__http_request", &request).await.json()["allow"], true);
    let (said, is_error) = {
        let call = uses(&tenant, "http_request", request);
        tokio::pin!(call);
        soon(async {
            loop {
                tokio::select! {
                    said = &mut call => return said,
                    () = tokio::task::yield_now() => if !seen.lock().unwrap().is_empty() { world.clock.advance(1_000) },
                }
            }
        })
        .await
    };
    assert!(is_error && said.contains("given up after 20 s"), "{said}");
    end(world, tenant).await;
}
