//! The door for somebody on this machine: verbs over a unix socket that only the agent's own user may open.
//!
//! The same binary speaks both ends: `tenant-agent unfreeze …` is a client of the running agent, so there is one writer.

use crate::agent::Parts;
use crate::audit::{self, Deed};
use crate::ledger;
use crate::people::Role;
use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use service::store::StoreError;
use service::text::Language;
use service::{SecretString, Stop};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

#[derive(Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Verb {
    /// A fresh one-time link for the first owner.
    OwnerLink {},
    Status {},
    /// Lets a frozen session go on.
    Unfreeze {
        session: String,
    },
    /// Writes the guard plugin over whatever is there and starts OpenClaw again.
    RestorePlugin {},
    /// The calls that were decided last, before a number, the newest first.
    DecidedCalls {
        before: i64,
        limit: u32,
    },
    VaultSet {
        name: String,
        value: String,
    },
    PersonAdd {
        name: String,
        role: Role,
        lang: Language,
        password: String,
    },
}

/// A person and a provisioning step or two.
const CALLERS_MAX: usize = 4;
const LINE_BYTES_MAX: u64 = 128 * 1024;
/// Of one answer.
const DECIDED_CALLS_MAX: u32 = 100;
const WAIT: Duration = Duration::from_secs(15);

pub(crate) async fn serve(listener: UnixListener, parts: Arc<Parts>, stop: Stop) {
    let callers = Arc::new(Semaphore::new(CALLERS_MAX));
    while let Some(Ok((stream, _))) = stop.or(listener.accept()).await {
        let (parts, callers) = (parts.clone(), callers.clone());
        tokio::spawn(async move {
            let Ok(_place) = callers.acquire().await else { return };
            if tokio::time::timeout(WAIT, answer(stream, &parts)).await.is_err() {
                tracing::warn!("a console caller was too slow");
            }
        });
    }
}

async fn answer(stream: UnixStream, parts: &Parts) {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    let read = (&mut stream).take(LINE_BYTES_MAX).read_line(&mut line).await;
    let outcome = match (read, serde_json::from_str::<Verb>(&line)) {
        (Ok(_), Ok(verb)) => act(verb, parts).await,
        _ => Ok(failed("body_malformed", "this is no verb of the console")),
    };
    let answer = outcome.unwrap_or_else(|error| failed("internal", &format!("{error:#}")));
    // The caller may have gone.
    let _ = stream.write_all(format!("{answer}\n").as_bytes()).await;
    let _ = stream.shutdown().await;
}

async fn act(verb: Verb, parts: &Parts) -> anyhow::Result<Value> {
    match verb {
        Verb::OwnerLink {} => Ok(match parts.people.first_link().await? {
            Some(token) => json!({ "ok": true, "link": format!("{}/first#{token}", parts.origin) }),
            None => failed("owner_exists", "an owner exists already; the link works only while there is nobody"),
        }),
        Verb::Status {} => {
            let frozen: Vec<String> = parts.ledger.frozen().await?.into_iter().map(|(session, _)| session).collect();
            let identity = &parts.identity;
            Ok(json!({
                "ok": true, "host_id": identity.host_id, "tenant_id": identity.tenant_id, "version": env!("CARGO_PKG_VERSION"),
                "gateway": parts.gateway.state(), "policy": parts.in_force.report(), "frozen_sessions": frozen, "open_approvals": parts.approvals.open().await?.len(), "usage_today": parts.metering.today().await?,
                // The number of the first line of the audit that was changed, if any was.
                "audit_broken_at": parts.store.read(audit::first_break).await?,
            }))
        }
        Verb::PersonAdd { name, role, lang, password } => Ok(match parts.people.add("console", &name, SecretString::new(password), role, lang).await {
            Ok(person) => json!({ "ok": true, "person": person }),
            Err(refusal) => failed(refusal.code, &refusal.text(Language::En).message),
        }),
        Verb::Unfreeze { session } => {
            let thawed = parts.ledger.unfreeze("console", &session).await?;
            Ok(if thawed {
                json!({ "ok": true, "session": session })
            } else {
                failed("session_not_frozen", "no session of this name is frozen; `tenant-agent status` lists them")
            })
        }
        Verb::DecidedCalls { before, limit } => {
            let calls = parts.store.read(move |c| ledger::decided(c, before, limit.min(DECIDED_CALLS_MAX))).await?;
            Ok(json!({ "ok": true, "calls": calls }))
        }
        Verb::RestorePlugin {} => {
            parts.home.write_plugin()?;
            note(parts, "plugin_restored").await?;
            parts.gateway.restart();
            Ok(json!({ "ok": true }))
        }
        Verb::VaultSet { name, value } => {
            parts.vault.set("console", &name, SecretString::new(value)).await?;
            Ok(json!({ "ok": true, "name": name }))
        }
    }
}

/// Notes a deed of the agent or of whoever is at its console.
pub(crate) async fn note(parts: &Parts, deed: &'static str) -> Result<(), StoreError> {
    let now_ms = parts.clock.wall_ms();
    parts.store.write(move |tx| Ok(audit::note(tx, now_ms, &Deed { actor: "console", deed, subject: "", detail: env!("CARGO_PKG_VERSION") })?)).await
}

fn failed(code: &str, message: &str) -> Value {
    json!({ "ok": false, "code": code, "message": message })
}

/// Says a verb to the agent that runs from this state folder.
pub async fn say(socket: &Path, verb: &Verb) -> anyhow::Result<Value> {
    let missing = || format!("no agent answers on `{}`: is it running, with the same configuration?", socket.display());
    let stream = UnixStream::connect(socket).await.with_context(missing)?;
    let mut stream = BufReader::new(stream);
    stream.write_all(format!("{}\n", serde_json::to_string(verb)?).as_bytes()).await?;
    let mut line = String::new();
    let read = tokio::time::timeout(WAIT, stream.read_line(&mut line)).await.context("the agent did not answer in time")??;
    if read == 0 {
        bail!("the agent closed the console without an answer");
    }
    serde_json::from_str(&line).context("the agent's answer is unreadable")
}
