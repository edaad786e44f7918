//! Where each program is described. A description is read when a line first names the program: there are thousands of
//! them, an assistant uses a few dozen, and read they take many times the room of their texts.
//!
//! Several entries may describe one program; they are united in the order of the texts. What cannot be read describes
//! nothing, and an unknown program asks; whoever brings texts that nobody has tried calls `faults` before use.

use super::form::Pool;
use super::program::{Program, Written};
use crate::bundle::Fault;
use serde::Deserialize;
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

#[derive(Clone, Debug, Default)]
pub struct Programs {
    index: Arc<Index>,
    /// By slot.
    read: Arc<[OnceLock<Option<Box<Program>>>]>,
}

#[derive(Debug, Default)]
struct Index {
    texts: Vec<(Cow<'static, str>, Cow<'static, str>)>,
    entries: Vec<Entry>,
    /// Which entries describe a program. Programs that the same entries describe share a slot.
    slots: Vec<Box<[u32]>>,
    /// By hash, then as the names stand in the texts.
    names: Box<[Named]>,
}

/// A name, as the place where it is written: a table of strings would take more room than the rest of the index.
#[derive(Debug)]
struct Named {
    hash: u32,
    entry: u32,
    /// In the text of the entry.
    start: u32,
    length: u32,
    slot: u32,
}

#[derive(Debug)]
struct Entry {
    text: u32,
    start: u32,
    end: u32,
    lines_before: u32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    program: Vec<Written>,
}

const HEADER: &str = "[[program]]\n";

/// Whether the text describes programs, and so nothing else.
pub fn describes_programs(text: &str) -> bool {
    text.starts_with(HEADER) || text.contains("\n[[program]]\n")
}

impl Programs {
    /// `texts` by name. Only the names of programs are looked at.
    pub fn new(texts: Vec<(Cow<'static, str>, Cow<'static, str>)>) -> Programs {
        let mut index = Index { texts, ..Index::default() };
        let mut entries = Vec::new();
        for (at, (_, text)) in index.texts.iter().enumerate() {
            let starts: Vec<usize> =
                text.match_indices(HEADER).map(|(start, _)| start).filter(|start| *start == 0 || text.as_bytes()[start - 1] == b'\n').collect();
            let mut lines_before = 0;
            let mut counted = 0;
            for (start, end) in starts.iter().zip(starts.iter().skip(1).chain([&text.len()])) {
                lines_before += lines(&text[counted..*start]);
                counted = *start;
                let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
                entries.push((Entry { text: number(at), start: number(*start), end: number(*end), lines_before: number(lines_before) }, &text[*start..*end]));
            }
        }
        let mut by_name: HashMap<&str, (u32, u32)> = HashMap::new();
        for (at, (_, part)) in (0..).zip(&entries) {
            // What a program was described by, and what it is with this entry.
            let mut grown: HashMap<Option<u32>, u32> = HashMap::new();
            for name in names(part) {
                let before = by_name.get(name).map(|(slot, _)| *slot);
                if before.is_some_and(|slot| index.slots[slot as usize].contains(&at)) {
                    continue;
                }
                let slot = *grown.entry(before).or_insert_with(|| {
                    let known = before.map_or(&[][..], |slot| &index.slots[slot as usize]);
                    index.slots.push(known.iter().copied().chain([at]).collect());
                    u32::try_from(index.slots.len() - 1).unwrap_or(u32::MAX)
                });
                by_name.entry(name).or_insert((slot, at)).0 = slot;
            }
        }
        let mut named: Vec<Named> = by_name
            .into_iter()
            .map(|(name, (slot, entry))| {
                let place = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
                // It is a part of this text.
                let start = name.as_ptr().addr() - entries[entry as usize].1.as_ptr().addr();
                Named { hash: hash_of(name), entry, start: place(start), length: place(name.len()), slot }
            })
            .collect();
        index.entries = entries.into_iter().map(|(entry, _)| entry).collect();
        named.sort_unstable_by(|one, other| one.hash.cmp(&other.hash).then_with(|| index.name(one).cmp(index.name(other))));
        index.names = named.into();
        Programs { read: unread(index.slots.len()), index: Arc::new(index) }
    }

    /// The same descriptions, none of them read yet: for what reads many of them once.
    #[must_use]
    pub fn apart(&self) -> Programs {
        Programs { index: self.index.clone(), read: unread(self.index.slots.len()) }
    }

