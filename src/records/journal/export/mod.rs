//! Records for other programs: one file per format.
//!
//! Each format takes records one after the other and is told when that was all. Memory is bounded
//! whatever the journal holds.

use std::io;

use crate::journal::format::Record;

mod ndjson;
mod csv;
mod pcapng;
#[cfg(feature = "parquet")]
mod parquet;

pub use crate::journal::export::csv::Csv;
pub use crate::journal::export::ndjson::{Ndjson, line as json_line};
#[cfg(feature = "parquet")]
pub use crate::journal::export::parquet::Parquet;
pub use crate::journal::export::pcapng::{PLACE_V4, PLACE_V6, PORT_FIRST, Pcapng};

/// A format being written.
pub trait Sheet {
    /// Adds a record; `false`: the format cannot hold it, and it was left out.
    ///
    /// # Errors
    /// What it is written to failed.
    fn add(&mut self, record: &Record<'_>) -> io::Result<bool>;

    /// That was all.
    ///
    /// # Errors
    /// What it is written to failed.
    fn finish(&mut self) -> io::Result<()>;
}
