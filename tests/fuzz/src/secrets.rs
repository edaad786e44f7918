//! Input for the secrets net: texts, bodies and streams in which one known secret is planted, in some disguise, at some
//! place, cut into some pieces. Which, the input itself decides, so that it fails again when it is thrown again.

use crate::target::Judge;
use redact::{ByteStream, EventStream, Known, Redactor, TextStream};
use serde_json::{Value, json};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

/// A stream remembers this much for sure.
const WHOLE_BYTES_MAX: usize = 256;

/// What a place may be planted with. Drawn once; put together here, so that no file holds anything like a secret.
fn secrets() -> [String; 4] {
    [
        format!("k-{}", "Qz7Lm4Rt".repeat(4)),
        format!("{}#{}", "Sommer", "2026 x&y"),
        format!("{}{}", "it's \"so\" \\ ", "<grün> 41+7"),
        "3b8d06f172c94ea5".repeat(2),
    ]
}

fn redactor(secret: &str) -> Arc<Redactor> {
    Arc::new(Redactor::new(Known::new([("planted", secret.as_bytes())]), &[9; 32]))
}

/// Numbers that follow from the input alone.
struct Draw(u64);

impl Draw {
    fn from(input: &str) -> Draw {
        let mut hasher = DefaultHasher::new();
        input.hash(&mut hasher);
        Draw(hasher.finish() | 1)
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(bound.max(1)).unwrap_or(1)).unwrap_or_default()
    }

    /// `text` in pieces, on borders of characters.
    fn pieces<'a>(&mut self, text: &'a str) -> Vec<&'a str> {
        let size = [1, 3, 8, 40, 400, 4_000][self.below(6)].max(text.len() / 400);
        let (mut pieces, mut rest) = (Vec::new(), text);
        while !rest.is_empty() {
            let (piece, more) = rest.split_at(rest.ceil_char_boundary((1 + self.below(size * 2)).min(rest.len())));
            pieces.push(piece);
            rest = more;
        }
        pieces
    }
}

/// `secret` as it must be seen through.
fn disguised(secret: &str, draw: &mut Draw) -> String {
    let each = |write: &dyn Fn(u8) -> String| secret.bytes().map(write).collect::<String>();
    let hex = each(&|byte| format!("{byte:02x}"));
    match draw.below(12) {
        0..=2 => secret.to_owned(),
        3..=5 => base64(format!("{}{secret}yz", &"xyz"[..draw.below(3)]).as_bytes()),
        6 => hex,
        7 => hex.to_uppercase(),
        8 => each(&|byte| format!("%{byte:02X}")),
        9 => each(&|byte| format!("\\x{byte:02x}")),
        10 => secret.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect(),
        _ => Value::String(secret.to_owned()).to_string(),
    }
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let threes = bytes.chunks(3).map(|three| {
        let bits = three.iter().fold(0_usize, |bits, byte| bits << 8 | usize::from(*byte)) << (8 * (3 - three.len()));
        let letter = |at: usize| if at <= three.len() { char::from(LETTERS[bits >> (18 - at * 6) & 63]) } else { '=' };
        [letter(0), letter(1), letter(2), letter(3)]
    });
    threes.flatten().collect()
}

/// A secret, and `input` with a disguise of it set apart somewhere.
fn planted(input: &str, draw: &mut Draw) -> (String, String, String) {
    let secrets = secrets();
    let secret = secrets[draw.below(secrets.len())].clone();
    let disguise = disguised(&secret, draw);
    let at = input.floor_char_boundary(draw.below(input.len() + 1));
    let text = format!("{} {disguise} {}", &input[..at], &input[at..]);
    (secret, disguise, text)
}

