//! Text and bodies that arrive in pieces: what is let go is what the whole would have become, wherever it was cut.
//!
//! Only an end that may still grow into a secret is held back: the beginning of a known one, in the disguises that a stream
//! can hold; at most 256 bytes for what the net may still recognise, and for code that may hide one. What was let go is kept
//! for a while as context, because a secret's frame or the alignment of a code may lie there. Nothing here waits: the caller
//! has the clock, and calls `release` when the net has held something for long enough.
//!
//! A limit: what is encoded twice is found if it comes within those 256 bytes.

use crate::body::BodyError;
use crate::json::{self, Place};
use crate::{Confidence, Edit, Finding, Look, Redactor, splice};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What the net may hold back.
pub const HOLD_BYTES_MAX: usize = crate::net::LIVE_BYTES_MAX;
/// The net's hold should not outlive this: then call `release`.
pub const HOLD_MS_MAX: u64 = 50;
/// How much that was let go is looked at again; and how much of it at least, when it is cut where a line begins.
const CONTEXT_BYTES: usize = 1024;
const CONTEXT_BYTES_MIN: usize = 256;
/// A secret that goes on and on (a private key) is replaced when this much of it has come; the rest is swallowed.
const SWALLOW_BYTES_MIN: usize = 4096;
const EVENT_BYTES_MAX: usize = 4 << 20;
/// Choices, contents and tool calls of one answer.
const CHANNELS_MAX: usize = 256;

/// One text, piece by piece.
#[derive(Debug)]
pub struct TextStream {
    redactor: Arc<Redactor>,
    /// Context, then what is held.
    raw: String,
    /// All before this was let go, or a placeholder for it.
    done: usize,
    /// What came before `raw`.
    dropped: usize,
    findings: Vec<Finding>,
}

impl TextStream {
    pub fn new(redactor: Arc<Redactor>) -> Self {
        Self { redactor, raw: String::new(), done: 0, dropped: 0, findings: Vec::new() }
    }

    /// The text that may go now that `piece` has come.
    pub fn push(&mut self, piece: &str) -> String {
        self.raw.push_str(piece);
        self.let_go(Hold::Everything)
    }

    /// The text that may go although the net would wait for more. A known secret is waited for, however long it takes.
    pub fn release(&mut self) -> String {
        self.let_go(Hold::Known)
    }

    /// The rest.
    pub fn finish(&mut self) -> String {
        self.let_go(Hold::Nothing)
    }

    /// How much is held back.
    pub fn held_bytes(&self) -> usize {
        self.raw.len() - self.done
    }

    /// What was found in what was let go; spans are of the text that came in.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    fn let_go(&mut self, hold: Hold) -> String {
        let edits = self.redactor.edits(&self.raw, Look::All);
        let len = self.raw.len();
        let mut until = match hold {
            Hold::Nothing => len,
            Hold::Known => self.redactor.known.live_from(self.raw.as_bytes(), false),
            Hold::Everything => self.redactor.known.live_from(self.raw.as_bytes(), true).min(self.redactor.uncertain_from(&self.raw)),
        };
        for edit in edits.iter().rev() {
            let (start, end) = (edit.finding.start, edit.finding.end);
            // One that ends here may go on.
            let grows = end > until || end == len && matches!(hold, Hold::Everything);
            if grows && start < until && (len - start < SWALLOW_BYTES_MIN || end > until && end < len) {
                until = start;
            } else if grows && end == len && len - start >= SWALLOW_BYTES_MIN {
                until = len;
            }
        }
        until = (0..=until).rev().find(|at| self.raw.is_char_boundary(*at)).unwrap_or(0);
        let mut gone = String::new();
        let mut at = self.done;
        for edit in edits {
            let Finding { start, end, .. } = edit.finding;
            if end <= at || start >= until {
                continue;
            }
            if start >= at {
                gone.push_str(&self.raw[at..start]);
                gone.push_str(&edit.placeholder);
                self.findings.push(Finding { start: start + self.dropped, end: end + self.dropped, ..edit.finding });
            }
            // If a part of it is gone already, so is the placeholder for all of it.
            at = end;
        }
        if at < until {
            gone.push_str(&self.raw[at..until]);
        }
        self.done = until.max(at);
        self.forget();
        gone
    }

    /// Drops what is too long ago to matter, from the front up to a line or a word.
    fn forget(&mut self) {
        if self.done < CONTEXT_BYTES * 2 {
            return;
        }
        let from = (self.done - CONTEXT_BYTES..self.done).find(|at| self.raw.is_char_boundary(*at)).unwrap_or(0);
        let to = (from..=self.done - CONTEXT_BYTES_MIN).rev().find(|at| self.raw.is_char_boundary(*at)).unwrap_or(from);
        let line = self.raw[from..to].find('\n').or_else(|| self.raw[from..to].find(char::is_whitespace));
        let cut = from + line.map_or(0, |at| at + 1);
        self.raw.drain(..cut);
        self.done -= cut;
        self.dropped += cut;
    }
}

