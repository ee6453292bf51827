//! Tools for the tests of brokers: `ringest listen` between senders and a broker, either of which dies, and
//! the checks of the records that the broker has in the end.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use ringest_records::journal::read::reader::{Next, Reader};
use ringest_ship::carrier::MessageId;
use serde_json::Value;

use tempfile::TempDir;

use crate::journal::rig;
use crate::journal::rig::{Sender, temp_dir};
use crate::ship::program_rig::{Program, listen};

/// How long anything may take on a busy machine: a broker to be away and to be caught up with, a cluster to
/// choose a leader. What is hung takes longer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(300);

/// More records wait than that: there is a backlog. Fewer are always on their way.
const BACKLOG: u64 = 500;

/// Records to be taken before something dies, and while it is away.
const SOME: usize = 300;
const MEANWHILE: usize = 1000;

/// Returns how often something dies: `few` times, or `RINGEST_BROKER_ROUNDS`.
pub(crate) fn rounds(few: usize) -> usize {
    rig::rounds("RINGEST_BROKER_ROUNDS", few as u64).try_into().unwrap()
}

/// Returns how long a broker is away each time: just long enough to be noticed, and the last time as long as
/// `RINGEST_BROKER_AWAY` says.
pub(crate) fn absences(few: usize) -> Vec<Duration> {
    let mut absences = vec![Duration::ZERO; rounds(few)];
    let long = std::env::var("RINGEST_BROKER_AWAY").ok();
    absences.extend(long.map(|text| {
        let seconds = text.strip_suffix('s').and_then(|number| number.parse().ok());
        Duration::from_secs(seconds.expect("RINGEST_BROKER_AWAY is seconds, such as 60s"))
    }));
    absences
}

/// A record, as a journal or a broker has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) id: String,
    pub(crate) peer: String,
    pub(crate) payload: Vec<u8>,
}

/// A broker with a place for the records of one test.
pub(crate) trait Broker {
    /// Returns the value of `--sink` for this broker.
    fn sink(&self) -> String;

    /// Returns how many records it has, at least, as far as it says so now.
    fn count(&mut self) -> u64;

    /// Returns all its records, each peer's in the order they are stored.
    fn contents(&mut self) -> Vec<Held>;

    /// Ends it as a crash would: SIGKILL.
    fn kill(&mut self);

    /// Brings it back, with what it had.
    fn start(&mut self);
}

/// Checks that the broker has every record of the journal unchanged, by its id, each peer's in order, and
/// nothing else. Returns the number of further copies.
pub(crate) fn compare(journal: &[Held], broker: &[Held]) -> usize {
    let places: HashMap<&str, usize> =
        journal.iter().enumerate().map(|(place, held)| (held.id.as_str(), place)).collect();
    assert_eq!(places.len(), journal.len(), "no two records have one id");
    let mut seen = vec![false; journal.len()];
    let mut last: HashMap<&str, usize> = HashMap::new();
    let mut repeats = 0;
    for held in broker {
        let place = *places.get(held.id.as_str()).expect("nothing that the journal has not");
        assert_eq!(*held, journal[place], "{place}");
        if std::mem::replace(&mut seen[place], true) {
            repeats += 1;
            continue;
        }
        let before = last.insert(&held.peer, place);
        assert!(before.is_none_or(|before| before < place), "{before:?} comes before {place}");
    }
    let missing: Vec<usize> = (0..seen.len()).filter(|place| !seen[*place]).collect();
    assert!(missing.is_empty(), "{} are missing: {missing:.20?}", missing.len());
    repeats
}

/// A journal of one worker as it is read while it is written.
#[derive(Debug)]
struct Tail {
    dir: PathBuf,
    sequence: u64,
    reader: Option<Reader>,
    records: Vec<Held>,
}

impl Tail {
    fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), sequence: 1, reader: None, records: Vec::new() }
    }

    /// Reads on, as far as there is something.
    fn read(&mut self) {
        loop {
            if self.reader.is_none() {
                // It may not be there yet, or have no header yet.
                self.reader = Reader::find(&self.dir, 0, self.sequence).ok();
            }
            let Some(reader) = &mut self.reader else { return };
            let first = MessageId::first_of(reader.header(), 0, self.sequence);
            let (offset, damaged) = match reader.read_next().unwrap() {
                Next::Record { offset, record } => {
                    let id = MessageId { offset, ..first };
                    self.records.push(Held {
                        id: id.to_string(),
                        peer: record.peer.to_string(),
                        payload: record.payload.to_vec(),
                    });
                    continue;
                }
                Next::End { offset, .. } => (offset, false),
                Next::Damaged { offset, .. } => (offset, true),
            };
            if reader.footer().is_none() {
                // Go back, so that the next call reads again from here.
                return reader.go_back(offset);
            }
            assert!(!damaged, "segment {} is damaged at {offset}", self.sequence);
            (self.reader, self.sequence) = (None, self.sequence + 1);
        }
    }
}

