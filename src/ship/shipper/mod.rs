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
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::account::Account;
use crate::carrier::{Carrier, MessageId, Submitted, Verdict};
use crate::cursor::Cursor;
use crate::dead_letters::DeadLetters;
use crate::lane::{Ahead, Lane, Step};
use ringest_records::journal::dir::JournalDir;
use ringest_records::journal::keep::commit_index::{CommitIndex, Gone, Position};
use ringest_records::settle::notices::Notices;
use ringest_records::settle::run::Run;
use ringest_records::settle::tally::Tally;

mod bury;
mod report;

/// Bytes under way at most, whatever the window's records: payloads may be 64 KiB each.
const WINDOW_BYTES: usize = 16 << 20;

/// How long to wait for verdicts before looking whether there is more to send.
const VERDICTS_WITHIN: Duration = Duration::from_millis(10);

/// How long to wait for anything to be committed, at most: a carrier may want to move, too.
const COMMITS_WITHIN: Duration = Duration::from_secs(1);

/// How often the cursor is kept while it moves. What lies behind it is sent again after a crash.
const KEEP_EVERY: Duration = Duration::from_millis(100);

/// Without a verdict for so long, what retention took is given up with what is under way: a carrier whose
/// broker is away may hold that for ever.
const GONE_WITHIN: Duration = match cfg!(test) {
    false => Duration::from_secs(1),
    true => Duration::from_millis(4),
};

/// How long to leave a broker alone that is to be asked again: first, and at most.
const BACK_OFF: (Duration, Duration) = match cfg!(test) {
    false => (Duration::from_millis(50), Duration::from_secs(5)),
    true => (Duration::from_millis(1), Duration::from_millis(4)),
};

/// Where a shipper works, and what it tells.
#[derive(Debug)]
pub(crate) struct ShipperContext {
    pub(crate) home: JournalDir,
    pub(crate) destination: String,
    /// Its number among the shelf's readers, and its lane in the tallies.
    pub(crate) number: usize,
    pub(crate) shelf: Arc<CommitIndex>,
    /// By worker; where datagrams of this process are settled.
    pub(crate) tallies: Vec<(Arc<Tally>, usize)>,
    pub(crate) account: Arc<Account>,
    pub(crate) notices: Arc<Notices>,
    pub(crate) stop: Arc<AtomicBool>,
    /// Records under way at most.
    pub(crate) window: usize,
    /// Bytes of dead letters at most; `None`: all are kept.
    pub(crate) letters_bytes_max: Option<u64>,
}

/// Something that was sent, or is to be passed over, and is not settled yet.
#[derive(Debug)]
struct Flight {
    /// The carrier knows it by that, if it took it; else it is that of the next one that it takes.
    ticket: u64,
    worker: u16,
    step: Step,
    /// Which record; `None` for those that are missing.
    id: Option<MessageId>,
    records: u64,
    datagrams: u64,
    bytes: usize,
    received_unix_ns: u64,
    fate: Option<Fate>,
}

/// How far the window could be filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Filled {
    /// There is nothing more to send.
    All,
    /// There is no room for more.
    UpToHere,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Fate {
    Acknowledged,
    /// The broker will never take it, for this reason: it is a dead letter as soon as all in front of it are
    /// settled. Not before: it is sent again with them, and would be one again then.
    Refused(String),
    DeadLetter,
    Missing,
}

/// See the module's description.
#[derive(Debug)]
pub(crate) struct Shipper {
    post: ShipperContext,
    carrier: Box<dyn Carrier>,
    cursor: Cursor,
    letters: DeadLetters,
    lanes: BTreeMap<u16, Lane>,
    /// Everything before is settled.
    settled: BTreeMap<u16, Position>,
    /// Of each worker's datagram that is settled in part: whether a record of it is lost.
    begun: BTreeMap<u16, bool>,
    window: VecDeque<Flight>,
    window_bytes: usize,
    /// The ticket of the next message.
    next_ticket: u64,
    /// Why the journal could not be read further. A record may have been handed over then that has no place
    /// in the window, so nothing more is: what is in the window is settled, and then all else sent again.
    unreadable: Option<String>,
    kept_at: Option<Instant>,
    unkept: usize,
    /// When something was settled, or the window begun.
    moved_at: Instant,
    /// When something that is refused could not be kept.
    unburied_at: Option<Instant>,
    /// When the oldest record that is not settled was received, as far as was known last.
    oldest_unix_ns: u64,
    back_off: Duration,
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

    /// Takes note of verdicts; returns why everything is to be sent again, if it is.
    fn note(&mut self, verdicts: &[(u64, Verdict)]) -> Option<String> {
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
    fn settle(&mut self) {
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

    /// Gives up what retention took in front of everything else, if that waits for a carrier that takes or
    /// settles nothing, or is to be done at once. What is under way of it has no other fate then, and the
    /// rest is sent again.
    fn pass_gone(&mut self, at_once: bool) {
        let gone = self.post.shelf.gone(&self.settled);
        let is_stuck = self.window.is_empty() || self.moved_at.elapsed() >= GONE_WITHIN;
        if gone.is_empty() || !(at_once || is_stuck) {
            return;
        }
        if !self.window.is_empty() || self.unreadable.is_some() {
            self.carrier.reset();
        }
        self.forget();
        let flight = |gone: Gone| Flight {
            ticket: self.next_ticket,
            worker: gone.worker,
            step: Step { after: gone.after, own: gone.own, ends: true },
            id: None,
            records: gone.records,
            datagrams: gone.datagrams,
            bytes: 0,
            received_unix_ns: 0,
            fate: Some(Fate::Missing),
        };
        self.window.extend(gone.into_iter().map(flight));
        self.settle();
        self.rewind();
        self.keep();
    }

    /// Forgets what is under way.
    fn forget(&mut self) {
        self.unreadable = None;
        self.window.clear();
        self.window_bytes = 0;
    }

    /// The lanes go back, or on, to what is settled.
    fn rewind(&mut self) {
        for (worker, lane) in &mut self.lanes {
            lane.rewind(self.settled.get(worker).copied().unwrap_or_default());
        }
    }

    /// Forgets what is under way, and begins again at what is settled, a little later.
    fn send_again(&mut self, about: &str, reason: &str) {
        self.carrier.reset();
        self.forget();
        self.rewind();
        self.post.account.resent();
        self.tell();
        let name = &self.post.destination;
        self.post.notices.repeated(&format!("{name} {about}"), || {
            format!("{name}: {reason}; it is tried again; {}", self.waiting())
        });
        self.rest(self.back_off);
        self.back_off = (self.back_off * 2).min(BACK_OFF.1);
    }

    /// Waits, unless it is to stop; the carrier may move meanwhile.
    fn rest(&mut self, length: Duration) {
        let until = Instant::now() + length;
        while !self.post.stop.load(Ordering::Acquire) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            self.carrier.poll(Duration::ZERO, &mut Vec::new());
            let changes = self.post.shelf.changes();
            self.post.shelf.wait(changes, left.min(Duration::from_millis(50)));
        }
    }

    /// Keeps the cursor on disk, and lets go of what is settled. Also where the cursor cannot be kept: the disk
    /// may be full of just that. After a crash the old cursor points before what is gone then, which begins
    /// with what is there.
    fn keep(&mut self) {
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
