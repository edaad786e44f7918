//! The one cupboard that speaks to OpenClaw: its process, its configuration, our connections to it, and whether it is
//! well. Everybody else asks here.
//!
//! Well means: it answers, and our plugin is loaded. A gateway without the plugin is `Ungated`; the egress proxy then
//! serves it no model call, so it can do nothing.

mod connection;
pub mod openclaw;
mod process;

pub use connection::{BROWSER_USER, CONTROL_USER, CallError, Caller, Event, TRUSTED_HEADER, USER_HEADER};
pub use process::{Keys, Program, WayOut};

use crate::network::Network;
use crate::screen::Screen;
use anyhow::{Context, bail};
use axum::body::Body;
use connection::{Access, Proof, Reach};
use http_body_util::BodyExt;
use openclaw::{Home, PLUGIN_ID};
use serde::Deserialize;
use serde_json::json;
use service::config::write_private;
use service::outward::HttpClient;
use service::{Clock, SecretString, Stop, config};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{Notify, broadcast, mpsc, watch};
use wire::fleet::{Gateway as State, GatewayState};

/// How OpenClaw is run.
#[derive(Clone, Debug)]
pub enum Mode {
    /// There is none: the agent serves its other doors.
    None,
    /// As our child.
    Child { program: Program },
    /// As a unit of its own, behind the closed network. We write what it starts from, with its keys in `environment`.
    Unit { address: SocketAddr, program: Program, environment: PathBuf },
    /// By somebody else, who gets its keys from the same file.
    Attach { address: SocketAddr, environment: PathBuf, trust: Trust },
}

/// What OpenClaw that somebody else runs knows us by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    Token,
    Address,
}

#[derive(Clone)]
pub struct Gateway(Arc<Inner>);

struct Inner {
    state: watch::Sender<State>,
    keys: Mutex<Option<Keys>>,
    access: Mutex<Option<Access>>,
    control: Mutex<Option<Caller>>,
    /// The process, where it is our child or the doctor names it; `None` in the middle while there is none.
    pid: Mutex<Option<Option<i32>>>,
    restart: Notify,
    /// The start since when our plugin is loaded; `None` while it is not.
    well: watch::Sender<Option<u64>>,
    starts: AtomicU64,
    /// Why a gateway whose plugin is loaded is not believed to ask it.
    doubt: Mutex<Option<Doubt>>,
    canary_words: broadcast::Sender<LastWord>,
    clock: Clock,
    network: Network,
}

/// How a run in a session of canaries ended.
#[derive(Clone, Debug)]
pub struct LastWord {
    pub run: String,
    /// Not in an error, nor stopped.
    pub is_final: bool,
    pub text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doubt {
    /// No round of canaries has been made since it started.
    Untried,
    Known(DoubtCode),
}

/// What a round of canaries may have found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DoubtCode {
    /// A surface did not ask, or ran what was refused.
    Failed,
    /// The round was not carried out.
    Unanswered,
}

impl DoubtCode {
    fn code(self) -> &'static str {
        match self {
            DoubtCode::Failed => CANARY_FAILED,
            DoubtCode::Unanswered => CANARY_UNANSWERED,
        }
    }
}

/// A gateway that dies is started again after this, doubled each time up to the maximum.
const RESTART_MS: u64 = 500;
const RESTART_MS_MAX: u64 = 30_000;
/// A run that lasted this long was no failed start.
const STEADY_MS: u64 = 60_000;
/// OpenClaw on a slow machine that does other things too.
const READY_WAIT: Duration = Duration::from_secs(240);
const READY_EACH: Duration = Duration::from_millis(200);
/// How often its health is asked for, beside the events that it sends.
const HEALTH_EACH_MS: u64 = 15_000;
const HEALTH_MISSES_MAX: u32 = 3;
const CALL_WAIT: Duration = Duration::from_secs(10);

