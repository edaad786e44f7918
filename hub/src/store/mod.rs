//! What the hub knows, as operations on its nouns. Today on SQLite, embedded; another database is another folder beside
//! `sqlite` with the same operations.

mod sqlite;

pub use sqlite::bundle::{BundleRecord, PublishError};
pub use sqlite::enrolment::{Applicant, EnrolError};
pub use sqlite::step::StepRecord;
pub use sqlite::tenant::{LocalTenant, NewTenant, Provider};

use std::path::Path;
use std::sync::Arc;
use tokio::sync::watch;

#[derive(Clone)]
pub struct Store {
    db: service::Store,
    changes: Arc<watch::Sender<u64>>,
}

impl Store {
    pub fn open(state_folder: &Path) -> anyhow::Result<Store> {
        service::config::private_folder(state_folder)?;
        let db = service::Store::open(&state_folder.join("hub.db"), sqlite::MIGRATIONS)?;
        Ok(Store { db, changes: Arc::new(watch::Sender::new(0)) })
    }

    pub(crate) fn db(&self) -> &service::Store {
        &self.db
    }

    /// Says that something an operator sees is different now.
    pub fn changed(&self) {
        self.changes.send_modify(|n| *n += 1);
    }

    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}
