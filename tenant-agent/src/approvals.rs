//! Questions to a person, and the grants that their answers make.
//!
//! A grant is for exactly one call (assistant, session, digest) and works once: asking finds it, uses it up and reports
//! it in the same transaction in which the caller journals the verdict. Up to Yellow it may stand for a day instead, for
//! the same digest in any session. What nobody answers within [`LIFE_MS`] expires. How much must stand behind a yes follows
//! the class: a session, a signature of a device, or a signature with more behind it.

use crate::audit::{self, Deed};
use crate::devices::proof::Strength;
use crate::devices::{self, Heard};
use crate::first_hour;
use crate::hosts;
use crate::identity::parsed;
use crate::levels::{self, Levels};
use crate::pauses::{self, Pauses};
use crate::people;
use axum::http::StatusCode;
use policy::{Class, Digest, Finding, Sentence};
use rusqlite::{Connection, OptionalExtension, Row, params};
use service::clock::Moment;
use service::{Clock, Refusal, Store, Tx, log, random};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use tokio::sync::{Notify, broadcast};
use wire::approval::{Approval, ApprovalState, Asks, Decision, Detail, OpenApproval, Outcome, Scope};
use wire::{ApprovalId, AssistantId, DeviceId, PersonId};

#[derive(Clone)]
pub struct Approvals {
    store: Store,
    clock: Clock,
    levels: Levels,
    pauses: Pauses,
    changes: broadcast::Sender<Approval>,
    /// Sessions, or calls of them, that wait for nobody any more.
    released: broadcast::Sender<(String, Option<String>)>,
    /// The calls that are held now: for each question its session and how many wait.
    held: Arc<Mutex<HashMap<ApprovalId, (String, usize)>>>,
    let_go: Arc<Notify>,
    /// The clock when it was last looked at.
    seen: Arc<Mutex<Option<Moment>>>,
}

/// How long a question stands, and a grant after it.
pub const LIFE_MS: i64 = 24 * 3_600_000;
/// Questions that may stand open at once; a model that asks more is refused without asking.
pub const OPEN_MAX: i64 = 200;
/// Characters of the reason that a person gives for a no.
pub const DENIAL_CHARS_MAX: usize = 300;
/// Decided ones that a list shows.
const DECIDED_SHOWN: i64 = 50;
/// A listener that lags this far behind reads the list again.
const CHANGES_BUFFER: usize = 256;

pub const UNKNOWN: Refusal = Refusal::new(StatusCode::NOT_FOUND, "approval_unknown");
pub const DECIDED: Refusal = Refusal::new(StatusCode::CONFLICT, "approval_decided");
pub const EXPIRED: Refusal = Refusal::new(StatusCode::GONE, "approval_expired");
pub const CHANGED: Refusal = Refusal::new(StatusCode::CONFLICT, "approval_changed");
pub const NEEDS_SIGNATURE: Refusal = Refusal::new(StatusCode::FORBIDDEN, "approval_needs_signature");
pub const NEEDS_MORE: Refusal = Refusal::new(StatusCode::FORBIDDEN, "approval_needs_more");
pub const NUMBER_WRONG: Refusal = Refusal::new(StatusCode::FORBIDDEN, "approval_number_wrong");
pub const ONCE_ONLY: Refusal = Refusal::new(StatusCode::FORBIDDEN, "approval_once_only");

/// What is asked.
#[derive(Clone, Debug)]
pub struct Question {
    pub assistant: AssistantId,
    pub session: String,
    /// As OpenClaw's events name it.
    pub call_id: String,
    pub tool: String,
    pub finding: Finding,
    pub details: Vec<Detail>,
    pub digest: Digest,
}

/// What asking found.
#[derive(Clone, Debug)]
pub enum Asked {
    /// A person had said yes to exactly this call; the grant is used up now.
    Granted(Approval),
    /// The question stands; `fresh` when it was not asked before. It may take the place of others about the same call.
    Waiting { approval: Approval, fresh: bool, superseded: Vec<Approval> },
    /// Too many questions stand open.
    TooMany,
}

/// Drawn for a question that may have to be asked.
#[derive(Clone, Debug)]
pub struct Drawn {
    pub id: ApprovalId,
    pub number: String,
}

impl Drawn {
    pub fn now() -> Drawn {
        Drawn { id: random::id(), number: (10 + random::below(90)).to_string() }
    }
}

/// Looks for a grant, then for an open question, then asks. Part of the caller's transaction.
pub fn ask(tx: &Tx, question: &Question, drawn: Drawn, now_ms: i64) -> rusqlite::Result<Asked> {
    expire(tx, now_ms)?;
    let sql = format!(
        "SELECT {COLUMNS} FROM approval WHERE assistant = ?1 AND digest = ?3 AND (session = ?2 AND state IN ('pending', 'approved') OR state = 'approved' AND scope = 'day')
         ORDER BY scope = 'day' DESC"
    );
    let key = params![question.assistant.to_string(), question.session, question.digest.to_string()];
    let standing: Vec<Approval> = tx.prepare_cached(&sql)?.query_map(key, approval_of)?.collect::<rusqlite::Result<_>>()?;
    let mut superseded = Vec::new();
    for found in standing {
        // What was asked or allowed when the call was thought less dangerous is no answer to what it is now.
        if !covers(&found, &question.finding) {
            let sql = format!("UPDATE approval SET state = 'superseded' WHERE id = ?1 RETURNING {COLUMNS}");
            superseded.push(tx.query_row(&sql, [found.id.to_string()], approval_of)?);
            continue;
        }
        if found.state == ApprovalState::Approved {
            return use_up(tx, found.id, &question.call_id).map(|approval| approval.map_or(Asked::TooMany, Asked::Granted));
        }
        let sql = format!("UPDATE approval SET call_id = ?2 WHERE id = ?1 RETURNING {COLUMNS}");
        let approval = tx.query_row(&sql, params![found.id.to_string(), question.call_id], approval_of)?;
        return Ok(Asked::Waiting { approval, fresh: false, superseded });
    }
    let open: i64 = tx.query_row("SELECT count(*) FROM approval WHERE state = 'pending'", [], |row| row.get(0))?;
    if open >= OPEN_MAX {
        return Ok(Asked::TooMany);
    }
    Ok(Asked::Waiting { approval: insert(tx, question, drawn, now_ms)?, fresh: true, superseded })
}

