//! The sending half: from a datagram that is due to the kernel.

/// Datagrams that are made to be sent.
pub mod generated;
/// Datagrams out of a capture, or a journal.
pub mod replayed;
/// What is handed to the kernel in one go.
pub mod round;
#[cfg(test)]
pub(crate) mod scripted;
/// One sending thread.
pub mod sender;
/// A thread's share of a load, and its counters.
pub mod share;
/// What became of each send.
pub mod settle;
/// Where a sender's datagrams come from.
pub mod source;
/// Waiting for a deadline, as exactly as the host allows.
pub mod wait;
