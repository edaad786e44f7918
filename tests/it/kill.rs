//! Stories of kill -9: the real binaries, ended in the middle of things. Whatever was acknowledged is still true afterwards.

use serde_json::{Value, json};
use service::Stop;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tests::{Browser, FakeGateway, Keys, Processes, free_port, post_json, request, soon};
use tokio::process::{Child, Command};

/// A hub and an agent as processes, with a fake gateway and the scripted model in this one.
struct Machines {
    folder: PathBuf,
    binaries: Processes,
    operator: u16,
    origin: String,
    hub: Child,
    agent: Child,
    gateway: FakeGateway,
    model: hub::demo::model::ScriptedModel,
    stop: Stop,
}

impl Machines {
    async fn start() -> Machines {
        let folder = std::env::temp_dir().join(format!("gatehouse-kill-{}", &service::random::token()[..12]));
        let binaries = Processes::find();
        let stop = Stop::default();
        let gateway = FakeGateway::start(Keys::draw(), stop.clone()).await;
        let key = service::random::token();
        let model = hub::demo::model::ScriptedModel::start("127.0.0.1:0".parse().unwrap(), service::SecretString::new(key.clone()), 0, stop.clone()).unwrap();
        let (public, operator, tenant, egress) = (free_port(), free_port(), free_port(), free_port());
        let origin = format!("http://alice.localhost:{tenant}");
        for name in ["hub", "agent"] {
            service::config::private_folder(&folder.join(name)).unwrap();
        }
        service::config::write_private(&folder.join("gateway.env"), gateway.keys().environment().as_bytes()).unwrap();
        let state = |name: &str| folder.join(name).display().to_string();
        std::fs::write(
            folder.join("hub.toml"),
            format!("state_folder = \"{}\"\norigin = \"http://hub.localhost:{operator}\"\n[listen]\npublic = \"127.0.0.1:{public}\"\noperator = \"127.0.0.1:{operator}\"\n", state("hub")),
        )
        .unwrap();
        std::fs::write(
            folder.join("agent.toml"),
            format!(
                "state_folder = \"{}\"\norigin = \"{origin}\"\nmodel = \"scripted/scripted-1\"\n[listen]\ntenant = \"127.0.0.1:{tenant}\"\negress = \"127.0.0.1:{egress}\"\n\
                 [hub]\nurl = \"http://127.0.0.1:{public}\"\n[gateway]\nmode = \"attach\"\naddress = \"{}\"\nenvironment = \"{}\"\n\
                 [provider.scripted]\ndialect = \"openai-completions\"\nurl = \"http://{}/v1\"\nmodels = [\"scripted-1\"]\n",
                state("agent"),
                gateway.address(),
                folder.join("gateway.env").display(),
                model.addr(),
            ),
        )
        .unwrap();
        let hub = binaries.spawn("hub", &folder.join("hub.toml"), &["serve"]);
        binaries.listening(operator).await;
        let added = binaries.facts("hub", &folder.join("hub.toml"), &["tenant", "add", "alice", "--url", &origin], "").await;
        let token = added["token"].as_str().expect("a token").to_owned();
        assert_eq!(binaries.facts("tenant-agent", &folder.join("agent.toml"), &["enrol"], &token).await["ok"], true);
        let agent = binaries.spawn("tenant-agent", &folder.join("agent.toml"), &["run"]);
        binaries.listening(tenant).await;
        let machines = Machines { folder, binaries, operator, origin, hub, agent, gateway, model, stop };
        machines.gateway.meet(
            format!("127.0.0.1:{egress}").parse().unwrap(),
            machines.folder.join("agent/run/plugin.sock"),
            machines.folder.join("agent/openclaw/workspace"),
        );
        assert_eq!(machines.agent_says(&["vault", "set", "provider.scripted"], &key).await["ok"], true);
        machines.ready().await;
        machines
    }

    async fn agent_says(&self, arguments: &[&str], input: &str) -> Value {
        self.binaries.facts("tenant-agent", &self.folder.join("agent.toml"), arguments, input).await
    }

