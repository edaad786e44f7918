//! What an HTTP request does: where it really goes, whether it only asks, and whether money, names or machines hang on it.
//!
//! The address is taken apart here and its facts are told ([`FACTS`]); which facts, hosts, methods and words of a path mean
//! what, is data (`rules/known/http.toml`). Nothing is looked up: what a name resolves to is checked again when it is connected.

pub(crate) mod address;
pub(crate) mod url;

use crate::fault::{self, Fault, RulesError};
use crate::{Class, Deed, Judgement, Sentence};
use address::Place;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use url::Url;

#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Empty: `GET`, or `POST` when there is a body.
    pub method: &'a str,
    pub url: &'a str,
    pub headers: &'a [(&'a str, &'a str)],
    pub body: &'a str,
}

impl<'a> Request<'a> {
    pub fn get(url: &'a str) -> Request<'a> {
        Request { method: "GET", url, headers: &[], body: "" }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Text {
    /// Named lists of hosts; a name stands for itself and everything below it.
    pub hosts: BTreeMap<String, Vec<String>>,
    pub names: Names,
    pub rule: Vec<RuleText>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Names {
    /// Endings of names that lead into a private network.
    pub internal: Vec<String>,
    /// Names and addresses under which a cloud tells a machine its secrets.
    pub metadata: Vec<String>,
    /// Paths under which it does, on any host: words that follow each other, `*` for any one.
    pub metadata_paths: Vec<String>,
    pub metadata_headers: Vec<String>,
    /// Services that turn any name into any address.
    pub rebinding: Vec<String>,
    /// Ports that the web is served on.
    pub ports: Vec<u16>,
    /// Ports on which tools of developers show what is being built, and nothing else that this machine runs listens.
    pub previews: Vec<u16>,
    /// Arguments whose value is a secret, and the beginnings of values that are.
    pub secret_arguments: Vec<String>,
    pub secret_values: Vec<String>,
    /// Words of a host or path that say: here something is explained, nothing is done.
    pub documentation: Vec<String>,
    /// Arguments that may name a host without a scheme.
    pub address_arguments: Vec<String>,
    /// Arguments that name what is to be done, and the words that are no question.
    pub action_arguments: Vec<String>,
    pub action_deletes: Vec<String>,
    pub action_changes: Vec<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleText {
    pub id: String,
    #[serde(default)]
    pub when: When,
    pub class: Class,
    #[serde(default)]
    pub external: bool,
    #[serde(default)]
    pub unknown: bool,
    pub reason: Sentence,
    /// `METHOD url`, and what is sent behind another space.
    #[serde(rename = "match")]
    pub matching: Vec<String>,
    #[serde(default)]
    pub not_match: Vec<String>,
}

/// Every condition that is named must hold.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct When {
    /// One of these facts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub facts: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    /// One of these hosts, or `@list`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    /// A word of the path, whatever its spelling: `payment_intents` is also `payment-intent` and `paymentIntents`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub words: Vec<String>,
    /// The last part of the path has one of these words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub last: Vec<String>,
    /// The whole path, `*` for any one part.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
    /// None of these words, and none of these facts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub without: Vec<String>,
}

/// What is told of a request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fact {
    Unreadable,
    Scheme,
    Userinfo,
    Disguised,
    Foreign,
    Internal,
    Metadata,
    Rebinding,
    Port,
    Relay,
    Secret,
    Much,
    Documentation,
    OtherMethod,
    ActionDeletes,
    ActionChanges,
}

/// Facts that are Red under any text of rules.
const FLOOR: &[Fact] = &[
    Fact::Unreadable,
    Fact::Scheme,
    Fact::Userinfo,
    Fact::Disguised,
    Fact::Internal,
    Fact::Metadata,
    Fact::Rebinding,
    Fact::Port,
    Fact::Relay,
    Fact::OtherMethod,
];

/// The names that rules use.
const FACTS: &[(&str, Fact)] = &[
    ("unreadable", Fact::Unreadable),
    ("scheme", Fact::Scheme),
    ("userinfo", Fact::Userinfo),
    ("disguised", Fact::Disguised),
    ("foreign", Fact::Foreign),
    ("internal", Fact::Internal),
    ("metadata", Fact::Metadata),
    ("rebinding", Fact::Rebinding),
    ("port", Fact::Port),
    ("relay", Fact::Relay),
    ("secret", Fact::Secret),
    ("much", Fact::Much),
    ("documentation", Fact::Documentation),
    ("other_method", Fact::OtherMethod),
    ("action_deletes", Fact::ActionDeletes),
    ("action_changes", Fact::ActionChanges),
];

fn fact_of(name: &str) -> Option<Fact> {
    FACTS.iter().find(|(known, _)| *known == name).map(|(_, fact)| *fact)
}

#[derive(Clone, Copy, Default)]
struct Facts(u32);

impl Facts {
    fn set(&mut self, fact: Fact) {
        self.set_if(true, fact);
    }

    fn set_if(&mut self, told: bool, fact: Fact) {
        self.0 |= u32::from(told) << fact as u32;
    }

    fn clear_if(&mut self, not: bool, fact: Fact) {
        self.0 &= !(u32::from(not) << fact as u32);
    }

    fn all(names: &[String]) -> Facts {
        let mut facts = Facts::default();
        names.iter().filter_map(|name| fact_of(name)).for_each(|fact| facts.set(fact));
        facts
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Method {
    Look,
    Post,
    Put,
    Patch,
    Delete,
    /// A question to GraphQL: sent by `POST`, and changes nothing.
    Query,
    Other,
}

const METHODS: &[(&str, Method)] = &[
    ("GET", Method::Look),
    ("HEAD", Method::Look),
    ("OPTIONS", Method::Look),
    ("POST", Method::Post),
    ("PUT", Method::Put),
    ("PATCH", Method::Patch),
    ("DELETE", Method::Delete),
    ("QUERY", Method::Query),
];

fn method_of(name: &str) -> Option<Method> {
    METHODS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, method)| *method)
}

#[derive(Clone, Debug)]
struct Rule {
    id: String,
    class: Class,
    external: bool,
    unknown: bool,
    facts: u32,
    methods: u8,
    /// Numbers of the lists that must have been met; `None` asks for nothing.
    hosts: Option<u16>,
    words: Option<u16>,
    last: Option<u16>,
    without: Option<u16>,
    without_facts: u32,
    paths: Vec<Vec<String>>,
    reason: Sentence,
}

/// The rules, compiled: a request looks up its own words, so their number does not matter to it.
#[derive(Clone, Debug)]
pub struct Http {
    rules: Vec<Rule>,
    /// By the number of the list that a rule asks for, the rules that can hold when it is met.
    waiting: Vec<Vec<u16>>,
    /// Rules that ask for no list.
    always: Vec<u16>,
    hosts: HashMap<String, Vec<u16>>,
    words: HashMap<String, Vec<u16>>,
    last: HashMap<String, Vec<u16>>,
    internal: HashSet<String>,
    metadata: HashSet<String>,
    rebinding: HashSet<String>,
    metadata_paths: Vec<Vec<String>>,
    documentation: HashSet<String>,
    secret_arguments: HashSet<String>,
    address_arguments: HashSet<String>,
    action_arguments: HashSet<String>,
    action_deletes: HashSet<String>,
    action_changes: HashSet<String>,
    names: Names,
    by_id: HashMap<String, u16>,
}

impl Http {
    pub fn parse(text: &str) -> Result<Http, RulesError> {
        fault::read("http.toml", text, Http::compile)
    }

    pub fn compile(text: Text) -> Result<Http, Vec<Fault>> {
        let Text { hosts, names, rule: rules } = text;
        let mut faults = Vec::new();
        let set = |list: &[String]| list.iter().map(|name| name.to_lowercase()).collect::<HashSet<_>>();
        let mut http = Http {
            rules: Vec::new(),
            waiting: Vec::new(),
            always: Vec::new(),
            hosts: HashMap::new(),
            words: HashMap::new(),
            last: HashMap::new(),
            internal: set(&names.internal),
            metadata: set(&names.metadata),
            rebinding: set(&names.rebinding),
            metadata_paths: names.metadata_paths.iter().map(|path| path.split('/').map(str::to_owned).collect()).collect(),
            documentation: set(&names.documentation),
            secret_arguments: names.secret_arguments.iter().map(|name| word_of(name)).collect(),
            address_arguments: names.address_arguments.iter().map(|name| word_of(name)).collect(),
            action_arguments: set(&names.action_arguments),
            action_deletes: set(&names.action_deletes),
            action_changes: set(&names.action_changes),
            names,
            by_id: HashMap::new(),
        };
        for text in &rules {
            http.add(text, &hosts, &mut faults);
        }
        for text in &rules {
            http.check(text, &mut faults);
        }
        http.check_floor(&mut faults);
        if faults.is_empty() { Ok(http) } else { Err(faults) }
    }

    /// The class that a rule gives.
    pub fn class_of(&self, id: &str) -> Option<Class> {
        self.by_id.get(id).map(|index| self.rules[usize::from(*index)].class)
    }

    pub fn sentence(&self, rule: &str) -> Option<&Sentence> {
        self.by_id.get(rule).map(|index| &self.rules[usize::from(*index)].reason)
    }

    pub fn judge(&self, request: &Request<'_>) -> Judgement {
        self.judge_deep(request, 0)
    }

    fn judge_deep(&self, request: &Request<'_>, depth: u8) -> Judgement {
        let mut found = Judgement::default();
        found.effect(Deed::Net, shortened(request.url));
        let mut view = View::default();
        match url::parse(request.url) {
            Err(url::Fault::Scheme) => view.facts.set(Fact::Scheme),
            Err(url::Fault::Userinfo) => view.facts.set(Fact::Userinfo),
            Err(url::Fault::Unreadable) => view.facts.set(Fact::Unreadable),
            Ok(url) => {
                self.place(&url, &mut view.facts);
                self.look(&url, &mut view);
                if depth < RELAYS_MAX {
                    self.relays(&url, depth, &mut view.facts, &mut found);
                } else {
                    view.facts.set(Fact::Unreadable);
                }
            }
        }
        self.headers(request, &mut view.facts);
        let acting = self.methods(request, &view);
        for method in acting {
            view.method = 0;
            match method {
                Some(method) => view.method = 1 << method as u8,
                None => view.facts.set(Fact::OtherMethod),
            }
            // Nothing is only explained to somebody who is sent something.
            let told = view.facts;
            view.facts.clear_if(method != Some(Method::Look), Fact::Documentation);
            self.decide(&view, &mut found);
            view.facts = told;
        }
        if found.external {
            found.effect(Deed::Send, shortened(request.url));
        }
        found
    }

    /// A page that is looked at from this very machine, by a program or browser that runs on it: its own previews are no
    /// way into somebody's network. Anything else is an ordinary request.
    pub fn judge_page(&self, address: &str) -> Judgement {
        let preview = url::parse(address).ok().filter(|url| {
            let here = matches!(url.host.as_str(), "localhost" | "127.0.0.1" | "::1");
            here && !url.disguised && !url.foreign && self.names.previews.contains(&url.port) && !url.query.contains("//")
        });
        let Some(url) = preview else { return self.judge(&Request::get(address)) };
        let query = if url.query.is_empty() { "" } else { "?" };
        let mut found = self.judge(&Request::get(&format!("http://preview.example.com{}{query}{}", url.path, url.query)));
        found.raise(Class::Yellow, "http.preview");
        found
    }

    /// INVARIANT: no rule that holds is Red and unreadable, so a request that nothing is known of always asks.
    fn decide(&self, view: &View, found: &mut Judgement) {
        let mut any = false;
        let waiting = view.met.iter().flat_map(|list| &self.waiting[usize::from(*list)]);
        for rule in self.always.iter().chain(waiting).map(|index| &self.rules[usize::from(*index)]) {
            if holds(rule, view) {
                any = true;
                found.raise(rule.class, &rule.id);
                found.external |= rule.external;
                found.unknown |= rule.unknown;
                if rule.class == Class::CriticalRed && rule.id.contains(".pay") {
                    found.effect(Deed::Pay, rule.id.as_str());
                }
            }
        }
        if !any {
            found.unreadable("http.unreadable");
        }
    }

    /// Where the host lies, as far as its letters tell.
    fn place(&self, url: &Url<'_>, facts: &mut Facts) {
        facts.set_if(!self.names.ports.contains(&url.port), Fact::Port);
        facts.set_if(url.disguised, Fact::Disguised);
        facts.set_if(url.foreign, Fact::Foreign);
        let host = url.host.as_str();
        facts.set_if(self.metadata.contains(host), Fact::Metadata);
        if url.is_v6 {
            match host.parse() {
                Ok(address) => {
                    let (place, carried) = address::place_v6(address);
                    let known = |text: String| self.metadata.contains(&text);
                    facts.set_if(known(address.to_string()) || carried.is_some_and(|carried| known(carried.to_string())), Fact::Metadata);
                    facts.set_if(place == Place::Internal, Fact::Internal);
                    facts.set_if(carried.is_some(), Fact::Disguised);
                }
                Err(_) => facts.set(Fact::Unreadable),
            }
            return;
        }
        match address::ipv4(host) {
            Some(Some(address)) => {
                let canonical = address.to_string();
                facts.set_if(canonical != host, Fact::Disguised);
                facts.set_if(self.metadata.contains(&canonical), Fact::Metadata);
                facts.set_if(address::place_v4(address) == Place::Internal, Fact::Internal);
                return;
            }
            Some(None) => return facts.set(Fact::Unreadable),
            None => {}
        }
        let below = |list: &HashSet<String>| endings(host).any(|ending| list.contains(ending));
        facts.set_if(!host.contains('.') || below(&self.internal), Fact::Internal);
        facts.set_if(below(&self.metadata), Fact::Metadata);
        facts.set_if(below(&self.rebinding), Fact::Rebinding);
        facts.set_if(address::carried(host).any(|address| address::place_v4(address) == Place::Internal), Fact::Internal);
        facts.set_if(host.split(['.', '-']).any(|label| self.documentation.contains(label)), Fact::Documentation);
    }

    /// The rule under which nobody connects to a host of this name, as far as its letters tell.
    pub fn closed_name(&self, name: &str) -> Option<&'static str> {
        let below = |list: &HashSet<String>| endings(name).any(|ending| list.contains(ending));
        if below(&self.metadata) {
            return Some("http.metadata");
        }
        if below(&self.rebinding) {
            return Some("http.rebinding");
        }
        let inside = !name.contains('.') || below(&self.internal) || address::carried(name).any(|address| address::place_v4(address) == Place::Internal);
        inside.then_some("http.internal")
    }

    /// Endings of names that lead into a private network.
    pub fn internal_names(&self) -> impl Iterator<Item = &str> {
        self.internal.iter().map(String::as_str)
    }

    /// The rule under which nobody connects to this address. One that carries another is closed whatever that is: who
    /// serves the web has no need of it.
    pub fn closed_address(&self, address: IpAddr) -> Option<&'static str> {
        let known = |text: String| self.metadata.contains(&text);
        let (place, carried) = match address {
            IpAddr::V4(address) => (address::place_v4(address), None),
            IpAddr::V6(address) => address::place_v6(address),
        };
        if known(address.to_string()) || carried.is_some_and(|carried| known(carried.to_string())) {
            return Some("http.metadata");
        }
        (place == Place::Internal || carried.is_some()).then_some("http.internal")
    }

    /// What the path and the query say.
    fn look(&self, url: &Url<'_>, view: &mut View) {
        let path = url::decoded(url.path);
        view.facts.set_if(path.chars().any(char::is_control), Fact::Unreadable);
        let mut parts: Vec<String> = Vec::new();
        for part in path.split('/') {
            match part {
                "" | "." => {}
                ".." => drop(parts.pop()),
                _ if parts.len() < PARTS_MAX => parts.push(part.to_lowercase()),
                _ => {}
            }
        }
        for ending in endings(&url.host) {
            view.met.extend(self.hosts.get(ending).into_iter().flatten());
        }
        for (index, part) in parts.iter().enumerate() {
            let is_last = index + 1 == parts.len();
            let written = is_last && part.rsplit_once('.').is_some_and(|(_, ending)| WRITTEN.contains(&ending));
            view.facts.set_if(written || part.split(['-', '_']).any(|word| self.documentation.contains(word)), Fact::Documentation);
            words_of(part, |word| {
                view.met.extend(self.words.get(word).into_iter().flatten());
                if is_last {
                    view.met.extend(self.last.get(word).into_iter().flatten());
                }
            });
        }
        let called = path.rsplit('/').find(|part| !part.is_empty()).and_then(|part| part.rsplit('.').next()).unwrap_or_default();
        if !url.query.is_empty() && called.starts_with(char::is_lowercase) && called.contains(char::is_uppercase) {
            self.acting(&first_word(called), &mut view.facts);
        }
        view.facts
            .set_if(self.metadata_paths.iter().any(|wanted| follows(&parts, wanted)) || parts.iter().any(|part| part.contains("meta-data")), Fact::Metadata);
        view.parts = parts;
        view.facts.set_if(url.query.len() > QUERY_BYTES_MAX, Fact::Much);
        for (name, value) in url.query.split('&').take(ARGUMENTS_MAX).map(|pair| pair.split_once('=').unwrap_or((pair, ""))) {
            let (name, value) = (word_of(&url::decoded(name)), url::decoded(value));
            let secret = self.names.secret_values.iter().any(|start| value.starts_with(start.as_str()));
            view.facts.set_if(secret || (value.len() >= SECRET_CHARS_MIN && self.secret_arguments.contains(&name)), Fact::Secret);
            if name == "method" && method_of(&value).is_some() {
                view.overriding = method_of(&value);
            }
            if self.action_arguments.contains(&name) {
                self.acting(&first_word(&value), &mut view.facts);
            }
        }
        let in_path = view.parts.iter().any(|part| self.names.secret_values.iter().any(|start| part.starts_with(start.as_str())));
        view.facts.set_if(in_path, Fact::Secret);
    }

    fn acting(&self, word: &str, facts: &mut Facts) {
        facts.set_if(self.action_deletes.contains(word), Fact::ActionDeletes);
        facts.set_if(self.action_changes.contains(word), Fact::ActionChanges);
    }

    /// Another address inside this one: a relay or a redirect goes there.
    fn relays(&self, url: &Url<'_>, depth: u8, facts: &mut Facts, found: &mut Judgement) {
        let path = url::decoded(url.path);
        if let Some(inner) = inner_address(&path) {
            facts.set(Fact::Relay);
            found.join(self.judge_deep(&Request::get(inner), depth + 1));
        }
        // A question may well name another address; where that one must not be reached, this one must not either.
        for (name, value) in url.query.split('&').take(ARGUMENTS_MAX).filter_map(|pair| pair.split_once('=')) {
            let value = url::decoded(value);
            let bare = self.address_arguments.contains(&word_of(name)).then(|| inner_host(&value)).flatten();
            if let Some(inner) = inner_address(&value).or(bare.as_deref()) {
                let inner = self.judge_deep(&Request::get(inner), depth + 1);
                if inner.class >= Class::Red && !inner.because.iter().all(|because| because.rule == "http.relay") {
                    found.join(inner);
                }
            }
        }
    }

    fn headers(&self, request: &Request<'_>, facts: &mut Facts) {
        for (name, value) in request.headers {
            facts.set_if(name.chars().chain(value.chars()).any(|letter| matches!(letter, '\r' | '\n' | '\0')), Fact::Unreadable);
            facts.set_if(self.names.metadata_headers.iter().any(|known| known.eq_ignore_ascii_case(name)), Fact::Metadata);
            if name.eq_ignore_ascii_case("host") {
                match url::parse(&format!("https://{value}/")) {
                    Ok(url) => self.place(&url, facts),
                    Err(_) => facts.set(Fact::Unreadable),
                }
            }
        }
    }

    /// What the request asks the server to do: its method, and any other that it asks to be taken for. `None` is one that nobody knows.
    fn methods(&self, request: &Request<'_>, view: &View) -> Vec<Option<Method>> {
        let named = request.method.trim();
        let own = match named {
            "" if request.body.is_empty() => Some(Method::Look),
            "" => Some(Method::Post),
            named => method_of(named).filter(|method| *method != Method::Query),
        };
        let asks = own == Some(Method::Post) && view.parts.last().is_some_and(|last| last.starts_with("graphql")) && is_question(request.body);
        let mut methods = vec![if asks { Some(Method::Query) } else { own }];
        let overriding = ["x-http-method-override", "x-http-method", "x-method-override"];
        methods.extend(
            request
                .headers
                .iter()
                .filter(|(name, _)| overriding.iter().any(|known| known.eq_ignore_ascii_case(name)))
                .map(|(_, value)| method_of(value.trim())),
        );
        methods.extend(view.overriding.map(Some));
        if let Some(at) = request.body.find("_method") {
            let rest = request.body[at + "_method".len()..].trim_start_matches(['"', '\'', '=', ':', ' ']);
            let name: String = rest.chars().take_while(char::is_ascii_alphabetic).take(10).collect();
            methods.extend(method_of(&name).map(Some));
        }
        methods
    }

    fn add(&mut self, text: &RuleText, hosts: &BTreeMap<String, Vec<String>>, faults: &mut Vec<Fault>) {
        let RuleText { id, when, class, external, unknown, reason, .. } = text;
        let mut fault = |what: String, fix: &str| faults.push(Fault::new(id, what, fix));
        if self.by_id.insert(id.clone(), self.rules.len() as u16).is_some() {
            fault("is written twice".to_owned(), "give each rule its own id");
        }
        for name in when.facts.iter().filter(|name| fact_of(name).is_none()) {
            let known: Vec<&str> = FACTS.iter().map(|(name, _)| *name).collect();
            fault(format!("names the fact `{name}`, which nobody tells"), &format!("use one of {}", known.join(", ")));
        }
        let facts = Facts::all(&when.facts).0;
        let mut methods = 0;
        for name in &when.methods {
            match method_of(name) {
                None if name == "*" => methods |= 1 << Method::Other as u8,
                None => fault(format!("names the method `{name}`"), "use GET, HEAD, OPTIONS, POST, PUT, PATCH, DELETE or QUERY"),
                Some(method) => methods |= 1 << method as u8,
            }
        }
        let mut list = |names: &[String], into: fn(&mut Http) -> &mut HashMap<String, Vec<u16>>, spelt: fn(&str) -> String| {
            if names.is_empty() {
                return None;
            }
            let number = self.waiting.len() as u16;
            self.waiting.push(Vec::new());
            for name in names {
                into(self).entry(spelt(name)).or_default().push(number);
            }
            Some(number)
        };
        let mut named = Vec::new();
        for host in &when.hosts {
            match host.strip_prefix('@') {
                Some(group) => match hosts.get(group) {
                    Some(list) => named.extend(list.iter().cloned()),
                    None => fault(format!("names the hosts `@{group}`, which are not listed"), "add the list under [hosts]"),
                },
                None => named.push(host.clone()),
            }
        }
        let without: Vec<String> = when.without.iter().filter(|name| fact_of(name).is_none()).cloned().collect();
        let without_facts = Facts::all(&when.without).0;
        let hosts = list(&named, |http| &mut http.hosts, str::to_lowercase);
        let words = list(&when.words, |http| &mut http.words, word_of);
        let last = list(&when.last, |http| &mut http.last, word_of);
        let without = list(&without, |http| &mut http.words, word_of);
        let index = self.rules.len() as u16;
        match words.or(last).or(hosts) {
            Some(number) => self.waiting[usize::from(number)].push(index),
            None => self.always.push(index),
        }
        let paths = when.paths.iter().map(|path| path.split('/').filter(|part| !part.is_empty()).map(str::to_lowercase).collect()).collect();
        let (id, reason) = (id.clone(), reason.clone());
        self.rules.push(Rule {
            id,
            class: *class,
            external: *external,
            unknown: *unknown,
            facts,
            methods,
            hosts,
            words,
            last,
            without,
            without_facts,
            paths,
            reason,
        });
    }

    /// What no text of rules may leave out or take lightly.
    fn check_floor(&self, faults: &mut Vec<Fault>) {
        let bare = |rule: &&Rule| rule.hosts.or(rule.words).or(rule.last).or(rule.without).is_none() && rule.paths.is_empty() && rule.without_facts == 0;
        for (name, fact) in FACTS.iter().filter(|(_, fact)| FLOOR.contains(fact)) {
            let kept = self.rules.iter().filter(bare).any(|rule| rule.methods == 0 && rule.facts & 1 << *fact as u32 != 0 && rule.class >= Class::Red);
            if !kept {
                faults.push(Fault::new(name, "is not Red by any rule", "keep a rule that asks for this fact alone and is at least red"));
            }
        }
        for (name, method, class) in [
            ("POST", Method::Post, Class::Yellow),
            ("PUT", Method::Put, Class::Yellow),
            ("PATCH", Method::Patch, Class::Yellow),
            ("DELETE", Method::Delete, Class::Red),
        ] {
            let kept =
                self.rules.iter().filter(bare).any(|rule| rule.facts == 0 && rule.methods & 1 << method as u8 != 0 && rule.class >= class && rule.external);
            if !kept {
                faults.push(Fault::new(
                    name,
                    "is not said to leave the house by any rule",
                    "keep a rule for this method alone that is external and no lower than shipped",
                ));
            }
        }
    }

    fn check(&self, text: &RuleText, faults: &mut Vec<Fault>) {
        faults.extend(fault::of_sentence(&text.id, &text.reason));
        if text.matching.is_empty() || text.not_match.is_empty() {
            faults.push(Fault::new(&text.id, "has no example", "write at least one `match` and one `not_match` line"));
        }
        for (example, expected) in text.matching.iter().map(|e| (e, true)).chain(text.not_match.iter().map(|e| (e, false))) {
            let example = fault::expanded(example);
            let mut parts = example.splitn(3, ' ');
            let (method, url, body) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
            let found = self.judge(&Request { method, url, headers: &[], body });
            if found.because.iter().any(|because| because.rule == text.id) != expected {
                let what = if expected { "does not hold for its example" } else { "holds for what it must not" };
                faults.push(Fault::new(&text.id, format!("{what} `{example}`"), "mend the rule or the example"));
            }
        }
    }
}

/// More relays inside each other than anybody needs.
const RELAYS_MAX: u8 = 3;
const PARTS_MAX: usize = 64;
/// Endings of what is only written down.
const WRITTEN: &[&str] = &["html", "htm", "md", "adoc", "rst", "txt", "pdf", "1", "2", "3", "4", "5", "6", "7", "8"];
const ARGUMENTS_MAX: usize = 64;
/// Longer than any search; what is longer carries something away.
const QUERY_BYTES_MAX: usize = 1500;
/// Shorter values are page marks and names, not secrets.
const SECRET_CHARS_MIN: usize = 6;

/// One request, taken apart.
#[derive(Default)]
struct View {
    facts: Facts,
    method: u8,
    /// Numbers of the lists that one of its words or hosts is in.
    met: Vec<u16>,
    parts: Vec<String>,
    overriding: Option<Method>,
}

fn holds(rule: &Rule, view: &View) -> bool {
    let meets = |facts: u32| view.facts.0 & facts != 0;
    let met = |list: Option<u16>| list.is_none_or(|list| view.met.contains(&list));
    (rule.facts == 0 || meets(rule.facts))
        && (rule.methods == 0 || rule.methods & view.method != 0)
        && met(rule.hosts)
        && met(rule.words)
        && met(rule.last)
        && !rule.without.is_some_and(|list| view.met.contains(&list))
        && !meets(rule.without_facts)
        && (rule.paths.is_empty() || rule.paths.iter().any(|path| path.len() == view.parts.len() && follows(&view.parts, path)))
}

/// `www.example.org`, `example.org`, `org`.
fn endings(host: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(host), |rest| rest.split_once('.').map(|(_, rest)| rest))
}

