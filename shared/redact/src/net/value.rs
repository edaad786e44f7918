//! How a value looks: whether it could be a secret at all, and whether chance rather than a person or a programmer
//! wrote it.
//!
//! Entropy alone does not tell: a short secret has little of it, and a long identifier has much. What tells is how
//! rarely the letters of a word follow each other like this in English, German and code. Nothing here knows where the
//! value stood; `context` does.

use aho_corasick::{AhoCorasick, AhoCorasickBuilder, AhoCorasickKind};
use std::sync::LazyLock;

/// What a value consists of.
#[derive(Clone, Copy, Debug, Default)]
pub struct Looks {
    pub len: usize,
    pub lower: usize,
    pub upper: usize,
    pub digit: usize,
    /// `-`, `_`, `.` and the like, which also stand in names.
    pub joint: usize,
    /// Anything else that is printable: punctuation as in a password.
    pub mark: usize,
    /// Bytes beyond ASCII, and spaces.
    pub other: usize,
    pub hex: usize,
    pub distinct: u32,
    /// How often the kind of character changes, joints left out.
    pub turns: usize,
    /// The longest run of letters of one case, and of digits.
    pub word: usize,
    pub number: usize,
    /// Letters that stand in words of a language or of code, told by how usual their sequence is.
    pub wording: usize,
    /// Mean surprise of each character after the one before, in bits.
    pub surprise: f32,
}

impl Looks {
    pub fn of(text: &[u8]) -> Looks {
        let mut looks = Looks { len: text.len(), ..Looks::default() };
        let (mut low, mut high, mut bits, mut pairs) = (0u64, 0u64, 0u32, 0u32);
        let (mut before, mut before_kind, mut run) = (0u8, Kind::Joint, 0);
        let (mut word, mut word_bits) = (0, 0);
        for &byte in text {
            let kind = KINDS[usize::from(byte)];
            if byte < 64 {
                low |= 1 << byte;
            } else if byte < 128 {
                high |= 1 << (byte - 64);
            }
            let surprise = match (before_kind, kind) {
                (Kind::Lower, Kind::Lower) | (Kind::Upper, Kind::Upper) => {
                    let pair = pair(before, byte);
                    word += 1;
                    word_bits += pair;
                    pair
                }
                (Kind::Upper, Kind::Lower) => {
                    let pair = pair(before, byte);
                    // The capital before small letters begins their word.
                    if word > 1 {
                        looks.word_ends(word - 1, word_bits);
                        (word, word_bits) = (1, 0);
                    }
                    word += 1;
                    word_bits += pair;
                    3 + pair / 3
                }
                _ => {
                    looks.word_ends(word, word_bits);
                    (word, word_bits) = (usize::from(matches!(kind, Kind::Lower | Kind::Upper)), 0);
                    match (before_kind, kind) {
                        (Kind::Digit, Kind::Digit) => 4,
                        (Kind::Lower, Kind::Upper) => 6,
                        _ => 7,
                    }
                }
            };
            run = if kind == before_kind { run + 1 } else { 1 };
            match kind {
                Kind::Digit => looks.number = looks.number.max(run),
                Kind::Lower | Kind::Upper => looks.word = looks.word.max(run),
                _ => {}
            }
            if kind != Kind::Joint && before_kind != Kind::Joint {
                bits += surprise;
                pairs += 1;
                looks.turns += usize::from(kind != before_kind);
            }
            (before, before_kind) = (byte, kind);
        }
        looks.word_ends(word, word_bits);
        [looks.lower, looks.upper, looks.digit, looks.joint, looks.mark, looks.other, looks.hex] = counted(text);
        looks.distinct = low.count_ones() + high.count_ones();
        looks.surprise = if pairs == 0 { 0.0 } else { bits as f32 / pairs as f32 };
        looks
    }

    fn word_ends(&mut self, word: usize, bits: u32) {
        if word >= 3 && bits as usize <= 5 * (word - 1) {
            self.wording += word;
        }
    }

    pub fn letters(&self) -> usize {
        self.lower + self.upper
    }

