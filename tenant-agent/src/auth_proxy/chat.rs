//! The chat socket: one browser, one connection of its own to OpenClaw, and between them a list of what may pass.
//!
//! Methods pass one by one and are rebuilt from the fields that we know; events pass when they belong to a session of the
//! tenant's chat. Both ways pass the screen: what a person types is stored by OpenClaw and goes to a model, and its events
//! tell what tools put out. The browser's socket outlives OpenClaw's: when the gateway restarts, only the upstream half is made anew.

use super::AuthProxy;
use crate::approvals::Given;
use crate::gateway::{CallError, Caller, Event};
use crate::identity::MAIN_AGENT;
use crate::pauses::{PAUSED, Pause};
use crate::people::{Person, Session};
use crate::screen;
use axum::extract::State;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::http::StatusCode;
use axum::response::Response;
use futures_util::stream::FuturesUnordered;
use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use service::Refusal;
use service::text::{Language, sentence};
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{broadcast, mpsc};
use wire::ApprovalId;
use wire::approval::{Approval, Decision};
use wire::fleet::GatewayState;

/// A message of a person with a pasted document.
const FRAME_BYTES_MAX: usize = 256 * 1024;
const MESSAGE_BYTES_MAX: usize = 200 * 1024;
/// Requests of one browser that wait for an answer.
const REQUESTS_MAX: usize = 16;
/// OpenClaw's largest frame, and some of ours, for a reader that is slow for a moment.
const WRITE_BYTES_MAX: usize = 32 * 1024 * 1024;
const CALL_WAIT: Duration = Duration::from_secs(30);
/// A browser that takes nothing for this long has gone.
const SEND_WAIT: Duration = Duration::from_secs(20);
const PING_EACH_MS: u64 = 25_000;
/// The chat of the tenant's main assistant, as OpenClaw names it.
const SESSION: &str = "agent:main:main";
/// The same, as a browser names it.
const SESSION_SHORT: &str = "main";
const HISTORY_MAX: u64 = 500;
const CLOSE_SESSION_ENDED: u16 = 4401;
const CLOSE_TOO_LARGE: u16 = 1009;

/// Looking at a longer frame would keep others waiting.
const BESIDE_BYTES_MIN: usize = 64 * 1024;

const NOT_READY: Refusal = Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "gateway_not_ready");
const REFUSED: Refusal = Refusal::new(StatusCode::BAD_GATEWAY, "gateway_refused");
const METHOD_UNKNOWN: Refusal = Refusal::new(StatusCode::NOT_FOUND, "method_unknown");
const PARAMS_WRONG: Refusal = Refusal::new(StatusCode::BAD_REQUEST, "params_malformed");
const FRAME_WRONG: Refusal = Refusal::new(StatusCode::BAD_REQUEST, "frame_malformed");
const APPROVAL_WAITING: Refusal = Refusal::new(StatusCode::CONFLICT, "approval_waiting");
const BUSY: Refusal = Refusal::new(StatusCode::TOO_MANY_REQUESTS, "too_many_requests");

pub(super) async fn open(State(proxy): State<Arc<AuthProxy>>, session: Session, upgrade: WebSocketUpgrade) -> Result<Response, Refusal> {
    // The chat is the main assistant's.
    let reach = proxy.people.reach(session.person.id).await?;
    if !proxy.identity.assistant(MAIN_AGENT).is_some_and(|main| reach.sees(main)) {
        return Err(Refusal::FORBIDDEN);
    }
    let upgrade = upgrade
        .max_message_size(FRAME_BYTES_MAX)
        .max_frame_size(FRAME_BYTES_MAX)
        .read_buffer_size(4096)
        .write_buffer_size(0)
        .max_write_buffer_size(WRITE_BYTES_MAX);
    Ok(upgrade.on_upgrade(async move |socket| Chat { proxy, session, lang: Language::De }.run(socket).await))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request<'a> {
    #[serde(rename = "type", borrow)]
    kind: &'a str,
    #[serde(borrow)]
    id: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    method: std::borrow::Cow<'a, str>,
    #[serde(default)]
    params: Value,
}

/// What a browser may ask for.
#[derive(Debug)]
enum Ask {
    Send {
        message: String,
        key: String,
    },
    History {
        limit: u64,
    },
    Abort {
        run: Option<String>,
    },
    Approvals,
    Decide {
        id: ApprovalId,
        given: Given,
    },
    /// Nobody asked for this: the assistant stops.
    Disown {
        id: ApprovalId,
        digest: String,
    },
    UsageToday,
}

