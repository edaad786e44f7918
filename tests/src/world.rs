//! One hub and as many tenants as a test wants, on free ports of the loopback, in folders that vanish.

use crate::browser::Browser;
use crate::company::{BUNDLE_KEY, Company};
use crate::gateway::{FakeGateway, Keys};
use crate::provider::FakeProvider;
use hub::Hub;
use hub::demo::model::ScriptedModel;
use policy::host::Target;
use service::{Clock, SecretString, Stop};
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tenant_agent::console::{self, VaultVerb, Verb};
use tenant_agent::gateway::openclaw::{Dialect, Provider};
use tenant_agent::gateway::{Mode, Program, Trust};
use tenant_agent::mail::Account;
use tenant_agent::outside::Outside;
use tenant_agent::settings::PolicySettings;
use tenant_agent::vault::Given;
use tenant_agent::{Agent, Settings, agent};
use wire::TenantId;
use wire::fleet::{GatewayState, PolicyState};

pub struct World {
    pub clock: Clock,
    pub hub: Hub,
    pub model: ScriptedModel,
    /// Whose law the agents believe.
    pub company: Company,
    model_key: String,
    /// Where model calls go: the scripted model, or what a test puts in its place.
    pub provider: SocketAddr,
    network: Outside,
    tunnels: Vec<(SocketAddr, Target)>,
    mail: Vec<Account>,
    folder: PathBuf,
    /// Ends the hub and the model.
    stop: Stop,
}

/// A tenant with its agent and its gateway.
pub struct Tenant {
    pub id: TenantId,
    pub settings: Settings,
    pub gateway: FakeGateway,
    pub agent: Agent,
    clock: Clock,
    /// Ends the agent alone.
    stop: Stop,
    gateway_stop: Stop,
}

/// Longer than anything here takes, the start of the real OpenClaw on a busy machine included.
const WAIT: Duration = Duration::from_secs(120);
/// A Friday morning.
const BEGIN_MS: i64 = 1_795_140_000_000;
const LOOPBACK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
pub const PASSWORD: &str = "correct horse battery";

/// What comes soon, or a failed test.
pub async fn soon<F: Future>(work: F) -> F::Output {
    tokio::time::timeout(WAIT, work).await.expect("it should have come by now")
}

/// A port that nobody else takes: below those that the kernel hands out by itself, each given once in this process, and
/// begun elsewhere in another.
pub fn free_port() -> u16 {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id().wrapping_mul(97);
    let bound = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
    let mut ports = std::iter::repeat_with(|| first.wrapping_add(GIVEN.fetch_add(1, Ordering::Relaxed)) % PORTS.len() as u32);
    ports.by_ref().take(PORTS.len()).map(|at| PORTS.start + at as u16).find(bound).expect("a free port")
}

/// The kernel's own begin at 32768.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

impl World {
    pub async fn start() -> World {
        World::start_with(Clock::manual(BEGIN_MS)).await
    }

    pub async fn start_with(clock: Clock) -> World {
        let folder = std::env::temp_dir().join(format!("gatehouse-world-{}", &service::random::token()[..12]));
        service::config::private_folder(&folder.join("hub")).expect("a folder");
        let stop = Stop::default();
        let settings = hub::Settings { clock: clock.clone(), stop: stop.clone(), ..hub::Settings::new(folder.join("hub")) };
        let hub = Hub::start(settings).await.expect("the hub starts");
        let model_key = service::random::token();
        let model =
            ScriptedModel::start(SocketAddr::from(([127, 0, 0, 1], 0)), SecretString::new(model_key.clone()), 0, stop.clone()).expect("the model starts");
        let company = Company::at(clock.wall_ms());
        let (network, tunnels, mail) = (Outside::system(), Vec::new(), Vec::new());
        World { provider: model.addr(), clock, hub, model, company, model_key, network, tunnels, mail, folder, stop }
    }

    fn policy(&self) -> PolicySettings {
        PolicySettings { pinned: Some(self.company.trust()), ..PolicySettings::default() }
    }

