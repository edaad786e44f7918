//! What is known of programs: how to read their arguments, and which of their forms only look.
//!
//! Knowledge, not judgement: what is dangerous about a form is a rule's business. Entries come from several texts and
//! are united by name, so that one text may tell of a program's reading and another of its ways to run something else.

use super::form::{Form, Pool};
use crate::Class;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// As written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Written {
    #[serde(default)]
    pub names: Vec<String>,
    /// Of a sub-command: its words.
    pub name: Option<String>,
    pub base: Option<Class>,
    pub operands: Option<Roles>,
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    #[serde(default)]
    pub green: Vec<String>,
    #[serde(default)]
    pub yellow: Vec<String>,
    #[serde(default)]
    pub verbs: bool,
    #[serde(default)]
    pub single_dash: bool,
    pub language: Option<String>,
    #[serde(default)]
    pub privilege: bool,
    #[serde(default)]
    pub remote: bool,
    pub stdin: Option<String>,
    #[serde(default)]
    pub subject: bool,
    #[serde(default)]
    pub sub: Vec<Written>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Roles {
    One(String),
    Each(Vec<String>),
}

/// What an operand or an option's value is to the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Data,
    Read,
    Write,
    Delete,
    Change,
    Upload,
    Url,
    Host,
    Exec,
    Argv,
    /// As `Argv`, for operands that are joined into a shell line.
    Shell,
    Code,
    Script,
    /// All read, the last written.
    Copy,
    /// All deleted, the last written.
    Move,
    Raise(Class),
    /// Makes the whole run a look.
    Green,
}

