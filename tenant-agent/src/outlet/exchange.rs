//! One request to a host that is looked into, and its answer.
//!
//! [`pass`] is the one page: is it whole → does it name one host → is the host open for this method → what does it carry →
//! connect → send → stream back.

use super::refused::{Refused, Why};
use super::{ANSWER_WAIT_MS, BODY_BYTES_MAX, BODY_WAIT_MS, HEAD_BYTES_MAX, HEADERS_MAX, IDLE_WAIT_MS, LIFE_MS, Outlet, REACH_WAIT_MS, closed, one, within};
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, Version, header};
use axum::response::Response;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use policy::host::{Target, Verdict};
use service::Clock;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Mutex, OwnedSemaphorePermit};

/// One client's way to one host. Its connection is kept for the next request.
pub struct Line {
    target: Target,
    is_tls: bool,
    kept: Mutex<Option<SendRequest<Full<Bytes>>>>,
}

impl Line {
    pub fn new(target: Target, is_tls: bool) -> Line {
        Line { target, is_tls, kept: Mutex::default() }
    }

    pub fn target(&self) -> &Target {
        &self.target
    }

    fn port(&self) -> u16 {
        if self.is_tls { 443 } else { 80 }
    }
}

/// What stands behind a request to a host that no list allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// Nothing: a person is asked about the host.
    Listed,
    /// A person said yes to exactly this request. It opens nothing that is closed for everybody.
    Granted,
}

/// What a body takes of the room for all bodies, as long as it is held.
type Room = Option<OwnedSemaphorePermit>;

pub async fn pass(outlet: &Outlet, line: &Line, request: Request<Body>, leave: Leave) -> Result<Response, Refused> {
    let (head, body) = request.into_parts();
    let target = &line.target;
    agrees(line, &head.uri, &head.headers)?;
    if matches!(head.method, Method::CONNECT | Method::TRACE) {
        return Err(Why::METHOD.about(target));
    }
    if head.headers.contains_key(header::UPGRADE) {
        return Err(Why::UPGRADE.about(target));
    }
    match outlet.verdict(target, Some(head.method.as_str())).await? {
        // Whatever may be passed through may be looked into, too.
        Verdict::Pass(_) => {}
        Verdict::Never(rule) => return Err(closed(target, rule)),
        Verdict::Ask(_) if leave == Leave::Granted => {}
        Verdict::Ask(reach) => {
            // A host's name can carry something too, and would stand on the card.
            outlet.secrets.for_host(&target.host).await.map_err(|()| Why::UNSCREENED)?.vouch_head(&target.to_string()).map_err(|()| Why::SECRET)?;
            return Err(outlet.ask(target, reach).await);
        }
    }
    let secrets = outlet.secrets.for_host(&target.host).await.map_err(|()| Why::UNSCREENED)?;
    let mut headers = end_to_end(&head.headers);
    secrets.vouch_head(&written(&head.method, &head.uri, &headers)).map_err(|()| Why::SECRET.about(target))?;
    let (bytes, room) = whole(outlet, target, &head.headers, body).await?;
    let body = secrets.vouch_body(&mut headers, bytes).await.map_err(|why| why.about(target))?;
    let outgoing = outgoing(line, head.method, &head.uri, headers, body).ok_or(Why::MALFORMED)?;
    let answer = send(outlet, line, outgoing).await?;
    drop(room);
    returned(&outlet.clock, target, answer)
}

/// The host is named once, or the same each time.
fn agrees(line: &Line, uri: &Uri, headers: &HeaderMap) -> Result<(), Refused> {
    let same = |text: &str| Target::parse(text, Some(line.port())).ok().as_ref() == Some(&line.target);
    if uri.authority().is_some_and(|authority| !same(authority.as_str())) {
        return Err(Why::DISAGREES.about(&line.target));
    }
    match one(headers, header::HOST)? {
        Some(host) if same(host) => Ok(()),
        Some(_) => Err(Why::DISAGREES.about(&line.target)),
        None => Err(Why::MALFORMED.into()),
    }
}

