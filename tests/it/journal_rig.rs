//! A journal to break: its directory, an engine that writes it, here or in a process that can be killed,
//! and a reader that takes nothing for granted.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child as Process, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use ringest::decode::intake::Formats;
use ringest::journal::janitor::Retention;
use ringest::journal::open::{Journal, JournalSpec};
use ringest::journal::reader::{Next, Reader};
use ringest::journal::segment;
use ringest::journal::writer::WriterSpec;
use ringest::sink::landing::Landing;
use ringest::{BackendChoice, Builder, Engine};

use crate::support::small;

/// A directory that goes with the test.
#[derive(Debug)]
pub(crate) struct Place(pub(crate) PathBuf);

impl Place {
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("ringest-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Commits every 5 ms, into small segments.
pub(crate) fn spec(dir: &Path) -> JournalSpec {
    JournalSpec {
        dir: dir.to_owned(),
        writer: WriterSpec {
            commit_interval: Duration::from_millis(5),
            commit_bytes: 64 << 10,
            segment_bytes: 256 << 10,
            segment_age: Duration::from_secs(3600),
        },
        buffer_bytes: 4 << 20,
        retention: Retention::default(),
        readers: Vec::new(),
    }
}

pub(crate) fn open(dir: &Path) -> Journal {
    Journal::open(spec(dir)).unwrap()
}

pub(crate) fn start(journal: &Journal) -> Engine {
    start_with(small(BackendChoice::Auto), journal)
}

/// The same with an engine of other dimensions.
pub(crate) fn start_with(builder: Builder, journal: &Journal) -> Engine {
    let formats = Formats::raw();
    builder
        .listen("127.0.0.1:0".parse::<SocketAddr>().unwrap())
        .reply_bytes(0)
        .idle_tick(Duration::from_millis(5))
        .start(|worker| Landing::new(formats.intake(), vec![Box::new(journal.pen(worker, 1))]))
        .unwrap()
}

/// A payload that says its number, and is as long as that tells.
pub(crate) fn payload(number: u64) -> Vec<u8> {
    let mut bytes = number.to_le_bytes().to_vec();
    let filling = bytes[0];
    bytes.resize(8 + usize::try_from(number * 7 % 900).unwrap(), filling);
    bytes
}

/// How often to do something to the journal: as the environment says, or as often as there is time for.
pub(crate) fn rounds(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// What is in a journal, segment by segment.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    pub(crate) payloads: Vec<Vec<u8>>,
    /// Places that are no record, with records behind them.
    pub(crate) damaged: Vec<(PathBuf, u64)>,
    pub(crate) torn_bytes: u64,
}

/// Reads all of a journal.
pub(crate) fn contents(dir: &Path) -> Contents {
    let mut contents = Contents::default();
    for one in segment::list(dir).unwrap() {
        // One that was begun a moment ago may have no header yet.
        let Ok(mut reader) = Reader::open(&one.path) else {
            assert_eq!(one.bytes, 0, "{one:?} is no segment");
            continue;
        };
        loop {
            match reader.read_next().unwrap() {
                Next::Record { record, .. } => contents.payloads.push(record.payload.to_vec()),
                Next::Damaged { offset, .. } => contents.damaged.push((one.path.clone(), offset)),
                Next::End { torn_bytes, .. } => {
                    contents.torn_bytes += torn_bytes;
                    break;
                }
            }
        }
    }
    contents
}

impl Contents {
    /// Their numbers; each is checked to be as it was sent.
    pub(crate) fn numbers(&self) -> Vec<u64> {
        let number = |bytes: &Vec<u8>| {
            let number = u64::from_le_bytes(*bytes.first_chunk().unwrap());
            assert_eq!(*bytes, payload(number));
            number
        };
        self.payloads.iter().map(number).collect()
    }
}

/// The numbers in a journal in which nothing is damaged.
pub(crate) fn numbers(dir: &Path) -> Vec<u64> {
    let contents = contents(dir);
    assert!(contents.damaged.is_empty(), "{:?}", contents.damaged);
    contents.numbers()
}

/// Runs an engine on the journal of the environment and tells, line by line, what is delivered.
#[test]
#[ignore = "runs in a child process"]
fn child_that_writes_until_it_is_killed() {
    let journal = open(Path::new(&std::env::var("JOURNAL").unwrap()));
    let engine = start(&journal);
    println!("listening {}", engine.addresses()[0]);
    let mut told = 0;
    loop {
        let delivered = engine.stats().ledger.delivered;
        if delivered > told {
            println!("delivered {delivered}");
            told = delivered;
        }
        std::thread::yield_now();
    }
}

/// A writer in a process of its own, killed when dropped.
#[derive(Debug)]
pub(crate) struct Writer {
    process: Process,
    pub(crate) address: SocketAddr,
    delivered: Arc<AtomicU64>,
    listener: Option<JoinHandle<()>>,
}

impl Writer {
    pub(crate) fn start(dir: &Path) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "journal_rig::child_that_writes_until_it_is_killed"])
            .args(["--ignored", "--nocapture", "--test-threads=1"])
            .env("JOURNAL", dir)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let address = lines
            .find_map(|line| line.ok()?.split_once("listening ")?.1.parse().ok())
            .expect("it listens");
        let delivered = Arc::new(AtomicU64::new(0));
        let told = Arc::clone(&delivered);
        let tell = move || {
            for line in lines.map_while(Result::ok) {
                let count = line.split_once("delivered ").and_then(|(_, count)| count.parse().ok());
                told.fetch_max(count.unwrap_or(0), Ordering::SeqCst);
            }
        };
        let listener = Some(std::thread::Builder::new().spawn(tell).unwrap());
        Self { process, address, delivered, listener }
    }

    pub(crate) fn delivered(&self) -> u64 {
        self.delivered.load(Ordering::SeqCst)
    }

    /// Kills it, and returns all it had told by then.
    pub(crate) fn kill(mut self) -> u64 {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        self.listener.take().unwrap().join().unwrap();
        self.delivered()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Sends numbered payloads, never more than so many ahead of what was taken: a pace anybody follows.
#[derive(Debug)]
pub(crate) struct Sender {
    socket: UdpSocket,
    /// The number of the next one.
    pub(crate) next: u64,
    /// How many were sent since [`Self::begin`].
    pub(crate) sent: u64,
}

/// A receive buffer of the kernel's default size holds more.
const AHEAD: u64 = 100;

impl Sender {
    pub(crate) fn new() -> Self {
        Self { socket: UdpSocket::bind("127.0.0.1:0").unwrap(), next: 0, sent: 0 }
    }

    /// To a receiver that has taken nothing yet. The answer is the number of the first.
    pub(crate) fn begin(&mut self) -> u64 {
        self.sent = 0;
        self.next
    }

    /// Sends one, if the receiver has followed so far.
    pub(crate) fn follow(&mut self, to: SocketAddr, taken: u64) {
        if self.sent < taken + AHEAD {
            self.socket.send_to(&payload(self.next), to).unwrap();
            self.next += 1;
            self.sent += 1;
        }
    }
}
