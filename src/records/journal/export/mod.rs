//! Export of records to other formats.
//!
//! Each format takes records one by one, and is told when that was all. Memory is bounded, however large the
//! journal is.

/// The trait that every export format implements.
mod exporter;
/// JSON, one object a line.
mod ndjson;
/// Comma-separated values.
mod csv;
/// A packet capture.
mod pcapng;
/// Apache Parquet.
#[cfg(feature = "parquet")]
mod parquet;

pub use crate::journal::export::csv::Csv;
pub use crate::journal::export::exporter::Exporter;
pub use crate::journal::export::ndjson::{Ndjson, line as json_line};
#[cfg(feature = "parquet")]
pub use crate::journal::export::parquet::Parquet;
pub use crate::journal::export::pcapng::{PLACEHOLDER_V4, PLACEHOLDER_V6, PORT_FIRST, Pcapng};
