//! Settles what the carrier has reported on, and keeps the cursor.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use crate::carrier::Verdict;
use crate::shipper::flight::{Fate, Flight};
use crate::shipper::thread::{BACK_OFF, Shipper};
use ringest_records::settle::run::Run;

/// How often the cursor is kept while it moves. What lies behind it is sent again after a crash.
const KEEP_EVERY: Duration = Duration::from_millis(100);

impl Shipper {
    /// Takes note of verdicts; returns why everything is to be sent again, if it is.
    pub(super) fn note(&mut self, verdicts: &[(u64, Verdict)]) -> Option<String> {
        let mut again = None;
        for (ticket, verdict) in verdicts {
            // Those that were not taken have the ticket of the one behind them.
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

    /// Settles what stands in front.
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
                // One that was begun is not among those that are missing, and ends with them.
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

    /// Keeps the cursor on disk, and lets go of what is settled. Also where the cursor cannot be kept: the disk
    /// may be full of just that. After a crash the old cursor points before what is gone then, which begins
    /// with what is there.
    pub(super) fn keep(&mut self) {
        if self.unkept > 0 {
            self.unkept = 0;
            // Where its disk is away, it would be written below the mount point.
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
