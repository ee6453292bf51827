//! One socket of one receiver for one listen address: opened, measured, turned away, closed.
#![expect(unsafe_code, reason = "SO_MEMINFO has no safe wrapper")]

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, SockAddr, SockFilter, Socket, Type};

use super::arrivals::Arrivals;
use crate::error::{Error, Result};

/// How to open the sockets of one listen address.
#[derive(Clone, Debug)]
pub struct SocketSpec {
    /// Where to listen; port 0 lets the kernel choose.
    pub address: SocketAddr,
    /// Take IPv6 alone on `[::]`, because IPv4 has a socket of its own on that port.
    pub only_v6: bool,
    /// The first socket of its address's group: it binds alone, so that nobody else holds the
    /// address, and joins SO_REUSEPORT afterwards. With the option set before, bind(2) shares an
    /// address with any such socket of this user without a word, and given port 0 may even choose
    /// one that is taken.
    pub first: bool,
    /// Let the kernel hand over trains (UDP_GRO, Linux 5.0).
    pub gro: bool,
    /// Ask for the address each datagram was sent to (IP_PKTINFO, IPV6_RECVPKTINFO).
    pub pktinfo: bool,
    /// Receive buffer to ask for, bytes of payload room as SO_RCVBUF counts them (the kernel
    /// doubles it for its own overhead).
    pub rcvbuf_bytes: usize,
}

/// An open socket, member of its address's SO_REUSEPORT group.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    address: SocketAddr,
    gro: bool,
    pktinfo: bool,
    /// What getsockopt(SO_RCVBUF) says: twice what was granted (socket(7)).
    rcvbuf_bytes: usize,
    drops_seen: u32,
}

impl Listener {
    /// Opens, prepares and binds. `arrivals` is attached before the bind, so that no datagram is
    /// received uncounted.
    ///
    /// # Errors
    /// One variant per cause an operator can mend; see [`Error`].
    pub fn open(spec: &SocketSpec, arrivals: Option<&Arrivals>) -> Result<Self> {
        let address = spec.address;
        let fail = |step| move |source: io::Error| Error::Socket { address, step, source };
        let socket = new_socket(address, spec.only_v6)?;
        if !spec.first {
            socket.set_reuse_port(true).map_err(fail("SO_REUSEPORT"))?;
        }
        socket.set_nonblocking(true).map_err(fail("O_NONBLOCK"))?;
        if spec.gro {
            setsockopt(&socket, sockopt::UdpGroSegment, &true)
                .map_err(|errno| fail("UDP_GRO")(errno.into()))?;
        }
        if spec.pktinfo {
            let asked = if address.is_ipv6() {
                setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)
            } else {
                setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)
            };
            asked.map_err(|errno| fail("IP_PKTINFO")(errno.into()))?;
        }
        // SO_RCVBUFFORCE passes net.core.rmem_max but takes CAP_NET_ADMIN; SO_RCVBUF is clamped
        // silently, which is why the size granted is read back.
        if setsockopt(&socket, sockopt::RcvBufForce, &spec.rcvbuf_bytes).is_err() {
            socket.set_recv_buffer_size(spec.rcvbuf_bytes).map_err(fail("SO_RCVBUF"))?;
        }
        if let Some(arrivals) = arrivals {
            arrivals.attach(&socket).map_err(fail("SO_ATTACH_BPF"))?;
        }
        socket.bind(&SockAddr::from(address)).map_err(|source| bind_error(address, source))?;
        if spec.first {
            socket.set_reuse_port(true).map_err(fail("SO_REUSEPORT"))?;
        }
        let bound = socket.local_addr().map_err(fail("getsockname"))?;
        let rcvbuf_bytes = socket.recv_buffer_size().map_err(fail("SO_RCVBUF"))?;
        Ok(Self {
            socket,
            address: bound.as_socket().unwrap_or(address),
            gro: spec.gro,
            pktinfo: spec.pktinfo,
            rcvbuf_bytes,
            drops_seen: 0,
        })
    }

    /// Where it listens, with the port the kernel chose.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether trains may come.
    #[must_use]
    pub fn gro(&self) -> bool {
        self.gro
    }

    /// Whether the local address comes with each datagram.
    #[must_use]
    pub fn pktinfo(&self) -> bool {
        self.pktinfo
    }

    /// The receive buffer granted, as getsockopt(SO_RCVBUF) reports it.
    #[must_use]
    pub fn rcvbuf_bytes(&self) -> usize {
        self.rcvbuf_bytes
    }

    /// What the kernel dropped here since the last call, in buffers. The kernel's counter is a u32
    /// and wraps; calling at least once in 4 billion drops keeps the sum exact.
    ///
    /// # Errors
    /// getsockopt(SO_MEMINFO) failed (it exists since Linux 4.12).
    pub fn new_kernel_drops(&mut self) -> io::Result<u64> {
        let drops = meminfo(self.socket.as_raw_fd())?[SK_MEMINFO_DROPS];
        let new = drops.wrapping_sub(self.drops_seen);
        self.drops_seen = drops;
        Ok(new.into())
    }

    /// From now on every datagram is refused at the door, so that what is inside can be read to the
    /// end. Closing at once would discard it, and no counter would show that.
    ///
    /// # Errors
    /// Attaching the filter failed.
    pub fn turn_away(&self) -> io::Result<()> {
        // Classic BPF needs no privilege: BPF_RET | BPF_K, keep 0 bytes. It takes the place of the
        // arrivals filter, so what is refused has not arrived.
        self.socket.attach_filter(&[SockFilter::new(0x06, 0, 0, 0)])
    }
}

