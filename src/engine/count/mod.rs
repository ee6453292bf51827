//! Counters of the threads, and the ledger made of them.

/// Counters with one writer and any number of readers.
pub mod counters;
/// A histogram with one writer and any number of readers, which neither allocates nor locks.
pub mod histogram;
/// Percentiles out of the threads' histograms.
pub mod latency;
/// The ledger.
pub mod ledger;
/// What a run came to.
pub mod summary;
