//! Framings: one file per way to cut a datagram into frames.

/// The whole datagram as one frame.
pub mod datagram;
/// Frames behind their length.
pub mod length;
/// Frames that are lines.
pub mod lines;
