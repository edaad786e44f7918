//! How many tokens an answer cost, as the provider says in it. Reads along; never changes a byte.

use crate::gateway::openclaw::Dialect;
use crate::metering::Tokens;
use serde::Deserialize;

/// Sums what the pieces of an answer say.
pub(super) struct Counter {
    dialect: Dialect,
    tokens: Tokens,
    input_known: bool,
    output_known: bool,
    finished: bool,
}

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
        Counter { dialect, tokens: Tokens::default(), input_known: false, output_known: false, finished: false }
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

    /// Reads the data of one event.
    pub fn read(&mut self, data: &str) {
        if data == "[DONE]" {
            self.finished = true;
            return;
        }
        // Most events are text; only those that may matter are parsed.
        if !data.contains("usage") && !data.contains("message_stop") {
            return;
        }
        let Ok(said) = serde_json::from_str::<Said>(data) else { return };
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

#[cfg(test)]
mod tests {
    use super::*;

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
