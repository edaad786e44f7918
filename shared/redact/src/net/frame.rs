//! Secrets that stand in a frame: PEM blocks, PuTTY keys, signed tokens, addresses with a password, webhooks.
//!
//! Each frame has a mark that is rare in other text (`-----BEGIN`, `://`, `eyJ`), found at the speed of memory.

use super::Catch;
use super::rules::Form;
use super::value::{self, Looks};
use memchr::memmem;

/// A user name or a password in an address is not longer.
const USERINFO_BYTES_MAX: usize = 220;
/// The header of a signed token. Longer ones are not recognised before their first dot, so that a stream can wait for it.
const JWT_HEADER_BYTES_MAX: usize = 240;

/// Searches for the marks, made once: making one takes longer than searching a line with it.
pub struct Marks {
    pem: memmem::Finder<'static>,
    putty: memmem::Finder<'static>,
    address: memmem::Finder<'static>,
    jwt: memmem::Finder<'static>,
}

impl Marks {
    pub fn new() -> Marks {
        let finder = |mark: &'static str| memmem::Finder::new(mark);
        Marks { pem: finder("-----BEGIN"), putty: finder("Private-Lines:"), address: finder("://"), jwt: finder("eyJ") }
    }
}

pub fn scan(catch: &mut Catch) {
    let marks = &catch.net.marks;
    let text = catch.text.as_bytes();
    let mut done = 0;
    for at in marks.pem.find_iter(text) {
        if at >= done {
            done = pem(catch, at);
        }
    }
    for at in marks.putty.find_iter(text) {
        putty(catch, at);
    }
    for at in marks.address.find_iter(text) {
        address(catch, at);
    }
    for at in marks.jwt.find_iter(text) {
        jwt(catch, at);
    }
    // Crypt's own form: `$6$salt$hash`. A bare `$` is frequent, two of them two bytes apart are not.
    for at in memchr::memchr_iter(b'$', text) {
        if matches!(text.get(at + 1), Some(b'1'..=b'9' | b'y' | b'a' | b'k' | b'p' | b's'))
            && text[at + 2..].iter().take(8).any(|byte| matches!(byte, b'$' | b'2' | b'5'))
        {
            crypt(catch, at);
        }
    }
}

/// From the header to the footer, or to where the text ends; a block without a body of base64 is a sample.
fn pem(catch: &mut Catch, at: usize) -> usize {
    let text = catch.text.as_bytes();
    let header = &text[at..(at + 90).min(text.len())];
    let Some(label_end) = memmem::find(&header[10..], b"-----").map(|end| at + 10 + end + 5) else { return at };
    if !memmem::find(&text[at..label_end], b"PRIVATE KEY").is_some_and(|_| {
        text[at + 10..label_end - 5].iter().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || matches!(byte, b' ' | b'-' | b'_'))
    }) {
        return label_end;
    }
    let rest = &text[label_end..];
    // A second header before the footer: the first block was cut off. Nothing behind it is looked at, so that many headers
    // without a footer take no longer than one.
    let next = memmem::find(rest, b"-----BEGIN");
    let footer = memmem::find(&rest[..next.unwrap_or(rest.len())], b"-----END");
    let next = next.filter(|_| footer.is_none());
    let body_end = next.or(footer).map_or(text.len(), |end| label_end + end);
    let body = &text[label_end..body_end];
    let letters = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=');
    // Line breaks may be written out, and lines be quoted and joined, so that all that is not base64 is passed over.
    let longest = body.split(|byte| !letters(byte)).map(<[u8]>::len).max().unwrap_or(0);
    let solid = body.iter().filter(|byte| letters(byte)).count();
    if longest < 16 || solid < 24 || memmem::find(body, b"xxxxxxxx").is_some() || Looks::of(&body[..body.len().min(400)]).distinct < 4 {
        return label_end;
    }
    // Without a footer the block ends where its lines stop looking like base64.
    let end = match (next, footer) {
        (None, Some(footer)) => {
            let tail = &rest[footer + 8..(footer + 100).min(rest.len())];
            label_end + footer + 8 + memmem::find(tail, b"-----").map_or(0, |end| end + 5)
        }
        _ => label_end + open_end(body),
    };
    catch.form(Form::PrivateKey, at, end);
    end
}

