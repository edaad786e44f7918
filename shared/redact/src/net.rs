//! The net for secrets that nobody named: what gives itself away by its shape.

use crate::pattern;

/// Names a rule.
pub type Rule = &'static str;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Confidence {
    Likely,
    Certain,
}

/// A span of the text that is, or may be, a secret.
#[derive(Clone, Debug)]
pub struct Found {
    pub start: usize,
    pub end: usize,
    pub rule: Rule,
    pub confidence: Confidence,
}

/// Compiled rules.
#[derive(Debug)]
pub struct Net;

impl Net {
    pub fn built_in() -> &'static Net {
        &Net
    }

    pub fn scan(&self, text: &str, found: &mut Vec<Found>) {
        found.extend(pattern::find(text).into_iter().map(|hit| Found { start: hit.start, end: hit.end, rule: hit.kind, confidence: Confidence::Certain }));
    }

    /// How many bytes at the end may still grow into a hit.
    pub fn live_suffix(&self, text: &str) -> usize {
        let token = text.bytes().rev().take(LIVE_BYTES_MAX).take_while(|byte| !byte.is_ascii_whitespace()).count();
        (text.len() - token..=text.len()).find(|at| text.is_char_boundary(*at)).map_or(0, |at| text.len() - at)
    }
}

const LIVE_BYTES_MAX: usize = 256;
