//! The benches, one file a mode.

/// The longest burst without loss.
pub mod burst;
/// The trials of one bench and their report.
pub mod campaign;
/// The same work with each receive API.
pub mod compare;
/// Loss against rate, for a few, some and many flows.
pub mod curve;
/// How long a datagram takes, by stage, at a few shares of the no-drop rate.
pub mod latency;
/// The no-drop rate and the partial-drop rate, by MLRsearch.
pub mod ndr;