struct Chat {
    proxy: Arc<AuthProxy>,
    session: Session,
    lang: Language,
}

/// The half that leads to OpenClaw.
struct Upstream {
    caller: Caller,
    events: mpsc::Receiver<Event>,
}

impl Chat {
    async fn run(mut self, socket: WebSocket) {
        self.lang = self.session.person.lang;
        let (mut out, mut incoming) = socket.split();
        let proxy = self.proxy.clone();
        let (mut gateway, mut usage) = (proxy.gateway.watch(), proxy.metering.changes());
        let (mut approvals, mut ended) = (proxy.approvals.changes(), proxy.people.ended());
        let (mut devices, mut levels, mut pauses) = (proxy.devices.changes(), proxy.levels.changes(), proxy.pauses.watch());
        let mut first_hour = proxy.first_hour.changes();
        let mut upstream: Option<Upstream> = None;
        let mut answers = FuturesUnordered::new();
        let lasts_ms = (self.session.expires_ms - proxy.clock.wall_ms()).max(0) as u64;
        let expiry = proxy.clock.sleep(lasts_ms);
        let ping = proxy.clock.sleep(PING_EACH_MS);
        // OpenClaw is tried at once, and again a while after it could not be reached.
        let mut try_now = true;
        let rest = proxy.clock.sleep(0);
        tokio::pin!(expiry, ping, rest);
        // Once more, now that we would hear of its end.
        let lasts = proxy.people.session(Some(self.session.token_hash.clone())).await.is_ok();
        let Ok(hello) = self.hello().await else { return };
        if !lasts {
            return;
        }
        gateway.mark_unchanged();
        if send(&mut out, event("hello", &hello)).await.is_err() {
            return;
        }
        let code = loop {
            let serves = matches!(gateway.borrow().state, GatewayState::Ready | GatewayState::Ungated);
            if serves && upstream.is_none() && std::mem::take(&mut try_now) {
                upstream = proxy.gateway.browser().await.ok().map(|(caller, events)| Upstream { caller, events });
                rest.set(proxy.clock.sleep(RETRY_MS));
            }
            let text = tokio::select! {
                biased;
                () = proxy.stop.stopped() => break None,
                () = &mut expiry => break Some(CLOSE_SESSION_ENDED),
                hash = ended.recv() => match hash {
                    Ok(hash) if hash != self.session.token_hash => continue,
                    Err(broadcast::error::RecvError::Closed) => break None,
                    // Ours, or so many that ours may have been among them.
                    _ => break Some(CLOSE_SESSION_ENDED),
                },
                message = incoming.next() => match message {
                    Some(Ok(Message::Text(text))) => {
                        if answers.len() >= REQUESTS_MAX {
                            json!({ "type": "event", "event": "error", "payload": BUSY.text(self.lang) }).to_string()
                        } else {
                            match self.read(&text) {
                                Ok((id, ask)) => {
                                    let caller = upstream.as_ref().map(|upstream| upstream.caller.clone());
                                    answers.push(self.answer(id, ask, caller));
                                    continue;
                                }
                                Err(text) => text,
                            }
                        }
                    }
                    Some(Ok(Message::Binary(_))) => json!({ "type": "event", "event": "error", "payload": FRAME_WRONG.text(self.lang) }).to_string(),
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
                    Some(Err(error)) => break is_too_large(error).then_some(CLOSE_TOO_LARGE),
                    _ => break None,
                },
                Some(answer) = answers.next(), if !answers.is_empty() => answer,
                upstream_event = next(&mut upstream) => match upstream_event {
                    Some(upstream_event) => match passed(&upstream_event) {
                        Some(text) => self.explained(screened(&proxy, text).await),
                        None => continue,
                    },
                    None => {
                        upstream = None;
                        rest.set(proxy.clock.sleep(RETRY_MS));
                        continue;
                    }
                },
                changed = gateway.changed() => {
                    if changed.is_err() {
                        break None;
                    }
                    let now = gateway.borrow_and_update().clone();
                    if !matches!(now.state, GatewayState::Ready | GatewayState::Ungated) {
                        upstream = None;
                    }
                    try_now = true;
                    event("gateway", &json!(now))
                }
                changed = approvals.recv() => match changed {
                    Ok(approval) => match proxy.people.reach(self.session.person.id).await {
                        Ok(reach) if reach.sees(approval.assistant) => event("approval", &json!(shown(&proxy, approval))),
                        Ok(_) => continue,
                        Err(_) => break None,
                    },
                    Err(broadcast::error::RecvError::Closed) => break None,
                    // Too much at once: the browser gets the whole picture again.
                    Err(broadcast::error::RecvError::Lagged(_)) => match self.hello().await {
                        Ok(hello) => event("hello", &hello),
                        Err(_) => break None,
                    },
                },
                changed = usage.changed() => match (changed, proxy.metering.today().await) {
                    (Ok(()), Ok(today)) => event("usage", &json!(today)),
                    _ => break None,
                },
                changed = devices.changed() => {
                    if changed.is_err() {
                        break None;
                    }
                    // What about them, the page asks for itself: not everybody sees everything.
                    event("devices", &json!({}))
                }
                changed = levels.changed() => {
                    if changed.is_err() {
                        break None;
                    }
                    event("levels", &json!({}))
                }
                changed = first_hour.changed() => {
                    if changed.is_err() {
                        break None;
                    }
                    event("first_hour", &json!({}))
                }
                changed = pauses.changed() => match (changed, self.paused().await) {
                    (Ok(()), Ok(paused)) => event("paused", &json!({ "paused": paused })),
                    _ => break None,
                },
                () = &mut rest, if upstream.is_none() && !try_now => {
                    try_now = true;
                    continue;
                }
                () = &mut ping => {
                    ping.set(proxy.clock.sleep(PING_EACH_MS));
                    if send_message(&mut out, Message::Ping(Default::default())).await.is_err() {
                        break None;
                    }
                    continue;
                }
            };
            if send(&mut out, text).await.is_err() {
                break None;
            }
        };
        let frame = code.map(|code| CloseFrame { code, reason: "".into() });
        let _ = send_message(&mut out, Message::Close(frame)).await;
    }

