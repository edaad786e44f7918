//! The way of a model call: OpenClaw → here → provider, and back.
//!
//! [`pass`] is the one page: authenticate → which provider → plugin loaded? → announced? → paused? → network closed? → who is asked
//! ([`way`]) → frozen? → every result known? → [`ask`]: the key → redact → room in the budget? → write it down → forward, and
//! where that fails, once more to whoever is behind → redact → count → release. OpenClaw never sees the provider's key, and the
//! provider never sees a tool result that nobody decided about, nor a secret.

mod answer;
mod caching;
mod calls;
mod canaries;
mod observed;
mod request;
mod usage;

use crate::bundle::InForce;
use crate::canary::Canaries;
use crate::gateway::openclaw::{CANARY, Dialect, PURPOSE, Provider};
use crate::gateway::{CANARY_SESSIONS, Gateway, UNGATED};
use crate::ledger::{self, Known, Ledger, Run, canonical_call_id};
use crate::metering::{Counted, Metering, NewCall, NotBegun, OpenCall};
use crate::network::{NOT_CLOSED, Network};
use crate::pauses::Pauses;
use crate::providers::{self, Providers};
use crate::screen::{self, Screen};
use crate::vault::Vault;
use answer::Answer;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use futures_util::FutureExt;
use http_body_util::BodyExt;
pub use observed::Observed;
use policy::budget::{self, Account, Span, Whose};
use policy::bundle::Target;
use policy::route::{Failure, FailureClass, Pin, Way};
use redact::{BodyError, EventStream, Redactor};
use request::{Model, Route, Tools, Traceparent};
use serde_json::json;
use service::upstream::{Incoming, Upstream};
use service::{SecretString, door, random};
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

pub struct EgressProxy {
    pub gateway: Gateway,
    pub ledger: Ledger,
    pub pauses: Pauses,
    pub vault: Vault,
    pub network: Network,
    pub screen: Screen,
    pub in_force: InForce,
    pub metering: Metering,
    pub providers: Vec<Provider>,
    pub health: Providers,
    pub upstream: Upstream,
    pub observed: Observed,
    pub canaries: Canaries,
}

/// Long conversations with tool results; OpenClaw compacts long before.
const BODY_BYTES_MAX: usize = 32 * 1024 * 1024;
/// An answer that is not streamed is read whole before it is released.
const ANSWER_BYTES_MAX: usize = 32 * 1024 * 1024;
/// A stream that goes on longer than any answer: each token comes in some two hundred bytes.
const STREAM_BYTES_MAX: usize = 64 * 1024 * 1024;
/// A provider thinks this long at most before its first byte.
const HEAD_WAIT: Duration = Duration::from_secs(300);
/// And this long where another one can be asked instead.
const BACKED_WAIT: Duration = Duration::from_secs(60);
/// And this long between two bytes; providers send pings meanwhile.
const IDLE_WAIT: Duration = Duration::from_secs(180);
/// What an answer may have where its request sets no bound.
const OUTPUT_TOKENS_UNSAID: i64 = 32_768;
const HOLD: Duration = Duration::from_millis(redact::HOLD_MS_MAX);
/// What came before a break has this long to leave.
const BREAK_REST: Duration = Duration::from_millis(5);
/// What is taken of a stream at a time.
const COME_BYTES_MAX: usize = 64 * 1024;
/// Pieces that wait for a slow reader before we stop reading from the provider.
const PIECES_MAX: usize = 16;

/// A body of this size takes a millisecond to look at.
const BESIDE_BYTES_MIN: usize = 512 * 1024;

/// Why a model call did not go out. The text is for OpenClaw's log; the chat shows the catalogue's sentence for the code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stopped {
    status: StatusCode,
    code: &'static str,
    message: &'static str,
}

/// 400 and nothing else: OpenClaw rests a provider for every session on 401 and 403, and tries again on 429 and 5xx.
const fn stopped(code: &'static str, message: &'static str) -> Stopped {
    Stopped { status: StatusCode::BAD_REQUEST, code, message }
}

