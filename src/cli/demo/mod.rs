//! `ringest demo`: shows what this host can receive, and that every datagram is accounted for.

/// The two phases of the demo.
mod phase;
/// The table at the end, and the check that nothing is missing.
mod verdict;
/// The command: an engine here, a sender in a second process, one phase after the other.
mod run;

pub(crate) use run::{DemoArgs, run};
