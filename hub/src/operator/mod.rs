//! The way in for operators: a one-time password, the dashboard, and the fleet live.

mod live;
mod login;

pub(crate) use live::live;
pub(crate) use login::{login, logout, mint_password};

use crate::store::Store;
use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::http::HeaderMap;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Redirect, Response};
use service::limiter::Limiter;
use service::session::Cookie;
use service::{Clock, Refusal, Stop, pages};
use std::sync::Arc;
use tokio::sync::watch;
use wire::fleet::Fleet;

/// What the handlers of this room need.
pub(crate) struct Operators {
    store: Store,
    feed: watch::Receiver<Arc<Fleet>>,
    cookie: Cookie,
    logins: Limiter,
    clock: Clock,
    stop: Stop,
}

/// A session that has been checked.
pub(crate) struct Session {
    token_hash: String,
}

/// The password has 256 bits, so this only keeps the hash from being a load; somebody else's tries must not lock the operator out.
const LOGINS_MAX: usize = 30;
const LOGIN_WINDOW_MS: u64 = 15 * 60_000;

impl Operators {
    pub fn new(store: Store, feed: watch::Receiver<Arc<Fleet>>, origin: &str, clock: Clock, stop: Stop) -> Operators {
        Operators { store, feed, cookie: Cookie::for_origin(origin), logins: Limiter::new(LOGINS_MAX, LOGIN_WINDOW_MS), clock, stop }
    }

    async fn session(&self, headers: &HeaderMap) -> Result<Session, Refusal> {
        let token_hash = self.cookie.token_hash(headers).ok_or(Refusal::SESSION_MISSING)?;
        self.store.operator_session(token_hash.clone(), self.clock.wall_ms()).await?.ok_or(Refusal::SESSION_MISSING)?;
        Ok(Session { token_hash })
    }
}

pub(crate) async fn home(State(operators): State<Arc<Operators>>, headers: HeaderMap) -> Response {
    match operators.session(&headers).await {
        Ok(_) => pages::page("operator"),
        Err(_) => Redirect::to("/login").into_response(),
    }
}

pub(crate) async fn fleet(State(operators): State<Arc<Operators>>, _: Session) -> Json<Fleet> {
    let fleet = operators.feed.borrow().clone();
    Json((*fleet).clone())
}

impl FromRequestParts<Arc<Operators>> for Session {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, operators: &Arc<Operators>) -> Result<Session, Refusal> {
        operators.session(&parts.headers).await
    }
}
