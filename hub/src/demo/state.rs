//! The demo's folder: found, held against a second demo, emptied on demand.
//!
//! Nothing is taken out of a folder but what a demo puts there. A folder that cannot be used is said at once, with the
//! remedy, and a demo that is refused leaves everything as it was.

use crate::command::{EXIT_CONFIG, Trouble};
use crate::providers::local;
use anyhow::Context;
use service::config::private_folder;
use std::ffi::CString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The folder, ours until this is dropped or the process dies.
#[derive(Debug)]
pub struct State {
    pub folder: PathBuf,
    made: Made,
    _lock: File,
}

/// What was not there before; dropped, it is gone again.
#[derive(Debug, Default)]
struct Made {
    /// The outermost first.
    folders: Vec<PathBuf>,
    lock: Option<PathBuf>,
}

impl Drop for Made {
    fn drop(&mut self) {
        // Only what is still empty goes, and what cannot go may stay.
        if let Some(lock) = &self.lock {
            let _ = fs::remove_file(lock);
        }
        for folder in self.folders.iter().rev() {
            let _ = fs::remove_dir(folder);
        }
    }
}

const LOCK: &str = "lock";
pub const HUB_CONFIG: &str = "hub.toml";
/// Says that the vault has the key of a real provider.
const KEY_KEPT: &str = "key-kept";
/// All that a demo puts into its folder beside the lock.
const OURS: &[&str] = &["hub.db", "hub.db-wal", "hub.db-shm", HUB_CONFIG, "hub.new", KEY_KEPT, "key-kept.new", PROBE, "tenants"];
/// Written and removed again to see whether the folder takes anything.
const PROBE: &str = "probe";
const PROBE_BYTES: usize = 4096;
const LOCK_BYTES_MAX: u64 = 32;
/// What a demo's store, audit, logs and OpenClaw's own folder come to in a few days, with room for one conversation's files.
const FREE_MIB_MIN: u64 = 300;
const MIB: u64 = 1024 * 1024;

impl State {
    /// Takes hold of `given`, or of the usual place.
    pub fn take(given: Option<&Path>) -> Result<State, Trouble> {
        let folder = match given {
            Some(path) => std::path::absolute(path).with_context(|| format!("`{}` is no path", path.display()))?,
            None => usual()?,
        };
        if let Some(why) = obstacle(&folder) {
            return Err(unusable(&folder, &why));
        }
        if !is_ours(&folder) {
            let said = format!("`{}` holds something else than a demo's state: give an empty or a new folder with --state.", folder.display());
            return Err(Trouble { code: EXIT_CONFIG, said });
        }
        let failed = |error: io::Error| unusable(&folder, &words(&error));
        let mut made = Made { folders: missing(&folder), lock: None };
        private_folder(&folder).map_err(|error| unusable(&folder, &error.downcast_ref().map_or_else(|| format!("{error:#}"), words)))?;
        let path = folder.join(LOCK);
        let mut options = OpenOptions::new();
        options.read(true).write(true).mode(0o600);
        let mut lock = match options.clone().create_new(true).open(&path) {
            Ok(lock) => {
                made.lock = Some(path);
                lock
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => options.open(&path).map_err(failed)?,
            Err(error) => return Err(failed(error)),
        };
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                // Somebody was faster than we between making it and taking it; it is theirs now.
                made.lock = None;
                return Err(taken(&folder, &mut lock));
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        lock.set_len(0).and_then(|()| lock.rewind()).and_then(|()| writeln!(lock, "{}", std::process::id())).map_err(failed)?;
        let probe = folder.join(PROBE);
        let probed = fs::write(&probe, [0; PROBE_BYTES]);
        let removed = fs::remove_file(&probe);
        probed.and(removed).map_err(failed)?;
        Ok(State { folder, made, _lock: lock })
    }

    /// The demo starts: what was made for it stays.
    pub fn keep(&mut self) {
        self.made.folders.clear();
        self.made.lock = None;
    }

    /// Ends what still runs from here and forgets everything.
    pub async fn forget(&self) -> anyhow::Result<()> {
        local::end_leftovers(&self.folder).await;
        for path in OURS.iter().map(|name| self.folder.join(name)) {
            let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            match removed {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("`{}` cannot be removed", path.display()));
                }
                _ => {}
            }
        }
        Ok(())
    }

    pub fn hub_config(&self) -> PathBuf {
        self.folder.join(HUB_CONFIG)
    }

    /// Whether the tenant's vault has had the key of this provider.
    pub fn has_key(&self, provider: &str) -> bool {
        fs::read_to_string(self.folder.join(KEY_KEPT)).is_ok_and(|kept| kept.trim() == provider)
    }

    pub fn note_key(&self, provider: &str) -> anyhow::Result<()> {
        service::config::write_private(&self.folder.join(KEY_KEPT), provider.as_bytes())
    }
}

