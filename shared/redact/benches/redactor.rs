//! Measures of the redactor: `cargo bench -p redact --bench redactor`. Each stands beside a plain memchr walk and aho-corasick over the same text.
//!
//! Values and texts are drawn from a fixed seed, so that two runs measure the same.

use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use redact::{EventStream, Known, Redactor, TextStream};
use std::sync::{Arc, LazyLock};

fn main() {
    divan::main();
}

const TEXT_BYTES: usize = 126_000;
const BULK_BYTES: usize = 8 << 20;
const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
const WORDS: [&str; 24] = [
    "the",
    "order",
    "of",
    "customer",
    "was",
    "sent",
    "yesterday",
    "und",
    "die",
    "Rechnung",
    "liegt",
    "bei",
    "please",
    "check",
    "invoice",
    "getOrderById",
    "const",
    "return",
    "value",
    "=>",
    "items.map(item",
    "42",
    "https://example.org/a/b?c=d",
    "\"quoted\"",
];

struct Draw(u64);

impl Draw {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % below as u64) as usize
    }

    fn value(&mut self) -> String {
        (0..20 + self.next(40)).map(|_| LETTERS[self.next(LETTERS.len())] as char).collect()
    }

    fn text(&mut self, bytes: usize) -> String {
        let mut text = String::with_capacity(bytes + 64);
        while text.len() < bytes {
            text.push_str(WORDS[self.next(WORDS.len())]);
            text.push(if self.next(12) == 0 { '\n' } else { ' ' });
        }
        text
    }
}

fn values(count: usize) -> Vec<String> {
    let mut draw = Draw(88_172_645_463_325_252);
    (0..count).map(|_| draw.value()).collect()
}

fn known(count: usize) -> Known {
    let values = values(count);
    let names: Vec<String> = (0..count).map(|at| format!("s{at}")).collect();
    Known::new(names.iter().zip(&values).map(|(name, value)| (name.as_str(), value.as_bytes())))
}

static BULK: LazyLock<String> = LazyLock::new(|| Draw(7).text(BULK_BYTES));
static BODY: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut draw = Draw(9);
    let messages: Vec<serde_json::Value> =
        (0..TEXT_BYTES / 3000).map(|at| serde_json::json!({"role": if at % 2 == 0 { "user" } else { "assistant" }, "content": draw.text(2800)})).collect();
    serde_json::json!({"model": "m", "messages": messages, "stream": true}).to_string().into_bytes()
});

#[divan::bench]
fn memchr_walk_bulk(bencher: Bencher) {
    bencher.counter(BytesCount::new(BULK.len())).bench(|| memchr::memchr_iter(b'"', black_box(BULK.as_bytes())).count());
}

#[divan::bench(args = [30, 10_000])]
fn known_bulk(bencher: Bencher, count: usize) {
    let known = known(count);
    bencher.counter(BytesCount::new(BULK.len())).bench(|| known.count_plain(black_box(BULK.as_bytes())));
}

#[divan::bench(args = [30, 10_000], sample_count = 5, sample_size = 1)]
fn aho_corasick_bulk(bencher: Bencher, count: usize) {
    let automaton = aho_corasick::AhoCorasick::new(values(count)).expect("the values fit");
    bencher.counter(BytesCount::new(BULK.len())).bench(|| automaton.find_iter(black_box(BULK.as_bytes())).count());
}

#[divan::bench(args = [0, 30, 10_000], sample_count = 5, sample_size = 1)]
fn full_bulk(bencher: Bencher, count: usize) {
    let redactor = Redactor::new(known(count), &[1; 32]);
    bencher.counter(BytesCount::new(BULK.len())).bench(|| redactor.text(black_box(&BULK)).findings.len());
}

#[divan::bench]
fn memchr_walk_body(bencher: Bencher) {
    bencher.counter(BytesCount::new(BODY.len())).bench(|| memchr::memchr_iter(b'"', black_box(&BODY)).count());
}

