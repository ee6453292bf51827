//! Segments after their last record: indexed, sealed, compressed, removed.

/// The committed part of each segment, and how far each reader has read.
pub mod commit_index;
/// Seals a segment: cuts its torn end, then writes index and footer.
pub mod seal;
/// Compresses sealed segments.
pub mod compress;
/// The background thread that seals, cuts, compresses and removes segments.
pub mod janitor;
