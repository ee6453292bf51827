//! The route to a peer, asked before anything is sent there, by connecting a socket made for that: it sends nothing
//! (udp(7)).

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;

use crate::error::header_bytes;
use ringest_base::sys::sockopt;

/// The route to a peer, as far as this host knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Route {
    /// Path MTU, bytes; `None` if there is no route now.
    pub(crate) path_mtu: Option<u32>,
    /// Whether the peer is a broadcast address of a network that this host is in.
    pub(crate) is_broadcast: bool,
}

impl Route {
    /// Asks on `socket`, which must be bound like the client's own, with the same options, and not be connected.
    pub(crate) fn ask(socket: &UdpSocket, peer: SocketAddr) -> Self {
        let connected = socket.connect(peer).is_ok();
        // EACCES: a prohibition, or a broadcast address without SO_BROADCAST.
        let is_broadcast = !connected
            && peer.is_ipv4()
            && socket.set_broadcast(true).is_ok()
            && socket.connect(peer).is_ok();
        let name = if peer.is_ipv4() {
            (libc::IPPROTO_IP, libc::IP_MTU)
        } else {
            (libc::IPPROTO_IPV6, libc::IPV6_MTU)
        };
        let mtu = sockopt::get_int(socket.as_fd(), name).ok();
        let path_mtu = mtu.and_then(|mtu| u32::try_from(mtu).ok()).filter(|mtu| *mtu > 0);
        Self { path_mtu, is_broadcast }
    }

    /// Returns the largest payload that is sent without fragments, bytes.
    pub(crate) fn whole_bytes(&self, peer: SocketAddr) -> Option<usize> {
        let mtu = usize::try_from(self.path_mtu?).ok()?;
        Some(mtu.saturating_sub(header_bytes(peer)))
    }
}

/// Returns whether datagrams to the address go to many hosts: answers come from other addresses, and ICMP errors do
/// not come at all (RFC 1122, section 3.2.2).
pub(crate) fn is_for_many(ip: IpAddr, route: &Route) -> bool {
    let limited = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
    ip.is_multicast() || limited || route.is_broadcast
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_is_known() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let peer = "127.0.0.1:9".parse().unwrap();
        let route = Route::ask(&socket, peer);
        assert!(!route.is_broadcast && route.path_mtu >= Some(1280), "{route:?}");
        assert_eq!(Route::default().whole_bytes(peer), None);
        let narrow = Route { path_mtu: Some(1280), is_broadcast: false };
        assert_eq!(narrow.whole_bytes(peer), Some(1252));
        assert_eq!(narrow.whole_bytes("[::1]:9".parse().unwrap()), Some(1232));
    }

    #[test]
    fn a_broadcast_address_is_known_before_anything_is_sent() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let route = Route::ask(&socket, "127.255.255.255:9".parse().unwrap());
        assert!(route.is_broadcast, "{route:?}");
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        let group = Route::ask(&socket, "239.1.2.3:9".parse().unwrap());
        assert!(!group.is_broadcast && is_for_many("239.1.2.3".parse().unwrap(), &group));
        assert!(is_for_many("255.255.255.255".parse().unwrap(), &group));
        assert!(!is_for_many("192.0.2.1".parse().unwrap(), &group));
    }
}
