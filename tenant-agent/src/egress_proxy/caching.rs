//! What makes a provider's prompt cache hit: the beginning of a request that stays the same, and marks that say how far.
//!
//! Tools and system prompt come before the conversation and should change only with the assistant's configuration; their
//! digest tells whether they do. Anthropic caches only up to marks in the request, so they are put in where nobody did: behind
//! the system prompt, and behind the newest message. Everything else stays as it is.

use super::request::{as_it_stands, place};
use crate::gateway::openclaw::Dialect;
use axum::body::Bytes;
use policy::Digest;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

#[derive(Deserialize)]
struct Marked<'a> {
    #[serde(default, borrow, deserialize_with = "as_it_stands")]
    system: Option<&'a RawValue>,
    #[serde(borrow)]
    messages: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct Message<'a> {
    role: String,
    #[serde(borrow)]
    content: &'a RawValue,
}

/// The request with marks, where its dialect needs them and it has none.
pub(super) fn with_marks(dialect: Dialect, bytes: Bytes) -> Bytes {
    // Within a text the closing quotation mark is escaped.
    let has_marks = || memchr_str(&bytes, b"\"cache_control\"");
    if dialect != Dialect::AnthropicMessages || has_marks() {
        return bytes;
    }
    let Ok(request) = serde_json::from_slice::<Marked>(&bytes) else { return bytes };
    let newest = request.messages.last().and_then(|message| serde_json::from_str::<Message>(message.get()).ok()).filter(|message| message.role == "user");
    let texts = request.system.into_iter().chain(newest.map(|message| message.content));
    let mut edits: Vec<(usize, usize, String)> = texts
        .filter_map(|text| {
            let (from, to) = place(&bytes, text)?;
            Some((from, to, mark(text)?))
        })
        .collect();
    edits.sort_unstable();
    let mut written = Vec::with_capacity(bytes.len() + 128 * edits.len());
    let mut at = 0;
    for (from, to, text) in &edits {
        written.extend_from_slice(&bytes[at..*from]);
        written.extend_from_slice(text.as_bytes());
        at = *to;
    }
    written.extend_from_slice(&bytes[at..]);
    written.into()
}

fn memchr_str(bytes: &[u8], word: &[u8]) -> bool {
    bytes.windows(word.len()).any(|part| part == word)
}

/// Kinds of block that may carry a mark. Thoughts may not.
const MARKABLE: [&str; 4] = ["text", "tool_result", "image", "document"];

/// The same text with a mark behind it; `None` where none can stand.
fn mark(text: &RawValue) -> Option<String> {
    let marked = match serde_json::from_str::<Value>(text.get()).ok()? {
        Value::String(text) if !text.trim().is_empty() => json!([{ "type": "text", "text": text, "cache_control": { "type": "ephemeral" } }]),
        Value::Array(mut blocks) => {
            let last = blocks.last_mut()?.as_object_mut()?;
            let is_empty = last.get("text").and_then(Value::as_str).is_some_and(|text| text.trim().is_empty());
            let kind = last.get("type").and_then(Value::as_str)?;
            if is_empty || !MARKABLE.contains(&kind) {
                return None;
            }
            last.insert("cache_control".to_owned(), json!({ "type": "ephemeral" }));
            Value::Array(blocks)
        }
        _ => return None,
    };
    Some(marked.to_string())
}

#[derive(Deserialize)]
struct Prefix<'a> {
    #[serde(default, borrow)]
    tools: Option<&'a RawValue>,
    #[serde(default, borrow)]
    system: Option<&'a RawValue>,
    #[serde(default, borrow)]
    instructions: Option<&'a RawValue>,
    #[serde(default, borrow, rename = "systemInstruction", alias = "system_instruction")]
    google: Option<&'a RawValue>,
    #[serde(default, borrow)]
    messages: Vec<&'a RawValue>,
}

