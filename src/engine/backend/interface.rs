//! What a receiver asks of a backend: io_uring, recvmmsg with epoll, or the simulated one of the
//! tests. The backends differ in how frames are taken from a socket; everything after is the same
//! code, chosen at compile time.
//!
//! ```text
//!   arm ──► enter ──► peek ──► (copy) ──► release ──► peek … ──► enter …
//!              ▲         └─ ended? arm again, in one place: the receiver
//! ```

use std::io;

use crate::batch::arena::{Batch, Frame};
use crate::socket::listener::Listener;

/// What a receive is armed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arm {
    /// Until cancelled: wait for datagrams and hand them over.
    Listen,
    /// Hand over what is in the socket and end with EAGAIN, perhaps before it is empty; when a
    /// receive ends so without having brought anything, it is.
    Drain,
}

/// How [`Backend::enter`] may spend time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Not at all: take what is there.
    Poll,
    /// Sleep until something is there.
    Sleep {
        /// Let datagrams gather for this long first, µs; 0: wake for the first.
        gather_us: u32,
        /// Wake anyway after this, ns.
        timeout_ns: u64,
        /// Whether datagrams are wanted; if not, only the waker and writability wake. A stalled
        /// receiver must not be woken by the datagrams it has no room for.
        frames: bool,
    },
}

/// One completion of a receive.
#[derive(Debug)]
pub struct Completion<'a> {
    /// Index of the listener.
    pub listener: usize,
    /// What it brought.
    pub outcome: Outcome<'a>,
    /// Whether the receive goes on; if not it must be armed again.
    pub more: bool,
}

/// What a completion brought.
#[derive(Debug)]
pub enum Outcome<'a> {
    /// A datagram or a train.
    Frame(Frame<'a>),
    /// An errno.
    Failed(i32),
}

/// What became of one entry of a reply batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// The kernel took it whole.
    All,
    /// An errno.
    Failed(i32),
}

/// How the entries of a batch are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendOrder {
    /// Each by itself; one that fails holds nobody back.
    Free,
    /// In order: after one that failed none is sent.
    InOrder,
    /// Only the first entry, in order, datagram by datagram instead of as a train.
    Split,
}

/// Where a transmission starts in a reply batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// Index of the entry.
    pub entry: usize,
    /// Bytes of that entry that were sent already (after falling back to single sends).
    pub offset: usize,
}

/// A way to take frames from sockets and to send replies. Used by one thread.
pub trait Backend {
    /// Starts a receive on a listener, at the next `enter`.
    ///
    /// # Errors
    /// The submission queue is full and cannot be flushed.
    fn arm(&mut self, listener: usize, arm: Arm) -> io::Result<()>;

    /// Ends the receive of a listener: its last completion, with `more == false`, is still to come.
    ///
    /// # Errors
    /// As [`arm`](Self::arm).
    fn disarm(&mut self, listener: usize) -> io::Result<()>;

    /// Gives back the slots released, submits what was armed, waits, and takes what completed.
    ///
    /// # Errors
    /// The backend is unusable.
    fn enter(&mut self, wait: Wait) -> io::Result<()>;

    /// The oldest completion not released yet.
    fn peek(&mut self) -> Option<Completion<'_>>;

    /// Forgets the completion last peeked; its slot is free again.
    fn release(&mut self);

    /// Slots not occupied by unreleased completions. Arming a receive with none would end it at
    /// once.
    fn slots_free(&self) -> usize;

    /// Completion-queue overflows seen so far.
    fn overflows(&self) -> u64;

    /// Whether sleeping can gather datagrams (`min_wait`, Linux 6.12).
    fn can_gather(&self) -> bool;

    /// Sends entries of `batch` from `from` on, as many as fit one submission, never blocking, and
    /// puts one result per send that was tried into `results`.
    ///
    /// # Errors
    /// The backend is unusable; errors of single sends are in `results`.
    fn transmit(
        &mut self,
        batch: &Batch,
        from: Cursor,
        way: SendOrder,
        results: &mut Vec<Sent>,
    ) -> io::Result<()>;

    /// What is free of the listener's send buffer; see [`Listener::send_room_bytes`].
    ///
    /// # Errors
    /// Reading SO_MEMINFO failed.
    fn send_room_bytes(&mut self, listener: usize) -> io::Result<usize> {
        self.sockets()[listener].send_room_bytes()
    }

    /// Makes the next sleep end when the listener's socket can be written to.
    ///
    /// # Errors
    /// As [`arm`](Self::arm).
    fn await_writable(&mut self, listener: usize) -> io::Result<()>;

    /// Whether a socket that was awaited has become writable since the last call.
    fn take_writable(&mut self) -> bool;

    /// The sockets, one per listener.
    fn sockets(&mut self) -> &mut [Listener];

    /// Shuts the listener's door for a drain; see [`Listener::refuse_all`].
    ///
    /// # Errors
    /// Attaching the filter failed.
    fn refuse_all(&mut self, listener: usize) -> io::Result<()> {
        self.sockets()[listener].refuse_all()
    }

    /// Buffers the kernel dropped at all sockets since the last call.
    ///
    /// # Errors
    /// Reading SO_MEMINFO failed.
    fn new_kernel_drops(&mut self) -> io::Result<u64> {
        self.sockets().iter_mut().map(Listener::new_kernel_drops).sum()
    }

    /// The time, ns: `CLOCK_MONOTONIC`, or the simulation's own.
    fn now_ns(&self) -> u64 {
        ringest_base::sys::clock::monotonic_ns()
    }

    /// How many listeners there are.
    fn listeners(&self) -> usize;
}
