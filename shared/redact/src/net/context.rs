//! Values that are secret because of where they stand: assignments of any language, flags, headers, sentences.
//!
//! A search for some fifty pieces of words finds the places; a small parser by hand reads the name around the piece and
//! the value after it. Long random values are left to `runs`, which looks from the value to the name; here are the
//! short ones, those with punctuation in them, and what people write to each other.

use super::Catch;
use super::LIVE_BYTES_MAX;
use super::names::Promise;
use super::rules::Form;
use super::value::{self, Looks};

/// A longer value is no password and no key of this kind.
const VALUE_BYTES_MAX: usize = 512;
/// Between a password's name and the password in a sentence.
const SENTENCE_BYTES_MAX: usize = 96;
const SENTENCE_WORDS_MAX: usize = 9;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Trigger {
    Name,
    Login,
    Code,
    Basic,
    Bearer,
    Cookie,
    Sql,
    SecureString,
    Command,
    Phrase,
    Pgpass,
}

/// A piece of a word, where in it its two rarest pairs of bytes begin (counted over documents, code and chats), and what
/// to do there. In lower case they are found in any case, otherwise only as they are. Of two that begin at one place the longer stands first.
const TRIGGERS: &[(&str, usize, Trigger)] = &[
    ("sshpass ", 1, Trigger::Command),
    ("pass", 1, Trigger::Name),
    ("pwd", 0, Trigger::Name),
    ("pw:", 0, Trigger::Name),
    ("pw=", 0, Trigger::Name),
    ("ecret", 0, Trigger::Name),
    ("oken", 0, Trigger::Name),
    ("key", 0, Trigger::Name),
    ("ennwort", 2, Trigger::Name),
    ("chlüssel", 3, Trigger::Name),
    ("pw =", 0, Trigger::Name),
    ("pw :", 0, Trigger::Name),
    ("PW ", 0, Trigger::Name),
    ("pw is", 0, Trigger::Name),
    ("contrase", 2, Trigger::Name),
    ("wachtwoord", 3, Trigger::Name),
    ("anmeld", 1, Trigger::Login),
    ("redential", 6, Trigger::Login),
    ("PIN", 0, Trigger::Name),
    ("PUK", 0, Trigger::Name),
    ("ogin", 0, Trigger::Login),
    ("zugang", 0, Trigger::Login),
    ("recovery code", 6, Trigger::Code),
    ("backup code", 3, Trigger::Code),
    ("gscode", 0, Trigger::Code),
    ("basic ", 3, Trigger::Basic),
    ("bearer ", 0, Trigger::Bearer),
    ("cookie", 2, Trigger::Cookie),
    ("identified by", 10, Trigger::Sql),
    ("securestring ", 2, Trigger::SecureString),
    ("curl", 1, Trigger::Command),
    ("mysql", 2, Trigger::Command),
    ("redis-cli", 4, Trigger::Command),
    ("docker login", 8, Trigger::Command),
    ("psexec", 2, Trigger::Command),
    ("phrase", 0, Trigger::Phrase),
    (":5432:", 0, Trigger::Pgpass),
];
/// Finds triggers by looking at four bytes at every second place only.
///
/// Of each trigger two windows of four bytes are known, one of which begins at an even place wherever the trigger stands;
/// what reaches beyond a short trigger may be anything. A small table says for the halves of a window which groups of
/// triggers have such a half. Both halves agree nowhere but at a trigger, nearly, so that the branch that follows is
/// foreseen; a vectorised search for as many short words spends most of its time on false starts.
pub struct Triggers {
    /// For the low bits of two bytes, a bit for each group that has them as its first half, and above it one for each that
    /// has them as its second. Small enough to stay at hand while text goes by.
    halves: Box<[u16; 1 << (LOW_BITS * 2)]>,
    groups: [Vec<Start>; GROUPS],
}

/// These tell letters and their cases apart, and most signs from letters.
const LOW_BITS: u32 = 6;
const GROUPS: usize = 8;
const WINDOW_BYTES: usize = 4;
const SMALL: u8 = 0x20;

/// A trigger, and how far in it one of its windows begins: one before it at the earliest.
struct Start {
    number: usize,
    offset: isize,
    /// The bytes of the window, all with the bit of small letters set, and which of them are the trigger's.
    bytes: u32,
    mask: u32,
}

/// The places in `Halves` of four pairs of bytes, sixteen bits each.
fn pairs(eight: [u8; 8]) -> u64 {
    let eight = u64::from_le_bytes(eight);
    eight & 0x003f_003f_003f_003f | eight >> (8 - LOW_BITS) & 0x0fc0_0fc0_0fc0_0fc0
}

impl Triggers {
    pub fn new() -> Triggers {
        let mut triggers = Triggers { halves: Box::new([0; 1 << (LOW_BITS * 2)]), groups: Default::default() };
        for (number, (word, rarest, _)) in TRIGGERS.iter().enumerate() {
            let last = word.len() as isize - WINDOW_BYTES as isize;
            for rarest in [*rarest as isize, *rarest as isize + 1] {
                // Without a place for the rarest pairs, as far in the word as there is one.
                let offset = (-1..=rarest).rev().step_by(2).find(|offset| *offset <= last).unwrap_or(if rarest % 2 == 0 { 0 } else { -1 });
                triggers.add(number, offset);
            }
        }
        triggers
    }

    fn add(&mut self, number: usize, offset: isize) {
        let word = TRIGGERS[number].0.as_bytes();
        let any_case = is_any_case(word);
        let group = number % GROUPS;
        let may_be = |at: isize, low: u8| {
            let Some(byte) = usize::try_from(offset + at).ok().and_then(|at| word.get(at)) else { return true };
            let is = |byte: u8| byte & ((1 << LOW_BITS) - 1) == low;
            is(*byte) || any_case && is(byte.to_ascii_uppercase())
        };
        for (from, bit) in [(0, group), (2, GROUPS + group)] {
            for low in (0..1u8 << LOW_BITS).filter(|low| may_be(from, *low)) {
                for high in (0..1u8 << LOW_BITS).filter(|high| may_be(from + 1, *high)) {
                    self.halves[usize::from(high) << LOW_BITS | usize::from(low)] |= 1 << bit;
                }
            }
        }
        let (mut bytes, mut mask) = ([0; WINDOW_BYTES], [0; WINDOW_BYTES]);
        for (at, (byte, mask)) in (offset..).zip(bytes.iter_mut().zip(&mut mask)) {
            if let Some(letter) = usize::try_from(at).ok().and_then(|at| word.get(at)) {
                (*byte, *mask) = (letter | SMALL, 0xff);
            }
        }
        self.groups[group].push(Start { number, offset, bytes: u32::from_le_bytes(bytes), mask: u32::from_le_bytes(mask) });
    }