impl Role {
    fn parse(text: &str) -> Option<Role> {
        Some(match text {
            "" => Role::Data,
            "read" => Role::Read,
            "write" => Role::Write,
            "delete" => Role::Delete,
            "change" => Role::Change,
            "upload" => Role::Upload,
            "url" => Role::Url,
            "host" => Role::Host,
            "exec" => Role::Exec,
            "argv" => Role::Argv,
            "shell" => Role::Shell,
            "code" => Role::Code,
            "script" => Role::Script,
            "copy" => Role::Copy,
            "move" => Role::Move,
            "green" => Role::Green,
            other => Role::Raise(Class::parse(other)?),
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    Nothing,
    Value,
    /// Only when attached.
    Attached,
}

#[derive(Clone, Copy, Debug)]
pub struct OptionRole {
    pub takes: Takes,
    pub role: Role,
}

#[derive(Clone, Debug, Default)]
pub struct Program {
    pub base: Option<Class>,
    pub operands: Option<Vec<Role>>,
    pub options: Options,
    pub green: Vec<Form>,
    pub yellow: Vec<Form>,
    pub verbs: bool,
    pub single_dash: bool,
    pub language: Option<String>,
    pub privilege: bool,
    pub remote: bool,
    /// It runs what comes on its standard input.
    pub reads_commands: bool,
    /// By their words, one space between them. Spellings of one sub-command share its description.
    pub subs: Vec<(Box<str>, Arc<Program>)>,
}

/// By their names, in order: most programs have few, and there are thousands of programs.
#[derive(Clone, Debug, Default)]
pub struct Options(Vec<(Arc<str>, OptionRole)>);

impl Options {
    pub fn get(&self, name: &str) -> Option<&OptionRole> {
        self.place(name).ok().map(|index| &self.0[index].1)
    }

    /// What is known of the option; `said` when nothing is.
    fn entry(&mut self, name: &str, said: OptionRole, pool: &mut Pool) -> &mut OptionRole {
        let index = self.place(name).unwrap_or_else(|index| {
            self.0.insert(index, (pool.name(name), said));
            index
        });
        &mut self.0[index].1
    }

    fn place(&self, name: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(known, _)| (**known).cmp(name))
    }
}

impl Program {
    /// The role of the operand at `index`; the last role repeats.
    pub fn operand(&self, index: usize) -> Role {
        match self.operands.as_deref() {
            None | Some([]) => Role::Data,
            Some(roles) => roles[index.min(roles.len() - 1)],
        }
    }

    /// Unites what `written` says with what is known already. `Err` lists what contradicts.
    pub fn learn(&mut self, written: &Written, pool: &mut Pool) -> Result<(), Vec<String>> {
        let mut faults = Vec::new();
        agree("base", &mut self.base, written.base, &mut faults);
        agree("language", &mut self.language, written.language.clone(), &mut faults);
        if let Some(roles) = &written.operands {
            let texts = match roles {
                Roles::One(role) => std::slice::from_ref(role),
                Roles::Each(roles) => roles,
            };
            let mut parsed = Vec::new();
            for text in texts {
                match Role::parse(text) {
                    Some(role) => parsed.push(role),
                    None => faults.push(format!("there is no role `{text}`")),
                }
            }
            agree("operands", &mut self.operands, Some(parsed), &mut faults);
        }
        for (spellings, role) in &written.options {
            let Some(role) = Role::parse(role) else {
                faults.push(format!("there is no role `{role}` (option `{spellings}`)"));
                continue;
            };
            for spelling in spellings.split_whitespace() {
                let (name, takes) = match (spelling.strip_suffix('='), spelling.strip_suffix('?')) {
                    // `-?` alone is an option called `-?`.
                    _ if spelling.len() <= 2 => (spelling, Takes::Nothing),
                    (Some(name), _) => (name, Takes::Value),
                    (_, Some(name)) => (name, Takes::Attached),
                    _ => (spelling, Takes::Nothing),
                };
                if !name.starts_with(['-', '+', '/']) {
                    faults.push(format!("the option `{spelling}` does not begin with a dash"));
                    continue;
                }
                let known = self.options.entry(name, OptionRole { takes, role }, pool);
                // Where two texts differ, the one that says more about danger holds; a value is never lost.
                if known.role == Role::Data {
                    known.role = role;
                }
                if known.takes == Takes::Nothing {
                    known.takes = takes;
                }
            }
        }
        for (forms, texts) in [(&mut self.green, &written.green), (&mut self.yellow, &written.yellow)] {
            for text in texts {
                match pool.form(text) {
                    Ok(form) => forms.push(form),
                    Err(why) => faults.push(why),
                }
            }
        }
        self.verbs |= written.verbs;
        self.single_dash |= written.single_dash;
        self.privilege |= written.privilege;
        self.remote |= written.remote;
        self.reads_commands |= written.stdin.is_some();
        for sub in &written.sub {
            let words: Vec<String> = sub.name.as_deref().unwrap_or_default().split_whitespace().map(str::to_owned).collect();
            if words.is_empty() {
                faults.push("a sub-command has no `name`".to_owned());
                continue;
            }
            if words.iter().map(|word| word.split('|').count()).product::<usize>() > SPELLINGS_MAX {
                faults.push(format!("the sub-command `{}` has too many spellings; write it as several", words.join(" ")));
                continue;
            }
            let mut fresh: Option<Arc<Program>> = None;
            for words in alternatives(&words) {
                let learnt = match (self.subs.iter_mut().find(|(known, _)| **known == *words), &fresh) {
                    (Some((_, known)), _) => Arc::make_mut(known).learn(sub, pool),
                    (None, Some(fresh)) => {
                        self.subs.push((words.as_str().into(), fresh.clone()));
                        Ok(())
                    }
                    (None, None) => {
                        let mut described = Program::default();
                        let learnt = described.learn(sub, pool);
                        self.subs.push((words.as_str().into(), fresh.insert(Arc::new(described)).clone()));
                        learnt
                    }
                };
                if let Err(more) = learnt {
                    faults.extend(more.into_iter().map(|fault| format!("`{words}`: {fault}")));
                }
            }
        }
        self.shrink();
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }

    /// What was learnt stays: nothing is kept for more.
    fn shrink(&mut self) {
        self.options.0.shrink_to_fit();
        self.green.shrink_to_fit();
        self.yellow.shrink_to_fit();
        self.subs.shrink_to_fit();
    }

    /// The sub-command whose words the operands are.
    pub fn sub(&self, operands: &[super::words::Text]) -> Option<&Program> {
        let are = |words: &str| words.split(' ').eq(operands.iter().map(super::words::Text::as_str));
        self.subs.iter().find(|(words, _)| are(words)).map(|(_, program)| &**program)
    }
}

/// More spellings of one sub-command are a slip of the pen.
const SPELLINGS_MAX: usize = 256;

/// `rm|remove` in a sub-command's name stands for either.
fn alternatives(words: &[String]) -> Vec<String> {
    let (first, rest) = words.split_first().map_or(("", words), |(first, rest)| (first, rest));
    rest.iter().fold(first.split('|').map(str::to_owned).collect(), |all, word| {
        all.iter().flat_map(|done: &String| word.split('|').map(move |one| format!("{done} {one}"))).collect()
    })
}

fn agree<T: PartialEq + std::fmt::Debug>(what: &str, known: &mut Option<T>, said: Option<T>, faults: &mut Vec<String>) {
    match (&known, said) {
        (_, None) => {}
        (None, said) => *known = said,
        (Some(known), Some(said)) if *known == said => {}
        (Some(known), Some(said)) => faults.push(format!("`{what}` is {known:?} in one place and {said:?} in another")),
    }
}
