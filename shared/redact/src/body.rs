//! Whole bodies: opened first if they are packed, within limits, and refused if they cannot be read.

use crate::decode::{self, Opening};
use crate::{Finding, Redactor};
use std::borrow::Cow;

/// An unpacked body. The largest that a provider takes.
pub const BODY_BYTES_MAX: usize = 32 << 20;
/// Codings of one body.
const CODINGS_MAX: usize = 3;

/// A body as it may leave.
#[derive(Debug)]
pub struct Body<'a> {
    pub bytes: Cow<'a, [u8]>,
    /// Spans are of the bytes that came in, unpacked.
    pub findings: Vec<Finding>,
}

/// Why a body does not leave.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    #[error("the body is not JSON that can be read, at byte {at}: send well-formed JSON")]
    Malformed { at: usize },
    #[error("the body is nested deeper than can be walked, or has too many parts")]
    TooDeep,
    #[error("the value of the secret `{name}` stands at `{path}`, which cannot be edited: take it out there")]
    Blocked { path: String, name: String },
    #[error("the body is encoded as `{0}`, which cannot be opened here: send it plain or as gzip")]
    Encoding(String),
    #[error("the body cannot be unpacked as `{0}`")]
    Broken(String),
    #[error("the body is larger than {bytes_max} bytes")]
    TooLarge { bytes_max: usize },
}

/// `body` unpacked, as its `Content-Encoding` says, or as its first bytes do.
pub fn open<'a>(encoding: &str, body: &'a [u8]) -> Result<Cow<'a, [u8]>, BodyError> {
    let codings: Vec<String> =
        encoding.split(',').map(|coding| coding.trim().to_ascii_lowercase()).filter(|coding| !matches!(coding.as_str(), "" | "identity")).collect();
    if codings.len() > CODINGS_MAX {
        return Err(BodyError::Encoding(cut(encoding)));
    }
    let mut opened = Cow::Borrowed(body);
    for coding in codings.iter().rev() {
        opened = Cow::Owned(unpacked(coding, &opened)?);
    }
    if codings.is_empty() && opened.starts_with(&[0x1f, 0x8b]) {
        opened = Cow::Owned(unpacked("gzip", &opened)?);
    }
    if opened.len() > BODY_BYTES_MAX {
        return Err(BodyError::TooLarge { bytes_max: BODY_BYTES_MAX });
    }
    match &opened[..] {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Err(BodyError::Encoding("utf-16".to_owned())),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Err(BodyError::Encoding("zstd".to_owned())),
        _ => Ok(opened),
    }
}

fn unpacked(coding: &str, bytes: &[u8]) -> Result<Vec<u8>, BodyError> {
    decode::opened(coding, bytes, BODY_BYTES_MAX).map_err(|opening| match opening {
        Opening::Unknown => BodyError::Encoding(cut(coding)),
        Opening::Broken => BodyError::Broken(cut(coding)),
        Opening::TooLarge => BodyError::TooLarge { bytes_max: BODY_BYTES_MAX },
    })
}

/// A name from outside, in an error.
fn cut(name: &str) -> String {
    name.chars().take(32).collect()
}

