//! One thread's share of a load, and the counters it shows while it runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

/// Counters of a sending thread that other threads may read while it runs.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Progress {
    /// Datagrams the kernel took.
    pub sent: AtomicU64,
    /// Datagrams the kernel refused or dropped.
    pub failed: AtomicU64,
    /// Datagrams that came back.
    pub echoed: AtomicU64,
    /// How late the datagram sent last was, ns.
    pub behind_ns: AtomicU64,
}

/// One thread's share of a load.
#[derive(Debug)]
pub(crate) struct Share {
    /// Index of the thread.
    pub(crate) index: usize,
    /// Flows of this thread, by their number in the whole load; flow `i` has listener `i`.
    pub(crate) flows: Vec<usize>,
    /// Datagrams a second; `None`: as fast as the kernel takes them.
    pub(crate) rate_pps: Option<f64>,
    /// Datagrams to send; `None`: until the time is up.
    pub(crate) count: Option<u64>,
    /// Delay of this thread's schedule, as a part of the gap between two datagrams.
    pub(crate) offset: f64,
    pub(crate) stop: Arc<AtomicBool>,
    pub(crate) progress: Arc<Progress>,
}
