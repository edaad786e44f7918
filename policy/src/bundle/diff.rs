//! What another bundle changes, in words.

use super::{Budgets, Content, Exception, Limits, Named};
use crate::host::Allowed;
use crate::{Class, Level};
use serde::Serialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    pub section: &'static str,
    /// The rule, tool, assistant or price that it is about.
    pub about: String,
    pub weight: Weight,
    pub says: String,
}

/// Which way it leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Weight {
    /// Something may run that had to ask, or runs that was refused.
    Looser,
    /// The way that it leads cannot be told from here.
    Other,
    Tighter,
}

/// Everything that differs, what loosens first.
pub fn diff(before: &Content, after: &Content) -> Vec<Change> {
    let mut changes = Vec::new();
    rules(&tables(&before.rules, "rule"), &tables(&after.rules, "rule"), &mut changes);
    tools(
        &tables(&[before.tools.clone(), before.rules.clone()].concat(), "tool"),
        &tables(&[after.tools.clone(), after.rules.clone()].concat(), "tool"),
        &mut changes,
    );
    levels(before, after, &mut changes);
    gates(before, after, &mut changes);
    bounds(before, after, &mut changes);
    exceptions(&before.exceptions, &after.exceptions, &mut changes);
    hosts(&before.hosts, &after.hosts, &mut changes);
    let price = |content: &Content| -> BTreeMap<String, String> {
        let of = |price: &super::Price| {
            let (input, cached, output) = (price.input_nano_usd, price.cached_nano_usd, price.output_nano_usd);
            let perhaps = [
                (price.cache_write_nano_usd, "writing a cache"),
                (price.cache_write_long_nano_usd, "writing a long cache"),
                (price.tool_request_nano_usd, "a tool of the provider"),
            ];
            let more: String = perhaps.into_iter().filter_map(|(nano, what)| Some(format!(", {} for {what}", nano?))).collect();
            (format!("{}/{}", price.provider, price.model), format!("{input}/{cached}/{output} nano-USD for input/cached/output{more}"))
        };
        content.prices.models.iter().map(of).collect()
    };
    plain("prices", "price", &price(before), &price(after), &mut changes);
    budgets(&before.budgets, &after.budgets, &mut changes);
    if before.prices.catalogue != after.prices.catalogue {
        let says = format!("the catalogue becomes {} (was {})", after.prices.catalogue, before.prices.catalogue);
        changes.push(Change { section: "prices", about: "catalogue".to_owned(), weight: Weight::Other, says });
    }
    let route = |content: &Content| -> BTreeMap<String, String> {
        let target = |provider: &str, model: &str| format!("{provider}/{model}");
        let of = |(name, purpose): (&String, &super::Purpose)| {
            let fallback = purpose.fallback.as_ref().map_or("nobody".to_owned(), |other| target(&other.provider, &other.model));
            let most = purpose.output_tokens_max.map_or(String::new(), |most| format!(", {most} tokens"));
            (name.clone(), format!("{}, then {fallback}{most}", target(&purpose.provider, &purpose.model)))
        };
        let disabled = content.routes.disabled.iter().map(|provider| (provider.clone(), "disabled".to_owned()));
        content.routes.purposes.iter().map(of).chain(disabled).collect()
    };
    plain("routes", "route", &route(before), &route(after), &mut changes);
    texts("patterns", "file", &before.patterns, &after.patterns, &mut changes);
    texts("workflows", "template", &before.workflows, &after.workflows, &mut changes);
    changes.sort_by_key(|change| change.weight);
    changes
}

/// More money is looser.
fn budgets(before: &Budgets, after: &Budgets, changes: &mut Vec<Change>) {
    let names: BTreeSet<&String> = before.assistants.keys().chain(after.assistants.keys()).collect();
    let named = names.into_iter().map(|name| (name.as_str(), before.of(name), after.of(name)));
    for (about, was, is) in [("each assistant", &before.assistant, &after.assistant), ("the tenant", &before.tenant, &after.tenant)].into_iter().chain(named) {
        let spans = |limits: &Limits| [limits.call_nano_usd, limits.run_nano_usd, limits.day_nano_usd, limits.month_nano_usd];
        for ((span, was), is) in ["call", "run", "day", "month"].into_iter().zip(spans(was)).zip(spans(is)).filter(|((_, was), is)| was != is) {
            let weight = if is.unwrap_or(i64::MAX) > was.unwrap_or(i64::MAX) { Weight::Looser } else { Weight::Tighter };
            let said = |limit: Option<i64>| limit.map_or_else(|| "no limit".to_owned(), |nano| format!("{nano} nano-USD"));
            changes.push(Change { section: "budgets", about: about.to_owned(), weight, says: format!("a {span} may cost {} (was {})", said(is), said(was)) });
        }
    }
}

