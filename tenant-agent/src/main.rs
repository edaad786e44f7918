//! `tenant-agent`: parse, read the configuration, build, run.

mod audit_command;
mod levels_command;
mod vault_command;

use anyhow::Context;
use audit_command::AuditCommand;
use clap::{Parser, Subcommand};
use levels_command::LevelsCommand;
use policy::host::{Manner, Reach};
use redact::Net;
use serde_json::Value;
use service::store::StoreError;
use service::text::Language;
use service::{Clock, SecretString, Stop, log, memory, secret};
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tenant_agent::cgroup::Nest;
use tenant_agent::console::{self, HostsVerb, Verb};
use tenant_agent::law::{self, Decided, PolicyCommand, Said, Trial};
use tenant_agent::network::doctor::Verdict;
use tenant_agent::network::plan::Plan;
use tenant_agent::network::{self, install};
use tenant_agent::people::{May, Role};
use tenant_agent::redaction::{self, Shape};
use tenant_agent::settings::own_uid;
use tenant_agent::tools::hands;
use tenant_agent::vault::VaultError;
use tenant_agent::{Agent, Settings, agent};
use vault_command::VaultCommand;

/// The agent beside OpenClaw: chat, approvals, secrets and metering of one tenant.
#[derive(Parser)]
#[command(name = "tenant-agent", version)]
struct Cli {
    /// The configuration.
    #[arg(long, global = true, default_value = "/etc/gatehouse/agent.toml")]
    config: PathBuf,
    /// Print one line of JSON instead of text.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the agent until it is told to stop.
    Run,
    /// Bring this host to the hub, once. The one-time token is read from standard input.
    Enrol {
        /// Draw the tenant's recovery key, too, and print it, this once. `vault recovery-key new` draws another one later.
        #[arg(long)]
        reveal_recovery_key: bool,
    },
    /// Print a one-time link for the first owner. An earlier unused link dies.
    OwnerLink,
    /// Say how the running agent is.
    Status,
    /// The model providers.
    Providers {
        #[command(subcommand)]
        command: ProvidersCommand,
    },
    /// Say for each surface on which OpenClaw runs tools what became of the last test call: `passed`, `off`, or how it failed.
    Canaries {
        /// Send them first, which takes a few seconds.
        #[arg(long)]
        now: bool,
    },
    /// Let a frozen session go on. Its unchecked tool results are excused by name, and the audit keeps who did it.
    Unfreeze {
        /// As `status` prints it.
        session: String,
    },
    /// Write the guard plugin over whatever is there and start OpenClaw again. For after somebody has looked at what changed it.
    RestorePlugin,
    /// The persons of this tenant.
    Person {
        #[command(subcommand)]
        command: PersonCommand,
    },
    /// What happened here, as a chain of hashes.
    Audit {
        #[command(subcommand)]
        command: AuditCommand,
    },
    /// The secrets of this tenant.
    Vault {
        #[command(subcommand)]
        command: VaultCommand,
    },
    /// How much each assistant may do unasked, and which tools may reach other people.
    Levels {
        #[command(subcommand)]
        command: LevelsCommand,
    },
    /// Stop an assistant: no model answers it, and no call of its runs, until `resume` or an owner lets it go on.
    Pause {
        /// Its name; may be left out where there is one.
        assistant: Option<String>,
    },
    /// Let a paused assistant go on.
    Resume {
        /// Its name; may be left out where there is one.
        assistant: Option<String>,
    },
    /// The hosts that assistants may connect to.
    Hosts {
        #[command(subcommand)]
        command: HostsCommand,
    },
    /// The law: try it before it is one.
    Policy {
        #[command(subcommand)]
        command: PolicyCommand,
    },
    /// Take the secrets out of what comes on standard input. Needs no configuration and writes no file.
    Redact {
        /// The known secrets: a file of `[{"name","secret"}]`. Without it only unknown ones are looked for.
        #[arg(long)]
        secrets: Option<PathBuf>,
        /// A signed bundle or a folder of a bundle's TOML files: its patterns count, too.
        #[arg(long)]
        bundle: Option<PathBuf>,
        /// One JSON a line: `{"id","text"}` or `{"id","chunks_b64":[…]}`.
        #[arg(long)]
        jsonl: bool,
        /// What the input is. A body that cannot be vouched for is refused.
        #[arg(long, value_parser = ["json", "sse", "text"])]
        body: Option<String>,
        /// Say on standard error what was done and how long it took.
        #[arg(long)]
        stats: bool,
    },
    /// Check the configuration and print what it comes to.
    CheckConfig,
    /// Do one thing that an assistant is allowed. The program of `gatehouse-hands@.service`: the order comes by the socket
    /// on standard input. Needs no configuration.
    Hands {
        /// OpenClaw's folder.
        folder: PathBuf,
    },
    /// Write the units, users and rules that close OpenClaw's network, and bring them into force. Says what it changes.
    Install {
        /// Only say what would change.
        #[arg(long)]
        dry_run: bool,
        /// Write below this folder and start nothing.
        #[arg(long, default_value = "/")]
        root: PathBuf,
        /// The binary that the units start.
        #[arg(long)]
        binary: Option<PathBuf>,
    },
    /// Take away what `install` wrote. Users, state and the configuration stay.
    Uninstall {
        #[arg(long)]
        dry_run: bool,
        #[arg(long, default_value = "/")]
        root: PathBuf,
    },
    /// Say for each law of the closed network whether it holds, and what mends it, and what became of the canaries. As root it
    /// looks at the network; otherwise it asks root.
    Doctor,
}

