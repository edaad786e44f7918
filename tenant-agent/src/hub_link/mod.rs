//! The link to the hub: one WebSocket that this host opens, proves itself on, and speaks its state into.
//!
//! Nothing of the tenant depends on it: when the hub is away, everything here goes on, and what the hub must know waits in
//! the store. A heartbeat is the whole present state, and usage rows are absolute, so whatever is lost is sent again.

pub mod enrol;

use crate::approvals::Approvals;
use crate::audit;
use crate::bundle::InForce;
use crate::canary::Canaries;
use crate::devices::{Devices, Reset};
use crate::gateway::{self, Gateway};
use crate::identity::{HostKey, Identity};
use crate::ledger::Ledger;
use crate::metering::Metering;
use crate::network::Network;
use crate::pauses::{Pause, Pauses};
use crate::screen::Screen;
use anyhow::{Context, bail};
use futures_util::{SinkExt, StreamExt};
use policy::budget::{self, Span, Whose};
use service::{Clock, Stop, Store, random};
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};
use wire::approval::Asks;
use wire::fleet::{GatewayState, HealthFinding, Severity};
use wire::link::{
    self, Ack, AuditHead, BLOB_BYTES_MAX, Challenge, FRAME_BYTES_MAX, Frame, Heartbeat, Hello, OfferedBundle, PolicyOffer, PolicyPart, PolicyWant, Refuse,
    Usage, Welcome,
};
use wire::usage::UsageRow;

pub struct HubLink {
    pub hub: String,
    pub store: Store,
    pub clock: Clock,
    pub stop: Stop,
    pub identity: Identity,
    pub key: HostKey,
    /// Drawn anew for each start.
    pub boot_id: String,
    pub gateway: Gateway,
    pub canaries: Canaries,
    pub approvals: Approvals,
    pub ledger: Ledger,
    pub pauses: Pauses,
    pub devices: Devices,
    pub metering: Metering,
    pub network: Network,
    pub screen: Screen,
    pub in_force: InForce,
    pub since: Mutex<HashMap<String, i64>>,
}

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

const CONNECT_WAIT: Duration = Duration::from_secs(15);
/// Between two reports of usage: counters are absolute, so a busy minute needs few.
const USAGE_REST: Duration = Duration::from_millis(100);
/// Between two tries: from one second to one minute, anywhere in between, so that a fleet does not come back at once.
const RETRY_MS: u64 = 1_000;
const RETRY_MS_MAX: u64 = 60_000;
/// What the hub may ask for as the time between two heartbeats.
const HEARTBEAT_MS: std::ops::RangeInclusive<u64> = 200..=300_000;
/// A usage frame that nobody acknowledged by then is sent again.
const ACK_WAIT_MS: u64 = 30_000;
/// A part of a bundle that has not come by then is asked for again, from the beginning.
const PART_WAIT_MS: u64 = 60_000;
/// Findings and questions that one heartbeat names.
const NAMED_MAX: usize = 64;

/// What all of a tenant's own rules are called outside.
const OWN_RULES: &str = "own";

/// A bundle on its way.
struct Fetch {
    bundle: OfferedBundle,
    text: String,
    /// When its last part was asked for.
    asked_ms: u64,
}

impl HubLink {
    /// Keeps the link until the stop.
    pub async fn run(&self) {
        let mut back_off_ms = RETRY_MS;
        while !self.stop.is_stopped() {
            let mut welcomed = false;
            // On the heap: the handshake's state is large and rarely in use.
            let outcome = self.stop.or(Box::pin(self.hold(&mut welcomed))).await;
            match outcome {
                None => return,
                Some(Err(error)) => tracing::warn!(error = format!("{error:#}"), "the link to the hub is down"),
                Some(Ok(())) => tracing::info!("the hub closed the link"),
            }
            if welcomed {
                back_off_ms = RETRY_MS;
            }
            let jittered = RETRY_MS.min(back_off_ms) / 2 + random::below(back_off_ms);
            if self.stop.or(self.clock.sleep(jittered)).await.is_none() {
                return;
            }
            back_off_ms = (back_off_ms * 2).min(RETRY_MS_MAX);
        }
    }

