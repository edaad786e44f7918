//! The secrets net: finds secrets in text and puts placeholders in their place.
//!
//! Pure; knows nothing of ours. [`Redactor`] stands before everything that leaves: it knows the vault's values in every
//! usual disguise ([`known`], [`decode`]) and recognises the secrets that nobody named ([`net`]). It edits decoded strings
//! and splices the edits into the raw bytes ([`json`]), also while they arrive ([`stream`]). [`reference`](mod@reference) is the way back: what
//! a `SECRET_REF(name)` in a tool call becomes. [`find`] and [`mask`] are the net alone, for the log and for the law that
//! no secret lies in the tree.
//!
//! What no content match can do: see through ciphers, spelling out, or a value that is handed over in pieces.

pub mod body;
mod decode;
mod json;
mod known;
mod mask;
pub mod net;
pub mod placeholder;
pub mod reference;
mod search;
mod seen;
mod stream;

pub use body::{Body, BodyError};
pub use known::{Known, SECRET_BYTES_MIN};
pub use mask::{Hit, find, mask, mask_known};
pub use net::{Confidence, Net, NetError};
pub use placeholder::contains_placeholder;
pub use stream::{ByteStream, EventStream, HOLD_BYTES_MAX, HOLD_MS_MAX, TextStream};

use ring::hmac;
use search::{Search, What};
use std::borrow::Cow;
use std::sync::Arc;

/// Finds and replaces. Made anew when the vault changes; what it was made of does not change.
#[derive(Debug)]
pub struct Redactor {
    known: Known,
    net: Arc<Net>,
    key: hmac::Key,
    seen: seen::Seen,
}

/// Text as it may leave, and what was taken out of it.
#[derive(Debug)]
pub struct Redaction<'a> {
    pub text: Cow<'a, str>,
    /// In order; spans are of the text that came in.
    pub findings: Vec<Finding>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// `known:NAME`, or the rule of the net.
    pub rule: Arc<str>,
    pub start: usize,
    pub end: usize,
    pub confidence: Confidence,
}

/// How a text is looked at.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Look {
    All,
    /// Not for unknown secrets: these are words of a format.
    Known,
    /// Not for what is escaped or encoded: that is looked at elsewhere.
    Surface,
    KnownSurface,
}

/// A span and what comes in its place.
#[derive(Clone, Debug)]
pub(crate) struct Edit {
    pub finding: Finding,
    pub placeholder: String,
}

impl Edit {
    fn moved(&self, by: usize) -> Self {
        let Finding { start, end, .. } = self.finding;
        Self { finding: Finding { start: start + by, end: end + by, ..self.finding.clone() }, placeholder: self.placeholder.clone() }
    }
}

impl Redactor {
    /// `key` makes the placeholders of this tenant: not to be turned back, and not to be compared with another tenant's.
    pub fn new(known: Known, key: &[u8; 32]) -> Self {
        Self::with_net(known, key, Net::built_in().clone())
    }

    /// The same with a net of more rules.
    pub fn with_net(known: Known, key: &[u8; 32], net: Arc<Net>) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, key);
        Self { known, net, seen: seen::Seen::new(&key), key }
    }

    pub fn known(&self) -> &Known {
        &self.known
    }

    pub fn text<'a>(&self, text: &'a str) -> Redaction<'a> {
        let edits = self.json_text_edits(text).unwrap_or_else(|| self.edits(text, Look::All));
        let text = if edits.is_empty() { Cow::Borrowed(text) } else { Cow::Owned(splice(text, &edits)) };
        Redaction { text, findings: edits.into_iter().map(|edit| edit.finding).collect() }
    }

    /// What is to be edited in `text`, in order and apart from one another.
    pub(crate) fn edits(&self, text: &str, look: Look) -> Vec<Edit> {
        let with_net = matches!(look, Look::All | Look::Surface);
        let search = Search { known: &self.known, net: with_net.then_some(&*self.net) };
        let mut hits = if matches!(look, Look::Surface | Look::KnownSurface) { search.surface(text) } else { search.run(text) };
        if hits.is_empty() {
            return Vec::new();
        }
        self.spare_placeholders(text, &mut hits);
        // A known secret decides over what the net makes of the same place.
        hits.sort_by_key(|hit| (hit.start, usize::MAX - hit.end, !matches!(hit.what, What::Known(_))));
        let mut merged: Vec<search::Hit> = Vec::new();
        for hit in hits {
            match merged.last_mut() {
                Some(last) if hit.start < last.end => {
                    if matches!(hit.what, What::Known(_)) && !matches!(last.what, What::Known(_)) {
                        last.what = hit.what;
                    }
                    last.end = last.end.max(hit.end);
                }
                _ => merged.push(hit),
            }
        }
        merged.into_iter().map(|hit| self.edit(text, hit)).collect()
    }

    fn edit(&self, text: &str, hit: search::Hit) -> Edit {
        // A hit in decoded bytes may begin or end within a character.
        let start = (0..=hit.start).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        let end = (hit.end..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
        let (rule, confidence, placeholder) = match hit.what {
            What::Known(secret) => {
                let name = self.known.name(secret);
                (format!("known:{name}").into(), Confidence::Certain, placeholder::reference(name))
            }
            What::Net(rule, confidence) => {
                let placeholder = placeholder::redacted(rule.kind(), &self.key, &text.as_bytes()[start..end]);
                (rule.id().into(), confidence, placeholder)
            }
        };
        Edit { finding: Finding { rule, start, end, confidence }, placeholder }
    }

    /// A placeholder is no secret, whatever stands around it.
    fn spare_placeholders(&self, text: &str, hits: &mut Vec<search::Hit>) {
        let spans: Vec<placeholder::Span> = placeholder::spans(text).collect();
        if spans.is_empty() {
            return;
        }
        let mut left = Vec::with_capacity(hits.len());
        for mut hit in hits.drain(..) {
            let first = spans.partition_point(|span| span.end <= hit.start);
            for span in spans[first..].iter().take_while(|span| span.start < hit.end) {
                match &hit.what {
                    // A name may be a value, and a placeholder's first letter the last of code before it.
                    What::Known(_) => {
                        let ours = span.reference && span.name(text).is_some_and(|name| self.known.is_name(name));
                        if ours {
                            hit.start = hit.end;
                            break;
                        }
                    }
                    // The rest of a private key is still one; what is left of a line's frame is not.
                    What::Net(..) if !text.as_bytes()[hit.start..hit.end].contains(&b'\n') => {
                        hit.start = hit.end;
                        break;
                    }
                    What::Net(..) => {
                        if hit.start < span.start {
                            left.push(search::Hit { end: span.start, ..hit.clone() });
                        }
                        hit.start = span.end.min(hit.end);
                    }
                }
            }
            if hit.start < hit.end {
                left.push(hit);
            }
        }
        *hits = left;
    }
}

pub(crate) fn splice(text: &str, edits: &[Edit]) -> String {
    let mut spliced = String::with_capacity(text.len());
    let mut at = 0;
    for edit in edits {
        spliced.push_str(&text[at..edit.finding.start]);
        spliced.push_str(&edit.placeholder);
        at = edit.finding.end;
    }
    spliced.push_str(&text[at..]);
    spliced
}
