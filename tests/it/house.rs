//! The laws of the house: what no review should have to look for.
//!
//! A law is a function from the tree's files to the places that break it. Each runs twice: over the tree, and over
//! samples that break it and samples that keep it, so that a law which can no longer fail is noticed. Samples that are
//! shaped like a secret, or like another thing that may not lie in the tree, are put together at run time.
//! A law reads text, not meaning: it finds what is written in the usual way and trusts that nobody hides from it.

mod licence;
mod rust;
mod tree;

use rust::Source;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::sync::LazyLock;
use tree::Tree;

type Law = fn(&Tree) -> Vec<String>;

static TREE: LazyLock<Tree> = LazyLock::new(Tree::here);

#[track_caller]
fn holds(law: Law, remedy: &str) {
    say(law(&TREE), remedy);
}

#[track_caller]
fn say(broken: Vec<String>, remedy: &str) {
    assert!(broken.is_empty(), "\n{remedy}\n  {}\n", broken.join("\n  "));
}

/// The law speaks about each of the first trees, and about none of the second.
#[track_caller]
fn judges(law: Law, breaking: &[&[(&str, &str)]], keeping: &[&[(&str, &str)]]) {
    for files in breaking {
        assert!(!law(&Tree::of(files)).is_empty(), "the law does not notice {files:?}");
    }
    for files in keeping {
        assert_eq!(law(&Tree::of(files)), [""; 0], "the law speaks without reason about {files:?}");
    }
}

// What may depend on what.

#[test]
fn crates_depend_only_on_what_they_may() {
    holds(dependencies, "Take the dependency out, or change the direction in docs/ARCHITECTURE.md first and the list in this law after it:");
    judges(
        dependencies,
        &[
            &[("policy/Cargo.toml", "[dependencies]\ntokio.workspace = true")],
            &[("shared/redact/Cargo.toml", "[dependencies]\nwire.workspace = true")],
            &[("shared/redact/Cargo.toml", "[build-dependencies]\ncc.workspace = true")],
            &[("hub/Cargo.toml", "[dependencies]\ntenant-agent.workspace = true")],
            &[("hub/Cargo.toml", "[target.'cfg(unix)'.dependencies]\ntenant-agent.workspace = true")],
            &[("tenant-agent/Cargo.toml", "[dev-dependencies]\nhub.workspace = true")],
            &[("hub/src/a.rs", "use tenant_agent::vault;")],
            &[("tenant-agent/src/a.rs", "fn f() { hub::app::run() }")],
            &[("packaging/demo/Cargo.toml", "[dependencies]\nanyhow.workspace = true")],
        ],
        &[
            &[("policy/Cargo.toml", "[dependencies]\nserde.workspace = true\n[dev-dependencies]\nproptest.workspace = true")],
            &[("hub/Cargo.toml", "[dependencies]\npolicy.workspace = true\ntokio.workspace = true")],
            &[("tenant-agent/src/a.rs", "use crate::hub_link; // not hub::app\nlet a = \"hub::app\"; my_hub::x(); crate::hub::x()")],
            &[("tests/Cargo.toml", "[dependencies]\nhub.workspace = true\ntenant-agent.workspace = true")],
        ],
    );
}

/// Everything that these crates may use.
const CLOSED: &[(&str, &[&str])] = &[
    ("policy", &["ring", "serde", "serde_json", "shuck-ast", "shuck-parser", "thiserror", "toml"]),
    ("shared/redact", &["aho-corasick", "flate2", "memchr", "ring", "serde", "serde_json", "thiserror", "toml", "zeroize"]),
    ("packaging/demo", &[]),
];
/// Which of ours these crates may use.
const DIRECTION: &[(&str, &[&str])] = &[
    ("shared/wire", &["policy"]),
    ("shared/shipped", &["policy", "redact"]),
    ("shared/service", &["policy", "wire", "redact"]),
    ("tenant-agent", &["policy", "wire", "redact", "service", "shipped"]),
    ("hub", &["policy", "wire", "redact", "service", "shipped"]),
];
const OURS: &[&str] = &["policy", "wire", "redact", "service", "shipped", "tenant-agent", "hub", "demo", "tests", "fuzz"];

fn dependencies(tree: &Tree) -> Vec<String> {
    let mut broken = Vec::new();
    for (folder, manifest) in manifests(tree, &mut broken) {
        for (section, name, _) in declared(&manifest) {
            let closed =
                CLOSED.iter().find(|(closed, _)| *closed == folder).is_some_and(|(_, may)| section != "dev-dependencies" && !may.contains(&name.as_str()));
            let turned =
                DIRECTION.iter().find(|(from, _)| *from == folder).is_some_and(|(_, may)| OURS.contains(&name.as_str()) && !may.contains(&name.as_str()));
            if closed || turned {
                broken.push(format!("{folder}/Cargo.toml: {section} has `{name}`"));
            }
        }
    }
    for (folder, other) in [("hub/src/", "tenant_agent"), ("tenant-agent/src/", "hub")] {
        for (path, text) in tree.ending(".rs").filter(|(path, _)| path.starts_with(folder)) {
            let source = Source::read(text);
            let foreign = |at: &usize| !source.code[..*at].trim_end().ends_with("::") && source.code[at + other.len()..].trim_start().starts_with("::");
            broken.extend(source.words(other).filter(foreign).map(|at| format!("{path}:{}: uses `{other}::`", source.line(at))));
        }
    }
    broken
}

