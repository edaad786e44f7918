//! `tenant-agent vault …`: values come in by standard input and go out to a pipe, never through the command line.
//!
//! Nothing here prompts, and a terminal is shown a secret only when it is told to with `--reveal`.

use crate::say;
use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use service::{SecretString, config};
use std::fmt::Write as _;
use std::io::{IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tenant_agent::console::{self, VaultVerb, Verb};
use tenant_agent::redaction;
use tenant_agent::vault::{Allowed, Bindings, Format, IMPORT_BYTES_MAX, Put, Restore, VALUE_BYTES_MAX, VaultError};
use zeroize::Zeroizing;

#[derive(Subcommand)]
pub enum VaultCommand {
    /// Keep a value under a name. The value is read from standard input; a newline at its end is not part of it.
    Set {
        /// a-z, 0-9, dot, dash, underscore. A provider's key is `provider.NAME`.
        name: String,
        #[command(flatten)]
        value: ValueFlags,
    },
    /// Put a new value in the place of the current one, which is looked for in texts for 30 days more.
    Rotate {
        name: String,
        #[command(flatten)]
        value: ValueFlags,
        /// Make the value of this earlier version the current one again; nothing is read. `history` names them.
        #[arg(long, conflicts_with_all = ["short", "common", "base64"])]
        back_to: Option<i64>,
    },
    /// Write a value to standard output, for another program. The audit keeps that it was asked for.
    Get {
        name: String,
        /// Show it although standard output is a terminal.
        #[arg(long)]
        reveal: bool,
        /// Write `export NAME='value'` for a shell's eval. Refused on a terminal.
        #[arg(long, conflicts_with = "reveal")]
        emit_env: bool,
        /// The variable's name, instead of the secret's in capitals.
        #[arg(long, requires = "emit_env")]
        variable: Option<String>,
    },
    /// Every secret: version, age, masked, fingerprint, what it is bound to. Never a value.
    List {
        /// Those too that were taken back.
        #[arg(long)]
        all: bool,
    },
    /// Print the fingerprint of a secret: the same for the same value, in this vault only.
    ShowFingerprint { name: String },
    /// Every version of a secret: state, fingerprint, times.
    History { name: String },
    /// Let a secret go to a tool or a host.
    Bind {
        name: String,
        #[command(flatten)]
        bindings: BindingFlags,
    },
    /// Take a binding away.
    Unbind {
        name: String,
        #[command(flatten)]
        bindings: BindingFlags,
    },
    /// Take a secret back: nothing gets it any more. It is looked for in texts for 30 days more, then wiped.
    Forget {
        name: String,
        /// Wipe it at once. From then on nothing finds it in texts that leave.
        #[arg(long)]
        now: bool,
    },
    /// Keep many secrets at once, from a `.env` file or JSON on standard input, or bring a backup back.
    Import {
        #[arg(long, value_parser = ["env", "json"], default_value = "env")]
        format: String,
        /// Put before each name, for example `shop.`
        #[arg(long, default_value = "")]
        prefix: String,
        /// Values shorter than 8 characters too.
        #[arg(long)]
        short: bool,
        /// Values that are words too.
        #[arg(long)]
        common: bool,
        /// A backup that `export` wrote. The recovery key is read from standard input.
        #[arg(long, value_name = "FILE", conflicts_with_all = ["prefix", "short", "common", "format"])]
        backup: Option<PathBuf>,
        /// With a backup: its values take the place of other ones here.
        #[arg(long, requires = "backup")]
        replace: bool,
        /// With a backup: one of another tenant.
        #[arg(long, requires = "backup")]
        other_tenant: bool,
        /// With a backup: only say what would come of it.
        #[arg(long, requires = "backup")]
        dry_run: bool,
    },
    /// Write a backup that opens only with the tenant's recovery key.
    Export {
        /// A file that does not exist yet, or `-` for standard output.
        file: PathBuf,
    },
    /// Seal the vault with a new key. Values are not touched.
    RotateKey,
    /// The key that opens backups. Only the tenant has it.
    RecoveryKey {
        #[command(subcommand)]
        command: RecoveryKeyCommand,
    },
    /// Say where a provider's key comes from: environment, credential or vault.
    Source {
        /// For example `provider.anthropic`. Left out: all that are known.
        name: Option<String>,
    },
    /// Open everything once, and say what does not open.
    Check,
    /// Say what becomes of tool calls with references, `{"id","tool","args","allowed"}` a line on standard input. Needs
    /// neither an agent nor its configuration, and writes no file.
    Resolve {
        /// The values: a file of `[{"name","secret"}]`. They are shown unless standard output is a terminal.
        #[arg(long)]
        secrets: Option<PathBuf>,
        #[arg(long, required = true)]
        jsonl: bool,
    },
}

#[derive(Subcommand)]
pub enum RecoveryKeyCommand {
    /// Draw one and print it, this once. Backups that are made from now on open with it; earlier ones with theirs.
    New {
        /// Show it although standard output is a terminal.
        #[arg(long)]
        reveal: bool,
    },
}

#[derive(Args)]
pub struct ValueFlags {
    /// Take a value shorter than 8 characters. It is not looked for in texts that leave.
    #[arg(long)]
    short: bool,
    /// Take a value that is an ordinary word or pattern.
    #[arg(long)]
    common: bool,
    /// Take bytes that are not text, and keep them as base64.
    #[arg(long)]
    base64: bool,
}

#[derive(Args)]
#[group(required = true, multiple = true)]
pub struct BindingFlags {
    /// A tool's name. May be given again.
    #[arg(long)]
    tool: Vec<String>,
    /// `api.example.org` or `*.example.org`. May be given again.
    #[arg(long)]
    host: Vec<String>,
}

/// A full vault in base64.
const BACKUP_BYTES_MAX: usize = 24 * 1024 * 1024;
const RECOVERY_KEY_BYTES_MAX: usize = 1024;
const SHOWN: &str = "pipe it into the program that needs it, or say --reveal";

pub async fn run(command: &VaultCommand, json: bool, socket: &Path) -> anyhow::Result<ExitCode> {
    match act(command, json, socket).await {
        Ok(code) => Ok(code),
        Err(VaultError::Failed(error)) => Err(error),
        Err(error) => {
            let answer = json!({ "ok": false, "code": error.code(), "message": error.to_string() });
            Ok(say(json, &answer, &error.to_string()))
        }
    }
}

async fn act(command: &VaultCommand, json: bool, socket: &Path) -> Result<ExitCode, VaultError> {
    let verb = verb(command)?;
    let answer = console::say(socket, &Verb::Vault { what: verb }).await?;
    if answer["ok"] != true {
        return Ok(say(json, &answer, answer["message"].as_str().unwrap_or_default()));
    }
    match command {
        VaultCommand::Get { name, emit_env, variable, .. } => {
            let value = answer["value"].as_str().context("the agent sent no value")?;
            let text = Zeroizing::new(match (emit_env, json) {
                (true, _) => format!("export {}='{}'\n", variable.clone().unwrap_or_else(|| shell_name(name)), value.replace('\'', "'\\''")),
                (false, true) => format!("{answer}\n"),
                (false, false) => value.to_owned(),
            });
            put_out(text.as_bytes())?;
            return Ok(ExitCode::SUCCESS);
        }
        VaultCommand::Export { file } => {
            let backup = answer["backup"].as_str().context("the agent sent no backup")?;
            if file == Path::new("-") {
                put_out(backup.as_bytes())?;
                return Ok(ExitCode::SUCCESS);
            }
            config::write_private(file, backup.as_bytes())?;
            let (count, key) = (&answer["count"], answer["recovery_key"].as_str().unwrap_or_default());
            let text = format!("{count} values in `{}`, for the recovery key {key}", file.display());
            return Ok(say(json, &json!({ "ok": true, "count": count, "recovery_key": key, "file": file }), &text));
        }
        _ => {}
    }
    Ok(say(json, &answer, &text(command, &answer)))
}

/// What the agent is asked for; what this end can refuse is refused before anything is read or sent.
fn verb(command: &VaultCommand) -> Result<VaultVerb, VaultError> {
    let on_terminal = std::io::stdout().is_terminal();
    Ok(match command {
        VaultCommand::Set { name, value } => value.verb(name, Put::Set)?,
        VaultCommand::Rotate { name, back_to: Some(version), .. } => VaultVerb::GoBack { name: name.clone(), version: *version },
        VaultCommand::Rotate { name, value, back_to: None } => value.verb(name, Put::Rotate)?,
        VaultCommand::Get { reveal: false, emit_env: false, .. } if on_terminal => return Err(VaultError::Terminal { remedy: SHOWN }),
        VaultCommand::Get { emit_env: true, .. } if on_terminal => return Err(VaultError::Terminal { remedy: "use it as eval \"$(…)\"" }),
        VaultCommand::Get { name, .. } => VaultVerb::Reveal { name: name.clone() },
        VaultCommand::List { all } => VaultVerb::List { all: *all },
        VaultCommand::ShowFingerprint { name } | VaultCommand::History { name } => VaultVerb::History { name: name.clone() },
        VaultCommand::Bind { name, bindings } => VaultVerb::Bind { name: name.clone(), bindings: bindings.read(), bound: true },
        VaultCommand::Unbind { name, bindings } => VaultVerb::Bind { name: name.clone(), bindings: bindings.read(), bound: false },
        VaultCommand::Forget { name, now } => VaultVerb::Forget { name: name.clone(), now: *now },
        VaultCommand::Import { backup: Some(file), replace, other_tenant, dry_run, .. } => {
            let how = Restore { replace: *replace, other_tenant: *other_tenant, dry_run: *dry_run };
            let opened = std::fs::File::open(file).with_context(|| format!("the backup `{}` cannot be read", file.display()))?;
            let backup = read(opened, BACKUP_BYTES_MAX)?.ok_or(VaultError::BackupMalformed)?;
            let backup = String::from_utf8(backup.to_vec()).map_err(|_| VaultError::BackupMalformed)?;
            let key = stdin("the recovery key", RECOVERY_KEY_BYTES_MAX)?.and_then(text_of).ok_or(VaultError::RecoveryKeyMalformed)?;
            VaultVerb::Restore { backup, recovery_key: key, how }
        }
        VaultCommand::Import { format, prefix, short, common, .. } => {
            let large = || VaultError::ImportMalformed { why: format!("it is larger than {IMPORT_BYTES_MAX} bytes") };
            let text = stdin("what is imported", IMPORT_BYTES_MAX)?.ok_or_else(large)?;
            let text = text_of(text).ok_or_else(|| VaultError::ImportMalformed { why: "it is not UTF-8".to_owned() })?;
            let format = if format == "json" { Format::Json } else { Format::Env };
            VaultVerb::Import { format, text, prefix: prefix.clone(), allowed: Allowed { short: *short, common: *common } }
        }
        VaultCommand::Export { file } if file != Path::new("-") && file.exists() => {
            return Err(anyhow::anyhow!("`{}` exists already: name another file, so that no backup is lost", file.display()).into());
        }
        VaultCommand::Export { .. } => VaultVerb::Export {},
        VaultCommand::RotateKey => VaultVerb::RotateKey {},
        VaultCommand::RecoveryKey { command: RecoveryKeyCommand::New { reveal } } => {
            if on_terminal && !reveal {
                return Err(VaultError::Terminal { remedy: "see that nobody looks over your shoulder and say --reveal" });
            }
            VaultVerb::NewRecoveryKey {}
        }
        VaultCommand::Source { name } => VaultVerb::Sources { name: name.clone() },
        VaultCommand::Check => VaultVerb::Check {},
        VaultCommand::Resolve { .. } => return Err(anyhow::anyhow!("this needs no agent").into()),
    })
}

impl VaultCommand {
    /// Does what needs neither an agent nor its configuration.
    pub fn alone(&self) -> Option<anyhow::Result<()>> {
        let VaultCommand::Resolve { secrets, .. } = self else { return None };
        let (input, output) = (std::io::stdin().lock(), std::io::stdout());
        let shown = !output.is_terminal();
        Some(redaction::resolve(secrets.as_deref(), shown, input, output.lock()))
    }
}

impl ValueFlags {
    fn verb(&self, name: &str, put: Put) -> Result<VaultVerb, VaultError> {
        let bytes = stdin("the value", VALUE_BYTES_MAX)?.ok_or_else(|| VaultError::ValueLarge { name: name.to_owned() })?;
        let value = if self.base64 {
            SecretString::new(STANDARD.encode(&*bytes))
        } else {
            let text = text_of(bytes).ok_or_else(|| VaultError::ValueBinary { name: name.to_owned() })?;
            // Its end is not part of it.
            SecretString::new(text.expose().trim_end_matches(['\r', '\n']).to_owned())
        };
        Ok(VaultVerb::Set { name: name.to_owned(), value, put, allowed: Allowed { short: self.short, common: self.common } })
    }
}

impl BindingFlags {
    fn read(&self) -> Bindings {
        Bindings { tools: self.tool.clone(), hosts: self.host.clone() }
    }
}

/// Standard input to its end; `None` when there is more than `max`.
fn stdin(what: &str, max: usize) -> Result<Option<Zeroizing<Vec<u8>>>, VaultError> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        return Err(anyhow::anyhow!("{what} must come on standard input, from a file or a pipe: what is typed stays on the screen").into());
    }
    Ok(read(stdin, max).with_context(|| format!("reading {what}"))?)
}

