//! Disguises: what a secret looks like after somebody escaped, encoded, wrapped or split it, and the way back.
//!
//! Two kinds need two answers. Escapes and insertions change single characters (`\u0041`, `%41`, `&amp;`, a zero-width
//! space): text and secret are both brought to one *skeleton*, in which escapes are undone until nothing is left to undo,
//! case is folded and what quoting adds or drops is dropped. Codes change the whole (base64, hex, gzip): runs of their
//! letters are decoded. Either way each decoded byte knows the span of the source that it came from, so that an edit goes
//! into the source. Ciphers and spelling out are beyond any content match.

use crate::sieve::{RUN_BYTES_MIN, SPACED_BYTES_MIN, Sieve};
use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use std::io::Read;
use zeroize::Zeroizing;

/// A skeleton of more passes is an attack on the reader, not an escape.
const PASSES_MAX: usize = 8;
const SPACED_DIGITS_MIN: usize = 8;
/// A line of wrapped code is at least this long; shorter lines are words below one another.
const WRAP_BYTES_MIN: usize = 20;
const INDENT_BYTES_MAX: usize = 24;

/// Where one decoded byte stands in the source.
type Span = (u32, u32);

/// The way back from decoded bytes to their source: kept, or, as `()`, not. Most of what is decoded holds nothing.
pub(crate) trait Way: Default {
    fn new(start: usize, len: usize) -> Self;
    fn at(&self, at: usize) -> Span;
    fn put(&mut self, span: Span);
}

impl Way for Vec<Span> {
    fn new(start: usize, len: usize) -> Self {
        (start as u32..(start + len) as u32).map(|at| (at, at + 1)).collect()
    }

    fn at(&self, at: usize) -> Span {
        self[at]
    }

    fn put(&mut self, span: Span) {
        self.push(span);
    }
}

impl Way for () {
    fn new(_: usize, _: usize) -> Self {}

    fn at(&self, _: usize) -> Span {
        (0, 0)
    }

    fn put(&mut self, _: Span) {}
}

/// Decoded bytes, each with the span of the source that it came from.
#[derive(Default)]
pub(crate) struct Mapped<W = Vec<Span>> {
    pub bytes: Vec<u8>,
    spans: W,
}

impl Mapped {
    /// The source of `bytes[start..end]`.
    pub fn source(&self, start: usize, end: usize) -> (usize, usize) {
        let start_at = self.spans[start].0;
        // Parts of a fold or a surrogate pair share a span, and a dump's last byte owns the rest of its line.
        let end_at = self.spans[start..end].iter().map(|span| span.1).max().unwrap_or(start_at);
        (start_at as usize, end_at as usize)
    }
}

impl<W: Way> Mapped<W> {
    fn identity(bytes: &[u8], base: usize) -> Self {
        Self { bytes: bytes.to_vec(), spans: W::new(base, bytes.len()) }
    }

    fn with_capacity(bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes), spans: W::default() }
    }

    fn put(&mut self, byte: u8, span: Span) {
        self.bytes.push(byte);
        self.spans.put(span);
    }

    fn put_char(&mut self, letter: char, span: Span) {
        for byte in letter.encode_utf8(&mut [0; 4]).bytes() {
            self.put(byte, span);
        }
    }
}

// Escapes and insertions.

/// What remains of `bytes` (which stand at `base` of the source) when escapes, quoting, case and white space are gone.
pub(crate) fn skeleton<W: Way>(bytes: &[u8], base: usize) -> Mapped<W> {
    fold(settled(Mapped::identity(bytes, base)))
}

/// The skeleton of a secret, wiped when dropped.
pub(crate) fn bones(secret: &[u8]) -> Zeroizing<Vec<u8>> {
    let bends = |byte: &u8| matches!(byte, b'\\' | b'%' | b'&' | 0..=0x1f | 0x7f..);
    if secret.iter().any(bends) {
        return Zeroizing::new(skeleton::<()>(secret, 0).bytes);
    }
    Zeroizing::new(secret.iter().filter(|byte| !vanishes(**byte as char)).map(u8::to_ascii_lowercase).collect())
}

/// The same after quoted-printable was undone, or `None` if `bytes` holds none. It is apart, because `KEY=AB` is no escape.
pub(crate) fn skeleton_of_printable<W: Way>(bytes: &[u8], base: usize) -> Option<Mapped<W>> {
    let mut printed = Mapped::<W>::default();
    let (mut at, mut seen) = (0, false);
    while at < bytes.len() {
        let rest = &bytes[at..];
        let span = |len: usize| ((base + at) as u32, (base + at + len) as u32);
        if let Some(byte) = (rest[0] == b'=').then(|| pair_upper(&rest[1..])).flatten() {
            printed.put(byte, span(3));
            (at, seen) = (at + 3, true);
        } else if rest.starts_with(b"=\n") || rest.starts_with(b"=\r\n") {
            (at, seen) = (at + if rest[1] == b'\n' { 2 } else { 3 }, true);
        } else {
            printed.put(rest[0], span(1));
            at += 1;
        }
    }
    seen.then(|| fold(settled(printed)))
}

/// Undoes escapes until there are none, so that it does not matter how many layers of them there were.
fn settled<W: Way>(mut text: Mapped<W>) -> Mapped<W> {
    if text.bytes.iter().any(|byte| matches!(byte, 0x1b | 0xc2 | 0xcd | 0xd8 | 0xe1 | 0xe2 | 0xef)) {
        text = shown(text);
    }
    for _ in 0..PASSES_MAX {
        match unescaped(&text) {
            Some(next) => text = next,
            None => break,
        }
    }
    text
}

/// Without what a reader does not see; it may stand in the middle of an escape.
fn shown<W: Way>(text: Mapped<W>) -> Mapped<W> {
    let mut shown = Mapped::<W>::default();
    let mut at = 0;
    while at < text.bytes.len() {
        let rest = &text.bytes[at..];
        let (letter, len) = if rest[0] == 0x1b { ('\0', ansi(rest)) } else { first_char(rest) };
        if letter != '\0' && !is_unseen(letter) {
            (at..at + len).for_each(|at| shown.put(text.bytes[at], text.spans.at(at)));
        }
        at += len;
    }
    shown
}

