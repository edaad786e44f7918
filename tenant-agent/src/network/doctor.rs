//! The laws of the closed network: from what was observed on the host to what is broken, and what mends it. Pure.
//!
//! A law that cannot be observed is broken. Rules are compared as the kernel lists them, with the list that the kernel
//! makes of our own files: so nobody has to understand a foreign rule to notice it.

use super::plan::{AGENT_LINK, GATEWAY_LINK, Plan};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::net::{IpAddr, Ipv4Addr};

/// A host as it was found.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    pub inside: Option<Inside>,
    /// The table around the namespace, and what it should be.
    pub outside_rules: Rules,
    /// `ip -j address` of the agent's end.
    pub agent_link: Value,
    /// Sockets that listen outside.
    pub listeners: Vec<Listener>,
    /// The inodes of all network sockets that belong outside.
    pub outside_sockets: Vec<u64>,
    /// Processes that live in the namespace, and those of OpenClaw's user wherever they live.
    pub processes: Vec<Process>,
    /// OpenClaw's own process, as systemd started it.
    pub main_pid: Option<i32>,
    pub agent_uid: Option<u32>,
    pub gateway_uid: Option<u32>,
}

/// What was found in the namespace.
#[derive(Clone, Debug, Default)]
pub struct Inside {
    pub rules: Rules,
    /// `ip -j address`.
    pub links: Value,
    /// `ip -j route show table all`, of IPv4 and IPv6.
    pub routes: Vec<Value>,
    pub listeners: Vec<Listener>,
    /// Raw and packet sockets.
    pub raw_sockets: usize,
}

/// Rules as the kernel lists them, without counters.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    pub found: String,
    pub expected: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listener {
    pub ip: IpAddr,
    pub port: u16,
    pub uid: u32,
    pub inode: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    pub pid: i32,
    pub uid: u32,
    pub is_inside: bool,
    /// Whether it may gain rights or has some.
    pub has_rights: bool,
    /// Whether it finds a resolver in its `resolv.conf`.
    pub has_resolver: bool,
    /// Of its sockets, the inodes.
    pub sockets: Vec<u64>,
}

/// One law and how it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Law {
    pub name: String,
    pub ok: bool,
    /// What was found instead; never content.
    #[serde(default)]
    pub found: String,
    #[serde(default)]
    pub remedy: String,
}

/// What `tenant-agent doctor` says, also to the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// All laws hold.
    pub ok: bool,
    /// Whether this host is meant to be closed.
    pub closed: bool,
    pub laws: Vec<Law>,
    /// The process that listens as OpenClaw.
    #[serde(default)]
    pub gateway_pid: Option<i32>,
}

impl Verdict {
    /// Of a host that is not meant to be closed: nothing holds, and nothing is claimed.
    pub fn open() -> Verdict {
        Verdict { ok: true, closed: false, laws: Vec::new(), gateway_pid: None }
    }

    pub fn broken(&self) -> impl Iterator<Item = &Law> {
        self.laws.iter().filter(|law| !law.ok)
    }
}

const RELOAD: &str = "systemctl reload gatehouse-network";
const REBUILD: &str = "systemctl restart gatehouse-network tenant-agent";
const RESTART: &str = "systemctl restart openclaw; find out first who started what is named here";
const INSTALL: &str = "tenant-agent install";

/// What is named of a fault.
const NAMED_MAX: usize = 5;

pub fn examine(plan: &Plan, host: &Observed) -> Verdict {
    let mut laws = Vec::new();
    let mut law = |name: &str, remedy: &str, faults: Vec<String>| {
        let ok = faults.is_empty();
        let found = faults.into_iter().take(NAMED_MAX).collect::<Vec<_>>().join("; ");
        laws.push(Law { name: name.to_owned(), ok, found, remedy: if ok { String::new() } else { remedy.to_owned() } });
    };
    law("users", INSTALL, users(host));
    law("namespace", REBUILD, host.inside.is_none().then(|| "there is no namespace".to_owned()).into_iter().collect());
    let inside = host.inside.clone().unwrap_or_default();
    law("links", REBUILD, links(plan, &inside.links));
    law("routes", REBUILD, inside.routes.iter().flat_map(|routes| self::routes(plan, routes)).collect());
    law("inside_rules", RELOAD, rules(&inside.rules));
    law("outside_rules", RELOAD, rules(&host.outside_rules));
    law("agent_link", REBUILD, agent_link(plan, &host.agent_link));
    law("raw_sockets", RESTART, (inside.raw_sockets > 0).then(|| format!("{} raw or packet sockets", inside.raw_sockets)).into_iter().collect());
    let impostors = gateway(plan, host, &inside);
    let gateway_pid = host.main_pid.filter(|_| impostors.is_empty() && gateways(plan, &inside).next().is_some());
    law("gateway", RESTART, impostors);
    law("agent", "find out who listens in the agent's place, then systemctl restart tenant-agent", agent(plan, host));
    law("processes", RESTART, processes(host));
    // A socket stays where it was made: one that was handed in works as if there were no namespace.
    let is_handed_in = |process: &Process| process.is_inside && process.sockets.iter().any(|socket| host.outside_sockets.contains(socket));
    law("descriptors", RESTART, of_processes(host, "holds a socket from outside", is_handed_in));
    law("rights", RESTART, of_processes(host, "may gain rights", |process| process.has_rights));
    law("resolver", RESTART, of_processes(host, "finds a resolver", |process| process.is_inside && process.has_resolver));
    Verdict { ok: laws.iter().all(|law| law.ok), closed: true, gateway_pid, laws }
}

