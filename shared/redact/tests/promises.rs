//! What the net promises, over drawn secrets, texts, cuts and mutations: it never panics, a planted secret never survives
//! one of the disguises that it must see through, what holds no secret is not changed, it does not matter where a text is
//! cut, and doing it twice undoes nothing.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use proptest::prelude::*;
use redact::{ByteStream, EventStream, Known, Redactor, TextStream};
use serde_json::{Value, json};
use std::fmt::Write;
use std::sync::Arc;

fn redactor(secret: &str) -> Arc<Redactor> {
    Arc::new(Redactor::new(Known::new([("planted", secret.as_bytes())]), &[9; 32]))
}

fn quoted(text: &str) -> String {
    Value::String(text.to_owned()).to_string()
}

fn each_byte(secret: &str, write: impl Fn(&mut String, u8)) -> String {
    secret.bytes().fold(String::new(), |mut text, byte| {
        write(&mut text, byte);
        text
    })
}

fn each_char(secret: &str, write: impl Fn(&mut String, char)) -> String {
    secret.chars().fold(String::new(), |mut text, letter| {
        write(&mut text, letter);
        text
    })
}

fn utf16(secret: &str, upper: bool) -> String {
    secret.encode_utf16().map(|unit| if upper { format!("\\u{unit:04X}") } else { format!("\\u{unit:04x}") }).collect()
}

fn percent(secret: &str, upper: bool, all: bool) -> String {
    each_byte(secret, |text, byte| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' if !all => text.push(byte as char),
        _ if upper => write!(text, "%{byte:02X}").expect("strings take all"),
        _ => write!(text, "%{byte:02x}").expect("strings take all"),
    })
}

fn wrapped(code: &str, width: usize, line: &str) -> String {
    code.as_bytes().chunks(width).map(|line| std::str::from_utf8(line).expect("code is ASCII")).collect::<Vec<_>>().join(line)
}

fn entities(secret: &str, apostrophe: &str) -> String {
    each_char(secret, |text, letter| match letter {
        '&' => text.push_str("&amp;"),
        '<' => text.push_str("&lt;"),
        '>' => text.push_str("&gt;"),
        '"' => text.push_str("&quot;"),
        '\'' => text.push_str(apostrophe),
        _ => text.push(letter),
    })
}

