//! OpenClaw, played: its WebSocket protocol as far as the agent uses it, the plugin's questions on the agent's socket, and
//! model calls through the agent's egress proxy. [`Manners`] make it misbehave as the real one has been seen to.

use axum::Router;
use axum::extract::State;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::routing::get;
use serde_json::{Value, json};
use service::Stop;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;
use tokio::sync::broadcast;

use crate::http::{Answer, request, request_unix};

/// How it behaves.
#[derive(Clone, Debug)]
pub struct Manners {
    /// The plugin is among the loaded ones.
    pub plugin_loaded: bool,
    /// The plugin announces runs and requests.
    pub announces: bool,
    /// The plugin is asked before a tool runs.
    pub asks: bool,
    /// A no is taken for a no.
    pub obeys: bool,
    /// Tools before which the plugin is not asked, in the session of the agent's canaries.
    pub skips: Vec<&'static str>,
    /// A canary is answered at all.
    pub answers_canaries: bool,
}

impl Default for Manners {
    fn default() -> Manners {
        Manners { plugin_loaded: true, announces: true, asks: true, obeys: true, skips: Vec::new(), answers_canaries: true }
    }
}

#[derive(Clone)]
pub struct FakeGateway(Arc<Inner>);

struct Inner {
    address: SocketAddr,
    keys: Keys,
    manners: Mutex<Manners>,
    /// Where the agent listens; known after the agent has started.
    agent: Mutex<Option<(SocketAddr, PathBuf)>>,
    workspace: Mutex<PathBuf>,
    events: broadcast::Sender<String>,
    /// The conversation of each session, as it goes to the model.
    sessions: tokio::sync::Mutex<HashMap<String, Vec<Value>>>,
    executed: Mutex<Vec<String>>,
    /// The keys of what was said to the chat.
    heard: Mutex<Vec<String>>,
    refused: Mutex<Vec<String>>,
    count: Mutex<u64>,
}

/// As OpenClaw gets them from its unit's environment.
#[derive(Clone, Debug)]
pub struct Keys {
    pub gateway_token: String,
    pub plugin_key: String,
    pub proxy_token: String,
    pub tools_token: String,
    pub forward_token: String,
}

impl Keys {
    pub fn draw() -> Keys {
        let draw = service::random::token;
        Keys { gateway_token: draw(), plugin_key: draw(), proxy_token: draw(), tools_token: draw(), forward_token: draw() }
    }

    pub fn environment(&self) -> String {
        let Keys { gateway_token, plugin_key, proxy_token, tools_token, forward_token } = self;
        format!(
            "OPENCLAW_GATEWAY_TOKEN={gateway_token}\nGATEHOUSE_PLUGIN_KEY={plugin_key}\nGATEHOUSE_PROXY_TOKEN={proxy_token}\nGATEHOUSE_TOOLS_TOKEN={tools_token}\nGATEHOUSE_FORWARD_TOKEN={forward_token}\n"
        )
    }
}

const SESSION: &str = "agent:main:main";
/// The agent's own, whose model is the agent; and a sub-assistant of it.
const CANARY_SESSIONS: &str = "agent:main:gatehouse-canary-";
const CANARY_CHILD: &str = "agent:main:subagent:canary";
const TOOLS: [&str; 6] = ["read", "gatehouse__exec", "gatehouse__read_file", "gatehouse__write_file", "gatehouse__secret_names", "gateway"];
/// Tools that only a canary needs here.
const CANARY_TOOLS: [&str; 3] = ["gatehouse_canary", "sessions_spawn", "web_fetch"];
/// The plugin's own words when the agent does not answer.
const NOT_CHECKED: &str = "Gatehouse could not check this call, so it was not run. Tell the user; do not try another way.";
/// What comes before the names of the agent's own tools.
const OURS: &str = "gatehouse__";
/// What the real one tells the model when the look at a result failed.
const NO_OUTPUT: &str = "Tool output unavailable due to post-processing error";
/// A model that calls tools for ever is stopped by the real one too.
const TURNS_MAX: usize = 12;

