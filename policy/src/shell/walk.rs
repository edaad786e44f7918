//! The way through a parsed line: every command in any context, in the order in which the shell would come to it.

use super::balance::{self, Fault};
use super::flow::Flow;
use super::lexicon::Lexicon;
use super::scope::{Function, Scope, Value};
use super::words::{Text, UNKNOWN};
use crate::Class;
use crate::judgement::{Deed, Judgement};
use shuck_ast::{
    Assignment, AssignmentValue, BinaryCommand, BinaryOp, BuiltinCommand, Command, CompoundCommand, ConditionalExpr, DeclOperand, Pattern, PatternPart,
    Redirect, RedirectKind, RedirectTarget, SimpleCommand, Stmt, StmtSeq, StmtTerminator, Word,
};
use shuck_parser::parser::{Parser, ShellDialect};
use std::rc::Rc;

pub struct Walk<'l> {
    pub(super) lexicon: &'l Lexicon,
    pub(super) workspace: &'l str,
    pub(super) judgement: Judgement,
    /// Lines inside of lines.
    pub(super) depth: usize,
    commands: usize,
    /// Bytes of all words so far, expanded.
    pub(super) expanded: usize,
    /// Over 0 inside of a command that another program starts.
    pub(super) wrapped: usize,
    /// Over 0 inside of a command that runs elsewhere.
    pub(super) remote: usize,
    /// What was seen, for a person who asks why; `None` on the hot path.
    pub(super) seen: Option<Vec<Seen>>,
}

/// One command, as it was understood.
#[derive(Clone, Debug)]
pub struct Seen {
    pub depth: usize,
    pub words: Vec<String>,
    pub class: Class,
    pub rules: Vec<String>,
}

const DEPTH_MAX: usize = 8;
/// Files from the net that are remembered.
const FETCHED_MAX: usize = 8;
/// Commands judged for one line, also through loops, functions and lines inside of lines.
const COMMANDS_MAX: usize = 2_000;

