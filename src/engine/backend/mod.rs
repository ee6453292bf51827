//! How frames are taken from sockets and put on them: io_uring, or recvmmsg with epoll.

/// What a receiver asks of a backend.
pub mod interface;
/// The recvmmsg(2) backend.
pub mod mmsg;
/// The message headers of one round of sends, for SENDMSG on a ring and for sendmmsg(2) alike.
pub mod outgoing;
#[cfg(test)]
pub(crate) mod sim;
/// The io_uring backend.
pub mod uring;
