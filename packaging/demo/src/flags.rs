//! The command line: three wishes, and everything else belongs to the hub.
//!
//! Flags of `hub demo` are passed on unread. A list of them here would be a second truth that grows old.

use std::ffi::OsString;

#[derive(Debug, PartialEq, Eq)]
pub enum Wish {
    Help,
    PartsOnly,
    /// Run the demo, with these flags for the hub.
    Demo(Vec<OsString>),
}

pub const HELP: &str = "\
cargo demo [flags]       a hub and one customer's assistant on this machine, ready to click

  --fresh                forget what an earlier demo kept and begin anew
  --json                 the addresses as JSON on stdout (progress goes to stderr)
  --state <folder>       where the demo keeps its state
  --port <port>          the port of all addresses
  --provider <name>      the model provider; its key comes from the environment (ANTHROPIC_API_KEY) or from stdin

  Flags are handed to `hub demo`, which may know more of them.

cargo demo --parts-only  fetch Node and OpenClaw, print their places as JSON, and end
cargo demo --help        this text

It needs Node 20 or newer with npm, and about 2.5 GB of disk once: the parts lie in ~/.cache/gatehouse (or
$XDG_CACHE_HOME/gatehouse), the binaries in target. Both may be deleted at any time. Ctrl-C ends the demo.
";

pub fn parse(arguments: impl Iterator<Item = OsString>) -> Wish {
    let flags: Vec<OsString> = arguments.collect();
    let has = |name: &str| flags.iter().any(|flag| flag == name);
    if has("--help") || has("-h") {
        return Wish::Help;
    }
    if has("--parts-only") {
        return Wish::PartsOnly;
    }
    Wish::Demo(flags)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_ours_is_passed_on() {
        let check = |line: &str, expected: Wish| assert_eq!(parse(line.split_whitespace().map(OsString::from)), expected, "{line}");
        check("", Wish::Demo(vec![]));
        check("--fresh --port 4000", Wish::Demo(vec!["--fresh".into(), "--port".into(), "4000".into()]));
        check("--parts-only", Wish::PartsOnly);
        check("--fresh --help", Wish::Help);
        check("-h", Wish::Help);
    }
}
