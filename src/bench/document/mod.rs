//! The report of a bench as a document, and what it is made of.

/// What a bench writes down.
pub mod report;
/// The record of one trial.
pub mod trial;
/// What a host says of itself.
pub mod facts;
/// Reads a report from a file.
pub mod read;
/// Medians and how far they can be trusted.
pub mod stats;
