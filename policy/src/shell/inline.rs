//! Source text in other languages than the shell's: which of its calls run programs, delete, write or reach the net.
//!
//! No parser per language: strings, comments and names are told apart, and calls are looked up by name. A call that
//! runs a program is followed into its literal argument; one with an argument that nobody can read is Red. Text in a
//! string that no such call receives is data.

use super::flow::Flow;
use super::scope::Scope;
use super::walk::Walk;
use super::words::{Text, UNKNOWN};
use crate::Class;
use crate::judgement::Deed;
use std::collections::HashMap;
use std::sync::LazyLock;

#[derive(Clone, Debug, PartialEq)]
enum Token {
    /// A name with its path: `os.system`, `child_process.exec`, `File::delete`, `$obj->method`.
    Name(String),
    /// Its text; `true` when something is put into it at run time.
    Literal(String, bool),
    /// A shell command in backticks, `%x{}` or `qx//`.
    Command(String, bool),
    Mark(char),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sink {
    /// Its argument is a shell line, or its list of arguments a command.
    Exec,
    /// Its argument is source text.
    Eval,
    Delete,
    Write,
    /// Opens files; the mode says how.
    Open,
    Net,
    Send,
    Socket,
    /// Foreign code, raw memory, terminals.
    Raw,
    Environment,
}

/// By the last part of the name, or by the last two.
const SINKS: &[(&str, Sink)] = &[
    ("system", Sink::Exec),
    ("os.system", Sink::Exec),
    ("popen", Sink::Exec),
    ("popen2", Sink::Exec),
    ("popen3", Sink::Exec),
    ("capture2", Sink::Exec),
    ("capture3", Sink::Exec),
    ("capture2e", Sink::Exec),
    ("pipeline", Sink::Exec),
    ("subprocess.run", Sink::Exec),
    ("subprocess.call", Sink::Exec),
    ("Popen", Sink::Exec),
    ("check_call", Sink::Exec),
    ("check_output", Sink::Exec),
    ("getoutput", Sink::Exec),
    ("getstatusoutput", Sink::Exec),
    ("create_subprocess_shell", Sink::Exec),
    ("create_subprocess_exec", Sink::Exec),
    ("pty.spawn", Sink::Exec),
    ("spawn", Sink::Exec),
    ("spawnSync", Sink::Exec),
    ("spawnl", Sink::Exec),
    ("spawnlp", Sink::Exec),
    ("spawnv", Sink::Exec),
    ("spawnvp", Sink::Exec),
    ("posix_spawn", Sink::Exec),
    ("execSync", Sink::Exec),
    ("execFile", Sink::Exec),
    ("execFileSync", Sink::Exec),
    ("fork", Sink::Raw),
    ("child_process.exec", Sink::Exec),
    ("Kernel.exec", Sink::Exec),
    ("Process.spawn", Sink::Exec),
    ("execl", Sink::Exec),
    ("execle", Sink::Exec),
    ("execlp", Sink::Exec),
    ("execv", Sink::Exec),
    ("execve", Sink::Exec),
    ("execvp", Sink::Exec),
    ("execvpe", Sink::Exec),
    ("os.execute", Sink::Exec),
    ("io.popen", Sink::Exec),
    ("shell_exec", Sink::Exec),
    ("passthru", Sink::Exec),
    ("proc_open", Sink::Exec),
    ("pcntl_exec", Sink::Exec),
    ("system2", Sink::Exec),
    ("shell", Sink::Exec),
    ("os:cmd", Sink::Exec),
    ("System.cmd", Sink::Exec),
    ("System.shell", Sink::Exec),
    ("Runtime.exec", Sink::Exec),
    ("getRuntime", Sink::Raw),
    ("ProcessBuilder", Sink::Exec),
    ("Deno.run", Sink::Exec),
    ("Deno.Command", Sink::Exec),
    ("Bun.spawn", Sink::Exec),
    ("Bun.spawnSync", Sink::Exec),
    ("call-process", Sink::Exec),
    ("shell-command", Sink::Exec),
    ("start-process", Sink::Exec),
    ("term", Sink::Exec),
    ("ansi-term", Sink::Exec),
    ("Start-Process", Sink::Exec),
    ("Invoke-Command", Sink::Raw),
    ("backticks", Sink::Exec),
    ("unix_command", Sink::Exec),
    ("command_line_arguments", Sink::Environment),
    ("eval", Sink::Eval),
    ("exec", Sink::Eval),
    ("compile", Sink::Eval),
    ("execfile", Sink::Eval),
    ("instance_eval", Sink::Eval),
    ("class_eval", Sink::Eval),
    ("loadstring", Sink::Eval),
    ("dofile", Sink::Raw),
    ("create_function", Sink::Eval),
    ("Function", Sink::Eval),
    ("runInThisContext", Sink::Eval),
    ("runInNewContext", Sink::Eval),
    ("Invoke-Expression", Sink::Raw),
    ("iex", Sink::Raw),
    ("__import__", Sink::Raw),
    ("import_module", Sink::Raw),
    ("marshal.loads", Sink::Raw),
    ("pickle.loads", Sink::Raw),
    ("os.remove", Sink::Delete),
    ("os.unlink", Sink::Delete),
    ("os.rmdir", Sink::Delete),
    ("removedirs", Sink::Delete),
    ("shutil.rmtree", Sink::Delete),
    ("rmtree", Sink::Delete),
    ("remove_tree", Sink::Delete),
    ("unlink", Sink::Delete),
    ("unlinkSync", Sink::Delete),
    ("rmSync", Sink::Delete),
    ("rmdirSync", Sink::Delete),
    ("fs.rm", Sink::Delete),
    ("rmdir", Sink::Delete),
    ("File.delete", Sink::Delete),
    ("File.unlink", Sink::Delete),
    ("Dir.delete", Sink::Delete),
    ("rm_rf", Sink::Delete),
    ("rm", Sink::Delete),
    ("rm_r", Sink::Delete),
    ("FileUtils.rm", Sink::Delete),
    ("remove_dir", Sink::Delete),
    ("remove_entry", Sink::Delete),
    ("remove_entry_secure", Sink::Delete),
    ("Remove-Item", Sink::Raw),
    ("os.Remove", Sink::Delete),
    ("os.RemoveAll", Sink::Delete),
    ("delete-file", Sink::Delete),
    ("delete-directory", Sink::Delete),
    ("writeFile", Sink::Write),
    ("writeFileSync", Sink::Write),
    ("appendFile", Sink::Write),
    ("appendFileSync", Sink::Write),
    ("createWriteStream", Sink::Write),
    ("copyFileSync", Sink::Write),
    ("renameSync", Sink::Write),
    ("symlinkSync", Sink::Write),
    ("chmodSync", Sink::Write),
    ("chownSync", Sink::Write),
    ("write_text", Sink::Write),
    ("write_bytes", Sink::Write),
    ("File.write", Sink::Write),
    ("IO.write", Sink::Write),
    ("file_put_contents", Sink::Write),
    ("fwrite", Sink::Write),
    ("shutil.copy", Sink::Write),
    ("shutil.copyfile", Sink::Write),
    ("shutil.move", Sink::Write),
    ("shutil.chown", Sink::Write),
    ("os.rename", Sink::Write),
    ("os.replace", Sink::Write),
    ("os.chmod", Sink::Write),
    ("os.chown", Sink::Write),
    ("os.symlink", Sink::Write),
    ("os.truncate", Sink::Write),
    ("write-region", Sink::Write),
    ("chmod", Sink::Write),
    ("chown", Sink::Write),
    ("rename", Sink::Write),
    ("truncate", Sink::Write),
    ("open", Sink::Open),
    ("fopen", Sink::Open),
    ("File.open", Sink::Open),
    ("io.open", Sink::Open),
    ("readFile", Sink::Open),
    ("readFileSync", Sink::Open),
    ("file_get_contents", Sink::Open),
    ("readfile", Sink::Open),
    ("show_source", Sink::Open),
    ("highlight_file", Sink::Open),
    ("File.read", Sink::Open),
    ("read_text", Sink::Open),
    ("Path", Sink::Open),
    ("requests.get", Sink::Net),
    ("urlopen", Sink::Net),
    ("urlretrieve", Sink::Net),
    ("fetch", Sink::Net),
    ("axios.get", Sink::Net),
    ("http.get", Sink::Net),
    ("https.get", Sink::Net),
    ("Net::HTTP.get", Sink::Net),
    ("curl_exec", Sink::Net),
    ("LWP::Simple.get", Sink::Net),
    ("getstore", Sink::Net),
    ("HTTPConnection", Sink::Net),
    ("HTTPSConnection", Sink::Net),
    ("Invoke-WebRequest", Sink::Net),
    ("DownloadString", Sink::Raw),
    ("requests.post", Sink::Send),
    ("requests.put", Sink::Send),
    ("requests.patch", Sink::Send),
    ("requests.delete", Sink::Send),
    ("requests.request", Sink::Send),
    ("axios.post", Sink::Send),
    ("axios.put", Sink::Send),
    ("axios.delete", Sink::Send),
    ("sendmail", Sink::Send),
    ("send_message", Sink::Send),
    ("smtplib.SMTP", Sink::Send),
    ("ftplib.FTP", Sink::Send),
    ("socket.socket", Sink::Socket),
    ("create_connection", Sink::Socket),
    ("TCPSocket.new", Sink::Socket),
    ("TCPSocket.open", Sink::Socket),
    ("TCPSocket", Sink::Socket),
    ("IO::Socket::INET", Sink::Socket),
    ("IO::Socket", Sink::Socket),
    ("fsockopen", Sink::Socket),
    ("net.connect", Sink::Socket),
    ("net.createConnection", Sink::Socket),
    ("net.Socket", Sink::Socket),
    ("socket.tcp", Sink::Socket),
    ("ctypes.CDLL", Sink::Raw),
    ("CDLL", Sink::Raw),
    ("LoadLibrary", Sink::Raw),
    ("ffi.load", Sink::Raw),
    ("dlopen", Sink::Raw),
    ("setuid", Sink::Raw),
    ("os.setuid", Sink::Raw),
    ("posix_setuid", Sink::Raw),
    ("os.kill", Sink::Raw),
    ("killpg", Sink::Raw),
    ("process.kill", Sink::Raw),
    ("dup2", Sink::Raw),
    ("os.environ", Sink::Environment),
    ("process.env", Sink::Environment),
    ("getenv", Sink::Environment),
    ("ENV", Sink::Environment),
    ("interact", Sink::Raw),
    ("code.interact", Sink::Raw),
];

/// Languages whose plain expressions only compute and print.
const QUIET: &[&str] = &["awk", "sed", "jq", "bc", "dc", "yq"];

const SOURCE_BYTES_MAX: usize = 64 * 1024;
const TOKENS_MAX: usize = 20_000;

pub(super) fn is_quiet(language: &str) -> bool {
    QUIET.contains(&language)
}

pub(super) fn judge(walk: &mut Walk<'_>, language: &str, source: &str, scope: &mut Scope) {
    if source.len() > SOURCE_BYTES_MAX {
        walk.judgement.unreadable("shell.too_long");
        return;
    }
    match language {
        "sed" => return sed(walk, source, scope),
        "awk" => return awk(walk, source, scope),
        "vim" | "ex" | "ed" | "pager" | "ftp" | "gdb" | "mysql" | "sqlite" | "psql" | "sql-mysql" | "sql-psql" | "sqlite3" | "sql" | "telnet" | "gnuplot"
        | "sftp" | "lftp" => return commands(walk, language, source, scope),
        "make" => return make(walk, source, scope),
        "dc" => {
            // A line behind a bang runs.
            for line in source.lines().filter_map(|line| line.trim().strip_prefix('!')).filter(|line| !line.starts_with(['<', '>', '='])) {
                walk.judgement.raise(Class::Red, "shell.escape");
                run(walk, line, false, scope);
            }
            return;
        }
        _ => {}
    }
    let tokens = tokens(source, language);
    if tokens.len() >= TOKENS_MAX {
        walk.judgement.unreadable("shell.too_long");
    }
    let aliases = if language == "python" { aliases(&tokens) } else { Vec::new() };
    let mut sockets = false;
    let mut shells = false;
    for (at, token) in tokens.iter().enumerate() {
        let resolved = match token {
            Token::Name(name) if !aliases.is_empty() => {
                let (first, rest) = name.split_once('.').map_or((name.as_str(), None), |(first, rest)| (first, Some(rest)));
                let alias = aliases.iter().find(|(alias, _)| alias == first);
                alias.map(|(_, meant)| Token::Name(rest.map_or_else(|| meant.clone(), |rest| format!("{meant}.{rest}"))))
            }
            _ => None,
        };
        let token = resolved.as_ref().unwrap_or(token);
        match token {
            Token::Command(line, built) => {
                shells = true;
                run(walk, line, *built, scope);
            }
            Token::Name(name) => {
                // `getattr(os, "system")`, `global["eval"]`: the name is a text.
                if matches!(name.as_str(), "getattr" | "globalThis" | "global" | "window" | "__getattribute__" | "Reflect.get") {
                    let called = arguments(&tokens[at + 1..]);
                    let by_text =
                        called.iter().chain(tokens.get(at + 2)).any(|argument| matches!(argument, Token::Literal(text, _) if sink(text, "").is_some()));
                    if by_text {
                        walk.judgement.unreadable("shell.hidden_code");
                    }
                }
                let Some(sink) = sink(name, language) else { continue };
                let after = &tokens[at + 1..];
                let called = matches!(after.first(), Some(Token::Mark('(' | '[' | '{')) | Some(Token::Literal(..)) | Some(Token::Mark('<')));
                let arguments = arguments(after);
                match sink {
                    Sink::Environment => walk.judgement.raise(Class::Yellow, "shell.shows_environment"),
                    Sink::Raw if called || after.is_empty() || name.contains('-') => {
                        shells = true;
                        walk.judgement.raise(Class::Red, "shell.inline_danger");
                    }
                    Sink::Socket => sockets = true,
                    _ if !called && !matches!(language, "ruby" | "perl" | "elisp" | "emacs" | "scheme" | "guile" | "powershell" | "tcl" | "expect") => {}
                    Sink::Exec => {
                        shells = true;
                        match command_of(&arguments) {
                            Some((line, built)) => run(walk, &line, built, scope),
                            None => walk.judgement.unreadable("shell.hidden_code"),
                        }
                    }
                    Sink::Eval => match arguments.first() {
                        Some(Token::Literal(inner, false)) if walk.depth < 6 => {
                            walk.depth += 1;
                            judge(walk, language, inner, scope);
                            walk.depth -= 1;
                        }
                        Some(_) => walk.judgement.unreadable("shell.hidden_code"),
                        None => {}
                    },
                    Sink::Delete => match arguments.first() {
                        Some(Token::Literal(path, false)) => {
                            walk.path(Deed::Delete, &Text::new(path.clone()), scope);
                            walk.judgement.raise(Class::Red, "shell.inline_deletes");
                        }
                        _ => walk.judgement.raise(Class::Red, "shell.inline_deletes"),
                    },
                    Sink::Write => {
                        if let Some(Token::Literal(path, false)) = arguments.first() {
                            walk.path(Deed::Write, &Text::new(path.clone()), scope);
                        }
                        walk.judgement.raise(Class::Yellow, "shell.inline_code");
                    }
                    Sink::Open => {
                        let writes = arguments
                            .iter()
                            .skip(1)
                            .any(|argument| matches!(argument, Token::Literal(mode, _) if mode.len() <= 3 && mode.contains(['w', 'a', 'x', '+'])));
                        // `open(F, "|cmd")`, `open(F, "-|", "cmd")`.
                        if let Some(at) = arguments
                            .iter()
                            .skip(1)
                            .position(|argument| matches!(argument, Token::Literal(text, _) if text.starts_with('|') || text.ends_with('|')))
                        {
                            let given = &arguments[at + 1..];
                            if let (Token::Literal(text, built), next) = (&given[0], given.get(1)) {
                                shells = true;
                                match (text.trim_matches(['|', '-', ' ']), next) {
                                    ("", Some(Token::Literal(line, built))) => run(walk, line, *built, scope),
                                    ("", _) => walk.judgement.unreadable("shell.hidden_code"),
                                    (line, _) => run(walk, line, *built, scope),
                                }
                            }
                        }
                        if let Some(Token::Literal(path, false)) = arguments.first() {
                            // Perl and PHP open commands, too.
                            if path.starts_with('|') || path.ends_with('|') {
                                run(walk, path.trim_matches('|'), false, scope);
                            } else if path.contains("://") {
                                walk.judgement.raise(Class::Yellow, "shell.sends");
                            } else {
                                walk.path(
                                    if writes || path.starts_with('>') { Deed::Write } else { Deed::Read },
                                    &Text::new(path.trim_start_matches(['>', '<']).trim()),
                                    scope,
                                );
                            }
                        }
                    }
                    Sink::Net => {
                        walk.judgement.effect(Deed::Net, "");
                        if let Some(Token::Literal(url, false)) = arguments.first() {
                            let found = walk.lexicon.http.judge(&crate::http::Request::get(url));
                            walk.judgement.join(found);
                        }
                        walk.judgement.raise(Class::Yellow, "shell.sends");
                    }
                    Sink::Send => {
                        walk.judgement.effect(Deed::Send, "");
                        walk.judgement.external = true;
                        walk.judgement.raise(Class::Yellow, "shell.sends");
                    }
                    Sink::Raw => {}
                }
            }
            _ => {}
        }
    }
    if sockets {
        walk.judgement.effect(Deed::Net, "");
        walk.judgement.raise(if shells { Class::Red } else { Class::Yellow }, if shells { "shell.reverse_shell" } else { "shell.sends" });
    }
    // Not the language at all, but a shell line in its place.
    let first = source.split_whitespace().next().unwrap_or_default();
    if walk.depth < 6 && !first.contains(['(', '.', ';', '=', '"', '\'']) && walk.lexicon.has_rules(first) {
        let before = std::mem::take(&mut walk.judgement);
        walk.line(source, &mut scope.clone(), Flow::Opaque);
        let found = std::mem::replace(&mut walk.judgement, before);
        if found.class >= Class::Red && !found.unknown {
            walk.judgement.join(found);
        }
    }
}

/// What Python's names stand for: `import os as o`, `from os import system as s`.
fn aliases(tokens: &[Token]) -> Vec<(String, String)> {
    const ALIASES_MAX: usize = 64;
    let mut found = Vec::new();
    let name = |at: usize| match tokens.get(at) {
        Some(Token::Name(name)) => Some(name.as_str()),
        _ => None,
    };
    let mut at = 0;
    while at < tokens.len() && found.len() < ALIASES_MAX {
        let module = match (name(at), name(at + 2)) {
            (Some("from"), Some("import")) => name(at + 1),
            (Some("import"), _) => Some(""),
            _ => None,
        };
        let Some(module) = module else {
            at += 1;
            continue;
        };
        at += if module.is_empty() { 1 } else { 3 };
        while let Some(imported) = name(at) {
            let meant = if module.is_empty() { imported.to_owned() } else { format!("{module}.{imported}") };
            let renamed = (name(at + 1) == Some("as")).then(|| name(at + 2)).flatten();
            at += if renamed.is_some() { 3 } else { 1 };
            if renamed.is_some() || !module.is_empty() {
                found.push((renamed.unwrap_or(imported).to_owned(), meant));
            }
            if tokens.get(at) != Some(&Token::Mark(',')) {
                break;
            }
            at += 1;
        }
    }
    found
}

fn run(walk: &mut Walk<'_>, line: &str, built: bool, scope: &mut Scope) {
    walk.judgement.raise(Class::Yellow, "shell.inline_code");
    if built {
        walk.judgement.unreadable("shell.hidden_code");
    }
    walk.wrapped += 1;
    walk.spliced(line, &mut scope.clone(), Flow::Nothing);
    walk.wrapped -= 1;
}

/// With their place in the list: the first of several that fit is meant.
static SINKS_BY_NAME: LazyLock<HashMap<&str, (usize, Sink)>> = LazyLock::new(|| {
    // Of a name that is listed twice the first holds.
    SINKS.iter().enumerate().rev().map(|(index, (name, sink))| (*name, (index, *sink))).collect()
});

fn sink(name: &str, language: &str) -> Option<Sink> {
    let normal = name.replace("->", ".");
    let normal = normal.trim_start_matches(['$', '@', '&', '\\']);
    let last = normal.rsplit(['.']).next().unwrap_or(normal);
    let tails = normal.match_indices(['.', ':']).map(|(at, _)| &normal[at + 1..]).filter(|tail| tail.contains(['.', ':']));
    let by_tail = || tails.filter_map(|tail| SINKS_BY_NAME.get(tail)).min_by_key(|(index, _)| *index);
    let (_, found) = SINKS_BY_NAME.get(normal).or_else(by_tail).or_else(|| SINKS_BY_NAME.get(last)).copied()?;
    // `exec` runs source in Python and programs everywhere else; `compile` is a regular expression's, too.
    match (last, language) {
        ("exec", "python") if normal.contains('.') => None,
        ("exec", "python") => Some(Sink::Eval),
        ("exec", "javascript" | "node" | "js")
            if normal.contains('.') && !normal.starts_with("child_process") && !normal.ends_with("cp.exec") && !normal.contains("require") =>
        {
            None
        }
        ("exec", _) => Some(Sink::Exec),
        ("rm", _) if !normal.starts_with("fs.") => None,
        ("compile", _) if normal.contains('.') => None,
        ("rm", "julia") => Some(Sink::Delete),
        ("eval", "r" | "julia") => Some(Sink::Eval),
        ("Path", "python") => Some(Sink::Open),
        ("Path" | "ENV", other) if other != "ruby" || last == "Path" => None,
        (
            "open" | "fetch" | "shell" | "term" | "rename" | "pipeline" | "fork" | "truncate" | "chmod" | "chown" | "rmdir" | "unlink" | "spawn" | "system",
            _,
        ) => Some(found),
        _ => Some(found),
    }
}

/// The arguments after a name, at the top level of its brackets; without brackets, up to the end of the statement.
fn arguments(tokens: &[Token]) -> Vec<Token> {
    const ARGUMENTS_MAX: usize = 16;
    let mut out: Vec<Token> = Vec::new();
    let (mut depth, mut from) = (0_usize, 0);
    let bracketed = matches!(tokens.first(), Some(Token::Mark('(')));
    if bracketed {
        depth = 1;
        from = 1;
    }
    let mut fresh = true;
    for token in &tokens[from..] {
        match token {
            Token::Mark('(' | '{') => {
                depth += 1;
                if fresh {
                    out.push(Token::Mark('('));
                    fresh = false;
                }
            }
            Token::Mark('[') => {
                depth += 1;
            }
            Token::Mark(')' | ']' | '}') => {
                depth = depth.saturating_sub(1);
                if depth == 0 && bracketed {
                    break;
                }
            }
            Token::Mark(';' | '\n') if depth == 0 => break,
            Token::Mark(',') => fresh = true,
            Token::Mark('+' | '.' | '%' | '~') if !fresh => {
                // Put together: what was read so far is only a part.
                if let Some(Token::Literal(text, built)) = out.last_mut() {
                    text.push(UNKNOWN);
                    *built = true;
                }
            }
            Token::Mark(_) => {}
            other if fresh => {
                out.push(other.clone());
                fresh = false;
                if out.len() >= ARGUMENTS_MAX {
                    break;
                }
            }
            _ => {}
        }
    }
    out
}

/// A shell line from `system("rm x")` or a list from `run(["rm", "x"])`; the flag says that a part is not known.
fn command_of(arguments: &[Token]) -> Option<(String, bool)> {
    let mut words = Vec::new();
    let mut built = false;
    for argument in arguments {
        match argument {
            Token::Literal(text, part) => {
                built |= part;
                words.push(text.clone());
            }
            Token::Name(_) | Token::Command(..) if words.is_empty() => return None,
            _ if words.is_empty() => return None,
            // `shell=True` and other names after the command.
            _ => break,
        }
    }
    match words.as_slice() {
        [] => None,
        [line] => Some((line.clone(), built)),
        // A list is a command of its own; words with blanks keep together.
        many => Some((many.iter().map(|word| quote(word)).collect::<Vec<_>>().join(" "), built)),
    }
}

fn quote(word: &str) -> String {
    if word.chars().all(|c| c.is_ascii_alphanumeric() || "-_./=:@%+,".contains(c)) && !word.is_empty() {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

fn tokens(source: &str, language: &str) -> Vec<Token> {
    let hash = !matches!(
        language,
        "javascript"
            | "node"
            | "js"
            | "lua"
            | "scala"
            | "groovy"
            | "java"
            | "kotlin"
            | "clojure"
            | "scheme"
            | "guile"
            | "elisp"
            | "emacs"
            | "haskell"
            | "erlang"
    );
    let slashes = matches!(language, "javascript" | "node" | "js" | "php" | "scala" | "groovy" | "java" | "kotlin" | "go");
    let dashes = matches!(language, "lua" | "haskell" | "sql");
    let backticks_run = matches!(language, "ruby" | "perl" | "php" | "unknown");
    let letters: Vec<char> = source.chars().collect();
    let mut out = Vec::new();
    let mut at = 0;
    let next = |at: usize| letters.get(at + 1).copied();
    while at < letters.len() && out.len() < TOKENS_MAX {
        let letter = letters[at];
        match letter {
            '\n' | ';' => {
                out.push(Token::Mark(';'));
                at += 1;
            }
            _ if letter.is_whitespace() => at += 1,
            '#' if hash => at = end_of_line(&letters, at),
            '/' if slashes && next(at) == Some('/') => at = end_of_line(&letters, at),
            '/' if slashes && next(at) == Some('*') => {
                at += 2;
                while at < letters.len() && !(letters[at] == '*' && letters.get(at + 1) == Some(&'/')) {
                    at += 1;
                }
                at += 2;
            }
            // A pattern between slashes, where awk reads no division.
            '/' if language == "awk" && !matches!(out.last(), Some(Token::Name(_) | Token::Mark(')' | ']' | '0') | Token::Literal(..))) => {
                let mut in_set = false;
                at += 1;
                while at < letters.len() && letters[at] != '\n' && (letters[at] != '/' || in_set) {
                    match letters[at] {
                        '\\' => at += 1,
                        '[' => in_set = true,
                        ']' => in_set = false,
                        _ => {}
                    }
                    at += 1;
                }
                out.push(Token::Mark('0'));
                at += 1;
            }
            '-' if dashes && next(at) == Some('-') => at = end_of_line(&letters, at),
            '"' | '\'' => {
                let triple = letters.get(at..at + 3).is_some_and(|three| three.iter().all(|c| *c == letter));
                let (text, built, end) = literal(
                    &letters,
                    at + if triple { 3 } else { 1 },
                    letter,
                    triple,
                    letter == '"' && matches!(language, "ruby" | "perl" | "php" | "tcl" | "expect" | "groovy" | "julia" | "elixir"),
                );
                // Python's f-strings and their like.
                let formatted = matches!(out.last(), Some(Token::Name(name)) if matches!(name.as_str(), "f" | "rf" | "fr" | "F")) && text.contains('{');
                if matches!(out.last(), Some(Token::Name(name)) if matches!(name.as_str(), "f" | "rf" | "fr" | "F" | "r" | "b" | "u" | "rb" | "br")) {
                    out.pop();
                }
                out.push(Token::Literal(text, built || formatted));
                at = end;
            }
            '`' if backticks_run => {
                let (text, built, end) = literal(&letters, at + 1, '`', false, true);
                out.push(Token::Command(text, built));
                at = end;
            }
            '`' => {
                let (text, _, end) = literal(&letters, at + 1, '`', false, false);
                let built = text.contains("${");
                out.push(Token::Literal(text, built));
                at = end;
            }
            '%' if language == "ruby" && next(at) == Some('x') && letters.get(at + 2).is_some_and(|c| !c.is_alphanumeric() && !c.is_whitespace()) => {
                let close = closing(letters[at + 2]);
                let (text, built, end) = literal(&letters, at + 3, close, false, true);
                out.push(Token::Command(text, built));
                at = end;
            }
            'q' if language == "perl" && next(at) == Some('x') && letters.get(at + 2).is_some_and(|c| !c.is_alphanumeric() && !c.is_whitespace()) => {
                let close = closing(letters[at + 2]);
                let (text, built, end) = literal(&letters, at + 3, close, false, true);
                out.push(Token::Command(text, built));
                at = end;
            }
            _ if letter.is_alphabetic() || matches!(letter, '_' | '$' | '@') => {
                let start = at;
                at += 1;
                while at < letters.len() {
                    let here = letters[at];
                    let joins = match here {
                        '.' => next(at).is_some_and(|c| c.is_alphabetic() || c == '_') && !matches!(language, "php" | "perl"),
                        ':' => (next(at) == Some(':') || language == "erlang") && next(at).is_some(),
                        '-' => {
                            (next(at) == Some('>') && letters.get(at + 2).is_some_and(|c| c.is_alphabetic()))
                                || (matches!(language, "elisp" | "emacs" | "scheme" | "guile" | "powershell" | "clojure")
                                    && next(at).is_some_and(char::is_alphabetic))
                        }
                        '>' => letters[at - 1] == '-',
                        _ => here.is_alphanumeric() || here == '_',
                    };
                    if !(joins || here == ':' && letters[at - 1] == ':') {
                        break;
                    }
                    at += 1;
                }
                out.push(Token::Name(letters[start..at].iter().collect::<String>().replace("->", ".")));
            }
            _ if letter.is_ascii_digit() => {
                while at < letters.len() && (letters[at].is_ascii_alphanumeric() || letters[at] == '.') {
                    at += 1;
                }
                out.push(Token::Mark('0'));
            }
            other => {
                // A call on what was just called: `require('child_process').exec(…)`.
                if other == '.' && matches!(out.last(), Some(Token::Mark(')' | ']'))) {
                    at += 1;
                    continue;
                }
                out.push(Token::Mark(other));
                at += 1;
            }
        }
    }
    out
}

fn closing(open: char) -> char {
    match open {
        '(' => ')',
        '[' => ']',
        '{' => '}',
        '<' => '>',
        other => other,
    }
}

fn end_of_line(letters: &[char], at: usize) -> usize {
    letters[at..].iter().position(|c| *c == '\n').map_or(letters.len(), |offset| at + offset)
}

/// A quoted text from `at` on: what it says, whether something is put into it, and where it ends.
fn literal(letters: &[char], mut at: usize, quote: char, triple: bool, interpolates: bool) -> (String, bool, usize) {
    let mut text = String::new();
    let mut built = false;
    while at < letters.len() {
        let letter = letters[at];
        if letter == quote && (!triple || letters.get(at..at + 3).is_some_and(|three| three.iter().all(|c| *c == quote))) {
            return (text, built, at + if triple { 3 } else { 1 });
        }
        if letter == '\\' {
            let escaped: String = letters[at..letters.len().min(at + 6)].iter().collect();
            let known = super::flow::unescape(&escaped);
            // One escape is decoded; the rest of the piece is read on as it stands.
            match letters.get(at + 1) {
                Some('x') if letters.len() > at + 3 => {
                    text.extend(known.chars().next());
                    at += 4;
                }
                Some('u') if letters.len() > at + 5 => {
                    text.extend(known.chars().next());
                    at += 6;
                }
                Some('n') => {
                    text.push('\n');
                    at += 2;
                }
                Some(other) => {
                    text.push(*other);
                    at += 2;
                }
                None => at += 1,
            }
            continue;
        }
        if interpolates
            && matches!(letter, '#' | '$' | '@')
            && letters.get(at + 1).is_some_and(|c| *c == '{' || (letter != '#' && (c.is_alphabetic() || *c == '_')))
        {
            built = true;
            text.push(UNKNOWN);
            at += 1;
            continue;
        }
        text.push(letter);
        at += 1;
    }
    (text, built, at)
}

/// A makefile: its recipes run. Without any, the text is a line itself.
fn make(walk: &mut Walk<'_>, source: &str, scope: &mut Scope) {
    let mut recipes = 0;
    for line in source.lines() {
        let recipe = match line.strip_prefix('\t') {
            Some(recipe) => Some(recipe),
            None => line.split_once(';').filter(|(target, _)| target.contains(':') && !target.contains('=')).map(|(_, recipe)| recipe),
        };
        if let Some(recipe) = recipe {
            recipes += 1;
            run(walk, recipe.trim_start_matches(['@', '-', '+', ' ']), false, scope);
        }
        if line.contains("$(shell") || line.contains("${shell") || line.contains("!=") {
            walk.judgement.unreadable("shell.hidden_code");
        }
    }
    if recipes == 0 {
        walk.spliced(source, scope, Flow::Opaque);
    }
}

/// `awk`: it can run commands, read from and write to them, and write files.
fn awk(walk: &mut Walk<'_>, source: &str, scope: &mut Scope) {
    let tokens = tokens(source, "awk");
    if tokens.len() >= TOKENS_MAX {
        walk.judgement.unreadable("shell.too_long");
    }
    let loads = source.contains("@load");
    // Whether the statement so far prints: each token is looked at once, however long the program is.
    let mut prints = false;
    for (at, token) in tokens.iter().enumerate() {
        match token {
            Token::Mark(';' | '{') => prints = false,
            Token::Name(name) => prints |= name.starts_with("print"),
            _ => {}
        }
        match token {
            Token::Name(name) if name == "system" && matches!(tokens.get(at + 1), Some(Token::Mark('('))) => match command_of(&arguments(&tokens[at + 1..])) {
                Some((line, built)) => run(walk, &line, built, scope),
                None => walk.judgement.unreadable("shell.hidden_code"),
            },
            Token::Mark('|') if tokens.get(at + 1) != Some(&Token::Mark('|')) && (at == 0 || tokens[at - 1] != Token::Mark('|')) => {
                // `print | "cmd"` and `"cmd" | getline`.
                let target = match (tokens.get(at.wrapping_sub(1)), tokens.get(at + 1), tokens.get(at + 2)) {
                    (_, Some(Token::Literal(line, built)), _) => Some((line, *built)),
                    (Some(Token::Literal(line, built)), Some(Token::Name(name)), _) if name == "getline" => Some((line, *built)),
                    (_, Some(Token::Mark('&')), Some(Token::Literal(line, built))) => Some((line, *built)),
                    _ => None,
                };
                match target {
                    // gawk's network: `"/inet/tcp/0/host/port"`.
                    Some((line, _)) if line.starts_with("/inet") => walk.judgement.raise(Class::Red, "shell.dev_tcp"),
                    Some((line, built)) if built => run(walk, line, true, scope),
                    Some((line, _)) => run(walk, line, false, scope),
                    None => walk.judgement.unreadable("shell.hidden_code"),
                }
            }
            Token::Mark('>') if prints => match tokens[at + 1..].iter().take(2).find(|token| **token != Token::Mark('>')) {
                Some(Token::Literal(path, _)) if super::walk::is_nowhere(path) => {}
                Some(Token::Literal(path, _)) => {
                    walk.judgement.raise(Class::Yellow, "shell.changes");
                    walk.path(Deed::Write, &Text::new(path.clone()), scope);
                }
                _ => walk.judgement.raise(Class::Yellow, "shell.changes"),
            },
            Token::Literal(text, _) if text.starts_with("/inet/") => walk.judgement.raise(Class::Red, "shell.dev_tcp"),
            Token::Mark('@') | Token::Name(_) if loads => walk.judgement.raise(Class::Red, "shell.inline_danger"),
            _ => {}
        }
    }
}

/// `sed`: `e` runs, `w` writes, `r` reads.
fn sed(walk: &mut Walk<'_>, source: &str, scope: &mut Scope) {
    for line in source.split(['\n', ';']) {
        let line = line.trim().trim_start_matches('{').trim();
        // Skip an address: numbers, `$`, `/…/`, `\x…x`, with commas and `!`.
        let command = skip_address(line);
        let mut letters = command.chars();
        match letters.next() {
            Some('e') if !letters.as_str().starts_with(|c: char| c.is_alphanumeric()) || letters.as_str().is_empty() => {
                let line = letters.as_str().trim();
                if line.is_empty() { walk.judgement.unreadable("shell.hidden_code") } else { run(walk, line, false, scope) }
            }
            Some('w' | 'W') if letters.as_str().starts_with(' ') => {
                let path = letters.as_str().trim();
                if !super::walk::is_nowhere(path) {
                    walk.judgement.raise(Class::Yellow, "shell.changes");
                    walk.path(Deed::Write, &Text::new(path), scope);
                }
            }
            Some('r' | 'R') if letters.as_str().starts_with(' ') => {
                walk.path(Deed::Read, &Text::new(letters.as_str().trim()), scope);
            }
            Some('s') => {
                let Some(mark) = letters.next() else { continue };
                let mut parts = 0;
                let mut escaped = false;
                let rest = letters.as_str();
                let Some(end) = rest.char_indices().find_map(|(at, c)| {
                    if escaped {
                        escaped = false;
                    } else if c == '\\' {
                        escaped = true;
                    } else if c == mark {
                        parts += 1;
                        if parts == 2 {
                            return Some(at + c.len_utf8());
                        }
                    }
                    None
                }) else {
                    continue;
                };
                let flags = rest[end..].trim_end_matches('}').trim();
                let (flags, file) = flags.split_once(['w', ' ']).map_or((flags, None), |(flags, file)| (flags, Some(file.trim())));
                if flags.contains('e') {
                    walk.judgement.unreadable("shell.hidden_code");
                }
                if let Some(path) = file.filter(|path| !path.is_empty() && !super::walk::is_nowhere(path)) {
                    walk.judgement.raise(Class::Yellow, "shell.changes");
                    walk.path(Deed::Write, &Text::new(path), scope);
                }
            }
            _ => {}
        }
    }
}

fn skip_address(line: &str) -> &str {
    let mut rest = line;
    loop {
        let before = rest;
        rest = rest.trim_start_matches(|c: char| c.is_ascii_digit() || matches!(c, '$' | ',' | '~' | '+' | '!' | ' '));
        if let Some(pattern) = rest.strip_prefix('/') {
            let mut escaped = false;
            let end = pattern.char_indices().find_map(|(at, c)| {
                if escaped {
                    escaped = false;
                    None
                } else if c == '\\' {
                    escaped = true;
                    None
                } else {
                    (c == '/').then_some(at)
                }
            });
            match end {
                Some(end) => rest = pattern[end + 1..].trim_start_matches(['I', 'M']),
                None => return "",
            }
        }
        if rest == before {
            return rest;
        }
    }
}

/// Languages of interactive programs, in which `!` or a word of its own starts a shell.
fn commands(walk: &mut Walk<'_>, language: &str, source: &str, scope: &mut Scope) {
    let lower = source.to_lowercase();
    let words = |list: &[&str]| list.iter().any(|word| lower.contains(word));
    // A line of the program's own that begins with a bang.
    for line in source.split(['\n', '|', ';']) {
        let line = line.trim().trim_start_matches([':', '+']).trim();
        let bang = line
            .strip_prefix('!')
            .or_else(|| line.strip_prefix("\\!"))
            .or_else(|| line.strip_prefix("shell "))
            .or_else(|| line.strip_prefix("system "))
            .or_else(|| line.strip_prefix(".shell "))
            .or_else(|| line.strip_prefix(".system "));
        if let Some(command) = bang {
            walk.judgement.raise(Class::Red, "shell.escape");
            run(walk, command.trim(), false, scope);
        }
        // What the program's own commands read, write and send.
        let mut words = line.split_whitespace();
        match (language, words.next().unwrap_or_default(), words.next()) {
            ("ftp" | "sftp" | "lftp" | "telnet", "put" | "mput" | "send" | "reput" | "append", Some(path)) => {
                walk.judgement.external = true;
                walk.judgement.raise(Class::Yellow, "shell.sends");
                if walk.path(Deed::Upload, &Text::new(path), scope) {
                    walk.judgement.raise(Class::Red, "shell.sends_secret");
                }
            }
            ("sqlite" | "sqlite3", ".output" | ".once" | ".excel" | ".save" | ".backup" | ".log", Some(path)) if path != "stdout" => {
                walk.judgement.raise(Class::Yellow, "shell.changes");
                walk.path(Deed::Write, &Text::new(path.trim_matches(['"', '\''])), scope);
            }
            ("sqlite" | "sqlite3", ".import" | ".read" | ".restore", Some(path)) => {
                walk.path(Deed::Read, &Text::new(path.trim_matches(['"', '\''])), scope);
            }
            _ => {}
        }
        if matches!(line, "shell" | "sh" | "\\!" | ".shell" | "!" | "terminal" | "term") {
            walk.judgement.raise(Class::Red, "shell.escape");
        }
    }
    match language {
        "vim" | "ex" | "ed" => {
            if words(&[
                ":!",
                "r !",
                "r!",
                "w !",
                "w!|",
                "system(",
                "term_start(",
                ":terminal",
                "job_start(",
                "libcall(",
                "set shell=",
                "shell=",
                "os.exec",
                "subprocess",
                "pty",
                "python",
                "py3",
                ":py",
                "lua ",
                "luaeval",
                "perl ",
                "ruby ",
                "tcl ",
                "source ",
                "so ",
                "exec ",
            ]) {
                walk.judgement.raise(Class::Red, "shell.escape");
            }
        }
        "gdb" => {
            if words(&["python", "guile", "compile code", "source ", "pipe ", "call (", "call system", "make "]) || lower.trim_start().starts_with("py ") {
                walk.judgement.raise(Class::Red, "shell.escape");
            }
        }
        "psql" | "sql-psql" | "sql" | "mysql" | "sql-mysql" | "sqlite" | "sqlite3" => {
            if words(&[
                "\\!",
                " program ",
                "xp_cmdshell",
                "sys_exec",
                "load_extension(",
                ".shell",
                ".system",
                ".load",
                "lo_import",
                "pg_read_file",
                "into outfile",
                "into dumpfile",
                "load_file(",
                "readfile(",
                "writefile(",
                "fts3_tokenizer",
                "edit(",
            ]) {
                walk.judgement.raise(Class::Red, "shell.escape");
            }
        }
        _ => {
            if words(&["system(", "`", "!sh", "!/bin"]) {
                walk.judgement.raise(Class::Red, "shell.escape");
            }
        }
    }
}
