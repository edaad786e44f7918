//! What the kernel says of a process and all that came from it: CPU, memory, and where it may run.

use std::process::Command;
use std::time::Duration;

/// Of a second; the same on every Linux that Rust runs on.
const TICKS: u64 = 100;

/// Holds this process, and what it starts, to one core.
pub fn pin_self(core: u32) {
    let pid = std::process::id().to_string();
    let done = Command::new("taskset").args(["-a", "-p", "-c", &core.to_string(), &pid]).output().expect("util-linux is installed");
    assert!(done.status.success(), "this takes a machine of two cores: {}", String::from_utf8_lossy(&done.stderr));
}

/// CPU that a process and its children used until now. The kernel reckons it exactly and says it in hundredths of a second.
pub fn cpu(pid: u32) -> Duration {
    let ticks: u64 = tree(pid).into_iter().filter_map(|pid| fields(pid).map(|fields| fields.ticks)).sum();
    Duration::from_millis(ticks * 1000 / TICKS)
}

pub fn resident_kb(pid: u32) -> u64 {
    let of = |pid: u32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.trim().trim_end_matches(" kB").parse::<u64>().ok()
    };
    tree(pid).into_iter().filter_map(of).sum()
}

fn tree(root: u32) -> Vec<u32> {
    let all: Vec<(u32, u32)> = std::fs::read_dir("/proc")
        .expect("Linux has it")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((pid, fields(pid)?.parent)))
        .collect();
    let mut tree = vec![root];
    let mut at = 0;
    while let Some(parent) = tree.get(at).copied() {
        tree.extend(all.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
        at += 1;
    }
    tree
}

struct Fields {
    parent: u32,
    ticks: u64,
}

fn fields(pid: u32) -> Option<Fields> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may have blanks and brackets in it.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    Some(Fields { parent: fields.get(1)?.parse().ok()?, ticks: fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()? })
}
