//! Whether a shell line may be given to the parser at all: short enough, and nested no deeper than a person writes.
//!
//! One pass over the bytes, quote-aware and without recursion, so that the cost is known before anything clever starts.
//! It counts what opens and what closes and gives up when more than [`DEPTH_MAX`] are open at once. It need not be
//! exact: where it and the parser disagree, the parser's own word ("not a clean line") decides against the line.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    TooLong,
    TooDeep,
    /// A byte that no person writes into a command and that terminals and programs read differently.
    Control,
}

pub const LINE_BYTES_MAX: usize = 64 * 1024;
pub const DEPTH_MAX: usize = 8;
/// What costs the parser more than its letters: brackets in one word, over which it goes again and again, substitutions,
/// and commands. These are counted without regard to quotes, so that no disagreement on quoting gets around them.
const BRACKETS_IN_A_WORD_MAX: usize = 64;
const SUBSTITUTIONS_MAX: usize = 512;
const SEPARATORS_MAX: usize = 4096;
/// Pipes and lists: the parser's tree is as deep as they are long.
const LINKS_MAX: usize = 1024;
const WRAPPERS_MAX: usize = 64;
const WORDS_MAX: usize = 12_000;

/// What is open at a place of the line.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Open {
    Double,
    Backtick,
    /// `(`, `$(`, `<(`: closes with `)`.
    Round,
    /// `${`: closes with `}`.
    Curly,
}

pub fn check(line: &str) -> Result<(), Fault> {
    if line.len() > LINE_BYTES_MAX {
        return Err(Fault::TooLong);
    }
    let bytes = line.as_bytes();
    let mut open = [Open::Round; DEPTH_MAX];
    let mut depth = 0;
    // Words that open a block need no stack: they are only counted.
    let mut blocks = 0_usize;
    let mut wrappers = 0_usize;
    // Texts that follow at the next line's end: no shell reads brackets in them as the line's own.
    let mut heredocs: Vec<Vec<u8>> = Vec::new();
    let mut at = 0;
    let mut word_start = true;
    count(bytes)?;
    while at < bytes.len() {
        let byte = bytes[at];
        let inside = (depth > 0).then(|| open[depth - 1]);
        let in_double = inside == Some(Open::Double);
        if byte == 0 || (byte < 0x20 && !matches!(byte, b'\n' | b'\t' | b'\r' | 0x1b | 0x07 | 0x08)) {
            return Err(Fault::Control);
        }
        let mut push = None;
        match byte {
            b'\\' => at += 1,
            b'\'' if !in_double => {
                let ansi = at > 0 && bytes[at - 1] == b'$';
                at += 1;
                while at < bytes.len() && bytes[at] != b'\'' {
                    at += if ansi && bytes[at] == b'\\' { 2 } else { 1 };
                }
            }
            b'"' if in_double => depth -= 1,
            b'"' => push = Some(Open::Double),
            b'`' if inside == Some(Open::Backtick) => depth -= 1,
            // Inside of double quotes that are inside of backticks, the backtick closes both.
            b'`' if open[..depth].contains(&Open::Backtick) => {
                while depth > 0 && open[depth - 1] != Open::Backtick {
                    depth -= 1;
                }
                depth = depth.saturating_sub(1);
            }
            b'`' => push = Some(Open::Backtick),
            b'(' if !in_double || (at > 0 && bytes[at - 1] == b'$') => push = Some(Open::Round),
            b')' if inside == Some(Open::Round) => depth -= 1,
            b'{' if at > 0 && bytes[at - 1] == b'$' => push = Some(Open::Curly),
            b'}' if inside == Some(Open::Curly) => depth -= 1,
            b'<' if !in_double && bytes[at..].starts_with(b"<<") && !bytes[at..].starts_with(b"<<<") => {
                if let Some((delimiter, after)) = delimiter(bytes, at + 2) {
                    heredocs.push(delimiter);
                    at = after - 1;
                } else {
                    at += 1;
                }
            }
            b'\n' if !heredocs.is_empty() => {
                for delimiter in heredocs.drain(..) {
                    at = body_end(bytes, at, &delimiter);
                }
                at -= 1;
            }
            b'#' if word_start && !in_double && inside != Some(Open::Curly) => {
                while at + 1 < bytes.len() && bytes[at + 1] != b'\n' {
                    at += 1;
                }
            }
            _ if word_start && !in_double => {
                let word = word(&bytes[at..]);
                match word {
                    // They wrap one command each, and never close.
                    b"time" | b"!" | b"coproc" => {
                        wrappers += 1;
                        if wrappers > WRAPPERS_MAX {
                            return Err(Fault::TooDeep);
                        }
                    }
                    b"if" | b"case" | b"do" | b"{" | b"[[" => blocks += 1,
                    b"fi" | b"esac" | b"done" | b"}" | b"]]" => blocks = blocks.saturating_sub(1),
                    _ => {}
                }
                if blocks > DEPTH_MAX {
                    return Err(Fault::TooDeep);
                }
            }
            _ => {}
        }
        if let Some(opened) = push {
            if depth == DEPTH_MAX {
                return Err(Fault::TooDeep);
            }
            open[depth] = opened;
            depth += 1;
        }
        word_start = matches!(byte, b' ' | b'\t' | b'\n' | b';' | b'&' | b'|' | b'(' | b'`') || push.is_some_and(|open| open != Open::Curly);
        at += 1;
    }
    Ok(())
}

