//! The proxies that are compared: ours with its full path, and the others as their makers would have them stand before a
//! provider, each held to one core.

use crate::client::Question;
use policy::bundle::{Limits, Price};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::time::Duration;
use tests::{FakeGateway, Fittings, Machines, free_port};

/// Where client and provider run, and where a proxy does.
pub const OWN_CORE: u32 = 0;
pub const PROXY_CORE: u32 = 1;
/// What is asked for; also the name of a provider and of its model.
pub const ROUTES: [&str; 4] = ["small", "burst", "paced", "slow"];
/// Secrets in the vault.
const SECRETS: usize = 200;
/// Runs that ask at the same time, and the requests announced for each.
const RUNS: usize = 16;
/// A million dollars: every limit is there and holds, and none is reached.
const LIMIT_NANO_USD: i64 = 1_000_000_000_000_000;
/// What tokens cost.
pub const INPUT_NANO_USD: i64 = 3;
pub const CACHED_NANO_USD: i64 = 1;
pub const OUTPUT_NANO_USD: i64 = 10;
const LITELLM: &str = "litellm-1.106.2";
/// LiteLLM does not start without one that is hard to guess.
static MASTER_KEY: LazyLock<String> = LazyLock::new(|| format!("sk-{}", service::random::token()));
/// LiteLLM takes seconds to import itself.
const START_WAIT: Duration = Duration::from_secs(90);

pub enum Proxy {
    Direct { address: SocketAddr },
    Ours(Box<Ours>),
    Other { name: &'static str, child: Child, address: SocketAddr, folder: PathBuf },
}

pub struct Ours {
    pub machines: Machines,
    token: String,
    traces: Vec<String>,
}

impl Proxy {
    pub fn name(&self) -> &'static str {
        match self {
            Proxy::Direct { .. } => "direct",
            Proxy::Ours(_) => "ours",
            Proxy::Other { name, .. } => name,
        }
    }

    pub fn address(&self) -> SocketAddr {
        match self {
            Proxy::Direct { address } | Proxy::Other { address, .. } => *address,
            Proxy::Ours(ours) => ours.machines.egress_addr(),
        }
    }

    /// The process that everything else of it comes from.
    pub fn pid(&self) -> Option<u32> {
        match self {
            Proxy::Direct { .. } => None,
            Proxy::Ours(ours) => Some(ours.machines.pids().0),
            Proxy::Other { child, .. } => Some(child.id()),
        }
    }

    /// As the assistant with this number asks for it.
    pub fn question(&self, route: &str, body: &str, asker: usize) -> Question {
        let path = match self {
            Proxy::Ours(_) => format!("/llm/{route}/chat/completions"),
            Proxy::Other { name: "litellm", .. } => "/v1/chat/completions".to_owned(),
            _ => format!("/{route}/chat/completions"),
        };
        let mut head = format!("POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\naccept: application/json\r\nuser-agent: OpenAI/JS 6.1.0\r\n");
        if let Proxy::Ours(ours) = self {
            // A string takes every write.
            let _ = write!(head, "authorization: Bearer {}\r\ntraceparent: {}\r\n", ours.token, ours.traces[asker % RUNS]);
        } else {
            let _ = write!(head, "authorization: Bearer {}\r\n", *MASTER_KEY);
        }
        Question::new(&head, body)
    }

    /// What must be said again from time to time: announcements are good for minutes.
    pub async fn freshen(&self) {
        if let Proxy::Ours(ours) = self {
            ours.announce().await;
        }
    }

    pub async fn end(self) {
        match self {
            Proxy::Direct { .. } => {}
            Proxy::Ours(ours) => ours.machines.end().await,
            Proxy::Other { mut child, folder, .. } => {
                let _ = Command::new("kill").arg(child.id().to_string()).status();
                tokio::time::sleep(Duration::from_millis(300)).await;
                let _ = child.kill();
                let _ = child.wait();
                let _ = std::fs::remove_dir_all(folder);
            }
        }
    }
}

/// A provider that ours knows.
pub struct Provider {
    pub name: String,
    pub dialect: &'static str,
    pub url: String,
    pub model: &'static str,
}

/// One for each route.
pub fn providers(upstream: SocketAddr) -> Vec<Provider> {
    let dialect = "openai-completions";
    ROUTES.iter().map(|route| Provider { name: (*route).to_owned(), dialect, url: format!("http://{upstream}/{route}"), model: route }).collect()
}

