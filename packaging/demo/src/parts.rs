//! The parts that are not ours: Node and OpenClaw, from npm, exactly as the lock files in `packaging/openclaw` pin them.
//!
//! They lie in the cache in a folder named by a hash of those lock files, so a new pin is a new folder. An install is
//! made in a neighbour folder, tried once, and renamed into place: whoever is killed in the middle leaves nothing that
//! looks whole. A file lock keeps two installs apart. npm checks every package against the integrity in the lock file;
//! no install script runs.

use crate::checks;
use crate::progress::{Ended, GLANCE, Progress, Trouble};
use crate::signals;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the parts take on disk, with room for npm's own cache of the archives.
const PARTS_MIB: u64 = 1100;
const PACKAGES: [&str; 2] = ["node", "app"];
const PINS: [&str; 3] = ["package.json", "package-lock.json", ".npmrc"];

pub struct Cache {
    folder: PathBuf,
    /// Where the lock files lie.
    pins: PathBuf,
    /// The name of Node's package for this machine.
    platform: &'static str,
    /// Where the parts lie once they are whole.
    home: PathBuf,
}

#[derive(Debug)]
pub struct Parts {
    pub node: PathBuf,
    pub openclaw: PathBuf,
}

impl Cache {
    pub fn find(root: &Path) -> Result<Cache, Trouble> {
        let variable = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let base = variable("XDG_CACHE_HOME")
            .or_else(|| variable("HOME").map(|home| home.join(".cache")))
            .ok_or_else(|| Trouble::new("There is no place for the parts: set HOME or XDG_CACHE_HOME to an absolute path."))?;
        Cache::at(base.join("gatehouse"), root.join("packaging/openclaw"))
    }

    fn at(folder: PathBuf, pins: PathBuf) -> Result<Cache, Trouble> {
        let platform = checks::platform().unwrap_or("unknown");
        let mut pinned = Vec::new();
        for package in PACKAGES {
            let lock = pins.join(package).join("package-lock.json");
            pinned.extend(fs::read(&lock).map_err(|error| Trouble::new(format!("`{}` cannot be read: {error}. Is the clone complete?", lock.display())))?);
        }
        let home = folder.join(format!("parts-{:016x}-{platform}", fnv(&pinned)));
        Ok(Cache { folder, pins, platform, home })
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn missing_mib(&self) -> u64 {
        if self.whole().is_some() { 0 } else { PARTS_MIB }
    }

    pub fn install(&self, progress: &mut Progress) -> Result<Parts, Trouble> {
        if let Some(parts) = self.whole() {
            progress.begin("Parts: Node 24 and OpenClaw are in the cache");
            progress.done();
            return Ok(parts);
        }
        progress.begin("Parts: Node 24 and OpenClaw from npm, about 800 MB, once");
        fs::create_dir_all(&self.folder).map_err(|error| self.at_fault(&error))?;
        let _alone = self.lock(progress)?;
        // Whoever held the lock before us may have done the work.
        if let Some(parts) = self.whole() {
            progress.done();
            return Ok(parts);
        }
        let draft = self.home.with_extension("draft");
        let _ = fs::remove_dir_all(&draft); // left by a kill
        let outcome = self.fill(&draft, progress).and_then(|()| fs::rename(&draft, &self.home).map_err(|error| self.at_fault(&error)));
        if let Err(trouble) = outcome {
            let _ = fs::remove_dir_all(&draft);
            return Err(trouble);
        }
        progress.done();
        self.whole().ok_or_else(|| Trouble::new(format!("The parts in `{}` are not whole. Delete that folder and start again.", self.home.display())))
    }

    /// The parts, if they are there. The folder has its name only when it was whole.
    fn whole(&self) -> Option<Parts> {
        let parts = self.parts_in(&self.home);
        (parts.node.is_file() && parts.openclaw.is_file()).then_some(parts)
    }

    fn parts_in(&self, home: &Path) -> Parts {
        Parts { node: home.join("node/node_modules").join(self.platform).join("bin/node"), openclaw: home.join("app/node_modules/openclaw/openclaw.mjs") }
    }

    fn lock(&self, progress: &mut Progress) -> Result<File, Trouble> {
        let file = File::create(self.folder.join("lock")).map_err(|error| self.at_fault(&error))?;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) => progress.alive("another install is at work, waiting for it …"),
                Err(TryLockError::Error(error)) => return Err(self.at_fault(&error)),
            }
            if let Some(signal) = signals::asked() {
                return Err(Trouble::interrupted(signal));
            }
            std::thread::park_timeout(GLANCE);
        }
    }

    fn fill(&self, draft: &Path, progress: &mut Progress) -> Result<(), Trouble> {
        // Node's two packages are optional ones, because npm passes over an optional package made for another machine.
        self.npm_ci(draft, "node", &[], progress)?;
        self.npm_ci(draft, "app", &["--omit=optional"], progress)?;
        self.first_run(draft, progress)
    }

    fn npm_ci(&self, draft: &Path, package: &str, more: &[&str], progress: &mut Progress) -> Result<(), Trouble> {
        let folder = draft.join(package);
        fs::create_dir_all(&folder).map_err(|error| self.at_fault(&error))?;
        for pin in PINS {
            fs::copy(self.pins.join(package).join(pin), folder.join(pin)).map_err(|error| self.at_fault(&error))?;
        }
        let mut command = Command::new("npm");
        command.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]).args(more).current_dir(&folder);
        let ended = progress.run(if package == "node" { "npm fetches Node" } else { "npm fetches OpenClaw" }, &mut command, |_| None)?;
        if ended.success() { Ok(()) } else { Err(npm_trouble("npm could not fetch the parts", &ended)) }
    }

    /// OpenClaw finishes its own installation when it is first started. Afterwards nothing in the folder changes.
    fn first_run(&self, draft: &Path, progress: &mut Progress) -> Result<(), Trouble> {
        let parts = self.parts_in(draft);
        if !parts.node.is_file() {
            return Err(Trouble::new(format!(
                "npm left out `{}`: its registry could not deliver it. Look at `npm config get registry`, then start again.",
                self.platform
            )));
        }
        let home = draft.join("home");
        fs::create_dir_all(&home).map_err(|error| self.at_fault(&error))?;
        let mut command = Command::new(&parts.node);
        command.arg(&parts.openclaw).arg("--version").env("HOME", &home).current_dir(&home);
        let ended = progress.run("OpenClaw completes itself", &mut command, |_| None)?;
        let _ = fs::remove_dir_all(&home);
        if !ended.success() {
            return Err(Trouble::new(format!("OpenClaw does not start:\n{}", ended.tail())));
        }
        Ok(())
    }

    fn at_fault(&self, error: &io::Error) -> Trouble {
        let remedy = match error.kind() {
            io::ErrorKind::StorageFull => "The disk is full: free some space, or put the cache elsewhere with XDG_CACHE_HOME.",
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => "Make it writable, or put the cache elsewhere with XDG_CACHE_HOME.",
            _ => "Put the cache elsewhere with XDG_CACHE_HOME, or look at what is in the way.",
        };
        Trouble::new(format!("The cache `{}` cannot be used: {error}.\n{remedy}", self.folder.display()))
    }
}

