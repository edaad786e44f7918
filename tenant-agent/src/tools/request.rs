//! A request to a host: what a call of `http_request` asks for, sent through the [`Outlet`], and the answer made fit to be
//! read.
//!
//! A redirect is another request: it is followed only where the rules would let the assistant ask for that address unasked
//! and the lists allow its host. A value of a secret goes to the host that the call names, encrypted, and to no other.

use super::Refused;
use super::capture;
use crate::outlet::exchange::{self, Leave, Line};
use crate::outlet::{Outlet, within};
use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header};
use futures_util::StreamExt;
use policy::host::Target;
use redact::Redactor;
use serde::Deserialize;
use service::door;
use service::text::Language;
use std::collections::BTreeMap;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpRequest {
    pub url: String,
    pub method: Option<String>,
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    #[serde(default)]
    pub body: String,
    #[serde(rename = "saveTo")]
    pub save_to: Option<String>,
    #[serde(rename = "timeoutSeconds")]
    timeout_seconds: Option<u64>,
}

/// How long a request may take with all that it leads to, when the call does not say and at most.
const TIMEOUT_SECS: u64 = 30;
const TIMEOUT_SECS_MAX: u64 = 180;
/// Read of an answer. What is larger is for a command that writes it to the disk.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Redirects that are followed, as browsers would.
const REDIRECTS_MAX: usize = 5;
/// Headers of one call.
const HEADERS_MAX: usize = 64;
/// Of an answer's headers these say something to a reader. Cookies and what speaks about the connection do not.
const SHOWN: [&str; 10] = [
    "content-type",
    "content-length",
    "location",
    "link",
    "etag",
    "last-modified",
    "retry-after",
    "x-ratelimit-remaining",
    "x-ratelimit-reset",
    "www-authenticate",
];
/// Headers that say who asks; they stay with the host that they were written for.
const PERSONAL: [HeaderName; 2] = [header::AUTHORIZATION, header::COOKIE];

/// A request that can be sent.
pub struct Ready {
    method: Method,
    url: Address,
    headers: HeaderMap,
    body: String,
    timeout_ms: u64,
}

/// An address that everybody reads alike.
#[derive(Clone, Debug, PartialEq)]
pub struct Address {
    uri: Uri,
    target: Target,
    is_tls: bool,
}

/// An answer, read as far as it may be.
pub struct Answer {
    from: String,
    status: StatusCode,
    headers: HeaderMap,
    bytes: Vec<u8>,
    is_cut: bool,
    /// Why a redirect was not followed.
    left: Option<&'static str>,
}

impl HttpRequest {
    /// The fault is told without the value in it.
    pub fn ready(self) -> Result<Ready, Refused> {
        let wrong = |why: &str| Refused::Arguments { why: why.to_owned() };
        let named = self.method.as_deref().filter(|method| !method.is_empty());
        let method = match named {
            Some(method) => Method::from_bytes(method.to_ascii_uppercase().as_bytes()).map_err(|_| wrong("`method` is no word"))?,
            None if self.body.is_empty() => Method::GET,
            None => Method::POST,
        };
        let url = Address::parse(&self.url).ok_or_else(|| wrong(URL_WRONG))?;
        if self.headers.len() > HEADERS_MAX {
            return Err(wrong("there are too many headers"));
        }
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong("a header has a name that none can have"))?;
            if name == header::HOST {
                return Err(wrong("the host is the one of `url`; leave the header `host` out"));
            }
            let mut value = HeaderValue::from_str(value).map_err(|_| wrong("a header has a value that none can have"))?;
            value.set_sensitive(true);
            if headers.insert(name, value).is_some() {
                return Err(wrong("a header is there twice"));
            }
        }
        let or_else = |headers: &mut HeaderMap, name: HeaderName, value: &'static str| {
            headers.entry(name).or_insert(HeaderValue::from_static(value));
        };
        or_else(&mut headers, header::USER_AGENT, concat!("gatehouse/", env!("CARGO_PKG_VERSION")));
        or_else(&mut headers, header::ACCEPT, "*/*");
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let timeout_ms = self.timeout_seconds.unwrap_or(TIMEOUT_SECS).clamp(1, TIMEOUT_SECS_MAX) * 1000;
        Ok(Ready { method, url, headers, body: self.body, timeout_ms })
    }
}