    async fn hold(&self, welcomed: &mut bool) -> anyhow::Result<()> {
        let (mut socket, welcome) = tokio::time::timeout(CONNECT_WAIT, self.connect()).await.context("the hub did not complete the handshake in time")??;
        tracing::info!(host.id = %self.identity.host_id, "the link to the hub is up");
        let heartbeat_ms = welcome.heartbeat_ms.clamp(*HEARTBEAT_MS.start(), *HEARTBEAT_MS.end());
        let (mut gateway, mut usage, mut frozen) = (self.gateway.watch(), self.metering.changes(), self.ledger.watch_frozen());
        let (mut approvals, mut law, mut devices) = (self.approvals.changes(), self.in_force.changes(), self.devices.changes());
        let (mut screen, mut network, mut pauses) = (self.screen.changes(), self.network.changes(), self.pauses.watch());
        let (mut offer, mut fetch) = (PolicyOffer::default(), None);
        let mut seq = 0_u64;
        let mut sent: Option<(String, Vec<UsageRow>)> = None;
        let beat = self.clock.sleep(0);
        let ack_late = self.clock.sleep(u64::MAX);
        // Something was counted that is not on its way, and how long it waits for more of its kind.
        let (mut has_counted, usage_rest) = (false, tokio::time::sleep(Duration::ZERO));
        tokio::pin!(beat, ack_late, usage_rest);
        loop {
            tokio::select! {
                message = socket.next() => {
                    let Some(text) = text_of(message)? else { continue };
                    let frame = Frame::parse(&text).context("the hub sent something that is no frame")?;
                    match frame.kind {
                        "ack" => {
                            let Some(Ack { of }) = frame.body(&[]) else { bail!("the hub sent an unreadable ack") };
                            // A hub that takes what we say is worth coming back to soon.
                            *welcomed = true;
                            if let Some((_, rows)) = sent.take_if(|(id, _)| *id == of) {
                                self.metering.acked(rows).await?;
                            }
                            // State before usage: whatever may be wrong with a row, the hub knows how we are.
                            if sent.is_none() {
                                has_counted = true;
                                ack_late.set(self.clock.sleep(u64::MAX));
                            }
                            continue;
                        }
                        "policy" => {
                            offer = frame.body(&[]).unwrap_or_default();
                            self.fetch(&mut socket, &offer, &mut fetch).await?;
                            continue;
                        }
                        "policy_part" => {
                            let Some(part) = frame.body::<PolicyPart>(&[]) else { bail!("the hub sent an unreadable part of a bundle") };
                            self.take_part(&mut socket, part, &mut fetch).await?;
                            continue;
                        }
                        "decision" => {
                            self.decide(frame.body(&[])).await;
                            continue;
                        }
                        "refuse" => bail!("the hub refused the link: {}", frame.body::<Refuse>(&[]).map_or_else(|| "no code".to_owned(), |refuse| refuse.code)),
                        // A later hub may say more than we know.
                        _ => continue,
                    }
                }
                changed = usage.changed() => {
                    changed?;
                    has_counted = true;
                    continue;
                }
                () = &mut usage_rest, if has_counted && sent.is_none() && *welcomed => {
                    has_counted = false;
                    if self.send_usage(&mut socket, &mut sent).await? {
                        ack_late.set(self.clock.sleep(ACK_WAIT_MS));
                    }
                    usage_rest.set(tokio::time::sleep(USAGE_REST));
                    continue;
                }
                () = &mut ack_late => {
                    sent = None;
                    self.send_usage(&mut socket, &mut sent).await?;
                    ack_late.set(self.clock.sleep(ACK_WAIT_MS));
                    continue;
                }
                () = &mut beat => {}
                changed = gateway.changed() => changed?,
                changed = frozen.changed() => changed?,
                changed = law.changed() => changed?,
                changed = devices.changed() => changed?,
                changed = screen.changed() => changed?,
                changed = network.changed() => changed?,
                changed = pauses.changed() => changed?,
                // Lagging behind is as good a reason for a heartbeat as a change.
                _ = approvals.recv() => {}
            }
            seq += 1;
            let heartbeat = self.heartbeat(seq, welcome.audit.as_ref()).await?;
            send(&mut socket, link::frame("heartbeat", &format!("h{seq}"), &heartbeat)).await?;
            beat.set(self.clock.sleep(heartbeat_ms));
            // One that was refused may be good by now.
            self.fetch(&mut socket, &offer, &mut fetch).await?;
        }
    }

