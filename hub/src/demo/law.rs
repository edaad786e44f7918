//! The demo's company: keys of its own and a first policy bundle, so that the law takes the same way as anywhere.
//!
//! All keys lie in one folder, which no real company does: its root keys stay offline (docs/OPERATING.md).

use crate::app::Hub;
use crate::bundles::Authority;
use anyhow::{Context, ensure};
use policy::bundle::{BundleKey, Content, DAY_MS, Draft, FORMAT, File, KeyDocument, Price, Roots, Signed, Signer};
use service::config::{private_folder, read_private, write_private};
use service::key::SigningKey;
use std::path::{Path, PathBuf};

const FLEET: &str = "demo";
const CHANNEL: &str = "stable";
const ROOTS: usize = 3;
const THRESHOLD: usize = 2;
const KEY_DAYS: i64 = 90;
const BUNDLE_DAYS: i64 = 60;
/// With less left than this, a start of the demo signs anew.
const LEFT_DAYS_MIN: i64 = 30;

/// What comes with this build, and a price for the script that plays a model: nothing.
fn content() -> Content {
    let mut content = shipped::content();
    let (provider, model) = ("scripted".to_owned(), "scripted-1".to_owned());
    let scripted = Price {
        provider,
        model,
        input_nano_usd: 0,
        cached_nano_usd: 0,
        output_nano_usd: 0,
        cache_write_nano_usd: None,
        cache_write_long_nano_usd: None,
        tool_request_nano_usd: None,
    };
    content.prices.models.push(scripted);
    content
}

pub(super) struct Company {
    folder: PathBuf,
    roots: Vec<SigningKey>,
    bundle: SigningKey,
}

impl Company {
    /// The one that this state has, or a new one.
    pub fn open(state_folder: &Path) -> anyhow::Result<Company> {
        let folder = state_folder.join("policy");
        private_folder(&folder)?;
        let roots = (1..=ROOTS).map(|n| SigningKey::open(&folder.join(format!("root-{n}.pk8")))).collect::<anyhow::Result<_>>()?;
        let bundle = SigningKey::open(&folder.join("bundle.pk8"))?;
        Ok(Company { folder, roots, bundle })
    }

    pub fn authority(&self) -> Authority {
        Authority { fleet: FLEET.to_owned(), roots: self.root_keys(), channel: CHANNEL.to_owned() }
    }

    fn root_keys(&self) -> Roots {
        Roots { keys: self.roots.iter().map(Signer::public).collect(), threshold: THRESHOLD }
    }

    /// Publishes the rules that come with this build, unless they are published and good for a while.
    pub async fn publish(&self, hub: &Hub, now_ms: i64) -> anyhow::Result<()> {
        let keys = self.keys(now_ms)?;
        let newest = hub.published_policies().await?.into_iter().find(|record| record.channel == CHANNEL);
        let held = newest.as_ref().and_then(|record| File::parse(record.text.as_bytes()).ok());
        let is_current = held.as_ref().is_some_and(|file| file.content().is_ok_and(|held| held == content()))
            && newest.as_ref().is_some_and(|record| record.expires_ms - now_ms > LEFT_DAYS_MIN * DAY_MS);
        if is_current {
            return Ok(());
        }
        let draft = Draft {
            fleet: FLEET.to_owned(),
            channel: CHANNEL.to_owned(),
            version: newest.map_or(1, |record| record.version + 1),
            days: BUNDLE_DAYS,
            min_agent: env!("CARGO_PKG_VERSION").to_owned(),
            tenants: Vec::new(),
            must: Vec::new(),
            content: content(),
        };
        let mut file = File::seal(&draft, now_ms, vec![keys]);
        file.sign(&self.bundle);
        let record = hub.publish_policy(&self.authority().trust(), file.text()).await.context("publishing the demo's policy bundle")?;
        tracing::info!(policy.version = record.version, "the demo's policy bundle is published");
        Ok(())
    }

    /// The key document that is good for a while, or the next one.
    fn keys(&self, now_ms: i64) -> anyhow::Result<Signed> {
        let path = self.folder.join("keys.json");
        let trust = self.authority().trust();
        let held = if path.exists() { Some(String::from_utf8(read_private(&path)?).context("the key document is text")?) } else { None };
        let held = held.and_then(|text| Signed::parse(&text).ok());
        let known: Option<KeyDocument> =
            held.as_ref().and_then(|signed| trust.advance(std::slice::from_ref(signed)).ok()).and_then(|trust| trust.keys().cloned());
        let is_fresh = |keys: &KeyDocument| {
            keys.expires_ms - now_ms > LEFT_DAYS_MIN * DAY_MS && keys.bundle_keys.iter().any(|key| key.expires_ms - now_ms > LEFT_DAYS_MIN * DAY_MS)
        };
        if let (Some(signed), true) = (held, known.as_ref().is_some_and(is_fresh)) {
            return Ok(signed);
        }
        let document = KeyDocument {
            format: FORMAT,
            fleet: FLEET.to_owned(),
            version: known.map_or(1, |keys| keys.version + 1),
            issued_ms: now_ms,
            expires_ms: now_ms + KEY_DAYS * DAY_MS,
            roots: self.root_keys(),
            bundle_keys: vec![BundleKey { key: Signer::public(&self.bundle), expires_ms: now_ms + KEY_DAYS * DAY_MS }],
            bundle_threshold: 1,
            revoked: Vec::new(),
            versions_from: 0,
            must: Vec::new(),
        };
        let mut signed = Signed::new(&document);
        self.roots.iter().take(THRESHOLD).for_each(|root| signed.sign_keys(root));
        ensure!(trust.advance(std::slice::from_ref(&signed)).is_ok(), "the demo's key document is not trusted by its own roots: start once with --fresh");
        write_private(&path, signed.text().as_bytes())?;
        Ok(signed)
    }
}
