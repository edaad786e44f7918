//! The door for somebody on this machine: verbs over a unix socket that only the agent's own user may open.
//!
//! The same binary speaks both ends: `tenant-agent unfreeze …` is a client of the running agent, so there is one writer.
//!
//! Each line begins with a key that lies in a file beside the socket. A command that an assistant runs
//! may be of the same user and so could open the socket, but its sandbox lets it read no file of the agent's.

mod vault;

use crate::agent::Parts;
use crate::audit::{self, Deed};
use crate::gateway::openclaw::{Dialect, Provider};
use crate::hosts;
use crate::ledger;
use crate::levels::{self, By};
use crate::people::{May, Role};
use crate::providers::State;
use anyhow::{Context, bail};
use axum::http::StatusCode;
use policy::Change;
use policy::budget::{self, Span, Whose};
use policy::host::{Manner, Reach};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use service::store::StoreError;
use service::text::Language;
use service::{Refusal, SecretString, Stop, config, random};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
pub use vault::VaultVerb;
use wire::DeviceId;
use wire::enrol::NamedAssistant;
use zeroize::Zeroizing;

#[derive(Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Verb {
    /// A fresh one-time link for the first owner.
    OwnerLink {},
    Status {},
    /// How the model providers are.
    Providers {
        /// Ask each for its models first.
        #[serde(default)]
        check: bool,
    },
    /// What became of the canaries on each surface.
    Canaries {
        /// Send them first.
        #[serde(default)]
        now: bool,
    },
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
    /// The audit after a number, oldest first, and how many lines there are.
    AuditLines {
        after: i64,
        limit: u32,
    },
    Vault {
        what: VaultVerb,
    },
    Hosts {
        what: HostsVerb,
    },
    /// What each assistant may do, and how far the company lets that go.
    Levels {},
    /// Makes a change where it makes nothing looser; otherwise an owner is asked.
    LevelSet {
        /// By name; the only one when none is named.
        assistant: Option<String>,
        change: Change,
    },
    /// Stops an assistant.
    Pause {
        assistant: Option<String>,
    },
    /// Lets a paused one go on.
    Resume {
        assistant: Option<String>,
    },
    PersonAdd {
        name: String,
        role: Role,
        lang: Language,
        password: String,
    },
    /// Holds a person to some assistants, by name; to all of them with none.
    PersonReach {
        name: String,
        only: Vec<(String, May)>,
    },
    PersonPassword {
        name: String,
        password: String,
    },
    /// Persons and their devices.
    Persons {},
    /// A one-time code with which a person enrols a device.
    DeviceCode {
        name: String,
    },
    DeviceRemove {
        device: DeviceId,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum HostsVerb {
    List {},
    Allow { host: String, reach: Reach, manner: Manner },
    Remove { host: String },
}

/// A person and a provisioning step or two.
const CALLERS_MAX: usize = 4;
/// A full vault as a backup in base64, twice escaped, with room to spare. Only the agent's own user comes in here.
const LINE_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Of one answer.
const DECIDED_CALLS_MAX: u32 = 100;
const AUDIT_LINES_MAX: u32 = 500;
const WAIT: Duration = Duration::from_secs(15);
/// Longer than a round of canaries.
const CANARIES_WAIT: Duration = Duration::from_secs(240);

/// The key, written down for those who may read it. It stays the same over restarts: whoever has just read it may be
/// answered by the next agent.
pub(crate) fn open_key(socket: &Path) -> anyhow::Result<SecretString> {
    let path = key_path(socket);
    if path.exists() {
        let key = config::read_private(&path).context("the key of the console")?;
        return Ok(SecretString::new(String::from_utf8(key).context("the key of the console is text")?));
    }
    let key = SecretString::new(random::token());
    // Whoever may call has to read it.
    config::write_private(&path, key.expose().as_bytes()).context("writing the key of the console")?;
    Ok(key)
}

fn key_path(socket: &Path) -> PathBuf {
    socket.with_extension("key")
}

pub(crate) async fn serve(listener: UnixListener, key: SecretString, parts: Arc<Parts>, stop: Stop) {
    let callers = Arc::new(Semaphore::new(CALLERS_MAX));
    while let Some(Ok((stream, _))) = stop.or(listener.accept()).await {
        let (parts, callers, key) = (parts.clone(), callers.clone(), key.clone());
        tokio::spawn(async move {
            let Ok(_place) = callers.acquire().await else { return };
            answer(stream, &key, &parts).await;
        });
    }
}

/// Only the caller has a time limit: a deed that was begun is done, and whoever watches for it hears of it.
async fn answer(mut stream: UnixStream, key: &SecretString, parts: &Parts) {
    let Ok(said) = tokio::time::timeout(WAIT, line(&mut stream)).await else {
        tracing::warn!("a console caller was too slow");
        return;
    };
    let outcome = match said.map(|line| verb_of(&line, key)) {
        Ok(Ok(Some(verb))) => act(verb, parts).await,
        Ok(Ok(None)) => {
            tracing::warn!("somebody without its key spoke at the console");
            Ok(failed("console_key_wrong", "the key of the console was not shown; it lies beside the socket"))
        }
        _ => Ok(failed("body_malformed", "this is no verb of the console")),
    };
    let answer = outcome.unwrap_or_else(|error| failed("internal", &format!("{error:#}")));
    let answer = Zeroizing::new(format!("{answer}\n"));
    // The caller may have gone, or take nothing.
    let _ = tokio::time::timeout(WAIT, stream.write_all(answer.as_bytes())).await;
    let _ = stream.shutdown().await;
}

/// `None` when the line does not begin with the key.
fn verb_of(line: &[u8], key: &SecretString) -> serde_json::Result<Option<Verb>> {
    let at = line.iter().position(|byte| *byte == b' ').unwrap_or(line.len());
    let (shown, verb) = line.split_at(at);
    // The comparison needs the key.
    let is_right = std::str::from_utf8(shown).is_ok_and(|shown| random::same(key.expose(), shown));
    if is_right { serde_json::from_slice(verb).map(Some) } else { Ok(None) }
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
                "ok": true, "host_id": identity.host_id, "tenant_id": identity.tenant_id, "assistants": identity.assistants.iter().map(|(_, assistant)| assistant).collect::<Vec<_>>(), "version": env!("CARGO_PKG_VERSION"),
                "gateway": parts.gateway.state(), "network": parts.network.verdict(), "policy": parts.in_force.report(), "canaries": parts.canaries.report(), "frozen_sessions": frozen, "paused_assistants": *parts.pauses.now(), "open_approvals": parts.approvals.open().await?.len(), "usage_today": parts.metering.today().await?,
                // One for each assistant and model, as long as nobody changes what it is told.
                "prompt_prefixes": parts.metering.prefixes().await?,
                "budgets": budgets(parts).await?,
                // The number of the first line of the audit that was changed, if any was.
                "vault": parts.vault.check().await?,
                "audit_broken_at": parts.store.read(audit::first_break).await?,
            }))
        }
        Verb::Providers { check } => {
            let law = parts.in_force.law();
            if check {
                let enabled = parts.providers.iter().filter(|provider| !law.routes().is_disabled(&provider.name));
                futures_util::future::try_join_all(enabled.map(|provider| look_at(parts, provider))).await?;
            }
            let mut providers = Vec::new();
            for provider in &parts.providers {
                let (key, standing) = (parts.vault.provider_fingerprint(&provider.name).await?, parts.health.standing(&provider.name));
                let is_keyless = key.is_none() && provider.dialect != Dialect::Ollama;
                let (fingerprint, source) = key.map_or((None, None), |(fingerprint, source)| (Some(fingerprint), Some(source)));
                providers.push(json!({
                    "name": provider.name, "dialect": provider.dialect.name(), "models": provider.models,
                    "disabled": law.routes().is_disabled(&provider.name),
                    "state": if is_keyless { State::Down } else { standing.state },
                    "last_error_class": if is_keyless { Some("missing_key") } else { standing.last_error_class },
                    "failed_ms": standing.failed_ms, "answered_ms": standing.answered_ms,
                    "key": { "fingerprint": fingerprint, "source": source },
                }));
            }
            Ok(json!({ "ok": true, "providers": providers }))
        }
        Verb::Canaries { now } => {
            if now && !parts.gateway.is_well() {
                return Ok(failed("gateway_unwell", "OpenClaw does not run with our plugin, so no canary can be sent; `tenant-agent status` says why"));
            }
            let report = if now { parts.canaries.now().await } else { parts.canaries.report() };
            Ok(json!({ "ok": true, "canaries": report, "gateway": parts.gateway.state() }))
        }
        Verb::PersonAdd { name, role, lang, password } => Ok(match parts.people.add("console", &name, SecretString::new(password), role, lang).await {
            Ok(person) => json!({ "ok": true, "person": person }),
            Err(refusal) => failed(refusal.code, &refusal.text(Language::En).message),
        }),
        Verb::Persons {} => {
            let (persons, devices, resets) = (parts.people.list().await?, parts.devices.list().await?, parts.devices.resets().await?);
            Ok(json!({ "ok": true, "persons": persons, "devices": devices, "resets": resets }))
        }
        Verb::PersonReach { name, only } => {
            let Some(person) = parts.people.named(&name).await? else { return Ok(nobody()) };
            let named = |(name, may): (String, May)| parts.identity.assistants.iter().find(|(_, found)| found.name == name).map(|(_, found)| (found.id, may));
            let Some(only) = only.into_iter().map(named).collect::<Option<Vec<_>>>() else {
                return Ok(stranger());
            };
            Ok(match parts.people.set_reach(person.id, only).await {
                Ok(()) => json!({ "ok": true, "person": person.id }),
                Err(refusal) => failed(refusal.code, &refusal.text(Language::En).message),
            })
        }
        Verb::PersonPassword { name, password } => {
            let Some(person) = parts.people.named(&name).await? else { return Ok(nobody()) };
            Ok(match parts.people.set_password(person.id, SecretString::new(password)).await {
                Ok(()) => json!({ "ok": true, "person": person.id }),
                Err(refusal) => failed(refusal.code, &refusal.text(Language::En).message),
            })
        }
        Verb::DeviceCode { name } => {
            let Some(person) = parts.people.named(&name).await? else { return Ok(nobody()) };
            Ok(match parts.devices.console_code(person.id).await {
                Ok(code) => json!({ "ok": true, "person": person.id, "code": code }),
                Err(refusal) => failed(refusal.code, &refusal.text(Language::En).message),
            })
        }
        Verb::DeviceRemove { device } => Ok(match parts.devices.console_remove(device).await {
            Ok(()) => json!({ "ok": true, "device": device }),
            Err(refusal) => failed(refusal.code, &refusal.text(Language::En).message),
        }),
        Verb::Levels {} => {
            let (law, lines) = (parts.in_force.law(), parts.levels.lines().await?);
            let assistants: Vec<Value> = parts.identity.assistants.iter().map(|(_, assistant)| levels::row(&law, assistant)).collect();
            Ok(json!({ "ok": true, "assistants": assistants, "choices": lines, "paused": *parts.pauses.now() }))
        }
        Verb::LevelSet { assistant, change } => {
            let Some(assistant) = named(parts, assistant.as_deref()) else { return Ok(stranger()) };
            let law = parts.in_force.law();
            Ok(match parts.levels.change(&parts.approvals, &law, By::Console, &assistant, change).await {
                Ok(None) => json!({ "ok": true, "done": true, "assistant": levels::row(&parts.in_force.law(), &assistant) }),
                Ok(Some(approval)) => json!({ "ok": true, "done": false, "approval": approval.id, "class": approval.class }),
                Err(refusal) => failed(refusal.code, &refusal.text(Language::En).message),
            })
        }
        Verb::Pause { assistant } => {
            let Some(assistant) = named(parts, assistant.as_deref()) else { return Ok(stranger()) };
            Ok(match parts.pauses.pause(None, assistant.id).await {
                Ok(()) => json!({ "ok": true, "paused": assistant.id }),
                Err(refusal) => failed(refusal.code, &refusal.text(Language::En).message),
            })
        }
        Verb::Resume { assistant } => {
            let Some(assistant) = named(parts, assistant.as_deref()) else { return Ok(stranger()) };
            Ok(match parts.pauses.resume_here(assistant.id).await {
                Ok(()) => json!({ "ok": true, "resumed": assistant.id }),
                Err(refusal) => failed(refusal.code, &refusal.text(Language::En).message),
            })
        }
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
        Verb::AuditLines { after, limit } => {
            let (lines, head) = parts.store.read(move |c| Ok((audit::lines(c, after, limit.min(AUDIT_LINES_MAX))?, audit::head(c)?))).await?;
            Ok(json!({ "ok": true, "lines": lines, "count": head.count }))
        }
        Verb::RestorePlugin {} => {
            parts.home.write_plugin()?;
            note(parts, "plugin_restored").await?;
            parts.gateway.restart();
            Ok(json!({ "ok": true }))
        }
        Verb::Vault { what } => Ok(vault::act(what, parts).await),
        Verb::Hosts { what } => hosts(what, parts).await,
    }
}