const TOKEN_WRONG: Stopped = stopped("proxy_token_wrong", "This request does not come from the assistant.");
const PROVIDER_UNKNOWN: Stopped = stopped("provider_unknown", "No provider of this name is configured.");
const PROVIDER_DISABLED: Stopped = stopped("provider_disabled", "The company has switched this provider off.");
const PURPOSE_UNKNOWN: Stopped = stopped("purpose_unknown", "Nobody answers for this purpose.");
const UNANSWERED: Stopped = stopped("purpose_unanswered", "Nobody who may answer for this purpose did, so there is no answer.");
const MODEL_UNKNOWN: Stopped = stopped("model_unknown", "This model is not among those that the assistant may use.");
const ROUTE_UNKNOWN: Stopped = stopped("route_unknown", "This provider's dialect has no such route here.");
const NETWORK_OPEN: Stopped = stopped(NOT_CLOSED, "OpenClaw's network is not closed, so no model may answer.");
const NOT_LOADED: Stopped = stopped(UNGATED, "The safety plugin is not loaded, so no model may answer.");
const UNANNOUNCED: Stopped = stopped("trace_unannounced", "The safety plugin did not announce this model call, so it was not sent.");
const FROZEN: Stopped = stopped("session_frozen", "A tool ran in this session without a safety check. The session is frozen until an operator looks at it.");
const PAUSED: Stopped = stopped("assistant_paused", "A person has paused this assistant until an owner lets it go on.");
const MALFORMED: Stopped = stopped("body_malformed", "This request is not one of the provider's dialect.");
const ENCODED: Stopped = stopped("encoding_unsupported", "A request in this content encoding cannot be opened, so it was not sent: send it plain or as gzip.");
const BLOCKED: Stopped = stopped("secret_blocked", "A secret of the vault stands in a part of this request that cannot be edited, so it was not sent.");
const UNSCREENED: Stopped = stopped("vault_unscreened", "The vault cannot be read, so nothing can be kept from leaving and the call was not sent.");
const KEY_MISSING: Stopped = stopped("provider_key_missing", "No key for this provider is in the environment, a credential or the vault.");
const TOO_LARGE: Stopped = Stopped { status: StatusCode::PAYLOAD_TOO_LARGE, code: "body_too_large", message: "This request is larger than the agent accepts." };
const UNREACHABLE: Stopped = Stopped { status: StatusCode::BAD_GATEWAY, code: "provider_unreachable", message: "The provider could not be reached." };
const UNREADABLE: Stopped = Stopped { status: StatusCode::BAD_GATEWAY, code: "provider_unreadable", message: "The provider's answer could not be read." };
const BUDGET_CALL: Stopped = stopped("budget_call", "This call could cost more than a single one may.");
const BUDGET_RUN: Stopped = stopped("budget_run", "What this message set going has cost as much as it may.");
const BUDGET_DAY: Stopped = stopped("budget_day", "The assistant's budget of this day is used up.");
const BUDGET_MONTH: Stopped = stopped("budget_month", "The assistant's budget of this month is used up.");
const BUDGET_TENANT_DAY: Stopped = stopped("budget_tenant_day", "The budget of this day for all assistants is used up.");
const BUDGET_TENANT_MONTH: Stopped = stopped("budget_tenant_month", "The budget of this month for all assistants is used up.");
const NO_CANARY: Stopped =
    stopped("canary_unknown", "This is a session of the agent's own canaries, which no provider answers, and no other session has their model.");
const RECORDS: Stopped = stopped("internal", "The agent could not write its records, so the call was not sent.");

pub fn routes(proxy: Arc<EgressProxy>) -> Router {
    Router::new().route("/llm/{provider}/{*path}", post(serve)).with_state(proxy)
}

async fn serve(State(proxy): State<Arc<EgressProxy>>, Path((name, path)): Path<(String, String)>, headers: HeaderMap, body: Body) -> Response {
    // Purposes are asked for in the dialect that most providers speak.
    let dialect = proxy.provider(&name).map_or(Dialect::OpenaiCompletions, |provider| provider.dialect);
    pass(&proxy, &name, dialect, &path, &headers, body).await.unwrap_or_else(|stopped| {
        tracing::warn!(code = stopped.code, provider = name, "a model call was stopped");
        refusal(dialect, stopped)
    })
}

impl EgressProxy {
    fn provider(&self, name: &str) -> Option<&Provider> {
        self.providers.iter().find(|provider| provider.name == name)
    }
}

