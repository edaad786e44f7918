//! What is wrong with a text of rules: every fault at once, each with its place and its remedy.

use crate::Sentence;
use serde::de::DeserializeOwned;
use thiserror::Error;

/// Why a text of rules is refused.
#[derive(Debug, Error)]
pub enum RulesError {
    #[error("the rules are not readable: {0}")]
    Unreadable(#[from] toml::de::Error),
    #[error("the rules contradict themselves:\n{}", .0.join("\n"))]
    Wrong(Vec<String>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The id of the rule or the name of the entry.
    pub entry: String,
    pub what: String,
    pub fix: String,
}

impl Fault {
    pub fn new(entry: &str, what: impl Into<String>, fix: impl Into<String>) -> Fault {
        Fault { entry: entry.to_owned(), what: what.into(), fix: fix.into() }
    }

    /// `file:line: `entry`: what is wrong; how to mend it`. The line is where the entry is first written.
    pub fn told(&self, file: &str, text: &str) -> String {
        let named = format!("\"{}\"", self.entry);
        let table = format!(".{}]", self.entry);
        let line = text.lines().position(|line| line.contains(&named) || line.trim_end().ends_with(&table) || line.starts_with(&format!("{} =", self.entry)));
        let place = line.map(|line| format!(":{}", line + 1)).unwrap_or_default();
        format!("{file}{place}: `{}` {}; {}", self.entry, self.what, self.fix)
    }
}

/// Reads one TOML file of rules and compiles it. The same data may come as JSON, straight to `compile`.
pub fn read<Data: DeserializeOwned, Compiled>(
    file: &str,
    text: &str,
    compile: impl FnOnce(Data) -> Result<Compiled, Vec<Fault>>,
) -> Result<Compiled, RulesError> {
    let data: Data = toml::from_str(text)?;
    compile(data).map_err(|faults| RulesError::Wrong(faults.iter().map(|fault| fault.told(file, text)).collect()))
}

/// A sentence that no tenant could be shown.
pub fn of_sentence(entry: &str, sentence: &Sentence) -> Option<Fault> {
    let wrong = [&sentence.de, &sentence.en].into_iter().any(|text| text.trim().is_empty() || text.chars().count() > SENTENCE_CHARS_MAX);
    wrong.then(|| {
        Fault::new(entry, "has no sentence, or one that is too long", format!("write one in both languages, of at most {SENTENCE_CHARS_MAX} characters"))
    })
}

/// As much as a notice on a telephone shows.
const SENTENCE_CHARS_MAX: usize = 160;

/// An example with `<x*2000>` written out, so that what is about length can be shown in a line.
pub fn expanded(example: &str) -> String {
    let Some((before, rest)) = example.split_once('<') else { return example.to_owned() };
    let Some((inner, after)) = rest.split_once('>') else { return example.to_owned() };
    match inner.split_once('*').and_then(|(text, count)| Some((text, count.parse::<usize>().ok().filter(|count| *count <= 10_000)?))) {
        Some((text, count)) => format!("{before}{}{after}", text.repeat(count)),
        None => example.to_owned(),
    }
}
