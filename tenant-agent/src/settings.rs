//! What an operator sets for an agent, and what the agent makes of it.

use crate::cgroup::Nest;
use crate::gateway::openclaw::{CANARY, Dialect, PURPOSE, Provider};
use crate::gateway::{Mode, Program, Trust};
use crate::mail::letter::Mailbox;
use crate::mail::{Account, Server, Tls};
use crate::network::plan::{DOCTOR_SOCKET, GATEWAY_KEYS, GATEWAY_USER, HANDS_SOCKET};
use crate::outside::Outside;
use crate::vault::{Given, provider_key_name};
use anyhow::{Context, bail};
use policy::bundle::{self, PublicKey, Roots};
use policy::host::Target;
use service::config::{Key, Kind, Values};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Every key of `agent.toml`; docs/OPERATING.md says the same in words.
pub const KEYS: &[Key] = &[
    Key { name: "state_folder", kind: Kind::Path, default: Some("/var/lib/gatehouse/agent"), about: "the agent's own folder: store, keys, OpenClaw's home" },
    Key { name: "origin", kind: Kind::Origin, default: None, about: "the tenant's address as browsers see it" },
    Key { name: "listen.tenant", kind: Kind::Address, default: None, about: "where browsers come in" },
    Key { name: "listen.egress", kind: Kind::Address, default: Some("127.0.0.1:8411"), about: "where OpenClaw's model calls come in" },
    Key { name: "listen.proxy", kind: Kind::Address, default: Some("127.0.0.1:8412"), about: "where everything else that wants out comes in" },
    Key { name: "hub.url", kind: Kind::Url, default: None, about: "the hub's public listener" },
    Key { name: "closed", kind: Kind::OneOf(&["true", "false"]), default: Some("false"), about: "no model answers unless OpenClaw's network is closed" },
    Key { name: "gateway.mode", kind: Kind::OneOf(&["unit", "child", "attach", "none"]), default: Some("attach"), about: "who runs OpenClaw" },
    Key {
        name: "gateway.folder",
        kind: Kind::Path,
        default: Some(""),
        about: "OpenClaw's home; left out: below state_folder, for a unit /var/lib/gatehouse/openclaw",
    },
    Key { name: "gateway.port", kind: Kind::Number { min: 1, max: 65_535 }, default: Some("8520"), about: "the port of OpenClaw as our child" },
    Key { name: "gateway.node", kind: Kind::Path, default: Some(""), about: "the node binary for OpenClaw as our child or unit" },
    Key { name: "gateway.openclaw", kind: Kind::Path, default: Some(""), about: "openclaw.mjs for OpenClaw as our child or unit" },
    Key {
        name: "gateway.address",
        kind: Kind::Address,
        default: Some("127.0.0.1:18789"),
        about: "where an OpenClaw listens that is a unit or that somebody else runs",
    },
    Key {
        name: "gateway.environment",
        kind: Kind::Path,
        default: Some("/etc/gatehouse/gateway.env"),
        about: "its keys (0600), the EnvironmentFile of its unit",
    },
    Key {
        name: "gateway.trust",
        kind: Kind::OneOf(&["token", "address"]),
        default: Some("token"),
        about: "what it knows us by: its token, or our address on a link of our own",
    },
    Key {
        name: "gateway.uid",
        kind: Kind::Number { min: 0, max: 4_294_967_294 },
        default: Some(""),
        about: "the user it runs as; left out: our own, for a unit openclaw",
    },
    Key { name: "policy.fleet", kind: Kind::Text, default: Some(""), about: "the company's fleet, whose policy bundles count here" },
    Key { name: "policy.channel", kind: Kind::Text, default: Some("stable"), about: "which of its bundles" },
    Key { name: "policy.roots", kind: Kind::List, default: Some(""), about: "the root keys behind its bundles; left out: what is compiled in stays law" },
    Key { name: "policy.threshold", kind: Kind::Number { min: 2, max: 32 }, default: Some("2"), about: "how many of the root keys must sign" },
    Key { name: "policy.tenant_rules", kind: Kind::Path, default: Some(""), about: "rules of the tenant's own, which may only make calls more dangerous" },
    Key { name: "model", kind: Kind::Text, default: None, about: "the assistant's model, as provider/model" },
    Key { name: "mail.*.from", kind: Kind::Text, default: None, about: "who the assistant's mail is from, as address or as `Name <address>`" },
    Key { name: "mail.*.secret", kind: Kind::Text, default: None, about: "the name under which the account's password lies in the vault" },
    Key { name: "mail.*.user", kind: Kind::Text, default: Some(""), about: "the account's user; left out: the address" },
    Key { name: "mail.*.smtp", kind: Kind::Text, default: Some(""), about: "the server that mail goes out by, as host:port; left out: nothing is sent" },
    Key { name: "mail.*.smtp_tls", kind: Kind::OneOf(Tls::NAMES), default: Some("implicit"), about: "how that connection is encrypted" },
    Key {
        name: "mail.*.imap",
        kind: Kind::Text,
        default: Some(""),
        about: "the server that mail is read from, as host:port; left out: nothing is read and no draft kept",
    },
    Key { name: "mail.*.imap_tls", kind: Kind::OneOf(Tls::NAMES), default: Some("implicit"), about: "how that connection is encrypted" },
    Key { name: "mail.*.drafts", kind: Kind::Text, default: Some(""), about: "the folder for drafts; left out: the one that the server calls so" },
    Key { name: "tunnel.*.listen", kind: Kind::Address, default: None, about: "where programs inside find a TCP service that needs no proxy" },
    Key { name: "tunnel.*.target", kind: Kind::Text, default: None, about: "the service, as host:port; it works as long as the tenant's list allows it" },
    Key { name: "provider.*.dialect", kind: Kind::OneOf(Dialect::NAMES), default: None, about: "how the provider is spoken to" },
    Key { name: "provider.*.url", kind: Kind::Url, default: None, about: "the provider's base URL" },
    Key { name: "provider.*.models", kind: Kind::List, default: None, about: "the models that assistants may use" },
];

