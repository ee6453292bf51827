//! A worker: takes batches off its queue, runs the handler, sends the batches home.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvError, RecvTimeoutError, Sender};

use crate::batch::arena::Batch;
use crate::batch::pool::{Pool, SETTLE_IN};
use crate::count::counters::{PublishedWorker, WorkerCounts};
use crate::count::histogram::Histogram;
use crate::send::reply::Replies;
use crate::sync::waker::{ROOM, Stop, Waker};
use ringest_base::sys::clock;

/// What is done with the datagrams. A closure `FnMut(&Batch, &mut Replies)` is a handler.
///
/// One handler serves one worker, so it needs no lock. A handler that panics stops the engine.
pub trait Handler: Send {
    /// Handles one batch. Datagrams of one peer come to one handler in the order they were taken
    /// from the socket (`Dispatch::Flow`).
    fn handle(&mut self, batch: &Batch, replies: &mut Replies);

    /// What became of the first `handled` datagrams. The default says that handling is delivering;
    /// a sink that can refuse, fail or hold back says so here.
    fn outcome(&self, handled: u64) -> Outcome {
        Outcome { delivered: handled, ..Outcome::default() }
    }

    /// Nothing came for as long as the engine was told to wait
    /// ([`Builder::idle_tick`](crate::control::builder::Builder::idle_tick)), and again each time that passes: flush what
    /// need not be held any longer.
    fn on_idle(&mut self) {}

    /// How soon [`on_idle`](Self::on_idle) is to be called if nothing comes, where that is sooner than at every
    /// tick: there is something to be done, or something under way whose end is to be noted.
    fn idle_within(&self) -> Option<Duration> {
        None
    }

    /// No batch will follow: flush what is held.
    fn finish(&mut self) {}
}

impl<F: FnMut(&Batch, &mut Replies) + Send> Handler for F {
    fn handle(&mut self, batch: &Batch, replies: &mut Replies) {
        self(batch, replies);
    }
}

/// Totals since the start, in datagrams; the first four add up to what was handled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The handler or its decoder refused them.
    pub rejected: u64,
    /// The sink accepted them.
    pub delivered: u64,
    /// The sink gave up on them.
    pub undelivered: u64,
    /// In the sink now.
    pub pending: u64,
    /// Records found in them, by a sink that looks for records.
    pub records: u64,
    /// Parts of datagrams that were no record.
    pub records_rejected: u64,
}

/// What others may read of a worker at any time.
#[derive(Debug, Default)]
pub struct WorkerShared {
    /// The counters of its last turn.
    pub counts: PublishedWorker,
    /// Time from the socket to the handler, ns.
    pub queue_latency: Histogram,
}

/// A handler with its accounts.
#[derive(Debug)]
pub struct Worker<H> {
    handler: H,
    replies: Replies,
    counts: WorkerCounts,
    shared: Arc<WorkerShared>,
    next_tick_ns: u64,
    idle_tick: Option<Duration>,
    /// The handler has been called and has not returned.
    in_handler: bool,
}

/// How often a thread's CPU time is read.
const TICK_NS: u64 = 1_000_000_000;

impl<H: Handler> Worker<H> {
    /// A worker that has handled nothing yet.
    pub fn new(handler: H, replies: Replies, shared: Arc<WorkerShared>) -> Self {
        let counts = WorkerCounts::default();
        Self {
            handler,
            replies,
            counts,
            shared,
            next_tick_ns: 0,
            idle_tick: None,
            in_handler: false,
        }
    }

    /// Has the handler called whenever nothing came for so long. `None`: never.
    #[must_use]
    pub fn with_idle_tick(mut self, tick: Option<Duration>) -> Self {
        self.idle_tick = tick;
        self
    }

    /// How long nothing must come from now on before [`idle`](Self::idle) is due.
    #[must_use]
    pub fn idle_tick(&self) -> Option<Duration> {
        let tick = self.idle_tick?;
        Some(self.handler.idle_within().map_or(tick, |within| within.min(tick)))
    }

    /// Runs the handler over one batch and accounts for it.
    pub fn process(&mut self, batch: &Batch) {
        let now_ns = clock::monotonic_ns();
        self.counts.taken += batch.len();
        // Shown before the handler has them: one that never returns must not hide them.
        self.shared.counts.publish(&self.counts);
        self.record_latency(batch, now_ns);
        self.replies.begin(batch.receiver);
        self.in_handler = true;
        self.handler.handle(batch, &mut self.replies);
        self.in_handler = false;
        self.replies.flush();
        self.counts.handled += batch.len();
        self.counts.batches += 1;
        self.settle();
    }

    /// Frames taken in one reap share their stamp, so a batch has few distinct ones.
    fn record_latency(&self, batch: &Batch, now_ns: u64) {
        let (mut stamp, mut datagrams) = (0, 0);
        for entry in batch.entries() {
            if entry.received_at_ns != stamp && datagrams > 0 {
                self.shared.queue_latency.record(now_ns.saturating_sub(stamp), datagrams);
                datagrams = 0;
            }
            stamp = entry.received_at_ns;
            datagrams += crate::batch::arena::datagrams_of(entry);
        }
        if datagrams > 0 {
            self.shared.queue_latency.record(now_ns.saturating_sub(stamp), datagrams);
        }
    }

