//! Tools that nobody described: what their names, their arguments and their servers' hints say.
//!
//! A name is split into words; its first verb says what it does, its nouns say to what. A name that only looks is Green unless
//! a word in it or an argument contradicts. A name without a verb is unknown. Arguments are judged by their shape
//! whatever the name is: addresses, paths, commands, programs, statements, recipients, money.

use super::arguments::{as_text, is_address};
use super::{Annotations, Bench, DEPTH_MAX};
use crate::http::Request;
use crate::{Class, Deed, Judgement, sql};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::HashMap;

/// Words, each in lower case and in the singular.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Text {
    /// Whole names whose words mislead.
    pub known_to_look: Vec<String>,
    /// Servers that are Gatehouse's own: their tools are those of the registry.
    pub own_servers: Vec<String>,
    /// Servers on which whatever changes is seen by other people.
    pub public_servers: Vec<String>,
    pub verbs: Verbs,
    pub nouns: Nouns,
    pub arguments: Arguments,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verbs {
    pub look: Vec<String>,
    pub change: Vec<String>,
    pub send: Vec<String>,
    pub pay: Vec<String>,
    pub buy: Vec<String>,
    pub delete: Vec<String>,
    pub run: Vec<String>,
    /// Changes that reach far: machines, installations, doors.
    pub power: Vec<String>,
    /// Those of the verbs that are also nouns: behind another verb they are what it is done to.
    pub also_nouns: Vec<String>,
    /// Those that arrange what one has already, so that nobody else notices.
    pub private: Vec<String>,
    /// Words between two verbs.
    pub joining: Vec<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nouns {
    /// A name that ends so and has no verb only looks.
    pub look: Vec<String>,
    pub money: Vec<String>,
    /// Behind a word for money these make it a thing about money.
    pub about_money: Vec<String>,
    /// What decides who may do what.
    pub access: Vec<String>,
    pub identity: Vec<String>,
    /// What other people see or get.
    pub people: Vec<String>,
    /// What holds much.
    pub big: Vec<String>,
    pub crowd: Vec<String>,
    /// What is not sent yet.
    pub draft: Vec<String>,
    /// Those of them that have recipients and do not reach them.
    pub unsent: Vec<String>,
    /// What is moved and is no money.
    pub things: Vec<String>,
    /// What is run and is no program.
    pub routines: Vec<String>,
    /// Words before a person who is not the thing that is changed.
    pub prepositions: Vec<String>,
    /// What must not even be seen, as the last word of a name; and words that make a key one of those.
    pub secret: Vec<String>,
    pub kinds_of_keys: Vec<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arguments {
    pub paths: Vec<String>,
    /// Arguments that hold a path when their value looks like one.
    pub perhaps_paths: Vec<String>,
    pub target_paths: Vec<String>,
    pub urls: Vec<String>,
    pub commands: Vec<String>,
    pub code: Vec<String>,
    pub statements: Vec<String>,
    /// Arguments whose value is a verb.
    pub actions: Vec<String>,
    pub recipients: Vec<String>,
    /// Arguments that hold a recipient when their value is an address of a person.
    pub perhaps_recipients: Vec<String>,
    pub amounts: Vec<String>,
    pub accounts: Vec<String>,
}

const LOOK: u32 = 1;
const CHANGE: u32 = 1 << 1;
const SEND: u32 = 1 << 2;
const PAY: u32 = 1 << 3;
const BUY: u32 = 1 << 4;
const DELETE: u32 = 1 << 5;
const RUN: u32 = 1 << 6;
const POWER: u32 = 1 << 7;
const VERBS: u32 = 0xff;
const ALSO_NOUN: u32 = 1 << 8;
const JOINING: u32 = 1 << 9;
const LOOK_NOUN: u32 = 1 << 10;
const MONEY: u32 = 1 << 11;
const ABOUT_MONEY: u32 = 1 << 12;
const ACCESS: u32 = 1 << 13;
const IDENTITY: u32 = 1 << 14;
const PEOPLE: u32 = 1 << 15;
const BIG: u32 = 1 << 16;
const CROWD: u32 = 1 << 17;
const DRAFT: u32 = 1 << 18;
const THING: u32 = 1 << 19;
const ROUTINE: u32 = 1 << 20;
const PREPOSITION: u32 = 1 << 21;
const PUBLIC: u32 = 1 << 22;
const SECRET: u32 = 1 << 23;
const KIND_OF_KEY: u32 = 1 << 24;
const PRIVATE: u32 = 1 << 25;
const UNSENT: u32 = 1 << 26;

const PATH: u32 = 1;
const PERHAPS_PATH: u32 = 1 << 1;
const TARGET_PATH: u32 = 1 << 2;
const URL: u32 = 1 << 3;
const COMMAND: u32 = 1 << 4;
const CODE: u32 = 1 << 5;
const STATEMENT: u32 = 1 << 6;
const RECIPIENT: u32 = 1 << 7;
const PERHAPS_RECIPIENT: u32 = 1 << 8;
const AMOUNT: u32 = 1 << 9;
const ACCOUNT: u32 = 1 << 10;
const ACTION: u32 = 1 << 11;

#[derive(Clone, Debug)]
pub struct Names {
    words: HashMap<String, u32>,
    arguments: HashMap<String, u32>,
    known_to_look: HashMap<String, ()>,
    own_servers: Vec<String>,
}

impl Names {
    pub fn compile(text: Text) -> Names {
        let mut words: HashMap<String, u32> = HashMap::new();
        let Text { known_to_look, own_servers, public_servers, verbs, nouns, arguments } = text;
        for (list, bit) in [
            (&verbs.look, LOOK),
            (&verbs.change, CHANGE),
            (&verbs.send, SEND),
            (&verbs.pay, PAY),
            (&verbs.buy, BUY),
            (&verbs.delete, DELETE),
            (&verbs.run, RUN),
            (&verbs.power, POWER),
            (&verbs.also_nouns, ALSO_NOUN),
            (&verbs.joining, JOINING),
            (&nouns.look, LOOK_NOUN),
            (&nouns.money, MONEY),
            (&nouns.about_money, ABOUT_MONEY),
            (&nouns.access, ACCESS),
            (&nouns.identity, IDENTITY),
            (&nouns.people, PEOPLE),
            (&nouns.big, BIG),
            (&nouns.crowd, CROWD),
            (&nouns.draft, DRAFT),
            (&nouns.unsent, UNSENT),
            (&nouns.things, THING),
            (&nouns.routines, ROUTINE),
            (&nouns.prepositions, PREPOSITION),
            (&nouns.secret, SECRET),
            (&nouns.kinds_of_keys, KIND_OF_KEY),
            (&verbs.private, PRIVATE),
            (&public_servers, PUBLIC),
        ] {
            list.iter().for_each(|word| *words.entry(folded(word)).or_default() |= bit);
        }
        let mut shapes: HashMap<String, u32> = HashMap::new();
        for (list, bit) in [
            (&arguments.paths, PATH),
            (&arguments.perhaps_paths, PERHAPS_PATH),
            (&arguments.target_paths, TARGET_PATH),
            (&arguments.urls, URL),
            (&arguments.commands, COMMAND),
            (&arguments.code, CODE),
            (&arguments.statements, STATEMENT),
            (&arguments.recipients, RECIPIENT),
            (&arguments.perhaps_recipients, PERHAPS_RECIPIENT),
            (&arguments.actions, ACTION),
            (&arguments.amounts, AMOUNT),
            (&arguments.accounts, ACCOUNT),
        ] {
            list.iter().for_each(|word| *shapes.entry(argument_word(word)).or_default() |= bit);
        }
        let known_to_look = known_to_look.into_iter().map(|name| (name, ())).collect();
        Names { words, arguments: shapes, known_to_look, own_servers }
    }

    /// The tool's own name, when the server before it is ours.
    pub fn without_own_server<'a>(&self, tool: &'a str) -> &'a str {
        match tool.split_once("__") {
            Some((server, name)) if self.own_servers.iter().any(|own| own == server) => name,
            _ => tool,
        }
    }

    pub fn is_path(&self, argument: &str, value: &str) -> bool {
        let shape = self.arguments.get(&argument_word(argument)).copied().unwrap_or_default();
        is_path(shape, value)
    }

    fn word(&self, word: &str) -> u32 {
        if let Some(bits) = self.words.get(word) {
            return *bits;
        }
        // Several of a thing are things: `updates` is no verb.
        let singular = ["ies", "es", "s"].iter().find_map(|ending| {
            let stem = word.strip_suffix(ending).filter(|stem| stem.len() >= 3)?;
            if *ending == "ies" { self.words.get(&format!("{stem}y")) } else { self.words.get(stem) }
        });
        singular.map_or(0, |bits| bits & !VERBS & !ALSO_NOUN)
    }

    /// The words of a name with what is known of each; the server before `__` apart.
    fn read(&self, tool: &str) -> (u32, Vec<(String, u32)>) {
        let name = tool.strip_prefix("mcp__").unwrap_or(tool);
        let (server, name) = name.split_once("__").filter(|(_, name)| !name.is_empty()).unwrap_or(("", name));
        let server = split(server).iter().fold(0, |bits, word| bits | self.word(word));
        let mut words: Vec<(String, u32)> =
            split(name).into_iter().take(WORDS_MAX).map(|word| (self.word(&word), word)).map(|(bits, word)| (word, bits)).collect();
        for at in 1..words.len() {
            if matches!(words[at].0.as_str(), "key" | "keys") && words[at - 1].1 & KIND_OF_KEY != 0 {
                words[at].1 |= ACCESS | SECRET;
            }
        }
        if !words.iter().any(|(_, bits)| bits & VERBS != 0) {
            words = words.into_iter().flat_map(|(word, bits)| self.unglued(word, bits)).collect();
        }
        (server, words)
    }

    /// `sendemail` is two words, when each is known.
    fn unglued(&self, word: String, bits: u32) -> Vec<(String, u32)> {
        if bits == 0 {
            for at in (3..word.len().saturating_sub(2)).filter(|at| word.is_char_boundary(*at)) {
                let (verb, noun) = word.split_at(at);
                let (first, second) = (self.word(verb), self.word(noun));
                if first & VERBS != 0 && second != 0 {
                    return vec![(verb.to_owned(), first), (noun.to_owned(), second)];
                }
            }
        }
        vec![(word, bits)]
    }
}

