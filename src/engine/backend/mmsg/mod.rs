//! The recvmmsg(2) backend: the same work without io_uring. The fallback on hosts that refuse a ring, and the control in
//! every comparison.

/// The two system calls, and the memory that recvmmsg(2) writes into.
pub mod calls;
/// Receiving and sending, with epoll(7) to sleep in.
pub mod receiving;
/// Sending only.
pub mod sending;
