//! The rules as data: what vendors' tokens look like, which words speak of a secret, and examples that are checked.
//!
//! The text is TOML in the tree and JSON in a bundle; the same types read both. A file whose examples do not hold is
//! refused as a whole: a net with a hole nobody knows of is worse than the last good one.

use super::Net;
use super::names::{Sense, Set, Words};
use super::shape::Shape;
use aho_corasick::AhoCorasick;
use serde::Deserialize;
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

#[derive(Debug)]
pub enum NetError {
    /// The text is neither TOML nor JSON of the expected form.
    Format(String),
    Notation {
        text: String,
        why: String,
    },
    UnknownForm(String),
    TwoRulesOfOneName(String),
    Examples(Vec<WrongExample>),
}

/// An example that must be found and is not, or one that must not be found and is. The example itself is not told.
#[derive(Debug)]
pub struct WrongExample {
    pub rule: String,
    pub number: usize,
    pub why: &'static str,
}

impl fmt::Display for NetError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NetError::Format(why) => write!(out, "the rules of the secrets net cannot be read: {why}"),
            NetError::Notation { text, why } => write!(out, "`{text}` is no shape: {why}"),
            NetError::UnknownForm(id) => write!(out, "there is no form `{id}`: update this program, or take the form out"),
            NetError::TwoRulesOfOneName(id) => write!(out, "two rules are called `{id}`: rename one"),
            NetError::Examples(wrong) => {
                let each = wrong.iter().map(|wrong| format!("example {} of rule `{}` {}", wrong.number, wrong.rule, wrong.why));
                write!(out, "{}: correct the rules or their examples", each.collect::<Vec<_>>().join("; "))
            }
        }
    }
}

impl std::error::Error for NetError {}

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

#[derive(Clone)]
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

pub struct Token {
    pub shape: Shape,
    pub exact: bool,
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

/// Everything of a file, compiled and checked.
pub struct Rules {
    pub words: Words,
    pub ids: Set,
    pub marks: Set,
    pub tokens: Tokens,
    pub forms: Forms,
    pub webhooks: AhoCorasick,
    pub allowed: HashSet<Box<[u8]>>,
    pub names: Vec<Rule>,
}

impl Rules {
    fn compile(book: &Book) -> Result<Rules, NetError> {
        let mut names = Vec::<Rule>::new();
        let mut name = |id: &str, kind: Option<&String>| {
            if names.iter().any(|rule| rule.id() == id) {
                return Err(NetError::TwoRulesOfOneName(id.to_owned()));
            }
            let rule = Rule(Arc::new((id.to_owned(), kind.map_or(id, |kind| kind).to_owned())));
            names.push(rule.clone());
            Ok(rule)
        };
        let off = |id: &str| book.allow.rules.iter().any(|rule| rule == id);
        let mut all = Vec::new();
        for rule in &book.token {
            let told = Told { rule: name(&rule.id, rule.kind.as_ref())?, confidence: rule.confidence };
            for text in rule.shapes.iter().filter(|_| !off(&rule.id)) {
                for shape in Shape::parse(text)? {
                    let near = rule.near.iter().map(|word| word.as_bytes().into()).collect();
                    all.push(Token { shape, exact: rule.exact, near, told: told.clone() });
                }
            }
        }
        let mut forms = Forms::default();
        for rule in &book.form {
            let (_, form) = FORMS.iter().find(|(id, _)| *id == rule.id).ok_or_else(|| NetError::UnknownForm(rule.id.clone()))?;
            let told = Told { rule: name(&rule.id, rule.kind.as_ref())?, confidence: rule.confidence };
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
        let set = |list: &str| list.split_whitespace().map(|word| word.as_bytes().into()).collect();
        let mut allowed = HashSet::new();
        for text in &book.allow.values {
            allowed.insert(expand(text, &mut seed(text))?.into_bytes().into());
        }
        let webhooks = AhoCorasick::new(&book.webhooks).map_err(|error| NetError::Format(error.to_string()))?;
        Ok(Rules { words, ids: set(&lists.id), marks: set(&lists.mark), tokens: Tokens::new(all), forms, webhooks, allowed, names })
    }
}

impl Net {
    /// Compiles a file of rules, TOML or JSON, and checks its examples.
    pub fn parse(text: &str) -> Result<Net, NetError> {
        let book = book(text)?;
        let net = Net::new(Rules::compile(&book)?);
        net.check(&book)?;
        Ok(net)
    }

    /// The same without the examples: they take ten times as long, and those of the program's own rules are a test.
    pub(super) fn compile(text: &str) -> Result<Net, NetError> {
        Ok(Net::new(Rules::compile(&book(text)?)?))
    }

    fn check(&self, book: &Book) -> Result<(), NetError> {
        let off = |id: &str| book.allow.rules.iter().any(|rule| rule == id);
        let mut wrong = Vec::new();
        for rule in book.token.iter().filter(|rule| !off(&rule.id)) {
            let near = rule.near.first().map(|word| format!("{word} = ")).unwrap_or_default();
            // Alone, and in a place where a shape has to be told from what is around it.
            let bare = rule.shapes.iter().map(|shape| format!("{near}«{shape}»"));
            let set = rule.shapes.iter().map(|shape| format!("x: \"{near}«{shape}»\", y"));
            let examples: Vec<String> = bare.chain(set).chain(rule.found.iter().cloned()).collect();
            self.check_examples(&rule.id, &examples, &rule.not_match, true, &mut wrong)?;
        }
        for rule in book.form.iter().filter(|rule| !off(&rule.id)) {
            self.check_examples(&rule.id, &rule.found, &rule.not_match, false, &mut wrong)?;
        }
        if wrong.is_empty() { Ok(()) } else { Err(NetError::Examples(wrong)) }
    }

    /// `token`: what counts is that the text is found; vendors share forms.
    fn check_examples(&self, id: &str, found: &[String], not: &[String], token: bool, wrong: &mut Vec<WrongExample>) -> Result<(), NetError> {
        let mut add = |number: usize, why| wrong.push(WrongExample { rule: id.to_owned(), number: number + 1, why });
        for (number, example) in found.iter().enumerate() {
            let text = expand(example, &mut seed(id))?;
            let Some((before, (secret, after))) = text.split_once('«').and_then(|(before, rest)| Some((before, rest.split_once('»')?))) else {
                add(number, "does not say with « and » what is to be found");
                continue;
            };
            let mut hits = Vec::new();
            self.scan(&format!("{before}{secret}{after}"), &mut hits);
            match hits.iter().find(|hit| hit.start <= before.len() && hit.end >= before.len() + secret.len()) {
                None => add(number, "is not found"),
                Some(hit) if !token && hit.rule.id() != id => add(number, "is found by another rule"),
                Some(_) => {}
            }
        }
        for (number, example) in not.iter().enumerate() {
            let mut hits = Vec::new();
            self.scan(&expand(example, &mut seed(id))?, &mut hits);
            if hits.iter().any(|hit| hit.rule.id() == id) {
                add(number, "is found and must not be");
            }
        }
        Ok(())
    }
}

fn book(text: &str) -> Result<Book, NetError> {
    if text.trim_start().starts_with('{') {
        serde_json::from_str(text).map_err(|error| NetError::Format(error.to_string()))
    } else {
        toml::from_str(text).map_err(|error| NetError::Format(error.to_string()))
    }
}

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
