//! OpenClaw as a child process: started with its own home, ended with us, its output in a file of bounded size, without
//! the secrets that it tells there.

use super::openclaw::Home;
use crate::screen::Screen;
use anyhow::Context;
use redact::ByteStream;
use service::SecretString;
use std::ffi::OsString;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};

#[derive(Clone, Debug)]
pub struct Program {
    pub node: PathBuf,
    pub openclaw: PathBuf,
    pub port: u16,
}

/// What OpenClaw gets to know for one start, in its environment.
#[derive(Clone, Debug)]
pub struct Keys {
    /// For us, to open connections to it.
    pub gateway_token: SecretString,
    /// For its plugin, to speak on our socket.
    pub plugin_key: SecretString,
    /// For its model calls, to pass our egress proxy.
    pub proxy_token: SecretString,
    /// For its calls of our tools.
    pub tools_token: SecretString,
    /// For everything else that wants out, to pass our forward proxy. Whoever runs OpenClaw may have given it none.
    pub forward_token: Option<SecretString>,
}

/// The way out, as OpenClaw and what it starts are told of it.
#[derive(Clone, Debug)]
pub struct WayOut {
    pub proxy: SocketAddr,
    /// The certificate that they believe beside others, and all that they believe.
    pub own_certificate: PathBuf,
    pub certificates: PathBuf,
}

impl Keys {
    pub fn draw() -> Keys {
        let draw = || {
            let secret = SecretString::new(service::random::token());
            service::log::know(&secret);
            secret
        };
        Keys { gateway_token: draw(), plugin_key: draw(), proxy_token: draw(), tools_token: draw(), forward_token: Some(draw()) }
    }

    /// As what they are looked for in everything that leaves.
    pub fn named(&self) -> Vec<(&'static str, SecretString)> {
        let always = [
            ("openclaw.gateway-token", &self.gateway_token),
            ("openclaw.plugin-key", &self.plugin_key),
            ("openclaw.proxy-token", &self.proxy_token),
            ("openclaw.tools-token", &self.tools_token),
        ];
        always.into_iter().chain(self.forward_token.iter().map(|token| ("openclaw.forward-token", token))).map(|(name, key)| (name, key.clone())).collect()
    }

    /// An EnvironmentFile. One that knows us by our address has no token.
    pub fn of_a_unit(&self) -> String {
        self.variables().iter().skip(1).map(|(name, value)| format!("{name}={value}\n")).collect()
    }

    /// The environment, as OpenClaw's configuration and our plugin name it. A child's environment is where they must go.
    fn variables(&self) -> [(&'static str, &str); 4] {
        [
            ("OPENCLAW_GATEWAY_TOKEN", self.gateway_token.expose()),
            ("GATEHOUSE_PLUGIN_KEY", self.plugin_key.expose()),
            ("GATEHOUSE_PROXY_TOKEN", self.proxy_token.expose()),
            ("GATEHOUSE_TOOLS_TOKEN", self.tools_token.expose()),
        ]
    }
}

/// A log that is larger than this makes room for a new one; one old one is kept.
const LOG_BYTES_MAX: u64 = 512_000;
const HOLD: Duration = Duration::from_millis(redact::HOLD_MS_MAX);
/// What is read of its output at once.
const OUTPUT_BYTES: usize = 8 * 1024;
/// OpenClaw writes its sessions down before it ends; then it is killed.
const TERM_WAIT: Duration = Duration::from_secs(15);

impl WayOut {
    fn url(&self, token: &SecretString) -> String {
        // A child's environment is where it must go.
        format!("http://openclaw:{}@{}", token.expose(), self.proxy)
    }

