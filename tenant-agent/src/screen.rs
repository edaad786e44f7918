//! The screen: what is about to leave is looked at through it. One redactor at a time, made anew when the vault or the net changes.
//!
//! Everything that leaves asks for the redactor of now: prompts and answers, what a browser sees and says, approvals,
//! tool results, findings, the log. It is made beside the others' work and exchanged whole, so nobody waits for it; whoever
//! changes the vault waits until [`Screen::covers_all`], so that what was acknowledged as kept leaves no more.
//!
//! If the vault cannot be read, the redactor before stays, the screen is not sound any more, and no model call goes out.

use crate::vault::Vault;
use anyhow::Context;
use redact::{Finding, Known, Net, Redactor};
use serde_json::Value;
use service::{SecretString, Stop, log};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::watch;

#[derive(Clone)]
pub struct Screen(Arc<Inner>);

struct Inner {
    vault: Vault,
    own: Mutex<Vec<(&'static str, SecretString)>>,
    net: Mutex<Arc<Net>>,
    /// Counts changes of what else the redactor is made of.
    remake: watch::Sender<u64>,
    current: RwLock<Arc<Redactor>>,
    made: watch::Sender<Made>,
}

/// What the current redactor was made of.
#[derive(Clone, Copy)]
pub struct Made {
    epoch: u64,
    remade: u64,
    /// The last try to make one worked.
    is_sound: bool,
}

/// How long after a failed try the vault is read again.
const RETRY: Duration = Duration::from_secs(2);
/// How long a change of the vault waits for its redactor. Making one for a full vault takes a tenth of a second.
const COVER_WAIT: Duration = Duration::from_secs(10);

impl Screen {
    /// A vault that cannot be read lets the agent start all the same: its console is the way to mend it.
    pub async fn open(vault: Vault, net: Arc<Net>) -> Screen {
        let nothing = Arc::new(Redactor::new(Known::new([]), &vault.placeholder_key()));
        let made = watch::Sender::new(Made { epoch: 0, remade: 0, is_sound: false });
        let (own, net, remake) = (Mutex::default(), Mutex::new(net), watch::Sender::new(0));
        let screen = Screen(Arc::new(Inner { vault, own, net, remake, current: RwLock::new(nothing), made }));
        screen.make().await;
        screen
    }

