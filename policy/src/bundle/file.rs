//! One bundle as a file: the signed manifest, the sections that it seals, and the key documents for it.
//!
//! ```text
//! {"bundle":{"signatures":[…],"signed":{manifest}},"keys":[{"signatures":[…],"signed":{key document}}…],"sections":{…}}
//! ```
//!
//! A signature covers the bytes of `signed` as they were received, and each section's hash covers its bytes as received:
//! nothing is verified that was written anew. The whole file has one spelling, RFC 8785 with integers only.

use super::content::{Content, SECTIONS};
use super::key::{Signature, Signer};
use super::trust::{KEYS_CONTEXT, Trust};
use super::{BYTES_MAX, CLOCK_AHEAD_MS, FORMAT, Refusal, only_integers};
use crate::approval::{Digest, canonical_json};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// What a signature under a manifest covers, before its bytes.
const BUNDLE_CONTEXT: &str = "gatehouse-policy-bundle-v1\n";

/// What a bundle says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub format: u32,
    /// The company's fleet that it is for.
    pub fleet: String,
    pub channel: String,
    /// Only grows.
    pub version: i64,
    pub issued_ms: i64,
    pub expires_ms: i64,
    pub min_agent: String,
    /// The tenants that it is for; none named: all of the fleet.
    #[serde(default)]
    pub tenants: Vec<String>,
    /// What a reader has to know, or else refuse.
    #[serde(default)]
    pub must: Vec<String>,
    pub sections: BTreeMap<String, Seal>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seal {
    pub sha256: String,
    pub bytes: usize,
}

const FIELDS: &[&str] = &["format", "fleet", "channel", "version", "issued_ms", "expires_ms", "min_agent", "tenants", "must", "sections"];

/// A document with the signatures under it. The bytes stay as they came.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signed {
    pub signatures: Vec<Signature>,
    signed: Box<RawValue>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    bundle: Signed,
    pub keys: Vec<Signed>,
    sections: BTreeMap<String, Box<RawValue>>,
}

/// Who reads it, and when.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    pub tenant: &'a str,
    pub channel: &'a str,
    pub agent_version: &'a str,
    pub now_ms: i64,
    /// What is in force.
    pub held: Option<Held>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    pub version: i64,
    pub digest: Digest,
}

/// A bundle that is written and not signed yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    pub fleet: String,
    pub channel: String,
    pub version: i64,
    pub days: i64,
    pub min_agent: String,
    pub tenants: Vec<String>,
    pub must: Vec<String>,
    pub content: Content,
}

impl Signed {
    pub fn parse(text: &str) -> Result<Signed, Refusal> {
        let document: Signed = whole(text)?;
        document.canonical()?;
        Ok(document)
    }

    /// A key document that nobody has signed yet.
    pub fn new(document: &impl Serialize) -> Signed {
        let value = serde_json::to_value(document).unwrap_or(Value::Null);
        Signed { signatures: Vec::new(), signed: raw(&value) }
    }

    pub fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Its name: the hash of what was signed.
    pub fn digest(&self) -> Digest {
        Digest::of(self.signed.get().as_bytes())
    }

    pub fn read<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_str(self.signed.get()).ok()
    }

    pub fn sign_keys(&mut self, signer: &dyn Signer) {
        self.sign(signer, KEYS_CONTEXT);
    }

    fn sign(&mut self, signer: &dyn Signer, context: &str) {
        let signature = Signature::of(signer, &self.statement(context));
        self.signatures.retain(|other| other.key != signature.key);
        self.signatures.push(signature);
        self.signatures.sort_by_key(|signature| signature.key);
    }

    pub(super) fn statement(&self, context: &str) -> Vec<u8> {
        [context.as_bytes(), self.signed.get().as_bytes()].concat()
    }

    pub(super) fn canonical(&self) -> Result<(), Refusal> {
        canonical("what was signed", self.signed.get())
    }
}

