//! A listening socket: one for each receiver and listen address.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::bpf::arrivals::Arrivals;
use crate::socket::endpoint::Endpoint;
use crate::socket::error::{OpenCause, OpenError};
use crate::socket::filter::Filter;
use crate::socket::meminfo;
use crate::socket::multicast;
use crate::socket::options::SocketOptions;
use crate::socket::read_back::ReadBack;
use crate::wire::cmsg::Asked;
use ringest_base::sys::sockopt as numbered;

/// How to open the sockets of one listen address.
#[derive(Clone, Debug)]
pub struct SocketSpec {
    /// The address to bind; port 0 lets the kernel choose.
    pub address: SocketAddr,
    /// Take IPv6 alone on `[::]`, because IPv4 has a socket of its own on that port.
    pub only_v6: bool,
    /// The first socket of its address's group: it binds alone, so that nobody else holds the
    /// address, and joins SO_REUSEPORT afterwards. With the option set before, bind(2) shares an
    /// address with any such socket of this user without a word, and given port 0 may even choose
    /// one that is taken.
    pub first: bool,
    /// The control messages that come with each datagram.
    pub asked: Asked,
    /// Receive buffer to ask for, bytes of payload room as SO_RCVBUF counts them (the kernel
    /// doubles it for its own overhead).
    pub rcvbuf_bytes: usize,
    /// Further options.
    pub options: SocketOptions,
    /// The CPU whose datagrams the socket prefers (SO_INCOMING_CPU, Linux 4.4; within a group 6.2).
    pub incoming_cpu: Option<usize>,
    /// Refuse everything before [`Listener::accept`]: the socket's group is to be complete first.
    pub shut: bool,
}

impl SocketSpec {
    /// Returns the spec of a lone socket on `address` without further options.
    #[must_use]
    pub fn plain(address: SocketAddr, asked: Asked, rcvbuf_bytes: usize) -> Self {
        Self {
            address,
            only_v6: false,
            first: true,
            asked,
            rcvbuf_bytes,
            options: SocketOptions::default(),
            incoming_cpu: None,
            shut: false,
        }
    }
}

/// An open socket, member of its address's SO_REUSEPORT group.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    address: SocketAddr,
    asked: Asked,
    /// The receive buffer as getsockopt(SO_RCVBUF) reports it: twice the size granted (socket(7)).
    rcvbuf_bytes: usize,
    drops_seen: u32,
    /// The options that were asked for, as they are now.
    options: Vec<ReadBack>,
    busy_poll_us: Option<u32>,
    filter: Filter,
}

impl Listener {
    /// Opens, prepares and binds. `arrivals` is attached before the bind, so that no datagram is
    /// received uncounted.
    ///
    /// # Errors
    /// The address, and one [`OpenCause`] for each cause an operator can mend.
    pub fn open(spec: &SocketSpec, arrivals: Option<Arc<Arrivals>>) -> Result<Self, OpenError> {
        let address = spec.address;
        Self::try_open(spec, arrivals).map_err(|cause| OpenError { address, cause })
    }

    fn try_open(spec: &SocketSpec, arrivals: Option<Arc<Arrivals>>) -> Result<Self, OpenCause> {
        let address = spec.address;
        let fail = OpenCause::at::<io::Error>;
        let socket = new_socket(address, spec.only_v6)?;
        if !spec.first {
            socket.set_reuse_port(true).map_err(fail("SO_REUSEPORT"))?;
        }
        socket.set_nonblocking(true).map_err(fail("O_NONBLOCK"))?;
        ask(&socket, address, spec.asked)?;
        multicast::only_groups_joined(socket.as_fd(), address.is_ipv6())?;
        let options = spec.options.apply(&socket, address.is_ipv6())?;
        // SO_RCVBUFFORCE passes net.core.rmem_max but takes CAP_NET_ADMIN; SO_RCVBUF is clamped
        // silently, which is why the size granted is read back.
        if setsockopt(&socket, sockopt::RcvBufForce, &spec.rcvbuf_bytes).is_err() {
            socket.set_recv_buffer_size(spec.rcvbuf_bytes).map_err(fail("SO_RCVBUF"))?;
        }
        if let Some(cpu) = spec.incoming_cpu {
            let name = (libc::SOL_SOCKET, libc::SO_INCOMING_CPU);
            let cpu = i32::try_from(cpu).unwrap_or(i32::MAX);
            numbered::set_int(socket.as_fd(), name, cpu).map_err(fail("SO_INCOMING_CPU"))?;
        }
        let mut listener = Self {
            socket,
            address,
            asked: spec.asked,
            rcvbuf_bytes: 0,
            drops_seen: 0,
            options,
            busy_poll_us: spec.options.busy_poll_us,
            filter: Filter::new(arrivals, spec.shut),
        };
        let installed = listener.filter.install(&listener.socket);
        installed.map_err(|(step, source)| OpenCause::Call { step, source })?;
        let socket = &listener.socket;
        socket.bind(&SockAddr::from(address)).map_err(|source| bind_error(spec, source))?;
        if spec.first {
            socket.set_reuse_port(true).map_err(fail("SO_REUSEPORT"))?;
        }
        let bound = socket.local_addr().map_err(fail("getsockname"))?;
        listener.rcvbuf_bytes = socket.recv_buffer_size().map_err(fail("SO_RCVBUF"))?;
        listener.address = bound.as_socket().unwrap_or(address);
        Ok(listener)
    }

