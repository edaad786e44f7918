//! The arguments of one command, read the way its program reads them: options, their values, operands.
//!
//! Where nobody knows whether an option takes the word after it, both readings are kept: rules that raise look at
//! either, proofs of harmlessness at both.

use super::program::{OptionRole, Program, Role, Takes};
use super::words::Text;

#[derive(Clone, Debug)]
pub struct Opt<'a> {
    /// As it was typed, without its value: `-f` or `--force`. A letter of a cluster appears as an option of its own.
    pub name: String,
    pub value: Option<Text>,
    pub known: Option<&'a OptionRole>,
    /// It is certainly an option, and not the value of the one before.
    pub sure: bool,
    /// A single-dash word of several letters, kept whole besides its letters.
    whole: bool,
}

impl Opt<'_> {
    /// Whether this is the option called `name`, also abbreviated (`--recurs` for `--recursive`).
    pub fn is(&self, name: &str) -> bool {
        const ABBREVIATION_MIN: usize = 5;
        self.name == name || (self.name.starts_with("--") && self.known.is_none() && self.name.len() >= ABBREVIATION_MIN && name.starts_with(&self.name))
    }
}

#[derive(Debug, Default)]
pub struct Reading<'a> {
    pub options: Vec<Opt<'a>>,
    pub operands: Vec<Text>,
    /// The operands when unknown options take the word after them; empty when there is only one reading.
    pub operands_otherwise: Vec<Text>,
    /// The role of each operand.
    pub roles: Vec<Role>,
    /// Where in the arguments the inner command begins, when there is one.
    pub inner: Option<usize>,
    /// `inner` is a line for a shell instead of words.
    pub inner_is_line: bool,
    /// Where the operands of the sub-command begin.
    pub own: usize,
    /// The program or the sub-command that decided the reading.
    pub program: Option<&'a Program>,
}

/// Reads the words after the program's name.
pub fn read<'a>(program: Option<&'a Program>, words: &[Text]) -> Reading<'a> {
    let mut reading = Reading { program, ..Reading::default() };
    let mut otherwise: Option<Vec<Text>> = None;
    let mut current = program;
    // Operands that belong to the outer program's words when a sub-command takes over.
    let mut base = 0;
    let mut at = 0;
    let mut options_over = false;
    let mut doubtful = false;
    while at < words.len() {
        let word = &words[at];
        let text = word.as_str();
        let was_doubtful = std::mem::take(&mut doubtful);
        let lookup = |name: &str| current.and_then(|sub| sub.options.get(name)).or_else(|| program.and_then(|program| program.options.get(name)));
        if !options_over && text == "--" {
            options_over = true;
            reading.options.push(Opt { name: text.to_owned(), value: None, known: None, sure: true, whole: true });
            at += 1;
            continue;
        }
        if !options_over && text.starts_with("--") && text.len() > 2 {
            let (name, attached) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(Text::new(value))));
            let known = lookup(name);
            let takes = known.map(|known| known.takes);
            let mut value = attached;
            if value.is_none() && takes == Some(Takes::Value) {
                at += 1;
                value = words.get(at).cloned();
            } else if value.is_none() && known.is_none() {
                doubtful = true;
            }
            let starts = known.is_some_and(|known| known.role == Role::Argv);
            reading.options.push(Opt { name: name.to_owned(), value, known, sure: !was_doubtful, whole: false });
            if starts {
                reading.inner = Some(at);
                break;
            }
            at += 1;
            continue;
        }
        if !options_over && text.len() > 1 && (text.starts_with('-') || (text.starts_with('+') && lookup("+").is_some())) {
            let single = program.is_some_and(|program| program.single_dash) || current.is_some_and(|sub| sub.single_dash);
            let (name, attached) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
            if let Some(known) = lookup(name).filter(|_| name.chars().count() > 2 || single) {
                let mut value = attached.map(Text::new);
                if value.is_none() && known.takes == Takes::Value {
                    at += 1;
                    value = words.get(at).cloned();
                }
                reading.options.push(Opt { name: name.to_owned(), value, known: Some(known), sure: !was_doubtful, whole: false });
                if known.role == Role::Argv {
                    reading.inner = Some(at);
                    break;
                }
                at += 1;
                continue;
            }
            if single {
                doubtful = attached.is_none();
                reading.options.push(Opt { name: name.to_owned(), value: attached.map(Text::new), known: None, sure: !was_doubtful, whole: false });
                at += 1;
                continue;
            }
            // A cluster of letters; the last may take a value.
            let sign = &text[..1];
            if text.chars().count() > 2 {
                reading.options.push(Opt { name: name.to_owned(), value: attached.map(Text::new), known: None, sure: !was_doubtful, whole: true });
            }
            let mut argv_from = None;
            let mut unknown_last = false;
            for (offset, letter) in text.char_indices().skip(1) {
                let name = format!("{sign}{letter}");
                let known = lookup(&name);
                let rest = &text[offset + letter.len_utf8()..];
                let value = match known.map(|known| known.takes) {
                    Some(Takes::Value) if rest.is_empty() => {
                        at += 1;
                        words.get(at).cloned()
                    }
                    Some(Takes::Value | Takes::Attached) => Some(Text::new(rest.strip_prefix('=').unwrap_or(rest))),
                    _ => None,
                };
                let over = matches!(known.map(|known| known.takes), Some(Takes::Value | Takes::Attached));
                unknown_last = known.is_none() && !letter.is_ascii_digit();
                if known.is_some_and(|known| known.role == Role::Argv) {
                    argv_from = Some(at);
                }
                reading.options.push(Opt { name, value, known, sure: !was_doubtful, whole: false });
                if over {
                    break;
                }
            }
            if argv_from.is_some() {
                reading.inner = argv_from;
                break;
            }
            doubtful = unknown_last;
            at += 1;
            continue;
        }
        // An operand.
        let index = reading.operands.len() - base;
        let role = current.map_or(Role::Data, |program| program.operand(index));
        if was_doubtful {
            otherwise.get_or_insert_with(|| reading.operands.clone());
        } else if let Some(otherwise) = &mut otherwise {
            otherwise.push(word.clone());
        }
        if matches!(role, Role::Argv | Role::Shell) && !(was_doubtful && index == 0 && at + 1 < words.len() && !looks_like_program(text)) {
            reading.inner = Some(at);
            reading.inner_is_line = role == Role::Shell;
            break;
        }
        reading.operands.push(word.clone());
        reading.roles.push(role);
        at += 1;
        // A sub-command takes over as soon as its words are complete, and a longer one after it.
        if let Some(sub) = program.and_then(|outer| outer.sub(&reading.operands)) {
            current = Some(sub);
            reading.program = Some(sub);
            base = reading.operands.len();
            reading.own = base;
            reading.roles.fill(Role::Data);
        }
    }
    reading.operands_otherwise = otherwise.unwrap_or_default();
    reading
}

/// After an option that nobody knows, a word that can hardly be a program is taken for its value.
fn looks_like_program(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_alphanumeric() || "/._+-".contains(c)) && !text.chars().all(|c| c.is_ascii_digit() || c == '.')
}

impl Reading<'_> {
    /// Letters of clusters count once; the cluster as a whole is only there to be matched.
    pub fn each_option(&self) -> impl Iterator<Item = &Opt<'_>> {
        self.options.iter().filter(|option| !option.whole)
    }
}
