//! The persons of this tenant and their sessions.
//!
//! The first person is the owner, who comes in by a link that works once and only while there is nobody. Names are for
//! people; everything else carries the person's id.

use crate::audit::{self, Deed};
use crate::identity::parsed;
use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};
use service::limiter::Limiter;
use service::text::Language;
use service::{Clock, Refusal, SecretString, Store, Tx, password, random};
use std::collections::HashMap;
use tokio::sync::broadcast;
use wire::{AssistantId, PersonId};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Everything.
    Owner,
    /// Chats, and decides approvals.
    Approver,
    /// Chats.
    Member,
}

impl Role {
    pub fn may_decide(self) -> bool {
        matches!(self, Role::Owner | Role::Approver)
    }

    pub fn name(self) -> &'static str {
        match self {
            Role::Owner => "owner",
            Role::Approver => "approver",
            Role::Member => "member",
        }
    }

    pub fn parse(name: &str) -> Option<Role> {
        [Role::Owner, Role::Approver, Role::Member].into_iter().find(|role| role.name() == name)
    }
}

/// What somebody may do about one assistant, within their role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum May {
    /// Chat, and see what it asks.
    See,
    /// Also decide, if the role does.
    Decide,
}

/// Which assistants somebody has to do with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    All,
    Only(HashMap<AssistantId, May>),
}

impl Reach {
    pub fn sees(&self, assistant: AssistantId) -> bool {
        match self {
            Reach::All => true,
            Reach::Only(held_to) => held_to.contains_key(&assistant),
        }
    }