/// Names of providers and models are a part of each usage row, which the hub bounds.
const NAME_BYTES_MAX: usize = 64;

#[derive(Clone, Debug)]
pub struct Settings {
    pub state_folder: PathBuf,
    pub origin: String,
    pub tenant: SocketAddr,
    pub egress: SocketAddr,
    pub proxy: SocketAddr,
    /// Doors of TCP services, and where they lead.
    pub tunnels: Vec<(SocketAddr, Target)>,
    /// Mailboxes that assistants may use.
    pub mail: Vec<Account>,
    /// The world outside.
    pub outside: Outside,
    pub hub: String,
    pub mode: Mode,
    /// OpenClaw's home.
    pub gateway_folder: PathBuf,
    pub gateway_uid: u32,
    /// Where to ask whether OpenClaw's network is closed; `None`: it need not be.
    pub doctor: Option<PathBuf>,
    /// Where the unit answers that does what assistants are allowed; `None`: the agent does it.
    pub hands: Option<PathBuf>,
    /// Where commands get control groups of their own.
    pub nest: Option<Nest>,
    pub model: String,
    pub providers: Vec<Provider>,
    pub policy: PolicySettings,
    /// systemd's folder of credentials, where there is one.
    pub credentials: Option<PathBuf>,
    /// Keys of providers that came with the start, by environment or credential.
    pub given: Given,
}

/// Whose law counts on this host. It comes with the package, never from the hub.
#[derive(Clone, Debug)]
pub struct PolicySettings {
    /// `None`: nobody's; what is compiled in stays law.
    pub pinned: Option<bundle::Trust>,
    pub channel: String,
    pub tenant_rules: Option<PathBuf>,
}

impl Default for PolicySettings {
    fn default() -> PolicySettings {
        PolicySettings { pinned: None, channel: "stable".to_owned(), tenant_rules: None }
    }
}

impl Settings {
    pub fn read(file: &Path) -> anyhow::Result<Settings> {
        let values = Values::read(KEYS, Some(file), std::env::vars(), &[])?;
        Settings::of(&values).with_context(|| format!("the configuration `{}` is not usable", file.display()))
    }