fn users(host: &Observed) -> Vec<String> {
    match (host.agent_uid, host.gateway_uid) {
        (Some(0), _) | (_, Some(0)) => vec!["one of the users is root".to_owned()],
        (Some(agent), Some(gateway)) if agent != gateway => Vec::new(),
        (Some(_), Some(_)) => vec!["agent and OpenClaw are one user".to_owned()],
        _ => vec!["a user is missing".to_owned()],
    }
}

/// The loopback and our end with its one address; nothing else, in either protocol.
fn links(plan: &Plan, links: &Value) -> Vec<String> {
    let (Some(links), (_, bits)) = (links.as_array(), plan.link_net()) else { return vec!["the links cannot be seen".to_owned()] };
    let mut faults: Vec<String> =
        ["lo", GATEWAY_LINK].iter().filter(|name| !links.iter().any(|link| link["ifname"] == **name)).map(|name| format!("no link {name}")).collect();
    for link in links {
        let name = link["ifname"].as_str().unwrap_or("?");
        for (address, prefix) in addresses(link) {
            let expected = match name {
                "lo" => address.is_loopback(),
                GATEWAY_LINK => address == IpAddr::V4(*plan.gateway_end.ip()) && prefix == u64::from(bits),
                _ => false,
            };
            if !expected {
                faults.push(format!("{name} has {address}/{prefix}"));
            }
        }
        if name != "lo" && name != GATEWAY_LINK {
            faults.push(format!("link {name}"));
        }
    }
    faults
}

fn agent_link(plan: &Plan, links: &Value) -> Vec<String> {
    let (_, bits) = plan.link_net();
    let Some(link) = links.as_array().and_then(|links| links.iter().find(|link| link["ifname"] == AGENT_LINK)) else {
        return vec![format!("no link {AGENT_LINK}")];
    };
    match addresses(link).as_slice() {
        [(address, prefix)] if *address == IpAddr::V4(plan.agent_end) && *prefix == u64::from(bits) => Vec::new(),
        addresses => vec![format!("{AGENT_LINK} has {} addresses, or another one", addresses.len())],
    }
}

fn addresses(link: &Value) -> Vec<(IpAddr, u64)> {
    let all = link["addr_info"].as_array().map(Vec::as_slice).unwrap_or_default();
    all.iter().filter_map(|info| Some((info["local"].as_str()?.parse().ok()?, info["prefixlen"].as_u64()?))).collect()
}

/// Only what is on the link itself or on the loopback; nothing behind a router, and no default.
fn routes(plan: &Plan, routes: &Value) -> Vec<String> {
    let Some(routes) = routes.as_array() else { return vec!["the routes cannot be seen".to_owned()] };
    let (net, bits) = plan.link_net();
    let is_near = |route: &Value| {
        let (device, target) = (route["dev"].as_str().unwrap_or_default(), route["dst"].as_str().unwrap_or_default());
        let (ip, length) = target.split_once('/').map_or((target, None), |(ip, length)| (ip, length.parse::<u32>().ok()));
        let near = match ip.parse::<IpAddr>() {
            Ok(IpAddr::V4(ip)) => ip.is_loopback() || length.is_none_or(|length| length >= bits) && (u32::from(ip) & !(u32::MAX >> bits)) == u32::from(net),
            // Multicast comes with every interface; the rules let none of it out.
            Ok(IpAddr::V6(ip)) => ip.is_loopback() || ip.is_multicast(),
            Err(_) => false,
        };
        let straight = ["gateway", "via", "nexthops", "encap"].iter().all(|key| route.get(key).is_none());
        near && straight && (device == "lo" || device == GATEWAY_LINK)
    };
    let is_nowhere = |route: &Value| matches!(route["type"].as_str(), Some("unreachable" | "blackhole" | "prohibit"));
    routes.iter().filter(|route| !is_near(route) && !is_nowhere(route)).map(|route| format!("route to {}", route["dst"].as_str().unwrap_or("?"))).collect()
}

