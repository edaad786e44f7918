//! Tenants on this machine: for each a folder, ports, and an agent that is kept running.
//!
//! ```text
//! <state>/tenants/<name>/   0700
//!   ports                   its place on this machine, kept for as long as the hub's own ports stay
//!   agent.toml              written anew at each start of the hub
//!   agent.pid, agent.log    the running agent, what it said
//!   enrol.token             only while it enrols
//!   agent/                  the agent's own state
//! ```
//!
//! An agent outlives a hub that was killed, so that its tenant keeps working, and the next hub adopts it. It does not
//! outlive a hub that was asked to end. The hub speaks to it as anybody on this machine does: through its own binary.

use super::process::{self, Process};
use crate::bundles::Authority;
use anyhow::{Context, anyhow, bail};
use service::config::{private_folder, read_private, write_private};
use service::{Clock, SecretString, Stop, random};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use wire::fleet::{GatewayState, Presence, TenantView};

#[derive(Clone, Debug)]
pub struct LocalSettings {
    /// The binary `tenant-agent`.
    pub agent: PathBuf,
    /// Without both of these a tenant has no gateway.
    pub node: Option<PathBuf>,
    pub openclaw: Option<PathBuf>,
    pub providers: Vec<ModelProvider>,
    /// `provider/model` of every assistant.
    pub model: String,
    pub ports: Ports,
    /// Put into the vault whenever an agent has started.
    pub secrets: Vec<(String, SecretString)>,
    /// Whose policy bundles the agents believe; `None`: nobody's.
    pub authority: Option<Authority>,
}

#[derive(Clone, Debug)]
pub struct ModelProvider {
    pub name: String,
    pub dialect: String,
    pub url: String,
    pub models: Vec<String>,
}

/// Where tenants find their ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ports {
    /// At fixed distances from this one.
    Base(u16),
    /// Wherever some are free.
    Free,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TenantPorts {
    /// The tenant's page.
    pub tenant: u16,
    /// The agent's egress proxy.
    pub egress: u16,
    /// Its forward proxy.
    pub proxy: u16,
    pub gateway: u16,
}

/// How an agent is, as far as its process tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AgentState {
    /// Nobody keeps it running.
    Absent,
    Starting,
    /// It answers and has its secrets.
    Up {
        pid: u32,
        since_ms: i64,
    },
    /// It is started again after a pause.
    Down {
        code: &'static str,
    },
    /// It says that its configuration cannot work; nobody starts it again unasked.
    Refused,
}

impl AgentState {
    /// Whether somebody keeps it running.
    pub fn is_kept(&self) -> bool {
        !matches!(self, AgentState::Absent | AgentState::Refused)
    }
}

/// Why a step did not succeed: a code for operators' pages, the rest for the log.
#[derive(Debug)]
pub struct Fault {
    pub code: &'static str,
    pub cause: anyhow::Error,
}

/// Agents on this machine.
pub struct Local {
    settings: LocalSettings,
    /// Of all tenants.
    folder: PathBuf,
    hub: String,
    clock: Clock,
    stop: Stop,
    agents: Mutex<BTreeMap<String, watch::Sender<AgentState>>>,
    allocated: Mutex<BTreeSet<String>>,
    keepers: Mutex<Vec<JoinHandle<()>>>,
    changes: watch::Sender<u64>,
}

const TENANT_PORT: u16 = 10;
const EGRESS_PORT: u16 = 11;
const PROXY_PORT: u16 = 12;
/// OpenClaw takes neighbours of its port for its own purposes, so gateways lie apart from the rest and from one another.
const GATEWAY_PORT: u16 = 130;
const PORTS_STEP: u16 = 20;
/// With one more, a page would lie where the first gateway is.
const TENANTS_MAX: u16 = 6;
/// From a base up to and including the neighbours of the last gateway.
pub const PORTS_SPAN: u16 = GATEWAY_PORT + TENANTS_MAX * PORTS_STEP;
/// The kernel's limit for the path of a unix socket, and the longest of an agent's below its tenant's folder.
const SOCKET_PATH_BYTES_MAX: usize = 107;
const SOCKET_BELOW: &str = "agent/run/console.sock";

/// An agent that dies is started again after this, doubled each time up to the maximum.
const RESTART_MS: u64 = 500;
const RESTART_MS_MAX: u64 = 30_000;
/// A run that lasted this long was no failed start.
const STEADY_MS: u64 = 60_000;
/// What an agent gets to end itself and its gateway: more than it gives its gateway.
const END_GRACE: Duration = Duration::from_secs(20);
/// From its start until it answers on its console and has its secrets.
const WELCOME_WAIT: Duration = Duration::from_secs(20);
const WELCOME_EACH: Duration = Duration::from_millis(200);
const WELCOME_AGAIN: Duration = Duration::from_secs(1);
/// One call of the agent's binary; enrolling speaks to the hub.
const CALL_WAIT: Duration = Duration::from_secs(30);
/// The agent's own words of farewell are kept in errors up to here.
const WORDS_BYTES_MAX: usize = 400;
/// sysexits' word for a configuration that cannot work.
const EXIT_CONFIG: i32 = 78;

