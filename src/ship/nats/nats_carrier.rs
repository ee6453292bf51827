//! A carrier for NATS JetStream. Each record is a message of a stream, acknowledged once the stream has
//! stored it.
//!
//! ```text
//!  submit ─► window (whose turn is it) ─► link (one connection) ─► stream
//!  poll ◄─ verdicts ◄─ window ◄─ answers, below an inbox of our own ◄─┘
//! ```
//! A message's `Nats-Msg-Id` is its record's position in the journal, so within the stream's duplicate
//! window a message sent again is stored once. [`window`](crate::nats::window) says how the order of each
//! peer is kept when messages are lost.
//!
//! The client is `async-nats`, on a runtime that runs only within [`poll`](Carrier::poll). Its JetStream
//! interface is not used: an answer is one small message, and a future for each costs more than the window.
//! Its reconnecting is not used either: messages under way when a connection is lost are given up, and a
//! new connection starts empty.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::carrier::{Carrier, Message, Submitted, Verdict};
use crate::nats::link::{ConnectProgress, Connecting, Link};
use crate::nats::spec::NatsSpec;
use crate::nats::window::{Order, Window};
use crate::nats::wire::PendingMessage;

/// Messages held at most, under way or waiting. A shipper has fewer.
const WAITING_MAX: usize = 1 << 16;

/// Pause before connecting again: the first one, and the longest. The shipper pauses in addition.
const CONNECT_AGAIN: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// Time for which connecting makes progress in each poll, even with a bound of 0: an idle shipper polls
/// once a second, and a server waits at most two for the client's next step.
const CONNECT_TURN: Duration = Duration::from_millis(20);

/// Time for which an open connection makes progress in each poll: it may have to answer a ping.
const TURN: Duration = Duration::from_millis(1);

/// State of the connection.
#[derive(Debug)]
enum LinkState {
    /// Not connected. When to try next, and the pause after that attempt fails.
    Down { until: Instant, next: Duration },
    /// Being set up.
    Connecting { connecting: Connecting, next: Duration },
    /// Connected. Boxed, because it is far larger than the others.
    Up(Box<Link>),
}

/// The problem that keeps messages from being delivered.
#[derive(Debug)]
enum Trouble {
    /// There is no connection. Cleared when there is one.
    Connecting(String),
    /// Messages are not accepted. Cleared when one is.
    Sending(String),
}

/// A carrier for one stream.
#[derive(Debug)]
pub struct Nats {
    spec: Arc<NatsSpec>,
    link_state: LinkState,
    window: Window<PendingMessage>,
    trouble: Option<Trouble>,
    /// Whether another publisher writes to a stream that was declared to have one writer. From then on one
    /// record of each peer is under way at a time.
    has_other_writers: bool,
}

/// Returns a carrier for the stream of `spec`. It connects when it is polled.
///
/// # Errors
/// None: a program that is built without NATS has the same function, which fails.
pub fn carrier(spec: NatsSpec) -> Result<Box<dyn Carrier>, String> {
    Ok(Box::new(Nats::new(spec)))
}

impl Nats {
    /// Creates a carrier. It connects when it is polled.
    #[must_use]
    pub fn new(spec: NatsSpec) -> Self {
        Self {
            spec: Arc::new(spec),
            link_state: LinkState::Down { until: Instant::now(), next: CONNECT_AGAIN.0 },
            window: Window::new(Order::Peer),
            trouble: None,
            has_other_writers: false,
        }
    }

    /// Continues to connect, if that is due.
    fn connect(&mut self, bound: Duration, verdicts: &mut Vec<(u64, Verdict)>) {
        let now = Instant::now();
        let away = LinkState::Down { until: now, next: CONNECT_AGAIN.0 };
        let (connecting, next) = match std::mem::replace(&mut self.link_state, away) {
            LinkState::Up(link) => return self.link_state = LinkState::Up(link),
            LinkState::Connecting { connecting, next } => (connecting, next),
            LinkState::Down { until, next } if now < until => {
                self.link_state = LinkState::Down { until, next };
                return std::thread::sleep(bound.min(until.duration_since(now)));
            }
            LinkState::Down { next, .. } => match Connecting::start(&self.spec) {
                Ok(connecting) => (connecting, next),
                Err(error) => {
                    return self.fail(format!("cannot begin to connect: {error}"), next, verdicts);
                }
            },
        };
        match connecting.poll(bound.max(CONNECT_TURN)) {
            ConnectProgress::Pending(connecting) => {
                self.link_state = LinkState::Connecting { connecting, next }
            }
            ConnectProgress::Failed(reason) => self.fail(reason, next, verdicts),
            ConnectProgress::Up(link) => {
                let order = self.order(&link);
                // Messages that were handed over while connecting go to the new window.
                let waiting = std::mem::replace(&mut self.window, Window::new(order));
                self.window.append_all(waiting);
                self.link_state = LinkState::Up(link);
                self.trouble.take_if(|trouble| matches!(trouble, Trouble::Connecting(_)));
            }
        }
    }