const WORDS_MAX: usize = 16;
/// Longer values are texts.
const ACTION_BYTES_MAX: usize = 60;

impl Bench<'_> {
    pub(super) fn foreign(&self, tool: &str, arguments: &Map<String, Value>, annotations: Annotations, found: &mut Judgement) {
        let names = &self.tools.names;
        let (server, words) = names.read(tool);
        let mut verb = self.verbs(server, &words, annotations, found);
        for (_, action) in arguments.iter().filter(|(name, _)| names.arguments.get(&argument_word(name)).is_some_and(|shape| shape & ACTION != 0)) {
            verb = self.action(action, server, &words, verb, found);
        }
        let mut shapes = Shapes::default();
        self.shapes("", &Value::Object(arguments.clone()), arguments, verb, 0, &mut shapes, found);
        let runs = verb == Some(RUN) || verb.is_none();
        if verb == Some(RUN) && !shapes.judged {
            let routine = words.iter().any(|(_, bits)| bits & ROUTINE != 0);
            self.tools.raise(found, if routine { "name.run" } else { "tool.unknown" });
        }
        if runs && shapes.judged {
            found.effect(Deed::Exec, tool);
        } else if verb.is_none() {
            self.tools.raise(found, "tool.unknown");
        }
        let changes = verb != Some(LOOK) || found.class > Class::Green;
        if changes && shapes.amount && (shapes.account || shapes.recipients > 0) {
            found.external = true;
            self.tools.raise(found, "name.pay");
            found.effect(Deed::Pay, tool);
        }
        let unsent = verb == Some(CHANGE) && words.iter().any(|(_, bits)| bits & UNSENT != 0);
        if changes && shapes.recipients > 0 && verb != Some(LOOK) && !unsent {
            found.external = true;
            self.tools.raise(found, "name.send");
        }
        if changes && shapes.recipients > self.tools.limits.recipients {
            found.external = true;
            self.tools.raise(found, "recipients.crowd");
        }
        if found.external {
            found.effect(Deed::Send, tool);
        }
    }

    /// A tool of many actions says in an argument which one: `calendar {action: "delete_event"}`. What the tool's own name says stays.
    fn action(&self, action: &Value, server: u32, words: &[(String, u32)], verb: Option<u32>, found: &mut Judgement) -> Option<u32> {
        let Some(action) = action.as_str().filter(|action| action.len() <= ACTION_BYTES_MAX && !action.trim().contains(char::is_whitespace)) else {
            return verb;
        };
        let lower = action.to_lowercase();
        let spelt = match lower.as_str() {
            "put" | "patch" | "post" => "update",
            "head" | "options" => "get",
            lower => lower,
        };
        let (_, mut whole) = self.tools.names.read(spelt);
        if head_of(&whole).is_none() {
            return verb;
        }
        whole.extend(words.iter().filter(|(_, bits)| bits & VERBS == 0 || bits & ALSO_NOUN != 0).map(|(word, bits)| (word.clone(), bits & !VERBS)));
        let said = self.verbs(server, &whole, Annotations::default(), found);
        match verb {
            Some(LOOK) | None => said,
            verb => verb,
        }
    }

    /// What the name says is done. `None` when it says nothing.
    fn verbs(&self, server: u32, words: &[(String, u32)], annotations: Annotations, found: &mut Judgement) -> Option<u32> {
        let mut say = |finding: &'static str, external: bool| {
            self.tools.raise(found, finding);
            found.external |= external;
        };
        if annotations.destructive_hint == Some(true) && annotations.read_only_hint != Some(true) {
            say("name.destructive", false);
        }
        let whole = words.iter().map(|(word, _)| word.as_str()).collect::<Vec<_>>().join("_");
        if self.tools.names.known_to_look.contains_key(&whole) {
            say("name.look", false);
            return Some(LOOK);
        }
        let Some(head) = head_of(words) else {
            let looks = words.last().is_some_and(|(_, bits)| bits & LOOK_NOUN != 0) || annotations.read_only_hint == Some(true);
            if looks {
                say("name.look", false);
            }
            return looks.then_some(LOOK);
        };
        // The name of a kind of answer, not of a deed: `git_log`, `pods_log`.
        if head > 0 && head + 1 == words.len() && words[head].1 & (ALSO_NOUN | LOOK_NOUN) == ALSO_NOUN | LOOK_NOUN {
            say("name.look", false);
            return Some(LOOK);
        }
        // `check in` and `check out` are no looking.
        let (first, second) = (words[head].0.as_str(), words.get(head + 1).map(|(word, _)| word.as_str()).unwrap_or_default());
        if first == "check" && matches!(second, "in" | "out") {
            say("name.change", false);
            return Some(CHANGE);
        }
        let has = |bit: u32| words.iter().any(|(_, bits)| bits & bit != 0);
        let own = words[head].1 & VERBS;
        let mut joined = false;
        let mut verbs = own;
        for (index, (_, bits)) in words.iter().enumerate().skip(head + 1) {
            let strict = bits & VERBS != 0 && bits & (ALSO_NOUN | LOOK) == 0;
            if strict || (joined && bits & VERBS != 0) {
                verbs |= bits & VERBS;
            }
            joined = bits & JOINING != 0 && index > head;
        }
        if verbs & !LOOK == 0 {
            say("name.look", false);
            let last = words.iter().rposition(|(word, _)| !matches!(word.as_str(), "value" | "by" | "id" | "name")).unwrap_or_default();
            if last > head && words[last].1 & SECRET != 0 && !matches!(words[head].0.as_str(), "list" | "search" | "count" | "check" | "validate" | "liste") {
                say("name.secret", false);
            }
            return Some(LOOK);
        }
        let public = server & PUBLIC != 0 || words.first().is_some_and(|(_, bits)| bits & PUBLIC != 0 && words.len() > 1);
        // A word is what the verb is done to, unless it names who it is done for, or is the verb.
        let object = |bit: u32| {
            words
                .iter()
                .enumerate()
                .any(|(index, (_, bits))| index != head && bits & bit != 0 && !(index > 0 && index > head && words[index - 1].1 & PREPOSITION != 0))
        };
        let money = words
            .iter()
            .enumerate()
            .any(|(index, (_, bits))| index != head && bits & MONEY != 0 && !words.iter().skip(index + 1).any(|(_, bits)| bits & ABOUT_MONEY != 0));
        let to_somebody = words.iter().skip(head).any(|(_, bits)| bits & PREPOSITION != 0);
        let people = object(PEOPLE) && !object(DRAFT) && words[head].1 & PRIVATE == 0;
        let mut strongest = LOOK;
        for verb in [CHANGE, SEND, RUN, POWER, BUY, DELETE, PAY].into_iter().filter(|verb| verbs & verb != 0) {
            strongest = verb;
            match verb {
                CHANGE if money => say("name.pay", true),
                CHANGE if object(ACCESS) => say("name.access", public),
                CHANGE if object(IDENTITY) && to_somebody => say("name.send", true),
                CHANGE if object(IDENTITY) => say("name.identity", public),
                CHANGE => say("name.change", public || people),
                SEND if money && !has(DRAFT) => say("name.pay", true),
                SEND if object(ACCESS) && !object(PEOPLE) => say("name.access", true),
                SEND if has(CROWD) => say("name.crowd", true),
                SEND if has(DRAFT) && own != SEND => say("name.change", false),
                SEND => say("name.send", true),
                PAY if object(ACCESS) && has(THING) => say("name.access", true),
                PAY if words[head].1 & ALSO_NOUN != 0 && has(THING) && !money => say("name.change", public),
                PAY => say("name.pay", true),
                BUY => say("name.buy", true),
                DELETE if object(BIG) => say("name.destroy", public),
                DELETE if money => say("name.pay", true),
                DELETE if object(ACCESS) => say("name.access", public),
                DELETE if object(IDENTITY) && to_somebody => say("name.delete", true),
                DELETE if object(IDENTITY) => say("name.access", true),
                DELETE => say("name.delete", public || object(CROWD)),
                POWER if object(ACCESS | IDENTITY) => say("name.access", public),
                POWER => say("name.power", public),
                // What it runs is judged where it is told.
                _ => {}
            }
        }
        found.effect(if strongest == DELETE { Deed::Delete } else { Deed::Change }, whole);
        Some(if verbs & RUN != 0 && strongest == RUN { RUN } else { strongest })
    }

    /// Every argument, by what its name and value look like.
    fn shapes(&self, key: &str, value: &Value, beside: &Map<String, Value>, verb: Option<u32>, depth: usize, shapes: &mut Shapes, found: &mut Judgement) {
        shapes.seen += 1;
        if depth > DEPTH_MAX + 4 || shapes.seen > VALUES_MAX {
            return self.tools.raise(found, "tool.deep");
        }
        let shape = if key.is_empty() { 0 } else { self.tools.names.arguments.get(&argument_word(key)).copied().unwrap_or_default() };
        match value {
            Value::Object(fields) => {
                let has_method = fields.contains_key("method") || fields.contains_key("httpMethod");
                for (name, value) in fields {
                    if has_method && matches!(name.as_str(), "url" | "uri" | "endpoint") && value.is_string() {
                        shapes.judged = true;
                        self.request(fields, value, found);
                    } else {
                        self.shapes(name, value, fields, verb, depth + 1, shapes, found);
                    }
                }
                if shape & RECIPIENT != 0 && !fields.is_empty() {
                    shapes.recipients += 1;
                }
            }
            Value::Array(items) => {
                if shape & COMMAND != 0 && items.iter().all(Value::is_string) && !items.is_empty() {
                    let line = items.iter().filter_map(Value::as_str).map(super::quoted).collect::<Vec<_>>().join(" ");
                    return self.shape(COMMAND, key, &line, beside, verb, shapes, found);
                }
                items.iter().for_each(|item| self.shapes(key, item, beside, verb, depth + 1, shapes, found));
            }
            Value::String(text) => self.shape(shape, key, text, beside, verb, shapes, found),
            Value::Number(_) => {
                shapes.amount |= shape & AMOUNT != 0;
                shapes.account |= shape & ACCOUNT != 0;
                shapes.recipients += usize::from(shape & RECIPIENT != 0);
            }
            Value::Bool(_) | Value::Null => {}
        }
    }

    #[allow(clippy::too_many_arguments, reason = "one leaf of one walk; a struct would only rename them")]
    fn shape(&self, shape: u32, key: &str, text: &str, beside: &Map<String, Value>, verb: Option<u32>, shapes: &mut Shapes, found: &mut Judgement) {
        let trimmed = text.trim();
        if trimmed.is_empty() {
            return;
        }
        shapes.amount |= shape & AMOUNT != 0;
        shapes.account |= shape & ACCOUNT != 0 || (shape & RECIPIENT != 0 && is_account(trimmed));
        if shape & RECIPIENT != 0 || (shape & PERHAPS_RECIPIENT != 0 && (verb == Some(SEND) || is_person(trimmed))) {
            shapes.recipients += trimmed.split([',', ';']).filter(|part| !part.trim().is_empty()).count();
        }
        if shape & COMMAND != 0 && (verb.is_none() || verb == Some(RUN) || trimmed.contains(' ')) {
            shapes.judged = true;
            let line = match beside.get("args") {
                Some(Value::Array(words)) if key != "args" => {
                    words.iter().filter_map(Value::as_str).fold(text.to_owned(), |line, word| format!("{line} {}", super::quoted(word)))
                }
                _ => text.to_owned(),
            };
            return found.join(self.shell.judge(&line, &self.cwd(beside), self.env_of(beside)));
        }
        if shape & STATEMENT != 0 && (sql::is_sql(text) || (verb == Some(RUN) && shape & (CODE | COMMAND) == 0 && argument_word(key) == "sql")) {
            shapes.judged = true;
            return sql::judge(text, found, &mut |found, finding| self.tools.raise(found, finding));
        }
        if shape & CODE != 0 && (verb.is_none() || verb == Some(RUN) || verb == Some(CHANGE)) {
            shapes.judged |= verb != Some(CHANGE);
            return self.code(&language(key, beside), text, found);
        }
        if shape & STATEMENT != 0 && verb == Some(RUN) {
            // A question in words to something that can be asked.
            shapes.judged = true;
            return self.tools.raise(found, "name.run");
        }
        if shape & URL != 0 && may_be_host(trimmed) {
            let full = if is_address(trimmed) || trimmed.starts_with("about:") { trimmed.to_owned() } else { format!("https://{trimmed}") };
            let inner = self.http.judge(&Request::get(&full));
            return found.join(inner);
        }
        if is_path(shape, trimmed) {
            if is_address(trimmed) {
                return found.join(self.http.judge(&Request::get(trimmed)));
            }
            let deed = match verb {
                Some(DELETE) => Deed::Delete,
                _ if shape & TARGET_PATH != 0 => Deed::Write,
                Some(LOOK | RUN | SEND) | None => Deed::Read,
                _ => Deed::Write,
            };
            match self.home_expanded(trimmed) {
                Some(path) => found.join(self.paths.judge(deed, &path, self.workspace)),
                None => self.file(deed, key, trimmed, found),
            }
        } else if trimmed.len() > 7
            && is_address(trimmed)
            && !trimmed.contains(char::is_whitespace)
            && (trimmed.starts_with("file:") || trimmed.contains("://"))
        {
            // An address in an argument of any name: only where it must not be reached does it matter.
            let inner = self.http.judge(&Request::get(trimmed));
            if trimmed.starts_with("file:") || (inner.class >= Class::Red && trimmed.starts_with("http") && !inner.unknown) {
                found.join(inner);
            }
        }
    }

    /// `~/a` means to such a tool the home of the user that it runs as.
    fn home_expanded(&self, path: &str) -> Option<String> {
        let rest = path.strip_prefix('~').filter(|rest| rest.is_empty() || rest.starts_with('/'))?;
        Some(format!("{}{rest}", crate::file::home_of(self.workspace)?))
    }
}

