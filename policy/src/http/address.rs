//! Addresses of hosts in every spelling that some library reads, and whether they lie in the public internet.

use std::net::{Ipv4Addr, Ipv6Addr};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Public,
    /// This machine, a private network, or a range that nobody may serve from.
    Internal,
}

/// An IPv4 address as the C library and browsers read it: one to four parts, each decimal, octal or hexadecimal.
/// `None` when it is no number at all; `Some(None)` when it is one that overflows or that readers disagree about.
pub fn ipv4(host: &str) -> Option<Option<Ipv4Addr>> {
    let host = host.strip_suffix('.').unwrap_or(host);
    let last = host.rsplit('.').next().unwrap_or(host);
    if !is_number(last) {
        return None;
    }
    let mut parts = [0u64; 4];
    let mut count = 0;
    for part in host.split('.') {
        let Some(value) = number(part) else { return Some(None) };
        let Some(slot) = parts.get_mut(count) else { return Some(None) };
        *slot = value;
        count += 1;
    }
    let (head, tail) = (&parts[..count - 1], parts[count - 1]);
    if head.iter().any(|part| *part > 255) || tail >= 1 << (8 * (5 - count)) {
        return Some(None);
    }
    let value = head.iter().enumerate().fold(tail, |value, (index, part)| value | part << (24 - 8 * index));
    Some(u32::try_from(value).ok().map(Ipv4Addr::from))
}

fn is_number(part: &str) -> bool {
    let hex = part.strip_prefix("0x").or_else(|| part.strip_prefix("0X"));
    match hex {
        Some(digits) => digits.bytes().all(|byte| byte.is_ascii_hexdigit()),
        None => !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()),
    }
}

fn number(part: &str) -> Option<u64> {
    if !is_number(part) || part.len() > 40 {
        return None;
    }
    let (digits, radix) = match part.as_bytes() {
        [b'0', b'x' | b'X', ..] => (&part[2..], 16),
        [b'0', _, ..] => (&part[1..], 8),
        _ => (part, 10),
    };
    let digits = digits.trim_start_matches('0');
    if digits.is_empty() {
        return Some(0);
    }
    u64::from_str_radix(digits, radix).ok()
}

/// Ranges that no public server has.
pub const INTERNAL: &[([u8; 4], u32)] = &[
    ([0, 0, 0, 0], 8),
    ([10, 0, 0, 0], 8),
    ([100, 64, 0, 0], 10),
    ([127, 0, 0, 0], 8),
    ([169, 254, 0, 0], 16),
    ([172, 16, 0, 0], 12),
    ([192, 0, 0, 0], 24),
    ([192, 0, 2, 0], 24),
    ([192, 88, 99, 0], 24),
    ([192, 168, 0, 0], 16),
    ([198, 18, 0, 0], 15),
    ([198, 51, 100, 0], 24),
    ([203, 0, 113, 0], 24),
    ([224, 0, 0, 0], 3),
];

pub fn place_v4(address: Ipv4Addr) -> Place {
    let bits = address.to_bits();
    let inside = |(network, length): &([u8; 4], u32)| (bits ^ u32::from_be_bytes(*network)) >> (32 - length) == 0;
    if INTERNAL.iter().any(inside) { Place::Internal } else { Place::Public }
}

/// Where a version 6 address lies, and the version 4 address that it carries, if it is of a form that carries one.
pub fn place_v6(address: Ipv6Addr) -> (Place, Option<Ipv4Addr>) {
    let s = address.segments();
    let pair = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    let carried = match s {
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0, 0, 0, 0, 0xffff, 0, high, low] => Some(pair(high, low)),
        [0x64, 0xff9b, _, _, _, _, high, low] => Some(pair(high, low)),
        [0x2002, high, low, ..] => Some(pair(high, low)),
        [0x2001, 0, .., high, low] => Some(pair(!high, !low)),
        [_, _, _, _, 0 | 0x200, 0x5efe, high, low] => Some(pair(high, low)),
        _ => None,
    };
    let global = s[0] & 0xe000 == 0x2000;
    let special = (s[0] == 0x2001 && (s[1] < 0x200 || s[1] == 0xdb8)) || (s[0] == 0x3fff && s[1] < 0x1000);
    let place = if global && !special && carried.is_none_or(|carried| place_v4(carried) == Place::Public) { Place::Public } else { Place::Internal };
    (place, carried)
}

/// The addresses that a name carries in its letters: `10.0.0.1.nip.io`, `ip-10-0-0-1.example.org`.
pub fn carried(host: &str) -> impl Iterator<Item = Ipv4Addr> + '_ {
    let bytes = host.as_bytes();
    let starts = (0..bytes.len()).filter(move |&at| bytes[at].is_ascii_digit() && (at == 0 || !bytes[at - 1].is_ascii_alphanumeric()));
    starts.filter_map(move |start| {
        let mut octets = [0u8; 4];
        let mut at = start;
        for (index, octet) in octets.iter_mut().enumerate() {
            if index > 0 {
                if !matches!(bytes.get(at), Some(b'.' | b'-')) {
                    return None;
                }
                at += 1;
            }
            let end = (at..bytes.len().min(at + 4)).find(|&at| !bytes[at].is_ascii_digit()).unwrap_or(bytes.len().min(at + 4));
            *octet = host.get(at..end)?.parse().ok()?;
            at = end;
        }
        (!bytes.get(at).is_some_and(|byte| byte.is_ascii_alphanumeric())).then(|| Ipv4Addr::from(octets))
    })
}

