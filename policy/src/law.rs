//! The law: all texts of rules, read, checked and compiled together.
//!
//! A text may hold any of the tables below, and what several texts say is united. A law is either whole or refused: every
//! fault is named at once, with its file, its line and its remedy.

use crate::class::Class;
use crate::file::Paths;
use crate::http::Http;
use crate::judgement::{Because, Deed, Effect, Judgement};
use crate::rules::{RulesError, Sentence};
use crate::shell::lexicon::{Environment, Lexicon, PathPattern, PathRule, Verbs};
use crate::shell::program::Written;
use crate::shell::{Seen, Walk};
use crate::tool::{self, Tools};
use crate::Call;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use thiserror::Error;

/// One text of rules, by its name.
#[derive(Clone, Debug)]
pub struct Source<'a> {
    pub name: &'a str,
    pub text: &'a str,
}

#[derive(Debug)]
pub struct Law {
    lexicon: Lexicon,
    tools: Tools,
    rules: Vec<Rule>,
    by_id: BTreeMap<String, usize>,
    sentences: BTreeMap<String, Sentence>,
}

#[derive(Debug, Error)]
#[error("the rules are not usable:\n{}", .0.join("\n"))]
pub struct LawError(pub Vec<String>);

/// A classified call: everything that was found, and the reason that a person is shown first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub class: Class,
    /// Something leaves to other people. A flag of its own: it survives the maximum.
    pub external: bool,
    /// Not understood: asks at every level.
    pub unknown: bool,
    pub runs_at_level_3: bool,
    /// The id of the rule that decided, or of the fault that made the call unreadable.
    pub rule: String,
    pub reason: Sentence,
    pub because: Vec<Because>,
    pub effects: Vec<Effect>,
}

impl Finding {
    /// The finding for a call that nobody understands.
    pub fn unknown(rule: &str) -> Finding {
        let reason = Sentence { de: String::new(), en: String::new() };
        Finding { class: Class::Red, external: false, unknown: true, runs_at_level_3: false, rule: rule.to_owned(), reason, because: Vec::new(), effects: Vec::new() }
    }
}

/// A rule on commands, as written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    pub id: String,
    pub class: Class,
    #[serde(default)]
    pub external: bool,
    #[serde(default)]
    pub unknown: bool,
    #[serde(default)]
    pub runs_at_level_3: bool,
    #[serde(default)]
    pub commands: Vec<String>,
    /// Instead of commands: what is done to `paths`.
    pub effect: Option<Deeds>,
    #[serde(default)]
    pub paths: Vec<String>,
    pub reason: Sentence,
    #[serde(rename = "match")]
    pub matching: Vec<String>,
    #[serde(default)]
    pub not_match: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Deeds {
    One(Deed),
    Each(Vec<Deed>),
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    program: Vec<Written>,
    #[serde(default)]
    rule: Vec<Rule>,
    #[serde(default)]
    group: BTreeMap<String, Vec<String>>,
    verbs: Option<Verbs>,
    environment: Option<Environment>,
    #[serde(default)]
    sentence: BTreeMap<String, Sentence>,
    // The lexicon of verbs may stand at the top of its own file.
    #[serde(default)]
    look: Vec<String>,
    #[serde(default)]
    change: Vec<String>,
    #[serde(default)]
    destroy: Vec<String>,
    #[serde(default)]
    send: Vec<String>,
    #[serde(default)]
    pay: Vec<String>,
}

/// The workspace that examples are written for.
pub const EXAMPLE_WORKSPACE: &str = "/home/openclaw/.openclaw/workspace";

/// Texts that have a form of their own, by the end of their name.
const TOOLS: &str = "registry.toml";
const PATHS: &str = "paths.toml";
const HTTP: &str = "http.toml";

