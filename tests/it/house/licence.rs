//! Licences of the crates we build with: an SPDX expression against a list of names.

/// What may be linked into a binary that we give away under Apache-2.0. `OpenSSL` is for the old parts of ring.
pub const ALLOWED: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MPL-2.0",
    "OpenSSL",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Whether some choice within the expression is on the list. `A WITH exception` counts as `A`: exceptions only permit.
pub fn allowed(expression: &str) -> bool {
    // Older manifests write a slash for OR.
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    any(&mut rest).is_some_and(|fine| fine && rest.is_empty())
}

fn any(rest: &mut &[&str]) -> Option<bool> {
    let mut fine = all(rest)?;
    while take(rest, "OR") {
        fine |= all(rest)?;
    }
    Some(fine)
}

fn all(rest: &mut &[&str]) -> Option<bool> {
    let mut fine = one(rest)?;
    while take(rest, "AND") {
        fine &= one(rest)?;
    }
    Some(fine)
}

fn one(rest: &mut &[&str]) -> Option<bool> {
    if take(rest, "(") {
        let fine = any(rest)?;
        return take(rest, ")").then_some(fine);
    }
    let (name, after) = rest.split_first()?;
    *rest = after;
    if take(rest, "WITH") {
        *rest = rest.split_first()?.1;
    }
    Some(ALLOWED.contains(name))
}

fn take(rest: &mut &[&str], word: &str) -> bool {
    match rest.split_first() {
        Some((first, after)) if *first == word => {
            *rest = after;
            true
        }
        _ => false,
    }
}

#[test]
fn expressions_are_read() {
    for (expression, expected) in [
        ("MIT", true),
        ("MIT/Apache-2.0", true),
        ("GPL-3.0-only", false),
        ("GPL-3.0-only OR MIT", true),
        ("GPL-3.0-only AND MIT", false),
        ("(MIT OR GPL-3.0-only) AND Unicode-3.0", true),
        ("Apache-2.0 WITH LLVM-exception OR GPL-2.0-only", true),
        ("Apache-2.0 AND (ISC", false),
        ("", false),
    ] {
        assert_eq!(allowed(expression), expected, "{expression}");
    }
}
