//! Tokens that a provider billed, and tokens that the agent counted: every dialect, streamed and not, packed and not, and
//! clients that hang up. The difference must be 0; of answers that broke off each must be a call that is marked as partial.
//!
//! With kills the agent is ended with -9 again and again while calls are on their way. Each call is a run of its own then,
//! so that what it cost can be read from the agent's books: what it used, or all that was set aside for it.

use crate::proxies::{self, Proxy};
use flate2::Compression;
use flate2::write::GzEncoder;
use memchr::memmem;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Calls where nobody says how many.
pub const CALLS: u64 = 20_000;
/// Calls at the same time.
const ASKERS: u64 = 16;
/// With kills: calls between two of them.
const CALLS_A_KILL: u64 = 400;
const DIALECTS: [&str; 5] = ["openai-completions", "anthropic-messages", "openai-responses", "google-generative-ai", "ollama"];
/// Behind the name of a provider whose streams stop in the middle until the client is gone.
const CUT: &str = "-cut";
/// How long the agent has for settling the last call.
const SETTLE_WAIT: Duration = Duration::from_secs(30);
/// Calls between two announcements of the shared runs.
const CALLS_A_ROUND: u64 = 50_000;

/// What one call uses. It goes by the number of the call alone, so that both sides know it.
#[derive(Clone, Copy)]
struct Use {
    input: i64,
    cached: i64,
    output: i64,
    reasoning: i64,
}

fn used(number: u64) -> Use {
    let n = number as i64;
    Use { input: 700 + n % 977, cached: n % 601, output: 40 + n % 311, reasoning: n % 37 }
}

impl Use {
    fn cost(self) -> i64 {
        (self.input - self.cached) * proxies::INPUT_NANO_USD + self.cached * proxies::CACHED_NANO_USD + self.output * proxies::OUTPUT_NANO_USD
    }
}

/// How a call is made; also by its number.
#[derive(Clone, Copy)]
struct Case {
    dialect: &'static str,
    streamed: bool,
    packed: bool,
    /// The client hangs up: in the middle of a stream that goes no further, or before an answer that comes whole.
    leaves: bool,
    /// In the first dialect: the client wants to be told of the usage.
    asks_usage: bool,
}

fn case(number: u64, may_leave: bool) -> Case {
    let dialect = DIALECTS[(number % 5) as usize];
    let n = number / 5;
    Case {
        dialect,
        streamed: n.is_multiple_of(2),
        packed: (n / 2).is_multiple_of(2),
        leaves: may_leave && (n / 4).is_multiple_of(10),
        asks_usage: n / 4 % 2 == 1,
    }
}

impl Case {
    fn provider(self) -> String {
        format!("{}{}", self.dialect, if self.leaves && self.streamed { CUT } else { "" })
    }

    fn path(self) -> String {
        let path = match self.dialect {
            "openai-completions" => "chat/completions",
            "anthropic-messages" => "v1/messages",
            "openai-responses" => "responses",
            "google-generative-ai" if self.streamed => "models/m:streamGenerateContent",
            "google-generative-ai" => "models/m:generateContent",
            _ => "api/chat",
        };
        format!("/llm/{}/{path}", self.provider())
    }

    fn body(self, number: u64) -> Vec<u8> {
        let (streamed, text) = (self.streamed, format!("call #{number:08}# of the run"));
        let messages = json!([{ "role": "user", "content": text }]);
        let mut body = match self.dialect {
            "openai-completions" | "ollama" => json!({ "model": "m", "stream": streamed, "messages": messages }),
            "anthropic-messages" => json!({ "model": "m", "stream": streamed, "max_tokens": 500, "messages": messages }),
            "openai-responses" => json!({ "model": "m", "stream": streamed, "input": text }),
            _ => json!({ "contents": [{ "role": "user", "parts": [{ "text": text }] }] }),
        };
        if self.asks_usage && self.streamed && self.dialect == "openai-completions" {
            body["stream_options"] = json!({ "include_usage": true });
        }
        let plain = body.to_string().into_bytes();
        if !self.packed {
            return plain;
        }
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        packed.write_all(&plain).and_then(|()| packed.finish()).expect("memory takes it")
    }
}

/// What was said to have been used, a provider each.
type Bills = Arc<Mutex<Billed>>;

#[derive(Default)]
struct Billed {
    /// Requests that came, by their numbers.
    seen: BTreeSet<u64>,
}

