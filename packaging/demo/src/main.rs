//! `cargo demo`: from a fresh clone to a running hub with one customer's assistant beside it, in one command.
//!
//! Five steps, each told on stderr with its time: check the tools, fetch the parts, build the pages, build the binaries,
//! run `hub demo` and keep it running. Only std, so that this crate compiles in a second and says what is missing before
//! anything large is downloaded. It writes to the cache folder, to `target` and to `shared/ui`; what the demo itself
//! keeps is the hub's business. It asks for nothing and installs nothing system-wide.
//!
//! Killed with -9 it cannot end anybody, so the kernel tells each child (see [`signals::tie`]): the hub ends as at Ctrl-C,
//! and with it the assistant; npm and cargo end too. What was half-fetched does not count as fetched. The next start goes
//! on where it was.

mod binaries;
mod checks;
mod flags;
mod pages;
mod parts;
mod progress;
mod signals;
mod supervise;

use flags::Wish;
use progress::{Progress, Trouble};
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    signals::watch();
    let outcome = flags::parse(std::env::args_os().skip(1)).and_then(|wish| match wish {
        Wish::Help => {
            print!("{}", flags::HELP);
            Ok(0)
        }
        Wish::PartsOnly => parts_only(),
        Wish::Demo(wanted) => demo(wanted),
    });
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(trouble) => {
            eprintln!("\n{}", trouble.said);
            ExitCode::from(trouble.code)
        }
    }
}

fn demo(wanted: flags::Demo) -> Result<u8, Trouble> {
    wanted.key(std::env::var_os(flags::KEY_VARIABLE), std::io::stdin().is_terminal())?;
    let root = repository();
    let place = binaries::place()?;
    let cache = parts::Cache::find(&root)?;
    let mut progress = Progress::new(5);

    progress.begin("Tools: node, npm and free disk space");
    if let Some(folder) = wanted.state_folder() {
        checks::state(&folder)?;
    }
    checks::tools()?;
    checks::space(&[(cache.folder(), cache.missing_mib()), (&place.target, place.missing_mib())])?;
    progress.done();

    let parts = cache.install(&mut progress)?;
    pages::build(&root.join("shared/ui"), &mut progress)?;
    binaries::build(&root, &place, &mut progress)?;

    progress.begin("Hub: it says where to click; Ctrl-C ends it");
    let mut arguments: Vec<std::ffi::OsString> = vec!["demo".into()];
    for (flag, value) in [("--agent", place.tenant_agent()), ("--node", parts.node), ("--openclaw", parts.openclaw)] {
        arguments.extend([flag.into(), value.into()]);
    }
    arguments.extend(wanted.flags);
    supervise::run(&place.hub(), arguments)
}

/// For `tests/all`: the same parts, and where they lie, as one line of JSON.
fn parts_only() -> Result<u8, Trouble> {
    let cache = parts::Cache::find(&repository())?;
    let mut progress = Progress::new(2);
    progress.begin("Tools: node, npm and free disk space");
    checks::tools()?;
    checks::space(&[(cache.folder(), cache.missing_mib())])?;
    progress.done();
    println!("{}", cache.install(&mut progress)?.json());
    Ok(0)
}

/// Cargo says where this crate lies now; the compiled-in place serves when the binary is started by hand.
fn repository() -> PathBuf {
    let here = std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    here.ancestors().nth(2).map_or_else(|| here.clone(), PathBuf::from)
}
