//! Randomness from the system. Drawn at the edges; decisions get what was drawn as an argument.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::{SecureRandom, SystemRandom};
use wire::Id;

pub fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).expect("the kernel gives random bytes, or nothing here is safe");
    bytes
}

pub fn id<K>() -> Id<K> {
    Id::new(u128::from_ne_bytes(bytes()))
}

/// 256 bits as base64url: for tokens, nonces and keys that travel as text.
pub fn token() -> String {
    base64url(&bytes::<32>())
}

pub fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub fn from_base64url(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

/// What is stored of a token: enough to recognise it, too little to use it.
pub fn token_hash(token: &str) -> String {
    base64url(ring::digest::digest(&ring::digest::SHA256, token.as_bytes()).as_ref())
}

/// A number below `bound`, for jitter.
pub fn below(bound: u64) -> u64 {
    u64::from_ne_bytes(bytes()) % bound.max(1)
}

/// Whether two secrets are the same, in a time that tells nothing about where they differ.
pub fn same(a: &str, b: &str) -> bool {
    // Hashing first makes the lengths equal and the position of a difference meaningless.
    token_hash(a) == token_hash(b)
}
