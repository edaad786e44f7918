//! The devices of persons: browsers' keys and passkeys whose signature counts as their person's word.
//!
//! Everything that a device says is a [`wire::device::Statement`]: heard ([`Devices::heard`] proves it), then spent
//! ([`spend`], in the transaction of what it asks for) so that it counts once. The first device comes with the owner's link;
//! another one only by an enrolled one, by a code (of an enrolled device, of recovery, of the console), or by a reset that
//! was announced and that nobody has cancelled in [`RESET_WAIT_MS`].

pub mod proof;
#[cfg(test)]
mod signer;
#[cfg(test)]
mod tests;

use crate::audit;
use crate::identity::parsed;
use crate::people::{self, Role};
use axum::http::StatusCode;
use proof::{Place, PublicKey, Strength};
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::Deserialize;
use service::limiter::Limiter;
use service::{Clock, Refusal, SecretString, Store, Tx, password, random};
use std::sync::Arc;
use tokio::sync::watch;
use wire::device::{CANDIDATE_DOMAIN, Deed, DeviceKind, DeviceView, Proof, Signed, Statement};
use wire::{DeviceId, PersonId, TenantId};

#[derive(Clone)]
pub struct Devices(Arc<Inner>);

struct Inner {
    store: Store,
    clock: Clock,
    tenant: TenantId,
    place: Place,
    tries: Limiter,
    /// Counts what changed.
    changes: watch::Sender<u64>,
}

/// A statement may be spent within this time of being made: as long as a question stands.
pub const STATEMENT_LIFE_MS: i64 = 24 * 3_600_000;
/// Longer than statements live: a clock that was set back must not make an old one new again.
const NONCE_KEPT_MS: i64 = 30 * 24 * 3_600_000;
/// Devices of one person.
const DEVICES_MAX: i64 = 20;
const NAME_CHARS_MAX: usize = 64;
/// Nobody's credential id is longer.
const CREDENTIAL_CHARS_MAX: usize = 1400;
/// A code is typed on another device in a minute; somebody at the console may have to hand it over.
const CODE_LIFE_MS: i64 = 15 * 60_000;
const CONSOLE_CODE_LIFE_MS: i64 = 3_600_000;
/// Codes of one person that wait for their use, recovery codes not counted.
const CODES_MAX: i64 = 5;
pub const RECOVERY_CODES: usize = 8;
/// Long enough for an owner to notice over a weekend.
pub const RESET_WAIT_MS: i64 = 72 * 3_600_000;
/// Then it is open this long, and lapses.
const RESET_OPEN_MS: i64 = 7 * 24 * 3_600_000;
const TRIES_MAX: usize = 5;
const TRY_WINDOW_MS: u64 = 15 * 60_000;

pub const MALFORMED: Refusal = Refusal::new(StatusCode::BAD_REQUEST, "statement_malformed");
pub const FOREIGN: Refusal = Refusal::new(StatusCode::FORBIDDEN, "statement_foreign");
pub const LATE: Refusal = Refusal::new(StatusCode::GONE, "statement_late");
pub const REPLAYED: Refusal = Refusal::new(StatusCode::CONFLICT, "statement_replayed");
pub const SIGNATURE_WRONG: Refusal = Refusal::new(StatusCode::FORBIDDEN, "statement_unproved");
pub const UNKNOWN: Refusal = Refusal::new(StatusCode::FORBIDDEN, "device_unknown");
pub const COPIED: Refusal = Refusal::new(StatusCode::FORBIDDEN, "device_copied");
const CANDIDATE_WRONG: Refusal = Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, "device_key_wrong");
const KNOWN: Refusal = Refusal::new(StatusCode::CONFLICT, "device_known");
const TOO_MANY: Refusal = Refusal::new(StatusCode::CONFLICT, "devices_too_many");
const NEEDS_TICKET: Refusal = Refusal::new(StatusCode::FORBIDDEN, "device_needs_ticket");
const CODE_WRONG: Refusal = Refusal::new(StatusCode::FORBIDDEN, "device_code_wrong");
const RESET_ANNOUNCED: Refusal = Refusal::new(StatusCode::CONFLICT, "reset_announced");
const RESET_UNKNOWN: Refusal = Refusal::new(StatusCode::NOT_FOUND, "reset_unknown");

/// A statement whose proof holds; it still has to be spent.
#[derive(Clone, Debug)]
pub struct Heard {
    pub statement: Statement,
    pub strength: Strength,
    pub signed: Signed,
}

