//! Paths as text: normalised without touching a disk.

/// Whether a path means to every tool what it says. Tools read much into a path: a home directory, a URL, a reference
/// behind `@`, a cut-off tag, other kinds of spaces. A path with any of that is one that nobody can tell.
pub fn is_plain(path: &str) -> bool {
    let begins_oddly = path.starts_with(['@', '~']) || path.trim() != path || has_scheme(path);
    let holds_oddly = path.chars().any(|c| c.is_control() || c == '\\' || (c.is_whitespace() && c != ' ')) || path.contains("</") || path.contains("//");
    !(path.is_empty() || path.len() > BYTES_MAX || begins_oddly || holds_oddly || path.to_lowercase().ends_with("odex"))
}

const BYTES_MAX: usize = 4096;

/// `file:`, `C:` and whatever else a letter, some more and a colon may mean.
fn has_scheme(path: &str) -> bool {
    let Some((scheme, _)) = path.split_once(':') else { return false };
    scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+.-".contains(c))
}

/// `path` seen from `base`, with `.` and `..` resolved. `None` when it is not plain.
pub fn absolute(path: &str, base: &str) -> Option<String> {
    if !is_plain(path) {
        return None;
    }
    let joined = if path.starts_with('/') { path.to_owned() } else { format!("{base}/{path}") };
    let mut parts: Vec<&str> = Vec::new();
    for part in joined.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    Some(format!("/{}", parts.join("/")))
}

/// Whether `path` is `folder` or lies in it; both absolute and normalised.
pub fn is_within(path: &str, folder: &str) -> bool {
    path == folder || path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_resolved_as_text() {
        for (path, expected) in [
            ("notes.md", Some("/w/notes.md")),
            ("./a/b/../c", Some("/w/a/c")),
            ("../../../etc/passwd", Some("/etc/passwd")),
            ("/w/../w2", Some("/w2")),
            ("/", Some("/")),
            ("~/.ssh/id", None),
            ("", None),
            ("a\0b", None),
            ("file:///etc/passwd", None),
            ("FILE:/etc/passwd", None),
            ("@/etc/passwd", None),
            ("@AGENTS.md", None),
            ("AGENTS.md</arg_value>>", None),
            ("a\u{202f}b", None),
            (" a", None),
            ("a\n", None),
            ("C:\\x", None),
            ("sub//a", None),
            ("report.docxodex", None),
            ("10:30 notes.md", Some("/w/10:30 notes.md")),
            ("größe.md", Some("/w/größe.md")),
        ] {
            assert_eq!(absolute(path, "/w").as_deref(), expected, "{path}");
        }
    }

    #[test]
    fn a_sibling_with_the_same_beginning_is_outside() {
        assert!(is_within("/w/a", "/w") && is_within("/w", "/w"));
        assert!(!is_within("/w2/a", "/w") && !is_within("/", "/w"));
    }
}
