//! JSON bodies: every string is unescaped and looked at, edits go into the raw bytes, and all else stays as it came.
//!
//! There is no document in memory: one pass over the bytes knows where it is by a stack of keys. Strings that hold JSON are
//! walked in turn. What a provider must get back unchanged (ids, signatures, encrypted content, media) is never edited: a
//! known secret in one of those blocks the call, and the error names the place. What is not JSON is refused, because what
//! cannot be read cannot be vouched for.

use crate::body::{Body, BodyError};
use crate::net::Found;
use crate::search::{Hit, Search, What};
use crate::seen::SEEN_BYTES_MIN;
use crate::{Confidence, Edit, Finding, Look, Redactor, placeholder, splice};
use std::borrow::Cow;

/// JSON in a string in JSON.
const NESTED_MAX: usize = 4;
/// Deeper than any call that a provider answers.
const DEPTH_MAX: usize = 256;
/// A key and its value are looked at together up to this length: longer values are no passwords.
const PAIR_BYTES_MAX: usize = SEEN_BYTES_MIN;
/// Digits that could be a secret.
const NUMBER_BYTES_MIN: usize = 8;

/// Where a walk is.
#[derive(Default)]
pub(crate) struct Place {
    frames: Vec<Frame>,
    /// Where the backslashes of the string that is visited stand that begin an escape.
    escapes: Vec<usize>,
}

struct Frame {
    /// The span of the key, without its quotes, in the object whose member is walked; `None` in an array.
    key: Option<(usize, usize)>,
    index: usize,
    /// Whether what is in here is somebody's own data and not a provider's format.
    free: bool,
}

impl Place {
    fn key<'a>(&self, text: &'a str) -> &'a str {
        self.frames.iter().rev().find_map(|frame| frame.key).map_or("", |(start, end)| &text[start..end])
    }

    /// The key of which the value that is walked is the value, not a member of an array of it.
    fn own_key(&self) -> Option<(usize, usize)> {
        self.frames.last().and_then(|frame| frame.key)
    }

    pub fn is_free(&self) -> bool {
        self.frames.last().is_some_and(|frame| frame.free)
    }

    /// The keys and indices that lead here.
    pub fn steps<'a>(&self, text: &'a str) -> Vec<Step<'a>> {
        let step = |frame: &Frame| match frame.key {
            None => Step::Index(frame.index),
            Some((start, end)) if text[start..end].contains('\\') => {
                let mut key = String::new();
                unescape(&text[start..end], &mut key);
                Step::Key(key.into())
            }
            Some((start, end)) => Step::Key(text[start..end].into()),
        };
        self.frames.iter().map(step).collect()
    }

    /// As `messages[2].content`. Keys are cut: one may be a secret.
    fn path(&self, text: &str) -> String {
        let mut path = String::new();
        for frame in &self.frames {
            match frame.key {
                Some((start, end)) => {
                    let key = &text[start..end];
                    if !path.is_empty() {
                        path.push('.');
                    }
                    path.push_str(if placeholder::is_name(key) && key.len() <= 32 { key } else { "…" });
                }
                None => path.push_str(&format!("[{}]", frame.index)),
            }
        }
        path
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step<'a> {
    Key(Cow<'a, str>),
    Index(usize),
}

impl Step<'_> {
    pub fn into_owned(self) -> Step<'static> {
        match self {
            Step::Key(key) => Step::Key(key.into_owned().into()),
            Step::Index(at) => Step::Index(at),
        }
    }

    pub fn key(&self) -> Option<&str> {
        if let Step::Key(key) = self { Some(key) } else { None }
    }

    pub fn of<'v>(&self, node: &'v serde_json::Value) -> &'v serde_json::Value {
        match self {
            Step::Key(key) => &node[key.as_ref()],
            Step::Index(at) => &node[at],
        }
    }
}

pub(crate) enum Token {
    /// The span without quotes.
    Key(usize, usize),
    String(usize, usize),
    Number(usize, usize),
}

