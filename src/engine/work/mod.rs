//! A worker: runs the handler over each batch.

/// A worker.
pub mod worker;
