//! A browser of the tenant: a cookie, an origin, a chat socket.

use crate::device::Device;
use crate::http::{Answer, post_json, request};
use crate::world::soon;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::net::SocketAddr;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};

pub struct Browser {
    pub address: SocketAddr,
    pub origin: String,
    pub cookie: Option<String>,
    /// The key that this browser signs with, where it is enrolled.
    pub device: Option<Device>,
    socket: Option<WebSocketStream<TcpStream>>,
    /// Events that came while something else was waited for.
    events: VecDeque<Value>,
    count: u32,
    /// Every frame that came, as it came.
    pub heard: String,
}

impl Browser {
    pub fn new(address: SocketAddr, origin: &str) -> Browser {
        Browser { address, origin: origin.to_owned(), cookie: None, device: None, socket: None, events: VecDeque::new(), count: 0, heard: String::new() }
    }

    /// Another tab of the same browser: the same session, no socket.
    pub fn like(other: &Browser) -> Browser {
        Browser { cookie: other.cookie.clone(), ..Browser::new(other.address, &other.origin) }
    }

    fn host(&self) -> &str {
        self.origin.split_once("://").map_or("", |(_, host)| host)
    }

    pub async fn get(&self, path: &str) -> Answer {
        let cookie = self.cookie.clone().unwrap_or_default();
        request(self.address, "GET", path, &[("host", self.host()), ("cookie", &cookie), ("accept-language", "en")], b"").await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        let cookie = self.cookie.clone().unwrap_or_default();
        post_json(self.address, path, &[("host", self.host()), ("origin", &self.origin), ("cookie", &cookie), ("accept-language", "en")], &body).await
    }

    /// Posts, and keeps the session that comes back.
    pub async fn enter(&mut self, path: &str, body: Value) -> Answer {
        let answer = self.post(path, body).await;
        if let Some(cookie) = answer.header("set-cookie") {
            self.cookie = cookie.split(';').next().map(str::to_owned);
        }
        answer
    }

    /// Comes in by the owner's link, with a key of its own.
    pub async fn first(&mut self, token: &str, name: &str, password: &str) -> Answer {
        let mut device = Device::key(&self.origin);
        let body = json!({ "token": token, "name": name, "password": password, "lang": "en", "device": device.candidate(token) });
        let answer = self.enter("/auth/first", body).await;
        if answer.status == 200 {
            device.id = answer.json()["device"].as_str().expect("the device is enrolled").to_owned();
            self.device = Some(device);
        }
        answer
    }

    /// Signs something with this browser's key.
    pub async fn signed(&self, deed: Value) -> Value {
        self.signed_by(self.device.as_ref().expect("this browser is enrolled"), deed).await
    }

    pub async fn signed_by(&self, device: &Device, deed: Value) -> Value {
        let me = self.get("/api/me").await.json();
        let text = |value: &Value| value.as_str().expect("an id").to_owned();
        let expires_ms = me["now_ms"].as_i64().expect("a time") + 300_000;
        device.signed(&text(&me["tenant"]), &text(&me["person"]["id"]), expires_ms, deed)
    }

    /// Opens the chat socket; the status when the door refuses.
    pub async fn open(&mut self) -> Result<Value, u16> {
        let origin = self.origin.clone();
        self.open_from(&origin).await
    }

    pub async fn open_from(&mut self, origin: &str) -> Result<Value, u16> {
        let mut request = format!("ws://{}/ws", self.host()).into_client_request().expect("a URL");
        request.headers_mut().insert("origin", origin.parse().expect("an origin"));
        if let Some(cookie) = &self.cookie {
            request.headers_mut().insert("cookie", cookie.parse().expect("a cookie"));
        }
        let stream = TcpStream::connect(self.address).await.expect("the door is open");
        match tokio_tungstenite::client_async(request, stream).await {
            Ok((socket, _)) => {
                self.socket = Some(socket);
                Ok(self.event("hello", |_| true).await)
            }
            Err(Error::Http(answer)) => Err(answer.status().as_u16()),
            Err(error) => panic!("{error}"),
        }
    }

