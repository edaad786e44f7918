//! The fleet as it is written down; presence is not, and is added by who knows it.

use super::{json, parsed, word};
use crate::store::Store;
use rusqlite::{Connection, OptionalExtension, params};
use service::store::Result;
use wire::TenantId;
use wire::fleet::{Gateway, GatewayState, HealthFinding, Presence, Severity, Step, TenantView};
use wire::usage::{Counters, DAY_MS, UsageDay};

/// Tenants on one dashboard.
const TENANTS_MAX: i64 = 10_000;

impl Store {
    /// Every tenant with what is known of it; usage is of the day that holds `now_ms` (UTC).
    pub async fn view(&self, now_ms: i64) -> Result<Vec<TenantView>> {
        let day_ms = now_ms.div_euclid(DAY_MS) * DAY_MS;
        self.db()
            .read(move |c| {
                let mut rows = c.prepare_cached("SELECT id, name, url, state FROM tenant ORDER BY name LIMIT ?1")?;
                let mut rows = rows.query([TENANTS_MAX])?;
                let mut tenants = Vec::new();
                while let Some(row) = rows.next()? {
                    let mut tenant = TenantView {
                        id: parsed(row, 0)?,
                        name: row.get(1)?,
                        url: row.get(2)?,
                        state: word(row, 3)?,
                        steps: Vec::new(),
                        presence: Presence::Never,
                        last_seen_ms: None,
                        agent_version: None,
                        gateway: Gateway { state: GatewayState::Absent, reason: None },
                        policy: None,
                        usage_today: UsageDay { day_ms, ..Default::default() },
                        approvals: Vec::new(),
                        asks: Vec::new(),
                        findings: Vec::new(),
                    };
                    fill(c, &mut tenant)?;
                    tenants.push(tenant);
                }
                Ok(tenants)
            })
            .await
    }
}

fn fill(connection: &Connection, tenant: &mut TenantView) -> rusqlite::Result<()> {
    let id = tenant.id.to_string();
    let mut steps = connection.prepare_cached("SELECT name, state, error FROM step WHERE tenant_id = ?1 ORDER BY n")?;
    tenant.steps = steps.query_map([&id], |row| Ok(Step { name: row.get(0)?, state: word(row, 1)?, error: row.get(2)? }))?.collect::<rusqlite::Result<_>>()?;
    let sql = "SELECT seen_ms, agent_version, gateway, findings, approvals, policy, asks FROM heartbeat WHERE tenant_id = ?1";
    let mut rows = connection.prepare_cached(sql)?;
    let mut rows = rows.query([&id])?;
    if let Some(row) = rows.next()? {
        (tenant.last_seen_ms, tenant.agent_version) = (Some(row.get(0)?), Some(row.get(1)?));
        (tenant.gateway, tenant.findings, tenant.approvals) = (json(row, 2)?, json(row, 3)?, json(row, 4)?);
        tenant.policy = row.get::<_, Option<String>>(5)?.and_then(|text| serde_json::from_str(&text).ok());
        tenant.asks = row.get::<_, Option<String>>(6)?.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    }
    let mut broken = connection.prepare_cached("SELECT code, since_ms, count FROM audit_break WHERE tenant_id = ?1")?;
    let finding = |row: &rusqlite::Row<'_>| {
        let count: i64 = row.get(2)?;
        Ok(HealthFinding { code: row.get(0)?, severity: Severity::Fail, since_ms: row.get(1)?, detail: format!("line {count}") })
    };
    tenant.findings.extend(broken.query_row([&id], finding).optional()?);
    tenant.usage_today = usage(connection, tenant.id, tenant.usage_today.day_ms)?;
    Ok(())
}

fn usage(connection: &Connection, tenant: TenantId, day_ms: i64) -> rusqlite::Result<UsageDay> {
    let sums = Counters::COLUMNS.map(|column| format!("coalesce(sum({column}), 0)")).join(", ");
    let sql = format!("SELECT {sums} FROM usage_hour WHERE tenant_id = ?1 AND hour_ms >= ?2 AND hour_ms < ?3");
    connection.prepare_cached(&sql)?.query_row(params![tenant.to_string(), day_ms, day_ms + DAY_MS], |row| {
        let mut values = [0; Counters::COLUMNS.len()];
        values.iter_mut().enumerate().try_for_each(|(n, value)| row.get(n).map(|sum| *value = sum))?;
        Ok(UsageDay { day_ms, counters: Counters::of(values) })
    })
}