/// A key that wants to become a device.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Candidate {
    pub name: String,
    pub kind: DeviceKind,
    /// SubjectPublicKeyInfo in base64url, as browsers export it.
    pub public_key: String,
    #[serde(default)]
    pub credential: Option<String>,
    /// That the key is there and works: over the ticket that lets it in.
    pub proof: Proof,
}

/// What lets another device in.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Ticket {
    /// An enrolled device of the same person vouches for the key.
    Device {
        signed: Signed,
    },
    Code {
        code: String,
    },
    /// The person's announced reset has waited long enough.
    Reset {},
}

/// An announced reset.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Reset {
    pub person: PersonId,
    pub asked_ms: i64,
    pub ripe_ms: i64,
}

/// A candidate that has proved its key.
pub struct Proved {
    name: String,
    kind: DeviceKind,
    key: PublicKey,
    credential: Option<String>,
    count: u32,
}

/// What a new key proves: that it was there when this ticket was shown at this address.
fn candidate_text(origin: &str, ticket: &str, public_key: &str) -> String {
    format!("{CANDIDATE_DOMAIN}{origin}\n{ticket}\n{public_key}")
}

impl Devices {
    pub fn new(store: Store, clock: Clock, tenant: TenantId, origin: &str) -> Devices {
        let place = Place { origin: origin.to_owned() };
        Devices(Arc::new(Inner { store, clock, tenant, place, tries: Limiter::new(TRIES_MAX, TRY_WINDOW_MS), changes: watch::Sender::new(0) }))
    }

    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    fn changed(&self) {
        self.0.changes.send_modify(|n| *n += 1);
    }

    /// Proves a statement, whatever way it came. Writes nothing, so that a flood of forged ones costs no disk.
    pub async fn heard(&self, signed: Signed) -> Result<Heard, Refusal> {
        let statement = proof::statement(&signed.statement).ok_or(MALFORMED)?;
        if statement.tenant != self.0.tenant {
            return Err(FOREIGN);
        }
        in_time(&statement, self.0.clock.wall_ms())?;
        let (person, device) = (statement.person, statement.device);
        let (kind, key) = self.0.store.read(move |c| key_of(c, person, device)).await?.ok_or(UNKNOWN)?;
        let text = proof::signed_text(&signed.statement);
        let strength = proof::strength(&text, kind, &key, &signed.proof, &self.0.place).ok_or(SIGNATURE_WRONG)?;
        Ok(Heard { statement, strength, signed })
    }

    /// Whether the candidate's key works, and was brought for this ticket.
    pub fn proved(&self, candidate: Candidate, ticket: &str) -> Result<Proved, Refusal> {
        let Candidate { name, kind, public_key, credential, proof } = candidate;
        let name = name.trim().to_owned();
        if name.is_empty() || name.chars().count() > NAME_CHARS_MAX || name.chars().any(char::is_control) {
            return Err(CANDIDATE_WRONG);
        }
        let has_credential = credential.as_ref().is_some_and(|id| !id.is_empty() && id.len() <= CREDENTIAL_CHARS_MAX && random::from_base64url(id).is_some());
        if has_credential != (kind == DeviceKind::Passkey) {
            return Err(CANDIDATE_WRONG);
        }
        let key = PublicKey::parse(&public_key).ok_or(CANDIDATE_WRONG)?;
        let text = candidate_text(&self.0.place.origin, ticket, &public_key);
        let count = match proof::strength(&text, kind, &key, &proof, &self.0.place).ok_or(CANDIDATE_WRONG)? {
            Strength::Key => 0,
            // A passkey that does not ask who is there would be no more than a key.
            Strength::Passkey { verified: false, .. } => return Err(CANDIDATE_WRONG),
            Strength::Passkey { count, .. } => count,
        };
        Ok(Proved { name, kind, key, credential, count })
    }

