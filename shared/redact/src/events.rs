//! An answer as server-sent events: the texts that its deltas spell are what is looked at, and edits are made in the deltas.
//!
//! Every string under a delta is a piece of a text of its own, named by where it stands; what is held back of one goes out
//! in the next piece of it, or in an event of its own before the one that ends it. A text is remembered until the answer
//! ends, whatever the events say of its end. The arguments of a tool call wait until they are whole, because only then can
//! they be read as what they are, JSON; a delta that carries none of them is left empty. What is no delta is redacted event
//! by event, and so is every line that is no data.
//!
//! An answer that is lines of JSON, as Ollama's, is taken for events that are a line of data each.
//!
//! A limit: an answer whose text itself is JSON is looked at as text.

use crate::body::BodyError;
use crate::json::{self, Place, Step};
use crate::stream::{Hold, TextStream};
use crate::{Confidence, Edit, Finding, Redactor, splice};
use serde_json::{Map, Value, json};
use std::sync::Arc;

const EVENT_BYTES_MAX: usize = 4 << 20;
/// Arguments of all calls that are not whole yet.
const ARGUMENTS_BYTES_MAX: usize = 4 << 20;
/// Texts of one answer.
const CHANNELS_MAX: usize = 1024;
const BOM: &[u8] = b"\xef\xbb\xbf";

#[derive(Debug)]
pub struct EventStream {
    redactor: Arc<Redactor>,
    /// The beginning of a line, where each line is an event.
    line: Option<Vec<u8>>,
    pending: Vec<u8>,
    /// How much of `pending` is known to hold no end of an event.
    scanned: usize,
    begun: bool,
    channels: Vec<Channel>,
    frame: Option<Frame>,
    /// The last line beside data that had nothing in it: most events have the same.
    clean: String,
    findings: Vec<Finding>,
}

/// An event that was all of it as it may leave, but for the one text that it has a piece of. The next is mostly the same.
#[derive(Debug)]
struct Frame {
    before: String,
    after: String,
    channel: usize,
    /// The event's lines before its data, and its end; nothing where others may look different.
    lines: Option<(String, String)>,
}

/// Events that come at once and are like the one before but for their piece of the same text.
struct Run<'a> {
    channel: usize,
    /// Each event, and where its piece stands in it.
    events: Vec<(&'a str, std::ops::Range<usize>)>,
}

/// One text of an answer.
#[derive(Debug)]
struct Channel {
    spot: Spot,
    speech: Speech,
    /// Where its last piece stood, and in which event, as it left.
    path: Vec<Step<'static>>,
    data: String,
    event_line: String,
    /// Its end was told. If more comes after that, ends are not believed any more.
    ended: bool,
    believed: bool,
}

/// Which text.
#[derive(Clone, Debug, PartialEq)]
struct Spot {
    shape: Shape,
    /// Choice, content block, output or candidate.
    index: u64,
    /// The members that lead there, and the numbers of the parts.
    name: String,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Shape {
    /// `choices[].delta`, `choices[].text`
    Chat,
    /// `content_block_start`, `content_block_delta`
    Block,
    /// `response.….delta`
    Response,
    /// `candidates[].content.parts[]`
    Candidate,
    /// `message`, in lines of JSON.
    Line,
    /// Data that is no JSON.
    Plain,
}

#[derive(Clone, Copy, PartialEq)]
enum Class {
    Text,
    /// What is mostly said in one piece: it waits for known secrets only.
    Word,
    Arguments,
}

#[derive(Debug)]
enum Speech {
    Text(TextStream),
    Word(TextStream, String),
    Arguments(Arguments),
}

/// A piece of a text in an event: its span, what it said and what it says now.
struct Piece {
    channel: usize,
    start: usize,
    end: usize,
    said: String,
    spoken: String,
}

impl EventStream {
    pub fn new(redactor: Arc<Redactor>) -> Self {
        Self {
            redactor,
            line: None,
            pending: Vec::new(),
            scanned: 0,
            begun: false,
            channels: Vec::new(),
            frame: None,
            clean: String::new(),
            findings: Vec::new(),
        }
    }

    /// For an answer that is lines of JSON.
    pub fn of_lines(redactor: Arc<Redactor>) -> Self {
        Self { line: Some(Vec::new()), ..Self::new(redactor) }
    }

    /// The events that may go now that `piece` has come.
    pub fn push(&mut self, piece: &[u8]) -> Result<Vec<u8>, BodyError> {
        let Some(mut line) = self.line.take() else { return self.push_events(piece) };
        let mut gone = Vec::new();
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            line.extend_from_slice(part);
            if part.ends_with(b"\n") {
                gone.extend(bare(&self.push_events(&framed(&line))?));
                line.clear();
            }
        }
        let len = line.len();
        self.line = Some(line);
        if len > EVENT_BYTES_MAX { Err(BodyError::TooLarge { bytes_max: EVENT_BYTES_MAX }) } else { Ok(gone) }
    }

    fn push_events(&mut self, piece: &[u8]) -> Result<Vec<u8>, BodyError> {
        self.pending.extend_from_slice(piece);
        let pending = std::mem::take(&mut self.pending);
        let (mut gone, mut at) = (Vec::with_capacity(piece.len()), 0);
        while let Some(len) = event_len(&pending[at..], self.scanned) {
            if let Some(run) = self.run(&pending[at..]) {
                at += run.events.iter().map(|(event, _)| event.len()).sum::<usize>();
                self.scanned = 0;
                self.speak_run(run, &mut gone)?;
                continue;
            }
            self.event(&pending[at..at + len], &mut gone)?;
            (at, self.scanned) = (at + len, 0);
        }
        self.pending = pending;
        self.pending.drain(..at);
        // A line's end may be cut in the middle.
        self.scanned = self.pending.len().saturating_sub(3);
        if self.pending.len() > EVENT_BYTES_MAX {
            return Err(BodyError::TooLarge { bytes_max: EVENT_BYTES_MAX });
        }
        Ok(gone)
    }

