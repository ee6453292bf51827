//! Shippers on real journals, against a broker that does everything a broker may: takes its time, loses
//! acknowledgements, refuses, breaks off in the middle, and remembers what it has.

/// Records that are not there any more when it is their turn.
pub(crate) mod missing;
/// Records that a broker refuses for good, while other things go wrong.
pub(crate) mod refused;
/// A journal that cannot be read for a moment, just behind a record that was handed over.
pub(crate) mod unreadable;

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use proptest::prelude::*;

use tempfile::TempDir;

use crate::account::ShipCounts;
use crate::carrier::{Carrier, Message, MessageId, Submitted, Verdict};
use crate::fleet::{CursorPositions, Destination, Fleet, ShipStats, Watch};
use ringest_records::journal::format::Record;
use ringest_records::journal::journal_writer::JournalWriter;
use ringest_records::journal::keep::janitor::Retention;
use ringest_records::journal::open::{Journal, JournalSpec};
use ringest_records::journal::read::reader::{Next, Reader};
use ringest_records::journal::segment;
use ringest_records::journal::writer::WriterSpec;
use ringest_records::settle::tally::Tally;

/// The messages that a broker has stored, by peer and in order.
#[derive(Debug, Default)]
pub(crate) struct Log {
    known: HashSet<MessageId>,
    pub(crate) messages: Vec<(SocketAddr, u64)>,
}

/// See the module's description. Its moods are seeded.
#[derive(Debug)]
pub(crate) struct Broker {
    log: Arc<Mutex<Log>>,
    /// Takes nothing while set.
    away: Arc<AtomicBool>,
    seed: u64,
    under_way: VecDeque<(u64, MessageId, SocketAddr, u64)>,
    /// Messages under way at a reset may still arrive, until more is sent.
    told: Vec<(u64, Verdict)>,
    /// The ticket of what it took last, since it was reset.
    taken: Option<u64>,
}

pub(crate) fn number(payload: &[u8]) -> u64 {
    payload.first_chunk().map_or(u64::MAX, |bytes| u64::from_le_bytes(*bytes))
}

/// Returns whether this broker never accepts the record.
pub(crate) fn is_refused(number: u64) -> bool {
    number % 13 == 5
}

impl Broker {
    /// One that is there, as long as `away` is not set.
    pub(crate) fn with(log: &Arc<Mutex<Log>>, away: &Arc<AtomicBool>) -> Self {
        Self {
            log: Arc::clone(log),
            away: Arc::clone(away),
            seed: 7,
            under_way: VecDeque::new(),
            told: Vec::new(),
            taken: None,
        }
    }

    fn mood(&mut self, faces: u64) -> u64 {
        self.seed = self.seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        (self.seed >> 33) % faces
    }
}

impl Carrier for Broker {
    fn submit(&mut self, message: &Message<'_>) -> Submitted {
        let number = number(message.payload);
        let is_next = self.taken.is_none_or(|taken| message.ticket == taken + 1);
        assert!(is_next, "ticket {} behind {:?}", message.ticket, self.taken);
        match self.mood(40) {
            0 => Submitted::Full,
            1 => Submitted::Refused(Verdict::Again("it is tired".to_owned())),
            _ if is_refused(number) && self.mood(2) == 0 => {
                Submitted::Refused(Verdict::Rejected("by the client".to_owned()))
            }
            _ => {
                self.taken = Some(message.ticket);
                self.under_way.push_back((message.ticket, message.id, message.peer, number));
                Submitted::Taken
            }
        }
    }

    fn poll(&mut self, bound: Duration, verdicts: &mut Vec<(u64, Verdict)>) {
        if self.away.load(Ordering::Acquire) {
            // Nothing will come of it: as long as may be waited.
            std::thread::park_timeout(bound);
            return;
        }
        for _ in 0..self.mood(50) {
            let Some((ticket, id, peer, number)) = self.under_way.pop_front() else { break };
            if is_refused(number) {
                self.told.push((ticket, Verdict::Rejected("by the broker".to_owned())));
                continue;
            }
            let mood = self.mood(60);
            if mood == 0 {
                // Lost on the way, and so is all that was behind it.
                self.under_way.clear();
                self.told.push((ticket, Verdict::Again("the connection broke".to_owned())));
                break;
            }
            let mut log = self.log.lock().unwrap();
            if log.known.insert(id) {
                log.messages.push((peer, number));
            }
            drop(log);
            if mood == 1 {
                // It has it, and the acknowledgement is lost with the connection.
                self.under_way.clear();
                self.told.push((ticket, Verdict::Again("no answer".to_owned())));
                break;
            }
            self.told.push((ticket, Verdict::Acknowledged));
        }
        // Verdicts come in any order, except that a break is the last one.
        if self.mood(2) == 0 && !matches!(self.told.last(), Some((_, Verdict::Again(_)))) {
            self.told.reverse();
        }
        verdicts.append(&mut self.told);
    }

