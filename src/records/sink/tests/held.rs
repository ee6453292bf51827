//! The ledger while datagrams are held, through the real stage, handler and tally: each datagram is counted
//! once, whatever comes in whatever order.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use proptest::prelude::*;

use crate::decode::decoder::Framed;
use crate::decode::framing::datagram::Whole;
use crate::decode::stage::DecodeStage;
use crate::settle::run::Run;
use crate::sink::handler::{Sink, SinkHandler};
use crate::sink::stdout::tests::{batch, no_replies};
use crate::sink::tests::chunks::{Chunks, EXPIRED, NOT_ONE, OVERFLOW, STOPPED, TWICE};
use ringest_engine::batch::arena::Datagram;
use ringest_engine::work::handler::{Handler, Outcome};

const AGE: Duration = Duration::from_secs(10);

/// Keeps records, and settles datagrams a few at a time; loses those whose turn it is.
#[derive(Debug)]
struct Slow {
    records: Arc<Mutex<Vec<Vec<u8>>>>,
    /// Datagrams that are not settled yet.
    open: u64,
    /// Datagrams settled in a pump, and whether they are lost; then again from the start.
    turns: VecDeque<(u64, bool)>,
}

impl Sink for Slow {
    fn record(&mut self, _: &Datagram<'_>, record: &[u8], _: Instant) {
        self.records.lock().unwrap().push(record.to_vec());
    }

    fn end_datagram(&mut self, _: Instant) {
        self.open += 1;
    }

    fn pump(&mut self, _: Instant, tell: &mut dyn FnMut(Run)) {
        let Some((datagrams, lost)) = self.turns.pop_front() else { return };
        self.turns.push_back((datagrams, lost));
        let datagrams = datagrams.min(self.open);
        self.open -= datagrams;
        tell(Run { datagrams, lost });
    }

    fn finish(&mut self, _: Instant, tell: &mut dyn FnMut(Run)) {
        tell(Run { datagrams: std::mem::take(&mut self.open), lost: false });
    }
}

struct Rig {
    handler: SinkHandler,
    ahead: Arc<AtomicU64>,
    records: Arc<Mutex<Vec<Vec<u8>>>>,
    handled: u64,
}

impl Rig {
    fn new(bytes_max: usize, turns: &[&[(u64, bool)]]) -> Self {
        let ahead = Arc::new(AtomicU64::new(0));
        let decoder = Framed(Whole, Chunks::new(bytes_max, AGE, &ahead));
        let stage = DecodeStage::new(vec![Box::new(decoder)], None);
        let records = Arc::new(Mutex::new(Vec::new()));
        let sink = |turns: &&[(u64, bool)]| -> Box<dyn Sink> {
            let turns = turns.iter().copied().collect();
            Box::new(Slow { records: Arc::clone(&records), open: 0, turns })
        };
        let sinks = turns.iter().map(sink).collect();
        Self { handler: SinkHandler::new(stage, sinks), ahead, records, handled: 0 }
    }

    fn handle(&mut self, payloads: &[&[u8]]) -> Outcome {
        self.handled += payloads.len() as u64;
        self.handler.handle(&batch(payloads), &mut no_replies());
        self.balanced()
    }

    /// Moves the clock.
    fn pass(&mut self, time: Duration) -> Outcome {
        self.ahead.fetch_add(time.as_secs(), Ordering::Relaxed);
        self.handler.on_idle();
        self.balanced()
    }

    fn finish(&mut self) -> Outcome {
        self.handler.finish();
        self.balanced()
    }

    fn balanced(&self) -> Outcome {
        let outcome = self.handler.outcome(self.handled);
        let Outcome { rejected, delivered, undelivered, pending, .. } = outcome;
        assert_eq!(rejected + delivered + undelivered + pending, self.handled, "{outcome:?}");
        let pending_in_tally: u64 = self.handler.tallies().map(|tally| tally.pending()).sum();
        assert_eq!(pending_in_tally, pending);
        outcome
    }

    fn records(&self) -> Vec<Vec<u8>> {
        self.records.lock().unwrap().clone()
    }

    fn reasons(&self) -> BTreeMap<&'static str, u64> {
        self.handler.stage().rejected_by_reason().iter().copied().collect()
    }
}

/// Settles everything at once.
const PROMPT: &[(u64, bool)] = &[(u64::MAX, false)];

