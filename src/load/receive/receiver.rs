//! The receiving half of a run as a handler of the engine. Every worker has its own tracker and delays;
//! they are added up when the engine has stopped.
//!
//! ```text
//!   ReceivingHalf ──handler()──► TrackingHandler ─ tracker, delays (one per worker, no lock)
//!        │                           │ after each batch: counts, for live()
//!        │                           │ at the stop: HandlerBooks, by Engine::stop_with_remains
//!        └── collect(books) ◄────────┘
//! ```

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use hdrhistogram::Histogram;

use crate::account::{RunAccount, RunCounts};
use crate::receive::tracker::{Taken, Tracker, TrackerSpec};
use crate::stamp::Seen;
use ringest_base::sys::clock;
use ringest_engine::batch::arena::Batch;
use ringest_engine::send::reply::Replies;
use ringest_engine::work::handler::Handler;
use ringest_engine::work::remains::Remains;

/// A longer delay counts as this long: a minute.
const DELAY_MAX_NS: u64 = 60_000_000_000;

/// The parameters of the receiving half.
#[derive(Clone, Debug)]
pub struct ReceivingSpec {
    /// The run to track.
    pub tracker: TrackerSpec,
    /// Whether sender and receiver share `CLOCK_MONOTONIC`: one host, any network namespace. Delays are
    /// measured only then.
    pub shared_clock: bool,
    /// The flow of each sender address. Used only for datagrams under 16 bytes, which hold no flow; may
    /// be empty.
    pub peers: HashMap<SocketAddr, usize>,
}

/// One-way delays, ns, from the sender to the handler; recorded for datagrams seen the first time.
#[derive(Clone, Debug)]
pub struct Delays {
    /// From the intended time: the delay as a user sees it, with the sender's own stalls.
    pub from_intended: Histogram<u64>,
    /// From the time of sending.
    pub from_sent: Histogram<u64>,
    /// Datagrams with a send time in the future, which count as no delay: the clocks differ, or the times
    /// are forged.
    pub from_future: u64,
}

impl Delays {
    /// Makes empty histograms and allocates all memory: 3 digits from 1 ns to a minute, 0.4 MB.
    fn new() -> Self {
        Self { from_intended: blank(), from_sent: blank(), from_future: 0 }
    }

    fn record(&mut self, seen: &Seen, now_ns: u64) {
        if let Some(intended_ns) = seen.intended_ns {
            self.from_intended.saturating_record(now_ns.saturating_sub(intended_ns));
        }
        if let Some(sent_ns) = seen.sent_ns {
            self.from_future += u64::from(sent_ns > now_ns);
            self.from_sent.saturating_record(now_ns.saturating_sub(sent_ns));
        }
    }

    fn merge(&mut self, other: &Self) {
        // All histograms have the same bounds, so adding cannot fail.
        let _ = self.from_intended.add(&other.from_intended);
        let _ = self.from_sent.add(&other.from_sent);
        self.from_future += other.from_future;
    }
}

fn blank() -> Histogram<u64> {
    Histogram::new_with_bounds(1, DELAY_MAX_NS, 3).unwrap_or_else(|_| unreachable!("1 < 2 x 1"))
}

/// The results of the receiving half.
#[derive(Clone, Debug)]
pub struct Received {
    /// The account of all workers.
    pub account: RunAccount,
    /// `None` if the clocks are not shared.
    pub delays: Option<Delays>,
    /// Handlers that never finished (a worker that panicked or was abandoned by an abort). Their
    /// datagrams are missing here, so if it is not 0, losses are unknown.
    pub unreported: usize,
}

/// The counts of a handler after its last batch, for other threads to read.
#[derive(Debug, Default)]
struct Live {
    received: AtomicU64,
    distinct: AtomicU64,
    duplicates: AtomicU64,
    late: AtomicU64,
    implausible: AtomicU64,
    unstamped: AtomicU64,
    other_run: AtomicU64,
    foreign: AtomicU64,
    reordered: AtomicU64,
}

impl Live {
    fn publish(&self, tally: &RunCounts) {
        let store = |cell: &AtomicU64, value| cell.store(value, Ordering::Relaxed);
        store(&self.received, tally.received);
        store(&self.distinct, tally.distinct);
        store(&self.duplicates, tally.duplicates);
        store(&self.late, tally.late);
        store(&self.implausible, tally.implausible);
        store(&self.unstamped, tally.unstamped);
        store(&self.other_run, tally.other_run);
        store(&self.foreign, tally.foreign);
        store(&self.reordered, tally.reordered);
    }

