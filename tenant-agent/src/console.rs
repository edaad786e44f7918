//! The door for somebody on this machine: verbs over a unix socket that only the agent's own user may open.
//!
//! The same binary speaks both ends: `tenant-agent unfreeze …` is a client of the running agent, so there is one writer.

mod vault;

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
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
pub use vault::VaultVerb;
use zeroize::Zeroizing;

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
    Vault {
        what: VaultVerb,
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
/// A full vault as a backup in base64, twice escaped, with room to spare. Only the agent's own user comes in here.
const LINE_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Of one answer.
const DECIDED_CALLS_MAX: u32 = 100;
const WAIT: Duration = Duration::from_secs(15);

pub(crate) async fn serve(listener: UnixListener, parts: Arc<Parts>, stop: Stop) {
    let callers = Arc::new(Semaphore::new(CALLERS_MAX));
    while let Some(Ok((stream, _))) = stop.or(listener.accept()).await {
        let (parts, callers) = (parts.clone(), callers.clone());
        tokio::spawn(async move {
            let Ok(_place) = callers.acquire().await else { return };
            answer(stream, &parts).await;
        });
    }
}

/// Only the caller has a time limit: a deed that was begun is done, and whoever watches for it hears of it.
async fn answer(mut stream: UnixStream, parts: &Parts) {
    let Ok(said) = tokio::time::timeout(WAIT, line(&mut stream)).await else {
        tracing::warn!("a console caller was too slow");
        return;
    };
    let outcome = match said.map(|line| serde_json::from_slice::<Verb>(&line)) {
        Ok(Ok(verb)) => act(verb, parts).await,
        _ => Ok(failed("body_malformed", "this is no verb of the console")),
    };
    let answer = outcome.unwrap_or_else(|error| failed("internal", &format!("{error:#}")));
    let answer = Zeroizing::new(format!("{answer}\n"));
    // The caller may have gone, or take nothing.
    let _ = tokio::time::timeout(WAIT, stream.write_all(answer.as_bytes())).await;
    let _ = stream.shutdown().await;
}

/// One line, without leaving copies of it in memory: lines carry secrets.
async fn line(stream: &mut (impl AsyncRead + Unpin)) -> std::io::Result<Zeroizing<Vec<u8>>> {
    let mut line = Zeroizing::new(Vec::with_capacity(LINE_BYTES_FIRST));
    loop {
        if line.len() == line.capacity() {
            if line.len() >= LINE_BYTES_MAX {
                return Err(std::io::Error::other("the line is too long"));
            }
            // Growing in place would leave the old bytes behind.
            let mut larger = Zeroizing::new(Vec::with_capacity(line.len() * 2));
            larger.extend_from_slice(&line);
            line = larger;
        }
        let before = line.len();
        let read = stream.read_buf(&mut *line).await?;
        if read == 0 || line[before..].contains(&b'\n') {
            return Ok(line);
        }
    }
}

const LINE_BYTES_FIRST: usize = 8 * 1024;

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
                "gateway": parts.gateway.state(), "network": parts.network.verdict(), "policy": parts.in_force.report(), "frozen_sessions": frozen, "open_approvals": parts.approvals.open().await?.len(), "usage_today": parts.metering.today().await?,
                // The number of the first line of the audit that was changed, if any was.
                "vault": parts.vault.check().await?,
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
        Verb::Vault { what } => Ok(vault::act(what, parts).await),
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
    let mut stream = UnixStream::connect(socket).await.with_context(missing)?;
    let mut said = Zeroizing::new(serde_json::to_vec(verb)?);
    said.push(b'\n');
    stream.write_all(&said).await?;
    let line = tokio::time::timeout(WAIT, line(&mut stream)).await.context("the agent did not answer in time")??;
    if line.is_empty() {
        bail!("the agent closed the console without an answer");
    }
    serde_json::from_slice(&line).context("the agent's answer is unreadable")
}
