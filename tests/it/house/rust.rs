//! Reads Rust well enough for laws: code without comments, string literals beside it, test modules taken out on demand,
//! and the top-level modules that a file names. Not a parser: macros that build paths out of pieces are not seen.

pub struct Source {
    /// Same bytes at the same places, but comments and the insides of literals are spaces.
    pub code: String,
    /// Where the inside of each string literal begins, and the inside as written.
    pub strings: Vec<(usize, String)>,
}

impl Source {
    pub fn read(text: &str) -> Source {
        let bytes = text.as_bytes();
        let mut code = bytes.to_vec();
        let mut strings = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            let end = if rest.starts_with(b"//") {
                at + rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len())
            } else if rest.starts_with(b"/*") {
                at + block_comment(rest)
            } else if let Some((inside, after)) = string(bytes, at) {
                strings.push((inside.start, text[inside.clone()].to_owned()));
                blank(&mut code[inside]);
                at = after;
                continue;
            } else if let Some(after) = character(rest) {
                at + after
            } else {
                at += 1;
                continue;
            };
            blank(&mut code[at..end]);
            at = end;
        }
        Source { code: String::from_utf8(code).expect("only whole literals and comments were overwritten, with ASCII"), strings }
    }

    /// Without the items under `#[cfg(test)]`.
    pub fn without_tests(mut self) -> Source {
        const MARK: &str = "#[cfg(test)]";
        while let Some(start) = self.code.find(MARK) {
            let end = item_end(&self.code, start + MARK.len());
            let mut bytes = std::mem::take(&mut self.code).into_bytes();
            blank(&mut bytes[start..end]);
            self.code = String::from_utf8(bytes).expect("whole items were overwritten, with ASCII");
            self.strings.retain(|(at, _)| !(start..end).contains(at));
        }
        self
    }

    pub fn line(&self, at: usize) -> usize {
        self.code.as_bytes()[..at.min(self.code.len())].iter().filter(|byte| **byte == b'\n').count() + 1
    }

    /// The string literal whose inside begins at `at`.
    pub fn string_at(&self, at: usize) -> Option<&str> {
        self.strings.iter().find(|(start, _)| *start == at).map(|(_, text)| text.as_str())
    }

    /// Places of `word` where it stands alone.
    pub fn words<'a>(&'a self, word: &'a str) -> impl Iterator<Item = usize> + 'a {
        let alone = |byte: Option<&u8>| byte.is_none_or(|byte| !is_word(*byte));
        let bytes = self.code.as_bytes();
        self.code
            .match_indices(word)
            .map(|(at, _)| at)
            .filter(move |at| alone(at.checked_sub(1).and_then(|before| bytes.get(before))) && alone(bytes.get(at + word.len())))
    }

    /// Top-level modules of its own crate that this file names, with where. `module` is the file's own path in the
    /// crate: `src/fleet/view.rs` is `["fleet", "view"]`.
    pub fn top_level(&self, module: &[&str]) -> Vec<(usize, String)> {
        let mut found = Vec::new();
        for at in self.words("crate") {
            found.extend(heads(&self.code[at + "crate".len()..]).into_iter().map(|head| (at, head)));
        }
        for at in self.words("super").filter(|at| !self.code[..*at].trim_end().ends_with("::")) {
            let mut rest = &self.code[at + "super".len()..];
            let mut climbed = 1;
            while let Some(next) = rest.trim_start().strip_prefix("::").map(str::trim_start).and_then(|rest| rest.strip_prefix("super")) {
                (rest, climbed) = (next, climbed + 1);
            }
            if climbed >= module.len() {
                found.extend(heads(rest).into_iter().map(|head| (at, head)));
            }
        }
        found
    }
}

/// The first names after `::`: one, or those of a group.
fn heads(rest: &str) -> Vec<String> {
    let Some(rest) = rest.trim_start().strip_prefix("::").map(str::trim_start) else { return Vec::new() };
    let Some(group) = rest.strip_prefix('{') else { return vec![name(rest)] };
    let mut depth = 0;
    let mut heads = vec![name(group)];
    for (at, letter) in group.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => heads.push(name(&group[at + 1..])),
            _ => {}
        }
    }
    heads
}

