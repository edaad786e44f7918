//! The command line: three wishes. What is wrong with it is said in the first second, before anything is fetched or built.
//!
//! The flags are those of `hub demo`, without the places of the parts, which we fill in. A test holds this list against the
//! hub's own.

use crate::progress::Trouble;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

#[derive(Debug, PartialEq, Eq)]
pub enum Wish {
    Help,
    PartsOnly,
    /// Run the demo.
    Demo(Demo),
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Demo {
    /// For the hub, as they came.
    pub flags: Vec<OsString>,
    pub is_fresh: bool,
    state: Option<PathBuf>,
    provider: Option<String>,
    model: bool,
}

pub const HELP: &str = "\
cargo demo [flags]       a hub and one customer's assistant on this machine, ready to click

  --fresh                forget what an earlier demo kept and begin anew
  --json                 the addresses as JSON on stdout (progress goes to stderr)
  --state <folder>       where the demo keeps its state [default: ~/.local/state/gatehouse/demo]
  --port <port>          the first of the ports; 0 lets the demo choose [default: 8400]
  --provider <name>      who answers: scripted, a script on this machine, or anthropic; its key comes from the environment
                         (ANTHROPIC_API_KEY) or as one line on stdin [default: scripted]
  --model <name>         the model, for --provider anthropic [default: claude-sonnet-4-5]

cargo demo --parts-only  fetch Node and OpenClaw, print their places as JSON, and end
cargo demo --help        this text

It needs Node 20 or newer with npm, and about 2.5 GB of disk once: the parts lie in ~/.cache/gatehouse (or
$XDG_CACHE_HOME/gatehouse), the binaries in target. Both may be deleted at any time. Ctrl-C ends the demo, and so does a
kill -9 of this launcher: the hub and the assistant end by themselves within seconds. The next start goes on where it was.
";

const VALUED: [&str; 4] = ["--state", "--port", "--provider", "--model"];
const PLAIN: [&str; 2] = ["--fresh", "--json"];
const PROVIDERS: [&str; 2] = ["scripted", "anthropic"];
/// The hub's ports reach this far beyond the first one.
const PORT_MAX: u16 = 65_285;
pub const KEY_VARIABLE: &str = "ANTHROPIC_API_KEY";
/// Where the hub notes whose key the vault has.
const KEY_KEPT: &str = "key-kept";

pub fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Wish, Trouble> {
    let flags: Vec<OsString> = arguments.collect();
    let has = |name: &str| flags.iter().any(|flag| flag == name);
    if has("--help") || has("-h") {
        return Ok(Wish::Help);
    }
    if has("--parts-only") {
        return match flags.iter().find(|flag| *flag != "--parts-only") {
            Some(other) => Err(wrong(format!("--parts-only stands alone, without `{}`.", other.display()))),
            None => Ok(Wish::PartsOnly),
        };
    }
    let mut demo = Demo::default();
    let mut seen = Vec::new();
    let mut rest = flags.iter();
    while let Some(flag) = rest.next() {
        let (name, joined) = split(flag);
        let known = VALUED.iter().chain(&PLAIN).find(|known| name == **known);
        let known = *known.ok_or_else(|| wrong(format!("`{}` is no flag of the demo.", flag.display())))?;
        if seen.contains(&known) {
            return Err(wrong(format!("{known} is given twice.")));
        }
        seen.push(known);
        if PLAIN.contains(&known) {
            if joined.is_some() {
                return Err(wrong(format!("{known} takes no value.")));
            }
            demo.is_fresh |= known == "--fresh";
            continue;
        }
        let value = joined.or_else(|| rest.next().cloned()).filter(|value| !value.is_empty() && !value.to_string_lossy().starts_with("--"));
        demo.take(known, &value.ok_or_else(|| wrong(format!("{known} needs a value.")))?)?;
    }
    if demo.model && !demo.is_anthropic() {
        return Err(wrong("--model names a model of Anthropic: add --provider anthropic, or leave --model out.".to_owned()));
    }
    demo.flags = flags;
    Ok(Wish::Demo(demo))
}

impl Demo {
    fn take(&mut self, name: &str, value: &OsStr) -> Result<(), Trouble> {
        let text = value.to_string_lossy();
        match name {
            "--state" => self.state = Some(value.into()),
            "--model" => self.model = true,
            "--port" if text.parse().is_ok_and(|port: u16| port <= PORT_MAX) => {}
            "--port" => return Err(wrong(format!("--port takes a number from 0 to {PORT_MAX}, not `{text}`."))),
            _ if PROVIDERS.contains(&&*text) => self.provider = Some(text.into_owned()),
            _ => return Err(wrong(format!("--provider takes {}, not `{text}`.", PROVIDERS.join(" or ")))),
        }
        Ok(())
    }

    fn is_anthropic(&self) -> bool {
        self.provider.as_deref() == Some("anthropic")
    }

    /// Where the hub will keep its state, by its own rule; `None` when it will say itself that there is no place.
    pub fn state_folder(&self) -> Option<PathBuf> {
        let variable = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let usual = || variable("XDG_STATE_HOME").or_else(|| Some(variable("HOME")?.join(".local/state"))).map(|base| base.join("gatehouse/demo"));
        self.state.clone().or_else(usual)
    }