    /// Returns how the order of peers is kept on this connection.
    fn order(&self, link: &Link) -> Order {
        if self.has_other_writers { Order::Peer } else { link.facts.order }
    }

    /// Handles a lost or failed connection: waiting messages must be sent again.
    fn fail(&mut self, reason: String, next: Duration, verdicts: &mut Vec<(u64, Verdict)>) {
        let later = (next * 2).min(CONNECT_AGAIN.1);
        self.link_state = LinkState::Down { until: Instant::now() + next, next: later };
        verdicts.extend(self.window.front().map(|front| (front, Verdict::Again(reason.clone()))));
        self.trouble = Some(Trouble::Connecting(reason));
    }
}

impl Carrier for Nats {
    fn submit(&mut self, message: &Message<'_>) -> Submitted {
        // Without a connection nothing is taken: the shipper would only have to send it again.
        if matches!(self.link_state, LinkState::Down { .. }) || self.window.len() >= WAITING_MAX {
            return Submitted::Full;
        }
        let pending = PendingMessage {
            peer: message.peer,
            listener: message.listener,
            received_unix_ns: message.received_unix_ns,
            payload: Bytes::copy_from_slice(message.payload),
        };
        self.window.push(message.ticket, (message.id, message.peer), pending);
        Submitted::Taken
    }

    fn poll(&mut self, bound: Duration, verdicts: &mut Vec<(u64, Verdict)>) {
        let until = Instant::now() + bound;
        self.connect(bound, verdicts);
        let LinkState::Up(link) = &mut self.link_state else { return };
        let first = verdicts.len();
        let until = until.max(Instant::now() + TURN);
        let broken = link.drive(&mut self.window, until, verdicts);
        let mut known = verdicts.iter().skip(first).map(|(_, verdict)| verdict);
        if let Some(Verdict::Again(reason)) =
            known.clone().find(|verdict| matches!(verdict, Verdict::Again(_)))
        {
            self.trouble = Some(Trouble::Sending(reason.clone()));
        } else if known.any(|verdict| *verdict == Verdict::Acknowledged) {
            self.trouble = None;
        }
        if let Some(reason) = broken {
            self.fail(reason, CONNECT_AGAIN.0, verdicts);
        } else if self.window.has_other_writers(Instant::now()) {
            self.has_other_writers = true;
            self.fail(
                "another publisher writes to this stream".to_owned(),
                CONNECT_AGAIN.0,
                verdicts,
            );
        }
    }

    fn reset(&mut self) {
        let was_empty = self.window.front().is_none();
        self.window = Window::new(Order::Peer);
        // Messages that were sent end with their connection; the next connection reads the stream's
        // configuration again.
        if let LinkState::Up(link) = &self.link_state {
            if was_empty {
                self.window = Window::new(self.order(link));
                return;
            }
            self.link_state = LinkState::Down { until: Instant::now(), next: CONNECT_AGAIN.0 };
        }
    }

    fn trouble(&self) -> Option<String> {
        let stream = &self.spec.stream;
        match &self.trouble {
            Some(Trouble::Connecting(reason) | Trouble::Sending(reason)) => Some(reason.clone()),
            None if self.has_other_writers => Some(format!(
                "another publisher writes to stream {stream}, despite --nats-sole-writer: from now on one record \
                 of each peer is under way at a time; a few records sent before may be out of order"
            )),
            None if self.window.is_contended(Instant::now()) => Some(format!(
                "other publishers write to stream {stream}, which slows shipping down: give ringest a stream of \
                 its own"
            )),
            None => None,
        }
    }
}