impl Redactor {
    /// Redacts a body whatever it is: JSON by its content, not by its header, else text. In bytes that are no text, a known
    /// secret blocks.
    pub fn body<'a>(&self, body: &'a [u8]) -> Result<Body<'a>, BodyError> {
        if body.trim_ascii_start().first().is_some_and(|byte| matches!(byte, b'{' | b'[')) {
            return self.json(body);
        }
        let Ok(text) = std::str::from_utf8(body) else {
            self.block(body, |_| true, || "body".to_owned())?;
            return Ok(Body { bytes: body.into(), findings: Vec::new() });
        };
        let redaction = self.text(text);
        let bytes = match redaction.text {
            Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
            Cow::Owned(text) => Cow::Owned(text.into_bytes()),
        };
        Ok(Body { bytes, findings: redaction.findings })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Known;
    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
    use std::io::Write;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).expect("memory takes it");
        encoder.finish().expect("memory takes it")
    }

    #[test]
    fn packed_bodies_are_opened_or_refused_by_name() {
        let body = b"{\"a\":1}";
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
        zlib.write_all(body).expect("memory takes it");
        let mut raw = DeflateEncoder::new(Vec::new(), Compression::fast());
        raw.write_all(body).expect("memory takes it");
        for (encoding, packed) in [
            ("", body.to_vec()),
            ("identity", body.to_vec()),
            ("gzip", gzip(body)),
            ("", gzip(body)),
            ("deflate", zlib.finish().expect("memory takes it")),
            ("deflate", raw.finish().expect("memory takes it")),
            ("gzip, gzip", gzip(&gzip(body))),
        ] {
            assert_eq!(open(encoding, &packed).as_deref(), Ok(body.as_slice()), "{encoding}");
        }
        assert_eq!(open("br", body), Err(BodyError::Encoding("br".to_owned())));
        assert_eq!(open("", b"\x28\xb5\x2f\xfd1234"), Err(BodyError::Encoding("zstd".to_owned())));
        assert_eq!(open("", b"\xff\xfe{\0"), Err(BodyError::Encoding("utf-16".to_owned())));
        assert_eq!(open("gzip", b"no gzip"), Err(BodyError::Broken("gzip".to_owned())));
        assert_eq!(open("gzip", &gzip(body)[..15]), Err(BodyError::Broken("gzip".to_owned())));
        assert_eq!(open("gzip", &gzip(&vec![0; BODY_BYTES_MAX + 1])), Err(BodyError::TooLarge { bytes_max: BODY_BYTES_MAX }));
    }

    #[test]
    fn a_body_is_read_by_what_it_is() {
        let redactor = Redactor::new(Known::new([("db", b"Sommer#2026x".as_slice())]), &[3; 32]);
        let done = |body: &[u8]| redactor.body(body).map(|body| String::from_utf8_lossy(&body.bytes).into_owned());
        assert_eq!(done(b" {\"a\":\"Sommer\\u00232026x\"}"), Ok(" {\"a\":\"SECRET_REF(db)\"}".to_owned()));
        assert_eq!(done(b"a=Sommer%232026x&b=1"), Ok("a=SECRET_REF(db)&b=1".to_owned()));
        assert_eq!(done(b"{\"a\""), Err(BodyError::Malformed { at: 4 }));
        assert_eq!(done(b"\xff\xffSommer#2026x"), Err(BodyError::Blocked { path: "body".to_owned(), name: "db".to_owned() }));
        assert!(done(b"\xff\xffother").is_ok());
    }

    #[test]
    fn what_somebody_may_have_stays_and_nothing_else_does() {
        let token = format!("ghp_{}", "aB3dE6gH9jK2".repeat(3));
        let redactor = Redactor::new(Known::new([("db", b"Sommer#2026x".as_slice()), ("git", token.as_bytes())]), &[3; 32]);
        let spared = redactor.sparing(["git".to_owned()]);
        let done = |redactor: &Redactor, body: &str| redactor.body(body.as_bytes()).map(|body| String::from_utf8_lossy(&body.bytes).into_owned());
        for body in [format!("{{\"token\":\"{token}\"}}"), format!("token={token}&x=1"), format!("Authorization: Bearer {token}")] {
            assert_eq!(done(&spared, &body), Ok(body.clone()));
            assert!(!done(&redactor, &body).unwrap().contains(&token), "{body}");
            let both = body.replace("x=1", "x=Sommer#2026x").replace("{\"token", "{\"a\":\"Sommer#2026x\",\"token");
            assert!(!done(&spared, &both).unwrap().contains("Sommer"), "{both}");
        }
        let packed = [&b"\xff\xff"[..], token.as_bytes()].concat();
        assert!(spared.body(&packed).is_ok() && redactor.body(&packed).is_err());
    }
}
