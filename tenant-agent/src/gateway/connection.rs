//! One WebSocket to OpenClaw: the handshake of protocol 4, calls by id, events in order.
//!
//! We come as OpenClaw's own backend client, which is the one that keeps the scopes it asks for. Each browser session has
//! a connection with reading and writing only; the control connection alone has more.

use anyhow::{Context, anyhow, bail};
use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use service::SecretString;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

/// Where OpenClaw listens and what proves that we may come in.
#[derive(Clone, Debug)]
pub struct Access {
    pub address: SocketAddr,
    pub proof: Proof,
}

#[derive(Clone, Debug)]
pub enum Proof {
    /// On the loopback: a token that OpenClaw was started with.
    Token(SecretString),
    /// Over a link whose only other end we are: our address. No secret exists that something inside could steal; OpenClaw
    /// believes what our headers say, because nobody else can send from there.
    Address,
}

/// Who we say that somebody is, where OpenClaw believes our headers. Its configuration gives each their scopes.
pub const TRUSTED_HEADER: &str = "x-tenant-agent";
pub const USER_HEADER: &str = "x-forwarded-user";
pub const BROWSER_USER: &str = "user";
pub const CONTROL_USER: &str = "control";
/// An address that nobody has (RFC 5737): OpenClaw wants one that is not its own machine's.
const FORWARDED_FOR: &str = "203.0.113.1";

impl Access {
    /// The headers that go with every request.
    pub fn headers(&self, user: &'static str) -> Vec<(&'static str, &'static str)> {
        match self.proof {
            Proof::Token(_) => Vec::new(),
            Proof::Address => vec![(USER_HEADER, user), (TRUSTED_HEADER, "1"), ("x-forwarded-for", FORWARDED_FOR)],
        }
    }
}

/// What a connection may do. OpenClaw enforces it; we still allow methods one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    Browser,
    Control,
}

#[derive(Debug, Error)]
pub enum CallError {
    #[error("OpenClaw refused: {code}")]
    Refused { code: String },
    #[error("the connection to OpenClaw has ended")]
    Ended,
    #[error("OpenClaw did not answer in time")]
    Late,
}

/// An event, its payload as OpenClaw wrote it.
#[derive(Debug)]
pub struct Event {
    pub name: String,
    pub payload: Box<RawValue>,
}

/// The calling half; dropping the last clone ends the connection.
#[derive(Clone)]
pub struct Caller(mpsc::Sender<Call>);

struct Call {
    method: &'static str,
    params: Value,
    answer: oneshot::Sender<Result<Box<RawValue>, CallError>>,
}

#[derive(Deserialize)]
struct Incoming<'a> {
    #[serde(rename = "type", borrow)]
    kind: &'a str,
    #[serde(default, borrow)]
    id: Option<&'a str>,
    #[serde(default)]
    ok: bool,
    #[serde(default, borrow)]
    event: Option<&'a str>,
    #[serde(default, borrow)]
    payload: Option<&'a RawValue>,
    #[serde(default)]
    error: Option<Refusal>,
}

#[derive(Deserialize)]
struct Refusal {
    #[serde(default)]
    code: String,
}

/// On the same machine; a browser's socket waits for it.
const CONNECT_WAIT: Duration = Duration::from_secs(5);
/// OpenClaw's own bound on one frame.
const FRAME_BYTES_MAX: usize = 26_214_400;
/// Calls that wait for an answer on one connection.
const CALLS_MAX: usize = 64;
/// Events that may wait for a slow reader; when there are more, the connection ends and the reader starts over.
const EVENTS_MAX: usize = 2048;

type Socket = WebSocketStream<TcpStream>;

/// Opens a connection and completes the handshake.
pub async fn connect(access: &Access, reach: Reach) -> anyhow::Result<(Caller, mpsc::Receiver<Event>)> {
    let socket = tokio::time::timeout(CONNECT_WAIT, handshake(access, reach)).await.context("OpenClaw did not complete the handshake in time")??;
    let (calls, queue) = mpsc::channel(CALLS_MAX);
    let (events, reader) = mpsc::channel(EVENTS_MAX);
    tokio::spawn(run(socket, queue, events));
    Ok((Caller(calls), reader))
}

impl Caller {
    pub async fn call(&self, method: &'static str, params: Value, wait: Duration) -> Result<Box<RawValue>, CallError> {
        let (answer, answered) = oneshot::channel();
        self.0.send(Call { method, params, answer }).await.map_err(|_| CallError::Ended)?;
        match tokio::time::timeout(wait, answered).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(CallError::Ended),
            Err(_) => Err(CallError::Late),
        }
    }

    pub fn is_ended(&self) -> bool {
        self.0.is_closed()
    }
}

