//! Secrets that carry their kind in their shape: a vendor's prefix, a frame, a place in a URL or a header.

use regex::{Regex, RegexSet};
use std::sync::LazyLock;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hit {
    pub start: usize,
    pub end: usize,
    pub kind: &'static str,
}

/// (kind, pattern). Where a pattern has a group, only the group is the secret.
const SHAPES: &[(&str, &str)] = &[
    ("anthropic_key", r"\bsk-ant-[A-Za-z0-9_-]{24,}"),
    ("openai_key", r"\bsk-(?:proj-|svcacct-)?[A-Za-z0-9_-]{32,}"),
    ("github_token", r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{50,})"),
    ("gitlab_token", r"\bglpat-[A-Za-z0-9_-]{20,}"),
    ("aws_key_id", r"\b(?:AKIA|ASIA)[A-Z2-7]{16}\b"),
    ("google_key", r"\bAIza[A-Za-z0-9_-]{35}"),
    ("slack_token", r"\bxox[abeoprs]-[A-Za-z0-9-]{20,}"),
    ("stripe_key", r"\b(?:sk|rk)_(?:live|test)_[A-Za-z0-9]{20,}"),
    ("stripe_webhook", r"\bwhsec_[A-Za-z0-9+/=]{24,}"),
    ("npm_token", r"\bnpm_[A-Za-z0-9]{36}\b"),
    ("xai_key", r"\bxai-[A-Za-z0-9]{60,}"),
    ("groq_key", r"\bgsk_[A-Za-z0-9]{40,}"),
    ("sendgrid_key", r"\bSG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{32,}"),
    ("telegram_token", r"\b[0-9]{8,10}:AA[A-Za-z0-9_-]{33}\b"),
    ("age_key", r"\bAGE-SECRET-KEY-1[0-9A-Z]{58}\b"),
    ("jwt", r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}"),
    ("private_key", r"(?s)-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----.{40,}?(?:-----END|\z)"),
    ("url_password", r"\b[a-z][a-z0-9+.-]{1,20}://[^\s/:@]{0,64}:([^\s/@\[\]{}$<]{6,256})@"),
    ("bearer", r"(?i)\b(?:bearer|x-api-key:)\s+([A-Za-z0-9._~+/=-]{20,})"),
    ("fragment_token", r"/first#([A-Za-z0-9_-]{20,})"),
];

static SET: LazyLock<RegexSet> =
    LazyLock::new(|| RegexSet::new(SHAPES.iter().map(|(_, shape)| shape)).expect("the shapes are constants and a test compiles them"));
static EACH: LazyLock<Vec<Regex>> =
    LazyLock::new(|| SHAPES.iter().map(|(_, shape)| Regex::new(shape).expect("the shapes are constants and a test compiles them")).collect());

/// Everything in `text` that is shaped like a secret.
pub fn find(text: &str) -> Vec<Hit> {
    let mut hits = Vec::new();
    for index in SET.matches(text) {
        for captures in EACH[index].captures_iter(text) {
            let found = captures.get(1).or_else(|| captures.get(0)).expect("group 0 always exists");
            hits.push(Hit { start: found.start(), end: found.end(), kind: SHAPES[index].0 });
        }
    }
    hits
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Examples are put together at run time, so that this file itself holds nothing secret-shaped.
    fn fill(prefix: &str, letters: &str, count: usize) -> String {
        format!("{prefix}{}", letters.chars().cycle().take(count).collect::<String>())
    }

    #[test]
    fn shapes_are_found_whole() {
        for (kind, secret) in [
            ("anthropic_key", fill("sk-ant-api03-", "aB3_-", 40)),
            ("openai_key", fill("sk-proj-", "aB3", 40)),
            ("github_token", fill("ghp_", "aB3", 36)),
            ("aws_key_id", fill("AKIA", "QZ7", 16)),
            ("stripe_key", fill("sk_live_", "aB3", 24)),
            ("jwt", format!("{}.{}.{}", fill("eyJ", "aB3", 20), fill("eyJ", "aB3", 20), fill("", "aB3", 20))),
        ] {
            let text = format!("see {secret}, thanks");
            let hits = find(&text);
            assert_eq!(hits.first().map(|hit| (hit.kind, &text[hit.start..hit.end])), Some((kind, secret.as_str())));
        }
    }

    #[test]
    fn only_the_secret_part_of_a_frame_is_the_hit() {
        let text = format!("postgres://app:{}@db/x", "longpassword1");
        let hits = find(&text);
        assert_eq!(&text[hits[0].start..hits[0].end], "longpassword1");
    }

    #[test]
    fn prose_is_not_a_secret() {
        for text in [
            "sk-learn is a library",
            "the bearer of good news",
            "https://example.org:8080/a",
            "git@example.org:x/y",
            "AKIAshort",
            "postgres://app:$PASSWORD@db",
        ] {
            assert_eq!(find(text), [], "{text}");
        }
    }
}
