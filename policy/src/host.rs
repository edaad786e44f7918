//! Where assistants may connect to: hosts in every spelling, the lists that allow them, and what no list can allow.
//!
//! Nobody resolves a name here. [`decide`] says what a list makes of a host before it is looked up, so a host that is not
//! allowed is not even asked for; [`Http::closed_address`] judges each address that a name led to, before it is connected.

use crate::http::Http;
use crate::http::address;
/// Ranges of version 4 that no public server has: network and length.
pub use crate::http::address::INTERNAL as INTERNAL_V4;
use crate::http::url::is_invisible;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// A host as everybody reads it: lower case, no final dot, letters beyond ASCII as `xn--`, numbers as addresses.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    Name(String),
    Address(IpAddr),
}

/// Where a connection leads.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    pub host: Host,
    pub port: u16,
}

/// One line of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "AllowedText", into = "AllowedText")]
pub struct Allowed {
    /// With `*.` before it: everything below, and not the host itself.
    pub below: bool,
    pub host: Host,
    /// `None`: the ports of the web.
    pub port: Option<u16>,
    pub reach: Reach,
    pub manner: Manner,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    /// `GET`, `HEAD` and `OPTIONS`.
    #[default]
    Read,
    /// Every method.
    Write,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Manner {
    /// Requests are opened, looked at and redacted.
    #[default]
    Inspect,
    /// TLS is passed through unopened, for hosts whose clients insist on their certificate.
    Tunnel,
    /// Bytes of any protocol are passed through.
    Tcp,
}

/// What the lists make of a connection or a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Pass(Manner),
    /// No list allows it; a person may.
    Ask(Reach),
    /// Nobody may allow it: the rule that says so.
    Never(&'static str),
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    #[error("this is no host that everybody reads alike: write a name such as `api.example.org`, or an address in its usual form")]
    Unreadable,
    #[error("`*.` stands before at least two labels, as in `*.example.org`")]
    TooWide,
    #[error("a port is a number from 1 to 65535")]
    Port,
    #[error("a TCP service needs its port, as in `imap.example.org:993`, and is no pattern")]
    TcpPort,
    #[error("a tunnel is not looked into, so it cannot be for reading alone: allow it for writing")]
    Blind,
}

/// Where plain and encrypted pages are.
pub const WEB_PORTS: [u16; 2] = [80, 443];
const NAME_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;

impl Host {
    pub fn parse(text: &str) -> Result<Host, HostError> {
        if let Some(inner) = text.strip_prefix('[') {
            let inner = inner.strip_suffix(']').ok_or(HostError::Unreadable)?;
            return inner.parse::<Ipv6Addr>().map(|address| Host::Address(address.into())).map_err(|_| HostError::Unreadable);
        }
        if text.matches(':').count() > 1 {
            return text.parse::<Ipv6Addr>().map(|address| Host::Address(address.into())).map_err(|_| HostError::Unreadable);
        }
        let mut plain = String::with_capacity(text.len());
        for letter in text.chars() {
            match address::plain_letter(letter) {
                Some(letter) => plain.push(letter.to_ascii_lowercase()),
                None if is_invisible(letter) => return Err(HostError::Unreadable),
                None if letter.is_ascii_alphanumeric() || "-_.".contains(letter) => plain.push(letter.to_ascii_lowercase()),
                None if letter.is_alphanumeric() && !letter.is_ascii() => plain.extend(letter.to_lowercase()),
                None => return Err(HostError::Unreadable),
            }
        }
        match address::ipv4(&plain) {
            Some(Some(address)) => return Ok(Host::Address(address.into())),
            Some(None) => return Err(HostError::Unreadable),
            None => {}
        }
        let plain = plain.strip_suffix('.').unwrap_or(&plain);
        let labels: Option<Vec<String>> = plain.split('.').map(label).collect();
        let name = labels.ok_or(HostError::Unreadable)?.join(".");
        if name.len() > NAME_BYTES_MAX { Err(HostError::Unreadable) } else { Ok(Host::Name(name)) }
    }