/// Calls `visit` for each key, string and number of `text`, which must be one JSON value.
pub(crate) fn walk(text: &str, free: bool, mut visit: impl FnMut(&Place, Token) -> Result<(), BodyError>) -> Result<(), BodyError> {
    let bytes = text.as_bytes();
    let mut place = Place::default();
    let mut at = space(bytes, 0);
    // Whether a value is expected here, or the comma or bracket behind one.
    let mut wants_value = true;
    let malformed = |at| BodyError::Malformed { at };
    loop {
        at = space(bytes, at);
        if wants_value {
            match bytes.get(at).copied().ok_or(malformed(at))? {
                open @ (b'{' | b'[') => {
                    if place.frames.len() == DEPTH_MAX {
                        return Err(BodyError::TooDeep);
                    }
                    let inside = free || place.is_free() || opens_free(place.own_key().map_or("", |(start, end)| &text[start..end]), open);
                    place.frames.push(Frame { key: None, index: 0, free: inside });
                    at = space(bytes, at + 1);
                    if bytes.get(at) == Some(&(open + 2)) {
                        place.frames.pop();
                        (at, wants_value) = (at + 1, false);
                    } else if open == b'{' {
                        at = member(bytes, at, &mut place, &mut visit)?;
                    }
                }
                b'"' => {
                    let end = string(bytes, at, &mut place.escapes)?;
                    visit(&place, Token::String(at + 1, end))?;
                    (at, wants_value) = (end + 1, false);
                }
                b'-' | b'0'..=b'9' => {
                    let end = number(bytes, at).ok_or(malformed(at))?;
                    visit(&place, Token::Number(at, end))?;
                    (at, wants_value) = (end, false);
                }
                _ => {
                    let word = ["true", "false", "null"].into_iter().find(|word| bytes[at..].starts_with(word.as_bytes()));
                    (at, wants_value) = (at + word.ok_or(malformed(at))?.len(), false);
                }
            }
            continue;
        }
        let Some(frame) = place.frames.last_mut() else {
            return if at == bytes.len() { Ok(()) } else { Err(malformed(at)) };
        };
        let object = frame.key.is_some();
        match bytes.get(at) {
            Some(b',') if object => at = member(bytes, space(bytes, at + 1), &mut place, &mut visit)?,
            Some(b',') => {
                frame.index += 1;
                at += 1;
            }
            Some(b'}') if object => {
                place.frames.pop();
                at += 1;
                continue;
            }
            Some(b']') if !object => {
                place.frames.pop();
                at += 1;
                continue;
            }
            _ => return Err(malformed(at)),
        }
        wants_value = true;
    }
}

/// A key and its colon.
fn member(bytes: &[u8], at: usize, place: &mut Place, visit: &mut impl FnMut(&Place, Token) -> Result<(), BodyError>) -> Result<usize, BodyError> {
    if bytes.get(at) != Some(&b'"') {
        return Err(BodyError::Malformed { at });
    }
    let end = string(bytes, at, &mut place.escapes)?;
    if let Some(frame) = place.frames.last_mut() {
        frame.key = Some((at + 1, end));
    }
    visit(place, Token::Key(at + 1, end))?;
    let colon = space(bytes, end + 1);
    if bytes.get(colon) == Some(&b':') { Ok(colon + 1) } else { Err(BodyError::Malformed { at: colon }) }
}

fn space(bytes: &[u8], at: usize) -> usize {
    at + bytes[at.min(bytes.len())..].iter().take_while(|byte| matches!(byte, b' ' | b'\n' | b'\r' | b'\t')).count()
}

/// The closing quote of the string that begins at `at`, and its escapes.
fn string(bytes: &[u8], at: usize, escapes: &mut Vec<usize>) -> Result<usize, BodyError> {
    escapes.clear();
    let mut next = at + 1;
    loop {
        let malformed = BodyError::Malformed { at: next };
        let found = next + memchr::memchr2(b'"', b'\\', bytes.get(next..).ok_or(malformed.clone())?).ok_or(malformed)?;
        if bytes[found] == b'"' {
            return Ok(found);
        }
        escapes.push(found);
        next = match bytes.get(found + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => found + 2,
            Some(b'u') if bytes.get(found + 2..found + 6).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) => found + 6,
            _ => return Err(BodyError::Malformed { at: found }),
        };
    }
}

/// Whether `raw` is what can stand between the quotes of one JSON string. Half a pair of units is not.
pub(crate) fn is_inside(raw: &str) -> bool {
    let bytes = raw.as_bytes();
    if bytes.iter().any(|byte| *byte < b' ' || *byte == b'"' || *byte == b'\\') {
        let units = memchr::memmem::find(bytes, b"\\ud").or_else(|| memchr::memmem::find(bytes, b"\\uD"));
        // `string` looks for a quote: this one is the only that may end it.
        let quoted = [b"\"", bytes, b"\""].concat();
        return units.is_none() && bytes.iter().all(|byte| *byte >= b' ') && string_end(&quoted, 0) == Some(quoted.len() - 1);
    }
    true
}

