//! The demo's folder: found, held against a second demo, emptied on demand.
//!
//! Nothing is taken out of a folder but what a demo puts there.

use crate::command::{EXIT_CONFIG, Trouble};
use crate::providers::local;
use anyhow::Context;
use service::config::private_folder;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The folder, ours until this is dropped or the process dies.
#[derive(Debug)]
pub struct State {
    pub folder: PathBuf,
    _lock: File,
}

const LOCK: &str = "lock";
pub const HUB_CONFIG: &str = "hub.toml";
/// Says that the vault has the key of a real provider.
const KEY_KEPT: &str = "key-kept";
/// All that a demo puts into its folder beside the lock.
const OURS: &[&str] = &["hub.db", "hub.db-wal", "hub.db-shm", HUB_CONFIG, "hub.new", KEY_KEPT, "key-kept.new", "tenants"];
const LOCK_BYTES_MAX: u64 = 32;

impl State {
    /// Takes hold of `given`, or of the usual place.
    pub fn take(given: Option<&Path>) -> Result<State, Trouble> {
        let folder = match given {
            Some(path) => std::path::absolute(path).with_context(|| format!("`{}` is no path", path.display()))?,
            None => usual()?,
        };
        if !is_ours(&folder) {
            let said = format!("`{}` holds something else than a demo's state: give an empty or a new folder with --state.", folder.display());
            return Err(Trouble { code: EXIT_CONFIG, said });
        }
        private_folder(&folder).map_err(|error| Trouble { code: EXIT_CONFIG, said: format!("{error:#}. Choose another place with --state.") })?;
        let path = folder.join(LOCK);
        let failed = || format!("`{}` cannot be used", path.display());
        let mut lock = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path).with_context(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(taken(&folder, &mut lock)),
            Err(TryLockError::Error(error)) => return Err(anyhow::Error::new(error).context(failed()).into()),
        }
        let noted = lock.set_len(0).and_then(|()| lock.rewind()).and_then(|()| writeln!(lock, "{}", std::process::id()));
        noted.with_context(failed)?;
        Ok(State { folder, _lock: lock })
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
        let first = State::take(Some(&folder)).unwrap();
        let trouble = State::take(Some(&folder)).unwrap_err();
        assert_eq!(trouble.code, EXIT_CONFIG);
        assert!(trouble.said.contains(&format!("(pid {})", std::process::id())) && trouble.said.contains("--state and --port"), "{}", trouble.said);
        drop(first);
        State::take(Some(&folder)).unwrap();
        fs::remove_dir_all(folder).unwrap();
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
        let state = State::take(Some(&folder)).unwrap();
        state.note_key("anthropic").unwrap();
        assert!(state.has_key("anthropic") && !state.has_key("scripted"));
        state.forget().await.unwrap();
        assert!(foreign.exists() && !folder.join("hub.db").exists() && !folder.join("tenants").exists() && !state.has_key("anthropic"));
        fs::remove_dir_all(folder).unwrap();
    }
}
