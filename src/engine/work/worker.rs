//! A worker: takes batches off its queue, runs the handler, sends the batches home.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvError, RecvTimeoutError, Sender, TryRecvError};

use crate::batch::arena::Batch;
use crate::batch::pool::{Pool, SETTLE_IN};
use crate::count::counters::{PublishedWorker, WorkerCounts};
use crate::count::histogram::Histogram;
use crate::send::reply::Replies;
use crate::sync::stop::Stop;
use crate::sync::waker::{ROOM, Waker};
use crate::work::handler::Handler;
use crate::work::remains::Remains;
use ringest_base::sys::clock;

/// Counters of a worker that other threads may read at any time.
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
    /// When the handler gets a tick if no batch comes; `u64::MAX`: never.
    next_idle_ns: u64,
    /// The handler was called and has not returned.
    in_handler: bool,
}

/// How often a thread's CPU time is read.
const TICK_NS: u64 = 1_000_000_000;

impl<H: Handler> Worker<H> {
    /// Returns a worker that has handled nothing yet.
    pub fn new(handler: H, replies: Replies, shared: Arc<WorkerShared>) -> Self {
        let counts = WorkerCounts::default();
        Self {
            handler,
            replies,
            counts,
            shared,
            next_tick_ns: 0,
            idle_tick: None,
            next_idle_ns: u64::MAX,
            in_handler: false,
        }
    }

    /// Sets after how long without a batch the handler gets a tick. `None`: never.
    #[must_use]
    pub fn with_idle_tick(mut self, tick: Option<Duration>) -> Self {
        self.idle_tick = tick;
        self
    }

    /// Returns how long no batch must come before [`idle`](Self::idle) is due; `None`: never.
    #[must_use]
    pub fn idle_tick(&self) -> Option<Duration> {
        self.idle_tick
    }

    /// Returns when the handler's deadline is, `CLOCK_MONOTONIC` ns; `None`: it has none.
    #[must_use]
    pub fn deadline_ns(&self) -> Option<u64> {
        self.handler.deadline_ns()
    }

    /// Calls the handler if its deadline has passed.
    pub fn meet_deadline(&mut self, now_ns: u64) {
        if self.handler.deadline_ns().is_some_and(|deadline_ns| now_ns >= deadline_ns) {
            self.in_handler = true;
            self.handler.on_deadline(now_ns, &mut self.replies);
            self.in_handler = false;
            self.replies.flush();
            self.settle();
        }
    }

    /// Runs the handler over one batch, and counts its datagrams.
    pub fn process(&mut self, batch: &Batch) {
        let now_ns = clock::monotonic_ns();
        self.counts.taken += batch.len();
        // Published before the handler runs: a handler that never returns must not hide them.
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

    /// Gives the handler its tick: no batch came for a while.
    pub fn idle(&mut self) {
        self.in_handler = true;
        self.handler.on_idle();
        self.in_handler = false;
        self.settle();
    }

    /// Finishes the handler: no batch will follow.
    pub fn finish(&mut self) {
        self.in_handler = true;
        self.handler.finish();
        self.in_handler = false;
        self.settle();
    }

    /// Returns whether the handler was called and has not returned: a panic is the handler's then.
    #[must_use]
    pub fn is_in_handler(&self) -> bool {
        self.in_handler
    }

    /// Returns the counters as of now.
    #[must_use]
    pub fn counts(&self) -> WorkerCounts {
        self.counts
    }

    /// Returns whether the replies to one more batch have room. Only an inline handler needs to ask: a worker waits.
    pub fn has_reply_room(&mut self) -> bool {
        self.replies.has_room()
    }

    /// Ends the worker and closes its reply lanes. Returns the pool that its reply batches come back to, and
    /// what the handler leaves.
    #[must_use]
    pub fn into_parts(mut self) -> (Pool, Remains) {
        self.in_handler = true;
        let remains = self.handler.into_remains();
        (self.replies.into_pool(), remains)
    }

    /// Returns how many reply batches are not home.
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
        self.put_off_idle(clock::monotonic_ns());
        let mut next = queue.recv_timeout(SETTLE_IN).or_else(|_| self.await_batch(queue));
        while let Ok(mut batch) = next {
            if stop.is_abort() {
                // Taken but never handled: the ledger shows it as still queued.
                self.counts.taken += batch.len();
                break;
            }
            let receiver = usize::from(batch.receiver);
            // The queue has room again, even while the handler is busy. Any receiver may wait for it.
            Waker::poke_all(wakers, ROOM);
            self.process(&batch);
            batch.clear();
            // A receiver that has left needs its batches no more.
            let _ = homes[receiver].send(batch);
            wakers[receiver].poke(ROOM);
            self.between_batches();
            next = self.await_batch(queue);
        }
        if !stop.is_abort() {
            self.finish();
        }
        self.counts.cpu_ns = clock::thread_cpu_ns();
        self.shared.counts.publish(&self.counts);
    }