enum Hold {
    Everything,
    Known,
    Nothing,
}

impl Redactor {
    /// Where the end of `text` begins that the net may still recognise, or that is code of something.
    fn uncertain_from(&self, text: &str) -> usize {
        let net = self.net.live_suffix(text).min(HOLD_BYTES_MAX);
        let code = crate::decode::code_at_end(text.as_bytes()).min(HOLD_BYTES_MAX);
        text.len() - net.max(code)
    }
}

/// A body of bytes that is mostly text, piece by piece. What is not UTF-8 goes through as it is.
#[derive(Debug)]
pub struct ByteStream {
    text: TextStream,
    /// The beginning of a character.
    partial: Vec<u8>,
}

impl ByteStream {
    pub fn new(redactor: Arc<Redactor>) -> Self {
        Self { text: TextStream::new(redactor), partial: Vec::new() }
    }

    pub fn push(&mut self, piece: &[u8]) -> Vec<u8> {
        let mut bytes = std::mem::take(&mut self.partial);
        bytes.extend_from_slice(piece);
        let mut gone = Vec::new();
        let mut rest = bytes.as_slice();
        loop {
            match std::str::from_utf8(rest) {
                Ok(text) => {
                    gone.extend(self.text.push(text).into_bytes());
                    return gone;
                }
                Err(error) => {
                    let (text, bad) = rest.split_at(error.valid_up_to());
                    gone.extend(self.text.push(std::str::from_utf8(text).unwrap_or_default()).into_bytes());
                    let Some(len) = error.error_len() else {
                        self.partial = bad.to_vec();
                        return gone;
                    };
                    // No text goes on over this.
                    gone.extend(self.text.finish().into_bytes());
                    self.text = TextStream::new(self.text.redactor.clone());
                    gone.extend_from_slice(&bad[..len]);
                    rest = &bad[len..];
                }
            }
        }
    }

    pub fn release(&mut self) -> Vec<u8> {
        self.text.release().into_bytes()
    }

    pub fn finish(&mut self) -> Vec<u8> {
        let mut gone = self.text.finish().into_bytes();
        gone.append(&mut self.partial);
        gone
    }

    pub fn held_bytes(&self) -> usize {
        self.text.held_bytes() + self.partial.len()
    }

    pub fn findings(&self) -> &[Finding] {
        self.text.findings()
    }
}

/// An answer as server-sent events, or as lines of JSON: the texts that its deltas spell are what is looked at, and edits are
/// made in the deltas.
#[derive(Debug)]
pub struct EventStream {
    redactor: Arc<Redactor>,
    /// Each event is a line, and the line is its data.
    is_lines: bool,
    pending: Vec<u8>,
    channels: BTreeMap<Channel, Open>,
    findings: Vec<Finding>,
}

