//! How much each assistant may do, as persons see and change it; and stopping one, or letting it go on.

use super::AuthProxy;
use super::chat::shown;
use crate::levels::By;
use crate::people::{Role, Session};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use policy::{Change, Class, Regime, Weighed};
use serde::Deserialize;
use serde_json::{Value, json};
use service::{Refusal, door};
use std::sync::Arc;
use wire::AssistantId;
use wire::device::Signed;
use wire::enrol::NamedAssistant;

const ASSISTANT_UNKNOWN: Refusal = Refusal::new(StatusCode::NOT_FOUND, "assistant_unknown");

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    assistant: AssistantId,
    change: Change,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Whom {
    assistant: AssistantId,
}

/// What holds for each assistant that this person has to do with, and how far the company lets the tenant go.
pub(super) async fn list(State(proxy): State<Arc<AuthProxy>>, session: Session) -> Result<Json<Value>, Refusal> {
    let (reach, law) = (proxy.people.reach(session.person.id).await?, proxy.in_force.law());
    let lines = proxy.levels.lines().await?;
    let role = session.person.role;
    let assistants: Vec<Value> = proxy
        .assistants()
        .into_iter()
        .filter(|assistant| reach.sees(assistant.id))
        .map(|assistant| {
            let mut row = crate::levels::row(&law, &assistant);
            row["may_lower"] = json!(role.may_decide() && reach.decides(assistant.id));
            row["may_raise"] = json!(role == Role::Owner);
            row["choices"] = json!(lines.iter().filter(|line| line.assistant == assistant.id).collect::<Vec<_>>());
            row
        })
        .collect();
    Ok(Json(json!({ "assistants": assistants })))
}

/// What has to stand behind a change, and what it would have done to the week's calls.
pub(super) async fn preview(State(proxy): State<Arc<AuthProxy>>, session: Session, body: door::Json<Wanted>) -> Result<Json<Value>, Refusal> {
    let Wanted { assistant, change } = body.0;
    let assistant = seen(&proxy, &session, assistant).await?;
    let law = proxy.in_force.law();
    let weighed = weighed(&law, &assistant, &change)?;
    let effect = proxy.levels.effect(&law, assistant.id, &change).await?;
    Ok(Json(json!({ "weighed": weighed, "effect": effect })))
}

pub(super) async fn change(State(proxy): State<Arc<AuthProxy>>, session: Session, body: door::Json<Wanted>) -> Result<Json<Value>, Refusal> {
    let Wanted { assistant, change } = body.0;
    let assistant = seen(&proxy, &session, assistant).await?;
    let by = By::Person { id: session.person.id, name: session.person.name.clone() };
    Ok(Json(match proxy.levels.change(&proxy.approvals, &proxy.in_force.law(), by, &assistant, change).await? {
        None => json!({ "done": true }),
        Some(approval) => json!({ "done": false, "approval": shown(&proxy, approval) }),
    }))
}

pub(super) async fn pause(State(proxy): State<Arc<AuthProxy>>, session: Session, body: door::Json<Whom>) -> Result<StatusCode, Refusal> {
    let assistant = seen(&proxy, &session, body.0.assistant).await?;
    proxy.pauses.pause(Some(session.person.id), assistant.id).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn resume(State(proxy): State<Arc<AuthProxy>>, session: Session, body: door::Json<Signed>) -> Result<StatusCode, Refusal> {
    let heard = proxy.devices.heard(body.0).await?;
    if heard.statement.person != session.person.id {
        return Err(Refusal::FORBIDDEN);
    }
    proxy.pauses.resume_signed(heard).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn seen(proxy: &AuthProxy, session: &Session, assistant: AssistantId) -> Result<NamedAssistant, Refusal> {
    let reach = proxy.people.reach(session.person.id).await?;
    let found = proxy.assistants().into_iter().find(|found| found.id == assistant && reach.sees(found.id));
    found.ok_or(ASSISTANT_UNKNOWN)
}

fn weighed(law: &Regime, assistant: &NamedAssistant, change: &Change) -> Result<&'static str, Refusal> {
    Ok(match law.weigh(&assistant.id.to_string(), change).map_err(crate::levels::refusal)? {
        Weighed::AtOnce => "at_once",
        Weighed::Asked(Class::CriticalRed) => "critical_red",
        Weighed::Asked(_) => "red",
    })
}
