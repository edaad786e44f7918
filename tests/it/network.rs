//! No way round: an installed host as systemd runs it, with the real OpenClaw behind its closed network.

use serde_json::{Value, json};
use service::Clock;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tenant_agent::console::Verb;
use tests::{Browser, Company, Tenant, World, booted, free_port, soon};
use tokio::io::AsyncWriteExt;
use wire::fleet::GatewayState;

const CONFIG: &str = "/etc/gatehouse/agent.toml";
const AGENT_END: &str = "10.77.0.1";
const WORKSPACE: &str = "/var/lib/gatehouse/openclaw/workspace";
const WAYS: &str = include_str!("../network/ways.pl");
/// A process of another program is nothing that a clock of ours could move.
const EACH: Duration = Duration::from_millis(200);

#[tokio::test]
async fn no_model_answers_unless_the_doctor_says_that_all_is_closed() {
    let world = World::start().await;
    let socket = world.folder().join("doctor.sock");
    let mine = std::process::id();
    let closed = format!(r#"{{"ok":true,"closed":true,"gateway_pid":{mine},"laws":[{{"name":"routes","ok":true}}]}}"#);
    let open = closed.replace("true}]", "false}]").replacen("true", "false", 1);
    let doctor = Doctor::start(&socket, &closed);
    let tenant = world.closed_tenant("alice", socket.clone()).await;
    let mut browser = tenant.chat().await;
    assert_eq!(browser.ask("[[text:closed]]").await, "closed");

    for (answer, laws) in [
        (open.as_str(), "routes"),
        // Of a host that is not meant to be closed, or of nobody.
        (r#"{"ok":true,"closed":false,"laws":[]}"#, "unseen"),
        ("", "unseen"),
        ("{}", "unseen"),
        (r#"{"ok":true}"#, "unseen"),
    ] {
        doctor.answers(answer);
        network(&world, &tenant, false).await;
        let asked = world.model.counted().calls;
        let reply = browser.ask("[[text:out]]").await;
        assert!(reply.contains("network_open"), "{answer}: {reply}");
        assert_eq!(world.model.counted().calls, asked, "{answer}: no model was asked");
        let told = |fleet: &wire::fleet::Fleet| fleet.tenants[0].findings.iter().any(|finding| finding.code == "network_open" && finding.detail == laws);
        soon(world.hub.wait_fleet(told)).await.unwrap();
        doctor.answers(&closed);
        network(&world, &tenant, true).await;
        assert_eq!(browser.ask("[[text:closed again]]").await, "closed again", "{answer}");
    }
    drop(doctor);
    network(&world, &tenant, false).await;
    assert!(browser.ask("[[text:out]]").await.contains("network_open"), "nobody answers");

    // Only the process that the doctor names is believed on the plugin's socket.
    let doctor = Doctor::start(&socket, &closed.replace(&mine.to_string(), "1"));
    let tenant = tenant.restart().await;
    // So no canary is believed to have asked.
    world.as_time_passes(500, tenant.gateway_is(GatewayState::Ungated)).await;
    assert_eq!(tenant.gateway.announce("run", "11111111111111111111111111111111", "").await.status, 403);
    drop(doctor);
    tenant.end().await;
    world.end().await;
}

async fn network(world: &World, tenant: &Tenant, is_closed: bool) {
    world
        .as_time_passes(50, async {
            while tenant.console(&Verb::Status {}).await["network"]["ok"] != is_closed {
                tokio::task::yield_now().await;
            }
        })
        .await;
}

/// Who answers the agent's one question.
struct Doctor {
    answer: Arc<Mutex<String>>,
    socket: PathBuf,
    task: tokio::task::JoinHandle<()>,
}

impl Doctor {
    fn start(socket: &Path, answer: &str) -> Doctor {
        let listener = tokio::net::UnixListener::bind(socket).unwrap();
        let answer = Arc::new(Mutex::new(answer.to_owned()));
        let says = answer.clone();
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let text = says.lock().unwrap().clone();
                let _ = stream.write_all(text.as_bytes()).await;
            }
        });
        Doctor { answer, socket: socket.to_owned(), task }
    }

    fn answers(&self, answer: &str) {
        answer.clone_into(&mut self.answer.lock().unwrap());
    }
}

