//! What OpenClaw finds when it starts: its configuration, written anew each time, and our plugin, written once and watched.
//!
//! OpenClaw's own files hold no secret: the configuration names environment variables, whose values are drawn for each
//! start and never touch a disk in the demo. The provider's key is not among them; it stays in the vault.

use super::connection::{BROWSER_USER, CONTROL_USER, TRUSTED_HEADER, USER_HEADER};
use crate::ledger::SPAWN_DEPTH_MAX;
use anyhow::{Context as _, ensure};
use axum::http::{HeaderName, HeaderValue, header};
use ring::digest::{Context, SHA256};
use serde_json::{Map, Value, json};
use service::SecretString;
use service::config::{private_folder, write_private};
use service::random::base64url;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The id under which OpenClaw lists our plugin.
pub const PLUGIN_ID: &str = "gatehouse";
/// What comes before the names of our own tools. The law knows it, too: `own_servers` in its registry.
pub const TOOLS_SERVER: &str = "gatehouse";
/// OpenClaw's tools whose work is done by ours.
pub const REPLACED: [&str; 5] = ["exec", "process", "write", "edit", "apply_patch"];
/// Our plugin's own tool, for canaries alone: no other session is shown it.
pub const PLUGIN_TOOL: &str = "gatehouse_canary";
/// Tools that only we have; OpenClaw knows nothing by these names.
pub const OURS_ALONE: [&str; 6] = ["http_request", "send_mail", "draft_mail", "read_mail", "ask_approval", "secret_names"];
/// How long it waits for one of our tools: a little longer than the longest command.
const TOOL_WAIT_MS: u64 = 660_000;
/// How long it waits for our server, which was there before it.
const TOOLS_CONNECT_MS: u64 = 30_000;

/// Where `tenant-agent install` puts our plugin: OpenClaw takes it from root or from its own user only.
pub const PACKAGED_PLUGIN: &str = "/usr/lib/gatehouse/openclaw-plugin";

pub const PLUGIN_FILES: [(&str, &str); 4] = [
    ("index.js", include_str!("../../../packaging/openclaw-plugin/index.js")),
    ("openclaw.plugin.json", include_str!("../../../packaging/openclaw-plugin/openclaw.plugin.json")),
    ("package.json", include_str!("../../../packaging/openclaw-plugin/package.json")),
    ("skills/gatehouse-canary/SKILL.md", include_str!("../../../packaging/openclaw-plugin/skills/gatehouse-canary/SKILL.md")),
];

/// In the place of a provider's name: what stands behind is not a model but a purpose, and the law says who answers.
pub const PURPOSE: &str = "purpose";
/// The provider and the model of the canaries' session: the egress proxy itself.
pub const CANARY: &str = "gatehouse-canary";
pub const CANARY_MODEL: &str = "canary";

/// A model provider as the operator configured it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provider {
    pub name: String,
    pub dialect: Dialect,
    /// The provider's own base URL.
    pub url: String,
    pub models: Vec<String>,
}

impl Provider {
    /// The header that shows the provider its key; `None` for a key that no header can hold.
    pub fn key_header(&self, key: &SecretString) -> Option<(HeaderName, HeaderValue)> {
        // The provider needs the key.
        let (name, value) = match self.dialect {
            Dialect::OpenaiCompletions | Dialect::OpenaiResponses | Dialect::Ollama => (header::AUTHORIZATION, format!("Bearer {}", key.expose())),
            Dialect::AnthropicMessages => (HeaderName::from_static("x-api-key"), key.expose().to_owned()),
            Dialect::GoogleGenerativeAi => (HeaderName::from_static("x-goog-api-key"), key.expose().to_owned()),
        };
        let mut value = HeaderValue::from_str(&value).ok()?;
        value.set_sensitive(true);
        Some((name, value))
    }

    /// Where the provider lists its models, which costs nothing.
    pub fn list_url(&self) -> String {
        let path = match self.dialect {
            Dialect::OpenaiCompletions | Dialect::OpenaiResponses | Dialect::GoogleGenerativeAi => "models",
            Dialect::AnthropicMessages => "v1/models",
            Dialect::Ollama => "api/tags",
        };
        format!("{}/{path}", self.url)
    }
}