    fn settle(&mut self) {
        self.in_handler = true;
        let outcome = self.handler.outcome(self.counts.handled);
        self.in_handler = false;
        self.counts.rejected = outcome.rejected;
        self.counts.delivered = outcome.delivered;
        self.counts.undelivered = outcome.undelivered;
        self.counts.pending = outcome.pending;
        self.counts.records = outcome.records;
        self.counts.records_rejected = outcome.records_rejected;
        self.counts.replies_failed += self.replies.take_failed();
        self.shared.counts.publish(&self.counts);
    }

    /// Nothing came for a while.
    pub fn idle(&mut self) {
        self.in_handler = true;
        self.handler.on_idle();
        self.in_handler = false;
        self.settle();
    }

    /// No batch will follow.
    pub fn finish(&mut self) {
        self.in_handler = true;
        self.handler.finish();
        self.in_handler = false;
        self.settle();
    }

    /// Whether the handler was called and has not returned: what panicked then is the handler.
    #[must_use]
    pub fn is_in_handler(&self) -> bool {
        self.in_handler
    }

    /// The counters as of now.
    #[must_use]
    pub fn counts(&self) -> WorkerCounts {
        self.counts
    }

    /// Whether the replies to one more batch have room. Only an inline handler needs to ask: a worker
    /// waits for it.
    pub fn has_reply_room(&mut self) -> bool {
        self.replies.has_room()
    }

    /// Ends the worker: its lanes are closed, its reply batches may still come home.
    #[must_use]
    pub fn into_reply_pool(self) -> Pool {
        self.replies.into_pool()
    }

    /// How many reply batches are not home.
    pub fn replies_missing(&mut self) -> usize {
        self.replies.missing()
    }

    /// Works until no receiver can send any more, or until an abort. `homes` and `wakers` are
    /// indexed by receiver.
    pub fn run(
        &mut self,
        queue: &Receiver<Batch>,
        homes: &[Sender<Batch>],
        wakers: &[Arc<Waker>],
        stop: &Stop,
    ) {
        self.replies.settle_in();
        let mut next = queue.recv_timeout(SETTLE_IN).or_else(|_| self.await_batch(queue));
        while let Ok(mut batch) = next {
            if stop.is_aborting() {
                // Taken but never handled: the ledger shows it as still queued.
                self.counts.taken += batch.len();
                break;
            }
            let receiver = usize::from(batch.receiver);
            // The queue has room again, even while the handler is busy; any receiver may wait for it.
            Waker::poke_all(wakers, ROOM);
            self.process(&batch);
            batch.clear();
            // A receiver that has left needs its batches no more.
            let _ = homes[receiver].send(batch);
            wakers[receiver].poke(ROOM);
            self.tick();
            next = self.await_batch(queue);
        }
        if !stop.is_aborting() {
            self.finish();
        }
        self.counts.cpu_ns = clock::thread_cpu_ns();
        self.shared.counts.publish(&self.counts);
    }

    /// The next batch; meanwhile the handler gets its ticks.
    fn await_batch(&mut self, queue: &Receiver<Batch>) -> Result<Batch, RecvError> {
        loop {
            let Some(tick) = self.idle_tick() else { return queue.recv() };
            match queue.recv_timeout(tick) {
                Ok(batch) => return Ok(batch),
                Err(RecvTimeoutError::Timeout) => self.idle(),
                Err(RecvTimeoutError::Disconnected) => return Err(RecvError),
            }
        }
    }

    fn tick(&mut self) {
        let now_ns = clock::monotonic_ns();
        if now_ns >= self.next_tick_ns {
            self.next_tick_ns = now_ns + TICK_NS;
            self.counts.cpu_ns = clock::thread_cpu_ns();
        }
    }
}

/// Which worker handles a peer's datagrams: a multiplicative hash of address and port, seeded per
/// engine so that nobody outside can aim at one worker.
#[must_use]
pub fn lane_of(peer: SocketAddr, seed: u64, lanes: usize) -> usize {
    const MIX: u64 = 0x9e37_79b9_7f4a_7c15; // 2^64 / golden ratio
    let folded = match peer {
        SocketAddr::V4(v4) => u64::from(v4.ip().to_bits()),
        SocketAddr::V6(v6) => {
            let bits = v6.ip().to_bits();
            #[expect(clippy::cast_possible_truncation, reason = "both halves are folded in")]
            let (high, low) = ((bits >> 64) as u64, bits as u64);
            high.wrapping_mul(MIX).rotate_left(31) ^ low
        }
    };
    let mixed = ((folded << 16 | u64::from(peer.port())) ^ seed).wrapping_mul(MIX);
    let mixed = (mixed ^ mixed >> 32).wrapping_mul(MIX);
    #[expect(clippy::cast_possible_truncation, reason = "below lanes, which is a usize")]
    let lane = ((u128::from(mixed) * lanes as u128) >> 64) as usize;
    lane
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flows_spread_evenly_and_stay_where_they_are() {
        let mut seen = [0u32; 4];
        for n in 0..4000u16 {
            let peer = SocketAddr::from(([10, 0, 0, 1], n));
            let lane = lane_of(peer, 42, 4);
            assert_eq!(lane, lane_of(peer, 42, 4));
            seen[lane] += 1;
        }
        assert!(seen.iter().all(|n| (800..1200).contains(n)), "{seen:?}");
    }
}
