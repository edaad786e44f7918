//! A model that needs no key from outside: a script that speaks as OpenAI and as Anthropic do.
//!
//! It answers a few sentences that people say in the demo, calls tools when they ask for it, tells what came back, and
//! obeys directives such as `[[tool:exec {"command":"date"}]]` that the tests write. What it does follows from the
//! conversation alone ([`plan`]); only ids, the time and the pace come from outside.
//!
//! It refuses whoever does not bring its key, does not think, and says so. It keeps the requests of the recent past as
//! they came, with all headers, so that a test can see what reached the provider; nothing serves them.
//!
//! Limits: bodies of 32 MiB, 64 remembered requests, no images, no reasoning, no other endpoints.

use anyhow::Context;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header, request};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures_util::stream;
use serde_json::{Value, json};
use service::text::{Language, sentence};
use service::{Clock, SecretString, Stop, door, random};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A long conversation with its files fits; providers draw the line at the same place.
const BODY_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Remembered requests: more than one test makes.
const REQUESTS_MAX: usize = 64;
/// What the remembered requests may hold together, so that a demo left alone with long conversations stays small.
const REQUESTS_BYTES_MAX: usize = 64 * 1024 * 1024;
/// What is told of a tool's result; the rest is in the conversation anyway.
const RESULT_CHARS_MAX: usize = 400;
/// The longest pause a directive may ask for between two pieces.
const SLOW_MS_MAX: u64 = 60_000;
/// A timestamp in brackets before a text is not longer than this.
const STAMP_BYTES_MAX: usize = 64;
/// The only model there is; requests may name any.
const MODEL: &str = "scripted";

const CONTEXT_BEGIN: &str = "<<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>>";
const CONTEXT_END: &str = "<<<END_OPENCLAW_INTERNAL_CONTEXT>>>";
/// How the tenant's agent tells that a held call may be tried again.
const APPROVED: &str = "A person approved the call that was waiting";
/// How the tool's result tells that it is held.
const HELD: &str = "waits for a person's approval";
/// How what stands in the place of a result begins when the call never ran, or nobody knows what became of it. A tool that
/// prints the same is told wrongly; it gives itself away, because the text is told too.
const NOT_RUN: [&str; 15] = [
    "[openclaw] missing tool result",
    "No result provided",
    "Skipped to process an incoming message",
    "Operation aborted",
    "Tool execution was blocked",
    "Gatehouse could not check this call",
    "Gatehouse could not write its records",
    "This assistant is not known here",
    "This call has no usable id",
    "This tool is not available to this assistant",
    "This call has already run. Propose it again",
    "Another call already used this id",
    "Nobody answered the question about this call in time",
    "Too many questions wait for a person already",
    "Validation failed for tool",
];
/// What a person wants written is named in fewer words than this.
const WHAT_BYTES_MAX: usize = 200;

/// The running model server; clones are the same server.
#[derive(Clone)]
pub struct ScriptedModel(Arc<Inner>);

struct Inner {
    addr: SocketAddr,
    key: SecretString,
    pace_ms: u64,
    requests: Mutex<Requests>,
    counted: Mutex<Counted>,
}

#[derive(Default)]
struct Requests {
    newest_last: VecDeque<(usize, Received)>,
    bytes: usize,
}

/// A request that brought the key, as it came.
#[derive(Clone, Debug)]
pub struct Received {
    pub path: String,
    pub headers: Vec<(String, String)>,
    /// `null` when the request has no body.
    pub body: Value,
}

/// Answers that were begun, and the sums of the usage they reported. `input` includes `cached`.
///
/// A stream whose reader did not ask for the usage, or left before it came, is a call without tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    pub calls: i64,
    pub input: i64,
    pub cached: i64,
    pub output: i64,
}

impl std::ops::AddAssign for Counted {
    fn add_assign(&mut self, more: Counted) {
        self.calls += more.calls;
        self.input += more.input;
        self.cached += more.cached;
        self.output += more.output;
    }
}

impl ScriptedModel {
    /// Listens at once, and serves until the stop. Needs a runtime around it.
    pub fn start(address: SocketAddr, key: SecretString, pace_ms: u64, stop: Stop) -> anyhow::Result<ScriptedModel> {
        let listener = std::net::TcpListener::bind(address).with_context(|| format!("listening for the scripted model at {address}"))?;
        listener.set_nonblocking(true).context("preparing the scripted model's listener")?;
        let listener = tokio::net::TcpListener::from_std(listener).context("preparing the scripted model's listener")?;
        let addr = listener.local_addr().context("reading the scripted model's address")?;
        let model = ScriptedModel(Arc::new(Inner { addr, key, pace_ms, requests: Mutex::default(), counted: Mutex::default() }));
        tracing::info!(%addr, "the scripted model listens");
        tokio::spawn(door::serve(listener, router(model.clone()), stop));
        Ok(model)
    }

    pub fn addr(&self) -> SocketAddr {
        self.0.addr
    }

    /// The remembered requests, oldest first.
    pub fn requests(&self) -> Vec<Received> {
        let requests = self.0.requests.lock().unwrap_or_else(PoisonError::into_inner);
        requests.newest_last.iter().map(|(_, received)| received.clone()).collect()
    }

    pub fn counted(&self) -> Counted {
        *self.0.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, more: Counted) {
        *self.0.counted.lock().unwrap_or_else(PoisonError::into_inner) += more;
    }

    fn remember(&self, head: &request::Parts, body: Value, body_bytes: usize) {
        let headers = head.headers.iter().map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())).collect();
        let received = Received { path: head.uri.path().to_owned(), headers, body };
        let mut requests = self.0.requests.lock().unwrap_or_else(PoisonError::into_inner);
        requests.bytes += body_bytes;
        requests.newest_last.push_back((body_bytes, received));
        // The newest always stays: a body is smaller than what all may hold together.
        while requests.newest_last.len() > REQUESTS_MAX || requests.bytes > REQUESTS_BYTES_MAX {
            let Some((bytes, _)) = requests.newest_last.pop_front() else { break };
            requests.bytes -= bytes;
        }
    }

    fn admits(&self, headers: &HeaderMap) -> bool {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let bearer = text("authorization").and_then(|value| value.split_once(' ')).filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        let brought = bearer.map(|(_, key)| key.trim()).into_iter().chain(text("x-api-key"));
        // Exposed to compare it with what was brought.
        brought.into_iter().any(|brought| random::same(brought, self.0.key.expose()))
    }
}

fn router(model: ScriptedModel) -> Router {
    Router::new()
        .route("/v1/chat/completions", post(async |State(model): State<ScriptedModel>, request: Request| answer(model, Dialect::OpenAi, request).await))
        .route("/v1/messages", post(async |State(model): State<ScriptedModel>, request: Request| answer(model, Dialect::Anthropic, request).await))
        .route("/v1/models", get(models))
        .fallback(async || failure(Dialect::OpenAi, StatusCode::NOT_FOUND, "there is nothing here"))
        .with_state(model)
}

async fn models(State(model): State<ScriptedModel>, request: Request) -> Response {
    let (head, _) = request.into_parts();
    let dialect = if head.headers.contains_key("anthropic-version") { Dialect::Anthropic } else { Dialect::OpenAi };
    if !model.admits(&head.headers) {
        return failure(dialect, StatusCode::UNAUTHORIZED, "the key is missing or wrong");
    }
    model.remember(&head, Value::Null, 0);
    // The fields of both dialects: neither minds the other's.
    let only = json!({
        "id": MODEL, "object": "model", "type": "model", "display_name": "Scripted", "created": 0, "created_at": "1970-01-01T00:00:00Z", "owned_by": "demo"
    });
    axum::Json(json!({"object": "list", "data": [only], "first_id": MODEL, "last_id": MODEL, "has_more": false})).into_response()
}

