//! A worker: runs the handler over each batch.

/// The contract with the program's own code: handler and outcome.
pub mod handler;
/// The thread that runs a handler.
pub mod worker;
