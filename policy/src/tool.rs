//! What a call of any tool does: the registry of known tools, and for all others what their names and arguments say.
//!
//! A known tool is described in `rules/known/registry.toml`: every argument and what judges it (a shell line, a path, an address, code),
//! and rules by action. An argument that nobody described makes a call unreadable. Tools of other people are read by
//! [`name`]. Calls inside calls are followed to a bounded depth.

mod arguments;
mod name;
mod typed;

use crate::fault::{self, Fault, RulesError};
use crate::file::Paths;
use crate::http::{Http, Request};
use crate::{Call, Class, Deed, Judgement, Sentence};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, HashMap};

/// Who reads shell lines and programs. `cwd` is where the line runs, `env` what is set for it.
pub trait Shell {
    fn judge(&self, line: &str, cwd: &str, env: &Map<String, Value>) -> Judgement;
    fn code(&self, language: &str, source: &str) -> Judgement;
}

/// What a server of tools says about a tool of its own. Nobody checked it: it may raise, and help where a name says nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Annotations {
    #[serde(default)]
    pub read_only_hint: Option<bool>,
    #[serde(default)]
    pub destructive_hint: Option<bool>,
    #[serde(default)]
    pub open_world_hint: Option<bool>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Text {
    pub tool: BTreeMap<String, Tool>,
    pub rule: Vec<RuleText>,
    /// Sentences for what is found by the program itself.
    pub finding: BTreeMap<String, Sentence>,
    pub env: Env,
    pub limits: Limits,
    pub names: name::Text,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tool {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    /// Arguments that somebody judges ([`Role`]), and all others that the tool is known to take.
    #[serde(default)]
    pub arguments: BTreeMap<String, Role>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub data: Vec<String>,
    /// Arguments without which nobody knows what the call does; `a|b` is one of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub required: Vec<String>,
    /// Arguments that only change how the call looks or how long it is waited for; they are no part of its digest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub presentation: Vec<String>,
    /// The tool takes a path as it is written. Others look for a file of a similar name when there is none of this one.
    #[serde(default)]
    pub literal: bool,
}

/// What an argument is, and so who judges it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    Data,
    Shell,
    Env,
    Workdir,
    Read,
    Write,
    Delete,
    /// A path whose content leaves, or an address whose content is passed on.
    Attach,
    /// A path or an address that is read.
    Look,
    Url,
    /// An address that a browser on this machine opens.
    Page,
    /// An address with `method`, `headers` and `body` beside it.
    Http,
    /// An address that is sent something.
    Webhook,
    Patch,
    /// Text, names of keys and bytes that are typed into a running program.
    Typed,
    Keys,
    Hex,
    /// Text that a program reads from its standard input.
    Stdin,
    Javascript,
    Python,
    /// An object whose fields stand for arguments of the same tool.
    Request,
    /// A list of such objects.
    Requests,
    /// The arguments of another tool, named by `id`.
    Call,
    /// What runs later, and where its result goes.
    Job,
    /// Who gets it: many at once are a crowd.
    Recipients,
    /// What another machine is to run, named by `invokeCommand`.
    Invoke,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleText {
    pub id: String,
    pub tools: Vec<String>,
    #[serde(default)]
    pub when: When,
    pub class: Class,
    #[serde(default)]
    pub external: bool,
    #[serde(default)]
    pub unknown: bool,
    /// A person is asked at every level: the call is the question.
    #[serde(default)]
    pub asks: bool,
    pub reason: Sentence,
    /// `tool`, or `tool {"argument": …}`.
    #[serde(rename = "match")]
    pub matching: Vec<String>,
    #[serde(default)]
    pub not_match: Vec<String>,
}

/// Every condition that is named must hold.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct When {
    /// Each named argument has one of these values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub arguments: BTreeMap<String, Vec<Value>>,
    /// Each named argument is there and has none of these values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub other: BTreeMap<String, Vec<Value>>,
    /// None of these is there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub absent: Vec<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Env {
    /// Names that make programs load or run something; `*` at the end for all that begin so.
    pub dangerous: Vec<String>,
    pub harmless: Vec<String>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// More recipients than this are a crowd.
    pub recipients: usize,
}

