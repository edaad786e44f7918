//! Known secrets: finds every one of many values in text, plain or disguised, without keeping a disguised copy.
//!
//! A sampled q-gram filter says where to look. Take a value of at least `m` letters and the stride `s = m - q + 1`: if the
//! first `s` q-grams of some `m` letters of it are in a set, then testing each `s`-th place of a text cannot miss it. The
//! set holds hashes only: of the values, of their skeletons, and of their base64 and hex forms. What the filter points at
//! is decoded on the spot and compared with the one copy of the value, which is wiped when it is dropped. Hashes ignore
//! case; the comparison decides.

use crate::decode::{self, Code, Mapped};
use crate::sieve::Sieve;
use std::collections::HashSet;
use std::fmt;
use zeroize::Zeroizing;

/// A shorter value would blank ordinary text. It is not looked for, and [`Known::too_short`] names it.
pub const SECRET_BYTES_MIN: usize = 8;
/// A piece of a value this long is as good as the value.
const FRAGMENT_BYTES_MIN: usize = 24;
/// Half of a shorter value, if it is at least this long.
const FRAGMENT_HALF_BYTES_MIN: usize = 16;
/// A line or a part of a value that is looked for on its own.
const PART_BYTES_MIN: usize = 12;
/// Parts of one value.
const PARTS_MAX: usize = 256;
/// Beyond this, the places of a long value that can start a fragment.
const SEEDED_BYTES_MAX: usize = 512;
/// A q-gram of more values than this is a common prefix: one of rarer ones finds the value.
const COMMON: u8 = 8;
/// Among this many windows of a form the rarest is chosen.
const WINDOWS_MAX: usize = 32;
/// How much of the source a skeleton is made of at a time.
const LOCAL_BYTES_MAX: usize = 16 * 1024;

/// Values by name, ready to be looked for.
#[derive(Default)]
pub struct Known {
    names: Vec<String>,
    values: Vec<Zeroizing<Vec<u8>>>,
    patterns: Vec<Pattern>,
    filters: Vec<Filter>,
    too_short: Vec<String>,
    names_set: HashSet<String>,
    pattern_bytes_max: usize,
    prefixes: Prefixes,
}

/// `values[secret][start..end]` is looked for.
#[derive(Clone, Copy)]
struct Pattern {
    secret: u32,
    start: u32,
    end: u32,
}

/// Where a known secret stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hit {
    pub start: usize,
    pub end: usize,
    pub secret: u32,
}

impl fmt::Debug for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Known").field("secrets", &self.names.len()).finish_non_exhaustive()
    }
}