pub async fn compare(calls: u64, kill: bool) {
    let bills = Bills::default();
    let upstream = provider(bills.clone()).await;
    let names = DIALECTS.iter().flat_map(|dialect| [(dialect.to_string(), *dialect), (format!("{dialect}{CUT}"), *dialect)]);
    let providers: Vec<_> = names.map(|(name, dialect)| proxies::Provider { url: format!("http://{upstream}/{name}"), name, dialect, model: "m" }).collect();
    let Proxy::Ours(mut ours) = proxies::ours(&providers, None).await else { unreachable!("it is ours") };
    let mut asked = Asked { whole: BTreeSet::new(), left: BTreeSet::new() };
    if kill {
        let mut first = 0;
        while first < calls {
            let until = calls.min(first + CALLS_A_KILL);
            // Half of them are answered before, or so; the others are on their way or find nobody.
            let asking = tokio::spawn(ask_all(ours.asker(), first, until, false, true));
            while bills.lock().expect("nobody panics").seen.range(first..).count() < ((until - first) / 2) as usize {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            ours.machines.end_agent().await;
            asked.add(asking.await.expect("it does not panic"));
            ours.machines.start_agent().await;
            ours.machines.ready().await;
            first = until;
        }
    } else {
        let mut first = 0;
        while first < calls {
            let until = calls.min(first + CALLS_A_ROUND);
            ours.announce().await;
            asked.add(ask_all(ours.asker(), first, until, true, false).await);
            eprintln!("{until} of {calls}");
            first = until;
        }
    }
    let store = ours.machines.folder().join("agent/agent.db");
    let said = if kill { killed(&store, &asked, &bills).await } else { counted(&store, &asked, &bills, calls).await };
    println!("{said}");
    Proxy::Ours(ours).end().await;
}

/// Numbers of calls that were answered to the end, and of those whose client hung up.
struct Asked {
    whole: BTreeSet<u64>,
    left: BTreeSet<u64>,
}

impl Asked {
    fn add(&mut self, other: Asked) {
        self.whole.extend(other.whole);
        self.left.extend(other.left);
    }
}

async fn ask_all(asker: proxies::Asker, from: u64, until: u64, may_leave: bool, own_runs: bool) -> Asked {
    let tasks: Vec<_> = (0..ASKERS)
        .map(|at| {
            let asker = asker.clone();
            tokio::spawn(async move {
                let mut asked = Asked { whole: BTreeSet::new(), left: BTreeSet::new() };
                let mut kept = None;
                for number in (from + at..until).step_by(ASKERS as usize) {
                    let case = case(number, may_leave);
                    let trace = if own_runs { asker.own_trace(number).await } else { Some(asker.trace(number)) };
                    let Some(trace) = trace else { continue };
                    if case.leaves {
                        leave(&asker, case, number, &trace).await;
                        asked.left.insert(number);
                    } else if ask(&asker, case, number, &trace, &mut kept).await {
                        asked.whole.insert(number);
                    } else {
                        kept = None;
                    }
                }
                asked
            })
        })
        .collect();
    let mut all = Asked { whole: BTreeSet::new(), left: BTreeSet::new() };
    for task in tasks {
        all.add(task.await.expect("it does not panic"));
    }
    all
}

fn question(asker: &proxies::Asker, case: Case, number: u64, trace: &str) -> Vec<u8> {
    let body = case.body(number);
    let packed = if case.packed { "content-encoding: gzip\r\n" } else { "" };
    let head = format!(
        "POST {} HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {}\r\ntraceparent: {trace}\r\ncontent-type: application/json\r\n{packed}content-length: {}\r\n\r\n",
        case.path(),
        asker.token,
        body.len()
    );
    [head.as_bytes(), &body].concat()
}

/// Whether the whole answer came.
async fn ask(asker: &proxies::Asker, case: Case, number: u64, trace: &str, kept: &mut Option<crate::client::Connection>) -> bool {
    let connection = kept.get_or_insert_with(|| crate::client::Connection::new(asker.address));
    let question = crate::client::Question::raw(question(asker, case, number, trace));
    let mut heard = Vec::new();
    if !connection.ask(&question, |piece| heard.extend_from_slice(piece)).await {
        return false;
    }
    let usage_is_hidden = case.streamed && case.dialect == "openai-completions" && !case.asks_usage;
    assert_eq!(
        memmem::find(&heard, b"prompt_tokens").is_none(),
        usage_is_hidden || case.dialect != "openai-completions",
        "call {number}: usage is shown to who asked"
    );
    true
}

/// Hangs up: when a stream has begun, or before anything came.
async fn leave(asker: &proxies::Asker, case: Case, number: u64, trace: &str) {
    let Ok(mut stream) = TcpStream::connect(asker.address).await else { return };
    if stream.write_all(&question(asker, case, number, trace)).await.is_err() {
        return;
    }
    let mut read = [0; 4096];
    if case.streamed {
        let mut heard = Vec::new();
        // Its first words: what ends in half a word may wait for the rest.
        while memmem::find(&heard, b"the ").is_none() {
            match stream.read(&mut read).await {
                Ok(bytes) if bytes > 0 => heard.extend_from_slice(&read[..bytes]),
                _ => return,
            }
        }
    } else {
        // Long enough for the request to be read.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

// The books.

/// Calls, partial and estimated ones, input, cached, output, reasoning.
type Row = [i64; 7];

fn rows(store: &Path) -> BTreeMap<String, Row> {
    let open = rusqlite::Connection::open_with_flags(store, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY).expect("the agent's store");
    let sql = "SELECT provider, sum(calls), sum(partial), sum(estimated), sum(input_tokens), sum(cached_tokens), sum(output_tokens), sum(reasoning_tokens) FROM usage_hour GROUP BY provider";
    let mut statement = open.prepare(sql).expect("its tables");
    let found = statement.query_map([], |row| {
        let mut sums = [0; 7];
        sums.iter_mut().enumerate().try_for_each(|(at, sum)| row.get(at + 1).map(|found| *sum = found))?;
        Ok((row.get(0)?, sums))
    });
    found.expect("its columns").collect::<Result<_, _>>().expect("its rows")
}

/// The tokens that a dialect says.
fn said(dialect: &str, number: u64) -> [i64; 4] {
    let Use { input, cached, output, reasoning } = used(number);
    // Neither of them tells thoughts apart here.
    let reasoning = if matches!(dialect, "ollama" | "anthropic-messages") { 0 } else { reasoning };
    [input, cached, output, reasoning]
}

fn add(row: &mut Row, dialect: &str, number: u64) {
    row[0] += 1;
    row[3..].iter_mut().zip(said(dialect, number)).for_each(|(sum, tokens)| *sum += tokens);
}

async fn counted(store: &Path, asked: &Asked, bills: &Bills, calls: u64) -> Value {
    assert_eq!(asked.whole.len() + asked.left.len(), calls as usize, "every call was answered, or left as it should be");
    // Who hung up before the agent had read the question asked nobody.
    let seen = bills.lock().expect("nobody panics").seen.clone();
    assert!(asked.whole.is_subset(&seen), "nobody else answers");
    let mut billed: BTreeMap<String, Row> = BTreeMap::new();
    for number in &seen {
        let case = case(*number, true);
        let row = billed.entry(case.provider()).or_default();
        if case.leaves && case.streamed {
            // What it would have cost was never said.
            (row[0], row[1]) = (row[0] + 1, row[1] + 1);
        } else {
            add(row, case.dialect, *number);
        }
    }
    let settled = |rows: &BTreeMap<String, Row>| rows.values().map(|row| row[0]).sum::<i64>() == seen.len() as i64;
    let begun = std::time::Instant::now();
    while !settled(&rows(store)) && begun.elapsed() < SETTLE_WAIT {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let mut found = rows(store);
    // Of calls that broke off only their number is known.
    found.iter_mut().filter(|(name, _)| name.ends_with(CUT)).for_each(|(_, row)| row[2..].fill(0));
    assert_eq!(found, billed, "calls, partial, estimated, input, cached, output, reasoning");
    let sum = |at: usize| found.values().map(|row| row[at]).sum::<i64>();
    json!({ "calls": sum(0), "unasked": calls as usize - seen.len(), "partial": sum(1), "input_tokens": sum(3), "output_tokens": sum(5), "difference": 0 })
}

/// After kills. Each call that was answered to the end cost what it used; each other one that the provider saw cost that, too,
/// or all that was set aside, and then it is among the partial ones.
async fn killed(store: &Path, asked: &Asked, bills: &Bills) -> Value {
    let open = rusqlite::Connection::open_with_flags(store, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY).expect("the agent's store");
    let seen = bills.lock().expect("nobody panics").seen.clone();
    assert!(asked.whole.is_subset(&seen), "nobody else answers");
    let (mut expected, mut partial) = (BTreeMap::<String, Row>::new(), 0);
    for number in &seen {
        let sql = "SELECT spent_nano_usd, reserved_nano_usd FROM spending WHERE span = 'run' AND part = ?1";
        let (spent, reserved): (i64, i64) =
            open.query_row(sql, [proxies::own_run(*number)], |row| Ok((row.get(0)?, row.get(1)?))).expect("it was written down");
        assert_eq!(reserved, 0, "call {number} is over");
        let case = case(*number, false);
        let row = expected.entry(case.provider()).or_default();
        if spent == used(*number).cost() {
            add(row, case.dialect, *number);
        } else {
            assert!(!asked.whole.contains(number), "call {number} was answered to the end and cost {spent}");
            (row[0], row[1], partial) = (row[0] + 1, row[1] + 1, partial + 1);
        }
    }
    let mut found = rows(store);
    // Calls that were written down when the agent died, and had not left yet: nobody knows that of them.
    let unsent: i64 = found.iter().map(|(name, row)| row[0] - expected.get(name).map_or(0, |row| row[0])).sum();
    for (name, row) in &mut found {
        let more = row[0] - expected.get(name).map_or(0, |row| row[0]);
        (row[0], row[1]) = (row[0] - more, row[1] - more);
    }
    assert_eq!(found, expected, "calls, partial, estimated, input, cached, output, reasoning");
    assert!(unsent <= ASKERS as i64 * seen.len().div_ceil(CALLS_A_KILL as usize) as i64, "at most those on their way: {unsent}");
    json!({ "seen": seen.len(), "answered": asked.whole.len(), "partial": partial, "unsent": unsent, "difference": 0 })
}

// The provider.

async fn provider(bills: Bills) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _ = stream.set_nodelay(true);
            tokio::spawn(serve(stream, bills.clone()));
        }
    });
    address
}

