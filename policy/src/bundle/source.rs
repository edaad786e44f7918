//! Bundles as people write them: a folder of TOML files, given as texts. Everything that is wrong is said at once, with
//! file, line, what it is about, and the remedy.

use super::content::{AssistantLevel, Budgets, Content, Exception, Gates, Levels, Limits, Named, Price, Prices, Purpose, Routes};
use super::file::{Draft, is_known, parts};
use super::trust::{BundleKey, KeyDocument, Roots};
use super::{BUNDLE_KEY_DAYS_MAX, DAY_MS, FORMAT, PublicKey};
use crate::host::Allowed;
use crate::{Class, Level};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use toml::Spanned;
use toml::de::{DeTable, DeValue};
use toml::value::Datetime;

/// Something that is wrong, for the person who wrote it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Fault {
    pub file: String,
    pub line: Option<usize>,
    /// The rule, exception or key that it is about.
    pub about: String,
    pub what: String,
    pub fix: String,
}

impl Fault {
    pub fn at(file: &str, about: &str, what: &str, fix: &str) -> Fault {
        Fault { file: file.to_owned(), line: None, about: about.to_owned(), what: what.to_owned(), fix: fix.to_owned() }
    }

    fn on(line: usize, file: &str, about: &str, what: &str, fix: &str) -> Fault {
        Fault { line: Some(line), ..Fault::at(file, about, what, fix) }
    }

    /// What the TOML reader says.
    pub(crate) fn toml(file: &str, text: &str, error: &toml::de::Error) -> Fault {
        let line = error.span().map(|span| line_of(text, span.start));
        let what = error.message().replace('\n', ", ");
        Fault { line, ..Fault::at(file, "", &what, "correct the line; every value needs the form that docs/POLICY.md shows") }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Fault { file, line, about, what, fix } = self;
        write!(f, "{file}")?;
        if let Some(line) = line {
            write!(f, ":{line}")?;
        }
        if !about.is_empty() {
            write!(f, ": {about}")?;
        }
        write!(f, ": {what}; {fix}")
    }
}

/// The keys that the files of a bundle may hold; `*` stands for a name of the writer's.
const SCHEMA: &[(&str, &[&str])] = &[
    ("bundle.toml", &["fleet", "channel", "version", "days", "min_agent", "tenants", "must"]),
    ("levels.toml", &["default", "ask_red", "most", "assistant.*.level", "assistant.*.ask_red"]),
    ("gates.toml", &["unlocked", "held", "assistant.*.unlocked"]),
    ("exceptions.toml", &["exception.rule", "exception.class", "exception.until", "exception.reason", "exception.tenants"]),
    ("hosts.toml", &["host.name", "host.reach", "host.manner"]),
    (
        "prices.toml",
        &[
            "catalogue",
            "price.provider",
            "price.model",
            "price.input_nano_usd",
            "price.cached_nano_usd",
            "price.output_nano_usd",
            "price.cache_write_nano_usd",
            "price.cache_write_long_nano_usd",
            "price.tool_request_nano_usd",
        ],
    ),
    (
        "budgets.toml",
        &[
            "each_assistant.call_nano_usd",
            "each_assistant.run_nano_usd",
            "each_assistant.day_nano_usd",
            "each_assistant.month_nano_usd",
            "assistant.*.call_nano_usd",
            "assistant.*.run_nano_usd",
            "assistant.*.day_nano_usd",
            "assistant.*.month_nano_usd",
            "tenant.day_nano_usd",
            "tenant.month_nano_usd",
        ],
    ),
    (
        "routes.toml",
        &["disabled", "purpose.*.provider", "purpose.*.model", "purpose.*.output_tokens_max", "purpose.*.fallback.provider", "purpose.*.fallback.model"],
    ),
    // Read by the secrets net.
    ("patterns.toml", &[]),
    ("keys.toml", &["fleet", "version", "days", "roots", "threshold", "bundle_threshold", "revoked", "versions_from", "bundle_key.key", "bundle_key.days"]),
];
/// The folders whose files travel as texts.
const FOLDERS: &[&str] = &["rules/", "tools/", "workflows/"];
/// A longer life is a slip of the pen: nobody would notice a freeze.
const DAYS_MAX: i64 = 400;
const NAME_BYTES_MAX: usize = 64;

