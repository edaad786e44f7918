//! What a model call costs on its way through us, beside nginx, HAProxy, Caddy and LiteLLM on their way through nothing.
//!
//! `cargo build --release -p tenant-agent -p hub -p tests --bins && target/release/egress`. The proxies stand before one fake
//! provider and are asked in turn, there and back, round by round; each has a core of its own, client and provider have
//! another. CPU is what the kernel says that the process and its children used, divided by the answers: the figure that
//! other work on the machine disturbs least. Ours goes the full way: token, announcement, 200 secrets, the net, budgets, books.
//!
//! `--json` prints figures for machines, `--only ours,nginx` and `--measure small` leave the others out, `--rounds N` takes each
//! more often, `--soak N` sends N small requests in the end,
//! `--tokens N` compares what the provider billed with what the agent counted instead of all this, with `--kill` while the agent is
//! killed. EGRESS_SHOWS_FAULTS prints answers that are not 200.
//! An announcement is made beforehand, and is not part of what is measured.

mod client;
mod process;
mod proxies;
mod tokens;
mod upstream;

use client::{Load, Question, load, median};
use proxies::Proxy;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// How often each measure is taken of each proxy; the median counts.
const ROUNDS: usize = 3;
/// How long a proxy is loaded in one round.
const WITHIN: Duration = Duration::from_millis(1500);
/// Bodies of long conversations.
const LARGE_BYTES: usize = 256 * 1024;
const LARGE_MESSAGES: usize = 64;
const HELD_STREAMS: usize = 200;
const PACED_STREAMS: usize = 20;
/// Small requests before a soak begins: everything that is kept is there.
const WARM_REQUESTS: u64 = 20_000;
/// And between two announcements in it.
const SOAK_PART: u64 = 100_000;

#[derive(Clone, Copy, PartialEq)]
enum Measure {
    Small,
    Latency,
    Burst,
    Paced,
    Cold,
    Warm,
    Held,
}

impl Measure {
    /// Memory first: what a load took is not all given back.
    const ALL: [Measure; 7] = [Measure::Held, Measure::Small, Measure::Latency, Measure::Burst, Measure::Paced, Measure::Cold, Measure::Warm];

    fn name(self) -> &'static str {
        match self {
            Measure::Small => "small",
            Measure::Latency => "latency",
            Measure::Burst => "burst",
            Measure::Paced => "paced",
            Measure::Cold => "256 KB cold",
            Measure::Warm => "256 KB warm",
            Measure::Held => "200 streams",
        }
    }

    fn says(self) -> &'static str {
        match self {
            Measure::Small => "1 KB asked, 1.1 KB answered, 32 connections",
            Measure::Latency => "the same, one connection",
            Measure::Burst => "a stream of 200 events that comes at once, 8 connections",
            Measure::Paced => "20 streams of 100 events a second: how long an event is on its way; beside it those that end in half a word",
            Measure::Cold => "256 KB asked, never seen before, 4 connections",
            Measure::Warm => "256 KB asked, all but one message seen before, 4 connections",
            Measure::Held => "200 open streams of 10 events a second",
        }
    }
}

struct Arguments {
    json: bool,
    only: Option<Vec<String>>,
    measure: Option<String>,
    rounds: usize,
    soak: Option<u64>,
    tokens: Option<u64>,
    kill: bool,
}

fn arguments() -> Arguments {
    let mut found = Arguments { json: false, only: None, measure: None, rounds: ROUNDS, soak: None, tokens: None, kill: false };
    let mut given = std::env::args().skip(1);
    while let Some(argument) = given.next() {
        let mut number = || given.next().and_then(|text| text.parse().ok());
        match argument.as_str() {
            "--json" => found.json = true,
            "--kill" => found.kill = true,
            "--measure" => found.measure = given.next(),
            "--rounds" => found.rounds = number().map_or(ROUNDS, |rounds: u64| rounds as usize),
            "--soak" => found.soak = number().or(Some(1_000_000)),
            "--tokens" => found.tokens = number().or(Some(tokens::CALLS)),
            "--only" => found.only = given.next().map(|names| names.split(',').map(str::to_owned).collect()),
            other => panic!("`{other}` is not one of --json, --only NAMES, --measure NAME, --rounds N, --soak N, --tokens N, --kill"),
        }
    }
    found
}

fn main() {
    let arguments = arguments();
    // Before there are threads: all of them stay on this core, and what is started too.
    process::pin_self(proxies::OWN_CORE);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        if let Some(calls) = arguments.tokens {
            return tokens::compare(calls, arguments.kill).await;
        }
        compare(&arguments).await;
    });
}

/// Figures of one proxy and one measure, one of each round.
type Figures = BTreeMap<(&'static str, &'static str), BTreeMap<&'static str, Vec<f64>>>;

