//! The report of a bench: its types, its reader and its statistics.

/// The report.
pub mod report;
/// The record of one trial.
pub mod trial;
/// Facts about a host.
pub mod facts;
/// Reads a report from a file.
pub mod read;
/// Medians with confidence intervals.
pub mod stats;
