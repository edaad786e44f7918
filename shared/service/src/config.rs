//! Configuration: a TOML file, overridden by the environment, overridden by flags; and the files that hold secrets.
//!
//! A service declares its keys as a table of [`Key`]s. Everything that is wrong is said at once; unknown keys are wrong.

use anyhow::{Context, bail};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// One key of the file: `a.b`, or `a.*.b` for a table that the user names.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    pub name: &'static str,
    pub kind: Kind,
    /// `None`: the key must be given. `Some("")`: it may be left out.
    pub default: Option<&'static str>,
    pub about: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Text,
    Path,
    Address,
    /// An origin, `http://` or `https://`, without a path.
    Origin,
    Url,
    Number {
        min: i64,
        max: i64,
    },
    OneOf(&'static [&'static str]),
    /// A list of texts; in the environment separated by commas.
    List,
}

/// Checked values.
#[derive(Clone, Debug, Default)]
pub struct Values(BTreeMap<String, Vec<String>>);

impl Values {
    /// Reads `file` (if there is one), the environment (`GATEHOUSE_A_B` for `a.b`) and `flags`, later over earlier.
    pub fn read(keys: &[Key], file: Option<&Path>, environment: impl Iterator<Item = (String, String)>, flags: &[(&str, String)]) -> anyhow::Result<Values> {
        let text = match file {
            Some(path) => fs::read_to_string(path).with_context(|| format!("the configuration `{}` cannot be read", path.display()))?,
            None => String::new(),
        };
        let table: toml::Table = text.parse().with_context(|| format!("the configuration `{}` is no TOML", file.unwrap_or(Path::new("-")).display()))?;
        let mut faults = Vec::new();
        let mut given = BTreeMap::new();
        flatten("", &table, &mut given, &mut faults);
        for (name, value) in environment {
            let Some(key) = keys.iter().find(|key| variable(key.name) == name) else { continue };
            given.insert(key.name.to_owned(), value.split(',').map(|part| part.trim().to_owned()).collect());
        }
        for (name, value) in flags {
            given.insert((*name).to_owned(), vec![value.clone()]);
        }
        let values = checked(keys, given, &mut faults);
        if faults.is_empty() {
            return Ok(values);
        }
        bail!(
            "the configuration is not usable:{}",
            faults.iter().fold(String::new(), |mut all, fault| {
                let _ = write!(all, "\n  - {fault}");
                all
            })
        )
    }

    /// The value of a declared key; empty when it was left out.
    pub fn text(&self, name: &str) -> &str {
        self.0.get(name).and_then(|values| values.first()).map_or("", String::as_str)
    }

    pub fn list(&self, name: &str) -> &[String] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        PathBuf::from(self.text(name))
    }

    /// A number or an address that was checked when it was read.
    pub fn parsed<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        self.text(name).parse().ok()
    }

    /// The names in the place of `*` under `prefix`.
    pub fn named(&self, prefix: &str) -> Vec<String> {
        let mut names: Vec<String> =
            self.0.keys().filter_map(|key| key.strip_prefix(prefix)?.strip_prefix('.')?.split_once('.')).map(|(name, _)| name.to_owned()).collect();
        names.dedup();
        names
    }
}

fn variable(name: &str) -> String {
    format!("GATEHOUSE_{}", name.replace('.', "_").to_uppercase())
}

fn flatten(prefix: &str, table: &toml::Table, given: &mut BTreeMap<String, Vec<String>>, faults: &mut Vec<String>) {
    let scalar = |value: &toml::Value| match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Boolean(flag) => Some(flag.to_string()),
        _ => None,
    };
    for (key, value) in table {
        let name = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match value {
            toml::Value::Table(inner) => flatten(&name, inner, given, faults),
            toml::Value::Array(items) => match items.iter().map(scalar).collect() {
                Some(items) => drop(given.insert(name, items)),
                None => faults.push(format!("`{name}` may hold only texts and numbers")),
            },
            value => match scalar(value) {
                Some(text) => drop(given.insert(name, vec![text])),
                None => faults.push(format!("`{name}` has a value of a kind that no key takes")),
            },
        }
    }
}

