//! The law in force on this host: the newest bundle that was found good, or what is compiled in.
//!
//! What the hub hands over is only bytes. They become law when the keys that came with this agent say so, when their rules
//! and examples hold, and when they are on the disk; then they are exchanged at once for what was law before. Whatever is
//! wrong with them, the last good one goes on, and the hub is told why.

use crate::audit::{self, Deed};
use crate::settings::PolicySettings;
use anyhow::{Context, bail};
use policy::bundle::{Content, Fault, File, Held, Manifest, Named, Reader, Refusal, Signed, Trust, chain};
use policy::{Digest, Regime};
use redact::Net;
use rusqlite::{Connection, params};
use service::store::StoreError;
use service::{Clock, Store, Tx};
use std::fmt::Write as _;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, RwLock};
use tokio::sync::watch;
use wire::fleet::{Policy, PolicyState, Severity};
use wire::link::{OfferedBundle, PolicyOffer};

#[derive(Clone)]
pub struct InForce(Arc<Inner>);

struct Inner {
    store: Store,
    clock: Clock,
    tenant: String,
    channel: String,
    /// The tenant's own rules, which only raise.
    own: Vec<Named>,
    law: RwLock<Arc<Regime>>,
    /// What secrets are looked for with.
    net: RwLock<Arc<Net>>,
    state: Mutex<State>,
    /// One offer after the other.
    offers: tokio::sync::Mutex<()>,
    changes: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    /// `None`: this agent was given no root keys, so nobody can change its law.
    trust: Option<Trust>,
    documents: Vec<Signed>,
    active: Option<Active>,
    refused: Option<Refused>,
    /// The file that was looked at last.
    looked_at: Option<String>,
}

#[derive(Clone, Copy)]
struct Active {
    held: Held,
    issued_ms: i64,
    expires_ms: i64,
}

struct Refused {
    code: &'static str,
    at_mono_ms: u64,
    since_ms: i64,
}

/// A bundle that verifies, with what it comes to.
struct Good {
    active: Active,
    law: Regime,
    net: Arc<Net>,
    text: String,
}

/// Bundles that are kept: the one in force, and the one before it for the day when its key is revoked.
const KEPT_MAX: i64 = 2;
/// A file that was refused may have become good: by time, or by an update of this agent.
const RETRY_MS: u64 = 600_000;
/// A tenant writes a few rules.
const OWN_BYTES_MAX: u64 = 256 * 1024;

/// The tenant's own rules, checked against what is compiled in.
pub fn own_rules(path: &Path) -> anyhow::Result<Vec<Named>> {
    use std::io::Read;
    let mut text = String::new();
    let failed = || format!("`policy.tenant_rules`: `{}` cannot be read", path.display());
    std::fs::File::open(path).and_then(|file| file.take(OWN_BYTES_MAX).read_to_string(&mut text)).with_context(failed)?;
    let own = vec![Named { name: path.display().to_string(), text }];
    let faults = Regime::own_faults(&own, shipped::knowledge());
    if !faults.is_empty() {
        bail!("the tenant's own rules are not usable:{}", listed(&faults));
    }
    Ok(own)
}

/// Each on a line of its own.
pub fn listed(faults: &[Fault]) -> String {
    faults.iter().fold(String::new(), |mut text, fault| {
        // A string takes every write.
        let _ = write!(text, "\n  - {fault}");
        text
    })
}

fn default_law(tenant: &str, own: &[Named]) -> anyhow::Result<Regime> {
    let law = shipped::regime(&shipped::content(), tenant, own, i64::MAX, 0, true).map(|(law, _)| law);
    law.map_err(|faults| anyhow::anyhow!("the rules that come with this agent are not usable:{}", listed(&faults)))
}

impl InForce {
    /// What was law when this agent last ran, from the store alone.
    pub async fn open(store: Store, clock: Clock, tenant: &str, settings: &PolicySettings) -> anyhow::Result<InForce> {
        let own = match &settings.tenant_rules {
            Some(path) => own_rules(path)?,
            None => Vec::new(),
        };
        let law = default_law(tenant, &own)?;
        let inner = Inner {
            store,
            clock,
            tenant: tenant.to_owned(),
            channel: settings.channel.clone(),
            own,
            law: RwLock::new(Arc::new(law)),
            net: RwLock::new(Net::built_in().clone()),
            state: Mutex::default(),
            offers: tokio::sync::Mutex::default(),
            changes: watch::Sender::new(0),
        };
        let in_force = InForce(Arc::new(inner));
        if let Some(pinned) = &settings.pinned {
            in_force.remember(pinned.clone()).await?;
        }
        Ok(in_force)
    }