/// The digest of what every request of an assistant begins with; `None` where nothing does.
pub(super) fn prefix(bytes: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Role {
        role: String,
    }
    let request: Prefix = serde_json::from_slice(bytes).ok()?;
    let is_system =
        |message: &&&RawValue| serde_json::from_str::<Role>(message.get()).is_ok_and(|message| matches!(message.role.as_str(), "system" | "developer"));
    let first = request.messages.iter().take_while(is_system).copied();
    let parts = [request.tools, request.system, request.instructions, request.google].into_iter().flatten().chain(first);
    let text = parts.map(RawValue::get).collect::<Vec<_>>().join("\n");
    (!text.is_empty()).then(|| Digest::of(text.as_bytes()).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn marked(request: &Value) -> Value {
        serde_json::from_slice(&with_marks(Dialect::AnthropicMessages, request.to_string().into())).unwrap()
    }

    const MARK: &str = r#"{"type":"ephemeral"}"#;

    #[test]
    fn marks_stand_behind_the_system_prompt_and_the_newest_message() {
        let request = json!({ "model": "m", "system": "be kind", "tools": [{ "name": "read" }], "messages": [
            { "role": "user", "content": "one" },
            { "role": "assistant", "content": [{ "type": "text", "text": "two" }] },
            { "role": "user", "content": [{ "type": "text", "text": "three" }, { "type": "tool_result", "tool_use_id": "c", "content": "r" }] },
        ] });
        let sent = marked(&request);
        let mark: Value = serde_json::from_str(MARK).unwrap();
        assert_eq!(sent["system"], json!([{ "type": "text", "text": "be kind", "cache_control": mark }]));
        assert_eq!(sent["messages"][2]["content"][1]["cache_control"], mark);
        assert_eq!(sent.to_string().matches("cache_control").count(), 2);
        assert_eq!((&sent["tools"], &sent["messages"][0], &sent["messages"][1]), (&request["tools"], &request["messages"][0], &request["messages"][1]));
    }

    #[test]
    fn nothing_is_marked_where_the_caller_did_or_nothing_can_be() {
        let own = json!({ "system": [{ "type": "text", "text": "s", "cache_control": { "type": "ephemeral", "ttl": "1h" } }], "messages": [{ "role": "user", "content": "x" }] });
        for (dialect, request) in [
            (Dialect::AnthropicMessages, own),
            (Dialect::AnthropicMessages, json!({ "system": "", "messages": [{ "role": "user", "content": [] }] })),
            (
                Dialect::AnthropicMessages,
                json!({ "system": null, "messages": [{ "role": "assistant", "content": [{ "type": "thinking", "signature": "s" }] }] }),
            ),
            (Dialect::AnthropicMessages, json!({ "messages": [{ "role": "user", "content": [{ "type": "thinking" }] }] })),
            (Dialect::AnthropicMessages, json!([])),
            (Dialect::OpenaiCompletions, json!({ "system": "s", "messages": [{ "role": "user", "content": "x" }] })),
        ] {
            let bytes = Bytes::from(request.to_string());
            assert_eq!(with_marks(dialect, bytes.clone()), bytes, "{request}");
        }
        let spoken = json!({ "messages": [{ "role": "user", "content": "what is \"cache_control\"?" }] });
        assert!(marked(&spoken)["messages"][0]["content"][0]["cache_control"].is_object(), "a word of the conversation is no mark");
    }

    #[test]
    fn the_digest_changes_with_the_configuration_and_not_with_the_conversation() {
        let digest = |request: Value| prefix(request.to_string().as_bytes());
        let anthropic =
            |system: &str, said: &str| digest(json!({ "system": system, "tools": [{ "name": "read" }], "messages": [{ "role": "user", "content": said }] }));
        assert_eq!(anthropic("s", "one"), anthropic("s", "two"));
        assert_ne!(anthropic("s", "one"), anthropic("t", "one"));
        let openai = |system: &str, said: &str| {
            digest(json!({ "messages": [{ "role": "system", "content": system }, { "role": "user", "content": said }, { "role": "system", "content": said }] }))
        };
        assert_eq!(openai("s", "one"), openai("s", "two"));
        assert_ne!(openai("s", "one"), openai("t", "one"));
        assert_ne!(digest(json!({ "input": [], "instructions": "s" })), digest(json!({ "input": [], "instructions": "t" })));
        assert_ne!(digest(json!({ "contents": [], "systemInstruction": {} })), digest(json!({ "contents": [], "systemInstruction": { "parts": [] } })));
        assert_eq!((digest(json!({ "messages": [] })), prefix(b"x")), (None, None));
    }

    proptest! {
        /// Whatever a request says, marks add nothing but themselves.
        #[test]
        fn marks_add_nothing_but_themselves(system in ".{0,20}", said in ".{0,20}", blocks in any::<bool>()) {
            let content = if blocks { json!([{ "type": "text", "text": said }]) } else { json!(said) };
            let request = json!({ "x": 1.5, "system": system, "messages": [{ "role": "user", "content": content }] });
            let bare = |value: &Value| match value {
                Value::String(text) => text.clone(),
                blocks => blocks[0]["text"].as_str().unwrap_or_default().to_owned(),
            };
            let sent = marked(&request);
            prop_assert_eq!((bare(&sent["system"]), bare(&sent["messages"][0]["content"])), (system, said));
            prop_assert_eq!(&sent["x"], &request["x"]);
        }
    }
}
