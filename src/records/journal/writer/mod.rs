//! Writes one worker's segments: records into buffers, buffers into a file, commits behind them.

/// Handles completions: writes, then the sync that covers them, then commits the groups it covers.
mod commits;
/// Handles a disk failure: gives up what is not committed.
mod failure;
/// The state that a writer keeps: buffers, open segments, groups of datagrams to commit.
mod parts;
/// Writes one worker's segments: records into buffers, buffers into a file.
mod segment_writer;
/// The settings of a writer: when it commits, and when it begins a new segment.
mod spec;

pub(crate) use crate::journal::writer::parts::{BUFFER_BYTES, Environment};
pub(crate) use crate::journal::writer::segment_writer::Writer;
pub use crate::journal::writer::spec::WriterSpec;
