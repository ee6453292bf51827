//! What a writer keeps account of: buffers, segments, and groups of datagrams on their way.

use std::path::PathBuf;
use std::time::Instant;

use crate::journal::format::Header;
use crate::journal::progress::Committed;

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Buffer {
    pub(super) fill: usize,
    pub(super) submitted: usize,
    pub(super) under_way: u32,
}

/// A segment that is written to, or was until just now.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) path: PathBuf,
    pub(super) header: Header,
    /// Where the next record goes.
    pub(super) offset: u64,
    /// Of datagrams that are whole: how many, and their records.
    pub(super) datagrams: u64,
    pub(super) records: u64,
    /// Up to where it is committed.
    pub(super) committed: u64,
    /// Its file is being made.
    pub(super) creating: bool,
    pub(super) begun: Instant,
    /// Nothing more is appended.
    pub(super) closing: bool,
}

/// Datagrams that become durable together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group {
    pub(super) slot: usize,
    /// `appended` when it was closed.
    pub(super) appended: u64,
    /// Writes that had been begun by then.
    pub(super) writes: u64,
    /// What its segment holds by then.
    pub(super) holds: Committed,
    pub(super) syncing: bool,
}
