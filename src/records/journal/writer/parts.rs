//! What a writer keeps account of: buffers, segments, and groups of datagrams on their way.

use std::io;
use std::path::PathBuf;
use std::time::Instant;

use crate::journal::format::Header;
use crate::settle::run::Committed;

/// Bytes of one buffer. Must hold the largest record; a write is at most as long.
pub(crate) const BUFFER_BYTES: usize = 256 << 10;

/// What a writer takes from outside, and a test sets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outside {
    /// Where salts come from.
    pub(crate) salt: fn() -> u64,
    /// The time, ns since 1970.
    pub(crate) now_unix_ns: fn() -> u64,
}

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

/// Why a record was not appended.
#[derive(Debug)]
pub(crate) enum Refused {
    /// The disk has failed a moment ago.
    Resting,
    /// It fails now.
    Failed(io::Error),
}
