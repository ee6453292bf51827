//! What is under way, and what may be sent next: here the order of each peer's records is kept.
//!
//! A stream stores what it gets in the order it gets it. While it has no leader, while a route is down or the
//! stream is full, messages in the middle are lost and later ones are stored. Where the order counts, a later
//! one must be kept out then. Three ways, [`Order`]:
//!
//! *By id*: each message names the one that must be the stream's last (`Nats-Expected-Last-Msg-Id`), the one before
//! it. Behind a missing one the stream refuses all others. When all that was sent is answered, what was
//! refused is sent again from there, and the first names nobody: all before it are settled. Any number may be
//! under way; another's message in between costs a round trip.
//!
//! *By sequence*: each says which sequence the last one must have (`Nats-Expected-Last-Sequence`), counted on. The same,
//! but another's message in between is taken for the missing one: for streams with one writer. Where it counts
//! from must be right, or one in the middle fits and gets in before the first: a leader that was chosen a moment
//! ago may tell a last sequence that is too low. So the first goes alone, until it is known where it is.
//!
//! *By peer*: one message of each peer is under way and expects nothing. Slow where few peers send much, and
//! right on every server, whoever else writes.
//!
//! Which one, was found out with nats-server 2.9.10, 2.10.26, 2.11.11, 2.12.8, 2.14.6 and 2.15.1:
//! - Streams without replicas look for a duplicate, then at the last id, then store, in one step. By id.
//! - Replicated ones do not get along with ids: a follower of 2.9 that catches up does not learn the last
//!   one, refuses what its leader stores, and has other contents then. 2.10 and later note an id for the
//!   duplicate window before they refuse it: sent again, it counts as a duplicate that is nowhere.
//! - 2.10 and 2.11 do the latter with sequences, too. 2.10 even acknowledges such a message, with sequence 0; 2.11 says
//!   "in process". So by peer. 2.9 notes what it stores, and 2.12 refuses a sequence before it notes the id: by
//!   sequence if the operator says that nobody else writes, else by peer.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::carrier::{MessageId, Verdict};
use crate::nats::answer::Answer;

/// Without any answer for so long, what is under way is given up. A cluster chooses a leader within 4 s to 6 s,
/// and says "no responders" meanwhile, so that nobody waits for this then.
const SILENT_MAX: Duration = Duration::from_secs(5);

/// While others are answered, one that is not is given up after so long.
const UNANSWERED_MAX: Duration = Duration::from_secs(30);

/// Messages sent and not answered at most: half of what nats-server buffers for a stream (10 000), so that it
/// never drops one for that. Fewer would not fill a long way: 4096 in 10 ms are 400 000 a second.
pub(crate) const SENT_MAX: usize = 4096;

/// And at least, when others write to the stream: each of their messages costs so many refusals, or more.
const SENT_MIN: usize = 64;

/// So many rounds spoiled, none of them longer than this after the one before, and the operator is told.
const SPOILED: (u32, Duration) = (3, Duration::from_secs(10));

/// How the order is kept; see the module's description.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// By id.
    Id,
    /// By sequence, from the stream's last one on.
    Sequence(u64),
    /// By peer.
    Peer,
}

/// What a message expects of the stream's last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    Nothing,
    Id(MessageId),
    Sequence(u64),
}

impl Expected {
    /// Whether it can be known what to expect instead, when the stream says that its last sequence is this.
    fn is_to_be_had(self, last: Option<u64>) -> bool {
        match self {
            Self::Nothing => false,
            Self::Id(_) => true,
            Self::Sequence(_) => last.is_some(),
        }
    }
}

/// A message whose turn it is.
#[derive(Debug)]
pub(crate) struct Outgoing<'a, M> {
    pub(crate) ticket: u64,
    pub(crate) attempt: u32,
    pub(crate) expected: Expected,
    pub(crate) id: MessageId,
    pub(crate) message: &'a M,
}

