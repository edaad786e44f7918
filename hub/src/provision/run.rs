//! The round: for each tenant on this machine the next step, written down before and after.

use super::plan::{self, Next, STEPS, Seen, StepName};
use crate::providers::local::{AgentState, Fault, Local};
use crate::store::{LocalTenant, StepRecord, Store};
use futures_util::future::join_all;
use service::store::Result;
use service::{Clock, Stop, random};
use std::collections::HashSet;
use std::sync::Arc;
use tokio::sync::watch;
use wire::TenantId;
use wire::fleet::{Fleet, StepState, TenantView};

pub(crate) struct Provision {
    pub store: Store,
    pub local: Option<Arc<Local>>,
    pub feed: watch::Receiver<Arc<Fleet>>,
    pub clock: Clock,
    pub stop: Stop,
}

/// What a step waits for is announced; this is for announcements that were missed.
const ROUND_MS: u64 = 30_000;

impl Provision {
    /// Goes on until the stop.
    pub async fn run(mut self) {
        let Some(local) = self.local.clone() else { return };
        let mut agents = local.changes();
        let mut renewed = HashSet::new();
        while !self.stop.is_stopped() {
            // Before the look, so that a change during the look is not missed.
            agents.borrow_and_update();
            let fleet = self.feed.borrow_and_update().clone();
            let round = self.stop.or(self.round(&local, &fleet, &mut renewed)).await;
            let wait_ms = match round {
                None => return,
                Some(Ok(wait_ms)) => wait_ms,
                Some(Err(error)) => {
                    tracing::error!(%error, "a round of provisioning failed; it is tried again");
                    ROUND_MS
                }
            };
            tokio::select! {
                () = self.stop.stopped() => return,
                () = self.clock.sleep(wait_ms) => {}
                _ = self.feed.changed() => {}
                _ = agents.changed() => {}
            }
        }
    }

    /// Moves every tenant one step nearer; for how long nothing is to be done.
    async fn round(&self, local: &Arc<Local>, fleet: &Fleet, renewed: &mut HashSet<TenantId>) -> Result<u64> {
        let tenants = self.store.local_tenants().await?;
        let fresh: HashSet<TenantId> = tenants.iter().map(|tenant| tenant.id).filter(|id| renewed.insert(*id)).collect();
        // Together: one tenant's slow step is not the others' concern.
        let moved = join_all(tenants.into_iter().map(|tenant| {
            let view = fleet.tenants.iter().find(|view| view.id == tenant.id);
            let is_fresh = fresh.contains(&tenant.id);
            self.advance(local, tenant, view, is_fresh)
        }));
        let mut wait_ms = ROUND_MS;
        for moved in moved.await {
            wait_ms = wait_ms.min(moved?);
        }
        Ok(wait_ms)
    }

    async fn advance(&self, local: &Arc<Local>, mut tenant: LocalTenant, view: Option<&TenantView>, is_fresh: bool) -> Result<u64> {
        let mut steps = plan::complete(self.store.steps(tenant.id).await?);
        if is_fresh {
            steps = std::array::from_fn(|index| plan::renewed(&steps[index], STEPS[index]));
            self.store.set_steps(tenant.id, steps.to_vec()).await?;
            tenant.state = plan::tenant_state(tenant.state, &steps);
            self.store.set_tenant(tenant.id, tenant.url.clone(), tenant.state).await?;
        }
        let now_ms = self.clock.wall_ms();
        let next = plan::next(&steps, &seen(local, &tenant.name, view), now_ms);
        match next {
            Next::Wait => return Ok(ROUND_MS),
            Next::WaitUntil(until_ms) => return Ok(until_ms.saturating_sub(now_ms).clamp(1, ROUND_MS as i64) as u64),
            Next::Reached(name) => self.note(&tenant, &mut steps, name, Ok(())).await?,
            Next::GiveUp(name, code) => {
                let log = local.gateway_log(&tenant.name);
                let cause = anyhow::anyhow!("the gateway is not well after {} s; its log is `{}`", plan::GATEWAY_MS_MAX / 1_000, log.display());
                self.note(&tenant, &mut steps, name, Err(Fault { code, cause })).await?;
            }
            Next::Do(name) => {
                let step = &mut steps[name.index()];
                // What is done only anew, because the hub is, begins counting anew.
                let tries = if step.state == StepState::Done { 1 } else { step.tries + 1 };
                *step = StepRecord { state: StepState::Running, error: None, tries, changed_ms: now_ms, ..step.clone() };
                self.store.set_steps(tenant.id, vec![step.clone()]).await?;
                if name != StepName::Gateway {
                    let outcome = self.act(local, &mut tenant, name).await?;
                    self.note(&tenant, &mut steps, name, outcome).await?;
                }
            }
        }
        self.store.set_tenant(tenant.id, tenant.url.clone(), plan::tenant_state(tenant.state, &steps)).await?;
        // The next step follows at once; a clock that stands still lets no time pass in 0 ms.
        Ok(0)
    }

    /// Does a step. `Err` is our own store's failure, the inner one the step's.
    async fn act(&self, local: &Arc<Local>, tenant: &mut LocalTenant, name: StepName) -> Result<std::result::Result<(), Fault>> {
        match name {
            StepName::Allocate => Ok(local.allocate(&tenant.name).map(|url| tenant.url = url)),
            StepName::Enrol => self.enrol(local, tenant).await,
            StepName::Start => Ok(local.start(&tenant.name).await),
            StepName::Gateway => Ok(Ok(())),
        }
    }

