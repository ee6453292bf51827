//! Counts of one destination, for status displays.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Counts of one destination in this process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShipCounts {
    /// Records that the broker has acknowledged.
    pub acknowledged: u64,
    /// Records that the broker refuses for good. They are kept as dead letters.
    pub dead_lettered: u64,
    /// Records that were not sent: retention removed them, or they cannot be read.
    pub undelivered: u64,
    /// Number of times that everything under way was sent again.
    pub resends: u64,
    /// Records under way now.
    pub in_flight: u64,
    /// Receive time of the oldest unsettled record, ns since 1970; 0 if there is none.
    pub oldest_unix_ns: u64,
    /// The problem that keeps records from being delivered now, or `None`.
    pub trouble: Option<String>,
}

/// The counts, shared by a shipper and status displays.
#[derive(Debug, Default)]
pub struct Account(Mutex<ShipCounts>);

impl Account {
    fn counts(&self) -> MutexGuard<'_, ShipCounts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the current counts.
    #[must_use]
    pub fn read(&self) -> ShipCounts {
        self.counts().clone()
    }

    pub(crate) fn settled(&self, records: u64, dead_letter: bool, lost: bool) {
        let mut counts = self.counts();
        let total = match (dead_letter, lost) {
            (true, _) => &mut counts.dead_lettered,
            (_, true) => &mut counts.undelivered,
            _ => &mut counts.acknowledged,
        };
        *total = total.saturating_add(records);
    }

    pub(crate) fn resent(&self) {
        self.counts().resends += 1;
    }

    pub(crate) fn set_current(&self, in_flight: u64, oldest_unix_ns: u64, trouble: Option<String>) {
        let mut counts = self.counts();
        (counts.in_flight, counts.oldest_unix_ns) = (in_flight, oldest_unix_ns);
        counts.trouble = trouble;
    }
}
