//! What the law costs: `cargo bench -p policy`.
//!
//! First it prints figures that a mean cannot show: percentiles over many lines, beside a bare parse of the same lines
//! in the same run, so that a slow or busy machine falls out of the ratio; the curve over the number of rules; and what
//! is resident. Then divan runs the benches by name. Every time is the best of several, since work beside it only adds.

use divan::{Bencher, black_box};
use policy::bundle::Named;
use policy::law::EXAMPLE_WORKSPACE;
use policy::{Call, Knowledge, Law, RuleBook, shell};
use serde_json::Value;
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

/// One line each; `␤` stands for a line's end.
static LINES: LazyLock<Vec<String>> = LazyLock::new(|| include_str!("lines.txt").lines().map(|line| line.replace('␤', "\n")).collect());
static CALLS: LazyLock<Vec<Value>> = LazyLock::new(|| include_str!("calls.jsonl").lines().map(|line| serde_json::from_str(line).expect("a call")).collect());

static KNOWN: LazyLock<Vec<Named>> = LazyLock::new(|| texts("known"));
static KNOWLEDGE: LazyLock<Arc<Knowledge>> = LazyLock::new(|| read_knowledge(&KNOWN));
static BOOK: LazyLock<RuleBook> = LazyLock::new(|| read_book(&texts("danger")));
static LAW: LazyLock<Law> = LazyLock::new(|| law(&[&BOOK]));

const CAP_BYTES: usize = 64 * 1024;
const RULES: [usize; 3] = [100, 1_000, 10_000];
/// Of a large bundle's rules so many are about one program.
const RULES_ON_GIT: usize = 20;
/// Each time is the best of so many.
const ROUNDS: usize = 7;
const PAGE_KIB: usize = 4;

fn main() {
    // `cargo test --benches` only wants to know that everything runs.
    if !std::env::args().any(|argument| argument == "--test" || argument == "--list") {
        print!("{}", figures());
    }
    divan::main();
}

fn figures() -> String {
    let mut out = String::new();
    memory(&mut out);
    lines(&mut out);
    calls(&mut out);
    at_the_cap(&mut out);
    bundle(&mut out);
    curve(&mut out);
    out
}

/// First of all: what was freed before would be used again.
fn memory(out: &mut String) {
    let (knowledge_texts, rule_texts) = (&*KNOWN, texts("danger"));
    let at_start = resident_kib();
    let started = Instant::now();
    let knowledge = read_knowledge(knowledge_texts);
    let first = started.elapsed();
    let with_knowledge = resident_kib();
    let law = Law::new(&knowledge, &[&read_book(&rule_texts)]).unwrap_or_else(|faults| panic!("{faults:#?}"));
    let with_law = resident_kib();
    let again = best(ROUNDS, || read_knowledge(knowledge_texts));
    drop(law);
    let _ = writeln!(out, "resident: {at_start} KiB; knowledge +{} KiB; law +{} KiB", with_knowledge - at_start, with_law.saturating_sub(with_knowledge));
    let _ = writeln!(out, "knowledge read in {first:.1?} at first, {again:.1?} at best\n");
}

fn lines(out: &mut String) {
    let decided = each(&LINES, |line| decide(&LAW, line));
    let parsed = each(&LINES, |line| shell::parse_only(line));
    let mut ratios: Vec<f64> = decided.iter().zip(&parsed).map(|(decide, parse)| decide.as_secs_f64() / parse.as_secs_f64()).collect();
    ratios.sort_by(f64::total_cmp);
    let (decided, parsed) = (Spread::of(decided), Spread::of(parsed));
    let _ = writeln!(out, "{} command lines        p50       p90       p99       max", LINES.len());
    let _ = writeln!(out, "decide              {decided}");
    let _ = writeln!(out, "bare parse          {parsed}");
    let quotient = |one: Duration, other: Duration| one.as_secs_f64() / other.as_secs_f64();
    let _ = writeln!(
        out,
        "decide / parse      {:>9.1} {:>9.1} {:>9.1} {:>9.1}   (line by line p50 {:.1}, p99 {:.1})",
        quotient(decided.p50, parsed.p50),
        quotient(decided.p90, parsed.p90),
        quotient(decided.p99, parsed.p99),
        quotient(decided.max, parsed.max),
        at(&ratios, 0.5),
        at(&ratios, 0.99),
    );
    let _ = writeln!(out, "the parser's share of all lines: {:.0} %\n", 100.0 * quotient(parsed.sum, decided.sum));
}