/// One text of an answer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Channel {
    shape: Shape,
    /// Choice, content block, output or candidate.
    index: u64,
    /// Tool call or part.
    part: u64,
    /// The member that holds the text, or the event's type.
    field: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Shape {
    /// `choices[].delta`, `choices[].text`
    Chat,
    /// `content_block_delta`
    Block,
    /// `response.….delta`
    Response,
    /// `candidates[].content.parts[]`
    Candidate,
    /// `message`, as Ollama says it in lines of JSON.
    Line,
}

#[derive(Debug)]
struct Open {
    stream: TextStream,
    /// The last event that carried a piece, to carry what is left.
    event_line: String,
    event: Value,
}

impl EventStream {
    pub fn new(redactor: Arc<Redactor>) -> Self {
        Self { redactor, is_lines: false, pending: Vec::new(), channels: BTreeMap::new(), findings: Vec::new() }
    }

    /// For an answer that is lines of JSON.
    pub fn of_lines(redactor: Arc<Redactor>) -> Self {
        Self { is_lines: true, ..Self::new(redactor) }
    }

    /// The events that may go now that `piece` has come.
    pub fn push(&mut self, piece: &[u8]) -> Result<Vec<u8>, BodyError> {
        self.pending.extend_from_slice(piece);
        let mut gone = Vec::new();
        while let Some(len) = if self.is_lines { line_len(&self.pending) } else { event_len(&self.pending) } {
            let event: Vec<u8> = self.pending.drain(..len).collect();
            self.event(&event, &mut gone)?;
        }
        if self.pending.len() > EVENT_BYTES_MAX {
            return Err(BodyError::TooLarge { bytes_max: EVENT_BYTES_MAX });
        }
        Ok(gone)
    }

    /// What the net would still wait for, as events of their own.
    pub fn release(&mut self) -> Vec<u8> {
        self.flush(|_| true, TextStream::release)
    }

    pub fn finish(&mut self) -> Result<Vec<u8>, BodyError> {
        let mut gone = Vec::new();
        let last = std::mem::take(&mut self.pending);
        if !last.is_empty() {
            self.event(&last, &mut gone)?;
        }
        gone.extend(self.close(|_| true));
        Ok(gone)
    }

    pub fn held_bytes(&self) -> usize {
        self.channels.values().map(|open| open.stream.held_bytes()).sum()
    }

    /// Spans are of the text that a channel spells.
    pub fn findings(&self) -> Vec<Finding> {
        self.findings.iter().chain(self.channels.values().flat_map(|open| open.stream.findings())).cloned().collect()
    }