    /// Hexadecimal throughout, in one case or mixed, joints aside.
    pub fn is_hex(&self) -> bool {
        self.hex + self.joint == self.len && self.digit > 0
    }

    /// Fewer different characters than chance gives: `xxxxxxxx`, `00000000-0000`, `aaaabbbb`.
    pub fn is_monotone(&self) -> bool {
        let expected = match self.len {
            0..=3 => 1,
            4..=7 => 3,
            8..=15 => 5,
            16..=31 => 7,
            _ => 8,
        };
        self.distinct < expected
    }

    /// Several words at joints.
    pub fn is_jointed(&self) -> bool {
        self.joint >= 2 && (self.surprise < 4.9 && self.digit * 4 < self.len || self.wording * 2 >= self.len - self.joint)
    }

    /// Words, as programs name things.
    pub fn is_wordy(&self) -> bool {
        self.is_jointed() || self.digit == 0 && self.surprise < 4.3 && self.word >= 6
    }

    /// Written by chance, as far as its characters tell; `true` for about every key of at least 16 characters.
    pub fn is_random(&self) -> bool {
        if self.is_monotone() || self.other > 0 {
            return false;
        }
        if self.is_hex() {
            return self.len >= 16 && self.digit * 5 >= self.hex && self.digit * 20 <= self.hex * 19 && self.distinct >= 9;
        }
        let solid = self.len - self.joint;
        if self.wording * 2 >= solid {
            return false;
        }
        if self.digit == 0 {
            // Two cases in no order, or letters that do not follow each other in words.
            return solid >= 16 && (self.turns * 5 >= solid && self.surprise >= 5.2 || self.surprise >= 6.4);
        }
        let turns_wanted = if self.upper > 0 && self.lower > 0 { 4 } else { 6 };
        self.letters() >= 3 && self.turns * turns_wanted >= solid && self.surprise >= 4.6
    }

    /// Random by itself, without anything around it that speaks of a secret: long, three kinds of characters, well mixed.
    pub fn is_surely_random(&self) -> bool {
        let solid = self.len - self.joint;
        self.is_random()
            && !self.is_hex()
            && solid >= 20
            && self.digit >= 2
            && self.lower >= 3
            && self.upper >= 3
            && self.word <= 6
            && self.turns * 3 >= solid
            && self.surprise >= 5.2
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Lower,
    Upper,
    Digit,
    Joint,
    Mark,
    Other,
}

impl Kind {
    const COUNT: usize = 6;

    const fn of(byte: u8) -> Kind {
        match byte {
            b'a'..=b'z' => Kind::Lower,
            b'A'..=b'Z' => Kind::Upper,
            b'0'..=b'9' => Kind::Digit,
            b'-' | b'_' | b'.' | b'/' | b':' | b'=' => Kind::Joint,
            b'!'..=b'~' => Kind::Mark,
            _ => Kind::Other,
        }
    }
}

/// How many bytes are of each kind, and how many are hexadecimal.
fn counted(text: &[u8]) -> [usize; Kind::COUNT + 1] {
    let mut counts = [0; Kind::COUNT + 1];
    for part in text.chunks(COUNTER_MAX) {
        let counters = part.iter().fold(0, |counters, byte| counters + COUNTED[usize::from(*byte)]);
        for (kind, count) in counts.iter_mut().enumerate() {
            *count += (counters >> (kind * COUNTER_BITS)) as usize & COUNTER_MAX;
        }
    }
    counts
}

/// Counters side by side in one register: a count in memory would wait for the one before.
const COUNTER_BITS: usize = 9;
const COUNTER_MAX: usize = (1 << COUNTER_BITS) - 1;
const COUNTED: [u64; 256] = {
    let mut counted = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        counted[byte] = 1 << (KINDS[byte] as usize * COUNTER_BITS);
        if (byte as u8).is_ascii_hexdigit() {
            counted[byte] |= 1 << (Kind::COUNT * COUNTER_BITS);
        }
        byte += 1;
    }
    counted
};

const KINDS: [Kind; 256] = {
    let mut kinds = [Kind::Other; 256];
    let mut byte = 0;
    while byte < 256 {
        kinds[byte] = Kind::of(byte as u8);
        byte += 1;
    }
    kinds
};

