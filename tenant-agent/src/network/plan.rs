//! What closes OpenClaw's network, rendered from the settings: units, rules, users and folders. Pure.
//!
//! The texts lie in `packaging/` with `@NAMES@` for what an operator may set, so that they can be read as they will be
//! written. Only plain values come in; one that would need quoting is refused.

use crate::Settings;
use crate::gateway::Mode;
use crate::gateway::openclaw::{PACKAGED_PLUGIN, PLUGIN_FILES};
use anyhow::{Context, bail, ensure};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};

/// The users of an installed host, and the namespace, which is named after who lives in it.
pub const AGENT_USER: &str = "gatehouse";
pub const GATEWAY_USER: &str = "openclaw";
pub const NAMESPACE: &str = "openclaw";
/// The two ends of the one link.
pub const AGENT_LINK: &str = "gh-agent";
pub const GATEWAY_LINK: &str = "gh-gateway";
/// Every file of ours says this, but for the plugin in a folder that is ours; no other is written over or removed.
pub const HEADER: &str = "Written by `tenant-agent install`";

/// The agent writes OpenClaw's keys here at its start.
pub const GATEWAY_KEYS: &str = "/run/gatehouse/gateway.env";
/// Where the agent asks root whether the network is closed.
pub const DOCTOR_SOCKET: &str = "/run/gatehouse-doctor.sock";
/// Where the agent hands over what assistants are allowed to do.
pub const HANDS_SOCKET: &str = "/run/gatehouse-hands.sock";
pub const IP: &str = "/usr/sbin/ip";
pub const NFT: &str = "/usr/sbin/nft";
pub const NSENTER: &str = "/usr/bin/nsenter";

const NETWORK_FOLDER: &str = "/etc/gatehouse/network";
/// Two hosts and nothing else.
const LINK_BITS: u32 = 30;
/// OpenClaw with a long conversation; the smallest VPS that it works on has 2 GB.
const GATEWAY_MEMORY: &str = "3G";
/// One command with all that it starts.
const HANDS_MEMORY: &str = "1G";

/// A file of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    pub path: PathBuf,
    pub text: String,
}

/// What is set, checked.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The agent's binary and its configuration.
    pub agent: PathBuf,
    pub config: PathBuf,
    pub state_folder: PathBuf,
    /// What the agent and OpenClaw share.
    pub folder: PathBuf,
    pub node: PathBuf,
    pub openclaw: PathBuf,
    pub agent_end: Ipv4Addr,
    /// The agent's doors that OpenClaw may knock on.
    pub agent_ports: Vec<u16>,
    pub gateway_end: SocketAddrV4,
}

impl Plan {
    pub fn of(settings: &Settings, agent: &Path, config: &Path) -> anyhow::Result<Plan> {
        let Mode::Unit { address, program, .. } = &settings.mode else {
            bail!("`gateway.mode` is not `unit`: only an OpenClaw that is a unit of its own has a network of its own")
        };
        let (SocketAddr::V4(agent_end), SocketAddr::V4(gateway_end)) = (settings.egress, *address) else {
            bail!("`listen.egress` and `gateway.address` must be IPv4: the link has no IPv6")
        };
        let plan = Plan {
            agent: agent.to_owned(),
            config: config.to_owned(),
            state_folder: settings.state_folder.clone(),
            folder: settings.openclaw_folder(),
            node: program.node.clone(),
            openclaw: program.openclaw.clone(),
            agent_end: *agent_end.ip(),
            agent_ports: vec![agent_end.port()],
            gateway_end,
        };
        plan.checked()
    }

    fn checked(self) -> anyhow::Result<Plan> {
        let (agent, gateway) = (self.agent_end, *self.gateway_end.ip());
        let net = network(agent);
        let is_host = |ip: Ipv4Addr| network(ip) == net && u32::from(ip) - u32::from(net) != 0 && u32::from(ip) - u32::from(net) != 3;
        ensure!(
            agent != gateway && agent.is_private() && is_host(agent) && is_host(gateway),
            "`listen.egress` ({agent}) and `gateway.address` ({gateway}) must be the two hosts of one private /30, such as 10.77.0.1 and 10.77.0.2"
        );
        ensure!(!self.agent_ports.contains(&0) && self.gateway_end.port() != 0, "both ends of the link need a port that is known beforehand");
        ensure!(!self.folder.starts_with(&self.state_folder), "`gateway.folder` may not lie in `state_folder`, which only the agent may enter");
        for path in [&self.agent, &self.config, &self.state_folder, &self.folder, &self.node, &self.openclaw] {
            plain(path)?;
        }
        Ok(self)
    }

