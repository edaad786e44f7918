//! The one-time password becomes a session.

use super::{Operators, Session};
use crate::store::Store;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::json;
use service::door::{self, Peer};
use service::{Refusal, SecretString, password, random};
use std::sync::Arc;
use wire::OperatorId;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Login {
    password: String,
}

const SESSION_MS: i64 = 12 * 3_600_000;

/// A fresh one-time password. Long enough that only its being shown once limits it.
pub(crate) async fn mint_password(store: &Store) -> anyhow::Result<SecretString> {
    let secret = SecretString::new(random::token());
    let hash = password::hash(secret.clone()).await?;
    store.set_operator_password(hash).await?;
    Ok(secret)
}

pub(crate) async fn login(State(operators): State<Arc<Operators>>, peer: Extension<Peer>, body: door::Json<Login>) -> Result<Response, Refusal> {
    let now = operators.clock.now();
    let peer = peer.0.0.ip().to_string();
    operators.logins.try_all(&[&peer], now.mono_ms).map_err(|wait_ms| Refusal::login_limited(wait_ms.div_ceil(1000)))?;
    let hash = operators.store.operator_password().await?;
    let mut given = SecretString::new(body.0.password);
    // Longer input is hashed like a wrong password, not read.
    if given.expose().len() > password::BYTES_MAX {
        given = SecretString::new(String::new());
    }
    if !password::verify(given, hash.clone()).await? {
        return Err(Refusal::LOGIN_WRONG);
    }
    let hash = hash.ok_or(Refusal::LOGIN_WRONG)?;
    let token = random::token();
    let operator: OperatorId = random::id();
    let spent = operators.store.spend_operator_password(hash, random::token_hash(&token), operator, now.wall_ms, now.wall_ms + SESSION_MS);
    if !spent.await? {
        return Err(Refusal::LOGIN_WRONG);
    }
    operators.logins.forget(&[&peer]);
    tracing::info!(operator.id = %operator, "an operator came in");
    let cookie = operators.cookie.set(&token, SESSION_MS / 1000);
    Ok(([(header::SET_COOKIE, cookie)], Json(json!({ "operator": { "id": operator } }))).into_response())
}

pub(crate) async fn logout(State(operators): State<Arc<Operators>>, session: Session) -> Result<Response, Refusal> {
    operators.store.end_operator_session(session.token_hash).await?;
    Ok(([(header::SET_COOKIE, operators.cookie.clear())], StatusCode::NO_CONTENT).into_response())
}