/// Without panicking: what is found is replaced and all else kept, and doing it again changes nothing that is kept.
pub fn text() -> Judge {
    Box::new(|input| {
        let mut draw = Draw::from(input);
        let (secret, disguise, text) = planted(input, &mut draw);
        let redactor = redactor(&secret);
        let done = redactor.text(&text);
        assert!(!done.text.contains(&disguise), "the secret is gone");
        let (mut at, mut rest) = (0, &*done.text);
        for finding in &done.findings {
            assert!(at <= finding.start && finding.start < finding.end, "findings are in order and apart");
            rest = rest.strip_prefix(&text[at..finding.start]).expect("what lies between findings is kept");
            let (open, close) = if rest.starts_with('S') { ("SECRET_REF(", ')') } else { ("[REDACTED:", ']') };
            assert!(rest.starts_with(open), "a placeholder stands for what was found");
            rest = &rest[rest.find(close).expect("a placeholder ends") + 1..];
            at = finding.end;
        }
        assert_eq!(rest, &text[at..], "what lies behind the findings is kept");
        assert!(!redactor.text(&done.text).text.contains(&secret), "doing it twice brings nothing back");
        let masked = redact::mask(&text, &[&secret]).into_owned();
        assert!(!masked.contains(&secret), "the log holds no known secret");
    })
}

/// JSON stays JSON, a planted secret is gone from it, and what is not JSON is refused.
pub fn body() -> Judge {
    Box::new(|input| {
        let mut draw = Draw::from(input);
        let (secret, disguise, text) = planted(input, &mut draw);
        let redactor = redactor(&secret);
        if let Ok(body) = redactor.json(input.as_bytes()) {
            assert!(std::str::from_utf8(&body.bytes).is_ok(), "edits are text");
            let reads = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).is_ok();
            assert!(reads(&body.bytes) || !reads(input.as_bytes()), "JSON stays JSON");
        }
        let body = json!({"model": "m", "messages": [{"role": "user", "content": text}, {"role": "tool", "content": [{"type": "text", "text": input}]}]});
        let done = match redactor.json(body.to_string().as_bytes()) {
            Ok(done) => done.bytes.into_owned(),
            // A number in JSON in a string.
            Err(redact::BodyError::Blocked { .. }) => return,
            Err(error) => panic!("a body that is JSON is read: {error}"),
        };
        let done: Value = serde_json::from_slice(&done).expect("JSON stays JSON");
        let content = done["messages"][0]["content"].as_str().expect("a string stays one");
        assert!(!content.contains(&disguise) && !content.contains(&secret), "the secret is gone");
        assert_eq!(done["messages"][0]["role"], "user", "words of the format are kept");
    })
}

/// Wherever a text is cut, a planted secret does not come out; where nothing is found, all of it does.
pub fn stream() -> Judge {
    Box::new(|input| {
        let mut draw = Draw::from(input);
        let (secret, disguise, text) = planted(input, &mut draw);
        let redactor = redactor(&secret);
        let mut stream = TextStream::new(redactor.clone());
        let mut gone: String = draw.pieces(&text).into_iter().map(|piece| stream.push(piece)).collect();
        gone.push_str(&stream.finish());
        assert!(!gone.contains(&disguise), "the secret is gone");
        // The net may decide by what lies further back than a stream remembers; a known secret is known anywhere.
        let mut whole = TextStream::new(redactor.clone());
        let expected = whole.push(&text) + &whole.finish();
        if text.len() <= WHOLE_BYTES_MAX && whole.findings().iter().all(|finding| finding.rule.starts_with("known:")) {
            assert_eq!(gone, expected, "it does not matter where a text is cut");
        }
        let mut bytes = ByteStream::new(redactor);
        let size = 1 + draw.below(text.len());
        let mut gone: Vec<u8> = text.as_bytes().chunks(size.max(text.len() / 200)).flat_map(|piece| bytes.push(piece)).collect();
        gone.extend(bytes.finish());
        assert!(!String::from_utf8(gone).expect("text stays text").contains(&disguise), "the secret is gone");
    })
}

