//! `hub demo`: a hub, one tenant, and a model that needs no key, on this machine, ready to click.
//!
//! Everything listens on the loopback. What is looked at comes before what is started: the folder, its lock, the key and
//! the ports. Progress goes to standard error; standard output gets the addresses, once, as text or as one line of JSON.

mod law;
pub mod model;
mod ports;
mod state;
mod words;

use crate::app::{Hub, Settings};
use crate::bundles::Authority;
use crate::command::{EXIT_CONFIG, Trouble};
use crate::providers::local::{self, AgentState, Local, LocalSettings, ModelProvider, Ports};
use anyhow::Context;
use clap::{Args, ValueEnum};
use model::ScriptedModel;
use ports::Block;
use service::config::{private_folder, write_private};
use service::{Clock, SecretString, Stop, log, random};
use state::State;
use std::io::{BufRead, BufReader, IsTerminal, Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use wire::fleet::{Fleet, TenantState, TenantView};
use words::{Addresses, OwnerLink, Progress};

#[derive(Args, Debug)]
pub struct Flags {
    /// Where the demo keeps its state [default: ~/.local/state/gatehouse/demo].
    #[arg(long, value_name = "FOLDER")]
    state: Option<PathBuf>,
    /// The first of the ports; 0 lets the demo choose.
    #[arg(long, value_name = "PORT", default_value_t = 8400)]
    port: u16,
    // Whoever types `cargo demo` has no use for the places of the parts, which the launcher fills in.
    /// The binary tenant-agent [default: the one beside this binary].
    #[arg(long, value_name = "FILE", hide = true)]
    agent: Option<PathBuf>,
    /// The node binary for OpenClaw. Without it the chat has no assistant.
    #[arg(long, value_name = "FILE", hide = true)]
    node: Option<PathBuf>,
    /// OpenClaw's openclaw.mjs. Without it the chat has no assistant.
    #[arg(long, value_name = "FILE", hide = true)]
    openclaw: Option<PathBuf>,
    /// Who answers: a script on this machine, or Anthropic with the key from ANTHROPIC_API_KEY or standard input.
    #[arg(long, value_enum, default_value_t = Provider::Scripted)]
    provider: Provider,
    /// The model, for --provider anthropic [default: claude-sonnet-4-5].
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Print the addresses as one line of JSON.
    #[arg(long)]
    pub json: bool,
    /// Forget what an earlier demo kept in this state, and begin anew.
    #[arg(long)]
    fresh: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Provider {
    Scripted,
    Anthropic,
}

/// The one tenant. A name under `localhost`, because browsers give each such name its own cookies.
const TENANT: &str = "alice";
const ANTHROPIC_URL: &str = "https://api.anthropic.com";
const KEY_VARIABLE: &str = "ANTHROPIC_API_KEY";
const KEY_BYTES_MAX: u64 = 64 * 1024;
/// Between two words of the scripted model: fast, and still seen to stream.
const PACE_MS: u64 = 12;
/// As the key's line is written by a person's hand or another program: one that has not come by then does not come.
const KEY_WAIT: Duration = Duration::from_secs(5);
/// Short enough for the scripted model to tell it whole; it understands what stands in quotation marks.
const NOTES: &str = "\
# Notes

This file lies in the assistant's workspace. Reading it is harmless, so nobody was asked.

Try next:

- \"Run the command: find . -name '*.tmp' -delete\". A dangerous command waits until you approve it; deny it once.
- \"Write a haiku into the file haiku.md.\" Its own files need no approval.
- \"Read the file haiku.md.\"

The dashboard shows that an approval waits, never what it says.
";

/// What this demo is, for those who tell of it.
struct Story {
    folder: PathBuf,
    hub_config: PathBuf,
    provider: Provider,
    model: String,
}

/// What was checked, and is now to be run.
struct Parts {
    agent: PathBuf,
    node: Option<PathBuf>,
    openclaw: Option<PathBuf>,
}

/// What runs, and what has been told of it.
struct Running<'a> {
    hub: &'a Hub,
    local: &'a Local,
    story: &'a Story,
    state: &'a State,
    model_url: Option<String>,
    json: bool,
    told: Told,
    is_key_noted: bool,
    /// This life has begun to work on the tenant; before, its state is what an earlier one left.
    is_begun: bool,
    /// As it was last told of.
    agent: AgentState,
}

/// The addresses are told once, with the trouble or without.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Told {
    Nothing,
    Trouble,
    Ready,
}