/// Where the string that begins at `at` ends, if it is well-formed.
pub(crate) fn string_end(bytes: &[u8], at: usize) -> Option<usize> {
    string(bytes, at, &mut Vec::new()).ok()
}

fn number(bytes: &[u8], at: usize) -> Option<usize> {
    let digits = |at: usize| at + bytes[at.min(bytes.len())..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let whole = at + usize::from(bytes[at] == b'-');
    let mut end = digits(whole);
    if end == whole || (bytes[whole] == b'0' && end > whole + 1) {
        return None;
    }
    if bytes.get(end) == Some(&b'.') {
        let fraction = digits(end + 1);
        (fraction > end + 1).then_some(())?;
        end = fraction;
    }
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        let from = end + 1 + usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        let exponent = digits(from);
        (exponent > from).then_some(())?;
        end = exponent;
    }
    Some(end)
}

/// Appends what the inside of a JSON string says.
pub(crate) fn unescape(raw: &str, to: &mut String) {
    each_char(raw, memchr::memchr_iter(b'\\', raw.as_bytes()), |_, piece| match piece {
        Piece::Plain(text) => to.push_str(text),
        Piece::Escape(letter) => to.push(letter),
    });
}

/// What `text[start..end]`, the string at `place`, says.
fn said<'a>(text: &'a str, start: usize, end: usize, place: &Place, to: &'a mut String) -> &'a str {
    let raw = &text[start..end];
    if place.escapes.is_empty() {
        return raw;
    }
    to.clear();
    each_char(raw, place.escapes.iter().map(|at| at - start), |_, piece| match piece {
        Piece::Plain(text) => to.push_str(text),
        Piece::Escape(letter) => to.push(letter),
    });
    to
}

/// Where in `raw` the bytes of what it says begin that stand at `wanted`, which is sorted.
fn raw_offsets(raw: &str, wanted: &[usize]) -> Vec<usize> {
    let mut offsets = Vec::with_capacity(wanted.len());
    let mut said = 0;
    each_char(raw, memchr::memchr_iter(b'\\', raw.as_bytes()), |at, piece| {
        let len = match &piece {
            Piece::Plain(text) => text.len(),
            Piece::Escape(letter) => letter.len_utf8(),
        };
        while let Some(want) = wanted.get(offsets.len()).filter(|want| **want < said + len) {
            offsets.push(if matches!(piece, Piece::Plain(_)) { at + want - said } else { at });
        }
        said += len;
    });
    offsets.resize(wanted.len(), raw.len());
    offsets
}

enum Piece<'a> {
    Plain(&'a str),
    Escape(char),
}

/// `backslashes` are those of `raw`, or at least those that begin an escape.
fn each_char<'a>(raw: &'a str, backslashes: impl Iterator<Item = usize>, mut visit: impl FnMut(usize, Piece<'a>)) {
    let bytes = raw.as_bytes();
    let mut done = 0;
    for at in backslashes {
        if at < done {
            continue;
        }
        if at > done {
            visit(done, Piece::Plain(&raw[done..at]));
        }
        let unit = |at: usize| u32::from_str_radix(raw.get(at + 2..at + 6).filter(|_| bytes[at..].starts_with(b"\\u"))?, 16).ok();
        let (letter, len) = match bytes.get(at + 1) {
            Some(b'n') => ('\n', 2),
            Some(b'r') => ('\r', 2),
            Some(b't') => ('\t', 2),
            Some(b'b') => ('\u{8}', 2),
            Some(b'f') => ('\u{c}', 2),
            Some(b'u') => match (unit(at), unit((at + 6).min(bytes.len()))) {
                (Some(high @ 0xd800..0xdc00), Some(low @ 0xdc00..0xe000)) => {
                    (char::from_u32(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00)).unwrap_or('\u{fffd}'), 12)
                }
                (Some(code), _) => (char::from_u32(code).unwrap_or('\u{fffd}'), 6),
                // A delta may end within an escape.
                (None, _) => ('\\', 1),
            },
            Some(other) if other.is_ascii() => (*other as char, 2),
            _ => ('\\', 1),
        };
        visit(at, Piece::Escape(letter));
        done = at + len;
    }
    if done < raw.len() {
        visit(done, Piece::Plain(&raw[done..]));
    }
}

// What may be edited.

/// Keys of which an object is somebody's own data: arguments of tools, their results, schemas.
fn opens_free(key: &str, open: u8) -> bool {
    match key {
        "arguments" | "args" | "parameters" | "input_schema" | "schema" | "properties" | "functionResponse" | "function_response" | "metadata" => true,
        // An array is the conversation in one provider's format, an object the arguments in another's.
        "input" => open == b'{',
        _ => false,
    }
}