async fn compare(arguments: &Arguments) {
    let upstream = upstream::start().await;
    let asked_for = |name: &str| arguments.only.as_ref().is_none_or(|only| only.iter().any(|only| only == name));
    let (others, missing) = proxies::others(upstream, asked_for).await;
    let mut proxies = vec![Proxy::Direct { address: upstream }];
    if asked_for("ours") {
        proxies.push(proxies::ours(&proxies::providers(upstream), Some(proxies::PROXY_CORE)).await);
    }
    proxies.extend(others);
    let mut figures = Figures::new();
    for measure in Measure::ALL.into_iter().filter(|measure| arguments.measure.as_ref().is_none_or(|name| name == measure.name())) {
        for round in 0..arguments.rounds {
            let mut order: Vec<&Proxy> = proxies.iter().filter(|proxy| asked_for(proxy.name())).collect();
            if round % 2 == 1 {
                order.reverse();
            }
            for proxy in order {
                proxy.freshen().await;
                let found = figures.entry((measure.name(), proxy.name())).or_default();
                for (name, value) in taken(measure, proxy).await {
                    found.entry(name).or_default().push(value);
                }
            }
        }
    }
    let mut soaked = None;
    for proxy in proxies {
        if let (Proxy::Ours(_), Some(requests)) = (&proxy, arguments.soak) {
            soaked = Some(soak(&proxy, requests).await);
        }
        proxy.end().await;
    }
    let figures: BTreeMap<_, BTreeMap<_, f64>> =
        figures.into_iter().map(|(key, values)| (key, values.into_iter().map(|(name, values)| (name, median(values))).collect())).collect();
    if arguments.json {
        println!("{}", as_json(&figures, &missing, soaked));
    } else {
        print(&figures, &missing, soaked);
    }
}

/// One measure of one proxy.
async fn taken(measure: Measure, proxy: &Proxy) -> Vec<(&'static str, f64)> {
    let streamed = |route| questions(proxy, route, &body(route, true, 2, 450), 1)[0].1.clone();
    let (route, connections) = match measure {
        Measure::Small => ("small", 32),
        Measure::Latency => ("small", 1),
        Measure::Burst => ("burst", 8),
        Measure::Cold | Measure::Warm => ("small", 4),
        Measure::Paced => return paced(proxy, streamed("paced")).await,
        Measure::Held => return held(proxy, streamed("slow")).await,
    };
    let body = match measure {
        Measure::Cold => body(route, false, LARGE_MESSAGES, LARGE_BYTES / LARGE_MESSAGES),
        Measure::Warm => seen_body(route),
        _ => body(route, measure == Measure::Burst, 2, 450),
    };
    let questions = questions(proxy, route, &body, connections);
    // Connections are made, and what can be remembered is.
    load(questions.clone(), WITHIN, 4).await;
    let before = proxy.pid().map(process::cpu);
    let load = load(questions, WITHIN, u64::MAX).await;
    let cpu = proxy.pid().map(|pid| process::cpu(pid).saturating_sub(before.unwrap_or_default()));
    if load.faults > 0 {
        eprintln!("{}, {}: {} faults beside {} answers", proxy.name(), measure.name(), load.faults, load.answers);
    }
    let mut found = of(&load, cpu);
    if measure == Measure::Latency {
        found.retain(|(name, _)| *name == "p50_us");
    }
    found
}

fn of(load: &Load, cpu: Option<Duration>) -> Vec<(&'static str, f64)> {
    let mut found = vec![("per_sec", load.per_sec()), ("p50_us", load.p50_us())];
    found.extend(cpu.map(|cpu| ("cpu_us", cpu.as_secs_f64() * 1e6 / load.answers.max(1) as f64)));
    found
}

async fn paced(proxy: &Proxy, question: Question) -> Vec<(&'static str, f64)> {
    let before = proxy.pid().map(process::cpu);
    let heard = client::paced(proxy.address(), question, PACED_STREAMS).await;
    let cpu = proxy.pid().map(|pid| process::cpu(pid).saturating_sub(before.unwrap_or_default()));
    let events = heard.events_us.len() + heard.live_us.len();
    let mut sorted = heard.events_us;
    sorted.sort_by(f64::total_cmp);
    let at = |share: f64| sorted.get(((sorted.len() as f64 - 1.0) * share) as usize).copied().unwrap_or(f64::NAN);
    let mut found = vec![("p50_us", at(0.5)), ("p90_us", at(0.9)), ("half_word_p50_us", median(heard.live_us))];
    found.extend(cpu.map(|cpu| ("cpu_us", cpu.as_secs_f64() * 1e6 / events.max(1) as f64)));
    found
}