    /// Every program finds its way out under another name.
    pub fn variables(&self, token: &SecretString) -> Vec<(&'static str, OsString)> {
        let proxy = self.url(token);
        let proxied = ["HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "https_proxy", "http_proxy", "all_proxy"];
        let direct = ["NO_PROXY", "no_proxy"];
        let certificates = ["SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "GIT_SSL_CAINFO"];
        let mut variables: Vec<(&'static str, OsString)> = proxied.map(|name| (name, proxy.clone().into())).into();
        variables.extend(direct.map(|name| (name, "127.0.0.1,localhost,::1".into())));
        variables.extend(certificates.map(|name| (name, self.certificates.clone().into())));
        variables.extend([("NODE_USE_ENV_PROXY", "1".into()), ("NODE_EXTRA_CA_CERTS", self.own_certificate.clone().into())]);
        variables
    }
}

pub fn start(program: &Program, home: &Home, keys: &Keys, way_out: &WayOut, screen: &Screen) -> anyhow::Result<Child> {
    let log = Arc::new(Mutex::new(Log::open(home.log())?));
    let mut command = Command::new(&program.node);
    command
        .arg(&program.openclaw)
        .args(["gateway", "run", "--port", &program.port.to_string()])
        .env_clear()
        .envs(keys.variables())
        .envs(keys.forward_token.iter().flat_map(|token| way_out.variables(token)))
        .envs(keys.forward_token.iter().map(|token| ("OPENCLAW_PROXY_URL", way_out.url(token))))
        .env("PATH", std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into()))
        .env("LANG", "C.UTF-8")
        .env("HOME", home.home())
        .env("OPENCLAW_STATE_DIR", home.folder.join("state"))
        .env("OPENCLAW_CONFIG_PATH", home.config())
        .env("OPENCLAW_DISABLE_BONJOUR", "1")
        .env("OPENCLAW_NO_RESPAWN", "1")
        .env("OPENCLAW_SKIP_CHANNELS", "1")
        .env("OPENCLAW_EXEC_SHELL_SNAPSHOT", "0")
        .current_dir(home.workspace())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Its own group, so that a Ctrl-C in a terminal reaches it through us, in order.
        .process_group(0)
        .kill_on_drop(true);
    end_with_us(&mut command);
    let mut child = command.spawn().with_context(|| format!("OpenClaw could not be started with `{}`", program.node.display()))?;
    if let (Some(out), Some(error)) = (child.stdout.take(), child.stderr.take()) {
        tokio::spawn(keep(out, log.clone(), screen.clone()));
        tokio::spawn(keep(error, log, screen.clone()));
    }
    Ok(child)
}

/// Writes what OpenClaw says into its log until it says no more.
async fn keep(mut output: impl AsyncRead + Unpin, log: Arc<Mutex<Log>>, screen: Screen) {
    let mut redactor = screen.now();
    let mut stream = ByteStream::new(redactor.clone());
    let mut bytes = vec![0; OUTPUT_BYTES];
    let write = |bytes: &[u8]| log.lock().unwrap_or_else(PoisonError::into_inner).write(bytes);
    let mut released = false;
    loop {
        let count = tokio::select! {
            count = output.read(&mut bytes) => count.unwrap_or(0),
            () = tokio::time::sleep(HOLD), if !released && stream.held_bytes() > 0 => {
                released = true;
                write(&stream.release());
                continue;
            }
        };
        released = false;
        if count == 0 {
            break;
        }
        let now = screen.now();
        if !Arc::ptr_eq(&now, &redactor) {
            stream.renew(now.clone());
            redactor = now;
        }
        write(&stream.push(&bytes[..count]));
    }
    write(&stream.finish());
}

struct Log {
    path: PathBuf,
    file: std::fs::File,
    bytes: u64,
}

impl Log {
    fn open(path: PathBuf) -> anyhow::Result<Log> {
        use std::os::unix::fs::OpenOptionsExt;
        let mut bytes = std::fs::metadata(&path).map_or(0, |about| about.len());
        if bytes > LOG_BYTES_MAX {
            std::fs::rename(&path, path.with_extension("log.1")).context("making room in OpenClaw's log")?;
            bytes = 0;
        }
        let file = std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(&path);
        let file = file.with_context(|| format!("opening `{}`", path.display()))?;
        Ok(Log { path, file, bytes })
    }

    /// A log that cannot be written must not stop OpenClaw.
    fn write(&mut self, bytes: &[u8]) {
        if self.bytes > LOG_BYTES_MAX
            && let Ok(next) = Log::open(self.path.clone())
        {
            *self = next;
        }
        if self.file.write_all(bytes).is_ok() {
            self.bytes += bytes.len() as u64;
        }
    }
}

/// Asks it to end, then ends it, with everything it started.
pub async fn end(child: &mut Child) {
    let Some(pid) = child.id() else { return };
    signal_group(pid, libc::SIGTERM);
    if tokio::time::timeout(TERM_WAIT, child.wait()).await.is_err() {
        tracing::warn!("OpenClaw did not end when asked; killing it");
    }
    signal_group(pid, libc::SIGKILL);
    let _ = child.wait().await;
}

/// When this process dies, even by kill -9, the kernel ends OpenClaw: an assistant never runs without its agent.
#[expect(unsafe_code, reason = "the standard library has no safe form; between fork and exec only prctl is called, which is async-signal-safe")]
fn end_with_us(command: &mut Command) {
    let parent = std::process::id();
    unsafe {
        command.pre_exec(move || {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                return Err(std::io::Error::last_os_error());
            }
            // We may have died before the call.
            if libc::getppid() != parent as i32 {
                return Err(std::io::Error::other("the agent is gone"));
            }
            Ok(())
        });
    }
}

#[expect(unsafe_code, reason = "the standard library cannot signal a process group")]
fn signal_group(pid: u32, signal: i32) {
    // A group that is gone already needs no signal.
    let _ = unsafe { libc::killpg(pid as i32, signal) };
}
