//! A provider's answer on its way back: counted, its proposed calls noted and renamed, every other byte as it came.

use super::calls::Calls;
use super::request::Tools;
use super::usage::{self, Counter};
use crate::gateway::openclaw::Dialect;
use crate::ledger::Proposal;
use crate::metering::Tokens;
use axum::body::Bytes;

pub(super) struct Answer {
    dialect: Dialect,
    counter: Counter,
    calls: Calls,
    /// The beginning of a line whose end has not come. Events end with a line, so holding it back delays nobody.
    line: Vec<u8>,
    whole: Option<Tokens>,
}

/// A line holds at most one event, and an event at most one call with its arguments. A longer one breaks the answer off.
const LINE_BYTES_MAX: usize = 8 * 1024 * 1024;

impl Answer {
    pub fn new(dialect: Dialect, mint: fn() -> String) -> Answer {
        Answer { dialect, counter: Counter::new(dialect), calls: Calls::new(dialect, mint), line: Vec::new(), whole: None }
    }

    /// The whole lines that have come; `None` when one is longer than any answer's or proposes calls in a form that we cannot rename.
    pub fn feed(&mut self, piece: &[u8]) -> Option<Bytes> {
        let mut lines = Vec::with_capacity(piece.len());
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(part);
            if part.ends_with(b"\n") {
                let line = std::mem::take(&mut self.line);
                lines.extend_from_slice(&self.read(line)?);
            }
        }
        (self.line.len() <= LINE_BYTES_MAX).then(|| lines.into())
    }

    /// What is left when the stream has ended.
    pub fn rest(&mut self) -> Option<Bytes> {
        let line = std::mem::take(&mut self.line);
        self.read(line).map(Bytes::from)
    }

    /// An answer that was not streamed; `None` when one that should be read cannot be.
    pub fn whole(&mut self, bytes: Bytes, is_success: bool) -> Option<Bytes> {
        self.whole = usage::of_answer(self.dialect, &bytes);
        let json = std::str::from_utf8(&bytes).ok().filter(|json| serde_json::from_str::<serde::de::IgnoredAny>(json).is_ok());
        match json {
            // A refusal proposes nothing, whatever words it uses.
            Some(_) if !is_success => Some(bytes),
            Some(json) => self.calls.read(json).ok().map(|renamed| renamed.map_or_else(|| bytes.clone(), Bytes::from)),
            None => (!is_success).then_some(bytes),
        }
    }

    /// The event that ends an answer has come.
    pub fn is_finished(&self) -> bool {
        self.counter.is_finished()
    }

    /// The provider has said what it cost.
    pub fn is_complete(&self) -> bool {
        self.whole.is_some() || self.counter.is_complete()
    }

    pub fn tokens(&self) -> Tokens {
        self.whole.unwrap_or_else(|| self.counter.tokens())
    }

    /// The calls that it proposed.
    pub fn proposals(&self, tools: &Tools) -> Vec<Proposal> {
        self.calls.proposed.iter().map(|call| tools.proposal(&call.call_id, &call.tool, &call.arguments)).collect()
    }

    fn read(&mut self, line: Vec<u8>) -> Option<Vec<u8>> {
        let text = String::from_utf8_lossy(&line);
        let Some(data) = text.trim_start_matches('\u{feff}').strip_prefix("data:").map(str::trim) else { return Some(line) };
        self.counter.read(data);
        match self.calls.read(data) {
            Ok(Some(renamed)) => Some(format!("data: {renamed}\n").into_bytes()),
            Ok(None) => Some(line),
            Err(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OPENAI: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"hi \\\"usage\\\"\"}}]}\n\n\
        data: {\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"call_A1\",\"function\":{\"name\":\"exec\",\"arguments\":\"{}\"}}]}}]}\n\n\
        data: {\"choices\":[],\"usage\":{\"prompt_tokens\":123,\"completion_tokens\":45,\"prompt_tokens_details\":{\"cached_tokens\":23}}}\n\ndata: [DONE]\n\n";
    const ANTHROPIC: &str = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":100,\"cache_read_input_tokens\":23,\"output_tokens\":1}}}\n\n\
        event: ping\ndata: {\"type\":\"ping\"}\n\n\
        data: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"tool_use\",\"id\":\"call_A1\",\"name\":\"exec\",\"input\":{}}}\n\n\
        event: message_delta\r\ndata: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":45}}\r\n\r\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";

    fn minted() -> String {
        "call_000000000000000000000000".to_owned()
    }

    #[test]
    fn an_answer_is_the_same_wherever_the_stream_is_cut() {
        for (dialect, text) in [(Dialect::OpenaiCompletions, OPENAI), (Dialect::AnthropicMessages, ANTHROPIC)] {
            for cut in 0..=text.len() {
                let mut answer = Answer::new(dialect, minted);
                let (before, after) = text.as_bytes().split_at(cut);
                let mut out = answer.feed(before).unwrap().to_vec();
                let ended = text[..cut].ends_with('\n') && (text[..cut].contains("[DONE]") || text[..cut].contains("\"message_stop\""));
                assert!(answer.is_finished() || !ended, "cut at {cut}");
                out.extend_from_slice(&answer.feed(after).unwrap());
                out.extend_from_slice(&answer.rest().unwrap());
                assert_eq!(
                    (answer.tokens(), answer.is_complete(), answer.is_finished()),
                    (Tokens { input: 123, cached: 23, output: 45 }, true, true),
                    "cut at {cut}"
                );
                assert_eq!(String::from_utf8(out).unwrap(), text.replace("call_A1", &minted()), "cut at {cut}");
                assert_eq!(answer.proposals(&Tools::default()).len(), 1);
            }
        }
    }

    #[test]
    fn a_stream_that_breaks_off_is_not_complete() {
        let mut answer = Answer::new(Dialect::AnthropicMessages, minted);
        answer.feed(ANTHROPIC.split_inclusive("\n\n").next().unwrap().as_bytes());
        assert_eq!((answer.tokens().input, answer.is_complete()), (123, false));
    }

    proptest! {
        /// Foreign bytes, cut anywhere, come out as they went in when they propose no call.
        #[test]
        fn other_bytes_are_left_alone(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..20), anthropic in any::<bool>()) {
            let mut answer = Answer::new(if anthropic { Dialect::AnthropicMessages } else { Dialect::OpenaiCompletions }, minted);
            let mut out = Vec::new();
            for piece in &pieces {
                out.extend_from_slice(&answer.feed(piece).unwrap());
            }
            out.extend_from_slice(&answer.rest().unwrap());
            prop_assert_eq!(out, pieces.concat());
        }

        /// Whatever a provider says of a call, its id never gets through.
        #[test]
        fn no_id_of_theirs_gets_through(id in "[A-Za-z0-9_.:|-]{8,40}", name in ".{0,12}", arguments in ".{0,40}", cut in 0..200usize) {
            let call = serde_json::json!({ "choices": [{ "delta": { "tool_calls": [{ "index": 0, "id": id, "function": { "name": name, "arguments": arguments } }] } }] });
            let line = format!("data: {call}\n\n");
            let (before, after) = line.as_bytes().split_at(cut.min(line.len()));
            let mut answer = Answer::new(Dialect::OpenaiCompletions, minted);
            let out = [answer.feed(before).unwrap(), answer.feed(after).unwrap(), answer.rest().unwrap()].concat();
            let out: serde_json::Value = serde_json::from_slice(out.trim_ascii().strip_prefix(b"data: ").unwrap()).unwrap();
            let said = &out["choices"][0]["delta"]["tool_calls"][0];
            prop_assert_eq!(&said["id"], &serde_json::json!(minted()));
            prop_assert_eq!(&said["function"]["name"], &serde_json::json!(name));
        }
    }

    #[test]
    fn calls_that_cannot_be_renamed_break_the_answer_off() {
        for odd in [
            r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"id":7,"function":{"name":"exec"}}]}}]}"#,
            r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"call_A1","function":{"name":"exec","arguments":{"a":1}}}]}}]}"#,
            r#"{"choices":[{"delta":{"tool_calls":{"id":"call_A1"}}}]}"#,
            r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"call_\u0041BCDEF","function":{"name":"exec"}}]}}]}"#,
            r#"{"choices":[{"delta":{"tool_calls":[{"id":"call_A1"}]}"#,
        ] {
            let mut answer = Answer::new(Dialect::OpenaiCompletions, minted);
            let out = answer.feed(format!("data: {odd}\n\n").as_bytes());
            assert!(out.as_ref().is_none_or(|out| !out.windows(5).any(|part| part == b"call_") || String::from_utf8_lossy(out).contains(&minted())), "{odd}");
        }
        let mut whole = Answer::new(Dialect::OpenaiCompletions, minted);
        assert_eq!(whole.whole(Bytes::from_static(b"data: {}\n\n"), true), None, "a stream in disguise");
        assert_eq!(whole.whole(Bytes::from_static(b"busy"), false), Some(Bytes::from_static(b"busy")), "a refusal may be text");
    }

    #[test]
    fn an_endless_line_breaks_the_answer_off() {
        let mut answer = Answer::new(Dialect::OpenaiCompletions, minted);
        let piece = vec![b'x'; 1024 * 1024];
        assert!((0..9).map(|_| answer.feed(&piece)).any(|lines| lines.is_none()));
    }
}
