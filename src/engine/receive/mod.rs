//! A receiver: takes frames, copies them into batches, hands the batches over.

/// When to let datagrams gather before waking up for them.
pub mod coalesce;
/// Dispatch: from frames to batches, from batches to workers.
pub mod dispatch;
pub(crate) mod fault;
/// The receiver.
pub mod receiver;
