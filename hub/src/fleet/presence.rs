//! Who is here: which tenants have a link, and how old the last word of each is.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use tokio::sync::{mpsc, watch};
use wire::fleet::Presence;
use wire::link::Decision;
use wire::{HostId, TenantId};

/// Open links, in memory: after a restart everybody comes back.
#[derive(Default)]
pub(crate) struct Attendance {
    links: Mutex<HashMap<TenantId, Link>>,
    changes: watch::Sender<u64>,
}

struct Link {
    host: HostId,
    n: u64,
    superseded: watch::Sender<bool>,
    decisions: mpsc::Sender<Decision>,
}

/// One agent's place; it leaves when this is dropped.
pub(crate) struct Place {
    attendance: Arc<Attendance>,
    tenant: TenantId,
    n: u64,
    superseded: watch::Receiver<bool>,
    decisions: mpsc::Receiver<Decision>,
}

/// Decisions that wait for a link to take them.
const DECISIONS_MAX: usize = 16;

impl Attendance {
    /// Takes the place of the tenant's agent; who had it before is told.
    pub fn enter(self: &Arc<Attendance>, tenant: TenantId, host: HostId) -> Place {
        let mut links = self.links.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let n = links.get(&tenant).map_or(0, |link| link.n + 1);
        let (superseded, told) = watch::channel(false);
        let (decisions, passed) = mpsc::channel(DECISIONS_MAX);
        if let Some(before) = links.insert(tenant, Link { host, n, superseded, decisions }) {
            tracing::info!(tenant.id = %tenant, host.id = %before.host, "a newer link takes the place of an older one");
            before.superseded.send_replace(true);
        }
        drop(links);
        self.changes.send_modify(|n| *n += 1);
        Place { attendance: self.clone(), tenant, n, superseded: told, decisions: passed }
    }

    pub fn is_here(&self, tenant: TenantId) -> bool {
        self.links.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).contains_key(&tenant)
    }

    /// Hands a decision to the tenant's link; whether there is one that takes it.
    pub fn pass(&self, tenant: TenantId, decision: Decision) -> bool {
        let links = self.links.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        links.get(&tenant).is_some_and(|link| link.decisions.try_send(decision).is_ok())
    }

    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

impl Place {
    /// What happens to this place from outside.
    pub async fn called(&mut self) -> Call {
        tokio::select! {
            // The sender goes with the link that was replaced, which is the same news.
            _ = self.superseded.wait_for(|superseded| *superseded) => Call::Superseded,
            Some(decision) = self.decisions.recv() => Call::Decision(decision),
        }
    }
}

pub(crate) enum Call {
    /// A newer link has taken the place.
    Superseded,
    Decision(Decision),
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut links = self.attendance.links.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if links.get(&self.tenant).is_some_and(|link| link.n == self.n) {
            links.remove(&self.tenant);
        }
        drop(links);
        self.attendance.changes.send_modify(|n| *n += 1);
    }
}

/// After this long without a word somebody should look.
const OFFLINE_MS: i64 = 60_000;

/// How present a tenant is, from its link and the age of its last heartbeat.
pub(crate) fn presence(is_here: bool, last_seen_ms: Option<i64>, now_ms: i64, heartbeat_ms: u64) -> Presence {
    let Some(age_ms) = last_seen_ms.map(|seen| now_ms - seen) else { return Presence::Never };
    let late_ms = (heartbeat_ms as i64).saturating_mul(5) / 2;
    if is_here && age_ms <= late_ms {
        Presence::Online
    } else if age_ms < OFFLINE_MS.max(late_ms) {
        Presence::Late
    } else {
        Presence::Offline
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presence_follows_the_link_and_the_last_word() {
        for (is_here, age_ms, expected) in [
            (true, None, Presence::Never),
            (false, None, Presence::Never),
            (true, Some(0), Presence::Online),
            (true, Some(25_000), Presence::Online),
            (true, Some(25_001), Presence::Late),
            (true, Some(60_000), Presence::Offline),
            (false, Some(0), Presence::Late),
            (false, Some(59_999), Presence::Late),
            (false, Some(60_000), Presence::Offline),
            (true, Some(-5_000), Presence::Online),
        ] {
            assert_eq!(presence(is_here, age_ms.map(|age| 1_000_000 - age), 1_000_000, 10_000), expected, "{is_here} {age_ms:?}");
        }
        assert_eq!(presence(true, Some(0), 200_000, 300_000), Presence::Online, "a slow heartbeat is not late");
    }

    #[tokio::test]
    async fn the_newer_link_has_the_place() {
        let attendance = Arc::new(Attendance::default());
        let tenant = TenantId::new(1);
        let mut first = attendance.enter(tenant, HostId::new(1));
        let second = attendance.enter(tenant, HostId::new(1));
        assert!(matches!(first.called().await, Call::Superseded));
        drop(first);
        assert!(attendance.is_here(tenant), "the older one leaves without taking the newer one along");
        drop(second);
        assert!(!attendance.is_here(tenant));
    }
}