/// Whether what was asked then is at least what is asked now.
fn covers(then: &Approval, now: &Finding) -> bool {
    then.class >= now.class && (then.external || !now.external) && (then.unknown || !now.unknown)
}

/// Uses a grant up; one that stands for a day goes on standing. `None` when it is not one any more.
pub fn use_up(tx: &Tx, id: ApprovalId, call_id: &str) -> rusqlite::Result<Option<Approval>> {
    let sql = format!(
        "UPDATE approval SET state = CASE scope WHEN 'day' THEN 'approved' ELSE 'used' END, call_id = ?2, nudges = ?3 WHERE id = ?1 AND state = 'approved' RETURNING {COLUMNS}"
    );
    tx.query_row(&sql, params![id.to_string(), call_id, NUDGES_MAX], approval_of).optional()
}

/// The session has heard why its call was refused.
pub fn note_told(tx: &Tx, id: ApprovalId) -> rusqlite::Result<()> {
    tx.execute("UPDATE approval SET nudges = ?2 WHERE id = ?1", params![id.to_string(), NUDGES_MAX]).map(|_| ())
}

/// The granted call came back.
pub fn note_outcome(tx: &Tx, session: &str, call_id: &str, outcome: Outcome) -> rusqlite::Result<Option<Approval>> {
    let sql = format!("UPDATE approval SET outcome = ?3 WHERE session = ?1 AND call_id = ?2 AND state = 'used' AND outcome IS NULL RETURNING {COLUMNS}");
    tx.prepare_cached(&sql)?.query_row(params![session, call_id, named(outcome)], approval_of).optional()
}

/// Whether somebody said no to this since then.
pub fn was_denied(tx: &Tx, tool: &str, digest: &str, since_ms: i64) -> rusqlite::Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM approval WHERE state = 'denied' AND tool = ?1 AND digest = ?2 AND decided_ms > ?3)";
    tx.query_row(sql, params![tool, digest, since_ms], |row| row.get(0))
}

/// Other open questions under this tool.
pub fn open_of(tx: &Tx, tool: &str, digest: &str, now_ms: i64) -> rusqlite::Result<i64> {
    let sql = "SELECT count(*) FROM approval WHERE state = 'pending' AND tool = ?1 AND digest <> ?2 AND expires_ms > ?3";
    tx.query_row(sql, params![tool, digest, now_ms], |row| row.get(0))
}

/// Closes the open questions of ours about the same thing, but for the one of this digest.
pub fn supersede(tx: &Tx, tool: &str, assistant: AssistantId, about: &str, but: &str) -> rusqlite::Result<Vec<Approval>> {
    let sql = format!(
        "UPDATE approval SET state = 'superseded' WHERE state = 'pending' AND session = '' AND tool = ?1 AND assistant = ?2 AND call_id = ?3 AND digest <> ?4 RETURNING {COLUMNS}"
    );
    tx.prepare_cached(&sql)?.query_map(params![tool, assistant.to_string(), about, but], approval_of)?.collect()
}

/// Closes the open questions of a session: nobody wants the answer any more.
pub fn withdraw(tx: &Tx, session: &str) -> rusqlite::Result<Vec<Approval>> {
    let sql = format!("UPDATE approval SET state = 'superseded' WHERE state = 'pending' AND session = ?1 RETURNING {COLUMNS}");
    tx.prepare_cached(&sql)?.query_map([session], approval_of)?.collect()
}

/// A call that waits for an answer; gone when dropped.
pub struct Held {
    id: ApprovalId,
    held: Arc<Mutex<HashMap<ApprovalId, (String, usize)>>>,
    session: String,
    call_id: String,
    changes: broadcast::Receiver<Approval>,
    let_go: Arc<Notify>,
    released: broadcast::Receiver<(String, Option<String>)>,
}

/// Why a held call should look again.
#[derive(Debug, PartialEq, Eq)]
pub enum Stir {
    /// Something was answered; the store knows what.
    Answer,
    /// OpenClaw has ended the call.
    Release,
}

impl Held {
    pub async fn stirred(&mut self) -> Stir {
        loop {
            tokio::select! {
                released = self.released.recv() => match released {
                    Ok((session, call_id)) if session == self.session && call_id.as_ref().is_none_or(|id| *id == self.call_id) => return Stir::Release,
                    Ok(_) => {}
                    Err(_) => return Stir::Answer,
                },
                changed = self.changes.recv() => match changed {
                    Ok(approval) if approval.id != self.id => {}
                    // Also when so much changed that ours may have been among it.
                    _ => return Stir::Answer,
                },
            }
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut held = self.held.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some((_, count)) = held.get_mut(&self.id) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.id);
                self.let_go.notify_one();
            }
        }
    }
}

impl Approvals {
    pub fn new(store: Store, clock: Clock, levels: Levels, pauses: Pauses) -> Approvals {
        Approvals {
            store,
            clock,
            levels,
            pauses,
            changes: broadcast::channel(CHANGES_BUFFER).0,
            released: broadcast::channel(CHANGES_BUFFER).0,
            held: Arc::default(),
            let_go: Arc::default(),
            seen: Arc::default(),
        }
    }

    /// Registers a waiting call. Called before the question is looked at, so that no answer falls between.
    pub fn hold(&self, approval: &Approval, call_id: &str) -> Held {
        let (changes, released) = (self.changes.subscribe(), self.released.subscribe());
        let mut held = self.held.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        held.entry(approval.id).or_insert_with(|| (approval.session.clone(), 0)).1 += 1;
        Held {
            id: approval.id,
            held: self.held.clone(),
            session: approval.session.clone(),
            call_id: call_id.to_owned(),
            changes,
            released,
            let_go: self.let_go.clone(),
        }
    }

    /// OpenClaw has ended this call, or every call of the session: nobody waits for an answer any more. The question stands.
    pub fn release(&self, session: &str, call_id: Option<&str>) {
        // Nobody waiting is fine.
        let _ = self.released.send((session.to_owned(), call_id.map(str::to_owned)));
    }