/// Ours, enrolled, with the law, the secrets and the keys that it needs.
pub async fn ours(providers: &[Provider], core: Option<u32>) -> Proxy {
    let settings = providers.iter().fold(String::new(), |mut text, Provider { name, dialect, url, model }| {
        let _ = write!(text, "[provider.{name}]\ndialect = \"{dialect}\"\nurl = \"{url}\"\nmodels = [\"{model}\"]\n");
        text
    });
    let machines = Machines::start_with(Fittings { settings, core }).await;
    for Provider { name, .. } in providers {
        let said = machines.agent_says(&["vault", "set", &format!("provider.{name}")], &service::random::token()).await;
        assert_eq!(said["ok"], true, "{said}");
    }
    let secrets = (0..SECRETS).fold(String::new(), |mut text, at| {
        let _ = writeln!(text, "LOAD_{at}={}", &service::random::token()[..20 + at % 20]);
        text
    });
    let said = machines.agent_says(&["vault", "import"], &secrets).await;
    assert_eq!(said["ok"], true, "{said}");
    let most = Some(LIMIT_NANO_USD);
    let wide = Limits { call_nano_usd: most, run_nano_usd: most, day_nano_usd: most, month_nano_usd: most };
    let lawful = |content: &mut policy::bundle::Content| {
        for Provider { name, model, .. } in providers {
            content.prices.models.push(Price {
                provider: name.clone(),
                model: (*model).to_owned(),
                input_nano_usd: INPUT_NANO_USD,
                cached_nano_usd: CACHED_NANO_USD,
                output_nano_usd: OUTPUT_NANO_USD,
                cache_write_nano_usd: None,
                cache_write_long_nano_usd: None,
                tool_request_nano_usd: None,
            });
        }
        (content.budgets.assistant, content.budgets.tenant) = (wide, Limits { call_nano_usd: None, run_nano_usd: None, ..wide });
    };
    machines.publish_with(1, policy::Level::L2, lawful).await;
    machines.enforces(1).await;
    let token = machines.gateway.keys().proxy_token.clone();
    let traces = (1..=RUNS).map(|run| format!("00-{run:032x}-{run:016x}-01")).collect();
    let ours = Ours { machines, token, traces };
    ours.announce().await;
    Proxy::Ours(Box::new(ours))
}

/// Whoever asks ours, in a task of its own.
#[derive(Clone)]
pub struct Asker {
    pub address: SocketAddr,
    pub token: String,
    traces: Vec<String>,
    gateway: FakeGateway,
}

impl Asker {
    pub fn trace(&self, number: u64) -> String {
        self.traces[number as usize % self.traces.len()].clone()
    }

    /// The trace of a run that only this call belongs to; `None` when nobody takes its announcement.
    pub async fn own_trace(&self, number: u64) -> Option<String> {
        let (run, span) = (own_run(number), format!("{:016x}", number + 1));
        (self.gateway.announce("load", &run, &span).await.status == 200).then(|| format!("00-{run}-{span}-01"))
    }
}

/// Apart from those of the shared runs.
pub fn own_run(number: u64) -> String {
    format!("{:032x}", (1_u128 << 100) + u128::from(number))
}

impl Ours {
    pub fn asker(&self) -> Asker {
        let Ours { machines, token, traces } = self;
        Asker { address: machines.egress_addr(), token: token.clone(), traces: traces.clone(), gateway: machines.gateway.clone() }
    }

    pub async fn announce(&self) {
        for trace in &self.traces {
            let mut parts = trace.split('-').skip(1);
            let (trace_id, span_id) = (parts.next().expect("it has one"), parts.next().expect("it has one"));
            assert_eq!(self.machines.gateway.announce("load", trace_id, span_id).await.status, 200);
        }
    }
}

/// The others, those that are installed; and why the rest is not there.
pub async fn others(upstream: SocketAddr, asked_for: impl Fn(&str) -> bool) -> (Vec<Proxy>, Vec<String>) {
    let (mut proxies, mut missing) = (Vec::new(), Vec::new());
    for name in ["nginx", "haproxy", "caddy", "litellm"].into_iter().filter(|name| asked_for(name)) {
        match other(name, upstream).await {
            Ok(proxy) => proxies.push(proxy),
            Err(why) => missing.push(format!("{name}: {why}")),
        }
    }
    (proxies, missing)
}