    /// The groups of which a trigger may have a window at each of the four even places of `eight`; `next` comes behind it.
    fn groups_at(&self, eight: &[u8; 8], next: [u8; 2]) -> [u8; 4] {
        let pairs = pairs(*eight);
        let half = |pair: usize| self.halves[(pairs >> (pair * 16)) as usize & 0xfff];
        let [first, second, third, fourth] = [half(0), half(1), half(2), half(3)];
        let fifth = self.halves[usize::from(next[1] & 0x3f) << LOW_BITS | usize::from(next[0] & 0x3f)];
        [(first, second), (second, third), (third, fourth), (fourth, fifth)].map(|(first, second)| (first & second >> GROUPS) as u8)
    }

    /// The trigger of one of `groups` that has a window at `at`, and where it begins.
    fn find(&self, text: &[u8], at: usize, groups: u8) -> Option<(usize, usize, Trigger)> {
        let mut window = [0; WINDOW_BYTES];
        window.iter_mut().zip(&text[at..]).for_each(|(window, byte)| *window = byte | SMALL);
        let window = u32::from_le_bytes(window);
        let groups = (0..GROUPS).filter(|group| groups >> group & 1 == 1);
        let near = groups.flat_map(|group| &self.groups[group]).filter(|start| window & start.mask == start.bytes);
        near.into_iter().find_map(|start| {
            let first = at.checked_add_signed(-start.offset)?;
            let (word, _, trigger) = TRIGGERS[start.number];
            let word = word.as_bytes();
            let found = text.get(first..first.checked_add(word.len())?)?;
            (found == word || is_any_case(word) && found.eq_ignore_ascii_case(word)).then_some((first, first + word.len(), trigger))
        })
    }
}

fn is_any_case(word: &[u8]) -> bool {
    word.iter().all(|byte| !byte.is_ascii_uppercase())
}

pub fn scan(catch: &mut Catch) {
    let triggers = &catch.net.triggers;
    let text = catch.text.as_bytes();
    // INVARIANT: everything before `done` was read as part of a name.
    let mut done = 0;
    let mut hit = |place: usize, groups: [u8; 4]| {
        for (pair, groups) in groups.into_iter().enumerate() {
            if groups != 0
                && let Some((start, end, trigger)) = triggers.find(text, place + pair * 2, groups)
                && start >= done
            {
                done = at(catch, trigger, start, end).max(end);
            }
        }
    };
    let mut place = 0;
    let (eights, rest) = text.as_chunks::<8>();
    for eight in eights {
        // What is beyond the end is no byte of a trigger.
        let next = [text.get(place + 8).copied().unwrap_or(0), text.get(place + 9).copied().unwrap_or(0)];
        let groups = triggers.groups_at(eight, next);
        if u32::from_le_bytes(groups) != 0 {
            hit(place, groups);
        }
        place += 8;
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    hit(place, triggers.groups_at(&last, [0; 2]));
}

/// How far lines and commands were read that hold many values: reading them again from each of their own triggers would
/// take the square of their length.
#[derive(Default)]
pub struct Read {
    cookie: usize,
    commands: [usize; TAKERS.len()],
}

/// Every way from a trigger to a finding; answers how far the name goes.
fn at(catch: &mut Catch, trigger: Trigger, start: usize, end: usize) -> usize {
    match trigger {
        Trigger::Name => name(catch, start, end),
        Trigger::Login => login(catch, end),
        Trigger::Code => code(catch, end),
        Trigger::Basic => basic(catch, end),
        Trigger::Bearer => bearer(catch, end),
        Trigger::Cookie => cookie(catch, end),
        Trigger::Sql => sql(catch, end),
        Trigger::SecureString => secure_string(catch, end),
        Trigger::Command => command(catch, start, end),
        Trigger::Phrase => phrase(catch, end),
        Trigger::Pgpass => pgpass(catch, start, end),
    }
}

fn in_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'$') || byte >= 128
}

/// Where a value sits as seen from its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seat {
    /// `name = value`, `"name": "value"`, `name=value&…`
    Assigned { query: bool, compared: bool },
    /// `name("value")`, `("name", "value")`: only a literal counts.
    Argument,
    /// `--name value`
    Flag,
    /// `<name>value</name>`
    Tag,
    /// A sentence goes on.
    Spoken,
}

fn name(catch: &mut Catch, start: usize, end: usize) -> usize {
    let net = catch.net;
    let text = catch.text.as_bytes();
    // Two letters are a name only by themselves.
    if text[start..end].len() <= 4
        && text[start..start + 2].eq_ignore_ascii_case(b"pw")
        && text[start + 2] != b'd'
        && start > 0
        && text[start - 1].is_ascii_alphanumeric()
    {
        return end;
    }
    let mut first = start;
    while first > 0 && start - first < 64 && (in_name(text[first - 1]) || text[first - 1] == b'.') {
        first -= 1;
    }
    let mut last = end;
    while !in_name(text[last - 1]) {
        last -= 1;
    }
    while last < text.len() && last - start < 64 && (in_name(text[last]) || text[last] == b'.' && text.get(last + 1).is_some_and(|byte| in_name(*byte))) {
        last += 1;
    }
    // A name that is cut at its length may be cut within a character.
    (first, last) = (catch.text.ceil_char_boundary(first), catch.text.floor_char_boundary(last));
    // A command line's flag is not part of the name; an escape before it (`\nPASSWORD`) is not either.
    let mut flag = first;
    while flag < last && text[flag] == b'-' {
        flag += 1;
    }
    let dashes = if first == 0 || text[first - 1].is_ascii_whitespace() || matches!(text[first - 1], b'"' | b'\'' | b'`' | b'(' | b',' | b'[') {
        flag - first
    } else {
        0
    };
    if flag == first && first > 0 && text[first - 1] == b'\\' && first + 1 < start && matches!(text[first], b'n' | b'r' | b't') {
        flag = first + 1;
    }
    // Inside of base64 everything stands that is short.
    let wide = flag - text[..flag].iter().rev().take(40).take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/')).count();
    if last - wide >= 16
        && (Looks::of(&text[flag..last]).is_random()
            || flag - wide >= 12 && text[wide..flag].iter().any(|byte| matches!(byte, b'+' | b'/')) && Looks::of(&text[wide..last]).is_random())
    {
        return end;
    }
    let mut promise = net.rules.words.promise(&text[flag..last]);
    if promise == Promise::Key {
        // `api key`, `license key`: the word before may make it a secret one.
        let before = net.rules.words.before(text, last);
        promise = before.promise;
    }
    if !matches!(promise, Promise::Secret | Promise::Password | Promise::Pin) {
        return last;
    }
    let seat = seat(text, first, last, dashes);
    let Some((seat, from)) = seat else {
        told_before(catch, promise, first);
        return last;
    };
    if seat == Seat::Spoken {
        let verb = text[flag..last].eq_ignore_ascii_case(b"pass") || text[flag..last].ends_with(b"_pass") || text[flag..last].ends_with(b"-pass");
        match promise {
            _ if from == last => told_before(catch, promise, first),
            // `$PASSWORD` in a command is not a word of a sentence.
            _ if verb || text[first] == b'$' || first > 0 && text[first - 1] == b'{' => {}
            Promise::Secret => spoken_secret(catch, last),
            _ => spoken(catch, promise, first, last),
        }
        return last;
    }
    let Some(literal) = literal(text, from, seat) else {
        told_before(catch, promise, first);
        return last;
    };
    // What test suites print.
    let verdict = matches!(&text[flag..last], b"PASS" | b"Pass" | b"pass") && !literal.quoted && text[from - 1] == b':';
    if verdict && &text[flag..last] == b"PASS" {
        return last;
    }
    if verdict && !catch.text.get(literal.start..literal.end).is_some_and(|shown| Looks::of(shown.as_bytes()).mark > 0 || is_told(shown, false, false, 0)) {
        return last;
    }
    if seat == Seat::Tag
        && !text[literal.end..].starts_with(b"</")
        && !text[literal.end..].starts_with(b"<\\/")
        && !text[literal.end..].trim_ascii_start().starts_with(b"</")
    {
        return last;
    }
    if literal.start < literal.end && assigned(catch, promise, seat, &literal) {
        return literal.end.max(last);
    }
    // `password for the wifi: …`, `PASSWORD: see below`: perhaps the sentence goes on.
    if matches!(seat, Seat::Assigned { query: false, .. }) && !literal.quoted && promise != Promise::Secret {
        spoken(catch, promise, first, from);
    } else {
        told_before(catch, promise, first);
    }
    last
}

