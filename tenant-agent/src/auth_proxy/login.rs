//! The owner's first coming in, login and logout.

use super::{AuthProxy, devices, with_cookie};
use crate::devices::{Candidate, insert_first};
use crate::people::{Person, SESSION_MS, Session};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use serde_json::json;
use service::door::{self, Peer};
use service::text::Language;
use service::{Refusal, SecretString, Tx, random};
use std::sync::Arc;
use wire::DeviceId;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Login {
    name: String,
    password: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct First {
    token: String,
    name: String,
    password: String,
    lang: Language,
    /// The browser's own key, where it can make one.
    #[serde(default)]
    device: Option<Candidate>,
}

pub(super) async fn login(State(proxy): State<Arc<AuthProxy>>, peer: axum::Extension<Peer>, body: door::Json<Login>) -> Result<Response, Refusal> {
    let Login { name, password } = body.0;
    let peer = peer.0.0.ip().to_string();
    let (person, token) = proxy.people.login(&peer, &name, SecretString::new(password)).await?;
    Ok(entered(&proxy, &person, &token))
}

pub(super) async fn first(State(proxy): State<Arc<AuthProxy>>, body: door::Json<First>) -> Result<Response, Refusal> {
    let First { token, name, password, lang, device } = body.0;
    let proved = devices::first(&proxy, device, &token)?;
    let device: Option<DeviceId> = proved.is_some().then(random::id);
    let also = move |tx: &Tx, person, now_ms| match device.zip(proved) {
        Some((id, proved)) => insert_first(tx, person, id, &proved, now_ms),
        None => Ok(()),
    };
    let (person, session) = proxy.people.first(&token, &name, SecretString::new(password), lang, also).await?;
    let body = json!({ "person": person, "device": device });
    Ok(with_cookie(proxy.cookie.set(&session, SESSION_MS / 1000), Json(body)))
}

pub(super) async fn logout(State(proxy): State<Arc<AuthProxy>>, session: Session) -> Result<Response, Refusal> {
    proxy.people.logout(session).await?;
    Ok(with_cookie(proxy.cookie.clear(), StatusCode::NO_CONTENT))
}

fn entered(proxy: &AuthProxy, person: &Person, token: &str) -> Response {
    with_cookie(proxy.cookie.set(token, SESSION_MS / 1000), Json(json!({ "person": person })))
}
