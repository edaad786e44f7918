//! How dangerous a call is, and why: the most dangerous of all rules that match it.
//!
//! Green needs positive proof: a call that no rule matches, that has an argument nobody described, or whose paths cannot
//! be told, is Red and marked unknown, so that it always asks.

use crate::path::{absolute, is_within};
use crate::rules::{Rule, Rules, Sentence, Tool, When, Where};
use crate::{Call, Class};
use serde_json::Value;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub class: Class,
    /// Something leaves to other people. A flag of its own: it survives the maximum.
    pub external: bool,
    /// Not understood: asks at every level.
    pub unknown: bool,
    pub runs_at_level_3: bool,
    /// The id of the rule that decided, or of the fault that made the call unreadable.
    pub rule: String,
    pub reason: Sentence,
}

impl Finding {
    /// The finding for a call that nobody understands.
    pub fn unknown(rule: &str) -> Finding {
        let reason = Sentence { de: String::new(), en: String::new() };
        Finding { class: Class::Red, external: false, unknown: true, runs_at_level_3: false, rule: rule.to_owned(), reason }
    }
}

pub(crate) fn classify(rules: &Rules, call: &Call<'_>) -> Finding {
    let unknown = |why: &str| Finding { reason: rules.unknown.clone(), ..Finding::unknown(why) };
    let Some(tool) = rules.tools.get(call.tool) else { return unknown("unknown.tool") };
    if let Err(why) = readable(tool, call) {
        return unknown(why);
    }
    let matching: Vec<&Rule> = rules.rules.iter().filter(|rule| matches(rules, rule, call)).collect();
    // Of equal classes the first written decides, so that the sentence shown does not depend on anything else.
    let Some(worst) = matching.iter().rev().max_by_key(|rule| rule.class) else { return unknown("unknown.call") };
    Finding {
        class: worst.class,
        external: matching.iter().any(|rule| rule.external),
        unknown: matching.iter().any(|rule| rule.unknown),
        runs_at_level_3: matching.iter().filter(|rule| rule.class >= Class::Red).all(|rule| rule.runs_at_level_3),
        rule: worst.id.clone(),
        reason: worst.reason.clone(),
    }
}

pub(crate) fn matches(rules: &Rules, rule: &Rule, call: &Call<'_>) -> bool {
    rule.tools.iter().any(|tool| tool == call.tool) && rules.tools.get(call.tool).is_some_and(|tool| holds(&rule.when, tool, call))
}

fn readable(tool: &Tool, call: &Call<'_>) -> Result<(), &'static str> {
    let Value::Object(arguments) = call.arguments else { return Err("unknown.arguments") };
    let described = |key: &String| tool.paths.contains(key) || tool.arguments.contains(key) || tool.presentation.contains(key);
    if !arguments.keys().all(described) {
        return Err("unknown.argument");
    }
    let told = |name: &String| !arguments.contains_key(name) || path_of(name, call).is_some();
    if !tool.paths.iter().all(told) {
        return Err("unknown.path");
    }
    Ok(())
}

fn holds(when: &When, tool: &Tool, call: &Call<'_>) -> bool {
    let paths = || tool.paths.iter().filter(|name| call.arguments.get(name.as_str()).is_some()).map(|name| path_of(name, call));
    let inside = |path: Option<String>| path.is_some_and(|path| is_within(&path, call.workspace));
    let place = match when.paths {
        None => true,
        Some(Where::Inside) => paths().all(inside),
        Some(Where::Outside) => !paths().all(inside),
    };
    let parts =
        when.path_parts.is_empty() || paths().flatten().any(|path| path.split('/').any(|part| when.path_parts.iter().any(|pattern| fits(pattern, part))));
    let arguments = when.arguments.iter().all(|(name, values)| call.arguments.get(name).is_some_and(|value| values.contains(value)));
    place && parts && arguments
}

/// Where a path argument leads: as the caller resolved it, else as text. `None` when nobody can tell.
fn path_of(name: &str, call: &Call<'_>) -> Option<String> {
    match call.resolved.iter().find(|(resolved, _)| resolved == name) {
        Some((_, path)) => path.clone(),
        None => absolute(call.arguments.get(name)?.as_str()?, call.workspace),
    }
}

/// `*` at either end of the pattern stands for anything; upper and lower case are the same, as on the file systems that a careless rule would meet.
fn fits(pattern: &str, part: &str) -> bool {
    let (pattern, part) = (pattern.to_lowercase(), part.to_lowercase());
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(_), Some(_)) if pattern.len() > 1 => part.contains(&pattern[1..pattern.len() - 1]),
        (Some(end), _) => part.ends_with(end),
        (_, Some(start)) => part.starts_with(start),
        _ => part == pattern,
    }
}
