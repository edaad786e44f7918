//! The composition root: everything is made here, handed what it needs, and awaited at the end.

use crate::bundles::{Bundles, Unpublished};
use crate::fleet::Reception;
use crate::fleet::presence::Attendance;
use crate::fleet::view::View;
use crate::operator::{self, Operators};
use crate::providers::local::{Local, LocalSettings};
use crate::provision::run::Provision;
use crate::routes;
use crate::store::{BundleRecord, NewTenant, Provider, Store};
use anyhow::{Context, ensure};
use service::door::serve;
use service::{Clock, SecretString, Stop, random};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinSet;
use wire::TenantId;
use wire::fleet::Fleet;

pub struct Settings {
    pub state_folder: PathBuf,
    /// Port 0 takes a free one.
    pub public: SocketAddr,
    pub operator: SocketAddr,
    /// The name that operators' browsers use; the bound port completes it to an origin.
    pub operator_host: String,
    /// The origin, where it is not that: behind a proxy that ends TLS.
    pub origin: Option<String>,
    pub heartbeat_ms: u64,
    pub clock: Clock,
    pub stop: Stop,
    /// `None`: no tenant lives on this machine.
    pub local: Option<LocalSettings>,
}

impl Settings {
    /// On free ports of the loopback, with the system's clock.
    pub fn new(state_folder: PathBuf) -> Settings {
        Settings {
            state_folder,
            public: SocketAddr::from(([127, 0, 0, 1], 0)),
            operator: SocketAddr::from(([127, 0, 0, 1], 0)),
            operator_host: "hub.localhost".to_owned(),
            origin: None,
            heartbeat_ms: HEARTBEAT_MS,
            clock: Clock::system(),
            stop: Stop::default(),
            local: None,
        }
    }
}

/// How often agents report when nothing changes.
pub const HEARTBEAT_MS: u64 = 10_000;
/// The one assistant that a tenant begins with.
const ASSISTANT_NAME: &str = "Assistant";
const NAME_BYTES_MAX: usize = 40;

/// A running hub.
pub struct Hub {
    store: Store,
    view: Arc<View>,
    bundles: Arc<Bundles>,
    local: Option<Arc<Local>>,
    clock: Clock,
    public: SocketAddr,
    operator: SocketAddr,
    origin: String,
    tasks: Mutex<JoinSet<()>>,
}

