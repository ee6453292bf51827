//! One destination's thread: reads what is committed, keeps a window of it under way, moves the cursor
//! behind what is settled.
//!
//! ```text
//!  lanes (one a worker) ─ earliest first ─► window ─► carrier
//!  cursor ◄─ settled in front ◄─ window ◄─ verdicts ◄─┘
//! ```
//! What is under way is settled from the front only. When a message is to be sent again, the lanes go back
//! to the cursor and everything behind it is sent again: the broker folds what it has already.

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

/// Bytes under way at most, whatever the window's records: payloads may be 64 KiB each.
const WINDOW_BYTES: usize = 16 << 20;

/// How long to wait for verdicts before looking whether there is more to send.
const VERDICTS_WITHIN: Duration = Duration::from_millis(10);

/// How long to wait for anything to be committed, at most: a carrier may want to move, too.
const COMMITS_WITHIN: Duration = Duration::from_secs(1);

/// How long to leave a broker alone that is to be asked again: first, and at most.
pub(super) const BACK_OFF: (Duration, Duration) = match cfg!(test) {
    false => (Duration::from_millis(50), Duration::from_secs(5)),
    true => (Duration::from_millis(1), Duration::from_millis(4)),
};

/// How far the window could be filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Filled {
    /// There is nothing more to send.
    All,
    /// There is no room for more.
    UpToHere,
}

/// See the module's description.
#[derive(Debug)]
pub(crate) struct Shipper {
    pub(super) post: ShipperContext,
    pub(super) carrier: Box<dyn Carrier>,
    pub(super) cursor: Cursor,
    pub(super) letters: DeadLetters,
    pub(super) lanes: BTreeMap<u16, Lane>,
    /// Everything before is settled.
    pub(super) settled: BTreeMap<u16, Position>,
    /// Of each worker's datagram that is settled in part: whether a record of it is lost.
    pub(super) begun: BTreeMap<u16, bool>,
    pub(super) window: VecDeque<Flight>,
    pub(super) window_bytes: usize,
    /// The ticket of the next message.
    pub(super) next_ticket: u64,
    /// Why the journal could not be read further. A record may have been handed over then that has no place
    /// in the window, so nothing more is: what is in the window is settled, and then all else sent again.
    pub(super) unreadable: Option<String>,
    pub(super) kept_at: Option<Instant>,
    pub(super) unkept: usize,
    /// When something was settled, or the window begun.
    pub(super) moved_at: Instant,
    /// When something that is refused could not be kept.
    pub(super) unburied_at: Option<Instant>,
    /// When the oldest record that is not settled was received, as far as was known last.
    pub(super) oldest_unix_ns: u64,
    pub(super) back_off: Duration,
}

impl Shipper {
    pub(crate) fn new(
        post: ShipperContext,
        carrier: Box<dyn Carrier>,
        settled: BTreeMap<u16, Position>,
    ) -> Self {
        let cursor = Cursor::new(post.home.dir(), &post.destination);
        let letters = DeadLetters::new(post.home.dir(), &post.destination, post.letters_bytes_max);
        Self {
            post,
            carrier,
            cursor,
            letters,
            lanes: BTreeMap::new(),
            settled,
            begun: BTreeMap::new(),
            window: VecDeque::new(),
            window_bytes: 0,
            next_ticket: 0,
            unreadable: None,
            kept_at: None,
            unkept: 0,
            moved_at: Instant::now(),
            unburied_at: None,
            oldest_unix_ns: 0,
            back_off: BACK_OFF.0,
        }
    }

    /// Ships until told to stop.
    pub(crate) fn run(mut self) {
        let mut verdicts = Vec::new();
        while !self.post.stop.load(Ordering::Acquire) {
            let changes = self.post.shelf.changes();
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
            let again = self.note(&verdicts);
            self.settle();
            self.pass_gone(false);
            self.tell();
            let unreadable = self.unreadable.take_if(|_| self.window.is_empty());
            if let Some(reason) = again {
                self.send_again("broker", &reason);
            } else if let Some(reason) = unreadable {
                self.send_again("journal", &reason);
            } else if idle {
                self.keep();
                self.post.shelf.wait(changes, COMMITS_WITHIN);
            } else if self.unburied_at.is_some() {
                // A carrier that has nothing under way may not wait for anything.
                self.post.shelf.wait(changes, VERDICTS_WITHIN);
            }
        }
        self.pass_gone(true);
        self.keep();
        self.tell();
        self.letters.close();
    }

    /// Sends until the window is full or nothing is left.
    fn fill(&mut self) -> io::Result<Filled> {
        for worker in self.post.shelf.workers() {
            let settled = self.settled.get(&worker).copied().unwrap_or_default();
            self.lanes.entry(worker).or_insert_with(|| Lane::new(worker, settled));
        }
        while self.window.len() < self.post.window && self.window_bytes < WINDOW_BYTES {
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
                        // Only what is taken uses up a ticket: a carrier may count on that.
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
            flight.step = lane.step(ahead, &self.post.home, &self.post.shelf)?;
            if self.window.is_empty() {
                self.moved_at = Instant::now();
            }
            self.window_bytes += flight.bytes;
            self.window.push_back(flight);
        }
        Ok(Filled::UpToHere)
    }

    /// The lane with the earliest record, so that what was left by earlier runs with other workers keeps
    /// the order of its peers.
    fn earliest(&mut self) -> io::Result<Option<(u16, Ahead)>> {
        let mut first: Option<(u64, u16, Ahead)> = None;
        for (worker, lane) in &mut self.lanes {
            let ahead = lane.look(&self.post.home, &self.post.shelf)?;
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