impl Known {
    /// `secrets` are names and values. Several values may have one name: those that it had before count, too.
    pub fn new<'a>(secrets: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Self {
        let mut known = Self::default();
        for (name, value) in secrets {
            if trimmed(value).len() < SECRET_BYTES_MIN {
                known.too_short.push(name.to_owned());
                continue;
            }
            let secret = known.names.len() as u32;
            known.names.push(name.to_owned());
            known.names_set.insert(name.to_owned());
            known.values.push(Zeroizing::new(value.to_vec()));
            known.patterns.extend(patterns(value).into_iter().map(|(start, end)| Pattern { secret, start: start as u32, end: end as u32 }));
        }
        known.pattern_bytes_max = (0..known.patterns.len()).map(|pattern| known.pattern(pattern).len()).max().unwrap_or(0);
        known.filters = Filter::all(&known);
        known.prefixes = Prefixes::new(&known);
        known
    }

    pub fn len(&self) -> usize {
        self.names.len()
    }

    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The names of the values that are too short to be looked for.
    pub fn too_short(&self) -> &[String] {
        &self.too_short
    }

    pub fn is_name(&self, name: &str) -> bool {
        self.names_set.contains(name)
    }

    /// What all of this occupies.
    pub fn memory_bytes(&self) -> usize {
        self.filters.iter().map(Filter::memory_bytes).sum::<usize>()
            + self.values.iter().map(|value| value.capacity() + 24).sum::<usize>()
            + self.names.iter().map(|name| name.capacity() * 2 + 72).sum::<usize>()
            + self.patterns.capacity() * size_of::<Pattern>()
            + self.prefixes.memory_bytes()
    }

    /// How many known secrets `bytes` hold as they are, in base64 or in hex: the first layer alone.
    pub fn count_plain(&self, bytes: &[u8]) -> usize {
        let mut hits = Vec::new();
        self.find(bytes, &mut hits);
        hits.len()
    }

    pub(crate) fn name(&self, secret: u32) -> &str {
        &self.names[secret as usize]
    }

    fn pattern(&self, pattern: usize) -> &[u8] {
        let Pattern { secret, start, end } = self.patterns[pattern];
        &self.values[secret as usize][start as usize..end as usize]
    }

    fn secret(&self, pattern: u32) -> u32 {
        self.patterns[pattern as usize].secret
    }

    /// The values in `bytes` as they are, in base64 at any offset, in hex, cut off, with a few insertions.
    pub(crate) fn find(&self, bytes: &[u8], hits: &mut Vec<Hit>) {
        let mut places = Vec::new();
        for filter in &self.filters {
            filter.scan(bytes, &mut places);
            for at in places.drain(..) {
                filter.look_up(bytes, at, |pattern, forms| {
                    if hits.iter().rev().take(4).any(|hit| hit.start <= at && at < hit.end && hit.secret == self.secret(pattern)) {
                        return;
                    }
                    self.verify(bytes, at, filter.q, pattern, forms, hits);
                });
            }
        }
    }

    /// The values whose characters are escaped, or have something between them.
    pub(crate) fn find_bent(&self, bytes: &[u8], sieve: &Sieve, hits: &mut Vec<Hit>) {
        if self.is_empty() {
            return;
        }
        let mut places = Vec::new();
        for (start, end) in decode::bent(bytes, sieve, BENT_MARGIN_BYTES) {
            let stretch = &bytes[start..end];
            // The way back is looked for when there is something to go back from.
            if self.may_hold(&decode::skeleton::<()>(stretch, 0).bytes, &mut places) {
                self.find_bones(&decode::skeleton(stretch, start), &mut places, hits);
            }
            if stretch.contains(&b'=')
                && decode::skeleton_of_printable::<()>(stretch, 0).is_some_and(|skeleton| self.may_hold(&skeleton.bytes, &mut places))
                && let Some(skeleton) = decode::skeleton_of_printable(stretch, start)
            {
                self.find_bones(&skeleton, &mut places, hits);
            }
        }
    }

    /// Whether some filter points at a place of `bytes`.
    fn may_hold(&self, bytes: &[u8], places: &mut Vec<usize>) -> bool {
        self.filters.iter().any(|filter| {
            places.clear();
            filter.scan(bytes, places);
            !places.is_empty()
        })
    }

    fn find_bones(&self, skeleton: &Mapped, places: &mut Vec<usize>, hits: &mut Vec<Hit>) {
        for filter in &self.filters {
            places.clear();
            filter.scan(&skeleton.bytes, places);
            for at in places.drain(..) {
                filter.look_up(&skeleton.bytes, at, |pattern, forms| {
                    if forms & SKELETON != 0 {
                        self.verify_skeleton(skeleton, at, filter.q, pattern, hits);
                    }
                });
            }
        }
    }

    fn verify(&self, bytes: &[u8], at: usize, q: usize, pattern: u32, forms: u32, hits: &mut Vec<Hit>) {
        let value = self.pattern(pattern as usize);
        let secret = self.secret(pattern);
        let found = |(start, end): (usize, usize)| Hit { start, end, secret };
        if forms & PLAIN != 0 {
            hits.extend(self.plain(bytes, at, q, pattern).map(found));
        }
        if forms & BASE64 != 0 {
            let (start, end) = decode::around(bytes, at, value.len() * 4 / 3 + 8, Code::Base64);
            hits.extend((start..(start + 4).min(end)).find_map(|start| within(&decode::base64_at(bytes, start, end), value)).map(found));
        }
        if forms & HEX != 0 {
            let (start, end) = decode::around(bytes, at, value.len() * 2 + 4, Code::Hex);
            hits.extend((start..(start + 2).min(end)).find_map(|start| within(&decode::hex_at(bytes, start, end), value)).map(found));
        }
    }

    /// The occurrence of `value` that covers `bytes[at..at + q]`: all of it, enough of it, or all with something in between.
    fn plain(&self, bytes: &[u8], at: usize, q: usize, pattern: u32) -> Option<(usize, usize)> {
        let value = self.pattern(pattern as usize);
        let seed = &bytes[at..at + q];
        for offset in (0..=value.len() - q).filter(|&offset| value[offset..offset + q].eq_ignore_ascii_case(seed)) {
            let before = bytes[..at].iter().rev().zip(value[..offset].iter().rev()).take_while(|(a, b)| a.eq_ignore_ascii_case(b)).count();
            let after = bytes[at + q..].iter().zip(&value[offset + q..]).take_while(|(a, b)| a.eq_ignore_ascii_case(b)).count();
            let (start, end) = (at - before, at + q + after);
            let (value_start, value_end) = (offset - before, offset + q + after);
            let whole = value_start == 0 && value_end == value.len();
            if whole || self.is_fragment(pattern, value_start, value_end) {
                return Some((start, end));
            }
            // Where the run ends, something must stand that an escape or an insertion could explain.
            let open = |value_at: Option<&u8>, text_at: Option<&u8>| match (value_at, text_at) {
                (None, _) => true,
                (Some(_), None) => false,
                (Some(value), Some(text)) => decode::bends(*value) || decode::bends(*text) || *text == b'[',
            };
            // On the left that is the end of an escape, which may be any letter.
            let left = open(value_start.checked_sub(1).map(|at| &value[at]), start.checked_sub(1).map(|at| &bytes[at]))
                || bytes[start.saturating_sub(decode::ESCAPE_BYTES_MAX)..start].iter().any(|byte| decode::escapes(*byte));
            let right = open(value.get(value_end), bytes.get(end));
            if left && right {
                let reach = (value.len() * 6 + 64).min(LOCAL_BYTES_MAX);
                let (from, to) = (start.saturating_sub(reach), (end + reach).min(bytes.len()));
                let bones = decode::bones(value);
                if bones.len() >= SECRET_BYTES_MIN
                    && let Some(found) = within(&decode::skeleton(&bytes[from..to], from), &bones)
                {
                    return Some(found);
                }
            }
        }
        None
    }

    /// Whether the bytes `start..end` of a pattern alone give the secret away.
    fn is_fragment(&self, pattern: u32, start: usize, end: usize) -> bool {
        let value = self.pattern(pattern as usize);
        let len = end - start;
        let at_an_end = start == 0 || end == value.len();
        if !(len >= FRAGMENT_BYTES_MIN || at_an_end && len >= FRAGMENT_HALF_BYTES_MIN && len * 2 >= value.len()) {
            return false;
        }
        // A value that is a document or an address has pieces that are nobody's secret.
        let composed = value.iter().any(|byte| matches!(byte, b'\n' | b'{' | b'<')) || memchr::memmem::find(value, b"://").is_some();
        let Pattern { secret, start: base, .. } = self.patterns[pattern as usize];
        let (from, to) = (base as usize + start, base as usize + end);
        let mut parts = self.patterns[self.patterns.partition_point(|other| other.secret < secret)..].iter().take_while(|other| other.secret == secret).skip(1);
        !composed
            || tokens(&value[start..end]).any(|(from, to)| is_random(&value[start + from..start + to]))
            || parts.any(|part| to.min(part.end as usize) >= from.max(part.start as usize) + SECRET_BYTES_MIN)
    }

    fn verify_skeleton(&self, text: &Mapped, at: usize, q: usize, pattern: u32, hits: &mut Vec<Hit>) {
        let bones = decode::bones(self.pattern(pattern as usize));
        if bones.len() < SECRET_BYTES_MIN {
            return;
        }
        let seed = &text.bytes[at..at + q];
        for offset in (0..=bones.len() - q.min(bones.len())).filter(|&offset| bones.get(offset..offset + q) == Some(seed)) {
            let Some(start) = at.checked_sub(offset) else { continue };
            if text.bytes[start..].starts_with(&bones) {
                let (start, end) = text.source(start, start + bones.len());
                hits.push(Hit { start, end, secret: self.secret(pattern) });
            }
        }
    }

    /// Where the end of `text` begins that may be the beginning of a secret: as it is, escaped, in base64 or in hex. If
    /// `strict`, that includes the letter of base64 that may hold a secret's first bits, which is any letter.
    pub(crate) fn live_from(&self, text: &[u8], strict: bool) -> usize {
        if self.is_empty() {
            return text.len();
        }
        let open = decode::open_escape_from(text);
        let floor = text.len().saturating_sub((self.pattern_bytes_max * 6 + 64).min(LOCAL_BYTES_MAX));
        let tail = &text[floor..open.max(floor)];
        let skeleton = decode::skeleton(tail, floor);
        let mut from = open;
        from = from.min(self.prefixes.live_from(&skeleton.bytes, true).map_or(from, |at| skeleton.source(at, at + 1).0));
        from = from.min(self.prefixes.live_from(&tail.to_ascii_lowercase(), false).map_or(from, |at| floor + at));
        decode::last_codes(tail, |map, end_held| {
            let live = self.prefixes.live_from(&map.bytes.to_ascii_lowercase(), false);
            from = from.min(live.map_or(from, |at| floor + map.source(at, at + 1).0));
            if strict {
                from = from.min(floor + end_held);
            }
        });
        from
    }
}