/// Finding codes.
pub const DOWN: &str = "gateway_down";
pub const STARTING: &str = "gateway_starting";
pub const UNGATED: &str = "plugin_not_loaded";
pub const CHANGED: &str = "plugin_changed";
pub const CANARY_FAILED: &str = "canary_failed";
pub const CANARY_UNANSWERED: &str = "canary_unanswered";

/// How the names of sessions begin in which canaries are sent; no person has one like that.
pub const CANARY_SESSIONS: &str = "agent:main:gatehouse-canary-";
/// Last words that may wait for whoever sends canaries, who reads them at once.
const CANARY_WORDS_MAX: usize = 16;

impl Gateway {
    pub fn new(clock: Clock, network: Network) -> Gateway {
        let state = watch::Sender::new(State { state: GatewayState::Absent, reason: None });
        Gateway(Arc::new(Inner {
            state,
            keys: Mutex::default(),
            access: Mutex::default(),
            control: Mutex::default(),
            pid: Mutex::default(),
            restart: Notify::new(),
            well: watch::Sender::new(None),
            starts: AtomicU64::new(0),
            doubt: Mutex::new(Some(Doubt::Untried)),
            canary_words: broadcast::Sender::new(CANARY_WORDS_MAX),
            clock,
            network,
        }))
    }

    pub fn state(&self) -> State {
        self.0.state.borrow().clone()
    }

    pub fn watch(&self) -> watch::Receiver<State> {
        self.0.state.subscribe()
    }

    pub fn is_gated(&self) -> bool {
        self.0.state.borrow().state == GatewayState::Ready
    }

    /// The key that the plugin of the present start must show.
    pub fn plugin_key(&self) -> Option<SecretString> {
        lock(&self.0.keys).as_ref().map(|keys| keys.plugin_key.clone())
    }

    /// The token that model calls of the present start must show.
    pub fn proxy_token(&self) -> Option<SecretString> {
        lock(&self.0.keys).as_ref().map(|keys| keys.proxy_token.clone())
    }

    /// The token that everything else that wants out must show.
    pub fn forward_token(&self) -> Option<SecretString> {
        lock(&self.0.keys).as_ref().and_then(|keys| keys.forward_token.clone())
    }

    /// What its calls of our tools must carry.
    pub fn tools_token(&self) -> Option<SecretString> {
        lock(&self.0.keys).as_ref().map(|keys| keys.tools_token.clone())
    }

    /// OpenClaw's process, where it is known.
    pub fn pid(&self) -> Option<i32> {
        lock(&self.0.pid).flatten()
    }

    /// Whether a process at the other end of the plugin's socket is OpenClaw. Of a gateway that somebody else runs only
    /// the user is known.
    pub fn is_process(&self, pid: Option<i32>) -> bool {
        match *lock(&self.0.pid) {
            Some(ours) => ours.is_some() && ours == pid,
            None => true,
        }
    }

    /// Draws the keys of an OpenClaw that is a unit, and lays them where systemd finds them. Before it starts.
    pub fn hand_over(&self, environment: &std::path::Path, screen: &Screen) -> anyhow::Result<()> {
        let keys = Keys::draw();
        screen.hold(keys.named());
        write_private(environment, keys.of_a_unit().as_bytes()).context("handing over the keys of OpenClaw")?;
        *lock(&self.0.keys) = Some(keys);
        Ok(())
    }

    /// Ends OpenClaw where it is our child; it is started again at once.
    pub fn restart(&self) {
        self.0.restart.notify_one();
    }

    /// A connection of its own for one browser.
    pub async fn browser(&self) -> anyhow::Result<(Caller, mpsc::Receiver<Event>)> {
        let access = lock(&self.0.access).clone().context("OpenClaw is not ready")?;
        connection::connect(&access, Reach::Browser).await
    }

    /// Says something to a session in our own name.
    pub async fn tell(&self, session: &str, message: &str, key: &str) -> Result<(), CallError> {
        let params = json!({ "sessionKey": session, "message": message, "idempotencyKey": key });
        self.control("chat.send", params).await.map(|_| ())
    }