    /// Refuses when no key can come: nobody prompts, so a terminal is not asked.
    pub fn key(&self, variable: Option<OsString>, is_terminal: bool) -> Result<(), Trouble> {
        let is_set = variable.is_some_and(|key| !key.to_string_lossy().trim().is_empty());
        let is_kept = !self.is_fresh && self.state_folder().is_some_and(|folder| keeps_key(&folder));
        if !self.is_anthropic() || is_set || !is_terminal || is_kept {
            return Ok(());
        }
        Err(wrong(format!("Anthropic needs a key: set {KEY_VARIABLE}, or give it on standard input (`cargo demo --provider anthropic < key`).")))
    }
}

fn keeps_key(folder: &Path) -> bool {
    std::fs::read_to_string(folder.join(KEY_KEPT)).is_ok_and(|kept| kept.trim() == "anthropic")
}

/// `--name=value` apart.
fn split(flag: &OsStr) -> (OsString, Option<OsString>) {
    // A value that is no text cannot be cut here, and is taken in two words only.
    match flag.to_str().and_then(|flag| flag.split_once('=')) {
        Some((name, value)) => (name.into(), Some(value.into())),
        None => (flag.to_owned(), None),
    }
}

fn wrong(said: String) -> Trouble {
    Trouble { said: format!("{said}\n`cargo demo --help` names every flag."), code: 2 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Wish, Trouble> {
        parse(line.split_whitespace().map(OsString::from))
    }

    fn demo(line: &str) -> Demo {
        match parsed(line) {
            Ok(Wish::Demo(demo)) => demo,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn the_hub_gets_its_flags_as_they_came() {
        for line in ["", "--fresh --port 4000", "--state=/x --json", "--provider anthropic --model m", "--port 0", "--provider scripted"] {
            assert_eq!(demo(line).flags, line.split_whitespace().map(OsString::from).collect::<Vec<_>>(), "{line}");
        }
        assert_eq!((demo("--state=/x").state_folder(), demo("--fresh").is_fresh), (Some("/x".into()), true));
        for (line, expected) in [("--parts-only", Wish::PartsOnly), ("--fresh --help", Wish::Help), ("-h", Wish::Help), ("--bogus -h", Wish::Help)] {
            assert_eq!(parsed(line).unwrap(), expected, "{line}");
        }
    }

    #[test]
    fn a_mistake_is_named_at_once() {
        for (line, part) in [
            ("--bogus", "`--bogus` is no flag"),
            ("--agent /x", "`--agent` is no flag"),
            ("please", "`please` is no flag"),
            ("--port x", "not `x`"),
            ("--port 65286", "0 to 65285"),
            ("--port -1", "not `-1`"),
            ("--port", "--port needs a value"),
            ("--state --json", "--state needs a value"),
            ("--state=", "--state needs a value"),
            ("--json=1", "--json takes no value"),
            ("--json --json", "given twice"),
            ("--provider nonsense", "scripted or anthropic, not `nonsense`"),
            ("--model foo", "add --provider anthropic"),
            ("--model foo --provider scripted", "add --provider anthropic"),
            ("--parts-only --json", "stands alone"),
        ] {
            let Trouble { said, code } = parsed(line).unwrap_err();
            assert_eq!(code, 2, "{line}");
            assert!(said.contains(part) && said.contains("cargo demo --help") && !said.contains("hub demo"), "{line}: {said}");
        }
    }

    #[test]
    fn a_key_must_be_able_to_come() {
        let folder = std::env::temp_dir().join(format!("gatehouse-flags-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let line = format!("--provider anthropic --state {}", folder.display());
        let Trouble { said, code } = demo(&line).key(None, true).unwrap_err();
        assert!(code == 2 && said.contains(KEY_VARIABLE) && said.contains("cargo demo --provider"), "{said}");
        assert!(demo(&line).key(Some(" ".into()), true).is_err());
        assert!(demo(&line).key(Some("sk".into()), true).is_ok() && demo(&line).key(None, false).is_ok() && demo("").key(None, true).is_ok());
        std::fs::write(folder.join(KEY_KEPT), "anthropic").unwrap();
        assert!(demo(&line).key(None, true).is_ok(), "the vault has it");
        assert!(demo(&format!("{line} --fresh")).key(None, true).is_err(), "and forgets it");
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn the_list_is_the_hubs() {
        let hub = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../hub/src/demo/mod.rs")).unwrap();
        let flags = hub.split_once("pub struct Flags {").unwrap().1.split_once("\n}").unwrap().0;
        let mut theirs = Vec::new();
        for attributes in flags.split("#[arg(").skip(1).filter(|flag| !flag.starts_with("long, value_name = \"FILE\", hide = true")) {
            let field = attributes.lines().nth(1).unwrap().trim().trim_start_matches("pub ");
            theirs.push(format!("--{}", field.split_once(':').unwrap().0));
        }
        theirs.sort();
        let mut ours: Vec<&str> = VALUED.into_iter().chain(PLAIN).collect();
        ours.sort();
        assert_eq!(ours, theirs);
        assert!(ours.iter().all(|flag| HELP.contains(&format!("  {flag} "))));
    }
}