    /// Whether a call of this session is held. OpenClaw drops such a call when anybody speaks to the session.
    pub fn holds(&self, session: &str) -> bool {
        self.held.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).values().any(|(held, _)| held == session)
    }

    pub fn is_held(&self, id: ApprovalId) -> bool {
        self.held.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).contains_key(&id)
    }

    /// Until a call is no longer held: its session may be spoken to.
    pub async fn let_go(&self) {
        self.let_go.notified().await;
    }

    pub fn changes(&self) -> broadcast::Receiver<Approval> {
        self.changes.subscribe()
    }

    pub fn announce(&self, approval: Approval) {
        // Nobody listening is fine: the list is in the store.
        let _ = self.changes.send(approval);
    }

    /// A person answers in their session. The first answer stands.
    pub async fn decide(&self, by: PersonId, id: ApprovalId, given: Given) -> Result<Approval, Refusal> {
        let now_ms = self.clock.wall_ms();
        let approval = self.store.write(move |tx| settle(tx, by, id, &given, Backing::Session, None, now_ms)).await?;
        self.settled(approval).await
    }

    /// A person says that they did not ask for this: its assistant is paused, and whoever may decide has said no with it.
    pub async fn disown(&self, by: PersonId, id: ApprovalId, digest: String) -> Result<Approval, Refusal> {
        let now_ms = self.clock.wall_ms();
        let approval = self
            .store
            .write(move |tx| {
                let found = tx.query_row(&format!("SELECT {COLUMNS} FROM approval WHERE id = ?1"), [id.to_string()], approval_of).optional()?.ok_or(UNKNOWN)?;
                let reach = people::reach(tx, by)?;
                if !reach.sees(found.assistant) {
                    return Err(Refusal::FORBIDDEN);
                }
                pauses::insert(tx, &by.to_string(), found.assistant, Some(id), now_ms)?;
                let decides = people::role(tx, by)?.is_some_and(people::Role::may_decide) && reach.decides(found.assistant);
                if !decides || found.state != ApprovalState::Pending || found.expires_ms <= now_ms {
                    return Ok(found);
                }
                let no = Given { digest, decision: Decision::Deny, reason: String::new(), number: String::new() };
                settle(tx, by, id, &no, Backing::Session, None, now_ms)
            })
            .await?;
        // Before anybody hears of the no: what is held must find the pause.
        self.pauses.reread().await?;
        self.settled(approval).await
    }

    /// What an answer brings into force, before whoever gave it is told.
    async fn settled(&self, approval: Approval) -> Result<Approval, Refusal> {
        if levels::is_about_one(&approval) {
            self.levels.reread().await?;
        }
        self.announce(approval.clone());
        Ok(approval)
    }

    /// A person's device answers, on whatever way that came. `password` tells that its person's password came along and was right.
    pub async fn decide_signed(&self, heard: Heard, password: bool) -> Result<Approval, Refusal> {
        let now_ms = self.clock.wall_ms();
        let approval = self
            .store
            .write(move |tx| {
                let (person, device) = (heard.statement.person, heard.statement.device);
                let wire::device::Deed::Decide { approval, digest, decision, reason, number } = heard.statement.deed.clone() else {
                    return Err(devices::MALFORMED);
                };
                devices::spend(tx, &heard, now_ms)?;
                if !people::role(tx, person)?.is_some_and(people::Role::may_decide) {
                    return Err(Refusal::FORBIDDEN);
                }
                let backing = match heard.strength {
                    Strength::Key => Backing::Key { password },
                    Strength::Passkey { verified, .. } => Backing::Passkey { verified },
                };
                let evidence = serde_json::to_string(&heard.signed).unwrap_or_default();
                settle(tx, person, approval, &Given { digest, decision, reason, number }, backing, Some((device, evidence)), now_ms)
            })
            .await?;
        self.settled(approval).await
    }

    pub async fn get(&self, id: ApprovalId) -> service::store::Result<Option<Approval>> {
        self.store.read(move |c| c.query_row(&format!("SELECT {COLUMNS} FROM approval WHERE id = ?1"), [id.to_string()], approval_of).optional()).await
    }

    /// Open ones first, oldest first; then the newest decided ones.
    pub async fn list(&self) -> service::store::Result<Vec<Approval>> {
        let now_ms = self.clock.wall_ms();
        self.store
            .read(move |c| {
                let open = format!("SELECT {COLUMNS} FROM approval WHERE state = 'pending' AND expires_ms > ?1 ORDER BY created_ms, id LIMIT ?2");
                let mut list: Vec<Approval> = c.prepare_cached(&open)?.query_map(params![now_ms, OPEN_MAX], approval_of)?.collect::<Result<_, _>>()?;
                let decided = format!("SELECT {COLUMNS} FROM approval WHERE NOT (state = 'pending' AND expires_ms > ?1) ORDER BY coalesce(decided_ms, expires_ms) DESC, id LIMIT ?2");
                let mut rows = c.prepare_cached(&decided)?;
                for approval in rows.query_map(params![now_ms, DECIDED_SHOWN], approval_of)? {
                    let mut approval = approval?;
                    if approval.state == ApprovalState::Pending {
                        approval.state = ApprovalState::Expired;
                    }
                    list.push(approval);
                }
                Ok(list)
            })
            .await
    }

    /// What the hub may know of the open ones.
    pub async fn open(&self) -> service::store::Result<Vec<OpenApproval>> {
        let open = self.list().await?.into_iter().filter(|approval| approval.state == ApprovalState::Pending);
        Ok(open.map(|a| OpenApproval { id: a.id, class: a.class, external: a.external, created_ms: a.created_ms }).collect())
    }

    /// How often each rule asked on the last days, and what became of it.
    pub async fn asks(&self) -> service::store::Result<Vec<Asks>> {
        let now_ms = self.clock.wall_ms();
        self.store.read(move |c| asks(c, now_ms)).await
    }

    /// A wall that went back would give grants more time than a person gave them: then none counts any more. Questions stand.
    pub async fn heed_clock(&self) -> service::store::Result<()> {
        let now = self.clock.now();
        let before = self.seen.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).replace(now);
        let jumped = match before {
            Some(before) => went_back(before, now),
            // What was written before this start tells how late it was then.
            None => {
                let sql = "SELECT max(max(created_ms), max(coalesce(decided_ms, 0))) FROM approval";
                let newest: Option<i64> = self.store.read(move |c| c.query_row(sql, [], |row| row.get(0))).await?;
                newest.is_some_and(|newest| newest > now.wall_ms + BACK_MS_MAX)
            }
        };
        if !jumped {
            return Ok(());
        }
        tracing::error!("the clock went back: every grant has ended, and people are asked again");
        let sql = format!("UPDATE approval SET state = 'expired' WHERE state = 'approved' RETURNING {COLUMNS}");
        let ended = move |tx: &Tx| {
            let ended: Vec<Approval> = tx.prepare_cached(&sql)?.query_map([], approval_of)?.collect::<rusqlite::Result<_>>()?;
            audit::note(tx, now.wall_ms, &Deed { actor: "agent", deed: "clock_went_back", subject: "", detail: &format!("{} grants ended", ended.len()) })?;
            Ok::<_, service::store::StoreError>(ended)
        };
        self.store.write(ended).await?.into_iter().for_each(|approval| self.announce(approval));
        Ok(())
    }

    /// Closes questions and grants whose time is over, and tells those who look at them.
    pub async fn sweep(&self) -> service::store::Result<()> {
        self.heed_clock().await?;
        let now_ms = self.clock.wall_ms();
        let over = self.store.write(move |tx| Ok::<_, service::store::StoreError>(expire(tx, now_ms)?)).await?;
        over.into_iter().for_each(|approval| self.announce(approval));
        Ok(())
    }

    /// The newest question of a session about calls whose id begins so.
    pub async fn newest(&self, session: &'static str, call_ids: String) -> service::store::Result<Option<Approval>> {
        let sql = format!("SELECT {COLUMNS} FROM approval WHERE session = ?1 AND substr(call_id, 1, length(?2)) = ?2 ORDER BY created_ms DESC LIMIT 1");
        self.store.read(move |c| c.query_row(&sql, params![session, call_ids], approval_of).optional()).await
    }

    /// Whether a session still waits for a person, or for a grant to be used, with what it asked since then.
    pub async fn waits(&self, session: &'static str, since_ms: i64) -> service::store::Result<bool> {
        let sql =
            "SELECT EXISTS (SELECT 1 FROM approval WHERE session = ?1 AND created_ms >= ?2 AND (state = 'pending' OR state = 'approved' AND scope = 'once'))";
        self.store.read(move |c| c.query_row(sql, params![session, since_ms], |row| row.get(0))).await
    }

    /// Grants whose call nobody is holding and whose session is due to be told, again if it did nothing with it; and late
    /// refusals with a reason, which are told once.
    pub async fn to_nudge(&self) -> service::store::Result<Vec<Approval>> {
        let now_ms = self.clock.wall_ms();
        let sql = format!(
            "SELECT {COLUMNS} FROM approval WHERE session NOT IN ('', ?5) AND nudged_ms + nudges * nudges * ?2 <= ?3
               AND (state = 'approved' AND nudges < ?1 OR state = 'denied' AND denial IS NOT NULL AND nudges = 0) ORDER BY nudged_ms, decided_ms LIMIT ?4"
        );
        let found: Vec<Approval> = self
            .store
            .read(move |c| {
                let session = first_hour::SESSION;
                c.prepare_cached(&sql)?.query_map(params![NUDGES_MAX, NUDGE_EACH_MS, now_ms, NUDGES_AT_ONCE, session], approval_of)?.collect()
            })
            .await?;
        let may = |approval: &Approval| !self.is_held(approval.id) && !self.holds(&approval.session) && !self.pauses.holds(approval.assistant);
        Ok(found.into_iter().filter(may).collect())
    }

    pub async fn nudged(&self, id: ApprovalId) -> service::store::Result<()> {
        let now_ms = self.clock.wall_ms();
        let sql = "UPDATE approval SET nudges = nudges + 1, nudged_ms = ?2 WHERE id = ?1";
        self.store.write(move |tx| Ok(tx.execute(sql, params![id.to_string(), now_ms]).map(|_| ())?)).await
    }
}