const AGENT_CONFIG: &str = "agent_config";
pub const AGENT_MISSING: &str = "agent_missing";
const AGENT_DIED: &str = "agent_died";
pub const AGENT_SILENT: &str = "agent_silent";
const AGENT_FOREIGN: &str = "agent_foreign";
const ALLOCATE_FAILED: &str = "allocate_failed";
const ENROL_FAILED: &str = "enrol_failed";

impl Local {
    pub fn new(settings: LocalSettings, state_folder: &Path, hub: String, clock: Clock, stop: Stop) -> Local {
        let folder = tenants_folder(state_folder);
        let (agents, allocated, keepers) = Default::default();
        Local { settings, folder, hub, clock, stop, agents, allocated, keepers, changes: watch::Sender::new(0) }
    }

    // What provisioning does, each safe to do again.

    /// Gives the tenant its folder, ports and configuration, or finds that it has them; its address.
    pub fn allocate(&self, name: &str) -> Result<String, Fault> {
        let fault = |cause| Fault { code: ALLOCATE_FAILED, cause };
        let folder = self.tenant_folder(name);
        sockets_fit(&folder).map_err(fault)?;
        private_folder(&folder).map_err(fault)?;
        let ports = self.ports(name).map_err(fault)?;
        write_private(&folder.join("ports"), ports.text().as_bytes()).map_err(fault)?;
        write_private(&self.config(name), self.config_text(name, ports).map_err(fault)?.as_bytes()).map_err(fault)?;
        lock(&self.allocated).insert(name.to_owned());
        Ok(origin(name, ports))
    }

    /// Whether this life of the hub has allocated the tenant.
    pub fn is_allocated(&self, name: &str) -> bool {
        lock(&self.allocated).contains(name)
    }

    /// The token that the tenant's agent enrols with, and whether it is drawn now. It lies on the disk until the agent
    /// has enrolled: only with the same token can an agent that died half-way ask for its answer again.
    pub fn enrolment_token(&self, name: &str) -> Result<(SecretString, bool), Fault> {
        let fault = |cause| Fault { code: ENROL_FAILED, cause };
        let path = self.token_file(name);
        if path.exists() {
            let text = String::from_utf8(read_private(&path).map_err(fault)?).map_err(|error| fault(error.into()))?;
            return Ok((SecretString::new(text), false));
        }
        let token = SecretString::new(random::token());
        // The agent will be told the value.
        write_private(&path, token.expose().as_bytes()).map_err(fault)?;
        Ok((token, true))
    }

    /// Lets the agent enrol, or find that it has.
    pub async fn enrol(&self, name: &str, token: &SecretString) -> Result<(), Fault> {
        let fault = |cause| Fault { code: ENROL_FAILED, cause };
        let output = self.call(name, &["enrol"], Some(token)).await.map_err(fault)?;
        if output.status.success() {
            return Ok(());
        }
        let words = words(&output);
        if words.contains("refused the enrolment") {
            // This token leads nowhere; the next try draws another.
            let _ = std::fs::remove_file(self.token_file(name));
        }
        let code = if output.status.code() == Some(EXIT_CONFIG) { AGENT_CONFIG } else { ENROL_FAILED };
        Err(Fault { code, cause: anyhow!("enrolling ended with {}: {words}", output.status) })
    }

    /// The hub knows the host that enrolled, or it does not.
    pub fn enrolled(&self, name: &str, is_known: bool) -> Result<(), Fault> {
        if !is_known {
            let folder = self.tenant_folder(name);
            return Err(Fault { code: AGENT_FOREIGN, cause: anyhow!("the agent in `{}` belongs to another hub", folder.display()) });
        }
        let _ = std::fs::remove_file(self.token_file(name));
        Ok(())
    }

    /// Starts the agent and keeps it running, or finds that it runs; returns when it answers and has its secrets.
    pub async fn start(self: &Arc<Local>, name: &str) -> Result<(), Fault> {
        let mut state = self.keep(name);
        let settled = self.stop.or(state.wait_for(|state| !matches!(state, AgentState::Absent | AgentState::Starting))).await;
        let log = self.log(name);
        match settled.and_then(Result::ok).map(|state| state.clone()) {
            Some(AgentState::Up { .. }) => Ok(()),
            Some(AgentState::Down { code }) => Err(Fault { code, cause: anyhow!("the agent does not stay up; its log is `{}`", log.display()) }),
            Some(AgentState::Refused) => {
                Err(Fault { code: AGENT_CONFIG, cause: anyhow!("the agent refuses its configuration; its log is `{}`", log.display()) })
            }
            Some(AgentState::Absent | AgentState::Starting) | None => Err(Fault { code: AGENT_DIED, cause: anyhow!("the hub is stopping") }),
        }
    }

