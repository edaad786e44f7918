//! A model request, read as far as the second gate needs it; the bytes go on as they came.
//!
//! Each dialect has its own way to bring back what a tool returned. A request whose history lies at the provider, or that
//! writes it in a form that is not read here, is none: a result could hide in it.

use crate::gateway::openclaw::Dialect;
use crate::ledger::{CALL_ID_DIGITS, Proposal, Words};
use axum::body::Bytes;
use policy::route::Pin;
use serde::de::value::SeqAccessDeserializer;
use serde::de::{DeserializeOwned, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::fmt;

#[derive(Debug)]
pub(super) struct Model {
    pub name: String,
    pub results: Vec<ToolResult>,
    /// What the model may call.
    pub tools: Tools,
    /// The most tokens that it lets all answers together have; `None` when it does not say.
    pub output_max: Option<i64>,
    /// Streamed in the OpenAI dialect without a wish for usage: we wish for it, in the place of these bytes.
    wish: Option<Wish>,
}

/// Where the wish for usage belongs.
#[derive(Debug, PartialEq, Eq)]
enum Wish {
    /// Before all other fields.
    First,
    /// In the place of what stands there.
    Instead { from: usize, to: usize, options: String },
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

/// Where a request goes below the provider's URL.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Route {
    pub path: String,
    /// Gemini names the model there, and not in the body.
    model: Option<String>,
}

impl Route {
    /// `None` for any other than the one way in which the dialect asks a model.
    pub fn parse(dialect: Dialect, path: &str) -> Option<Route> {
        let fixed = match dialect {
            Dialect::OpenaiCompletions => "chat/completions",
            Dialect::OpenaiResponses => "responses",
            Dialect::AnthropicMessages => "v1/messages",
            Dialect::Ollama => "api/chat",
            Dialect::GoogleGenerativeAi => {
                let (model, method) = path.strip_prefix("models/")?.split_once(':')?;
                // Without `alt=sse` a stream would be one long array, which is only whole at its end.
                let query = match method {
                    "generateContent" => "",
                    "streamGenerateContent" => "?alt=sse",
                    _ => return None,
                };
                let is_plain = !model.is_empty() && model.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) && !model.contains("..");
                return is_plain.then(|| Route { path: format!("{path}{query}"), model: Some(model.to_owned()) });
            }
        };
        (path == fixed).then(|| Route { path: fixed.to_owned(), model: None })
    }
}

/// What a reader of a dialect finds.
struct Found {
    model: String,
    results: Vec<ToolResult>,
    tools: Vec<String>,
    output_max: Option<i64>,
    wish: Option<Wish>,
}

/// OpenAI's chat completions, Anthropic's messages, Ollama's chat: what differs is how results stand in a message.
#[derive(Deserialize)]
struct Request<'a> {
    model: String,
    #[serde(default)]
    stream: bool,
    #[serde(default, borrow, deserialize_with = "as_it_stands")]
    stream_options: Option<&'a RawValue>,
    messages: Vec<Message>,
    #[serde(default)]
    tools: Option<Vec<Tool>>,
    #[serde(default)]
    max_tokens: Option<i64>,
    #[serde(default)]
    max_completion_tokens: Option<i64>,
    /// How many answers at once.
    #[serde(default)]
    n: Option<i64>,
    /// Ollama's.
    #[serde(default)]
    options: Option<OllamaOptions>,
}

/// `null` is something that stands there.
pub(super) fn as_it_stands<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&'a RawValue>::deserialize(deserializer).map(Some)
}

#[derive(Deserialize)]
struct OllamaOptions {
    #[serde(default)]
    num_predict: Option<i64>,
}

#[derive(Deserialize)]
struct Message {
    role: String,
    #[serde(default)]
    tool_call_id: Option<String>,
    #[serde(default)]
    content: Content,
}

#[derive(Default)]
enum Content {
    #[default]
    None,
    Text(String),
    Blocks(Vec<Block>),
}

