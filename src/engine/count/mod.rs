//! Counters of the threads, and the ledger made of them.

/// Counters with one writer and any number of readers, and their sums over threads.
pub mod counters;
/// A histogram with one writer and any number of readers.
pub mod histogram;
/// Percentiles of the threads' histograms.
pub mod latency;
/// The ledger: number of datagrams at each place on their way.
pub mod ledger;
/// The summary of a run.
pub mod summary;
/// A row of the ledger table, and the types of its columns.
pub mod row;
/// The ledger table: one row per count, which everything that shows counts reads.
pub mod rows;
/// The summary as a document that programs read.
pub mod document;
