//! Stories of the demo: the real `hub demo` with the real OpenClaw, started, disturbed, stopped, started again.

use crate::openclaw::{inside, program};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tests::{Browser, Processes, soon};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

struct Demo {
    child: Child,
    facts: Value,
}

/// `hub demo` as the launcher starts it.
fn demo(binaries: &Processes, state: &Path, extra: &[&str]) -> Command {
    let parts = program();
    let mut command = Command::new(binaries.path("hub"));
    command.args(["demo", "--json", "--state"]).arg(state).arg("--agent").arg(binaries.path("tenant-agent"));
    command.arg("--node").arg(parts.node).arg("--openclaw").arg(parts.openclaw).args(extra);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

impl Demo {
    async fn start(binaries: &Processes, state: &Path, extra: &[&str]) -> Demo {
        let mut child = demo(binaries, state, extra).stderr(Stdio::null()).spawn().expect("the binary starts");
        let mut lines = BufReader::new(child.stdout.take().expect("it was asked for")).lines();
        let line = soon(lines.next_line()).await.expect("it prints").expect("one line of facts");
        Demo { child, facts: serde_json::from_str(&line).expect("the line is JSON") }
    }

    fn fact(&self, name: &str) -> &str {
        self.facts[name].as_str().unwrap_or_else(|| panic!("no `{name}` in {}", self.facts))
    }

    fn browser(&self) -> Browser {
        let url = self.fact("tenant_url");
        let port: u16 = url.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
        Browser::new(([127, 0, 0, 1], port).into(), url)
    }

    async fn signal(&mut self, signal: &str) -> Option<i32> {
        let pid = self.child.id().expect("it runs").to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().await.unwrap().success());
        soon(self.child.wait()).await.unwrap().code()
    }
}

/// The processes whose command line holds `part`, ours left out.
fn processes(part: &str) -> Vec<String> {
    let entries = std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok().map(|entry| entry.path()));
    let command = |path: PathBuf| std::fs::read(path.join("cmdline")).ok().map(|bytes| String::from_utf8_lossy(&bytes).replace('\0', " "));
    entries.filter_map(command).filter(|line| line.contains(part) && !line.contains("demo::")).collect()
}

async fn gone(part: &str) {
    soon(async {
        while !processes(part).is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the binaries, OpenClaw and root"]
async fn it_starts_survives_and_stops() {
    if !inside("demo::it_starts_survives_and_stops") {
        return;
    }
    let binaries = Processes::find();
    let folder = std::env::temp_dir().join(format!("gatehouse-demo-{}", &service::random::token()[..12]));
    let state = folder.join("state");
    let name = folder.display().to_string();
    let mut first = Demo::start(&binaries, &state, &["--port", "0"]).await;
    assert_eq!(first.facts["gateway"], "ready");

    let mut browser = first.browser();
    let token = first.fact("owner_link").split_once('#').unwrap().1.to_owned();
    assert_eq!(browser.first(&token, "Owner", "correct horse battery").await.status, 200);
    browser.open().await.unwrap();
    assert!(browser.ask("Read the file notes.md in the workspace.").await.len() > 20, "the demo's notes are there");
    let run = browser.say("Run the command: LD_PRELOAD= echo demo-$((40+2))").await;
    let question = browser.question().await;
    browser.decide(&question, "approve").await;
    assert!(browser.reply(&run).await.contains("demo-42"));

    let second = demo(&binaries, &state, &["--port", "0"]).output().await.unwrap();
    assert_eq!(second.status.code(), Some(78));
    assert!(String::from_utf8_lossy(&second.stderr).contains("another demo is running"));
    let port = first.fact("public_url").rsplit(':').next().unwrap().to_owned();
    let elsewhere = demo(&binaries, &folder.join("other"), &["--port", &port]).output().await.unwrap();
    assert_eq!(elsewhere.status.code(), Some(78));
    let said = String::from_utf8_lossy(&elsewhere.stderr);
    assert!(said.contains(&port) && said.contains("--port"), "{said}");

    // The agent dies: it comes back with the conversation.
    let agent = first.facts["agent_pid"].to_string();
    assert!(Command::new("kill").args(["-9", &agent]).status().await.unwrap().success());
    browser.closed().await;
    soon(async {
        while browser.get("/api/me").await.status != 200 {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    })
    .await;
    let hello = browser.open().await.unwrap();
    if hello["gateway"]["state"] != "ready" {
        browser.event("gateway", |gateway| gateway["state"] == "ready").await;
    }
    assert_eq!(browser.ask("[[text:back]]").await, "back");
    let calls = browser.call("usage.today", json!({})).await["payload"]["usage"]["calls"].clone();

    // The hub dies: a second life finds the agent and counts on.
    first.signal("-9").await;
    let mut again = Demo::start(&binaries, &state, &["--port", "0"]).await;
    assert_eq!((again.fact("tenant_url"), &again.facts["owner_link"]), (first.fact("tenant_url"), &Value::Null), "the same tenant, whose owner is known");
    let password = again.fact("operator_password").to_owned();
    let dashboard = again.fact("dashboard_url").to_owned();
    let mut operator = Browser::new(([127, 0, 0, 1], dashboard.rsplit(':').next().unwrap().parse().unwrap()).into(), &dashboard);
    assert_eq!(operator.enter("/auth/login", json!({ "password": password })).await.status, 200);
    soon(async {
        while operator.get("/api/fleet").await.json()["tenants"][0]["usage_today"]["calls"] != calls {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    })
    .await;

    let law = operator.get("/api/fleet").await.json()["tenants"][0]["policy"].clone();
    assert_eq!((&law["version"], &law["state"]), (&json!(1), &json!("active")), "the demo's own bundle, published once: {law}");

    assert_eq!(again.signal("-INT").await, Some(0), "Ctrl-C ends it in order");
    gone(&name).await;
    let mut fresh = Demo::start(&binaries, &state, &["--port", "0", "--fresh"]).await;
    assert!(fresh.facts["owner_link"].is_string(), "--fresh begins anew");
    assert_eq!(fresh.signal("-TERM").await, Some(0));
    gone(&name).await;
    std::fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
#[ignore = "needs the binaries"]
async fn what_is_missing_is_named() {
    let binaries = Processes::find();
    let folder = std::env::temp_dir().join(format!("gatehouse-demo-{}", &service::random::token()[..12]));
    for (arguments, code, part) in [
        (vec!["demo", "--agent", "/nonexistent/tenant-agent", "--port", "0"], 78, "tenant-agent"),
        (vec!["demo", "--provider", "nobody"], 2, "--provider"),
        (vec!["demo", "--colour"], 2, "--colour"),
    ] {
        let output =
            Command::new(binaries.path("hub")).args(&arguments).args(["--state"]).arg(folder.join("state")).stdin(Stdio::null()).output().await.unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(part), "{arguments:?}: {said}");
    }
    let _ = std::fs::remove_dir_all(folder);
}
