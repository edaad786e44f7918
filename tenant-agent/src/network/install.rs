//! `tenant-agent install` and `uninstall`: what they change, said beforehand; done whole or not at all.
//!
//! Only files that say they are ours are written over or removed. A step that fails takes back every step before it.

use super::plan::{self, File, HEADER, IP, NFT, NSENTER, Plan};
use crate::gateway::openclaw::PACKAGED_PLUGIN;
use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What becomes of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    Write,
    Rewrite,
    Keep,
    Remove,
}

impl Deed {
    fn name(self) -> &'static str {
        match self {
            Deed::Write => "write",
            Deed::Rewrite => "rewrite",
            Deed::Keep => "keep",
            Deed::Remove => "remove",
        }
    }
}

/// What is done, and how it is taken back.
struct Step {
    does: &'static [&'static str],
    undoes: &'static [&'static str],
}

const UNITS: [&str; 5] = ["gatehouse-network.service", "gatehouse-doctor.socket", "gatehouse-hands.socket", "tenant-agent.service", "openclaw.service"];

/// After the files lie there. Users and folders stay when a later step fails: they let nobody in.
const STEPS: &[Step] = &[
    Step { does: &["systemd-sysusers", "/etc/sysusers.d/gatehouse.conf"], undoes: &[] },
    Step { does: &["systemd-tmpfiles", "--create", "/etc/tmpfiles.d/gatehouse.conf"], undoes: &[] },
    Step { does: &["systemctl", "daemon-reload"], undoes: &[] },
    Step {
        does: &["systemctl", "enable", "--quiet", UNITS[0], UNITS[1], UNITS[2], UNITS[3], UNITS[4]],
        undoes: &["systemctl", "disable", "--quiet", UNITS[0], UNITS[1], UNITS[2], UNITS[3], UNITS[4]],
    },
    // What runs already takes what is new; the agent and OpenClaw are started when somebody has enrolled the host.
    Step { does: RESTART, undoes: &["systemctl", "stop", UNITS[0], UNITS[1], UNITS[2]] },
    Step { does: &["systemctl", "try-restart", UNITS[3], UNITS[4]], undoes: &[] },
];

const RESTART: &[&str] = &["systemctl", "restart", UNITS[0], UNITS[1], UNITS[2]];
/// Before the files go.
const STOP: &[&str] = &["systemctl", "disable", "--now", "--quiet", UNITS[4], UNITS[3], UNITS[2], UNITS[1], UNITS[0]];
const RELOAD: &[&str] = &["systemctl", "daemon-reload"];
/// The rules outside stay in force until the machine starts anew, or this.
const CLEAR: &[&str] = &[NFT, "delete", "table", "inet", "gatehouse_outside"];

/// What is said about a change, whole or beforehand.
pub struct Report {
    pub facts: Value,
    pub text: String,
}

/// Changes under `root`: `/` is this machine, whose units are started; any other is a folder that becomes a machine's.
pub fn install(plan: &Plan, root: &Path, dry_run: bool) -> anyhow::Result<Report> {
    let files = plan.files()?;
    let changes = survey(&files, root)?;
    let is_here = root == Path::new("/");
    if is_here && !dry_run {
        ready(plan)?;
    }
    let changed = changes.iter().any(|(_, deed)| *deed != Deed::Keep);
    let steps: Vec<&[&str]> = if is_here && changed { STEPS.iter().map(|step| step.does).collect() } else { Vec::new() };
    let report = report(&changes, &steps, dry_run);
    if dry_run || !changed {
        return Ok(report);
    }
    let is_fresh = changes.iter().all(|(_, deed)| *deed == Deed::Write);
    let mut undo = Undo::default();
    let outcome = write(&files, &changes, root, &mut undo).and_then(|()| if is_here { perform(STEPS, is_fresh, &mut undo) } else { Ok(()) });
    match outcome {
        Ok(()) => Ok(report),
        Err(error) => {
            undo.all();
            if is_here {
                let _ = run(RELOAD);
            }
            if is_here {
                // What was there before an update goes on with the rules of then; a first try leaves none.
                let _ = run(if is_fresh { CLEAR } else { RESTART });
            }
            Err(error.context("nothing was installed: what had been done was taken back"))
        }
    }
}

/// Takes away what `install` wrote. Users, state and the configuration stay.
pub fn uninstall(root: &Path, dry_run: bool) -> anyhow::Result<Report> {
    let mut changes = Vec::new();
    for path in plan::paths().into_iter().rev() {
        if ours(root, &path)?.is_some() {
            changes.push((path, Deed::Remove));
        }
    }
    let is_here = root == Path::new("/") && !changes.is_empty();
    let steps: &[&[&str]] = if is_here { &[STOP, RELOAD, CLEAR] } else { &[] };
    let report = report(&changes, steps, dry_run);
    if dry_run {
        return Ok(report);
    }
    if is_here {
        run(STOP)?;
    }
    for (path, _) in &changes {
        let at = below(root, path);
        fs::remove_file(&at).with_context(|| format!("`{}` cannot be removed", at.display()))?;
    }
    if is_here {
        run(RELOAD)?;
        // It may be gone already.
        let _ = run(CLEAR);
    }
    Ok(report)
}