    /// Publishes the default rules at a level, and waits until the tenant's agent says that this is law.
    pub async fn law(&self, version: i64, level: policy::Level) {
        self.hub.publish_policy(&self.company.trust(), self.company.bundle(version, level)).await.expect("a good bundle");
        self.enforced(|policy| policy.version == version && policy.state == PolicyState::Active).await;
    }

    /// Waits until the first tenant's agent says this of its law.
    pub async fn enforced(&self, wanted: impl Fn(&wire::fleet::Policy) -> bool) -> wire::fleet::Policy {
        let fleet = self.hub.wait_fleet(|fleet| fleet.tenants.first().and_then(|tenant| tenant.policy.as_ref()).is_some_and(&wanted));
        soon(fleet).await.expect("the hub runs").tenants[0].policy.clone().expect("it was just looked at")
    }

    /// Puts a file before the agents that no honest hub would, as one does that was broken into.
    pub async fn smuggle(&self, text: &str) {
        let file = policy::Digest::of(text.as_bytes()).to_string();
        {
            let store = rusqlite::Connection::open(self.folder.join("hub/hub.db")).expect("the hub's store");
            store.busy_timeout(WAIT).expect("it can wait");
            store.execute("DELETE FROM bundle", []).expect("the table is there");
            let sql = "INSERT INTO bundle (channel, tenants, version, digest, keys_version, file, text, expires_ms, published_ms) VALUES ('stable', '[]', 1, '', 0, ?1, ?2, 0, 0)";
            store.execute(sql, [file.as_str(), text]).expect("the table is there");
        }
        let published = self.hub.published_policies().await.expect("the hub reads its store");
        assert_eq!(published[0].file, file, "the hub has seen it");
    }

    /// What assistants may reach from now on, for tenants that come later.
    pub fn outside(&mut self, network: Outside) {
        self.network = network;
    }

    /// A door of a TCP service, for tenants that come later.
    pub fn tunnel(&mut self, target: &str) -> SocketAddr {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        self.tunnels.push((address, Target::parse(target, None).expect("a host and a port")));
        address
    }

