//! The command line: `hub serve`, the commands beside a running hub, and `hub demo`.
//!
//! The commands beside it open the same store; nothing is asked of the running hub, so they work while it is down too.
//! What only a running hub knows, such as who is online, they leave out.

mod audit;
mod policy;

use crate::app::{Hub, create_tenant};
use crate::config::Config;
use crate::demo;
use crate::store::Store;
use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use serde_json::json;
use service::{Clock, Stop, log};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use wire::approval::Asks;
use wire::fleet::{TenantState, TenantView};

/// The central service: tenants report here, operators see all of them.
#[derive(Parser)]
#[command(name = "hub", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

impl Cli {
    /// The demo says its progress in its own words, an agent's ups and downs too; its log speaks up only when something is odd.
    pub fn log_level(&self) -> &'static str {
        if matches!(self.command, Command::Demo(_)) { "warn,hub::providers::local=error" } else { "info" }
    }
}

#[derive(Subcommand)]
enum Command {
    /// Run the hub until it is told to stop.
    Serve(Place),
    /// Print a one-time password for the dashboard. An earlier unused one ends.
    OperatorPassword(Place),
    /// The tenants.
    Tenant {
        #[command(subcommand)]
        command: TenantCommand,
    },
    /// Print the tenants as they last reported. Who is online only the dashboard of a running hub knows.
    Fleet(Place),
    /// The heads that the hub keeps of the hosts' audits.
    Audit {
        #[command(subcommand)]
        command: audit::AuditCommand,
    },
    /// The law that agents enforce: keys, signing, publishing.
    Policy {
        #[command(subcommand)]
        command: policy::PolicyCommand,
    },
    /// Run a hub and one customer's assistant on this machine, ready to click.
    #[command(override_usage = "cargo demo [OPTIONS]")]
    Demo(demo::Flags),
}

#[derive(Subcommand)]
enum TenantCommand {
    /// Add a tenant whose agent runs elsewhere, and print the one-time token with which that agent enrols within an hour.
    /// The token is shown this once; for a tenant that exists, a fresh one is made and an earlier unused one ends.
    Add {
        /// 1 to 40 lower-case letters, digits and inner hyphens.
        name: String,
        /// The tenant's address as browsers see it; the dashboard links there.
        #[arg(long)]
        url: String,
        #[command(flatten)]
        place: Place,
    },
    /// Print how often each rule asked the tenant's people on the last seven days, and how often they said yes. A rule that
    /// asks every day and always hears yes teaches people not to read. Numbers only: what was asked stays with the tenant.
    Asks {
        /// One tenant; all of them together without.
        name: Option<String>,
        #[command(flatten)]
        place: Place,
    },
}

#[derive(Args)]
struct Place {
    /// The configuration.
    #[arg(long, default_value = "/etc/gatehouse/hub.toml")]
    config: PathBuf,
    /// Print one line of JSON instead of text.
    #[arg(long)]
    json: bool,
}

/// sysexits: the configuration is wrong, and starting again will not help.
pub const EXIT_CONFIG: u8 = 78;
/// The hub waits more than it computes.
const WORKERS: usize = 2;
/// Store reads and password hashes.
const BLOCKING_MAX: usize = 8;

/// What ended a command, said to a person, with the exit code.
#[derive(Debug)]
pub struct Trouble {
    pub code: u8,
    pub said: String,
}

impl From<anyhow::Error> for Trouble {
    fn from(error: anyhow::Error) -> Trouble {
        Trouble { code: 1, said: format!("{error:#}") }
    }
}

