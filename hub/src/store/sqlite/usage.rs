//! Counted model calls, as the agents report them.

use crate::store::Store;
use rusqlite::{ToSql, params_from_iter};
use service::store::{Result, StoreError};
use std::sync::LazyLock;
use wire::TenantId;
use wire::usage::{Counters, UsageRow};

impl Store {
    /// Takes rows in; the greater `seq` wins, so resending and reordering count nothing twice. `false`, and nothing taken,
    /// when a row names an assistant that is not this tenant's.
    pub async fn add_usage(&self, tenant: TenantId, rows: Vec<UsageRow>) -> Result<bool> {
        let taken = self
            .db()
            .write(move |tx| {
                let tenant = tenant.to_string();
                let mut ours = tx.prepare_cached("SELECT EXISTS (SELECT 1 FROM assistant WHERE id = ?1 AND tenant_id = ?2)")?;
                let mut upsert = tx.prepare_cached(&UPSERT)?;
                for row in &rows {
                    let assistant = row.assistant.to_string();
                    if !ours.query_row([&assistant, &tenant], |row| row.get::<_, bool>(0))? {
                        return Err(Refused::Foreign);
                    }
                    let counters = row.counters.values();
                    let key: [&dyn ToSql; 7] = [&tenant, &row.hour_ms, &assistant, &row.provider, &row.model, &row.seq, &row.catalogue];
                    upsert.execute(params_from_iter(key.into_iter().chain(counters.iter().map(|count| count as &dyn ToSql))))?;
                }
                Ok(())
            })
            .await;
        match taken {
            Ok(()) => {
                self.changed();
                Ok(true)
            }
            Err(Refused::Foreign) => Ok(false),
            Err(Refused::Store(error)) => Err(error),
        }
    }
}

static UPSERT: LazyLock<String> = LazyLock::new(|| {
    let columns = Counters::COLUMNS.join(", ");
    let marks = ["?"; Counters::COLUMNS.len()].join(", ");
    let newer = Counters::COLUMNS.map(|column| format!("{column} = excluded.{column}")).join(", ");
    format!(
        "INSERT INTO usage_hour (tenant_id, hour_ms, assistant, provider, model, seq, catalogue, {columns}) VALUES (?, ?, ?, ?, ?, ?, ?, {marks})
         ON CONFLICT (tenant_id, hour_ms, assistant, provider, model) DO UPDATE SET seq = excluded.seq, catalogue = excluded.catalogue, {newer}
         WHERE excluded.seq > usage_hour.seq"
    )
});

/// Rolls the transaction back, with the reason.
enum Refused {
    Foreign,
    Store(StoreError),
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Refused {
        Refused::Store(error)
    }
}

impl From<rusqlite::Error> for Refused {
    fn from(error: rusqlite::Error) -> Refused {
        Refused::Store(error.into())
    }
}

#[cfg(test)]
mod tests {
    use crate::store::{NewTenant, Provider, Store};
    use wire::usage::{Counters, UsageRow};
    use wire::{AssistantId, TenantId};

    fn row(assistant: u128, seq: i64, calls: i64) -> UsageRow {
        UsageRow {
            hour_ms: 0,
            assistant: AssistantId::new(assistant),
            provider: "p".into(),
            model: "m".into(),
            seq,
            catalogue: 1,
            counters: Counters { calls, input_tokens: calls * 10, output_tokens: calls, cost_nano_usd: calls * 1_000_000_000_000, ..Counters::default() },
        }
    }

    #[tokio::test]
    async fn rows_count_once_in_any_order_and_foreign_ones_not_at_all() {
        let folder = std::env::temp_dir().join(service::random::token());
        let store = Store::open(&folder).unwrap();
        for n in [1, 2] {
            let tenant = NewTenant {
                id: TenantId::new(n),
                name: format!("t{n}"),
                url: String::new(),
                provider: Provider::Elsewhere,
                assistant: AssistantId::new(n),
                assistant_name: "A".into(),
            };
            store.ensure_tenant(tenant, 0).await.unwrap();
        }
        let tenant = TenantId::new(1);
        for rows in [vec![row(1, 2, 2)], vec![row(1, 1, 1)], vec![row(1, 2, 2), row(1, 3, 3)], vec![row(1, 3, 3)]] {
            assert!(store.add_usage(tenant, rows).await.unwrap());
        }
        assert!(!store.add_usage(tenant, vec![row(1, 9, 9), row(2, 9, 9)]).await.unwrap(), "the whole frame is refused");
        let fleet = store.view(0).await.unwrap();
        let usage: Vec<Counters> = fleet.iter().map(|tenant| tenant.usage_today.counters).collect();
        assert_eq!(usage, [row(1, 3, 3).counters, Counters::default()]);
        std::fs::remove_dir_all(folder).unwrap();
    }
}
