//! The internet, played: names, addresses that lead to servers of a test, an authority that everybody believes. And
//! [`Passage`], a program inside that wants out through the agent's forward proxy.

use crate::http::{Answer, exchange};
use crate::world::Tenant;
use axum::Router;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::BoxFuture;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use service::Clock;
use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tenant_agent::outside::{Outside, World};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

#[derive(Clone)]
pub struct Internet(Arc<Inner>);

struct Inner {
    names: Mutex<HashMap<String, Vec<IpAddr>>>,
    servers: Mutex<HashMap<SocketAddr, SocketAddr>>,
    asked: Mutex<Vec<String>>,
    connected: Mutex<Vec<SocketAddr>>,
    issuer: Issuer<'static, KeyPair>,
    root: CertificateDer<'static>,
}

impl Default for Internet {
    fn default() -> Internet {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key");
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "everybody believes this one");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let root = params.self_signed(&key).expect("a certificate").der().clone();
        let (names, servers, asked, connected) = Default::default();
        Internet(Arc::new(Inner { names, servers, asked, connected, issuer: Issuer::new(params, key), root }))
    }
}

impl Internet {
    pub fn network(&self) -> Outside {
        Outside::of(Arc::new(self.clone()))
    }

    /// From now on the name leads there.
    pub fn name(&self, name: &str, addresses: &[&str]) {
        let addresses = addresses.iter().map(|address| address.parse().expect("an address")).collect();
        self.0.names.lock().unwrap().insert(name.to_owned(), addresses);
    }

    /// The names that were looked up.
    pub fn asked(&self) -> Vec<String> {
        self.0.asked.lock().unwrap().clone()
    }

    /// The addresses that were connected.
    pub fn connected(&self) -> Vec<SocketAddr> {
        self.0.connected.lock().unwrap().clone()
    }

    /// A server at an address of the internet that does what `serve` does with each connection.
    pub async fn server<F>(&self, address: &str, serve: impl Fn(TcpStream) -> F + Send + Sync + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let at = listener.local_addr().expect("it is bound");
        self.0.servers.lock().unwrap().insert(address.parse().expect("an address and a port"), at);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream));
            }
        });
    }

    /// A site under a name, in the clear and encrypted.
    pub async fn site(&self, name: &str, address: &str, router: Router) {
        self.name(name, &[address]);
        let plain = router.clone();
        self.server(&format!("{address}:80"), move |stream| serve(stream, plain.clone())).await;
        let acceptor = TlsAcceptor::from(self.certified(name));
        self.server(&format!("{address}:443"), move |stream| {
            let (acceptor, router) = (acceptor.clone(), router.clone());
            async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    serve(stream, router).await;
                }
            }
        })
        .await;
    }

    /// How a server speaks TLS under a name that everybody believes.
    pub fn certified(&self, name: &str) -> Arc<ServerConfig> {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key");
        let certificate = CertificateParams::new(vec![name.to_owned()]).and_then(|params| params.signed_by(&key, &self.0.issuer)).expect("a certificate");
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialized_der().to_vec()));
        let builder = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider())).with_safe_default_protocol_versions();
        let config = builder.expect("the default versions").with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key);
        Arc::new(config.expect("certificate and key belong together"))
    }

    /// A client that believes what everybody believes.
    pub fn believing(&self) -> TlsConnector {
        connector(self.roots(), &Clock::system())
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, router: Router) {
    let service = hyper_util::service::TowerToHyperService::new(router);
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(hyper_util::rt::TokioIo::new(stream), service).await;
}

/// The time of the world, for whoever looks at certificates that were made in it.
struct Time(Clock);

impl std::fmt::Debug for Time {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Time")
    }
}

impl TimeProvider for Time {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_millis(self.0.wall_ms().try_into().ok()?)))
    }
}

fn connector(roots: RootCertStore, clock: &Clock) -> TlsConnector {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_details(provider, Arc::new(Time(clock.clone()))).with_safe_default_protocol_versions();
    TlsConnector::from(Arc::new(builder.expect("the default versions").with_root_certificates(roots).with_no_client_auth()))
}

