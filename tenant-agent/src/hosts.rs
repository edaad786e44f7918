//! The tenant's own list of hosts that assistants may connect to, and the questions that make it grow.
//!
//! A host that no list allows is asked for once; a yes puts it on the list in the transaction of the answer, so that it is
//! there when the person is told. A no counts for a day. Who adds or removes a line is in the audit.

use crate::approvals::{self, Asked, Drawn, Question};
use crate::audit::{self, Deed};
use axum::http::StatusCode;
use policy::host::{Allowed, Host, HostError, Manner, Reach, Target};
use policy::{Call, Finding, Law};
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::Serialize;
use serde_json::json;
use service::store::StoreError;
use service::{Clock, Refusal, Store, Tx};
use wire::approval::{Approval, Detail};
use wire::{ApprovalId, AssistantId};

#[derive(Clone)]
pub struct Hosts {
    store: Store,
    clock: Clock,
    approvals: approvals::Approvals,
    assistant: AssistantId,
}

/// The tool that a question about a host is under. No assistant has one of this name.
pub const TOOL: &str = "network";
/// A tenant's list. More is a list that nobody reads.
pub const HOSTS_MAX: i64 = 1_000;
/// Open questions about hosts: a page that calls on many others fills nobody's inbox.
const QUESTIONS_MAX: i64 = 20;
/// How long a no counts without being asked again.
const DENIED_KEPT_MS: i64 = 24 * 3_600_000;

pub const FULL: Refusal = Refusal::new(StatusCode::CONFLICT, "hosts_full");

/// A line of the list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    #[serde(flatten)]
    pub allowed: Allowed,
    pub added_ms: i64,
    /// A person, or `console`.
    pub added_by: String,
}

/// What came of asking for a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sought {
    Waiting(ApprovalId),
    /// Somebody said no to this less than a day ago.
    Denied,
    TooMany,
}

impl Hosts {
    pub fn new(store: Store, clock: Clock, approvals: approvals::Approvals, assistant: AssistantId) -> Hosts {
        Hosts { store, clock, approvals, assistant }
    }

    pub async fn list(&self) -> service::store::Result<Vec<Line>> {
        self.store.read(list).await
    }

    /// The lines that can speak about a target.
    pub async fn about(&self, target: &Target) -> service::store::Result<Vec<Allowed>> {
        let patterns = patterns(&target.host, target.port);
        self.store
            .read(move |c| {
                let mut line = c.prepare_cached("SELECT pattern, reach, manner FROM allowed_host WHERE pattern = ?1")?;
                let mut found = Vec::new();
                for pattern in patterns {
                    let rows = line.query_map([pattern], allowed_of)?;
                    found.extend(rows.collect::<rusqlite::Result<Vec<_>>>()?.into_iter().flatten());
                }
                Ok(found)
            })
            .await
    }

    /// Puts a line on the list, in place of one with the same pattern.
    pub async fn allow(&self, by: &str, allowed: Allowed) -> Result<(), Refusal> {
        let (by, now_ms) = (by.to_owned(), self.clock.wall_ms());
        self.store.write(move |tx| put(tx, &by, &allowed, now_ms)).await
    }

    /// Whether there was one.
    pub async fn remove(&self, by: &str, pattern: &str) -> Result<bool, Refusal> {
        let (by, pattern, now_ms) = (by.to_owned(), pattern.to_owned(), self.clock.wall_ms());
        self.store
            .write(move |tx| {
                let gone = tx.execute("DELETE FROM allowed_host WHERE pattern = ?1", [&pattern])? > 0;
                if gone {
                    audit::note(tx, now_ms, &Deed { actor: &by, deed: "host_removed", subject: &pattern, detail: "" })?;
                }
                Ok::<_, Refusal>(gone)
            })
            .await
    }

    /// Asks a person for a host, unless that was done.
    pub async fn ask(&self, law: &Law, target: &Target, reach: Reach) -> service::store::Result<Sought> {
        let question = question(law, self.assistant, target, reach);
        let now_ms = self.clock.wall_ms();
        let asked = self
            .store
            .write(move |tx| {
                let digest = question.digest.to_string();
                if approvals::was_denied(tx, TOOL, &digest, now_ms - DENIED_KEPT_MS)? {
                    return Ok(None);
                }
                if approvals::open_of(tx, TOOL, &digest, now_ms)? >= QUESTIONS_MAX {
                    return Ok(Some(Asked::TooMany));
                }
                let asked = approvals::ask(tx, &question, Drawn::now(), now_ms)?;
                if let Asked::Waiting { approval, fresh: true, .. } = &asked {
                    audit::note(tx, now_ms, &Deed { actor: "proxy", deed: "ask", subject: &approval.id.to_string(), detail: reach.rule() })?;
                }
                Ok::<_, StoreError>(Some(asked))
            })
            .await?;
        Ok(match asked {
            None => Sought::Denied,
            Some(Asked::Waiting { approval, fresh, superseded }) => {
                superseded.into_iter().for_each(|older| self.approvals.announce(older));
                let id = approval.id;
                if fresh {
                    self.approvals.announce(approval);
                }
                Sought::Waiting(id)
            }
            Some(Asked::TooMany | Asked::Granted(_)) => Sought::TooMany,
        })
    }
}

