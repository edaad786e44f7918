//! Where path arguments really lead. The classifier sees text; a symbolic link is only seen here, on the disk.

use policy::tool::Tools;
use serde_json::Value;
use std::ffi::{OsStr, OsString};
use std::path::{Component, Path, PathBuf};

/// Each path argument of the call with the place that it leads to, `None` when that cannot be told.
pub(crate) async fn resolve(tools: &Tools, tool: &str, params: &Value, workspace: &Path) -> Vec<(String, Option<String>)> {
    let mut resolved = Vec::new();
    for name in tools.path_arguments(tool, params) {
        let Some(path) = params.get(&name) else { continue };
        let place = match path.as_str().filter(|path| policy::path::is_plain(path)) {
            Some(path) => real(workspace.join(path), tools.takes_paths_literally(tool)).await,
            None => None,
        };
        resolved.push((name, place.and_then(|place| place.to_str().map(str::to_owned))));
    }
    resolved
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
        let tools = shipped::knowledge().tools();
        let place = |path: Value| {
            let workspace = workspace.clone();
            async move { resolve(tools, "read", &json!({ "path": path }), &workspace).await.into_iter().next().and_then(|(_, place)| place) }
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
}