    /// What the net would still wait for, as events of their own. Arguments go when they are whole.
    pub fn release(&mut self) -> Vec<u8> {
        let mut gone = Vec::new();
        for channel in &mut self.channels {
            let rest = match &mut channel.speech {
                Speech::Text(stream) => stream.release(),
                Speech::Word(..) | Speech::Arguments(_) => continue,
            };
            channel.carry(rest, &mut gone);
        }
        if self.line.is_some() { bare(&gone) } else { gone }
    }

    pub fn finish(&mut self) -> Result<Vec<u8>, BodyError> {
        let Some(line) = self.line.take() else { return self.finish_events() };
        let mut gone = self.push_events(&framed(&line))?;
        gone.extend(self.finish_events()?);
        Ok(bare(&gone))
    }

    fn finish_events(&mut self) -> Result<Vec<u8>, BodyError> {
        let mut gone = Vec::new();
        let last = std::mem::take(&mut self.pending);
        if !last.is_empty() {
            self.event(&last, &mut gone)?;
        }
        let mut rest = Vec::new();
        self.close(&mut rest);
        if !rest.is_empty() && !gone.is_empty() && !last.is_empty() {
            // An event whose end did not come would run into the next.
            gone.extend_from_slice(if last.ends_with(b"\n") || last.ends_with(b"\r") { b"\n" } else { b"\n\n" });
        }
        gone.extend(rest);
        Ok(gone)
    }

    /// Goes on with another redactor, with what is held and the context as they are.
    pub fn renew(&mut self, redactor: Arc<Redactor>) {
        for channel in &mut self.channels {
            match &mut channel.speech {
                Speech::Text(stream) | Speech::Word(stream, _) => stream.renew(redactor.clone()),
                Speech::Arguments(arguments) => arguments.plain.iter_mut().for_each(|stream| stream.renew(redactor.clone())),
            }
        }
        self.redactor = redactor;
        self.frame = None;
        self.clean.clear();
    }

    pub fn held_bytes(&self) -> usize {
        self.channels.iter().map(|channel| channel.speech.held_bytes()).sum()
    }

    /// Spans are of the text that a channel spells.
    pub fn findings(&self) -> Vec<Finding> {
        self.findings.iter().chain(self.channels.iter().flat_map(|channel| channel.speech.findings())).cloned().collect()
    }

    fn event(&mut self, event: &[u8], gone: &mut Vec<u8>) -> Result<(), BodyError> {
        let mut text = std::str::from_utf8(event).map_err(|error| BodyError::Malformed { at: error.valid_up_to() })?;
        if !std::mem::replace(&mut self.begun, true)
            && let Some(rest) = event.strip_prefix(BOM)
        {
            gone.extend_from_slice(BOM);
            text = &text[event.len() - rest.len()..];
        }
        let mut data: Option<std::borrow::Cow<str>> = None;
        let (mut beside, mut event_line) = (false, "");
        for (line, _) in lines(text) {
            if let Some(more) = data_of(line) {
                match &mut data {
                    None => data = Some(more.into()),
                    Some(data) => {
                        data.to_mut().push('\n');
                        data.to_mut().push_str(more);
                    }
                }
                continue;
            }
            if line.starts_with("event") {
                event_line = line;
            }
            beside |= !self.is_clean(line);
        }
        // What stands beside the data is redacted line by line.
        let redacted;
        if beside {
            redacted = self.beside(text);
            text = &redacted;
            event_line = lines(text).map(|(line, _)| line).find(|line| line.starts_with("event")).unwrap_or_default();
        }
        let Some(data) = data else {
            gone.extend_from_slice(text.as_bytes());
            return Ok(());
        };
        let edited = self.data(&data, event_line, gone)?;
        if !beside && let (Some(frame @ Frame { lines: None, .. }), std::borrow::Cow::Borrowed(data)) = (&mut self.frame, &data) {
            // The data is a part of the event's text, of which nothing was taken out.
            let at = data.as_ptr() as usize - text.as_ptr() as usize;
            let end = &text[at + data.len()..];
            // Other ends may go on in the next event.
            frame.lines = matches!(end, "\n\n" | "\r\n\r\n").then(|| (text[..at].to_owned(), end.to_owned()));
        }
        match edited {
            Some(edited) => gone.extend(rewritten(text, &edited).into_bytes()),
            None => gone.extend_from_slice(text.as_bytes()),
        }
        Ok(())
    }