pub async fn run(flags: Flags) -> Result<(), Trouble> {
    let stop = Stop::default();
    stop.on_signals().context("listening for signals")?;
    let clock = Clock::system();
    let mut progress = Progress::new(clock.clone());
    // Nothing is started, changed or left behind before all of this holds.
    let parts = Parts::checked(&flags)?;
    flags.provider.fits(&flags)?;
    let mut state = State::take(flags.state.as_deref())?;
    local::sockets_fit(&state.folder.join("tenants").join(TENANT)).map_err(refused)?;
    let is_scripted = flags.provider == Provider::Scripted;
    let block = Block::find(flags.port, is_scripted, parts.node.is_some(), &state.folder, &state.hub_config())?;
    let Some(key) = stop.or(flags.provider.key(&state, flags.fresh)).await else { return Ok(()) };
    let key = key?;
    state.keep();
    if flags.fresh {
        progress.say("forgetting what an earlier demo kept …");
        state.forget().await?;
    }

    let story = Story { folder: state.folder.clone(), hub_config: state.hub_config(), provider: flags.provider, model: flags.provider.model(&flags) };
    let company = law::Company::open(&state.folder)?;
    write_hub_config(&state, block, &company.authority())?;
    write_notes(&state.folder)?;
    let model = match (&key, is_scripted) {
        (Some(key), true) => Some(ScriptedModel::start(block.model(), key.clone(), PACE_MS, stop.clone())?),
        _ => None,
    };
    let settings = Settings {
        public: block.public(),
        operator: block.operator(),
        clock: clock.clone(),
        stop: stop.clone(),
        local: Some(local_settings(parts, &story, key, block, model.as_ref().map(ScriptedModel::addr), Some(company.authority()))),
        ..Settings::new(state.folder.clone())
    };
    let hub = Hub::start(settings).await?;
    let model_url = model.map(|model| format!("http://{}/v1", model.addr()));
    let outcome = async {
        company.publish(&hub, clock.wall_ms()).await?;
        hub.create_local_tenant(TENANT).await?;
        let local = hub.local().context("the demo's tenant lives on this machine")?;
        let (told, json) = (Told::Nothing, flags.json);
        let (is_key_noted, agent) = (is_scripted, AgentState::Absent);
        let mut running = Running { hub: &hub, local, story: &story, state: &state, model_url, json, told, is_key_noted, is_begun: false, agent };
        running.attend(&mut progress, &stop).await
    };
    let outcome = outcome.await;
    // Whatever ended it, nothing is left running.
    stop.now();
    progress.say("stopping …");
    hub.stopped().await;
    progress.say("everything has stopped");
    Ok(outcome?)
}

