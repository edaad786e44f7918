//! Connections that are passed through: bytes of a TCP service, or TLS that nobody here opens.
//!
//! Of TLS the first message is read, so that the name in it is the name that was allowed. A service may have a door of its
//! own on this machine, for programs that know nothing of proxies; it leads to one place, as long as the lists allow that.

use super::{ForwardProxy, HEAD_WAIT_MS, LIFE_MS, TUNNEL_IDLE_MS, within};
use axum::body::Body;
use axum::http::Request;
use hyper_util::rt::TokioIo;
use policy::host::{Host, Manner, Target, Verdict};
use rustls::server::Acceptor;
use service::Clock;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::OwnedSemaphorePermit;

/// A first message of TLS with every extension there is.
const HELLO_BYTES_MAX: usize = 32 * 1024;
const PIECE_BYTES: usize = 16 * 1024;
const ACCEPT_REST: Duration = Duration::from_millis(20);

/// Passes on whatever comes.
pub(super) fn open(proxy: Arc<ForwardProxy>, request: Request<Body>, outer: TcpStream, place: OwnedSemaphorePermit) {
    tokio::spawn(async move {
        let stop = proxy.outlet.stop.clone();
        stop.or(async {
            if let Some(Ok(inner)) = within(&proxy.outlet.clock, HEAD_WAIT_MS, hyper::upgrade::on(request)).await {
                splice(&proxy.outlet.clock, TokioIo::new(inner), outer).await;
            }
        })
        .await;
        drop(place);
    });
}

/// Passes TLS on, if it is for the host that was named.
pub(super) fn open_named(proxy: Arc<ForwardProxy>, request: Request<Body>, target: Target, mut outer: TcpStream, place: OwnedSemaphorePermit) {
    tokio::spawn(async move {
        let stop = proxy.outlet.stop.clone();
        stop.or(async {
            let hello = async {
                let mut inner = TokioIo::new(hyper::upgrade::on(request).await.ok()?);
                let (said, name) = hello(&mut inner).await?;
                Some((inner, said, name))
            };
            let Some(Some((inner, said, name))) = within(&proxy.outlet.clock, HEAD_WAIT_MS, hello).await else { return };
            if !names(&target, name.as_deref()) {
                tracing::warn!("a tunnel was asked for under one name and used under another; it was closed");
                return;
            }
            if outer.write_all(&said).await.is_ok() {
                splice(&proxy.outlet.clock, inner, outer).await;
            }
        })
        .await;
        drop(place);
    });
}

/// The door of one service. Whoever reaches it shows nothing: it leads to one place, and only as long as that is allowed.
pub async fn serve(proxy: Arc<ForwardProxy>, listener: TcpListener, target: Target) {
    while let Some(accepted) = proxy.outlet.stop.or(listener.accept()).await {
        let Ok((inner, _)) = accepted else {
            // Out of file descriptors, or the client was gone before we came: neither may spin.
            tokio::time::sleep(ACCEPT_REST).await;
            continue;
        };
        let Some(place) = proxy.outlet.place() else { continue };
        let (proxy, target) = (proxy.clone(), target.clone());
        tokio::spawn(async move {
            let stop = proxy.outlet.stop.clone();
            stop.or(async {
                match proxy.outlet.verdict(&target, None).await {
                    Ok(Verdict::Pass(Manner::Tcp)) => {}
                    _ => return tracing::warn!("a tunnel was used whose target is not on the list; it was closed"),
                }
                if let Ok(outer) = proxy.outlet.reach(&target).await {
                    splice(&proxy.outlet.clock, inner, outer).await;
                }
            })
            .await;
            drop(place);
        });
    }
}

/// Whether TLS that asks for `name` is TLS with `target`.
pub(super) fn names(target: &Target, name: Option<&str>) -> bool {
    match (&target.host, name) {
        (Host::Name(_), Some(name)) => Host::parse(name).as_ref() == Ok(&target.host),
        // An address is asked for without a name.
        (Host::Address(_), None) => true,
        _ => false,
    }
}

/// The first message, and the name that it asks for.
async fn hello(stream: &mut (impl AsyncRead + Unpin)) -> Option<(Vec<u8>, Option<String>)> {
    let mut acceptor = Acceptor::default();
    let (mut said, mut read) = (Vec::with_capacity(2048), 0);
    loop {
        if said.len() >= HELLO_BYTES_MAX || stream.read_buf(&mut said).await.ok()? == 0 {
            return None;
        }
        while read < said.len() {
            read += acceptor.read_tls(&mut &said[read..]).ok()?;
            if let Some(accepted) = acceptor.accept().ok()? {
                return Some((said, accepted.client_hello().server_name().map(str::to_owned)));
            }
        }
    }
}

/// Both ways until both have ended, or nobody has said anything for too long.
async fn splice(clock: &Clock, inner: impl AsyncRead + AsyncWrite, outer: impl AsyncRead + AsyncWrite) {
    let (inner_read, inner_write) = tokio::io::split(inner);
    let (outer_read, outer_write) = tokio::io::split(outer);
    let heard_ms = AtomicU64::new(clock.now().mono_ms);
    tokio::select! {
        _ = async { tokio::join!(pass(clock, &heard_ms, inner_read, outer_write), pass(clock, &heard_ms, outer_read, inner_write)) } => {}
        () = silence(clock, &heard_ms) => {}
    }
}

/// Until nothing was heard for too long, or everything has taken too long.
pub(super) async fn silence(clock: &Clock, heard_ms: &AtomicU64) {
    let begun = clock.now().mono_ms;
    loop {
        let now = clock.now().mono_ms;
        let quiet = now.saturating_sub(heard_ms.load(Ordering::Relaxed));
        if quiet >= TUNNEL_IDLE_MS || now.saturating_sub(begun) >= LIFE_MS {
            return;
        }
        clock.sleep(TUNNEL_IDLE_MS - quiet).await;
    }
}

/// One way: a piece is only read when the one before it is gone.
async fn pass(clock: &Clock, heard_ms: &AtomicU64, mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) {
    let mut piece = vec![0; PIECE_BYTES];
    while let Ok(read @ 1..) = from.read(&mut piece).await {
        heard_ms.store(clock.now().mono_ms, Ordering::Relaxed);
        if to.write_all(&piece[..read]).await.is_err() || to.flush().await.is_err() {
            break;
        }
    }
    let _ = to.shutdown().await;
}