#[derive(Subcommand)]
enum ProvidersCommand {
    /// How each is, as the last calls found it: OK, DEGRADED after a failure, DOWN after three in a row or without a key. Sends nothing.
    Status,
    /// The same, after asking each that is not switched off for the list of its models, which costs nothing.
    Doctor,
}

#[derive(Subcommand)]
enum PersonCommand {
    /// Add a person. The password is read from standard input; a newline at its end is not part of it.
    Add {
        name: String,
        #[arg(long, value_parser = ["owner", "approver", "member"], default_value = "member")]
        role: String,
        #[arg(long, value_parser = ["de", "en"], default_value = "de")]
        lang: String,
    },
    /// Say who is here, with whose devices, and which resets are announced.
    List,
    /// Hold a person to some assistants: they see, and decide about, these only. Without any they have all of them again.
    Reach {
        /// The person's name.
        name: String,
        /// An assistant about which they may decide, as far as their role does.
        #[arg(long = "decide")]
        decides: Vec<String>,
        /// An assistant that they may see and chat with, and no more.
        #[arg(long = "see")]
        sees: Vec<String>,
    },
    /// Set a person's password anew and end their sessions. It is read from standard input; a newline at its end is not part of it.
    Password {
        /// The person's name.
        name: String,
    },
    /// The devices whose signature counts as a person's word.
    Device {
        #[command(subcommand)]
        command: DeviceCommand,
    },
}

#[derive(Subcommand)]
enum DeviceCommand {
    /// Print a one-time code, good for an hour, with which this person enrols a device on their own page.
    Code {
        /// The person's name.
        name: String,
    },
    /// Take a device out: its signature counts for nothing any more.
    Remove {
        /// As `person list` prints it.
        device: String,
    },
}

#[derive(Subcommand)]
enum HostsCommand {
    /// Show the tenant's list, and what the company's bundle allows.
    List,
    /// Allow a host: `api.example.org`, `api.example.org:8443`, or `*.example.org` for everything below.
    Allow {
        host: String,
        /// Reading is GET, HEAD and OPTIONS; writing is every method.
        #[arg(long, value_parser = ["read", "write"], default_value = "read")]
        reach: String,
        /// Pass TLS through unopened, for clients that insist on the host's own certificate. Nothing in it is redacted.
        #[arg(long, conflicts_with = "tcp")]
        tunnel: bool,
        /// Pass any bytes through, for a TCP service such as `imap.example.org:993`. Nothing in it is redacted.
        #[arg(long)]
        tcp: bool,
    },
    /// Take a line off the tenant's list.
    Remove {
        /// As `list` shows it.
        host: String,
    },
}

/// sysexits: the configuration is wrong, and starting again will not help.
const EXIT_CONFIG: u8 = 78;
/// The verb was understood and could not be done.
const EXIT_REFUSED: u8 = 3;
/// Tokens and passwords.
const INPUT_BYTES_MAX: u64 = 64 * 1024;

