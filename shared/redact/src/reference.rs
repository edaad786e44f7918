//! `SECRET_REF(name)` in a tool call: what becomes of it when the call is run.
//!
//! A decision over values: the call, who may use which secret where, and the values. In command text a reference becomes
//! an environment variable, so that no letter of the value is ever shell; on standard input, in a header or in a body it
//! becomes the value; in a URL it is percent-encoded. As an element of an argument list it is refused (every process of
//! the host may read those), into a file it asks. What is malformed, unknown or not bound to this tool and host is refused
//! with the reason. A reference without its closing bracket is only text. Whoever runs the call redacts its result.

use crate::{json, placeholder};
use serde_json::Value;
use zeroize::Zeroizing;

const OPEN: &str = "SECRET_REF(";
/// The variables that command text finds values in: this and a number.
pub const VARIABLE: &str = "GATEHOUSE_SECRET_";
/// References in one call.
const REFERENCES_MAX: usize = 64;
const DEPTH_MAX: usize = 64;

/// Where a secret may be used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Binding {
    /// Tools by name. Empty: every tool that runs commands or sends requests.
    pub tools: Vec<String>,
    /// Hosts by name. Empty: any. A secret that is bound to a host goes into requests only.
    pub hosts: Vec<String>,
}

/// What becomes of a call.
#[derive(Debug, PartialEq)]
pub enum Outcome {
    /// It has no reference that means something.
    Literal,
    Resolve(Resolved),
    /// It would write the values of these into a file.
    Ask {
        names: Vec<String>,
    },
    Reject(Rejection),
}

/// The call with values in it. To be run and forgotten.
#[derive(PartialEq)]
pub struct Resolved {
    pub args: Value,
    /// Variables for the process that runs the command.
    pub env: Vec<(String, Zeroizing<String>)>,
    pub names: Vec<String>,
    pub way: Way,
}

impl std::fmt::Debug for Resolved {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resolved").field("names", &self.names).field("way", &self.way).finish_non_exhaustive()
    }
}

/// How the values came in; the most careful one, if there are several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    AsIs,
    Percent,
    /// As a variable that the command may print.
    Variable,
    /// As a variable that the command hands on by its name.
    Assigned,
}

/// Why a call is not run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    #[error("a reference is `SECRET_REF(name)` with a name of letters, digits, `_`, `.` and `-`, without spaces")]
    Malformed,
    #[error("there is no secret `{name}` for this assistant")]
    Unknown { name: String },
    #[error("the secret `{name}` is not bound to the tool `{tool}`")]
    Tool { name: String, tool: String },
    #[error("the secret `{name}` is not bound to the host `{host}`")]
    Host { name: String, host: String },
    #[error("the secret `{name}` cannot be an element of an argument list: use command text, standard input or the environment")]
    Argument { name: String },
    #[error("the secret `{name}` cannot stand in `{field}`")]
    Field { name: String, field: String },
    #[error("the secret `{name}` cannot stand within another program's text: assign it to a variable in front of the command")]
    Program { name: String },
    #[error("the secret `{name}` has a line break, which a header cannot hold")]
    LineBreak { name: String },
    #[error("the value of the secret `{name}` is not at hand")]
    Missing { name: String },
    #[error("`{placeholder}` stands for something that was taken out and cannot be used: use a reference or ask for the value")]
    Redacted { placeholder: String },
    #[error("more than {REFERENCES_MAX} references, or nested deeper than {DEPTH_MAX} levels")]
    TooMany,
}

/// Decides `args` of a call of `tool`. `binding` knows the secrets of the assistant that calls; `value` their values.
pub fn resolve(tool: &str, args: &Value, binding: &dyn Fn(&str) -> Option<Binding>, value: &dyn Fn(&str) -> Option<Zeroizing<String>>) -> Outcome {
    settle(tool, args, binding, value, false)
}

/// The same for a call that a person has said yes to: what would be asked about is done.
pub fn resolve_granted(tool: &str, args: &Value, binding: &dyn Fn(&str) -> Option<Binding>, value: &dyn Fn(&str) -> Option<Zeroizing<String>>) -> Outcome {
    settle(tool, args, binding, value, true)
}