    /// Asks for the newest bundle, if there is one that we do not know and none is on its way.
    async fn fetch(&self, socket: &mut Socket, offer: &PolicyOffer, fetch: &mut Option<Fetch>) -> anyhow::Result<()> {
        let asked_ms = self.clock.now().mono_ms;
        let is_new = |bundle: &OfferedBundle| fetch.as_ref().is_none_or(|fetch| fetch.bundle.file != bundle.file || asked_ms - fetch.asked_ms >= PART_WAIT_MS);
        if let Some(bundle) = self.in_force.wants(offer).filter(is_new) {
            let want = PolicyWant { file: bundle.file.clone(), offset: 0 };
            *fetch = Some(Fetch { bundle, text: String::new(), asked_ms });
            send(socket, link::frame("policy_want", "p0", &want)).await?;
        }
        Ok(())
    }

    /// Adds a part to the bundle that is on its way; the last one makes it law, or says why not.
    async fn take_part(&self, socket: &mut Socket, part: PolicyPart, fetch: &mut Option<Fetch>) -> anyhow::Result<()> {
        let Some(mut under_way) = fetch.take_if(|fetch| fetch.bundle.file == part.file && fetch.text.len() == part.offset) else { return Ok(()) };
        under_way.text.push_str(&part.text);
        let (have, all) = (under_way.text.len(), under_way.bundle.bytes);
        // Without an end there is another one by now, which is offered too; more than was said is not looked at.
        if part.text.is_empty() || have > all {
            return Ok(());
        }
        if have < all {
            let want = PolicyWant { file: part.file, offset: have };
            under_way.asked_ms = self.clock.now().mono_ms;
            *fetch = Some(under_way);
            return send(socket, link::frame("policy_want", &format!("p{have}"), &want)).await;
        }
        self.in_force.take(under_way.text.into_bytes()).await?.ok();
        // Before the hub hears of it, what leaves is looked at with the new law's patterns.
        self.screen.look_with(self.in_force.net()).await;
        Ok(())
    }

    /// A decision that came through the hub: proved, spent and weighed as one that came straight from the device. No password
    /// comes this way, so for the most dangerous calls only a passkey counts.
    async fn decide(&self, decision: Option<link::Decision>) {
        let signed = decision.filter(|decision| decision.signed.len() <= BLOB_BYTES_MAX).and_then(|decision| serde_json::from_str(&decision.signed).ok());
        let Some(signed) = signed else { return tracing::warn!("the hub passed on something that is no decision") };
        let outcome = match self.devices.heard(signed).await {
            Ok(heard) => self.approvals.decide_signed(heard, false).await,
            Err(refusal) => Err(refusal),
        };
        match outcome {
            Ok(approval) => tracing::info!(approval.id = %approval.id, state = approval.state.name(), "a decision came through the hub"),
            Err(refusal) => tracing::warn!(code = refusal.code, "a decision that came through the hub was refused"),
        }
    }