    pub fn contains(&self, name: &str) -> bool {
        self.index.slot(name).is_some()
    }

    pub fn get(&self, name: &str) -> Option<&Program> {
        let slot = self.index.slot(name)?;
        self.read[slot].get_or_init(|| self.index.read(&self.index.slots[slot]).ok().map(Box::new)).as_deref()
    }

    /// Reads every description, and says what is wrong with it.
    pub fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        for (at, entry) in self.index.entries.iter().enumerate() {
            let (file, part) = self.index.part(entry);
            match toml::from_str::<File>(part) {
                Err(error) => {
                    let fault = Fault::toml(file, part, &error);
                    faults.push(Fault { line: fault.line.map(|line| entry.lines_before as usize + line), ..fault });
                }
                Ok(read) => {
                    let about = read.program.first().and_then(|program| program.names.first()).map_or_else(String::new, |name| format!("program `{name}`"));
                    let mut wrong = |what: &str| {
                        faults.push(Fault { line: Some(entry.lines_before as usize + 1), ..Fault::at(file, &about, what, "correct the entry") });
                    };
                    if about.is_empty() {
                        wrong("a [[program]] has no `names`");
                    }
                    let written: Vec<&str> = read.program.iter().flat_map(|program| &program.names).map(String::as_str).collect();
                    if written != names(part).collect::<Vec<_>>() {
                        wrong("`names` is the first key of a [[program]], and a list of plain words in double quotes");
                    }
                    // Alone it is looked at here; what contradicts the others is told below.
                    if let Err(more) = self.index.read(&[u32::try_from(at).unwrap_or(u32::MAX)]) {
                        more.iter().for_each(|what| wrong(what));
                    }
                }
            }
        }
        if faults.is_empty() {
            for slot in self.index.slots.iter().filter(|slot| slot.len() > 1) {
                if let Err(more) = self.index.read(slot) {
                    let (file, part) = self.index.part(&self.index.entries[slot[slot.len() - 1] as usize]);
                    let about = names(part).next().map_or_else(String::new, |name| format!("program `{name}`"));
                    faults.extend(more.iter().map(|what| Fault::at(file, &about, what, "correct the entry")));
                }
            }
        }
        faults
    }
}

impl Index {
    fn slot(&self, name: &str) -> Option<usize> {
        let hash = hash_of(name);
        let from = self.names.partition_point(|named| named.hash < hash);
        let same = self.names[from..].iter().take_while(|named| named.hash == hash);
        same.into_iter().find(|named| self.name(named) == name).map(|named| named.slot as usize)
    }

    fn name(&self, named: &Named) -> &str {
        let (_, part) = self.part(&self.entries[named.entry as usize]);
        &part[named.start as usize..][..named.length as usize]
    }

    fn part(&self, entry: &Entry) -> (&str, &str) {
        let (name, text) = &self.texts[entry.text as usize];
        (name, &text[entry.start as usize..entry.end as usize])
    }

    fn read(&self, entries: &[u32]) -> Result<Program, Vec<String>> {
        let mut pool = Pool::default();
        let mut program = Program::default();
        for entry in entries {
            let (_, part) = self.part(&self.entries[*entry as usize]);
            let file: File = toml::from_str(part).map_err(|error| vec![error.message().to_owned()])?;
            for written in &file.program {
                program.learn(written, &mut pool)?;
            }
        }
        Ok(program)
    }
}

/// FNV-1a. Names that are chosen to collide cost a comparison each.
fn hash_of(name: &str) -> u32 {
    name.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

fn unread(slots: usize) -> Arc<[OnceLock<Option<Box<Program>>>]> {
    (0..slots).map(|_| OnceLock::new()).collect()
}

fn lines(text: &str) -> usize {
    text.bytes().filter(|byte| *byte == b'\n').count()
}

/// The words of an entry's `names`, which come first.
fn names(part: &str) -> impl Iterator<Item = &str> {
    let body = part.strip_prefix(HEADER).and_then(|rest| rest.strip_prefix("names = [")).unwrap_or_default();
    let mut rest = body;
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches([' ', '\n', ',']);
        let (name, after) = rest.strip_prefix('"')?.split_once('"')?;
        rest = after;
        (!name.contains('\\')).then_some(name)
    })
}
