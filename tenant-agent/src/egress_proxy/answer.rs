//! A provider's answer on its way back: counted, its proposed calls noted and renamed, every other byte as it came.

use super::calls::Calls;
use super::request::Tools;
use super::usage::{self, Counter};
use crate::gateway::openclaw::Dialect;
use crate::ledger::Proposal;
use crate::metering::Counted;
use axum::body::Bytes;

pub(super) struct Answer {
    dialect: Dialect,
    counter: Counter,
    calls: Calls,
    /// The beginning of a line whose end has not come. Events end with a line, so holding it back delays nobody.
    line: Vec<u8>,
    hides_usage: bool,
    /// An event was left out, and the empty line that ends it goes with it.
    is_left_out: bool,
}

const BOM: &[u8] = "\u{feff}".as_bytes();

/// A line holds at most one event, and an event at most one call with its arguments. A longer one breaks the answer off.
const LINE_BYTES_MAX: usize = 8 * 1024 * 1024;

impl Answer {
    pub fn new(dialect: Dialect, mint: fn() -> String) -> Answer {
        Answer { dialect, counter: Counter::default(), calls: Calls::new(dialect, mint), line: Vec::new(), hides_usage: false, is_left_out: false }
    }

    /// The event that brings nothing but the usage is ours: the request did not ask for it, we did.
    pub fn hiding_usage(mut self, hides_usage: bool) -> Answer {
        self.hides_usage = hides_usage;
        self
    }

    /// The whole lines that have come; `None` when one is longer than any answer's or proposes calls in a form that we cannot rename.
    pub fn feed(&mut self, piece: &[u8]) -> Option<Bytes> {
        let Some(end) = memchr::memrchr(b'\n', piece).map(|at| at + 1) else {
            self.line.extend_from_slice(piece);
            return (self.line.len() <= LINE_BYTES_MAX).then(Bytes::new);
        };
        let mut come = std::mem::take(&mut self.line);
        come.extend_from_slice(&piece[..end]);
        self.line.extend_from_slice(&piece[end..]);
        // One walk over all lines tells which of them say more than text.
        let (mut lines, mut at) = (Vec::with_capacity(come.len()), 0);
        let mut signs = usage::SIGNS.find_iter(&come).peekable();
        for line in come.split_inclusive(|byte| *byte == b'\n') {
            at += line.len();
            let of_line = std::iter::from_fn(|| signs.next_if(|sign| sign.start() < at)).map(|sign| (sign.pattern().as_usize(), sign.end() + line.len() - at));
            let text_bytes = usage::text_bytes(line, of_line);
            match text_bytes.filter(|_| !self.is_left_out && line.len() <= LINE_BYTES_MAX && !line.starts_with(BOM)) {
                Some(text_bytes) => {
                    if self.is_lines() || line.starts_with(b"data:") {
                        self.counter.add_text(text_bytes);
                    }
                    lines.extend_from_slice(line);
                }
                None => lines.extend_from_slice(&self.read(line.to_vec())?),
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
        let json = std::str::from_utf8(&bytes).ok().filter(|json| serde_json::from_str::<serde::de::IgnoredAny>(json).is_ok());
        self.counter.read_whole(json.unwrap_or_default());
        match json {
            // A refusal proposes nothing, whatever words it uses.
            Some(_) if !is_success => Some(bytes),
            Some(json) => self.calls.read(json).ok().map(|renamed| renamed.map_or_else(|| bytes.clone(), Bytes::from)),
            None => (!is_success).then_some(bytes),
        }
    }

    /// Its stream is lines of JSON, and not of events.
    pub fn is_lines(&self) -> bool {
        self.dialect == Dialect::Ollama
    }

    /// The event that ends an answer has come.
    pub fn is_finished(&self) -> bool {
        self.counter.is_finished()
    }

    /// What it used. `ended`: it came to its end; `request_bytes`: what stands in for input that nobody counted.
    pub fn counted(&self, ended: bool, request_bytes: usize) -> Counted {
        self.counter.counted(ended, request_bytes)
    }

    /// The calls that it proposed.
    pub fn proposals(&self, tools: &Tools) -> Vec<Proposal> {
        self.calls.proposed.iter().map(|call| tools.proposal(&call.call_id, &call.tool, &call.arguments)).collect()
    }

    fn read(&mut self, line: Vec<u8>) -> Option<Vec<u8>> {
        let text = String::from_utf8_lossy(&line);
        if std::mem::take(&mut self.is_left_out) && text.trim().is_empty() {
            return Some(Vec::new());
        }
        let text = text.trim_start_matches('\u{feff}');
        // Ollama's lines are JSON as they are.
        let is_bare = self.is_lines() && !text.trim().is_empty();
        let Some(data) = (if is_bare { Some(text) } else { text.strip_prefix("data:") }).map(str::trim) else { return Some(line) };
        let brings_only_usage = self.counter.read(data);
        if self.hides_usage && brings_only_usage {
            self.is_left_out = true;
            return Some(Vec::new());
        }
        match self.calls.read(data) {
            // A line keeps its end: Google's own client takes a mixture of ends for no end at all.
            Ok(Some(renamed)) => Some(format!("{}{renamed}{}", if is_bare { "" } else { "data: " }, line_end(text)).into_bytes()),
            Ok(None) => Some(line),
            Err(_) => None,
        }
    }
}

fn line_end(line: &str) -> &'static str {
    if line.ends_with("\r\n") { "\r\n" } else { "\n" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metering::Quality;
    use policy::budget::Consumed;
    use proptest::prelude::*;

    const OPENAI: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"hi \\\"usage\\\"\"}}]}\n\n\
        data: {\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"call_A1\",\"function\":{\"name\":\"exec\",\"arguments\":\"{}\"}}]}}]}\n\n\
        data: {\"choices\":[],\"usage\":{\"prompt_tokens\":123,\"completion_tokens\":45,\"prompt_tokens_details\":{\"cached_tokens\":23}}}\n\ndata: [DONE]\n\n";
    const RESPONSES: &str = "event: response.output_item.done\ndata: {\"type\":\"response.output_item.done\",\"output_index\":0,\"item\":{\"type\":\"function_call\",\"id\":\"fc_1\",\"call_id\":\"call_A1\",\"name\":\"exec\",\"arguments\":\"{}\"}}\n\n\
        event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"output\":[],\"usage\":{\"input_tokens\":123,\"input_tokens_details\":{\"cached_tokens\":23},\"output_tokens\":45}}}\n\n";
    const GOOGLE: &str = "data: {\"candidates\":[{\"content\":{\"parts\":[{\"functionCall\":{\"args\":{},\"id\":\"call_A1\",\"name\":\"exec\"}}]}}],\"usageMetadata\":{\"promptTokenCount\":123}}\r\n\r\n\
        data: {\"candidates\":[{\"finishReason\":\"STOP\"}],\"usageMetadata\":{\"promptTokenCount\":123,\"cachedContentTokenCount\":23,\"candidatesTokenCount\":45,\"totalTokenCount\":168}}\r\n\r\n";
    const OLLAMA: &str = "{\"done\":false,\"message\":{\"content\":\"hü\"}}\n{\"message\":{\"tool_calls\":[{\"function\":{\"arguments\":{},\"name\":\"exec\"},\"id\":\"call_A1\"}]}}\n\
        {\"message\":{\"content\":\"\"},\"done\":true,\"prompt_eval_count\":123,\"prompt_eval_cached_count\":23,\"eval_count\":45}\n";
    const ANTHROPIC: &str = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":100,\"cache_read_input_tokens\":23,\"output_tokens\":1}}}\n\n\
        event: ping\ndata: {\"type\":\"ping\"}\n\n\
        data: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"tool_use\",\"id\":\"call_A1\",\"name\":\"exec\",\"input\":{}}}\n\n\
        event: message_delta\r\ndata: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":45}}\r\n\r\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";

