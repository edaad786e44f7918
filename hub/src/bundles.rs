//! Published policy bundles, as agents fetch them. The hub passes on what others signed; it could not change a letter of it.

use crate::store::{BundleRecord, PublishError, Store};
use anyhow::Context;
use policy::Digest;
use policy::bundle::{File, Reader, Refusal, Roots, Trust};
use service::{Clock, Stop};
use std::sync::Arc;
use thiserror::Error;
use tokio::sync::watch;
use wire::TenantId;
use wire::link::{OfferedBundle, PART_BYTES_MAX, PolicyOffer, PolicyPart, PolicyWant};

/// Whose bundles this company's agents believe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    pub fleet: String,
    pub roots: Roots,
    pub channel: String,
}

impl Authority {
    pub fn trust(&self) -> Trust {
        Trust::pinned(&self.fleet, self.roots.clone())
    }
}

pub struct Bundles {
    store: Store,
    clock: Clock,
    newest: watch::Sender<Arc<Vec<BundleRecord>>>,
}

/// Why a file was not published.
#[derive(Debug, Error)]
pub enum Unpublished {
    #[error("no agent would take this bundle: {0}")]
    Refused(Refusal),
    #[error(transparent)]
    Store(#[from] PublishError),
}

/// `hub policy publish` writes to the store beside the running hub; this is how soon it is seen.
const LOOK_EACH_MS: u64 = 500;

/// Keeps a file for the agents, if it is one that they would take.
pub async fn publish(store: &Store, trust: &Trust, text: String, now_ms: i64) -> Result<BundleRecord, Unpublished> {
    let record = examined(trust, text, now_ms).map_err(Unpublished::Refused)?;
    store.publish_bundle(record.clone()).await?;
    Ok(record)
}

/// Looks at a file as an agent does that has none yet, runs its own version, and is meant by it.
pub fn examined(trust: &Trust, text: String, now_ms: i64) -> Result<BundleRecord, Refusal> {
    let file = File::parse(text.as_bytes())?;
    let trust = trust.advance(&file.keys)?;
    let manifest = file.manifest()?;
    let tenant = manifest.tenants.first().map_or("", String::as_str);
    let reader = Reader { tenant, channel: &manifest.channel, agent_version: &manifest.min_agent, now_ms, held: None };
    let (manifest, content) = file.open(&trust, &reader)?;
    shipped::regime(&content, tenant, &[], manifest.expires_ms, now_ms, false).map_err(|faults| Refusal::RulesWrong { faults })?;
    Ok(BundleRecord {
        channel: manifest.channel,
        tenants: manifest.tenants,
        version: manifest.version,
        digest: file.digest().to_string(),
        keys_version: trust.keys_version(),
        file: Digest::of(text.as_bytes()).to_string(),
        text,
        expires_ms: manifest.expires_ms,
        published_ms: now_ms,
    })
}

impl Bundles {
    pub async fn open(store: Store, clock: Clock) -> anyhow::Result<Bundles> {
        let newest = store.bundles().await.context("reading the published policy bundles")?;
        Ok(Bundles { store, clock, newest: watch::Sender::new(Arc::new(newest)) })
    }

    /// Moves whenever something was published.
    pub fn changes(&self) -> watch::Receiver<Arc<Vec<BundleRecord>>> {
        self.newest.subscribe()
    }

    /// What a tenant's agent may fetch: the newest of each channel that is meant for it.
    pub fn offer(&self, tenant: TenantId) -> PolicyOffer {
        let (newest, tenant) = (self.newest.borrow().clone(), tenant.to_string());
        let mut bundles: Vec<OfferedBundle> = Vec::new();
        for record in newest.iter().filter(|record| record.tenants.is_empty() || record.tenants.contains(&tenant)) {
            let offered = OfferedBundle { channel: record.channel.clone(), version: record.version, file: record.file.clone(), bytes: record.text.len() };
            match bundles.iter_mut().find(|other| other.channel == offered.channel) {
                Some(other) if other.version < offered.version => *other = offered,
                Some(_) => {}
                None => bundles.push(offered),
            }
        }
        PolicyOffer { bundles }
    }

    /// A part of a file; empty when it is none that is offered to this tenant, or from its end on.
    pub fn part(&self, tenant: TenantId, want: PolicyWant) -> PolicyPart {
        let newest = self.newest.borrow().clone();
        let (tenant, PolicyWant { file, offset }) = (tenant.to_string(), want);
        let record = newest.iter().find(|record| record.file == file && (record.tenants.is_empty() || record.tenants.contains(&tenant)));
        let rest = record.and_then(|record| record.text.get(offset..)).unwrap_or_default();
        let text = rest[..rest.floor_char_boundary(PART_BYTES_MAX)].to_owned();
        PolicyPart { file, offset, text }
    }

