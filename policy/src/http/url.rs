//! An address as text, taken apart strictly: what two libraries could read differently is not read at all.
//!
//! Refused: control characters, backslashes, anything before an `@` in the host, percent signs in the host, a missing
//! or doubled slash after the scheme, ports that are not plain numbers, names with empty labels.

use super::address::plain_letter;

#[derive(Debug, PartialEq, Eq)]
pub struct Url<'a> {
    pub https: bool,
    /// Lower case, letters that only look like others replaced, without the brackets of version 6 and a final dot.
    pub host: String,
    pub is_v6: bool,
    /// The host was written with letters that stand for others, or ended in a dot.
    pub disguised: bool,
    /// The host has letters beyond ASCII, or says that it has.
    pub foreign: bool,
    pub port: u16,
    pub path: &'a str,
    pub query: &'a str,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Fault {
    /// Another scheme than `http` and `https`.
    Scheme,
    /// Somebody's name or password stands before the host.
    Userinfo,
    Unreadable,
}

pub fn parse(text: &str) -> Result<Url<'_>, Fault> {
    if text.len() > BYTES_MAX || text.chars().any(|letter| letter.is_control() || is_invisible(letter)) {
        return Err(Fault::Unreadable);
    }
    let (scheme, rest) = text.split_once(':').ok_or(Fault::Unreadable)?;
    if !scheme.starts_with(|letter: char| letter.is_ascii_alphabetic())
        || !scheme.chars().all(|letter| letter.is_ascii_alphanumeric() || "+-.".contains(letter))
    {
        return Err(Fault::Unreadable);
    }
    let https = scheme.eq_ignore_ascii_case("https");
    if !https && !scheme.eq_ignore_ascii_case("http") {
        return Err(Fault::Scheme);
    }
    let rest = rest.strip_prefix("//").filter(|rest| !rest.starts_with('/')).ok_or(Fault::Unreadable)?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(end);
    // Readers disagree whether a `#` or `?` without a path before it ends the host, when an `@` follows.
    let bent = tail.starts_with("?@") || (tail.starts_with('#') && tail.contains('@'));
    if (authority.contains('@') || bent) && !authority.contains('\\') {
        return Err(Fault::Userinfo);
    }
    let tail = tail.split('#').next().unwrap_or_default();
    let (path, query) = tail.split_once('?').unwrap_or((tail, ""));
    if authority.contains(['\\', '%', ' ', '<', '>', '"', '^', '`', '{', '|', '}', '!', ',', ';', '=', '*', '(', ')', '\'', '$', '&', '+'])
        || path.contains('\\')
    {
        return Err(Fault::Unreadable);
    }
    let (host, port) = split_port(authority, https)?;
    let mut url = Url { https, host: String::with_capacity(host.len()), is_v6: false, disguised: false, foreign: false, port, path, query };
    if let Some(inner) = host.strip_prefix('[') {
        url.host.push_str(inner.strip_suffix(']').ok_or(Fault::Unreadable)?);
        url.is_v6 = true;
        return Ok(url);
    }
    url.name(host)?;
    Ok(url)
}

const BYTES_MAX: usize = 16 * 1024;

impl Url<'_> {
    fn name(&mut self, host: &str) -> Result<(), Fault> {
        for letter in host.chars() {
            match plain_letter(letter) {
                Some(plain) => {
                    self.disguised = true;
                    self.host.push(plain.to_ascii_lowercase());
                }
                None if letter.is_ascii_alphanumeric() || "-_.".contains(letter) => self.host.push(letter.to_ascii_lowercase()),
                None if letter.is_alphabetic() || (!letter.is_ascii() && letter.is_numeric()) => {
                    self.foreign = true;
                    self.host.extend(letter.to_lowercase());
                }
                None => return Err(Fault::Unreadable),
            }
        }
        if self.host.ends_with('.') {
            self.host.pop();
            self.disguised = true;
        }
        if self.host.is_empty() || self.host.len() > 253 || self.host.split('.').any(|label| label.is_empty() || label.len() > 63) {
            return Err(Fault::Unreadable);
        }
        self.foreign |= self.host.split('.').any(|label| label.starts_with("xn--"));
        Ok(())
    }
}