enum Unescaped {
    Nothing,
    Byte(u8),
    Char(char),
}

/// One layer less of every kind of escape; `None` if there is none.
fn unescaped<W: Way>(text: &Mapped<W>) -> Option<Mapped<W>> {
    let bytes = &text.bytes;
    let mut at = bytes.iter().position(|byte| matches!(byte, b'\\' | b'%' | b'&' | 0x1b))?;
    let mut next = Mapped::<W>::with_capacity(bytes.len());
    (0..at).for_each(|at| next.put(bytes[at], text.spans.at(at)));
    let mut changed = false;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let escape = match rest[0] {
            b'\\' => Some(backslash(rest)),
            b'%' => percent(rest),
            b'&' => entity(rest),
            0x1b => Some((ansi(rest), Unescaped::Nothing)),
            _ => None,
        };
        let Some((len, to)) = escape else {
            next.put(rest[0], text.spans.at(at));
            at += 1;
            continue;
        };
        let span = (text.spans.at(at).0, text.spans.at(at + len - 1).1);
        match to {
            Unescaped::Nothing => {}
            Unescaped::Byte(byte) => next.put(byte, span),
            Unescaped::Char(letter) => next.put_char(letter, span),
        }
        at += len;
        changed = true;
    }
    changed.then_some(next)
}

/// A run of backslashes is one: each layer of quoting doubles them.
fn backslash(rest: &[u8]) -> (usize, Unescaped) {
    let run = rest.iter().take_while(|byte| **byte == b'\\').count();
    let tail = &rest[run..];
    let digits = |from: usize, count: usize| number(tail.get(from..from + count)?, 16);
    let braced = |from: usize| {
        let len = tail.get(from..)?.iter().take(9).position(|byte| *byte == b'}')?;
        Some((from + len + 1, number(&tail[from + 1..from + len], 16)?))
    };
    let letter = |code: u32| char::from_u32(code).map_or(Unescaped::Nothing, Unescaped::Char);
    match tail.first() {
        Some(b'u' | b'x') if tail.get(1) == Some(&b'{') => match braced(1) {
            Some((len, code)) => (run + len, letter(code)),
            None => (run, Unescaped::Nothing),
        },
        Some(b'u') => match digits(1, 4) {
            Some(high @ 0xd800..0xdc00) => {
                let more = tail[5..].iter().take_while(|byte| **byte == b'\\').count();
                let low = (more > 0 && tail.get(5 + more) == Some(&b'u')).then(|| digits(6 + more, 4)).flatten();
                match low {
                    Some(low @ 0xdc00..0xe000) => (run + 10 + more, letter(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00))),
                    _ => (run + 5, Unescaped::Nothing),
                }
            }
            Some(code) => (run + 5, letter(code)),
            None => (run, Unescaped::Nothing),
        },
        Some(b'U') => match digits(1, 8) {
            Some(code) => (run + 9, letter(code)),
            None => (run, Unescaped::Nothing),
        },
        Some(b'x') => match digits(1, 2) {
            Some(code) => (run + 3, Unescaped::Byte(code as u8)),
            None => (run, Unescaped::Nothing),
        },
        Some(b'0'..=b'3') if tail.len() >= 3 && tail[1..3].iter().all(|byte| (b'0'..=b'7').contains(byte)) => {
            (run + 3, Unescaped::Byte(number(&tail[..3], 8).unwrap_or(0) as u8))
        }
        Some(b'n') => (run + 1, Unescaped::Byte(b'\n')),
        Some(b'r') => (run + 1, Unescaped::Byte(b'\r')),
        Some(b't') => (run + 1, Unescaped::Byte(b'\t')),
        Some(b'e') => (run + 1, Unescaped::Byte(0x1b)),
        Some(b'b' | b'f' | b'v' | b'a' | b'0') => (run + 1, Unescaped::Nothing),
        _ => (run, Unescaped::Nothing),
    }
}

fn percent(rest: &[u8]) -> Option<(usize, Unescaped)> {
    if let Some(byte) = pair(&rest[1..]) {
        return Some((3, Unescaped::Byte(byte)));
    }
    (rest.get(1) == Some(&b'u')).then_some(())?;
    Some((6, char::from_u32(number(rest.get(2..6)?, 16)?).map_or(Unescaped::Nothing, Unescaped::Char)))
}

fn entity(rest: &[u8]) -> Option<(usize, Unescaped)> {
    let end = rest.iter().take(ENTITY_BYTES_MAX).position(|byte| *byte == b';');
    if rest.get(1) == Some(&b'#') {
        let (from, radix) = if matches!(rest.get(2), Some(b'x' | b'X')) { (3, 16) } else { (2, 10) };
        let len = rest[from..].iter().take(7).take_while(|byte| (**byte as char).is_digit(radix)).count();
        let code = number(rest.get(from..from + len).filter(|digits| !digits.is_empty())?, radix)?;
        let len = from + len + usize::from(rest.get(from + len) == Some(&b';'));
        return Some((len, char::from_u32(code).map_or(Unescaped::Nothing, Unescaped::Char)));
    }
    let name = &rest[1..end?];
    let letter = ENTITIES.iter().find(|(known, _)| known.as_bytes() == name)?.1;
    Some((name.len() + 2, Unescaped::Char(letter)))
}

