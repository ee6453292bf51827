//! The state that a writer keeps: buffers, open segments, groups of datagrams to commit.

use std::io;
use std::path::PathBuf;
use std::time::Instant;

use crate::journal::format::Header;
use crate::settle::run::Committed;

/// Bytes of one buffer, which is also the largest write. Must hold the largest record.
pub(crate) const BUFFER_BYTES: usize = 256 << 10;

/// Random numbers and time, which tests replace.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Environment {
    /// Returns a random salt for a new segment.
    pub(crate) salt: fn() -> u64,
    /// Returns the current time, ns since 1970.
    pub(crate) now_unix_ns: fn() -> u64,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Buffer {
    pub(crate) fill: usize,
    pub(crate) submitted: usize,
    pub(crate) under_way: u32,
}

/// A segment that is being written, or whose last commit has not ended.
#[derive(Debug)]
pub(crate) struct OpenSegment {
    pub(crate) path: PathBuf,
    pub(crate) header: Header,
    /// Offset of the next record, bytes.
    pub(crate) offset: u64,
    /// Number of complete datagrams in it, and of their records.
    pub(crate) datagrams: u64,
    pub(crate) records: u64,
    /// Offset up to which it is committed, bytes; 0 if nothing is.
    pub(crate) committed: u64,
    /// Whether its file is still being created.
    pub(crate) creating: bool,
    pub(crate) begun: Instant,
    /// Whether the segment ends here: no more records are appended.
    pub(crate) closing: bool,
}

/// Datagrams that become durable together, by one sync.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CommitGroup {
    pub(crate) slot: usize,
    /// Value of the writer's `appended` when the group was closed.
    pub(crate) appended: u64,
    /// Number of writes begun by then. All must have ended before the sync.
    pub(crate) writes: u64,
    /// Committed part of its segment once the group is synced.
    pub(crate) holds: Committed,
    pub(crate) syncing: bool,
}

/// Why a record was not appended.
#[derive(Debug)]
pub(crate) enum Refused {
    /// The disk failed a moment ago, and is left alone for a quarter of a second.
    BackingOff,
    /// The disk failed now.
    Failed(io::Error),
}