    /// Everything that is written, from the users to the units.
    pub fn files(&self) -> anyhow::Result<Vec<File>> {
        let plugin = PLUGIN_FILES.iter().map(|(name, text)| Ok(File { path: Path::new(PACKAGED_PLUGIN).join(name), text: (*text).to_owned() }));
        let rendered = TEMPLATES.iter().map(|(path, text)| {
            let text = self.fill(text).with_context(|| format!("rendering `{path}`"))?;
            Ok(File { path: PathBuf::from(path), text })
        });
        plugin.chain(rendered).collect()
    }

    pub fn inside_rules(&self) -> anyhow::Result<String> {
        self.fill(INSIDE)
    }

    pub fn outside_rules(&self) -> anyhow::Result<String> {
        self.fill(OUTSIDE)
    }

    /// The network that the two ends make up.
    pub fn link_net(&self) -> (Ipv4Addr, u32) {
        (network(self.agent_end), LINK_BITS)
    }

    fn fill(&self, template: &str) -> anyhow::Result<String> {
        let shown = |path: &Path| path.display().to_string();
        let ports: Vec<String> = self.agent_ports.iter().map(u16::to_string).collect();
        let values = [
            ("AGENT", shown(&self.agent)),
            ("CONFIG", shown(&self.config)),
            ("STATE_FOLDER", shown(&self.state_folder)),
            ("FOLDER", shown(&self.folder)),
            ("NODE", shown(&self.node)),
            ("OPENCLAW", shown(&self.openclaw)),
            ("NETWORK_FOLDER", NETWORK_FOLDER.to_owned()),
            ("NAMESPACE", NAMESPACE.to_owned()),
            ("AGENT_LINK", AGENT_LINK.to_owned()),
            ("GATEWAY_LINK", GATEWAY_LINK.to_owned()),
            ("AGENT_IP", self.agent_end.to_string()),
            ("AGENT_PORTS", ports.join(", ")),
            ("GATEWAY_IP", self.gateway_end.ip().to_string()),
            ("GATEWAY_PORT", self.gateway_end.port().to_string()),
            ("LINK_NET", format!("{}/{LINK_BITS}", network(self.agent_end))),
            ("LINK_BITS", LINK_BITS.to_string()),
            ("AGENT_UID", format!("\"{AGENT_USER}\"")),
            ("GATEWAY_UID", format!("\"{GATEWAY_USER}\"")),
            ("GATEWAY_MEMORY", GATEWAY_MEMORY.to_owned()),
            ("HANDS_MEMORY", HANDS_MEMORY.to_owned()),
            ("IP", IP.to_owned()),
            ("NFT", NFT.to_owned()),
            ("NSENTER", NSENTER.to_owned()),
        ];
        let text = values.iter().fold(template.to_owned(), |text, (name, value)| text.replace(&format!("@{name}@"), value));
        // What stands between two signs.
        let left = text.match_indices('@').find_map(|(at, _)| text[at + 1..].split_once('@').map(|(name, _)| name).filter(|name| is_name(name)));
        match left {
            Some(name) => bail!("nothing is known for `@{name}@`"),
            None => Ok(text),
        }
    }
}

const INSIDE: &str = include_str!("../../../packaging/network/inside.nft");
const OUTSIDE: &str = include_str!("../../../packaging/network/outside.nft");

/// In the order in which they are written.
const TEMPLATES: &[(&str, &str)] = &[
    ("/etc/sysusers.d/gatehouse.conf", include_str!("../../../packaging/systemd/gatehouse.sysusers.conf")),
    ("/etc/tmpfiles.d/gatehouse.conf", include_str!("../../../packaging/systemd/gatehouse.tmpfiles.conf")),
    ("/etc/gatehouse/network/inside.nft", INSIDE),
    ("/etc/gatehouse/network/outside.nft", OUTSIDE),
    ("/etc/gatehouse/network/resolv.conf", include_str!("../../../packaging/network/resolv.conf")),
    ("/etc/systemd/system/gatehouse-network.service", include_str!("../../../packaging/systemd/gatehouse-network.service")),
    ("/etc/systemd/system/gatehouse-doctor.socket", include_str!("../../../packaging/systemd/gatehouse-doctor.socket")),
    ("/etc/systemd/system/gatehouse-doctor@.service", include_str!("../../../packaging/systemd/gatehouse-doctor@.service")),
    ("/etc/systemd/system/gatehouse-hands.socket", include_str!("../../../packaging/systemd/gatehouse-hands.socket")),
    ("/etc/systemd/system/gatehouse-hands@.service", include_str!("../../../packaging/systemd/gatehouse-hands@.service")),
    ("/etc/systemd/system/tenant-agent.service", include_str!("../../../packaging/systemd/tenant-agent.service")),
    ("/etc/systemd/system/openclaw.service", include_str!("../../../packaging/systemd/openclaw.service")),
];

/// Where our files lie, whatever is set.
pub fn paths() -> Vec<PathBuf> {
    let plugin = PLUGIN_FILES.iter().map(|(name, _)| Path::new(PACKAGED_PLUGIN).join(name));
    plugin.chain(TEMPLATES.iter().map(|(path, _)| PathBuf::from(path))).collect()
}

