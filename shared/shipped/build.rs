//! Lists the files of `policy/rules`, so that each is embedded as it lies there.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

fn main() {
    let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policy/rules");
    let mut text = String::new();
    for (name, folder) in [("KNOWN", "known"), ("RULES", "danger")] {
        let root = rules.join(folder);
        let _ = writeln!(text, "const {name}: &[(&str, &str)] = &[");
        for path in files(&root) {
            let shown = path.strip_prefix(&root).unwrap_or(&path).display().to_string();
            let _ = writeln!(text, "    ({shown:?}, include_str!({:?})),", path.display().to_string());
        }
        text.push_str("];\n");
    }
    let out = std::env::var_os("OUT_DIR").expect("cargo sets it");
    std::fs::write(Path::new(&out).join("texts.rs"), text).expect("cargo's folder takes files");
    println!("cargo::rerun-if-changed={}", rules.display());
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("the rules lie in the tree").flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|ending| ending == "toml") {
            found.push(path);
        }
    }
    found.sort();
    found
}
