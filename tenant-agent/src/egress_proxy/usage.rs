//! How many tokens an answer cost, as the provider says in it. Reads along; never changes a byte.

use crate::gateway::openclaw::Dialect;
use crate::metering::Tokens;
use serde::Deserialize;

/// Follows a stream of server-sent events.
pub(super) struct Counter {
    dialect: Dialect,
    line: Vec<u8>,
    /// The rest of a line that is too long to be one with usage.
    skipping: bool,
    tokens: Tokens,
    input_known: bool,
    output_known: bool,
    finished: bool,
}

/// Lines with usage are short; a longer one is text or an image.
const LINE_BYTES_MAX: usize = 64 * 1024;

#[derive(Default, Deserialize)]
struct Usage {
    // OpenAI
    prompt_tokens: Option<i64>,
    completion_tokens: Option<i64>,
    prompt_tokens_details: Option<Details>,
    // Anthropic
    input_tokens: Option<i64>,
    output_tokens: Option<i64>,
    cache_creation_input_tokens: Option<i64>,
    cache_read_input_tokens: Option<i64>,
}

#[derive(Default, Deserialize)]
struct Details {
    cached_tokens: Option<i64>,
}

#[derive(Deserialize)]
struct Said {
    #[serde(default, rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    usage: Option<Usage>,
    #[serde(default)]
    message: Option<Started>,
}

#[derive(Deserialize)]
struct Started {
    #[serde(default)]
    usage: Option<Usage>,
}

impl Counter {
    pub fn new(dialect: Dialect) -> Counter {
        Counter { dialect, line: Vec::new(), skipping: false, tokens: Tokens::default(), input_known: false, output_known: false, finished: false }
    }

    pub fn feed(&mut self, piece: &[u8]) {
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            let ends = part.ends_with(b"\n");
            if !self.skipping {
                self.line.extend_from_slice(part);
                self.skipping = self.line.len() > LINE_BYTES_MAX;
            }
            if ends {
                let line = std::mem::take(&mut self.line);
                if !std::mem::take(&mut self.skipping) {
                    self.read(line.trim_ascii());
                }
            }
        }
    }

    /// The event that ends an answer has come.
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    /// Input and output have both been said.
    pub fn is_complete(&self) -> bool {
        self.input_known && self.output_known
    }

    pub fn tokens(&self) -> Tokens {
        self.tokens
    }

    fn read(&mut self, line: &[u8]) {
        let Some(data) = line.strip_prefix(b"data:") else { return };
        let data = data.trim_ascii();
        if data == b"[DONE]" {
            self.finished = true;
            return;
        }
        // Most lines are text; only those that may matter are parsed.
        if !contains(data, b"usage") && !contains(data, b"message_stop") {
            return;
        }
        let Ok(said) = serde_json::from_slice::<Said>(data) else { return };
        match self.dialect {
            Dialect::OpenaiCompletions => {
                if let Some(usage) = said.usage {
                    self.tokens = openai(&usage);
                    (self.input_known, self.output_known) = (usage.prompt_tokens.is_some(), usage.completion_tokens.is_some());
                }
            }
            Dialect::AnthropicMessages => {
                self.finished |= said.kind.as_deref() == Some("message_stop");
                if let Some(usage) = said.message.and_then(|message| message.usage) {
                    self.tokens = anthropic(&usage);
                    self.input_known = usage.input_tokens.is_some();
                }
                if let Some(usage) = said.usage {
                    // Counted from the beginning each time, and input is repeated only by some.
                    let now = anthropic(&usage);
                    self.output_known |= usage.output_tokens.is_some();
                    self.tokens.output = self.tokens.output.max(now.output);
                    if usage.input_tokens.is_some() {
                        (self.tokens.input, self.tokens.cached, self.input_known) =
                            (now.input.max(self.tokens.input), now.cached.max(self.tokens.cached), true);
                    }
                }
            }
        }
    }
}