/// What the program finds by itself, and how dangerous that is at least. The sentences are data.
pub(crate) const FINDINGS: &[(&str, Class, bool)] = &[
    ("tool.unknown", Class::Red, true),
    ("tool.arguments", Class::Red, true),
    ("tool.argument", Class::Red, true),
    ("tool.call", Class::Red, true),
    ("tool.deep", Class::Red, true),
    ("exec.env", Class::Red, false),
    ("exec.env.other", Class::Yellow, false),
    ("exec.workdir", Class::Yellow, false),
    ("process.partial", Class::Red, true),
    ("process.keys", Class::Red, true),
    ("process.typed", Class::Yellow, false),
    ("exec.stdin", Class::Yellow, false),
    ("secret.file", Class::Red, true),
    ("patch.unreadable", Class::Red, true),
    ("recipients.crowd", Class::Red, false),
    ("job.script", Class::Red, false),
    ("job.webhook", Class::Yellow, false),
    ("job.unreadable", Class::Red, true),
    ("node.runs", Class::Red, false),
    ("code.runs", Class::Yellow, false),
    ("sql.look", Class::Green, false),
    ("sql.change", Class::Yellow, false),
    ("sql.delete", Class::Red, false),
    ("sql.destroy", Class::CriticalRed, false),
    ("sql.access", Class::CriticalRed, false),
    ("sql.escape", Class::Red, false),
    ("sql.unreadable", Class::Red, true),
    ("name.look", Class::Green, false),
    ("name.change", Class::Yellow, false),
    ("name.run", Class::Yellow, false),
    ("name.send", Class::Yellow, false),
    ("name.crowd", Class::Red, false),
    ("name.pay", Class::CriticalRed, false),
    ("name.buy", Class::Red, false),
    ("name.delete", Class::Red, false),
    ("name.destroy", Class::CriticalRed, false),
    ("name.access", Class::CriticalRed, false),
    ("name.identity", Class::Red, false),
    ("name.power", Class::Red, false),
    ("name.secret", Class::Red, false),
    ("name.destructive", Class::Red, false),
];

/// Calls that are at least this under any text of rules; the last column: something leaves to other people.
const FLOOR: &[(&str, &str, Class, bool)] = &[
    ("exec", "{\"command\":\"a\",\"elevated\":true}", Class::CriticalRed, false),
    ("exec", "{\"command\":\"a\",\"host\":\"node\"}", Class::CriticalRed, false),
    ("exec", "{\"command\":\"a\",\"ask\":\"off\"}", Class::CriticalRed, false),
    ("process", "{\"action\":\"write\",\"data\":\"a\"}", Class::Yellow, false),
    ("write", "{\"path\":\"a\"}", Class::Yellow, false),
    ("message", "{\"action\":\"send\"}", Class::Yellow, true),
    ("send_mail", "{\"to\":\"a@example.org\"}", Class::Yellow, true),
    ("conversations_send", "{}", Class::Yellow, true),
    ("github_publish", "{}", Class::Yellow, true),
    ("browser", "{\"action\":\"act\",\"kind\":\"click\"}", Class::Yellow, true),
    ("browser", "{\"action\":\"act\",\"kind\":\"evaluate\"}", Class::Red, true),
    ("browser", "{\"action\":\"importprofile\"}", Class::CriticalRed, false),
    ("automations", "{\"action\":\"add\"}", Class::Yellow, false),
    ("gateway", "{\"action\":\"update.run\"}", Class::CriticalRed, false),
    ("openclaw", "{}", Class::CriticalRed, false),
    ("plugins", "{\"action\":\"disable\"}", Class::CriticalRed, false),
    ("plugins", "{\"action\":\"install\"}", Class::CriticalRed, false),
    ("secrets", "{\"action\":\"delete\"}", Class::CriticalRed, false),
    ("nodes", "{\"action\":\"approve\"}", Class::CriticalRed, false),
    ("nodes", "{\"action\":\"invoke\"}", Class::Red, false),
    ("computer", "{\"action\":\"left_click\"}", Class::Red, true),
    ("portal", "{\"action\":\"open\"}", Class::Red, false),
];

#[derive(Clone, Debug)]
pub struct Tools {
    tools: HashMap<String, Tool>,
    aliases: HashMap<String, String>,
    rules: Vec<RuleText>,
    by_tool: HashMap<String, Vec<usize>>,
    findings: HashMap<&'static str, (Class, bool)>,
    sentences: HashMap<String, Sentence>,
    env: Env,
    limits: Limits,
    names: name::Names,
}

impl Tools {
    pub fn parse(text: &str) -> Result<Tools, RulesError> {
        fault::read("registry.toml", text, Tools::compile)
    }