    fn minted() -> String {
        "call_000000000000000000000000".to_owned()
    }

    #[test]
    fn an_answer_is_the_same_wherever_the_stream_is_cut() {
        let dialects = [
            (Dialect::OpenaiCompletions, OPENAI),
            (Dialect::AnthropicMessages, ANTHROPIC),
            (Dialect::OpenaiResponses, RESPONSES),
            (Dialect::GoogleGenerativeAi, GOOGLE),
            (Dialect::Ollama, OLLAMA),
        ];
        for (dialect, text) in dialects {
            for cut in 0..=text.len() {
                let mut answer = Answer::new(dialect, minted);
                let (before, after) = text.as_bytes().split_at(cut);
                let mut out = answer.feed(before).unwrap().to_vec();
                let ends = ["[DONE]", "\"message_stop\"", "response.completed\",\"resp", "STOP", "\"done\":true"];
                let ended = before.ends_with(b"\n") && ends.iter().any(|end| String::from_utf8_lossy(before).contains(end));
                assert!(answer.is_finished() || !ended, "cut at {cut}");
                out.extend_from_slice(&answer.feed(after).unwrap());
                out.extend_from_slice(&answer.rest().unwrap());
                let counted = answer.counted(true, 0);
                let consumed = Consumed { input: 100, cache_read: 23, output: 45, ..Consumed::default() };
                assert_eq!((counted.consumed, counted.quality, answer.is_finished()), (consumed, Quality::Exact, true), "cut at {cut}");
                let expected = text.replace("call_A1", &minted());
                assert_eq!(String::from_utf8(out).unwrap(), expected, "cut at {cut}");
                assert_eq!(answer.proposals(&Tools::default()).len(), 1);
            }
        }
    }

    #[test]
    fn a_stream_that_breaks_off_is_not_complete() {
        let mut answer = Answer::new(Dialect::AnthropicMessages, minted);
        answer.feed(ANTHROPIC.split_inclusive("\n\n").next().unwrap().as_bytes());
        let counted = answer.counted(false, 0);
        assert_eq!((counted.consumed.input_whole(), counted.quality), (123, Quality::Partial));
    }

    #[test]
    fn usage_that_only_we_asked_for_is_left_out_wherever_the_stream_is_cut() {
        let usage = OPENAI.split_inclusive("\n\n").find(|event| event.contains("\"usage\":{")).unwrap();
        for cut in 0..=OPENAI.len() {
            let mut answer = Answer::new(Dialect::OpenaiCompletions, minted).hiding_usage(true);
            let (before, after) = OPENAI.as_bytes().split_at(cut);
            let out = [answer.feed(before).unwrap(), answer.feed(after).unwrap(), answer.rest().unwrap()].concat();
            assert_eq!(String::from_utf8(out).unwrap(), OPENAI.replace(usage, "").replace("call_A1", &minted()), "cut at {cut}");
            assert_eq!(answer.counted(true, 0).quality, Quality::Exact, "cut at {cut}");
        }
        let with_text = "data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":1}}\n\n";
        let mut answer = Answer::new(Dialect::OpenaiCompletions, minted).hiding_usage(true);
        assert_eq!(answer.feed(with_text.as_bytes()).unwrap(), with_text, "what brings text too gets through");
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