fn pair(before: u8, byte: u8) -> u32 {
    u32::from(PAIR_BITS[usize::from((before | 32) - b'a')][usize::from((byte | 32) - b'a')])
}

const PAIR_BITS: [[u8; 26]; 26] = {
    let mut bits = [[0; 26]; 26];
    let mut at = 0;
    while at < 26 * 26 {
        let digit = PAIRS[at / 26].as_bytes()[at % 26];
        bits[at / 26][at % 26] = if digit <= b'9' { digit - b'0' } else { digit - b'a' + 10 };
        at += 1;
    }
    bits
};

/// Bits of surprise that the column's letter follows the row's, counted over English and German prose and identifiers
/// of code, a hexadecimal digit each.
const PAIRS: [&str; 26] = [
    "854487595a6343b5a34356786a",
    "4767376836937848945639a64a",
    "486836a35a448927a46358b86a",
    "3774177639967848a55658996b",
    "4644657869945386723486657b",
    "4876345b2cc46438b3554cab6d",
    "586828643ab56456a445499a89",
    "2ab81aab3ba7773994735b8d8d",
    "5545555aab745246b63385a6c6",
    "26662789597787358837395baa",
    "388718683a9686569746597988",
    "3895247a2b839838c954589c5a",
    "25772a9b4a955833a9574bca7c",
    "484336385a668647a833578b6a",
    "7744846979654264e2554558aa",
    "3a7639765d849945a3542aab5d",
    "878659787a938689868609798a",
    "386627593d675538b544578a5a",
    "595828853c7577458742488b5a",
    "4a6628923ba66936b4555a7849",
    "6356465b5d945384e333acc7b9",
    "2979186a3bb86859b8788ab8ab",
    "2a8739932b979539a4597c6bbb",
    "474636974b984a73a732888578",
    "677959896b9554429434897b99",
    "3988187759966659a8674a8a76",
];

/// A stand-in, a reference or a piece of code in the place of a value.
pub fn is_placeholder(value: &str) -> bool {
    let bytes = value.as_bytes();
    let Some((&first, &last)) = bytes.first().zip(bytes.last()) else { return true };
    if matches!(first, b'$' | b'%' | b'<' | b'{' | b'[' | b'(' | b'@' | b'*' | b'&' | b'#' | b'!' | b'~' | b'/' | b'\\') && is_reference(first, last, bytes) {
        return true;
    }
    if is_stand_in(bytes) || MARKS.is_match(value) {
        return true;
    }
    let digits = bytes.iter().filter(|byte| byte.is_ascii_digit()).count();
    WORDS.find_iter(value).next().is_some_and(|word| {
        let wordy = bytes.len() < word.len() + 14 || digits * 5 < bytes.len();
        wordy && !holds_more(&[&value[..word.start()], &value[word.end()..]].concat())
    })
}

/// An automaton that only values are run through: a table of all its steps would take hundreds of kilobytes to save nothing.
pub(super) fn compact() -> AhoCorasickBuilder {
    let mut builder = AhoCorasick::builder();
    builder.kind(Some(AhoCorasickKind::ContiguousNFA));
    builder
}

/// Wherever these stand, the value is filled in by somebody or something else.
static MARKS: LazyLock<AhoCorasick> = LazyLock::new(|| {
    let marks = [
        "${",
        "$(",
        "{{",
        "}}",
        "<%",
        "%>",
        "#{",
        "..",
        "…",
        "****",
        "••",
        "REDACTED",
        "SECRET_REF(",
        "process.env",
        "os.environ",
        "getenv",
        "://",
        "xxxx",
        "XXXX",
        "oc-sent-v",
    ];
    compact().build(marks).expect("a few short constants are never too many for the automaton")
});