const ENTITY_BYTES_MAX: usize = 10;
/// The named references of XML, of ASCII in HTML, and of the letters of German.
const ENTITIES: &[(&str, char)] = &[
    ("amp", '&'),
    ("lt", '<'),
    ("gt", '>'),
    ("quot", '"'),
    ("apos", '\''),
    ("AMP", '&'),
    ("LT", '<'),
    ("GT", '>'),
    ("QUOT", '"'),
    ("nbsp", ' '),
    ("Tab", '\t'),
    ("NewLine", '\n'),
    ("excl", '!'),
    ("num", '#'),
    ("dollar", '$'),
    ("percnt", '%'),
    ("lpar", '('),
    ("rpar", ')'),
    ("ast", '*'),
    ("midast", '*'),
    ("plus", '+'),
    ("comma", ','),
    ("period", '.'),
    ("sol", '/'),
    ("colon", ':'),
    ("semi", ';'),
    ("equals", '='),
    ("quest", '?'),
    ("commat", '@'),
    ("lsqb", '['),
    ("lbrack", '['),
    ("bsol", '\\'),
    ("rsqb", ']'),
    ("rbrack", ']'),
    ("Hat", '^'),
    ("lowbar", '_'),
    ("grave", '`'),
    ("lcub", '{'),
    ("lbrace", '{'),
    ("verbar", '|'),
    ("vert", '|'),
    ("rcub", '}'),
    ("rbrace", '}'),
    ("auml", 'ä'),
    ("ouml", 'ö'),
    ("uuml", 'ü'),
    ("Auml", 'Ä'),
    ("Ouml", 'Ö'),
    ("Uuml", 'Ü'),
    ("szlig", 'ß'),
    ("euro", '€'),
    ("sect", '§'),
];

/// The length of a terminal's control sequence. One that does not end as those for colour and the like do is no more than
/// its beginning: what follows may be an escape of another kind.
fn ansi(rest: &[u8]) -> usize {
    match rest.get(1) {
        Some(b'[') => {
            let numbers = rest[2..].iter().take(32).take_while(|byte| matches!(byte, b'0'..=b'?')).count();
            2 + rest.get(2 + numbers).filter(|byte| byte.is_ascii_alphabetic() || matches!(byte, b'@' | b'~')).map_or(0, |_| numbers + 1)
        }
        Some(b']') => 2 + rest[2..].iter().take(256).position(|byte| *byte == 7).map_or(0, |at| at + 1),
        _ => 1,
    }
}

fn fold<W: Way>(text: Mapped<W>) -> Mapped<W> {
    let mut folded = Mapped::<W>::with_capacity(text.bytes.len());
    let mut at = 0;
    while at < text.bytes.len() {
        let byte = text.bytes[at];
        if byte < 0x80 {
            if FOLDED[byte as usize] != 0 {
                folded.put(FOLDED[byte as usize], text.spans.at(at));
            }
            at += 1;
            continue;
        }
        let (letter, len) = first_char(&text.bytes[at..]);
        let span = (text.spans.at(at).0, text.spans.at(at + len - 1).1);
        at += len;
        if vanishes(letter) {
            continue;
        }
        match letter {
            'ß' | 'ẞ' => {
                folded.put(b's', span);
                folded.put(b's', span);
            }
            _ => letter.to_lowercase().for_each(|letter| folded.put_char(letter, span)),
        }
    }
    folded
}

/// The small letter of a byte of ASCII, or 0 if it vanishes.
const FOLDED: [u8; 128] = {
    let mut folded = [0; 128];
    let mut byte = 0;
    while byte < 128 {
        let letter = byte as u8;
        if !matches!(letter, 0..=b' ' | 0x7f | b'\'' | b'"' | b'\\' | b'+' | b'%') {
            folded[byte] = letter.to_ascii_lowercase();
        }
        byte += 1;
    }
    folded
};

/// Bytes that are not UTF-8 are read as Latin-1: `\xfc` is how some languages print `ü`.
fn first_char(bytes: &[u8]) -> (char, usize) {
    if bytes[0] < 0x80 {
        return (bytes[0] as char, 1);
    }
    (2..=4.min(bytes.len()))
        .find_map(|len| std::str::from_utf8(&bytes[..len]).ok()?.chars().next().map(|letter| (letter, len)))
        .unwrap_or((bytes[0] as char, 1))
}

/// What quoting, wrapping and hiding add or drop. Both sides lose it, so nothing is asked about where it stood.
pub(crate) fn vanishes(letter: char) -> bool {
    matches!(letter, '\'' | '"' | '\\' | '+' | '%') || is_unseen(letter) || letter.is_whitespace() || letter.is_control()
}

fn is_unseen(letter: char) -> bool {
    matches!(letter, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}')
}

/// Whether an escape may begin at this byte.
pub(crate) fn escapes(byte: u8) -> bool {
    matches!(byte, b'\\' | b'%' | b'&' | b'=' | 0x1b) || byte >= 0x80
}

/// Whether an escape, a quote or an insertion may begin or stand at this byte.
pub(crate) fn bends(byte: u8) -> bool {
    matches!(byte, b'\\' | b'%' | b'&' | b'=' | b'\'' | b'"' | b'+') || byte <= b' ' || byte >= 0x7f
}

/// The stretches of `bytes` in which characters may be escaped or something may be inserted between them, each with
/// `margin` bytes on both sides, in order, apart from one another.
pub(crate) fn bent(bytes: &[u8], sieve: &Sieve, margin: usize) -> Vec<(usize, usize)> {
    let mut stretches: Vec<(usize, usize)> = Vec::new();
    for &place in sieve.bends.iter().filter(|place| is_bent(bytes, **place)) {
        let (start, end) = (place.saturating_sub(margin), (place + margin).min(bytes.len()));
        match stretches.last_mut() {
            Some(last) if start <= last.1 => last.1 = end,
            _ => stretches.push((start, end)),
        }
    }
    stretches
}

