//! Devices and what they sign: enrolling, removing, codes, resets, and decisions that carry a signature.

use super::AuthProxy;
use super::chat::shown;
use crate::devices::{Candidate, Proved, Reset, Ticket};
use crate::people::{Role, Session};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use service::door::{self, Peer};
use service::{Refusal, SecretString};
use std::sync::Arc;
use wire::PersonId;
use wire::device::{Deed, Signed};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Enrol {
    candidate: Candidate,
    ticket: Ticket,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Decide {
    signed: Signed,
    /// For the most dangerous calls, beside a device's key. It comes straight from the person's page and goes nowhere else.
    #[serde(default)]
    password: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Cancel {
    person: PersonId,
}

/// An owner sees everybody's devices, everybody else their own.
pub(super) async fn list(State(proxy): State<Arc<AuthProxy>>, session: Session) -> Result<Json<Value>, Refusal> {
    let me = &session.person;
    let sees = |person: PersonId| me.role == Role::Owner || person == me.id;
    let devices: Vec<_> = proxy.devices.list().await?.into_iter().filter(|device| sees(device.person)).collect();
    let persons: Vec<_> = proxy.people.list().await?.into_iter().filter(|person| sees(person.id)).collect();
    let resets: Vec<Reset> = proxy.devices.resets().await?.into_iter().filter(|reset| sees(reset.person)).collect();
    let left = proxy.devices.recovery_codes_left(me.id).await?;
    Ok(Json(json!({ "now_ms": proxy.clock.wall_ms(), "devices": devices, "persons": persons, "resets": resets, "recovery_codes": left })))
}

pub(super) async fn enrol(State(proxy): State<Arc<AuthProxy>>, session: Session, body: door::Json<Enrol>) -> Result<Json<Value>, Refusal> {
    let Enrol { candidate, ticket } = body.0;
    let id = proxy.devices.enrol(session.person.id, candidate, ticket).await?;
    Ok(Json(json!({ "device": id })))
}

/// Whatever a device asks for besides decisions.
pub(super) async fn obey(State(proxy): State<Arc<AuthProxy>>, session: Session, body: door::Json<Signed>) -> Result<Json<Value>, Refusal> {
    let heard = proxy.devices.heard(body.0).await?;
    if heard.statement.person != session.person.id {
        return Err(Refusal::FORBIDDEN);
    }
    let codes = proxy.devices.obey(heard).await?;
    Ok(Json(json!({ "codes": codes })))
}

pub(super) async fn decide(
    State(proxy): State<Arc<AuthProxy>>,
    session: Session,
    peer: axum::Extension<Peer>,
    body: door::Json<Decide>,
) -> Result<Json<Value>, Refusal> {
    let Decide { signed, password } = body.0;
    let heard = proxy.devices.heard(signed).await?;
    if heard.statement.person != session.person.id || !matches!(heard.statement.deed, Deed::Decide { .. }) {
        return Err(Refusal::FORBIDDEN);
    }
    let has_password = password.is_some();
    if let Some(password) = password {
        proxy.people.confirms(&peer.0.0.ip().to_string(), &session.person, SecretString::new(password)).await?;
    }
    let approval = proxy.approvals.decide_signed(heard, has_password).await?;
    Ok(Json(json!({ "approval": shown(&proxy, approval) })))
}

pub(super) async fn announce_reset(State(proxy): State<Arc<AuthProxy>>, session: Session) -> Result<Json<Value>, Refusal> {
    Ok(Json(json!({ "reset": proxy.devices.announce_reset(session.person.id).await? })))
}

pub(super) async fn cancel_reset(State(proxy): State<Arc<AuthProxy>>, session: Session, body: door::Json<Cancel>) -> Result<StatusCode, Refusal> {
    proxy.devices.cancel_reset(session.person.id, body.0.person).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The key of the browser that opened the owner's link, when it brought one.
pub(super) fn first(proxy: &AuthProxy, candidate: Option<Candidate>, token: &str) -> Result<Option<Proved>, Refusal> {
    candidate.map(|candidate| proxy.devices.proved(candidate, token)).transpose()
}