/// The keys of the formats and of schemas, as far as a secret could be one of them.
#[rustfmt::skip]
const KEYS: [&str; 91] = [
    "additionalProperties", "annotations", "arguments", "budget_tokens", "cache_control", "cache_creation_input_tokens",
    "cache_read_input_tokens", "cached_tokens", "candidates", "candidatesTokenCount", "citations", "completion", "completion_tokens",
    "completion_tokens_details", "contentIndex", "content_block", "content_index", "contents", "definitions", "description", "encrypted_content",
    "exclusiveMaximum", "exclusiveMinimum", "fileData", "file_data", "finishReason", "finish_reason", "frequency_penalty", "function", "functionCall",
    "functionCallingConfig", "functionDeclarations", "functionResponse", "function_call", "generationConfig", "image_url", "include_usage",
    "incomplete_details", "inlineData", "input_schema", "input_tokens", "instructions", "is_error", "json_schema", "logit_bias", "logprobs",
    "maxItems", "maxLength", "maxOutputTokens", "max_completion_tokens", "max_output_tokens", "max_tokens", "media_type", "messages", "metadata",
    "mimeType", "minItems", "minLength", "modelVersion", "output_index", "output_tokens", "parallel_tool_calls", "parameters", "partial_json",
    "patternProperties", "presence_penalty", "prompt_tokens", "prompt_tokens_details", "properties", "provider", "reasoning", "reasoning_content",
    "reasoning_details", "reasoning_effort", "redacted_thinking", "required", "response_format", "safetySettings", "sequence_number", "service_tier",
    "signature", "stop_reason", "stop_sequence", "stop_sequences", "stream_options", "systemInstruction", "system_fingerprint", "thinking",
    "tool_calls", "tool_choice", "tool_use_id",
];

/// What the formats write under their own keys. Where a list is open, as the names of events are, its parts are closed.
#[rustfmt::skip]
const VALUES: [&str; 53] = [
    "adaptive", "application/json", "application/pdf", "assistant", "chat.completion", "chat.completion.chunk", "completed", "content_block_delta",
    "content_block_start", "content_block_stop", "content_filter", "developer", "disabled", "document", "end_turn", "ephemeral", "function",
    "function_call", "function_call_output", "image/jpeg", "image/png", "image/webp", "image_url", "in_progress", "incomplete", "input_audio",
    "input_file", "input_image", "input_json_delta", "input_text", "json_object", "json_schema", "max_output_tokens", "max_tokens", "message_delta",
    "message_start", "message_stop", "output_text", "reasoning", "redacted_thinking", "required", "response", "server_tool_use", "signature_delta",
    "stop_sequence", "summary_text", "text_delta", "text_editor", "thinking", "thinking_delta", "tool_calls", "tool_result",
    "tool_use",
];

/// Whether `value` is a word that a provider's format writes itself: nobody could read the body without it.
pub(crate) fn is_of_format(value: &str) -> bool {
    VALUES.contains(&value)
        || value.strip_prefix("response.").is_some_and(|kind| kind.bytes().all(|byte| byte.is_ascii_lowercase() || matches!(byte, b'.' | b'_')))
}

/// Whether the text at a place is a key or a word of the format.
fn is_fixed(place: &Place, text: &str, is_key: bool, value: &str) -> bool {
    if is_key { KEYS.contains(&value) } else { !place.is_free() && field(place.key(text), value) == Field::Word && is_of_format(value) }
}

#[derive(Clone, Copy, PartialEq)]
enum Field {
    /// Looked at and edited.
    Text,
    /// Words of the format: only known secrets are edited.
    Word,
    /// Never edited.
    Opaque,
}

fn field(key: &str, value: &str) -> Field {
    match key {
        "id" | "signature" | "thoughtSignature" | "thought_signature" | "prompt_cache_key" | "b64_json" | "system_fingerprint" | "safety_identifier"
        | "file_data" | "call_id" | "responseId" => Field::Opaque,
        _ if key.ends_with("_id") || key.starts_with("encrypted_") || key.ends_with("_signature") => Field::Opaque,
        // Plain text can be sent as `data`, too.
        "data" if is_base64(value) => Field::Opaque,
        "url" | "image_url" | "file_url" | "fileUri" | "file_uri" if value.starts_with("data:") => Field::Opaque,
        "type" | "role" | "model" | "object" | "media_type" | "mimeType" | "mime_type" | "finish_reason" | "stop_reason" | "finishReason" | "status"
        | "modelVersion" | "service_tier" => Field::Word,
        _ => Field::Text,
    }
}

