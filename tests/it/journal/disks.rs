//! The journal on disks that stall, fill up, break and lose their power: receiving goes on, what was told
//! to be delivered is there, and the rest is counted.

use std::collections::HashSet;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use ringest::{BackendChoice, Engine, Ledger, Overload};
use ringest_load::spec::{LoadSpec, Rate, Sizes};
use ringest_load::stamp;
use ringest_load::stamp::Seen;
use ringest_records::journal::keep::seal::is_intact;
use ringest_records::journal::open::{Journal, JournalSpec};
use ringest_records::journal::read::reader::Reader;
use ringest_records::journal::segment;
use ringest_ship::carrier::{Carrier, Message, Submitted, Verdict};
use ringest_ship::fleet::{CursorPositions, Destination, Fleet};

use crate::engine::fallback;
use crate::journal::rig::{
    Sender, Writer, contents, numbers, open, payload, rounds, spec, start, start_with, temp_dir,
    while_moving,
};
use crate::journal::tools::{entries, entries_of, journal, write};
use crate::rigs::child::Child;
use crate::rigs::loop_disk::LoopDisk;
use crate::rigs::support::{
    ROOMY_RCVBUF_BYTES, all_handled, balance, consistent, load_spec, send_load, small, stop, until,
};
use crate::sockets::lab::Program;
use crate::sockets::network::run;

/// Five seconds of them, and less than fits the journal's buffer of 4 MiB.
const RATE: f64 = 2000.0;
const DURING_STALL: u64 = 10_000;

fn load(target: SocketAddr, rate: f64, count: u64) -> LoadSpec {
    let mut load = load_spec(target);
    (load.rate, load.count, load.sizes) = (Rate::Pps(rate), Some(count), Sizes::Fixed(300));
    load
}

/// Checks that the payloads of the journal are `count` different ones of the load, each as it was sent.
fn holds(dir: &Path, count: u64) {
    let contents = contents(dir);
    assert!(contents.damaged.is_empty() && contents.torn_bytes == 0, "{:?}", contents.damaged);
    let mut numbers = HashSet::new();
    for payload in &contents.payloads {
        assert!(stamp::is_intact(payload));
        assert!(numbers.insert(Seen::read(payload).sequence.unwrap()), "none comes twice");
    }
    assert_eq!(numbers.len() as u64, count);
}

/// The disk takes nothing for five seconds; meanwhile the segments that are written to change a dozen
/// times. Nobody notices, with io_uring or without. Once the file system stands still, which holds up
/// writes and new files, and once the device below it, which holds up syncs.
#[test]
fn a_disk_that_stalls_holds_up_nobody() {
    for (io_uring, below) in [(true, false), (false, false), (true, true), (false, true)] {
        let child = Child::new("journal::disks::child_on_a_disk_that_stalls");
        child.env("IO_URING", &io_uring).env("BELOW", &below).pass();
    }
}

#[test]
#[ignore = "runs in a child process"]
fn child_on_a_disk_that_stalls() {
    if std::env::var("IO_URING").unwrap() == "false" {
        fallback::refuse(libc::SYS_io_uring_setup, libc::EPERM.unsigned_abs());
    }
    let Some(lower) = LoopDisk::make(128) else { return };
    let disk = lower.make_upon(64).expect("what can be done once can be done twice");
    let dir = disk.path().join("journal");
    let journal = open(&dir);
    let engine = start_with(small(BackendChoice::Auto).rcvbuf_bytes(ROOMY_RCVBUF_BYTES), &journal);
    let below = std::env::var("BELOW").unwrap() == "true";
    let frozen = if below { lower.freeze() } else { disk.freeze() };
    let sent = send_load(&load(engine.addresses()[0], RATE, DURING_STALL));
    until("all of it to be handled", || engine.stats().ledger.handled == sent);
    let stalled = engine.stats().ledger;
    assert_eq!((stalled.delivered, stalled.pending), (0, sent), "the disk did stall");
    drop(frozen);
    until("all of it to be delivered", || engine.stats().ledger.delivered == sent);
    let summary = stop(engine);
    journal.close();
    all_handled(&summary, sent);
    assert_eq!((summary.ledger.dropped.kernel, summary.ledger.undelivered), (0, 0));
    holds(&dir, sent);
}