    fn event(&mut self, event: &[u8], gone: &mut Vec<u8>) -> Result<(), BodyError> {
        let text = std::str::from_utf8(event).map_err(|error| BodyError::Malformed { at: error.valid_up_to() })?;
        let data: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("data:")).map(|data| data.strip_prefix(' ').unwrap_or(data)).collect();
        let data = if self.is_lines { text.trim().to_owned() } else { data.join("\n") };
        let trimmed = data.trim();
        if !trimmed.starts_with(['{', '[']) || trimmed == "[DONE]" {
            if trimmed == "[DONE]" {
                gone.extend(self.close(|_| true));
            }
            // A comment, a name, or a text of its own.
            gone.extend(self.redactor.text(text).text.as_bytes());
            return Ok(());
        }
        let value: Value = serde_json::from_str(&data).map_err(|_| BodyError::Malformed { at: 0 })?;
        gone.extend(self.close(|channel| ends(&value, channel)));
        let event_line = text.lines().find(|line| line.starts_with("event:")).unwrap_or_default();
        let redactor = self.redactor.clone();
        let (channels, findings) = (&mut self.channels, &mut self.findings);
        let edits = redactor.json_edits(&data, false, 0, &mut |place, start, end| {
            let Some(channel) = channel(&value, place, &data) else { return Ok(None) };
            if !channels.contains_key(&channel) && channels.len() == CHANNELS_MAX {
                return Err(BodyError::TooDeep);
            }
            let last = finishes(&value, &channel);
            let open = channels.entry(channel.clone()).or_insert_with(|| Open {
                stream: TextStream::new(redactor.clone()),
                event_line: event_line.to_owned(),
                event: Value::Null,
            });
            let mut said = String::new();
            json::unescape(&data[start..end], &mut said);
            let mut spoken = open.stream.push(&said);
            if last {
                spoken.push_str(&open.stream.finish());
                findings.extend(open.stream.findings().iter().cloned());
                channels.remove(&channel);
            } else {
                open.event = value.clone();
            }
            if spoken == said {
                return Ok(Some(Vec::new()));
            }
            let quoted = Value::String(spoken).to_string();
            let finding = Finding { rule: Arc::from("delta"), start, end, confidence: Confidence::Certain };
            Ok(Some(vec![Edit { finding, placeholder: quoted[1..quoted.len() - 1].to_owned() }]))
        })?;
        if edits.is_empty() {
            gone.extend_from_slice(event);
            return Ok(());
        }
        self.findings.extend(edits.iter().filter(|edit| &*edit.finding.rule != "delta").map(|edit| edit.finding.clone()));
        let data = splice(&data, &edits);
        gone.extend(if self.is_lines { format!("{data}\n") } else { rewritten(text, &data) }.into_bytes());
        Ok(())
    }

    /// Ends channels: what they hold goes out, in events of their own.
    fn close(&mut self, which: impl Fn(&Channel) -> bool) -> Vec<u8> {
        let gone = self.flush(&which, TextStream::finish);
        let closed: Vec<Channel> = self.channels.keys().filter(|channel| which(channel)).cloned().collect();
        for channel in closed {
            if let Some(open) = self.channels.remove(&channel) {
                self.findings.extend(open.stream.findings);
            }
        }
        gone
    }

    fn flush(&mut self, which: impl Fn(&Channel) -> bool, how: impl Fn(&mut TextStream) -> String) -> Vec<u8> {
        let mut gone = String::new();
        for (channel, open) in self.channels.iter_mut().filter(|(channel, _)| which(channel)) {
            let rest = how(&mut open.stream);
            if !rest.is_empty() && self.is_lines {
                gone.push_str(&format!("{}\n", channel.carry(&open.event, rest)));
            } else if !rest.is_empty() {
                if !open.event_line.is_empty() {
                    gone.push_str(&open.event_line);
                    gone.push('\n');
                }
                gone.push_str(&format!("data: {}\n\n", channel.carry(&open.event, rest)));
            }
        }
        gone.into_bytes()
    }
}

impl Channel {
    /// An event like `last` that adds `rest` to this text and nothing else.
    fn carry(&self, last: &Value, rest: String) -> Value {
        let mut event = last.clone();
        match self.shape {
            Shape::Chat => {
                let piece = match self.field.as_str() {
                    "text" => json!({ "text": rest }),
                    "arguments" => json!({ "delta": { "tool_calls": [{ "index": self.part, "function": { "arguments": rest } }] } }),
                    field => json!({ "delta": { field: rest } }),
                };
                let mut choice = json!({ "index": self.index, "finish_reason": null });
                if let (Some(choice), Value::Object(piece)) = (choice.as_object_mut(), piece) {
                    choice.extend(piece);
                }
                event["choices"] = json!([choice]);
                if let Some(event) = event.as_object_mut() {
                    event.remove("usage");
                }
            }
            Shape::Block => event["delta"][&self.field] = rest.into(),
            Shape::Response => event["delta"] = rest.into(),
            Shape::Line => {
                event["message"] = json!({ "role": "assistant", "content": "" });
                event["message"][&self.field] = rest.into();
                event["done"] = false.into();
            }
            Shape::Candidate => {
                let mut part = json!({ "text": rest });
                if self.field == "thought" {
                    part["thought"] = true.into();
                }
                event["candidates"] = json!([{ "index": self.index, "content": { "role": "model", "parts": [part] } }]);
                if let Some(event) = event.as_object_mut() {
                    event.remove("usageMetadata");
                }
            }
        }
        event
    }
}

