//! Stories of people at the tenant's door, and of those who should not come in.

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tenant_agent::console::Verb;
use tenant_agent::people::Role;
use tests::{Browser, World, post_json, request, send_raw, soon};
use tokio_tungstenite::tungstenite::Message;

#[tokio::test]
async fn the_owner_comes_in_once_by_the_link_and_afterwards_by_password() {
    let world = World::start().await;
    let tenant = world.tenant("alice").await;
    let first = tenant.console(&Verb::OwnerLink {}).await;
    let second = tenant.console(&Verb::OwnerLink {}).await;
    let token = |link: &Value| link["link"].as_str().unwrap().split_once('#').unwrap().1.to_owned();
    let enter = |token: String, password: &str| json!({ "token": token, "name": "Owner", "password": password, "lang": "en" });
    let mut browser = tenant.browser();
    let newer = enter(token(&second), "correct horse battery");
    for (body, status, code) in [
        (enter(token(&first), "correct horse battery"), 410, "first_link_spent"),
        (enter("guess".into(), "correct horse battery"), 410, "first_link_spent"),
        (enter(token(&second), "too short"), 422, "password_weak"),
        (json!({ "token": token(&second), "name": " ", "password": "correct horse battery", "lang": "en" }), 422, "name_invalid"),
        (json!({ "token": token(&second), "name": "O", "password": "correct horse battery", "lang": "fr" }), 400, "body_malformed"),
    ] {
        let answer = browser.enter("/auth/first", body).await;
        assert_eq!((answer.status, answer.code().as_str()), (status, code));
        assert_eq!(browser.cookie, None);
    }
    assert_eq!(browser.get("/").await.header("location"), Some("/login"));
    let answer = browser.enter("/auth/first", newer.clone()).await;
    assert_eq!((answer.status, answer.json()["person"]["role"].as_str()), (200, Some("owner")));
    let cookie = answer.header("set-cookie").unwrap();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
    assert_eq!(browser.get("/").await.status, 200);
    assert_eq!(browser.enter("/auth/first", newer).await.code(), "first_link_spent", "the link is spent");
    assert_eq!(tenant.console(&Verb::OwnerLink {}).await["code"], "owner_exists", "and no other is made");

    let mut other = tenant.browser();
    let wrong = other.enter("/auth/login", json!({ "name": "owner", "password": "correct horse" })).await;
    assert_eq!((wrong.status, wrong.code().as_str()), (401, "login_wrong"));
    assert_eq!(wrong.json()["error"]["message"].as_str().map(|message| message.len() > 10), Some(true), "it says something to a person");
    let unknown = other.enter("/auth/login", json!({ "name": "nobody", "password": "correct horse" })).await;
    assert_eq!(unknown.json(), wrong.json(), "an unknown name is told from a wrong password by nothing");
    assert_eq!(other.enter("/auth/login", json!({ "name": " OWNER ", "password": "correct horse battery" })).await.status, 200);
    tenant.end().await;
    world.end().await;
}

#[tokio::test]
async fn guessing_is_stopped_and_the_stop_ends() {
    let world = World::start().await;
    let tenant = world.tenant("alice").await;
    drop(tenant.owner().await);
    let mut guesser = tenant.browser();
    for _ in 0..5 {
        assert_eq!(guesser.enter("/auth/login", json!({ "name": "owner", "password": "guess" })).await.status, 401);
    }
    let limited = guesser.enter("/auth/login", json!({ "name": "owner", "password": "correct horse battery" })).await;
    assert_eq!((limited.status, limited.code().as_str(), limited.header("retry-after")), (429, "login_limited", Some("900")));
    world.clock.advance(900_000);
    assert_eq!(guesser.enter("/auth/login", json!({ "name": "owner", "password": "correct horse battery" })).await.status, 200);
    tenant.end().await;
    world.end().await;
}

#[tokio::test]
async fn a_session_ends_with_its_sockets() {
    let world = World::start().await;
    let tenant = world.tenant("alice").await;
    let mut browser = tenant.chat().await;
    assert_eq!(browser.post("/auth/logout", json!({})).await.status, 204);
    assert_eq!(browser.closed().await, Some(4401), "the open socket ends");
    assert_eq!(browser.open().await, Err(401), "and no other opens");
    assert_eq!(browser.get("/api/me").await.code(), "session_missing");

    browser.enter("/auth/login", json!({ "name": "owner", "password": "correct horse battery" })).await;
    browser.open().await.unwrap();
    world.clock.advance(24 * 3_600_000);
    assert_eq!(browser.closed().await, Some(4401), "a day is over");
    assert_eq!(browser.get("/api/me").await.status, 401);
    tenant.end().await;
    world.end().await;
}

