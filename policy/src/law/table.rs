//! Every rule as a page that people read: `docs/RULES.md`.
//!
//! Made from the texts of the rules alone, so that a page that says something else than the rules is noticed by a test.

use super::RuleBook;
use crate::bundle::{Fault, Named};
use crate::tool::FINDINGS;
use crate::{Class, Deed, file, http, tool};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::fmt::Write as _;

/// As many forms, paths and names as show what a rule is about; the text has the rest.
const SHOWN_MAX: usize = 3;
const SHOWN_CHARS_MAX: usize = 72;

const HEAD: &str = "# Rules

Every rule that comes with the agent. This page is made from the rules: `cargo run -p policy --example table > docs/RULES.md`.
[POLICY.md](POLICY.md) says how they are read. What is cut off ends in `…`; the files have it whole.

*external*: something leaves to other people. *unknown*: not understood, asks at every level. *level 3*: may run unasked at level 3, and the owner is told.
Rules of the class critical_red in `policy/rules/danger/` are the floor: nothing lowers them.
";

/// The page. `known` is what comes with the agent, `danger` the rules on commands, each as the files of one folder.
pub fn table(known: &[Named], danger: &[Named]) -> Result<String, Vec<Fault>> {
    let mut page = Page { text: HEAD.to_owned(), rules: 0 };
    for named in danger {
        page.commands(named)?;
    }
    page.files(of(known, super::PATHS)?);
    page.requests(of(known, super::HTTP)?);
    let tools: tool::Text = of(known, super::TOOLS)?;
    page.tools(&tools);
    page.findings(known, &tools)?;
    let _ = write!(page.text, "\n{} rules.\n", page.rules);
    Ok(page.text)
}

struct Page {
    text: String,
    rules: usize,
}

impl Page {
    fn commands(&mut self, named: &Named) -> Result<(), Vec<Fault>> {
        let book = RuleBook::read(std::slice::from_ref(named))?;
        self.begin(&format!("Commands: `policy/rules/danger/{}`", short_name(named)), "commands, or what is done to paths");
        for rule in book.rules() {
            let what = match &rule.effect {
                None => shown(&rule.commands),
                Some(super::Deeds::One(deed)) => format!("{}: {}", deeds(&[*deed]), shown(&rule.paths)),
                Some(super::Deeds::Each(each)) => format!("{}: {}", deeds(each), shown(&rule.paths)),
            };
            self.row(&rule.id, rule.class, [(rule.external, "external"), (rule.unknown, "unknown"), (rule.runs_at_level_3, "level 3")], &what, &rule.reason.en);
        }
        Ok(())
    }

    fn files(&mut self, text: file::Text) {
        self.begin("Files: `policy/rules/known/paths.toml`", "what is done: sets of paths");
        for rule in &text.rule {
            let without = if rule.without.is_empty() { String::new() } else { format!("; not {}", rule.without.join(", ")) };
            let deeds = if rule.deeds.is_empty() { "any".to_owned() } else { deeds(&rule.deeds) };
            let what = format!("{deeds}: {}{without}", rule.sets.join(", "));
            self.row(&rule.id, rule.class, [(rule.external, "external"), (false, ""), (false, "")], &what, &rule.reason.en);
        }
    }

    fn requests(&mut self, text: http::Text) {
        self.begin("Requests: `policy/rules/known/http.toml`", "when");
        for rule in &text.rule {
            let http::When { facts, methods, hosts, words, last, paths, without } = &rule.when;
            let what: Vec<String> =
                [("facts", facts), ("methods", methods), ("hosts", hosts), ("words", words), ("last word", last), ("paths", paths), ("without", without)]
                    .into_iter()
                    .filter(|(_, list)| !list.is_empty())
                    .map(|(name, list)| format!("{name} {}", shown(list)))
                    .collect();
            self.row(&rule.id, rule.class, [(rule.external, "external"), (rule.unknown, "unknown"), (false, "")], &what.join("; "), &rule.reason.en);
        }
    }