    async fn enrol(&self, local: &Local, tenant: &LocalTenant) -> Result<std::result::Result<(), Fault>> {
        let (token, is_new) = match local.enrolment_token(&tenant.name) {
            Ok(token) => token,
            Err(fault) => return Ok(Err(fault)),
        };
        if is_new {
            // The store keeps enough to know the value again.
            self.store.mint_enrolment(tenant.id, random::token_hash(token.expose()), self.clock.wall_ms()).await?;
        }
        if let Err(fault) = local.enrol(&tenant.name, &token).await {
            return Ok(Err(fault));
        }
        Ok(local.enrolled(&tenant.name, self.store.enrolled(tenant.id).await?))
    }

    /// Writes down how a step ended.
    async fn note(&self, tenant: &LocalTenant, steps: &mut [StepRecord; 4], name: StepName, outcome: std::result::Result<(), Fault>) -> Result<()> {
        let step = &mut steps[name.index()];
        step.changed_ms = self.clock.wall_ms();
        match outcome {
            Ok(()) => {
                tracing::info!(tenant.id = %tenant.id, step = name.text(), "a step is done");
                (step.state, step.error, step.tries) = (StepState::Done, None, 0);
            }
            Err(Fault { code, cause }) => {
                tracing::warn!(tenant.id = %tenant.id, step = name.text(), code, tries = step.tries, error = format!("{cause:#}"), "a step failed");
                (step.state, step.error) = (StepState::Failed, Some(code.to_owned()));
            }
        }
        self.store.set_steps(tenant.id, vec![step.clone()]).await
    }
}

fn seen(local: &Local, name: &str, view: Option<&TenantView>) -> Seen {
    let agent = local.agent_state(name);
    let is_gateway_well = view.is_some_and(|view| local.is_well(view));
    Seen { is_allocated: local.is_allocated(name), is_kept: agent.is_kept(), is_up: matches!(agent, AgentState::Up { .. }), is_gateway_well }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::providers::local::{LocalSettings, Ports};
    use crate::store::{NewTenant, Provider};
    use std::path::Path;
    use std::time::Duration;
    use wire::fleet::TenantState;

    /// A life of the hub's provisioning with this file as the agent, until the tenant needs an operator; its steps then.
    async fn life(folder: &Path, store: &Store, agent: &str) -> Vec<(String, StepState, Option<String>, i64)> {
        let (clock, stop) = (Clock::manual(1_000_000), Stop::default());
        let settings = LocalSettings {
            agent: agent.into(),
            node: None,
            openclaw: None,
            providers: Vec::new(),
            model: "x/m".into(),
            ports: Ports::Free,
            secrets: Vec::new(),
            authority: None,
        };
        let local = Arc::new(Local::new(settings, folder, "http://127.0.0.1:1".into(), clock.clone(), stop.clone()));
        let (_sender, feed) = watch::channel(Arc::new(Fleet { revision: 0, now_ms: 0, tenants: Vec::new() }));
        let provision = Provision { store: store.clone(), local: Some(local.clone()), feed, clock: clock.clone(), stop: stop.clone() };
        let tenant = store.local_tenants().await.unwrap().remove(0);
        store.set_tenant(tenant.id, tenant.url, TenantState::Provisioning).await.unwrap();
        let task = tokio::spawn(provision.run());
        let stuck = async {
            while store.local_tenants().await.unwrap()[0].state != TenantState::NeedsOperator {
                clock.advance(1_000);
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), stuck).await.expect("it should have given up by now");
        stop.now();
        task.await.unwrap();
        local.ended().await;
        let steps = store.steps(tenant.id).await.unwrap();
        steps.into_iter().map(|step| (step.name, step.state, step.error, step.tries)).collect()
    }

    #[tokio::test]
    async fn a_step_that_keeps_failing_needs_an_operator_and_a_new_life_tries_again() {
        let folder = std::env::temp_dir().join(format!("gatehouse-provision-{}", &random::token()[..12]));
        let store = Store::open(&folder).unwrap();
        let (url, provider, assistant_name) = (String::new(), Provider::Local, "Assistant".to_owned());
        let tenant = NewTenant { id: random::id(), name: "alice".into(), url, provider, assistant: random::id(), assistant_name };
        store.ensure_tenant(tenant, 0).await.unwrap();
        let expected = |error: &str| {
            let step = |name: &str, state, error: Option<&str>, tries| (name.to_owned(), state, error.map(str::to_owned), tries);
            let open = |name| step(name, StepState::Waiting, None, 0);
            [step("allocate", StepState::Done, None, 0), step("enrol", StepState::Failed, Some(error), plan::TRIES_MAX), open("start"), open("gateway")]
        };
        assert_eq!(life(&folder, &store, "/nowhere/tenant-agent").await, expected("enrol_failed"));
        assert!(store.local_tenants().await.unwrap()[0].url.starts_with("http://alice.localhost:"));
        // An agent that says that it has enrolled, with somebody else.
        assert_eq!(life(&folder, &store, "/bin/true").await, expected("agent_foreign"));
        std::fs::remove_dir_all(folder).unwrap();
    }
}