#[tokio::test]
async fn a_session_survives_a_restart_and_a_strange_cookie_is_none() {
    let world = World::start().await;
    let tenant = world.tenant("alice").await;
    let browser = tenant.owner().await;
    let tenant = tenant.restart().await;
    assert_eq!(browser.get("/api/me").await.json()["person"]["name"], "Owner");
    let mut stranger = tenant.browser();
    for cookie in ["gatehouse=", "gatehouse=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "gatehouse=' OR 1=1 --"] {
        stranger.cookie = Some(cookie.to_owned());
        assert_eq!(stranger.get("/api/me").await.status, 401, "{cookie}");
    }
    tenant.end().await;
    world.end().await;
}

#[tokio::test]
async fn foreign_pages_and_foreign_names_get_nothing() {
    let world = World::start().await;
    let tenant = world.tenant("alice").await;
    let mut browser = tenant.owner().await;
    let (address, cookie) = (browser.address, browser.cookie.clone().unwrap());
    let host = browser.origin.split_once("://").unwrap().1.to_owned();
    for (headers, status, code) in [
        (vec![("host", host.as_str()), ("cookie", cookie.as_str())], 403, "origin_foreign"),
        (vec![("host", &host), ("cookie", &cookie), ("origin", "http://evil.example")], 403, "origin_foreign"),
        (vec![("host", &host), ("cookie", &cookie), ("origin", "null")], 403, "origin_foreign"),
        (vec![("host", &host), ("cookie", &cookie), ("origin", &browser.origin), ("origin", "http://evil.example")], 403, "origin_foreign"),
        (vec![("host", "evil.example"), ("cookie", &cookie), ("origin", &browser.origin)], 421, "host_unknown"),
        (vec![("host", "127.0.0.1"), ("cookie", &cookie), ("origin", &browser.origin)], 421, "host_unknown"),
    ] {
        let answer = request(address, "POST", "/auth/logout", &headers, b"").await;
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{headers:?}");
    }
    assert_eq!(browser.get("/api/me").await.status, 200, "nothing of it ended the session");
    for origin in ["http://evil.example", "null", "https://alice.localhost"] {
        assert_eq!(browser.open_from(origin).await, Err(403), "{origin}");
    }
    browser.cookie = None;
    assert_eq!(browser.open().await, Err(401));
    tenant.end().await;
    world.end().await;
}

#[tokio::test]
async fn malformed_input_gets_a_clear_answer_at_every_door() {
    let world = World::start().await;
    let tenant = world.tenant("alice").await;
    let browser = tenant.owner().await;
    let host = browser.origin.split_once("://").unwrap().1.to_owned();
    let json_headers = [("host", host.as_str()), ("origin", browser.origin.as_str()), ("content-type", "application/json")];
    let large = json!({ "name": "x".repeat(70_000), "password": "y" }).to_string();
    for (body, status, code) in [
        (&b"{"[..], 400, "body_malformed"),
        (b"", 400, "body_malformed"),
        (b"[]", 400, "body_malformed"),
        (b"{\"name\":\"a\",\"password\":\"b\",\"admin\":true}", 400, "body_malformed"),
        (b"{\"name\":7,\"password\":\"b\"}", 400, "body_malformed"),
        (b"\xff\xfe", 400, "body_malformed"),
        (large.as_bytes(), 413, "body_too_large"),
    ] {
        let answer = request(browser.address, "POST", "/auth/login", &json_headers, body).await;
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{}", String::from_utf8_lossy(&body[..body.len().min(60)]));
    }
    let plain = [("host", host.as_str()), ("origin", browser.origin.as_str()), ("content-type", "text/plain")];
    assert_eq!(request(browser.address, "POST", "/auth/login", &plain, b"{\"name\":\"a\",\"password\":\"b\"}").await.code(), "body_malformed");
    for (method, path, status) in [
        ("GET", "/nothing", 404),
        ("GET", "/auth/login", 405),
        ("GET", "/a/../agent.db", 404),
        ("GET", "/a/%2e%2e%2fagent.db", 404),
        ("GET", "/tools/invoke", 404),
        ("TRACE", "/", 403),
    ] {
        let answer = request(browser.address, method, path, &[("host", &host)], b"").await;
        assert_eq!(answer.status, status, "{method} {path}");
    }
    for bytes in [&b"\x16\x03\x01\x02\x00"[..], b"GET / HTTP/9.9\r\n\r\n", b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", &[b'A'; 100_000][..]] {
        let answer = soon(send_raw(browser.address, bytes)).await;
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 4"), "{}", String::from_utf8_lossy(&answer));
    }
    let hub = world.hub.public_addr();
    for body in [&b"{"[..], b"{\"token\":\"x\"}", b"[]"] {
        let answer = request(hub, "POST", "/enrol", &[("content-type", "application/json")], body).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "body_malformed"));
    }
    assert_eq!(browser.get("/api/me").await.status, 200, "the door still opens");
    tenant.end().await;
    world.end().await;
}