/// By what comes, without trying one form after the other: serde keeps a copy for that, and writes each text into an error.
impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Content, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Content;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a text, a list of blocks or nothing")
            }

            fn visit_unit<E>(self) -> Result<Content, E> {
                Ok(Content::None)
            }

            fn visit_str<E>(self, text: &str) -> Result<Content, E> {
                Ok(Content::Text(text.to_owned()))
            }

            fn visit_string<E>(self, text: String) -> Result<Content, E> {
                Ok(Content::Text(text))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, blocks: A) -> Result<Content, A::Error> {
                Deserialize::deserialize(SeqAccessDeserializer::new(blocks)).map(Content::Blocks)
            }
        }
        deserializer.deserialize_any(Read)
    }
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

#[derive(Deserialize)]
struct Responses {
    model: String,
    input: Items,
    #[serde(default)]
    tools: Option<Vec<Tool>>,
    #[serde(default)]
    max_output_tokens: Option<i64>,
    // History that lies at the provider, and answers that do not come here.
    #[serde(default)]
    previous_response_id: Option<Value>,
    #[serde(default)]
    conversation: Option<Value>,
    #[serde(default)]
    background: Option<Value>,
}

/// None of a text, which holds no result.
struct Items(Vec<Item>);

impl<'de> Deserialize<'de> for Items {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Items, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Items;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a text or a list of items")
            }

            fn visit_str<E>(self, _: &str) -> Result<Items, E> {
                Ok(Items(Vec::new()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Items, A::Error> {
                Deserialize::deserialize(SeqAccessDeserializer::new(items)).map(Items)
            }
        }
        deserializer.deserialize_any(Read)
    }
}

#[derive(Deserialize)]
struct Item {
    #[serde(default, rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    call_id: Option<String>,
    #[serde(default)]
    output: Option<Content>,
}

/// Google reads each name in two spellings, and one thing in the place of a list.
#[derive(Deserialize)]
struct Google {
    contents: OneOrMore<Turn>,
    #[serde(default, alias = "system_instruction", rename = "systemInstruction")]
    system: Option<Turn>,
    #[serde(default)]
    tools: Option<OneOrMore<GoogleTool>>,
    #[serde(default, alias = "generation_config", rename = "generationConfig")]
    generation: Option<Generation>,
    /// History that lies at the provider.
    #[serde(default, alias = "cached_content", rename = "cachedContent")]
    cached: Option<Value>,
}

struct OneOrMore<T>(Vec<T>);

impl<'de, T: DeserializeOwned> Deserialize<'de> for OneOrMore<T> {
    /// By the first character, and objects only: serde would take a list for one thing with its fields in order.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<OneOrMore<T>, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?.get();
        let items: Vec<&RawValue> = if raw.starts_with('[') { serde_json::from_str(raw) } else { serde_json::from_str(raw).map(|item| vec![item]) }
            .map_err(serde::de::Error::custom)?;
        if !items.iter().all(|item| item.get().starts_with('{')) {
            return Err(serde::de::Error::custom("something other than an object"));
        }
        let items = items.into_iter().map(|item| serde_json::from_str(item.get()));
        items.collect::<Result<_, _>>().map(OneOrMore).map_err(serde::de::Error::custom)
    }
}

#[derive(Deserialize)]
struct Turn {
    #[serde(default)]
    parts: Option<OneOrMore<Part>>,
}

#[derive(Deserialize)]
struct Part {
    #[serde(default, alias = "function_response", rename = "functionResponse")]
    response: Option<FunctionResponse>,
}

#[derive(Deserialize)]
struct FunctionResponse {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    response: Value,
    /// Images that belong to it.
    #[serde(default)]
    parts: Option<Value>,
}

#[derive(Deserialize)]
struct GoogleTool {
    #[serde(default, alias = "function_declarations", rename = "functionDeclarations")]
    functions: Option<OneOrMore<Function>>,
}

#[derive(Deserialize)]
struct Generation {
    #[serde(default, alias = "max_output_tokens", rename = "maxOutputTokens")]
    output_max: Option<i64>,
    #[serde(default, alias = "candidate_count", rename = "candidateCount")]
    answers: Option<i64>,
}

