//! Stories of the way out: what goes through, what is asked for, what nobody may do, and what misbehaves on either side.

use axum::Router;
use axum::body::Bytes;
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use axum::routing::any;
use policy::host::{Allowed, Manner, Reach};
use serde_json::json;
use std::sync::{Arc, Mutex};
use tenant_agent::console::{HostsVerb, VaultVerb, Verb};
use tests::company::BUNDLE_KEY;
use tests::{Internet, Machines, Passage, Tenant, World, soon};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const HOST: &str = "api.example.org";
const ADDRESS: &str = "93.184.216.34";

/// What a site was sent.
type Seen = Arc<Mutex<Vec<(String, HeaderMap, Bytes)>>>;

/// A site that says `hello` and keeps what it is sent.
fn site() -> (Router, Seen) {
    let seen = Seen::default();
    let keep = seen.clone();
    let answer = move |request: Request| {
        let keep = keep.clone();
        async move {
            let (head, body) = request.into_parts();
            let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
            keep.lock().unwrap().push((format!("{} {}", head.method, head.uri), head.headers, body));
            match head.uri.path() {
                "/away" => (StatusCode::FOUND, [("location", "http://169.254.169.254/latest/meta-data")]).into_response(),
                _ => "hello".into_response(),
            }
        }
    };
    (Router::new().fallback(any(answer)), seen)
}

async fn world(internet: &Internet) -> (World, Tenant, Passage) {
    let mut world = World::start().await;
    world.outside(internet.network());
    let tenant = world.tenant("alice").await;
    let passage = Passage::of(&tenant);
    (world, tenant, passage)
}

async fn allow(tenant: &Tenant, host: &str, reach: Reach, manner: Manner) {
    let verb = Verb::Hosts { what: HostsVerb::Allow { host: host.to_owned(), reach, manner } };
    assert_eq!(tenant.console(&verb).await["ok"], true);
}

async fn end(world: World, tenant: Tenant) {
    tenant.end().await;
    world.end().await;
}

#[tokio::test]
async fn a_host_is_asked_for_and_then_allowed() {
    let internet = Internet::default();
    let (router, seen) = site();
    internet.site(HOST, ADDRESS, router).await;
    let (world, tenant, passage) = world(&internet).await;
    let mut owner = tenant.chat().await;

    let refused = soon(passage.https("GET", HOST, "/news", &[], b"")).await;
    assert_eq!((refused.status, refused.code().as_str()), (403, "host_not_allowed"));
    assert_eq!(refused.header("x-gatehouse-refused"), Some("host_not_allowed"));
    let question = owner.question().await;
    let message = refused.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(message.contains("Ask the owner to allow api.example.org") && message.contains(question["id"].as_str().unwrap()), "{message}");
    assert_eq!((&question["class"], &question["rule"], &question["tool"]), (&json!("red"), &json!("host.read"), &json!("network")));
    assert_eq!(question["details"], json!([{ "name": "host", "value": HOST }, { "name": "access", "value": "read" }]));
    assert!(question["sentence"]["en"].as_str().unwrap().contains("read from this host"), "the sentence is the rule's: {question}");
    soon(passage.https("GET", HOST, "/again", &[], b"")).await;
    assert!(internet.asked().is_empty() && internet.connected().is_empty(), "nobody outside has heard of it");

    let decided = owner.decide(&question, "approve").await;
    assert_eq!(decided["ok"], true, "{decided}");
    let answer = soon(passage.https("GET", HOST, "/news?a=1", &[], b"")).await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "hello"));
    assert_eq!(soon(passage.http("GET", &format!("http://{HOST}/plain"), &[], b"")).await.status, 200);
    let asked: Vec<String> = seen.lock().unwrap().iter().map(|(line, ..)| line.clone()).collect();
    assert_eq!(asked, ["GET /news?a=1", "GET /plain"], "the whole list of what went out");
    assert!(seen.lock().unwrap().iter().all(|(_, headers, _)| !headers.contains_key("proxy-authorization")));

    let writes = soon(passage.https("POST", HOST, "/news", &[], b"x")).await;
    assert_eq!(writes.code(), "host_not_allowed", "to read is not to write");
    let question = owner.question().await;
    assert_eq!((&question["rule"], &question["external"]), (&json!("host.write"), &json!(true)));
    owner.decide(&question, "deny").await;
    assert_eq!(soon(passage.https("POST", HOST, "/news", &[], b"x")).await.code(), "host_denied", "a no is not asked about again");

    // The list is on the disk, and a line that is removed is gone at once.
    let tenant = tenant.restart().await;
    tenant.ready().await;
    let passage = Passage::of(&tenant);
    assert_eq!(soon(passage.https("GET", HOST, "/", &[], b"")).await.status, 200);
    let listed = tenant.console(&Verb::Hosts { what: HostsVerb::List {} }).await;
    assert_eq!((&listed["hosts"][0]["name"], &listed["hosts"][0]["reach"]), (&json!(HOST), &json!("read")), "{listed}");
    assert!(listed["hosts"][0]["added_by"].as_str().unwrap().starts_with("per_"), "{listed}");
    let removed = tenant.console(&Verb::Hosts { what: HostsVerb::Remove { host: HOST.to_owned() } }).await;
    assert_eq!(removed["ok"], true);
    assert_eq!(soon(passage.https("GET", HOST, "/", &[], b"")).await.code(), "host_not_allowed");
    assert_eq!(tenant.console(&Verb::Status {}).await["audit_broken_at"], serde_json::Value::Null);
    end(world, tenant).await;
}

