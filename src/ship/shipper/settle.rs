//! Applies the carrier's verdicts, settles records from the front of the window, and writes the cursor.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use crate::carrier::Verdict;
use crate::shipper::flight::{Fate, Flight};
use crate::shipper::thread::{BACK_OFF, Shipper};
use ringest_records::settle::run::Run;

/// How often the cursor is written while it moves. After a crash, records behind the written cursor are
/// sent again.
const KEEP_EVERY: Duration = Duration::from_millis(100);

impl Shipper {
    /// Applies verdicts. Returns the reason if everything must be sent again.
    pub(super) fn note(&mut self, verdicts: &[(u64, Verdict)]) -> Option<String> {
        let mut again = None;
        for (ticket, verdict) in verdicts {
            // A flight that was not taken has the ticket of the one behind it.
            let behind = self.window.partition_point(|flight| flight.ticket <= *ticket);
            let flight = behind.checked_sub(1).and_then(|place| self.window.get_mut(place));
            let flight = flight.filter(|flight| flight.ticket == *ticket && flight.fate.is_none());
            match (verdict, flight) {
                (Verdict::Again(reason), _) => again = again.or_else(|| Some(reason.clone())),
                (_, None) => {}
                (Verdict::Acknowledged, Some(flight)) => flight.fate = Some(Fate::Acknowledged),
                (Verdict::Rejected(reason), Some(flight)) => {
                    flight.fate = Some(Fate::Refused(reason.clone()));
                }
            }
        }
        again
    }

    /// Settles the records in front of the window that have a final fate.
    pub(super) fn settle(&mut self) {
        self.bury();
        let is_settled =
            |flight: &mut Flight| !matches!(flight.fate, None | Some(Fate::Refused(_)));
        let mut runs: BTreeMap<u16, VecDeque<Run>> = BTreeMap::new();
        while let Some(flight) = self.window.pop_front_if(is_settled) {
            self.window_bytes -= flight.bytes;
            self.unkept += 1;
            self.moved_at = Instant::now();
            self.settled.insert(flight.worker, flight.step.after);
            let lost = flight.fate != Some(Fate::Acknowledged);
            self.post.account.settled(flight.records, flight.fate == Some(Fate::DeadLetter), lost);
            if !lost {
                self.back_off = BACK_OFF.0;
            }
            let begun = self.begun.remove(&flight.worker);
            let lost = lost || begun == Some(true);
            if !flight.step.ends {
                self.begun.insert(flight.worker, lost);
            } else if flight.step.own {
                // A datagram that was settled in part is not counted among the missing ones, and ends with
                // them.
                let ended = u64::from(flight.id.is_none() && begun.is_some());
                let run = Run { datagrams: flight.datagrams + ended, lost };
                Run::note(runs.entry(flight.worker).or_default(), run);
            }
        }
        for (worker, runs) in runs {
            let Some((tally, lane)) = self.post.tallies.get(usize::from(worker)) else { continue };
            runs.into_iter().for_each(|run| tally.carried(*lane, run));
        }
        let due = self.kept_at.is_none_or(|at| at.elapsed() >= KEEP_EVERY);
        if self.unkept > 0 && (due || self.unkept >= self.post.window) {
            self.keep();
        }
    }

    /// Writes the cursor, and releases settled segments to retention. Releases them even if the cursor
    /// cannot be written, as a full disk may be the reason. After a crash the old cursor may then point at
    /// a removed segment; shipping starts with the first one that exists.
    pub(super) fn keep(&mut self) {
        if self.unkept > 0 {
            self.unkept = 0;
            // If the disk is absent, the cursor would be written below the mount point.
            let kept = self.post.home.check().and_then(|()| self.cursor.write(&self.settled));
            if let Err(error) = kept {
                let name = &self.post.destination;
                self.post.notices.repeated(&format!("{name} cursor"), || {
                    format!(
                        "{name}: its cursor cannot be kept: {error}; after a crash more than a window \
                         would be sent again"
                    )
                });
                self.unkept = 1;
            }
            self.kept_at = Some(Instant::now());
        }
        self.post.shelf.passed(self.post.number, &self.settled);
    }
}