    /// Another device of `person`, by a ticket.
    pub async fn enrol(&self, person: PersonId, candidate: Candidate, ticket: Ticket) -> Result<DeviceId, Refusal> {
        let id: DeviceId = random::id();
        let now_ms = self.0.clock.wall_ms();
        match ticket {
            Ticket::Device { signed } => {
                let heard = self.heard(signed).await?;
                let vouched = matches!(&heard.statement.deed, Deed::AddDevice { key } if *key == candidate.public_key);
                if !vouched || heard.statement.person != person {
                    return Err(NEEDS_TICKET);
                }
                let proved = self.proved(candidate, &heard.statement.nonce)?;
                let work = move |tx: &Tx| {
                    spend(tx, &heard, now_ms)?;
                    insert(tx, id, person, &proved, "device", now_ms)
                };
                self.0.store.write(work).await?;
            }
            Ticket::Code { code } => {
                let (code_id, kind) = self.right_code(person, &code).await?;
                let proved = self.proved(candidate, &code)?;
                let work = move |tx: &Tx| {
                    if !spend_code(tx, &code_id, now_ms)? {
                        return Err(CODE_WRONG);
                    }
                    insert(tx, id, person, &proved, &kind, now_ms)
                };
                self.0.store.write(work).await?;
            }
            Ticket::Reset {} => {
                let proved = self.proved(candidate, "reset")?;
                let work = move |tx: &Tx| {
                    let sql = "DELETE FROM device_reset WHERE person_id = ?1 AND ripe_ms <= ?2 AND ripe_ms + ?3 > ?2";
                    if tx.execute(sql, params![person.to_string(), now_ms, RESET_OPEN_MS])? == 0 {
                        return Err(NEEDS_TICKET);
                    }
                    insert(tx, id, person, &proved, "reset", now_ms)
                };
                self.0.store.write(work).await?;
            }
        }
        self.changed();
        Ok(id)
    }

