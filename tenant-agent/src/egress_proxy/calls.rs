//! The tool calls that a model proposes, read out of its answer while it streams. Each gets an id of ours.

use crate::gateway::openclaw::Dialect;
use serde::Deserialize;
use serde_json::Value;

/// A proposed call, as far as the answer has come.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Proposed {
    place: (u64, u64),
    theirs: String,
    pub call_id: String,
    pub tool: String,
    pub arguments: String,
}

pub(super) struct Calls {
    dialect: Dialect,
    mint: fn() -> String,
    pub proposed: Vec<Proposed>,
}

/// A piece that proposes calls in a form that we cannot read or rename. It must not get through: under the provider's own
/// id a verdict could be used twice.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unreadable;

/// Without any of these, whatever the dialect, a piece proposes nothing. The last may hide one of the others.
pub(super) const WORDS: &[&str] = &["tool_calls", "tool_use", "partial_json", "call_id", "function_call", "tool_call", "functionCall", ESCAPE];
/// A character that is written as a code.
const ESCAPE: &str = "\\u00";
/// Calls of one answer; no model proposes more at once.
const CALLS_MAX: usize = 128;
/// Nobody nests an answer deeper.
const DEPTH_MAX: usize = 64;
/// Arguments of one call that are looked at; longer ones are no reason to excuse anything.
const ARGUMENTS_BYTES_MAX: usize = 1024 * 1024;

#[derive(Deserialize)]
struct Said {
    // OpenAI
    #[serde(default)]
    choices: Vec<Choice>,
    // Anthropic
    #[serde(default)]
    index: u64,
    #[serde(default)]
    content_block: Option<Block>,
    #[serde(default)]
    delta: Option<BlockDelta>,
    #[serde(default)]
    content: Vec<Block>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    index: u64,
    /// Streamed; `message` when whole.
    #[serde(default, alias = "message")]
    delta: Option<Delta>,
}

#[derive(Deserialize)]
struct Delta {
    #[serde(default)]
    tool_calls: Option<Vec<Call>>,
}

#[derive(Deserialize)]
struct Call {
    #[serde(default)]
    index: Option<u64>,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    function: Option<Function>,
}

#[derive(Deserialize)]
struct Function {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    arguments: Option<String>,
}

#[derive(Deserialize)]
struct Block {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    input: Value,
}

#[derive(Deserialize)]
struct BlockDelta {
    #[serde(default)]
    partial_json: Option<String>,
}

/// OpenAI's Responses: an event, or a whole answer.
#[derive(Deserialize)]
struct Event {
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    output_index: u64,
    #[serde(default)]
    item: Option<Item>,
    #[serde(default)]
    delta: Value,
    #[serde(default)]
    response: Option<Items>,
    #[serde(default)]
    output: Vec<Item>,
}

#[derive(Deserialize)]
struct Items {
    #[serde(default)]
    output: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    call_id: Option<String>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    arguments: Option<String>,
    /// A call without a schema.
    #[serde(default)]
    input: Option<String>,
}

impl Item {
    /// The provider runs some calls itself, and gives those no id to answer to.
    fn is_call(&self) -> bool {
        self.call_id.is_some() || matches!(self.kind.as_str(), "function_call" | "custom_tool_call")
    }
}

impl Calls {
    pub fn new(dialect: Dialect, mint: fn() -> String) -> Calls {
        Calls { dialect, mint, proposed: Vec::new() }
    }

    /// Reads one JSON text of the answer, and returns it with our ids in the place of theirs if it holds any.
    pub fn read(&mut self, json: &str) -> Result<Option<String>, Unreadable> {
        // Most pieces are text; only those that may matter are parsed, and those that may hide a word behind an escape.
        let matters = self.words().iter().any(|word| json.contains(word));
        if !matters && !json.contains(ESCAPE) {
            return Ok(None);
        }
        let renamed = match self.dialect {
            Dialect::OpenaiCompletions => parsed(json, matters)?.map(|said| self.openai(said)).transpose()?,
            Dialect::AnthropicMessages => parsed(json, matters)?.map(|said| self.anthropic(said)).transpose()?,
            Dialect::OpenaiResponses => parsed(json, matters)?.map(|event| self.responses(event)).transpose()?,
            Dialect::GoogleGenerativeAi => return self.named_within(json, "functionCall", matters),
            Dialect::Ollama => return self.named_within(json, "tool_calls", matters),
        };
        let renamed = renamed.unwrap_or_default();
        if renamed.is_empty() {
            return Ok(None);
        }
        // Whole strings are exchanged, so an id that is also part of a longer text leaves that text alone.
        let mut exchanged = json.to_owned();
        for (theirs, ours) in renamed {
            let spelt = Value::from(theirs).to_string();
            if !exchanged.contains(&spelt) {
                return Err(Unreadable);
            }
            exchanged = exchanged.replace(&spelt, &Value::from(ours).to_string());
        }
        Ok(Some(exchanged))
    }

