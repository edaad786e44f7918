//! Keeps `hub demo` running: starts it again when it dies, and knows when not to.
//!
//! The hub gets our terminal: stdin for a key, stdout for its words, the environment as it is. It shares our process
//! group, so Ctrl-C reaches it directly; a signal that was sent only to us is handed on.

use crate::progress::{GLANCE, Trouble};
use crate::signals;
use std::collections::VecDeque;
use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

/// More restarts than this in one minute, and what is broken will not mend by itself.
const RESTARTS_MAX: usize = 5;
const RESTARTS_WITHIN: Duration = Duration::from_secs(60);
/// A wrong command line; a configuration that cannot work, a port in use, another demo. Trying again changes nothing.
const FINAL_CODES: [i32; 3] = [0, 2, 78];

#[derive(Debug, PartialEq, Eq)]
enum Next {
    End(u8),
    Restart { pause: Duration },
    GiveUp(u8),
}

pub fn run(hub: &Path, mut arguments: Vec<OsString>) -> Result<u8, Trouble> {
    let mut restarts = VecDeque::new();
    loop {
        let status = start(hub, &arguments)?;
        let now = Instant::now();
        match next(status, signals::asked(), &mut restarts, now) {
            Next::End(code) => return Ok(code),
            Next::GiveUp(code) => {
                eprintln!("\nThe hub {}, for the {}th time within a minute. Giving up; its lines above say why.", ending(status), RESTARTS_MAX + 1);
                return Ok(code);
            }
            Next::Restart { pause } => {
                eprintln!("\nThe hub {}. Starting it again in {} s …", ending(status), pause.as_secs());
                // What it kept must survive the restart.
                arguments.retain(|flag| flag != "--fresh");
                while now.elapsed() < pause {
                    if let Some(signal) = signals::asked() {
                        return Ok(128 + signal as u8);
                    }
                    std::thread::park_timeout(GLANCE);
                }
            }
        }
    }
}

fn start(hub: &Path, arguments: &[OsString]) -> Result<ExitStatus, Trouble> {
    let failed = |what: &str, error: std::io::Error| Trouble::new(format!("`{}` {what}: {error}.", hub.display()));
    let mut child = signals::tie(Command::new(hub).args(arguments)).spawn().map_err(|error| failed("could not be started", error))?;
    let mut told = false;
    loop {
        if let Some(status) = child.try_wait().map_err(|error| failed("could not be waited for", error))? {
            return Ok(status);
        }
        if signals::asked().is_some() && !told {
            signals::end(&child);
            told = true;
        }
        std::thread::park_timeout(GLANCE);
    }
}

fn next(status: ExitStatus, asked: Option<i32>, restarts: &mut VecDeque<Instant>, now: Instant) -> Next {
    let code = as_shell(status);
    if asked.is_some() || status.code().is_some_and(|code| FINAL_CODES.contains(&code)) {
        return Next::End(code);
    }
    restarts.retain(|at| now.duration_since(*at) < RESTARTS_WITHIN);
    if restarts.len() == RESTARTS_MAX {
        return Next::GiveUp(code);
    }
    restarts.push_back(now);
    Next::Restart { pause: Duration::from_secs(1 << (restarts.len() - 1)) }
}

/// An exit code as a shell names it: 128 + the signal.
fn as_shell(status: ExitStatus) -> u8 {
    status.code().or_else(|| status.signal().map(|signal| 128 + signal)).and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

fn ending(status: ExitStatus) -> String {
    match (status.signal(), status.code()) {
        (Some(signal), _) => format!("was killed by signal {signal}"),
        (None, Some(101)) => "crashed".to_owned(),
        (None, code) => format!("ended with code {}", code.unwrap_or(1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn killed(signal: i32) -> ExitStatus {
        ExitStatus::from_raw(signal)
    }

    fn exited(code: i32) -> ExitStatus {
        ExitStatus::from_raw(code << 8)
    }

    #[test]
    fn only_a_crash_or_a_kill_is_followed_by_a_restart() {
        let restart = Next::Restart { pause: Duration::from_secs(1) };
        for (status, asked, expected) in [
            (exited(0), None, Next::End(0)),
            (exited(2), None, Next::End(2)),
            (exited(78), None, Next::End(78)),
            (exited(0), Some(signals::SIGINT), Next::End(0)),
            (killed(15), Some(signals::SIGTERM), Next::End(143)),
        ] {
            assert_eq!(next(status, asked, &mut VecDeque::new(), Instant::now()), expected, "{status} {asked:?}");
        }
        for status in [killed(9), killed(11), exited(1), exited(101)] {
            assert_eq!(next(status, None, &mut VecDeque::new(), Instant::now()), restart, "{status}");
        }
    }

    #[test]
    fn the_pause_doubles_and_the_sixth_death_in_a_minute_is_the_last() {
        let mut restarts = VecDeque::new();
        let start = Instant::now();
        let mut at = |secs| next(killed(9), None, &mut restarts, start + Duration::from_secs(secs));
        let pauses = |next| matches!(next, Next::Restart { .. }).then_some(next);
        for (secs, pause) in [(0, 1), (2, 2), (5, 4), (10, 8), (20, 16)] {
            assert_eq!(pauses(at(secs)), Some(Next::Restart { pause: Duration::from_secs(pause) }));
        }
        assert_eq!(at(40), Next::GiveUp(137));
        assert_eq!(at(90), Next::Restart { pause: Duration::from_secs(1) }, "a minute of peace wins the trust back");
    }

    #[test]
    fn a_hub_that_was_killed_is_started_again_and_keeps_what_it_has() {
        use std::os::unix::fs::PermissionsExt;
        let folder = std::env::temp_dir().join(format!("gatehouse-launcher-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (hub, lives) = (folder.join("hub"), folder.join("lives"));
        // Killed with -9 in its first life, content in its second.
        let script = format!("#!/bin/sh\necho \"$@\" >> {0}\n[ $(wc -l < {0}) = 2 ] || kill -9 $$\n", lives.display());
        std::fs::write(&hub, script).unwrap();
        std::fs::set_permissions(&hub, std::fs::Permissions::from_mode(0o700)).unwrap();
        let code = run(&hub, ["demo", "--fresh", "--json"].map(OsString::from).to_vec());
        assert_eq!(code.ok(), Some(0));
        assert_eq!(std::fs::read_to_string(&lives).unwrap(), "demo --fresh --json\ndemo --json\n");
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
