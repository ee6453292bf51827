//! Messages under way, and which may be sent next. Keeps the order of each peer's records.
//!
//! A stream stores messages in the order of arrival. While it has no leader, a route is down or the stream
//! is full, messages in the middle are lost and later ones are stored. Where order counts, a later one must
//! then be refused. There are three ways, [`Order`]:
//!
//! *By ID*: each message names the one before it, which must be the stream's last
//! (`Nats-Expected-Last-Msg-Id`). Behind a missing one the stream refuses all others. Once everything sent
//! is answered, the refused ones are sent again; the first of them names none, because all before it are
//! settled. Any number may be under way. A foreign message in between costs one round trip.
//!
//! *By sequence*: each message names the sequence that must be the stream's last
//! (`Nats-Expected-Last-Sequence`), counted up. The same, but a foreign message in between takes the place
//! of an expected one: for streams with one writer. The first number must be right, or a message in the
//! middle could match and be stored before the first. A leader elected a moment ago may report a last
//! sequence that is too low, so the first message goes alone until its sequence is known.
//!
//! *By peer*: one message of each peer is under way, and expects nothing. Slow if few peers send much, but
//! correct on every server and with other writers.
//!
//! The choice was tested with nats-server 2.9.10, 2.10.26, 2.11.11, 2.12.8, 2.14.6 and 2.15.1:
//! - Streams without replicas look for a duplicate, then at the last id, then store, in one step. By id.
//! - Replicated ones do not get along with ids: a follower of 2.9 that catches up does not learn the last
//!   one, refuses what its leader stores, and has other contents then. 2.10 and later note an id for the
//!   duplicate window before they refuse it: sent again, it counts as a duplicate that is nowhere.
//! - 2.10 and 2.11 also note the id before they refuse when sequences are used. 2.10 even acknowledges such a message, with sequence 0; 2.11 says
//!   "in process". So by peer. 2.9 notes what it stores, and 2.12 refuses a sequence before it notes the id: by
//!   sequence if the operator says that nobody else writes, else by peer.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::carrier::{MessageId, Verdict};
use crate::nats::answer::Answer;

/// Time without any answer after which everything under way is given up. A cluster elects a leader within 4
/// s to 6 s and answers "no responders" meanwhile, so this does not cut an election short.
const SILENT_MAX: Duration = Duration::from_secs(5);

/// Time after which an unanswered message is given up while others are answered.
const UNANSWERED_MAX: Duration = Duration::from_secs(30);

/// Messages sent and unanswered at most: half of what nats-server buffers for a stream (10 000), so that it
/// never drops one for that. Fewer would not fill a long path: 4096 in 10 ms are 400 000 a second.
pub(crate) const SENT_MAX: usize = 4096;

/// Least that [`SENT_MAX`] shrinks to when others write to the stream: each of their messages can have everything under way
/// refused.
const SENT_MIN: usize = 64;

/// Number of spoiled rounds, each within this time of the one before, after which the operator is told.
const SPOILED_MAX: (u32, Duration) = (3, Duration::from_secs(10));

/// How the order of peers is kept. See the module's description.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// By ID.
    Id,
    /// By sequence, starting from the stream's last.
    Sequence(u64),
    /// By peer.
    Peer,
}

/// The stream's last message that a message expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    Nothing,
    Id(MessageId),
    Sequence(u64),
}

impl Expected {
    /// Returns whether a new expectation can be derived when the stream reports its last sequence as
    /// `last`.
    fn is_to_be_had(self, last: Option<u64>) -> bool {
        match self {
            Self::Nothing => false,
            Self::Id(_) => true,
            Self::Sequence(_) => last.is_some(),
        }
    }
}

/// A message to be sent now.
#[derive(Debug)]
pub(crate) struct Outgoing<'a, M> {
    pub(crate) ticket: u64,
    pub(crate) attempt: u32,
    pub(crate) expected: Expected,
    pub(crate) id: MessageId,
    pub(crate) message: &'a M,
}

/// A message that is not settled, or is behind one that is not.
#[derive(Debug)]
struct Flight<M> {
    id: MessageId,
    peer: SocketAddr,
    message: M,
    /// Number of the attempt. Each answer carries it, so that answers to earlier attempts are recognized.
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
    /// The stream has not stored it.
    Refused,
    Done,
}

