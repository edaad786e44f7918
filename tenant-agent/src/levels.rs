//! What the tenant has chosen: how much each assistant may do unasked, and which tools may reach other people without a
//! question for that alone.
//!
//! What makes nothing looser is done at once. Everything else is a question like one about a call, of a class that tells what
//! must stand behind a yes; the choice is written down in the transaction of the answer. The company's bounds are not looked
//! at here: `policy` does that whenever a choice is used.

use crate::approvals::{self, Asked, Drawn, Question};
use crate::audit::{self, Deed};
use crate::identity::parsed;
use crate::ledger::{self, Decided};
use crate::people::{self, Role};
use axum::http::StatusCode;
use policy::choice::Refused;
use policy::{Call, Change, Choices, Class, Finding, Level, Regime, Weighed};
use rusqlite::{Connection, Row, params};
use serde::Serialize;
use serde_json::json;
use service::store::StoreError;
use service::{Clock, Refusal, Store, Tx};
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::watch;
use wire::approval::{Approval, Detail};
use wire::enrol::NamedAssistant;
use wire::{AssistantId, PersonId};

/// What is chosen, and where that is kept.
#[derive(Clone)]
pub struct Levels(Arc<Inner>);

struct Inner {
    store: Store,
    clock: Clock,
    now: RwLock<Arc<Choices>>,
    /// One reading after the other, so that the last one has seen every write.
    turn: tokio::sync::Mutex<()>,
    /// One trial at a time: each takes a thread for a while, and anybody who is logged in may ask for one.
    trial: tokio::sync::Mutex<()>,
    changes: watch::Sender<u64>,
}

/// The tool that a question about a choice is under. No assistant has one of this name.
pub const TOOL: &str = "levels";
/// How far back the calls go on which a change is tried.
const WEEK_MS: i64 = 7 * 24 * 3_600_000;
/// So many of them, the newest ones; as many as the ledger keeps.
const TRIED_MAX: u32 = 1_000;

const ABOVE_MOST: Refusal = Refusal::new(StatusCode::CONFLICT, "levels_above_most");
const ALWAYS_ASKS: Refusal = Refusal::new(StatusCode::CONFLICT, "levels_always_asks");
const HELD: Refusal = Refusal::new(StatusCode::CONFLICT, "levels_gate_held");
const TOOL_UNKNOWN: Refusal = Refusal::new(StatusCode::NOT_FOUND, "levels_tool_unknown");
const TOO_MANY: Refusal = Refusal::new(StatusCode::CONFLICT, "approvals_full");

/// Who wants it otherwise.
#[derive(Clone, Debug)]
pub enum By {
    Person { id: PersonId, name: String },
    Console,
}

impl By {
    fn actor(&self) -> String {
        match self {
            By::Person { id, .. } => id.to_string(),
            By::Console => "console".to_owned(),
        }
    }

    fn name(&self) -> &str {
        match self {
            By::Person { name, .. } => name,
            By::Console => "console",
        }
    }
}

/// A choice as it was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    pub assistant: AssistantId,
    pub change: Change,
    pub set_ms: i64,
    /// A person, or `console`.
    pub set_by: String,
    /// The question that was answered, where one was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approval: Option<String>,
}

/// What a change would have done to the calls of the last week.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Effect {
    pub calls: u32,
    pub asks_before: u32,
    pub asks_after: u32,
    /// A secret was masked or a text cut in so many, so they may come out differently.
    pub not_whole: u32,
}

impl Levels {
    /// Nothing chosen yet, until [`Levels::reread`].
    pub fn new(store: Store, clock: Clock) -> Levels {
        Levels(Arc::new(Inner {
            store,
            clock,
            now: RwLock::default(),
            turn: tokio::sync::Mutex::default(),
            trial: tokio::sync::Mutex::default(),
            changes: watch::Sender::new(0),
        }))
    }

    pub async fn open(store: Store, clock: Clock) -> service::store::Result<Levels> {
        let levels = Levels::new(store, clock);
        levels.reread().await?;
        Ok(levels)
    }

