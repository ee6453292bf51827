//! What a client is to be, and its socket.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::client::{Client, Opened};
use crate::error::ClientError;
use crate::errqueue::{canonical, needs_scope};
use crate::peers::Peers;
use crate::route::{Route, is_for_many};
use ringest_base::sys::sockopt;
use ringest_engine::socket::options::SocketOptions;
use ringest_engine::socket::read_back::ReadBack;

/// Collects what a client is to be; [`open`](Self::open) makes it. Every setting has a default but the
/// peers.
#[derive(Clone, Debug)]
pub struct Builder {
    pub(crate) peers: Vec<SocketAddr>,
    bind: Option<IpAddr>,
    source_port: u16,
    pub(crate) options: SocketOptions,
    broadcast: bool,
    pub(crate) send_timeout: Duration,
    pub(crate) interrupt: Option<Arc<OwnedFd>>,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            peers: Vec::new(),
            bind: None,
            source_port: 0,
            options: SocketOptions::default(),
            broadcast: false,
            send_timeout: Duration::from_secs(1),
            interrupt: None,
        }
    }
}

impl Builder {
    /// Adds somebody to send to.
    #[must_use]
    pub fn peer(mut self, peer: SocketAddr) -> Self {
        self.peers.push(peer);
        self
    }

    /// Adds several.
    #[must_use]
    pub fn peers(mut self, peers: impl IntoIterator<Item = SocketAddr>) -> Self {
        self.peers.extend(peers);
        self
    }

    /// The local address to send from. Default: by the route to the peer.
    #[must_use]
    pub fn bind(mut self, address: IpAddr) -> Self {
        self.bind = Some(address);
        self
    }

    /// The local port to send from. Default, or 0: one the kernel chooses.
    #[must_use]
    pub fn source_port(mut self, port: u16) -> Self {
        self.source_port = port;
        self
    }

    /// Options of the socket. Default: the kernel's.
    #[must_use]
    pub fn options(mut self, options: SocketOptions) -> Self {
        self.options = options;
        self
    }

    /// Whether broadcast addresses may be peers (SO_BROADCAST). Default: no.
    #[must_use]
    pub fn broadcast(mut self, allowed: bool) -> Self {
        self.broadcast = allowed;
        self
    }

    /// How long a send waits while the send buffer, or the queue of the interface, is full. Zero: it
    /// does not wait. Default: 1 s.
    #[must_use]
    pub fn send_timeout(mut self, timeout: Duration) -> Self {
        self.send_timeout = timeout;
        self
    }

    /// A descriptor that ends every wait with [`ClientError::Interrupted`] while it is readable, such as
    /// a signalfd. It is only polled, never read.
    #[must_use]
    pub fn interrupt(mut self, descriptor: OwnedFd) -> Self {
        self.interrupt = Some(Arc::new(descriptor));
        self
    }

    /// Opens the socket. Nothing is sent. A peer that no route leads to is no error here: routes come
    /// and go, and each send says.
    ///
    /// # Errors
    /// A peer or the local address cannot be, or the host refused the socket or one of its options.
    pub fn open(&self) -> Result<Client, ClientError> {
        self.open_beside(None)
    }

    /// The same, on the port of another client that lets it.
    pub(crate) fn open_beside(&self, port: Option<u16>) -> Result<Client, ClientError> {
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
        // What goes to many is answered by others; without a route there is nothing to connect by.
        let connected = match &ways[..] {
            [(peer, way)] if !is_for_many(peer.ip(), way) => socket.connect(*peer).is_ok(),
            _ => false,
        };
        Ok(Client::new(
            self.clone(),
            Opened { socket, is_v6, connected, granted },
            Peers::new(ways),
        ))
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

    /// What is known of the way to a peer.
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

    /// Where to bind. A link-local address is on the interface of the first peer that names one.
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

/// Has errors queued with the destination they are about, and drops in the queue of the interface told
/// (ip(7), ipv6(7)). A socket for both families gets both kinds.
fn hear_errors(socket: &Socket, is_v6: bool) -> Result<(), ClientError> {
    let on = |name, step| sockopt::set_int(socket.as_fd(), name, 1).map_err(failed(step));
    if is_v6 {
        on((libc::IPPROTO_IPV6, libc::IPV6_RECVERR), "IPV6_RECVERR")?;
    }
    on((libc::IPPROTO_IP, libc::IP_RECVERR), "IP_RECVERR")
}

pub(crate) fn failed(step: &'static str) -> impl Fn(std::io::Error) -> ClientError {
    move |source| ClientError::Socket { step, source }
}