/// Sends more than the journal's buffer holds while the disk stalls, and then more than all batches hold.
/// Datagrams that do not fit are dropped as `overload` says, and counted.
fn more_than_the_buffer(overload: Overload, rcvbuf_bytes: usize) -> Option<Ledger> {
    let disk = LoopDisk::make(64)?;
    let dir = disk.path().join("journal");
    let mut spec = spec(&dir);
    spec.buffer_bytes = 1 << 20;
    let journal = Journal::open(spec).unwrap();
    let builder = small(BackendChoice::Auto).overload(overload).rcvbuf_bytes(rcvbuf_bytes);
    let engine = start_with(builder, &journal);
    let frozen = disk.freeze();
    let sent = send_load(&load(engine.addresses()[0], 20_000.0, 2 * DURING_STALL));
    drop(frozen);
    let summary = stop(engine);
    journal.close();
    balance(&summary, sent);
    let ledger = summary.ledger;
    assert_eq!((ledger.delivered, ledger.undelivered), (ledger.handled, 0), "{ledger:?}");
    assert!(ledger.handled > 3000, "the buffer was full: {ledger:?}");
    holds(&dir, ledger.delivered);
    Some(ledger)
}

#[test]
fn a_stall_longer_than_the_buffer_drops_as_was_asked_for() {
    let Some(dropped) = more_than_the_buffer(Overload::Drop, ROOMY_RCVBUF_BYTES) else { return };
    assert_eq!(dropped.dropped.kernel, 0, "receivers never wait: {dropped:?}");
    assert!(dropped.dropped.after_receive() > 0, "{dropped:?}");
    let Some(waited) = more_than_the_buffer(Overload::Wait, 64 << 10) else { return };
    assert_eq!(waited.dropped.after_receive(), 0, "{waited:?}");
    assert!(waited.dropped.kernel > 0, "{waited:?}");
}

/// The power goes while segments are written, changed and sealed, and goes again: all that was told is
/// there, in order, and the next start needs no help.
#[test]
fn a_power_cut_takes_nothing_that_was_delivered() {
    let Some(disk) = LoopDisk::make(256) else { return };
    let dir = disk.path().join("journal");
    let mut sender = Sender::new();
    let mut before: Vec<u64> = Vec::new();
    for round in 0..rounds("RINGEST_POWER_CUTS", 20) {
        // Segments of earlier rounds were read to their end; new segments get new names nevertheless.
        let writer = Writer::start(&dir);
        let first = sender.begin();
        let enough = 1 + round % 7 * 150;
        writer.feed_until(&mut sender, enough);
        disk.cut_power();
        let told = writer.kill();
        disk.umount();
        disk.mount().unwrap();
        let found = contents(&dir).numbers();
        assert!(found.starts_with(&before), "round {round}: what was there stays");
        let new = &found[before.len()..];
        let whole: Vec<u64> = (first..first + told).collect();
        assert!(new.starts_with(&whole), "round {round}: {told} told, found {new:?}");
        assert!(new.is_sorted() && new.iter().all(|number| *number < sender.next), "round {round}");
        open(&dir).close();
        before = contents(&dir).numbers();
        assert_eq!(before, found, "round {round}: a repair changes nothing that can be read");
        for one in segment::list(&dir).unwrap() {
            assert_eq!(is_intact(&one.path).unwrap(), Some(true), "round {round}: {one:?}");
        }
    }
}

/// An engine with a sender that never runs ahead of it.
struct Stream {
    journal: Journal,
    engine: Engine,
    sender: Sender,
    /// All that was said so far.
    notices: Vec<String>,
}

impl Stream {
    fn start(dir: &Path) -> Self {
        let journal = open(dir);
        let engine = start(&journal);
        Self { journal, engine, sender: Sender::new(), notices: Vec::new() }
    }

    /// Starts a stream and waits until it has some segments behind it.
    fn flowing(dir: &Path) -> Self {
        let mut stream = Self::start(dir);
        stream.flow_until("the first segments", |ledger| ledger.delivered > 2000);
        stream
    }

    fn ledger(&self) -> Ledger {
        self.engine.stats().ledger
    }

    /// Sends until the ledger satisfies `done`.
    fn flow_until(&mut self, what: &str, done: impl Fn(&Ledger) -> bool) {
        while_moving(what, || {
            let ledger = self.ledger();
            self.sender.follow(self.engine.addresses()[0], ledger.received);
            (!done(&ledger)).then_some(ledger.received + ledger.delivered + ledger.undelivered)
        });
    }

