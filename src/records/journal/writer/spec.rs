//! When a writer commits, and when it begins a new segment.

use std::time::Duration;

/// When to commit, and when to begin a new segment.
#[derive(Clone, Copy, Debug)]
pub struct WriterSpec {
    /// Commit at least this often while there is something to commit.
    pub commit_interval: Duration,
    /// And whenever so much has gathered.
    pub commit_bytes: u64,
    /// Begin a new segment before one gets larger than this. A disk that falls a whole segment behind
    /// gets a larger one: the worker does not wait for it.
    pub segment_bytes: u64,
    /// And when one gets older than this.
    pub segment_age: Duration,
}