#[test]
fn chunks_are_pending_until_their_message_is_whole_and_share_its_fate() {
    let mut rig = Rig::new(1 << 20, &[PROMPT]);
    let outcome = rig.handle(&[b"c\x01\x02\x03three", b"c\x01\x00\x03one"]);
    assert_eq!((outcome.pending, outcome.delivered), (2, 0));
    assert_eq!(rig.handler.due_within(), Some(AGE));
    let outcome = rig.handle(&[b"c\x01\x01\x03two"]);
    assert_eq!((outcome.pending, outcome.delivered, outcome.records), (0, 3, 1));
    assert_eq!(rig.records(), [b"onetwothree"]);
    // A sink that loses the message loses three datagrams.
    let mut rig = Rig::new(1 << 20, &[PROMPT, &[(u64::MAX, true)]]);
    let chunks: [&[u8]; 3] = [b"c\x01\x00\x03one", b"c\x01\x01\x03two", b"c\x01\x02\x03three"];
    let outcome = rig.handle(&chunks);
    assert_eq!((outcome.undelivered, outcome.delivered), (3, 0));
}

#[test]
fn a_record_waits_for_its_template_and_keeps_its_own_fate() {
    let mut rig = Rig::new(1 << 20, &[PROMPT]);
    let outcome = rig.handle(&[b"d\x07one", b"d\x07two", b"d\x08other"]);
    assert_eq!((outcome.pending, outcome.records), (3, 0));
    let outcome = rig.handle(&[b"t\x07", b"d\x07three"]);
    assert_eq!((outcome.pending, outcome.delivered, outcome.records), (1, 4, 3));
    assert_eq!(rig.records(), [b"one".to_vec(), b"two".to_vec(), b"three".to_vec()]);
}

#[test]
fn expiry_overflow_and_a_stop_reject_by_cause() {
    let mut rig = Rig::new(3 * 400, &[PROMPT]);
    rig.handle(&[b"c\x01\x00\x03a", b"c\x01\x01\x03b"]);
    rig.pass(AGE / 2);
    assert_eq!(rig.handle(&[b"d\x01waits"]).rejected, 0);
    // The message is old, the data is not.
    let outcome = rig.pass(AGE / 2);
    assert_eq!((outcome.rejected, outcome.pending), (2, 1));
    assert_eq!(rig.reasons(), BTreeMap::from([(EXPIRED, 2)]));
    // More than there is room for: the oldest goes.
    for id in 10..20 {
        rig.handle(&[&[b'c', id, 0, 2, b'x']]);
    }
    let outcome = rig.balanced();
    let overflown = rig.reasons()[OVERFLOW];
    assert!(overflown > 0 && outcome.pending > 0, "{outcome:?}");
    let pending = outcome.pending;
    let outcome = rig.finish();
    assert_eq!((outcome.pending, outcome.rejected), (0, 2 + overflown + pending));
    assert_eq!(rig.reasons()[STOPPED], pending);
}

#[derive(Clone, Debug)]
enum Step {
    Datagrams(Vec<Vec<u8>>),
    Pass(u64),
}

fn datagram() -> impl Strategy<Value = Vec<u8>> {
    let body = proptest::collection::vec(any::<u8>(), 0..4);
    prop_oneof![
        6 => (0..4u8, 0..4u8, 1..5u8, body.clone()).prop_map(|(id, index, count, body)| {
            [&[b'c', id, index, count][..], &body].concat()
        }),
        3 => (0..4u8, body.clone()).prop_map(|(key, body)| [&[b'd', key][..], &body].concat()),
        1 => (0..4u8).prop_map(|key| vec![b't', key]),
        1 => body,
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => proptest::collection::vec(datagram(), 0..12).prop_map(Step::Datagrams),
        1 => (0..15u64).prop_map(Step::Pass),
    ]
}

proptest! {
    /// Random orders, sinks ahead of each other that lose some, expiry, overflow and a stop: at each step every
    /// datagram is counted once, and at the end none is pending.
    #[test]
    fn every_datagram_is_counted_once(
        steps in proptest::collection::vec(step(), 0..30),
        turns in proptest::collection::vec(
            proptest::collection::vec((0..5u64, any::<bool>()), 1..4), 0..3),
        room in 0..12usize,
    ) {
        let turns: Vec<_> = turns.iter().map(Vec::as_slice).collect();
        let mut rig = Rig::new(room * 250, &turns);
        for step in steps {
            match step {
                Step::Datagrams(datagrams) => {
                    rig.handle(&datagrams.iter().map(Vec::as_slice).collect::<Vec<_>>());
                }
                Step::Pass(seconds) => drop(rig.pass(Duration::from_secs(seconds))),
            }
        }
        let outcome = rig.finish();
        prop_assert_eq!(outcome.pending, 0);
        let known = [EXPIRED, OVERFLOW, STOPPED, NOT_ONE, TWICE];
        prop_assert!(rig.reasons().keys().all(|reason| known.contains(reason)));
        let rejected: u64 = rig.reasons().values().sum();
        prop_assert_eq!(rejected, outcome.rejected, "one part a datagram");
        prop_assert_eq!(outcome.records_rejected, rejected);
    }
}