    // What others may know.

    pub fn agent_state(&self, name: &str) -> AgentState {
        lock(&self.agents).get(name).map_or(AgentState::Absent, |state| state.borrow().clone())
    }

    /// Moves whenever the state of an agent does.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Whether the tenant's running agent says that its gateway is well, or that it has none where none is wanted.
    pub fn is_well(&self, view: &TenantView) -> bool {
        let wanted = if self.has_gateway() { GatewayState::Ready } else { GatewayState::Absent };
        match self.agent_state(&view.name) {
            // What an earlier life of the agent said of an earlier gateway does not count.
            AgentState::Up { since_ms, .. } => {
                view.presence == Presence::Online && view.gateway.state == wanted && view.last_seen_ms.is_some_and(|seen_ms| seen_ms >= since_ms)
            }
            _ => false,
        }
    }

    pub fn has_gateway(&self) -> bool {
        self.settings.node.is_some() && self.settings.openclaw.is_some()
    }

    pub fn tenant_folder(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub fn config(&self, name: &str) -> PathBuf {
        self.tenant_folder(name).join("agent.toml")
    }

    pub fn log(&self, name: &str) -> PathBuf {
        self.tenant_folder(name).join("agent.log")
    }

    /// What the tenant's gateway says.
    pub fn gateway_log(&self, name: &str) -> PathBuf {
        self.tenant_folder(name).join("agent/openclaw/gateway.log")
    }

    /// A one-time link for the tenant's first owner; `None` when there is an owner.
    pub async fn owner_link(&self, name: &str) -> anyhow::Result<Option<String>> {
        let output = self.call(name, &["owner-link"], None).await?;
        let answer: serde_json::Value =
            serde_json::from_slice(&output.stdout).with_context(|| format!("the agent's answer is unreadable: {}", words(&output)))?;
        match (answer["link"].as_str(), answer["code"].as_str()) {
            (Some(link), _) => Ok(Some(link.to_owned())),
            (None, Some("owner_exists")) => Ok(None),
            _ => bail!("the agent gave no link: {}", words(&output)),
        }
    }

    /// Returns when every agent has ended, after the stop.
    pub async fn ended(&self) {
        loop {
            let Some(keeper) = lock(&self.keepers).pop() else { return };
            if let Err(error) = keeper.await {
                tracing::error!(%error, "an agent was left without its keeper");
            }
        }
    }

    // Keeping an agent running.

    fn keep(self: &Arc<Local>, name: &str) -> watch::Receiver<AgentState> {
        let mut agents = lock(&self.agents);
        let state = agents.entry(name.to_owned()).or_insert_with(|| watch::Sender::new(AgentState::Absent));
        let seen = state.subscribe();
        let is_kept = state.borrow().is_kept();
        if !is_kept && !self.stop.is_stopped() {
            state.send_replace(AgentState::Starting);
            let (local, name) = (self.clone(), name.to_owned());
            let mut keepers = lock(&self.keepers);
            keepers.retain(|keeper| !keeper.is_finished());
            keepers.push(tokio::spawn(async move { local.keeper(&name).await }));
        }
        seen
    }

    async fn keeper(&self, name: &str) {
        let mut pause_ms = RESTART_MS;
        let mut adopting = true;
        while !self.stop.is_stopped() {
            let begun = self.clock.now().mono_ms;
            let next = match self.begin(name, adopting).await {
                Ok(process) => self.attend(name, process).await,
                Err(error) => {
                    tracing::error!(tenant.name = name, error = format!("{error:#}"), "an agent could not be started");
                    Some(AgentState::Down { code: AGENT_MISSING })
                }
            };
            adopting = false;
            let Some(state) = next else { break };
            let is_refused = state == AgentState::Refused;
            self.become_(name, state);
            if is_refused {
                return;
            }
            if self.clock.now().mono_ms.saturating_sub(begun) >= STEADY_MS {
                pause_ms = RESTART_MS;
            }
            self.stop.or(self.clock.sleep(pause_ms)).await;
            pause_ms = (pause_ms * 2).min(RESTART_MS_MAX);
            if !self.stop.is_stopped() {
                self.become_(name, AgentState::Starting);
            }
        }
        self.become_(name, AgentState::Absent);
    }

    /// The agent's process: the one that an earlier life left running with the same configuration, or a new one.
    async fn begin(&self, name: &str, adopting: bool) -> anyhow::Result<Process> {
        let config = self.config(name);
        let digest = self.digest(&config)?;
        let arguments = run_arguments(&config)?;
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let trace = trace_file(&self.tenant_folder(name));
        if let Some((id, known)) = process::find(&trace, &arguments).filter(|_| adopting) {
            if known.as_ref() == Some(&digest) {
                tracing::info!(tenant.name = name, pid = id.pid, "an agent of an earlier life goes on");
                return Ok(Process::Adopted(id));
            }
            tracing::info!(tenant.name = name, pid = id.pid, "an agent of an earlier life is replaced, because it was started differently");
            Process::Adopted(id).end(END_GRACE).await;
        }
        let mut command = self.command();
        command.args(&arguments);
        Process::begin(&mut command, &self.log(name), &trace, &digest)
    }

    /// Watches over a process to its end; what the agent is then, or `None` after the stop.
    async fn attend(&self, name: &str, mut process: Process) -> Option<AgentState> {
        let pid = process.id().pid;
        let since_ms = self.clock.wall_ms();
        let welcome = async {
            while let Err(error) = self.welcome(name).await {
                tracing::warn!(tenant.name = name, error = format!("{error:#}"), "an agent does not answer as it should");
                self.become_(name, AgentState::Down { code: AGENT_SILENT });
                tokio::time::sleep(WELCOME_AGAIN).await;
            }
            self.become_(name, AgentState::Up { pid, since_ms });
            std::future::pending::<Option<i32>>().await
        };
        let ended = tokio::select! {
            ended = process.ended() => ended,
            never = welcome => never,
            () = self.stop.stopped() => {
                process.end(END_GRACE).await;
                return None;
            }
        };
        if self.stop.is_stopped() {
            return None;
        }
        if ended == Some(EXIT_CONFIG) {
            tracing::error!(tenant.name = name, log = %self.log(name).display(), "an agent refuses its configuration");
            return Some(AgentState::Refused);
        }
        tracing::warn!(tenant.name = name, pid, code = ended, log = %self.log(name).display(), "an agent ended unasked");
        Some(AgentState::Down { code: AGENT_DIED })
    }

    /// Waits until the agent answers on its console, and gives it its secrets. The time is another process's, so it is
    /// the real one.
    async fn welcome(&self, name: &str) -> anyhow::Result<()> {
        let deadline = tokio::time::Instant::now() + WELCOME_WAIT;
        let mut verbs = vec![(vec!["status"], None)];
        verbs.extend(self.settings.secrets.iter().map(|(name, value)| (vec!["vault", "set", name.as_str()], Some(value))));
        for (verb, input) in verbs {
            loop {
                let output = self.call(name, &verb, input).await?;
                if output.status.success() {
                    break;
                }
                if tokio::time::Instant::now() >= deadline {
                    bail!("`{}` ended with {}: {}", verb.join(" "), output.status, words(&output));
                }
                tokio::time::sleep(WELCOME_EACH).await;
            }
        }
        Ok(())
    }

    fn become_(&self, name: &str, next: AgentState) {
        if let Some(state) = lock(&self.agents).get(name) {
            state.send_replace(next);
        }
        self.changes.send_modify(|n| *n += 1);
    }

    // What it takes to start one.

    /// The agent's binary with an environment that has nothing of ours: neither a provider's key nor the hub's settings.
    fn command(&self) -> Command {
        let mut command = Command::new(&self.settings.agent);
        command.env_clear();
        let kept = ["PATH", "HOME", "USER", "LANG", "TZ", "TMPDIR", "GATEHOUSE_LOG", "RUST_BACKTRACE"];
        command.envs(kept.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
        command
    }

    async fn call(&self, name: &str, verb: &[&str], input: Option<&SecretString>) -> anyhow::Result<Output> {
        let mut command = self.command();
        command.args(verb).arg("--config").arg(self.config(name)).arg("--json");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).kill_on_drop(true);
        let mut child = command.spawn().with_context(|| format!("`{}` cannot be started", self.settings.agent.display()))?;
        let mut stdin = child.stdin.take();
        let told = async {
            if let (Some(stdin), Some(input)) = (&mut stdin, input) {
                // A pipe is the way on which a secret may travel. Who ends without reading says why in its answer.
                let _ = stdin.write_all(input.expose().as_bytes()).await;
            }
            drop(stdin);
            child.wait_with_output().await
        };
        let output = tokio::time::timeout(CALL_WAIT, told).await;
        output.with_context(|| format!("`tenant-agent {}` did not end in time", verb.join(" ")))?.context("waiting for the agent's binary")
    }

    /// What an agent was started with: its configuration and its binary, which a build may have replaced.
    fn digest(&self, config: &Path) -> anyhow::Result<String> {
        let text = String::from_utf8(read_private(config)?).context("the agent's configuration is text")?;
        let binary = std::fs::metadata(&self.settings.agent).with_context(|| format!("`{}` is not there", self.settings.agent.display()))?;
        Ok(random::token_hash(&format!("{}\n{:?}\n{text}", self.settings.agent.display(), binary.modified()?)))
    }

    fn token_file(&self, name: &str) -> PathBuf {
        self.tenant_folder(name).join("enrol.token")
    }

    /// The tenant's ports: those that it has if they still fit, otherwise the first that no other tenant has.
    fn ports(&self, name: &str) -> anyhow::Result<TenantPorts> {
        let own = read_ports(&self.tenant_folder(name));
        let base = match (self.settings.ports, own) {
            (Ports::Free, Some(own)) => return Ok(own),
            (Ports::Free, None) => return TenantPorts::free(),
            (Ports::Base(base), _) => base,
        };
        let taken: Vec<TenantPorts> = folders(&self.folder).iter().filter(|folder| !folder.ends_with(name)).filter_map(|folder| read_ports(folder)).collect();
        let mut places = (0..TENANTS_MAX).filter_map(|index| TenantPorts::of(base, index));
        if let Some(own) = own.filter(|own| places.clone().any(|place| place == *own)) {
            return Ok(own);
        }
        places.find(|place| !taken.contains(place)).with_context(|| format!("from port {base} on there is room for {TENANTS_MAX} tenants on this machine"))
    }

    fn config_text(&self, name: &str, ports: TenantPorts) -> anyhow::Result<String> {
        let LocalSettings { providers, model, node, openclaw, .. } = &self.settings;
        let TenantPorts { tenant, egress, proxy, gateway } = ports;
        let mut text = format!(
            "# Written by the hub at each of its starts.\nstate_folder = {}\norigin = {}\nmodel = {}\n\n[listen]\ntenant = \"127.0.0.1:{tenant}\"\negress = \"127.0.0.1:{egress}\"\nproxy = \"127.0.0.1:{proxy}\"\n\n[hub]\nurl = {}\n",
            quoted_path(&self.tenant_folder(name).join("agent"))?,
            quoted(&origin(name, ports)),
            quoted(model),
            quoted(&self.hub),
        );
        match (node, openclaw) {
            (Some(node), Some(openclaw)) => {
                let (node, openclaw) = (quoted_path(node)?, quoted_path(openclaw)?);
                write!(text, "\n[gateway]\nmode = \"child\"\nport = {gateway}\nnode = {node}\nopenclaw = {openclaw}\n")?;
            }
            _ => text.push_str("\n[gateway]\nmode = \"none\"\n"),
        }
        if let Some(Authority { fleet, roots, channel }) = &self.settings.authority {
            let keys: Vec<String> = roots.keys.iter().map(|key| quoted(&key.to_string())).collect();
            let (fleet, channel, keys, threshold) = (quoted(fleet), quoted(channel), keys.join(", "), roots.threshold);
            write!(text, "\n[policy]\nfleet = {fleet}\nchannel = {channel}\nroots = [{keys}]\nthreshold = {threshold}\n")?;
        }
        for ModelProvider { name, dialect, url, models } in providers {
            let models: Vec<String> = models.iter().map(|model| quoted(model)).collect();
            write!(text, "\n[provider.{}]\ndialect = {}\nurl = {}\nmodels = [{}]\n", quoted(name), quoted(dialect), quoted(url), models.join(", "))?;
        }
        Ok(text)
    }
}

/// Whether the sockets of a tenant with this folder can be opened.
pub fn sockets_fit(tenant_folder: &Path) -> anyhow::Result<()> {
    let socket = tenant_folder.join(SOCKET_BELOW);
    if socket.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
        bail!("`{}` is longer than the {SOCKET_PATH_BYTES_MAX} bytes that a socket's path may have: use a shorter state folder", socket.display());
    }
    Ok(())
}

