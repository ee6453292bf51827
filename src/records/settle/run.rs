//! What a writer tells of its progress.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;

/// What became of the datagrams so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriterCounts {
    /// On disk: fdatasync(2) has returned.
    pub committed: u64,
    /// Given up.
    pub undelivered: u64,
    /// On the way.
    pub pending: u64,
}

/// What became of datagrams that came one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// How many.
    pub datagrams: u64,
    /// Whether they were given up.
    pub lost: bool,
}

/// How many runs are told apart where they gather: more would be memory without a bound. Beyond it, what
/// has a lost neighbour counts as lost too.
const RUNS_MAX: usize = 1 << 16;

impl Run {
    /// Adds a run behind others; neighbours with the same fate are one.
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

/// What of a segment is committed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// Number of the segment among its worker's.
    pub sequence: u64,
    /// Up to where, bytes.
    pub offset: u64,
    /// Records up to there.
    pub records: u64,
    /// Datagrams up to there; all their records are in this segment.
    pub datagrams: u64,
}

/// What the writer has to tell others.
#[derive(Debug)]
pub enum Event {
    /// More of a segment is on disk.
    Committed(Committed),
    /// A segment is complete and all of it is committed: it can be sealed.
    Complete(u64, PathBuf),
    /// A segment was given up after so many bytes, which are committed. What is behind them was counted
    /// as undelivered and should go; if nothing is committed, all of it.
    GivenUp(u64, PathBuf, u64),
    /// The disk failed; so many datagrams were given up.
    Failed(io::Error, u64),
    /// The disk takes records again.
    Resumed,
}