const URL_WRONG: &str = "`url` is no address that everybody reads alike: http or https, a host without a user before it, and everything else percent-encoded";

impl Address {
    pub fn parse(text: &str) -> Option<Address> {
        let uri: Uri = text.parse().ok()?;
        let is_tls = match uri.scheme_str()? {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let target = Target::parse(uri.authority()?.as_str(), Some(if is_tls { 443 } else { 80 })).ok()?;
        Some(Address { uri, target, is_tls })
    }

    /// Where a `Location` leads from here.
    fn led(&self, location: &str) -> Option<Address> {
        let location = location.split('#').next().unwrap_or_default();
        let scheme = self.uri.scheme_str()?;
        let authority = self.uri.authority()?.as_str();
        let path = self.uri.path();
        Address::parse(&match location {
            _ if location.contains("://") => location.to_owned(),
            _ if location.starts_with("//") => format!("{scheme}:{location}"),
            _ if location.starts_with('/') => format!("{scheme}://{authority}{location}"),
            _ if location.starts_with('?') => format!("{scheme}://{authority}{path}{location}"),
            _ => format!("{scheme}://{authority}{}{location}", &path[..=path.rfind('/')?]),
        })
    }

    pub fn is_tls(&self) -> bool {
        self.is_tls
    }

    fn is_same_place(&self, other: &Address) -> bool {
        self.target == other.target && self.is_tls == other.is_tls
    }
}

impl Ready {
    /// Whether what it carries travels encrypted.
    pub fn is_private(&self) -> bool {
        self.url.is_tls()
    }

    /// `may_look`: whether the rules let the assistant look at an address unasked. `has_secret`: a value of a secret is in it.
    pub async fn send(self, outlet: &Outlet, leave: Leave, has_secret: bool, may_look: impl Fn(&str) -> bool) -> Result<Answer, Refused> {
        let clock = outlet.clock.clone();
        let timeout_ms = self.timeout_ms;
        within(&clock, timeout_ms, self.follow(outlet, leave, has_secret, may_look)).await.unwrap_or(Err(Refused::Late { secs: timeout_ms / 1000 }))
    }

