//! Text and bytes that arrive in pieces: what is let go is what the whole would have become, wherever it was cut.
//!
//! Only an end that may still grow into a secret is held back: the beginning of a known one, in the disguises that a stream
//! can hold; at most 256 bytes for what the net may still recognise, and for code that may hide one. What was let go is kept
//! for a while as context, because a secret's frame or the alignment of a code may lie there. Nothing here waits: the caller
//! has the clock, and calls `release` when the net has held something for long enough.
//!
//! A limit: what is encoded twice is found if it comes within those 256 bytes.

use crate::{Finding, Look, Redactor};
use std::sync::Arc;

/// What the net may hold back.
pub const HOLD_BYTES_MAX: usize = crate::net::LIVE_BYTES_MAX;
/// The net's hold should not outlive this: then call `release`.
pub const HOLD_MS_MAX: u64 = 50;
/// How much that was let go is looked at again; and how much of it at least, when it is cut where a line begins.
const CONTEXT_BYTES: usize = 1024;
const CONTEXT_BYTES_MIN: usize = 256;
/// A secret that goes on and on (a private key) is replaced when this much of it has come; the rest is swallowed.
const SWALLOW_BYTES_MIN: usize = 16 << 10;
/// And so much of it at most.
const SWALLOW_BYTES_MAX: usize = 1 << 20;
/// A line of a key is not longer. One that writes its line breaks out is swallowed without waiting for its end.
const KEY_LINE_BYTES_MAX: usize = 256;

/// One text, piece by piece.
#[derive(Debug)]
pub struct TextStream {
    redactor: Arc<Redactor>,
    /// Context, then what is held.
    raw: String,
    /// All before this was let go, or a placeholder for it.
    done: usize,
    /// Where the last placeholder's secret ended, if what comes next may be more of it.
    covered: usize,
    /// What came before `raw`.
    dropped: usize,
    /// The end of a secret is still to come, and nothing of it is kept.
    swallow: Option<Swallow>,
    findings: Vec<Finding>,
}

#[derive(Debug)]
struct Swallow {
    kind: Swallowed,
    left: usize,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Swallowed {
    /// A block of lines that has an end of its own.
    Key,
    /// What has no blank in it.
    Word,
}

/// A part of what may go.
enum Part<'a> {
    Raw(&'a str),
    Placeholder(&'a str),
}

/// How much may be held.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Hold {
    /// For known secrets and the net.
    Everything,
    /// As long as the caller's clock allows it: for known secrets, and the last word.
    Word,
    /// For known secrets.
    Known,
    Nothing,
}

impl TextStream {
    pub fn new(redactor: Arc<Redactor>) -> Self {
        Self { redactor, raw: String::new(), done: 0, covered: 0, dropped: 0, swallow: None, findings: Vec::new() }
    }

    /// The text that may go now that `piece` has come.
    pub fn push(&mut self, piece: &str) -> String {
        self.push_holding(piece, Hold::Everything)
    }

    /// The same for pieces that have come at once: what may go of each. What was held back goes with the first.
    pub(crate) fn push_all(&mut self, pieces: &[String]) -> Vec<String> {
        if self.swallow.is_some() {
            return pieces.iter().map(|piece| self.push(piece)).collect();
        }
        let ends: Vec<usize> = pieces
            .iter()
            .map(|piece| {
                self.raw.push_str(piece);
                self.raw.len()
            })
            .collect();
        let mut gone = vec![String::new(); pieces.len()];
        let piece_of = |at: usize| ends.partition_point(|end| *end <= at).min(pieces.len().saturating_sub(1));
        self.let_go_to(Hold::Everything, &mut |at, part| match part {
            Part::Raw(mut text) => {
                let mut at = at;
                while !text.is_empty() {
                    let piece = piece_of(at);
                    let (now, rest) = text.split_at((ends[piece] - at).min(text.len()));
                    gone[piece].push_str(now);
                    (at, text) = (at + now.len(), rest);
                }
            }
            Part::Placeholder(text) => gone[piece_of(at)].push_str(text),
        });
        gone
    }

    pub(crate) fn push_holding(&mut self, piece: &str, hold: Hold) -> String {
        self.raw.push_str(piece);
        self.let_go(hold)
    }

    /// The text that may go although the net would wait for more. A known secret is waited for, however long it takes, and
    /// so is the end of a word: slow pieces of a token are still one token.
    pub fn release(&mut self) -> String {
        self.let_go(Hold::Word)
    }