/// Ends the agents that still run from this state, of whatever earlier life.
pub async fn end_leftovers(state_folder: &Path) {
    for folder in folders(&tenants_folder(state_folder)) {
        if let Some(id) = leftover(&folder) {
            tracing::info!(pid = id.pid, "ending an agent of an earlier life");
            Process::Adopted(id).end(END_GRACE).await;
        }
    }
}

/// The ports that agents of this state hold right now.
pub fn held_ports(state_folder: &Path) -> Vec<TenantPorts> {
    folders(&tenants_folder(state_folder)).iter().filter(|folder| leftover(folder).is_some()).filter_map(|folder| read_ports(folder)).collect()
}

impl TenantPorts {
    /// Those of the tenant at a place; `None` when they do not fit into the range of ports.
    pub fn of(base: u16, index: u16) -> Option<TenantPorts> {
        let at = |distance: u16| base.checked_add(distance)?.checked_add(index.checked_mul(PORTS_STEP)?);
        Some(TenantPorts { tenant: at(TENANT_PORT)?, egress: at(EGRESS_PORT)?, proxy: at(PROXY_PORT)?, gateway: at(GATEWAY_PORT)? })
    }

    /// Four that were free a moment ago.
    fn free() -> anyhow::Result<TenantPorts> {
        // Held together, so that they differ.
        let held: Vec<TcpListener> = (0..4).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).collect::<Result<_, _>>().context("looking for free ports")?;
        let port = |n: usize| anyhow::Ok(held[n].local_addr()?.port());
        Ok(TenantPorts { tenant: port(0)?, egress: port(1)?, proxy: port(2)?, gateway: port(3)? })
    }

    fn text(self) -> String {
        format!("{} {} {} {}\n", self.tenant, self.egress, self.proxy, self.gateway)
    }

    fn parse(text: &str) -> Option<TenantPorts> {
        let mut numbers = text.split_whitespace().map(|number| number.parse().ok().filter(|port| *port > 0));
        Some(TenantPorts { tenant: numbers.next()??, egress: numbers.next()??, proxy: numbers.next()??, gateway: numbers.next()?? })
    }
}