fn taken(folder: &Path, lock: &mut File) -> Trouble {
    let mut pid = String::new();
    // Whoever holds it may be writing its number this very moment.
    let _ = lock.take(LOCK_BYTES_MAX).read_to_string(&mut pid);
    let pid = pid.trim().parse::<u32>().map_or("unknown".to_owned(), |pid| pid.to_string());
    let folder = folder.display();
    let said = format!("another demo is running (pid {pid}) from `{folder}`: stop it with Ctrl-C, or give this one its own --state and --port.");
    Trouble { code: EXIT_CONFIG, said }
}

fn usual() -> Result<PathBuf, Trouble> {
    let variable = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = variable("XDG_STATE_HOME").or_else(|| Some(variable("HOME")?.join(".local/state")));
    let base =
        base.ok_or_else(|| Trouble { code: EXIT_CONFIG, said: "there is no place for the demo's state: give one with --state, or set HOME.".to_owned() })?;
    Ok(base.join("gatehouse/demo"))
}

/// What speaks against a folder before anything is made in it.
fn obstacle(folder: &Path) -> Option<String> {
    if folder.exists() && !folder.is_dir() {
        return Some("it is no folder".to_owned());
    }
    if let Some(error) = fs::read_dir(folder).err().filter(|error| error.kind() != ErrorKind::NotFound) {
        return Some(words(&error));
    }
    let room = room(folder.ancestors().find(|folder| folder.exists())?)?;
    if room.is_read_only {
        return Some("its file system is read-only".to_owned());
    }
    (room.free_mib < FREE_MIB_MIN).then(|| format!("its file system has {} MiB free, and {FREE_MIB_MIN} MiB are needed", room.free_mib))
}

#[derive(Debug)]
struct Room {
    free_mib: u64,
    is_read_only: bool,
}

/// The room on a folder's file system for people without special rights; `None` when the kernel does not say.
#[expect(unsafe_code, reason = "the standard library does not ask for a file system's free space")]
fn room(folder: &Path) -> Option<Room> {
    let path = CString::new(folder.as_os_str().as_bytes()).ok()?;
    let mut about = MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: the path ends with a zero, and the structure is read only after the kernel has filled it.
    let about = unsafe {
        if libc::statvfs(path.as_ptr(), about.as_mut_ptr()) != 0 {
            return None;
        }
        about.assume_init()
    };
    Some(Room { free_mib: about.f_bavail.saturating_mul(about.f_frsize) / MIB, is_read_only: about.f_flag & libc::ST_RDONLY != 0 })
}

/// The folders on the way to this one that are not there yet, the outermost first.
fn missing(folder: &Path) -> Vec<PathBuf> {
    let mut missing: Vec<PathBuf> = folder.ancestors().take_while(|folder| !folder.exists()).map(Path::to_owned).collect();
    missing.reverse();
    missing
}

fn words(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::PermissionDenied => "it may not be written by you".to_owned(),
        ErrorKind::ReadOnlyFilesystem => "its file system is read-only".to_owned(),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "its file system is full".to_owned(),
        ErrorKind::NotADirectory => "a part of the path is no folder".to_owned(),
        _ => error.to_string(),
    }
}