async fn serve(mut stream: TcpStream, bills: Bills) {
    let mut read = Vec::new();
    while let Some((path, body)) = request(&mut stream, &mut read).await {
        let Some(number) = number(&body) else { return };
        bills.lock().expect("nobody panics").seen.insert(number);
        let name = path.split('/').nth(1).unwrap_or_default();
        let Some(dialect) = DIALECTS.into_iter().find(|dialect| name.trim_end_matches(CUT) == *dialect) else { return };
        let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
        let streamed = asked["stream"] == true || path.contains(":stream");
        let answer = if streamed { streamed_answer(dialect, number) } else { whole_answer(dialect, number) };
        let until = if name.ends_with(CUT) { answer.len() / 2 } else { answer.len() };
        // Anywhere, so that everything that must be read together comes apart sooner or later.
        let at = (number as usize * 7919) % until;
        for piece in [&answer[..at], &answer[at..until]] {
            if stream.write_all(piece).await.is_err() {
                return;
            }
            tokio::task::yield_now().await;
        }
        if until < answer.len() {
            // It says no more until the other side is gone.
            let _ = stream.read(&mut [0; 16]).await;
            return;
        }
    }
}

async fn request(stream: &mut TcpStream, read: &mut Vec<u8>) -> Option<(String, Vec<u8>)> {
    loop {
        if let Some(end) = memmem::find(read, b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&read[..end]).to_ascii_lowercase();
            let len: usize = head.lines().find_map(|line| line.strip_prefix("content-length:"))?.trim().parse().ok()?;
            if read.len() >= end + 4 + len {
                let body = read[end + 4..end + 4 + len].to_vec();
                let path = String::from_utf8_lossy(&read[..end]).split(' ').nth(1)?.to_owned();
                read.drain(..end + 4 + len);
                return Some((path, body));
            }
        }
        if stream.read_buf(read).await.ok()? == 0 {
            return None;
        }
    }
}

