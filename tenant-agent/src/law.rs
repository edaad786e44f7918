//! `tenant-agent policy …`: for whoever writes the law, and wants to know what it does before it is one.
//!
//! `check`, `explain` and `classify` need no running agent and no configuration. A [`Trial`] is another bundle, tried on the calls that the running
//! agent decided last; nothing is changed by that.

use crate::bundle::{listed, own_rules};
pub use crate::ledger::Decided;
use crate::settings::PolicySettings;
use anyhow::{Context, bail};
use clap::Subcommand;
use policy::bundle::{self, BYTES_MAX, Content, Fault, File, Named, Refusal};
use policy::{Call, Choices, Class, Finding, Gate, Law, Level, Regime, Verdict, gate};
use redact::Net;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use service::Clock;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[derive(Subcommand)]
pub enum PolicyCommand {
    /// Show what the law sees in a command: every program in it, which rules hold, why, and what each level would do.
    Explain {
        /// The command, as the assistant would give it to `exec`.
        command: String,
        /// Where it runs; also the assistant's workspace.
        #[arg(long, default_value = policy::law::EXAMPLE_WORKSPACE)]
        cwd: String,
        /// The language of the reasons.
        #[arg(long, value_parser = ["de", "en"], default_value = "en")]
        lang: String,
        /// A signed bundle or a folder of a bundle's TOML files instead of the rules that come with this agent.
        #[arg(long)]
        bundle: Option<PathBuf>,
    },
    /// Classify calls: one JSON object a line on standard input (`{"id","tool","params","cwd"}`), one a line on standard output
    /// (`{"id","class","external","unknown","because":[{"rule","reason"}],"effects":[{"deed","target"}]}`). The tools are taken to be in the
    /// assistant's manifest.
    Classify {
        /// The language of the reasons.
        #[arg(long, value_parser = ["de", "en"], default_value = "en")]
        lang: String,
        /// A signed bundle or a folder of a bundle's TOML files instead of the rules that come with this agent.
        #[arg(long)]
        bundle: Option<PathBuf>,
    },
    /// Look through a signed bundle, a folder of a bundle's TOML files, or a single file of rules, and name everything that is
    /// wrong with it. Whose signature counts is not asked: `hub policy verify` does that.
    Check { file: PathBuf },
    /// Say what would change if a bundle were law: tries it on the calls that this agent decided last. Arguments are kept masked
    /// and long ones not whole, so a call that was about those may come out differently.
    Replay {
        /// A signed bundle, or a folder of a bundle's TOML files.
        bundle: PathBuf,
        /// How many calls, the newest ones.
        #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=1000))]
        last: u32,
    },
}

/// What a command comes to: for programs, for people, and whether all is well. Null when it has said everything itself.
pub struct Said {
    pub facts: Value,
    pub text: String,
}

impl PolicyCommand {
    /// What a command says that needs neither a configuration nor a running agent.
    pub fn alone(&self, clock: &Clock) -> Option<anyhow::Result<Said>> {
        match self {
            PolicyCommand::Check { file } => Some(check(file, clock)),
            PolicyCommand::Explain { command, cwd, lang, bundle } => Some(law_of(bundle.as_deref(), clock).map(|law| explain(law.law(), command, cwd, lang))),
            PolicyCommand::Classify { lang, bundle } => Some(law_of(bundle.as_deref(), clock).and_then(|law| classify(law.law(), lang))),
            PolicyCommand::Replay { .. } => None,
        }
    }
}

/// The law of a bundle, or the one that comes with this agent.
fn law_of(bundle: Option<&Path>, clock: &Clock) -> anyhow::Result<Regime> {
    let now_ms = clock.wall_ms();
    let content = bundle.map_or_else(|| Ok(shipped::content()), |path| usable(path, now_ms))?;
    shipped::regime(&content, "", &[], i64::MAX, now_ms, true).map(|(law, _)| law).map_err(|faults| unusable(&faults))
}

/// The secrets net with the patterns of a bundle.
pub fn net_of(bundle: &Path, clock: &Clock) -> anyhow::Result<Arc<Net>> {
    shipped::net(&usable(bundle, clock.wall_ms())?, false).map_err(|faults| unusable(&faults))
}

fn usable(path: &Path, now_ms: i64) -> anyhow::Result<Content> {
    match content(path, now_ms)? {
        Ok(content) => Ok(content),
        Err(Refusal::RulesWrong { faults }) => Err(unusable(&faults)),
        Err(refusal) => bail!("this bundle is not usable: {refusal}"),
    }
}

fn unusable(faults: &[Fault]) -> anyhow::Error {
    anyhow::anyhow!("this bundle is not usable:{}", listed(faults))
}

