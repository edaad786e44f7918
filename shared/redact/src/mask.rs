//! Without a vault: the net alone, for the law that no secret lies in the tree; the net and values that are named, for the log.

use crate::net::{Confidence, Found, Net};
use crate::placeholder;
use std::borrow::Cow;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hit {
    pub start: usize,
    pub end: usize,
    pub kind: &'static str,
}

/// Everything in `text` that is a secret by its form. What is only likely is not told: a law must not be broken by chance.
pub fn find(text: &str) -> Vec<Hit> {
    found(text).filter(|found| found.confidence == Confidence::Certain).map(hit).collect()
}

/// The text with everything that may be a secret and every `known` value replaced by `[REDACTED:kind]`.
pub fn mask<'a>(text: &'a str, known: &[&str]) -> Cow<'a, str> {
    let mut hits: Vec<Hit> = found(text).map(hit).collect();
    // A placeholder is no secret, whatever stands around it.
    let spans: Vec<placeholder::Span> = placeholder::spans(text).collect();
    hits.retain(|hit| spans.get(spans.partition_point(|span| span.end <= hit.start)).is_none_or(|span| hit.end <= span.start));
    masked(text, hits, known)
}

/// The text with every `known` value replaced, for one that has passed the net.
pub fn mask_known<'a>(text: &'a str, known: &[&str]) -> Cow<'a, str> {
    masked(text, Vec::new(), known)
}

fn masked<'a>(text: &'a str, mut hits: Vec<Hit>, known: &[&str]) -> Cow<'a, str> {
    for value in known.iter().filter(|value| value.len() >= crate::SECRET_BYTES_MIN) {
        hits.extend(text.match_indices(value).map(|(start, found)| Hit { start, end: start + found.len(), kind: "known" }));
    }
    if hits.is_empty() {
        return Cow::Borrowed(text);
    }
    hits.sort_by_key(|hit| (hit.start, usize::MAX - hit.end));
    let mut masked = String::with_capacity(text.len());
    let mut at = 0;
    for hit in hits {
        if hit.end <= at {
            continue;
        }
        if hit.start >= at {
            masked.push_str(&text[at..hit.start]);
            masked.push_str("[REDACTED:");
            masked.push_str(hit.kind);
            masked.push(']');
        }
        at = hit.end;
    }
    masked.push_str(&text[at..]);
    Cow::Owned(masked)
}

fn found(text: &str) -> impl Iterator<Item = Found> {
    let mut found = Vec::new();
    Net::built_in().scan(text, &mut found);
    found.into_iter()
}

fn hit(found: Found) -> Hit {
    Hit { start: found.start, end: found.end, kind: Net::built_in().kind(&found.rule) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Examples are put together at run time, so that this file itself holds nothing secret-shaped.
    fn fill(prefix: &str, letters: &str, count: usize) -> String {
        format!("{prefix}{}", letters.chars().cycle().take(count).collect::<String>())
    }

    #[test]
    fn shapes_are_found_whole() {
        let letters = "aB3dE7gH2kL9mN4";
        for (kind, secret) in [
            ("anthropic_key", fill("sk-ant-api03-", letters, 40)),
            ("openai_key", fill("sk-proj-", letters, 40)),
            ("github_token", fill("ghp_", letters, 36)),
            ("aws_key_id", fill("AKIA", "QZ7WXK2M", 16)),
            ("stripe_key", fill("sk_live_", letters, 24)),
            ("jwt", format!("{}.{}.{}", fill("eyJ", letters, 20), fill("eyJ", letters, 20), fill("", letters, 20))),
        ] {
            let text = format!("see {secret}, thanks");
            let hits = find(&text);
            assert_eq!(hits.first().map(|hit| (hit.kind, &text[hit.start..hit.end])), Some((kind, secret.as_str())));
        }
    }

    #[test]
    fn only_the_secret_part_of_a_frame_is_the_hit() {
        let text = format!("postgres://app:{}@db/x", "longharbour71");
        let hits = find(&text);
        assert_eq!(hits.iter().map(|hit| &text[hit.start..hit.end]).collect::<Vec<_>>(), ["longharbour71"]);
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

    #[test]
    fn known_values_are_masked_and_text_is_left_alone() {
        assert_eq!(mask("nothing here", &["hunter2hunter2"]), "nothing here");
        assert_eq!(mask("pw hunter2hunter2!", &["hunter2hunter2"]), "pw [REDACTED:known]!");
        assert_eq!(mask("a b", &["a"]), "a b", "too short to be told from a word");
    }

    #[test]
    fn overlapping_hits_leave_no_tail() {
        let key = format!("{}{}", "sk-ant-api03-", "Zq8".repeat(20));
        let known = format!("{}tail", &key[20..]);
        assert_eq!(mask(&format!("x {key}tail y"), &[&known]), "x [REDACTED:anthropic_key] y");
    }

    proptest! {
        /// Masked text holds no secret any more, and masking it again changes nothing.
        #[test]
        fn masking_is_final(before in ".{0,30}", after in ".{0,30}", tail in "[A-Za-z0-9]{40,60}", known in "[a-z0-9]{10,20}") {
            let text = format!("{before} sk-ant-{tail} {after}{known}");
            let masked = mask(&text, &[&known]).into_owned();
            prop_assert!(!masked.contains(&tail) && !masked.contains(&known));
            prop_assert_eq!(mask(&masked, &[&known]).into_owned(), masked);
        }

        #[test]
        fn any_text_can_be_masked(text in ".{0,300}", known in ".{0,20}") {
            mask(&text, &[&known]);
        }
    }
}