/// The way of one request, with everything that can end it.
async fn answer(model: ScriptedModel, dialect: Dialect, request: Request) -> Response {
    let (head, body) = request.into_parts();
    if !model.admits(&head.headers) {
        return failure(dialect, StatusCode::UNAUTHORIZED, "the key is missing or wrong");
    }
    let bytes = match door::body(body, BODY_BYTES_MAX).await {
        Ok(bytes) => bytes,
        Err(refusal) => return failure(dialect, refusal.status, "the body is too large, or did not arrive"),
    };
    let Ok(body) = serde_json::from_slice::<Value>(&bytes) else {
        return failure(dialect, StatusCode::BAD_REQUEST, "the body is not JSON");
    };
    let wanted = Wanted::read(&body);
    model.remember(&head, body, bytes.len());
    let Some(wanted) = wanted else {
        return failure(dialect, StatusCode::BAD_REQUEST, "the body needs `model` and `messages`");
    };
    let planned = match plan(&wanted.conversation) {
        Plan::Fail(status) => return failure(dialect, status, "the conversation asked for this error"),
        Plan::Answer(planned) => planned,
    };
    let pause = Duration::from_millis(model.0.pace_ms.saturating_add(planned.slow_ms));
    let reply = Reply::new(dialect, &wanted, planned);
    if wanted.stream {
        return streamed(model, reply.frames(dialect, wanted.include_usage), pause);
    }
    model.count(reply.usage);
    axum::Json(reply.whole(dialect)).into_response()
}