/// Messages waiting for their turn when the order is by peer.
#[derive(Debug, Default)]
struct Peers {
    /// Waiting tickets of each peer that has a message under way or ready.
    behind: HashMap<SocketAddr, VecDeque<u64>>,
    /// Tickets that may be sent.
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

/// The messages under way. See the module's description.
#[derive(Debug)]
pub(crate) struct Window<M> {
    order: Order,
    flights: VecDeque<Flight<M>>,
    /// Ticket of the first flight.
    first: u64,
    /// Ticket to send next. Unused when the order is by peer.
    next: u64,
    /// Expectation of that message.
    expected: Expected,
    /// Whether that expectation follows from a stored message. Used by sequence.
    counts: bool,
    /// Highest sequence that the stream has reported.
    last: u64,
    peers: Peers,
    /// Number of messages sent and unanswered, and its bound.
    sent: usize,
    sent_max: usize,
    /// Whether messages were refused: nothing is sent until all answers are there. Unused by peer.
    halted: bool,
    /// Number of consecutive spoiled rounds, and the time of the last one.
    spoiled: (u32, Option<Instant>),
    attempts: u32,
    /// When the last answer arrived, or everything was answered.
    answered_at: Option<Instant>,
}

impl<M> Window<M> {
    /// Creates an empty window.
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
            answered_at: None,
        }
    }

    /// Appends all messages of `other`, as not sent yet.
    pub(crate) fn append_all(&mut self, other: Self) {
        for (ticket, flight) in (other.first..).zip(other.flights) {
            self.push(ticket, (flight.id, flight.peer), flight.message);
        }
    }

    /// Returns the ticket of the first unsettled message, or `None`.
    pub(crate) fn front(&self) -> Option<u64> {
        (!self.flights.is_empty()).then_some(self.first)
    }

    /// Returns the number of messages that are unsettled, or behind an unsettled one.
    pub(crate) fn len(&self) -> usize {
        self.flights.len()
    }

    /// Returns whether other writers disturb the order so often that it costs throughput.
    pub(crate) fn is_contended(&self, now: Instant) -> bool {
        let lately = |at| now.saturating_duration_since(at) <= SPOILED_MAX.1;
        self.spoiled.0 >= SPOILED_MAX.0 && self.spoiled.1.is_some_and(lately)
    }

    /// Returns whether others write to a stream that was declared to have one writer.
    pub(crate) fn has_other_writers(&self, now: Instant) -> bool {
        matches!(self.order, Order::Sequence(_)) && self.is_contended(now)
    }

    /// Appends a message.
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

    /// Returns the next message to send, and marks it as sent; `None` if none may be sent now.
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

    /// Returns the first unsettled ticket from `ticket` on.
    fn open_from(&self, ticket: u64) -> Option<u64> {
        let index = usize::try_from(ticket - self.first).ok()?;
        let open = |flight: &Flight<M>| flight.state != State::Done;
        Some(ticket + self.flights.iter().skip(index).position(open)? as u64)
    }

    /// Undoes [`send`](Self::send) for the message returned last.
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

    /// Settles the message returned last, which can never be sent.
    pub(crate) fn settle_unsendable(&mut self, ticket: u64) {
        self.unsend(ticket);
        self.next = ticket + 1;
        self.peers.ready.pop_front_if(|first| *first == ticket);
        self.settle(ticket);
    }

    /// Handles an answer. Returns a verdict if there is one.
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
        self.answered_at = Some(now);
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

    /// Marks messages sent before `ticket` as refused if they are missing: a connection keeps order, so
    /// they were lost, and no answer will come. If one was stored after all, it will be recognized as a
    /// duplicate.
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

    /// Starts a new round: everything that was sent is answered.
    fn begin_round(&mut self, now: Instant) {
        self.answered_at = Some(now);
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
        if self.spoiled.1.is_none_or(|at| now.duration_since(at) > SPOILED_MAX.1) {
            self.spoiled.0 = 0;
        }
        self.spoiled = (self.spoiled.0 + 1, Some(now));
    }

    /// Returns the first message that has waited too long for its answer.
    pub(crate) fn overdue(&self, now: Instant) -> Option<u64> {
        let over = |since: Instant, bound| now.saturating_duration_since(since) >= bound;
        if self.sent == 0 {
            return None;
        }
        let silent = self.answered_at.is_some_and(|since| over(since, SILENT_MAX));
        let late = |flight: &Flight<M>| match flight.state {
            State::Sent { at, .. } => silent || over(at, UNANSWERED_MAX),
            _ => false,
        };
        // The first message waits longest, so the window is not searched in every poll.
        let searched = if silent { self.flights.len() } else { 1 };
        let index = self.flights.iter().take(searched).position(late)?;
        Some(self.first + index as u64)
    }
}
