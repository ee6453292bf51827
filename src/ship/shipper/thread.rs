//! One destination's thread: reads committed records, keeps a window of them under way, and moves the
//! cursor past the settled ones.
//!
//! ```text
//!  lanes (one a worker) ─ earliest first ─► window ─► carrier
//!  cursor ◄─ settled in front ◄─ window ◄─ verdicts ◄─┘
//! ```
//! Records are settled from the front only. When a message must be sent again, the lanes go back to the
//! cursor and everything behind it is sent again; the broker drops the duplicates.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::carrier::{Carrier, Submitted, Verdict};
use crate::cursor::Cursor;
use crate::dead_letters::DeadLetters;
use crate::lane::{Ahead, Lane, Step};
use crate::shipper::context::ShipperContext;
use crate::shipper::flight::{Fate, Flight};
use ringest_records::journal::keep::commit_index::Position;

/// Payload bytes under way at most, whatever the window's number of records: a payload may have 64 KiB.
const WINDOW_BYTES: usize = 16 << 20;

/// How long to wait for verdicts before looking for more records to send.
const VERDICTS_WITHIN: Duration = Duration::from_millis(10);

/// How long to wait for a commit at most. Longer: a carrier that must make progress (a ping) waits.
const COMMITS_WITHIN: Duration = Duration::from_secs(1);

/// Pause before everything is sent again: the first one, and the longest.
pub(super) const BACK_OFF: (Duration, Duration) = match cfg!(test) {
    false => (Duration::from_millis(50), Duration::from_secs(5)),
    true => (Duration::from_millis(1), Duration::from_millis(4)),
};

/// The result of filling the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Filled {
    /// There is nothing more to send.
    All,
    /// There is no room for more.
    UpToHere,
}

/// Ships one journal to one destination.
#[derive(Debug)]
pub(crate) struct Shipper {
    pub(super) context: ShipperContext,
    pub(super) carrier: Box<dyn Carrier>,
    pub(super) cursor: Cursor,
    pub(super) dead_letters: DeadLetters,
    pub(super) lanes: BTreeMap<u16, Lane>,
    /// Position by worker. Everything before it is settled.
    pub(super) settled: BTreeMap<u16, Position>,
    /// For each worker with a datagram that is settled in part: whether a record of it is lost.
    pub(super) partial: BTreeMap<u16, bool>,
    pub(super) window: VecDeque<Flight>,
    pub(super) window_bytes: usize,
    /// Ticket of the next message.
    pub(super) next_ticket: u64,
    /// Error of reading the journal. A record may have been handed over that is not in the window, so
    /// nothing more is sent: the window is settled first, then everything behind it is sent again.
    pub(super) unreadable: Option<String>,
    pub(super) cursor_written_at: Option<Instant>,
    pub(super) unwritten: usize,
    /// When a record was last settled, or the window was started.
    pub(super) progressed_at: Instant,
    /// When a dead letter last could not be written.
    pub(super) dead_letter_failed_at: Option<Instant>,
    /// Receive time of the oldest unsettled record as last known, ns since 1970; 0 if none.
    pub(super) oldest_unix_ns: u64,
    pub(super) back_off: Duration,
}

impl Shipper {
    pub(crate) fn new(
        context: ShipperContext,
        carrier: Box<dyn Carrier>,
        settled: BTreeMap<u16, Position>,
    ) -> Self {
        let cursor = Cursor::new(context.journal_dir.dir(), &context.destination);
        let dead_letters = DeadLetters::new(
            context.journal_dir.dir(),
            &context.destination,
            context.dead_letters_bytes_max,
        );
        Self {
            context,
            carrier,
            cursor,
            dead_letters,
            lanes: BTreeMap::new(),
            settled,
            partial: BTreeMap::new(),
            window: VecDeque::new(),
            window_bytes: 0,
            next_ticket: 0,
            unreadable: None,
            cursor_written_at: None,
            unwritten: 0,
            progressed_at: Instant::now(),
            dead_letter_failed_at: None,
            oldest_unix_ns: 0,
            back_off: BACK_OFF.0,
        }
    }

