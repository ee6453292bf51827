//! Sending. A batch is sent entry by entry, a train as one segmented send, without ever blocking.

use std::io;

use crate::backend::enter::Enter;
use crate::batch::arena::Batch;

/// The result of one send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// The kernel took the whole send.
    All,
    /// An errno.
    Failed(i32),
}

/// How the entries of a batch depend on each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendOrder {
    /// Each entry by itself: one that fails holds none back.
    Free,
    /// In order: after an entry that failed none is sent.
    InOrder,
    /// Only the first entry, in order, datagram by datagram instead of as a train.
    Split,
}

/// The place in a batch at which a transmission starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// Index of the entry.
    pub entry: usize,
    /// Bytes of that entry that were sent already, datagram by datagram.
    pub offset: usize,
}

/// The sending half of a backend.
pub trait Tx: Enter {
    /// Sends entries of `batch` from `from` on, as many as fit one submission, without blocking. Appends one result
    /// for each send that was tried.
    ///
    /// # Errors
    /// The backend is unusable. Errors of single sends are in `results`.
    fn transmit(
        &mut self,
        batch: &Batch,
        from: Cursor,
        order: SendOrder,
        results: &mut Vec<Sent>,
    ) -> io::Result<()>;

    /// Returns how much of the listener's send buffer is free, bytes as the kernel counts them.
    ///
    /// # Errors
    /// Reading SO_MEMINFO failed.
    fn send_room_bytes(&mut self, listener: usize) -> io::Result<usize>;

    /// Makes the next sleep end when the listener's socket can be written to.
    ///
    /// # Errors
    /// The submission queue is full and cannot be flushed.
    fn await_writable(&mut self, listener: usize) -> io::Result<()>;

    /// Returns whether an awaited socket has become writable since the last call.
    fn take_writable(&mut self) -> bool;
}