/// Reads what stands between a name and its value.
fn seat(text: &[u8], first: usize, last: usize, dashes: usize) -> Option<(Seat, usize)> {
    let mut at = last;
    let mut quoted = false;
    while at < text.len() && at - last < 8 && matches!(text[at], b'"' | b'\'' | b'`' | b'\\' | b']' | b')' | b'*') {
        if text[at] == b'\\' && matches!(text.get(at + 1), Some(b'n' | b'r' | b't')) {
            return None;
        }
        quoted |= matches!(text[at], b'"' | b'\'' | b'`');
        at += 1;
    }
    let gap = blanks(text, at);
    at += gap;
    let query = first > 0 && matches!(text[first - 1], b'?' | b'&');
    let assigned = |compared| Seat::Assigned { query, compared };
    let rest = &text[at..];
    let sign = |count: usize| at + count;
    match rest {
        [b'=', b'=', ..] => Some((assigned(true), at + rest.iter().take_while(|byte| **byte == b'=').count())),
        [b'!', b'=', ..] => Some((assigned(true), at + 1 + rest[1..].iter().take_while(|byte| **byte == b'=').count())),
        [b'=', b'>', ..] | [b'-', b'>', ..] | [b'=', b'~', ..] => Some((assigned(false), sign(2))),
        [b'=', ..] => Some((assigned(false), sign(1))),
        [b':', b':', next, ..] if *next != b'=' && *next != b':' => None,
        [b':', ..] => Some((assigned(false), at + rest.iter().take_while(|byte| matches!(**byte, b':' | b'=')).count())),
        [b'?' | b'.' | b'+' | b'|', b'=', ..] => Some((assigned(false), sign(2))),
        [b'|', b'|', b'=', ..] => Some((assigned(false), sign(3))),
        [0xe2, 0x86, 0x92, ..] => Some((assigned(false), sign(3))),
        [b',', ..] if quoted => {
            let next = at + 1 + blanks(text, at + 1);
            // `"name": "x", "value": "…"`
            let is_path = first > 0 && text[first - 1] == b'/';
            value_key(text, next).map(|value| (assigned(false), value)).or_else(|| (!is_path).then_some((Seat::Argument, at + 1)))
        }
        [b'(', ..] if gap == 0 => Some((Seat::Argument, sign(1))),
        [b'>', ..] if first > 0 && text[first - 1] == b'<' => Some((Seat::Tag, sign(1))),
        _ => {
            if first > 0 && text[first - 1] == b'<' && gap > 0 {
                let close = rest.iter().take(80).position(|byte| matches!(byte, b'>' | b'\n'))?;
                return (rest[close] == b'>').then_some((Seat::Tag, at + close + 1));
            }
            if let Some(value) = value_key(text, at) {
                return Some((assigned(false), value));
            }
            let line = rest.first().is_some_and(|byte| matches!(byte, b'\n' | b'\r'));
            if line {
                // `name: X` and `value: …` on the next line, as in manifests of Kubernetes.
                let next = at + rest.iter().take(64).take_while(|byte| byte.is_ascii_whitespace()).count();
                return value_key(text, next).map(|value| (assigned(false), value));
            }
            if dashes > 0 && gap > 0 {
                return Some((Seat::Flag, at));
            }
            let goes_on =
                gap > 0 || rest.first().is_none_or(|byte| matches!(byte, b'.' | b',' | b';' | b'!' | b'?' | b')' | b'"' | b'\'' | b'*' | b'`' | b'\\'));
            goes_on.then_some((Seat::Spoken, at))
        }
    }
}

/// `value=`, `"value":`, `content =`: the value's own key after the key that names it. Answers where the value begins.
fn value_key(text: &[u8], at: usize) -> Option<usize> {
    let mut at = at;
    while at < text.len() && matches!(text[at], b'"' | b'\'' | b'\\') {
        at += 1;
    }
    let word = [&b"value"[..], b"content", b"default", b"Value", b"val", b"password"].into_iter().find(|word| text[at..].starts_with(word))?;
    at += word.len();
    while at < text.len() && matches!(text[at], b'"' | b'\'' | b'\\' | b' ') {
        at += 1;
    }
    matches!(text.get(at), Some(b'=' | b':')).then_some(at + 1)
}

fn blanks(text: &[u8], at: usize) -> usize {
    text[at.min(text.len())..].iter().take(40).take_while(|byte| matches!(**byte, b' ' | b'\t')).count()
}

struct Literal {
    start: usize,
    end: usize,
    quoted: bool,
}