/// Whether these parts follow each other somewhere; `*` is any one, an ending `$` in the last place is the end of the path.
fn follows(parts: &[String], wanted: &[String]) -> bool {
    let (wanted, to_the_end) = match wanted.split_last() {
        Some((last, rest)) if last == "$" => (rest, true),
        _ => (wanted, false),
    };
    let same = |window: &[String]| window.iter().zip(wanted).all(|(part, wanted)| wanted == "*" || part == wanted);
    if to_the_end {
        return parts.len() >= wanted.len() && same(&parts[parts.len() - wanted.len()..]);
    }
    !wanted.is_empty() && parts.windows(wanted.len()).any(same)
}

/// The one spelling of a word: lower case, without what joins, in the singular.
fn word_of(text: &str) -> String {
    let mut word: String = text.chars().filter(|letter| !matches!(letter, '-' | '_' | ' ')).flat_map(char::to_lowercase).collect();
    if word.len() > 3 && word.ends_with('s') && !word.ends_with("ss") {
        word.pop();
    }
    word
}

/// `refunds.json`, `messages:send` and `chat.postMessage` say more than one word.
fn words_of(part: &str, mut say: impl FnMut(&str)) {
    say(&word_of(part));
    if part.contains(['.', ':', '(']) {
        part.split(['.', ':', '(', ')']).filter(|word| !word.is_empty()).for_each(|word| say(&word_of(word)));
    }
}

