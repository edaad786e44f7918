//! What stands in the place of a secret: `SECRET_REF(name)` for one of the vault, `[REDACTED:kind:1a2b3c4d]` for any other.
//!
//! The same secret has the same placeholder for ever, so that a provider's prompt cache stays warm; different secrets have
//! different ones; none can be turned back. A placeholder is never taken for a secret, and one of the second kind is
//! nothing that a tool could use: a call that would write it somewhere is refused by name.

use ring::hmac;

const REFERENCE: &str = "SECRET_REF(";
const REDACTED: &str = "[REDACTED:";
/// Names in references and kinds in placeholders.
pub const NAME_BYTES_MAX: usize = 64;
const TAG_DIGITS: usize = 8;

pub fn reference(name: &str) -> String {
    format!("{REFERENCE}{name})")
}

pub fn redacted(kind: &str, key: &hmac::Key, value: &[u8]) -> String {
    let tag = hmac::sign(key, value);
    let digits: String = tag.as_ref().iter().take(TAG_DIGITS / 2).map(|byte| format!("{byte:02x}")).collect();
    // Whatever a rule is called, the placeholder must be recognised as one.
    let kind: String = kind.chars().map(|letter| if is_kind(letter) { letter } else { '-' }).take(NAME_BYTES_MAX).collect();
    format!("{REDACTED}{kind}:{digits}]")
}

/// The first `[REDACTED:…]` in `text`: what no call may write into a file, a command or a request.
pub fn contains_placeholder(text: &str) -> Option<&str> {
    spans(text).find(|span| !span.reference).map(|span| &text[span.start..span.end])
}

/// What a call may be refused for naming: letters, digits, `_`, `.`, `-`.
pub fn is_name(name: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
        && name.as_bytes()[0].is_ascii_alphanumeric()
}

pub(crate) struct Span {
    pub start: usize,
    pub end: usize,
    /// `SECRET_REF(…)`
    pub reference: bool,
}

impl Span {
    pub fn name<'a>(&self, text: &'a str) -> Option<&'a str> {
        self.reference.then(|| &text[self.start + REFERENCE.len()..self.end - 1])
    }
}

/// Whether there is a need to look.
pub(crate) fn may_stand_in(text: &str) -> bool {
    [REFERENCE, REDACTED].iter().any(|mark| memchr::memmem::find(text.as_bytes(), mark.as_bytes()).is_some())
}

/// The placeholders in `text`, in order.
pub(crate) fn spans(text: &str) -> impl Iterator<Item = Span> {
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            let found = memchr::memchr2(b'S', b'[', &text.as_bytes()[at..])? + at;
            at = found + 1;
            let rest = &text[found..];
            if let Some(tail) = rest.strip_prefix(REFERENCE)
                && let Some(len) = tail.bytes().take(NAME_BYTES_MAX + 1).position(|byte| byte == b')')
                && is_name(&tail[..len])
            {
                at = found + REFERENCE.len() + len + 1;
                return Some(Span { start: found, end: at, reference: true });
            }
            if let Some(tail) = rest.strip_prefix(REDACTED)
                && let Some(len) = tail.bytes().take(NAME_BYTES_MAX + TAG_DIGITS + 2).position(|byte| byte == b']')
                && is_redacted(&tail[..len])
            {
                at = found + REDACTED.len() + len + 1;
                return Some(Span { start: found, end: at, reference: false });
            }
        }
    })
}

/// `kind`, or `kind:12345678`. The log masks without a key and so without a tag.
fn is_redacted(inside: &str) -> bool {
    let (kind, tag) = inside.split_once(':').unwrap_or((inside, "00000000"));
    (1..=NAME_BYTES_MAX).contains(&kind.len())
        && kind.chars().all(is_kind)
        && tag.len() == TAG_DIGITS
        && tag.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_kind(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-' | '.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_stable_typed_and_recognised() {
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"tenant");
        let other = hmac::Key::new(hmac::HMAC_SHA256, b"another");
        let placeholder = redacted("github token", &key, b"value");
        assert_eq!(placeholder, redacted("github token", &key, b"value"));
        assert_ne!(placeholder, redacted("github token", &key, b"value2"));
        assert_ne!(placeholder, redacted("github token", &other, b"value"));
        assert_eq!(contains_placeholder(&format!("a {placeholder} b")), Some(placeholder.as_str()));
    }

    #[test]
    fn only_well_formed_placeholders_are_placeholders() {
        for (text, expected) in [
            ("[REDACTED:known]", true),
            ("[REDACTED:x:0123abcd]", true),
            ("[REDACTED:x:0123abcg]", false),
            ("[REDACTED:]", false),
            ("[REDACTED: a]", false),
            ("SECRET_REF(x)", false),
        ] {
            assert_eq!(contains_placeholder(text).is_some(), expected, "{text}");
        }
        let names: Vec<_> = spans("SECRET_REF(a.b) SECRET_REF() SECRET_REF( c ) SECRET_REF(d").map(|span| span.start).collect();
        assert_eq!(names, [0]);
    }
}
