//! One search through bytes: the known secrets and the net, in the text and in what is encoded in it, layer by layer.
//!
//! Work is bounded: so many layers, so many decoded bytes in all. What lies deeper is not looked at.

use crate::decode::{self, Mapped};
use crate::known::{self, Known};
use crate::net::{Confidence, Found, Net, Rule};
use crate::sieve::Sieve;

/// Code in code in code.
const LAYERS_MAX: usize = 4;
/// What one layer may decode to, and what all of them may for one text beyond its own length.
const LAYER_BYTES_MAX: usize = 1 << 20;
/// Decoded text shorter than this carries no unknown secret that could be told from noise.
const NET_BYTES_MIN: usize = 12;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum What {
    /// The number of a known secret.
    Known(u32),
    Net(Rule, Confidence),
}

#[derive(Clone, Debug)]
pub(crate) struct Hit {
    pub start: usize,
    pub end: usize,
    pub what: What,
}

impl From<known::Hit> for Hit {
    fn from(hit: known::Hit) -> Self {
        Self { start: hit.start, end: hit.end, what: What::Known(hit.secret) }
    }
}

impl From<Found> for Hit {
    fn from(found: Found) -> Self {
        Self { start: found.start, end: found.end, what: What::Net(found.rule, found.confidence) }
    }
}

pub(crate) struct Search<'a> {
    pub known: &'a Known,
    /// Not for what only carries known secrets.
    pub net: Option<&'a Net>,
}

impl Search<'_> {
    /// The hits in `text`, in any order, perhaps overlapping.
    pub fn run(&self, text: &str) -> Vec<Hit> {
        let sieve = Sieve::new(text.as_bytes());
        let mut hits = self.shapes(text, &sieve);
        self.layer(text.as_bytes(), &sieve, 0, &mut (LAYER_BYTES_MAX + text.len() * 2), &mut hits);
        hits
    }

    /// Only the known secrets in `bytes`.
    pub fn known(known: &Known, bytes: &[u8]) -> Vec<Hit> {
        let mut hits = Vec::new();
        Search { known, net: None }.layer(bytes, &Sieve::new(bytes), 0, &mut (LAYER_BYTES_MAX + bytes.len() * 2), &mut hits);
        hits
    }

    /// The same without looking into what is escaped or encoded.
    pub fn surface(&self, text: &str) -> Vec<Hit> {
        let mut hits = self.shapes(text, &Sieve::new(text.as_bytes()));
        let mut known = Vec::new();
        self.known.find(text.as_bytes(), &mut known);
        hits.extend(known.into_iter().map(Hit::from));
        hits
    }

    fn shapes(&self, text: &str, sieve: &Sieve) -> Vec<Hit> {
        let mut found = Vec::new();
        if let Some(net) = self.net {
            net.scan_sifted(text, sieve, &mut found);
        }
        found.into_iter().map(Hit::from).collect()
    }

    fn layer(&self, bytes: &[u8], sieve: &Sieve, depth: usize, budget: &mut usize, hits: &mut Vec<Hit>) {
        let mut known: Vec<known::Hit> = Vec::new();
        self.known.find(bytes, &mut known);
        self.known.find_bent(bytes, sieve, &mut known);
        hits.extend(known.into_iter().map(Hit::from));
        if depth == LAYERS_MAX {
            return;
        }
        decode::runs(bytes, sieve, |run| {
            for code in run.codes(bytes) {
                let decoded = run.decoded(bytes, code, LAYER_BYTES_MAX.min(*budget));
                *budget = budget.saturating_sub(decoded.len());
                let inner = self.inside(&decoded, depth, budget);
                if inner.is_empty() {
                    continue;
                }
                let map = run.mapped(bytes, code, LAYER_BYTES_MAX);
                hits.extend(inner.into_iter().map(|hit| outward(hit, &map)));
            }
        });
        decode::spaced(bytes, sieve, |map| {
            *budget = budget.saturating_sub(map.bytes.len());
            hits.extend(self.inside(&map.bytes, depth, budget).into_iter().map(|hit| outward(hit, &map)));
        });
    }

    /// What decoded bytes hold, in whatever they are packed.
    fn inside(&self, decoded: &[u8], depth: usize, budget: &mut usize) -> Vec<Hit> {
        let mut hits = Vec::new();
        if let Some(unpacked) = decode::inflated(decoded, LAYER_BYTES_MAX.min(*budget)) {
            *budget = budget.saturating_sub(unpacked.len());
            let mut inner = Vec::new();
            self.decoded(&unpacked, depth, budget, &mut inner);
            // No byte of a packed stream is a byte of what it holds: all of it goes.
            hits.extend(inner.into_iter().map(|hit| Hit { start: 0, end: decoded.len(), ..hit }));
        } else if let Some(wide) = decode::utf16(decoded) {
            let mut inner = Vec::new();
            self.decoded(&wide.bytes, depth, budget, &mut inner);
            hits.extend(inner.into_iter().map(|hit| outward(hit, &wide)));
        } else {
            self.decoded(decoded, depth, budget, &mut hits);
        }
        hits
    }

    fn decoded(&self, bytes: &[u8], depth: usize, budget: &mut usize, hits: &mut Vec<Hit>) {
        let sieve = Sieve::new(bytes);
        self.layer(bytes, &sieve, depth + 1, budget, hits);
        let Some(net) = self.net.filter(|_| bytes.len() >= NET_BYTES_MIN) else { return };
        let Ok(text) = std::str::from_utf8(bytes) else { return };
        if text.bytes().any(|byte| byte < b' ' && !matches!(byte, b'\n' | b'\r' | b'\t')) {
            return;
        }
        let mut found = Vec::new();
        net.scan_sifted(text, &sieve, &mut found);
        let certain = found.into_iter().filter(|found| found.confidence == Confidence::Certain);
        hits.extend(certain.map(Hit::from));
    }
}

fn outward(hit: Hit, map: &Mapped) -> Hit {
    let end = hit.end.min(map.bytes.len());
    let (start, end) = map.source(hit.start.min(end - 1), end);
    Hit { start, end, what: hit.what }
}
