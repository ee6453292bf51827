//! NATS JetStream: each record is a message of a stream, acknowledged when the stream has stored it.
//!
//! ```text
//!  submit ─► window (whose turn is it) ─► link (one connection) ─► stream
//!  poll ◄─ verdicts ◄─ window ◄─ answers, below an inbox of our own ◄─┘
//! ```
//! A message's `Nats-Msg-Id` is its record's place in the journal: what is sent again within the stream's
//! duplicate window is folded there. How each peer's order holds when messages are lost, [`window`] says.
//!
//! The client is `async-nats`, driven by a runtime that only runs within [`poll`](Carrier::poll). Of JetStream it is told
//! nothing: an answer is one small message, and a future for each costs more than the window, which knows
//! whom it is for. Its reconnecting is not used either: what is under way when a connection is lost is
//! given up with it, and a new one begins with nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::carrier::{Carrier, Message, Submitted, Verdict};
use crate::nats::link::{Dialled, Dialling, Link};
use crate::nats::spec::NatsSpec;
use crate::nats::window::{Order, Window};
use crate::nats::wire::Letter;

/// Messages that wait here at most, under way or behind those: a shipper has fewer.
const WAITING_MAX: usize = 1 << 16;

/// How long to wait before connecting again: at first, and at most. A shipper waits for its part, too.
const CONNECT_AGAIN: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// As long as connecting is driven even if nothing is to be waited for: an idle shipper looks in once a
/// second, and a server waits no more than two for what it expects.
const CONNECT_TURN: Duration = Duration::from_millis(20);

/// As long as a connection that stands is driven then: it may have to answer a ping.
const TURN: Duration = Duration::from_millis(1);

/// How far we are.
#[derive(Debug)]
enum Contact {
    /// Not connected; when to try, and how long to wait when that fails, too.
    Down { until: Instant, next: Duration },
    /// On its way.
    Dialling { dialling: Dialling, next: Duration },
    /// Boxed: it is far larger than the others.
    Up(Box<Link>),
}

/// What keeps us from our work.
#[derive(Debug)]
enum Trouble {
    /// There is no connection; gone when there is one.
    Connecting(String),
    /// Messages are not taken; gone when one is.
    Sending(String),
}

/// See the module's description.
#[derive(Debug)]
pub struct Nats {
    spec: Arc<NatsSpec>,
    contact: Contact,
    window: Window<Letter>,
    trouble: Option<Trouble>,
    /// Somebody else writes to the stream that should have one writer: from now on it is by peer.
    is_intruded: bool,
}

/// Returns a carrier for the stream of `spec`. It connects when it is polled.
///
/// # Errors
/// None: a program that is built without NATS has the same function, which fails.
pub fn carrier(spec: NatsSpec) -> Result<Box<dyn Carrier>, String> {
    Ok(Box::new(Nats::new(spec)))
}

impl Nats {
    /// Connects when it is polled.
    #[must_use]
    pub fn new(spec: NatsSpec) -> Self {
        Self {
            spec: Arc::new(spec),
            contact: Contact::Down { until: Instant::now(), next: CONNECT_AGAIN.0 },
            window: Window::new(Order::Peer),
            trouble: None,
            is_intruded: false,
        }
    }

    /// Goes on connecting, if that is due.
    fn connect(&mut self, bound: Duration, verdicts: &mut Vec<(u64, Verdict)>) {
        let now = Instant::now();
        let away = Contact::Down { until: now, next: CONNECT_AGAIN.0 };
        let (dialling, next) = match std::mem::replace(&mut self.contact, away) {
            Contact::Up(link) => return self.contact = Contact::Up(link),
            Contact::Dialling { dialling, next } => (dialling, next),
            Contact::Down { until, next } if now < until => {
                self.contact = Contact::Down { until, next };
                return std::thread::sleep(bound.min(until.duration_since(now)));
            }
            Contact::Down { next, .. } => match Dialling::start(&self.spec) {
                Ok(dialling) => (dialling, next),
                Err(error) => {
                    return self.fail(format!("cannot begin to connect: {error}"), next, verdicts);
                }
            },
        };
        match dialling.poll(bound.max(CONNECT_TURN)) {
            Dialled::Under(dialling) => self.contact = Contact::Dialling { dialling, next },
            Dialled::Failed(reason) => self.fail(reason, next, verdicts),
            Dialled::Up(link) => {
                let order = self.order(&link);
                // What was handed over meanwhile has waited for this.
                let waiting = std::mem::replace(&mut self.window, Window::new(order));
                self.window.take_over(waiting);
                self.contact = Contact::Up(link);
                self.trouble.take_if(|trouble| matches!(trouble, Trouble::Connecting(_)));
            }
        }
    }

    /// What keeps a peer's order on this connection.
    fn order(&self, link: &Link) -> Order {
        if self.is_intruded { Order::Peer } else { link.facts.order }
    }

    /// There is no connection now: what waits for one is to be sent again.
    fn fail(&mut self, reason: String, next: Duration, verdicts: &mut Vec<(u64, Verdict)>) {
        let later = (next * 2).min(CONNECT_AGAIN.1);
        self.contact = Contact::Down { until: Instant::now() + next, next: later };
        verdicts.extend(self.window.front().map(|front| (front, Verdict::Again(reason.clone()))));
        self.trouble = Some(Trouble::Connecting(reason));
    }
}

impl Carrier for Nats {
    fn submit(&mut self, message: &Message<'_>) -> Submitted {
        // While there is no hope nothing is taken: a shipper would only have to send it again.
        if matches!(self.contact, Contact::Down { .. }) || self.window.len() >= WAITING_MAX {
            return Submitted::Full;
        }
        let letter = Letter {
            peer: message.peer,
            listener: message.listener,
            received_unix_ns: message.received_unix_ns,
            payload: Bytes::copy_from_slice(message.payload),
        };
        self.window.push(message.ticket, (message.id, message.peer), letter);
        Submitted::Taken
    }

    fn poll(&mut self, bound: Duration, verdicts: &mut Vec<(u64, Verdict)>) {
        let until = Instant::now() + bound;
        self.connect(bound, verdicts);
        let Contact::Up(link) = &mut self.contact else { return };
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
        } else if self.window.is_intruded(Instant::now()) {
            self.is_intruded = true;
            self.fail("others write to the stream".to_owned(), CONNECT_AGAIN.0, verdicts);
        }
    }

    fn reset(&mut self) {
        let was_empty = self.window.front().is_none();
        self.window = Window::new(Order::Peer);
        // What was sent goes down with its connection; the next one asks about the stream again.
        if let Contact::Up(link) = &self.contact {
            if was_empty {
                self.window = Window::new(self.order(link));
                return;
            }
            self.contact = Contact::Down { until: Instant::now(), next: CONNECT_AGAIN.0 };
        }
    }

    fn trouble(&self) -> Option<String> {
        let stream = &self.spec.stream;
        match &self.trouble {
            Some(Trouble::Connecting(reason) | Trouble::Sending(reason)) => Some(reason.clone()),
            None if self.is_intruded => Some(format!(
                "others write to stream {stream}, against --nats-sole-writer: one record of each peer is \
                 under way at a time from now on, and until now a few may be out of order"
            )),
            None if self.window.is_crowded(Instant::now()) => Some(format!(
                "others write to stream {stream} in between, which slows this down: give ringest a \
                 stream of its own"
            )),
            None => None,
        }
    }
}
