//! A model provider that says what a test gave it, byte for byte, and keeps what it was asked.

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use service::Stop;
use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

/// The running provider; clones are the same one.
#[derive(Clone)]
pub struct FakeProvider(Arc<Inner>);

struct Inner {
    address: SocketAddr,
    answers: Mutex<VecDeque<Said>>,
    asked: Mutex<Vec<AskedOf>>,
}

/// One answer.
#[derive(Clone, Debug)]
pub struct Said {
    pub status: u16,
    pub kind: &'static str,
    /// Each is a piece of its own on the wire.
    pub pieces: Vec<Vec<u8>>,
    /// The connection breaks behind the last piece.
    pub breaks: bool,
    /// When it wants to be asked again.
    pub retry_after: Option<&'static str>,
}

#[derive(Clone, Debug)]
pub struct AskedOf {
    pub path: String,
    pub headers: HeaderMap,
    pub body: String,
}

impl Said {
    pub fn json(body: &str) -> Said {
        Said { status: 200, kind: "application/json", pieces: vec![body.as_bytes().to_vec()], breaks: false, retry_after: None }
    }

    pub fn failing(status: u16) -> Said {
        Said { status, ..Said::json(r#"{"error":{"message":"no"}}"#) }
    }

    /// A stream of events that comes byte by byte.
    pub fn stream(kind: &'static str, text: &str) -> Said {
        Said { status: 200, kind, pieces: text.bytes().map(|byte| vec![byte]).collect(), breaks: false, retry_after: None }
    }

    pub fn breaking(self) -> Said {
        Said { breaks: true, ..self }
    }
}

impl FakeProvider {
    pub async fn start(stop: Stop) -> FakeProvider {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("it listens");
        let provider = FakeProvider(Arc::new(Inner { address, answers: Mutex::default(), asked: Mutex::default() }));
        let serving = provider.clone();
        let routes = Router::new().fallback(async move |uri: Uri, headers: HeaderMap, body: Bytes| serving.answer(uri, headers, body));
        tokio::spawn(service::door::serve(listener, routes, stop));
        provider
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.0.address)
    }

    /// What it says to the next request that finds no earlier answer.
    pub fn says(&self, said: Said) {
        self.0.answers.lock().unwrap_or_else(PoisonError::into_inner).push_back(said);
    }

    pub fn asked(&self) -> Vec<AskedOf> {
        self.0.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn answer(&self, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
        let body = String::from_utf8_lossy(&body).into_owned();
        self.0.asked.lock().unwrap_or_else(PoisonError::into_inner).push(AskedOf { path: uri.to_string(), headers, body });
        let Some(said) = self.0.answers.lock().unwrap_or_else(PoisonError::into_inner).pop_front() else { return StatusCode::NOT_IMPLEMENTED.into_response() };
        let pieces = said.pieces.into_iter().map(|piece| Ok(Bytes::from(piece))).chain(said.breaks.then(|| Err(std::io::Error::other("broken"))));
        let status = StatusCode::from_u16(said.status).expect("a status");
        let body = Body::from_stream(futures_util::stream::iter(pieces.collect::<Vec<_>>()));
        let mut response = (status, [(header::CONTENT_TYPE, said.kind)], body).into_response();
        if let Some(secs) = said.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, secs.parse().expect("a header"));
        }
        response
    }
}
