//! Looks at the host as root does: both ends of the link, the rules, who listens, who lives in the namespace.
//!
//! It changes nothing. What it cannot see stays empty, and an empty place breaks its law.

use super::doctor::{Inside, Listener, Observed, Process, Rules, inodes, listeners};
use super::plan::{AGENT_LINK, AGENT_USER, GATEWAY_USER, IP, NAMESPACE, NFT, Plan};
use crate::settings::uid_of;
use anyhow::{Context, bail};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::Value;
use std::fs;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};

/// What `ip` and `nft` say is small; more than this is not theirs.
const OUTPUT_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Open files of a process that are looked through for its sockets.
const FILES_MAX: usize = 4096;

pub fn observe(plan: &Plan) -> Observed {
    let (agent_uid, gateway_uid) = (uid_of(AGENT_USER), uid_of(GATEWAY_USER));
    let namespace = fs::File::open(format!("/run/netns/{NAMESPACE}")).ok();
    let inode = namespace.as_ref().and_then(|namespace| Some(namespace.metadata().ok()?.ino()));
    let inside = namespace.and_then(|namespace| {
        // A thread of its own: it goes into the namespace and never comes back.
        std::thread::spawn(move || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).ok()?;
            Some(within())
        })
        .join()
        .ok()?
    });
    let expected = |rules: anyhow::Result<String>| rules.and_then(|rules| as_listed(&rules)).unwrap_or_default();
    Observed {
        inside: inside.map(|inside| Inside { rules: Rules { expected: expected(plan.inside_rules()), ..inside.rules }, ..inside }),
        outside_rules: Rules {
            found: said(NFT, &["-s", "list", "table", "inet", "gatehouse_outside"]).unwrap_or_default(),
            expected: expected(plan.outside_rules()),
        },
        agent_link: json(&["-j", "address", "show", "dev", AGENT_LINK]),
        listeners: listening(),
        outside_sockets: ["tcp", "tcp6", "udp", "udp6", "raw", "raw6"].iter().flat_map(|name| inodes(&net(name)).collect::<Vec<_>>()).collect(),
        processes: processes(inode, gateway_uid),
        main_pid: said("/usr/bin/systemctl", &["show", "--property=MainPID", "--value", "openclaw.service"])
            .and_then(|pid| pid.trim().parse().ok())
            .filter(|pid| *pid != 0),
        agent_uid,
        gateway_uid,
    }
}

fn within() -> Inside {
    Inside {
        rules: Rules { found: said(NFT, &["-s", "list", "ruleset"]).unwrap_or_default(), expected: String::new() },
        links: json(&["-j", "address"]),
        routes: vec![json(&["-j", "route", "show", "table", "all"]), json(&["-j", "-6", "route", "show", "table", "all"])],
        listeners: listening(),
        raw_sockets: ["raw", "raw6", "packet"].iter().map(|name| net(name).lines().skip(1).count()).sum(),
    }
}

/// What the kernel makes of these rules: they are loaded where nobody lives, and listed there.
fn as_listed(rules: &str) -> anyhow::Result<String> {
    let mut command = Command::new("/usr/bin/unshare");
    command.args(["--net", "/bin/sh", "-c", &format!("{NFT} -f - && exec {NFT} -s list ruleset")]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    child.stdin.take().context("it was asked for")?.write_all(rules.as_bytes())?;
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("the rules cannot be loaded");
    }
    Ok(String::from_utf8(output.stdout)?)
}

fn said(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    let sound = output.status.success() && output.stdout.len() <= OUTPUT_BYTES_MAX;
    String::from_utf8(output.stdout).ok().filter(|_| sound)
}

fn json(arguments: &[&str]) -> Value {
    let text = said(IP, arguments);
    // Nothing to list is an empty text in some versions.
    text.map_or(Value::Null, |text| if text.trim().is_empty() { Value::Array(Vec::new()) } else { serde_json::from_str(&text).unwrap_or_default() })
}

/// Of the namespace that this thread is in, which need not be its process's.
fn net(name: &str) -> String {
    fs::read_to_string(format!("/proc/thread-self/net/{name}")).unwrap_or_default()
}

fn listening() -> Vec<Listener> {
    [net("tcp"), net("tcp6")].iter().flat_map(|text| listeners(text)).collect()
}

fn processes(namespace: Option<u64>, gateway_uid: Option<u32>) -> Vec<Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter_map(|pid| process(pid, namespace, gateway_uid)).collect()
}

/// `None`: it is gone, or none of our business.
fn process(pid: i32, namespace: Option<u64>, gateway_uid: Option<u32>) -> Option<Process> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let of = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim);
    // The effective one.
    let uid = of("Uid")?.split_whitespace().nth(1)?.parse().ok()?;
    if of("State").is_some_and(|state| state.starts_with(['Z', 'X'])) {
        return None;
    }
    let is_inside = fs::metadata(format!("/proc/{pid}/ns/net")).is_ok_and(|about| Some(about.ino()) == namespace);
    if !is_inside && Some(uid) != gateway_uid {
        return None;
    }
    let capable = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"].iter().any(|set| of(set).is_none_or(|set| set.bytes().any(|digit| digit != b'0')));
    let resolver = fs::read_to_string(format!("/proc/{pid}/root/etc/resolv.conf")).unwrap_or_default();
    Some(Process {
        pid,
        uid,
        is_inside,
        has_rights: capable || of("NoNewPrivs") != Some("1"),
        has_resolver: resolver.lines().any(|line| line.trim_start().starts_with("nameserver")),
        sockets: sockets(pid),
    })
}

fn sockets(pid: i32) -> Vec<u64> {
    let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten().take(FILES_MAX);
    files.filter_map(|file| fs::read_link(file.path()).ok()?.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()).collect()
}