    /// Two or more events that say one text, looked at together: each look is at what came before, too.
    fn run<'a>(&self, pending: &'a [u8]) -> Option<Run<'a>> {
        let frame = self.frame.as_ref()?;
        let (lines, end) = frame.lines.as_ref()?;
        let (mut events, mut at) = (Vec::new(), 0);
        while let Some(rest) = pending[at..].strip_prefix(lines.as_bytes()).and_then(|rest| rest.strip_prefix(frame.before.as_bytes())) {
            let Some(len) = memchr::memchr2(b'\n', b'\r', rest) else { break };
            let Some(raw) = rest[..len].strip_suffix(frame.after.as_bytes()).and_then(|raw| std::str::from_utf8(raw).ok()) else { break };
            if !rest[len..].starts_with(end.as_bytes()) || !json::is_inside(raw) {
                break;
            }
            let start = lines.len() + frame.before.len();
            let event = std::str::from_utf8(&pending[at..at + lines.len() + frame.before.len() + len + end.len()]).ok()?;
            at += event.len();
            events.push((event, start..start + raw.len()));
        }
        (events.len() > 1).then_some(Run { channel: frame.channel, events })
    }

    fn speak_run(&mut self, run: Run<'_>, gone: &mut Vec<u8>) -> Result<(), BodyError> {
        let said = run.events.iter().map(|(event, piece)| {
            let mut said = String::new();
            json::unescape(&event[piece.clone()], &mut said);
            said
        });
        let said: Vec<String> = said.collect();
        let spoken = match &mut self.channels[run.channel].speech {
            Speech::Text(stream) => stream.push_all(&said),
            _ => said.iter().map(|said| self.speak(run.channel, said)).collect::<Result<_, _>>()?,
        };
        let channel = &mut self.channels[run.channel];
        channel.believed &= !channel.ended || said.iter().all(String::is_empty);
        for (((event, piece), said), spoken) in run.events.into_iter().zip(&said).zip(&spoken) {
            if said == spoken {
                gone.extend_from_slice(event.as_bytes());
            } else {
                gone.extend_from_slice(&event.as_bytes()[..piece.start]);
                gone.extend_from_slice(inside(spoken).as_bytes());
                gone.extend_from_slice(&event.as_bytes()[piece.end..]);
            }
        }
        Ok(())
    }

    fn is_clean(&mut self, line: &str) -> bool {
        if line.is_empty() || line == self.clean {
            return true;
        }
        let name = line.strip_prefix("event:").map(str::trim_start);
        let clean = name.is_some_and(json::is_of_format) || self.redactor.text(line).findings.is_empty();
        if clean {
            line.clone_into(&mut self.clean);
        }
        clean
    }

    /// The event with the lines redacted that are no data.
    fn beside(&mut self, text: &str) -> String {
        let mut redacted = String::with_capacity(text.len());
        for (line, end) in lines(text) {
            if data_of(line).is_some() || self.is_clean(line) {
                redacted.push_str(line);
            } else {
                let redaction = self.redactor.text(line);
                redacted.push_str(&redaction.text);
                self.findings.extend(redaction.findings);
            }
            redacted.push_str(end);
        }
        redacted
    }

    /// The data as it may leave, if it is to be edited; what must go before it is added to `gone`.
    fn data(&mut self, data: &str, event_line: &str, gone: &mut Vec<u8>) -> Result<Option<String>, BodyError> {
        if let Some(frame) = &self.frame
            && let Some(raw) = data.strip_prefix(frame.before.as_str()).and_then(|rest| rest.strip_suffix(frame.after.as_str()))
            && json::is_inside(raw)
        {
            let channel = frame.channel;
            let mut said = String::new();
            json::unescape(raw, &mut said);
            let spoken = self.speak(channel, &said)?;
            return Ok((spoken != said).then(|| {
                let frame = self.frame.as_ref().map_or(("", ""), |frame| (frame.before.as_str(), frame.after.as_str()));
                [frame.0, &inside(&spoken), frame.1].concat()
            }));
        }
        self.frame = None;
        match data.trim() {
            "" => Ok(None),
            "[DONE]" => {
                self.close(gone);
                Ok(None)
            }
            json if json.starts_with(['{', '[']) => self.json(data, event_line, gone),
            _ => {
                let spot = Spot { shape: Shape::Plain, index: 0, name: String::new() };
                let channel = self.channel(spot, Class::Text, Vec::new())?;
                let spoken = self.speak(channel, data)?;
                event_line.clone_into(&mut self.channels[channel].event_line);
                Ok((spoken != data).then_some(spoken))
            }
        }
    }

    fn json(&mut self, data: &str, event_line: &str, gone: &mut Vec<u8>) -> Result<Option<String>, BodyError> {
        let value: Value = serde_json::from_str(data).map_err(|_| BodyError::Malformed { at: 0 })?;
        let redactor = self.redactor.clone();
        let mut pieces: Vec<Piece> = Vec::new();
        let mut edits = redactor.json_edits(data, false, 0, &mut |place, start, end| {
            let Some((spot, class, path)) = piece(&value, place, data, &data[start..end]) else { return Ok(false) };
            let mut said = String::new();
            json::unescape(&data[start..end], &mut said);
            let channel = self.channel(spot, class, path)?;
            if matches!(&self.channels[channel].speech, Speech::Word(_, last) if *last == said) {
                // Said again with each event.
                return Ok(false);
            }
            let spoken = self.speak(channel, &said)?;
            pieces.push(Piece { channel, start, end, said, spoken });
            Ok(true)
        })?;
        let kind = value["type"].as_str().unwrap_or_default();
        let ended: Vec<usize> =
            (0..self.channels.len()).filter(|at| is_end(&value, kind, &self.channels[*at], pieces.iter().any(|piece| piece.channel == *at))).collect();
        for &at in &ended {
            let rest = self.flush(at);
            match pieces.iter_mut().rev().find(|piece| piece.channel == at) {
                Some(last) => last.spoken.push_str(&rest),
                None => self.channels[at].carry(rest, gone),
            }
        }
        self.findings.extend(edits.iter().map(|edit| edit.finding.clone()));
        if let ([piece], [], []) = (pieces.as_slice(), edits.as_slice(), ended.as_slice())
            && !matches!(self.channels[piece.channel].speech, Speech::Word(..))
        {
            let (before, after) = (data[..piece.start].to_owned(), data[piece.end..].to_owned());
            self.frame = Some(Frame { before, after, channel: piece.channel, lines: None });
        }
        edits.extend(pieces.iter().filter(|piece| piece.said != piece.spoken).map(|piece| {
            let finding = Finding { rule: Arc::from("delta"), start: piece.start, end: piece.end, confidence: Confidence::Certain };
            Edit { finding, placeholder: inside(&piece.spoken) }
        }));
        edits.sort_by_key(|edit| edit.finding.start);
        let edited = (!edits.is_empty()).then(|| splice(data, &edits));
        for piece in &pieces {
            let channel = &mut self.channels[piece.channel];
            edited.as_deref().unwrap_or(data).clone_into(&mut channel.data);
            event_line.clone_into(&mut channel.event_line);
        }
        Ok(edited)
    }

    fn channel(&mut self, spot: Spot, class: Class, path: Vec<Step<'static>>) -> Result<usize, BodyError> {
        if let Some(at) = self.channels.iter().rposition(|channel| channel.spot == spot) {
            self.channels[at].path = path;
            return Ok(at);
        }
        if self.channels.len() == CHANNELS_MAX {
            return Err(BodyError::TooDeep);
        }
        let stream = || TextStream::new(self.redactor.clone());
        let speech = match class {
            Class::Text => Speech::Text(stream()),
            Class::Word => Speech::Word(stream(), String::new()),
            Class::Arguments => Speech::Arguments(Arguments::default()),
        };
        self.channels.push(Channel { spot, speech, path, data: String::new(), event_line: String::new(), ended: false, believed: true });
        Ok(self.channels.len() - 1)
    }

    /// What may go of a text now that this was said.
    fn speak(&mut self, at: usize, said: &str) -> Result<String, BodyError> {
        let channel = &mut self.channels[at];
        channel.believed &= !channel.ended || said.is_empty();
        match &mut channel.speech {
            Speech::Text(stream) => Ok(stream.push(said)),
            Speech::Word(stream, last) => {
                said.clone_into(last);
                Ok(stream.push_holding(said, Hold::Known))
            }
            Speech::Arguments(arguments) => {
                let spoken = arguments.push(said, &self.redactor, &mut self.findings)?;
                let held: usize = self.channels.iter().map(|channel| channel.speech.waiting_bytes()).sum();
                if held > ARGUMENTS_BYTES_MAX { Err(BodyError::TooLarge { bytes_max: ARGUMENTS_BYTES_MAX }) } else { Ok(spoken) }
            }
        }
    }

    /// What is held of a text whose end was told.
    fn flush(&mut self, at: usize) -> String {
        let channel = &mut self.channels[at];
        channel.ended = true;
        match &mut channel.speech {
            Speech::Text(stream) | Speech::Word(stream, _) => stream.finish(),
            Speech::Arguments(arguments) => arguments.finish(&self.redactor),
        }
    }

    /// Ends all texts: what they hold goes out, in events of their own.
    fn close(&mut self, gone: &mut Vec<u8>) {
        for at in 0..self.channels.len() {
            let rest = self.flush(at);
            self.channels[at].carry(rest, gone);
        }
        self.frame = None;
        for channel in self.channels.drain(..) {
            self.findings.extend(channel.speech.findings().iter().cloned());
        }
    }
}