    /// Checks that it was said once that the journal cannot be written, and why, and not yet that it is
    /// again.
    fn alarm(&mut self, reasons: &[&str]) {
        self.told(reasons);
        assert!(!self.is_resumed(), "{:?}", self.notices);
    }

    /// Checks that it was said once that the journal cannot be written, and why. A disk that is nearly full
    /// takes a little now and then, so that it is written again may have been said, too.
    fn told(&mut self, reasons: &[&str]) {
        self.notices.extend(self.journal.notices().take());
        let notices = &self.notices;
        let failures: Vec<_> = notices.iter().filter(|text| text.contains("cannot be")).collect();
        let known = |text: &str| reasons.iter().any(|reason| text.contains(reason));
        assert!(failures.len() == 1 && known(failures[0]), "{notices:?}");
    }

    fn is_resumed(&self) -> bool {
        self.notices.iter().any(|text| text.contains("written again"))
    }

    /// Waits for the word that it is written again.
    fn resumption(&mut self) {
        until("it to be said", || {
            self.notices.extend(self.journal.notices().take());
            self.is_resumed()
        });
    }

    /// Waits until the disk, and so the journal, takes records again, and checks that in the end all that was
    /// delivered is there.
    fn heals(mut self, dir: &Path) {
        let delivered = self.ledger().delivered;
        self.flow_until("it to heal", |ledger| ledger.delivered > delivered + 1000);
        self.resumption();
        let ledger = self.stop();
        let found = numbers(dir);
        assert!(found.is_sorted());
        assert!(found.len() as u64 >= ledger.delivered, "{} of {ledger:?}", found.len());
        // Segments that could not be sealed while the disk failed were sealed later.
        for one in segment::list(dir).unwrap() {
            assert_eq!(is_intact(&one.path).unwrap(), Some(true), "{}", one.path.display());
        }
    }

    /// Ends it: nothing was dropped, and all is accounted for.
    fn stop(self) -> Ledger {
        let summary = stop(self.engine);
        self.journal.close();
        consistent(&summary);
        let dropped = &summary.ledger.dropped;
        assert_eq!(
            (dropped.kernel, dropped.after_receive()),
            (0, 0),
            "receiving went on: {summary:#?}"
        );
        assert_eq!(summary.ledger.received, self.sender.sent);
        summary.ledger
    }
}

/// A block that the disk cannot read costs the records in it, and no other.
#[test]
fn a_block_that_cannot_be_read_costs_what_is_in_it() {
    let Some(disk) = LoopDisk::make_checked(128) else { return };
    let dir = disk.path().join("journal");
    let all = entries(700);
    write(&dir, &all, false);
    disk.umount();
    let lost = &all[333];
    disk.damage(&lost.payload);
    disk.mount().unwrap();
    let output = journal(&dir, "cat {} --output json");
    let found = entries_of(&output.stdout);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(!found.contains(lost) && found.iter().all(|one| all.contains(one)), "{said}");
    // 4 KiB, of records of 56 bytes and more.
    let missing = all.len() - found.len();
    assert!((1..=74).contains(&missing), "{missing} missing: {said}");
    assert_eq!(journal(&dir, "verify {}").status.code(), Some(1));
    // It is sealed, and nothing is done to it. Whoever carries it on passes over the block, too, after some trying.
    let destination =
        Destination { name: "nats:all".to_owned(), carrier: Box::new(TakesAll(Vec::new())) };
    let cursors = CursorPositions::read(&dir, std::slice::from_ref(&destination)).unwrap();
    let readers = cursors.positions;
    let opened = Journal::open(JournalSpec { readers: readers.clone(), ..spec(&dir) }).unwrap();
    let fleet = Fleet::start(&opened, vec![destination], readers, (&[], 0), 100).unwrap();
    let stats = || fleet.watch().stats().swap_remove(0);
    until("all to be settled", || stats().backlog.records == 0);
    let counts = stats().counts;
    drop(fleet);
    assert_eq!((counts.acknowledged, counts.undelivered), (found.len() as u64, missing as u64));
    opened.close();
    assert_eq!(journal(&dir, "cat {} --output json").stdout, output.stdout);
}

