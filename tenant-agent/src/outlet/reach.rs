//! From a name to a connection: looked up once, every address judged, connected to exactly one that was.

use super::refused::{Refused, Why};
use super::{Outlet, REACH_WAIT_MS, closed, within};
use policy::host::{Host, Target};
use policy::http::Http;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Addresses of a name that are tried.
const TRIES_MAX: usize = 4;

/// The addresses that may be connected. One that nobody may reach among them closes the host: a name that leads inside
/// for one of its readers is somebody's trick.
fn judged(http: &Http, addresses: &[IpAddr]) -> Result<Vec<IpAddr>, &'static str> {
    match addresses.iter().find_map(|address| http.closed_address(*address)) {
        Some(rule) => Err(rule),
        None => Ok(addresses.iter().copied().take(TRIES_MAX).collect()),
    }
}

impl Outlet {
    pub async fn reach(&self, target: &Target) -> Result<TcpStream, Refused> {
        within(&self.clock, REACH_WAIT_MS, self.connected(target)).await.unwrap_or_else(|| Err(Why::LATE.about(target)))
    }

    pub async fn reach_tls(&self, target: &Target) -> Result<TlsStream<TcpStream>, Refused> {
        let work = async { secured(target, self.connected(target).await?, self.outside.tls()).await };
        within(&self.clock, REACH_WAIT_MS, work).await.unwrap_or_else(|| Err(Why::LATE.about(target)))
    }

    /// TLS over a connection that leads there, for a protocol that is not HTTP.
    pub async fn private<S: AsyncRead + AsyncWrite + Unpin>(&self, target: &Target, stream: S) -> Result<TlsStream<S>, Refused> {
        let mut config = ClientConfig::clone(&self.outside.tls());
        config.alpn_protocols.clear();
        let work = secured(target, stream, Arc::new(config));
        within(&self.clock, REACH_WAIT_MS, work).await.unwrap_or_else(|| Err(Why::LATE.about(target)))
    }

    async fn connected(&self, target: &Target) -> Result<TcpStream, Refused> {
        let found = match &target.host {
            Host::Address(address) => vec![*address],
            Host::Name(name) => self.outside.resolve(name).await.map_err(|_| Why::UNRESOLVED.about(target))?,
        };
        let addresses = judged(self.in_force.law().law().http(), &found).map_err(|rule| closed(target, rule))?;
        if addresses.is_empty() {
            return Err(Why::UNRESOLVED.about(target));
        }
        for address in addresses {
            if let Ok(stream) = self.outside.connect(SocketAddr::new(address, target.port)).await {
                return Ok(stream);
            }
        }
        Err(Why::UNREACHABLE.about(target))
    }
}

async fn secured<S: AsyncRead + AsyncWrite + Unpin>(target: &Target, stream: S, config: Arc<ClientConfig>) -> Result<TlsStream<S>, Refused> {
    let name = match &target.host {
        Host::Name(name) => ServerName::try_from(name.clone()).map_err(|_| Why::MALFORMED)?,
        Host::Address(address) => ServerName::IpAddress((*address).into()),
    };
    TlsConnector::from(config).connect(name, stream).await.map_err(|error| {
        tracing::warn!(%error, "a host did not prove who it is");
        Why::CERTIFICATE.about(target)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_inside_closes_a_host() {
        let http = shipped::knowledge();
        let law = policy::Law::new(http, &[]).unwrap();
        let judge = |texts: &[&str]| judged(law.http(), &texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<_>>());
        assert_eq!(judge(&["93.184.216.34", "2606:4700::1111"]).map(|addresses| addresses.len()), Ok(2));
        assert_eq!(judge(&["93.184.216.34", "127.0.0.1"]), Err("http.internal"));
        assert_eq!(judge(&["169.254.169.254"]), Err("http.metadata"));
        assert_eq!(judge(&["::ffff:10.0.0.1"]), Err("http.internal"));
        assert_eq!(judge(&["8.8.8.8"; 9]).map(|addresses| addresses.len()), Ok(TRIES_MAX));
    }
}
