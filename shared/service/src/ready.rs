//! Tells the supervisor that a service is ready, so that what needs it starts afterwards. Without a supervisor it does nothing.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// As systemd's `Type=notify` expects it.
pub fn tell() {
    let Some(path) = std::env::var("NOTIFY_SOCKET").ok().filter(|path| !path.is_empty()) else { return };
    if let Err(error) = send(&path) {
        tracing::warn!(%error, "the supervisor could not be told that the service is ready");
    }
}

fn send(path: &str) -> std::io::Result<()> {
    UnixDatagram::unbound()?.send_to_addr(b"READY=1", &address(path)?).map(drop)
}

/// A leading `@` stands for a name that is in no file system.
fn address(path: &str) -> std::io::Result<SocketAddr> {
    match path.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_sockets_are_reached() {
        let path = std::env::temp_dir().join(crate::random::token());
        for name in [path.display().to_string(), format!("@{}", crate::random::token())] {
            let address = address(&name).unwrap();
            let socket = UnixDatagram::bind_addr(&address).unwrap();
            send(&name).unwrap();
            let mut said = [0; 16];
            assert_eq!(socket.recv(&mut said).map(|count| said[..count].to_vec()).unwrap(), b"READY=1");
        }
        std::fs::remove_file(path).unwrap();
    }
}
