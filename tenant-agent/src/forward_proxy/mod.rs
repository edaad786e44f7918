//! The way out for everything but model calls: OpenClaw and what it starts → here → a host that somebody allowed.
//!
//! A connection begins at [`serve`]: authenticate → who is meant → may anybody reach it → what the lists say. What is
//! looked into goes on in [`exchange`], request by request; what is passed through goes on in [`tunnel`]. A host that no
//! list allows is not even looked up: whoever asks for it is told so, and a person is asked.
//!
//! Nothing is followed here: a redirect goes back to whoever asked, and the next request passes every step again.
//! Limits: HTTP/1.1 alone; what changes its protocol (WebSocket) needs a host that is passed through.

mod authority;
mod exchange;
mod inside;
mod reach;
mod refused;
mod secrets;
mod tunnel;

use crate::bundle::InForce;
use crate::gateway::Gateway;
use crate::hosts::{Hosts, Sought};
use crate::outside::Outside;
use anyhow::Context;
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Method, Request, header, uri};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http_body_util::BodyExt;
use policy::Regime;
use policy::host::{Host, Manner, Reach, Target, Verdict, decide};
use refused::{Refused, Why};
use serde::Deserialize;
use service::{Clock, Stop, random};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub use authority::Authority;
pub use secrets::Secrets;
pub use tunnel::serve as serve_tunnel;

pub struct ForwardProxy {
    /// Whom OpenClaw calls by itself; nobody is asked about these.
    pub own_hosts: Vec<Host>,
    /// Where model calls come in. From behind a link of its own OpenClaw asks for that through here, too.
    pub egress: SocketAddr,
    pub gateway: Gateway,
    pub hosts: Hosts,
    pub in_force: InForce,
    pub outside: Outside,
    pub authority: Authority,
    pub secrets: Secrets,
    pub clock: Clock,
    pub stop: Stop,
    pub bounds: Bounds,
}

/// What was recorded of OpenClaw, as far as it is of use here.
#[derive(Deserialize)]
struct Recorded {
    own_hosts: Vec<String>,
}

const RECORDED: &str = include_str!("../../../packaging/openclaw/observed.toml");

/// Whom OpenClaw was seen to call by itself.
pub fn own_hosts() -> anyhow::Result<Vec<Host>> {
    let recorded: Recorded = toml::from_str(RECORDED).context("what was recorded of OpenClaw is not readable")?;
    recorded.own_hosts.iter().map(|host| Host::parse(host).with_context(|| format!("`{host}` was recorded of OpenClaw and is no host"))).collect()
}

/// What all connections share.
pub struct Bounds {
    connections: Arc<Semaphore>,
    /// Of bodies that are held to be looked at, in KiB.
    bodies_kib: Arc<Semaphore>,
}

/// Connections that are held open through here, whatever goes on in them.
const CONNECTIONS_MAX: usize = 256;
/// A body is looked at whole, so it has to fit. What is larger needs a host that is passed through.
const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;
/// All bodies that are held at the same time.
const BODIES_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Head of a request or an answer.
const HEAD_BYTES_MAX: usize = 64 * 1024;
const HEADERS_MAX: usize = 100;

/// Until a client has said what it wants.
const HEAD_WAIT_MS: u64 = 10_000;
/// Until a body is here, room for it included.
const BODY_WAIT_MS: u64 = 60_000;
/// Until a host has been looked up and connected, TLS included.
const REACH_WAIT_MS: u64 = 20_000;
/// Until a host begins to answer. Long polls take a minute.
const ANSWER_WAIT_MS: u64 = 180_000;
/// Between two pieces of an answer.
const IDLE_WAIT_MS: u64 = 120_000;
/// Silence of a connection that is passed through: chat protocols say something more often.
const TUNNEL_IDLE_MS: u64 = 900_000;
/// An answer or a connection that never ends, ends.
const LIFE_MS: u64 = 12 * 3_600_000;

/// Where a `CONNECT` is taken for HTTP, so that a client may hear inside of it why it may not go on.
const ASKED_PORTS: [u16; 4] = [80, 443, 8080, 8443];

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds { connections: Arc::new(Semaphore::new(CONNECTIONS_MAX)), bodies_kib: Arc::new(Semaphore::new(BODIES_BYTES_MAX / 1024)) }
    }
}

pub fn routes(proxy: Arc<ForwardProxy>) -> Router {
    // No path is ours: everything that comes is for somebody else.
    Router::new().fallback(serve).with_state(proxy)
}

async fn serve(State(proxy): State<Arc<ForwardProxy>>, request: Request<Body>) -> Response {
    let language = refused::language(request.headers());
    let outcome = match request.method() {
        &Method::CONNECT => connect(&proxy, request).await,
        _ => absolute(&proxy, request).await,
    };
    outcome.unwrap_or_else(|refused| refused.answer(language))
}