impl Drop for Doctor {
    fn drop(&mut self) {
        self.task.abort();
        let _ = std::fs::remove_file(&self.socket);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs OpenClaw, root, nftables and systemd-container"]
async fn no_way_leads_round_the_agent() {
    if !booted("network::no_way_leads_round_the_agent") {
        return;
    }
    let world = World::start_with(Clock::system()).await;
    let host = Host::install(&world).await;
    let mut browser = host.owner().await;
    let ways = "/story/ways.pl";
    std::fs::write(ways, WAYS).unwrap();
    let outside = Outside::open(ways);

    // The ways are real ones: root, outside, finds them open.
    let (count, open) = ways_of(&output("perl", &[ways, "look", AGENT_END]));
    for way in [
        "tcp4",
        "tcp4_http",
        "tcp6",
        "mapped",
        "metadata",
        "host_itself",
        "dns",
        "quic",
        "raw",
        "packet",
        "abstract",
        "path_run",
        "path_tmp",
        "path_srv",
        "list_rules",
        "agent",
    ] {
        assert!(open.contains(&way.to_owned()), "{way} is a way: {open:?}");
    }

    // A command that the assistant runs finds one: to the agent.
    std::fs::write(Path::new(WORKSPACE).join("ways.pl"), WAYS).unwrap();
    let reply = browser.ask(&format!("Run the command: perl ways.pl try {AGENT_END}")).await;
    assert!(reply.contains(&format!("{} ways, open: agent.", count + 3)), "{reply}\n{}", journal());
    assert_eq!(host.doctor()["ok"], true, "{}", host.doctor());

    // Each wall holds without the one before it. First a route, as root would have to lay it:
    ok("ip", &["-n", "openclaw", "route", "add", "default", "via", AGENT_END]);
    assert_eq!(as_openclaw(ways), ["agent"], "the rules inside hold");
    assert_eq!(host.broken(), ["routes"]);
    // then without the rules inside,
    ok("nsenter", &["--net=/run/netns/openclaw", "nft", "flush", "ruleset"]);
    assert_eq!(as_openclaw(ways), ["agent"], "the rules outside hold");
    assert_eq!(host.broken(), ["routes", "inside_rules"]);
    // and without those outside it is open, so the tries could have told.
    ok("nft", &["delete", "table", "inet", "gatehouse_outside"]);
    let open = as_openclaw(ways);
    for way in ["tcp4", "metadata", "dns", "quic", "host_itself", "agent_other_port"] {
        assert!(open.contains(&way.to_owned()), "{way}: {open:?}");
    }
    assert_eq!(host.broken(), ["routes", "inside_rules", "outside_rules"]);

    // By now the agent knows, and no model call passes.
    host.network(false).await;
    let asked = world.model.counted().calls;
    let reply = browser.ask("[[text:out]]").await;
    assert!(reply.contains("network_open"), "{reply}");
    assert_eq!(world.model.counted().calls, asked, "no model was asked");
    let detail = "routes, inside_rules, outside_rules";
    let told = |fleet: &wire::fleet::Fleet| fleet.tenants[0].findings.iter().any(|finding| finding.code == "network_open" && finding.detail == detail);
    soon(world.hub.wait_fleet(told)).await.unwrap();

    // What the doctor says mends it.
    ok("systemctl", &["reload", "gatehouse-network"]);
    assert_eq!(host.broken(), ["routes"]);
    ok("systemctl", &["restart", "gatehouse-network", "tenant-agent"]);
    host.ready().await;
    assert_eq!(host.broken(), [""; 0]);
    browser.open().await.expect("the chat opens again");
    assert_eq!(browser.ask("[[text:closed again]]").await, "closed again");

    // A descriptor that came from outside is seen, whoever passed it; so is a process of OpenClaw's user that lives elsewhere.
    let foreign = std::net::TcpStream::connect(world.hub.public_addr()).unwrap();
    let mut holder = inside_as_openclaw(&["sleep", "600"]).stdin(std::os::fd::OwnedFd::from(foreign)).spawn().unwrap();
    host.breaks("descriptors").await;
    holder.kill().unwrap();
    holder.wait().unwrap();
    let mut stray = Command::new("setpriv").args(OPENCLAW).args(["sleep", "600"]).spawn().unwrap();
    host.breaks("processes").await;
    stray.kill().unwrap();
    stray.wait().unwrap();
    assert_eq!(host.broken(), [""; 0]);

    // An agent that is killed takes OpenClaw with it, and both come back.
    let before = main_pid("openclaw");
    ok("systemctl", &["kill", "--signal=KILL", "tenant-agent"]);
    soon(async {
        while [before.as_str(), "0"].contains(&main_pid("openclaw").as_str()) {
            tokio::time::sleep(EACH).await;
        }
    })
    .await;
    host.ready().await;
    browser.open().await.expect("the chat opens again");
    assert_eq!(browser.ask("[[text:back]]").await, "back");

    // What listens in OpenClaw's place is not OpenClaw, whoever its user is.
    ok("systemctl", &["stop", "openclaw"]);
    let listen = "socket(S, AF_INET, SOCK_STREAM, 0); setsockopt(S, SOL_SOCKET, SO_REUSEADDR, 1); bind(S, pack_sockaddr_in(18789, inet_aton('10.77.0.2'))) or die; listen(S, 5); sleep 600";
    let mut impostor = inside_as_openclaw(&["perl", "-MSocket", "-e", listen]).spawn().unwrap();
    host.breaks("gateway").await;
    assert_eq!(host.doctor()["gateway_pid"], Value::Null);
    impostor.kill().unwrap();
    impostor.wait().unwrap();

    drop(outside);
    assert_eq!(host.agent(&["uninstall"])["ok"], true);
    assert!(!Path::new("/run/netns/openclaw").exists() && !Path::new("/etc/systemd/system/openclaw.service").exists());
    assert!(!output("systemctl", &["is-active", "tenant-agent", "openclaw"]).status.success());
    world.end().await;
}

/// A host that was installed, enrolled and started as docs/OPERATING.md says.
struct Host {
    origin: String,
    port: u16,
}

impl Host {
    async fn install(world: &World) -> Host {
        let port = free_port();
        let origin = format!("http://alice.localhost:{port}");
        let part = |name: &str| std::env::var(name).expect("the machine sets it");
        let roots: Vec<String> = Company::roots().keys.iter().map(|key| format!("\"{key}\"")).collect();
        let config = format!(
            "origin = \"{origin}\"\nmodel = \"scripted/scripted-1\"\nclosed = true\n\
             [listen]\ntenant = \"127.0.0.1:{port}\"\negress = \"{AGENT_END}:8411\"\n[hub]\nurl = \"http://{}\"\n\
             [gateway]\nmode = \"unit\"\naddress = \"10.77.0.2:18789\"\nnode = \"{}\"\nopenclaw = \"{}\"\n\
             [policy]\nfleet = \"{}\"\nroots = [{}]\n\
             [provider.scripted]\ndialect = \"openai-completions\"\nurl = \"http://{}/v1\"\nmodels = [\"scripted-1\"]\n",
            world.hub.public_addr(),
            part("GATEHOUSE_NODE"),
            part("GATEHOUSE_OPENCLAW"),
            world.company.fleet,
            roots.join(", "),
            world.model.addr(),
        );
        std::fs::create_dir_all("/etc/gatehouse").unwrap();
        std::fs::write(CONFIG, config).unwrap();
        let host = Host { origin, port };
        assert_eq!(host.agent(&["install", "--dry-run"])["changed"], false);
        // A step in the middle fails, and everything before it is taken back.
        std::fs::create_dir_all("/run/netns/openclaw/in-the-way").unwrap();
        let refused = host.agent(&["install"]);
        assert!(refused["ok"] == false && refused["message"].as_str().unwrap().contains("taken back"), "{refused}");
        assert!(!Path::new("/etc/systemd/system/openclaw.service").exists() && !Path::new("/etc/gatehouse/network").exists());
        assert!(!Path::new("/etc/systemd/system/multi-user.target.wants/tenant-agent.service").exists());
        assert_eq!(output("nft", &["list", "ruleset"]).stdout, b"");
        std::fs::remove_dir_all("/run/netns/openclaw").unwrap();
        assert_eq!(host.agent(&["install"])["changed"], true);
        assert_eq!(host.agent(&["install"])["changed"], false, "the second time changes nothing");

        let (_, token) = world.hub.create_tenant("alice", &host.origin).await.unwrap();
        assert_eq!(host.as_agent(&["enrol"], &token)["ok"], true);
        ok("systemctl", &["start", "tenant-agent"]);
        assert_eq!(host.as_agent(&["vault", "set", "provider.scripted"], world.model_key())["ok"], true);
        host.ready().await;
        host
    }

    /// A command as root.
    fn agent(&self, arguments: &[&str]) -> Value {
        facts(&output("tenant-agent", &[arguments, &["--json"]].concat()))
    }

    /// A command as the agent's user.
    fn as_agent(&self, arguments: &[&str], input: &str) -> Value {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=gatehouse", "--regid=gatehouse", "--init-groups", "tenant-agent", "--json"]).args(arguments);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        facts(&child.wait_with_output().unwrap())
    }

    fn status(&self) -> Value {
        self.as_agent(&["status"], "")
    }

    async fn ready(&self) {
        let ready = async {
            while self.status()["gateway"]["state"] != "ready" || self.status()["network"]["ok"] != true {
                tokio::time::sleep(EACH).await;
            }
        };
        if tokio::time::timeout(Duration::from_secs(300), ready).await.is_err() {
            panic!("the host is not ready: {}\n{}", self.status(), journal());
        }
    }

    async fn network(&self, is_closed: bool) {
        soon(async {
            while self.status()["network"]["ok"] != is_closed {
                tokio::time::sleep(EACH).await;
            }
        })
        .await;
    }

    fn doctor(&self) -> Value {
        self.agent(&["doctor"])
    }

    fn broken(&self) -> Vec<String> {
        let laws = self.doctor()["laws"].as_array().expect("laws").clone();
        laws.iter().filter(|law| law["ok"] == false).map(|law| law["name"].as_str().unwrap().to_owned()).collect()
    }

    /// What was just started may not have become itself yet.
    async fn breaks(&self, law: &str) {
        soon(async {
            while !self.broken().contains(&law.to_owned()) {
                tokio::time::sleep(EACH).await;
            }
        })
        .await;
    }

    async fn owner(&self) -> Browser {
        let link = self.as_agent(&["owner-link"], "");
        let token = link["link"].as_str().and_then(|link| link.split_once('#')).expect("a link").1.to_owned();
        let mut browser = Browser::new(([127, 0, 0, 1], self.port).into(), &self.origin);
        let answer = browser.enter("/auth/first", json!({ "token": token, "name": "Owner", "password": tests::PASSWORD, "lang": "en" })).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        browser.open().await.expect("the chat opens");
        browser
    }
}

/// The world outside of the host: an internet behind a router that forwards, and servers on the host itself.
struct Outside(Vec<Child>);

impl Outside {
    fn open(ways: &str) -> Outside {
        for line in [
            "ip netns add world",
            "ip link add world0 type veth peer name world1 netns world",
            "ip address add 198.51.100.1/30 dev world0",
            "ip -6 address add 2001:db8::1/64 dev world0 nodad",
            "ip link set world0 up",
            "ip -n world address add 198.51.100.2/30 dev world1",
            "ip -n world -6 address add 2001:db8::2/64 dev world1 nodad",
            "ip -n world link set world1 up",
            "ip -n world link set lo up",
            "ip -n world address add 93.184.216.34/32 dev lo",
            "ip -n world address add 169.254.169.254/32 dev lo",
            "ip -n world -6 address add 2001:db8:1::1/128 dev lo",
            "ip -n world route add default via 198.51.100.1",
            "ip -n world -6 route add default via 2001:db8::1",
            "ip route add default via 198.51.100.2",
            "ip -6 route add default via 2001:db8::2",
            "sysctl -qw net.ipv4.ip_forward=1",
            "sysctl -qw net.ipv6.conf.all.forwarding=1",
        ] {
            let words: Vec<&str> = line.split(' ').collect();
            ok(words[0], &words[1..]);
        }
        let serve = |mut command: Command| {
            let mut child = command.args(["perl", ways, "serve"]).stdout(Stdio::piped()).spawn().unwrap();
            let mut line = String::new();
            BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
            assert_eq!(line, "serving\n");
            child
        };
        let mut world = Command::new("ip");
        world.args(["netns", "exec", "world"]);
        // The one on the host comes last: files of sockets are the last one's.
        Outside(vec![serve(world), serve(Command::new("env"))])
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The user and the rights that OpenClaw's unit gives it.
const OPENCLAW: &[&str] = &["--reuid=openclaw", "--regid=openclaw", "--clear-groups", "--no-new-privs", "--inh-caps=-all", "--bounding-set=-all"];

fn inside_as_openclaw(command: &[&str]) -> Command {
    let mut inside = Command::new("nsenter");
    inside.args(["--net=/run/netns/openclaw", "setpriv"]).args(OPENCLAW).args(command);
    inside
}

/// Which ways over the network are open with the network's walls alone, without those of the unit.
fn as_openclaw(ways: &str) -> Vec<String> {
    const NETWORK: [&str; 15] =
        ["agent", "tcp4", "tcp4_http", "tcp6", "mapped", "metadata", "host_itself", "agent_other_port", "dns", "quic", "name", "ping", "raw", "raw6", "packet"];
    let mut open = ways_of(&inside_as_openclaw(&["perl", ways, "try", AGENT_END]).output().unwrap()).1;
    open.retain(|way| NETWORK.contains(&way.as_str()));
    open
}

fn ways_of(output: &Output) -> (u32, Vec<String>) {
    let said = String::from_utf8_lossy(&output.stdout);
    let (count, open) = said.trim().split_once(" ways, open: ").unwrap_or_else(|| panic!("{said}{}", String::from_utf8_lossy(&output.stderr)));
    (count.parse().unwrap(), open.trim_end_matches('.').split_whitespace().map(str::to_owned).collect())
}

fn main_pid(unit: &str) -> String {
    String::from_utf8(output("systemctl", &["show", "--property=MainPID", "--value", unit]).stdout).unwrap().trim().to_owned()
}

fn facts(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)))
}

fn output(program: &str, arguments: &[&str]) -> Output {
    Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"))
}

fn ok(program: &str, arguments: &[&str]) {
    let output = output(program, arguments);
    assert!(output.status.success(), "{program} {arguments:?}: {}{}", String::from_utf8_lossy(&output.stderr), journal());
}

fn journal() -> String {
    String::from_utf8_lossy(&output("journalctl", &["--no-pager", "--lines=100", "--output=cat"]).stdout).into_owned()
}

/// What is rendered, where systemd can say what it thinks of it.
#[test]
#[ignore = "needs systemd"]
fn systemd_takes_the_units_and_finds_them_well_closed() {
    let root = std::env::temp_dir().join(format!("gatehouse-units-{}", &service::random::token()[..12]));
    let plan = tenant_agent::network::plan::Plan {
        agent: "/bin/true".into(),
        config: CONFIG.into(),
        state_folder: "/var/lib/gatehouse/agent".into(),
        folder: "/var/lib/gatehouse/openclaw".into(),
        node: "/bin/true".into(),
        openclaw: "/opt/gatehouse/openclaw.mjs".into(),
        agent_end: AGENT_END.parse().unwrap(),
        agent_ports: vec![8411],
        gateway_end: "10.77.0.2:18789".parse().unwrap(),
    };
    std::fs::create_dir(&root).unwrap();
    tenant_agent::network::install::install(&plan, &root, false).unwrap();
    let unit = |name: &str| root.join("etc/systemd/system").join(name);
    let path = |path: &PathBuf| path.display().to_string();
    let names = ["gatehouse-network.service", "gatehouse-doctor.socket", "gatehouse-doctor@.service", "tenant-agent.service", "openclaw.service"];
    let units: Vec<String> = names.iter().map(|name| path(&unit(name))).collect();
    let said = output("systemd-analyze", &[&["verify", "--man=no"], units.iter().map(String::as_str).collect::<Vec<_>>().as_slice()].concat());
    let faults = String::from_utf8_lossy(&said.stderr).lines().filter(|line| line.contains(path(&root).as_str())).map(str::to_owned).collect::<Vec<_>>();
    assert!(said.status.success() && faults.is_empty(), "{}", String::from_utf8_lossy(&said.stderr));
    // Ten times the exposure that systemd counts: redis has 12, the usual web server 96.
    for (name, most) in [("tenant-agent.service", "13"), ("openclaw.service", "13"), ("gatehouse-doctor@.service", "35"), ("gatehouse-network.service", "53")] {
        let threshold = format!("--threshold={most}");
        let said = output("systemd-analyze", &["security", "--offline=true", "--no-pager", &threshold, &path(&unit(name))]);
        let text = String::from_utf8_lossy(&said.stdout);
        assert!(said.status.success(), "{name}: {}", text.lines().last().unwrap_or_default());
    }
    std::fs::remove_dir_all(root).unwrap();
}