fn is_bent(bytes: &[u8], place: usize) -> bool {
    let at = |place: usize| bytes.get(place).copied().unwrap_or(0);
    let next = at(place + 1);
    match bytes[place] {
        b'\\' | 0x1b | b'\r' => true,
        b'%' => next.is_ascii_hexdigit() && at(place + 2).is_ascii_hexdigit() || next == b'u',
        b'&' => next == b'#' || entity(&bytes[place..]).is_some(),
        0xc2 => matches!(next, 0xad | 0xa0),
        0xe2 => matches!((next, at(place + 2)), (0x80, 0x8b..=0x8f | 0xaa..=0xae) | (0x81, 0xa0..=0xaf)),
        0xef => matches!((next, at(place + 2)), (0xbb, 0xbf) | (0xb8, 0x80..=0x8f)),
        b'=' => next == b'\n' || next == b'\r' || pair_upper(&bytes[place + 1..]).is_some(),
        b'+' => place > 0 && !at(place - 1).is_ascii_whitespace() && !next.is_ascii_whitespace(),
        quote => next == quote,
    }
}

// Codes.

/// The letters of one code, line for line: pieces of the source.
pub(crate) struct Run {
    pieces: Vec<(usize, usize)>,
}

/// Calls `visit` for each run of base64 letters (which are those of hex and base32 too) that is long enough, wrapped
/// lines joined.
pub(crate) fn runs(bytes: &[u8], sieve: &Sieve, mut visit: impl FnMut(Run)) {
    let mut floor = 0;
    for &(start, end) in &sieve.runs {
        let start = start.max(floor);
        if start + RUN_BYTES_MIN <= end {
            let run = joined(bytes, escape_skipped(bytes, start), end);
            floor = run.pieces.last().map_or(end, |piece| piece.1.max(end));
            visit(run);
        }
    }
}

/// Where a run that holds `at` ends.
fn ended(bytes: &[u8], at: usize) -> usize {
    at + bytes[at..].iter().position(|byte| !is_code(*byte)).unwrap_or(bytes.len() - at)
}

/// The first letter of a run may be the last one of an escape: `\n` before code.
fn escape_skipped(bytes: &[u8], start: usize) -> usize {
    match (start.checked_sub(1).map(|before| bytes[before]), bytes[start]) {
        (Some(b'\\'), b'n' | b'r' | b't') => start + 1,
        (Some(b'\\'), b'u') => start + 5,
        (Some(b'%'), _) => start + 2,
        _ => start,
    }
}

fn joined(bytes: &[u8], start: usize, end: usize) -> Run {
    let mut pieces = vec![(start, end)];
    let (mut end, mut line_bytes) = (end, end.saturating_sub(start));
    loop {
        let rest = &bytes[end..];
        // A slash is sometimes escaped.
        if rest.starts_with(b"\\/") {
            let next = ended(bytes, end + 1);
            pieces.push((end + 1, next));
            line_bytes += next - end;
            end = next;
            continue;
        }
        let Some(next) = next_line(rest).filter(|_| line_bytes >= WRAP_BYTES_MIN) else { break };
        let start = end + next;
        let next = ended(bytes, start);
        pieces.push((start, next));
        (end, line_bytes) = (next, next - start);
    }
    Run { pieces }
}

/// How far the next line of code is, if a line ends here and code goes on behind it.
fn next_line(rest: &[u8]) -> Option<usize> {
    const BREAKS: [&[u8]; 8] = [b"\r\n", b"\n", b"\\r\\n", b"\\n", b"\\\\r\\\\n", b"\\\\n", b"%0D%0A", b"%0A"];
    let broken = BREAKS.iter().find(|line| rest.starts_with(line))?.len();
    let indent = rest[broken..].iter().take(INDENT_BYTES_MAX).take_while(|byte| matches!(byte, b' ' | b'\t' | b'>' | b'|')).count();
    rest.get(broken + indent).is_some_and(|byte| is_code(*byte)).then_some(broken + indent)
}

#[inline]
fn is_code(byte: u8) -> bool {
    const CODE: [bool; 256] = {
        let mut table = [false; 256];
        let mut byte = 0;
        while byte < 256 {
            table[byte] = sextet(byte as u8) < 64;
            byte += 1;
        }
        table
    };
    CODE[byte as usize]
}

/// The value of a letter of base64 or base64url, or 255.
pub(crate) const fn sextet(byte: u8) -> u8 {
    match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' | b'-' => 62,
        b'/' | b'_' => 63,
        _ => 255,
    }
}

const SEXTETS: [u8; 256] = {
    let mut table = [255; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = sextet(byte as u8);
        byte += 1;
    }
    table
};

/// How a run may be read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Code {
    Base64,
    Base32,
    Hex,
}

impl Run {
    fn letters<'a>(&'a self, bytes: &'a [u8]) -> impl Iterator<Item = (u8, usize)> + 'a {
        self.pieces.iter().flat_map(|&(start, end)| (start..end).map(|at| (bytes[at], at)))
    }

    /// The codes that this run may be in: what cannot be code of a secret is not decoded.
    pub fn codes(&self, bytes: &[u8]) -> impl Iterator<Item = Code> + use<> {
        let (mut seen, mut count) = (0u8, 0);
        for &(start, end) in &self.pieces {
            let look = &bytes[start..end.min(start + LOOK_BYTES - count)];
            seen = look.iter().fold(seen, |seen, byte| seen | KINDS[*byte as usize]);
            count += look.len();
        }
        // The letters of base64 are with few exceptions mixed where bytes are ASCII.
        let only = |kinds: u8| seen & !kinds == 0;
        let codes = [
            (seen & UPPER != 0 && seen & !UPPER != 0, Code::Base64),
            (only(UPPER | DIGIT_32), Code::Base32),
            (only(UPPER_HEX | LOWER_HEX | DIGIT | DIGIT_32) && count >= 16, Code::Hex),
        ];
        let long = self.pieces.len() > 1 || count >= LOOK_BYTES;
        let plausible = |code| long || code == Code::Base32 || self.is_plausible(bytes, code);
        codes.into_iter().filter(|(may, code)| *may && plausible(*code)).map(|(_, code)| code).collect::<Vec<_>>().into_iter()
    }

