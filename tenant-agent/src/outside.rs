//! The world outside, as far as assistants may reach it: names are resolved, addresses connected, certificates believed.
//!
//! [`Outside::system`] is the real one. Whoever puts the agent together may hand over another, as tests do, which have no
//! internet. What may be reached is not decided here.

use futures_util::future::BoxFuture;
use rustls::{ClientConfig, RootCertStore};
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

/// Names that are being resolved: each keeps a thread of the few that the store needs, too.
const RESOLVING_MAX: usize = 4;
/// A resolver that is slower than this is as good as none.
pub const RESOLVE_WAIT: Duration = Duration::from_secs(10);
pub const CONNECT_WAIT: Duration = Duration::from_secs(10);

pub trait World: Send + Sync {
    fn resolve(&self, name: String) -> BoxFuture<'_, io::Result<Vec<IpAddr>>>;
    fn connect(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<TcpStream>>;
    /// Whose certificates are believed.
    fn roots(&self) -> RootCertStore;
}

#[derive(Clone)]
pub struct Outside {
    world: Arc<dyn World>,
    tls: Arc<OnceLock<Arc<ClientConfig>>>,
}

impl std::fmt::Debug for Outside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Outside")
    }
}

impl Outside {
    pub fn system() -> Outside {
        Outside::of(Arc::new(System { resolving: Arc::new(Semaphore::new(RESOLVING_MAX)) }))
    }

    pub fn of(world: Arc<dyn World>) -> Outside {
        Outside { world, tls: Arc::default() }
    }

    /// The addresses of a name, in time or not at all.
    pub async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        tokio::time::timeout(RESOLVE_WAIT, self.world.resolve(name.to_owned())).await?
    }

    pub async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let stream = tokio::time::timeout(CONNECT_WAIT, self.world.connect(address)).await??;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// How the world outside is spoken to. Made when it is first needed: the roots take memory.
    pub fn tls(&self) -> Arc<ClientConfig> {
        let make = || {
            let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
            let builder = builder.with_safe_default_protocol_versions().expect("ring speaks the default versions");
            let mut config = builder.with_root_certificates(self.world.roots()).with_no_client_auth();
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
            Arc::new(config)
        };
        self.tls.get_or_init(make).clone()
    }
}

struct System {
    resolving: Arc<Semaphore>,
}

impl World for System {
    fn resolve(&self, name: String) -> BoxFuture<'_, io::Result<Vec<IpAddr>>> {
        let resolving = self.resolving.clone();
        Box::pin(async move {
            let place = resolving.acquire_owned().await.map_err(io::Error::other)?;
            let look = move || {
                // The final dot: no search domain of this machine is put behind it.
                let found = (format!("{name}."), 0).to_socket_addrs();
                // Given back by whoever looks, who goes on when nobody waits any more.
                drop(place);
                found
            };
            let found = tokio::task::spawn_blocking(look).await.map_err(io::Error::other)??;
            Ok(found.map(|address| address.ip()).collect())
        })
    }

    fn connect(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<TcpStream>> {
        Box::pin(TcpStream::connect(address))
    }

    fn roots(&self) -> RootCertStore {
        RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() }
    }
}