fn open_end(body: &[u8]) -> usize {
    let mut end = 0;
    for line in body.split_inclusive(|byte| *byte == b'\n') {
        let words = line.iter().filter(|byte| **byte == b' ').count();
        if words > 3 && !line.contains(&b':') && end > 0 {
            break;
        }
        end += line.len();
    }
    end
}

/// The private half of a `.ppk` file: base64 lines until `Private-MAC`.
fn putty(catch: &mut Catch, at: usize) {
    let text = catch.text.as_bytes();
    let start = at + b"Private-Lines:".len();
    let length = text[start..]
        .iter()
        .take(8192)
        .take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=' | b' ' | b'\r' | b'\n' | b'\\'))
        .count();
    let body = &text[start..start + length];
    let end = memmem::find(body, b"Private").map_or(length, |end| end);
    if body[..end].iter().filter(|byte| byte.is_ascii_alphanumeric()).count() >= 24 {
        catch.form(Form::PrivateKey, start, start + end);
    }
}

/// `header.payload`, both base64 of JSON; with or without a signature.
fn jwt(catch: &mut Catch, at: usize) {
    let text = catch.text.as_bytes();
    if at > 0 && (text[at - 1].is_ascii_alphanumeric() || matches!(text[at - 1], b'/' | b'+')) {
        return;
    }
    let letter = |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(**byte, b'_' | b'-' | b'+' | b'/' | b'=');
    let part = |from: usize, max: usize| text[from.min(text.len())..].iter().take(max).take_while(letter).count();
    let header = part(at, JWT_HEADER_BYTES_MAX);
    if header < 14 || text.get(at + header) != Some(&b'.') {
        return;
    }
    let payload = part(at + header + 1, usize::MAX);
    let looks = Looks::of(&text[at + 3..at + header]);
    if payload < 10 || looks.is_monotone() || Looks::of(&text[at + header + 1..at + header + 1 + payload.min(64)]).is_monotone() {
        return;
    }
    let mut end = at + header + 1 + payload;
    for _ in 0..3 {
        if text.get(end) == Some(&b'.') {
            let more = part(end + 1, usize::MAX);
            if more == 0 && text.get(end + 1) != Some(&b'.') {
                break;
            }
            end += 1 + more;
        }
    }
    catch.form(Form::Jwt, at, end);
}

/// What makes a webhook's address a secret: a part behind the host that is long enough.
const HOOK_BYTES_MIN: usize = 8;
/// How much of its address is looked at.
const HOOK_BYTES_MAX: usize = 512;

fn has_part(rest: &[u8]) -> bool {
    let mut part = None;
    rest.iter().any(|byte| {
        part = match (byte, part) {
            (b'/' | b'?' | b'=' | b'&' | b'@' | b':', _) => Some(0),
            (_, part) => part.map(|len| len + 1),
        };
        part == Some(HOOK_BYTES_MIN)
    })
}

