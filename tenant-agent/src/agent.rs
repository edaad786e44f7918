//! The composition root: builds the cupboards, gives each room what it needs, opens the doors.

use crate::approvals::Approvals;
use crate::auth_proxy::{self, AuthProxy};
use crate::bundle::InForce;
use crate::canary::Canaries;
use crate::console;
use crate::devices::Devices;
use crate::egress_proxy::{self, EgressProxy, Observed};
use crate::first_hour::{self, FirstHour, Written};
use crate::forward_proxy::{self, Authority, ForwardProxy};
use crate::gateway::openclaw::{self, Home, Plan, Provider};
use crate::gateway::{CallError, Gateway, Mode, WayOut};
use crate::hosts::Hosts;
use crate::hub_link::HubLink;
use crate::hub_link::enrol;
use crate::identity::{self, HostKey, Identity, MAIN_AGENT};
use crate::ledger::Ledger;
use crate::levels::Levels;
use crate::mail::Post;
use crate::metering::Metering;
use crate::network::Network;
use crate::outlet::{Bounds, Outlet, Secrets};
use crate::pauses::Pauses;
use crate::people::People;
use crate::providers::Providers;
use crate::safety_wrapper::{self, SafetyWrapper};
use crate::screen::Screen;
use crate::settings::Settings;
use crate::store::MIGRATIONS;
use crate::tools::hands::{Hands, Own};
use crate::tools::{self, Tools, Walls};
use crate::vault::{RecoveryKey, Vault};
use anyhow::Context;
use futures_util::future::BoxFuture;
use policy::host::Target;
use serde_json::Value;
use service::config::private_folder;
use service::door::{self, Door};
use service::memory;
use service::session::Cookie;
use service::{Clock, SecretString, Stop, Store, Upstream, outward, random};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{RwLock, Semaphore, watch};
use tokio::task::JoinSet;
use wire::plugin::Decide;

/// The cupboards, as the console sees them.
pub(crate) struct Parts {
    pub store: Store,
    pub clock: Clock,
    pub origin: String,
    pub identity: Identity,
    pub people: Arc<People>,
    pub devices: Devices,
    pub approvals: Approvals,
    pub levels: Levels,
    pub pauses: Pauses,
    pub first_hour: FirstHour,
    pub hosts: Hosts,
    pub ledger: Ledger,
    pub metering: Metering,
    pub providers: Vec<Provider>,
    pub health: Providers,
    pub upstream: Upstream,
    pub vault: Vault,
    pub screen: Screen,
    pub gateway: Gateway,
    pub canaries: Canaries,
    pub network: Network,
    pub home: Home,
    pub in_force: InForce,
}

/// A running agent.
pub struct Agent {
    parts: Arc<Parts>,
    tasks: JoinSet<()>,
    tenant: SocketAddr,
    egress: SocketAddr,
    proxy: SocketAddr,
}

/// How often questions that nobody answered are closed, and sessions are told of late grants.
const ROUND_MS: u64 = 5_000;
/// Below the state folder: what programs inside believe.
const CERTIFICATES: &str = "certificates";
/// How long after the start the memory that it took is given back, and how often later.
const SETTLED_MS: u64 = 30_000;
const REST_MS: u64 = 3_600_000;

/// Brings a fresh host to the hub. Done once; doing it again changes nothing.
pub async fn enrol(settings: &Settings, token: &SecretString) -> anyhow::Result<Identity> {
    private_folder(&settings.state_folder)?;
    let store = Store::open(&settings.state_folder.join("agent.db"), MIGRATIONS)?;
    let key = HostKey::open(&settings.state_folder)?;
    let enrolled = enrol::enrol(&store, &Clock::system(), &key, &outward::client(), &settings.hub, token).await;
    store.close().await;
    enrolled
}

/// The tenant's recovery key, if there is none yet. It is known here and now, and to nobody afterwards.
pub async fn first_recovery_key(settings: &Settings, identity: &Identity) -> anyhow::Result<Option<RecoveryKey>> {
    let store = Store::open(&settings.state_folder.join("agent.db"), MIGRATIONS)?;
    let vault = open_vault(settings, store, Clock::system(), identity).await?;
    if vault.check().await?.recovery_key.is_some() {
        return Ok(None);
    }
    Ok(Some(vault.new_recovery_key("console").await?))
}

