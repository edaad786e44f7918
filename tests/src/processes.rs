//! The real binaries, for stories that end them in the middle of things.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::world::soon;

/// Where cargo put them.
pub struct Processes {
    folder: PathBuf,
    /// The name of one that runs on this core alone.
    pinned: Option<(&'static str, u32)>,
}

impl Processes {
    pub fn find() -> Processes {
        let this = std::env::current_exe().expect("a test knows itself");
        // Tests lie in target/<profile>/deps, load drivers beside the binaries.
        let folder = this.ancestors().skip(1).find(|folder| !folder.ends_with("deps")).expect("it lies in a folder").to_owned();
        for name in ["hub", "tenant-agent"] {
            assert!(folder.join(name).is_file(), "`{}` is missing: run cargo build --workspace --bins first", folder.join(name).display());
        }
        Processes { folder, pinned: None }
    }

    /// From now on this one is started on that core alone.
    pub fn pinned(self, name: &'static str, core: Option<u32>) -> Processes {
        Processes { pinned: core.map(|core| (name, core)), ..self }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Starts one that runs until it is ended; it ends with the test.
    pub fn spawn(&self, name: &str, config: &Path, arguments: &[&str]) -> Child {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(config.with_extension("log")).expect("a log");
        let mut command = match self.pinned {
            // It becomes the program, so it is the same process.
            Some((pinned, core)) if pinned == name => {
                let mut command = Command::new("taskset");
                command.args(["-c", &core.to_string()]).arg(self.path(name));
                command
            }
            _ => Command::new(self.path(name)),
        };
        command.args(arguments).arg("--config").arg(config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).kill_on_drop(true);
        command.spawn().expect("the binary starts")
    }

    /// Runs a command to its end and returns the facts that it prints.
    pub async fn facts(&self, name: &str, config: &Path, arguments: &[&str], input: &str) -> Value {
        let arguments = [arguments, &["--json"]].concat();
        let output = self.output(name, config, &arguments, input.as_bytes()).await;
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{name} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr)))
    }

    /// Runs a command to its end.
    pub async fn output(&self, name: &str, config: &Path, arguments: &[&str], input: &[u8]) -> Output {
        let mut command = Command::new(self.path(name));
        command.args(arguments).arg("--config").arg(config).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().expect("the binary starts");
        let mut stdin = child.stdin.take().expect("it was asked for");
        // A command that reads nothing, or not all of it, may be gone already.
        let _ = stdin.write_all(input).await;
        drop(stdin);
        soon(child.wait_with_output()).await.expect("it ends")
    }

    /// Waits until something listens; another process's start is nothing that a clock of ours could move.
    pub async fn listening(&self, port: u16) {
        soon(async {
            while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
        .await;
    }
}
