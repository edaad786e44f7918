//! Whether a device said what it is said to have said. Pure: text, key and proof in, an answer out.
//!
//! Two forms: a signature by a key that a browser keeps, and a WebAuthn assertion over the hash of the same text. Nothing is
//! negotiated: ECDSA P-256 with SHA-256 is all there is. Of an assertion only what ties it to this text, this tenant and a
//! person at the device is read: type, challenge, origin, relying party, presence, verification, counter.

use policy::canonical_json;
use ring::digest::{SHA256, digest};
use ring::signature::{ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_FIXED, UnparsedPublicKey, VerificationAlgorithm};
use serde::Deserialize;
use service::random::{base64url, from_base64url};
use wire::device::{DeviceKind, Proof, STATEMENT_DOMAIN, Statement};

/// A statement with the longest reason.
pub const STATEMENT_BYTES_MAX: usize = 8 * 1024;
const CLIENT_DATA_BYTES_MAX: usize = 4 * 1024;
const AUTHENTICATOR_DATA_BYTES_MAX: usize = 1024;
const NONCE_CHARS: std::ops::RangeInclusive<usize> = 16..=64;

/// Hash of the relying party, flags, counter; extensions may follow.
const AUTHENTICATOR_DATA_BYTES_MIN: usize = 37;
const USER_PRESENT: u8 = 0x01;
const USER_VERIFIED: u8 = 0x04;

/// What every P-256 key begins with in the form that browsers export (SubjectPublicKeyInfo).
const SPKI_HEAD: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
const POINT_BYTES: usize = 65;
const POINT_UNCOMPRESSED: u8 = 0x04;

/// A point of P-256, uncompressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey([u8; POINT_BYTES]);

impl PublicKey {
    /// From the base64url of a SubjectPublicKeyInfo. Whether the point is on the curve shows with the first signature.
    pub fn parse(text: &str) -> Option<PublicKey> {
        let der = from_base64url(text)?;
        let point: [u8; POINT_BYTES] = der.strip_prefix(&SPKI_HEAD)?.try_into().ok()?;
        (point[0] == POINT_UNCOMPRESSED).then_some(PublicKey(point))
    }

    pub fn of_point(bytes: &[u8]) -> Option<PublicKey> {
        bytes.try_into().ok().map(PublicKey)
    }

    pub fn point(&self) -> &[u8] {
        &self.0
    }

    /// As [`PublicKey::parse`] reads it.
    pub fn text(&self) -> String {
        base64url(&[&SPKI_HEAD[..], &self.0].concat())
    }

    fn verifies(&self, form: &'static dyn VerificationAlgorithm, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(form, &self.0).verify(message, signature).is_ok()
    }
}

/// The tenant's own address: where assertions must have been made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub origin: String,
}

impl Place {
    /// The relying party of passkeys: the host, without a port.
    pub fn host(&self) -> &str {
        let host = self.origin.split_once("://").map_or(self.origin.as_str(), |(_, host)| host);
        host.split(':').next().unwrap_or_default()
    }
}

/// How much a valid proof tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strength {
    /// The device was there.
    Key,
    /// Somebody touched it, and where `verified` it knew them by finger, face or PIN.
    Passkey { verified: bool, count: u32 },
}

/// A statement in its one spelling, or nothing.
pub fn statement(text: &str) -> Option<Statement> {
    if text.len() > STATEMENT_BYTES_MAX {
        return None;
    }
    let statement: Statement = serde_json::from_str(text).ok()?;
    let nonce = &statement.nonce;
    let is_nonce = NONCE_CHARS.contains(&nonce.len()) && nonce.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    let again = serde_json::to_value(&statement).ok()?;
    (is_nonce && canonical_json(&again) == text).then_some(statement)
}

/// What is signed of a statement.
pub fn signed_text(statement: &str) -> String {
    format!("{STATEMENT_DOMAIN}{statement}")
}

/// How strongly `proof` proves `text`, or `None` when it does not.
pub fn strength(text: &str, kind: DeviceKind, key: &PublicKey, proof: &Proof, place: &Place) -> Option<Strength> {
    match (kind, proof) {
        (DeviceKind::Key, Proof::Key { signature }) => {
            let signature = from_base64url(signature)?;
            key.verifies(&ECDSA_P256_SHA256_FIXED, text.as_bytes(), &signature).then_some(Strength::Key)
        }
        (DeviceKind::Passkey, Proof::Passkey { authenticator_data, client_data, signature }) => {
            let authenticator_data = bytes(authenticator_data, AUTHENTICATOR_DATA_BYTES_MAX)?;
            let client_data = bytes(client_data, CLIENT_DATA_BYTES_MAX)?;
            let signature = from_base64url(signature)?;
            if !is_about(&client_data, text, place) {
                return None;
            }
            let (flags, count) = read_authenticator_data(&authenticator_data, place)?;
            let message = [&authenticator_data[..], digest(&SHA256, &client_data).as_ref()].concat();
            let is_signed = key.verifies(&ECDSA_P256_SHA256_ASN1, &message, &signature);
            (is_signed && flags & USER_PRESENT != 0).then_some(Strength::Passkey { verified: flags & USER_VERIFIED != 0, count })
        }
        _ => None,
    }
}

fn bytes(text: &str, bytes_max: usize) -> Option<Vec<u8>> {
    // Four characters carry three bytes.
    if text.len() > bytes_max / 3 * 4 + 4 { None } else { from_base64url(text) }
}

/// Whether the browser says that this very text was asserted, on a page of ours.
fn is_about(client_data: &[u8], text: &str, place: &Place) -> bool {
    // Browsers may add fields.
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct ClientData {
        #[serde(rename = "type")]
        kind: String,
        challenge: String,
        origin: String,
        #[serde(default)]
        cross_origin: bool,
    }
    // serde would take a list for a struct, too.
    let Some(Ok(said)) = client_data.starts_with(b"{").then(|| serde_json::from_slice::<ClientData>(client_data)) else { return false };
    let challenge = base64url(digest(&SHA256, text.as_bytes()).as_ref());
    said.kind == "webauthn.get" && said.challenge == challenge && said.origin == place.origin && !said.cross_origin
}

/// Flags and counter, if the assertion was made for our host.
fn read_authenticator_data(data: &[u8], place: &Place) -> Option<(u8, u32)> {
    if data.len() < AUTHENTICATOR_DATA_BYTES_MIN || data[..32] != *digest(&SHA256, place.host().as_bytes()).as_ref() {
        return None;
    }
    let count = u32::from_be_bytes(data[33..37].try_into().ok()?);
    Some((data[32], count))
}