/// Every manifest but the workspace's, by folder. One that cannot be read breaks every law that reads manifests.
fn manifests(tree: &Tree, broken: &mut Vec<String>) -> BTreeMap<String, toml::Table> {
    let mut manifests = BTreeMap::new();
    for (path, text) in tree.ending("/Cargo.toml") {
        match text.parse() {
            Ok(manifest) => drop(manifests.insert(path.trim_end_matches("/Cargo.toml").to_owned(), manifest)),
            Err(error) => broken.push(format!("{path}: {error}")),
        }
    }
    manifests
}

/// (section, name, value) of every dependency, also of those for one platform only.
fn declared(manifest: &toml::Table) -> Vec<(String, String, toml::Value)> {
    let mut tables = vec![manifest];
    tables.extend(
        manifest.get("target").and_then(|target| target.as_table()).into_iter().flat_map(|targets| targets.values().filter_map(|target| target.as_table())),
    );
    let mut declared = Vec::new();
    for table in tables {
        for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let entries = table.get(section).and_then(|section| section.as_table()).into_iter().flatten();
            declared.extend(entries.map(|(name, value)| (section.to_owned(), name.clone(), value.clone())));
        }
    }
    declared
}

#[test]
fn the_workspace_decides_for_its_members() {
    holds(workspace, "Declare it once in the workspace and inherit it:");
    let root = "[workspace]\nmembers = [\"a\"]\n[workspace.package]\npublish = false\n[workspace.dependencies]\nb = \"1\"";
    let member = "[package]\nname = \"a\"\npublish.workspace = true\nlicense.workspace = true\n[lints]\nworkspace = true\n[dependencies]\nb.workspace = true";
    let with = |member: &'static str| [("Cargo.toml", root), ("Cargo.lock", ""), ("a/Cargo.toml", member)];
    judges(
        workspace,
        &[
            &with("[package]\npublish.workspace = true\nlicense.workspace = true\n[lints]\nworkspace = true\n[dependencies]\nb = \"1\""),
            &with(
                "[package]\npublish.workspace = true\nlicense.workspace = true\n[lints]\nworkspace = true\n[dependencies]\nb = { workspace = true, version = \"2\" }",
            ),
            &with("[package]\npublish.workspace = true\nlicense.workspace = true\n[dependencies]\nb.workspace = true"),
            &with("[package]\nlicense.workspace = true\n[lints]\nworkspace = true\n[dependencies]\nb.workspace = true"),
            &with("[package]\npublish.workspace = true\nlicense.workspace = true\n[lints]\nworkspace = true"),
            &[("Cargo.toml", root), ("a/Cargo.toml", member)],
            &[("Cargo.toml", root), ("Cargo.lock", ""), ("a/Cargo.toml", member), ("c/Cargo.toml", member)],
            &[("Cargo.toml", "[workspace]\nmembers = [\"a\"]"), ("Cargo.lock", ""), ("a/Cargo.toml", member)],
        ],
        &[&[("Cargo.toml", root), ("Cargo.lock", ""), ("a/Cargo.toml", member)]],
    );
}

fn workspace(tree: &Tree) -> Vec<String> {
    let mut broken = Vec::new();
    let root: toml::Table = tree.text("Cargo.toml").and_then(|text| text.parse().ok()).unwrap_or_default();
    let at = |path: &[&str]| path.iter().try_fold(&toml::Value::Table(root.clone()), |value, key| value.get(key)).cloned();
    let names = |value: Option<toml::Value>| -> BTreeSet<String> {
        match value {
            Some(toml::Value::Array(values)) => values.iter().filter_map(|value| value.as_str().map(str::to_owned)).collect(),
            Some(toml::Value::Table(table)) => table.keys().cloned().collect(),
            _ => BTreeSet::new(),
        }
    };
    if tree.text("Cargo.lock").is_none() {
        broken.push("Cargo.lock is not in the tree".to_owned());
    }
    if at(&["workspace", "package", "publish"]) != Some(toml::Value::Boolean(false)) {
        broken.push("Cargo.toml: workspace.package.publish is not false".to_owned());
    }
    let (members, mut unused) = (names(at(&["workspace", "members"])), names(at(&["workspace", "dependencies"])));
    for (folder, manifest) in manifests(tree, &mut broken) {
        let inherits = |table: &str, key: &str| {
            let table = manifest.get(table).and_then(|table| table.as_table());
            let value = if key.is_empty() { table } else { table.and_then(|table| table.get(key)?.as_table()) };
            value.and_then(|value| value.get("workspace")) == Some(&toml::Value::Boolean(true))
        };
        if !members.contains(&folder) {
            broken.push(format!("{folder} is not a member of the workspace"));
        }
        for (table, key) in [("lints", ""), ("package", "publish"), ("package", "license")] {
            if !inherits(table, key) {
                broken.push(format!("{folder}/Cargo.toml: `{}.workspace = true` is missing", if key.is_empty() { table } else { key }));
            }
        }
        for (section, name, value) in declared(&manifest) {
            unused.remove(&name);
            let table = value.as_table();
            let inherited = table.is_some_and(|table| table.get("workspace") == Some(&toml::Value::Boolean(true)) && !table.contains_key("version"));
            if !inherited {
                broken.push(format!("{folder}/Cargo.toml: {section}.{name} is declared here"));
            }
        }
    }
    broken.extend(unused.into_iter().filter(|name| !OURS.contains(&name.as_str())).map(|name| format!("Cargo.toml: no member uses `{name}`")));
    broken
}

