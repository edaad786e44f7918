//! A model request, read as far as the second gate needs it; the bytes go on as they came.

use crate::gateway::openclaw::Dialect;
use crate::ledger::{Proposal, Words};
use axum::body::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

#[derive(Debug)]
pub(super) struct Model {
    pub name: String,
    pub results: Vec<ToolResult>,
    /// What the model may call.
    pub tools: Tools,
    /// Streamed in the OpenAI dialect without a wish for usage: we wish for it.
    wants_usage: bool,
}

/// A tool result that goes to the provider.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ToolResult {
    pub call_id: String,
    pub text: String,
}

/// The names of a request's tools.
#[derive(Debug, Default)]
pub(super) struct Tools(Vec<String>);

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
    #[serde(default)]
    tools: Vec<Tool>,
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

/// Both dialects' ways to describe a tool.
#[derive(Deserialize)]
struct Tool {
    #[serde(default)]
    function: Option<Function>,
    #[serde(default)]
    name: Option<String>,
}

#[derive(Deserialize)]
struct Function {
    name: String,
}

impl Model {
    /// `None` for anything that is not a request of the dialect. A result without an id is one that nobody decided about.
    pub fn parse(dialect: Dialect, bytes: &[u8]) -> Option<Model> {
        let request: Request = serde_json::from_slice(bytes).ok()?;
        let results = match dialect {
            Dialect::OpenaiCompletions => {
                request.messages.iter().filter(|message| message.role == "tool" || message.role == "function").map(openai_result).collect()
            }
            Dialect::AnthropicMessages => request.messages.iter().flat_map(anthropic_results).collect(),
        };
        let wants_usage = dialect == Dialect::OpenaiCompletions && request.stream && request.stream_options.is_none();
        // One that the provider runs itself has a name or not; it is a tool all the same.
        let tools = request.tools.into_iter().map(|tool| tool.function.map_or(tool.name, |function| Some(function.name)).unwrap_or_default());
        let name = request.model.chars().filter(|c| !c.is_control()).take(MODEL_CHARS_MAX).collect();
        Some(Model { name, results, tools: Tools(tools.collect()), wants_usage })
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

/// Names of models become a part of the usage's key.
const MODEL_CHARS_MAX: usize = 128;

impl Tools {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A proposed call as the ledger keeps it.
    pub fn proposal(&self, call_id: &str, tool: &str, arguments: &str) -> Proposal {
        let plain = plain_name(tool);
        let is_known = self.0.contains(&plain);
        let named = if is_known { plain } else { tool.chars().take(TOOL_CHARS_MAX).collect() };
        Proposal { call_id: call_id.to_owned(), tool: named, is_known, words: Words::of(arguments) }
    }
}

/// A longer name is none that OpenClaw would repeat to the model in full.
const TOOL_CHARS_MAX: usize = 128;

/// A tool's name as OpenClaw understands it: it runs ` EXEC `, `functions.exec` and `exec<|channel|>x` as `exec`.
fn plain_name(name: &str) -> String {
    let own = name.split("<|").next().unwrap_or_default().trim();
    own.rsplit('.').next().unwrap_or_default().trim().to_lowercase()
}

fn openai_result(message: &Message) -> ToolResult {
    ToolResult { call_id: message.tool_call_id.clone().unwrap_or_default(), text: text(&message.content) }
}

fn anthropic_results(message: &Message) -> Vec<ToolResult> {
    let Content::Blocks(blocks) = &message.content else { return Vec::new() };
    let results = blocks.iter().filter(|block| block.kind == "tool_result");
    let result = |block: &Block| ToolResult {
        call_id: block.tool_use_id.clone().unwrap_or_default(),
        text: block.content.as_ref().map_or_else(String::new, |content| text(content)),
    };
    results.map(result).collect()
}

fn text(content: &Content) -> String {
    match content {
        Content::None => String::new(),
        Content::Text(text) => text.clone(),
        // Something beside text, such as an image, is no text that OpenClaw makes up.
        Content::Blocks(blocks) => blocks.iter().map(|block| block.text.as_deref().unwrap_or("\u{fffc}")).collect::<Vec<_>>().join("\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn parse(dialect: Dialect, request: Value) -> Option<Model> {
        Model::parse(dialect, request.to_string().as_bytes())
    }

    fn result(call_id: &str, text: &str) -> ToolResult {
        ToolResult { call_id: call_id.to_owned(), text: text.to_owned() }
    }

    #[test]
    fn every_result_is_found_in_both_dialects() {
        let openai = json!({ "model": "m", "messages": [
            { "role": "system", "content": [{ "type": "text", "text": "s" }] },
            { "role": "assistant", "content": null, "tool_calls": [{ "id": "c1" }] },
            { "role": "tool", "tool_call_id": "c1", "content": "one" },
            { "role": "tool", "tool_call_id": "c2", "content": [{ "type": "text", "text": "two" }, { "type": "image_url" }] },
            { "role": "tool" },
        ] });
        assert_eq!(parse(Dialect::OpenaiCompletions, openai).unwrap().results, [result("c1", "one"), result("c2", "two\n\u{fffc}"), result("", "")]);
        let anthropic = json!({ "model": "m", "messages": [
            { "role": "user", "content": "hi" },
            { "role": "user", "content": [
                { "type": "tool_result", "tool_use_id": "t1", "content": "one" },
                { "type": "tool_result", "tool_use_id": "t2", "content": [{ "type": "text", "text": "two" }] },
                { "type": "tool_result" },
            ] },
        ] });
        assert_eq!(parse(Dialect::AnthropicMessages, anthropic).unwrap().results, [result("t1", "one"), result("t2", "two"), result("", "")]);
    }

    proptest! {
        /// Every result that a request holds is found, however it is written, and nothing makes the reader stumble.
        #[test]
        fn no_result_hides(ids in prop::collection::vec(".{0,20}", 0..6), text in ".{0,40}", noise in ".{0,20}", blocks in any::<bool>()) {
            let content = if blocks { json!([{ "type": noise, "text": text }]) } else { json!(text) };
            let messages: Vec<Value> = ids.iter().map(|id| json!({ "role": "tool", "tool_call_id": id, "content": content, noise.clone(): [noise] })).collect();
            let found = parse(Dialect::OpenaiCompletions, json!({ "model": "m", "messages": messages }));
            let found: Option<Vec<String>> = found.map(|model| model.results.into_iter().map(|result| result.call_id).collect());
            // Noise may be the name of a field that we read; then the request is refused as a whole.
            prop_assert!(found.is_none() || found == Some(ids));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Model::parse(Dialect::OpenaiCompletions, &bytes);
            let _ = Model::parse(Dialect::AnthropicMessages, &bytes);
            let _ = Traceparent::parse(&String::from_utf8_lossy(&bytes));
        }
    }

    #[test]
    fn what_is_no_request_is_none() {
        for bad in [
            json!({}),
            json!([]),
            json!({ "model": "m" }),
            json!({ "model": 7, "messages": [] }),
            json!({ "model": "m", "messages": [{ "content": "no role" }] }),
        ] {
            assert!(parse(Dialect::OpenaiCompletions, bad.clone()).is_none(), "{bad}");
        }
    }

    #[test]
    fn usage_is_wished_for_once() {
        let wish = |request: &str| {
            let bytes = Bytes::copy_from_slice(request.as_bytes());
            String::from_utf8(Model::parse(Dialect::OpenaiCompletions, &bytes).unwrap().with_usage(bytes).to_vec()).unwrap()
        };
        assert_eq!(
            wish(r#"{"model":"m","stream":true,"messages":[]}"#),
            r#"{"stream_options":{"include_usage":true},"model":"m","stream":true,"messages":[]}"#
        );
        for unchanged in [r#"{"model":"m","messages":[]}"#, r#"{"model":"m","stream":true,"stream_options":{"include_usage":true},"messages":[]}"#] {
            assert_eq!(wish(unchanged), unchanged);
        }
    }

    #[test]
    fn a_proposal_has_the_name_that_openclaw_will_use() {
        let request =
            json!({ "model": "m", "messages": [], "tools": [{ "type": "function", "function": { "name": "exec", "parameters": {} } }, { "name": "read" }] });
        let tools = parse(Dialect::OpenaiCompletions, request).unwrap().tools;
        for (tool, named, is_known) in [
            ("exec", "exec", true),
            (" EXEC ", "exec", true),
            ("functions.read", "read", true),
            ("exec<|channel|>commentary", "exec", true),
            ("nosuch", "nosuch", false),
            ("functions.nosuch", "functions.nosuch", false),
        ] {
            let proposal = tools.proposal("c", tool, "{}");
            assert_eq!((proposal.tool.as_str(), proposal.is_known), (named, is_known), "{tool}");
        }
    }

    #[test]
    fn a_traceparent_is_exactly_one() {
        let sound = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert_eq!(Traceparent::parse(sound).unwrap().span_id, "b7ad6b7169203331");
        for bad in ["", "00", &sound.to_uppercase(), &sound[1..], &format!("{sound}-x"), &sound.replacen("00", "01", 1)] {
            assert_eq!(Traceparent::parse(bad), None, "{bad}");
        }
    }
}
