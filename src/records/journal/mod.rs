//! The journal: what UDP brought, on disk, without a server.
//!
//! ```text
//!  worker 0 ──► DIR/000-0000000001.seg  (sealed)  DIR/000-0000000002.seg  (open: appended to)
//!  worker 1 ──► DIR/001-0000000001.seg  (open)                          … no lock between workers
//! ```
//! Each worker appends records to a segment of its own, in memory first, then by io_uring, and counts
//! datagrams as delivered when fdatasync(2) has returned for them. What a crash tore is cut off when
//! the journal is opened again; nothing has to be done by hand.

/// Names a step at which the tests end the process; nothing at all without the feature `fail-points`.
macro_rules! step {
    ($name:literal) => {
        #[cfg(feature = "fail-points")]
        fail::fail_point!($name);
    };
}

/// How the journal writes files: io_uring, or a thread that blocks.
pub mod disk;
/// Segments after their last record: sealed, compressed, removed.
pub mod keep;
/// Segments and journals, read.
pub mod read;

// What is on disk.
pub mod format;
pub mod segment;
// Written.
pub mod open;
pub mod dir;
pub mod writer;
// Sealed, let go.
// Read.
pub mod export;

#[cfg(test)]
mod tests;