impl FakeGateway {
    pub async fn start(keys: Keys, stop: Stop) -> FakeGateway {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let inner = Inner {
            address,
            keys,
            manners: Mutex::default(),
            agent: Mutex::default(),
            workspace: Mutex::default(),
            events: broadcast::channel(1024).0,
            sessions: Default::default(),
            executed: Mutex::default(),
            heard: Mutex::default(),
            refused: Mutex::default(),
            count: Mutex::default(),
        };
        let gateway = FakeGateway(Arc::new(inner));
        let router = Router::new()
            .route("/readyz", get(async || r#"{"ready":true}"#))
            .route(
                "/",
                get(async |State(gateway): State<FakeGateway>, upgrade: WebSocketUpgrade| {
                    upgrade.on_upgrade(async move |socket| gateway.connection(socket).await)
                }),
            )
            .with_state(gateway.clone());
        tokio::spawn(service::door::serve(listener, router, stop));
        gateway
    }

    pub fn address(&self) -> SocketAddr {
        self.0.address
    }

    pub fn keys(&self) -> &Keys {
        &self.0.keys
    }

    pub fn meet(&self, egress: SocketAddr, plugin_socket: PathBuf, workspace: PathBuf) {
        *self.0.agent.lock().unwrap() = Some((egress, plugin_socket));
        *self.0.workspace.lock().unwrap() = workspace;
    }

    /// From now on it behaves like this; a change of the plugin is told as OpenClaw tells it.
    pub fn behave(&self, manners: Manners) {
        let health = health(&manners);
        *self.0.manners.lock().unwrap() = manners;
        self.emit("health", health);
    }

    fn manners(&self) -> Manners {
        self.0.manners.lock().unwrap().clone()
    }

    /// What tools have really done.
    pub fn executed(&self) -> Vec<String> {
        self.0.executed.lock().unwrap().clone()
    }

    /// The keys of what was said to the chat, in order.
    pub fn heard(&self) -> Vec<String> {
        self.0.heard.lock().unwrap().clone()
    }

    /// What the model was told instead.
    pub fn refused(&self) -> Vec<String> {
        self.0.refused.lock().unwrap().clone()
    }

    fn emit(&self, name: &str, payload: Value) {
        let _ = self.0.events.send(json!({ "type": "event", "event": name, "payload": payload }).to_string());
    }

    async fn connection(self, mut socket: WebSocket) {
        let challenge = json!({ "type": "event", "event": "connect.challenge", "payload": { "nonce": "n", "ts": 0 } });
        if socket.send(Message::text(challenge.to_string())).await.is_err() {
            return;
        }
        let mut events = self.0.events.subscribe();
        let mut connected = false;
        loop {
            tokio::select! {
                message = socket.recv() => {
                    let Some(Ok(Message::Text(text))) = message else { return };
                    let request: Value = serde_json::from_str(&text).expect("the agent speaks JSON");
                    let method = request["method"].as_str().unwrap_or_default();
                    let answer = if connected || method == "connect" { self.method(method, &request["params"]).await } else { Err("NOT_CONNECTED") };
                    connected |= method == "connect" && answer.is_ok();
                    let frame = match answer {
                        Ok(payload) => json!({ "type": "res", "id": request["id"], "ok": true, "payload": payload }),
                        Err(code) => json!({ "type": "res", "id": request["id"], "ok": false, "error": { "code": code, "message": "no" } }),
                    };
                    if socket.send(Message::text(frame.to_string())).await.is_err() {
                        return;
                    }
                }
                event = events.recv() => {
                    let Ok(event) = event else { continue };
                    if connected && socket.send(Message::text(event)).await.is_err() {
                        return;
                    }
                }
            }
        }
    }

    async fn method(&self, method: &str, params: &Value) -> Result<Value, &'static str> {
        match method {
            "connect" if params["auth"]["token"] == self.0.keys.gateway_token.as_str() => Ok(json!({ "type": "hello-ok", "protocol": 4 })),
            "connect" => Err("AUTH_TOKEN_MISMATCH"),
            "health" => Ok(health(&self.manners())),
            "chat.send" => {
                let (run, message) =
                    (params["idempotencyKey"].as_str().unwrap_or_default().to_owned(), params["message"].as_str().unwrap_or_default().to_owned());
                let gateway = self.clone();
                let session = params["sessionKey"].as_str().unwrap_or_default().to_owned();
                if !session.starts_with(CANARY_SESSIONS) {
                    self.0.heard.lock().unwrap().push(run.clone());
                }
                tokio::spawn({
                    let run = run.clone();
                    async move {
                        if session.starts_with(CANARY_SESSIONS) { gateway.canary(&session, &run, &message).await } else { gateway.turn(&run, &message).await }
                    }
                });
                Ok(json!({ "runId": run, "status": "started" }))
            }
            "chat.history" => {
                // A turn holds the sessions to its end.
                let heard =
                    self.0.heard.lock().unwrap().iter().map(|key| json!({ "role": "user", "idempotencyKey": format!("{key}:user") })).collect::<Vec<_>>();
                let (mut messages, status) = match self.0.sessions.try_lock() {
                    Ok(sessions) => (sessions.get(SESSION).cloned().unwrap_or_default(), "done"),
                    Err(_) => (Vec::new(), "running"),
                };
                messages.extend(heard);
                Ok(json!({ "messages": messages, "sessionInfo": { "status": status } }))
            }
            "sessions.patch" => Ok(json!({ "ok": true })),
            "sessions.delete" => Ok(json!({ "ok": true })),
            "tools.invoke" => {
                let (tool, key) = (params["name"].as_str().unwrap_or_default(), params["idempotencyKey"].as_str().unwrap_or_default());
                let said =
                    self.canary_call(params["sessionKey"].as_str().unwrap_or_default(), "rpc", &format!("rpc-delegated-{key}"), tool, &params["args"]).await;
                Ok(json!({ "ok": false, "toolName": tool, "error": { "code": "forbidden", "message": said } }))
            }
            "chat.abort" => Ok(json!({ "aborted": false })),
            _ => Err("UNKNOWN_METHOD"),
        }
    }

    /// One turn, as OpenClaw runs it: model, tools, model, until there is text.
    async fn turn(&self, run: &str, message: &str) {
        let trace_id = format!("{:032x}", u128::from_ne_bytes(service::random::bytes()));
        let mut sessions = self.0.sessions.lock().await;
        let conversation = sessions.entry(SESSION.to_owned()).or_default();
        conversation.push(json!({ "role": "user", "content": message }));
        self.chat(run, json!({ "state": "status", "phase": "starting_model" }));
        if self.manners().announces && self.announce(run, &trace_id, "").await.status != 200 {
            return self.chat(run, json!({ "state": "error", "errorMessage": "blocked by gatehouse" }));
        }
        for _ in 0..TURNS_MAX {
            let answer = self.model(run, &trace_id, conversation).await;
            if answer.status != 200 {
                return self.chat(run, json!({ "state": "error", "errorMessage": answer.text() }));
            }
            let said = self.read_stream(run, &answer.text());
            conversation.push(said.clone());
            let calls = said["tool_calls"].as_array().cloned().unwrap_or_default();
            if calls.is_empty() {
                let message = json!({ "role": "assistant", "content": [{ "type": "text", "text": said["content"] }] });
                return self.chat(run, json!({ "state": "final", "message": message }));
            }
            for call in calls {
                let result = self.tool(run, &trace_id, &call).await;
                // The real one respells ids before it sends them back.
                let id: String = call["id"].as_str().unwrap_or_default().chars().filter(char::is_ascii_alphanumeric).collect();
                conversation.push(json!({ "role": "tool", "tool_call_id": id, "content": result }));
            }
        }
    }

    /// A run in the session of the agent's canaries. Nobody is told of it but by its last word.
    async fn canary(&self, session: &str, run: &str, message: &str) {
        if !self.manners().answers_canaries {
            return self.emit("chat", json!({ "runId": run, "sessionKey": session, "state": "error" }));
        }
        let text = match message.strip_prefix("/gatehouse_canary ") {
            Some(_) => format!("Tool call blocked: {}", self.canary_call(session, run, "cmd_1", "gatehouse_canary", &json!({})).await),
            None => self.canary_talk(session, run, message).await,
        };
        let message = json!({ "role": "assistant", "content": [{ "type": "text", "text": text }] });
        self.emit("chat", json!({ "runId": run, "sessionKey": session, "state": "final", "message": message }));
    }

    async fn canary_talk(&self, session: &str, run: &str, message: &str) -> String {
        let trace_id = format!("{:032x}", u128::from_ne_bytes(service::random::bytes()));
        let mut conversation = vec![json!({ "role": "user", "content": message })];
        for _ in 0..TURNS_MAX {
            let answer = self.ask_model("gatehouse-canary", session, run, &trace_id, &conversation).await;
            if answer.status != 200 {
                return answer.text();
            }
            let said = assemble(&answer.text(), |_, _| {});
            conversation.push(said.clone());
            let Some(calls) = said["tool_calls"].as_array() else { return said["content"].as_str().unwrap_or_default().to_owned() };
            for call in calls {
                let (name, id) = (call["function"]["name"].as_str().unwrap_or_default(), call["id"].as_str().unwrap_or_default());
                let params: Value = serde_json::from_str(call["function"]["arguments"].as_str().unwrap_or_default()).unwrap_or_default();
                let result = self.canary_call(session, run, id, name, &params).await;
                conversation.push(json!({ "role": "tool", "tool_call_id": id, "content": result }));
            }
        }
        String::new()
    }

    /// A call of a canary: what comes back.
    async fn canary_call(&self, session: &str, run: &str, id: &str, name: &str, params: &Value) -> String {
        if !TOOLS.iter().chain(&CANARY_TOOLS).any(|tool| *tool == name) {
            return format!("Tool {name} not found");
        }
        if !self.manners().skips.contains(&name) {
            let verdict: Value = self.decide_in(session, run, "", id, name, params).await.json();
            if verdict["allow"] != true {
                return verdict["reason"].as_str().unwrap_or_default().to_owned();
            }
        }
        if name == "gatehouse_canary" {
            self.plugin("/ran", &json!({ "session_key": session })).await;
        }
        if name == "sessions_spawn" {
            Box::pin(self.canary_talk(CANARY_CHILD, run, params["task"].as_str().unwrap_or_default())).await;
        }
        format!("ran {name}")
    }

    async fn model(&self, run: &str, trace_id: &str, conversation: &[Value]) -> Answer {
        self.ask_model("scripted", SESSION, run, trace_id, conversation).await
    }

    async fn ask_model(&self, provider: &str, session: &str, run: &str, trace_id: &str, conversation: &[Value]) -> Answer {
        let (egress, _) = self.agent();
        let span_id = format!("{:016x}", u64::from_ne_bytes(service::random::bytes()));
        if self.manners().announces {
            self.announce_in(session, run, trace_id, &span_id).await;
        }
        let more: &[&str] = if session == SESSION { &[] } else { &CANARY_TOOLS };
        let tools: Vec<Value> =
            TOOLS.iter().chain(more).map(|name| json!({ "type": "function", "function": { "name": name, "parameters": { "type": "object" } } })).collect();
        let body = json!({ "model": "scripted-1", "stream": true, "stream_options": { "include_usage": true }, "messages": conversation, "tools": tools });
        let authorization = format!("Bearer {}", self.0.keys.proxy_token);
        let traceparent = format!("00-{trace_id}-{span_id}-01");
        let headers = [("authorization", authorization.as_str()), ("traceparent", traceparent.as_str()), ("content-type", "application/json")];
        request(egress, "POST", &format!("/llm/{provider}/chat/completions"), &headers, body.to_string().as_bytes()).await
    }

    /// Puts the pieces of a streamed answer together and tells them on.
    fn read_stream(&self, run: &str, text: &str) -> Value {
        assemble(text, |piece, so_far| {
            let message = json!({ "role": "assistant", "content": [{ "type": "text", "text": so_far }] });
            self.chat(run, json!({ "state": "delta", "deltaText": piece, "message": message }));
        })
    }

    async fn tool(&self, run: &str, trace_id: &str, call: &Value) -> String {
        let (name, id) = (call["function"]["name"].as_str().unwrap_or_default(), call["id"].as_str().unwrap_or_default());
        let params: Value = serde_json::from_str(call["function"]["arguments"].as_str().unwrap_or_default()).unwrap_or_default();
        let mut is_error = false;
        let told = |phase: &str, extra: Value| {
            let mut data = json!({ "phase": phase, "name": name, "toolCallId": id });
            data.as_object_mut().unwrap().extend(extra.as_object().cloned().unwrap_or_default());
            self.emit("agent", json!({ "runId": run, "sessionKey": SESSION, "stream": "tool", "data": data }));
        };
        told("start", json!({ "args": params }));
        if self.manners().asks {
            let answer = self.decide(run, trace_id, id, name, &params).await;
            let verdict: Value = if answer.status == 200 { answer.json() } else { json!({ "allow": false, "reason": NOT_CHECKED }) };
            if verdict["allow"] != true {
                let reason = verdict["reason"].as_str().unwrap_or_default().to_owned();
                self.0.refused.lock().unwrap().push(reason.clone());
                if self.manners().obeys {
                    told("result", json!({ "isError": true, "result": reason }));
                    return reason;
                }
            }
        }
        let done = match name {
            _ if name.starts_with(OURS) => {
                let result = self.use_tool(&name[OURS.len()..], &params).await.json()["result"].clone();
                is_error = result["isError"] == true;
                result["content"][0]["text"].as_str().unwrap_or("MCP error").to_owned()
            }
            "read" => std::fs::read_to_string(self.0.workspace.lock().unwrap().join(params["path"].as_str().unwrap_or_default()))
                .unwrap_or_else(|_| "no such file".to_owned()),
            _ => format!("ran {name}"),
        };
        // Under the plain name: one of ours does what OpenClaw's does.
        let plain = name.strip_prefix(OURS).map_or(name, |name| name.strip_suffix("_file").unwrap_or(name));
        self.0.executed.lock().unwrap().push(format!("{plain} {params}"));
        let raw = json!({ "content": [{ "type": "text", "text": done }] });
        let screened: Value = self.plugin("/screen", &json!({ "result": raw })).await.json();
        let done = match (&screened["ok"], &screened["result"]) {
            (Value::Bool(true), Value::Null) => done,
            (Value::Bool(true), result) => result["content"][0]["text"].as_str().unwrap_or_default().to_owned(),
            _ => NO_OUTPUT.to_owned(),
        };
        let outcome = json!({ "agent_id": "main", "session_key": SESSION, "run_id": run, "call_id": id, "tool": name, "is_error": is_error, "duration_ms": 1 });
        self.plugin("/result", &outcome).await;
        // The real one tells the raw result here, whatever the plugin made of it.
        told("result", json!({ "isError": is_error, "result": raw }));
        done
    }

    pub async fn decide(&self, run: &str, trace_id: &str, call_id: &str, tool: &str, params: &Value) -> Answer {
        self.decide_in(SESSION, run, trace_id, call_id, tool, params).await
    }

    async fn decide_in(&self, session: &str, run: &str, trace_id: &str, call_id: &str, tool: &str, params: &Value) -> Answer {
        let body = json!({
            "agent_id": "main", "session_key": session, "session_id": "s", "run_id": run, "trace_id": trace_id, "call_id": call_id, "tool": tool, "params": params,
        });
        self.plugin("/decide", &body).await
    }

    pub async fn announce(&self, run: &str, trace_id: &str, span_id: &str) -> Answer {
        self.announce_in(SESSION, run, trace_id, span_id).await
    }

    async fn announce_in(&self, session: &str, run: &str, trace_id: &str, span_id: &str) -> Answer {
        let kind = if span_id.is_empty() { "before_agent_run" } else { "model_call_started" };
        let body =
            json!({ "agent_id": "main", "session_key": session, "session_id": "s", "run_id": run, "trace_id": trace_id, "span_id": span_id, "kind": kind });
        self.plugin("/announce", &body).await
    }

    /// Calls a tool of the agent's.
    pub async fn use_tool(&self, name: &str, arguments: &Value) -> Answer {
        self.speak_mcp(&json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": { "name": name, "arguments": arguments } })).await
    }

    /// Says something to the agent's server of tools.
    pub async fn speak_mcp(&self, message: &Value) -> Answer {
        let (egress, _) = self.agent();
        let authorization = format!("Bearer {}", self.0.keys.tools_token);
        let headers = [("authorization", authorization.as_str()), ("content-type", "application/json"), ("accept", "application/json, text/event-stream")];
        request(egress, "POST", "/mcp", &headers, message.to_string().as_bytes()).await
    }

    /// Says something as the plugin.
    pub async fn plugin(&self, path: &str, body: &Value) -> Answer {
        let (_, socket) = self.agent();
        let headers =
            [("x-gatehouse-key", self.0.keys.plugin_key.as_str()), (wire::plugin::VERSION_HEADER, wire::plugin::VERSION), ("content-type", "application/json")];
        request_unix(&socket, "POST", path, &headers, body.to_string().as_bytes()).await
    }

    fn agent(&self) -> (SocketAddr, PathBuf) {
        self.0.agent.lock().unwrap().clone().expect("the agent has started")
    }

    fn chat(&self, run: &str, mut payload: Value) {
        let mut count = self.0.count.lock().unwrap();
        *count += 1;
        payload["runId"] = json!(run);
        payload["sessionKey"] = json!(SESSION);
        payload["seq"] = json!(*count);
        drop(count);
        self.emit("chat", payload);
    }
}

/// The pieces of a streamed answer put together; each piece of its text is told, with the text so far.
fn assemble(text: &str, mut tell: impl FnMut(&str, &str)) -> Value {
    let (mut content, mut calls) = (String::new(), Vec::<Value>::new());
    for data in text.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|data| *data != "[DONE]") {
        let chunk: Value = serde_json::from_str(data).expect("the stream is JSON");
        let delta = &chunk["choices"][0]["delta"];
        if let Some(piece) = delta["content"].as_str().filter(|piece| !piece.is_empty()) {
            content.push_str(piece);
            tell(piece, &content);
        }
        for call in delta["tool_calls"].as_array().into_iter().flatten() {
            let index = call["index"].as_u64().unwrap_or_default() as usize;
            if calls.len() <= index {
                calls.resize(index + 1, json!({ "type": "function", "function": { "arguments": "" } }));
            }
            if let Some(id) = call["id"].as_str() {
                calls[index]["id"] = json!(id);
            }
            if let Some(name) = call["function"]["name"].as_str() {
                calls[index]["function"]["name"] = json!(name);
            }
            let so_far = calls[index]["function"]["arguments"].as_str().unwrap_or_default().to_owned();
            calls[index]["function"]["arguments"] = json!(so_far + call["function"]["arguments"].as_str().unwrap_or_default());
        }
    }
    let mut said = json!({ "role": "assistant", "content": content });
    if !calls.is_empty() {
        said["tool_calls"] = json!(calls);
    }
    said
}

fn health(manners: &Manners) -> Value {
    let loaded: Vec<&str> = if manners.plugin_loaded { vec!["gatehouse"] } else { vec![] };
    json!({ "ok": true, "plugins": { "loaded": loaded, "errors": [], "unavailable": [] } })
}