    async fn ready(&self) {
        soon(async {
            while self.agent_says(&["status"], "").await["gateway"]["state"] != "ready" {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        })
        .await;
    }

    async fn owner(&self) -> Browser {
        let link = self.agent_says(&["owner-link"], "").await;
        let token = link["link"].as_str().and_then(|link| link.split_once('#')).expect("a link").1.to_owned();
        let mut browser = self.browser();
        let answer = browser.enter("/auth/first", json!({ "token": token, "name": "Owner", "password": "correct horse battery", "lang": "en" })).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        browser
    }

    fn browser(&self) -> Browser {
        let port = self.origin.rsplit(':').next().unwrap().parse::<u16>().unwrap();
        Browser::new(([127, 0, 0, 1], port).into(), &self.origin)
    }

    async fn kill_agent(&mut self) {
        self.agent.kill().await.unwrap();
        self.agent = self.binaries.spawn("tenant-agent", &self.folder.join("agent.toml"), &["run"]);
        self.binaries.listening(self.origin.rsplit(':').next().unwrap().parse().unwrap()).await;
        self.ready().await;
    }

    /// The fleet as an operator sees it.
    async fn fleet(&self) -> Value {
        let password = self.binaries.facts("hub", &self.folder.join("hub.toml"), &["operator-password"], "").await;
        let (address, host) = (([127, 0, 0, 1], self.operator).into(), format!("hub.localhost:{}", self.operator));
        let origin = format!("http://{host}");
        let login = post_json(address, "/auth/login", &[("host", &host), ("origin", &origin)], &json!({ "password": password["password"] })).await;
        assert_eq!(login.status, 200, "{}", login.text());
        let cookie = login.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
        let again = post_json(address, "/auth/login", &[("host", &host), ("origin", &origin)], &json!({ "password": password["password"] })).await;
        assert_eq!(again.code(), "login_wrong", "the password works once");
        request(address, "GET", "/api/fleet", &[("host", &host), ("cookie", &cookie)], b"").await.json()
    }

    async fn end(mut self) {
        self.stop.now();
        self.agent.kill().await.unwrap();
        self.hub.kill().await.unwrap();
        std::fs::remove_dir_all(&self.folder).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the binaries"]
async fn a_killed_agent_forgets_nothing() {
    let mut machines = Machines::start().await;
    let mut browser = machines.owner().await;
    browser.open().await.unwrap();
    browser.ask("[[text:one]]").await;
    browser.say(r#"[[tool:exec {"command":"uname"}]]"#).await;
    let question = browser.question().await;
    let usage = browser.call("usage.today", json!({})).await["payload"]["usage"].clone();
    machines.kill_agent().await;

    let hello = browser.open().await.unwrap();
    assert_eq!(hello["approvals"][0]["id"], question["id"], "the question stands");
    assert_eq!(hello["usage"]["input_tokens"], usage["input_tokens"], "and so does the count");
    assert_eq!(browser.decide(&question, "approve").await["ok"], true);
    machines.kill_agent().await;
    browser.open().await.unwrap();
    browser.event("chat", |chat| chat["state"] == "final" && chat["runId"].as_str().is_some_and(|run| run.starts_with("nudge-"))).await;
    assert_eq!(machines.gateway.executed(), [r#"exec {"command":"uname"}"#], "the grant outlived its agent and was used once");
    assert_eq!(machines.agent_says(&["status"], "").await["audit_broken_at"], Value::Null);
    machines.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the binaries"]
async fn a_killed_hub_is_not_missed_and_counts_nothing_twice() {
    let mut machines = Machines::start().await;
    let mut browser = machines.owner().await;
    browser.open().await.unwrap();
    browser.ask("[[text:one]]").await;
    machines.hub.kill().await.unwrap();
    browser.ask("[[text:two]]").await;
    let run = browser.say(r#"[[tool:exec {"command":"uname"}]]"#).await;
    let question = browser.question().await;
    browser.decide(&question, "approve").await;
    browser.reply(&run).await;
    assert_eq!(machines.gateway.executed().len(), 1, "chat and approvals work without the hub");
    machines.hub = machines.binaries.spawn("hub", &machines.folder.join("hub.toml"), &["serve"]);
    machines.binaries.listening(machines.operator).await;
    let counted = machines.model.counted();
    let fleet = soon(async {
        loop {
            let fleet = machines.fleet().await;
            if fleet["tenants"][0]["usage_today"]["calls"] == counted.calls {
                return fleet;
            }
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
    })
    .await;
    assert_eq!(fleet["tenants"][0]["usage_today"]["input_tokens"], counted.input);
    assert_eq!(fleet["tenants"][0]["presence"], "online");
    machines.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the binaries"]
async fn wrong_configuration_is_said_all_at_once() {
    let binaries = Processes::find();
    let path = std::env::temp_dir().join(format!("gatehouse-wrong-{}.toml", service::random::token()));
    std::fs::write(&path, "origin = \"x\"\ncolour = 1\n").unwrap();
    for (binary, command) in [("tenant-agent", "run"), ("hub", "serve")] {
        let output = Command::new(binaries.path(binary)).args([command, "--config"]).arg(&path).stdin(Stdio::null()).output().await.unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(78), "{binary}: {said}");
        for part in ["`origin`", "`colour` is no key"] {
            assert!(said.contains(part), "{binary} does not name {part}: {said}");
        }
    }
    let missing = Command::new(binaries.path("tenant-agent")).args(["run", "--config"]).arg(Path::new("/nonexistent.toml")).output().await.unwrap();
    assert_eq!(missing.status.code(), Some(78));
    std::fs::remove_file(path).unwrap();
}