    /// Whether a short run begins like text, wide text or a packed stream. Names in programs are made of the same letters,
    /// and what is encoded only once is found without decoding.
    fn is_plausible(&self, bytes: &[u8], code: Code) -> bool {
        let (mut head, mut len) = ([0u8; 12], 0);
        decode(self.letters(bytes).take(24), code, |byte, _, _| {
            if len < head.len() {
                head[len] = byte;
                len += 1;
            }
        });
        let head = &head[..len];
        let zeros = head.iter().filter(|byte| **byte == 0).count();
        let printable = head.iter().filter(|byte| matches!(byte, b' '..=b'~' | b'\n' | b'\r' | b'\t')).count();
        let control = head.iter().filter(|byte| matches!(byte, 0..=8 | 11 | 12 | 14..=31 | 127)).count();
        zeros * 4 >= len
            || printable * 2 >= len && control == 0
            || matches!(head, [0x1f, 0x8b, ..] | [0x78, 0x01 | 0x5e | 0x9c | 0xda, ..] | [0xff, 0xfe, ..] | [0xfe, 0xff, ..])
    }

    /// The decoded bytes, at most `bytes_max`.
    pub fn decoded(&self, bytes: &[u8], code: Code, bytes_max: usize) -> Vec<u8> {
        let mut decoded = Vec::with_capacity((self.pieces.iter().map(|piece| piece.1 - piece.0.min(piece.1)).sum::<usize>() * 3 / 4 + 3).min(bytes_max));
        if let (Code::Base64, [(start, end)]) = (code, self.pieces.as_slice()) {
            let (quads, rest) = bytes[*start..*end].as_chunks::<4>();
            for quad in quads {
                if decoded.len() + 3 > bytes_max {
                    return decoded;
                }
                let bits = quad.iter().fold(0u32, |bits, letter| bits << 6 | u32::from(SEXTETS[*letter as usize]));
                decoded.extend_from_slice(&bits.to_be_bytes()[1..]);
            }
            decode(rest.iter().map(|byte| (*byte, 0)), code, |byte, _, _| decoded.push(byte));
            return decoded;
        }
        decode(self.letters(bytes), code, |byte, _, _| {
            if decoded.len() < bytes_max {
                decoded.push(byte);
            }
        });
        decoded
    }

    /// The same with the way back. Decoding twice is cheaper than keeping the way of what holds nothing.
    pub fn mapped(&self, bytes: &[u8], code: Code, bytes_max: usize) -> Mapped {
        let mut mapped = Mapped::default();
        decode(self.letters(bytes), code, |byte, start, end| {
            if mapped.bytes.len() < bytes_max {
                mapped.put(byte, (start as u32, end as u32));
            }
        });
        mapped
    }
}

/// The kinds of letters by which codes differ.
const UPPER_HEX: u8 = 1;
const UPPER: u8 = UPPER_HEX | 2;
const LOWER_HEX: u8 = 4;
const LOWER: u8 = LOWER_HEX | 8;
const DIGIT: u8 = 16;
const DIGIT_32: u8 = 32;
const OTHER: u8 = 64;
const KINDS: [u8; 256] = {
    let mut table = [OTHER; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = match byte as u8 {
            b'A'..=b'F' => UPPER_HEX,
            b'G'..=b'Z' => UPPER & !UPPER_HEX,
            b'a'..=b'f' => LOWER_HEX,
            b'g'..=b'z' => LOWER & !LOWER_HEX,
            b'2'..=b'7' => DIGIT_32,
            b'0'..=b'9' => DIGIT,
            _ => OTHER,
        };
        byte += 1;
    }
    table
};

/// Enough letters to tell code from words.
const LOOK_BYTES: usize = 96;

fn decode(letters: impl Iterator<Item = (u8, usize)>, code: Code, mut put: impl FnMut(u8, usize, usize)) {
    let width = match code {
        Code::Base64 => 6,
        Code::Base32 => 5,
        Code::Hex => 4,
    };
    let (mut bits, mut held) = (0u32, 0);
    // Where the first letter stands that holds bits of the byte to come.
    let mut first = None;
    for (letter, at) in letters {
        let value = match code {
            Code::Base64 => sextet(letter),
            Code::Base32 => match letter {
                b'A'..=b'Z' => letter - b'A',
                b'2'..=b'7' => letter - b'2' + 26,
                _ => 255,
            },
            Code::Hex => digit(letter, 16).map_or(255, |value| value as u8),
        };
        if value == 255 {
            return;
        }
        bits = bits << width | u32::from(value);
        held += width;
        if held >= 8 {
            held -= 8;
            put((bits >> held) as u8, first.unwrap_or(at), at + 1);
            bits &= (1 << held) - 1;
            first = (held > 0).then_some(at);
        } else {
            first = first.or(Some(at));
        }
    }
}

/// Base64 letters `start..` of `bytes`, one run without breaks, with the way back.
pub(crate) fn base64_at(bytes: &[u8], start: usize, end: usize) -> Mapped {
    Run { pieces: vec![(start, end)] }.mapped(bytes, Code::Base64, usize::MAX)
}

pub(crate) fn hex_at(bytes: &[u8], start: usize, end: usize) -> Mapped {
    Run { pieces: vec![(start, end)] }.mapped(bytes, Code::Hex, usize::MAX)
}

/// The ends of the run of code letters around `at`, at most `reach` away.
pub(crate) fn around(bytes: &[u8], at: usize, reach: usize, code: Code) -> (usize, usize) {
    let is = |byte: u8| if code == Code::Hex { byte.is_ascii_hexdigit() } else { is_code(byte) };
    let floor = at.saturating_sub(reach);
    let ceiling = (at + reach).min(bytes.len());
    let start = at - bytes[floor..at].iter().rev().take_while(|byte| is(**byte)).count();
    let end = at + bytes[at..ceiling].iter().take_while(|byte| is(**byte)).count();
    (start, end)
}