impl Model {
    /// `None` for anything that is not a request of the dialect. A result without an id is one that nobody decided about.
    pub fn parse(dialect: Dialect, route: &Route, bytes: &[u8]) -> Option<Model> {
        let found = match dialect {
            Dialect::OpenaiCompletions | Dialect::AnthropicMessages | Dialect::Ollama => of_messages(dialect, bytes),
            Dialect::OpenaiResponses => of_items(bytes),
            Dialect::GoogleGenerativeAi => of_turns(route, bytes),
        }?;
        let name = found.model.chars().filter(|c| !c.is_control()).take(MODEL_CHARS_MAX).collect();
        Some(Model { name, results: found.results, tools: Tools(found.tools), output_max: found.output_max, wish: found.wish })
    }

    /// Whether the usage that comes is for us alone.
    pub fn hides_usage(&self) -> bool {
        self.wish.is_some()
    }

    /// The request as it goes out: unchanged, or with the wish for usage in it.
    pub fn with_usage(&self, bytes: Bytes) -> Bytes {
        match &self.wish {
            None => bytes,
            Some(Wish::Instead { from, to, options }) => [&bytes[..*from], options.as_bytes(), &bytes[*to..]].concat().into(),
            Some(Wish::First) => match bytes.iter().position(|byte| *byte == b'{') {
                Some(at) => [&bytes[..=at], br#""stream_options":{"include_usage":true},"#, &bytes[at + 1..]].concat().into(),
                None => bytes,
            },
        }
    }
}

/// A request for another model. `None` for one that names none, or names it twice.
pub(super) fn with_model(bytes: &Bytes, model: &str) -> Option<Bytes> {
    #[derive(Deserialize)]
    struct Named<'a> {
        #[serde(borrow)]
        model: &'a RawValue,
    }
    let named: Named = serde_json::from_slice(bytes).ok()?;
    let (from, to) = place(bytes, named.model)?;
    Some([&bytes[..from], Value::from(model).to_string().as_bytes(), &bytes[to..]].concat().into())
}

/// A request with what is pinned in the place of what its writer wanted.
pub(super) fn pinned(bytes: &Bytes, pin: Pin) -> Option<Bytes> {
    let mut fields: Map<String, Value> = serde_json::from_slice(bytes).ok()?;
    for name in ["max_completion_tokens", "n", "top_p", "seed"] {
        fields.remove(name);
    }
    fields.insert("temperature".to_owned(), 0.into());
    fields.insert("max_tokens".to_owned(), pin.output_tokens_max.into());
    Some(Value::Object(fields).to_string().into())
}