fn read(from: impl Read, max: usize) -> anyhow::Result<Option<Zeroizing<Vec<u8>>>> {
    // At once as large as it may become, so that no copy is left behind by growing.
    let mut bytes = Zeroizing::new(Vec::with_capacity(max + 1));
    from.take(max as u64 + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() <= max).then_some(bytes))
}

fn text_of(mut bytes: Zeroizing<Vec<u8>>) -> Option<SecretString> {
    String::from_utf8(std::mem::take(&mut *bytes)).ok().map(SecretString::new)
}

fn put_out(bytes: &[u8]) -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    out.write_all(bytes).and_then(|()| out.flush()).context("writing to standard output")
}

fn shell_name(name: &str) -> String {
    let plain = name.to_uppercase().replace(['.', '-'], "_");
    if plain.starts_with(|c: char| c.is_ascii_digit()) { format!("_{plain}") } else { plain }
}

/// An answer for people.
fn text(command: &VaultCommand, answer: &Value) -> String {
    let word = |key: &str| answer[key].as_str().unwrap_or_default().to_owned();
    match command {
        VaultCommand::Set { .. } | VaultCommand::Rotate { .. } => kept(answer),
        VaultCommand::List { .. } => table(answer),
        VaultCommand::ShowFingerprint { .. } => answer["versions"][0]["fingerprint"].as_str().unwrap_or_default().to_owned(),
        VaultCommand::History { .. } => history(answer),
        VaultCommand::Bind { .. } | VaultCommand::Unbind { .. } => format!("{} is bound to {}", word("name"), bound(answer)),
        VaultCommand::Forget { now: true, .. } => format!("{} is wiped; nothing finds it in texts any more", word("name")),
        VaultCommand::Forget { .. } => format!("{} is taken back; texts are searched for it for 30 days more", word("name")),
        VaultCommand::Import { backup: Some(_), dry_run, .. } => restored(answer, *dry_run),
        VaultCommand::Import { .. } => {
            let mut lines: Vec<String> = list(&answer["secrets"]).iter().map(kept).collect();
            lines.extend(list(&answer["refused"]).iter().map(|refused| format!("left out: {}", refused["message"].as_str().unwrap_or_default())));
            lines.join("\n")
        }
        VaultCommand::RotateKey => format!("the vault is sealed with the key {} now", word("key_id")),
        VaultCommand::RecoveryKey { .. } => word("recovery_key"),
        VaultCommand::Source { .. } => sources(answer),
        VaultCommand::Check => check(answer),
        VaultCommand::Get { .. } | VaultCommand::Export { .. } | VaultCommand::Resolve { .. } => String::new(),
    }
}