/// Whether the wall lost time against the clock that only goes on.
fn went_back(before: Moment, now: Moment) -> bool {
    let passed = i64::try_from(now.mono_ms.saturating_sub(before.mono_ms)).unwrap_or(i64::MAX);
    before.wall_ms.saturating_add(passed).saturating_sub(now.wall_ms) > BACK_MS_MAX
}

/// Time servers correct a clock by less.
const BACK_MS_MAX: i64 = 5 * 60_000;

/// A session that was told of a grant and did not use it is told again after one, four, nine … of these, and then no more.
const NUDGE_EACH_MS: i64 = 60_000;
const NUDGES_MAX: i64 = 5;
const NUDGES_AT_ONCE: i64 = 16;

/// What a person answers.
#[derive(Clone, Debug)]
pub struct Given {
    /// Of the question as they saw it.
    pub digest: String,
    pub decision: Decision,
    /// Why not.
    pub reason: String,
    pub number: String,
}

/// What stands behind an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backing {
    /// A cookie, and nothing more.
    Session,
    Key {
        password: bool,
    },
    Passkey {
        /// The device knew its person.
        verified: bool,
    },
}

fn settle(
    tx: &Tx,
    by: PersonId,
    id: ApprovalId,
    given: &Given,
    backing: Backing,
    signed: Option<(DeviceId, String)>,
    now_ms: i64,
) -> Result<Approval, Refusal> {
    expire(tx, now_ms)?;
    let found = tx.query_row(&format!("SELECT {COLUMNS} FROM approval WHERE id = ?1"), [id.to_string()], approval_of).optional()?.ok_or(UNKNOWN)?;
    if !people::reach(tx, by)?.decides(found.assistant) {
        return Err(Refusal::FORBIDDEN);
    }
    let (state, scope) = answer(&found, given, backing)?;
    // What loosens the rules is an owner's to allow.
    if state == ApprovalState::Approved && levels::is_about_one(&found) && people::role(tx, by)? != Some(people::Role::Owner) {
        return Err(Refusal::FORBIDDEN);
    }
    let denial = Some(denial(&given.reason)).filter(|reason| state == ApprovalState::Denied && !reason.is_empty());
    let (device, evidence) = signed.unzip();
    // What a person wrote into a no may hold a secret; the proof of it is not worth keeping.
    let evidence = evidence.filter(|_| state == ApprovalState::Approved);
    let expires_ms = if scope == Scope::Day { now_ms + LIFE_MS } else { found.expires_ms };
    let sql = format!(
        "UPDATE approval SET state = ?2, scope = ?3, expires_ms = ?4, decided_ms = ?5, decided_by = ?6, signed_by = ?7, evidence = ?8, denial = ?9
         WHERE id = ?1 RETURNING {COLUMNS}"
    );
    let device = device.map(|device| device.to_string());
    let row = params![id.to_string(), state.name(), scope_name(scope), expires_ms, now_ms, by.to_string(), device, evidence, denial];
    let mut decided = tx.query_row(&sql, row, approval_of)?;
    let detail = [Some(given.digest.as_str()), (scope == Scope::Day).then_some("day"), device.as_deref()].into_iter().flatten().collect::<Vec<_>>().join(" ");
    audit::note(tx, now_ms, &Deed { actor: &by.to_string(), deed: state.name(), subject: &id.to_string(), detail: &detail })?;
    let (is_host, is_level) = (hosts::is_about_one(&decided), levels::is_about_one(&decided));
    if state == ApprovalState::Approved && (is_host || is_level) {
        // The answer is a line on a list; nothing waits to use it.
        let granted = if is_host { hosts::granted } else { levels::granted };
        granted(tx, &decided, &by.to_string(), now_ms)?;
        let sql = format!("UPDATE approval SET state = 'used', outcome = 'ok' WHERE id = ?1 RETURNING {COLUMNS}");
        decided = tx.query_row(&sql, [id.to_string()], approval_of)?;
    }
    Ok(decided)
}

