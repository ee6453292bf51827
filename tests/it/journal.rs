//! The journal on real disks: the writer killed at any moment, the disk full, the directory gone. What
//! was said to be delivered is there, in order, whole, and nobody had to repair anything by hand.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child as Process, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ringest::decode::intake::Formats;
use ringest::journal::janitor::Retention;
use ringest::journal::open::{Journal, JournalSpec};
use ringest::journal::reader::{Next, Reader};
use ringest::journal::seal::is_intact;
use ringest::journal::segment;
use ringest::journal::writer::WriterSpec;
use ringest::sink::landing::Landing;
use ringest::{BackendChoice, Engine};

use crate::network::run;
use crate::support::{consistent, small, stop, until};

/// A directory that goes with the test.
#[derive(Debug)]
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
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

fn open(dir: &Path) -> Journal {
    Journal::open(JournalSpec {
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
    })
    .unwrap()
}

fn start(journal: &Journal) -> Engine {
    let formats = Formats::raw();
    small(BackendChoice::Auto)
        .listen("127.0.0.1:0".parse::<SocketAddr>().unwrap())
        .reply_bytes(0)
        .idle_tick(Duration::from_millis(5))
        .start(|worker| Landing::new(formats.intake(), vec![Box::new(journal.pen(worker, 1))]))
        .unwrap()
}

/// A payload that says its number, and is as long as that tells.
fn payload(number: u64) -> Vec<u8> {
    let mut bytes = number.to_le_bytes().to_vec();
    let filling = bytes[0];
    bytes.resize(8 + usize::try_from(number * 7 % 900).unwrap(), filling);
    bytes
}

