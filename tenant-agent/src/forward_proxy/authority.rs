//! This host's own certificate authority: what lets a connection be looked into, for those who were told to believe it.
//!
//! Its key is a secret of the vault. Its certificate is made anew at each start from that key, and says for what names it
//! may never speak: the hub's, the tenant's own, and every name and address inside a private network. Certificates for
//! hosts live for days, in memory alone.

use crate::vault::{Allowed as AllowedValue, Put, Vault};
use anyhow::{Context, anyhow};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use policy::host::Host;
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints,
    PKCS_ECDSA_P256_SHA256, SanType, SerialNumber,
};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::NoServerSessionStorage;
use service::config::{private_folder, write_private};
use service::{Clock, SecretString, random};
use std::collections::HashMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use time::OffsetDateTime;

/// Under this name the key lies in the vault. It is bound to nothing, so nothing gets it.
pub const KEY_NAME: &str = "gatehouse.ca";
const DAY_MS: i64 = 24 * 3_600_000;
/// An agent that runs longer without a start has other troubles.
const AUTHORITY_DAYS: i64 = 3_650;
const LEAF_DAYS: i64 = 7;
/// A certificate with less left is made anew.
const LEAF_LEFT_MS: i64 = DAY_MS;
/// Certificates that are kept. With one more, all are forgotten: they are made in a millisecond.
const LEAVES_MAX: usize = 256;
/// Where systems keep the certificates that everybody believes.
const SYSTEM_BUNDLES: [&str; 3] = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];
const SYSTEM_BUNDLE_BYTES_MAX: u64 = 4 * 1024 * 1024;

pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    /// Of every certificate that is made here.
    leaf_key: KeyPair,
    clock: Clock,
    leaves: Mutex<HashMap<Host, (Arc<ServerConfig>, i64)>>,
}

/// Files for those who shall believe this authority.
#[derive(Clone, Debug)]
pub struct Trusted {
    /// The authority's certificate alone.
    pub own: PathBuf,
    /// With the certificates that this system believes anyway.
    pub all: PathBuf,
}

impl Authority {
    /// `closed`: names that it never speaks for, beside what is private anyway.
    pub async fn open(vault: &Vault, clock: Clock, closed: &[Host], private_names: impl Iterator<Item = &str>) -> anyhow::Result<Authority> {
        let key = match kept(vault).await {
            Ok(key) => key,
            Err(error) => {
                tracing::error!(error = format!("{error:#}"), "the key of the certificate authority is not kept; another one serves until the next start");
                drawn()?
            }
        };
        let now_ms = clock.wall_ms();
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "Gatehouse, this host only");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.serial_number = Some(serial());
        (params.not_before, params.not_after) = (moment(now_ms - DAY_MS)?, moment(now_ms + AUTHORITY_DAYS * DAY_MS)?);
        params.name_constraints = Some(NameConstraints { permitted_subtrees: Vec::new(), excluded_subtrees: excluded(closed, private_names) });
        let certificate = params.self_signed(&key).context("making the certificate authority")?.der().clone();
        let leaf_key = drawn()?;
        Ok(Authority { issuer: Issuer::new(params, key), certificate, leaf_key, clock, leaves: Mutex::default() })
    }

    /// How we speak TLS as this host.
    pub fn config(&self, host: &Host) -> anyhow::Result<Arc<ServerConfig>> {
        let now_ms = self.clock.wall_ms();
        let mut leaves = self.leaves.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some((config, ends_ms)) = leaves.get(host)
            && ends_ms - now_ms > LEAF_LEFT_MS
        {
            return Ok(config.clone());
        }
        if leaves.len() >= LEAVES_MAX {
            leaves.clear();
        }
        let ends_ms = now_ms + LEAF_DAYS * DAY_MS;
        let config = Arc::new(self.make(host, now_ms, ends_ms)?);
        leaves.insert(host.clone(), (config.clone(), ends_ms));
        Ok(config)
    }

    fn make(&self, host: &Host, now_ms: i64, ends_ms: i64) -> anyhow::Result<ServerConfig> {
        let chain = vec![self.leaf(host, now_ms, ends_ms)?, self.certificate.clone()];
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.leaf_key.serialized_der().to_vec()));
        let builder = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider())).with_safe_default_protocol_versions()?;
        let mut config = builder.with_no_client_auth().with_single_cert(chain, key)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // Nothing is kept of a connection: a store for each host would be most of the memory that this takes.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }

    fn leaf(&self, host: &Host, now_ms: i64, ends_ms: i64) -> anyhow::Result<CertificateDer<'static>> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.subject_alt_names = vec![match host {
            Host::Name(name) => SanType::DnsName(name.as_str().try_into().map_err(|_| anyhow!("a name that no certificate can have"))?),
            Host::Address(address) => SanType::IpAddress(*address),
        }];
        params.serial_number = Some(serial());
        (params.not_before, params.not_after) = (moment(now_ms - DAY_MS)?, moment(ends_ms)?);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        Ok(params.signed_by(&self.leaf_key, &self.issuer)?.der().clone())
    }

    /// Writes down whom to believe.
    pub fn write(&self, folder: &Path) -> anyhow::Result<Trusted> {
        private_folder(folder)?;
        let own = pem(&self.certificate);
        let read = |path: &&str| std::fs::metadata(path).is_ok_and(|about| about.len() <= SYSTEM_BUNDLE_BYTES_MAX).then(|| std::fs::read(path).ok()).flatten();
        let mut all = SYSTEM_BUNDLES.iter().find_map(read).unwrap_or_default();
        all.extend_from_slice(own.as_bytes());
        let trusted = Trusted { own: folder.join("gatehouse.pem"), all: folder.join("all.pem") };
        write_private(&trusted.own, own.as_bytes()).context("writing the certificate of this host's authority")?;
        write_private(&trusted.all, &all).context("writing the certificates that OpenClaw believes")?;
        Ok(trusted)
    }
}

