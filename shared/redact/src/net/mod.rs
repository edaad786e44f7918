//! The net for secrets that nobody has named: it knows them by their form, their frame and their place.
//!
//! Five ways lead to a finding. A vendor's prefix and shape (`runs`), a frame such as a PEM block or an address with a
//! password in it (`frame`), the name that a value is assigned to and the words around it (`context`), and a long value
//! that only chance can have written under a name that says nothing (`runs` again). Where these fall short of certainty
//! the finding is `Likely`, and is to be masked too: whoever knows better allows the rule by name ([`Net::with`]).
//!
//! What it refuses to do: it does not infer a secret from a name alone. A reference, a placeholder, a call or a word of
//! the language in the place of a value is left as it is, because a mask written back into a file does harm, too.
//! Checksums are not asked: most published samples of tokens fail theirs, and so do tokens that were cut.
//!
//! It looks at text once and holds nothing. The text may be source, a decoded JSON string, or a JSON body as it is.

mod context;
mod frame;
mod names;
mod rules;
mod runs;
mod shape;
mod value;

pub use rules::{Confidence, NetError, Rule, Wrong};

use crate::sieve::Sieve;
use rules::{Form, Rules, Told};
use std::fmt;
use std::sync::{Arc, LazyLock};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub start: usize,
    pub end: usize,
    pub rule: Rule,
    pub confidence: Confidence,
}

pub struct Net {
    rules: Rules,
    triggers: Arc<context::Triggers>,
    marks: Arc<frame::Marks>,
}

impl fmt::Debug for Net {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Net").field("rules", &self.rules.all.len()).finish_non_exhaustive()
    }
}

static BUILT_IN: LazyLock<Arc<Net>> =
    LazyLock::new(|| Arc::new(Net::compile(include_str!("../../rules/secrets.toml")).expect("the rules are part of the program and a test checks them")));

/// No more of the end of a stream is ever held back.
pub const LIVE_BYTES_MAX: usize = 256;

impl Net {
    fn new(rules: Rules) -> Net {
        Net { rules, triggers: Arc::new(context::Triggers::new()), marks: Arc::new(frame::Marks::new()) }
    }

    /// The net that the program came with.
    pub fn built_in() -> &'static Arc<Net> {
        &BUILT_IN
    }

    /// What a rule of this net calls what it finds; empty for a rule of another net.
    pub fn kind(&self, rule: &Rule) -> &str {
        self.rules.all.iter().find(|told| told.rule == *rule).map_or("", |told| told.rule.kind())
    }

    /// Adds what looks like a secret in `text` to `found`: in order, without overlaps, on borders of characters.
    pub fn scan(&self, text: &str, found: &mut Vec<Found>) {
        self.scan_sifted(text, &Sieve::new(text.as_bytes()), found);
    }

    pub(crate) fn scan_sifted(&self, text: &str, sieve: &Sieve, found: &mut Vec<Found>) {
        let first = found.len();
        let mut catch = Catch { net: self, text, found, read: context::Read::default() };
        frame::scan(&mut catch);
        runs::scan(&mut catch, sieve);
        context::scan(&mut catch);
        merge(found, first);
    }

    /// How many bytes at the end of `text` could still become, or become part of, a finding when more text comes.
    ///
    /// Everything before may be released if it is scanned first, together with the context it came with.
    pub fn live_suffix(&self, text: &str) -> usize {
        let floor = text.ceil_char_boundary(text.len().saturating_sub(LIVE_BYTES_MAX));
        text.len() - context::live(text, floor)
    }
}

/// A scan under way: the text, and where findings go.
struct Catch<'a> {
    net: &'a Net,
    text: &'a str,
    found: &'a mut Vec<Found>,
    read: context::Read,
}

impl Catch<'_> {
    fn form(&mut self, form: Form, start: usize, end: usize) -> bool {
        match self.net.rules.forms.told(form) {
            Some(told) => self.add(told, start, end),
            None => false,
        }
    }

    fn add(&mut self, told: &Told, start: usize, end: usize) -> bool {
        let (start, end) = (self.text.floor_char_boundary(start), self.text.ceil_char_boundary(end));
        if start >= end || self.net.rules.allowed.has(&self.text.as_bytes()[start..end], told.confidence) {
            return false;
        }
        self.found.push(Found { start, end, rule: told.rule.clone(), confidence: told.confidence });
        true
    }
}

/// Overlapping findings become one, called by the surer and, among equals, the longer of them.
fn merge(found: &mut Vec<Found>, first: usize) {
    if found.len() - first < 2 {
        return;
    }
    found[first..].sort_by_key(|hit| (hit.start, std::cmp::Reverse(hit.end)));
    let mut last = first;
    for next in first + 1..found.len() {
        if found[next].start < found[last].end {
            let (a, b) = (&found[last], &found[next]);
            let weight = |hit: &Found| (hit.confidence, hit.end - hit.start);
            let keep = if weight(b) > weight(a) { b } else { a };
            found[last] = Found { start: a.start, end: a.end.max(b.end), rule: keep.rule.clone(), confidence: keep.confidence };
        } else {
            last += 1;
            found.swap(last, next);
        }
    }
    found.truncate(last + 1);
}

#[cfg(test)]
mod tests;