impl Running<'_> {
    /// Tells how it goes, until the stop.
    async fn attend(&mut self, progress: &mut Progress, stop: &Stop) -> anyhow::Result<()> {
        let mut feed = self.hub.feed();
        let mut agents = self.local.changes();
        while !stop.is_stopped() {
            agents.borrow_and_update();
            self.look_at_agent(progress);
            let fleet = feed.borrow_and_update().clone();
            if let Some(view) = tenant(&fleet) {
                let Some(told) = stop.or(self.tell(view, progress)).await else { break };
                told?;
            }
            tokio::select! {
                () = stop.stopped() => break,
                _ = agents.changed() => {}
                changed = feed.changed() => changed.context("the hub has stopped by itself")?,
                () = progress.silence(), if self.told == Told::Nothing => progress.alive(tenant(&fleet)),
            }
        }
        Ok(())
    }

    fn look_at_agent(&mut self, progress: &mut Progress) {
        let now = self.local.agent_state(TENANT);
        if let Some(news) = words::agent_news(&self.agent, &now) {
            progress.say(news);
        }
        if now != AgentState::Starting {
            self.agent = now;
        }
    }

    async fn tell(&mut self, view: &TenantView, progress: &mut Progress) -> anyhow::Result<()> {
        if !self.is_key_noted && matches!(self.local.agent_state(TENANT), AgentState::Up { .. }) {
            self.state.note_key(self.story.provider.name())?;
            self.is_key_noted = true;
        }
        if self.told == Told::Nothing {
            progress.look(&view.steps);
        }
        self.is_begun |= view.state != TenantState::NeedsOperator;
        let before = self.told;
        let (heading, gateway) = if self.local.is_well(view) {
            self.told = Told::Ready;
            ("Gatehouse is running.", if self.local.has_gateway() { "ready" } else { "absent" })
        } else if view.state == TenantState::NeedsOperator && self.is_begun {
            self.told = self.told.max(Told::Trouble);
            ("Gatehouse is running, without its assistant so far.", "down")
        } else {
            return Ok(());
        };
        if before < Told::Ready && self.told == Told::Ready {
            progress.say(if self.local.has_gateway() { "the assistant is ready" } else { "the tenant's page is ready" });
        }
        if before == Told::Nothing && self.told == Told::Trouble {
            eprintln!("\n{}", words::trouble(view, self.local));
        }
        if before == Told::Nothing {
            let addresses = self.addresses(view).await?;
            let said = if self.json { addresses.json(gateway) } else { addresses.text(heading, self.local, TENANT) };
            // A reader that has gone is no reason to end.
            let _ = writeln!(std::io::stdout(), "{said}");
        }
        Ok(())
    }

    async fn addresses(&self, view: &TenantView) -> anyhow::Result<Addresses<'_>> {
        let agent_pid = match self.local.agent_state(TENANT) {
            AgentState::Up { pid, .. } => Some(pid),
            _ => None,
        };
        let owner_link = match self.local.owner_link(TENANT).await {
            Ok(Some(link)) => OwnerLink::Fresh(link),
            Ok(None) => OwnerLink::OwnerExists,
            Err(error) => OwnerLink::Missing(format!("{error:#}")),
        };
        Ok(Addresses {
            story: self.story,
            dashboard_url: self.hub.operator_origin().to_owned(),
            operator_password: self.hub.operator_password().await?,
            tenant_url: view.url.clone(),
            owner_link,
            public_url: format!("http://{}", self.hub.public_addr()),
            model_url: self.model_url.clone(),
            agent_pid,
        })
    }
}

impl Story {
    /// How to get another password, as a shell takes it.
    fn password_command(&self) -> String {
        let hub = std::env::current_exe().unwrap_or_else(|_| "hub".into());
        // What the kernel adds when a build has put a new binary in the place of the running one.
        let hub = PathBuf::from(hub.to_string_lossy().trim_end_matches(" (deleted)"));
        format!("{} operator-password --config {}", words::shell_word(&hub), words::shell_word(&self.hub_config))
    }

    fn model_about(&self) -> String {
        match self.provider {
            Provider::Scripted => "a script on this machine that plays a model: no key, no costs; --provider anthropic for a real one".to_owned(),
            Provider::Anthropic => format!("{} at Anthropic; your key lies in the tenant's vault", self.model),
        }
    }
}

impl Parts {
    fn checked(flags: &Flags) -> Result<Parts, Trouble> {
        let beside = || std::env::current_exe().ok().and_then(|hub| Some(hub.parent()?.join("tenant-agent")));
        let agent = flags.agent.clone().or_else(beside).context("this program cannot find itself: give --agent")?;
        if flags.node.is_some() != flags.openclaw.is_some() {
            return Err(Trouble { code: 2, said: "--node and --openclaw belong together: give both, or neither for a chat without an assistant.".to_owned() });
        }
        let file = |flag: &str, path: &Path| {
            let path = std::path::absolute(path).with_context(|| format!("`{flag}` is no path"))?;
            if path.is_file() {
                return Ok(path);
            }
            Err(Trouble {
                code: EXIT_CONFIG,
                said: format!("`{flag}` must be a file that exists, not `{}`: `cargo demo` builds and fetches all parts.", path.display()),
            })
        };
        Ok(Parts {
            agent: file("--agent", &agent)?,
            node: flags.node.as_deref().map(|path| file("--node", path)).transpose()?,
            openclaw: flags.openclaw.as_deref().map(|path| file("--openclaw", path)).transpose()?,
        })
    }
}