    /// Which code of this person that is, and of what kind. A try counts, whatever comes of it.
    async fn right_code(&self, person: PersonId, code: &str) -> Result<(String, String), Refusal> {
        let key = person.to_string();
        self.0.tries.try_all(&[&key], self.0.clock.now().mono_ms).map_err(|wait_ms| Refusal::login_limited(wait_ms.div_ceil(1000)))?;
        let Some((id, secret)) = code::parts(code) else { return Err(CODE_WRONG) };
        let (sought, now_ms) = (id.clone(), self.0.clock.wall_ms());
        let sql = "SELECT kind, hash FROM device_code WHERE id = ?1 AND person_id = ?2 AND (expires_ms IS NULL OR expires_ms > ?3)";
        let row =
            move |c: &Connection| c.query_row(sql, params![sought, key, now_ms], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))).optional();
        let found = self.0.store.read(row).await?;
        let (kind, hash) = found.unzip();
        let right = password::verify(SecretString::new(secret), hash).await?;
        match kind {
            Some(kind) if right => Ok((id, kind)),
            _ => Err(CODE_WRONG),
        }
    }

    /// What a device asks for besides decisions: the codes that it is given, if any.
    pub async fn obey(&self, heard: Heard) -> Result<Vec<String>, Refusal> {
        let now_ms = self.0.clock.wall_ms();
        let codes = match &heard.statement.deed {
            Deed::RemoveDevice { device } => {
                let device = *device;
                self.0
                    .store
                    .write(move |tx| {
                        spend(tx, &heard, now_ms)?;
                        remove(tx, &heard.statement, device, now_ms)
                    })
                    .await?;
                Vec::new()
            }
            Deed::MintCode { person } => {
                let person = *person;
                let code = code::new();
                let row = CodeRow::of(&code, "code", Some(now_ms + CODE_LIFE_MS)).await?;
                self.0
                    .store
                    .write(move |tx| {
                        spend(tx, &heard, now_ms)?;
                        may_act_for(tx, heard.statement.person, person)?;
                        row.insert(tx, person, &heard.statement.person.to_string(), now_ms)
                    })
                    .await?;
                vec![code]
            }
            Deed::RecoveryCodes {} => {
                let (codes, rows) = recovery_rows().await?;
                self.0
                    .store
                    .write(move |tx| {
                        spend(tx, &heard, now_ms)?;
                        let person = heard.statement.person;
                        tx.execute("DELETE FROM device_code WHERE person_id = ?1 AND kind = 'recovery'", [person.to_string()])?;
                        rows.iter().try_for_each(|row| row.insert(tx, person, &person.to_string(), now_ms))
                    })
                    .await?;
                codes
            }
            Deed::Decide { .. } | Deed::AddDevice { .. } => return Err(MALFORMED),
        };
        self.changed();
        Ok(codes)
    }

    /// A code for `person`, drawn by somebody at the console.
    pub async fn console_code(&self, person: PersonId) -> Result<String, Refusal> {
        let (code, now_ms) = (code::new(), self.0.clock.wall_ms());
        let row = CodeRow::of(&code, "console", Some(now_ms + CONSOLE_CODE_LIFE_MS)).await?;
        self.0.store.write(move |tx| row.insert(tx, person, "console", now_ms)).await?;
        Ok(code)
    }

    /// Somebody at the console takes a device out.
    pub async fn console_remove(&self, device: DeviceId) -> Result<(), Refusal> {
        let now_ms = self.0.clock.wall_ms();
        self.0.store.write(move |tx| take_out(tx, "console", device, now_ms)).await?;
        self.changed();
        Ok(())
    }

    /// `person` has no device any more and says so to everybody. Whoever reads it in time and knows better cancels it.
    pub async fn announce_reset(&self, person: PersonId) -> Result<Reset, Refusal> {
        let now_ms = self.0.clock.wall_ms();
        let reset = Reset { person, asked_ms: now_ms, ripe_ms: now_ms + RESET_WAIT_MS };
        self.0
            .store
            .write(move |tx| {
                tx.execute("DELETE FROM device_reset WHERE ripe_ms + ?1 <= ?2", params![RESET_OPEN_MS, now_ms])?;
                let sql = "INSERT INTO device_reset (person_id, asked_ms, ripe_ms) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING";
                if tx.execute(sql, params![person.to_string(), now_ms, now_ms + RESET_WAIT_MS])? == 0 {
                    return Err(RESET_ANNOUNCED);
                }
                note(tx, now_ms, &person.to_string(), "reset_announced", &person.to_string(), "")
            })
            .await?;
        self.changed();
        Ok(reset)
    }

    pub async fn cancel_reset(&self, by: PersonId, person: PersonId) -> Result<(), Refusal> {
        let now_ms = self.0.clock.wall_ms();
        self.0
            .store
            .write(move |tx| {
                may_act_for(tx, by, person)?;
                if tx.execute("DELETE FROM device_reset WHERE person_id = ?1", [person.to_string()])? == 0 {
                    return Err(RESET_UNKNOWN);
                }
                note(tx, now_ms, &by.to_string(), "reset_cancelled", &person.to_string(), "")
            })
            .await?;
        self.changed();
        Ok(())
    }

    /// The resets that are announced or open.
    pub async fn resets(&self) -> service::store::Result<Vec<Reset>> {
        let now_ms = self.0.clock.wall_ms();
        let sql = "SELECT person_id, asked_ms, ripe_ms FROM device_reset WHERE ripe_ms + ?1 > ?2 ORDER BY asked_ms";
        let reset_of = |row: &Row<'_>| Ok(Reset { person: parsed(row, 0)?, asked_ms: row.get(1)?, ripe_ms: row.get(2)? });
        self.0.store.read(move |c| c.prepare_cached(sql)?.query_map(params![RESET_OPEN_MS, now_ms], reset_of)?.collect()).await
    }

    pub async fn list(&self) -> service::store::Result<Vec<DeviceView>> {
        let sql =
            "SELECT id, person_id, name, kind, credential, added_ms, added_by, used_ms FROM device WHERE removed_ms IS NULL ORDER BY person_id, added_ms, id";
        self.0.store.read(move |c| c.prepare(sql)?.query_map([], view_of)?.collect()).await
    }

    /// How many recovery codes somebody has left.
    pub async fn recovery_codes_left(&self, person: PersonId) -> service::store::Result<i64> {
        let sql = "SELECT count(*) FROM device_code WHERE person_id = ?1 AND kind = 'recovery'";
        self.0.store.read(move |c| c.query_row(sql, [person.to_string()], |row| row.get(0))).await
    }
}

/// The first device of a host, with its owner. Part of the transaction in which the owner's link is spent.
pub fn insert_first(tx: &Tx, person: PersonId, id: DeviceId, proved: &Proved, now_ms: i64) -> Result<(), Refusal> {
    let any: bool = tx.query_row("SELECT EXISTS (SELECT 1 FROM device)", [], |row| row.get(0))?;
    if any { Err(NEEDS_TICKET) } else { insert(tx, id, person, proved, "first", now_ms) }
}