    fn read(&self) -> RunCounts {
        let load = |cell: &AtomicU64| cell.load(Ordering::Relaxed);
        RunCounts {
            received: load(&self.received),
            distinct: load(&self.distinct),
            duplicates: load(&self.duplicates),
            late: load(&self.late),
            implausible: load(&self.implausible),
            unstamped: load(&self.unstamped),
            other_run: load(&self.other_run),
            foreign: load(&self.foreign),
            reordered: load(&self.reordered),
        }
    }
}

/// The receiving half of one run: makes the handlers of an engine and adds up their results.
#[derive(Debug)]
pub struct ReceivingHalf {
    spec: ReceivingSpec,
    peers: Arc<HashMap<SocketAddr, usize>>,
    timing: Arc<AtomicBool>,
    /// One for each handler.
    live: Mutex<Vec<Arc<Live>>>,
}

/// The results of one handler, which it leaves at the stop.
#[derive(Debug)]
pub struct HandlerBooks {
    tracker: Tracker,
    delays: Option<Delays>,
}

impl ReceivingHalf {
    /// Starts a receiving half without handlers. Delays are recorded from the start; see [`Self::time`].
    #[must_use]
    pub fn new(mut spec: ReceivingSpec) -> Self {
        Self {
            peers: Arc::new(std::mem::take(&mut spec.peers)),
            spec,
            timing: Arc::new(AtomicBool::new(true)),
            live: Mutex::default(),
        }
    }

    /// Makes the handler of one more worker, for `Builder::start`. Allocates all its memory.
    pub fn handler(&self) -> TrackingHandler {
        let live = Arc::new(Live::default());
        self.live.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&live));
        TrackingHandler {
            tracker: Tracker::new(&self.spec.tracker),
            delays: self.spec.shared_clock.then(Delays::new),
            peers: Arc::clone(&self.peers),
            timing: Arc::clone(&self.timing),
            live,
        }
    }

    /// Sets whether delays are recorded, from the next batch on; a warm-up turns it off.
    pub fn time(&self, on: bool) {
        self.timing.store(on, Ordering::Relaxed);
    }

    /// Returns the counts of all handlers after their last batches. Each figure is up to date, but their
    /// sum may not balance: a handler may be between two of them.
    #[must_use]
    pub fn live(&self) -> RunCounts {
        let mut sum = RunCounts::default();
        for live in self.live.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            sum.add(&live.read());
        }
        sum
    }

    /// Adds up the results of all handlers, as `Engine::stop_with_remains` returns them. A handler whose
    /// results are missing counts as `unreported`.
    #[must_use]
    pub fn collect(self, books: Vec<HandlerBooks>) -> Received {
        let handlers = self.live.into_inner().unwrap_or_else(PoisonError::into_inner).len();
        let mut received = Received {
            account: RunAccount::default(),
            delays: self.spec.shared_clock.then(Delays::new),
            unreported: handlers,
        };
        for books in books {
            received.unreported -= 1;
            received.account.merge(&books.tracker.account());
            if let (Some(all), Some(delays)) = (&mut received.delays, &books.delays) {
                all.merge(delays);
            }
        }
        received
    }
}

/// Tracks every datagram of a worker's batches.
#[derive(Debug)]
pub struct TrackingHandler {
    tracker: Tracker,
    delays: Option<Delays>,
    peers: Arc<HashMap<SocketAddr, usize>>,
    timing: Arc<AtomicBool>,
    live: Arc<Live>,
}

impl Handler for TrackingHandler {
    fn handle(&mut self, batch: &Batch, _: &mut Replies) {
        let timing = self.timing.load(Ordering::Relaxed);
        let mut delays = self.delays.as_mut().filter(|_| timing);
        // One clock read a batch: its datagrams reach the handler together.
        let now_ns = if delays.is_some() { clock::monotonic_ns() } else { 0 };
        for datagram in batch {
            let payload = datagram.payload();
            let peer_flow = if payload.len() < 16 && !self.peers.is_empty() {
                self.peers.get(&datagram.peer()).copied()
            } else {
                None
            };
            let taken = self.tracker.take(payload, datagram.received_at_ns(), peer_flow);
            if let (Some(delays), Taken::Ours { seen, .. }) = (&mut delays, taken) {
                delays.record(&seen, now_ns);
            }
        }
        self.live.publish(&self.tracker.tally());
    }

    fn into_remains(self) -> Remains {
        Remains::new(HandlerBooks { tracker: self.tracker, delays: self.delays })
    }
}
