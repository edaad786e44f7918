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
        let key = match vault.value(KEY_NAME).await? {
            Some(text) => key_of(&text)?,
            None => {
                let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).context("drawing the key of the certificate authority")?;
                let text = SecretString::new(STANDARD.encode(key.serialized_der()));
                vault.set("agent", KEY_NAME, text, Put::Set, AllowedValue::default()).await.context("keeping the key of the certificate authority")?;
                key
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
        let leaf_key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).context("drawing a key for certificates")?;
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
        let leaf = params.signed_by(&self.leaf_key, &self.issuer)?.der().clone();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.leaf_key.serialized_der().to_vec()));
        let builder = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider())).with_safe_default_protocol_versions()?;
        let mut config = builder.with_no_client_auth().with_single_cert(vec![leaf, self.certificate.clone()], key)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
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

fn key_of(text: &SecretString) -> anyhow::Result<KeyPair> {
    // The key signs.
    let der = STANDARD.decode(text.expose()).ok().context("the key of the certificate authority in the vault is unreadable")?;
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
