//! What an operator sets for a hub: the keys of `hub.toml`, and the settings that they come to.

use crate::app::{HEARTBEAT_MS, Settings};
use crate::bundles::Authority;
use crate::providers::local::{LocalSettings, ModelProvider, PORTS_SPAN, Ports};
use anyhow::{Context, bail};
use policy::bundle::{PublicKey, Roots};
use service::config::{Key, Kind, Values};
use service::{Clock, Stop};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// What agents take; theirs to know, ours to refuse a slip of the pen before a tenant is made.
const DIALECTS: &[&str] = &["openai-completions", "openai-responses", "anthropic-messages", "google-generative-ai", "ollama"];

/// Every key of `hub.toml`; docs/OPERATING.md says the same in words.
pub const KEYS: &[Key] = &[
    Key { name: "state_folder", kind: Kind::Path, default: Some("/var/lib/gatehouse/hub"), about: "the hub's own folder: store and local tenants" },
    Key { name: "listen.public", kind: Kind::Address, default: Some("127.0.0.1:8400"), about: "where agents come in" },
    Key { name: "listen.operator", kind: Kind::Address, default: Some("127.0.0.1:8401"), about: "where operators come in: the loopback or a private network" },
    Key { name: "origin", kind: Kind::Origin, default: Some(""), about: "the dashboard's address as operators' browsers see it; left out: hub.localhost" },
    Key {
        name: "heartbeat_ms",
        kind: Kind::Number { min: 1_000, max: 600_000 },
        default: Some("10000"),
        about: "how often agents report when nothing changes",
    },
    Key { name: "policy.fleet", kind: Kind::Text, default: Some(""), about: "the company's fleet, as its policy bundles name it" },
    Key { name: "policy.channel", kind: Kind::Text, default: Some("stable"), about: "the bundles that local tenants take" },
    Key { name: "policy.roots", kind: Kind::List, default: Some(""), about: "the public root keys behind its policy bundles" },
    Key { name: "policy.threshold", kind: Kind::Number { min: 2, max: 32 }, default: Some("2"), about: "how many of the root keys must sign" },
    Key { name: "local.agent", kind: Kind::Path, default: Some(""), about: "the binary tenant-agent; left out: no tenant lives on this machine" },
    Key { name: "local.node", kind: Kind::Path, default: Some(""), about: "the node binary for the gateways of local tenants" },
    Key { name: "local.openclaw", kind: Kind::Path, default: Some(""), about: "openclaw.mjs for the gateways of local tenants" },
    Key {
        name: "local.ports",
        kind: Kind::Number { min: 1, max: 65_535 - PORTS_SPAN as i64 },
        default: Some("8400"),
        about: "local tenants have their ports from here on",
    },
    Key { name: "local.model", kind: Kind::Text, default: Some(""), about: "the model of local tenants, as provider/model" },
    Key { name: "provider.*.dialect", kind: Kind::OneOf(DIALECTS), default: None, about: "how the provider is spoken to" },
    Key { name: "provider.*.url", kind: Kind::Url, default: None, about: "the provider's base URL" },
    Key { name: "provider.*.models", kind: Kind::List, default: None, about: "the models that assistants may use" },
];

/// The configuration as `hub serve` and the commands beside it use it.
#[derive(Clone, Debug)]
pub struct Config {
    pub state_folder: PathBuf,
    pub public: SocketAddr,
    pub operator: SocketAddr,
    pub origin: Option<String>,
    pub heartbeat_ms: u64,
    /// Whose policy bundles are published, and believed by local tenants.
    pub authority: Option<Authority>,
    pub local: Option<LocalSettings>,
}

impl Config {
    pub fn read(file: &Path) -> anyhow::Result<Config> {
        Config::with(file, std::env::vars())
    }

    fn with(file: &Path, environment: impl Iterator<Item = (String, String)>) -> anyhow::Result<Config> {
        let values = Values::read(KEYS, Some(file), environment, &[])?;
        Config::of(&values).with_context(|| format!("the configuration `{}` is not usable", file.display()))
    }

    fn of(values: &Values) -> anyhow::Result<Config> {
        let address = |name: &str| values.parsed(name).with_context(|| format!("`{name}` is no address"));
        Ok(Config {
            state_folder: values.path("state_folder"),
            public: address("listen.public")?,
            operator: address("listen.operator")?,
            origin: given(values, "origin").map(str::to_owned),
            heartbeat_ms: values.parsed("heartbeat_ms").unwrap_or(HEARTBEAT_MS),
            local: local(values)?,
            authority: authority(values)?,
        })
    }

    pub fn settings(self, clock: Clock, stop: Stop) -> Settings {
        let Config { state_folder, public, operator, origin, heartbeat_ms, local, .. } = self;
        Settings { public, operator, origin, heartbeat_ms, local, clock, stop, ..Settings::new(state_folder) }
    }
}

fn authority(values: &Values) -> anyhow::Result<Option<Authority>> {
    let roots = values.list("policy.roots");
    if given(values, "policy.fleet").is_none() && roots.is_empty() {
        return Ok(None);
    }
    let fleet = given(values, "policy.fleet").context("`policy.roots` needs `policy.fleet`: bundles name the fleet that they are for")?;
    let key = |text: &String| PublicKey::parse(text).with_context(|| format!("`policy.roots`: `{text}` is no public key as `hub policy keygen` prints it"));
    let roots = Roots { keys: roots.iter().map(key).collect::<anyhow::Result<_>>()?, threshold: values.parsed("policy.threshold").unwrap_or(2) };
    if let Some(fault) = roots.fault() {
        bail!("`policy.roots` and `policy.threshold`: {fault}");
    }
    Ok(Some(Authority { fleet: fleet.to_owned(), roots, channel: values.text("policy.channel").to_owned() }))
}

