//! What a writer keeps account of: buffers, segments, and groups of datagrams on their way.

use std::path::PathBuf;
use std::time::Instant;

use crate::journal::format::Header;
use crate::settle::run::Committed;

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Buffer {
    pub(crate) fill: usize,
    pub(crate) submitted: usize,
    pub(crate) under_way: u32,
}

/// A segment that is written to, or was until just now.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) path: PathBuf,
    pub(crate) header: Header,
    /// Where the next record goes.
    pub(crate) offset: u64,
    /// Of datagrams that are whole: how many, and their records.
    pub(crate) datagrams: u64,
    pub(crate) records: u64,
    /// Up to where it is committed.
    pub(crate) committed: u64,
    /// Its file is being made.
    pub(crate) creating: bool,
    pub(crate) begun: Instant,
    /// Nothing more is appended.
    pub(crate) closing: bool,
}

/// Datagrams that become durable together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Group {
    pub(crate) slot: usize,
    /// `appended` when it was closed.
    pub(crate) appended: u64,
    /// Writes that had been begun by then.
    pub(crate) writes: u64,
    /// What its segment holds by then.
    pub(crate) holds: Committed,
    pub(crate) syncing: bool,
}
