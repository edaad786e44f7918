//! Calls to the outside: one pooled client with our own TLS roots and deadlines.

use axum::body::Body;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use std::time::Duration;

pub type HttpClient = Client<HttpsConnector<HttpConnector>, Body>;

const CONNECT_WAIT: Duration = Duration::from_secs(10);
/// Kept connections a host.
const IDLE_MAX: usize = 8;
const IDLE_WAIT: Duration = Duration::from_secs(60);

/// Follows no redirect, so that a credential goes where it was meant to go and nowhere else.
pub fn client() -> HttpClient {
    Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE_WAIT).pool_max_idle_per_host(IDLE_MAX).build(connector())
}

pub(crate) fn connector() -> HttpsConnector<HttpConnector> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut connector = HttpConnector::new();
    connector.set_connect_timeout(Some(CONNECT_WAIT));
    connector.set_nodelay(true);
    connector.enforce_http(false);
    hyper_rustls::HttpsConnectorBuilder::new().with_webpki_roots().https_or_http().enable_http1().wrap_connector(connector)
}
