//! Stories of kill -9: the real binaries, ended in the middle of things. Whatever was acknowledged is still true afterwards.

use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tests::{Machines, PASSWORD, Processes, soon};
use tokio::process::Command;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the binaries"]
async fn a_killed_agent_forgets_nothing() {
    let mut machines = Machines::start().await;
    let mut browser = machines.owner().await;
    browser.open().await.unwrap();
    browser.ask("[[text:one]]").await;
    browser.say(r#"[[tool:exec {"command":"git push --force"}]]"#).await;
    let question = browser.question().await;
    let usage = browser.call("usage.today", json!({})).await["payload"]["usage"].clone();
    machines.kill_agent().await;

    let hello = browser.open().await.unwrap();
    assert_eq!(hello["approvals"][0]["id"], question["id"], "the question stands");
    assert_eq!(hello["usage"]["input_tokens"], usage["input_tokens"], "and so does the count");
    assert_eq!(browser.decide(&question, "approve").await["ok"], true);
    machines.kill_agent().await;
    browser.open().await.unwrap();
    browser.event("chat", |chat| chat["state"] == "final" && chat["runId"].as_str().is_some_and(|run| run.starts_with("nudge-"))).await;
    assert_eq!(machines.gateway.executed(), [r#"exec {"command":"git push --force"}"#], "the grant outlived its agent and was used once");
    assert_eq!(machines.agent_says(&["status"], "").await["audit_broken_at"], Value::Null);
    machines.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the binaries"]
async fn a_killed_agent_keeps_what_was_chosen_and_whom_somebody_stopped() {
    let mut machines = Machines::start().await;
    let browser = machines.owner().await;
    let row = async || browser.get("/api/levels").await.json()["assistants"][0].clone();
    let id = row().await["id"].clone();
    let change = async |change: Value| browser.post("/api/levels", json!({ "assistant": id, "change": change })).await.json();
    assert_eq!(change(json!({ "kind": "level", "to": "L1" })).await["done"], true);
    machines.kill_agent().await;
    assert_eq!(row().await["level"], "L1", "what was lowered stays low");
    let asked = change(json!({ "kind": "gate", "tool": "message", "open": true })).await["approval"].clone();
    machines.kill_agent().await;
    let body = json!({ "signed": browser.yes(&asked).await, "password": PASSWORD });
    assert_eq!(browser.post("/approvals/decisions", body).await.json()["approval"]["state"], "used", "the question outlived its agent");
    assert_eq!(browser.post("/api/pauses", json!({ "assistant": id })).await.status, 204);
    machines.kill_agent().await;
    assert!(row().await["gates"].as_array().unwrap().iter().any(|gate| gate["tool"] == "message" && gate["open"] == true));
    let shown = machines.agent_says(&["levels", "show"], "").await;
    assert_eq!((&shown["assistants"][0]["level"], &shown["paused"][0]["assistant"]), (&json!("L1"), &id));
    let asked = machines.agent_says(&["levels", "set", "--level", "L3"], "").await;
    assert_eq!((&asked["done"], &asked["class"]), (&json!(false), &json!("critical_red")));
    assert_eq!(machines.agent_says(&["resume"], "").await["ok"], true);
    let told = soon(async {
        loop {
            let said = machines.hub_says(&["tenant", "asks"]).await;
            if said["asks"].as_array().is_some_and(|asks| asks.iter().any(|asks| asks["rule"] == "levels.gate" && asks["yes"] == 1)) {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
    });
    told.await;
    assert_eq!(machines.agent_says(&["status"], "").await["audit_broken_at"], Value::Null);
    machines.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the binaries"]
async fn a_killed_hub_is_not_missed_and_counts_nothing_twice() {
    let mut machines = Machines::start().await;
    let mut browser = machines.owner().await;
    browser.open().await.unwrap();
    browser.ask("[[text:one]]").await;
    machines.kill_hub().await;
    browser.ask("[[text:two]]").await;
    let run = browser.say(r#"[[tool:exec {"command":"git push --force"}]]"#).await;
    let question = browser.question().await;
    browser.decide(&question, "approve").await;
    browser.reply(&run).await;
    assert_eq!(machines.gateway.executed().len(), 1, "chat and approvals work without the hub");
    machines.start_hub().await;
    let counted = machines.model.counted();
    let fleet = soon(async {
        loop {
            let fleet = machines.fleet().await;
            if fleet["tenants"][0]["usage_today"]["calls"] == counted.calls {
                return fleet;
            }
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
    })
    .await;
    assert_eq!(fleet["tenants"][0]["usage_today"]["input_tokens"], counted.input);
    assert_eq!(fleet["tenants"][0]["presence"], "online");
    machines.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the binaries and root"]
async fn a_full_disk_and_a_dead_one_let_nothing_run_and_say_so() {
    let disk = Disk::make();
    let machines = Machines::start_in(disk.mount.join("world")).await;
    let mut browser = machines.owner().await;
    browser.open().await.unwrap();
    assert_eq!(browser.ask("[[text:one]]").await, "one");
    let fill = disk.mount.join("fill");
    let mut count = 0;
    let mut ask = async |tool: &str, params: Value| {
        count += 1;
        machines.gateway.decide("r", "t", &format!("disk{count}"), tool, &params).await.json()
    };
    // Writes go on for as long as there is room in the log.
    let _ = Command::new("dd").args(["if=/dev/zero", "bs=64k", &format!("of={}", fill.display())]).stderr(Stdio::null()).status().await;
    let refused = soon(async {
        loop {
            let answer = ask("read", json!({ "path": "notes.md" })).await;
            if answer["allow"] != true {
                return answer;
            }
        }
    })
    .await;
    assert!(refused["reason"].as_str().unwrap().contains("could not write its records"), "{refused}");
    let question = ask("gatehouse__exec", json!({ "command": "LD_PRELOAD= echo full >> runs" })).await;
    assert!(question["allow"] == false && question["reason"].as_str().unwrap().contains("could not write"), "{question}");
    let asked = machines.model.counted().calls;
    let reply = browser.ask("[[text:on a full disk]]").await;
    assert!(!reply.contains("on a full disk") && machines.model.counted().calls == asked, "no model is asked whose call could not be counted: {reply}");
    std::fs::remove_file(&fill).unwrap();
    soon(async { while ask("read", json!({ "path": "notes.md" })).await["allow"] != true {} }).await;
    assert_eq!(browser.ask("[[text:two]]").await, "two", "there is room again");

    disk.dies();
    for (tool, params) in [("read", json!({ "path": "other.md" })), ("gatehouse__exec", json!({ "command": "LD_PRELOAD= echo dead >> runs" }))] {
        let answer = soon(async {
            loop {
                let answer = ask(tool, params.clone()).await;
                if answer["allow"] != true {
                    return answer;
                }
            }
        })
        .await;
        assert!(answer["reason"].as_str().unwrap().contains("could not write its records"), "{tool}: {answer}");
    }
    assert!(!browser.ask("[[text:on a dead disk]]").await.contains("on a dead disk"));
    assert_eq!(machines.gateway.use_tool("exec", &json!({ "command": "true" })).await.json()["result"]["isError"], true);
    drop(machines);
}

/// A file system of a test's own, in a file.
struct Disk {
    folder: PathBuf,
    mount: PathBuf,
}

impl Disk {
    fn make() -> Disk {
        let folder = std::env::temp_dir().join(format!("gatehouse-disk-{}", service::random::token()));
        let (mount, image) = (folder.join("mount"), folder.join("image"));
        std::fs::create_dir_all(&mount).unwrap();
        std::fs::File::create(&image).and_then(|file| file.set_len(32 * 1024 * 1024)).unwrap();
        run("mkfs.ext4", &["-q".as_ref(), image.as_ref()]);
        run("mount", &["-o".as_ref(), "loop".as_ref(), image.as_ref(), mount.as_ref()]);
        Disk { folder, mount }
    }

    /// Whatever is written from now on fails (`EXT4_IOC_SHUTDOWN`).
    fn dies(&self) {
        let shut = r#"open(my $d, "<", $ARGV[0]) or die $!; my $how = pack("L", 2); ioctl($d, 0x8004587d, $how) or die $!"#;
        run("perl", &["-e".as_ref(), shut.as_ref(), self.mount.as_ref()]);
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(&self.mount).status();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn run(program: &str, arguments: &[&Path]) {
    let status = std::process::Command::new(program).args(arguments).status().unwrap();
    assert!(status.success(), "{program} {arguments:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the binaries"]
async fn wrong_configuration_is_said_all_at_once() {
    let binaries = Processes::find();
    let path = std::env::temp_dir().join(format!("gatehouse-wrong-{}.toml", service::random::token()));
    std::fs::write(&path, "origin = \"x\"\ncolour = 1\n").unwrap();
    for (binary, command) in [("tenant-agent", "run"), ("hub", "serve")] {
        let output = Command::new(binaries.path(binary)).args([command, "--config"]).arg(&path).stdin(Stdio::null()).output().await.unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(78), "{binary}: {said}");
        for part in ["`origin`", "`colour` is no key"] {
            assert!(said.contains(part), "{binary} does not name {part}: {said}");
        }
    }
    let missing = Command::new(binaries.path("tenant-agent")).args(["run", "--config"]).arg(Path::new("/nonexistent.toml")).output().await.unwrap();
    assert_eq!(missing.status.code(), Some(78));
    std::fs::remove_file(path).unwrap();
}
