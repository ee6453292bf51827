//! Receiving. A receive is armed for a listener and completes many times; each completion is looked at, then released.
//!
//! ```text
//!   arm ──► enter ──► peek ──► (copy) ──► release ──► peek … ──► enter …
//!              ▲         └─ ended? the receiver arms it again, in one place
//! ```

use std::io;

use crate::backend::enter::Enter;
use crate::batch::arena::Frame;

/// The purpose of an armed receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arm {
    /// Waits for datagrams until it is cancelled.
    Listen,
    /// Takes what the socket holds and ends with EAGAIN, perhaps before the socket is empty. The socket is empty when
    /// such a receive ends without having brought a datagram.
    Drain,
}

/// One completion of a receive.
#[derive(Debug)]
pub struct Completion<'a> {
    /// Index of the listener.
    pub listener: usize,
    /// The frame, or the error.
    pub outcome: Outcome<'a>,
    /// Whether the receive goes on. If not, it must be armed again.
    pub more: bool,
}

/// The result of a completion.
#[derive(Debug)]
pub enum Outcome<'a> {
    /// A datagram or a train.
    Frame(Frame<'a>),
    /// An errno.
    Failed(i32),
}

/// The receiving half of a backend.
pub trait Rx: Enter {
    /// Starts a receive on a listener, at the next `enter`.
    ///
    /// # Errors
    /// The submission queue is full and cannot be flushed.
    fn arm(&mut self, listener: usize, arm: Arm) -> io::Result<()>;

    /// Cancels the receive of a listener. Its last completion, with `more == false`, is still to come.
    ///
    /// # Errors
    /// As [`arm`](Self::arm).
    fn disarm(&mut self, listener: usize) -> io::Result<()>;

    /// Returns the oldest completion that was not released yet.
    fn peek(&mut self) -> Option<Completion<'_>>;

    /// Drops the completion last peeked; its slot is free again.
    fn release(&mut self);

    /// Returns how many slots no unreleased completion occupies. A receive armed while there is none ends at once.
    fn slots_free(&self) -> usize;

    /// Returns how many completion-queue overflows were seen so far.
    fn overflows(&self) -> u64;

    /// Returns whether a sleep can gather datagrams (`min_wait`, Linux 6.12).
    fn can_gather(&self) -> bool;

    /// Returns the number of listeners.
    fn listeners(&self) -> usize;
}
