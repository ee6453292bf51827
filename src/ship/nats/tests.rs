//! The window against a model of the stream: lossy, shared, restarted, of several versions.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use crate::carrier::{MessageId, Verdict};
use crate::nats::answer::Answer;
use crate::nats::window::{Expected, Order, Window};

/// A stream as the servers have it: duplicates first, then what is expected, in one step.
#[derive(Debug, Default)]
struct Stream {
    /// Our records, or another's.
    log: Vec<Option<u64>>,
    noted: HashMap<u64, u64>,
}

/// Records that the stream never takes.
fn is_too_large(record: u64) -> bool {
    record % 23 == 11
}

impl Stream {
    fn take(&mut self, record: u64, expected: Expected) -> Answer {
        let last = self.log.len() as u64;
        if let Some(&sequence) = self.noted.get(&record) {
            return Answer::Stored { sequence };
        }
        if is_too_large(record) {
            return Answer::TooLarge(String::new());
        }
        match expected {
            Expected::Id(before) if self.log.last() != Some(&Some(before.offset)) => {
                return Answer::OutOfTurn { last: None };
            }
            Expected::Sequence(before) if before != last => {
                return Answer::OutOfTurn { last: Some(last) };
            }
            _ => {}
        }
        self.log.push(Some(record));
        self.noted.insert(record, last + 1);
        Answer::Stored { sequence: last + 1 }
    }
}

fn id(record: u64) -> MessageId {
    MessageId { segment: 1, worker: 0, sequence: 0, offset: record }
}

/// Events that may happen between two steps.
#[derive(Clone, Copy, Debug)]
enum Happening {
    /// This many messages are sent; arrive at the stream; are answered; are lost on the way there.
    Send(u8),
    Arrive(u8),
    Answer(u8),
    Lose(u8),
    /// The next message that arrives is not taken: the stream is full.
    Fail,
    /// The shipper stops, and begins at its cursor again. What is in the old connection may still arrive.
    Crash,
    ArriveLate(u8),
    /// The leader that the next connection asks has not stored this many messages yet, although they are
    /// certain to be stored.
    Behind(u8),
    /// Another writes, unless this stream has one writer.
    Others(u8),
    SecondsPass(u8),
}

fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    let one = prop_oneof![
        8 => (1u8..40).prop_map(Happening::Send),
        8 => (1u8..40).prop_map(Happening::Arrive),
        8 => (1u8..40).prop_map(Happening::Answer),
        1 => (1u8..6).prop_map(Happening::Lose),
        1 => Just(Happening::Fail),
        1 => Just(Happening::Crash),
        2 => (1u8..20).prop_map(Happening::ArriveLate),
        1 => (1u8..20).prop_map(Happening::Behind),
        1 => (1u8..4).prop_map(Happening::Others),
        1 => (1u8..40).prop_map(Happening::SecondsPass),
    ];
    prop::collection::vec(one, 0..150)
}

/// A message on its way.
type Sent = ((u64, u32), u64, Expected);

/// A shipper, a window and a stream.
struct Scene {
    stream: Stream,
    order: Order,
    is_shared: bool,
    window: Window<u64>,
    /// The next record to hand over, the first that is not settled, and what is behind it but known.
    head: u64,
    cursor: u64,
    known: HashSet<u64>,
    /// Ticket less record, as of the last reset.
    shift: u64,
    to_stream: VecDeque<Sent>,
    from_stream: VecDeque<((u64, u32), Answer)>,
    late: VecDeque<Sent>,
    fail: bool,
    behind: u64,
    now: Instant,
}

const RECORDS: u64 = 200;

fn peer(record: u64) -> SocketAddr {
    let port = [7u16, 7, 1, 2, 7, 3, 3][usize::try_from(record * 31 % 7).unwrap()];
    SocketAddr::from(([127, 0, 0, 1], port))
}

