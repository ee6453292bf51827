//! Sinks: one file per kind of place that datagrams go to.

/// Sinks that count datagrams and keep nothing.
pub mod discard;
/// Gives one worker's datagrams to its sinks.
pub mod handler;
/// The journal as a sink.
pub mod journal;
/// Standard output, or any other writer, as the only sink.
pub mod stdout;
/// Standard output beside other sinks.
pub mod stdout_thread;
#[cfg(test)]
mod tests;