#[test]
fn the_licence_of_every_crate_is_allowed() {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    // Only the crates for this kind of machine: cargo has fetched those, and they are what is given away.
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--locked", "--offline", "--filter-platform", &platform])
        .current_dir(tree::root())
        .output()
        .expect("cargo runs this test");
    assert!(output.status.success(), "cargo metadata fails: {}", String::from_utf8_lossy(&output.stderr));
    let licences = |json: &str| licences(json).unwrap_or_else(|error| vec![format!("cargo's answer cannot be read: {error}")]);
    say(licences(&String::from_utf8_lossy(&output.stdout)), "Do without this crate, or decide about its licence in tests/it/house/licence.rs:");
    let package = |licence: &str| format!("{{\"packages\":[{{\"name\":\"a\",\"version\":\"1.0.0\",\"license\":{licence}}}]}}");
    assert_eq!(licences(&package("\"MIT\"")), [""; 0]);
    for broken in [package("\"GPL-3.0-only\""), package("null"), "{}".to_owned(), "{\"packages\":[]}".to_owned()] {
        assert!(!licences(&broken).is_empty(), "{broken}");
    }
}

fn licences(metadata: &str) -> serde_json::Result<Vec<String>> {
    let metadata: serde_json::Value = serde_json::from_str(metadata)?;
    let packages = metadata["packages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut broken: Vec<String> = packages
        .iter()
        .filter(|package| !package["license"].as_str().is_some_and(licence::allowed))
        .map(|package| format!("{} {}: {}", package["name"], package["version"], package["license"]))
        .collect();
    if packages.is_empty() {
        broken.push("cargo names no package at all".to_owned());
    }
    Ok(broken)
}

#[test]
fn what_is_fetched_is_pinned_and_comes_from_where_everybody_fetches() {
    holds(pins, "Lock it again without naming a mirror (npm: `npm install --package-lock-only` beside the committed .npmrc):");
    let from = |source: &str| format!("[[package]]\nname = \"a\"\nversion = \"1.0.0\"\nsource = \"{source}\"\nchecksum = \"00\"\n");
    let (usual, mirror, git) = (from(INDEX), from("registry+https://mirror.example/index"), from("git+https://example.org/a#0"));
    let unchecked = usual.replace("checksum", "other");
    let resolved = format!("{{\"packages\":{{\"a\":{{\"{}\":\"x\"}}}}}}", "resolved");
    let npmrc = [("p/package.json", "{\"dependencies\":{}}"), ("p/package-lock.json", "{}"), ("p/.npmrc", "omit-lockfile-registry-resolved=true\n")];
    judges(
        pins,
        &[
            &[("Cargo.lock", &mirror)],
            &[("Cargo.lock", &git)],
            &[("Cargo.lock", &unchecked)],
            &[("p/package-lock.json", &resolved)],
            &[("p/.npmrc", "registry=https://mirror.example/")],
            &[("p/.npmrc", "//mirror.example/:username=me")],
            &[("p/package.json", "{\"devDependencies\":{}}")],
            &[(".cargo/config.toml", "[source.crates-io]\nreplace-with = \"mirror\"")],
            &[(".cargo/config.toml", "[registries.mirror]\nindex = \"x\"")],
        ],
        &[&[("Cargo.lock", &usual)], &npmrc, &[(".cargo/config.toml", "[alias]\ndemo = \"run\"")]],
    );
}

/// What cargo itself writes for a crate from the public index.
const INDEX: &str = "registry+https://github.com/rust-lang/crates.io-index";

fn pins(tree: &Tree) -> Vec<String> {
    let mut broken = Vec::new();
    let lock: toml::Table = tree.text("Cargo.lock").and_then(|text| text.parse().ok()).unwrap_or_default();
    for package in lock.get("package").and_then(|packages| packages.as_array()).into_iter().flatten() {
        let source = package.get("source").and_then(|source| source.as_str());
        if source.is_some_and(|source| source != INDEX || package.get("checksum").is_none()) {
            broken.push(format!(
                "Cargo.lock: {} comes from elsewhere or without a checksum",
                package.get("name").and_then(|name| name.as_str()).unwrap_or("a package")
            ));
        }
    }
    for (path, text) in tree.files() {
        let name = path.rsplit('/').next().unwrap_or(path);
        let wrong = match name {
            "package-lock.json" => text.contains("\"resolved\""),
            "package.json" => text.contains("ependencies\"") && !tree.has(&path.replace("package.json", "package-lock.json")),
            ".npmrc" => text.lines().any(|line| line.trim_start().starts_with("//") || line.contains("registry=") || line.contains("://")),
            _ => path.starts_with(".cargo/config") && (text.contains("[source") || text.contains("[registr")),
        };
        if wrong {
            broken.push(path.to_owned());
        }
    }
    broken
}

// The shape of the house.

#[test]
fn rooms_are_not_imported() {
    holds(rooms, "Move what both need into a cupboard, or let the composition root hand it over:");
    judges(
        rooms,
        &[
            &[("hub/src/fleet.rs", "use crate::billing::Order;")],
            &[("hub/src/fleet/view.rs", "use crate::{store, billing};")],
            &[("hub/src/fleet/view.rs", "fn f() { super::super::billing::f() }")],
            &[("hub/src/pool.rs", "use super::fleet;")],
            &[("tenant-agent/src/gateway/process.rs", "use crate::care::doctor;")],
            &[("tenant-agent/src/tools/exec.rs", "use crate::safety_wrapper;")],
        ],
        &[
            &[("hub/src/fleet/view.rs", "use crate::fleet::Row; use super::billing; use crate::store;\n// crate::billing")],
            &[("hub/src/app.rs", "use crate::{fleet, billing};"), ("hub/src/routes.rs", "use crate::fleet;"), ("hub/src/lib.rs", "pub mod fleet;")],
            &[("tenant-agent/src/care/doctor.rs", "use crate::{gateway, vault}; let a = \"crate::tools\";")],
            &[("shared/service/src/door.rs", "use crate::tools;")],
        ],
    );
}

/// (folder, rooms). Every other module beside them is a cupboard, unless it is one of [`ROOTS`].
const HOUSES: &[(&str, &[&str])] = &[
    ("hub/src/", &["fleet", "customers", "billing", "provision", "operator", "edge", "tez", "crm", "projects"]),
    ("tenant-agent/src/", &["auth_proxy", "safety_wrapper", "tools", "egress_proxy", "forward_proxy", "hub_link", "care", "console"]),
];
/// Where the house is put together. They know all.
const ROOTS: &[&str] = &["lib", "main", "app", "agent", "routes", "demo", "config", "bin"];

fn rooms(tree: &Tree) -> Vec<String> {
    let mut broken = Vec::new();
    for (folder, rooms) in HOUSES {
        for (path, text) in tree.ending(".rs") {
            let Some(module) = module(folder, path).filter(|module| !ROOTS.contains(&module[0])) else { continue };
            let source = Source::read(text);
            let foreign = source.top_level(&module).into_iter().filter(|(_, name)| rooms.contains(&name.as_str()) && name != module[0]);
            broken.extend(foreign.map(|(at, name)| format!("{path}:{}: imports the room `{name}`", source.line(at))));
        }
    }
    broken
}

/// `hub/src/fleet/view.rs` in `hub/src/` is `["fleet", "view"]`.
fn module<'a>(folder: &str, path: &'a str) -> Option<Vec<&'a str>> {
    let mut module: Vec<&str> = path.strip_prefix(folder)?.strip_suffix(".rs")?.split('/').collect();
    if module.len() > 1 && module.last() == Some(&"mod") {
        module.pop();
    }
    Some(module)
}