    fn of(values: &Values) -> anyhow::Result<Settings> {
        let address = |name: &str| values.parsed(name).with_context(|| format!("`{name}` is no address"));
        let providers = providers(values)?;
        let model = values.text("model").to_owned();
        let hub = ("hub.url".to_owned(), values.text("hub.url").to_owned());
        let faults = faults(&providers, &hub, &model);
        if !faults.is_empty() {
            bail!("{}", faults.join("; "));
        }
        let (mode, state_folder) = (mode(values)?, values.path("state_folder"));
        let is_unit = matches!(mode, Mode::Unit { .. });
        let closed = values.text("closed") == "true";
        if is_unit != closed {
            bail!(
                "`closed = true` and `gateway.mode = \"unit\"` belong together: only a unit has a network that can be closed, and without it a unit may not run"
            )
        }
        let gateway_folder = match (values.path("gateway.folder"), is_unit) {
            (folder, _) if !folder.as_os_str().is_empty() => folder,
            (_, true) => PathBuf::from("/var/lib/gatehouse/openclaw"),
            (_, false) => state_folder.join("openclaw"),
        };
        let gateway_uid = values.parsed("gateway.uid").or_else(|| uid_of(GATEWAY_USER).filter(|_| is_unit)).unwrap_or_else(own_uid);
        let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
        let names: Vec<String> = providers.iter().map(|provider| provider_key_name(&provider.name)).collect();
        Ok(Settings {
            given: Given::read(&names, |name| std::env::var(name).ok(), credentials.as_deref())?,
            state_folder,
            origin: values.text("origin").to_owned(),
            tenant: address("listen.tenant")?,
            egress: address("listen.egress")?,
            proxy: address("listen.proxy")?,
            tunnels: tunnels(values)?,
            mail: mail(values)?,
            outside: Outside::system(),
            hub: values.text("hub.url").trim_end_matches('/').to_owned(),
            mode,
            gateway_folder,
            gateway_uid,
            nest: None,
            hands: is_unit.then(|| PathBuf::from(HANDS_SOCKET)),
            doctor: closed.then(|| PathBuf::from(DOCTOR_SOCKET)),
            model,
            providers,
            policy: policy(values)?,
            credentials,
        })
    }

    pub fn console_socket(&self) -> PathBuf {
        self.run_folder().join("console.sock")
    }

    pub fn plugin_socket(&self) -> PathBuf {
        match self.mode {
            // Where OpenClaw's user may enter, too.
            Mode::Unit { .. } => self.gateway_folder.join("plugin.sock"),
            _ => self.run_folder().join("plugin.sock"),
        }
    }

    pub fn run_folder(&self) -> PathBuf {
        self.state_folder.join("run")
    }

    pub fn openclaw_folder(&self) -> PathBuf {
        self.gateway_folder.clone()
    }
}

/// Everything that is wrong with the providers and the model, at once.
fn faults(providers: &[Provider], hub: &(String, String), model: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let urls = providers.iter().map(|provider| (format!("provider.{}.url", provider.name), provider.url.clone()));
    for (name, _) in urls.chain([hub.clone()]).filter(|(_, url)| !is_private(url)) {
        faults.push(format!("`{name}` must be https: a key would travel in the clear. Plain http is only for this machine"));
    }
    for provider in providers {
        let name = &provider.name;
        if provider.dialect == Dialect::Ollama && !is_loopback(&provider.url) {
            faults.push(format!("`provider.{name}.url` must be this machine: Ollama's own dialect knows no key, so nobody else may listen there"));
        }
        if name == PURPOSE {
            faults.push(format!("`{name}` cannot be a provider's name: it stands for the purposes of the policy bundle"));
        }
        if name == CANARY {
            faults.push(format!("`{name}` cannot be a provider's name: it stands for the agent's own canaries"));
        }
        for long in provider.models.iter().chain([name]).filter(|name| name.len() > NAME_BYTES_MAX) {
            faults.push(format!("`{long}` is too long for a provider or a model: at most {NAME_BYTES_MAX} bytes"));
        }
    }
    let known = model.split_once('/').is_some_and(|(name, model)| {
        (name == PURPOSE && !model.is_empty()) || providers.iter().any(|provider| provider.name == name && provider.models.iter().any(|known| known == model))
    });
    if !known {
        faults.push(format!("`model` must name a configured provider and one of its models, as provider/model, or {PURPOSE}/NAME, not `{model}`"));
    }
    faults
}

/// Encrypted, or not leaving this machine.
fn is_private(url: &str) -> bool {
    !url.starts_with("http://") || is_loopback(url)
}

fn is_loopback(url: &str) -> bool {
    let rest = url.strip_prefix("http://").or(url.strip_prefix("https://")).unwrap_or(url);
    let authority = rest.split('/').next().unwrap_or_default();
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host).trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn mode(values: &Values) -> anyhow::Result<Mode> {
    Ok(match values.text("gateway.mode") {
        "unit" => {
            let address: SocketAddr = values.parsed("gateway.address").context("`gateway.address` is no address")?;
            Mode::Unit { address, program: program(values, address.port())?, environment: PathBuf::from(GATEWAY_KEYS) }
        }
        "child" => Mode::Child { program: program(values, values.parsed("gateway.port").context("`gateway.port` is no port")?)? },
        "attach" => Mode::Attach {
            address: values.parsed("gateway.address").context("`gateway.address` is no address")?,
            environment: values.path("gateway.environment"),
            trust: if values.text("gateway.trust") == "address" { Trust::Address } else { Trust::Token },
        },
        _ => Mode::None,
    })
}