async fn hosts(verb: HostsVerb, parts: &Parts) -> anyhow::Result<Value> {
    let refused = |refusal: Refusal| failed(refusal.code, &refusal.text(Language::En).message);
    match verb {
        HostsVerb::List {} => {
            let law = parts.in_force.law();
            Ok(json!({ "ok": true, "hosts": parts.hosts.list().await?, "of_the_bundle": law.hosts() }))
        }
        HostsVerb::Allow { host, reach, manner } => {
            let allowed = match hosts::line_of(&host, reach, manner) {
                Ok(allowed) => allowed,
                Err(error) => return Ok(failed("host_malformed", &error.to_string())),
            };
            let law = parts.in_force.law();
            if policy::host::is_closed(law.law().http(), &allowed.host) {
                return Ok(failed("host_closed", &Refusal::new(StatusCode::FORBIDDEN, "host_closed").text(Language::En).message.replace("{host}", &host)));
            }
            Ok(match parts.hosts.allow("console", allowed.clone()).await {
                Ok(()) => json!({ "ok": true, "host": allowed }),
                Err(refusal) => refused(refusal),
            })
        }
        HostsVerb::Remove { host } => {
            // As the list writes it, if it can be read at all.
            let pattern = hosts::line_of(&host, Reach::Write, Manner::Inspect).map_or(host, |line| line.pattern());
            Ok(match parts.hosts.remove("console", &pattern).await {
                Ok(true) => json!({ "ok": true, "host": pattern }),
                Ok(false) => failed("host_not_listed", "no line of the tenant's list is written so; `tenant-agent hosts list` shows them"),
                Err(refusal) => refused(refusal),
            })
        }
    }
}