/// Every disguise that must be seen through, of one secret.
fn disguises(secret: &str) -> Vec<(&'static str, String)> {
    let once = quoted(secret);
    let twice = quoted(&format!("{{\"k\":{once}}}"));
    let phase = |before: &str| STANDARD.encode(format!("{before}{secret}yz"));
    let large = [b"\0\x01bin".repeat(40), secret.as_bytes().to_vec(), b"\xff\xfe".repeat(40)].concat();
    let lines = STANDARD.encode(format!("{}K={secret}\n{}", "head ".repeat(9), "tail ".repeat(20)));
    let hex = each_byte(secret, |text, byte| write!(text, "{byte:02x}").expect("strings take all"));
    let doubled = |quote: char| secret.replace(quote, &format!("{quote}{quote}"));
    vec![
        ("plain", secret.to_owned()),
        ("in prose", format!("Use {secret} now.")),
        ("JSON", format!("{{\"k\":{once}}}")),
        ("JSON in JSON", format!("{{\"a\":{twice}}}")),
        ("JSON three times", format!("{{\"a\":{}}}", quoted(&format!("{{\"b\":{twice}}}")))),
        ("JSON with slashes", format!("{{\"k\":{}}}", once.replace('/', "\\/"))),
        ("units", format!("{{\"k\":\"{}\"}}", utf16(secret, false))),
        ("upper units", format!("{{\"k\":\"{}\"}}", utf16(secret, true))),
        ("base64, phase 0", phase("")),
        ("base64, phase 1", phase("x")),
        ("base64, phase 2", phase("xy")),
        ("base64 without padding", STANDARD_NO_PAD.encode(format!("u:{secret}"))),
        ("base64url", URL_SAFE_NO_PAD.encode(format!("\u{7f}\u{7f}{secret}~"))),
        ("basic", format!("Authorization: Basic {}", STANDARD.encode(format!("user:{secret}")))),
        ("base64 in a blob", STANDARD.encode(large)),
        ("base64 of JSON", STANDARD.encode(format!("{{\"password\": {once}}}"))),
        ("wrapped at 64", wrapped(&lines, 64, "\n")),
        ("wrapped at 76 as mail", wrapped(&lines, 76, "\r\n")),
        ("wrapped and escaped", wrapped(&lines, 64, "\\n")),
        ("hex", hex.clone()),
        ("upper hex", hex.to_uppercase()),
        ("hex escapes", each_byte(secret, |text, byte| write!(text, "\\x{byte:02x}").expect("strings take all"))),
        ("percent", format!("https://x/?k={}", percent(secret, true, false))),
        ("lower percent", format!("k={}", percent(secret, false, false))),
        ("all percent", percent(secret, true, true)),
        ("form", format!("a=1&k={}&b=2", percent(secret, true, false).replace("%20", "+"))),
        ("userinfo", format!("https://bot:{}@git.example.com/x.git", percent(secret, true, false))),
        ("HTML", entities(secret, "&#x27;")),
        ("XML", entities(secret, "&apos;")),
        ("shell", format!("export K='{}'", secret.replace('\'', "'\\''"))),
        (
            "shell, double",
            format!(
                "K=\"{}\"",
                each_char(secret, |text, letter| {
                    if matches!(letter, '"' | '\\' | '$' | '`') {
                        text.push('\\');
                    }
                    text.push(letter);
                })
            ),
        ),
        ("SQL", format!("VALUES ('{}')", doubled('\''))),
        ("YAML", format!("k: '{}'", doubled('\''))),
        ("CSV", format!("a,\"{}\",b", doubled('"'))),
        ("program", format!("k := {secret:?}")),
    ]
}