    async fn hello(&self) -> Result<Value, Refusal> {
        let proxy = &self.proxy;
        let (approvals, usage) = (seen_approvals(proxy, &self.session.person).await?, proxy.metering.today().await?);
        Ok(json!({
            "person": self.session.person,
            "assistants": proxy.assistants(),
            "gateway": proxy.gateway.state(),
            "approvals": approvals,
            "usage": usage,
            "paused": self.paused().await?,
        }))
    }

    /// The assistants that somebody has stopped, of those that this person has to do with.
    async fn paused(&self) -> Result<Vec<Pause>, Refusal> {
        let reach = self.proxy.people.reach(self.session.person.id).await?;
        Ok(self.proxy.pauses.now().iter().filter(|pause| reach.sees(pause.assistant)).cloned().collect())
    }

    /// An error of a run with our reason in the place of OpenClaw's, which does not pass on why a model call was stopped.
    fn explained(&self, text: String) -> String {
        if !text.contains(r#""state":"error""#) {
            return text;
        }
        let gateway = self.proxy.gateway.state();
        let stop = match gateway.state {
            GatewayState::Ungated => gateway.reason,
            _ => self.proxy.ledger.last_stop(SESSION).map(str::to_owned),
        };
        match (stop, serde_json::from_str::<Value>(&text)) {
            (Some(code), Ok(mut event)) => {
                event["payload"]["errorMessage"] = json!(sentence(self.lang, &format!("error.{code}")));
                event["payload"]["errorCode"] = json!(code);
                event.to_string()
            }
            _ => text,
        }
    }

    /// A request that we know, or the text that refuses it.
    fn read(&self, text: &str) -> Result<(String, Ask), String> {
        let malformed = || json!({ "type": "event", "event": "error", "payload": FRAME_WRONG.text(self.lang) }).to_string();
        let request: Request = serde_json::from_str(text).map_err(|_| malformed())?;
        if request.kind != "req" || request.id.is_empty() || request.id.len() > 64 {
            return Err(malformed());
        }
        match ask(&request.method, request.params) {
            Ok(ask) => Ok((request.id.into_owned(), ask)),
            Err(refusal) => Err(refused(&request.id, refusal, self.lang)),
        }
    }