/// The digits by which a call is known here are too many for Mistral, which takes nine.
pub(super) fn with_short_ids(bytes: &Bytes) -> Bytes {
    const BEGIN: &[u8] = b"\"call_";
    let mut short = Vec::with_capacity(bytes.len());
    let mut rest: &[u8] = bytes;
    while let Some(at) = rest.windows(BEGIN.len()).position(|part| part == BEGIN) {
        let (before, after) = rest.split_at(at + BEGIN.len());
        let digits = after.iter().take_while(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')).count();
        if digits == CALL_ID_DIGITS && after.get(digits) == Some(&b'"') {
            short.extend_from_slice(&before[..=at]);
            short.extend_from_slice(&after[..SHORT_ID_DIGITS]);
            rest = &after[digits..];
        } else {
            short.extend_from_slice(before);
            rest = after;
        }
    }
    short.extend_from_slice(rest);
    short.into()
}

/// What Mistral takes.
const SHORT_ID_DIGITS: usize = 9;

/// Where a value that borrows from these bytes stands in them.
pub(super) fn place(bytes: &[u8], value: &RawValue) -> Option<(usize, usize)> {
    let from = (value.get().as_ptr() as usize).checked_sub(bytes.as_ptr() as usize)?;
    let to = from.checked_add(value.get().len()).filter(|to| *to <= bytes.len())?;
    Some((from, to))
}

/// What has to be added so that the provider says the usage; nothing when it will. `None` when the options are none.
fn wish(bytes: &[u8], options: Option<&RawValue>) -> Option<Option<Wish>> {
    let Some(raw) = options else { return Some(Some(Wish::First)) };
    let mut options = serde_json::from_str::<Option<Map<String, Value>>>(raw.get()).ok()?.unwrap_or_default();
    if options.insert("include_usage".to_owned(), Value::Bool(true)) == Some(Value::Bool(true)) {
        return Some(None);
    }
    let (from, to) = place(bytes, raw)?;
    Some(Some(Wish::Instead { from, to, options: Value::Object(options).to_string() }))
}

fn of_messages(dialect: Dialect, bytes: &[u8]) -> Option<Found> {
    let request: Request = serde_json::from_slice(bytes).ok()?;
    let results = match dialect {
        Dialect::AnthropicMessages => request.messages.iter().flat_map(anthropic_results).collect(),
        _ => request.messages.iter().filter(|message| message.role == "tool" || message.role == "function").map(message_result).collect(),
    };
    let wish = if dialect == Dialect::OpenaiCompletions && request.stream { wish(bytes, request.stream_options)? } else { None };
    let of_ollama = request.options.and_then(|options| options.num_predict);
    let most = request.max_tokens.into_iter().chain(request.max_completion_tokens).chain(of_ollama).max();
    Some(Found {
        model: request.model,
        results,
        tools: names(request.tools),
        output_max: most.filter(|most| *most >= 0).map(|most| most.saturating_mul(request.n.unwrap_or(1).max(1))),
        wish,
    })
}

fn of_items(bytes: &[u8]) -> Option<Found> {
    let request: Responses = serde_json::from_slice(bytes).ok()?;
    let is_elsewhere = [&request.previous_response_id, &request.conversation].into_iter().any(|held| held.as_ref().is_some_and(|held| !held.is_null()));
    if is_elsewhere || request.background.is_some_and(|background| background != false) {
        return None;
    }
    let Items(items) = request.input;
    let kind = |item: &Item| item.kind.clone().unwrap_or_default();
    if items.iter().any(|item| kind(item) == "item_reference") {
        return None;
    }
    let results = items.iter().filter(|item| item.output.is_some() || kind(item).ends_with("_output"));
    let result = |item: &Item| ToolResult { call_id: item.call_id.clone().unwrap_or_default(), text: item.output.as_ref().map_or_else(String::new, text) };
    let results = results.map(result).collect();
    Some(Found { model: request.model, results, tools: names(request.tools), output_max: request.max_output_tokens.filter(|most| *most >= 0), wish: None })
}

fn of_turns(route: &Route, bytes: &[u8]) -> Option<Found> {
    let request: Google = serde_json::from_slice(bytes).ok()?;
    if request.cached.is_some_and(|cached| !cached.is_null()) {
        return None;
    }
    let turns = request.contents.0.into_iter().chain(request.system);
    let parts = turns.flat_map(|turn| turn.parts.map_or_else(Vec::new, |parts| parts.0));
    let results = parts.filter_map(|part| part.response).map(|response| ToolResult { text: google_text(&response), call_id: response.id.unwrap_or_default() });
    let tools = request.tools.map_or_else(Vec::new, |tools| tools.0).into_iter().flat_map(|tool| match tool.functions {
        Some(functions) => functions.0.into_iter().map(|function| function.name).collect(),
        // One that the provider runs itself; it is a tool all the same.
        None => vec![String::new()],
    });
    let (most, answers) = request.generation.map_or((None, None), |generation| (generation.output_max, generation.answers));
    Some(Found {
        model: route.model.clone()?,
        results: results.collect(),
        tools: tools.collect(),
        output_max: most.filter(|most| *most >= 0).map(|most| most.saturating_mul(answers.unwrap_or(1).max(1))),
        wish: None,
    })
}

/// OpenClaw puts the text of a result under one of two names.
fn google_text(response: &FunctionResponse) -> String {
    let said = match &response.response {
        Value::Object(fields) if fields.len() == 1 => fields.get("output").or(fields.get("error")).and_then(Value::as_str),
        _ => None,
    };
    match said {
        Some(text) if response.parts.is_none() => text.to_owned(),
        // Something beside text is no text that OpenClaw makes up.
        _ => format!("\u{fffc}{}", response.response),
    }
}

/// One that the provider runs itself has a name or not; it is a tool all the same.
fn names(tools: Option<Vec<Tool>>) -> Vec<String> {
    let name = |tool: Tool| tool.function.map_or(tool.name, |function| Some(function.name)).unwrap_or_default();
    tools.unwrap_or_default().into_iter().map(name).collect()
}

/// Names of models become a part of the usage's key.
const MODEL_CHARS_MAX: usize = 128;

impl Tools {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn offer(&self, tool: &str) -> bool {
        self.0.iter().any(|name| name == tool)
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

fn message_result(message: &Message) -> ToolResult {
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

    fn route(dialect: Dialect) -> Route {
        let path = match dialect {
            Dialect::OpenaiCompletions => "chat/completions",
            Dialect::OpenaiResponses => "responses",
            Dialect::AnthropicMessages => "v1/messages",
            Dialect::GoogleGenerativeAi => "models/m:streamGenerateContent",
            Dialect::Ollama => "api/chat",
        };
        Route::parse(dialect, path).unwrap()
    }

    fn parse(dialect: Dialect, request: Value) -> Option<Model> {
        Model::parse(dialect, &route(dialect), request.to_string().as_bytes())
    }

    fn result(call_id: &str, text: &str) -> ToolResult {
        ToolResult { call_id: call_id.to_owned(), text: text.to_owned() }
    }

    #[test]
    fn every_result_is_found_in_every_dialect() {
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
        let responses = json!({ "model": "m", "store": false, "input": [
            { "role": "user", "content": [{ "type": "input_text", "text": "hi" }] },
            { "type": "function_call", "call_id": "c1", "name": "read", "arguments": "{}" },
            { "type": "function_call_output", "call_id": "c1", "output": "one" },
            { "type": "custom_tool_call_output", "call_id": "c2", "output": [{ "type": "input_text", "text": "two" }, { "type": "input_image" }] },
            { "type": "shell_call_output" },
            { "call_id": "c3", "output": "three" },
        ] });
        let found = parse(Dialect::OpenaiResponses, responses).unwrap().results;
        assert_eq!(found, [result("c1", "one"), result("c2", "two\n\u{fffc}"), result("", ""), result("c3", "three")]);
        let google = json!({ "contents": [
            { "role": "user", "parts": [{ "text": "hi" }] },
            { "role": "user", "parts": [
                { "functionResponse": { "id": "c1", "name": "read", "response": { "output": "one" } } },
                { "function_response": { "id": "c2", "name": "read", "response": { "error": "two" } } },
            ] },
            { "parts": { "functionResponse": { "response": { "output": "x", "more": 1 } } } },
        ], "system_instruction": { "parts": [{ "functionResponse": { "id": "c4", "response": { "output": "four" }, "parts": [] } }] } });
        let odd = "\u{fffc}{\"more\":1,\"output\":\"x\"}";
        let found = parse(Dialect::GoogleGenerativeAi, google).unwrap();
        assert_eq!(found.results, [result("c1", "one"), result("c2", "two"), result("", odd), result("c4", "\u{fffc}{\"output\":\"four\"}")]);
        assert_eq!(found.name, "m", "the path names the model");
        let one = json!({ "contents": { "parts": { "functionResponse": { "id": "c1", "response": { "output": "one" } } } } });
        assert_eq!(parse(Dialect::GoogleGenerativeAi, one).unwrap().results, [result("c1", "one")]);
        let ollama = json!({ "model": "m", "messages": [{ "role": "user", "content": "hi", "images": ["x"] }, { "role": "tool", "content": "one", "tool_call_id": "c1", "tool_name": "read" }, { "role": "tool", "content": "two" }] });
        assert_eq!(parse(Dialect::Ollama, ollama).unwrap().results, [result("c1", "one"), result("", "two")]);
    }

    #[test]
    fn what_stands_in_the_wrong_place_is_refused() {
        let response = json!({ "functionResponse": { "id": "c1", "response": { "output": "one" } } });
        for contents in [
            json!([[{ "parts": [response] }]]),
            json!([{ "parts": [{ "functionResponse": "x" }] }]),
            json!([{ "parts": "x" }]),
            json!("x"),
            json!(7),
            json!([7]),
        ] {
            let found = parse(Dialect::GoogleGenerativeAi, json!({ "contents": contents }));
            assert!(found.is_none_or(|found| !found.results.is_empty()), "{contents}");
        }
    }

    #[test]
    fn history_that_lies_elsewhere_is_refused() {
        let responses = |more: Value| {
            let mut request = json!({ "model": "m", "input": "hi" });
            request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            parse(Dialect::OpenaiResponses, request).is_some()
        };
        assert!(responses(json!({ "previous_response_id": null, "background": false })));
        for more in [
            json!({ "previous_response_id": "resp_1" }),
            json!({ "conversation": { "id": "conv_1" } }),
            json!({ "background": true }),
            json!({ "input": [{ "type": "item_reference", "id": "fc_1" }] }),
            json!({ "input": [{ "type": "computer_call_output", "call_id": "c", "output": { "type": "computer_screenshot" } }] }),
        ] {
            assert!(!responses(more.clone()), "{more}");
        }
        for spelling in ["cachedContent", "cached_content"] {
            assert!(parse(Dialect::GoogleGenerativeAi, json!({ "contents": [], spelling: "cachedContents/1" })).is_none(), "{spelling}");
        }
        let twice = br#"{"contents":[{"parts":[{"functionResponse":{"id":"a"},"function_response":{"id":"b"}}]}]}"#;
        assert!(Model::parse(Dialect::GoogleGenerativeAi, &route(Dialect::GoogleGenerativeAi), twice).is_none(), "nobody knows which one counts");
    }

    #[test]
    fn each_dialect_has_one_way_to_ask() {
        let path = |dialect, path: &str| Route::parse(dialect, path).map(|route| route.path);
        for dialect in Dialect::ALL {
            for bad in ["", "models", "embeddings", "v1/files", "chat/completions/", "../chat/completions", "api/generate"] {
                assert_eq!(path(dialect, bad), None, "{} {bad}", dialect.name());
            }
        }
        let google = |tail: &str| path(Dialect::GoogleGenerativeAi, tail);
        assert_eq!(google("models/gemini-2.5-pro:streamGenerateContent").as_deref(), Some("models/gemini-2.5-pro:streamGenerateContent?alt=sse"));
        assert_eq!(google("models/gemini-2.5-pro:generateContent").as_deref(), Some("models/gemini-2.5-pro:generateContent"));
        for bad in [
            "models/a:embedContent",
            "models/a/b:generateContent",
            "models/:generateContent",
            "models/..:generateContent",
            "models/a?x=1:generateContent",
            "files/a:generateContent",
        ] {
            assert_eq!(google(bad), None, "{bad}");
        }
    }

    #[test]
    fn tools_are_counted_in_every_dialect() {
        let count = |dialect, request: Value| parse(dialect, request).unwrap().tools.0;
        assert_eq!(
            count(Dialect::OpenaiResponses, json!({ "model": "m", "input": "x", "tools": [{ "type": "function", "name": "read" }, { "type": "web_search" }] })),
            ["read", ""]
        );
        let google = json!({ "contents": [], "tools": [{ "functionDeclarations": [{ "name": "read" }, { "name": "ls" }] }, { "googleSearch": {} }] });
        assert_eq!(count(Dialect::GoogleGenerativeAi, google), ["read", "ls", ""]);
        assert_eq!(count(Dialect::GoogleGenerativeAi, json!({ "contents": [], "tools": { "function_declarations": { "name": "read" } } })), ["read"]);
        assert_eq!(
            count(Dialect::Ollama, json!({ "model": "m", "messages": [], "tools": [{ "type": "function", "function": { "name": "read" } }] })),
            ["read"]
        );
        assert!(count(Dialect::OpenaiCompletions, json!({ "model": "m", "messages": [], "tools": null })).is_empty());
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
            for dialect in Dialect::ALL {
                let _ = Model::parse(dialect, &route(dialect), &bytes);
                let _ = Route::parse(dialect, &String::from_utf8_lossy(&bytes));
            }
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
            String::from_utf8(Model::parse(Dialect::OpenaiCompletions, &route(Dialect::OpenaiCompletions), &bytes).unwrap().with_usage(bytes).to_vec()).unwrap()
        };
        assert_eq!(
            wish(r#"{"model":"m","stream":true,"messages":[]}"#),
            r#"{"stream_options":{"include_usage":true},"model":"m","stream":true,"messages":[]}"#
        );
        for (options, expected) in [
            ("null", r#"{"include_usage":true}"#),
            (r#"{"include_obfuscation":false}"#, r#"{"include_obfuscation":false,"include_usage":true}"#),
            (r#" { "include_usage" : false }"#, r#" {"include_usage":true}"#),
        ] {
            let request = |options: &str| format!(r#"{{"stream":true,"model":"ü","stream_options":{options},"messages":[]}}"#);
            assert_eq!(wish(&request(options)), request(expected));
        }
        for unchanged in [r#"{"model":"m","messages":[]}"#, r#"{"model":"m","stream":true,"stream_options":{"include_usage":true},"messages":[]}"#] {
            assert_eq!(wish(unchanged), unchanged);
        }
        assert!(parse(Dialect::OpenaiCompletions, json!({ "model": "m", "stream": true, "stream_options": 7, "messages": [] })).is_none());
    }

    #[test]
    fn the_largest_answer_is_known_where_the_request_says_it() {
        for (request, expected) in [
            (json!({}), None),
            (json!({ "max_tokens": 100 }), Some(100)),
            (json!({ "max_tokens": 100, "max_completion_tokens": 300, "n": 2 }), Some(600)),
            (json!({ "max_tokens": -5, "n": 0 }), None),
            (json!({ "max_tokens": null, "n": null }), None),
        ] {
            let mut whole = json!({ "model": "m", "messages": [] });
            whole.as_object_mut().unwrap().extend(request.as_object().unwrap().clone());
            assert_eq!(parse(Dialect::OpenaiCompletions, whole).unwrap().output_max, expected, "{request}");
        }
        for (dialect, request) in [
            (Dialect::OpenaiResponses, json!({ "model": "m", "input": "x", "max_output_tokens": 60 })),
            (Dialect::AnthropicMessages, json!({ "model": "m", "messages": [], "max_tokens": 60 })),
            (Dialect::GoogleGenerativeAi, json!({ "contents": [], "generationConfig": { "maxOutputTokens": 30, "candidateCount": 2 } })),
            (Dialect::GoogleGenerativeAi, json!({ "contents": [], "generation_config": { "max_output_tokens": 60 } })),
            (Dialect::Ollama, json!({ "model": "m", "messages": [], "options": { "num_predict": 60 } })),
        ] {
            assert_eq!(parse(dialect, request.clone()).unwrap().output_max, Some(60), "{request}");
        }
    }

    #[test]
    fn a_request_goes_to_another_model_and_stays_what_it_is() {
        let bytes = Bytes::from_static(br#"{"x": 1.50, "model" : "a\"b", "messages":[{"role":"user","content":"\"model\":\"a\""}]}"#);
        let other = with_model(&bytes, "m/2").unwrap();
        assert_eq!(other, r#"{"x": 1.50, "model" : "m/2", "messages":[{"role":"user","content":"\"model\":\"a\""}]}"#);
        for bad in [&br#"{"messages":[]}"#[..], br#"{"model":"a","model":"b"}"#, b"[", b""] {
            assert_eq!(with_model(&Bytes::copy_from_slice(bad), "m"), None);
        }
        let wild = json!({ "model": "m", "messages": [], "temperature": 2, "max_tokens": 9000, "max_completion_tokens": 9000, "n": 5, "seed": 1 }).to_string();
        let tame: Value = serde_json::from_slice(&pinned(&wild.into(), Pin { output_tokens_max: 600 }).unwrap()).unwrap();
        assert_eq!(tame, json!({ "model": "m", "messages": [], "temperature": 0, "max_tokens": 600 }));
    }

    #[test]
    fn ids_of_ours_are_short_where_they_must_be() {
        let ours = crate::ledger::mint_call_id();
        let id = &ours["call_".len()..][..9];
        let body = |id: &str| json!({ "tool_call_id": id, "content": "call_ of \"call_0123\"", "again": [id] }).to_string();
        let short = with_short_ids(&body(&ours).into());
        assert_eq!(short, body(id));
        let theirs = body("call_0123456789abcdef0123456Z");
        assert_eq!(with_short_ids(&theirs.clone().into()), theirs);
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