/// Calls `visit` for each list of hex bytes with something between them, and for each dump.
pub(crate) fn spaced(bytes: &[u8], sieve: &Sieve, mut visit: impl FnMut(Mapped)) {
    let mut floor = 0;
    let stretches = sieve.spaced.iter().flat_map(|&(start, end)| {
        let mut at = start;
        bytes[start..end].split(|byte| !is_spaced(*byte)).map(move |part| {
            let start = at;
            at += part.len() + 1;
            (start, start + part.len())
        })
    });
    for (start, end) in stretches {
        let mut at = start.max(floor);
        // Most of it is white space, and dates.
        if at + SPACED_BYTES_MIN > end || bytes[at..end].iter().filter(|byte| byte.is_ascii_hexdigit()).count() < SPACED_DIGITS_MIN * 2 {
            continue;
        }
        let mut line = floor + memchr::memrchr(b'\n', &bytes[floor..at]).map_or(0, |found| found + 1);
        loop {
            // A dump may begin where the stretch does, or with any line of it.
            let lines = memchr::memchr_iter(b'\n', &bytes[at..end]).map(|found| at + found + 1);
            let Some((from, (map, dump_end))) = [line, at].into_iter().chain(lines).find_map(|from| Some((from, dump(bytes, from)?))) else { break };
            list(bytes, at, from.max(at), &mut visit);
            visit(map);
            (at, line) = (dump_end, dump_end);
            if at >= end {
                break;
            }
        }
        list(bytes, at.min(end), end, &mut visit);
        floor = at.max(end);
    }
}

fn is_spaced(byte: u8) -> bool {
    byte.is_ascii_hexdigit() || is_between(byte) || matches!(byte, b'x' | b'X')
}

const fn is_between(byte: u8) -> bool {
    matches!(byte, b' ' | b':' | b',' | b'-' | b';' | b'.' | b'_' | b'\n' | b'\r' | b'\t')
}

/// Two digits, something between, two digits, and so on.
fn list(bytes: &[u8], start: usize, end: usize, visit: &mut impl FnMut(Mapped)) {
    let mut mapped = Mapped::default();
    let mut at = start;
    while at < end {
        let prefix = if bytes[at..end].starts_with(b"0x") || bytes[at..end].starts_with(b"0X") { 2 } else { 0 };
        let token = at + prefix;
        let alone = bytes.get(token + 2).is_none_or(|byte| !byte.is_ascii_alphanumeric())
            && at.checked_sub(1).is_none_or(|before| !bytes[before].is_ascii_alphanumeric());
        match pair(&bytes[token.min(end)..end]).filter(|_| alone) {
            Some(byte) => {
                mapped.put(byte, (at as u32, token as u32 + 2));
                at = token + 2;
                at += bytes[at..end].iter().take(3).take_while(|byte| is_between(**byte)).count();
            }
            None => {
                if mapped.bytes.len() >= SPACED_DIGITS_MIN {
                    visit(std::mem::take(&mut mapped));
                }
                mapped = Mapped::default();
                // To the next token.
                at += bytes[at..end].iter().position(|byte| is_between(*byte)).map_or(end - at, |found| found + 1);
            }
        }
    }
    if mapped.bytes.len() >= SPACED_DIGITS_MIN {
        visit(mapped);
    }
}

/// Lines of an offset, groups of hex digits and a column of letters. The letters belong to the last byte of their line.
fn dump(bytes: &[u8], start: usize) -> Option<(Mapped, usize)> {
    let mut mapped = Mapped::default();
    let mut at = start;
    while let Some(line) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        // Most lines are none of a dump, and some are long.
        if dump_offset(line).is_none() {
            break;
        }
        let line = &line[..line.len().min(DUMP_LINE_LETTERS_MAX)];
        let end = memchr::memchr(b'\n', line).unwrap_or(line.len());
        // An escaped end of line is one if an offset comes next: the column of letters may hold the same two.
        let offset = |at: &usize| line[at + 2..].iter().take(6).filter(|byte| byte.is_ascii_hexdigit()).count() == 6;
        let (len, broken) = memchr::memmem::find_iter(&line[..end], b"\\n").find(offset).map_or((end, 1), |escaped| (escaped, 2));
        let Some(()) = dump_line(&line[..len], at, &mut mapped) else { break };
        at = (at + len + broken).min(bytes.len());
    }
    (mapped.bytes.len() >= SPACED_DIGITS_MIN).then_some((mapped, at))
}

/// How long the offset is that a line of a dump begins with.
fn dump_offset(line: &[u8]) -> Option<usize> {
    let len = line.iter().take(17).take_while(|byte| byte.is_ascii_hexdigit()).count();
    (6..=16).contains(&len).then_some(len)
}

fn dump_line(line: &[u8], base: usize, mapped: &mut Mapped) -> Option<()> {
    let offset = dump_offset(line)?;
    let colon = line.get(offset) == Some(&b':');
    let mut at = offset + usize::from(colon);
    let before = mapped.bytes.len();
    loop {
        let gap = line[at..].iter().take_while(|byte| **byte == b' ').count();
        if gap == 0 || (gap > 1 && colon && mapped.bytes.len() > before) {
            break;
        }
        at += gap;
        let digits = line[at..].iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let ends = line.get(at + digits).is_none_or(|byte| *byte == b' ');
        if !matches!(digits, 2 | 4 | 8) || !ends || mapped.bytes.len() - before >= DUMP_LINE_BYTES_MAX {
            break;
        }
        for place in (at..at + digits).step_by(2) {
            mapped.put(pair(&line[place..])?, ((base + place) as u32, (base + place + 2) as u32));
        }
        at += digits;
    }
    (mapped.bytes.len() > before).then_some(())?;
    for span in &mut mapped.spans[before..] {
        // Whatever of the line is cut, its column of letters goes too.
        span.1 = (base + line.len()) as u32;
    }
    Some(())
}

const DUMP_LINE_BYTES_MAX: usize = 32;
/// A line of a dump with all its columns.
const DUMP_LINE_LETTERS_MAX: usize = 512;

// The end of a stream.

/// An escape is this long at most, but for a run of backslashes.
pub(crate) const ESCAPE_BYTES_MAX: usize = 12;