    pub fn name(&self) -> Option<&str> {
        match self {
            Host::Name(name) => Some(name),
            Host::Address(_) => None,
        }
    }
}

fn label(label: &str) -> Option<String> {
    let label = if label.is_ascii() { label.to_owned() } else { format!("xn--{}", punycode(label)?) };
    ((1..=LABEL_BYTES_MAX).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-')).then_some(label)
}

/// RFC 3492: the ASCII letters first, then each other letter as the distance to the one before it.
fn punycode(label: &str) -> Option<String> {
    const BASE: u32 = 36;
    let digit = |value: u32| char::from(if value < 26 { b'a' + value as u8 } else { b'0' + (value - 26) as u8 });
    let letters: Vec<u32> = label.chars().map(u32::from).collect();
    let mut coded: String = label.chars().filter(char::is_ascii).collect();
    let basic = coded.len() as u32;
    if basic > 0 {
        coded.push('-');
    }
    let (mut next, mut delta, mut bias, mut handled) = (128, 0u32, 72, basic);
    while (handled as usize) < letters.len() {
        let smallest = letters.iter().copied().filter(|letter| *letter >= next).min()?;
        delta = delta.checked_add((smallest - next).checked_mul(handled + 1)?)?;
        next = smallest;
        for letter in letters.iter().copied() {
            if letter < next {
                delta = delta.checked_add(1)?;
            }
            if letter != next {
                continue;
            }
            let (mut rest, mut position) = (delta, BASE);
            loop {
                let threshold = position.saturating_sub(bias).clamp(1, 26);
                if rest < threshold {
                    break;
                }
                coded.push(digit(threshold + (rest - threshold) % (BASE - threshold)));
                rest = (rest - threshold) / (BASE - threshold);
                position += BASE;
            }
            coded.push(digit(rest));
            let mut adapted = if handled == basic { delta / 700 } else { delta / 2 };
            adapted += adapted / (handled + 1);
            let mut steps = 0;
            while adapted > 455 {
                adapted /= BASE - 1;
                steps += BASE;
            }
            bias = steps + BASE * adapted / (adapted + 38);
            (delta, handled) = (0, handled + 1);
        }
        delta += 1;
        next += 1;
    }
    Some(coded)
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Name(name) => f.write_str(name),
            Host::Address(IpAddr::V4(address)) => address.fmt(f),
            Host::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

impl Target {
    /// `host:port`, or a host alone, as a URL or a `Host` header writes it.
    pub fn parse(text: &str, port_unless_named: Option<u16>) -> Result<Target, HostError> {
        let after = text.rfind(']').map_or(0, |at| at + 1);
        let (host, port) = match text[after..].find(':') {
            Some(colon) => (&text[..after + colon], Some(port(&text[after + colon + 1..])?)),
            None => (text, None),
        };
        let port = port.or(port_unless_named).ok_or(HostError::Port)?;
        Ok(Target { host: Host::parse(host)?, port })
    }
}

fn port(text: &str) -> Result<u16, HostError> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    plain.then(|| text.parse().ok()).flatten().ok_or(HostError::Port)
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if WEB_PORTS.contains(&self.port) { self.host.fmt(f) } else { write!(f, "{}:{}", self.host, self.port) }
    }
}

impl Reach {
    /// What a method asks for. One that nobody knows may do anything.
    pub fn of(method: &str) -> Reach {
        if matches!(method, "GET" | "HEAD" | "OPTIONS") { Reach::Read } else { Reach::Write }
    }

    pub fn name(self) -> &'static str {
        match self {
            Reach::Read => "read",
            Reach::Write => "write",
        }
    }

    pub fn parse(name: &str) -> Option<Reach> {
        [Reach::Read, Reach::Write].into_iter().find(|reach| reach.name() == name)
    }

    /// The rule under which a person is asked.
    pub fn rule(self) -> &'static str {
        match self {
            Reach::Read => "host.read",
            Reach::Write => "host.write",
        }
    }
}

impl Manner {
    pub fn name(self) -> &'static str {
        match self {
            Manner::Inspect => "inspect",
            Manner::Tunnel => "tunnel",
            Manner::Tcp => "tcp",
        }
    }

    pub fn parse(name: &str) -> Option<Manner> {
        [Manner::Inspect, Manner::Tunnel, Manner::Tcp].into_iter().find(|manner| manner.name() == name)
    }
}