fn kept(secret: &Value) -> String {
    let word = |key: &str| secret[key].as_str().unwrap_or_default();
    let mut text = format!("{} {} (version {}, {}, {})", word("name"), word("outcome"), secret["version"], word("masked"), word("fingerprint"));
    for warning in list(&secret["warnings"]) {
        let _ = write!(text, "\n  {}", warning.as_str().unwrap_or_default());
    }
    text
}

fn table(answer: &Value) -> String {
    let rows: Vec<[String; 7]> = list(&answer["secrets"])
        .iter()
        .map(|secret| {
            let word = |key: &str| secret[key].as_str().unwrap_or_default().to_owned();
            let note = match (secret["broken"] == true, word("state").as_str()) {
                (true, _) => "DOES NOT OPEN".to_owned(),
                (_, "current") => bound(secret),
                (_, state) => state.to_owned(),
            };
            let rotated = secret["rotated_ms"].as_i64().map_or_else(|| "never".to_owned(), day);
            [
                word("name"),
                secret["version"].to_string(),
                age(secret["age_ms"].as_i64().unwrap_or_default()),
                word("masked"),
                word("fingerprint"),
                rotated,
                note,
            ]
        })
        .collect();
    aligned(["NAME", "VERSION", "AGE", "MASKED", "FINGERPRINT", "ROTATED", "BOUND TO"], rows)
}

