//! The journal on a real disk: the writer killed, the directory gone, two writers at once. What was said
//! to be delivered is there, in order, whole, and nobody had to repair anything by hand.

use std::fs::{self, File};
use std::net::UdpSocket;
use std::os::unix::fs::FileExt;
use std::process::Command;
use std::time::Duration;

use ringest_records::journal::keep::janitor::Retention;
use ringest_records::journal::keep::seal::is_intact;
use ringest_records::journal::names;
use ringest_records::journal::open::{Journal, JournalSpec};
use ringest_records::journal::segment;

use crate::journal::rig::{
    Life, Sender, Writer, numbers, open, payload, spec, start, temp_dir, while_moving,
};
use crate::rigs::support::{consistent, stop, until};

/// kill -9 at moments of all sorts, on one journal: after each, all that was told is there.
#[test]
fn a_writer_that_is_killed_leaves_all_it_committed() {
    let place = temp_dir();
    let mut sender = Sender::new();
    for round in 0..12u64 {
        let before = numbers(place.path()).len();
        let writer = Writer::start(place.path());
        let first = sender.begin();
        // The writer is killed after this many commits, with more records on the way.
        let enough = 1 + round * round * 40;
        writer.feed_until(&mut sender, enough);
        let told = writer.kill();
        let found = numbers(place.path());
        let new = &found[before..];
        let whole: Vec<u64> = (first..first + told).collect();
        assert!(new.starts_with(&whole), "in order, none missing: {told} told, found {new:?}");
        // Numbers of this round that were received and not committed may be there or not.
        assert!(new.is_sorted() && new.iter().all(|number| *number < sender.next));
    }
    // The last start repairs the last crash; then all of it is sealed and sound.
    let before = numbers(place.path());
    open(place.path()).close();
    assert_eq!(numbers(place.path()), before);
    for one in segment::list(place.path()).unwrap() {
        assert_eq!(is_intact(&one.path).unwrap(), Some(true), "{:?}", one.path);
    }
}

/// Segments whose directory is removed are gone: what goes there is not delivered.
#[test]
fn a_directory_that_is_removed_is_no_delivery() {
    let place = temp_dir();
    let dir = place.path().join("journal");
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
    let place = temp_dir();
    let journal = open(place.path());
    let spec = spec(place.path());
    let refused = Journal::open(spec.clone()).unwrap_err().to_string();
    assert!(refused.contains("another process writes it"), "{refused}");
    journal.close();
    Journal::open(spec).unwrap().close();
}

/// Segments that are full before their first commit: retention, which keeps next to nothing, waits until
/// they have had it.
#[test]
fn retention_leaves_alone_what_is_not_committed() {
    let place = temp_dir();
    let mut spec = spec(place.path());
    spec.retention.bytes = Some(1);
    spec.writer.commit_interval = Duration::from_secs(1);
    spec.writer.commit_bytes = 1 << 30;
    let journal = Journal::open(spec).unwrap();
    let engine = start(&journal);
    let mut sender = Sender::new();
    while_moving("twenty segments", || {
        let ledger = engine.stats().ledger;
        sender.follow(engine.addresses()[0], ledger.received);
        assert_eq!(ledger.undelivered, 0, "it took what was on its way: {ledger:?}");
        (ledger.delivered < 10_000).then_some(ledger.received + ledger.delivered)
    });
    let summary = stop(engine);
    journal.close();
    consistent(&summary);
    assert_eq!(summary.ledger.undelivered, 0, "{summary:#?}");
    let found = numbers(place.path());
    assert_eq!(found.last(), Some(&(sender.next - 1)), "the newest stays");
    assert!(found.len() < 2000, "and the others went: {}", found.len());
}

/// Segments cannot get any larger, as on a full disk, when a start wants to seal what a crash left: it
/// starts all the same, and the next one that can does.
#[test]
fn a_start_that_cannot_repair_starts_all_the_same() {
    let place = temp_dir();
    let mut sender = Sender::new();
    let writer = Writer::start(place.path());
    writer.feed_until(&mut sender, 200);
    writer.kill();
    let before = numbers(place.path());
    let segments = segment::list(place.path()).unwrap();
    let life = Life { file_bytes: Some(segments[0].bytes), ..Life::at(place.path()) };
    let writer = life.start().expect("it starts");
    let first = sender.begin();
    writer.feed_until(&mut sender, 50);
    let told = writer.kill();
    let whole: Vec<u64> = before.iter().copied().chain(first..first + told).collect();
    assert!(numbers(place.path()).starts_with(&whole));
    assert_eq!(is_intact(&segments[0].path).unwrap(), None, "it could not be sealed");
    let journal = open(place.path());
    assert!(journal.repaired().iter().all(|one| one.left.is_none()), "{:?}", journal.repaired());
    journal.close();
    assert!(numbers(place.path()).starts_with(&whole));
    for one in segment::list(place.path()).unwrap() {
        assert_eq!(is_intact(&one.path).unwrap(), Some(true), "{one:?}");
    }
}

