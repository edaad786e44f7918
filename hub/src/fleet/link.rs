//! `GET /link`: the WebSocket that an agent keeps open. It proves its key on a challenge, then reports its state and usage.

use super::Reception;
use super::presence::{Call, Place};
use axum::extract::State;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use service::{key, random};
use std::sync::Arc;
use std::time::Duration;
use wire::TenantId;
use wire::approval::Asks;
use wire::link::{self, Ack, AuditHead, Challenge, FRAME_BYTES_MAX, Frame, Heartbeat, Hello, PolicyWant, Refuse, Usage, Welcome, hello_statement};
use wire::usage::{Counters, HOUR_MS, UsageRow};

/// An agent answers a challenge at once.
const HELLO_WAIT: Duration = Duration::from_secs(10);
/// An agent that takes nothing for this long has gone.
const SEND_WAIT: Duration = Duration::from_secs(20);
/// Silence of this many heartbeats ends a link; the agent opens another.
const SILENT_HEARTBEATS_MAX: u64 = 12;
const ROWS_MAX: usize = 1000;
const FINDINGS_MAX: usize = 64;
const APPROVALS_MAX: usize = 256;
const TEXT_BYTES_MAX: usize = 256;
/// Far more than an hour can hold; a greater number is a fault that must not reach a bill.
const COUNT_MAX: i64 = 1_000_000_000_000;
/// A million dollars in an hour; sums of a day still fit.
const COST_NANO_USD_MAX: i64 = 1_000_000_000_000_000;

pub(crate) async fn open(State(reception): State<Arc<Reception>>, upgrade: WebSocketUpgrade) -> Response {
    let upgrade = upgrade.max_message_size(FRAME_BYTES_MAX).max_frame_size(FRAME_BYTES_MAX).read_buffer_size(4096).write_buffer_size(0);
    upgrade.on_upgrade(async move |mut socket| {
        let Some(refusal) = Box::pin(reception.attend(&mut socket)).await else { return };
        let refuse = Refuse { code: refusal.to_owned() };
        // Who does not listen any more needs no reason.
        let _ = send(&mut socket, link::frame("refuse", "refuse", &refuse)).await;
        let _ = socket.send(Message::Close(None)).await;
    })
}

/// An agent whose key has been checked.
struct Agent {
    tenant: TenantId,
    version: String,
    /// How far its audit went when this link began.
    audit: Option<AuditHead>,
}

/// What a frame of an agent is answered with.
enum Answer {
    /// It is on the disk.
    Ack(String),
    Part(String, PolicyWant),
    /// A later agent may say more than we know; it is told nothing, so it will not take it for kept.
    Nothing,
}