#[tokio::test]
async fn the_operators_door_opens_for_its_password_alone() {
    let world = World::start().await;
    let (address, origin) = (world.hub.operator_addr(), world.hub.operator_origin().to_owned());
    let host = origin.split_once("://").unwrap().1.to_owned();
    let mut operator = Browser::new(address, &origin);
    for path in ["/api/fleet", "/api/live"] {
        assert_eq!(operator.get(path).await.status, 401, "{path} without a session");
    }
    let json_headers = [("host", host.as_str()), ("origin", origin.as_str()), ("content-type", "application/json")];
    let large = json!({ "password": "x".repeat(70_000) }).to_string();
    for (body, status, code) in [
        (&b"{"[..], 400, "body_malformed"),
        (b"[]", 400, "body_malformed"),
        (b"{\"password\":7}", 400, "body_malformed"),
        (b"{\"password\":\"a\",\"admin\":true}", 400, "body_malformed"),
        (b"\xff\xfe", 400, "body_malformed"),
        (large.as_bytes(), 413, "body_too_large"),
    ] {
        let answer = request(address, "POST", "/auth/login", &json_headers, body).await;
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{}", String::from_utf8_lossy(&body[..body.len().min(60)]));
    }
    let foreign = [("host", host.as_str()), ("origin", "http://evil.example"), ("content-type", "application/json")];
    assert_eq!(request(address, "POST", "/auth/login", &foreign, b"{}").await.code(), "origin_foreign");
    let stranger = [("host", "evil.example"), ("origin", origin.as_str()), ("content-type", "application/json")];
    assert_eq!(request(address, "POST", "/auth/login", &stranger, b"{}").await.code(), "host_unknown");

    let password = world.hub.operator_password().await.unwrap();
    for guess in ["", "guess", &"x".repeat(5_000)] {
        assert_eq!(operator.enter("/auth/login", json!({ "password": guess })).await.code(), "login_wrong");
    }
    let last = async || operator.post("/auth/login", json!({ "password": "guess" })).await;
    let limited = loop {
        let answer = last().await;
        if answer.code() != "login_wrong" {
            break answer;
        }
    };
    assert_eq!((limited.status, limited.code().as_str()), (429, "login_limited"));
    assert!(limited.header("retry-after").is_some());
    let right = json!({ "password": password.expose() });
    assert_eq!(operator.enter("/auth/login", right.clone()).await.status, 429, "the right one waits as well");
    world.clock.advance(3_600_000);
    assert_eq!(operator.enter("/auth/login", right.clone()).await.status, 200);
    assert_eq!(operator.get("/api/fleet").await.status, 200);
    assert_eq!(Browser::new(address, &origin).enter("/auth/login", right).await.code(), "login_wrong", "it is good once");
    world.end().await;
}

