//! The way of a model call: OpenClaw → here → provider, and back.
//!
//! [`pass`] is the one page: authenticate → which provider → plugin loaded? → announced? → network closed? → frozen? → every result
//! known? → redact → the key → write it down → forward → redact → count → release. OpenClaw never sees the provider's key, and the
//! provider never sees a tool result that nobody decided about, nor a secret.

mod answer;
mod calls;
mod observed;
mod request;
mod usage;

use crate::gateway::openclaw::{Dialect, Provider};
use crate::gateway::{Gateway, UNGATED};
use crate::ledger::{self, Known, Ledger, Run, canonical_call_id};
use crate::metering::{Metering, OpenCall};
use crate::network::{NOT_CLOSED, Network};
use crate::screen::{self, Screen};
use crate::vault::Vault;
use answer::Answer;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use http_body_util::BodyExt;
pub use observed::Observed;
use redact::{BodyError, EventStream, Redactor};
use request::{Model, Tools, Traceparent};
use serde_json::json;
use service::outward::HttpClient;
use service::{SecretString, random};
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

pub struct EgressProxy {
    pub gateway: Gateway,
    pub ledger: Ledger,
    pub vault: Vault,
    pub network: Network,
    pub screen: Screen,
    pub metering: Metering,
    pub providers: Vec<Provider>,
    pub client: HttpClient,
    pub observed: Observed,
}

/// Long conversations with tool results; OpenClaw compacts long before.
const BODY_BYTES_MAX: usize = 32 * 1024 * 1024;
/// An answer that is not streamed is read whole before it is released.
const ANSWER_BYTES_MAX: usize = 32 * 1024 * 1024;
/// A provider thinks this long at most before its first byte.
const HEAD_WAIT: Duration = Duration::from_secs(300);
/// And this long between two bytes; providers send pings meanwhile.
const IDLE_WAIT: Duration = Duration::from_secs(180);
const HOLD: Duration = Duration::from_millis(redact::HOLD_MS_MAX);
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
const MODEL_UNKNOWN: Stopped = stopped("model_unknown", "This model is not among those that the assistant may use.");
const ROUTE_UNKNOWN: Stopped = stopped("route_unknown", "This provider's dialect has no such route here.");
const NETWORK_OPEN: Stopped = stopped(NOT_CLOSED, "OpenClaw's network is not closed, so no model may answer.");
const NOT_LOADED: Stopped = stopped(UNGATED, "The safety plugin is not loaded, so no model may answer.");
const UNANNOUNCED: Stopped = stopped("trace_unannounced", "The safety plugin did not announce this model call, so it was not sent.");
const FROZEN: Stopped = stopped("session_frozen", "A tool ran in this session without a safety check. The session is frozen until an operator looks at it.");
const MALFORMED: Stopped = stopped("body_malformed", "This request is not one of the provider's dialect.");
const ENCODED: Stopped = stopped("encoding_unsupported", "A request in this content encoding cannot be opened, so it was not sent: send it plain or as gzip.");
const BLOCKED: Stopped = stopped("secret_blocked", "A secret of the vault stands in a part of this request that cannot be edited, so it was not sent.");
const UNSCREENED: Stopped = stopped("vault_unscreened", "The vault cannot be read, so nothing can be kept from leaving and the call was not sent.");
const KEY_MISSING: Stopped = stopped("provider_key_missing", "No key for this provider is in the environment, a credential or the vault.");
const TOO_LARGE: Stopped = Stopped { status: StatusCode::PAYLOAD_TOO_LARGE, code: "body_too_large", message: "This request is larger than the agent accepts." };
const UNREACHABLE: Stopped = Stopped { status: StatusCode::BAD_GATEWAY, code: "provider_unreachable", message: "The provider could not be reached." };
const UNREADABLE: Stopped = Stopped { status: StatusCode::BAD_GATEWAY, code: "provider_unreadable", message: "The provider's answer could not be read." };
const RECORDS: Stopped = stopped("internal", "The agent could not write its records, so the call was not sent.");

