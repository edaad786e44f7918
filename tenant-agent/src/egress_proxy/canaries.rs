//! The model of the canaries' session: it proposes one call on each surface, and says that it is done when all have come back.
//!
//! It speaks OpenAI's dialect, streamed, as OpenClaw asks for it. Nobody but a canary's session gets a word.

use super::request::{Model, Route, Traceparent};
use super::{EgressProxy, MALFORMED, NO_CANARY, ROUTE_UNKNOWN, Stopped, UNANNOUNCED, read};
use crate::canary::{Heard, Proposed, Returned, Says, Word};
use crate::gateway::openclaw::{CANARY_MODEL, Dialect};
use crate::ledger::canonical_call_id;
use axum::body::Body;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use std::collections::HashMap;

const DIALECT: Dialect = Dialect::OpenaiCompletions;

pub(super) async fn pass(proxy: &EgressProxy, path: &str, headers: &HeaderMap, body: Body) -> Result<Response, Stopped> {
    let route = Route::parse(DIALECT, path).ok_or(ROUTE_UNKNOWN)?;
    let trace = headers.get("traceparent").and_then(|value| value.to_str().ok()).and_then(Traceparent::parse).ok_or(UNANNOUNCED)?;
    let bytes = read(headers, body).await?;
    let model = Model::parse(DIALECT, &route, &bytes).ok_or(MALFORMED)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| MALFORMED)?;
    let origin = proxy.ledger.origin(&trace.trace_id, &trace.span_id).await;
    let run = origin.runs.first().ok_or(UNANNOUNCED)?;
    let proposed = proposed(text);
    let results = model.results.iter().map(|result| {
        let call_id = canonical_call_id(&result.call_id);
        let made_of = proposed.get(&call_id).map(|(tool, arguments)| model.tools.proposal(&call_id, tool, arguments));
        let word = match made_of {
            Some(call) if proxy.observed.is_turned_down(&call, &result.text) && !call.is_known => Word::NoSuchTool,
            Some(call) if proxy.observed.is_turned_down(&call, &result.text) => Word::NotBegun,
            _ if proxy.observed.is_made_up(DIALECT, &result.text) => Word::NotBegun,
            _ => Word::Other,
        };
        Returned { call_id, text: &result.text, word }
    });
    let heard = Heard { session: &run.session, is_announced: origin.exact, body: text, offers: &|tool| model.tools.offer(tool), results: results.collect() };
    let says = proxy.canaries.hears(&heard).ok_or(NO_CANARY)?;
    Ok(([(header::CONTENT_TYPE, "text/event-stream")], events(&says)).into_response())
}

/// The calls in the request's own history, as OpenClaw keeps them: by id, tool and arguments.
fn proposed(body: &str) -> HashMap<String, (String, String)> {
    let body: Value = serde_json::from_str(body).unwrap_or_default();
    let calls = body["messages"].as_array().into_iter().flatten().flat_map(|message| message["tool_calls"].as_array().into_iter().flatten());
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    calls.map(|call| (canonical_call_id(&text(&call["id"])), (text(&call["function"]["name"]), text(&call["function"]["arguments"])))).collect()
}

fn events(says: &Says) -> String {
    let (delta, reason) = match says {
        Says::Text(text) => (json!({ "role": "assistant", "content": text }), "stop"),
        Says::Calls(calls) => {
            (json!({ "role": "assistant", "content": null, "tool_calls": calls.iter().enumerate().map(call).collect::<Vec<_>>() }), "tool_calls")
        }
    };
    let chunk = |choices: Value| json!({ "id": "canary", "object": "chat.completion.chunk", "created": 0, "model": CANARY_MODEL, "choices": choices });
    let mut last = chunk(json!([]));
    last["usage"] = json!({ "prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0 });
    let said = chunk(json!([{ "index": 0, "delta": delta, "finish_reason": null }]));
    let end = chunk(json!([{ "index": 0, "delta": {}, "finish_reason": reason }]));
    [said.to_string(), end.to_string(), last.to_string(), "[DONE]".to_owned()].map(|data| format!("data: {data}\n\n")).concat()
}

fn call((index, call): (usize, &Proposed)) -> Value {
    json!({ "index": index, "id": call.call_id, "type": "function", "function": { "name": call.tool, "arguments": call.arguments.to_string() } })
}
