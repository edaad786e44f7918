//! What a name says about its value: `DB_PASSWORD`, `secretAccessKey` and `mistral api key` speak of a secret,
//! `password_hash`, `token_type` and `public_key` do not.
//!
//! A name is split into words where its case changes and at its joints; the lists of words are data (`rules`). The
//! last word says what the value is, those before it say whose.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

/// What a single word says. A word may be in several lists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sense(u16);

impl Sense {
    pub const PASSWORD: Sense = Sense(1);
    pub const SECRET: Sense = Sense(2);
    /// `key`: only with a word before it, or a value that speaks for itself.
    pub const KEY: Sense = Sense(4);
    /// Makes a key a secret one: `api`, `private`, `access`.
    pub const OWNER: Sense = Sense(8);
    /// As the last word: the value is a name, a number, a hash, a place of something.
    pub const PLAIN: Sense = Sense(16);
    /// Anywhere: whoever reads the value may have it.
    pub const PUBLIC: Sense = Sense(32);
    pub const VENDOR: Sense = Sense(64);
    /// Says nothing: types, articles, `value`.
    pub const FILLER: Sense = Sense(128);
    pub const PIN: Sense = Sense(256);

    pub fn is(self, other: Sense) -> bool {
        self.0 & other.0 != 0
    }

    pub fn and(self, other: Sense) -> Sense {
        Sense(self.0 | other.0)
    }
}

/// How much a name promises, from nothing to a person's password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Promise {
    /// The name says that it is something else.
    Harmless,
    Nothing,
    Vendor,
    Key,
    Secret,
    Pin,
    Password,
}

pub type Set = HashSet<Box<[u8]>, BuildHasherDefault<Fnv>>;

#[derive(Default)]
pub struct Words {
    senses: HashMap<Box<[u8]>, Sense, BuildHasherDefault<Fnv>>,
    /// Whole names, without their joints, that mean something else than their words say.
    harmless: Set,
}

