//! Requests to services whose answers are passed on: kept connections, each driven by whoever reads from it.
//!
//! The usual client has a task for each connection, which hands an answer's pieces over one by one, each with a task switch
//! and a write of its own. Here the connection lies in the answer: reading it reads the socket, and whatever has come with
//! one read can be had at once. The price: nobody looks at a connection while it is kept, so it is looked at before it is
//! used again, and a request that did not leave is sent on another one.
//!
//! Limits: HTTP/1.1, one exchange at a time on a connection; no redirect is followed.

use crate::outward;
use axum::body::{Body, Bytes};
use axum::http::uri::{Authority, PathAndQuery, Scheme};
use axum::http::{HeaderValue, Request, Response, Uri, header};
use hyper::body::{Frame, SizeHint};
use hyper::client::conn::http1::{self, Connection, SendRequest};
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tower_service::Service;

/// Clones share what is kept.
#[derive(Clone)]
pub struct Upstream(Arc<Inner>);

struct Inner {
    connector: HttpsConnector<HttpConnector>,
    kept: Mutex<HashMap<Place, Vec<Kept>>>,
}

type Place = (Scheme, Authority);

/// A connection that waits for its next request.
struct Kept {
    line: Line,
    since: Instant,
}

/// An open connection. It moves only while it is polled.
struct Line {
    sender: SendRequest<Body>,
    connection: Pin<Box<Connection<MaybeHttpsStream<TokioIo<TcpStream>>, Body>>>,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoAnswer {
    /// Nobody was reached: nothing has left.
    Connect,
    /// The connection broke off, or what came was no answer.
    Broken,
}

/// Kept connections a host: as many as may well be in use at once on a busy host.
const KEPT_MAX: usize = 64;
/// Services close what is idle for longer.
const KEPT_WAIT: Duration = Duration::from_secs(60);
/// A connection's buffer: an answer that is large or comes fast is taken in pieces of at most this.
const READ_BYTES_MAX: usize = 64 * 1024;

impl Upstream {
    /// With the same roots and deadlines as every other call to the outside.
    pub fn new() -> Upstream {
        Upstream(Arc::new(Inner { connector: outward::connector(), kept: Mutex::default() }))
    }

    /// Sends a request with an absolute URI, and returns the head of its answer. The caller has the deadline.
    pub async fn send(&self, mut request: Request<Body>) -> Result<Response<Incoming>, NoAnswer> {
        let place = localise(&mut request).ok_or(NoAnswer::Connect)?;
        while let Some(mut line) = self.kept(&place).await {
            match line.exchange(request).await {
                Ok(response) => return Ok(self.passed_on(place, line, response)),
                Err(Some(unsent)) => request = unsent,
                Err(None) => return Err(NoAnswer::Broken),
            }
        }
        let mut line = self.connect(&place).await.ok_or(NoAnswer::Connect)?;
        let response = line.exchange(request).await.map_err(|_| NoAnswer::Broken)?;
        Ok(self.passed_on(place, line, response))
    }

    /// Closes what has been kept for too long.
    pub fn sweep(&self) {
        self.lock().retain(|_, kept| {
            kept.retain(|kept| kept.since.elapsed() < KEPT_WAIT);
            !kept.is_empty()
        });
    }

    fn passed_on(&self, place: Place, line: Line, response: Response<hyper::body::Incoming>) -> Response<Incoming> {
        response.map(|body| Incoming { body, open: Some((line, place)), home: self.clone() })
    }

    async fn connect(&self, (scheme, authority): &Place) -> Option<Line> {
        let uri = Uri::builder().scheme(scheme.clone()).authority(authority.clone()).path_and_query("/").build().ok()?;
        let mut connector = self.0.connector.clone();
        poll_fn(|cx| connector.poll_ready(cx)).await.ok()?;
        let stream = connector.call(uri).await.ok()?;
        let (sender, connection) = http1::Builder::new().max_buf_size(READ_BYTES_MAX).handshake(stream).await.ok()?;
        Some(Line { sender, connection: Box::pin(connection) })
    }

    /// The connection that was used last and is still open.
    async fn kept(&self, place: &Place) -> Option<Line> {
        loop {
            let Kept { mut line, since } = self.lock().get_mut(place)?.pop()?;
            if since.elapsed() < KEPT_WAIT && line.is_open().await {
                return Some(line);
            }
        }
    }