fn settle(tool: &str, args: &Value, binding: &dyn Fn(&str) -> Option<Binding>, value: &dyn Fn(&str) -> Option<Zeroizing<String>>, is_granted: bool) -> Outcome {
    let mut resolver =
        Resolver { tool, host: host(args), form: is_form(args), is_granted, binding, value, env: Vec::new(), names: Vec::new(), way: Way::AsIs, files: false };
    let mut resolved = args.clone();
    match resolver.value(&mut resolved, &mut Vec::new()) {
        Err(rejection) => Outcome::Reject(rejection),
        Ok(()) if resolver.names.is_empty() => Outcome::Literal,
        Ok(()) if resolver.files => Outcome::Ask { names: resolver.names },
        Ok(()) => Outcome::Resolve(Resolved { args: resolved, env: resolver.env, names: resolver.names, way: resolver.way }),
    }
}

/// What a tool does with what it is given.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sink {
    Command,
    Request,
    File,
    Other,
}

impl Sink {
    fn of(tool: &str) -> Self {
        let words = || tool.split(['.', '_', '-', '/', ':']).map(str::to_ascii_lowercase);
        let any = |known: &[&str]| words().any(|word| known.contains(&word.as_str()));
        if any(&["write", "edit", "patch", "append", "save"]) {
            Sink::File
        } else if any(&["exec", "process", "bash", "shell", "sh", "command", "terminal"]) {
            Sink::Command
        } else if any(&["http", "https", "fetch", "request", "curl", "webhook"]) {
            Sink::Request
        } else {
            Sink::Other
        }
    }
}

struct Resolver<'a> {
    tool: &'a str,
    host: Option<String>,
    /// Whether the body is a form, whose values are percent-encoded.
    form: bool,
    is_granted: bool,
    binding: &'a dyn Fn(&str) -> Option<Binding>,
    value: &'a dyn Fn(&str) -> Option<Zeroizing<String>>,
    env: Vec<(String, Zeroizing<String>)>,
    names: Vec<String>,
    way: Way,
    files: bool,
}

/// A step from the arguments to a string in them.
#[derive(Clone)]
enum Step {
    Key(String),
    Index,
}

