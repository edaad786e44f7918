//! Sealing: AES-256-GCM under a key, with a context that must be the same at opening.
//!
//! A seal is nonce and ciphertext in one. What it cannot do: tell a wrong key from a changed seal; the key's id does.

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Key as CipherKey, Nonce};
use anyhow::anyhow;
use ring::hmac;
use service::{SecretString, random};
use std::mem;
use zeroize::Zeroizing;

pub(super) const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 12;

/// A key that seals, known by an id that does not tell it.
pub(super) struct Key {
    id: String,
    cipher: Aes256Gcm,
}

impl Key {
    pub(super) fn new(bytes: &[u8; KEY_BYTES]) -> Key {
        let id = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, bytes), b"gatehouse-vault-key-id-v1");
        Key { id: hex(&id.as_ref()[..8]), cipher: Aes256Gcm::new(&CipherKey::<Aes256Gcm>::from(*bytes)) }
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn seal(&self, context: &str, plain: &[u8]) -> anyhow::Result<Vec<u8>> {
        let nonce: [u8; NONCE_BYTES] = random::bytes();
        let payload = Payload { msg: plain, aad: context.as_bytes() };
        let sealed = self.cipher.encrypt(&Nonce::from(nonce), payload).map_err(|_| anyhow!("a value could not be sealed"))?;
        Ok([nonce.as_slice(), &sealed].concat())
    }

    /// `None`: another key, another context, or changed bytes.
    pub(super) fn open(&self, context: &str, seal: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (nonce, sealed) = seal.split_first_chunk::<NONCE_BYTES>()?;
        let payload = Payload { msg: sealed, aad: context.as_bytes() };
        self.cipher.decrypt(&Nonce::from(*nonce), payload).ok().map(Zeroizing::new)
    }
}

/// Opened bytes as the text that they are.
pub(super) fn text(mut opened: Zeroizing<Vec<u8>>) -> Option<SecretString> {
    match String::from_utf8(mem::take(&mut *opened)) {
        Ok(text) => Some(SecretString::new(text)),
        Err(error) => {
            drop(Zeroizing::new(error.into_bytes()));
            None
        }
    }
}

pub(super) fn key_bytes(bytes: &[u8]) -> Option<Zeroizing<[u8; KEY_BYTES]>> {
    <[u8; KEY_BYTES]>::try_from(bytes).ok().map(Zeroizing::new)
}

/// Which value it is, for those who may not see it: equal values have equal fingerprints, within one vault only.
pub(super) fn fingerprint(key: &hmac::Key, value: &str) -> String {
    let text = Zeroizing::new(format!("gatehouse-fingerprint-v1\n{value}"));
    hex(&hmac::sign(key, text.as_bytes()).as_ref()[..6])
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seal_opens_with_its_key_and_context_only() {
        let key = Key::new(&[7; KEY_BYTES]);
        let seal = key.seal("a\n1", b"value").unwrap();
        assert_eq!(key.open("a\n1", &seal).unwrap().as_slice(), b"value");
        assert!(key.open("a\n2", &seal).is_none(), "another context");
        assert!(Key::new(&[8; KEY_BYTES]).open("a\n1", &seal).is_none(), "another key");
        for at in 0..seal.len() {
            let mut changed = seal.clone();
            changed[at] ^= 1;
            assert!(key.open("a\n1", &changed).is_none(), "byte {at}");
            assert!(key.open("a\n1", &seal[..at]).is_none(), "cut at {at}");
        }
        assert_ne!(key.seal("a\n1", b"value").unwrap(), seal, "each seal has a nonce of its own");
    }

    #[test]
    fn a_fingerprint_is_short_stable_and_keyed() {
        let key = |byte| hmac::Key::new(hmac::HMAC_SHA256, &[byte; KEY_BYTES]);
        assert_eq!(fingerprint(&key(1), "value"), fingerprint(&key(1), "value"));
        assert_eq!(fingerprint(&key(1), "value").len(), 12);
        assert_ne!(fingerprint(&key(1), "value"), fingerprint(&key(1), "value "));
        assert_ne!(fingerprint(&key(1), "value"), fingerprint(&key(2), "value"));
    }
}