    pub fn now(&self) -> Arc<Choices> {
        self.0.now.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Counts what changed.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    /// Brings what is on the disk into force.
    pub async fn reread(&self) -> service::store::Result<()> {
        let _turn = self.0.turn.lock().await;
        let mut choices = Choices::default();
        for Line { assistant, change, .. } in self.lines().await? {
            choices.make(&assistant.to_string(), &change);
        }
        *self.0.now.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(choices);
        self.0.changes.send_modify(|n| *n += 1);
        Ok(())
    }

    pub async fn lines(&self) -> service::store::Result<Vec<Line>> {
        self.0.store.read(lines).await
    }

    /// Makes a change, or asks for it: then an owner has to decide, and it holds when they say yes.
    pub async fn change(
        &self,
        approvals: &approvals::Approvals,
        law: &Regime,
        by: By,
        assistant: &NamedAssistant,
        change: Change,
    ) -> Result<Option<Approval>, Refusal> {
        let weighed = law.weigh(&assistant.id.to_string(), &change).map_err(refusal)?;
        let now_ms = self.0.clock.wall_ms();
        let question = match weighed {
            Weighed::AtOnce => None,
            Weighed::Asked(class) => Some(question(law, &by, assistant, &change, class)),
        };
        let (id, actor) = (assistant.id, by.actor());
        let (asked, closed) = self
            .0
            .store
            .write(move |tx| {
                if let By::Person { id: person, .. } = by {
                    may_change(tx, person, id, weighed)?;
                }
                // What was asked for before and not answered is not wanted any more.
                let kept = question.as_ref().map(|question| question.digest.to_string());
                let closed = approvals::supersede(tx, TOOL, id, &change.about(), kept.as_deref().unwrap_or_default())?;
                let Some(question) = question else {
                    put(tx, id, &change, &actor, None, now_ms)?;
                    return Ok((None, closed));
                };
                let asked = approvals::ask(tx, &question, Drawn::now(), now_ms)?;
                if let Asked::Waiting { approval, fresh: true, .. } = &asked {
                    audit::note(tx, now_ms, &Deed { actor: &actor, deed: "ask", subject: &approval.id.to_string(), detail: &question.finding.rule })?;
                }
                Ok::<_, Refusal>((Some(asked), closed))
            })
            .await?;
        closed.into_iter().for_each(|older| approvals.announce(older));
        match asked {
            None => {
                self.reread().await?;
                Ok(None)
            }
            Some(Asked::Waiting { approval, .. }) => {
                approvals.announce(approval.clone());
                Ok(Some(approval))
            }
            Some(Asked::TooMany | Asked::Granted(_)) => Err(TOO_MANY),
        }
    }

    /// What the change would have done to the week's calls of this assistant.
    pub async fn effect(&self, law: &Regime, assistant: AssistantId, change: &Change) -> service::store::Result<Effect> {
        let _place = self.0.trial.lock().await;
        let since_ms = self.0.clock.wall_ms() - WEEK_MS;
        let calls = self.0.store.read(|c| ledger::decided(c, i64::MAX, TRIED_MAX)).await?;
        let mut choices = (*self.now()).clone();
        choices.make(&assistant.to_string(), change);
        let (law, other) = (law.clone(), law.choosing(Arc::new(choices)));
        // Judging a thousand calls takes a while.
        let tried = tokio::task::spawn_blocking(move || tried(&law, &other, &assistant.to_string(), calls.iter().filter(|call| call.at_ms >= since_ms)));
        tried.await.map_err(|_| StoreError::Stopped)
    }
}

fn tried<'a>(law: &Regime, other: &Regime, assistant: &str, calls: impl Iterator<Item = &'a Decided>) -> Effect {
    let mut effect = Effect::default();
    for Decided { tool, arguments, workspace, resolved, is_whole, .. } in calls.filter(|call| call.assistant == assistant && law.manifest(&call.tool)) {
        let finding = law.classify(&Call { assistant, tool, arguments, workspace, resolved });
        let asks = |law: &Regime| u32::from(matches!(policy::gate(&finding, law.gate(assistant, tool)), policy::Verdict::Ask | policy::Verdict::AskSigned));
        effect.calls += 1;
        effect.asks_before += asks(law);
        effect.asks_after += asks(other);
        effect.not_whole += u32::from(!is_whole);
    }
    effect
}

/// Whether somebody may make a change: owners every one, others who decide about the assistant what makes nothing looser.
fn may_change(tx: &Tx, person: PersonId, assistant: AssistantId, weighed: Weighed) -> Result<(), Refusal> {
    match people::role(tx, person)? {
        Some(Role::Owner) => Ok(()),
        Some(role) if weighed == Weighed::AtOnce && role.may_decide() && people::reach(tx, person)?.decides(assistant) => Ok(()),
        _ => Err(Refusal::FORBIDDEN),
    }
}