#[tokio::test]
async fn the_link_takes_hosts_that_can_prove_it_and_frames_that_it_knows() {
    let world = World::start().await;
    let tenant = world.tenant("alice").await;
    let host_id = tenant.console(&Verb::Status {}).await["host_id"].clone();
    let hello = |host_id: &Value, max: u32, boot: &str| {
        let body = json!({ "min": max, "max": max, "host_id": host_id, "boot_id": boot, "agent_version": "0", "signature": "AAAA" });
        json!({ "v": 1, "kind": "hello", "id": "hello", "body": body }).to_string()
    };
    let unknown = json!("hst_00000000000000000000000000000000");
    for (text, code) in [
        ("{".to_owned(), "frame_malformed"),
        ("[]".to_owned(), "frame_malformed"),
        (json!({ "v": 1, "kind": "heartbeat", "id": "h", "body": {} }).to_string(), "frame_malformed"),
        (hello(&json!("no id"), 1, "b"), "frame_malformed"),
        (hello(&host_id, 1, &"b".repeat(10_000)), "frame_malformed"),
        (hello(&host_id, 9_999, "b"), "version_unsupported"),
        (hello(&unknown, 1, "b"), "host_unknown"),
        (hello(&host_id, 1, "b"), "signature_invalid"),
    ] {
        assert_eq!(on_the_link(&world, Message::text(text.clone())).await.as_deref(), Some(code), "{}", &text[..text.len().min(120)]);
    }
    for message in [Message::text("x".repeat(300 * 1024)), Message::binary(vec![0; 64])] {
        assert!(matches!(on_the_link(&world, message).await.as_deref(), None | Some("frame_malformed")));
    }
    for path in ["/link", "/decisions", "/enrol"] {
        let answer = request(world.hub.public_addr(), "GET", path, &[], b"").await;
        assert!((400..500).contains(&answer.status), "{path}: {}", answer.status);
    }
    let large = json!({ "token": "x".repeat(70_000) });
    assert_eq!(post_json(world.hub.public_addr(), "/enrol", &[], &large).await.code(), "body_too_large");
    soon(world.hub.wait_fleet(|fleet| fleet.tenants[0].presence == wire::fleet::Presence::Online)).await.unwrap();
    tenant.end().await;
    world.end().await;
}

/// Says one thing on a new link; the code with which the hub refuses it, or `None` if it just hangs up.
async fn on_the_link(world: &World, message: Message) -> Option<String> {
    let url = format!("ws://{}/link", world.hub.public_addr());
    let stream = tokio::net::TcpStream::connect(world.hub.public_addr()).await.unwrap();
    let (mut socket, _) = tokio_tungstenite::client_async(url, stream).await.unwrap();
    let challenge: Value = serde_json::from_str(soon(socket.next()).await.unwrap().unwrap().to_text().unwrap()).unwrap();
    assert_eq!(challenge["kind"], "challenge");
    // The hub may hang up before all of it is through.
    let _ = socket.send(message).await;
    loop {
        match soon(socket.next()).await {
            Some(Ok(Message::Text(text))) => {
                let said: Value = serde_json::from_str(&text).unwrap();
                assert_eq!(said["kind"], "refuse", "{said}");
                return said["body"]["code"].as_str().map(str::to_owned);
            }
            Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
            Some(Ok(_)) => {}
        }
    }
}

#[tokio::test]
async fn the_chat_socket_takes_what_it_knows_and_nothing_else() {
    let world = World::start().await;
    let tenant = world.tenant("alice").await;
    let mut browser = tenant.chat().await;
    for (text, code) in [
        ("{", "frame_malformed"),
        ("[]", "frame_malformed"),
        ("{\"type\":\"res\",\"id\":\"1\",\"method\":\"chat.send\"}", "frame_malformed"),
        ("{\"type\":\"req\",\"id\":\"\",\"method\":\"usage.today\"}", "frame_malformed"),
        ("{\"type\":\"req\",\"id\":\"1\",\"method\":\"usage.today\",\"scopes\":[\"operator.admin\"]}", "frame_malformed"),
    ] {
        browser.send(text).await;
        assert_eq!(browser.event("error", |_| true).await["code"], code, "{text}");
    }
    for method in ["tools.invoke", "config.set", "connect", "exec.approval.resolve", "logs.tail", "agent"] {
        assert_eq!(browser.call(method, json!({})).await["error"]["code"], "method_unknown", "{method}");
    }
    assert_eq!(
        browser.call("chat.send", json!({ "sessionKey": "agent:main:subagent:1", "message": "hi", "idempotencyKey": "a" })).await["error"]["code"],
        "params_malformed"
    );
    browser.send_message(Message::binary(vec![0; 16])).await;
    assert_eq!(browser.event("error", |_| true).await["code"], "frame_malformed");
    assert_eq!(browser.call("usage.today", json!({})).await["ok"], true, "the socket still answers");
    browser.send_message(Message::text("x".repeat(300 * 1024))).await;
    assert_eq!(browser.closed().await, Some(1009));
    tenant.end().await;
    world.end().await;
}