async fn held(proxy: &Proxy, question: Question) -> Vec<(&'static str, f64)> {
    let Some(pid) = proxy.pid() else { return Vec::new() };
    let questions = vec![(proxy.address(), question); HELD_STREAMS];
    let streams = tokio::spawn(load(questions, Duration::from_millis(1), 1));
    let mut most = 0;
    while !streams.is_finished() {
        tokio::time::sleep(Duration::from_millis(200)).await;
        most = most.max(process::resident_kb(pid));
    }
    let load = streams.await.expect("it does not panic");
    if load.faults > 0 {
        eprintln!("{}: {} of {HELD_STREAMS} streams failed", proxy.name(), load.faults);
    }
    vec![("rss_mb", most as f64 / 1024.0)]
}

/// How much memory a proxy holds before and after so many small requests, in megabytes, and what one cost.
async fn soak(proxy: &Proxy, requests: u64) -> [f64; 3] {
    let Some(pid) = proxy.pid() else { return [f64::NAN; 3] };
    let ask = async |requests: u64| load(questions(proxy, "small", &body("small", false, 2, 450), 32), Duration::MAX, requests / 32).await;
    ask(WARM_REQUESTS).await;
    let (before, cpu, mut answers) = (process::resident_kb(pid), process::cpu(pid), 0);
    while answers < requests {
        proxy.freshen().await;
        let load = ask(SOAK_PART.min(requests - answers).max(32)).await;
        assert!(load.answers > 0, "nobody answers any more");
        answers += load.answers;
        eprintln!("{answers} of {requests}: {} KB", process::resident_kb(pid));
    }
    let cpu = process::cpu(pid) - cpu;
    [before as f64 / 1024.0, process::resident_kb(pid) as f64 / 1024.0, cpu.as_secs_f64() * 1e6 / answers as f64]
}

/// One for each connection; assistants share the connections' load.
fn questions(proxy: &Proxy, route: &str, body: &str, connections: usize) -> Vec<(SocketAddr, Question)> {
    (0..connections).map(|asker| (proxy.address(), proxy.question(route, body, asker))).collect()
}

/// A conversation in which every message but the first has a number that nobody has seen before.
fn body(route: &str, streamed: bool, messages: usize, message_bytes: usize) -> String {
    conversation(route, streamed, messages, message_bytes, 1)
}

/// A conversation of which only the newest message is new.
fn seen_body(route: &str) -> String {
    conversation(route, false, LARGE_MESSAGES, LARGE_BYTES / LARGE_MESSAGES, LARGE_MESSAGES - 1)
}

fn conversation(route: &str, streamed: bool, messages: usize, message_bytes: usize, fresh_from: usize) -> String {
    let message = |at: usize| {
        let role = if at == 0 { "system" } else { ["assistant", "user"][at % 2] };
        let mut text = if at < fresh_from { String::new() } else { Question::mark() };
        let mut word = at * 7;
        while text.len() < message_bytes {
            text.push_str(if word % 17 == 16 { ".\n" } else { " " });
            text.push_str(upstream::word(word));
            word += 1 + word % 3;
        }
        json!({ "role": role, "content": text })
    };
    let messages: Vec<Value> = (0..messages).map(message).collect();
    let options = if streamed { r#","stream_options":{"include_usage":true}"# } else { "" };
    format!(r#"{{"model":"{route}","stream":{streamed}{options},"max_tokens":256,"messages":{}}}"#, Value::Array(messages))
}

type Medians = BTreeMap<(&'static str, &'static str), BTreeMap<&'static str, f64>>;

fn as_json(figures: &Medians, missing: &[String], soaked: Option<[f64; 3]>) -> Value {
    let mut found = json!({ "missing": missing, "soak_mb_before_after_cpu_us": soaked });
    for ((measure, proxy), values) in figures {
        found[*measure][*proxy] = json!(values);
    }
    found
}

/// What is a ratio to nginx, and what is shown as it is.
fn print(figures: &Medians, missing: &[String], soaked: Option<[f64; 3]>) {
    for measure in Measure::ALL.into_iter().filter(|measure| figures.keys().any(|(name, _)| *name == measure.name())) {
        println!("\n{}: {}", measure.name(), measure.says());
        let nginx = figures.get(&(measure.name(), "nginx"));
        for ((_, proxy), values) in figures.iter().filter(|((name, _), _)| *name == measure.name()) {
            let cells = values.iter().map(|(name, value)| {
                let base = nginx.and_then(|nginx| nginx.get(name)).filter(|base| **base > 0.0);
                let ratio = base.map_or(String::new(), |base| format!(" ({:.2})", value / base));
                format!("{name} {value:.1}{ratio}")
            });
            println!("  {proxy:<8} {}", cells.collect::<Vec<_>>().join("   "));
        }
    }
    if let Some([before, after, cpu]) = soaked {
        println!("\nsoak: {before:.1} MB before, {after:.1} MB after, {cpu:.1} µs of CPU a request");
    }
    missing.iter().for_each(|why| println!("not here: {why}"));
}