pub fn routes(proxy: Arc<EgressProxy>) -> Router {
    Router::new().route("/llm/{provider}/{*path}", post(serve)).with_state(proxy)
}

async fn serve(State(proxy): State<Arc<EgressProxy>>, Path((name, path)): Path<(String, String)>, headers: HeaderMap, body: Body) -> Response {
    let provider = proxy.providers.iter().find(|provider| provider.name == name);
    let dialect = provider.map_or(Dialect::OpenaiCompletions, |provider| provider.dialect);
    pass(&proxy, provider, &path, &headers, body).await.unwrap_or_else(|stopped| {
        tracing::warn!(code = stopped.code, provider = name, "a model call was stopped");
        refusal(dialect, stopped)
    })
}

async fn pass(proxy: &Arc<EgressProxy>, provider: Option<&Provider>, path: &str, headers: &HeaderMap, body: Body) -> Result<Response, Stopped> {
    authenticate(&proxy.gateway, headers)?;
    let provider = provider.ok_or(PROVIDER_UNKNOWN)?;
    if path != route(provider.dialect) {
        return Err(ROUTE_UNKNOWN);
    }
    if !proxy.gateway.is_gated() {
        return Err(NOT_LOADED);
    }
    let trace = headers.get("traceparent").and_then(|value| value.to_str().ok()).and_then(Traceparent::parse).ok_or(UNANNOUNCED)?;
    let bytes = read(headers, body).await?;
    let model = Model::parse(provider.dialect, &bytes).ok_or(MALFORMED)?;
    let origin = proxy.ledger.origin(&trace.trace_id, &trace.span_id).await;
    // OpenClaw announces no single request for the last words of a turn, which has no tools; whatever has some is announced.
    let runs = if origin.exact || model.tools.is_empty() { origin.runs } else { Vec::new() };
    let run = runs.first().ok_or(UNANNOUNCED)?;
    let outcome = admitted(proxy, provider, headers, bytes, model, &runs).await;
    match &outcome {
        Err(stopped) => runs.iter().for_each(|run| proxy.ledger.note_stop(&run.session, stopped.code)),
        Ok(_) => proxy.ledger.forget_stop(&run.session),
    }
    outcome
}

/// The rest of the way, for a call that is known to be whose.
async fn admitted(proxy: &EgressProxy, provider: &Provider, headers: &HeaderMap, bytes: Bytes, model: Model, runs: &[Run]) -> Result<Response, Stopped> {
    let run = runs.first().ok_or(UNANNOUNCED)?;
    if !proxy.network.is_in_force() {
        return Err(NETWORK_OPEN);
    }
    if !provider.models.contains(&model.name) {
        return Err(MODEL_UNKNOWN);
    }
    second_gate(proxy, provider.dialect, runs, &model).await?;
    if !proxy.screen.is_sound() {
        return Err(UNSCREENED);
    }
    let key = key(&proxy.vault, provider).await?;
    let bytes = model.with_usage(bytes);
    let mut redactor = proxy.screen.now();
    let mut ready = outgoing(provider, headers, &redactor, &key, redacted(&redactor, bytes.clone()).await?)?;
    let call = proxy.metering.begin(run.assistant, &provider.name, &model.name).await.map_err(unwritten)?;
    // What became a secret meanwhile is one.
    let now = proxy.screen.now();
    if !Arc::ptr_eq(&now, &redactor) {
        redactor = now;
        let again = redacted(&redactor, bytes).await.and_then(|bytes| outgoing(provider, headers, &redactor, &key, bytes));
        ready = match again {
            Ok(ready) => ready,
            Err(stopped) => {
                proxy.metering.abandon(call).await.map_err(unwritten)?;
                return Err(stopped);
            }
        };
    }
    let books = Books {
        ledger: proxy.ledger.clone(),
        metering: proxy.metering.clone(),
        call,
        session: run.session.clone(),
        tools: model.tools,
        screen: proxy.screen.clone(),
    };
    // In a task of its own: OpenClaw may hang up before the provider has said a word, and the books must be closed all the same.
    let forwarding = tokio::spawn(forward(proxy.client.clone(), ready, provider.name.clone(), provider.dialect, books));
    forwarding.await.map_err(|_| RECORDS)?
}