async fn handshake(access: &Access, reach: Reach) -> anyhow::Result<Socket> {
    let stream = TcpStream::connect(access.address).await.context("OpenClaw is not listening")?;
    stream.set_nodelay(true)?;
    let user = if reach == Reach::Browser { BROWSER_USER } else { CONTROL_USER };
    let mut request = format!("ws://{}/", access.address).into_client_request()?;
    for (name, value) in access.headers(user) {
        request.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    let config = WebSocketConfig::default()
        .max_message_size(Some(FRAME_BYTES_MAX))
        .max_frame_size(Some(FRAME_BYTES_MAX))
        .read_buffer_size(16 * 1024)
        .write_buffer_size(0);
    let (mut socket, _) = tokio_tungstenite::client_async_with_config(request, stream, Some(config)).await.context("OpenClaw refused the WebSocket")?;
    let challenge = text(&mut socket).await?;
    let challenge: Incoming = serde_json::from_str(&challenge).context("OpenClaw's challenge is unreadable")?;
    if challenge.event != Some("connect.challenge") {
        bail!("OpenClaw did not begin with its challenge");
    }
    let (scopes, caps) = match reach {
        Reach::Browser => (json!(["operator.read", "operator.write"]), json!(["tool-events"])),
        Reach::Control => (json!(["operator.admin", "operator.read", "operator.write"]), json!([])),
    };
    let mut params = json!({
        "minProtocol": 4, "maxProtocol": 4, "role": "operator", "scopes": scopes, "caps": caps,
        "client": { "id": "gateway-client", "version": env!("CARGO_PKG_VERSION"), "platform": "linux", "mode": "backend" },
        "locale": "en-US", "userAgent": concat!("tenant-agent/", env!("CARGO_PKG_VERSION")),
    });
    if let Proof::Token(token) = &access.proof {
        // The handshake needs the token.
        params["auth"] = json!({ "token": token.expose() });
    }
    let connect = json!({ "type": "req", "id": "connect", "method": "connect", "params": params });
    socket.send(Message::text(connect.to_string())).await?;
    loop {
        let answer = text(&mut socket).await?;
        let answer: Incoming = serde_json::from_str(&answer).context("OpenClaw's answer is unreadable")?;
        match (answer.kind, answer.ok) {
            ("res", true) => return Ok(socket),
            ("res", false) => bail!("OpenClaw refused the connection: {}", answer.error.map_or_else(|| "no code".to_owned(), |error| error.code)),
            _ => {}
        }
    }
}

async fn text(socket: &mut Socket) -> anyhow::Result<String> {
    loop {
        match socket.next().await {
            Some(Ok(Message::Text(text))) => return Ok(text.as_str().to_owned()),
            Some(Ok(Message::Close(_))) | None => bail!("OpenClaw closed the connection"),
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(anyhow!(error).context("the connection to OpenClaw broke")),
        }
    }
}

async fn run(mut socket: Socket, mut queue: mpsc::Receiver<Call>, events: mpsc::Sender<Event>) {
    let mut waiting: HashMap<String, oneshot::Sender<Result<Box<RawValue>, CallError>>> = HashMap::new();
    let mut count = 0_u64;
    loop {
        tokio::select! {
            call = queue.recv() => {
                let Some(call) = call else { break };
                // Those whose caller stopped waiting make room.
                waiting.retain(|_, answer| !answer.is_closed());
                if waiting.len() >= CALLS_MAX {
                    let _ = call.answer.send(Err(CallError::Late));
                    continue;
                }
                count += 1;
                let id = format!("c{count}");
                let frame = json!({ "type": "req", "id": id, "method": call.method, "params": call.params });
                waiting.insert(id, call.answer);
                if socket.send(Message::text(frame.to_string())).await.is_err() {
                    break;
                }
            }
            message = socket.next() => match message {
                Some(Ok(Message::Text(text))) => {
                    let Ok(frame) = serde_json::from_str::<Incoming>(&text) else { continue };
                    if !pass(frame, &mut waiting, &events) {
                        break;
                    }
                }
                Some(Ok(Message::Close(_)) | Err(_)) | None => break,
                Some(Ok(_)) => {}
            }
        }
    }
    let _ = socket.close(None).await;
}

/// Hands a frame to whoever waits for it; `false` when nobody listens any more or the reader is too slow.
fn pass(frame: Incoming<'_>, waiting: &mut HashMap<String, oneshot::Sender<Result<Box<RawValue>, CallError>>>, events: &mpsc::Sender<Event>) -> bool {
    let owned = |payload: Option<&RawValue>| payload.map_or_else(|| RawValue::NULL.to_owned(), ToOwned::to_owned);
    match (frame.kind, frame.id, frame.event) {
        ("res", Some(id), _) => {
            let outcome =
                if frame.ok { Ok(owned(frame.payload)) } else { Err(CallError::Refused { code: frame.error.map(|error| error.code).unwrap_or_default() }) };
            if let Some(answer) = waiting.remove(id) {
                let _ = answer.send(outcome);
            }
            true
        }
        ("event", _, Some(name)) => events.try_send(Event { name: name.to_owned(), payload: owned(frame.payload) }).is_ok(),
        _ => true,
    }
}