/// A letter that looks like another and is read as it: full-width, enclosed, superscript and mathematical letters and digits,
/// and the dots of other scripts. `None` for a letter that is only itself.
pub fn plain_letter(letter: char) -> Option<char> {
    let code = letter as u32;
    let of = |base: u8, offset: u32| u8::try_from(offset).ok().and_then(|offset| base.checked_add(offset)).map(char::from);
    match code {
        0x3002 | 0xff0e | 0xff61 | 0x2024 | 0xfe52 => Some('.'),
        0xff01..=0xff5e => of(b'!', code - 0xff01),
        0x2460..=0x2468 => of(b'1', code - 0x2460),
        0x2474..=0x247c => of(b'1', code - 0x2474),
        0x2488..=0x2490 => of(b'1', code - 0x2488),
        0x24f5..=0x24fd => of(b'1', code - 0x24f5),
        0x2776..=0x277e => of(b'1', code - 0x2776),
        0x2780..=0x2788 => of(b'1', code - 0x2780),
        0x278a..=0x2792 => of(b'1', code - 0x278a),
        0x24ea | 0x24ff | 0x1f100 | 0x1f10b | 0x1f10c => Some('0'),
        0x24b6..=0x24cf => of(b'a', code - 0x24b6),
        0x24d0..=0x24e9 => of(b'a', code - 0x24d0),
        0x249c..=0x24b5 => of(b'a', code - 0x249c),
        0x1f110..=0x1f129 => of(b'a', code - 0x1f110),
        0x1f130..=0x1f149 => of(b'a', code - 0x1f130),
        0x1f150..=0x1f169 => of(b'a', code - 0x1f150),
        0x1f170..=0x1f189 => of(b'a', code - 0x1f170),
        0x1d7ce..=0x1d7ff => of(b'0', (code - 0x1d7ce) % 10),
        0x1d400..=0x1d6a3 => of(b'a', (code - 0x1d400) % 26),
        0x2070 => Some('0'),
        0xb9 => Some('1'),
        0xb2 => Some('2'),
        0xb3 => Some('3'),
        0x2074..=0x2079 => of(b'4', code - 0x2074),
        0x2080..=0x2089 => of(b'0', code - 0x2080),
        0x2139 => Some('i'),
        0x212a => Some('k'),
        0x17f => Some('s'),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_spelling_is_the_same_address() {
        let loopback = Some(Some(Ipv4Addr::LOCALHOST));
        for text in
            ["127.0.0.1", "127.1", "127.0.1", "0177.0.0.1", "0x7f.0.0.1", "0x7f000001", "2130706433", "017700000001", "127.0.0.1.", "0X7F.1", "00000177.1"]
        {
            assert_eq!(ipv4(text), loopback, "{text}");
        }
        for text in ["256.0.0.1", "1.2.3.4.5", "425.510.425.510", "7147006462", "1.2.3.08", "0x1ffffffff", "1..2", "127.0.0.1.."] {
            assert!(matches!(ipv4(text), Some(None) | None) && ipv4(text) != loopback, "{text}");
        }
        for text in ["example.com", "a1", "1.com", "127.0.0.1.nip.io", ""] {
            assert_eq!(ipv4(text), None, "{text}");
        }
    }

    #[test]
    fn forms_of_version_6_that_carry_version_4() {
        for text in [
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "2001:0:0:0:0:0:80ff:fffe",
            "2001:4860:1::5efe:7f00:1",
            "::ffff:0:127.0.0.1",
        ] {
            let (place, carried) = place_v6(text.parse().unwrap());
            assert_eq!((place, carried), (Place::Internal, Some(Ipv4Addr::LOCALHOST)), "{text}");
        }
        for text in ["::", "::1", "fe80::1", "fec0::1", "fd00::1", "fc00::", "ff02::1", "2001:db8::1", "100::1", "2001:2::1", "3fff::1", "4000::1"] {
            assert_eq!(place_v6(text.parse().unwrap()).0, Place::Internal, "{text}");
        }
        for text in ["2606:4700::1111", "2a00:1450:4001:82a::200e", "2001:4860:4860::8888"] {
            assert_eq!(place_v6(text.parse().unwrap()), (Place::Public, None), "{text}");
        }
    }

    #[test]
    fn names_that_carry_an_address() {
        let first = |host| carried(host).next();
        for host in ["10.0.0.1.nip.io", "a.b.10-0-0-1.sslip.io", "ip-10-0-0-1.example.org", "make-10.0.0.1-rebind.example.org"] {
            assert_eq!(first(host), Some(Ipv4Addr::new(10, 0, 0, 1)), "{host}");
        }
        for host in ["example.org", "1.2.3.example.org", "a10.0.0.1b.example.org", "2024-01-02.example.org", "300.1.1.1.x"] {
            assert_eq!(first(host), None, "{host}");
        }
    }

    proptest! {
        #[test]
        fn a_number_is_read_alike_however_it_is_written(bits: u32, shape in 0usize..6) {
            let [a, b, c, d] = bits.to_be_bytes();
            let text = match shape {
                0 => format!("{a}.{b}.{c}.{d}"),
                1 => format!("0x{bits:x}"),
                2 => format!("0{bits:o}"),
                3 => format!("{bits}"),
                4 => format!("0{a:o}.0x{b:X}.{}", u32::from(c) << 8 | u32::from(d)),
                _ => format!("{a}.{}.", bits & 0x00ff_ffff),
            };
            prop_assert_eq!(ipv4(&text), Some(Some(Ipv4Addr::from_bits(bits))), "{}", text);
        }

        #[test]
        fn nothing_panics(text in ".{0,60}") {
            let _ = (ipv4(&text), carried(&text).count(), text.chars().filter_map(plain_letter).count());
        }
    }
}
