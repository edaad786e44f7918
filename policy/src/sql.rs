//! What a database is told to do, as far as its first words tell: look, change, delete, or reach beyond its tables.
//!
//! No parser: quoted text and comments are taken out, statements are split, and words are compared. What begins with none of
//! the known words is unreadable. A statement with a known danger anywhere in it is as dangerous as that.

use crate::{Deed, Judgement};

/// Whether a text is meant for a database and not for a person who searches.
pub fn is_sql(text: &str) -> bool {
    let words = words(&bare(text));
    let first = words.first().map(String::as_str).unwrap_or_default();
    let second = words.get(1).map(String::as_str).unwrap_or_default();
    let has = |word: &str| words.iter().any(|known| known == word);
    match first {
        "select" => has("from") || words.len() == 2 || text.contains('('),
        "insert" => second == "into" || second == "or" || second == "overwrite",
        "update" => has("set"),
        "delete" => second == "from",
        "replace" | "merge" => second == "into",
        "with" => has("select") && has("as"),
        "create" | "drop" | "alter" => OBJECTS.contains(&second),
        "truncate" => true,
        "grant" | "revoke" => has("to") || has("from") || has("on"),
        "pragma" | "explain" | "show" | "describe" | "vacuum" | "attach" | "copy" | "call" | "exec" | "execute" => {
            words.len() >= 2 && !text.trim_end().ends_with('?')
        }
        _ => false,
    }
}

const OBJECTS: &[&str] = &[
    "table",
    "database",
    "schema",
    "index",
    "view",
    "materialized",
    "user",
    "role",
    "unique",
    "temp",
    "temporary",
    "or",
    "trigger",
    "function",
    "procedure",
    "extension",
    "sequence",
    "type",
    "policy",
    "column",
    "login",
    "server",
    "tablespace",
    "keyspace",
    "collection",
    "global",
    "aggregate",
    "event",
    "system",
];

pub fn judge(text: &str, found: &mut Judgement, raise: &mut dyn FnMut(&mut Judgement, &'static str)) {
    if text.len() > BYTES_MAX {
        return raise(found, "sql.unreadable");
    }
    let bare = bare(text);
    let mut any = false;
    for statement in bare.split(';') {
        let words = words(statement);
        if words.is_empty() {
            continue;
        }
        any = true;
        raise(found, of_statement(&words));
    }
    if !any {
        raise(found, "sql.unreadable");
    }
    found.effect(Deed::Exec, text.split_whitespace().take(3).collect::<Vec<_>>().join(" "));
}

/// Longer than what a person would read before saying yes.
const BYTES_MAX: usize = 64 * 1024;

fn of_statement(words: &[String]) -> &'static str {
    let has = |word: &str| words.iter().any(|known| known == word);
    let at = |index: usize| words.get(index).map(String::as_str).unwrap_or_default();
    let escapes = words.iter().any(|word| ESCAPES.iter().any(|known| word == known || (known.ends_with('_') && word.starts_with(known))));
    if escapes || (has("into") && (has("outfile") || has("dumpfile"))) || (at(0) == "copy" && has("program")) {
        return "sql.escape";
    }
    let object = if matches!(at(1), "if" | "or" | "temp" | "temporary" | "unique" | "global") {
        at(words.iter().position(|word| OBJECTS[..3].contains(&word.as_str())).unwrap_or(1))
    } else {
        at(1)
    };
    let mutates = ["insert", "update", "delete", "merge", "truncate", "drop", "alter", "create", "grant", "revoke"].iter().any(|verb| has(verb));
    match at(0) {
        "grant" | "revoke" | "reassign" | "deny" => "sql.access",
        "drop" | "alter" | "create" if matches!(object, "user" | "role" | "login" | "policy" | "system") => "sql.access",
        "set" if has("password") || has("role") || at(1) == "global" => "sql.access",
        "drop" if matches!(object, "database" | "schema" | "keyspace" | "tablespace") => "sql.destroy",
        "drop" | "truncate" | "delete" | "flushall" | "flushdb" => "sql.delete",
        "alter" if has("drop") => "sql.delete",
        "update" if !has("where") => "sql.delete",
        "explain" | "with" | "select" | "values" | "table" if mutates => {
            if has("delete") || has("drop") || has("truncate") {
                "sql.delete"
            } else {
                "sql.change"
            }
        }
        "select" if has("into") => "sql.change",
        "select" | "show" | "describe" | "desc" | "explain" | "values" | "with" | "use" | "help" => "sql.look",
        "pragma" if !words.iter().any(|word| word == "=") => "sql.look",
        "insert" | "update" | "replace" | "merge" | "upsert" | "create" | "alter" | "comment" | "rename" | "begin" | "start" | "commit" | "rollback"
        | "savepoint" | "release" | "set" | "analyze" | "vacuum" | "reindex" | "refresh" | "optimize" | "lock" | "unlock" | "declare" | "fetch" | "close"
        | "end" | "abort" | "reset" | "discard" | "pragma" => "sql.change",
        "kill" | "shutdown" | "load" | "attach" | "detach" | "copy" | "do" | "call" | "exec" | "execute" | "prepare" | "import" | "export" | "backup"
        | "restore" | "dbcc" | "install" => "sql.escape",
        _ => "sql.unreadable",
    }
}

