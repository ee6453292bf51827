//! Segments after their last record: sealed, compressed, removed.

/// What a journal holds at the moment, and how far those who read it for others have come.
pub mod commit_index;
/// Sealed segments are compressed, and are read as before.
pub mod compress;
/// The thread that seals complete segments, cuts what was given up, compresses and lets old ones
/// go, beside the workers.
pub mod janitor;
/// The end of a segment.
pub mod seal;