async fn other(name: &'static str, upstream: SocketAddr) -> anyhow::Result<Proxy> {
    let port = free_port();
    let folder = std::env::temp_dir().join(format!("gatehouse-load-{name}-{}", &service::random::token()[..12]));
    service::config::private_folder(&folder)?;
    let file = folder.join("config");
    let mut command = pinned();
    match name {
        "nginx" => {
            std::fs::write(&file, nginx(port, upstream, &folder))?;
            command.args(["nginx", "-p"]).arg(&folder).arg("-c").arg(&file);
        }
        "haproxy" => {
            std::fs::write(&file, haproxy(port, upstream))?;
            command.args(["haproxy", "-db", "-f"]).arg(&file);
        }
        "caddy" => {
            std::fs::write(&file, caddy(port, upstream))?;
            command.env("GOMAXPROCS", "1").env("HOME", &folder).args(["caddy", "run", "--adapter", "caddyfile", "--config"]).arg(&file);
        }
        _ => {
            let program = litellm_folder().join("bin/litellm");
            anyhow::ensure!(program.is_file(), "`{}` is not there: see docs/PERFORMANCE.md for how to install it", program.display());
            std::fs::write(&file, litellm(upstream))?;
            command.env("LITELLM_LOCAL_MODEL_COST_MAP", "True").env("LITELLM_MASTER_KEY", MASTER_KEY.as_str()).env("HOME", &folder);
            command.arg(program).args(["--host", "127.0.0.1", "--port", &port.to_string(), "--num_workers", "1", "--config"]).arg(&file);
        }
    }
    let log = std::fs::File::create(folder.join("log"))?;
    let mut child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?;
    let begun = std::time::Instant::now();
    while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
        if let Some(status) = child.try_wait()? {
            anyhow::bail!("it ended with {status}: {}", std::fs::read_to_string(folder.join("log")).unwrap_or_default().lines().last().unwrap_or_default());
        }
        anyhow::ensure!(begun.elapsed() < START_WAIT, "it does not listen; its log is in `{}`", folder.display());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(Proxy::Other { name, child, address: SocketAddr::from(([127, 0, 0, 1], port)), folder })
}

fn pinned() -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", &PROXY_CORE.to_string()]);
    command
}

/// A virtual environment beside the other parts that are fetched once.
fn litellm_folder() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache")));
    cache.unwrap_or_default().join("gatehouse").join(LITELLM)
}

fn nginx(port: u16, upstream: SocketAddr, folder: &Path) -> String {
    let at = folder.display();
    format!(
        "daemon off; worker_processes 1; pid {at}/pid; error_log {at}/error.log crit;\n\
         events {{ worker_connections 4096; }}\n\
         http {{\n access_log off; keepalive_requests 100000000; client_max_body_size 64m; client_body_buffer_size 512k; tcp_nodelay on;\n\
          client_body_temp_path {at}/b; proxy_temp_path {at}/p; fastcgi_temp_path {at}/f; uwsgi_temp_path {at}/u; scgi_temp_path {at}/s;\n\
          upstream provider {{ server {upstream}; keepalive 512; keepalive_requests 100000000; }}\n\
          server {{ listen 127.0.0.1:{port} backlog=1024; location / {{ proxy_pass http://provider; proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_buffering off; }} }}\n}}\n"
    )
}

fn haproxy(port: u16, upstream: SocketAddr) -> String {
    format!(
        "global\n nbthread 1\n maxconn 4096\n\
         defaults\n mode http\n option http-no-delay\n timeout connect 5s\n timeout client 300s\n timeout server 300s\n\
         frontend all\n bind 127.0.0.1:{port}\n default_backend provider\n\
         backend provider\n http-reuse always\n server one {upstream}\n"
    )
}

fn caddy(port: u16, upstream: SocketAddr) -> String {
    format!("{{\n admin off\n auto_https off\n}}\nhttp://127.0.0.1:{port} {{\n reverse_proxy {upstream} {{\n  flush_interval -1\n }}\n}}\n")
}

fn litellm(upstream: SocketAddr) -> String {
    let models = ROUTES.iter().fold(String::new(), |mut text, route| {
        let _ = write!(
            text,
            " - model_name: {route}\n   litellm_params:\n    model: openai/{route}\n    api_base: http://{upstream}/{route}\n    api_key: sk-nothing\n"
        );
        text
    });
    format!("model_list:\n{models}litellm_settings:\n telemetry: false\n set_verbose: false\n")
}
