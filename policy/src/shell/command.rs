//! One command: what its words mean to its program, what that does, and which rules hold for it.

use super::argv::{self, Reading};
use super::flow::{self, Flow};
use super::form::Places;
use super::inline;
use super::lexicon::Verb;
use super::program::{Program, Role};
use super::scope::{Scope, Value};
use super::walk::{Seen, Walk, is_nowhere};
use super::words::{TAME, Text, UNKNOWN};
use crate::Class;
use crate::judgement::{Deed, Judgement};

/// Where the paths of one command are seen from.
struct Here<'a> {
    walk: &'a Walk<'a>,
    folder: Option<&'a str>,
}

impl Places for Here<'_> {
    fn lies_in(&self, operand: &Text, set: &str) -> Option<bool> {
        let text = operand.as_str();
        if set == "unknown" {
            return Some(
                text.starts_with(UNKNOWN)
                    || (text.contains(UNKNOWN) && !self.walk.lexicon.paths.lies_in(&self.walk.resolve(text, self.folder)?, "workspace", self.walk.workspace)),
            );
        }
        if set == "relative" {
            return Some(!text.starts_with(['/', '~', UNKNOWN]));
        }
        // A value like `of=/dev/sda` is a path behind its name.
        let path = text.split_once('=').filter(|(name, _)| name.chars().all(|c| c.is_ascii_alphabetic())).map_or(text, |(_, path)| path);
        if path.starts_with(UNKNOWN) {
            return None;
        }
        let path = self.walk.resolve(path, self.folder)?;
        Some(self.walk.lexicon.paths.lies_in(&path, set, self.walk.workspace))
    }
}

/// A path as it is seen from `folder`, without `.` and `..`. `None` when it depends on what only the run will tell.
pub(super) fn resolve(path: &str, folder: Option<&str>, home: Option<&str>) -> Option<String> {
    let home = home.unwrap_or("/home/assistant");
    let expanded = |path: &str| match path.strip_prefix('~') {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => format!("{home}{rest}"),
        // Somebody else's home.
        Some(rest) => format!("/home/{rest}"),
        None => path.to_owned(),
    };
    let joined = match path {
        _ if path.starts_with(['/', '~']) => expanded(path),
        _ if path.starts_with(UNKNOWN) => return None,
        _ => format!("{}/{path}", expanded(folder?)),
    };
    let mut parts: Vec<&str> = Vec::new();
    for part in joined.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| last.contains(UNKNOWN)) => return None,
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    // `/e?c` finds `/etc`.
    if let Some(first) = parts.first_mut()
        && first.contains(['*', '?', '['])
        && first.bytes().any(|byte| byte.is_ascii_alphanumeric())
        && path.starts_with('/')
        && let Some(folder) = TOP_FOLDERS.iter().find(|folder| wildcard(first.as_bytes(), folder.as_bytes()))
    {
        *first = folder;
    }
    // Everything in a folder is the folder to whoever deletes it.
    if parts.last().is_some_and(|last| matches!(*last, "*" | "**" | ".*")) {
        parts.pop();
    }
    Some(format!("/{}", parts.join("/")))
}

/// What every machine has at its root, the worst to lose first.
const TOP_FOLDERS: &[&str] = &["etc", "usr", "home", "bin", "boot", "var", "lib", "lib64", "root", "sbin", "opt", "srv", "dev", "proc", "run", "sys"];

/// Words of one command, also after braces and lists were expanded.
const WORDS_MAX: usize = 1_024;

/// Programs in these folders are what their names say.
const PROGRAM_FOLDERS: &[&str] = &[
    "/bin",
    "/usr/bin",
    "/usr/local/bin",
    "/sbin",
    "/usr/sbin",
    "/usr/local/sbin",
    "/opt/homebrew/bin",
    "/snap/bin",
    "/usr/games",
    "/run/current-system/sw/bin",
];