fn checked(keys: &[Key], mut given: BTreeMap<String, Vec<String>>, faults: &mut Vec<String>) -> Values {
    let mut values = BTreeMap::new();
    let groups: Vec<(String, String)> = given
        .keys()
        .filter_map(|name| name.rsplit_once('.').map(|(group, _)| group))
        .filter_map(|group| group.split_once('.'))
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .collect();
    for key in keys {
        let mut places = Vec::new();
        match key.name.split_once(".*.") {
            None => places.push(key.name.to_owned()),
            Some((prefix, field)) => {
                let mut names: Vec<&str> = groups.iter().filter(|(group, _)| group == prefix).map(|(_, name)| name.as_str()).collect();
                names.dedup();
                places.extend(names.into_iter().map(|name| format!("{prefix}.{name}.{field}")));
            }
        }
        for place in places {
            match (given.remove(&place), key.default) {
                (Some(items), _) => {
                    match faulty(key.kind, &items) {
                        Some(fault) => faults.push(format!("`{place}` {fault}")),
                        None => drop(values.insert(place, items)),
                    };
                }
                (None, Some(default)) => {
                    let items = if default.is_empty() { Vec::new() } else { default.split(',').map(str::to_owned).collect() };
                    values.insert(place, items);
                }
                (None, None) => faults.push(format!("`{place}` is missing ({})", key.about)),
            }
        }
    }
    faults.extend(given.into_keys().map(|name| format!("`{name}` is no key of this service")));
    Values(values)
}

fn faulty(kind: Kind, items: &[String]) -> Option<String> {
    if kind == Kind::List {
        return None;
    }
    let [text] = items else { return Some("takes one value".to_owned()) };
    let is_url = |text: &str| {
        text.split_once("://").is_some_and(|(scheme, rest)| matches!(scheme, "http" | "https") && !rest.is_empty() && !rest.contains(['@', ' ', '#', '?']))
    };
    let sound = match kind {
        Kind::Text => !text.is_empty(),
        Kind::Path => text.starts_with('/'),
        Kind::Address => text.parse::<SocketAddr>().is_ok(),
        Kind::Url => is_url(text),
        Kind::Origin => is_url(text) && text.matches('/').count() == 2 && !text.chars().any(char::is_uppercase),
        Kind::Number { min, max } => text.parse::<i64>().is_ok_and(|number| (min..=max).contains(&number)),
        Kind::OneOf(words) => words.contains(&text.as_str()),
        Kind::List => true,
    };
    (!sound).then(|| match kind {
        Kind::Text | Kind::List => "must not be empty".to_owned(),
        Kind::Path => format!("must be an absolute path, not `{text}`"),
        Kind::Address => format!("must be an address and a port such as 127.0.0.1:8410, not `{text}`"),
        Kind::Url => "must be an http or https URL without credentials, query and fragment".to_owned(),
        Kind::Origin => format!("must be an origin such as https://alice.example.org, in lower case and without a path, not `{text}`"),
        Kind::Number { min, max } => format!("must be a number from {min} to {max}, not `{text}`"),
        Kind::OneOf(words) => format!("must be one of {}, not `{text}`", words.join(", ")),
    })
}

/// Writes a file that only this user may read: beside its place first, so that a crash leaves the old or the new one.
pub fn write_private(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let failed = || format!("`{}` cannot be written", path.display());
    let beside = path.with_extension("new");
    // One that was left over, whoever may read it, is not written into.
    let _ = fs::remove_file(&beside);
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside).with_context(failed)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).with_context(failed)?;
    fs::rename(&beside, path).with_context(failed)?;
    // A bare name lies in the current folder.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::File::open(folder).and_then(|folder| folder.sync_all()).with_context(failed)
}

