//! Connections that are looked into: the client speaks TLS with us, under a certificate of this host's own authority, or
//! HTTP in the clear.
//!
//! Nobody outside is connected before a request is allowed, so a host that is not allowed costs nothing and learns nothing.

use super::{ForwardProxy, HEAD_BYTES_MAX, HEAD_WAIT_MS, HEADERS_MAX, language, tunnel, within};
use crate::outlet::exchange::{self, Leave, Line};
use axum::body::Body;
use axum::http::Request;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use policy::host::Target;
use service::Clock;
use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;
use tokio_rustls::LazyConfigAcceptor;

/// What a record of TLS that opens a connection begins with.
const TLS_HANDSHAKE: u8 = 0x16;

pub(super) fn open(proxy: Arc<ForwardProxy>, request: Request<Body>, target: Target, place: OwnedSemaphorePermit) {
    tokio::spawn(async move {
        let stop = proxy.outlet.stop.clone();
        let heard_ms = Arc::new(AtomicU64::new(proxy.outlet.clock.now().mono_ms));
        stop.or(async {
            tokio::select! {
                () = Box::pin(attend(&proxy, request, target, heard_ms.clone())) => {}
                // Also a client that takes nothing of its answer.
                () = tunnel::silence(&proxy.outlet.clock, &heard_ms) => {}
            }
        })
        .await;
        drop(place);
    });
}

async fn attend(proxy: &Arc<ForwardProxy>, request: Request<Body>, target: Target, heard_ms: Arc<AtomicU64>) {
    let first = async {
        let io = TokioIo::new(hyper::upgrade::on(request).await.ok()?);
        let mut stream = Watched { io, heard_ms, clock: proxy.outlet.clock.clone() };
        let mut first = [0; 1];
        stream.read_exact(&mut first).await.ok()?;
        Some((stream, first))
    };
    let Some(Some((stream, first))) = within(&proxy.outlet.clock, HEAD_WAIT_MS, first).await else { return };
    // The first byte is put back before the rest.
    let (rest, writer) = tokio::io::split(stream);
    let stream = tokio::io::join((&first[..]).chain(rest), writer);
    if first[0] != TLS_HANDSHAKE {
        speak(proxy, stream, Line::new(target, false)).await;
        return;
    }
    let greeted = async {
        let start = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), stream).await.ok()?;
        if !tunnel::names(&target, start.client_hello().server_name()) {
            tracing::warn!("a connection was asked for under one name and used under another; it was closed");
            return None;
        }
        let config =
            proxy.authority.config(&target.host).map_err(|error| tracing::error!(error = format!("{error:#}"), "a certificate could not be made")).ok()?;
        start.into_stream(config).await.map_err(|error| tracing::info!(%error, "a client did not take our certificate: its host may need a tunnel")).ok()
    };
    if let Some(Some(stream)) = within(&proxy.outlet.clock, HEAD_WAIT_MS, greeted).await {
        speak(proxy, stream, Line::new(target, true)).await;
    }
}

async fn speak(proxy: &Arc<ForwardProxy>, stream: impl AsyncRead + AsyncWrite + Unpin, line: Line) {
    let line = &line;
    let service = service_fn(async move |request: Request<hyper::body::Incoming>| {
        let language = language(request.headers());
        let outcome = exchange::pass(&proxy.outlet, line, request.map(Body::new), Leave::Listed).await;
        Ok::<_, Infallible>(outcome.unwrap_or_else(|refused| refused.answer(language)))
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(HEAD_WAIT_MS))
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    // A client that breaks off is no news.
    let _ = connection.await;
}

/// Notes when bytes move, either way.
struct Watched<IO> {
    io: IO,
    heard_ms: Arc<AtomicU64>,
    clock: Clock,
}

impl<IO> Watched<IO> {
    fn heard(&self) {
        self.heard_ms.store(self.clock.now().mono_ms, Ordering::Relaxed);
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Watched<IO> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.io).poll_read(context, bytes);
        if read.is_ready() {
            self.heard();
        }
        read
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Watched<IO> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(context, bytes);
        if written.is_ready() {
            self.heard();
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}