/// How far each limit of a day or a month is used up.
async fn budgets(parts: &Parts) -> anyhow::Result<Vec<Value>> {
    let law = parts.in_force.law();
    let mut found = Vec::new();
    for (_, assistant) in &parts.identity.assistants {
        let (own, tenant) = law.limits(&assistant.id.to_string());
        for account in parts.metering.standing(assistant.id, budget::accounts(own, tenant)).await? {
            let whose = if account.whose == Whose::Tenant { "tenant".to_owned() } else { assistant.id.to_string() };
            let span = match account.span {
                Span::Day => "day",
                Span::Month => "month",
                Span::Call | Span::Run => continue,
            };
            let (limit, spent, reserved) = (account.limit, account.spent, account.reserved);
            found.push(json!({ "whose": whose, "span": span, "limit_nano_usd": limit, "spent_nano_usd": spent, "reserved_nano_usd": reserved }));
        }
    }
    // Of a tenant with several assistants its own stand there once.
    found.sort_by_key(Value::to_string);
    found.dedup();
    Ok(found)
}

async fn look_at(parts: &Parts, provider: &Provider) -> anyhow::Result<()> {
    let key = parts.vault.provider_key(&provider.name).await?.map(|(key, _)| key);
    if key.is_some() || provider.dialect == Dialect::Ollama {
        parts.health.check(&parts.upstream, provider, key.as_ref()).await;
    }
    Ok(())
}

