//! A worker: runs the handler over each batch.

/// The contract with the program's own code: handler and outcome.
pub mod handler;
/// The value that a handler leaves at a stop.
pub mod remains;
/// The thread that runs a handler.
pub mod worker;