fn calls(out: &mut String) {
    let times = Spread::of(each(&CALLS, classify));
    let _ = writeln!(out, "{} tool calls\nclassify            {times}\n", CALLS.len());
}

fn at_the_cap(out: &mut String) {
    let _ = writeln!(out, "at the cap of {CAP_BYTES} bytes            decide     parse     class");
    for shape in SHAPES {
        let line = shape.line();
        let decided = best(ROUNDS, || decide(&LAW, &line));
        let parsed = best(ROUNDS, || shell::parse_only(&line));
        let class = decide(&LAW, &line);
        let _ = writeln!(out, "{:<28} {:>7} bytes {decided:>9.1?} {parsed:>9.1?}     {:?} {}", shape.name(), line.len(), class.class, class.because[0].rule);
    }
    out.push('\n');
}

fn bundle(out: &mut String) {
    let texts = [made(1_000)];
    let read = best(ROUNDS, || read_book(&texts));
    let book = read_book(&texts);
    let built = best(ROUNDS, || law(&[&book]));
    let _ = writeln!(out, "bundle of 1 000 rules ({} KiB): read {read:.1?}, index {built:.1?}\n", texts[0].text.len() / 1024);
}

fn curve(out: &mut String) {
    let of_git: Vec<String> = LINES.iter().filter(|line| line.starts_with("git ")).cloned().collect();
    let _ = writeln!(out, "rules beside the shipped ones: all lines p50, p99; lines of `git`, which 5 % of the rules are about, p50, p99");
    for (count, law) in [(0, LAW.clone())].into_iter().chain(RULES.map(|count| (count, law(&[&BOOK, &read_book(&[made(count)])])))) {
        let all = Spread::of(each(&LINES, |line| decide(&law, line)));
        let git = Spread::of(each(&of_git, |line| decide(&law, line)));
        let _ = writeln!(out, "{count:>6}  {:>9.1?} {:>9.1?}   {:>9.1?} {:>9.1?}", all.p50, all.p99, git.p50, git.p99);
    }
    out.push('\n');
}

#[divan::bench]
fn decide_every_line(bencher: Bencher<'_, '_>) {
    bencher.counter(divan::counter::ItemsCount::new(LINES.len())).bench(|| LINES.iter().for_each(|line| drop(black_box(decide(&LAW, line)))));
}

#[divan::bench]
fn parse_every_line(bencher: Bencher<'_, '_>) {
    bencher.counter(divan::counter::ItemsCount::new(LINES.len())).bench(|| {
        LINES.iter().for_each(|line| {
            black_box(shell::parse_only(line));
        });
    });
}

#[divan::bench]
fn classify_every_call(bencher: Bencher<'_, '_>) {
    bencher.counter(divan::counter::ItemsCount::new(CALLS.len())).bench(|| CALLS.iter().for_each(|call| drop(black_box(classify(call)))));
}

#[divan::bench(args = SHAPES)]
fn decide_at_the_cap(bencher: Bencher<'_, '_>, shape: &Shape) {
    let line = shape.line();
    bencher.bench(|| decide(&LAW, black_box(&line)));
}

#[divan::bench(args = RULES)]
fn decide_with_rules(bencher: Bencher<'_, '_>, count: usize) {
    let law = law(&[&BOOK, &read_book(&[made(count)])]);
    bencher.bench(|| LINES.iter().for_each(|line| drop(black_box(decide(&law, line)))));
}