/// Why the law lets nobody here make a change, as a caller is told.
pub fn refusal(refused: Refused) -> Refusal {
    match refused {
        Refused::AboveMost => ABOVE_MOST,
        Refused::AlwaysAsks => ALWAYS_ASKS,
        Refused::Held => HELD,
        Refused::ToolUnknown => TOOL_UNKNOWN,
    }
}

/// What holds for an assistant, what the company says by itself, and how far it lets the tenant go.
pub fn row(law: &Regime, assistant: &NamedAssistant) -> serde_json::Value {
    let id = assistant.id.to_string();
    let plain = law.choosing(Arc::default());
    let (now, ours) = (law.gate(&id, ""), plain.gate(&id, ""));
    let gates: Vec<_> = law
        .gated_tools()
        .filter(|tool| !UNUSED.contains(tool))
        .map(|tool| json!({ "tool": tool, "open": law.gate(&id, tool).external_unlocked, "company": plain.gate(&id, tool).external_unlocked, "held": law.is_held(tool) }))
        .collect();
    json!({
        "id": assistant.id, "name": assistant.name, "level": now.level, "level_company": ours.level, "level_most": law.level_most(),
        "ask_red": now.ask_red, "always_asks_red": law.always_asks_red(&id), "gates": gates,
    })
}

/// Assistants have this one only by the law's list: `exec` is in its place.
const UNUSED: [&str; 1] = ["process"];

/// A question of ours: of no session, which no tool call's is.
pub fn is_about_one(approval: &Approval) -> bool {
    approval.tool == TOOL && approval.session.is_empty()
}

/// An owner said yes: the choice is made. Part of the transaction of the answer.
pub fn granted(tx: &Tx, approval: &Approval, by: &str, now_ms: i64) -> Result<(), Refusal> {
    let change = change_of(approval).ok_or(Refusal::INTERNAL)?;
    put(tx, approval.assistant, &change, by, Some(&approval.id.to_string()), now_ms)
}

fn rule(change: &Change) -> &'static str {
    match change {
        Change::Level { to: Level::L3 } => "levels.dangerous",
        Change::Level { .. } => "levels.higher",
        Change::AskRed { .. } => "levels.ask_red",
        Change::Gate { .. } => "levels.gate",
    }
}

fn question(law: &Regime, by: &By, assistant: &NamedAssistant, change: &Change, class: Class) -> Question {
    let (id, rule) = (assistant.id.to_string(), rule(change));
    let arguments = json!({ "change": change });
    let mut finding = Finding { class, unknown: false, external: matches!(change, Change::Gate { .. }), ..Finding::unknown(rule) };
    if let Some(sentence) = law.law().sentence(rule) {
        finding.reason = sentence.clone();
    }
    let detail = |name: &str, value: &str| Detail { name: name.to_owned(), value: value.to_owned() };
    let what = match change {
        Change::Level { to } => vec![detail("level", to.name()), detail("level now", law.gate(&id, "").level.name())],
        Change::AskRed { ask } => vec![detail("ask_red", if *ask { "on" } else { "off" })],
        Change::Gate { tool, open } => vec![detail("tool", tool), detail("gate", if *open { "open" } else { "locked" })],
    };
    let digest = policy::digest(&Call { assistant: &id, tool: TOOL, arguments: &arguments, workspace: "", resolved: &[] }, &[]);
    Question {
        assistant: assistant.id,
        session: String::new(),
        // No call waits: here stands what it is about.
        call_id: change.about(),
        tool: TOOL.to_owned(),
        finding,
        details: [vec![detail("assistant", &assistant.name)], what, vec![detail("wanted by", by.name())]].concat(),
        digest,
    }
}

/// What a question of ours asks for.
fn change_of(approval: &Approval) -> Option<Change> {
    let of = |name: &str| approval.details.iter().find(|detail| detail.name == name).map(|detail| detail.value.as_str());
    match (of("level"), of("ask_red"), of("tool"), of("gate")) {
        (Some(level), ..) => Some(Change::Level { to: Level::parse(level)? }),
        (_, Some(ask), ..) => Some(Change::AskRed { ask: ask == "on" }),
        (.., Some(tool), Some(gate)) => Some(Change::Gate { tool: tool.to_owned(), open: gate == "open" }),
        _ => None,
    }
}

