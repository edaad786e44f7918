//! How the model providers are, as the calls of this agent found them since it started.
//!
//! What a provider did with the last calls is what is known of it. Only when somebody asks for it is a provider asked by
//! itself, for the list of its models, which costs nothing ([`Providers::check`]). A provider that asked for a pause gets it,
//! wherever another one may answer instead.

use crate::audit::{self, Deed};
use crate::gateway::openclaw::{Dialect, Provider};
use axum::body::Body;
use axum::http::Request;
use policy::route::{Failure, FailureClass};
use serde::Serialize;
use service::upstream::{Incoming, NoAnswer, Upstream};
use service::{Clock, SecretString, Store};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

#[derive(Clone)]
pub struct Providers(Arc<Inner>);

struct Inner {
    store: Store,
    clock: Clock,
    /// By names of the configuration, so they are few.
    known: Mutex<BTreeMap<String, Known>>,
}

#[derive(Clone, Copy, Default)]
struct Known {
    answered_ms: Option<i64>,
    failed: Option<(FailureClass, i64)>,
    /// One after the other, up to now.
    failures: u32,
    rests_until_mono_ms: u64,
}

/// How a provider is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum State {
    Ok,
    Degraded,
    Down,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Standing {
    pub state: State,
    /// Of the newest failure, however long ago.
    pub last_error_class: Option<&'static str>,
    pub failed_ms: Option<i64>,
    pub answered_ms: Option<i64>,
}

/// Failures in a row after which a provider counts as down.
const DOWN_FAILURES: u32 = 3;
/// Somebody waits for the answer.
const CHECK_WAIT: Duration = Duration::from_secs(8);
const ANTHROPIC_VERSION: &str = "2023-06-01";
/// A longer pause than this nobody is granted.
const REST_SECS_MAX: u64 = 3_600;

impl Providers {
    pub fn new(store: Store, clock: Clock) -> Providers {
        Providers(Arc::new(Inner { store, clock, known: Mutex::default() }))
    }

    /// It gave an answer, even if that was a refusal.
    pub fn answered(&self, provider: &str) {
        let now_ms = self.0.clock.wall_ms();
        let mut known = self.lock();
        let known = known.entry(provider.to_owned()).or_default();
        *known = Known { answered_ms: Some(now_ms), failures: 0, ..*known };
    }

    /// It failed, and perhaps said when to come again.
    pub fn failed(&self, provider: &str, failure: Failure, retry_after_secs: Option<u64>) {
        let (now_ms, mono_ms) = (self.0.clock.wall_ms(), self.0.clock.now().mono_ms);
        let mut known = self.lock();
        let known = known.entry(provider.to_owned()).or_default();
        known.failed = Some((failure.class(), now_ms));
        known.failures = known.failures.saturating_add(1);
        if let Some(secs) = retry_after_secs {
            known.rests_until_mono_ms = mono_ms + secs.min(REST_SECS_MAX) * 1_000;
        }
    }

    /// It asked for a pause that is not over.
    pub fn rests(&self, provider: &str) -> bool {
        let mono_ms = self.0.clock.now().mono_ms;
        self.lock().get(provider).is_some_and(|known| mono_ms < known.rests_until_mono_ms)
    }

    pub fn standing(&self, provider: &str) -> Standing {
        let known = self.lock().get(provider).copied().unwrap_or_default();
        let state = match known.failures {
            0 => State::Ok,
            failures if failures < DOWN_FAILURES => State::Degraded,
            _ => State::Down,
        };
        let (last_error_class, failed_ms) = known.failed.map_or((None, None), |(class, at_ms)| (Some(class.name()), Some(at_ms)));
        Standing { state, last_error_class, failed_ms, answered_ms: known.answered_ms }
    }

    /// Asks a provider for its models, and takes what it does for what a call would have found.
    pub async fn check(&self, upstream: &Upstream, provider: &Provider, key: Option<&SecretString>) {
        let mut request = Request::get(provider.list_url());
        if provider.dialect == Dialect::AnthropicMessages {
            request = request.header("anthropic-version", ANTHROPIC_VERSION);
        }
        if let Some((name, value)) = key.and_then(|key| provider.key_header(key)) {
            request = request.header(name, value);
        }
        let Ok(request) = request.body(Body::empty()) else { return };
        let failure = match head(upstream, request, CHECK_WAIT).await {
            Ok(answer) if answer.status().is_success() => return self.answered(&provider.name),
            Ok(answer) => Failure::Status(answer.status().as_u16()),
            Err(failure) => failure,
        };
        self.failed(&provider.name, failure, None);
    }

    /// Keeps that a call which must not go unanswered found nobody: classes of failures, no content.
    pub async fn note_unanswered(&self, purpose: &str, failures: &[FailureClass]) -> service::store::Result<()> {
        let classes: Vec<&str> = failures.iter().map(|class| class.name()).collect();
        let (purpose, detail, now_ms) = (purpose.to_owned(), classes.join(", then "), self.0.clock.wall_ms());
        let note =
            move |tx: &service::Tx| Ok(audit::note(tx, now_ms, &Deed { actor: "agent", deed: "purpose_unanswered", subject: &purpose, detail: &detail })?);
        self.0.store.write(note).await
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Known>> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The head of a provider's answer, or how the provider failed.
pub async fn head(upstream: &Upstream, request: Request<Body>, wait: Duration) -> Result<hyper::Response<Incoming>, Failure> {
    match tokio::time::timeout(wait, upstream.send(request)).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(NoAnswer::Connect)) => Err(Failure::Connect),
        Ok(Err(NoAnswer::Broken)) => Err(Failure::Broken),
        Err(_) => Err(Failure::TimedOut),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_provider_is_what_its_last_calls_say() {
        let folder = std::env::temp_dir().join(service::random::token());
        std::fs::create_dir_all(&folder).unwrap();
        let clock = Clock::manual(1_000);
        let providers = Providers::new(Store::open(&folder.join("a.db"), crate::store::MIGRATIONS).unwrap(), clock.clone());
        let state = || providers.standing("p").state;
        assert_eq!(providers.standing("p"), Standing { state: State::Ok, last_error_class: None, failed_ms: None, answered_ms: None });
        providers.failed("p", Failure::Status(429), Some(30));
        assert_eq!((state(), providers.rests("p"), providers.rests("q")), (State::Degraded, true, false));
        clock.advance(29_999);
        assert!(providers.rests("p"));
        clock.advance(1);
        assert!(!providers.rests("p"));
        providers.failed("p", Failure::Connect, None);
        providers.failed("p", Failure::TimedOut, Some(u64::MAX));
        assert_eq!((state(), providers.standing("p").last_error_class), (State::Down, Some("transient_network")));
        clock.advance(REST_SECS_MAX * 1_000);
        assert!(!providers.rests("p"), "nobody rests for ever");
        providers.answered("p");
        assert_eq!((state(), providers.standing("p").failed_ms), (State::Ok, Some(31_000)), "what went wrong last is still told");
        std::fs::remove_dir_all(folder).unwrap();
    }
}
