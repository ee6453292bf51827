//! When a writer commits, and when it begins a new segment.

use std::time::Duration;

/// When a writer commits, and when it begins a new segment.
#[derive(Clone, Copy, Debug)]
pub struct WriterSpec {
    /// Commit at least this often while records wait for it.
    pub commit_interval: Duration,
    /// Commit also when this many bytes wait for it.
    pub commit_bytes: u64,
    /// Begin a new segment before one gets larger than this, bytes. If the disk falls behind by a whole
    /// segment, the segment grows beyond it: the worker does not wait.
    pub segment_bytes: u64,
    /// Begin a new segment when one gets older than this.
    pub segment_age: Duration,
}