/// Where an escape begins that the end of `bytes` may cut off, or `bytes.len()`.
pub(crate) fn open_escape_from(bytes: &[u8]) -> usize {
    let near = bytes.len().saturating_sub(ESCAPE_BYTES_MAX * 2);
    let mut from = bytes.len();
    let mut at = near;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let open = match rest[0] {
            b'\\' => {
                let run = rest.iter().take_while(|byte| **byte == b'\\').count();
                // Of two units of UTF-16, the second may still come.
                rest.len() < run + ESCAPE_BYTES_MAX && rest[run..].iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'{' | b'\\'))
            }
            b'%' => rest.len() <= 5 && rest[1..].iter().all(u8::is_ascii_alphanumeric),
            b'=' => rest.len() <= 2 && rest[1..].iter().all(|byte| byte.is_ascii_hexdigit() || *byte == b'\r'),
            b'&' => rest.len() < ENTITY_BYTES_MAX && rest[1..].iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'#'),
            0x1b => rest.len() < 32 && rest[1..].iter().all(|byte| matches!(byte, b'[' | b';' | b'0'..=b'9')),
            _ => false,
        };
        if open {
            from = at;
            break;
        }
        at += 1;
    }
    // A run of backslashes is one escape, however long.
    from - bytes[..from].iter().rev().take_while(|byte| **byte == b'\\' && from < bytes.len() && bytes[from] == b'\\').count()
}

/// How long the code at the very end of `bytes` is, if it looks like code: base64, hex or hex bytes with something between.
pub(crate) fn code_at_end(bytes: &[u8]) -> usize {
    let run = bytes.iter().rev().take_while(|byte| is_code(**byte)).count();
    let spaced = bytes.iter().rev().take_while(|byte| is_spaced(**byte)).count();
    let mut len = 0;
    if run >= RUN_BYTES_MIN && (Run { pieces: vec![(bytes.len() - run, bytes.len())] }).codes(bytes).next().is_some() {
        len = run;
    }
    if spaced >= 8 {
        let tail = &bytes[bytes.len() - spaced..];
        let digits = |token: &&[u8]| {
            let token = token.strip_prefix(b"0x").or(token.strip_prefix(b"0X")).unwrap_or(token);
            matches!(token.len(), 2 | 4) && token.iter().all(u8::is_ascii_hexdigit)
        };
        let pairs = tail.split(|byte| is_between(*byte)).filter(digits).count();
        len = if pairs >= 2 { len.max(spaced) } else { len };
    }
    len
}

/// Calls `visit` with what the code at the very end of `bytes` says, read from each letter it may begin with, and with
/// where its last letter stands, which belongs to a byte that is not complete.
pub(crate) fn last_codes(bytes: &[u8], mut visit: impl FnMut(&Mapped, usize)) {
    // White space may be the wrap between two lines.
    let end = bytes.len() - bytes.iter().rev().take(INDENT_BYTES_MAX).take_while(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b'=')).count();
    // Unless the line is too short to be wrapped, or does not end.
    let line = bytes[..end].iter().rev().take(WRAP_BYTES_MIN).take_while(|byte| is_code(**byte)).count();
    if end < bytes.len() && (line < WRAP_BYTES_MIN || !bytes[end..].contains(&b'\n') && !bytes[end..].contains(&b'\r')) {
        return;
    }
    let mut pieces: Vec<(usize, usize)> = Vec::new();
    let mut last = end;
    while last > 0 && is_code(bytes[last - 1]) {
        let start = last - bytes[..last].iter().rev().take_while(|byte| is_code(**byte)).count();
        pieces.insert(0, (start, last));
        // The line before, if this can be the next one of it.
        let indent = bytes[..start].iter().rev().take(INDENT_BYTES_MAX).take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        let broken = &bytes[..start - indent];
        let Some(before) = [b"\r\n".as_slice(), b"\n", b"\\r\\n", b"\\n"].iter().find_map(|line| broken.strip_suffix(*line)) else { break };
        if before.iter().rev().take(WRAP_BYTES_MIN).take_while(|byte| is_code(**byte)).count() < WRAP_BYTES_MIN {
            break;
        }
        last = before.len();
    }
    let Some(&(first, first_end)) = pieces.first() else { return };
    let is_hex = pieces.iter().all(|&(start, end)| bytes[start..end].iter().all(u8::is_ascii_hexdigit));
    let len: usize = pieces.iter().map(|piece| piece.1 - piece.0).sum();
    for (code, phases) in [(Code::Base64, 4), (Code::Hex, 2)] {
        if code == Code::Hex && !is_hex {
            continue;
        }
        for phase in 0..phases.min(first_end - first) {
            let mut pieces = pieces.clone();
            pieces[0].0 += phase;
            let held = if len < 2 || pieces.is_empty() { bytes.len() } else { end - 1 };
            visit(&Run { pieces }.mapped(bytes, code, usize::MAX), held);
        }
    }
}

// What decoded bytes may be in turn.

/// UTF-16 as UTF-8, if `bytes` look like it.
pub(crate) fn utf16(bytes: &[u8]) -> Option<Mapped> {
    if bytes.len() < 16 {
        return None;
    }
    let zeros = |from: usize| bytes.iter().skip(from).step_by(2).filter(|byte| **byte == 0).count();
    let little = if zeros(1) * 5 >= bytes.len() {
        true
    } else if zeros(0) * 5 >= bytes.len() {
        false
    } else {
        return None;
    };
    let unit = |at: usize| {
        let pair = [*bytes.get(at)?, *bytes.get(at + 1)?];
        Some(u32::from(if little { u16::from_le_bytes(pair) } else { u16::from_be_bytes(pair) }))
    };
    let mut mapped = Mapped::default();
    let mut at = 0;
    while let Some(code) = unit(at) {
        let (code, len) = match (code, unit(at + 2)) {
            (0xd800..0xdc00, Some(low @ 0xdc00..0xe000)) => (0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00), 4),
            _ => (code, 2),
        };
        mapped.put_char(char::from_u32(code).unwrap_or('\u{fffd}'), (at as u32, (at + len) as u32));
        at += len;
    }
    Some(mapped)
}