/// The value that begins at `from` or after what may stand before one.
fn literal(text: &[u8], from: usize, seat: Seat) -> Option<Literal> {
    let mut at = from + blanks(text, from);
    let breaks = text[at..].iter().take(48).take_while(|byte| byte.is_ascii_whitespace()).count();
    if breaks > 0 && (seat == Seat::Tag || matches!(text.get(at + breaks), Some(b'"' | b'\''))) {
        at += breaks;
    }
    let mut wrapped = false;
    for _ in 0..3 {
        if let Some(open) = quote(text, at) {
            let start = at + open;
            let end = closing(text, start, &text[at..at + open])?;
            return Some(Literal { start, end, quoted: true });
        }
        // `b"…"`, `new SecretString("…")`, `string = "…"`, `process.env.X || "…"`
        let word = text[at..]
            .iter()
            .take(80)
            .take_while(|byte| byte.is_ascii_alphanumeric() || matches!(**byte, b'_' | b'.' | b':' | b'&' | b'<' | b'>' | b'?' | b'!' | b'@'))
            .count();
        let next = at + word + blanks(text, at + word);
        let skip = match &text[next.min(text.len())..] {
            [b'(', ..] if word > 0 => 1,
            [b'|', b'|', ..] | [b'?', b'?', ..] if word > 0 => 2,
            [b'=', other, ..] if word > 0 && *other != b'=' && matches!(seat, Seat::Assigned { .. }) && next > at + word => 1,
            [b'"' | b'\'', ..] if word == 1 && next == at + word => 0,
            _ if text[at..].starts_with(b"new ") => {
                at += 4;
                continue;
            }
            _ if text[at..].starts_with(b"!!str ") => {
                at += 6;
                continue;
            }
            _ => break,
        };
        let reads = [
            &b"env"[..],
            b"environ",
            b"getenv",
            b"get",
            b"config",
            b"ENV",
            b"require",
            b"import",
            b"read",
            b"argument",
            b"option",
            b"field",
            b"prompt",
            b"input",
        ];
        let callee = &text[at..at + word];
        wrapped = true;
        at = next + skip + blanks(text, next + skip);
        if skip == 1 && text[next] == b'(' && reads.iter().any(|word| callee.ends_with(word) || callee.windows(word.len()).any(|part| part == *word)) {
            // The first argument is a name, the second may be what to take instead.
            let open = quote(text, at)?;
            let end = closing(text, at + open, &text[at..at + open])?;
            at = end + open + blanks(text, end + open);
            if text.get(at) != Some(&b',') {
                return None;
            }
            at += 1 + blanks(text, at + 1);
        }
    }
    if seat == Seat::Argument || wrapped {
        return None;
    }
    let query = matches!(seat, Seat::Assigned { query: true, .. });
    let ends = |at: usize| match text[at] {
        byte if byte.is_ascii_whitespace() => true,
        b'"' | b'`' | b';' => true,
        b'\'' => at > from,
        b'<' => seat == Seat::Tag || at > from,
        b'&' | b'#' => query,
        b'\\' => matches!(text.get(at + 1), None | Some(b'n' | b'r' | b't' | b'"' | b'\\')),
        b',' => text.get(at + 1).is_none_or(|next| next.is_ascii_whitespace() || matches!(next, b'"' | b'\'')),
        _ => false,
    };
    let start = at;
    let mut end = at;
    while end < text.len() && end - start < VALUE_BYTES_MAX && !ends(end) {
        end += 1;
    }
    // A tag's text may hold an ampersand; a bracket that was not opened inside closes something outside.
    while end > start {
        let open = |sign: u8| text[start..end].iter().filter(|byte| **byte == sign).count();
        match text[end - 1] {
            b')' if open(b'(') < open(b')') => end -= 1,
            b'}' if open(b'{') < open(b'}') => end -= 1,
            b']' if open(b'[') < open(b']') => end -= 1,
            b',' | b'\'' => end -= 1,
            _ => break,
        }
    }
    Some(Literal { start, end, quoted: seat == Seat::Tag })
}

/// The length of an opening quote at `at`, with its escapes.
fn quote(text: &[u8], at: usize) -> Option<usize> {
    let escapes = text[at.min(text.len())..].iter().take(7).take_while(|byte| **byte == b'\\').count();
    match text.get(at + escapes..)? {
        [b'"', b'"', b'"', ..] if escapes == 0 => Some(3),
        [b'"' | b'\'' | b'`', ..] => Some(escapes + 1),
        [0xe2, 0x80, 0x9c | 0x9e, ..] if escapes == 0 => Some(3),
        _ => None,
    }
}

fn closing(text: &[u8], start: usize, open: &[u8]) -> Option<usize> {
    let curly = open.first() == Some(&0xe2);
    let mut at = start;
    while at < text.len() && at - start < VALUE_BYTES_MAX {
        if text[at] == b'\n' && open.len() < 3 {
            return None;
        }
        if curly && text[at..].starts_with(&[0xe2, 0x80]) || !curly && text[at..].starts_with(open) {
            return Some(at);
        }
        // A quote inside that is escaped once more than the outer ones.
        at += if open.len() == 1 && text[at] == b'\\' && at + 1 < text.len() { 2 } else { 1 };
    }
    (at >= text.len()).then_some(text.len())
}

/// Judges a value that was given to a name.
fn assigned(catch: &mut Catch, promise: Promise, seat: Seat, literal: &Literal) -> bool {
    let Some(shown) = catch.text.get(literal.start..literal.end) else { return false };
    // An unquoted value may be an address with its own secrets in it, or a list; those are read elsewhere.
    if value::is_plain(shown) || shown.starts_with(['-', '\\', '@']) || shown.starts_with("0x") && shown.len() <= 18 {
        return false;
    }
    let looks = Looks::of(shown.as_bytes());
    // A literal full of marks only looks like a call.
    let code = value::is_code(shown) && !(literal.quoted && looks.digit >= 2 && looks.mark >= 3 && looks.len >= 16);
    let parts = shown.split(':').count();
    if value::is_cut(&catch.text.as_bytes()[literal.end..]) || parts > 2 && shown.bytes().take_while(|byte| *byte != b':').all(|byte| byte.is_ascii_lowercase())
    {
        return false;
    }
    let compared = matches!(seat, Seat::Assigned { compared: true, .. });
    if !literal.quoted
        && shown.contains(['(', ')', '[', ']', '{', '}', '<', '>', '|', '*', '&', ','])
        && promise != Promise::Password
        && (looks.wording * 3 >= looks.len || looks.len < 20 || looks.mark < 4)
    {
        return false;
    }
    let spaced = shown.bytes().any(|byte| byte == b' ');
    if spaced || code && !literal.quoted || compared && !literal.quoted {
        return false;
    }
    let form = match promise {
        Promise::Password => {
            let sure = literal.quoted || seat != Seat::Flag && looks.digit > 0;
            let chosen = !code && (looks.is_random() && looks.len >= 8 || value::is_password(shown, sure));
            chosen.then_some(Form::AssignedPassword)
        }
        Promise::Pin => {
            let counted = matches!(shown, "1234" | "12345" | "123456" | "0000" | "000000" | "1111" | "4321");
            (looks.digit == looks.len && (4..=10).contains(&looks.len) && !compared && !counted).then_some(Form::Pin)
        }
        _ => {
            let mixed = looks.digit >= 2
                && looks.letters() >= 3
                && looks.len >= 10
                && (looks.surprise >= 4.6 || looks.mark >= 2)
                && !value::is_numbered_name(shown, &looks);
            let marked = looks.mark >= 3 && looks.len >= 16 && looks.distinct >= 10 && looks.other == 0 && !code;
            let drawn = looks.len >= 8 && !looks.is_monotone() && (looks.is_random() && looks.len >= 12 || mixed || marked) && !(code && looks.mark > 0);
            drawn.then_some(Form::AssignedSecret)
        }
    };
    // Last, because it takes longest.
    form.is_some_and(|form| !shown.contains("://") && !value::is_placeholder(shown) && catch.form(form, literal.start, literal.end))
}