#[test]
fn sql_stays_in_its_cupboards() {
    holds(sql, "Move the statement into hub/src/store/ or into a cupboard of the agent, as a function that takes and returns our types:");
    judges(
        sql,
        &[
            &[("hub/src/fleet.rs", "db.execute(\"SELECT a FROM b\")")],
            &[("hub/src/jobs.rs", "let a = r#\"\n  UPDATE b SET c = 1\"#;")],
            &[("tenant-agent/src/console.rs", "\"DELETE FROM a\"")],
            &[("tenant-agent/src/tools/exec.rs", "\"INSERT OR IGNORE INTO a VALUES (1)\"")],
            &[("tenant-agent/src/agent.rs", "\"CREATE TABLE a (b)\"")],
            &[("shared/service/src/door.rs", "\"INSERT INTO a VALUES (1)\"")],
        ],
        &[
            &[("hub/src/store/sqlite/usage.rs", "\"SELECT a FROM b\""), ("hub/src/store.rs", "\"CREATE TABLE a (b)\"")],
            &[("tenant-agent/src/vault.rs", "\"SELECT a FROM b\""), ("shared/service/src/store.rs", "\"DELETE FROM a\"")],
            &[(
                "hub/src/fleet.rs",
                "// SELECT a FROM b\nlet a = \"Select one from the list\"; let b = \"UPDATE\";\n#[cfg(test)]\nmod tests { fn f() { \"DELETE FROM a\" } }",
            )],
            &[("policy/src/shell.rs", "\"DROP TABLE a\""), ("tests/it/story.rs", "\"SELECT a FROM b\"")],
        ],
    );
}

fn sql(tree: &Tree) -> Vec<String> {
    let mut broken = Vec::new();
    for (path, text) in tree.ending(".rs").filter(|(path, _)| may_not_hold_sql(path)) {
        let source = Source::read(text).without_tests();
        let statements = source.strings.iter().filter(|(_, text)| is_sql(text));
        broken.extend(statements.map(|(at, _)| format!("{path}:{}", source.line(*at))));
    }
    broken
}

fn may_not_hold_sql(path: &str) -> bool {
    if let Some(module) = module("hub/src/", path) {
        return module[0] != "store";
    }
    if let Some(module) = module("tenant-agent/src/", path) {
        return HOUSES[1].1.contains(&module[0]) || ROOTS.contains(&module[0]);
    }
    path.starts_with("shared/") && path != "shared/service/src/store.rs"
}

fn is_sql(text: &str) -> bool {
    let words: Vec<&str> = text.split_whitespace().collect();
    let begins = |first: &str, second: &[&str]| words.windows(2).any(|pair| pair[0] == first && second.contains(&pair[1]));
    let later = |first: &str, then: &str| words.iter().position(|word| *word == first).is_some_and(|at| words[at..].contains(&then));
    begins("INSERT", &["INTO", "OR"])
        || begins("DELETE", &["FROM"])
        || ["CREATE", "DROP", "ALTER"].iter().any(|verb| begins(verb, &["TABLE", "INDEX", "TRIGGER", "VIEW", "UNIQUE", "TEMP"]))
        || later("SELECT", "FROM")
        || later("UPDATE", "SET")
}

#[test]
fn every_file_says_what_it_is_for() {
    holds(heads, "Open the file with `//!`: what it is for, what it refuses to do, its limits:");
    judges(
        heads,
        &[&[("a.rs", "fn main() {}")], &[("a.rs", "")], &[("a.rs", "//! .\n")], &[("a.rs", "\n//! What it is for.")], &[("a.rs", "// What it is for.")]],
        &[&[("a.rs", "//! What it is for.\nfn main() {}"), ("a.ts", "let a;")]],
    );
}