impl Reception {
    /// Serves one link to its end; the code when the hub ends it.
    async fn attend(&self, socket: &mut WebSocket) -> Option<&'static str> {
        let nonce = random::token();
        let challenge = Challenge { nonce: nonce.clone(), hub_time_ms: self.clock.wall_ms(), min: link::VERSION_MIN, max: link::VERSION_MAX };
        send(socket, link::frame("challenge", "challenge", &challenge)).await.ok()?;
        let text = tokio::time::timeout(HELLO_WAIT, next(socket)).await.ok()??;
        let hello = match Frame::parse(&text).filter(|frame| frame.kind == "hello").and_then(|frame| frame.body::<Hello>(&[])) {
            Some(hello) => hello,
            None => return Some("frame_malformed"),
        };
        let (mut agent, mut place) = match self.admit(&nonce, hello).await {
            Ok(admitted) => admitted,
            Err(code) => return Some(code),
        };
        agent.audit = self.store.audit_head(agent.tenant).await.map_err(internal).ok()?;
        let welcome = Welcome { version: link::VERSION_MAX, tenant_id: agent.tenant, heartbeat_ms: self.heartbeat_ms, audit: agent.audit.clone() };
        send(socket, link::frame("welcome", "welcome", &welcome)).await.ok()?;
        let mut published = self.bundles.changes();
        published.mark_changed();
        loop {
            let silent = self.clock.sleep(self.heartbeat_ms.saturating_mul(SILENT_HEARTBEATS_MAX));
            let text = tokio::select! {
                text = next(socket) => text?,
                changed = published.changed() => {
                    changed.ok()?;
                    let offer = self.bundles.offer(agent.tenant);
                    if !offer.bundles.is_empty() {
                        send(socket, link::frame("policy", "policy", &offer)).await.ok()?;
                    }
                    continue;
                }
                call = place.called() => match call {
                    Call::Superseded => return Some("superseded"),
                    Call::Decision(decision) => {
                        send(socket, link::frame("decision", "decision", &decision)).await.ok()?;
                        continue;
                    }
                },
                () = self.stop.stopped() => return None,
                () = silent => return None,
            };
            match self.take(&agent, &text).await {
                Ok(Answer::Ack(of)) => send(socket, link::frame("ack", &of, &Ack { of: of.clone() })).await.ok()?,
                Ok(Answer::Part(of, want)) => {
                    let part = self.bundles.part(agent.tenant, want);
                    send(socket, link::frame("policy_part", &of, &part)).await.ok()?;
                }
                Ok(Answer::Nothing) => {}
                Err(code) => return Some(code),
            }
        }
    }

    async fn admit(&self, nonce: &str, hello: Hello) -> Result<(Agent, Place), &'static str> {
        if hello.max < link::VERSION_MIN || hello.min > link::VERSION_MAX {
            return Err("version_unsupported");
        }
        if hello.boot_id.len() > TEXT_BYTES_MAX || hello.agent_version.len() > TEXT_BYTES_MAX {
            return Err("frame_malformed");
        }
        let host = self.store.host(hello.host_id).await.map_err(internal)?;
        let (tenant, public_key) = host.ok_or("host_unknown")?;
        if !key::verifies(&public_key, &hello_statement(nonce, hello.host_id, &hello.boot_id), &hello.signature) {
            tracing::warn!(host.id = %hello.host_id, "a link with a wrong signature was refused");
            return Err("signature_invalid");
        }
        Ok((Agent { tenant, version: hello.agent_version, audit: None }, self.attendance.enter(tenant, hello.host_id)))
    }

    /// Takes a frame in; what is acknowledged is on the disk by then.
    async fn take(&self, agent: &Agent, text: &str) -> Result<Answer, &'static str> {
        let frame = Frame::parse(text).filter(|frame| frame.id.len() <= TEXT_BYTES_MAX).ok_or("frame_malformed")?;
        match frame.kind {
            "heartbeat" => {
                let mut heartbeat: Heartbeat = frame.body(&[]).ok_or("frame_malformed")?;
                heartbeat.findings.truncate(FINDINGS_MAX);
                heartbeat.approvals.truncate(APPROVALS_MAX);
                let texts = heartbeat.findings.iter().flat_map(|finding| [&finding.code, &finding.detail]).chain(&heartbeat.gateway.reason);
                let of_policy = heartbeat.policy.iter().flat_map(|policy| std::iter::once(&policy.digest).chain(&policy.reason));
                if texts.chain(of_policy).any(|text| text.len() > TEXT_BYTES_MAX) {
                    return Err("frame_malformed");
                }
                if heartbeat.asks.iter_mut().any(|asks| !is_bounded(asks)) {
                    return Err("frame_malformed");
                }
                if let Some(now) = heartbeat.audit.take() {
                    let then = heartbeat.audit_then.take();
                    if now.count < 0 || [Some(&now), then.as_ref()].into_iter().flatten().any(|head| head.head.len() > TEXT_BYTES_MAX) {
                        return Err("frame_malformed");
                    }
                    self.store.note_audit(agent.tenant, agent.audit.clone(), now, then, self.clock.wall_ms()).await.map_err(internal)?;
                }
                self.store.note_heartbeat(agent.tenant, agent.version.clone(), heartbeat, self.clock.wall_ms()).await.map_err(internal)?;
            }
            "usage" => {
                let Usage { rows } = frame.body(&[]).ok_or("frame_malformed")?;
                if rows.len() > ROWS_MAX || !rows.iter().all(is_sound) {
                    return Err("frame_malformed");
                }
                if !self.store.add_usage(agent.tenant, rows).await.map_err(internal)? {
                    tracing::warn!(tenant.id = %agent.tenant, "usage of a foreign assistant was refused");
                    return Err("frame_malformed");
                }
            }
            "policy_want" => {
                let want: PolicyWant = frame.body(&[]).ok_or("frame_malformed")?;
                return Ok(Answer::Part(frame.id.to_owned(), want));
            }
            _ => return Ok(Answer::Nothing),
        }
        Ok(Answer::Ack(frame.id.to_owned()))
    }
}

/// Cuts what an agent tells of its questions down to what is kept; whether the rest is what it should be.
fn is_bounded(asks: &mut Vec<Asks>) -> bool {
    asks.truncate(Asks::RULES_MAX);
    asks.iter().all(|asks| asks.rule.len() <= TEXT_BYTES_MAX && asks.days.len() == Asks::DAYS)
}

fn is_sound(row: &UsageRow) -> bool {
    let counts = Counters { cost_nano_usd: 0, ..row.counters }.values();
    row.hour_ms % HOUR_MS == 0
        && counts.iter().chain([&row.seq, &row.catalogue]).all(|count| (0..=COUNT_MAX).contains(count))
        && (0..=COST_NANO_USD_MAX).contains(&row.counters.cost_nano_usd)
        && [&row.provider, &row.model].iter().all(|text| text.len() <= TEXT_BYTES_MAX)
}

fn internal(error: service::store::StoreError) -> &'static str {
    tracing::error!(%error, "a frame could not be kept");
    "internal"
}

/// The next text; `None` when the link has ended or sends something else.
async fn next(socket: &mut WebSocket) -> Option<String> {
    loop {
        match socket.recv().await? {
            Ok(Message::Text(text)) => return Some(text.as_str().to_owned()),
            Ok(Message::Ping(_) | Message::Pong(_)) => {}
            Ok(Message::Binary(_) | Message::Close(_)) | Err(_) => return None,
        }
    }
}

async fn send(socket: &mut WebSocket, text: String) -> Result<(), ()> {
    match tokio::time::timeout(SEND_WAIT, socket.send(Message::text(text))).await {
        Ok(Ok(())) => Ok(()),
        _ => Err(()),
    }
}