    pub fn compile(text: Text) -> Result<Tools, Vec<Fault>> {
        let Text { mut tool, rule: rules, finding: mut sentences, env, limits, names } = text;
        let mut faults = Vec::new();
        for (name, tool) in &mut tool {
            for argument in std::mem::take(&mut tool.data) {
                if tool.arguments.insert(argument.clone(), Role::Data).is_some() {
                    faults.push(Fault::new(name, format!("says twice what `{argument}` is"), "keep it in one of the lists"));
                }
            }
        }
        for (id, sentence) in &sentences {
            faults.extend(fault::of_sentence(id, sentence));
            if !FINDINGS.iter().any(|(known, ..)| known == id) {
                faults.push(Fault::new(id, "is found by nobody", "take the sentence out"));
            }
        }
        for (id, ..) in FINDINGS.iter().filter(|(id, ..)| !sentences.contains_key(*id)) {
            faults.push(Fault::new(id, "has no sentence", "write it under [finding] in both languages"));
        }
        let mut aliases = HashMap::new();
        for (name, tool) in &tool {
            for alias in &tool.aliases {
                if aliases.insert(alias.clone(), name.clone()).is_some() || tool.aliases.contains(name) {
                    faults.push(Fault::new(alias, "stands for two tools", "keep one of them"));
                }
            }
            for argument in tool.presentation.iter().filter(|argument| tool.arguments.contains_key(*argument)) {
                faults.push(Fault::new(name, format!("says twice what `{argument}` is"), "keep it in one of the lists"));
            }
        }
        let mut by_tool: HashMap<String, Vec<usize>> = HashMap::new();
        for (index, rule) in rules.iter().enumerate() {
            for name in &rule.tools {
                if !tool.contains_key(name) {
                    faults.push(Fault::new(&rule.id, format!("names the tool `{name}`, which is not described"), "describe it under [tool], or take it out"));
                }
                by_tool.entry(name.clone()).or_default().push(index);
            }
            if sentences.insert(rule.id.clone(), rule.reason.clone()).is_some() {
                faults.push(Fault::new(&rule.id, "is written twice", "give each rule its own id"));
            }
        }
        for name in tool.keys().filter(|name| !by_tool.contains_key(*name)) {
            faults.push(Fault::new(name, "has no rule", "add a rule, or take the tool out"));
        }
        let findings = FINDINGS.iter().map(|(id, class, unknown)| (*id, (*class, *unknown))).collect();
        let names = name::Names::compile(names);
        let tools =
            Tools { tools: tool.into_iter().collect(), aliases, rules, by_tool, findings, sentences: sentences.into_iter().collect(), env, limits, names };
        for rule in &tools.rules {
            tools.check(rule, &mut faults);
        }
        tools.check_floor(&mut faults);
        if faults.is_empty() { Ok(tools) } else { Err(faults) }
    }

    /// Whether the registry describes this tool.
    pub fn describes(&self, tool: &str) -> bool {
        self.known(tool).is_some()
    }

    /// The name under which a tool is described; another name stays what it is.
    pub fn name_of<'a>(&'a self, tool: &'a str) -> &'a str {
        self.known(tool).map_or(tool, |(name, _)| name)
    }

    pub fn tools(&self) -> impl Iterator<Item = &str> {
        self.tools.keys().map(String::as_str)
    }

    /// The class that a rule gives, or that the program finds under this id.
    pub fn class_of(&self, id: &str) -> Option<Class> {
        let found = self.findings.get(id).map(|(class, _)| *class);
        self.rules.iter().filter(|rule| rule.id == id).map(|rule| rule.class).chain(found).max()
    }

    pub fn sentence(&self, rule: &str) -> Option<&Sentence> {
        self.sentences.get(rule)
    }

    /// The arguments of `tool` that are no part of the digest.
    pub fn presentation(&self, tool: &str) -> &[String] {
        self.known(tool).map_or(&[], |(_, tool)| &tool.presentation)
    }

    /// Whether `tool` opens exactly the file that is named, even when there is none.
    pub fn takes_paths_literally(&self, tool: &str) -> bool {
        self.known(tool).is_some_and(|(_, tool)| tool.literal)
    }

    /// The arguments of this call that hold one path, for the caller to resolve.
    pub fn path_arguments(&self, tool: &str, arguments: &Value) -> Vec<String> {
        let Value::Object(arguments) = arguments else { return Vec::new() };
        let is_path = |name: &str, value: &str| match self.known(tool) {
            Some((_, tool)) => match tool.arguments.get(name) {
                Some(Role::Read | Role::Write | Role::Delete | Role::Workdir) => true,
                Some(Role::Attach | Role::Look) => !arguments::is_address(value),
                _ => false,
            },
            None => self.names.is_path(name, value),
        };
        arguments.iter().filter(|(name, value)| value.as_str().is_some_and(|value| is_path(name, value))).map(|(name, _)| name.clone()).collect()
    }