fn unusable(folder: &Path, why: &str) -> Trouble {
    let folder = folder.display();
    let said = format!(
        "the demo cannot keep its state in `{folder}`: {why}; nothing was started.\n\
        Make it writable or free some space there, or give the demo another folder with --state <folder>."
    );
    Trouble { code: EXIT_CONFIG, said }
}

/// A folder that is not there, is empty, or has been a demo's before.
fn is_ours(folder: &Path) -> bool {
    let Ok(mut entries) = fs::read_dir(folder) else { return !folder.exists() };
    entries.next().is_none() || folder.join("hub.db").is_file() || folder.join(LOCK).is_file()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> PathBuf {
        let folder = std::env::temp_dir().join(format!("gatehouse-demo-{}", service::random::token()));
        fs::create_dir(&folder).unwrap();
        folder
    }

    #[test]
    fn a_second_demo_is_refused_and_told_who_was_first() {
        let folder = folder();
        let mut first = State::take(Some(&folder)).unwrap();
        first.keep();
        let trouble = State::take(Some(&folder)).unwrap_err();
        assert_eq!(trouble.code, EXIT_CONFIG);
        assert!(trouble.said.contains(&format!("(pid {})", std::process::id())) && trouble.said.contains("--state and --port"), "{}", trouble.said);
        drop(first);
        State::take(Some(&folder)).unwrap();
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_folder_that_cannot_be_used_is_named_with_the_remedy_and_nothing_is_left() {
        let parent = folder();
        fs::write(parent.join("file"), "").unwrap();
        // The kernel's own file system takes no folder, whoever asks.
        for (place, why) in [(parent.join("file"), "it is no folder"), (parent.join("file/below"), "no folder"), ("/proc/gatehouse".into(), "/proc")] {
            let Trouble { code, said } = State::take(Some(&place)).unwrap_err();
            assert_eq!(code, EXIT_CONFIG);
            assert!(said.contains(&format!("`{}`", place.display())) && said.contains(why) && said.contains("--state"), "{said}");
        }
        let deep = parent.join("a/b");
        let state = State::take(Some(&deep)).unwrap();
        assert!(deep.join(LOCK).exists() && !deep.join(PROBE).exists());
        drop(state);
        assert!(!parent.join("a").exists(), "a demo that was refused later leaves nothing");
        State::take(Some(&deep)).unwrap().keep();
        drop(State::take(Some(&deep)).unwrap());
        assert!(deep.join(LOCK).exists(), "what was there before stays");
        fs::remove_dir_all(parent).unwrap();
    }

    #[test]
    fn a_file_systems_room_is_known() {
        let here = room(&std::env::temp_dir()).unwrap();
        assert!(here.free_mib > 0 && !here.is_read_only, "{here:?}");
        assert_eq!(room(Path::new("/proc")).unwrap().free_mib, 0);
        assert!(obstacle(Path::new("/proc/gatehouse")).unwrap().contains("0 MiB free"));
        assert!(room(Path::new("/nowhere")).is_none());
    }

    #[tokio::test]
    async fn only_a_demos_own_things_are_forgotten() {
        let folder = folder();
        let foreign = folder.join("thesis.txt");
        fs::write(&foreign, "mine").unwrap();
        assert!(State::take(Some(&folder)).unwrap_err().said.contains("something else"));
        assert!(!folder.join(LOCK).exists(), "a refused folder is left as it was");
        fs::write(folder.join("hub.db"), "").unwrap();
        fs::create_dir_all(folder.join("tenants/alice")).unwrap();
        let mut state = State::take(Some(&folder)).unwrap();
        state.keep();
        state.note_key("anthropic").unwrap();
        assert!(state.has_key("anthropic") && !state.has_key("scripted"));
        state.forget().await.unwrap();
        assert!(foreign.exists() && !folder.join("hub.db").exists() && !folder.join("tenants").exists() && !state.has_key("anthropic"));
        fs::remove_dir_all(folder).unwrap();
    }
}
