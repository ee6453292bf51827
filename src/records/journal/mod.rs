//! The journal: received records on disk, without a server.
//!
//! ```text
//!  worker 0 ──► DIR/000-0000000001.seg  (sealed)  DIR/000-0000000002.seg  (open: appended to)
//!  worker 1 ──► DIR/001-0000000001.seg  (open)                          … no lock between workers
//! ```
//! Each worker appends records to its own segment: into memory first, then to the file through io_uring. A
//! datagram counts as delivered when fdatasync(2) has returned for its records. After a crash, the next start
//! cuts off the torn end of each segment; no manual repair is needed.

/// Names a step at which tests can end the process. Expands to nothing without the feature `fail-points`.
macro_rules! step {
    ($name:literal) => {
        #[cfg(feature = "fail-points")]
        fail::fail_point!($name);
    };
}

/// The on-disk format of a segment: header, records, index, footer.
pub mod format;
/// File names of segments.
pub mod names;
/// The segment files of a journal directory.
pub mod segment;
/// The journal's directory and its lock.
pub mod dir;
/// Errors of opening a journal.
pub mod error;
/// A journal that is open for writing.
pub mod open;
/// Repairs after a crash, when a journal is opened.
pub mod repair;
/// One worker's end of an open journal.
pub mod journal_writer;
/// The writer behind it: buffers, writes, syncs, commits.
pub mod writer;
/// How files are written: by io_uring, or by a thread that blocks.
pub mod disk;
/// Segments after their last record: indexed, sealed, compressed, removed.
pub mod keep;
/// Reading segments and whole journals.
pub mod read;
/// Export to other formats: JSON, CSV, pcapng, Parquet.
pub mod export;

#[cfg(test)]
mod tests;