fn program(values: &Values, port: u16) -> anyhow::Result<Program> {
    let (node, openclaw) = (values.path("gateway.node"), values.path("gateway.openclaw"));
    for (name, path) in [("gateway.node", &node), ("gateway.openclaw", &openclaw)] {
        if !path.is_file() {
            bail!("`{name}` must be a file that exists, not `{}`", path.display());
        }
    }
    Ok(Program { node, openclaw, port })
}

fn policy(values: &Values) -> anyhow::Result<PolicySettings> {
    let fleet = values.text("policy.fleet");
    let roots = values.list("policy.roots");
    if fleet.is_empty() != roots.is_empty() {
        bail!("`policy.fleet` and `policy.roots` belong together: give both, or neither for an agent whose law is what is compiled in");
    }
    let key = |text: &String| PublicKey::parse(text).with_context(|| format!("`policy.roots`: `{text}` is no public key as `hub policy keygen` prints it"));
    let roots = Roots { keys: roots.iter().map(key).collect::<anyhow::Result<_>>()?, threshold: values.parsed("policy.threshold").unwrap_or(2) };
    let pinned = match (fleet, roots.fault()) {
        ("", _) => None,
        (_, Some(fault)) => bail!("`policy.roots` and `policy.threshold`: {fault}"),
        (fleet, None) => Some(bundle::Trust::pinned(fleet, roots)),
    };
    let tenant_rules = Some(values.path("policy.tenant_rules")).filter(|path| !path.as_os_str().is_empty());
    Ok(PolicySettings { pinned, channel: values.text("policy.channel").to_owned(), tenant_rules })
}

fn tunnels(values: &Values) -> anyhow::Result<Vec<(SocketAddr, Target)>> {
    let names = values.named("tunnel").into_iter();
    names
        .map(|name| {
            let of = |field: &str| format!("tunnel.{name}.{field}");
            let listen = values.parsed(&of("listen")).with_context(|| format!("`{}` is no address", of("listen")))?;
            let target = Target::parse(values.text(&of("target")), None).with_context(|| format!("`{}` is no host with a port", of("target")))?;
            Ok((listen, target))
        })
        .collect()
}

fn mail(values: &Values) -> anyhow::Result<Vec<Account>> {
    let names = values.named("mail").into_iter();
    names
        .map(|name| {
            let of = |field: &str| format!("mail.{name}.{field}");
            let given = |field: &str| Some(values.text(&of(field)).to_owned()).filter(|text| !text.is_empty());
            let server = |field: &str| {
                let Some(text) = given(field) else { return Ok(None) };
                let target = Target::parse(&text, None).with_context(|| format!("`{}` is no host with a port", of(field)))?;
                let tls = Tls::parse(values.text(&of(&format!("{field}_tls")))).with_context(|| format!("`{}_tls` is no way to encrypt", of(field)))?;
                anyhow::Ok(Some(Server { target, tls }))
            };
            let from = Mailbox::parse(values.text(&of("from"))).with_context(|| format!("`{}` is no address of a mailbox", of("from")))?;
            let user = given("user").unwrap_or_else(|| from.address.clone());
            let account = Account {
                user,
                from,
                secret: values.text(&of("secret")).to_owned(),
                smtp: server("smtp")?,
                imap: server("imap")?,
                drafts: given("drafts"),
                name,
            };
            anyhow::ensure!(account.smtp.is_some() || account.imap.is_some(), "`mail.{}` has neither `smtp` nor `imap`", account.name);
            Ok(account)
        })
        .collect()
}

fn providers(values: &Values) -> anyhow::Result<Vec<Provider>> {
    let names = values.named("provider").into_iter();
    names
        .map(|name| {
            let of = |field: &str| format!("provider.{name}.{field}");
            let dialect = Dialect::parse(values.text(&of("dialect"))).with_context(|| format!("`{}` is no dialect", of("dialect")))?;
            Ok(Provider { dialect, url: values.text(&of("url")).trim_end_matches('/').to_owned(), models: values.list(&of("models")).to_vec(), name })
        })
        .collect()
}

#[expect(unsafe_code, reason = "the standard library does not tell the own uid; the call cannot fail")]
pub fn own_uid() -> u32 {
    unsafe { libc::getuid() }
}