/// Secrets as people and machines make them.
fn secrets() -> impl Strategy<Value = String> {
    prop_oneof![
        "[A-Za-z0-9]{8,60}",
        "[a-z]{2,5}[-_][A-Za-z0-9_-]{16,40}",
        "[0-9a-f]{16,64}",
        "[A-Za-z0-9+/]{20,44}",
        "[a-z]{3,9}( [a-z]{3,9}){2,4}",
        "[A-Za-z0-9!#$*,./:;<=>?@^_|~-]{12,40}",
        "[A-Za-zäöüß0-9]{6,20}[!?§€#.-][A-Za-z0-9]{6,12}",
        "[A-Za-z0-9]{8,16}['\"\\\\&<>%+ ][A-Za-z0-9]{8,16}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn a_planted_secret_survives_no_disguise(secret in secrets(), before in "[ -~]{0,12} ", after in " [ -~]{0,12}") {
        let redactor = redactor(&secret);
        for (name, disguise) in disguises(&secret) {
            // Not where the disguise says how all of it is to be read.
            let text = if disguise.starts_with('{') { disguise.clone() } else { format!("{before}{disguise}{after}") };
            let redaction = redactor.text(&text);
            prop_assert!(redaction.text.contains("SECRET_REF(planted)"), "{}: {:?} became {:?}", name, text, redaction.text);
            prop_assert!(!redaction.text.contains(&secret), "{}: {:?} became {:?}", name, text, redaction.text);
            let again = redactor.text(&redaction.text);
            prop_assert!(keeps(&redaction.text, &again.text), "{} twice: {:?} became {:?}", name, redaction.text, again.text);
        }
    }

    #[test]
    fn it_does_not_matter_where_a_text_is_cut(secret in secrets(), which in 0..35usize, cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12)) {
        let redactor = redactor(&secret);
        let all = disguises(&secret);
        let (name, disguise) = &all[which % all.len()];
        // JSON as a text is looked at string by string, which a stream of its bytes cannot do.
        prop_assume!(!disguise.starts_with('{'));
        let text = format!("It is {disguise} and so on; {disguise}\nend");
        let whole = redactor.text(&text).text.into_owned();
        let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).filter(|at| text.is_char_boundary(*at)).collect();
        places.push(text.len());
        places.sort_unstable();
        let (mut stream, mut got, mut at) = (TextStream::new(redactor.clone()), String::new(), 0);
        for place in places {
            got.push_str(&stream.push(&text[at..place]));
            at = place;
        }
        got.push_str(&stream.finish());
        prop_assert_eq!(got, whole, "{}", name);
    }

    /// Deltas of any provider, cut anywhere: what a client puts together is what the whole text would have become.
    #[test]
    fn deltas_say_what_the_whole_would_say(secret in secrets(), words in "[a-zA-Z ,.:\n\"]{0,40}", cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8), size in 1..200usize, dialect in 0..4usize, noise in 0..4usize) {
        let redactor = redactor(&secret);
        let text = format!("{words} it is {secret}, and {secret}\n{words}");
        let out = said(&redactor, &text, &cuts, size, dialect, noise, false)?;
        prop_assert_eq!(out, redactor.text(&text).text.into_owned());
    }

    /// So are arguments, which stay JSON whatever is in them.
    #[test]
    fn streamed_arguments_are_the_whole_ones(secret in secrets(), key in "[a-z]{1,9}", words in "[a-zA-Z ,.:\n\"\\\\]{0,40}", cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8), size in 1..200usize, dialect in 0..3usize, noise in 0..4usize) {
        let redactor = redactor(&secret);
        for value in [format!("{words}\n{secret}\n"), words] {
            let arguments = json!({key.clone(): value, "n": [1, {"b": true}]}).to_string();
            let out = said(&redactor, &arguments, &cuts, size, dialect, noise, true)?;
            let whole = json!({"choices":[{"message":{"function_call":{"arguments":arguments}}}]}).to_string();
            let whole = redactor.json(whole.as_bytes()).expect("JSON");
            let whole: Value = serde_json::from_slice(&whole.bytes).expect("JSON");
            prop_assert_eq!(Some(out.as_str()), whole["choices"][0]["message"]["function_call"]["arguments"].as_str());
            prop_assert!(serde_json::from_str::<Value>(&out).is_ok(), "{}", out);
        }
    }

    #[test]
    fn what_holds_no_secret_is_not_changed(secret in "[A-Z]{4}[0-9]{8}", words in prop::collection::vec("[a-zäöü]{1,9}[ ,.;\n\\\\%&\"']", 0..60)) {
        let redactor = redactor(&secret);
        let text = words.concat();
        prop_assert_eq!(&redactor.text(&text).text, &text);
        let body = json!({"messages": [{"role": "user", "content": text}]}).to_string();
        let redacted = redactor.json(body.as_bytes());
        prop_assert_eq!(redacted.map(|body| body.bytes.into_owned()), Ok(body.into_bytes()));
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), size in 1..50usize) {
        thrown(&redactor("Sommer#2026x"), &bytes, size);
    }

    #[test]
    fn no_text_makes_it_panic(text in "[\\\\%&=+'\"{}\\[\\]:,uxnU0-9a-fA-F\u{200b}\u{1b} \n-]{0,200}", size in 1..50usize) {
        thrown(&redactor("abc\\u0041%41&amp;-x"), text.as_bytes(), size);
    }
}

