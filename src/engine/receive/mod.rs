//! A receiver: takes frames, copies them into batches (`batch/arena.rs`), hands the batches over.

/// Decides how long datagrams may gather before the receiver wakes.
pub mod coalesce;
/// Dispatch: from frames to batches, from batches to workers.
pub mod dispatch;
/// Faults that a test can plant.
pub(crate) mod fault;
/// The receiver's thread: its turn, the phases of its life, and whether a receive that ended is armed again.
pub mod receiver;