#[tokio::test]
async fn only_who_shows_the_token_of_this_start_gets_anything() {
    let internet = Internet::default();
    let (router, seen) = site();
    internet.site(HOST, ADDRESS, router).await;
    let (world, tenant, passage) = world(&internet).await;
    allow(&tenant, HOST, Reach::Write, Manner::Inspect).await;
    let right = passage.credentials.clone();
    let token = &tenant.gateway.keys().proxy_token;
    for credentials in ["", "Basic", "Basic x", "Basic eDp5", "Bearer abc", token.as_str()] {
        let passage = Passage::of(&tenant).with(credentials);
        for answer in
            [soon(passage.connect(&format!("{HOST}:443"))).await.err().unwrap(), soon(passage.http("GET", &format!("http://{HOST}/"), &[], b"")).await]
        {
            assert_eq!((answer.status, answer.code().as_str()), (407, "proxy_credentials_wrong"), "{credentials}");
            assert!(answer.header("proxy-authenticate").is_some());
            assert!(!answer.text().contains(HOST) && !answer.text().contains(token.as_str()), "{}", answer.text());
        }
    }
    let twice = [("proxy-authorization", right.as_str())];
    assert_eq!(soon(passage.http("GET", &format!("http://{HOST}/"), &twice, b"")).await.status, 407, "two proofs are none");
    assert!(seen.lock().unwrap().is_empty());
    end(world, tenant).await;
}

