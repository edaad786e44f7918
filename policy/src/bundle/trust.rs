//! Whose signature counts: root keys that came with the agent, and the key documents that they sign.
//!
//! A key document names the keys that may sign bundles, each for at most 90 days, and the ones that may no more. It is
//! signed by a threshold of the root keys, which lie offline. It also names the root keys from now on: a document with
//! other roots needs the threshold of the old ones and of its own, so that neither half of a rotation can be faked.

use super::file::Signed;
use super::{BUNDLE_KEY_DAYS_MAX, DAY_MS, FORMAT, LIST_MAX, PublicKey, Refusal, Signature};
use crate::approval::Digest;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// What a signature under a key document covers, before its bytes.
pub(super) const KEYS_CONTEXT: &str = "gatehouse-policy-keys-v1\n";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Roots {
    pub keys: Vec<PublicKey>,
    /// How many of them must sign.
    pub threshold: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundleKey {
    pub key: PublicKey,
    pub expires_ms: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyDocument {
    pub format: u32,
    pub fleet: String,
    /// Only grows.
    pub version: i64,
    pub issued_ms: i64,
    pub expires_ms: i64,
    pub roots: Roots,
    pub bundle_keys: Vec<BundleKey>,
    /// How many of them must sign a bundle.
    pub bundle_threshold: usize,
    #[serde(default)]
    pub revoked: Vec<PublicKey>,
    /// Bundles of an older version are no longer law, whoever signed them. It is also the version that counts again after
    /// a stolen key has signed one with an absurdly high number.
    #[serde(default)]
    pub versions_from: i64,
    #[serde(default)]
    pub must: Vec<String>,
}

/// The names that `must` may hold in a key document.
const KNOWN: &[&str] =
    &["format", "fleet", "version", "issued_ms", "expires_ms", "roots", "bundle_keys", "bundle_threshold", "revoked", "versions_from", "must"];

/// Whose signature counts right now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trust {
    pub fleet: String,
    roots: Roots,
    keys: Option<(KeyDocument, Digest)>,
}

impl Trust {
    /// As it begins: with the root keys that came with the agent.
    pub fn pinned(fleet: &str, roots: Roots) -> Trust {
        Trust { fleet: fleet.to_owned(), roots, keys: None }
    }

    pub fn keys(&self) -> Option<&KeyDocument> {
        self.keys.as_ref().map(|(keys, _)| keys)
    }

    /// The version of the key document in force; 0 before the first.
    pub fn keys_version(&self) -> i64 {
        self.keys().map_or(0, |keys| keys.version)
    }

    /// The bundle versions below this one are no longer law.
    pub fn versions_from(&self) -> i64 {
        self.keys().map_or(0, |keys| keys.versions_from)
    }

    /// Follows the documents in their order. Older ones are passed over: a replayed document gives nobody a key back.
    pub fn advance(&self, documents: &[Signed]) -> Result<Trust, Refusal> {
        if documents.len() > LIST_MAX {
            return Err(Refusal::KeysWrong { why: format!("more than {LIST_MAX} key documents in one file") });
        }
        documents.iter().try_fold(self.clone(), |trust, document| trust.follow(document))
    }

    fn follow(self, document: &Signed) -> Result<Trust, Refusal> {
        let digest = document.digest();
        // Who signed is asked first: an unsigned document has no say in why it is refused.
        let claimed: Version = document.read().ok_or_else(|| Refusal::Malformed { why: "a key document has no version".to_owned() })?;
        match &self.keys {
            Some((held, _)) if claimed.version < held.version => return Ok(self),
            Some((held, held_digest)) if claimed.version == held.version => {
                return if digest == *held_digest { Ok(self) } else { Err(Refusal::KeysEquivocation { version: held.version }) };
            }
            _ => {}
        }
        let unsigned = Refusal::KeysUnsigned { version: claimed.version };
        let statement = document.statement(KEYS_CONTEXT);
        if !self.roots.signed(&statement, &document.signatures) {
            return Err(unsigned);
        }
        if claimed.format > FORMAT {
            return Err(Refusal::FormatTooNew { found: claimed.format });
        }
        if let Some(field) = claimed.must.iter().find(|field| !KNOWN.contains(&field.as_str())) {
            return Err(Refusal::MustUnknown { field: field.clone() });
        }
        document.canonical()?;
        let keys: KeyDocument = document.read().ok_or_else(|| Refusal::Malformed { why: "a key document lacks a field".to_owned() })?;
        if keys.fleet != self.fleet {
            return Err(Refusal::Foreign { what: "the fleet", theirs: keys.fleet, ours: self.fleet });
        }
        keys.check()?;
        if !keys.roots.signed(&statement, &document.signatures) {
            return Err(unsigned);
        }
        Ok(Trust { fleet: self.fleet, roots: keys.roots.clone(), keys: Some((keys, digest)) })
    }

    /// Whether enough keys that may sign bundles signed this. `now_ms` is left out where the signature was good when it came.
    pub(super) fn signed(&self, statement: &[u8], signatures: &[Signature], now_ms: Option<i64>) -> Result<(), Refusal> {
        if signatures.is_empty() {
            return Err(Refusal::Unsigned);
        }
        if signatures.len() > LIST_MAX {
            return Err(Refusal::Malformed { why: format!("more than {LIST_MAX} signatures") });
        }
        let Some(keys) = self.keys() else { return Err(Refusal::UnknownKey { key: signatures[0].key }) };
        if now_ms.is_some_and(|now_ms| keys.expires_ms <= now_ms) {
            return Err(Refusal::KeysExpired { version: keys.version });
        }
        let mut good = BTreeSet::new();
        let mut worst: Option<(u8, Refusal)> = None;
        let mut blame = |weight: u8, refusal: Refusal| {
            if worst.as_ref().is_none_or(|(before, _)| weight > *before) {
                worst = Some((weight, refusal));
            }
        };
        for signature in signatures {
            let key = signature.key;
            let Some(known) = keys.bundle_keys.iter().find(|known| known.key == key) else {
                // Another trusted key may have signed too: a rotation is signed with the old key and the new one.
                let revoked = keys.revoked.contains(&key);
                blame(if revoked { 3 } else { 1 }, if revoked { Refusal::RevokedKey { key } } else { Refusal::UnknownKey { key } });
                continue;
            };
            if keys.revoked.contains(&key) {
                blame(3, Refusal::RevokedKey { key });
            } else if !key.verifies(statement, signature) {
                blame(4, Refusal::Altered { what: "manifest".to_owned() });
            } else if now_ms.is_some_and(|now_ms| known.expires_ms <= now_ms) {
                blame(2, Refusal::KeyExpired { key });
            } else {
                good.insert(key);
            }
        }
        if good.len() >= keys.bundle_threshold {
            return Ok(());
        }
        let too_few = Refusal::TooFewSignatures { have: good.len(), need: keys.bundle_threshold };
        Err(worst.map_or(too_few, |(_, refusal)| refusal))
    }
}

/// The documents that lead from the first roots to the last document: those that change the roots, and the last. The others
/// were signed by roots that are known without them.
pub fn chain(mut documents: Vec<Signed>) -> Vec<Signed> {
    let version = |document: &Signed| document.read::<Version>().map_or(0, |read| read.version);
    documents.sort_by_key(version);
    documents.dedup_by_key(|document| version(document));
    let roots: Vec<Option<Roots>> = documents.iter().map(|document| document.read::<KeyDocument>().map(|keys| keys.roots)).collect();
    let last = documents.len().saturating_sub(1);
    let needed = |index: usize| index == last || index == 0 || roots[index] != roots[index - 1];
    documents.into_iter().enumerate().filter(|(index, _)| needed(*index)).map(|(_, document)| document).collect()
}

#[derive(Deserialize)]
struct Version {
    version: i64,
    format: u32,
    #[serde(default)]
    must: Vec<String>,
}

impl Roots {
    /// Whether the threshold of distinct keys signed.
    fn signed(&self, statement: &[u8], signatures: &[Signature]) -> bool {
        let signed = self.keys.iter().collect::<BTreeSet<_>>().into_iter();
        let good = signed.filter(|key| signatures.iter().take(LIST_MAX).any(|signature| key.verifies(statement, signature))).count();
        self.threshold > 0 && good >= self.threshold
    }

    /// What is wrong with them, if anything is.
    pub fn fault(&self) -> Option<String> {
        let distinct = self.keys.iter().collect::<BTreeSet<_>>().len();
        if distinct != self.keys.len() {
            return Some("a root key is named twice".to_owned());
        }
        if distinct > LIST_MAX {
            return Some(format!("more than {LIST_MAX} root keys"));
        }
        // With a threshold of one, one stolen key is the whole company's law.
        if self.threshold < 2 || self.threshold > distinct {
            return Some(format!("the threshold must be at least 2 and at most the number of root keys ({distinct}), not {}", self.threshold));
        }
        None
    }
}

impl KeyDocument {
    fn check(&self) -> Result<(), Refusal> {
        self.fault().map_or(Ok(()), |why| Err(Refusal::KeysWrong { why }))
    }

    /// What is wrong with it, if anything is.
    pub fn fault(&self) -> Option<String> {
        let life_ms = BUNDLE_KEY_DAYS_MAX * DAY_MS;
        if let Some(fault) = self.roots.fault() {
            return Some(fault);
        }
        if self.version < 1 || self.expires_ms <= self.issued_ms {
            return Some("its version begins with 1, and it ends after it was issued".to_owned());
        }
        if self.bundle_keys.len() > LIST_MAX || self.revoked.len() > LIST_MAX * LIST_MAX {
            return Some("it names too many keys".to_owned());
        }
        if let Some(key) = self.bundle_keys.iter().find(|key| key.expires_ms.saturating_sub(self.issued_ms) > life_ms) {
            return Some(format!("the key `{}` would live longer than {BUNDLE_KEY_DAYS_MAX} days", key.key));
        }
        if let Some(key) = self.bundle_keys.iter().find(|key| self.roots.keys.contains(&key.key)) {
            return Some(format!("the key `{}` is a root key, which must stay offline", key.key));
        }
        let usable = self.bundle_keys.iter().map(|key| key.key).filter(|key| !self.revoked.contains(key)).collect::<BTreeSet<_>>().len();
        if self.bundle_threshold < 1 || self.bundle_threshold > usable {
            return Some(format!("the threshold for bundles must be at least 1 and at most the number of keys that may sign ({usable})"));
        }
        None
    }
}
