//! One file per question that a bench answers.

/// RFC 9004, back-to-back frames.
pub mod burst;
/// A bench.
pub mod campaign;
/// The same work with each receive API.
pub mod compare;
/// Loss against rate, for a few, some and many flows.
pub mod curve;
/// How long a datagram takes, by stage, at a few shares of the no-drop rate.
pub mod latency;
/// The no-drop rate and the partial-drop rate, by MLRsearch.
pub mod ndr;