#[tokio::test]
async fn no_spelling_and_no_name_leads_inside() {
    let internet = Internet::default();
    let (world, tenant, passage) = world(&internet).await;
    for host in [
        "localhost",
        "127.0.0.1",
        "127.1",
        "0x7f.1",
        "2130706433",
        "017700000001",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "0.0.0.0",
        "[::]",
        "10.0.0.1",
        "192.168.1.1",
        "172.16.0.1",
        "100.64.0.1",
        "169.254.169.254",
        "[fd00:ec2::254]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "224.0.0.1",
        "[ff02::1]",
        "[fe80::1]",
        "metadata.google.internal",
        "LOCALHOST.",
        "printer.local",
        "a.127.0.0.1.nip.io",
        "intranet",
    ] {
        for answer in
            [soon(passage.connect(&format!("{host}:443"))).await.err().unwrap(), soon(passage.http("GET", &format!("http://{host}/"), &[], b"")).await]
        {
            assert_eq!((answer.status, answer.code().as_str()), (403, "host_closed"), "{host}");
        }
        let verb = Verb::Hosts { what: HostsVerb::Allow { host: host.to_owned(), reach: Reach::Write, manner: Manner::Inspect } };
        assert_eq!(tenant.console(&verb).await["code"], "host_closed", "{host}");
    }
    // Save one door: model calls come in there, with a token of their own.
    let stream = passage.connect(&tenant.agent.egress_addr().to_string()).await.unwrap();
    assert_eq!(soon(tests::exchange(stream, "POST", "/llm/scripted/chat/completions", &[], b"{}")).await.code(), "proxy_token_wrong");
    assert!(passage.connect(&format!("127.0.0.1:{}", tenant.settings.tenant.port())).await.is_err(), "the tenant's own pages are closed");
    for target in ["[fe80::1%25eth0]:443", "a..b:443", "user@api.example.org:443", "api.example.org", "api.example.org:0"] {
        assert_eq!(soon(passage.connect(target)).await.err().map(|answer| answer.status), Some(400), "{target}");
    }
    for url in ["https://api.example.org/", "ftp://api.example.org/", "/", "http://user:word@api.example.org/"] {
        assert_eq!(soon(passage.http("GET", url, &[("host", HOST)], b"")).await.status, 400, "{url}");
    }

    // A name that is allowed and leads inside, now or later, alone or among others.
    allow(&tenant, "*.example.org", Reach::Write, Manner::Inspect).await;
    for addresses in [&["127.0.0.1"][..], &["10.1.2.3"], &["::1"], &["::ffff:127.0.0.1"], &["169.254.169.254"], &[ADDRESS, "127.0.0.1"], &["168.63.129.16"]] {
        internet.name(HOST, addresses);
        assert_eq!(soon(passage.https("GET", HOST, "/", &[], b"")).await.code(), "host_closed", "{addresses:?}");
        assert_eq!(soon(passage.http("GET", &format!("http://{HOST}/"), &[], b"")).await.code(), "host_closed", "{addresses:?}");
    }
    assert!(internet.connected().is_empty(), "nothing was connected: {:?}", internet.connected());
    let (router, seen) = site();
    internet.site(HOST, ADDRESS, router).await;
    assert_eq!(soon(passage.https("GET", HOST, "/", &[], b"")).await.status, 200);
    internet.name(HOST, &["127.0.0.1"]);
    assert_eq!(soon(passage.https("GET", HOST, "/", &[], b"")).await.code(), "host_closed", "each connection is looked up and judged again");
    assert_eq!((seen.lock().unwrap().len(), internet.connected().len()), (1, 1));
    end(world, tenant).await;
}

#[tokio::test]
async fn a_connection_is_for_the_host_that_was_named() {
    let internet = Internet::default();
    let (router, seen) = site();
    internet.site(HOST, ADDRESS, router).await;
    let (world, tenant, passage) = world(&internet).await;
    allow(&tenant, HOST, Reach::Write, Manner::Inspect).await;
    for host in ["other.example.org", "api.example.org:8443", "localhost"] {
        let answer = soon(passage.https("GET", HOST, "/", &[("host", host)], b"")).await;
        assert_eq!((answer.status, answer.code().as_str()), (421, "proxy_host_disagrees"), "{host}");
        let answer = soon(passage.http("GET", &format!("http://{HOST}/"), &[("host", host)], b"")).await;
        assert_eq!((answer.status, answer.code().as_str()), (421, "proxy_host_disagrees"), "{host}");
    }
    let stream = passage.connect(&format!("{HOST}:443")).await.unwrap();
    assert!(soon(passage.greet(stream, "other.example.org", passage.believing())).await.is_err(), "another name inside is closed");
    for (name, value) in [("upgrade", "websocket"), ("upgrade", "h2c")] {
        let answer = soon(passage.https("GET", HOST, "/", &[(name, value), ("x-connection", "upgrade")], b"")).await;
        assert_eq!((answer.status, answer.code().as_str()), (403, "host_upgrade_closed"));
    }
    assert_eq!(soon(passage.https("TRACE", HOST, "/", &[], b"")).await.status, 405);
    assert!(seen.lock().unwrap().is_empty());
    // A redirect is told, not followed, and what it leads to is judged like everything else.
    let away = soon(passage.https("GET", HOST, "/away", &[], b"")).await;
    assert_eq!(away.status, 302);
    assert_eq!(soon(passage.http("GET", away.header("location").unwrap(), &[], b"")).await.code(), "host_closed");
    end(world, tenant).await;
}