/// The end of the newest segment cannot be read, sealed or not: that is no torn end. Nor is it cut off.
#[test]
fn an_end_that_cannot_be_read_is_not_taken_for_a_torn_one() {
    for sealed in [true, false] {
        let Some(disk) = LoopDisk::make_checked(128) else { return };
        let dir = disk.path().join("journal");
        let all = entries(700);
        write(&dir, &all, false);
        let last = segment::list(&dir).unwrap().pop().unwrap();
        if !sealed {
            let data_end = Reader::open(&last.path).unwrap().footer().unwrap().data_end;
            let file = fs::File::options().write(true).open(&last.path).unwrap();
            file.set_len(data_end).unwrap();
        }
        let before = fs::read(&last.path).unwrap();
        disk.umount();
        disk.damage(&before[before.len() - 100..]);
        disk.mount().unwrap();
        for args in ["cat {}", "verify {}"] {
            let output = journal(&dir, args);
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "sealed: {sealed}, {args}: {said}");
        }
        let opened = open(&dir);
        let repaired = opened.repaired();
        assert!(repaired.len() == 1 && repaired[0].is_loss(), "{repaired:?}");
        opened.close();
        assert!(fs::metadata(&last.path).unwrap().len() >= before.len() as u64);
        assert_eq!(journal(&dir, "verify {}").status.code(), Some(1));
    }
}

/// A broker that has whatever it is given.
#[derive(Debug)]
struct TakesAll(Vec<u64>);

impl Carrier for TakesAll {
    fn submit(&mut self, message: &Message<'_>) -> Submitted {
        self.0.push(message.ticket);
        Submitted::Taken
    }

    fn poll(&mut self, _: Duration, verdicts: &mut Vec<(u64, Verdict)>) {
        verdicts.extend(self.0.drain(..).map(|ticket| (ticket, Verdict::Acknowledged)));
    }

    fn reset(&mut self) {
        self.0.clear();
    }

    fn trouble(&self) -> Option<String> {
        None
    }
}

/// A disk that is full: receiving goes on, what cannot be written is counted, one alarm says so, and when
/// there is room again, so is what is written.
#[test]
fn a_full_disk_stops_nobody_and_heals() {
    let Some(disk) = LoopDisk::make(64) else { return };
    let dir = disk.path().join("journal");
    let mut stream = Stream::start(&dir);
    stream.flow_until("the first commit", |ledger| ledger.delivered > 0);
    let filler = disk.fill(1 << 20);
    stream.flow_until("the disk to be full", |ledger| ledger.undelivered > 1000);
    stream.told(&["No space left"]);
    fs::remove_file(filler).unwrap();
    stream.heals(&dir);
}

/// Every write fails with EIO from some moment on.
#[test]
fn a_disk_that_breaks_stops_nobody() {
    let Some(disk) = LoopDisk::make(64) else { return };
    let dir = disk.path().join("journal");
    let mut stream = Stream::flowing(&dir);
    disk.cut_power();
    stream.flow_until("it to be noticed", |ledger| ledger.undelivered > 1000);
    stream.alarm(&["Input/output error"]);
    let ledger = stream.stop();
    disk.umount();
    disk.mount().unwrap();
    let found = contents(&dir).numbers();
    let whole: Vec<u64> = (0..ledger.delivered).collect();
    assert!(found.starts_with(&whole), "{} of {ledger:?}", found.len());
}

/// The kernel makes a file system read only when it does not trust it any more. What was delivered before is
/// there. Of a sync that is under way in that very moment ext4 does not always tell that it came to nothing:
/// docs/journal.md says how often that is seen without any of this code.
#[test]
fn a_disk_that_becomes_read_only_stops_nobody() {
    let Some(disk) = LoopDisk::make(64) else { return };
    let dir = disk.path().join("journal");
    let mut stream = Stream::flowing(&dir);
    let before = stream.ledger().delivered;
    disk.make_read_only();
    stream.flow_until("it to be noticed", |ledger| ledger.undelivered > 1000);
    // A sync of what was open fails first, or a new segment does.
    stream.alarm(&["Read-only file system", "Input/output error"]);
    let ledger = stream.stop();
    disk.umount();
    disk.mount().unwrap();
    let found = contents(&dir).numbers();
    let whole: Vec<u64> = (0..before).collect();
    assert!(found.starts_with(&whole), "{} of {before}, then {ledger:?}", found.len());
    assert!(found.is_sorted(), "in order");
}