/// Which text the string at `place` of an event is a piece of.
fn channel(event: &Value, place: &Place, text: &str) -> Option<Channel> {
    let path = place.steps(text);
    let new = |shape, index, part, field: &str| Some(Channel { shape, index, part, field: field.to_owned() });
    let kind = event["type"].as_str().unwrap_or_default();
    match path.as_slice() {
        ["choices", choice, rest @ ..] => {
            let choice = &event["choices"][number(choice)?];
            let index = choice["index"].as_u64().unwrap_or(0);
            match rest {
                ["text"] => new(Shape::Chat, index, 0, "text"),
                ["delta", field @ ("content" | "reasoning_content" | "reasoning" | "refusal")] => new(Shape::Chat, index, 0, field),
                ["delta", "tool_calls", call, "function", "arguments"] => {
                    let at = number(call)?;
                    let part = choice["delta"]["tool_calls"][at]["index"].as_u64().unwrap_or(at as u64);
                    new(Shape::Chat, index, part, "arguments")
                }
                _ => None,
            }
        }
        ["delta", field @ ("text" | "thinking" | "partial_json")] if kind == "content_block_delta" => {
            new(Shape::Block, event["index"].as_u64().unwrap_or(0), 0, field)
        }
        // Sound is no text.
        ["delta"] if kind.ends_with(".delta") && !kind.ends_with("audio.delta") => {
            let part = event["content_index"].as_u64().or(event["summary_index"].as_u64()).unwrap_or(0);
            new(Shape::Response, event["output_index"].as_u64().unwrap_or(0), part, kind)
        }
        ["message", field @ ("content" | "thinking")] if event["done"].is_boolean() => new(Shape::Line, 0, 0, field),
        ["candidates", candidate, "content", "parts", part, "text"] => {
            let candidate = &event["candidates"][number(candidate)?];
            let thought = candidate["content"]["parts"][number(part)?]["thought"] == true;
            new(Shape::Candidate, candidate["index"].as_u64().unwrap_or(0), 0, if thought { "thought" } else { "text" })
        }
        _ => None,
    }
}

fn number(step: &str) -> Option<usize> {
    step.parse().ok()
}

/// Whether nothing more comes for `channel` once `event` has come: what is held must go before it.
fn ends(event: &Value, channel: &Channel) -> bool {
    let kind = event["type"].as_str().unwrap_or_default();
    match channel.shape {
        Shape::Chat => choices(event, "choices").any(|choice| {
            let finished = choice["finish_reason"].is_string() && choice["index"].as_u64().unwrap_or(0) == channel.index;
            // If the last piece comes with the end, it is ended there.
            finished && !has_piece(choice, channel)
        }),
        Shape::Block => match kind {
            "content_block_stop" => event["index"].as_u64().unwrap_or(0) == channel.index,
            _ => matches!(kind, "message_delta" | "message_stop" | "error"),
        },
        Shape::Response => {
            let same = event["output_index"].as_u64().is_none_or(|index| index == channel.index);
            !kind.ends_with(".delta") && !matches!(kind, "response.in_progress" | "keepalive") && same
        }
        // If the last piece comes with the end, it is ended there. An empty piece says nothing of what comes.
        Shape::Line => {
            let says = |field: &str| event["message"][field].as_str().is_some_and(|text| !text.is_empty());
            let other = ["content", "thinking"].iter().any(|field| *field != channel.field && says(field));
            !says(&channel.field) && (other || event["done"] == true || event["message"]["tool_calls"].is_array())
        }
        Shape::Candidate => choices(event, "candidates").any(|candidate| {
            let same = candidate["index"].as_u64().unwrap_or(0) == channel.index;
            let finished = candidate["finishReason"].is_string();
            let parts = candidate["content"]["parts"].as_array().map(Vec::as_slice).unwrap_or_default();
            let continued = parts.iter().any(|part| part["text"].is_string() && (part["thought"] == true) == (channel.field == "thought"));
            same && !continued && (finished || !parts.is_empty())
        }),
    }
}