/// An unescaped stretch of at least this many letters is found as it is, so a bent one needs no wider margin.
const BENT_MARGIN_BYTES: usize = 24;

fn within(text: &Mapped, value: &[u8]) -> Option<(usize, usize)> {
    memchr::memmem::find(&text.bytes, value).map(|at| text.source(at, at + value.len()))
}

/// White space at the ends comes and goes.
fn trimmed(value: &[u8]) -> &[u8] {
    value.trim_ascii()
}

/// What is looked for of `value`: itself, and what is a secret on its own.
fn patterns(value: &[u8]) -> Vec<(usize, usize)> {
    let whole = trimmed(value);
    let base = value.len() - value.trim_ascii_start().len();
    let mut patterns = vec![(base, base + whole.len())];
    let mut add = |start: usize, end: usize| {
        if patterns.len() < PARTS_MAX && !patterns.contains(&(start, end)) {
            patterns.push((start, end));
        }
    };
    let composed = whole.iter().any(|byte| matches!(byte, b'\n' | b'{'));
    if composed {
        for (start, end) in tokens(value).filter(|&(start, end)| end - start >= PART_BYTES_MIN && is_random(&value[start..end])) {
            add(start, end);
        }
    }
    // The password of an address, and of `user:password`.
    let text = String::from_utf8_lossy(whole);
    if let Some(scheme) = text.find("://")
        && text.len() == whole.len()
        && let Some(at) = text[scheme + 3..].split(['/', '?', '#']).next().and_then(|authority| authority.rfind('@'))
        && let Some(colon) = text[scheme + 3..scheme + 3 + at].find(':')
        && at - colon > SECRET_BYTES_MIN
    {
        add(base + scheme + 3 + colon + 1, base + scheme + 3 + at);
    } else if text.len() == whole.len()
        && !composed
        && let [_, password] = text.split(':').collect::<Vec<_>>()[..]
        && password.len() >= SECRET_BYTES_MIN
        && !password.starts_with('/')
        && is_mixed(password.as_bytes())
    {
        add(base + whole.len() - password.len(), base + whole.len());
    }
    patterns
}