    /// A piece without any of these proposes nothing.
    fn words(&self) -> &'static [&'static str] {
        match self.dialect {
            Dialect::OpenaiCompletions | Dialect::AnthropicMessages => &["tool_calls", "tool_use", "partial_json"],
            Dialect::OpenaiResponses => &["call_id", "function_call", "tool_call"],
            Dialect::GoogleGenerativeAi => &["functionCall"],
            Dialect::Ollama => &["tool_calls"],
        }
    }

    fn openai(&mut self, said: Said) -> Result<Vec<(String, String)>, Unreadable> {
        let mut renamed = Vec::new();
        for choice in said.choices {
            for (position, call) in choice.delta.into_iter().flat_map(|delta| delta.tool_calls.unwrap_or_default()).enumerate() {
                let place = (choice.index, call.index.unwrap_or(position as u64));
                let function = call.function.unwrap_or(Function { name: None, arguments: None });
                renamed.extend(self.add(place, call.id, function.name, function.arguments)?);
            }
        }
        Ok(renamed)
    }

    fn anthropic(&mut self, said: Said) -> Result<Vec<(String, String)>, Unreadable> {
        let mut renamed = Vec::new();
        let started = said.content_block.map(|block| (said.index, block, false));
        let whole = said.content.into_iter().enumerate().map(|(position, block)| (position as u64, block, true));
        for (index, block, whole) in started.into_iter().chain(whole).filter(|(_, block, _)| block.kind == "tool_use") {
            // Streamed, it comes in pieces behind an empty beginning; some send it whole all the same.
            let empty = block.input.as_object().is_none_or(serde_json::Map::is_empty);
            let input = (whole || !empty).then(|| block.input.to_string());
            renamed.extend(self.add((0, index), block.id, block.name, input)?);
        }
        if let Some(more) = said.delta.and_then(|delta| delta.partial_json) {
            renamed.extend(self.add((0, said.index), None, None, Some(more))?);
        }
        Ok(renamed)
    }

    /// Items are told of when they begin, in pieces, when they are done, and once more at the end.
    fn responses(&mut self, event: Event) -> Result<Vec<(String, String)>, Unreadable> {
        let mut renamed = Vec::new();
        let told = event.item.map(|item| (event.output_index, item));
        let whole = event.response.map(|response| response.output).unwrap_or_default().into_iter().chain(event.output);
        let whole = whole.enumerate().map(|(position, item)| (position as u64, item));
        for (position, item) in told.into_iter().chain(whole).filter(|(_, item)| item.is_call()) {
            let call_id = item.call_id.filter(|id| !id.is_empty()).ok_or(Unreadable)?;
            if let Some(call) = self.proposed.iter_mut().find(|call| call.theirs == call_id) {
                call.arguments.clear();
            }
            let place = self.proposed.iter().find(|call| call.theirs == call_id).map_or((0, position), |call| call.place);
            renamed.extend(self.add(place, Some(call_id), item.name, item.arguments.or(item.input))?);
        }
        let is_more = matches!(event.kind.as_str(), "response.function_call_arguments.delta" | "response.custom_tool_call_input.delta");
        if let (true, Value::String(more)) = (is_more, event.delta) {
            renamed.extend(self.add((0, event.output_index), None, None, Some(more))?);
        }
        Ok(renamed)
    }

    /// Dialects whose calls stand whole under a name, with an id or without one: each gets ours.
    fn named_within(&mut self, json: &str, name: &str, matters: bool) -> Result<Option<String>, Unreadable> {
        let Some(mut said) = parsed::<Value>(json, matters)? else { return Ok(None) };
        let before = self.proposed.len();
        self.name_all(&mut said, name, 0)?;
        Ok((self.proposed.len() > before).then(|| said.to_string()))
    }

    fn name_all(&mut self, said: &mut Value, name: &str, depth: usize) -> Result<(), Unreadable> {
        if depth > DEPTH_MAX {
            return Err(Unreadable);
        }
        match said {
            Value::Array(items) => items.iter_mut().try_for_each(|item| self.name_all(item, name, depth + 1)),
            Value::Object(fields) => fields.iter_mut().try_for_each(|(field, value)| match value {
                Value::Null => Ok(()),
                Value::Array(calls) if field == name => calls.iter_mut().try_for_each(|call| self.name_one(call)),
                call if field == name => self.name_one(call),
                other => self.name_all(other, name, depth + 1),
            }),
            _ => Ok(()),
        }
    }

    fn name_one(&mut self, call: &mut Value) -> Result<(), Unreadable> {
        let fields = call.as_object_mut().ok_or(Unreadable)?;
        // Arguments that come in pieces are asked for, and we never do.
        if fields.contains_key("partialArgs") || fields.contains_key("willContinue") {
            return Err(Unreadable);
        }
        let theirs = match fields.get("id") {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(id)) => id.clone(),
            Some(_) => return Err(Unreadable),
        };
        // Ollama has name and arguments one level deeper.
        let function = fields.get("function").and_then(Value::as_object).unwrap_or(fields);
        let tool = function.get("name").and_then(Value::as_str).ok_or(Unreadable)?.to_owned();
        let arguments = match function.get("args").or(function.get("arguments")) {
            None | Some(Value::Null) => "{}".to_owned(),
            Some(Value::String(text)) => text.clone(),
            Some(arguments) => arguments.to_string(),
        };
        if self.proposed.len() >= CALLS_MAX {
            return Err(Unreadable);
        }
        let call_id = (self.mint)();
        fields.insert("id".to_owned(), Value::from(call_id.as_str()));
        let arguments = if arguments.len() <= ARGUMENTS_BYTES_MAX { arguments } else { String::new() };
        self.proposed.push(Proposed { place: (0, self.proposed.len() as u64), theirs, call_id, tool, arguments });
        Ok(())
    }

    /// Adds what a piece says of the call at `place`; theirs and ours when it names the id.
    fn add(
        &mut self,
        place: (u64, u64),
        theirs: Option<String>,
        tool: Option<String>,
        arguments: Option<String>,
    ) -> Result<Option<(String, String)>, Unreadable> {
        let theirs = theirs.filter(|id| !id.is_empty());
        let same = |call: &Proposed| call.place == place && theirs.as_ref().is_none_or(|id| *id == call.theirs);
        let at = match self.proposed.iter().rposition(same) {
            Some(at) => at,
            None => {
                let Some(id) = theirs.clone() else { return Ok(None) };
                if self.proposed.len() >= CALLS_MAX {
                    return Err(Unreadable);
                }
                self.proposed.push(Proposed { place, theirs: id, call_id: (self.mint)(), tool: String::new(), arguments: String::new() });
                self.proposed.len() - 1
            }
        };
        let call = &mut self.proposed[at];
        call.tool.push_str(tool.as_deref().filter(|_| call.tool.is_empty()).unwrap_or_default());
        if let Some(more) = arguments.filter(|more| call.arguments.len() + more.len() <= ARGUMENTS_BYTES_MAX) {
            call.arguments.push_str(&more);
        }
        Ok(theirs.map(|theirs| (theirs, call.call_id.clone())))
    }
}

