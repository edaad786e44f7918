//! A hub and an agent as processes of their own, to be killed, with a fake gateway and the scripted model in this one.

use crate::browser::Browser;
use crate::company::{BUNDLE_KEY, Company};
use crate::gateway::{FakeGateway, Keys};
use crate::http::{post_json, request};
use crate::processes::Processes;
use crate::world::{PASSWORD, free_port, soon};
use hub::demo::model::ScriptedModel;
use serde_json::{Value, json};
use service::{Clock, SecretString, Stop};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;
use tokio::process::Child;

pub struct Machines {
    folder: PathBuf,
    binaries: Processes,
    operator: u16,
    egress: SocketAddr,
    origin: String,
    hub: Child,
    agent: Child,
    pub gateway: FakeGateway,
    pub model: ScriptedModel,
    pub company: Company,
    stop: Stop,
}

/// What an agent gets that is not as usual.
#[derive(Default)]
pub struct Fittings {
    /// More sections of `agent.toml`.
    pub settings: String,
    /// The one core that the agent may run on.
    pub core: Option<u32>,
}

impl Machines {
    pub async fn start() -> Machines {
        Machines::start_with(Fittings::default()).await
    }

    /// With everything that they write in this folder.
    pub async fn start_in(folder: PathBuf) -> Machines {
        Machines::start_so(folder, Fittings::default()).await
    }

    pub async fn start_with(fittings: Fittings) -> Machines {
        Machines::start_so(std::env::temp_dir().join(format!("gatehouse-kill-{}", &service::random::token()[..12])), fittings).await
    }