fn reason<'a>(law: &'a Law, rule: &str, lang: &str) -> &'a str {
    law.sentence(rule).map_or("", |sentence| if lang == "de" { &sentence.de } else { &sentence.en })
}

/// What was seen in a command, as a tree, and what follows.
fn explain(law: &Law, command: &str, cwd: &str, lang: &str) -> Said {
    let (judgement, seen) = law.explain(command, cwd, cwd);
    let finding = law.finding(judgement);
    let colours = Colours::of_stdout();
    let mut text = String::new();
    for one in &seen {
        let words: String = one.words.join(" ").chars().map(|c| if ('\u{fdd0}'..='\u{fdef}').contains(&c) { '…' } else { c }).take(SHOWN_CHARS_MAX).collect();
        let _ = writeln!(text, "{}{} {words}", "  ".repeat(one.depth.saturating_sub(1)), colours.class(one.class));
        for rule in one.rules.iter().filter(|rule| *rule != "shell.looks") {
            let _ = writeln!(text, "{}  {rule}: {}", "  ".repeat(one.depth.saturating_sub(1)), reason(law, rule, lang));
        }
    }
    let flags = [(finding.external, "reaches other people"), (finding.unknown, "not readable")]
        .iter()
        .filter(|(holds, _)| *holds)
        .fold(String::new(), |text, (_, flag)| format!("{text}, {flag}"));
    let _ = writeln!(text, "{}{flags}: {} ({})", colours.class(finding.class), reason(law, &finding.rule, lang), finding.rule);
    let mut levels = serde_json::Map::new();
    for level in [Level::L1, Level::L2, Level::L3] {
        let verdict = word(gate(&finding, Gate { level, ..Gate::default() }));
        let unlocked = word(gate(&finding, Gate { level, external_unlocked: true, ..Gate::default() }));
        let more = if verdict == unlocked { String::new() } else { format!("; {} when its way to other people is unlocked", in_words(unlocked)) };
        let _ = writeln!(text, "  at {level:?} it {}{more}", in_words(verdict));
        levels.insert(format!("{level:?}"), json!(verdict));
    }
    let seen: Vec<Value> = seen.iter().map(|one| json!({ "depth": one.depth, "words": one.words, "class": one.class, "rules": one.rules })).collect();
    let mut facts = told(law, &finding, lang);
    facts["ok"] = json!(true);
    facts["seen"] = json!(seen);
    facts["levels"] = Value::Object(levels);
    Said { facts, text: text.trim_end().to_owned() }
}

fn told(law: &Law, finding: &Finding, lang: &str) -> Value {
    let because: Vec<Value> = finding.because.iter().map(|because| json!({ "rule": because.rule, "reason": reason(law, &because.rule, lang) })).collect();
    json!({ "class": finding.class, "external": finding.external, "unknown": finding.unknown, "rule": finding.rule, "because": because, "effects": finding.effects })
}

/// A line for `classify`.
#[derive(Deserialize)]
struct Asked {
    #[serde(default)]
    id: Value,
    #[serde(default)]
    tool: String,
    #[serde(default)]
    params: Value,
    cwd: Option<String>,
}

/// A call's arguments are bounded at the plugin's door; this is a file of somebody's.
const ASKED_BYTES_MAX: u64 = 4 * 1024 * 1024;

fn classify(law: &Law, lang: &str) -> anyhow::Result<Said> {
    use std::io::{BufRead, Read, Write};
    let (mut input, mut output) = (std::io::stdin().lock(), std::io::BufWriter::new(std::io::stdout().lock()));
    let (mut count, mut unreadable, mut line) = (0_u64, 0_u64, Vec::new());
    loop {
        line.clear();
        input.by_ref().take(ASKED_BYTES_MAX).read_until(b'\n', &mut line).context("reading standard input")?;
        if line.is_empty() {
            break;
        }
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        count += 1;
        let answer = match serde_json::from_slice::<Asked>(&line) {
            Ok(Asked { id, tool, params, cwd }) => {
                let workspace = cwd.as_deref().unwrap_or(policy::law::EXAMPLE_WORKSPACE).trim_end_matches('/');
                let finding = law.classify(&Call { assistant: "", tool: &tool, arguments: &params, workspace, resolved: &[] });
                let mut answer = told(law, &finding, lang);
                answer["id"] = id;
                answer
            }
            // What cannot be read is Red like any other call that cannot be read.
            Err(_) => {
                unreadable += 1;
                let mut answer = told(law, &Finding::unknown("unreadable"), lang);
                answer["id"] = Value::Null;
                answer
            }
        };
        writeln!(output, "{answer}").context("writing to standard output")?;
    }
    output.flush().context("writing to standard output")?;
    // Standard output holds answers only.
    if unreadable > 0 {
        eprintln!("{unreadable} of {count} lines were no calls; they are answered as Red");
    }
    Ok(Said { facts: Value::Null, text: String::new() })
}