/// Everything that is missing, at once.
fn ready(plan: &Plan) -> anyhow::Result<()> {
    ensure!(crate::settings::own_uid() == 0, "only root may set this up: run it with sudo, or with --dry-run to see what it would do");
    ensure!(Path::new("/run/systemd/system").is_dir(), "this machine was not started by systemd; --root writes the files without starting anything");
    let needed = [(IP, "apt-get install iproute2"), (NFT, "apt-get install nftables"), (NSENTER, "apt-get install util-linux")];
    let tools = needed.iter().map(|(path, remedy)| (Path::new(*path), *remedy));
    let own = [(plan.node.as_path(), "set `gateway.node`"), (plan.openclaw.as_path(), "set `gateway.openclaw`")];
    let missing: Vec<String> =
        tools.chain(own).filter(|(path, _)| !path.is_file()).map(|(path, remedy)| format!("  `{}` is missing: {remedy}", path.display())).collect();
    ensure!(missing.is_empty(), "this machine is not ready:\n{}", missing.join("\n"));
    Ok(())
}

fn survey(files: &[File], root: &Path) -> anyhow::Result<Vec<(PathBuf, Deed)>> {
    files
        .iter()
        .map(|file| {
            let deed = match ours(root, &file.path)? {
                None => Deed::Write,
                Some(text) if text == file.text => Deed::Keep,
                Some(_) => Deed::Rewrite,
            };
            Ok((file.path.clone(), deed))
        })
        .collect()
}

/// The text of a file that is ours; one that somebody else wrote is nobody's to touch.
fn ours(root: &Path, path: &Path) -> anyhow::Result<Option<String>> {
    let at = below(root, path);
    match fs::read_to_string(&at) {
        Ok(text) if text.contains(HEADER) || path.starts_with(PACKAGED_PLUGIN) => Ok(Some(text)),
        Ok(_) => bail!("`{}` is there and was not written by `tenant-agent install`: move it away first", at.display()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("`{}` cannot be read", at.display())),
    }
}

fn below(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

/// What takes back what was done, the last first.
#[derive(Default)]
struct Undo(Vec<Back>);

enum Back {
    /// A file as it was; `None`: there was none.
    File {
        at: PathBuf,
        before: Option<String>,
    },
    Folder(PathBuf),
    Command(&'static [&'static str]),
}

impl Undo {
    fn all(self) {
        for back in self.0.into_iter().rev() {
            let outcome = match &back {
                Back::File { at, before: Some(text) } => replace(at, text),
                Back::File { at, before: None } => fs::remove_file(at).map_err(Into::into),
                // Somebody may have put something there.
                Back::Folder(at) => fs::remove_dir(at).map_err(Into::into),
                Back::Command(command) => run(command),
            };
            if let Err(error) = outcome {
                tracing::warn!(error = format!("{error:#}"), "a step could not be taken back");
            }
        }
    }
}

fn write(files: &[File], changes: &[(PathBuf, Deed)], root: &Path, undo: &mut Undo) -> anyhow::Result<()> {
    for (file, (_, deed)) in files.iter().zip(changes) {
        if *deed == Deed::Keep {
            continue;
        }
        let at = below(root, &file.path);
        folders(at.parent().unwrap_or(root), undo)?;
        let before = fs::read_to_string(&at).ok();
        replace(&at, &file.text)?;
        undo.0.push(Back::File { at, before });
    }
    Ok(())
}

fn folders(folder: &Path, undo: &mut Undo) -> anyhow::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    if let Some(above) = folder.parent() {
        folders(above, undo)?;
    }
    let made = fs::create_dir(folder).and_then(|()| fs::set_permissions(folder, fs::Permissions::from_mode(0o755)));
    made.with_context(|| format!("the folder `{}` cannot be made", folder.display()))?;
    undo.0.push(Back::Folder(folder.to_owned()));
    Ok(())
}

/// Beside its place first, so that a crash leaves the old or the new one.
fn replace(at: &Path, text: &str) -> anyhow::Result<()> {
    let failed = || format!("`{}` cannot be written", at.display());
    let mut name = at.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let beside = at.with_file_name(name);
    let _ = fs::remove_file(&beside);
    let mut file = fs::OpenOptions::new().write(true).create_new(true).open(&beside).with_context(failed)?;
    // Whatever the mask of whoever runs this: nothing here is a secret, and services read it.
    file.set_permissions(fs::Permissions::from_mode(0o644)).with_context(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).with_context(failed)?;
    fs::rename(&beside, at).with_context(failed)
}

