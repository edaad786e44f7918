//! Reading many secrets at once: `.env` files and JSON.
//!
//! `.env` is read where shells and the usual loaders agree on it, and refused where they do not. Nothing is expanded or
//! run: `$HOME` is five characters. An error names the line and never shows it.

use super::{VaultError, value};
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use service::SecretString;
use std::collections::HashMap;
use std::collections::hash_map::Entry as Place;
use std::fmt;

/// All that comes in at once.
pub const IMPORT_BYTES_MAX: usize = 1024 * 1024;
pub const IMPORT_ENTRIES_MAX: usize = 10_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    Env,
    Json,
}

#[derive(Debug)]
pub struct Entry {
    /// As the vault spells it.
    pub name: String,
    pub value: SecretString,
    pub warning: Option<&'static str>,
}

pub fn read(format: Format, text: &str, prefix: &str) -> Result<Vec<Entry>, VaultError> {
    if text.len() > IMPORT_BYTES_MAX {
        return Err(malformed(format!("{} bytes, at most {IMPORT_BYTES_MAX} come in at once", text.len())));
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let read = match format {
        Format::Env => env(text)?,
        Format::Json => json(text)?,
    };
    if read.is_empty() || read.len() > IMPORT_ENTRIES_MAX {
        return Err(malformed(format!("{} secrets, it takes 1 to {IMPORT_ENTRIES_MAX}", read.len())));
    }
    let mut entries: Vec<Entry> = Vec::with_capacity(read.len());
    let mut places = HashMap::new();
    for Read { name: spelled, value, warning } in read {
        let name = format!("{prefix}{}", spelled.to_lowercase());
        value::check_name(&name)?;
        match places.entry(name.clone()) {
            Place::Vacant(place) => {
                place.insert(entries.len());
                entries.push(Entry { name, value, warning });
            }
            // What every loader of such files does.
            Place::Occupied(place) if format == Format::Env => {
                entries[*place.get()] = Entry { name, value, warning: Some("the name stands there more than once; the last one counts") };
            }
            Place::Occupied(_) => return Err(malformed(format!("`{name}` stands there more than once"))),
        }
    }
    Ok(entries)
}

struct Read {
    name: String,
    value: SecretString,
    warning: Option<&'static str>,
}

fn malformed(why: String) -> VaultError {
    VaultError::ImportMalformed { why }
}

fn env(text: &str) -> Result<Vec<Read>, VaultError> {
    let mut file = EnvFile { rest: text, line: 1 };
    let mut read = Vec::new();
    while let Some(one) = file.assignment()? {
        read.push(one);
    }
    Ok(read)
}

struct EnvFile<'a> {
    rest: &'a str,
    line: usize,
}

const BLANK: [char; 2] = [' ', '\t'];

