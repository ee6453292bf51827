//! Rivals: minimal loops around one receive call, which the engine is compared with.
//!
//! A rival does only the work of the engine's receiver: it takes every datagram with its sender's
//! address, copies the payload into a dense arena and counts datagrams and bytes. It has no queue, no
//! worker, no ledger and no index. The engine's own code opens its socket, so both have the same options
//! and the same receive buffer.
//!
//! ```text
//!  start ──► Waiting (pinned, blocked in the call) ──► stop: flag, shutdown(2) ──► reads what is
//!  left, sees the end, returns its counts
//! ```

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use nix::unistd::gettid;
use socket2::SockRef;

use crate::rivals::counter::{Counter, RivalCounts, SharedState, SlotSpec, slot_bytes};
use crate::rivals::{recvmmsg, recvmsg};
use ringest_base::sys::threads::spawn_named;
use ringest_engine::error::{Error, Result};
use ringest_engine::socket::listener::{Listener, SocketSpec};
use ringest_engine::socket::options::SocketOptions;
use ringest_engine::wire::cmsg::Asked;

/// The receive call of a rival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// recvmsg(2), one datagram or train a call.
    Recvmsg,
    /// recvmmsg(2), up to 64 a call; blocks for the first (MSG_WAITFORONE).
    Recvmmsg,
    /// The same on a non-blocking socket, sleeping in epoll_wait(2).
    RecvmmsgEpoll,
    /// The same on a non-blocking socket, with a short sleep whenever it is empty. There are almost no
    /// wake-ups, so it measures the cost of the call alone.
    RecvmmsgNap,
}

/// The parameters of a rival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RivalSpec {
    pub(crate) call: Call,
    /// Whether to receive trains whole (UDP_GRO).
    pub(crate) gro: bool,
    /// The largest payload to expect, bytes.
    pub(crate) size_max: usize,
    /// Whether to copy payloads. Without copies and wake-ups a rival measures the call alone.
    pub(crate) copies: bool,
}

impl RivalSpec {
    fn slots(&self) -> SlotSpec {
        SlotSpec { gro: self.gro, bytes: slot_bytes(self.gro, self.size_max) }
    }
}

/// A running rival.
#[derive(Debug)]
pub(crate) struct Rival {
    listener: Listener,
    shared: Arc<SharedState>,
    thread: Option<JoinHandle<io::Result<RivalCounts>>>,
}

impl Rival {
    /// Starts a rival on `address`, pinned to `core`.
    ///
    /// # Errors
    /// The socket cannot be opened or the thread not started.
    pub(crate) fn start(
        spec: RivalSpec,
        address: SocketAddr,
        (rcvbuf_bytes, options): (usize, &SocketOptions),
        core: Option<usize>,
    ) -> Result<Self> {
        // A socket like the engine's, without the program that counts arrivals.
        let asked = Asked { gro: spec.gro, ..Asked::default() };
        let mut socket = SocketSpec::plain(address, asked, rcvbuf_bytes);
        socket.options = options.clone();
        let listener = Listener::open(&socket, None)?;
        let failed = |step| move |source| Error::Socket { address, step, source };
        let socket = listener.as_fd().try_clone_to_owned().map_err(failed("dup(2)"))?;
        SockRef::from(&socket)
            .set_nonblocking(matches!(spec.call, Call::RecvmmsgEpoll | Call::RecvmmsgNap))
            .map_err(failed("O_NONBLOCK"))?;
        let shared = Arc::new(SharedState::default());
        let counter = Counter::new(spec.copies, Arc::clone(&shared));
        let theirs = Arc::clone(&shared);
        let run = move || {
            theirs.thread.store(gettid().as_raw(), Ordering::Release);
            receive(spec, &socket, counter)
        };
        let thread = spawn_named("bench-peer".to_owned(), core, run)?;
        while shared.thread.load(Ordering::Acquire) == 0 {
            std::thread::yield_now();
        }
        Ok(Self { listener, shared, thread: Some(thread) })
    }

    /// Returns the kernel id of the receiving thread.
    pub(crate) fn thread_id(&self) -> i32 {
        self.shared.thread.load(Ordering::Acquire)
    }

    /// Returns the granted receive buffer, bytes as getsockopt(2) counts them.
    pub(crate) fn rcvbuf_bytes(&self) -> usize {
        self.listener.rcvbuf_bytes()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.listener.address()
    }

    pub(crate) fn received(&self) -> u64 {
        self.shared.datagrams.load(Ordering::Relaxed)
    }

    /// Lets the rival read the rest of its socket, and joins its thread.
    pub(crate) fn stop(mut self) -> io::Result<RivalCounts> {
        self.end().unwrap_or_else(|| Ok(RivalCounts::default()))
    }

    fn end(&mut self) -> Option<io::Result<RivalCounts>> {
        let thread = self.thread.take()?;
        self.shared.stop.store(true, Ordering::Release);
        // On an unconnected socket shutdown(2) returns ENOTCONN, but takes effect: blocked reads return
        // empty once the queue is empty (inet_shutdown in net/ipv4/af_inet.c).
        let _ = SockRef::from(&self.listener).shutdown(std::net::Shutdown::Read);
        Some(thread.join().unwrap_or_else(|_| Err(io::Error::other("the rival's thread panicked"))))
    }
}

impl Drop for Rival {
    fn drop(&mut self) {
        // Only after an error elsewhere, which is the one to report.
        let _ = self.end();
    }
}

fn receive(spec: RivalSpec, socket: &OwnedFd, counter: Counter) -> io::Result<RivalCounts> {
    match spec.call {
        Call::Recvmsg => recvmsg::run(socket, spec.slots(), counter),
        Call::Recvmmsg => recvmmsg::run(socket, spec.slots(), counter),
        Call::RecvmmsgEpoll => recvmmsg::run_epoll(socket, spec.slots(), counter),
        Call::RecvmmsgNap => recvmmsg::run_nap(socket, spec.slots(), counter),
    }
}
