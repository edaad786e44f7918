//! A person's browser key or passkey, played: it signs what a page would sign.

use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair};
use serde_json::{Value, json};
use service::random::{self, base64url};

pub struct Device {
    /// What the agent calls it, once it is enrolled.
    pub id: String,
    is_passkey: bool,
    credential: String,
    origin: String,
    keys: EcdsaKeyPair,
}

/// What browsers put before a point of P-256 when they export a key.
const SPKI_HEAD: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
/// Somebody was there, and the passkey knew them.
const FLAGS: u8 = 0x05;

impl Device {
    pub fn key(origin: &str) -> Device {
        Device::draw(origin, false)
    }

    pub fn passkey(origin: &str) -> Device {
        Device::draw(origin, true)
    }

    fn draw(origin: &str, is_passkey: bool) -> Device {
        let form: &'static EcdsaSigningAlgorithm = if is_passkey { &ECDSA_P256_SHA256_ASN1_SIGNING } else { &ECDSA_P256_SHA256_FIXED_SIGNING };
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(form, &SystemRandom::new()).expect("a key");
        let keys = EcdsaKeyPair::from_pkcs8(form, pkcs8.as_ref(), &SystemRandom::new()).expect("the key that was just drawn");
        Device { id: String::new(), is_passkey, credential: base64url(&random::bytes::<16>()), origin: origin.to_owned(), keys }
    }

    pub fn public_key(&self) -> String {
        base64url(&[&SPKI_HEAD[..], self.keys.public_key().as_ref()].concat())
    }

    /// As it comes in by a ticket.
    pub fn candidate(&self, ticket: &str) -> Value {
        let text = format!("gatehouse-device-v1\n{}\n{ticket}\n{}", self.origin, self.public_key());
        let kind = if self.is_passkey { "passkey" } else { "key" };
        let mut candidate = json!({ "name": "Test browser", "kind": kind, "public_key": self.public_key(), "proof": self.prove(&text) });
        if self.is_passkey {
            candidate["credential"] = json!(self.credential);
        }
        candidate
    }

    /// A statement of `person` with its proof.
    pub fn signed(&self, tenant: &str, person: &str, expires_ms: i64, deed: Value) -> Value {
        let statement = json!({ "tenant": tenant, "person": person, "device": self.id, "deed": deed, "expires_ms": expires_ms, "nonce": random::token() });
        let statement = policy::canonical_json(&statement);
        json!({ "proof": self.prove(&format!("gatehouse-statement-v1\n{statement}")), "statement": statement })
    }

    fn prove(&self, text: &str) -> Value {
        if !self.is_passkey {
            return json!({ "kind": "key", "signature": self.sign(text.as_bytes()) });
        }
        let challenge = base64url(digest(&SHA256, text.as_bytes()).as_ref());
        let client_data = json!({ "type": "webauthn.get", "challenge": challenge, "origin": self.origin, "crossOrigin": false }).to_string();
        let host = self.origin.split("://").nth(1).and_then(|rest| rest.split(':').next()).expect("an origin");
        let mut data = digest(&SHA256, host.as_bytes()).as_ref().to_vec();
        data.push(FLAGS);
        data.extend([0; 4]);
        let signature = self.sign(&[&data[..], digest(&SHA256, client_data.as_bytes()).as_ref()].concat());
        json!({ "kind": "passkey", "authenticator_data": base64url(&data), "client_data": base64url(client_data.as_bytes()), "signature": signature })
    }

    fn sign(&self, message: &[u8]) -> String {
        base64url(self.keys.sign(&SystemRandom::new(), message).expect("it signs").as_ref())
    }
}
