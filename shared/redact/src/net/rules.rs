//! The rules as data: what vendors' tokens look like, which words speak of a secret, and examples that are checked.
//!
//! The program brings a file of its own, and a company adds to it. A text whose examples do not hold is refused as a
//! whole: a net with a hole nobody knows of is worse than the last good one.

use super::LIVE_BYTES_MAX;
use super::Net;
use super::names::{Sense, Set, Words};
use super::shape::Shape;
use crate::placeholder;
use aho_corasick::AhoCorasick;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

/// Everything that is wrong with a text of rules.
#[derive(Debug)]
pub struct NetError(pub Vec<Wrong>);

/// One thing that is wrong, for whoever wrote it. An example is named by its number and not told.
#[derive(Debug)]
pub struct Wrong {
    pub line: Option<usize>,
    /// The rule or the shape that it is about, between backticks.
    pub about: String,
    pub what: String,
    pub fix: &'static str,
}

impl NetError {
    pub(super) fn one(about: String, what: impl Into<String>, fix: &'static str) -> NetError {
        NetError(vec![Wrong { line: None, about, what: what.into(), fix }])
    }

    fn rule(id: &str, what: impl Into<String>, fix: &'static str) -> NetError {
        NetError::one(format!("rule `{id}`"), what, fix)
    }

    /// Each gets the line where its name stands.
    fn placed(mut self, text: &str) -> NetError {
        for wrong in self.0.iter_mut().filter(|wrong| wrong.line.is_none()) {
            let name = wrong.about.split('`').nth(1).filter(|name| !name.is_empty());
            wrong.line = name.and_then(|name| text.find(&format!("\"{name}\""))).map(|at| line_of(text, at));
        }
        self
    }
}

impl fmt::Display for NetError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let each = self.0.iter().map(|Wrong { line, about, what, fix }| {
            let line = line.map_or_else(String::new, |line| format!("line {line}: "));
            format!("{line}{about}: {what}; {fix}")
        });
        out.write_str(&each.collect::<Vec<_>>().join("\n"))
    }
}

impl std::error::Error for NetError {}