    fn known(&self, tool: &str) -> Option<(&str, &Tool)> {
        // A tool of ours may have a name of its own, under which a stranger's tool is still a stranger's.
        let name = self.aliases.get(tool).map(String::as_str).unwrap_or_else(|| {
            let tool = self.names.without_own_server(tool);
            self.aliases.get(tool).map_or(tool, String::as_str)
        });
        self.tools.get_key_value(name).map(|(name, tool)| (name.as_str(), tool))
    }

    /// INVARIANT: what the program finds is as dangerous as it says, whatever the text is.
    fn raise(&self, found: &mut Judgement, finding: &'static str) {
        let (class, unknown) = self.findings.get(finding).copied().unwrap_or((Class::Red, true));
        found.unknown |= unknown;
        found.raise(class, finding);
    }

    /// What no text of rules may leave out or take lightly.
    fn check_floor(&self, faults: &mut Vec<Fault>) {
        for (name, arguments, class, external) in FLOOR {
            let Some((name, _)) = self.known(name) else {
                faults.push(Fault::new(name, "is not described", "keep it under [tool]: as a stranger it would be read by its name only"));
                continue;
            };
            let Ok(Value::Object(arguments)) = serde_json::from_str(arguments) else { continue };
            let holding: Vec<&RuleText> =
                self.by_tool.get(name).into_iter().flatten().map(|index| &self.rules[*index]).filter(|rule| holds(&rule.when, &arguments)).collect();
            // A call that no rule fits is Red and asks, which is never too light.
            if holding.is_empty() {
                continue;
            }
            if !holding.iter().any(|rule| rule.class >= *class) || (*external && !holding.iter().any(|rule| rule.external)) {
                let outward = if *external { " and external" } else { "" };
                faults.push(Fault::new(
                    name,
                    format!("is taken too lightly when called with {}", Value::Object(arguments)),
                    format!("keep a rule that makes it {}{outward}", class.name()),
                ));
            }
        }
    }

    fn check(&self, rule: &RuleText, faults: &mut Vec<Fault>) {
        faults.extend(fault::of_sentence(&rule.id, &rule.reason));
        if rule.matching.is_empty() {
            faults.push(Fault::new(&rule.id, "has no example", "write at least one `match` line"));
        }
        for (example, expected) in rule.matching.iter().map(|e| (e, true)).chain(rule.not_match.iter().map(|e| (e, false))) {
            let (tool, arguments) = example.split_once(' ').unwrap_or((example, "{}"));
            let Ok(Value::Object(arguments)) = serde_json::from_str(arguments) else {
                faults.push(Fault::new(&rule.id, format!("has an example that is no call: `{example}`"), "write `tool {\"argument\": \"value\"}`"));
                continue;
            };
            let Some((name, tool)) = self.known(tool) else {
                faults.push(Fault::new(&rule.id, format!("has an example of an unknown tool: `{example}`"), "describe the tool under [tool]"));
                continue;
            };
            if let Some(argument) = undescribed(tool, &arguments) {
                faults.push(Fault::new(&rule.id, format!("has an example with `{argument}`, which is not described: `{example}`"), "describe the argument"));
            }
            if (rule.tools.iter().any(|known| known == name) && holds(&rule.when, &arguments)) != expected {
                let what = if expected { "does not hold for its example" } else { "holds for what it must not" };
                faults.push(Fault::new(&rule.id, format!("{what} `{example}`"), "mend the rule or the example"));
            }
        }
    }
}

/// What `call` does.
pub fn judge(tools: &Tools, paths: &Paths, http: &Http, shell: &dyn Shell, call: &Call<'_>) -> Judgement {
    judge_annotated(tools, paths, http, shell, call, Annotations::default())
}

/// The same, with what the tool's server says about it.
pub fn judge_annotated(tools: &Tools, paths: &Paths, http: &Http, shell: &dyn Shell, call: &Call<'_>, annotations: Annotations) -> Judgement {
    Bench { tools, paths, http, shell, workspace: call.workspace, resolved: call.resolved }.call(call.tool, call.arguments, annotations, 0)
}

/// Calls inside calls, batches inside batches: deeper than anything that is meant to be read.
const DEPTH_MAX: usize = 4;
const STEPS_MAX: usize = 100;

