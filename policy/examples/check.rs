//! Reads every text in the folder of rules, runs the examples, and says what does not hold. With a file of calls, one
//! JSON object a line (`{"id","tool","params","cwd"}`), it also classifies them to standard output.

use policy::bundle::Named;
use policy::{Knowledge, Law, RuleBook};
use std::io::Write;
use std::path::Path;

fn texts(folder: &Path) -> Vec<Named> {
    let mut found = Vec::new();
    let mut entries: Vec<_> = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            found.extend(texts(&path));
        } else if path.extension().is_some_and(|ending| ending == "toml") {
            found.push(Named { name: path.display().to_string(), text: std::fs::read_to_string(&path).unwrap_or_default() });
        }
    }
    found
}

fn main() {
    let rules = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/rules"));
    let started = std::time::Instant::now();
    let told = |faults: Vec<policy::bundle::Fault>| panic!("{}", faults.iter().map(|fault| format!("\n{fault}")).collect::<String>());
    let knowledge = Knowledge::read(&texts(&rules.join("known"))).unwrap_or_else(told);
    let known_in = started.elapsed();
    let told = |faults: Vec<policy::bundle::Fault>| panic!("{}", faults.iter().map(|fault| format!("\n{fault}")).collect::<String>());
    let book = RuleBook::read(&texts(&rules.join("danger"))).unwrap_or_else(told);
    let told = |faults: Vec<policy::bundle::Fault>| panic!("{}", faults.iter().map(|fault| format!("\n{fault}")).collect::<String>());
    let law = Law::new(&knowledge, &[&book]).unwrap_or_else(told);
    eprintln!("{} rules; what is known read in {known_in:?}, all in {:?}", law.rules().len(), started.elapsed());
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("--explain") => {
            let (judgement, seen) = law.explain(&arguments[1], policy::law::EXAMPLE_WORKSPACE, policy::law::EXAMPLE_WORKSPACE);
            for one in seen {
                eprintln!("{}{:?} {} {:?}", "  ".repeat(one.depth), one.class, one.words.join(" "), one.rules);
            }
            eprintln!("{judgement:#?}");
        }
        Some("--time") => {
            let lines: Vec<String> = std::fs::read_to_string(&arguments[1])
                .expect("a file of calls")
                .lines()
                .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
                .filter_map(|call| call["params"]["command"].as_str().map(str::to_owned))
                .collect();
            for name in ["decide", "parse"] {
                let mut times = Vec::new();
                let mut slow = Vec::new();
                for line in &lines {
                    let best = (0..5)
                        .map(|_| {
                            let started = std::time::Instant::now();
                            if name == "decide" {
                                std::hint::black_box(law.shell(line, policy::law::EXAMPLE_WORKSPACE, policy::law::EXAMPLE_WORKSPACE));
                            } else {
                                std::hint::black_box(policy::shell::parse_only(line));
                            }
                            started.elapsed()
                        })
                        .min()
                        .unwrap_or_default();
                    times.push(best);
                    slow.push((best, line));
                }
                times.sort();
                slow.sort();
                let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
                eprintln!("{name}: p50 {:?} p90 {:?} p99 {:?} max {:?}", at(0.5), at(0.9), at(0.99), at(1.0));
                for (time, line) in slow.iter().rev().take(4) {
                    eprintln!("   {time:?} {}", line.chars().take(100).collect::<String>().replace('\n', " "));
                }
            }
        }
        Some(file) => {
            let mut out = std::io::stdout().lock();
            for line in std::fs::read_to_string(file).expect("a file of calls").lines() {
                let call: serde_json::Value = serde_json::from_str(line).expect("a call");
                let cwd = call["cwd"].as_str().unwrap_or(policy::law::EXAMPLE_WORKSPACE);
                let tool = call["tool"].as_str().unwrap_or_default();
                let judgement = law.classify(&policy::Call { assistant: "a", tool, arguments: &call["params"], workspace: cwd, resolved: &[] });
                let because: Vec<_> = judgement.because.iter().map(|because| because.rule.clone()).collect();
                writeln!(out, "{}", serde_json::json!({ "id": call["id"], "class": judgement.class, "external": judgement.external, "because": because }))
                    .expect("standard output");
            }
        }
        None => {
            let faults = law.faults_of_examples(&book);
            for fault in &faults {
                eprintln!("{fault}");
            }
            eprintln!("{} examples do not hold", faults.len());
        }
    }
}