    /// Carries a request out. Owns what it needs, so that it can wait while others run.
    fn answer(&self, id: String, ask: Ask, caller: Option<Caller>) -> impl Future<Output = String> + Send + 'static {
        let (proxy, person, lang) = (self.proxy.clone(), self.session.person.clone(), self.lang);
        async move {
            let outcome = match ask {
                Ask::Approvals => seen_approvals(&proxy, &person).await.map(|approvals| raw(json!({ "approvals": approvals }))),
                Ask::UsageToday => proxy.metering.today().await.map(|usage| json!({ "usage": usage })).map_err(Refusal::from).map(raw),
                Ask::Decide { .. } if !person.role.may_decide() => Err(Refusal::FORBIDDEN),
                Ask::Decide { id, given } => {
                    proxy.approvals.decide(person.id, id, given).await.map(|approval| raw(json!({ "approval": shown(&proxy, approval) })))
                }
                Ask::Disown { id, digest } => {
                    proxy.approvals.disown(person.id, id, digest).await.map(|approval| raw(json!({ "approval": shown(&proxy, approval) })))
                }
                Ask::Send { .. } if proxy.identity.assistant(MAIN_AGENT).is_some_and(|main| proxy.pauses.holds(main)) => Err(PAUSED),
                // It would be dropped, and the granted call never run.
                Ask::Send { .. } if proxy.approvals.holds(SESSION) => Err(APPROVAL_WAITING),
                Ask::Send { message, key } => {
                    let redactor = proxy.screen.now();
                    let message = tokio::task::spawn_blocking(move || redactor.text(&message).text.into_owned()).await.map_err(|_| Refusal::INTERNAL);
                    let message = match message {
                        Ok(message) => message,
                        Err(refusal) => return refused(&id, refusal, lang),
                    };
                    call(&proxy, caller, "chat.send", json!({ "sessionKey": SESSION_SHORT, "message": message, "idempotencyKey": key })).await
                }
                Ask::History { limit } => call(&proxy, caller, "chat.history", json!({ "sessionKey": SESSION_SHORT, "limit": limit })).await,
                Ask::Abort { run } => {
                    let mut params = json!({ "sessionKey": SESSION_SHORT });
                    if let Some(run) = run {
                        params["runId"] = json!(run);
                    }
                    let aborted = call(&proxy, caller, "chat.abort", params).await;
                    // The held call has ended with its run; its question stands.
                    proxy.approvals.release(SESSION, None);
                    aborted
                }
            };
            match outcome {
                Ok(payload) => format!(r#"{{"type":"res","id":{},"ok":true,"payload":{payload}}}"#, json!(id)),
                Err(refusal) => refused(&id, refusal, lang),
            }
        }
    }
}

/// How long a broken upstream rests before it is tried again.
const RETRY_MS: u64 = 500;

/// The methods that may pass, each with exactly its own parameters.
fn ask(method: &str, params: Value) -> Result<Ask, Refusal> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "camelCase")]
    struct Send {
        session_key: String,
        message: String,
        idempotency_key: String,
    }
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "camelCase")]
    struct History {
        session_key: String,
        #[serde(default)]
        limit: Option<u64>,
    }
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "camelCase")]
    struct Abort {
        session_key: String,
        #[serde(default)]
        run_id: Option<String>,
    }
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Decide {
        id: ApprovalId,
        digest: String,
        decision: Decision,
        #[serde(default)]
        reason: String,
    }
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Disown {
        id: ApprovalId,
        digest: String,
    }
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Nothing {}
    fn of<T: serde::de::DeserializeOwned>(params: Value) -> Result<T, Refusal> {
        let params = if params.is_null() { json!({}) } else { params };
        serde_json::from_value(params).map_err(|_| PARAMS_WRONG)
    }
    let name = |text: &str| !text.is_empty() && text.len() <= 128 && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.:".contains(c));
    let session = |key: &str| if key == SESSION_SHORT { Ok(()) } else { Err(PARAMS_WRONG) };
    match method {
        "chat.send" => {
            let Send { session_key, message, idempotency_key } = of(params)?;
            session(&session_key)?;
            if message.trim().is_empty() || message.len() > MESSAGE_BYTES_MAX || !name(&idempotency_key) {
                return Err(PARAMS_WRONG);
            }
            Ok(Ask::Send { message, key: idempotency_key })
        }
        "chat.history" => {
            let History { session_key, limit } = of(params)?;
            session(&session_key)?;
            Ok(Ask::History { limit: limit.unwrap_or(HISTORY_MAX).clamp(1, HISTORY_MAX) })
        }
        "chat.abort" => {
            let Abort { session_key, run_id } = of(params)?;
            session(&session_key)?;
            if run_id.as_deref().is_some_and(|run| !name(run)) {
                return Err(PARAMS_WRONG);
            }
            Ok(Ask::Abort { run: run_id })
        }
        "approvals.list" => of::<Nothing>(params).map(|_| Ask::Approvals),
        "approvals.decide" => {
            of(params).map(|Decide { id, digest, decision, reason }| Ask::Decide { id, given: Given { digest, decision, reason, number: String::new() } })
        }
        "approvals.disown" => of(params).map(|Disown { id, digest }| Ask::Disown { id, digest }),
        "usage.today" => of::<Nothing>(params).map(|_| Ask::UsageToday),
        _ => Err(METHOD_UNKNOWN),
    }
}