fn rules(rules: &Rules) -> Vec<String> {
    if rules.expected.is_empty() {
        return vec!["what the rules should be cannot be told".to_owned()];
    }
    if rules.found == rules.expected {
        return Vec::new();
    }
    let lines = |text: &str| text.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect::<Vec<_>>();
    let (found, expected) = (lines(&rules.found), lines(&rules.expected));
    if found.is_empty() {
        return vec!["there are no rules".to_owned()];
    }
    let missing = expected.iter().filter(|line| !found.contains(line)).count();
    let foreign = found.iter().filter(|line| !expected.contains(line)).count();
    vec![format!("{missing} lines are missing, {foreign} are not ours")]
}

/// Nobody but OpenClaw answers where OpenClaw does, nor what it started. That nobody answers breaks no law.
fn gateway(plan: &Plan, host: &Observed, inside: &Inside) -> Vec<String> {
    let is_main = |process: &Process| process.is_inside && Some(process.pid) == host.main_pid;
    let is_openclaw = |listener: &Listener| {
        Some(listener.uid) == host.gateway_uid && host.processes.iter().any(|process| is_main(process) && process.sockets.contains(&listener.inode))
    };
    let foreign = gateways(plan, inside).filter(|listener| !is_openclaw(listener));
    foreign.map(|listener| format!("a process of user {} listens in OpenClaw's place", listener.uid)).collect()
}

fn gateways<'a>(plan: &Plan, inside: &'a Inside) -> impl Iterator<Item = &'a Listener> {
    let (ip, port) = (IpAddr::V4(*plan.gateway_end.ip()), plan.gateway_end.port());
    inside.listeners.iter().filter(move |listener| listener.port == port && (listener.ip == ip || listener.ip.is_unspecified()))
}

/// Nobody but the agent answers where OpenClaw's calls go.
fn agent(plan: &Plan, host: &Observed) -> Vec<String> {
    let ours = |listener: &&Listener| plan.agent_ports.contains(&listener.port) && (listener.ip == IpAddr::V4(plan.agent_end) || listener.ip.is_unspecified());
    let foreign = host.listeners.iter().filter(ours).filter(|listener| Some(listener.uid) != host.agent_uid);
    foreign.map(|listener| format!("user {} listens on port {}", listener.uid, listener.port)).collect()
}

/// OpenClaw's user lives inside and nowhere else, and alone: only root may look in.
fn processes(host: &Observed) -> Vec<String> {
    let wrong = |process: &&Process| (Some(process.uid) == host.gateway_uid) != process.is_inside && process.uid != 0;
    host.processes
        .iter()
        .filter(wrong)
        .map(|process| format!("process {} of user {} is {}", process.pid, process.uid, if process.is_inside { "inside" } else { "outside" }))
        .collect()
}

fn of_processes(host: &Observed, what: &str, is_wrong: impl Fn(&Process) -> bool) -> Vec<String> {
    host.processes.iter().filter(|process| process.uid != 0 && is_wrong(process)).map(|process| format!("process {} {what}", process.pid)).collect()
}

/// Sockets that listen, of `/proc/net/tcp` or `tcp6`.
pub fn listeners(text: &str) -> Vec<Listener> {
    text.lines().skip(1).filter_map(listener).collect()
}

fn listener(line: &str) -> Option<Listener> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let [_, local, _, "0A", ..] = fields[..] else { return None };
    let (ip, port) = local.split_once(':')?;
    Some(Listener { ip: address(ip)?, port: u16::from_str_radix(port, 16).ok()?, uid: fields.get(7)?.parse().ok()?, inode: fields.get(9)?.parse().ok()? })
}

/// The inodes of all sockets of `/proc/net/tcp`, `udp` or `raw`, of either protocol.
pub fn inodes(text: &str) -> impl Iterator<Item = u64> {
    // A socket that nobody holds any more has none.
    text.lines().skip(1).filter_map(|line| line.split_whitespace().nth(9)?.parse().ok()).filter(|inode| *inode != 0)
}