fn count(bytes: &[u8]) -> Result<(), Fault> {
    let (mut in_word, mut substitutions, mut separators, mut links, mut words) = (0_usize, 0_usize, 0_usize, 0_usize, 0_usize);
    let mut before = 0;
    for &byte in bytes {
        match byte {
            b' ' | b'\t' | b'\n' => {
                in_word = 0;
                words += usize::from(!matches!(before, b' ' | b'\t' | b'\n'));
            }
            b'(' | b'{' => {
                in_word += 1;
                substitutions += usize::from(byte == b'(' && before == b'$');
            }
            b'`' => substitutions += 1,
            _ => {}
        }
        separators += usize::from(matches!(byte, b';' | b'|' | b'&' | b'\n' | b'<' | b'>'));
        links += usize::from(matches!(byte, b'|' | b'&'));
        if links > LINKS_MAX || in_word > BRACKETS_IN_A_WORD_MAX || substitutions > SUBSTITUTIONS_MAX || separators > SEPARATORS_MAX || words > WORDS_MAX {
            return Err(Fault::TooLong);
        }
        before = byte;
    }
    Ok(())
}

/// The word behind `<<`, without its quotes, and where it ends.
fn delimiter(bytes: &[u8], from: usize) -> Option<(Vec<u8>, usize)> {
    let mut at = from + usize::from(bytes.get(from) == Some(&b'-'));
    while matches!(bytes.get(at), Some(b' ' | b'\t')) {
        at += 1;
    }
    let mut word = Vec::new();
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'\'' | b'"' | b'\\' => {}
            _ if byte.is_ascii_whitespace() || matches!(byte, b';' | b'&' | b'|' | b'<' | b'>' | b'(' | b')') => break,
            _ => word.push(byte),
        }
        at += 1;
    }
    (!word.is_empty()).then_some((word, at))
}

/// The end of the text that begins behind `newline` and ends with the delimiter.
fn body_end(bytes: &[u8], newline: usize, delimiter: &[u8]) -> usize {
    let mut at = newline + 1;
    while at < bytes.len() {
        let end = bytes[at..].iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |offset| at + offset);
        let line = &bytes[at..end];
        let tabs = line.iter().take_while(|byte| **byte == b'\t').count();
        if &line[tabs..] == delimiter {
            return end;
        }
        at = end + 1;
    }
    bytes.len()
}

fn word(bytes: &[u8]) -> &[u8] {
    const LONGEST: usize = 6;
    let end = bytes.iter().take(LONGEST).position(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b';' | b'&' | b'|' | b'(' | b')'));
    &bytes[..end.unwrap_or(bytes.len().min(LONGEST))]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write_passes() {
        for line in [
            "ls -la",
            "echo \"a $(b \"c $(d)\")\" '(((((((((((((((' # ((((((((((((((((((",
            "for i in 1 2; do if [ $i = 1 ]; then case $i in 1) echo a ;; esac; fi; done",
            "cat <<'X'\n}}}}}}\nX",
            "echo `a \"b\"` `c`",
            "echo $'a\\'((((((((((((((' ok",
            "a=${b:-${c:-d}}",
            "cat <<'E' > x.py\ndon't((((((((((((\nE\necho ok",
            "cat <<-E && cat <<F\n((((((((((\n\tE\n((((((((((\nF\n",
            "cat <<<'x' && echo $((1<<2))",
        ] {
            assert_eq!(check(line), Ok(()), "{line}");
        }
    }

    #[test]
    fn what_would_cost_too_much_does_not() {
        for (piece, fault) in [
            ("$((", Fault::TooDeep),
            ("((", Fault::TooDeep),
            ("${x:-", Fault::TooDeep),
            ("{ ", Fault::TooDeep),
            ("if ", Fault::TooDeep),
            ("case x in a) ", Fault::TooDeep),
            ("\"$(", Fault::TooDeep),
            ("<(cat ", Fault::TooDeep),
            ("time time time time time time ", Fault::TooDeep),
            ("! ! ! ! ! ! ! ! ", Fault::TooDeep),
            ("coproc coproc coproc coproc coproc coproc ", Fault::TooDeep),
        ] {
            assert_eq!(check(&piece.repeat(12)), Err(fault), "{piece}");
        }
        assert_eq!(check(&"a".repeat(LINE_BYTES_MAX + 1)), Err(Fault::TooLong));
        assert_eq!(check(&"(a)".repeat(BRACKETS_IN_A_WORD_MAX + 1)), Err(Fault::TooLong));
        assert_eq!(check(&"$(a) ".repeat(SUBSTITUTIONS_MAX + 1)), Err(Fault::TooLong));
        assert_eq!(check(&"a;".repeat(SEPARATORS_MAX + 1)), Err(Fault::TooLong));
        assert_eq!(check("ls\0"), Err(Fault::Control));
    }
}
