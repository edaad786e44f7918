//! A process that may outlive us: begun in a group of its own, known again after our own restart, ended with a grace.
//!
//! A number alone names no process, because numbers come round again. So the trace on the disk holds when it began, as the
//! kernel counts, and only a process that fits number, beginning and command line is taken for ours. Linux only.

use anyhow::Context;
use service::config;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::time::Duration;
use tokio::process::{Child, Command};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessId {
    pub pid: u32,
    /// In clock ticks since the machine started.
    began: u64,
}

/// What is kept of a process on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    id: ProcessId,
    /// A digest of what it was started with.
    digest: String,
}

/// A process that we watch over.
pub enum Process {
    Child(Child, ProcessId),
    /// Begun by an earlier life of ours; the kernel tells us of its end only when asked.
    Adopted(ProcessId),
}

/// A log that is larger than this at a start makes room for a new one; one old one is kept.
const LOG_BYTES_MAX: u64 = 512_000;
/// How often an adopted process is looked at.
const LOOK_EACH: Duration = Duration::from_millis(500);
/// A killed process is gone within milliseconds, unless the kernel itself hangs.
const KILL_WAIT: Duration = Duration::from_secs(5);

impl Process {
    /// Begins it and leaves its trace.
    pub fn begin(command: &mut Command, log: &Path, trace: &Path, digest: &str) -> anyhow::Result<Process> {
        let log = log_file(log)?;
        let program = command.as_std().get_program().to_string_lossy().into_owned();
        // Its own group, so that a Ctrl-C in a terminal reaches it through us, in order.
        command.stdin(std::process::Stdio::null()).stdout(log.try_clone().context("sharing a log")?).stderr(log).process_group(0);
        let mut child = command.spawn().with_context(|| format!("`{program}` cannot be started"))?;
        let pid = child.id().context("a process that was just begun has a number")?;
        // One that ended at once still has an entry, because nobody has waited for it yet.
        let began = stat(pid).map(|stat| stat.began).unwrap_or_default();
        let id = ProcessId { pid, began };
        if let Err(error) = config::write_private(trace, Trace { id, digest: digest.to_owned() }.text().as_bytes()) {
            // Without a trace nobody would find it again.
            let _ = child.start_kill();
            return Err(error);
        }
        Ok(Process::Child(child, id))
    }

    pub fn id(&self) -> ProcessId {
        match self {
            Process::Child(_, id) | Process::Adopted(id) => *id,
        }
    }

    /// Waits for its end; the exit code, where somebody can know it.
    pub async fn ended(&mut self) -> Option<i32> {
        match self {
            Process::Child(child, _) => match child.wait().await {
                Ok(status) => status.code().or_else(|| status.signal().map(|signal| 128 + signal)),
                Err(_) => None,
            },
            Process::Adopted(id) => {
                id.gone().await;
                None
            }
        }
    }

    /// Asks it to end, and kills it with everything in its group if it has not after `grace`.
    pub async fn end(mut self, grace: Duration) {
        self.id().signal(libc::SIGTERM);
        if tokio::time::timeout(grace, self.ended()).await.is_ok() {
            return;
        }
        tracing::warn!(pid = self.id().pid, "a process did not end when asked; killing it");
        self.id().signal_group(libc::SIGKILL);
        if tokio::time::timeout(KILL_WAIT, self.ended()).await.is_err() {
            tracing::error!(pid = self.id().pid, "a process does not even end when killed");
        }
    }
}

impl ProcessId {
    /// Whether it runs. One that has ended and waits to be buried does not.
    pub fn lives(self) -> bool {
        stat(self.pid).is_some_and(|stat| stat.began == self.began && !stat.is_dead())
    }

    /// Waits until it is gone. The time is another process's, which no clock of ours moves.
    async fn gone(self) {
        while self.lives() {
            tokio::time::sleep(LOOK_EACH).await;
        }
    }

    fn signal(self, signal: i32) {
        if self.lives() {
            send(self.pid as i32, signal);
        }
    }

    fn signal_group(self, signal: i32) {
        if self.lives() {
            send(-(self.pid as i32), signal);
        }
    }
}

/// The process that runs with exactly these last arguments, and the digest that it left, if it left one.
///
/// A crash between a start and its trace leaves a process without one, so the command lines of all are looked at too.
pub fn find(trace: &Path, arguments: &[&str]) -> Option<(ProcessId, Option<String>)> {
    let traced = fs::read_to_string(trace).ok().and_then(|text| Trace::parse(&text));
    if let Some(Trace { id, digest }) = traced.filter(|trace| trace.id.lives() && runs(trace.id.pid, arguments)) {
        return Some((id, Some(digest)));
    }
    let names = fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let pid = names.into_iter().find(|pid| is_of_our_user(*pid) && runs(*pid, arguments))?;
    let stat = stat(pid).filter(|stat| !stat.is_dead())?;
    Some((ProcessId { pid, began: stat.began }, None))
}

