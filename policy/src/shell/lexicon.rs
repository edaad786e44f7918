//! Everything the shell reader looks things up in: programs, rules by program, verbs, names of the environment.

use super::argv::Reading;
use super::form::{Form, Places};
use super::program::Program;
use super::programs::Programs;
use crate::Class;
use crate::file::{Paths, Sets};
use crate::http::Http;
use crate::judgement::Deed;
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap};
use std::ops::Deref;
use std::sync::Arc;

/// What is known, with the rules of one law. What is known is shared.
#[derive(Clone, Debug)]
pub struct Lexicon {
    known: Arc<Known>,
    /// Rules on commands, and by program which of their forms, in order.
    pub rules: Vec<CommandRule>,
    by_program: HashMap<Box<str>, Vec<Place>>,
    /// Rules on what is done to paths.
    pub on_paths: Vec<PathRule>,
}

#[derive(Clone, Debug)]
pub struct Known {
    pub programs: Programs,
    pub verbs: Arc<HashMap<String, Verb>>,
    /// Variables whose value runs as a command, and those that load code into programs.
    pub environment: Arc<Environment>,
    pub paths: Arc<Paths>,
    pub http: Arc<Http>,
}

impl Deref for Lexicon {
    type Target = Known;

    fn deref(&self) -> &Known {
        &self.known
    }
}

#[derive(Clone, Debug)]
pub struct CommandRule {
    pub id: String,
    pub class: Class,
    pub external: bool,
    pub unknown: bool,
    forms: Box<[Form]>,
}

/// Which form of which rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    rule: u32,
    form: u32,
}