/// The key in the vault; drawn when there is none.
async fn kept(vault: &Vault) -> anyhow::Result<KeyPair> {
    if let Some(text) = vault.value(KEY_NAME).await? {
        return key_of(&text);
    }
    let key = drawn()?;
    let text = SecretString::new(STANDARD.encode(key.serialized_der().iter().rev().copied().collect::<Vec<u8>>()));
    vault.set("agent", KEY_NAME, text, Put::Set, AllowedValue::default()).await?;
    Ok(key)
}

fn drawn() -> anyhow::Result<KeyPair> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).context("drawing a key")
}

/// Kept back to front: every key of this kind begins alike, and what it has in common with others must not be taken for it.
fn key_of(text: &SecretString) -> anyhow::Result<KeyPair> {
    // The key signs.
    let mut der = STANDARD.decode(text.expose()).ok().with_context(|| format!("`{KEY_NAME}` in the vault is no key: forget it, and another one is drawn"))?;
    der.reverse();
    let key = KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(der), &PKCS_ECDSA_P256_SHA256);
    key.map_err(|_| anyhow!("`{KEY_NAME}` in the vault is no key: forget it with `tenant-agent vault forget {KEY_NAME}`, and another one is drawn"))
}

/// What it never speaks for. A name stands for itself and everything below it.
fn excluded<'a>(closed: &[Host], private_names: impl Iterator<Item = &'a str>) -> Vec<GeneralSubtree> {
    let address = |address: &IpAddr| GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(*address, if address.is_ipv4() { 32 } else { 128 }));
    let own = closed.iter().map(|host| match host {
        Host::Name(name) => GeneralSubtree::DnsName(name.clone()),
        Host::Address(ip) => address(ip),
    });
    let names = private_names.map(|name| GeneralSubtree::DnsName(name.to_owned()));
    let v4 = policy::host::INTERNAL_V4.iter().map(|(network, length)| GeneralSubtree::IpAddress(CidrSubnet::from_v4_prefix(*network, *length as u8)));
    // Everything but the addresses that are handed out for the internet, 2000::/3.
    let v6 = [(0x00, 3), (0x40, 2), (0x80, 1)].map(|(first, length)| {
        let mut network = [0; 16];
        network[0] = first;
        GeneralSubtree::IpAddress(CidrSubnet::from_v6_prefix(network, length))
    });
    own.chain(names).chain(v4).chain(v6).collect()
}

fn moment(wall_ms: i64) -> anyhow::Result<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp(wall_ms.div_euclid(1_000)).context("the clock stands outside of what a certificate can say")
}

fn serial() -> SerialNumber {
    let mut bytes = random::bytes::<16>();
    // Positive, as the standard wants it.
    bytes[0] &= 0x7f;
    SerialNumber::from_slice(&bytes)
}

