//! The figures that a release must keep: how soon the agent listens after exec, and how much memory agent and hub hold idle.
//!
//! `cargo build --release --workspace --bins && cargo run --release -p tests --bin measures`. Three runs, median last;
//! the agent's gateway is a fake one that is well, so nothing of OpenClaw is counted.

use std::time::{Duration, Instant};
use tests::Machines;

const RUNS: usize = 3;
const IDLE: Duration = Duration::from_secs(60);

#[tokio::main]
async fn main() {
    let mut figures: [Vec<u64>; 3] = Default::default();
    for run in 1..=RUNS {
        let mut machines = Machines::start().await;
        let mut browser = machines.owner().await;
        browser.open().await.expect("the chat opens");
        browser.ask("hello").await;
        drop(browser);
        let begun = Instant::now();
        machines.restart_agent().await;
        let listening = begun.elapsed();
        machines.ready().await;
        tokio::time::sleep(IDLE).await;
        let (agent, hub) = machines.pids();
        let now = [listening.as_millis() as u64, resident_kb(agent), resident_kb(hub)];
        println!("run {run}: agent listens after {} ms, agent {} kB, hub {} kB", now[0], now[1], now[2]);
        figures.iter_mut().zip(now).for_each(|(figures, figure)| figures.push(figure));
        machines.end().await;
    }
    let median = figures.map(|mut figures| {
        figures.sort_unstable();
        figures[RUNS / 2]
    });
    println!("median: agent listens after {} ms, agent {} kB, hub {} kB", median[0], median[1], median[2]);
}

fn resident_kb(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("Linux says it");
    line.trim().trim_end_matches(" kB").parse().expect("in kB")
}
