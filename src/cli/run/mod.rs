//! Runs a started engine: signals, waiting, the end.

/// Runs a started engine until it stops, and prints the summary.
pub(crate) mod until_stop;
/// The end of a run, and the time it may take.
pub(crate) mod deadlines;
/// SIGINT and SIGTERM as a descriptor, and poll(2) on several descriptors.
pub(crate) mod signals;
