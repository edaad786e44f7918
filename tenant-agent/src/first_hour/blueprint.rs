//! Templates for the first hour, as data: what is done in which order, in both languages.
//!
//! A step either writes files with words that stand in the template, or sets the assistant a task and names the files that are
//! there when it is done. A template decides nothing: every call that it leads to passes the gate like any other.

use anyhow::{Context, bail, ensure};
use policy::Sentence;
use policy::bundle::Named;
use serde::{Deserialize, Serialize};
use service::text::Language;
use std::path::{Component, Path};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Blueprint {
    pub id: String,
    pub title: Sentence,
    pub about: Sentence,
    pub step: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    pub id: String,
    pub title: Sentence,
    /// Written as they stand, unless something of the same name is there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub file: Vec<Text>,
    /// What the assistant is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ask: Option<Sentence>,
    /// The files that are there when it has done that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expects: Option<Expected>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Text {
    /// Within the assistant's workspace.
    pub path: Sentence,
    pub text: Sentence,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    pub de: Vec<String>,
    pub en: Vec<String>,
}

/// A first hour that nobody finishes in one is none.
const STEPS_MAX: usize = 12;
const FILES_MAX: usize = 12;
const TEXT_BYTES_MAX: usize = 16 * 1024;
/// On one page.
const BLUEPRINTS_MAX: usize = 24;

const BUILT_IN: [(&str, &str); 4] = [
    ("freelancer.toml", include_str!("../../templates/freelancer.toml")),
    ("agency.toml", include_str!("../../templates/agency.toml")),
    ("e_commerce.toml", include_str!("../../templates/e_commerce.toml")),
    ("consulting.toml", include_str!("../../templates/consulting.toml")),
];

/// One language of a sentence.
pub fn said(sentence: &Sentence, language: Language) -> &str {
    match language {
        Language::De => &sentence.de,
        Language::En => &sentence.en,
    }
}

impl Step {
    /// The files that are there when the assistant has done its task.
    pub fn expected(&self, language: Language) -> &[String] {
        match (&self.expects, language) {
            (None, _) => &[],
            (Some(expected), Language::De) => &expected.de,
            (Some(expected), Language::En) => &expected.en,
        }
    }
}

/// Those that come with this agent, and the company's: one of the same id takes the place of ours.
pub fn all(workflows: &[Named]) -> Vec<Blueprint> {
    let ours = BUILT_IN.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
    let theirs = workflows.iter().map(|named| (named.name.clone(), named.text.clone()));
    let mut found: Vec<Blueprint> = Vec::new();
    for (name, text) in ours.chain(theirs) {
        match read(&text) {
            Ok(blueprint) => match found.iter_mut().find(|known| known.id == blueprint.id) {
                Some(known) => *known = blueprint,
                None => found.push(blueprint),
            },
            Err(error) => tracing::warn!(file = name, error = format!("{error:#}"), "a template cannot be used"),
        }
    }
    found.truncate(BLUEPRINTS_MAX);
    found
}

pub fn read(text: &str) -> anyhow::Result<Blueprint> {
    let blueprint: Blueprint = toml::from_str(text).context("it is no template")?;
    let Blueprint { id, step: steps, .. } = &blueprint;
    ensure!(is_id(id), "`id` is small letters, digits and underscores");
    ensure!((1..=STEPS_MAX).contains(&steps.len()), "it has no step, or more than {STEPS_MAX}");
    for step in steps {
        let within = || format!("step `{}`", step.id);
        ensure!(is_id(&step.id) && steps.iter().filter(|other| other.id == step.id).count() == 1, "{}: its id is none, or stands twice", within());
        match (&step.ask, step.file.len()) {
            (Some(ask), 0) => ensure!(is_short(ask) && step.expects.is_some(), "{}: a task says what is there when it is done", within()),
            (None, 1..=FILES_MAX) => ensure!(step.expects.is_none(), "{}: what is written needs no `expects`", within()),
            _ => bail!("{}: it either writes some files or sets a task", within()),
        }
        let paths =
            step.file.iter().flat_map(|file| [&file.path.de, &file.path.en]).chain([Language::De, Language::En].into_iter().flat_map(|l| step.expected(l)));
        for path in paths {
            ensure!(is_inside(path), "{}: `{path}` does not lie in the workspace", within());
        }
        ensure!(step.file.iter().all(|file| is_short(&file.text)), "{}: a text is empty or too long", within());
    }
    ensure!([&blueprint.title, &blueprint.about].into_iter().chain(steps.iter().map(|step| &step.title)).all(is_short), "a title is empty or too long");
    Ok(blueprint)
}

fn is_id(id: &str) -> bool {
    (1..=40).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

fn is_short(sentence: &Sentence) -> bool {
    [&sentence.de, &sentence.en].into_iter().all(|text| !text.trim().is_empty() && text.len() <= TEXT_BYTES_MAX)
}

fn is_inside(path: &str) -> bool {
    !path.is_empty() && path.len() <= 200 && Path::new(path).components().all(|part| matches!(part, Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_with_the_agent_is_whole_in_both_languages() {
        for (name, text) in BUILT_IN {
            let blueprint = read(text).unwrap_or_else(|error| panic!("{name}: {error:#}"));
            assert_eq!(format!("{}.toml", blueprint.id), name);
            assert_eq!(blueprint.step.len(), 4, "{name}");
        }
    }

    #[test]
    fn a_company_adds_templates_and_takes_the_place_of_ours() {
        let own = BUILT_IN[0].1.replace("Freelancer", "Lone wolf");
        let more = BUILT_IN[1].1.replace("id = \"agency\"", "id = \"bakery\"");
        let named = |name: &str, text: &str| Named { name: name.to_owned(), text: text.to_owned() };
        let found = all(&[named("workflows/a.toml", &own), named("workflows/b.toml", &more), named("workflows/other.toml", "steps = 3\n")]);
        let ids: Vec<&str> = found.iter().map(|blueprint| blueprint.id.as_str()).collect();
        assert_eq!(ids, ["freelancer", "agency", "e_commerce", "consulting", "bakery"]);
        assert_eq!(found[0].title.en, "Lone wolf");
    }

    #[test]
    fn nothing_leads_out_of_the_workspace() {
        let with = |path: &str| {
            read(&format!(
                "id = \"a\"\ntitle = {{ de = \"d\", en = \"e\" }}\nabout = {{ de = \"d\", en = \"e\" }}\n[[step]]\nid = \"b\"\ntitle = {{ de = \"d\", en = \"e\" }}\n\
                 [[step.file]]\npath = {{ de = \"{path}\", en = \"notes.md\" }}\ntext = {{ de = \"d\", en = \"e\" }}\n"
            ))
        };
        assert!(with("a/b.md").is_ok());
        for path in ["", "/tmp/b.md", "../b.md", "a/../../b.md", "a/..", "."] {
            assert!(with(path).is_err(), "{path}");
        }
    }
}