fn main() -> ExitCode {
    memory::one_heap();
    let cli = Cli::parse();
    log::start("info");
    let kept = secret::keep_memory();
    if let Some(outcome) = alone(&cli) {
        return outcome;
    }
    if matches!(cli.command, Command::Run) {
        tracing::info!(undumpable = kept.undumpable, locked = kept.locked, "memory");
    }
    let settings = match Settings::read(&cli.config) {
        Ok(settings) => settings,
        Err(error) => return fail(&cli, EXIT_CONFIG, &error),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers()).max_blocking_threads(BLOCKING_MAX).enable_all().build();
    let outcome = runtime.context("starting the runtime").and_then(|runtime| runtime.block_on(act(&cli, settings)));
    match outcome {
        Ok(code) => code,
        Err(error) => fail(&cli, if is_lasting(&error) { EXIT_CONFIG } else { 1 }, &error),
    }
}

/// Whether starting again will fail in the same way.
fn is_lasting(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(VaultError::KeyWrong { .. })) || matches!(error.downcast_ref(), Some(StoreError::Damaged { .. }))
}

/// The agent waits more than it computes, on the smallest VPS there is. Where that has one core, two would only take turns.
const WORKERS_MAX: usize = 2;
/// Store reads and password hashes.
const BLOCKING_MAX: usize = 8;

fn workers() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get().min(WORKERS_MAX))
}

/// What needs neither an agent nor its configuration: whoever writes rules or tries the net does so on any machine.
fn alone(cli: &Cli) -> Option<ExitCode> {
    let outcome = match &cli.command {
        Command::Hands { folder } => do_order(folder),
        Command::Policy { command } => {
            return Some(match command.alone(&Clock::system())? {
                Ok(said) => say(cli.json, &said.facts, &said.text),
                Err(error) => fail(cli, 1, &error),
            });
        }
        Command::Redact { secrets, bundle, jsonl, body, stats } => {
            let shape = body.as_deref().map(|body| match body {
                "json" => Shape::Json,
                "sse" => Shape::Events,
                _ => Shape::Text,
            });
            let net = bundle.as_deref().map_or_else(|| Ok(Net::built_in().clone()), |bundle| law::net_of(bundle, &Clock::system()));
            net.and_then(|net| redaction::redact(net, secrets.as_deref(), *jsonl, shape, *stats, std::io::stdin().lock(), std::io::stdout().lock()))
        }
        Command::Vault { command } => command.alone()?,
        Command::Audit { command } => return Some(command.alone(cli.json)?.unwrap_or_else(|error| fail(cli, EXIT_REFUSED, &error))),
        Command::Uninstall { dry_run, root } => {
            return Some(match install::uninstall(root, *dry_run) {
                Ok(report) => say(cli.json, &report.facts, &report.text),
                Err(error) => fail(cli, 1, &error),
            });
        }
        _ => return None,
    };
    Some(outcome.map_or_else(|error| fail(cli, EXIT_REFUSED, &error), |()| ExitCode::SUCCESS))
}

/// Standard input is the socket on which the order comes and the answer goes.
fn do_order(folder: &Path) -> anyhow::Result<()> {
    use std::os::fd::AsFd;
    let socket = std::os::unix::net::UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned().context("standard input")?);
    socket.set_nonblocking(true).context("standard input is no socket")?;
    let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).enable_all().build().context("starting the runtime")?;
    runtime.block_on(async {
        let (input, output) = tokio::net::UnixStream::from_std(socket).context("standard input is no socket")?.into_split();
        hands::serve(folder, input, output).await
    })
}

