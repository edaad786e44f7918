//! The law: all texts of rules, read, checked and compiled together.
//!
//! A text may hold any of the tables below, and what several texts say is united. A law is either whole or refused: every
//! fault is named at once, with its file, its line and its remedy.

use crate::class::Class;
use crate::judgement::{Deed, Judgement};
use crate::rules::Sentence;
use crate::shell::lexicon::{Environment, Lexicon, PathPattern, PathRule, Verbs};
use crate::shell::program::Written;
use crate::shell::{Seen, Walk};
use serde::Deserialize;
use std::collections::BTreeMap;

/// One text of rules, by its name.
#[derive(Clone, Debug)]
pub struct Source<'a> {
    pub name: &'a str,
    pub text: &'a str,
}

#[derive(Debug, Default)]
pub struct Law {
    lexicon: Lexicon,
    rules: Vec<Rule>,
    by_id: BTreeMap<String, usize>,
    sentences: BTreeMap<String, Sentence>,
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

impl Law {
    /// Reads and compiles. Examples are not run: that is `check`, once for each law, off the hot path.
    pub fn read(sources: &[Source<'_>]) -> (Law, Vec<String>) {
        let mut law = Law::default();
        let mut faults = Vec::new();
        let mut files = Vec::new();
        for source in sources {
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
            for written in &file.program {
                if let Err(more) = law.lexicon.learn(written) {
                    faults.extend(more.into_iter().map(|fault| format!("{}: {fault}", source.name)));
                }
            }
            for verbs in
                [file.verbs, Some(Verbs { look: file.look, change: file.change, destroy: file.destroy, send: file.send, pay: file.pay })].into_iter().flatten()
            {
                law.lexicon.add_verbs(&verbs);
            }
            if let Some(environment) = file.environment {
                law.lexicon.environment.commands.extend(environment.commands);
                law.lexicon.environment.loading.extend(environment.loading);
            }
            law.sentences.extend(file.sentence);
            for rule in file.rule {
                let line = source.text.lines().position(|line| line.contains(&format!("\"{}\"", rule.id))).map_or(0, |line| line + 1);
                let place = format!("{}:{line}: rule `{}`", source.name, rule.id);
                if let Err(more) = law.lexicon.rule(&rule.id, rule.class, rule.external, rule.unknown, &rule.commands, &groups) {
                    faults.extend(more.into_iter().map(|fault| format!("{place}: {fault}")));
                }
                if let Some(deeds) = &rule.effect {
                    let deeds = match deeds {
                        Deeds::One(deed) => vec![*deed],
                        Deeds::Each(deeds) => deeds.clone(),
                    };
                    let (sets, patterns): (Vec<&String>, Vec<&String>) = rule.paths.iter().partition(|path| path.starts_with('@'));
                    if rule.paths.is_empty() {
                        faults.push(format!("{place} names a deed and no `paths`"));
                    }
                    law.lexicon.on_paths.push(PathRule {
                        id: rule.id.clone(),
                        class: rule.class,
                        external: rule.external,
                        deeds,
                        sets: sets.iter().map(|set| set[1..].to_owned()).collect(),
                        patterns: patterns.iter().map(|pattern| PathPattern::new(pattern)).collect(),
                    });
                } else if rule.commands.is_empty() {
                    faults.push(format!("{place} says neither `commands` nor an `effect`"));
                }
                if law.by_id.insert(rule.id.clone(), law.rules.len()).is_some() {
                    faults.push(format!("{place} is written twice; give it an id of its own"));
                }
                law.sentences.insert(rule.id.clone(), rule.reason.clone());
                law.rules.push(rule);
            }
        }
        (law, faults)
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

    pub fn shell(&self, line: &str, folder: &str, workspace: &str) -> Judgement {
        Walk::new(&self.lexicon, workspace, false).start(line, folder).0
    }

    pub fn explain(&self, line: &str, folder: &str, workspace: &str) -> (Judgement, Vec<Seen>) {
        Walk::new(&self.lexicon, workspace, true).start(line, folder)
    }

    pub fn sentence(&self, rule: &str) -> Option<&Sentence> {
        self.sentences.get(rule)
    }

    pub fn rules(&self) -> &[Rule] {
        &self.rules
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
        found.retain(|(name, _)| !["tools.toml", "http.toml", "paths.toml"].contains(&name.as_str()));
        let sources: Vec<Source<'_>> = found.iter().map(|(name, text)| Source { name, text }).collect();
        let (law, faults) = Law::read(&sources);
        if std::env::var("LAX").is_err() { assert_eq!(faults, [""; 0]); }
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