/// A person's words for the assistant: one line, of bounded length, without secrets.
fn denial(reason: &str) -> String {
    // Masked before it is cut: half a secret is not recognised any more.
    let masked = log::masked(reason);
    let line: String = masked.chars().map(|c| if c.is_control() { ' ' } else { c }).take(DENIAL_CHARS_MAX).collect();
    line.trim().to_owned()
}

/// What an answer to `found` makes of it. Pure, so that the whole table can be tested.
fn answer(found: &Approval, given: &Given, backing: Backing) -> Result<(ApprovalState, Scope), Refusal> {
    match (found.state, given.decision) {
        (ApprovalState::Pending, Decision::Approve | Decision::ApproveDay | Decision::Deny) => {}
        // A yes may be taken back until it is used; what stands for a day, at any time.
        (ApprovalState::Approved, Decision::Cancel) => {}
        (ApprovalState::Expired, _) => return Err(EXPIRED),
        _ => return Err(DECIDED),
    }
    if !random::same(&found.digest, &given.digest) {
        return Err(CHANGED);
    }
    let is_red = found.unknown || found.class >= Class::Red;
    match given.decision {
        // Whoever may decide may always say no.
        Decision::Deny => Ok((ApprovalState::Denied, Scope::Once)),
        Decision::Cancel => Ok((ApprovalState::Cancelled, found.scope)),
        Decision::ApproveDay if is_red => Err(ONCE_ONLY),
        Decision::ApproveDay => Ok((ApprovalState::Approved, Scope::Day)),
        Decision::Approve => {
            match backing {
                _ if !is_red => {}
                Backing::Session => return Err(NEEDS_SIGNATURE),
                _ if found.class < Class::CriticalRed => {}
                Backing::Passkey { verified: true } => {}
                Backing::Key { password: true } if random::same(&found.number, &given.number) => {}
                Backing::Key { password: true } => return Err(NUMBER_WRONG),
                Backing::Passkey { verified: false } | Backing::Key { password: false } => return Err(NEEDS_MORE),
            }
            Ok((ApprovalState::Approved, Scope::Once))
        }
    }
}

/// A yes that nobody used any more was one all the same.
fn asks(connection: &Connection, now_ms: i64) -> rusqlite::Result<Vec<Asks>> {
    let first_day = now_ms.div_euclid(DAY_MS) - (Asks::DAYS as i64 - 1);
    let sql = "SELECT rule, created_ms / ?1, count(*), sum(decided_ms IS NOT NULL AND state <> 'denied'), sum(state = 'denied') FROM approval
         WHERE created_ms >= ?1 * ?2 GROUP BY 1, 2";
    let mut rows = connection.prepare_cached(sql)?;
    let mut rows = rows.query([DAY_MS, first_day])?;
    let mut found: BTreeMap<String, Asks> = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let (rule, day, count, yes, no): (String, i64, u32, u32, u32) = (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?);
        let asks = found.entry(rule.clone()).or_insert_with(|| Asks { rule, days: vec![0; Asks::DAYS], yes: 0, no: 0 });
        // A clock that was set back leaves questions of days to come.
        if let Some(place) = usize::try_from(day - first_day).ok().and_then(|day| asks.days.get_mut(day)) {
            *place += count;
            (asks.yes, asks.no) = (asks.yes + yes, asks.no + no);
        }
    }
    Ok(found.into_values().collect())
}

const DAY_MS: i64 = 24 * 3_600_000;

const COLUMNS: &str = "id, assistant, session, tool, class, external, unknown, rule, sentence_de, sentence_en, details, digest, created_ms, expires_ms, state, decided_ms, decided_by, call_id, outcome, number, scope, signed_by, denial";

fn scope_name(scope: Scope) -> &'static str {
    match scope {
        Scope::Once => "once",
        Scope::Day => "day",
    }
}

fn named(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Ok => "ok",
        Outcome::Failed => "failed",
    }
}

fn insert(tx: &Tx, question: &Question, drawn: Drawn, now_ms: i64) -> rusqlite::Result<Approval> {
    let Question { finding, .. } = question;
    let details = serde_json::to_string(&question.details).unwrap_or_default();
    let sql = format!(
        "INSERT INTO approval (id, assistant, session, tool, class, external, unknown, rule, sentence_de, sentence_en, details, digest, created_ms, expires_ms, state, call_id, number)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, 'pending', ?15, ?16) RETURNING {COLUMNS}"
    );
    let row = params![
        drawn.id.to_string(),
        question.assistant.to_string(),
        question.session,
        question.tool,
        finding.class.name(),
        finding.external,
        finding.unknown,
        finding.rule,
        finding.reason.de,
        finding.reason.en,
        details,
        question.digest.to_string(),
        now_ms,
        now_ms + LIFE_MS,
        question.call_id,
        drawn.number,
    ];
    tx.query_row(&sql, row, approval_of)
}