/// One word of a sentence, freed of quotes, brackets and the sentence's own punctuation.
fn bare(text: &str, start: usize, end: usize) -> (usize, usize, bool) {
    let bytes = text.as_bytes();
    let (mut start, mut end) = (start, end);
    let mut quoted = false;
    while start < end && matches!(bytes[start], b'"' | b'\'' | b'`' | b'(' | b'*' | b'_' | b'[' | b'\\') {
        if bytes[start] == b'*' && end - start > 2 && bytes[start + 1] != b'*' && bytes[end - 1] != b'*' {
            break;
        }
        quoted |= matches!(bytes[start], b'"' | b'\'' | b'`' | b'*');
        start += 1;
    }
    while end > start && matches!(bytes[end - 1], b'"' | b'\'' | b'`' | b')' | b']' | b',' | b'.' | b';' | b':' | b'*' | b'\\' | b'_') {
        if bytes[end - 1] == b'*' && !quoted {
            break;
        }
        end -= 1;
    }
    // An exclamation mark after letters only ends the sentence; after a digit it may be the password's.
    while end > start && matches!(bytes[end - 1], b'!' | b'?') && !bytes[start..end].iter().any(u8::is_ascii_digit) {
        end -= 1;
    }
    for (open, close) in [("„", "“"), ("“", "”"), ("‚", "‘"), ("‘", "’"), ("»", "«"), ("«", "»")] {
        if text[start..end].starts_with(open) {
            start += open.len();
            quoted = true;
            if let Some(at) = text[start..end].rfind(close) {
                end = start + at;
            }
        }
    }
    (start, end, quoted)
}

/// The words after `at` in the same line; written-out line breaks (`\n`) end one, too.
fn words(text: &str, at: usize) -> impl Iterator<Item = (usize, usize)> {
    let bytes = text.as_bytes();
    let limit = text.floor_char_boundary((at + SENTENCE_BYTES_MAX + VALUE_BYTES_MAX).min(text.len()));
    let mut next = at;
    std::iter::from_fn(move || {
        while next < limit && matches!(bytes[next], b' ' | b'\t') {
            next += 1;
        }
        if next >= limit || next - at > SENTENCE_BYTES_MAX || bytes[next] < b' ' || starts_break(&bytes[next..]) {
            return None;
        }
        let start = next;
        while next < limit && bytes[next] > b' ' && !starts_break(&bytes[next..]) {
            next += 1;
        }
        Some((start, next))
    })
}

fn starts_break(text: &[u8]) -> bool {
    // A quote before a sign of JSON ends the string that the sentence stands in.
    matches!(text, [b'\\', b'n' | b'r' | b't', ..] | [b'\\', b'"', ..] | [b'"', b',' | b'}' | b']' | b':', ..])
}

const LINKS: &[&str] = &[
    "is", "ist", "was", "war", "lautet", "lautete", "heißt", "heisst", "=", ":", "->", "=>", "→", "-", "–", "to", "auf", "be", "sei", "remains", "bleibt",
    "wird", "now", "jetzt", "est", "es", "are", "sind", "lauten", "und", "and", "zu",
];

fn is_link(word: &str) -> bool {
    word.len() <= 8 && LINKS.iter().any(|link| link.eq_ignore_ascii_case(word))
}

/// `my password is …`, `das Passwort für den Server lautet …`, `use … as the admin password`.
fn spoken(catch: &mut Catch, promise: Promise, first: usize, last: usize) {
    let text = catch.text;
    let mut linked =
        text.as_bytes()[first.min(last)..last].ends_with(b":") || text.as_bytes()[first.min(last)..last].ends_with(b"=") || user_before(text, first);
    for (count, (start, end)) in words(text, last).take(SENTENCE_WORDS_MAX).enumerate() {
        let word = &text[start..end];
        if is_link(word) {
            linked = true;
            continue;
        }
        let ends_clause = word.ends_with(':') || word.ends_with('=');
        let (from, to, quoted) = bare(text, start, end);
        let shown = &text[from..to];
        if promise == Promise::Pin {
            if (linked || count == 0) && (4..=10).contains(&shown.len()) && shown.bytes().all(|byte| byte.is_ascii_digit()) {
                catch.form(Form::Pin, from, to);
                return;
            }
        } else if is_told(shown, linked, quoted, count) {
            catch.form(Form::SpokenPassword, from, to);
            return;
        }
        linked |= ends_clause;
        let plain = shown.chars().all(|letter| letter.is_alphabetic() || matches!(letter, '-' | '\'' | '’' | '&' | '/'));
        if !plain || word.ends_with(['.', '!', '?', ';']) || ends_clause && count > 5 {
            break;
        }
    }
    told_before(catch, promise, first);
}

/// `user bob password …`, `ENV X_PASSWORD …`: the words before say that a value follows.
fn user_before(text: &str, first: usize) -> bool {
    let before = &text.as_bytes()[first.saturating_sub(48)..first];
    let line = before.iter().rposition(|byte| *byte == b'\n').map_or(before, |at| &before[at + 1..]);
    let has = |word: &[u8]| line.windows(word.len()).any(|part| part.eq_ignore_ascii_case(word));
    [&b"user"[..], b"benutzer", b"login ", b"nutzer", b"account"].into_iter().any(has) || line.trim_ascii() == b"ENV"
}

/// Whether a word of a sentence is the password that the sentence speaks of.
fn is_told(shown: &str, linked: bool, quoted: bool, count: usize) -> bool {
    if shown.len() < 5
        || value::is_plain(shown)
        || shown.starts_with(['-', '\\'])
        || shown.bytes().any(|byte| matches!(byte, b'`' | b'{' | b'}' | b'<' | b'>' | b'"' | b';') || byte == b'/' && !quoted && !linked)
    {
        return false;
    }
    may_be_told(shown, linked, quoted, count)
        && !value::is_name(shown)
        && !value::is_placeholder(shown)
        && !value::is_code(shown)
        && !shown.contains("://")
        && !is_mail(shown)
}

/// As far as its letters tell.
fn may_be_told(shown: &str, linked: bool, quoted: bool, count: usize) -> bool {
    let looks = Looks::of(shown.as_bytes());
    if looks.digit + looks.joint == looks.len {
        return false;
    }
    let commit = looks.is_hex() && looks.upper == 0 && looks.joint == 0 && !quoted && count > 1;
    if linked || quoted && count == 0 {
        return !commit && value::is_password(shown, quoted) && (looks.digit > 0 || looks.mark > 0 || looks.upper > 0 && looks.lower > 0 || looks.joint >= 3);
    }
    let issue = shown
        .split_once('#')
        .is_some_and(|(word, number)| word.bytes().all(|byte| byte.is_ascii_alphabetic()) && number.bytes().all(|byte| byte.is_ascii_digit()));
    if issue || looks.is_hex() && looks.upper == 0 && looks.joint == 0 {
        return false;
    }
    let mixed = looks.digit > 0 && looks.letters() > 2 && (looks.mark > 0 || looks.upper > 0 && looks.lower > 0 && looks.turns >= 3);
    let chosen = looks.digit >= 2 && looks.lower >= 3 && looks.len >= 8 && looks.joint == 0;
    count == 0 && value::is_password(shown, false) && (mixed || chosen || looks.joint >= 3 && looks.digit == 0 || looks.is_random() && looks.len >= 8)
        || count < 3 && looks.len >= 8 && mixed && looks.surprise >= 4.5 && value::is_password(shown, false)
}

