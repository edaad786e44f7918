//! What a line has set so far: variables, functions, the folder it is in, files it has fetched.

use shuck_ast::Stmt;
use std::collections::HashMap;
use std::rc::Rc;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// One of these; more than one when it depends on the run.
    Some(Vec<String>),
    /// An array.
    List(Vec<String>),
}

/// A function's body, with the text that its spans point into.
#[derive(Clone, Debug)]
pub struct Function {
    pub body: Rc<Stmt>,
    pub source: Rc<str>,
}

#[derive(Clone, Debug, Default)]
pub struct Scope {
    variables: HashMap<String, Value>,
    pub functions: HashMap<String, Function>,
    /// `None` once the line has gone where nobody can tell.
    pub folder: Option<String>,
    /// Over 0 while it depends on the run whether the place is reached.
    pub maybe: u32,
    /// Files that came from the net in this line.
    pub fetched: Vec<String>,
    /// What the line has put into `IFS`.
    pub separators: String,
    /// Files that the line has written itself, with their text, so that running one is running the text.
    pub written: Vec<(String, Rc<str>)>,
    /// Functions that are being walked.
    pub calls: Vec<String>,
}

/// More alternatives than these are "anything".
const VALUES_MAX: usize = 8;
const VARIABLES_MAX: usize = 256;

impl Scope {
    pub fn new(folder: &str) -> Scope {
        Scope { folder: Some(folder.to_owned()), ..Scope::default() }
    }

    pub fn value(&self, name: &str) -> Option<Value> {
        self.variables.get(name).cloned()
    }

    pub fn set(&mut self, name: &str, value: Value) {
        if self.variables.len() >= VARIABLES_MAX && !self.variables.contains_key(name) {
            return;
        }
        let value = match (self.maybe > 0, self.variables.get(name), value) {
            // It may have kept what it was.
            (true, Some(Value::Some(before)), Value::Some(now)) => {
                let mut both = before.clone();
                both.extend(now.into_iter().filter(|text| !before.contains(text)));
                if both.len() > VALUES_MAX { unknown() } else { Value::Some(both) }
            }
            (true, Some(_), _) => unknown(),
            (_, _, Value::Some(texts)) if texts.len() > VALUES_MAX || texts.iter().any(|text| text.len() > super::words::WORD_BYTES_MAX) => unknown(),
            (_, _, value) => value,
        };
        self.variables.insert(name.to_owned(), value);
    }

    pub fn append(&mut self, name: &str, more: &[String]) {
        let before = match self.variables.get(name) {
            Some(Value::Some(texts)) => texts.clone(),
            Some(Value::List(_)) => vec![super::words::UNKNOWN.to_string()],
            None => vec![String::new()],
        };
        let joined = before.iter().flat_map(|first| more.iter().map(move |second| format!("{first}{second}"))).collect();
        self.set(name, Value::Some(joined));
    }

    pub fn changed_since(&self, before: &Scope) -> bool {
        self.variables != before.variables || self.folder != before.folder || self.functions.len() != before.functions.len()
    }

    /// Remembers what a file holds; `added` to what it held before.
    pub fn write(&mut self, path: &str, text: &str, added: bool) {
        const WRITTEN_MAX: usize = 16;
        const WRITTEN_BYTES_MAX: usize = 16 * 1024;
        let before = self.written.iter().position(|(known, _)| known == path).map(|index| self.written.swap_remove(index).1);
        let text: Rc<str> = match before {
            Some(before) if added => Rc::from(format!("{before}{text}")),
            _ => Rc::from(text),
        };
        if self.written.len() < WRITTEN_MAX && text.len() <= WRITTEN_BYTES_MAX {
            self.written.push((path.to_owned(), text));
        }
    }

    /// The text of a file that the line has written.
    pub fn text_of(&self, path: &str) -> Option<Rc<str>> {
        let plain = |path: &str| path.trim_start_matches("./").to_owned();
        self.written.iter().find(|(known, _)| known == path || plain(known) == plain(path)).map(|(_, text)| Rc::clone(text))
    }

    pub fn forget(&mut self, name: &str) {
        self.variables.remove(name);
    }

    /// The positional parameters of a script or function.
    pub fn arguments(&mut self, arguments: &[String]) {
        for number in 1..=9_usize {
            let value = arguments.get(number - 1).map_or(Value::Some(vec![String::new()]), |text| Value::Some(vec![text.clone()]));
            self.variables.insert(number.to_string(), value);
        }
        for all in ["@", "*"] {
            self.variables.insert(all.to_owned(), Value::List(arguments.to_vec()));
        }
    }
}

pub fn unknown() -> Value {
    Value::Some(vec![super::words::UNKNOWN.to_string()])
}
