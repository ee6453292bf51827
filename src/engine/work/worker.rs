//! A worker: takes batches off its queue, runs the handler, sends the batches home.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvError, RecvTimeoutError, Sender};

use crate::batch::arena::Batch;
use crate::batch::pool::{Pool, SETTLE_IN};
use crate::count::counters::{PublishedWorker, WorkerCounts};
use crate::count::histogram::Histogram;
use crate::send::reply::Replies;
use crate::sync::waker::{ROOM, Stop, Waker};
use crate::work::handler::Handler;
use ringest_base::sys::clock;

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