/// The kernel writes addresses as words of the machine's own order.
fn address(hex: &str) -> Option<IpAddr> {
    let words: Option<Vec<u32>> = hex.as_bytes().chunks(8).map(|word| u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok()).collect();
    let bytes: Vec<u8> = words?.into_iter().flat_map(u32::to_ne_bytes).collect();
    match <[u8; 4]>::try_from(bytes.as_slice()) {
        Ok(bytes) => Some(IpAddr::V4(Ipv4Addr::from(bytes))),
        Err(_) => <[u8; 16]>::try_from(bytes.as_slice()).ok().map(|bytes| IpAddr::from(bytes).to_canonical()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::plan::tests::plan;
    use super::*;
    use serde_json::json;

    #[test]
    fn a_closed_host_breaks_no_law_and_each_way_out_breaks_its_own() {
        let verdict = examine(&plan(), &closed());
        assert!(verdict.ok && verdict.closed, "{:?}", verdict.broken().collect::<Vec<_>>());
        assert_eq!(verdict.gateway_pid, Some(70));

        type Breach = fn(&mut Observed);
        let breaches: &[(&str, Breach)] = &[
            ("users", |host| host.gateway_uid = None),
            ("users", |host| host.agent_uid = host.gateway_uid),
            ("namespace", |host| host.inside = None),
            ("links", |host| inside(host).links.as_array_mut().unwrap().push(json!({ "ifname": "eth0", "addr_info": [] }))),
            ("links", |host| inside(host).links[1]["addr_info"] = json!([{ "local": "fe80::1", "prefixlen": 64 }])),
            ("links", |host| inside(host).links[0]["addr_info"] = json!([{ "local": "169.254.169.254", "prefixlen": 32 }])),
            ("links", |host| inside(host).links[1]["addr_info"][0]["prefixlen"] = json!(0)),
            ("links", |host| inside(host).links = Value::Null),
            ("routes", |host| route(host, json!({ "dst": "default", "gateway": "10.77.0.1", "dev": "gh-gateway" }))),
            ("routes", |host| route(host, json!({ "dst": "default", "dev": "gh-gateway" }))),
            ("routes", |host| route(host, json!({ "dst": "0.0.0.0/1", "dev": "gh-gateway" }))),
            ("routes", |host| route(host, json!({ "dst": "10.77.0.0/16", "dev": "gh-gateway" }))),
            ("routes", |host| route(host, json!({ "dst": "10.77.0.0/30", "via": { "family": "inet6", "host": "fe80::1" }, "dev": "gh-gateway" }))),
            ("routes", |host| route(host, json!({ "dst": "10.77.0.0/30", "dev": "eth0" }))),
            ("routes", |host| route(host, json!({ "dst": "2000::/3", "dev": "gh-gateway" }))),
            ("routes", |host| inside(host).routes = vec![Value::Null]),
            ("inside_rules", |host| inside(host).rules.found.clear()),
            ("outside_rules", |host| host.outside_rules.found.clear()),
            ("outside_rules", |host| host.outside_rules.found = host.outside_rules.found.replace("{\n", "{\n\tflags dormant\n")),
            ("outside_rules", |host| host.outside_rules = Rules::default()),
            ("agent_link", |host| host.agent_link = json!([])),
            ("agent_link", |host| {
                host.agent_link[0]["addr_info"] = json!([{ "local": "10.77.0.1", "prefixlen": 30 }, { "local": "fe80::1", "prefixlen": 64 }])
            }),
            ("raw_sockets", |host| inside(host).raw_sockets = 1),
            ("gateway", |host| inside(host).listeners[0].uid = 0),
            ("gateway", |host| inside(host).listeners.push(Listener { ip: "::".parse().unwrap(), port: 18789, uid: 1000, inode: 1 })),
            ("gateway", |host| host.main_pid = Some(71)),
            ("gateway", |host| host.main_pid = None),
            ("agent", |host| host.listeners[0].uid = 1000),
            ("processes", |host| host.processes[0].is_inside = false),
            ("processes", |host| host.processes.push(Process { pid: 9, uid: 1000, is_inside: true, ..process() })),
            ("descriptors", |host| host.outside_sockets.push(4242)),
            ("rights", |host| host.processes[0].has_rights = true),
            ("resolver", |host| host.processes[0].has_resolver = true),
        ];
        for (code, breach) in breaches {
            let mut host = closed();
            breach(&mut host);
            let verdict = examine(&plan(), &host);
            let broken: Vec<&str> = verdict.broken().map(|law| law.name.as_str()).collect();
            assert!(!verdict.ok && broken.contains(code), "{code}: {broken:?}");
            assert!(verdict.broken().all(|law| !law.found.is_empty() && !law.remedy.is_empty()), "{code}");
        }
    }

    #[test]
    fn what_is_no_way_out_breaks_no_law() {
        for harmless in [
            |host: &mut Observed| {
                host.processes.clear();
                inside(host).listeners.clear();
                host.main_pid = None;
            },
            |host: &mut Observed| inside(host).listeners.clear(),
            |host: &mut Observed| host.processes.push(Process { pid: 9, uid: 0, is_inside: true, has_rights: true, ..process() }),
            |host: &mut Observed| route(host, json!({ "type": "unreachable", "dst": "default", "dev": "lo" })),
            |host: &mut Observed| route(host, json!({ "type": "multicast", "dst": "ff00::/8", "dev": "gh-gateway" })),
        ] {
            let mut host = closed();
            harmless(&mut host);
            let verdict = examine(&plan(), &host);
            assert!(verdict.ok, "{:?}", verdict.broken().collect::<Vec<_>>());
            assert_eq!(verdict.gateway_pid.is_some(), !inside(&mut host).listeners.is_empty(), "nobody listens, nobody is believed");
        }
    }

    #[test]
    fn listening_sockets_are_read_in_both_protocols() {
        let text = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             0: 02004D0A:4965 00000000:0000 0A 00000000:00000000 00:00000000 00000000   997        0 4242 1 0 100 0 0 10 0\n\
             1: 02004D0A:4965 01004D0A:D431 01 00000000:00000000 00:00000000 00000000   997        0 4243 1 0 20 4 30 10 -1\n";
        assert_eq!(listeners(text), [Listener { ip: "10.77.0.2".parse().unwrap(), port: 18789, uid: 997, inode: 4242 }]);
        assert_eq!(inodes(text).collect::<Vec<_>>(), [4242, 4243]);
        let six = "  sl\n   0: 00000000000000000000000001000000:1F90 00000000000000000000000000000000:0000 0A 0:0 00:0 0 0 0 7 1\n\
             1: 0000000000000000FFFF000002004D0A:1F90 00000000000000000000000000000000:0000 0A 0:0 00:0 0 0 0 8 1\n";
        let ips: Vec<IpAddr> = listeners(six).into_iter().map(|listener| listener.ip).collect();
        assert_eq!(ips, ["::1".parse::<IpAddr>().unwrap(), "10.77.0.2".parse().unwrap()]);
        assert_eq!(listeners("nonsense\n0: x 0A"), []);
    }

    fn process() -> Process {
        Process { pid: 70, uid: 997, is_inside: true, has_rights: false, has_resolver: false, sockets: Vec::new() }
    }

    fn inside(host: &mut Observed) -> &mut Inside {
        host.inside.as_mut().unwrap()
    }

    fn route(host: &mut Observed, route: Value) {
        inside(host).routes[0].as_array_mut().unwrap().push(route);
    }

    fn closed() -> Observed {
        let rules = || Rules { found: "table inet a {\n\tb\n}\n".to_owned(), expected: "table inet a {\n\tb\n}\n".to_owned() };
        let gateway = Listener { ip: "10.77.0.2".parse().unwrap(), port: 18789, uid: 997, inode: 4242 };
        Observed {
            inside: Some(Inside {
                rules: rules(),
                links: json!([
                    { "ifname": "lo", "addr_info": [{ "local": "127.0.0.1", "prefixlen": 8 }, { "local": "::1", "prefixlen": 128 }] },
                    { "ifname": "gh-gateway", "addr_info": [{ "local": "10.77.0.2", "prefixlen": 30 }] },
                ]),
                routes: vec![
                    json!([
                        { "dst": "10.77.0.0/30", "dev": "gh-gateway" },
                        { "type": "local", "dst": "10.77.0.2", "dev": "gh-gateway" },
                        { "type": "broadcast", "dst": "10.77.0.3", "dev": "gh-gateway" },
                        { "type": "local", "dst": "127.0.0.0/8", "dev": "lo" },
                    ]),
                    json!([{ "dst": "::1", "dev": "lo" }]),
                ],
                listeners: vec![gateway, Listener { ip: "127.0.0.1".parse().unwrap(), port: 9222, uid: 997, inode: 5 }],
                raw_sockets: 0,
            }),
            outside_rules: rules(),
            outside_sockets: vec![6, 7],
            agent_link: json!([{ "ifname": "gh-agent", "addr_info": [{ "local": "10.77.0.1", "prefixlen": 30 }] }]),
            listeners: vec![Listener { ip: "10.77.0.1".parse().unwrap(), port: 8411, uid: 998, inode: 6 }],
            main_pid: Some(70),
            processes: vec![Process { sockets: vec![4242], ..process() }, Process { pid: 71, ..process() }],
            agent_uid: Some(998),
            gateway_uid: Some(997),
        }
    }
}