fn is_mail(shown: &str) -> bool {
    shown.split_once('@').is_some_and(|(user, host)| {
        !user.is_empty() && host.contains('.') && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-'))
    })
}

/// `use X as the admin password`, `X ist das Passwort`: the password stood before its name.
fn told_before(catch: &mut Catch, promise: Promise, first: usize) {
    if promise != Promise::Password {
        return;
    }
    let text = catch.text;
    let floor = text.ceil_char_boundary(first.saturating_sub(SENTENCE_BYTES_MAX));
    let before = &text[floor..first];
    let before = before.rsplit('\n').next().unwrap_or(before);
    let offset = first - before.len();
    let mut back = before.split_whitespace().rev().take(5);
    let link = back.by_ref().find(|word| matches!(*word, "as" | "als" | "is" | "ist" | "for" | "für"));
    let Some(word) = back.next() else { return };
    let verb = back.next().map(str::to_lowercase);
    let given = matches!(verb.as_deref(), Some("use" | "take" | "try" | "enter" | "set" | "nimm" | "verwende" | "nutze" | "benutze"));
    if !(matches!(link, Some("as" | "als" | "is" | "ist")) || given && matches!(link, Some("for" | "für"))) {
        return;
    }
    let start = offset + (word.as_ptr() as usize - before.as_ptr() as usize);
    let (from, to, quoted) = bare(text, start, start + word.len());
    let shown = &text[from..to];
    let looks = Looks::of(shown.as_bytes());
    if is_told(shown, true, quoted, 0) && (looks.digit > 0 || looks.mark > 0) {
        catch.form(Form::SpokenPassword, from, to);
    }
}

/// `my api key is …`, where the key is too short or too odd for `runs`.
fn spoken_secret(catch: &mut Catch, last: usize) {
    let text = catch.text;
    let mut linked = false;
    for (start, end) in words(text, last).take(4) {
        let word = &text[start..end];
        if is_link(word) {
            linked = true;
            continue;
        }
        let (from, to, _) = bare(text, start, end);
        let shown = &text[from..to];
        let looks = Looks::of(shown.as_bytes());
        if word.contains('\\') {
            break;
        }
        if looks.len >= 10
            && looks.digit >= 2
            && looks.letters() >= 3
            && looks.other == 0
            && looks.is_random()
            && !value::is_placeholder(shown)
            && !value::is_code(shown)
            && !value::is_name(shown)
            && !shown.starts_with('-')
            && !shown.contains(['`', '{', '}', '<', '>', '(', ')', '[', ']', ';', '"', ',', '\\'])
            && !is_mail(shown)
            && !shown.contains('/')
            && (linked || looks.turns >= 5 && !looks.is_hex())
        {
            catch.form(Form::AssignedSecret, from, to);
            return;
        }
        linked |= word.ends_with(':');
    }
}

/// `login with bob / …`, `Zugang: admin / …`
fn login(catch: &mut Catch, end: usize) -> usize {
    let text = catch.text;
    let bytes = text.as_bytes();
    let mut last = end;
    while last < bytes.len() && in_name(bytes[last]) {
        last += 1;
    }
    let mut seen: Option<&str> = None;
    for (start, stop) in words(text, text.ceil_char_boundary(last)).take(7) {
        let word = &text[start..stop];
        if matches!(word, "/" | "|") && seen.is_some() {
            if let Some((start, stop)) = words(text, stop).next() {
                let (from, to, quoted) = bare(text, start, stop);
                if is_told(&text[from..to], true, quoted, 0) {
                    catch.form(Form::SpokenPassword, from, to);
                }
            }
            return end;
        }
        if let Some((user, _)) =
            word.split_once('/').or_else(|| word.split_once(':')).filter(|(user, rest)| !user.is_empty() && rest.len() > 4 && !rest.contains('/'))
        {
            let (from, to, quoted) = bare(text, start + user.len() + 1, stop);
            let user_is_name = user.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'@'));
            let looks = Looks::of(&bytes[from..to]);
            if user_is_name && looks.digit > 0 && (looks.mark > 0 || looks.upper > 0) && is_told(&text[from..to], true, quoted, 0) {
                catch.form(Form::SpokenPassword, from, to);
                return end;
            }
        }
        seen = Some(word);
    }
    end
}

/// `recovery code: …`, `Zugangscode …`
fn code(catch: &mut Catch, end: usize) -> usize {
    let text = catch.text;
    let mut last = end;
    while text.as_bytes().get(last).is_some_and(|byte| in_name(*byte)) {
        last += 1;
    }
    let mut linked = false;
    for (start, end) in words(text, text.ceil_char_boundary(last)).take(5) {
        let word = &text[start..end];
        if is_link(word) {
            linked = true;
            continue;
        }
        let (from, to, _) = bare(text, start, end);
        let (from, shown) = match text[from..to].strip_prefix(':') {
            Some(rest) => (from + 1, rest),
            None => (from, &text[from..to]),
        };
        let looks = Looks::of(shown.as_bytes());
        let digits = looks.digit == looks.len && (6..=10).contains(&looks.len);
        let letters = looks.digit > 0
            && looks.letters() > 0
            && looks.len >= 8
            && looks.mark + looks.other == 0
            && !value::is_code(shown)
            && !value::is_name(shown)
            && (looks.joint > 0 || looks.turns > 2)
            && shown.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if (digits && linked || letters && !shown.contains(['/', '='])) && !value::is_placeholder(shown) {
            catch.form(Form::Pin, from, to);
            return last;
        }
        linked |= word.ends_with(':');
        if !linked && word.bytes().any(|byte| byte.is_ascii_digit()) {
            break;
        }
    }
    last
}

/// `Basic dXNlcjpwYXNz`: base64 of a name, a colon and a password.
fn basic(catch: &mut Catch, end: usize) -> usize {
    let text = catch.text.as_bytes();
    let body =
        text[end..].iter().take(VALUE_BYTES_MAX).take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=' | b'-' | b'_')).count();
    if body < 8 {
        return end;
    }
    let decoded = base64(&text[end..end + body]);
    let colon = decoded.iter().position(|byte| *byte == b':');
    let shown = std::str::from_utf8(&decoded).unwrap_or("");
    let password = colon.map_or("", |colon| shown.get(colon + 1..).unwrap_or(""));
    let other = decoded.iter().filter(|byte| **byte < b' ' || **byte > b'~').count();
    let fills = ["password", "pass", "secret"].contains(&password);
    if colon.is_some() && other == 0 && !fills && !(password.is_empty() && colon == Some(0)) && (password.is_empty() || !value::is_placeholder(password)) {
        catch.form(Form::BasicAuthorization, end, end + body);
    }
    end
}

