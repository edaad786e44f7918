//! A soak of approvals: the agent is killed with -9, or the power is cut, around a question, its answer, the call and its end.
//! No answer that was acknowledged may be lost, none may serve twice, and no call may run without one.
//!
//! `cargo build --workspace --bins && cargo run -p tests --bin approvals -- 1000`, and as root `… -- 100 cuts`: then agent and hub write
//! into a file system of their own, which is shut down in the middle of things (`EXT4_IOC_SHUTDOWN`, without its log) and mounted
//! again. Ends with 1 and says what is wrong.

use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tests::{Answer, Browser, Machines, request_unix, soon};

const CYCLES: usize = 100;
/// A question, an answer or a call takes a few milliseconds, so that a blow falls before, into and behind it.
const WITHIN_MICROS: u64 = 12_000;
/// A grant that is there lets a call run at once.
const AT_ONCE: Duration = Duration::from_secs(20);
const DISK_MB: u64 = 96;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Asking,
    Deciding,
    Calling,
    Ending,
}

const STAGES: [Stage; 4] = [Stage::Asking, Stage::Deciding, Stage::Calling, Stage::Ending];

/// One call that needs a person, and how far it is known to have come.
#[derive(Debug)]
struct Case {
    n: usize,
    stage: Stage,
    /// A person was shown the question.
    is_shown: bool,
    /// A yes was sent; the agent acknowledged it.
    is_decided: bool,
    is_acknowledged: bool,
    is_called: bool,
    is_done: bool,
}

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let cycles = arguments.next().and_then(|cycles| cycles.parse().ok()).unwrap_or(CYCLES);
    let disk = (arguments.next().as_deref() == Some("cuts")).then(Disk::make);
    let mut machines = match &disk {
        Some(disk) => Machines::start_in(disk.mount.join("world")).await,
        None => Machines::start().await,
    };
    // What was set up is no part of what is tried.
    Disk::sync();
    let mut browser = machines.owner().await;
    browser.open().await.expect("the chat opens");
    let (mut stages, mut ran) = ([0_usize; STAGES.len()], 0);
    for n in 0..cycles {
        let stage = STAGES[service::random::below(STAGES.len() as u64) as usize];
        stages[stage as usize] += 1;
        let case = up_to(&machines, &mut browser, n, stage).await;
        match &disk {
            Some(disk) => disk.cut(&mut machines).await,
            None => machines.kill_agent().await,
        }
        let hello = browser.open().await.unwrap_or_else(|status| panic!("{case:?}: the session did not outlive the blow ({status})"));
        ran += to_its_end(&machines, &mut browser, &case, &hello, disk.is_some()).await;
        if n % 50 == 49 {
            eprintln!("{} of {cycles} cycles", n + 1);
        }
    }
    let runs = runs(&machines);
    assert!(runs.iter().all(|line| line.parse::<usize>().is_ok()), "something ran that nobody allowed: {runs:?}");
    assert_eq!(machines.agent_says(&["status"], "").await["audit_broken_at"], Value::Null, "the audit is broken");
    let counted: Vec<String> = STAGES.iter().zip(stages).map(|(stage, count)| format!("{count} {stage:?}")).collect();
    let how = if disk.is_some() { "power cuts" } else { "kills" };
    println!("{cycles} {how} ({}): no answer lost, none used twice, {ran} calls ran, none without an answer", counted.join(", "));
    machines.end().await;
}

