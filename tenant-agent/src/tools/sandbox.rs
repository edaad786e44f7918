//! What a command may take and reach, set between fork and exec.
//!
//! Limits of the kernel for memory dumps, files and processor time; no new rights by set-uid programs, and few of root's; and, where the
//! kernel has Landlock, no file of the agent's own folder but the workspace and its neighbour, no look into the memory or
//! the environment of a process outside, no signal to one. What it is not: another user. A command runs as the agent does,
//! may use the network as the host lets that user, and may open a socket by its path.

use crate::cgroup::Cell;
use anyhow::Context;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Open files of one process.
const FILES_MAX: u64 = 4096;
/// One file that a command writes.
const FILE_BYTES_MAX: u64 = 4 << 30;
/// Entries of one folder on the way to what is closed.
const ENTRIES_MAX: usize = 4096;

/// What is closed to a command, and what in there is open all the same.
#[derive(Clone, Debug)]
pub struct Walls {
    pub closed: PathBuf,
    pub open: Vec<PathBuf>,
    /// May be read, and no more.
    pub shown: Vec<PathBuf>,
}

/// Ready to be put around a child.
pub struct Sandbox {
    ruleset: Option<OwnedFd>,
    cpu_secs: u64,
    /// What is in it ends with this value.
    cell: Option<Cell>,
}

impl Walls {
    /// Reads the folders on the way. Where there is no Landlock there are only limits.
    pub fn raise(&self, cpu_secs: u64, cell: Option<Cell>) -> anyhow::Result<Sandbox> {
        let ruleset = match landlock_version() {
            version if version >= LANDLOCK_VERSION_MIN => Some(self.ruleset(version).context("Landlock")?),
            _ => None,
        };
        Ok(Sandbox { ruleset, cpu_secs, cell })
    }

    /// Landlock only knows what is open. So everything is but the way to what is closed: on that way, each neighbour by itself.
    fn ruleset(&self, version: i64) -> anyhow::Result<OwnedFd> {
        let handled = rights(version);
        let ruleset = create(handled, version)?;
        let mut folder = PathBuf::from("/");
        // Names may be seen everywhere: what `ls /` shows cannot be told apart from what lies below.
        allow(&ruleset, &folder, READ_FOLDER)?;
        for part in self.closed.strip_prefix("/").context("what is closed has an absolute path")?.components() {
            for entry in std::fs::read_dir(&folder)?.take(ENTRIES_MAX) {
                let entry = entry?;
                if entry.file_name() != part.as_os_str() {
                    allow(&ruleset, &entry.path(), handled)?;
                }
            }
            folder.push(part);
        }
        for open in &self.open {
            allow(&ruleset, open, handled)?;
        }
        for shown in &self.shown {
            allow(&ruleset, shown, READ_FOLDER | READ_FILE)?;
        }
        Ok(ruleset)
    }
}

impl Sandbox {
    /// In the child, between fork and exec: system calls only, no memory is asked for.
    pub fn enter(&self) -> io::Result<()> {
        if let Some(cell) = &self.cell {
            cell.enter()?;
        }
        limit(libc::RLIMIT_CORE, 0)?;
        limit(libc::RLIMIT_NOFILE, FILES_MAX)?;
        limit(libc::RLIMIT_FSIZE, FILE_BYTES_MAX)?;
        limit(libc::RLIMIT_CPU, self.cpu_secs)?;
        no_new_rights()?;
        drop_rights();
        match &self.ruleset {
            Some(ruleset) => restrict(ruleset.as_raw_fd()),
            None => Ok(()),
        }
    }
}

// Landlock, as in linux/landlock.h: numbers of system calls, rights, structures. There is no wrapper in libc.

const LANDLOCK_VERSION_MIN: i64 = 1;
const CREATE_RULESET: libc::c_long = 444;
const ADD_RULE: libc::c_long = 445;
const RESTRICT_SELF: libc::c_long = 446;
const ASK_VERSION: u32 = 1;
const RULE_PATH_BENEATH: u32 = 1;
/// Execute, write, read, truncate, device control: what a single file knows.
const OF_FILES: u64 = 1 | 1 << 1 | 1 << 2 | 1 << 14 | 1 << 15;
const READ_FILE: u64 = 1 << 2;
const READ_FOLDER: u64 = 1 << 3;
/// No abstract sockets of, and no signals to, processes outside.
const SCOPED: u64 = 1 | 1 << 1;