/// Colours for people, none for files and pipes.
struct Colours(bool);

impl Colours {
    fn of_stdout() -> Colours {
        use std::io::IsTerminal;
        Colours(std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none())
    }

    fn class(&self, class: Class) -> String {
        let code = match class {
            Class::Green => 32,
            Class::Yellow => 33,
            Class::Red => 31,
            Class::CriticalRed => 35,
        };
        if self.0 { format!("\u{1b}[1;{code}m{}\u{1b}[0m", class.name()) } else { class.name().to_owned() }
    }
}

/// A bundle is a few dozen files.
const FILES_MAX: usize = 1000;
/// Of arguments, in a line for people.
const SHOWN_CHARS_MAX: usize = 100;

/// Everything that is wrong with a file or a folder.
fn check(path: &Path, clock: &Clock) -> anyhow::Result<Said> {
    let now_ms = clock.wall_ms();
    let (what, faults) = if path.is_dir() {
        match bundle::compile(&folder(path)?, now_ms) {
            Ok(draft) => ("the folder", faults_of(&draft.content, now_ms)),
            Err(faults) => ("the folder", faults),
        }
    } else {
        let named = text_of(path)?;
        match path.extension().and_then(|ending| ending.to_str()) {
            Some("toml") if bundle::is_key_source(&named.name) => ("the key document", bundle::compile_keys(&named).err().unwrap_or_default()),
            Some("toml") => ("the rules", faults_of_rules(named)),
            _ => match File::parse(named.text.trim_end().as_bytes()).and_then(|file| Ok((file.manifest()?, file.content()?))) {
                Ok((manifest, content)) => {
                    let late = (manifest.expires_ms <= now_ms).then(|| Fault::at(&named.name, "", "it has expired", "sign it anew with a later version"));
                    ("the bundle", content.faults().into_iter().chain(late).chain(faults_of(&content, now_ms)).collect())
                }
                Err(refusal) => ("the bundle", vec![Fault::at(&named.name, "", &refusal.to_string(), "make it anew with `hub policy sign`")]),
            },
        }
    };
    let text = if faults.is_empty() {
        format!("{what} is in order")
    } else {
        faults.iter().fold(format!("{what} has {} faults:", faults.len()), |mut text, fault| {
            // A string takes every write.
            let _ = write!(text, "\n  {fault}");
            text
        })
    };
    let code = if faults.is_empty() { Value::Null } else { json!("failed") };
    Ok(Said { facts: json!({ "ok": faults.is_empty(), "code": code, "faults": faults }), text })
}

/// How one call came out before, and would come out.
#[derive(Serialize)]
struct Difference {
    at_ms: i64,
    tool: String,
    arguments: Value,
    is_whole: bool,
    before: Outcome,
    after: Outcome,
}

#[derive(Clone, PartialEq, Eq, Serialize)]
struct Outcome {
    verdict: String,
    class: String,
    rule: String,
}

/// Another law, and what has been found out about it.
pub struct Trial {
    law: Regime,
    calls: u32,
    not_whole: u32,
    differences: Vec<Difference>,
}

impl Trial {
    /// A signed bundle or a folder, as it would be law for this tenant; nobody's signature is looked at.
    pub fn of(path: &Path, tenant: &str, settings: &PolicySettings, clock: &Clock) -> anyhow::Result<Trial> {
        let now_ms = clock.wall_ms();
        let content = usable(path, now_ms)?;
        let own = settings.tenant_rules.as_deref().map(own_rules).transpose()?.unwrap_or_default();
        let (law, _) = shipped::regime(&content, tenant, &own, i64::MAX, now_ms, false).map_err(|faults| unusable(&faults))?;
        Ok(Trial { law, calls: 0, not_whole: 0, differences: Vec::new() })
    }

    /// With what the tenant has chosen for itself.
    #[must_use]
    pub fn choosing(mut self, choices: Choices) -> Trial {
        self.law = self.law.choosing(Arc::new(choices));
        self
    }

    /// How many calls it was tried on.
    pub fn calls(&self) -> u32 {
        self.calls
    }

    pub fn on(&mut self, decided: &Decided) {
        self.calls += 1;
        self.not_whole += u32::from(!decided.is_whole);
        let Decided { tool, arguments, resolved, assistant, workspace, .. } = decided;
        let call = Call { assistant, tool, arguments, workspace, resolved };
        let before = Outcome { verdict: decided.verdict.clone(), class: decided.class.clone(), rule: decided.rule.clone() };
        let after = if self.law.manifest(tool) {
            let finding = self.law.classify(&call);
            let verdict = word(gate(&finding, self.law.gate(assistant, tool)));
            Outcome { verdict: verdict.to_owned(), class: finding.class.name().to_owned(), rule: finding.rule }
        } else {
            Outcome { verdict: NOT_AVAILABLE.to_owned(), class: before.class.clone(), rule: "manifest".to_owned() }
        };
        if (&after.verdict, &after.class) != (&before.verdict, &before.class) {
            self.differences.push(Difference {
                at_ms: decided.at_ms,
                tool: tool.clone(),
                arguments: arguments.clone(),
                is_whole: decided.is_whole,
                before,
                after,
            });
        }
    }

