//! Forms: how rules and program descriptions say which command lines they mean.
//!
//! `docker|podman compose down -v|--volumes !--dry-run` reads: one of these programs, whose first operands are these
//! words, with one of these options, and without that one. A form is compiled once; matching walks the command's
//! operands and options and allocates nothing.

use super::argv::{Opt, Reading};
use super::words::Text;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

/// Cheap to clone: the parts are shared.
#[derive(Clone, Debug)]
pub struct Form {
    tokens: Arc<[Token]>,
}

/// Names and forms that many descriptions write in the same way. While they are read each is kept once.
#[derive(Debug, Default)]
pub struct Pool {
    names: HashSet<Arc<str>>,
    forms: HashMap<Box<str>, Form>,
}

impl Pool {
    pub fn name(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.names.get(text) {
            return known.clone();
        }
        let name: Arc<str> = text.into();
        self.names.insert(name.clone());
        name
    }

    pub fn form(&mut self, text: &str) -> Result<Form, String> {
        if let Some(known) = self.forms.get(text) {
            return Ok(known.clone());
        }
        let form = Form::parse(text)?;
        self.forms.insert(text.into(), form.clone());
        Ok(form)
    }
}

#[derive(Clone, Debug)]
enum Token {
    /// The next operand is one of these; `*` in a word stands for any text.
    Word(Words),
    /// The next operand is anything.
    Any,
    /// Any number of operands.
    Many,
    End,
    Option(Box<[Pattern]>),
    /// None of these options, and none of the operands is one of these words.
    Without(Box<Without>),
    /// An operand is a path in the set, or (`!`) is not provably in it.
    Path {
        set: &'static str,
        outside: bool,
    },
    /// An operand, or the value of an option that carries a statement, has this text.
    Contains(Box<str>),
    /// None of them has it.
    WithoutText(Box<str>),
}

/// Tens of thousands of forms are kept, and none of them ever grows.
type Words = Box<[Box<str>]>;

#[derive(Clone, Debug)]
struct Without {
    options: Box<[Pattern]>,
    words: Words,
}

/// One spelling of an option, with the values that it may have.
#[derive(Clone, Debug)]
struct Pattern {
    name: Box<str>,
    values: Words,
}

/// What a form may ask about a path.
pub trait Places {
    /// Whether the path that this operand means lies in the named set. `None`: nobody can tell.
    fn lies_in(&self, operand: &Text, set: &str) -> Option<bool>;
}

pub const SETS: &[&str] = &["root", "home", "base", "above", "system", "secret", "persist", "device", "workspace", "temp", "relative", "unknown"];

impl Form {
    /// A form without a program in front: the operands and options alone.
    pub fn parse(text: &str) -> Result<Form, String> {
        let mut tokens = Vec::new();
        for token in split(text)? {
            tokens.push(Token::parse(&token).map_err(|why| format!("`{token}` in the form `{text}`: {why}"))?);
        }
        Ok(Form { tokens: tokens.into() })
    }

    /// A form that begins with its programs.
    pub fn parse_command(text: &str, groups: &BTreeMap<String, Vec<String>>) -> Result<(Vec<String>, Form), String> {
        let (first, rest) = text.trim().split_once(char::is_whitespace).unwrap_or((text.trim(), ""));
        let mut programs = Vec::new();
        for name in first.split('|') {
            match name.strip_prefix('@') {
                Some(group) => {
                    programs.extend(groups.get(group).ok_or_else(|| format!("the group `@{group}` in the form `{text}` is not defined"))?.iter().cloned())
                }
                None if name.is_empty() => return Err(format!("the form `{text}` names no program")),
                None => programs.push(name.to_owned()),
            }
        }
        Ok((programs, Form::parse(rest)?))
    }

    pub fn fits(&self, reading: &Reading<'_>, places: &dyn Places) -> bool {
        self.fits_from(reading, 0, places)
    }

