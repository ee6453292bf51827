//! Segments and journals, read.

/// The bytes of a segment, however they are kept.
pub mod bytes;
/// The end of a journal.
pub mod follow;
/// The records of a journal in the order they arrived, over all its workers.
pub mod merge;
/// A compressed segment, read as if it were not.
pub mod packed;
/// Reads a segment from its first record to its last, past whatever is damaged.
pub mod reader;
/// Which records are wanted.
pub mod select;
