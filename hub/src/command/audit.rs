//! `hub audit …`: the heads that the hub keeps of a host's audit, for whoever follows an export of it.

use super::{Place, Trouble, open};
use crate::store::Store;
use anyhow::Context;
use clap::Subcommand;
use serde_json::json;
use service::Clock;
use wire::TenantId;

#[derive(Subcommand)]
pub enum AuditCommand {
    /// Print the kept heads, one line of JSON each, for `tenant-agent audit verify --anchors`.
    Anchors {
        /// The tenant's name.
        tenant: String,
        #[command(flatten)]
        place: Place,
    },
    /// Begin anew with what the host says next. For after somebody has looked why its audit did not fit, or put a backup back.
    Accept {
        /// The tenant's name.
        tenant: String,
        #[command(flatten)]
        place: Place,
    },
}

impl AuditCommand {
    pub fn is_json(&self) -> bool {
        let (AuditCommand::Anchors { place, .. } | AuditCommand::Accept { place, .. }) = self;
        place.json
    }
}

pub async fn run(command: AuditCommand) -> Result<(), Trouble> {
    match command {
        AuditCommand::Anchors { tenant, place } => {
            let store = open(&place)?;
            for anchor in store.audit_anchors(named(&store, &tenant).await?).await.context("reading the anchors")? {
                println!("{}", json!(anchor));
            }
        }
        AuditCommand::Accept { tenant, place } => {
            let store = open(&place)?;
            if !store.accept_audit(named(&store, &tenant).await?).await.context("forgetting the anchors")? {
                return Err(Trouble { code: 1, said: format!("nothing is wrong with the audit of `{tenant}`") });
            }
            super::say(&place, || json!({ "ok": true }), || format!("the audit of `{tenant}` is kept anew from its next heartbeat on"));
        }
    }
    Ok(())
}

async fn named(store: &Store, name: &str) -> Result<TenantId, Trouble> {
    let tenants = store.view(Clock::system().wall_ms()).await.context("reading the fleet")?;
    let found = tenants.into_iter().find(|tenant| tenant.name == name);
    Ok(found.map(|tenant| tenant.id).with_context(|| format!("there is no tenant `{name}`; `hub fleet` names them"))?)
}