/// Words of names are short and come from ourselves: no need to guard the table against chosen collisions.
pub struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Fnv {
        Fnv(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// More of a name is not looked at, counted from its end.
const NAME_BYTES_MAX: usize = 80;
const NAME_WORDS_MAX: usize = 14;

/// The words of a name, the last first, in lower case.
pub struct Name {
    lower: [u8; NAME_BYTES_MAX],
    parts: [(u8, u8); NAME_WORDS_MAX],
    count: usize,
}

impl Name {
    pub fn of(text: &[u8]) -> Name {
        let text = &text[text.len().saturating_sub(NAME_BYTES_MAX)..];
        let mut name = Name { lower: [0; NAME_BYTES_MAX], parts: [(0, 0); NAME_WORDS_MAX], count: 0 };
        for (lower, byte) in name.lower.iter_mut().zip(text) {
            *lower = byte.to_ascii_lowercase();
        }
        let letter = |byte: u8| byte.is_ascii_alphabetic() || byte >= 128;
        let mut end = text.len();
        while end > 0 && name.count < NAME_WORDS_MAX {
            if !letter(text[end - 1]) {
                end -= 1;
                continue;
            }
            let mut start = end - 1;
            while start > 0 && letter(text[start - 1]) {
                let (before, here) = (text[start - 1], text[start]);
                let next_is_lower = start + 1 < end && text[start + 1].is_ascii_lowercase();
                // `apiKey` and `XMLKey` break before `Key`.
                if here.is_ascii_uppercase() && (before.is_ascii_lowercase() || before.is_ascii_uppercase() && next_is_lower) {
                    break;
                }
                start -= 1;
            }
            name.parts[name.count] = (start as u8, end as u8);
            name.count += 1;
            end = start;
        }
        name
    }

    /// The whole name without its joints, from its first word on.
    fn solid(&self) -> Vec<u8> {
        self.parts[..self.count].iter().rev().flat_map(|(start, end)| &self.lower[usize::from(*start)..usize::from(*end)]).copied().collect()
    }

    pub fn words(&self) -> impl Iterator<Item = &[u8]> {
        self.parts[..self.count].iter().map(|(start, end)| &self.lower[usize::from(*start)..usize::from(*end)])
    }
}

impl Words {
    pub fn add(&mut self, words: &str, sense: Sense) {
        for word in words.split_whitespace() {
            let known = self.senses.entry(word.to_lowercase().into_bytes().into()).or_default();
            *known = known.and(sense);
        }
    }

    pub fn add_harmless(&mut self, names: &str) {
        self.harmless.extend(names.split_whitespace().map(|name| name.as_bytes().into()));
    }

    pub fn sense(&self, word: &[u8]) -> Sense {
        if let Some(sense) = self.senses.get(word) {
            return *sense;
        }
        // `pgpassword`, `clientsecret`, `myapikey`, `tokens`: words that people write together.
        let ends = |end: &[u8]| word.len() > end.len() && word.ends_with(end);
        if [&b"password"[..], b"passwd", b"passwort", b"passphrase", b"kennwort", b"passcode"].into_iter().any(ends) {
            Sense::PASSWORD
        } else if [&b"secret"[..], b"token", b"apikey", b"accesskey", b"secretkey", b"privatekey", b"authkey", b"credential", b"credentials"]
            .into_iter()
            .any(ends)
        {
            Sense::SECRET
        } else {
            Sense::default()
        }
    }

    pub fn promise(&self, name: &[u8]) -> Promise {
        self.promise_of(&Name::of(name))
    }

    fn is_filler(&self, name: &[u8]) -> bool {
        Name::of(name).words().all(|word| self.sense(word).is(Sense::FILLER))
    }

    pub fn promise_of(&self, name: &Name) -> Promise {
        let mut head = Sense::default();
        let mut all = Sense::default();
        let mut count = 0;
        for word in name.words() {
            let sense = self.sense(word);
            if sense.is(Sense::FILLER) && !sense.is(Sense::KEY.and(Sense::SECRET)) {
                continue;
            }
            if count == 0 {
                head = sense;
            }
            count += 1;
            all = all.and(sense);
        }
        if all.is(Sense::PUBLIC) || head.is(Sense::PLAIN) || all.is(Sense::KEY.and(Sense::SECRET)) && self.harmless.contains(&name.solid()[..]) {
            Promise::Harmless
        } else if all.is(Sense::PASSWORD) {
            Promise::Password
        } else if all.is(Sense::PIN) {
            Promise::Pin
        } else if all.is(Sense::SECRET) || all.is(Sense::KEY) && all.is(Sense::OWNER.and(Sense::VENDOR)) {
            Promise::Secret
        } else if all.is(Sense::KEY) {
            Promise::Key
        } else if all.is(Sense::VENDOR) {
            Promise::Vendor
        } else {
            Promise::Nothing
        }
    }
}

/// What stands before a value: its name, and whether the value is assigned to it.
pub struct Before {
    pub promise: Promise,
    pub assigned: bool,
    /// The value is a parameter of a URL.
    pub query: bool,
    /// Where the name begins.
    pub start: usize,
}

/// How far back a name is looked for, and how far the words of a sentence before it count.
const BACK_BYTES_MAX: usize = 72;
const SIGNS_BYTES_MAX: usize = 48;

impl Words {
    /// Reads backwards from the value at `at`.
    pub fn before(&self, text: &[u8], at: usize) -> Before {
        let floor = at.saturating_sub(BACK_BYTES_MAX + SIGNS_BYTES_MAX);
        let mut assigned = false;
        let (mut end, mut lines) = (at, 0);
        // Quotes, brackets and signs between a name and its value.
        while end > floor && at - end < SIGNS_BYTES_MAX {
            // A line break that is written out.
            if end >= 2 && text[end - 2] == b'\\' && matches!(text[end - 1], b'n' | b'r' | b't') {
                end -= 2;
                continue;
            }
            match text[end - 1] {
                b'=' | b':' | b'>' | b',' | b'?' => assigned = true,
                b'|' if end > floor + 1 && text[end - 2] == b'|' => assigned = true,
                b'"' | b'\'' | b'`' | b'\\' | b' ' | b'\t' | b'(' | b'[' | b'{' | b']' | b')' | b'*' | b'+' | b'.' | b'-' | b'~' | b'^' | b'#' | b'/'
                | b'|' => {}
                // A value may stand on the line after its name.
                b'\n' | b'\r'
                    if lines < 2
                        && (assigned || end == at || text[end - 1..at].iter().all(|byte| byte.is_ascii_whitespace() || matches!(byte, b'"' | b'\''))) =>
                {
                    lines += usize::from(text[end - 1] == b'\n');
                }
                _ => break,
            }
            end -= 1;
        }
        let floor = end.saturating_sub(BACK_BYTES_MAX);
        let mut start = end;
        let mut wide = Promise::Nothing;
        let (mut names, mut first_start, mut first, mut key) = (0, start, start, (start, start));
        let mut query = false;
        // The nearest name decides; names before it, in the same phrase, may only add to a name that says nothing.
        while start > floor && names < 6 {
            let stop = start;
            while start > floor && (text[start - 1].is_ascii_alphanumeric() || matches!(text[start - 1], b'_' | b'-' | b'.' | b'$') || text[start - 1] >= 128) {
                start -= 1;
            }
            if start == stop {
                break;
            }
            names += 1;
            // Test suites shout it before each name.
            let mut promise = if &text[start..stop] == b"PASS" { Promise::Nothing } else { self.promise(&text[start..stop]) };
            if names == 1 {
                (first_start, first) = (start, stop);
                query = start > 0 && matches!(text[start - 1], b'?' | b'&' | b'#' | b';');
                if promise >= Promise::Key || promise == Promise::Harmless {
                    wide = promise;
                    if promise != Promise::Key {
                        break;
                    }
                    key = (start, stop);
                }
            }
            // `tracking api key`: the word before makes the key a secret one.
            let joined = wide == Promise::Key && stop + 1 == key.0 && text[key.0] != b'-';
            if joined {
                promise = self.promise(&text[start..key.1]);
            }
            if promise == Promise::Key {
                key = (start, stop);
            }
            // `name="authenticity_token" value="…"`: the key of the value says nothing, the name does.
            if names == 2 && wide == Promise::Nothing && promise == Promise::Harmless && self.is_filler(&text[first_start..first]) {
                wide = Promise::Harmless;
                break;
            }
            wide = match (wide, promise) {
                (Promise::Key, Promise::Secret) if joined => Promise::Secret,
                (Promise::Key, _) => Promise::Key,
                (Promise::Harmless, _) => Promise::Harmless,
                (wide, Promise::Harmless) => wide,
                (wide, promise) => wide.max(promise),
            };
            // What separates words of one phrase: blanks, and the quotes of an attribute (`key="X" value="..."`).
            let mut gap = 0;
            while start > floor && gap < 6 && matches!(text[start - 1], b' ' | b'\t' | b'"' | b'\'' | b'\\' | b':' | b'=' | b'`' | b'*' | b'(') {
                start -= 1;
                gap += 1;
            }
            if gap == 0 {
                break;
            }
        }
        Before { promise: wide, assigned, query, start }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words() -> Words {
        let mut words = Words::default();
        words.add("password pass pw", Sense::PASSWORD);
        words.add("secret token", Sense::SECRET);
        words.add("key", Sense::KEY);
        words.add("api access private", Sense::OWNER);
        words.add("hash id type", Sense::PLAIN);
        words.add("public", Sense::PUBLIC);
        words.add("mistral", Sense::VENDOR);
        words.add("string value is the", Sense::FILLER);
        words
    }

    #[test]
    fn a_name_promises_what_its_words_say() {
        for (name, promise) in [
            ("DB_PASSWORD", Promise::Password),
            ("PGPASSWORD", Promise::Password),
            ("password_hash", Promise::Harmless),
            ("secretAccessKey", Promise::Secret),
            ("apiKey2", Promise::Secret),
            ("APIKey", Promise::Secret),
            ("key", Promise::Key),
            ("publicKey", Promise::Harmless),
            ("token_type", Promise::Harmless),
            ("mistralKey", Promise::Secret),
            ("monkey", Promise::Nothing),
            ("", Promise::Nothing),
        ] {
            assert_eq!(words().promise(name.as_bytes()), promise, "{name}");
        }
    }

    #[test]
    fn the_name_before_a_value_is_found() {
        for (text, promise, assigned) in [
            ("mistral api key is ", Promise::Secret, false),
            ("var apiToken string = \"", Promise::Secret, true),
            ("setProperty(\"X_TOKEN\", \"", Promise::Secret, true),
            ("<xToken>\n    ", Promise::Secret, true),
            ("\"commit_id\": \"", Promise::Harmless, true),
            ("x", Promise::Nothing, false),
            ("", Promise::Nothing, false),
        ] {
            let before = words().before(text.as_bytes(), text.len());
            assert_eq!((before.promise, before.assigned), (promise, assigned), "{text}");
        }
    }
}