    /// Seen from the operand at `from` on: where those of a sub-command begin.
    pub fn fits_from(&self, reading: &Reading<'_>, from: usize, places: &dyn Places) -> bool {
        let operands = reading.operands.get(from..).unwrap_or_default();
        let otherwise = reading.operands_otherwise.get(from..).unwrap_or_default();
        let options = self.tokens.iter().all(|token| match token {
            Token::Option(patterns) => reading.options.iter().any(|option| patterns.iter().any(|pattern| pattern.fits(option))),
            Token::Without(without) => {
                let given = reading.options.iter().any(|option| option.sure && without.options.iter().any(|pattern| pattern.fits(option)));
                !given && !operands.iter().any(|operand| without.words.iter().any(|word| **word == *operand.as_str()))
            }
            Token::Path { set, outside } => operands.iter().any(|operand| match (places.lies_in(operand, set), outside) {
                (Some(inside), false) => inside,
                (Some(inside), true) => !inside,
                (None, outside) => *outside || *set == "unknown",
            }),
            Token::Contains(text) => says(reading, text),
            Token::WithoutText(text) => !says(reading, text),
            _ => true,
        });
        options && (sequence(&self.tokens, operands) || (!otherwise.is_empty() && sequence(&self.tokens, otherwise)))
    }

    /// As `fits`, but every way to read the command must agree: for what proves harmlessness.
    pub fn surely_fits(&self, reading: &Reading<'_>, places: &dyn Places) -> bool {
        self.surely_fits_from(reading, 0, places)
    }

    pub fn surely_fits_from(&self, reading: &Reading<'_>, from: usize, places: &dyn Places) -> bool {
        let otherwise = reading.operands_otherwise.get(from..).unwrap_or_default();
        self.fits_from(reading, from, places)
            && sequence(&self.tokens, reading.operands.get(from..).unwrap_or_default())
            && (otherwise.is_empty() || sequence(&self.tokens, otherwise))
    }
}

/// Whether an operand or an option's value has this text.
fn says(reading: &Reading<'_>, text: &str) -> bool {
    reading.operands.iter().any(|operand| contains(operand.as_str(), text))
        || reading.options.iter().filter_map(|option| option.value.as_ref()).any(|value| contains(value.as_str(), text))
}

/// Tokens of a form; `~…~` may hold spaces.
fn split(text: &str) -> Result<Vec<String>, String> {
    let mut tokens = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let sign = usize::from(rest.starts_with("!~"));
        let end = match rest[sign..].strip_prefix('~') {
            Some(inner) => inner.find('~').ok_or_else(|| format!("a `~` in the form `{text}` is not closed"))? + 2 + sign,
            None => rest.find(char::is_whitespace).unwrap_or(rest.len()),
        };
        tokens.push(rest[..end].to_owned());
        rest = rest[end..].trim_start();
    }
    Ok(tokens)
}

impl Token {
    fn parse(token: &str) -> Result<Token, String> {
        match token {
            "*" => return Ok(Token::Any),
            "**" => return Ok(Token::Many),
            "$" => return Ok(Token::End),
            _ => {}
        }
        if let Some(text) = token.strip_prefix('~').and_then(|text| text.strip_suffix('~')) {
            return if text.trim().is_empty() { Err("the text is empty".to_owned()) } else { Ok(Token::Contains(text.to_lowercase().into())) };
        }
        if let Some(text) = token.strip_prefix("!~").and_then(|text| text.strip_suffix('~')) {
            return if text.trim().is_empty() { Err("the text is empty".to_owned()) } else { Ok(Token::WithoutText(text.to_lowercase().into())) };
        }
        if let Some(set) = token.strip_prefix('@') {
            let (outside, set) = set.strip_prefix('!').map_or((false, set), |set| (true, set));
            return match SETS.iter().find(|known| **known == set) {
                Some(set) => Ok(Token::Path { set, outside }),
                None => Err(format!("there is no set of paths `{set}`; there are {}", SETS.join(", "))),
            };
        }
        if let Some(without) = token.strip_prefix('!') {
            let (mut options, mut words) = (Vec::new(), Vec::new());
            for piece in without.split('|') {
                match piece.chars().next() {
                    Some('-' | '+') => options.push(piece),
                    Some(_) => words.push(piece.into()),
                    None => return Err("`!` needs an option or a word".to_owned()),
                }
            }
            let options = if options.is_empty() { Box::default() } else { Pattern::parse_all(&options.join("|"))? };
            return Ok(Token::Without(Box::new(Without { options, words: words.into() })));
        }
        if token.starts_with('-') && token.len() > 1 {
            return Ok(Token::Option(Pattern::parse_all(token)?));
        }
        let words: Words = token.split('|').map(Box::from).collect();
        if words.iter().any(|word| word.is_empty()) { Err("an alternative is empty".to_owned()) } else { Ok(Token::Word(words)) }
    }
}