/// A question of ours: of no session, which no tool call's is.
pub fn is_about_one(approval: &Approval) -> bool {
    approval.tool == TOOL && approval.session.is_empty()
}

/// A person said yes to a question about a host: it is on the list from now on. Part of the transaction of the answer.
pub fn granted(tx: &Tx, approval: &Approval, by: &str, now_ms: i64) -> Result<(), Refusal> {
    let of = |name: &str| approval.details.iter().find(|detail| detail.name == name).map_or("", |detail| detail.value.as_str());
    let reach = Reach::parse(of("access")).ok_or(Refusal::INTERNAL)?;
    let allowed = Allowed::new(of("host"), reach, Manner::Inspect).map_err(|_| Refusal::INTERNAL)?;
    // The console may have allowed more meanwhile.
    let sql = "SELECT pattern, reach, manner FROM allowed_host WHERE pattern = ?1";
    let before = tx.query_row(sql, [allowed.pattern()], allowed_of).optional()?.flatten();
    if before.is_some_and(|before| before.reach >= reach) {
        return Ok(());
    }
    put(tx, by, &allowed, now_ms)
}

fn question(law: &Law, assistant: AssistantId, target: &Target, reach: Reach) -> Question {
    let (host, assistant_name) = (target.to_string(), assistant.to_string());
    let arguments = json!({ "host": host, "access": reach.name() });
    let call = Call { assistant: &assistant_name, tool: TOOL, arguments: &arguments, workspace: "", resolved: &[] };
    // What is sent there reaches other people.
    let mut finding = Finding { unknown: false, external: reach == Reach::Write, ..Finding::unknown(reach.rule()) };
    if let Some(sentence) = law.sentence(reach.rule()) {
        finding.reason = sentence.clone();
    }
    let detail = |name: &str, value: &str| Detail { name: name.to_owned(), value: value.to_owned() };
    Question {
        assistant,
        // Of no session: the answer changes the list, and nobody waits for it.
        session: String::new(),
        call_id: String::new(),
        tool: TOOL.to_owned(),
        finding,
        details: vec![detail("host", &host), detail("access", reach.name())],
        digest: policy::digest(&call, &[]),
    }
}

fn put(tx: &Tx, by: &str, allowed: &Allowed, now_ms: i64) -> Result<(), Refusal> {
    let pattern = allowed.pattern();
    let others: i64 = tx.query_row("SELECT count(*) FROM allowed_host WHERE pattern <> ?1", [&pattern], |row| row.get(0))?;
    if others >= HOSTS_MAX {
        return Err(FULL);
    }
    let sql = "INSERT OR REPLACE INTO allowed_host (pattern, reach, manner, added_ms, added_by) VALUES (?1, ?2, ?3, ?4, ?5)";
    tx.execute(sql, params![pattern, allowed.reach.name(), allowed.manner.name(), now_ms, by])?;
    let detail = format!("{} {}", allowed.reach.name(), allowed.manner.name());
    audit::note(tx, now_ms, &Deed { actor: by, deed: "host_allowed", subject: &pattern, detail: &detail })?;
    Ok(())
}

fn list(connection: &Connection) -> rusqlite::Result<Vec<Line>> {
    let mut rows = connection.prepare("SELECT pattern, reach, manner, added_ms, added_by FROM allowed_host ORDER BY pattern")?;
    let lines = rows.query_map([], |row| Ok((allowed_of(row)?, row.get(3)?, row.get(4)?)))?;
    let lines: Vec<(Option<Allowed>, i64, String)> = lines.collect::<rusqlite::Result<_>>()?;
    Ok(lines.into_iter().filter_map(|(allowed, added_ms, added_by)| Some(Line { allowed: allowed?, added_ms, added_by })).collect())
}

/// `None`: a line that this version cannot read allows nothing.
fn allowed_of(row: &Row<'_>) -> rusqlite::Result<Option<Allowed>> {
    let (pattern, reach, manner): (String, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
    Ok(Reach::parse(&reach).zip(Manner::parse(&manner)).and_then(|(reach, manner)| Allowed::new(&pattern, reach, manner).ok()))
}

/// Every pattern that can cover a host, as the list writes it.
fn patterns(host: &Host, port: u16) -> Vec<String> {
    let mut patterns = vec![host.to_string()];
    if let Host::Name(name) = host {
        patterns.extend(name.match_indices('.').map(|(at, _)| format!("*{}", &name[at..])));
    }
    let with_port: Vec<String> = patterns.iter().map(|pattern| format!("{pattern}:{port}")).collect();
    patterns.extend(with_port);
    patterns
}

/// As a person writes it at the command line.
pub fn line_of(pattern: &str, reach: Reach, manner: Manner) -> Result<Allowed, HostError> {
    // What is not looked into cannot be for reading alone, so nobody needs to say so.
    let reach = if manner == Manner::Inspect { reach } else { Reach::Write };
    Allowed::new(pattern, reach, manner)
}
