//! From a socket through the journal to a Kafka broker, while either end dies.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child as Process, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ringest::journal::open::{Journal, JournalSpec};
use ringest::journal::reader::{Next, Reader};
use ringest::journal::segment;
use ringest::ship::fleet::{Bearings, Destination, Fleet};
use ringest::ship::kafka::Kafka;

use crate::journal_rig::{self, Place, Sender};
use crate::kafka_rig::{Kept, TOPIC, WINDOW, read_to_end, rounds, spec};
use crate::object_store::ObjectStore;
use crate::support::DEADLINE;
use crate::tansu::{Storage, Tansu};

/// Receives, ships, and tells line by line how far it is.
#[test]
#[ignore = "runs in a child process"]
fn child_that_ships_until_it_is_killed() {
    let env = |name: &str| std::env::var(name).unwrap();
    let dir = env("JOURNAL");
    let properties = [("enable.idempotence", &*env("IDEMPOTENT"))];
    let carrier = Kafka::new(&spec(&env("BROKERS"), TOPIC, &properties)).unwrap();
    let destinations = vec![Destination { name: "kafka".to_owned(), carrier: Box::new(carrier) }];
    let readers = Bearings::take(Path::new(&dir), &destinations).unwrap().positions;
    let journal = JournalSpec { readers: readers.clone(), ..journal_rig::spec(Path::new(&dir)) };
    let journal = Journal::open(journal).unwrap();
    let engine = journal_rig::start(&journal);
    let fleet = Fleet::start(&journal, destinations, readers, (&[], 0), WINDOW).unwrap();
    println!("listening {}", engine.addresses()[0]);
    let mut told = None;
    loop {
        let stats = fleet.watch().stats();
        let (waiting, acknowledged) = (stats[0].backlog.records, stats[0].counts.acknowledged);
        let now = (engine.stats().ledger.delivered, waiting, acknowledged);
        if Some(now) != told {
            println!("standing {} {} {}", now.0, now.1, now.2);
            told = Some(now);
        }
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

/// What the child told last: datagrams in the journal and records at the broker since it started, and
/// records that wait for it.
#[derive(Debug, Default)]
struct Standing {
    delivered: AtomicU64,
    waiting: AtomicU64,
    acknowledged: AtomicU64,
}

/// Such a child. Killed when dropped.
#[derive(Debug)]
struct Ringest {
    process: Process,
    address: SocketAddr,
    standing: Arc<Standing>,
    listener: Option<JoinHandle<()>>,
}

impl Ringest {
    fn start(place: &Place, tansu: &Tansu, idempotent: bool) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "kafka_ship::child_that_ships_until_it_is_killed"])
            .args(["--ignored", "--nocapture", "--test-threads=1"])
            .env("JOURNAL", &place.0)
            .env("BROKERS", tansu.address())
            .env("IDEMPOTENT", idempotent.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let address = lines
            .find_map(|line| line.ok()?.split_once("listening ")?.1.parse().ok())
            .expect("it listens");
        let standing = Arc::<Standing>::default();
        standing.waiting.store(u64::MAX, Ordering::SeqCst);
        let told = Arc::clone(&standing);
        let tell = move || {
            for line in lines.map_while(Result::ok) {
                let words: Vec<&str> = line.split(' ').collect();
                if let ["standing", delivered, waiting, acknowledged] = words[..] {
                    told.delivered.store(delivered.parse().unwrap(), Ordering::SeqCst);
                    told.waiting.store(waiting.parse().unwrap(), Ordering::SeqCst);
                    told.acknowledged.store(acknowledged.parse().unwrap(), Ordering::SeqCst);
                }
            }
        };
        let listener = Some(std::thread::Builder::new().spawn(tell).unwrap());
        Self { process, address, standing, listener }
    }

    fn delivered(&self) -> u64 {
        self.standing.delivered.load(Ordering::SeqCst)
    }

    fn waiting(&self) -> u64 {
        self.standing.waiting.load(Ordering::SeqCst)
    }

    fn acknowledged(&self) -> u64 {
        self.standing.acknowledged.load(Ordering::SeqCst)
    }

    /// Sends until `done`.
    fn load(&self, what: &str, sender: &mut Sender, done: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        while !done(self) {
            assert!(Instant::now() < deadline, "hung: waited for {what}: {self:?}");
            sender.follow(self.address, self.delivered());
        }
    }

    /// Waits until the broker has all that was sent.
    fn drain(&self, sender: &Sender) {
        crate::support::until("the broker to have all", || {
            self.delivered() >= sender.sent && self.waiting() == 0
        });
    }

    fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        self.listener.take().unwrap().join().unwrap();
    }
}

