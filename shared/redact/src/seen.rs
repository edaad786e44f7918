//! Strings that were looked at before: a conversation is sent again with every turn, and what is known of it costs a hash.
//!
//! The hash is a keyed universal one: products of the text's words with secret words, block by block, and the blocks as a
//! polynomial at two secret points. Two texts that are chosen without the key agree with a probability below 2^-60, and
//! nobody outside sees a hash. SHA-256, BLAKE3 and GCM's hash take longer over a message than walking the body does.
//! It belongs to one redactor: another vault or other rules are another redactor. Bounded, and the oldest go first.

use crate::Edit;
use ring::hmac;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// A shorter string is looked at as fast as it is looked up.
pub(crate) const SEEN_BYTES_MIN: usize = 256;
/// Strings in each of two generations: the messages of a few hundred conversations.
const GENERATION_MAX: usize = 8192;

const BLOCK_BYTES: usize = 256;
/// 2^61 - 1.
const PRIME: u64 = (1 << 61) - 1;

pub(crate) struct Seen {
    words: [u64; BLOCK_BYTES / 8],
    points: [u64; 2],
    generations: Mutex<Generations>,
}

#[derive(Default)]
struct Generations {
    young: HashMap<[u64; 2], Arc<[Edit]>>,
    old: HashMap<[u64; 2], Arc<[Edit]>>,
}

impl std::fmt::Debug for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Seen").finish_non_exhaustive()
    }
}

impl Seen {
    pub fn new(key: &hmac::Key) -> Self {
        let mut words = (0u8..).flat_map(|count| {
            let drawn = hmac::sign(key, &[b"strings that were seen".as_slice(), &[count]].concat());
            drawn.as_ref().as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)).collect::<Vec<_>>()
        });
        let mut word = || words.next().unwrap_or_default();
        Self { words: std::array::from_fn(|_| word()), points: [word() & PRIME, word() & PRIME], generations: Mutex::default() }
    }

    pub fn key(&self, text: &str) -> [u64; 2] {
        let mut sums = [0; 2];
        let (blocks, rest) = text.as_bytes().as_chunks::<BLOCK_BYTES>();
        for block in blocks {
            self.add(&mut sums, self.block(block));
        }
        let mut last = [0; BLOCK_BYTES];
        last[..rest.len()].copy_from_slice(rest);
        self.add(&mut sums, self.block(&last));
        self.add(&mut sums, text.len() as u128);
        sums
    }

    fn block(&self, block: &[u8; BLOCK_BYTES]) -> u128 {
        let (pairs, _) = block.as_chunks::<16>();
        let mut sum = 0u128;
        for (pair, key) in pairs.iter().zip(self.words.as_chunks::<2>().0) {
            let pair = u128::from_le_bytes(*pair);
            let (low, high) = ((pair as u64).wrapping_add(key[0]), ((pair >> 64) as u64).wrapping_add(key[1]));
            sum = sum.wrapping_add(u128::from(low) * u128::from(high));
        }
        sum
    }

    fn add(&self, sums: &mut [u64; 2], block: u128) {
        for (sum, point) in sums.iter_mut().zip(self.points) {
            for digit in [block as u64 & PRIME, (block >> 61) as u64 & PRIME, (block >> 122) as u64] {
                let product = u128::from(*sum) * u128::from(point) + u128::from(digit);
                let folded = (product as u64 & PRIME) + (product >> 61) as u64;
                *sum = if folded >= PRIME { folded - PRIME } else { folded };
            }
        }
    }

    pub fn edits(&self, key: &[u64; 2]) -> Option<Arc<[Edit]>> {
        let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(edits) = generations.young.get(key) {
            return Some(edits.clone());
        }
        let edits = generations.old.remove(key)?;
        generations.keep(*key, edits.clone());
        Some(edits)
    }

    pub fn keep(&self, key: [u64; 2], edits: &[Edit]) {
        self.generations.lock().unwrap_or_else(PoisonError::into_inner).keep(key, edits.into());
    }
}

impl Generations {
    fn keep(&mut self, key: [u64; 2], edits: Arc<[Edit]>) {
        if self.young.len() == GENERATION_MAX {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, edits);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_tells_texts_apart() {
        let seen = Seen::new(&hmac::Key::new(hmac::HMAC_SHA256, b"key"));
        let mut keys = std::collections::HashSet::new();
        for len in 0..600 {
            for text in ["a".repeat(len), "\0".repeat(len), format!("{}b", "a".repeat(len)), format!("b{}", "a".repeat(len))] {
                let new = keys.insert(seen.key(&text));
                assert!(new || len == 0 || text == "b", "{len}");
            }
        }
    }

    #[test]
    fn what_is_used_stays_and_what_is_not_goes() {
        let seen = Seen::new(&hmac::Key::new(hmac::HMAC_SHA256, b"key"));
        let key = |at: usize| seen.key(&format!("text {at}"));
        assert_ne!(key(1), Seen::new(&hmac::Key::new(hmac::HMAC_SHA256, b"other")).key("text 1"));
        for at in 0..GENERATION_MAX * 3 {
            seen.keep(key(at), &[]);
            assert!(seen.edits(&key(0)).is_some(), "the first is used all the time");
        }
        assert!(seen.edits(&key(1)).is_none());
        let generations = seen.generations.lock().expect("no test panicked with it");
        assert!(generations.young.len() + generations.old.len() <= GENERATION_MAX * 2);
    }
}