fn choices<'a>(event: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    event[key].as_array().into_iter().flatten()
}

fn has_piece(choice: &Value, channel: &Channel) -> bool {
    match channel.field.as_str() {
        "text" => choice["text"].is_string(),
        "arguments" => choices(&choice["delta"], "tool_calls").any(|call| call["index"].as_u64().unwrap_or(0) == channel.part),
        field => choice["delta"][field].is_string(),
    }
}

/// Whether `event`, which has a piece for `channel`, is also its last.
fn finishes(event: &Value, channel: &Channel) -> bool {
    let finished =
        |list: &str, reason: &str| choices(event, list).any(|choice| choice[reason].is_string() && choice["index"].as_u64().unwrap_or(0) == channel.index);
    match channel.shape {
        Shape::Chat => finished("choices", "finish_reason"),
        Shape::Candidate => finished("candidates", "finishReason"),
        Shape::Line => event["done"] == true || event["message"]["tool_calls"].is_array(),
        _ => false,
    }
}

/// The length of the first whole line.
fn line_len(bytes: &[u8]) -> Option<usize> {
    memchr::memchr(b'\n', bytes).map(|at| at + 1)
}

/// The length of the first whole event.
fn event_len(bytes: &[u8]) -> Option<usize> {
    memchr::memchr_iter(b'\n', bytes).find_map(|at| {
        let rest = &bytes[at + 1..];
        match rest {
            [b'\n', ..] => Some(at + 2),
            [b'\r', b'\n', ..] => Some(at + 3),
            _ => None,
        }
    })
}