fn line_of(text: &str, at: usize) -> usize {
    text.as_bytes()[..at.min(text.len())].iter().filter(|byte| **byte == b'\n').count() + 1
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Confidence {
    Likely,
    Certain,
}

/// Which rule found something. Cheap to clone; shown as its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule(Arc<(String, String)>);

impl Rule {
    pub fn id(&self) -> &str {
        &self.0.0
    }

    /// What it is called in a placeholder.
    pub fn kind(&self) -> &str {
        &self.0.1
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.id())
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Book {
    words: Lists,
    #[serde(default)]
    token: Vec<TokenRule>,
    #[serde(default)]
    form: Vec<FormRule>,
    /// Host and path of addresses that are a secret as a whole.
    #[serde(default)]
    webhooks: Vec<String>,
    #[serde(default)]
    allow: Allow,
}

/// What a company adds to the rules of the program.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Addition {
    #[serde(default)]
    token: Vec<TokenRule>,
    #[serde(default)]
    allow: Allow,
}

/// The text of an addition; the shapes and values of all additions. A company has a few kinds of numbers of its own.
const ADDED_BYTES_MAX: usize = 64 * 1024;
const ADDED_SHAPES_MAX: usize = 256;
const ADDED_VALUES_MAX: usize = 256;

/// Words, separated by blanks.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Lists {
    password: String,
    secret: String,
    key: String,
    owner: String,
    pin: String,
    plain: String,
    public: String,
    filler: String,
    /// Whole names, joints left out, that sound like a secret's and are not.
    harmless: String,
    vendor: String,
    /// What ids begin with that have the form of a token (`call_…`, `cus_…`).
    id: String,
    /// What tokens of unknown vendors have between their joints (`live`, `pat`, `key`).
    mark: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenRule {
    id: String,
    /// Its id if it is left out.
    kind: Option<String>,
    shapes: Vec<String>,
    #[serde(default = "certain")]
    confidence: Confidence,
    /// The shape must be met to its last character; otherwise what goes on after it belongs to the token.
    #[serde(default)]
    exact: bool,
    /// Words of which one must stand in the name before it, since the shape alone says too little.
    #[serde(default)]
    near: Vec<String>,
    #[serde(default, rename = "match")]
    found: Vec<String>,
    #[serde(default)]
    not_match: Vec<String>,
}

fn certain() -> Confidence {
    Confidence::Certain
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FormRule {
    id: String,
    kind: Option<String>,
    confidence: Confidence,
    /// In the notation of shapes; what is to be found stands between `«` and `»`.
    #[serde(rename = "match")]
    found: Vec<String>,
    not_match: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Allow {
    /// Rules that find nothing any more.
    #[serde(default)]
    rules: Vec<String>,
    /// Values that are known to be no secrets, in the notation of shapes: published examples, test data.
    #[serde(default)]
    values: Vec<String>,
}

/// What is told by its place or its frame rather than by a vendor's prefix. The code knows how; the file says whether,
/// how sure, and under which name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    PrivateKey,
    Jwt,
    UrlPassword,
    Webhook,
    Authorization,
    BasicAuthorization,
    Cookie,
    AssignedPassword,
    AssignedSecret,
    SpokenPassword,
    Pin,
    CommandLine,
    VendorSecret,
    RandomValue,
    PrefixedToken,
    PasswordHash,
    RecoveryPhrase,
}

const FORMS: &[(&str, Form)] = &[
    ("private_key", Form::PrivateKey),
    ("jwt", Form::Jwt),
    ("url_password", Form::UrlPassword),
    ("webhook", Form::Webhook),
    ("authorization", Form::Authorization),
    ("basic_authorization", Form::BasicAuthorization),
    ("cookie", Form::Cookie),
    ("assigned_password", Form::AssignedPassword),
    ("assigned_secret", Form::AssignedSecret),
    ("spoken_password", Form::SpokenPassword),
    ("pin", Form::Pin),
    ("command_line", Form::CommandLine),
    ("vendor_secret", Form::VendorSecret),
    ("random_value", Form::RandomValue),
    ("prefixed_token", Form::PrefixedToken),
    ("password_hash", Form::PasswordHash),
    ("recovery_phrase", Form::RecoveryPhrase),
];

#[derive(Clone, Debug)]
pub struct Told {
    pub rule: Rule,
    pub confidence: Confidence,
}

#[derive(Default)]
pub struct Forms([Option<Told>; FORMS.len()]);

impl Forms {
    pub fn told(&self, form: Form) -> Option<&Told> {
        self.0[form as usize].as_ref()
    }
}

#[derive(Clone)]
pub struct Token {
    pub shape: Shape,
    pub exact: bool,
    /// What looks like a sample that somebody made up counts, too: a company's numbers may look like anything.
    pub plain: bool,
    pub near: Vec<Box<[u8]>>,
    pub told: Told,
}

/// The shapes of tokens, found by their first two bytes; those without two fixed bytes are tried on every random run.
pub struct Tokens {
    pub all: Vec<Token>,
    index: Vec<Vec<Beginning>>,
    slot: Box<[u8]>,
    /// With the byte that must be there.
    pub inner: Vec<(u8, u16)>,
}

/// The first bytes of a shape, up to four, so that most texts are turned away with one comparison.
struct Beginning {
    bytes: u32,
    mask: u32,
    number: u16,
}

impl Beginning {
    fn of(prefix: &[u8], number: u16) -> Beginning {
        let (mut bytes, mut mask) = ([0; 4], [0; 4]);
        for (at, byte) in prefix.iter().take(4).enumerate() {
            (bytes[at], mask[at]) = (*byte, 0xff);
        }
        Beginning { bytes: u32::from_le_bytes(bytes), mask: u32::from_le_bytes(mask), number }
    }
}

impl Tokens {
    fn new(all: Vec<Token>) -> Tokens {
        let mut tokens = Tokens { all, index: vec![Vec::new()], slot: vec![0; 1 << 16].into(), inner: Vec::new() };
        for (number, token) in (0..).zip(&tokens.all) {
            match token.shape.prefix() {
                [first, second, ..] => {
                    let slot = &mut tokens.slot[usize::from(*first) << 8 | usize::from(*second)];
                    if *slot == 0 {
                        // More than 255 different beginnings share the last slot: slower, still right.
                        if tokens.index.len() < 256 {
                            tokens.index.push(Vec::new());
                        }
                        *slot = (tokens.index.len() - 1) as u8;
                    }
                    tokens.index[usize::from(*slot)].push(Beginning::of(token.shape.prefix(), number));
                }
                _ => tokens.inner.push((token.shape.anchor(), number)),
            }
        }
        // The longest prefix speaks first.
        for bucket in &mut tokens.index {
            bucket.sort_by_key(|beginning| std::cmp::Reverse(tokens.all[usize::from(beginning.number)].shape.prefix().len()));
        }
        tokens
    }

    pub fn at<'a>(&'a self, text: &[u8], at: usize) -> impl Iterator<Item = &'a Token> {
        let first = text.get(at..at + 4).map_or([0; 4], |first| [first[0], first[1], first[2], first[3]]);
        let slot = self.slot[usize::from(first[0]) << 8 | usize::from(first[1])];
        let first = u32::from_le_bytes(first);
        let begins = move |beginning: &&Beginning| first & beginning.mask == beginning.bytes;
        self.index[usize::from(slot)].iter().filter(begins).map(|beginning| &self.all[usize::from(beginning.number)])
    }
}