    fn tools(&mut self, text: &tool::Text) {
        self.begin("Tools: `policy/rules/known/registry.toml`", "tools, and when");
        for rule in &text.rule {
            let when = serde_json::to_value(&rule.when).unwrap_or_default();
            let conditions: String = when
                .as_object()
                .into_iter()
                .flatten()
                .filter(|(_, value)| !is_empty(value))
                .map(|(name, value)| format!("; {name} {}", quoted(&value.to_string())))
                .collect();
            let what = format!("{}{conditions}", shown(&rule.tools));
            self.row(&rule.id, rule.class, [(rule.external, "external"), (rule.unknown, "unknown"), (false, "")], &what, &rule.reason.en);
        }
    }

    /// What is found without a rule of its own: how dangerous it is stands in the program.
    fn findings(&mut self, known: &[Named], tools: &tool::Text) -> Result<(), Vec<Fault>> {
        self.text.push_str("\n## Found by the program itself\n\nNo rule is asked for these: the readers of tools and commands raise them.\n\n");
        self.text.push_str("| id | class, at least | flags | reason |\n|---|---|---|---|\n");
        for (id, class, unknown) in FINDINGS {
            let reason = tools.finding.get(*id).map_or("", |sentence| &sentence.en);
            let _ = writeln!(self.text, "| {id} | {} | {} | {} |", class.name(), if *unknown { "unknown" } else { "" }, cell(reason));
        }
        let engine: super::File = of(known, "engine.toml")?;
        for (id, sentence) in &engine.sentence {
            let _ = writeln!(self.text, "| {id} | by what is found | | {} |", cell(&sentence.en));
        }
        Ok(())
    }

    fn begin(&mut self, title: &str, what: &str) {
        let _ = write!(self.text, "\n## {title}\n\n| id | class | flags | {what} | reason |\n|---|---|---|---|---|\n");
    }

    fn row(&mut self, id: &str, class: Class, flags: [(bool, &str); 3], what: &str, reason: &str) {
        self.rules += 1;
        let flags: Vec<&str> = flags.iter().filter(|(holds, _)| *holds).map(|(_, name)| *name).collect();
        let _ = writeln!(self.text, "| {id} | {} | {} | {} | {} |", class.name(), flags.join(", "), cell(what), cell(reason));
    }
}

/// The one text of this name, in its own form.
fn of<T: DeserializeOwned>(texts: &[Named], name: &str) -> Result<T, Vec<Fault>> {
    let mut faults = Vec::new();
    let read = super::one(&super::sources(texts), name, |text| toml::from_str(text).map_err(|error| error.to_string()), &mut faults);
    read.ok_or(faults)
}

fn short_name(named: &Named) -> &str {
    named.name.rsplit('/').next().unwrap_or(&named.name)
}

fn deeds(deeds: &[Deed]) -> String {
    let name = |deed: &Deed| serde_json::to_value(deed).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default();
    deeds.iter().map(name).collect::<Vec<_>>().join(", ")
}

fn is_empty(value: &Value) -> bool {
    value.is_null() || value.as_object().is_some_and(|map| map.is_empty()) || value.as_array().is_some_and(Vec::is_empty)
}

/// The first of a list, and how many more there are.
fn shown(list: &[String]) -> String {
    let more = list.len().saturating_sub(SHOWN_MAX);
    let first: Vec<String> = list.iter().take(SHOWN_MAX).map(|text| quoted(text)).collect();
    format!("{}{}", first.join(", "), if more == 0 { String::new() } else { format!(" and {more} more") })
}

fn quoted(text: &str) -> String {
    let cut: String = text.chars().take(SHOWN_CHARS_MAX).collect();
    let end = if cut.len() < text.len() { "…" } else { "" };
    if cut.contains('`') { format!("`` {cut}{end} ``") } else { format!("`{cut}{end}`") }
}

/// A bar would end the cell, and a line the row.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::super::tests::shipped;

    #[test]
    fn the_page_of_rules_says_what_the_rules_say() {
        let page = super::table(&shipped("known"), &shipped("danger")).unwrap_or_else(|faults| panic!("{faults:#?}"));
        let kept = include_str!("../../../docs/RULES.md");
        assert!(page == kept, "make it anew: cargo run -p policy --example table > docs/RULES.md");
        assert!(page.lines().filter(|line| line.starts_with("| ")).count() > 300, "the page has lost its rules");
    }
}