impl Speech {
    fn held_bytes(&self) -> usize {
        match self {
            Speech::Text(stream) | Speech::Word(stream, _) => stream.held_bytes(),
            Speech::Arguments(arguments) => arguments.text.len() + arguments.plain.as_ref().map_or(0, TextStream::held_bytes),
        }
    }

    fn waiting_bytes(&self) -> usize {
        if let Speech::Arguments(arguments) = self { arguments.text.len() } else { 0 }
    }

    fn findings(&self) -> &[Finding] {
        match self {
            Speech::Text(stream) | Speech::Word(stream, _) => stream.findings(),
            Speech::Arguments(arguments) => arguments.plain.as_ref().map_or(&[], TextStream::findings),
        }
    }
}

/// JSON that a model writes piece by piece.
#[derive(Debug, Default)]
struct Arguments {
    text: String,
    depth: usize,
    quoted: bool,
    escaped: bool,
    /// It is no JSON after all.
    plain: Option<TextStream>,
}

impl Arguments {
    fn push(&mut self, piece: &str, redactor: &Arc<Redactor>, findings: &mut Vec<Finding>) -> Result<String, BodyError> {
        if let Some(stream) = &mut self.plain {
            return Ok(stream.push(piece));
        }
        let (mut gone, mut taken) = (String::new(), 0);
        for (at, byte) in piece.bytes().enumerate() {
            match byte {
                _ if std::mem::take(&mut self.escaped) => {}
                b'\\' if self.quoted => self.escaped = true,
                b'"' if self.depth > 0 => self.quoted = !self.quoted,
                _ if self.quoted => {}
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' if self.depth > 0 => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        self.text.push_str(&piece[taken..=at]);
                        taken = at + 1;
                        let edits = redactor.value_edits(&self.text, 0)?;
                        gone.push_str(&splice(&self.text, &edits));
                        findings.extend(edits.into_iter().map(|edit| edit.finding));
                        self.text.clear();
                    }
                }
                _ if self.depth > 0 || byte.is_ascii_whitespace() => {}
                _ => {
                    let mut stream = TextStream::new(redactor.clone());
                    gone.push_str(&stream.push(&[&self.text, &piece[taken..]].concat()));
                    self.text.clear();
                    self.plain = Some(stream);
                    return Ok(gone);
                }
            }
        }
        self.text.push_str(&piece[taken..]);
        if self.depth == 0 {
            gone.push_str(&std::mem::take(&mut self.text));
        }
        Ok(gone)
    }

    /// What is left is cut off, and no JSON.
    fn finish(&mut self, redactor: &Arc<Redactor>) -> String {
        let text = std::mem::take(&mut self.text);
        if text.is_empty() && self.plain.is_none() {
            return text;
        }
        let stream = self.plain.get_or_insert_with(|| TextStream::new(redactor.clone()));
        let mut gone = stream.push(&text);
        gone.push_str(&stream.finish());
        gone
    }
}

impl Channel {
    /// Adds an event like the last one that carried a piece: it adds `rest` to this text and nothing else.
    fn carry(&self, rest: String, gone: &mut Vec<u8>) {
        if rest.is_empty() {
            return;
        }
        let mut event_line = self.event_line.as_str();
        let mut event = String::new();
        let data = if self.spot.shape == Shape::Plain {
            rest
        } else {
            let last: Value = serde_json::from_str(&self.data).unwrap_or_default();
            if last["type"] == "content_block_start" {
                event_line = if event_line.is_empty() { "" } else { "event: content_block_delta" };
                let name = &self.spot.name;
                json!({ "type": "content_block_delta", "index": last["index"], "delta": { "type": format!("{name}_delta"), name: rest } }).to_string()
            } else {
                grown(&last, &self.path, rest, true).to_string()
            }
        };
        if !event_line.is_empty() {
            event.push_str(event_line);
            event.push('\n');
        }
        for line in data.split(['\n', '\r']) {
            event.push_str("data: ");
            event.push_str(line);
            event.push('\n');
        }
        event.push('\n');
        gone.extend(event.into_bytes());
    }
}