fn pem(certificate: &CertificateDer<'_>) -> String {
    let text = STANDARD.encode(certificate);
    let lines: Vec<&str> = text.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MIGRATIONS;
    use crate::vault::Given;
    use rustls::RootCertStore;
    use rustls::client::WebPkiServerVerifier;
    use rustls::client::danger::ServerCertVerifier;
    use rustls::pki_types::{ServerName, UnixTime};
    use service::Store;
    use std::time::Duration;

    struct Rig {
        folder: PathBuf,
        clock: Clock,
        vault: Vault,
    }

    impl Rig {
        async fn new() -> Rig {
            let folder = std::env::temp_dir().join(random::token());
            private_folder(&folder).unwrap();
            let clock = Clock::manual(1_795_140_000_000);
            let store = Store::open(&folder.join("a.db"), MIGRATIONS).unwrap();
            let vault = Vault::open(store, clock.clone(), &folder, None, "ten_a", Given::default()).await.unwrap();
            Rig { folder, clock, vault }
        }

        async fn authority(&self) -> Authority {
            let closed = ["hub.example.com", "alice.example.com", "93.184.216.7"].map(|host| Host::parse(host).unwrap());
            Authority::open(&self.vault, self.clock.clone(), &closed, ["local", "internal"].into_iter()).await.unwrap()
        }
    }

    /// Whether somebody who believes `root` believes a certificate of `authority` for the host.
    fn is_believed(root: &CertificateDer<'static>, authority: &Authority, host: &str, now_ms: i64) -> bool {
        let mut roots = RootCertStore::empty();
        roots.add(root.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        let host = Host::parse(host).unwrap();
        let leaf = authority.leaf(&host, now_ms, now_ms + LEAF_DAYS * DAY_MS).unwrap();
        let name = match &host {
            Host::Name(name) => ServerName::try_from(name.clone()).unwrap(),
            Host::Address(address) => ServerName::IpAddress((*address).into()),
        };
        let now = UnixTime::since_unix_epoch(Duration::from_millis(now_ms as u64));
        verifier.verify_server_cert(&leaf, std::slice::from_ref(&authority.certificate), &name, &[], now).is_ok()
    }

    #[tokio::test]
    async fn it_is_believed_about_the_internet_and_nothing_else() {
        let rig = Rig::new().await;
        let authority = rig.authority().await;
        let believed = |host: &str| is_believed(&authority.certificate, &authority, host, rig.clock.wall_ms());
        for host in ["api.example.org", "example.com", "xn--bcher-kva.example", "8.8.8.8", "[2606:4700::1111]"] {
            assert!(believed(host), "{host}");
        }
        for host in [
            "hub.example.com",
            "a.hub.example.com",
            "alice.example.com",
            "printer.local",
            "metadata.google.internal",
            "127.0.0.1",
            "10.0.0.1",
            "169.254.169.254",
            "93.184.216.7",
            "[::1]",
            "[fd00::1]",
            "[fe80::1]",
        ] {
            assert!(!believed(host), "{host}");
        }
        std::fs::remove_dir_all(&rig.folder).unwrap();
    }

    #[tokio::test]
    async fn it_is_the_same_after_a_start_and_another_one_on_another_host() {
        let (rig, other) = (Rig::new().await, Rig::new().await);
        let (before, now_ms) = (rig.authority().await, rig.clock.wall_ms());
        let after = rig.authority().await;
        assert!(is_believed(&before.certificate, &after, "api.example.org", now_ms), "who believed it goes on");
        assert!(!is_believed(&before.certificate, &other.authority().await, "api.example.org", now_ms));
        let host = Host::parse("api.example.org").unwrap();
        let config = before.config(&host).unwrap();
        assert!(Arc::ptr_eq(&config, &before.config(&host).unwrap()));
        rig.clock.advance((LEAF_DAYS * DAY_MS - LEAF_LEFT_MS) as u64);
        assert!(!Arc::ptr_eq(&config, &before.config(&host).unwrap()), "made anew before it runs out");
        for n in 0..=LEAVES_MAX {
            before.config(&Host::parse(&format!("a{n}.example.org")).unwrap()).unwrap();
        }
        assert!(before.leaves.lock().unwrap().len() <= LEAVES_MAX);
        // A key that cannot be read keeps nobody from working.
        let broken = SecretString::new(random::token());
        rig.vault.set("console", KEY_NAME, broken, Put::Rotate, AllowedValue::default()).await.unwrap();
        assert!(!is_believed(&before.certificate, &rig.authority().await, "api.example.org", now_ms), "another one serves");
        let trusted = before.write(&rig.folder.join("certificates")).unwrap();
        let own = std::fs::read_to_string(&trusted.own).unwrap();
        assert!(std::fs::read_to_string(&trusted.all).unwrap().ends_with(&own) && own.lines().all(|line| line.len() <= 64));
        // What lies on the disk is the certificate, never the key.
        let key = rig.vault.value(KEY_NAME).await.unwrap().unwrap();
        assert!(!own.contains(&key.expose()[..24]));
        for rig in [rig, other] {
            std::fs::remove_dir_all(&rig.folder).unwrap();
        }
    }
}