    async fn follow(self, outlet: &Outlet, leave: Leave, has_secret: bool, may_look: impl Fn(&str) -> bool) -> Result<Answer, Refused> {
        let Ready { method, mut url, mut headers, body, .. } = self;
        let _place = outlet.place().ok_or_else(|| Refused::Host { why: crate::outlet::Refused::from(crate::outlet::Why::BUSY).message(Language::En) })?;
        let (mut body, mut leave) = (Body::from(body), leave);
        for followed in 0..=REDIRECTS_MAX {
            let mut answer = once(outlet, &method, &url, &headers, std::mem::take(&mut body), leave).await?;
            let Some(location) = redirect(&answer) else { return Ok(answer) };
            let next = url.led(&location);
            let stays = next.as_ref().is_some_and(|next| next.is_same_place(&url));
            answer.left = match &next {
                _ if !matches!(method, Method::GET | Method::HEAD) => Some("it was not followed: the request was no mere look"),
                _ if followed == REDIRECTS_MAX => Some("it was not followed: there were too many"),
                None => Some("it was not followed: it leads to no address that everybody reads alike"),
                Some(_) if has_secret && !stays => Some("it was not followed: it leads away from the host that the secret is for"),
                Some(next) if !may_look(&next.uri.to_string()) => Some("it was not followed: look at that address by a call of its own"),
                Some(_) => None,
            };
            let Some(next) = next.filter(|_| answer.left.is_none()) else { return Ok(answer) };
            if !stays {
                PERSONAL.iter().for_each(|name| drop(headers.remove(name)));
                // The yes was for the address that the person saw.
                leave = Leave::Listed;
            }
            url = next;
        }
        Err(Refused::Failed(anyhow::anyhow!("a chain of redirects did not end")))
    }
}

async fn once(outlet: &Outlet, method: &Method, url: &Address, headers: &HeaderMap, body: Body, leave: Leave) -> Result<Answer, Refused> {
    let mut request = Request::new(body);
    *request.method_mut() = method.clone();
    *request.uri_mut() = url.uri.clone();
    *request.headers_mut() = headers.clone();
    let host =
        HeaderValue::from_str(url.uri.authority().map_or("", |authority| authority.as_str())).map_err(|_| Refused::Arguments { why: URL_WRONG.to_owned() })?;
    request.headers_mut().insert(header::HOST, host);
    let line = Line::new(url.target.clone(), url.is_tls);
    let refused = |refused: crate::outlet::Refused| Refused::Host { why: refused.message(Language::En) };
    let (head, body) = exchange::pass(outlet, &line, request, leave).await.map_err(refused)?.into_parts();
    let mut pieces = body.into_data_stream();
    let (mut bytes, mut is_cut) = (Vec::new(), false);
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|_| Refused::Host { why: format!("The answer of {} broke off.", url.target) })?;
        let room = ANSWER_BYTES_MAX - bytes.len();
        bytes.extend_from_slice(&piece[..piece.len().min(room)]);
        if piece.len() > room {
            is_cut = true;
            break;
        }
    }
    Ok(Answer { from: url.target.to_string(), status: head.status, headers: head.headers, bytes, is_cut, left: None })
}

/// Where the answer sends whoever asked.
fn redirect(answer: &Answer) -> Option<String> {
    let moved = matches!(answer.status.as_u16(), 301 | 302 | 303 | 307 | 308);
    answer.headers.get(header::LOCATION).filter(|_| moved)?.to_str().ok().map(str::to_owned)
}

impl Answer {
    pub fn is_success(&self) -> bool {
        self.status.is_success()
    }

    /// What goes into a file: all of it, as it came, and nothing that the vault holds. `Err`: why not.
    pub fn to_keep(&self, redactor: &Redactor) -> Result<Vec<u8>, &'static str> {
        let bytes = match self.opened() {
            _ if self.is_cut => return Err("it is larger than what this tool reads (4 MiB); a command can fetch it"),
            Some(bytes) => bytes,
            None => return Err("it is packed in a way that cannot be opened here"),
        };
        let found = redactor.text(&String::from_utf8_lossy(&bytes)).findings;
        if found.iter().any(|finding| finding.rule.starts_with("known:")) {
            return Err("it holds a secret of the vault");
        }
        Ok(bytes.into_owned())
    }

    /// What a model may read of it. Looked at whole, and only then shortened.
    pub fn shown(&self, redactor: &Redactor) -> String {
        format!("{}\n\n{}", self.head(redactor, self.left), self.told(redactor)).trim_end().to_owned()
    }

    /// The same without its body, of which something else is said.
    pub fn noted(&self, redactor: &Redactor, note: &str) -> String {
        self.head(redactor, Some(note))
    }

    fn head(&self, redactor: &Redactor, note: Option<&str>) -> String {
        let mut lines = vec![format!("{} answered {}", self.from, self.status)];
        let told = SHOWN.iter().filter_map(|name| Some((*name, self.headers.get(*name)?.to_str().ok()?)));
        lines.extend(told.map(|(name, value)| format!("{name}: {value}")));
        lines.extend(note.map(|note| format!("[{note}]")));
        redactor.text(&lines.join("\n")).text.into_owned()
    }

    fn told(&self, redactor: &Redactor) -> String {
        let Some(bytes) = self.opened() else { return format!("[{} bytes, packed in a way that cannot be opened here]", self.bytes.len()) };
        // A letter may be cut in two.
        let text = match std::str::from_utf8(&bytes) {
            Ok(text) => text,
            Err(error) if self.is_cut && error.error_len().is_none() => std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default(),
            Err(_) => return self.described(&bytes),
        };
        if text.chars().take(BINARY_CHARS).any(|letter| letter.is_control() && !matches!(letter, '\n' | '\r' | '\t' | '\u{c}' | '\u{1b}')) {
            return self.described(&bytes);
        }
        let text = redactor.text(text).text;
        match self.is_cut {
            // Far from the cut: what was cut in two there is not recognised.
            true => format!("{}\n[… the answer is larger than the {} MiB that are read …]", capture::beginning(&text), ANSWER_BYTES_MAX >> 20),
            false => capture::shortened(&text),
        }
    }

    fn described(&self, bytes: &[u8]) -> String {
        let kind = self.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or("unknown type");
        let kind: String = kind.chars().take(80).collect();
        let more = if self.is_cut { "more than " } else { "" };
        format!("[no text: {more}{} bytes, {kind}; `saveTo` puts them into a file]", bytes.len())
    }

    fn opened(&self) -> Option<std::borrow::Cow<'_, [u8]>> {
        let coding = door::codings(&self.headers);
        match coding.as_str() {
            "" | "identity" => Some(self.bytes.as_slice().into()),
            _ => redact::body::open(&coding, &self.bytes).ok(),
        }
    }
}

