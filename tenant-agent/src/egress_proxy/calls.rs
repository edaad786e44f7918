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

/// Calls of one answer; no model proposes more at once.
const CALLS_MAX: usize = 128;
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

impl Calls {
    pub fn new(dialect: Dialect, mint: fn() -> String) -> Calls {
        Calls { dialect, mint, proposed: Vec::new() }
    }

    /// Reads one JSON text of the answer, and returns it with our ids in the place of theirs if it holds any.
    pub fn read(&mut self, json: &str) -> Result<Option<String>, Unreadable> {
        // Most pieces are text; only those that may matter are parsed, and those that may hide a word behind an escape.
        let matters = ["tool_calls", "tool_use", "partial_json"].iter().any(|word| json.contains(word));
        if !matters && !json.contains("\\u00") {
            return Ok(None);
        }
        let said: Said = match serde_json::from_str(json) {
            Ok(said) => said,
            Err(_) if matters => return Err(Unreadable),
            Err(_) => return Ok(None),
        };
        let renamed = match self.dialect {
            Dialect::OpenaiCompletions => self.openai(said),
            Dialect::AnthropicMessages => self.anthropic(said),
        }?;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn minted() -> String {
        "call_0123456789abcdef01234567".to_owned()
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
}
