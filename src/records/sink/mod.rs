//! Where datagrams go: one file per destination.

/// Nowhere.
pub mod discard;
/// One worker's datagrams to their places.
pub mod handler;
/// The journal as a sink.
pub mod journal;
/// Standard output, or any other writer.
pub mod stdout;
/// Standard output beside other sinks.
pub mod stdout_thread;