async fn pass(proxy: &Arc<EgressProxy>, name: &str, dialect: Dialect, path: &str, headers: &HeaderMap, body: Body) -> Result<Response, Stopped> {
    authenticate(&proxy.gateway, headers)?;
    // Answered here: nothing of it leaves, costs anything or is counted.
    if name == CANARY {
        return canaries::pass(proxy, path, headers, body).await;
    }
    if name != PURPOSE && proxy.provider(name).is_none() {
        return Err(PROVIDER_UNKNOWN);
    }
    let route = Route::parse(dialect, path).ok_or(ROUTE_UNKNOWN)?;
    if !proxy.gateway.is_gated() {
        return Err(NOT_LOADED);
    }
    let trace = headers.get("traceparent").and_then(|value| value.to_str().ok()).and_then(Traceparent::parse).ok_or(UNANNOUNCED)?;
    let bytes = read(headers, body).await?;
    let model = Model::parse(dialect, &route, &bytes).ok_or(MALFORMED)?;
    let origin = proxy.ledger.origin(&trace.trace_id, &trace.span_id).await;
    // OpenClaw announces no single request for the last words of a turn, which has no tools; whatever has some is announced.
    let runs = if origin.exact || model.tools.is_empty() { origin.runs } else { Vec::new() };
    let run = runs.first().ok_or(UNANNOUNCED)?;
    let asked = Asked { name, dialect, route, headers, bytes, model, trace_id: &trace.trace_id };
    let outcome = admitted(proxy, asked, run, &runs).await;
    match &outcome {
        Err(stopped) => runs.iter().for_each(|run| proxy.ledger.note_stop(&run.session, stopped.code)),
        Ok(_) => proxy.ledger.forget_stop(&run.session),
    }
    outcome
}

/// A request that could be read.
struct Asked<'a> {
    name: &'a str,
    dialect: Dialect,
    route: Route,
    headers: &'a HeaderMap,
    bytes: Bytes,
    model: Model,
    trace_id: &'a str,
}

/// The rest of the way, for a call that is known to be whose.
async fn admitted(proxy: &Arc<EgressProxy>, asked: Asked<'_>, run: &Run, runs: &[Run]) -> Result<Response, Stopped> {
    let Asked { name, dialect, route, headers, bytes, model, trace_id } = asked;
    if runs.iter().any(|run| proxy.pauses.holds(run.assistant)) {
        return Err(PAUSED);
    }
    if !proxy.network.is_in_force() {
        return Err(NETWORK_OPEN);
    }
    let way = way(proxy, name, &model.name)?;
    second_gate(proxy, dialect, runs, &model).await?;
    if !proxy.screen.is_sound() {
        return Err(UNSCREENED);
    }
    let call = Call {
        run: run.clone(),
        trace_id: trace_id.to_owned(),
        route,
        headers: headers.clone(),
        hides_usage: model.hides_usage(),
        output_max: model.output_max,
        bytes: model.with_usage(bytes),
        tools: Arc::new(model.tools),
        model: model.name,
    };
    // In a task of its own: OpenClaw may hang up before the provider has said a word, and the books must be closed all the same.
    let asking = tokio::spawn(ask(proxy.clone(), call, way));
    asking.await.map_err(|_| RECORDS)?
}

/// Who is asked: the provider that was named, or whoever answers for a purpose.
fn way(proxy: &EgressProxy, name: &str, model: &str) -> Result<Way, Stopped> {
    let law = proxy.in_force.law();
    let way = if name == PURPOSE {
        law.routes().way(model).ok_or(PURPOSE_UNKNOWN)?
    } else {
        Way { purpose: String::new(), first: Target { provider: name.to_owned(), model: model.to_owned() }, second: None, pin: None }
    };
    for target in std::iter::once(&way.first).chain(&way.second) {
        if law.routes().is_disabled(&target.provider) {
            return Err(PROVIDER_DISABLED);
        }
        let provider = proxy.provider(&target.provider).ok_or(PROVIDER_UNKNOWN)?;
        // The request was written for one dialect.
        let fits = name != PURPOSE || provider.dialect == Dialect::OpenaiCompletions;
        if !fits || !provider.models.contains(&target.model) {
            return Err(MODEL_UNKNOWN);
        }
    }
    Ok(way)
}

/// A call that may be asked, whoever answers it.
struct Call {
    run: Run,
    trace_id: String,
    route: Route,
    headers: HeaderMap,
    bytes: Bytes,
    tools: Arc<Tools>,
    model: String,
    output_max: Option<i64>,
    hides_usage: bool,
}