/// `None` for a piece that is no JSON and says nothing that matters.
fn parsed<'a, T: Deserialize<'a>>(json: &'a str, matters: bool) -> Result<Option<T>, Unreadable> {
    match serde_json::from_str(json) {
        Ok(said) => Ok(Some(said)),
        Err(_) if matters => Err(Unreadable),
        Err(_) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn minted() -> String {
        "call_0123456789abcdef01234567".to_owned()
    }

    #[test]
    fn no_dialect_has_a_word_of_its_own() {
        let dialects = [Dialect::OpenaiCompletions, Dialect::AnthropicMessages, Dialect::OpenaiResponses, Dialect::GoogleGenerativeAi, Dialect::Ollama];
        for word in dialects.iter().flat_map(|dialect| Calls::new(*dialect, minted).words()) {
            assert!(WORDS.contains(word), "lines with `{word}` would be passed over");
        }
    }

    #[test]
    fn openai_calls_are_put_together_and_renamed() {
        let mut calls = Calls::new(Dialect::OpenaiCompletions, minted);
        assert_eq!(calls.read(r#"{"choices":[{"delta":{"content":"tool_calls are text here"}}]}"#), Ok(None));
        let first =
            r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"call_A1","type":"function","function":{"name":"exec","arguments":""}}]}}]}"#;
        assert_eq!(calls.read(first), Ok(Some(first.replace("call_A1", &minted()))));
        for piece in [r#"{\"command\":"#, r#"\"echo call_A1\"}"#] {
            let json = format!(r#"{{"choices":[{{"delta":{{"tool_calls":[{{"index":0,"function":{{"arguments":"{piece}"}}}}]}}}}]}}"#);
            assert_eq!(calls.read(&json), Ok(None), "arguments are left alone");
        }
        assert_eq!((calls.proposed.len(), calls.proposed[0].tool.as_str(), calls.proposed[0].arguments.as_str()), (1, "exec", r#"{"command":"echo call_A1"}"#));
        let second = r#"{"choices":[{"delta":{"tool_calls":[{"index":1,"id":"call_A1","function":{"name":"read","arguments":"{}"}}]}}]}"#;
        assert!(calls.read(second).is_ok_and(|renamed| renamed.is_some()));
        assert_eq!(calls.proposed.len(), 2, "two calls with one id are two calls");
    }

    #[test]
    fn anthropic_calls_are_put_together_and_renamed() {
        let mut calls = Calls::new(Dialect::AnthropicMessages, minted);
        let start = r#"{"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"toolu_01","name":"read","input":{}}}"#;
        assert_eq!(calls.read(start), Ok(Some(start.replace("toolu_01", &minted()))));
        assert_eq!(calls.read(r#"{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{\"path\":\"a\"}"}}"#), Ok(None));
        assert_eq!(calls.proposed[0].arguments, r#"{"path":"a"}"#);
        let whole = r#"{"content":[{"type":"text","text":"x"},{"type":"tool_use","id":"toolu_02","name":"ls","input":{"path":"b"}}]}"#;
        assert_eq!(calls.read(whole), Ok(Some(whole.replace("toolu_02", &minted()))));
        assert_eq!(calls.proposed[1].arguments, r#"{"path":"b"}"#);
    }
    #[test]
    fn calls_of_responses_keep_one_id_through_all_events() {
        let mut calls = Calls::new(Dialect::OpenaiResponses, minted);
        let item = |arguments: &str| json!({ "type": "function_call", "id": "fc_9", "call_id": "call_A1", "name": "read", "arguments": arguments });
        let arguments = r#"{"path":"a"}"#;
        for event in [
            json!({ "type": "response.output_item.added", "output_index": 1, "item": item("") }),
            json!({ "type": "response.output_item.done", "output_index": 1, "item": item(arguments) }),
            json!({ "type": "response.completed", "response": { "output": [{ "type": "reasoning", "id": "rs_1", "encrypted_content": "x" }, item(arguments)] } }),
            json!({ "id": "resp_1", "output": [{ "type": "message" }, item(arguments)] }),
        ] {
            let text = event.to_string();
            assert_eq!(calls.read(&text), Ok(Some(text.replace("call_A1", &minted()))), "{text}");
            if event["type"] == "response.output_item.added" {
                for piece in [r#"{"path""#, r#":"a"}"#] {
                    let delta = json!({ "type": "response.function_call_arguments.delta", "output_index": 1, "item_id": "fc_9", "delta": piece }).to_string();
                    assert_eq!(calls.read(&delta), Ok(None));
                }
            }
            assert_eq!((calls.proposed.len(), calls.proposed[0].tool.as_str(), calls.proposed[0].arguments.as_str()), (1, "read", arguments), "{text}");
        }
        assert_eq!(calls.read(r#"{"type":"response.output_text.delta","output_index":0,"delta":"a function_call has a call_id"}"#), Ok(None));
        assert_eq!(calls.read(r#"{"type":"response.output_item.done","item":{"type":"web_search_call","id":"ws_1"}}"#), Ok(None), "the provider ran it");
        for odd in
            [r#"{"item":{"type":"function_call","id":"fc_1","name":"read"}}"#, r#"{"item":{"type":"function_call","call_id":7}}"#, r#"{"item":{"call_id":"#]
        {
            assert_eq!(calls.read(odd), Err(Unreadable), "{odd}");
        }
    }

    #[test]
    fn calls_without_an_id_get_ours() {
        let mut calls = Calls::new(Dialect::GoogleGenerativeAi, minted);
        assert_eq!(calls.read(r#"{"candidates":[{"content":{"parts":[{"text":"hi"}]}}]}"#), Ok(None));
        let said = r#"{"candidates":[{"content":{"parts":[{"functionCall":{"name":"read","args":{"path":"a"}},"thoughtSignature":"s=="},{"functionCall":{"id":"x","name":"ls"}}]}}]}"#;
        let renamed: Value = serde_json::from_str(&calls.read(said).unwrap().unwrap()).unwrap();
        let parts = &renamed["candidates"][0]["content"]["parts"];
        assert_eq!(parts[0], json!({ "functionCall": { "id": minted(), "name": "read", "args": { "path": "a" } }, "thoughtSignature": "s==" }));
        assert_eq!(parts[1]["functionCall"], json!({ "id": minted(), "name": "ls" }));
        let proposed: Vec<(&str, &str)> = calls.proposed.iter().map(|call| (call.tool.as_str(), call.arguments.as_str())).collect();
        assert_eq!(proposed, [("read", r#"{"path":"a"}"#), ("ls", "{}")]);
        for odd in [
            r#"{"functionCall":7}"#,
            r#"{"functionCall":{"args":{}}}"#,
            r#"{"functionCall":{"id":7,"name":"a"}}"#,
            r#"{"functionCall":{"name":"a","partialArgs":[]}}"#,
            r#"{"functionCall":"#,
        ] {
            assert_eq!(calls.read(odd), Err(Unreadable), "{odd}");
        }
        let mut calls = Calls::new(Dialect::Ollama, minted);
        let said = r#"{"message":{"role":"assistant","content":"","tool_calls":[{"function":{"name":"read","arguments":{"path":"a"}}}]},"done":false}"#;
        let renamed: Value = serde_json::from_str(&calls.read(said).unwrap().unwrap()).unwrap();
        assert_eq!(renamed["message"]["tool_calls"][0], json!({ "id": minted(), "function": { "name": "read", "arguments": { "path": "a" } } }));
        assert_eq!((calls.proposed[0].tool.as_str(), calls.proposed[0].arguments.as_str()), ("read", r#"{"path":"a"}"#));
        assert_eq!(calls.read(r#"{"message":{"tool_calls":[{"function":{}}]}}"#), Err(Unreadable));
        let many = json!({ "tool_calls": vec![json!({ "function": { "name": "read" } }); CALLS_MAX + 1] });
        assert_eq!(calls.read(&many.to_string()), Err(Unreadable));
    }

    proptest::proptest! {
        /// Whatever stands in an answer, no call of it gets through without an id of ours.
        #[test]
        fn no_call_hides(name in ".{0,20}", id in proptest::option::of(".{0,20}"), text in ".{0,40}", ollama in proptest::bool::ANY, deep in 0..6_usize) {
            let dialect = if ollama { Dialect::Ollama } else { Dialect::GoogleGenerativeAi };
            let mut call = json!({ "name": name });
            if let Some(id) = &id {
                call["id"] = json!(id);
            }
            let call = if ollama { json!({ "tool_calls": [call] }) } else { json!({ "functionCall": call }) };
            let said = (0..deep).fold(call, |inner, _| json!([{ "parts": inner, "text": text }]));
            let mut calls = Calls::new(dialect, minted);
            let renamed = calls.read(&said.to_string()).unwrap().unwrap();
            proptest::prop_assert!(renamed.contains(&minted()));
            proptest::prop_assert_eq!(&calls.proposed[0].tool, &name);
        }
    }
}