/// `node` with nothing in it but what leads along `path` to `rest`, and what says what that is.
fn grown(node: &Value, path: &[Step], rest: String, root: bool) -> Value {
    match path.split_first() {
        None => rest.into(),
        Some((Step::Index(at), path)) => {
            let mut member = grown(&node[*at], path, rest, false);
            if *at > 0
                && let Some(member) = member.as_object_mut()
            {
                member.entry("index").or_insert_with(|| (*at).into());
            }
            json!([member])
        }
        Some((Step::Key(key), path)) => {
            let mut object = Map::new();
            for (name, member) in node.as_object().into_iter().flatten() {
                let kept = if root {
                    !matches!(name.as_str(), "usage" | "usageMetadata" | "sequence_number" | "logprobs" | "obfuscation")
                } else {
                    matches!(name.as_str(), "index" | "type" | "format" | "thought" | "role")
                };
                match name.as_str() {
                    "finish_reason" if !root => drop(object.insert(name.clone(), Value::Null)),
                    _ if kept && !member.is_object() && !member.is_array() => drop(object.insert(name.clone(), member.clone())),
                    _ => {}
                }
            }
            object.insert(key.clone().into_owned(), grown(&node[key.as_ref()], path, rest, false));
            object.into()
        }
    }
}

/// Which text the string at `place` of an event is a piece of, and the way there.
fn piece(event: &Value, place: &Place, text: &str, raw: &str) -> Option<(Spot, Class, Vec<Step<'static>>)> {
    let path: Vec<Step<'static>> = place.steps(text).into_iter().map(Step::into_owned).collect();
    let key = |at: usize| path.get(at).and_then(Step::key);
    let kind = event["type"].as_str().unwrap_or_default();
    let number = |value: &Value, other: usize| value.as_u64().unwrap_or(other as u64);
    let (shape, index, from) = match (key(0)?, path.get(1)) {
        ("choices", Some(Step::Index(at))) if matches!(key(2), Some("delta" | "text")) => {
            (Shape::Chat, number(&event["choices"][at]["index"], *at), if key(2) == Some("text") { 2 } else { 3 })
        }
        ("delta", Some(_)) if kind == "content_block_delta" => (Shape::Block, number(&event["index"], 0), 1),
        ("content_block", Some(_)) if kind == "content_block_start" && path.len() == 2 && matches!(key(1), Some("text" | "thinking")) => {
            (Shape::Block, number(&event["index"], 0), 1)
        }
        // Sound is no text, and the last delta of a message says how it stopped.
        ("delta", _) if kind != "message_delta" && !kind.ends_with("audio.delta") => {
            (Shape::Response, number(&event["output_index"], 0), usize::from(path.len() > 1))
        }
        ("message", Some(_)) if event["done"].is_boolean() && path.len() == 2 && matches!(key(1), Some("content" | "thinking")) => (Shape::Line, 0, 1),
        ("candidates", Some(Step::Index(at))) if key(2) == Some("content") && key(3) == Some("parts") && key(5) == Some("text") && path.len() == 6 => {
            let candidate = &event["candidates"][at];
            let Some(Step::Index(part)) = path.get(4) else { return None };
            let name = if candidate["content"]["parts"][part]["thought"] == true { "thought" } else { "text" };
            let spot = Spot { shape: Shape::Candidate, index: number(&candidate["index"], *at), name: name.to_owned() };
            return Some((spot, Class::Text, path));
        }
        _ => return None,
    };
    let last = path.iter().rev().find_map(Step::key)?;
    if place.is_free() || last == "data" || !json::is_text(last, raw) {
        return None;
    }
    let mut name = String::new();
    if shape == Shape::Response {
        let part = event["content_index"].as_u64().or(event["summary_index"].as_u64()).unwrap_or(0);
        name = format!("{kind} {part}");
    }
    let mut node = path[..from].iter().fold(event, |node, step| step.of(node));
    for step in &path[from..] {
        node = step.of(node);
        if !name.is_empty() {
            name.push('/');
        }
        match step {
            Step::Key(key) => name.push_str(key),
            Step::Index(at) => name.push_str(&number(&node["index"], *at).to_string()),
        }
    }
    let class = match last {
        // They come whole, and a client takes a later piece for another one.
        "name" | "role" | "status" | "phase" | "model" | "type" | "format" => return None,
        "arguments" | "partial_json" => Class::Arguments,
        "delta" if kind.ends_with("arguments.delta") => Class::Arguments,
        "delta" | "text" | "content" | "reasoning" | "reasoning_content" | "refusal" | "thinking" | "transcript" | "summary" | "output" | "code" | "input" => {
            Class::Text
        }
        _ => Class::Word,
    };
    Some((Spot { shape, index, name }, class, path))
}

/// Whether `event` says that nothing more comes for `channel`: what is held must go before it, or with the piece it has.
fn is_end(event: &Value, kind: &str, channel: &Channel, has_piece: bool) -> bool {
    let index = channel.spot.index;
    let of_choice = |list: &str, reason: &str| {
        let choices = event[list].as_array().map(Vec::as_slice).unwrap_or_default();
        choices.iter().enumerate().any(|(at, choice)| choice["index"].as_u64().unwrap_or(at as u64) == index && is_reason(&choice[reason]))
    };
    match channel.spot.shape {
        Shape::Plain => false,
        Shape::Line => {
            let says = |field: &str| event["message"][field].as_str().is_some_and(|text| !text.is_empty());
            let other = !has_piece && (says("content") || says("thinking"));
            event["done"] == true || event["message"]["tool_calls"].is_array() || other
        }
        Shape::Chat => channel.believed && of_choice("choices", "finish_reason"),
        Shape::Candidate => {
            let parts = &event["candidates"][0]["content"]["parts"];
            let other = !has_piece && parts.as_array().is_some_and(|parts| parts.iter().any(|part| part["functionCall"].is_object()));
            channel.believed && (of_choice("candidates", "finishReason") || other)
        }
        Shape::Block => match kind {
            "content_block_stop" => event["index"].as_u64().unwrap_or(0) == index,
            _ => matches!(kind, "message_delta" | "message_stop" | "error"),
        },
        Shape::Response => {
            let same = event["output_index"].as_u64().is_none_or(|output| output == index);
            same && (kind.ends_with(".done") || matches!(kind, "response.completed" | "response.incomplete" | "response.failed" | "error"))
        }
    }
}