/// `scheme://user:password@host`, and addresses of webhooks, which need no password.
fn address(catch: &mut Catch, at: usize) {
    let net = catch.net;
    let text = catch.text.as_bytes();
    let scheme = text[..at].iter().rev().take(24).take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.')).count();
    if scheme == 0 {
        return;
    }
    let start = at + 3;
    let ends = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b'"' | b'\'' | b'`' | b'<' | b'>' | b'\\') && *byte != 0;
    let length = |bytes_max: usize| text[start..].iter().take(bytes_max).take_while(|byte| !ends(byte)).count();
    let near = &text[start..start + length(USERINFO_BYTES_MAX)];
    if has_part(near)
        && let Some(hook) = net.rules.webhooks.find(&near[..near.len().min(120)])
    {
        let rest = &text[start..start + length(HOOK_BYTES_MAX)];
        let path = &rest[hook.end()..];
        let path = &path[..path.iter().position(|byte| matches!(byte, b',' | b')' | b']' | b'|')).unwrap_or(path.len())];
        let shown = String::from_utf8_lossy(path.strip_prefix(b"/").unwrap_or(path));
        let mut parts = path.split(|byte| matches!(byte, b'/' | b'?' | b'=' | b'&' | b'@' | b':'));
        let random = parts.any(|part| part.len() >= HOOK_BYTES_MIN && Looks::of(part).is_random());
        if random && !value::is_placeholder(&shown) {
            catch.form(Form::Webhook, at - scheme, start + hook.end() + path.len());
            return;
        }
    }
    let Some(colon) = near.iter().position(|byte| *byte == b':') else { return };
    // A password may hold a slash or an at; the last at before the host's own slash ends it.
    let slash = near.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(near.len());
    let Some(sign) =
        near[..slash].iter().rposition(|byte| *byte == b'@').or_else(|| near.iter().position(|byte| *byte == b'@').filter(|sign| is_host(&near[sign + 1..])))
    else {
        return;
    };
    if sign <= colon + 1 || near[..colon].iter().any(|byte| matches!(byte, b'/' | b'@' | b'?')) {
        return;
    }
    let password = &near[colon + 1..sign];
    let port = password.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if port > 0 && port < 6 && matches!(password.get(port), Some(b'/' | b'?')) {
        return;
    }
    let Ok(shown) = std::str::from_utf8(password) else { return };
    let looks = Looks::of(password);
    let plain = looks.digit == 0 && looks.mark == 0 && (looks.upper == 0 || looks.lower == 0) && (looks.len < 12 || looks.surprise < 5.0);
    let template = shown.contains('{') && shown.contains('}') || shown.contains('«');
    if looks.len < 4
        || plain
        || template
        || looks.digit == looks.len && looks.len < 6
        || value::is_placeholder(shown)
        || password == &near[..colon]
        || shown.contains(['{', '}', '$', '<', '*', '[', ']']) && looks.digit < 2
    {
        return;
    }
    catch.form(Form::UrlPassword, start + colon + 1, start + sign);
}

fn is_host(rest: &[u8]) -> bool {
    let host = rest.iter().take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-')).count();
    host > 3 && rest[..host].contains(&b'.')
}

/// `$6$salt$hash` and its relatives; under the name of a hash it is one that may be shown.
fn crypt(catch: &mut Catch, at: usize) {
    let text = catch.text.as_bytes();
    if at > 0 && (text[at - 1].is_ascii_alphanumeric() || text[at - 1] == b'$') {
        return;
    }
    let body = text[at..]
        .iter()
        .take(600)
        .take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'$' | b'.' | b'/' | b'=' | b',' | b'+' | b'-' | b'_' | b'*' | b'@' | b':'))
        .count();
    let body = &text[at..at + body];
    let kinds: &[&[u8]] =
        &[b"$1$", b"$5$", b"$6$", b"$7$", b"$8$", b"$9$", b"$y$", b"$2a$", b"$2b$", b"$2y$", b"$apr1$", b"$argon2", b"$krb5", b"$pbkdf2", b"$scrypt"];
    if !kinds.iter().any(|kind| body.starts_with(kind)) || body.len() < 24 || body.iter().filter(|byte| **byte == b'$').count() < 3 {
        return;
    }
    let tail = body.rsplit(|byte| *byte == b'$').next().unwrap_or(b"");
    if tail.len() < 16 || !Looks::of(tail).is_random() {
        return;
    }
    let before = text[at.saturating_sub(16)..at].to_ascii_lowercase();
    if memmem::find(&before, b"hash").is_some() {
        return;
    }
    catch.form(Form::PasswordHash, at, at + body.len());
}