/// The numbers in a journal, segment by segment; each record is checked to be whole.
fn numbers(dir: &Path) -> Vec<u64> {
    let mut numbers = Vec::new();
    for one in segment::list(dir).unwrap() {
        let mut reader = Reader::open(&one.path).unwrap();
        loop {
            match reader.read_next().unwrap() {
                Next::Record { record, .. } => {
                    let number = u64::from_le_bytes(*record.payload.first_chunk().unwrap());
                    assert_eq!(record.payload, payload(number));
                    numbers.push(number);
                }
                Next::Damaged { offset, bytes } => {
                    panic!("{:?}: {bytes} bytes at {offset} are no record", one.path);
                }
                Next::End { .. } => break,
            }
        }
    }
    numbers
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
struct Writer {
    process: Process,
    address: SocketAddr,
    delivered: Arc<AtomicU64>,
}

impl Writer {
    fn start(dir: &Path) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "journal::child_that_writes_until_it_is_killed"])
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
        std::thread::Builder::new().spawn(tell).unwrap();
        Self { process, address, delivered }
    }

    fn delivered(&self) -> u64 {
        self.delivered.load(Ordering::SeqCst)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// kill -9 at moments of all sorts, on one journal: after each, all that was told is there.
#[test]
fn a_writer_that_is_killed_leaves_all_it_committed() {
    let place = Place::new("killed");
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut next = 0;
    for round in 0..12u64 {
        let before = numbers(&place.0).len() as u64;
        let writer = Writer::start(&place.0);
        let (first, mut sent) = (next, 0);
        // So many commits into it, with more on the way.
        let enough = 1 + round * round * 40;
        until("the writer to commit", || {
            if sent < writer.delivered() + 200 {
                socket.send_to(&payload(next), writer.address).unwrap();
                next += 1;
                sent += 1;
            }
            writer.delivered() >= enough
        });
        let told = writer.delivered();
        drop(writer);
        let found = numbers(&place.0);
        assert!(found.len() as u64 >= before + told, "{told} told, {} found", found.len());
        let whole: Vec<u64> = (first..first + told).collect();
        let new = &found[usize::try_from(before).unwrap()..];
        assert_eq!(new[..whole.len()], whole, "in order, none missing");
        // Numbers of this round that were received and not committed may be there or not.
        assert!(new.is_sorted() && new.iter().all(|number| *number < next));
        next = first + sent;
    }
    // The last start repairs the last crash; then all of it is sealed and sound.
    let before = numbers(&place.0);
    open(&place.0).close();
    assert_eq!(numbers(&place.0), before);
    for one in segment::list(&place.0).unwrap() {
        assert_eq!(is_intact(&one.path).unwrap(), Some(true), "{:?}", one.path);
    }
}

/// A file system of 2 MiB that is full: receiving goes on, what cannot be written is counted, and when
/// there is room again, so is what is written.
#[test]
fn a_full_disk_stops_nobody_and_heals() {
    let place = Place::new("full");
    let dir = place.0.join("fs");
    fs::create_dir(&dir).unwrap();
    if let Err(reason) = run("mount", &format!("-t tmpfs -o size=2m none {}", dir.display())) {
        println!("skipped: no file system can be mounted here (not root?): {reason}");
        return;
    }
    let filled = std::panic::catch_unwind(|| fill_and_free(&dir));
    run("umount", &dir.display().to_string()).unwrap();
    if let Err(panic) = filled {
        std::panic::resume_unwind(panic);
    }
}

fn fill_and_free(dir: &Path) {
    let filler = dir.join("filler");
    fs::write(&filler, vec![1; 1536 << 10]).unwrap();
    let journal = open(dir);
    let engine = start(&journal);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut sent = 0;
    let mut send = |engine: &Engine| {
        if sent < engine.stats().ledger.received + 100 {
            socket.send_to(&payload(sent), engine.addresses()[0]).unwrap();
            sent += 1;
        }
    };
    until("the disk to be full", || {
        send(&engine);
        engine.stats().ledger.undelivered > 100
    });
    let alarms = journal.alarms().take();
    assert!(alarms.iter().any(|text| text.contains("No space left")), "{alarms:?}");
    let delivered = engine.stats().ledger.delivered;
    assert!(delivered > 0, "there was room for some");
    fs::remove_file(&filler).unwrap();
    until("it to be written again", || {
        send(&engine);
        engine.stats().ledger.delivered > delivered + 100
    });
    until("it to be said", || {
        journal.alarms().take().iter().any(|text| text.contains("written again"))
    });
    let summary = stop(engine);
    journal.close();
    consistent(&summary);
    assert_eq!(summary.ledger.dropped.kernel, 0, "receiving never stood still: {summary:#?}");
    let found = numbers(dir);
    assert!(found.is_sorted());
    assert!(found.len() as u64 >= summary.ledger.delivered, "{} found", found.len());
}

/// Segments whose directory is removed are gone: what goes there is not delivered.
#[test]
fn a_directory_that_is_removed_is_no_delivery() {
    let place = Place::new("removed");
    let dir = place.0.join("journal");
    let journal = open(&dir);
    let engine = start(&journal);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut sent = 0;
    let mut send = || {
        socket.send_to(&payload(sent), engine.addresses()[0]).unwrap();
        sent += 1;
    };
    send();
    until("the first commit", || engine.stats().ledger.delivered == 1);
    fs::remove_dir_all(&dir).unwrap();
    send();
    until("it to be given up", || engine.stats().ledger.undelivered == 1);
    assert_eq!(engine.stats().ledger.delivered, 1);
    let summary = stop(engine);
    journal.close();
    consistent(&summary);
}

#[test]
fn two_writers_do_not_share_a_journal() {
    let place = Place::new("shared");
    let journal = open(&place.0);
    let spec = JournalSpec {
        dir: place.0.clone(),
        writer: WriterSpec {
            commit_interval: Duration::from_millis(5),
            commit_bytes: 1,
            segment_bytes: 1 << 20,
            segment_age: Duration::from_secs(1),
        },
        buffer_bytes: 0,
        retention: Retention::default(),
        readers: Vec::new(),
    };
    let refused = Journal::open(spec.clone()).unwrap_err().to_string();
    assert!(refused.contains("another process writes it"), "{refused}");
    journal.close();
    Journal::open(spec).unwrap().close();
}