    /// Whether it runs with our plugin, whatever the canaries make of it.
    pub fn is_well(&self) -> bool {
        self.0.well.borrow().is_some()
    }

    /// The start since when our plugin is loaded, as it changes.
    pub fn watch_well(&self) -> watch::Receiver<Option<u64>> {
        self.0.well.subscribe()
    }

    /// What a round of canaries found about this start: with no doubt left it is ready.
    pub fn vouch(&self, start: u64, doubt: Option<DoubtCode>) {
        if *self.0.well.borrow() == Some(start) {
            *lock(&self.0.doubt) = doubt.map(Doubt::Known);
            self.settle();
        }
    }

    /// A session for canaries, whose model is the egress proxy.
    pub async fn begin_canaries(&self, session: &str) -> Result<(), CallError> {
        let model = format!("{}/{}", openclaw::CANARY, openclaw::CANARY_MODEL);
        self.control("sessions.patch", json!({ "key": session, "model": model })).await.map(|_| ())
    }

    /// Last words of the canaries from now on.
    pub fn watch_canaries(&self) -> broadcast::Receiver<LastWord> {
        self.0.canary_words.subscribe()
    }

    /// Has a tool called over the control connection, in a session of the canaries. Returns what OpenClaw says to it.
    pub async fn invoke(&self, session: &str, tool: &str, key: &str) -> Result<String, CallError> {
        let params = json!({ "name": tool, "args": {}, "sessionKey": session, "idempotencyKey": key });
        self.control("tools.invoke", params).await.map(|answer| answer.get().to_owned())
    }

    /// Deletes a session with what was said in it.
    pub async fn forget(&self, session: &str) -> Result<(), CallError> {
        self.control("sessions.delete", json!({ "key": session, "deleteTranscript": true })).await.map(|_| ())
    }

    async fn control(&self, method: &'static str, params: serde_json::Value) -> Result<Box<serde_json::value::RawValue>, CallError> {
        let control = lock(&self.0.control).clone().ok_or(CallError::Ended)?;
        control.call(method, params, CALL_WAIT).await
    }

    /// The newest messages of a session, and how it is, as OpenClaw tells it.
    pub async fn history(&self, session: &str, limit: u32) -> Result<serde_json::Value, CallError> {
        let control = lock(&self.0.control).clone().ok_or(CallError::Ended)?;
        let answer = control.call("chat.history", json!({ "sessionKey": session, "limit": limit }), CALL_WAIT).await?;
        Ok(serde_json::from_str(answer.get()).unwrap_or_default())
    }

    /// Keeps OpenClaw running until the stop. `started` is told before each start, with fresh keys in force.
    pub async fn run(
        &self,
        mode: Mode,
        home: Home,
        way_out: WayOut,
        client: HttpClient,
        screen: Screen,
        stop: Stop,
        started: impl Fn() -> anyhow::Result<serde_json::Value>,
    ) {
        let mut back_off_ms = RESTART_MS;
        while !stop.is_stopped() {
            let begun = self.0.clock.now().mono_ms;
            let outcome = match &mode {
                Mode::None => return,
                Mode::Child { program } => self.child(program, &home, &way_out, &client, &screen, &stop, &started).await,
                Mode::Unit { address, .. } => {
                    // Drawn at the start of the agent.
                    screen.hold(lock(&self.0.keys).as_ref().map(Keys::named).unwrap_or_default());
                    self.unit(*address, &home, &client, &stop, &started).await
                }
                Mode::Attach { address, environment, trust } => {
                    let keys = read_keys(environment).inspect(|keys| screen.hold(keys.named()));
                    let access = keys.map(|keys| (Access { address: *address, proof: trust.proof(&keys) }, keys));
                    self.attached(access, &client, &stop, &started).await
                }
            };
            *lock(&self.0.access) = None;
            *lock(&self.0.control) = None;
            self.note_unwell();
            if stop.is_stopped() {
                return;
            }
            let reason = outcome.err().map_or_else(|| "it ended".to_owned(), |error| format!("{error:#}"));
            tracing::warn!(reason, retry_ms = back_off_ms, "OpenClaw is down");
            self.become_(GatewayState::Down, Some(DOWN));
            if self.0.clock.now().mono_ms.saturating_sub(begun) > STEADY_MS {
                back_off_ms = RESTART_MS;
            }
            stop.or(self.0.clock.sleep(back_off_ms)).await;
            back_off_ms = (back_off_ms * 2).min(RESTART_MS_MAX);
        }
    }