async fn forward(client: HttpClient, outgoing: Request<Body>, provider: String, dialect: Dialect, books: Books) -> Result<Response, Stopped> {
    match tokio::time::timeout(HEAD_WAIT, client.request(outgoing)).await {
        Ok(Ok(answer)) => Ok(release(books, dialect, answer).await),
        Ok(Err(error)) => {
            tracing::warn!(provider, connect = error.is_connect(), "the provider could not be reached");
            // Only a call that surely never left costs nothing.
            let ended = if error.is_connect() { books.abandon().await } else { books.close(&Answer::new(dialect, ledger::mint_call_id), false).await };
            ended.map_err(unwritten)?;
            Err(UNREACHABLE)
        }
        Err(_) => {
            books.close(&Answer::new(dialect, ledger::mint_call_id), false).await.map_err(unwritten)?;
            Err(UNREACHABLE)
        }
    }
}

fn authenticate(gateway: &Gateway, headers: &HeaderMap) -> Result<(), Stopped> {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let shown = text(header::AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer ")).or_else(|| text(HeaderName::from_static("x-api-key")));
    // The comparison needs the token.
    let right = gateway.proxy_token().zip(shown).is_some_and(|(token, shown)| random::same(token.expose(), shown));
    if right { Ok(()) } else { Err(TOKEN_WRONG) }
}

fn route(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::OpenaiCompletions => "chat/completions",
        Dialect::AnthropicMessages => "v1/messages",
    }
}

async fn read(headers: &HeaderMap, body: Body) -> Result<Bytes, Stopped> {
    let codings: Vec<_> = headers.get_all(header::CONTENT_ENCODING).iter().map(|value| value.to_str().unwrap_or("?")).collect();
    let encoding = codings.join(",");
    let packed = service::door::body(body, BODY_BYTES_MAX).await;
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

async fn key(vault: &Vault, provider: &Provider) -> Result<SecretString, Stopped> {
    match vault.provider_key(&provider.name).await {
        Ok(Some((key, _))) => Ok(key),
        Ok(None) => Err(KEY_MISSING),
        Err(error) => {
            tracing::error!(%error, provider = provider.name, "the provider's key cannot be read");
            Err(KEY_MISSING)
        }
    }
}

/// Headers of OpenClaw that mean something to a provider. Everything else, its token above all, stays here.
const FORWARDED: [&str; 5] = ["accept", "anthropic-beta", "anthropic-version", "content-type", "user-agent"];

fn outgoing(provider: &Provider, headers: &HeaderMap, redactor: &Redactor, key: &SecretString, body: Bytes) -> Result<Request<Body>, Stopped> {
    let mut request = Request::post(format!("{}/{}", provider.url, route(provider.dialect)));
    for name in FORWARDED {
        if let Some(value) = headers.get(name) {
            request = request.header(name, clean(redactor, value.clone()).ok_or(BLOCKED)?);
        }
    }
    // The provider needs the key.
    let (name, value) = match provider.dialect {
        Dialect::OpenaiCompletions => (header::AUTHORIZATION, format!("Bearer {}", key.expose())),
        Dialect::AnthropicMessages => (HeaderName::from_static("x-api-key"), key.expose().to_owned()),
    };
    let mut value = HeaderValue::from_str(&value).map_err(|_| KEY_MISSING)?;
    value.set_sensitive(true);
    // An answer that we could not read would be one that we could not count.
    request.header(name, value).header(header::ACCEPT_ENCODING, "identity").body(Body::from(body)).map_err(|_| MALFORMED)
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
    tools: Tools,
    screen: Screen,
}

impl Books {
    /// The call never left.
    async fn abandon(self) -> service::store::Result<()> {
        self.metering.abandon(self.call).await
    }

    async fn close(self, answer: &Answer, complete: bool) -> service::store::Result<()> {
        self.ledger.note_proposals(&self.session, answer.proposals(&self.tools)).await?;
        self.metering.settle(self.call, answer.tokens(), complete).await
    }
}

async fn release(books: Books, dialect: Dialect, response: hyper::Response<hyper::body::Incoming>) -> Response {
    let (head, body) = response.into_parts();
    let plain = head.headers.get(header::CONTENT_ENCODING).is_none_or(|value| value == "identity");
    let streamed = head
        .headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().get(..17).is_some_and(|kind| kind.eq_ignore_ascii_case(b"text/event-stream")));
    let mut answer = Answer::new(dialect, ledger::mint_call_id);
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
        // A refusal of the provider has no usage, and none is missing.
        let complete = answer.is_complete() || !head.status.is_success();
        if books.close(&answer, complete).await.is_err() {
            return refusal(dialect, RECORDS);
        }
        Body::from(bytes)
    };
    let mut response = Response::new(body);
    *response.status_mut() = head.status;
    response.headers_mut().extend(head.headers.into_iter().filter_map(|(name, value)| Some((name.filter(returned)?, clean(&redactor, value)?))));
    response
}

