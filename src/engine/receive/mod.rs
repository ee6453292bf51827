//! A receiver: takes frames, copies them into batches, hands the batches over.

/// When to let datagrams gather before waking up for them.
pub mod coalesce;
/// From frames to batches to workers.
pub mod dispatch;
/// The receiver.
pub mod receiver;
