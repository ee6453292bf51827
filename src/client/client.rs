//! A UDP client that hears what becomes of its datagrams, as far as anybody says.
//!
//! ```text
//!  send ──► put: send(2) ──► Sent: this host's kernel took it, and no more is known
//!             │   ▲ again      (sent never means received)
//!             │   ├── the error was an earlier datagram's ──► heard
//!             │   └── full: poll(2) until the send timeout ──► send_timed_out
//!             └──► PeerError: this host refused it, it was not sent
//!
//!  error queue (IP_RECVERR) ──► who it was sent to ──► heard ──► receive, take_errors
//!  socket ──► from a peer? ──► receive                          each exactly once
//! ```
//!
//! To one peer the socket is connected; to several, to a multicast group or to a broadcast address it is
//! not. Either way each error is attributed to the peer whose datagram earned it. One socket serves the
//! whole life of a client, so the local port stays the same.
//!
//! ```
//! use ringest_client::{Client, Heard};
//! use std::net::UdpSocket;
//! use std::time::{Duration, Instant};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let server = UdpSocket::bind("127.0.0.1:0")?;
//! let mut client = Client::connect(server.local_addr()?)?;
//! client.send(b"ping")?;
//! let mut buffer = [0; 16];
//! let (length, peer) = server.recv_from(&mut buffer)?;
//! server.send_to(&buffer[..length], peer)?;
//! match client.receive(Instant::now() + Duration::from_secs(5))? {
//!     Heard::Reply(reply) => assert_eq!(reply.payload, b"ping"),
//!     Heard::Error(error) => println!("{error}"),
//!     Heard::Nothing => println!("no answer in time"),
//! }
//! # Ok(())
//! # }
//! ```

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::poll::PollFlags;

use crate::error::{ClientError, Origin, PAYLOAD_BYTES_MAX, PeerError, PeerErrorKind, failed};
use crate::errqueue::may_be_earlier;
use crate::settings::{Opened, Settings};
use ringest_engine::socket::options::PathMtu;
use ringest_engine::socket::read_back::ReadBack;

/// A datagram that was handed to this host's kernel. Whether it left, arrived or was read is not known: UDP has no
/// acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Time just before the call.
    pub at: Instant,
}

/// A datagram from a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Sender.
    pub peer: SocketAddr,
    /// Time when it was read from the socket.
    pub at: Instant,
    /// Payload: arbitrary bytes, not checked in any way.
    pub payload: Vec<u8>,
}

/// The first event that [`Client::receive`] met.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Heard {
    /// A datagram of a peer.
    Reply(Reply),
    /// An error about datagrams that were sent before.
    Error(PeerError),
    /// Nothing arrived before the deadline.
    Nothing,
}

/// Sends datagrams to one peer or several, and hears answers and errors. See the [module](self).
#[derive(Debug)]
pub struct Client {
    pub(crate) settings: Settings,
    pub(crate) opened: Opened,
    pub(crate) heard: crate::peers::Heard,
    pub(crate) unattributed: u64,
    strays: u64,
    buffer: Vec<u8>,
}

/// Time between two tries while the queue of the interface is full: there is nothing to poll for then. Too short burns a core, too long makes gaps on a fast link.
const RETRY: Duration = Duration::from_millis(1);

impl Client {
    pub(crate) fn new(settings: Settings, opened: Opened) -> Self {
        let buffer = vec![0; 1 << 16];
        let heard = crate::peers::Heard::default();
        Self { settings, opened, heard, unattributed: 0, strays: 0, buffer }
    }

    /// Returns the peers in the order given; IPv4-mapped ones as IPv4.
    #[must_use]
    pub fn peers(&self) -> &[SocketAddr] {
        self.opened.peers.addresses()
    }

    /// Replaces the peers and keeps the local port. Errors that were heard can still be taken; answers that were not
    /// received yet are lost.
    ///
    /// # Errors
    /// As [`Builder::open`](crate::builder::Builder::open); the client is unchanged then.
    pub fn set_peers(
        &mut self,
        peers: impl IntoIterator<Item = SocketAddr>,
    ) -> Result<(), ClientError> {
        let mut settings = self.settings.clone();
        settings.peers = peers.into_iter().collect();
        let port = self.local_addr()?.port();
        // For as long as both are open they share the port.
        let share = |on| socket2::SockRef::from(&self.opened.socket).set_reuse_address(on);
        share(true).map_err(failed("SO_REUSEADDR"))?;
        let mut next = match settings.open(Some(port)) {
            Ok(opened) => Self::new(settings, opened),
            Err(error) => {
                share(false).map_err(failed("SO_REUSEADDR"))?;
                return Err(error);
            }
        };
        self.hear(None)?;
        std::mem::swap(&mut next.heard, &mut self.heard);
        next.unattributed = self.unattributed;
        next.strays = self.strays;
        *self = next;
        Ok(())
    }