/// Reads a file that nobody else may read; one that others may is refused, with the remedy.
pub fn read_private(path: &Path) -> anyhow::Result<Vec<u8>> {
    let file = fs::File::open(path).with_context(|| format!("`{}` cannot be read", path.display()))?;
    let about = file.metadata()?;
    if about.permissions().mode() & 0o077 != 0 {
        bail!(
            "`{}` can be read by others (mode {:o}): run chmod 600 on it, and change the secret if somebody may have read it",
            path.display(),
            about.mode() & 0o777
        );
    }
    let mut bytes = Vec::new();
    file.take(PRIVATE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Keys and tokens are small; a larger file is a mistake.
const PRIVATE_BYTES_MAX: u64 = 64 * 1024;

/// Makes a folder (and those above it) that only this user may enter.
pub fn private_folder(path: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let failed = || format!("the folder `{}` cannot be made private", path.display());
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).with_context(failed)?;
    // One that was there already may be open to others.
    if fs::metadata(path).with_context(failed)?.mode() & 0o077 != 0 {
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).with_context(failed)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: &[Key] = &[
        Key { name: "listen.tenant", kind: Kind::Address, default: None, about: "where browsers come in" },
        Key { name: "origin", kind: Kind::Origin, default: None, about: "as browsers see it" },
        Key { name: "port", kind: Kind::Number { min: 1, max: 65535 }, default: Some("8410"), about: "" },
        Key { name: "provider.*.url", kind: Kind::Url, default: None, about: "" },
        Key { name: "provider.*.models", kind: Kind::List, default: Some(""), about: "" },
    ];

    fn read(text: &str, environment: &[(&str, &str)], flags: &[(&str, String)]) -> anyhow::Result<Values> {
        let path = std::env::temp_dir().join(format!("gatehouse-config-{}.toml", crate::random::token()));
        fs::write(&path, text)?;
        let environment = environment.iter().map(|(name, value)| (name.to_string(), value.to_string()));
        let values = Values::read(KEYS, Some(&path), environment, flags);
        fs::remove_file(path)?;
        values
    }

    #[test]
    fn flags_win_over_environment_over_file() {
        let text =
            "origin = \"http://a.localhost:1\"\nport = 1\n[listen]\ntenant = \"127.0.0.1:1\"\n[provider.x]\nurl = \"http://h/v1\"\nmodels = [\"m1\", \"m2\"]";
        let values = read(text, &[("GATEHOUSE_PORT", "2"), ("GATEHOUSE_LISTEN_TENANT", "127.0.0.1:2")], &[("port", "3".to_owned())]).unwrap();
        assert_eq!((values.text("port"), values.text("listen.tenant"), values.text("origin")), ("3", "127.0.0.1:2", "http://a.localhost:1"));
        assert_eq!((values.named("provider"), values.list("provider.x.models").len()), (vec!["x".to_owned()], 2));
    }

    #[test]
    fn every_fault_is_named_at_once() {
        let text = "origin = \"http://A/x\"\nport = 99999\ncolour = \"red\"\n[provider.x]\nmodels = [\"m\"]";
        let message = format!("{:#}", read(text, &[], &[]).unwrap_err());
        for part in ["`listen.tenant` is missing", "`origin` must be an origin", "`port` must be a number", "`colour` is no key", "`provider.x.url` is missing"]
        {
            assert!(message.contains(part), "{part}: {message}");
        }
    }

    #[test]
    fn a_secret_that_others_can_read_is_refused() {
        let path = std::env::temp_dir().join(format!("gatehouse-private-{}", crate::random::token()));
        write_private(&path, b"x").unwrap();
        assert_eq!(read_private(&path).unwrap(), b"x");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(format!("{:#}", read_private(&path).unwrap_err()).contains("chmod 600"));
        fs::remove_file(path).unwrap();
    }
}