/// How a provider is spoken to, by the names that OpenClaw has for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// OpenAI's chat completions, and everybody who imitates them.
    OpenaiCompletions,
    OpenaiResponses,
    AnthropicMessages,
    /// Gemini.
    GoogleGenerativeAi,
    /// Ollama's own, for models on this machine.
    Ollama,
}

impl Dialect {
    pub const NAMES: &'static [&'static str] = &["openai-completions", "openai-responses", "anthropic-messages", "google-generative-ai", "ollama"];
    pub const ALL: [Dialect; 5] =
        [Dialect::OpenaiCompletions, Dialect::OpenaiResponses, Dialect::AnthropicMessages, Dialect::GoogleGenerativeAi, Dialect::Ollama];

    pub fn parse(name: &str) -> Option<Dialect> {
        Dialect::ALL.into_iter().find(|dialect| dialect.name() == name)
    }

    pub fn name(self) -> &'static str {
        match self {
            Dialect::OpenaiCompletions => "openai-completions",
            Dialect::OpenaiResponses => "openai-responses",
            Dialect::AnthropicMessages => "anthropic-messages",
            Dialect::GoogleGenerativeAi => "google-generative-ai",
            Dialect::Ollama => "ollama",
        }
    }
}

/// Where OpenClaw keeps its things.
#[derive(Clone, Debug)]
pub struct Home {
    pub folder: PathBuf,
    /// OpenClaw runs as a user of its own, whose group reads what we write. Folders and plugin are there already.
    pub is_shared: bool,
}

impl Home {
    pub fn workspace(&self) -> PathBuf {
        self.folder.join("workspace")
    }

    /// Where OpenClaw and commands are at home.
    pub fn home(&self) -> PathBuf {
        self.folder.join("home")
    }

    pub fn config(&self) -> PathBuf {
        self.folder.join("openclaw.json")
    }

    pub fn plugin(&self) -> PathBuf {
        if self.is_shared { PathBuf::from(PACKAGED_PLUGIN) } else { self.folder.join("plugin").join(PLUGIN_ID) }
    }

    pub fn log(&self) -> PathBuf {
        self.folder.join("gateway.log")
    }

    /// Writes the configuration, and the plugin where it is missing or of an earlier version of ours.
    pub fn prepare(&self, config: &Value) -> anyhow::Result<()> {
        for folder in [self.folder.clone(), self.workspace(), self.home(), self.folder.join("state")] {
            self.make(&folder)?;
        }
        if !self.is_shared {
            self.refresh_plugin()?;
        }
        let text = serde_json::to_string_pretty(config).context("OpenClaw's configuration is JSON")?;
        self.write(&self.config(), text.as_bytes()).context("writing OpenClaw's configuration")
    }

    fn refresh_plugin(&self) -> anyhow::Result<()> {
        let installed = std::fs::read_to_string(self.stamp()).ok();
        let untouched = installed.is_none() || installed == self.plugin_on_disk();
        if installed.as_deref() != Some(&our_plugin()) && untouched {
            self.write_plugin()?;
        }
        Ok(())
    }

    pub fn make_workspace(&self) -> anyhow::Result<()> {
        self.make(&self.workspace())
    }

    pub fn make_home(&self) -> anyhow::Result<()> {
        self.make(&self.home())
    }