    async fn start_so(folder: PathBuf, fittings: Fittings) -> Machines {
        let binaries = Processes::find().pinned("tenant-agent", fittings.core);
        let stop = Stop::default();
        let gateway = FakeGateway::start(Keys::draw(), stop.clone()).await;
        let key = service::random::token();
        let model = ScriptedModel::start("127.0.0.1:0".parse().unwrap(), SecretString::new(key.clone()), 0, stop.clone()).unwrap();
        let [public, operator, tenant, egress, proxy] = std::array::from_fn(|_| free_port());
        let origin = format!("http://alice.localhost:{tenant}");
        for name in ["hub", "agent"] {
            service::config::private_folder(&folder.join(name)).unwrap();
        }
        service::config::write_private(&folder.join("gateway.env"), gateway.keys().environment().as_bytes()).unwrap();
        let company = Company::at(Clock::system().wall_ms());
        let keys: Vec<String> = Company::roots().keys.iter().map(|key| format!("\"{key}\"")).collect();
        let policy = format!("[policy]\nfleet = \"{}\"\nroots = [{}]\n", company.fleet, keys.join(", "));
        let state = |name: &str| folder.join(name).display().to_string();
        std::fs::write(
            folder.join("hub.toml"),
            format!("state_folder = \"{}\"\norigin = \"http://hub.localhost:{operator}\"\n[listen]\npublic = \"127.0.0.1:{public}\"\noperator = \"127.0.0.1:{operator}\"\n{policy}", state("hub")),
        )
        .unwrap();
        std::fs::write(
            folder.join("agent.toml"),
            format!(
                "state_folder = \"{}\"\norigin = \"{origin}\"\nmodel = \"scripted/scripted-1\"\n[listen]\ntenant = \"127.0.0.1:{tenant}\"\negress = \"127.0.0.1:{egress}\"\nproxy = \"127.0.0.1:{proxy}\"\n\
                 [hub]\nurl = \"http://127.0.0.1:{public}\"\n[gateway]\nmode = \"attach\"\naddress = \"{}\"\nenvironment = \"{}\"\n\
                 {policy}[provider.scripted]\ndialect = \"openai-completions\"\nurl = \"http://{}/v1\"\nmodels = [\"scripted-1\"]\n{}",
                state("agent"),
                gateway.address(),
                folder.join("gateway.env").display(),
                model.addr(),
                fittings.settings,
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
        let egress = SocketAddr::from(([127, 0, 0, 1], egress));
        let machines = Machines { folder, binaries, operator, egress, origin, hub, agent, gateway, model, company, stop };
        machines.gateway.meet(machines.egress, machines.plugin_socket(), machines.folder.join("agent/openclaw/workspace"));
        assert_eq!(machines.agent_says(&["vault", "set", "provider.scripted"], &key).await["ok"], true);
        machines.ready().await;
        machines
    }

    pub async fn agent_says(&self, arguments: &[&str], input: &str) -> Value {
        self.binaries.facts("tenant-agent", &self.folder.join("agent.toml"), arguments, input).await
    }

    /// The agent's command with any input, to its end.
    pub async fn agent_output(&self, arguments: &[&str], input: &[u8]) -> Output {
        self.binaries.output("tenant-agent", &self.agent_config(), arguments, input).await
    }

    pub fn agent_config(&self) -> PathBuf {
        self.folder.join("agent.toml")
    }

    pub fn agent_binary(&self) -> PathBuf {
        self.binaries.path("tenant-agent")
    }

    /// Where the plugin asks.
    pub fn plugin_socket(&self) -> PathBuf {
        self.folder.join("agent/run/plugin.sock")
    }

    /// Everything that hub and agent write lies in here.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub async fn hub_says(&self, arguments: &[&str]) -> Value {
        self.binaries.facts("hub", &self.folder.join("hub.toml"), arguments, "").await
    }

    /// Publishes the default rules at a level, with the real command.
    pub async fn publish(&self, version: i64, level: policy::Level) {
        self.publish_with(version, level, |_| ()).await;
    }

    /// The same with what `change` does to them.
    pub async fn publish_with(&self, version: i64, level: policy::Level, change: impl FnOnce(&mut policy::bundle::Content)) {
        let mut draft = self.company.draft(version, level);
        change(&mut draft.content);
        let path = self.folder.join(format!("bundle-{version}.json"));
        std::fs::write(&path, self.company.signed(&draft, BUNDLE_KEY)).unwrap();
        let said = self.hub_says(&["policy", "publish", path.to_str().unwrap()]).await;
        assert_eq!(said["ok"], true, "{said}");
    }

    /// Waits until the agent says that it enforces this version.
    pub async fn enforces(&self, version: i64) {
        soon(async {
            while self.agent_says(&["status"], "").await["policy"]["version"] != version {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
        .await;
    }

    pub async fn ready(&self) {
        soon(async {
            while self.agent_says(&["status"], "").await["gateway"]["state"] != "ready" {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
        .await;
    }

    pub async fn owner(&self) -> Browser {
        let link = self.agent_says(&["owner-link"], "").await;
        let token = link["link"].as_str().and_then(|link| link.split_once('#')).expect("a link").1.to_owned();
        let mut browser = self.browser();
        let answer = browser.first(&token, "Owner", PASSWORD).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        browser
    }

    pub fn browser(&self) -> Browser {
        let port = self.origin.rsplit(':').next().unwrap().parse::<u16>().unwrap();
        Browser::new(([127, 0, 0, 1], port).into(), &self.origin)
    }

    pub async fn kill_agent(&mut self) {
        self.restart_agent().await;
        self.ready().await;
    }

    /// Ends the agent in the middle of whatever it does, and returns when another listens.
    pub async fn restart_agent(&mut self) {
        self.end_agent().await;
        self.start_agent().await;
    }

    /// Ends the agent in the middle of whatever it does.
    pub async fn end_agent(&mut self) {
        self.agent.kill().await.unwrap();
    }

    pub async fn start_agent(&mut self) {
        self.agent = self.binaries.spawn("tenant-agent", &self.agent_config(), &["run"]);
        self.binaries.listening(self.origin.rsplit(':').next().unwrap().parse().unwrap()).await;
    }

    /// Where the agent takes model calls.
    pub fn egress_addr(&self) -> SocketAddr {
        self.egress
    }

    /// Of agent and hub.
    pub fn pids(&self) -> (u32, u32) {
        (self.agent.id().expect("it runs"), self.hub.id().expect("it runs"))
    }

    /// Ends the hub in the middle of whatever it does.
    pub async fn kill_hub(&mut self) {
        self.hub.kill().await.unwrap();
    }

    pub async fn start_hub(&mut self) {
        self.hub = self.binaries.spawn("hub", &self.folder.join("hub.toml"), &["serve"]);
        self.binaries.listening(self.operator).await;
    }

    /// The fleet as an operator sees it.
    pub async fn fleet(&self) -> Value {
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

    pub async fn end(mut self) {
        self.stop.now();
        self.agent.kill().await.unwrap();
        self.hub.kill().await.unwrap();
        std::fs::remove_dir_all(&self.folder).unwrap();
    }
}