    pub fn decides(&self, assistant: AssistantId) -> bool {
        match self {
            Reach::All => true,
            Reach::Only(held_to) => held_to.get(&assistant) == Some(&May::Decide),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Person {
    pub id: PersonId,
    pub name: String,
    pub role: Role,
    pub lang: Language,
}

/// A session that has been checked.
#[derive(Clone, Debug)]
pub struct Session {
    pub token_hash: String,
    pub person: Person,
    pub expires_ms: i64,
}

pub struct People {
    store: Store,
    clock: Clock,
    logins: Limiter,
    /// Hashes of sessions that ended, so that their open sockets end too.
    ended: broadcast::Sender<String>,
}

pub const SESSION_MS: i64 = 24 * 3_600_000;
const NAME_CHARS_MAX: usize = 64;
/// Sessions of one person; the oldest goes first.
const SESSIONS_MAX: i64 = 20;
const LOGINS_MAX: usize = 5;
const LOGIN_WINDOW_MS: u64 = 15 * 60_000;
/// Sessions that can end at once without an open socket missing it; a socket that lags behind ends.
const ENDED_BUFFER: usize = 64;

const SPENT: Refusal = Refusal::new(axum::http::StatusCode::GONE, "first_link_spent");
const PASSWORD_WEAK: Refusal = Refusal::new(axum::http::StatusCode::UNPROCESSABLE_ENTITY, "password_weak");
const NAME_INVALID: Refusal = Refusal::new(axum::http::StatusCode::UNPROCESSABLE_ENTITY, "name_invalid");
const PASSWORD_WRONG: Refusal = Refusal::new(axum::http::StatusCode::FORBIDDEN, "password_wrong");
const REACH_OF_OWNER: Refusal = Refusal::new(axum::http::StatusCode::CONFLICT, "reach_of_owner");
const NAME_TAKEN: Refusal = Refusal::new(axum::http::StatusCode::CONFLICT, "name_taken");

impl People {
    pub fn new(store: Store, clock: Clock) -> People {
        People { store, clock, logins: Limiter::new(LOGINS_MAX, LOGIN_WINDOW_MS), ended: broadcast::channel(ENDED_BUFFER).0 }
    }

    /// A new token for the owner's link, or `None` when somebody is here already. An earlier unspent link dies.
    pub async fn first_link(&self) -> Result<Option<String>, Refusal> {
        let (token, now_ms) = (random::token(), self.clock.wall_ms());
        let hash = random::token_hash(&token);
        let minted = self.store.write(move |tx| {
            if anybody(tx)? {
                return Ok(false);
            }
            tx.execute("INSERT OR REPLACE INTO first_link (one, token_hash, created_ms) VALUES (1, ?1, ?2)", params![hash, now_ms])?;
            audit::note(tx, now_ms, &Deed { actor: "console", deed: "first_link", subject: "", detail: "" })?;
            Ok::<_, Refusal>(true)
        });
        Ok(minted.await?.then_some(token))
    }

    /// The owner comes in: spends the link, becomes a person, gets a session. `also` is done in the same transaction, or nothing is.
    pub async fn first<F>(&self, token: &str, name: &str, secret: SecretString, lang: Language, also: F) -> Result<(Person, String), Refusal>
    where
        F: FnOnce(&Tx, PersonId, i64) -> Result<(), Refusal> + Send + 'static,
    {
        let hash = random::token_hash(token);
        let spendable = self.store.read(move |c| is_spendable(c, &hash)).await?;
        // Before the costly hash, and again inside the write.
        if !spendable {
            return Err(SPENT);
        }
        let person = self.new_person(name, &secret, Role::Owner, lang)?;
        let password_hash = password::hash(secret).await?;
        let (token_hash, now_ms) = (random::token_hash(token), self.clock.wall_ms());
        let (session, session_hash) = new_session();
        let kept = person.clone();
        self.store
            .write(move |tx| {
                if !is_spendable(tx, &token_hash)? {
                    return Err(SPENT);
                }
                tx.execute("DELETE FROM first_link", [])?;
                insert(tx, &kept, &password_hash, now_ms)?;
                open_session(tx, &session_hash, kept.id, now_ms)?;
                audit::note(tx, now_ms, &Deed { actor: &kept.id.to_string(), deed: "first_owner", subject: "", detail: "" })?;
                also(tx, kept.id, now_ms)
            })
            .await?;
        Ok((person, session))
    }

    /// Adds a person, for an owner or the console.
    pub async fn add(&self, by: &str, name: &str, secret: SecretString, role: Role, lang: Language) -> Result<Person, Refusal> {
        let person = self.new_person(name, &secret, role, lang)?;
        let password_hash = password::hash(secret).await?;
        let (kept, by, now_ms) = (person.clone(), by.to_owned(), self.clock.wall_ms());
        self.store
            .write(move |tx| {
                insert(tx, &kept, &password_hash, now_ms)?;
                audit::note(tx, now_ms, &Deed { actor: &by, deed: "person_added", subject: &kept.id.to_string(), detail: kept.role.name() })?;
                Ok::<_, Refusal>(())
            })
            .await?;
        Ok(person)
    }

    /// Holds somebody to some assistants, or, with none, to all of them again. An owner has all.
    pub async fn set_reach(&self, person: PersonId, only: Vec<(AssistantId, May)>) -> Result<(), Refusal> {
        let now_ms = self.clock.wall_ms();
        self.store
            .write(move |tx| {
                if role(tx, person)? == Some(Role::Owner) {
                    return Err(REACH_OF_OWNER);
                }
                let id = person.to_string();
                tx.execute("DELETE FROM person_assistant WHERE person_id = ?1", [&id])?;
                for (assistant, may) in &only {
                    let sql = "INSERT OR REPLACE INTO person_assistant (person_id, assistant, may) VALUES (?1, ?2, ?3)";
                    tx.execute(sql, params![id, assistant.to_string(), if *may == May::Decide { "decide" } else { "see" }])?;
                }
                let detail = format!("{} assistants", only.len());
                Ok(audit::note(tx, now_ms, &Deed { actor: "console", deed: "reach_set", subject: &id, detail: &detail })?)
            })
            .await
    }

    pub async fn reach(&self, person: PersonId) -> service::store::Result<Reach> {
        self.store.read(move |c| reach(c, person)).await
    }

    /// Sets a password anew, at the console. Whoever came in with the old one is out.
    pub async fn set_password(&self, person: PersonId, secret: SecretString) -> Result<(), Refusal> {
        is_password(&secret)?;
        let (hash, now_ms) = (password::hash(secret).await?, self.clock.wall_ms());
        let gone = self
            .store
            .write(move |tx| {
                let id = person.to_string();
                tx.execute("UPDATE person SET password_hash = ?2 WHERE id = ?1", params![id, hash])?;
                audit::note(tx, now_ms, &Deed { actor: "console", deed: "password_set", subject: &id, detail: "" })?;
                let gone = tx
                    .prepare("DELETE FROM session WHERE person_id = ?1 RETURNING token_hash")?
                    .query_map([&id], |row| row.get(0))?
                    .collect::<rusqlite::Result<Vec<String>>>()?;
                Ok::<_, Refusal>(gone)
            })
            .await?;
        for hash in gone {
            let _ = self.ended.send(hash);
        }
        Ok(())
    }

    /// Whether this is the person's password. Tries count with those of the login, so that a stolen session cannot guess on.
    pub async fn confirms(&self, peer: &str, person: &Person, secret: SecretString) -> Result<(), Refusal> {
        let found = self.known(peer, &person.name, secret).await?;
        found.filter(|found| found.id == person.id).map(drop).ok_or(PASSWORD_WRONG)
    }

    /// Whom name and password name together.
    async fn known(&self, peer: &str, name: &str, secret: SecretString) -> Result<Option<Person>, Refusal> {
        let key = name_key(name);
        let (by_peer, by_name) = (format!("peer {peer}"), format!("name {key}"));
        let keys = [by_peer.as_str(), by_name.as_str()];
        self.logins.try_all(&keys, self.clock.now().mono_ms).map_err(|wait_ms| Refusal::login_limited(wait_ms.div_ceil(1000)))?;
        let found = self.store.read(move |c| by_name_key(c, &key)).await?;
        let (person, hash) = found.map_or((None, None), |(person, hash)| (Some(person), Some(hash)));
        // Longer input is hashed like a wrong password, not read.
        let secret = if secret.expose().len() > password::BYTES_MAX { SecretString::new(String::new()) } else { secret };
        let right = password::verify(secret, hash).await?;
        let person = person.filter(|_| right);
        if person.is_some() {
            self.logins.forget(&keys);
        }
        Ok(person)
    }

    /// Everybody, by name.
    pub async fn list(&self) -> service::store::Result<Vec<Person>> {
        self.store.read(|c| c.prepare(&format!("SELECT {PERSON} FROM person ORDER BY name_key"))?.query_map([], person_of)?.collect()).await
    }

    /// Who has this name.
    pub async fn named(&self, name: &str) -> service::store::Result<Option<Person>> {
        let key = name_key(name);
        Ok(self.store.read(move |c| by_name_key(c, &key)).await?.map(|(person, _)| person))
    }

    /// Name and password for a session. `peer` is counted beside the name, so that neither can be tried without end.
    pub async fn login(&self, peer: &str, name: &str, secret: SecretString) -> Result<(Person, String), Refusal> {
        let Some(person) = self.known(peer, name, secret).await? else { return Err(Refusal::LOGIN_WRONG) };
        let (session, session_hash) = new_session();
        let (id, now_ms) = (person.id, self.clock.wall_ms());
        let gone = self
            .store
            .write(move |tx| {
                let gone = open_session(tx, &session_hash, id, now_ms)?;
                audit::note(tx, now_ms, &Deed { actor: &id.to_string(), deed: "login", subject: "", detail: "" })?;
                Ok::<_, Refusal>(gone)
            })
            .await?;
        for hash in gone {
            let _ = self.ended.send(hash);
        }
        Ok((person, session))
    }

    pub async fn session(&self, token_hash: Option<String>) -> Result<Session, Refusal> {
        let Some(token_hash) = token_hash else { return Err(Refusal::SESSION_MISSING) };
        let now_ms = self.clock.wall_ms();
        let hash = token_hash.clone();
        let found = self.store.read(move |c| by_session(c, &hash, now_ms)).await?;
        let (person, expires_ms) = found.ok_or(Refusal::SESSION_MISSING)?;
        Ok(Session { token_hash, person, expires_ms })
    }

    pub async fn logout(&self, session: Session) -> Result<(), Refusal> {
        let now_ms = self.clock.wall_ms();
        let (hash, actor) = (session.token_hash.clone(), session.person.id.to_string());
        self.store
            .write(move |tx| {
                tx.execute("DELETE FROM session WHERE token_hash = ?1", [&hash])?;
                audit::note(tx, now_ms, &Deed { actor: &actor, deed: "logout", subject: "", detail: "" })?;
                Ok::<_, Refusal>(())
            })
            .await?;
        // Nobody listening is fine: then no socket is open.
        let _ = self.ended.send(session.token_hash);
        Ok(())
    }

    pub fn ended(&self) -> broadcast::Receiver<String> {
        self.ended.subscribe()
    }

    fn new_person(&self, name: &str, secret: &SecretString, role: Role, lang: Language) -> Result<Person, Refusal> {
        let name = name.trim();
        if name.is_empty() || name.chars().count() > NAME_CHARS_MAX || name.chars().any(|c| c.is_control()) {
            return Err(NAME_INVALID);
        }
        is_password(secret)?;
        Ok(Person { id: random::id(), name: name.to_owned(), role, lang })
    }
}

fn is_password(secret: &SecretString) -> Result<(), Refusal> {
    // The length is all that is looked at.
    let length = secret.expose().chars().count();
    if length < password::CHARS_MIN || secret.expose().len() > password::BYTES_MAX { Err(PASSWORD_WEAK) } else { Ok(()) }
}

/// Two names that differ only in case or surrounding space are one person's.
fn name_key(name: &str) -> String {
    name.trim().to_lowercase().chars().take(NAME_CHARS_MAX).collect()
}

/// A token for the browser, and its hash for the store.
fn new_session() -> (String, String) {
    let token = random::token();
    let hash = random::token_hash(&token);
    (token, hash)
}

fn anybody(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row("SELECT EXISTS (SELECT 1 FROM person)", [], |row| row.get(0))
}

fn is_spendable(connection: &Connection, token_hash: &str) -> rusqlite::Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM first_link WHERE token_hash = ?1) AND NOT EXISTS (SELECT 1 FROM person)";
    connection.query_row(sql, [token_hash], |row| row.get(0))
}

fn insert(tx: &Tx, person: &Person, password_hash: &str, now_ms: i64) -> Result<(), Refusal> {
    let sql = "INSERT INTO person (id, name, name_key, role, language, password_hash, created_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (name_key) DO NOTHING";
    let row = params![person.id.to_string(), person.name, name_key(&person.name), person.role.name(), person.lang.name(), password_hash, now_ms];
    if tx.execute(sql, row)? == 0 { Err(NAME_TAKEN) } else { Ok(()) }
}

/// Opens a session; the hashes of those that had to make room.
fn open_session(tx: &Tx, token_hash: &str, person: PersonId, now_ms: i64) -> rusqlite::Result<Vec<String>> {
    let person = person.to_string();
    tx.execute("DELETE FROM session WHERE expires_ms <= ?1", [now_ms])?;
    let oldest = "DELETE FROM session WHERE person_id = ?1 AND token_hash NOT IN (SELECT token_hash FROM session WHERE person_id = ?1 ORDER BY created_ms DESC LIMIT ?2) RETURNING token_hash";
    let gone: Vec<String> = tx.prepare(oldest)?.query_map(params![person, SESSIONS_MAX - 1], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    let sql = "INSERT INTO session (token_hash, person_id, created_ms, expires_ms) VALUES (?1, ?2, ?3, ?4)";
    tx.execute(sql, params![token_hash, person, now_ms, now_ms + SESSION_MS])?;
    Ok(gone)
}

const PERSON: &str = "person.id, person.name, person.role, person.language";

fn person_of(row: &rusqlite::Row<'_>) -> rusqlite::Result<Person> {
    let (role, lang): (String, String) = (row.get(2)?, row.get(3)?);
    Ok(Person {
        id: parsed(row, 0)?,
        name: row.get(1)?, // A role that cannot be read is the least one.
        role: Role::parse(&role).unwrap_or(Role::Member),
        lang: Language::parse(&lang).unwrap_or_default(),
    })
}

/// What somebody may do; nothing when there is no such person.
pub fn role(connection: &Connection, person: PersonId) -> rusqlite::Result<Option<Role>> {
    let role: Option<String> = connection.query_row("SELECT role FROM person WHERE id = ?1", [person.to_string()], |row| row.get(0)).optional()?;
    Ok(role.map(|role| Role::parse(&role).unwrap_or(Role::Member)))
}

/// What somebody has to do with, at this moment.
pub fn reach(connection: &Connection, person: PersonId) -> rusqlite::Result<Reach> {
    if role(connection, person)? == Some(Role::Owner) {
        return Ok(Reach::All);
    }
    let mut rows = connection.prepare_cached("SELECT assistant, may FROM person_assistant WHERE person_id = ?1")?;
    let held_to = rows
        .query_map([person.to_string()], |row| {
            let may: String = row.get(1)?;
            Ok((parsed(row, 0)?, if may == "decide" { May::Decide } else { May::See }))
        })?
        .collect::<rusqlite::Result<HashMap<_, _>>>()?;
    Ok(if held_to.is_empty() { Reach::All } else { Reach::Only(held_to) })
}

fn by_name_key(connection: &Connection, name_key: &str) -> rusqlite::Result<Option<(Person, String)>> {
    let sql = format!("SELECT {PERSON}, password_hash FROM person WHERE name_key = ?1");
    connection.query_row(&sql, [name_key], |row| Ok((person_of(row)?, row.get(4)?))).optional()
}

fn by_session(connection: &Connection, token_hash: &str, now_ms: i64) -> rusqlite::Result<Option<(Person, i64)>> {
    let sql = format!("SELECT {PERSON}, expires_ms FROM session JOIN person ON person.id = person_id WHERE token_hash = ?1 AND expires_ms > ?2");
    connection.query_row(&sql, params![token_hash, now_ms], |row| Ok((person_of(row)?, row.get(4)?))).optional()
}