/// A connection that is to be opened.
async fn connect(proxy: &Arc<ForwardProxy>, request: Request<Body>) -> Result<Response, Refused> {
    authenticate(&proxy.gateway, request.headers())?;
    let target = request.uri().authority().and_then(|authority| Target::parse(authority.as_str(), None).ok()).ok_or(Why::MALFORMED)?;
    if let Some(host) = one(request.headers(), header::HOST)?
        && Target::parse(host, Some(target.port)).ok().as_ref() != Some(&target)
    {
        return Err(Why::DISAGREES.about(&target));
    }
    let place = proxy.place().ok_or(Why::BUSY)?;
    if target.host == Host::Address(proxy.egress.ip()) && target.port == proxy.egress.port() {
        // The one door inside that it may have, and that has a token of its own.
        let outer = TcpStream::connect(proxy.egress).await.map_err(|_| Why::UNREACHABLE.about(&target))?;
        tunnel::open(proxy.clone(), request, outer, place);
        return Ok(().into_response());
    }
    match proxy.verdict(&target, None).await? {
        Verdict::Never(rule) => Err(closed(&target, rule)),
        Verdict::Pass(Manner::Tcp) => {
            let outer = proxy.reach(&target).await?;
            tunnel::open(proxy.clone(), request, outer, place);
            Ok(().into_response())
        }
        Verdict::Pass(Manner::Tunnel) => {
            let outer = proxy.reach(&target).await?;
            tunnel::open_named(proxy.clone(), request, target, outer, place);
            Ok(().into_response())
        }
        Verdict::Ask(_) if !ASKED_PORTS.contains(&target.port) => Err(Why::PORT.about(&target)),
        Verdict::Pass(Manner::Inspect) | Verdict::Ask(_) => {
            inside::open(proxy.clone(), request, target, place);
            Ok(().into_response())
        }
    }
}

/// A request in the clear, with the whole address in its first line.
async fn absolute(proxy: &Arc<ForwardProxy>, request: Request<Body>) -> Result<Response, Refused> {
    authenticate(&proxy.gateway, request.headers())?;
    let uri = request.uri();
    if uri.scheme() != Some(&uri::Scheme::HTTP) {
        return Err(Why::MALFORMED.into());
    }
    let target = uri.authority().and_then(|authority| Target::parse(authority.as_str(), Some(80)).ok()).ok_or(Why::MALFORMED)?;
    let place = proxy.place().ok_or(Why::BUSY)?;
    let line = exchange::Line::new(target, false);
    let answer = exchange::pass(proxy, &line, request).await?;
    // Held as long as the answer goes on.
    Ok(answer.map(|body| {
        Body::new(body.map_frame(move |frame| {
            let _ = &place;
            frame
        }))
    }))
}

fn authenticate(gateway: &Gateway, headers: &HeaderMap) -> Result<(), Refused> {
    let shown = one(headers, header::PROXY_AUTHORIZATION).ok().flatten().and_then(|value| value.split_once(' '));
    let shown = shown.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("basic")).and_then(|(_, value)| STANDARD.decode(value.trim()).ok());
    let shown = shown.and_then(|bytes| String::from_utf8(bytes).ok());
    let shown = shown.as_deref().and_then(|text| text.split_once(':')).map(|(_, password)| password);
    // The comparison needs the token.
    let right = gateway.forward_token().zip(shown).is_some_and(|(token, shown)| random::same(token.expose(), shown));
    if right { Ok(()) } else { Err(Why::CREDENTIALS.into()) }
}

/// The one value of a header. Two are a request that others read differently.
fn one(headers: &HeaderMap, name: header::HeaderName) -> Result<Option<&str>, Refused> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(|_| Why::MALFORMED.into()),
        _ => Err(Why::MALFORMED.into()),
    }
}

fn closed(target: &Target, rule: &'static str) -> Refused {
    tracing::warn!(rule, "a connection that nobody may make was refused");
    Why::CLOSED.about(target)
}

impl ForwardProxy {
    fn place(&self) -> Option<OwnedSemaphorePermit> {
        self.bounds.connections.clone().try_acquire_owned().ok()
    }

    /// What the lists make of it: the tenant's goes first, then the bundle's.
    async fn verdict(&self, target: &Target, method: Option<&str>) -> Result<Verdict, Refused> {
        let own = self.hosts.about(target).await.map_err(unwritten)?;
        let law: Arc<Regime> = self.in_force.law();
        Ok(decide(law.law().http(), target, method, own.iter().chain(law.hosts())))
    }

    /// Asks a person, and says what came of it.
    async fn ask(&self, target: &Target, reach: Reach) -> Refused {
        if self.own_hosts.contains(&target.host) {
            return Why::OWN.about(target);
        }
        match self.hosts.ask(self.in_force.law().law(), target, reach).await {
            Ok(Sought::Waiting(id)) => Why::NOT_ALLOWED.about(target).with_approval(id),
            Ok(Sought::Denied) => Why::DENIED.about(target),
            Ok(Sought::TooMany) => Why::QUESTIONS.about(target),
            Err(error) => unwritten(error),
        }
    }
}

fn unwritten(error: service::store::StoreError) -> Refused {
    tracing::error!(%error, "the lists of hosts cannot be read or asked for");
    Why::INTERNAL.into()
}

/// What comes in time, or nothing.
async fn within<F: Future>(clock: &Clock, wait_ms: u64, work: F) -> Option<F::Output> {
    tokio::select! {
        biased;
        outcome = work => Some(outcome),
        () = clock.sleep(wait_ms) => None,
    }
}
