//! Applies the carrier's verdicts, settles records from the front of the window, and writes the cursor.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use crate::carrier::Verdict;
use crate::shipper::flight::{Fate, Flight};
use crate::shipper::thread::{BACK_OFF, Shipper};
use ringest_records::settle::run::Run;

/// How often the cursor is written while it moves. After a crash, records behind the written cursor are
/// sent again.
const CURSOR_INTERVAL: Duration = Duration::from_millis(100);

impl Shipper {
    /// Applies verdicts. Returns the reason if everything must be sent again.
    pub(super) fn apply_verdicts(&mut self, verdicts: &[(u64, Verdict)]) -> Option<String> {
        let mut again = None;
        for (ticket, verdict) in verdicts {
            // A refused message shares its ticket with the next one that was taken: look from the back.
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
        self.keep_dead_letters();
        let is_settled =
            |flight: &mut Flight| !matches!(flight.fate, None | Some(Fate::Refused(_)));
        let mut runs: BTreeMap<u16, VecDeque<Run>> = BTreeMap::new();
        while let Some(flight) = self.window.pop_front_if(is_settled) {
            self.window_bytes -= flight.bytes;
            self.unwritten += 1;
            self.progressed_at = Instant::now();
            self.settled.insert(flight.worker, flight.step.after);
            let lost = flight.fate != Some(Fate::Acknowledged);
            self.context.account.settled(
                flight.records,
                flight.fate == Some(Fate::DeadLetter),
                lost,
            );
            if !lost {
                self.back_off = BACK_OFF.0;
            }
            let begun = self.partial.remove(&flight.worker);
            let lost = lost || begun == Some(true);
            if !flight.step.ends {
                self.partial.insert(flight.worker, lost);
            } else if flight.step.own {
                // The missing run does not count a datagram that was begun before it: add that one here.
                let ended = u64::from(flight.id.is_none() && begun.is_some());
                let run = Run { datagrams: flight.datagrams + ended, lost };
                Run::note(runs.entry(flight.worker).or_default(), run);
            }
        }
        for (worker, runs) in runs {
            let Some((tally, lane)) = self.context.tallies.get(usize::from(worker)) else {
                continue;
            };
            runs.into_iter().for_each(|run| tally.carried(*lane, run));
        }
        let due = self.cursor_written_at.is_none_or(|at| at.elapsed() >= CURSOR_INTERVAL);
        if self.unwritten > 0 && (due || self.unwritten >= self.context.window) {
            self.write_cursor();
        }
    }

    /// Writes the cursor, and releases settled segments to retention. Releases them even if the cursor
    /// cannot be written, as a full disk may be the reason. After a crash the old cursor may then point at
    /// a removed segment; shipping starts with the first one that exists.
    pub(super) fn write_cursor(&mut self) {
        if self.unwritten > 0 {
            self.unwritten = 0;
            // If the disk is absent, the cursor would be written below the mount point.
            let kept =
                self.context.journal_dir.check().and_then(|()| self.cursor.write(&self.settled));
            if let Err(error) = kept {
                let name = &self.context.destination;
                self.context.notices.repeated(&format!("{name} cursor"), || {
                    format!(
                        "{name}: its cursor cannot be kept: {error}; if ringest crashes now, more \
                         records than usual are sent again"
                    )
                });
                self.unwritten = 1;
            }
            self.cursor_written_at = Some(Instant::now());
        }
        self.context.commit_index.advance_reader(self.context.number, &self.settled);
    }
}
