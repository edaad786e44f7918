//! The way out for everything but model calls: OpenClaw and what it starts → here → a host that somebody allowed.
//!
//! A connection begins at [`serve`]: authenticate → who is meant → may anybody reach it → what the lists say. What is
//! looked into goes on in [`exchange`], request by request; what is passed through goes on in [`tunnel`].

mod authority;
mod inside;
mod tunnel;

use crate::gateway::Gateway;
use crate::outlet::exchange::{self, Leave};
use crate::outlet::{HEAD_BYTES_MAX, HEADERS_MAX, LIFE_MS, Outlet, Refused, Why, closed, language, one, within};
use anyhow::Context;
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Method, Request, header, uri};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http_body_util::BodyExt;
use policy::host::{Host, Manner, Target, Verdict};
use serde::Deserialize;
use service::random;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpStream;

pub use authority::Authority;
pub use tunnel::serve as serve_tunnel;

pub struct ForwardProxy {
    /// Where model calls come in. From behind a link of its own OpenClaw asks for that through here, too.
    pub egress: SocketAddr,
    pub gateway: Gateway,
    pub authority: Authority,
    /// Where everything goes that may go.
    pub outlet: Arc<Outlet>,
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

/// Until a client has said what it wants.
const HEAD_WAIT_MS: u64 = 10_000;
/// Silence of a connection that is passed through: chat protocols say something more often.
const TUNNEL_IDLE_MS: u64 = 900_000;
/// Where a `CONNECT` is taken for HTTP, so that a client may hear inside of it why it may not go on.
const ASKED_PORTS: [u16; 4] = [80, 443, 8080, 8443];

pub fn routes(proxy: Arc<ForwardProxy>) -> Router {
    // No path is ours: everything that comes is for somebody else.
    Router::new().fallback(serve).with_state(proxy)
}

async fn serve(State(proxy): State<Arc<ForwardProxy>>, request: Request<Body>) -> Response {
    let language = language(request.headers());
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
    let place = proxy.outlet.place().ok_or(Why::BUSY)?;
    if target.host == Host::Address(proxy.egress.ip()) && target.port == proxy.egress.port() {
        // The one door inside that it may have, and that has a token of its own.
        let outer = TcpStream::connect(proxy.egress).await.map_err(|_| Why::UNREACHABLE.about(&target))?;
        tunnel::open(proxy.clone(), request, outer, place);
        return Ok(().into_response());
    }
    match proxy.outlet.verdict(&target, None).await? {
        Verdict::Never(rule) => Err(closed(&target, rule)),
        Verdict::Pass(Manner::Tcp) => {
            let outer = proxy.outlet.reach(&target).await?;
            tunnel::open(proxy.clone(), request, outer, place);
            Ok(().into_response())
        }
        Verdict::Pass(Manner::Tunnel) => {
            let outer = proxy.outlet.reach(&target).await?;
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
    let place = proxy.outlet.place().ok_or(Why::BUSY)?;
    let line = exchange::Line::new(target, false);
    let answer = exchange::pass(&proxy.outlet, &line, request, Leave::Listed).await?;
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