impl Law {
    /// Reads and compiles. The examples of rules on commands are not run: that is `check`, once for each law, off the hot path.
    pub fn read(sources: &[Source<'_>]) -> Result<Law, LawError> {
        let (law, faults) = Law::read_lax(sources)?;
        if faults.is_empty() { Ok(law) } else { Err(LawError(faults)) }
    }

    /// The law as far as it can be read, with what is wrong about it: for those who write rules.
    pub fn read_lax(sources: &[Source<'_>]) -> Result<(Law, Vec<String>), LawError> {
        let mut faults = Vec::new();
        let paths = one(sources, PATHS, Paths::parse, &mut faults);
        let http = one(sources, HTTP, Http::parse, &mut faults);
        let tools = one(sources, TOOLS, Tools::parse, &mut faults);
        let (Some(paths), Some(http), Some(tools)) = (paths, http, tools) else { return Err(LawError(faults)) };
        let mut law = Law { lexicon: Lexicon::new(paths, http), tools, rules: Vec::new(), by_id: BTreeMap::new(), sentences: BTreeMap::new() };
        let mut files = Vec::new();
        for source in sources.iter().filter(|source| ![TOOLS, PATHS, HTTP].iter().any(|name| is_named(source, name))) {
            match toml::from_str::<File>(source.text) {
                Ok(file) => files.push((source, file)),
                Err(error) => faults.push(format!("{}: {error}", source.name)),
            }
        }
        let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (_, file) in &files {
            for (name, programs) in &file.group {
                groups.entry(name.clone()).or_default().extend(programs.iter().cloned());
            }
        }
        for (source, file) in files {
            law.learn(source, file, &groups, &mut faults);
        }
        Ok((law, faults))
    }

    fn learn(&mut self, source: &Source<'_>, file: File, groups: &BTreeMap<String, Vec<String>>, faults: &mut Vec<String>) {
        for written in &file.program {
            if let Err(more) = self.lexicon.learn(written) {
                faults.extend(more.into_iter().map(|fault| format!("{}: {fault}", source.name)));
            }
        }
        for verbs in [file.verbs, Some(Verbs { look: file.look, change: file.change, destroy: file.destroy, send: file.send, pay: file.pay })].into_iter().flatten() {
            self.lexicon.add_verbs(&verbs);
        }
        if let Some(environment) = file.environment {
            self.lexicon.environment.commands.extend(environment.commands);
            self.lexicon.environment.loading.extend(environment.loading);
        }
        self.sentences.extend(file.sentence);
        for rule in file.rule {
            let line = source.text.lines().position(|line| line.contains(&format!("\"{}\"", rule.id))).map_or(0, |line| line + 1);
            let place = format!("{}:{line}: rule `{}`", source.name, rule.id);
            if let Err(more) = self.lexicon.rule(&rule.id, rule.class, rule.external, rule.unknown, &rule.commands, groups) {
                faults.extend(more.into_iter().map(|fault| format!("{place}: {fault}")));
            }
            if let Some(deeds) = &rule.effect {
                let deeds = match deeds {
                    Deeds::One(deed) => vec![*deed],
                    Deeds::Each(deeds) => deeds.clone(),
                };
                let (sets, patterns): (Vec<&String>, Vec<&String>) = rule.paths.iter().partition(|path| path.starts_with('@'));
                if rule.paths.is_empty() {
                    faults.push(format!("{place} names a deed and no `paths`; list the paths, or sets of them behind `@`"));
                }
                for set in sets.iter().filter(|set| self.lexicon.paths.set(&set[1..]).is_none()) {
                    faults.push(format!("{place}: there is no set of paths `{set}`; define it in {PATHS}"));
                }
                self.lexicon.on_paths.push(PathRule {
                    id: rule.id.clone(),
                    class: rule.class,
                    external: rule.external,
                    deeds,
                    sets: sets.iter().map(|set| set[1..].to_owned()).collect(),
                    patterns: patterns.iter().map(|pattern| PathPattern::new(pattern)).collect(),
                });
            } else if rule.commands.is_empty() {
                faults.push(format!("{place} says neither `commands` nor an `effect`; say which calls it means"));
            }
            if self.by_id.insert(rule.id.clone(), self.rules.len()).is_some() {
                faults.push(format!("{place} is written twice; give it an id of its own"));
            }
            self.sentences.insert(rule.id.clone(), rule.reason.clone());
            self.rules.push(rule);
        }
    }

    /// Runs every example. What does not hold is told by rule.
    pub fn check(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for rule in &self.rules {
            let held = |line: &str| self.shell(line, EXAMPLE_WORKSPACE, EXAMPLE_WORKSPACE).because.iter().any(|because| because.rule == rule.id);
            faults.extend(rule.matching.iter().filter(|line| !held(line)).map(|line| format!("rule `{}` must match `{line}` and does not", rule.id)));
            faults.extend(rule.not_match.iter().filter(|line| held(line)).map(|line| format!("rule `{}` must not match `{line}` and does", rule.id)));
        }
        faults
    }

    /// What a shell line does, seen from `folder`.
    pub fn shell(&self, line: &str, folder: &str, workspace: &str) -> Judgement {
        Walk::new(&self.lexicon, workspace, false).start(line, folder).0
    }

    /// The same, with every command that was seen.
    pub fn explain(&self, line: &str, folder: &str, workspace: &str) -> (Judgement, Vec<Seen>) {
        Walk::new(&self.lexicon, workspace, true).start(line, folder)
    }

    /// What a call of any tool does.
    pub fn judge(&self, call: &Call<'_>) -> Judgement {
        let mut found = tool::judge(&self.tools, &self.lexicon.paths, &self.lexicon.http, &Reader { law: self, workspace: call.workspace }, call);
        if found.because.is_empty() {
            found.unreadable("tool.call");
        }
        found
    }

    pub fn classify(&self, call: &Call<'_>) -> Finding {
        self.finding(self.judge(call))
    }

    /// The finding of a judgement. The most dangerous rule decides; of equals the first that was found.
    pub fn finding(&self, judgement: Judgement) -> Finding {
        let Judgement { class, external, unknown, because, effects } = judgement;
        let worst = because.iter().rev().max_by_key(|because| because.class);
        let rule = worst.map_or("tool.call", |because| because.rule.as_str()).to_owned();
        let runs = |because: &Because| self.by_id.get(&because.rule).is_some_and(|index| self.rules[*index].runs_at_level_3);
        let reason = self.sentence(&rule).cloned().unwrap_or_else(|| Sentence { de: String::new(), en: String::new() });
        let runs_at_level_3 = because.iter().filter(|because| because.class >= Class::Red).all(runs);
        Finding { class, external, unknown, runs_at_level_3, rule, reason, because, effects }
    }

    /// What a tenant is told of a rule.
    pub fn sentence(&self, rule: &str) -> Option<&Sentence> {
        self.sentences.get(rule).or_else(|| self.tools.sentence(rule)).or_else(|| self.lexicon.paths.sentence(rule)).or_else(|| self.lexicon.http.sentence(rule))
    }

    /// The rules on commands and on what is done to paths.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    pub fn tools(&self) -> &Tools {
        &self.tools
    }
}

/// The shell's reader, for tools that carry shell lines and programs.
struct Reader<'a> {
    law: &'a Law,
    workspace: &'a str,
}