    fn reset(&mut self) {
        self.taken = None;
        self.told.clear();
        self.under_way.clear();
    }

    fn trouble(&self) -> Option<String> {
        None
    }
}

/// Makes a directory that is removed when dropped; in memory where there is such a file system.
pub(crate) fn temp_dir() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

const WORKERS: usize = 2;
pub(crate) const NAMES: [&str; 2] = ["kafka:one", "nats:two"];

pub(crate) fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < deadline, "hung: waited for {what}");
        std::thread::yield_now();
    }
}

/// A journal with its shippers at work.
#[derive(Debug)]
pub(crate) struct Run {
    journal: Journal,
    writers: Vec<JournalWriter>,
    tallies: Vec<Arc<Tally>>,
    fleet: Fleet,
    landed: u64,
}

impl Run {
    pub(crate) fn start(
        place: &TempDir,
        brokers: Vec<impl Carrier + 'static>,
        retention: Retention,
        window: usize,
    ) -> Self {
        let named =
            |(broker, name)| Destination { name: str::to_owned(name), carrier: Box::new(broker) };
        let destinations: Vec<_> = brokers.into_iter().zip(NAMES).map(named).collect();
        let cursors = CursorPositions::read(place.path(), &destinations).unwrap();
        assert_eq!(cursors.damaged, Vec::<String>::new());
        let readers = cursors.positions;
        let journal = Journal::open(JournalSpec {
            dir: place.path().to_owned(),
            writer: WriterSpec {
                commit_interval: Duration::ZERO,
                commit_bytes: 1,
                segment_bytes: 2000,
                segment_age: Duration::from_secs(3600),
            },
            buffer_bytes: 1 << 20,
            retention,
            readers: readers.clone(),
        })
        .unwrap();
        let lanes = destinations.len();
        let tallies: Vec<_> = (0..WORKERS).map(|_| Arc::new(Tally::new(lanes))).collect();
        let writers = (0..WORKERS).map(|worker| journal.writer(worker, WORKERS)).collect();
        let fleet = Fleet::start(&journal, destinations, readers, (&tallies, 0), window).unwrap();
        Self { journal, writers, tallies, fleet, landed: 0 }
    }

    /// A datagram of so many records, numbered from `first` on. A peer has one worker.
    pub(crate) fn land(&mut self, peer: u16, first: u64, records: u64) {
        let worker = usize::from(peer) % WORKERS;
        let writer = &mut self.writers[worker];
        let now = Instant::now();
        for number in first..first + records {
            let record = Record {
                received_unix_ns: number + 1,
                peer: SocketAddr::from(([127, 0, 0, 1], peer)),
                listener: 0,
                continued: false,
                payload: &number.to_le_bytes(),
            };
            writer.push(&record, now);
        }
        writer.end_datagram(now);
        self.landed += 1;
    }

    pub(crate) fn commit(&mut self) {
        let lanes = self.fleet.watch().stats().len();
        for (writer, tally) in self.writers.iter_mut().zip(&self.tallies) {
            let mut tell = |run| (0..lanes).for_each(|lane| tally.hand_over(lane, run));
            writer.commit(Instant::now(), &mut tell);
        }
    }

    pub(crate) fn totals(&self) -> (u64, u64) {
        let sum = |(a, b): (u64, u64), (c, d): (u64, u64)| (a + c, b + d);
        self.tallies.iter().map(|tally| tally.totals()).fold((0, 0), sum)
    }

    pub(crate) fn notices(&self) -> Vec<String> {
        self.journal.notices().take()
    }

