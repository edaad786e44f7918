//! The secrets net: finds what looks like a secret in text, and masks it.
//!
//! Pure; knows nothing of ours. It stands behind the log of both services and behind the house law that no secret lies
//! in the tree. What it cannot do: recognise a secret that has no shape of its own (a human password in prose) unless a
//! caller names it as known.

mod pattern;

pub use pattern::{Hit, find};

use std::borrow::Cow;

/// The text with everything secret-shaped and every `known` value replaced by `[REDACTED:kind]`.
pub fn mask<'a>(text: &'a str, known: &[&str]) -> Cow<'a, str> {
    let mut hits: Vec<Hit> = find(text);
    for value in known.iter().filter(|value| value.len() >= KNOWN_MIN_BYTES) {
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

/// Shorter known values would mask ordinary words.
const KNOWN_MIN_BYTES: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
