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

// What is on disk.
pub mod format;
pub mod segment;
// Written.
pub mod open;
pub(crate) mod place;
pub mod writer;
pub mod progress;
pub mod shelf;
mod disk;
mod uring;
mod plain;
pub mod alarm;
// Sealed, let go.
pub mod seal;
pub mod compress;
pub mod janitor;
// Read.
pub(crate) mod bytes;
mod packed;
pub mod reader;
pub mod select;
pub mod merge;
pub mod follow;
pub mod export;

#[cfg(test)]
mod packed_tests;
#[cfg(test)]
mod janitor_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod due_tests;
#[cfg(test)]
mod damage_tests;
