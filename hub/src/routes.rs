//! Every route of the hub, a listener a function.

use crate::fleet::{self, Reception};
use crate::operator::{self, Operators};
use axum::extract::Path;
use axum::http::HeaderMap;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::json;
use service::door::{Door, guarded};
use service::pages;
use std::sync::Arc;

/// For agents, from anywhere.
pub(crate) fn public(reception: Arc<Reception>) -> Router {
    let routes = Router::new()
        .route("/enrol", post(fleet::enrol))
        .route("/link", get(fleet::open))
        .route("/decisions", post(fleet::pass))
        .route("/healthz", get(async || Json(json!({ "ok": true }))))
        .with_state(reception);
    guarded(routes, Door::Program)
}

/// For operators, from the loopback or a private network.
pub(crate) fn operator(operators: Arc<Operators>, origin: &str) -> Router {
    let routes = Router::new()
        .route("/", get(operator::home))
        .route("/login", get(async || pages::page("operator-login")))
        .route("/a/{file}", get(async |Path(file): Path<String>, headers: HeaderMap| pages::asset(&file, &headers)))
        .route("/healthz", get(async || Json(json!({ "ok": true }))))
        .route("/auth/login", post(operator::login))
        .route("/auth/logout", post(operator::logout))
        .route("/api/fleet", get(operator::fleet))
        .route("/api/live", get(operator::live))
        .with_state(operators);
    guarded(routes, Door::browser(origin))
}
