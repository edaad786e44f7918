//! What a bundle holds, section by section.
//!
//! Rules, tools, patterns of secrets and workflow templates travel as the texts that people wrote, so that a fault names the line that they
//! know. An agent passes over fields that it does not know; a sender that cannot have that names them in `must`.

use super::Refusal;
use super::source::Fault;
use crate::host::Allowed;
use crate::{Class, Level};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// A text of a file that people wrote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    pub name: String,
    pub text: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    pub rules: Vec<Named>,
    /// The tool registry.
    pub tools: Vec<Named>,
    pub levels: Levels,
    pub gates: Gates,
    pub exceptions: Vec<Exception>,
    /// Where assistants may connect to, beside what each tenant allows.
    pub hosts: Vec<Allowed>,
    pub prices: Prices,
    pub budgets: Budgets,
    pub routes: Routes,
    /// What the secrets net looks for beside what it came with, in the net's own notation: whoever knows the net reads it.
    pub patterns: Vec<Named>,
    pub workflows: Vec<Named>,
}

/// How much assistants may do unasked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Levels {
    pub default: Level,
    /// Ask for Red even at level 3.
    #[serde(default)]
    pub ask_red: bool,
    #[serde(default)]
    pub assistants: BTreeMap<String, AssistantLevel>,
    /// The highest level that tenants may choose; left out: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub most: Option<Level>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssistantLevel {
    pub level: Level,
    #[serde(default)]
    pub ask_red: bool,
}

/// The tools whose way to other people is unlocked. An assistant that is named has its own list instead of the default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gates {
    #[serde(default)]
    pub unlocked: BTreeSet<String>,
    #[serde(default)]
    pub assistants: BTreeMap<String, BTreeSet<String>>,
    /// The tools whose way tenants may not unlock; `*` is every one.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub held: BTreeSet<String>,
}

/// For a time, one rule counts as less dangerous.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exception {
    pub rule: String,
    /// Down to this class, never below what is compiled in.
    pub class: Class,
    pub expires_ms: i64,
    pub reason: String,
    /// For these tenants; none named: for all.
    #[serde(default)]
    pub tenants: BTreeSet<String>,
}

/// What model calls cost.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prices {
    pub catalogue: i64,
    #[serde(default)]
    pub models: Vec<Price>,
}

/// Of one token, in billionths of a dollar.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Price {
    pub provider: String,
    pub model: String,
    pub input_nano_usd: i64,
    pub cached_nano_usd: i64,
    pub output_nano_usd: i64,
    /// Written into a cache that holds for minutes; left out: a quarter more than input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write_nano_usd: Option<i64>,
    /// Written into one that holds for an hour or longer; left out: twice the input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write_long_nano_usd: Option<i64>,
    /// One search, or whatever else the provider runs by itself; left out: a cent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_request_nano_usd: Option<i64>,
}

/// What may be spent on model calls, in billionths of a dollar.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Budgets {
    /// Each assistant that is not named.
    pub assistant: Limits,
    pub assistants: BTreeMap<String, Limits>,
    /// All assistants of a tenant together.
    pub tenant: Limits,
}

/// A limit that is left out does not hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub call_nano_usd: Option<i64>,
    /// Everything that one message sets going.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_nano_usd: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub day_nano_usd: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub month_nano_usd: Option<i64>,
}

const USD: i64 = 1_000_000_000;

/// What holds until somebody says otherwise: room for a busy day, and an end to a loop that nobody watches.
impl Default for Budgets {
    fn default() -> Budgets {
        let limits = |call, run, day, month| Limits { call_nano_usd: call, run_nano_usd: run, day_nano_usd: day, month_nano_usd: month };
        Budgets {
            assistant: limits(Some(5 * USD), Some(20 * USD), Some(50 * USD), Some(500 * USD)),
            assistants: BTreeMap::new(),
            tenant: limits(None, None, Some(100 * USD), Some(1_000 * USD)),
        }
    }
}

impl Budgets {
    /// An assistant that is named has its own limits instead of the others'.
    pub fn of(&self, assistant: &str) -> &Limits {
        self.assistants.get(assistant).unwrap_or(&self.assistant)
    }
}

