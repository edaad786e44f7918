//! The secrets net: finds secrets in text and puts placeholders in their place.
//!
//! Pure; knows nothing of ours. [`Redactor`] stands before everything that leaves: it knows the vault's values in every
//! usual disguise ([`known`], [`decode`]) and recognises the secrets that nobody named ([`net`]). It edits decoded strings
//! and splices the edits into the raw bytes ([`json`]), also while they arrive ([`stream`]). [`reference`](mod@reference) is the way back: what
//! a `SECRET_REF(name)` in a tool call becomes. [`find`] is the net alone, for the law that no
//! secret lies in the tree; [`mask`] the net and values that are named, for the log.
//!
//! What no content match can do: see through ciphers, spelling out, or a value that is handed over in pieces.

pub mod body;
mod decode;
mod events;
mod json;
mod known;
mod mask;
pub mod net;
pub mod placeholder;
pub mod reference;
mod search;
mod seen;
mod sieve;
mod stream;

pub use body::{Body, BodyError};
pub use events::EventStream;
pub use known::{Known, SECRET_BYTES_MIN};
pub use mask::{Hit, find, mask, mask_known};
pub use net::{Confidence, Net, NetError};
pub use placeholder::contains_placeholder;
pub use stream::{ByteStream, HOLD_BYTES_MAX, HOLD_MS_MAX, TextStream};

use ring::hmac;
use search::{Search, What};
use std::borrow::Cow;
use std::sync::Arc;

/// No known secret is shorter, nor is a name with a value that the net would take for one.
const FINDING_BYTES_MIN: usize = SECRET_BYTES_MIN;

/// Finds and replaces. Made anew when the vault changes; what it was made of does not change.
#[derive(Debug)]
pub struct Redactor {
    known: Arc<Known>,
    /// Names of known secrets that may stay where they stand.
    spared: Vec<String>,
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
        Self { known: Arc::new(known), spared: Vec::new(), net, seen: seen::Seen::new(&key), key }
    }

    /// The same, but for somebody who may have these secrets: they stay, and the net passes over them.
    pub fn sparing(&self, names: impl IntoIterator<Item = String>) -> Self {
        let (known, key) = (self.known.clone(), self.key.clone());
        // What was seen is told apart: a text that is clean for one reader is not for another.
        Self { known, spared: names.into_iter().collect(), net: self.net.clone(), seen: seen::Seen::new(&key), key }
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
        if text.len() < FINDING_BYTES_MIN {
            return Vec::new();
        }
        let with_net = matches!(look, Look::All | Look::Surface);
        let search = Search { known: &self.known, net: with_net.then_some(&*self.net) };
        let mut hits = if matches!(look, Look::Surface | Look::KnownSurface) { search.surface(text) } else { search.run(text) };
        if with_net {
            self.beside_placeholders(text, &mut hits);
        }
        if hits.is_empty() {
            return Vec::new();
        }
        self.spare_named(&mut hits);
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
        let (start, end) = (text.floor_char_boundary(hit.start), text.ceil_char_boundary(hit.end));
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

    /// Takes out the secrets that may stay, and what the net makes of the same places.
    fn spare_named(&self, hits: &mut Vec<search::Hit>) {
        if self.spared.is_empty() {
            return;
        }
        let (stay, mut left): (Vec<_>, Vec<_>) = hits.drain(..).partition(|hit| self.is_spared(hit));
        left.retain(|hit| matches!(hit.what, What::Known(_)) || stay.iter().all(|stay| hit.end <= stay.start || stay.end <= hit.start));
        *hits = left;
    }

    fn is_spared(&self, hit: &search::Hit) -> bool {
        matches!(hit.what, What::Known(secret) if self.spared.iter().any(|name| name == self.known.name(secret)))
    }

    /// What the net sees in the lines with placeholders when these are not there: a value that holds one is none to it, but
    /// a part of it may still be a secret.
    pub(crate) fn beside_placeholders(&self, text: &str, hits: &mut Vec<search::Hit>) {
        if !placeholder::may_stand_in(text) {
            return;
        }
        let mut spans = placeholder::spans(text).peekable();
        while let Some(span) = spans.next() {
            let line = text[..span.start].rfind('\n').map_or(0, |at| at + 1);
            let end = text[span.end..].find('\n').map_or(text.len(), |at| span.end + at);
            let mut cuts = vec![(span.start, span.end)];
            cuts.extend(std::iter::from_fn(|| spans.next_if(|next| next.start < end)).map(|next| (next.start, next.end)));
            let mut rest = String::with_capacity(end - line);
            let mut at = line;
            for &(start, next) in &cuts {
                rest.push_str(&text[at..start]);
                at = next;
            }
            rest.push_str(&text[at..end]);
            // Where in `text` the byte at a place of `rest` stands.
            let source = |place: usize| cuts.iter().fold(line + place, |at, (start, end)| if at >= *start { at + end - start } else { at });
            let mut found = Vec::new();
            self.net.scan(&rest, &mut found);
            for hit in found {
                let (start, end) = (source(hit.start), source(hit.end - 1) + 1);
                let is_near = |(from, to): &(usize, usize)| {
                    let (before, behind) = (end.min(*from), start.max(*to));
                    start < *to && end > *from || text[before..*from].trim().is_empty() && end <= *from || text[*to..behind].trim().is_empty() && start >= *to
                };
                if cuts.iter().any(is_near) && is_rest(&text[start..end], &text[..start], &text[end..]) {
                    hits.push(search::Hit { start, end, what: What::Net(hit.rule, hit.confidence) });
                }
            }
        }
    }

    /// A placeholder is no secret, whatever stands around it: what is found there is what is left on its two sides.
    fn spare_placeholders(&self, text: &str, hits: &mut Vec<search::Hit>) {
        let spans: Vec<placeholder::Span> = placeholder::spans(text).collect();
        if spans.is_empty() {
            return;
        }
        let mut left = Vec::with_capacity(hits.len());
        for mut hit in hits.drain(..) {
            let known = matches!(hit.what, What::Known(_));
            let first = spans.partition_point(|span| span.end <= hit.start);
            let count = spans[first..].iter().take_while(|span| span.start < hit.end).count();
            // The rest of a private key is still one; what is left of a line's frame need not be.
            let whole = count == 0 || known || text.as_bytes()[hit.start..hit.end].contains(&b'\n');
            let is_one = |start: usize, end: usize| start < end && (whole || is_rest(&text[start..end], &text[..start], &text[end..]));
            for span in &spans[first..first + count] {
                // A name may be a value, and a placeholder's first letter the last of code before it.
                if known && !span.name(text).is_some_and(|name| self.known.is_name(name)) {
                    continue;
                }
                if is_one(hit.start, span.start) {
                    left.push(search::Hit { end: span.start, ..hit.clone() });
                }
                hit.start = span.end.min(hit.end);
            }
            if is_one(hit.start, hit.end) {
                left.push(hit);
            }
        }
        *hits = left;
    }
}

