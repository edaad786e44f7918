//! What a program prints, kept within bounds: the beginning and the end of it. Pure.
//!
//! More is kept than is shown, so that a secret is never cut before it has been looked for: what is shown begins and ends
//! far from where the kept text was cut.

use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Kept of the beginning, and as much of the end.
const KEPT_BYTES: usize = 256 * 1024;
/// Shown of the beginning, and as much of the end: more than a model reads, and OpenClaw would cut it anyway.
pub const SHOWN_BYTES: usize = 24 * 1024;
/// As long as a secret may be, and its disguises: what lies nearer than this to a cut is not shown.
const CUT_BYTES: usize = 128 * 1024;

#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Capture {
    #[serde(with = "packed")]
    head: VecDeque<u8>,
    #[serde(with = "packed")]
    tail: VecDeque<u8>,
    /// Bytes between the two that nobody kept.
    lost: u64,
}

impl Capture {
    pub fn push(&mut self, mut bytes: &[u8]) {
        let room = KEPT_BYTES - self.head.len();
        let (first, rest) = bytes.split_at(room.min(bytes.len()));
        self.head.extend(first);
        bytes = rest;
        if bytes.len() > KEPT_BYTES {
            self.lost += (bytes.len() - KEPT_BYTES) as u64;
            bytes = &bytes[bytes.len() - KEPT_BYTES..];
        }
        let over = (self.tail.len() + bytes.len()).saturating_sub(KEPT_BYTES);
        self.lost += over as u64;
        self.tail.drain(..over);
        self.tail.extend(bytes);
    }

    /// What may be shown, after `redact` has looked at all that was kept.
    pub fn shown(self, redact: impl Fn(&str) -> String) -> String {
        let Capture { head, tail, lost } = self;
        let (mut head, tail): (Vec<u8>, Vec<u8>) = (head.into(), tail.into());
        if lost == 0 {
            // Nothing was cut: it is one text.
            head.extend(tail);
            return shortened(&redact(&String::from_utf8_lossy(&head)));
        }
        let (head, tail) = (redact(&String::from_utf8_lossy(&head)), redact(&String::from_utf8_lossy(&tail)));
        let (head, tail) = (beginning(&head), after(&tail, CUT_BYTES.max(tail.len().saturating_sub(SHOWN_BYTES))));
        format!("{head}\n[… more was printed than is kept …]\n{tail}")
    }
}

/// The beginning and the end of a text that has been looked at.
pub fn shortened(text: &str) -> String {
    if text.len() <= 2 * SHOWN_BYTES {
        return text.to_owned();
    }
    let (head, tail) = (before(text, SHOWN_BYTES), after(text, text.len() - SHOWN_BYTES));
    format!("{head}\n[… {} bytes left out …]\n{tail}", text.len() - head.len() - tail.len())
}

/// The beginning of a text that has been looked at and was cut far behind it.
pub fn beginning(text: &str) -> &str {
    before(text, text.len().saturating_sub(CUT_BYTES).min(SHOWN_BYTES))
}

fn before(text: &str, end: usize) -> &str {
    &text[..text.floor_char_boundary(end)]
}

fn after(text: &str, start: usize) -> &str {
    &text[text.ceil_char_boundary(start.min(text.len()))..]
}

/// Bytes as base64 while they go from one process to another.
pub mod packed {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<'a, S: Serializer, B>(bytes: &'a B, serializer: S) -> Result<S::Ok, S::Error>
    where
        &'a B: IntoIterator<Item = &'a u8>,
    {
        let bytes: Vec<u8> = bytes.into_iter().copied().collect();
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub fn deserialize<'de, D: Deserializer<'de>, B: From<Vec<u8>>>(deserializer: D) -> Result<B, D::Error> {
        STANDARD.decode(String::deserialize(deserializer)?).map(Into::into).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(pieces: &[&[u8]]) -> String {
        let mut capture = Capture::default();
        pieces.iter().for_each(|piece| capture.push(piece));
        capture.shown(|text| text.replace("hush", "[gone]"))
    }

    #[test]
    fn the_beginning_and_the_end_are_kept() {
        assert_eq!(shown(&[b"a", b"", b"b hu", b"sh c"]), "ab [gone] c");
        let long = "x".repeat(3 * KEPT_BYTES);
        let text = shown(&[b"first ", long.as_bytes(), b" last"]);
        assert!(text.starts_with("first xx") && text.ends_with("xx last") && text.contains("more was printed"), "{}", text.len());
        assert!(text.len() < 2 * SHOWN_BYTES + 100);
        let text = shown(&[b"first ", "y".repeat(3 * SHOWN_BYTES).as_bytes(), b" last"]);
        assert!(text.starts_with("first yy") && text.ends_with("yy last") && text.contains("bytes left out"));
    }

    proptest! {
        /// A secret that lies across the place where the text was cut must not show a part of itself.
        #[test]
        fn no_part_of_a_secret_shows_at_the_cut(lead in 0usize..64, size in 1usize..9000) {
            let secret = "0123456789abcdef".repeat(64);
            let mut capture = Capture::default();
            let line = format!("{}{secret}", "-".repeat(lead));
            let all = line.repeat(3 * KEPT_BYTES / line.len());
            all.as_bytes().chunks(size).for_each(|piece| capture.push(piece));
            let text = capture.shown(|text| text.replace(&secret, "*"));
            prop_assert!(!text.contains("0123456789abcdef0123456789abcdef"), "{} bytes", text.len());
        }
    }
}
