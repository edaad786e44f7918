//! Public keys and signatures, Ed25519, written as lower-case hex.

use crate::approval::{from_hex, write_hex};
use ring::signature::{ED25519, UnparsedPublicKey};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use std::fmt;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    pub fn new(bytes: [u8; 32]) -> PublicKey {
        PublicKey(bytes)
    }

    pub fn parse(text: &str) -> Option<PublicKey> {
        from_hex(text).map(PublicKey)
    }

    pub(super) fn verifies(&self, statement: &[u8], signature: &Signature) -> bool {
        signature.key == *self && UnparsedPublicKey::new(&ED25519, self.0).verify(statement, &signature.bytes).is_ok()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, f)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

impl Serialize for PublicKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<PublicKey, D::Error> {
        let text = String::deserialize(deserializer)?;
        PublicKey::parse(&text)
            .ok_or_else(|| D::Error::custom(format!("`{text}` is no public key: 64 lower-case hex digits, as `hub policy keygen` prints it")))
    }
}

/// Who signed, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signature {
    pub key: PublicKey,
    #[serde(rename = "signature", with = "hex64")]
    bytes: [u8; 64],
}

/// Somebody who can sign: the private half stays with the caller.
pub trait Signer {
    fn public(&self) -> PublicKey;
    fn sign(&self, statement: &[u8]) -> [u8; 64];
}

impl Signature {
    pub(super) fn of(signer: &dyn Signer, statement: &[u8]) -> Signature {
        Signature { key: signer.public(), bytes: signer.sign(statement) }
    }
}

mod hex64 {
    use super::*;

    struct Hex<'a>(&'a [u8]);

    impl fmt::Display for Hex<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write_hex(self.0, f)
        }
    }

    pub fn serialize<S: Serializer>(bytes: &[u8; 64], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&Hex(bytes))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 64], D::Error> {
        from_hex(&String::deserialize(deserializer)?).ok_or_else(|| D::Error::custom("a signature is 128 lower-case hex digits"))
    }
}