    /// The statistics of the first destination.
    pub(crate) fn counts(&self) -> ShipCounts {
        self.fleet.watch().stats().swap_remove(0).counts
    }

    pub(crate) fn stats(&self) -> ShipStats {
        self.fleet.watch().stats().swap_remove(0)
    }

    pub(crate) fn watch(&self) -> Watch {
        self.fleet.watch().clone()
    }

    pub(crate) fn drained(&self) -> bool {
        self.fleet.watch().stats().iter().all(|one| one.backlog.records == 0)
    }

    /// Ends the shippers; returns their last figures, and those of all datagrams.
    pub(crate) fn leave(self) -> (ShipStats, (u64, u64)) {
        let Self { journal, writers, tallies, fleet, .. } = self;
        let watch = fleet.watch().clone();
        drop(fleet);
        let sum = |(a, b): (u64, u64), (c, d): (u64, u64)| (a + c, b + d);
        let totals = tallies.iter().map(|tally| tally.totals()).fold((0, 0), sum);
        drop(writers);
        journal.close();
        (watch.stats().swap_remove(0), totals)
    }

    /// Ends it as a crash would, as far as the shippers can tell: nothing is waited for.
    pub(crate) fn end(self) {
        let Self { journal, writers, fleet, .. } = self;
        drop(fleet);
        drop(writers);
        journal.close();
    }
}

pub(crate) fn numbers_at(path: &Path) -> Vec<u64> {
    let mut reader = Reader::open(path).unwrap();
    let mut numbers = Vec::new();
    while let Next::Record { record, .. } = reader.read_next().unwrap() {
        numbers.push(number(record.payload));
    }
    numbers
}

pub(crate) fn numbers_in(dir: &Path) -> Vec<u64> {
    segment::list(dir).unwrap().iter().flat_map(|one| numbers_at(&one.path)).collect()
}

pub(crate) fn dead_letters(place: &TempDir) -> Vec<Vec<u64>> {
    let dirs = fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().path());
    let dead = dirs.filter(|path| path.is_dir());
    dead.map(|path| numbers_in(&path)).collect()
}

#[derive(Clone, Debug)]
enum Step {
    Land(u16, u64),
    Commit,
    Away(bool),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0..5u16, 1..4u64).prop_map(|(peer, records)| Step::Land(peer, records)),
        3 => Just(Step::Commit),
        1 => any::<bool>().prop_map(Step::Away),
        1 => Just(Step::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Whatever the brokers do and whenever it is restarted: each has every record it does not refuse,
    /// once behind its window of repeats, in order of its peer; the refused are dead letters; and every
    /// datagram is settled.
    #[test]
    fn every_record_arrives_in_order_or_is_a_dead_letter(
        steps in proptest::collection::vec(step(), 1..150), seed: u64, window in 1..60usize,
    ) {
        let place = temp_dir();
        let logs: [Arc<Mutex<Log>>; 2] = Default::default();
        let away = Arc::new(AtomicBool::new(false));
        let brokers = |turn: u64| -> Vec<Broker> {
            logs.iter().zip(1u64..).map(|(log, which)| Broker {
                log: Arc::clone(log),
                away: Arc::clone(&away),
                seed: seed ^ (which << 32) ^ turn,
                under_way: VecDeque::new(),
                told: Vec::new(),
                taken: None,
            }).collect()
        };
        let mut run = Run::start(&place, brokers(0), Retention::default(), window);
        let mut next = 0;
        let mut sent: BTreeMap<SocketAddr, Vec<u64>> = BTreeMap::new();
        for (turn, step) in (1u64..).zip(steps) {
            match step {
                Step::Land(peer, records) => {
                    run.land(peer, next, records);
                    let peer = SocketAddr::from(([127, 0, 0, 1], peer));
                    sent.entry(peer).or_default().extend(next..next + records);
                    next += records;
                }
                Step::Commit => run.commit(),
                Step::Away(is_away) => away.store(is_away, Ordering::Release),
                Step::Restart => {
                    run.commit();
                    run.end();
                    run = Run::start(&place, brokers(turn), Retention::default(), window);
                }
            }
        }
        away.store(false, Ordering::Release);
        run.commit();
        until("everything to be shipped", || run.drained());
        let landed = run.landed;
        until("every datagram to be settled", || {
            let (delivered, undelivered) = run.totals();
            delivered + undelivered == landed
        });
        run.end();
        for log in &logs {
            let log = log.lock().unwrap();
            for (peer, numbers) in &sent {
                let wanted: Vec<u64> =
                    numbers.iter().copied().filter(|number| !is_refused(*number)).collect();
                let of_peer = log.messages.iter().filter(|(from, _)| from == peer);
                let got: Vec<u64> = of_peer.map(|(_, number)| *number).collect();
                prop_assert_eq!(&got, &wanted, "{}", peer);
            }
        }
        let refused: HashSet<u64> = (0..next).filter(|number| is_refused(*number)).collect();
        let dead = dead_letters(&place);
        prop_assert_eq!(dead.len(), if refused.is_empty() { 0 } else { 2 });
        for letters in dead {
            // A crash between a letter and the cursor repeats it.
            prop_assert_eq!(&letters.iter().copied().collect::<HashSet<_>>(), &refused);
        }
    }
}