/// Uses a statement up: its device is still one, and it was not heard before. Part of the transaction of what it asks for.
pub fn spend(tx: &Tx, heard: &Heard, now_ms: i64) -> Result<(), Refusal> {
    let Statement { device, person, nonce, expires_ms, .. } = &heard.statement;
    in_time(&heard.statement, now_ms)?;
    tx.prepare_cached("DELETE FROM used_nonce WHERE expires_ms <= ?1")?.execute([now_ms - NONCE_KEPT_MS])?;
    let sql = "INSERT INTO used_nonce (device_id, nonce, expires_ms) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING";
    if tx.prepare_cached(sql)?.execute(params![device.to_string(), nonce, expires_ms])? == 0 {
        return Err(REPLAYED);
    }
    let counter: Option<i64> = tx
        .query_row("SELECT sign_count FROM device WHERE id = ?1 AND person_id = ?2 AND removed_ms IS NULL", [device.to_string(), person.to_string()], |row| {
            row.get(0)
        })
        .optional()?;
    let before = counter.ok_or(UNKNOWN)?;
    let count = match heard.strength {
        Strength::Passkey { count, .. } => i64::from(count),
        Strength::Key => 0,
    };
    // Some passkeys do not count. One that does and falls back has a twin.
    if count <= before && (count, before) != (0, 0) {
        return Err(COPIED);
    }
    tx.execute("UPDATE device SET sign_count = ?2, used_ms = ?3 WHERE id = ?1", params![device.to_string(), count, now_ms])?;
    Ok(())
}

fn in_time(statement: &Statement, now_ms: i64) -> Result<(), Refusal> {
    let left_ms = statement.expires_ms.saturating_sub(now_ms);
    if left_ms > 0 && left_ms <= STATEMENT_LIFE_MS { Ok(()) } else { Err(LATE) }
}

fn key_of(connection: &Connection, person: PersonId, device: DeviceId) -> rusqlite::Result<Option<(DeviceKind, PublicKey)>> {
    let sql = "SELECT kind, public_key FROM device WHERE id = ?1 AND person_id = ?2 AND removed_ms IS NULL";
    let row = connection.prepare_cached(sql)?.query_row([device.to_string(), person.to_string()], |row| Ok((kind_of(row, 0)?, row.get::<_, Vec<u8>>(1)?)));
    Ok(row.optional()?.and_then(|(kind, point)| Some((kind, PublicKey::of_point(&point)?))))
}

fn insert(tx: &Tx, id: DeviceId, person: PersonId, proved: &Proved, added_by: &str, now_ms: i64) -> Result<(), Refusal> {
    let count: i64 = tx.query_row("SELECT count(*) FROM device WHERE person_id = ?1 AND removed_ms IS NULL", [person.to_string()], |row| row.get(0))?;
    if count >= DEVICES_MAX {
        return Err(TOO_MANY);
    }
    let sql = "INSERT INTO device (id, person_id, kind, name, public_key, credential, sign_count, added_ms, added_by) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT DO NOTHING";
    let row =
        params![id.to_string(), person.to_string(), kind_name(proved.kind), proved.name, proved.key.point(), proved.credential, proved.count, now_ms, added_by];
    // One key, one device, for ever: a removed one does not come back under another name.
    if tx.execute(sql, row)? == 0 {
        return Err(KNOWN);
    }
    note(tx, now_ms, &person.to_string(), "device_added", &id.to_string(), &format!("{} {added_by}", kind_name(proved.kind)))
}

fn remove(tx: &Tx, said: &Statement, device: DeviceId, now_ms: i64) -> Result<(), Refusal> {
    let whose: Option<PersonId> = tx.query_row("SELECT person_id FROM device WHERE id = ?1", [device.to_string()], |row| parsed(row, 0)).optional()?;
    may_act_for(tx, said.person, whose.ok_or(UNKNOWN)?)?;
    take_out(tx, &said.person.to_string(), device, now_ms)
}

fn take_out(tx: &Tx, by: &str, device: DeviceId, now_ms: i64) -> Result<(), Refusal> {
    let sql = "UPDATE device SET removed_ms = ?2 WHERE id = ?1 AND removed_ms IS NULL";
    if tx.execute(sql, params![device.to_string(), now_ms])? == 0 {
        return Err(UNKNOWN);
    }
    note(tx, now_ms, by, "device_removed", &device.to_string(), "")
}

/// For oneself, or as an owner.
fn may_act_for(tx: &Tx, by: PersonId, person: PersonId) -> Result<(), Refusal> {
    let is_owner = people::role(tx, by)? == Some(Role::Owner);
    if (by == person || is_owner) && people::role(tx, person)?.is_some() { Ok(()) } else { Err(Refusal::FORBIDDEN) }
}