/// A user of this machine, as its own list names them.
pub fn uid_of(user: &str) -> Option<u32> {
    let users = std::fs::read_to_string("/etc/passwd").ok()?;
    users.lines().find_map(|line| line.strip_prefix(user)?.strip_prefix(':')?.split(':').nth(1)?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_of_the_providers_is_told_at_once() {
        let provider = |name: &str, dialect, url: &str, model: &str| Provider { name: name.into(), dialect, url: url.into(), models: vec![model.into()] };
        let hub = ("hub.url".to_owned(), "https://hub.example.org".to_owned());
        let good = [provider("a", Dialect::OpenaiCompletions, "https://a.example.org/v1", "m"), provider("o", Dialect::Ollama, "http://127.0.0.1:11434", "l")];
        for model in ["a/m", "o/l", "purpose/general"] {
            assert_eq!(faults(&good, &hub, model), Vec::<String>::new(), "{model}");
        }
        let bad = [
            provider("purpose", Dialect::OpenaiResponses, "http://a.example.org", "m"),
            provider("o", Dialect::Ollama, "https://ollama.example.org", &"x".repeat(65)),
        ];
        let said = faults(&bad, &("hub.url".to_owned(), "http://hub.example.org".to_owned()), "a/m").join("\n");
        for expected in [
            "`provider.purpose.url` must be https",
            "`hub.url` must be https",
            "`provider.o.url` must be this machine",
            "cannot be a provider's name",
            "is too long",
            "not `a/m`",
        ] {
            assert!(said.contains(expected), "{expected}\n{said}");
        }
    }

    #[test]
    fn plain_http_is_for_this_machine_only() {
        for url in ["https://hub.example.org", "http://127.0.0.1:8400", "http://localhost", "http://[::1]:8400/v1"] {
            assert!(is_private(url), "{url}");
        }
        for url in ["http://hub.example.org", "http://10.0.0.1:8400", "http://127.0.0.1.example.org", "http://localhost.example.org:80/v1", "http://"] {
            assert!(!is_private(url), "{url}");
        }
    }

    #[test]
    fn a_mailbox_is_read_with_what_it_may_leave_out() {
        let read = |text: &str| {
            let file = std::env::temp_dir().join(service::random::token());
            std::fs::write(&file, text).unwrap();
            let keys: Vec<Key> = KEYS.iter().filter(|key| key.name.starts_with("mail.")).copied().collect();
            let values = Values::read(&keys, Some(&file), std::iter::empty(), &[]);
            std::fs::remove_file(file).unwrap();
            values.and_then(|values| mail(&values)).map_err(|error| format!("{error:#}"))
        };
        let accounts = read(
            "[mail.office]\nfrom = \"Anna <anna@example.org>\"\nsecret = \"mail.office\"\nsmtp = \"smtp.example.org:465\"\n\
             [mail.shop]\nfrom = \"shop@example.org\"\nsecret = \"s\"\nuser = \"u\"\nimap = \"imap.example.org:143\"\nimap_tls = \"starttls\"\ndrafts = \"Entwürfe\"\n",
        )
        .unwrap();
        let target = |text: &str| Target::parse(text, None).unwrap();
        assert_eq!(
            accounts,
            [
                Account {
                    name: "office".to_owned(),
                    from: Mailbox::parse("Anna <anna@example.org>").unwrap(),
                    user: "anna@example.org".to_owned(),
                    secret: "mail.office".to_owned(),
                    smtp: Some(Server { target: target("smtp.example.org:465"), tls: Tls::Implicit }),
                    imap: None,
                    drafts: None,
                },
                Account {
                    name: "shop".to_owned(),
                    from: Mailbox::parse("shop@example.org").unwrap(),
                    user: "u".to_owned(),
                    secret: "s".to_owned(),
                    smtp: None,
                    imap: Some(Server { target: target("imap.example.org:143"), tls: Tls::Starttls }),
                    drafts: Some("Entwürfe".to_owned()),
                },
            ]
        );
        for (text, why) in [
            ("[mail.a]\nfrom = \"a@example.org\"\nsecret = \"s\"\n", "neither `smtp` nor `imap`"),
            ("[mail.a]\nfrom = \"nobody\"\nsecret = \"s\"\nsmtp = \"b.example.org:465\"\n", "`mail.a.from` is no address"),
            ("[mail.a]\nfrom = \"a@example.org\"\nsecret = \"s\"\nsmtp = \"b.example.org\"\n", "`mail.a.smtp` is no host with a port"),
            ("[mail.a]\nfrom = \"a@example.org\"\nsecret = \"s\"\nsmtp = \"b.example.org:465\"\nsmtp_tls = \"none\"\n", "smtp_tls"),
            ("[mail.a]\nfrom = \"a@example.org\"\nsmtp = \"b.example.org:465\"\n", "`mail.a.secret` is missing"),
        ] {
            let said = read(text).unwrap_err();
            assert!(said.contains(why), "{why}: {said}");
        }
    }
}