    /// Ships until the stop flag is set.
    pub(crate) fn run(mut self) {
        let mut verdicts = Vec::new();
        while !self.context.stop.load(Ordering::Acquire) {
            let changes = self.context.commit_index.changes();
            let filled = match self.unreadable {
                Some(_) => Filled::UpToHere,
                None => self.fill().unwrap_or_else(|error| {
                    self.unreadable = Some(format!("cannot read the journal: {error}"));
                    Filled::UpToHere
                }),
            };
            let idle = self.window.is_empty() && filled == Filled::All;
            let bound = if idle { Duration::ZERO } else { VERDICTS_WITHIN };
            verdicts.clear();
            self.carrier.poll(bound, &mut verdicts);
            let again = self.apply_verdicts(&verdicts);
            self.settle();
            self.give_up_removed(false);
            self.report();
            let unreadable = self.unreadable.take_if(|_| self.window.is_empty());
            if let Some(reason) = again {
                self.send_again("broker", &reason);
            } else if let Some(reason) = unreadable {
                self.send_again("journal", &reason);
            } else if idle {
                self.write_cursor();
                self.context.commit_index.wait(changes, COMMITS_WITHIN);
            } else if self.dead_letter_failed_at.is_some() {
                // A carrier with nothing under way may return from `poll` at once.
                self.context.commit_index.wait(changes, VERDICTS_WITHIN);
            }
        }
        self.give_up_removed(true);
        self.write_cursor();
        self.report();
        self.dead_letters.close();
    }

    /// Sends records until the window is full or nothing is left.
    fn fill(&mut self) -> io::Result<Filled> {
        for worker in self.context.commit_index.workers() {
            let settled = self.settled.get(&worker).copied().unwrap_or_default();
            self.lanes.entry(worker).or_insert_with(|| Lane::new(worker, settled));
        }
        while self.window.len() < self.context.window && self.window_bytes < WINDOW_BYTES {
            let Some((worker, ahead)) = self.earliest()? else { return Ok(Filled::All) };
            let Some(lane) = self.lanes.get_mut(&worker) else { return Ok(Filled::All) };
            let mut flight = Flight {
                ticket: self.next_ticket,
                worker,
                step: Step::default(),
                id: None,
                records: 1,
                datagrams: 1,
                bytes: 0,
                received_unix_ns: 0,
                fate: None,
            };
            match ahead {
                Ahead::Nothing => return Ok(Filled::All),
                Ahead::Missing { records, datagrams } => {
                    (flight.records, flight.datagrams) = (records, datagrams);
                    flight.fate = Some(Fate::Missing);
                }
                Ahead::Record => {
                    let message = lane.message(self.next_ticket);
                    let Some(message) = message else { return Ok(Filled::All) };
                    flight.id = Some(message.id);
                    flight.bytes = message.payload.len();
                    flight.received_unix_ns = message.received_unix_ns;
                    match self.carrier.submit(&message) {
                        // Only a message that is taken uses up its ticket: carriers rely on consecutive
                        // tickets.
                        Submitted::Taken => self.next_ticket += 1,
                        Submitted::Full => return Ok(Filled::UpToHere),
                        Submitted::Refused(Verdict::Acknowledged) => {
                            flight.fate = Some(Fate::Acknowledged);
                        }
                        Submitted::Refused(Verdict::Rejected(reason)) => {
                            flight.fate = Some(Fate::Refused(reason));
                        }
                        Submitted::Refused(Verdict::Again(reason)) => {
                            self.send_again("broker", &reason);
                            return Ok(Filled::UpToHere);
                        }
                    }
                }
            }
            flight.step =
                lane.step(ahead, &self.context.journal_dir, &self.context.commit_index)?;
            if self.window.is_empty() {
                self.progressed_at = Instant::now();
            }
            self.window_bytes += flight.bytes;
            self.window.push_back(flight);
        }
        Ok(Filled::UpToHere)
    }

    /// Returns the lane with the earliest record. Records of earlier runs, which had other numbers of
    /// workers, so keep the order of each peer.
    fn earliest(&mut self) -> io::Result<Option<(u16, Ahead)>> {
        let mut first: Option<(u64, u16, Ahead)> = None;
        for (worker, lane) in &mut self.lanes {
            let ahead = lane.look(&self.context.journal_dir, &self.context.commit_index)?;
            let time = match ahead {
                Ahead::Nothing => continue,
                Ahead::Missing { .. } => 0,
                Ahead::Record => lane.waiting_since().unwrap_or(0),
            };
            if first.is_none_or(|(earliest, ..)| time < earliest) {
                first = Some((time, *worker, ahead));
            }
        }
        Ok(first.map(|(_, worker, ahead)| (worker, ahead)))
    }
}
