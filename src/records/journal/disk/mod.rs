//! How the journal writes files: by io_uring, or by a thread that blocks.

/// The operations that a writer needs from a disk.
pub mod interface;
/// A thread that calls write(2) and fdatasync(2), for hosts without io_uring.
pub mod threaded;
/// Creates, writes, syncs and closes files through io_uring.
pub mod uring;