/// All judges together, for one call.
struct Bench<'a> {
    tools: &'a Tools,
    paths: &'a Paths,
    http: &'a Http,
    shell: &'a dyn Shell,
    workspace: &'a str,
    resolved: &'a [(String, Option<String>)],
}

impl Bench<'_> {
    fn call(&self, tool: &str, arguments: &Value, annotations: Annotations, depth: usize) -> Judgement {
        let mut found = Judgement::default();
        if depth > DEPTH_MAX {
            self.tools.raise(&mut found, "tool.deep");
            return found;
        }
        let empty = Map::new();
        let arguments = match arguments {
            Value::Object(arguments) => arguments,
            Value::Null => &empty,
            _ => {
                self.tools.raise(&mut found, "tool.arguments");
                return found;
            }
        };
        match self.tools.known(tool) {
            Some((name, tool)) => self.known(name, tool, arguments, depth, &mut found),
            None => self.foreign(tool, arguments, annotations, &mut found),
        }
        found
    }

    /// A tool of the registry: rules by its arguments, then each argument by its judge.
    fn known(&self, name: &str, tool: &Tool, arguments: &Map<String, Value>, depth: usize, found: &mut Judgement) {
        if let Some(inner) = nested(tool, arguments) {
            return self.nested(name, tool, arguments, inner, depth, found);
        }
        if undescribed(tool, arguments).is_some() {
            self.tools.raise(found, "tool.argument");
        }
        let told = |name: &str| arguments.get(name).is_some_and(|value| !value.is_null());
        if !tool.required.iter().all(|names| names.split('|').any(told)) {
            self.tools.raise(found, "tool.arguments");
        }
        let mut any = false;
        for rule in self.tools.by_tool.get(name).into_iter().flatten().map(|index| &self.tools.rules[*index]) {
            if holds(&rule.when, arguments) {
                any = true;
                found.raise(rule.class, &rule.id);
                found.external |= rule.external;
                found.unknown |= rule.unknown;
                found.asks |= rule.asks;
            }
        }
        if !any {
            self.tools.raise(found, "tool.call");
        }
        // What a request carries goes to its host, not into the file that its answer is put into.
        let writes = tool.arguments.values().any(|role| matches!(role, Role::Write | Role::Patch)) && !tool.arguments.values().any(|role| *role == Role::Http);
        if writes && arguments.values().any(|value| names_secret(value, 0)) {
            self.tools.raise(found, "secret.file");
        }
        for (argument, value) in arguments.iter().filter(|(_, value)| !value.is_null()) {
            if let Some(role) = tool.arguments.get(argument).filter(|role| **role != Role::Data) {
                self.argument(*role, argument, value, arguments, depth, found);
            }
        }
    }

    /// The fields of `inner` stand for arguments. What stands beside it may be read instead, so both are judged.
    fn nested(&self, name: &str, tool: &Tool, arguments: &Map<String, Value>, inner: &str, depth: usize, found: &mut Judgement) {
        let mut beside = arguments.clone();
        let Some(Value::Object(fields)) = beside.remove(inner) else {
            return self.tools.raise(found, "tool.arguments");
        };
        if depth >= DEPTH_MAX {
            return self.tools.raise(found, "tool.deep");
        }
        let said_beside = beside.contains_key("kind");
        let mut whole = beside.clone();
        whole.extend(fields);
        self.known(name, tool, &whole, depth + 1, found);
        if said_beside {
            self.known(name, tool, &beside, depth + 1, found);
        }
    }

    fn argument(&self, role: Role, name: &str, value: &Value, beside: &Map<String, Value>, depth: usize, found: &mut Judgement) {
        match role {
            Role::Data | Role::Request => {}
            Role::Env => self.env(value, found),
            Role::Job => self.job(name, value, 0, found),
            Role::Recipients => self.recipients(value, found),
            Role::Requests => self.requests(value, beside, depth, found),
            Role::Call => self.inner_call(value, beside, depth, found),
            Role::Invoke => self.invoke(value, beside, found),
            Role::Keys => self.keys(value, found),
            Role::Http => self.request(beside, value, found),
            Role::Workdir => match self.path(name, value) {
                Some(path) if crate::path::is_within(&path, self.workspace) => {}
                Some(path) => {
                    self.tools.raise(found, "exec.workdir");
                    found.effect(Deed::Read, path);
                }
                None => self.tools.raise(found, "tool.arguments"),
            },
            role => match value {
                Value::String(text) => self.text(role, name, text, beside, found),
                // Words, not lines: nobody knows how the tool puts them together.
                Value::Array(_) if role == Role::Shell => self.tools.raise(found, "tool.arguments"),
                Value::Array(items) if items.len() <= STEPS_MAX => {
                    for item in items {
                        match item {
                            Value::String(text) => self.text(role, "", text, beside, found),
                            Value::Object(fields) => self.fields(role, fields, beside, found),
                            _ => self.tools.raise(found, "tool.arguments"),
                        }
                    }
                }
                Value::Object(fields) if matches!(role, Role::Attach | Role::Look) => self.fields(role, fields, beside, found),
                _ => self.tools.raise(found, "tool.arguments"),
            },
        }
    }

    /// An attachment: whatever in it names a file or an address.
    fn fields(&self, role: Role, fields: &Map<String, Value>, beside: &Map<String, Value>, found: &mut Judgement) {
        let named = ["path", "filePath", "file", "url", "media", "src", "source", "href"];
        for (_, value) in fields.iter().filter(|(name, _)| named.contains(&name.as_str())) {
            match value {
                Value::String(text) => self.text(role, "", text, beside, found),
                _ => self.tools.raise(found, "tool.arguments"),
            }
        }
    }

    fn text(&self, role: Role, name: &str, text: &str, beside: &Map<String, Value>, found: &mut Judgement) {
        match role {
            Role::Shell => found.join(self.shell.judge(text, &self.cwd(beside), self.env_of(beside))),
            Role::Read => self.file(Deed::Read, name, text, found),
            Role::Write => self.file(Deed::Write, name, text, found),
            Role::Delete => self.file(Deed::Delete, name, text, found),
            Role::Attach if arguments::is_address(text) => found.join(self.http.judge(&Request::get(text))),
            Role::Attach => self.file(Deed::Upload, name, text, found),
            Role::Look if arguments::is_address(text) => found.join(self.http.judge(&Request::get(text))),
            Role::Look => self.file(Deed::Read, name, text, found),
            Role::Url | Role::Page if text == "about:blank" => {}
            Role::Page => found.join(self.http.judge_page(text)),
            Role::Url => found.join(self.http.judge(&Request::get(text))),
            Role::Webhook => found.join(self.http.judge(&Request { method: "POST", url: text, headers: &[], body: "" })),
            Role::Patch => self.patch(text, found),
            Role::Typed => self.typed(text, found),
            Role::Hex => self.hex(text, found),
            Role::Stdin => self.stdin(text, found),
            Role::Javascript => self.code("javascript", text, found),
            Role::Python => self.code("python", text, found),
            _ => self.tools.raise(found, "tool.arguments"),
        }
    }

    fn code(&self, language: &str, source: &str, found: &mut Judgement) {
        self.tools.raise(found, "code.runs");
        found.join(self.shell.code(language, source));
    }

    fn file(&self, deed: Deed, name: &str, text: &str, found: &mut Judgement) {
        match self.resolved.iter().find(|(argument, _)| argument == name || argument == text) {
            Some((_, Some(path))) => found.join(self.paths.judge(deed, path, self.workspace)),
            Some((_, None)) => found.join(self.paths.judge(deed, "", self.workspace)),
            None => found.join(self.paths.judge(deed, text, self.workspace)),
        }
    }

    /// Where a path argument leads: as the caller resolved it, else as text.
    fn path(&self, name: &str, value: &Value) -> Option<String> {
        match self.resolved.iter().find(|(argument, _)| argument == name) {
            Some((_, path)) => path.clone(),
            None => crate::path::absolute(value.as_str()?, self.workspace),
        }
    }

    fn cwd(&self, beside: &Map<String, Value>) -> String {
        let named = ["workdir", "cwd"].iter().find_map(|name| Some((*name, beside.get(*name)?)));
        named.and_then(|(name, value)| self.path(name, value)).unwrap_or_else(|| self.workspace.to_owned())
    }

    fn env_of<'b>(&self, beside: &'b Map<String, Value>) -> &'b Map<String, Value> {
        static NONE: std::sync::LazyLock<Map<String, Value>> = std::sync::LazyLock::new(Map::new);
        match beside.get("env") {
            Some(Value::Object(env)) => env,
            _ => &NONE,
        }
    }

    fn env(&self, value: &Value, found: &mut Judgement) {
        let Value::Object(env) = value else { return self.tools.raise(found, "tool.arguments") };
        let listed = |list: &[String], name: &str| {
            list.iter().any(|known| match known.strip_suffix('*') {
                Some(start) => name.starts_with(start),
                None => name == known,
            })
        };
        for (name, value) in env {
            let upper = name.to_uppercase();
            let plain = !name.is_empty() && name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_') && value.is_string();
            if !plain || listed(&self.tools.env.dangerous, &upper) {
                self.tools.raise(found, "exec.env");
            } else if !listed(&self.tools.env.harmless, &upper) {
                self.tools.raise(found, "exec.env.other");
            }
        }
    }

    fn recipients(&self, value: &Value, found: &mut Judgement) {
        let count = match value {
            Value::Array(items) => items.len(),
            Value::String(text) => text.split([',', ';']).filter(|part| !part.trim().is_empty()).count(),
            _ => 1,
        };
        if count > self.tools.limits.recipients {
            found.external = true;
            self.tools.raise(found, "recipients.crowd");
        }
    }

    fn requests(&self, value: &Value, beside: &Map<String, Value>, depth: usize, found: &mut Judgement) {
        let Value::Array(items) = value else { return self.tools.raise(found, "tool.arguments") };
        if depth >= DEPTH_MAX || items.len() > STEPS_MAX {
            return self.tools.raise(found, "tool.deep");
        }
        let Some((name, tool)) = self.tools.known("browser") else { return self.tools.raise(found, "tool.call") };
        for item in items {
            let Value::Object(fields) = item else { return self.tools.raise(found, "tool.arguments") };
            let mut step = Map::new();
            step.insert("action".to_owned(), Value::from("act"));
            step.extend(
                beside.iter().filter(|(name, _)| ["profile", "target", "node"].contains(&name.as_str())).map(|(name, value)| (name.clone(), value.clone())),
            );
            step.extend(fields.clone());
            self.known(name, tool, &step, depth + 1, found);
        }
    }

    fn inner_call(&self, value: &Value, beside: &Map<String, Value>, depth: usize, found: &mut Judgement) {
        let Some(Value::String(id)) = ["id", "tool", "name", "toolId"].iter().find_map(|name| beside.get(*name)) else {
            return self.tools.raise(found, "tool.arguments");
        };
        let parsed = value.as_str().map(serde_json::from_str::<Value>);
        let arguments = match &parsed {
            Some(Ok(parsed)) => parsed,
            Some(Err(_)) => return self.tools.raise(found, "tool.arguments"),
            None => value,
        };
        // The caller resolved the paths of the outer call, which has none.
        found.join(self.call(id, arguments, Annotations::default(), depth + 1));
    }

    fn invoke(&self, value: &Value, beside: &Map<String, Value>, found: &mut Judgement) {
        self.tools.raise(found, "node.runs");
        let parsed = value.as_str().and_then(|text| serde_json::from_str::<Value>(text).ok());
        let command = parsed.as_ref().unwrap_or(value).get("command").or_else(|| parsed.as_ref().unwrap_or(value).get("argv"));
        let line = match command {
            Some(Value::String(line)) => line.clone(),
            Some(Value::Array(words)) => words.iter().filter_map(Value::as_str).map(quoted).collect::<Vec<_>>().join(" "),
            _ => return,
        };
        found.join(self.shell.judge(&line, &self.cwd(beside), self.env_of(beside)));
    }

    fn request(&self, beside: &Map<String, Value>, url: &Value, found: &mut Judgement) {
        let Some(url) = url.as_str() else { return self.tools.raise(found, "tool.arguments") };
        let text =
            |names: &[&str]| names.iter().find_map(|name| beside.get(*name)).filter(|value| !value.is_null()).map(arguments::as_text).unwrap_or_default();
        let (method, body) = (text(&["method", "verb", "httpMethod"]), text(&["body", "data", "json", "payload", "form"]));
        let headers: Vec<(String, String)> = match beside.get("headers") {
            Some(Value::Object(headers)) => headers.iter().map(|(name, value)| (name.clone(), arguments::as_text(value))).collect(),
            Some(Value::Array(headers)) => headers
                .iter()
                .map(arguments::as_text)
                .filter_map(|header| header.split_once(':').map(|(n, v)| (n.trim().to_owned(), v.trim().to_owned())))
                .collect(),
            Some(Value::String(headers)) => {
                headers.lines().filter_map(|header| header.split_once(':').map(|(n, v)| (n.trim().to_owned(), v.trim().to_owned()))).collect()
            }
            _ => Vec::new(),
        };
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        found.join(self.http.judge(&Request { method: &method, url, headers: &headers, body: &body }));
    }

    /// `*** Add File: a`: every path that the patch names.
    fn patch(&self, text: &str, found: &mut Judgement) {
        let mut any = false;
        for line in text.lines().map(str::trim).filter(|line| line.starts_with("***")) {
            let (head, path) = line.split_once(':').map(|(head, path)| (head, path.trim())).unwrap_or((line, ""));
            match head.trim_start_matches('*').trim() {
                "Begin Patch" | "End Patch" | "End of File" => continue,
                "Add File" | "Update File" | "Move to" => self.file(Deed::Write, path, path, found),
                "Delete File" => self.file(Deed::Delete, path, path, found),
                _ => self.tools.raise(found, "patch.unreadable"),
            }
            any = true;
        }
        if !any {
            self.tools.raise(found, "patch.unreadable");
        }
    }

    /// What a job runs and where it tells about it, wherever in it that stands.
    fn job(&self, name: &str, value: &Value, depth: usize, found: &mut Judgement) {
        if depth > DEPTH_MAX + 2 {
            return self.tools.raise(found, "tool.deep");
        }
        match value {
            Value::Object(fields) => {
                if name == "payload" && !matches!(fields.get("kind").and_then(Value::as_str), None | Some("systemEvent" | "agentTurn")) {
                    self.tools.raise(found, "job.script");
                }
                if name == "delivery" && !matches!(fields.get("mode").and_then(Value::as_str), None | Some("none" | "announce")) {
                    found.external = true;
                    self.tools.raise(found, "job.webhook");
                }
                fields.iter().for_each(|(name, value)| self.job(name, value, depth + 1, found));
            }
            Value::Array(items) if matches!(name, "command" | "argv" | "args" | "script") => {
                let line = items.iter().filter_map(Value::as_str).map(quoted).collect::<Vec<_>>().join(" ");
                self.job(name, &Value::from(line), depth + 1, found);
            }
            Value::Array(items) => items.iter().take(STEPS_MAX).for_each(|item| self.job(name, item, depth + 1, found)),
            Value::String(text) if matches!(name, "command" | "argv" | "args" | "script" | "cmd" | "shell" | "run" | "exec") => {
                self.tools.raise(found, "job.script");
                found.join(self.shell.judge(text, self.workspace, &Map::new()));
            }
            Value::String(text) if matches!(name, "url" | "webhook" | "webhookUrl" | "endpoint") || (name == "to" && arguments::is_address(text)) => {
                found.external = true;
                self.tools.raise(found, "job.webhook");
                found.join(self.http.judge(&Request { method: "POST", url: text, headers: &[], body: "" }));
            }
            Value::String(text) if name.eq_ignore_ascii_case("job") => match serde_json::from_str(text) {
                Ok(Value::Object(fields)) => self.job("job", &Value::Object(fields), depth + 1, found),
                _ => self.tools.raise(found, "job.unreadable"),
            },
            _ => {}
        }
    }
}