    pub fn said(self) -> Said {
        let Trial { calls, not_whole, differences, .. } = self;
        let mut text = match (calls, differences.len()) {
            (0, _) => "this agent has decided no call yet".to_owned(),
            (calls, 0) => format!("nothing changes for the last {calls} calls"),
            (calls, changed) => format!("{changed} of the last {calls} calls change:"),
        };
        let mut counted: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        for Difference { before, after, .. } in &differences {
            *counted.entry((&before.verdict, &after.verdict)).or_default() += 1;
        }
        for ((before, after), count) in &counted {
            let _ = write!(text, "\n  {count:>4}  {} → {}", in_words(before), in_words(after));
        }
        for Difference { tool, arguments, before, after, is_whole, .. } in &differences {
            let arguments: String = arguments.to_string().chars().take(SHOWN_CHARS_MAX).collect();
            let note = if *is_whole { "" } else { " (arguments not kept whole)" };
            let _ = write!(text, "\n{tool} {arguments}{note}\n    was   {} {} ({})", in_words(&before.verdict), before.class, before.rule);
            let _ = write!(text, "\n    would {} {} ({})", in_words(&after.verdict), after.class, after.rule);
        }
        if not_whole > 0 {
            let _ = write!(text, "\n{not_whole} calls were not kept whole: a secret was masked or a text cut, so they may come out differently");
        }
        Said { facts: json!({ "ok": true, "calls": calls, "not_whole": not_whole, "differences": differences }), text }
    }
}

/// How the ledger calls a refusal before anybody classifies.
pub const NOT_AVAILABLE: &str = "not_available";

/// How the ledger calls what the gate said.
pub fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Run => "run",
        Verdict::RunAndNotify => "run_and_notify",
        Verdict::Ask => "ask",
        Verdict::AskSigned => "ask_signed",
    }
}

fn in_words(verdict: &str) -> &str {
    match verdict {
        "run" => "runs",
        "run_and_notify" => "runs and tells the owner",
        "ask" => "asks",
        "ask_signed" => "asks for a signature",
        _ => "is not available",
    }
}

/// What is wrong with rules, exceptions and patterns, the examples included.
fn faults_of(content: &Content, now_ms: i64) -> Vec<Fault> {
    shipped::regime(content, "", &[], i64::MAX, now_ms, false).err().unwrap_or_default()
}

/// A file of rules by itself, as a tenant's is.
fn faults_of_rules(named: Named) -> Vec<Fault> {
    let form = bundle::rule_faults(&named);
    if form.is_empty() { Regime::own_faults(&[named], shipped::knowledge()) } else { form }
}

fn content(path: &Path, now_ms: i64) -> anyhow::Result<Result<Content, Refusal>> {
    if path.is_dir() {
        return Ok(bundle::compile(&folder(path)?, now_ms).map(|draft| draft.content).map_err(|faults| Refusal::RulesWrong { faults }));
    }
    Ok(File::parse(text_of(path)?.text.trim_end().as_bytes()).and_then(|file| file.content()))
}

/// Every file of a folder and of the folders in it, by its name from there.
fn folder(path: &Path) -> anyhow::Result<Vec<Named>> {
    let (mut files, mut folders) = (Vec::new(), vec![path.to_owned()]);
    while let Some(folder) = folders.pop() {
        let failed = || format!("the folder `{}` cannot be read", folder.display());
        for entry in std::fs::read_dir(&folder).with_context(failed)? {
            let at = entry.with_context(failed)?.path();
            if at.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.')) {
                continue;
            }
            if at.is_dir() {
                folders.push(at);
                continue;
            }
            let name = at.strip_prefix(path).unwrap_or(&at).to_string_lossy().into_owned();
            files.push(Named { name, ..text_of(&at)? });
            if files.len() > FILES_MAX {
                bail!("`{}` holds more than {FILES_MAX} files: is it the right folder?", path.display());
            }
        }
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}

fn text_of(path: &Path) -> anyhow::Result<Named> {
    use std::io::Read;
    let mut text = String::new();
    let failed = || format!("`{}` cannot be read", path.display());
    std::fs::File::open(path).with_context(failed)?.take(BYTES_MAX as u64 + 1).read_to_string(&mut text).with_context(failed)?;
    Ok(Named { name: path.display().to_string(), text })
}
