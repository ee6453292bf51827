//! Records that a broker refuses for good, while other things go wrong.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::carrier::{Carrier, Message, Submitted, Verdict};
use crate::cursor::slug;
use crate::tests::{NAMES, Run, dead_letters, is_refused, number, temp_dir, until};
use ringest_records::journal::keep::janitor::Retention;
use ringest_records::journal::read::reader::Reader;

/// A broker that refuses what it will never take at once, and of all else takes nothing while it is full.
#[derive(Debug)]
struct Full {
    is_full: Arc<AtomicBool>,
    under_way: Vec<u64>,
}

impl Carrier for Full {
    fn submit(&mut self, message: &Message<'_>) -> Submitted {
        if is_refused(number(message.payload)) {
            return Submitted::Refused(Verdict::Rejected("too odd".to_owned()));
        }
        self.under_way.push(message.ticket);
        Submitted::Taken
    }

    fn poll(&mut self, _: Duration, verdicts: &mut Vec<(u64, Verdict)>) {
        let is_full = self.is_full.load(Ordering::Acquire);
        let verdict = |ticket| {
            let again = Verdict::Again("it is full".to_owned());
            (ticket, if is_full { again } else { Verdict::Acknowledged })
        };
        verdicts.extend(self.under_way.drain(..).map(verdict));
    }

    fn reset(&mut self) {
        self.under_way.clear();
    }

    fn trouble(&self) -> Option<String> {
        None
    }
}

fn full() -> (Vec<Full>, Arc<AtomicBool>) {
    let is_full = Arc::new(AtomicBool::new(true));
    (vec![Full { is_full: Arc::clone(&is_full), under_way: Vec::new() }], is_full)
}

/// A record behind others that are sent again and again is refused each time, and is one dead letter.
#[test]
fn what_is_refused_is_buried_once_however_often_others_are_sent_again() {
    let place = temp_dir();
    let (brokers, is_full) = full();
    let mut run = Run::start(&place, brokers, Retention::default(), 100);
    (0..26).for_each(|number| run.land(1, number, 1));
    run.commit();
    until("all to be sent again", || run.counts().resends > 5);
    let stats = run.stats();
    assert_eq!((stats.counts.dead_lettered, stats.backlog.records), (0, 26));
    assert!(stats.oldest_age().is_some(), "something waits, so it has an age: {stats:?}");
    is_full.store(false, Ordering::Release);
    until("all to be shipped", || run.drained());
    let counts = run.counts();
    assert_eq!((counts.acknowledged, counts.dead_lettered, counts.undelivered), (24, 2, 0));
    run.end();
    assert_eq!(dead_letters(&place), [[5, 18]]);
}

/// It stays where it is until there is a place for it, and so does all behind it.
#[test]
fn what_cannot_be_buried_is_not_lost() {
    let place = temp_dir();
    let (brokers, is_full) = full();
    is_full.store(false, Ordering::Release);
    let taken = place.path().join(format!("dead-{}", slug(NAMES[0])));
    fs::write(&taken, "not a directory").unwrap();
    let mut run = Run::start(&place, brokers, Retention::default(), 100);
    (0..26).for_each(|number| run.land(1, number, 1));
    run.commit();
    until("it to be tried again", || {
        run.notices().iter().any(|text| text.contains("cannot be kept"))
    });
    until("what is in front to be settled", || run.counts().acknowledged == 5);
    let counts = run.counts();
    assert_eq!(counts.resends, 0, "what is behind it is under way");
    assert_eq!((counts.acknowledged, counts.dead_lettered, counts.undelivered), (5, 0, 0));
    assert_eq!(run.totals(), (5, 0));
    fs::remove_file(&taken).unwrap();
    until("all to be shipped", || run.drained());
    let counts = run.counts();
    assert_eq!((counts.acknowledged, counts.dead_lettered, counts.undelivered), (24, 2, 0));
    assert_eq!(run.totals(), (24, 2));
    run.end();
    assert_eq!(dead_letters(&place), [[5, 18]]);
}

/// The bound is on what waits, not on the files that it is in.
#[test]
fn a_spool_is_full_when_what_waits_is_larger() {
    let place = temp_dir();
    let (brokers, is_full) = full();
    is_full.store(false, Ordering::Release);
    let retention =
        Retention { only_unsent: true, spool_bytes: Some(4_000), ..Retention::default() };
    let mut run = Run::start(&place, brokers, retention, 100);
    // Most of a segment of each worker, sent; then its rest and a part of the next, which wait.
    let land = |run: &mut Run, numbers: std::ops::Range<u64>| {
        for number in numbers {
            (1..3).for_each(|peer| run.land(peer, number * 13, 1));
            run.commit();
        }
    };
    land(&mut run, 0..30);
    until("all to be shipped", || run.drained());
    is_full.store(true, Ordering::Release);
    land(&mut run, 30..50);
    let is_sealed = |worker| {
        Reader::find(place.path(), worker, 1).is_ok_and(|reader| reader.footer().is_some())
    };
    until("what is complete to be sealed", || is_sealed(0) && is_sealed(1));
    assert!(run.stats().backlog.bytes < 4_000, "{:?}", run.stats());
    is_full.store(false, Ordering::Release);
    until("the rest to be shipped", || run.drained());
    let counts = run.counts();
    assert_eq!((counts.acknowledged, counts.undelivered), (100, 0), "{counts:?}");
    run.end();
}

/// At the end all there is is waited for, but not for ever.
#[test]
fn all_that_waits_is_waited_for_within_reason() {
    let place = temp_dir();
    let (brokers, is_full) = full();
    let mut run = Run::start(&place, brokers, Retention::default(), 100);
    (0..5).for_each(|number| run.land(1, number, 1));
    run.commit();
    let watch = run.watch();
    watch.await_empty(Instant::now() + Duration::from_millis(5));
    assert!(!run.drained(), "it has given up");
    is_full.store(false, Ordering::Release);
    watch.await_empty(Instant::now() + Duration::from_secs(60));
    assert!(run.drained());
    run.end();
}