impl Allowed {
    /// `host`, `host:port` or `*.host`.
    pub fn new(pattern: &str, reach: Reach, manner: Manner) -> Result<Allowed, HostError> {
        let (below, rest) = pattern.strip_prefix("*.").map_or((false, pattern), |rest| (true, rest));
        let has_port = rest[rest.rfind(']').map_or(0, |at| at + 1)..].contains(':');
        let Target { host, port } = Target::parse(rest, Some(WEB_PORTS[1]))?;
        if below && !host.name().is_some_and(|name| name.contains('.')) {
            return Err(HostError::TooWide);
        }
        if manner == Manner::Tcp && (below || !has_port) {
            return Err(HostError::TcpPort);
        }
        if manner != Manner::Inspect && reach == Reach::Read {
            return Err(HostError::Blind);
        }
        Ok(Allowed { below, host, port: has_port.then_some(port), reach, manner })
    }

    /// As [`Allowed::new`] reads it.
    pub fn pattern(&self) -> String {
        let stars = if self.below { "*." } else { "" };
        let port = self.port.map(|port| format!(":{port}")).unwrap_or_default();
        format!("{stars}{}{port}", self.host)
    }

    /// Whatever the port.
    pub fn is_for(&self, host: &Host) -> bool {
        match (&self.host, host) {
            (Host::Name(own), Host::Name(name)) if self.below => name.strip_suffix(own.as_str()).is_some_and(|before| before.ends_with('.')),
            (own, other) => !self.below && own == other,
        }
    }

    fn covers(&self, target: &Target) -> bool {
        self.is_for(&target.host) && self.port.map_or_else(|| WEB_PORTS.contains(&target.port), |port| port == target.port)
    }

    /// How close it is to a host that it covers: an exact line before a pattern, a longer pattern before a shorter.
    fn closeness(&self) -> (bool, bool, usize) {
        (!self.below, self.port.is_some(), self.host.name().map_or(0, str::len))
    }
}

#[derive(Clone, Serialize, Deserialize)]
struct AllowedText {
    name: String,
    #[serde(default)]
    reach: Reach,
    #[serde(default)]
    manner: Manner,
}

impl TryFrom<AllowedText> for Allowed {
    type Error = HostError;

    fn try_from(text: AllowedText) -> Result<Allowed, HostError> {
        Allowed::new(&text.name, text.reach, text.manner)
    }
}

impl From<Allowed> for AllowedText {
    fn from(allowed: Allowed) -> AllowedText {
        AllowedText { name: allowed.pattern(), reach: allowed.reach, manner: allowed.manner }
    }
}

/// Whether nobody may allow this host.
pub fn is_closed(http: &Http, host: &Host) -> bool {
    closed(http, host).is_some()
}

fn closed(http: &Http, host: &Host) -> Option<&'static str> {
    match host {
        Host::Name(name) => http.closed_name(name),
        Host::Address(address) => http.closed_address(*address),
    }
}