impl Scene {
    fn new(order: Order, is_shared: bool) -> Self {
        let mut scene = Self {
            stream: Stream { log: vec![None; 3], noted: HashMap::new() },
            order,
            is_shared,
            window: Window::new(order),
            head: 0,
            cursor: 0,
            known: HashSet::new(),
            shift: 1000,
            to_stream: VecDeque::new(),
            from_stream: VecDeque::new(),
            late: VecDeque::new(),
            fail: false,
            behind: 0,
            now: Instant::now(),
        };
        scene.begin();
        scene
    }

    /// A new connection, which asks for the last sequence.
    fn begin(&mut self) {
        let last = (self.stream.log.len() as u64).saturating_sub(std::mem::take(&mut self.behind));
        self.window = Window::new(match self.order {
            Order::Sequence(_) => Order::Sequence(last),
            order => order,
        });
        self.shift += 1000;
        self.known.clear();
        self.head = self.cursor;
    }

    fn crash(&mut self) {
        self.from_stream.clear();
        self.late.append(&mut self.to_stream);
        self.begin();
    }

    fn send(&mut self, count: u8) {
        while self.window.len() < 50 && self.head < RECORDS {
            self.window.push(self.head + self.shift, (id(self.head), peer(self.head)), self.head);
            self.head += 1;
        }
        for _ in 0..count {
            let Some(out) = self.window.send(self.now) else { return };
            self.to_stream.push_back(((out.ticket, out.attempt), *out.message, out.expected));
        }
    }

    fn arrive(&mut self, count: u8) {
        for _ in 0..count {
            let Some((key, id, expected)) = self.to_stream.pop_front() else { return };
            let answer = if std::mem::take(&mut self.fail) {
                Answer::Failed("full".to_owned())
            } else {
                self.stream.take(id, expected)
            };
            self.from_stream.push_back((key, answer));
        }
    }

    fn answer(&mut self, count: u8) {
        for _ in 0..count {
            let Some((key, answer)) = self.from_stream.pop_front() else { return };
            match self.window.answered(key, answer, self.now) {
                Some((_, Verdict::Again(_))) => return self.crash(),
                Some((ticket, verdict)) => {
                    let record = ticket - self.shift;
                    assert_eq!(matches!(verdict, Verdict::Rejected(_)), is_too_large(record));
                    self.known.insert(record);
                    while self.known.remove(&self.cursor) {
                        self.cursor += 1;
                    }
                }
                None => {}
            }
        }
    }

    fn happen(&mut self, what: Happening) {
        match what {
            Happening::Send(count) => self.send(count),
            Happening::Arrive(count) => self.arrive(count),
            Happening::Answer(count) => self.answer(count),
            Happening::Lose(count) => {
                let count = usize::from(count).min(self.to_stream.len());
                self.to_stream.drain(..count);
            }
            Happening::Fail => self.fail = true,
            Happening::Crash => self.crash(),
            Happening::ArriveLate(count) => {
                for (_, id, expected) in self.late.drain(..usize::from(count).min(self.late.len()))
                {
                    self.stream.take(id, expected);
                }
            }
            Happening::Behind(count) => self.behind = count.into(),
            Happening::Others(count) if self.is_shared => {
                self.stream.log.extend(std::iter::repeat_n(None, count.into()));
            }
            Happening::Others(_) => {}
            Happening::SecondsPass(seconds) => {
                self.now += Duration::from_secs(seconds.into());
                if self.window.overdue(self.now).is_some() {
                    self.crash();
                }
            }
        }
    }

    /// Goes on undisturbed until everything is settled.
    fn finish(&mut self) {
        self.fail = false;
        for _ in 0..2000 {
            if self.cursor == RECORDS {
                return;
            }
            for what in [Happening::Send, Happening::Arrive, Happening::Answer] {
                self.happen(what(u8::MAX));
            }
            self.happen(Happening::SecondsPass(1));
        }
        panic!("it does not come to an end: {} of {RECORDS}, {:?}", self.cursor, self.window);
    }

