//! A journal that cannot be read for a moment, just behind a record that was handed over.

use std::collections::VecDeque;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::carrier::{Carrier, Message, Submitted, Verdict};
use crate::tests::{Broker, Log, Run, dead_letters, number, numbers_at, temp_dir, until};
use ringest_records::journal::keep::janitor::Retention;
use ringest_records::journal::segment;

/// A broker that takes all but one record. When it is given that one, the segment behind it cannot be read
/// until the broker is asked for the first time; and what it says of the record, it says when it was given
/// something more.
#[derive(Debug)]
struct Stumble {
    refused: u64,
    behind: PathBuf,
    /// Where the segment is meanwhile.
    aside: PathBuf,
    broken: bool,
    stumbled: bool,
    under_way: VecDeque<(u64, u64)>,
    has: Arc<Mutex<Vec<u64>>>,
}

impl Carrier for Stumble {
    fn submit(&mut self, message: &Message<'_>) -> Submitted {
        let number = number(message.payload);
        self.under_way.push_back((message.ticket, number));
        if number == self.refused && !self.stumbled {
            (self.broken, self.stumbled) = (true, true);
            fs::rename(&self.behind, &self.aside).unwrap();
            fs::create_dir(&self.behind).unwrap();
        }
        Submitted::Taken
    }

    fn poll(&mut self, _: Duration, verdicts: &mut Vec<(u64, Verdict)>) {
        if std::mem::take(&mut self.broken) {
            fs::remove_dir(&self.behind).unwrap();
            fs::rename(&self.aside, &self.behind).unwrap();
            return;
        }
        let newest = self.under_way.back().copied();
        let ripe = |told: &mut (u64, u64)| told.1 != self.refused || newest != Some(*told);
        while let Some((ticket, number)) = self.under_way.pop_front_if(ripe) {
            if number == self.refused {
                verdicts.push((ticket, Verdict::Rejected("too large".to_owned())));
            } else {
                self.has.lock().unwrap().push(number);
                verdicts.push((ticket, Verdict::Acknowledged));
            }
        }
    }

    fn reset(&mut self) {
        self.under_way.clear();
    }

    fn trouble(&self) -> Option<String> {
        None
    }
}

/// A verdict is never taken for one on another record: the one refused is the dead letter.
#[test]
fn a_record_handed_over_before_the_journal_broke_keeps_its_verdict() {
    let place = temp_dir();
    let mut run = Run::start(&place, Vec::<Broker>::new(), Retention::default(), 100);
    for number in 0..100 {
        run.land(0, number, 1);
        run.commit();
    }
    run.end();
    let segments = segment::list(place.path()).unwrap();
    let [first, behind] = &segments[..2] else { panic!("{segments:?}") };
    let refused = *numbers_at(&first.path).last().unwrap();
    let has = Arc::<Mutex<Vec<u64>>>::default();
    let broker = Stumble {
        refused,
        behind: behind.path.clone(),
        aside: place.path().join("aside"),
        broken: false,
        stumbled: false,
        under_way: VecDeque::new(),
        has: Arc::clone(&has),
    };
    let run = Run::start(&place, vec![broker], Retention::default(), 100);
    until("all to be settled", || run.drained());
    let counts = run.counts();
    run.end();
    assert_eq!(dead_letters(&place), [[refused]]);
    let wanted: Vec<u64> = (0..100).filter(|number| *number != refused).collect();
    assert_eq!(*has.lock().unwrap(), wanted);
    assert_eq!((counts.acknowledged, counts.dead_lettered, counts.undelivered), (99, 1, 0));
}

/// A disk that is taken away takes nothing for good: what is on it is there when it is back.
#[test]
fn while_its_disk_is_away_nothing_is_missing() {
    let place = temp_dir();
    let (log, away) = (Arc::new(Mutex::new(Log::default())), Arc::new(AtomicBool::new(true)));
    let brokers = vec![Broker::with(&log, &away)];
    let mut run = Run::start(&place, brokers, Retention::default(), 10);
    for number in 0..200 {
        run.land(0, number * 13, 1);
        run.commit();
    }
    let elsewhere = place.path().with_extension("away");
    fs::rename(place.path(), &elsewhere).unwrap();
    away.store(false, Ordering::Release);
    let mut told = Vec::new();
    until("it to be noticed", || {
        told.extend(run.notices());
        ["cannot read the journal", "cursor cannot be kept"]
            .iter()
            .all(|what| told.iter().any(|text| text.contains(what)))
    });
    assert!(!run.drained(), "{:?}", run.stats());
    fs::rename(&elsewhere, place.path()).unwrap();
    until("all to be shipped", || run.drained());
    let counts = run.counts();
    assert_eq!((counts.acknowledged, counts.undelivered), (200, 0), "{counts:?}");
    run.end();
    let numbers: Vec<u64> =
        log.lock().unwrap().messages.iter().map(|(_, number)| *number).collect();
    assert!(numbers.into_iter().eq((0..200).map(|number| number * 13)));
}