    async fn child(
        &self,
        program: &Program,
        home: &Home,
        way_out: &WayOut,
        client: &HttpClient,
        screen: &Screen,
        stop: &Stop,
        started: &impl Fn() -> anyhow::Result<serde_json::Value>,
    ) -> anyhow::Result<()> {
        let keys = Keys::draw();
        screen.hold(keys.named());
        *lock(&self.0.keys) = Some(keys.clone());
        home.prepare(&started()?)?;
        self.become_(GatewayState::Starting, Some(STARTING));
        let mut child = process::start(program, home, &keys, way_out, screen)?;
        *lock(&self.0.pid) = Some(child.id().and_then(|pid| pid.try_into().ok()));
        let access = Access { address: SocketAddr::from(([127, 0, 0, 1], program.port)), proof: Proof::Token(keys.gateway_token) };
        let outcome = tokio::select! {
            outcome = self.attend(&access, client, || home.plugin_is_ours()) => outcome,
            () = self.0.restart.notified() => Err(anyhow::anyhow!("it was told to start again")),
            ended = child.wait() => match ended {
                Ok(status) => bail!("it ended with {status}; its log is `{}`", home.log().display()),
                Err(error) => bail!("it cannot be waited for: {error}"),
            },
            () = stop.stopped() => Ok(()),
        };
        process::end(&mut child).await;
        *lock(&self.0.pid) = Some(None);
        *lock(&self.0.keys) = None;
        outcome
    }

    async fn unit(
        &self,
        address: SocketAddr,
        home: &Home,
        client: &HttpClient,
        stop: &Stop,
        started: &impl Fn() -> anyhow::Result<serde_json::Value>,
    ) -> anyhow::Result<()> {
        // Whoever was OpenClaw is it no more, until somebody has looked.
        *lock(&self.0.pid) = Some(None);
        home.prepare(&started()?)?;
        self.become_(GatewayState::Starting, Some(STARTING));
        let access = Access { address, proof: Proof::Address };
        stop.or(self.attend(&access, client, || home.plugin_is_ours())).await.unwrap_or(Ok(()))
    }

    async fn attached(
        &self,
        access: anyhow::Result<(Access, Keys)>,
        client: &HttpClient,
        stop: &Stop,
        started: &impl Fn() -> anyhow::Result<serde_json::Value>,
    ) -> anyhow::Result<()> {
        let (access, keys) = access?;
        *lock(&self.0.keys) = Some(keys);
        started()?;
        self.become_(GatewayState::Starting, Some(STARTING));
        // Its plugin is its package's business.
        stop.or(self.attend(&access, client, || true)).await.unwrap_or(Ok(()))
    }