/// Headers that speak about one connection, not about the request.
const HOP: [&str; 9] = ["connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "expect", "content-length"];

/// The headers that go on to the other side.
fn end_to_end(headers: &HeaderMap) -> HeaderMap {
    let named: Vec<String> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(',').map(|name| name.trim().to_ascii_lowercase()))
        .collect();
    let goes = |name: &HeaderName| !HOP.contains(&name.as_str()) && !name.as_str().starts_with("proxy-") && !named.iter().any(|named| named == name.as_str());
    headers.iter().filter(|(name, _)| goes(name)).map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// The head as one text, to be looked at.
fn written(method: &Method, uri: &Uri, headers: &HeaderMap) -> String {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let mut text = format!("{method} {path}\n");
    for (name, value) in headers {
        text.push_str(name.as_str());
        text.push_str(": ");
        text.push_str(&String::from_utf8_lossy(value.as_bytes()));
        text.push('\n');
    }
    text
}

/// The whole body, when there is room for it.
async fn whole(outlet: &Outlet, target: &Target, headers: &HeaderMap, body: Body) -> Result<(Bytes, Room), Refused> {
    let hint = body.size_hint();
    if hint.exact() == Some(0) {
        return Ok((Bytes::new(), None));
    }
    // A client that says too much beforehand need not say it.
    let announced = one(headers, header::CONTENT_LENGTH)?.and_then(|length| length.parse::<u64>().ok());
    if announced.unwrap_or(0).max(hint.lower()) > BODY_BYTES_MAX as u64 {
        return Err(Why::BODY_TOO_LARGE.about(target));
    }
    let kib = announced.map_or(BODY_BYTES_MAX, |bytes| bytes as usize).div_ceil(1024) as u32;
    let read = async {
        let room = outlet.bounds.bodies_kib.clone().acquire_many_owned(kib).await.map_err(|_| Why::BUSY)?;
        let bytes = Limited::new(body, BODY_BYTES_MAX).collect().await.map_err(|error| {
            let too_large = error.is::<http_body_util::LengthLimitError>();
            if too_large { Why::BODY_TOO_LARGE } else { Why::BODY_MALFORMED }
        })?;
        Ok::<_, Why>((bytes.to_bytes(), Some(room)))
    };
    match within(&outlet.clock, BODY_WAIT_MS, read).await {
        Some(read) => read.map_err(|why| why.about(target)),
        None => Err(Why::BODY_LATE.about(target)),
    }
}

fn outgoing(line: &Line, method: Method, uri: &Uri, headers: HeaderMap, body: Bytes) -> Option<Request<Full<Bytes>>> {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = method;
    *request.uri_mut() = path.parse().ok()?;
    *request.headers_mut() = headers;
    let Target { host, port } = &line.target;
    let host = if *port == line.port() { host.to_string() } else { format!("{host}:{port}") };
    request.headers_mut().insert(header::HOST, HeaderValue::from_str(&host).ok()?);
    Some(request)
}

/// Sends on the kept connection, or on a new one when that has ended meanwhile.
async fn send(outlet: &Outlet, line: &Line, mut request: Request<Full<Bytes>>) -> Result<hyper::Response<Incoming>, Refused> {
    let target = &line.target;
    let mut kept = line.kept.lock().await;
    if let Some(mut sender) = kept.take()
        && matches!(within(&outlet.clock, REACH_WAIT_MS, sender.ready()).await, Some(Ok(())))
    {
        match within(&outlet.clock, ANSWER_WAIT_MS, sender.try_send_request(request)).await {
            None => return Err(Why::LATE.about(target)),
            Some(Ok(answer)) => {
                *kept = Some(sender);
                return Ok(answer);
            }
            // Only what surely never left is sent again.
            Some(Err(mut error)) => request = error.take_message().ok_or(Why::BROKEN.about(target))?,
        }
    }
    let mut sender = if line.is_tls { speaks(outlet, outlet.reach_tls(target).await?).await } else { speaks(outlet, outlet.reach(target).await?).await }
        .ok_or_else(|| Why::UNREACHABLE.about(target))?;
    match within(&outlet.clock, ANSWER_WAIT_MS, sender.send_request(request)).await {
        None => Err(Why::LATE.about(target)),
        Some(Err(_)) => Err(Why::BROKEN.about(target)),
        Some(Ok(answer)) => {
            *kept = Some(sender);
            Ok(answer)
        }
    }
}

async fn speaks(outlet: &Outlet, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Option<SendRequest<Full<Bytes>>> {
    let mut builder = http1::Builder::new();
    builder.max_buf_size(HEAD_BYTES_MAX).max_headers(HEADERS_MAX);
    let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.ok()?;
    let stop = outlet.stop.clone();
    // Ends with its sender and the answers that came through it.
    tokio::spawn(async move { stop.or(connection).await });
    Some(sender)
}

/// The answer, passed on as it comes: a piece is only read when the one before it is gone.
fn returned(clock: &Clock, target: &Target, answer: hyper::Response<Incoming>) -> Result<Response, Refused> {
    let (head, body) = answer.into_parts();
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(Why::BROKEN.about(target));
    }
    let mut headers = end_to_end(&head.headers);
    // Its length stays, so that the client sees an answer that breaks off.
    if let Some(length) = head.headers.get(header::CONTENT_LENGTH).filter(|_| !head.headers.contains_key(header::TRANSFER_ENCODING)) {
        headers.insert(header::CONTENT_LENGTH, length.clone());
    }
    let ends_ms = clock.now().mono_ms.saturating_add(LIFE_MS);
    let pieces = futures_util::stream::unfold((body, clock.clone()), move |(mut body, clock)| async move {
        let left_ms = ends_ms.saturating_sub(clock.now().mono_ms).min(IDLE_WAIT_MS);
        let piece = match within(&clock, left_ms, body.frame()).await {
            Some(None) => return None,
            Some(Some(Ok(frame))) => Ok(frame.into_data().unwrap_or_default()),
            Some(Some(Err(_))) => Err(std::io::Error::other("the answer broke off")),
            None => Err(std::io::Error::other("the answer did not go on")),
        };
        Some((piece, (body, clock)))
    });
    let mut response = Response::new(Body::from_stream(pieces));
    *response.status_mut() = head.status;
    *response.version_mut() = Version::HTTP_11;
    *response.headers_mut() = headers;
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_speaks_about_one_connection_does_not_go_on() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("host", "a.example.org"),
            ("accept", "*/*"),
            ("connection", "close, X-Private"),
            ("x-private", "1"),
            ("proxy-authorization", "Basic x"),
            ("proxy-connection", "keep-alive"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("expect", "100-continue"),
        ] {
            headers.append(name, HeaderValue::from_static(value));
        }
        let left: Vec<String> = end_to_end(&headers).keys().map(ToString::to_string).collect();
        assert_eq!(left, ["host", "accept"]);
    }

    #[test]
    fn a_request_names_one_host() {
        let line = Line::new(Target::parse("a.example.org:443", None).unwrap(), true);
        let check = |uri: &str, hosts: &[&str]| {
            let mut headers = HeaderMap::new();
            for host in hosts {
                headers.append(header::HOST, HeaderValue::from_str(host).unwrap());
            }
            agrees(&line, &uri.parse().unwrap(), &headers)
        };
        for (uri, hosts) in
            [("/", &["a.example.org"][..]), ("/", &["A.Example.org.:443"]), ("https://a.example.org/x", &["a.example.org"]), ("*", &["a.example.org"])]
        {
            assert_eq!(check(uri, hosts), Ok(()), "{uri} {hosts:?}");
        }
        for (uri, hosts) in [
            ("/", &[][..]),
            ("/", &["b.example.org"]),
            ("/", &["a.example.org:80"]),
            ("/", &["a.example.org", "a.example.org"]),
            ("/", &["a.example.org", "b.example.org"]),
            ("https://b.example.org/x", &["a.example.org"]),
            ("https://a.example.org/x", &["b.example.org"]),
            ("https://x@a.example.org/x", &["a.example.org"]),
        ] {
            assert!(check(uri, hosts).is_err(), "{uri} {hosts:?}");
        }
    }
}