#[tokio::test]
async fn secrets_go_where_they_belong_and_nowhere_else() {
    let internet = Internet::default();
    let (router, seen) = site();
    internet.site(HOST, ADDRESS, router.clone()).await;
    internet.site("git.example.net", "93.184.216.35", router).await;
    let (world, tenant, passage) = world(&internet).await;
    allow(&tenant, HOST, Reach::Write, Manner::Inspect).await;
    allow(&tenant, "git.example.net", Reach::Write, Manner::Inspect).await;
    let token = service::random::token();
    assert_eq!(tenant.console(&Verb::Vault { what: VaultVerb::set("git.token", &token) }).await["ok"], true);
    let bindings = serde_json::from_value(json!({ "tools": [], "hosts": ["git.example.net"] })).unwrap();
    assert_eq!(tenant.console(&Verb::Vault { what: VaultVerb::Bind { name: "git.token".to_owned(), bindings, bound: true } }).await["ok"], true);

    let authorization = format!("Bearer {token}");
    for (method, path, headers) in [
        ("GET", format!("/?q={token}"), vec![]),
        ("GET", format!("/{token}/x"), vec![]),
        ("GET", "/".to_owned(), vec![("authorization", authorization.as_str())]),
        ("POST", "/".to_owned(), vec![("cookie", authorization.as_str())]),
    ] {
        let answer = soon(passage.https(method, HOST, &path, &headers, b"")).await;
        assert_eq!((answer.status, answer.code().as_str()), (403, "secret_not_for_host"), "{method} {path}");
        assert!(!answer.text().contains(&token));
    }
    assert!(seen.lock().unwrap().is_empty());
    let json_body = json!({ "text": format!("my token is {token}") }).to_string();
    let plain = [&b"\xff\xfa"[..], token.as_bytes()].concat();
    assert_eq!(soon(passage.https("POST", HOST, "/", &[], &plain)).await.code(), "secret_not_for_host");
    for (url, body) in [("https", json_body.as_bytes()), ("http", format!("a=1&token={token}").as_bytes())] {
        let answer = match url {
            "https" => soon(passage.https("POST", HOST, "/", &[("content-type", "application/json")], body)).await,
            _ => soon(passage.http("POST", &format!("http://{HOST}/"), &[], body)).await,
        };
        assert_eq!(answer.status, 200);
        let (_, headers, got) = seen.lock().unwrap().pop().unwrap();
        let got = String::from_utf8(got.to_vec()).unwrap();
        assert!(got.contains("SECRET_REF(git.token)") && !got.contains(&token), "{got}");
        assert_eq!(headers["content-length"], got.len().to_string());
    }
    assert_eq!(soon(passage.https("POST", HOST, "/", &[("content-encoding", "br")], b"packed")).await.code(), "body_unreadable");

    // The host that it is bound to gets it, in head and body.
    let answer = soon(passage.https("POST", "git.example.net", "/", &[("authorization", &authorization)], json_body.as_bytes())).await;
    assert_eq!(answer.status, 200);
    let (_, headers, got) = seen.lock().unwrap().pop().unwrap();
    assert_eq!((headers["authorization"].to_str().unwrap(), got), (authorization.as_str(), Bytes::from(json_body)));
    // A name that nobody allowed may carry a secret, too: nobody is shown it.
    let name = format!("{}.example.com", token.replace(['_', '-'], ""));
    assert_ne!(soon(passage.https("GET", &name, "/", &[], b"")).await.status, 200);
    end(world, tenant).await;
}

