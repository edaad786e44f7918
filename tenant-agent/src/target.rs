//! Where path arguments really lead, and what is in the files that a command runs. The classifier sees text; a symbolic
//! link and a script are only seen here, on the disk.

use policy::{Call, Deed, Digest, Law};
use serde_json::Value;
use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};

/// Files of one command that are looked into, and how far. What lies beyond is part of no digest.
const SCRIPTS_MAX: usize = 16;
const SCRIPT_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// What only root changes.
const SYSTEM: [&str; 5] = ["/usr", "/bin", "/sbin", "/lib", "/opt"];

/// Each path argument of the call with the place that it leads to, `None` when that cannot be told; then each file that a
/// command runs by its path, with the digest of what is in it now.
pub(crate) async fn resolve(law: &Law, tool: &str, params: &Value, workspace: &Path) -> Vec<(String, Option<String>)> {
    let tools = law.tools();
    let mut resolved = Vec::new();
    for name in tools.path_arguments(tool, params) {
        let Some(path) = params.get(&name) else { continue };
        let place = match path.as_str().filter(|path| policy::path::is_plain(path)) {
            Some(path) => real(workspace.join(path), tools.takes_paths_literally(tool)).await,
            None => None,
        };
        resolved.push((name, place.and_then(|place| place.to_str().map(str::to_owned))));
    }
    if tools.name_of(tool) == "exec" {
        let named = workspace.to_string_lossy();
        let call = Call { assistant: "", tool, arguments: params, workspace: &named, resolved: &resolved };
        let run = law.judge(&call).effects.into_iter().filter(|effect| effect.deed == Deed::Exec).map(|effect| effect.target);
        let folder = resolved.iter().find_map(|(_, place)| place.as_deref()).map_or_else(|| workspace.to_owned(), PathBuf::from);
        let files: Vec<(String, PathBuf)> = run.map(|target| (format!("{CONTENT}{target}"), folder.join(&target))).collect();
        let read = move || files.into_iter().filter_map(|(name, file)| Some((name, Some(content(&file)?)))).take(SCRIPTS_MAX).collect::<Vec<_>>();
        resolved.extend(tokio::task::spawn_blocking(read).await.unwrap_or_default());
    }
    resolved
}

/// What stands before the name of a file that a command runs.
pub(crate) const CONTENT: &str = "content of ";

/// The digest of a file of the assistant's own, `None` when it is none or too large.
pub(crate) fn content(file: &Path) -> Option<String> {
    if SYSTEM.iter().any(|folder| file.starts_with(folder)) {
        return None;
    }
    // A pipe would hold us until somebody writes into it.
    let file = std::fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(file).ok()?;
    let about = file.metadata().ok()?;
    let mut bytes = Vec::new();
    if !about.is_file() || about.len() > SCRIPT_BYTES_MAX || file.take(SCRIPT_BYTES_MAX).read_to_end(&mut bytes).is_err() {
        return None;
    }
    Some(Digest::of(&bytes).to_string())
}

/// The real path: of the file itself, or of the nearest folder that exists with the rest behind it. A dangling link is
/// nothing that can be told, and neither is a file that is not there when the tool looks for similar names.
async fn real(path: PathBuf, literal: bool) -> Option<PathBuf> {
    let mut there = path;
    let mut missing: Vec<OsString> = Vec::new();
    loop {
        if let Ok(real) = tokio::fs::canonicalize(&there).await {
            let plain = literal || missing.iter().all(|part| has_one_spelling(part));
            return plain.then(|| missing.into_iter().rev().fold(real, |path, part| path.join(part)));
        }
        if tokio::fs::symlink_metadata(&there).await.is_ok() {
            return None;
        }
        match there.components().next_back()? {
            Component::Normal(part) => missing.push(part.to_owned()),
            // `..` behind a folder that does not exist leads nowhere that could be told.
            _ => return None,
        }
        there.pop();
    }
}

/// Whether no other file could be meant: OpenClaw tries other quotes, spaces and Unicode forms of a name that it does not find.
fn has_one_spelling(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\''))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[tokio::test]
    async fn links_are_followed_and_what_cannot_be_told_is_said() {
        let folder = std::env::temp_dir().join(service::random::token());
        let workspace = folder.join("workspace");
        std::fs::create_dir_all(workspace.join("sub")).unwrap();
        std::fs::write(folder.join("secret"), "x").unwrap();
        std::os::unix::fs::symlink(folder.join("secret"), workspace.join("notes.md")).unwrap();
        std::os::unix::fs::symlink("/nowhere/at/all", workspace.join("dangling")).unwrap();
        std::os::unix::fs::symlink(&folder, workspace.join("up")).unwrap();
        let folder = folder.canonicalize().unwrap();
        let workspace = workspace.canonicalize().unwrap();
        let law = law();
        let place = |path: Value| {
            let (workspace, law) = (workspace.clone(), law.clone());
            async move { resolve(&law, "read", &json!({ "path": path }), &workspace).await.into_iter().next().and_then(|(_, place)| place) }
        };
        let inside = |name: &str| Some(workspace.join(name).to_str().unwrap().to_owned());
        assert_eq!(place(json!("sub/new.md")).await, inside("sub/new.md"));
        assert_eq!(place(json!("no/such/../folder")).await, None);
        assert_eq!(place(json!("notes.md")).await, Some(folder.join("secret").to_str().unwrap().to_owned()));
        assert_eq!(place(json!("up/new")).await, Some(folder.join("new").to_str().unwrap().to_owned()));
        for untold in [
            json!("dangling"),
            json!("dangling/x"),
            json!("~/x"),
            json!(""),
            json!("a\0b"),
            json!(7),
            json!("file:///etc/passwd"),
            json!("@notes.md"),
            json!("missing größe.md"),
        ] {
            assert_eq!(place(untold.clone()).await, None, "{untold}");
        }
        std::fs::remove_dir_all(folder).unwrap();
    }

    fn law() -> Law {
        Law::new(shipped::knowledge(), &[&shipped::floor(), &shipped::book()]).unwrap()
    }

    #[tokio::test]
    async fn what_a_script_holds_is_a_part_of_the_call_that_runs_it() {
        let workspace = std::env::temp_dir().join(service::random::token());
        std::fs::create_dir_all(workspace.join("sub")).unwrap();
        let workspace = workspace.canonicalize().unwrap();
        let law = law();
        for (file, params) in [
            ("build.sh", json!({ "command": "./build.sh --fast" })),
            ("build.sh", json!({ "command": "bash build.sh && ls" })),
            ("build.sh", json!({ "command": "sh < build.sh" })),
            ("sub/tool.py", json!({ "command": "python3 tool.py", "workdir": "sub" })),
            ("sub/tool.py", json!({ "command": "ls; env A=1 python3 sub/tool.py" })),
        ] {
            let mut seen = Vec::new();
            for text in ["echo one", "echo two", "echo one"] {
                std::fs::write(workspace.join(file), text).unwrap();
                let resolved = resolve(&law, "gatehouse__exec", &params, &workspace).await;
                assert!(resolved.iter().any(|(name, _)| name.starts_with("content of ")), "{params}: {resolved:?}");
                seen.push(resolved);
            }
            assert!(seen[0] == seen[2] && seen[0] != seen[1], "{params}");
        }
        assert_eq!(resolve(&law, "gatehouse__exec", &json!({ "command": "ls; /usr/bin/env true" }), &workspace).await, []);
        std::fs::remove_dir_all(workspace).unwrap();
    }
}
