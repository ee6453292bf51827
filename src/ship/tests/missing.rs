//! Records that are not there any more when it is their turn: damaged, or taken by retention while the broker
//! is away. Each datagram has one fate.

use std::collections::VecDeque;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tempfile::TempDir;

use crate::carrier::{Carrier, Message, Submitted, Verdict};
use crate::cursor::Cursor;
use crate::tests::{Broker, Log, NAMES, Run, is_refused, numbers_in, temp_dir, until};
use ringest_records::journal::keep::janitor::Retention;
use ringest_records::journal::read::reader::{Next, Reader};
use ringest_records::journal::segment;

const SPOOL: Retention = Retention {
    bytes: None,
    age: None,
    only_unsent: true,
    spool_bytes: Some(10_000),
    compress: None,
};

/// A broker that has a few records and then goes away for good. Its client takes more all the same, and
/// holds it, or takes nothing.
#[derive(Debug)]
struct Gone {
    left: u64,
    holds: bool,
    under_way: VecDeque<u64>,
}

impl Gone {
    fn after(left: u64, holds: bool) -> Self {
        Self { left, holds, under_way: VecDeque::new() }
    }
}

impl Carrier for Gone {
    fn submit(&mut self, message: &Message<'_>) -> Submitted {
        if !self.holds && self.under_way.len() as u64 >= self.left {
            return Submitted::Full;
        }
        self.under_way.push_back(message.ticket);
        Submitted::Taken
    }

    fn poll(&mut self, bound: Duration, verdicts: &mut Vec<(u64, Verdict)>) {
        while self.left > 0
            && let Some(ticket) = self.under_way.pop_front()
        {
            self.left -= 1;
            verdicts.push((ticket, Verdict::Acknowledged));
        }
        if verdicts.is_empty() {
            // Nothing will come of it: as long as may be waited.
            std::thread::park_timeout(bound);
        }
    }

    fn reset(&mut self) {
        self.under_way.clear();
    }

    fn trouble(&self) -> Option<String> {
        None
    }
}

fn here(log: &Arc<Mutex<Log>>) -> Broker {
    Broker::with(log, &Arc::new(AtomicBool::new(false)))
}

fn numbers(log: &Arc<Mutex<Log>>) -> Vec<u64> {
    log.lock().unwrap().messages.iter().map(|(_, number)| *number).collect()
}

/// Lands datagrams of two records each, until the spool has let go of most of them.
fn fill_spool(place: &TempDir, run: &mut Run, settled: u64) -> u64 {
    const RECORDS: u64 = 1000;
    for first in (0..RECORDS).step_by(2) {
        run.land(0, first, 2);
        run.commit();
        if first == settled.next_multiple_of(2) {
            until("the first to be settled", || run.counts().acknowledged == settled);
        }
    }
    until("segments to be let go", || {
        let kept: u64 = segment::list(place.path()).unwrap().iter().map(|one| one.bytes).sum();
        kept < 16_000
    });
    RECORDS
}

#[test]
fn records_that_are_damaged_are_the_only_ones_that_are_missing() {
    let place = temp_dir();
    let mut run = Run::start(&place, Vec::<Broker>::new(), Retention::default(), 100);
    for number in 0..300 {
        run.land(0, number, 1);
        // A writer begins the next segment only when the one before the last is committed.
        run.commit();
    }
    run.end();
    let mut damaged = Vec::new();
    for one in segment::list(place.path()).unwrap() {
        let mut reader = Reader::open(&one.path).unwrap();
        // After a crash, only the next start knows how many records there are.
        if reader.footer().is_none() {
            continue;
        }
        reader.read_next().unwrap();
        let Next::Record { offset, record } = reader.read_next().unwrap() else { continue };
        let (payload, start) = (record.payload.to_vec(), usize::try_from(offset).unwrap());
        let mut bytes = fs::read(&one.path).unwrap();
        let place = bytes[start..].windows(8).position(|some| *some == *payload).unwrap();
        bytes[start + place + 7] ^= 1;
        fs::write(&one.path, bytes).unwrap();
        damaged.push(crate::tests::number(&payload));
    }
    let count = damaged.len() as u64;
    assert!(count > 2, "{damaged:?}");
    let log = Arc::default();
    let run = Run::start(&place, vec![here(&log)], Retention::default(), 100);
    until("all to be settled", || run.drained());
    let counts = run.counts();
    assert_eq!(counts.undelivered, count);
    assert_eq!(counts.acknowledged + counts.dead_lettered, 300 - count);
    run.end();
    let is_sent = |number: &u64| !damaged.contains(number) && !is_refused(*number);
    assert_eq!(numbers(&log), (0..300).filter(is_sent).collect::<Vec<_>>());
}

