//! A control group for each command, where the system has given us a part of its tree: limits for all of its processes
//! together, and an end that none of them escapes.
//!
//! It is taken only where it was handed over: a unit of systemd with `Delegate=yes`, or a user's own part. Elsewhere
//! commands have the limits of their processes alone, and what leaves the process group is not found again.

use anyhow::{Context, ensure};
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Where the tree is.
const MOUNT: &str = "/sys/fs/cgroup";
/// Where the agent itself goes: a group with limits below it has no processes of its own.
const AGENT: &str = "agent";
const CALL: &str = "call-";
/// As much as the unit has that does the work on an installed host.
const LIMITS: [(&str, &str); 4] = [("memory.max", "1073741824"), ("memory.oom.group", "1"), ("pids.max", "256"), ("cpu.weight", "20")];
const CONTROLLERS: [&str; 3] = ["memory", "pids", "cpu"];
/// Groups that are looked at when a new one is made.
const SWEPT_MAX: usize = 256;
const GROUP_LINE_BYTES_MAX: usize = 4096;

/// Our part of the tree.
#[derive(Clone, Debug)]
pub struct Nest {
    root: PathBuf,
}

/// The group of one command. What is in it ends with it.
pub struct Cell {
    folder: PathBuf,
    door: OwnedFd,
}

impl Nest {
    /// Moves this process aside, into a group of its own. `None`: nothing was handed over.
    pub fn take() -> Option<Nest> {
        let line = fs::read_to_string("/proc/self/cgroup").ok()?;
        let own = line.lines().find_map(|line| line.strip_prefix("0::/")).filter(|own| own.len() <= GROUP_LINE_BYTES_MAX)?;
        let own = Path::new(MOUNT).join(own);
        match Nest::at(&own) {
            Ok(nest) => nest,
            Err(error) => {
                tracing::warn!(error = format!("{error:#}"), "commands get no control group of their own");
                None
            }
        }
    }

    fn at(own: &Path) -> anyhow::Result<Option<Nest>> {
        // Started by whoever knows that we want it, or started once more.
        if own.file_name().is_some_and(|name| name == AGENT) && own.parent().is_some_and(is_handed_over) {
            return Ok(own.parent().map(Nest::ready));
        }
        if !is_handed_over(own) {
            return Ok(None);
        }
        let aside = own.join(AGENT);
        match fs::create_dir(&aside) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error).context("making a group for this process"),
            _ => fs::write(aside.join("cgroup.procs"), std::process::id().to_string()).context("moving this process aside")?,
        }
        Ok(Some(Nest::ready(own)))
    }

    fn ready(root: &Path) -> Nest {
        for controller in CONTROLLERS {
            // One that is not there, or not for us, sets no limit.
            let _ = fs::write(root.join("cgroup.subtree_control"), format!("+{controller}"));
        }
        let nest = Nest { root: root.to_owned() };
        let enabled = fs::read_to_string(root.join("cgroup.subtree_control")).unwrap_or_default();
        tracing::info!(limits = enabled.trim(), "each command gets a control group of its own");
        nest
    }

    pub fn cell(&self) -> anyhow::Result<Cell> {
        self.sweep();
        let folder = self.root.join(format!("{CALL}{}", &service::random::token()[..16]));
        fs::create_dir(&folder).context("making a group for a command")?;
        for (name, value) in LIMITS {
            let file = folder.join(name);
            if file.exists() {
                fs::write(&file, value).with_context(|| format!("setting `{name}` for a command"))?;
            }
        }
        let door = fs::OpenOptions::new().write(true).open(folder.join("cgroup.procs")).context("opening a group for a command")?;
        Ok(Cell { folder, door: door.into() })
    }

    /// Takes away the groups in which nobody is left.
    fn sweep(&self) {
        let Ok(entries) = fs::read_dir(&self.root) else { return };
        for entry in entries.flatten().take(SWEPT_MAX).filter(|entry| entry.file_name().to_string_lossy().starts_with(CALL)) {
            // The kernel keeps one that has processes.
            let _ = fs::remove_dir(entry.path());
        }
    }
}

