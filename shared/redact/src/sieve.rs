//! One look at all bytes of a text, a block at a time: where the runs of letters are that codes are made of, where hex may
//! stand with something between, and which bytes an escape or an insertion may begin at.
//!
//! Everything that looks closer looks there only. It tells too much rather than too little.

const BLOCK_BYTES: usize = 64;

/// Shorter runs of code letters hold no secret of eight bytes.
pub(crate) const RUN_BYTES_MIN: usize = 13;
/// Eight bytes as `xx:xx`.
pub(crate) const SPACED_BYTES_MIN: usize = 23;

pub(crate) type Stretch = (usize, usize);

#[derive(Debug, Default, PartialEq)]
pub(crate) struct Sieve {
    /// Letters of base64 and base64url, as far as they go.
    pub runs: Vec<Stretch>,
    /// Hex digits, and what may stand between bytes of hex; perhaps more.
    pub spaced: Vec<Stretch>,
    /// In order.
    pub bends: Vec<usize>,
}

impl Sieve {
    pub fn new(bytes: &[u8]) -> Self {
        let mut sieve = Self::default();
        let (mut run, mut spaced) = (Open::default(), Open::default());
        let mut sift = |base: usize, around: &[u8; BLOCK_BYTES + 2], len: usize| {
            let masks = Masks::of(around);
            let kept = u64::MAX >> (BLOCK_BYTES - len);
            run.sift::<RUN_BYTES_MIN>(base, masks.code & kept, &mut sieve.runs);
            spaced.sift::<SPACED_BYTES_MIN>(base, masks.spaced & kept, &mut sieve.spaced);
            let mut bends = masks.bends & kept;
            while bends != 0 {
                sieve.bends.push(base + bends.trailing_zeros() as usize);
                bends &= bends - 1;
            }
        };
        let mut base = 0;
        while base < bytes.len() {
            // With a byte on both sides; there is nothing before the text and behind it.
            match base.checked_sub(1).and_then(|from| bytes[from..].first_chunk()) {
                Some(around) => sift(base, around, BLOCK_BYTES),
                None => {
                    let (mut around, from) = ([0; BLOCK_BYTES + 2], base.saturating_sub(1));
                    let rest = &bytes[from..bytes.len().min(base + BLOCK_BYTES + 1)];
                    let at = usize::from(base == 0);
                    around[at..at + rest.len()].copy_from_slice(rest);
                    sift(base, &around, BLOCK_BYTES.min(bytes.len() - base));
                }
            }
            base += BLOCK_BYTES;
        }
        run.close(bytes.len(), RUN_BYTES_MIN, &mut sieve.runs);
        spaced.close(bytes.len(), SPACED_BYTES_MIN, &mut sieve.spaced);
        sieve
    }
}

/// A stretch that goes on into the next block.
#[derive(Default)]
struct Open(Option<usize>);

impl Open {
    fn close(&mut self, end: usize, bytes_min: usize, stretches: &mut Vec<Stretch>) {
        if let Some(start) = self.0.take()
            && end - start >= bytes_min
        {
            stretches.push((start, end));
        }
    }

    fn sift<const BYTES_MIN: usize>(&mut self, base: usize, mut mask: u64, stretches: &mut Vec<Stretch>) {
        if mask == u64::MAX {
            self.0.get_or_insert(base);
            return;
        }
        if self.0.is_some() {
            let len = mask.trailing_ones();
            self.close(base + len as usize, BYTES_MIN, stretches);
            mask &= u64::MAX << len;
        }
        let last = mask.leading_ones();
        if last > 0 {
            self.0 = Some(base + BLOCK_BYTES - last as usize);
            mask &= u64::MAX >> last;
        }
        let mut long = begins::<BYTES_MIN>(mask);
        while long != 0 {
            let start = long.trailing_zeros();
            let end = start + (mask >> start).trailing_ones();
            stretches.push((base + start as usize, base + end as usize));
            long &= u64::MAX << end;
        }
    }
}

/// The bits of `mask` from which on `COUNT` are set.
fn begins<const COUNT: usize>(mask: u64) -> u64 {
    let (mut begins, mut known) = (mask, 1);
    while known < COUNT {
        let more = known.min(COUNT - known);
        begins &= begins >> more;
        known += more;
    }
    begins
}

/// For each byte of a block, a bit.
#[derive(Default, Debug, PartialEq)]
struct Masks {
    code: u64,
    spaced: u64,
    bends: u64,
}

impl Masks {
    /// What the bytes of a block are that has one more on both sides.
    fn of(around: &[u8; BLOCK_BYTES + 2]) -> Masks {
        #[cfg(target_arch = "x86_64")]
        #[expect(unsafe_code, reason = "std calls SSE2 unsafe outside of functions that name it")]
        // SAFETY: SSE2 belongs to every x86-64.
        unsafe {
            sixteen_at_a_time(around)
        }
        #[cfg(not(target_arch = "x86_64"))]
        one_by_one(around)
    }
}