/// Values that are no secrets.
#[derive(Clone, Default)]
pub struct Allowed {
    texts: HashSet<Box<[u8]>>,
    /// Count against what is likely: no shape takes a vendor's token out of the net.
    shapes: Vec<Shape>,
}

impl Allowed {
    pub fn has(&self, value: &[u8], confidence: Confidence) -> bool {
        let fits = |shape: &Shape| shape.end(value, 0) == Some(value.len());
        self.texts.contains(value) || confidence == Confidence::Likely && self.shapes.iter().any(fits)
    }

    fn add(&mut self, text: &str) -> Result<(), NetError> {
        for shape in Shape::parse(text)? {
            let shape = shape.bounded(text)?;
            match shape.text() {
                Some(text) => _ = self.texts.insert(text.into()),
                None => self.shapes.push(shape),
            }
        }
        Ok(())
    }
}

/// Everything of a file, compiled and checked.
pub struct Rules {
    /// What no addition changes is shared.
    pub words: Arc<Words>,
    pub ids: Arc<Set>,
    pub marks: Arc<Set>,
    pub tokens: Tokens,
    pub forms: Forms,
    pub webhooks: AhoCorasick,
    pub allowed: Allowed,
    pub all: Vec<Told>,
}

fn told(all: &mut Vec<Told>, id: &str, kind: Option<&String>, confidence: Confidence) -> Result<Told, NetError> {
    if all.iter().any(|told| told.rule.id() == id) {
        return Err(NetError::rule(id, "another rule has this name", "rename it; a beginning of your own keeps it apart from rules that come later"));
    }
    let told = Told { rule: Rule(Arc::new((id.to_owned(), kind.map_or(id, |kind| kind).to_owned()))), confidence };
    all.push(told.clone());
    Ok(told)
}

impl TokenRule {
    fn token(&self, shape: Shape, told: &Told, plain: bool) -> Token {
        let near = self.near.iter().map(|word| word.as_bytes().into()).collect();
        Token { shape, exact: self.exact, plain, near, told: told.clone() }
    }