    /// Keys of ours that change with each start of OpenClaw: looked for like the vault's values, in the place of those before.
    pub fn hold(&self, own: Vec<(&'static str, SecretString)>) {
        *self.0.own.lock().unwrap_or_else(PoisonError::into_inner) = own;
        self.0.remake.send_modify(|count| *count += 1);
    }

    /// Another net for unknown secrets. Returns once it is looked with, or the vault could not be read for it.
    pub async fn look_with(&self, net: Arc<Net>) {
        {
            let mut place = self.0.net.lock().unwrap_or_else(PoisonError::into_inner);
            if Arc::ptr_eq(&place, &net) {
                return;
            }
            *place = net;
        }
        self.0.remake.send_modify(|count| *count += 1);
        let wanted = *self.0.remake.borrow();
        let mut made = self.0.made.subscribe();
        if tokio::time::timeout(COVER_WAIT, made.wait_for(|made| made.remade >= wanted)).await.is_err() {
            tracing::error!("the secrets net of the law in force is not looked with yet");
        }
    }

    /// The redactor of now. Whoever looks at a whole conversation keeps it until the end.
    pub fn now(&self) -> Arc<Redactor> {
        self.0.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the redactor of now knows all that the vault holds, as far as anybody can tell.
    pub fn is_sound(&self) -> bool {
        self.0.made.borrow().is_sound
    }

    /// Changes with each redactor, and when one cannot be made.
    pub fn changes(&self) -> watch::Receiver<Made> {
        self.0.made.subscribe()
    }

    /// Follows the vault until the stop.
    pub async fn keep(self, stop: Stop) {
        let (mut changes, mut remake) = (self.0.vault.changes(), self.0.remake.subscribe());
        changes.mark_changed();
        loop {
            let is_sound = self.is_sound();
            tokio::select! {
                () = stop.stopped() => return,
                changed = changes.changed() => if changed.is_err() { return },
                changed = remake.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(RETRY), if !is_sound => {}
            }
            self.make().await;
        }
    }

    async fn make(&self) {
        let (epoch, remade) = (*self.0.vault.changes().borrow(), *self.0.remake.borrow());
        let own = self.0.own.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let net = self.0.net.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let is_sound = match made(&self.0.vault, own, net).await {
            Ok(redactor) => {
                log::screen(redactor.clone());
                *self.0.current.write().unwrap_or_else(PoisonError::into_inner) = redactor;
                true
            }
            Err(error) => {
                tracing::error!(%error, "the vault cannot be read for what must not leave; no model call goes out until it can");
                false
            }
        };
        self.0.made.send_replace(Made { epoch, remade, is_sound });
    }

    /// Returns once everything that is in the vault now is looked for; false when that cannot be.
    pub async fn covers_all(&self) -> bool {
        let epoch = *self.0.vault.changes().borrow();
        let mut made = self.0.made.subscribe();
        let covered = tokio::time::timeout(COVER_WAIT, made.wait_for(|made| made.epoch >= epoch)).await;
        covered.is_ok_and(|made| made.is_ok_and(|made| made.is_sound))
    }
}

async fn made(vault: &Vault, own: Vec<(&'static str, SecretString)>, net: Arc<Net>) -> anyhow::Result<Arc<Redactor>> {
    let known = vault.known().await?;
    let key = vault.placeholder_key();
    let make = move || {
        // Looking for them needs the values.
        let stored = known.iter().filter(|known| !known.is_short).map(|known| (known.name.as_str(), known.value.expose().as_bytes()));
        let known = Known::new(stored.chain(own.iter().map(|(name, value)| (*name, value.expose().as_bytes()))));
        Arc::new(Redactor::with_net(known, &key, net))
    };
    tokio::task::spawn_blocking(make).await.context("the redactor could not be made")
}

/// Arguments, a result, a detail: `value` as it may leave, or `None` when nothing had to be taken out.
pub fn redacted(redactor: &Redactor, value: &Value) -> Option<Value> {
    let text = value.to_string();
    match redactor.json(text.as_bytes()) {
        Ok(body) if body.findings.is_empty() => None,
        Ok(body) => serde_json::from_slice(&body.bytes).ok().or_else(|| Some(string_by_string(redactor, value))),
        // A secret stands where a model's wire format allows no edit. Here it does; then the rest, with what surrounds it.
        Err(_) => {
            let once = string_by_string(redactor, value);
            let twice = redactor.json(once.to_string().as_bytes()).ok().and_then(|body| serde_json::from_slice(&body.bytes).ok());
            Some(twice.unwrap_or(once))
        }
    }
}

/// Deep enough for whatever came as JSON: its parser stops at 128.
fn string_by_string(redactor: &Redactor, value: &Value) -> Value {
    match value {
        Value::String(text) => redactor.text(text).text.into(),
        Value::Number(number) => {
            let text = number.to_string();
            let redaction = redactor.text(&text);
            if redaction.findings.is_empty() { value.clone() } else { redaction.text.into() }
        }
        Value::Array(items) => items.iter().map(|item| string_by_string(redactor, item)).collect(),
        Value::Object(map) => map.iter().map(|(name, item)| (redactor.text(name).text.into_owned(), string_by_string(redactor, item))).collect(),
        Value::Null | Value::Bool(_) => value.clone(),
    }
}

/// Names what was found, never the text: `known:db, github_token`.
pub fn rules(findings: &[Finding]) -> String {
    let mut rules: Vec<&str> = findings.iter().map(|finding| &*finding.rule).collect();
    rules.sort_unstable();
    rules.dedup();
    rules.truncate(RULES_SAID_MAX);
    rules.join(", ")
}

const RULES_SAID_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_value_loses_its_secrets_wherever_they_stand() {
        let redactor = Redactor::new(Known::new([("db", b"Sommer#2026x".as_slice()), ("pin", b"8812734450")]), &[1; 32]);
        for (value, expected) in [
            (json!({"command": "x Sommer#2026x"}), Some(json!({"command": "x SECRET_REF(db)"}))),
            (json!({"id": "Sommer#2026x"}), Some(json!({"id": "SECRET_REF(db)"}))),
            (json!({"Sommer#2026x": 1}), Some(json!({"SECRET_REF(db)": 1}))),
            (json!([8812734450u64]), Some(json!(["SECRET_REF(pin)"]))),
            (json!({"signature": "Sommer#2026x"}), Some(json!({"signature": "SECRET_REF(db)"}))),
            (json!({"command": "ls", "n": 3}), None),
        ] {
            assert_eq!(redacted(&redactor, &value), expected, "{value}");
        }
        let password = format!("Kq9#{}", "vv81xZ");
        let both = redacted(&redactor, &json!({ "args": { "password": password }, "pin": 8812734450u64 })).unwrap();
        assert!(both["pin"] == "SECRET_REF(pin)" && both["args"]["password"] != password, "{both}");
    }
}