/// An argument whose fields stand for arguments.
fn nested<'a>(tool: &Tool, arguments: &'a Map<String, Value>) -> Option<&'a str> {
    arguments.iter().find(|(name, value)| !value.is_null() && tool.arguments.get(*name) == Some(&Role::Request)).map(|(name, _)| name.as_str())
}

fn undescribed<'a>(tool: &Tool, arguments: &'a Map<String, Value>) -> Option<&'a str> {
    arguments.keys().find(|name| !tool.arguments.contains_key(*name) && !tool.presentation.contains(*name)).map(String::as_str)
}

fn holds(when: &When, arguments: &Map<String, Value>) -> bool {
    let there = |name: &str| arguments.get(name).filter(|value| !value.is_null());
    when.arguments.iter().all(|(name, values)| there(name).is_some_and(|value| values.contains(value)))
        && when.other.iter().all(|(name, values)| there(name).is_some_and(|value| !values.contains(value)))
        && when.absent.iter().all(|name| there(name).is_none())
}

/// Whether a reference to a secret stands in it, which would be written out. What is nested deeper is taken for one.
fn names_secret(value: &Value, depth: usize) -> bool {
    match value {
        Value::String(text) => text.contains("SECRET_REF("),
        Value::Array(items) => depth > DEPTH_MAX || items.iter().any(|item| names_secret(item, depth + 1)),
        Value::Object(fields) => depth > DEPTH_MAX || fields.values().any(|value| names_secret(value, depth + 1)),
        _ => false,
    }
}

/// One word of a line, as a shell would have to be told it.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests;
