//! Settings of a client, and the opening of its socket.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::error::{ClientError, failed};
use crate::errqueue::{canonical, needs_scope};
use crate::peers::Peers;
use crate::route::{Route, is_for_many};
use ringest_base::sys::sockopt;
use ringest_engine::socket::options::SocketOptions;
use ringest_engine::socket::read_back::ReadBack;

/// Settings of a client, as [`Builder`](crate::builder::Builder) collects them.
#[derive(Clone, Debug)]
pub struct Settings {
    pub(crate) peers: Vec<SocketAddr>,
    pub(crate) bind: Option<IpAddr>,
    pub(crate) source_port: u16,
    pub(crate) options: SocketOptions,
    pub(crate) broadcast: bool,
    pub(crate) send_timeout: Duration,
    pub(crate) interrupt: Option<Arc<OwnedFd>>,
}

/// A socket that was opened, with the facts fixed at that time.
#[derive(Debug)]
pub struct Opened {
    pub(crate) socket: UdpSocket,
    pub(crate) is_v6: bool,
    /// Whether the socket is connected to its only peer.
    pub(crate) connected: bool,
    pub(crate) granted: Vec<ReadBack>,
    pub(crate) peers: Peers,
}

impl Settings {
    /// Opens the socket; on `port` if another client shares that one. Sends nothing.
    ///
    /// # Errors
    /// A peer or the local address is impossible, or the host refused the socket or one of its options.
    pub(crate) fn open(&self, port: Option<u16>) -> Result<Opened, ClientError> {
        let peers = self.checked_peers()?;
        let is_v6 = peers.iter().any(SocketAddr::is_ipv6);
        let mut ways = Vec::with_capacity(peers.len());
        for peer in peers {
            let way = self.way(peer)?;
            if way.is_broadcast && !self.broadcast {
                return Err(ClientError::Broadcast { peer });
            }
            ways.push((peer, way));
        }
        let (socket, granted) = self.socket(is_v6)?;
        // Every peer IPv6: the IPv4 port of this number stays with whoever has it.
        let only_v6 = is_v6 && ways.iter().all(|(peer, _)| peer.is_ipv6());
        if is_v6 {
            socket.set_only_v6(only_v6).map_err(failed("IPV6_V6ONLY"))?;
        }
        hear_errors(&socket, is_v6)?;
        socket.set_broadcast(self.broadcast).map_err(failed("SO_BROADCAST"))?;
        socket.set_reuse_address(port.is_some()).map_err(failed("SO_REUSEADDR"))?;
        let address = self.local(is_v6, port.unwrap_or(self.source_port), &ways);
        bind(&socket, address)?;
        socket.set_reuse_address(false).map_err(failed("SO_REUSEADDR"))?;
        let socket = UdpSocket::from(socket);
        // A group's members answer from their own addresses; without a route there is nothing to connect by.
        let connected = match &ways[..] {
            [(peer, way)] if !is_for_many(peer.ip(), way) => socket.connect(*peer).is_ok(),
            _ => false,
        };
        Ok(Opened { socket, is_v6, connected, granted, peers: Peers::new(ways) })
    }

    fn checked_peers(&self) -> Result<Vec<SocketAddr>, ClientError> {
        let mut peers: Vec<SocketAddr> = Vec::with_capacity(self.peers.len());
        for peer in self.peers.iter().copied().map(canonical) {
            let bad = |reason| Err(ClientError::BadPeer { peer, reason });
            if peer.port() == 0 {
                return bad("nothing can be sent to port 0");
            }
            if peer.ip().is_unspecified() {
                return bad("it stands for every address; 127.0.0.1 and ::1 are this host");
            }
            if matches!(peer, SocketAddr::V6(v6) if v6.ip().is_unicast_link_local()
                && v6.scope_id() == 0)
            {
                return bad("a link-local address needs its interface, as in [fe80::1%eth0]:9");
            }
            if peers.contains(&peer) {
                return bad("it is given twice");
            }
            match self.bind {
                Some(bind) if bind.to_canonical().is_ipv4() != peer.is_ipv4() => {
                    return Err(ClientError::OtherFamily { bind, peer });
                }
                _ => peers.push(peer),
            }
        }
        if peers.is_empty() { Err(ClientError::NoPeer) } else { Ok(peers) }
    }

    /// Asks the routing table about the way to a peer.
    fn way(&self, peer: SocketAddr) -> Result<Route, ClientError> {
        let (socket, _) = self.socket(peer.is_ipv6())?;
        let address = self.local(peer.is_ipv6(), 0, &[(peer, Route::default())]);
        bind(&socket, address)?;
        Ok(Route::ask(&UdpSocket::from(socket), peer))
    }

    fn socket(&self, is_v6: bool) -> Result<(Socket, Vec<ReadBack>), ClientError> {
        let domain = if is_v6 { Domain::IPV6 } else { Domain::IPV4 };
        let socket = Socket::new(domain, Type::DGRAM.nonblocking(), Some(Protocol::UDP))
            .map_err(failed("socket(2)"))?;
        let granted = self.options.apply(&socket, is_v6)?;
        Ok((socket, granted))
    }

    /// Returns the address to bind. A link-local address is on the interface of the first peer that names one.
    fn local(&self, is_v6: bool, port: u16, ways: &[(SocketAddr, Route)]) -> SocketAddr {
        let any: IpAddr =
            if is_v6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
        match self.bind.map_or(any, |bind| bind.to_canonical()) {
            IpAddr::V6(ip) if needs_scope(ip) => {
                let scope_id = ways.iter().find_map(|(peer, _)| match peer {
                    SocketAddr::V6(v6) if v6.scope_id() > 0 => Some(v6.scope_id()),
                    _ => None,
                });
                SocketAddr::V6(SocketAddrV6::new(ip, port, 0, scope_id.unwrap_or(0)))
            }
            ip => SocketAddr::new(ip, port),
        }
    }
}

fn bind(socket: &Socket, address: SocketAddr) -> Result<(), ClientError> {
    socket.bind(&SockAddr::from(address)).map_err(|source| ClientError::Bind { address, source })
}

/// Turns on the error queue: errors are queued with their destination, and drops in the queue of the interface are
/// reported (ip(7), ipv6(7)). A socket for both families needs both options.
fn hear_errors(socket: &Socket, is_v6: bool) -> Result<(), ClientError> {
    let on = |name, step| sockopt::set_int(socket.as_fd(), name, 1).map_err(failed(step));
    if is_v6 {
        on((libc::IPPROTO_IPV6, libc::IPV6_RECVERR), "IPV6_RECVERR")?;
    }
    on((libc::IPPROTO_IP, libc::IP_RECVERR), "IP_RECVERR")
}