    /// The payload of the first event of this name that is as wanted.
    pub async fn event(&mut self, name: &str, mut wanted: impl FnMut(&Value) -> bool) -> Value {
        if let Some(at) = self.events.iter().position(|event| event["event"] == name && wanted(&event["payload"])) {
            return self.events.remove(at).expect("it is there")["payload"].take();
        }
        loop {
            let mut frame = self.frame().await.unwrap_or_else(|code| panic!("the socket closed with {code:?} while waiting for `{name}`"));
            if frame["event"] == name && wanted(&frame["payload"]) {
                return frame["payload"].take();
            }
            self.events.push_back(frame);
        }
    }

    /// The whole answer to a call.
    pub async fn call(&mut self, method: &str, params: Value) -> Value {
        self.count += 1;
        let id = format!("t{}", self.count);
        self.send(&json!({ "type": "req", "id": id, "method": method, "params": params }).to_string()).await;
        loop {
            let frame = self.frame().await.unwrap_or_else(|code| panic!("the socket closed with {code:?} while calling `{method}`"));
            if frame["type"] == "res" && frame["id"] == id.as_str() {
                return frame;
            }
            self.events.push_back(frame);
        }
    }

    pub async fn say(&mut self, message: &str) -> String {
        self.count += 1;
        let answer =
            self.call("chat.send", json!({ "sessionKey": "main", "message": message, "idempotencyKey": format!("key-{}-{}", self.count, self.address) })).await;
        assert_eq!(answer["ok"], true, "{answer}");
        answer["payload"]["runId"].as_str().expect("a run").to_owned()
    }

    /// The text with which a run ends.
    pub async fn reply(&mut self, run: &str) -> String {
        let end = self.event("chat", |payload| payload["runId"] == run && matches!(payload["state"].as_str(), Some("final" | "error" | "aborted"))).await;
        match end["errorMessage"].as_str() {
            Some(error) => format!("{}: {error}", end["errorCode"].as_str().unwrap_or_default()),
            None => end["message"]["content"][0]["text"].as_str().unwrap_or_default().to_owned(),
        }
    }

    /// Says something and waits for the whole answer.
    pub async fn ask(&mut self, message: &str) -> String {
        let run = self.say(message).await;
        self.reply(&run).await
    }

    pub async fn send(&mut self, text: &str) {
        self.socket.as_mut().expect("the socket is open").send(Message::text(text.to_owned())).await.expect("the socket takes it");
    }

    pub async fn send_message(&mut self, message: Message) {
        let _ = self.socket.as_mut().expect("the socket is open").send(message).await;
    }

    /// The next frame, or the code with which the socket closed.
    pub async fn frame(&mut self) -> Result<Value, Option<u16>> {
        let socket = self.socket.as_mut().expect("the socket is open");
        loop {
            match soon(socket.next()).await {
                Some(Ok(Message::Text(text))) => {
                    self.heard.push_str(&text);
                    self.heard.push('\n');
                    return Ok(serde_json::from_str(&text).expect("frames are JSON"));
                }
                Some(Ok(Message::Close(frame))) => return Err(frame.map(|frame| frame.code.into())),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Err(None),
            }
        }
    }

    /// Waits until the socket closes.
    pub async fn closed(&mut self) -> Option<u16> {
        loop {
            if let Err(code) = self.frame().await {
                return code;
            }
        }
    }

    /// Waits for a question and returns it.
    pub async fn question(&mut self) -> Value {
        self.event("approval", |approval| approval["state"] == "pending").await
    }

    /// Answers as the page does: a yes to a dangerous call is signed where this browser can sign.
    pub async fn decide(&mut self, question: &Value, decision: &str) -> Value {
        let is_red = matches!(question["class"].as_str(), Some("red" | "critical_red")) || question["unknown"] == true;
        if decision != "approve" || !is_red || self.device.is_none() {
            return self.call("approvals.decide", json!({ "id": question["id"], "digest": question["digest"], "decision": decision })).await;
        }
        let answer = self.post("/approvals/decisions", json!({ "signed": self.yes(question).await })).await;
        if answer.status == 200 { json!({ "ok": true, "payload": answer.json() }) } else { json!({ "ok": false, "error": answer.json()["error"] }) }
    }

    /// A signed yes, with the question's number.
    pub async fn yes(&self, question: &Value) -> Value {
        self.signed(yes_to(question)).await
    }
}

/// What a device signs to allow a call.
pub fn yes_to(question: &Value) -> Value {
    json!({ "kind": "decide", "approval": question["id"], "digest": question["digest"], "decision": "approve", "number": question["number"] })
}