fn heads(tree: &Tree) -> Vec<String> {
    let speaks = |text: &str| text.lines().next().and_then(|line| line.strip_prefix("//! ")).is_some_and(|line| line.split_whitespace().count() >= 3);
    tree.ending(".rs").filter(|(_, text)| !speaks(text)).map(|(path, _)| path.to_owned()).collect()
}

#[test]
fn nothing_is_left_for_later() {
    holds(later, "Do it now, or take it out; what is open belongs to the plan, not to the code:");
    let (note, fix, hole) = (["TO", "DO"].concat(), ["FIX", "ME"].concat(), ["to", "do!"].concat());
    judges(
        later,
        &[
            &[("a.rs", &format!("// {note}: later"))],
            &[("docs/A.md", &format!("{fix} this"))],
            &[("a.ts", &format!("/* {note}(me) */"))],
            &[("a.rs", &format!("fn f() {{ {hole}() }}"))],
        ],
        &[&[("a.rs", &format!("let a{note}S = 1; // method{note}")), ("Cargo.toml", "todo = \"warn\""), ("package-lock.json", &note)]],
    );
}

fn later(tree: &Tree) -> Vec<String> {
    let words = [["TO", "DO"].concat(), ["FIX", "ME"].concat(), ["to", "do!"].concat(), ["unimple", "mented!"].concat(), ["db", "g!("].concat()];
    let mut broken = Vec::new();
    for (path, text) in tree.files().filter(|(path, _)| !is_lock(path)) {
        for (number, line) in (1..).zip(text.lines()) {
            if words.iter().any(|word| alone(line, word)) {
                broken.push(format!("{path}:{number}"));
            }
        }
    }
    broken
}

fn alone(line: &str, word: &str) -> bool {
    let joined = |letter: Option<char>| letter.is_some_and(|letter| letter.is_alphanumeric() || letter == '_');
    line.match_indices(word).any(|(at, _)| !joined(line[..at].chars().next_back()) && !joined(line[at + word.len()..].chars().next()))
}

fn is_lock(path: &str) -> bool {
    path.ends_with("Cargo.lock") || path.ends_with("package-lock.json")
}

// What may not lie in the tree.

#[test]
fn no_secret_lies_in_the_tree() {
    holds(secrets, "Revoke it where it came from, then take it out. An example is put together at run time:");
    let key = format!("{}{}", "sk-ant-api03-", "aB3".repeat(12));
    let frame = format!("-----BEGIN {} KEY-----\n{}\n-----END", "PRIVATE", "aB3/".repeat(20));
    judges(
        secrets,
        &[&[("a.md", &format!("use {key}"))], &[("a/b.txt", &frame)], &[("a.rs", &format!("\"postgres://a:{}@b\"", "aB3aB3aB3"))]],
        &[&[("a.md", "use $ANTHROPIC_API_KEY, which begins with sk-ant-"), ("b.rs", "format!(\"{}{}\", \"sk-ant-api03-\", \"aB3\".repeat(12))")]],
    );
}

fn secrets(tree: &Tree) -> Vec<String> {
    tree.files().flat_map(|(path, text)| found(path, text)).collect()
}

/// Where, and of which kind; never the secret itself, because a test's output is kept.
fn found(name: &str, text: &str) -> Vec<String> {
    redact::find(text).iter().map(|hit| format!("{name}:{}: {}", text[..hit.start].matches('\n').count() + 1, hit.kind)).collect()
}

#[test]
fn no_secret_lies_in_the_history() {
    let mut broken = BTreeSet::new();
    tree::history(|past| {
        broken.extend(found(&past.name, &past.text));
        if past.bytes > tree::PAST_BYTES_MAX {
            broken.insert(format!("{}: {} bytes are too many to look through", past.name, past.bytes));
        }
        if is_credential(&past.name, &past.text) {
            broken.insert(format!("{}: the name of a file that holds credentials", past.name));
        }
    });
    say(broken.into_iter().collect(), "It is public as soon as the history is: revoke it first, then rewrite the history before anybody clones it:");
}

#[test]
fn no_file_for_credentials_lies_in_the_tree() {
    holds(credentials, "Credentials come from stdin, a 0600 file outside of the tree, or the service manager. Untrack it and revoke what was in it:");
    judges(
        credentials,
        &[
            &[(".env", "")],
            &[("a/.env.production", "")],
            &[("a/tls.key", "")],
            &[("b.pem", "")],
            &[("id_ed25519", "")],
            &[("c/credentials.json", "")],
            &[("d.p12", "")],
            &[(".netrc", "")],
            &[(".npmrc", &format!("{}=abc", ["_auth", "Token"].concat()))],
            &[("vault.sqlite", "")],
        ],
        &[&[("shared/ui/.npmrc", "fund=false"), ("src/key.rs", ""), ("docs/environment.md", ""), ("src/credentials.rs", "")]],
    );
}

fn credentials(tree: &Tree) -> Vec<String> {
    tree.files().filter(|(path, text)| is_credential(path, text)).map(|(path, _)| path.to_owned()).collect()
}

fn is_credential(path: &str, text: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let source = [".rs", ".ts", ".tsx", ".mjs", ".md", ".css"].iter().any(|ending| name.ends_with(ending));
    let ending = [".pem", ".key", ".p12", ".pfx", ".jks", ".keystore", ".kdbx", ".gpg", ".ppk", ".sqlite", ".db"].iter().any(|ending| name.ends_with(ending));
    let known = [".env", ".netrc", ".pgpass", ".htpasswd", ".git-credentials", ".dockercfg"].contains(&name);
    let family = [".env.", "id_rsa", "id_dsa", "id_ecdsa", "id_ed25519", "credentials", "service-account"].iter().any(|start| name.starts_with(start));
    let token = name == ".npmrc" && text.lines().any(|line| line.contains("_auth") || line.contains("_password"));
    !source && (ending || known || family) || token
}