#[derive(Deserialize)]
struct BundleToml {
    fleet: String,
    #[serde(default = "stable")]
    channel: String,
    version: i64,
    days: i64,
    #[serde(default = "any_agent")]
    min_agent: String,
    #[serde(default)]
    tenants: Vec<String>,
    #[serde(default)]
    must: Vec<String>,
}

#[derive(Default, Deserialize)]
struct LevelsToml {
    #[serde(default)]
    default: Level,
    #[serde(default)]
    ask_red: bool,
    #[serde(default)]
    assistant: BTreeMap<String, AssistantLevel>,
    most: Option<Level>,
}

#[derive(Default, Deserialize)]
struct GatesToml {
    #[serde(default)]
    unlocked: BTreeSet<String>,
    #[serde(default)]
    assistant: BTreeMap<String, GateToml>,
    #[serde(default)]
    held: BTreeSet<String>,
}

#[derive(Deserialize)]
struct GateToml {
    unlocked: BTreeSet<String>,
}

#[derive(Default, Deserialize)]
struct ExceptionsToml {
    #[serde(default)]
    exception: Vec<Spanned<ExceptionToml>>,
}

#[derive(Deserialize)]
struct ExceptionToml {
    rule: String,
    class: Class,
    until: Datetime,
    reason: String,
    #[serde(default)]
    tenants: BTreeSet<String>,
}

#[derive(Default, Deserialize)]
struct PricesToml {
    #[serde(default)]
    catalogue: i64,
    #[serde(default)]
    price: Vec<Price>,
}

/// What a file says nothing of stays as it is without the file.
#[derive(Default, Deserialize)]
struct BudgetsToml {
    each_assistant: Option<Limits>,
    #[serde(default)]
    assistant: BTreeMap<String, Limits>,
    tenant: Option<Limits>,
}

#[derive(Default, Deserialize)]
struct RoutesToml {
    #[serde(default)]
    disabled: BTreeSet<String>,
    #[serde(default)]
    purpose: BTreeMap<String, Purpose>,
}

#[derive(Default, Deserialize)]
struct HostsToml {
    #[serde(default)]
    host: Vec<Allowed>,
}

#[derive(Deserialize)]
struct KeysToml {
    fleet: String,
    version: i64,
    days: i64,
    roots: Vec<PublicKey>,
    threshold: usize,
    #[serde(default = "one")]
    bundle_threshold: usize,
    #[serde(default)]
    revoked: Vec<PublicKey>,
    #[serde(default)]
    versions_from: i64,
    #[serde(default)]
    bundle_key: Vec<BundleKeyToml>,
}

#[derive(Deserialize)]
struct BundleKeyToml {
    key: PublicKey,
    days: i64,
}

fn stable() -> String {
    "stable".to_owned()
}

fn any_agent() -> String {
    "0.0.0".to_owned()
}

fn one() -> usize {
    1
}

/// A key document without its dates.
#[derive(Clone, Debug)]
pub struct KeysDraft(KeyDocument);

/// Whether this file describes keys and not a bundle.
pub fn is_key_source(name: &str) -> bool {
    name.rsplit('/').next() == Some("keys.toml")
}