async fn open_vault(settings: &Settings, store: Store, clock: Clock, identity: &Identity) -> anyhow::Result<Vault> {
    let (credentials, tenant) = (settings.credentials.as_deref(), identity.tenant_id.to_string());
    Ok(Vault::open(store, clock, &settings.state_folder, credentials, &tenant, settings.given.clone()).await?)
}

impl Agent {
    pub async fn start(settings: Settings, clock: Clock, stop: Stop) -> anyhow::Result<Agent> {
        private_folder(&settings.state_folder)?;
        private_folder(&settings.run_folder())?;
        let store = Store::open(&settings.state_folder.join("agent.db"), MIGRATIONS)?;
        let identity =
            identity::load(&store).await?.context("this host is not enrolled yet: run `tenant-agent enrol` with the token of the hub on standard input")?;
        let key = HostKey::open(&settings.state_folder)?;
        let vault = open_vault(&settings, store.clone(), clock.clone(), &identity).await?;
        let client = outward::client();
        let (levels, pauses) = (Levels::open(store.clone(), clock.clone()).await?, Pauses::open(store.clone(), clock.clone()).await?);
        let in_force = InForce::open(store.clone(), clock.clone(), &identity.tenant_id.to_string(), &settings.policy, levels.clone()).await?;
        let screen = Screen::open(vault.clone(), in_force.net()).await;
        let approvals = Approvals::new(store.clone(), clock.clone(), levels.clone(), pauses.clone());
        let assistant = identity.assistants.first().context("this tenant has no assistant")?.1.id;
        let network = Network::new(settings.doctor.clone());
        let home = Home { folder: settings.openclaw_folder(), is_shared: matches!(settings.mode, Mode::Unit { .. }) };
        let gateway = Gateway::new(clock.clone(), network.clone());
        let first_hour = FirstHour::new(store.clone(), clock.clone(), gateway.clone(), approvals.clone(), pauses.clone(), home.workspace(), assistant);
        let parts = Arc::new(Parts {
            in_force,
            hosts: Hosts::new(store.clone(), clock.clone(), approvals.clone(), assistant),
            people: Arc::new(People::new(store.clone(), clock.clone())),
            devices: Devices::new(store.clone(), clock.clone(), identity.tenant_id, &settings.origin),
            approvals,
            levels,
            pauses,
            first_hour,
            ledger: Ledger::new(store.clone(), clock.clone()),
            metering: Metering::start(store.clone(), clock.clone()).await?,
            providers: settings.providers.clone(),
            health: Providers::new(store.clone(), clock.clone()),
            upstream: Upstream::new(),
            canaries: Canaries::new(gateway.clone(), store.clone(), clock.clone()),
            gateway,
            network,
            home,
            origin: settings.origin.clone(),
            store,
            clock,
            identity,
            vault,
            screen,
        });
        console::note(&parts, "start").await?;

        // Before the socket, so that whoever finds that finds the key.
        let console_key = console::open_key(&settings.console_socket())?;
        // Every door is opened before anything is started, so that a port in use leaves nothing half-started.
        let tenant = listen(settings.tenant, "listen.tenant").await?;
        let egress = listen(settings.egress, "listen.egress").await?;
        let forward = listen(settings.proxy, "listen.proxy").await?;
        let mut tunnels = Vec::new();
        for (address, target) in &settings.tunnels {
            tunnels.push((listen(*address, "tunnel.*.listen").await?, target.clone()));
        }
        let plugin = listen_unix(&settings.plugin_socket(), if parts.home.is_shared { 0o660 } else { 0o600 })?;
        let console_listener = listen_unix(&settings.console_socket(), 0o600)?;
        let (tenant_at, egress_at, forward_at) = (tenant.local_addr()?, egress.local_addr()?, forward.local_addr()?);
        let home = parts.home.clone();
        home.make_workspace()?;

        let mut tasks = JoinSet::new();
        let pages = door::guarded(auth_proxy::routes(auth_room(&parts, &stop)), Door::browser(&settings.origin));
        tasks.spawn(door::serve(tenant, pages, stop.clone()));
        let proxy = EgressProxy {
            gateway: parts.gateway.clone(),
            ledger: parts.ledger.clone(),
            pauses: parts.pauses.clone(),
            vault: parts.vault.clone(),
            network: parts.network.clone(),
            screen: parts.screen.clone(),
            in_force: parts.in_force.clone(),
            metering: parts.metering.clone(),
            providers: parts.providers.clone(),
            health: parts.health.clone(),
            upstream: parts.upstream.clone(),
            observed: Observed::recorded()?,
            canaries: parts.canaries.clone(),
        };
        // As the kernel sees it, so that resolved paths can be compared with it.
        let workspace = home.workspace().canonicalize().context("the workspace was just made")?;
        home.make_home()?;
        let outlet = Arc::new(outlet(&parts, &settings, &stop)?);
        let forward_room = forward_room(&parts, &settings, outlet.clone(), egress_at).await?;
        let trusted = forward_room.authority.write(&settings.state_folder.join(CERTIFICATES))?;
        let way_out = WayOut { proxy: forward_at, own_certificate: trusted.own, certificates: trusted.all };
        let own_tools = Tools {
            store: parts.store.clone(),
            clock: parts.clock.clone(),
            in_force: parts.in_force.clone(),
            pauses: parts.pauses.clone(),
            identity: parts.identity.clone(),
            gateway: parts.gateway.clone(),
            vault: parts.vault.clone(),
            screen: parts.screen.clone(),
            workspace: workspace.clone(),
            // On an installed host a command runs where that way does not lead yet.
            way_out: settings.hands.is_none().then(|| way_out.clone()),
            hands: match &settings.hands {
                Some(socket) => Hands::Unit(socket.clone()),
                None => {
                    let home = home.home().canonicalize().context("the home of commands was just made")?;
                    let closed = settings.state_folder.canonicalize().context("the state folder was just made")?;
                    let (open, shown) = (vec![workspace.clone(), home.clone()], vec![closed.join(CERTIFICATES)]);
                    Hands::Own(Own { walls: Walls { closed, open, shown }, home, nest: settings.nest.clone() })
                }
            },
            post: Post {
                accounts: settings.mail.clone(),
                vault: parts.vault.clone(),
                outlet: outlet.clone(),
                store: parts.store.clone(),
                clock: parts.clock.clone(),
            },
            outlet,
            places: Semaphore::new(tools::CALLS_MAX),
            turns: RwLock::default(),
        };
        let own_tools = Arc::new(own_tools);
        let inner = egress_proxy::routes(Arc::new(proxy)).merge(tools::routes(own_tools.clone()));
        tasks.spawn(door::serve(egress, door::guarded(inner, Door::Program), stop.clone()));
        let forward_room = Arc::new(forward_room);
        tasks.spawn(door::serve(forward, forward_proxy::routes(forward_room.clone()), stop.clone()));
        for (listener, target) in tunnels {
            tasks.spawn(forward_proxy::serve_tunnel(forward_room.clone(), listener, target));
        }
        let wrapper = SafetyWrapper {
            store: parts.store.clone(),
            clock: parts.clock.clone(),
            in_force: parts.in_force.clone(),
            identity: parts.identity.clone(),
            approvals: parts.approvals.clone(),
            pauses: parts.pauses.clone(),
            ledger: parts.ledger.clone(),
            screen: parts.screen.clone(),
            gateway: parts.gateway.clone(),
            canaries: parts.canaries.clone(),
            workspace,
            gateway_uid: settings.gateway_uid,
        };
        let wrapper = Arc::new(wrapper);
        tasks.spawn(parts.first_hour.clone().work(OwnHands { wrapper: wrapper.clone(), tools: own_tools }, stop.clone()));
        tasks.spawn(door::serve_unix(plugin, door::guarded(safety_wrapper::routes(wrapper), Door::Program), stop.clone()));
        tasks.spawn(console::serve(console_listener, console_key, parts.clone(), stop.clone()));
        tasks.spawn(parts.screen.clone().keep(stop.clone()));
        tasks.spawn(rounds(parts.clone(), stop.clone()));
        tasks.spawn(parts.canaries.clone().keep(stop.clone()));
        let link = HubLink {
            hub: settings.hub.clone(),
            store: parts.store.clone(),
            clock: parts.clock.clone(),
            stop: stop.clone(),
            identity: parts.identity.clone(),
            key,
            boot_id: random::token(),
            gateway: parts.gateway.clone(),
            canaries: parts.canaries.clone(),
            approvals: parts.approvals.clone(),
            ledger: parts.ledger.clone(),
            pauses: parts.pauses.clone(),
            devices: parts.devices.clone(),
            metering: parts.metering.clone(),
            network: parts.network.clone(),
            screen: parts.screen.clone(),
            in_force: parts.in_force.clone(),
            since: Default::default(),
        };
        tasks.spawn(async move { link.run().await });
        parts.network.look().await;
        let (network, watcher, until) = (parts.network.clone(), parts.clock.clone(), stop.clone());
        tasks.spawn(async move { network.watch(watcher, until).await });
        let (gateway, ledger, in_force, screen) = (parts.gateway.clone(), parts.ledger.clone(), parts.in_force.clone(), parts.screen.clone());
        let (mode, place) = (settings.mode.clone(), home.clone());
        let started = move || {
            ledger.forget_announced();
            let law = in_force.law();
            let tools = law.law().manifest().iter().map(String::as_str).collect();
            let purposes = law.routes().purposes.keys().map(String::as_str);
            let providers = openclaw::with_purposes(&settings.providers, purposes, &settings.model);
            let link = match &settings.mode {
                Mode::Unit { address, .. } => Some(address.ip()),
                _ => None,
            };
            let plugin_socket = settings.plugin_socket();
            let plan = Plan { providers: &providers, model: &settings.model, egress: egress_at, plugin_socket: &plugin_socket, tools, link };
            Ok(openclaw::config(&place, &plan))
        };
        if let Mode::Unit { environment, .. } = &mode {
            // systemd starts it as soon as we say that we are ready.
            gateway.hand_over(environment, &screen)?;
            home.prepare(&started()?)?;
        }
        tasks.spawn(async move { gateway.run(mode, home, way_out, client, screen, stop, started).await });
        tracing::info!(host.id = %parts.identity.host_id, tenant.id = %parts.identity.tenant_id, origin = parts.origin, "the agent is ready");
        Ok(Agent { parts, tasks, tenant: tenant_at, egress: egress_at, proxy: forward_at })
    }