impl Resolver<'_> {
    fn value(&mut self, value: &mut Value, path: &mut Vec<Step>) -> Result<(), Rejection> {
        if path.len() > DEPTH_MAX {
            return Err(Rejection::TooMany);
        }
        match value {
            Value::String(text) => {
                if let Some(placeholder) = placeholder::contains_placeholder(text) {
                    return Err(Rejection::Redacted { placeholder: placeholder.to_owned() });
                }
                let references = references(text)?;
                if !references.is_empty() {
                    *text = self.text(text, &references, path)?;
                }
            }
            Value::Array(values) => {
                for value in values {
                    path.push(Step::Index);
                    self.value(value, path)?;
                    path.pop();
                }
            }
            Value::Object(members) => {
                for (key, value) in members {
                    if let Some(placeholder) = placeholder::contains_placeholder(key) {
                        return Err(Rejection::Redacted { placeholder: placeholder.to_owned() });
                    }
                    if let Some(reference) = references(key)?.first() {
                        return Err(Rejection::Field { name: reference.name.clone(), field: "the name of a field".to_owned() });
                    }
                    path.push(Step::Key(key.clone()));
                    self.value(value, path)?;
                    path.pop();
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// `text` with its references resolved, each in the way of the place where it stands.
    fn text(&mut self, text: &str, references: &[Reference], path: &[Step]) -> Result<String, Rejection> {
        let field = path.iter().find_map(|step| if let Step::Key(key) = step { Some(key.to_ascii_lowercase()) } else { None }).unwrap_or_default();
        let in_list = matches!(path.last(), Some(Step::Index));
        for reference in references {
            self.admit(&reference.name)?;
        }
        let name = references[0].name.clone();
        match Sink::of(self.tool) {
            Sink::Command => match field.as_str() {
                _ if in_list => Err(Rejection::Argument { name }),
                "command" | "cmd" | "script" => self.command(text, references),
                "stdin" | "input" | "env" | "environment" => self.as_is(text, references, |value| Ok(value.to_owned())),
                _ => Err(Rejection::Field { name, field }),
            },
            Sink::Request => match field.as_str() {
                "url" | "uri" | "href" | "query" | "params" => {
                    // What the host is called is looked up in public.
                    if let (Some(start), Some(end)) = host_span(text)
                        && references.iter().any(|reference| reference.start < end && start < reference.end)
                    {
                        return Err(Rejection::Field { name, field: "the host of a URL".to_owned() });
                    }
                    self.way = self.way.max(Way::Percent);
                    self.as_is(text, references, |value| Ok(percent_encoded(value)))
                }
                "headers" | "header" | "cookies" | "auth" => self.as_is(text, references, |value| match value.contains(['\r', '\n', '\0']) {
                    true => Err(Rejection::LineBreak { name: name.clone() }),
                    false => Ok(value.to_owned()),
                }),
                "method" | "host" | "path" | "saveto" => Err(Rejection::Field { name, field }),
                _ if self.form && path.len() == 1 => {
                    self.way = self.way.max(Way::Percent);
                    self.as_is(text, references, |value| Ok(percent_encoded(value)))
                }
                _ if text.trim_start().starts_with(['{', '[']) && json::walk(text, true, |_, _| Ok(())).is_ok() => self.as_is(text, references, |value| {
                    let quoted = Zeroizing::new(Value::String(value.to_owned()).to_string());
                    Ok(quoted[1..quoted.len() - 1].to_owned())
                }),
                _ => self.as_is(text, references, |value| Ok(value.to_owned())),
            },
            Sink::File => match field.as_str() {
                "path" | "file" | "file_path" | "filename" | "name" | "target" => Err(Rejection::Field { name, field }),
                _ if self.is_granted => self.as_is(text, references, |value| Ok(value.to_owned())),
                _ => {
                    self.files = true;
                    Ok(text.to_owned())
                }
            },
            // `admit` let it through, so it is bound to this very tool.
            Sink::Other => self.as_is(text, references, |value| Ok(value.to_owned())),
        }
    }

    /// Refuses a secret that may not be used by this tool, or for this host.
    fn admit(&mut self, name: &str) -> Result<(), Rejection> {
        let binding = (self.binding)(name).ok_or_else(|| Rejection::Unknown { name: name.to_owned() })?;
        let sink = Sink::of(self.tool);
        let bound = if binding.tools.is_empty() { sink != Sink::Other } else { binding.tools.iter().any(|tool| tool == self.tool) };
        if !bound {
            return Err(Rejection::Tool { name: name.to_owned(), tool: self.tool.to_owned() });
        }
        if !binding.hosts.is_empty() {
            let host = self.host.clone().filter(|_| sink == Sink::Request).unwrap_or_default();
            if !binding.hosts.iter().any(|bound| is_within(&host, bound)) {
                return Err(Rejection::Host { name: name.to_owned(), host });
            }
        }
        if !self.names.iter().any(|known| known == name) {
            self.names.push(name.to_owned());
        }
        if self.names.len() > REFERENCES_MAX { Err(Rejection::TooMany) } else { Ok(()) }
    }

    fn lookup(&self, name: &str) -> Result<Zeroizing<String>, Rejection> {
        (self.value)(name).ok_or_else(|| Rejection::Missing { name: name.to_owned() })
    }

    fn as_is(&self, text: &str, references: &[Reference], encode: impl Fn(&str) -> Result<String, Rejection>) -> Result<String, Rejection> {
        let mut resolved = String::with_capacity(text.len());
        let mut at = 0;
        for reference in references {
            resolved.push_str(&text[at..reference.start]);
            resolved.push_str(&Zeroizing::new(encode(&self.lookup(&reference.name)?)?));
            at = reference.end;
        }
        resolved.push_str(&text[at..]);
        Ok(resolved)
    }

    /// Command text with variables in the place of references, quoted as the place asks for.
    fn command(&mut self, text: &str, references: &[Reference]) -> Result<String, Rejection> {
        let mut resolved = String::with_capacity(text.len());
        let mut at = 0;
        for reference in references {
            let before = &text[..reference.start];
            if reads_as_program(before) {
                return Err(Rejection::Program { name: reference.name.clone() });
            }
            let variable = self.variable(&reference.name)?;
            resolved.push_str(&text[at..reference.start]);
            match quoting(before) {
                Quoting::None => resolved.push_str(&format!("\"${variable}\"")),
                Quoting::Double => resolved.push_str(&format!("${{{variable}}}")),
                Quoting::Single => resolved.push_str(&format!("'\"${variable}\"'")),
                Quoting::Ansi => resolved.push_str(&format!("'\"${variable}\"$'")),
                Quoting::Comment => resolved.push_str(&text[reference.start..reference.end]),
            }
            let word = before.rsplit(|letter: char| letter.is_whitespace() || matches!(letter, ';' | '&' | '|' | '(')).next().unwrap_or_default();
            let assigned = word.split_once('=').is_some_and(|(variable, _)| {
                !variable.is_empty() && variable.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') && !variable.as_bytes()[0].is_ascii_digit()
            });
            self.way = self.way.max(if assigned { Way::Assigned } else { Way::Variable });
            at = reference.end;
        }
        resolved.push_str(&text[at..]);
        Ok(resolved)
    }

    fn variable(&mut self, name: &str) -> Result<String, Rejection> {
        let at = self.names.iter().position(|known| known == name).unwrap_or(0);
        let variable = format!("{VARIABLE}{}", at + 1);
        if !self.env.iter().any(|(known, _)| *known == variable) {
            let value = self.lookup(name)?;
            // No environment holds a zero byte.
            if value.contains('\0') {
                return Err(Rejection::Field { name: name.to_owned(), field: "the environment, for it has a zero byte".to_owned() });
            }
            self.env.push((variable.clone(), value));
        }
        Ok(variable)
    }
}

/// `*.example.org` is every host below it.
fn is_within(host: &str, bound: &str) -> bool {
    let (host, bound) = (host.to_ascii_lowercase(), bound.to_ascii_lowercase());
    match bound.strip_prefix('*') {
        Some(below) => below.starts_with('.') && host.len() > below.len() && host.ends_with(below),
        None => host == bound,
    }
}

struct Reference {
    start: usize,
    end: usize,
    name: String,
}

fn references(text: &str) -> Result<Vec<Reference>, Rejection> {
    let mut references = Vec::new();
    let mut at = 0;
    while let Some(found) = text[at..].find(OPEN) {
        let start = at + found;
        let inside = start + OPEN.len();
        // Not closed: it is only text, and so is all behind it.
        let Some(len) = text[inside..].find(')') else { break };
        let name = &text[inside..inside + len];
        if !placeholder::is_name(name) {
            return Err(Rejection::Malformed);
        }
        at = inside + len + 1;
        references.push(Reference { start, end: at, name: name.to_owned() });
        if references.len() > REFERENCES_MAX {
            return Err(Rejection::TooMany);
        }
    }
    Ok(references)
}

#[derive(Debug, PartialEq)]
enum Quoting {
    None,
    Single,
    Double,
    Ansi,
    Comment,
}

/// In what the end of `before` stands, for a shell.
fn quoting(before: &str) -> Quoting {
    // What is open: a quote, or a substitution in one.
    let mut open: Vec<u8> = Vec::new();
    let bytes = before.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let byte = bytes[at];
        let next = bytes.get(at + 1).copied();
        at += 1;
        match (open.last().copied(), byte) {
            (Some(b'\''), b'\'') | (Some(b'"'), b'"') | (Some(b'('), b')') | (Some(b'$'), b'\'') => {
                open.pop();
            }
            (Some(b'\''), _) => {}
            (Some(b'$'), b'\\') | (_, b'\\') => at += 1,
            (Some(b'$'), _) => {}
            (_, b'$') if next == Some(b'(') => {
                open.push(b'(');
                at += 1;
            }
            (Some(b'"'), _) => {}
            (_, b'$') if next == Some(b'\'') => {
                open.push(b'$');
                at += 1;
            }
            (_, b'\'' | b'"' | b'(') => open.push(byte),
            (_, b'#') if at == 1 || bytes[at - 2].is_ascii_whitespace() => match memchr::memchr(b'\n', &bytes[at..]) {
                Some(line) => at += line + 1,
                None => return Quoting::Comment,
            },
            _ => {}
        }
    }
    match open.last() {
        Some(b'\'') => Quoting::Single,
        Some(b'"') => Quoting::Double,
        Some(b'$') => Quoting::Ansi,
        _ => Quoting::None,
    }
}

/// Whether what comes behind `before` is read by another program, which would run the value as its text.
fn reads_as_program(before: &str) -> bool {
    const READERS: [&str; 10] = ["eval", "ssh", "xargs", "awk", "gawk", "sed", "watch", "parallel", "su", "psql"];
    const RUNNERS: [&str; 13] = ["sh", "bash", "zsh", "dash", "ksh", "python", "python3", "perl", "ruby", "node", "php", "lua", "deno"];
    let simple = before.rsplit(['\n', ';', '|', '&']).next().unwrap_or_default();
    let words: Vec<&str> = simple.split_whitespace().map(|word| word.rsplit('/').next().unwrap_or(word)).collect();
    let runs = words.iter().any(|word| RUNNERS.contains(word)) && words.iter().any(|word| matches!(*word, "-c" | "-e" | "-lc" | "-r" | "--eval"));
    // A quoted program may hold separators: look at all of it then.
    let quoted = quoting(before) != Quoting::None;
    let all: Vec<&str> = before.split_whitespace().map(|word| word.rsplit('/').next().unwrap_or(word)).collect();
    let runs_quoted = quoted
        && (all.iter().any(|word| READERS.contains(word))
            || all.iter().any(|word| RUNNERS.contains(word)) && all.iter().any(|word| matches!(*word, "-c" | "-e" | "-lc" | "-r" | "--eval")));
    runs || runs_quoted || words.iter().any(|word| READERS.contains(word)) || before.replace("<<<", "").contains("<<")
}

fn percent_encoded(value: &str) -> String {
    let mut encoded = String::with_capacity(value.len() * 3);
    for byte in value.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(byte as char),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// The host that a request goes to.
fn host(args: &Value) -> Option<String> {
    let url = ["url", "uri", "href"].iter().find_map(|key| args[*key].as_str())?;
    match host_span(url) {
        (Some(start), Some(end)) => Some(url[start..end].to_ascii_lowercase()),
        _ => None,
    }
}

/// Where the host stands in a URL, without user and port.
fn host_span(url: &str) -> (Option<usize>, Option<usize>) {
    let Some(scheme) = url.find("://") else { return (None, None) };
    let authority = scheme + 3;
    // A browser takes `\` for `/`, and so a guard must.
    let end = url[authority..].find(['/', '?', '#', '\\']).map_or(url.len(), |at| authority + at);
    let start = url[authority..end].rfind('@').map_or(authority, |at| authority + at + 1);
    let host_end =
        if url[start..end].starts_with('[') { url[start..end].find(']').map(|at| start + at + 1) } else { url[start..end].find(':').map(|at| start + at) };
    (Some(start), Some(host_end.unwrap_or(end)))
}

fn is_form(args: &Value) -> bool {
    args["headers"].as_object().into_iter().flatten().any(|(name, value)| {
        name.eq_ignore_ascii_case("content-type") && value.as_str().is_some_and(|value| value.to_ascii_lowercase().contains("x-www-form-urlencoded"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const HARD: &str = "a'b\"c$(id)`x`\\%&=\u{e9}";

    fn decide(tool: &str, args: Value) -> Outcome {
        let binding = |name: &str| match name {
            "key" | "hard" | "lines" => Some(Binding::default()),
            "hosted" => Some(Binding { hosts: vec!["api.example.com".to_owned()], ..Binding::default() }),
            "below" => Some(Binding { hosts: vec!["*.example.com".to_owned()], ..Binding::default() }),
            "typed" => Some(Binding { tools: vec!["browser.type".to_owned()], ..Binding::default() }),
            _ => None,
        };
        let value = |name: &str| {
            Some(Zeroizing::new(match name {
                "hard" => HARD.to_owned(),
                "lines" => "one\r\ntwo".to_owned(),
                _ => format!("value-of-{name}"),
            }))
        };
        resolve(tool, &args, &binding, &value)
    }

    fn resolved(tool: &str, args: Value) -> (Value, Way) {
        match decide(tool, args) {
            Outcome::Resolve(resolved) => (resolved.args, resolved.way),
            other => panic!("{other:?}"),
        }
    }

    fn rejected(tool: &str, args: Value) -> Rejection {
        match decide(tool, args) {
            Outcome::Reject(rejection) => rejection,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn values_come_into_requests_as_the_place_asks_for() {
        let (args, way) = resolved("http.request", json!({"headers": {"Authorization": "Bearer SECRET_REF(key)"}, "n": 1}));
        assert_eq!((args, way), (json!({"headers": {"Authorization": "Bearer value-of-key"}, "n": 1}), Way::AsIs));
        let (args, way) = resolved("http.request", json!({"url": format!("https://u:{}@h/?a=SECRET_REF(key)", "SECRET_REF(hard)")}));
        assert_eq!(args, json!({"url": format!("https://u:{}@h/?a=value-of-key", "a%27b%22c%24%28id%29%60x%60%5C%25%26%3D%C3%A9")}));
        assert_eq!(way, Way::Percent);
        let (args, _) = resolved("http.request", json!({"body": "{\"k\":\"SECRET_REF(hard)\"}"}));
        let body: Value = serde_json::from_str(args["body"].as_str().expect("a body is text")).expect("the body is still JSON");
        assert_eq!(body, json!({"k": HARD}));
        let form = json!({"headers": {"content-type": "application/x-www-form-urlencoded"}, "body": "a=1&k=SECRET_REF(hard)"});
        assert_eq!(resolved("http.request", form).0["body"], format!("a=1&k={}", percent_encoded(HARD)));
        assert!(matches!(rejected("http.request", json!({"headers": {"a": "SECRET_REF(lines)"}})), Rejection::LineBreak { .. }));
        assert!(matches!(rejected("http.request", json!({"url": "https://SECRET_REF(key).example.com/"})), Rejection::Field { .. }));
        assert!(matches!(rejected("http.request", json!({"SECRET_REF(key)": 1})), Rejection::Field { .. }));
    }

    #[test]
    fn in_a_command_a_value_is_never_text_of_the_shell() {
        for (command, expected, way) in [
            ("PW=SECRET_REF(hard) ./x", "PW=\"$GATEHOUSE_SECRET_1\" ./x", Way::Assigned),
            ("echo SECRET_REF(hard) | xxd", "echo \"$GATEHOUSE_SECRET_1\" | xxd", Way::Variable),
            ("curl -H \"A: SECRET_REF(hard)\" x", "curl -H \"A: ${GATEHOUSE_SECRET_1}\" x", Way::Variable),
            ("curl -H 'A: SECRET_REF(hard)' x", "curl -H 'A: '\"$GATEHOUSE_SECRET_1\"'' x", Way::Variable),
            ("a \"$(b SECRET_REF(hard))\"", "a \"$(b \"$GATEHOUSE_SECRET_1\")\"", Way::Variable),
            ("a SECRET_REF(hard) SECRET_REF(key) SECRET_REF(hard)", "a \"$GATEHOUSE_SECRET_1\" \"$GATEHOUSE_SECRET_2\" \"$GATEHOUSE_SECRET_1\"", Way::Variable),
        ] {
            let Outcome::Resolve(resolved) = decide("exec", json!({ "command": command })) else { panic!("{command}") };
            assert_eq!(resolved.args["command"], expected);
            assert_eq!(resolved.way, way, "{command}");
            assert_eq!(resolved.env[0], ("GATEHOUSE_SECRET_1".to_owned(), Zeroizing::new(HARD.to_owned())));
        }
        for command in [
            "eval SECRET_REF(key)",
            "sh -c 'echo SECRET_REF(key)'",
            "python3 -c \"print('SECRET_REF(key)')\"",
            "cat <<E\nSECRET_REF(key)\nE",
            "ssh h 'x; y SECRET_REF(key)'",
        ] {
            assert!(matches!(rejected("exec", json!({ "command": command })), Rejection::Program { .. }), "{command}");
        }
        assert_eq!(resolved("exec", json!({"command": "x", "stdin": "SECRET_REF(key)"})).0["stdin"], "value-of-key");
        assert!(matches!(rejected("exec", json!({"argv": ["x", "SECRET_REF(key)"]})), Rejection::Argument { .. }));
        assert!(matches!(rejected("exec", json!({"command": ["x", "SECRET_REF(key)"]})), Rejection::Argument { .. }));
        assert!(matches!(rejected("exec", json!({"cwd": "/SECRET_REF(key)"})), Rejection::Field { .. }));
    }

    #[test]
    fn what_is_not_bound_here_is_refused_and_files_ask() {
        assert_eq!(decide("fs.write", json!({"path": "/tmp/a", "content": "SECRET_REF(key)"})), Outcome::Ask { names: vec!["key".to_owned()] });
        assert!(matches!(rejected("fs.write", json!({"path": "/SECRET_REF(key)"})), Rejection::Field { .. }));
        assert!(matches!(rejected("email.send", json!({"body": "SECRET_REF(key)"})), Rejection::Tool { .. }));
        assert_eq!(resolved("browser.type", json!({"text": "SECRET_REF(typed)"})).0["text"], "value-of-typed");
        assert!(matches!(rejected("exec", json!({"command": "SECRET_REF(typed)"})), Rejection::Tool { .. }));
        assert_eq!(resolved("http.request", json!({"url": "https://api.example.com:443/a", "body": "SECRET_REF(hosted)"})).0["body"], "value-of-hosted");
        for url in
            ["https://example.org/", "https://api.example.com@example.org/", "https://example.org\\@api.example.com/", "https://api.example.com.example.org/"]
        {
            assert!(matches!(rejected("http.request", json!({"url": url, "body": "SECRET_REF(hosted)"})), Rejection::Host { .. }), "{url}");
        }
        assert!(matches!(rejected("exec", json!({"command": "curl https://api.example.com -d SECRET_REF(hosted)"})), Rejection::Host { .. }));
        assert_eq!(resolved("http.request", json!({"url": "https://a.b.Example.com/", "body": "SECRET_REF(below)"})).0["body"], "value-of-below");
        for url in ["https://example.com/", "https://.example.com/", "https://xexample.com/", "https://a.example.com.evil.org/"] {
            assert!(matches!(rejected("http.request", json!({"url": url, "body": "SECRET_REF(below)"})), Rejection::Host { .. }), "{url}");
        }
        assert!(matches!(rejected("http.request", json!({"k": "SECRET_REF(other)"})), Rejection::Unknown { .. }));
    }

    #[test]
    fn a_yes_of_a_person_fills_a_file_and_changes_nothing_else() {
        let granted = |tool: &str, args: Value| {
            let binding = |name: &str| (name == "key").then(Binding::default);
            resolve_granted(tool, &args, &binding, &|_| Some(Zeroizing::new("value".to_owned())))
        };
        let Outcome::Resolve(filled) = granted("fs.write", json!({"path": "a", "content": "k=SECRET_REF(key)"})) else { panic!("it is filled") };
        assert_eq!(filled.args, json!({"path": "a", "content": "k=value"}));
        assert!(matches!(granted("fs.write", json!({"path": "/SECRET_REF(key)"})), Outcome::Reject(Rejection::Field { .. })));
        assert!(matches!(granted("fs.write", json!({"content": "SECRET_REF(other)"})), Outcome::Reject(Rejection::Unknown { .. })));
        assert!(matches!(granted("exec", json!({"argv": ["SECRET_REF(key)"]})), Outcome::Reject(Rejection::Argument { .. })));
    }

    #[test]
    fn malformed_references_are_refused_and_unclosed_ones_are_text() {
        for text in ["SECRET_REF()", "SECRET_REF( key )", "SECRET_REF(ke\ny)", "SECRET_REF(SECRET_REF(key))", "SECRET_REF(../key)", "SECRET_REF(kéy)"] {
            assert_eq!(rejected("http.request", json!({ "k": text })), Rejection::Malformed, "{text}");
        }
        for text in ["SECRET_REF(key", "secret_ref(key)", "SECRET_REF", "nothing"] {
            assert_eq!(decide("http.request", json!({ "k": text })), Outcome::Literal, "{text}");
        }
        let placeholder = format!("[REDACTED:{}:{}]", "token", "0123abcd");
        assert_eq!(rejected("fs.write", json!({ "content": format!("k={placeholder}") })), Rejection::Redacted { placeholder });
    }
}
