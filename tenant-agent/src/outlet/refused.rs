//! Why something did not go out, in words that a model can act on. Never what was sent, never what was found in it.

use axum::Json;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use policy::host::Target;
use service::text::{Language, sentence};
use wire::ApprovalId;
use wire::error::{ErrorBody, ErrorText};

/// A status, and a key of the catalogue under `error.`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Why {
    status: StatusCode,
    code: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    why: Why,
    host: String,
    approval: Option<ApprovalId>,
}

impl Why {
    pub const CREDENTIALS: Why = Why { status: StatusCode::PROXY_AUTHENTICATION_REQUIRED, code: "proxy_credentials_wrong" };
    pub const MALFORMED: Why = Why { status: StatusCode::BAD_REQUEST, code: "proxy_target_malformed" };
    pub const DISAGREES: Why = Why { status: StatusCode::MISDIRECTED_REQUEST, code: "proxy_host_disagrees" };
    pub const BUSY: Why = Why { status: StatusCode::SERVICE_UNAVAILABLE, code: "proxy_busy" };
    pub const METHOD: Why = Why { status: StatusCode::METHOD_NOT_ALLOWED, code: "method_not_allowed" };
    pub const CLOSED: Why = Why { status: StatusCode::FORBIDDEN, code: "host_closed" };
    pub const NOT_ALLOWED: Why = Why { status: StatusCode::FORBIDDEN, code: "host_not_allowed" };
    pub const OWN: Why = Why { status: StatusCode::FORBIDDEN, code: "host_not_asked" };
    pub const DENIED: Why = Why { status: StatusCode::FORBIDDEN, code: "host_denied" };
    pub const QUESTIONS: Why = Why { status: StatusCode::FORBIDDEN, code: "host_questions_full" };
    pub const PORT: Why = Why { status: StatusCode::FORBIDDEN, code: "host_port_closed" };
    pub const UPGRADE: Why = Why { status: StatusCode::FORBIDDEN, code: "host_upgrade_closed" };
    pub const SECRET: Why = Why { status: StatusCode::FORBIDDEN, code: "secret_not_for_host" };
    pub const BODY_UNREADABLE: Why = Why { status: StatusCode::FORBIDDEN, code: "body_unreadable" };
    pub const BODY_TOO_LARGE: Why = Why { status: StatusCode::PAYLOAD_TOO_LARGE, code: "body_too_large" };
    pub const BODY_LATE: Why = Why { status: StatusCode::REQUEST_TIMEOUT, code: "body_late" };
    pub const BODY_MALFORMED: Why = Why { status: StatusCode::BAD_REQUEST, code: "body_malformed" };
    pub const UNRESOLVED: Why = Why { status: StatusCode::BAD_GATEWAY, code: "host_unresolved" };
    pub const UNREACHABLE: Why = Why { status: StatusCode::BAD_GATEWAY, code: "host_unreachable" };
    pub const CERTIFICATE: Why = Why { status: StatusCode::BAD_GATEWAY, code: "host_certificate" };
    pub const BROKEN: Why = Why { status: StatusCode::BAD_GATEWAY, code: "host_answer_broken" };
    pub const LATE: Why = Why { status: StatusCode::GATEWAY_TIMEOUT, code: "host_late" };
    pub const UNSCREENED: Why = Why { status: StatusCode::SERVICE_UNAVAILABLE, code: "vault_unscreened" };
    pub const INTERNAL: Why = Why { status: StatusCode::INTERNAL_SERVER_ERROR, code: "internal" };

    pub fn about(self, target: &Target) -> Refused {
        Refused { why: self, host: target.to_string(), approval: None }
    }
}

impl From<Why> for Refused {
    fn from(why: Why) -> Refused {
        Refused { why, host: "…".to_owned(), approval: None }
    }
}

impl Refused {
    pub fn with_approval(self, id: ApprovalId) -> Refused {
        Refused { approval: Some(id), ..self }
    }

    /// For the log and the audit.
    pub fn code(&self) -> &'static str {
        self.why.code
    }

    pub fn message(&self, language: Language) -> String {
        let approval = self.approval.map(|id| id.to_string()).unwrap_or_default();
        sentence(language, &format!("error.{}", self.why.code)).replace("{host}", &self.host).replace("{approval}", &approval)
    }

    pub fn answer(&self, language: Language) -> Response {
        let (Why { status, code }, message) = (&self.why, self.message(language));
        let mut answer = (*status, Json(ErrorBody { error: ErrorText { code: (*code).to_owned(), message } })).into_response();
        // So that whoever reads it can tell our words from the host's.
        answer.headers_mut().insert(HeaderName::from_static("x-gatehouse-refused"), HeaderValue::from_static(code));
        answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if *status == StatusCode::PROXY_AUTHENTICATION_REQUIRED {
            answer.headers_mut().insert(header::PROXY_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"gatehouse\""));
        }
        answer
    }
}

/// English unless another language is asked for: most readers are programs and models.
pub fn language(headers: &HeaderMap) -> Language {
    if headers.contains_key(header::ACCEPT_LANGUAGE) { Language::of(headers) } else { Language::En }
}