/// Whether what stands beside a placeholder, where the net sees one value, is more than the words and signs around it.
fn is_rest(piece: &str, before: &str, behind: &str) -> bool {
    let core = piece.trim_matches(|letter: char| letter.is_ascii_punctuation() || letter.is_whitespace());
    let joined =
        before.ends_with([')', ']']) && !piece.starts_with(char::is_whitespace) || behind.starts_with(['S', '[']) && !piece.ends_with(char::is_whitespace);
    let is_word = core.chars().all(|letter| letter.is_alphabetic() || matches!(letter, ' ' | '\''));
    core.len() >= REST_BYTES_MIN && (joined || !is_word)
}

/// What is shorter beside a placeholder is no secret of its own.
const REST_BYTES_MIN: usize = 4;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_beside_a_placeholder_is_still_a_secret() {
        let redactor = Redactor::new(Known::new([("a", b"Sommer#2026x".as_slice())]), &[3; 32]);
        let value = format!("Kq9#{}", "vv81xZpp");
        for text in [
            format!("DB_PASSWORD=SECRET_REF(a){value}"),
            format!("DB_PASSWORD={value}SECRET_REF(a)"),
            format!("DB_PASSWORD={value}SECRET_REF(a){value}"),
            format!("DB_PASSWORD=[REDACTED:x]{value}"),
            format!("password: [REDACTED:x] {value}"),
            format!("{{\"password\":\"SECRET_REF(a){value}\"}}"),
        ] {
            let once = redactor.text(&text).text.into_owned();
            assert!(!once.contains(&value), "{text:?} became {once:?}");
            assert_eq!(once.contains("SECRET_REF(a)"), text.contains("SECRET_REF(a)"), "{text:?} became {once:?}");
            assert_eq!(redactor.text(&once).text, once);
        }
        for text in
            ["password: SECRET_REF(a), and so on", "Authorization: Bearer SECRET_REF(a)", "DB_PASSWORD=SECRET_REF(a).", "password is [REDACTED:x] for now"]
        {
            assert_eq!(redactor.text(text).text, text);
        }
    }
}