impl<'l> Walk<'l> {
    pub fn new(lexicon: &'l Lexicon, workspace: &'l str, traced: bool) -> Walk<'l> {
        Walk { lexicon, workspace, judgement: Judgement::default(), depth: 0, commands: 0, expanded: 0, wrapped: 0, remote: 0, seen: traced.then(Vec::new) }
    }

    /// Variables that are set for the line.
    pub fn with_environment(mut self, environment: &serde_json::Map<String, serde_json::Value>) -> Walk<'l> {
        let scope = Scope::new(self.workspace);
        for (name, value) in environment {
            self.environment(name, value.as_str().unwrap_or_default(), &scope);
        }
        self
    }

    /// Source text that is run by itself.
    pub fn program(mut self, language: &str, source: &str) -> Judgement {
        let mut scope = Scope::new(self.workspace);
        self.code(language, &Text::new(source), &mut scope);
        self.judgement
    }

    /// A line that the assistant wrote.
    pub fn start(mut self, line: &str, folder: &str) -> (Judgement, Vec<Seen>) {
        if line.chars().any(|c| ('\u{fdd0}'..='\u{fdef}').contains(&c)) {
            self.judgement.unreadable("shell.unreadable");
        } else {
            let mut scope = Scope::new(folder);
            self.line(line, &mut scope, Flow::Nothing);
        }
        (self.judgement, self.seen.unwrap_or_default())
    }

    /// A line in whatever context; what it prints, as far as that is known.
    pub(super) fn line(&mut self, line: &str, scope: &mut Scope, stdin: Flow) -> Flow {
        if let Err(fault) = balance::check(line) {
            self.judgement.unreadable(match fault {
                Fault::TooLong => "shell.too_long",
                Fault::TooDeep => "shell.too_deep",
                Fault::Control => "shell.unreadable",
            });
            return Flow::Opaque;
        }
        if self.depth >= DEPTH_MAX {
            self.judgement.unreadable("shell.too_deep");
            return Flow::Opaque;
        }
        self.depth += 1;
        let parsed = Parser::with_dialect(line, ShellDialect::Bash).parse();
        if !parsed.is_ok() {
            self.judgement.unreadable("shell.unreadable");
        }
        let flow = self.statements(&parsed.file.body, line, scope, stdin);
        self.depth -= 1;
        flow
    }

    /// Text that is run as a line although parts of it are only known at run time.
    pub(super) fn spliced(&mut self, line: &str, scope: &mut Scope, stdin: Flow) -> Flow {
        if line.contains(UNKNOWN) {
            self.judgement.unreadable("shell.hidden_code");
        }
        self.line(line, scope, stdin)
    }

    pub(super) fn statements(&mut self, statements: &StmtSeq, source: &str, scope: &mut Scope, stdin: Flow) -> Flow {
        let mut printed: Option<Flow> = None;
        for statement in statements.iter() {
            let flow = self.statement(statement, source, scope, stdin.clone());
            printed = Some(match printed.take() {
                None => flow,
                Some(before) => before.then(flow),
            });
        }
        printed.unwrap_or(Flow::Nothing)
    }

    /// What a substitution prints.
    pub(super) fn substitution(&mut self, body: &StmtSeq, source: &str, scope: &mut Scope) -> String {
        if self.depth >= DEPTH_MAX {
            self.judgement.unreadable("shell.too_deep");
            return UNKNOWN.to_string();
        }
        self.depth += 1;
        let mut inner = scope.clone();
        let flow = self.statements(body, source, &mut inner, Flow::Nothing);
        self.depth -= 1;
        match flow {
            Flow::Text(text) => text.trim_end_matches('\n').to_owned(),
            Flow::Nothing => String::new(),
            Flow::Tame => super::words::TAME.to_string(),
            _ => UNKNOWN.to_string(),
        }
    }

    fn statement(&mut self, statement: &Stmt, source: &str, scope: &mut Scope, stdin: Flow) -> Flow {
        let mut written = Vec::new();
        let (stdin, stdout_kept) = self.redirects(&statement.redirects, source, scope, stdin, &mut written);
        let background = matches!(statement.terminator, Some(StmtTerminator::Background(_)));
        let flow = if background {
            let mut own = scope.clone();
            self.command_node(&statement.command, source, &mut own, stdin)
        } else {
            self.command_node(&statement.command, source, scope, stdin)
        };
        for (path, added) in written {
            match &flow {
                Flow::Text(text) => scope.write(&path, text, added),
                Flow::Net if scope.fetched.len() < FETCHED_MAX => scope.fetched.push(path),
                _ => {}
            }
        }
        if stdout_kept { flow } else { Flow::Nothing }
    }

    fn command_node(&mut self, command: &Command, source: &str, scope: &mut Scope, stdin: Flow) -> Flow {
        match command {
            Command::Simple(simple) => self.simple(simple, source, scope, stdin),
            Command::Builtin(builtin) => {
                let (word, more) = match builtin {
                    BuiltinCommand::Break(command) => (&command.depth, &command.extra_args),
                    BuiltinCommand::Continue(command) => (&command.depth, &command.extra_args),
                    BuiltinCommand::Return(command) => (&command.code, &command.extra_args),
                    BuiltinCommand::Exit(command) => (&command.code, &command.extra_args),
                };
                for word in word.iter().chain(more) {
                    self.word(word, source, scope);
                }
                self.judgement.raise(Class::Green, "shell.looks");
                Flow::Nothing
            }
            Command::Decl(declaration) => {
                let refers = |operand: &DeclOperand| matches!(operand, DeclOperand::Flag(word) if word.span.slice(source).contains('n'));
                let refers = declaration.operands.iter().any(refers);
                for operand in &declaration.operands {
                    match operand {
                        DeclOperand::Flag(_) | DeclOperand::Name(_) => {}
                        DeclOperand::Assignment(assignment) => {
                            self.assign(assignment, source, scope);
                            // It stands for another variable, whatever that will hold.
                            if refers {
                                scope.set(assignment.target.name.as_str(), super::scope::unknown());
                            }
                        }
                        DeclOperand::Dynamic(word) => {
                            for text in self.words(word, source, scope) {
                                if let Some((name, value)) = text.as_str().split_once('=') {
                                    self.environment(name, value, scope);
                                    scope.set(name, Value::Some(vec![value.to_owned()]));
                                }
                            }
                        }
                    }
                }
                self.judgement.raise(Class::Green, "shell.looks");
                Flow::Nothing
            }
            Command::Binary(binary) => self.chain(binary, source, scope, stdin),
            Command::Compound(compound) => self.compound(compound, source, scope, stdin),
            Command::Function(function) => {
                for name in function.static_names() {
                    if is_fork_bomb(&function.body, name.as_str(), source) {
                        self.judgement.raise(Class::CriticalRed, "shell.fork_bomb");
                    }
                    let known = Function { body: Rc::new((*function.body).clone()), source: Rc::from(source) };
                    scope.functions.insert(name.as_str().to_owned(), known);
                }
                // Whoever calls it later may do so with anything.
                let mut own = scope.clone();
                own.maybe += 1;
                for number in 1..=9 {
                    own.forget(&number.to_string());
                }
                own.calls.extend(function.static_names().map(|name| name.as_str().to_owned()));
                let quiet = std::mem::take(&mut self.judgement);
                self.statement(&function.body, source, &mut own, Flow::Opaque);
                let mut uncalled = std::mem::replace(&mut self.judgement, quiet);
                // A body that is only dangerous with arguments that nobody gave is judged where it is called.
                if uncalled.unknown && uncalled.forget(&["shell.hidden_program", "shell.hidden_code", "shell.opaque_input"]) {
                    uncalled.raise(Class::Yellow, "shell.changes");
                }
                self.judgement.join(uncalled);
                Flow::Nothing
            }
            Command::AnonymousFunction(function) => {
                self.judgement.unreadable("shell.unreadable");
                self.statement(&function.body, source, scope, stdin)
            }
        }
    }

    /// Pipes and lists. They lean to the left, as deep as they are long, so they are walked and not descended into.
    fn chain(&mut self, binary: &BinaryCommand, source: &str, scope: &mut Scope, stdin: Flow) -> Flow {
        let mut rest = vec![(binary.op, &*binary.right)];
        let mut first = &*binary.left;
        while let Command::Binary(inner) = &first.command
            && first.redirects.is_empty()
            && first.terminator.is_none()
        {
            rest.push((inner.op, &*inner.right));
            first = &*inner.left;
        }
        let is_piped = rest.last().is_some_and(|(op, _)| matches!(op, BinaryOp::Pipe | BinaryOp::PipeAll));
        let mut flow =
            if is_piped { self.statement(first, source, &mut scope.clone(), stdin.clone()) } else { self.statement(first, source, scope, stdin.clone()) };
        for (op, right) in rest.into_iter().rev() {
            flow = match op {
                BinaryOp::Pipe | BinaryOp::PipeAll => self.statement(right, source, &mut scope.clone(), flow.piped()),
                BinaryOp::And | BinaryOp::Or => {
                    scope.maybe += 1;
                    let right = self.statement(right, source, scope, stdin.clone());
                    scope.maybe -= 1;
                    // `which a || which b`: what the first prints is the likely one, and both were judged.
                    if op == BinaryOp::Or && matches!(flow, Flow::Text(_)) { flow } else { flow.then(right) }
                }
            };
        }
        flow
    }

    fn compound(&mut self, compound: &CompoundCommand, source: &str, scope: &mut Scope, stdin: Flow) -> Flow {
        match compound {
            CompoundCommand::If(node) => {
                self.statements(&node.condition, source, scope, stdin.clone());
                scope.maybe += 1;
                let mut flow = self.statements(&node.then_branch, source, scope, stdin.clone());
                for (condition, body) in &node.elif_branches {
                    self.statements(condition, source, scope, stdin.clone());
                    flow = flow.or(self.statements(body, source, scope, stdin.clone()));
                }
                if let Some(body) = &node.else_branch {
                    flow = flow.or(self.statements(body, source, scope, stdin));
                }
                scope.maybe -= 1;
                flow
            }
            CompoundCommand::For(node) => {
                let mut values = Vec::new();
                for word in node.words.iter().flatten() {
                    values.extend(self.words(word, source, scope).into_iter().map(|text| text.as_str().to_owned()));
                }
                for target in &node.targets {
                    if let Some(name) = &target.name {
                        let value = if node.words.is_none() || values.is_empty() { super::scope::unknown() } else { Value::Some(values.clone()) };
                        scope.set(name.as_str(), value);
                    }
                }
                self.repeated(&node.body, source, scope, stdin)
            }
            CompoundCommand::Select(node) => {
                for word in &node.words {
                    self.words(word, source, scope);
                }
                scope.set(node.variable.as_str(), super::scope::unknown());
                self.repeated(&node.body, source, scope, stdin)
            }
            CompoundCommand::ArithmeticFor(node) => {
                for expression in [&node.init_ast, &node.condition_ast, &node.step_ast] {
                    self.arithmetic(expression.as_ref(), None, source, scope);
                }
                self.repeated(&node.body, source, scope, stdin)
            }
            CompoundCommand::While(node) => {
                self.statements(&node.condition, source, scope, stdin.clone());
                self.repeated(&node.body, source, scope, stdin)
            }
            CompoundCommand::Until(node) => {
                self.statements(&node.condition, source, scope, stdin.clone());
                self.repeated(&node.body, source, scope, stdin)
            }
            CompoundCommand::Case(node) => {
                self.word(&node.word, source, scope);
                scope.maybe += 1;
                let mut flow = Flow::Nothing;
                for item in &node.cases {
                    for pattern in &item.patterns {
                        self.pattern(pattern, source, scope);
                    }
                    flow = flow.or(self.statements(&item.body, source, scope, stdin.clone()));
                }
                scope.maybe -= 1;
                flow
            }
            CompoundCommand::Subshell(body) => {
                let mut own = scope.clone();
                self.statements(body, source, &mut own, stdin)
            }
            CompoundCommand::BraceGroup(body) => self.statements(body, source, scope, stdin),
            CompoundCommand::Arithmetic(node) => {
                self.arithmetic(node.expr_ast.as_ref(), None, source, scope);
                if node.expr_ast.is_none() && node.expr_span.is_some() {
                    self.judgement.unreadable("shell.unreadable");
                }
                self.judgement.raise(Class::Green, "shell.looks");
                Flow::Nothing
            }
            CompoundCommand::Time(node) => {
                let Some(command) = &node.command else { return Flow::Nothing };
                self.wrapped += 1;
                let flow = self.statement(command, source, scope, stdin);
                self.wrapped -= 1;
                flow
            }
            CompoundCommand::Conditional(node) => {
                self.condition(&node.expression, source, scope);
                self.judgement.raise(Class::Green, "shell.looks");
                Flow::Nothing
            }
            CompoundCommand::Coproc(node) => {
                let mut own = scope.clone();
                self.statement(&node.body, source, &mut own, Flow::Opaque)
            }
            CompoundCommand::Repeat(_) | CompoundCommand::Foreach(_) | CompoundCommand::Always(_) => {
                self.judgement.unreadable("shell.unreadable");
                Flow::Opaque
            }
        }
    }

    /// A loop's body may run never, once or often: a second pass sees what the first one set.
    fn repeated(&mut self, body: &StmtSeq, source: &str, scope: &mut Scope, stdin: Flow) -> Flow {
        scope.maybe += 1;
        let before = scope.clone();
        let mut flow = self.statements(body, source, scope, stdin.clone());
        if scope.changed_since(&before) && self.commands < COMMANDS_MAX / 2 {
            flow = flow.or(self.statements(body, source, scope, stdin));
        }
        scope.maybe -= 1;
        if matches!(flow, Flow::Text(_)) { Flow::Opaque } else { flow }
    }

    fn condition(&mut self, expression: &ConditionalExpr, source: &str, scope: &mut Scope) {
        match expression {
            ConditionalExpr::Binary(node) => {
                self.condition(&node.left, source, scope);
                self.condition(&node.right, source, scope);
            }
            ConditionalExpr::Unary(node) => self.condition(&node.expr, source, scope),
            ConditionalExpr::Parenthesized(node) => self.condition(&node.expr, source, scope),
            ConditionalExpr::Word(word) | ConditionalExpr::Regex(word) => {
                self.word(word, source, scope);
            }
            ConditionalExpr::Pattern(pattern) => self.pattern(pattern, source, scope),
            ConditionalExpr::VarRef(reference) => {
                if let Some(word) = reference.subscript.as_ref().and_then(|subscript| subscript.word_ast()) {
                    self.word(word, source, scope);
                }
            }
        }
    }

    fn pattern(&mut self, pattern: &Pattern, source: &str, scope: &mut Scope) {
        for (part, _) in pattern.parts_with_spans() {
            match part {
                PatternPart::Word(word) => {
                    self.word(word, source, scope);
                }
                PatternPart::Group { patterns, .. } => {
                    for pattern in patterns {
                        self.pattern(pattern, source, scope);
                    }
                }
                _ => {}
            }
        }
    }

    fn simple(&mut self, simple: &SimpleCommand, source: &str, scope: &mut Scope, stdin: Flow) -> Flow {
        self.commands += 1;
        if self.commands > COMMANDS_MAX {
            self.judgement.unreadable("shell.too_long");
            return Flow::Opaque;
        }
        // Assignments alone leave an empty name behind.
        let names = if simple.name.render_syntax(source).is_empty() { Vec::new() } else { self.choices(&simple.name, source, scope) };
        let mut arguments = Vec::with_capacity(simple.args.len() + 1);
        for word in &simple.args {
            arguments.extend(self.words(word, source, scope));
        }
        if names.iter().all(Vec::is_empty) && arguments.is_empty() {
            for assignment in &simple.assignments {
                self.assign(assignment, source, scope);
            }
            self.judgement.raise(Class::Green, "shell.looks");
            return Flow::Nothing;
        }
        let mut set_by_prefix = Vec::new();
        for assignment in &simple.assignments {
            if let AssignmentValue::Scalar(word) = &assignment.value {
                let value = self.values(word, source, scope).into_iter().next().unwrap_or_default();
                self.environment(assignment.target.name.as_str(), &value, scope);
                set_by_prefix.push(assignment.target.name.as_str().to_owned());
            }
        }
        // `X=1 cmd $X` expands the X from before; a line that confuses the two is not one to guess about.
        if set_by_prefix.iter().any(|name| mentions(&simple.args, name, source)) {
            arguments = arguments
                .into_iter()
                .map(|text| if text.as_str().starts_with('/') { Text::new(format!("{UNKNOWN}{}", text.as_str())) } else { text })
                .collect();
        }
        let mut flow: Option<Flow> = None;
        for mut words in names {
            words.extend(arguments.iter().cloned());
            let printed = self.command(&words, scope, stdin.clone());
            flow = Some(match flow {
                None => printed,
                Some(before) => before.or(printed),
            });
        }
        flow.unwrap_or(Flow::Opaque)
    }

    fn assign(&mut self, assignment: &Assignment, source: &str, scope: &mut Scope) {
        let name = assignment.target.name.as_str();
        if let Some(word) = assignment.target.subscript.as_ref().and_then(|subscript| subscript.word_ast()) {
            self.word(word, source, scope);
        }
        match &assignment.value {
            AssignmentValue::Scalar(word) => {
                let values = self.values(word, source, scope);
                for value in &values {
                    self.environment(name, value, scope);
                }
                if name == "IFS" {
                    scope.separators = values.iter().flat_map(|value| value.chars()).filter(|c| !c.is_whitespace() && *c != UNKNOWN).collect();
                }
                if assignment.target.subscript.is_some() {
                    scope.set(name, super::scope::unknown());
                } else if assignment.append {
                    scope.append(name, &values);
                } else {
                    scope.set(name, Value::Some(values));
                }
            }
            AssignmentValue::Compound(array) => {
                let mut items = Vec::new();
                for element in &array.elements {
                    items.extend(self.words(&element.value().word, source, scope).into_iter().map(|text| text.as_str().to_owned()));
                }
                scope.set(name, Value::List(items));
            }
        }
    }

    /// What redirections do to files; the standard input that they leave, and whether the output still goes on. Where the
    /// output goes instead is put into `written`, with whether it is added to what is there.
    fn redirects(&mut self, redirects: &[Redirect], source: &str, scope: &mut Scope, stdin: Flow, written: &mut Vec<(String, bool)>) -> (Flow, bool) {
        let mut stdin = stdin;
        let mut stdout_kept = true;
        for redirect in redirects {
            match &redirect.target {
                RedirectTarget::Heredoc(heredoc) => {
                    let text = self.heredoc(&heredoc.body, source, scope);
                    if redirect.fd.unwrap_or(0) == 0 {
                        stdin = Flow::of_text(text);
                    }
                }
                RedirectTarget::Word(word) => {
                    if redirect.kind == RedirectKind::HereString {
                        let text = self.word(word, source, scope);
                        stdin = Flow::of_text(format!("{}\n", text.as_str()));
                        continue;
                    }
                    let from_process = word.parts.iter().find_map(|part| match &part.kind {
                        shuck_ast::WordPart::ProcessSubstitution { body, is_input: true } => Some(body),
                        _ => None,
                    });
                    if let (RedirectKind::Input, Some(body)) = (redirect.kind, from_process) {
                        let mut own = scope.clone();
                        stdin = self.statements(body, source, &mut own, Flow::Nothing).piped();
                        continue;
                    }
                    for target in self.words(word, source, scope) {
                        let path = target.as_str();
                        let out = redirect.fd.unwrap_or(1) == 1 || redirect.kind == RedirectKind::OutputBoth;
                        match redirect.kind {
                            RedirectKind::DupOutput | RedirectKind::DupInput if path.chars().all(|c| c.is_ascii_digit() || c == '-') => {}
                            _ if is_network(path) => {
                                self.judgement.raise(Class::Red, "shell.dev_tcp");
                                self.judgement.effect(Deed::Net, path);
                                stdin = Flow::Net;
                            }
                            RedirectKind::Input | RedirectKind::DupInput => {
                                let secret = self.path(Deed::Read, &target, scope);
                                if let Some(text) = scope.text_of(path) {
                                    stdin = Flow::of_text(text.to_string());
                                    continue;
                                }
                                stdin = Flow::File { path: path.to_owned(), secret };
                            }
                            _ if is_nowhere(path) => stdout_kept &= !(out && path == "/dev/null"),
                            _ => {
                                self.path(Deed::Write, &target, scope);
                                if out {
                                    written.push((path.to_owned(), redirect.kind == RedirectKind::Append));
                                }
                                if redirect.kind == RedirectKind::ReadWrite {
                                    self.path(Deed::Read, &target, scope);
                                }
                                stdout_kept &= !out;
                            }
                        }
                    }
                }
            }
        }
        (stdin, stdout_kept)
    }
}