    /// One that a company adds; `tokens` are those added so far.
    fn added(&self, all: &mut Vec<Told>, tokens: &mut Vec<Token>) -> Result<(), NetError> {
        let wrong = |what: &str, fix| Err(NetError::rule(&self.id, what, fix));
        if ![Some(&self.id), self.kind.as_ref()].into_iter().flatten().all(|name| placeholder::is_name(name)) {
            return wrong("its id or kind is no name", "write letters, digits, `_`, `.` and `-`, at most 64");
        }
        if self.shapes.is_empty() || self.near.iter().any(String::is_empty) {
            return wrong("it has no shape, or an empty word in `near`", "say what its tokens look like");
        }
        let told = told(all, &self.id, self.kind.as_ref(), self.confidence)?;
        for text in &self.shapes {
            for shape in Shape::parse(text)? {
                let shape = shape.bounded(text)?;
                // What a stream holds back ends at a blank, and is not longer.
                if shape.has_blank() || shape.bytes_min() > LIVE_BYTES_MAX {
                    return wrong("a shape holds a blank, or its least length is above 256", "end it at the blank, or with a smaller count");
                }
                tokens.push(self.token(shape, &told, true));
            }
        }
        if tokens.len() > ADDED_SHAPES_MAX {
            return wrong("there are more than 256 shapes with it", "say several shapes with one, by classes and counts");
        }
        Ok(())
    }
}

impl Rules {
    fn compile(book: &Book) -> Result<Rules, NetError> {
        let mut known = Vec::<Told>::new();
        let off = |id: &str| book.allow.rules.iter().any(|rule| rule == id);
        let mut all = Vec::new();
        for rule in &book.token {
            let told = told(&mut known, &rule.id, rule.kind.as_ref(), rule.confidence)?;
            for text in rule.shapes.iter().filter(|_| !off(&rule.id)) {
                all.extend(Shape::parse(text)?.into_iter().map(|shape| rule.token(shape, &told, false)));
            }
        }
        let mut forms = Forms::default();
        for rule in &book.form {
            let unknown = || NetError::rule(&rule.id, "there is no form of this name", "update this program, or take the form out");
            let (_, form) = FORMS.iter().find(|(id, _)| *id == rule.id).ok_or_else(unknown)?;
            let told = told(&mut known, &rule.id, rule.kind.as_ref(), rule.confidence)?;
            forms.0[*form as usize] = Some(told).filter(|_| !off(&rule.id));
        }
        let mut words = Words::default();
        let lists = &book.words;
        for (list, sense) in [
            (&lists.password, Sense::PASSWORD),
            (&lists.secret, Sense::SECRET),
            (&lists.key, Sense::KEY),
            (&lists.owner, Sense::OWNER),
            (&lists.pin, Sense::PIN),
            (&lists.plain, Sense::PLAIN),
            (&lists.public, Sense::PUBLIC),
            (&lists.filler, Sense::FILLER),
            (&lists.vendor, Sense::VENDOR),
        ] {
            words.add(list, sense);
        }
        words.add_harmless(&lists.harmless);
        let set = |list: &str| Arc::new(list.split_whitespace().map(|word| word.as_bytes().into()).collect());
        let mut allowed = Allowed::default();
        book.allow.values.iter().try_for_each(|text| allowed.add(text))?;
        let unusable = |error: aho_corasick::BuildError| NetError::one("`webhooks`".to_owned(), error.to_string(), "correct the list");
        let webhooks = super::value::compact().build(&book.webhooks).map_err(unusable)?;
        Ok(Rules { words: Arc::new(words), ids: set(&lists.id), marks: set(&lists.mark), tokens: Tokens::new(all), forms, webhooks, allowed, all: known })
    }