/// Asks the first, and the second if the first failed in a way that says nothing about the request. Each attempt has books of its own.
async fn ask(proxy: Arc<EgressProxy>, call: Call, way: Way) -> Result<Response, Stopped> {
    let mut failures: Vec<FailureClass> = Vec::new();
    let mut next = Some(&way.first);
    let mut second = way.second.as_ref();
    while let Some(target) = next.take() {
        // Who asked for a pause gets it where another one can answer.
        if second.is_some() && proxy.health.rests(&target.provider) {
            failures.push(FailureClass::Quota);
            next = second.take();
            continue;
        }
        let provider = proxy.provider(&target.provider).ok_or(PROVIDER_UNKNOWN)?;
        let (books, outcome) = attempt(&proxy, &call, provider, target, way.pin, second.is_some()).await?;
        let failure = match &outcome {
            Ok(answer) if answer.status().is_success() => None,
            Ok(answer) => Some(Failure::Status(answer.status().as_u16())),
            Err(failure) => Some(*failure),
        };
        match failure.filter(|failure| failure.is_the_providers()) {
            Some(failure) => proxy.health.failed(&provider.name, failure, outcome.as_ref().ok().and_then(retry_after_secs)),
            None => proxy.health.answered(&provider.name),
        }
        let Some(failure) = failure else {
            let Ok(answer) = outcome else { return Err(UNREACHABLE) };
            return Ok(release(books, provider.dialect, answer).await);
        };
        failures.push(failure.class());
        let goes_on = second.is_some() && way.falls_back(failure);
        match outcome {
            Ok(answer) if !goes_on && !way.fails_closed() => return Ok(release(books, provider.dialect, answer).await),
            Ok(_) => books.refused().await.map_err(unwritten)?,
            Err(_) => books.unreached(provider.dialect, failure).await.map_err(unwritten)?,
        }
        tracing::warn!(provider = provider.name, purpose = way.purpose, class = failure.class().name(), goes_on, "a provider failed");
        if goes_on {
            next = second.take();
        }
    }
    if !way.fails_closed() {
        return Err(UNREACHABLE);
    }
    proxy.health.note_unanswered(&way.purpose, &failures).await.map_err(unwritten)?;
    Err(UNANSWERED)
}

/// One call of one provider, up to the first byte of its answer.
async fn attempt(
    proxy: &EgressProxy,
    call: &Call,
    provider: &Provider,
    target: &Target,
    pin: Option<Pin>,
    is_backed: bool,
) -> Result<(Books, Result<hyper::Response<Incoming>, Failure>), Stopped> {
    let key = key(&proxy.vault, provider).await?;
    let mut redactor = proxy.screen.now();
    let mut ready = call.ready(provider, target, pin, key.as_ref(), &redactor).await?;
    let output_max = pin.map_or(call.output_max, |pin| Some(pin.output_tokens_max));
    let open = reserve(proxy, provider, &target.model, (ready.request_bytes, ready.prefix.clone()), output_max, call).await?;
    // What became a secret meanwhile is one.
    let now = proxy.screen.now();
    if !Arc::ptr_eq(&now, &redactor) {
        redactor = now;
        ready = match call.ready(provider, target, pin, key.as_ref(), &redactor).await {
            Ok(ready) => ready,
            Err(stopped) => {
                proxy.metering.abandon(open).await.map_err(unwritten)?;
                return Err(stopped);
            }
        };
    }
    let books = Books {
        ledger: proxy.ledger.clone(),
        metering: proxy.metering.clone(),
        call: open,
        session: call.run.session.clone(),
        tools: call.tools.clone(),
        request_bytes: ready.request_bytes,
        hides_usage: call.hides_usage,
        screen: proxy.screen.clone(),
    };
    let wait = if is_backed { BACKED_WAIT } else { HEAD_WAIT };
    Ok((books, providers::head(&proxy.upstream, ready.request, wait).await))
}

/// A request as it may leave.
struct Ready {
    request: Request<Body>,
    request_bytes: usize,
    /// Of what each request of this assistant begins with.
    prefix: Option<String>,
}

impl Call {
    /// The request without secrets, in the words of whoever gets it.
    async fn ready(
        &self,
        provider: &Provider,
        target: &Target,
        pin: Option<Pin>,
        key: Option<&SecretString>,
        redactor: &Arc<Redactor>,
    ) -> Result<Ready, Stopped> {
        let bytes = redacted(redactor, self.bytes.clone()).await?;
        let prefix = caching::prefix(&bytes);
        let mut bytes = caching::with_marks(provider.dialect, bytes);
        if target.model != self.model {
            bytes = request::with_model(&bytes, &target.model).ok_or(MALFORMED)?;
        }
        if let Some(pin) = pin {
            bytes = request::pinned(&bytes, pin).ok_or(MALFORMED)?;
        }
        if provider.url.starts_with(MISTRAL) {
            bytes = request::with_short_ids(&bytes);
        }
        let request_bytes = bytes.len();
        let request = outgoing(provider, &self.route, screened(&self.headers, redactor)?, key, bytes)?;
        Ok(Ready { request, request_bytes, prefix })
    }
}

/// When the provider wants to be asked again; the form with a date is not read.
fn retry_after_secs(answer: &hyper::Response<Incoming>) -> Option<u64> {
    answer.headers().get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()
}

/// Its ids of calls have a form of their own.
const MISTRAL: &str = "https://api.mistral.ai/";