    /// Does what is due after a batch, however soon the next one comes: the handler's deadline, the thread's CPU time.
    fn between_batches(&mut self) {
        let now_ns = clock::monotonic_ns();
        if now_ns >= self.next_tick_ns {
            self.next_tick_ns = now_ns + TICK_NS;
            self.counts.cpu_ns = clock::thread_cpu_ns();
        }
        self.meet_deadline(now_ns);
        self.put_off_idle(now_ns);
    }

    fn put_off_idle(&mut self, now_ns: u64) {
        self.next_idle_ns = self.idle_tick.map_or(u64::MAX, |tick| {
            now_ns.saturating_add(u64::try_from(tick.as_nanos()).unwrap_or(u64::MAX))
        });
    }

    /// Waits for the next batch; meanwhile meets the handler's deadlines and gives it its ticks. The clock is read only
    /// while the queue is empty.
    fn await_batch(&mut self, queue: &Receiver<Batch>) -> Result<Batch, RecvError> {
        loop {
            match queue.try_recv() {
                Ok(batch) => return Ok(batch),
                Err(TryRecvError::Disconnected) => return Err(RecvError),
                Err(TryRecvError::Empty) => {}
            }
            let until_ns = self.next_idle_ns.min(self.deadline_ns().unwrap_or(u64::MAX));
            if until_ns == u64::MAX {
                return queue.recv();
            }
            let left_ns = until_ns.saturating_sub(clock::monotonic_ns());
            match queue.recv_timeout(Duration::from_nanos(left_ns)) {
                Ok(batch) => return Ok(batch),
                Err(RecvTimeoutError::Disconnected) => return Err(RecvError),
                Err(RecvTimeoutError::Timeout) => {}
            }
            let now_ns = clock::monotonic_ns();
            self.meet_deadline(now_ns);
            if now_ns >= self.next_idle_ns {
                self.idle();
                self.put_off_idle(now_ns);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::arena::Frame;

    /// Has a deadline in the past as soon as it was given a batch; writes down batches and deadlines.
    #[derive(Default)]
    struct Prompt {
        calls: String,
        due: bool,
    }

    impl Handler for Prompt {
        fn handle(&mut self, _: &Batch, _: &mut Replies) {
            self.calls.push('b');
            self.due = true;
        }

        fn deadline_ns(&self) -> Option<u64> {
            self.due.then_some(0)
        }

        fn on_deadline(&mut self, _: u64, _: &mut Replies) {
            self.calls.push('d');
            self.due = false;
        }
    }

    /// The queue holds a batch until the end, so the worker never waits.
    #[test]
    fn a_deadline_is_met_though_batches_follow_without_a_pause() {
        let (sender, queue) = crossbeam_channel::bounded(5);
        let (home_sender, home) = crossbeam_channel::bounded(5);
        for _ in 0..5 {
            let mut batch = Batch::new(4096, 4, 0);
            let frame = Frame::datagram(([192, 0, 2, 1], 9).into(), b"x");
            assert!(batch.push(&frame, 1));
            sender.send(batch).unwrap();
        }
        drop(sender);
        let (pool, _reply_home) = Pool::new(0, || Batch::new(4096, 1, 0));
        let replies = Replies::new(pool, Vec::new(), true);
        let mut worker = Worker::new(Prompt::default(), replies, Arc::default());
        let wakers = [Arc::new(Waker::new().unwrap())];
        worker.run(&queue, &[home_sender], &wakers, &Stop::default());
        assert_eq!(worker.handler.calls, "bdbdbdbdbd");
        assert_eq!((worker.counts().handled, home.len()), (5, 5));
    }
}
