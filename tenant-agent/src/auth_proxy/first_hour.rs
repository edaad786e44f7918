//! Templates for the first hour: which there are, and how the one under way stands.

use super::AuthProxy;
use crate::first_hour::{Wish, all};
use crate::people::Session;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use service::text::Language;
use service::{Refusal, door};
use std::sync::Arc;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Start {
    template: String,
    lang: Language,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Step {
    n: usize,
    wish: Wish,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

pub(super) async fn show(State(proxy): State<Arc<AuthProxy>>, session: Session) -> Result<Json<Value>, Refusal> {
    if !proxy.people.reach(session.person.id).await?.sees(proxy.first_hour.assistant()) {
        return Err(Refusal::FORBIDDEN);
    }
    let templates: Vec<Value> = all(proxy.in_force.law().workflows())
        .into_iter()
        .map(|blueprint| {
            let steps: Vec<_> = blueprint.step.iter().map(|step| &step.title).collect();
            json!({ "id": blueprint.id, "title": blueprint.title, "about": blueprint.about, "steps": steps })
        })
        .collect();
    let run = proxy.first_hour.run().await?.map(|run| {
        let steps = run.blueprint.step.iter().zip(&run.steps).map(|(step, progress)| {
            let mut row = json!(progress);
            row["title"] = json!(step.title);
            row
        });
        json!({ "template": run.blueprint.id, "title": run.blueprint.title, "started_ms": run.started_ms, "started_by": run.started_by, "ended_ms": run.ended_ms, "steps": steps.collect::<Vec<_>>() })
    });
    Ok(Json(json!({ "templates": templates, "run": run })))
}

pub(super) async fn start(State(proxy): State<Arc<AuthProxy>>, session: Session, body: door::Json<Start>) -> Result<StatusCode, Refusal> {
    let by = may(&proxy, &session).await?;
    let Start { template, lang } = body.0;
    proxy.first_hour.start(&by, proxy.in_force.law().workflows(), &template, lang).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn wish(State(proxy): State<Arc<AuthProxy>>, session: Session, body: door::Json<Step>) -> Result<StatusCode, Refusal> {
    let by = may(&proxy, &session).await?;
    proxy.first_hour.wish(&by, body.0.n, body.0.wish).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn end(State(proxy): State<Arc<AuthProxy>>, session: Session, _: door::Json<Nothing>) -> Result<StatusCode, Refusal> {
    let by = may(&proxy, &session).await?;
    proxy.first_hour.end(&by).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Whoever decides about the assistant sets it to work; everything that comes of it is asked about as ever.
async fn may(proxy: &AuthProxy, session: &Session) -> Result<String, Refusal> {
    let decides = session.person.role.may_decide() && proxy.people.reach(session.person.id).await?.decides(proxy.first_hour.assistant());
    if decides { Ok(session.person.id.to_string()) } else { Err(Refusal::FORBIDDEN) }
}
