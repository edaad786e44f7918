//! The name of an exact call: what a person approves is this and nothing else.
//!
//! SHA-256 over the RFC 8785 form (sorted keys, one spelling per number and string), so that two spellings of one call
//! have one digest and two calls never share one.

use crate::Call;
use ring::digest::SHA256;
use serde_json::{Map, Number, Value, json};
use std::fmt::{self, Write as _};

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    pub fn parse(text: &str) -> Option<Digest> {
        from_hex(text).map(Digest)
    }

    /// The hash of these bytes.
    pub fn of(bytes: &[u8]) -> Digest {
        let mut digest = [0; 32];
        digest.copy_from_slice(ring::digest::digest(&SHA256, bytes).as_ref());
        Digest(digest)
    }
}

pub(crate) fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != 2 * N || !text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)) {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

pub(crate) fn write_hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, f)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

/// `presentation` names the arguments of this tool that only change how the call looks or how long it is waited for.
pub fn digest(call: &Call<'_>, presentation: &[String]) -> Digest {
    let mut arguments = call.arguments.clone();
    if let Value::Object(map) = &mut arguments {
        map.retain(|key, _| !presentation.iter().any(|name| name == key));
    }
    let resolved: Map<String, Value> = call.resolved.iter().map(|(name, path)| (name.clone(), json!(path))).collect();
    let named = json!({
        "assistant": call.assistant,
        "tool": call.tool,
        "arguments": arguments,
        "workspace": call.workspace,
        "resolved": resolved,
    });
    Digest::of(canonical_json(&named).as_bytes())
}

/// The RFC 8785 form of a JSON value.
pub fn canonical_json(value: &Value) -> String {
    let mut out = String::new();
    write_value(value, &mut out);
    out
}

fn write_value(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(flag) => out.push_str(if *flag { "true" } else { "false" }),
        Value::Number(number) => write_number(number, out),
        Value::String(text) => write_string(text, out),
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_value(item, out);
            }
            out.push(']');
        }
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by(|a, b| a.0.encode_utf16().cmp(b.0.encode_utf16()));
            out.push('{');
            for (index, (key, item)) in entries.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_string(key, out);
                out.push(':');
                write_value(item, out);
            }
            out.push('}');
        }
    }
}

/// serde_json escapes exactly what RFC 8785 asks for: the two mandatory characters, the short forms, `\u00xx` for other controls.
fn write_string(text: &str, out: &mut String) {
    out.push_str(&Value::String(text.to_owned()).to_string());
}

/// Integers as they are; everything else as ECMAScript prints a double. Integers beyond 2^53 keep their digits: RFC 8785
/// would round them, and then two different calls would share a digest.
fn write_number(number: &Number, out: &mut String) {
    match number.as_f64() {
        _ if number.is_i64() || number.is_u64() => {
            let _ = write!(out, "{number}");
        }
        Some(double) => out.push_str(&ecmascript_double(double)),
        None => out.push_str(&number.to_string()),
    }
}

fn ecmascript_double(double: f64) -> String {
    if double == 0.0 {
        return "0".to_owned();
    }
    let scientific = format!("{:e}", double.abs());
    let (mantissa, exponent) = scientific.split_once('e').expect("`{:e}` always writes an exponent");
    let exponent: i32 = exponent.parse().expect("`{:e}` writes a decimal exponent");
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    let count = digits.len() as i32;
    let point = exponent + 1;
    let text = match point {
        _ if count <= point && point <= 21 => format!("{digits}{}", "0".repeat((point - count) as usize)),
        1..=21 => format!("{}.{}", &digits[..point as usize], &digits[point as usize..]),
        -5..=0 => format!("0.{}{digits}", "0".repeat(-point as usize)),
        _ => {
            let sign = if exponent < 0 { '-' } else { '+' };
            let fraction = if count > 1 { format!(".{}", &digits[1..]) } else { String::new() };
            format!("{}{fraction}e{sign}{}", &digits[..1], exponent.abs())
        }
    };
    if double < 0.0 { format!("-{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(tool: &str, arguments: &Value) -> Digest {
        let call = Call { assistant: "ast_1", tool, arguments, workspace: "/w", resolved: &[] };
        digest(&call, &["title".to_owned()])
    }

    #[test]
    fn doubles_are_spelt_as_in_the_rfc() {
        // Appendix B of RFC 8785.
        for (bits, expected) in [
            (0x0000000000000000u64, "0"),
            (0x8000000000000000, "0"),
            (0x0000000000000001, "5e-324"),
            (0x7fefffffffffffff, "1.7976931348623157e+308"),
            (0x4340000000000000, "9007199254740992"),
            (0x4430000000000000, "295147905179352830000"),
            (0x44b52d02c7e14af5, "9.999999999999997e+22"),
            (0x44b52d02c7e14af6, "1e+23"),
            (0x444b1ae4d6e2ef4e, "999999999999999700000"),
            (0x444b1ae4d6e2ef50, "1e+21"),
            (0x3eb0c6f7a0b5ed8c, "9.999999999999997e-7"),
            (0x3eb0c6f7a0b5ed8d, "0.000001"),
            (0x41b3de4355555553, "333333333.3333332"),
            (0xbecbf647612f3696, "-0.0000033333333333333333"),
        ] {
            assert_eq!(ecmascript_double(f64::from_bits(bits)), expected);
        }
    }

    #[test]
    fn keys_sort_by_utf16_and_strings_keep_one_spelling() {
        let value: Value = serde_json::from_str(r#"{"\u20ac":1,"\r":2,"\ufb33":3,"1":4,"\ud83d\ude00":5,"\u0080":6,"\u00f6":7}"#).unwrap();
        assert_eq!(canonical_json(&value), "{\"\\r\":2,\"1\":4,\"\u{80}\":6,\"ö\":7,\"€\":1,\"😀\":5,\"\u{fb33}\":3}");
    }

    #[test]
    fn presentation_does_not_change_the_call_and_everything_else_does() {
        let plain = of("exec", &json!({"command": "ls"}));
        assert_eq!(plain, of("exec", &json!({"command": "ls", "title": "List files"})));
        assert_ne!(plain, of("exec", &json!({"command": "ls "})));
        assert_ne!(plain, of("process", &json!({"command": "ls"})));
        assert_ne!(plain, of("exec", &json!({"command": "ls", "workdir": "/"})));
        assert_ne!(of("x", &json!({"n": 9007199254740993u64})), of("x", &json!({"n": 9007199254740992u64})));
    }

    #[test]
    fn a_digest_reads_back() {
        let digest = of("exec", &json!({}));
        assert_eq!(Digest::parse(&digest.to_string()), Some(digest));
        for bad in ["", "zz", &"g".repeat(64), &"ä".repeat(32), &digest.to_string()[1..]] {
            assert_eq!(Digest::parse(bad), None);
        }
    }

    proptest! {
        #[test]
        fn canonical_text_is_json_and_says_the_same(key in ".*", text in ".*", number in any::<f64>().prop_filter("JSON has no NaN", |n| n.is_finite())) {
            let value = json!({ key: [text, number] });
            let again: Value = serde_json::from_str(&canonical_json(&value)).unwrap();
            prop_assert_eq!(canonical_json(&again), canonical_json(&value));
        }
    }
}
