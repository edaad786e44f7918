//! The tenant's own address: pages, login, devices and what they sign, levels and gates, and the chat socket. Nothing but these is reachable from a browser.

mod chat;
mod devices;
mod first_hour;
mod levels;
mod login;

use crate::approvals::Approvals;
use crate::bundle::InForce;
use crate::devices::Devices;
use crate::first_hour::FirstHour;
use crate::gateway::Gateway;
use crate::identity::Identity;
use crate::ledger::Ledger;
use crate::levels::Levels;
use crate::metering::Metering;
use crate::pauses::Pauses;
use crate::people::{People, Session};
use crate::screen::Screen;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use service::session::Cookie;
use service::{Clock, Refusal, Stop, pages};
use std::sync::Arc;
use wire::enrol::NamedAssistant;

pub struct AuthProxy {
    pub clock: Clock,
    pub stop: Stop,
    pub cookie: Cookie,
    pub identity: Identity,
    pub people: Arc<People>,
    pub devices: Devices,
    pub approvals: Approvals,
    pub levels: Levels,
    pub pauses: Pauses,
    pub first_hour: FirstHour,
    pub in_force: InForce,
    pub gateway: Gateway,
    pub metering: Metering,
    pub ledger: Ledger,
    pub screen: Screen,
}

pub fn routes(proxy: Arc<AuthProxy>) -> Router {
    Router::new()
        .route("/", get(home))
        .route("/login", get(async || pages::page("login")))
        .route("/first", get(async || pages::page("first")))
        .route("/a/{file}", get(async |Path(file): Path<String>, headers: HeaderMap| pages::asset(&file, &headers)))
        .route("/healthz", get(async || Json(json!({ "ok": true }))))
        .route("/auth/login", post(login::login))
        .route("/auth/first", post(login::first))
        .route("/auth/logout", post(login::logout))
        .route("/api/me", get(me))
        .route("/api/devices", get(devices::list).post(devices::enrol))
        .route("/api/devices/statements", post(devices::obey))
        .route("/api/devices/reset", post(devices::announce_reset))
        .route("/api/devices/reset/cancel", post(devices::cancel_reset))
        .route("/api/levels", get(levels::list).post(levels::change))
        .route("/api/levels/preview", post(levels::preview))
        .route("/api/pauses", post(levels::pause))
        .route("/api/pauses/end", post(levels::resume))
        .route("/api/first-hour", get(first_hour::show).post(first_hour::start))
        .route("/api/first-hour/step", post(first_hour::wish))
        .route("/api/first-hour/end", post(first_hour::end))
        .route("/approvals/decisions", post(devices::decide))
        .route("/ws", get(chat::open))
        .with_state(proxy)
}

async fn home(State(proxy): State<Arc<AuthProxy>>, headers: HeaderMap) -> Response {
    match proxy.people.session(proxy.cookie.token_hash(&headers)).await {
        Ok(_) => pages::page("tenant"),
        Err(_) => Redirect::to("/login").into_response(),
    }
}

async fn me(State(proxy): State<Arc<AuthProxy>>, session: Session) -> Result<Json<Value>, Refusal> {
    let reach = proxy.people.reach(session.person.id).await?;
    let assistants: Vec<NamedAssistant> = proxy.assistants().into_iter().filter(|assistant| reach.sees(assistant.id)).collect();
    Ok(Json(json!({ "tenant": proxy.identity.tenant_id, "now_ms": proxy.clock.wall_ms(), "person": session.person, "assistants": assistants })))
}

impl AuthProxy {
    fn assistants(&self) -> Vec<NamedAssistant> {
        self.identity.assistants.iter().map(|(_, assistant)| assistant.clone()).collect()
    }
}

impl FromRequestParts<Arc<AuthProxy>> for Session {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, proxy: &Arc<AuthProxy>) -> Result<Session, Refusal> {
        proxy.people.session(proxy.cookie.token_hash(&parts.headers)).await
    }
}

/// An answer that sets or clears the session's cookie.
fn with_cookie(cookie: axum::http::HeaderValue, answer: impl IntoResponse) -> Response {
    ([(header::SET_COOKIE, cookie)], answer).into_response()
}