#[test]
fn nothing_foreign_or_built_lies_in_the_tree() {
    holds(built, "Fetch or build it instead; .gitignore keeps it out:");
    judges(
        built,
        &[
            &[("a/node_modules/b/c.js", "")],
            &[("target/debug/hub", "")],
            &[("shared/ui/dist/a.html", "")],
            &[("vendor/a/b.rs", "")],
            &[("a/third_party/b.c", "")],
            &[("a/b.so", "")],
            &[("a.tgz", "")],
        ],
        &[&[("hub/src/vendor.rs", ""), ("docs/target.md", ""), ("shared/ui/build.mjs", "")]],
    );
}

fn built(tree: &Tree) -> Vec<String> {
    let folders = ["node_modules", "target", "dist", "vendor", "third_party", "__pycache__"];
    let endings = [".so", ".o", ".a", ".rlib", ".exe", ".wasm", ".zip", ".tgz", ".tar", ".gz", ".xz", ".deb", ".pyc", ".log"];
    let wrong = |path: &str| {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        folder.split('/').any(|part| folders.contains(&part)) || endings.iter().any(|ending| name.ends_with(ending))
    };
    tree.files().filter(|(path, _)| wrong(path)).map(|(path, _)| path.to_owned()).collect()
}

#[test]
fn the_tree_does_not_tell_where_it_was_written() {
    holds(places, "Name it from the root of the repository, or by its variable; a sample may say /home/alice:");
    let home = ["/ho", "me/"].concat();
    let place = |name: &str| format!("see /{name}/main/a.rs");
    judges(
        places,
        &[
            &[("a.md", &place("work"))],
            &[("a.rs", &format!("\"{}\"", place("root")))],
            &[("a.sh", &format!("cd {home}jsmith/x"))],
            &[("a.sh", &format!("cd {}target-a", "/tmp/"))],
            &[("a.md", &format!("see https://{}/x", ["claude", ".ai"].concat()))],
        ],
        &[&[
            ("a.md", &format!("{home}alice/x {home}<name>/x {home}$USER/ homework/ /framework/x {}/b", "a/work")),
            ("policy/src/path.rs", &place("root")),
            ("package-lock.json", &place("work")),
        ]],
    );
}

fn places(tree: &Tree) -> Vec<String> {
    let mut broken = Vec::new();
    for (path, text) in tree.files().filter(|(path, _)| !is_lock(path)) {
        for (number, line) in (1..).zip(text.lines()) {
            broken.extend(place(path, line).map(|what| format!("{path}:{number}: `{what}`")));
        }
    }
    broken
}

/// Names that nobody takes for a machine's.
const SAMPLE_HOMES: &[&str] = &["alice", "bob", "carol", "user", "me", "you", "name", "assistant", "openclaw", "gatehouse", "node"];

fn place(path: &str, line: &str) -> Option<String> {
    let links = [["claude", ".ai/"].concat(), ["chatgpt", ".com/"].concat()];
    let folders = ["work", "repo", "root"].map(|name| format!("/{name}/"));
    let begins = |what: &str| {
        line.match_indices(what)
            .find(|(at, _)| !line[..*at].ends_with(|before: char| before.is_alphanumeric() || "/._-}$)*~>".contains(before)))
            .map(|(at, _)| at)
    };
    if let Some(link) = links.into_iter().find(|link| line.contains(link.as_str())) {
        return Some(link);
    }
    // The policy speaks about root's files because calls do.
    let rules = path.starts_with("policy/");
    if let Some(folder) = folders.into_iter().find(|folder| begins(folder).is_some() && !(rules && folder.contains("root"))) {
        return Some(folder);
    }
    let temporary = ["/tmp/", "target"].concat();
    if line.contains(temporary.as_str()) {
        return Some(temporary);
    }
    let home = begins("/home/")?;
    let name: String = line[home + "/home/".len()..].chars().take_while(|letter| letter.is_alphanumeric() || "_-".contains(*letter)).collect();
    (!name.is_empty() && !SAMPLE_HOMES.contains(&name.as_str())).then(|| format!("/home/{name}"))
}

// What people read.