fn base64(text: &[u8]) -> Vec<u8> {
    let (mut bits, mut count) = (0u32, 0);
    let mut done = Vec::with_capacity(text.len() * 3 / 4);
    for byte in text.iter().take_while(|byte| **byte != b'=') {
        bits = bits << 6 | u32::from(crate::decode::sextet(*byte));
        count += 6;
        if count >= 8 {
            count -= 8;
            done.push((bits >> count) as u8);
        }
    }
    done
}

/// `Bearer …`, also where the token is too short for `runs`.
fn bearer(catch: &mut Catch, end: usize) -> usize {
    let text = catch.text;
    let bytes = text.as_bytes();
    let start = end + blanks(bytes, end);
    let body = bytes[start..]
        .iter()
        .take(4096)
        .take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=' | b'-' | b'_' | b'.' | b'~' | b'|' | b':'))
        .count();
    let shown = text[start..start + body].trim_end_matches(['.', ':']);
    let looks = Looks::of(shown.as_bytes());
    let mixed = looks.digit >= 2 && looks.letters() >= 3 && looks.surprise >= 4.6;
    if looks.len >= 10 && !looks.is_monotone() && (looks.is_random() || mixed) && !value::is_placeholder(shown) && !value::is_code(shown) {
        catch.form(Form::Authorization, start, start + shown.len());
    }
    end
}

/// `Cookie: session=…; theme=dark`: pairs whose value is random or whose name is a session's.
fn cookie(catch: &mut Catch, end: usize) -> usize {
    let text = catch.text.as_bytes();
    // What lies in the line of another cookie was read as a part of it.
    if end <= catch.read.cookie {
        return end;
    }
    let mut at = end;
    while at < text.len() && at - end < 6 && matches!(text[at], b'"' | b'\'' | b'\\' | b' ' | b':' | b's' | b'=') {
        at += 1;
    }
    if at == end || !text[end..at].iter().any(|byte| matches!(byte, b':' | b'=')) {
        return end;
    }
    let line = text[at..].iter().take(4096).take_while(|byte| **byte >= b' ' && !matches!(**byte, b'"' | b'\'')).count();
    let stop = at + line;
    catch.read.cookie = stop;
    while at < stop {
        let pair = text[at..stop].iter().position(|byte| matches!(byte, b';' | b',')).map_or(stop, |end| at + end);
        if let Some(equals) = text[at..pair].iter().position(|byte| *byte == b'=') {
            let name = text[at..at + equals].to_ascii_lowercase();
            let start = at + equals + 1;
            let looks = Looks::of(&text[start..pair]);
            let session =
                [&b"sess"[..], b"sid", b"auth", b"token", b"jwt", b"remember", b"login"].iter().any(|word| name.windows(word.len()).any(|part| part == *word));
            let enough = if session { looks.len >= 12 && (looks.is_random() || looks.digit >= 3 && looks.len >= 16) } else { looks.is_surely_random() };
            let shown = std::str::from_utf8(&text[start..pair]).unwrap_or("");
            if enough && !value::is_placeholder(shown) && !looks.is_monotone() {
                catch.form(Form::Cookie, start, pair);
            }
        }
        at = pair + 1;
    }
    end
}

/// `IDENTIFIED BY '…'`
fn sql(catch: &mut Catch, end: usize) -> usize {
    let text = catch.text.as_bytes();
    let mut at = end + blanks(text, end);
    if text[at..].starts_with(b"PASSWORD") || text[at..].starts_with(b"password") {
        at += 8 + blanks(text, at + 8);
    }
    let loud = text[..end].ends_with(b"BY");
    if let Some(open) = quote(text, at)
        && text[at] != b'`'
        && let Some(close) = closing(text, at + open, &text[at..at + open])
        && let Some(shown) = catch.text.get(at + open..close)
        && shown.len() >= 4
        && !value::is_placeholder(shown)
        && (loud || value::is_password(shown, true) && !value::is_name(shown))
    {
        catch.form(Form::AssignedPassword, at + open, close);
    }
    end
}

/// `ConvertTo-SecureString -String "…" -AsPlainText`
fn secure_string(catch: &mut Catch, end: usize) -> usize {
    let text = catch.text.as_bytes();
    let mut at = end + blanks(text, end);
    for _ in 0..4 {
        let Some((from, to)) = argument(text, at) else { break };
        let Some(shown) = catch.text.get(from..to) else { break };
        if !shown.starts_with('-') {
            if shown.len() >= 5 && !value::is_placeholder(shown) && !value::is_code(shown) {
                catch.form(Form::AssignedPassword, from, to);
            }
            break;
        }
        at = to + blanks(text, to);
    }
    end
}

/// A command that takes a password as an argument, and the flags it has for it.
struct Taker {
    name: &'static [u8],
    /// The password follows in the next argument.
    apart: &'static [&'static [u8]],
    /// The password is written right behind the flag.
    attached: &'static [u8],
    /// The argument is `user:password`.
    pair: &'static [&'static [u8]],
}

const TAKERS: &[Taker] = &[
    Taker { name: b"curl", apart: &[], attached: b"", pair: &[b"-u", b"--user", b"-U", b"--proxy-user"] },
    Taker { name: b"mysql", apart: &[], attached: b"-p", pair: &[] },
    Taker { name: b"redis-cli", apart: &[b"-a"], attached: b"", pair: &[] },
    Taker { name: b"sshpass ", apart: &[b"-p"], attached: b"-p", pair: &[] },
    Taker { name: b"docker login", apart: &[b"-p"], attached: b"", pair: &[] },
    Taker { name: b"psexec", apart: &[b"-p"], attached: b"", pair: &[] },
];
/// A command's arguments are looked at this far.
const COMMAND_BYTES_MAX: usize = 600;
const COMMAND_WORDS_MAX: usize = 48;

/// `mysql -pPASSWORD`, `redis-cli -a PASSWORD`, `curl -u user:PASSWORD`: reads the arguments to the end of the command.
fn command(catch: &mut Catch, start: usize, end: usize) -> usize {
    let text = catch.text.as_bytes();
    let Some(number) = TAKERS.iter().position(|taker| text[start..end].eq_ignore_ascii_case(taker.name)) else { return end };
    let taker = &TAKERS[number];
    // A name among the arguments of its own command.
    if end <= catch.read.commands[number] {
        return end;
    }
    let mut at = end;
    while text[at - 1] != b' ' && text.get(at).is_some_and(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.')) {
        at += 1;
    }
    let stop = (end + COMMAND_BYTES_MAX).min(text.len());
    for _ in 0..COMMAND_WORDS_MAX {
        at += blanks(text, at);
        // A line that goes on.
        if text[at.min(stop)..stop].starts_with(b"\\\n") {
            at += 2;
            continue;
        }
        if at >= stop || matches!(text[at], b'\n' | b'\r' | b'|' | b';' | b'&' | b'#') {
            break;
        }
        let Some((from, to)) = argument(text, at) else {
            at += text[at..stop].iter().take_while(|byte| **byte > b' ').count().max(1);
            continue;
        };
        let word = &text[from..to];
        let next = to + text[to..].iter().take(3).take_while(|byte| matches!(**byte, b'"' | b'\'' | b'`')).count();
        if taker.pair.contains(&word) || taker.apart.contains(&word) {
            let value = next + blanks(text, next);
            if let Some((from, to)) = argument(text, value) {
                if taker.pair.contains(&word) {
                    user_and_password(catch, from, to)
                } else {
                    password_argument(catch, from, to)
                }
                at = to;
                continue;
            }
        } else if let Some(value) = word.strip_prefix(b"--user=") {
            user_and_password(catch, to - value.len(), to);
        } else if !taker.attached.is_empty() && word.len() > 2 && word.starts_with(taker.attached) {
            password_argument(catch, from + 2, to);
        }
        at = next.max(at + 1);
    }
    catch.read.commands[number] = at;
    end
}