fn number(body: &[u8]) -> Option<u64> {
    let at = memmem::find(body, b"call #")? + 6;
    std::str::from_utf8(body.get(at..at + 8)?).ok()?.parse().ok()
}

fn usage(dialect: &str, number: u64) -> Value {
    let Use { input, cached, output, reasoning } = used(number);
    match dialect {
        "openai-completions" => json!({ "prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output,
            "prompt_tokens_details": { "cached_tokens": cached }, "completion_tokens_details": { "reasoning_tokens": reasoning } }),
        "anthropic-messages" => {
            json!({ "input_tokens": input - cached, "cache_read_input_tokens": cached, "cache_creation_input_tokens": 0, "output_tokens": output })
        }
        "openai-responses" => json!({ "input_tokens": input, "input_tokens_details": { "cached_tokens": cached }, "output_tokens": output,
            "output_tokens_details": { "reasoning_tokens": reasoning } }),
        _ => json!({ "promptTokenCount": input, "cachedContentTokenCount": cached, "candidatesTokenCount": output - reasoning, "thoughtsTokenCount": reasoning,
            "totalTokenCount": input + output }),
    }
}

fn ollama_end(number: u64) -> Value {
    let Use { input, cached, output, .. } = used(number);
    json!({ "model": "m", "message": { "role": "assistant", "content": "" }, "done": true, "done_reason": "stop",
        "prompt_eval_count": input, "prompt_eval_cached_count": cached, "eval_count": output })
}