/// Brings a call to its stage, and stops somewhere in it.
async fn up_to(machines: &Machines, browser: &mut Browser, n: usize, stage: Stage) -> Case {
    let mut case = Case { n, stage, is_shown: false, is_decided: false, is_acknowledged: false, is_called: false, is_done: false };
    let asking = tokio::spawn(ask(machines, n, "a"));
    if case.stage == Stage::Asking {
        moment().await;
        return case;
    }
    let question = browser.event("approval", |asked| asked["state"] == "pending" && asked["details"].to_string().contains(&command(n))).await;
    case.is_shown = true;
    case.is_decided = true;
    if case.stage == Stage::Deciding {
        tokio::select! {
            answer = browser.decide(&question, "approve") => case.is_acknowledged = answer["ok"] == true,
            () = moment() => {}
        }
        return case;
    }
    assert_eq!(browser.decide(&question, "approve").await["ok"], true, "{case:?}");
    case.is_acknowledged = true;
    let answer = soon(asking).await.expect("it ends");
    assert_eq!((answer.status, &answer.json()["allow"]), (200, &json!(true)), "{case:?}");
    case.is_called = true;
    tokio::select! {
        answer = call(machines, n) => case.is_done = answer.status == 200 && answer.json()["result"]["isError"] != true,
        () = moment(), if case.stage == Stage::Calling => {}
    }
    if case.stage == Stage::Ending {
        assert!(case.is_done, "{case:?}");
        tokio::select! {
            _ = end(machines, n, "a") => {}
            () = moment() => {}
        }
    }
    case
}

/// What must hold after the blow; then the call is brought to its end.
async fn to_its_end(machines: &Machines, browser: &mut Browser, case: &Case, hello: &Value, is_cut: bool) -> usize {
    let n = case.n;
    if !case.is_called {
        assert_eq!(count(machines, n), 0, "{case:?}: it ran before it was called");
    }
    // Somebody tries it without asking anybody.
    let stray = machines.gateway.use_tool("exec", &json!({ "command": format!("LD_PRELOAD= echo stray-{n} >> runs") })).await;
    assert_eq!(stray.json()["result"]["isError"], true, "{case:?}: a call ran that nobody allowed");
    let waits = hello["approvals"].as_array().into_iter().flatten().find(|asked| asked["details"].to_string().contains(&command(n))).cloned();
    let is_open = waits.as_ref().is_some_and(|asked| asked["state"] == "pending");
    assert!(!(case.is_acknowledged && is_open), "{case:?}: an acknowledged yes was lost");
    assert!(waits.is_some() || !case.is_shown || case.is_decided, "{case:?}: a question that was shown is gone");
    // One that nobody was shown may be unknown, and would be held as a new one.
    let said = if case.is_shown { ask(machines, n, "a").await.json() } else { json!({ "allow": false }) };
    let is_first = said["allow"] == true;
    if case.is_called {
        assert!(is_first || said["reason"].as_str().is_some_and(|reason| reason.contains("already run")), "{case:?}: its verdict is lost: {said}");
    }
    if !is_first && !case.is_called {
        let asking = tokio::spawn(ask(machines, n, "b"));
        if is_open || !case.is_acknowledged {
            // It may have been decided in the last moment before the blow.
            let question = tokio::select! {
                question = pending(browser, waits.filter(|_| is_open), n) => Some(question),
                () = finished(&asking) => None,
            };
            if let Some(question) = question {
                assert_eq!(browser.decide(&question, "approve").await["ok"], true, "{case:?}");
            }
        }
        let answer = tokio::time::timeout(AT_ONCE, asking).await.unwrap_or_else(|_| panic!("{case:?}: an acknowledged yes lets nothing run")).expect("it ends");
        assert_eq!(answer.json()["allow"], true, "{case:?}: {}", answer.text());
    }
    if !case.is_done {
        let answer = call(machines, n).await.json();
        let is_run = answer["result"]["isError"] != true;
        // One that was called may have been taken; nobody runs it a second time.
        assert!(is_run || case.is_called, "{case:?}: {answer}");
        let _ = end(machines, n, if is_first || case.is_called { "a" } else { "b" }).await;
    }
    // Once more is a call of its own, for which somebody has to be asked again.
    let again = call(machines, n).await.json();
    assert_eq!(again["result"]["isError"], true, "{case:?}: one answer served twice");
    let ran = count(machines, n);
    // A cut takes what a command has written and nobody has brought to the disk.
    let least = usize::from(!case.is_called || case.is_done && !is_cut);
    assert!((least..=1).contains(&ran), "{case:?}: it ran {ran} times");
    ran
}

