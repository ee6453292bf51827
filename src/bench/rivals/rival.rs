//! What the engine is compared with: the leanest honest loops around one receive call each.
//!
//! A peer does what the engine's receiver does, and no more: it takes every datagram with its
//! peer's address, copies the payload into a dense arena and counts datagrams and bytes. It has no
//! queue, no worker, no ledger and no index. Its socket is opened by the engine's own code, so both
//! have the same options and the same receive buffer.
//!
//! ```text
//!  start ──► Waiting (pinned, blocked in the call) ──► stop: flag, shutdown(2) ──► reads what is
//!  left, sees the end, reports its tally
//! ```

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use nix::unistd::gettid;
use socket2::SockRef;

use crate::rivals::desk::{Desk, Shared, SlotSpec, Tally, slot_bytes};
use crate::rivals::{recvmmsg, recvmsg};
use ringest_base::sys::threads::spawn_named;
use ringest_engine::error::{Error, Result};
use ringest_engine::socket::listener::{Listener, SocketSpec};
use ringest_engine::socket::options::SocketOptions;
use ringest_engine::wire::cmsg::Asked;

/// Which call a peer is built around.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// recvmsg(2), one datagram or train a call.
    Recvmsg,
    /// recvmmsg(2), up to 64 a call; blocks for the first (MSG_WAITFORONE).
    Recvmmsg,
    /// The same on a non-blocking socket, sleeping in epoll_wait(2).
    RecvmmsgEpoll,
    /// The same on a non-blocking socket, asleep for a while whenever it is empty: next to no
    /// wake-ups, so what is left is the call itself.
    RecvmmsgNap,
}

/// One peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PeerSpec {
    pub(crate) call: Call,
    /// Take trains whole (UDP_GRO).
    pub(crate) gro: bool,
    /// The largest payload that comes, bytes.
    pub(crate) size_max: usize,
    /// Copy payloads. Without it, and without wake-ups, a peer is the floor: the call alone.
    pub(crate) copies: bool,
}

impl PeerSpec {
    fn slots(&self) -> SlotSpec {
        SlotSpec { gro: self.gro, bytes: slot_bytes(self.gro, self.size_max) }
    }
}

/// A running peer.
#[derive(Debug)]
pub(crate) struct Peer {
    listener: Listener,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<io::Result<Tally>>>,
}

impl Peer {
    /// Starts one on `address`, pinned.
    ///
    /// # Errors
    /// The socket or the thread cannot be had.
    pub(crate) fn start(
        spec: PeerSpec,
        address: SocketAddr,
        (rcvbuf_bytes, options): (usize, &SocketOptions),
        core: Option<usize>,
    ) -> Result<Self> {
        // A socket like the engine's, without a program that counts arrivals.
        let asked = Asked { gro: spec.gro, ..Asked::default() };
        let mut socket = SocketSpec::plain(address, asked, rcvbuf_bytes);
        socket.options = options.clone();
        let listener = Listener::open(&socket, None)?;
        let failed = |step| move |source| Error::Socket { address, step, source };
        let socket = listener.as_fd().try_clone_to_owned().map_err(failed("dup(2)"))?;
        SockRef::from(&socket)
            .set_nonblocking(matches!(spec.call, Call::RecvmmsgEpoll | Call::RecvmmsgNap))
            .map_err(failed("O_NONBLOCK"))?;
        let shared = Arc::new(Shared::default());
        let desk = Desk::new(spec.copies, Arc::clone(&shared));
        let theirs = Arc::clone(&shared);
        let run = move || {
            theirs.thread.store(gettid().as_raw(), Ordering::Release);
            receive(spec, &socket, desk)
        };
        let thread = spawn_named("bench-peer".to_owned(), core, run)?;
        while shared.thread.load(Ordering::Acquire) == 0 {
            std::thread::yield_now();
        }
        Ok(Self { listener, shared, thread: Some(thread) })
    }

    /// Kernel id of the receiving thread.
    pub(crate) fn thread_id(&self) -> i32 {
        self.shared.thread.load(Ordering::Acquire)
    }

    /// Receive buffer granted, bytes as getsockopt(2) counts them.
    pub(crate) fn rcvbuf_bytes(&self) -> usize {
        self.listener.rcvbuf_bytes()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.listener.address()
    }

    pub(crate) fn received(&self) -> u64 {
        self.shared.datagrams.load(Ordering::Relaxed)
    }

    /// Lets the peer read what is left, and joins it.
    pub(crate) fn stop(mut self) -> io::Result<Tally> {
        self.end().unwrap_or_else(|| Ok(Tally::default()))
    }

    fn end(&mut self) -> Option<io::Result<Tally>> {
        let thread = self.thread.take()?;
        self.shared.stop.store(true, Ordering::Release);
        // On a socket without a peer shutdown(2) says ENOTCONN, and does it all the same: blocked
        // reads return empty once the queue is (inet_shutdown in net/ipv4/af_inet.c).
        let _ = SockRef::from(&self.listener).shutdown(std::net::Shutdown::Read);
        Some(thread.join().unwrap_or_else(|_| Err(io::Error::other("the peer's thread panicked"))))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Only after an error elsewhere, which is the one to report.
        let _ = self.end();
    }
}

fn receive(spec: PeerSpec, socket: &OwnedFd, desk: Desk) -> io::Result<Tally> {
    match spec.call {
        Call::Recvmsg => recvmsg::run(socket, spec.slots(), desk),
        Call::Recvmmsg => recvmmsg::run(socket, spec.slots(), desk),
        Call::RecvmmsgEpoll => recvmmsg::run_epoll(socket, spec.slots(), desk),
        Call::RecvmmsgNap => recvmmsg::run_nap(socket, spec.slots(), desk),
    }
}