/// Said in so many words, because where a program is built small no compiler finds it by itself.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "sse2")]
fn sixteen_at_a_time(around: &[u8; BLOCK_BYTES + 2]) -> Masks {
    use std::arch::x86_64::{
        __m128i, _mm_and_si128, _mm_andnot_si128, _mm_cmpeq_epi8, _mm_min_epu8, _mm_movemask_epi8, _mm_or_si128, _mm_set_epi64x, _mm_set1_epi8, _mm_sub_epi8,
    };
    let all = |byte: u8| _mm_set1_epi8(byte.cast_signed());
    let is = |bytes: __m128i, byte: u8| _mm_cmpeq_epi8(bytes, all(byte));
    let up_to = |bytes: __m128i, last: u8| _mm_cmpeq_epi8(_mm_min_epu8(bytes, all(last)), bytes);
    let within = |bytes: __m128i, first: u8, last: u8| up_to(_mm_sub_epi8(bytes, all(first)), last - first);
    let or = |parts: &[__m128i]| parts.iter().copied().reduce(|some, more| _mm_or_si128(some, more)).unwrap_or_else(|| all(0));
    let mut masks = Masks::default();
    for at in (0..BLOCK_BYTES).step_by(16) {
        let sixteen = |from: usize| {
            let half = |from: usize| around[from..].first_chunk().map_or(0, |eight| i64::from_le_bytes(*eight));
            _mm_set_epi64x(half(from + 8), half(from))
        };
        let (before, byte, next) = (sixteen(at), sixteen(at + 1), sixteen(at + 2));
        let small = _mm_or_si128(byte, all(0x20));
        let (plus, under) = (is(byte, b'+'), is(byte, b'_'));
        let code = or(&[within(small, b'a', b'z'), within(byte, b'/', b'9'), plus, is(byte, b'-'), under]);
        // From `,` to `;` there is no more than the slash and the plus beside digits and signs.
        let spaced = or(&[within(small, b'a', b'f'), within(byte, b',', b';'), up_to(byte, b' '), under, is(small, b'x')]);
        let escape = or(&[is(byte, b'\\'), within(byte, b'%', b'&'), is(byte, b'\r'), is(byte, 0x1b), is(small, 0xe2), is(byte, 0xef)]);
        let printable = _mm_and_si128(is(byte, b'='), or(&[within(next, b'0', b'F'), is(next, b'\n'), is(next, b'\r')]));
        let joined = _mm_andnot_si128(_mm_or_si128(is(before, b' '), is(next, b' ')), plus);
        let doubled = _mm_and_si128(_mm_cmpeq_epi8(byte, next), _mm_or_si128(is(byte, b'"'), is(byte, b'\'')));
        let bits = |flags: __m128i| u64::from(_mm_movemask_epi8(flags).cast_unsigned()) << at;
        masks.code |= bits(code);
        masks.spaced |= bits(spaced);
        masks.bends |= bits(or(&[escape, printable, joined, doubled]));
    }
    masks
}

#[cfg(any(test, not(target_arch = "x86_64")))]
fn one_by_one(around: &[u8; BLOCK_BYTES + 2]) -> Masks {
    let mut masks = Masks::default();
    for at in 0..BLOCK_BYTES {
        let (before, byte, next) = (around[at], around[at + 1], around[at + 2]);
        let small = byte | 0x20;
        let code = small.is_ascii_lowercase() || matches!(byte, b'/'..=b'9' | b'+' | b'-' | b'_');
        let spaced = matches!(small, b'a'..=b'f' | b'x') || matches!(byte, b','..=b';' | 0..=b' ' | b'_');
        let bends = match byte {
            b'\\' | b'%' | b'&' | b'\r' | 0x1b | 0xc2 | 0xe2 | 0xef => true,
            b'=' => matches!(next, b'0'..=b'F' | b'\n' | b'\r'),
            b'+' => before != b' ' && next != b' ',
            b'"' | b'\'' => next == byte,
            _ => false,
        };
        masks.code |= u64::from(code) << at;
        masks.spaced |= u64::from(spaced) << at;
        masks.bends |= u64::from(bends) << at;
    }
    masks
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As somebody would write it who has time.
    fn stretches(bytes: &[u8], bytes_min: usize, is: impl Fn(u8) -> bool) -> Vec<Stretch> {
        let mut stretches = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            let len = bytes[at..].iter().take_while(|byte| is(**byte)).count();
            if len >= bytes_min {
                stretches.push((at, at + len));
            }
            at += len + 1;
        }
        stretches
    }

    fn parts() -> impl Strategy<Value = Vec<(String, String, String)>> {
        prop::collection::vec(("[A-Za-z0-9+/_-]{0,150}", "[0-9a-f: ,\n-]{0,150}", "[ -~\u{0}-\u{2ff}]{0,9}"), 0..6)
    }

    fn near_a_border() -> impl Strategy<Value = u8> {
        let borders = b"\x1b\r\n \"%'+,/09:;=@AFGZ[\\_`afgxz{\xc2\xe2\xef".to_vec();
        prop_oneof![any::<u8>(), prop::sample::select(borders.clone()), prop::sample::select(borders).prop_map(|byte| byte.wrapping_sub(1))]
    }

    proptest! {
        #[test]
        fn many_bytes_at_once_are_what_each_is(around in prop::collection::vec(near_a_border(), BLOCK_BYTES + 2)) {
            let around = around.first_chunk().unwrap();
            prop_assert_eq!(Masks::of(around), one_by_one(around));
        }

        #[test]
        fn stretches_are_whole_wherever_they_lie(parts in parts()) {
            let text = parts.into_iter().map(|(code, spaced, other)| code + &spaced + &other).collect::<String>();
            let sieve = Sieve::new(text.as_bytes());
            let code = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_');
            prop_assert_eq!(&sieve.runs, &stretches(text.as_bytes(), RUN_BYTES_MIN, code));
            let spaced = |byte: u8| byte.is_ascii_hexdigit() || matches!(byte, 0..=b' ' | b','..=b';' | b'_' | b'x' | b'X');
            prop_assert_eq!(&sieve.spaced, &stretches(text.as_bytes(), SPACED_BYTES_MIN, spaced));
            prop_assert!(text.bytes().enumerate().all(|(at, byte)| byte != b'\\' || sieve.bends.contains(&at)));
        }
    }
}
