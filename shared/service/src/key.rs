//! An Ed25519 key pair on the disk: the identity of a host.

use crate::random::{base64url, from_base64url};
use anyhow::Context;
use ring::rand::SystemRandom;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use std::path::Path;

pub struct SigningKey(Ed25519KeyPair);

impl SigningKey {
    /// Reads the key, or makes and writes one (0600) where there is none.
    pub fn open(path: &Path) -> anyhow::Result<SigningKey> {
        if !path.exists() {
            let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).ok().context("the kernel gave no random bytes for a key")?;
            crate::config::write_private(path, document.as_ref())?;
        }
        let bytes = crate::config::read_private(path)?;
        let pair = Ed25519KeyPair::from_pkcs8(&bytes).ok().with_context(|| format!("`{}` holds no Ed25519 key", path.display()))?;
        Ok(SigningKey(pair))
    }

    pub fn public(&self) -> String {
        base64url(self.0.public_key().as_ref())
    }

    pub fn sign(&self, statement: &str) -> String {
        base64url(self.0.sign(statement.as_bytes()).as_ref())
    }
}

/// For policy, which knows no disk: it is handed who can sign.
impl policy::bundle::Signer for SigningKey {
    fn public(&self) -> policy::bundle::PublicKey {
        let bytes = self.0.public_key().as_ref().try_into();
        policy::bundle::PublicKey::new(bytes.expect("an Ed25519 key has 32 bytes"))
    }

    fn sign(&self, statement: &[u8]) -> [u8; 64] {
        self.0.sign(statement).as_ref().try_into().expect("an Ed25519 signature has 64 bytes")
    }
}

/// Whether `signature` is the key's over `statement`; false for anything that is not a key or a signature at all.
pub fn verifies(public_key: &str, statement: &str, signature: &str) -> bool {
    let (Some(key), Some(signature)) = (from_base64url(public_key), from_base64url(signature)) else { return false };
    UnparsedPublicKey::new(&ED25519, key).verify(statement.as_bytes(), &signature).is_ok()
}