fn expire(tx: &Tx, now_ms: i64) -> rusqlite::Result<Vec<Approval>> {
    let sql = format!("UPDATE approval SET state = 'expired' WHERE state IN ('pending', 'approved') AND expires_ms <= ?1 RETURNING {COLUMNS}");
    tx.prepare_cached(&sql)?.query_map([now_ms], approval_of)?.collect()
}

fn approval_of(row: &Row<'_>) -> rusqlite::Result<Approval> {
    let (class, state, details): (String, String, String) = (row.get(4)?, row.get(14)?, row.get(10)?);
    let (decided_by, outcome): (Option<String>, Option<String>) = (row.get(16)?, row.get(18)?);
    let (scope, signed_by): (String, Option<String>) = (row.get(20)?, row.get(21)?);
    Ok(Approval {
        id: parsed(row, 0)?,
        assistant: parsed(row, 1)?,
        session: row.get(2)?,
        call_id: row.get(17)?,
        tool: row.get(3)?,
        // A class that cannot be read is the worst one.
        class: Class::parse(&class).unwrap_or(Class::CriticalRed),
        external: row.get(5)?,
        unknown: row.get(6)?,
        rule: row.get(7)?,
        sentence: Sentence { de: row.get(8)?, en: row.get(9)? },
        details: serde_json::from_str(&details).unwrap_or_default(),
        digest: row.get(11)?,
        number: row.get(19)?,
        created_ms: row.get(12)?,
        expires_ms: row.get(13)?,
        state: ApprovalState::parse(&state).unwrap_or(ApprovalState::Expired),
        scope: if scope == "day" { Scope::Day } else { Scope::Once },
        decided_ms: row.get(15)?,
        decided_by: decided_by.and_then(|id| id.parse().ok()),
        signed_by: signed_by.and_then(|id| id.parse().ok()),
        denial: row.get(22)?,
        outcome: outcome.map(|outcome| if outcome == "ok" { Outcome::Ok } else { Outcome::Failed }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MIGRATIONS;
    use service::store::StoreError;

    fn question(class: Class, digest_of: &str) -> Question {
        let arguments = serde_json::json!({ "command": digest_of });
        let call = policy::Call { assistant: "a", tool: "exec", arguments: &arguments, workspace: "/w", resolved: &[] };
        let finding = Finding { class, unknown: false, ..Finding::unknown("test") };
        Question {
            assistant: AssistantId::new(1),
            session: "agent:main:main".into(),
            call_id: "call_1".into(),
            tool: "exec".into(),
            finding,
            details: vec![],
            digest: policy::digest(&call, &[]),
        }
    }

    struct Rig {
        approvals: Approvals,
        clock: Clock,
        folder: std::path::PathBuf,
    }

    impl Rig {
        fn new() -> Rig {
            let folder = std::env::temp_dir().join(random::token());
            std::fs::create_dir_all(&folder).unwrap();
            let clock = Clock::manual(1_000_000);
            let store = Store::open(&folder.join("a.db"), MIGRATIONS).unwrap();
            let (levels, pauses) = (Levels::new(store.clone(), clock.clone()), Pauses::new(store.clone(), clock.clone()));
            Rig { approvals: Approvals::new(store, clock.clone(), levels, pauses), clock, folder }
        }

        async fn ask(&self, question: &Question) -> Asked {
            let (question, now_ms) = (question.clone(), self.clock.wall_ms());
            self.approvals.store.write(move |tx| Ok::<_, StoreError>(ask(tx, &question, Drawn::now(), now_ms)?)).await.unwrap()
        }

        async fn decide(&self, asked: &Approval, decision: Decision) -> Result<ApprovalState, Refusal> {
            let given = Given { digest: asked.digest.clone(), decision, reason: String::new(), number: String::new() };
            self.approvals.decide(PersonId::new(7), asked.id, given).await.map(|approval| approval.state)
        }

        async fn waiting(&self, question: &Question) -> Approval {
            match self.ask(question).await {
                Asked::Waiting { approval, .. } => approval,
                other => panic!("{other:?}"),
            }
        }
    }

    impl Drop for Rig {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.folder).unwrap();
        }
    }

    #[tokio::test]
    async fn a_grant_is_for_one_call_once() {
        let rig = Rig::new();
        let (ls, rm) = (question(Class::Yellow, "ls"), question(Class::Yellow, "rm"));
        let asked = rig.waiting(&ls).await;
        assert_eq!(rig.waiting(&ls).await.id, asked.id, "one question stands for one call");
        rig.decide(&asked, Decision::Approve).await.unwrap();
        assert!(matches!(rig.ask(&rm).await, Asked::Waiting { fresh: true, .. }), "another call is asked for");
        let other_session = Question { session: "agent:main:other".into(), ..ls.clone() };
        assert!(matches!(rig.ask(&other_session).await, Asked::Waiting { fresh: true, .. }), "another session is asked for");
        assert!(matches!(rig.ask(&ls).await, Asked::Granted(_)));
        assert!(matches!(rig.ask(&ls).await, Asked::Waiting { fresh: true, .. }), "used up");
    }

    #[tokio::test]
    async fn a_grant_for_a_day_covers_the_same_call_and_nothing_worse() {
        let rig = Rig::new();
        let ls = question(Class::Yellow, "ls");
        let asked = rig.waiting(&ls).await;
        rig.clock.advance(LIFE_MS as u64 / 2);
        rig.decide(&asked, Decision::ApproveDay).await.unwrap();
        let other_session = Question { session: "agent:main:other".into(), ..ls.clone() };
        for again in [&ls, &ls, &other_session] {
            assert!(matches!(rig.ask(again).await, Asked::Granted(_)));
        }
        assert!(rig.approvals.to_nudge().await.unwrap().is_empty(), "nobody needs to be told of what was used");
        assert!(matches!(rig.ask(&question(Class::Yellow, "rm")).await, Asked::Waiting { fresh: true, .. }));
        let other_assistant = Question { assistant: AssistantId::new(2), ..ls.clone() };
        assert!(matches!(rig.ask(&other_assistant).await, Asked::Waiting { fresh: true, .. }));
        rig.clock.advance(LIFE_MS as u64 - 1);
        assert!(matches!(rig.ask(&ls).await, Asked::Granted(_)), "the day begins with the decision");
        rig.clock.advance(1);
        let asked = rig.waiting(&ls).await;
        rig.decide(&asked, Decision::ApproveDay).await.unwrap();
        assert_eq!(rig.decide(&asked, Decision::Cancel).await, Ok(ApprovalState::Cancelled));
        assert!(matches!(rig.ask(&ls).await, Asked::Waiting { fresh: true, .. }), "what was taken back is over");

        for class in [Class::Red, Class::CriticalRed] {
            let asked = rig.waiting(&question(class, class.name())).await;
            assert_eq!(rig.decide(&asked, Decision::ApproveDay).await, Err(ONCE_ONLY));
            assert_eq!(rig.decide(&asked, Decision::Cancel).await, Err(DECIDED), "nothing was granted");
        }
        let unknown = Question { finding: Finding::unknown("test"), ..question(Class::Yellow, "unknown") };
        let asked = rig.waiting(&unknown).await;
        assert_eq!(rig.decide(&asked, Decision::ApproveDay).await, Err(ONCE_ONLY), "what nobody understands is asked about each time");
    }

    #[tokio::test]
    async fn an_answer_to_a_lesser_question_is_none() {
        let rig = Rig::new();
        let as_class = |class, external| Question { finding: Finding { class, external, unknown: false, ..Finding::unknown("test") }, ..question(class, "ls") };
        let yellow = rig.waiting(&as_class(Class::Yellow, false)).await;
        rig.decide(&yellow, Decision::ApproveDay).await.unwrap();
        let Asked::Waiting { approval: red, fresh: true, superseded } = rig.ask(&as_class(Class::Red, false)).await else {
            panic!("a grant for yellow is none for red")
        };
        assert_eq!((superseded[0].id, superseded[0].state, red.class), (yellow.id, ApprovalState::Superseded, Class::Red));
        let Asked::Waiting { approval: critical, fresh: true, superseded } = rig.ask(&as_class(Class::CriticalRed, false)).await else { panic!("asked anew") };
        assert_eq!(superseded[0].id, red.id);
        assert_eq!(rig.decide(&red, Decision::Approve).await, Err(DECIDED), "the weaker question is closed");
        assert_eq!(rig.waiting(&as_class(Class::Yellow, false)).await.id, critical.id, "and the stronger one stands for the weaker");
        let inside = rig.waiting(&Question { digest: question(Class::Red, "b").digest, ..as_class(Class::Yellow, false) }).await;
        rig.decide(&inside, Decision::Approve).await.unwrap();
        let leaving = Question { digest: question(Class::Red, "b").digest, ..as_class(Class::Yellow, true) };
        assert!(matches!(rig.ask(&leaving).await, Asked::Waiting { fresh: true, .. }), "what leaves the house by now was not allowed to");
    }

    #[tokio::test]
    async fn a_reason_goes_back_as_one_bounded_line_without_secrets() {
        let rig = Rig::new();
        let asked = rig.waiting(&question(Class::Red, "ls")).await;
        let key = format!("sk-ant-api03-{}", "aZ3k9Qw7".repeat(12));
        let reason = format!("not now,\nuse {key} {}", "x".repeat(1000));
        let given = Given { digest: asked.digest.clone(), decision: Decision::Deny, reason, number: String::new() };
        let denied = rig.approvals.decide(PersonId::new(7), asked.id, given).await.unwrap();
        let said = denied.denial.unwrap();
        assert!(said.starts_with("not now, use [REDACTED") && !said.contains(&key[20..]) && said.chars().count() <= DENIAL_CHARS_MAX, "{said}");
        assert_eq!(rig.approvals.to_nudge().await.unwrap()[0].id, asked.id, "nobody held the call: its session is told");
        rig.approvals.nudged(asked.id).await.unwrap();
        rig.clock.advance(LIFE_MS as u64);
        assert!(rig.approvals.to_nudge().await.unwrap().is_empty(), "once");
    }

    #[tokio::test]
    async fn a_wrong_answer_is_refused_by_name() {
        let rig = Rig::new();
        let asked = rig.waiting(&question(Class::Red, "ls")).await;
        let unknown = Approval { id: ApprovalId::new(1), ..asked.clone() };
        assert_eq!(rig.decide(&unknown, Decision::Approve).await, Err(UNKNOWN));
        let changed = Approval { digest: "0".into(), ..asked.clone() };
        assert_eq!(rig.decide(&changed, Decision::Approve).await, Err(CHANGED));
        assert_eq!(rig.decide(&asked, Decision::Deny).await, Ok(ApprovalState::Denied));
        assert_eq!(rig.decide(&asked, Decision::Approve).await, Err(DECIDED));
        let late = rig.waiting(&question(Class::Red, "late")).await;
        rig.clock.advance(LIFE_MS as u64);
        assert_eq!(rig.decide(&late, Decision::Approve).await, Err(EXPIRED));
        assert_eq!(rig.approvals.open().await.unwrap(), [], "nothing expired is listed as open");
    }

    #[tokio::test]
    async fn questions_are_counted_by_rule_and_day_and_by_what_became_of_them() {
        let rig = Rig::new();
        let of = |rule: &str, n: u32| Question {
            finding: Finding { rule: rule.to_owned(), ..question(Class::Yellow, "").finding },
            ..question(Class::Yellow, &format!("{rule} {n}"))
        };
        rig.clock.advance(10 * DAY_MS as u64);
        for (rule, n, decision) in [("a", 1, Some(Decision::Approve)), ("a", 2, Some(Decision::Deny)), ("b", 1, None)] {
            let asked = rig.waiting(&of(rule, n)).await;
            if let Some(decision) = decision {
                rig.decide(&asked, decision).await.unwrap();
            }
        }
        rig.clock.advance(6 * DAY_MS as u64);
        rig.waiting(&of("a", 3)).await;
        let told = |asks: Vec<Asks>| asks.into_iter().map(|asks| (asks.rule, asks.days, asks.yes, asks.no)).collect::<Vec<_>>();
        assert_eq!(told(rig.approvals.asks().await.unwrap()), [("a".into(), vec![2, 0, 0, 0, 0, 0, 1], 1, 1), ("b".into(), vec![1, 0, 0, 0, 0, 0, 0], 0, 0)]);
        rig.clock.advance(DAY_MS as u64);
        assert_eq!(told(rig.approvals.asks().await.unwrap()), [("a".into(), vec![0, 0, 0, 0, 0, 1, 0], 0, 0)]);
    }

    /// Every class and every backing of a yes.
    #[tokio::test]
    async fn the_whole_table_of_what_must_stand_behind_a_yes() {
        let rig = Rig::new();
        let backings = [
            Backing::Session,
            Backing::Key { password: false },
            Backing::Passkey { verified: false },
            Backing::Key { password: true },
            Backing::Passkey { verified: true },
        ];
        let yes = Ok((ApprovalState::Approved, Scope::Once));
        let (sign, more) = (Err(NEEDS_SIGNATURE), Err(NEEDS_MORE));
        for (class, unknown, expected) in [
            (Class::Green, false, [yes, yes, yes, yes, yes]),
            (Class::Yellow, false, [yes, yes, yes, yes, yes]),
            (Class::Yellow, true, [sign, yes, yes, yes, yes]),
            (Class::Red, false, [sign, yes, yes, yes, yes]),
            (Class::Red, true, [sign, yes, yes, yes, yes]),
            (Class::CriticalRed, false, [sign, more, more, yes, yes]),
            (Class::CriticalRed, true, [sign, more, more, yes, yes]),
        ] {
            let asked = rig
                .waiting(&Question { finding: Finding { class, unknown, ..Finding::unknown("test") }, ..question(class, &format!("{class:?}{unknown}")) })
                .await;
            for (backing, expected) in backings.into_iter().zip(expected) {
                let given = |decision| Given { digest: asked.digest.clone(), decision, reason: String::new(), number: asked.number.clone() };
                assert_eq!(answer(&asked, &given(Decision::Approve), backing), expected, "{class:?} unknown {unknown} {backing:?}");
                assert_eq!(answer(&asked, &given(Decision::Deny), backing), Ok((ApprovalState::Denied, Scope::Once)), "a no is always taken");
            }
        }
    }

    #[tokio::test]
    async fn a_grant_expires_and_the_list_is_bounded() {
        let rig = Rig::new();
        let ls = question(Class::Yellow, "ls");
        let asked = rig.waiting(&ls).await;
        rig.decide(&asked, Decision::Approve).await.unwrap();
        rig.clock.advance(LIFE_MS as u64);
        assert!(matches!(rig.ask(&ls).await, Asked::Waiting { fresh: true, .. }), "an old grant is none");
        for n in 1..OPEN_MAX {
            rig.waiting(&question(Class::Red, &n.to_string())).await;
        }
        assert!(matches!(rig.ask(&question(Class::Red, "one too many")).await, Asked::TooMany));
    }

    #[tokio::test]
    async fn ten_thousand_questions_leave_room_for_answers() {
        let rig = Rig::new();
        let now_ms = rig.clock.wall_ms();
        let work = move |tx: &Tx| {
            let asked = (0..10_000).map(|n| ask(tx, &question(Class::Red, &n.to_string()), Drawn::now(), now_ms));
            Ok::<_, StoreError>(asked.collect::<rusqlite::Result<Vec<_>>>()?)
        };
        let asked = rig.approvals.store.write(work).await.unwrap();
        assert_eq!(asked.iter().filter(|asked| matches!(asked, Asked::TooMany)).count() as i64, 10_000 - OPEN_MAX);
        assert_eq!(rig.approvals.list().await.unwrap().len() as i64, OPEN_MAX);
        let Asked::Waiting { approval, .. } = &asked[0] else { panic!("the first one waits") };
        assert!(matches!(rig.ask(&question(Class::Red, "0")).await, Asked::Waiting { fresh: false, .. }), "what was asked already is found again");
        rig.decide(approval, Decision::Deny).await.unwrap();
        assert!(matches!(rig.ask(&question(Class::Red, "10000")).await, Asked::Waiting { fresh: true, .. }), "an answer makes room");
    }

    #[tokio::test]
    async fn a_clock_that_jumps_gives_no_grant_more_time() {
        const HOUR_MS: i64 = 3_600_000;
        for (jump_ms, granted) in [(0, true), (-240_000, true), (-BACK_MS_MAX - 1, false), (-30 * 24 * HOUR_MS, false), (LIFE_MS, false), (HOUR_MS, true)] {
            let rig = Rig::new();
            rig.clock.jump_wall(365 * 24 * HOUR_MS);
            let ls = question(Class::Yellow, "ls");
            let asked = rig.waiting(&ls).await;
            rig.decide(&asked, Decision::ApproveDay).await.unwrap();
            rig.approvals.sweep().await.unwrap();
            rig.clock.advance(60_000);
            rig.clock.jump_wall(jump_ms);
            rig.approvals.heed_clock().await.unwrap();
            assert_eq!(matches!(rig.ask(&ls).await, Asked::Granted(_)), granted, "{jump_ms}");
            // Back and forth again brings nothing back.
            rig.clock.jump_wall(-jump_ms);
            rig.approvals.heed_clock().await.unwrap();
            assert!(granted || !matches!(rig.ask(&ls).await, Asked::Granted(_)), "{jump_ms}");
        }
    }

    #[tokio::test]
    async fn a_clock_that_went_back_while_nobody_ran_ends_grants_too() {
        let rig = Rig::new();
        rig.clock.jump_wall(10 * LIFE_MS);
        let ls = question(Class::Yellow, "ls");
        rig.decide(&rig.waiting(&ls).await, Decision::ApproveDay).await.unwrap();
        rig.clock.jump_wall(-LIFE_MS);
        let next = Approvals::new(rig.approvals.store.clone(), rig.clock.clone(), rig.approvals.levels.clone(), rig.approvals.pauses.clone());
        next.heed_clock().await.unwrap();
        assert!(!matches!(rig.ask(&ls).await, Asked::Granted(_)));
    }
}