/// A datagram is delivered when both have it, and undelivered once if either refuses a record of it.
#[test]
fn datagrams_are_settled_when_all_destinations_have_them() {
    let place = temp_dir();
    let away = Arc::new(AtomicBool::new(true));
    let broker = |away: &Arc<AtomicBool>| Broker::with(&Arc::default(), away);
    let here = Arc::new(AtomicBool::new(false));
    let brokers = vec![broker(&here), broker(&away)];
    let mut run = Run::start(&place, brokers, Retention::default(), 100);
    // Numbers 0 to 25, two a datagram: 5 and 18 are refused.
    (0..13).for_each(|n| run.land(1, 2 * n, 2));
    run.commit();
    until("the first to have all", || run.fleet.watch().stats()[0].backlog.records == 0);
    let stats = run.fleet.watch().stats();
    assert_eq!((stats[0].counts.acknowledged, stats[0].counts.dead_lettered), (24, 2));
    assert_eq!(stats[1].counts.acknowledged, 0);
    assert_eq!(run.totals(), (0, 0), "the other has none yet");
    away.store(false, Ordering::Release);
    until("the second to have all", || run.drained());
    until("every datagram to be settled", || run.totals() == (11, 2));
    run.end();
}

/// A spool that is full lets the oldest go, and says how many: every datagram is settled all the same.
#[test]
fn what_a_full_spool_lets_go_is_counted() {
    let place = temp_dir();
    let away = Arc::new(AtomicBool::new(true));
    let log = Arc::<Mutex<Log>>::default();
    let broker = Broker::with(&log, &away);
    let retention =
        Retention { only_unsent: true, spool_bytes: Some(10_000), ..Retention::default() };
    let mut run = Run::start(&place, vec![broker], retention, 5);
    let mut next = 0;
    until("segments to be let go", || {
        if next < 3000 {
            run.land(1, next, 1);
            run.commit();
            next += 1;
        }
        let kept: u64 = segment::list(place.path()).unwrap().iter().map(|one| one.bytes).sum();
        next == 3000 && kept < 16_000
    });
    let notices = run.journal.notices().take();
    assert!(notices.iter().any(|text| text.contains("--spool-bytes")), "{notices:?}");
    away.store(false, Ordering::Release);
    until("the rest to be shipped", || run.drained());
    let counts = &run.fleet.watch().stats()[0].counts;
    assert_eq!(counts.acknowledged + counts.dead_lettered + counts.undelivered, next);
    assert!(counts.undelivered > 2500, "{counts:?}");
    let has = log.lock().unwrap().messages.len() as u64;
    // The broker may have more of a window that was sent and given up before the answers came.
    assert!((counts.acknowledged..=counts.acknowledged + 5).contains(&has), "{counts:?}, {has}");
    let (delivered, undelivered) = run.totals();
    assert_eq!((delivered, delivered + undelivered), (counts.acknowledged, next));
    until("what was sent to be let go", || segment::list(place.path()).unwrap().len() <= 1);
    run.end();
    let left: Vec<u64> = log.lock().unwrap().messages.iter().map(|(_, number)| *number).collect();
    assert!(left.is_sorted() && left.last().is_some_and(|last| *last >= next - 2), "{left:?}");
}
