//! A running engine: signals, waiting, the end.

/// From a started engine to its last word.
pub(crate) mod until_stop;
/// The end of a run, and how long it is waited for.
pub(crate) mod deadlines;
/// SIGINT and SIGTERM as a descriptor, and waiting for several descriptors at once.
pub(crate) mod signals;