/// Stretches without space, quotes, brackets or escapes.
fn tokens(value: &[u8]) -> impl Iterator<Item = (usize, usize)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=' | b'_' | b'-' | b'.' | b'~' | b'!' | b'$' | b'#');
        while at < value.len() && !is_token(value[at]) {
            // The letter of an escape is none of the token's.
            at += if value[at] == b'\\' { 2 } else { 1 };
        }
        let start = at.min(value.len());
        at = start + value[start..].iter().take_while(|byte| is_token(**byte)).count();
        (start < at).then_some((start, at))
    })
}

fn is_mixed(token: &[u8]) -> bool {
    token.iter().any(u8::is_ascii_digit) && token.iter().any(u8::is_ascii_alphabetic)
}

/// Whether a token looks drawn, not written.
fn is_random(token: &[u8]) -> bool {
    let mut seen = [false; 256];
    token.iter().for_each(|byte| seen[*byte as usize] = true);
    let distinct = seen.iter().filter(|seen| **seen).count();
    let hex = token.len() >= 32 && token.iter().all(u8::is_ascii_hexdigit);
    let cased = token.iter().any(u8::is_ascii_uppercase) && token.iter().any(u8::is_ascii_lowercase);
    is_mixed(token) && distinct >= 8 && (hex || cased) && !token.starts_with(b"-----") && memchr::memmem::find(token, b"://").is_none()
}

// What a stream holds back.