/// A message that is not settled, or behind one that is not.
#[derive(Debug)]
struct Flight<M> {
    id: MessageId,
    peer: SocketAddr,
    message: M,
    /// Told with each answer, so that one to an earlier attempt is known.
    attempt: u32,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    Sent {
        at: Instant,
        expected: Expected,
    },
    /// The stream has not got it.
    Refused,
    Done,
}

/// By peer: what waits for its turn.
#[derive(Debug, Default)]
struct Peers {
    /// Tickets of each peer that has one under way or ready, behind that one.
    behind: HashMap<SocketAddr, VecDeque<u64>>,
    /// Tickets whose turn it is.
    ready: VecDeque<u64>,
}

impl Peers {
    fn add(&mut self, peer: SocketAddr, ticket: u64) {
        match self.behind.get_mut(&peer) {
            Some(behind) => behind.push_back(ticket),
            None => {
                self.behind.insert(peer, VecDeque::new());
                self.ready.push_back(ticket);
            }
        }
    }

    fn done(&mut self, peer: SocketAddr) {
        match self.behind.get_mut(&peer).and_then(VecDeque::pop_front) {
            Some(ticket) => self.ready.push_back(ticket),
            None => {
                self.behind.remove(&peer);
            }
        }
    }
}

/// See the module's description.
#[derive(Debug)]
pub(crate) struct Window<M> {
    order: Order,
    flights: VecDeque<Flight<M>>,
    /// The ticket of the first flight.
    first: u64,
    /// The ticket to send next; not by peer.
    next: u64,
    /// What that one is to expect.
    expected: Expected,
    /// Whether that is known from where the one before it is. By sequence.
    counts: bool,
    /// The highest sequence that the stream told.
    last: u64,
    peers: Peers,
    /// How many are sent and not answered, and how many may be.
    sent: usize,
    sent_max: usize,
    /// Some were refused: no more is sent until all that was sent is answered. Not by peer.
    halted: bool,
    /// Rounds spoiled one soon after the other, and when the last one was.
    spoiled: (u32, Option<Instant>),
    attempts: u32,
    /// When the last answer came, or when all were answered.
    heard_at: Option<Instant>,
}

impl<M> Window<M> {
    /// Nothing under way.
    pub(crate) fn new(order: Order) -> Self {
        let (expected, last) = match order {
            Order::Sequence(last) => (Expected::Sequence(last), last),
            Order::Id | Order::Peer => (Expected::Nothing, 0),
        };
        Self {
            order,
            flights: VecDeque::new(),
            first: 0,
            next: 0,
            expected,
            counts: false,
            last,
            peers: Peers::default(),
            sent: 0,
            sent_max: SENT_MAX,
            halted: false,
            spoiled: (0, None),
            attempts: 0,
            heard_at: None,
        }
    }

    /// As a new one with everything that `other` has, none of it sent.
    pub(crate) fn take_over(&mut self, other: Self) {
        for (ticket, flight) in (other.first..).zip(other.flights) {
            self.push(ticket, (flight.id, flight.peer), flight.message);
        }
    }

    /// The ticket of the first that is not settled.
    pub(crate) fn front(&self) -> Option<u64> {
        (!self.flights.is_empty()).then_some(self.first)
    }

    /// Messages that are not settled, or behind one that is not.
    pub(crate) fn len(&self) -> usize {
        self.flights.len()
    }

    /// Whether others write to the stream so often that it costs something.
    pub(crate) fn is_crowded(&self, now: Instant) -> bool {
        let lately = |at| now.saturating_duration_since(at) <= SPOILED.1;
        self.spoiled.0 >= SPOILED.0 && self.spoiled.1.is_some_and(lately)
    }

    /// Whether others write to it although it should have one writer.
    pub(crate) fn is_intruded(&self, now: Instant) -> bool {
        matches!(self.order, Order::Sequence(_)) && self.is_crowded(now)
    }