fn name(text: &str) -> String {
    text.trim_start().chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect()
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn blank(bytes: &mut [u8]) {
    bytes.iter_mut().filter(|byte| **byte != b'\n').for_each(|byte| *byte = b' ');
}

fn block_comment(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        match &rest[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// A string literal that begins at `at`, with its prefix: where its inside lies, and what comes after it.
fn string(bytes: &[u8], at: usize) -> Option<(std::ops::Range<usize>, usize)> {
    if at > 0 && is_word(bytes[at - 1]) {
        return None;
    }
    let prefix = [&b"br"[..], b"cr", b"b", b"c", b"r", b""].into_iter().find(|prefix| bytes[at..].starts_with(prefix))?;
    let mut open = at + prefix.len();
    let hashes = if prefix.ends_with(b"r") { bytes[open..].iter().take_while(|byte| **byte == b'#').count() } else { 0 };
    open += hashes;
    if bytes.get(open) != Some(&b'"') {
        return None;
    }
    let inside = open + 1;
    let mut end = inside;
    while end < bytes.len() {
        match bytes[end] {
            b'\\' if !prefix.ends_with(b"r") => end += 2,
            b'"' if bytes[end + 1..].iter().take(hashes).filter(|byte| **byte == b'#').count() == hashes => return Some((inside..end, end + 1 + hashes)),
            _ => end += 1,
        }
    }
    Some((inside..bytes.len(), bytes.len()))
}

/// A character literal; a lifetime is none.
fn character(rest: &[u8]) -> Option<usize> {
    match rest {
        [b'\'', b'\\', _, more @ ..] => Some(3 + more.iter().position(|byte| *byte == b'\'')? + 1),
        [b'\'', more @ ..] => {
            let letter = std::str::from_utf8(&more[..more.len().min(4)])
                .map_or_else(|error| std::str::from_utf8(&more[..error.valid_up_to()]), Ok)
                .ok()?
                .chars()
                .next()?;
            (more.get(letter.len_utf8()) == Some(&b'\'')).then_some(letter.len_utf8() + 2)
        }
        _ => None,
    }
}

/// Where the item that begins at `from` ends: after its closing brace, or its semicolon.
fn item_end(code: &str, from: usize) -> usize {
    let mut depth = 0;
    for (at, letter) in code[from..].char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 1 => return from + at + 1,
            '}' => depth -= 1,
            ';' if depth == 0 => return from + at + 1,
            _ => {}
        }
    }
    code.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_told_from_code() {
        let source = Source::read("let a = \"x // \\\" y\"; // crate::b\n/* c /* d */ \" */ let e = r#\"f\"g\"#; let h: &'i str = 'j'; '\"' '\\'' k(b\"l\")");
        assert_eq!(source.strings.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>(), ["x // \\\" y", "f\"g", "l"]);
        for gone in ["crate", "/*", "d", "j'"] {
            assert!(!source.code.replace("let", "").contains(gone), "{gone}: {}", source.code);
        }
        assert!(source.code.contains("&'i str") && source.code.contains("k(b\""), "{}", source.code);
    }

    #[test]
    fn test_modules_are_taken_out() {
        let source = Source::read("fn a() { \"b\" }\n#[cfg(test)]\nmod tests { fn c() { \"d}\" } }\nfn e() { \"f\" }").without_tests();
        assert_eq!(source.strings.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>(), ["b", "f"]);
        assert!(source.code.contains("fn e()") && !source.code.contains("tests"));
    }

    #[test]
    fn paths_to_the_top_are_seen() {
        let check = |module: &[&str], text: &str, expected: &[&str]| {
            let found: Vec<String> = Source::read(text).top_level(module).into_iter().map(|(_, head)| head).collect();
            assert_eq!(found, expected, "{text}");
        };
        check(&["fleet"], "use crate::billing::Order; crate :: tez::x();", &["billing", "tez"]);
        check(&["fleet"], "use crate::{billing::{a, b}, tez, self};", &["billing", "tez", "self"]);
        check(&["fleet"], "use super::billing; use super::{tez, edge::x};", &["billing", "tez", "edge"]);
        check(&["fleet", "view"], "use super::order; use super::super::billing;", &["billing"]);
        check(&["fleet"], "// crate::billing\nlet a = \"crate::tez\"; my_crate::edge;", &[]);
    }
}