impl Walk<'_> {
    /// Judges one command; what it prints, as far as that is known.
    pub(super) fn command(&mut self, words: &[Text], scope: &mut Scope, stdin: Flow) -> Flow {
        const NESTED_MAX: usize = 32;
        if self.depth >= NESTED_MAX {
            self.judgement.unreadable("shell.too_deep");
            return Flow::Opaque;
        }
        self.depth += 1;
        let place = self.seen.as_mut().map(|seen| {
            seen.push(Seen { depth: self.depth, words: words.iter().map(|word| word.as_str().to_owned()).collect(), class: Class::Green, rules: Vec::new() });
            seen.len() - 1
        });
        let before = std::mem::take(&mut self.judgement);
        let flow = self.judged(words, scope, stdin);
        let own = std::mem::replace(&mut self.judgement, before);
        if let (Some(place), Some(seen)) = (place, self.seen.as_mut()) {
            seen[place].class = own.class;
            seen[place].rules = own.because.iter().map(|because| because.rule.clone()).collect();
        }
        self.judgement.join(own);
        self.depth -= 1;
        flow
    }

    fn judged(&mut self, words: &[Text], scope: &mut Scope, stdin: Flow) -> Flow {
        let Some(first) = words.first() else { return Flow::Nothing };
        if words.len() > WORDS_MAX {
            self.judgement.unreadable("shell.too_long");
            return Flow::Opaque;
        }
        let typed = first.as_str();
        if typed.is_empty() {
            self.judgement.raise(Class::Yellow, "shell.unknown_program");
            return Flow::Opaque;
        }
        let pattern = typed.contains(['*', '?', '[']) && !matches!(typed, "[" | "[[");
        // `!x` and `^a^b` are what was typed before, or a line for the program of the line before; `rм` only looks like `rm`.
        let recalled = typed.starts_with(['!', '^']) && typed.len() > 1 || typed.starts_with(":!");
        let looks_alike = !typed.is_ascii() && !typed.contains('/') && !typed.contains([UNKNOWN, TAME]);
        if pattern || recalled || looks_alike || typed.contains([UNKNOWN, TAME]) {
            self.judgement.unreadable("shell.hidden_program");
            if pattern && !typed.contains([UNKNOWN, TAME]) {
                self.any_of(typed, words, scope);
            }
            self.as_wrapper(words, scope);
            return Flow::Opaque;
        }
        // A function that calls itself is seen once; one that is named after a program may call that, through a wrapper.
        if let Some(function) = scope.functions.get(typed).cloned() {
            let again = scope.calls.iter().any(|call| call == typed);
            if !again {
                return self.call(typed, &function, &words[1..], scope, stdin);
            }
            if self.lexicon.program(typed).1.is_none() && !self.lexicon.has_rules(typed) {
                // What it is given this time may be what it runs: `f(){ "$@"; }; f f rm x`.
                self.as_wrapper(words, scope);
                return Flow::Opaque;
            }
        }
        let (folder, name) = typed.rsplit_once('/').map_or((None, typed), |(folder, name)| (Some(folder), name));
        let own_file = folder.is_some_and(|folder| !PROGRAM_FOLDERS.contains(&folder));
        if own_file {
            self.run_file(first, scope);
            self.written_by_line(first, &words[1..], scope, None);
        }
        let called = name;
        let (name, program) = match self.lexicon.program(name) {
            // A file system that does not tell large from small letters finds `RM` too.
            (name, None) => match self.lexicon.programs.get(name.to_ascii_lowercase().as_str()) {
                Some(program) => (name.to_ascii_lowercase(), Some(program)),
                None => (name.to_owned(), None),
            },
            (name, program) => (name.to_owned(), program),
        };
        let name = name.as_str();
        let reading = argv::read(program, &words[1..]);
        self.rules(name, &reading, scope);
        if called != name {
            self.rules(called, &reading, scope);
        }
        if let Some(flow) = self.builtin(name, &words[1..], scope, &stdin) {
            return flow;
        }
        if !own_file {
            self.judgement.effect(Deed::Exec, name);
        }
        let looks = self.base(name, program, &reading, words, own_file);
        let program_or_sub = reading.program;
        if looks {
            // `--help` and the like: nothing else happens.
            return Flow::Opaque;
        }
        self.roles(name, &reading, program_or_sub, scope, &stdin);
        if let Some(from) = reading.inner {
            return self.inner(name, program, &reading, &words[1..], from, scope, stdin);
        }
        if program.is_none() {
            self.as_wrapper(words, scope);
        }
        match self.names(name, &reading, &words[1..], scope) {
            Some(names) => names,
            None => self.printed(name, &reading, scope, stdin),
        }
    }

    /// `/bin/r?`: rules for every program that the pattern may be hold.
    fn any_of(&mut self, pattern: &str, words: &[Text], scope: &Scope) {
        let lexicon = self.lexicon;
        let pattern = pattern.rsplit('/').next().unwrap_or_default();
        if !pattern.chars().any(|c| c.is_ascii_alphanumeric()) {
            return;
        }
        let mut names: Vec<&str> = lexicon.programs_with_rules().filter(|name| wildcard(pattern.as_bytes(), name.as_bytes())).collect();
        names.sort_unstable();
        for name in names {
            let reading = argv::read(lexicon.programs.get(name), &words[1..]);
            self.rules(name, &reading, scope);
        }
    }

    fn call(&mut self, name: &str, function: &super::scope::Function, arguments: &[Text], scope: &mut Scope, stdin: Flow) -> Flow {
        let texts: Vec<String> = arguments.iter().map(|text| text.as_str().to_owned()).collect();
        let mut own = scope.clone();
        own.arguments(&texts);
        own.calls.push(name.to_owned());
        let body = function.body.clone();
        let source = function.source.clone();
        let flow = self.statements(
            &shuck_ast::StmtSeq { leading_comments: Vec::new(), stmts: vec![(*body).clone()], trailing_comments: Vec::new(), span: body.span },
            &source,
            &mut own,
            stdin,
        );
        own.calls.pop();
        // What it set stays set, except its arguments.
        scope.folder = own.folder.clone();
        scope.fetched = own.fetched;
        scope.functions = own.functions;
        flow
    }

    /// A program that is named by where it lies: it is as trustworthy as the place.
    fn run_file(&mut self, path: &Text, scope: &Scope) {
        self.judgement.effect(Deed::Exec, path.as_str());
        if path.has_unknown() || (!path.is_exact() && !scope.fetched.is_empty()) {
            self.judgement.unreadable("shell.hidden_program");
        } else if scope.fetched.iter().any(|fetched| same_file(fetched, path.as_str())) {
            self.judgement.raise(Class::Red, "shell.net_to_shell");
        } else {
            self.judgement.raise(Class::Yellow, "shell.runs_file");
        }
    }

    /// Rules whose forms fit.
    fn rules(&mut self, name: &str, reading: &Reading<'_>, scope: &Scope) {
        let lexicon = self.lexicon;
        let held = lexicon.rules_on(name, reading, &Here { walk: self, folder: scope.folder.as_deref() });
        for rule in held {
            self.judgement.raise(rule.class, &rule.id);
            self.judgement.external |= rule.external;
            self.judgement.unknown |= rule.unknown;
        }
    }

    /// The class that the command has by itself. True when it only shows its help or version.
    fn base(&mut self, name: &str, program: Option<&Program>, reading: &Reading<'_>, words: &[Text], own_file: bool) -> bool {
        let plain = |text: &Text| !text.as_str().is_empty() && text.as_str().chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | ':' | '.'));
        let runs_code = program.is_some_and(|program| program.language.is_some());
        let help = |text: &str| matches!(text, "--help" | "--version" | "-help" | "-version" | "--usage");
        // `rm help` and `pkill version` name a file and a process; only a program with sub-commands is asked by a word.
        let has_words = program.is_none_or(|program| (program.verbs || !program.subs.is_empty()) && program.language.is_none());
        // `shutdown -h` halts, `bash -v` and `dash -V` run what they read and say more about it.
        let by_letter = self.judgement.class < Class::Red;
        let language = program.and_then(|program| program.language.as_deref());
        let asks = match &words[1..] {
            [only] => match only.as_str() {
                "help" | "version" => has_words && by_letter && reading.roles.iter().all(|role| *role == Role::Data),
                "-h" | "-?" => by_letter && !runs_code,
                "-V" => by_letter && language != Some("shell"),
                "-v" => by_letter && !matches!(language, Some("shell" | "python")),
                only => help(only),
            },
            [first, rest @ ..] if !rest.is_empty() && rest.len() <= 3 && !runs_code => {
                let last = &rest[rest.len() - 1];
                let words = std::iter::once(first).chain(&rest[..rest.len() - 1]);
                // What is run by somebody else's name does with `--help` what it likes: `docker run IMAGE --help`.
                let runs = |word: &Text| matches!(word.as_str(), "run" | "exec" | "dlx" | "x");
                let passes_on = words.clone().rev().skip(1).any(runs);
                (help(last.as_str()) && !passes_on && words.clone().all(|word| plain(word) && !word.as_str().starts_with('-')))
                    || (first.as_str() == "help" && has_words && by_letter && rest.iter().all(|word| plain(word) && !word.as_str().starts_with('-')))
            }
            _ => false,
        };
        // A wrapper passes `--help` on to what it wraps, and an own file does with it what it likes.
        if asks && !own_file && reading.inner.is_none() {
            let dangerous = self.judgement.class;
            self.judgement = Judgement::default();
            if dangerous == Class::CriticalRed && program.is_none() {
                self.judgement.raise(Class::Yellow, "shell.unknown_program");
            } else {
                self.judgement.raise(Class::Green, "shell.looks");
            }
            return true;
        }
        let lexicon = self.lexicon;
        let mut green = false;
        let mut class = Class::Green;
        match program {
            Some(outer) => {
                let sub = reading.program.unwrap_or(outer);
                let is_sub = !std::ptr::eq(sub, outer);
                let here = Here { walk: self, folder: None };
                let base = if is_sub { sub.base } else { outer.base };
                let fits = |forms: &[super::form::Form]| forms.iter().any(|form| form.surely_fits(reading, &here));
                // A sub-command's own forms are written without its words; those of the whole program with them.
                let wraps = reading.inner.is_some();
                green = base == Some(Class::Green)
                    || fits(&outer.green)
                    || (is_sub && sub.green.iter().any(|form| form.surely_fits_from(reading, reading.own, &here)));
                if !green && base.is_none() && (outer.verbs || sub.verbs) {
                    green = self.verbs(reading);
                }
                if !green && reading.each_option().any(|option| option.sure && option.known.is_some_and(|known| known.role == Role::Green)) {
                    green = true;
                }
                if green
                    && (outer.yellow.iter().any(|form| form.fits(reading, &here))
                        || (is_sub && sub.yellow.iter().any(|form| form.fits_from(reading, reading.own, &here))))
                {
                    green = false;
                }
                // An option that nobody described and that is called after a change is not a way to look.
                if green && reading.each_option().any(|option| option.known.is_none() && self.changes(&option.name)) {
                    green = false;
                }
                class = match (green, base) {
                    (true, _) => Class::Green,
                    // What a wrapper runs decides; without anything to run it does little.
                    (false, None) if wraps => Class::Green,
                    (false, base) => base.unwrap_or(Class::Yellow).max(Class::Yellow),
                };
                if outer.remote || sub.remote {
                    class = class.max(Class::Yellow);
                    self.judgement.raise(Class::Yellow, "shell.remote");
                }
            }
            None => {
                let known_rules = lexicon.has_rules(name);
                if !own_file && !known_rules && self.verbs(reading) {
                    green = true;
                } else {
                    class = Class::Yellow;
                }
            }
        }
        let rule = match class {
            Class::Green => "shell.looks",
            _ if program.is_none() && !own_file => "shell.unknown_program",
            _ => "shell.changes",
        };
        if !(class == Class::Green && reading.inner.is_some() && !green) {
            self.judgement.raise(class, rule);
        }
        false
    }

    /// Whether an option's name says that something is changed.
    fn changes(&self, option: &str) -> bool {
        let words = option.trim_start_matches('-');
        words.len() > 2 && (matches!(words, "in-place" | "inplace" | "write" | "overwrite") || self.lexicon.verb(words).is_some_and(|verb| verb != Verb::Look))
    }

    /// Whether the first words say that the command only looks.
    fn verbs(&self, reading: &Reading<'_>) -> bool {
        const VERBS_WITHIN: usize = 5;
        let mut looks = false;
        for operand in reading.operands.iter().take(VERBS_WITHIN) {
            match self.lexicon.verb(operand.as_str()) {
                Some(Verb::Look) => looks = true,
                Some(_) if !looks || self.lexicon.verbs.contains_key(operand.as_str()) => return false,
                _ => {}
            }
            if operand.has_unknown() && !looks {
                return false;
            }
        }
        let mut options_look = !reading.options.is_empty() && reading.operands.is_empty();
        for option in reading.each_option() {
            let words = option.name.trim_start_matches('-');
            let verb = if words.len() > 2 { self.lexicon.verb(words) } else { None };
            match verb {
                Some(Verb::Look) => {}
                Some(_) => return false,
                None => options_look = false,
            }
            if ["output", "out", "write", "exec", "command", "force", "save", "edit", "in-place", "yes", "fix"]
                .iter()
                .any(|bad| words == *bad || words.starts_with(&format!("{bad}-")))
            {
                // `--output json` says how it looks.
                let shape = option.value.as_ref().is_some_and(|value| matches!(value.as_str(), "json" | "yaml" | "table" | "text" | "csv" | "wide" | "tsv"));
                if !(shape || words == "output") || words == "out" {
                    return false;
                }
            }
        }
        looks || options_look
    }

    /// What each operand and option means for files, hosts and code.
    fn roles(&mut self, name: &str, reading: &Reading<'_>, program: Option<&Program>, scope: &mut Scope, stdin: &Flow) {
        let mut has_code = false;
        let language = self.lexicon.programs.get(name).and_then(|known| known.language.clone());
        let mut writes_to: Vec<String> = Vec::new();
        let fetches = matches!(name, "curl" | "wget" | "aria2c" | "fetch" | "http" | "https" | "scp" | "rsync" | "sftp" | "ftp" | "lftp" | "axel");
        let asks_with_data = name == "curl" && reading.each_option().any(|option| option.sure && matches!(option.name.as_str(), "-G" | "--get"));
        for option in reading.options.iter() {
            let Some(known) = option.known else {
                if let Some(value) = &option.value {
                    self.undescribed(value, &option.name, scope);
                }
                continue;
            };
            let value = option.value.clone().unwrap_or_default();
            match known.role {
                // `--privileged=false` says that it is not.
                Role::Raise(_) if value.as_str() == "false" => {}
                Role::Raise(class) => self.judgement.raise(class, "shell.risky_option"),
                Role::Code if option.value.is_some() => {
                    has_code = true;
                    if name == "find" || name == "git" {
                        continue;
                    }
                    self.code(language.as_deref().unwrap_or("unknown"), &value, scope);
                }
                Role::Exec if option.value.is_some() => {
                    has_code |= language.as_deref() == Some("shell");
                    self.wrapped += 1;
                    let line = value.as_str();
                    let line = ["exec=", "exec:", "sh:", "ProxyCommand=", "ProxyCommand ", "LocalCommand=", "LocalCommand ", "KnownHostsCommand="]
                        .iter()
                        .find_map(|named| line.strip_prefix(named))
                        .unwrap_or(line);
                    self.spliced(line, scope, Flow::Nothing);
                    self.wrapped -= 1;
                    self.judgement.raise(Class::Yellow, "shell.changes");
                }
                Role::Script if option.value.is_some() => self.script(&value, scope, stdin, language.as_deref()),
                Role::Argv | Role::Green | Role::Data | Role::Shell => {}
                // `curl -G`: what would be sent becomes part of the address.
                Role::Upload if asks_with_data && !value.as_str().contains(['@', '<']) => {
                    let class = if value.has_unknown() { Class::Yellow } else { Class::Green };
                    self.judgement.raise(class, "shell.sends");
                }
                role if option.value.is_some() => {
                    if role == Role::Write && fetches {
                        writes_to.push(value.as_str().to_owned());
                    }
                    self.role(role, &value, scope, stdin);
                }
                _ => {}
            }
        }
        let own = program.or_else(|| self.lexicon.programs.get(name));
        let last = reading.operands.len().saturating_sub(1);
        // `sed -i f`: what is read is what is changed.
        let in_place =
            reading.each_option().any(|option| option.known.is_some_and(|known| known.role == Role::Change && known.takes != super::program::Takes::Value));
        let target_option = reading.each_option().any(|option| matches!(option.name.as_str(), "-t" | "--target-directory") && option.value.is_some());
        let mut script_given = false;
        // `sh -s a b`: the words are arguments of what comes on standard input.
        let from_input = language.as_deref() == Some("shell") && reading.each_option().any(|option| option.name == "-s");
        let undescribed = own.is_none_or(|own| own.operands.is_none());
        // `if=FILE`, `of=FILE`.
        let named = matches!(name, "dd" | "gdd" | "dcfldd" | "dc3dd" | "socat" | "socat1");
        // The operands in front of a sub-command's own have no role of their own.
        for (index, operand) in reading.operands.iter().enumerate() {
            let role = reading.roles.get(index).copied().unwrap_or(Role::Data);
            match role {
                Role::Data if named => self.named(operand, scope),
                Role::Data if undescribed || operand.as_str().starts_with("@/") => {
                    let before = reading.options.last().filter(|option| option.known.is_none());
                    self.undescribed(operand, before.map_or("", |option| option.name.as_str()), scope);
                }
                Role::Data | Role::Argv | Role::Shell | Role::Green => {}
                Role::Raise(class) => self.judgement.raise(class, "shell.risky_option"),
                Role::Code if has_code => {}
                Role::Code => {
                    script_given = true;
                    self.code(language.as_deref().unwrap_or("unknown"), operand, scope);
                }
                Role::Script if has_code || from_input => {}
                Role::Script if operand.as_str() == "-" => {}
                Role::Script => {
                    script_given = true;
                    self.script(operand, scope, stdin, language.as_deref());
                }
                Role::Exec => {
                    script_given = true;
                    self.wrapped += 1;
                    self.spliced(operand.as_str(), scope, Flow::Nothing);
                    self.wrapped -= 1;
                }
                Role::Copy if index == last && index > 0 && !target_option => self.role(Role::Write, operand, scope, stdin),
                Role::Copy => self.role(Role::Read, operand, scope, stdin),
                Role::Move if index == last && index > 0 && !target_option => self.role(Role::Write, operand, scope, stdin),
                Role::Move => self.role(Role::Delete, operand, scope, stdin),
                Role::Read if in_place => self.role(Role::Change, operand, scope, stdin),
                role => self.role(role, operand, scope, stdin),
            }
        }
        if fetches {
            if name == "wget" && writes_to.is_empty() {
                writes_to.extend(reading.operands.iter().filter_map(|url| url.as_str().rsplit('/').next().map(str::to_owned)));
            }
            if name == "curl" && reading.each_option().any(|option| matches!(option.name.as_str(), "-O" | "--remote-name" | "--remote-name-all")) {
                writes_to.extend(reading.operands.iter().filter_map(|url| url.as_str().rsplit('/').next().map(str::to_owned)));
            }
            scope.fetched.extend(writes_to.into_iter().filter(|path| !path.is_empty()).take(8));
        }
        // An interpreter without a script runs what it reads.
        // Unless what it was told to do is to look: `python3 -m json.tool` reads data.
        let here = Here { walk: self, folder: scope.folder.as_deref() };
        let reads = own.is_some_and(|own| own.reads_commands && !own.green.iter().any(|form| form.surely_fits(reading, &here)));
        if reads && !has_code && !script_given && reading.inner.is_none() {
            // A shell that is not the one at hand, started for somebody to type into; in a container or elsewhere, that is how a person gets in.
            let odd = !matches!(name, "sh" | "bash" | "zsh") && program.is_some_and(|own| own.operands.as_deref() == Some(&[Role::Script, Role::Data]));
            if odd && language.as_deref() == Some("shell") && *stdin == Flow::Nothing && self.remote == 0 && reading.operands.is_empty() {
                self.judgement.raise(Class::Red, "shell.escape");
            }
            self.runs_input(language.as_deref().unwrap_or("shell"), scope, stdin);
        }
        if matches!(name, "ssh" | "rsh" | "dbclient" | "plink") && reading.inner.is_none() && matches!(stdin, Flow::Text(_) | Flow::Net | Flow::Opaque) {
            self.remote += 1;
            self.runs_input("shell", scope, stdin);
            self.remote -= 1;
        }
        // Past every program that would say what it sends, and where.
        if matches!(name, "nc" | "ncat" | "netcat" | "socat" | "telnet") && matches!(stdin, Flow::File { .. } | Flow::Opaque) {
            self.judgement.external = true;
            self.judgement.effect(Deed::Upload, "stdin");
            self.judgement.raise(Class::Red, "shell.dev_tcp");
        }
        if let ("ssh", Flow::File { path, .. }) = (name, stdin) {
            self.path(Deed::Upload, &Text::new(path.clone()), scope);
        }
        let sends_input = matches!(name, "nc" | "ncat" | "netcat" | "socat" | "telnet" | "mail" | "mailx" | "sendmail" | "curl" | "wget" | "ssh" | "logger");
        if stdin.is_secret() && sends_input {
            self.judgement.external = true;
            self.judgement.effect(Deed::Upload, "stdin");
            self.judgement.raise(Class::Red, "shell.sends_secret");
        }
    }

    fn role(&mut self, role: Role, text: &Text, scope: &Scope, stdin: &Flow) {
        match role {
            Role::Read => {
                // `@FILE`: a file with more arguments in it.
                let list = text.as_str().strip_prefix('@').filter(|path| path.starts_with(['/', '~', '.']));
                if text.as_str().starts_with("http://") || text.as_str().starts_with("https://") {
                    self.url(text);
                } else if text.as_str() != "-" {
                    self.path(Deed::Read, &list.map_or_else(|| text.clone(), Text::new), scope);
                }
            }
            Role::Write if text.as_str() == "-" || is_nowhere(text.as_str()) => {}
            Role::Write => {
                self.judgement.raise(Class::Yellow, "shell.changes");
                self.path(Deed::Write, text, scope);
            }
            Role::Delete => {
                self.judgement.raise(Class::Yellow, "shell.changes");
                self.path(Deed::Delete, text, scope);
            }
            Role::Change => {
                self.judgement.raise(Class::Yellow, "shell.changes");
                self.path(Deed::Change, text, scope);
            }
            Role::Upload => {
                let path = text.as_str();
                // curl's form fields name a file behind `@` or `<`.
                let file = path.rsplit_once(['@', '<']).map_or(path, |(_, file)| file);
                self.judgement.raise(Class::Yellow, "shell.sends");
                self.judgement.external = true;
                if file == "-" && stdin.is_secret() {
                    self.judgement.raise(Class::Red, "shell.sends_secret");
                }
                if let (true, Flow::File { path, .. }) = (file == "-", stdin) {
                    self.path(Deed::Upload, &Text::new(path.clone()), scope);
                }
                if file.starts_with(UNKNOWN) && path.contains(['@', '<']) {
                    self.judgement.raise(Class::Red, "shell.sends_secret");
                }
                if path.contains(['@', '<']) || !path.contains(['=', '{', '&']) {
                    let secret = self.path(Deed::Upload, &Text::new(file), scope);
                    if secret {
                        self.judgement.raise(Class::Red, "shell.sends_secret");
                    }
                }
            }
            Role::Url => self.url(text),
            Role::Host => {
                self.judgement.effect(Deed::Net, text.as_str());
                // One of many, or a name that carries something away.
                if text.as_str().contains([UNKNOWN, TAME]) {
                    self.judgement.raise(Class::Yellow, "shell.sends");
                }
            }
            _ => {}
        }
    }

    /// `dd if=FILE of=FILE`, `socat FILE:path …`.
    fn named(&mut self, operand: &Text, scope: &Scope) {
        let text = operand.as_str();
        if let Some((kind, path)) = text.split_once(':') {
            let path = Text::new(path.split(',').next().unwrap_or_default());
            match kind.to_ascii_lowercase().as_str() {
                "file" | "open" | "gopen" if text.contains("creat") || text.contains("append") => drop(self.path(Deed::Write, &path, scope)),
                "file" | "open" | "gopen" => drop(self.path(Deed::Read, &path, scope)),
                "create" | "creat" => drop(self.path(Deed::Write, &path, scope)),
                _ => {}
            }
        }
        match text.split_once('=') {
            Some(("if", path)) => drop(self.path(Deed::Read, &Text::new(path), scope)),
            Some(("of", path)) if !is_nowhere(path) => drop(self.path(Deed::Write, &Text::new(path), scope)),
            _ => {}
        }
    }

    /// A word that nobody has described: when it is a path to something that is not the assistant's own, the program may
    /// well read it, or write it when the option says so.
    fn undescribed(&mut self, word: &Text, option: &str, scope: &Scope) {
        let text = word.as_str().trim_start_matches('@');
        if !text.starts_with(['/', '~']) || text.contains([' ', '\n', '*']) {
            return;
        }
        let name = option.trim_start_matches('-');
        let writes = name == "o" || ["out", "log", "dest", "write", "save"].iter().any(|word| name.starts_with(word));
        let path = Text::new(text);
        let before = std::mem::take(&mut self.judgement);
        self.path(if writes { Deed::Write } else { Deed::Read }, &path, scope);
        let found = std::mem::replace(&mut self.judgement, before);
        if found.class >= Class::Red {
            self.judgement.join(found);
        }
    }

    fn resolve(&self, path: &str, folder: Option<&str>) -> Option<String> {
        resolve(path, folder, crate::file::home_of(self.workspace))
    }

    /// What a deed does to a path. True when the path may hold a secret.
    pub(super) fn path(&mut self, deed: Deed, text: &Text, scope: &Scope) -> bool {
        let path = text.as_str();
        if path.is_empty() || is_nowhere(path) {
            return false;
        }
        match self.resolve(path, scope.folder.as_deref()) {
            Some(resolved) => {
                self.judgement.effect(deed, resolved.as_str());
                let paths = &self.lexicon.paths;
                let sets = paths.sets(&resolved, self.workspace);
                let mut found = paths.judge_in(deed, &resolved, sets);
                let parts: Vec<&str> = resolved.split('/').collect();
                for rule in &self.lexicon.on_paths {
                    if rule.fits(deed, &parts, sets) {
                        found.raise(rule.class, &rule.id);
                        found.external |= rule.external;
                    }
                }
                let secret = found.because.iter().any(|because| because.class >= Class::Red) && paths.set("secret").is_some_and(|secret| sets.meets(secret));
                self.judgement.join(found);
                secret
            }
            // Nobody knows where: reading shows, the rest changes something.
            None => {
                self.judgement.effect(deed, UNKNOWN.to_string());
                if !matches!(deed, Deed::Read) {
                    self.judgement.raise(Class::Yellow, "shell.changes");
                }
                false
            }
        }
    }

    fn url(&mut self, text: &Text) {
        self.judgement.effect(Deed::Net, text.as_str());
        if text.has_unknown() {
            self.judgement.raise(Class::Yellow, "shell.sends");
            if text.as_str().starts_with(UNKNOWN) {
                return;
            }
        }
        let address = text.as_str();
        // No program takes a blank for part of an address.
        if address.contains(' ') && !address.contains("://") {
            return;
        }
        // A word without a dot, a colon or a scheme is a name to search for, unless it is this machine's.
        if !address.contains(['.', ':', '/', '%'])
            && !address.eq_ignore_ascii_case("localhost")
            && !address.bytes().all(|byte| byte.is_ascii_digit())
            && !address.starts_with("0x")
        {
            return;
        }
        // Programs add the scheme by themselves.
        let address = if address.contains("://") { address.replace([UNKNOWN, TAME], "x") } else { format!("http://{}", address.replace([UNKNOWN, TAME], "x")) };
        let found = self.lexicon.http.judge_page(&address);
        self.judgement.join(found);
    }

    /// Source text that an interpreter is given.
    pub(super) fn code(&mut self, language: &str, source: &Text, scope: &mut Scope) {
        if language == "shell" {
            self.spliced(source.as_str(), scope, Flow::Opaque);
            return;
        }
        if !inline::is_quiet(language) {
            self.judgement.raise(Class::Yellow, "shell.inline_code");
        }
        if source.has_unknown() && !inline::is_quiet(language) {
            self.judgement.unreadable("shell.hidden_code");
        }
        inline::judge(self, language, source.as_str(), scope);
    }

    /// A file that is run.
    fn script(&mut self, path: &Text, scope: &mut Scope, stdin: &Flow, language: Option<&str>) {
        let text = path.as_str();
        if matches!(text, "-" | "/dev/stdin" | "/dev/fd/0" | "/proc/self/fd/0") && *stdin != Flow::Nothing {
            self.runs_input(language.unwrap_or("shell"), scope, stdin);
            return;
        }
        if text == "/dev/stdin" || text.starts_with("/dev/fd/") || text.contains(TAME) && text.len() <= TAME.len_utf8() {
            // `sh <(curl …)`: a file that is a pipe.
            self.judgement.unreadable("shell.opaque_input");
            return;
        }
        self.written_by_line(path, &[], scope, language);
        if text.starts_with("http://") || text.starts_with("https://") {
            self.judgement.raise(Class::Red, "shell.net_to_shell");
        }
        self.run_file(path, scope);
        self.path(Deed::Read, path, scope);
    }

    /// A file that the line has written itself and now runs: what was written runs.
    fn written_by_line(&mut self, path: &Text, arguments: &[Text], scope: &mut Scope, language: Option<&str>) {
        const NESTED_MAX: usize = 6;
        let Some(text) = scope.text_of(path.as_str()).filter(|_| self.depth < NESTED_MAX) else { return };
        let first = text.lines().next().unwrap_or_default();
        let named = first.strip_prefix("#!").and_then(|line| line.split_whitespace().rev().find(|word| !word.starts_with('-')));
        let named = named.map(|name| name.rsplit('/').next().unwrap_or_default());
        let language = named.and_then(|name| self.lexicon.program(name).1).and_then(|program| program.language.as_deref()).or(language).unwrap_or("shell");
        let language = language.to_owned();
        let mut own = scope.clone();
        // Whatever it writes and runs is another text.
        own.written.clear();
        own.arguments(&arguments.iter().map(|argument| argument.as_str().to_owned()).collect::<Vec<_>>());
        self.depth += 1;
        self.code(&language, &Text::new(&*text), &mut own);
        self.depth -= 1;
    }

    /// An interpreter that runs its standard input.
    fn runs_input(&mut self, language: &str, scope: &mut Scope, stdin: &Flow) {
        match stdin {
            // A shell that a program starts and a person types into is a way around every look at single commands.
            Flow::Nothing if self.wrapped > 0 && language == "shell" => self.judgement.raise(Class::Red, "shell.escape"),
            Flow::Nothing => self.judgement.raise(Class::Yellow, "shell.changes"),
            Flow::Text(text) if flow::exact(text) => {
                let mut own = scope.clone();
                self.code(language, &Text::new(text.clone()), &mut own);
            }
            Flow::Text(text) => {
                let mut own = scope.clone();
                self.judgement.unreadable("shell.hidden_code");
                self.code(language, &Text::new(text.clone()), &mut own);
            }
            Flow::Net => {
                self.judgement.raise(Class::Red, "shell.net_to_shell");
                self.judgement.unknown = true;
            }
            // `sh < $(tty)`: whatever is typed.
            Flow::File { path, .. } if path.starts_with(TAME) || path.starts_with("/dev/tty") || path.starts_with("/dev/pts/") => {
                self.judgement.unreadable("shell.opaque_input");
            }
            Flow::File { path, .. } => {
                let path = Text::new(path.clone());
                self.run_file(&path, scope);
                self.written_by_line(&path, &[], scope, Some(language));
            }
            Flow::Tame | Flow::Names(_) | Flow::Opaque => self.judgement.unreadable("shell.opaque_input"),
        }
    }

    /// The command inside of a wrapper.
    #[allow(clippy::too_many_arguments, reason = "everything that the outer command knew")]
    fn inner(&mut self, name: &str, program: Option<&Program>, reading: &Reading<'_>, words: &[Text], from: usize, scope: &mut Scope, stdin: Flow) -> Flow {
        let before = std::mem::take(&mut self.judgement);
        let privilege = program.is_some_and(|program| program.privilege);
        let remote = program.is_some_and(|outer| outer.remote) || reading.program.is_some_and(|sub| sub.remote);
        let (mut elsewhere, mut moved);
        let mut scope = scope;
        if remote {
            elsewhere = scope.clone();
            elsewhere.folder = None;
            elsewhere.functions.clear();
            elsewhere.written.clear();
            scope = &mut elsewhere;
        }
        let outside = self.wrapped;
        self.wrapped = if remote { 0 } else { outside + 1 };
        self.remote += usize::from(remote);
        let flow = match name {
            "xargs" => self.xargs(reading, &words[from..], scope, &stdin),
            "parallel" | "parallel.moreutils" | "sem" => self.parallel(reading, &words[from..], scope, &stdin),
            "find" | "fd" | "fdfind" | "bfs" | "gfind" => self.found(name, reading, words, from, scope),
            "env" => {
                if let Some(folder) =
                    reading.each_option().find(|option| matches!(option.name.as_str(), "-C" | "--chdir")).and_then(|option| option.value.as_ref())
                {
                    moved = scope.clone();
                    moved.folder = self.resolve(folder.as_str(), scope.folder.as_deref());
                    scope = &mut moved;
                }
                let mut rest = &words[from..];
                while let Some((first, after)) = rest.split_first() {
                    let Some((variable, value)) = first.as_str().split_once('=').filter(|(variable, _)| is_variable(variable)) else { break };
                    self.environment(variable, value, scope);
                    rest = after;
                }
                self.command(rest, scope, stdin)
            }
            _ if reading.inner_is_line => {
                let line = words[from..].iter().map(Text::as_str).collect::<Vec<_>>().join(" ");
                self.spliced(&line, scope, stdin)
            }
            _ => {
                let mut rest = &words[from..];
                if privilege || matches!(name, "nohup" | "nice" | "time" | "timeout" | "setsid" | "command") {
                    while let Some((first, after)) = rest.split_first() {
                        let Some((variable, value)) = first.as_str().split_once('=').filter(|(variable, _)| is_variable(variable)) else { break };
                        self.environment(variable, value, scope);
                        rest = after;
                    }
                }
                self.command(rest, scope, stdin)
            }
        };
        self.wrapped = outside;
        self.remote -= usize::from(remote);
        let inner = std::mem::replace(&mut self.judgement, before);
        if privilege {
            self.judgement.effect(Deed::Privilege, name);
            let class = if inner.class >= Class::Yellow { Class::Red } else { Class::Yellow };
            self.judgement.raise(class, "shell.privilege");
        }
        self.judgement.join(inner);
        flow
    }

    /// `xargs`: the words of its input are appended, or put where the mark is.
    fn xargs(&mut self, reading: &Reading<'_>, words: &[Text], scope: &mut Scope, stdin: &Flow) -> Flow {
        let mark = reading.each_option().find(|option| matches!(option.name.as_str(), "-I" | "-i" | "-J" | "--replace")).map(|option| {
            option.value.as_ref().map_or("{}".to_owned(), |value| if value.as_str().is_empty() { "{}".to_owned() } else { value.as_str().to_owned() })
        });
        let by_line = reading.each_option().any(|option| matches!(option.name.as_str(), "-0" | "--null" | "-d" | "--delimiter" | "-L" | "--max-lines"));
        let input = match stdin {
            Flow::Text(text) if by_line => Some(text.split(['\n', '\0']).filter(|line| !line.is_empty()).map(str::to_owned).collect()),
            _ => stdin.words(),
        };
        let mut inner: Vec<Text> = Vec::new();
        match mark {
            Some(mark) => {
                let line = match stdin {
                    Flow::Text(text) => text.trim_end_matches('\n').to_owned(),
                    Flow::Tame => TAME.to_string(),
                    Flow::Names(name) => name.clone(),
                    _ => UNKNOWN.to_string(),
                };
                inner.extend(words.iter().map(|word| Text::new(word.as_str().replace(&mark, &line))));
            }
            None => {
                inner.extend(words.iter().cloned());
                match (input, stdin) {
                    (Some(input), _) => inner.extend(input.into_iter().take(WORDS_MAX).map(Text::new)),
                    (None, Flow::Names(name)) => inner.push(Text::new(name.clone())),
                    (None, _) => inner.push(Text::unknown()),
                }
            }
        }
        self.guard_code_slot(words, &inner);
        let flow = self.command(&inner, scope, Flow::Nothing);
        self.bulk(Class::Red);
        flow
    }

    /// Deleting whatever a search finds is deleting what nobody has seen.
    fn bulk(&mut self, class: Class) {
        if self.judgement.effects.iter().any(|effect| effect.deed == Deed::Delete && effect.target.contains(UNKNOWN)) {
            self.judgement.raise(class, "shell.bulk_delete");
        }
    }

    /// Input that lands where an interpreter expects code is code.
    fn guard_code_slot(&mut self, written: &[Text], run: &[Text]) {
        let interpreter = written.iter().take(3).any(|word| {
            let name = word.as_str().rsplit('/').next().unwrap_or_default();
            self.lexicon.program(name).1.is_some_and(|program| program.language.is_some())
        });
        let ends_with_code_option = written.last().is_some_and(|word| word.as_str().starts_with('-') && word.as_str().ends_with(['c', 'e', 'r']));
        if interpreter && run.len() > written.len() && ends_with_code_option {
            self.judgement.raise(Class::Red, "shell.input_as_code");
        }
        if interpreter
            && run.len() == written.len()
            && written.iter().zip(run).any(|(before, after)| before != after && before.as_str().len() < 8)
            && written.iter().any(|word| word.as_str().starts_with('-') && word.as_str().ends_with('c'))
        {
            self.judgement.raise(Class::Red, "shell.input_as_code");
        }
    }

    /// `parallel CMD ::: a b`.
    fn parallel(&mut self, _reading: &Reading<'_>, words: &[Text], scope: &mut Scope, stdin: &Flow) -> Flow {
        let at = words.iter().position(|word| word.as_str().starts_with(":::")).unwrap_or(words.len());
        let (template, rest) = (&words[..at], words.get(at + 1..).unwrap_or_default());
        let from_file = words.get(at).is_some_and(|mark| mark.as_str().starts_with("::::"));
        let inputs: Vec<String> = if from_file {
            vec![UNKNOWN.to_string()]
        } else if at < words.len() {
            rest.iter().filter(|word| !word.as_str().starts_with(":::")).map(|word| word.as_str().to_owned()).collect()
        } else {
            match stdin {
                Flow::Nothing => Vec::new(),
                Flow::Text(text) => text.lines().map(str::to_owned).collect(),
                Flow::Tame => vec![TAME.to_string()],
                _ => vec![UNKNOWN.to_string()],
            }
        };
        const INPUTS_MAX: usize = 256;
        if inputs.len() > INPUTS_MAX {
            self.judgement.unreadable("shell.too_long");
        }
        for input in inputs.iter().take(INPUTS_MAX) {
            if template.is_empty() {
                self.spliced(input, scope, Flow::Nothing);
                continue;
            }
            let holds = template.iter().any(|word| word.as_str().contains('{'));
            let mut inner: Vec<Text> = template
                .iter()
                .map(|word| {
                    let text = ["{}", "{.}", "{/}", "{//}", "{/.}", "{1}"].iter().fold(word.as_str().to_owned(), |text, mark| text.replace(mark, input));
                    Text::new(text)
                })
                .collect();
            if !holds {
                inner.push(Text::new(input.clone()));
            }
            self.guard_code_slot(template, &inner);
            if template.len() == 1 && template[0].as_str().contains(' ') {
                let line = inner.iter().map(Text::as_str).collect::<Vec<_>>().join(" ");
                self.spliced(&line, scope, Flow::Nothing);
            } else {
                self.command(&inner, scope, Flow::Nothing);
            }
        }
        if inputs.is_empty() {
            self.judgement.raise(Class::Yellow, "shell.changes");
            if !template.is_empty() {
                self.command(template, scope, Flow::Nothing);
            }
        }
        Flow::Opaque
    }

    /// `find … -exec CMD {} \;`: what is found is below where it looks.
    fn found(&mut self, name: &str, reading: &Reading<'_>, words: &[Text], from: usize, scope: &mut Scope) -> Flow {
        let by_pattern = matches!(name, "fd" | "fdfind");
        // `fd PATTERN PATH`, `find PATH`.
        let mut places = reading.operands.iter().filter(|operand| !operand.as_str().starts_with(['-', '(', '!'])).skip(usize::from(by_pattern));
        let root = places.next().map_or(".", |root| root.as_str());
        let found = self.selected(reading, words, scope).unwrap_or_else(|| format!("{}/{UNKNOWN}", root.trim_end_matches('/')));
        let mut rest = &words[from..];
        // The word that starts the command may be the option itself.
        if let Some((first, after)) = rest.split_first()
            && first.as_str().starts_with('-')
        {
            rest = after;
        }
        let end = rest.iter().position(|word| matches!(word.as_str(), ";" | "+" | "\\;")).unwrap_or(rest.len());
        let mut inner: Vec<Text> = rest[..end].iter().map(|word| Text::new(word.as_str().replace("{}", &found))).collect();
        if by_pattern && !inner.is_empty() && !rest[..end].iter().any(|word| word.as_str().contains('{')) {
            inner.push(Text::new(found));
        }
        self.guard_code_slot(&rest[..end], &inner);
        if inner.is_empty() {
            self.judgement.raise(Class::Yellow, "shell.changes");
        } else {
            self.command(&inner, scope, Flow::Nothing);
            let folder = self.resolve(root, scope.folder.as_deref());
            let lies_in = |set: &str| folder.as_ref().is_some_and(|folder| self.lexicon.paths.lies_in(folder, set, self.workspace));
            if lies_in("root") || lies_in("system") || lies_in("home") {
                self.bulk(Class::CriticalRed);
            } else {
                self.bulk(Class::Red);
            }
        }
        if let Some(more) = rest.get(end + 1..).filter(|more| !more.is_empty()) {
            let mut again = vec![Text::new("find"), Text::new(root)];
            again.extend(more.iter().cloned());
            self.command(&again, scope, Flow::Nothing);
        }
        Flow::Opaque
    }

    /// What a search of `find` below folders of the assistant's own comes to, when it takes some of the files there and not all.
    fn selected(&self, reading: &Reading<'_>, words: &[Text], scope: &Scope) -> Option<String> {
        const TESTS: &[&str] = &["-name", "-iname", "-path", "-ipath", "-wholename", "-iwholename", "-regex", "-iregex"];
        const AGES: &[&str] = &["-empty", "-mtime", "-mmin", "-atime", "-amin", "-ctime", "-cmin", "-size"];
        let is = |word: &Text, known: &[&str]| known.contains(&word.as_str());
        let selects = |at: usize| {
            let negated = at > 0 && is(&words[at - 1], &["!", "-not", "-o", "-or"]);
            let all = words.get(at + 1).is_none_or(|value| value.has_unknown() || value.as_str().trim_matches(['*', '.', '/', '?']).is_empty());
            !negated && (is(&words[at], AGES) || is(&words[at], TESTS) && !all)
        };
        // An action behind an `or` takes what the tests before it did not.
        let either = words.windows(2).any(|pair| is(&pair[0], &["-o", "-or", ","]) && is(&pair[1], &["-exec", "-execdir", "-print", "-print0"]));
        let end = words.iter().position(|word| is(word, &["-exec", "-execdir", "-ok", "-okdir"])).unwrap_or(words.len());
        let mut roots = reading.operands.iter().filter(|operand| !operand.as_str().starts_with(['-', '(', '!', ')', '\\'])).peekable();
        let first = roots.peek()?.as_str().trim_end_matches('/').to_owned();
        let own = |root: &Text| root.is_exact() && self.resolve(root.as_str(), scope.folder.as_deref()).is_some_and(|path| self.is_below_workspace(&path));
        (roots.all(own) && !either && (0..end).any(selects)).then(|| format!("{first}/{TAME}"))
    }

    /// Names of files in a folder of the assistant's own, as `find` and `ls` print them.
    fn names(&self, name: &str, reading: &Reading<'_>, words: &[Text], scope: &Scope) -> Option<Flow> {
        match name {
            "find" => self.selected(reading, words, scope).map(Flow::Names),
            "ls" => {
                let [only] = reading.operands.as_slice() else { return None };
                let (folder, last) = only.as_str().rsplit_once('/').unwrap_or((".", only.as_str()));
                let chosen = only.is_exact() && last.contains('*') && !last.trim_matches('*').is_empty() && !folder.contains('*');
                let inside = || self.resolve(only.as_str(), scope.folder.as_deref()).is_some_and(|path| self.is_below_workspace(&path));
                (chosen && inside()).then(|| Flow::Names(only.as_str().replace('*', &TAME.to_string())))
            }
            _ => None,
        }
    }

    /// Nobody knows the program; perhaps it runs the words after it.
    fn as_wrapper(&mut self, words: &[Text], scope: &mut Scope) {
        const LOOKED_AT: usize = 6;
        for at in 1..words.len().min(LOOKED_AT) {
            let name = words[at].as_str();
            let base = name.rsplit('/').next().unwrap_or_default();
            let hidden_options = words[0].has_unknown() && name.starts_with('-');
            if hidden_options {
                continue;
            }
            if !self.lexicon.has_rules(base) && self.lexicon.programs.get(base).is_none_or(|program| program.language.is_none()) {
                continue;
            }
            let before = std::mem::take(&mut self.judgement);
            let seen = self.seen.take();
            let mut own = scope.clone();
            self.command(&words[at..], &mut own, Flow::Nothing);
            self.seen = seen;
            let mut found = std::mem::replace(&mut self.judgement, before);
            // Only dangers count: that a word is also the name of a program proves nothing. What is only hidden may be no
            // program either; code that is hidden behind `-c` hardly is anything else, and hides no danger beside it.
            found.forget(&["shell.hidden_program", "shell.opaque_input"]);
            found.unknown |= found.because.iter().any(|because| because.rule == "shell.hidden_code");
            if found.class >= Class::Red {
                self.judgement.join(found);
            }
            return;
        }
        // The variable in front may stand for a program that takes files: `$tool a.zip /etc/shadow`.
        if words[0].has_unknown() {
            for word in words[1..].iter().filter(|word| word.as_str().starts_with(['/', '~'])) {
                self.path(Deed::Read, word, scope);
            }
        }
    }

    /// A variable that is set for programs to see.
    pub(super) fn environment(&mut self, name: &str, value: &str, scope: &Scope) {
        if self.lexicon.environment.is_plain(name, value) {
            self.judgement.raise(Class::Green, "shell.looks");
        } else if self.searches_own(name, value, scope) {
            self.judgement.raise(Class::Yellow, "shell.environment.own");
        } else if self.lexicon.environment.loads(name) {
            self.judgement.raise(Class::Red, "shell.environment");
        } else if self.lexicon.environment.runs(name) && !value.is_empty() {
            self.judgement.raise(Class::Yellow, "shell.environment");
            let mut own = scope.clone();
            if self.depth < 6 {
                self.wrapped += 1;
                self.spliced(value, &mut own, Flow::Nothing);
                self.wrapped -= 1;
            }
            // The program will run a file that is none of the machine's.
            let folder = value.rsplit_once('/').map(|(folder, _)| folder);
            if folder.is_some_and(|folder| !folder.contains(' ') && !PROGRAM_FOLDERS.contains(&folder)) {
                self.judgement.raise(Class::Red, "shell.environment");
            }
        }
    }

    /// Whether a list of folders to search names the assistant's own, and besides them only those that are searched anyway.
    fn searches_own(&self, name: &str, value: &str, scope: &Scope) -> bool {
        let environment = &self.lexicon.environment;
        if !environment.searched.iter().any(|known| known == name) {
            return false;
        }
        let home = crate::file::home_of(self.workspace).unwrap_or("/home/assistant");
        let (mut own, mut before) = (false, 0);
        for folder in value.split(':') {
            // What the variable held before the line.
            if folder == UNKNOWN.to_string() {
                before += 1;
                continue;
            }
            let Some(path) = self.resolve(folder, scope.folder.as_deref()).filter(|path| flow::exact(path) && !folder.is_empty()) else { return false };
            let of_home = path.strip_prefix(home).is_some_and(|rest| environment.own_programs.iter().any(|known| known == rest.trim_start_matches('/')));
            own |= of_home || self.is_below_workspace(&path);
            if !of_home && !self.is_below_workspace(&path) && !PROGRAM_FOLDERS.contains(&path.as_str()) {
                return false;
            }
        }
        own && before <= 1
    }

    /// In the workspace, and not all of it.
    fn is_below_workspace(&self, path: &str) -> bool {
        path != self.workspace && self.lexicon.paths.lies_in(path, "workspace", self.workspace)
    }

    /// What the command prints, for the pipe after it.
    fn printed(&mut self, name: &str, reading: &Reading<'_>, scope: &mut Scope, stdin: Flow) -> Flow {
        let operands: Vec<&str> = reading.operands.iter().map(Text::as_str).collect();
        let has = |names: &[&str]| reading.options.iter().any(|option| names.contains(&option.name.as_str()));
        match name {
            "curl" | "wget" | "fetch" | "http" | "https" | "httpie" | "lynx" | "w3m" | "aria2c" | "nc" | "ncat" | "netcat" | "dig" | "host" | "nslookup"
            | "gh" | "ssh" | "ftp" | "lwp-request" | "GET" => Flow::Net,
            // Lines are left out or put in another order, and stay what they are.
            "head" | "tail" | "sort" | "uniq" | "shuf" | "tac" | "grep" | "egrep" | "fgrep" | "cat" | "sed"
                if matches!(stdin, Flow::Names(_)) && keeps_lines(name, reading) =>
            {
                stdin
            }
            "cat" | "tac" | "head" | "tail" | "less" | "more" | "nl" | "bat" | "zcat" | "strings" | "gunzip" | "xzcat" | "bzcat"
                if !operands.is_empty() && operands != ["-"] =>
            {
                if let ("cat", [only]) = (name, operands.as_slice())
                    && let Some(text) = scope.text_of(only)
                {
                    return Flow::of_text(text.to_string());
                }
                let secret = self.judgement.because.iter().any(|because| because.class >= Class::Red);
                Flow::File { path: operands.first().copied().unwrap_or_default().to_owned(), secret }
            }
            "tee" | "sponge" => {
                if let Flow::Text(text) = &stdin {
                    let added = has(&["-a", "--append"]);
                    for path in operands {
                        scope.write(path, text, added);
                    }
                }
                stdin
            }
            "cat" | "pv" | "unbuffer" | "stdbuf" => stdin,
            // What the environment holds is nobody else's business.
            "env" | "printenv" if operands.is_empty() => Flow::File { path: "env".to_owned(), secret: true },
            "cp" | "mv" | "install" | "ln" => {
                // A file under another name is still what it was.
                if let [from, to] = operands.as_slice()
                    && let Some(text) = scope.text_of(from)
                {
                    scope.write(to, &text, false);
                } else if let [from, to] = operands.as_slice()
                    && let Some((folder, program)) = from.rsplit_once('/')
                    && PROGRAM_FOLDERS.contains(&folder)
                    && !from.contains([UNKNOWN, TAME])
                {
                    // Under whatever name, the program stays what it is.
                    let folder_named = to.ends_with('/');
                    scope.write(&if folder_named { format!("{to}{program}") } else { (*to).to_owned() }, &format!("{program} \"$@\"\n"), false);
                }
                Flow::Opaque
            }
            "base64" | "gbase64" | "b64decode" | "openssl" if name == "b64decode" || has(&["-d", "-D", "--decode"]) => match (stdin, operands.as_slice()) {
                (Flow::Text(text), [] | ["-"] | ["enc"] | ["base64"]) => flow::base64(&text).map_or(Flow::Opaque, Flow::Text),
                // What was packed so that nobody reads it is not the file any more.
                (Flow::Net, []) => Flow::Net,
                _ => Flow::Opaque,
            },
            "xxd" if has(&["-r"]) => match stdin {
                Flow::Text(text) => flow::hex(&text).map_or(Flow::Opaque, Flow::Text),
                Flow::Net => Flow::Net,
                _ => Flow::Opaque,
            },
            "rev" => match stdin {
                Flow::Text(text) => Flow::Text(text.lines().map(|line| line.chars().rev().collect::<String>() + "\n").collect()),
                other => other.filtered(),
            },
            "tr" => match (&stdin, operands.as_slice()) {
                (Flow::Text(text), [from, to]) if !has(&["-d", "-s", "-c"]) => flow::translated(text, from, to).map_or(Flow::Opaque, Flow::Text),
                (Flow::Text(text), [set]) if has(&["-d"]) && set.chars().all(|c| !matches!(c, '[' | '\\' | '-')) => {
                    Flow::Text(text.chars().filter(|c| !set.contains(*c)).collect())
                }
                _ => stdin.filtered(),
            },
            "which" | "type" | "whereis" | "realpath" | "readlink" | "basename" => match operands.as_slice() {
                [only] if name != "type" && !only.contains([UNKNOWN, TAME]) => {
                    Flow::of_text(format!("{}\n", if name == "basename" { only.rsplit('/').next().unwrap_or_default() } else { only }))
                }
                _ => Flow::Opaque,
            },
            "date" | "whoami" | "hostname" | "id" | "uname" | "nproc" | "wc" | "seq" | "expr" | "uuidgen" | "logname" | "tty" | "arch" | "md5sum"
            | "sha256sum" | "sha1sum" | "cksum" | "stat" | "git" | "docker" | "podman" | "kubectl"
                if !matches!(name, "git" | "docker" | "podman" | "kubectl") =>
            {
                Flow::Tame
            }
            "mktemp" => Flow::of_text(format!("/tmp/{TAME}\n")),
            "pwd" => Flow::Opaque,
            "grep" | "egrep" | "fgrep" | "sed" | "awk" | "gawk" | "cut" | "sort" | "uniq" | "gzip" | "xz" | "bzip2" | "zstd" | "tar" | "xz-utils" | "fold"
            | "fmt" | "column" | "paste" | "base32" | "base64" | "od" | "hexdump" | "xxd" | "openssl" | "gpg" | "jq" | "yq" | "iconv" | "dd" | "head"
            | "tail" | "gunzip" | "zcat" => {
                let file = reading.operands.iter().zip(&reading.roles).find(|(_, role)| **role == Role::Read).map(|(operand, _)| operand.as_str().to_owned());
                match file {
                    Some(path) => Flow::File { path, secret: self.judgement.because.iter().any(|because| because.class >= Class::Red) },
                    None => stdin.filtered(),
                }
            }
            _ => Flow::Opaque,
        }
    }

    /// Commands of the shell itself. `None` when it is a program.
    fn builtin(&mut self, name: &str, words: &[Text], scope: &mut Scope, stdin: &Flow) -> Option<Flow> {
        let looks = |walk: &mut Self| walk.judgement.raise(Class::Green, "shell.looks");
        let texts = || words.iter().map(Text::as_str).collect::<Vec<_>>();
        match name {
            ":" | "true" | "false" | "test" | "[" | "shift" | "wait" | "jobs" | "times" | "getopts" | "return" | "exit" | "break" | "continue" | "local"
            | "sleep" => {
                looks(self);
                Some(Flow::Nothing)
            }
            "echo" => {
                looks(self);
                let text = flow::echo(&texts());
                Some(Flow::of_text(text))
            }
            "printf" => {
                looks(self);
                if words.first().is_some_and(|word| word.as_str() == "-v") {
                    if let Some(variable) = words.get(1) {
                        let value = flow::printf(&texts()[2..]).map_or_else(super::scope::unknown, |text| Value::Some(vec![text]));
                        scope.set(variable.as_str(), value);
                    }
                    return Some(Flow::Nothing);
                }
                Some(flow::printf(&texts()).map_or(Flow::Opaque, Flow::of_text))
            }
            "cd" | "pushd" | "popd" | "chdir" => {
                looks(self);
                let target = words.iter().find(|word| !word.as_str().starts_with('-') || word.as_str() == "-");
                scope.folder = match target {
                    _ if name == "popd" => None,
                    None => Some("~".to_owned()),
                    Some(target) if target.as_str() == "-" => None,
                    Some(target) => self.resolve(target.as_str(), scope.folder.as_deref()).filter(|path| !path.contains(UNKNOWN)),
                };
                Some(Flow::Nothing)
            }
            "export" | "declare" | "typeset" | "readonly" | "set" | "unset" | "shopt" | "umask" | "ulimit" | "enable"
                if name != "set" || words.first().is_none_or(|word| word.as_str() != "--" && word.as_str().starts_with(['-', '+'])) =>
            {
                looks(self);
                for word in words {
                    if let Some((variable, value)) = word.as_str().split_once('=') {
                        self.environment(variable, value, scope);
                        scope.set(variable, Value::Some(vec![value.to_owned()]));
                    } else if name == "unset" {
                        scope.forget(word.as_str());
                        if matches!(word.as_str(), "HISTFILE" | "HISTSIZE" | "PROMPT_COMMAND") {
                            self.judgement.raise(Class::Red, "shell.hides_traces");
                        }
                    }
                }
                // Bare, they show the environment.
                if words.is_empty() && matches!(name, "export" | "declare" | "set" | "typeset") {
                    self.judgement.raise(Class::Yellow, "shell.shows_environment");
                    return Some(Flow::File { path: "env".to_owned(), secret: true });
                }
                if name == "shopt"
                    && words.iter().any(|word| word.as_str() == "history")
                    && words.iter().any(|word| word.as_str().starts_with("-") && word.as_str().contains('u'))
                {
                    self.judgement.raise(Class::Red, "shell.hides_traces");
                }
                if name == "enable" && words.iter().any(|word| word.as_str().starts_with("-f")) {
                    self.judgement.raise(Class::Red, "shell.environment");
                }
                Some(Flow::Nothing)
            }
            "set" => {
                looks(self);
                let from = usize::from(words.first().is_some_and(|word| word.as_str() == "--"));
                let texts: Vec<String> = words[from.min(words.len())..].iter().map(|word| word.as_str().to_owned()).collect();
                scope.arguments(&texts);
                Some(Flow::Nothing)
            }
            "read" | "mapfile" | "readarray" => {
                looks(self);
                // `mapfile -C LINE` runs it for what it reads.
                if let Some(line) = words.iter().position(|word| word.as_str() == "-C").and_then(|at| words.get(at + 1)) {
                    self.spliced(line.as_str(), &mut scope.clone(), Flow::Opaque);
                }
                let value = match stdin {
                    Flow::Text(text) if name == "read" && flow::exact(text) => Value::Some(vec![text.lines().next().unwrap_or_default().to_owned()]),
                    Flow::Tame => Value::Some(vec![TAME.to_string()]),
                    Flow::Names(name) => Value::Some(vec![name.clone()]),
                    _ => super::scope::unknown(),
                };
                let names: Vec<&str> = words.iter().map(Text::as_str).filter(|word| is_variable(word)).collect();
                match (stdin, &value) {
                    (Flow::Text(text), _) if name != "read" && flow::exact(text) => {
                        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
                        scope.set(names.last().copied().unwrap_or("MAPFILE"), Value::List(lines));
                    }
                    // Each name gets a word, the last the rest.
                    (_, Value::Some(line)) if names.len() > 1 && line.len() == 1 && !line[0].contains([UNKNOWN, TAME]) => {
                        let mut rest = line[0].trim();
                        for (index, variable) in names.iter().enumerate() {
                            let (word, after) = match rest.split_once(char::is_whitespace) {
                                Some((word, after)) if index + 1 < names.len() => (word, after.trim_start()),
                                _ => (rest, ""),
                            };
                            scope.set(variable, Value::Some(vec![word.to_owned()]));
                            rest = after;
                        }
                    }
                    _ => {
                        for variable in names {
                            scope.set(variable, value.clone());
                        }
                    }
                }
                Some(Flow::Nothing)
            }
            "eval" => {
                let line = texts().join(" ");
                looks(self);
                Some(self.spliced(line.strip_prefix("-- ").unwrap_or(&line), scope, stdin.clone()))
            }
            "trap" => {
                looks(self);
                let words: Vec<&Text> = words.iter().filter(|word| !matches!(word.as_str(), "--" | "-p" | "-l")).collect();
                if words.len() > 1 {
                    let mut own = scope.clone();
                    self.spliced(words[0].as_str(), &mut own, Flow::Opaque);
                    // It runs behind every command that follows.
                    if words[1..].iter().any(|word| matches!(word.as_str(), "DEBUG" | "RETURN" | "ERR")) {
                        self.judgement.raise(Class::Yellow, "shell.changes");
                    }
                }
                Some(Flow::Nothing)
            }
            "alias" => {
                looks(self);
                for word in words {
                    if let Some((_, value)) = word.as_str().split_once('=') {
                        self.judgement.raise(Class::Yellow, "shell.changes");
                        let mut own = scope.clone();
                        self.spliced(value, &mut own, Flow::Opaque);
                    }
                }
                Some(Flow::Nothing)
            }
            // `hash -p FILE NAME`: from now on the name is the file.
            "hash" if matches!(words, [option, _, _] if option.as_str() == "-p") => {
                let program = words[1].as_str().to_owned();
                self.judgement.raise(Class::Red, "shell.environment");
                self.judgement.effect(Deed::Exec, &program);
                Some(Flow::Nothing)
            }
            // What is run is what was typed before.
            "fc" if !words.iter().any(|word| word.as_str().starts_with("-l") || word.as_str().starts_with("-n")) => {
                self.judgement.unreadable("shell.hidden_program");
                Some(Flow::Opaque)
            }
            "exec" => {
                let mut from = 0;
                while let Some(word) = words.get(from).filter(|word| word.as_str().starts_with('-')) {
                    from += if word.as_str() == "-a" { 2 } else { 1 };
                }
                match words.get(from..).filter(|rest| !rest.is_empty()) {
                    Some(rest) => {
                        self.wrapped += 1;
                        let flow = self.command(rest, scope, stdin.clone());
                        self.wrapped -= 1;
                        Some(flow)
                    }
                    None => {
                        looks(self);
                        Some(Flow::Nothing)
                    }
                }
            }
            "command" | "builtin" => {
                let from = words.iter().position(|word| !word.as_str().starts_with('-')).unwrap_or(words.len());
                let asks = words[..from].iter().any(|word| word.as_str().contains(['v', 'V']));
                let rest = &words[from..];
                if asks || rest.is_empty() {
                    looks(self);
                    // A question is about one name; a whole command behind it is more likely a mistake in the option.
                    if rest.len() > 1 {
                        self.command(rest, scope, stdin.clone());
                        self.judgement.raise(Class::Yellow, "shell.changes");
                    }
                    return Some(match rest {
                        [only] if only.is_exact() => Flow::of_text(format!("{}\n", only.as_str())),
                        _ => Flow::Opaque,
                    });
                }
                Some(self.command(rest, scope, stdin.clone()))
            }
            "source" | "." => {
                self.judgement.raise(Class::Yellow, "shell.runs_file");
                if let Some(path) = words.first() {
                    self.script(path, scope, stdin, Some("shell"));
                }
                // It may have set anything.
                Some(Flow::Opaque)
            }
            "git" => {
                self.git_settings(words, scope);
                None
            }
            _ => None,
        }
    }

    /// `git -c key=value` may name programs that git then runs, and aliases that are shell lines.
    fn git_settings(&mut self, words: &[Text], scope: &mut Scope) {
        let mut at = 0;
        let mut aliases: Vec<(String, String)> = Vec::new();
        while at < words.len() {
            let text = words[at].as_str();
            let setting = match text {
                "-c" => {
                    at += 1;
                    words.get(at).map(|word| word.as_str().to_owned())
                }
                _ if text.starts_with("-c") && !text.starts_with("--") && text.contains('=') => Some(text[2..].to_owned()),
                "config" => {
                    let rest: Vec<&str> = words[at + 1..].iter().map(Text::as_str).filter(|word| !word.starts_with('-') && *word != "set").collect();
                    match rest.as_slice() {
                        [key, value, ..] => Some(format!("{key}={value}")),
                        _ => None,
                    }
                }
                _ if text.starts_with('-') => None,
                _ => break,
            };
            if let Some((key, value)) = setting.as_deref().and_then(|setting| setting.split_once('=')) {
                self.judgement.raise(Class::Yellow, "shell.changes");
                let key = key.to_ascii_lowercase();
                if let Some(alias) = key.strip_prefix("alias.") {
                    aliases.push((alias.to_owned(), value.to_owned()));
                    match value.strip_prefix('!') {
                        Some(line) => drop(self.spliced(line, &mut scope.clone(), Flow::Opaque)),
                        None => drop(self.spliced(&format!("git {value}"), &mut scope.clone(), Flow::Opaque)),
                    }
                } else if GIT_COMMANDS.iter().any(|known| super::form::glob(known, &key)) {
                    self.judgement.raise(Class::Yellow, "shell.environment");
                    self.spliced(value.trim_start_matches('!'), &mut scope.clone(), Flow::Opaque);
                } else if GIT_LOADING.iter().any(|known| super::form::glob(known, &key)) {
                    self.judgement.raise(Class::Red, "shell.environment");
                }
            }
            if text == "config" {
                break;
            }
            at += 1;
        }
    }
}