/// The tokens of an answer that was not streamed.
pub(super) fn of_answer(dialect: Dialect, bytes: &[u8]) -> Option<Tokens> {
    let usage = serde_json::from_slice::<Said>(bytes).ok()?.usage?;
    let (tokens, known) = match dialect {
        Dialect::OpenaiCompletions => (openai(&usage), usage.prompt_tokens.is_some() && usage.completion_tokens.is_some()),
        Dialect::AnthropicMessages => (anthropic(&usage), usage.input_tokens.is_some() && usage.output_tokens.is_some()),
    };
    known.then_some(tokens)
}

fn openai(usage: &Usage) -> Tokens {
    let cached = usage.prompt_tokens_details.as_ref().and_then(|details| details.cached_tokens);
    Tokens { input: count(usage.prompt_tokens), cached: count(cached), output: count(usage.completion_tokens) }
}

/// Anthropic says fresh, cached and newly cached input apart.
fn anthropic(usage: &Usage) -> Tokens {
    let cached = count(usage.cache_read_input_tokens);
    Tokens { input: count(usage.input_tokens) + count(usage.cache_creation_input_tokens) + cached, cached, output: count(usage.output_tokens) }
}

/// A provider that says nonsense must not make the sums wrap.
fn count(tokens: Option<i64>) -> i64 {
    tokens.unwrap_or_default().clamp(0, TOKENS_MAX)
}

/// Far more than any model takes or gives.
const TOKENS_MAX: i64 = 100_000_000;

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|part| part == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPENAI: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"hi \\\"usage\\\"\"}}]}\n\n\
        data: {\"choices\":[],\"usage\":{\"prompt_tokens\":123,\"completion_tokens\":45,\"prompt_tokens_details\":{\"cached_tokens\":23}}}\n\ndata: [DONE]\n\n";
    const ANTHROPIC: &str = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":100,\"cache_read_input_tokens\":23,\"output_tokens\":1}}}\n\n\
        event: ping\ndata: {\"type\":\"ping\"}\n\nevent: message_delta\r\ndata: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":45}}\r\n\r\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";

    #[test]
    fn counts_are_the_same_wherever_the_stream_is_cut() {
        for (dialect, text) in [(Dialect::OpenaiCompletions, OPENAI), (Dialect::AnthropicMessages, ANTHROPIC)] {
            for cut in 0..text.len() {
                let mut counter = Counter::new(dialect);
                let (before, after) = text.as_bytes().split_at(cut);
                counter.feed(before);
                let ended = text[..cut].ends_with("[DONE]\n") || text[..cut].ends_with("_stop\"}\n");
                assert_eq!(counter.is_finished(), ended, "cut at {cut}");
                counter.feed(after);
                assert_eq!(
                    (counter.tokens(), counter.is_complete(), counter.is_finished()),
                    (Tokens { input: 123, cached: 23, output: 45 }, true, true),
                    "cut at {cut}"
                );
            }
        }
    }

    #[test]
    fn a_stream_that_breaks_off_is_not_complete() {
        let mut counter = Counter::new(Dialect::AnthropicMessages);
        counter.feed(ANTHROPIC.split_inclusive("\n\n").next().unwrap().as_bytes());
        assert_eq!((counter.tokens().input, counter.is_complete()), (123, false));
        let mut long = Counter::new(Dialect::OpenaiCompletions);
        long.feed("data: x".repeat(LINE_BYTES_MAX).as_bytes());
        long.feed(b"\n");
        long.feed(OPENAI.as_bytes());
        assert!(long.is_complete() && long.line.capacity() <= LINE_BYTES_MAX * 8);
    }

    #[test]
    fn whole_answers_are_read() {
        let openai = br#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}"#;
        assert_eq!(of_answer(Dialect::OpenaiCompletions, openai), Some(Tokens { input: 3, cached: 0, output: 4 }));
        let anthropic = br#"{"type":"message","usage":{"input_tokens":3,"output_tokens":-4}}"#;
        assert_eq!(of_answer(Dialect::AnthropicMessages, anthropic), Some(Tokens { input: 3, cached: 0, output: 0 }));
        for bad in [&b"{}"[..], b"", b"{\"usage\":7}", b"{\"usage\":{}}"] {
            assert_eq!(of_answer(Dialect::OpenaiCompletions, bad), None);
        }
    }
}