    /// Lets datagrams in at a socket that was opened [shut](SocketSpec::shut).
    ///
    /// # Errors
    /// The option by which the filter is replaced, and the kernel's error.
    pub fn accept(&mut self) -> Result<(), (&'static str, io::Error)> {
        self.filter.set_shut(&self.socket, false)?;
        // Datagrams refused so far came before the group was complete: no drop of ours. The counter is read after the
        // filter is open, or refusals between the two would count; an empty buffer drops none.
        self.new_kernel_drops().map(drop).map_err(|error| ("SO_MEMINFO", error))
    }

    /// Returns the options that were asked for, as the kernel granted them.
    #[must_use]
    pub fn options(&self) -> &[ReadBack] {
        &self.options
    }

    /// Returns the address bound, with the port that the kernel chose.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the receive buffer granted, bytes as getsockopt(SO_RCVBUF) reports them.
    #[must_use]
    pub fn rcvbuf_bytes(&self) -> usize {
        self.rcvbuf_bytes
    }

    /// Returns how many buffers the kernel dropped at this socket since the last call. The kernel's counter is a u32 and
    /// wraps; calling at least once in 4 billion drops keeps the sum exact.
    ///
    /// # Errors
    /// getsockopt(SO_MEMINFO) failed (it exists since Linux 4.12).
    pub fn new_kernel_drops(&mut self) -> io::Result<u64> {
        let drops = meminfo::drops(self.socket.as_fd())?;
        let new = drops.wrapping_sub(self.drops_seen);
        self.drops_seen = drops;
        Ok(new.into())
    }

    /// Refuses every further datagram, so that the datagrams inside can be read to the end. Closing at once would
    /// discard them, and no counter would show that. Refused datagrams do not count as arrived.
    ///
    /// # Errors
    /// Attaching the filter failed.
    pub fn refuse_all(&mut self) -> io::Result<()> {
        self.filter.set_shut(&self.socket, true).map_err(|(_, error)| error)
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Endpoint for Listener {
    fn is_v6(&self) -> bool {
        self.address.is_ipv6()
    }

    fn is_connected(&self) -> bool {
        false
    }

    fn asked(&self) -> Asked {
        self.asked
    }

    fn busy_poll_us(&self) -> Option<u32> {
        self.busy_poll_us
    }
}

/// Asks for the control messages wanted. An IPv6 socket may take IPv4 too, whose header comes by
/// messages of its own.
fn ask(socket: &Socket, address: SocketAddr, asked: Asked) -> Result<(), OpenCause> {
    let fail = OpenCause::at::<nix::Error>;
    if asked.gro {
        setsockopt(socket, sockopt::UdpGroSegment, &true).map_err(fail("UDP_GRO"))?;
    }
    if asked.pktinfo && address.is_ipv6() {
        setsockopt(socket, sockopt::Ipv6RecvPacketInfo, &true).map_err(fail("IPV6_RECVPKTINFO"))?;
    }
    if asked.pktinfo {
        // On an IPv6 socket too: of an IPv4 datagram IPV6_PKTINFO has the destination alone, from
        // which a broadcast cannot be answered; IP_PKTINFO comes after it and has both.
        let name = (libc::IPPROTO_IP, libc::IP_PKTINFO);
        numbered::set_int(socket.as_fd(), name, 1).map_err(OpenCause::at("IP_PKTINFO"))?;
    }
    if asked.timestamps {
        setsockopt(socket, sockopt::ReceiveTimestampns, &true).map_err(fail("SO_TIMESTAMPNS"))?;
    }
    if !asked.headers {
        return Ok(());
    }
    let v4 = [
        ("IP_RECVORIGDSTADDR", libc::IP_RECVORIGDSTADDR),
        ("IP_RECVTTL", libc::IP_RECVTTL),
        ("IP_RECVTOS", libc::IP_RECVTOS),
    ]
    .map(|(step, name)| (step, (libc::IPPROTO_IP, name)));
    let v6 = [
        ("IPV6_RECVORIGDSTADDR", libc::IPV6_RECVORIGDSTADDR),
        ("IPV6_RECVHOPLIMIT", libc::IPV6_RECVHOPLIMIT),
        ("IPV6_RECVTCLASS", libc::IPV6_RECVTCLASS),
    ]
    .map(|(step, name)| (step, (libc::IPPROTO_IPV6, name)));
    for (step, name) in v4.into_iter().chain(v6.into_iter().filter(|_| address.is_ipv6())) {
        numbered::set_int(socket.as_fd(), name, 1).map_err(OpenCause::at(step))?;
    }
    Ok(())
}

/// A socket of the address's family; an IPv6 one takes IPv4 too if its address is the wildcard.
fn new_socket(address: SocketAddr, only_v6: bool) -> Result<Socket, OpenCause> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))
        .map_err(|source| match source.raw_os_error() {
            Some(libc::EAFNOSUPPORT) if address.is_ipv6() => OpenCause::NoIpv6,
            _ => OpenCause::Call { step: "socket(2)", source },
        })?;
    if address.is_ipv6() {
        socket
            .set_only_v6(only_v6 || !address.ip().is_unspecified())
            .map_err(OpenCause::at("IPV6_V6ONLY"))?;
    }
    Ok(socket)
}

