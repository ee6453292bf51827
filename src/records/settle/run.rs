//! Runs of datagrams with one fate, and the events of a journal's writer.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;

/// The datagrams of a journal's writer by their fate, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriterCounts {
    /// On disk: fdatasync(2) has returned.
    pub committed: u64,
    /// Given up: the disk failed.
    pub undelivered: u64,
    /// In memory, or written and not committed.
    pub pending: u64,
}

/// Datagrams in a row with the same fate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The number of datagrams.
    pub datagrams: u64,
    /// Whether they were given up; else they arrived.
    pub lost: bool,
}

/// Most runs in a queue. Without a bound a disk that fails and recovers takes all memory. When the queue is
/// full, the next run joins the last one, and counts as lost if either is.
const RUNS_MAX: usize = 1 << 16;

impl Run {
    /// Adds a run behind others. Neighbours with the same fate become one.
    pub fn note(runs: &mut VecDeque<Self>, run: Self) {
        let full = runs.len() >= RUNS_MAX;
        match runs.back_mut() {
            _ if run.datagrams == 0 => {}
            Some(last) if last.lost == run.lost || full => {
                last.datagrams += run.datagrams;
                last.lost |= run.lost;
            }
            _ => runs.push_back(run),
        }
    }
}

/// The committed part of a segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// Number of the segment among its worker's.
    pub sequence: u64,
    /// Where the committed part ends, bytes.
    pub offset: u64,
    /// Records up to there.
    pub records: u64,
    /// Datagrams up to there; all their records are in this segment.
    pub datagrams: u64,
}

/// An event of a journal's writer.
#[derive(Debug)]
pub enum Event {
    /// More of a segment is on disk.
    Committed(Committed),
    /// A segment is complete and all of it is committed: it can be sealed.
    Complete(u64, PathBuf),
    /// A segment was given up. The third field is the committed length, bytes: the rest was counted as
    /// undelivered and must be cut off; with nothing committed the file must be removed.
    GivenUp(u64, PathBuf, u64),
    /// The disk failed; the second field is the number of datagrams given up.
    Failed(io::Error, u64),
    /// The disk takes records again.
    Resumed,
}