#[tokio::test]
async fn large_and_malformed_requests_are_bounded() {
    let internet = Internet::default();
    let (router, seen) = site();
    internet.site(HOST, ADDRESS, router).await;
    let (world, tenant, passage) = world(&internet).await;
    allow(&tenant, HOST, Reach::Write, Manner::Inspect).await;
    let length = (100 * 1024 * 1024).to_string();
    let head = |more: &str| format!("POST http://{HOST}/ HTTP/1.1\r\nhost: {HOST}\r\nproxy-authorization: {}\r\n{more}\r\n", passage.credentials);
    let announced = head(&format!("content-length: {length}\r\n"));
    let answer = soon(tests::send_raw(passage.proxy, announced.as_bytes())).await;
    assert!(answer.starts_with(b"HTTP/1.1 413"), "{}", String::from_utf8_lossy(&answer));
    // Not announced: cut off when it has become too much.
    let mut stream = TcpStream::connect(passage.proxy).await.unwrap();
    stream.write_all(head("transfer-encoding: chunked\r\n").as_bytes()).await.unwrap();
    let piece = [format!("{:x}\r\n", 1 << 20).as_bytes(), &vec![b'a'; 1 << 20], b"\r\n"].concat();
    let mut sent = 0;
    while sent < 100 && soon(stream.write_all(&piece)).await.is_ok() {
        sent += 1;
    }
    assert!(sent < 100, "nobody takes all of it");
    for bytes in [
        "GET\r\n\r\n".to_owned(),
        "CONNECT HTTP/1.1\r\n\r\n".to_owned(),
        head("content-length: 1\r\ncontent-length: 2\r\n"),
        head("content-length: -1\r\n"),
        head("transfer-encoding: chunked\r\n") + "zz\r\n",
        head("bad header\r\n"),
        head(&"x-a: b\r\n".repeat(500)),
        format!("GET http://{HOST}/{} HTTP/1.1\r\nhost: {HOST}\r\n\r\n", "a".repeat(200_000)),
        "\u{16}\u{3}\u{1}\u{2}".to_owned(),
    ] {
        let answer = soon(tests::send_raw(passage.proxy, bytes.as_bytes())).await;
        let status = String::from_utf8_lossy(&answer).split(' ').nth(1).map(str::to_owned);
        assert!(status.as_deref().is_none_or(|status| status.starts_with('4')), "{status:?} for {}", &bytes[..bytes.len().min(60)]);
    }
    assert!(seen.lock().unwrap().is_empty());
    assert_eq!(soon(passage.https("POST", HOST, "/", &[], &vec![b'a'; 8 << 20])).await.status, 200, "what fits goes through");
    assert_eq!(seen.lock().unwrap()[0].2.len(), 8 << 20);
    end(world, tenant).await;
}

#[tokio::test]
async fn slow_ones_are_cut_off_on_both_sides() {
    let internet = Internet::default();
    internet.name(HOST, &[ADDRESS]);
    let (world, tenant, passage) = world(&internet).await;
    allow(&tenant, HOST, Reach::Write, Manner::Inspect).await;
    let url = format!("http://{HOST}/");
    // A host that takes the connection and says nothing.
    internet.server(&format!("{ADDRESS}:80"), async |_stream| std::future::pending().await).await;
    let answer = world.as_time_passes(5_000, passage.http("GET", &url, &[], b"")).await;
    assert_eq!((answer.status, answer.code().as_str()), (504, "host_late"));
    let stream = passage.connect(&format!("{HOST}:80")).await.unwrap();
    let mut closed = stream;
    let said = world.as_time_passes(5_000, async { closed.read(&mut [0; 1]).await }).await;
    assert_eq!(said.unwrap_or(0), 0, "a client that opens a way and says nothing");
    // A host that begins an answer and does not go on.
    internet
        .server(&format!("{ADDRESS}:80"), async |mut stream| {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nfirst").await;
            std::future::pending().await
        })
        .await;
    let answer = world.as_time_passes(5_000, passage.http("GET", &url, &[], b"")).await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "first"), "what came was passed on, and then it ended");
    // A client that announces a body and does not send it.
    let mut stream = TcpStream::connect(passage.proxy).await.unwrap();
    let head = format!("POST {url} HTTP/1.1\r\nhost: {HOST}\r\nproxy-authorization: {}\r\ncontent-length: 10\r\n\r\nabc", passage.credentials);
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut said = Vec::new();
    world.as_time_passes(5_000, async { while !said.windows(4).any(|part| part == b"\r\n\r\n") && stream.read_buf(&mut said).await.unwrap_or(0) > 0 {} }).await;
    assert!(said.starts_with(b"HTTP/1.1 408"), "{}", String::from_utf8_lossy(&said));
    end(world, tenant).await;
}