#[repr(C)]
struct Ruleset {
    handled_fs: u64,
    handled_net: u64,
    scoped: u64,
}

#[repr(C, packed)]
struct PathBeneath {
    allowed: u64,
    parent: RawFd,
}

/// The rights to files that this version knows.
fn rights(version: i64) -> u64 {
    let count = match version {
        ..=1 => 13,
        2 => 14,
        3 | 4 => 15,
        _ => 16,
    };
    (1 << count) - 1
}

#[expect(unsafe_code, reason = "a system call without a wrapper; it reads nothing of ours")]
fn landlock_version() -> i64 {
    unsafe { libc::syscall(CREATE_RULESET, std::ptr::null::<Ruleset>(), 0usize, ASK_VERSION) }
}

#[expect(unsafe_code, reason = "a system call without a wrapper; it reads a structure of ours of the length that is given")]
fn create(handled_fs: u64, version: i64) -> io::Result<OwnedFd> {
    let ruleset = Ruleset { handled_fs, handled_net: 0, scoped: if version >= 6 { SCOPED } else { 0 } };
    // Older kernels know a shorter structure.
    let size = match version {
        ..=3 => 8,
        4 | 5 => 16,
        _ => size_of::<Ruleset>(),
    };
    let fd = unsafe { libc::syscall(CREATE_RULESET, &raw const ruleset, size, 0u32) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// What is gone by now, or cannot be opened, stays closed.
#[expect(unsafe_code, reason = "a system call without a wrapper; it reads a structure of ours")]
fn allow(ruleset: &OwnedFd, path: &Path, handled: u64) -> io::Result<()> {
    let Ok(place) = rustix::fs::open(path, rustix::fs::OFlags::PATH | rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::CLOEXEC, rustix::fs::Mode::empty())
    else {
        return Ok(());
    };
    let kind = std::fs::symlink_metadata(path).map(|about| about.mode() & libc::S_IFMT);
    let allowed = match kind {
        Ok(libc::S_IFDIR) => handled,
        // A link is no place: what it leads to is.
        Ok(libc::S_IFLNK) | Err(_) => return Ok(()),
        Ok(_) => handled & OF_FILES,
    };
    let rule = PathBeneath { allowed, parent: place.as_raw_fd() };
    match unsafe { libc::syscall(ADD_RULE, ruleset.as_raw_fd(), RULE_PATH_BENEATH, &raw const rule, 0u32) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[expect(unsafe_code, reason = "a system call without a wrapper; it takes a number")]
fn restrict(ruleset: RawFd) -> io::Result<()> {
    match unsafe { libc::syscall(RESTRICT_SELF, ruleset, 0u32) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[expect(unsafe_code, reason = "the call takes numbers only")]
fn no_new_rights() -> io::Result<()> {
    match unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Of root's rights a command keeps those over files, users and ports. Others look past every wall: into the memory of
/// processes, at files by their number, at the kernel. Who is not root has none, and may not drop what it has not.
#[expect(unsafe_code, reason = "the call takes numbers only")]
fn drop_rights() {
    for right in 0..=RIGHTS_MAX {
        if !RIGHTS_KEPT.contains(&right) {
            unsafe { libc::prctl(libc::PR_CAPBSET_DROP, right, 0, 0, 0) };
        }
    }
}

/// More than any kernel knows; it says no to what it does not know.
const RIGHTS_MAX: libc::c_ulong = 63;
/// chown, dac_override, fowner, fsetid, kill, setgid, setuid, net_bind_service.
const RIGHTS_KEPT: [libc::c_ulong; 8] = [0, 1, 3, 4, 5, 6, 7, 10];

/// A lower limit that is there already stays.
#[expect(unsafe_code, reason = "the calls read and write a structure of ours; rustix' need no less, and this runs between fork and exec")]
fn limit(resource: libc::__rlimit_resource_t, most: u64) -> io::Result<()> {
    let mut now = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    if unsafe { libc::getrlimit(resource, &raw mut now) } != 0 {
        return Err(io::Error::last_os_error());
    }
    if now.rlim_cur <= most && now.rlim_max <= most {
        return Ok(());
    }
    let most = most.min(now.rlim_max);
    let wanted = libc::rlimit { rlim_cur: most, rlim_max: most };
    match unsafe { libc::setrlimit(resource, &raw const wanted) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
