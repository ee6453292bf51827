//! Reports the state of a destination.

use std::time::Duration;

use crate::lane::Lane;
use crate::shipper::thread::Shipper;
use ringest_base::sys::clock;
use ringest_records::journal::keep::commit_index::Backlog;

impl Shipper {
    /// Describes the backlog, for logs without a status line.
    pub(crate) fn waiting(&self) -> String {
        let Backlog { records, bytes } = self.context.commit_index.backlog(self.context.number);
        let now = clock::unix_ns();
        let age = Duration::from_nanos(now.saturating_sub(self.oldest_unix_ns)).as_secs();
        match self.oldest_unix_ns {
            0 => format!("{records} records ({bytes} bytes) wait"),
            _ => format!("{records} records ({bytes} bytes) wait, the oldest for {age} s"),
        }
    }

    /// Updates the counts, and reports the carrier's trouble.
    pub(crate) fn report(&mut self) {
        let mut times = self.window.iter().map(|flight| flight.received_unix_ns);
        // Missing records have no time.
        let front = times.find(|time| *time > 0);
        let heads = self.lanes.values().filter_map(Lane::waiting_since);
        // Between two rounds no head is known, but records may wait all the same.
        let before = || {
            let waits = self.context.commit_index.backlog(self.context.number).records > 0;
            if waits { self.oldest_unix_ns } else { 0 }
        };
        self.oldest_unix_ns = front.or_else(|| heads.min()).unwrap_or_else(before);
        let trouble = self.carrier.trouble();
        if let Some(trouble) = &trouble {
            let name = &self.context.destination;
            self.context.notices.repeated(&format!("{name} trouble"), || {
                format!("{name}: {trouble}; {}", self.waiting())
            });
        }
        self.context.account.set_current(self.window.len() as u64, self.oldest_unix_ns, trouble);
    }
}
