//! A socket for one peer: the load generator's. Never for a receiver: a connected socket in a SO_REUSEPORT group slows
//! the kernel's lookup for all of the group.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::sys::socket::{MsgFlags, recv, setsockopt, sockopt};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::socket::endpoint::Endpoint;
use crate::wire::cmsg::Asked;

/// An open socket that is connected to its peer.
#[derive(Debug)]
pub struct Connected {
    socket: Socket,
    is_v6: bool,
}

impl Connected {
    /// Opens a socket on `bind` that sends to `peer`, with buffers of `buffer_bytes` each way. The socket reports drops
    /// in the queueing discipline, which send(2) otherwise calls a success (IP_RECVERR, ip(7)).
    ///
    /// # Errors
    /// The step that failed, and the kernel's error.
    pub fn open(
        peer: SocketAddr,
        bind: SocketAddr,
        buffer_bytes: usize,
    ) -> Result<Self, (&'static str, io::Error)> {
        let fail = |step| move |error: io::Error| (step, error);
        let failed = |step| move |errno: nix::Error| (step, io::Error::from(errno));
        let socket = Socket::new(Domain::for_address(peer), Type::DGRAM, Some(Protocol::UDP))
            .map_err(fail("socket(2)"))?;
        socket.set_nonblocking(true).map_err(fail("O_NONBLOCK"))?;
        if setsockopt(&socket, sockopt::RcvBufForce, &buffer_bytes).is_err() {
            socket.set_recv_buffer_size(buffer_bytes).map_err(fail("SO_RCVBUF"))?;
        }
        if setsockopt(&socket, sockopt::SndBufForce, &buffer_bytes).is_err() {
            socket.set_send_buffer_size(buffer_bytes).map_err(fail("SO_SNDBUF"))?;
        }
        if peer.is_ipv6() {
            setsockopt(&socket, sockopt::Ipv6RecvErr, &true).map_err(failed("IPV6_RECVERR"))?;
        } else {
            setsockopt(&socket, sockopt::Ipv4RecvErr, &true).map_err(failed("IP_RECVERR"))?;
        }
        socket.bind(&SockAddr::from(bind)).map_err(fail("bind(2)"))?;
        socket.connect(&SockAddr::from(peer)).map_err(fail("connect(2)"))?;
        Ok(Self { socket, is_v6: peer.is_ipv6() })
    }

    /// Discards the errors that ICMP messages left in the error queue and that no part of the program reads: they would
    /// keep the socket from sleeping. Returns how many there were.
    pub fn discard_errors(&self) -> u64 {
        let mut discarded = 0;
        let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
        while recv(self.socket.as_raw_fd(), &mut [], flags).is_ok() {
            discarded += 1;
        }
        discarded
    }

    /// Returns the pending error as an errno, and clears it (SO_ERROR, socket(7)).
    #[must_use]
    pub fn take_error(&self) -> Option<i32> {
        self.socket.take_error().ok().flatten()?.raw_os_error()
    }
}

impl AsFd for Connected {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Endpoint for Connected {
    fn is_v6(&self) -> bool {
        self.is_v6
    }

    fn is_connected(&self) -> bool {
        true
    }

    fn asked(&self) -> Asked {
        Asked::default()
    }

    fn busy_poll_us(&self) -> Option<u32> {
        None
    }
}