fn spend_code(tx: &Tx, id: &str, now_ms: i64) -> rusqlite::Result<bool> {
    let sql = "DELETE FROM device_code WHERE id = ?1 AND (expires_ms IS NULL OR expires_ms > ?2)";
    Ok(tx.execute(sql, params![id, now_ms])? == 1)
}

/// A code as it is stored.
struct CodeRow {
    id: String,
    kind: &'static str,
    hash: String,
    expires_ms: Option<i64>,
}

impl CodeRow {
    async fn of(code: &str, kind: &'static str, expires_ms: Option<i64>) -> Result<CodeRow, Refusal> {
        let (id, secret) = code::parts(code).ok_or(Refusal::INTERNAL)?;
        Ok(CodeRow { id, kind, hash: password::hash(SecretString::new(secret)).await?, expires_ms })
    }

    fn insert(&self, tx: &Tx, person: PersonId, by: &str, now_ms: i64) -> Result<(), Refusal> {
        tx.execute("DELETE FROM device_code WHERE expires_ms <= ?1", [now_ms])?;
        let sql = "SELECT count(*) FROM device_code WHERE person_id = ?1 AND kind <> 'recovery'";
        let waiting: i64 = tx.query_row(sql, [person.to_string()], |row| row.get(0))?;
        if self.kind != "recovery" && waiting >= CODES_MAX {
            return Err(TOO_MANY);
        }
        let sql = "INSERT INTO device_code (id, person_id, kind, hash, created_ms, expires_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        tx.execute(sql, params![self.id, person.to_string(), self.kind, self.hash, now_ms, self.expires_ms])?;
        note(tx, now_ms, by, "device_code", &person.to_string(), self.kind)
    }
}

async fn recovery_rows() -> Result<(Vec<String>, Vec<CodeRow>), Refusal> {
    let codes: Vec<String> = (0..RECOVERY_CODES).map(|_| code::new()).collect();
    let mut rows = Vec::with_capacity(codes.len());
    for code in &codes {
        rows.push(CodeRow::of(code, "recovery", None).await?);
    }
    Ok((codes, rows))
}

fn note(tx: &Tx, now_ms: i64, actor: &str, deed: &str, subject: &str, detail: &str) -> Result<(), Refusal> {
    Ok(audit::note(tx, now_ms, &audit::Deed { actor, deed, subject, detail })?)
}

fn kind_name(kind: DeviceKind) -> &'static str {
    match kind {
        DeviceKind::Key => "key",
        DeviceKind::Passkey => "passkey",
    }
}

fn kind_of(row: &Row<'_>, column: usize) -> rusqlite::Result<DeviceKind> {
    let kind: String = row.get(column)?;
    Ok(if kind == "passkey" { DeviceKind::Passkey } else { DeviceKind::Key })
}

fn view_of(row: &Row<'_>) -> rusqlite::Result<DeviceView> {
    Ok(DeviceView {
        id: parsed(row, 0)?,
        person: parsed(row, 1)?,
        name: row.get(2)?,
        kind: kind_of(row, 3)?,
        credential: row.get(4)?,
        added_ms: row.get(5)?,
        added_by: row.get(6)?,
        used_ms: row.get(7)?,
    })
}

/// One-time codes: five groups of five. The first names the code, the others are its secret, 100 bits of it.
mod code {
    use service::random;

    /// Without I, L, O and U, which are read wrongly.
    const LETTERS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    const GROUP: usize = 5;
    const CHARS: usize = 25;

    pub fn new() -> String {
        let letters: Vec<u8> = random::bytes::<CHARS>().iter().map(|byte| LETTERS[usize::from(byte % 32)]).collect();
        let groups: Vec<String> = letters.chunks(GROUP).map(|group| String::from_utf8_lossy(group).into_owned()).collect();
        groups.join("-")
    }

    /// Name and secret of a code as people type it.
    pub fn parts(code: &str) -> Option<(String, String)> {
        if code.len() > 2 * CHARS {
            return None;
        }
        let plain: String = code.chars().filter(|c| !matches!(c, '-' | ' ')).map(|c| c.to_ascii_uppercase()).collect();
        let is_code = plain.len() == CHARS && plain.bytes().all(|byte| LETTERS.contains(&byte));
        is_code.then(|| (plain[..GROUP].to_owned(), plain[GROUP..].to_owned()))
    }
}