/// The bundle that these files describe; names are relative to its folder. `now_ms` is when it is to be signed.
pub fn compile(files: &[Named], now_ms: i64) -> Result<Draft, Vec<Fault>> {
    let mut faults = Vec::new();
    let stray = |named: &&Named| {
        let is_text = FOLDERS.iter().any(|folder| named.name.strip_prefix(folder).is_some_and(|rest| rest.ends_with(".toml")));
        !is_text && !is_key_source(&named.name) && !SCHEMA.iter().any(|(name, _)| *name == named.name)
    };
    for named in files.iter().filter(stray) {
        let known: Vec<&str> = SCHEMA.iter().map(|(name, _)| *name).filter(|name| *name != "keys.toml").collect();
        let fix = format!("rename it, or take it away; a bundle is made of {} and of .toml files in rules/, tools/ and workflows/", known.join(", "));
        faults.push(Fault::at(&named.name, "", "no part of a bundle has this name", &fix));
    }
    let text = |name: &str| files.iter().find(|named| named.name == name);
    let within = |folder: &str| -> Vec<Named> {
        let mut found: Vec<Named> = files.iter().filter(|named| named.name.starts_with(folder)).cloned().collect();
        found.sort_by(|a, b| a.name.cmp(&b.name));
        found
    };
    let about: Option<BundleToml> = match text("bundle.toml") {
        Some(named) => typed(named, &mut faults),
        None => {
            faults.push(Fault::at("bundle.toml", "", "it is missing", "write one with fleet, version and days"));
            None
        }
    };
    let levels: LevelsToml = text("levels.toml").and_then(|named| typed(named, &mut faults)).unwrap_or_default();
    let gates: GatesToml = text("gates.toml").and_then(|named| typed(named, &mut faults)).unwrap_or_default();
    let hosts: HostsToml = text("hosts.toml").and_then(|named| typed(named, &mut faults)).unwrap_or_default();
    let prices: PricesToml = text("prices.toml").and_then(|named| typed(named, &mut faults)).unwrap_or_default();
    let budgets: BudgetsToml = text("budgets.toml").and_then(|named| typed(named, &mut faults)).unwrap_or_default();
    let usual = Budgets::default();
    let routes: RoutesToml = text("routes.toml").and_then(|named| typed(named, &mut faults)).unwrap_or_default();
    let exceptions = text("exceptions.toml").map(|named| exceptions(named, now_ms, &mut faults)).unwrap_or_default();
    let content = Content {
        rules: within("rules/"),
        tools: within("tools/"),
        levels: Levels { default: levels.default, ask_red: levels.ask_red, assistants: levels.assistant, most: levels.most },
        gates: Gates {
            unlocked: gates.unlocked,
            assistants: gates.assistant.into_iter().map(|(name, gate)| (name, gate.unlocked)).collect(),
            held: gates.held,
        },
        exceptions,
        hosts: hosts.host,
        prices: Prices { catalogue: prices.catalogue, models: prices.price },
        budgets: Budgets {
            assistant: budgets.each_assistant.unwrap_or(usual.assistant),
            assistants: budgets.assistant,
            tenant: budgets.tenant.unwrap_or(usual.tenant),
        },
        routes: Routes { disabled: routes.disabled, purposes: routes.purpose },
        patterns: text("patterns.toml").cloned().into_iter().collect(),
        workflows: within("workflows/"),
    };
    if content.rules.is_empty() {
        faults.push(Fault::at("rules/", "", "there is no rule file", "put at least one .toml file with rules into rules/"));
    }
    faults.extend(content.faults().into_iter().map(|fault| placed(fault, files)));
    faults.extend(content.rules.iter().chain(&content.tools).flat_map(rule_faults));
    if let Some(about) = &about {
        faults.extend(about.faults());
    }
    match about {
        Some(about) if faults.is_empty() => {
            let BundleToml { fleet, channel, version, days, min_agent, tenants, must } = about;
            Ok(Draft { fleet, channel, version, days, min_agent, tenants, must, content })
        }
        _ => Err(faults),
    }
}

/// The prices that a `prices.toml` gives.
pub fn prices(named: &Named) -> Result<Prices, Vec<Fault>> {
    let mut faults = Vec::new();
    let prices: Option<PricesToml> = typed(named, &mut faults);
    prices.map(|prices| Prices { catalogue: prices.catalogue, models: prices.price }).filter(|_| faults.is_empty()).ok_or(faults)
}