async fn pending(browser: &mut Browser, known: Option<Value>, n: usize) -> Value {
    match known {
        Some(question) => question,
        None => browser.event("approval", |asked| asked["state"] == "pending" && asked["details"].to_string().contains(&command(n))).await,
    }
}

async fn finished<T>(task: &tokio::task::JoinHandle<T>) {
    while !task.is_finished() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn moment() {
    tokio::time::sleep(Duration::from_micros(service::random::below(WITHIN_MICROS))).await;
}

fn command(n: usize) -> String {
    format!("LD_PRELOAD= echo {n} >> runs")
}

fn ask(machines: &Machines, n: usize, id: &str) -> impl Future<Output = Answer> + Send + 'static {
    let body = json!({
        "agent_id": "main", "session_key": "agent:main:main", "session_id": "s", "run_id": "r", "trace_id": "t", "call_id": format!("soak{n}{id}"),
        "tool": "gatehouse__exec", "params": { "command": command(n) },
    });
    say(machines, "/decide", body)
}

fn end(machines: &Machines, n: usize, id: &str) -> impl Future<Output = Answer> + Send + 'static {
    let body = json!({
        "agent_id": "main", "session_key": "agent:main:main", "run_id": "r", "call_id": format!("soak{n}{id}"), "tool": "gatehouse__exec", "is_error": false, "duration_ms": 1,
    });
    say(machines, "/result", body)
}

fn say(machines: &Machines, path: &'static str, body: Value) -> impl Future<Output = Answer> + Send + 'static {
    let (socket, key) = (machines.plugin_socket(), machines.gateway.keys().plugin_key.clone());
    async move {
        let headers = [("x-gatehouse-key", key.as_str()), (wire::plugin::VERSION_HEADER, wire::plugin::VERSION), ("content-type", "application/json")];
        request_unix(&socket, "POST", path, &headers, body.to_string().as_bytes()).await
    }
}

async fn call(machines: &Machines, n: usize) -> Answer {
    machines.gateway.use_tool("exec", &json!({ "command": command(n) })).await
}

fn runs(machines: &Machines) -> Vec<String> {
    let text = std::fs::read_to_string(machines.folder().join("agent/openclaw/workspace/runs")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn count(machines: &Machines, n: usize) -> usize {
    runs(machines).iter().filter(|line| **line == n.to_string()).count()
}

/// A file system of the soak's own, in a file.
struct Disk {
    folder: PathBuf,
    mount: PathBuf,
}

impl Disk {
    fn make() -> Disk {
        let folder = std::env::temp_dir().join(format!("gatehouse-cut-{}", &service::random::token()[..12]));
        let mount = folder.join("disk");
        std::fs::create_dir_all(&mount).expect("a folder");
        let image = folder.join("image");
        std::fs::File::create(&image).and_then(|file| file.set_len(DISK_MB * 1024 * 1024)).expect("room for an image");
        run("mkfs.ext4", &["-q".as_ref(), image.as_ref()]);
        let disk = Disk { folder, mount };
        disk.attach();
        disk
    }

    fn attach(&self) {
        run("mount", &["-o".as_ref(), "loop".as_ref(), self.folder.join("image").as_ref(), self.mount.as_ref()]);
    }

    fn sync() {
        run("sync", &[]);
    }

    /// From one moment to the next nothing reaches the disk any more, not even what the file system had in its log.
    async fn cut(&self, machines: &mut Machines) {
        let shut = r#"open(my $d, "<", $ARGV[0]) or die $!; my $how = pack("L", 2); ioctl($d, 0x8004587d, $how) or die $!"#;
        run("perl", &["-e".as_ref(), shut.as_ref(), self.mount.as_ref()]);
        machines.end_agent().await;
        machines.kill_hub().await;
        run("umount", &[self.mount.as_ref()]);
        self.attach();
        machines.start_hub().await;
        machines.start_agent().await;
        machines.ready().await;
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.mount).status();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn run(program: &str, arguments: &[&Path]) {
    let status = Command::new(program).args(arguments).status().unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(status.success(), "{program} failed");
}