    pub fn tenant_addr(&self) -> SocketAddr {
        self.tenant
    }

    pub fn egress_addr(&self) -> SocketAddr {
        self.egress
    }

    pub fn proxy_addr(&self) -> SocketAddr {
        self.proxy
    }

    /// How OpenClaw is, as it changes.
    pub fn watch_gateway(&self) -> watch::Receiver<wire::fleet::Gateway> {
        self.parts.gateway.watch()
    }

    /// OpenClaw's process, where it is our child.
    pub fn gateway_pid(&self) -> Option<i32> {
        self.parts.gateway.pid()
    }

    pub fn identity(&self) -> &Identity {
        &self.parts.identity
    }

    /// Returns when every task has ended, after the stop.
    pub async fn stopped(mut self) {
        while self.tasks.join_next().await.is_some() {}
    }
}

/// What a template does itself goes the way of every call: judged by the safety wrapper, then done by our tools with that verdict.
struct OwnHands {
    wrapper: Arc<SafetyWrapper>,
    tools: Arc<Tools>,
}

impl first_hour::Hands for OwnHands {
    fn write_file(&self, call_id: String, params: Value) -> BoxFuture<'_, Written> {
        Box::pin(async move {
            let proposed = Decide {
                agent_id: MAIN_AGENT.to_owned(),
                session_key: first_hour::SESSION.to_owned(),
                session_id: String::new(),
                run_id: String::new(),
                trace_id: String::new(),
                call_id,
                tool: tools::writing(),
                params: params.clone(),
                derived_paths: Vec::new(),
            };
            if !self.wrapper.propose(proposed).await.allow {
                return Written::NotNow;
            }
            match self.tools.write_file(params).await {
                Ok(()) => Written::Done,
                Err(error) => {
                    tracing::warn!(error = error.to_string(), "a file of a template was not written");
                    Written::Failed
                }
            }
        })
    }
}