/// Who answers for a purpose.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Routes {
    /// Providers that are never called.
    pub disabled: BTreeSet<String>,
    pub purposes: BTreeMap<String, Purpose>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Purpose {
    pub provider: String,
    pub model: String,
    /// Of a review.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_tokens_max: Option<i64>,
    /// Asked once, when the first one is busy, out of order or out of reach.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<Target>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    pub provider: String,
    pub model: String,
}

/// The sections that this version knows; also what `must` may insist on, beside the fields of the manifest.
pub(super) const SECTIONS: &[&str] = &["rules", "tools", "levels", "gates", "exceptions", "hosts", "prices", "budgets", "routes", "patterns", "workflows"];

/// A dollar a token: more is a slip of the pen.
const NANO_USD_MAX: i64 = 1_000_000_000;
/// A million dollars: more is a slip of the pen.
const LIMIT_NANO_USD_MAX: i64 = 1_000_000 * USD;

impl Content {
    /// The sections as they are sealed.
    pub(super) fn sections(&self) -> BTreeMap<&'static str, Value> {
        let value = |value: serde_json::Result<Value>| value.unwrap_or(Value::Null);
        BTreeMap::from([
            ("rules", value(serde_json::to_value(&self.rules))),
            ("tools", value(serde_json::to_value(&self.tools))),
            ("levels", value(serde_json::to_value(&self.levels))),
            ("gates", value(serde_json::to_value(&self.gates))),
            ("exceptions", value(serde_json::to_value(&self.exceptions))),
            ("hosts", value(serde_json::to_value(&self.hosts))),
            ("prices", value(serde_json::to_value(&self.prices))),
            ("budgets", value(serde_json::to_value(&self.budgets))),
            ("routes", value(serde_json::to_value(&self.routes))),
            ("patterns", value(serde_json::to_value(&self.patterns))),
            ("workflows", value(serde_json::to_value(&self.workflows))),
        ])
    }

    /// Reads what was sealed; a section that is not there is as if it said nothing, except for the rules.
    pub(super) fn read(section: impl Fn(&str) -> Option<Value>) -> Result<Content, Refusal> {
        fn typed<T: serde::de::DeserializeOwned + Default>(name: &str, value: Option<Value>) -> Result<T, Refusal> {
            let Some(value) = value else { return Ok(T::default()) };
            serde_json::from_value(value).map_err(|error| Refusal::Malformed { why: format!("section `{name}`: {error}") })
        }
        if section("rules").is_none() {
            return Err(Refusal::Malformed { why: "it has no rules".to_owned() });
        }
        Ok(Content {
            rules: typed("rules", section("rules"))?,
            tools: typed("tools", section("tools"))?,
            levels: typed("levels", section("levels"))?,
            gates: typed("gates", section("gates"))?,
            exceptions: typed("exceptions", section("exceptions"))?,
            hosts: typed("hosts", section("hosts"))?,
            prices: typed("prices", section("prices"))?,
            budgets: typed("budgets", section("budgets"))?,
            routes: typed("routes", section("routes"))?,
            patterns: typed("patterns", section("patterns"))?,
            workflows: typed("workflows", section("workflows"))?,
        })
    }

    /// What is wrong with it apart from the rules.
    pub fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        let mut listed = BTreeSet::new();
        for pattern in self.hosts.iter().map(Allowed::pattern) {
            if !listed.insert(pattern.clone()) {
                faults.push(Fault::at("hosts.toml", &format!("host `{pattern}`"), "it is listed twice", "remove one of the two"));
            }
        }
        let own = self.levels.assistants.values().map(|own| own.level);
        let highest = own.chain([self.levels.default]).max();
        if self.levels.most.is_some_and(|most| highest > Some(most)) {
            faults.push(Fault::at("levels.toml", "`most`", "a level in this file is above it", "raise `most`, or lower the level"));
        }
        let mut priced = BTreeSet::new();
        for price in &self.prices.models {
            let name = format!("{}/{}", price.provider, price.model);
            if !priced.insert((&price.provider, &price.model)) {
                faults.push(Fault::at("prices.toml", &format!("price of `{name}`"), "it is given twice", "remove one of the two"));
            }
            let perhaps = [price.cache_write_nano_usd, price.cache_write_long_nano_usd, price.tool_request_nano_usd];
            let mut amounts = [price.input_nano_usd, price.cached_nano_usd, price.output_nano_usd].into_iter().chain(perhaps.into_iter().flatten());
            if amounts.any(|nano| !(0..=NANO_USD_MAX).contains(&nano)) {
                let fix = "write billionths of a dollar for one token: 3 dollars for a million tokens are 3000";
                faults.push(Fault::at("prices.toml", &format!("price of `{name}`"), "an amount is negative or above a dollar a token", fix));
            }
        }
        let Budgets { assistant, assistants, tenant } = &self.budgets;
        let named = assistants.iter().map(|(name, limits)| (name.as_str(), limits));
        for (name, limits) in [("assistant", assistant), ("tenant", tenant)].into_iter().chain(named) {
            let Limits { call_nano_usd, run_nano_usd, day_nano_usd, month_nano_usd } = limits;
            if [call_nano_usd, run_nano_usd, day_nano_usd, month_nano_usd].into_iter().flatten().any(|limit| !(0..=LIMIT_NANO_USD_MAX).contains(limit)) {
                let fix = "write billionths of a dollar: 5 dollars are 5_000_000_000";
                faults.push(Fault::at("budgets.toml", &format!("limits of `{name}`"), "an amount is negative or above a million dollars", fix));
            }
        }
        faults.extend(self.route_faults());
        for (names, file) in [(&self.rules, "rules"), (&self.tools, "tools"), (&self.patterns, "patterns"), (&self.workflows, "workflows")] {
            let mut seen = BTreeSet::new();
            for named in names {
                if !seen.insert(&named.name) {
                    faults.push(Fault::at(file, &named.name, "two files have this name", "rename one of them"));
                }
            }
        }
        for workflow in &self.workflows {
            if let Err(error) = workflow.text.parse::<toml::Table>() {
                faults.push(Fault::toml(&workflow.name, &workflow.text, &error));
            }
        }
        faults
    }
}

