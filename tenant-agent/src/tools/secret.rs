//! `SECRET_REF(name)` in a call: the rules are `redact::reference`, the names, bindings and values are the vault's.
//!
//! A secret that is bound to nothing is for nobody: it goes into no call. Keys of providers are the egress proxy's alone.

use super::Refused;
use super::protocol::Tool;
use crate::vault::{Bindings, Vault, provider_key_name};
use redact::reference::{self, Binding, Outcome, Resolved};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use zeroize::Zeroizing;

/// Only to find out which names a call has.
const STAND_IN: &str = "stand-in";

/// The call as it is to be run. `is_granted`: a person said yes to exactly this call.
pub async fn resolve(vault: &Vault, tool: Tool, arguments: Value, is_granted: bool) -> Result<Resolved, Refused> {
    let bindings = bindings(vault).await?;
    if let Some(why) = misplaced(tool, &arguments) {
        return Err(Refused::Secret { why: why.to_owned() });
    }
    let tool = tool.name();
    let binding = |name: &str| bindings.get(name).map(|bindings| Binding { tools: bindings.tools.clone(), hosts: bindings.hosts.clone() });
    let decide = |value: &dyn Fn(&str) -> Option<Zeroizing<String>>| match is_granted {
        true => reference::resolve_granted(tool, &arguments, &binding, value),
        false => reference::resolve(tool, &arguments, &binding, value),
    };
    let names = match decide(&|_| Some(Zeroizing::new(STAND_IN.to_owned()))) {
        Outcome::Literal => return Ok(Resolved { args: arguments, env: Vec::new(), names: Vec::new(), way: reference::Way::AsIs }),
        Outcome::Reject(rejection) => return Err(Refused::Secret { why: rejection.to_string() }),
        // The law asks a person before a secret goes into a file; this call ran without one.
        Outcome::Ask { .. } => return Err(Refused::Secret { why: "a secret goes into a file only when a person says yes to it".to_owned() }),
        Outcome::Resolve(resolved) => resolved.names,
    };
    // A request leaves the house: what is bound to no host is for none.
    let is_request = tool == Tool::HttpRequest.name();
    if let Some(name) = names.iter().find(|name| is_request && bindings.get(*name).is_none_or(|bindings| bindings.hosts.is_empty())) {
        return Err(Refused::Secret { why: format!("the secret `{name}` is bound to no host, so no request may carry it") });
    }
    let mut values = HashMap::new();
    for name in names {
        let value = vault.value(&name).await.map_err(|error| Refused::Failed(anyhow::Error::new(error).context("a secret for a call")))?;
        // The call needs it now.
        values.extend(value.map(|value| (name, Zeroizing::new(value.expose().to_owned()))));
    }
    match decide(&|name| values.get(name).cloned()) {
        Outcome::Resolve(resolved) => Ok(resolved),
        Outcome::Reject(rejection) => Err(Refused::Secret { why: rejection.to_string() }),
        Outcome::Literal | Outcome::Ask { .. } => Err(Refused::Secret { why: "the secret was taken away meanwhile".to_owned() }),
    }
}

/// Why a reference cannot stand where it stands, whatever it is bound to.
fn misplaced(tool: Tool, arguments: &Value) -> Option<&'static str> {
    match tool {
        // Addresses are kept by every server on the way.
        Tool::HttpRequest if names_one(&arguments["url"]) => Some("a secret cannot stand in a URL: use a header or the body"),
        tool if tool.speaks_to_people() && names_one(arguments) => Some("a secret cannot go to people"),
        _ => None,
    }
}

fn names_one(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains("SECRET_REF("),
        Value::Array(items) => items.iter().any(names_one),
        Value::Object(fields) => fields.iter().any(|(name, value)| name.contains("SECRET_REF(") || names_one(value)),
        _ => false,
    }
}

/// The names that an assistant may refer to, each with where.
pub async fn names(vault: &Vault) -> Result<String, Refused> {
    let lines: Vec<String> = bindings(vault)
        .await?
        .into_iter()
        .map(|(name, Bindings { tools, hosts })| {
            let list = |what: &[String], all: &str| if what.is_empty() { all.to_owned() } else { what.join(", ") };
            format!("{name}: tools {}; hosts {}", list(&tools, "any"), list(&hosts, "any"))
        })
        .collect();
    Ok(if lines.is_empty() { "There are no secrets that you may refer to.".to_owned() } else { lines.join("\n") })
}

async fn bindings(vault: &Vault) -> Result<BTreeMap<String, Bindings>, Refused> {
    let mut bindings = vault.bindings().await.map_err(|error| Refused::Failed(anyhow::Error::new(error).context("reading who may use which secret")))?;
    let providers = provider_key_name("");
    bindings.retain(|name, _| !name.starts_with(&providers));
    Ok(bindings)
}