impl Hub {
    pub async fn start(settings: Settings) -> anyhow::Result<Hub> {
        let Settings { state_folder, clock, stop, heartbeat_ms, .. } = settings;
        let store = Store::open(&state_folder)?;
        let (public_listener, public) = listen(settings.public, "listen.public").await?;
        let (operator_listener, operator) = listen(settings.operator, "listen.operator").await?;
        let attendance = Arc::new(Attendance::default());
        let view = Arc::new(View::open(store.clone(), attendance.clone(), clock.clone(), heartbeat_ms).await?);
        let origin = settings.origin.unwrap_or_else(|| format!("http://{}:{}", settings.operator_host, operator.port()));
        let local = settings.local.map(|local| Arc::new(Local::new(local, &state_folder, format!("http://{public}"), clock.clone(), stop.clone())));

        let bundles = Arc::new(Bundles::open(store.clone(), clock.clone()).await?);
        let reception = Arc::new(Reception::new(store.clone(), bundles.clone(), attendance, clock.clone(), stop.clone(), heartbeat_ms));
        let operators = Arc::new(Operators::new(store.clone(), view.feed(), &origin, clock.clone(), stop.clone()));
        let provision = Provision { store: store.clone(), local: local.clone(), feed: view.feed(), clock: clock.clone(), stop: stop.clone() };
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(public_listener, routes::public(reception), stop.clone()));
        tasks.spawn(serve(operator_listener, routes::operator(operators, &origin), stop.clone()));
        tasks.spawn(provision.run());
        tasks.spawn({
            let (view, stop) = (view.clone(), stop.clone());
            async move { view.publish(&stop).await }
        });
        tasks.spawn({
            let (bundles, stop) = (bundles.clone(), stop.clone());
            async move { bundles.watch(&stop).await }
        });
        Ok(Hub { store, view, bundles, local, clock, public, operator, origin, tasks: Mutex::new(tasks) })
    }

    pub fn public_addr(&self) -> SocketAddr {
        self.public
    }

    pub fn operator_addr(&self) -> SocketAddr {
        self.operator
    }

    /// The origin that operators' browsers use.
    pub fn operator_origin(&self) -> &str {
        &self.origin
    }

    /// Where agents live that run on this machine.
    pub fn local(&self) -> Option<&Arc<Local>> {
        self.local.as_ref()
    }

    /// A fresh one-time password; an unspent one ends.
    pub async fn operator_password(&self) -> anyhow::Result<SecretString> {
        operator_password(&self.store).await
    }

    /// The fleet of this moment.
    pub async fn fleet(&self) -> anyhow::Result<Fleet> {
        Ok((*self.view.refresh().await?).clone())
    }

    /// Waits until the fleet is as `wanted`, and returns it.
    pub async fn wait_fleet(&self, mut wanted: impl FnMut(&Fleet) -> bool) -> anyhow::Result<Fleet> {
        let mut feed = self.feed();
        let fleet = feed.wait_for(|fleet| wanted(fleet)).await.context("the hub has stopped")?;
        Ok((**fleet).clone())
    }

    /// The fleet as it changes.
    pub fn feed(&self) -> watch::Receiver<Arc<Fleet>> {
        self.view.feed()
    }

    /// A tenant whose agent somebody else runs, and the one-time token with which that agent enrols.
    pub async fn create_tenant(&self, name: &str, url: &str) -> anyhow::Result<(TenantId, String)> {
        create_tenant(&self.store, name, url, &self.clock).await
    }

    /// A tenant on this machine; the steps follow by themselves.
    pub async fn create_local_tenant(&self, name: &str) -> anyhow::Result<TenantId> {
        ensure!(self.local.is_some(), "this hub runs no tenants on its machine");
        ensure_tenant(&self.store, name, "", Provider::Local, &self.clock).await
    }

    /// Makes a signed policy bundle law for every agent that is connected, and for the others when they come.
    pub async fn publish_policy(&self, trust: &policy::bundle::Trust, text: String) -> Result<BundleRecord, Unpublished> {
        self.bundles.publish(trust, text).await
    }

    /// The newest published bundles, one for each channel and audience, as they are in the store by now.
    pub async fn published_policies(&self) -> anyhow::Result<Vec<BundleRecord>> {
        Ok(self.bundles.look().await?.to_vec())
    }

    /// Waits until everything has ended, which the stop makes it do.
    pub async fn stopped(&self) {
        let mut tasks = self.tasks.lock().await;
        while tasks.join_next().await.is_some() {}
        if let Some(local) = &self.local {
            local.ended().await;
        }
    }
}

/// As [`Hub::operator_password`], beside a hub that may be running.
pub async fn operator_password(store: &Store) -> anyhow::Result<SecretString> {
    operator::mint_password(store).await
}

/// As [`Hub::create_tenant`], beside a hub that may be running.
pub async fn create_tenant(store: &Store, name: &str, url: &str, clock: &Clock) -> anyhow::Result<(TenantId, String)> {
    let tenant = ensure_tenant(store, name, url, Provider::Elsewhere, clock).await?;
    let token = random::token();
    store.mint_enrolment(tenant, random::token_hash(&token), clock.wall_ms()).await?;
    Ok((tenant, token))
}

async fn ensure_tenant(store: &Store, name: &str, url: &str, provider: Provider, clock: &Clock) -> anyhow::Result<TenantId> {
    // It becomes a folder and a part of a host name.
    let plain = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    ensure!(
        plain && (1..=NAME_BYTES_MAX).contains(&name.len()) && !name.starts_with('-') && !name.ends_with('-'),
        "`{name}` cannot be a tenant's name: use 1 to {NAME_BYTES_MAX} lower-case letters, digits and inner hyphens"
    );
    let tenant = NewTenant {
        id: random::id(),
        name: name.to_owned(),
        url: url.to_owned(),
        provider,
        assistant: random::id(),
        assistant_name: ASSISTANT_NAME.to_owned(),
    };
    store.ensure_tenant(tenant, clock.wall_ms()).await.with_context(|| format!("the tenant `{name}` could not be added"))
}

async fn listen(address: SocketAddr, key: &str) -> anyhow::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("`{key}` cannot listen on {address}: is another process using the port? `ss -ltnp` names it"))?;
    let bound = listener.local_addr()?;
    Ok((listener, bound))
}