    fn make(&self, folder: &Path) -> anyhow::Result<()> {
        if self.is_shared { Ok(()) } else { private_folder(folder) }
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
        write_private(path, bytes)?;
        if self.is_shared {
            // The folder gives it the group.
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o640))?;
        }
        Ok(())
    }

    /// Writes the plugin over whatever is there.
    pub fn write_plugin(&self) -> anyhow::Result<()> {
        ensure!(!self.is_shared, "on this host the plugin belongs to root: `tenant-agent install` writes it, then restart openclaw.service");
        private_folder(&self.plugin())?;
        for (name, text) in PLUGIN_FILES {
            let path = self.plugin().join(name);
            path.parent().map_or(Ok(()), private_folder)?;
            write_private(&path, text.as_bytes()).context("writing our plugin for OpenClaw")?;
        }
        write_private(&self.stamp(), our_plugin().as_bytes()).context("noting which plugin was written")
    }

    /// Whether the plugin on the disk is the one that we wrote. OpenClaw reads the files again while it runs, so this is
    /// asked again and again: a plugin that somebody changed is as good as none.
    pub fn plugin_is_ours(&self) -> bool {
        self.plugin_on_disk().as_deref() == Some(&our_plugin())
    }

    fn plugin_on_disk(&self) -> Option<String> {
        let read = |name| std::fs::read(self.plugin().join(name)).ok();
        PLUGIN_FILES.iter().map(|(name, _)| read(name)).collect::<Option<Vec<_>>>().map(|files| digest_of(files.iter().map(Vec::as_slice)))
    }

    /// The digest of the plugin that was written last.
    fn stamp(&self) -> PathBuf {
        self.folder.join("plugin.digest")
    }
}

fn our_plugin() -> String {
    digest_of(PLUGIN_FILES.iter().map(|(_, text)| text.as_bytes()))
}

fn digest_of<'a>(files: impl Iterator<Item = &'a [u8]>) -> String {
    let mut context = Context::new(&SHA256);
    for file in files {
        // With the length before it, so that no byte can move from one file to the next.
        context.update(&(file.len() as u64).to_be_bytes());
        context.update(file);
    }
    base64url(context.finish().as_ref())
}

/// OpenClaw's configuration.
pub struct Plan<'a> {
    pub providers: &'a [Provider],
    /// `provider/model` of the assistant.
    pub model: &'a str,
    pub egress: SocketAddr,
    pub plugin_socket: &'a Path,
    pub tools: Vec<&'a str>,
    /// OpenClaw's own end of a link, where it believes whoever comes from the agent's end.
    pub link: Option<IpAddr>,
}

/// The providers, and the purposes as if they were the models of one more: those of the law, and the one that the assistant is set to.
pub fn with_purposes<'a>(providers: &[Provider], purposes: impl Iterator<Item = &'a str>, model: &'a str) -> Vec<Provider> {
    let own = model.split_once('/').filter(|(provider, _)| *provider == PURPOSE).map(|(_, purpose)| purpose);
    let mut models: Vec<String> = purposes.chain(own).map(str::to_owned).collect();
    models.sort_unstable();
    models.dedup();
    let more = (!models.is_empty()).then(|| Provider { name: PURPOSE.to_owned(), dialect: Dialect::OpenaiCompletions, url: String::new(), models });
    providers.iter().cloned().chain(more).collect()
}

