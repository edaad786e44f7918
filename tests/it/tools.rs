//! Stories of the agent's own tools: what runs in the place of OpenClaw's shell, and what does not.

use serde_json::{Value, json};
use std::path::Path;
use tenant_agent::console::{VaultVerb, Verb};
use tenant_agent::vault::Bindings;
use tests::{Browser, Manners, Processes, Tenant, World, request, soon};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// What a tool of ours said, and whether it says that something went wrong.
pub async fn uses(tenant: &Tenant, tool: &str, arguments: Value) -> (String, bool) {
    let result = soon(tenant.gateway.use_tool(tool, &arguments)).await.json()["result"].clone();
    (result["content"][0]["text"].as_str().expect("a text").to_owned(), result["isError"] == true)
}

/// Asks as the plugin does and takes the yes for granted, then calls, as OpenClaw does.
pub async fn asks_and_uses(tenant: &Tenant, tool: &str, arguments: Value) -> (String, bool) {
    let id = format!("call_{}", &service::random::token()[..16]);
    let answer = soon(tenant.gateway.decide("r", "t", &id, &format!("gatehouse__{tool}"), &arguments)).await.json();
    assert_eq!(answer["allow"], true, "{tool} {arguments}: {answer}");
    uses(tenant, tool, arguments).await
}

pub async fn keep(tenant: &Tenant, name: &str, value: &str, tools: &[&str], hosts: &[&str]) {
    assert_eq!(tenant.console(&Verb::Vault { what: VaultVerb::set(name, value) }).await["ok"], true);
    let list = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    let bindings = Bindings { tools: list(tools), hosts: list(hosts) };
    assert_eq!(tenant.console(&Verb::Vault { what: VaultVerb::Bind { name: name.to_owned(), bindings, bound: true } }).await["ok"], true);
}

pub fn audited(tenant: &Tenant) -> Vec<String> {
    let store = rusqlite::Connection::open(tenant.settings.state_folder.join("agent.db")).unwrap();
    let mut rows = store.prepare("SELECT deed || ' ' || subject || ' ' || detail FROM audit ORDER BY n").unwrap();
    rows.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
}

