//! The two services, built beside this binary: same target folder, same profile.

use crate::progress::{Progress, Trouble};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What a first build puts into the target folder.
const TARGET_MIB: u64 = 1400;

pub struct Place {
    pub target: PathBuf,
    /// The folder of the profile: `debug`, `release`.
    folder: PathBuf,
}

/// Where this binary lies is where cargo builds, whatever flag, variable or setting said so.
pub fn place() -> Result<Place, Trouble> {
    let here = std::env::current_exe().map_err(|error| Trouble::new(format!("this program cannot find itself: {error}.")))?;
    match (here.parent(), here.ancestors().nth(2)) {
        (Some(folder), Some(target)) => Ok(Place { target: target.to_owned(), folder: folder.to_owned() }),
        _ => Err(Trouble::new("this program does not lie in a target folder. Start it with `cargo demo`.")),
    }
}

impl Place {
    pub fn hub(&self) -> PathBuf {
        self.folder.join("hub")
    }

    pub fn tenant_agent(&self) -> PathBuf {
        self.folder.join("tenant-agent")
    }

    pub fn missing_mib(&self) -> u64 {
        if self.hub().is_file() && self.tenant_agent().is_file() { 0 } else { TARGET_MIB }
    }

    fn profile(&self) -> &str {
        match self.folder.file_name().and_then(|name| name.to_str()) {
            Some("debug") | None => "dev",
            Some(profile) => profile,
        }
    }
}

pub fn build(root: &Path, place: &Place, progress: &mut Progress) -> Result<(), Trouble> {
    progress.begin(if place.missing_mib() == 0 { "Binaries: hub and tenant-agent" } else { "Binaries: hub and tenant-agent, a few minutes the first time" });
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["build", "--locked", "--bins", "-p", "hub", "-p", "tenant-agent", "--profile", place.profile()]);
    command.arg("--target-dir").arg(&place.target).current_dir(root);
    // Cargo told us about ourselves. Build scripts that watch these variables would run again at every other start.
    for (name, _) in std::env::vars_os().filter(|(name, _)| is_ours(&name.to_string_lossy())) {
        command.env_remove(name);
    }
    let mut crates = 0;
    let ended = progress.run("cargo", &mut command, |line| {
        let (verb, rest) = line.trim().split_once(' ')?;
        let name = rest.split(' ').next()?;
        match verb {
            "Compiling" => {
                crates += 1;
                Some(format!("compiling, {crates} crates begun, now {name}"))
            }
            "Downloading" | "Downloaded" => Some("cargo downloads crates".to_owned()),
            "Blocking" => Some("another cargo is at work, waiting for it".to_owned()),
            _ => None,
        }
    })?;
    if !ended.success() {
        return Err(Trouble::new(format!("The binaries could not be built:\n{}", ended.tail())));
    }
    progress.done();
    Ok(())
}

fn is_ours(variable: &str) -> bool {
    ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_"].iter().any(|prefix| variable.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_profile_is_read_from_the_folder() {
        for (folder, expected) in [("/t/debug", "dev"), ("/t/release", "release"), ("/t/custom", "custom")] {
            assert_eq!(Place { target: "/t".into(), folder: folder.into() }.profile(), expected);
        }
    }

    #[test]
    fn what_the_user_set_reaches_cargo() {
        assert!(is_ours("CARGO_PKG_NAME") && is_ours("CARGO_MANIFEST_DIR"));
        assert!(!is_ours("CARGO_HOME") && !is_ours("CARGO_TARGET_DIR") && !is_ours("CARGO"));
    }
}
