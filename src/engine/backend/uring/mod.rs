//! The io_uring backend.

/// The receiving half of a ring: one multishot recvmsg a socket.
pub mod multishot;
/// Tries io_uring on this host, and explains a refusal.
pub mod probe;
/// The layout of what a multishot recvmsg writes into a slot, read as plain bytes.
pub mod recv_header;
/// The ring: submission, completion, sends.
pub mod ring;
/// The flags, size and features of a ring.
pub mod setup;
/// The slots that the kernel writes frames into.
pub mod slots;
/// The kinds of completions.
pub mod tag;
/// Each feature of io_uring tried by itself, for `ringest doctor`.
pub mod tryout;
