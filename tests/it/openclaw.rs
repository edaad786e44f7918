//! Stories with the real OpenClaw, in a network namespace without a way out.
//!
//! The test starts itself again inside the namespace: `unshare -n` with only a loopback. GATEHOUSE_NODE and
//! GATEHOUSE_OPENCLAW say where the parts are; `tests/all` sets them.

use crate::secrets::{Canary, kept};
use axum::Router;
use serde_json::{Value, json};
use service::Clock;
use std::path::PathBuf;
use std::process::Command;
use tenant_agent::console::{VaultVerb, Verb};
use tenant_agent::gateway::openclaw::{self, Dialect, Home, Plan};
use tenant_agent::gateway::{CONTROL_USER, Program, TRUSTED_HEADER, USER_HEADER};
use tenant_agent::mail::Tls;
use tests::{Internet, Said, Tenant, World, free_port, soon};
use wire::fleet::GatewayState;

const INSIDE: &str = "GATEHOUSE_INSIDE";

/// Whether this process is the one inside; outside, runs the test `name` inside and asserts that it passed.
pub fn inside(name: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let this = std::env::current_exe().expect("a test knows itself");
    let status = Command::new("unshare")
        .args(["-n", "--", "sh", "-c", "ip link set lo up && exec \"$@\"", "sh"])
        .arg(this)
        .args(["--exact", name, "--ignored", "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1")
        .status()
        .expect("util-linux and iproute2 are installed");
    assert!(status.success(), "`{name}` failed inside the namespace; its output is above");
    false
}

pub fn program() -> Program {
    let of = |name: &str| PathBuf::from(std::env::var_os(name).unwrap_or_else(|| panic!("{name} is not set: tests/all installs the parts and sets it")));
    Program { node: of("GATEHOUSE_NODE"), openclaw: of("GATEHOUSE_OPENCLAW"), port: free_port() }
}

async fn world_with_openclaw() -> (World, Tenant) {
    let world = World::start_with(Clock::system()).await;
    let tenant = world.real_tenant("alice", program()).await;
    (world, tenant)
}

/// The call of a tool, and then a text, in a dialect; and what the second request must say of the result.
type Turn = (Dialect, Said, Said, &'static str);

fn turns() -> [Turn; 3] {
    let events = "text/event-stream";
    let item = r#"{"type":"function_call","id":"fc_1","call_id":"theirs","name":"read","arguments":"{\"path\":\"notes.md\"}","status":"completed"}"#;
    let message =
        r#"{"type":"message","id":"msg_1","role":"assistant","status":"completed","content":[{"type":"output_text","text":"All is well.","annotations":[]}]}"#;
    let usage = r#""usage":{"input_tokens":100,"input_tokens_details":{"cached_tokens":60},"output_tokens":7,"output_tokens_details":{"reasoning_tokens":0},"total_tokens":107}"#;
    let of_responses = |item: &str| {
        let begun = r#"data: {"type":"response.created","response":{"id":"resp_1","status":"in_progress","output":[]}}"#;
        let added = format!(
            r#"data: {{"type":"response.output_item.added","output_index":0,"item":{}}}"#,
            item.replace(r#""content":[{"type":"output_text","text":"All is well.","annotations":[]}]"#, r#""content":[]"#)
        );
        let done = format!(r#"data: {{"type":"response.output_item.done","output_index":0,"item":{item}}}"#);
        let completed = format!(r#"data: {{"type":"response.completed","response":{{"id":"resp_1","status":"completed","output":[{item}],{usage}}}}}"#);
        [begun, &added, &done, &completed].map(|event| format!("{event}\n\n")).concat()
    };
    let of_google = |part: &str| {
        format!(
            "data: {{\"candidates\":[{{\"content\":{{\"role\":\"model\",\"parts\":[{part}]}},\"finishReason\":\"STOP\"}}],\"usageMetadata\":{{\"promptTokenCount\":100,\"cachedContentTokenCount\":60,\"candidatesTokenCount\":7,\"totalTokenCount\":107}}}}\r\n\r\n"
        )
    };
    let of_ollama = |message: &str| {
        format!(
            "{{\"model\":\"fake-1\",\"message\":{message},\"done\":false}}\n{{\"model\":\"fake-1\",\"message\":{{\"role\":\"assistant\",\"content\":\"\"}},\"done\":true,\"done_reason\":\"stop\",\"prompt_eval_count\":100,\"prompt_eval_cached_count\":60,\"eval_count\":7}}\n"
        )
    };
    let lines = "application/x-ndjson";
    [
        (Dialect::OpenaiResponses, Said::stream(events, &of_responses(item)), Said::stream(events, &of_responses(message)), "function_call_output"),
        (
            Dialect::GoogleGenerativeAi,
            Said::stream(events, &of_google(r#"{"functionCall":{"name":"read","args":{"path":"notes.md"}}}"#)),
            Said::stream(events, &of_google(r#"{"text":"All is well."}"#)),
            "functionResponse",
        ),
        (
            Dialect::Ollama,
            Said::stream(lines, &of_ollama(r#"{"role":"assistant","content":"","tool_calls":[{"function":{"name":"read","arguments":{"path":"notes.md"}}}]}"#)),
            Said::stream(lines, &of_ollama(r#"{"role":"assistant","content":"All is well."}"#)),
            "tool_call_id",
        ),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs OpenClaw and root"]
async fn every_dialect_takes_a_tool_there_and_back() {
    if !inside("openclaw::every_dialect_takes_a_tool_there_and_back") {
        return;
    }
    let world = World::start_with(Clock::system()).await;
    for (n, (dialect, proposes, ends, result)) in turns().into_iter().enumerate() {
        let provider = world.provider().await;
        let tenant = world.real_tenant_of(&format!("tenant{n}"), program(), &provider, dialect).await;
        std::fs::write(tenant.workspace().join("notes.md"), "buy milk and bread").unwrap();
        let mut browser = tenant.chat().await;
        provider.says(proposes);
        provider.says(ends);
        assert_eq!(browser.ask("What do the notes say?").await, "All is well.", "{}: {:?}", dialect.name(), provider.asked());
        let asked = provider.asked();
        assert_eq!(asked.len(), 2, "{}", dialect.name());
        let body = &asked[1].body;
        assert!(body.contains(result) && body.contains("buy milk and bread") && !body.contains("theirs"), "{}: {body}", dialect.name());
        let usage = browser.call("usage.today", json!({})).await["payload"]["usage"].clone();
        for (field, expected) in [("calls", 2), ("partial", 0), ("estimated", 0), ("input_tokens", 200), ("cached_tokens", 120), ("output_tokens", 14)] {
            assert_eq!(usage[field], expected, "{} {field}: {usage}", dialect.name());
        }
        assert_eq!(tenant.console(&Verb::Status {}).await["frozen_sessions"], json!([]), "{}", dialect.name());
        tenant.end().await;
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs OpenClaw and root"]
async fn chat_tools_approval_and_metering() {
    if !inside("openclaw::chat_tools_approval_and_metering") {
        return;
    }
    let (world, tenant) = world_with_openclaw().await;
    std::fs::write(tenant.workspace().join("notes.md"), "buy milk and bread").unwrap();
    let mut browser = tenant.chat().await;

    let run = browser.say("Say hello and tell me what you can do.").await;
    browser.event("chat", |chat| chat["runId"] == run.as_str() && chat["state"] == "delta").await;
    assert!(browser.reply(&run).await.len() > 20);
    assert!(browser.ask("Read the file notes.md in the workspace.").await.contains("buy milk and bread"));

    let run = browser.say("Run the command: LD_PRELOAD= echo ran-$((6*7))").await;
    let question = browser.question().await;
    assert_eq!(question["rule"], "shell.environment");
    assert_eq!(browser.decide(&question, "approve").await["ok"], true);
    assert!(browser.reply(&run).await.contains("ran-42"), "the same call ran");
    let run = browser.say("Run the command: LD_PRELOAD= touch never").await;
    let question = browser.question().await;
    browser.decide(&question, "deny").await;
    browser.reply(&run).await;
    assert!(!tenant.workspace().join("never").exists());
    // OpenClaw reads more into a path than its letters; we ask about each such spelling.
    for (odd, path) in [
        (r#"[[tool:read {"path":"file:///etc/hostname"}]]"#, "file:///etc/hostname"),
        (r#"[[tool:read {"path":"@/etc/hostname"}]]"#, "@/etc/hostname"),
        (r#"[[tool:write {"path":"@AGENTS.md","content":"x"}]]"#, "@AGENTS.md"),
    ] {
        let run = browser.say(odd).await;
        // An earlier question may be told once more.
        let question = browser.event("approval", |asked| asked["state"] == "pending" && asked["details"].to_string().contains(path)).await;
        assert_eq!(question["rule"], "file.unreadable", "{odd}");
        browser.decide(&question, "deny").await;
        browser.reply(&run).await;
    }
    assert!(!tenant.workspace().join("AGENTS.md").exists());

    // What OpenClaw turns down by itself freezes nothing; ids that it respells are still known.
    let long = format!(r#"[[tool:write {{"content":"{}"}}]]"#, "long ".repeat(5_000));
    for odd in [
        r#"[[tool:nosuch {"a":1}]]"#,
        r#"[[tool:functions.nosuch {"a":1}]]"#,
        r#"[[tool:exec {"cmd":1}]]"#,
        r#"[[tool:exec {"command":["ls","-la"]}]]"#,
        r#"[[tool:read {"path":{}}]]"#,
        r#"[[tool:read {"path":"notes.md","limit":"abc"}]]"#,
        r#"[[tool:read {"path":"notes.md"}]] [[tool:read {"file":"notes.md","n":1.0}]]"#,
        r#"[[tool:Read {}]]"#,
        r#"[[tool:functions.read {"file":"größe 😀"}]]"#,
        r#"[[tool:edit {"path":"notes.md","edits":[{"old":"a"}]}]]"#,
        r#"[[tool:sessions_spawn {"task":"x","runtime":"bogus"}]]"#,
        &long,
        r#"[[id:call_X-1]] [[tool:read {"path":"notes.md"}]]"#,
        r#"[[id:functions.exec:0]] [[tool:read {"path":"notes.md"}]]"#,
        r#"[[id:call_X-1]] [[tool:read {"path":"notes.md"}]] [[tool:read {"path":"notes.md","limit":1}]]"#,
    ] {
        browser.ask(odd).await;
        assert_eq!(tenant.console(&Verb::Status {}).await["frozen_sessions"], json!([]), "{:.200}", odd);
    }
    assert_eq!(browser.ask("[[text:still here]]").await, "still here");

    // Stop ends the held call at once; the question stands, and a yes to it is still worth something.
    browser.say("Run the command: LD_PRELOAD= echo stopped-$((6*7))").await;
    let question = browser.question().await;
    browser.call("chat.abort", json!({ "sessionKey": "main" })).await;
    assert_eq!(browser.ask("[[text:after the stop]]").await, "after the stop");
    assert_eq!(browser.decide(&question, "approve").await["ok"], true);
    let came_back = browser.event("approval", |approval| approval["id"] == question["id"] && approval["outcome"].is_string()).await;
    assert_eq!(came_back["outcome"], "ok");

    let usage = browser.call("usage.today", json!({})).await["payload"]["usage"].clone();
    let counted = world.model.counted();
    assert_eq!(
        (usage["calls"].as_i64(), usage["partial"].as_i64(), usage["input_tokens"].as_i64()),
        (Some(counted.calls), Some(0), Some(counted.input)),
        "every call is counted, to the token"
    );
    soon(world.hub.wait_fleet(|fleet| fleet.tenants[0].usage_today.counters.calls == counted.calls)).await.unwrap();

    let config = std::fs::read_to_string(tenant.settings.openclaw_folder().join("openclaw.json")).unwrap();
    assert!(!config.contains(world.model_key()) && redact::find(&config).is_empty(), "OpenClaw's configuration holds no key");
    tenant.end().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs OpenClaw and root"]
async fn no_secret_reaches_its_memory_its_log_or_its_model() {
    if !inside("openclaw::no_secret_reaches_its_memory_its_log_or_its_model") {
        return;
    }
    let (world, tenant) = world_with_openclaw().await;
    let token = || service::random::token()[..24].to_owned();
    let canaries = [Canary::new("shop.db", format!("Rt7!{}", token())), Canary::new("keyfile", format!("{}\n{}", token(), token()))];
    for canary in &canaries {
        let what = VaultVerb::set(canary.name, &canary.value);
        assert_eq!(tenant.console(&Verb::Vault { what }).await["ok"], true);
    }
    let notes: String = canaries.iter().map(Canary::planted).collect();
    std::fs::write(tenant.workspace().join("notes.md"), &notes).unwrap();
    let mut browser = tenant.chat().await;
    browser.ask(&format!("The password of the shop is {}, keep it in mind.", canaries[0].value)).await;
    assert!(browser.ask("Read the file notes.md in the workspace.").await.contains("SECRET_REF(shop.db)"));
    let run = browser.say("Run the command: LD_PRELOAD= cat notes.md").await;
    let question = browser.question().await;
    browser.decide(&question, "approve").await;
    assert!(browser.reply(&run).await.contains("SECRET_REF(keyfile)"));
    // Nothing that a command says on the way, or that fails, either.
    let _ = browser.ask("Run the command: while read line; do echo $line; done < notes.md; cat notes.md >&2; exit 3").await;
    browser.call("chat.history", json!({ "sessionKey": "main", "limit": 100 })).await;

    let here = |bytes: &[u8]| canaries.iter().find_map(|canary| Some((canary.name, canary.tell(bytes)?)));
    assert_eq!(here(browser.heard.as_bytes()), None, "what the browser heard");
    for request in world.model.requests() {
        assert_eq!(here(request.body.to_string().as_bytes()), None, "a model request");
    }
    let (workspace, folder) = (tenant.workspace(), tenant.settings.state_folder.clone());
    tenant.end().await;
    for (file, bytes) in kept(&folder, Some(&workspace)) {
        assert_eq!(here(&bytes), None, "`{}`", file.display());
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs OpenClaw and root"]
async fn what_a_command_wants_from_outside_is_asked_for() {
    if !inside("openclaw::what_a_command_wants_from_outside_is_asked_for") {
        return;
    }
    let internet = Internet::default();
    internet.site("api.example.org", "93.184.216.34", Router::new().fallback(async || "hello from outside")).await;
    let mut world = World::start_with(Clock::system()).await;
    world.outside(internet.network());
    let tenant = world.real_tenant("alice", program()).await;
    let mut browser = tenant.chat().await;
    // Under the certificate of this host's authority, which its environment tells curl to believe.
    let told = browser.ask("Run the command: curl -sS https://api.example.org/news").await;
    assert!(told.contains("Ask the owner to allow api.example.org"), "{told}");
    let question = browser.question().await;
    assert_eq!(
        (&question["rule"], &question["details"][0]["value"]),
        (&json!("host.read"), &json!("api.example.org")),
        "what OpenClaw calls by itself asks nobody"
    );
    assert!(internet.asked().is_empty());
    assert_eq!(browser.decide(&question, "approve").await["ok"], true);
    let told = browser.ask("Run the command: curl -sS https://api.example.org/again").await;
    assert!(told.contains("hello from outside"), "{told}");
    // Past the proxy there is nothing here.
    let told = browser.ask("Run the command: curl -sS --noproxy '*' --max-time 5 https://api.example.org/past").await;
    assert!(!told.contains("hello"), "{told}");
    assert_eq!(tenant.console(&Verb::Status {}).await["frozen_sessions"], json!([]));
    tenant.end().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs OpenClaw and root"]
async fn its_assistant_asks_a_person_sends_a_request_and_writes_a_letter() {
    if !inside("openclaw::its_assistant_asks_a_person_sends_a_request_and_writes_a_letter") {
        return;
    }
    let internet = Internet::default();
    internet.site("api.example.org", "93.184.216.34", Router::new().fallback(async || "hello from outside")).await;
    let (mut world, password) = (World::start_with(Clock::system()).await, service::random::token());
    world.outside(internet.network());
    let mailbox = crate::mail::office(&mut world, &internet, &password, Tls::Implicit).await;
    mailbox.receive("From: Bert <bert@example.net>\nSubject: invoice\n\nPlease pay.\n");
    let tenant = world.real_tenant("alice", program()).await;
    crate::tools::keep(&tenant, "mail.office", &password, &[], &[crate::mail::HOST]).await;
    let mut browser = tenant.chat().await;

    let asks = r#"[[tool:ask_approval {"summary":"Write to Bert","what":"One mail","reason":"He asked"}]]"#;
    let run = browser.say(asks).await;
    let question = browser.question().await;
    assert_eq!(question["rule"], "person.asked");
    browser.decide(&question, "approve").await;
    assert!(browser.reply(&run).await.contains("allows nothing by itself"));

    let gets = r#"[[tool:http_request {"url":"https://api.example.org/news","headers":{"Accept":"text/plain"}}]]"#;
    let told = browser.ask(gets).await;
    assert!(told.contains("Ask the owner to allow api.example.org"), "{told}");
    let question = browser.question().await;
    browser.decide(&question, "approve").await;
    assert!(browser.ask(gets).await.contains("hello from outside"));

    assert!(browser.ask(r#"[[tool:read_mail {"action":"search","unread":true}]]"#).await.contains("invoice"));
    let run = browser.say(r#"[[tool:send_mail {"to":["bert@example.net"],"subject":"Re: invoice","body":"Paid."}]]"#).await;
    let question = browser.event("approval", |asked| asked["state"] == "pending" && asked["rule"] == "mail.send").await;
    browser.decide(&question, "approve").await;
    let told = browser.reply(&run).await;
    assert!(told.contains("Sent to one recipient"), "{told}");
    assert_eq!(mailbox.sent().len(), 1);
    assert_eq!(tenant.console(&Verb::Status {}).await["frozen_sessions"], json!([]));
    tenant.end().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs OpenClaw and root; takes over a minute"]
async fn a_late_yes_runs_the_same_call() {
    if !inside("openclaw::a_late_yes_runs_the_same_call") {
        return;
    }
    let (world, tenant) = world_with_openclaw().await;
    let mut browser = tenant.chat().await;
    let run = browser.say("Run the command: LD_PRELOAD= echo late-$((6*7))").await;
    let question = browser.question().await;
    // The hold ends by itself after a minute, and the model hears that the question stands.
    browser.reply(&run).await;
    assert_eq!(tenant.console(&Verb::Status {}).await["frozen_sessions"], json!([]), "the refusal came back in its own words");
    assert_eq!(browser.decide(&question, "approve").await["ok"], true);
    let came_back = browser.event("approval", |approval| approval["outcome"].is_string()).await;
    assert_eq!((&came_back["id"], came_back["outcome"].as_str()), (&question["id"], Some("ok")));
    let nudge = browser.event("chat", |chat| chat["runId"].as_str().is_some_and(|run| run.starts_with("nudge-")) && chat["state"] == "final").await;
    assert!(nudge.to_string().contains("late-42"), "{nudge}");
    assert_eq!(browser.ask("[[text:and on]]").await, "and on");
    tenant.end().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs OpenClaw and root"]
async fn a_broken_plugin_means_no_model_and_a_killed_gateway_comes_back() {
    if !inside("openclaw::a_broken_plugin_means_no_model_and_a_killed_gateway_comes_back") {
        return;
    }
    let (world, tenant) = world_with_openclaw().await;
    let mut browser = tenant.chat().await;
    assert_eq!(browser.ask("[[text:before]]").await, "before");
    let asked = world.model.counted().calls;

    let plugin = tenant.settings.openclaw_folder().join("plugin/gatehouse/index.js");
    std::fs::write(&plugin, "export default { this is not javascript").unwrap();
    kill_gateway(&tenant);
    tenant.gateway_is(GatewayState::Ungated).await;
    browser.event("gateway", |gateway| gateway["state"] == "ungated" && gateway["reason"] == "plugin_changed").await;
    let reply = browser.ask(r#"[[tool:exec {"command":"touch ungated"}]]"#).await;
    assert!(reply.contains("plugin_changed"), "{reply}");
    assert!(!tenant.workspace().join("ungated").exists());
    assert_eq!(world.model.counted().calls, asked, "no model was asked");
    let fleet = soon(world.hub.wait_fleet(|fleet| fleet.tenants[0].findings.iter().any(|finding| finding.code == "plugin_changed"))).await.unwrap();
    assert_eq!(fleet.tenants[0].gateway.state, GatewayState::Ungated, "and the operator sees why");

    assert_eq!(tenant.console(&Verb::RestorePlugin {}).await["ok"], true);
    tenant.ready().await;
    browser.event("gateway", |gateway| gateway["state"] == "ready").await;
    assert_eq!(browser.ask("[[text:after]]").await, "after");

    kill_gateway(&tenant);
    browser.event("gateway", |gateway| gateway["state"] != "ready").await;
    browser.event("gateway", |gateway| gateway["state"] == "ready").await;
    assert_eq!(browser.ask("[[text:again]]").await, "again");
    let history = browser.call("chat.history", json!({ "sessionKey": "main", "limit": 50 })).await;
    let texts = history["payload"]["messages"].to_string();
    assert!(texts.contains("before") && texts.contains("again"), "the conversation is whole");
    assert_eq!(tenant.console(&Verb::Status {}).await["audit_broken_at"], Value::Null);
    tenant.end().await;
    world.end().await;
}

/// OpenClaw as a process of the test's, so that its plugin is the test's, too: the agent calls it whole.
struct Beside {
    gateway: Option<tokio::process::Child>,
    program: Program,
    home: Home,
    environment: Vec<(String, String)>,
}

impl Beside {
    async fn start(world: &World, plugin: &str) -> (Tenant, Beside) {
        let program = program();
        let tenant = world.tenant_beside("alice", std::net::SocketAddr::from(([127, 0, 0, 1], program.port))).await;
        let home = Home { folder: tenant.settings.openclaw_folder(), is_shared: false };
        let plugin_socket = tenant.settings.plugin_socket();
        let tools = ["read", "exec", "write", "web_fetch", "message", "sessions_spawn", "session_status", "secret_names"].to_vec();
        let providers = &tenant.settings.providers;
        let plan = Plan { providers, model: &tenant.settings.model, egress: tenant.agent.egress_addr(), plugin_socket: &plugin_socket, tools, link: None };
        home.prepare(&openclaw::config(&home, &plan)).unwrap();
        let pair = |line: &str| line.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())).unwrap();
        let environment = tenant.gateway.keys().environment().lines().map(pair).collect();
        let mut beside = Beside { gateway: None, program, home, environment };
        beside.run(plugin).await;
        (tenant, beside)
    }

    /// Starts it anew with this plugin.
    async fn run(&mut self, plugin: &str) {
        if let Some(mut gateway) = self.gateway.take() {
            gateway.kill().await.unwrap();
        }
        std::fs::write(self.home.plugin().join("index.js"), plugin).unwrap();
        let mut command = tokio::process::Command::new(&self.program.node);
        command.arg(&self.program.openclaw).args(["gateway", "run", "--port", &self.program.port.to_string()]);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", self.home.home()).envs(self.environment.iter().cloned());
        command.env("OPENCLAW_STATE_DIR", self.home.folder.join("state")).env("OPENCLAW_CONFIG_PATH", self.home.config());
        command.envs([("OPENCLAW_DISABLE_BONJOUR", "1"), ("OPENCLAW_NO_RESPAWN", "1"), ("OPENCLAW_SKIP_CHANNELS", "1")]);
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.home.log()).unwrap();
        command.stdin(std::process::Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).kill_on_drop(true);
        self.gateway = Some(command.spawn().unwrap());
    }

    fn skip(&self, tools: &[&str], elsewhere: bool) {
        std::fs::write(self.home.folder.join("skips"), format!("{}{}", if elsewhere { "!" } else { "" }, tools.join(" "))).unwrap();
    }
}

/// Our plugin with one fault put into it: before some tools it does not ask, as a hook that OpenClaw skips would not. Which
/// tools is said in a file; with a mark before them it asks everywhere but in a person's conversation.
fn skipping(home: &str) -> String {
    let ours = openclaw::PLUGIN_FILES[0].1;
    let faulty = ours.replace(
        "const decide = async (event, ctx) => {",
        &format!(
            "const skips = (event, ctx) => {{ try {{ const said = fs.readFileSync('{home}/skips', 'utf8'); \
             return said.replace('!', '').split(' ').includes(event.toolName) && (!said.startsWith('!') || ctx.sessionKey === 'agent:main:main'); }} catch {{ return false; }} }};\n\
             const decide = async (event, ctx) => {{ if (skips(event, ctx)) return undefined;"
        ),
    );
    assert_ne!(faulty, ours);
    format!("import fs from \"node:fs\";\n{faulty}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs OpenClaw and root"]
async fn a_surface_that_skips_the_gate_is_found_by_its_canary() {
    if !inside("openclaw::a_surface_that_skips_the_gate_is_found_by_its_canary") {
        return;
    }
    let world = World::start_with(Clock::system()).await;
    let folder = world.folder().join("alice/openclaw");
    let (tenant, beside) = Beside::start(&world, &skipping(folder.to_str().unwrap())).await;
    tenant.ready().await;
    let surfaces = tenant.console(&Verb::Status {}).await["canaries"]["surfaces"].clone();
    for (surface, outcome) in surfaces.as_object().unwrap() {
        let expected = if ["browser", "cron", "nodes"].contains(&surface.as_str()) { "off" } else { "passed" };
        assert_eq!(outcome, expected, "{surface}");
    }
    assert_eq!(surfaces.as_object().unwrap().len(), 15);
    for (tool, found) in [
        ("gatehouse__exec", &["exec unasked"][..]),
        ("gatehouse__secret_names", &["mcp unasked"]),
        ("gatehouse__write_file", &["file_write unasked"]),
        ("read", &["file_read unasked", "subagent_tool unasked"]),
        ("web_fetch", &["web_fetch unasked"]),
        ("message", &["message unasked"]),
        ("sessions_spawn", &["subagent_spawn unasked", "subagent_tool unasked"]),
        ("gatehouse_canary", &["control ran", "plugin_tool ran", "skill ran"]),
    ] {
        beside.skip(&[tool], false);
        let answer = tenant.console(&Verb::Canaries { now: true }).await;
        let surfaces = answer["canaries"]["surfaces"].as_object().unwrap().clone();
        let faults: Vec<String> = surfaces
            .iter()
            .filter(|(_, outcome)| !["passed", "off"].contains(&outcome.as_str().unwrap()))
            .map(|(surface, outcome)| format!("{surface} {}", outcome.as_str().unwrap()))
            .collect();
        assert_eq!(faults, found, "{tool}");
        assert_eq!(answer["gateway"], json!({ "state": "ungated", "reason": "canary_failed" }), "{tool}");
    }
    beside.skip(&[], false);
    assert_eq!(tenant.console(&Verb::Canaries { now: true }).await["gateway"]["state"], "ready");
    assert_eq!(world.model.counted().calls, 0, "nothing of it went to a provider");
    drop(beside);
    tenant.end().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs OpenClaw and root"]
async fn what_skips_the_gate_in_a_conversation_is_frozen_before_its_result_goes_out() {
    if !inside("openclaw::what_skips_the_gate_in_a_conversation_is_frozen_before_its_result_goes_out") {
        return;
    }
    let world = World::start_with(Clock::system()).await;
    let folder = world.folder().join("alice/openclaw");
    let (tenant, beside) = Beside::start(&world, &skipping(folder.to_str().unwrap())).await;
    tenant.ready().await;
    let mut browser = tenant.chat().await;
    std::fs::write(tenant.workspace().join("notes.md"), "buy milk").unwrap();
    for (tool, arguments) in [
        ("read", r#"{"path":"notes.md"}"#),
        ("gatehouse__exec", r#"{"command":"touch ungated"}"#),
        ("gatehouse__write_file", r#"{"path":"ungated","content":"x"}"#),
        ("gatehouse__secret_names", "{}"),
        ("web_fetch", r#"{"url":"https://example.org/"}"#),
        ("message", r#"{"action":"send","target":"somebody","message":"hello"}"#),
        ("sessions_spawn", r#"{"task":"[[text:I am here]]"}"#),
    ] {
        // Their canaries ask, so that they find nothing.
        beside.skip(&[tool], true);
        assert_eq!(tenant.console(&Verb::Canaries { now: true }).await["gateway"]["state"], "ready", "{tool}");
        let asked = world.model.counted().calls;
        // Two calls in one answer: what is lost is one answer's calls.
        let reply = browser.ask(&format!("[[tool:{tool} {arguments}]] [[tool:{tool} {arguments}]]")).await;
        assert!(reply.contains("session_frozen"), "{tool}: {reply}");
        assert_eq!(world.model.counted().calls, asked + 1, "{tool}: nothing went out after the answer that proposed it");
        assert!(browser.ask("[[text:and now?]]").await.contains("session_frozen"), "{tool}");
        assert_eq!(world.model.counted().calls, asked + 1, "{tool}: nor for anything else");
        assert!(!tenant.workspace().join("ungated").exists(), "{tool}: our own tools have a gate of their own");
        beside.skip(&[], true);
        let frozen = tenant.console(&Verb::Status {}).await["frozen_sessions"].to_string();
        assert_eq!(frozen.contains(":subagent:"), tool == "sessions_spawn", "{tool}: whoever it made without asking gets no model either");
        assert_eq!(tenant.console(&Verb::Unfreeze { session: "agent:main:main".to_owned() }).await["ok"], true);
        // What became of a sub-assistant may come in between.
        assert!(!browser.ask("[[text:on we go]]").await.contains("session_frozen"), "{tool}");
    }
    // One that was allowed speaks, and is known from then on.
    let run = browser.say(r#"[[tool:sessions_spawn {"task":"[[text:allowed]]"}]]"#).await;
    browser.reply(&run).await;
    let asked = || {
        world
            .model
            .requests()
            .iter()
            .any(|request| request.body["messages"].to_string().contains("[[text:allowed]]") && request.body.to_string().contains("ubagent"))
    };
    soon(async {
        while !asked() {
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
    })
    .await;
    drop(beside);
    tenant.end().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs OpenClaw and root"]
async fn a_plugin_that_is_gone_broken_outdated_or_replaced_lets_nothing_run() {
    if !inside("openclaw::a_plugin_that_is_gone_broken_outdated_or_replaced_lets_nothing_run") {
        return;
    }
    let world = World::start_with(Clock::system()).await;
    let ours = openclaw::PLUGIN_FILES[0].1;
    // The agent cannot look at the files of a gateway that somebody else runs, so nothing but what the gateway does counts.
    let (tenant, mut beside) = Beside::start(&world, ours).await;
    tenant.ready().await;
    let mut browser = tenant.chat().await;
    assert_eq!(browser.ask("[[text:before]]").await, "before");
    let asked = world.model.counted().calls;
    for (name, plugin, reason) in [
        ("deleted", None, "plugin_not_loaded"),
        ("throwing", Some("export default { id: 'gatehouse', register() { throw new Error('no'); } };".to_owned()), "plugin_not_loaded"),
        ("broken", Some(format!("{ours}\n}}}} this is not javascript")), "plugin_not_loaded"),
        ("of another version", Some(ours.replace("const VERSION = \"2\"", "const VERSION = \"1\"")), "canary_unanswered"),
        ("one that says yes", Some("export default { id: 'gatehouse', register(api) { api.registerTrustedToolPolicy({ id: 'gatehouse', description: 'yes', evaluate: async () => undefined }); } };".to_owned()), "canary_unanswered"),
        ("one that announces and does not ask", Some(ours.replace("const decide = async (event, ctx) => {", "const decide = async () => { return undefined;")), "canary_failed"),
    ] {
        beside.run(plugin.as_deref().unwrap_or("")).await;
        if plugin.is_none() {
            std::fs::remove_file(beside.home.plugin().join("index.js")).unwrap();
        }
        browser.event("gateway", |gateway| gateway["state"] != "ready" && gateway["state"] != "ungated").await;
        let gateway = browser.event("gateway", |gateway| gateway["state"] == "ungated").await;
        assert_eq!(gateway["reason"], reason, "{name}");
        for directive in [r#"[[tool:read {"path":"notes.md"}]]"#, r#"[[tool:gatehouse__exec {"command":"touch ungated"}]]"#] {
            let reply = browser.ask(directive).await;
            assert!(reply.contains(reason), "{name}: {reply}");
        }
        assert!(!tenant.workspace().join("ungated").exists(), "{name}");
        assert_eq!(world.model.counted().calls, asked, "{name}: no model was asked");
    }
    beside.run(ours).await;
    tenant.ready().await;
    browser.event("gateway", |gateway| gateway["state"] == "ready").await;
    assert_eq!(browser.ask("[[text:after]]").await, "after");
    drop(beside);
    tenant.end().await;
    world.end().await;
}

/// OpenClaw in a network namespace of its own: one link, whose only other end is the agent.
struct Apart {
    name: String,
    gateway: Option<tokio::process::Child>,
}

const AGENT_END: &str = "10.77.0.1";
const GATEWAY_END: &str = "10.77.0.2";

impl Apart {
    fn new() -> Apart {
        let apart = Apart { name: format!("gatehouse-{}", std::process::id()), gateway: None };
        let name = &apart.name;
        for line in [
            format!("ip netns add {name}"),
            "ip link add agent0 type veth peer name gateway0".to_owned(),
            format!("ip link set gateway0 netns {name}"),
            format!("ip addr add {AGENT_END}/30 dev agent0"),
            "ip link set agent0 up".to_owned(),
            format!("ip -n {name} addr add {GATEWAY_END}/30 dev gateway0"),
            format!("ip -n {name} link set gateway0 up"),
            format!("ip -n {name} link set lo up"),
        ] {
            let mut words = line.split(' ');
            let status = Command::new(words.next().unwrap()).args(words).status().expect("iproute2 is installed");
            assert!(status.success(), "{line}");
        }
        apart
    }

    fn exec(&self, program: &std::path::Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        drop(self.gateway.take());
        let _ = Command::new("sh").args(["-c", &format!("ip netns pids {0} | xargs -r kill -9; ip netns del {0}", self.name)]).status();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs OpenClaw and root"]
async fn the_seam_fits_a_gateway_behind_a_link_of_its_own() {
    if !inside("openclaw::the_seam_fits_a_gateway_behind_a_link_of_its_own") {
        return;
    }
    let mut apart = Apart::new();
    let program = program();
    let address = format!("{GATEWAY_END}:{}", program.port).parse().unwrap();
    let world = World::start_with(Clock::system()).await;
    let tenant = world.tenant_over_link("alice", format!("{AGENT_END}:0").parse().unwrap(), address).await;
    std::fs::write(tenant.workspace().join("notes.md"), "buy milk").unwrap();

    // As a unit of its own would be set up.
    let home = Home { folder: tenant.settings.openclaw_folder(), is_shared: false };
    let plugin_socket = tenant.settings.plugin_socket();
    let plan = Plan {
        providers: &tenant.settings.providers,
        model: &tenant.settings.model,
        egress: tenant.agent.egress_addr(),
        plugin_socket: &plugin_socket,
        tools: vec!["read", "exec"],
        link: Some(GATEWAY_END.parse().unwrap()),
    };
    let config = openclaw::config(&home, &plan);
    home.prepare(&config).unwrap();
    let mut command = tokio::process::Command::from(apart.exec(&program.node));
    command.arg(&program.openclaw).args(["gateway", "run", "--port", &program.port.to_string()]);
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", home.folder.join("home"));
    command.env("OPENCLAW_STATE_DIR", home.folder.join("state")).env("OPENCLAW_CONFIG_PATH", home.config());
    for line in tenant.gateway.keys().environment().lines().chain(["OPENCLAW_DISABLE_BONJOUR=1", "OPENCLAW_NO_RESPAWN=1", "OPENCLAW_SKIP_CHANNELS=1"]) {
        let (name, value) = line.split_once('=').unwrap();
        // It takes either a token or an address for a proof, and says so.
        if name != "OPENCLAW_GATEWAY_TOKEN" {
            command.env(name, value);
        }
    }
    let log = std::fs::File::create(home.log()).unwrap();
    command.stdin(std::process::Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).kill_on_drop(true);
    apart.gateway = Some(command.spawn().unwrap());

    tenant.ready().await;
    let mut browser = tenant.chat().await;
    assert!(browser.ask("Read the file notes.md in the workspace.").await.contains("buy milk"));
    let run = browser.say("Run the command: LD_PRELOAD= ip route | wc -l").await;
    let question = browser.question().await;
    browser.decide(&question, "approve").await;
    assert!(browser.reply(&run).await.contains('1'), "one route, to the agent");
    assert_eq!(tenant.console(&Verb::Status {}).await["frozen_sessions"], json!([]));

    // What runs beside OpenClaw can send the same headers, and gets nothing by them.
    let forge = format!(
        "require('http').get({{host:'127.0.0.1',port:{},headers:{{connection:'Upgrade',upgrade:'websocket','sec-websocket-version':'13','sec-websocket-key':'AAAAAAAAAAAAAAAAAAAAAA==','{USER_HEADER}':'{CONTROL_USER}','{TRUSTED_HEADER}':'1','x-forwarded-for':'203.0.113.9'}}}},r=>console.log(r.statusCode)).on('upgrade',()=>console.log('upgraded')).on('close',()=>process.exit())",
        program.port
    );
    let forged = apart.exec(&program.node).args(["-e", &forge]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&forged.stdout).trim(), "403");
    drop(apart);
    tenant.end().await;
    world.end().await;
}

fn kill_gateway(tenant: &Tenant) {
    let pid = tenant.agent.gateway_pid().expect("OpenClaw is our child");
    assert!(Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs OpenClaw and root"]
async fn a_template_tells_its_task_once_and_a_pause_holds_the_assistant() {
    if !inside("openclaw::a_template_tells_its_task_once_and_a_pause_holds_the_assistant") {
        return;
    }
    let (world, tenant) = world_with_openclaw().await;
    let mut browser = tenant.chat().await;
    let task = "[[tool:write {\\\"path\\\":\\\"report.md\\\",\\\"content\\\":\\\"all is well\\\"}]]";
    let both = |text: &str| format!("{{ de = \"{text}\", en = \"{text}\" }}");
    let text = format!(
        "id = \"bakery\"\ntitle = {t}\nabout = {t}\n[[step]]\nid = \"oven\"\ntitle = {t}\n[[step.file]]\npath = {}\ntext = {t}\n[[step]]\nid = \"report\"\ntitle = {t}\nask = {}\nexpects = {{ de = [\"report.md\"], en = [\"report.md\"] }}\n",
        both("oven.md"),
        both(task),
        t = both("Bread"),
    );
    world.law_with(1, |content| content.workflows = vec![policy::bundle::Named { name: "workflows/bakery.toml".into(), text }]).await;
    assert_eq!(browser.post("/api/first-hour", json!({ "template": "bakery", "lang": "en" })).await.status, 204);
    let steps = async |browser: &tests::Browser| {
        let run = browser.get("/api/first-hour").await.json()["run"].clone();
        run["steps"].as_array().unwrap().iter().map(|step| step["state"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    soon(async {
        while steps(&browser).await != ["done", "done"] {
            if steps(&browser).await.contains(&"failed".to_owned()) {
                panic!("{}", browser.call("chat.history", json!({ "sessionKey": "main", "limit": 50 })).await);
            }
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
    })
    .await;
    assert_eq!(std::fs::read_to_string(tenant.workspace().join("report.md")).unwrap(), "all is well");
    assert_eq!(std::fs::read_to_string(tenant.workspace().join("oven.md")).unwrap(), "Bread");
    let history = browser.call("chat.history", json!({ "sessionKey": "main", "limit": 50 })).await;
    let told = history["payload"]["messages"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|message| message["idempotencyKey"].as_str().is_some_and(|key| key.starts_with("first-hour-")));
    assert_eq!(told.count(), 1, "{history}");

    assert_eq!(tenant.console(&Verb::Pause { assistant: None }).await["ok"], true);
    let asked = world.model.requests().len();
    let refused = browser.call("chat.send", json!({ "sessionKey": "main", "message": "hello", "idempotencyKey": "paused" })).await;
    assert_eq!(refused["error"]["code"], "assistant_paused");
    assert_eq!(world.model.requests().len(), asked);
    assert_eq!(tenant.console(&Verb::Resume { assistant: None }).await["ok"], true);
    browser.ask("[[text:hello]]").await;
    tenant.end().await;
    world.end().await;
}