/// Writes the call down, if what it can cost at most has room in every budget.
async fn reserve(
    proxy: &EgressProxy,
    provider: &Provider,
    model: &str,
    (request_bytes, prefix): (usize, Option<String>),
    output_max: Option<i64>,
    call: &Call,
) -> Result<OpenCall, Stopped> {
    let law = proxy.in_force.law();
    let rate = law.prices().rate(&provider.name, model, provider.dialect == Dialect::Ollama);
    let (assistant, tenant) = law.limits(&call.run.assistant.to_string());
    let at_most = rate.at_most(budget::at_most_tokens(request_bytes), output_max.unwrap_or(OUTPUT_TOKENS_UNSAID));
    let new = NewCall {
        assistant: call.run.assistant,
        provider: provider.name.clone(),
        model: model.to_owned(),
        run: call.trace_id.clone(),
        rate,
        at_most,
        limits: budget::accounts(assistant, tenant),
        prefix,
    };
    proxy.metering.begin(new).await.map_err(|not_begun| match not_begun {
        NotBegun::Store(error) => unwritten(error),
        NotBegun::Exhausted(account) => exhausted(&account),
    })
}

fn exhausted(account: &Account) -> Stopped {
    match (account.whose, account.span) {
        (_, Span::Call) => BUDGET_CALL,
        (_, Span::Run) => BUDGET_RUN,
        (Whose::Assistant, Span::Day) => BUDGET_DAY,
        (Whose::Assistant, Span::Month) => BUDGET_MONTH,
        (Whose::Tenant, Span::Day) => BUDGET_TENANT_DAY,
        (Whose::Tenant, Span::Month) => BUDGET_TENANT_MONTH,
    }
}

fn authenticate(gateway: &Gateway, headers: &HeaderMap) -> Result<(), Stopped> {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let shown = door::bearer(headers).or_else(|| text(HeaderName::from_static("x-api-key"))).or_else(|| text(HeaderName::from_static("x-goog-api-key")));
    // The comparison needs the token.
    let right = gateway.proxy_token().zip(shown).is_some_and(|(token, shown)| random::same(token.expose(), shown));
    if right { Ok(()) } else { Err(TOKEN_WRONG) }
}

async fn read(headers: &HeaderMap, body: Body) -> Result<Bytes, Stopped> {
    let encoding = door::codings(headers);
    let packed = door::body(body, BODY_BYTES_MAX).await;
    let packed = packed.map_err(|refusal| if refusal == service::Refusal::BODY_TOO_LARGE { TOO_LARGE } else { MALFORMED })?;
    beside(packed.len(), move || match redact::body::open(&encoding, &packed).map_err(unopened)? {
        Cow::Borrowed(_) => Ok(packed),
        Cow::Owned(opened) => Ok(opened.into()),
    })
    .await
}

fn unopened(error: BodyError) -> Stopped {
    match error {
        BodyError::TooLarge { .. } => TOO_LARGE,
        BodyError::Encoding(_) | BodyError::Broken(_) => ENCODED,
        BodyError::Blocked { .. } => BLOCKED,
        BodyError::Malformed { .. } | BodyError::TooDeep => MALFORMED,
    }
}

/// The request as it may leave.
async fn redacted(redactor: &Arc<Redactor>, bytes: Bytes) -> Result<Bytes, Stopped> {
    let redactor = redactor.clone();
    beside(bytes.len(), move || {
        let body = redactor.json(&bytes).map_err(|error| {
            // Names the place and the secret, never a value.
            tracing::warn!(%error, "a model request cannot leave");
            unopened(error)
        })?;
        if !body.findings.is_empty() {
            tracing::debug!(rules = screen::rules(&body.findings), "secrets were taken out of a model request");
        }
        match body.bytes {
            Cow::Borrowed(_) => Ok(bytes),
            Cow::Owned(edited) => Ok(edited.into()),
        }
    })
    .await
}

/// Looks at a large body where others do not wait for it.
async fn beside<T: Send + 'static>(bytes: usize, look: impl FnOnce() -> Result<T, Stopped> + Send + 'static) -> Result<T, Stopped> {
    if bytes <= BESIDE_BYTES_MIN {
        return look();
    }
    tokio::task::spawn_blocking(look).await.unwrap_or(Err(RECORDS))
}