impl Trace {
    /// Its number comes first, for whoever types `kill $(head -1 agent.pid)`.
    fn text(&self) -> String {
        format!("{}\n{}\n{}\n", self.id.pid, self.id.began, self.digest)
    }

    fn parse(text: &str) -> Option<Trace> {
        let mut lines = text.lines();
        let id = ProcessId { pid: lines.next()?.parse().ok()?, began: lines.next()?.parse().ok()? };
        // Number 0 would be our own group, 1 everybody.
        (id.pid > 1).then_some(Trace { id, digest: lines.next()?.to_owned() })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    state: char,
    began: u64,
}

impl Stat {
    /// A line of `/proc/<pid>/stat`. The name in it may hold anything, parentheses and spaces too, so what counts is
    /// what follows the last parenthesis: the state is field 3, the beginning field 22.
    fn parse(line: &str) -> Option<Stat> {
        let mut fields = line.rsplit_once(')')?.1.split_whitespace();
        let state = fields.next()?.chars().next()?;
        Some(Stat { state, began: fields.nth(18)?.parse().ok()? })
    }

    fn is_dead(self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x')
    }
}

fn stat(pid: u32) -> Option<Stat> {
    Stat::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn runs(pid: u32, arguments: &[&str]) -> bool {
    let Ok(line) = fs::read(format!("/proc/{pid}/cmdline")) else { return false };
    let given: Vec<&[u8]> = line.strip_suffix(b"\0").unwrap_or(&line).split(|byte| *byte == 0).collect();
    // A program stands before them: its own name, or an interpreter and a script.
    given.len() > arguments.len() && given[given.len() - arguments.len()..].iter().zip(arguments).all(|(given, wanted)| *given == wanted.as_bytes())
}

fn is_of_our_user(pid: u32) -> bool {
    let owner = |path: &str| fs::metadata(path).map(|about| about.uid()).ok();
    owner(&format!("/proc/{pid}")).is_some_and(|uid| Some(uid) == owner("/proc/self"))
}

fn log_file(path: &Path) -> anyhow::Result<File> {
    if fs::metadata(path).is_ok_and(|about| about.len() > LOG_BYTES_MAX) {
        fs::rename(path, path.with_extension("log.1")).with_context(|| format!("making room in `{}`", path.display()))?;
    }
    OpenOptions::new().create(true).append(true).mode(0o600).open(path).with_context(|| format!("`{}` cannot be written", path.display()))
}

#[expect(unsafe_code, reason = "the standard library cannot signal a process that is not its own child, nor a group")]
fn send(target: i32, signal: i32) {
    // One that is gone already needs no signal.
    let _ = unsafe { libc::kill(target, signal) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_the_kernel_is_read_behind_any_name() {
        let rest = "S 1 42 42 0 -1 4194560 100 0 0 0 1 2 0 0 20 0 3 0 987654 1000000 200 18446744073709551615";
        let expected = Some(Stat { state: 'S', began: 987_654 });
        for name in ["agent", "a b", "a) Z 1 (b", ")))", ""] {
            assert_eq!(Stat::parse(&format!("42 ({name}) {rest}")), expected, "{name}");
        }
        for broken in ["", "42 agent S 1", "42 (agent)", "42 (agent) S 1 2 3", "42 (agent) S 1 42 42 0 -1 4194560 100 0 0 0 1 2 0 0 20 0 3 0 soon 1"] {
            assert_eq!(Stat::parse(broken), None, "{broken}");
        }
        assert!(Stat { state: 'Z', began: 0 }.is_dead());
    }

    #[test]
    fn a_trace_reads_back_and_a_broken_one_names_nobody() {
        let trace = Trace { id: ProcessId { pid: 42, began: 7 }, digest: "d".into() };
        assert_eq!(Trace::parse(&trace.text()), Some(trace));
        for broken in ["", "42", "42\n7", "0\n7\nd\n", "1\n7\nd\n", "-1\n7\nd\n", "x\n7\nd\n"] {
            assert_eq!(Trace::parse(broken), None, "{broken}");
        }
    }

    #[test]
    fn a_number_that_came_round_again_is_somebody_else() {
        let own = std::process::id();
        let began = stat(own).unwrap().began;
        assert!(ProcessId { pid: own, began }.lives());
        assert!(!ProcessId { pid: own, began: began + 1 }.lives());
        assert!(!runs(own, &["run", "--config", "/nowhere"]));
    }
}