/// The events of an answer stay events, and what they spell holds no planted secret, however the bytes are cut.
pub fn events() -> Judge {
    Box::new(|input| {
        let mut draw = Draw::from(input);
        let (secret, disguise, text) = planted(input, &mut draw);
        let redactor = redactor(&secret);
        // As it is: refused or not.
        let mut stream = EventStream::new(redactor.clone());
        let _ = stream.push(input.as_bytes()).and_then(|_| stream.finish());
        let kind = draw.below(3);
        let events = draw.pieces(&text).into_iter().map(|piece| match kind {
            0 => json!({"id": "c", "choices": [{"index": 0, "delta": {"content": piece}, "finish_reason": null}]}),
            1 => json!({"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": piece}}),
            _ => json!({"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": piece}),
        });
        let sent: String = events.map(|event| format!("data: {event}\n\n")).collect::<String>() + "data: [DONE]\n\n";
        let size = [1, 7, 100, 1_500, 100_000][draw.below(5)].max(sent.len() / 400);
        let mut stream = EventStream::new(redactor);
        let mut gone = Vec::new();
        for piece in sent.as_bytes().chunks(size) {
            gone.extend(stream.push(piece).expect("events that are well-formed are read"));
        }
        gone.extend(stream.finish().expect("events that are well-formed are read"));
        let gone = String::from_utf8(gone).expect("events are text");
        let data = gone.split("\n\n").filter_map(|event| event.strip_prefix("data: ")).filter(|data| *data != "[DONE]");
        let spelled: String = data.map(|data| piece_of(&serde_json::from_str(data).expect("events stay JSON"), kind)).collect();
        assert!(!spelled.contains(&disguise), "the secret is gone");
    })
}

fn piece_of(event: &Value, kind: usize) -> String {
    let piece = match kind {
        0 => &event["choices"][0]["delta"]["content"],
        1 => &event["delta"]["text"],
        _ => &event["delta"],
    };
    piece.as_str().expect("a piece stays text").to_owned()
}

pub const PIECES: &[&str] = &[
    "password: @",
    "api_key=@",
    "\"token\": \"@\"",
    "Authorization: Bearer @",
    "Authorization: Basic @",
    "Cookie: session=@; a=b",
    "https://user:@@host/x",
    "https://hooks.slack.com/services/@",
    "mysql -p@ x",
    "curl -u a:@ y",
    "docker login -p @ z",
    "use @ as the password",
    "das Passwort ist @",
    "-----BEGIN PRIVATE KEY-----\n@\n-----END PRIVATE KEY-----",
    "-----BEGIN ",
    "Private-Lines: 2\n@",
    "eyJhbGciOiJIUzI1NiJ9.@",
    "$6$salt$@",
    "{\"a\":\"@\"}",
    "{\"input\":{\"password\":\"@\"}}",
    "[@,1,true]",
    "{\"messages\":[{\"content\":\"@\"}]}",
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"@\"}}]}\n\n",
    "event: x\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"@\"}}\n\n",
    "SECRET_REF(@)",
    "[REDACTED:@]",
    "SECRET_REF(planted)",
    "\\u00@",
    "\\x4@",
    "\\\\",
    "\\n",
    "\\\"",
    "%4@",
    "%25",
    "&amp;",
    "&#x4@;",
    "=\n",
    "=4@",
    "''",
    "\"\"",
    "a+b",
    "\u{200b}",
    "\u{1b}[31m@\u{1b}[0m",
    "ü",
    "passüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüü_@",
    "－－－",
    "0x41, 0x42, ",
    "41:42:43:44:45:46:47:48:",
    "00000000: 5361 5361 5361 5361  SaSaSaSa\n",
    "000000 41 41 41 41 41 41 41 z",
    "2026-11-20 10:31:22.123456 INFO ok\\n",
    "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNk",
    "UVVKRFJFVkdSMGhKU2t0TVRVNVBVRkZTVTFSVg==\n",
    "H4sIAAAAAAAA",
    "3b8d06f172c94ea59d01f6b38a4c5e27",
    "k-Qz7Lm4",
    "Sommer#",
    "zQ8rTbN2xLw5VkPd7Gh3",
    "acme_live_@",
    "key=",
    " ",
    "\n",
    "\"",
    "'",
    "=",
    ":",
    ")",
    "/",
];