/// Each new tool result in the request is of a call that ran with a verdict, or says in the right words why it did not.
/// Otherwise the session is frozen before a byte reaches the provider.
async fn second_gate(proxy: &EgressProxy, dialect: Dialect, runs: &[Run], model: &Model) -> Result<(), Stopped> {
    for run in runs {
        if proxy.ledger.is_frozen(&run.session).await.map_err(unwritten)? {
            return Err(FROZEN);
        }
    }
    for run in runs {
        // Whatever OpenClaw has to say in there is for nobody.
        if run.session.starts_with(CANARY_SESSIONS) {
            return Err(NO_CANARY);
        }
        // A sub-assistant that no call was allowed to make: whoever made it did not ask.
        if !proxy.ledger.is_allowed(&run.session).await.map_err(unwritten)? {
            tracing::error!(session = run.session, "a sub-assistant that nobody allowed: its session is frozen");
            proxy.ledger.freeze(&run.session, Vec::new()).await.map_err(unwritten)?;
            return Err(FROZEN);
        }
    }
    if model.results.len() > ledger::RESULTS_MAX {
        return Err(TOO_LARGE);
    }
    let mut open: Vec<String> = model.results.iter().map(|result| canonical_call_id(&result.call_id)).collect();
    open.sort_unstable();
    open.dedup();
    let mut unexplained = Vec::new();
    for (index, run) in runs.iter().enumerate() {
        let (mut fresh, mut elsewhere) = (Vec::new(), Vec::new());
        let last = index + 1 == runs.len();
        for (call_id, known) in proxy.ledger.known(&run.session, std::mem::take(&mut open)).await.map_err(unwritten)? {
            match known {
                Known::Seen => {}
                Known::Ran => fresh.push(call_id),
                Known::Refused(reason) if results(model, &call_id).all(|text| text == reason || proxy.observed.is_made_up(dialect, text)) => {
                    fresh.push(call_id)
                }
                Known::Refused(_) => unexplained.push(call_id),
                Known::Nothing if turned_down(proxy, dialect, run, model, &call_id).await? => fresh.push(call_id),
                Known::Nothing if last && proxy.ledger.is_seen(&call_id).await.map_err(unwritten)? => fresh.push(call_id),
                Known::Nothing if last => unexplained.push(call_id),
                // Of the sessions under one trace it is another's.
                Known::Nothing => elsewhere.push(call_id),
            }
        }
        proxy.ledger.note_seen(&run.session, fresh).await.map_err(unwritten)?;
        open = elsewhere;
    }
    if unexplained.is_empty() {
        return Ok(());
    }
    for run in runs {
        tracing::error!(session = run.session, results = unexplained.len(), "tool results that nobody decided about: the session is frozen");
        proxy.ledger.freeze(&run.session, unexplained.clone()).await.map_err(unwritten)?;
    }
    Err(FROZEN)
}

/// The texts of the results under this id.
fn results<'a>(model: &'a Model, call_id: &'a str) -> impl Iterator<Item = &'a str> {
    model.results.iter().filter(move |result| canonical_call_id(&result.call_id) == call_id).map(|result| result.text.as_str())
}

/// Whether every result under this id is one that OpenClaw writes by itself for a call that never ran.
async fn turned_down(proxy: &EgressProxy, dialect: Dialect, run: &Run, model: &Model, call_id: &str) -> Result<bool, Stopped> {
    let proposal = proxy.ledger.proposal(&run.session, call_id).await.map_err(unwritten)?;
    let by_itself = |text: &str| proxy.observed.is_made_up(dialect, text) || proposal.as_ref().is_some_and(|call| proxy.observed.is_turned_down(call, text));
    Ok(!call_id.is_empty() && results(model, call_id).all(by_itself))
}

/// `None` for a model on this machine, which wants no key.
async fn key(vault: &Vault, provider: &Provider) -> Result<Option<SecretString>, Stopped> {
    match vault.provider_key(&provider.name).await {
        Ok(Some((key, _))) => Ok(Some(key)),
        Ok(None) if provider.dialect == Dialect::Ollama => Ok(None),
        Ok(None) => Err(KEY_MISSING),
        Err(error) => {
            tracing::error!(%error, provider = provider.name, "the provider's key cannot be read");
            Err(KEY_MISSING)
        }
    }
}

/// Headers of OpenClaw that mean something to a provider. Everything else, its token above all, stays here.
const FORWARDED: [&str; 6] = ["accept", "anthropic-beta", "anthropic-version", "content-type", "openai-beta", "user-agent"];

/// Those headers of a request, if no secret is in them.
fn screened(headers: &HeaderMap, redactor: &Redactor) -> Result<HeaderMap, Stopped> {
    let mut kept = HeaderMap::new();
    for name in FORWARDED {
        if let Some(value) = headers.get(name) {
            kept.insert(HeaderName::from_static(name), clean(redactor, value.clone()).ok_or(BLOCKED)?);
        }
    }
    Ok(kept)
}