/// More values than a call has that a person would look through.
const VALUES_MAX: usize = 4096;

#[derive(Default)]
struct Shapes {
    seen: usize,
    recipients: usize,
    amount: bool,
    account: bool,
    /// A command, a program, a statement or a request was found and judged.
    judged: bool,
}

/// The verb of a name: the first one; but the first that is only a verb, when the ones before it are also nouns and stand alone.
fn head_of(words: &[(String, u32)]) -> Option<usize> {
    let first = words.iter().position(|(_, bits)| bits & VERBS != 0)?;
    if words[first].1 & ALSO_NOUN == 0 {
        return Some(first);
    }
    let strict = words.iter().skip(first + 1).position(|(_, bits)| bits & VERBS != 0 && bits & ALSO_NOUN == 0).map(|at| at + first + 1);
    Some(strict.unwrap_or(first))
}

/// Words of a name, in lower case: at joints, before capitals, around digits.
fn split(name: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let letters: Vec<char> = name.chars().take(NAME_CHARS_MAX).collect();
    for (at, letter) in letters.iter().enumerate() {
        let before = at.checked_sub(1).map(|at| letters[at]);
        let after = letters.get(at + 1);
        let begins = letter.is_uppercase()
            && (before.is_some_and(|before| before.is_lowercase() || before.is_numeric())
                || (before.is_some_and(char::is_uppercase) && after.is_some_and(|after| after.is_lowercase())));
        if begins || !letter.is_alphanumeric() {
            words.extend((!word.is_empty()).then(|| std::mem::take(&mut word)));
        }
        if letter.is_alphanumeric() {
            fold(*letter, &mut word);
        }
    }
    words.extend((!word.is_empty()).then_some(word));
    words
}