/// Words of samples; beside them something must be left that is a value by itself.
static WORDS: LazyLock<AhoCorasick> = LazyLock::new(|| {
    let words = [
        "your",
        "example",
        "placeholder",
        "insert",
        "replace",
        "changeme",
        "change_me",
        "change-me",
        "redacted",
        "dummy",
        "sample",
        "_here",
        "-here",
        "todo",
        "fixme",
        "secret",
        "password",
        "passwort",
        "passwd",
        "kennwort",
        "token",
        "undefined",
        "not-set",
        "unchanged",
        "hidden",
        "masked",
        "lorem",
        "foobar",
        "abcdefgh",
        "12345678",
        "0123456",
        "qwertyui",
        "api_key",
        "apikey",
        "api-key",
        "abc123",
        "abc-xyz",
        "1a2b3c",
        "a1b2c3",
        "123abc",
        "abcxyz",
        "xyz123",
        "deadbeef",
        "cafebabe",
    ];
    compact().ascii_case_insensitive(true).build(words).expect("a few short constants are never too many for the automaton")
});

/// `hunter2secret!` is a password that holds a word, `your-secret-here` is not: something beside words must be left.
fn holds_more(rest: &str) -> bool {
    let looks = Looks::of(rest.as_bytes());
    looks.digit >= 2 && looks.letters() >= 2 && looks.mark >= 1 || looks.len >= 12 && looks.is_random()
}

/// `$NAME`, `%NAME%`, `<name>`, `{name}`, `[name]`, `(name)`, `@name@`, `***`, `!vault`, `&anchor`, `/path`.
fn is_reference(first: u8, last: u8, bytes: &[u8]) -> bool {
    let inside = &bytes[1..];
    let name = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b':' | b'>' | b'[' | b']' | b'\'' | b'"' | b'/');
    match first {
        b'$' => inside.iter().all(name) && (inside.iter().all(|byte| !byte.is_ascii_digit()) || inside.len() <= 2 || inside.contains(&b'_')),
        b'%' | b'@' => last == first && inside.len() > 1 || inside.iter().all(|byte| byte.is_ascii_alphabetic()),
        b'<' => last == b'>' || inside.iter().all(|byte| byte.is_ascii_alphabetic() || matches!(byte, b' ' | b'-' | b'_' | b'/')),
        b'{' => last == b'}',
        b'[' => last == b']',
        b'(' => last == b')',
        b'*' => inside.iter().all(|byte| *byte == b'*') || inside.iter().all(|byte| byte.is_ascii_alphabetic() || *byte == b'_'),
        b'&' | b'!' | b'#' => inside.iter().all(|byte| byte.is_ascii_alphabetic() || matches!(byte, b'_' | b'-' | b' ')),
        b'~' => inside.first() == Some(&b'/'),
        b'/' => inside.contains(&b'/') || inside.iter().all(|byte| byte.is_ascii_lowercase()),
        _ => inside.iter().all(|byte| byte.is_ascii_alphabetic()),
    }
}

pub fn is_stand_in(bytes: &[u8]) -> bool {
    let same = |wanted: &[u8]| bytes.iter().all(|byte| wanted.contains(&byte.to_ascii_lowercase()));
    same(b"x-_.*") || same(b"0-_.:") || same(b".-_*?")
        // A long run of one character: forms are filled like this, keys are not.
        || bytes.windows(7).any(|window| window.iter().all(|byte| byte == &window[0]))
}

/// What follows a value that somebody shortened or filled in himself: `sk-abc...`, `key==:xxxxxxxx`.
pub fn is_cut(after: &[u8]) -> bool {
    after.starts_with(b"..")
        || after.starts_with("…".as_bytes())
        || after.iter().take(10).collect::<Vec<_>>().windows(4).any(|part| part.iter().all(|byte| matches!(**byte, b'x' | b'X' | b'*')))
}

/// Small letters and joints only, at most the first one a capital: a word, or a name of a thing.
pub fn is_plain(value: &str) -> bool {
    value.bytes().skip(1).all(|byte| byte.is_ascii_lowercase() || matches!(byte, b'_' | b'.' | b'-' | b'/' | b':'))
        && value.bytes().filter(|byte| *byte == b'-').count() < 3
}