/// Settings whose value git runs.
const GIT_COMMANDS: &[&str] = &[
    "core.pager",
    "core.editor",
    "core.sshcommand",
    "core.fsmonitor",
    "core.askpass",
    "core.gitproxy",
    "sequence.editor",
    "diff.external",
    "pager.*",
    "credential.helper",
    "credential.*.helper",
    "filter.*.clean",
    "filter.*.smudge",
    "filter.*.process",
    "diff.*.command",
    "diff.*.textconv",
    "difftool.*.cmd",
    "mergetool.*.cmd",
    "merge.*.driver",
    "gpg.program",
    "gpg.*.program",
    "interactive.difffilter",
    "uploadpack.packobjectshook",
    "remote.*.uploadpack",
    "remote.*.receivepack",
    "browser.*.cmd",
    "man.*.cmd",
    "sendemail.*cmd",
];
/// Settings that make git load or run files.
const GIT_LOADING: &[&str] =
    &["core.hookspath", "init.templatedir", "include.path", "includeif.*", "core.attributesfile", "protocol.ext.allow", "core.worktree"];

/// A shell's file pattern against a name; a set in brackets is taken for any one character. It goes back to the last
/// star only, so that no pattern takes longer than its length times the name's.
fn wildcard(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut seen) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while seen < name.len() {
        let after = match pattern.get(at) {
            Some(b'*') => {
                star = Some((at + 1, seen));
                at += 1;
                continue;
            }
            Some(b'?') => Some(at + 1),
            Some(b'[') => Some(pattern[at..].iter().skip(2).position(|byte| *byte == b']').map_or(pattern.len(), |end| at + end + 3)),
            Some(byte) if *byte == name[seen] => Some(at + 1),
            _ => None,
        };
        match (after, star) {
            (Some(after), _) => {
                at = after;
                seen += 1;
            }
            (None, Some((behind, from))) => {
                at = behind;
                seen = from + 1;
                star = Some((behind, from + 1));
            }
            (None, None) => return false,
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

/// Whether a filter without files of its own passes whole lines on.
fn keeps_lines(name: &str, reading: &Reading<'_>) -> bool {
    let files = reading.roles.contains(&Role::Read);
    let changes = reading.each_option().any(|option| match name {
        "grep" | "egrep" | "fgrep" => matches!(option.name.as_str(), "-o" | "--only-matching" | "-c" | "--count" | "-n" | "--line-number"),
        "uniq" => matches!(option.name.as_str(), "-c" | "--count"),
        "cat" => true,
        "head" | "tail" => matches!(option.name.as_str(), "-c" | "--bytes"),
        "sed" => !matches!(option.name.as_str(), "-n" | "-e" | "--quiet" | "--expression"),
        _ => false,
    });
    // A script of `sed` that only counts lines: `1,4d`.
    let scripts = reading.operands.iter().chain(reading.each_option().filter_map(|option| option.value.as_ref()));
    let counts = |script: &Text| script.as_str().chars().all(|letter| letter.is_ascii_digit() || matches!(letter, ',' | '$' | 'd' | 'p' | 'q' | ';'));
    !files && !changes && (name != "sed" || scripts.into_iter().all(counts))
}

fn is_variable(text: &str) -> bool {
    !text.is_empty() && !text.starts_with(|c: char| c.is_ascii_digit()) && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn same_file(fetched: &str, run: &str) -> bool {
    let name = |path: &str| path.trim_start_matches("./").to_owned();
    name(fetched) == name(run) || (!fetched.contains('/') && run.rsplit('/').next() == Some(fetched))
}

#[cfg(test)]
mod tests {
    use super::wildcard;

    #[test]
    fn file_patterns() {
        for (pattern, name, fits) in [
            ("r?", "rm", true),
            ("r?", "rmm", false),
            ("*m", "rm", true),
            ("us*", "usr", true),
            ("et[cd]", "etc", true),
            ("[!a]m", "rm", true),
            ("[", "rm", false),
            ("b*n*", "bin", true),
            ("b*x", "bin", false),
            ("*", "", true),
            ("?*?", "rm", true),
            ("*a*b*c", "xaxbxc", true),
            ("*a*b*c", "xaxcxb", false),
        ] {
            assert_eq!(wildcard(pattern.as_bytes(), name.as_bytes()), fits, "{pattern} {name}");
        }
    }
}
