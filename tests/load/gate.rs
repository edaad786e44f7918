//! The figures of the gate: what a question costs OpenClaw's plugin, how many decisions a core makes, how soon a held call runs
//! after its yes, and how soon a session hears of a late one.
//!
//! `cargo build --release --workspace --bins && cargo run --release -p tests --bin gate`. GATEHOUSE_NODE names the node that
//! runs the plugin. The agent's gateway is a fake one, so nothing of OpenClaw is counted.

use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tests::{Machines, request_unix};

/// The first ones load code and fill caches.
const WARM: usize = 500;
const HOOKS: usize = 5_000;
const DECISIONS: usize = 40_000;
/// Callers at once: more than OpenClaw has runs.
const CALLERS: usize = 32;
const HELD: usize = 50;
const LATE: usize = 50;

#[tokio::main]
async fn main() {
    let machines = Machines::start().await;
    println!("hook round trip, µs: {}", spread(hooks(&machines).await));
    println!("decisions on one core: {} a second", decisions(&machines).await);
    let mut browser = machines.owner().await;
    browser.open().await.expect("the chat opens");
    let mut late = Vec::new();
    for n in 0..LATE {
        // Whoever held the call is gone before the answer comes.
        let (socket, key, body) = (machines.plugin_socket(), machines.gateway.keys().plugin_key.clone(), question(n));
        let asking = tokio::spawn(async move { request_unix(&socket, "POST", "/decide", &headers(&key), body.to_string().as_bytes()).await });
        let question = browser.question().await;
        asking.abort();
        let _ = asking.await;
        // The agent hears of the closed socket in its own time.
        tokio::time::sleep(Duration::from_millis(20)).await;
        let begun = Instant::now();
        assert_eq!(browser.decide(&question, "approve").await["ok"], true);
        browser.event("chat", |chat| chat["runId"].as_str().is_some_and(|run| run.starts_with("nudge-"))).await;
        late.push(micros(begun));
        browser.event("chat", |chat| chat["runId"].as_str().is_some_and(|run| run.starts_with("nudge-")) && chat["state"] == "final").await;
    }
    println!("from a late yes to the session's hearing of it, µs: {}", spread(late));
    machines.end().await;
    // Nothing of before is told again meanwhile.
    let machines = Machines::start().await;
    let mut browser = machines.owner().await;
    browser.open().await.expect("the chat opens");
    let mut held = Vec::new();
    for n in 0..HELD {
        let run = browser.say(&format!(r#"[[tool:exec {{"command":"LD_PRELOAD= true {n}"}}]]"#)).await;
        let question = browser.question().await;
        let begun = Instant::now();
        assert_eq!(browser.decide(&question, "approve").await["ok"], true);
        runs(&machines, &format!("true {n}\"")).await;
        held.push(micros(begun));
        browser.reply(&run).await;
    }
    println!("from a yes to the held call's run, µs: {}", spread(held));
    machines.end().await;
}

/// Our plugin in node, one call after the other.
async fn hooks(machines: &Machines) -> Vec<u64> {
    let node = std::env::var_os("GATEHOUSE_NODE").expect("GATEHOUSE_NODE names the node that runs the plugin");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("load/hook.mjs");
    let mut command = Command::new(node);
    command.arg(script).arg(machines.plugin_socket()).arg((WARM + HOOKS).to_string());
    command.env("GATEHOUSE_PLUGIN_KEY", &machines.gateway.keys().plugin_key).stderr(Stdio::inherit());
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("it ends").expect("node starts");
    assert!(output.status.success(), "the plugin failed; what it said is above");
    String::from_utf8_lossy(&output.stdout).lines().skip(WARM).map(|line| line.parse().expect("a number")).collect()
}

/// The agent is bound to one core; whoever asks has the others.
async fn decisions(machines: &Machines) -> u64 {
    let (agent, _) = machines.pids();
    let bound = Command::new("taskset").args(["-acp", "0", &agent.to_string()]).stdout(Stdio::null()).status();
    assert!(bound.is_ok_and(|status| status.success()), "taskset is part of util-linux");
    let socket = machines.plugin_socket();
    let key = machines.gateway.keys().plugin_key.clone();
    let begun = Instant::now();
    let callers = (0..CALLERS).map(|caller| {
        let (socket, key) = (socket.clone(), key.clone());
        tokio::spawn(async move {
            for n in 0..DECISIONS / CALLERS {
                // Half are read, half are written, as a working day has them.
                let (tool, params) = if n % 2 == 0 {
                    ("read", json!({ "path": format!("notes-{n}.md") }))
                } else {
                    ("gatehouse__write_file", json!({ "path": format!("notes-{n}.md"), "content": "x" }))
                };
                let body = json!({
                    "agent_id": "main", "session_key": "agent:main:main", "session_id": "s", "run_id": "r", "trace_id": "t",
                    "call_id": format!("load{caller}x{n}"), "tool": tool, "params": params,
                });
                let answer = request_unix(&socket, "POST", "/decide", &headers(&key), body.to_string().as_bytes()).await;
                let answer: Value = answer.json();
                assert_eq!(answer["allow"], true, "{answer}");
            }
        })
    });
    futures_util::future::try_join_all(callers).await.expect("every caller ends");
    let per_second = DECISIONS as f64 / begun.elapsed().as_secs_f64();
    let all = std::thread::available_parallelism().map_or(1, usize::from) - 1;
    let _ = Command::new("taskset").args(["-acp", &format!("0-{all}"), &agent.to_string()]).stdout(Stdio::null()).status();
    per_second as u64
}

fn headers(key: &str) -> [(&str, &str); 3] {
    [("x-gatehouse-key", key), (wire::plugin::VERSION_HEADER, wire::plugin::VERSION), ("content-type", "application/json")]
}

/// A call that needs a person.
fn question(n: usize) -> Value {
    json!({
        "agent_id": "main", "session_key": "agent:main:main", "session_id": "s", "run_id": "r", "trace_id": "t", "call_id": format!("late{n}"),
        "tool": "gatehouse__exec", "params": { "command": format!("LD_PRELOAD= true late-{n}") },
    })
}

async fn runs(machines: &Machines, what: &str) {
    while !machines.gateway.executed().iter().any(|call| call.contains(what)) {
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
}

fn micros(begun: Instant) -> u64 {
    begun.elapsed().as_micros() as u64
}

fn spread(mut times: Vec<u64>) -> String {
    times.sort_unstable();
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize];
    format!("p50 {} p95 {} p99 {} max {} of {}", at(0.5), at(0.95), at(0.99), at(1.0), times.len())
}