/// The tables of this kind in all files, by id or name.
fn tables(files: &[Named], kind: &str) -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    for named in files {
        let Ok(table) = toml::from_str::<BTreeMap<String, Value>>(&named.text) else { continue };
        match table.get(kind) {
            Some(Value::Array(items)) => found.extend(items.iter().filter_map(|item| Some((item["id"].as_str()?.to_owned(), item.clone())))),
            Some(Value::Object(map)) => found.extend(map.iter().map(|(name, item)| (name.clone(), item.clone()))),
            _ => {}
        }
    }
    found
}

fn rules(before: &BTreeMap<String, Value>, after: &BTreeMap<String, Value>, changes: &mut Vec<Change>) {
    let class = |rule: &Value| rule["class"].as_str().and_then(Class::parse);
    let name = |rule: &Value| rule["class"].as_str().unwrap_or("of no class").replace('_', " ");
    for (id, both) in paired(before, after) {
        let (weight, says) = match both {
            (None, Some(rule)) => {
                // A rule only raises.
                let weight = if class(rule) > Some(Class::Green) { Weight::Tighter } else { Weight::Other };
                (weight, format!("new rule: what it matches is {}", name(rule)))
            }
            (Some(rule), None) => {
                let weight = if class(rule) > Some(Class::Green) { Weight::Looser } else { Weight::Other };
                (weight, format!("rule removed; it was {}", name(rule)))
            }
            (Some(rule), Some(other)) if rule == other => continue,
            (Some(rule), Some(other)) => {
                let weight = match (class(rule), class(other)) {
                    (was, is) if is < was => Weight::Looser,
                    (was, is) if is > was => Weight::Tighter,
                    _ => Weight::Other,
                };
                (weight, fields(rule, other))
            }
            (None, None) => continue,
        };
        changes.push(Change { section: "rules", about: id.to_owned(), weight, says });
    }
}

fn tools(before: &BTreeMap<String, Value>, after: &BTreeMap<String, Value>, changes: &mut Vec<Change>) {
    for (name, both) in paired(before, after) {
        let (weight, says) = match both {
            (None, Some(_)) => (Weight::Looser, "assistants may use this tool now".to_owned()),
            (Some(_), None) => (Weight::Tighter, "assistants may no longer use this tool".to_owned()),
            (Some(tool), Some(other)) if tool != other => (Weight::Other, fields(tool, other)),
            _ => continue,
        };
        changes.push(Change { section: "tools", about: name.to_owned(), weight, says });
    }
}

fn levels(before: &Content, after: &Content, changes: &mut Vec<Change>) {
    let said = |content: &Content, assistant: Option<&String>| {
        let levels = &content.levels;
        let own = assistant.and_then(|assistant| levels.assistants.get(assistant));
        (own.map_or(levels.default, |own| own.level), own.map_or(levels.ask_red, |own| own.ask_red))
    };
    let named: BTreeSet<&String> = before.levels.assistants.keys().chain(after.levels.assistants.keys()).collect();
    for assistant in std::iter::once(None).chain(named.into_iter().map(Some)) {
        let ((was, asked), (is, asks)) = (said(before, assistant), said(after, assistant));
        let mut change = |weight, says| {
            changes.push(Change { section: "levels", about: assistant.map_or_else(|| "default".to_owned(), String::clone), weight, says });
        };
        if was != is {
            change(if is > was { Weight::Looser } else { Weight::Tighter }, format!("level {is:?} (was {was:?})"));
        }
        if asked != asks {
            let says = if asks { "asks for Red at level 3 too" } else { "no longer asks for every Red at level 3" };
            change(if asks { Weight::Tighter } else { Weight::Looser }, says.to_owned());
        }
    }
}

/// How far tenants may go by themselves.
fn bounds(before: &Content, after: &Content, changes: &mut Vec<Change>) {
    let most = |content: &Content| content.levels.most.unwrap_or(Level::L3);
    let (was, is) = (most(before), most(after));
    if was != is {
        let weight = if is > was { Weight::Looser } else { Weight::Tighter };
        changes.push(Change { section: "levels", about: "most".to_owned(), weight, says: format!("tenants may choose up to level {is:?} (was {was:?})") });
    }
    let (was, is) = (&before.gates.held, &after.gates.held);
    let mut change = |tool: &String, weight, says: &str| {
        changes.push(Change { section: "gates", about: format!("held: {tool}"), weight, says: says.to_owned() });
    };
    was.difference(is).for_each(|tool| change(tool, Weight::Looser, "tenants may unlock it themselves"));
    is.difference(was).for_each(|tool| change(tool, Weight::Tighter, "tenants may no longer unlock it themselves"));
}