impl Provider {
    fn name(self) -> &'static str {
        match self {
            Provider::Scripted => "scripted",
            Provider::Anthropic => "anthropic",
        }
    }

    fn model(self, flags: &Flags) -> String {
        let usual = match self {
            Provider::Scripted => "scripted-1",
            Provider::Anthropic => "claude-sonnet-4-5",
        };
        flags.model.clone().unwrap_or_else(|| usual.to_owned())
    }

    fn fits(self, flags: &Flags) -> Result<(), Trouble> {
        if self == Provider::Scripted && flags.model.is_some() {
            let said = "--model names a model of Anthropic: the scripted provider has only its one. Add --provider anthropic, or leave --model out.";
            return Err(Trouble { code: 2, said: said.to_owned() });
        }
        Ok(())
    }

    /// The key that the vault is given; `None` when it has one already, which `is_fresh` forgets, and no other came.
    async fn key(self, state: &State, is_fresh: bool) -> Result<Option<SecretString>, Trouble> {
        let key = match self {
            Provider::Scripted => Some(SecretString::new(random::token())),
            Provider::Anthropic => foreign_key().await,
        };
        if key.is_none() && (is_fresh || !state.has_key(self.name())) {
            let said = format!(
                "Anthropic needs a key: set {KEY_VARIABLE}, or give it as one line on standard input within {} s (`cargo demo --provider anthropic < key`). \
                Afterwards the vault keeps it.",
                KEY_WAIT.as_secs()
            );
            return Err(Trouble { code: 2, said });
        }
        if let Some(key) = &key {
            log::know(key);
        }
        Ok(key)
    }
}

/// The key from the environment or from standard input. Nothing ever prompts, so a terminal is not asked.
async fn foreign_key() -> Option<SecretString> {
    if let Some(key) = std::env::var(KEY_VARIABLE).ok().and_then(sound_key) {
        return Some(key);
    }
    let input = std::io::stdin();
    if input.is_terminal() {
        return None;
    }
    line_of(input, KEY_WAIT).await.and_then(sound_key)
}

fn sound_key(text: String) -> Option<SecretString> {
    Some(text.trim()).filter(|text| !text.is_empty()).map(|text| SecretString::new(text.to_owned()))
}

/// The first line, if it comes in time: whoever holds the other end of a pipe may keep it open for good.
async fn line_of(input: impl Read + Send + 'static, wait: Duration) -> Option<String> {
    let (sender, line) = tokio::sync::oneshot::channel();
    // A thread of its own: the runtime would wait at its end for one of its own that reads.
    std::thread::spawn(move || {
        let mut text = String::new();
        let read = BufReader::new(input.take(KEY_BYTES_MAX)).read_line(&mut text);
        // Nobody may be listening any more.
        let _ = sender.send(read.ok().map(|_| text));
    });
    tokio::time::timeout(wait, line).await.ok()?.ok()?
}

fn local_settings(
    parts: Parts,
    story: &Story,
    key: Option<SecretString>,
    block: Block,
    model: Option<SocketAddr>,
    authority: Option<Authority>,
) -> LocalSettings {
    let name = story.provider.name();
    let (dialect, url) = match story.provider {
        Provider::Scripted => ("openai-completions", format!("http://{}/v1", model.unwrap_or(block.model()))),
        Provider::Anthropic => ("anthropic-messages", ANTHROPIC_URL.to_owned()),
    };
    let provider = ModelProvider { name: name.to_owned(), dialect: dialect.to_owned(), url, models: vec![story.model.clone()] };
    LocalSettings {
        agent: parts.agent,
        node: parts.node,
        openclaw: parts.openclaw,
        providers: vec![provider],
        model: format!("{name}/{}", story.model),
        ports: Ports::Base(block.base),
        secrets: key.into_iter().map(|key| (format!("provider.{name}"), key)).collect(),
        authority,
    }
}

