//! How fast the net is on a clean chat request, beside a walk with memchr and a plain automaton over the same bytes.
//!
//! The text is made up here: sentences, code, paths, identifiers, tool calls, in about the proportions of a long chat
//! with a coding assistant. Ratios to the walk say more than bytes a second, which depend on the machine.

use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use redact::net::Net;

fn main() {
    Net::built_in();
    divan::main();
}

/// A request of the usual size, and a long one.
const SIZES: [usize; 2] = [126 * 1024, 4 * 1024 * 1024];

const PARTS: &[&str] = &[
    "The request passes through the gateway, which decides by the class of the call whether it runs at once, waits for an answer, or is refused. ",
    "Der Dienst prüft die Eingabe, bevor er sie weitergibt; was er nicht kennt, lehnt er ab und schreibt den Grund in das Protokoll. ",
    "pub fn resolve(&self, name: &str, now: Timestamp) -> Result<Option<Lease>, StoreError> {\\n    let row = self.leases.get(name)?;\\n    Ok(row.filter(|lease| lease.expires_at > now))\\n}\\n",
    "import { createServer } from 'node:http';\\nconst server = createServer((request, response) => response.end(JSON.stringify({ ok: true, items: [1, 2, 3] })));\\n",
    "error[E0308]: mismatched types\\n  --> crates/engine/src/scheduler/queue.rs:142:17\\n   |\\n142 |         let next = self.pending.pop_front();\\n   |                    ^^^^^^^^^^^^^^^^^^^^^^^^\\n",
    "drwxr-xr-x 12 alice alice  4096 2026-03-01 12:00 /srv/app/releases/2026-03-01T12-00-00Z/node_modules/@scope/package-name/dist/index.js\\n",
    "commit 3b8d06f172c94ea59d01f6b38a4c5e273b8d06f1\\nAuthor: Alice Example <alice@example.org>\\n\\n    Keep the order of entries when the window moves\\n",
    "Use max_tokens: 4096 and temperature 0.7; the tokenizer counts prompt_tokens and completion_tokens separately, and the key is looked up by name. ",
    "| name | type | default |\\n|---|---|---|\\n| retries | integer | 3 |\\n| timeout_ms | integer | 15000 |\\n| tls | boolean | true |\\n",
];

fn chat(bytes: usize) -> String {
    let mut text = String::from("{\"model\":\"large-1\",\"stream\":true,\"messages\":[");
    let mut turn = 0usize;
    while text.len() < bytes {
        let role = ["user", "assistant", "tool"][turn % 3];
        text.push_str(&format!("{{\"role\":\"{role}\",\"id\":\"msg_{turn:024x}\",\"content\":\""));
        for part in 0..12 {
            text.push_str(PARTS[(turn * 7 + part * 5) % PARTS.len()]);
        }
        text.push_str("\"},");
        turn += 1;
    }
    text.pop();
    text.push_str("]}");
    text
}

#[divan::bench(args = SIZES)]
fn net(bencher: Bencher, bytes: usize) {
    let text = chat(bytes);
    let net = Net::built_in();
    let mut found = Vec::new();
    net.scan(&text, &mut found);
    assert!(found.is_empty(), "the text is clean");
    bencher.counter(BytesCount::of_str(&text)).bench_local(|| {
        net.scan(black_box(&text), &mut found);
        found.len()
    });
}

#[divan::bench(args = SIZES)]
fn walk_with_memchr(bencher: Bencher, bytes: usize) {
    let text = chat(bytes);
    bencher.counter(BytesCount::of_str(&text)).bench_local(|| memchr::memchr2_iter(b'"', b'\\', black_box(text.as_bytes())).count());
}

#[divan::bench(args = SIZES)]
fn plain_automaton(bencher: Bencher, bytes: usize) {
    let text = chat(bytes);
    let words = (0..100).map(|number| format!("{number}_prefix_of_a_vendor"));
    let automaton = aho_corasick::AhoCorasick::new(words).expect("a hundred short words");
    bencher.counter(BytesCount::of_str(&text)).bench_local(|| automaton.find_iter(black_box(&text)).count());
}