/// The key document that `keys.toml` describes.
pub fn compile_keys(named: &Named) -> Result<KeysDraft, Vec<Fault>> {
    let mut faults = Vec::new();
    let Some(keys): Option<KeysToml> = typed(named, &mut faults) else { return Err(faults) };
    let file = &named.name;
    if !(1..=DAYS_MAX).contains(&keys.days) {
        faults.push(Fault::at(file, "`days`", "a key document lives from 1 to 400 days", "write a number in that range"));
    }
    for key in keys.bundle_key.iter().filter(|key| !(1..=BUNDLE_KEY_DAYS_MAX).contains(&key.days)) {
        let fix = format!("write a number from 1 to {BUNDLE_KEY_DAYS_MAX}, and sign a new document before it runs out");
        faults.push(Fault::at(file, &format!("bundle key `{}`", key.key), "its life in `days` is not allowed", &fix));
    }
    let document = KeyDocument {
        format: FORMAT,
        fleet: keys.fleet,
        version: keys.version,
        issued_ms: 0,
        expires_ms: keys.days.saturating_mul(DAY_MS),
        roots: Roots { keys: keys.roots, threshold: keys.threshold },
        bundle_keys: keys.bundle_key.iter().map(|key| BundleKey { key: key.key, expires_ms: key.days.saturating_mul(DAY_MS) }).collect(),
        bundle_threshold: keys.bundle_threshold,
        revoked: keys.revoked,
        versions_from: keys.versions_from,
        must: Vec::new(),
    };
    faults.extend(
        document.fault().filter(|_| faults.is_empty()).map(|what| Fault::at(file, "", &what, "correct it; docs/OPERATING.md shows the whole ceremony")),
    );
    if faults.is_empty() { Ok(KeysDraft(document)) } else { Err(faults) }
}

impl KeysDraft {
    /// With the dates that it gets when it is signed.
    pub fn issued(self, now_ms: i64) -> KeyDocument {
        let mut document = self.0;
        document.issued_ms = now_ms;
        document.expires_ms += now_ms;
        document.bundle_keys.iter_mut().for_each(|key| key.expires_ms += now_ms);
        document
    }
}

impl BundleToml {
    fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        let mut fault = |about: &str, what: &str, fix: &str| faults.push(Fault::at("bundle.toml", about, what, fix));
        for (about, name) in [("`fleet`", &self.fleet), ("`channel`", &self.channel)] {
            if name.is_empty() || name.len() > NAME_BYTES_MAX {
                fault(about, "it is empty or too long", "write a short name, the same that agents have in their configuration");
            }
        }
        if self.version < 1 {
            fault("`version`", "versions begin with 1", "write the number of the last published bundle plus one");
        }
        if !(1..=DAYS_MAX).contains(&self.days) {
            fault("`days`", "a bundle lives from 1 to 400 days", "write a number in that range");
        }
        if parts(&self.min_agent).contains(&u64::MAX) {
            fault("`min_agent`", &format!("`{}` is no version", self.min_agent), "write it as in 0.1.0");
        }
        for field in self.must.iter().filter(|field| !is_known(field)) {
            fault("`must`", &format!("`{field}` is no field or section of a bundle"), "name one that this version knows");
        }
        faults
    }
}

fn exceptions(named: &Named, now_ms: i64, faults: &mut Vec<Fault>) -> Vec<Exception> {
    let ExceptionsToml { exception } = typed(named, faults).unwrap_or_default();
    let mut exceptions = Vec::new();
    for spanned in exception {
        let line = line_of(&named.text, spanned.span().start);
        let ExceptionToml { rule, class, until, reason, tenants } = spanned.into_inner();
        let about = format!("exception for `{rule}`");
        match end_of(&until) {
            None => faults.push(Fault::on(
                line,
                &named.name,
                &about,
                "`until` is no date",
                "write a date such as 2027-01-31; it counts to the end of that day (UTC)",
            )),
            Some(expires_ms) if expires_ms <= now_ms => {
                faults.push(Fault::on(line, &named.name, &about, &format!("it ended on {until}"), "remove it, or give it a later date"));
            }
            Some(expires_ms) => exceptions.push(Exception { rule, class, expires_ms, reason, tenants }),
        }
    }
    exceptions
}

/// The end of a day, UTC.
fn end_of(date: &Datetime) -> Option<i64> {
    let day = date.date.filter(|_| date.time.is_none())?;
    let (year, month) = (i64::from(day.year), i64::from(day.month));
    // Days since 1970 of a Gregorian date: years that begin in March, so that the leap day is the last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let of_year = (153 * month + 2) / 5 + i64::from(day.day) - 1;
    let days = 365 * year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + of_year - 719_468;
    Some((days + 1) * DAY_MS)
}