    /// A mailbox, for tenants that come later.
    pub fn mail(&mut self, account: Account) {
        self.mail.push(account);
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The secret that the provider knows, and that nobody but the agent should.
    pub fn model_key(&self) -> &str {
        &self.model_key
    }

    /// A tenant that is enrolled, has a provider key, and whose gateway is well.
    pub async fn tenant(&self, name: &str) -> Tenant {
        let tenant = self.fresh_tenant(name).await;
        self.give_key(&tenant).await;
        tenant.ready().await;
        tenant
    }

    /// A tenant whose gateway will answer at `address`, and knows the agent by its own `egress` address.
    pub async fn tenant_over_link(&self, name: &str, egress: SocketAddr, address: SocketAddr) -> Tenant {
        let environment = self.folder.join(name).join("gateway.env");
        let tenant = self.tenant_with(name, Some(Mode::Attach { address, environment, trust: Trust::Address }), egress, None).await;
        self.give_key(&tenant).await;
        tenant
    }

    /// A tenant whose gateway somebody else runs on this machine, at `address`.
    pub async fn tenant_beside(&self, name: &str, address: SocketAddr) -> Tenant {
        let environment = self.folder.join(name).join("gateway.env");
        let tenant = self.tenant_with(name, Some(Mode::Attach { address, environment, trust: Trust::Token }), LOOPBACK, None).await;
        self.give_key(&tenant).await;
        tenant
    }

    /// A tenant whose gateway is the real OpenClaw, as a child of the agent.
    pub async fn real_tenant(&self, name: &str, program: Program) -> Tenant {
        let tenant = self.tenant_with(name, Some(Mode::Child { program }), LOOPBACK, None).await;
        self.give_key(&tenant).await;
        tenant.ready().await;
        tenant
    }

    /// A tenant whose OpenClaw must be closed in, and who asks on this socket whether it is.
    pub async fn closed_tenant(&self, name: &str, doctor: PathBuf) -> Tenant {
        let tenant = self.tenant_with(name, None, LOOPBACK, Some(doctor)).await;
        self.give_key(&tenant).await;
        tenant.ready().await;
        tenant
    }

    async fn give_key(&self, tenant: &Tenant) {
        let verb = Verb::Vault { what: VaultVerb::set("provider.scripted", &self.model_key) };
        assert_eq!(tenant.console(&verb).await["ok"], true);
    }

    /// A tenant as it is right after enrolment.
    pub async fn fresh_tenant(&self, name: &str) -> Tenant {
        self.tenant_with(name, None, LOOPBACK, None).await
    }

    /// A tenant with this provider beside the scripted one, and a key for it.
    pub async fn tenant_of(&self, name: &str, provider: &FakeProvider, dialect: Dialect) -> Tenant {
        self.tenant_speaking(name, None, provider, dialect).await
    }

    /// The same with the real OpenClaw, whose assistant has this provider's model.
    pub async fn real_tenant_of(&self, name: &str, program: Program, provider: &FakeProvider, dialect: Dialect) -> Tenant {
        self.tenant_speaking(name, Some(Mode::Child { program }), provider, dialect).await
    }

    async fn tenant_speaking(&self, name: &str, mode: Option<Mode>, provider: &FakeProvider, dialect: Dialect) -> Tenant {
        let more = Provider { name: "fake".to_owned(), dialect, url: provider.url(), models: vec!["fake-1".to_owned()] };
        let tenant = self.tenant_among(name, mode, LOOPBACK, None, Some(more)).await;
        self.give_key(&tenant).await;
        let verb = Verb::Vault { what: VaultVerb::set("provider.fake", &self.model_key) };
        assert_eq!(tenant.console(&verb).await["ok"], true);
        tenant.ready().await;
        tenant
    }

    /// A provider that says what it is told to.
    pub async fn provider(&self) -> FakeProvider {
        FakeProvider::start(self.stop.clone()).await
    }

    /// Makes a bundle with the default rules and what `change` does to it law.
    pub async fn law_with(&self, version: i64, change: impl FnOnce(&mut policy::bundle::Content)) {
        let mut draft = self.company.draft(version, policy::Level::L2);
        change(&mut draft.content);
        self.hub.publish_policy(&self.company.trust(), self.company.signed(&draft, BUNDLE_KEY)).await.expect("a good bundle");
        self.enforced(|policy| policy.version == version && policy.state == PolicyState::Active).await;
    }

    async fn tenant_with(&self, name: &str, mode: Option<Mode>, egress: SocketAddr, doctor: Option<PathBuf>) -> Tenant {
        self.tenant_among(name, mode, egress, doctor, None).await
    }

    async fn tenant_among(&self, name: &str, mode: Option<Mode>, egress: SocketAddr, doctor: Option<PathBuf>, more: Option<Provider>) -> Tenant {
        let origin = format!("http://{name}.localhost:{}", free_port());
        let (id, token) = self.hub.create_tenant(name, &origin).await.expect("a tenant");
        let gateway_stop = Stop::default();
        let gateway = FakeGateway::start(Keys::draw(), gateway_stop.clone()).await;
        let state_folder = self.folder.join(name);
        service::config::private_folder(&state_folder).expect("a folder");
        let environment = state_folder.join("gateway.env");
        service::config::write_private(&environment, gateway.keys().environment().as_bytes()).expect("the keys are written");
        let port = origin.rsplit(':').next().and_then(|port| port.parse().ok()).expect("the origin has a port");
        let scripted = Provider {
            name: "scripted".to_owned(),
            dialect: Dialect::OpenaiCompletions,
            url: format!("http://{}/v1", self.provider),
            models: vec!["scripted-1".to_owned()],
        };
        let settings = Settings {
            state_folder,
            origin,
            tenant: SocketAddr::from(([127, 0, 0, 1], port)),
            egress,
            proxy: LOOPBACK,
            tunnels: self.tunnels.clone(),
            mail: self.mail.clone(),
            outside: self.network.clone(),
            hub: format!("http://{}", self.hub.public_addr()),
            model: if more.is_some() && matches!(mode, Some(Mode::Child { .. })) { "fake/fake-1" } else { "scripted/scripted-1" }.to_owned(),
            mode: mode.unwrap_or(Mode::Attach { address: gateway.address(), environment, trust: Trust::Token }),
            gateway_folder: self.folder.join(name).join("openclaw"),
            doctor,
            hands: None,
            nest: None,
            gateway_uid: tenant_agent::settings::own_uid(),
            providers: std::iter::once(scripted).chain(more).collect(),
            policy: self.policy(),
            credentials: None,
            given: Given::default(),
        };
        agent::enrol(&settings, &SecretString::new(token)).await.expect("the host enrols");
        Tenant::run(id, settings, gateway, gateway_stop, self.clock.clone()).await
    }

    /// What comes when time passes: moves the clock by `step_ms` again and again until it has come.
    pub async fn as_time_passes<F: Future>(&self, step_ms: u64, work: F) -> F::Output {
        tokio::pin!(work);
        soon(async {
            loop {
                tokio::select! {
                    outcome = &mut work => return outcome,
                    () = tokio::task::yield_now() => self.clock.advance(step_ms),
                }
            }
        })
        .await
    }

    pub async fn end(self) {
        self.stop.now();
        soon(self.hub.stopped()).await;
        // The folder of a test that failed stays, to be looked at.
        std::fs::remove_dir_all(&self.folder).expect("the folder can be removed");
    }
}

impl Tenant {
    async fn run(id: TenantId, settings: Settings, gateway: FakeGateway, gateway_stop: Stop, clock: Clock) -> Tenant {
        let stop = Stop::default();
        let agent = Agent::start(settings.clone(), clock.clone(), stop.clone()).await.expect("the agent starts");
        gateway.meet(agent.egress_addr(), settings.plugin_socket(), settings.openclaw_folder().join("workspace"));
        Tenant { id, settings, gateway, agent, clock, stop, gateway_stop }
    }