fn history(answer: &Value) -> String {
    let rows = list(&answer["versions"]).iter().map(|version| {
        let (word, time) = (|key: &str| version[key].as_str().unwrap_or_default().to_owned(), |key: &str| version[key].as_i64().map(day).unwrap_or_default());
        [version["version"].to_string(), word("state"), word("fingerprint"), time("created_ms"), time("retired_ms")]
    });
    aligned(["VERSION", "STATE", "FINGERPRINT", "SINCE", "UNTIL"], rows.collect())
}

fn sources(answer: &Value) -> String {
    let rows = list(&answer["sources"]).iter().map(|source| {
        let others: Vec<&str> = list(&source["others"]).iter().filter_map(Value::as_str).collect();
        let word = |key: &str| source[key].as_str().unwrap_or_default().to_owned();
        [word("name"), source["source"].as_str().unwrap_or("none").to_owned(), others.join(", "), word("variable")]
    });
    aligned(["NAME", "SOURCE", "SHADOWED", "VARIABLE"], rows.collect())
}

fn restored(answer: &Value, dry_run: bool) -> String {
    let names = |key: &str| list(&answer[key]).iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ");
    let mut text = format!("backup of {}: {}", day(answer["made_ms"].as_i64().unwrap_or_default()), if dry_run { "it would bring" } else { "restored" });
    for (key, about) in [("added", "added"), ("replaced", "in the place of other values"), ("left", "left as they are here (--replace takes the backup's)")] {
        if !list(&answer[key]).is_empty() {
            let _ = write!(text, "\n  {about}: {}", names(key));
        }
    }
    let _ = write!(text, "\n  the same already: {}", answer["unchanged"]);
    text
}