pub fn run(cli: Cli) -> ExitCode {
    let json = match &cli.command {
        Command::Serve(place)
        | Command::OperatorPassword(place)
        | Command::Fleet(place)
        | Command::Tenant { command: TenantCommand::Add { place, .. } | TenantCommand::Asks { place, .. } } => place.json,
        Command::Demo(flags) => flags.json,
        Command::Policy { command } => command.is_json(),
        Command::Audit { command } => command.is_json(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).max_blocking_threads(BLOCKING_MAX).enable_all().build();
    let outcome = runtime.context("starting the runtime").map_err(Trouble::from).and_then(|runtime| runtime.block_on(act(cli.command)));
    let Trouble { code, said } = match outcome {
        Ok(code) => return code,
        Err(trouble) => trouble,
    };
    let message = log::masked(&said);
    if json {
        println!("{}", json!({ "ok": false, "code": "failed", "message": message }));
    }
    eprintln!("hub: {message}");
    ExitCode::from(code)
}

async fn act(command: Command) -> Result<ExitCode, Trouble> {
    match command {
        Command::Serve(place) => serve(place).await?,
        Command::OperatorPassword(place) => operator_password(place).await?,
        Command::Tenant { command: TenantCommand::Add { name, url, place } } => tenant_add(&name, &url, place).await?,
        Command::Tenant { command: TenantCommand::Asks { name, place } } => asks(name, place).await?,
        Command::Fleet(place) => fleet(place).await?,
        Command::Demo(flags) => demo::run(flags).await?,
        Command::Audit { command } => audit::run(command).await?,
        Command::Policy { command } => return policy::run(command).await,
    }
    Ok(ExitCode::SUCCESS)
}

async fn serve(place: Place) -> Result<(), Trouble> {
    let config = read(&place)?;
    let stop = Stop::default();
    stop.on_signals().context("listening for signals")?;
    let hub = Hub::start(config.settings(Clock::system(), stop.clone())).await?;
    let (public, operator, origin) = (hub.public_addr(), hub.operator_addr(), hub.operator_origin());
    tracing::info!(%public, %operator, origin, "the hub is ready");
    if place.json {
        println!("{}", json!({ "ok": true, "public": public, "operator": operator, "origin": origin }));
    }
    stop.stopped().await;
    tracing::info!("stopping");
    hub.stopped().await;
    Ok(())
}

async fn operator_password(place: Place) -> Result<(), Trouble> {
    let store = open(&place)?;
    let secret = crate::app::operator_password(&store).await?;
    // Showing it is what was asked for.
    say(&place, || json!({ "ok": true, "password": secret.expose() }), || secret.expose().to_owned());
    Ok(())
}

async fn tenant_add(name: &str, url: &str, place: Place) -> Result<(), Trouble> {
    if !(url.starts_with("https://") || url.starts_with("http://")) {
        return Err(Trouble { code: 2, said: format!("`{url}` is no address of a tenant: it begins with https:// or http://") });
    }
    let store = open(&place)?;
    let (tenant, token) = create_tenant(&store, name, url, &Clock::system()).await?;
    say(&place, || json!({ "ok": true, "tenant_id": tenant, "name": name, "url": url, "token": token }), || token.clone());
    Ok(())
}

async fn asks(name: Option<String>, place: Place) -> Result<(), Trouble> {
    let store = open(&place)?;
    let view = store.view(Clock::system().wall_ms()).await.context("reading the fleet")?;
    let of: Vec<&TenantView> = view.iter().filter(|tenant| name.as_ref().is_none_or(|name| tenant.name == *name)).collect();
    if let (Some(name), true) = (&name, of.is_empty()) {
        return Err(Trouble { code: 1, said: format!("no tenant is called `{name}`; `hub fleet` lists them") });
    }
    let mut rows: BTreeMap<&str, Asks> = BTreeMap::new();
    for asks in of.iter().flat_map(|tenant| &tenant.asks) {
        let sum = rows.entry(&asks.rule).or_insert_with(|| Asks { rule: asks.rule.clone(), days: vec![0; Asks::DAYS], yes: 0, no: 0 });
        sum.days.iter_mut().zip(&asks.days).for_each(|(sum, day)| *sum += day);
        (sum.yes, sum.no) = (sum.yes + asks.yes, sum.no + asks.no);
    }
    let mut rows: Vec<Asks> = rows.into_values().collect();
    rows.sort_by_key(|asks| std::cmp::Reverse(asks.total()));
    say(&place, || json!({ "ok": true, "asks": rows }), || asks_table(&rows));
    Ok(())
}

fn asks_table(rows: &[Asks]) -> String {
    if rows.is_empty() {
        return "nobody was asked anything on the last seven days".to_owned();
    }
    let mut text = format!("{:<32} {:<34} {:>6} {:>6} {:>6}", "RULE", "SEVEN DAYS, TODAY LAST", "ALL", "YES", "NO");
    for asks in rows {
        let days = asks.days.iter().map(|day| format!("{day:>4}")).collect::<Vec<_>>().join(" ");
        // A string takes every write.
        let _ = write!(text, "\n{:<32} {days:<34} {:>6} {:>6} {:>6}", asks.rule, asks.total(), asks.yes, asks.no);
    }
    text
}

async fn fleet(place: Place) -> Result<(), Trouble> {
    let store = open(&place)?;
    let now_ms = Clock::system().wall_ms();
    let mut tenants = Vec::new();
    for tenant in store.view(now_ms).await.context("reading the fleet")? {
        let is_enrolled = store.enrolled(tenant.id).await.context("reading the fleet")?;
        tenants.push((state(&tenant, is_enrolled), tenant));
    }
    let as_json = || {
        let without_presence = |(state, tenant): &(String, TenantView)| {
            let mut value = json!(tenant);
            value["state"] = json!(state);
            value.as_object_mut().map(|fields| fields.remove("presence"));
            value
        };
        json!({ "ok": true, "now_ms": now_ms, "tenants": tenants.iter().map(without_presence).collect::<Vec<_>>() })
    };
    say(&place, as_json, || table(&tenants, now_ms));
    Ok(())
}

/// A tenant elsewhere has no steps that could be open, so the store calls it ready from the start.
fn state(tenant: &TenantView, is_enrolled: bool) -> String {
    if tenant.state == TenantState::Ready && !is_enrolled { "not_enrolled".to_owned() } else { word(tenant.state) }
}

/// The configuration, or the exit code that tells a supervisor not to try again.
fn read(place: &Place) -> Result<Config, Trouble> {
    Config::read(&place.config).map_err(|error| Trouble { code: EXIT_CONFIG, said: format!("{error:#}") })
}

fn open(place: &Place) -> Result<Store, Trouble> {
    let config = read(place)?;
    if !config.state_folder.join("hub.db").is_file() {
        let folder = config.state_folder.display();
        return Err(Trouble { code: EXIT_CONFIG, said: format!("there is no hub in `{folder}` yet: has `hub serve` been run with this configuration?") });
    }
    Ok(Store::open(&config.state_folder)?)
}

fn say(place: &Place, facts: impl FnOnce() -> serde_json::Value, text: impl FnOnce() -> String) {
    println!("{}", if place.json { facts().to_string() } else { text() });
}

fn table(tenants: &[(String, TenantView)], now_ms: i64) -> String {
    let mut text = format!("{:<24} {:<14} {:<10} {:>9} {:>7} {:>10}  {}", "TENANT", "STATE", "GATEWAY", "LAST SEEN", "CALLS", "TOKENS", "ADDRESS");
    for (state, tenant) in tenants {
        let usage = &tenant.usage_today.counters;
        let seen = tenant.last_seen_ms.map_or("never".to_owned(), |seen_ms| ago(now_ms - seen_ms));
        let (state, gateway) = (state.replace('_', " "), word(tenant.gateway.state));
        // A string takes every write.
        let _ = write!(
            text,
            "\n{:<24} {state:<14} {gateway:<10} {seen:>9} {:>7} {:>10}  {}",
            tenant.name,
            usage.calls,
            usage.input_tokens + usage.output_tokens,
            tenant.url
        );
    }
    text
}

fn word(value: impl serde::Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

fn ago(ms: i64) -> String {
    match ms.max(0) / 1_000 {
        secs @ 0..60 => format!("{secs} s"),
        secs @ 60..3_600 => format!("{} min", secs / 60),
        secs @ 3_600..172_800 => format!("{} h", secs / 3_600),
        secs => format!("{} d", secs / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
        for line in [
            "hub serve",
            "hub operator-password --json --config /x",
            "hub tenant add alice --url https://a.example",
            "hub fleet --json",
            "hub demo --port 0 --fresh",
            "hub policy keygen /k --json",
            "hub policy sign /p --key /k --key /l --key-document /d --out /b.json",
            "hub policy verify /b.json --fleet acme --root aa --root bb",
            "hub policy diff /a /b --json",
            "hub policy publish /b.json --config /x",
            "hub policy show",
            "hub audit anchors alice",
            "hub audit accept alice --json",
        ] {
            assert!(Cli::try_parse_from(line.split(' ')).is_ok(), "{line}");
        }
        for line in [
            "hub",
            "hub tenant add alice",
            "hub serve --port 1",
            "hub demo --port 70000",
            "hub demo --provider other",
            "hub policy sign /p",
            "hub policy verify /b --fleet x",
        ] {
            assert!(Cli::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }

    #[test]
    fn the_demos_usage_names_what_people_type() {
        for line in ["hub demo --help", "hub demo --bogus", "hub demo --port x"] {
            let said = Cli::try_parse_from(line.split(' ')).err().unwrap().to_string();
            assert!(!said.contains("--openclaw <FILE>") && !said.contains("hub demo"), "{line}: {said}");
            assert_eq!(said.contains("cargo demo [OPTIONS]"), line != "hub demo --port x", "{line}: {said}");
        }
    }

    #[tokio::test]
    async fn a_tenant_that_never_enrolled_is_not_called_ready() {
        let folder = std::env::temp_dir().join(format!("gatehouse-fleet-{}", service::random::token()));
        let store = Store::open(&folder).unwrap();
        create_tenant(&store, "alice", "https://a.example", &Clock::system()).await.unwrap();
        let tenant = store.view(0).await.unwrap().remove(0);
        assert!(!store.enrolled(tenant.id).await.unwrap());
        assert_eq!((state(&tenant, false), state(&tenant, true)), ("not_enrolled".to_owned(), "ready".to_owned()));
        let table = table(&[(state(&tenant, false), tenant)], 0);
        assert!(table.contains("not enrolled") && !table.contains("ready"), "{table}");
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn time_is_told_roughly() {
        for (ms, expected) in [(-5, "0 s"), (59_999, "59 s"), (60_000, "1 min"), (3_600_000, "1 h"), (172_799_000, "47 h"), (172_800_000, "2 d")] {
            assert_eq!(ago(ms), expected);
        }
    }
}
