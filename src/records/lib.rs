//! Part of [ringest](https://crates.io/crates/ringest): from datagrams to records, and where records go.

/// From a datagram to its records.
pub mod decode;
/// The journal.
pub mod journal;
/// Outcomes of datagrams: runs of one outcome, tallied over several sinks.
pub mod settle;
/// Where datagrams go: one file per destination.
pub mod sink;
