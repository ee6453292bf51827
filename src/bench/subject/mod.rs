//! The receiver under test: an engine, or a rival.

/// The handler of the engine under test.
pub mod handler;
/// Kernel counters outside of our sockets.
pub mod layers;
/// Starts, marks and finishes the receiver.
pub mod run;
/// CPU time and context switches of threads.
pub mod threads;
