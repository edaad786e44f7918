//! A door: a listener, and what every request must pass before a handler sees it.
//!
//! In order: enough time to send its head, a `Host` that is ours, an `Origin` that is ours where something changes or a
//! socket opens. On the way out: the headers that every answer carries, and the words of a refusal.

use crate::error::{Refusal, worded};
use crate::stop::Stop;
use crate::text::Language;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::de::DeserializeOwned;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tower_service::Service;

/// Who may knock.
#[derive(Clone, Debug)]
pub enum Door {
    /// For browsers: `hosts` are the accepted values of `Host`, and what changes state must come from `origin`.
    Browser { hosts: Vec<String>, origin: String },
    /// For programs that bring their own proof: no browser has business here, so a request with an `Origin` is refused.
    Program,
}

impl Door {
    /// A browser's door at `origin`, such as `http://alice.localhost:8410`.
    pub fn browser(origin: &str) -> Door {
        let host = origin.split_once("://").map_or(origin, |(_, host)| host);
        Door::Browser { hosts: vec![host.to_owned()], origin: origin.to_owned() }
    }
}

/// The address a request came from.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// The other end of a unix socket, as the kernel tells it.
#[derive(Clone, Copy, Debug)]
pub struct PeerProcess {
    pub uid: u32,
    pub pid: Option<i32>,
}

/// Open connections a listener; more wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 1024;
/// Of these, as many from one address: one peer cannot take every place. Behind a proxy all browsers are one peer.
const CONNECTIONS_PEER_MAX: usize = 512;
/// A client that has not sent its head by then is cut off.
const HEAD_WAIT: Duration = Duration::from_secs(10);
/// Answers in progress when the service stops.
const STOP_GRACE: Duration = Duration::from_secs(3);
/// Bodies of the JSON doors.
pub const BODY_BYTES_MAX: usize = 64 * 1024;

pub fn guarded(router: Router, door: Door) -> Router {
    router.fallback(async || Refusal::NOT_FOUND).layer(middleware::from_fn_with_state(Arc::new(door), guard))
}

async fn guard(State(door): State<Arc<Door>>, request: Request, next: Next) -> Response {
    let language = Language::of(request.headers());
    let answer = match admit(&door, &request) {
        Ok(()) => next.run(request).await,
        Err(refusal) => axum::response::IntoResponse::into_response(refusal),
    };
    let mut answer = worded(answer, language);
    for (name, value) in ALWAYS {
        answer.headers_mut().entry(HeaderName::from_static(name)).or_insert(HeaderValue::from_static(value));
    }
    answer
}

fn admit(door: &Door, request: &Request) -> Result<(), Refusal> {
    let headers = request.headers();
    let one = |name| {
        let mut values = headers.get_all(name).iter();
        match (values.next(), values.next()) {
            (Some(value), None) => value.to_str().ok(),
            _ => None,
        }
    };
    match door {
        Door::Program if headers.contains_key(header::ORIGIN) => Err(Refusal::ORIGIN_FOREIGN),
        Door::Program => Ok(()),
        Door::Browser { hosts, origin } => {
            // Names are compared before anything is routed: a page that rebinds its name to our address gets nothing.
            let host = one(header::HOST).map(str::to_ascii_lowercase);
            if !host.is_some_and(|host| hosts.contains(&host)) {
                return Err(Refusal::HOST_UNKNOWN);
            }
            let changes = !matches!(*request.method(), Method::GET | Method::HEAD);
            if (changes || is_upgrade(headers)) && one(header::ORIGIN) != Some(origin) {
                return Err(Refusal::ORIGIN_FOREIGN);
            }
            Ok(())
        }
    }
}

fn is_upgrade(headers: &HeaderMap) -> bool {
    headers.contains_key(header::UPGRADE)
}