    async fn connect(&self) -> anyhow::Result<(Socket, Welcome)> {
        let url = format!("{}/link", self.hub.replacen("http", "ws", 1));
        let config = WebSocketConfig::default()
            .max_message_size(Some(FRAME_BYTES_MAX))
            .max_frame_size(Some(FRAME_BYTES_MAX))
            .read_buffer_size(8 * 1024)
            .write_buffer_size(0);
        let (mut socket, _) = tokio_tungstenite::connect_async_with_config(url, Some(config), true)
            .await
            .with_context(|| format!("the hub at {} cannot be reached", self.hub))?;
        let challenge: Challenge = expect(&mut socket, "challenge").await?;
        let host_id = self.identity.host_id;
        let signature = self.key.sign(&link::hello_statement(&challenge.nonce, host_id, &self.boot_id));
        let hello = Hello {
            min: link::VERSION_MIN,
            max: link::VERSION_MAX,
            host_id,
            boot_id: self.boot_id.clone(),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            signature,
        };
        send(&mut socket, link::frame("hello", "hello", &hello)).await?;
        let welcome = expect(&mut socket, "welcome").await?;
        Ok((socket, welcome))
    }

    async fn heartbeat(&self, seq: u64, kept: Option<&AuditHead>) -> anyhow::Result<Heartbeat> {
        let mut approvals = self.approvals.open().await?;
        approvals.truncate(NAMED_MAX);
        let findings = self.findings().await?;
        let then = kept.map(|head| head.count);
        let (audit, audit_then) = self.store.read(move |c| Ok((audit::head(c)?, then.map(|n| audit::head_at(c, n)).transpose()?))).await?;
        Ok(Heartbeat {
            seq,
            uptime_ms: self.clock.now().mono_ms,
            gateway: self.gateway.state(),
            findings,
            approvals,
            policy: Some(self.in_force.report()),
            audit: Some(audit),
            audit_then,
            asks: Some(self.asks().await?),
        })
    }

    /// How often each rule asked lately, those that asked most. A tenant's own rules are one: their names are its business.
    async fn asks(&self) -> anyhow::Result<Vec<Asks>> {
        let law = self.in_force.law();
        let (own, mut told): (Vec<Asks>, Vec<Asks>) = self.approvals.asks().await?.into_iter().partition(|asks| law.is_own(&asks.rule));
        told.extend(
            own.into_iter()
                .reduce(|mut all, asks| {
                    all.days.iter_mut().zip(&asks.days).for_each(|(all, day)| *all += day);
                    Asks { yes: all.yes + asks.yes, no: all.no + asks.no, ..all }
                })
                .map(|all| Asks { rule: OWN_RULES.to_owned(), ..all }),
        );
        told.sort_by_key(|asks| std::cmp::Reverse(asks.total()));
        told.truncate(Asks::RULES_MAX);
        Ok(told)
    }

    /// What an operator should know, with the time since when it holds.
    async fn findings(&self) -> anyhow::Result<Vec<HealthFinding>> {
        let state = self.gateway.state();
        let mut findings = Vec::new();
        let severity = match state.state {
            GatewayState::Down | GatewayState::Ungated => Some(Severity::Fail),
            GatewayState::Starting => Some(Severity::Warn),
            GatewayState::Absent | GatewayState::Ready => None,
        };
        let gateway_code = state.reason.filter(|_| severity.is_some()).unwrap_or_else(|| gateway::DOWN.to_owned());
        let now_ms = self.clock.wall_ms();
        // Which surfaces did not ask.
        let detail =
            if [gateway::CANARY_FAILED, gateway::CANARY_UNANSWERED].contains(&gateway_code.as_str()) { self.canaries.report().faults() } else { String::new() };
        let mut held: Vec<(String, Severity, Option<i64>, String)> = severity.map(|severity| (gateway_code, severity, None, detail)).into_iter().collect();
        held.extend(self.budgets_used_up().await?);
        held.extend((!self.screen.is_sound()).then(|| ("vault_unscreened".to_owned(), Severity::Fail, None, String::new())));
        let known = self.in_force.findings().into_iter().chain(self.network.findings());
        held.extend(known.map(|(code, severity, since_ms, detail)| (code.to_owned(), severity, since_ms, detail)));
        {
            let mut since = self.since.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            since.retain(|code, _| held.iter().any(|(held, ..)| held == code));
            for (code, severity, since_ms, detail) in held {
                let since_ms = since_ms.unwrap_or_else(|| *since.entry(code.clone()).or_insert(now_ms));
                findings.push(HealthFinding { code, severity, since_ms, detail });
            }
        }
        for (session, since_ms) in self.ledger.frozen().await? {
            findings.push(HealthFinding { code: "session_frozen".to_owned(), severity: Severity::Fail, since_ms, detail: session });
        }
        for Pause { assistant, since_ms, .. } in self.pauses.now().iter() {
            findings.push(HealthFinding { code: "assistant_paused".to_owned(), severity: Severity::Warn, since_ms: *since_ms, detail: assistant.to_string() });
        }
        for Reset { person, asked_ms, .. } in self.devices.resets().await? {
            findings.push(HealthFinding { code: "device_reset".to_owned(), severity: Severity::Warn, since_ms: asked_ms, detail: person.to_string() });
        }
        findings.truncate(NAMED_MAX);
        let redactor = self.screen.now();
        for finding in &mut findings {
            if let Cow::Owned(detail) = redactor.text(&finding.detail).text {
                finding.detail = detail;
            }
        }
        Ok(findings)
    }