#[tokio::test]
async fn what_was_allowed_runs_here_and_its_words_come_back() {
    let world = World::start().await;
    let tenant = world.tenant("alice").await;
    let mut browser = tenant.chat().await;
    let reply = browser.ask(r#"[[tool:exec {"command":"echo six times seven is $((6*7)) > a.txt; cat a.txt"}]]"#).await;
    assert!(reply.contains("six times seven is 42"), "{reply}");
    assert_eq!(std::fs::read_to_string(tenant.workspace().join("a.txt")).unwrap(), "six times seven is 42\n");
    browser.ask(r#"[[tool:write {"path":"sub/b.md","content":"one\ntwo\n"}]]"#).await;
    assert_eq!(std::fs::read_to_string(tenant.workspace().join("sub/b.md")).unwrap(), "one\ntwo\n");
    let edit = json!({ "path": "sub/b.md", "oldText": "two", "newText": "three" });
    assert_eq!(asks_and_uses(&tenant, "edit_file", edit.clone()).await, ("Replaced.".to_owned(), false));
    let (said, is_error) = asks_and_uses(&tenant, "edit_file", edit).await;
    assert!(is_error && said.contains("0 times"), "{said}");
    assert_eq!(asks_and_uses(&tenant, "read_file", json!({ "path": "sub/b.md", "offset": 2 })).await, ("three\n".to_owned(), false));
    let (said, is_error) = asks_and_uses(&tenant, "exec", json!({ "command": "pwd; ls; exit 3", "workdir": "sub" })).await;
    assert!(is_error && said.contains("/workspace/sub\nb.md\n[exit code 3]"), "{said}");
    assert_eq!(asks_and_uses(&tenant, "exec", json!({ "command": "cat", "stdin": "ls" })).await, ("ls".to_owned(), false));
    assert_eq!(tenant.console(&Verb::Status {}).await["frozen_sessions"], json!([]));
    tenant.end().await;
    world.end().await;
}

#[tokio::test]
async fn a_call_that_nobody_allowed_does_nothing() {
    let world = World::start().await;
    let tenant = world.tenant("alice").await;
    let touch = json!({ "command": "touch done" });
    let done = tenant.workspace().join("done");
    let refused = async |tool: &str, arguments: Value| {
        let (said, is_error) = uses(&tenant, tool, arguments).await;
        assert!(is_error && said.contains("nobody was asked"), "{said}");
    };
    refused("exec", touch.clone()).await;
    refused("write_file", json!({ "path": "done", "content": "x" })).await;
    refused("read_file", json!({ "path": "done" })).await;
    refused("secret_names", json!({})).await;
    assert!(!done.exists());

    // Allowed once is allowed once, and nothing else: no other line, folder, input, variable or tool.
    let decide = async |id: &str, tool: &str, params: &Value| tenant.gateway.decide("r", "t", id, tool, params).await.json()["allow"].clone();
    assert_eq!(decide("c1", "gatehouse__exec", &touch).await, true);
    for other in [
        json!({ "command": "touch done " }),
        json!({ "command": "touch done", "workdir": "." }),
        json!({ "command": "touch done", "stdin": "" }),
        json!({ "command": "touch done", "env": {} }),
    ] {
        refused("exec", other).await;
    }
    assert!(!done.exists());
    assert_eq!(
        uses(&tenant, "exec", json!({ "command": "touch done", "timeoutSeconds": 5 })).await,
        (String::new(), false),
        "how long it may take is no part of it"
    );
    assert!(done.exists());
    std::fs::remove_file(&done).unwrap();
    refused("exec", touch.clone()).await;
    assert!(!done.exists(), "a verdict is for one time");
    assert_eq!(decide("c1", "gatehouse__exec", &touch).await, false, "and so is its id");

    // What a person was asked about, and did not answer, is not allowed.
    let push = json!({ "command": "git push --force" });
    let plugin = tenant.gateway.clone();
    let held = tokio::spawn(async move { plugin.decide("r", "t", "c2", "gatehouse__exec", &json!({ "command": "git push --force" })).await });
    let mut browser = tenant.chat().await;
    let question = browser.open().await.unwrap()["approvals"][0].clone();
    refused("exec", push.clone()).await;
    browser.decide(&question, "deny").await;
    assert_eq!(soon(held).await.unwrap().json()["allow"], false);
    refused("exec", push).await;
    assert_eq!(audited(&tenant).iter().filter(|line| line.starts_with("refuse_unasked exec")).count(), 8);
    // OpenClaw's own are not there, and when they are all the same, nothing lets them run.
    for tool in ["exec", "process", "write", "edit", "apply_patch"] {
        assert_eq!(decide(&format!("own-{tool}"), tool, &json!({ "command": "ls", "path": "a", "content": "x", "input": "" })).await, false, "{tool}");
    }
    tenant.end().await;
    world.end().await;
}

#[tokio::test]
async fn a_skipped_hook_runs_nothing_of_ours_and_freezes_the_session() {
    let world = World::start().await;
    let tenant = world.tenant("alice").await;
    let mut browser = tenant.chat().await;
    tenant.gateway.behave(Manners { asks: false, ..Default::default() });
    let reply = browser.ask(r#"[[tool:exec {"command":"touch unasked"}]]"#).await;
    assert!(reply.contains("session_frozen"), "{reply}");
    assert!(!tenant.workspace().join("unasked").exists(), "it did not run");
    // Nor does what had a verdict before the session was frozen.
    tenant.gateway.behave(Manners::default());
    let touch = json!({ "command": "touch frozen" });
    assert_eq!(tenant.gateway.decide("r", "t", "c9", "gatehouse__exec", &touch).await.json()["allow"], true);
    assert!(uses(&tenant, "exec", touch).await.1);
    assert!(!tenant.workspace().join("frozen").exists());
    tenant.end().await;
    world.end().await;
}

#[tokio::test]
async fn what_leads_elsewhere_after_the_yes_is_not_touched() {
    let world = World::start().await;
    let tenant = world.tenant("alice").await;
    let (workspace, outside) = (tenant.workspace(), world.folder().join("outside"));
    std::fs::create_dir_all(outside.join("sub")).unwrap();
    std::fs::write(outside.join("key"), "outside").unwrap();
    std::fs::write(workspace.join("key"), "inside").unwrap();
    std::fs::create_dir(workspace.join("sub")).unwrap();
    let allowed = async |id: &str, tool: &str, params: &Value| {
        assert_eq!(tenant.gateway.decide("r", "t", id, &format!("gatehouse__{tool}"), params).await.json()["allow"], true);
    };
    let turn = |name: &str| {
        std::fs::rename(workspace.join(name), workspace.join(format!("{name}.before"))).unwrap();
        std::os::unix::fs::symlink(outside.join(name), workspace.join(name)).unwrap();
    };
    // A script that was changed is another script.
    std::fs::write(workspace.join("build.sh"), "touch built").unwrap();
    let build = json!({ "command": "bash build.sh" });
    allowed("c0", "exec", &build).await;
    std::fs::write(workspace.join("build.sh"), "touch something-else").unwrap();
    assert!(uses(&tenant, "exec", build.clone()).await.1);
    std::fs::write(workspace.join("build.sh"), "touch built").unwrap();
    assert!(!uses(&tenant, "exec", build).await.1);
    assert!(workspace.join("built").exists() && !workspace.join("something-else").exists());

    let (read, write, run) = (json!({ "path": "key" }), json!({ "path": "sub/new", "content": "x" }), json!({ "command": "touch made", "workdir": "sub" }));
    allowed("c1", "read_file", &read).await;
    allowed("c2", "write_file", &write).await;
    allowed("c3", "exec", &run).await;
    turn("key");
    turn("sub");
    for (tool, arguments) in [("read_file", read), ("write_file", write), ("exec", run)] {
        let (said, is_error) = uses(&tenant, tool, arguments).await;
        assert!(is_error && said.contains("nobody was asked"), "{tool}: {said}");
    }
    assert_eq!(std::fs::read_dir(outside.join("sub")).unwrap().count(), 0);
    tenant.end().await;
    world.end().await;
}

#[tokio::test]
async fn a_script_that_a_person_allowed_runs_alone_and_its_exchange_is_found_out() {
    let world = World::start().await;
    let tenant = world.tenant("alice").await;
    world.law(1, policy::Level::L1).await;
    let workspace = tenant.workspace();
    let mut owner = tenant.chat().await;
    let there = async |name: &str| {
        soon(async {
            while !workspace.join(name).exists() {
                tokio::task::yield_now().await;
            }
        })
        .await;
    };
    let allowed = async |owner: &mut Browser, id: &'static str, params: Value| {
        let plugin = tenant.gateway.clone();
        let held = tokio::spawn(async move { plugin.decide("r", "t", id, "gatehouse__exec", &params).await });
        let question = owner.question().await;
        owner.decide(&question, "approve").await;
        assert_eq!(soon(held).await.unwrap().json()["allow"], true);
    };
    let run = |line: &'static str| {
        let gateway = tenant.gateway.clone();
        tokio::spawn(
            async move { gateway.use_tool("exec", &json!({ "command": line })).await.json()["result"]["content"][0]["text"].as_str().unwrap().to_owned() },
        )
    };
    // While another command runs, which could exchange it, it waits; what it has become meanwhile is not run.
    const WAITS: &str = "touch begun; until test -e go; do sleep 0.02; done; echo touch exchanged > build.sh";
    std::fs::write(workspace.join("build.sh"), "touch built").unwrap();
    allowed(&mut owner, "c1", json!({ "command": WAITS })).await;
    allowed(&mut owner, "c2", json!({ "command": "bash build.sh" })).await;
    let other = run(WAITS);
    there("begun").await;
    let build = run("bash build.sh");
    // It would have run by now, if it did not wait.
    for _ in 0..20 {
        asks_and_uses(&tenant, "read_file", json!({ "path": "build.sh" })).await;
    }
    assert!(!workspace.join("built").exists() && !build.is_finished());
    std::fs::write(workspace.join("go"), "").unwrap();
    soon(other).await.unwrap();
    let said = soon(build).await.unwrap();
    assert!(said.contains("nobody was asked whether it may"), "{said}");
    assert!(!workspace.join("built").exists() && !workspace.join("exchanged").exists(), "neither ran");

    // Nor is a file written while it runs.
    std::fs::write(workspace.join("build.sh"), "touch holds; until test -e enough; do sleep 0.02; done; cat notes.md").unwrap();
    std::fs::write(workspace.join("notes.md"), "before").unwrap();
    allowed(&mut owner, "c4", json!({ "command": "bash build.sh" })).await;
    let build = run("bash build.sh");
    there("holds").await;
    let write = json!({ "path": "notes.md", "content": "after" });
    let (plugin, asked) = (tenant.gateway.clone(), write.clone());
    let held = tokio::spawn(async move { plugin.decide("r", "t", "c5", "gatehouse__write_file", &asked).await });
    let question = owner.question().await;
    owner.decide(&question, "approve").await;
    assert_eq!(soon(held).await.unwrap().json()["allow"], true);
    let gateway = tenant.gateway.clone();
    let written = tokio::spawn(async move { gateway.use_tool("write_file", &write).await.status });
    for _ in 0..20 {
        asks_and_uses(&tenant, "read_file", json!({ "path": "notes.md" })).await;
    }
    std::fs::write(workspace.join("enough"), "").unwrap();
    assert_eq!(soon(build).await.unwrap(), "before");
    soon(written).await.unwrap();
    assert_eq!(std::fs::read_to_string(workspace.join("notes.md")).unwrap(), "after");

    // Exchanged while it runs, even if it is put back: it is told and audited.
    std::fs::write(workspace.join("build.sh"), "touch runs; until test -e further; do sleep 0.02; done; echo done").unwrap();
    std::fs::write(workspace.join("other.sh"), "echo other").unwrap();
    allowed(&mut owner, "c3", json!({ "command": "bash build.sh" })).await;
    let build = run("bash build.sh");
    there("runs").await;
    std::fs::rename(workspace.join("build.sh"), workspace.join("away")).unwrap();
    std::fs::rename(workspace.join("other.sh"), workspace.join("build.sh")).unwrap();
    std::fs::rename(workspace.join("away"), workspace.join("build.sh")).unwrap();
    std::fs::write(workspace.join("further"), "").unwrap();
    let said = soon(build).await.unwrap();
    assert!(said.starts_with("done\n[a file that this command runs was changed while it ran"), "{said}");
    assert_eq!(audited(&tenant).iter().filter(|line| line.starts_with("script_swapped ")).count(), 1);
    tenant.end().await;
    world.end().await;
}

#[tokio::test]
async fn a_secret_is_used_where_it_is_bound_and_shown_nowhere() {
    let world = World::start().await;
    let tenant = world.tenant("alice").await;
    let value = format!("Kirsch{}Baum-{}", 7, &service::random::token()[..12]);
    keep(&tenant, "db", &value, &["exec", "write_file"], &[]).await;
    keep(&tenant, "stripe_live", &format!("x{value}"), &[], &["api.stripe.com"]).await;
    assert_eq!(tenant.console(&Verb::Vault { what: VaultVerb::set("unbound", &format!("y{value}")) }).await["ok"], true);
    let mut browser = tenant.chat().await;

    let (names, _) = asks_and_uses(&tenant, "secret_names", json!({})).await;
    assert_eq!(names, "db: tools exec, write_file; hosts any\nstripe_live: tools any; hosts api.stripe.com");

    // As a variable in a command, as itself on standard input and in the environment; whatever comes back is without it.
    let length = value.len().to_string();
    let reply = browser.ask(r#"[[tool:exec {"command":"printf %s \"SECRET_REF(db)\" | wc -c; echo \"SECRET_REF(db)\""}]]"#).await;
    assert!(reply.contains(&length) && reply.contains("SECRET_REF(db)") && !reply.contains(&value), "{reply}");
    for arguments in [
        json!({ "command": "printf %s \"$TOKEN\" | wc -c; printf %s \"$TOKEN\"", "env": { "TOKEN": "SECRET_REF(db)" } }),
        json!({ "command": "tee copy | wc -c; base64 -w0 copy; rev copy | rev", "stdin": "SECRET_REF(db)" }),
    ] {
        let (said, _) = uses_with_a_yes(&tenant, &mut browser, "exec", arguments.clone()).await;
        assert!(said.starts_with(&length) && said.contains("SECRET_REF(db)") && !said.contains(&value), "{arguments}: {said}");
    }
    let history = browser.call("chat.history", json!({ "sessionKey": "main", "limit": 50 })).await.to_string();
    let sent: String = world.model.requests().iter().map(|request| request.body.to_string()).collect();
    for place in [history, sent, audited(&tenant).join("\n")] {
        assert!(!place.contains(&value));
    }

    // Not where it is not bound, not as nobody's, not a provider's key, not by another program's text.
    for (command, why) in [
        ("echo \"SECRET_REF(stripe_live)\"", "is not bound to the host"),
        ("echo \"SECRET_REF(unbound)\"", "no secret `unbound`"),
        ("echo \"SECRET_REF(provider.scripted)\"", "no secret `provider.scripted`"),
        ("echo \"SECRET_REF(nosuch)\"", "no secret `nosuch`"),
    ] {
        let (said, is_error) = uses_with_a_yes(&tenant, &mut browser, "exec", json!({ "command": command })).await;
        assert!(is_error && said.contains(why), "{command}: {said}");
    }
    let audited = audited(&tenant);
    assert_eq!(audited.iter().filter(|line| line.starts_with("secret_refused ")).count(), 4, "{audited:?}");
    assert_eq!(audited.iter().filter(|line| line.starts_with("secret_used ") && line.ends_with("exec db")).count(), 3, "{audited:?}");
    tenant.end().await;
    world.end().await;
}

#[tokio::test]
async fn a_secret_goes_into_a_file_only_when_a_person_says_yes() {
    let world = World::start().await;
    let tenant = world.tenant("alice").await;
    let value = format!("Kirsch{}Baum-{}", 7, &service::random::token()[..12]);
    keep(&tenant, "db", &value, &["write_file"], &[]).await;
    world.law(1, policy::Level::L3).await;
    let mut browser = tenant.chat().await;
    for (answer, content) in [("deny", None), ("approve", Some(format!("PASSWORD={value}\n")))] {
        let run = browser.say(r#"[[tool:write {"path":".env","content":"PASSWORD=SECRET_REF(db)\n"}]]"#).await;
        let question = browser.question().await;
        assert_eq!(question["rule"], "secret.file", "it asks at every level");
        browser.decide(&question, answer).await;
        browser.reply(&run).await;
        assert_eq!(std::fs::read_to_string(tenant.workspace().join(".env")).ok(), content);
    }
    let (said, _) = uses_with_a_yes(&tenant, &mut browser, "read_file", json!({ "path": ".env" })).await;
    assert!(said.contains("PASSWORD=SECRET_REF(db)") && !said.contains(&value), "{said}");
    tenant.end().await;
    world.end().await;
}

/// As [`asks_and_uses`]; should a person be asked, yes is the answer.
pub async fn uses_with_a_yes(tenant: &Tenant, browser: &mut Browser, tool: &str, arguments: Value) -> (String, bool) {
    let (plugin, name, asked) = (tenant.gateway.clone(), format!("gatehouse__{tool}"), arguments.clone());
    let id = format!("call_{}", &service::random::token()[..16]);
    let mut held = tokio::spawn(async move { plugin.decide("r", "t", &id, &name, &asked).await });
    let answer = loop {
        tokio::select! {
            answer = &mut held => break answer.unwrap().json(),
            question = browser.question() => drop(browser.decide(&question, "approve").await),
        }
    };
    assert_eq!(answer["allow"], true, "{tool} {arguments}: {answer}");
    uses(tenant, tool, arguments).await
}

#[tokio::test]
async fn a_command_ends_with_all_that_it_started() {
    let world = World::start().await;
    let tenant = world.tenant("alice").await;
    let workspace = tenant.workspace();
    let (_, is_error) = asks_and_uses(&tenant, "exec", json!({ "command": "sleep 1000 & echo $! > pid" })).await;
    assert!(!is_error);
    gone(&workspace.join("pid")).await;

    let gateway = tenant.gateway.clone();
    let line = json!({ "command": "echo before; sleep 1000 & echo $! > late; wait" });
    assert_eq!(gateway.decide("r", "t", "c2", "gatehouse__exec", &line).await.json()["allow"], true);
    let mut limited = line.clone();
    limited["timeoutSeconds"] = json!(30);
    let call = tokio::spawn(async move { gateway.use_tool("exec", &limited).await.json() });
    soon(async {
        while std::fs::read_to_string(workspace.join("late")).unwrap_or_default().is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let said = world.as_time_passes(1_000, call).await.unwrap()["result"].clone();
    assert_eq!(
        (said["content"][0]["text"].as_str(), said["isError"].as_bool()),
        (Some("before\n[ended after 30 s, with everything that it had started]"), Some(true))
    );
    gone(&workspace.join("late")).await;

    // Much is printed, little is shown: the beginning and the end.
    let (said, _) = asks_and_uses(&tenant, "exec", json!({ "command": "echo first; seq 1 300000; echo last" })).await;
    assert!(said.starts_with("first\n1\n2\n") && said.ends_with("300000\nlast") && said.len() < 60_000, "{} bytes", said.len());
    tenant.end().await;
    world.end().await;
}

/// Waits until the process whose number is in the file is no more.
async fn gone(file: &Path) {
    let pid = std::fs::read_to_string(file).unwrap().trim().to_owned();
    let runs = || std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "));
    soon(async {
        while runs() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_command_gets_a_clean_environment_and_not_the_agents_own_files() {
    let world = World::start().await;
    let tenant = world.tenant("alice").await;
    let (said, _) = asks_and_uses(&tenant, "exec", json!({ "command": "env | cut -d= -f1 | LC_ALL=C sort | tr '\\n' ' '; ulimit -c" })).await;
    let way_out = "ALL_PROXY CURL_CA_BUNDLE GIT_SSL_CAINFO HOME HTTPS_PROXY HTTP_PROXY LANG NODE_EXTRA_CA_CERTS NODE_USE_ENV_PROXY NO_PROXY";
    assert_eq!(said, format!("{way_out} PATH PWD REQUESTS_CA_BUNDLE SHLVL SSL_CERT_FILE TERM _ all_proxy http_proxy https_proxy no_proxy 0"));
    // What it is told of the way out can be used and is not told on.
    let (said, _) = asks_and_uses(&tenant, "exec", json!({ "command": "echo $HTTPS_PROXY; head -1 $SSL_CERT_FILE" })).await;
    assert!(said.contains("SECRET_REF(openclaw.forward-token)") && said.contains("BEGIN CERTIFICATE"), "{said}");
    let mut browser = tenant.chat().await;
    let key = tenant.settings.state_folder.join("vault.key");
    assert!(key.exists());
    let line = json!({ "command": format!("cat {}; echo x >> {}; ls / > listed; cat listed", key.display(), key.display()) });
    let (said, _) = uses_with_a_yes(&tenant, &mut browser, "exec", line).await;
    assert!(said.matches("Permission denied").count() == 2 && said.contains("proc"), "{said}");
    // The console's socket can be opened by its path, but its key cannot be read.
    let socket = tenant.settings.console_socket();
    for (key, code) in [("", "console_key_wrong"), ("guess ", "console_key_wrong")] {
        let mut stream = tokio::net::UnixStream::connect(&socket).await.unwrap();
        stream.write_all(format!("{key}{{\"verb\":\"owner-link\"}}\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert_eq!(serde_json::from_str::<Value>(&answer).unwrap()["code"], code);
    }
    let line = json!({ "command": format!("cat {}", socket.with_extension("key").display()) });
    let (said, _) = uses_with_a_yes(&tenant, &mut browser, "exec", line).await;
    assert!(said.contains("Permission denied"), "{said}");
    // Nor can anything be learnt from a process outside, or done to one.
    let pid = std::process::id();
    std::fs::write(tenant.workspace().join("probe.sh"), format!("cat /proc/{pid}/environ | wc -c; kill -0 {pid} || echo spared")).unwrap();
    let (said, _) = asks_and_uses(&tenant, "exec", json!({ "command": "bash probe.sh" })).await;
    assert!(said.contains("Permission denied") && said.contains("spared"), "{said}");
    tenant.end().await;
    world.end().await;
}

#[tokio::test]
async fn the_console_takes_verbs_and_nothing_else() {
    let world = World::start().await;
    let tenant = world.tenant("alice").await;
    let socket = tenant.settings.console_socket();
    let key = std::fs::read_to_string(socket.with_extension("key")).unwrap();
    let long = "x".repeat(33 * 1024 * 1024);
    for said in [&b"{"[..], b"[]", b"\xff\xfe", b"", b"{\"verb\":\"no-such\"}", b"{\"verb\":\"status\",\"more\":1}", long.as_bytes()] {
        let mut stream = tokio::net::UnixStream::connect(&socket).await.unwrap();
        // What is too long is not read to its end.
        let _ = stream.write_all(&[key.trim().as_bytes(), b" ", said, b"\n"].concat()).await;
        let mut answer = String::new();
        let read = stream.read_to_string(&mut answer).await;
        if said.len() == long.len() && read.is_err() {
            continue;
        }
        let code = serde_json::from_str::<Value>(&answer).unwrap()["code"].clone();
        assert_eq!(code, "body_malformed", "{}", String::from_utf8_lossy(&said[..said.len().min(40)]));
    }
    assert_eq!(tenant.console(&Verb::Status {}).await["ok"], true, "it still listens");
    tenant.end().await;
    world.end().await;
}

#[tokio::test]
async fn the_server_speaks_its_protocol_with_openclaw_alone() {
    let world = World::start().await;
    let tenant = world.tenant("alice").await;
    let speak = async |message: Value| tenant.gateway.speak_mcp(&message).await;
    let hello = speak(json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": { "protocolVersion": "2025-06-18", "capabilities": {} } })).await;
    assert_eq!((&hello.json()["result"]["protocolVersion"], &hello.json()["result"]["serverInfo"]["name"]), (&json!("2025-06-18"), &json!("gatehouse")));
    assert_eq!(speak(json!({ "jsonrpc": "2.0", "method": "notifications/initialized" })).await.status, 202);
    assert_eq!(speak(json!({ "jsonrpc": "2.0", "id": "p", "method": "ping" })).await.json(), json!({ "jsonrpc": "2.0", "id": "p", "result": {} }));
    let listed = speak(json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list" })).await.json();
    let names: Vec<&str> = listed["result"]["tools"].as_array().unwrap().iter().filter_map(|tool| tool["name"].as_str()).collect();
    assert_eq!(names, ["exec", "read_file", "write_file", "edit_file", "http_request", "ask_approval", "secret_names"]);
    for (message, code) in [
        (json!({ "jsonrpc": "2.0", "id": 1, "method": "resources/list" }), -32601),
        (json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": { "name": "nosuch" } }), -32602),
        (json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": { "name": "exec", "arguments": "ls" } }), -32602),
        (json!([]), -32600),
    ] {
        assert_eq!(speak(message.clone()).await.json()["error"]["code"], code, "{message}");
    }
    let call = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list" }).to_string();
    let (egress, json_type) = (tenant.agent.egress_addr(), ("content-type", "application/json"));
    for shown in ["Bearer guess".to_owned(), format!("Bearer {}", tenant.gateway.keys().proxy_token), "Bearer ".to_owned()] {
        let answer = request(egress, "POST", "/mcp", &[json_type, ("authorization", shown.as_str())], call.as_bytes()).await;
        assert_eq!((answer.status, answer.code().as_str()), (403, "tools_token_wrong"));
    }
    let token = format!("Bearer {}", tenant.gateway.keys().tools_token);
    let large = json!({ "jsonrpc": "2.0", "id": 1, "method": "x".repeat(2 * 1024 * 1024) }).to_string();
    for (body, code) in [(&b"{"[..], "body_malformed"), (b"\xff\xfe", "body_malformed"), (b"", "body_malformed"), (large.as_bytes(), "body_too_large")] {
        let answer = request(egress, "POST", "/mcp", &[json_type, ("authorization", token.as_str())], body).await;
        assert_eq!(answer.code(), code, "{}", String::from_utf8_lossy(&body[..body.len().min(40)]));
    }
    assert_eq!(request(egress, "GET", "/mcp", &[json_type], b"").await.status, 405);
    tenant.end().await;
    world.end().await;
}

/// As on an installed host: systemd starts the binary for each order, with the socket as its standard input.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the binaries"]
async fn a_unit_does_what_was_allowed_where_there_is_one() {
    let world = World::start().await;
    let mut tenant = world.tenant("alice").await;
    let value = format!("Kirsch{}Baum-{}", 7, &service::random::token()[..12]);
    keep(&tenant, "db", &value, &["exec"], &[]).await;
    let socket = world.folder().join("hands.sock");
    let listener = tokio::net::UnixListener::bind(&socket).unwrap();
    let (binary, folder) = (Processes::find().path("tenant-agent"), tenant.settings.openclaw_folder());
    let systemd = tokio::spawn(async move {
        loop {
            let stream = listener.accept().await.unwrap().0.into_std().unwrap();
            stream.set_nonblocking(false).unwrap();
            let mut unit = tokio::process::Command::new(&binary);
            unit.arg("hands").arg(&folder).stdin(std::os::fd::OwnedFd::from(stream)).stdout(std::process::Stdio::null());
            tokio::spawn(async move { unit.status().await });
        }
    });
    tenant.settings.hands = Some(socket);
    let tenant = tenant.restart().await;
    tenant.ready().await;

    assert_eq!(asks_and_uses(&tenant, "write_file", json!({ "path": "sub/a.md", "content": "one" })).await, ("Written.".to_owned(), false));
    assert_eq!(asks_and_uses(&tenant, "edit_file", json!({ "path": "sub/a.md", "oldText": "one", "newText": "two" })).await, ("Replaced.".to_owned(), false));
    assert_eq!(asks_and_uses(&tenant, "read_file", json!({ "path": "sub/a.md" })).await, ("two".to_owned(), false));
    let (said, is_error) = asks_and_uses(&tenant, "read_file", json!({ "path": "sub" })).await;
    assert!(is_error && said.contains("folder"), "{said}");
    let (said, _) =
        asks_and_uses(&tenant, "exec", json!({ "command": "printf %s \"SECRET_REF(db)\" | wc -c; echo \"SECRET_REF(db)\"; exit 4", "workdir": "sub" })).await;
    assert_eq!(said, format!("{}\nSECRET_REF(db)\n[exit code 4]", value.len()));
    // OpenClaw's own things are closed to it, and nothing outlives the order, nor whoever waits for it.
    let mut browser = tenant.chat().await;
    let state = tenant.settings.openclaw_folder().join("state");
    std::fs::create_dir_all(&state).unwrap();
    std::fs::write(state.join("conversation"), "x").unwrap();
    let (said, _) = uses_with_a_yes(&tenant, &mut browser, "exec", json!({ "command": "cat ../state/conversation" })).await;
    assert!(said.contains("Permission denied"), "{said}");
    let gateway = tenant.gateway.clone();
    let line = json!({ "command": "sleep 1000 & echo $! > pid; wait" });
    assert_eq!(gateway.decide("r", "t", "c7", "gatehouse__exec", &line).await.json()["allow"], true);
    let call = tokio::spawn(async move { gateway.use_tool("exec", &line).await });
    let pid = tenant.workspace().join("pid");
    soon(async {
        while std::fs::read_to_string(&pid).unwrap_or_default().is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    call.abort();
    gone(&pid).await;
    systemd.abort();
    tenant.end().await;
    world.end().await;
}