/// What was there before an update goes on, so only what a first installation did is taken back.
fn perform(steps: &'static [Step], is_fresh: bool, undo: &mut Undo) -> anyhow::Result<()> {
    for step in steps {
        run(step.does)?;
        if is_fresh && !step.undoes.is_empty() {
            undo.0.push(Back::Command(step.undoes));
        }
    }
    Ok(())
}

fn run(command: &[&str]) -> anyhow::Result<()> {
    let (program, arguments) = command.split_first().context("a command has a name")?;
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().with_context(|| format!("`{program}` cannot be started"))?;
    let last = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    ensure!(output.status.success(), "`{}` failed: {last}", command.join(" "));
    Ok(())
}

fn report(changes: &[(PathBuf, Deed)], steps: &[&[&str]], dry_run: bool) -> Report {
    let changed = changes.iter().any(|(_, deed)| *deed != Deed::Keep);
    let rows = changes.iter().map(|(path, deed)| (deed.name(), path.display().to_string()));
    let all: Vec<(&str, String)> = rows.chain(steps.iter().map(|step| ("run", step.join(" ")))).collect();
    let table: Vec<String> = all.iter().map(|(deed, what)| format!("{deed:<8} {what}")).collect();
    let end = match (dry_run, changed) {
        (_, false) => "nothing to change",
        (true, true) => "nothing was changed: this was a dry run",
        (false, true) => "done",
    };
    let rows: Vec<Value> = all.iter().map(|(deed, what)| json!({ "deed": deed, "what": what })).collect();
    Report { facts: json!({ "ok": true, "changed": changed && !dry_run, "changes": rows }), text: format!("{}\n{end}", table.join("\n")) }
}

#[cfg(test)]
mod tests {
    use super::super::plan::tests::plan;
    use super::*;

    #[test]
    fn it_is_written_once_brought_up_to_date_and_taken_away() {
        let root = folder();
        let dry = install(&plan(), &root, true).unwrap();
        assert_eq!((dry.facts["changed"].as_bool(), fs::read_dir(&root).unwrap().count()), (Some(false), 0), "a dry run writes nothing");
        assert!(dry.text.contains("write    /etc/systemd/system/openclaw.service"), "{}", dry.text);
        assert_eq!(install(&plan(), &root, false).unwrap().facts["changed"], true);
        for file in plan().files().unwrap() {
            assert_eq!(fs::read_to_string(below(&root, &file.path)).unwrap(), file.text);
        }
        assert!(install(&plan(), &root, false).unwrap().text.ends_with("nothing to change"));
        let moved = Plan { agent_ports: vec![8500], ..plan() };
        let said = install(&moved, &root, false).unwrap().text;
        assert!(said.contains("rewrite  /etc/gatehouse/network/inside.nft") && said.contains("keep     /etc/gatehouse/network/resolv.conf"), "{said}");
        assert!(uninstall(&root, true).unwrap().text.contains("remove   /etc/systemd/system/openclaw.service"));
        uninstall(&root, false).unwrap();
        assert!(plan::paths().iter().all(|path| !below(&root, path).exists()));
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn what_is_not_ours_is_left_alone_and_a_failed_install_leaves_nothing() {
        let root = folder();
        let foreign = below(&root, Path::new("/etc/systemd/system/openclaw.service"));
        fs::create_dir_all(foreign.parent().unwrap()).unwrap();
        fs::write(&foreign, "[Service]\n").unwrap();
        assert!(install(&plan(), &root, false).is_err() && uninstall(&root, false).is_err());
        assert!(!below(&root, Path::new("/etc/sysusers.d")).exists(), "nothing was begun");
        fs::remove_file(&foreign).unwrap();

        // The last file cannot be written: a folder lies where it is made.
        install(&plan(), &root, false).unwrap();
        let before = fs::read_to_string(below(&root, Path::new("/etc/gatehouse/network/inside.nft"))).unwrap();
        fs::remove_file(&foreign).unwrap();
        fs::create_dir_all(foreign.with_file_name("openclaw.service.new/x")).unwrap();
        let moved = Plan { agent_ports: vec![8500], ..plan() };
        assert!(install(&moved, &root, false).is_err());
        assert_eq!(fs::read_to_string(below(&root, Path::new("/etc/gatehouse/network/inside.nft"))).unwrap(), before, "taken back");
        fs::remove_dir_all(foreign.with_file_name("openclaw.service.new")).unwrap();
        uninstall(&root, false).unwrap();
        fs::remove_dir_all(&root).unwrap();

        // And from nothing it leaves nothing.
        fs::create_dir_all(foreign.with_file_name("openclaw.service.new/x")).unwrap();
        assert!(install(&plan(), &root, false).is_err());
        assert!(!below(&root, Path::new("/etc/gatehouse")).exists());
        fs::remove_dir_all(root).unwrap();
    }

    fn folder() -> PathBuf {
        let folder = std::env::temp_dir().join(service::random::token());
        fs::create_dir(&folder).unwrap();
        folder
    }
}
