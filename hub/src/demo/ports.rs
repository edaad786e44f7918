//! The demo's ports: a block from one number on, looked at before anything is started, so that nothing is half-started.

use crate::command::{EXIT_CONFIG, Trouble};
use crate::config::Config;
use crate::providers::local::{self, PORTS_SPAN, TenantPorts};
use service::random;
use std::fmt::Write as _;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::path::Path;

/// What the demo will listen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    pub base: u16,
    pub has_model: bool,
    pub has_gateway: bool,
}

const BASE_MAX: u16 = u16::MAX - PORTS_SPAN;
/// Between the ports that need rights and those that the kernel hands out for outgoing connections.
const SEARCH_FROM: u16 = 12_000;
const SEARCH_TO: u16 = 30_000;
const SEARCHES_MAX: usize = 100;

impl Block {
    /// The block from `base` on, if all of it is free or held by this state's own agent; with `base` 0 the one that this
    /// state had before, or any.
    pub fn find(base: u16, has_model: bool, has_gateway: bool, state_folder: &Path, hub_config: &Path) -> Result<Block, Trouble> {
        let at = |base: u16| Block { base, has_model, has_gateway };
        let held = held(state_folder);
        if base > 0 {
            return at(base).checked(&held);
        }
        let before = Config::read(hub_config).ok().map(|config| at(config.public.port()));
        if let Some(Ok(block)) = before.map(|block| block.checked(&held)) {
            return Ok(block);
        }
        let mut draws = (0..SEARCHES_MAX).map(|_| at(SEARCH_FROM + random::below(u64::from(SEARCH_TO - SEARCH_FROM)) as u16));
        let found = draws.find_map(|block| block.checked(&[]).ok());
        found.ok_or_else(|| Trouble {
            code: EXIT_CONFIG,
            said: format!("no {PORTS_SPAN} ports in a row were found that are free: name the first of some with --port."),
        })
    }

    pub fn public(self) -> SocketAddr {
        loopback(self.base)
    }

    pub fn operator(self) -> SocketAddr {
        loopback(self.base + 1)
    }

    pub fn model(self) -> SocketAddr {
        loopback(self.base + 2)
    }

    fn checked(self, held: &[u16]) -> Result<Block, Trouble> {
        if self.base == 0 || self.base > BASE_MAX {
            return Err(Trouble { code: 2, said: format!("--port takes 0 or 1 to {BASE_MAX}: the demo uses ports up to {PORTS_SPAN} above it.") });
        }
        let faults: Vec<(u16, &str, io::Error)> =
            self.ports().into_iter().filter(|(port, _)| !held.contains(port)).filter_map(|(port, whose)| Some((port, whose, fault(port)?))).collect();
        if faults.is_empty() { Ok(self) } else { Err(refusal(&faults)) }
    }

    fn ports(self) -> Vec<(u16, &'static str)> {
        let mut ports = vec![(self.base, "the hub, for agents"), (self.base + 1, "the dashboard")];
        ports.extend(self.has_model.then_some((self.base + 2, "the scripted model")));
        if let Some(TenantPorts { tenant, egress, proxy, gateway }) = TenantPorts::of(self.base, 0) {
            ports.extend([(tenant, "the assistant's page"), (egress, "the agent's egress proxy"), (proxy, "the agent's forward proxy")]);
            ports.extend(self.has_gateway.then_some((gateway, "OpenClaw")));
        }
        ports
    }
}

fn held(state_folder: &Path) -> Vec<u16> {
    local::held_ports(state_folder).into_iter().flat_map(|TenantPorts { tenant, egress, proxy, gateway }| [tenant, egress, proxy, gateway]).collect()
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// What keeps us from a port. Somebody on `::1` alone counts too: browsers try it first for names under `localhost`.
fn fault(port: u16) -> Option<io::Error> {
    let tried = |address: IpAddr| TcpListener::bind((address, port)).err();
    let on_v6 = || tried(Ipv6Addr::LOCALHOST.into()).filter(|error| error.kind() == ErrorKind::AddrInUse);
    tried(Ipv4Addr::LOCALHOST.into()).or_else(on_v6)
}

fn refusal(faults: &[(u16, &str, io::Error)]) -> Trouble {
    let mut said = "the demo needs ports that it cannot have; nothing was started.".to_owned();
    for (port, whose, error) in faults {
        let why = if error.kind() == ErrorKind::AddrInUse { "in use".to_owned() } else { error.to_string() };
        // A string takes every write.
        let _ = write!(said, "\n  {port:>5}  {why}, wanted for {whose}");
    }
    said.push_str("\n`ss -ltnp` names who has them. Give the demo other ports with --port <first port>, or let it choose with --port 0.");
    Trouble { code: EXIT_CONFIG, said }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(base: u16) -> Result<Block, Trouble> {
        Block::find(base, true, true, Path::new("/nowhere"), Path::new("/nowhere/hub.toml"))
    }

    #[test]
    fn every_port_in_use_is_named_at_once_with_the_remedy() {
        let block = find(0).unwrap();
        let taken: Vec<TcpListener> = [1, 130].iter().map(|distance| TcpListener::bind(loopback(block.base + distance)).unwrap()).collect();
        let Trouble { code, said } = find(block.base).unwrap_err();
        assert_eq!(code, EXIT_CONFIG);
        for part in [format!("{}  in use, wanted for the dashboard", block.base + 1), format!("{}  in use, wanted for OpenClaw", block.base + 130)] {
            assert!(said.contains(&part), "{part}: {said}");
        }
        assert!(said.contains("--port") && !said.contains("egress"), "{said}");
        assert!(Block { has_gateway: false, ..block }.checked(&[block.base + 1]).is_ok(), "what our own agent holds is ours, what is not needed may be taken");
        drop(taken);
        assert_eq!(find(block.base).unwrap(), block);
    }

    #[test]
    fn a_block_must_fit() {
        for base in [BASE_MAX + 1, u16::MAX] {
            assert_eq!(find(base).unwrap_err().code, 2, "{base}");
        }
        let last = Block { base: BASE_MAX, has_model: true, has_gateway: true };
        assert_eq!(last.ports().iter().map(|(port, _)| port - BASE_MAX).collect::<Vec<_>>(), [0, 1, 2, 10, 11, 12, 130]);
    }
}