/// Whether a string under this key is text that may be edited.
pub(crate) fn is_text(key: &str, value: &str) -> bool {
    field(key, value) == Field::Text
}

fn is_base64(value: &str) -> bool {
    value.len() >= 16 && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=' | b'-' | b'_' | b'\n' | b'\r'))
}

/// Whether the root looks like a call to a model or its answer. Any other JSON is somebody's own data.
fn is_wire(text: &str) -> bool {
    const ROOTS: [&str; 12] =
        ["messages", "contents", "input", "choices", "candidates", "output", "content", "delta", "prompt", "response", "content_block", "item"];
    let mut wire = false;
    // The first keys of the root are enough; malformed text is told later.
    let _ = walk(text, false, |place, token| {
        if let (Token::Key(start, end), 1) = (token, place.frames.len()) {
            wire |= ROOTS.contains(&&text[start..end]);
            if wire {
                return Err(BodyError::TooDeep);
            }
        }
        Ok(())
    });
    wire
}

// Redaction.

/// May take the string at a place and a span for itself: then nothing else looks at it.
pub(crate) type Own<'a> = dyn FnMut(&Place, usize, usize) -> Result<bool, BodyError> + 'a;

impl Redactor {
    /// Redacts a JSON body.
    pub fn json<'a>(&self, body: &'a [u8]) -> Result<Body<'a>, BodyError> {
        let text = std::str::from_utf8(body).map_err(|error| BodyError::Malformed { at: error.valid_up_to() })?;
        let edits = self.json_edits(text, !is_wire(text), 0, &mut |_, _, _| Ok(false))?;
        if edits.is_empty() {
            return Ok(Body { bytes: body.into(), findings: Vec::new() });
        }
        let bytes = splice(text, &edits).into_bytes();
        Ok(Body { bytes: bytes.into(), findings: edits.into_iter().map(|edit| edit.finding).collect() })
    }

    /// The edits of one JSON text. `own` may take a string for itself: a stream does with its deltas.
    pub(crate) fn json_edits(&self, text: &str, free: bool, nested: usize, own: &mut Own) -> Result<Vec<Edit>, BodyError> {
        let mut edits: Vec<Edit> = Vec::new();
        let mut buffer = String::new();
        walk(text, free, |place, token| {
            let (start, end, is_key) = match token {
                Token::String(start, end) => (start, end, false),
                Token::Key(start, end) => (start, end, true),
                Token::Number(start, end) => {
                    // Digits within a number are no value: each time of day has some.
                    let digits = text[start..end].trim_start_matches('-');
                    let whole = |hit: &Hit| hit.start == 0 && hit.end == digits.len();
                    return if digits.len() < NUMBER_BYTES_MIN { Ok(()) } else { self.block(digits.as_bytes(), whole, || place.path(text)) };
                }
            };
            if start == end {
                return Ok(());
            }
            if !is_key && own(place, start, end)? {
                return Ok(());
            }
            let raw = &text[start..end];
            // Whether a field may be edited does not depend on what was said in it before; what is edited in a text does not
            // depend on the field.
            let seen_as = (nested == 0 && !is_key && raw.len() >= SEEN_BYTES_MIN && (place.is_free() || field(place.key(text), raw) == Field::Text))
                .then(|| self.seen.key(raw));
            if let Some(known) = seen_as.and_then(|key| self.seen.edits(&key)) {
                edits.extend(known.iter().map(|edit| edit.moved(start)));
                return Ok(());
            }
            let value = said(text, start, end, place, &mut buffer);
            let field = match (is_key, place.is_free()) {
                (true, _) => Field::Word,
                (_, true) => Field::Text,
                _ => field(place.key(text), value),
            };
            if field == Field::Opaque {
                return self.block(value.as_bytes(), |_| true, || place.path(text));
            }
            let mut found = if field == Field::Text { self.value_edits(value, nested)? } else { self.edits(value, Look::Known) };
            if !found.is_empty() && is_fixed(place, text, is_key, value) {
                return Ok(());
            }
            if raw.len() != value.len() && !found.is_empty() {
                let wanted: Vec<usize> = found.iter().flat_map(|edit| [edit.finding.start, edit.finding.end]).collect();
                for (edit, span) in found.iter_mut().zip(raw_offsets(raw, &wanted).chunks(2)) {
                    (edit.finding.start, edit.finding.end) = (span[0], span[1]);
                }
            }
            if let Some(key) = seen_as {
                self.seen.keep(key, &found);
            }
            for edit in &mut found {
                *edit = edit.moved(start);
            }
            if field == Field::Text
                && place.is_free()
                && raw.len() == value.len()
                && let Some((key, _)) = place.own_key()
            {
                self.pair_edits(text, key - 1, start, end, &mut found);
            }
            edits.extend(found);
            Ok(())
        })?;
        Ok(edits)
    }

    /// The edits of a text that is JSON, or `None` if it is not. Where a body would be refused, a text is only text.
    pub(crate) fn json_text_edits(&self, text: &str) -> Option<Vec<Edit>> {
        if !text.trim_ascii_start().starts_with(['{', '[']) {
            return None;
        }
        let wire = is_wire(text);
        let inner = self.json_edits(text, !wire, 0, &mut |_, _, _| Ok(false)).ok()?;
        Some(self.with_surface(text, !wire, inner, if wire { Look::KnownSurface } else { Look::Surface }))
    }

    /// The edits of a string's text, which may be JSON itself.
    pub(crate) fn value_edits(&self, value: &str, nested: usize) -> Result<Vec<Edit>, BodyError> {
        if nested == NESTED_MAX || !value.trim_ascii_start().starts_with(['{', '[']) {
            return Ok(self.edits(value, Look::All));
        }
        let inner = match self.json_edits(value, true, nested + 1, &mut |_, _, _| Ok(false)) {
            Ok(inner) => inner,
            // Text that only begins like JSON; a secret in a number of real JSON still blocks.
            Err(BodyError::Malformed { .. } | BodyError::TooDeep) => return Ok(self.edits(value, Look::All)),
            Err(error) => return Err(error),
        };
        Ok(self.with_surface(value, true, inner, Look::Surface))
    }

    /// The edits of the strings of a JSON text, and of what spans several of them or only its surroundings explain.
    fn with_surface(&self, text: &str, free: bool, inner: Vec<Edit>, look: Look) -> Vec<Edit> {
        let mut outer = self.edits(text, look);
        if outer.is_empty() {
            return inner;
        }
        // The net sees quotes and escapes here for what they are not: it is believed within one plain value, where nothing
        // was found, and what it cuts never costs a tool its arguments.
        let (mut spots, mut next) = (vec![Spot::default(); outer.len()], 0);
        // Whoever calls has walked it.
        let _ = walk(text, free, |place, token| {
            let (start, end, is_key) = match token {
                Token::String(start, end) => (start, end, false),
                Token::Key(start, end) => (start, end, true),
                Token::Number(..) => return Ok(()),
            };
            while let Some(edit) = outer.get(next).filter(|edit| edit.finding.start < end) {
                let inside = start <= edit.finding.start && edit.finding.end <= end;
                spots[next] = Spot { inside, is_key, is_fixed: inside && is_fixed(place, text, is_key, &text[start..end]) };
                next += 1;
            }
            Ok(())
        });
        let mut spots = spots.into_iter();
        outer.retain(|edit| {
            let Finding { start, end, .. } = edit.finding;
            let Spot { inside, is_key, is_fixed } = spots.next().unwrap_or_default();
            let within = inside && !is_key && !text[start..end].contains('\\');
            let behind = inner.partition_point(|edit| edit.finding.end <= start);
            let apart = inner.get(behind).is_none_or(|edit| end <= edit.finding.start);
            // Within one string whoever has read its escapes knows best where a known one begins.
            !is_fixed && (within && apart || edit.finding.rule.starts_with("known:") && (apart || !inside))
        });
        merged(outer, &inner)
    }

    /// What the net makes of `"key": "value"`, as far as it is about the value.
    fn pair_edits(&self, text: &str, key: usize, start: usize, end: usize, found: &mut Vec<Edit>) {
        if end + 1 - key > PAIR_BYTES_MAX || end - start < 4 {
            return;
        }
        let pair = &text[key..end + 1];
        let mut pairs: Vec<Found> = Vec::new();
        // A value that may stay is not taken for an unknown one either.
        if !self.spared.is_empty() && Search::known(&self.known, &text.as_bytes()[start..end]).iter().any(|hit| self.is_spared(hit)) {
            return;
        }
        self.net.scan(pair, &mut pairs);
        let mut hits: Vec<Hit> = pairs.into_iter().map(Hit::from).collect();
        self.beside_placeholders(pair, &mut hits);
        hits.retain(|hit| key + hit.start >= start && key + hit.end <= end);
        self.spare_placeholders(pair, &mut hits);
        for hit in hits {
            let edit = self.edit(pair, hit).moved(key);
            let (from, to) = (edit.finding.start, edit.finding.end);
            if found.iter().all(|edit| to <= edit.finding.start || edit.finding.end <= from) {
                found.push(edit);
            }
        }
        found.sort_by_key(|edit| edit.finding.start);
    }

    /// Refuses `value` if it holds a known secret in a way that counts.
    pub(crate) fn block(&self, value: &[u8], counts: impl Fn(&Hit) -> bool, path: impl Fn() -> String) -> Result<(), BodyError> {
        let hits = Search::known(&self.known, value);
        match hits.iter().find(|hit| counts(hit) && !self.is_spared(hit)).map(|hit| &hit.what) {
            Some(What::Known(secret)) => Err(BodyError::Blocked { path: path(), name: self.known.name(*secret).to_owned() }),
            _ => Ok(()),
        }
    }
}