pub fn config(home: &Home, plan: &Plan<'_>) -> Value {
    let mut providers: Map<String, Value> = plan
        .providers
        .iter()
        .map(|provider| {
            let models: Vec<Value> = provider.models.iter().map(|model| model_entry(model)).collect();
            let entry = json!({
                "baseUrl": format!("http://{}/llm/{}", plan.egress, provider.name),
                "apiKey": "${GATEHOUSE_PROXY_TOKEN}",
                "api": provider.dialect.name(),
                "models": models,
            });
            (provider.name.clone(), entry)
        })
        .collect();
    let canary = json!({
        "baseUrl": format!("http://{}/llm/{CANARY}", plan.egress), "apiKey": "${GATEHOUSE_PROXY_TOKEN}",
        "api": Dialect::OpenaiCompletions.name(), "models": [model_entry(CANARY_MODEL)],
    });
    providers.insert(CANARY.to_owned(), canary);
    let own = format!("{TOOLS_SERVER}__*");
    let allowed: Vec<&str> =
        plan.tools.iter().copied().filter(|tool| !REPLACED.contains(tool) && !OURS_ALONE.contains(tool)).chain([own.as_str(), PLUGIN_TOOL]).collect();
    // Its own plugin speaks Ollama's dialect; nothing of the sort is loaded otherwise.
    let ollama = plan.providers.iter().any(|provider| provider.dialect == Dialect::Ollama).then_some("ollama");
    let plugins: Vec<&str> = std::iter::once(PLUGIN_ID).chain(ollama).collect();
    json!({
        "gateway": door(plan),
        // Otherwise it writes into a folder of /tmp that every user shares.
        "logging": { "file": home.folder.join("state/openclaw.log") },
        "update": { "checkOnStart": false },
        "telemetry": { "enabled": false },
        "cron": { "enabled": false },
        "browser": { "enabled": false },
        // Files in the workspace that OpenClaw would run as its own code.
        "hooks": { "internal": { "enabled": false } },
        // A person's conversation is not told of canaries and sub-assistants.
        "session": { "notifyOnCreate": false },
        "discovery": { "mdns": { "mode": "off" } },
        "agents": { "defaults": {
            "workspace": home.workspace(), "skipBootstrap": true,
            "model": { "primary": plan.model },
            // Side calls (titles, recaps) carry no trace, so nothing could tell whose they are: they are switched off.
            "utilityModel": "",
            "heartbeat": { "every": "0m" },
            // The agent refuses what would go deeper, whatever stands here.
            "subagents": { "maxSpawnDepth": SPAWN_DEPTH_MAX },
        } },
        // `replace` keeps OpenClaw from finding other providers, which would not pass the egress proxy.
        "models": { "mode": "replace", "providers": providers },
        // Token and address lead to the agent's own tools. The token is one of this start and allows nothing by itself.
        "mcp": { "servers": { TOOLS_SERVER: {
            "url": format!("http://{}/mcp", plan.egress), "transport": "streamable-http",
            "headers": { "Authorization": "Bearer ${GATEHOUSE_TOOLS_TOKEN}" },
            "requestTimeoutMs": TOOL_WAIT_MS, "connectionTimeoutMs": TOOLS_CONNECT_MS,
        } } },
        "tools": {
            // Both wrap other tools, so that the name on the wire would not be the tool that runs.
            "toolSearch": false, "codeMode": false,
            "allow": allowed,
            "deny": REPLACED,
            "media": { "image": { "enabled": false }, "audio": { "enabled": false }, "video": { "enabled": false } },
        },
        "plugins": {
            "allow": plugins,
            "slots": { "memory": "none" },
            "load": { "paths": [home.plugin()] },
            "entries": { PLUGIN_ID: {
                "enabled": true,
                "hooks": { "allowConversationAccess": true },
                "config": { "socket": plan.plugin_socket },
            } },
        },
    })
}

/// Who may come in, and what proves it.
fn door(plan: &Plan<'_>) -> Value {
    let mut door = match plan.link {
        None => json!({ "bind": "loopback", "auth": { "mode": "token", "token": "${OPENCLAW_GATEWAY_TOKEN}" } }),
        Some(own_end) => json!({
            "bind": "custom", "customBindHost": own_end, "trustedProxies": [plan.egress.ip()],
            "auth": {
                "mode": "trusted-proxy",
                "identityScopes": { BROWSER_USER: ["operator.read", "operator.write"], CONTROL_USER: ["operator.admin", "operator.read", "operator.write"] },
                "trustedProxy": { "userHeader": USER_HEADER, "requiredHeaders": [TRUSTED_HEADER], "allowUsers": [BROWSER_USER, CONTROL_USER] },
            },
        }),
    };
    door["mode"] = json!("local");
    door["controlUi"] = json!({ "enabled": false, "sessionObserver": false });
    door["terminal"] = json!({ "enabled": false });
    door
}