fn outgoing(provider: &Provider, route: &Route, headers: HeaderMap, key: Option<&SecretString>, body: Bytes) -> Result<Request<Body>, Stopped> {
    let mut request = Request::post(format!("{}/{}", provider.url, route.path));
    if let Some(kept) = request.headers_mut() {
        kept.extend(headers);
    }
    if let Some(key) = key {
        let (name, value) = provider.key_header(key).ok_or(KEY_MISSING)?;
        request = request.header(name, value);
    }
    // An answer that we could not read would be one that we could not count.
    request.header(header::ACCEPT_ENCODING, "identity").body(Body::from(body)).map_err(|_| MALFORMED)
}

/// Headers of the provider that mean something to OpenClaw.
fn returned(name: &HeaderName) -> bool {
    matches!(name.as_str(), "content-type" | "retry-after" | "request-id" | "x-request-id")
        || name.as_str().starts_with("anthropic-ratelimit-")
        || name.as_str().starts_with("x-ratelimit-")
}

/// A header without anything that is a secret.
fn clean(redactor: &Redactor, value: HeaderValue) -> Option<HeaderValue> {
    let is_clean = value.to_str().is_ok_and(|text| redactor.text(text).findings.is_empty());
    is_clean.then_some(value)
}

/// What must be written down about an answer before its end is released.
struct Books {
    ledger: Ledger,
    metering: Metering,
    call: OpenCall,
    session: String,
    tools: Arc<Tools>,
    request_bytes: usize,
    hides_usage: bool,
    screen: Screen,
}

impl Books {
    /// No answer came. Only a call that surely never left costs nothing.
    async fn unreached(self, dialect: Dialect, failure: Failure) -> service::store::Result<()> {
        if failure == Failure::Connect {
            return self.metering.abandon(self.call).await;
        }
        self.close(&Answer::new(dialect, ledger::mint_call_id), false).await
    }

    /// The provider refused the call, and takes nothing for that.
    async fn refused(self) -> service::store::Result<()> {
        self.metering.settle(self.call, Counted::NOTHING).await
    }

    /// `ended`: the answer came to its end.
    async fn close(self, answer: &Answer, ended: bool) -> service::store::Result<()> {
        self.ledger.note_proposals(&self.session, answer.proposals(&self.tools)).await?;
        self.metering.settle(self.call, answer.counted(ended, self.request_bytes)).await
    }
}

async fn release(books: Books, dialect: Dialect, response: hyper::Response<Incoming>) -> Response {
    let (head, body) = response.into_parts();
    let plain = head.headers.get(header::CONTENT_ENCODING).is_none_or(|value| value == "identity");
    // A stream in another form than its dialect's would be passed on unread.
    let form = if dialect == Dialect::Ollama { "application/x-ndjson" } else { "text/event-stream" };
    let begins = |value: &HeaderValue| value.as_bytes().get(..form.len()).is_some_and(|kind| kind.eq_ignore_ascii_case(form.as_bytes()));
    let streamed = head.headers.get(header::CONTENT_TYPE).is_some_and(begins);
    let mut answer = Answer::new(dialect, ledger::mint_call_id).hiding_usage(books.hides_usage);
    let redactor = books.screen.now();
    let body = if streamed && plain {
        let (pieces, reader) = mpsc::channel(PIECES_MAX);
        tokio::spawn(stream(books, answer, body, pieces));
        Body::from_stream(futures_util::stream::unfold(reader, async |mut reader| reader.recv().await.map(|piece| (piece, reader))))
    } else {
        // An answer that cannot be read can propose calls under ids that are not ours.
        let bytes = whole(body).await.filter(|_| plain).and_then(|bytes| Some(Bytes::from(redactor.body(&bytes).ok()?.bytes.into_owned())));
        let Some(bytes) = bytes.and_then(|bytes| answer.whole(bytes, head.status.is_success())) else {
            let _ = books.close(&answer, false).await;
            return refusal(dialect, UNREADABLE);
        };
        let closed = if head.status.is_success() { books.close(&answer, true).await } else { books.refused().await };
        if closed.is_err() {
            return refusal(dialect, RECORDS);
        }
        Body::from(bytes)
    };
    let mut response = Response::new(body);
    *response.status_mut() = head.status;
    response.headers_mut().extend(head.headers.into_iter().filter_map(|(name, value)| Some((name.filter(returned)?, clean(&redactor, value)?))));
    response
}

async fn whole(body: Incoming) -> Option<Bytes> {
    let limited = http_body_util::Limited::new(body, ANSWER_BYTES_MAX);
    Some(tokio::time::timeout(HEAD_WAIT, limited.collect()).await.ok()?.ok()?.to_bytes())
}