/// Some providers write an empty reason, or the word for none, into every event.
fn is_reason(reason: &Value) -> bool {
    reason.as_str().is_some_and(|reason| !matches!(reason.trim().to_ascii_lowercase().as_str(), "" | "null" | "none"))
}

/// A line as an event.
fn framed(line: &[u8]) -> Vec<u8> {
    let line = line.trim_ascii();
    if line.is_empty() { Vec::new() } else { [b"data: ", line, b"\n\n"].concat() }
}

/// Such events as lines.
fn bare(events: &[u8]) -> Vec<u8> {
    events.split(|byte| *byte == b'\n').filter_map(|line| line.strip_prefix(b"data: ")).flat_map(|data| [data, b"\n"].concat()).collect()
}

/// A text as the inside of a JSON string.
fn inside(text: &str) -> String {
    let mut quoted = Value::from(text).to_string();
    quoted.pop();
    quoted.remove(0);
    quoted
}

// Lines.

/// The lines of an event and how each ends: by `\n`, `\r\n` or `\r`.
fn lines(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let len = memchr::memchr2(b'\n', b'\r', rest.as_bytes()).unwrap_or(rest.len());
        let end = match &rest.as_bytes()[len..] {
            [b'\r', b'\n', ..] => 2,
            [] => 0,
            _ => 1,
        };
        let line = (&rest[..len], &rest[len..len + end]);
        rest = &rest[len + end..];
        Some(line)
    })
}

fn data_of(line: &str) -> Option<&str> {
    let data = line.strip_prefix("data")?;
    if data.is_empty() {
        return Some(data);
    }
    let data = data.strip_prefix(':')?;
    Some(data.strip_prefix(' ').unwrap_or(data))
}

/// The length of the first whole event, of which nothing ends before `from`.
fn event_len(bytes: &[u8], from: usize) -> Option<usize> {
    memchr::memchr2_iter(b'\n', b'\r', &bytes[from..]).find_map(|at| {
        let at = from + at;
        match &bytes[at..] {
            [b'\n', b'\n', ..] => Some(at + 2),
            [b'\r', b'\n', b'\r', b'\n', ..] => Some(at + 4),
            [b'\r', b'\n', b'\n', ..] | [b'\n', b'\r', b'\n', ..] | [b'\r', b'\r', b'\n', ..] => Some(at + 3),
            // Whether more belongs to this end is told by the next byte.
            [b'\r', b'\r', _, ..] | [b'\n', b'\r', _, ..] => Some(at + 2),
            [b'\r', b'\n', b'\r', _, ..] => Some(at + 3),
            // Where no line ends in two bytes, none will.
            [b'\r', b'\r'] if !bytes[..at].contains(&b'\n') => Some(at + 2),
            _ => None,
        }
    })
}