/// A read-only mount over the journal: what is open goes on, and nothing new can be made until it goes.
#[test]
fn a_directory_that_is_read_only_for_a_while_heals() {
    let Some(disk) = LoopDisk::make(64) else { return };
    let dir = disk.path().join("journal");
    let mut stream = Stream::flowing(&dir);
    // Read only before it covers the journal: a segment begun on it in between would keep it writable.
    let (dir_text, cover) = (dir.display(), disk.path().join("cover"));
    fs::create_dir(&cover).unwrap();
    let cover = cover.display();
    run("mount", &format!("--bind {dir_text} {cover}")).unwrap();
    run("mount", &format!("-o remount,bind,ro {cover}")).unwrap();
    run("mount", &format!("--bind {cover} {dir_text}")).unwrap();
    stream.flow_until("it to be noticed", |ledger| ledger.undelivered > 1000);
    stream.alarm(&["Read-only file system"]);
    run("umount", &dir_text.to_string()).unwrap();
    run("umount", &cover.to_string()).unwrap();
    stream.heals(&dir);
}

/// Somebody removes the directory, with all that is in it: it is made again, and is locked as before.
#[test]
fn a_directory_that_is_removed_is_made_again() {
    let place = temp_dir();
    let dir = place.path().join("journal");
    let mut stream = Stream::flowing(&dir);
    until("it to be removed", || fs::remove_dir_all(&dir).is_ok());
    let removed = stream.ledger();
    stream.flow_until("it to be noticed", |ledger| ledger.undelivered > 0);
    stream.flow_until("it to heal", |ledger| ledger.delivered > removed.delivered + 2000);
    let notices = stream.journal.notices().take();
    let says = |part: &str| notices.iter().filter(|text| text.contains(part)).count();
    assert_eq!((says("cannot be written"), says("made again"), says("written again")), (1, 1, 1));
    assert!(Journal::open(spec(&dir)).is_err(), "another writer is kept out");
    let ledger = stream.stop();
    let found = numbers(&dir);
    assert!(found.is_sorted() && found.len() as u64 > 2000, "{ledger:?}");
}

/// The disk is taken away, and comes back. What is below its mount point is not written to meanwhile.
#[test]
fn a_disk_that_is_taken_away_is_waited_for() {
    for below in ["journal", ""] {
        let Some(disk) = LoopDisk::make(64) else { return };
        taken_away(&disk, &disk.path().join(below));
    }
}

fn taken_away(disk: &LoopDisk, dir: &Path) {
    let mut stream = Stream::flowing(dir);
    run("umount", &format!("-l {}", disk.path().display())).unwrap();
    stream.flow_until("it to be noticed", |ledger| ledger.undelivered > 1000);
    stream.alarm(&["No such file or directory", "not there any more"]);
    until("nothing to be below its mount point", || {
        fs::read_dir(disk.path()).unwrap().count() == 0
    });
    disk.mount().unwrap();
    stream.heals(dir);
}

/// The program on a full disk says so once, and says when it writes again; its exit tells the rest.
#[test]
fn the_program_says_that_its_disk_is_full_and_when_it_is_not() {
    let Some(disk) = LoopDisk::make(64) else { return };
    let dir = disk.path().join("journal");
    let sink = format!("--sink journal:{} --commit-interval 5ms", dir.display());
    let filler = disk.fill(1 << 20);
    let mut program = Program::ringest(None, &format!("listen 127.0.0.1:0 --json {sink}"));
    let to = program.listening()[0];
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut number = 0;
    let mut send = || {
        socket.send_to(&payload(number), to).unwrap();
        number += 1;
    };
    until("the alarm", || {
        send();
        program.stderr().contains("cannot be written: No space left on device")
    });
    fs::remove_file(filler).unwrap();
    until("the resumption", || {
        send();
        program.stderr().contains("the journal is written again")
    });
    let ended = program.stop();
    assert_eq!(ended.stderr.matches("cannot be written").count(), 1, "{}", ended.stderr);
    assert_eq!(ended.stderr.matches("written again").count(), 1, "{}", ended.stderr);
    let summary: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    let count = |name: &str| summary[name].as_u64().unwrap();
    assert!(count("undelivered") > 0 && count("delivered") > 0, "{summary}");
    assert_eq!(count("handled"), count("delivered") + count("undelivered"), "{summary}");
    let found = numbers(&dir);
    assert!(found.is_sorted() && found.len() as u64 >= count("delivered"), "{summary}");
}