const ALWAYS: [(&str, &str); 9] = [
    ("cache-control", "no-store"),
    ("content-security-policy", CSP),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("permissions-policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
    ("referrer-policy", "no-referrer"),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("x-robots-tag", "noindex, nofollow"),
];

pub const CSP: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'; manifest-src 'self'; \
    worker-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

/// A JSON body that is small enough and exactly of the expected form.
pub struct Json<T, const BYTES_MAX: usize = BODY_BYTES_MAX>(pub T);

impl<S: Send + Sync, T: DeserializeOwned, const BYTES_MAX: usize> FromRequest<S> for Json<T, BYTES_MAX> {
    type Rejection = Refusal;

    async fn from_request(request: Request, _: &S) -> Result<Self, Refusal> {
        let is_json = request.headers().get(header::CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/json"));
        if !is_json {
            return Err(Refusal::BODY_MALFORMED);
        }
        let bytes = body(request.into_body(), BYTES_MAX).await?;
        serde_json::from_slice(&bytes).map(Json).map_err(|_| Refusal::BODY_MALFORMED)
    }
}

/// A client that trickles its body would hold a connection for ever.
const BODY_WAIT: Duration = Duration::from_secs(15);

/// The token that a program shows.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}

/// How a body is packed, outermost last. One that cannot be read is one that nobody knows.
pub fn codings(headers: &HeaderMap) -> String {
    headers.get_all(header::CONTENT_ENCODING).iter().map(|value| value.to_str().unwrap_or("?")).collect::<Vec<_>>().join(",")
}

/// The whole body, if it is at most `bytes_max` and comes in time.
pub async fn body(body: Body, bytes_max: usize) -> Result<Bytes, Refusal> {
    body_within(body, bytes_max, BODY_WAIT).await
}

async fn body_within(body: Body, bytes_max: usize, wait: Duration) -> Result<Bytes, Refusal> {
    let whole = tokio::time::timeout(wait, axum::body::to_bytes(body, bytes_max)).await.map_err(|_| Refusal::BODY_LATE)?;
    whole.map_err(|error| {
        let too_large = std::error::Error::source(&error).is_some_and(|source| source.is::<http_body_util::LengthLimitError>());
        if too_large { Refusal::BODY_TOO_LARGE } else { Refusal::BODY_MALFORMED }
    })
}

/// Serves until the stop.
pub async fn serve(listener: TcpListener, router: Router, stop: Stop) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let peers = Peers::default();
    while let Some(Ok(place)) = stop.or(places.clone().acquire_owned()).await {
        let Some(accepted) = stop.or(listener.accept()).await else { break };
        let Ok((stream, peer)) = accepted else {
            // Out of file descriptors, or the client was gone before we came: neither may spin.
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let Some(seat) = Seat::take(&peers, peer.ip()) else { continue };
        let _ = stream.set_nodelay(true);
        let (router, stop) = (router.clone(), stop.clone());
        tokio::spawn(async move {
            connection(stream, router, stop, move |extensions| {
                extensions.insert(Peer(peer));
            })
            .await;
            drop((seat, place));
        });
    }
    // Connections end by themselves, each within its grace.
    let _ = tokio::time::timeout(STOP_GRACE, places.acquire_many(CONNECTIONS_MAX as u32)).await;
}

/// How many connections each address holds.
type Peers = Arc<Mutex<HashMap<IpAddr, usize>>>;

/// One connection's share of its address; given back when dropped.
struct Seat {
    peers: Peers,
    ip: IpAddr,
}

impl Seat {
    fn take(peers: &Peers, ip: IpAddr) -> Option<Seat> {
        let mut held = peers.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let count = held.entry(ip).or_default();
        if *count >= CONNECTIONS_PEER_MAX {
            return None;
        }
        *count += 1;
        drop(held);
        Some(Seat { peers: peers.clone(), ip })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut held = self.peers.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(count) = held.get_mut(&self.ip) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.ip);
            }
        }
    }
}

/// Serves on a unix socket until the stop.
pub async fn serve_unix(listener: UnixListener, router: Router, stop: Stop) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    while let Some(Ok(place)) = stop.or(places.clone().acquire_owned()).await {
        let Some(accepted) = stop.or(listener.accept()).await else { break };
        let with_peer = |(stream, _): (tokio::net::UnixStream, _)| stream.peer_cred().map(|cred| (stream, PeerProcess { uid: cred.uid(), pid: cred.pid() }));
        let Ok((stream, peer)) = accepted.and_then(with_peer) else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let (router, stop) = (router.clone(), stop.clone());
        tokio::spawn(async move {
            connection(stream, router, stop, move |extensions| {
                extensions.insert(peer);
            })
            .await;
            drop(place);
        });
    }
}

async fn connection<IO>(stream: IO, router: Router, stop: Stop, note: impl Fn(&mut axum::http::Extensions))
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = hyper::service::service_fn(|mut request: hyper::Request<hyper::body::Incoming>| {
        note(request.extensions_mut());
        router.clone().call(request.map(Body::new))
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WAIT)
        .max_headers(64)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::pin!(connection);
    tokio::select! {
        // A client that breaks off is no news.
        _ = connection.as_mut() => {}
        () = stop.stopped() => {
            connection.as_mut().graceful_shutdown();
            let _ = tokio::time::timeout(STOP_GRACE, connection).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream::{self, StreamExt};

    #[tokio::test]
    async fn a_body_comes_whole_small_and_in_time_or_not_at_all() {
        let piece = |bytes: &'static [u8]| stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(bytes))]);
        let wait = Duration::from_millis(50);
        assert_eq!(body_within(Body::from_stream(piece(b"abc")), 3, wait).await, Ok(Bytes::from_static(b"abc")));
        assert_eq!(body_within(Body::from_stream(piece(b"abcd")), 3, wait).await, Err(Refusal::BODY_TOO_LARGE));
        let broken = stream::iter([Err::<Bytes, _>(std::io::Error::other("gone"))]);
        assert_eq!(body_within(Body::from_stream(broken), 3, wait).await, Err(Refusal::BODY_MALFORMED));
        let trickled = piece(b"a").chain(stream::pending());
        assert_eq!(body_within(Body::from_stream(trickled), 3, wait).await, Err(Refusal::BODY_LATE));
    }

    #[test]
    fn one_address_cannot_take_every_place() {
        let peers = Peers::default();
        let (greedy, other) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let mut seats: Vec<Seat> = (0..CONNECTIONS_PEER_MAX).map_while(|_| Seat::take(&peers, greedy)).collect();
        assert_eq!(seats.len(), CONNECTIONS_PEER_MAX);
        assert!(Seat::take(&peers, greedy).is_none() && Seat::take(&peers, other).is_some());
        seats.pop();
        assert!(Seat::take(&peers, greedy).is_some(), "a place that is given back can be taken");
    }
}