#[test]
fn both_languages_say_the_same_things() {
    holds(catalogue, "Write the sentence in both shared/text/de.json and shared/text/en.json, with the same places in braces:");
    let both = |de: &'static str, en: &'static str| [("shared/text/de.json", de), ("shared/text/en.json", en)];
    judges(
        catalogue,
        &[
            &both(r#"{"a":"x"}"#, r#"{"a":"x","b":"y"}"#),
            &both(r#"{"a":"x","b":"y"}"#, r#"{"a":"x"}"#),
            &both(r#"{"a":"{n} x"}"#, r#"{"a":"{m} x"}"#),
            &both(r#"{"a":" "}"#, r#"{"a":"x"}"#),
            &both(r#"{"a":{"b":"x"}}"#, r#"{"a":{"b":"x"}}"#),
            &[("shared/text/de.json", "{}")],
        ],
        &[&both(r#"{"a":"{n} x {m}"}"#, r#"{"a":"{m} y {n}"}"#)],
    );
}

type Sentences = BTreeMap<String, String>;

fn sentences(tree: &Tree, language: &str) -> Result<Sentences, String> {
    let path = format!("shared/text/{language}.json");
    let text = tree.text(&path).ok_or(format!("{path} is missing"))?;
    serde_json::from_str(text).map_err(|error| format!("{path} is not one flat object of sentences: {error}"))
}

fn catalogue(tree: &Tree) -> Vec<String> {
    let (de, en) = match (sentences(tree, "de"), sentences(tree, "en")) {
        (Ok(de), Ok(en)) => (de, en),
        (de, en) => return [de.err(), en.err()].into_iter().flatten().collect(),
    };
    let places = |text: &str| text.split('{').skip(1).filter_map(|rest| rest.split_once('}')).map(|(name, _)| name.to_owned()).collect::<BTreeSet<_>>();
    let keys: BTreeSet<&String> = de.keys().chain(en.keys()).collect();
    let same = |key: &&&String| match (de.get(**key), en.get(**key)) {
        (Some(de), Some(en)) => places(de) == places(en) && !de.trim().is_empty() && !en.trim().is_empty(),
        _ => false,
    };
    keys.iter().filter(|key| !same(key)).map(|key| (*key).clone()).collect()
}

#[test]
fn every_code_has_a_sentence() {
    holds(codes, "Write the sentence under this key into both files of shared/text:");
    let with = |text: &'static str| {
        [("shared/text/de.json", r#"{"error.a":"A","finding.f":"F"}"#), ("shared/text/en.json", r#"{"error.a":"A","finding.f":"F"}"#), ("hub/src/x.rs", text)]
    };
    judges(
        codes,
        &[
            &with("Refusal::new(StatusCode::GONE, \"b\")"),
            &with("Refusal {\n status, code: \"b\", retry_after_secs: None }"),
            &with("HealthFinding { code: \"b\".to_owned() }"),
            &with("HealthFinding { code: \"a\".to_owned() }"),
            &with("json!({\"error\": {\"code\": \"b\"}})"),
            &with("return Err(End::Refused(\"b\"));"),
            &with("/// Finding codes.\npub const A: &str = \"f\";\npub const B: &str = \"g\";"),
        ],
        &[&with(
            "Refusal::new(status(1), \"a\"); HealthFinding { code: \"f\".into() }; T { code: \"a\".into() }; failed(\"could not start\", e); Refused(code); json!({\"code\": \"a\"}); // code: \"z\"\n#[cfg(test)]\nmod tests { fn f() { Refusal::new(x, \"z\") } }",
        )],
    );
}

fn codes(tree: &Tree) -> Vec<String> {
    let known: BTreeSet<String> = ["de", "en"].iter().filter_map(|language| sentences(tree, language).ok()).flatten().map(|(key, _)| key).collect();
    let mut broken = Vec::new();
    let ours = ["hub/src/", "tenant-agent/src/", "shared/service/src/", "shared/wire/src/"];
    for (path, text) in tree.ending(".rs").filter(|(path, _)| ours.iter().any(|folder| path.starts_with(folder))) {
        let source = Source::read(text).without_tests();
        for (at, family, code) in said(&source) {
            let key = format!("{family}.{code}");
            if !known.contains(&key) {
                broken.push(format!("{path}:{}: `{key}`", source.line(at)));
            }
        }
        for (number, code) in named_findings(text) {
            let key = format!("finding.{code}");
            if !known.contains(&key) {
                broken.push(format!("{path}:{number}: `{key}`"));
            }
        }
    }
    broken
}

/// Functions and variants whose first argument is a code, where it is a literal that looks like one.
const CARRIERS: &[(&str, &str)] = &[("Refused", "error"), ("stopped", "error"), ("failed", "error"), ("finding", "finding")];

/// (where, family, code) of every code that the file writes as a literal.
fn said(source: &Source) -> Vec<(usize, &'static str, &str)> {
    let mut said = Vec::new();
    for at in source.words("Refusal::new") {
        let end = source.code[at..].find(';').map_or(source.code.len(), |end| at + end);
        let open = source.code[at..end].find('(').map_or(at, |open| at + open);
        let closed = closing(&source.code[open..end]).map_or(end, |closed| open + closed);
        let last = source.strings.iter().rfind(|(string, _)| (open..closed).contains(string));
        said.extend(last.map(|(_, code)| (at, "error", code.as_str())));
    }
    for at in source.words("code") {
        let after = &source.code[at + "code".len()..];
        // As a field, or as a key of a JSON literal (whose inside is blank in the code, so it is not found here).
        let value = after.trim_start().strip_prefix(':').filter(|rest| !rest.starts_with(':')).map(str::trim_start).and_then(|rest| rest.strip_prefix('"'));
        let literal = value.and_then(|rest| source.string_at(source.code.len() - rest.len()));
        said.extend(literal.map(|code| (at, family(&source.code[..at]), code)));
    }
    for (carrier, family) in CARRIERS {
        for at in source.words(carrier) {
            let argument = source.code[at + carrier.len()..].strip_prefix('(').map(str::trim_start).and_then(|rest| rest.strip_prefix('"'));
            let literal = argument.and_then(|rest| source.string_at(source.code.len() - rest.len()));
            said.extend(literal.filter(|code| code.chars().all(|letter| letter.is_ascii_lowercase() || letter == '_')).map(|code| (at, *family, code)));
        }
    }
    for (at, _) in source.strings.iter().filter(|(_, text)| text == "code") {
        let after = source.code[at + "code".len()..].strip_prefix('"').map(str::trim_start).and_then(|rest| rest.strip_prefix(':'));
        let value = after.map(str::trim_start).and_then(|rest| rest.strip_prefix('"'));
        let literal = value.and_then(|rest| source.string_at(source.code.len() - rest.len()));
        said.extend(literal.map(|code| (*at, "error", code)));
    }
    said
}

/// (line, code) of the constants that follow a doc comment which begins with `Finding code`.
fn named_findings(text: &str) -> Vec<(usize, &str)> {
    let mut listed = false;
    let mut named = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        listed = line.trim_start().starts_with("/// Finding code") || listed && (line.contains("const ") || line.trim_start().starts_with("//"));
        named.extend(line.split('"').nth(1).filter(|_| listed && line.contains("const ")).map(|code| (number, code)));
    }
    named
}

/// A field `code` belongs to the value whose brace is open: a health finding has findings' sentences.
fn family(before: &str) -> &'static str {
    let mut depth = 0;
    for (at, letter) in before.char_indices().rev() {
        match letter {
            '}' => depth += 1,
            '{' if depth > 0 => depth -= 1,
            '{' => return if before[..at].trim_end().ends_with("Finding") { "finding" } else { "error" },
            _ => {}
        }
    }
    "error"
}

fn closing(code: &str) -> Option<usize> {
    let mut depth = 0;
    code.char_indices().find_map(|(at, letter)| {
        match letter {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        (depth == 0).then_some(at)
    })
}

#[test]
fn the_docs_name_what_exists() {
    holds(docs, "Correct the path, named from the root of the repository, or put there what it promises:");
    let with = |text: &'static str| [("docs/ARCHITECTURE.md", text), ("hub/src/app.rs", ""), ("shared/text/de.json", ""), ("shared/text/en.json", "")];
    judges(
        docs,
        &[
            &[("hub/src/app.rs", "")],
            &with("see `hub/src/gone.rs`"),
            &with("see `hub/src/fleet/`"),
            &with("see `src/app.rs`"),
            &with("see `shared/text/{de,fr}.json`"),
            &[("docs/ARCHITECTURE.md", ""), ("README.md", "see `docs/GONE.md`")],
        ],
        &[&with(
            "`hub/src/app.rs` `hub/` `shared/text/{de,en}.json` `hub/src/*.rs` `GET /a/b` `application/json` `target/debug/hub` `a/b` `/healthz`\n```\n`hub/gone.rs`\n```",
        )],
    );
}

/// What a build puts there.
const BUILT: &[&str] = &["target/", "shared/ui/dist", "shared/ui/node_modules", "tests/output"];

fn docs(tree: &Tree) -> Vec<String> {
    let mut broken = Vec::new();
    if tree.text("docs/ARCHITECTURE.md").is_none() {
        broken.push("docs/ARCHITECTURE.md is missing".to_owned());
    }
    for (path, text) in tree.ending(".md").filter(|(path, _)| path.starts_with("docs/") || *path == "README.md") {
        for (number, named) in quoted(text) {
            let top = named.split('/').next().is_some_and(|top| !top.is_empty() && tree.has_top(top));
            let file = [".rs", ".toml", ".md", ".json", ".mjs", ".ts", ".tsx", ".sh"].iter().any(|ending| named.ends_with(ending));
            let promised = top || file && !named.starts_with('/') && path == "docs/ARCHITECTURE.md";
            let built = BUILT.iter().any(|folder| named.starts_with(folder));
            if promised && !built && !spelled(named).iter().all(|name| tree.has(name)) {
                broken.push(format!("{path}:{number}: `{named}`"));
            }
        }
    }
    broken
}

/// (line, text) of everything in single backticks that could be a path; fenced blocks are left out.
fn quoted(text: &str) -> Vec<(usize, &str)> {
    let mut fenced = false;
    let mut quoted = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            quoted.extend(line.split('`').skip(1).step_by(2).map(|name| (number, name)));
        }
    }
    quoted.retain(|(_, name)| name.contains('/') && name.chars().all(|letter| letter.is_ascii_alphanumeric() || "/._-{},*".contains(letter)));
    quoted
}

/// The paths that a name with braces stands for, each up to its first asterisk.
fn spelled(name: &str) -> Vec<String> {
    if let Some((before, rest)) = name.split_once('{')
        && let Some((choices, after)) = rest.split_once('}')
    {
        return choices.split(',').flat_map(|choice| spelled(&format!("{before}{choice}{after}"))).collect();
    }
    let plain = name.split('*').next().unwrap_or(name);
    vec![if plain == name { name } else { plain.rsplit_once('/').map_or("", |(folder, _)| folder) }.to_owned()]
}

#[test]
fn ci_runs_what_a_person_runs() {
    holds(ci, "Let .ci/run call tests/all and nothing else, so that both mean the same:");
    judges(
        ci,
        &[
            &[("tests/all", "")],
            &[(".ci/run", "cargo test"), ("tests/all", "")],
            &[(".ci/run", "# tests/all"), ("tests/all", "")],
            &[(".ci/run", "exec tests/all")],
        ],
        &[&[(".ci/run", "#!/bin/sh\nexec tests/all"), ("tests/all", "")]],
    );
}

fn ci(tree: &Tree) -> Vec<String> {
    let calls = |text: &str| text.lines().any(|line| !line.trim_start().starts_with('#') && line.contains("tests/all"));
    let mut broken = Vec::new();
    if !tree.text(".ci/run").is_some_and(calls) {
        broken.push(".ci/run does not call tests/all".to_owned());
    }
    if tree.text("tests/all").is_none() {
        broken.push("tests/all is missing".to_owned());
    }
    broken
}