fn network(ip: Ipv4Addr) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(ip) & !(u32::MAX >> LINK_BITS))
}

/// Units, rules and the other files have quoting rules of their own each; a plain path needs none of them.
fn plain(path: &Path) -> anyhow::Result<()> {
    let text = path.to_str().unwrap_or_default();
    let sound = path.is_absolute() && !text.contains("/..") && text.chars().all(|letter| letter.is_ascii_alphanumeric() || "/._-".contains(letter));
    ensure!(sound, "`{}` cannot stand in a unit: an absolute path of letters, digits, dots, dashes and underscores can", path.display());
    Ok(())
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|letter| letter.is_ascii_uppercase() || letter == '_')
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn plan() -> Plan {
        Plan {
            agent: "/usr/bin/tenant-agent".into(),
            config: "/etc/gatehouse/agent.toml".into(),
            state_folder: "/var/lib/gatehouse/agent".into(),
            folder: "/var/lib/gatehouse/openclaw".into(),
            node: "/opt/gatehouse/node/bin/node".into(),
            openclaw: "/opt/gatehouse/openclaw/openclaw.mjs".into(),
            agent_end: Ipv4Addr::new(10, 77, 0, 1),
            agent_ports: vec![8411],
            gateway_end: "10.77.0.2:18789".parse().unwrap(),
        }
    }

    #[test]
    fn every_file_is_ours_and_whole() {
        let files = plan().files().unwrap();
        for file in &files {
            assert!(file.text.contains(HEADER) || file.path.starts_with(PACKAGED_PLUGIN), "{}", file.path.display());
            assert!(!file.text.contains("@AGENT") && !file.text.contains("@GATEWAY"), "{}", file.path.display());
        }
        assert_eq!(files.iter().map(|file| file.path.clone()).collect::<Vec<_>>(), paths());
        assert!(plan().fill("a @NOBODY_KNOWS@ b").is_err());
        assert_eq!(plan().fill("gatehouse-doctor@.service SystemCallFilter=@system-service @mount").unwrap().matches('@').count(), 3);
    }

    #[test]
    fn openclaw_may_reach_the_named_ports_of_one_address_and_nothing_else() {
        let plan = Plan { agent_ports: vec![8411, 8412], ..plan() };
        let accepts = |rules: &str| rules.lines().map(str::trim).filter(|line| line.ends_with(" accept")).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(
            accepts(&plan.inside_rules().unwrap()),
            [
                r#"iifname "lo" accept"#,
                r#"iifname "gh-gateway" ip saddr 10.77.0.1 ip daddr 10.77.0.2 tcp dport 18789 accept"#,
                r#"iifname "gh-gateway" ip saddr 10.77.0.1 ip daddr 10.77.0.2 tcp sport { 8411, 8412 } ct state established accept"#,
                r#"oifname "lo" accept"#,
                r#"meta skuid "openclaw" oifname "gh-gateway" ip saddr 10.77.0.2 ip daddr 10.77.0.1 tcp dport { 8411, 8412 } accept"#,
                r#"oifname "gh-gateway" ip saddr 10.77.0.2 ip daddr 10.77.0.1 tcp sport 18789 ct state established accept"#,
            ]
        );
        let outside = plan.outside_rules().unwrap();
        assert!(outside.contains(r#"meta skuid "openclaw" counter reject"#) && outside.contains(r#"iifname "gh-agent" counter drop"#), "{outside}");
    }

    #[test]
    fn what_cannot_be_a_link_or_stand_in_a_unit_is_refused() {
        assert!(plan().checked().is_ok());
        for (agent, gateway) in [
            ("10.77.0.1", "10.77.0.1:1"),
            ("10.77.0.1", "10.77.0.3:1"),
            ("10.77.0.0", "10.77.0.1:1"),
            ("10.77.0.1", "10.77.0.5:1"),
            ("10.77.0.1", "10.77.0.2:0"),
            ("93.184.216.33", "93.184.216.34:1"),
            ("127.0.0.1", "127.0.0.2:1"),
        ] {
            let plan = Plan { agent_end: agent.parse().unwrap(), gateway_end: gateway.parse().unwrap(), ..plan() };
            assert!(plan.checked().is_err(), "{agent} {gateway}");
        }
        for path in
            ["relative/node", "/opt/no de", "/opt/%h/node", "/opt/$HOME/node", "/opt/\"node", "/opt/node\nUser=root", "/opt/../etc/node", "/opt/@AGENT@"]
        {
            assert!(Plan { node: path.into(), ..plan() }.checked().is_err(), "{path:?}");
        }
        assert!(Plan { folder: "/var/lib/gatehouse/agent/openclaw".into(), ..plan() }.checked().is_err());
    }
}
