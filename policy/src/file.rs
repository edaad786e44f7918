//! What is done to a file: named sets of paths, and how dangerous each deed is to each of them.
//!
//! A path is text here, absolute and without `..`; where a symbolic link leads is the caller's business. Letters are
//! compared without regard to case. Sets are data (`rules/known/paths.toml`), compiled into one tree that a path walks once.

use crate::fault::{self, Fault, RulesError};
use crate::path::{absolute, is_within};
use crate::{Class, Deed, Judgement, Sentence};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Text {
    /// Patterns: `/a/b`, `~/a` in anybody's home, `**/a` anywhere, `workspace:/a`; `*` within a part, `/**` at the end for a folder
    /// and all in it; `!` before a pattern takes it out of the set.
    pub set: BTreeMap<String, Vec<String>>,
    /// Endings under which a copy of a file is kept: a secret is one under any of them.
    pub copies: Vec<String>,
    pub rule: Vec<RuleText>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleText {
    pub id: String,
    pub deeds: Vec<Deed>,
    /// The path is in one of these sets, and in none of `without`.
    pub sets: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub without: Vec<String>,
    pub class: Class,
    #[serde(default)]
    pub external: bool,
    pub reason: Sentence,
    /// `deed path`; the workspace of examples is [`EXAMPLE_WORKSPACE`].
    #[serde(rename = "match")]
    pub matching: Vec<String>,
    pub not_match: Vec<String>,
}

pub const EXAMPLE_WORKSPACE: &str = "/home/assistant/.openclaw/workspace";

/// A path may be in several sets at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sets(u64);

impl Sets {
    pub fn meets(self, other: Sets) -> bool {
        self.0 & other.0 != 0
    }

    pub fn join(self, other: Sets) -> Sets {
        Sets(self.0 | other.0)
    }
}

/// Sets that are told from the workspace, not by patterns. Their order is their number.
///
/// `root`: `/`, a system folder directly below it, or a whole home. `home`: in the assistant's own home, but not in its
/// workspace. `stranger`: in the home of somebody else. `base`: the workspace itself. `above`: a folder that holds it.
/// `unknown`: absolute, and in no set that says what it is. `administrator`: in root's home, when that is not the assistant's.
/// `scripted`: with letters in the name that a shell would run.
const TOLD: &[&str] = &["root", "home", "stranger", "workspace", "base", "above", "relative", "unknown", "administrator", "scripted"];
const ROOT: u64 = 1;
const HOME: u64 = 1 << 1;
const STRANGER: u64 = 1 << 2;
const WORKSPACE: u64 = 1 << 3;
const BASE: u64 = 1 << 4;
const ABOVE: u64 = 1 << 5;
const RELATIVE: u64 = 1 << 6;
const UNKNOWN: u64 = 1 << 7;
const ADMINISTRATOR: u64 = 1 << 8;
const SCRIPTED: u64 = 1 << 9;
/// Sets that the shipped texts and other judges speak of.
const NEEDED: &[&str] = &["system", "secret", "persist", "device", "temp", "guard"];

#[derive(Clone, Debug)]
pub struct Paths {
    anywhere: Tree,
    in_workspace: Tree,
    names: HashMap<String, u64>,
    copies: Vec<String>,
    system: u64,
    temp: u64,
    device: u64,
    hidden: u64,
    rules: Vec<Rule>,
}

#[derive(Clone, Debug)]
struct Rule {
    id: String,
    deeds: u16,
    sets: u64,
    without: u64,
    class: Class,
    external: bool,
    reason: Sentence,
}

impl Paths {
    pub fn parse(text: &str) -> Result<Paths, RulesError> {
        fault::read("paths.toml", text, Paths::compile)
    }

    pub fn compile(text: Text) -> Result<Paths, Vec<Fault>> {
        let mut faults = Vec::new();
        let mut names: HashMap<String, u64> = TOLD.iter().enumerate().map(|(index, name)| (name.to_string(), 1 << index)).collect();
        for name in text.set.keys() {
            let bit = 1u64.checked_shl(names.len() as u32).filter(|_| names.len() < SETS_MAX);
            match bit {
                Some(bit) if !names.contains_key(name) => drop(names.insert(name.clone(), bit)),
                Some(_) => faults.push(Fault::new(name, "is a set that is told from the workspace", "give it another name")),
                None => faults.push(Fault::new(name, "is one set too many", format!("keep at most {SETS_MAX} sets"))),
            }
        }
        for name in NEEDED.iter().filter(|name| !names.contains_key(**name)) {
            faults.push(Fault::new(name, "is a set that others need", "list its paths under [set]"));
        }
        let bit = |name: &str| names.get(name).copied().unwrap_or_default();
        let (mut anywhere, mut in_workspace) = (Tree::new(), Tree::new());
        for (name, patterns) in &text.set {
            for pattern in patterns {
                let added = match pattern.strip_prefix("!").unwrap_or(pattern).strip_prefix("workspace:/") {
                    Some(inner) => in_workspace.add(inner, pattern.starts_with('!'), bit(name)),
                    None => add_everywhere(&mut anywhere, pattern, bit(name)),
                };
                if !added {
                    faults.push(Fault::new(
                        pattern,
                        "is no pattern for paths",
                        "begin with `/`, `~/`, `**/` or `workspace:/`, and write `**` only at the start or the end",
                    ));
                }
            }
        }
        anywhere.settle();
        in_workspace.settle();
        let mut rules = Vec::new();
        for rule in &text.rule {
            let mut all = |list: &[String]| {
                list.iter().fold(0, |bits, name| {
                    if bit(name) == 0 {
                        faults.push(Fault::new(&rule.id, format!("names the set `{name}`, which is not listed"), "list it under [set]"));
                    }
                    bits | bit(name)
                })
            };
            let (sets, without) = (all(&rule.sets), all(&rule.without));
            let deeds = rule.deeds.iter().fold(0, |bits, deed| bits | 1 << *deed as u16);
            if rules.iter().any(|known: &Rule| known.id == rule.id) {
                faults.push(Fault::new(&rule.id, "is written twice", "give each rule its own id"));
            }
            rules.push(Rule { id: rule.id.clone(), deeds, sets, without, class: rule.class, external: rule.external, reason: rule.reason.clone() });
        }
        let (system, temp, device, hidden) = (bit("system"), bit("temp"), bit("device"), bit("secret") | bit("guard"));
        let paths = Paths { anywhere, in_workspace, names, copies: text.copies.clone(), system, temp, device, hidden, rules };
        for rule in &text.rule {
            paths.check(rule, &mut faults);
        }
        paths.check_floor(&mut faults);
        if faults.is_empty() { Ok(paths) } else { Err(faults) }
    }

    /// The set of this name, to compare with [`Paths::sets`].
    pub fn set(&self, name: &str) -> Option<Sets> {
        self.names.get(name).map(|bit| Sets(*bit))
    }

    /// The class that a rule gives.
    pub fn class_of(&self, id: &str) -> Option<Class> {
        self.rules.iter().filter(|rule| rule.id == id).map(|rule| rule.class).max()
    }

    pub fn sentence(&self, rule: &str) -> Option<&Sentence> {
        self.rules.iter().find(|known| known.id == rule).map(|rule| &rule.reason)
    }

    /// Everything that is known of a path: absolute and normalised, or relative and then taken to lie in the workspace.
    pub fn sets(&self, path: &str, workspace: &str) -> Sets {
        let Some(full) = (if path.starts_with('/') { Some(path.to_owned()) } else { absolute(path, workspace) }) else { return Sets(UNKNOWN) };
        let full = full.to_lowercase();
        let full = full.strip_prefix("/private").filter(|rest| rest.starts_with('/')).unwrap_or(&full);
        let workspace = workspace.to_lowercase();
        let inside = is_within(full, &workspace);
        let depth = if inside { workspace.split('/').filter(|part| !part.is_empty()).count() } else { usize::MAX };
        let mut bits = self.anywhere.walk(full, depth, &self.copies, self.hidden);
        if !path.starts_with('/') {
            bits |= RELATIVE;
        }
        if inside {
            bits |= WORKSPACE | self.in_workspace.walk(full.strip_prefix(workspace.as_str()).unwrap_or_default(), usize::MAX, &self.copies, self.hidden);
        }
        Sets(bits | self.told(full, &workspace, inside, bits))
    }

    fn told(&self, full: &str, workspace: &str, inside: bool, bits: u64) -> u64 {
        let own = home_of(workspace);
        let home = home_around(full);
        let mut told = 0;
        if full == workspace {
            told |= BASE;
        }
        if !inside && (full == "/" || is_within(workspace, full)) {
            told |= ABOVE;
        }
        if !inside && let Some(home) = home {
            told |= if own == Some(home) { HOME } else { STRANGER };
        } else if !inside && own.is_some_and(|own| is_within(full, own)) {
            told |= HOME;
        }
        if !inside && is_within(full, "/root") && own != Some("/root") {
            told |= ADMINISTRATOR;
        }
        if full.contains(['|', '`']) || full.contains("$(") || full.contains("${") {
            told |= SCRIPTED;
        }
        let is_top = full.bytes().filter(|byte| *byte == b'/').count() == 1;
        if full == "/" || Some(full) == home || matches!(full, "/home" | "/users") || (is_top && bits & (self.system | self.device) != 0) {
            told |= ROOT;
        }
        if told & !SCRIPTED == 0 && !inside && bits & (self.system | self.temp | self.device) == 0 {
            told |= UNKNOWN;
        }
        told
    }

    /// Whether the path is in the named set. There is no path in a set that is not defined.
    pub fn lies_in(&self, path: &str, set: &str, workspace: &str) -> bool {
        self.set(set).is_some_and(|set| self.sets(path, workspace).meets(set))
    }

    /// What it means to do this to `path`: absolute and normalised, as the caller resolved it.
    pub fn judge(&self, deed: Deed, path: &str, workspace: &str) -> Judgement {
        let mut found = Judgement::default();
        found.effect(deed, path.chars().take(PATH_CHARS_SHOWN).collect::<String>());
        match absolute(path, workspace) {
            Some(path) => found.join(self.judge_in(deed, &path, self.sets(&path, workspace))),
            None => found.unreadable(UNREADABLE),
        }
        found
    }

    /// The same for a path whose sets the caller knows: absolute, without `.` and `..`, and meant as it is written.
    pub fn judge_in(&self, deed: Deed, path: &str, Sets(sets): Sets) -> Judgement {
        let mut found = Judgement::default();
        let mut any = false;
        for rule in self.rules.iter().filter(|rule| rule.deeds & 1 << deed as u16 != 0 && rule.sets & sets != 0 && rule.without & sets == 0) {
            any = true;
            found.raise(rule.class, &rule.id);
            found.external |= rule.external;
        }
        if !any {
            found.unreadable(UNREADABLE);
        }
        if sets & self.hidden != 0 {
            found.effect(Deed::Secret, path.chars().take(PATH_CHARS_SHOWN).collect::<String>());
        }
        found
    }

    fn check(&self, rule: &RuleText, faults: &mut Vec<Fault>) {
        faults.extend(fault::of_sentence(&rule.id, &rule.reason));
        if rule.matching.is_empty() || rule.not_match.is_empty() {
            faults.push(Fault::new(&rule.id, "has no example", "write at least one `match` and one `not_match` line"));
        }
        for (example, expected) in rule.matching.iter().map(|e| (e, true)).chain(rule.not_match.iter().map(|e| (e, false))) {
            let (deed, path) = example.split_once(' ').unwrap_or_default();
            let Some(deed) = DEEDS.iter().find(|(name, _)| *name == deed).map(|(_, deed)| *deed) else {
                faults.push(Fault::new(
                    &rule.id,
                    format!("has an example without a deed: `{example}`"),
                    "write `read /a/path`, with read, write, change, delete or upload",
                ));
                continue;
            };
            let found = self.judge(deed, path, EXAMPLE_WORKSPACE).because.iter().any(|because| because.rule == rule.id);
            if found != expected {
                let what = if expected { "does not hold for its example" } else { "holds for what it must not" };
                faults.push(Fault::new(&rule.id, format!("{what} `{example}`"), "mend the rule, the set or the example"));
            }
        }
    }

    /// What no text of rules may leave out or take lightly.
    fn check_floor(&self, faults: &mut Vec<Fault>) {
        if self.sentence(UNREADABLE).is_none() {
            faults.push(Fault::new(UNREADABLE, "is missing", "add the rule that explains paths nobody can read"));
        }
        for (set, deed, class) in FLOOR {
            let bit = self.names.get(*set).copied().unwrap_or_default();
            let kept = self.rules.iter().any(|rule| rule.deeds & 1 << *deed as u16 != 0 && rule.sets & bit != 0 && rule.without == 0 && rule.class >= *class);
            if !kept {
                faults.push(Fault::new(
                    set,
                    format!("is not {} to {deed:?} by any rule", class.name()),
                    "keep a rule that is at least as strict, without exceptions",
                ));
            }
        }
    }
}

const SETS_MAX: usize = 60;
const PATH_CHARS_SHOWN: usize = 300;
const UNREADABLE: &str = "file.unreadable";
const DEEDS: &[(&str, Deed)] = &[("read", Deed::Read), ("write", Deed::Write), ("change", Deed::Change), ("delete", Deed::Delete), ("upload", Deed::Upload)];
const FLOOR: &[(&str, Deed, Class)] = &[
    ("secret", Deed::Read, Class::Red),
    ("secret", Deed::Write, Class::Red),
    ("secret", Deed::Delete, Class::Red),
    ("guard", Deed::Read, Class::Red),
    ("guard", Deed::Write, Class::CriticalRed),
    ("guard", Deed::Delete, Class::CriticalRed),
    ("system", Deed::Write, Class::Red),
    ("persist", Deed::Write, Class::Red),
    ("device", Deed::Write, Class::Red),
];

/// The assistant's home: what stands before `/.openclaw`, else the home that the workspace lies in.
pub fn home_of(workspace: &str) -> Option<&str> {
    match workspace.find("/.openclaw") {
        Some(0) => None,
        Some(at) => Some(&workspace[..at]),
        None => home_around(workspace),
    }
}

/// The home that a path lies in, or is.
fn home_around(path: &str) -> Option<&str> {
    if is_within(path, "/root") {
        return Some("/root");
    }
    let rest = path.strip_prefix("/home/").or_else(|| path.strip_prefix("/users/")).or_else(|| path.strip_prefix("/Users/"))?;
    let name = rest.split('/').next().filter(|name| !name.is_empty())?;
    Some(&path[..path.len() - rest.len() + name.len()])
}

fn add_everywhere(tree: &mut Tree, pattern: &str, bit: u64) -> bool {
    let (pattern, except) = match pattern.strip_prefix('!') {
        Some(pattern) => (pattern, true),
        None => (pattern, false),
    };
    match pattern.strip_prefix("~/") {
        Some(inner) => ["root", "home/*", "users/*"].iter().all(|home| tree.add(&format!("{home}/{inner}"), except, bit)),
        None => match pattern.strip_prefix('/').or(pattern.starts_with("**/").then_some(pattern)) {
            Some(inner) => tree.add(inner, except, bit),
            None => false,
        },
    }
}

/// Patterns, part by part. A path is in several places of it at once, because of `*` and `**`.
#[derive(Clone, Debug)]
struct Tree {
    nodes: Vec<Node>,
}

#[derive(Clone, Debug, Default)]
struct Node {
    /// In order.
    exact: Vec<(Box<str>, u32)>,
    /// Few nodes have any.
    others: Option<Box<Others>>,
    /// The node of a `**` that begins here.
    deep: Option<u32>,
    stays: bool,
    /// Sets that a path which ends here is in, and is taken out of.
    is: u64,
    is_not: u64,
    /// The same for every path that leads through here.
    holds: u64,
    holds_not: u64,
}

#[derive(Clone, Debug, Default)]
struct Others {
    /// `*.pem`: by what follows the last dot.
    endings: HashMap<String, u32, Quick>,
    /// By the letter that they begin with; `*` for those that begin with anything.
    globs: HashMap<u8, Vec<(Glob, u32)>, Quick>,
}

impl Node {
    fn exact(&self, part: &str) -> Option<u32> {
        self.exact.binary_search_by(|(known, _)| (**known).cmp(part)).ok().map(|at| self.exact[at].1)
    }
}

impl Tree {
    fn new() -> Tree {
        Tree { nodes: vec![Node::default()] }
    }

    fn add(&mut self, pattern: &str, except: bool, bit: u64) -> bool {
        let lower = pattern.to_lowercase();
        let (pattern, below) = match lower.strip_suffix("/**") {
            Some(folder) => (folder, true),
            None if lower == "**" => ("", true),
            None => (lower.as_str(), false),
        };
        let mut node = 0;
        for (index, part) in pattern.split('/').filter(|part| !part.is_empty()).enumerate() {
            if part == "**" {
                if index > 0 {
                    return false;
                }
                node = match self.nodes[node].deep {
                    Some(deep) => deep as usize,
                    None => {
                        let deep = self.grow(Node { stays: true, ..Node::default() });
                        self.nodes[node].deep = Some(deep);
                        deep as usize
                    }
                };
                continue;
            }
            node = self.child(node, part);
        }
        let node = &mut self.nodes[node];
        let slot = match (except, below) {
            (false, false) => &mut node.is,
            (false, true) => &mut node.holds,
            (true, false) => &mut node.is_not,
            (true, true) => &mut node.holds_not,
        };
        *slot |= bit;
        true
    }

    fn child(&mut self, node: usize, part: &str) -> usize {
        let ending = part.strip_prefix("*.").filter(|ending| !ending.contains(['*', '.']));
        let it = &self.nodes[node];
        let known = match (ending, &it.others) {
            (Some(ending), others) => others.as_ref().and_then(|others| others.endings.get(ending)).copied(),
            (None, others) if part.contains('*') => {
                let globs = others.as_ref().and_then(|others| others.globs.get(&part.as_bytes()[0]));
                globs.and_then(|globs| globs.iter().find(|(glob, _)| glob.text == part)).map(|(_, child)| *child)
            }
            (None, _) => it.exact(part),
        };
        if let Some(child) = known {
            return child as usize;
        }
        let child = self.grow(Node::default());
        let node = &mut self.nodes[node];
        match ending {
            Some(ending) => drop(node.others.get_or_insert_default().endings.insert(ending.to_owned(), child)),
            None if part.contains('*') => node.others.get_or_insert_default().globs.entry(part.as_bytes()[0]).or_default().push((Glob::new(part), child)),
            None => {
                let at = node.exact.partition_point(|(known, _)| **known < *part);
                node.exact.insert(at, (part.into(), child));
            }
        }
        child as usize
    }

    /// Nothing more will be added.
    fn settle(&mut self) {
        self.nodes.iter_mut().for_each(|node| node.exact.shrink_to_fit());
        self.nodes.shrink_to_fit();
    }

    fn grow(&mut self, node: Node) -> u32 {
        self.nodes.push(node);
        (self.nodes.len() - 1) as u32
    }

    /// The sets of `path`. What is said of a folder that holds the first `forget` parts says nothing about what lies deeper: it
    /// is the workspace. The last part counts also without the ending of a copy, for the sets in `hidden`.
    fn walk(&self, path: &str, forget: usize, copies: &[String], hidden: u64) -> u64 {
        let mut here = vec![0u32];
        here.extend(self.nodes[0].deep);
        let (mut held, mut held_not) = (0, 0);
        let mut next = Vec::new();
        let mut count = 0;
        let mut parts = path.split('/').filter(|part| !part.is_empty()).peekable();
        while let Some(part) = parts.next() {
            count += 1;
            if parts.peek().is_none() {
                let (mut bits, mut not) = self.end(&here, part);
                let copy = without_copy(part, copies);
                if copy != part && not & hidden == 0 {
                    let (more, more_not) = self.end(&here, copy);
                    bits |= more & hidden;
                    not |= more_not & hidden;
                }
                if count == forget {
                    return bits & !not;
                }
                return (held | bits) & !(held_not | not);
            }
            next.clear();
            for node in &here {
                self.step(*node, part, &mut next);
            }
            for node in &next {
                held |= self.nodes[*node as usize].holds;
                held_not |= self.nodes[*node as usize].holds_not;
            }
            if count == forget {
                (held, held_not) = (0, 0);
            }
            std::mem::swap(&mut here, &mut next);
        }
        self.nodes[0].is | self.nodes[0].holds
    }

    fn end(&self, here: &[u32], part: &str) -> (u64, u64) {
        let mut last = Vec::new();
        for node in here {
            self.step(*node, part, &mut last);
        }
        last.iter().map(|node| &self.nodes[*node as usize]).fold((0, 0), |(is, not), node| (is | node.is | node.holds, not | node.is_not | node.holds_not))
    }

    fn step(&self, node: u32, part: &str, next: &mut Vec<u32>) {
        let it = &self.nodes[node as usize];
        let mut go = |child: u32| {
            next.push(child);
            next.extend(self.nodes[child as usize].deep);
        };
        if it.stays {
            go(node);
        }
        if let Some(child) = it.exact(part) {
            go(child);
        }
        let Some(others) = &it.others else { return };
        if let Some(child) = part.rsplit_once('.').and_then(|(_, ending)| others.endings.get(ending)) {
            go(*child);
        }
        for first in [part.as_bytes().first().copied().unwrap_or_default(), b'*'] {
            for (_, child) in others.globs.get(&first).into_iter().flatten().filter(|(glob, _)| glob.fits(part)) {
                go(*child);
            }
        }
    }
}

/// `*` stands for any letters, also none.
#[derive(Clone, Debug)]
struct Glob {
    text: String,
    start: String,
    middle: Vec<String>,
    end: String,
}

impl Glob {
    fn new(text: &str) -> Glob {
        let mut pieces: Vec<String> = text.split('*').map(str::to_owned).collect();
        let end = pieces.pop().unwrap_or_default();
        let start = if pieces.is_empty() { String::new() } else { pieces.remove(0) };
        Glob { text: text.to_owned(), start, middle: pieces, end }
    }

    fn fits(&self, part: &str) -> bool {
        let Some(rest) = part.strip_prefix(self.start.as_str()) else { return false };
        let Some(mut rest) = rest.strip_suffix(self.end.as_str()) else { return false };
        self.middle.iter().all(|piece| match rest.find(piece.as_str()) {
            Some(at) => {
                rest = &rest[at + piece.len()..];
                true
            }
            None => false,
        })
    }
}

/// A quick hash: the keys are ours, and whoever looks up foreign words cannot fill the table with them.
type Quick = BuildHasherDefault<Fnv>;

#[derive(Clone)]
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Fnv {
        Fnv(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

fn without_copy<'a>(name: &'a str, copies: &[String]) -> &'a str {
    let mut name = name;
    for _ in 0..3 {
        let shorter = copies.iter().find_map(|ending| name.strip_suffix(ending.as_str())).filter(|shorter| !shorter.is_empty());
        match shorter {
            Some(shorter) => name = shorter,
            None => break,
        }
    }
    name
}

#[cfg(test)]
mod tests;