    /// Returns the local address. For a client of one peer it is the source address of its datagrams.
    ///
    /// # Errors
    /// getsockname(2) failed.
    pub fn local_addr(&self) -> Result<SocketAddr, ClientError> {
        self.opened
            .socket
            .local_addr()
            .map(crate::errqueue::canonical)
            .map_err(failed("getsockname(2)"))
    }

    /// Returns the socket options that were set, as the kernel granted them.
    #[must_use]
    pub fn options(&self) -> &[ReadBack] {
        &self.opened.granted
    }

    /// Returns the MTU of the path to a peer in bytes, headers included: the smallest reported on the way so far, or
    /// the interface's. Returns `None` if `peer` is no peer or the host does not know.
    #[must_use]
    pub fn path_mtu(&self, peer: SocketAddr) -> Option<u32> {
        self.opened.peers.route(self.opened.peers.find(peer)?).path_mtu
    }

    /// Returns whether a payload of `bytes` would be sent in fragments: the datagram is lost if one of them is. Returns
    /// `false` where that is not known, and where the send would be refused instead.
    #[must_use]
    pub fn is_fragmented(&self, peer: SocketAddr, bytes: usize) -> bool {
        let whole = self
            .opened
            .peers
            .find(peer)
            .and_then(|at| self.opened.peers.route(at).whole_bytes(peer));
        let refused = matches!(
            self.settings.options.path_mtu,
            Some(PathMtu::Do | PathMtu::Probe | PathMtu::Interface)
        );
        !refused && whole.is_some_and(|whole| bytes > whole)
    }

    /// Whether the peer is a multicast group or a broadcast address: answers come from other addresses,
    /// and errors do not come at all.
    #[must_use]
    pub fn is_for_many(&self, peer: SocketAddr) -> bool {
        self.opened.peers.find(peer).is_some_and(|at| self.opened.peers.is_for_many(at))
    }

    /// Sends to the only peer.
    ///
    /// # Errors
    /// As [`send_to`](Self::send_to); and there are several peers.
    pub fn send(&mut self, payload: &[u8]) -> Result<Sent, ClientError> {
        match *self.opened.peers.addresses() {
            [peer] => self.send_to(peer, payload),
            ref peers => Err(ClientError::SeveralPeers { count: peers.len() }),
        }
    }

    /// Sends one datagram to a peer. A full send buffer, and a full queue of the interface, are waited
    /// on until the send timeout.
    ///
    /// # Errors
    /// [`ClientError::Peer`]: this host refused it, so it was not sent, and it is not told again by
    /// [`take_errors`](Self::take_errors). Others: no such peer, interrupted, or the socket is unusable.
    pub fn send_to(&mut self, peer: SocketAddr, payload: &[u8]) -> Result<Sent, ClientError> {
        let index = self.opened.peers.find(peer).ok_or(ClientError::NotAPeer { peer })?;
        if payload.len() > PAYLOAD_BYTES_MAX {
            return Err(self.refused(index, libc::EMSGSIZE, None));
        }
        let deadline = after(self.settings.send_timeout);
        // An error that no report explains: this datagram's, or an earlier one's whose report found no
        // room. Being told clears the latter, so a second try tells which.
        let mut unexplained = None;
        loop {
            let at = Instant::now();
            let Err(error) = self.put(index, payload) else {
                self.forgotten(unexplained);
                return Ok(Sent { at });
            };
            let errno = error.raw_os_error().unwrap_or(libc::EIO);
            let late = Instant::now() >= deadline;
            match errno {
                libc::EINTR => continue,
                libc::EAGAIN | libc::ENOBUFS if late => {
                    return Err(self.timed_out(index, errno));
                }
                libc::EAGAIN => {
                    self.wait(PollFlags::POLLOUT, deadline)?;
                    continue;
                }
                _ => {}
            }
            let told = self.hear(Some(errno))?;
            if let Some(report) = told.local {
                return Err(self.refused(index, errno, report.path_mtu));
            }
            if errno == libc::ENOBUFS {
                self.wait(PollFlags::empty(), deadline.min(Instant::now() + RETRY))?;
            } else if told.was_earlier {
                // No more than there are answers to what was sent; but those can be forged.
                if late {
                    return Err(self.timed_out(index, errno));
                }
            } else if unexplained == Some(errno) || !may_be_earlier(errno) {
                let path_mtu = self.opened.peers.route(index).path_mtu;
                let path_mtu = path_mtu.filter(|_| errno == libc::EMSGSIZE);
                return Err(self.refused(index, errno, path_mtu));
            } else {
                let before = unexplained.replace(errno);
                self.forgotten(before);
            }
        }
    }

