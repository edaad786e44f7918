//! `POST /decisions`: a person's signed decision on its way to their host, when their device cannot reach it.
//!
//! The hub does not read it and keeps nothing of it: it goes down the open link, or is refused. It cannot be made, changed or
//! used twice here; it can only be held back.

use super::Reception;
use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::value::RawValue;
use service::Refusal;
use service::door::{self, Peer};
use std::sync::Arc;
use wire::TenantId;
use wire::link::{BLOB_BYTES_MAX, Decision};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Passed {
    tenant: TenantId,
    signed: Box<RawValue>,
}

const AWAY: Refusal = Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "tenant_away");
const LIMITED: Refusal = Refusal::new(StatusCode::TOO_MANY_REQUESTS, "decisions_limited");

pub(crate) async fn pass(State(reception): State<Arc<Reception>>, peer: Extension<Peer>, body: door::Json<Passed>) -> Result<StatusCode, Refusal> {
    let Passed { tenant, signed } = body.0;
    let keys = [format!("peer {}", peer.0.0.ip()), format!("tenant {tenant}")];
    let limited = |wait_ms: u64| Refusal { retry_after_secs: Some(wait_ms.div_ceil(1000)), ..LIMITED };
    reception.decisions.try_all(&[&keys[0], &keys[1]], reception.clock.now().mono_ms).map_err(limited)?;
    if signed.get().len() > BLOB_BYTES_MAX {
        return Err(Refusal::BODY_TOO_LARGE);
    }
    // Who is away is told so at once: an answer that came late would be worse than none.
    if reception.attendance.pass(tenant, Decision { signed: signed.get().to_owned() }) { Ok(StatusCode::ACCEPTED) } else { Err(AWAY) }
}
