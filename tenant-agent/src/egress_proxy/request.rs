//! A model request, read as far as the second gate needs it; the bytes go on as they came.

use crate::gateway::openclaw::Dialect;
use axum::body::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Model {
    pub name: String,
    pub results: Vec<ToolResult>,
    /// Streamed in the OpenAI dialect without a wish for usage: we wish for it.
    wants_usage: bool,
}

/// A tool result that goes to the provider.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ToolResult {
    pub call_id: String,
    /// It is what OpenClaw writes when a call never ran.
    pub never_ran: bool,
}

/// The trace that OpenClaw gives each model request.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Traceparent {
    pub trace_id: String,
    pub span_id: String,
}

impl Traceparent {
    pub fn parse(text: &str) -> Option<Traceparent> {
        let hex = |part: &str, length: usize| part.len() == length && part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        let mut parts = text.split('-');
        let (version, trace_id, span_id, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let sound = parts.next().is_none() && version == "00" && hex(trace_id, 32) && hex(span_id, 16) && hex(flags, 2);
        sound.then(|| Traceparent { trace_id: trace_id.to_owned(), span_id: span_id.to_owned() })
    }
}

#[derive(Deserialize)]
struct Request<'a> {
    model: String,
    #[serde(default)]
    stream: bool,
    #[serde(default, borrow)]
    stream_options: Option<&'a RawValue>,
    messages: Vec<Message>,
}

#[derive(Deserialize)]
struct Message {
    role: String,
    #[serde(default)]
    tool_call_id: Option<String>,
    #[serde(default)]
    content: Content,
}

#[derive(Default, Deserialize)]
#[serde(untagged)]
enum Content {
    #[default]
    None,
    Text(String),
    Blocks(Vec<Block>),
}

#[derive(Deserialize)]
struct Block {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    tool_use_id: Option<String>,
    #[serde(default)]
    content: Option<Box<Content>>,
}

impl Model {
    /// `None` for anything that is not a request of the dialect; a result without an id is one that nobody decided about.
    pub fn parse(dialect: Dialect, bytes: &[u8]) -> Option<Model> {
        let request: Request = serde_json::from_slice(bytes).ok()?;
        let results = match dialect {
            Dialect::OpenaiCompletions => {
                request.messages.iter().filter(|message| message.role == "tool" || message.role == "function").map(openai_result).collect()
            }
            Dialect::AnthropicMessages => request.messages.iter().flat_map(anthropic_results).collect(),
        };
        let wants_usage = dialect == Dialect::OpenaiCompletions && request.stream && request.stream_options.is_none();
        Some(Model { name: request.model.chars().filter(|c| !c.is_control()).take(128).collect(), results, wants_usage })
    }

    /// The request as it goes out: unchanged, or with one field before all others.
    pub fn with_usage(&self, bytes: Bytes) -> Bytes {
        match bytes.iter().position(|byte| *byte == b'{') {
            Some(at) if self.wants_usage => {
                let (before, after) = bytes.split_at(at + 1);
                [before, br#""stream_options":{"include_usage":true},"#, after].concat().into()
            }
            _ => bytes,
        }
    }
}

fn openai_result(message: &Message) -> ToolResult {
    ToolResult { call_id: message.tool_call_id.clone().unwrap_or_default(), never_ran: never_ran(&text(&message.content)) }
}

fn anthropic_results(message: &Message) -> Vec<ToolResult> {
    let Content::Blocks(blocks) = &message.content else { return Vec::new() };
    let results = blocks.iter().filter(|block| block.kind == "tool_result");
    results
        .map(|block| ToolResult {
            call_id: block.tool_use_id.clone().unwrap_or_default(),
            never_ran: never_ran(&block.content.as_ref().map_or_else(String::new, |content| text(content))),
        })
        .collect()
}

fn text(content: &Content) -> String {
    match content {
        Content::None => String::new(),
        Content::Text(text) => text.clone(),
        Content::Blocks(blocks) => blocks.iter().filter_map(|block| block.text.as_deref()).collect::<Vec<_>>().join("\n"),
    }
}

fn never_ran(_text: &str) -> bool {
    false
}
