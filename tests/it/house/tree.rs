//! What git knows: the files of the tree as they lie on the disk, and every object of its history.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Text by path from the root of the repository. Bytes that are not UTF-8 are replaced: every law reads text.
#[derive(Default)]
pub struct Tree(BTreeMap<String, String>);

impl Tree {
    pub fn of(files: &[(&str, &str)]) -> Tree {
        Tree(files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect())
    }

    /// Tracked files, and new ones that git would track: a law should speak before the commit, not after it.
    pub fn here() -> Tree {
        let listed = String::from_utf8_lossy(&git(&["ls-files", "--cached", "--others", "--exclude-standard", "-z"])).into_owned();
        let read = |path: &str| Some((path.to_owned(), String::from_utf8_lossy(&std::fs::read(root().join(path)).ok()?).into_owned()));
        Tree(listed.split('\0').filter(|path| !path.is_empty()).filter_map(read).collect())
    }

    pub fn text(&self, path: &str) -> Option<&str> {
        self.0.get(path).map(String::as_str)
    }

    pub fn files(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(path, text)| (path.as_str(), text.as_str()))
    }

    pub fn ending(&self, ending: &str) -> impl Iterator<Item = (&str, &str)> {
        self.files().filter(move |(path, _)| path.ends_with(ending))
    }

    /// A file, or a folder with something in it.
    pub fn has(&self, path: &str) -> bool {
        let path = path.trim_end_matches('/');
        self.0.contains_key(path) || self.0.keys().any(|file| file.strip_prefix(path).is_some_and(|rest| rest.starts_with('/')))
    }

    /// Whether something at the top of the repository has this name.
    pub fn has_top(&self, name: &str) -> bool {
        self.0.keys().any(|path| path.split('/').next() == Some(name))
    }
}

/// An object of the history: a blob with a path it once had, or a commit or tag with its message.
pub struct Past {
    pub name: String,
    pub bytes: u64,
    /// Empty when the object is larger than the bound.
    pub text: String,
}

/// A blob larger than this is not read; the law says that it should not be there.
pub const PAST_BYTES_MAX: u64 = 8 << 20;

/// Every blob, commit and tag that any branch, tag or HEAD reaches.
pub fn history(mut look: impl FnMut(Past)) {
    let listed = String::from_utf8_lossy(&git(&["rev-list", "--objects", "--all", "HEAD"])).into_owned();
    let objects: Vec<(String, String)> = listed
        .lines()
        .map(|line| line.split_once(' ').unwrap_or((line, "")))
        .map(|(id, path)| (id.to_owned(), if path.is_empty() { format!("commit {id}") } else { path.to_owned() }))
        .collect();
    let mut child = command(&["cat-file", "--batch"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("git just ran");
    let mut asking = child.stdin.take().expect("it is piped");
    let ids: String = objects.iter().map(|(id, _)| format!("{id}\n")).collect();
    // Git answers while it is asked; both pipes would fill up if one thread did both.
    let asker = std::thread::spawn(move || asking.write_all(ids.as_bytes()));
    let mut answers = BufReader::new(child.stdout.take().expect("it is piped"));
    for (id, name) in objects {
        let mut head = String::new();
        answers.read_line(&mut head).expect("git answers each id with a line");
        let mut words = head.split_whitespace().skip(1);
        let (kind, bytes) = (words.next().unwrap_or_default(), words.next().and_then(|size| size.parse::<u64>().ok()));
        let bytes = bytes.unwrap_or_else(|| panic!("git does not have object {id} ({}): is the clone partial?", head.trim()));
        let mut content = answers.by_ref().take(bytes + 1);
        let mut text = Vec::new();
        if bytes <= PAST_BYTES_MAX && kind != "tree" {
            content.read_to_end(&mut text).expect("git sends what it announced");
        } else {
            std::io::copy(&mut content, &mut std::io::sink()).expect("git sends what it announced");
        }
        if kind != "tree" {
            look(Past { name, bytes, text: String::from_utf8_lossy(&text).into_owned() });
        }
    }
    asker.join().expect("writing does not panic").expect("git reads all ids");
    assert!(child.wait().expect("git ends").success(), "git cat-file failed");
}

/// Cargo says where this crate lies now; the compiled-in place serves when the test binary is started by hand.
pub fn root() -> PathBuf {
    let here = std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    here.parent().map_or_else(|| here.clone(), Path::to_owned)
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new("git");
    // A clone made by another user (a CI runner's) is read all the same.
    command.args(["-c", "safe.directory=*"]).args(arguments).current_dir(root());
    command
}

fn git(arguments: &[&str]) -> Vec<u8> {
    let output = command(arguments).output().expect("the house laws read the repository with git: install git");
    assert!(
        output.status.success(),
        "`git {}` fails, and the house laws need the repository, not an unpacked archive: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}