impl AsRawFd for Listener {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// A socket of the address's family; an IPv6 one takes IPv4 too if its address is the wildcard.
fn new_socket(address: SocketAddr, only_v6: bool) -> Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))
        .map_err(|source| match source.raw_os_error() {
            Some(libc::EAFNOSUPPORT) if address.is_ipv6() => Error::NoIpv6 { address },
            _ => Error::Socket { address, step: "socket(2)", source },
        })?;
    if address.is_ipv6() {
        socket
            .set_only_v6(only_v6 || !address.ip().is_unspecified())
            .map_err(|source| Error::Socket { address, step: "IPV6_V6ONLY", source })?;
    }
    Ok(socket)
}

fn bind_error(address: SocketAddr, source: io::Error) -> Error {
    match source.raw_os_error() {
        Some(libc::EADDRINUSE) => Error::PortTaken { address },
        Some(libc::EACCES | libc::EPERM) => Error::PortPrivileged { address },
        Some(libc::EADDRNOTAVAIL) if address.is_ipv6() && ipv6_disabled() => {
            Error::NoIpv6 { address }
        }
        Some(libc::EADDRNOTAVAIL) => Error::AddressNotLocal { address },
        _ => Error::Socket { address, step: "bind(2)", source },
    }
}

fn ipv6_disabled() -> bool {
    std::fs::read_to_string("/proc/sys/net/ipv6/conf/all/disable_ipv6")
        .map_or(true, |text| text.trim() == "1")
}

/// Words of SO_MEMINFO, linux/sock_diag.h.
const SK_MEMINFO_DROPS: usize = 8;
const SK_MEMINFO_VARS: usize = 9;

fn meminfo(socket: RawFd) -> io::Result<[u32; SK_MEMINFO_VARS]> {
    let mut words = [0u32; SK_MEMINFO_VARS];
    let mut len: libc::socklen_t = 4 * 9; // bytes of words
    // SAFETY: the kernel writes at most `len` bytes to `words`, which lives through the call.
    let result = unsafe {
        libc::getsockopt(
            socket,
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            words.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(words) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(rcvbuf_bytes: usize) -> SocketSpec {
        SocketSpec {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            only_v6: false,
            first: true,
            gro: false,
            pktinfo: false,
            rcvbuf_bytes,
        }
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
        listener.turn_away().unwrap();
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
        assert!(matches!(error, Error::PortTaken { .. }), "{error}");
    }
}