    /// Waits until it is ready, then watches over it until it is not.
    async fn attend(&self, access: &Access, client: &HttpClient, plugin_is_ours: impl Fn() -> bool) -> anyhow::Result<()> {
        tokio::time::timeout(READY_WAIT, ready(access, client)).await.context("it did not become ready in time")?;
        let network = &self.0.network;
        if network.is_looked_after() {
            // Only the process that answers there is believed on the plugin's socket.
            network.look().await;
            *lock(&self.0.pid) = Some(network.verdict().gateway_pid);
        }
        let (control, mut events) = connection::connect(access, Reach::Control).await?;
        *lock(&self.0.control) = Some(control.clone());
        *lock(&self.0.access) = Some(access.clone());
        let mut missed = 0;
        loop {
            match control.call("health", json!({}), CALL_WAIT).await {
                Ok(health) => {
                    missed = 0;
                    self.judge(health.get(), plugin_is_ours());
                }
                // A busy machine answers late; its work is not thrown away for that, but nothing new is let through.
                Err(CallError::Late) if missed < HEALTH_MISSES_MAX => {
                    missed += 1;
                    self.become_(GatewayState::Ungated, Some(UNGATED));
                }
                Err(error) => return Err(error).context("asking for its health"),
            }
            let next = self.0.clock.sleep(HEALTH_EACH_MS);
            tokio::pin!(next);
            loop {
                tokio::select! {
                    () = &mut next => break,
                    event = events.recv() => match event {
                        Some(event) if event.name == "health" => self.judge(event.payload.get(), plugin_is_ours()),
                        Some(event) if event.name == "chat" => self.listen(event.payload.get()),
                        Some(_) => {}
                        None => bail!("the control connection ended"),
                    }
                }
            }
        }
    }

    /// Ready only with our plugin among the loaded, unchanged, and nothing broken beside it.
    fn judge(&self, health: &str, plugin_is_ours: bool) {
        let plugins = serde_json::from_str::<Health>(health).ok().and_then(|health| health.plugins);
        let loaded = plugins.is_some_and(|plugins| plugins.loaded.iter().any(|id| id == PLUGIN_ID) && plugins.errors.is_empty());
        match (loaded, plugin_is_ours) {
            (true, true) => {
                self.note_well();
                self.settle();
            }
            (_, false) => self.note_unwell_for(CHANGED),
            (false, true) => self.note_unwell_for(UNGATED),
        }
    }

    /// As the plugin is loaded: what the canaries make of it.
    fn settle(&self) {
        let doubt = *lock(&self.0.doubt);
        match doubt {
            None => self.become_(GatewayState::Ready, None),
            Some(Doubt::Untried) => self.become_(GatewayState::Starting, Some(STARTING)),
            Some(Doubt::Known(doubt)) => self.become_(GatewayState::Ungated, Some(doubt.code())),
        }
    }

    fn note_well(&self) {
        self.0.well.send_if_modified(|well| {
            let is_fresh = well.is_none();
            if is_fresh {
                *well = Some(self.0.starts.fetch_add(1, Ordering::Relaxed));
            }
            is_fresh
        });
    }

    fn note_unwell_for(&self, code: &'static str) {
        self.note_unwell();
        self.become_(GatewayState::Ungated, Some(code));
    }

    /// Whatever was tried is to be tried again.
    fn note_unwell(&self) {
        *lock(&self.0.doubt) = Some(Doubt::Untried);
        self.0.well.send_if_modified(|well| well.take().is_some());
    }

    /// Keeps the last word of a run in a session of the canaries.
    fn listen(&self, payload: &str) {
        let Ok(chat) = serde_json::from_str::<Chat>(payload) else { return };
        if !chat.session.starts_with(CANARY_SESSIONS) || !matches!(chat.state.as_str(), "final" | "error" | "aborted") {
            return;
        }
        let text = chat.message.map(|message| message.to_string()).unwrap_or_default();
        // Nobody may be listening.
        let _ = self.0.canary_words.send(LastWord { run: chat.run, is_final: chat.state == "final", text });
    }

    fn become_(&self, state: GatewayState, reason: Option<&str>) {
        let next = State { state, reason: reason.map(str::to_owned) };
        let changed = self.0.state.send_if_modified(|now| {
            let changed = *now != next;
            now.clone_from(&next);
            changed
        });
        if changed {
            tracing::info!(gateway.state = ?state, "the gateway changed");
        }
    }
}