fn user_and_password(catch: &mut Catch, from: usize, to: usize) {
    let Some(shown) = catch.text.get(from..to) else { return };
    let Some((user, password)) = shown.split_once(':') else { return };
    if shown.contains(['$', '{', '<', '*']) && value::is_placeholder(password) || shown.contains("://") || shown.contains(' ') {
        return;
    }
    // A token may stand for the user, with no password at all.
    let hidden = if password.is_empty() { user } else { password };
    let looks = Looks::of(hidden.as_bytes());
    let odd = looks.digit > 0 || looks.mark > 0 || looks.len >= 10 && looks.surprise >= 5.0;
    if looks.len >= 5 && odd && !value::is_placeholder(hidden) && !value::is_placeholder(user) {
        let start = if password.is_empty() { from } else { to - password.len() };
        catch.form(Form::CommandLine, start, start + hidden.len());
    }
}

fn password_argument(catch: &mut Catch, from: usize, to: usize) {
    let Some(shown) = catch.text.get(from..to) else { return };
    let looks = Looks::of(shown.as_bytes());
    if looks.len >= 5
        && looks.letters() >= 2
        && !value::is_placeholder(shown)
        && !value::is_code(shown)
        && !shown.starts_with('-')
        && !shown.contains(['/', ':'])
    {
        catch.form(Form::CommandLine, from, to);
    }
}

/// An argument of a command: quoted or up to the next blank.
fn argument(text: &[u8], at: usize) -> Option<(usize, usize)> {
    if let Some(open) = quote(text, at) {
        return closing(text, at + open, &text[at..at + open]).map(|end| (at + open, end));
    }
    let length = text[at..].iter().take(VALUE_BYTES_MAX).take_while(|byte| **byte > b' ' && !matches!(**byte, b'"' | b'\'' | b'`' | b';' | b'\\')).count();
    (length > 0).then_some((at, at + length))
}

/// Twelve words or more that open a wallet.
fn phrase(catch: &mut Catch, end: usize) -> usize {
    let text = catch.text.as_bytes();
    let before = text[end.saturating_sub(24)..end].to_ascii_lowercase();
    if ![&b"seed"[..], b"recovery", b"mnemonic", b"wallet", b"backup"].iter().any(|word| before.windows(word.len()).any(|part| part == *word)) {
        return end;
    }
    let stop = (end + 420).min(text.len());
    let mut at = end;
    let (mut start, mut count, mut last) = (end, 0, end);
    while at < stop {
        let word = text[at..stop].iter().take_while(|byte| byte.is_ascii_lowercase()).count();
        if (3..=8).contains(&word) {
            if count == 0 {
                start = at;
            }
            count += 1;
            last = at + word;
            at += word;
            let gap = text[at..stop].iter().take(3).take_while(|byte| matches!(**byte, b' ' | b',')).count();
            if gap == 0 {
                break;
            }
            at += gap;
        } else {
            if count >= 12 || at > end + 40 {
                break;
            }
            count = 0;
            at += word.max(1);
        }
    }
    // A sentence has small words between, a phrase has none.
    let small = [&b"the"[..], b"and", b"you", b"your", b"for", b"with", b"that", b"this", b"are", b"can", b"der", b"die", b"das", b"und", b"ist"];
    let prose = text[start..last].split(|byte| *byte == b' ').any(|word| small.contains(&word));
    if (12..=25).contains(&count) && !prose {
        catch.form(Form::RecoveryPhrase, start, last);
    }
    end
}

/// `host:5432:database:user:password`, a line of a password file of PostgreSQL.
fn pgpass(catch: &mut Catch, start: usize, end: usize) -> usize {
    let text = catch.text.as_bytes();
    if start == 0 || !(text[start - 1].is_ascii_alphanumeric() || text[start - 1] == b'*') {
        return end;
    }
    let line = text[end..].iter().take(300).take_while(|byte| **byte > b' ' && !matches!(**byte, b'"' | b'\'' | b'/' | b'\\')).count();
    let mut parts = text[end..end + line].splitn(3, |byte| *byte == b':');
    if let (Some(_), Some(_), Some(password)) = (parts.next(), parts.next(), parts.next())
        && password.len() >= 5
        && !value::is_placeholder(&String::from_utf8_lossy(password))
    {
        catch.form(Form::AssignedPassword, end + line - password.len(), end + line);
    }
    end
}

/// Where the part of `text` begins that could still become a finding; never before `floor`.
///
/// A value ends at a blank, so the last word is open. What may hold blanks is held longer: a quoted literal, the
/// header of a PEM block, a password that is told before it is named (`use … as the password`).
pub fn live(text: &str, floor: usize) -> usize {
    let tail = &text[floor..];
    let bytes = tail.as_bytes();
    let last_word = tail.rfind(|letter: char| letter.is_ascii_whitespace()).map_or(0, |at| at + 1);
    let mut open = last_word;
    if let Some(pem) = tail.rfind("-----BEGIN") {
        open = open.min(pem);
    }
    // The last three words may be a password before its name, or the beginning of a phrase.
    let mut back = open;
    for _ in 0..6 {
        let trimmed = tail[..back].trim_end().len();
        back = tail[..trimmed].rfind(|letter: char| letter.is_ascii_whitespace()).map_or(0, |at| at + 1);
        // The comma of a sentence is no sign of a password.
        let word = tail[back..trimmed].trim_end_matches([',', '.']);
        let cut = back == 0 && floor > 0;
        if cut || word.bytes().any(|byte| byte.is_ascii_digit() || matches!(byte, b'!'..=b'/' | b'@')) {
            open = open.min(back);
        }
    }
    // A line with an unclosed quote.
    let line = tail.rfind('\n').map_or(0, |at| at + 1);
    for sign in [b'"', b'\'', b'`'] {
        if bytes[line..].iter().filter(|byte| **byte == sign).count() % 2 == 1
            && let Some(at) = bytes[line..].iter().rposition(|byte| *byte == sign)
        {
            open = open.min(line + at);
        }
    }
    debug_assert!(text.len() - floor <= LIVE_BYTES_MAX);
    floor + tail.floor_char_boundary(open)
}
