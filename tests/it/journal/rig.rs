//! A journal to break: its directory, an engine that writes it, here or in a process that can be killed,
//! and a reader that takes nothing for granted.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child as Process, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ringest::{BackendChoice, Builder, Engine};
use ringest_records::decode::stage::Formats;
use ringest_records::journal::keep::janitor::Retention;
use ringest_records::journal::open::{Journal, JournalSpec};
use ringest_records::journal::read::reader::{Next, Reader};
use ringest_records::journal::segment;
use ringest_records::journal::segment::SegmentFile;
use ringest_records::journal::writer::WriterSpec;
use ringest_records::sink::handler::SinkHandler;

use tempfile::TempDir;

use crate::engine::fallback;
use crate::rigs::support::{DEADLINE, small};

/// Makes a directory that is removed when dropped. In memory where there is such a file system: a disk that all
/// tests share may take half a minute for a sync, and the page cache survives a process that is killed anywhere.
pub(crate) fn temp_dir() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
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

/// Starts an engine of other dimensions on the journal.
pub(crate) fn start_with(builder: Builder, journal: &Journal) -> Engine {
    let formats = Formats::raw();
    builder
        .listen("127.0.0.1:0".parse::<SocketAddr>().unwrap())
        .reply_bytes(0)
        .idle_tick(Duration::from_millis(5))
        .start(|worker| {
            SinkHandler::new(formats.stage(), vec![Box::new(journal.writer(worker, 1))])
        })
        .unwrap()
}

/// Returns a payload that begins with its number, and whose length follows from it.
pub(crate) fn payload(number: u64) -> Vec<u8> {
    let mut bytes = number.to_le_bytes().to_vec();
    let filling = bytes[0];
    bytes.resize(8 + usize::try_from(number * 7 % 900).unwrap(), filling);
    bytes
}

/// Waits until there is no more to come, or fails the test as hung: when for as long as only a hung one takes
/// nothing moved. A disk that others use, too, may take its time for each sync.
pub(crate) fn while_moving(what: &str, mut moved: impl FnMut() -> Option<u64>) {
    let (mut before, mut since) = (0, Instant::now());
    while let Some(now) = moved() {
        if now != before {
            (before, since) = (now, Instant::now());
        }
        assert!(since.elapsed() < DEADLINE, "hung: waited for {what}");
        std::thread::yield_now();
    }
}

/// Returns how often to do something to the journal: as the environment says, or `otherwise`.
pub(crate) fn rounds(variable: &str, otherwise: u64) -> u64 {
    let given = std::env::var(variable).ok();
    given
        .map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("{variable} is a number")))
}

/// The records of a journal, segment by segment.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    pub(crate) payloads: Vec<Vec<u8>>,
    /// Places that are no record, with records behind them.
    pub(crate) damaged: Vec<(PathBuf, u64)>,
    pub(crate) torn_bytes: u64,
    /// Files that are no segment, or not yet.
    pub(crate) headless: Vec<SegmentFile>,
}