fn auth_room(parts: &Parts, stop: &Stop) -> Arc<AuthProxy> {
    Arc::new(AuthProxy {
        clock: parts.clock.clone(),
        stop: stop.clone(),
        cookie: Cookie::for_origin(&parts.origin),
        identity: parts.identity.clone(),
        people: parts.people.clone(),
        devices: parts.devices.clone(),
        approvals: parts.approvals.clone(),
        levels: parts.levels.clone(),
        pauses: parts.pauses.clone(),
        first_hour: parts.first_hour.clone(),
        in_force: parts.in_force.clone(),
        gateway: parts.gateway.clone(),
        metering: parts.metering.clone(),
        ledger: parts.ledger.clone(),
        screen: parts.screen.clone(),
    })
}

async fn forward_room(parts: &Parts, settings: &Settings, outlet: Arc<Outlet>, egress: SocketAddr) -> anyhow::Result<ForwardProxy> {
    // Nobody believes this host's authority about the hub or the tenant's own pages.
    let own = [settings.hub.as_str(), settings.origin.as_str()].into_iter().filter_map(|url| {
        let authority = url.split_once("://")?.1.split('/').next()?;
        Target::parse(authority, Some(443)).ok().map(|target| target.host)
    });
    let (own, law) = (own.collect::<Vec<_>>(), parts.in_force.law());
    let authority = Authority::open(&parts.vault, parts.clock.clone(), &own, law.law().http().internal_names()).await?;
    Ok(ForwardProxy { egress, gateway: parts.gateway.clone(), authority, outlet })
}