    /// With what a company adds, and without what it allows.
    fn with(&self, more: &Addition) -> Result<Rules, NetError> {
        let (mut wrong, mut known, mut added, mut allowed) = (Vec::new(), self.all.clone(), Vec::new(), self.allowed.clone());
        let mut note = |outcome: Result<(), NetError>| wrong.extend(outcome.err().into_iter().flat_map(|error| error.0));
        for id in &more.allow.rules {
            note(match self.all.iter().find(|told| told.rule.id() == id) {
                None => Err(NetError::rule(id, "there is no rule of this name to allow", "name one that masks too much, as the log and the findings call it")),
                Some(told) if told.confidence == Confidence::Certain => Err(NetError::rule(
                    id,
                    "what it finds is certain, and only what is likely can be allowed",
                    "allow the one value instead, if it is no secret",
                )),
                Some(_) => Ok(()),
            });
        }
        more.token.iter().for_each(|rule| note(rule.added(&mut known, &mut added)));
        more.allow.values.iter().for_each(|text| note(allowed.add(text)));
        if allowed.texts.len() + allowed.shapes.len() > self.allowed.texts.len() + self.allowed.shapes.len() + ADDED_VALUES_MAX {
            note(Err(NetError::one("`values`".to_owned(), "more than 256 values are allowed", "allow a rule by name, or shapes of values")));
        }
        if !wrong.is_empty() {
            return Err(NetError(wrong));
        }
        let is_on = |told: &Told| !more.allow.rules.iter().any(|id| id == told.rule.id());
        let tokens = self.tokens.all.iter().filter(|token| is_on(&token.told)).cloned().chain(added);
        let forms = Forms(self.forms.0.clone().map(|told| told.filter(is_on)));
        let (words, ids, marks, webhooks) = (self.words.clone(), self.ids.clone(), self.marks.clone(), self.webhooks.clone());
        Ok(Rules { words, ids, marks, tokens: Tokens::new(tokens.collect()), forms, webhooks, allowed, all: known })
    }
}

fn read<T: DeserializeOwned>(text: &str) -> Result<T, NetError> {
    toml::from_str(text).map_err(|error| {
        let line = error.span().map(|span| line_of(text, span.start));
        let what = format!("it cannot be read: {}", error.message().replace('\n', ", "));
        NetError(vec![Wrong { line, about: "the text".to_owned(), what, fix: "correct the line" }])
    })
}

impl Net {
    /// Compiles a file of rules and checks its examples.
    pub fn parse(text: &str) -> Result<Net, NetError> {
        let book: Book = read(text)?;
        let compiled = || {
            let net = Net::new(Rules::compile(&book)?);
            net.check(&book)?;
            Ok(net)
        };
        compiled().map_err(|error: NetError| error.placed(text))
    }

    /// This net and what `more` adds: `[[token]]` and `[allow]`. `proven`: its examples held once, and are not asked again.
    pub fn with(&self, more: &str, proven: bool) -> Result<Net, NetError> {
        if more.len() > ADDED_BYTES_MAX {
            return Err(NetError::one("the text".to_owned(), "it is larger than 64 KiB", "say it with fewer shapes and examples"));
        }
        let addition: Addition = read(more)?;
        let compiled = || {
            let net = Net { rules: self.rules.with(&addition)?, triggers: self.triggers.clone(), marks: self.marks.clone() };
            let mut wrong = Vec::new();
            addition.token.iter().filter(|_| !proven).try_for_each(|rule| net.check_token(rule, &mut wrong))?;
            if wrong.is_empty() { Ok(net) } else { Err(NetError(wrong)) }
        };
        compiled().map_err(|error: NetError| error.placed(more))
    }

    /// The same without the examples: they take ten times as long, and those of the program's own rules are a test.
    pub(super) fn compile(text: &str) -> Result<Net, NetError> {
        Ok(Net::new(Rules::compile(&read(text)?)?))
    }