/// Lower case, and German letters as they are written without them.
fn fold(letter: char, word: &mut String) {
    match letter.to_lowercase().next() {
        Some('ä') => word.push_str("ae"),
        Some('ö') => word.push_str("oe"),
        Some('ü') => word.push_str("ue"),
        Some('ß') => word.push_str("ss"),
        _ => word.extend(letter.to_lowercase()),
    }
}

fn folded(word: &str) -> String {
    let mut plain = String::with_capacity(word.len());
    word.chars().for_each(|letter| fold(letter, &mut plain));
    plain
}

const NAME_CHARS_MAX: usize = 200;

/// The one spelling of an argument's name.
fn argument_word(name: &str) -> String {
    name.chars().filter(|letter| letter.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

fn is_path(shape: u32, value: &str) -> bool {
    let value = value.trim();
    if value.contains('\n') || value.len() > 4096 {
        return shape & (PATH | TARGET_PATH) != 0;
    }
    shape & (PATH | TARGET_PATH) != 0
        || (shape & PERHAPS_PATH != 0 && !value.contains("://") && (value.contains('/') || value.starts_with(['.', '~']) || value.contains("..")))
}

/// Whether a text without a scheme may name a host; `/a`, `#a` and `<a>` do not.
fn may_be_host(text: &str) -> bool {
    is_address(text) || text.starts_with("//") || text.starts_with("\\\\") || text.starts_with('[') || text.starts_with(|letter: char| letter.is_alphanumeric())
}

fn is_person(text: &str) -> bool {
    let at = text.split_once('@');
    at.is_some_and(|(_, domain)| domain.contains('.')) || text.starts_with(['@', '#', '+'])
}

/// An account as banks write it.
fn is_account(text: &str) -> bool {
    let plain: String = text.chars().filter(|letter| !letter.is_whitespace()).collect();
    (15..=34).contains(&plain.len())
        && plain.is_ascii()
        && plain.as_bytes()[..2].iter().all(u8::is_ascii_uppercase)
        && plain.as_bytes()[2..].iter().all(u8::is_ascii_alphanumeric)
        && plain.bytes().filter(u8::is_ascii_digit).count() > 8
}

fn language(key: &str, beside: &Map<String, Value>) -> String {
    let named = ["language", "lang", "runtime", "interpreter"].iter().find_map(|name| beside.get(*name)).map(as_text).unwrap_or_default();
    let word = if named.is_empty() { argument_word(key) } else { named.to_lowercase() };
    match word.as_str() {
        "js" | "javascript" | "node" | "nodejs" | "typescript" | "ts" | "expression" | "fn" | "function" | "pagefunction" => "javascript".to_owned(),
        "py" | "python" | "python3" | "ipython" => "python".to_owned(),
        other if named.is_empty() && !matches!(other, "ruby" | "perl" | "php" | "lua") => "python".to_owned(),
        other => other.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_have_words() {
        for (name, expected) in [
            ("get_unread_emails", vec!["get", "unread", "emails"]),
            ("createPullRequest", vec!["create", "pull", "request"]),
            ("list-events", vec!["list", "events"]),
            ("HTTPRequestSend", vec!["http", "request", "send"]),
            ("HassTurnOn", vec!["hass", "turn", "on"]),
            ("überweiseGeld", vec!["ueberweise", "geld"]),
            ("", vec![]),
        ] {
            assert_eq!(split(name), expected, "{name}");
        }
    }

    #[test]
    fn accounts_are_told_by_their_shape() {
        assert!(is_account("GB29 NWBK 6016 1331 9268 19") && is_account("US133000000121212121212"));
        assert!(!is_account("hello") && !is_account("GB29") && !is_account("ÄÖ29NWBK60161331926819"));
    }

    proptest! {
        #[test]
        fn nothing_panics(text in ".{0,80}") {
            let _ = (split(&text), argument_word(&text), is_person(&text), is_account(&text), may_be_host(&text), is_path(PATH | PERHAPS_PATH, &text));
        }
    }
}
