//! Where a provider's key comes from: the environment, else a systemd credential, else the vault.
//!
//! The first two are read once, at the start, and cannot change before the next one.

use super::value::{self, Allowed};
use anyhow::Context;
use serde::Serialize;
use service::SecretString;
use std::collections::BTreeMap;
use std::path::Path;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    Environment,
    Credential,
    Vault,
}

/// What came with the start of the process, by the names that the vault would use.
#[derive(Clone, Debug, Default)]
pub struct Given(BTreeMap<String, Vec<(Source, SecretString)>>);

impl Given {
    /// `names` are those that may come in this way.
    pub fn read(names: &[String], environment: impl Fn(&str) -> Option<String>, credentials: Option<&Path>) -> anyhow::Result<Given> {
        let mut given = BTreeMap::new();
        for name in names {
            let mut found = Vec::new();
            // A variable that is set to nothing is how one is taken back.
            if let Some(text) = environment(&variable(name)).filter(|text| !text.trim().is_empty()) {
                found.push((Source::Environment, kept(name, text).with_context(|| format!("the environment variable `{}`", variable(name)))?));
            }
            if let Some(path) = credentials.map(|folder| folder.join(name)).filter(|path| path.exists()) {
                let text = std::fs::read_to_string(&path).with_context(|| format!("the credential `{}` cannot be read", path.display()))?;
                found.push((Source::Credential, kept(name, text).with_context(|| format!("the credential `{}`", path.display()))?));
            }
            if !found.is_empty() {
                given.insert(name.clone(), found);
            }
        }
        Ok(Given(given))
    }

    /// The one that wins.
    pub fn first(&self, name: &str) -> Option<(Source, &SecretString)> {
        self.0.get(name)?.first().map(|(source, value)| (*source, value))
    }

    pub fn sources(&self, name: &str) -> Vec<Source> {
        self.0.get(name).into_iter().flatten().map(|(source, _)| *source).collect()
    }

    pub fn all(&self) -> impl Iterator<Item = (&str, &SecretString)> {
        self.0.iter().flat_map(|(name, found)| found.iter().map(|(_, value)| (name.as_str(), value)))
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

/// `provider.openai` is `GATEHOUSE_SECRET_PROVIDER_OPENAI`.
pub fn variable(name: &str) -> String {
    format!("GATEHOUSE_SECRET_{}", name.to_uppercase().replace(['.', '-'], "_"))
}

fn kept(name: &str, text: String) -> anyhow::Result<SecretString> {
    let text = SecretString::new(text);
    // Its end is not part of it, as with standard input.
    let value = SecretString::new(text.expose().trim_end_matches(['\r', '\n']).to_owned());
    value::check_value(name, value.expose(), Allowed { common: true, ..Allowed::default() })?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_wins_over_a_credential() {
        let folder = std::env::temp_dir().join(format!("gatehouse-given-{}", service::random::token()));
        std::fs::create_dir_all(&folder).unwrap();
        for name in ["provider.a", "provider.b-c"] {
            std::fs::write(folder.join(name), "from the credential\n").unwrap();
        }
        let names = ["provider.a", "provider.b-c", "provider.d", "provider.e"].map(str::to_owned);
        let environment = |name: &str| match name {
            "GATEHOUSE_SECRET_PROVIDER_A" => Some("from the environment".to_owned()),
            "GATEHOUSE_SECRET_PROVIDER_B_C" | "GATEHOUSE_SECRET_PROVIDER_E" => Some(String::new()),
            _ => None,
        };
        let given = Given::read(&names, environment, Some(&folder)).unwrap();
        let first = |name: &str| given.first(name).map(|(source, value)| (source, value.expose().to_owned()));
        assert_eq!(first("provider.a"), Some((Source::Environment, "from the environment".to_owned())));
        assert_eq!(first("provider.b-c"), Some((Source::Credential, "from the credential".to_owned())));
        assert_eq!((first("provider.d"), first("provider.e")), (None, None));
        assert_eq!(given.sources("provider.a"), [Source::Environment, Source::Credential]);
        assert_eq!(given.all().count(), 3, "what lost is a secret all the same");
        let error = Given::read(&names, |_| Some("short".to_owned()), None).unwrap_err();
        assert!(format!("{error:#}").contains("GATEHOUSE_SECRET_PROVIDER_A"), "{error:#}");
        std::fs::remove_dir_all(folder).unwrap();
    }
}