#[tokio::test]
async fn an_answer_is_painted_piece_by_piece_and_counted() {
    let world = World::start().await;
    let tenant = world.tenant("alice").await;
    let mut browser = tenant.chat().await;
    let run = browser.say("[[text:Good morning, this is a longer answer.]]").await;
    let mut pieces = 0;
    let mut text = String::new();
    loop {
        let payload = browser.event("chat", |payload| payload["runId"] == run.as_str()).await;
        match payload["state"].as_str() {
            Some("delta") => {
                pieces += 1;
                text.push_str(payload["deltaText"].as_str().unwrap());
                assert_eq!(payload["message"]["content"][0]["text"], text.as_str(), "the message is the sum of its pieces");
            }
            Some("final") => break,
            _ => {}
        }
    }
    assert_eq!(text, "Good morning, this is a longer answer.");
    assert!(pieces > 2, "{pieces} pieces");
    let usage = browser.call("usage.today", json!({})).await;
    assert_eq!(usage["payload"]["usage"]["calls"], 1);
    tenant.end().await;
    world.end().await;
}

#[tokio::test]
async fn the_gateway_may_go_and_come_back_under_an_open_chat() {
    let world = World::start().await;
    let tenant = world.fresh_tenant("alice").await;
    let mut browser = tenant.owner().await;
    tenant.ready().await;
    browser.open().await.unwrap();
    tenant.gateway.behave(tests::Manners { plugin_loaded: false, ..Default::default() });
    let state = browser.event("gateway", |gateway| gateway["state"] == "ungated").await;
    assert_eq!(state["reason"], "plugin_not_loaded");
    tenant.gateway.behave(Default::default());
    browser.event("gateway", |gateway| gateway["state"] == "ready").await;
    tenant.end().await;
    world.end().await;
}

#[tokio::test]
async fn roles_limit_what_a_person_may_do() {
    let world = World::start().await;
    let tenant = world.tenant("alice").await;
    let mut owner = tenant.chat().await;
    let add = Verb::PersonAdd { name: "Member".into(), role: Role::Member, lang: service::text::Language::De, password: "another long one".into() };
    assert_eq!(tenant.console(&add).await["ok"], true);
    assert_eq!(tenant.console(&add).await["code"], "name_taken");
    let mut member = tenant.browser();
    member.enter("/auth/login", json!({ "name": "member", "password": "another long one" })).await;
    member.open().await.unwrap();
    let run = owner.say(r#"[[tool:exec {"command":"git push --force"}]]"#).await;
    let question = member.question().await;
    assert_eq!(member.decide(&question, "approve").await["error"]["code"], "forbidden");
    assert_eq!(tenant.gateway.executed(), [""; 0]);
    let question = owner.question().await;
    assert_eq!(owner.decide(&question, "approve").await["ok"], true);
    owner.reply(&run).await;
    assert_eq!(tenant.gateway.executed().len(), 1);
    tenant.end().await;
    world.end().await;
}

#[tokio::test]
async fn a_password_that_is_set_anew_ends_what_the_old_one_opened() {
    let world = World::start().await;
    let tenant = world.tenant("alice").await;
    let mut chat = tenant.chat().await;
    let set = |name: &str, password: &str| Verb::PersonPassword { name: name.into(), password: password.into() };
    assert_eq!(tenant.console(&set("nobody", "another long one")).await["code"], "person_unknown");
    assert_eq!(tenant.console(&set("owner", "short")).await["code"], "password_weak");
    assert_eq!(tenant.console(&set("owner", "another long one")).await["ok"], true);
    assert_eq!(chat.closed().await, Some(4401));
    let login = |password: &str| json!({ "name": "Owner", "password": password });
    let mut browser = tenant.browser();
    assert_eq!(browser.enter("/auth/login", login("correct horse battery")).await.code(), "login_wrong");
    assert_eq!(browser.enter("/auth/login", login("another long one")).await.status, 200);
    tenant.end().await;
    world.end().await;
}

#[tokio::test]
async fn the_oldest_session_makes_room_and_its_socket_ends() {
    let world = World::start().await;
    let tenant = world.tenant("alice").await;
    let mut oldest = tenant.chat().await;
    for _ in 0..20 {
        world.clock.advance(1);
        let mut newer = tenant.browser();
        assert_eq!(newer.enter("/auth/login", json!({ "name": "owner", "password": "correct horse battery" })).await.status, 200);
    }
    assert_eq!(oldest.closed().await, Some(4401));
    assert_eq!(oldest.get("/api/me").await.code(), "session_missing");
    tenant.end().await;
    world.end().await;
}