impl World for Internet {
    fn resolve(&self, name: String) -> BoxFuture<'_, io::Result<Vec<IpAddr>>> {
        self.0.asked.lock().unwrap().push(name.clone());
        let found = self.0.names.lock().unwrap().get(&name).cloned();
        Box::pin(async move { found.ok_or_else(|| io::ErrorKind::NotFound.into()) })
    }

    fn connect(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<TcpStream>> {
        self.0.connected.lock().unwrap().push(address);
        let server = self.0.servers.lock().unwrap().get(&address).copied();
        Box::pin(async move { TcpStream::connect(server.ok_or(io::ErrorKind::ConnectionRefused)?).await })
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.root.clone()).expect("a certificate");
        roots
    }
}

/// A program inside, with what OpenClaw tells its children.
pub struct Passage {
    pub proxy: SocketAddr,
    pub credentials: String,
    believing: TlsConnector,
}

impl Passage {
    pub fn of(tenant: &Tenant) -> Passage {
        let pem = std::fs::read_to_string(tenant.settings.state_folder.join("certificates/gatehouse.pem")).expect("the agent wrote it");
        let der = STANDARD.decode(pem.lines().filter(|line| !line.starts_with("---")).collect::<String>()).expect("base64");
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(der)).expect("a certificate");
        let token = &tenant.gateway.keys().forward_token;
        Passage {
            proxy: tenant.agent.proxy_addr(),
            credentials: format!("Basic {}", STANDARD.encode(format!("openclaw:{token}"))),
            believing: connector(roots, tenant.clock()),
        }
    }

    /// The same program with other credentials.
    pub fn with(self, credentials: &str) -> Passage {
        Passage { credentials: credentials.to_owned(), ..self }
    }

    /// `CONNECT`: the stream when it was opened, the refusal otherwise.
    pub async fn connect(&self, target: &str) -> Result<TcpStream, Answer> {
        let mut stream = TcpStream::connect(self.proxy).await.expect("the proxy listens");
        let head = format!("CONNECT {target} HTTP/1.1\r\nhost: {target}\r\nproxy-authorization: {}\r\n\r\n", self.credentials);
        stream.write_all(head.as_bytes()).await.expect("the proxy reads");
        let mut said = Vec::new();
        // Byte by byte: what follows belongs to whoever uses the stream.
        while !said.ends_with(b"\r\n\r\n") {
            said.push(stream.read_u8().await.expect("the proxy answers"));
        }
        let head = Answer::read(&said);
        if head.status == 200 {
            return Ok(stream);
        }
        let mut body = vec![0; head.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0)];
        stream.read_exact(&mut body).await.expect("the answer is whole");
        Err(Answer { body, ..head })
    }

    /// One request by `https`, as a program does that believes the agent's authority.
    pub async fn https(&self, method: &str, host: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let stream = match self.connect(&format!("{host}:443")).await {
            Ok(stream) => stream,
            Err(answer) => return answer,
        };
        match self.greet(stream, host, &self.believing).await {
            Ok(stream) => exchange(stream, method, path, &with_host(host, headers), body).await,
            Err(error) => panic!("{error}"),
        }
    }

    /// One request in the clear.
    pub async fn http(&self, method: &str, url: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let host = url.strip_prefix("http://").and_then(|rest| rest.split('/').next()).unwrap_or_default();
        let headers: Vec<_> = headers.iter().copied().chain([("proxy-authorization", self.credentials.as_str())]).collect();
        let stream = TcpStream::connect(self.proxy).await.expect("the proxy listens");
        exchange(stream, method, url, &with_host(host, &headers), body).await
    }

    pub async fn greet(&self, stream: TcpStream, host: &str, believing: &TlsConnector) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        believing.connect(ServerName::try_from(host.to_owned()).expect("a name"), stream).await
    }

    pub fn believing(&self) -> &TlsConnector {
        &self.believing
    }
}

fn with_host<'a>(host: &'a str, headers: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let named = headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host"));
    headers.iter().copied().chain((!named).then_some(("host", host))).collect()
}
