//! Paths as text: normalised without touching a disk.

/// `path` seen from `base`, with `.` and `..` resolved. `None` when it is empty, holds a NUL, or uses a home directory
/// that only a shell could expand.
pub fn absolute(path: &str, base: &str) -> Option<String> {
    if path.is_empty() || path.contains('\0') || path.starts_with('~') {
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
            ("./a//b/../c", Some("/w/a/c")),
            ("../../../etc/passwd", Some("/etc/passwd")),
            ("/w/../w2", Some("/w2")),
            ("/", Some("/")),
            ("~/.ssh/id", None),
            ("", None),
            ("a\0b", None),
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