    pub async fn publish(&self, trust: &Trust, text: String) -> Result<BundleRecord, Unpublished> {
        let record = publish(&self.store, trust, text, self.clock.wall_ms()).await?;
        self.look().await.map_err(PublishError::from)?;
        Ok(record)
    }

    /// Notices what another process publishes, until the stop.
    pub async fn watch(&self, stop: &Stop) {
        let mut seen = -1;
        while !stop.is_stopped() {
            match self.store.bundles_mark().await {
                Ok(mark) if mark != seen => match self.look().await {
                    Ok(_) => seen = mark,
                    Err(error) => tracing::error!(%error, "the published policy bundles could not be read"),
                },
                Ok(_) => {}
                Err(error) => tracing::error!(%error, "the published policy bundles could not be read"),
            }
            stop.or(self.clock.sleep(LOOK_EACH_MS)).await;
        }
    }

    /// Reads what is published, also by another process; whoever waits for changes hears of them.
    pub async fn look(&self) -> service::store::Result<Arc<Vec<BundleRecord>>> {
        let newest = self.store.bundles().await?;
        self.newest.send_if_modified(|known| {
            let is_new = **known != newest;
            if is_new {
                *known = Arc::new(newest);
            }
            is_new
        });
        Ok(self.newest.borrow().clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(version: i64, keys_version: i64, tenants: &[&str], text: &str) -> BundleRecord {
        BundleRecord {
            channel: "stable".to_owned(),
            tenants: tenants.iter().map(|tenant| (*tenant).to_owned()).collect(),
            version,
            digest: Digest::of(text.as_bytes()).to_string(),
            keys_version,
            file: format!("file {version} {keys_version}"),
            text: text.to_owned(),
            expires_ms: 1,
            published_ms: 1,
        }
    }

    #[tokio::test]
    async fn numbers_only_grow_and_each_tenant_gets_what_is_meant_for_it() {
        let folder = std::env::temp_dir().join(format!("gatehouse-bundles-{}", service::random::token()));
        let store = Store::open(&folder).unwrap();
        let (one, other): (TenantId, TenantId) = (TenantId::new(1), TenantId::new(2));
        let bundles = Bundles::open(store.clone(), Clock::manual(0)).await.unwrap();
        assert!(bundles.offer(one).bundles.is_empty());
        store.publish_bundle(record(3, 1, &[], "three")).await.unwrap();
        for (bad, expected) in [(record(2, 1, &[], "two"), "version 3 is published"), (record(3, 1, &[], "another three"), "another bundle of version 3")] {
            assert!(store.publish_bundle(bad).await.unwrap_err().to_string().contains(expected));
        }
        store.publish_bundle(record(3, 2, &[], "three")).await.unwrap();
        let many = "ä\"".repeat(PART_BYTES_MAX);
        store.publish_bundle(record(4, 2, &[&one.to_string()], &many)).await.unwrap();
        bundles.look().await.unwrap();
        let offered = |tenant| bundles.offer(tenant).bundles.iter().map(|bundle| (bundle.version, bundle.file.clone())).collect::<Vec<_>>();
        assert_eq!(offered(other), [(3, "file 3 2".to_owned())], "the same law, with newer keys");
        assert_eq!(offered(one)[0].0, 4);

        let file = offered(one)[0].1.clone();
        let mut text = String::new();
        loop {
            let part = bundles.part(one, PolicyWant { file: file.clone(), offset: text.len() });
            assert!(wire::link::frame("policy_part", "p", &part).len() < wire::link::FRAME_BYTES_MAX);
            if part.text.is_empty() {
                break;
            }
            text.push_str(&part.text);
        }
        assert_eq!(text, many, "whole, in parts that fit");
        for (tenant, offset) in [(other, 0), (one, 1), (one, usize::MAX)] {
            assert_eq!(bundles.part(tenant, PolicyWant { file: file.clone(), offset }).text, "", "{tenant} {offset}");
        }

        // A number that a stolen key drove up is left by newer keys, and only by those.
        store.publish_bundle(record(1_000_000, 2, &[], "stolen")).await.unwrap();
        assert!(store.publish_bundle(record(5, 2, &[], "five")).await.is_err());
        store.publish_bundle(record(5, 3, &[], "five")).await.unwrap();
        bundles.look().await.unwrap();
        assert_eq!(offered(other)[0].0, 5);
        std::fs::remove_dir_all(folder).unwrap();
    }
}