#[derive(Deserialize)]
struct Chat {
    #[serde(rename = "sessionKey")]
    session: String,
    #[serde(rename = "runId")]
    run: String,
    state: String,
    #[serde(default)]
    message: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Health {
    plugins: Option<Plugins>,
}

#[derive(Deserialize)]
struct Plugins {
    #[serde(default)]
    loaded: Vec<String>,
    #[serde(default)]
    errors: Vec<serde_json::Value>,
}

impl Trust {
    fn proof(self, keys: &Keys) -> Proof {
        match self {
            Trust::Token => Proof::Token(keys.gateway_token.clone()),
            Trust::Address => Proof::Address,
        }
    }
}

async fn ready(access: &Access, client: &HttpClient) {
    loop {
        let mut request = axum::http::Request::get(format!("http://{}/readyz", access.address));
        for (name, value) in access.headers(CONTROL_USER) {
            request = request.header(name, value);
        }
        let Ok(request) = request.body(Body::empty()) else { return };
        if let Ok(Ok(answer)) = tokio::time::timeout(CALL_WAIT, client.request(request)).await {
            let sound = answer.status().is_success();
            // Read to its end, so that the connection can be used again.
            let _ = tokio::time::timeout(CALL_WAIT, answer.into_body().collect()).await;
            if sound {
                return;
            }
        }
        // The wait is for another process, whose time no clock of ours moves.
        tokio::time::sleep(READY_EACH).await;
    }
}

/// `NAME=value` lines, as systemd's EnvironmentFile takes them.
fn read_keys(path: &std::path::Path) -> anyhow::Result<Keys> {
    let text = String::from_utf8(config::read_private(path)?).context("the keys of the gateway are text")?;
    let found = |name: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))?;
        let secret = SecretString::new(value.trim().to_owned());
        service::log::know(&secret);
        Some(secret)
    };
    let of = |name: &str| found(name).with_context(|| format!("`{}` lacks {name}", path.display()));
    Ok(Keys {
        gateway_token: of("OPENCLAW_GATEWAY_TOKEN")?,
        plugin_key: of("GATEHOUSE_PLUGIN_KEY")?,
        proxy_token: of("GATEHOUSE_PROXY_TOKEN")?,
        tools_token: of("GATEHOUSE_TOOLS_TOKEN")?,
        // Without one nothing passes the forward proxy.
        forward_token: found("GATEHOUSE_FORWARD_TOKEN").filter(|token| !token.expose().is_empty()),
    })
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_openclaw_itself_is_its_process() {
        let gateway = Gateway::new(Clock::manual(0), Network::new(None));
        assert!(gateway.is_process(Some(7)), "of a gateway that somebody else runs only the user is known");
        *lock(&gateway.0.pid) = Some(Some(7));
        assert!(gateway.is_process(Some(7)) && !gateway.is_process(Some(8)) && !gateway.is_process(None));
        *lock(&gateway.0.pid) = Some(None);
        assert!(!gateway.is_process(Some(7)) && !gateway.is_process(None), "while it is down nobody is");
    }

    #[test]
    fn a_gateway_is_well_only_with_our_plugin_loaded_and_unchanged() {
        let gateway = Gateway::new(Clock::manual(0), Network::new(None));
        for (health, plugin_is_ours, state, reason) in [
            (r#"{"plugins":{"loaded":["gatehouse"],"errors":[]}}"#, true, GatewayState::Starting, Some(STARTING)),
            (r#"{"plugins":{"loaded":["gatehouse"],"errors":[]}}"#, false, GatewayState::Ungated, Some(CHANGED)),
            (r#"{"plugins":{"loaded":["gatehouse"],"errors":[{"id":"other"}]}}"#, true, GatewayState::Ungated, Some(UNGATED)),
            (r#"{"plugins":{"loaded":["other"]}}"#, true, GatewayState::Ungated, Some(UNGATED)),
            (r#"{"plugins":{}}"#, true, GatewayState::Ungated, Some(UNGATED)),
            ("{}", true, GatewayState::Ungated, Some(UNGATED)),
            ("nonsense", true, GatewayState::Ungated, Some(UNGATED)),
        ] {
            gateway.judge(health, plugin_is_ours);
            assert_eq!(gateway.state(), State { state, reason: reason.map(str::to_owned) }, "{health}");
        }
    }
}