/// Notes a deed of the agent or of whoever is at its console.
pub(crate) async fn note(parts: &Parts, deed: &'static str) -> Result<(), StoreError> {
    let now_ms = parts.clock.wall_ms();
    parts.store.write(move |tx| Ok(audit::note(tx, now_ms, &Deed { actor: "console", deed, subject: "", detail: env!("CARGO_PKG_VERSION") })?)).await
}

/// The assistant of this name; without one, the only one.
fn named(parts: &Parts, name: Option<&str>) -> Option<NamedAssistant> {
    let mut known = parts.identity.assistants.iter().map(|(_, assistant)| assistant);
    match name {
        Some(name) => known.find(|assistant| assistant.name == name).cloned(),
        None => known.next().filter(|_| parts.identity.assistants.len() == 1).cloned(),
    }
}

fn stranger() -> Value {
    failed("assistant_unknown", "this tenant has no assistant of this name; `tenant-agent status` names them")
}

fn nobody() -> Value {
    failed("person_unknown", "nobody here has this name; `tenant-agent person list` names them")
}

fn failed(code: &str, message: &str) -> Value {
    json!({ "ok": false, "code": code, "message": message })
}

/// Says a verb to the agent that runs from this state folder.
pub async fn say(socket: &Path, verb: &Verb) -> anyhow::Result<Value> {
    let missing = || format!("no agent answers on `{}`: is it running, with the same configuration?", socket.display());
    let mut stream = UnixStream::connect(socket).await.with_context(missing)?;
    let key = config::read_private(&key_path(socket)).with_context(missing)?;
    let wait = if matches!(verb, Verb::Canaries { now: true }) { CANARIES_WAIT } else { WAIT };
    let verb = Zeroizing::new(serde_json::to_vec(verb)?);
    let mut said = Zeroizing::new(Vec::with_capacity(key.len() + verb.len() + 2));
    said.extend_from_slice(&key);
    said.push(b' ');
    said.extend_from_slice(&verb);
    said.push(b'\n');
    stream.write_all(&said).await?;
    let line = tokio::time::timeout(wait, line(&mut stream)).await.context("the agent did not answer in time")??;
    if line.is_empty() {
        bail!("the agent closed the console without an answer");
    }
    serde_json::from_slice(&line).context("the agent's answer is unreadable")
}