fn gates(before: &Content, after: &Content, changes: &mut Vec<Change>) {
    let said = |content: &Content, assistant: Option<&String>| {
        let gates = &content.gates;
        assistant.and_then(|assistant| gates.assistants.get(assistant)).unwrap_or(&gates.unlocked).clone()
    };
    let named: BTreeSet<&String> = before.gates.assistants.keys().chain(after.gates.assistants.keys()).collect();
    for assistant in std::iter::once(None).chain(named.into_iter().map(Some)) {
        let (was, is) = (said(before, assistant), said(after, assistant));
        let mut change = |tool: &String, weight, says: &str| {
            let whose = assistant.map_or("every assistant without a list of its own", String::as_str);
            changes.push(Change { section: "gates", about: format!("{whose}: {tool}"), weight, says: says.to_owned() });
        };
        is.difference(&was).for_each(|tool| change(tool, Weight::Looser, "may reach other people without being asked for that alone"));
        was.difference(&is).for_each(|tool| change(tool, Weight::Tighter, "asks before it reaches other people"));
    }
}

fn exceptions(before: &[Exception], after: &[Exception], changes: &mut Vec<Change>) {
    let said = |exception: &Exception| {
        let whom = if exception.tenants.is_empty() { "all tenants".to_owned() } else { exception.tenants.iter().cloned().collect::<Vec<_>>().join(", ") };
        format!("down to {} for {whom} until {} ms: {}", exception.class.name().replace('_', " "), exception.expires_ms, exception.reason)
    };
    let mut change = |exception: &Exception, weight, says| changes.push(Change { section: "exceptions", about: exception.rule.clone(), weight, says });
    for exception in after.iter().filter(|exception| !before.contains(exception)) {
        change(exception, Weight::Looser, format!("new exception, {}", said(exception)));
    }
    for exception in before.iter().filter(|exception| !after.contains(exception)) {
        change(exception, Weight::Tighter, format!("exception removed, {}", said(exception)));
    }
}

fn hosts(before: &[Allowed], after: &[Allowed], changes: &mut Vec<Change>) {
    let said = |allowed: &Allowed| format!("for {}, {}", allowed.reach.name(), allowed.manner.name());
    let mut change = |allowed: &Allowed, weight, says| changes.push(Change { section: "hosts", about: allowed.pattern(), weight, says });
    for allowed in after.iter().filter(|allowed| !before.contains(allowed)) {
        change(allowed, Weight::Looser, format!("assistants may connect to it: {}", said(allowed)));
    }
    for allowed in before.iter().filter(|allowed| !after.contains(allowed)) {
        change(allowed, Weight::Tighter, format!("no longer allowed: {}", said(allowed)));
    }
}

fn plain(section: &'static str, what: &str, before: &BTreeMap<String, String>, after: &BTreeMap<String, String>, changes: &mut Vec<Change>) {
    for (name, both) in paired(before, after) {
        let says = match both {
            (None, Some(is)) => format!("new {what}: {is}"),
            (Some(was), None) => format!("{what} removed; it was {was}"),
            (Some(was), Some(is)) if was != is => format!("{what} becomes {is} (was {was})"),
            _ => continue,
        };
        changes.push(Change { section, about: name.to_owned(), weight: Weight::Other, says });
    }
}

/// Texts that are read elsewhere.
fn texts(section: &'static str, what: &str, before: &[Named], after: &[Named], changes: &mut Vec<Change>) {
    let size = |texts: &[Named]| texts.iter().map(|named| (named.name.clone(), format!("{} bytes", named.text.len()))).collect();
    plain(section, what, &size(before), &size(after), changes);
    for (named, other) in before.iter().filter_map(|named| Some((named, after.iter().find(|other| other.name == named.name)?))) {
        if named.text != other.text && named.text.len() == other.text.len() {
            changes.push(Change { section, about: named.name.clone(), weight: Weight::Other, says: format!("the {what} is another one") });
        }
    }
}

fn paired<'a, T>(before: &'a BTreeMap<String, T>, after: &'a BTreeMap<String, T>) -> impl Iterator<Item = (&'a str, (Option<&'a T>, Option<&'a T>))> {
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    names.into_iter().map(|name| (name.as_str(), (before.get(name), after.get(name))))
}

/// Each field that differs, shortened.
fn fields(before: &Value, after: &Value) -> String {
    let (Value::Object(before), Value::Object(after)) = (before, after) else { return "it says something else".to_owned() };
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let shown = |value: Option<&Value>| {
        let text = value.map_or_else(|| "nothing".to_owned(), |value| value.as_str().map_or_else(|| value.to_string(), str::to_owned));
        if text.chars().count() > SHOWN_CHARS_MAX { format!("{}…", text.chars().take(SHOWN_CHARS_MAX).collect::<String>()) } else { text }
    };
    let differs = names.into_iter().filter(|name| before.get(*name) != after.get(*name));
    differs.map(|name| format!("{name} becomes {} (was {})", shown(after.get(name)), shown(before.get(name)))).collect::<Vec<_>>().join("; ")
}

/// Of a value in a sentence; the files show the whole.
const SHOWN_CHARS_MAX: usize = 120;
