//! Prints docs/RULES.md: every rule that comes with the agent, made from the texts of the rules.

use policy::bundle::Named;
use policy::law::table::table;
use std::path::Path;

fn texts(folder: &Path) -> Vec<Named> {
    let mut found = Vec::new();
    let mut entries: Vec<_> = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            found.extend(texts(&path));
        } else if path.extension().is_some_and(|ending| ending == "toml") {
            found.push(Named { name: path.display().to_string(), text: std::fs::read_to_string(&path).unwrap_or_default() });
        }
    }
    found
}

fn main() {
    let rules = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/rules"));
    match table(&texts(&rules.join("known")), &texts(&rules.join("danger"))) {
        Ok(page) => print!("{page}"),
        Err(faults) => panic!("{}", faults.iter().map(|fault| format!("\n{fault}")).collect::<String>()),
    }
}