/// Words that leave the tables: files, programs, other servers. An ending `_` stands for all that begin so.
const ESCAPES: &[&str] = &[
    "xp_",
    "sp_oacreate",
    "sp_configure",
    "load_file",
    "pg_read_file",
    "pg_read_binary_file",
    "pg_ls_dir",
    "pg_write_file",
    "lo_import",
    "lo_export",
    "pg_terminate_backend",
    "pg_reload_conf",
    "dblink",
    "dblink_",
    "openrowset",
    "opendatasource",
    "utl_",
    "dbms_",
    "load_extension",
    "writefile",
    "readfile",
    "edit",
    "sys_exec",
    "sys_eval",
    "query_to_xml",
    "pg_sleep",
    "benchmark",
    "bulk",
    "http_",
    "httpfs",
    "shell",
];

/// The text in lower case, without comments and what stands in single quotes. Where databases read quotes and comments
/// differently, nothing is left out: too much is seen rather than too little.
fn bare(text: &str) -> String {
    let keeps_quoted = text.contains("\\'");
    let mut out = String::with_capacity(text.len());
    let mut letters = text.chars().peekable();
    let mut named = None;
    while let Some(letter) = letters.next() {
        match letter {
            letter if named == Some(letter) => named = None,
            letter if named.is_some() => out.extend(letter.to_lowercase()),
            '"' | '`' => named = Some(letter),
            '\'' if !keeps_quoted => {
                while let Some(inner) = letters.next() {
                    if inner == '\'' && letters.next_if_eq(&'\'').is_none() {
                        break;
                    }
                }
                out.push('0');
            }
            '-' if letters.next_if_eq(&'-').is_some() => {
                if letters.peek().is_none_or(|next| next.is_whitespace()) {
                    while letters.next().is_some_and(|inner| inner != '\n') {}
                }
                out.push(' ');
            }
            '/' if letters.next_if_eq(&'*').is_some() => {
                // MySQL runs what stands in `/*!50000 */`: only an ordinary comment is left out.
                if letters.next_if_eq(&'!').is_some() {
                    while letters.next_if(char::is_ascii_digit).is_some() {}
                    continue;
                }
                let mut before = ' ';
                for inner in letters.by_ref() {
                    if before == '*' && inner == '/' {
                        break;
                    }
                    before = inner;
                }
                out.push(' ');
            }
            letter => out.extend(letter.to_lowercase()),
        }
    }
    out
}

fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    for piece in text.split(|letter: char| !letter.is_alphanumeric() && letter != '_' && letter != '=').filter(|piece| !piece.is_empty()) {
        match piece.split_once('=') {
            None => words.push(piece.to_owned()),
            Some((before, after)) => words.extend([before, "=", after].into_iter().filter(|word| !word.is_empty()).map(str::to_owned)),
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(text: &str) -> Vec<&'static str> {
        let mut seen = Vec::new();
        judge(text, &mut Judgement::default(), &mut |_, id| seen.push(id));
        seen
    }

    #[test]
    fn statements_do_what_their_words_say() {
        for (text, expected) in [
            ("SELECT * FROM orders", "sql.look"),
            ("select 'drop table a' -- delete from b", "sql.look"),
            ("WITH a AS (SELECT 1) SELECT * FROM a", "sql.look"),
            ("SHOW TABLES", "sql.look"),
            ("PRAGMA table_info(a)", "sql.look"),
            ("PRAGMA journal_mode = wal", "sql.change"),
            ("INSERT INTO a VALUES (1)", "sql.change"),
            ("UPDATE a SET b = 1 WHERE c = 2", "sql.change"),
            ("UPDATE a SET b = 1", "sql.delete"),
            ("DELETE FROM a WHERE b = 1", "sql.delete"),
            ("WITH gone AS (DELETE FROM a RETURNING *) SELECT * FROM gone", "sql.delete"),
            ("DROP TABLE IF EXISTS a", "sql.delete"),
            ("TRUNCATE a", "sql.delete"),
            ("ALTER TABLE a DROP COLUMN b", "sql.delete"),
            ("DROP DATABASE shop", "sql.destroy"),
            ("DROP DATABASE IF EXISTS shop", "sql.destroy"),
            ("GRANT ALL ON a TO b", "sql.access"),
            ("CREATE USER x", "sql.access"),
            ("COPY a TO PROGRAM 'sh'", "sql.escape"),
            ("SELECT pg_read_file('/etc/passwd')", "sql.escape"),
            ("SELECT 1 INTO OUTFILE '/tmp/a'", "sql.escape"),
            ("EXEC xp_cmdshell 'dir'", "sql.escape"),
            ("/*!50000 DROP TABLE a */", "sql.delete"),
            ("frobnicate a", "sql.unreadable"),
            ("", "sql.unreadable"),
        ] {
            assert_eq!(check(text), [expected], "{text}");
        }
        assert_eq!(check("SELECT 1; DROP TABLE a;"), ["sql.look", "sql.delete"]);
        for hidden in [
            "SELECT \"a'\"; DROP TABLE x; -- '",
            "SELECT '\\''; DROP TABLE x; -- '",
            "SELECT 1 # 2; DROP TABLE x",
            "SELECT 1--1; DROP TABLE x",
            "SELECT 1 /* /* */; DROP TABLE x",
        ] {
            assert!(check(hidden).contains(&"sql.delete"), "{hidden}");
        }
    }

    #[test]
    fn a_search_is_no_statement() {
        for text in [
            "delete old files",
            "update on the project",
            "show me the latest report?",
            "select a restaurant",
            "drop in visitors",
            "with friends",
            "create invoice",
        ] {
            assert!(!is_sql(text), "{text}");
        }
        for text in ["DELETE FROM a", "update a set b=1", "drop table a", "select 1", "select count(*) x", "TRUNCATE TABLE a"] {
            assert!(is_sql(text), "{text}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(text in ".{0,200}") {
            let _ = (is_sql(&text), check(&text));
        }
    }
}
