//! `POST /enrol`: a one-time token and the proof of a key become a host.

use super::Reception;
use crate::store::EnrolError;
use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use service::door::{self, Peer};
use service::{Refusal, key, random};
use std::sync::Arc;
use wire::enrol::{EnrolAnswer, EnrolRequest, enrol_statement};

const TOKEN_UNKNOWN: Refusal = Refusal::new(StatusCode::UNAUTHORIZED, "token_unknown");
const TOKEN_EXPIRED: Refusal = Refusal::new(StatusCode::GONE, "token_expired");
const TOKEN_USED: Refusal = Refusal::new(StatusCode::CONFLICT, "token_used");
const PROOF_INVALID: Refusal = Refusal::new(StatusCode::UNAUTHORIZED, "proof_invalid");
const LIMITED: Refusal = Refusal::new(StatusCode::TOO_MANY_REQUESTS, "enrol_limited");
const TEXT_BYTES_MAX: usize = 256;

pub(crate) async fn enrol(
    State(reception): State<Arc<Reception>>,
    peer: Extension<Peer>,
    body: door::Json<EnrolRequest>,
) -> Result<Json<EnrolAnswer>, Refusal> {
    let EnrolRequest { token, public_key, proof, agent_version } = body.0;
    let now = reception.clock.now();
    let limited = |wait_ms: u64| Refusal { retry_after_secs: Some(wait_ms.div_ceil(1000)), ..LIMITED };
    reception.enrolments.try_all(&[&peer.0.0.ip().to_string()], now.mono_ms).map_err(limited)?;
    if [&token, &public_key, &proof, &agent_version].iter().any(|text| text.len() > TEXT_BYTES_MAX) {
        return Err(Refusal::BODY_MALFORMED);
    }
    if !key::verifies(&public_key, &enrol_statement(&token, &public_key), &proof) {
        return Err(PROOF_INVALID);
    }
    let applicant = crate::store::Applicant { token_hash: random::token_hash(&token), public_key, agent_version, host_id: random::id() };
    let answer = reception.store.enrol(applicant, now.wall_ms).await.map_err(|error| match error {
        EnrolError::Unknown => TOKEN_UNKNOWN,
        EnrolError::Expired => TOKEN_EXPIRED,
        EnrolError::Used => TOKEN_USED,
        EnrolError::Store(error) => error.into(),
    })?;
    tracing::info!(host.id = %answer.host_id, tenant.id = %answer.tenant_id, "a host enrolled");
    Ok(Json(answer))
}