    /// Waits until the gateway is well.
    pub async fn ready(&self) {
        self.gateway_is(GatewayState::Ready).await;
    }

    pub async fn gateway_is(&self, state: GatewayState) {
        let mut watch = self.agent.watch_gateway();
        soon(watch.wait_for(|gateway| gateway.state == state)).await.expect("the agent runs");
    }

    pub async fn console(&self, verb: &Verb) -> serde_json::Value {
        soon(console::say(&self.settings.console_socket(), verb)).await.expect("the console answers")
    }

    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    pub fn browser(&self) -> Browser {
        Browser::new(self.settings.tenant, &self.settings.origin)
    }

    /// The owner, come in by the link.
    pub async fn owner(&self) -> Browser {
        let link = self.console(&Verb::OwnerLink {}).await;
        let token = link["link"].as_str().and_then(|link| link.split_once('#')).expect("a link with a fragment").1.to_owned();
        let mut browser = self.browser();
        let answer = browser.first(&token, "Owner", PASSWORD).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        browser
    }

    /// The owner with the chat open.
    pub async fn chat(&self) -> Browser {
        let mut browser = self.owner().await;
        browser.open().await.expect("the chat opens");
        browser
    }

    pub fn workspace(&self) -> PathBuf {
        self.settings.openclaw_folder().join("workspace")
    }

    /// Ends the agent and starts it again from what it wrote down.
    pub async fn restart(self) -> Tenant {
        let Tenant { id, settings, gateway, agent, clock, stop, gateway_stop } = self;
        stop.now();
        soon(agent.stopped()).await;
        Tenant::run(id, settings, gateway, gateway_stop, clock).await
    }

    pub async fn end(self) {
        self.stop.now();
        self.gateway_stop.now();
        soon(self.agent.stopped()).await;
    }
}