fn outlet(parts: &Parts, settings: &Settings, stop: &Stop) -> anyhow::Result<Outlet> {
    Ok(Outlet {
        own_hosts: forward_proxy::own_hosts()?,
        hosts: parts.hosts.clone(),
        in_force: parts.in_force.clone(),
        outside: settings.outside.clone(),
        secrets: Secrets::new(parts.vault.clone(), parts.screen.clone()),
        clock: parts.clock.clone(),
        stop: stop.clone(),
        bounds: Bounds::default(),
    })
}

/// What must happen without anybody asking: expired questions are closed, and a session whose call was granted after it
/// had stopped waiting is told that it may try again.
async fn rounds(parts: Arc<Parts>, stop: Stop) {
    let mut changes = parts.approvals.changes();
    let mut rest_ms = None;
    while !stop.is_stopped() {
        if let Err(error) = round(&parts).await {
            tracing::error!(%error, "a round failed; it is tried again");
        }
        let now_ms = parts.clock.now().mono_ms;
        // Once everything has been started, once when that has settled, and then as what a busy hour needed.
        if parts.gateway.is_gated() && rest_ms.is_none_or(|rest_ms| now_ms >= rest_ms) {
            rest_ms = Some(now_ms + if rest_ms.is_none() { SETTLED_MS } else { REST_MS });
            parts.store.rest();
            let _ = tokio::task::spawn_blocking(memory::give_back).await;
        }
        let due = parts.clock.sleep(ROUND_MS);
        tokio::select! {
            () = stop.stopped() => return,
            () = due => {}
            _ = changes.recv() => {}
            () = parts.approvals.let_go() => {}
        }
    }
}

async fn round(parts: &Parts) -> service::store::Result<()> {
    parts.approvals.sweep().await?;
    parts.metering.sweep().await?;
    parts.upstream.sweep();
    if let Err(error) = parts.vault.sweep().await {
        tracing::error!(%error, "what the vault should forget is still there; it is tried again");
    }
    if !parts.gateway.is_gated() {
        return Ok(());
    }
    for approval in parts.approvals.to_nudge().await? {
        let message = match &approval.denial {
            None => format!("A person approved the call that was waiting ({}). Propose exactly the same call again now.", approval.id),
            Some(reason) => {
                format!("A person refused the call that was waiting ({}): “{reason}”. Do not propose it again, nor another way to the same end.", approval.id)
            }
        };
        match parts.gateway.tell(&approval.session, &message, &format!("nudge-{}-{}", approval.id, parts.clock.wall_ms())).await {
            // Told once more later if nothing comes of it.
            Ok(()) | Err(CallError::Refused { .. }) => parts.approvals.nudged(approval.id).await?,
            Err(error) => tracing::warn!(%error, approval.id = %approval.id, "a session could not be told of its grant; it is tried again"),
        }
    }
    Ok(())
}

async fn listen(address: SocketAddr, key: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("`{key}`: {address} cannot be listened on: is another process using the port? `ss -ltnp` names it"))
}

/// A socket that only our own user may open, or one group beside it. One that is left over from a killed agent is replaced.
fn listen_unix(path: &Path, mode: u32) -> anyhow::Result<UnixListener> {
    use std::os::unix::fs::PermissionsExt;
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        anyhow::bail!("another agent already answers on `{}`", path.display());
    }
    let _ = std::fs::remove_file(path);
    let listener = UnixListener::bind(path).with_context(|| format!("`{}` cannot be listened on (a socket's path may have 107 bytes)", path.display()))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    Ok(listener)
}
