//! Sinks: one file per kind of place that datagrams go to.
//!
//! A new sink is a file here with its type (`OpenSink`, and `Sink` for each worker's end), a row in `kinds.rs`, and an arm
//! in `cli/sink/sinks.rs`.

/// Puts sinks behind an engine.
pub mod assemble;
/// Sinks that count datagrams and keep nothing.
pub mod discard;
/// A file, one line a record.
pub mod file;
/// Gives one worker's datagrams to its sinks.
pub mod handler;
/// The journal as a sink.
pub mod journal;
/// The table of sinks by name, and the description of a sink that is not open yet.
pub mod kinds;
/// Records as lines.
pub mod lines;
/// An open sink, as the control thread holds it.
pub mod open;
/// Standard output, or any other writer, as the only sink.
pub mod stdout;
/// Standard output beside other sinks.
pub mod stdout_thread;
#[cfg(test)]
mod tests;
/// A thread that writes lines for all workers.
pub mod writer_thread;