fn local(values: &Values) -> anyhow::Result<Option<LocalSettings>> {
    let Some(agent) = given(values, "local.agent").map(PathBuf::from) else {
        for name in ["local.node", "local.openclaw", "local.model"] {
            if given(values, name).is_some() {
                bail!("`{name}` says how local tenants are run, and without `local.agent` there are none");
            }
        }
        return Ok(None);
    };
    let (node, openclaw) = (given(values, "local.node").map(PathBuf::from), given(values, "local.openclaw").map(PathBuf::from));
    if node.is_some() != openclaw.is_some() {
        bail!("`local.node` and `local.openclaw` belong together: give both, or neither for tenants without a gateway");
    }
    for (name, path) in [("local.agent", Some(&agent)), ("local.node", node.as_ref()), ("local.openclaw", openclaw.as_ref())] {
        if let Some(path) = path.filter(|path| !path.is_file()) {
            bail!("`{name}` must be a file that exists, not `{}`", path.display());
        }
    }
    let of = |name: &str, field: &str| format!("provider.{name}.{field}");
    let providers: Vec<ModelProvider> = values
        .named("provider")
        .into_iter()
        .map(|name| ModelProvider {
            dialect: values.text(&of(&name, "dialect")).to_owned(),
            url: values.text(&of(&name, "url")).to_owned(),
            models: values.list(&of(&name, "models")).to_vec(),
            name,
        })
        .collect();
    let model = values.text("local.model").to_owned();
    let has = |(name, model): (&str, &str)| providers.iter().any(|provider| provider.name == name && provider.models.iter().any(|known| known == model));
    if !model.split_once('/').is_some_and(has) {
        bail!("`local.model` must name a configured provider and one of its models, as provider/model, not `{model}`");
    }
    let base = values.parsed("local.ports").context("`local.ports` is no port")?;
    Ok(Some(LocalSettings { agent, node, openclaw, providers, model, ports: Ports::Base(base), secrets: Vec::new(), authority: authority(values)? }))
}

fn given<'a>(values: &'a Values, name: &str) -> Option<&'a str> {
    Some(values.text(name)).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> anyhow::Result<Config> {
        let path = std::env::temp_dir().join(format!("gatehouse-hub-config-{}.toml", service::random::token()));
        std::fs::write(&path, text)?;
        let config = Config::with(&path, std::iter::empty());
        std::fs::remove_file(path)?;
        config
    }

    #[test]
    fn an_empty_file_is_a_hub_without_local_tenants() {
        let config = read("").unwrap();
        assert_eq!((config.public.port(), config.operator.port(), config.heartbeat_ms), (8400, 8401, HEARTBEAT_MS));
        assert!(config.local.is_none() && config.origin.is_none());
    }

    #[test]
    fn local_tenants_are_described_once() {
        let file = std::env::current_exe().unwrap();
        let file = file.display();
        let config = read(&format!(
            "[local]\nagent = \"{file}\"\nmodel = \"x/m\"\nports = 9000\n[provider.x]\ndialect = \"openai-completions\"\nurl = \"http://h/v1\"\nmodels = [\"m\"]"
        ));
        let local = config.unwrap().local.unwrap();
        assert_eq!((local.model.as_str(), local.ports, local.node.is_none(), local.providers[0].url.as_str()), ("x/m", Ports::Base(9000), true, "http://h/v1"));
    }

    #[test]
    fn each_fault_is_named() {
        let file = std::env::current_exe().unwrap();
        let file = file.display();
        for (text, expected) in [
            ("colour = 1".to_owned(), "`colour` is no key"),
            ("listen.public = \"8400\"\norigin = \"x\"".to_owned(), "`origin` must be an origin"),
            ("listen.public = \"8400\"\norigin = \"x\"".to_owned(), "`listen.public` must be an address"),
            ("heartbeat_ms = 5".to_owned(), "`heartbeat_ms` must be a number from 1000"),
            ("[local]\nnode = \"/n\"".to_owned(), "without `local.agent` there are none"),
            ("[local]\nagent = \"/nowhere\"".to_owned(), "`local.agent` must be a file that exists"),
            (format!("[local]\nagent = \"{file}\"\nnode = \"{file}\""), "belong together"),
            (format!("[local]\nagent = \"{file}\"\nmodel = \"x/y\""), "`local.model` must name a configured provider"),
            (format!("[local]\nagent = \"{file}\"\nports = 65500"), "`local.ports` must be a number"),
            ("[provider.x]\nurl = \"http://h\"".to_owned(), "`provider.x.dialect` is missing"),
            ("[policy]\nroots = [\"aa\"]".to_owned(), "`policy.roots` needs `policy.fleet`"),
            ("[policy]\nfleet = \"acme\"\nroots = [\"aa\"]".to_owned(), "`aa` is no public key"),
            (format!("[policy]\nfleet = \"acme\"\nroots = [\"{}\"]", "ab".repeat(32)), "threshold must be at least 2 and at most the number of root keys (1)"),
        ] {
            let message = format!("{:#}", read(&text).unwrap_err());
            assert!(message.contains(expected), "{expected}: {message}");
        }
        assert!(format!("{:#}", Config::read(Path::new("/nowhere/hub.toml")).unwrap_err()).contains("cannot be read"));
    }
}