/// Hashes of the beginnings of all patterns and skeletons, of lengths that grow by half: what agrees with one of them may
/// become a secret. Lengths between two are taken for the shorter one, so a little too much is held back, never too little.
#[derive(Default)]
struct Prefixes {
    /// Sorted.
    hashes: Vec<u32>,
    /// For each hash of the first bytes, whether there is one.
    first: Vec<u64>,
}

const PREFIX_SEED: u32 = 0x811c_9dc5;
const BONES_SEED: u32 = 0x3c6e_f372;
const FIRST_BYTES: usize = 3;

impl Prefixes {
    fn new(known: &Known) -> Self {
        let mut prefixes = Self { hashes: Vec::new(), first: vec![0; 1 << (16 - 6)] };
        let mut add = |bytes: &[u8], seed: u32| {
            let mut hash = seed;
            let mut next = 1;
            // The whole is no beginning: it is found.
            for (at, byte) in bytes.iter().take(bytes.len() - 1).enumerate() {
                hash = step(hash, *byte);
                if at + 1 == FIRST_BYTES {
                    prefixes.first[(hash >> 22) as usize] |= 1 << (hash >> 16 & 63);
                }
                if at + 1 == next {
                    prefixes.hashes.push(settle(hash, next));
                    next = next_length(next);
                }
            }
        };
        for pattern in 0..known.patterns.len() {
            let value = Zeroizing::new(known.pattern(pattern).to_ascii_lowercase());
            add(&value, PREFIX_SEED);
            let bones = decode::bones(&value);
            if bones.len() >= SECRET_BYTES_MIN {
                add(&bones, BONES_SEED);
            }
        }
        prefixes.hashes.sort_unstable();
        prefixes.hashes.dedup();
        prefixes.hashes.shrink_to_fit();
        prefixes
    }

    fn memory_bytes(&self) -> usize {
        self.hashes.capacity() * 4 + self.first.capacity() * 8
    }

    /// Where the longest end of `bytes` begins that is a beginning.
    fn live_from(&self, bytes: &[u8], bones: bool) -> Option<usize> {
        (0..bytes.len()).find(|&at| self.is_beginning(&bytes[at..], if bones { BONES_SEED } else { PREFIX_SEED }))
    }

    fn is_beginning(&self, bytes: &[u8], seed: u32) -> bool {
        let mut hash = seed;
        let mut next = 1;
        for (at, byte) in bytes.iter().enumerate() {
            hash = step(hash, *byte);
            if at + 1 == FIRST_BYTES && self.first[(hash >> 22) as usize] & 1 << (hash >> 16 & 63) == 0 {
                return false;
            }
            if at + 1 == next {
                // Shorter ones than the first bytes' are worth no search of their own if more bytes decide.
                if (next >= FIRST_BYTES || bytes.len() < FIRST_BYTES) && self.hashes.binary_search(&settle(hash, next)).is_err() {
                    return false;
                }
                next = next_length(next);
            }
        }
        true
    }
}

fn step(hash: u32, byte: u8) -> u32 {
    (hash.rotate_left(5) ^ u32::from(byte)).wrapping_mul(0x9e37_79b1)
}

fn settle(hash: u32, len: usize) -> u32 {
    (hash ^ hash >> 15 ^ len as u32).wrapping_mul(0x85eb_ca6b)
}

fn next_length(len: usize) -> usize {
    len + (len / 2).max(1)
}

// The filter.

/// In which form a q-gram was put in.
const PLAIN: u32 = 1;
const SKELETON: u32 = 2;
const BASE64: u32 = 4;
const HEX: u32 = 8;
const FORM_BITS: u32 = 4;

struct Filter {
    q: usize,
    gram_mask: u64,
    stride: usize,
    /// One word of this has two bits set for each q-gram.
    bloom: Vec<u64>,
    bloom_shift: u32,
    /// Where the entries of a hash's first bits begin.
    buckets: Vec<u32>,
    bucket_shift: u32,
    entries: Vec<u64>,
}

/// The upper half of a q-gram's hash, the pattern, and the forms in the lowest bits.
fn entry(hash: u32, of: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(of)
}

/// Minimal letters, and q. Short values need short q-grams; one filter for all would test twice the places.
const CLASSES: [(usize, usize); 3] = [(16, 8), (12, 8), (8, 5)];
const FOLD: u64 = 0x2020_2020_2020_2020;

