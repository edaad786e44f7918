//! For tests: a browser's key and a passkey, played.

use super::Candidate;
use super::proof::{PublicKey, signed_text};
use policy::canonical_json;
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair};
use service::random::{self, base64url};
use wire::device::{CANDIDATE_DOMAIN, DeviceKind, Proof, Signed, Statement};

pub struct Signer {
    pub kind: DeviceKind,
    pub origin: String,
    pub flags: u8,
    pub count: u32,
    keys: EcdsaKeyPair,
}

impl Signer {
    pub fn new(kind: DeviceKind, origin: &str) -> Signer {
        let form: &'static EcdsaSigningAlgorithm = match kind {
            DeviceKind::Key => &ECDSA_P256_SHA256_FIXED_SIGNING,
            DeviceKind::Passkey => &ECDSA_P256_SHA256_ASN1_SIGNING,
        };
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(form, &SystemRandom::new()).unwrap();
        let keys = EcdsaKeyPair::from_pkcs8(form, pkcs8.as_ref(), &SystemRandom::new()).unwrap();
        Signer { kind, origin: origin.to_owned(), flags: 0x05, count: 0, keys }
    }

    pub fn public_key(&self) -> String {
        PublicKey::of_point(self.keys.public_key().as_ref()).unwrap().text()
    }

    pub fn candidate(&self, ticket: &str) -> Candidate {
        let public_key = self.public_key();
        let text = format!("{CANDIDATE_DOMAIN}{}\n{ticket}\n{public_key}", self.origin);
        let credential = (self.kind == DeviceKind::Passkey).then(|| base64url(&random::bytes::<16>()));
        Candidate { name: "Test".into(), kind: self.kind, proof: self.prove(&text), public_key, credential }
    }

    pub fn signed(&self, statement: &Statement) -> Signed {
        let statement = canonical_json(&serde_json::to_value(statement).unwrap());
        Signed { proof: self.prove(&signed_text(&statement)), statement }
    }

    pub fn prove(&self, text: &str) -> Proof {
        match self.kind {
            DeviceKind::Key => Proof::Key { signature: self.sign(text.as_bytes()) },
            DeviceKind::Passkey => {
                let challenge = base64url(digest(&SHA256, text.as_bytes()).as_ref());
                let client_data =
                    serde_json::json!({ "type": "webauthn.get", "challenge": challenge, "origin": self.origin, "crossOrigin": false }).to_string();
                self.assert(&client_data)
            }
        }
    }

    pub fn assert(&self, client_data: &str) -> Proof {
        let host = self.origin.split("://").nth(1).unwrap().split(':').next().unwrap();
        let mut data = digest(&SHA256, host.as_bytes()).as_ref().to_vec();
        data.push(self.flags);
        data.extend(self.count.to_be_bytes());
        let message = [&data[..], digest(&SHA256, client_data.as_bytes()).as_ref()].concat();
        Proof::Passkey { authenticator_data: base64url(&data), client_data: base64url(client_data.as_bytes()), signature: self.sign(&message) }
    }

    fn sign(&self, message: &[u8]) -> String {
        base64url(self.keys.sign(&SystemRandom::new(), message).unwrap().as_ref())
    }
}
