//! The last that each tenant's agent said of itself.

use crate::store::Store;
use rusqlite::params;
use service::store::Result;
use wire::TenantId;
use wire::link::Heartbeat;

impl Store {
    pub async fn note_heartbeat(&self, tenant: TenantId, agent_version: String, heartbeat: Heartbeat, now_ms: i64) -> Result<()> {
        let text = |value: serde_json::Result<String>| value.unwrap_or_default();
        let (gateway, findings, approvals) = (
            text(serde_json::to_string(&heartbeat.gateway)),
            text(serde_json::to_string(&heartbeat.findings)),
            text(serde_json::to_string(&heartbeat.approvals)),
        );
        let policy = heartbeat.policy.as_ref().map(|policy| text(serde_json::to_string(policy)));
        let asks = heartbeat.asks.as_ref().map(|asks| text(serde_json::to_string(asks)));
        let sql = "INSERT OR REPLACE INTO heartbeat (tenant_id, seen_ms, agent_version, gateway, findings, approvals, policy, asks)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
        self.db()
            .write(move |tx| {
                tx.prepare_cached(sql)?.execute(params![tenant.to_string(), now_ms, agent_version, gateway, findings, approvals, policy, asks])?;
                Ok::<_, service::store::StoreError>(())
            })
            .await?;
        self.changed();
        Ok(())
    }
}