fn streamed(model: ScriptedModel, frames: Vec<Frame>, pause: Duration) -> Response {
    let frames = stream::unfold((model, frames.into_iter()), move |(model, mut frames)| async move {
        let frame = frames.next()?;
        if frame.paced && !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        // Before it is sent: whoever has read the usage finds it counted.
        model.count(frame.reports);
        Some((Ok::<_, Infallible>(frame.text), (model, frames)))
    });
    ([(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-cache")], Body::from_stream(frames)).into_response()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialect {
    OpenAi,
    Anthropic,
}

fn failure(dialect: Dialect, status: StatusCode, message: &str) -> Response {
    let kind = match status.as_u16() {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        529 => "overloaded_error",
        500.. => "api_error",
        _ => "invalid_request_error",
    };
    let body = match dialect {
        Dialect::OpenAi => {
            json!({"error": {"message": message, "type": kind, "param": null, "code": (status == StatusCode::UNAUTHORIZED).then_some("invalid_api_key")}})
        }
        Dialect::Anthropic => json!({"type": "error", "error": {"type": kind, "message": message}}),
    };
    (status, axum::Json(body)).into_response()
}

/// What a request asks for, whichever dialect it is in: the shapes of the two do not collide, so one reader takes both.
#[derive(Debug)]
struct Wanted {
    model: String,
    stream: bool,
    include_usage: bool,
    conversation: Conversation,
}

impl Wanted {
    fn read(body: &Value) -> Option<Wanted> {
        Some(Wanted {
            model: body["model"].as_str()?.to_owned(),
            stream: body["stream"].as_bool().unwrap_or(false),
            include_usage: body["stream_options"]["include_usage"].as_bool().unwrap_or(false),
            conversation: Conversation::read(body)?,
        })
    }
}

/// What the script needs to know of a conversation.
#[derive(Debug, Default)]
struct Conversation {
    /// What the user said since the last answer or result, oldest first. Each block of text is one: a provider's client
    /// may merge messages.
    pending: Vec<String>,
    /// What the tools returned since the last answer.
    results: Vec<Returned>,
    /// The last thing a person said, for the language and the pace.
    said: String,
    past: Vec<Past>,
    tools: Vec<String>,
    has_answer: bool,
    words: i64,
}

#[derive(Debug)]
struct Returned {
    tool: String,
    text: String,
}

/// A call of an earlier answer, and what it returned.
#[derive(Debug)]
struct Past {
    id: String,
    call: Call,
    result: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Call {
    name: String,
    /// As JSON text, because a repetition must be the same to the letter.
    arguments: String,
}

impl Call {
    fn new(name: &str, arguments: &Value) -> Call {
        Call { name: name.to_owned(), arguments: arguments.to_string() }
    }
}

impl Conversation {
    fn read(body: &Value) -> Option<Conversation> {
        let mut conversation = Conversation::default();
        for message in body["messages"].as_array().filter(|messages| !messages.is_empty())? {
            conversation.hear(message["role"].as_str()?, message);
        }
        let tools = body["tools"].as_array().into_iter().flatten();
        conversation.tools = tools.filter_map(|tool| tool["function"]["name"].as_str().or(tool["name"].as_str())).map(str::to_owned).collect();
        Some(conversation)
    }

    fn hear(&mut self, role: &str, message: &Value) {
        match role {
            "assistant" => {
                self.pending.clear();
                self.results.clear();
                self.has_answer = true;
                for text in texts(&message["content"]) {
                    self.count_words(text);
                }
                self.hear_calls(message);
            }
            "tool" => self.hear_result(&message["tool_call_id"], &message["content"]),
            "user" => {
                for block in blocks(&message["content"]) {
                    match block["type"].as_str() {
                        Some("tool_result") => self.hear_result(&block["tool_use_id"], &block["content"]),
                        _ => text_of(block).into_iter().for_each(|text| self.hear_user(text)),
                    }
                }
            }
            _ => texts(&message["content"]).for_each(|text| self.count_words(text)),
        }
    }

    fn hear_calls(&mut self, message: &Value) {
        for call in message["tool_calls"].as_array().into_iter().flatten() {
            let function = &call["function"];
            let call_made = Call { name: text_or_empty(&function["name"]), arguments: text_or_empty(&function["arguments"]) };
            self.past.push(Past { id: text_or_empty(&call["id"]), call: call_made, result: String::new() });
        }
        for block in blocks(&message["content"]).filter(|block| block["type"] == "tool_use") {
            let call_made = Call::new(block["name"].as_str().unwrap_or_default(), &block["input"]);
            self.past.push(Past { id: text_or_empty(&block["id"]), call: call_made, result: String::new() });
        }
    }

    fn hear_result(&mut self, id: &Value, content: &Value) {
        let text = texts(content).collect::<Vec<_>>().join("\n");
        self.count_words(&text);
        // What was said before the result was the question, and is answered.
        self.pending.clear();
        let mut tool = String::new();
        if let Some(past) = self.past.iter_mut().rev().find(|past| *id == *past.id) {
            tool.clone_from(&past.call.name);
            past.result.clone_from(&text);
        }
        self.results.push(Returned { tool, text });
    }

    fn hear_user(&mut self, text: &str) {
        self.count_words(text);
        let text = bare(text);
        if text.is_empty() {
            return;
        }
        if approvals(&text).next().is_none() {
            self.said.clone_from(&text);
        }
        self.pending.push(text);
    }

    fn count_words(&mut self, text: &str) {
        self.words += text.split_whitespace().count() as i64;
    }

    /// The calls that people approved since the last answer, each once.
    fn all_approved(&self) -> Vec<Call> {
        let mut found: Vec<&Call> = Vec::new();
        for call in self.pending.iter().flat_map(|text| approvals(text)).filter_map(|notice| self.approved(notice)) {
            if !found.iter().any(|other| std::ptr::eq(*other, call)) {
                found.push(call);
            }
        }
        found.into_iter().cloned().collect()
    }

    /// The call that an approval is about: the one whose result named the same question, otherwise the last one.
    fn approved(&self, notice: &str) -> Option<&Call> {
        let question = notice.split_once('(').and_then(|(_, rest)| rest.split_once(')')).map(|(id, _)| id).filter(|id| !id.is_empty());
        let held = |past: &&Past| question.is_some_and(|id| past.result.contains(HELD) && past.result.contains(id));
        self.past.iter().rev().find(held).or(self.past.last()).map(|past| &past.call)
    }

    /// The tool that does what this one does, when the request has only that: one of a server of tools, for a file perhaps.
    fn named(&self, call: Call) -> Call {
        if self.tools.contains(&call.name) {
            return call;
        }
        let found = self.tools.iter().find(|name| name.contains("__") && plain(name) == call.name);
        Call { name: found.unwrap_or(&call.name).clone(), ..call }
    }

    fn lacks(&self, tool: &str) -> bool {
        !self.tools.is_empty() && !self.tools.iter().any(|name| name == tool)
    }
}

/// The blocks of a content; a plain string is a block too.
fn blocks(content: &Value) -> impl Iterator<Item = &Value> {
    match content {
        Value::Array(blocks) => blocks.as_slice(),
        Value::Null => &[],
        other => std::slice::from_ref(other),
    }
    .iter()
}

fn texts(content: &Value) -> impl Iterator<Item = &str> {
    blocks(content).filter_map(text_of)
}

fn text_of(block: &Value) -> Option<&str> {
    block.as_str().or(block["text"].as_str())
}

fn text_or_empty(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// What the user wrote, without what OpenClaw puts around it: its own context, and the time in brackets.
fn bare(text: &str) -> String {
    let mut kept = String::new();
    let mut rest = text;
    while let Some((before, context)) = rest.split_once(CONTEXT_BEGIN) {
        kept.push_str(before);
        rest = context.split_once(CONTEXT_END).map_or("", |(_, after)| after);
    }
    kept.push_str(rest);
    unstamped(kept.trim()).to_owned()
}

fn unstamped(text: &str) -> &str {
    // Two brackets are a directive.
    let stamped = text.strip_prefix('[').filter(|rest| !rest.starts_with('[')).and_then(|rest| rest.split_once(']'));
    match stamped {
        Some((stamp, rest)) if stamp.len() <= STAMP_BYTES_MAX => rest.trim_start(),
        _ => text,
    }
}

/// The lines that tell of an approval; OpenClaw may put several messages that had to wait into one.
fn approvals(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(|line| unstamped(line.trim())).filter(|line| line.starts_with(APPROVED))
}

/// What the model will do.
#[derive(Debug, PartialEq, Eq)]
enum Plan {
    Fail(StatusCode),
    Answer(Answer),
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Answer {
    text: String,
    calls: Vec<Call>,
    forced_id: Option<String>,
    slow_ms: u64,
}

impl Answer {
    fn text(text: String) -> Answer {
        Answer { text, ..Answer::default() }
    }

    fn calls(calls: Vec<Call>) -> Answer {
        Answer { calls, ..Answer::default() }
    }
}

fn plan(conversation: &Conversation) -> Plan {
    let newest = conversation.pending.last();
    // Only the newest text can ask for an error: an error leaves no answer behind, so an older one was obeyed already.
    if let Some(status) = newest.and_then(|text| error_asked(text)) {
        return Plan::Fail(status);
    }
    let (source, mut answer) = match conversation.pending.iter().rev().find_map(|text| Some((text, demanded(conversation, text)?))) {
        Some(found) => found,
        None if !conversation.results.is_empty() => (&conversation.said, Answer::text(told(&conversation.results, language(&conversation.said)))),
        None => (&conversation.said, Answer::text(introduced(&conversation.said))),
    };
    answer.slow_ms = directives(source, "slow").find_map(|ms| ms.parse().ok()).unwrap_or(0).min(SLOW_MS_MAX);
    answer.forced_id = directives(source, "id").next().map(str::to_owned);
    Plan::Answer(answer)
}

/// What a tool is called without its server: `gatehouse__write_file` is `write`.
fn plain(tool: &str) -> &str {
    tool.split_once("__").map_or(tool, |(_, name)| name.strip_suffix("_file").unwrap_or(name))
}

/// The insides of `[[name:…]]`, in order.
fn directives<'a>(text: &'a str, name: &'a str) -> impl Iterator<Item = &'a str> {
    text.split("[[").skip(1).filter_map(move |rest| Some(rest.strip_prefix(name)?.strip_prefix(':')?.split_once("]]")?.0))
}

fn error_asked(text: &str) -> Option<StatusCode> {
    let status = directives(text, "error").next()?.parse().ok()?;
    StatusCode::from_u16(status).ok().filter(|status| status.is_client_error() || status.is_server_error())
}

/// What a text asks for, or `None` when it only says something.
fn demanded(conversation: &Conversation, text: &str) -> Option<Answer> {
    let calls: Vec<Call> = calls_asked(text).into_iter().map(|call| conversation.named(call)).collect();
    let spoken = text_asked(text);
    if !calls.is_empty() || spoken.is_some() {
        return Some(Answer { text: spoken.unwrap_or_default().to_owned(), calls, ..Answer::default() });
    }
    if approvals(text).next().is_some() {
        let again = conversation.all_approved();
        let said = || Answer::text(nothing_to_repeat(language(&conversation.said)));
        return Some(if again.is_empty() { said() } else { Answer::calls(again) });
    }
    let (language, call) = phrase_asked(text)?;
    let call = conversation.named(call);
    if conversation.lacks(&call.name) {
        return Some(Answer::text(tool_lacking(language, &call.name)));
    }
    Some(Answer::calls(vec![call]))
}

fn text_asked(text: &str) -> Option<&str> {
    text.split_once("[[text:")?.1.split_once("]]").map(|(spoken, _)| spoken)
}

/// The calls of `[[tool:name {arguments}]]`. The arguments may contain brackets, so JSON itself says where they end.
fn calls_asked(text: &str) -> Vec<Call> {
    let mut calls = Vec::new();
    for (at, opening) in text.match_indices("[[tool:") {
        let rest = &text[at + opening.len()..];
        let name_end = rest.find(|c: char| c.is_whitespace() || c == ']').unwrap_or(rest.len());
        let (name, rest) = rest.split_at(name_end);
        let rest = rest.trim_start();
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<Value>();
        let arguments = match values.next() {
            _ if rest.starts_with("]]") => "{}",
            Some(Ok(_)) if rest[values.byte_offset()..].trim_start().starts_with("]]") => &rest[..values.byte_offset()],
            _ => continue,
        };
        if !name.is_empty() {
            calls.push(Call { name: name.to_owned(), arguments: arguments.to_owned() });
        }
    }
    calls
}

/// What follows a phrase, as a call's arguments.
type Form = fn(Language, &str) -> Option<Call>;

const PHRASES: [(Language, &str, Form); 8] = [
    (Language::En, "read the file ", read_call),
    (Language::De, "lies die datei ", read_call),
    (Language::En, "run the command:", exec_call),
    (Language::De, "führe den befehl aus:", exec_call),
    (Language::De, "fuehre den befehl aus:", exec_call),
    (Language::En, "write ", write_call),
    (Language::De, "schreibe ", write_call),
    (Language::De, "schreib ", write_call),
];
/// What stands before the file that is to be written, and whether something to write may stand before that.
const FILE_PHRASES: [(&str, bool); 6] =
    [("the file ", false), ("into the file ", true), ("in the file ", true), ("to the file ", true), ("die datei ", false), ("in die datei ", true)];

/// The first thing asked for in plain words: what is to be written may itself look like a request.
fn phrase_asked(text: &str) -> Option<(Language, Call)> {
    let found = PHRASES.iter().filter_map(|(language, phrase, form)| {
        let rest = after(text, phrase)?;
        Some((rest.len(), *language, form(*language, rest)?))
    });
    found.max_by_key(|(rest_bytes, ..)| *rest_bytes).map(|(_, language, call)| (language, call))
}

fn read_call(_: Language, rest: &str) -> Option<Call> {
    let path = path(rest.split_whitespace().next()?)?;
    Some(Call::new("read", &json!({"path": path})))
}

fn exec_call(_: Language, rest: &str) -> Option<Call> {
    let line = rest.lines().next()?.trim();
    let command = line.strip_prefix('`').and_then(|line| line.strip_suffix('`')).unwrap_or(line);
    (!command.is_empty()).then(|| Call::new("exec", &json!({"command": command})))
}

/// `the file a.txt: its text`, or `a haiku into the file a.txt`: who gives no text gets a haiku, the only poem we know.
fn write_call(language: Language, rest: &str) -> Option<Call> {
    let found = FILE_PHRASES.iter().filter_map(|(phrase, may_follow)| Some((around(rest, phrase)?, *may_follow)));
    let ((what, rest), may_follow) = found.min_by_key(|((before, _), _)| before.len())?;
    let what = what.trim();
    let literal = quoted(what);
    // A sentence may end between the two: then the file is another one's object.
    let is_plain = what.len() <= WHAT_BYTES_MAX && !what.contains(['.', ':', '?', '!', '\n']);
    if !what.is_empty() && !(may_follow && (is_plain || literal.is_some())) {
        return None;
    }
    let (path, content) = match rest.split_once(':') {
        Some((word, content)) => (path(word.trim()).filter(|path| !path.contains(char::is_whitespace))?, content.trim()),
        // Nobody said that a text is meant, so the name at least must look like a file's.
        None => (path(rest.split_whitespace().next()?).filter(|path| path.contains(['.', '/']))?, literal.unwrap_or(haiku(language))),
    };
    Some(Call::new("write", &json!({"path": path, "content": content})))
}

/// What stands in quotation marks, when nothing else does.
fn quoted(text: &str) -> Option<&str> {
    let inside = text.strip_prefix(['"', '„', '“'])?.strip_suffix(['"', '“', '”'])?;
    (!inside.is_empty()).then_some(inside)
}

fn haiku(language: Language) -> &'static str {
    match language {
        Language::De => "Ein Tor steht offen.\nWer eintritt, wird angeschaut.\nDann erst geht es los.\n",
        Language::En => "A gate in the rain.\nWhoever comes is looked at,\nthen the latch is raised.\n",
    }
}

fn path(word: &str) -> Option<&str> {
    let quotes = ['"', '\'', '`', '„', '“', '”'];
    let path = word.trim_start_matches(quotes).trim_end_matches(|c| quotes.contains(&c) || ".,;:!?)".contains(c));
    (!path.is_empty()).then_some(path)
}

/// What comes after the first `phrase` that begins a word, whatever its case. `phrase` is in small letters.
fn after<'a>(text: &'a str, phrase: &str) -> Option<&'a str> {
    around(text, phrase).map(|(_, rest)| rest)
}

/// As [`after`], with what comes before.
fn around<'a>(text: &'a str, phrase: &str) -> Option<(&'a str, &'a str)> {
    let mut before = ' ';
    for (at, here) in text.char_indices() {
        let begins_word = !before.is_alphanumeric();
        before = here;
        if !begins_word {
            continue;
        }
        let mut rest = text[at..].chars();
        if phrase.chars().all(|wanted| rest.next().is_some_and(|found| found == wanted || found.to_lowercase().eq([wanted]))) {
            return Some((&text[..at], rest.as_str()));
        }
    }
    None
}

const GERMAN: [&str; 20] = [
    "ich", "bitte", "lies", "führe", "fuehre", "sag", "sage", "schreib", "schreibe", "hallo", "guten", "moin", "servus", "und", "nicht", "kannst", "datei",
    "befehl", "wie", "mir",
];
const GREETINGS: [&str; 10] = ["hello", "hi", "hey", "hallo", "moin", "servus", "grüezi", "greetings", "good morning", "guten"];

/// A phrase of the script says it best; otherwise a letter or a word that is German.
fn language(text: &str) -> Language {
    if let Some((language, _)) = phrase_asked(text) {
        return language;
    }
    let small = text.to_lowercase();
    let german = small.contains(['ä', 'ö', 'ü', 'ß']) || GERMAN.iter().any(|word| says(&small, word));
    if german { Language::De } else { Language::En }
}

/// Whether `small`, a text in small letters, has `word` as a word of its own.
fn says(small: &str, word: &str) -> bool {
    small.match_indices(word).any(|(at, _)| {
        let ends = |c: Option<char>| !c.is_some_and(char::is_alphanumeric);
        ends(small[..at].chars().next_back()) && ends(small[at + word.len()..].chars().next())
    })
}

/// What the tools returned, in words.
fn told(results: &[Returned], language: Language) -> String {
    results.iter().map(|result| told_one(result, language)).collect::<Vec<_>>().join("\n\n")
}

fn told_one(result: &Returned, language: Language) -> String {
    let opening = opening(result, language);
    let mut text: String = result.text.chars().take(RESULT_CHARS_MAX).collect();
    if text.trim().is_empty() {
        return opening.to_owned();
    }
    if text.len() < result.text.len() {
        text.push('…');
    }
    let fence = "`".repeat(longest_ticks(&text).max(2) + 1);
    format!("{opening}\n\n{fence}\n{text}\n{fence}")
}

fn opening(result: &Returned, language: Language) -> &'static str {
    let is_refused = is_refused(&result.text);
    match (language, plain(&result.tool)) {
        (Language::De, _) if result.text.contains(HELD) => {
            "Das wartet auf Ihre Freigabe. Sie finden sie oben; sobald Sie zustimmen, versuche ich es noch einmal."
        }
        (Language::En, _) if result.text.contains(HELD) => "That waits for your approval. You find it above; when you allow it I will try again.",
        (Language::De, _) if did_not_run(&result.text) => "Das lief nicht. Statt eines Ergebnisses kam das zurück:",
        (Language::En, _) if did_not_run(&result.text) => "That did not run. This came back in the place of a result:",
        (Language::De, _) if is_refused => "Das wurde abgelehnt und nicht ausgeführt. Ich versuche es nicht auf einem anderen Weg.",
        (Language::En, _) if is_refused => "That was refused and did not run. I will not try another way.",
        (Language::De, _) if result.text.trim().is_empty() => "Das ist erledigt; es kam nichts zurück.",
        (Language::En, _) if result.text.trim().is_empty() => "That is done; nothing came back.",
        (Language::De, "read") => "Das steht in der Datei:",
        (Language::En, "read") => "This is what the file says:",
        (Language::De, "exec") => "Der Befehl ist gelaufen. Das hat er ausgegeben:",
        (Language::En, "exec") => "The command ran. This is what it printed:",
        (Language::De, _) => "Das kam zurück:",
        (Language::En, _) => "This is what came back:",
    }
}

/// Every refusal speaks of the call; a command that found a connection refused does not.
fn is_refused(text: &str) -> bool {
    let says = |words: [&str; 2]| words.iter().any(|word| text.contains(word));
    says(["this call", "This call"]) && says(["refused", "not run"])
}

fn did_not_run(text: &str) -> bool {
    let text = text.trim_start();
    let unknown_tool = || text.strip_prefix("Tool ")?.split_once(" not found").map(|(name, _)| !name.contains(char::is_whitespace));
    NOT_RUN.iter().any(|beginning| text.starts_with(beginning)) || unknown_tool().unwrap_or(false)
}

fn longest_ticks(text: &str) -> usize {
    text.split(|c| c != '`').map(str::len).max().unwrap_or(0)
}

fn nothing_to_repeat(language: Language) -> String {
    match language {
        Language::De => "Danke für die Freigabe. In diesem Gespräch finde ich aber keinen Aufruf, den ich wiederholen könnte.",
        Language::En => "Thank you for the approval. In this conversation I find no call that I could repeat, though.",
    }
    .to_owned()
}

fn tool_lacking(language: Language, tool: &str) -> String {
    match language {
        Language::De => format!("Das kann ich hier nicht: Diesem Assistenten fehlt das Werkzeug `{tool}`."),
        Language::En => format!("I cannot do that here: this assistant lacks the tool `{tool}`."),
    }
}

/// What the demo can do, to someone who said hello, and to someone who said what the script does not know.
fn introduced(said: &str) -> String {
    let language = language(said);
    let small = said.to_lowercase();
    let greeted = GREETINGS.iter().any(|word| says(&small, word));
    let opening = match (language, greeted) {
        (Language::De, true) => {
            "Hallo! Ich bin der Assistent dieser Vorführung und zeige Ihnen, was ein echter hier darf. In seinem Arbeitsordner liest und schreibt er, \
            ohne zu fragen; ein gefährlicher Befehl wartet, bis Sie ihn freigeben. Versuchen Sie einen dieser Sätze:"
        }
        (Language::En, true) => {
            "Hello! I am the assistant of this demo and show you what a real one may do here. In its workspace it reads and writes without asking; \
            a dangerous command waits until you approve it. Try one of these sentences:"
        }
        (Language::De, false) => {
            "Darauf habe ich keine Antwort. Ich bin ein Modell nach Drehbuch und kann nicht wirklich denken. \
            Ich verstehe nur ein paar Sätze, zum Beispiel diese:"
        }
        (Language::En, false) => "I have no answer to that. I am a scripted model and cannot really think. I understand only a few sentences, such as these:",
    };
    let list = starters(language).map(|starter| format!("- {starter}")).join("\n");
    format!("{opening}\n\n{list}")
}

fn starters(language: Language) -> [&'static str; 3] {
    let write = match language {
        Language::De => "Schreibe in die Datei gruss.txt: Guten Morgen!",
        Language::En => "Write the file greeting.txt: Good morning!",
    };
    [sentence(language, "starter.read"), sentence(language, "starter.exec"), write]
}

/// A planned answer with everything that is drawn from outside, ready to be written in either dialect.
#[derive(Debug)]
struct Reply {
    id: String,
    created: i64,
    model: String,
    text: String,
    calls: Vec<(String, Call)>,
    usage: Counted,
}

impl Reply {
    fn new(dialect: Dialect, wanted: &Wanted, planned: Answer) -> Reply {
        let (message, call) = match dialect {
            Dialect::OpenAi => ("chatcmpl-", "call_"),
            Dialect::Anthropic => ("msg_", "toolu_"),
        };
        let drawn = |prefix: &str| random::bytes::<12>().iter().fold(prefix.to_owned(), |id, byte| format!("{id}{byte:02x}"));
        let usage = usage(&wanted.conversation, &planned);
        let forced = planned.forced_id;
        Reply {
            id: drawn(message),
            created: Clock::system().wall_ms() / 1000,
            model: wanted.model.clone(),
            text: planned.text,
            calls: planned.calls.into_iter().map(|made| (forced.clone().unwrap_or_else(|| drawn(call)), made)).collect(),
            usage,
        }
    }

    fn whole(&self, dialect: Dialect) -> Value {
        match dialect {
            Dialect::OpenAi => self.openai_whole(),
            Dialect::Anthropic => self.anthropic_whole(),
        }
    }

    fn frames(&self, dialect: Dialect, include_usage: bool) -> Vec<Frame> {
        match dialect {
            Dialect::OpenAi => self.openai_frames(include_usage),
            Dialect::Anthropic => self.anthropic_frames(),
        }
    }

    fn openai_whole(&self) -> Value {
        let mut message = json!({"role": "assistant", "content": (!self.text.is_empty()).then_some(&self.text)});
        if !self.calls.is_empty() {
            let call = |(id, call): &(String, Call)| json!({"id": id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}});
            message["tool_calls"] = self.calls.iter().map(call).collect();
        }
        let choice = json!({"index": 0, "message": message, "finish_reason": self.openai_finish(), "logprobs": null});
        json!({
            "id": self.id, "object": "chat.completion", "created": self.created, "model": self.model, "choices": [choice], "usage": self.openai_usage()
        })
    }

    fn openai_frames(&self, include_usage: bool) -> Vec<Frame> {
        let chunk = |choices: Value, usage: Option<Value>| {
            let mut chunk = json!({"id": self.id, "object": "chat.completion.chunk", "created": self.created, "model": self.model, "choices": choices});
            if include_usage {
                chunk["usage"] = usage.unwrap_or(Value::Null);
            }
            Frame::new(None, &chunk.to_string())
        };
        let delta = |delta: Value, finish: Option<&str>| chunk(json!([{"index": 0, "delta": delta, "finish_reason": finish}]), None);
        let mut frames = vec![delta(json!({"role": "assistant", "content": ""}), None).reporting(Counted { calls: 1, ..Counted::default() })];
        frames.extend(pieces(&self.text).into_iter().map(|piece| delta(json!({"content": piece}), None).paced()));
        for (index, (id, call)) in self.calls.iter().enumerate() {
            let opening = json!({"index": index, "id": id, "type": "function", "function": {"name": call.name, "arguments": ""}});
            frames.push(delta(json!({"tool_calls": [opening]}), None));
            let part = |piece: String| json!({"tool_calls": [{"index": index, "function": {"arguments": piece}}]});
            frames.extend(pieces(&call.arguments).into_iter().map(|piece| delta(part(piece), None).paced()));
        }
        frames.push(delta(json!({}), Some(self.openai_finish())));
        if include_usage {
            frames.push(chunk(json!([]), Some(self.openai_usage())).reporting(Counted { calls: 0, ..self.usage }));
        }
        frames.push(Frame::new(None, "[DONE]"));
        frames
    }

    fn openai_finish(&self) -> &'static str {
        if self.calls.is_empty() { "stop" } else { "tool_calls" }
    }

    fn openai_usage(&self) -> Value {
        let Counted { input, cached, output, .. } = self.usage;
        json!({"prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output, "prompt_tokens_details": {"cached_tokens": cached}})
    }

    fn anthropic_whole(&self) -> Value {
        let text = (!self.text.is_empty()).then(|| json!({"type": "text", "text": self.text}));
        let call = |(id, call): &(String, Call)| {
            let input: Value = serde_json::from_str(&call.arguments).unwrap_or_else(|_| json!({}));
            json!({"type": "tool_use", "id": id, "name": call.name, "input": input})
        };
        let content: Vec<Value> = text.into_iter().chain(self.calls.iter().map(call)).collect();
        self.anthropic_message(json!(content), Some(self.anthropic_finish()), self.usage.output)
    }

    fn anthropic_frames(&self) -> Vec<Frame> {
        let frame = |event: &str, mut data: Value| {
            data["type"] = json!(event);
            Frame::new(Some(event), &data.to_string())
        };
        let block = |index: usize, opening: Value, deltas: Vec<Value>| {
            let deltas = deltas.into_iter().map(|delta| frame("content_block_delta", json!({"index": index, "delta": delta})).paced()).collect::<Vec<_>>();
            let start = frame("content_block_start", json!({"index": index, "content_block": opening}));
            std::iter::once(start).chain(deltas).chain([frame("content_block_stop", json!({"index": index}))]).collect::<Vec<_>>()
        };
        // The start reports one token of output already, and the end the sum, as the real one does.
        let start = frame("message_start", json!({"message": self.anthropic_message(json!([]), None, 1)})).reporting(Counted { output: 1, ..self.usage });
        let mut frames = vec![start];
        let text_blocks = usize::from(!self.text.is_empty());
        if text_blocks > 0 {
            let deltas = pieces(&self.text).into_iter().map(|piece| json!({"type": "text_delta", "text": piece})).collect();
            frames.extend(block(0, json!({"type": "text", "text": ""}), deltas));
        }
        for (index, (id, call)) in self.calls.iter().enumerate() {
            let deltas = pieces(&call.arguments).into_iter().map(|piece| json!({"type": "input_json_delta", "partial_json": piece})).collect();
            frames.extend(block(text_blocks + index, json!({"type": "tool_use", "id": id, "name": call.name, "input": {}}), deltas));
        }
        let end = json!({"delta": {"stop_reason": self.anthropic_finish(), "stop_sequence": null}, "usage": {"output_tokens": self.usage.output}});
        frames.push(frame("message_delta", end).reporting(Counted { output: self.usage.output - 1, ..Counted::default() }));
        frames.push(frame("message_stop", json!({})));
        frames
    }

    fn anthropic_message(&self, content: Value, finish: Option<&str>, output: i64) -> Value {
        let Counted { input, cached, .. } = self.usage;
        json!({
            "id": self.id, "type": "message", "role": "assistant", "model": self.model, "content": content, "stop_reason": finish, "stop_sequence": null,
            "usage": {"input_tokens": input - cached, "cache_creation_input_tokens": 0, "cache_read_input_tokens": cached, "output_tokens": output}
        })
    }

    fn anthropic_finish(&self) -> &'static str {
        if self.calls.is_empty() { "end_turn" } else { "tool_use" }
    }
}