#[tokio::test]
async fn a_host_that_lies_or_breaks_off_harms_nobody() {
    let internet = Internet::default();
    internet.name(HOST, &[ADDRESS]);
    let (world, tenant, passage) = world(&internet).await;
    allow(&tenant, HOST, Reach::Write, Manner::Inspect).await;
    let says = async |said: &'static [u8], taken: usize| {
        internet
            .server(&format!("{ADDRESS}:80"), move |mut stream| async move {
                let _ = stream.read(&mut [0; 4096]).await;
                let _ = stream.write_all(said).await;
                for _ in 0..taken {
                    let _ = stream.write_all(&vec![b'x'; 65_536]).await;
                }
            })
            .await;
        soon(passage.http("GET", &format!("http://{HOST}/"), &[], b"")).await
    };
    let short = says(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort", 0).await;
    assert_eq!((short.status, short.header("content-length"), short.body.len()), (200, Some("100"), 5), "the client sees that some is missing");
    let long = says(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello and more", 0).await;
    assert_eq!((long.status, long.text().as_str()), (200, "hello"));
    for said in [
        &b""[..],
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
        b"HTTP/1.1 999999 A\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n",
    ] {
        let answer = says(said, 0).await;
        assert_eq!((answer.status, answer.code().as_str()), (502, "host_answer_broken"), "{}", String::from_utf8_lossy(said));
    }
    let endless_head = says(b"HTTP/1.1 200 OK\r\nx: ", 64).await;
    assert_eq!(endless_head.status, 502, "a head has an end");
    let large = says(b"HTTP/1.1 200 OK\r\n\r\n", 512).await;
    assert_eq!((large.status, large.body.len()), (200, 512 * 65_536), "what is large streams through");

    assert_eq!(soon(passage.https("GET", HOST, "/", &[], b"")).await.code(), "host_unreachable");
    let acceptor = tokio_rustls::TlsAcceptor::from(Internet::default().certified(HOST));
    internet
        .server(&format!("{ADDRESS}:443"), move |stream| {
            let acceptor = acceptor.clone();
            async move { drop(acceptor.accept(stream).await) }
        })
        .await;
    assert_eq!(soon(passage.https("GET", HOST, "/", &[], b"")).await.code(), "host_certificate", "a certificate of somebody else");
    allow(&tenant, "gone.example.org", Reach::Write, Manner::Inspect).await;
    assert_eq!(soon(passage.https("GET", "gone.example.org", "/", &[], b"")).await.code(), "host_unresolved");
    end(world, tenant).await;
}

#[tokio::test]
async fn what_is_pinned_is_passed_through_and_services_are_named() {
    let internet = Internet::default();
    let (router, seen) = site();
    internet.site(HOST, ADDRESS, router).await;
    internet.name("imap.example.org", &["93.184.216.40"]);
    internet
        .server("93.184.216.40:993", async |mut stream| {
            let _ = stream.write_all(b"* OK ready\r\n").await;
            let mut said = [0; 5];
            let _ = stream.read_exact(&mut said).await;
            let _ = stream.write_all(&said).await;
        })
        .await;
    let (world, tenant, passage) = world(&internet).await;
    for refused in ["imap.example.org:993", "imap.example.org:22"] {
        let answer = soon(passage.connect(refused)).await.err().unwrap();
        assert_eq!((answer.status, answer.code().as_str()), (403, "host_port_closed"), "{refused}");
        assert!(answer.text().contains(&format!("hosts allow {refused} --tcp")), "{}", answer.text());
    }
    allow(&tenant, "imap.example.org:993", Reach::Write, Manner::Tcp).await;
    allow(&tenant, HOST, Reach::Write, Manner::Tunnel).await;

    let mut mail = passage.connect("imap.example.org:993").await.unwrap();
    let mut said = [0; 12];
    soon(mail.read_exact(&mut said)).await.unwrap();
    assert_eq!(&said, b"* OK ready\r\n");
    mail.write_all(b"a1 ok").await.unwrap();
    let mut rest = Vec::new();
    soon(mail.read_to_end(&mut rest)).await.unwrap();
    assert_eq!(rest, b"a1 ok");
    assert_eq!(soon(passage.connect("imap.example.org:22")).await.err().map(|answer| answer.status), Some(403), "that port and no other");

    // Through a tunnel the client sees the host's own certificate.
    let stream = passage.connect(&format!("{HOST}:443")).await.unwrap();
    let stream = soon(passage.greet(stream, HOST, &internet.believing())).await.unwrap();
    assert_eq!(soon(tests::exchange(stream, "GET", "/", &[("host", HOST)], b"")).await.text(), "hello");
    let stream = passage.connect(&format!("{HOST}:443")).await.unwrap();
    assert!(soon(passage.greet(stream, "other.example.org", &internet.believing())).await.is_err(), "another name inside is closed");
    let mut stream = passage.connect(&format!("{HOST}:443")).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: api.example.org\r\n\r\n").await.unwrap();
    assert_eq!(soon(stream.read(&mut [0; 1])).await.unwrap_or(0), 0, "and what is no TLS, too");
    assert_eq!(seen.lock().unwrap().len(), 1);
    end(world, tenant).await;
}

#[tokio::test]
async fn a_service_has_a_door_of_its_own_as_long_as_it_is_allowed() {
    let internet = Internet::default();
    internet.name("mail.example.org", &["93.184.216.41"]);
    internet
        .server("93.184.216.41:25", async |mut stream| {
            let _ = stream.write_all(b"220 ready\r\n").await;
        })
        .await;
    let mut world = World::start().await;
    world.outside(internet.network());
    let door = world.tunnel("mail.example.org:25");
    let tenant = world.tenant("alice").await;
    let said = async || {
        let mut said = String::new();
        let mut stream = TcpStream::connect(door).await.unwrap();
        let _ = soon(stream.read_to_string(&mut said)).await;
        said
    };
    assert_eq!(said().await, "");
    assert!(internet.asked().is_empty(), "a door alone leads nowhere");
    allow(&tenant, "mail.example.org:25", Reach::Write, Manner::Tcp).await;
    assert_eq!(said().await, "220 ready\r\n");
    internet.name("mail.example.org", &["10.0.0.5"]);
    assert_eq!(said().await, "", "nor inside");
    internet.name("mail.example.org", &["93.184.216.41"]);
    let removed = tenant.console(&Verb::Hosts { what: HostsVerb::Remove { host: "mail.example.org:25".to_owned() } }).await;
    assert_eq!((&removed["ok"], said().await.as_str()), (&json!(true), ""));
    end(world, tenant).await;
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_let_go() {
    let internet = Internet::default();
    internet.name(HOST, &[ADDRESS]);
    let ended = Arc::new(tokio::sync::Notify::new());
    let tell = ended.clone();
    internet
        .server(&format!("{ADDRESS}:80"), move |mut stream| {
            let tell = tell.clone();
            async move {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
                // More than every buffer on the way takes.
                while stream.write_all(&vec![b'x'; 65_536]).await.is_ok() {}
                tell.notify_one();
            }
        })
        .await;
    let (world, tenant, passage) = world(&internet).await;
    allow(&tenant, HOST, Reach::Write, Manner::Inspect).await;
    let mut stream = passage.connect(&format!("{HOST}:80")).await.unwrap();
    stream.write_all(format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n").as_bytes()).await.unwrap();
    let mut first = [0; 15];
    soon(stream.read_exact(&mut first)).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200 OK");
    world.as_time_passes(30_000, ended.notified()).await;
    drop(stream);
    end(world, tenant).await;
}

#[tokio::test]
async fn a_bundle_allows_hosts_until_it_expires() {
    let internet = Internet::default();
    let (router, _) = site();
    internet.site(HOST, ADDRESS, router).await;
    let (world, tenant, passage) = world(&internet).await;
    let mut draft = world.company.draft(1, policy::Level::L2);
    draft.content.hosts = vec![Allowed::new("*.example.org", Reach::Read, Manner::Inspect).unwrap()];
    world.hub.publish_policy(&world.company.trust(), world.company.signed(&draft, BUNDLE_KEY)).await.unwrap();
    world.enforced(|policy| policy.version == 1).await;
    assert_eq!(soon(passage.https("GET", HOST, "/", &[], b"")).await.status, 200);
    assert_eq!(soon(passage.https("PUT", HOST, "/", &[], b"")).await.code(), "host_not_allowed");
    let listed = tenant.console(&Verb::Hosts { what: HostsVerb::List {} }).await;
    assert_eq!((&listed["hosts"], &listed["of_the_bundle"][0]["name"]), (&json!([]), &json!("*.example.org")));
    world.clock.jump_wall(31 * 24 * 3_600_000);
    assert_eq!(soon(passage.https("GET", HOST, "/", &[], b"")).await.code(), "host_not_allowed");
    end(world, tenant).await;
}

#[tokio::test]
async fn open_connections_are_bounded() {
    let internet = Internet::default();
    let (world, tenant, passage) = world(&internet).await;
    let mut held = Vec::new();
    let refused = loop {
        match soon(passage.connect(&format!("{HOST}:443"))).await {
            Ok(stream) => held.push(stream),
            Err(answer) => break answer,
        }
    };
    assert_eq!((held.len(), refused.status, refused.code().as_str()), (256, 503, "proxy_busy"));
    assert_eq!(soon(passage.http("GET", &format!("http://{HOST}/"), &[], b"")).await.code(), "proxy_busy");
    drop(held);
    // Their places are given back as soon as that is noticed.
    soon(async { while passage.connect(&format!("{HOST}:443")).await.is_err() {} }).await;
    end(world, tenant).await;
}

#[tokio::test]
async fn a_page_full_of_hosts_fills_nobodys_inbox() {
    let internet = Internet::default();
    let (world, tenant, passage) = world(&internet).await;
    let mut codes = Vec::new();
    for n in 0..25 {
        codes.push(soon(passage.http("GET", &format!("http://a{n}.example.org/"), &[], b"")).await.code());
    }
    assert_eq!(codes.iter().filter(|code| *code == "host_not_allowed").count(), 20);
    assert_eq!(codes.iter().filter(|code| *code == "host_questions_full").count(), 5);
    assert_eq!(tenant.console(&Verb::Status {}).await["open_approvals"], 20);
    // What OpenClaw calls by itself at its start is nobody's question.
    assert_eq!(soon(passage.https("GET", "catalog.openclaw.ai", "/", &[], b"")).await.code(), "host_not_asked");
    assert!(internet.asked().is_empty());
    end(world, tenant).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the binaries"]
async fn the_list_of_hosts_is_kept_at_the_command_line() {
    let machines = Machines::start().await;
    let says = async |arguments: &[&str]| machines.agent_says(&[&["hosts"], arguments].concat(), "").await;
    assert_eq!(says(&["list"]).await["hosts"], json!([]));
    let allowed = says(&["allow", "API.Example.org."]).await;
    assert_eq!((&allowed["ok"], &allowed["host"]["name"], &allowed["host"]["reach"]), (&json!(true), &json!(HOST), &json!("read")), "{allowed}");
    assert_eq!(says(&["allow", "imap.example.org:993", "--tcp"]).await["host"]["manner"], "tcp");
    assert_eq!(says(&["allow", "*.example.net", "--reach", "write"]).await["ok"], true);
    for (arguments, code) in [
        (&["allow", "127.0.0.1"][..], "host_closed"),
        (&["allow", "*.org"], "host_malformed"),
        (&["allow", "mail.example.org", "--tcp"], "host_malformed"),
        (&["remove", "other.example.org"], "host_not_listed"),
    ] {
        assert_eq!(says(arguments).await["code"], code, "{arguments:?}");
    }
    let names: Vec<String> = says(&["list"]).await["hosts"].as_array().unwrap().iter().map(|line| line["name"].as_str().unwrap().to_owned()).collect();
    assert_eq!(names, ["*.example.net", HOST, "imap.example.org:993"]);
    let shown = machines.agent_output(&["hosts", "list"], b"").await;
    assert!(String::from_utf8_lossy(&shown.stdout).contains("imap.example.org:993"), "{shown:?}");
    assert_eq!(says(&["remove", "IMAP.example.org:993"]).await["ok"], true);
    assert_eq!(says(&["list"]).await["hosts"].as_array().unwrap().len(), 2);
    machines.end().await;
}