    fn check(&self, book: &Book) -> Result<(), NetError> {
        let off = |id: &str| book.allow.rules.iter().any(|rule| rule == id);
        let mut wrong = Vec::new();
        for rule in book.token.iter().filter(|rule| !off(&rule.id)) {
            self.check_token(rule, &mut wrong)?;
        }
        for rule in book.form.iter().filter(|rule| !off(&rule.id)) {
            self.check_found(&rule.id, "example", &rule.found, false, &mut wrong)?;
            self.check_not(&rule.id, &rule.not_match, &mut wrong)?;
        }
        if wrong.is_empty() { Ok(()) } else { Err(NetError(wrong)) }
    }

    fn check_token(&self, rule: &TokenRule, wrong: &mut Vec<Wrong>) -> Result<(), NetError> {
        let near = rule.near.first().map(|word| format!("{word} = ")).unwrap_or_default();
        // Alone, and in a place where a shape has to be told from what is around it.
        let bare: Vec<String> = rule.shapes.iter().map(|shape| format!("{near}«{shape}»")).collect();
        let set: Vec<String> = rule.shapes.iter().map(|shape| format!("x: \"{near}«{shape}»\", y")).collect();
        self.check_found(&rule.id, "shape", &bare, true, wrong)?;
        self.check_found(&rule.id, "shape between quotes", &set, true, wrong)?;
        self.check_found(&rule.id, "example", &rule.found, true, wrong)?;
        self.check_not(&rule.id, &rule.not_match, wrong)
    }

    /// `token`: what counts is that the text is found; vendors share forms.
    fn check_found(&self, id: &str, what: &str, found: &[String], token: bool, wrong: &mut Vec<Wrong>) -> Result<(), NetError> {
        for (number, example) in (1..).zip(found) {
            let text = expand(example, &mut seed(id))?;
            let said = match text.split_once('«').and_then(|(before, rest)| Some((before, rest.split_once('»')?))) {
                None => "does not say with « and » what is to be found",
                Some((before, (secret, after))) => {
                    let mut hits = Vec::new();
                    self.scan(&format!("{before}{secret}{after}"), &mut hits);
                    match hits.iter().find(|hit| hit.start <= before.len() && hit.end >= before.len() + secret.len()) {
                        None => "is not found",
                        Some(hit) if !token && hit.rule.id() != id => "is found by another rule",
                        Some(_) => continue,
                    }
                }
            };
            wrong.extend(NetError::rule(id, format!("{what} {number} {said}"), FIX_EXAMPLE).0);
        }
        Ok(())
    }

    fn check_not(&self, id: &str, not: &[String], wrong: &mut Vec<Wrong>) -> Result<(), NetError> {
        for (number, example) in (1..).zip(not) {
            let mut hits = Vec::new();
            self.scan(&expand(example, &mut seed(id))?, &mut hits);
            if hits.iter().any(|hit| hit.rule.id() == id) {
                wrong.extend(NetError::rule(id, format!("counterexample {number} is found and must not be"), FIX_EXAMPLE).0);
            }
        }
        Ok(())
    }
}

const FIX_EXAMPLE: &str = "correct the rule or its examples; a token is looked for where 16 letters, digits, `_` or `-` stand in a row";

fn seed(id: &str) -> u64 {
    id.bytes().fold(0x9e37_79b9_7f4a_7c15, |seed, byte| (seed ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)) | 1
}

/// Text with fields of the notation in it; `{{` and `}}` stand for braces.
fn expand(text: &str, seed: &mut u64) -> Result<String, NetError> {
    let mut done = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        done.push_str(&rest[..at]);
        rest = &rest[at..];
        if rest.starts_with("{{") || rest.starts_with("}}") {
            done.push_str(&rest[..1]);
            rest = &rest[2..];
        } else {
            let close = rest.find('}').unwrap_or(rest.len() - 1);
            let shapes = Shape::parse(&rest[..=close])?;
            done.push_str(&shapes[0].example(seed));
            rest = &rest[close + 1..];
        }
    }
    done.push_str(rest);
    Ok(done)
}