/// Looked at for letters that no text has.
const BINARY_CHARS: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use redact::Known;
    use serde_json::json;

    fn request(arguments: serde_json::Value) -> Result<Ready, Refused> {
        HttpRequest::deserialize(arguments).map_err(|_| Refused::Arguments { why: String::new() })?.ready()
    }

    #[test]
    fn a_request_is_whole_or_refused_without_a_word_of_it() {
        for (arguments, method) in [
            (json!({"url": "https://a.example.org"}), "GET"),
            (json!({"url": "https://a.example.org/x?y=1#z", "method": "head"}), "HEAD"),
            (json!({"url": "http://a.example.org:8080/", "body": "x"}), "POST"),
            (json!({"url": "https://[2606:4700::1111]/", "headers": {"X-A": "b"}, "timeoutSeconds": 0}), "GET"),
        ] {
            let ready = request(arguments.clone()).unwrap_or_else(|refused| panic!("{arguments}: {refused}"));
            assert_eq!(ready.method, method, "{arguments}");
        }
        for arguments in [
            json!({"url": "hunter2"}),
            json!({"url": "ftp://hunter2.example.org/"}),
            json!({"url": "https://hunter2@a.example.org/"}),
            json!({"url": "https://a.example.org\\hunter2"}),
            json!({"url": "https://a.example.org/hunter2 x"}),
            json!({"url": "https:///hunter2"}),
            json!({"url": "//a.example.org/hunter2"}),
            json!({"url": "https://a.example.org/", "method": "GET hunter2"}),
            json!({"url": "https://a.example.org/", "headers": {"Host": "hunter2.example.org"}}),
            json!({"url": "https://a.example.org/", "headers": {"X": "hunter2\r\nY: z"}}),
            json!({"url": "https://a.example.org/", "headers": {"X hunter2": "z"}}),
            json!({"url": "https://a.example.org/", "headers": {"X": "hunter2", "x": "hunter2"}}),
        ] {
            match request(arguments.clone()) {
                Err(refused @ Refused::Arguments { .. }) => assert!(!refused.to_string().contains("hunter2"), "{refused}"),
                Err(refused) => panic!("{arguments}: {refused}"),
                Ok(_) => panic!("{arguments}"),
            }
        }
    }

    #[test]
    fn a_redirect_leads_where_a_browser_would_go() {
        let here = Address::parse("https://a.example.org/x/y?z=1").unwrap();
        for (location, led) in [
            ("/new", Some("https://a.example.org/new")),
            ("new?b=1", Some("https://a.example.org/x/new?b=1")),
            ("?b=1", Some("https://a.example.org/x/y?b=1")),
            ("//b.example.org/q", Some("https://b.example.org/q")),
            ("http://b.example.org", Some("http://b.example.org/")),
            ("/new#part", Some("https://a.example.org/new")),
            ("file:///etc/passwd", None),
            ("https://x@b.example.org/", None),
            ("/a b", None),
        ] {
            assert_eq!(here.led(location).map(|led| led.uri.to_string()).as_deref(), led, "{location}");
        }
        let same = |other: &str| here.is_same_place(&Address::parse(other).unwrap());
        assert!(
            same("https://A.example.org.:443/") && !same("http://a.example.org/") && !same("https://a.example.org:8443/") && !same("https://b.example.org/")
        );
    }

    fn answer(kind: &'static str, coding: &'static str, bytes: &[u8], is_cut: bool) -> Answer {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", HeaderValue::from_static(kind));
        headers.insert("set-cookie", HeaderValue::from_static("session=1"));
        if !coding.is_empty() {
            headers.insert("content-encoding", HeaderValue::from_static(coding));
        }
        Answer { from: "a.example.org".to_owned(), status: StatusCode::OK, headers, bytes: bytes.to_vec(), is_cut, left: None }
    }

    #[test]
    fn an_answer_is_looked_at_before_it_is_cut_and_told_when_it_is_no_text() {
        let redactor = Redactor::new(Known::new([("db", b"Sommer#2026x".as_slice())]), &[1; 32]);
        let shown = |answer: &Answer| answer.shown(&redactor);
        let text = shown(&answer("text/plain", "", b"a Sommer#2026x b", false));
        assert_eq!(text, "a.example.org answered 200 OK\ncontent-type: text/plain\n\na SECRET_REF(db) b");
        // Where the text is shortened lies a secret, and no half of it shows.
        let mut long = "x".repeat(capture::SHOWN_BYTES - 6);
        long.push_str("Sommer#2026x");
        long.push_str(&"y".repeat(4 * capture::SHOWN_BYTES));
        for is_cut in [false, true] {
            let text = shown(&answer("text/plain", "", long.as_bytes(), is_cut));
            assert!(!text.contains("Sommer") && !text.contains("2026x"), "{is_cut}");
        }
        assert!(!shown(&answer("text/plain", "", long.as_bytes(), true)).ends_with('y'), "the end of what was cut is not shown");
        for (kind, bytes) in [("image/png", &b"\x89PNG\r\n\x1a\n\0\0"[..]), ("application/octet-stream", b"abc\0def")] {
            let text = shown(&answer(kind, "", bytes, false));
            assert!(text.contains(&format!("[no text: {} bytes, {kind}", bytes.len())), "{text}");
        }
        assert!(shown(&answer("text/plain", "br", b"abc", false)).contains("cannot be opened"));
        // A letter that was cut in two makes no text of a picture.
        let long = "größe".repeat(60_000);
        assert!(shown(&answer("text/plain", "", &long.as_bytes()[..long.len() - 3], true)).contains("größegröße"));
    }

    #[test]
    fn a_file_gets_all_of_it_or_nothing() {
        let redactor = Redactor::new(Known::new([("db", b"Sommer#2026x".as_slice())]), &[1; 32]);
        let kept = |answer: &Answer| answer.to_keep(&redactor);
        assert_eq!(kept(&answer("image/png", "", b"\x89PNG\0", false)), Ok(b"\x89PNG\0".to_vec()));
        assert!(kept(&answer("text/plain", "", b"a Sommer#2026x b", false)).unwrap_err().contains("secret"));
        assert!(kept(&answer("text/plain", "", b"\xff\xfe Sommer#2026x", false)).unwrap_err().contains("secret"));
        assert!(kept(&answer("text/plain", "", b"a", true)).unwrap_err().contains("larger"));
        assert!(kept(&answer("text/plain", "br", b"a", false)).is_err());
    }
}