fn bind_error(spec: &SocketSpec, source: io::Error) -> OpenCause {
    let address = spec.address;
    match source.raw_os_error() {
        Some(libc::EADDRINUSE) => OpenCause::PortTaken,
        Some(libc::EACCES | libc::EPERM) => OpenCause::PortPrivileged,
        Some(libc::EADDRNOTAVAIL) if address.is_ipv6() && ipv6_disabled(address.ip()) => {
            OpenCause::NoIpv6
        }
        // An address that is one only together with its link (ipv6(7)).
        Some(libc::EINVAL) if matches!(address, SocketAddr::V6(v6) if v6.scope_id() == 0) => {
            OpenCause::ScopeMissing
        }
        Some(libc::EADDRNOTAVAIL) => OpenCause::AddressNotLocal,
        _ => OpenCause::Call { step: "bind(2)", source },
    }
}

/// For all interfaces, or for the one that has `ip`, as far as that is known.
fn ipv6_disabled(ip: IpAddr) -> bool {
    let interfaces: &[&str] = if ip.is_loopback() { &["all", "lo"] } else { &["all"] };
    interfaces.iter().any(|interface| {
        std::fs::read_to_string(format!("/proc/sys/net/ipv6/conf/{interface}/disable_ipv6"))
            .map_or(true, |text| text.trim() == "1")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(rcvbuf_bytes: usize) -> SocketSpec {
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        SocketSpec::plain(address, Asked::default(), rcvbuf_bytes)
    }

    #[test]
    fn drops_are_read_as_differences() {
        let mut listener = Listener::open(&spec(4096), None).unwrap();
        let sender = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..100 {
            sender.send_to(&[0; 512], listener.address()).unwrap();
        }
        let mut queued = 0;
        while listener.socket.recv(&mut [std::mem::MaybeUninit::uninit(); 1024]).is_ok() {
            queued += 1;
        }
        assert!(queued > 0);
        assert_eq!(listener.new_kernel_drops().unwrap(), 100 - queued);
        assert_eq!(listener.new_kernel_drops().unwrap(), 0);
    }

    #[test]
    fn nothing_enters_after_the_door_is_shut() {
        let mut listener = Listener::open(&spec(1 << 20), None).unwrap();
        let sender = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        sender.send_to(b"before", listener.address()).unwrap();
        listener.refuse_all().unwrap();
        sender.send_to(b"after", listener.address()).unwrap();
        let mut buffer = [std::mem::MaybeUninit::uninit(); 16];
        assert_eq!(listener.socket.recv(&mut buffer).unwrap(), 6);
        assert!(listener.socket.recv(&mut buffer).is_err());
        assert_eq!(listener.new_kernel_drops().unwrap(), 1);
    }

    #[test]
    fn a_port_shared_by_reuseport_counts_as_taken() {
        let first = Listener::open(&spec(4096), None).unwrap();
        let spec = SocketSpec { address: first.address(), ..spec(4096) };
        let error = Listener::open(&spec, None).unwrap_err();
        assert!(matches!(error.cause, OpenCause::PortTaken), "{error}");
    }
}
