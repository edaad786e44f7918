//! Decides where the pages come from. It never runs node: a release build embeds what `shared/ui/dist` holds, a debug
//! build reads that folder when asked, and either compiles when the folder is empty or missing.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

fn main() {
    let dist = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("../ui/dist");
    println!("cargo:rerun-if-changed=build.rs");
    let mut code = String::new();
    if std::env::var("PROFILE").as_deref() == Ok("release") {
        // Watched only where it matters: building the pages must not recompile the debug services.
        println!("cargo:rerun-if-changed={}", dist.display());
        code.push_str("fn file(name: &str) -> Option<Cow<'static, [u8]>> {\n    match name {\n");
        for (folder, prefix) in [(dist.clone(), ""), (dist.join("a"), "a/")] {
            for path in files(&folder) {
                let name = path.file_name().and_then(|name| name.to_str()).expect("our own build writes plain names");
                let whole = path.canonicalize().expect("it was just listed");
                let _ = writeln!(code, "        {:?} => Some(Cow::Borrowed(include_bytes!({:?}))),", format!("{prefix}{name}"), whole);
            }
        }
        code.push_str("        _ => None,\n    }\n}\n");
    } else {
        let _ = writeln!(
            code,
            "fn file(name: &str) -> Option<Cow<'static, [u8]>> {{\n    std::fs::read(std::path::Path::new({:?}).join(name)).ok().map(Cow::Owned)\n}}",
            dist.display().to_string()
        );
    }
    let out = Path::new(&std::env::var("OUT_DIR").expect("cargo sets it")).join("pages.rs");
    std::fs::write(out, code).expect("OUT_DIR can be written");
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).filter(|path| path.is_file()).collect();
    files.sort();
    files
}
