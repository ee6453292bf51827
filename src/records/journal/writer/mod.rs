//! Writes one worker's segments: records into buffers, buffers into a file, commits behind them.

mod commits;
mod failure;
mod parts;
mod segment_writer;
mod spec;

pub(crate) use crate::journal::writer::parts::{BUFFER_BYTES, Environment};
pub(crate) use crate::journal::writer::segment_writer::Writer;
pub use crate::journal::writer::spec::WriterSpec;