/// Where the records of a test are between their senders and their broker.
#[derive(Debug)]
pub(crate) struct Stage {
    place: TempDir,
    flags: [String; 2],
    tail: Tail,
    /// How many there were when the program was started.
    before: usize,
    sender: Sender,
}

impl Stage {
    /// Makes a stage with a journal that keeps its records.
    pub(crate) fn journal() -> Self {
        let place = temp_dir();
        let sink = format!("journal:{}", place.path().display());
        Self::with(place, ["--sink".to_owned(), sink])
    }

    /// Makes a stage with a spool that keeps records until they are sent.
    pub(crate) fn spool() -> Self {
        let place = temp_dir();
        let dir = place.path().display().to_string();
        Self::with(place, ["--spool".to_owned(), dir])
    }

    fn with(place: TempDir, flags: [String; 2]) -> Self {
        let tail = Tail::new(place.path());
        Self { place, flags, tail, before: 0, sender: Sender::of(40) }
    }

    pub(crate) fn dir(&self) -> &Path {
        self.place.path()
    }

    /// Returns how many datagrams were sent to the program that was started last.
    pub(crate) fn sent(&self) -> u64 {
        self.sender.sent
    }

    /// Returns all records that its journal ever held, also those that a spool has removed since.
    pub(crate) fn records(&mut self) -> &[Held] {
        self.tail.read();
        &self.tail.records
    }

    /// Returns the command for the program, into the journal and on to the broker.
    pub(crate) fn command(&self, broker: &impl Broker, more: &[&str]) -> Command {
        let sink = broker.sink();
        let flags = self.flags.iter().map(String::as_str);
        let flags = flags.chain(["--sink", &sink, "--segment-bytes", "1M"]);
        listen(flags.chain(more.iter().copied()))
    }

    /// Starts such a command.
    pub(crate) fn run(&mut self, command: Command) -> Program {
        self.before = self.records().len();
        self.sender.begin();
        Program::start(command)
    }

    pub(crate) fn start(&mut self, broker: &impl Broker, more: &[&str]) -> Program {
        self.run(self.command(broker, more))
    }

    /// Sends, as fast as the journal takes it, until `done`, which is told how many records the journal has.
    pub(crate) fn load(
        &mut self,
        program: &Program,
        what: &str,
        mut done: impl FnMut(usize) -> bool,
    ) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let records = self.records().len();
            if done(records) {
                return;
            }
            let hung = program.has_ended() || Instant::now() > deadline;
            assert!(!hung, "hung: waited for {what}, of {records}: {}", program.said());
            while self.sender.follow(program.address, (records - self.before) as u64) {}
            std::thread::yield_now();
        }
    }

    /// Sends until the broker has so many more.
    pub(crate) fn load_until_it_has(
        &mut self,
        program: &Program,
        broker: &mut impl Broker,
        more: u64,
    ) {
        let before = broker.count();
        self.load(program, "records at the broker", |_| broker.count() > before + more);
    }

    /// Sends until the journal has some more, most of which are at the broker.
    pub(crate) fn load_some(&mut self, program: &Program) {
        let enough = self.records().len() + SOME;
        self.load(program, "some more", |records| records >= enough);
        self.load_until_it_catches_up(program);
    }

    /// Sends for so long, and until the journal has so many more that a loss would show; tells of the
    /// program's backlog whenever that is shown.
    pub(crate) fn load_meanwhile(
        &mut self,
        program: &Program,
        length: Duration,
        mut done: impl FnMut(Option<u64>) -> bool,
    ) {
        let (until, enough) = (Instant::now() + length, self.records().len() + MEANWHILE);
        self.load(program, "records while something is away", |records| {
            done(program.waiting()) && records >= enough && Instant::now() >= until
        });
    }

    /// Sends until nothing waits for the broker but what has just come.
    pub(crate) fn load_until_it_catches_up(&mut self, program: &Program) {
        self.load(program, "it to catch up", |_| {
            program.waiting().is_some_and(|waiting| waiting < BACKLOG)
        });
    }

    /// Stops the program, whose broker must have all that was sent, and the ledger say so. Returns how many
    /// records came again.
    pub(crate) fn stop(&mut self, program: Program, broker: &mut impl Broker) -> usize {
        let (summary, _) = program.stop();
        all_was_taken(&summary, self.sent());
        assert_eq!(summary["delivered"], self.sent(), "{summary:#}");
        assert!(summary["pending"].is_null(), "{summary:#}");
        let destination = &summary["destinations"][0];
        for key in ["dead_lettered", "undelivered", "in_flight", "backlog_records"] {
            assert_eq!(destination[key], 0, "{key}: {summary:#}");
        }
        assert!(destination["acknowledged"].as_u64() >= Some(self.sent()), "{summary:#}");
        compare(self.records(), &broker.contents())
    }
}

