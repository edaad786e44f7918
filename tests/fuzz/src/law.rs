//! The texts of the law that comes with the agent, as they lie in the tree.

use std::path::Path;

/// (name, text) of every file of rules.
pub fn texts() -> Vec<(String, String)> {
    let mut found = Vec::new();
    gather(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../policy/rules")), &mut found);
    found
}

fn gather(folder: &Path, found: &mut Vec<(String, String)>) {
    let mut entries: Vec<_> = std::fs::read_dir(folder).expect("the rules lie in the tree").map(|entry| entry.expect("readable").path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            gather(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "toml") && path.file_name().is_some_and(|name| name != "tools.toml") {
            found.push((path.file_name().unwrap_or_default().to_string_lossy().into_owned(), std::fs::read_to_string(&path).expect("readable")));
        }
    }
}
