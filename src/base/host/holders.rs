//! The sockets and processes that hold a port, from the kernel's table of UDP sockets and the descriptors of processes.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

/// A UDP socket: a line of /proc/net/udp or udp6 (proc_net(5)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UdpSocket {
    /// Address that the socket is bound to.
    pub local: SocketAddr,
    /// User id of its owner.
    pub(crate) user: u32,
    /// Inode of the socket, as links in /proc/PID/fd show it.
    pub inode: u64,
    /// Datagrams dropped since the socket was opened, because its buffer was full (since Linux 2.6.27).
    pub drops: u64,
}

/// Reads /proc/net/udp or udp6. Addresses there are 32-bit words in the host's byte order; ports are plain numbers.
/// Lines in another form are left out.
pub fn udp_sockets(text: &str) -> Vec<UdpSocket> {
    text.lines().filter_map(udp_socket).collect()
}

fn udp_socket(line: &str) -> Option<UdpSocket> {
    let columns: Vec<&str> = line.split_whitespace().collect();
    let (ip, port) = columns.get(1)?.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    Some(UdpSocket {
        local: SocketAddr::new(hex_address(ip)?, port),
        user: columns.get(7)?.parse().ok()?,
        inode: columns.get(9)?.parse().ok()?,
        drops: columns.get(12).and_then(|drops| drops.parse().ok()).unwrap_or(0),
    })
}

fn hex_address(hex: &str) -> Option<IpAddr> {
    let word = |at: usize| -> Option<[u8; 4]> {
        Some(u32::from_str_radix(hex.get(at..at + 8)?, 16).ok()?.to_ne_bytes())
    };
    match hex.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let mut bytes = [0; 16];
            for (index, four) in bytes.chunks_exact_mut(4).enumerate() {
                four.copy_from_slice(&word(index * 8)?);
            }
            Some(Ipv6Addr::from(bytes).into())
        }
        _ => None,
    }
}

impl UdpSocket {
    /// Returns whether the socket holds the port of `address`, on that address or on all.
    pub fn holds(&self, address: SocketAddr) -> bool {
        let (ip, wild) = (self.local.ip().to_canonical(), address.ip().is_unspecified());
        self.local.port() == address.port() && (wild || ip.is_unspecified() || ip == address.ip())
    }
}

/// Returns whether a process holds the port of `address`. Sockets without a process do not count: the kernel tears an
/// io_uring down, and the sockets registered with it, a moment after its process was killed.
///
/// Other users' processes cannot be examined: unless this user is root, their sockets count as held.
pub fn is_held(address: SocketAddr) -> bool {
    // A dual-stack socket of IPv6 holds the port of IPv4 as well.
    let tables = ["udp", "udp6"].map(|name| format!("/proc/thread-self/net/{name}"));
    let sockets =
        tables.iter().flat_map(|table| udp_sockets(&fs::read_to_string(table).unwrap_or_default()));
    let sockets: Vec<_> = sockets.filter(|socket| socket.holds(address)).collect();
    let me = nix::unistd::geteuid();
    if !me.is_root() && sockets.iter().any(|socket| socket.user != me.as_raw()) {
        return true;
    }
    let links: Vec<_> =
        sockets.iter().map(|socket| PathBuf::from(format!("socket:[{}]", socket.inode))).collect();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let descriptors =
        processes.flat_map(|process| fs::read_dir(process.path().join("fd"))).flatten();
    descriptors
        .filter_map(|descriptor| fs::read_link(descriptor.ok()?.path()).ok())
        .any(|link| links.contains(&link))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_held_as_long_as_a_process_has_it_open() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        assert!(
            is_held(address)
                && is_held(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port()))
        );
        assert!(!is_held(SocketAddr::new(Ipv4Addr::new(127, 0, 0, 2).into(), address.port())));
        let dual = std::net::UdpSocket::bind("[::]:0").unwrap().local_addr().unwrap();
        assert!(!is_held(dual), "it was closed at once");
    }
}