/// What a gzip or zlib stream holds, at most `bytes_max`, as far as it can be read.
pub(crate) fn inflated(bytes: &[u8], bytes_max: usize) -> Option<Vec<u8>> {
    let mut inflated = Vec::new();
    let limit = bytes_max as u64;
    // What came before an error is looked at all the same.
    let _ = match bytes {
        [0x1f, 0x8b, 8, ..] => MultiGzDecoder::new(bytes).take(limit).read_to_end(&mut inflated),
        [0x78, 0x01 | 0x5e | 0x9c | 0xda, ..] => ZlibDecoder::new(bytes).take(limit).read_to_end(&mut inflated),
        _ => return None,
    };
    (!inflated.is_empty()).then_some(inflated)
}

/// A whole body in `encoding`, or why not.
pub(crate) fn opened(encoding: &str, bytes: &[u8], bytes_max: usize) -> Result<Vec<u8>, Opening> {
    let mut opened = Vec::new();
    let limit = bytes_max as u64 + 1;
    let read = match encoding {
        "gzip" | "x-gzip" => MultiGzDecoder::new(bytes).take(limit).read_to_end(&mut opened),
        "deflate" if matches!(bytes, [0x78, ..]) => ZlibDecoder::new(bytes).take(limit).read_to_end(&mut opened),
        "deflate" => DeflateDecoder::new(bytes).take(limit).read_to_end(&mut opened),
        _ => return Err(Opening::Unknown),
    };
    read.map_err(|_| Opening::Broken)?;
    if opened.len() > bytes_max { Err(Opening::TooLarge) } else { Ok(opened) }
}

pub(crate) enum Opening {
    Unknown,
    Broken,
    TooLarge,
}

// Digits.

fn digit(byte: u8, radix: u32) -> Option<u32> {
    (byte as char).to_digit(radix)
}

fn number(digits: &[u8], radix: u32) -> Option<u32> {
    digits.iter().try_fold(0u32, |value, byte| value.checked_mul(radix)?.checked_add(digit(*byte, radix)?))
}

/// The byte of two hex digits.
fn pair(bytes: &[u8]) -> Option<u8> {
    Some((digit(*bytes.first()?, 16)? << 4 | digit(*bytes.get(1)?, 16)?) as u8)
}

/// As quoted-printable writes it.
fn pair_upper(bytes: &[u8]) -> Option<u8> {
    pair(bytes).filter(|_| !bytes[..2].iter().any(u8::is_ascii_lowercase))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bones(text: &str) -> String {
        String::from_utf8(skeleton::<()>(text.as_bytes(), 0).bytes).expect("skeletons of text are text")
    }

    #[test]
    fn every_escape_has_the_same_skeleton() {
        for (text, expected) in [
            ("Abc-12 x", "abc-12x"),
            (r"\u0041\u0062c", "abc"),
            (r"\\\\u0041bc", "abc"),
            (r"\x41\142c", "abc"),
            ("%41%2562c", "abc"),
            ("&#65;&#x62;c", "abc"),
            ("a&amp;amp;b", "a&b"),
            ("a'\\''b", "ab"),
            ("a\u{200b}b\u{ad}c", "abc"),
            ("\u{1b}[31ma\u{1b}[0mb", "ab"),
            (r"\u001b[31mab", "ab"),
            ("\u{1b}[31 \\x41b\u{1b}[%41b", "31abab"),
            (r"\ud83d\udc0e!", "🐎!"),
            ("Grüße", "grüsse"),
            (r"Gr\xc3\xbc\xc3\x9fe", "grüsse"),
            (r"Gr\xfc\xdfe", "grüsse"),
            (r"line\r\nnext", "linenext"),
            (r"\u{41}\U00000042", "ab"),
        ] {
            assert_eq!(bones(text), expected, "{text}");
        }
    }

    #[test]
    fn what_vanishes_is_the_same_in_ascii() {
        for byte in 0..128u8 {
            assert_eq!(FOLDED[usize::from(byte)] == 0, vanishes(byte as char), "{byte}");
        }
    }

    #[test]
    fn decoded_bytes_know_where_they_came_from() {
        let skeleton: Mapped = skeleton(br"x\u0041b", 10);
        assert_eq!(skeleton.source(1, 2), (11, 17));
        assert_eq!(skeleton.source(0, 3), (10, 18));
    }

    #[test]
    fn runs_are_joined_over_wraps() {
        let code = "QUJD".repeat(16);
        for wrap in ["\n", "\r\n", "\\n", "\n    "] {
            let text = format!("x {code}{wrap}{code}{wrap}QUJD== y");
            let mut seen = Vec::new();
            runs(text.as_bytes(), &Sieve::new(text.as_bytes()), |run| seen.push(run.decoded(text.as_bytes(), Code::Base64, 1000)));
            assert_eq!(seen, ["ABC".repeat(33).into_bytes()], "{wrap:?}");
        }
    }

    #[test]
    fn spaced_hex_and_dumps_are_read() {
        for text in [
            "53:6f:6d:6d:65:72:23:32",
            "see 53 6f 6d 6d 65 72 23 32.",
            "0x53, 0x6f, 0x6d, 0x6d, 0x65, 0x72, 0x23, 0x32",
            "00000000: 536f 6d6d 6572 2332  Sommer#2",
            "$ xxd f\n00000000: 536f 6d6d 6572 2332  Sommer#2\n",
            "00000000  53 6f 6d 6d 65 72 23 32                           |Sommer#2|",
        ] {
            let mut seen = Vec::new();
            spaced(text.as_bytes(), &Sieve::new(text.as_bytes()), |mapped| seen.push(String::from_utf8_lossy(&mapped.bytes).into_owned()));
            assert_eq!(seen, ["Sommer#2"], "{text}");
        }
    }
}