fn model_entry(id: &str) -> Value {
    json!({
        "id": id, "name": id, "reasoning": false, "input": ["text"],
        // Costs are ours to know: the egress proxy counts tokens, the hub prices them.
        "cost": { "input": 0, "output": 0, "cacheRead": 0, "cacheWrite": 0 },
        "contextWindow": 200_000, "maxTokens": 8192,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_plugin_is_seen_and_left_for_somebody_to_look_at() {
        let home = Home { folder: std::env::temp_dir().join(service::random::token()), is_shared: false };
        let code = home.plugin().join("index.js");
        home.prepare(&json!({})).unwrap();
        assert!(home.plugin_is_ours());
        std::fs::write(&code, "export default {}").unwrap();
        home.prepare(&json!({})).unwrap();
        assert!(!home.plugin_is_ours(), "a start does not hide what was done");
        std::fs::remove_file(&code).unwrap();
        home.prepare(&json!({})).unwrap();
        assert!(!home.plugin_is_ours() && !code.exists());
        home.write_plugin().unwrap();
        assert!(home.plugin_is_ours());
        // An earlier version of ours, as it was written, is brought up to date.
        let earlier = PLUGIN_FILES.map(|(_, text)| format!("{text} "));
        for ((name, _), text) in PLUGIN_FILES.iter().zip(&earlier) {
            std::fs::write(home.plugin().join(name), text).unwrap();
        }
        std::fs::write(home.stamp(), digest_of(earlier.iter().map(|text| text.as_bytes()))).unwrap();
        home.prepare(&json!({})).unwrap();
        assert!(home.plugin_is_ours());
        std::fs::remove_dir_all(home.folder).unwrap();
    }

    #[test]
    fn the_plugin_speaks_as_the_agent_hears() {
        assert!(PLUGIN_FILES[0].1.contains(&format!("const VERSION = \"{}\";", wire::plugin::VERSION)));
        assert!(PLUGIN_FILES[0].1.contains(&format!("const CANARY_SESSIONS = \"{}\";", crate::gateway::CANARY_SESSIONS)));
        for (name, text) in PLUGIN_FILES.iter().filter(|(name, _)| *name != "package.json") {
            assert!(text.contains(PLUGIN_TOOL), "{name}");
        }
    }

    #[test]
    fn purposes_are_models_of_a_provider_of_their_own() {
        let names = |purposes: &[&'static str], model: &str| {
            with_purposes(&[], purposes.iter().copied(), model).into_iter().map(|provider| (provider.name, provider.models)).collect::<Vec<_>>()
        };
        assert_eq!(names(&[], "scripted/scripted-1"), []);
        assert_eq!(names(&["review", "general"], "purpose/vision"), [(PURPOSE.to_owned(), ["general", "review", "vision"].map(str::to_owned).to_vec())]);
    }

    #[test]
    fn each_dialect_has_the_name_that_is_configured() {
        assert_eq!(Dialect::ALL.map(Dialect::name), Dialect::NAMES);
        assert_eq!(Dialect::ALL.map(|dialect| Dialect::parse(dialect.name())), Dialect::ALL.map(Some));
        assert_eq!(Dialect::parse("openai"), None);
    }

    #[test]
    fn the_configuration_holds_no_secret_and_leads_every_model_call_through_us() {
        let providers =
            [Provider { name: "scripted".into(), dialect: Dialect::OpenaiCompletions, url: "http://127.0.0.1:9/v1".into(), models: vec!["scripted-1".into()] }];
        let plan = Plan {
            providers: &providers,
            model: "scripted/scripted-1",
            egress: "127.0.0.1:8411".parse().unwrap(),
            plugin_socket: Path::new("/s"),
            tools: vec!["read", "exec"],
            link: None,
        };
        let home = Home { folder: "/h".into(), is_shared: false };
        let behind = Plan { link: Some("10.77.0.2".parse().unwrap()), egress: "10.77.0.1:8411".parse().unwrap(), tools: Vec::new(), ..plan };
        let door = &config(&home, &behind)["gateway"];
        assert_eq!(
            (&door["auth"]["mode"], &door["trustedProxies"], &door["customBindHost"]),
            (&json!("trusted-proxy"), &json!(["10.77.0.1"]), &json!("10.77.0.2"))
        );
        assert!(door["auth"].get("token").is_none(), "it takes either a token or an address for a proof");
        let config = config(&home, &plan);
        assert_eq!(config["models"]["providers"]["scripted"]["baseUrl"], "http://127.0.0.1:8411/llm/scripted");
        assert_eq!(config["models"]["mode"], "replace");
        assert_eq!(config["plugins"]["allow"], json!(["gatehouse"]));
        assert_eq!((&config["tools"]["allow"], &config["tools"]["deny"]), (&json!(["read", "gatehouse__*", PLUGIN_TOOL]), &json!(REPLACED)));
        let text = config.to_string();
        assert!(!text.contains("127.0.0.1:9/"), "the provider's address is the agent's business");
        assert_eq!(redact::find(&text), []);
    }
}