/// Checks that none of `sent` datagrams was lost.
pub(crate) fn all_was_taken(summary: &Value, sent: u64) {
    assert_eq!(summary["received"], sent, "{summary:#}");
    assert_eq!(summary["handled"], sent, "{summary:#}");
    let dropped = summary["dropped"].as_object().unwrap();
    assert!(dropped.values().all(|count| *count == 0), "{summary:#}");
    for key in ["queued", "rejected", "undelivered", "unread_at_stop", "residual"] {
        assert_eq!(summary[key], 0, "{key}: {summary:#}");
    }
}

/// Kills the program under load, again and again, and starts it again on the same journal. Returns how many
/// records came again.
pub(crate) fn program_dies(broker: &mut impl Broker, stage: &mut Stage, more: &[&str]) -> usize {
    for round in 1..=rounds(3) as u64 {
        let program = stage.start(broker, more);
        // Early and late, with more or less under way.
        stage.load_until_it_has(&program, broker, round * 977 % 1500);
        program.kill();
    }
    let program = stage.start(broker, &[more, &["--flush-timeout", "20s"]].concat());
    stage.load_until_it_has(&program, broker, 100);
    stage.load_until_it_catches_up(&program);
    stage.stop(program, broker)
}

/// Kills the broker under load and starts it again, again and again. Meanwhile the program goes on receiving
/// and shows how much waits; then it catches up while more comes. Returns how many records came again.
pub(crate) fn broker_dies(
    broker: &mut impl Broker,
    stage: &mut Stage,
    absences: &[Duration],
    more: &[&str],
) -> usize {
    let program = stage.start(broker, &[more, &["--flush-timeout", "20s"]].concat());
    for length in absences {
        stage.load_some(&program);
        broker.kill();
        let mut shown = Vec::new();
        stage.load_meanwhile(&program, *length, |waiting| {
            if waiting.is_some() && shown.last() != waiting.as_ref() {
                shown.extend(waiting);
            }
            waiting.is_some_and(|waiting| waiting > BACKLOG)
        });
        // The first figure may be from before.
        assert!(shown[1..].is_sorted(), "what waits only grows: {shown:?}");
        broker.start();
        stage.load_until_it_catches_up(&program);
        if !length.is_zero() {
            println!("away for {length:?}: {shown:?} waited, of {}", stage.sent());
        }
    }
    stage.stop(program, broker)
}

/// Stops the program while its broker is away: it says how much waits, and sends it when it is started again.
/// Returns how many records came again.
pub(crate) fn stopped_meanwhile(
    broker: &mut impl Broker,
    stage: &mut Stage,
    more: &[&str],
) -> usize {
    let program = stage.start(broker, &[more, &["--flush-timeout", "100ms"]].concat());
    stage.load_some(&program);
    broker.kill();
    stage.load_meanwhile(&program, Duration::ZERO, |_| true);
    let (summary, _) = program.stop();
    all_was_taken(&summary, stage.sent());
    let count = |value: &Value| value.as_u64().unwrap();
    let (delivered, pending) = (count(&summary["delivered"]), count(&summary["pending"]));
    assert_eq!(delivered + pending, stage.sent(), "{summary:#}");
    assert!(pending >= MEANWHILE as u64, "{summary:#}");
    let destination = &summary["destinations"][0];
    assert_eq!(count(&destination["backlog_records"]), pending, "{summary:#}");
    assert!(destination["trouble"].is_string(), "{summary:#}");
    broker.start();
    let program = stage.start(broker, &[more, &["--flush-timeout", "20s"]].concat());
    stage.load_until_it_catches_up(&program);
    stage.stop(program, broker)
}