    /// Budgets of which half or more is gone: whose and which, worst first.
    async fn budgets_used_up(&self) -> anyhow::Result<Vec<(String, Severity, Option<i64>, String)>> {
        let law = self.in_force.law();
        let mut found = Vec::new();
        for (_, assistant) in &self.identity.assistants {
            let (own, tenant) = law.limits(&assistant.id.to_string());
            for account in self.metering.standing(assistant.id, budget::accounts(own, tenant)).await? {
                let Some(percent) = budget::alert(account.limit, account.spent).filter(|_| account.span >= Span::Day) else { continue };
                let whose = if account.whose == Whose::Tenant { "tenant".to_owned() } else { assistant.id.to_string() };
                let severity = if percent >= 100 { Severity::Fail } else { Severity::Warn };
                let span = if account.span == Span::Day { "day" } else { "month" };
                found.push((format!("budget_{percent}"), severity, None, format!("{whose} {span}")));
            }
        }
        // A tenant with several assistants has its own budget in the list of each.
        found.sort_by(|(code, .., detail), (other, .., other_detail)| (other.len(), other, detail).cmp(&(code.len(), code, other_detail)));
        found.dedup();
        Ok(found)
    }

    async fn send_usage(&self, socket: &mut Socket, sent: &mut Option<(String, Vec<UsageRow>)>) -> anyhow::Result<bool> {
        let rows = self.metering.unsent().await?;
        if rows.is_empty() {
            return Ok(false);
        }
        let id = format!("u{}", random::token());
        let usage = Usage { rows };
        send(socket, link::frame("usage", &id, &usage)).await?;
        *sent = Some((id, usage.rows));
        Ok(true)
    }
}

async fn expect<T: for<'a> serde::Deserialize<'a>>(socket: &mut Socket, kind: &str) -> anyhow::Result<T> {
    loop {
        let Some(text) = text_of(socket.next().await)? else { continue };
        let frame = Frame::parse(&text).context("the hub sent something that is no frame")?;
        if frame.kind == "refuse" {
            bail!("the hub refused the link: {}", frame.body::<Refuse>(&[]).map_or_else(|| "no code".to_owned(), |refuse| refuse.code));
        }
        if frame.kind == kind {
            return frame.body(&[]).with_context(|| format!("the hub's {kind} is unreadable"));
        }
    }
}

/// The text of a message; `None` for one without.
fn text_of(message: Option<Result<Message, tokio_tungstenite::tungstenite::Error>>) -> anyhow::Result<Option<String>> {
    match message {
        Some(Ok(Message::Text(text))) => Ok(Some(text.as_str().to_owned())),
        Some(Ok(Message::Close(_))) | None => bail!("the hub closed the link"),
        Some(Ok(_)) => Ok(None),
        Some(Err(error)) => Err(error).context("the link broke"),
    }
}

async fn send(socket: &mut Socket, text: String) -> anyhow::Result<()> {
    tokio::time::timeout(CONNECT_WAIT, socket.send(Message::text(text))).await.context("the hub takes nothing")?.context("the link broke")
}