/// The file as a type; its syntax, its unknown keys and a value of the wrong kind are faults.
fn typed<T: DeserializeOwned>(named: &Named, faults: &mut Vec<Fault>) -> Option<T> {
    let base = named.name.rsplit('/').next().unwrap_or_default();
    let known = SCHEMA.iter().find(|(name, _)| *name == base).map_or(&[][..], |(_, keys)| keys);
    match DeTable::parse(&named.text) {
        Ok(table) => unknown_keys(named, "", table.get_ref(), known, faults),
        Err(error) => {
            faults.push(Fault::toml(&named.name, &named.text, &error));
            return None;
        }
    }
    toml::from_str(&named.text).map_err(|error| faults.push(Fault::toml(&named.name, &named.text, &error))).ok()
}

fn unknown_keys(named: &Named, prefix: &str, table: &DeTable<'_>, known: &[&str], faults: &mut Vec<Fault>) {
    for (key, value) in table {
        let path = if prefix.is_empty() { key.get_ref().to_string() } else { format!("{prefix}.{}", key.get_ref()) };
        let leads_on = known.iter().any(|known| begins(known, &path));
        match value.get_ref() {
            _ if known.iter().any(|known| fits(known, &path)) => {}
            DeValue::Table(inner) if leads_on => unknown_keys(named, &path, inner, known, faults),
            DeValue::Array(items) if leads_on => {
                for item in items.iter().filter_map(|item| item.get_ref().as_table()) {
                    unknown_keys(named, &path, item, known, faults);
                }
            }
            _ => {
                let line = line_of(&named.text, key.span().start);
                faults.push(Fault::on(line, &named.name, &format!("`{path}`"), "no key has this name", &format!("this file may hold {}", known.join(", "))));
            }
        }
    }
}

fn fits(known: &str, path: &str) -> bool {
    known.split('.').count() == path.split('.').count() && begins_with(known, path)
}

fn begins(known: &str, path: &str) -> bool {
    known.split('.').count() > path.split('.').count() && begins_with(known, path)
}

fn begins_with(known: &str, path: &str) -> bool {
    path.split('.').zip(known.split('.')).all(|(part, known)| known == "*" || known == part)
}

/// A fault of the content gets the line where its name stands.
fn placed(fault: Fault, files: &[Named]) -> Fault {
    let name = fault.about.split('`').nth(1).unwrap_or_default().rsplit('/').next().unwrap_or_default();
    let text = files.iter().find(|named| named.name == fault.file).map_or("", |named| named.text.as_str());
    let line = text.find(&format!("\"{name}\"")).filter(|_| !name.is_empty()).map(|at| line_of(text, at));
    Fault { line: fault.line.or(line), ..fault }
}

/// What is wrong with the form of a file of rules or tools: its syntax, and ids that stand twice.
pub fn rule_faults(named: &Named) -> Vec<Fault> {
    let table = match DeTable::parse(&named.text) {
        Ok(table) => table,
        Err(_) => {
            let (_, errors) = DeTable::parse_recoverable(&named.text);
            return errors.iter().map(|error| Fault::toml(&named.name, &named.text, error)).collect();
        }
    };
    let mut faults = Vec::new();
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    let rules = table.get_ref().get("rule").and_then(|rules| rules.get_ref().as_array());
    for id in rules.into_iter().flat_map(|rules| rules.iter()).filter_map(|rule| rule.get_ref().as_table()?.get("id")) {
        let (Some(name), line) = (id.get_ref().as_str(), line_of(&named.text, id.span().start)) else { continue };
        if let Some(first) = seen.insert(name, line) {
            faults.push(Fault::on(line, &named.name, &format!("rule `{name}`"), &format!("its id stands in line {first} already"), "give it an id of its own"));
        }
    }
    faults
}

fn line_of(text: &str, at: usize) -> usize {
    text.as_bytes()[..at.min(text.len())].iter().filter(|byte| **byte == b'\n').count() + 1
}