impl Drop for Ringest {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What the journal has, in order: numbers by peer.
fn journal(dir: &Path) -> BTreeMap<String, Vec<u64>> {
    let mut numbers: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for one in segment::list(dir).unwrap() {
        let Ok(mut reader) = Reader::open(&one.path) else { continue };
        loop {
            match reader.read_next().unwrap() {
                Next::Record { record, .. } => {
                    let number = u64::from_le_bytes(*record.payload.first_chunk().unwrap());
                    numbers.entry(record.peer.to_string()).or_default().push(number);
                }
                Next::Damaged { offset, .. } => panic!("{one:?} is damaged at {offset}"),
                Next::End { .. } => break,
            }
        }
    }
    numbers
}

/// The topic has what the journal has, each peer's in its order, as it was; returns how many came again.
pub(crate) fn same(place: &Place, tansu: &Tansu) -> usize {
    let kept: Vec<Kept> = read_to_end(&tansu.address(), TOPIC);
    let mut numbers: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    let mut ids: HashMap<(Vec<u8>, Vec<u8>), String> = HashMap::new();
    let mut repeats = 0;
    for one in kept {
        let id = one.id();
        let payload = one.payload.unwrap();
        let number = u64::from_le_bytes(*payload.first_chunk().unwrap());
        assert_eq!(payload, journal_rig::payload(number));
        match ids.insert((one.key.clone(), payload), id.clone()) {
            // It can be known again by its id.
            Some(before) => {
                assert_eq!(before, id);
                repeats += 1;
            }
            None => {
                let peer = String::from_utf8(one.key).unwrap();
                numbers.entry(peer).or_default().push(number);
            }
        }
    }
    let distinct: HashSet<&String> = ids.values().collect();
    assert_eq!(distinct.len(), ids.len(), "no two records have one id");
    let expected = journal(&place.0);
    assert_eq!(numbers.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (peer, expected) in expected {
        assert!(numbers[&peer] == expected, "{peer}: {:?} instead of {expected:?}", numbers[&peer]);
    }
    repeats
}

#[test]
fn killed_under_load_it_ships_all_that_is_committed_and_repeats_no_more_than_a_window() {
    let Some(tansu) = Tansu::start(Storage::Memory) else { return };
    tansu.create_topic(TOPIC, 3);
    let place = Place::new("kafka-killed");
    let rounds = rounds();
    let mut sender = Sender::new();
    for round in 1..=rounds as u64 {
        let ringest = Ringest::start(&place, &tansu, true);
        sender.begin();
        // Early and late, with more or less under way.
        let count = round * 977 % 1500;
        ringest.load("records", &mut sender, |ringest| ringest.acknowledged() >= count);
        ringest.kill();
    }
    let ringest = Ringest::start(&place, &tansu, true);
    sender.begin();
    ringest.load("the last ones", &mut sender, |ringest| ringest.delivered() >= 100);
    ringest.drain(&sender);
    ringest.kill();
    let repeats = same(&place, &tansu);
    println!("{repeats} records came again in {rounds} rounds");
    // Those under way, and those whose acknowledgement was not kept yet.
    assert!(repeats <= 2 * WINDOW * rounds);
}

#[test]
fn while_the_broker_is_away_it_receives_and_then_ships_all() {
    let Some(mut tansu) = Tansu::start(Storage::Objects(ObjectStore::start())) else { return };
    tansu.create_topic(TOPIC, 3);
    let place = Place::new("kafka-away");
    let mut sender = Sender::new();
    // Without idempotence: see a_broker_killed_under_load_has_every_record_when_it_is_back.
    let ringest = Ringest::start(&place, &tansu, false);
    sender.begin();
    for round in 1..=rounds() as u64 {
        let before = ringest.delivered();
        ringest.load("some of them", &mut sender, |now| now.delivered() >= before + 500);
        tansu.kill();
        let more = ringest.delivered() + 2000;
        ringest.load("records that wait", &mut sender, |now| now.delivered() >= more);
        assert!(ringest.waiting() > 1000, "round {round}: {ringest:?}");
        tansu.restart();
        // It catches up beside what still comes.
        ringest.load("it to catch up", &mut sender, |now| now.waiting() < 1000);
    }
    ringest.drain(&sender);
    ringest.kill();
    let repeats = same(&place, &tansu);
    println!("{repeats} records came again");
    assert!(repeats <= WINDOW * rounds());
}
