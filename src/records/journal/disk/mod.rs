//! How the journal writes files: io_uring, or a thread that blocks.

/// What the writer asks of a disk.
pub mod interface;
/// write(2) and fdatasync(2), where io_uring cannot be had.
pub mod threaded;
/// Files, writes and syncs by io_uring.
pub mod uring;