    /// A message behind all others.
    pub(crate) fn push(&mut self, ticket: u64, (id, peer): (MessageId, SocketAddr), message: M) {
        if self.flights.is_empty() {
            (self.first, self.next) = (ticket, ticket);
        }
        debug_assert_eq!(ticket, self.first + self.flights.len() as u64, "tickets count on");
        self.flights.push_back(Flight { id, peer, message, attempt: 0, state: State::Waiting });
        if self.order == Order::Peer {
            self.peers.add(peer, ticket);
        }
    }

    fn flight(&mut self, ticket: u64) -> Option<&mut Flight<M>> {
        let index = usize::try_from(ticket.checked_sub(self.first)?).ok()?;
        self.flights.get_mut(index)
    }

    /// The next message to send, which counts as sent then.
    pub(crate) fn send(&mut self, now: Instant) -> Option<Outgoing<'_, M>> {
        if self.sent == 0 {
            self.begin_round(now);
        }
        let alone = !self.counts && matches!(self.order, Order::Sequence(_));
        if self.sent >= if alone { 1 } else { self.sent_max } {
            return None;
        }
        let ticket = match self.order {
            Order::Peer => self.peers.ready.pop_front()?,
            _ if self.halted => return None,
            _ => self.open_from(self.next)?,
        };
        let (expected, attempt) = (self.expected, self.attempts.wrapping_add(1));
        let flight = self.flight(ticket)?;
        flight.state = State::Sent { at: now, expected };
        flight.attempt = attempt;
        let id = flight.id;
        (self.attempts, self.next) = (attempt, ticket + 1);
        self.sent += 1;
        self.expected = match (self.order, expected) {
            (Order::Id, _) => Expected::Id(id),
            (_, Expected::Sequence(last)) => Expected::Sequence(last + 1),
            _ => Expected::Nothing,
        };
        let message = &self.flight(ticket)?.message;
        Some(Outgoing { ticket, attempt, expected, id, message })
    }

    /// The first ticket from this one on that is not settled.
    fn open_from(&self, ticket: u64) -> Option<u64> {
        let index = usize::try_from(ticket - self.first).ok()?;
        let open = |flight: &Flight<M>| flight.state != State::Done;
        Some(ticket + self.flights.iter().skip(index).position(open)? as u64)
    }

    /// The message sent last was not sent after all; it is its turn again.
    pub(crate) fn unsend(&mut self, ticket: u64) {
        let Some(flight) = self.flight(ticket) else { return };
        if let State::Sent { expected, .. } = flight.state {
            flight.state = State::Waiting;
            (self.expected, self.next) = (expected, ticket);
            self.sent -= 1;
            if self.order == Order::Peer {
                self.peers.ready.push_front(ticket);
            }
        }
    }

    /// The message sent last cannot be sent at all: it is settled, and the next one takes its place.
    pub(crate) fn strike(&mut self, ticket: u64) {
        self.unsend(ticket);
        self.next = ticket + 1;
        self.peers.ready.pop_front_if(|first| *first == ticket);
        self.settle(ticket);
    }

    /// Takes note of an answer; tells what is known then.
    pub(crate) fn answered(
        &mut self,
        (ticket, attempt): (u64, u32),
        answer: Answer,
        now: Instant,
    ) -> Option<(u64, Verdict)> {
        let flight = self.flight(ticket)?;
        let State::Sent { expected, .. } = flight.state else { return None };
        if flight.attempt != attempt {
            return None;
        }
        self.sent -= 1;
        self.heard_at = Some(now);
        let verdict = match answer {
            Answer::Stored { sequence, .. } => {
                self.last = self.last.max(sequence);
                if let (Order::Sequence(_), false) = (self.order, self.counts) {
                    (self.expected, self.counts) = (Expected::Sequence(sequence), true);
                }
                self.sent_max = (self.sent_max + 1).min(SENT_MAX);
                self.settle(ticket);
                Verdict::Acknowledged
            }
            Answer::TooLarge(reason) => {
                self.settle(ticket);
                Verdict::Rejected(reason)
            }
            Answer::OutOfTurn { last } if expected.is_to_be_had(last) => {
                self.last = last.unwrap_or(self.last);
                self.refuse(ticket);
                self.refuse_missing(ticket, last);
                return None;
            }
            Answer::OutOfTurn { .. } => {
                self.refuse(ticket);
                Verdict::Again(
                    "the stream expects another message, and does not say which".to_owned(),
                )
            }
            Answer::Failed(reason) => {
                self.refuse(ticket);
                Verdict::Again(reason)
            }
        };
        Some((ticket, verdict))
    }

    fn refuse(&mut self, ticket: u64) {
        if let Some(flight) = self.flight(ticket) {
            flight.state = State::Refused;
        }
        self.halted = true;
    }

    /// Messages go one way, so what was sent before `ticket` and was not there when that was refused is missing:
    /// nobody will answer to it. If one is there after all, it will turn out to be a duplicate.
    fn refuse_missing(&mut self, ticket: u64, last: Option<u64>) {
        let before = usize::try_from(ticket.saturating_sub(self.first)).unwrap_or(usize::MAX);
        let before = before.min(self.flights.len());
        for flight in self.flights.iter_mut().take(before).rev() {
            let is_missing = match (flight.state, last) {
                (State::Done, _) => continue,
                (State::Sent { expected: Expected::Sequence(expected), .. }, Some(last)) => {
                    expected >= last
                }
                (State::Sent { .. }, _) => self.order == Order::Id,
                (State::Waiting | State::Refused, _) => false,
            };
            if !is_missing {
                return;
            }
            flight.state = State::Refused;
            self.sent -= 1;
        }
    }

    fn settle(&mut self, ticket: u64) {
        let Some(flight) = self.flight(ticket) else { return };
        flight.state = State::Done;
        let peer = flight.peer;
        if self.order == Order::Peer {
            self.peers.done(peer);
        }
        while self.flights.pop_front_if(|flight| flight.state == State::Done).is_some() {
            self.first += 1;
        }
        self.next = self.next.max(self.first);
    }

    /// All that was sent is answered.
    fn begin_round(&mut self, now: Instant) {
        self.heard_at = Some(now);
        if self.order == Order::Peer {
            return;
        }
        // All before the next one are settled, so it need not name the last one.
        if self.order == Order::Id {
            self.expected = Expected::Nothing;
        }
        if !self.halted {
            return;
        }
        self.halted = false;
        self.next = self.first;
        for flight in self.flights.iter_mut().filter(|flight| flight.state != State::Done) {
            flight.state = State::Waiting;
        }
        if self.order != Order::Id {
            (self.expected, self.counts) = (Expected::Sequence(self.last), false);
        }
        self.sent_max = (self.sent_max / 2).max(SENT_MIN);
        if self.spoiled.1.is_none_or(|at| now.duration_since(at) > SPOILED.1) {
            self.spoiled.0 = 0;
        }
        self.spoiled = (self.spoiled.0 + 1, Some(now));
    }

    /// The first message that waited too long for an answer.
    pub(crate) fn overdue(&self, now: Instant) -> Option<u64> {
        let over = |since: Instant, bound| now.saturating_duration_since(since) >= bound;
        if self.sent == 0 {
            return None;
        }
        let silent = self.heard_at.is_some_and(|since| over(since, SILENT_MAX));
        let late = |flight: &Flight<M>| match flight.state {
            State::Sent { at, .. } => silent || over(at, UNANSWERED_MAX),
            _ => false,
        };
        // The first one waits longest; a window is not searched at every turn.
        let searched = if silent { self.flights.len() } else { 1 };
        let index = self.flights.iter().take(searched).position(late)?;
        Some(self.first + index as u64)
    }
}