impl File {
    /// Reads the envelope; nothing in it is believed yet.
    pub fn parse(bytes: &[u8]) -> Result<File, Refusal> {
        if bytes.len() > BYTES_MAX {
            return Err(Refusal::TooLarge { bytes: bytes.len() });
        }
        let text = std::str::from_utf8(bytes).map_err(|_| Refusal::Malformed { why: "it is no text".to_owned() })?;
        let file: File = whole(text)?;
        // One spelling for all of it: no name stands twice, of which one reader takes the first and another the last.
        if canonical_json(&value(text)?) != text.trim_end() {
            return Err(Refusal::Malformed { why: "it is not in canonical form".to_owned() });
        }
        Ok(file)
    }

    /// A file with this content, valid from `issued_ms`; unsigned.
    pub fn seal(draft: &Draft, issued_ms: i64, keys: Vec<Signed>) -> File {
        let sections: BTreeMap<String, Box<RawValue>> = draft.content.sections().into_iter().map(|(name, value)| (name.to_owned(), raw(&value))).collect();
        let seals = sections.iter().map(|(name, raw)| (name.clone(), Seal::of(raw.get()))).collect();
        let manifest = Manifest {
            format: FORMAT,
            fleet: draft.fleet.clone(),
            channel: draft.channel.clone(),
            version: draft.version,
            issued_ms,
            expires_ms: issued_ms.saturating_add(draft.days.saturating_mul(super::DAY_MS)),
            min_agent: draft.min_agent.clone(),
            tenants: draft.tenants.clone(),
            must: draft.must.clone(),
            sections: seals,
        };
        File { bundle: Signed::new(&manifest), keys, sections }
    }

    pub fn sign(&mut self, signer: &dyn Signer) {
        self.bundle.sign(signer, BUNDLE_CONTEXT);
    }

    pub fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The name of the law in it, however many signatures and key documents come along.
    pub fn digest(&self) -> Digest {
        self.bundle.digest()
    }

    pub fn signatures(&self) -> &[Signature] {
        &self.bundle.signatures
    }

    /// What it says of itself, believed or not.
    pub fn manifest(&self) -> Result<Manifest, Refusal> {
        self.bundle.canonical()?;
        self.bundle.read().ok_or_else(|| Refusal::Malformed { why: "its manifest lacks a field".to_owned() })
    }

    /// Whether enough trusted keys signed it, at this moment or (`None`) at the time when it came.
    pub fn signed_by(&self, trust: &Trust, now_ms: Option<i64>) -> Result<(), Refusal> {
        trust.signed(&self.bundle.statement(BUNDLE_CONTEXT), &self.bundle.signatures, now_ms)
    }

    /// Whether this is law for the reader. Every step that can stop it stands here in order.
    pub fn open(&self, trust: &Trust, reader: &Reader<'_>) -> Result<(Manifest, Content), Refusal> {
        self.signed_by(trust, Some(reader.now_ms))?;
        self.known()?;
        let manifest = self.manifest()?;
        for_us(&manifest, trust, reader)?;
        let held = reader.held.filter(|held| held.version >= trust.versions_from());
        let floor = held.map_or(trust.versions_from(), |held| held.version);
        if manifest.version < floor || manifest.version < 1 {
            return Err(Refusal::Older { version: manifest.version, held: floor });
        }
        if held.is_some_and(|held| held.version == manifest.version && held.digest != self.digest()) {
            return Err(Refusal::Equivocation { version: manifest.version });
        }
        if manifest.issued_ms > reader.now_ms.saturating_add(CLOCK_AHEAD_MS) {
            return Err(Refusal::ClockBehind { issued_ms: manifest.issued_ms, now_ms: reader.now_ms });
        }
        if manifest.expires_ms <= reader.now_ms {
            return Err(Refusal::Expired { expires_ms: manifest.expires_ms, now_ms: reader.now_ms });
        }
        let content = self.content()?;
        let faults = content.faults();
        if !faults.is_empty() {
            return Err(Refusal::RulesWrong { faults });
        }
        Ok((manifest, content))
    }

