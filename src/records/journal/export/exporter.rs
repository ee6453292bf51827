//! The trait that every export format implements.

use std::io;

use crate::journal::format::Record;

/// Writes records in one format.
pub trait Exporter {
    /// Adds a record. Returns `false` if the format cannot hold it; it is then left out.
    ///
    /// # Errors
    /// Writing to the output failed.
    fn add(&mut self, record: &Record<'_>) -> io::Result<bool>;

    /// Ends the output: no record follows.
    ///
    /// # Errors
    /// Writing to the output failed.
    fn finish(&mut self) -> io::Result<()>;
}