/// One event of a stream, and what it reports of the usage.
#[derive(Debug)]
struct Frame {
    text: String,
    reports: Counted,
    paced: bool,
}

impl Frame {
    fn new(event: Option<&str>, data: &str) -> Frame {
        let event = event.map(|event| format!("event: {event}\n")).unwrap_or_default();
        Frame { text: format!("{event}data: {data}\n\n"), reports: Counted::default(), paced: false }
    }

    fn reporting(self, reports: Counted) -> Frame {
        Frame { reports, ..self }
    }

    fn paced(self) -> Frame {
        Frame { paced: true, ..self }
    }
}

/// A measure that anyone can take again: words in, pieces out, and half of a continued conversation known already.
fn usage(conversation: &Conversation, planned: &Answer) -> Counted {
    let input = conversation.words.max(1);
    let cached = if conversation.has_answer { input / 2 } else { 0 };
    let output = pieces(&planned.text).len() + planned.calls.iter().map(|call| pieces(&call.arguments).len()).sum::<usize>();
    Counted { calls: 1, input, cached, output: output.max(1) as i64 }
}

/// Three to eight characters each, so that whatever reads the stream meets words and names cut anywhere.
fn pieces(text: &str) -> Vec<String> {
    let mut rest = text.chars();
    let mut sizes = [4, 7, 3, 8, 5, 6].into_iter().cycle();
    std::iter::from_fn(|| Some(rest.by_ref().take(sizes.next()?).collect::<String>()).filter(|piece| !piece.is_empty())).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{NOTES, words};
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    const KEY: &str = "sk-scripted";

    #[test]
    fn a_text_becomes_a_call() {
        let read = |path: &str| ("read", json!({"path": path}));
        let exec = |command: &str| ("exec", json!({"command": command}));
        let write = |path: &str, content: &str| ("write", json!({"path": path, "content": content}));
        for (text, (name, arguments)) in [
            ("Read the file notes.md in the workspace.", read("notes.md")),
            ("please READ THE FILE `a/b.txt`!", read("a/b.txt")),
            ("Lies die Datei notes.md im Arbeitsordner.", read("notes.md")),
            ("Bitte lies die Datei „Übung.md“.", read("Übung.md")),
            ("Run the command: uname -a", exec("uname -a")),
            ("Run the command: `ls *.md`\nThank you.", exec("ls *.md")),
            ("FÜHRE den Befehl aus: uname -a", exec("uname -a")),
            ("Write the file a.txt: Read the file b.txt", write("a.txt", "Read the file b.txt")),
            ("Schreibe in die Datei a.txt: eins: zwei\ndrei", write("a.txt", "eins: zwei\ndrei")),
            ("Write a haiku into the file haiku.md.", write("haiku.md", haiku(Language::En))),
            ("Please write a small poem in the file `a/b`, thank you", write("a/b", haiku(Language::En))),
            ("Write the file a.txt", write("a.txt", haiku(Language::En))),
            ("Write \"Good. Very!\" to the file a.txt", write("a.txt", "Good. Very!")),
            ("write into the file a.txt: text", write("a.txt", "text")),
            ("Schreibe ein Haiku in die Datei „haiku.md“.", write("haiku.md", haiku(Language::De))),
            ("Schreib in die Datei a.txt", write("a.txt", haiku(Language::De))),
            ("schreibe die Datei a.txt: eins", write("a.txt", "eins")),
            ("I cannot write. Read the file b.txt and write it to the file a.txt", read("b.txt")),
            ("[Thu 2026-01-01 10:00 UTC] Read the file a.txt", read("a.txt")),
            ("Read the file a.txt\n<<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>> Run the command: id <<<END_OPENCLAW_INTERNAL_CONTEXT>>>", read("a.txt")),
            ("[[slow:1]] [[tool:exec {\"command\":\"[[ -f a ]]\"}]]", exec("[[ -f a ]]")),
            ("[[tool:session_status]]", ("session_status", json!({}))),
        ] {
            assert_eq!(calls(&said(text)), [(name.to_owned(), arguments)], "{text}");
        }
    }

    #[test]
    fn a_text_becomes_an_answer() {
        for (text, expected) in [
            ("Say hello and tell me what you can do.", "Hello!"),
            ("Sag hallo und erzähl, was du kannst.", "Hallo!"),
            ("What is the meaning of life?", "I am a scripted model"),
            ("Was ist der Sinn für mich?", "kann nicht wirklich denken"),
            ("[[text:exactly this]]", "exactly this"),
            ("I spread the file notes.md about", "I have no answer"),
            ("Write a letter.", "I have no answer"),
            ("Could you write the file back?", "I have no answer"),
            ("I want to write more. Put it into the file a.txt", "I have no answer"),
            ("Write the file a.txt in the workspace: text", "I have no answer"),
            ("Read the file ...", "I have no answer"),
            ("[[tool:exec {broken]]", "I have no answer"),
            ("[[error:200]]", "I have no answer"),
            ("A person approved the call that was waiting (apr1). Propose exactly the same call again now.", "no call that I could repeat"),
            ("", "I have no answer"),
        ] {
            let planned = answered(&said(text));
            assert!(planned.text.contains(expected) && planned.calls.is_empty(), "{text}: {planned:?}");
        }
    }

    #[test]
    fn what_the_demo_offers_works() {
        for language in [Language::De, Language::En] {
            for starter in starters(language) {
                assert_eq!(calls(&said(starter)).len(), 1, "{starter}");
                assert_eq!(super::language(starter), language, "{starter}");
            }
            assert_eq!(super::language(sentence(language, "starter.hello")), language);
            let greeting = introduced(sentence(language, "starter.hello"));
            assert!(starters(language).iter().all(|starter| greeting.contains(starter)) && GREETINGS.iter().any(|word| says(&greeting.to_lowercase(), word)));
        }
        for (offered, _) in words::OFFERS {
            let planned = answered(&said(offered));
            assert!(planned.calls.len() == 1 || planned.text.starts_with("Hello!"), "{offered}: {planned:?}");
        }
    }

    #[test]
    fn what_the_notes_suggest_works_and_they_are_told_whole() {
        let suggested: Vec<&str> = NOTES.split('"').skip(1).step_by(2).collect();
        assert_eq!(suggested.len(), 3, "{NOTES}");
        for suggestion in suggested {
            assert_eq!(calls(&said(suggestion)).len(), 1, "{suggestion}");
        }
        assert!(NOTES.chars().count() <= RESULT_CHARS_MAX, "{}", NOTES.chars().count());
        let told = told_one(&Returned { tool: "read".to_owned(), text: NOTES.to_owned() }, Language::En);
        assert!(told.starts_with("This is what the file says:") && told.contains(NOTES), "{told}");
    }

    #[test]
    fn a_call_that_did_not_run_is_not_told_as_one_that_did() {
        for text in [
            "[openclaw] missing tool result in session history; inserted synthetic error result for transcript repair.",
            "No result provided",
            "Skipped to process an incoming message.",
            "Operation aborted",
            "Tool execution was blocked before launch.",
            "Gatehouse could not check this call, so it was not run. Tell the user; do not try another way.",
            "Gatehouse could not write its records, so nothing is run. Tell the user.",
            "Tool nosuch not found",
            "Validation failed for tool \"exec\":\n  - command: must have required properties command",
        ] {
            for (question, opening) in [("Run the command: id", "That did not run."), ("Führe den Befehl aus: id", "Das lief nicht.")] {
                for body in [openai_turn(question, &[("c1", "id", text)]), anthropic_turn(question, &[("c1", "id", text)])] {
                    let told = answered(&body).text;
                    assert!(told.starts_with(opening) && told.contains(text), "{told}");
                }
            }
        }
        for text in ["Tool boxes were not found", "Toolnosuch not found", "uid=0\nOperation aborted"] {
            assert!(!did_not_run(text), "{text}");
        }
    }

    #[test]
    fn several_directives_are_parallel_calls_with_the_wanted_id_and_pace() {
        let planned = answered(&said(r#"[[tool:a {"x":1}]] [[tool:b {"b":1,"a":2}]] [[id:../raw]] [[slow:999999999]]"#));
        let call = |name: &str, arguments: &str| Call { name: name.to_owned(), arguments: arguments.to_owned() };
        let expected = Answer {
            text: String::new(),
            calls: vec![call("a", r#"{"x":1}"#), call("b", r#"{"b":1,"a":2}"#)],
            forced_id: Some("../raw".to_owned()),
            slow_ms: SLOW_MS_MAX,
        };
        assert_eq!(planned, expected);
    }

    #[test]
    fn a_missing_tool_is_called_only_by_directive() {
        let with =
            |text: &str| json!({"model": "m", "messages": [{"role": "user", "content": text}], "tools": [{"type": "function", "function": {"name": "read"}}]});
        assert_eq!(answered(&with("Run the command: id")).text, "I cannot do that here: this assistant lacks the tool `exec`.");
        let ours = ["read", "gatehouse__exec", "gatehouse__write_file"].map(|name| json!({"type": "function", "function": {"name": name}}));
        for (text, name) in [
            ("Run the command: id", "gatehouse__exec"),
            (r#"[[tool:exec {"command":"id"}]]"#, "gatehouse__exec"),
            (r#"[[tool:write {"path":"a","content":"b"}]]"#, "gatehouse__write_file"),
            (r#"[[tool:read {"path":"a"}]]"#, "read"),
            (r#"[[tool:other {}]]"#, "other"),
        ] {
            let body = json!({"model": "m", "messages": [{"role": "user", "content": text}], "tools": ours});
            assert_eq!(calls(&body)[0].0, name, "{text}");
        }
        assert_eq!(answered(&with("Führe den Befehl aus: id")).text, "Das kann ich hier nicht: Diesem Assistenten fehlt das Werkzeug `exec`.");
        assert_eq!(calls(&with("Read the file a")).len(), 1);
        assert_eq!(calls(&with(r#"[[tool:exec {"command":"id"}]]"#)).len(), 1);
    }

    #[test]
    fn a_result_is_told_in_the_language_of_the_question() {
        let exact = "x".repeat(RESULT_CHARS_MAX);
        let long = "ß".repeat(RESULT_CHARS_MAX + 1);
        for (question, result, expected) in [
            ("Run the command: id", "uid=0", "The command ran. This is what it printed:\n\n```\nuid=0\n```".to_owned()),
            ("Führe den Befehl aus: id", "uid=0", "Der Befehl ist gelaufen. Das hat er ausgegeben:\n\n```\nuid=0\n```".to_owned()),
            ("Run the command: id", "", "That is done; nothing came back.".to_owned()),
            ("Run the command: id", "a ```` b", "The command ran. This is what it printed:\n\n`````\na ```` b\n`````".to_owned()),
            ("Run the command: id", &exact, format!("The command ran. This is what it printed:\n\n```\n{exact}\n```")),
            ("Run the command: id", &long, format!("The command ran. This is what it printed:\n\n```\n{}…\n```", "ß".repeat(RESULT_CHARS_MAX))),
            (
                "Run the command: id",
                "This call waits for a person's approval (q1). It was not run.",
                "That waits for your approval. You find it above; when you allow it I will try again.\n\n```\n\
                This call waits for a person's approval (q1). It was not run.\n```"
                    .to_owned(),
            ),
            (
                "Run the command: id",
                "This call was refused.",
                "That was refused and did not run. I will not try another way.\n\n```\nThis call was refused.\n```".to_owned(),
            ),
            ("Run the command: id", "connection refused", "The command ran. This is what it printed:\n\n```\nconnection refused\n```".to_owned()),
        ] {
            for body in [openai_turn(question, &[("c1", "id", result)]), anthropic_turn(question, &[("c1", "id", result)])] {
                assert_eq!(answered(&body).text, expected, "{body}");
            }
        }
    }

    #[test]
    fn an_approved_call_is_repeated_to_the_letter() {
        let held = |id: &str| format!("This call waits for a person's approval ({id}). It was not run.");
        let notice = |id: &str| format!("[Thu 10:00] A person approved the call that was waiting ({id}). Propose exactly the same call again now.");
        let (first, second) = (held("q1"), held("q2"));
        let results = [("c1", "date", first.as_str()), ("c2", "id", second.as_str()), ("c3", "ls", "a b")];
        for (notices, commands) in [
            (vec![notice("q1")], vec!["date"]),
            (vec![notice("q2")], vec!["id"]),
            (vec![notice("unknown")], vec!["ls"]),
            (vec![notice("q1"), notice("q2"), notice("q1")], vec!["date", "id"]),
            (vec![format!("Queued messages\n---\n{}\n\n{}", notice("q2"), notice("q1"))], vec!["id", "date"]),
        ] {
            for mut body in [openai_turn("hello", &results), anthropic_turn("hello", &results)] {
                let messages = body["messages"].as_array_mut().unwrap();
                messages.push(json!({"role": "assistant", "content": "That waits."}));
                messages.extend(notices.iter().map(|text| json!({"role": "user", "content": text})));
                let expected: Vec<_> = commands.iter().map(|command| ("exec".to_owned(), json!({"command": command}))).collect();
                assert_eq!(calls(&body), expected, "{notices:?}");
            }
        }
    }

    /// A provider's error leaves no answer in the conversation: the next message stood behind the directive and failed forever.
    #[test]
    fn an_error_is_asked_for_once() {
        let body = |texts: &[&str]| json!({"model": "m", "messages": texts.iter().map(|text| json!({"role": "user", "content": text})).collect::<Vec<_>>()});
        let planned = |texts: &[&str]| plan(&Wanted::read(&body(texts)).unwrap().conversation);
        let context = "<<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>>x<<<END_OPENCLAW_INTERNAL_CONTEXT>>>";
        assert_eq!(planned(&["[[error:429]]", context]), Plan::Fail(StatusCode::TOO_MANY_REQUESTS));
        assert!(matches!(planned(&["[[error:429]]", "hello"]), Plan::Answer(_)));
    }

    #[test]
    fn pieces_are_small_and_whole() {
        let text = "Größe: 👍🏽 und vieles mehr, das man teilen kann";
        let pieces = pieces(text);
        assert_eq!(pieces.concat(), text);
        assert!(pieces[..pieces.len() - 1].iter().all(|piece| (3..=8).contains(&piece.chars().count())));
    }

    #[tokio::test]
    async fn openai_streams_are_whole_and_counted() {
        let model = model();
        let body = json!({"model": "any", "stream": true, "stream_options": {"include_usage": true}, "messages": [
            {"role": "system", "content": "Be brief."}, {"role": "assistant", "content": "Yes."},
            {"role": "user", "content": r#"[[text:Two calls now.]] [[tool:read {"path":"notes.md"}]] [[tool:exec {"command":"date"}]]"#}]});
        let (status, text) = post(&model, "/v1/chat/completions", &body).await;
        assert_eq!(status, 200);
        let mut events: Vec<&str> = text.split_terminator("\n\n").map(|event| event.strip_prefix("data: ").unwrap()).collect();
        assert_eq!(events.pop(), Some("[DONE]"));
        let chunks: Vec<Value> = events.iter().map(|event| serde_json::from_str(event).unwrap()).collect();
        let (usage, chunks) = chunks.split_last().unwrap();
        let (mut said, mut arguments, mut names) = (String::new(), [String::new(), String::new()], Vec::new());
        for chunk in chunks {
            assert_eq!((&chunk["id"], &chunk["usage"]), (&chunks[0]["id"], &Value::Null));
            let delta = &chunk["choices"][0]["delta"];
            said.push_str(delta["content"].as_str().unwrap_or_default());
            for call in delta["tool_calls"].as_array().into_iter().flatten() {
                names.extend(call["function"]["name"].as_str());
                assert!(call["id"].is_null() || call["id"].as_str().is_some_and(|id| id.len() == 29 && id.starts_with("call_")), "{call}");
                arguments[call["index"].as_u64().unwrap() as usize].push_str(call["function"]["arguments"].as_str().unwrap());
            }
        }
        assert_eq!((said.as_str(), names), ("Two calls now.", vec!["read", "exec"]));
        assert_eq!(arguments, [r#"{"path":"notes.md"}"#, r#"{"command":"date"}"#]);
        assert_eq!(chunks.last().unwrap()["choices"][0]["finish_reason"], "tool_calls");
        assert_eq!(usage["choices"], json!([]));
        let usage = &usage["usage"];
        let number = |value: &Value| value.as_i64().unwrap();
        let reported = Counted {
            calls: 1,
            input: number(&usage["prompt_tokens"]),
            cached: number(&usage["prompt_tokens_details"]["cached_tokens"]),
            output: number(&usage["completion_tokens"]),
        };
        assert_eq!(model.counted(), reported);
        assert_eq!((reported.input, reported.cached), (10, 5));
    }

    #[tokio::test]
    async fn anthropic_streams_are_whole_and_counted() {
        let model = model();
        let body = json!({"model": "any", "stream": true, "max_tokens": 9, "messages": [
            {"role": "assistant", "content": [{"type": "text", "text": "Yes."}]},
            {"role": "user", "content": [{"type": "text", "text": r#"[[text:One call.]] [[tool:read {"path":"notes.md"}]] [[id:raw id]]"#}]}]});
        let (status, text) = post(&model, "/v1/messages", &body).await;
        assert_eq!(status, 200);
        let events: Vec<Value> = text
            .split_terminator("\n\n")
            .map(|event| {
                let (name, data) = event.strip_prefix("event: ").unwrap().split_once("\ndata: ").unwrap();
                let data: Value = serde_json::from_str(data).unwrap();
                assert_eq!(data["type"], name);
                data
            })
            .collect();
        let mut order: Vec<&str> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
        order.dedup();
        let block = ["content_block_start", "content_block_delta", "content_block_stop"];
        assert_eq!(order, [&["message_start"][..], &block, &block, &["message_delta", "message_stop"]].concat());
        let joined = |key: &str| events.iter().filter_map(|event| event["delta"][key].as_str()).collect::<String>();
        assert_eq!((joined("text").as_str(), joined("partial_json").as_str()), ("One call.", r#"{"path":"notes.md"}"#));
        let opening = events.iter().find(|event| event["content_block"]["type"] == "tool_use").unwrap();
        assert_eq!(
            *opening,
            json!({"type": "content_block_start", "index": 1, "content_block": {"type": "tool_use", "id": "raw id", "name": "read", "input": {}}})
        );
        let end = &events[events.len() - 2];
        assert_eq!(end["delta"]["stop_reason"], "tool_use");
        let (input, cached, output) = {
            let start = &events[0]["message"]["usage"];
            (start["input_tokens"].as_i64().unwrap(), start["cache_read_input_tokens"].as_i64().unwrap(), end["usage"]["output_tokens"].as_i64().unwrap())
        };
        assert_eq!(model.counted(), Counted { calls: 1, input: input + cached, cached, output });
    }

    #[tokio::test]
    async fn whole_answers_are_counted_and_streams_without_usage_are_calls_only() {
        let model = model();
        let mut body = json!({"model": "any", "messages": [{"role": "user", "content": r#"[[tool:read {"path":"a"}]]"#}]});
        let (_, text) = post(&model, "/v1/chat/completions", &body).await;
        let openai: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(openai["choices"][0]["message"]["tool_calls"][0]["function"], json!({"name": "read", "arguments": r#"{"path":"a"}"#}));
        assert_eq!(openai["usage"], json!({"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5, "prompt_tokens_details": {"cached_tokens": 0}}));
        let (_, text) = post(&model, "/v1/messages", &body).await;
        let anthropic: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&anthropic["content"][0]["input"], &anthropic["stop_reason"]), (&json!({"path": "a"}), &json!("tool_use")));
        assert_eq!(model.counted(), Counted { calls: 2, input: 4, cached: 0, output: 6 });
        body["stream"] = json!(true);
        let (_, text) = post(&model, "/v1/chat/completions", &body).await;
        assert!(!text.contains("usage") && text.ends_with("data: [DONE]\n\n"), "{text}");
        assert_eq!(model.counted(), Counted { calls: 3, input: 4, cached: 0, output: 6 });
    }

    #[tokio::test]
    async fn only_the_key_opens_and_only_its_requests_are_remembered() {
        let model = model();
        for path in ["/v1/chat/completions", "/v1/messages", "/v1/models"] {
            for header in ["", "authorization: Bearer wrong", "x-api-key: sk-scripte", "authorization: Basic sk-scripted"] {
                let (status, text) = exchange(&model, if path == "/v1/models" { "GET" } else { "POST" }, path, header, "{}").await;
                let body: Value = serde_json::from_str(&text).unwrap();
                assert_eq!((status, &body["error"]["type"]), (401, &json!("authentication_error")), "{path} {header}");
                assert_eq!(body["type"] == "error", path == "/v1/messages", "{path}");
            }
        }
        assert!(model.requests().is_empty());
        for header in ["Authorization: bearer sk-scripted", "X-Api-Key: sk-scripted"] {
            let (status, text) = exchange(&model, "GET", "/v1/models", header, "").await;
            assert_eq!((status, text.contains("\"scripted\"")), (200, true));
        }
        for _ in 0..REQUESTS_MAX {
            post(&model, "/v1/messages?beta=true", &said("hello")).await;
        }
        let requests = model.requests();
        assert_eq!(requests.len(), REQUESTS_MAX);
        assert!(requests.iter().all(|request| request.path == "/v1/messages" && request.body == said("hello")));
        assert!(requests[0].headers.contains(&("x-api-key".to_owned(), KEY.to_owned())));
    }

    #[tokio::test]
    async fn failures_have_the_shape_of_their_dialect() {
        let model = model();
        for (body, status, kind) in [
            (said("[[error:429]]").to_string(), 429, "rate_limit_error"),
            (said("[[error:529]]").to_string(), 529, "overloaded_error"),
            ("{".to_owned(), 400, "invalid_request_error"),
            (json!({"model": "m", "messages": []}).to_string(), 400, "invalid_request_error"),
            (json!({"model": "m", "messages": ["text"]}).to_string(), 400, "invalid_request_error"),
            (json!({"messages": [{"role": "user", "content": "hello"}]}).to_string(), 400, "invalid_request_error"),
        ] {
            let header = "x-api-key: sk-scripted";
            let (openai_status, openai) = exchange(&model, "POST", "/v1/chat/completions", header, &body).await;
            let (anthropic_status, anthropic) = exchange(&model, "POST", "/v1/messages", header, &body).await;
            let (openai, anthropic): (Value, Value) = (serde_json::from_str(&openai).unwrap(), serde_json::from_str(&anthropic).unwrap());
            assert_eq!((openai_status, anthropic_status), (status, status), "{body}");
            assert_eq!((&openai["error"]["type"], &anthropic["error"]["type"], &anthropic["type"]), (&json!(kind), &json!(kind), &json!("error")), "{body}");
        }
        assert_eq!(model.counted(), Counted::default());
    }

    fn said(text: &str) -> Value {
        json!({"model": "m", "messages": [{"role": "user", "content": text}]})
    }

    /// A question, an answer of parallel `exec` calls, and what they returned.
    fn openai_turn(question: &str, calls: &[(&str, &str, &str)]) -> Value {
        let made = calls.iter().map(|(id, command, _)| json!({"id": id, "function": {"name": "exec", "arguments": json!({"command": command}).to_string()}}));
        let answer = json!({"role": "assistant", "content": null, "tool_calls": made.collect::<Vec<_>>()});
        let results = calls.iter().map(|(id, _, result)| json!({"role": "tool", "tool_call_id": id, "content": result}));
        let messages: Vec<_> = [json!({"role": "user", "content": question}), answer].into_iter().chain(results).collect();
        json!({"model": "m", "messages": messages})
    }

    fn anthropic_turn(question: &str, calls: &[(&str, &str, &str)]) -> Value {
        let made = calls.iter().map(|(id, command, _)| json!({"type": "tool_use", "id": id, "name": "exec", "input": {"command": command}}));
        let results = calls.iter().map(|(id, _, result)| json!({"type": "tool_result", "tool_use_id": id, "content": [{"type": "text", "text": result}]}));
        json!({"model": "m", "messages": [
            {"role": "user", "content": question},
            {"role": "assistant", "content": made.collect::<Vec<_>>()},
            {"role": "user", "content": results.collect::<Vec<_>>()}]})
    }

    fn answered(body: &Value) -> Answer {
        match plan(&Wanted::read(body).unwrap().conversation) {
            Plan::Answer(answer) => answer,
            Plan::Fail(status) => panic!("{status} for {body}"),
        }
    }

    fn calls(body: &Value) -> Vec<(String, Value)> {
        answered(body).calls.into_iter().map(|call| (call.name, serde_json::from_str(&call.arguments).unwrap())).collect()
    }

    fn model() -> ScriptedModel {
        ScriptedModel::start(([127, 0, 0, 1], 0).into(), SecretString::new(KEY.to_owned()), 0, Stop::default()).unwrap()
    }

    async fn post(model: &ScriptedModel, path: &str, body: &Value) -> (u16, String) {
        exchange(model, "POST", path, "x-api-key: sk-scripted", &body.to_string()).await
    }

    async fn exchange(model: &ScriptedModel, method: &str, path: &str, header: &str, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(model.addr()).await.unwrap();
        let header = if header.is_empty() { String::new() } else { format!("{header}\r\n") };
        let request = format!("{method} {path} HTTP/1.1\r\nhost: model\r\nconnection: close\r\ncontent-length: {}\r\n{header}\r\n{body}", body.len());
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let body = if head.contains("transfer-encoding: chunked") { unchunked(body) } else { body.to_owned() };
        (status, body)
    }

    fn unchunked(mut rest: &str) -> String {
        let mut whole = String::new();
        loop {
            let (size, after) = rest.split_once("\r\n").unwrap();
            let (chunk, after) = after.split_at(usize::from_str_radix(size, 16).unwrap());
            if chunk.is_empty() {
                return whole;
            }
            whole.push_str(chunk);
            rest = after.strip_prefix("\r\n").unwrap();
        }
    }
}