#[divan::bench(args = RULES, sample_count = 10)]
fn read_and_index_rules(bencher: Bencher<'_, '_>, count: usize) {
    let texts = [made(count)];
    bencher.bench(|| law(&[&read_book(&texts)]));
}

#[divan::bench(sample_count = 10)]
fn read_what_is_known(bencher: Bencher<'_, '_>) {
    bencher.bench(|| read_knowledge(&KNOWN));
}

/// Lines as long as a line may be.
#[derive(Clone, Copy, Debug)]
enum Shape {
    Heredoc,
    HeredocForInterpreter,
    Pipeline,
    Sequence,
    Words,
    Paths,
    Assignments,
    Environment,
    SingleQuoted,
    DoubleQuoted,
    Script,
}

const SHAPES: [Shape; 11] = [
    Shape::Heredoc,
    Shape::HeredocForInterpreter,
    Shape::Pipeline,
    Shape::Sequence,
    Shape::Words,
    Shape::Paths,
    Shape::Assignments,
    Shape::Environment,
    Shape::SingleQuoted,
    Shape::DoubleQuoted,
    Shape::Script,
];

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl Shape {
    fn name(self) -> &'static str {
        match self {
            Shape::Heredoc => "a heredoc of text",
            Shape::HeredocForInterpreter => "a heredoc of Python",
            Shape::Pipeline => "a pipeline",
            Shape::Sequence => "a sequence",
            Shape::Words => "words",
            Shape::Paths => "paths to delete",
            Shape::Assignments => "assignments",
            Shape::Environment => "variables for one command",
            Shape::SingleQuoted => "text in single quotes",
            Shape::DoubleQuoted => "text in double quotes",
            Shape::Script => "a script",
        }
    }

    fn line(self) -> String {
        const SENTENCE: &str = "What the assistant wrote about the offer of last week. ";
        /// What the passes before the parser let through, a little below their bounds.
        const SEPARATORS: usize = 1_900;
        const WORDS: usize = 11_000;
        let up_to = |head: &str, piece: &dyn Fn(usize) -> String, most: usize, tail: &str| {
            let mut line = head.to_owned();
            for index in 0..most {
                let piece = piece(index);
                if line.len() + piece.len() + tail.len() > CAP_BYTES {
                    break;
                }
                line.push_str(&piece);
            }
            line + tail
        };
        let sentences = |head: &str, tail: &str| up_to(head, &|_| SENTENCE.to_owned(), usize::MAX, tail);
        match self {
            Shape::Heredoc => up_to("cat <<'EOF' > notes.md\n", &|_| format!("{SENTENCE}\n"), usize::MAX, "EOF\n"),
            Shape::HeredocForInterpreter => up_to("python3 <<'EOF'\n", &|index| format!("total_{index} = sum(rows[{index}])\n"), usize::MAX, "EOF\n"),
            Shape::Pipeline => up_to("cat notes.md", &|index| format!(" | grep -v 'line number {index}'"), SEPARATORS, ""),
            Shape::Sequence => up_to("true", &|index| format!("; ls -la drafts/folder-{index}"), SEPARATORS, ""),
            Shape::Words => up_to("echo", &|index| format!(" w{index}"), WORDS, ""),
            Shape::Paths => up_to("rm -f", &|index| format!(" out/page-{index}.html"), WORDS, ""),
            Shape::Assignments => up_to("", &|index| format!("name_{index}=value-of-{index}; "), SEPARATORS, "true"),
            Shape::Environment => up_to("", &|index| format!("NAME_{index}=value-of-{index} "), WORDS, "true"),
            Shape::SingleQuoted => sentences("echo '", "'"),
            Shape::DoubleQuoted => sentences("git commit -m \"", "\""),
            Shape::Script => up_to("set -e\n", &|index| format!("x={index}\nif test -f \"in/$x\"; then cp \"in/$x\" out/; fi\n"), SEPARATORS / 5, ""),
        }
    }
}