    /// Every record once, but those too large; each peer's in order.
    fn check(&self) {
        let stored: Vec<u64> = self.stream.log.iter().flatten().copied().collect();
        let distinct: HashSet<u64> = stored.iter().copied().collect();
        assert_eq!(distinct.len(), stored.len(), "stored twice");
        for record in 0..RECORDS {
            assert_ne!(distinct.contains(&record), is_too_large(record), "{record}");
        }
        let mut last = HashMap::new();
        for record in stored {
            let before = last.insert(peer(record), record);
            assert!(before.is_none_or(|before| before < record), "{before:?} before {record}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_every_record_is_stored_once_in_its_peers_order(
        (order, is_shared) in prop_oneof![
            (Just(Order::Id), any::<bool>()),
            (Just(Order::Peer), any::<bool>()),
            (Just(Order::Sequence(0)), Just(false)),
        ],
        happenings in happenings(),
    ) {
        let mut scene = Scene::new(order, is_shared);
        for what in happenings {
            scene.happen(what);
        }
        scene.finish();
        scene.check();
    }
}

fn window(order: Order, peers: &[u64]) -> Window<u64> {
    let mut window = Window::new(order);
    for (ticket, of) in (0..).zip(peers) {
        window.push(ticket, (id(ticket), peer(*of)), ticket);
    }
    window
}

/// Sends all that may be sent now; tells what each expects.
fn sent(window: &mut Window<u64>, now: Instant) -> Vec<(u64, u32, Expected)> {
    let mut sent = Vec::new();
    while let Some(out) = window.send(now) {
        sent.push((*out.message, out.attempt, out.expected));
    }
    sent
}

fn expectations(sent: &[(u64, u32, Expected)]) -> Vec<(u64, Expected)> {
    sent.iter().map(|one| (one.0, one.2)).collect()
}

#[test]
fn behind_a_missing_message_all_are_sent_again_at_once() {
    use Expected::{Id, Nothing, Sequence};
    for order in [Order::Id, Order::Sequence(40)] {
        let (mut window, now) = (window(order, &[0; 5]), Instant::now());
        let mut first = sent(&mut window, now);
        let is_by_id = order == Order::Id;
        assert_eq!(first.len(), if is_by_id { 5 } else { 1 });
        let either = |by_id, sequence| if is_by_id { by_id } else { Sequence(sequence) };
        let expected: Vec<_> = (0..5)
            .map(|at| (at, either(if at == 0 { Nothing } else { Id(id(at - 1)) }, 40 + at)))
            .collect();
        let stored = Answer::Stored { sequence: 41 };
        assert_eq!(window.answered((0, first[0].1), stored, now), Some((0, Verdict::Acknowledged)));
        first.extend(sent(&mut window, now));
        assert_eq!(expectations(&first), expected);
        // Message 1 is missing; the answers to those behind it tell that.
        for (ticket, attempt, _) in &first[2..] {
            assert_eq!(sent(&mut window, now), [], "nothing is sent before all is known");
            let refused = Answer::OutOfTurn { last: (!is_by_id).then_some(41) };
            assert_eq!(window.answered((*ticket, *attempt), refused, now), None);
        }
        let mut again = sent(&mut window, now);
        let late = window.answered((1, first[1].1), Answer::Failed(String::new()), now);
        assert_eq!(late, None, "an answer to an earlier attempt says nothing of this one");
        window.answered((1, again[0].1), Answer::Stored { sequence: 42 }, now).unwrap();
        again.extend(sent(&mut window, now));
        let expected: Vec<_> = (1..5)
            .map(|at| (at, either(if at == 1 { Nothing } else { Id(id(at - 1)) }, 40 + at)))
            .collect();
        assert_eq!(expectations(&again), expected);
    }
}

#[test]
fn a_leader_that_is_behind_lets_no_message_overtake_another() {
    use Expected::Sequence;
    // It says 37, and the stream has 40.
    let (mut window, now) = (window(Order::Sequence(37), &[0; 9]), Instant::now());
    let first = sent(&mut window, now);
    assert_eq!(expectations(&first), [(0, Sequence(37))], "the fourth would be stored");
    let refused = Answer::OutOfTurn { last: Some(40) };
    assert_eq!(window.answered((0, first[0].1), refused, now), None);
    let first = sent(&mut window, now);
    assert_eq!(expectations(&first), [(0, Sequence(40))]);
    // It was stored before, as 39: so the next one is 40, or will be.
    window.answered((0, first[0].1), Answer::Stored { sequence: 39 }, now).unwrap();
    let expected: Vec<_> = (1..9).map(|at| (at, Sequence(38 + at))).collect();
    assert_eq!(expectations(&sent(&mut window, now)), expected);
}

#[test]
fn by_peer_one_message_of_each_is_under_way() {
    let (mut window, now) = (window(Order::Peer, &[0, 0, 2, 0]), Instant::now());
    let first = sent(&mut window, now);
    assert_eq!(expectations(&first), [(0, Expected::Nothing), (2, Expected::Nothing)]);
    window.answered((2, first[1].1), Answer::Stored { sequence: 31 }, now).unwrap();
    assert_eq!(sent(&mut window, now), []);
    window.answered((0, first[0].1), Answer::Stored { sequence: 30 }, now).unwrap();
    let next = sent(&mut window, now);
    assert_eq!(expectations(&next), [(1, Expected::Nothing)]);
    window.answered((1, next[0].1), Answer::TooLarge(String::new()), now).unwrap();
    assert_eq!(expectations(&sent(&mut window, now)), [(3, Expected::Nothing)]);
}

#[test]
fn where_others_write_fewer_are_under_way_for_a_while() {
    let (mut window, mut now) = (window(Order::Id, &[0; 3000]), Instant::now());
    let mut sizes = Vec::new();
    for sequence in 1..9 {
        let round = sent(&mut window, now);
        sizes.push(round.len());
        assert_eq!(window.is_contended(now), sequence > 3);
        // Another's message comes behind the first one.
        window.answered((round[0].0, round[0].1), Answer::Stored { sequence }, now).unwrap();
        for (ticket, attempt, _) in &round[1..] {
            let refused = Answer::OutOfTurn { last: None };
            assert_eq!(window.answered((*ticket, *attempt), refused, now), None);
        }
    }
    assert_eq!(sizes, [3000, 2048, 1024, 512, 256, 128, 64, 64]);
    for sequence in 9..2000 {
        for (ticket, attempt, _) in sent(&mut window, now) {
            window.answered((ticket, attempt), Answer::Stored { sequence }, now).unwrap();
        }
    }
    assert_eq!((window.front(), window.len()), (None, 0));
    now += Duration::from_secs(11);
    assert!(!window.is_contended(now));
}

#[test]
fn what_nobody_answers_is_overdue() {
    let (mut window, now) = (window(Order::Id, &[0]), Instant::now());
    assert_eq!(window.overdue(now + Duration::from_secs(3600)), None, "it was not sent");
    let attempt = sent(&mut window, now)[0].1;
    assert_eq!(window.overdue(now + Duration::from_secs(4)), None);
    assert_eq!(window.overdue(now + Duration::from_secs(5)), Some(0));
    window.answered((0, attempt), Answer::Stored { sequence: 1 }, now).unwrap();
    assert_eq!(window.overdue(now + Duration::from_secs(3600)), None);
}

#[test]
fn what_cannot_be_sent_leaves_no_gap() {
    for order in [Order::Id, Order::Sequence(5), Order::Peer] {
        let (mut window, now) = (window(order, &[0; 3]), Instant::now());
        let expected = window.send(now).unwrap().expected;
        window.unsend(0);
        let out = window.send(now).unwrap();
        assert_eq!((out.ticket, out.expected), (0, expected), "as if it had not been tried");
        window.settle_unsendable(0);
        let out = window.send(now).unwrap();
        assert_eq!((out.ticket, out.expected), (1, expected), "it takes the place");
        assert_eq!(window.front(), Some(1));
    }
}

#[test]
fn an_answer_that_makes_no_sense_is_no_endless_round() {
    for (order, last) in [(Order::Id, Some(7)), (Order::Sequence(5), None), (Order::Peer, Some(7))]
    {
        let (mut window, now) = (window(order, &[0]), Instant::now());
        let attempt = sent(&mut window, now)[0].1;
        let verdict = window.answered((0, attempt), Answer::OutOfTurn { last }, now);
        assert!(matches!(verdict, Some((0, Verdict::Again(_)))), "{verdict:?}");
    }
}