impl<'a> EnvFile<'a> {
    fn assignment(&mut self) -> Result<Option<Read>, VaultError> {
        loop {
            self.rest = self.rest.trim_start_matches(BLANK);
            match self.rest.chars().next() {
                None => return Ok(None),
                Some('#' | '\r' | '\n') => drop(self.end_of_line()),
                Some(_) => break,
            }
        }
        let here = self.line;
        let fail = |why: &str| malformed(format!("line {here}: {why}"));
        if let Some(exported) = self.rest.strip_prefix("export").filter(|rest| rest.starts_with(BLANK)) {
            self.rest = exported.trim_start_matches(BLANK);
        }
        let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        let end = self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len());
        let (name, after) = self.rest.split_at(end);
        let after = after.trim_start_matches(BLANK).strip_prefix('=').ok_or_else(|| fail("this is no `NAME=value`"))?;
        if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(fail("a name begins with a letter or an underscore"));
        }
        self.rest = after.trim_start_matches(BLANK);
        let (value, warning) = match self.rest.chars().next() {
            Some(quote @ ('"' | '\'' | '`')) => {
                self.rest = &self.rest[1..];
                let value = self.quoted(quote).ok_or_else(|| fail("the quote does not end"))?;
                let trailing = self.end_of_line().trim();
                if !trailing.is_empty() && !trailing.starts_with('#') {
                    return Err(fail("something stands behind the closing quote; write a quote inside as \\\" in double quotes"));
                }
                (value, None)
            }
            _ => bare(self.end_of_line()),
        };
        Ok(Some(Read { name: name.to_owned(), value, warning }))
    }

    /// Up to the closing quote. Only double quotes know escapes; all may go over lines.
    fn quoted(&mut self, quote: char) -> Option<SecretString> {
        let closing = closing(self.rest, quote)?;
        let (inside, after) = self.rest.split_at(closing);
        self.rest = &after[1..];
        self.line += inside.matches('\n').count();
        // As long as it can become, so that no copy is left behind by growing.
        let mut value = String::with_capacity(inside.len());
        let mut chars = inside.chars().peekable();
        while let Some(c) = chars.next() {
            let escaped = (quote == '"' && c == '\\').then(|| chars.peek().copied()).flatten().and_then(|next| match next {
                'n' => Some('\n'),
                'r' => Some('\r'),
                't' => Some('\t'),
                '\\' | '"' | '$' | '`' => Some(next),
                // An escape that nobody defines stays as it is.
                _ => None,
            });
            if escaped.is_some() {
                chars.next();
            }
            match (c, chars.peek()) {
                // A file from another system: its line ends are not the key's.
                ('\r', Some('\n')) if escaped.is_none() => {}
                _ => value.push(escaped.unwrap_or(c)),
            }
        }
        Some(SecretString::new(value))
    }

    /// The rest of this line, without its end.
    fn end_of_line(&mut self) -> &'a str {
        let (line, after) = self.rest.split_once('\n').unwrap_or((self.rest, ""));
        self.rest = after;
        self.line += 1;
        line.strip_suffix('\r').unwrap_or(line)
    }
}

fn closing(text: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        if c == quote && !escaped {
            return Some(at);
        }
        escaped = quote == '"' && c == '\\' && !escaped;
    }
    None
}

/// A value without quotes: a comment begins at a `#` behind white space.
fn bare(line: &str) -> (SecretString, Option<&'static str>) {
    let comment = line.char_indices().find(|(at, c)| *c == '#' && (*at == 0 || line[..*at].ends_with(BLANK))).map_or(line.len(), |(at, _)| at);
    let value = line[..comment].trim_end();
    let warning = value.contains('#').then_some("the value has a `#` without quotes, which is kept; some loaders cut it there");
    (SecretString::new(value.to_owned()), warning)
}

/// `{"name": "value"}`, or `[{"name": …, "value": …}]` (`secret` is understood for `value`).
fn json(text: &str) -> Result<Vec<Read>, VaultError> {
    // The parser's own words may quote what it read.
    let place = |error: serde_json::Error| {
        malformed(format!("line {}, column {}: this is neither an object of names and texts nor a list of `name` and `value`", error.line(), error.column()))
    };
    serde_json::from_str::<Pairs>(text).map(|pairs| pairs.0).map_err(place)
}