/// What has come of an answer's body.
struct Come {
    bytes: Bytes,
    end: Option<End>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Whole,
    Broken,
}

/// Waits for the next bytes, and takes with them whatever else is there by now: a burst of events is looked at and passed on
/// at once. Whoever drops this while it waits loses nothing.
async fn come(body: &mut Incoming) -> Come {
    let first = body.frame().await;
    let (mut bytes, mut more) = match data(first) {
        Ok(bytes) => (bytes, Vec::new()),
        Err(end) => return Come { bytes: Bytes::new(), end: Some(end) },
    };
    while bytes.len() + more.len() < COME_BYTES_MAX
        && let Some(next) = body.frame().now_or_never()
    {
        let next = data(next);
        if more.is_empty() {
            more = std::mem::take(&mut bytes).into();
        }
        match next {
            Ok(next) => more.extend_from_slice(&next),
            Err(end) => return Come { bytes: more.into(), end: Some(end) },
        }
    }
    Come { bytes: if more.is_empty() { bytes } else { more.into() }, end: None }
}

fn data(frame: Option<Result<hyper::body::Frame<Bytes>, hyper::Error>>) -> Result<Bytes, End> {
    match frame {
        Some(Ok(frame)) => Ok(frame.into_data().unwrap_or_default()),
        Some(Err(_)) => Err(End::Broken),
        None => Err(End::Whole),
    }
}

type Piece = Result<Bytes, std::io::Error>;

/// Passes the answer on event by event as it comes, without the secrets that it repeats. The books are closed before the line that ends it is released.
async fn stream(books: Books, mut answer: Answer, mut body: Incoming, pieces: mpsc::Sender<Piece>) {
    let (screen, mut redactor) = (books.screen.clone(), books.screen.now());
    let mut events = if answer.is_lines() { EventStream::of_lines(redactor.clone()) } else { EventStream::new(redactor.clone()) };
    let (mut books, mut released, mut has_left, mut taken_bytes) = (Some(books), false, false, 0);
    let broken = loop {
        let come = tokio::select! {
            come = tokio::time::timeout(IDLE_WAIT, come(&mut body)) => Some(come.unwrap_or(Come { bytes: Bytes::new(), end: Some(End::Broken) })),
            // What may still become a secret has been held back long enough; a known one is waited for.
            () = tokio::time::sleep(HOLD), if !released && events.held_bytes() > 0 => None,
            // The reader left; what the provider counts from here on nobody sees.
            () = pieces.closed() => {
                has_left = true;
                break false;
            }
        };
        released = come.is_none();
        // What became a secret meanwhile is one.
        let now = screen.now();
        if !Arc::ptr_eq(&now, &redactor) {
            events.renew(now.clone());
            redactor = now;
        }
        let (gone, end) = match come {
            None => (events.release(), None),
            Some(Come { bytes, end }) => {
                taken_bytes += bytes.len();
                if taken_bytes > STREAM_BYTES_MAX {
                    break true;
                }
                let Ok(gone) = events.push(&bytes) else { break true };
                (gone, end)
            }
        };
        let Some(lines) = answer.feed(&gone) else { break true };
        if answer.is_finished()
            && let Some(books) = books.take()
            && books.close(&answer, true).await.is_err()
        {
            break true;
        }
        if !lines.is_empty() && pieces.send(Ok(lines)).await.is_err() {
            has_left = true;
            break false;
        }
        if let Some(end) = end {
            break end == End::Broken;
        }
    };
    let rest = events.finish().ok().and_then(|gone| Some([answer.feed(&gone)?, answer.rest()?].concat().into()));
    if let Some(books) = books
        && let Err(error) = books.close(&answer, !broken && !has_left).await
    {
        tracing::error!(%error, "a model call could not be counted");
    }
    let last = match rest {
        // Behind the event that ends it nothing can break.
        Some(rest) if !broken || answer.is_finished() => Ok(rest),
        _ => {
            // The error takes with it what is not on its way yet.
            tokio::time::sleep(BREAK_REST).await;
            Err(std::io::Error::other("the provider's answer broke off"))
        }
    };
    let _ = pieces.send(last).await;
}

fn unwritten(error: service::store::StoreError) -> Stopped {
    tracing::error!(%error, "a model call could not be written down");
    RECORDS
}

fn refusal(dialect: Dialect, stopped: Stopped) -> Response {
    let error = json!({ "type": "gatehouse", "code": stopped.code, "message": stopped.message });
    let body = match dialect {
        Dialect::AnthropicMessages => json!({ "type": "error", "error": error }),
        _ => json!({ "error": error }),
    };
    (stopped.status, Json(body)).into_response()
}