/// `Delete` of `DeleteInstance` and `delete_item`.
fn first_word(text: &str) -> String {
    let end = text.char_indices().find(|(at, letter)| !letter.is_alphabetic() || (*at > 0 && letter.is_uppercase())).map_or(text.len(), |(at, _)| at);
    text[..end].to_lowercase()
}

/// The first absolute address that stands in `text`.
fn inner_address(text: &str) -> Option<&str> {
    text.match_indices(':').take(ARGUMENTS_MAX).find_map(|(at, _)| {
        let start = text[..at]
            .rfind(|letter: char| !letter.is_ascii_alphanumeric() && !"+-.".contains(letter))
            .map_or(0, |before| before + text[before..].chars().next().map_or(1, char::len_utf8));
        let (scheme, rest) = (text[start..at].to_ascii_lowercase(), &text[at..]);
        let known = ["http", "https", "file", "gopher", "dict", "ftp", "jar", "data", "ldap", "tftp", "netdoc"].contains(&scheme.as_str());
        let absolute = rest.starts_with("://") || (known && (rest.starts_with(":/") || rest.starts_with(":\\")));
        (absolute && scheme.starts_with(|letter: char| letter.is_ascii_alphabetic())).then(|| &text[start..])
    })
}

/// An argument that names a host without a scheme: four numbers, a bracket, or a name that is only ours.
fn inner_host(value: &str) -> Option<String> {
    let value = value.trim_start_matches(['/', '\\']);
    let host = value.split(['/', '?', '#']).next().unwrap_or_default();
    let name = if host.starts_with('[') { host } else { host.split(':').next().unwrap_or_default() };
    let quad = name.split('.').count() == 4 && address::ipv4(name).is_some();
    (quad || name.starts_with('[') || name.eq_ignore_ascii_case("localhost")).then(|| format!("http://{host}/"))
}

/// Whether a GraphQL text only asks: it says so, and nowhere speaks of changing.
fn is_question(body: &str) -> bool {
    let lower = body.to_lowercase();
    !lower.contains("mutation") && !lower.contains("subscription") && (lower.contains("query") || lower.trim_start().starts_with('{'))
}

/// An address without what may be secret in it: what is asked, and what stands before the host.
fn shortened(url: &str) -> String {
    let address = url.split(['?', '#']).next().unwrap_or_default();
    let plain = address.split_once("://").and_then(|(scheme, rest)| Some(format!("{scheme}://{}", rest.rsplit_once('@')?.1)));
    plain.as_deref().unwrap_or(address).chars().take(ADDRESS_CHARS_SHOWN).collect()
}

const ADDRESS_CHARS_SHOWN: usize = 200;

#[cfg(test)]
mod tests;