/// An event with other data.
fn rewritten(event: &str, data: &str) -> String {
    let mut written = String::with_capacity(event.len());
    let mut said = false;
    for line in event.split_inclusive('\n') {
        if !line.starts_with("data:") {
            written.push_str(line);
        } else if !said {
            let end = &line[line.trim_end_matches(['\r', '\n']).len()..];
            for data in data.split('\n') {
                written.push_str("data: ");
                written.push_str(data);
                written.push_str(if end.is_empty() { "\n" } else { end });
            }
            said = true;
        }
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Known;

    fn redactor() -> Arc<Redactor> {
        let known = Known::new([("db", "Sommer#2026x".as_bytes()), ("key", format!("k-{}", "Qz7Lm".repeat(6)).as_bytes())]);
        Arc::new(Redactor::new(known, &[5; 32]))
    }

    fn texts() -> Vec<String> {
        let key = format!("k-{}", "Qz7Lm".repeat(6));
        let hex: String = key.bytes().map(|byte| format!("{byte:02x}")).collect();
        let escaped: String = key.bytes().map(|byte| format!("\\u{:04x}", byte)).collect();
        vec![
            format!("before {key} after, and {key}"),
            "it is Sommer#2026x, not Sommer#2027x. Sommer#".to_owned(),
            "k=Sommer%232026x&x=1 \\x53ommer\\#2026x".to_owned(),
            format!("a {escaped} b"),
            format!("dump {hex}, done"),
            "Basic dXNlcjpTb21tZXIjMjAyNng= ok, eHlTb21tZXIjMjAyNnh6".to_owned(),
            "plain words, nothing else: Some, k-, dXNl\n\n".to_owned(),
        ]
    }

    #[test]
    fn wherever_a_text_is_cut_it_becomes_the_same() {
        let redactor = redactor();
        for text in texts() {
            let whole = redactor.text(&text).text.into_owned();
            for size in 1..=text.len() {
                let mut stream = TextStream::new(redactor.clone());
                let mut got = String::new();
                for piece in text.as_bytes().chunks(size) {
                    got.push_str(&stream.push(std::str::from_utf8(piece).expect("the texts are ASCII")));
                }
                got.push_str(&stream.finish());
                assert_eq!(got, whole, "pieces of {size}");
            }
        }
    }

    #[test]
    fn ordinary_text_is_hardly_held_and_a_known_beginning_is_never_let_go() {
        let redactor = redactor();
        let mut stream = TextStream::new(redactor.clone());
        for word in "the quick brown fox of a key sk- and a password is eyJ token ".repeat(20).split_inclusive(' ') {
            stream.push(word);
            assert!(stream.held_bytes() <= HOLD_BYTES_MAX, "{}", stream.held_bytes());
        }
        let mut stream = TextStream::new(redactor);
        let mut got = stream.push("x Sommer#20");
        got.push_str(&stream.release());
        assert_eq!(got, "x ");
        got.push_str(&stream.push("26x y"));
        got.push_str(&stream.finish());
        assert_eq!(got, "x SECRET_REF(db) y");
    }

    #[test]
    fn bytes_that_are_no_text_go_through() {
        let mut stream = ByteStream::new(redactor());
        let mut got = Vec::new();
        for byte in [b"\xff\xfe Gr\xc3\xbc\xc3 ".as_slice(), b"Sommer#2026x", b"\xe2\x82"].concat() {
            got.extend(stream.push(&[byte]));
        }
        got.extend(stream.finish());
        assert_eq!(got, [b"\xff\xfe Gr\xc3\xbc\xc3 ".as_slice(), b"SECRET_REF(db)", b"\xe2\x82"].concat());
    }

    /// Runs `events` through and gives what each text spelled, in the order in which the texts began.
    fn spelled(events: &[Value], size: usize, of: impl Fn(&Value) -> Option<&str>) -> String {
        let body: String = events.iter().map(|event| format!("event: x\ndata: {event}\n\n")).collect::<String>() + "data: [DONE]\n\n";
        let mut stream = EventStream::new(redactor());
        let mut out = Vec::new();
        for piece in body.as_bytes().chunks(size) {
            out.extend(stream.push(piece).expect("the events are well-formed"));
        }
        out.extend(stream.finish().expect("the events are well-formed"));
        let out = String::from_utf8(out).expect("events are text");
        assert!(out.ends_with("data: [DONE]\n\n"));
        let events = out.lines().filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data: ")?).ok());
        events.filter_map(|event| of(&event).map(str::to_owned)).collect()
    }

    #[test]
    fn deltas_of_every_provider_are_one_text() {
        let pieces = ["it is Som", "mer#20", "26x", " and Sommer#2", "026x"];
        let expected = "it is SECRET_REF(db) and SECRET_REF(db)";
        for size in [1, 7, 1000] {
            let mut chat: Vec<Value> =
                pieces.iter().map(|piece| json!({"id":"c","choices":[{"index":0,"delta":{"content":piece},"finish_reason":null}]})).collect();
            chat.push(json!({"id":"c","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}));
            assert_eq!(spelled(&chat, size, |event| event["choices"][0]["delta"]["content"].as_str()), expected);

            let call = |piece: &str| json!({"choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"function":{"arguments":piece}}]},"finish_reason":null}]});
            let calls: Vec<Value> = pieces.iter().map(|piece| call(piece)).collect();
            assert_eq!(spelled(&calls, size, |event| event["choices"][0]["delta"]["tool_calls"][0]["function"]["arguments"].as_str()), expected);

            let mut blocks: Vec<Value> =
                pieces.iter().map(|piece| json!({"type":"content_block_delta","index":2,"delta":{"type":"text_delta","text":piece}})).collect();
            blocks.push(json!({"type":"content_block_stop","index":2}));
            assert_eq!(spelled(&blocks, size, |event| event["delta"]["text"].as_str()), expected);

            let mut response: Vec<Value> = pieces
                .iter()
                .map(|piece| json!({"type":"response.output_text.delta","item_id":"m","output_index":0,"content_index":0,"delta":piece}))
                .collect();
            response.push(json!({"type":"response.output_text.done","output_index":0,"content_index":0,"text":pieces.concat()}));
            assert_eq!(spelled(&response, size, |event| event["delta"].as_str()), expected);
            assert_eq!(spelled(&response, size, |event| event["text"].as_str()), expected, "the whole text comes once more");

            let mut candidates: Vec<Value> = pieces.iter().map(|piece| json!({"candidates":[{"content":{"parts":[{"text":piece}],"role":"model"}}]})).collect();
            candidates[4]["candidates"][0]["finishReason"] = "STOP".into();
            assert_eq!(spelled(&candidates, size, |event| event["candidates"][0]["content"]["parts"][0]["text"].as_str()), expected);
        }
    }

    #[test]
    fn lines_of_json_are_one_text_as_well() {
        let pieces = ["it is Som", "mer#20", "26x", " and Sommer#2", "026x"];
        let said = |field: &str, piece: &str| format!("{}\n", json!({ "message": { "role": "assistant", "content": "", field: piece }, "done": false }));
        let mut body: String = pieces.iter().map(|piece| said("thinking", piece)).collect();
        body.extend(pieces.iter().map(|piece| said("content", piece)));
        body += &format!(
            "{}\n",
            json!({ "message": { "content": "", "tool_calls": [{ "function": { "name": "read", "arguments": { "path": "Sommer#2026x" } } }] }, "done": false })
        );
        let end = format!("{}\n", json!({ "message": { "content": "" }, "done": true, "eval_count": 5 }));
        body += &end;
        for size in [1, 7, 1000] {
            let mut stream = EventStream::of_lines(redactor());
            let mut out = Vec::new();
            for piece in body.as_bytes().chunks(size) {
                out.extend(stream.push(piece).expect("well-formed"));
            }
            assert!(String::from_utf8_lossy(&out).ends_with(&end), "nothing is held behind the end");
            out.extend(stream.finish().expect("well-formed"));
            let events: Vec<Value> =
                out.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(|line| serde_json::from_slice(line).expect("JSON")).collect();
            for field in ["thinking", "content"] {
                let text: String = events.iter().filter_map(|event| event["message"][field].as_str()).collect();
                assert_eq!(text, "it is SECRET_REF(db) and SECRET_REF(db)", "{field}");
            }
            assert!(!String::from_utf8_lossy(&out).contains("2026x"), "calls are looked at, too");
        }
    }

    #[test]
    fn lines_without_secrets_say_what_they_said() {
        let lines = [
            json!({ "model": "m", "message": { "role": "assistant", "content": "All is well." }, "done": false }),
            json!({ "model": "m", "message": { "role": "assistant", "content": "" }, "done": true, "eval_count": 5 }),
        ];
        let body = lines.iter().map(|line| format!("{line}\n")).collect::<String>();
        for releases in [false, true] {
            let mut stream = EventStream::of_lines(redactor());
            let mut out = Vec::new();
            for byte in body.as_bytes() {
                out.extend(stream.push(std::slice::from_ref(byte)).expect("well-formed"));
                if releases {
                    out.extend(stream.release());
                }
            }
            out.extend(stream.finish().expect("well-formed"));
            let out = String::from_utf8(out).expect("text");
            let said: String = out
                .lines()
                .map(|line| serde_json::from_str::<Value>(line).expect(line))
                .filter_map(|line| Some(line["message"]["content"].as_str()?.to_owned()))
                .collect();
            assert_eq!(said, "All is well.", "{out}");
            assert!(out.ends_with(&format!("{}\n", lines[1])), "nothing comes behind the end: {out}");
        }
    }

    #[test]
    fn events_without_secrets_stay_as_they_came() {
        let body = ": hello\n\nevent: ping\ndata: {\"type\":\"ping\"}\n\ndata: {\"choices\": [{\"index\":0,\"delta\":{\"content\":\"Hi, \\u00fcber. \"}}]}\r\n\r\ndata: [DONE]\n\n";
        let mut stream = EventStream::new(redactor());
        let mut out = stream.push(body.as_bytes()).expect("well-formed");
        out.extend(stream.finish().expect("well-formed"));
        assert_eq!(String::from_utf8(out).expect("text"), body);
    }
}