    fn keep(&self, place: Place, line: Line) {
        let mut all = self.lock();
        let kept = all.entry(place).or_default();
        if kept.len() < KEPT_MAX {
            kept.push(Kept { line, since: Instant::now() });
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Place, Vec<Kept>>> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Upstream {
    fn default() -> Upstream {
        Upstream::new()
    }
}

/// Takes the place out of the URI, as a request on a connection of its own names it.
fn localise(request: &mut Request<Body>) -> Option<Place> {
    let mut parts = request.uri().clone().into_parts();
    let place = (parts.scheme.take()?, parts.authority.take()?);
    let host = HeaderValue::from_str(place.1.as_str()).ok()?;
    request.headers_mut().insert(header::HOST, host);
    *request.uri_mut() = parts.path_and_query.unwrap_or(PathAndQuery::from_static("/")).into();
    Some(place)
}

impl Line {
    /// The answer; or the request, if nothing of it has left.
    async fn exchange(&mut self, request: Request<Body>) -> Result<Response<hyper::body::Incoming>, Option<Request<Body>>> {
        let mut answer = pin!(self.sender.try_send_request(request));
        let (connection, mut is_over) = (&mut self.connection, false);
        poll_fn(|cx| {
            // An end is told to whoever waits for the answer, too.
            is_over = is_over || connection.as_mut().poll(cx).is_ready();
            answer.as_mut().poll(cx).map_err(|mut error| error.take_message())
        })
        .await
    }

    /// Looks whether the other side has closed it meanwhile.
    async fn is_open(&mut self) -> bool {
        let is_over = poll_fn(|cx| Poll::Ready(self.connection.as_mut().poll(cx).is_ready())).await;
        !is_over && self.sender.is_ready()
    }
}

/// The body of an answer. Dropped before its end, it closes the connection.
pub struct Incoming {
    body: hyper::body::Incoming,
    /// While more may come.
    open: Option<(Line, Place)>,
    home: Upstream,
}

impl Incoming {
    fn end(&mut self, cx: &mut Context<'_>) {
        let Some((mut line, place)) = self.open.take() else { return };
        // It has to see for itself that the exchange is over.
        if line.connection.as_mut().poll(cx).is_pending() && line.sender.is_ready() {
            self.home.keep(place, line);
        }
    }
}

impl hyper::body::Body for Incoming {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = &mut *self;
        loop {
            match Pin::new(&mut this.body).poll_frame(cx) {
                Poll::Ready(None) => {
                    this.end(cx);
                    return Poll::Ready(None);
                }
                Poll::Ready(frame) => return Poll::Ready(frame),
                Poll::Pending => {}
            }
            let Some((line, _)) = &mut this.open else { return Poll::Pending };
            if line.connection.as_mut().poll(cx).is_ready() {
                this.open = None;
                continue;
            }
            return match Pin::new(&mut this.body).poll_frame(cx) {
                Poll::Ready(None) => {
                    this.end(cx);
                    Poll::Ready(None)
                }
                other => other,
            };
        }
    }

    fn is_end_stream(&self) -> bool {
        // Its end must be read, so that the connection is kept.
        false
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;
    use std::net::SocketAddr;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";

    /// A service that says one of these for each request, closes where it is told to, and counts its connections.
    async fn service(answers: &'static [(&'static [u8], bool)]) -> (SocketAddr, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, connections, said) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let counted = connections.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                let said = said.clone();
                tokio::spawn(async move {
                    let mut read = [0; 1024];
                    while stream.read(&mut read).await.is_ok_and(|bytes| bytes > 0) {
                        let (answer, closes) = answers[said.fetch_add(1, Ordering::SeqCst)];
                        stream.write_all(answer).await.unwrap();
                        if closes {
                            return;
                        }
                    }
                });
            }
        });
        (address, connections)
    }

    async fn ask(upstream: &Upstream, address: SocketAddr) -> Result<Option<Bytes>, NoAnswer> {
        let request = Request::get(format!("http://{address}/x?y=1")).body(Body::empty()).unwrap();
        let answer = upstream.send(request).await?;
        Ok(answer.into_body().collect().await.ok().map(|body| body.to_bytes()))
    }

    /// Returns when the other side's closing has come here.
    async fn closed(upstream: &Upstream) {
        loop {
            let mut kept: Vec<Kept> = upstream.lock().values_mut().flat_map(std::mem::take).collect();
            let mut is_open = false;
            for kept in &mut kept {
                is_open |= kept.line.is_open().await;
            }
            if !is_open {
                // As it was, for the next request to find out.
                return kept.into_iter().for_each(|kept| drop(kept.line));
            }
            for Kept { line, .. } in kept {
                let place = upstream.lock().keys().next().cloned().unwrap();
                upstream.keep(place, line);
            }
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_connection_is_used_again_once_its_answer_was_read() {
        let (address, connections) = service(&[(ANSWER, false), (ANSWER, false), (ANSWER, false)]).await;
        let upstream = Upstream::new();
        for _ in 0..2 {
            assert_eq!(ask(&upstream, address).await, Ok(Some(Bytes::from_static(b"hi"))));
        }
        assert_eq!(connections.load(Ordering::SeqCst), 1);
        let request = Request::get(format!("http://{address}/")).body(Body::empty()).unwrap();
        drop(upstream.send(request).await.unwrap());
        assert_eq!(upstream.lock().values().map(Vec::len).sum::<usize>(), 0, "what was not read to its end is closed");
    }

    #[tokio::test]
    async fn what_was_closed_meanwhile_is_not_used() {
        let (address, connections) = service(&[(ANSWER, true), (ANSWER, false)]).await;
        let upstream = Upstream::new();
        assert_eq!(ask(&upstream, address).await, Ok(Some(Bytes::from_static(b"hi"))));
        closed(&upstream).await;
        assert_eq!(ask(&upstream, address).await, Ok(Some(Bytes::from_static(b"hi"))));
        assert_eq!(connections.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn more_than_was_announced_is_nobodys_answer() {
        const MORE: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhiHTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nother";
        const LESS: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\nhi";
        let (address, connections) = service(&[(MORE, false), (ANSWER, false), (LESS, true), (b"no HTTP\r\n\r\n", true), (b"", true)]).await;
        let upstream = Upstream::new();
        for expected in [Ok(Some(Bytes::from_static(b"hi"))), Ok(Some(Bytes::from_static(b"hi"))), Ok(None), Err(NoAnswer::Broken), Err(NoAnswer::Broken)] {
            assert_eq!(ask(&upstream, address).await, expected);
        }
        assert!(connections.load(Ordering::SeqCst) >= 4, "what lied is not asked again on the same connection");
        let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        assert_eq!(ask(&upstream, nobody).await, Err(NoAnswer::Connect));
    }
}
