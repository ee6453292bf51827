//! Records for other programs: one file per format.
//!
//! Each format takes records one after the other and is told when that was all; memory is bounded
//! whatever the journal holds.

use std::io;

use super::format::Record;

mod ndjson;
pub use ndjson::{Line, Ndjson};

/// A format being written.
pub trait Sheet {
    /// Adds a record.
    ///
    /// # Errors
    /// What it is written to failed.
    fn add(&mut self, record: &Record<'_>) -> io::Result<()>;

    /// That was all.
    ///
    /// # Errors
    /// What it is written to failed.
    fn finish(&mut self) -> io::Result<()>;
}