    /// Waits for a peer's datagram, an error or the deadline. An error that was heard before is returned first, and
    /// [`take_errors`](Self::take_errors) does not return it again.
    ///
    /// # Errors
    /// Interrupted, or the socket is unusable.
    pub fn receive(&mut self, deadline: Instant) -> Result<Heard, ClientError> {
        loop {
            if let Some(error) = self.heard.next() {
                return Ok(Heard::Error(error));
            }
            match self.opened.socket.recv_from(&mut self.buffer) {
                Ok((len, from)) => {
                    let (at, peer) = (Instant::now(), crate::errqueue::canonical(from));
                    if self.opened.peers.may_answer(peer) {
                        let payload = self.buffer[..len].to_vec();
                        return Ok(Heard::Reply(Reply { peer, at, payload }));
                    }
                    self.strays += 1;
                    if at >= deadline {
                        return Ok(Heard::Nothing);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if !self.wait(PollFlags::POLLIN, deadline)? && self.heard.is_empty() {
                        return Ok(Heard::Nothing);
                    }
                }
                Err(error) => {
                    let errno = error.raw_os_error().filter(|errno| may_be_earlier(*errno));
                    let Some(errno) = errno else { return Err(failed("recvfrom(2)")(error)) };
                    if !self.hear(Some(errno))?.any {
                        self.forgotten(Some(errno));
                    }
                }
            }
        }
    }

    /// Waits for an error or the deadline; answers stay in the socket. Returns whether there is an error to take.
    ///
    /// # Errors
    /// Interrupted, or the socket is unusable.
    pub fn await_errors(&mut self, deadline: Instant) -> Result<bool, ClientError> {
        while self.heard.is_empty() && self.wait(PollFlags::empty(), deadline)? {}
        Ok(!self.heard.is_empty())
    }

    /// Returns the errors heard and not taken yet, without waiting: one entry per peer and kind, with a count.
    ///
    /// # Errors
    /// The error queue cannot be read.
    pub fn take_errors(&mut self) -> Result<Vec<PeerError>, ClientError> {
        self.hear(None)?;
        Ok(self.heard.take())
    }

    /// Returns how many errors could not be attributed to a peer so far: the socket had no room for the report, or the
    /// report named an address that is no peer.
    #[must_use]
    pub fn unattributed(&self) -> u64 {
        self.unattributed
    }

    /// Returns how many datagrams from addresses that are no peers arrived so far; they are dropped. A client of one
    /// peer has none: the kernel delivers only that peer's.
    #[must_use]
    pub fn strays(&self) -> u64 {
        self.strays
    }

    fn put(&self, index: usize, payload: &[u8]) -> io::Result<()> {
        let Opened { socket, is_v6, connected, .. } = &self.opened;
        if *connected {
            return socket.send(payload).map(drop);
        }
        let peer = match self.opened.peers.address(index) {
            SocketAddr::V4(v4) if *is_v6 => {
                SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port())
            }
            peer => peer,
        };
        socket.send_to(payload, peer).map(drop)
    }

    fn refused(&self, index: usize, errno: i32, path_mtu: Option<u32>) -> ClientError {
        self.refusal(index, PeerErrorKind::of_errno(errno), errno, path_mtu)
    }

    fn timed_out(&self, index: usize, errno: i32) -> ClientError {
        self.refusal(index, PeerErrorKind::SendTimedOut, errno, None)
    }

    fn refusal(
        &self,
        index: usize,
        kind: PeerErrorKind,
        errno: i32,
        path_mtu: Option<u32>,
    ) -> ClientError {
        let (peer, origin) = (self.opened.peers.address(index), Origin::Local { errno });
        ClientError::Peer(PeerError { peer, kind, count: 1, path_mtu, origin })
    }
}

/// Returns the moment `time` from now, at most a century.
fn after(time: Duration) -> Instant {
    const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
    Instant::now() + time.min(CENTURY)
}

impl AsFd for Client {
    /// Returns the socket, to poll: readable when an answer came, in error (POLLERR, reported without being asked for)
    /// when an error came.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.opened.socket.as_fd()
    }
}