impl Pattern {
    fn parse_all(text: &str) -> Result<Box<[Pattern]>, String> {
        let mut patterns: Vec<(&str, Vec<Box<str>>)> = Vec::new();
        for piece in text.split('|') {
            // `--output=json|yaml`: what does not begin with a dash is another value.
            match patterns.last_mut() {
                Some((_, values)) if !piece.starts_with(['-', '+']) && !values.is_empty() => values.push(piece.into()),
                _ if !piece.starts_with(['-', '+']) => return Err(format!("`{piece}` is no option")),
                _ => {
                    let (name, value) = piece.split_once('=').map_or((piece, None), |(name, value)| (name, Some(value)));
                    patterns.push((name, value.map(Box::from).into_iter().collect()));
                }
            }
        }
        Ok(patterns.into_iter().map(|(name, values)| Pattern { name: name.into(), values: values.into() }).collect())
    }

    fn fits(&self, option: &Opt<'_>) -> bool {
        // `--privileged=false` says that it is not.
        let denied = self.values.is_empty() && option.value.as_ref().is_some_and(|value| value.as_str() == "false");
        option.is(&self.name)
            && !denied
            && (self.values.is_empty() || option.value.as_ref().is_some_and(|value| self.values.iter().any(|pattern| glob(pattern, value.as_str()))))
    }
}

/// Whether the operand tokens describe the beginning of `operands`.
fn sequence(tokens: &[Token], operands: &[Text]) -> bool {
    let Some((token, rest)) = tokens.split_first() else { return true };
    match token {
        Token::Word(words) => operands.split_first().is_some_and(|(operand, after)| {
            words.iter().any(|word| if is_glob(word) { glob(word, operand.as_str()) } else { **word == *operand.as_str() }) && sequence(rest, after)
        }),
        Token::Any => !operands.is_empty() && sequence(rest, &operands[1..]),
        Token::Many => (0..=operands.len().min(SKIPPED_MAX)).any(|skipped| sequence(rest, &operands[skipped..])),
        Token::End => operands.is_empty() && sequence(rest, operands),
        _ => sequence(rest, operands),
    }
}

/// `delete-*` is any word that begins so; `*`, `./*` and `.*` are meant as they stand.
fn is_glob(word: &str) -> bool {
    word.contains('*') && !matches!(word.trim_matches('*'), "" | "." | "./" | "../" | ".." | "/" | "/." | "~/")
}

/// `**` looks this far for the next word.
const SKIPPED_MAX: usize = 12;

/// `*` stands for any text.
pub fn glob(pattern: &str, text: &str) -> bool {
    let mut pieces = pattern.split('*');
    let first = pieces.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut last = None;
    for piece in pieces {
        if let Some(piece) = last.replace(piece) {
            let piece: &str = piece;
            let Some(at) = rest.find(piece) else { return false };
            rest = &rest[at + piece.len()..];
        }
    }
    last.map_or(rest.is_empty(), |last| rest.ends_with(last))
}

/// Case-insensitive, and every run of white space is one space. `needle` is lower case.
fn contains(text: &str, needle: &str) -> bool {
    let mut words = String::with_capacity(text.len() + 2);
    for word in text.split_whitespace() {
        if !words.is_empty() {
            words.push(' ');
        }
        words.extend(word.chars().flat_map(char::to_lowercase));
    }
    words.contains(needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs() {
        for (pattern, text, fits) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("a*", "ab", true),
            ("*b", "ab", true),
            ("a*c*e", "abcde", true),
            ("a*c*e", "abde", false),
            ("*", "", true),
            ("public*", "public-read", true),
            ("a*a", "a", false),
        ] {
            assert_eq!(glob(pattern, text), fits, "{pattern} {text}");
        }
    }

    #[test]
    fn wrong_forms_say_why() {
        for (form, why) in [("a ~b", "not closed"), ("a @nowhere", "no set"), ("a !", "needs"), ("a b||c", "empty")] {
            let error = Form::parse(form).unwrap_err();
            assert!(error.contains(why), "{form}: {error}");
        }
        assert!(Form::parse_command("@nobody x", &BTreeMap::new()).unwrap_err().contains("not defined"));
    }
}