/// What a client puts together of `text`, streamed in the events of a provider.
fn said(
    redactor: &Arc<Redactor>,
    text: &str,
    cuts: &[prop::sample::Index],
    size: usize,
    dialect: usize,
    noise: usize,
    is_call: bool,
) -> Result<String, TestCaseError> {
    let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).filter(|at| text.is_char_boundary(*at)).chain([0, text.len()]).collect();
    places.sort_unstable();
    let (mut body, end) = (String::new(), ["\n", "\r\n", "\r"][noise % 3]);
    let pointers = match dialect {
        0 if is_call => "/choices/0/delta/tool_calls/0/function/arguments",
        0 => "/choices/0/delta/content",
        1 if is_call => "/delta/partial_json",
        1 => "/delta/text",
        2 => "/delta",
        _ => "/candidates/0/content/parts/0/text",
    };
    for piece in places.windows(2).map(|span| &text[span[0]..span[1]]) {
        let event = match dialect {
            0 if is_call => json!({"id":"c","choices":[{"index":0,"delta":{"tool_calls":[{"index":2,"function":{"arguments":piece}}]},"finish_reason":""}]}),
            0 => json!({"id":"c","choices":[{"index":0,"delta":{"content":piece},"finish_reason":null}],"usage":null}),
            1 if is_call => json!({"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":piece}}),
            1 => json!({"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":piece}}),
            2 if is_call => json!({"type":"response.function_call_arguments.delta","output_index":1,"delta":piece,"sequence_number":body.len()}),
            2 => json!({"type":"response.output_text.delta","output_index":1,"content_index":0,"delta":piece,"sequence_number":body.len()}),
            _ => json!({"candidates":[{"content":{"parts":[{"text":piece}],"role":"model"},"index":0}]}),
        };
        let event = if noise == 3 { serde_json::to_string_pretty(&event).expect("JSON").replace('\n', "\ndata: ") } else { event.to_string() };
        body.push_str(&format!(": c{end}event: x{end}data: {}{end}{end}", event.replace('\n', end)));
    }
    let finish = [
        json!({"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}),
        json!({"type":"content_block_stop","index":1}),
        json!({"type":"response.completed"}),
        json!({"candidates":[{"finishReason":"STOP"}]}),
    ];
    let last = format!("data: {}", finish[dialect]);
    body.push_str(&last);
    let mut stream = EventStream::new(redactor.clone());
    let mut out = Vec::new();
    for piece in body.as_bytes().chunks(size) {
        out.extend(stream.push(piece).map_err(|error| TestCaseError::fail(error.to_string()))?);
    }
    out.extend(stream.finish().map_err(|error| TestCaseError::fail(error.to_string()))?);
    let out = String::from_utf8(out).expect("events are text");
    let (mut said, mut data, mut ended) = (String::new(), String::new(), false);
    for line in out.replace("\r\n", "\n").split(['\r', '\n']).chain([""]) {
        prop_assert!(line.is_empty() || line.starts_with(": c") || line == "event: x" || line.starts_with("data: "), "{:?}", line);
        data.push_str(line.strip_prefix("data: ").unwrap_or_default());
        if line.is_empty() && !data.is_empty() {
            let event: Value = serde_json::from_str(&std::mem::take(&mut data)).map_err(|error| TestCaseError::fail(format!("{error}: {out}")))?;
            let piece = event.pointer(pointers).and_then(Value::as_str);
            prop_assert!(!ended || piece.is_none(), "nothing comes after the end");
            said.push_str(piece.unwrap_or_default());
            ended |= event == finish[dialect];
        }
    }
    prop_assert!(ended);
    Ok(said)
}

/// Whether `twice` has every placeholder of `once`. It may have more: beside a placeholder a word may stand where only a
/// password stands, that before was one of many.
fn keeps(once: &str, twice: &str) -> bool {
    let mut left = placeholders(twice).into_iter();
    placeholders(once).into_iter().all(|placeholder| left.any(|other| other == placeholder))
}

fn placeholders(text: &str) -> Vec<&str> {
    let mut starts: Vec<(usize, char)> = text.match_indices("SECRET_REF(").map(|(at, _)| (at, ')')).collect();
    starts.extend(text.match_indices("[REDACTED:").map(|(at, _)| (at, ']')));
    starts.sort_unstable();
    starts.into_iter().filter_map(|(at, close)| Some(&text[at..at + text[at..].find(close)? + 1])).collect()
}

/// Everything that takes foreign bytes.
fn thrown(redactor: &Arc<Redactor>, bytes: &[u8], size: usize) {
    let text = String::from_utf8_lossy(bytes);
    let once = redactor.text(&text).text.into_owned();
    let twice = redactor.text(&once).text;
    assert!(keeps(&once, &twice), "{once:?} became {twice:?}");
    let _ = redactor.json(bytes);
    let _ = redactor.body(bytes);
    let _ = redact::body::open("gzip", bytes);
    let mut stream = ByteStream::new(redactor.clone());
    let mut events = EventStream::new(redactor.clone());
    for piece in bytes.chunks(size) {
        stream.push(piece);
        stream.release();
        if events.push(piece).is_err() {
            break;
        }
        events.release();
    }
    stream.finish();
    let _ = events.finish();
    let args = json!({"command": text, "url": text, "headers": {"a": text}, "body": text});
    for tool in ["exec", "http.request", "fs.write"] {
        redact::reference::resolve(tool, &args, &|_| Some(Default::default()), &|name| Some(name.to_owned().into()));
    }
}

const ROUNDS: usize = 4_000;

/// Bodies that are nearly right, which drawn bytes never are.
#[test]
fn mutated_bodies_neither_panic_nor_let_the_secret_through() {
    let secret = "Kp7-wQz\"41 Löwe";
    let redactor = redactor(secret);
    let chat = json!({"model": "m", "messages": [{"role": "user", "content": format!("it is {secret}")},
        {"role": "assistant", "tool_calls": [{"id": "call_1", "function": {"name": "f", "arguments": json!({"k": secret, "n": [1, 2.5e3]}).to_string()}}]}]});
    let delta = |piece: &str| format!("data: {}\n\n", json!({"choices": [{"index": 0, "delta": {"content": piece}}]}));
    let events = ["it is Kp7-", "wQz\"41 L", "öwe, yes"].map(delta).concat() + "data: [DONE]\n\n";
    let texts: Vec<String> = disguises(secret).into_iter().map(|(_, text)| text).collect();
    let seeds: Vec<Vec<u8>> = [chat.to_string(), events].into_iter().chain(texts).map(String::into_bytes).collect();
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut draw = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below.max(1) as u64) as usize
    };
    for round in 0..ROUNDS {
        let mut bytes = seeds[draw(seeds.len())].clone();
        for _ in 0..1 + draw(4) {
            let at = draw(bytes.len());
            match draw(5) {
                0 if at < bytes.len() => bytes[at] ^= 1 << draw(8),
                1 if at < bytes.len() => drop(bytes.remove(at)),
                2 => bytes.insert(at, b"\\\"{}[]%&=u0\n:,x"[draw(15)]),
                3 => bytes.truncate(at),
                _ => {
                    let other = &seeds[draw(seeds.len())];
                    let from = draw(other.len());
                    let piece = other[from..other.len().min(from + 1 + draw(30))].to_vec();
                    bytes.splice(at..at, piece);
                }
            }
        }
        thrown(&redactor, &bytes, 1 + draw(40));
        if let Ok(body) = redactor.json(&bytes) {
            let value: Result<Value, _> = serde_json::from_slice(&body.bytes);
            // Only what serde refuses of what came in, too: control characters, lone surrogates, numbers beyond its range.
            assert!(value.is_ok() || serde_json::from_slice::<Value>(&bytes).is_err(), "round {round}: the edited body is no JSON any more");
            assert!(!value.is_ok_and(|value| value.to_string().contains(&quoted(secret).trim_matches('"').to_owned())), "round {round}");
        }
        let text = String::from_utf8_lossy(&bytes);
        assert!(!redactor.text(&text).text.contains(secret), "round {round}");
    }
}
