//! Backends: how frames are taken from sockets and put on them. io_uring, recvmmsg(2) with epoll(7), or in tests a
//! simulated kernel. Everything above is the same code, chosen at compile time.

/// Submitting and waiting, for either direction.
pub mod enter;
/// The backends there are: names, probe, memory, construction.
pub mod kind;
/// The recvmmsg(2) and sendmmsg(2) backend.
pub mod mmsg;
/// The message headers of one round of sends, for SENDMSG on a ring and for sendmmsg(2).
pub mod outgoing;
/// Receiving: arms receives when told, and hands over their completions.
pub mod rx;
#[cfg(test)]
pub(crate) mod sim;
/// The sockets of a backend.
pub mod sockets;
/// Sending: batches of replies or of load.
pub mod tx;
/// The io_uring backend.
pub mod uring;
