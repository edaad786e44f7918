//! What a bundle holds, section by section.
//!
//! Rules, tools, patterns of secrets and workflow templates travel as the texts that people wrote, so that a fault names the line that they
//! know. An agent passes over fields that it does not know; a sender that cannot have that names them in `must`.

use super::Refusal;
use super::source::Fault;
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
    pub prices: Prices,
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
}

/// The sections that this version knows; also what `must` may insist on, beside the fields of the manifest.
pub(super) const SECTIONS: &[&str] = &["rules", "tools", "levels", "gates", "exceptions", "prices", "patterns", "workflows"];

/// A dollar a token: more is a slip of the pen.
const NANO_USD_MAX: i64 = 1_000_000_000;

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
            ("prices", value(serde_json::to_value(&self.prices))),
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
            prices: typed("prices", section("prices"))?,
            patterns: typed("patterns", section("patterns"))?,
            workflows: typed("workflows", section("workflows"))?,
        })
    }

    /// What is wrong with it apart from the rules.
    pub fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        let mut priced = BTreeSet::new();
        for price in &self.prices.models {
            let name = format!("{}/{}", price.provider, price.model);
            if !priced.insert((&price.provider, &price.model)) {
                faults.push(Fault::at("prices.toml", &format!("price of `{name}`"), "it is given twice", "remove one of the two"));
            }
            if [price.input_nano_usd, price.cached_nano_usd, price.output_nano_usd].iter().any(|nano| !(0..=NANO_USD_MAX).contains(nano)) {
                let fix = "write billionths of a dollar for one token: 3 dollars for a million tokens are 3000";
                faults.push(Fault::at("prices.toml", &format!("price of `{name}`"), "an amount is negative or above a dollar a token", fix));
            }
        }
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