/// What may happen with a connection (`method` is `None`) or a request to `target`. The closest line speaks; of equally close
/// ones the first, so the list that goes first wins.
pub fn decide<'a>(http: &Http, target: &Target, method: Option<&str>, lists: impl IntoIterator<Item = &'a Allowed>) -> Verdict {
    if let Some(rule) = closed(http, &target.host) {
        return Verdict::Never(rule);
    }
    let reach = method.map_or(Reach::Read, Reach::of);
    let closest = lists.into_iter().filter(|allowed| allowed.covers(target)).reduce(|first, next| {
        // Only what is closer takes the place.
        if next.closeness() > first.closeness() { next } else { first }
    });
    match closest {
        Some(allowed) if allowed.reach >= reach => Verdict::Pass(allowed.manner),
        _ => Verdict::Ask(reach),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn http() -> Http {
        Http::parse(include_str!("../rules/known/http.toml")).unwrap()
    }

    #[test]
    fn every_spelling_of_a_host_is_one_host() {
        for (text, host) in [
            ("example.org", "example.org"),
            ("EXAMPLE.org.", "example.org"),
            ("ｅｘａｍｐｌｅ。org", "example.org"),
            ("münchen.example", "xn--mnchen-3ya.example"),
            ("MÜNCHEN.example", "xn--mnchen-3ya.example"),
            ("bücher.example", "xn--bcher-kva.example"),
            ("пример.example", "xn--e1afmkfd.example"),
            ("例え.example", "xn--r8jz45g.example"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
            ("127.0.0.1", "127.0.0.1"),
            ("0x7f.1", "127.0.0.1"),
            ("2130706433", "127.0.0.1"),
            ("0177.0.0.1", "127.0.0.1"),
            ("[::1]", "[::1]"),
            ("[::ffff:127.0.0.1]", "[::ffff:127.0.0.1]"),
            ("::1", "[::1]"),
        ] {
            assert_eq!(Host::parse(text).unwrap().to_string(), host, "{text}");
        }
        for text in
            ["", ".", "a..b", "a b", "a%2eb", "a\u{200b}b", "-a.b", "256.1.1.1", "1.2.3.08", "[::1", "[fe80::1%eth0]", "a/b", "a@b", "a#b", "a\\b", "☃.example"]
        {
            assert_eq!(Host::parse(text), Err(HostError::Unreadable), "{text:?}");
        }
        assert_eq!(Host::parse(&"a".repeat(64)), Err(HostError::Unreadable));
    }

    #[test]
    fn a_target_has_one_port() {
        for (text, port, shown) in
            [("a.example:8443", 8443, "a.example:8443"), ("a.example", 443, "a.example"), ("[::1]:80", 80, "[::1]"), ("A.Example.:443", 443, "a.example")]
        {
            let target = Target::parse(text, Some(443)).unwrap();
            assert_eq!((target.port, target.to_string().as_str()), (port, shown), "{text}");
        }
        for text in ["a.example:", "a.example:0", "a.example:080", "a.example:+80", "a.example:65536", "a.example:80:80", "[::1]x:80"] {
            assert!(Target::parse(text, Some(443)).is_err(), "{text}");
        }
        assert_eq!(Target::parse("a.example", None), Err(HostError::Port));
    }

    #[test]
    fn what_may_stand_on_a_list() {
        for (pattern, reach, manner, fault) in [
            ("a.example", Reach::Read, Manner::Inspect, None),
            ("*.a.example", Reach::Write, Manner::Inspect, None),
            ("imap.example.org:993", Reach::Write, Manner::Tcp, None),
            ("*.example", Reach::Read, Manner::Inspect, Some(HostError::TooWide)),
            ("*.1.2.3.4", Reach::Read, Manner::Inspect, Some(HostError::TooWide)),
            ("*", Reach::Read, Manner::Inspect, Some(HostError::Unreadable)),
            ("a.*.example", Reach::Read, Manner::Inspect, Some(HostError::Unreadable)),
            ("a.example", Reach::Read, Manner::Tunnel, Some(HostError::Blind)),
            ("a.example", Reach::Write, Manner::Tcp, Some(HostError::TcpPort)),
            ("https://a.example", Reach::Read, Manner::Inspect, Some(HostError::Port)),
        ] {
            assert_eq!(Allowed::new(pattern, reach, manner).err(), fault, "{pattern}");
        }
        let line = Allowed::new("*.A.Example:8443", Reach::Write, Manner::Inspect).unwrap();
        assert_eq!(line.pattern(), "*.a.example:8443");
        let text = serde_json::to_string(&line).unwrap();
        assert_eq!(serde_json::from_str::<Allowed>(&text).unwrap(), line);
    }

    #[test]
    fn the_lists_decide_and_some_things_nobody_allows() {
        let http = http();
        let lines = [
            ("api.example.org", Reach::Read, Manner::Inspect),
            ("*.example.org", Reach::Write, Manner::Inspect),
            ("*.deep.example.org", Reach::Write, Manner::Tunnel),
            ("api.example.net:8443", Reach::Write, Manner::Inspect),
            ("mail.example.net:993", Reach::Write, Manner::Tcp),
            ("localhost", Reach::Write, Manner::Inspect),
            ("10.0.0.1", Reach::Write, Manner::Inspect),
            ("169.254.169.254", Reach::Write, Manner::Inspect),
            ("metadata.google.internal", Reach::Write, Manner::Inspect),
            ("93.184.216.34", Reach::Read, Manner::Inspect),
        ];
        let lines: Vec<Allowed> = lines.iter().map(|(pattern, reach, manner)| Allowed::new(pattern, *reach, *manner).unwrap()).collect();
        let pass = Verdict::Pass(Manner::Inspect);
        for (target, method, verdict) in [
            ("api.example.org:443", Some("GET"), pass),
            ("api.example.org:443", Some("POST"), Verdict::Ask(Reach::Write)),
            ("api.example.org:443", Some("BREW"), Verdict::Ask(Reach::Write)),
            ("api.example.org:443", Some("get"), Verdict::Ask(Reach::Write)),
            ("api.example.org:443", None, pass),
            ("api.example.org:8443", Some("GET"), Verdict::Ask(Reach::Read)),
            ("www.example.org:80", Some("DELETE"), pass),
            ("example.org:443", Some("GET"), Verdict::Ask(Reach::Read)),
            ("notexample.org:443", Some("GET"), Verdict::Ask(Reach::Read)),
            ("a.deep.example.org:443", None, Verdict::Pass(Manner::Tunnel)),
            ("api.example.net:8443", Some("POST"), pass),
            ("api.example.net:443", Some("GET"), Verdict::Ask(Reach::Read)),
            ("mail.example.net:993", None, Verdict::Pass(Manner::Tcp)),
            ("mail.example.net:143", None, Verdict::Ask(Reach::Read)),
            ("93.184.216.34:80", Some("GET"), pass),
            ("8.8.8.8:443", None, Verdict::Ask(Reach::Read)),
            ("localhost:80", None, Verdict::Never("http.internal")),
            ("intranet:80", None, Verdict::Never("http.internal")),
            ("10.0.0.1:80", None, Verdict::Never("http.internal")),
            ("0x0a000001:80", None, Verdict::Never("http.internal")),
            ("169.254.169.254:80", None, Verdict::Never("http.metadata")),
            ("metadata.google.internal:80", None, Verdict::Never("http.metadata")),
            ("a.nip.io:80", None, Verdict::Never("http.rebinding")),
            ("10.0.0.1.example.org:80", None, Verdict::Never("http.internal")),
        ] {
            let target = Target::parse(target, None).unwrap();
            assert_eq!(decide(&http, &target, method, &lines), verdict, "{target} {method:?}");
        }
    }

    #[test]
    fn no_address_inside_is_reached_in_any_form() {
        let http = http();
        for text in [
            "127.0.0.1",
            "127.255.255.254",
            "0.0.0.0",
            "0.1.2.3",
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "100.64.0.1",
            "100.127.255.255",
            "169.254.1.1",
            "169.254.169.254",
            "168.63.129.16",
            "192.0.0.192",
            "192.0.2.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.1.1.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:8.8.8.8",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b::808:808",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2002:808:808::",
            "2001::1",
            "fe80::1",
            "fec0::1",
            "fc00::1",
            "fd00::1",
            "fd00:ec2::254",
            "ff02::1",
            "2001:db8::1",
            "100::1",
            "3fff::1",
            "4000::1",
        ] {
            assert!(http.closed_address(text.parse().unwrap()).is_some(), "{text}");
        }
        for text in ["8.8.8.8", "93.184.216.34", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "2a00:1450:4001:82a::200e"] {
            assert_eq!(http.closed_address(text.parse().unwrap()), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_host_that_was_read_is_read_the_same_again(text in "[a-zA-Z0-9äöüßéПример例.\\-_:\\[\\]x]{0,40}") {
            if let Ok(host) = Host::parse(&text) {
                prop_assert_eq!(Host::parse(&host.to_string()), Ok(host));
            }
        }

        #[test]
        fn nothing_panics(text in ".{0,80}") {
            let _ = (Host::parse(&text), Target::parse(&text, None), Allowed::new(&text, Reach::Read, Manner::Inspect));
        }
    }
}