/// A file that is open keeps its room on the disk after it was removed: one that is complete is not.
#[test]
fn what_retention_removes_frees_its_room_though_nothing_comes() {
    let place = temp_dir();
    let retention = Retention { bytes: Some(1), ..Retention::default() };
    let journal = Journal::open(JournalSpec { retention, ..spec(place.path()) }).unwrap();
    let engine = start(&journal);
    let mut sender = Sender::new();
    while_moving("some segments", || {
        let ledger = engine.stats().ledger;
        sender.follow(engine.addresses()[0], ledger.received);
        (ledger.delivered < 5000).then_some(ledger.received + ledger.delivered)
    });
    until("all but the newest to be removed", || segment::list(place.path()).unwrap().len() == 1);
    let held = || {
        let open = fs::read_dir("/proc/self/fd").unwrap();
        let open = open.filter_map(|fd| fs::read_link(fd.unwrap().path()).ok());
        open.filter(|path| {
            path.starts_with(place.path()) && path.to_string_lossy().ends_with("(deleted)")
        })
        .count()
    };
    until("no removed file to be open", || held() == 0);
    stop(engine);
    journal.close();
}

/// Its beginning is damaged, so that nothing of it can be read: it is told and kept, also by `verify`, and neither its
/// number nor its new name is given again.
#[test]
fn a_segment_without_its_beginning_is_set_aside_for_good() {
    let place = temp_dir();
    for round in 1..3u64 {
        let journal = open(place.path());
        let engine = start(&journal);
        let mut sender = Sender::new();
        while_moving("something to be kept", || {
            let ledger = engine.stats().ledger;
            sender.follow(engine.addresses()[0], ledger.received);
            (ledger.delivered < 10).then_some(ledger.received + ledger.delivered)
        });
        stop(engine);
        journal.close();
        let segments = segment::list(place.path()).unwrap();
        assert_eq!((segments.len(), segments[0].sequence), (1, round));
        let file = File::options().write(true).open(&segments[0].path).unwrap();
        file.write_all_at(&[0; 128], 0).unwrap();
        let journal = open(place.path());
        let aside: Vec<_> = journal.repaired().iter().map(|one| one.aside.clone()).collect();
        journal.close();
        let name = segments[0].path.with_added_extension("bad");
        assert_eq!(aside, [Some(name)]);
        assert_eq!(segment::list(place.path()).unwrap(), []);
        let verify = Command::new(env!("CARGO_BIN_EXE_ringest"))
            .args(["journal", "verify", "--json"])
            .arg(place.path())
            .output()
            .unwrap();
        let said: serde_json::Value = serde_json::from_slice(&verify.stdout).unwrap();
        assert_eq!((said["damaged"].as_u64(), verify.status.code()), (Some(round), Some(1)));
    }
    // Somebody gave one its name back.
    let bad = segment::aside(place.path()).unwrap();
    assert_eq!(bad.len(), 2);
    fs::copy(&bad[0].path, names::path_of(place.path(), 0, 1)).unwrap();
    open(place.path()).close();
    assert_eq!(segment::aside(place.path()).unwrap().len(), 3, "none replaces another");
}

/// Sealing and retention take what receivers and workers leave of a busy core.
#[test]
fn the_journals_own_thread_gives_way() {
    let place = temp_dir();
    let journal = open(place.path());
    let engine = start(&journal);
    // Those of other tests are here, too.
    let mut own = nice_of("ringest-work");
    until("the journal's thread to give way", || {
        own = nice_of("ringest-work");
        let background = nice_of("ringest-journal");
        let first = background.first().copied();
        first > own.first().copied() && background.iter().all(|nice| Some(*nice) == first)
    });
    assert!(own.iter().all(|nice| Some(nice) == own.first()), "{own:?}");
    stop(engine);
    journal.close();
}

/// Returns how nice each of this process's threads of that name is (proc(5)).
fn nice_of(name: &str) -> Vec<i64> {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let stats = tasks.filter_map(|task| fs::read_to_string(task.unwrap().path().join("stat")).ok());
    stats
        .filter_map(|stat| {
            let (head, fields) = stat.rsplit_once(") ")?;
            let (_, comm) = head.split_once('(')?;
            let nice = fields.split(' ').nth(16)?;
            comm.starts_with(name).then(|| nice.parse().unwrap())
        })
        .collect()
}