/// `/dev/tcp/host/port`: the shell opens a connection.
fn is_network(path: &str) -> bool {
    path.starts_with("/dev/tcp/") || path.starts_with("/dev/udp/")
}

/// Places that keep nothing.
pub(super) fn is_nowhere(path: &str) -> bool {
    matches!(path, "/dev/null" | "/dev/stdout" | "/dev/stderr" | "/dev/tty" | "/dev/stdin" | "/dev/zero" | "/dev/full") || path.starts_with("/dev/fd/")
}

fn mentions(words: &[Word], name: &str, source: &str) -> bool {
    words.iter().any(|word| {
        let text = word.span.slice(source);
        text.match_indices('$').any(|(at, _)| {
            let rest = text[at + 1..].trim_start_matches('{');
            rest.strip_prefix(name).is_some_and(|after| !after.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_'))
        })
    })
}

/// A function that starts itself more than once, or in the background: it fills the machine with itself.
fn is_fork_bomb(body: &Stmt, name: &str, source: &str) -> bool {
    let text = body.span.slice(source);
    let calls = |word: &&str| *word == name;
    let words: Vec<&str> =
        text.split(|c: char| c.is_whitespace() || matches!(c, '{' | '}' | '(' | ')' | ';' | '|' | '&')).filter(|word| !word.is_empty()).collect();
    let count = words.iter().filter(|word| calls(word)).count();
    count >= 2 && text.contains('|') && text.contains('&') && !text.contains("&&") || count >= 1 && words.len() == count && text.contains('&')
}
