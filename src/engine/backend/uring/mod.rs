//! The io_uring backend.

/// What io_uring can do here, found by doing it.
pub mod probe;
/// What a multishot recvmsg writes into a slot, read as plain bytes.
pub mod recv_header;
/// The io_uring backend.
pub mod ring;
/// The flags, size and features of a ring.
pub mod setup;
/// The slots.
pub mod slots;
/// What a completion answers.
pub mod tag;
/// Each feature of io_uring that the engine uses or could use, tried by itself.
pub mod tryout;