async fn act(cli: &Cli, settings: Settings) -> anyhow::Result<ExitCode> {
    let verb = match &cli.command {
        Command::Run => return run(settings).await,
        Command::Enrol { reveal_recovery_key } => {
            let token = from_stdin("the one-time token")?;
            let identity = agent::enrol(&settings, &token).await?;
            let mut facts = serde_json::json!({ "ok": true, "host_id": identity.host_id, "tenant_id": identity.tenant_id });
            let mut text = format!("enrolled as {} of {}", identity.host_id, identity.tenant_id);
            if *reveal_recovery_key && let Some(key) = agent::first_recovery_key(&settings, &identity).await? {
                // Shown this once: whoever enrols hands it to the tenant.
                facts["recovery_key"] = key.text().expose().into();
                text = format!("{text}\nthe recovery key, which is not shown again: {}", key.text().expose());
            }
            return Ok(say(cli.json, &facts, &text));
        }
        Command::CheckConfig => {
            let facts = serde_json::json!({ "ok": true, "origin": settings.origin, "state_folder": settings.state_folder });
            return Ok(say(cli.json, &facts, &format!("the configuration is usable: {settings:#?}")));
        }
        Command::Policy { command } => {
            let said = policy(command, &settings).await?;
            return Ok(say(cli.json, &said.facts, &said.text));
        }
        Command::Install { dry_run, root, binary } => {
            let report = install::install(&plan(cli, &settings, binary.as_deref())?, root, *dry_run)?;
            return Ok(say(cli.json, &report.facts, &report.text));
        }
        Command::Doctor => {
            let verdict = verdict(cli, &settings).await?;
            let mut text = told(&verdict);
            // For somebody who looks; whoever asks for JSON may be the agent itself, and `status` has it.
            if !cli.json
                && let Ok(answer) = console::say(&settings.console_socket(), &Verb::Canaries { now: false }).await
            {
                text = format!("{text}\n\ncanaries of the safety check:\n{}", canaries_table(&answer));
            }
            return Ok(say(cli.json, &serde_json::to_value(&verdict)?, &text));
        }
        Command::Redact { .. } | Command::Hands { .. } | Command::Uninstall { .. } => anyhow::bail!("this needs no agent"),
        Command::OwnerLink => Verb::OwnerLink {},
        Command::Status => Verb::Status {},
        Command::Providers { command } => Verb::Providers { check: matches!(command, ProvidersCommand::Doctor) },
        Command::Canaries { now } => Verb::Canaries { now: *now },
        Command::RestorePlugin => Verb::RestorePlugin {},
        Command::Unfreeze { session } => Verb::Unfreeze { session: session.clone() },
        Command::Person { command: PersonCommand::Add { name, role, lang } } => Verb::PersonAdd {
            name: name.clone(),
            // clap has checked both.
            role: Role::parse(role).unwrap_or(Role::Member),
            lang: Language::parse(lang).unwrap_or_default(),
            // The console carries the password to the hash.
            password: from_stdin("the password")?.expose().trim_end_matches(['\r', '\n']).to_owned(),
        },
        Command::Person { command: PersonCommand::List } => Verb::Persons {},
        Command::Person { command: PersonCommand::Reach { name, decides, sees } } => {
            let all = |names: &[String], may| names.iter().map(move |name| (name.clone(), may)).collect::<Vec<_>>();
            Verb::PersonReach { name: name.clone(), only: [all(sees, May::See), all(decides, May::Decide)].concat() }
        }
        Command::Person { command: PersonCommand::Password { name } } => {
            // The console carries the password to the hash.
            Verb::PersonPassword { name: name.clone(), password: from_stdin("the password")?.expose().trim_end_matches(['\r', '\n']).to_owned() }
        }
        Command::Person { command: PersonCommand::Device { command } } => match command {
            DeviceCommand::Code { name } => Verb::DeviceCode { name: name.clone() },
            DeviceCommand::Remove { device } => Verb::DeviceRemove { device: device.parse().map_err(anyhow::Error::msg)? },
        },
        Command::Audit { command } => return audit_command::run(command, cli.json, &settings.console_socket()).await,
        Command::Levels { command } => {
            let (answer, text) = levels_command::run(command, &settings.console_socket()).await?;
            return Ok(say(cli.json, &answer, &text));
        }
        Command::Pause { assistant } => Verb::Pause { assistant: assistant.clone() },
        Command::Resume { assistant } => Verb::Resume { assistant: assistant.clone() },
        Command::Hosts { command } => {
            let answer = console::say(&settings.console_socket(), &Verb::Hosts { what: command.verb() }).await?;
            let text = hosts_text(command, &answer);
            return Ok(say(cli.json, &answer, &text));
        }
        Command::Vault { command } => return vault_command::run(command, cli.json, &settings.console_socket()).await,
    };
    let answer = console::say(&settings.console_socket(), &verb).await?;
    let text = match (
        answer["link"].as_str().or(answer["code"].as_str().filter(|_| answer["ok"] == true)),
        answer["message"].as_str(),
        answer["providers"].as_array(),
        answer["persons"].as_array(),
    ) {
        (Some(link), ..) => link.to_owned(),
        (_, Some(message), ..) => message.to_owned(),
        (_, _, Some(providers), _) => providers_table(providers),
        (.., Some(persons)) => persons_table(persons, &answer),
        _ if answer["canaries"]["surfaces"].is_object() && answer["host_id"].is_null() => canaries_table(&answer),
        _ => serde_json::to_string_pretty(&answer)?,
    };
    Ok(say(cli.json, &answer, &text))
}

