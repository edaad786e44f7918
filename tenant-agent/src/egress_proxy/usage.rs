//! What an answer consumed, as the provider says in it. Reads along; never changes a byte.
//!
//! Providers say it in four spellings and differ in what contains what: whether input includes what a cache gave, whether
//! output includes thoughts, whether a later word adds to an earlier one or takes its place. The spelling says which it is,
//! so one reader serves every dialect. What nobody said is reckoned from the bytes, and marked as reckoned.
//!
//! Limits: only JSON in one line; of a stream that breaks off only the text that came is known.

use super::calls;
use crate::metering::{Counted, Quality};
use aho_corasick::{AhoCorasick, MatchKind};
use policy::budget::{Consumed, about_tokens};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use std::sync::LazyLock;

/// Puts together what the pieces of an answer say.
#[derive(Default)]
pub(super) struct Counter {
    input: Option<Input>,
    output: Option<i64>,
    reasoning: i64,
    tool_requests: i64,
    provider_cost: Option<i64>,
    /// Counts grow with each piece, so only the last one is whole.
    is_growing: bool,
    is_finished: bool,
    /// The provider said in the answer that it failed.
    is_failed: bool,
    /// Bytes of text that were seen, for an answer whose end does not come.
    text_bytes: usize,
}

/// Kinds of input that contain nothing of one another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Input {
    fresh: i64,
    cache_read: i64,
    cache_write_short: i64,
    cache_write_long: i64,
}

impl Input {
    fn is_nothing(&self) -> bool {
        *self == Input::default()
    }
}

/// What one piece says.
#[derive(Default)]
struct Reading {
    input: Option<Input>,
    output: Option<i64>,
    reasoning: i64,
    tool_requests: i64,
    provider_cost: Option<i64>,
}

/// The parts of a piece that may say something. The rest of it is passed over unread.
#[derive(Deserialize)]
struct Said<'a> {
    #[serde(default, rename = "type", borrow)]
    kind: Option<&'a RawValue>,
    #[serde(default, borrow)]
    usage: Option<&'a RawValue>,
    #[serde(default, borrow)]
    error: Option<&'a RawValue>,
    /// Anthropic's beginning.
    #[serde(default, borrow)]
    message: Option<&'a RawValue>,
    /// OpenAI's Responses.
    #[serde(default, borrow)]
    response: Option<&'a RawValue>,
    #[serde(default, borrow)]
    tool_usage: Option<&'a RawValue>,
    #[serde(default, borrow)]
    choices: Option<&'a RawValue>,
    #[serde(default, borrow, rename = "usageMetadata")]
    metadata: Option<&'a RawValue>,
    #[serde(default, borrow)]
    candidates: Option<&'a RawValue>,
    // Ollama
    #[serde(default)]
    done: Option<bool>,
    #[serde(default)]
    prompt_eval_count: Option<i64>,
    #[serde(default)]
    prompt_eval_cached_count: Option<i64>,
    #[serde(default)]
    eval_count: Option<i64>,
}

#[derive(Deserialize)]
struct Inner<'a> {
    #[serde(default, borrow)]
    usage: Option<&'a RawValue>,
    #[serde(default, borrow)]
    tool_usage: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Ended<'a> {
    #[serde(default, borrow, alias = "finishReason")]
    finish_reason: Option<&'a RawValue>,
}

