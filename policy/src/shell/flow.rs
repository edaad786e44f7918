//! What goes through a pipe or comes out of a substitution, as far as the line itself tells.

use super::words::{TAME, UNKNOWN};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Nothing, or the terminal.
    Nothing,
    /// Exactly this.
    Text(String),
    /// A number, a date, a name: nothing that could be code.
    Tame,
    /// Names of some files of the assistant's own, a line each: all like this one, whose marks stand for what differs.
    Names(String),
    /// Something from another machine.
    Net,
    File {
        path: String,
        /// It may hold a secret.
        secret: bool,
    },
    Opaque,
}

/// A text that is longer is not followed.
const TEXT_BYTES_MAX: usize = 64 * 1024;

impl Flow {
    pub fn of_text(text: String) -> Flow {
        if text.len() > TEXT_BYTES_MAX { Flow::Opaque } else { Flow::Text(text) }
    }

    /// One after the other into the same pipe.
    pub fn then(self, next: Flow) -> Flow {
        match (self, next) {
            (Flow::Nothing, next) => next,
            (before, Flow::Nothing) => before,
            (Flow::Text(mut before), Flow::Text(next)) => {
                before.push_str(&next);
                Flow::of_text(before)
            }
            (Flow::Net, _) | (_, Flow::Net) => Flow::Net,
            (Flow::File { path, secret: true }, _) | (_, Flow::File { path, secret: true }) => Flow::File { path, secret: true },
            (Flow::Tame, Flow::Tame) => Flow::Tame,
            _ => Flow::Opaque,
        }
    }

    /// One or the other.
    pub fn or(self, other: Flow) -> Flow {
        if self == other {
            self
        } else if self == Flow::Nothing || matches!(other, Flow::Nothing) {
            self.then(other)
        } else {
            Flow::Opaque.then(self).then(other).opaque_text()
        }
    }

    fn opaque_text(self) -> Flow {
        if matches!(self, Flow::Text(_)) { Flow::Opaque } else { self }
    }

    /// Through a pipe, a command that prints nothing known still prints something.
    pub fn piped(self) -> Flow {
        self
    }

    pub fn is_secret(&self) -> bool {
        matches!(self, Flow::File { secret: true, .. })
    }

    /// After a filter that keeps the origin but changes the text.
    pub fn filtered(self) -> Flow {
        match self {
            Flow::Text(_) | Flow::Names(_) | Flow::Tame | Flow::Nothing => Flow::Opaque,
            other => other,
        }
    }

    /// The words that a command like `xargs` would append.
    pub fn words(&self) -> Option<Vec<String>> {
        match self {
            Flow::Text(text) => Some(text.split_whitespace().map(str::to_owned).collect()),
            _ => None,
        }
    }
}

/// What `echo` prints.
pub fn echo(words: &[&str]) -> String {
    let mut escapes = false;
    let mut newline = true;
    let mut rest = words;
    while let Some((first, after)) = rest.split_first() {
        match first.strip_prefix('-') {
            Some(flags) if !flags.is_empty() && flags.chars().all(|c| matches!(c, 'n' | 'e' | 'E')) => {
                newline &= !flags.contains('n');
                escapes |= flags.contains('e');
                rest = after;
            }
            _ => break,
        }
    }
    let text = rest.join(" ");
    // dash's echo reads escapes without being asked, bash's does not.
    let mut out = if escapes { unescape(&text) } else { text };
    if newline {
        out.push('\n');
    }
    out
}

/// What `printf` prints, for the conversions that carry text.
pub fn printf(words: &[&str]) -> Option<String> {
    let (format, mut arguments) = words.split_first()?;
    if format.starts_with('-') {
        return None;
    }
    let mut out = String::new();
    loop {
        let before = arguments.len();
        let mut letters = format.char_indices();
        while let Some((at, letter)) = letters.next() {
            if letter == '\\' {
                // Found as a whole below.
                let (text, used) = escape(&format[at..]);
                out.push_str(&text);
                for _ in 1..format[at..at + used].chars().count() {
                    letters.next();
                }
                continue;
            }
            if letter != '%' {
                out.push(letter);
                continue;
            }
            let mut conversion = letters.next()?.1;
            while conversion.is_ascii_digit() || matches!(conversion, '-' | '.' | '+' | ' ' | '#') {
                conversion = letters.next()?.1;
            }
            if conversion == '%' {
                out.push('%');
                continue;
            }
            let argument = arguments.split_first().map_or("", |(first, rest)| {
                arguments = rest;
                first
            });
            match conversion {
                's' | 'd' | 'i' | 'u' | 'q' => out.push_str(argument),
                'b' => out.push_str(&unescape(argument)),
                'c' => out.extend(argument.chars().next()),
                _ => return None,
            }
        }
        if arguments.is_empty() || arguments.len() == before {
            return Some(out);
        }
        if out.len() > TEXT_BYTES_MAX {
            return None;
        }
    }
}

