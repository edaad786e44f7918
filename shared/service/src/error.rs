//! The one place where a refusal becomes an answer.
//!
//! A handler returns a [`Refusal`]: a status and a stable code. The sentence is put in by the door, which knows the
//! language of the request. What went wrong inside is logged here, once, and never told to the caller.

use crate::store::StoreError;
use crate::text::{Language, sentence};
use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use std::fmt;
use wire::error::{ErrorBody, ErrorText};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub status: StatusCode,
    /// A key of the catalogue under `error.`.
    pub code: &'static str,
    pub retry_after_secs: Option<u64>,
}

impl Refusal {
    pub const fn new(status: StatusCode, code: &'static str) -> Refusal {
        Refusal { status, code, retry_after_secs: None }
    }

    pub const INTERNAL: Refusal = Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "internal");
    pub const NOT_FOUND: Refusal = Refusal::new(StatusCode::NOT_FOUND, "not_found");
    pub const METHOD: Refusal = Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed");
    pub const BODY_MALFORMED: Refusal = Refusal::new(StatusCode::BAD_REQUEST, "body_malformed");
    pub const BODY_TOO_LARGE: Refusal = Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large");
    pub const BODY_LATE: Refusal = Refusal::new(StatusCode::REQUEST_TIMEOUT, "body_late");
    pub const HOST_UNKNOWN: Refusal = Refusal::new(StatusCode::MISDIRECTED_REQUEST, "host_unknown");
    pub const ORIGIN_FOREIGN: Refusal = Refusal::new(StatusCode::FORBIDDEN, "origin_foreign");
    pub const FORBIDDEN: Refusal = Refusal::new(StatusCode::FORBIDDEN, "forbidden");
    pub const SESSION_MISSING: Refusal = Refusal::new(StatusCode::UNAUTHORIZED, "session_missing");
    pub const LOGIN_WRONG: Refusal = Refusal::new(StatusCode::UNAUTHORIZED, "login_wrong");

    pub fn login_limited(retry_after_secs: u64) -> Refusal {
        Refusal { status: StatusCode::TOO_MANY_REQUESTS, code: "login_limited", retry_after_secs: Some(retry_after_secs) }
    }

    pub fn text(&self, language: Language) -> ErrorText {
        ErrorText { code: self.code.to_owned(), message: sentence(language, &format!("error.{}", self.code)).to_owned() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code)
    }
}

impl std::error::Error for Refusal {}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Refusal {
        tracing::error!(%error, "a request failed");
        Refusal::INTERNAL
    }
}

impl From<rusqlite::Error> for Refusal {
    fn from(error: rusqlite::Error) -> Refusal {
        StoreError::Sql(error).into()
    }
}

impl From<anyhow::Error> for Refusal {
    fn from(error: anyhow::Error) -> Refusal {
        tracing::error!(error = format!("{error:#}"), "a request failed");
        Refusal::INTERNAL
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// Puts the sentence into a refused answer, in the language of its request.
pub(crate) fn worded(response: Response, language: Language) -> Response {
    let refusal = match response.extensions().get::<Refusal>() {
        Some(refusal) => *refusal,
        // The framework's own answers, which have no words of ours yet.
        None if response.status() == StatusCode::METHOD_NOT_ALLOWED => Refusal::METHOD,
        None => return response,
    };
    let mut worded = (refusal.status, Json(ErrorBody { error: refusal.text(language) })).into_response();
    if let Some(seconds) = refusal.retry_after_secs {
        worded.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    for (name, value) in response.headers().iter().filter(|(name, _)| *name == header::ALLOW || *name == header::SET_COOKIE) {
        worded.headers_mut().append(name, value.clone());
    }
    worded
}