/// Far more than any model takes or gives; a provider that says nonsense must not make the sums wrap.
const TOKENS_MAX: i64 = 100_000_000;
/// A thousand dollars for one call.
const COST_NANO_USD_MAX: i64 = 1_000_000_000_000;
/// Ten of xAI's ticks are a billionth of a dollar.
const TICKS_PER_NANO_USD: i64 = 10;
/// Words that stand before text in the pieces of a stream.
const TEXTS: [&str; 8] =
    [r#""content":"#, r#""text":"#, r#""delta":"#, r#""arguments":"#, PARTIAL_JSON, r#""thinking":"#, r#""reasoning_content":"#, r#""response":"#];
/// One of them has a word of calls within it.
const PARTIAL_JSON: &str = r#""partial_json":"#;
/// Words without which a piece says nothing of what was used.
const MATTERS: [&str; 7] = ["usage", "message_stop", r#""error""#, "eval_count", r#""done":true"#, r#""done": true"#, "[DONE]"];

/// What lines are looked over for: the words above, and those without which they propose no call. First come the words before
/// text, so that a sign's number says what it is.
pub(super) static SIGNS: LazyLock<AhoCorasick> = LazyLock::new(|| {
    let words = TEXTS.iter().chain(&MATTERS).chain(calls::WORDS);
    AhoCorasick::builder().match_kind(MatchKind::LeftmostFirst).build(words).expect("a few words")
});

/// How much text a line brings of which these are the signs and where each ends; `None` for a line that may say more than text.
pub(super) fn text_bytes(line: &[u8], signs: impl Iterator<Item = (usize, usize)>) -> Option<usize> {
    let (mut longest, mut seen) = (0, [false; TEXTS.len()]);
    let mut matters = false;
    // All of them, so that the next line's come next.
    for (sign, end) in signs {
        match TEXTS.get(sign) {
            Some(word) => {
                matters |= *word == PARTIAL_JSON;
                if !std::mem::replace(&mut seen[sign], true) {
                    longest = longest.max(string_len(line[end..].trim_ascii_start()).unwrap_or(0));
                }
            }
            None => matters = true,
        }
    }
    (!matters).then_some(longest)
}

/// How long the string is that begins here.
fn string_len(rest: &[u8]) -> Option<usize> {
    let rest = rest.strip_prefix(b"\"")?;
    let mut at = 0;
    while let Some(next) = memchr::memchr2(b'"', b'\\', &rest[at..]) {
        if rest[at + next] == b'"' {
            return Some(at + next);
        }
        at = (at + next + 2).min(rest.len());
    }
    Some(rest.len())
}

impl Counter {
    /// The event that ends an answer has come.
    pub fn is_finished(&self) -> bool {
        self.is_finished
    }

    /// The provider has said it all.
    pub fn is_complete(&self) -> bool {
        self.input.is_some() && self.output.is_some() && !self.is_failed && (self.is_finished || !self.is_growing)
    }

    /// Reads an answer that was not streamed.
    pub fn read_whole(&mut self, json: &str) {
        self.read(json);
        self.is_finished = true;
    }

    /// A piece brought so much text, and nothing else.
    pub fn add_text(&mut self, bytes: usize) {
        self.text_bytes = self.text_bytes.saturating_add(bytes);
    }

    /// Reads the data of one event. Whether it brings the usage and nothing else.
    pub fn read(&mut self, data: &str) -> bool {
        if data == "[DONE]" {
            self.is_finished = true;
            return false;
        }
        // Most events are text; only those that may matter are parsed.
        let longest = TEXTS.iter().filter_map(|word| string_len(data.split_once(word)?.1.trim_start().as_bytes())).max();
        self.add_text(longest.unwrap_or(0));
        if !MATTERS.iter().any(|word| data.contains(word)) {
            return false;
        }
        let Ok(said) = serde_json::from_str::<Said>(data) else { return false };
        let kind = said.kind.and_then(|kind| serde_json::from_str::<String>(kind.get()).ok()).unwrap_or_default();
        self.is_failed |= said.error.is_some_and(|error| error.get() != "null") || kind == "error";
        self.is_finished |= matches!(kind.as_str(), "message_stop" | "response.completed" | "response.incomplete" | "response.failed");
        if let Some(usage) = value(said.usage) {
            self.take(reading(&usage));
        }
        if let Some(inner) = said.message.and_then(|inner| serde_json::from_str::<Inner>(inner.get()).ok()).and_then(|inner| value(inner.usage)) {
            // The output of the beginning stands in for one that is not known yet.
            self.take(Reading { output: None, ..reading(&inner) });
        }
        let response = said.response.and_then(|inner| serde_json::from_str::<Inner>(inner.get()).ok());
        if let Some(usage) = response.as_ref().and_then(|response| value(response.usage)) {
            self.take(reading(&usage));
        }
        if let Some(tools) = value(said.tool_usage).or_else(|| response.and_then(|response| value(response.tool_usage))) {
            self.tool_requests = requests_of(&tools);
        }
        if let Some(choices) = said.choices {
            self.choices(choices);
        }
        if let Some(metadata) = value(said.metadata) {
            self.is_growing = true;
            self.take(google(&metadata));
            let candidates = said.candidates.and_then(|candidates| serde_json::from_str::<Vec<Ended>>(candidates.get()).ok()).unwrap_or_default();
            self.is_finished |= candidates.iter().any(|candidate| candidate.finish_reason.is_some_and(|reason| reason.get() != "null"));
        }
        if said.done == Some(true) {
            self.is_finished = true;
            let input = said.prompt_eval_count.map(|prompt| within(prompt, [said.prompt_eval_cached_count.map_or(0, bounded), 0, 0]));
            self.take(Reading { input, output: said.eval_count.map(bounded), ..Reading::default() });
        }
        let has_no_choice = said.choices.is_some_and(|choices| choices.get().trim_start_matches('[').trim() == "]");
        has_no_choice && said.usage.is_some_and(|usage| usage.get() != "null")
    }

    /// Some say what was used in the choice, and some say there that they failed.
    fn choices(&mut self, choices: &RawValue) {
        let text = choices.get();
        if text.contains("\"usage\"") {
            let inner = serde_json::from_str::<Vec<Inner>>(text).ok();
            if let Some(usage) = inner.and_then(|inner| inner.first().and_then(|choice| value(choice.usage))) {
                self.take(reading(&usage));
            }
        }
        let ended = serde_json::from_str::<Vec<Ended>>(text).unwrap_or_default();
        self.is_failed |= ended.iter().any(|choice| choice.finish_reason.is_some_and(|reason| reason.get() == r#""error""#));
    }

    /// A later word takes the place of an earlier one. Input that is all zero takes no place: some say it only once.
    fn take(&mut self, now: Reading) {
        if let Some(input) = now.input.filter(|input| self.input.is_none() || !input.is_nothing()) {
            self.input = Some(input);
        }
        if let Some(output) = now.output {
            (self.output, self.reasoning) = (Some(output), now.reasoning.min(output));
        }
        self.tool_requests = self.tool_requests.max(now.tool_requests);
        self.provider_cost = now.provider_cost.or(self.provider_cost);
    }

    /// What is to be written down. `ended`: the answer came to its end; `request_bytes`: what stands in for input that nobody counted.
    pub fn counted(&self, ended: bool, request_bytes: usize) -> Counted {
        let input = self.input.unwrap_or(Input { fresh: about_tokens(request_bytes), ..Input::default() });
        // Half a stream may have said a first number, and more text has come since.
        let seen = about_tokens(self.text_bytes);
        let is_exact = ended && self.is_complete();
        let output = self.output.map_or(seen, |output| if is_exact { output } else { output.max(seen) });
        let quality = match (is_exact, ended && !self.is_failed && (self.is_finished || !self.is_growing)) {
            (true, _) => Quality::Exact,
            (false, true) => Quality::Estimated,
            (false, false) => Quality::Partial,
        };
        let consumed = Consumed {
            input: input.fresh,
            cache_read: input.cache_read,
            cache_write_short: input.cache_write_short,
            cache_write_long: input.cache_write_long,
            output,
            reasoning: self.reasoning,
            tool_requests: self.tool_requests,
        };
        Counted { consumed, provider_cost: self.provider_cost, quality }
    }
}

fn value(raw: Option<&RawValue>) -> Option<Value> {
    raw.and_then(|raw| serde_json::from_str(raw.get()).ok()).filter(Value::is_object)
}

/// A count at this path, whatever kind of number it is written as.
fn count(value: &Value, path: &str) -> Option<i64> {
    let found = path.split('.').try_fold(value, |value, name| value.get(name))?;
    // Whole numbers, even where they are written as 12.0; more than fits is more than the bound.
    found.as_i64().or_else(|| found.as_f64().map(|number| number as i64)).map(bounded)
}

fn bounded(count: i64) -> i64 {
    count.clamp(0, TOKENS_MAX)
}

/// The first of several spellings that is there.
fn first(value: &Value, paths: &[&str]) -> Option<i64> {
    paths.iter().find_map(|path| count(value, path))
}

/// Input that includes what is in `parts`: read from a cache, and written into one for a short and for a long time.
fn within(whole: i64, parts: [i64; 3]) -> Input {
    let [cache_read, cache_write_short, cache_write_long] = parts;
    let fresh = (bounded(whole) - cache_read - cache_write_short - cache_write_long).max(0);
    Input { fresh, cache_read, cache_write_short, cache_write_long }
}

/// A usage object in the spelling of OpenAI or of Anthropic.
fn reading(usage: &Value) -> Reading {
    let mut found = if usage.get("prompt_tokens").is_some() || usage.get("completion_tokens").is_some() { chat(usage) } else { whole_or_rounds(usage) };
    found.provider_cost = provider_cost(usage);
    found
}

/// Chat completions, and everybody who imitates them.
fn chat(usage: &Value) -> Reading {
    let read = first(
        usage,
        &["prompt_tokens_details.cached_tokens", "prompt_token_details.cached_tokens", "cached_tokens", "num_cached_tokens", "prompt_cache_hit_tokens"],
    );
    let written = count(usage, "prompt_tokens_details.cache_write_tokens");
    let (prompt, completion) = (count(usage, "prompt_tokens"), count(usage, "completion_tokens"));
    let reasoning = count(usage, "completion_tokens_details.reasoning_tokens").unwrap_or(0);
    // Some count thoughts beside the completion. Then the total says so.
    let apart = |completion: i64| reasoning > 0 && count(usage, "total_tokens") == Some(prompt.unwrap_or(0) + completion + reasoning);
    Reading {
        input: prompt.map(|prompt| within(prompt, [read.unwrap_or(0), written.unwrap_or(0), 0])),
        output: completion.map(|completion| if apart(completion) { completion + reasoning } else { completion }),
        reasoning,
        tool_requests: usage.get("server_side_tool_usage_details").map_or(0, requests_of),
        provider_cost: None,
    }
}

/// An answer that took several rounds says each by itself; what compacted the conversation is not in the sum.
fn whole_or_rounds(usage: &Value) -> Reading {
    let whole = input_output(usage);
    let rounds = usage.get("iterations").and_then(Value::as_array).filter(|rounds| !rounds.is_empty());
    let Some(rounds) = rounds else { return whole };
    let is_message = |round: &Value| round.get("type").is_some_and(|kind| kind == "message");
    let alone = if rounds.iter().any(is_message) { None } else { Some(&whole) };
    let parts: Vec<Reading> = rounds.iter().map(input_output).collect();
    let mut sum = Reading { tool_requests: whole.tool_requests, ..Reading::default() };
    for part in parts.iter().chain(alone) {
        let (so_far, input) = (sum.input.unwrap_or_default(), part.input.unwrap_or_default());
        sum.input = Some(Input {
            fresh: bounded(so_far.fresh + input.fresh),
            cache_read: bounded(so_far.cache_read + input.cache_read),
            cache_write_short: bounded(so_far.cache_write_short + input.cache_write_short),
            cache_write_long: bounded(so_far.cache_write_long + input.cache_write_long),
        });
        sum.output = Some(bounded(sum.output.unwrap_or(0) + part.output.unwrap_or(0)));
        sum.reasoning = bounded(sum.reasoning + part.reasoning);
    }
    sum
}

/// Anthropic counts kinds of input apart; OpenAI's Responses, in the same words, count what a cache gave within.
fn input_output(usage: &Value) -> Reading {
    let input = count(usage, "input_tokens").map(|input| {
        if usage.get("input_tokens_details").is_some() {
            let long = count(usage, "input_tokens_details.cache_write_tokens_details.ttl_12h_tokens").unwrap_or(0);
            let written = count(usage, "input_tokens_details.cache_write_tokens").unwrap_or(0).max(long);
            return within(input, [count(usage, "input_tokens_details.cached_tokens").unwrap_or(0), written - long, long]);
        }
        let (short, long) = match usage.get("cache_creation").filter(|split| split.is_object()) {
            Some(split) => (count(split, "ephemeral_5m_input_tokens").unwrap_or(0), count(split, "ephemeral_1h_input_tokens").unwrap_or(0)),
            None => (count(usage, "cache_creation_input_tokens").unwrap_or(0), 0),
        };
        let cache_read = count(usage, "cache_read_input_tokens").unwrap_or(0);
        Input { fresh: input, cache_read, cache_write_short: short, cache_write_long: long }
    });
    Reading {
        input,
        output: count(usage, "output_tokens"),
        reasoning: first(usage, &["output_tokens_details.reasoning_tokens", "output_tokens_details.thinking_tokens"]).unwrap_or(0),
        tool_requests: usage.get("server_tool_use").map_or(0, requests_of),
        provider_cost: None,
    }
}

fn google(metadata: &Value) -> Reading {
    let of = |name: &str| count(metadata, name);
    let tools = of("toolUsePromptTokenCount").unwrap_or(0);
    let thoughts = of("thoughtsTokenCount").unwrap_or(0);
    let said = first(metadata, &["candidatesTokenCount", "responseTokenCount"]);
    let input = of("promptTokenCount").map(|prompt| prompt + tools);
    let counted = said.map(|said| said + thoughts).or(of("thoughtsTokenCount"));
    // The total is right where the parts do not add up to it.
    let output = match (input, of("totalTokenCount")) {
        (Some(input), Some(total)) if total > input && counted != Some(total - input) => Some(total - input),
        _ => counted,
    };
    Reading { input: input.map(|input| within(input, [of("cachedContentTokenCount").unwrap_or(0), 0, 0])), output, reasoning: thoughts, ..Reading::default() }
}

/// What the provider itself takes for the call.
fn provider_cost(usage: &Value) -> Option<i64> {
    if let Some(ticks) = usage.get("cost_in_usd_ticks").and_then(Value::as_i64) {
        return Some((ticks.max(0).saturating_add(TICKS_PER_NANO_USD - 1) / TICKS_PER_NANO_USD).min(COST_NANO_USD_MAX));
    }
    // A decimal fraction of a dollar; a float holds its billionths exactly enough up to the bound.
    let dollars = usage.get("cost").and_then(Value::as_f64)?;
    Some((dollars * 1e9).round().clamp(0.0, COST_NANO_USD_MAX as f64) as i64)
}

/// The sum of all numbers that count requests, one level down as well.
fn requests_of(tools: &Value) -> i64 {
    let is_count = |name: &str| !name.ends_with("tokens") && !name.ends_with("details");
    let of = |value: &Value| value.as_i64().map_or(0, bounded);
    let fields = tools.as_object().into_iter().flatten().filter(|(name, _)| is_count(name));
    bounded(fields.map(|(_, value)| value.get("num_requests").map_or_else(|| of(value), of)).fold(0, i64::saturating_add))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn counter(lines: &[&str]) -> Counter {
        let mut counter = Counter::default();
        for line in lines {
            counter.read(line);
        }
        counter
    }

    /// Input, cache read, cache written for a short and a long time, output, thoughts.
    fn check(name: &str, lines: &[&str], expected: [i64; 6]) {
        let counted = counter(lines).counted(true, 0);
        let Consumed { input, cache_read, cache_write_short, cache_write_long, output, reasoning, .. } = counted.consumed;
        assert_eq!([input, cache_read, cache_write_short, cache_write_long, output, reasoning], expected, "{name}");
        assert_eq!(counted.quality, Quality::Exact, "{name}");
    }

    const START: &str = r#"{"type":"message_start","message":{"id":"msg_1","model":"x","usage":{"input_tokens":317,"cache_creation_input_tokens":4425,"cache_read_input_tokens":0,"output_tokens":1}}}"#;

    #[test]
    fn every_spelling_comes_to_the_same_kinds() {
        check(
            "anthropic, whole",
            &[
                r#"{"id":"msg_1","type":"message","model":"claude-opus-4-6","stop_reason":"end_turn","usage":{"input_tokens":3,"cache_creation_input_tokens":12304,"cache_read_input_tokens":0,"cache_creation":{"ephemeral_5m_input_tokens":12304,"ephemeral_1h_input_tokens":0},"output_tokens":550,"output_tokens_details":{"thinking_tokens":120},"server_tool_use":{"web_search_requests":0,"web_fetch_requests":0},"service_tier":"standard"}}"#,
            ],
            [3, 0, 12304, 0, 550, 120],
        );
        check(
            "anthropic, streamed",
            &[
                START,
                r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"input_tokens":317,"cache_creation_input_tokens":4425,"cache_read_input_tokens":0,"output_tokens":47}}"#,
                r#"{"type":"message_stop"}"#,
            ],
            [317, 0, 4425, 0, 47, 0],
        );
        check("anthropic, only output at the end", &[START, r#"{"type":"message_delta","usage":{"output_tokens":47}}"#], [317, 0, 4425, 0, 47, 0]);
        check(
            "an imitation of anthropic that corrects itself",
            &[
                r#"{"type":"message_start","message":{"usage":{"input_tokens":8834,"output_tokens":0}}}"#,
                r#"{"type":"message_delta","usage":{"input_tokens":18,"cache_read_input_tokens":8831,"output_tokens":426}}"#,
            ],
            [18, 8831, 0, 0, 426, 0],
        );
        check(
            "anthropic, a cache for an hour",
            &[
                r#"{"usage":{"input_tokens":5,"cache_creation_input_tokens":100,"cache_creation":{"ephemeral_5m_input_tokens":0,"ephemeral_1h_input_tokens":100},"output_tokens":2}}"#,
            ],
            [5, 0, 0, 100, 2, 0],
        );
        check(
            "openai chat",
            &[
                r#"{"choices":[],"usage":{"prompt_tokens":1117,"completion_tokens":46,"total_tokens":1163,"prompt_tokens_details":{"cached_tokens":1024,"cache_write_tokens":0,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":0}}}"#,
                "[DONE]",
            ],
            [93, 1024, 0, 0, 46, 0],
        );
        let completed = r#"{"type":"response.completed","response":{"id":"resp_1","status":"completed","output":[],"usage":{"input_tokens":2006,"input_tokens_details":{"cached_tokens":1920,"cache_write_tokens":0,"cache_write_tokens_details":{"ttl_30m_tokens":0,"ttl_12h_tokens":0}},"output_tokens":300,"output_tokens_details":{"reasoning_tokens":192},"total_tokens":2306},"tool_usage":{"web_search":{"num_requests":1},"image_gen":{"input_tokens":7,"total_tokens":7,"input_tokens_details":{}}}}}"#;
        for kind in ["response.completed", "response.incomplete", "response.failed"] {
            let event = completed.replace("response.completed", kind);
            check(kind, &[r#"{"type":"response.created","response":{"id":"resp_1","usage":null}}"#, &event], [86, 1920, 0, 0, 300, 192]);
            let counter = counter(&[&event]);
            assert_eq!((counter.is_finished(), counter.counted(true, 0).consumed.tool_requests), (true, 1), "{kind}");
        }
        let metadata = r#"{"candidates":[{"content":{},"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":220,"cachedContentTokenCount":0,"candidatesTokenCount":5,"thoughtsTokenCount":185,"toolUsePromptTokenCount":0,"totalTokenCount":410,"promptTokensDetails":[{"modality":"TEXT","tokenCount":220}]},"modelVersion":"gemini-3.5-flash"}"#;
        let growing = r#"{"candidates":[{"content":{}}],"usageMetadata":{"promptTokenCount":220,"totalTokenCount":220}}"#;
        check("gemini", &[growing, metadata], [220, 0, 0, 0, 190, 185]);
        check("gemini, whose parts do not add up", &[&metadata.replace("\"thoughtsTokenCount\":185,", "")], [220, 0, 0, 0, 190, 0]);
        check(
            "gemini, with a cache and tools",
            &[
                r#"{"candidates":[{"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":100,"cachedContentTokenCount":90,"candidatesTokenCount":5,"toolUsePromptTokenCount":7,"totalTokenCount":112}}"#,
            ],
            [17, 90, 0, 0, 5, 0],
        );
        let mistral = r#"{"choices":[{"finish_reason":"stop"}],"usage":{"prompt_tokens":801,"completion_tokens":2,"total_tokens":803,"prompt_tokens_details":{"cached_tokens":768}}}"#;
        check("mistral", &[mistral], [33, 768, 0, 0, 2, 0]);
        check("mistral, in the singular", &[&mistral.replace("tokens_details", "token_details")], [33, 768, 0, 0, 2, 0]);
        let xai = r#"{"choices":[],"usage":{"prompt_tokens":171,"completion_tokens":2,"total_tokens":325,"prompt_tokens_details":{"cached_tokens":163},"completion_tokens_details":{"reasoning_tokens":152},"num_sources_used":0,"cost_in_usd_ticks":37756000}}"#;
        check("xai", &[xai], [8, 163, 0, 0, 154, 152]);
        assert_eq!(counter(&[xai]).counted(true, 0).provider_cost, Some(3_775_600));
        let openrouter = r#"{"usage":{"prompt_tokens":194,"completion_tokens":2,"total_tokens":196,"prompt_tokens_details":{"cached_tokens":0,"cache_write_tokens":0},"completion_tokens_details":{"reasoning_tokens":0},"cost":0.95,"cost_details":{"upstream_inference_cost":19}}}"#;
        check("openrouter", &[openrouter], [194, 0, 0, 0, 2, 0]);
        assert_eq!(counter(&[openrouter]).counted(true, 0).provider_cost, Some(950_000_000));
        let moonshot = r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop","usage":{"prompt_tokens":2989,"completion_tokens":20,"total_tokens":3009,"cached_tokens":2989}}]}"#;
        check("moonshot", &[moonshot, "[DONE]"], [0, 2989, 0, 0, 20, 0]);
        check(
            "ollama",
            &[
                r#"{"model":"m","message":{"role":"assistant","content":"hi"},"done":false}"#,
                r#"{"model":"m","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop","prompt_eval_count":26,"prompt_eval_cached_count":20,"eval_count":259,"total_duration":5}"#,
            ],
            [6, 20, 0, 0, 259, 0],
        );
        check("explicit zeros", &[r#"{"usage":{"prompt_tokens":0,"completion_tokens":0}}"#], [0; 6]);
        check(
            "several rounds",
            &[
                r#"{"usage":{"input_tokens":10,"output_tokens":5,"iterations":[{"type":"message","input_tokens":10,"output_tokens":5},{"type":"compaction","input_tokens":2000,"output_tokens":300}]}}"#,
            ],
            [2010, 0, 0, 0, 305, 0],
        );
        check(
            "several rounds beside the sum",
            &[r#"{"usage":{"input_tokens":10,"output_tokens":5,"iterations":[{"type":"compaction","input_tokens":2000,"output_tokens":300}]}}"#],
            [2010, 0, 0, 0, 305, 0],
        );
        check(
            "the last word holds",
            &[r#"{"usage":{"prompt_tokens":5,"completion_tokens":1}}"#, r#"{"usage":{"prompt_tokens":6,"completion_tokens":3}}"#],
            [6, 0, 0, 0, 3, 0],
        );
        check("numbers with a point", &[r#"{"usage":{"prompt_tokens":5.0,"completion_tokens":1e1}}"#], [5, 0, 0, 0, 10, 0]);
    }

    #[test]
    fn what_nobody_said_is_reckoned_and_marked() {
        let text = format!(r#"{{"type":"content_block_delta","delta":{{"type":"text_delta","text":"{}"}}}}"#, "word ".repeat(8));
        let cut = counter(&[START, &text, &text]).counted(false, 4_000);
        let expected = Consumed { input: 317, cache_write_short: 4425, output: 20, ..Consumed::default() };
        assert_eq!((cut.consumed, cut.quality), (expected, Quality::Partial));
        let silent = counter(&[r#"{"choices":[{"delta":{"content":"eight by"}}]}"#, "[DONE]"]).counted(true, 4_000);
        assert_eq!((silent.consumed, silent.quality), (Consumed { input: 1_000, output: 2, ..Consumed::default() }, Quality::Estimated));
        let growing = r#"{"candidates":[{"content":{}}],"usageMetadata":{"promptTokenCount":220,"candidatesTokenCount":5,"totalTokenCount":225}}"#;
        assert_eq!(counter(&[growing]).counted(true, 0).quality, Quality::Partial, "more would have come");
        for failed in [r#"{"error":{"message":"overloaded"}}"#, r#"{"choices":[{"finish_reason":"error"}],"usage":null}"#, r#"{"type":"error","error":{}}"#] {
            assert_eq!(counter(&[r#"{"usage":{"prompt_tokens":1,"completion_tokens":1}}"#, failed]).counted(true, 0).quality, Quality::Partial, "{failed}");
        }
        for bad in [
            "",
            "{}",
            "[]",
            r#"{"usage":7}"#,
            r#"{"usage":{}}"#,
            r#"{"usage":null,"usage":{"prompt_tokens":1}}"#,
            r#"{"usage":{"prompt_tokens":"1","completion_tokens":[]}}"#,
        ] {
            let counted = counter(&[bad]).counted(true, 400);
            assert_eq!((counted.consumed.input, counted.quality), (100, Quality::Estimated), "{bad}");
        }
    }

    #[test]
    fn nonsense_stays_within_bounds() {
        let huge = r#"{"usage":{"prompt_tokens":9223372036854775807,"completion_tokens":-4,"cost":1e300,"prompt_tokens_details":{"cached_tokens":1e30}}}"#;
        let counted = counter(&[huge]).counted(true, 0);
        assert_eq!(counted.consumed, Consumed { cache_read: TOKENS_MAX, ..Consumed::default() });
        assert_eq!(counted.provider_cost, Some(COST_NANO_USD_MAX));
        let rounds = format!(r#"{{"usage":{{"iterations":[{}]}}}}"#, vec![r#"{"input_tokens":9000000000,"output_tokens":9000000000}"#; 50].join(","));
        assert_eq!(counter(&[&rounds]).counted(true, 0).consumed.output, TOKENS_MAX);
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_passed_over(lines in prop::collection::vec(".{0,80}|\\{\"usage\":.{0,40}\\}", 0..8), ended in any::<bool>(), bytes in any::<usize>()) {
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            let consumed = counter(&lines).counted(ended, bytes).consumed;
            prop_assert!(consumed.input >= 0 && consumed.output >= 0 && consumed.reasoning <= consumed.output);
        }
    }
}
