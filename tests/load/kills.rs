//! A soak: chats while agent and hub are killed with -9 at random moments, then adds everything up.
//!
//! `cargo build --workspace --bins && cargo run -p tests --bin kills -- 100`, from the target folder that holds the binaries. Ends with 1 and
//! says what is wrong when something that was acknowledged was lost or counted twice.

use serde_json::{Value, json};
use std::time::Duration;
use tests::{Machines, soon};

const ROUNDS: u64 = 50;
/// A turn of the scripted model takes a few milliseconds, so a kill falls before, into and behind it.
const KILL_WITHIN_MS: u64 = 40;

#[tokio::main]
async fn main() {
    let rounds = std::env::args().nth(1).and_then(|rounds| rounds.parse().ok()).unwrap_or(ROUNDS);
    let mut machines = Machines::start().await;
    let mut browser = machines.owner().await;
    let (mut answered, mut agent_kills, mut hub_kills) = (0, 0, 0);
    for round in 0..rounds {
        if browser.open().await.is_err() {
            panic!("round {round}: the session did not outlive the agent");
        }
        browser.ask(&format!("[[text:round {round}]]")).await;
        answered += 1;
        let hub_dies = service::random::below(4) == 0;
        browser.say(&format!("[[text:in the middle of {round}]]")).await;
        tokio::time::sleep(Duration::from_millis(service::random::below(KILL_WITHIN_MS))).await;
        if hub_dies {
            machines.kill_hub().await;
            machines.start_hub().await;
            hub_kills += 1;
        } else {
            machines.kill_agent().await;
            agent_kills += 1;
        }
        if round % 10 == 9 {
            eprintln!("{} of {rounds} rounds", round + 1);
        }
    }
    browser.open().await.expect("the chat opens");
    browser.ask("[[text:the end]]").await;
    let usage = browser.call("usage.today", json!({})).await["payload"]["usage"].clone();
    let reported = soon(async {
        loop {
            let reported = machines.fleet().await["tenants"][0]["usage_today"].clone();
            if reported == usage {
                return reported;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    })
    .await;
    let count = |name: &str| usage[name].as_i64().unwrap_or_default();
    assert!(count("calls") - count("partial") > answered, "an acknowledged answer was not counted: {usage}");
    assert!(count("partial") <= agent_kills, "more calls are partial than agents died: {usage}");
    assert!(count("input_tokens") <= machines.model.counted().input, "tokens were counted twice: {usage}");
    assert_eq!(machines.agent_says(&["status"], "").await["audit_broken_at"], Value::Null, "the audit is broken");
    println!("{rounds} rounds, {agent_kills} agents and {hub_kills} hubs killed: {reported}");
    machines.end().await;
}