fn put(tx: &Tx, assistant: AssistantId, change: &Change, by: &str, approval: Option<&str>, now_ms: i64) -> Result<(), Refusal> {
    let sql = "INSERT OR REPLACE INTO tenant_choice (assistant, about, change, set_ms, set_by, approval) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    let text = serde_json::to_string(change).map_err(anyhow::Error::new)?;
    tx.execute(sql, params![assistant.to_string(), change.about(), text, now_ms, by, approval])?;
    let detail = match change {
        Change::Level { to } => format!("level {}", to.name()),
        Change::AskRed { ask } => format!("ask_red {}", if *ask { "on" } else { "off" }),
        Change::Gate { tool, open } => format!("gate {tool} {}", if *open { "open" } else { "locked" }),
    };
    let detail = approval.map_or_else(|| detail.clone(), |approval| format!("{detail} {approval}"));
    audit::note(tx, now_ms, &Deed { actor: by, deed: "level_set", subject: &assistant.to_string(), detail: &detail })?;
    Ok(())
}

fn lines(connection: &Connection) -> rusqlite::Result<Vec<Line>> {
    let mut rows = connection.prepare("SELECT assistant, change, set_ms, set_by, approval FROM tenant_choice ORDER BY assistant, about")?;
    rows.query_map([], line_of)?.collect()
}

/// A choice that cannot be read is an error: without it, more might run than somebody chose.
fn line_of(row: &Row<'_>) -> rusqlite::Result<Line> {
    let text: String = row.get(1)?;
    let wrong = |error| rusqlite::Error::FromSqlConversionFailure(1, rusqlite::types::Type::Text, Box::new(error));
    let change = serde_json::from_str(&text).map_err(wrong)?;
    Ok(Line { assistant: parsed(row, 0)?, change, set_ms: row.get(2)?, set_by: row.get(3)?, approval: row.get(4)? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::approval::{ApprovalState, Scope};

    fn law() -> Regime {
        shipped::regime(&shipped::content(), "ten_a", &[], i64::MAX, 0, true).unwrap().0
    }

    fn alba() -> NamedAssistant {
        NamedAssistant { id: AssistantId::new(1), name: "Alba".to_owned() }
    }

    #[test]
    fn a_question_says_in_words_what_it_asks_for_and_is_read_back() {
        let law = law();
        for change in [
            Change::Level { to: Level::L2 },
            Change::Level { to: Level::L3 },
            Change::AskRed { ask: false },
            Change::Gate { tool: "message".to_owned(), open: true },
        ] {
            let question = question(&law, &By::Console, &alba(), &change, Class::CriticalRed);
            assert!(question.finding.reason.de.len() > 20 && question.finding.reason.en.len() > 20, "{change:?}");
            let approval = Approval {
                id: wire::ApprovalId::new(1),
                assistant: question.assistant,
                session: question.session,
                call_id: question.call_id,
                tool: question.tool,
                class: Class::CriticalRed,
                external: false,
                unknown: false,
                rule: question.finding.rule,
                sentence: question.finding.reason,
                details: question.details,
                digest: question.digest.to_string(),
                number: String::new(),
                created_ms: 0,
                expires_ms: 0,
                state: ApprovalState::Pending,
                scope: Scope::Once,
                decided_ms: None,
                decided_by: None,
                signed_by: None,
                denial: None,
                outcome: None,
            };
            assert!(is_about_one(&approval));
            assert_eq!(change_of(&approval), Some(change));
        }
    }

    #[test]
    fn a_change_is_tried_on_the_weeks_calls_of_its_assistant() {
        let law = law();
        let call = |assistant: u128, tool: &str, arguments: serde_json::Value| Decided {
            n: 0,
            at_ms: 0,
            assistant: AssistantId::new(assistant).to_string(),
            tool: tool.to_owned(),
            arguments,
            workspace: "/w".to_owned(),
            resolved: Vec::new(),
            is_whole: true,
            class: String::new(),
            rule: String::new(),
            verdict: String::new(),
        };
        let send = |assistant| call(assistant, "message", json!({ "action": "send", "to": "bob", "message": "hello" }));
        let calls = [send(1), send(2), call(1, "exec", json!({ "command": "mkdir drafts" })), call(1, "gone", json!({}))];
        let id = AssistantId::new(1).to_string();
        let asks = |change: Change| {
            let mut choices = Choices::default();
            choices.make(&id, &change);
            let effect = tried(&law, &law.choosing(Arc::new(choices)), &id, calls.iter());
            (effect.calls, effect.asks_before, effect.asks_after)
        };
        assert_eq!(asks(Change::Level { to: Level::L1 }), (2, 1, 2));
        assert_eq!(asks(Change::Gate { tool: "message".to_owned(), open: true }), (2, 1, 0));
    }
}