impl Filter {
    fn all(known: &Known) -> Vec<Self> {
        // Each filter costs a pass over the text: where there must be one for the shortest, it takes the middle, too.
        let mut short = false;
        for_each_form(known, |form, _, _| short |= (8..12).contains(&form.len()));
        let classes = if short { [CLASSES[0], CLASSES[2]] } else { [CLASSES[0], CLASSES[1]] };
        let mut common = Common::default();
        for_each_form(known, |form, _, _| {
            if let Some((_, q)) = classes.iter().find(|(m, _)| form.len() >= *m) {
                (0..=form.len() - q).for_each(|at| common.count(hash(&form[at..], *q)));
            }
        });
        let mut entries: [Vec<u64>; 2] = Default::default();
        let (mut hashes, mut counts) = (Vec::new(), Vec::new());
        for_each_form(known, |form, pattern, kind| {
            let Some(class) = classes.iter().position(|(m, _)| form.len() >= *m) else { return };
            let (m, q) = classes[class];
            hashes.clear();
            hashes.extend((0..=form.len() - q).map(|at| hash(&form[at..], q)));
            counts.clear();
            counts.extend(hashes.iter().map(|hash| common.of(*hash)));
            // The rarest window, so that what many values begin with does not point at all of them.
            let stride = m - q + 1;
            let rarity = |at: &usize| counts[*at..at + stride].iter().max().copied();
            let window = (0..=form.len() - m).take(WINDOWS_MAX).min_by_key(rarity).unwrap_or(0);
            let mut put = |at: usize| entries[class].push(entry((hashes[at] >> 32) as u32, pattern << FORM_BITS | kind));
            (window..window + stride).for_each(&mut put);
            if kind == PLAIN {
                let seeded = (0..hashes.len()).filter(|at| !(window..window + stride).contains(at)).take(SEEDED_BYTES_MAX);
                seeded.filter(|&at| counts[at] <= COMMON).for_each(put);
            }
        });
        entries.into_iter().zip(classes).filter(|(entries, _)| !entries.is_empty()).map(|(entries, (m, q))| Self::new(entries, m, q)).collect()
    }

    fn new(mut entries: Vec<u64>, m: usize, q: usize) -> Self {
        entries.sort_unstable();
        // Forms of one pattern that share a q-gram are one entry.
        entries.dedup_by(|later, kept| {
            let same = *later >> FORM_BITS == *kept >> FORM_BITS;
            *kept |= if same { *later } else { 0 };
            same
        });
        entries.shrink_to_fit();
        let bloom_bits = (entries.len() * 24).next_power_of_two().clamp(1 << 12, 1 << 24);
        let bucket_bits = entries.len().next_power_of_two().clamp(1 << 4, 1 << 19).trailing_zeros();
        let mut filter = Self {
            q,
            gram_mask: if q == 8 { u64::MAX } else { (1 << (q * 8)) - 1 },
            stride: m - q + 1,
            bloom: vec![0; bloom_bits / 64],
            bloom_shift: 64 - (bloom_bits as u64 / 64).trailing_zeros(),
            buckets: Vec::with_capacity((1 << bucket_bits) + 1),
            bucket_shift: 32 - bucket_bits,
            entries,
        };
        let mut next = 0;
        for bucket in 0..=1u64 << bucket_bits {
            while filter.entries.get(next).is_some_and(|entry| entry >> 32 >> filter.bucket_shift < bucket) {
                next += 1;
            }
            filter.buckets.push(next as u32);
        }
        for at in 0..filter.entries.len() {
            // Only the upper half of the hash is kept, so the bloom is filled from that.
            let hash = filter.entries[at] >> 32 << 32;
            filter.bloom[(hash >> filter.bloom_shift) as usize] |= bits(hash);
        }
        filter
    }

    fn memory_bytes(&self) -> usize {
        self.bloom.capacity() * 8 + self.buckets.capacity() * 4 + self.entries.capacity() * 8
    }

