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
            let masks = masks(around);
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
struct Masks {
    code: u64,
    spaced: u64,
    bends: u64,
}

/// What the bytes of a block are that has one more on both sides. Without branches and tables, so that the compiler takes
/// many bytes at once.
fn masks(around: &[u8; BLOCK_BYTES + 2]) -> Masks {
    let (mut code, mut spaced, mut bends) = ([0; BLOCK_BYTES], [0; BLOCK_BYTES], [0; BLOCK_BYTES]);
    for at in 0..BLOCK_BYTES {
        let (before, byte, next) = (around[at], around[at + 1], around[at + 2]);
        let small = byte | 0x20;
        let letter = small.wrapping_sub(b'a');
        code[at] = u8::from((letter < 26) | (byte.wrapping_sub(b'/') < 11) | (byte == b'+') | (byte == b'-') | (byte == b'_'));
        // From `,` to `;` there is no more than the slash and the plus beside digits and signs.
        spaced[at] = u8::from((letter < 6) | (byte.wrapping_sub(b',') < 16) | (byte <= b' ') | (byte == b'_') | (small == b'x'));
        let escape = (byte == b'\\') | (byte.wrapping_sub(b'%') < 2) | (byte == b'\r') | (byte == 0x1b) | (small == 0xe2) | (byte == 0xef);
        let printable = (byte == b'=') & ((next.wrapping_sub(b'0') < 23) | (next == b'\n') | (next == b'\r'));
        let plus = (byte == b'+') & (before != b' ') & (next != b' ');
        let doubled = (byte == next) & ((byte == b'"') | (byte == b'\''));
        bends[at] = u8::from(escape | printable | plus | doubled);
    }
    Masks { code: bits(&code), spaced: bits(&spaced), bends: bits(&bends) }
}

/// One bit of each byte, all of which are 0 or 1.
fn bits(flags: &[u8; BLOCK_BYTES]) -> u64 {
    let eights = flags.as_chunks::<8>().0.iter().enumerate();
    eights.fold(0, |bits, (number, eight)| {
        let eight = u64::from_le_bytes(*eight).wrapping_mul(0x0102_0408_1020_4080) >> 56;
        bits | eight << (number * 8)
    })
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

    proptest! {
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