impl Parts {
    pub fn json(&self) -> String {
        format!("{{\"node\":{},\"openclaw\":{}}}", quoted(&self.node), quoted(&self.openclaw))
    }
}

fn quoted(path: &Path) -> String {
    let mut text = String::from('"');
    for letter in path.to_string_lossy().chars() {
        match letter {
            '"' | '\\' => text.extend(['\\', letter]),
            control if control < ' ' => text.push_str(&format!("\\u{:04x}", control as u32)),
            plain => text.push(plain),
        }
    }
    text + "\""
}

/// npm's last words and what to do about them.
pub fn npm_trouble(what: &str, ended: &Ended) -> Trouble {
    let tail = ended.tail();
    Trouble::new(format!("{what}:\n{tail}\n{}", npm_remedy(&tail)))
}

fn npm_remedy(tail: &str) -> &'static str {
    let says = |words: &[&str]| words.iter().any(|word| tail.contains(word));
    if says(&["ENOSPC"]) {
        "The disk is full: free some space, or put the cache elsewhere with XDG_CACHE_HOME."
    } else if says(&["EINTEGRITY"]) {
        "A package differs from the one that is pinned. Try `npm cache clean --force`; if it stays so, do not use that registry."
    } else if says(&["E404", "ETARGET"]) {
        "The registry does not have a pinned package. Look at `npm config get registry`."
    } else if says(&["ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ECONNRESET", "ETIMEDOUT", "ENETUNREACH", "EHOSTUNREACH", "ERR_SOCKET_TIMEOUT", "CERT"]) {
        "npm's registry cannot be reached. Check the network with `npm ping`; behind a proxy, see `npm config get proxy` and `npm config get registry`."
    } else if says(&["EACCES", "EPERM", "EROFS"]) {
        "A folder cannot be written. Check who owns ~/.npm and the cache."
    } else {
        "Start again; if it fails in the same way, the lines above say why."
    }
}

/// FNV-1a. It names a folder; npm's integrity, not this, vouches for what is in it.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_follows_the_pins() {
        assert_eq!(fnv(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv(b"a"), 0xaf63_dc4c_8601_ec8c);
        let pins = Path::new(env!("CARGO_MANIFEST_DIR")).join("../openclaw");
        let cache = Cache::at("/cache".into(), pins).unwrap();
        assert!(cache.home.starts_with("/cache") && cache.missing_mib() == PARTS_MIB);
        assert!(Cache::at("/cache".into(), "/nowhere".into()).err().unwrap().said.contains("clone complete"));
    }

    #[test]
    fn a_failure_of_npm_names_its_remedy() {
        for (tail, remedy) in [
            ("npm error code ENOTFOUND", "npm ping"),
            ("npm error code ENOSPC", "XDG_CACHE_HOME"),
            ("npm error code EINTEGRITY", "differs"),
            ("npm error code E404", "registry"),
            ("something new", "lines above"),
        ] {
            assert!(npm_remedy(tail).contains(remedy), "{tail}");
        }
    }

    #[test]
    fn paths_survive_json() {
        let parts = Parts { node: "/a b/\"x\"".into(), openclaw: "/c\\d\n".into() };
        assert_eq!(parts.json(), r#"{"node":"/a b/\"x\"","openclaw":"/c\\d\u000a"}"#);
    }
}
