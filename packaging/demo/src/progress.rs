//! What a waiting person sees: which step, how long, and a sign of life at least every five seconds.
//!
//! Everything goes to stderr; stdout belongs to the hub. What a tool prints is kept back and shown only when it fails.

use crate::signals;
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

/// What stopped us, said to a person, with the exit code.
#[derive(Debug)]
pub struct Trouble {
    pub said: String,
    pub code: u8,
}

impl Trouble {
    pub fn new(said: impl Into<String>) -> Trouble {
        Trouble { said: said.into(), code: 1 }
    }

    /// As a shell names it: 128 + the signal.
    pub fn interrupted(signal: i32) -> Trouble {
        Trouble { said: "Interrupted. Nothing half-done is left; start again whenever you like.".into(), code: 128 + signal as u8 }
    }
}

pub struct Progress {
    steps: usize,
    step: usize,
    started: Instant,
    beat: Instant,
}

const HEARTBEAT: Duration = Duration::from_secs(5);
/// How often a wait looks up: often enough for Ctrl-C, rarely enough to cost nothing.
pub const GLANCE: Duration = Duration::from_millis(200);
/// Lines of a tool's output that are kept for its last words.
const TAIL_LINES: usize = 40;
const LINE_BYTES_MAX: u64 = 64 * 1024;
/// How long the output of a finished tool may still trickle in from its children.
const DRAIN: Duration = Duration::from_secs(2);

impl Progress {
    pub fn new(steps: usize) -> Progress {
        let now = Instant::now();
        Progress { steps, step: 0, started: now, beat: now }
    }

    pub fn begin(&mut self, title: &str) {
        self.step += 1;
        self.started = Instant::now();
        self.beat = self.started;
        eprintln!("[{}/{}] {title}", self.step, self.steps);
    }

    pub fn say(&mut self, what: &str) {
        self.beat = Instant::now();
        eprintln!("      {:>4} s  {what}", self.started.elapsed().as_secs());
    }

    pub fn done(&self) {
        eprintln!("      {:>4} s  done", self.started.elapsed().as_secs());
    }

    /// Says `what` if nothing was said for a while.
    pub fn alive(&mut self, what: &str) {
        if self.beat.elapsed() >= HEARTBEAT {
            self.say(what);
        }
    }

    /// Runs a tool to its end. `what` is its name in the heartbeat; `watch` may pick a better word from its output.
    pub fn run(&mut self, what: &str, command: &mut Command, mut watch: impl FnMut(&str) -> Option<String>) -> Result<Ended, Trouble> {
        // A tool that fetches or compiles foreign code has no business with a key.
        command.env_remove("ANTHROPIC_API_KEY").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let program = command.get_program().to_string_lossy().into_owned();
        let mut child = signals::tie(command).spawn().map_err(|error| Trouble::new(format!("`{program}` could not be started: {error}.")))?;
        let (lines, heard) = mpsc::sync_channel(256);
        let streams: [Option<Box<dyn Read + Send>>; 2] = [child.stdout.take().map(|out| Box::new(out) as _), child.stderr.take().map(|err| Box::new(err) as _)];
        for stream in streams.into_iter().flatten() {
            let lines = lines.clone();
            std::thread::spawn(move || forward(stream, &lines));
        }
        drop(lines);

        let mut ended = Ended { tail: VecDeque::new(), status: None };
        let mut word = what.to_owned();
        let mut told = false;
        let mut closed = false;
        let mut over: Option<Instant> = None;
        while !over.is_some_and(|since| closed || since.elapsed() > DRAIN) {
            match heard.recv_timeout(GLANCE) {
                Ok(line) => {
                    word = watch(&line).unwrap_or(word);
                    ended.keep(line);
                }
                Err(RecvTimeoutError::Timeout) => {}
                // Closed streams come before the end of the process by a moment.
                Err(RecvTimeoutError::Disconnected) => {
                    closed = true;
                    std::thread::park_timeout(Duration::from_millis(5));
                }
            }
            if signals::asked().is_some() && !told {
                signals::end(&child);
                told = true;
            }
            if over.is_none() {
                ended.status = child.try_wait().map_err(|error| Trouble::new(format!("waiting for `{program}` failed: {error}.")))?;
                over = ended.status.map(|_| Instant::now());
            }
            self.alive(&format!("{word} …"));
        }
        match signals::asked() {
            Some(signal) => Err(Trouble::interrupted(signal)),
            None => Ok(ended),
        }
    }
}

/// How a tool ended, and its last words.
pub struct Ended {
    tail: VecDeque<String>,
    status: Option<ExitStatus>,
}

impl Ended {
    pub fn success(&self) -> bool {
        self.status.is_some_and(|status| status.success())
    }

    pub fn tail(&self) -> String {
        self.tail.iter().map(|line| format!("    {line}\n")).collect()
    }

    fn keep(&mut self, line: String) {
        if self.tail.len() == TAIL_LINES {
            self.tail.pop_front();
        }
        self.tail.push_back(line);
    }
}

fn forward(stream: impl Read, lines: &mpsc::SyncSender<String>) {
    let mut stream = BufReader::new(stream);
    let mut bytes = Vec::new();
    while stream.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut bytes).is_ok_and(|count| count > 0) {
        let line = String::from_utf8_lossy(&bytes).trim_end().to_owned();
        if lines.send(line).is_err() {
            return;
        }
        bytes.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_is_heard_to_its_end_and_only_its_last_words_are_kept() {
        let mut seen = 0;
        let ended = Progress::new(1)
            .run("counting", Command::new("sh").args(["-c", "for i in $(seq 100); do echo line $i; done; exit 3"]), |_| {
                seen += 1;
                None
            })
            .unwrap();
        assert!(!ended.success());
        assert!(ended.tail().ends_with("    line 100\n") && ended.tail.len() == TAIL_LINES, "{}", ended.tail());
        assert_eq!(seen, 100);
    }

    #[test]
    fn a_tool_gets_neither_the_key_nor_stdin() {
        let command = &mut Command::new("sh");
        command.args(["-c", "cat; echo \"key=$ANTHROPIC_API_KEY\""]).env("ANTHROPIC_API_KEY", "not for you");
        let ended = Progress::new(1).run("asking", command, |_| None).unwrap();
        assert_eq!(ended.tail(), "    key=\n");
    }

    #[test]
    fn a_missing_tool_is_named() {
        let trouble = Progress::new(1).run("x", &mut Command::new("no-such-tool-here"), |_| None).err().unwrap();
        assert!(trouble.said.contains("`no-such-tool-here`"), "{}", trouble.said);
    }
}
