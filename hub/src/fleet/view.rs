//! The fleet as operators see it: one snapshot, made anew whenever something changed or time alone may have changed it.

use super::presence::{Attendance, presence};
use crate::store::Store;
use service::{Clock, Stop};
use std::sync::Arc;
use tokio::sync::watch;
use wire::fleet::Fleet;

pub(crate) struct View {
    store: Store,
    attendance: Arc<Attendance>,
    clock: Clock,
    heartbeat_ms: u64,
    fleet: watch::Sender<Arc<Fleet>>,
}

/// Presence fades by itself; this is how late an operator may see it.
const TICK_MS: u64 = 2_000;

impl View {
    pub async fn open(store: Store, attendance: Arc<Attendance>, clock: Clock, heartbeat_ms: u64) -> service::store::Result<View> {
        let empty = Fleet { revision: 0, now_ms: 0, tenants: Vec::new() };
        let view = View { store, attendance, clock, heartbeat_ms, fleet: watch::Sender::new(Arc::new(empty)) };
        view.refresh().await?;
        Ok(view)
    }

    pub fn feed(&self) -> watch::Receiver<Arc<Fleet>> {
        self.fleet.subscribe()
    }

    /// Makes the snapshot of this moment; listeners hear of it only if it differs.
    pub async fn refresh(&self) -> service::store::Result<Arc<Fleet>> {
        let now_ms = self.clock.wall_ms();
        let mut tenants = self.store.view(now_ms).await?;
        for tenant in &mut tenants {
            tenant.presence = presence(self.attendance.is_here(tenant.id), tenant.last_seen_ms, now_ms, self.heartbeat_ms);
        }
        self.fleet.send_if_modified(|fleet| {
            let changed = fleet.tenants != tenants || fleet.revision == 0;
            if changed {
                *fleet = Arc::new(Fleet { revision: fleet.revision + 1, now_ms, tenants });
            }
            changed
        });
        Ok(self.fleet.borrow().clone())
    }

    /// Keeps the snapshot fresh until the stop. Changes that come while one is made share the next.
    pub async fn publish(&self, stop: &Stop) {
        let (mut written, mut present) = (self.store.changes(), self.attendance.changes());
        while !stop.is_stopped() {
            if let Err(error) = self.refresh().await {
                tracing::error!(%error, "the fleet could not be read");
            }
            tokio::select! {
                _ = written.changed() => {}
                _ = present.changed() => {}
                () = self.clock.sleep(TICK_MS) => {}
                () = stop.stopped() => {}
            }
        }
    }
}
