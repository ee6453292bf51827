//! The protocol between the two sides of a bench.

/// The messages, one JSON object a line.
pub mod message;
/// The connection that carries them.
pub mod line;
