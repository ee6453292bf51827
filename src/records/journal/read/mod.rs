//! Reading segments and whole journals.

/// Reads past the places that a disk cannot read.
pub mod gaps;
/// A compressed segment, read as if it were plain.
pub mod packed;
/// The bytes of a segment, whether plain or compressed.
pub mod bytes;
/// Reads a segment from its first record to its last, past damage.
pub mod reader;
/// Selects records by time, peer and content.
pub mod select;
/// The records of a journal in the order of arrival, over all workers.
pub mod merge;
/// The end of a journal, followed as it grows.
pub mod follow;