/// An event with other data.
fn rewritten(event: &str, data: &str) -> String {
    let mut written = String::with_capacity(event.len() + data.len());
    let mut said = false;
    for (line, end) in lines(event) {
        if data_of(line).is_none() {
            written.push_str(line);
            written.push_str(end);
        } else if !std::mem::replace(&mut said, true) {
            let mut all = lines(data).peekable();
            if all.peek().is_none() {
                written.push_str("data:");
                written.push_str(if end.is_empty() { "\n" } else { end });
            }
            for (data, _) in all {
                written.push_str("data: ");
                written.push_str(data);
                written.push_str(if end.is_empty() { "\n" } else { end });
            }
        }
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Known;

    const LONG: &str = "Zx9vQ2mN7kLp4RtYwE8uI3oA6sDfGhJ1";

    fn redactor() -> Arc<Redactor> {
        let known = Known::new([("db", b"Sommer#2026x".as_slice()), ("pin", b"8812734450"), ("long", LONG.as_bytes())]);
        Arc::new(Redactor::new(known, &[5; 32]))
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

    fn run(body: &str, size: usize) -> Result<String, BodyError> {
        let mut stream = EventStream::new(redactor());
        let mut out = Vec::new();
        for piece in body.as_bytes().chunks(size) {
            out.extend(stream.push(piece)?);
        }
        out.extend(stream.finish()?);
        Ok(String::from_utf8(out).expect("events are text"))
    }

    /// Runs `events` through and gives what each text spelled, in the order in which the texts began.
    fn spelled(events: &[Value], size: usize, of: impl Fn(&Value) -> Option<&str>) -> String {
        let body: String = events.iter().map(|event| format!("event: x\ndata: {event}\n\n")).collect::<String>() + "data: [DONE]\n\n";
        let out = run(&body, size).expect("the events are well-formed");
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
    fn events_without_secrets_stay_as_they_came() {
        let body = ": hello\n\nevent: ping\ndata: {\"type\":\"ping\"}\n\ndata: {\"choices\": [{\"index\":0,\"delta\":{\"content\":\"Hi, \\u00fcber. \"}}]}\r\n\r\ndata: [DONE]\n\n";
        let mut stream = EventStream::new(redactor());
        let mut out = stream.push(body.as_bytes()).expect("well-formed");
        out.extend(stream.finish().expect("well-formed"));
        assert_eq!(String::from_utf8(out).expect("text"), body);
    }

    fn body(events: &[Value]) -> String {
        events.iter().map(|event| format!("data: {event}\n\n")).collect::<String>() + "data: [DONE]\n\n"
    }

    /// What a client makes of the strings at `pointer` of all events.
    fn joined(out: &str, pointer: &str) -> String {
        let events = out.split(['\r', '\n']).filter_map(|line| serde_json::from_str::<Value>(line.trim_start_matches('\u{feff}').strip_prefix("data: ")?).ok());
        events.filter_map(|event| event.pointer(pointer).and_then(Value::as_str).map(str::to_owned)).collect()
    }

    #[test]
    fn no_word_about_the_end_ends_a_text() {
        for reason in [json!(""), json!("null"), json!("None"), Value::Null] {
            let event = |piece: &str| json!({"choices":[{"index":0,"delta":{"content":piece},"finish_reason":reason}]});
            let out = run(&body(&[event("it is Sommer#"), event("2026x ok")]), 7).expect("well-formed");
            assert_eq!(joined(&out, "/choices/0/delta/content"), "it is SECRET_REF(db) ok", "{reason}");
        }
        // A provider that says `stop` all the time is believed once.
        let event = |piece: &str| json!({"choices":[{"index":0,"delta":{"content":piece},"finish_reason":"stop"}]});
        let out = run(&body(&[event("is it "), event("Som"), event("mer#20"), event("26x ok")]), 7).expect("well-formed");
        assert_eq!(joined(&out, "/choices/0/delta/content"), "is it SECRET_REF(db) ok");
    }

    #[test]
    fn every_text_of_a_delta_is_one_text() {
        let halves = ["it is Sommer#", "2026x ok"];
        let chat = |delta: &dyn Fn(&str) -> Value| halves.map(|half| json!({"choices":[{"index":0,"delta":delta(half)}]}));
        let far: Vec<Value> = (0..20).map(|_| json!({"text": ""})).collect();
        let far = |half: &str| {
            let mut parts = far.clone();
            parts.push(json!({"type":"text","text":half}));
            json!({"content": parts})
        };
        for (pointer, events) in [
            (
                "/choices/0/delta/reasoning_details/0/text",
                chat(&|half| json!({"reasoning_details":[{"type":"reasoning.text","text":half,"format":"x-v1","index":0}]})),
            ),
            ("/choices/0/delta/content/0/text", chat(&|half| json!({"content":[{"type":"text","text":half}]}))),
            ("/choices/0/delta/function_call/arguments", chat(&|half| json!({"function_call":{"arguments":half}}))),
            ("/choices/0/delta/some/new_field", chat(&|half| json!({"some":{"new_field":half}}))),
        ] {
            for size in [1, 9, 10_000] {
                assert_eq!(joined(&run(&body(&events), size).expect("well-formed"), pointer), "it is SECRET_REF(db) ok", "{pointer}");
            }
        }
        let out = run(&body(&chat(&far)), 10_000).expect("well-formed");
        let said: String = ["/choices/0/delta/content/20/text", "/choices/0/delta/content/0/text"].map(|pointer| joined(&out, pointer)).concat();
        assert_eq!(said, "it is SECRET_REF(db) ok");
        let start = json!({"type":"content_block_start","index":3,"content_block":{"type":"text","text":halves[0]}});
        let delta = json!({"type":"content_block_delta","index":3,"delta":{"type":"text_delta","text":halves[1]}});
        for events in [vec![start.clone(), delta, json!({"type":"content_block_stop","index":3})], vec![start, json!({"type":"content_block_stop","index":3})]]
        {
            let out = run(&body(&events), 9).expect("well-formed");
            let said = joined(&out, "/content_block/text") + &joined(&out, "/delta/text");
            assert_eq!(said, if events.len() == 3 { "it is SECRET_REF(db) ok" } else { halves[0] });
        }
    }

    #[test]
    fn what_is_no_json_is_a_text_too() {
        let out = run("data: it is Sommer#\n\ndata: 2026x ok\n\n", 5).expect("text");
        let said: String = out.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
        assert_eq!(said, "it is SECRET_REF(db) ok");
        // The mark of an encoding hides no first line.
        let event = |piece: &str| format!("data: {}\n\n", json!({"choices":[{"index":0,"delta":{"content":piece}}]}));
        let out = run(&format!("\u{feff}{}{}", event("it is Sommer#"), event("2026x ok")), 3).expect("well-formed");
        assert!(out.starts_with('\u{feff}'));
        assert_eq!(joined(&out, "/choices/0/delta/content"), "it is SECRET_REF(db) ok");
    }

    #[test]
    fn arguments_stay_json_and_say_what_they_would_say_whole() {
        let token = format!("{}_{}", "ghp", "aB3dE7gH2kL9mN4pQ8s".repeat(2));
        let content = format!("# {}\n\nTOKEN={token}\n{token}\n", "say \"so\"");
        for arguments in
            [json!({"content": content}), json!({"a": ["x", {"password": format!("harbour{}", "71Lq")}]}), json!({"k": "Sommer#2026x\\ \"}"}), json!({})]
        {
            let arguments = arguments.to_string();
            let whole = json!({"choices":[{"message":{"tool_calls":[{"function":{"arguments":arguments}}]}}]}).to_string();
            let whole: Value = serde_json::from_slice(&redactor().json(whole.as_bytes()).expect("JSON").bytes).expect("JSON");
            let whole = whole["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"].as_str().expect("a string");
            for size in [1, 3, 1000] {
                let pieces: Vec<&str> = arguments.as_bytes().chunks(size).map(|piece| std::str::from_utf8(piece).expect("ASCII")).collect();
                let call = |piece: &&str| json!({"choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"function":{"arguments":piece}}]}}]});
                let mut events: Vec<Value> = pieces.iter().map(call).collect();
                events.push(json!({"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}));
                let out = run(&body(&events), 50).expect("well-formed");
                assert_eq!(joined(&out, "/choices/0/delta/tool_calls/0/function/arguments"), whole);
                let block = |piece: &&str| json!({"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":piece}});
                let out = run(&body(&pieces.iter().map(block).collect::<Vec<_>>()), 50).expect("well-formed");
                assert_eq!(joined(&out, "/delta/partial_json"), whole);
                let response = |piece: &&str| json!({"type":"response.function_call_arguments.delta","output_index":1,"delta":piece});
                let out = run(&body(&pieces.iter().map(response).collect::<Vec<_>>()), 50).expect("well-formed");
                assert_eq!(joined(&out, "/delta"), whole);
            }
        }
        let call = |piece: &str| json!({"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":piece}}]}}]});
        let blocked = run(&body(&[call("{\"pin\": 88127"), call("34450}")]), 50);
        assert!(matches!(blocked, Err(BodyError::Blocked { name, .. }) if name == "pin"));
        // Cut off by the provider's limit: what came goes out, without the secret.
        let mut cut = vec![call("{\"a\": \"Sommer#20"), call("26x and")];
        cut.push(json!({"choices":[{"index":0,"delta":{},"finish_reason":"length"}]}));
        let out = run(&body(&cut), 50).expect("well-formed");
        assert_eq!(joined(&out, "/choices/0/delta/tool_calls/0/function/arguments"), "{\"a\": \"SECRET_REF(db) and");
        assert!(out.find("and").expect("the rest") < out.find("length").expect("the end"));
    }

    #[test]
    fn calls_that_come_whole_stay_as_they_came() {
        let body = "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"function\":{\"name\":\"exec\",\"arguments\":\"{\\\"a\\\": 1}\"}}]}}]}\n\n";
        assert_eq!(run(&body.repeat(2), 20).expect("well-formed"), body.repeat(2));
    }

    #[test]
    fn lines_beside_the_data_are_redacted_too() {
        let body = "event: Sommer#2026x\nid: x-Sommer#2026x\n: Sommer#2026x\nretry: 10\ndata: {\"a\":1}\n\n";
        assert_eq!(run(body, 9).expect("well-formed"), body.replace("Sommer#2026x", "SECRET_REF(db)"));
    }

    #[test]
    fn lines_beside_a_delta_are_redacted_and_the_next_one_is_read_anew() {
        let said = |beside: &str, piece: &str| format!("id: {beside}\ndata: {}\n\n", json!({ "choices": [{ "index": 0, "delta": { "content": piece } }] }));
        let body =
            said("x-Sommer#2026x", "one Som") + &said("x-Sommer#2026x", "mer#2026x two ") + &said("y", "three ") + &said("y", "four ") + "data: [DONE]\n\n";
        for size in [1, 40, 1000] {
            let out = run(&body, size).expect("well-formed");
            assert!(!out.contains("Sommer") && out.matches("id: x-SECRET_REF(db)").count() == 2 && out.matches("id: y").count() == 2, "{out}");
            assert!(out.contains("three ") && out.contains("four "), "{out}");
        }
    }

    #[test]
    fn every_way_to_end_a_line_is_read_and_kept() {
        for end in ["\n", "\r\n", "\r"] {
            let plain = format!(": c{end}{end}event: x{end}data: {{\"choices\":{end}data: [{{\"delta\":{{\"content\":\"Hi. \"}}}}]}}{end}{end}data: [DONE]");
            for tail in ["".to_owned(), end.to_owned(), format!("{end}{end}")] {
                for size in [1, 2, 3, 1000] {
                    assert_eq!(run(&(plain.clone() + &tail), size).expect("well-formed"), plain.clone() + &tail, "{end:?} {size}");
                }
            }
            let event = |piece: &str| format!("data: {}{end}{end}", json!({"choices":[{"delta":{"content":piece}}]}));
            for size in [1, 2, 1000] {
                let out = run(&(event("is Sommer#") + event("2026x").trim_end()), size).expect("well-formed");
                assert_eq!(joined(&out, "/choices/0/delta/content"), "is SECRET_REF(db)", "{end:?}");
            }
        }
        // A comment line in CR and the next in LF are two.
        assert_eq!(run("data: a b \r\rdata: c \n\r\ndata: d \n\n", 1).expect("text"), "data: a b \r\rdata: c \n\r\ndata: d \n\n");
    }

    #[test]
    fn what_is_carried_says_nothing_twice() {
        let event = json!({"type":"response.output_text.delta","output_index":0,"content_index":0,"item_id":"m","delta":"is Som","sequence_number":4,"logprobs":[{"token":"is"}]});
        let out = run(&body(&[event]), 50).expect("well-formed");
        let carried: Value = serde_json::from_str(out.split("data: ").nth(2).expect("an event").trim()).expect("JSON");
        assert_eq!(carried, json!({"type":"response.output_text.delta","output_index":0,"content_index":0,"item_id":"m","delta":"Som"}));
        let event = json!({"id":"c","model":"m","usage":{"total_tokens":3},"choices":[{"index":1,"delta":{"role":"assistant","content":"is Som"},"logprobs":{"content":[]},"finish_reason":null}]});
        let out = run(&body(&[event]), 50).expect("well-formed");
        let carried: Value = serde_json::from_str(out.split("data: ").nth(2).expect("an event").trim()).expect("JSON");
        assert_eq!(carried, json!({"id":"c","model":"m","choices":[{"index":1,"delta":{"content":"Som","role":"assistant"},"finish_reason":null}]}));
    }

    #[test]
    fn a_changed_vault_loses_nothing_that_is_held() {
        let event = |piece: &str| format!("data: {}\n\n", json!({"choices":[{"delta":{"content":piece}}]}));
        let mut stream = EventStream::new(redactor());
        let mut out = stream.push(event("is Sommer#").as_bytes()).expect("well-formed");
        let known = Known::new([("other", b"Sommer#2026x".as_slice())]);
        stream.renew(Arc::new(Redactor::new(known, &[5; 32])));
        out.extend(stream.push(event("2026x ok").as_bytes()).expect("well-formed"));
        out.extend(stream.finish().expect("well-formed"));
        assert_eq!(joined(std::str::from_utf8(&out).expect("text"), "/choices/0/delta/content"), "is SECRET_REF(other) ok");
    }

    #[test]
    fn a_stream_of_endless_texts_is_refused() {
        let event = |at: usize| json!({"choices":[{"index":at,"delta":{"content":"x"}}]});
        let events: Vec<Value> = (0..=CHANNELS_MAX).map(event).collect();
        assert_eq!(run(&body(&events), 1 << 20), Err(BodyError::TooDeep));
    }
}
