//! What a request may carry to a host: the secrets that are bound to it, and no other.
//!
//! Heads cannot be edited without changing what they mean, so a secret in one stops the request. Bodies are redacted; what
//! was packed is opened for that, and goes on as it came when nothing had to be taken out.
//! A limit: in what is packed inside of a body (a file of a form) only what lies open is found.

use super::refused::Why;
use crate::screen::Screen;
use crate::vault::{Bindings, Vault};
use axum::body::Bytes;
use axum::http::{HeaderMap, header};
use policy::host::{Allowed, Host, Manner, Reach};
use redact::{BodyError, Redactor};
use service::door;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use tokio::sync::Mutex;

pub struct Secrets {
    vault: Vault,
    screen: Screen,
    current: Mutex<Option<Current>>,
}

/// How it is, until the vault changes.
struct Current {
    epoch: u64,
    bindings: BTreeMap<String, Bindings>,
    /// What the sets below were made of: it knows every secret.
    redactor: Arc<Redactor>,
    /// For hosts that may have some.
    by_names: HashMap<Vec<String>, Arc<Redactor>>,
}

/// Sets of secrets that hosts may have, each with a redactor of its own. Most hosts share one: none.
const SETS_MAX: usize = 64;
/// A larger body is looked at beside the threads that serve.
const BLOCKING_BYTES_MIN: usize = 64 * 1024;

/// Looks at what goes to one host.
#[derive(Clone)]
pub struct Vouch(Arc<Redactor>);

impl Secrets {
    pub fn new(vault: Vault, screen: Screen) -> Secrets {
        Secrets { vault, screen, current: Mutex::default() }
    }

    /// Without the vault nothing can be vouched for.
    pub async fn for_host(&self, host: &Host) -> Result<Vouch, ()> {
        if !self.screen.is_sound() {
            return Err(());
        }
        let redactor = self.screen.now();
        let mut current = self.current.lock().await;
        // Read before the bindings, so that a change between the two is seen the next time.
        let epoch = *self.vault.changes().borrow();
        if current.as_ref().is_none_or(|current| current.epoch != epoch || !Arc::ptr_eq(&current.redactor, &redactor)) {
            let bindings = self.vault.bindings().await.map_err(|error| tracing::error!(%error, "the vault cannot be read, so nothing goes out"))?;
            *current = Some(Current { epoch, bindings, redactor, by_names: HashMap::new() });
        }
        let Some(Current { bindings, redactor, by_names, .. }) = current.as_mut() else { return Err(()) };
        let names: Vec<String> = bindings.iter().filter(|(_, bindings)| is_bound(&bindings.hosts, host)).map(|(name, _)| name.clone()).collect();
        if names.is_empty() {
            return Ok(Vouch(redactor.clone()));
        }
        if by_names.len() >= SETS_MAX {
            by_names.clear();
        }
        let sparing = by_names.entry(names).or_insert_with_key(|names| Arc::new(redactor.sparing(names.iter().cloned())));
        Ok(Vouch(sparing.clone()))
    }
}

/// Whether one of these, as the vault has them, is this host.
pub fn is_bound(hosts: &[String], host: &Host) -> bool {
    hosts.iter().any(|bound| Allowed::new(bound, Reach::Read, Manner::Inspect).is_ok_and(|bound| bound.is_for(host)))
}

impl Vouch {
    /// `Err`: it holds a secret that is not for this host.
    pub fn vouch_head(&self, head: &str) -> Result<(), ()> {
        let found = self.0.text(head).findings;
        if found.iter().any(|finding| finding.rule.starts_with("known:")) { Err(()) } else { Ok(()) }
    }

    /// The body as it may go, and its headers.
    pub async fn vouch_body(&self, headers: &mut HeaderMap, body: Bytes) -> Result<Bytes, Why> {
        if body.is_empty() {
            return Ok(body);
        }
        let coding = door::codings(headers);
        let (redactor, length) = (self.0.clone(), body.len());
        let look = move || looked_at(&redactor, &coding, &body).map(|changed| (changed, body));
        let (changed, body) = match length {
            BLOCKING_BYTES_MIN.. => tokio::task::spawn_blocking(look).await.map_err(|_| Why::INTERNAL)??,
            _ => look()?,
        };
        let Some(changed) = changed else { return Ok(body) };
        headers.remove(header::CONTENT_ENCODING);
        Ok(changed.into())
    }
}

/// What the body becomes; `None`: it stays as it is.
fn looked_at(redactor: &Redactor, coding: &str, body: &[u8]) -> Result<Option<Vec<u8>>, Why> {
    let opened = match redact::body::open(coding, body) {
        Ok(opened) => opened,
        // Only the first bytes say that it is packed, and they are wrong.
        Err(BodyError::Broken(_)) if coding.is_empty() => Cow::Borrowed(body),
        Err(BodyError::TooLarge { .. }) => return Err(Why::BODY_TOO_LARGE),
        Err(_) => return Err(Why::BODY_UNREADABLE),
    };
    let redacted = match redactor.body(&opened) {
        Ok(redacted) => redacted.bytes,
        Err(BodyError::Blocked { .. }) => return Err(Why::SECRET),
        // It begins like JSON and is something else.
        Err(_) => match std::str::from_utf8(&opened) {
            Ok(text) => Cow::Owned(redactor.text(text).text.into_owned().into_bytes()),
            Err(_) => return Err(Why::BODY_UNREADABLE),
        },
    };
    match redacted == opened {
        true => Ok(None),
        // A file that is packed by itself cannot be unpacked on its way: its reader waits for a packed one.
        false if coding.is_empty() && opened.len() != body.len() => Err(Why::SECRET),
        false => Ok(Some(redacted.into_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use redact::Known;

    fn redactor() -> Redactor {
        Redactor::new(Known::new([("db", b"Sommer#2026x".as_slice())]), &[1; 32])
    }

    #[test]
    fn a_body_goes_as_it_came_unless_something_is_taken_out() {
        let look = |coding: &str, body: &[u8]| looked_at(&redactor(), coding, body).map(|changed| changed.map(|bytes| String::from_utf8(bytes).unwrap()));
        for body in [&b"{\"a\":1}"[..], b"[link](https://a.example.org)", b"{\"broken", b"\xff\xfe\xfd", b"\x1f\x8bno gzip", b"plain"] {
            assert!(matches!(look("", body), Ok(None)) || body.starts_with(b"\xff\xfe"), "{body:?}");
        }
        assert_eq!(look("", b"{\"a\":\"Sommer#2026x\"}"), Ok(Some("{\"a\":\"SECRET_REF(db)\"}".to_owned())));
        assert_eq!(look("", b"[see Sommer#2026x]"), Ok(Some("[see SECRET_REF(db)]".to_owned())));
        assert_eq!(look("", b"\xff\xf0Sommer#2026x"), Err(Why::SECRET));
        assert_eq!(look("br", b"whatever"), Err(Why::BODY_UNREADABLE));
    }

    #[test]
    fn a_secret_is_for_the_hosts_that_it_is_bound_to() {
        let hosts = ["api.example.org".to_owned(), "*.example.net".to_owned()];
        for (host, bound) in [("api.example.org", true), ("example.org", false), ("a.example.net", true), ("example.net", false), ("a.api.example.org", false)]
        {
            assert_eq!(is_bound(&hosts, &Host::parse(host).unwrap()), bound, "{host}");
        }
    }
}
