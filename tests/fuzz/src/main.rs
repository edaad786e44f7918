//! Throws made-up input at everything that reads foreign bytes: `fuzz TARGET|all SECONDS [SEED [SLOWEST_MS]]`.
//!
//! No input may panic, overflow the stack or take longer than [`SLOWEST`], unless more is allowed on a busy machine. Input is grown from the corpus beside this file
//! and from a grammar of pieces, by chance that a seed repeats. An input that fails is printed as JSON, to be mended and
//! then kept in the corpus, which the tests run through each time.

mod chance;
mod secrets;
mod target;

use chance::Chance;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use target::{TARGETS, Target};

/// A call that takes longer to judge keeps an assistant waiting.
const SLOWEST: Duration = Duration::from_millis(50);
/// The stack of an ordinary thread: what overflows it aborts the process, and this run with it.
const STACK_BYTES: usize = 2 * 1024 * 1024;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (name, seconds) = match arguments.as_slice() {
        [name, seconds, ..] => (name.as_str(), seconds.parse().unwrap_or(60)),
        _ => {
            eprintln!(
                "usage: fuzz TARGET|all SECONDS [SEED [SLOWEST_MS]]\ntargets: {}",
                TARGETS.iter().map(|target| target.name).collect::<Vec<_>>().join(" ")
            );
            return ExitCode::from(2);
        }
    };
    // Left out: another one each time.
    let seed = arguments.get(2).and_then(|seed| seed.parse().ok()).unwrap_or_else(|| std::process::id().into());
    let slowest = arguments.get(3).and_then(|ms| ms.parse().ok()).map_or(SLOWEST, Duration::from_millis);
    let chosen: Vec<&'static Target> = TARGETS.iter().filter(|target| name == "all" || target.name == name).collect();
    if chosen.is_empty() {
        eprintln!("there is no target `{name}`");
        return ExitCode::from(2);
    }
    let mut failed = 0;
    for target in chosen.iter().copied() {
        let share = Duration::from_secs(seconds) / u32::try_from(chosen.len()).unwrap_or(1);
        let worker = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(move || throw(target, share, seed, slowest));
        match worker.map(std::thread::JoinHandle::join) {
            Ok(Ok(true)) => {}
            _ => failed += 1,
        }
    }
    println!("{} passed, {failed} failed", chosen.len() - failed);
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn throw(target: &Target, share: Duration, seed: u64, allowed: Duration) -> bool {
    let judge = (target.prepare)();
    let corpus: Vec<String> = target
        .corpus
        .lines()
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_str(line).expect("the corpus holds one JSON string a line"))
        .collect();
    let mut chance = Chance::new(seed);
    let (started, mut count, mut slowest) = (Instant::now(), 0_u64, Duration::ZERO);
    let mut known = corpus.iter();
    while started.elapsed() < share {
        let input = known.next().cloned().unwrap_or_else(|| chance.input(&corpus, target.pieces));
        let shown = serde_json::to_string(&input).unwrap_or_default();
        // An overflow ends the process before anything can be said; whoever looks for one asks for the last input.
        if let Some(file) = std::env::var_os("FUZZ_LAST") {
            let _ = std::fs::write(file, &shown);
        }
        // A panic's message names the place; this names the input.
        let told = Told(&shown);
        let mut taken = time(&judge, &input);
        // The machine may have been busy with something else.
        for _ in 0..4 {
            if taken <= allowed {
                break;
            }
            taken = taken.min(time(&judge, &input));
        }
        std::mem::forget(told);
        if taken > allowed {
            println!("{}: {taken:?} for {shown}", target.name);
            return false;
        }
        slowest = slowest.max(taken);
        count += 1;
    }
    println!("{}: {count} inputs, seed {seed}, the slowest took {slowest:?}", target.name);
    true
}

fn time(judge: &dyn Fn(&str), input: &str) -> Duration {
    let started = Instant::now();
    judge(input);
    started.elapsed()
}

/// Says which input it was when the judge does not come back.
struct Told<'a>(&'a str);

impl Drop for Told<'_> {
    fn drop(&mut self) {
        println!("a panic at {}", self.0);
    }
}