#[test]
fn what_a_full_spool_lets_go_is_counted_while_the_broker_is_away() {
    // The third record is the first of two.
    for (settled, holds) in [(0, false), (0, true), (3, false), (3, true)] {
        let place = temp_dir();
        let mut run = Run::start(&place, vec![Gone::after(settled, holds)], SPOOL, 5);
        let records = fill_spool(&place, &mut run, settled);
        until("what is gone to be counted", || {
            let stats = run.stats();
            stats.backlog.records < 600 && {
                let settled = stats.counts.undelivered + stats.counts.acknowledged;
                settled + stats.backlog.records == records
            }
        });
        let (stats, (delivered, undelivered)) = run.leave();
        assert_eq!(stats.counts.acknowledged, settled);
        assert_eq!(delivered, settled / 2);
        assert_eq!(undelivered * 2, stats.counts.undelivered + settled % 2, "{holds}");
        // Nothing else is let go, and all of it is sent at the next start.
        let waiting = numbers_in(place.path());
        assert_eq!(waiting.len() as u64, stats.backlog.records);
        assert_eq!((delivered + undelivered) * 2 + stats.backlog.records, records);
        let log = Arc::default();
        let larger = Retention { spool_bytes: None, ..SPOOL };
        let run = Run::start(&place, vec![here(&log)], larger, 5);
        until("the rest to be shipped", || run.drained());
        let (stats, _) = run.leave();
        assert_eq!(stats.counts.undelivered, 0);
        let wanted: Vec<u64> = waiting.into_iter().filter(|one| !is_refused(*one)).collect();
        assert_eq!(numbers(&log), wanted);
    }
}

/// Also what goes in the last moment: whoever looks then has the truth at once.
#[test]
fn what_a_full_spool_lets_go_is_counted_at_a_stop() {
    for holds in [false, true] {
        let place = temp_dir();
        let mut run = Run::start(&place, vec![Gone::after(0, holds)], SPOOL, 5);
        let records = fill_spool(&place, &mut run, 0);
        let (stats, (delivered, undelivered)) = run.leave();
        assert_eq!(stats.counts.undelivered + stats.backlog.records, records);
        assert_eq!((delivered, undelivered * 2), (0, stats.counts.undelivered));
        assert_eq!(numbers_in(place.path()).len() as u64, stats.backlog.records);
    }
}

/// A disk may be so full that there is no room for a cursor: it is full of what was sent.
#[test]
fn what_was_sent_is_let_go_although_the_cursor_cannot_be_kept() {
    let place = temp_dir();
    let blocked = Cursor::new(place.path(), NAMES[0]).new_path();
    fs::create_dir(&blocked).unwrap();
    let log = Arc::<Mutex<Log>>::default();
    let retention = Retention { spool_bytes: None, ..SPOOL };
    let away = Arc::new(AtomicBool::new(true));
    let mut run = Run::start(&place, vec![Broker::with(&log, &away)], retention, 50);
    for number in 0..500 {
        run.land(0, number, 1);
        run.commit();
    }
    away.store(false, Ordering::Release);
    until("what was sent to be let go", || segment::list(place.path()).unwrap().len() == 1);
    let counts = run.counts();
    assert_eq!((counts.acknowledged + counts.dead_lettered, counts.undelivered), (500, 0));
    run.end();
    // As after a crash: that it cannot tell what was sent makes none of it missing.
    let run = Run::start(&place, vec![here(&log)], retention, 50);
    until("the rest to be shipped", || run.drained());
    assert_eq!(run.counts().undelivered, 0);
    fs::remove_dir(&blocked).unwrap();
    let (stats, _) = run.leave();
    assert_eq!(stats.backlog.records, 0);
    assert_ne!(Cursor::new(place.path(), NAMES[0]).read().unwrap().len(), 0, "it is kept again");
    assert_eq!(numbers(&log), (0..500).filter(|one| !is_refused(*one)).collect::<Vec<_>>());
}
