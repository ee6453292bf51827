//! The receive loops that the engine is compared with.

/// Starts a rival on a thread of its own, and stops it.
pub(crate) mod rival;
/// Receives with recvmmsg(2): blocking, behind epoll, or napping.
mod recvmmsg;
/// Receives with recvmsg(2).
mod recvmsg;
/// Counts and copies what a call brought.
mod counter;