fn whole_answer(dialect: &str, number: u64) -> Vec<u8> {
    let body = match dialect {
        "openai-completions" => {
            json!({ "id": "c", "choices": [{ "index": 0, "message": { "role": "assistant", "content": "a whole answer" }, "finish_reason": "stop" }], "usage": usage(dialect, number) })
        }
        "anthropic-messages" => {
            json!({ "id": "m", "type": "message", "role": "assistant", "content": [{ "type": "text", "text": "a whole answer" }], "stop_reason": "end_turn", "usage": usage(dialect, number) })
        }
        "openai-responses" => {
            json!({ "id": "r", "status": "completed", "output": [{ "type": "message", "content": [{ "type": "output_text", "text": "a whole answer" }] }], "usage": usage(dialect, number) })
        }
        "google-generative-ai" => {
            json!({ "candidates": [{ "content": { "parts": [{ "text": "a whole answer" }] }, "finishReason": "STOP" }], "usageMetadata": usage(dialect, number) })
        }
        _ => ollama_end(number),
    };
    let body = body.to_string();
    format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

fn streamed_answer(dialect: &str, number: u64) -> Vec<u8> {
    let data = |value: Value| format!("data: {value}\n\n");
    let named = |value: Value| format!("event: {}\ndata: {value}\n\n", value["type"].as_str().unwrap_or_default());
    let words = ["the first ", "words ", "of ", "an ", "answer ", "and ", "then ", "its ", "end"];
    let events: Vec<String> = match dialect {
        "openai-completions" => {
            let words = words.iter().map(|word| data(json!({ "id": "c", "choices": [{ "index": 0, "delta": { "content": word } }] })));
            let end = [
                data(json!({ "id": "c", "choices": [{ "index": 0, "delta": {}, "finish_reason": "stop" }] })),
                data(json!({ "id": "c", "choices": [], "usage": usage(dialect, number) })),
            ];
            words.chain(end).chain(["data: [DONE]\n\n".to_owned()]).collect()
        }
        "anthropic-messages" => {
            let mut start = usage(dialect, number);
            start["output_tokens"] = json!(1);
            let begin = [
                named(json!({ "type": "message_start", "message": { "id": "m", "usage": start } })),
                named(json!({ "type": "content_block_start", "index": 0, "content_block": { "type": "text", "text": "" } })),
            ];
            let words = words.iter().map(|word| named(json!({ "type": "content_block_delta", "index": 0, "delta": { "type": "text_delta", "text": word } })));
            let end = [
                named(json!({ "type": "content_block_stop", "index": 0 })),
                named(json!({ "type": "message_delta", "delta": { "stop_reason": "end_turn" }, "usage": { "output_tokens": used(number).output } })),
                named(json!({ "type": "message_stop" })),
            ];
            begin.into_iter().chain(words).chain(end).collect()
        }
        "openai-responses" => {
            let words = words
                .iter()
                .map(|word| named(json!({ "type": "response.output_text.delta", "item_id": "i", "output_index": 0, "content_index": 0, "delta": word })));
            words
                .chain([named(
                    json!({ "type": "response.completed", "response": { "id": "r", "status": "completed", "output": [], "usage": usage(dialect, number) } }),
                )])
                .collect()
        }
        "google-generative-ai" => {
            let words = words.iter().map(|word| format!("data: {}\r\n\r\n", json!({ "candidates": [{ "content": { "parts": [{ "text": word }] } }] })));
            let end = json!({ "candidates": [{ "content": { "parts": [{ "text": "." }] }, "finishReason": "STOP" }], "usageMetadata": usage(dialect, number) });
            words.chain([format!("data: {end}\r\n\r\n")]).collect()
        }
        _ => {
            let words = words.iter().map(|word| format!("{}\n", json!({ "model": "m", "message": { "role": "assistant", "content": word }, "done": false })));
            words.chain([format!("{}\n", ollama_end(number))]).collect()
        }
    };
    let kind = if dialect == "ollama" { "application/x-ndjson" } else { "text/event-stream" };
    let mut bytes = format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ntransfer-encoding: chunked\r\n\r\n").into_bytes();
    for event in events {
        bytes.extend_from_slice(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes());
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    bytes
}