#[divan::bench(args = [30, 10_000], sample_count = 30, sample_size = 1)]
fn body_cold(bencher: Bencher, count: usize) {
    // A redactor that has seen nothing, each time.
    bencher
        .counter(BytesCount::new(BODY.len()))
        .with_inputs(|| Redactor::new(known(count), &[1; 32]))
        .bench_refs(|redactor| redactor.json(black_box(&BODY)).map(|body| body.findings.len()));
}

#[divan::bench(args = [30, 10_000])]
fn body_warm(bencher: Bencher, count: usize) {
    let redactor = Redactor::new(known(count), &[1; 32]);
    bencher.counter(BytesCount::new(BODY.len())).bench(|| redactor.json(black_box(&BODY)).map(|body| body.findings.len()));
}

static ANSWER: LazyLock<Vec<String>> = LazyLock::new(|| Draw(11).text(2400).split_inclusive(' ').take(200).map(str::to_owned).collect());

/// 200 words of an answer, each an event: what `stream_text` measures, and the events around it.
#[divan::bench(args = [30, 10_000])]
fn stream_events(bencher: Bencher, count: usize) {
    let redactor = Arc::new(Redactor::new(known(count), &[1; 32]));
    let chunk = |piece: &String| {
        let event = serde_json::json!({"id": "chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT", "object": "chat.completion.chunk", "created": 1_763_634_999, "model": "gpt-5",
            "service_tier": "default", "choices": [{"index": 0, "delta": {"content": piece}, "logprobs": null, "finish_reason": null}]});
        format!("data: {event}\n\n")
    };
    let events: Vec<String> = ANSWER.iter().map(chunk).collect();
    bencher
        .with_inputs(|| EventStream::new(redactor.clone()))
        .bench_refs(|stream| events.iter().map(|event| stream.push(black_box(event.as_bytes())).map_or(0, |gone| gone.len())).sum::<usize>());
}

#[divan::bench(args = [30, 10_000])]
fn stream_text(bencher: Bencher, count: usize) {
    let redactor = Arc::new(Redactor::new(known(count), &[1; 32]));
    bencher
        .with_inputs(|| TextStream::new(redactor.clone()))
        .bench_refs(|stream| ANSWER.iter().map(|piece| stream.push(black_box(piece)).len()).sum::<usize>());
}

#[divan::bench(args = [30, 10_000], sample_count = 5, sample_size = 1)]
fn build(bencher: Bencher, count: usize) {
    bencher.bench(|| known(count));
}

/// An answer of 200 pieces, a word each, as one provider sends them.
fn events() -> Vec<String> {
    let mut draw = Draw(11);
    let event = |piece: &str| {
        let choice = serde_json::json!({"index": 0, "delta": {"content": piece}, "finish_reason": null});
        serde_json::json!({"id": "chatcmpl-9f8a7b6c5d4e3f2a", "object": "chat.completion.chunk", "created": 1_763_630_000, "model": "large-1", "choices": [choice]})
    };
    (0..200).map(|_| format!("data: {}\n\n", event(&format!("{} ", WORDS[draw.next(WORDS.len())])))).collect()
}

#[divan::bench]
fn events_burst(bencher: Bencher) {
    let (redactor, answer) = (Arc::new(Redactor::new(known(30), &[1; 32])), events().concat());
    bencher.counter(divan::counter::ItemsCount::new(200usize)).bench(|| EventStream::new(redactor.clone()).push(black_box(answer.as_bytes())));
}

#[divan::bench]
fn events_one_by_one(bencher: Bencher) {
    let (redactor, events) = (Arc::new(Redactor::new(known(30), &[1; 32])), events());
    bencher.counter(divan::counter::ItemsCount::new(200usize)).bench(|| {
        let mut stream = EventStream::new(redactor.clone());
        events.iter().map(|event| stream.push(black_box(event.as_bytes())).map_or(0, |gone| gone.len())).sum::<usize>()
    });
}

#[divan::bench]
fn mask_log_line(bencher: Bencher) {
    let line = "2026-11-20T10:00:00Z INFO tenant_agent::door: listening address=127.0.0.1:8443 request.id=req_01 took_ms=12";
    bencher.bench(|| redact::mask(black_box(line), &["a-known-value"]).len());
}