pub fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        if text[at..].starts_with('\\') {
            let (piece, used) = escape(&text[at..]);
            out.push_str(&piece);
            at += used;
        } else {
            let letter = text[at..].chars().next().unwrap_or_default();
            out.push(letter);
            at += letter.len_utf8().max(1);
        }
    }
    out
}

/// One escape at the beginning of `text`: what it stands for, and its length.
fn escape(text: &str) -> (String, usize) {
    let bytes = text.as_bytes();
    let digits = |from: usize, most: usize, radix: u32| {
        let end = bytes[from.min(bytes.len())..].iter().take(most).take_while(|byte| (**byte as char).is_digit(radix)).count() + from;
        (
            bytes
                .get(from..end)
                .and_then(|digits| std::str::from_utf8(digits).ok())
                .and_then(|digits| u32::from_str_radix(digits, radix).ok())
                .and_then(char::from_u32),
            end,
        )
    };
    let simple = |letter: char| (letter.to_string(), 2);
    match bytes.get(1) {
        Some(b'n') => simple('\n'),
        Some(b't') => simple('\t'),
        Some(b'r') => simple('\r'),
        Some(b'a' | b'b' | b'f' | b'v' | b'c') => (String::new(), 2),
        Some(b'e' | b'E') => simple('\u{1b}'),
        Some(b'\\') => simple('\\'),
        Some(b'x') => match digits(2, 2, 16) {
            (Some(letter), end) => (letter.to_string(), end),
            _ => ("\\x".to_owned(), 2),
        },
        Some(b'u') => match digits(2, 4, 16) {
            (Some(letter), end) => (letter.to_string(), end),
            _ => ("\\u".to_owned(), 2),
        },
        Some(b'0'..=b'7') => match digits(1, 4, 8) {
            (Some(letter), end) => (letter.to_string(), end),
            _ => ("\\".to_owned(), 1),
        },
        _ => ("\\".to_owned(), 1),
    }
}

/// Text that a base64 decoder would print; `None` when it is no text.
pub fn base64(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len() * 3 / 4);
    let (mut bits, mut count) = (0_u32, 0);
    for byte in text.bytes().filter(|byte| !byte.is_ascii_whitespace()) {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            b'=' => break,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push(u8::try_from(bits >> count & 0xff).unwrap_or_default());
        }
    }
    String::from_utf8(out).ok()
}

/// Text that `xxd -r -p` would print.
pub fn hex(text: &str) -> Option<String> {
    let digits: Vec<u32> = text.chars().filter(|c| !c.is_whitespace()).map(|c| c.to_digit(16)).collect::<Option<_>>()?;
    let bytes = digits.chunks(2).map(|pair| u8::try_from(pair[0] * 16 + pair.get(1).copied().unwrap_or_default()).ok()).collect::<Option<_>>()?;
    String::from_utf8(bytes).ok()
}

/// `tr` with two plain sets.
pub fn translated(text: &str, from: &str, to: &str) -> Option<String> {
    let (from, to) = (letters(from)?, letters(to)?);
    let last = *to.last()?;
    Some(text.chars().map(|letter| from.iter().position(|known| *known == letter).map_or(letter, |at| to.get(at).copied().unwrap_or(last))).collect())
}

fn letters(set: &str) -> Option<Vec<char>> {
    const LETTERS_MAX: usize = 512;
    let all: Vec<char> = set.chars().collect();
    let mut out = Vec::new();
    let mut at = 0;
    while at < all.len() {
        if matches!(all[at], '[' | '\\') {
            return None;
        }
        if at + 2 < all.len() && all[at + 1] == '-' {
            out.extend(all[at]..=all[at + 2]);
            at += 3;
        } else {
            out.push(all[at]);
            at += 1;
        }
        if out.len() > LETTERS_MAX {
            return None;
        }
    }
    (!out.is_empty()).then_some(out)
}

/// Whether nothing in the text is left to the run.
pub fn exact(text: &str) -> bool {
    !text.contains([UNKNOWN, TAME])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_followed() {
        assert_eq!(echo(&["-e", "\\x72m", "x"]), "rm x\n");
        assert_eq!(echo(&["-n", "a"]), "a");
        assert_eq!(printf(&["%s-%s\\n", "a", "b"]).as_deref(), Some("a-b\n"));
        assert_eq!(printf(&["\\162\\155 -rf %s", "/"]).as_deref(), Some("rm -rf /"));
        assert_eq!(printf(&["%s ", "a", "b"]).as_deref(), Some("a b "));
        assert_eq!(base64("cm0gLXJmIC8K").as_deref(), Some("rm -rf /\n"));
        assert_eq!(hex("726d20 2d7266").as_deref(), Some("rm -rf"));
        assert_eq!(translated("ez -es /", "a-z", "n-za-m").as_deref(), Some("rm -rf /"));
    }
}