    /// The rest. If more comes all the same, this is its context.
    pub fn finish(&mut self) -> String {
        self.let_go(Hold::Nothing)
    }

    /// Goes on with another redactor, with what is held and the context as they are.
    pub fn renew(&mut self, redactor: Arc<Redactor>) {
        self.redactor = redactor;
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
        let mut gone = String::new();
        self.let_go_to(hold, &mut |_, part| match part {
            Part::Raw(text) | Part::Placeholder(text) => gone.push_str(text),
        });
        gone
    }

    /// Tells `gone` each part that may go, and where in `raw` it stood.
    fn let_go_to(&mut self, hold: Hold, gone: &mut impl FnMut(usize, Part<'_>)) {
        if self.swallow.is_some() && !self.swallowed(hold) {
            return;
        }
        let edits = self.redactor.edits(&self.raw, Look::All);
        let len = self.raw.len();
        let mut until = self.certain_until(hold);
        for edit in edits.iter().rev() {
            let (start, end) = (edit.finding.start, edit.finding.end);
            // One that ends here may go on.
            let grows = end > until || end == len && hold == Hold::Everything;
            if grows && start < until && (len - start < SWALLOW_BYTES_MIN || end > until && end < len) {
                until = start;
            } else if grows && end == len && len - start >= SWALLOW_BYTES_MIN {
                until = len;
            }
        }
        until = self.raw.floor_char_boundary(until);
        let mut at = self.done;
        let mut endless = None;
        for edit in edits {
            let Finding { start, end, .. } = edit.finding;
            if end <= at || start >= until {
                continue;
            }
            let seen = start < at;
            // Of what was let go before it was known for what it is, the rest is replaced; of what was replaced, swallowed.
            if !(seen && self.covered == at) {
                gone(at, Part::Raw(&self.raw[at..start.max(at)]));
                gone(start.max(at), Part::Placeholder(&edit.placeholder));
                self.findings.push(Finding { start: start + self.dropped, end: end + self.dropped, ..edit.finding.clone() });
            } else if let Some(last) = self.findings.last_mut() {
                last.end = last.end.max(end + self.dropped);
            }
            (at, self.covered) = (end, end);
            if end == len && len - start >= SWALLOW_BYTES_MIN && hold != Hold::Nothing {
                let block = &*edit.finding.rule == "private_key" || self.raw[start..end].contains('\n');
                endless = Some(if block { Swallowed::Key } else { Swallowed::Word });
            }
        }
        if at < until {
            gone(at, Part::Raw(&self.raw[at..until]));
        }
        self.done = until.max(at);
        if let Some(kind) = endless {
            self.swallow = Some(Swallow { kind, left: SWALLOW_BYTES_MAX });
            self.drop_front(self.raw.len());
        }
        self.forget();
    }

    /// Where that begins which has to wait.
    fn certain_until(&self, hold: Hold) -> usize {
        let known = |strict| self.redactor.known.live_from(self.raw.as_bytes(), strict);
        match hold {
            Hold::Nothing => self.raw.len(),
            Hold::Known => known(false),
            Hold::Word => known(false).min(word_from(&self.raw)),
            Hold::Everything => known(true).min(self.redactor.uncertain_from(&self.raw)),
        }
    }

    /// Takes away what still belongs to a secret without an end. Whether something else has come.
    fn swallowed(&mut self, hold: Hold) -> bool {
        let Some(Swallow { kind, left }) = self.swallow else { return true };
        let (len, ended) = match kind {
            Swallowed::Word => word_len(&self.raw),
            Swallowed::Key => key_len(&self.raw, hold == Hold::Nothing),
        };
        let len = self.raw.floor_char_boundary(len.min(left));
        if let Some(last) = self.findings.last_mut() {
            last.end += len;
        }
        self.drop_front(len);
        let ended = ended || left - len < KEY_LINE_BYTES_MAX;
        self.swallow = (!ended).then_some(Swallow { kind, left: left - len });
        ended
    }

    /// Drops what is too long ago to matter, from the front up to a line or a word.
    fn forget(&mut self) {
        if self.done < CONTEXT_BYTES * 2 {
            return;
        }
        let from = self.raw.ceil_char_boundary(self.done - CONTEXT_BYTES);
        let to = self.raw.floor_char_boundary(self.done - CONTEXT_BYTES_MIN).max(from);
        let line = self.raw[from..to].find('\n').or_else(|| self.raw[from..to].find(char::is_whitespace));
        self.drop_front(from + line.map_or(0, |at| at + 1));
    }

    fn drop_front(&mut self, cut: usize) {
        self.raw.drain(..cut);
        self.done = self.done.saturating_sub(cut);
        self.covered = self.covered.saturating_sub(cut);
        self.dropped += cut;
    }

    /// Something else than text comes in between, and no text goes on over it.
    fn interrupt(&mut self, bytes: usize) {
        (self.done, self.covered, self.swallow) = (self.raw.len(), 0, None);
        self.drop_front(self.raw.len());
        self.dropped += bytes;
    }
}

/// Where the last word begins, as far as it is held.
fn word_from(text: &str) -> usize {
    let floor = text.ceil_char_boundary(text.len().saturating_sub(HOLD_BYTES_MAX));
    text[floor..].rfind(char::is_whitespace).map_or(floor, |at| text.ceil_char_boundary(floor + at + 1))
}

/// How much of `text` is still the word that it begins with, and whether the word has ended.
fn word_len(text: &str) -> (usize, bool) {
    let end = text.find(|letter: char| letter.is_whitespace() || matches!(letter, '"' | '\'' | '`' | '<' | '>'));
    (end.unwrap_or(text.len()), end.is_some())
}

/// How much of `text` is still the key whose beginning came before, and whether the key has ended.
fn key_len(text: &str, last: bool) -> (usize, bool) {
    const END: &str = "-----END";
    if let Some(at) = text.find(END) {
        let tail = &text[at + END.len()..];
        let near = &tail[..tail.floor_char_boundary(92)];
        return match near.find("-----") {
            Some(end) => (at + END.len() + end + 5, true),
            None if last || near.len() < tail.len() => (at + END.len(), true),
            None => (at, false),
        };
    }
    let mut len = 0;
    for line in text.split_inclusive('\n') {
        // As the net reads a block that has no end.
        if line.bytes().filter(|byte| *byte == b' ').count() > 3 && !line.contains(':') {
            return (len, true);
        }
        if !line.ends_with('\n') && !last && line.len() < KEY_LINE_BYTES_MAX {
            return (len, false);
        }
        len += line.len();
    }
    // The end's own mark may be cut.
    let kept = if last { 0 } else { (1..END.len()).rev().find(|kept| text.ends_with(&END[..*kept])).unwrap_or(0) };
    (text.len() - kept, false)
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
                    self.text.interrupt(len);
                    gone.extend_from_slice(&bad[..len]);
                    rest = &bad[len..];
                }
            }
        }
    }

    pub fn release(&mut self) -> Vec<u8> {
        self.text.release().into_bytes()
    }

    /// Goes on with another redactor, with what is held and the context as they are.
    pub fn renew(&mut self, redactor: Arc<Redactor>) {
        self.text.renew(redactor);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Known;
    use base64::Engine;
    use std::io::Write;

    fn redactor() -> Arc<Redactor> {
        let known = Known::new([("db", "Sommer#2026x".as_bytes()), ("key", format!("k-{}", "Qz7Lm".repeat(6)).as_bytes())]);
        Arc::new(Redactor::new(known, &[5; 32]))
    }

    fn texts() -> Vec<String> {
        let key = format!("k-{}", "Qz7Lm".repeat(6));
        let code = |write: &dyn Fn(u8) -> String, between: &str| key.bytes().map(write).collect::<Vec<_>>().join(between);
        let hex = |byte: u8| format!("{byte:02x}");
        let wide: String = key.bytes().map(|byte| format!("{byte:02x}00")).collect();
        let token = format!("{}_{}", "ghp", "aB3dE7gH2kL9mN4pQ8s".repeat(2));
        vec![
            format!("before {key} after, and {key}"),
            "it is Sommer#2026x, not Sommer#2027x. Sommer#".to_owned(),
            "k=Sommer%232026x&x=1 \\x53ommer\\#2026x".to_owned(),
            format!("a {} b", code(&|byte| format!("\\u{byte:04x}"), "")),
            format!("dump {}, done", code(&hex, "")),
            format!("dump {} done", code(&hex, " ")),
            format!("dump {} done", code(&hex, ":")),
            format!("wide {wide} done"),
            format!("tail {} done, head {} done", &key[key.len() - 24..], &key[..24]),
            format!("packed {} done", packed(&key)),
            "Basic dXNlcjpTb21tZXIjMjAyNng= ok, eHlTb21tZXIjMjAyNnh6".to_owned(),
            format!("TOKEN={token}\n{token} and \"{token}\", password: Hunter{}! ok", 2026),
            "plain words, nothing else: Some, k-, dXNl\n\n".to_owned(),
        ]
    }

    fn packed(text: &str) -> String {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(text.as_bytes()).expect("memory takes it");
        base64::engine::general_purpose::STANDARD.encode(encoder.finish().expect("memory takes it"))
    }

    #[test]
    fn wherever_a_text_is_cut_it_becomes_the_same() {
        let redactor = redactor();
        for text in texts() {
            let whole = redactor.text(&text).text.into_owned();
            assert_eq!(whole == text, text.starts_with("plain"), "{text}");
            let cut = |places: &[usize]| {
                let mut stream = TextStream::new(redactor.clone());
                let (mut got, mut at) = (String::new(), 0);
                for &place in places.iter().chain([&text.len()]) {
                    got.push_str(&stream.push(&text[at..place]));
                    at = place;
                }
                got.push_str(&stream.finish());
                assert_eq!(got, whole, "{places:?}");
            };
            for size in 1..=text.len() {
                cut(&(size..text.len()).step_by(size).collect::<Vec<_>>());
                cut(&[size]);
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

    /// Put together at run time, so that this file itself holds nothing secret-shaped.
    fn marker(what: &str) -> String {
        format!("-----{what} {} KEY-----", "PRIVATE")
    }

    #[test]
    fn a_long_key_leaves_no_tail() {
        let redactor = redactor();
        let mut line = (0..).map(|at: usize| b"QmFzZTY0TGluZQxVt7Lp4Rw9"[at * 7 % 24] as char);
        for lines in [100, 400, 5000] {
            for (before, after, end) in
                [(marker("BEGIN RSA") + "\n", marker("END RSA"), "\n and so on, "), (marker("BEGIN") + "\n", String::new(), "That is all that I have of it.\n")]
            {
                let body: String = (0..lines).map(|_| line.by_ref().take(64).collect::<String>() + "\n").collect();
                let text = format!("see {before}{body}{after}{end}bye");
                let mut stream = TextStream::new(redactor.clone());
                let mut got = String::new();
                for piece in text.as_bytes().chunks(1500) {
                    got.push_str(&stream.push(std::str::from_utf8(piece).expect("ASCII")));
                    got.push_str(&stream.release());
                }
                got.push_str(&stream.finish());
                let (head, tail) = got.split_once("[REDACTED:private_key:").expect("it is found");
                assert_eq!((head, &tail[tail.find(']').expect("closed") + 1..]), ("see ", format!("{end}bye").as_str()), "{lines} lines");
            }
        }
    }

    #[test]
    fn what_is_known_late_is_replaced_from_there_and_slow_tokens_are_one() {
        let redactor = redactor();
        let token = format!("{}_{}", "ghp", "aB3dE7gH2kL9mN4pQ8s".repeat(2));
        for text in [format!("it is {token}, and"), "x=\"correct horse\" is it\n".to_owned(), format!("password: \"the long {token} of it\" ok")] {
            for size in [1, 3, 10] {
                let mut stream = TextStream::new(redactor.clone());
                let mut got = String::new();
                for piece in text.as_bytes().chunks(size) {
                    got.push_str(&stream.push(std::str::from_utf8(piece).expect("ASCII")));
                    got.push_str(&stream.release());
                    assert!(stream.held_bytes() <= HOLD_BYTES_MAX);
                }
                got.push_str(&stream.finish());
                assert!(!got.contains(&token[..12]), "{got}");
                if text.starts_with("it") {
                    assert_eq!(got, redactor.text(&text).text);
                }
            }
        }
        // The beginning is gone: the rest is replaced, and told.
        let mut stream = TextStream::new(redactor);
        let mut got = stream.push("Sommer#");
        got.push_str(&stream.finish());
        got.push_str(&stream.push("2026x ok"));
        got.push_str(&stream.finish());
        assert_eq!(got, "Sommer#SECRET_REF(db) ok");
        assert_eq!(stream.findings().iter().map(|finding| (&*finding.rule, finding.start, finding.end)).collect::<Vec<_>>(), [("known:db", 0, 12)]);
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
}