fn check(answer: &Value) -> String {
    let broken: Vec<&str> = list(&answer["broken"]).iter().filter_map(Value::as_str).collect();
    let key = format!("key {} from `{}`", answer["key_id"].as_str().unwrap_or_default(), answer["key_path"].as_str().unwrap_or_default());
    let recovery = answer["recovery_key"].as_str().map_or_else(|| "no recovery key yet".to_owned(), |id| format!("recovery key {id}"));
    match broken.is_empty() {
        true => format!("{} values open, {key}, {recovery}", answer["values"]),
        false => format!("{} values open, these do not: {}; {key}, {recovery}", answer["values"], broken.join(", ")),
    }
}

fn bound(secret: &Value) -> String {
    let all: Vec<&str> = list(&secret["tools"]).iter().chain(list(&secret["hosts"])).filter_map(Value::as_str).collect();
    if all.is_empty() { "nothing".to_owned() } else { all.join(", ") }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn aligned<const N: usize>(head: [&str; N], rows: Vec<[String; N]>) -> String {
    let rows: Vec<[String; N]> = std::iter::once(head.map(str::to_owned)).chain(rows).collect();
    let widths: [usize; N] = std::array::from_fn(|at| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or_default());
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn age(ms: i64) -> String {
    match ms / 1000 {
        secs @ 0..120 => format!("{secs} s"),
        secs @ 120..7_200 => format!("{} min", secs / 60),
        secs @ 7_200..172_800 => format!("{} h", secs / 3600),
        secs => format!("{} d", secs / 86_400),
    }
}

/// A day of the calendar, UTC, from days since 1970.
fn day(at_ms: i64) -> String {
    let days = at_ms.div_euclid(86_400_000) + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_those_of_the_calendar() {
        for (at_ms, expected) in [
            (0, "1970-01-01"),
            (951_782_400_000, "2000-02-29"),
            (1_795_140_000_000, "2026-11-20"),
            (1_798_761_599_999, "2026-12-31"),
            (1_798_761_600_000, "2027-01-01"),
        ] {
            assert_eq!(day(at_ms), expected, "{at_ms}");
        }
    }

    #[test]
    fn a_variable_has_a_name_that_shells_take() {
        assert_eq!((shell_name("provider.open-ai").as_str(), shell_name("1password").as_str()), ("PROVIDER_OPEN_AI", "_1PASSWORD"));
    }
}