impl tool::Shell for Reader<'_> {
    fn judge(&self, line: &str, cwd: &str, env: &Map<String, Value>) -> Judgement {
        Walk::new(&self.law.lexicon, self.workspace, false).with_environment(env).start(line, cwd).0
    }

    fn code(&self, language: &str, source: &str) -> Judgement {
        Walk::new(&self.law.lexicon, self.workspace, false).program(language, source)
    }
}

fn is_named(source: &Source<'_>, name: &str) -> bool {
    source.name.rsplit('/').next() == Some(name)
}

/// The one text of this name.
fn one<T>(sources: &[Source<'_>], name: &str, parse: impl Fn(&str) -> Result<T, RulesError>, faults: &mut Vec<String>) -> Option<T> {
    match sources.iter().filter(|source| is_named(source, name)).collect::<Vec<_>>().as_slice() {
        [source] => match parse(source.text) {
            Ok(parsed) => Some(parsed),
            Err(error) => {
                faults.push(format!("{}: {error}", source.name));
                None
            }
        },
        found => {
            faults.push(format!("there must be one `{name}`, and there are {}", found.len()));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(folder: &std::path::Path, found: &mut Vec<(String, String)>) {
        let mut entries: Vec<_> = std::fs::read_dir(folder).expect("the rules are beside the code").map(|entry| entry.expect("readable").path()).collect();
        entries.sort();
        for path in entries {
            if path.is_dir() {
                texts(&path, found);
            } else if path.extension().is_some_and(|ending| ending == "toml") {
                found.push((path.file_name().unwrap_or_default().to_string_lossy().into_owned(), std::fs::read_to_string(&path).expect("readable")));
            }
        }
    }

    fn law() -> Law {
        let mut found = Vec::new();
        texts(std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/rules")), &mut found);
        found.retain(|(name, _)| name != "tools.toml");
        let sources: Vec<Source<'_>> = found.iter().map(|(name, text)| Source { name, text }).collect();
        let (law, faults) = Law::read_lax(&sources).unwrap();
        if std::env::var("LAX").is_err() {
            assert_eq!(faults, [""; 0]);
        }
        law
    }

    /// Ways to write the same command so that it looks like another.
    fn disguises(line: &str) -> Vec<(&'static str, String)> {
        let quoted = format!("'{}'", line.replace('\'', "'\\''"));
        let (name, rest) = line.split_once(' ').unwrap_or((line, ""));
        let mut ways = vec![
            ("bash -c", format!("bash -c {quoted}")),
            ("$()", format!("echo \"$( {line}\n)\"")),
            ("eval", format!("eval {quoted}")),
            ("subshell", format!("( {line}\n)")),
            ("after &&", format!("true && {{ {line}\n}}")),
            ("sudo sh", format!("sudo sh -c {quoted}")),
            ("xargs sh", format!("echo x | xargs -I@ sh -c {quoted}")),
            ("base64", format!("echo {} | base64 -d | sh", base64(line))),
        ];
        let plain = line.chars().all(|c| c.is_ascii_alphanumeric() || " -_./=:,@%+~".contains(c)) && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
        // Builtins are no programs, and a second `sudo` is still one.
        if plain && !["cd", "export", "declare", "unset", "alias", "trap", "exec", "set", "history", "enable", "kill", "builtin", "command", "source", "eval"].contains(&name) {
            let (first, second) = name.split_at(1);
            ways.extend([
                ("sudo", format!("sudo {line}")),
                ("env", format!("env A=b {line}")),
                ("env -S", format!("env -S {quoted}")),
                ("nohup", format!("nohup {line}")),
                ("timeout", format!("timeout 5 {line}")),
                ("nice", format!("nice -n 5 {line}")),
                ("backslash", format!("\\{line}")),
                ("split quotes", format!("{first}''{second} {rest}")),
                ("quoted", format!("\"{name}\" {rest}")),
                ("absolute", format!("/usr/bin/{line}")),
                ("continued", line.replacen(' ', " \\\n", 1)),
                ("IFS", line.replacen(' ', "${IFS}", 1)),
                ("variable", format!("x={name}; $x {rest}")),
                ("busybox", format!("busybox {line}")),
            ]);
        }
        ways
    }

    fn base64(text: &str) -> String {
        const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        text.as_bytes()
            .chunks(3)
            .map(|chunk| {
                let bits = chunk.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
                (0..4).map(|place| if place <= chunk.len() { char::from(LETTERS[(bits >> (18 - 6 * place) & 63) as usize]) } else { '=' }).collect::<String>()
            })
            .collect()
    }

    #[test]
    fn every_example_holds_and_every_reason_is_told_in_both_languages() {
        let law = law();
        assert_eq!(law.check(), [""; 0]);
        for rule in law.rules() {
            assert!(!rule.reason.de.is_empty() && !rule.reason.en.is_empty(), "{}", rule.id);
            assert!(rule.matching.len() >= 2 && !rule.not_match.is_empty(), "{} has too few examples", rule.id);
        }
    }

    #[test]
    fn no_disguise_lowers_a_class() {
        let law = law();
        let judge = |line: &str| law.shell(line, EXAMPLE_WORKSPACE, EXAMPLE_WORKSPACE).class;
        let mut lowered = Vec::new();
        let mut tried = 0;
        for line in law.rules().iter().filter(|rule| rule.class >= Class::Red).flat_map(|rule| &rule.matching) {
            let plain = judge(line);
            for (way, disguised) in disguises(line) {
                tried += 1;
                let class = judge(&disguised);
                if class < plain {
                    lowered.push(format!("{way}: {plain:?} → {class:?}: {disguised}"));
                }
            }
        }
        assert!(tried > 10_000, "{tried}");
        assert!(lowered.is_empty(), "{} of {tried}:\n{}", lowered.len(), lowered.join("\n"));
    }
}
