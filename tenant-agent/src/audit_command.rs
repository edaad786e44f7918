//! `tenant-agent audit …`: follows the chain of what happened here, gives it out, shows its end.
//!
//! An export is followed without the agent, on any machine. Against the heads that the hub kept (`hub audit anchors`) even
//! a chain that was written anew from some line on does not hold.

use crate::say;
use anyhow::Context;
use clap::Subcommand;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tenant_agent::audit::{Follower, Line};
use tenant_agent::console::{self, Verb};

#[derive(Subcommand)]
pub enum AuditCommand {
    /// Follow the chain from its first line and say where it breaks, if it does. The running agent is asked, or a file is read.
    Verify {
        /// An export instead of the running agent. Needs neither agent nor configuration.
        #[arg(long)]
        export: Option<PathBuf>,
        /// Heads that somebody else kept, as `hub audit anchors` prints them; each must stand in the chain.
        #[arg(long)]
        anchors: Option<PathBuf>,
    },
    /// Write the audit to standard output, one line of JSON each.
    Export {
        /// Only what came after this number.
        #[arg(long, default_value_t = 0)]
        after: i64,
    },
    /// Show the newest lines.
    Tail {
        #[arg(short = 'n', long, default_value_t = 20)]
        lines: u32,
    },
}

/// Lines of one answer of the agent.
const PAGE: u32 = 500;
/// A line of an export or of anchors.
const LINE_BYTES_MAX: usize = 64 * 1024;

impl AuditCommand {
    /// What needs no agent; `None` for what does.
    pub fn alone(&self, as_json: bool) -> Option<anyhow::Result<ExitCode>> {
        let AuditCommand::Verify { export: Some(export), anchors } = self else { return None };
        Some(from_file(export, anchors.as_deref()).map(|(facts, text)| say(as_json, &facts, &text)))
    }
}

pub async fn run(command: &AuditCommand, as_json: bool, socket: &Path) -> anyhow::Result<ExitCode> {
    match command {
        AuditCommand::Verify { anchors, .. } => {
            let mut check = Check::against(anchors.as_deref())?;
            let mut after = 0;
            loop {
                let lines = page(socket, after, PAGE).await?.0;
                let Some(last) = lines.last() else { break };
                after = last.n;
                lines.iter().for_each(|line| check.take(line));
            }
            let (facts, text) = check.said();
            Ok(say(as_json, &facts, &text))
        }
        AuditCommand::Export { after } => {
            let mut after = *after;
            let mut out = std::io::stdout().lock();
            loop {
                let lines = page(socket, after, PAGE).await?.0;
                let Some(last) = lines.last() else { return Ok(ExitCode::SUCCESS) };
                after = last.n;
                for line in &lines {
                    // Whoever reads may have gone, as `head` does.
                    if writeln!(out, "{}", serde_json::to_string(line)?).is_err() {
                        return Ok(ExitCode::SUCCESS);
                    }
                }
            }
        }
        AuditCommand::Tail { lines } => {
            let count = page(socket, 0, 0).await?.1;
            let lines = page(socket, count - i64::from((*lines).min(PAGE)), PAGE).await?.0;
            let rows =
                lines.iter().map(|line| format!("{:>6}  {:>13}  {:<37} {:<18} {} {}", line.n, line.at_ms, line.actor, line.deed, line.subject, line.detail));
            let text = rows.map(|row| row.trim_end().to_owned()).collect::<Vec<_>>().join("\n");
            Ok(say(as_json, &json!({ "ok": true, "lines": lines }), &text))
        }
    }
}

/// The lines after a number, and how many there are in all.
async fn page(socket: &Path, after: i64, limit: u32) -> anyhow::Result<(Vec<Line>, i64)> {
    let mut answer = console::say(socket, &Verb::AuditLines { after, limit }).await?;
    let lines = serde_json::from_value(answer["lines"].take()).context("the agent's audit is unreadable")?;
    Ok((lines, answer["count"].as_i64().unwrap_or_default()))
}

fn from_file(export: &Path, anchors: Option<&Path>) -> anyhow::Result<(Value, String)> {
    let mut check = Check::against(anchors)?;
    for line in texts(export)? {
        let line: Line = serde_json::from_str(&line?).with_context(|| format!("`{}` holds a line that is no line of an audit", export.display()))?;
        check.take(&line);
    }
    Ok(check.said())
}

fn texts(path: &Path) -> anyhow::Result<impl Iterator<Item = anyhow::Result<String>>> {
    let file = std::fs::File::open(path).with_context(|| format!("`{}` cannot be read", path.display()))?;
    let lines = BufReader::new(file).lines().filter(|line| !line.as_ref().is_ok_and(|line| line.trim().is_empty()));
    Ok(lines.map(|line| {
        let line = line.context("the file cannot be read to its end, or is not text")?;
        anyhow::ensure!(line.len() <= LINE_BYTES_MAX, "a line is longer than {LINE_BYTES_MAX} bytes");
        Ok(line)
    }))
}