/// Reads all of a journal.
pub(crate) fn contents(dir: &Path) -> Contents {
    let mut contents = Contents::default();
    for one in segment::list(dir).unwrap() {
        let Ok(mut reader) = Reader::open(&one.path) else {
            contents.headless.push(one);
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
    /// Returns the numbers of all records; each is checked to be as it was sent, and none to be damaged.
    pub(crate) fn numbers(&self) -> Vec<u64> {
        let number = |bytes: &Vec<u8>| {
            let number = u64::from_le_bytes(*bytes.first_chunk().unwrap());
            assert_eq!(*bytes, payload(number));
            number
        };
        self.payloads.iter().map(number).collect()
    }
}

/// Returns the numbers of all records; each is checked to be as it was sent, and none to be damaged.
pub(crate) fn numbers(dir: &Path) -> Vec<u64> {
    let contents = contents(dir);
    assert!(contents.damaged.is_empty(), "{:?}", contents.damaged);
    // One that was begun a moment ago may have no header yet.
    let headless = &contents.headless;
    assert!(headless.iter().all(|one| one.bytes == 0), "{headless:?} are no segments");
    contents.numbers()
}

/// Runs an engine on the journal of the environment and tells, line by line, what is delivered.
#[test]
#[ignore = "runs in a child process"]
fn child_that_writes_until_it_is_killed() {
    let told = |name| std::env::var(name).ok();
    if told("IO_URING").as_deref() == Some("false") {
        fallback::refuse(libc::SYS_io_uring_setup, libc::EPERM.unsigned_abs());
    }
    #[cfg(feature = "fail-points")]
    if let (Some(step), Some(nth)) = (told("STEP"), told("NTH")) {
        die_at(&step, nth.parse().unwrap());
    }
    let mut spec = spec(Path::new(&told("JOURNAL").unwrap()));
    spec.retention.bytes = told("RETAIN_BYTES").map(|text| text.parse().unwrap());
    let journal = Journal::open(spec).unwrap();
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

/// Ends this process without any farewell when it comes to a step for the n-th time.
#[cfg(feature = "fail-points")]
fn die_at(step: &str, nth: u64) {
    let left = AtomicU64::new(nth);
    let die = move || {
        if left.fetch_sub(1, Ordering::SeqCst) == 1 {
            nix::sys::signal::kill(nix::unistd::getpid(), nix::sys::signal::SIGKILL).unwrap();
        }
    };
    fail::cfg_callback(step, die).unwrap();
}

/// How a writer in a process of its own is to live.
#[derive(Clone, Debug)]
pub(crate) struct Life {
    pub(crate) dir: PathBuf,
    pub(crate) io_uring: bool,
    /// It dies when it comes to this step for the n-th time.
    pub(crate) step: Option<(&'static str, u64)>,
    pub(crate) retain_bytes: Option<u64>,
    /// No file may get larger: writes fail then.
    pub(crate) file_bytes: Option<u64>,
}

impl Life {
    pub(crate) fn at(dir: &Path) -> Self {
        let dir = dir.to_owned();
        Self { dir, io_uring: true, step: None, retain_bytes: None, file_bytes: None }
    }

    /// Starts the writer. Returns `None` if it died before it listened.
    pub(crate) fn start(&self) -> Option<Writer> {
        let me = std::env::current_exe().unwrap();
        let mut command = match self.file_bytes {
            None => Command::new(me),
            Some(bytes) => {
                let mut command = Command::new("env");
                command.arg("--ignore-signal=XFSZ").arg("prlimit").arg(format!("--fsize={bytes}"));
                command.arg(me);
                command
            }
        };
        command
            .args(["--exact", "journal::rig::child_that_writes_until_it_is_killed"])
            .args(["--ignored", "--nocapture", "--test-threads=1"])
            .env("JOURNAL", &self.dir)
            .env("IO_URING", self.io_uring.to_string());
        if let Some((step, nth)) = self.step {
            command.env("STEP", step).env("NTH", nth.to_string());
        }
        if let Some(bytes) = self.retain_bytes {
            command.env("RETAIN_BYTES", bytes.to_string());
        }
        Writer::of(command.stdout(Stdio::piped()).spawn().unwrap())
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
        Life::at(dir).start().expect("it listens")
    }

    fn of(mut process: Process) -> Option<Self> {
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let address = lines.find_map(|line| line.ok()?.split_once("listening ")?.1.parse().ok());
        let Some(address) = address else {
            let status = process.wait().unwrap();
            assert_eq!(status.signal(), Some(libc::SIGKILL), "it ended by itself");
            return None;
        };
        let delivered = Arc::new(AtomicU64::new(0));
        let told = Arc::clone(&delivered);
        let tell = move || {
            for line in lines.map_while(Result::ok) {
                let count = line.split_once("delivered ").and_then(|(_, count)| count.parse().ok());
                told.fetch_max(count.unwrap_or(0), Ordering::SeqCst);
            }
        };
        let listener = Some(std::thread::Builder::new().spawn(tell).unwrap());
        Some(Self { process, address, delivered, listener })
    }

    pub(crate) fn delivered(&self) -> u64 {
        self.delivered.load(Ordering::SeqCst)
    }

    /// Feeds it until it says that so many are delivered.
    pub(crate) fn feed_until(&self, sender: &mut Sender, enough: u64) {
        while_moving("the writer to commit", || {
            let delivered = self.delivered();
            sender.follow(self.address, delivered);
            (delivered < enough).then_some(delivered + sender.sent)
        });
    }

    /// Tells whether it is dead. It ends by SIGKILL only.
    #[cfg(feature = "fail-points")]
    pub(crate) fn is_dead(&mut self) -> bool {
        let status = self.process.try_wait().unwrap();
        assert!(status.is_none_or(|status| status.signal() == Some(libc::SIGKILL)), "{status:?}");
        status.is_some()
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
    /// They send in turn.
    sockets: Vec<UdpSocket>,
    /// The number of the next one.
    pub(crate) next: u64,
    /// How many were sent since [`Self::begin`].
    pub(crate) sent: u64,
}

/// A receive buffer of the kernel's default size holds more.
const AHEAD: u64 = 100;

impl Sender {
    pub(crate) fn new() -> Self {
        Self::of(1)
    }

    /// Makes a sender with this many peers.
    pub(crate) fn of(peers: usize) -> Self {
        let sockets = (0..peers).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
        Self { sockets, next: 0, sent: 0 }
    }

    /// Turns to a receiver that has taken nothing yet. Returns the number of the first datagram.
    pub(crate) fn begin(&mut self) -> u64 {
        self.sent = 0;
        self.next
    }

    /// Sends one, if the receiver has followed so far; whether it did.
    pub(crate) fn follow(&mut self, to: SocketAddr, taken: u64) -> bool {
        let follows = self.sent < taken + AHEAD;
        if follows {
            let socket = usize::try_from(self.next).unwrap() % self.sockets.len();
            self.sockets[socket].send_to(&payload(self.next), to).unwrap();
            self.next += 1;
            self.sent += 1;
        }
        follows
    }
}