struct Pairs(Vec<Read>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pair {
    name: String,
    #[serde(alias = "secret")]
    value: String,
}

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Pairs, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Pairs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("names and texts")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let mut read = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, String>()? {
                    read.push(Read { name, value: SecretString::new(value), warning: None });
                }
                Ok(Pairs(read))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Pairs, A::Error> {
                let mut read = Vec::new();
                while let Some(Pair { name, value }) = seq.next_element()? {
                    read.push(Read { name, value: SecretString::new(value), warning: None });
                }
                Ok(Pairs(read))
            }
        }

        deserializer.deserialize_any(Either)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pairs(format: Format, text: &str) -> Result<Vec<(String, String)>, String> {
        let entries = read(format, text, "").map_err(|error| error.to_string())?;
        Ok(entries.into_iter().map(|entry| (entry.name, entry.value.expose().to_owned())).collect())
    }

    #[test]
    fn env_files_are_read_as_everybody_reads_them() {
        let table: &[(&str, &str)] = &[
            ("A=plain", "plain"),
            ("export A=plain", "plain"),
            ("  export\tA = plain  ", "plain"),
            ("A=two words # a comment", "two words"),
            ("A=with#hash", "with#hash"),
            ("A=#all of it is a comment", ""),
            ("A=", ""),
            ("A=x=y==", "x=y=="),
            ("A=back\\nslash", "back\\nslash"),
            ("A=it's", "it's"),
            ("A='single \\n $HOME \"x\" # no comment'", "single \\n $HOME \"x\" # no comment"),
            ("A='ends with \\'", "ends with \\"),
            ("A=\"double \\n \\t \\\\ \\\" \\$ \\q\"  # a comment", "double \n \t \\ \" $ \\q"),
            ("A=\"$HOME ${X}\"", "$HOME ${X}"),
            ("A=`back 'tick' \"x\"`", "back 'tick' \"x\""),
            ("A=\"first\r\nsecond\n\"", "first\nsecond\n"),
            ("A='first\nsecond'", "first\nsecond"),
            ("\u{feff}A=x\r\n", "x"),
            ("# a comment\n\n   \nA=x", "x"),
            ("A=one\nA=two", "two"),
        ];
        for (text, value) in table {
            assert_eq!(pairs(Format::Env, text), Ok(vec![("a".to_owned(), (*value).to_owned())]), "{text:?}");
        }
        let names = |text| pairs(Format::Env, text).unwrap().into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(names("STRIPE_KEY='a\nb'\nexport My.Key-2=x # y\n_Z=1"), ["stripe_key", "my.key-2", "_z"]);
        assert_eq!(read(Format::Env, "A=with#hash\nB=x", "").unwrap().iter().filter(|entry| entry.warning.is_some()).count(), 1);
        assert_eq!(read(Format::Env, "KEY=x", "provider.").unwrap()[0].name, "provider.key");
    }

    #[test]
    fn an_error_names_the_line_and_does_not_show_it() {
        for (text, place) in [
            ("A=x\nhunter2hunter2", "line 2"),
            ("A='x\ny'\nB='hunter2hunter2\n\n", "line 3"),
            ("A=\"x\" hunter2hunter2", "line 1"),
            ("A='it\\'s hunter2hunter2'", "line 1"),
            ("1A=hunter2hunter2", "line 1"),
            ("=hunter2hunter2", "line 1"),
            ("hunter2 hunter2=x", "line 1"),
            ("# nothing", "0 secrets"),
        ] {
            let error = pairs(Format::Env, text).unwrap_err();
            assert!(error.contains(place) && !error.contains("hunter2"), "{text:?}: {error}");
        }
        for text in [
            "{\"a\": 4711471147}",
            "{\"a\": {\"hunter2\": \"hunter2\"}}",
            "[\"hunter2\"]",
            "[{\"name\": \"a\", \"value\": \"hunter2\", \"x\": 1}]",
            "\"hunter2\"",
            "hunter2",
            "{\"a\": \"hunter2\", \"A\": \"hunter2\"}",
            "{\"a\": \"hunter2\", \"a\": \"hunter2\"}",
            "{\"not a name\": \"hunter2\"}",
            "{}",
        ] {
            let error = pairs(Format::Json, text).unwrap_err();
            assert!(!error.contains("hunter2") && !error.contains("4711"), "{text}: {error}");
        }
    }

    #[test]
    fn json_is_an_object_or_a_list() {
        let expected = vec![("a".to_owned(), "x\ny".to_owned()), ("b".to_owned(), "ü".to_owned())];
        for text in [r#"{"A": "x\ny", "b": "\u00fc"}"#, r#"[{"name": "a", "value": "x\ny"}, {"name": "b", "secret": "ü"}]"#] {
            assert_eq!(pairs(Format::Json, text).as_ref(), Ok(&expected), "{text}");
        }
        let large = "A=x\n".repeat(IMPORT_BYTES_MAX / 4) + "B=y";
        assert!(pairs(Format::Env, &large).unwrap_err().contains("at most 1048576"));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "(?s).{0,120}") {
            let _ = read(Format::Env, &text, "");
            let _ = read(Format::Json, &text, "");
        }

        /// What is quoted as loaders want it comes out as it was.
        #[test]
        fn a_quoted_value_comes_back(value in "(?s)[^\r]{1,60}") {
            let escaped = value.replace('\\', "\\\\").replace('"', "\\\"").replace('$', "\\$");
            prop_assert_eq!(pairs(Format::Env, &format!("A=\"{escaped}\" # x\nB=y")).unwrap().remove(0).1, value.clone());
            if !value.contains('\'') {
                prop_assert_eq!(pairs(Format::Env, &format!("A='{value}'")).unwrap().remove(0).1, value);
            }
        }
    }
}