impl HostsCommand {
    fn verb(&self) -> HostsVerb {
        match self {
            HostsCommand::List => HostsVerb::List {},
            HostsCommand::Allow { host, reach, tunnel, tcp } => HostsVerb::Allow {
                host: host.clone(),
                reach: Reach::parse(reach).unwrap_or_default(),
                manner: if *tunnel {
                    Manner::Tunnel
                } else if *tcp {
                    Manner::Tcp
                } else {
                    Manner::Inspect
                },
            },
            HostsCommand::Remove { host } => HostsVerb::Remove { host: host.clone() },
        }
    }
}

fn hosts_text(command: &HostsCommand, answer: &Value) -> String {
    if let Some(message) = answer["message"].as_str() {
        return message.to_owned();
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let line = |line: &Value, by: &str| format!("{:<40} {:<6} {:<8} {by}\n", text(&line["name"]), text(&line["reach"]), text(&line["manner"]));
    match command {
        HostsCommand::List => {
            let rows = |name: &str| answer[name].as_array().cloned().unwrap_or_default();
            let own = rows("hosts").iter().map(|row| line(row, &text(&row["added_by"]))).collect::<String>();
            let all = own + &rows("of_the_bundle").iter().map(|row| line(row, "bundle")).collect::<String>();
            if all.is_empty() { "no host is allowed".to_owned() } else { all.trim_end().to_owned() }
        }
        HostsCommand::Allow { .. } => format!("allowed: {}", line(&answer["host"], "").trim_end()),
        HostsCommand::Remove { .. } => format!("removed: {}", text(&answer["host"])),
    }
}

fn persons_table(persons: &[Value], answer: &Value) -> String {
    let of = |row: &Value, field: &str| row[field].as_str().unwrap_or("-").to_owned();
    let rows = |list: &str| answer[list].as_array().cloned().unwrap_or_default();
    let mut text = format!("{:<24} {:<9} {:<20} {:<8} DEVICE", "PERSON", "ROLE", "DEVICE NAME", "KIND");
    for person in persons {
        let own = |row: &Value| row["person"] == person["id"];
        let (devices, resets) = (rows("devices"), rows("resets"));
        let note = if resets.iter().any(own) { "a reset is announced" } else { "no device" };
        let mut mine = devices.iter().filter(|device| own(device)).peekable();
        // A string takes every write.
        if mine.peek().is_none() {
            let _ = write!(text, "\n{:<24} {:<9} {note}", of(person, "name"), of(person, "role"));
        }
        for device in mine {
            let _ = write!(
                text,
                "\n{:<24} {:<9} {:<20} {:<8} {}",
                of(person, "name"),
                of(person, "role"),
                of(device, "name"),
                of(device, "kind"),
                of(device, "id")
            );
        }
    }
    text
}

fn providers_table(providers: &[Value]) -> String {
    let mut text = format!("{:<16} {:<22} {:<9} {:<20} {:<24} KEY", "PROVIDER", "DIALECT", "STATE", "LAST ERROR", "");
    for provider in providers {
        let of = |field: &str| provider[field].as_str().unwrap_or("-").to_owned();
        let note = if provider["disabled"] == true { "disabled by the company" } else { "" };
        let key = &provider["key"];
        let key = format!("{} {}", key["fingerprint"].as_str().unwrap_or("-"), key["source"].as_str().unwrap_or_default());
        // A string takes every write.
        let _ = write!(text, "\n{:<16} {:<22} {:<9} {:<20} {note:<24} {}", of("name"), of("dialect"), of("state"), of("last_error_class"), key.trim_end());
    }
    text
}

fn canaries_table(answer: &Value) -> String {
    let surfaces = answer["canaries"]["surfaces"].as_object().into_iter().flatten();
    let rows: String = surfaces.map(|(surface, outcome)| format!("{surface:<16} {}\n", outcome.as_str().unwrap_or("-"))).collect();
    let state = answer["gateway"]["state"].as_str().unwrap_or_default();
    if rows.is_empty() { format!("no canary has come back since OpenClaw started; the gateway is {state}") } else { format!("{rows}the gateway is {state}") }
}

/// Calls of one answer of the console.
const PAGE: u32 = 50;

async fn policy(command: &PolicyCommand, settings: &Settings) -> anyhow::Result<Said> {
    let clock = Clock::system();
    let PolicyCommand::Replay { bundle, last } = command else { return command.alone(&clock).context("this command needs no agent")? };
    let socket = settings.console_socket();
    let status = console::say(&socket, &Verb::Status {}).await?;
    let tenant = status["tenant_id"].as_str().context("the agent does not say whose it is")?;
    let mut trial = Trial::of(bundle, tenant, &settings.policy, &clock)?.choosing(levels_command::choices(&socket).await?);
    let mut before = i64::MAX;
    while trial.calls() < *last {
        let answer = console::say(&socket, &Verb::DecidedCalls { before, limit: PAGE.min(last - trial.calls()) }).await?;
        let calls: Vec<Decided> = serde_json::from_value(answer["calls"].clone()).context("the agent's calls are unreadable")?;
        let Some(oldest) = calls.last() else { break };
        before = oldest.n;
        calls.iter().for_each(|call| trial.on(call));
    }
    Ok(trial.said())
}

fn plan(cli: &Cli, settings: &Settings, binary: Option<&Path>) -> anyhow::Result<Plan> {
    let this = std::env::current_exe().context("finding this binary")?;
    Plan::of(settings, binary.unwrap_or(&this), &std::path::absolute(&cli.config)?)
}

async fn verdict(cli: &Cli, settings: &Settings) -> anyhow::Result<Verdict> {
    let Some(doctor) = &settings.doctor else { return Ok(Verdict::open()) };
    if own_uid() != 0 {
        return network::ask(doctor).await;
    }
    network::examine(plan(cli, settings, None)?, &Clock::system()).await
}

fn told(verdict: &Verdict) -> String {
    if !verdict.closed {
        return "this host is not meant to be closed (`closed = false`): OpenClaw reaches whatever its user reaches".to_owned();
    }
    let rows = verdict.laws.iter().map(|law| match law.ok {
        true => format!("OK      {}\n", law.name),
        false => format!("BROKEN  {}: {}\n        remedy: {}\n", law.name, law.found, law.remedy),
    });
    rows.collect::<String>() + if verdict.ok { "OpenClaw's network is closed" } else { "OpenClaw's network is not closed: no model call passes" }
}

async fn run(mut settings: Settings) -> anyhow::Result<ExitCode> {
    if settings.hands.is_none() {
        settings.nest = Nest::take();
    }
    let stop = Stop::default();
    stop.on_signals()?;
    let agent = Agent::start(settings, Clock::system(), stop.clone()).await?;
    service::ready::tell();
    stop.stopped().await;
    tracing::info!("stopping");
    agent.stopped().await;
    Ok(ExitCode::SUCCESS)
}

fn from_stdin(what: &str) -> anyhow::Result<SecretString> {
    let mut text = String::new();
    std::io::stdin().take(INPUT_BYTES_MAX + 1).read_to_string(&mut text).with_context(|| format!("reading {what} from standard input"))?;
    anyhow::ensure!(text.len() as u64 <= INPUT_BYTES_MAX, "{what} on standard input is larger than {INPUT_BYTES_MAX} bytes");
    anyhow::ensure!(!text.trim().is_empty(), "{what} must come on standard input");
    Ok(SecretString::new(text))
}

fn say(json: bool, facts: &Value, text: &str) -> ExitCode {
    if facts.is_null() {
        return ExitCode::SUCCESS;
    }
    // Whoever reads may have gone, as `head` does.
    let _ = writeln!(std::io::stdout(), "{}", if json { facts.to_string() } else { text.to_owned() });
    if facts["ok"] == true { ExitCode::SUCCESS } else { ExitCode::from(EXIT_REFUSED) }
}

fn fail(cli: &Cli, code: u8, error: &anyhow::Error) -> ExitCode {
    let message = log::masked(&format!("{error:#}"));
    if cli.json {
        println!("{}", serde_json::json!({ "ok": false, "code": "failed", "message": message }));
    } else {
        eprintln!("tenant-agent: {message}");
    }
    ExitCode::from(code)
}