    /// The places of `text` that are worth a look.
    fn scan(&self, text: &[u8], places: &mut Vec<usize>) {
        let (bloom, shift, mask) = (self.bloom.as_slice(), self.bloom_shift, self.gram_mask);
        let mut at = 0;
        while let Some(gram) = text.get(at..at + 8) {
            let gram = u64::from_le_bytes(gram.try_into().expect("eight bytes were taken"));
            let hash = mix((gram | FOLD) & mask);
            let bits = bits(hash);
            if bloom[(hash >> shift) as usize] & bits == bits {
                places.push(at);
            }
            at += self.stride;
        }
        while at + self.q <= text.len() {
            let hash = hash(&text[at..], self.q);
            if bloom[(hash >> shift) as usize] & bits(hash) == bits(hash) {
                places.push(at);
            }
            at += self.stride;
        }
    }

    fn look_up(&self, text: &[u8], at: usize, mut visit: impl FnMut(u32, u32)) {
        let hash = (hash(&text[at..], self.q) >> 32) as u32;
        let bucket = (hash >> self.bucket_shift) as usize;
        for entry in &self.entries[self.buckets[bucket] as usize..self.buckets[bucket + 1] as usize] {
            if (entry >> 32) as u32 == hash {
                let of = *entry as u32;
                visit(of >> FORM_BITS, of & ((1 << FORM_BITS) - 1));
            }
        }
    }
}

/// Two bits of a word of the bloom, by bits of the hash that do not choose the word.
#[inline(always)]
fn bits(hash: u64) -> u64 {
    1 << (hash >> 32 & 63) | 1 << (hash >> 38 & 63)
}

#[inline(always)]
fn mix(gram: u64) -> u64 {
    (gram ^ gram >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn hash(text: &[u8], q: usize) -> u64 {
    let mut gram = [0; 8];
    gram[..q].copy_from_slice(&text[..q]);
    let mask = if q == 8 { u64::MAX } else { (1 << (q * 8)) - 1 };
    mix((u64::from_le_bytes(gram) | FOLD) & mask)
}

/// How many patterns have a q-gram, roughly and at most 255.
struct Common {
    counts: Vec<u8>,
}

impl Default for Common {
    fn default() -> Self {
        Self { counts: vec![0; 1 << COMMON_BITS] }
    }
}

const COMMON_BITS: u32 = 20;

impl Common {
    fn count(&mut self, hash: u64) {
        let count = &mut self.counts[(hash >> (64 - COMMON_BITS)) as usize];
        *count = count.saturating_add(1);
    }

    fn of(&self, hash: u64) -> u8 {
        self.counts[(hash >> (64 - COMMON_BITS)) as usize]
    }
}

/// Calls `visit` with each form of each pattern. The forms live only here.
fn for_each_form(known: &Known, mut visit: impl FnMut(&[u8], u32, u32)) {
    let mut form = Zeroizing::new(Vec::new());
    for pattern in 0..known.patterns.len() {
        let value = known.pattern(pattern);
        let pattern = pattern as u32;
        visit(value, pattern, PLAIN);
        let bones = decode::bones(value);
        if bones.len() >= SECRET_BYTES_MIN {
            visit(&bones, pattern, SKELETON);
        }
        let seeded = &value[..value.len().min(CODE_SEED_BYTES)];
        form.clear();
        form.extend(seeded.iter().flat_map(|byte| [DIGITS[(byte >> 4) as usize], DIGITS[(byte & 15) as usize]]));
        visit(&form, pattern, HEX);
        for letters in [BASE64_LETTERS, BASE64_URL_LETTERS] {
            for phase in 0..3 {
                base64_inner(seeded, phase, letters, &mut form);
                if letters == BASE64_LETTERS || form.iter().any(|byte| matches!(byte, b'-' | b'_')) {
                    visit(&form, pattern, BASE64);
                }
            }
        }
    }
}

/// Enough of a value for one window of its codes, with room to choose a rare one.
const CODE_SEED_BYTES: usize = 40;
const DIGITS: &[u8; 16] = b"0123456789abcdef";
const BASE64_LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const BASE64_URL_LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// The base64 letters that `value` alone decides when `phase` bytes of something else come before it.
fn base64_inner(value: &[u8], phase: usize, letters: &[u8; 64], form: &mut Vec<u8>) {
    form.clear();
    let skipped = (6 - phase * 8 % 6) % 6;
    let (mut bits, mut held) = (0u32, 0);
    for (at, byte) in value.iter().enumerate() {
        bits = bits << 8 | u32::from(*byte);
        held += if at == 0 { 8 - skipped } else { 8 };
        while held >= 6 {
            held -= 6;
            form.push(letters[(bits >> held & 63) as usize]);
        }
    }
}
