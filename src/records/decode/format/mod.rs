//! Formats: one file per way to find the records of a frame.

/// JSON objects.
pub mod json;
/// The frame as it is.
pub mod raw;