async fn whole(body: hyper::body::Incoming) -> Option<Bytes> {
    let limited = http_body_util::Limited::new(body, ANSWER_BYTES_MAX);
    Some(tokio::time::timeout(HEAD_WAIT, limited.collect()).await.ok()?.ok()?.to_bytes())
}

type Piece = Result<Bytes, std::io::Error>;

/// Passes the answer on event by event as it comes, without the secrets that it repeats. The books are closed before the line that ends it is released.
async fn stream(books: Books, mut answer: Answer, mut body: hyper::body::Incoming, pieces: mpsc::Sender<Piece>) {
    let (screen, mut redactor) = (books.screen.clone(), books.screen.now());
    let mut events = EventStream::new(redactor.clone());
    let (mut books, mut released) = (Some(books), false);
    let broken = loop {
        let frame = tokio::select! {
            frame = tokio::time::timeout(IDLE_WAIT, body.frame()) => Some(frame),
            // What may still become a secret has been held back long enough; a known one is waited for.
            () = tokio::time::sleep(HOLD), if !released && events.held_bytes() > 0 => None,
            // The reader left; what the provider counts from here on nobody sees.
            () = pieces.closed() => break false,
        };
        released = frame.is_none();
        // What became a secret meanwhile is one.
        let now = screen.now();
        if !Arc::ptr_eq(&now, &redactor) {
            events.renew(now.clone());
            redactor = now;
        }
        let gone = match frame {
            None => events.release(),
            Some(Ok(Some(Ok(frame)))) => {
                let Ok(piece) = frame.into_data() else { continue };
                let Ok(gone) = events.push(&piece) else { break true };
                gone
            }
            Some(Ok(None)) => break false,
            Some(Ok(Some(Err(_))) | Err(_)) => break true,
        };
        let Some(lines) = answer.feed(&gone) else { break true };
        if answer.is_finished()
            && let Some(books) = books.take()
            && books.close(&answer, answer.is_complete()).await.is_err()
        {
            break true;
        }
        if !lines.is_empty() && pieces.send(Ok(lines)).await.is_err() {
            break false;
        }
    };
    let rest = events.finish().ok().and_then(|gone| Some([answer.feed(&gone)?, answer.rest()?].concat().into()));
    if let Some(books) = books
        && let Err(error) = books.close(&answer, answer.is_complete() && !broken).await
    {
        tracing::error!(%error, "a model call could not be counted");
    }
    let last = match rest {
        Some(rest) if !broken => Ok(rest),
        _ => Err(std::io::Error::other("the provider's answer broke off")),
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
        Dialect::OpenaiCompletions => json!({ "error": error }),
        Dialect::AnthropicMessages => json!({ "type": "error", "error": error }),
    };
    (stopped.status, Json(body)).into_response()
}
