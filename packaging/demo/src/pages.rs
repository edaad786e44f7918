//! The pages: npm packages when the lock file is newer than what is installed, a build when a source is newer than the
//! last one.

use crate::parts::npm_trouble;
use crate::progress::{Progress, Trouble};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

pub fn build(ui: &Path, progress: &mut Progress) -> Result<(), Trouble> {
    let installed = installed(ui);
    if installed && built(ui) {
        progress.begin("Pages: up to date");
        progress.done();
        return Ok(());
    }
    progress.begin("Pages: npm packages and build");
    if !installed {
        let mut command = Command::new("npm");
        command.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]).current_dir(ui);
        let ended = progress.run("npm fetches the tools for the pages", &mut command, |_| None)?;
        if !ended.success() {
            return Err(npm_trouble("npm could not fetch the tools for the pages", &ended));
        }
    }
    let mut command = Command::new("npm");
    let ended = progress.run("building", command.args(["run", "--silent", "build"]).current_dir(ui), |_| None)?;
    if !ended.success() {
        return Err(Trouble::new(format!("The pages could not be built (`npm run build` in shared/ui):\n{}", ended.tail())));
    }
    progress.done();
    Ok(())
}

/// npm writes its own record last, so it is missing after an interrupted install and older than a lock file that changed.
fn installed(ui: &Path) -> bool {
    newer(&ui.join("node_modules/.package-lock.json"), &[ui.join("package-lock.json")])
}

/// The build writes its manifest last.
fn built(ui: &Path) -> bool {
    let sources = ["src", "build.mjs", "package.json", "tsconfig.json", "node_modules/.package-lock.json", "../text"].map(|name| ui.join(name));
    newer(&ui.join("dist/manifest.json"), &sources)
}

/// Whether `made` exists and nothing in `sources` changed after it. A folder counts too: it changes when a file leaves.
fn newer(made: &Path, sources: &[PathBuf]) -> bool {
    changed(made).is_some_and(|made| sources.iter().filter_map(|source| newest(source)).all(|source| source <= made))
}

fn newest(path: &Path) -> Option<SystemTime> {
    let inside = fs::read_dir(path).into_iter().flatten().flatten().filter_map(|entry| newest(&entry.path()));
    inside.chain(changed(path)).max()
}

fn changed(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|metadata| metadata.modified()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::time::Duration;

    #[test]
    fn a_source_that_changed_after_the_build_is_seen() {
        let ui = std::env::temp_dir().join(format!("gatehouse-pages-{}", std::process::id()));
        let _ = fs::remove_dir_all(&ui);
        fs::create_dir_all(ui.join("dist")).unwrap();
        fs::create_dir_all(ui.join("src/core")).unwrap();
        let at = |path: &Path, secs| {
            let file = if path.is_dir() { File::open(path).unwrap() } else { File::create(path).unwrap() };
            file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(secs)).unwrap();
        };
        assert!(!built(&ui), "nothing was built yet");
        at(&ui.join("dist/manifest.json"), 100);
        at(&ui.join("src/core/text.ts"), 50);
        at(&ui.join("src/core"), 50);
        at(&ui.join("src"), 50);
        assert!(built(&ui));
        at(&ui.join("src/core/text.ts"), 101);
        assert!(!built(&ui), "a source changed");
        at(&ui.join("src/core/text.ts"), 50);
        fs::remove_file(ui.join("src/core/text.ts")).unwrap();
        assert!(!built(&ui), "a source was removed");
        fs::remove_dir_all(&ui).unwrap();
    }
}
