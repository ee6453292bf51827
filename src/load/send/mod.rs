//! The sending half: from a datagram that is due to the kernel.

/// Generated datagrams.
pub mod generated;
/// Datagrams of a capture or a journal.
pub mod replayed;
/// The frames handed to the kernel in one go.
pub mod round;
#[cfg(test)]
pub(crate) mod scripted;
/// One sending thread.
pub mod sender;
/// A thread's share of a load, and its counters.
pub mod share;
/// Counting of sends.
pub mod settle;
/// The source of a sender's datagrams.
pub mod source;
/// Waits for a deadline, as exactly as the host allows.
pub mod wait;