async fn call(proxy: &AuthProxy, caller: Option<Caller>, method: &'static str, params: Value) -> Result<Box<RawValue>, Refusal> {
    let caller = caller.ok_or(NOT_READY)?;
    let answer = caller.call(method, params, CALL_WAIT).await.map_err(|error| {
        tracing::warn!(%error, method, "a chat request was not carried out");
        match error {
            CallError::Ended => NOT_READY,
            CallError::Refused { .. } | CallError::Late => REFUSED,
        }
    })?;
    RawValue::from_string(screened(proxy, answer.get().to_owned()).await).map_err(|_| REFUSED)
}

/// An event of OpenClaw that the browser may see, as it came.
fn passed(upstream: &Event) -> Option<String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct About {
        #[serde(default)]
        session_key: String,
        #[serde(default)]
        stream: String,
        #[serde(default)]
        data: Data,
    }
    #[derive(Default, Deserialize)]
    struct Data {
        #[serde(default)]
        phase: String,
    }
    let about: About = serde_json::from_str(upstream.payload.get()).ok()?;
    let ours = about.session_key == SESSION;
    let shown = match upstream.name.as_str() {
        "chat" => true,
        // What a tool says on the way comes in pieces that nobody could look at together; the result has all of it.
        "agent" => about.stream == "tool" && about.data.phase != "update",
        _ => false,
    };
    (ours && shown).then(|| format!(r#"{{"type":"event","event":"{}","payload":{}}}"#, upstream.name, upstream.payload.get()))
}

/// The questions of the assistants that somebody has to do with, as a browser may see them.
async fn seen_approvals(proxy: &AuthProxy, person: &Person) -> Result<Vec<Approval>, Refusal> {
    let (approvals, reach) = (proxy.approvals.list().await?, proxy.people.reach(person.id).await?);
    Ok(approvals.into_iter().filter(|approval| reach.sees(approval.assistant)).map(|approval| shown(proxy, approval)).collect())
}

/// A question as a browser may see it: what it asked for may have become a secret since.
pub(super) fn shown(proxy: &AuthProxy, mut approval: Approval) -> Approval {
    let redactor = proxy.screen.now();
    for detail in &mut approval.details {
        if let Cow::Owned(value) = redactor.text(&detail.value).text {
            detail.value = value;
        }
    }
    approval
}

/// What OpenClaw says, as a browser may see it.
async fn screened(proxy: &AuthProxy, text: String) -> String {
    let (redactor, is_long) = (proxy.screen.now(), text.len() > BESIDE_BYTES_MIN);
    let look = move || match redactor.json(text.as_bytes()).map(|body| body.bytes.into_owned()) {
        Ok(bytes) => String::from_utf8(bytes).unwrap_or_default(),
        // A secret stands where a model's wire format allows no edit. Here it does.
        Err(_) => {
            let frame: Value = serde_json::from_str(&text).unwrap_or_default();
            screen::redacted(&redactor, &frame).unwrap_or(frame).to_string()
        }
    };
    if is_long { tokio::task::spawn_blocking(look).await.unwrap_or_default() } else { look() }
}

fn is_too_large(error: axum::Error) -> bool {
    let inner = error.into_inner();
    matches!(inner.downcast_ref(), Some(tokio_tungstenite::tungstenite::Error::Capacity(_)))
}

async fn next(upstream: &mut Option<Upstream>) -> Option<Event> {
    match upstream {
        Some(upstream) => upstream.events.recv().await,
        None => std::future::pending().await,
    }
}

fn raw(value: Value) -> Box<RawValue> {
    serde_json::value::to_raw_value(&value).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

fn event(name: &str, payload: &Value) -> String {
    json!({ "type": "event", "event": name, "payload": payload }).to_string()
}

fn refused(id: &str, refusal: Refusal, lang: Language) -> String {
    json!({ "type": "res", "id": id, "ok": false, "error": refusal.text(lang) }).to_string()
}

type Out = futures_util::stream::SplitSink<WebSocket, Message>;

async fn send(out: &mut Out, text: String) -> Result<(), ()> {
    send_message(out, Message::text(text)).await
}

async fn send_message(out: &mut Out, message: Message) -> Result<(), ()> {
    match tokio::time::timeout(SEND_WAIT, out.send(message)).await {
        Ok(Ok(())) => Ok(()),
        _ => Err(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_known_methods_with_known_parameters_pass() {
        let id = ApprovalId::new(1).to_string();
        for (method, params) in [
            ("chat.send", json!({"sessionKey": "main", "message": "hi", "idempotencyKey": "a-1"})),
            ("chat.history", json!({"sessionKey": "main", "limit": 20})),
            ("chat.abort", json!({"sessionKey": "main"})),
            ("approvals.list", json!({})),
            ("approvals.decide", json!({"id": id, "digest": "0", "decision": "approve"})),
            ("approvals.disown", json!({"id": id, "digest": "0"})),
            ("usage.today", Value::Null),
        ] {
            assert!(ask(method, params.clone()).is_ok(), "{method} {params}");
        }
        for (method, params, code) in [
            ("tools.invoke", json!({"tool": "exec"}), "method_unknown"),
            ("config.set", json!({}), "method_unknown"),
            ("connect", json!({}), "method_unknown"),
            ("chat.send ", json!({}), "method_unknown"),
            ("chat.send", json!({"sessionKey": "main", "message": "hi", "idempotencyKey": "a", "scopes": ["operator.admin"]}), "params_malformed"),
            ("chat.send", json!({"sessionKey": "agent:other:main", "message": "hi", "idempotencyKey": "a"}), "params_malformed"),
            ("chat.send", json!({"sessionKey": "main", "message": " ", "idempotencyKey": "a"}), "params_malformed"),
            ("chat.send", json!({"sessionKey": "main", "message": "x".repeat(MESSAGE_BYTES_MAX + 1), "idempotencyKey": "a"}), "params_malformed"),
            ("chat.send", json!({"sessionKey": "main", "message": "hi", "idempotencyKey": "a\nb"}), "params_malformed"),
            ("chat.send", json!(["hi"]), "params_malformed"),
            ("approvals.decide", json!({"id": "apr_1", "digest": "0", "decision": "approve"}), "params_malformed"),
            ("approvals.decide", json!({"id": id, "digest": "0", "decision": "maybe"}), "params_malformed"),
        ] {
            assert_eq!(ask(method, params.clone()).map_err(|refusal| refusal.code).err(), Some(code), "{method} {params}");
        }
    }

    proptest! {
        #[test]
        fn any_method_with_any_parameters_is_known_or_refused(method in "([a-z]{1,8}\\.[a-z]{1,8}|.{0,20})", key in ".{0,20}", value in ".{0,40}") {
            let outcome = ask(&method, json!({ key: value }));
            let known = ["chat.send", "chat.history", "chat.abort", "approvals.list", "approvals.decide", "approvals.disown", "usage.today"].contains(&method.as_str());
            prop_assert!(known || outcome.is_err());
        }
    }

    #[test]
    fn only_events_of_the_tenants_chat_are_shown() {
        let of = |name: &str, payload: Value| passed(&Event { name: name.into(), payload: raw(payload) });
        let chat = json!({"sessionKey": SESSION, "state": "delta", "deltaText": "hi"});
        assert_eq!(of("chat", chat.clone()), Some(format!(r#"{{"type":"event","event":"chat","payload":{chat}}}"#)));
        assert!(of("agent", json!({"sessionKey": SESSION, "stream": "tool"})).is_some());
        for (name, payload) in [
            ("agent", json!({"sessionKey": SESSION, "stream": "lifecycle"})),
            ("agent", json!({"sessionKey": SESSION, "stream": "tool", "data": {"phase": "update", "partialResult": "x"}})),
            ("chat", json!({"sessionKey": "agent:main:subagent:1", "state": "delta"})),
            ("chat", json!({"state": "delta"})),
            ("health", json!({"sessionKey": SESSION})),
            ("exec.approval.requested", json!({"sessionKey": SESSION})),
        ] {
            assert_eq!(of(name, payload.clone()), None, "{name} {payload}");
        }
    }
}