fn split_port(authority: &str, https: bool) -> Result<(&str, u16), Fault> {
    let after = authority.rfind(']').map_or(0, |at| at + 1);
    let Some(colon) = authority[after..].find(':').map(|at| at + after) else {
        return Ok((authority, if https { 443 } else { 80 }));
    };
    let digits = &authority[colon + 1..];
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.starts_with('0');
    let port = plain.then(|| digits.parse().ok()).flatten().ok_or(Fault::Unreadable)?;
    Ok((&authority[..colon], port))
}

/// Letters that are not seen: a host with one looks like another host.
pub fn is_invisible(letter: char) -> bool {
    matches!(letter, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

/// `text` with percent signs resolved twice, because some servers do; what is no UTF-8 stays as it is.
pub fn decoded(text: &str) -> std::borrow::Cow<'_, str> {
    let mut text = std::borrow::Cow::Borrowed(text);
    for _ in 0..2 {
        if !text.contains('%') {
            break;
        }
        let mut bytes = Vec::with_capacity(text.len());
        let mut rest = text.as_bytes();
        while let Some((&first, tail)) = rest.split_first() {
            let hex = (first == b'%')
                .then(|| tail.get(..2).and_then(|pair| std::str::from_utf8(pair).ok()).and_then(|pair| u8::from_str_radix(pair, 16).ok()))
                .flatten();
            match hex {
                Some(byte) => {
                    bytes.push(byte);
                    rest = &tail[2..];
                }
                None => {
                    bytes.push(first);
                    rest = tail;
                }
            }
        }
        match String::from_utf8(bytes) {
            Ok(plain) => text = std::borrow::Cow::Owned(plain),
            Err(_) => break,
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_host_is_what_every_library_takes_it_for() {
        for (text, host, port) in [
            ("https://Example.COM/a", "example.com", 443),
            ("http://example.com:8080?x", "example.com", 8080),
            ("HTTPS://a.b/c@d#e@f", "a.b", 443),
            ("http://[::1]:8080/", "::1", 8080),
            ("http://ⓔⓧⓐⓜⓟⓛⓔ.ⓒⓞⓜ", "example.com", 80),
            ("http://１２７。0。0。1/", "127.0.0.1", 80),
            ("http://localhost./", "localhost", 80),
        ] {
            let url = parse(text).unwrap();
            assert_eq!((url.host.as_str(), url.port), (host, port), "{text}");
        }
    }

    #[test]
    fn what_is_read_differently_is_not_read() {
        for text in [
            "",
            "example.com",
            "http:example.com",
            "http:/example.com",
            "http:///example.com",
            "//example.com",
            "http://",
            "http://a..b/",
            "http://a b/",
            "http://a\tb/",
            "http://a%2eb/",
            "http://a:b/",
            "http://a:080/",
            "http://a:/",
            "http://a:99999/",
            "http://a:+80/",
            "http://a\\b/",
            "http://a/\\b",
            "http://a!/",
            "http://[::1/",
            "http://a\u{200b}b/",
            "http://127.1.1.1:80\\@127.2.2.2:80/",
            " http://a.b/",
            "1http://a.b/",
        ] {
            assert_eq!(parse(text), Err(Fault::Unreadable), "{text:?}");
        }
        for text in ["http://a@b/", "http://a:b@c/", "http://a@b@c/", "http://a#@b@/", "http://a?@b", "http://foo@127.0.0.1:80@example.com/"] {
            assert_eq!(parse(text), Err(Fault::Userinfo), "{text}");
        }
        for text in ["file:///a", "gopher://a", "data:,x", "jar:http://a!/", "javascript:1", "ftp://a", "netdoc:///a", "ws://a/"] {
            assert_eq!(parse(text), Err(Fault::Scheme), "{text}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(text in ".{0,120}", odd in "[a-z:/@#?%\\[\\]\\\\.0-9x]{0,60}") {
            let _ = (parse(&text), parse(&odd), parse(&format!("http://{odd}")), decoded(&text), decoded(&odd));
        }
    }
}