/// For the commands beside the running demo.
fn write_hub_config(state: &State, block: Block, authority: &Authority) -> anyhow::Result<()> {
    let folder = state.folder.to_str().context("the state folder's name is not readable as text: choose another with --state")?;
    let text = format!(
        "# Written by hub demo at each of its starts, for the commands beside it.\nstate_folder = {}\n\n[listen]\npublic = \"{}\"\noperator = \"{}\"\n\n[policy]\nfleet = {}\nchannel = {}\nroots = {}\nthreshold = {}\n",
        // TOML's escapes are JSON's.
        serde_json::Value::from(folder),
        block.public(),
        block.operator(),
        serde_json::Value::from(authority.fleet.as_str()),
        serde_json::Value::from(authority.channel.as_str()),
        serde_json::json!(authority.roots.keys),
        authority.roots.threshold,
    );
    write_private(&state.hub_config(), text.as_bytes())
}

/// Something to read for the assistant. What a person made of it stays.
fn write_notes(state_folder: &Path) -> anyhow::Result<()> {
    let workspace = state_folder.join("tenants").join(TENANT).join("agent/openclaw/workspace");
    private_folder(&workspace)?;
    let path = workspace.join("notes.md");
    match std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
        Ok(mut file) => file.write_all(NOTES.as_bytes()).with_context(|| format!("writing `{}`", path.display())),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error).with_context(|| format!("writing `{}`", path.display())),
    }
}

fn tenant(fleet: &Fleet) -> Option<&TenantView> {
    fleet.tenants.iter().find(|view| view.name == TENANT)
}

fn refused(error: anyhow::Error) -> Trouble {
    Trouble { code: EXIT_CONFIG, said: format!("{error:#}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        flags: Flags,
    }

    fn flags(line: &str) -> Flags {
        Line::try_parse_from(format!("demo {line}").split_whitespace()).unwrap().flags
    }

    #[test]
    fn a_model_needs_a_provider_that_has_several() {
        let check = |line: &str| {
            let flags = flags(line);
            flags.provider.fits(&flags)
        };
        let Trouble { code, said } = check("--model foo").unwrap_err();
        assert!(code == 2 && said.contains("--provider anthropic"), "{said}");
        assert!(check("--provider anthropic --model foo").is_ok() && check("").is_ok());
    }

    #[tokio::test]
    async fn a_key_is_one_line_and_a_pipe_that_never_ends_is_not_waited_for() {
        let piped = async |text: &str, wait: Duration| {
            let (reader, mut writer) = std::io::pipe().unwrap();
            writer.write_all(text.as_bytes()).unwrap();
            let line = line_of(reader, wait).await;
            drop(writer);
            line
        };
        let long = Duration::from_secs(20);
        assert_eq!(piped("sk-1\nmore\n", long).await.as_deref(), Some("sk-1\n"));
        assert_eq!(piped("sk-1", Duration::from_millis(50)).await, None, "the pipe stays open");
        assert_eq!(line_of(&b"sk-1"[..], long).await.as_deref(), Some("sk-1"));
        assert_eq!(line_of(&b""[..], long).await.and_then(sound_key).map(|_| ()), None);
    }

    #[tokio::test]
    async fn a_refused_demo_leaves_nothing_behind_and_keeps_what_was() {
        let parent = std::env::temp_dir().join(format!("gatehouse-refused-{}", random::token()));
        let folder = parent.join("a/state");
        let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let line = |more: &str| flags(&format!("--agent /bin/true --state {} --port {port} {more}", folder.display()));
        assert_eq!(run(line("")).await.unwrap_err().code, EXIT_CONFIG);
        assert!(!parent.exists(), "what was made for the look is gone again");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("hub.db"), "kept").unwrap();
        assert_eq!(run(line("--fresh")).await.unwrap_err().code, EXIT_CONFIG);
        let left: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["hub.db"], "a demo that does not start forgets nothing");
        std::fs::remove_dir_all(parent).unwrap();
    }
}