/// An expression of a programming language rather than a literal: a call, a path of names, a type.
pub fn is_code(value: &str) -> bool {
    let bytes = value.as_bytes();
    let names = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if bytes.windows(2).any(|pair| matches!(pair, b"::" | b"->" | b"()" | b"=>" | b"&&" | b"?.")) {
        return true;
    }
    // Regular expressions.
    if value.contains("a-z")
        || value.contains("A-Z")
        || value.contains("\\w")
        || value.contains("\\d")
        || value.starts_with('/') && value.contains(['[', '(', '\\'])
    {
        return true;
    }
    if let Some(open) = value.find(['(', '[']) {
        let before = &value[..open];
        if before.split('.').all(|part| names(part.trim_end_matches(['!', '?', '&'])) && part.bytes().next().is_some_and(|byte| !byte.is_ascii_digit())) {
            return true;
        }
    }
    // `settings.GITHUB_API_SECRET`, `self.token`, `this.#key`
    if value.contains('.') && value.split('.').all(|part| names(part.trim_matches(['#', '?', '!', '$', '@']))) {
        let looks = Looks::of(bytes);
        return looks.digit == 0 || looks.digit <= 2 && looks.word >= 4 && !looks.is_random();
    }
    false
}

/// A name as programs and systems have it: `UPPER_SNAKE`, `lower_snake_2`, `file-1.2.txt`.
pub fn is_name(value: &str) -> bool {
    let bytes = value.as_bytes();
    let looks = Looks::of(bytes);
    let snake = bytes.contains(&b'_') && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    let file =
        value.rsplit_once('.').is_some_and(|(_, end)| (1..=7).contains(&end.len()) && end.bytes().all(|byte| byte.is_ascii_alphabetic())) && looks.mark == 0;
    snake && (looks.lower == 0 || looks.upper == 0 || looks.surprise < 5.2)
        || file && looks.surprise < 5.4
        || bytes.ends_with(b"*") && looks.mark == 1
        || bytes.iter().filter(|byte| **byte == b'/').count() >= 2
}

/// What a person chooses as a password: letters with digits or marks among them, or several words in a row.
/// `quoted`: it is a literal for sure, so that fewer signs are needed.
pub fn is_password(value: &str, quoted: bool) -> bool {
    let looks = Looks::of(value.as_bytes());
    if looks.len < 5 || looks.len > 128 || looks.is_monotone() && looks.len > 6 || looks.letters() == 0 && looks.digit < 6 {
        return false;
    }
    if looks.letters() == 0 {
        return looks.mark > 0 && looks.digit >= 4;
    }
    if is_term(value) || is_name(value) {
        return false;
    }
    if looks.mark > 0 {
        // One word with a sign at its end is more often a sentence than a password.
        if looks.digit == 0 && looks.mark == 1 && looks.upper <= 1 && !ends_in_letter(value) {
            return false;
        }
        let sign_of_code = value.contains(['(', ')', '[', ']', '{', '}', '<', '>', '|', ',', ';', '\\', '"', '\'']);
        let sure = quoted || !sign_of_code;
        return looks.mark <= looks.len / 2
            && sure
            && (looks.digit > 0 && looks.len >= 6 || looks.len >= 7 && looks.lower > 0 && (looks.upper > 0 || looks.mark >= 3));
    }
    if looks.digit > 0 {
        // `Herbst1987` and `vk3TqMZRwH`, but not `v2`, `step3`, `1st` and `10px`.
        return looks.len >= 6 && looks.letters() >= 2 && !is_numbered_name(value, &looks) || looks.len >= 8 && looks.is_random();
    }
    if looks.joint >= 3 && value.matches('-').count() >= 3 && value.chars().all(|letter| letter.is_lowercase() || letter == '-') {
        return true;
    }
    // Letters only: two cases in disorder.
    looks.joint == 0 && looks.upper > 0 && looks.lower > 0 && looks.len >= 8 && looks.turns >= 4 && looks.surprise >= 5.0
}

fn ends_in_letter(value: &str) -> bool {
    value.bytes().last().is_some_and(|byte| byte.is_ascii_alphanumeric())
}