    /// What it holds, checked against the seals of its own manifest.
    pub fn content(&self) -> Result<Content, Refusal> {
        let seals = self.manifest()?.sections;
        if let Some(name) = self.sections.keys().find(|name| !seals.contains_key(*name)) {
            return Err(Refusal::Extraneous { what: name.clone() });
        }
        for (name, seal) in &seals {
            let text = self.sections.get(name).map(|raw| raw.get()).ok_or_else(|| Refusal::Altered { what: name.clone() })?;
            if *seal != Seal::of(text) {
                return Err(Refusal::Altered { what: name.clone() });
            }
            canonical(name, text)?;
        }
        Content::read(|name| self.sections.get(name).and_then(|raw| serde_json::from_str(raw.get()).ok()))
    }

    /// A format and a `must` that we know, asked before anything else is read: a later format may look quite different.
    fn known(&self) -> Result<(), Refusal> {
        #[derive(Deserialize)]
        struct Head {
            format: u32,
            #[serde(default)]
            must: Vec<String>,
        }
        let head: Head = self.bundle.read().ok_or_else(|| Refusal::Malformed { why: "its manifest has no format".to_owned() })?;
        if head.format > FORMAT {
            return Err(Refusal::FormatTooNew { found: head.format });
        }
        match head.must.into_iter().find(|field| !FIELDS.contains(&field.as_str()) && !SECTIONS.contains(&field.as_str())) {
            Some(field) => Err(Refusal::MustUnknown { field }),
            None => Ok(()),
        }
    }
}

/// Whether `must` may name this.
pub(super) fn is_known(field: &str) -> bool {
    FIELDS.contains(&field) || SECTIONS.contains(&field)
}

impl Seal {
    fn of(text: &str) -> Seal {
        Seal { sha256: Digest::of(text.as_bytes()).to_string(), bytes: text.len() }
    }
}

fn for_us(manifest: &Manifest, trust: &Trust, reader: &Reader<'_>) -> Result<(), Refusal> {
    let foreign = |what, theirs: &str, ours: &str| Err(Refusal::Foreign { what, theirs: theirs.to_owned(), ours: ours.to_owned() });
    if manifest.fleet != trust.fleet {
        return foreign("the fleet", &manifest.fleet, &trust.fleet);
    }
    if manifest.channel != reader.channel {
        return foreign("the channel", &manifest.channel, reader.channel);
    }
    if !manifest.tenants.is_empty() && !manifest.tenants.iter().any(|tenant| tenant == reader.tenant) {
        return foreign("the tenants", &manifest.tenants.join(", "), reader.tenant);
    }
    if parts(&manifest.min_agent) > parts(reader.agent_version) {
        return Err(Refusal::NeedsNewerAgent { needed: manifest.min_agent.clone(), ours: reader.agent_version.to_owned() });
    }
    Ok(())
}

/// The numbers of a version; what is none counts as newer than everything, so that it is refused.
pub(super) fn parts(version: &str) -> [u64; 3] {
    let mut numbers = version.split('-').next().unwrap_or_default().split('.').map(|part| part.parse().unwrap_or(u64::MAX));
    [(); 3].map(|()| numbers.next().unwrap_or(0))
}

fn whole<T: DeserializeOwned>(text: &str) -> Result<T, Refusal> {
    serde_json::from_str(text).map_err(|error| Refusal::Malformed { why: error.to_string() })
}

fn value(text: &str) -> Result<Value, Refusal> {
    let value = whole(text)?;
    if only_integers(&value) { Ok(value) } else { Err(Refusal::Malformed { why: "it has a number that is no integer of 53 bits".to_owned() }) }
}

fn canonical(what: &str, text: &str) -> Result<(), Refusal> {
    if canonical_json(&value(text)?) == text { Ok(()) } else { Err(Refusal::Malformed { why: format!("{what} is not in canonical form") }) }
}

fn raw(value: &Value) -> Box<RawValue> {
    RawValue::from_string(canonical_json(value)).expect("canonical JSON is JSON")
}