fn leftover(folder: &Path) -> Option<process::ProcessId> {
    let arguments = run_arguments(&folder.join("agent.toml")).ok()?;
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    process::find(&trace_file(folder), &arguments).map(|(id, _)| id)
}

fn run_arguments(config: &Path) -> anyhow::Result<[String; 3]> {
    let config = config.to_str().with_context(|| format!("`{}` is not readable as text", config.display()))?;
    Ok(["run".to_owned(), "--config".to_owned(), config.to_owned()])
}

fn tenants_folder(state_folder: &Path) -> PathBuf {
    state_folder.join("tenants")
}

fn folders(tenants: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(tenants).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}

fn trace_file(folder: &Path) -> PathBuf {
    folder.join("agent.pid")
}

fn read_ports(folder: &Path) -> Option<TenantPorts> {
    TenantPorts::parse(&std::fs::read_to_string(folder.join("ports")).ok()?)
}

fn origin(name: &str, ports: TenantPorts) -> String {
    format!("http://{name}.localhost:{}", ports.tenant)
}

fn quoted_path(path: &Path) -> anyhow::Result<String> {
    Ok(quoted(path.to_str().with_context(|| format!("`{}` is not readable as text", path.display()))?))
}

/// A basic string of TOML, whose escapes JSON's are.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// What a process said, the beginning of it. The agent has masked it.
fn words(output: &Output) -> String {
    let said = if output.stdout.is_empty() { &output.stderr } else { &output.stdout };
    String::from_utf8_lossy(&said[..said.len().min(WORDS_BYTES_MAX)]).trim().to_owned()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use tokio::runtime::Runtime;

    /// Stands in for `tenant-agent`: `run` lives until a signal ends it, the other verbs leave traces beside the script.
    const AGENT: &str = r#"#!/bin/sh
        here=${0%/*}
        case $1 in
        run)
            echo $$ >> "$here/runs"
            [ -e "$here/refuse" ] && exit 78
            [ -p "$here/pipe" ] || mkfifo "$here/pipe"
            # A builtin waits, so that no child is left behind.
            read -r _ <> "$here/pipe" ;;
        status) [ -p "$here/pipe" ] ;;
        vault) IFS= read -r value; echo "$3=$value" >> "$here/secrets" ;;
        enrol)
            IFS= read -r token; echo "$token" >> "$here/tokens"
            [ -e "$here/unknown" ] && echo '{"ok":false,"message":"the hub refused the enrolment: token_unknown"}' && exit 1
            exit 0 ;;
        owner-link) echo '{"ok":false,"code":"owner_exists"}'; exit 3 ;;
        esac
    "#;
    /// Other processes are waited for here; one that takes longer is a fault.
    const WAIT: Duration = Duration::from_secs(20);

    /// A state folder with a fake agent.
    struct Here(PathBuf);

    impl Here {
        fn new() -> Here {
            let folder = std::env::temp_dir().join(format!("gatehouse-local-{}", &random::token()[..12]));
            private_folder(&folder).unwrap();
            std::fs::write(folder.join("agent"), AGENT).unwrap();
            std::fs::set_permissions(folder.join("agent"), std::fs::Permissions::from_mode(0o700)).unwrap();
            Here(folder)
        }

        fn settings(&self) -> LocalSettings {
            let provider = ModelProvider { name: "x".into(), dialect: "openai-completions".into(), url: "http://h/v1".into(), models: vec!["m".into()] };
            LocalSettings {
                agent: self.0.join("agent"),
                node: None,
                openclaw: None,
                providers: vec![provider],
                model: "x/m".into(),
                ports: Ports::Base(8400),
                secrets: vec![("provider.x".into(), SecretString::new("first".into()))],
                authority: None,
            }
        }

        fn local(&self, settings: LocalSettings, clock: &Clock, stop: &Stop) -> Arc<Local> {
            Arc::new(Local::new(settings, &self.0, "http://127.0.0.1:8400".into(), clock.clone(), stop.clone()))
        }

        fn lines(&self, name: &str) -> Vec<String> {
            std::fs::read_to_string(self.0.join(name)).unwrap_or_default().lines().map(str::to_owned).collect()
        }

        fn vanish(self) {
            std::fs::remove_dir_all(self.0).unwrap();
        }
    }

    fn pid(local: &Local) -> u32 {
        match local.agent_state("alice") {
            AgentState::Up { pid, .. } => pid,
            other => panic!("{other:?}"),
        }
    }

    async fn soon<F: Future>(work: F) -> F::Output {
        tokio::time::timeout(WAIT, work).await.expect("it should have come by now")
    }

    fn end(pid: u32) {
        assert!(std::process::Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap().success());
    }

    #[tokio::test]
    async fn an_agent_that_dies_is_started_again_and_given_its_secrets() {
        let (here, clock, stop) = (Here::new(), Clock::manual(1_000), Stop::default());
        let local = here.local(here.settings(), &clock, &stop);
        assert_eq!(local.allocate("alice").unwrap(), "http://alice.localhost:8410");
        soon(local.start("alice")).await.unwrap();
        let first = pid(&local);
        end(first);
        let mut changes = local.changes();
        soon(changes.wait_for(|_| local.agent_state("alice") == AgentState::Down { code: AGENT_DIED })).await.unwrap();
        soon(async {
            while !matches!(local.agent_state("alice"), AgentState::Up { .. }) {
                clock.advance(RESTART_MS);
                tokio::task::yield_now().await;
            }
        })
        .await;
        let second = pid(&local);
        assert_eq!(here.lines("runs"), [first.to_string(), second.to_string()]);
        assert_eq!(here.lines("secrets"), ["provider.x=first", "provider.x=first"]);
        stop.now();
        soon(local.ended()).await;
        assert_eq!(local.agent_state("alice"), AgentState::Absent);
        assert!(leftover(&local.tenant_folder("alice")).is_none(), "nothing is left running");
        assert_eq!(soon(local.start("alice")).await.unwrap_err().code, AGENT_DIED, "after the stop nothing is started");
        assert_eq!(here.lines("runs").len(), 2);
        here.vanish();
    }

    #[tokio::test]
    async fn a_refused_configuration_is_tried_once() {
        let (here, clock, stop) = (Here::new(), Clock::manual(0), Stop::default());
        std::fs::write(here.0.join("refuse"), "").unwrap();
        let local = here.local(here.settings(), &clock, &stop);
        local.allocate("alice").unwrap();
        assert_eq!(soon(local.start("alice")).await.unwrap_err().code, AGENT_CONFIG);
        assert_eq!((local.agent_state("alice"), here.lines("runs").len()), (AgentState::Refused, 1));
        std::fs::remove_file(here.0.join("refuse")).unwrap();
        soon(local.start("alice")).await.unwrap();
        stop.now();
        soon(local.ended()).await;
        here.vanish();
    }

    #[test]
    fn an_agent_outlives_a_killed_hub_and_is_adopted_or_replaced() {
        let (here, clock) = (Here::new(), Clock::manual(0));
        let life = |settings: LocalSettings, stop: &Stop| {
            let runtime = Runtime::new().unwrap();
            let local = here.local(settings, &clock, stop);
            local.allocate("alice").unwrap();
            runtime.block_on(async { soon(local.start("alice")).await }).unwrap();
            (pid(&local), local, runtime)
        };
        let (first, _, runtime) = life(here.settings(), &Stop::default());
        // As a kill would: every task is gone at once, and nobody ends anything.
        drop(runtime);
        let secrets = vec![("provider.x".to_owned(), SecretString::new("second".into()))];
        let (adopted, _, runtime) = life(LocalSettings { secrets, ..here.settings() }, &Stop::default());
        assert_eq!((adopted, here.lines("runs").len()), (first, 1));
        assert_eq!(here.lines("secrets"), ["provider.x=first", "provider.x=second"]);
        drop(runtime);
        // A kill between a start and its trace.
        std::fs::remove_file(trace_file(&here.0.join("tenants/alice"))).unwrap();
        let (replaced, _, runtime) = life(here.settings(), &Stop::default());
        assert_ne!(replaced, first);
        drop(runtime);
        let stop = Stop::default();
        let (other, local, runtime) = life(LocalSettings { ports: Ports::Base(9000), ..here.settings() }, &stop);
        assert_ne!(other, replaced, "other settings need another start");
        assert_eq!(held_ports(&here.0), [TenantPorts { tenant: 9010, egress: 9011, proxy: 9012, gateway: 9130 }]);
        stop.now();
        runtime.block_on(async { soon(local.ended()).await });
        assert_eq!((held_ports(&here.0), here.lines("runs").len()), (Vec::new(), 3));
        here.vanish();
    }

    #[tokio::test]
    async fn leftovers_are_ended_from_outside() {
        let (here, clock, stop) = (Here::new(), Clock::manual(0), Stop::default());
        let local = here.local(here.settings(), &clock, &stop);
        local.allocate("alice").unwrap();
        soon(local.start("alice")).await.unwrap();
        soon(end_leftovers(&here.0)).await;
        assert!(leftover(&local.tenant_folder("alice")).is_none());
        stop.now();
        soon(local.ended()).await;
        here.vanish();
    }

    #[tokio::test]
    async fn a_token_is_kept_until_it_has_worked() {
        let (here, clock, stop) = (Here::new(), Clock::manual(0), Stop::default());
        let local = here.local(here.settings(), &clock, &stop);
        local.allocate("alice").unwrap();
        let (token, is_new) = local.enrolment_token("alice").unwrap();
        assert!(is_new);
        soon(local.enrol("alice", &token)).await.unwrap();
        let (again, is_new) = local.enrolment_token("alice").unwrap();
        assert!(!is_new && again.expose() == token.expose(), "an agent that lost its answer asks with the same token");
        assert_eq!(local.enrolled("alice", false).unwrap_err().code, AGENT_FOREIGN);
        local.enrolled("alice", true).unwrap();
        std::fs::write(here.0.join("unknown"), "").unwrap();
        let (other, is_new) = local.enrolment_token("alice").unwrap();
        assert!(is_new && other.expose() != token.expose());
        assert_eq!(soon(local.enrol("alice", &other)).await.unwrap_err().code, ENROL_FAILED);
        assert!(local.enrolment_token("alice").unwrap().1, "a token that the hub does not know is not tried again");
        assert_eq!(here.lines("tokens"), [token.expose(), other.expose()]);
        assert!(soon(local.owner_link("alice")).await.unwrap().is_none());
        here.vanish();
    }

    #[test]
    fn tenants_lie_apart_and_keep_their_places() {
        let here = Here::new();
        let at = |base: u16| here.local(LocalSettings { ports: Ports::Base(base), ..here.settings() }, &Clock::manual(0), &Stop::default());
        let local = at(8400);
        for (name, expected) in [("alice", 8410), ("bob", 8430), ("carol", 8450), ("bob", 8430)] {
            assert_eq!(local.allocate(name).unwrap(), format!("http://{name}.localhost:{expected}"));
        }
        assert_eq!(at(8400).allocate("bob").unwrap(), "http://bob.localhost:8430");
        assert_eq!(at(9000).allocate("bob").unwrap(), "http://bob.localhost:9010", "whoever names other ports gets other ports");
        let local = at(9000);
        assert!(!local.is_allocated("dave"));
        for name in ["dave", "erin", "frank", "grace", "heidi"] {
            local.allocate(name).unwrap();
        }
        assert!(local.is_allocated("dave"));
        let fault = local.allocate("ivan").unwrap_err();
        assert!(fault.code == ALLOCATE_FAILED && format!("{:#}", fault.cause).contains("room for 6"), "{:#}", fault.cause);
        assert!(format!("{:#}", local.allocate(&"x".repeat(90)).unwrap_err().cause).contains("shorter state folder"));
        let mode = |name: &str| std::fs::metadata(local.tenant_folder("bob").join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(""), mode("agent.toml"), mode("ports")), (0o700, 0o600, 0o600));
        here.vanish();
    }

    #[test]
    fn the_agents_configuration_is_toml_whatever_the_folders_are_called() {
        let here = Here::new();
        let odd = here.0.join("a \"b\" \\ ä");
        let settings = LocalSettings { node: Some(odd.join("node")), openclaw: Some(odd.join("o.mjs")), ..here.settings() };
        let local = Local::new(settings, &odd, "http://127.0.0.1:1".into(), Clock::manual(0), Stop::default());
        local.allocate("alice").unwrap();
        let table: toml::Table = std::fs::read_to_string(local.config("alice")).unwrap().parse().unwrap();
        assert_eq!(table["state_folder"].as_str().unwrap(), odd.join("tenants/alice/agent").to_str().unwrap());
        assert_eq!(table["gateway"]["node"].as_str().unwrap(), odd.join("node").to_str().unwrap());
        assert_eq!(table["provider"]["x"]["models"][0].as_str(), Some("m"));
        assert_eq!(table["gateway"]["port"].as_integer(), Some(8530));
        here.vanish();
    }

    #[test]
    fn ports_read_back_and_must_fit() {
        let ports = TenantPorts { tenant: 1, egress: 2, proxy: 3, gateway: 4 };
        assert_eq!(TenantPorts::parse(&ports.text()), Some(ports));
        for broken in ["", "1 2 3", "1 2 3 x", "0 1 2 3", "1 2 3 65536"] {
            assert_eq!(TenantPorts::parse(broken), None, "{broken}");
        }
        assert_eq!(TenantPorts::of(u16::MAX - PORTS_SPAN, TENANTS_MAX - 1).map(|ports| ports.gateway), Some(u16::MAX - PORTS_STEP));
        assert_eq!(TenantPorts::of(u16::MAX - 100, 0), None);
        let free = TenantPorts::free().unwrap();
        assert!(free.tenant != free.egress && free.egress != free.proxy && free.proxy != free.gateway);
    }
}