/// Where in a JSON text an edit of its surface lies.
#[derive(Clone, Copy, Default)]
struct Spot {
    /// In one string.
    inside: bool,
    is_key: bool,
    is_fixed: bool,
}

/// Both lists in order; where they overlap, the inner edit, which knows more, widened.
fn merged(outer: Vec<Edit>, inner: &[Edit]) -> Vec<Edit> {
    let mut all: Vec<Edit> = outer.into_iter().chain(inner.iter().cloned()).collect();
    all.sort_by_key(|edit| (edit.finding.start, usize::MAX - edit.finding.end));
    let mut merged: Vec<Edit> = Vec::new();
    for edit in all {
        match merged.last_mut() {
            Some(last) if edit.finding.start < last.finding.end => {
                if edit.finding.rule.starts_with("known:") && !last.finding.rule.starts_with("known:") {
                    last.finding.rule = edit.finding.rule;
                    last.finding.confidence = Confidence::Certain;
                    last.placeholder = edit.placeholder;
                }
                last.finding.end = last.finding.end.max(edit.finding.end);
            }
            _ => merged.push(edit),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Known;
    use serde_json::{Value, json};

    const VALUE: &str = "Zx81\"kaffee\\/\nLöwe";

    fn redactor() -> Redactor {
        Redactor::new(Known::new([("db", VALUE.as_bytes()), ("pin", b"98765432109".as_slice())]), &[3; 32])
    }

    fn check(body: &str, expected: Result<&str, BodyError>) {
        let redactor = redactor();
        let got = redactor.json(body.as_bytes()).map(|body| String::from_utf8(body.bytes.into_owned()).expect("edits are text"));
        assert_eq!(got, expected.map(str::to_owned), "{body}");
    }

    fn quoted(text: &str) -> String {
        serde_json::to_string(text).expect("text can be quoted")
    }

    #[test]
    fn strings_are_edited_and_all_else_stays_as_it_came() {
        let once = quoted(VALUE);
        check(&format!("{{ \"a\" : [1.50, {once}],\n\"b\":\"\\u0041\"}}"), Ok("{ \"a\" : [1.50, \"SECRET_REF(db)\"],\n\"b\":\"\\u0041\"}"));
        let ascii: String = VALUE.encode_utf16().map(|unit| format!("\\u{unit:04X}")).collect();
        check(&format!("[\"x {ascii} y\"]"), Ok("[\"x SECRET_REF(db) y\"]"));
        let nested = quoted(&format!("{{\"cmd\": {once}}}"));
        check(&format!("{{\"arguments\":{nested}}}"), Ok(r#"{"arguments":"{\"cmd\": \"SECRET_REF(db)\"}"}"#));
        check(&format!("{{{once}: 1}}"), Ok("{\"SECRET_REF(db)\": 1}"));
        check("\"plain\"", Ok("\"plain\""));
        check(" [ ] ", Ok(" [ ] "));
    }

    #[test]
    fn what_only_the_surroundings_explain_is_found_and_arguments_stay_json() {
        let redactor = Redactor::new(Known::default(), &[3; 32]);
        let (password, token) = (format!("harbour{}", "71Lq"), format!("{}_{}", "ghp", "aB3dE7gH2kL9mN4pQ8s".repeat(2)));
        let header = format!("# {}\n\nTOKEN={token}\n{token}\n", "say \"so\"");
        for arguments in [json!({"password": password}), json!({"content": header}), json!([header, {"db_password": password}])] {
            let arguments = arguments.to_string();
            let body = json!({"messages": [{"tool_calls": [{"function": {"arguments": arguments}}]}]}).to_string();
            let body = redactor.json(body.as_bytes()).expect("the body is JSON").bytes.into_owned();
            let body: Value = serde_json::from_slice(&body).expect("it stays JSON");
            let kept = body["messages"][0]["tool_calls"][0]["function"]["arguments"].as_str().expect("a string stays one");
            assert!(!kept.contains(&password) && !kept.contains(&token), "{kept}");
            assert!(serde_json::from_str::<Value>(kept).is_ok(), "{kept}");
        }
    }

    #[test]
    fn what_must_not_be_edited_blocks_the_call_by_name() {
        let once = quoted(VALUE);
        let blocked = |path: &str, name: &str| Err(BodyError::Blocked { path: path.to_owned(), name: name.to_owned() });
        check(
            &format!("{{\"messages\":[{{\"content\":[{{\"type\":\"thinking\",\"signature\":{once}}}]}}]}}"),
            blocked("messages[0].content[0].signature", "db"),
        );
        check(&format!("{{\"messages\":[{{\"tool_call_id\":{once}}}]}}"), blocked("messages[0].tool_call_id", "db"));
        check("{\"n\":98765432109}", blocked("n", "pin"));
        // In somebody's own data an id is a word like any other.
        check(
            &format!("{{\"messages\":[{{\"content\":[{{\"input\":{{\"id\":{once}}}}}]}}]}}"),
            Ok("{\"messages\":[{\"content\":[{\"input\":{\"id\":\"SECRET_REF(db)\"}}]}]}"),
        );
        // Plain text is no media.
        check(
            &format!("{{\"messages\":[{{\"source\":{{\"data\":{}}}}}]}}", quoted(&format!("see {VALUE} here"))),
            Ok("{\"messages\":[{\"source\":{\"data\":\"see SECRET_REF(db) here\"}}]}"),
        );
    }

    #[test]
    fn words_of_the_format_are_never_edited() {
        let secrets = ["assistant", "function", "password", "description", "properties", "tool_calls", "content_block_delta"];
        let redactor = Redactor::new(Known::new(secrets.map(|word| ("v", word.as_bytes()))), &[3; 32]);
        let wire = json!({"type":"content_block_delta","messages":[{"role":"assistant","tool_calls":[{"type":"function","function":{"name":"f",
            "parameters":{"type":"object","properties":{"a":{"type":"string","description":"x"}}}}}]}]})
        .to_string();
        let done = |body: &str| redactor.json(body.as_bytes()).map(|body| String::from_utf8(body.bytes.into_owned()).expect("text"));
        assert_eq!(done(&wire), Ok(wire.clone()));
        assert_eq!(redactor.text(&wire).text, wire);
        let nested = json!({"messages":[{"content":wire}]}).to_string();
        assert_eq!(done(&nested).map(|body| body.matches("properties").count()), Ok(1), "a schema in a text stays one");
        // Elsewhere it is a value like any other.
        let said = r#"{"messages":[{"role":"assistant","content":"assistant: function","name":"password"}]}"#;
        assert_eq!(done(said), Ok(r#"{"messages":[{"role":"assistant","content":"SECRET_REF(v): SECRET_REF(v)","name":"SECRET_REF(v)"}]}"#.to_owned()));
        assert_eq!(done(r#"{"messages":[{"role":"password"}]}"#), Ok(r#"{"messages":[{"role":"SECRET_REF(v)"}]}"#.to_owned()));
    }

    #[test]
    fn a_number_is_one_value() {
        for (body, blocked) in [("1763634999", false), ("17636349", true), ("-17636349", true), ("0.17636349", false), ("117636349", false)] {
            let redactor = Redactor::new(Known::new([("pin", b"17636349".as_slice())]), &[3; 32]);
            assert_eq!(redactor.json(format!("{{\"created\":{body}}}").as_bytes()).is_err(), blocked, "{body}");
        }
    }

    #[test]
    fn what_is_not_json_is_refused() {
        for body in [
            "",
            "{",
            "[1,]",
            "{\"a\" 1}",
            "{\"a\":1,}",
            "{a:1}",
            "[1 2]",
            "\"\\x\"",
            "\"open",
            "nul",
            "01",
            "1.",
            "[1]]",
            "{\"a\":1}x",
            "[\"\\u12\"]",
            "{]",
            "[}",
        ] {
            assert!(matches!(redactor().json(body.as_bytes()), Err(BodyError::Malformed { .. })), "{body}");
        }
        assert_eq!(redactor().json(&[b'[', b'"', 0xff, b'"', b']']).unwrap_err(), BodyError::Malformed { at: 2 });
        assert_eq!(redactor().json("[".repeat(300).as_bytes()).unwrap_err(), BodyError::TooDeep);
    }
}
