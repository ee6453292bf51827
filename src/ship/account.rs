//! What became of the records of one destination, for whoever prints.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// The figures of one destination, of this process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShipCounts {
    /// Records the broker has.
    pub acknowledged: u64,
    /// Records it refuses for good: they are kept as dead letters.
    pub dead_lettered: u64,
    /// Records that went unsent: retention took them, or they cannot be read any more.
    pub undelivered: u64,
    /// How often everything under way was sent again.
    pub resends: u64,
    /// Records under way now.
    pub in_flight: u64,
    /// When the oldest record that is not settled was received, ns since 1970; 0 without any.
    pub oldest_unix_ns: u64,
    /// What keeps it from its work at the moment.
    pub trouble: Option<String>,
}

/// Shared by a shipper and whoever prints.
#[derive(Debug, Default)]
pub struct Account(Mutex<ShipCounts>);

impl Account {
    fn counts(&self) -> MutexGuard<'_, ShipCounts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The figures as of now.
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

    pub(crate) fn stands(&self, in_flight: u64, oldest_unix_ns: u64, trouble: Option<String>) {
        let mut counts = self.counts();
        (counts.in_flight, counts.oldest_unix_ns) = (in_flight, oldest_unix_ns);
        counts.trouble = trouble;
    }
}