/// A word with a number at its end or its beginning, as names of things have it.
pub fn is_numbered_name(value: &str, looks: &Looks) -> bool {
    let letters = value.trim_matches(|letter: char| letter.is_ascii_digit() || matches!(letter, '.' | '-' | '_'));
    let one_word = letters.bytes().all(|byte| byte.is_ascii_alphabetic()) && looks.turns <= 2;
    let units = ["px", "em", "rem", "ms", "s", "kb", "mb", "gb", "st", "nd", "rd", "th", "x", "h", "m", "min", "sec", "days", "bit", "bits", "bytes"];
    one_word && (looks.digit <= 1 || looks.len < 8 && looks.upper == 0 || units.contains(&letters.to_ascii_lowercase().as_str()))
        || looks.joint > 0 && looks.mark == 0 && looks.digit <= 2 && looks.lower + looks.joint + looks.digit == looks.len
}

/// Names of algorithms and the like, which have the look of a short password.
fn is_term(value: &str) -> bool {
    const TERMS: &[&str] = &[
        "sha",
        "md5",
        "argon2",
        "bcrypt",
        "scrypt",
        "pbkdf2",
        "hmac",
        "aes",
        "rsa",
        "ed25519",
        "x25519",
        "chacha20",
        "base64",
        "base32",
        "oauth",
        "http",
        "utf",
        "ascii",
        "ipv",
        "win32",
        "x86",
        "amd64",
        "arm64",
        "secp",
        "blake",
        "openid",
        "pkcs",
        "ecdsa",
        "ssha",
        "crc",
        "saml",
        "tls",
        "ssl",
        "es256",
        "rs256",
        "hs256",
        "id_",
        "uuid",
        "iso",
        "localhost",
        "k8s",
        "i18n",
        "a11y",
        "l10n",
        "mp3",
        "mp4",
        "h264",
        "mysql",
        "mongodb",
        "postgres",
        "neo4j",
        "log4j",
        "python",
        "java",
        "node",
        "ubuntu",
        "debian",
    ];
    let lower = value.to_ascii_lowercase();
    lower.len() <= 24
        && TERMS.iter().any(|term| lower.starts_with(term) && Looks::of(&lower.as_bytes()[term.len()..]).letters() <= 8 && lower.len() <= term.len() + 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chance_is_told_from_words() {
        for text in [["Zq8r", "TbN2x", "Lw5Vk", "Pd7"].concat(), ["kw3pzt8", "qa417xv", "md9r2e6"].concat(), ["3b8d06f1", "72c94ea5", "d01f6b38"].concat()] {
            assert!(Looks::of(text.as_bytes()).is_random(), "{text}");
        }
        for text in [
            "max_completion_tokens",
            "x86_64-linux-gnu",
            "internationalization",
            "getElementById",
            "0000000000000000",
            "xxxxxxxxxxxxxxxxxxxx",
            "ApplicationServerKeyProvider",
            "20260911-120000",
        ] {
            assert!(!Looks::of(text.as_bytes()).is_random(), "{text}");
        }
    }

    #[test]
    fn stand_ins_are_not_values() {
        for text in [
            "$VAR",
            "${X}",
            "<your-key>",
            "xxxx",
            "process.env.X",
            "SECRET_REF(name)",
            "[REDACTED:k:1]",
            "your_api_key",
            "{{ x }}",
            "%NAME%",
            "********",
            "changeme",
            "[hidden]",
            "op://vault/item/field",
            "0000-0000",
            "sk-...",
            "",
        ] {
            assert!(is_placeholder(text), "{text}");
        }
        for text in ["$ommer-2026x!", "Gr4nit3&Moos", "&#u5kDWMxatR8", "#walk5n0w", "%274DTQw6Z"] {
            assert!(!is_placeholder(text), "{text}");
        }
    }

    #[test]
    fn passwords_are_told_from_terms() {
        for text in ["Herbst1987!", "openup!7395", "copper-river-window-maple", "TqRHbWJCAvxzzk", "482650rV", "vk3TqMZRwH", "w1nter-Wa1k"] {
            assert!(is_password(text, false), "{text}");
        }
        for text in ["required", "sha256", "argon2id", "utf-8", "step-2", "16px", "Bearer", "forgot", "12", "hashedPassword", "bcrypt12"] {
            assert!(!is_password(text, false), "{text}");
        }
    }
}