/// systemd marks what it hands over; a user's own part belongs to them.
fn is_handed_over(folder: &Path) -> bool {
    let marked = |name: &str| {
        let mut value = [0; 1];
        rustix::fs::getxattr(folder, name, &mut value).is_ok_and(|length| value[..length] == *b"1")
    };
    let own = rustix::process::geteuid();
    let is_ours = !own.is_root() && fs::metadata(folder).is_ok_and(|about| about.uid() == own.as_raw());
    is_ours || marked("trusted.delegate") || marked("user.delegate")
}

impl Cell {
    /// In the child, between fork and exec: one system call, no memory is asked for.
    #[expect(unsafe_code, reason = "the standard library's own writer is not for a descriptor that is only borrowed")]
    pub fn enter(&self) -> io::Result<()> {
        // Zero is whoever writes it.
        match unsafe { libc::write(self.door.as_raw_fd(), b"0".as_ptr().cast(), 1) } {
            1 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    fn end(&self) -> anyhow::Result<()> {
        ensure!(fs::write(self.folder.join("cgroup.kill"), "1").is_ok(), "this kernel cannot end a group at once");
        Ok(())
    }
}

impl Drop for Cell {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            tracing::warn!(%error, "what a command left behind may still run");
        }
        // Who is dying still counts; the next one sweeps.
        let _ = fs::remove_dir(&self.folder);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn nothing_is_taken_that_was_not_handed_over() {
        let folder = std::env::temp_dir().join(service::random::token());
        fs::create_dir_all(&folder).unwrap();
        if rustix::process::geteuid().is_root() {
            assert!(Nest::at(&folder).unwrap().is_none());
            assert_eq!(fs::read_dir(&folder).unwrap().count(), 0, "nothing was made there");
        }
        assert!(Nest::at(&folder.join("gone")).unwrap().is_none());
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn without_the_kernels_files_there_is_no_group() {
        let root = std::env::temp_dir().join(service::random::token());
        fs::create_dir_all(root.join("call-left")).unwrap();
        assert!(Nest::ready(&root).cell().is_err(), "a folder is no group");
        assert!(!root.join("call-left").exists(), "what is empty is swept");
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    #[ignore = "needs root"]
    fn what_leaves_its_process_group_ends_with_the_command() {
        let mount = std::env::temp_dir().join(service::random::token());
        fs::create_dir_all(&mount).unwrap();
        let said = |program: &str, arguments: &[&str]| assert!(Command::new(program).args(arguments).status().unwrap().success(), "{program} {arguments:?}");
        said("mount", &["-t", "cgroup2", "none", mount.to_str().unwrap()]);
        let root = mount.join(service::random::token());
        fs::create_dir(&root).unwrap();
        let nest = Nest::ready(&root);
        let cell = nest.cell().unwrap();
        let (pid, folder) = (mount.with_extension("pid"), cell.folder.clone());
        let mut child = Command::new("sh");
        child.arg("-c").arg(format!("setsid sh -c 'echo $$ > {}; while :; do sleep 1; done' & wait", pid.display()));
        enters(&mut child, cell, |mut child, cell| {
            while fs::read_to_string(&pid).unwrap_or_default().is_empty() {
                std::thread::yield_now();
            }
            assert!(fs::read_to_string(folder.join("cgroup.procs")).unwrap().lines().count() >= 2);
            drop(cell);
            child.wait().unwrap();
        });
        let escaped = fs::read_to_string(&pid).unwrap().trim().to_owned();
        let runs = || fs::read_to_string(format!("/proc/{escaped}/stat")).is_ok_and(|stat| !stat.contains(") Z "));
        while runs() {
            std::thread::yield_now();
        }
        nest.sweep();
        while fs::remove_dir(&root).is_err() && root.exists() {
            nest.sweep();
        }
        said("umount", &[mount.to_str().unwrap()]);
        fs::remove_file(pid).unwrap();
        fs::remove_dir(mount).unwrap();
    }

    #[expect(unsafe_code, reason = "a child enters its group between fork and exec")]
    fn enters(command: &mut Command, cell: Cell, then: impl FnOnce(std::process::Child, Cell)) {
        use std::os::unix::process::CommandExt;
        let door = cell.door.as_raw_fd();
        unsafe {
            command.pre_exec(move || match libc::write(door, b"0".as_ptr().cast(), 1) {
                1 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            });
        }
        let child = command.spawn().unwrap();
        then(child, cell);
    }
}