/// Providers whose models do not review.
const NO_REVIEWERS: [&str; 2] = ["moonshot", "ollama"];
/// What a review may write: enough for a verdict, too little for an essay.
const REVIEW_TOKENS: std::ops::RangeInclusive<i64> = 100..=4_096;

impl Content {
    fn route_faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        for (name, purpose) in &self.routes.purposes {
            let about = format!("purpose `{name}`");
            let mut fault = |what: &str, fix: &str| faults.push(Fault::at("routes.toml", &about, what, fix));
            let first = Target { provider: purpose.provider.clone(), model: purpose.model.clone() };
            let targets: Vec<&Target> = std::iter::once(&first).chain(&purpose.fallback).collect();
            if targets.iter().any(|target| target.provider.is_empty() || target.model.is_empty()) {
                fault("a provider or a model has no name", "write the names as agent.toml has them");
            }
            if targets.iter().any(|target| self.routes.disabled.contains(&target.provider)) {
                fault("it leads to a provider that is disabled", "name another one, or take it out of `disabled`");
            }
            if purpose.fallback.as_ref() == Some(&first) {
                fault("its fallback is what has just failed", "name another provider or model, or leave the fallback out");
            }
            if name == crate::route::REVIEW {
                if targets.iter().any(|target| NO_REVIEWERS.contains(&target.provider.as_str())) {
                    fault("moonshot and ollama do not review", "name another provider");
                }
                if targets.iter().any(|target| self.prices.rate(&target.provider, &target.model, false).is_assumed) {
                    fault("a model that reviews has no price, so no review could be paid for with certainty", "give it a price in prices.toml");
                }
                if purpose.output_tokens_max.is_some_and(|most| !REVIEW_TOKENS.contains(&most)) {
                    fault("`output_tokens_max` is not from 100 to 4096", "write a number in that range, or leave it out for 600");
                }
            } else if purpose.output_tokens_max.is_some() {
                fault("only a review has `output_tokens_max`", "leave it out; the request says it");
            }
        }
        faults
    }
}