/// A chain on its way through our hands.
struct Check {
    follower: Follower,
    /// Heads that must be met, by count.
    anchors: BTreeMap<i64, String>,
    met: usize,
    fault: Option<(&'static str, i64)>,
}

impl Check {
    fn against(anchors: Option<&Path>) -> anyhow::Result<Check> {
        #[derive(Deserialize)]
        struct Anchor {
            count: i64,
            head: String,
        }
        let mut kept = BTreeMap::new();
        if let Some(path) = anchors {
            for line in texts(path)? {
                let anchor: Anchor = serde_json::from_str(&line?).with_context(|| format!("`{}` holds a line that is no anchor", path.display()))?;
                kept.insert(anchor.count, anchor.head);
            }
        }
        Ok(Check { follower: Follower::default(), anchors: kept, met: 0, fault: None })
    }

    fn take(&mut self, line: &Line) {
        let follows = self.follower.follows(line);
        let anchored = self.anchors.remove(&line.n);
        self.met += usize::from(anchored.is_some());
        if self.fault.is_some() {
            return;
        }
        if !follows {
            self.fault = Some(("audit_broken", line.n));
        } else if anchored.is_some_and(|head| head != line.chain) {
            self.fault = Some(("audit_differs", line.n));
        }
    }

    fn said(self) -> (Value, String) {
        let head = self.follower.head();
        let cut = self.anchors.first_key_value().map(|(count, _)| ("audit_cut", *count));
        match self.fault.or(cut) {
            None => {
                let text =
                    format!("{} lines follow from one another; {} kept heads stand where they should; the chain ends with {}", head.count, self.met, head.head);
                (json!({ "ok": true, "count": head.count, "head": head.head, "anchors": self.met }), text)
            }
            Some((code, line)) => {
                let text = match code {
                    "audit_broken" => format!("line {line} does not follow from the one before it: something was changed or taken out"),
                    "audit_differs" => format!("line {line} is not the one whose head was kept: the chain was written anew"),
                    _ => format!("a head was kept of line {line}, and there is none: the end was cut off"),
                };
                (json!({ "ok": false, "code": code, "message": text, "line": line }), text)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::digest::{SHA256, digest};

    /// A chain of three lines, as the agent exports it.
    fn export() -> String {
        let mut before = String::new();
        let mut text = String::new();
        for n in 1..=3 {
            let hashed = json!([before, n, "console", "start", "", "0.1.0"]).to_string();
            before = service::random::base64url(digest(&SHA256, hashed.as_bytes()).as_ref());
            text.push_str(&json!({ "n": n, "at_ms": n, "actor": "console", "deed": "start", "subject": "", "detail": "0.1.0", "chain": before }).to_string());
            text.push('\n');
        }
        text
    }

    #[test]
    fn an_export_is_followed_and_compared_with_what_was_kept() {
        let folder = std::env::temp_dir().join(service::random::token());
        std::fs::create_dir_all(&folder).unwrap();
        let good = export();
        let lines: Vec<&str> = good.lines().collect();
        let head = |n: usize| serde_json::from_str::<Value>(lines[n - 1]).unwrap()["chain"].as_str().unwrap().to_owned();
        let anchors = format!("{}\n{}\n", json!({ "count": 2, "head": head(2), "seen_ms": 1 }), json!({ "count": 3, "head": head(3), "seen_ms": 2 }));
        for (said, export, anchors) in [
            ("ok", good.clone(), String::new()),
            ("ok", good.clone(), anchors.clone()),
            ("audit_broken", good.replacen("\"deed\":\"start\"", "\"deed\":\"stop\"", 1), String::new()),
            ("audit_broken", format!("{}\n{}\n", lines[0], lines[2]), String::new()),
            ("audit_broken", format!("{}\n{}\n", lines[1], lines[2]), String::new()),
            ("ok", format!("{}\n{}\n", lines[0], lines[1]), String::new()),
            ("audit_cut", format!("{}\n{}\n", lines[0], lines[1]), anchors.clone()),
            ("audit_differs", good.clone(), anchors.replace(&head(2), "another")),
        ] {
            std::fs::write(folder.join("export"), &export).unwrap();
            std::fs::write(folder.join("anchors"), &anchors).unwrap();
            let (facts, text) = from_file(&folder.join("export"), Some(&folder.join("anchors"))).unwrap();
            assert_eq!(if facts["ok"] == true { "ok" } else { facts["code"].as_str().unwrap() }, said, "{text}");
        }
        std::fs::write(folder.join("export"), "no line\n").unwrap();
        assert!(from_file(&folder.join("export"), None).is_err());
        std::fs::remove_dir_all(folder).unwrap();
    }
}