    /// The law at this moment.
    pub fn law(&self) -> Arc<Regime> {
        let law = self.0.law.read().unwrap_or_else(|poisoned| poisoned.into_inner()).clone();
        let now_ms = self.now_ms();
        if now_ms < law.until_ms() {
            return law;
        }
        let later = Arc::new(law.at(now_ms));
        let mut place = self.0.law.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        // Another bundle may have come meanwhile.
        if Arc::ptr_eq(&place, &law) {
            *place = later;
        }
        place.clone()
    }

    /// The secrets net of the law in force.
    pub fn net(&self) -> Arc<Net> {
        self.0.net.read().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    /// Which of the offered bundles is worth fetching.
    pub fn wants(&self, offer: &PolicyOffer) -> Option<OfferedBundle> {
        let state = self.lock();
        state.trust.as_ref()?;
        let offered = offer.bundles.iter().find(|bundle| bundle.channel == self.0.channel && bundle.bytes <= policy::bundle::BYTES_MAX)?;
        let known = state.looked_at.as_ref() == Some(&offered.file);
        let again = state.refused.as_ref().is_some_and(|refused| self.0.clock.now().mono_ms.saturating_sub(refused.at_mono_ms) >= RETRY_MS);
        (!known || again).then(|| offered.clone())
    }

    /// Takes a file, wherever it came from. What it says is law when this returns `Ok`, unless it says why not.
    pub async fn take(&self, bytes: Vec<u8>) -> Result<Result<(), Refusal>, StoreError> {
        let _turn = self.0.offers.lock().await;
        let name = Digest::of(&bytes).to_string();
        let outcome = self.weigh(bytes).await?;
        let refused = outcome.as_ref().err().cloned();
        // Whoever sends one bad file after the other fills no disk with that.
        let is_news = |refusal: &Refusal| self.lock().refused.as_ref().is_none_or(|before| before.code != refusal.code());
        if let Some(refusal) = refused.as_ref().filter(|refusal| is_news(refusal)) {
            tracing::warn!(code = refusal.code(), %refusal, "a policy bundle was refused; the last good one goes on");
            self.note("policy_refused", &name, refusal.code()).await?;
        }
        {
            let mut state = self.lock();
            state.looked_at = Some(name);
            state.refused =
                refused.as_ref().map(|refusal| Refused { code: refusal.code(), at_mono_ms: self.0.clock.now().mono_ms, since_ms: self.0.clock.wall_ms() });
        }
        self.0.changes.send_modify(|n| *n += 1);
        Ok(outcome)
    }

    /// What is enforced, for the hub.
    pub fn report(&self) -> Policy {
        let law = self.law();
        let state = self.lock();
        let reason = state.refused.as_ref().map(|refused| refused.code.to_owned());
        let active = state.active;
        let how = match active {
            _ if reason.is_some() => PolicyState::Refused,
            None => PolicyState::Default,
            Some(_) if law.is_expired() => PolicyState::Expired,
            Some(_) => PolicyState::Active,
        };
        Policy {
            state: how,
            version: active.map_or(0, |active| active.held.version),
            digest: active.map_or_else(String::new, |active| active.held.digest.to_string()),
            expires_ms: active.map(|active| active.expires_ms),
            keys: state.trust.as_ref().map_or(0, Trust::keys_version),
            reason,
        }
    }

    /// What an operator should know of it: code, severity, since when, detail.
    pub fn findings(&self) -> Vec<(&'static str, Severity, Option<i64>, String)> {
        let is_expired = self.law().is_expired();
        let state = self.lock();
        let mut findings = Vec::new();
        if let Some(refused) = &state.refused {
            findings.push(("policy_refused", Severity::Warn, Some(refused.since_ms), refused.code.to_owned()));
        }
        if let Some(active) = state.active {
            if is_expired {
                findings.push(("policy_expired", Severity::Warn, Some(active.expires_ms), active.held.version.to_string()));
            }
            if self.0.clock.wall_ms() < active.issued_ms - policy::bundle::CLOCK_AHEAD_MS {
                findings.push(("policy_clock_behind", Severity::Warn, None, String::new()));
            }
        }
        findings
    }

    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    /// A clock that runs behind does not bring an expired exception back: it is at least as late as the bundle is young.
    fn now_ms(&self) -> i64 {
        let issued_ms = self.lock().active.map_or(i64::MIN, |active| active.issued_ms);
        self.0.clock.wall_ms().max(issued_ms)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Finds the keys and the newest good bundle of an earlier life.
    async fn remember(&self, pinned: Trust) -> anyhow::Result<()> {
        let (documents, kept) = self.0.store.read(|c| Ok((kept_keys(c)?, kept_bundles(c)?))).await?;
        let documents: Vec<Signed> = documents.iter().filter_map(|text| Signed::parse(text).ok()).collect();
        // Other roots came with a newer package: what was trusted under the old ones is not any more.
        let (trust, documents) = match documents.iter().try_fold(pinned.clone(), |trust, document| trust.advance(std::slice::from_ref(document))) {
            Ok(trust) => (trust, documents),
            Err(error) => {
                tracing::warn!(%error, "the kept key documents do not follow from the configured root keys; trust begins anew");
                (pinned, Vec::new())
            }
        };
        let had = !kept.is_empty();
        let (this, followed) = (self.clone(), trust.clone());
        let good = tokio::task::spawn_blocking(move || kept.into_iter().find_map(|text| this.still_good(text, &followed))).await?;
        if had && good.is_none() {
            tracing::error!("no kept policy bundle is usable; what is compiled in applies");
        }
        let mut state = self.lock();
        state.looked_at = good.as_ref().map(|good| Digest::of(good.text.as_bytes()).to_string());
        (state.trust, state.documents) = (Some(trust), documents);
        self.exchange(&mut state, good);
        Ok(())
    }

    /// Every step that can stop a file, in order. What it says of keys counts even if it is not law itself.
    async fn weigh(&self, bytes: Vec<u8>) -> Result<Result<(), Refusal>, StoreError> {
        let this = self.clone();
        let blocking = |_| StoreError::Stopped;
        let parsed = tokio::task::spawn_blocking(move || {
            let file = File::parse(&bytes)?;
            let trust = this.lock().trust.clone().ok_or(Refusal::Unsigned)?.advance(&file.keys)?;
            Ok((file, trust, bytes))
        });
        let (file, trust, bytes) = match parsed.await.map_err(blocking)? {
            Ok(parsed) => parsed,
            Err(refusal) => return Ok(Err(refusal)),
        };
        if self.lock().trust.as_ref() != Some(&trust) {
            self.follow(&file, trust.clone()).await?;
        }
        let held = self.lock().active.map(|active| active.held);
        if held.is_some_and(|held| held.digest == file.digest()) {
            return Ok(Ok(()));
        }
        let this = self.clone();
        let weighed = tokio::task::spawn_blocking(move || this.good(&file, &trust, held, bytes)).await.map_err(blocking)?;
        let good = match weighed {
            Ok(good) => good,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let (text, now_ms) = (good.text.clone(), self.0.clock.wall_ms());
        let Held { version, digest } = good.active.held;
        self.0
            .store
            .write(move |tx| {
                keep_bundle(tx, version, &digest.to_string(), &text, now_ms)?;
                let deed = Deed { actor: "hub", deed: "policy", subject: &digest.to_string(), detail: &version.to_string() };
                Ok::<_, StoreError>(audit::note(tx, now_ms, &deed)?)
            })
            .await?;
        // INVARIANT: on the disk before it is enforced, so that no kill brings an older law back.
        let mut state = self.lock();
        self.exchange(&mut state, Some(good));
        tracing::info!(policy.version = version, policy.digest = %digest, "another policy bundle is in force");
        Ok(Ok(()))
    }

    /// Newer keys: kept first, then whatever they no longer cover goes.
    async fn follow(&self, file: &File, trust: Trust) -> Result<(), StoreError> {
        let documents = chain(self.lock().documents.iter().cloned().chain(file.keys.iter().cloned()).collect());
        let texts: Vec<String> = documents.iter().map(Signed::text).collect();
        let version = trust.keys_version();
        let now_ms = self.0.clock.wall_ms();
        self.0
            .store
            .write(move |tx| {
                keep_keys(tx, &texts)?;
                let deed = Deed { actor: "hub", deed: "policy_keys", subject: "", detail: &version.to_string() };
                Ok::<_, StoreError>(audit::note(tx, now_ms, &deed)?)
            })
            .await?;
        let kept = self.0.store.read(kept_bundles).await?;
        let (this, followed) = (self.clone(), trust.clone());
        let good =
            tokio::task::spawn_blocking(move || kept.into_iter().find_map(|text| this.still_good(text, &followed))).await.map_err(|_| StoreError::Stopped)?;
        let versions: Vec<i64> = good.iter().map(|good| good.active.held.version).collect();
        self.0.store.write(move |tx| Ok::<_, StoreError>(forget_bundles_above(tx, versions.first().copied().unwrap_or(0))?)).await?;
        let mut state = self.lock();
        (state.trust, state.documents) = (Some(trust), documents);
        let is_same = good.as_ref().map(|good| good.active.held.digest) == state.active.map(|active| active.held.digest);
        if !is_same {
            tracing::warn!("the key of the policy bundle in force no longer counts");
            self.exchange(&mut state, good);
        }
        Ok(())
    }

    /// A new bundle: trusted, for us, newer, in time, and its rules and examples hold.
    fn good(&self, file: &File, trust: &Trust, held: Option<Held>, bytes: Vec<u8>) -> Result<Good, Refusal> {
        let reader =
            Reader { tenant: &self.0.tenant, channel: &self.0.channel, agent_version: env!("CARGO_PKG_VERSION"), now_ms: self.0.clock.wall_ms(), held };
        let (manifest, content) = file.open(trust, &reader)?;
        let (law, net) = self.law_of(&manifest, &content, false).map_err(|faults| Refusal::RulesWrong { faults })?;
        let text = String::from_utf8(bytes).map_err(|_| Refusal::Malformed { why: "it is no text".to_owned() })?;
        Ok(Good { active: active(&manifest, file), law, net, text })
    }

    /// A kept bundle: still trusted. Its time and its examples were looked at when it came.
    fn still_good(&self, text: String, trust: &Trust) -> Option<Good> {
        let look = || {
            let file = File::parse(text.as_bytes())?;
            file.signed_by(trust, None)?;
            let manifest = file.manifest()?;
            if manifest.version < trust.versions_from() {
                return Err(Refusal::Older { version: manifest.version, held: trust.versions_from() });
            }
            let content = file.content()?;
            let (law, net) = self.law_of(&manifest, &content, true).map_err(|faults| Refusal::RulesWrong { faults })?;
            Ok((active(&manifest, &file), law, net))
        };
        match look() {
            Ok((active, law, net)) => Some(Good { active, law, net, text }),
            Err(refusal) => {
                tracing::warn!(code = refusal.code(), %refusal, "a kept policy bundle is no longer good");
                None
            }
        }
    }

    fn law_of(&self, manifest: &Manifest, content: &Content, proven: bool) -> Result<(Regime, Arc<Net>), Vec<Fault>> {
        let now_ms = self.0.clock.wall_ms().max(manifest.issued_ms);
        shipped::regime(content, &self.0.tenant, &self.0.own, manifest.expires_ms, now_ms, proven)
    }

    /// The one place where the law changes. Without a bundle it is what is compiled in.
    fn exchange(&self, state: &mut State, good: Option<Good>) {
        let (law, net) = match good {
            Some(good) => {
                state.active = Some(good.active);
                (good.law, good.net)
            }
            None => {
                if state.active.take().is_none() {
                    return;
                }
                // It was read when this agent started.
                match default_law(&self.0.tenant, &self.0.own) {
                    Ok(law) => (law, Net::built_in().clone()),
                    Err(_) => return,
                }
            }
        };
        *self.0.law.write().unwrap_or_else(|poisoned| poisoned.into_inner()) = Arc::new(law);
        *self.0.net.write().unwrap_or_else(|poisoned| poisoned.into_inner()) = net;
    }

    async fn note(&self, deed: &'static str, subject: &str, detail: &'static str) -> Result<(), StoreError> {
        let (subject, now_ms) = (subject.to_owned(), self.0.clock.wall_ms());
        self.0.store.write(move |tx| Ok(audit::note(tx, now_ms, &Deed { actor: "hub", deed, subject: &subject, detail })?)).await
    }
}

fn active(manifest: &Manifest, file: &File) -> Active {
    Active { held: Held { version: manifest.version, digest: file.digest() }, issued_ms: manifest.issued_ms, expires_ms: manifest.expires_ms }
}

fn keep_bundle(tx: &Tx, version: i64, digest: &str, file: &str, now_ms: i64) -> rusqlite::Result<()> {
    let sql = "INSERT OR REPLACE INTO policy_bundle (version, digest, file, taken_ms) VALUES (?1, ?2, ?3, ?4)";
    tx.execute(sql, params![version, digest, file, now_ms])?;
    tx.execute("DELETE FROM policy_bundle WHERE version NOT IN (SELECT version FROM policy_bundle ORDER BY version DESC LIMIT ?1)", [KEPT_MAX])?;
    Ok(())
}

/// Those that a stolen key signed, with whatever numbers.
fn forget_bundles_above(tx: &Tx, version: i64) -> rusqlite::Result<()> {
    tx.execute("DELETE FROM policy_bundle WHERE version > ?1", [version])?;
    Ok(())
}

/// The newest first.
fn kept_bundles(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    connection.prepare("SELECT file FROM policy_bundle ORDER BY version DESC")?.query_map([], |row| row.get(0))?.collect()
}

fn keep_keys(tx: &Tx, documents: &[String]) -> rusqlite::Result<()> {
    tx.execute("DELETE FROM policy_keys", [])?;
    for (n, document) in documents.iter().enumerate() {
        tx.execute("INSERT INTO policy_keys (n, document) VALUES (?1, ?2)", params![n as i64, document])?;
    }
    Ok(())
}

fn kept_keys(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    connection.prepare("SELECT document FROM policy_keys ORDER BY n")?.query_map([], |row| row.get(0))?.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use policy::bundle::{PublicKey, Roots};
    use policy::{Call, Class};
    use std::path::PathBuf;

    fn folder() -> PathBuf {
        let folder = std::env::temp_dir().join(format!("gatehouse-law-{}", service::random::token()));
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    fn own(path: &Path, class: &str, example: &str) {
        let rule = format!(
            "[[rule]]\nid = \"own\"\neffect = \"read\"\npaths = [\"@workspace\"]\nclass = \"{class}\"\nreason = {{ de = \"d\", en = \"e\" }}\nmatch = [\"{example} x\"]\n"
        );
        std::fs::write(path, rule).unwrap();
    }

    #[tokio::test]
    async fn a_tenants_own_rules_count_and_wrong_ones_are_named() {
        let folder = folder();
        let path = folder.join("own.toml");
        let store = Store::open(&folder.join("a.db"), crate::store::MIGRATIONS).unwrap();
        let settings = PolicySettings { tenant_rules: Some(path.clone()), ..PolicySettings::default() };
        let open = || InForce::open(store.clone(), Clock::manual(0), "ten_a", &settings);
        assert!(format!("{:#}", open().await.err().unwrap()).contains("cannot be read"));
        own(&path, "red", "echo");
        let said = format!("{:#}", open().await.err().unwrap());
        assert!(said.contains("own.toml:2: rule `own`: must match `echo x` and does not"), "{said}");
        own(&path, "red", "cat");
        let in_force = open().await.unwrap();
        let arguments = serde_json::json!({ "path": "notes.md" });
        let found = in_force.law().classify(&Call { assistant: "a", tool: "read", arguments: &arguments, workspace: "/w", resolved: &[] });
        assert_eq!((found.class, found.rule.as_str()), (Class::Red, "own"));
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[tokio::test]
    async fn without_root_keys_nobody_changes_the_law() {
        let folder = folder();
        let store = Store::open(&folder.join("a.db"), crate::store::MIGRATIONS).unwrap();
        let offer = PolicyOffer { bundles: vec![OfferedBundle { channel: "stable".into(), version: 1, file: "aa".into(), bytes: 2 }] };
        let closed = InForce::open(store.clone(), Clock::manual(0), "ten_a", &PolicySettings::default()).await.unwrap();
        assert_eq!(closed.wants(&offer), None);
        assert_eq!(closed.take(b"{}".to_vec()).await.unwrap().unwrap_err().code(), "malformed");

        let roots = Roots { keys: vec![PublicKey::new([1; 32]), PublicKey::new([2; 32])], threshold: 2 };
        let settings = PolicySettings { pinned: Some(Trust::pinned("acme", roots)), ..PolicySettings::default() };
        let clock = Clock::manual(0);
        let open = InForce::open(store, clock.clone(), "ten_a", &settings).await.unwrap();
        assert!(open.wants(&offer).is_some());
        for other in [OfferedBundle { channel: "beta".into(), ..offer.bundles[0].clone() }, OfferedBundle { bytes: usize::MAX, ..offer.bundles[0].clone() }] {
            assert_eq!(open.wants(&PolicyOffer { bundles: vec![other] }), None);
        }
        let file = Digest::of(b"{}").to_string();
        assert!(open.take(b"{}".to_vec()).await.unwrap().is_err());
        let same = PolicyOffer { bundles: vec![OfferedBundle { file, ..offer.bundles[0].clone() }] };
        assert_eq!(open.wants(&same), None, "it was looked at");
        clock.advance(RETRY_MS);
        assert!(open.wants(&same).is_some(), "and is looked at again after a while");
        assert_eq!((open.report().state, open.report().reason.as_deref()), (PolicyState::Refused, Some("malformed")));
        std::fs::remove_dir_all(folder).unwrap();
    }
}