/// A rule on deeds, whichever command or tool does them.
#[derive(Clone, Debug)]
pub struct PathRule {
    pub id: String,
    pub class: Class,
    pub external: bool,
    pub deeds: Vec<Deed>,
    /// The path is in one of these, or fits one of the patterns.
    pub sets: Sets,
    pub patterns: Vec<PathPattern>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Look,
    Change,
    Destroy,
    Send,
    Pay,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verbs {
    pub look: Vec<String>,
    pub change: Vec<String>,
    pub destroy: Vec<String>,
    pub send: Vec<String>,
    pub pay: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Environment {
    /// Their value is a command that some program will run.
    #[serde(default)]
    pub commands: Vec<String>,
    /// They make programs load code or look for programs elsewhere. `*` at the end stands for anything.
    #[serde(default)]
    pub loading: Vec<String>,
    /// Those of them that list folders to search: one of the assistant's own among them is like running a file of its own.
    #[serde(default)]
    pub searched: Vec<String>,
    /// Folders of a home that people install programs of their own into.
    #[serde(default)]
    pub own_programs: Vec<String>,
    /// Values of the others that load nothing, word by word.
    #[serde(default)]
    pub plain: BTreeMap<String, Vec<String>>,
}

impl Lexicon {
    pub fn new(programs: Programs, paths: Paths, http: Http) -> Lexicon {
        let known = Known { programs, verbs: Arc::default(), environment: Arc::default(), paths: Arc::new(paths), http: Arc::new(http) };
        Lexicon { known: Arc::new(known), rules: Vec::new(), by_program: HashMap::new(), on_paths: Vec::new() }
    }

    /// The same knowledge without any rules.
    pub fn beside(&self) -> Lexicon {
        Lexicon { known: self.known.clone(), rules: Vec::new(), by_program: HashMap::new(), on_paths: Vec::new() }
    }

    /// The same law with descriptions of programs of its own: for what reads many of them once.
    pub fn apart(&self) -> Lexicon {
        Lexicon { known: Arc::new(Known { programs: self.known.programs.apart(), ..Known::clone(&self.known) }), ..self.clone() }
    }

    pub fn add_environment(&mut self, environment: &Environment) {
        let known = Arc::make_mut(&mut Arc::make_mut(&mut self.known).environment);
        known.commands.extend(environment.commands.iter().cloned());
        known.loading.extend(environment.loading.iter().cloned());
        known.searched.extend(environment.searched.iter().cloned());
        known.own_programs.extend(environment.own_programs.iter().cloned());
        known.plain.extend(environment.plain.clone());
    }

    pub fn rule(
        &mut self,
        id: &str,
        class: Class,
        external: bool,
        unknown: bool,
        commands: &[String],
        groups: &BTreeMap<String, Vec<String>>,
    ) -> Result<(), Vec<String>> {
        let index = u32::try_from(self.rules.len()).map_err(|_| vec!["too many rules".to_owned()])?;
        let mut forms = Vec::new();
        let mut faults = Vec::new();
        for command in commands {
            match Form::parse_command(command, groups) {
                Ok((programs, form)) => {
                    let place = Place { rule: index, form: u32::try_from(forms.len()).map_err(|_| vec!["too many forms".to_owned()])? };
                    for program in programs {
                        let known = self.by_program.entry(program.into()).or_default();
                        // A program may be listed by its name and by its group.
                        if known.last() != Some(&place) {
                            known.push(place);
                        }
                    }
                    forms.push(form);
                }
                Err(why) => faults.push(why),
            }
        }
        self.rules.push(CommandRule { id: id.to_owned(), class, external, unknown, forms: forms.into() });
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }

    /// No more rules will come.
    pub fn settle(&mut self) {
        self.by_program.values_mut().for_each(Vec::shrink_to_fit);
        self.rules.shrink_to_fit();
    }

    pub fn add_verbs(&mut self, verbs: &Verbs) {
        let known = Arc::make_mut(&mut Arc::make_mut(&mut self.known).verbs);
        // What is listed twice is the worse of the two.
        for (list, verb) in
            [(&verbs.look, Verb::Look), (&verbs.change, Verb::Change), (&verbs.send, Verb::Send), (&verbs.destroy, Verb::Destroy), (&verbs.pay, Verb::Pay)]
        {
            for word in list {
                known.insert(word.clone(), verb);
            }
        }
    }

    /// Rules of which a form for the program fits.
    pub fn rules_on(&self, program: &str, reading: &Reading<'_>, places: &dyn Places) -> Vec<&CommandRule> {
        let known = self.by_program.get(program).map_or(&[][..], Vec::as_slice);
        let fits = |forms: &[Place]| {
            let rule = &self.rules[forms[0].rule as usize];
            forms.iter().any(|place| rule.forms[place.form as usize].fits(reading, places)).then_some(rule)
        };
        known.chunk_by(|one, other| one.rule == other.rule).filter_map(fits).collect()
    }

    /// Names that some rule names.
    pub fn programs_with_rules(&self) -> impl Iterator<Item = &str> {
        self.by_program.keys().map(Box::as_ref)
    }

    pub fn has_rules(&self, program: &str) -> bool {
        self.by_program.contains_key(program)
    }

    /// The description of a program by the name it was called with; also of `python3.11`, `gcc-12`, `bash.real`. That a rule
    /// names it so takes nothing from what is known of it.
    pub fn program<'n>(&self, name: &'n str) -> (&'n str, Option<&Program>) {
        let known = |name: &str| self.programs.contains(name) || self.by_program.contains_key(name);
        if let Some(program) = self.programs.get(name) {
            return (name, Some(program));
        }
        for suffix in [".real", ".distrib", ".orig", "-real", ".exe"] {
            if let Some(stem) = name.strip_suffix(suffix)
                && known(stem)
            {
                return (stem, self.programs.get(stem));
            }
        }
        let stem = name.trim_end_matches(|c: char| c.is_ascii_digit() || matches!(c, '.' | '-'));
        if stem.len() < name.len() && !stem.is_empty() && known(stem) {
            return (stem, self.programs.get(stem));
        }
        (name, None)
    }

    /// The kind of a sub-command's word: `list`, `describe-instances`, `apps:destroy`.
    pub fn verb(&self, word: &str) -> Option<Verb> {
        if let Some(verb) = self.verbs.get(word) {
            return Some(*verb);
        }
        let mut found: Option<Verb> = None;
        for (index, piece) in word.split([':', '.', '/']).enumerate() {
            let verb = self.verbs.get(piece).copied().or_else(|| {
                let (first, rest) = piece.split_once(['-', '_'])?;
                self.verbs.get(first).copied().or_else(|| rest.rsplit(['-', '_']).next().and_then(|last| self.verbs.get(last).copied()))
            });
            if index > 0 || verb.is_some() {
                found = match (found, verb) {
                    (Some(Verb::Look), Some(worse)) => Some(worse),
                    (None, verb) => verb,
                    (found, _) => found,
                };
            }
        }
        found
    }
}

impl PathRule {
    /// For a path that is absolute or begins with `~`, by its parts and the sets that it is in.
    pub fn fits(&self, deed: Deed, parts: &[&str], sets: Sets) -> bool {
        self.deeds.contains(&deed) && (self.sets.meets(sets) || self.patterns.iter().any(|pattern| pattern.fits(parts)))
    }
}

/// `**` stands for any number of folders, `*` for anything in one name. A home may be written in any of its ways.
#[derive(Clone, Debug)]
pub struct PathPattern {
    parts: Vec<String>,
    home: bool,
    /// The name that the path must begin with, and the one that it must end with, when they hold no star.
    first: Option<String>,
    last: Option<String>,
}

impl PathPattern {
    pub fn new(text: &str) -> PathPattern {
        let parts: Vec<String> = text.split('/').map(str::to_owned).collect();
        let plain = |part: Option<&String>| part.filter(|part| !part.contains('*') && *part != "~").cloned();
        PathPattern {
            home: parts.first().is_some_and(|first| first == "~"),
            first: plain(parts.get(1)).filter(|_| parts.first().is_some_and(String::is_empty)),
            last: plain(parts.last()),
            parts,
        }
    }

