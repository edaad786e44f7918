//! Coming to the hub for the first time: a one-time token for an identity.

use crate::identity::{self, HostKey, Identity};
use anyhow::{Context, bail};
use axum::body::Body;
use axum::http::{Request, header};
use http_body_util::{BodyExt, Limited};
use service::outward::HttpClient;
use service::{Clock, SecretString, Store};
use std::time::Duration;
use wire::enrol::{EnrolAnswer, EnrolRequest, enrol_statement};
use wire::error::ErrorBody;

const WAIT: Duration = Duration::from_secs(20);
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Enrols this host, or finds that it is enrolled. The token works once for our key, so a try that died half-way can be made again.
pub async fn enrol(store: &Store, clock: &Clock, key: &HostKey, client: &HttpClient, hub: &str, token: &SecretString) -> anyhow::Result<Identity> {
    if let Some(identity) = identity::load(store).await? {
        return Ok(identity);
    }
    // The hub needs the token, and the proof covers it.
    let token = token.expose().trim();
    let public_key = key.public();
    let proof = key.sign(&enrol_statement(token, &public_key));
    let body = EnrolRequest { token: token.to_owned(), public_key, proof, agent_version: env!("CARGO_PKG_VERSION").to_owned() };
    let request = Request::post(format!("{hub}/enrol")).header(header::CONTENT_TYPE, "application/json").body(Body::from(serde_json::to_vec(&body)?))?;
    let answer = tokio::time::timeout(WAIT, client.request(request))
        .await
        .context("the hub did not answer in time")?
        .with_context(|| format!("the hub at {hub} cannot be reached"))?;
    let status = answer.status();
    let bytes = Limited::new(answer.into_body(), ANSWER_BYTES_MAX)
        .collect()
        .await
        .map_err(|_| anyhow::anyhow!("the hub's answer broke off or is too long"))?
        .to_bytes();
    if !status.is_success() {
        let code = serde_json::from_slice::<ErrorBody>(&bytes).map_or_else(|_| status.to_string(), |body| body.error.code);
        bail!("the hub refused the enrolment: {code}");
    }
    let answer: EnrolAnswer = serde_json::from_slice(&bytes).context("the hub's answer is unreadable")?;
    identity::keep(store, answer, clock.wall_ms()).await?;
    identity::load(store).await?.context("the identity was just kept")
}