/// A text of so many rules, one in twenty of them on `git`.
fn made(count: usize) -> Named {
    let mut text = String::new();
    for index in 0..count {
        let program = if index % RULES_ON_GIT == 0 { format!("git remove-{index}") } else { format!("program-{index} remove|delete") };
        let _ = write!(
            text,
            "[[rule]]\nid = \"made.rule-{index}\"\nclass = \"red\"\ncommands = [\"{program} --force|-f\", \"{program} * !--dry-run\"]\n\
             reason = {{ de = \"Der Assistent möchte etwas löschen.\", en = \"The assistant wants to delete something.\" }}\n\
             match = [\"{example} --force\", \"{example} thing\"]\nnot_match = [\"{example}\"]\n\n",
            example = program.split('|').next().unwrap_or_default(),
        );
    }
    Named { name: "made.toml".to_owned(), text }
}

fn decide(law: &Law, line: &str) -> policy::Judgement {
    law.shell(line, EXAMPLE_WORKSPACE, EXAMPLE_WORKSPACE)
}

fn classify(call: &Value) -> policy::Finding {
    let tool = call["tool"].as_str().unwrap_or_default();
    LAW.classify(&Call { assistant: "alma", tool, arguments: &call["params"], workspace: EXAMPLE_WORKSPACE, resolved: &[] })
}

fn law(books: &[&RuleBook]) -> Law {
    Law::new(&KNOWLEDGE, books).unwrap_or_else(|faults| panic!("{faults:#?}"))
}

fn read_knowledge(texts: &[Named]) -> Arc<Knowledge> {
    Knowledge::read(texts).unwrap_or_else(|faults| panic!("{faults:#?}"))
}

fn read_book(texts: &[Named]) -> RuleBook {
    RuleBook::read(texts).unwrap_or_else(|faults| panic!("{faults:#?}"))
}

fn texts(folder: &str) -> Vec<Named> {
    fn gather(folder: &Path, found: &mut Vec<Named>) {
        let mut paths: Vec<_> = fs::read_dir(folder).expect("the rules are beside the code").map(|entry| entry.expect("readable").path()).collect();
        paths.sort();
        for path in paths {
            if path.is_dir() {
                gather(&path, found);
            } else if path.extension().is_some_and(|ending| ending == "toml") {
                found.push(Named { name: path.display().to_string(), text: fs::read_to_string(&path).expect("readable") });
            }
        }
    }
    let mut found = Vec::new();
    gather(&Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/rules")).join(folder), &mut found);
    found
}

/// What of this process lies in memory. Only Linux tells.
fn resident_kib() -> usize {
    let pages = |statm: String| statm.split(' ').nth(1)?.parse::<usize>().ok();
    fs::read_to_string("/proc/self/statm").ok().and_then(pages).unwrap_or_default() * PAGE_KIB
}

fn best<T>(rounds: usize, mut act: impl FnMut() -> T) -> Duration {
    let time = |_| {
        let started = Instant::now();
        let done = black_box(act());
        let elapsed = started.elapsed();
        drop(done);
        elapsed
    };
    (0..rounds).map(time).min().unwrap_or_default()
}

fn each<I, T>(items: &[I], mut act: impl FnMut(&I) -> T) -> Vec<Duration> {
    items.iter().map(|item| best(ROUNDS, || act(item))).collect()
}

struct Spread {
    p50: Duration,
    p90: Duration,
    p99: Duration,
    max: Duration,
    sum: Duration,
}

impl Spread {
    fn of(mut times: Vec<Duration>) -> Spread {
        times.sort();
        Spread { p50: at(&times, 0.5), p90: at(&times, 0.9), p99: at(&times, 0.99), max: at(&times, 1.0), sum: times.iter().sum() }
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:>9.1?} {:>9.1?} {:>9.1?} {:>9.1?}", self.p50, self.p90, self.p99, self.max)
    }
}

fn at<T: Copy>(sorted: &[T], share: f64) -> T {
    sorted[((sorted.len() - 1) as f64 * share).round() as usize]
}