    fn fits(&self, parts: &[&str]) -> bool {
        if self.last.as_ref().is_some_and(|last| parts.last() != Some(&last.as_str()))
            || self.first.as_ref().is_some_and(|first| parts.get(1) != Some(&first.as_str()))
        {
            return false;
        }
        if !self.home {
            return walk(&self.parts, parts);
        }
        match parts {
            ["~", rest @ ..] | ["", "home", _, rest @ ..] | ["", "root", rest @ ..] => walk(&self.parts[1..], rest),
            _ => false,
        }
    }
}

/// When what follows a `**` does not fit, only the last one is tried at the next folder: many of them cost no more than few.
fn walk(pattern: &[String], parts: &[&str]) -> bool {
    let (mut at, mut seen) = (0, 0);
    let mut any: Option<(usize, usize)> = None;
    loop {
        match (pattern.get(at), parts.get(seen)) {
            (Some(first), _) if first == "**" => {
                at += 1;
                any = Some((at, seen));
            }
            (None, None) => return true,
            (Some(first), Some(part)) if super::form::glob(first, part) => (at, seen) = (at + 1, seen + 1),
            _ => match any {
                Some((after, from)) if from < parts.len() => {
                    any = Some((after, from + 1));
                    (at, seen) = (after, from + 1);
                }
                _ => return false,
            },
        }
    }
}

impl Environment {
    pub fn runs(&self, name: &str) -> bool {
        self.commands.iter().any(|known| super::form::glob(known, name))
    }

    pub fn loads(&self, name: &str) -> bool {
        self.loading.iter().any(|known| super::form::glob(known, name))
    }

    /// Whether this value of a variable that could load something loads nothing.
    pub fn is_plain(&self, name: &str, value: &str) -> bool {
        let plain = |word: &str, known: &Vec<String>| known.iter().any(|known| super::form::glob(known, word));
        self.plain
            .get(name)
            .is_some_and(|known| !value.contains(['/', '\\']) && value.split_whitespace().all(|word| super::flow::exact(word) && plain(word, known)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_of_paths() {
        let fits = |pattern: &str, path: &str| PathPattern::new(pattern).fits(&path.split('/').collect::<Vec<_>>());
        for (pattern, path, expected) in [
            ("/a/**", "/a/b/c", true),
            ("/a/**", "/a", true),
            ("/**/c*", "/a/b/cd", true),
            ("/**/b/**/d", "/a/b/c/d", true),
            ("/**/b/**/d", "/a/c/d", false),
            ("/a/*", "/a/b/c", false),
            ("~/x/**", "/home/alice/x/y", true),
        ] {
            assert_eq!(fits(pattern, path), expected, "{pattern} {path}");
        }
        // Tried in every way, this would never end.
        assert!(!fits(&format!("{}/b*", "/**/a".repeat(30)), &"/a".repeat(400)));
    }
}
