//! Dispatch: a receiver copies frames into batches, and hands batches over to workers.
//!
//! ```text
//!  frame ──► lane (flow: hash of peer; spread: one for all) ──► open batch ──► queue of a worker
//!                                                                   ▲              │ full?
//!                                                                 pool      wait: stall · drop: count
//! ```

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_channel::Sender;

use crate::batch::arena::{Batch, Frame};
use crate::batch::pool::Pool;
use crate::count::counters::{PublishedReceiver, ReceiverCounts};
use crate::work::handler::Handler;
use crate::work::remains::Remains;
use crate::work::worker::Worker;
use ringest_base::sys::chance::GOLDEN;
use ringest_base::sys::clock;

/// A partial batch waits for more datagrams while the worker's queue holds this many batches or more, and more than this many
/// of the pool's batches, open ones aside, are out. Too low and a worker that is briefly busy delays datagrams; too high and a slow worker's queue fills up
/// with batches of one datagram each.
const PARTIAL_BATCHES_MAX: usize = 4;

/// The choice of the worker that gets a datagram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dispatch {
    /// By a hash of the peer's address: one peer's datagrams are handled in order of arrival.
    #[default]
    Flow,
    /// Whole batches round robin: no order promised, for one hot sender.
    Spread,
}

ringest_base::names!(Dispatch {
    "flow" => Flow;
    "spread" => Spread
});

/// The choice of what happens when workers fall behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overload {
    /// Stop taking; the socket buffer fills and the kernel drops (counted as `kernel`).
    #[default]
    Wait,
    /// Go on taking and drop whole batches (counted as `queue_full`), or single frames while there
    /// is no empty batch (counted as `pool_empty`).
    Drop,
}

ringest_base::names!(Overload {
    "wait" => Wait;
    "drop" => Drop
});

/// The way of full batches.
#[derive(Debug)]
pub enum Route<H> {
    /// The handler runs on the receiver's own thread.
    Inline(Box<Worker<H>>),
    /// One queue per worker.
    Queues(Vec<Sender<Batch>>),
    /// Closed by a stop: no batch is handed over any more.
    Closed,
}

/// The outcome of offering a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offered {
    /// The frame is accounted for; its slot can go back.
    Settled,
    /// There is no room for the frame; offer it again later.
    Stalled,
}

/// One receiver's open batches and where they go.
#[derive(Debug)]
pub struct Dispatcher<H> {
    pool: Pool,
    /// One open batch per lane.
    open: Vec<Option<Batch>>,
    route: Route<H>,
    dispatch: Dispatch,
    overload: Overload,
    receiver: u16,
    seed: u64,
    /// The worker that gets the next batch, with `Spread`.
    next_worker: usize,
    unix_offset_ns: u64,
    /// Datagrams that may still be taken, shared by all receivers; `None`: no limit.
    limit: Option<Arc<AtomicU64>>,
    published: Arc<PublishedReceiver>,
    /// The reason why the last frame offered waits; `None` if it was taken or dropped.
    stall: Option<Stall>,
}

/// The settings of a dispatcher.
#[derive(Clone, Debug)]
pub struct DispatchSpec {
    /// Which worker.
    pub dispatch: Dispatch,
    /// When workers fall behind.
    pub overload: Overload,
    /// Index of the receiver.
    pub receiver: u16,
    /// Seed of the flow hash, the same for all receivers.
    pub seed: u64,
    /// Datagrams that may still be taken.
    pub limit: Option<Arc<AtomicU64>>,
}

impl<H: Handler> Dispatcher<H> {
    /// Returns a dispatcher with no batch open.
    #[must_use]
    pub fn new(
        pool: Pool,
        route: Route<H>,
        spec: DispatchSpec,
        published: Arc<PublishedReceiver>,
    ) -> Self {
        let lanes = match (&route, spec.dispatch) {
            (Route::Queues(queues), Dispatch::Flow) => queues.len(),
            _ => 1,
        };
        Self {
            pool,
            open: std::iter::repeat_with(|| None).take(lanes).collect(),
            route,
            dispatch: spec.dispatch,
            overload: spec.overload,
            receiver: spec.receiver,
            seed: spec.seed,
            next_worker: 0,
            unix_offset_ns: clock::unix_offset_ns(),
            limit: spec.limit,
            published,
            stall: None,
        }
    }

    /// Returns whether the datagrams asked for have all been taken.
    #[must_use]
    pub fn limit_reached(&self) -> bool {
        self.limit.as_ref().is_some_and(|limit| limit.load(Ordering::Relaxed) == 0)
    }

    /// Takes a frame, or drops it and counts it under its cause, or stalls.
    pub fn offer(
        &mut self,
        frame: &Frame<'_>,
        now_ns: u64,
        counts: &mut ReceiverCounts,
    ) -> Offered {
        let datagrams = frame.datagrams();
        self.stall = None;
        if frame.truncated {
            counts.truncated += datagrams;
        } else {
            match self.enqueue(frame, now_ns, counts) {
                Enqueued::Yes => counts.enqueued += datagrams,
                Enqueued::NoBatch if self.overload == Overload::Drop => {
                    counts.pool_empty += datagrams;
                }
                Enqueued::NoBatch => {
                    self.stall = Some(Stall::Batch);
                    return Offered::Stalled;
                }
                Enqueued::NoRoom(lane) => {
                    self.stall = Some(Stall::Lane(lane));
                    return Offered::Stalled;
                }
            }
        }
        counts.received += datagrams;
        counts.received_bytes += frame.payload.len() as u64;
        counts.trains += u64::from(datagrams > 1);
        if let Some(limit) = &self.limit {
            // Receivers may together take a few datagrams past the limit; the counter stops at 0.
            let less = |left: u64| Some(left.saturating_sub(datagrams));
            let _ = limit.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        }
        Offered::Settled
    }

    fn enqueue(&mut self, frame: &Frame<'_>, now_ns: u64, counts: &mut ReceiverCounts) -> Enqueued {
        let lane = match self.open.len() {
            1 => 0,
            lanes => lane_of(frame.peer, self.seed, lanes),
        };
        loop {
            let Some(batch) = &mut self.open[lane] else {
                let Some(mut fresh) = self.pool.take() else { return Enqueued::NoBatch };
                fresh.open(self.receiver, self.unix_offset_ns);
                self.open[lane] = Some(fresh);
                continue;
            };
            if batch.push(frame, now_ns) {
                return Enqueued::Yes;
            }
            if self.hand_over(lane, true, counts) {
                continue;
            }
            if self.overload == Overload::Wait {
                return Enqueued::NoRoom(lane);
            }
            self.drop_open(lane, counts);
        }
    }

    /// Drops the datagrams of a full batch that found no room, with `Overload::Drop`; the batch is filled anew.
    fn drop_open(&mut self, lane: usize, counts: &mut ReceiverCounts) {
        if let Some(batch) = &mut self.open[lane] {
            counts.enqueued -= batch.len();
            counts.queue_full += batch.len();
            batch.open(self.receiver, self.unix_offset_ns);
        }
    }

    /// Hands over every open batch. Returns `false` if one found no room and stays open.
    pub fn flush(&mut self, counts: &ReceiverCounts) -> bool {
        let mut all = true;
        for lane in 0..self.open.len() {
            all &= self.hand_over(lane, false, counts);
        }
        all
    }

    /// Reads the wall clock again: it may have been set.
    pub fn tick(&mut self) {
        self.unix_offset_ns = clock::unix_offset_ns();
    }

    fn hand_over(&mut self, lane: usize, full: bool, counts: &ReceiverCounts) -> bool {
        let Some(mut batch) = self.open[lane].take() else { return true };
        // Before the worker can publish that it handled them, so that no reader sees more handled
        // than queued.
        self.published.publish(counts);
        // Open batches are out of the pool but not queued yet, so subtract them.
        let behind = !full && self.pool.away() > self.open.len() + PARTIAL_BATCHES_MAX;
        match &mut self.route {
            Route::Inline(worker) => {
                if worker.has_reply_room() {
                    worker.process(&batch);
                    self.pool.put(batch);
                    return true;
                }
            }
            Route::Queues(queues) => {
                let (tries, spread) = match self.dispatch {
                    Dispatch::Flow => (1, false),
                    Dispatch::Spread => (queues.len(), true),
                };
                for _ in 0..tries {
                    let worker = if spread { self.next_worker } else { lane };
                    self.next_worker = (worker + 1) % queues.len();
                    if behind && queues[worker].len() >= PARTIAL_BATCHES_MAX {
                        continue;
                    }
                    match queues[worker].try_send(batch) {
                        Ok(()) => return true,
                        // The worker has ended only after a panic; the engine aborts then.
                        Err(refused) => batch = refused.into_inner(),
                    }
                }
            }
            Route::Closed => {}
        }
        self.open[lane] = Some(batch);
        false
    }

    /// Returns whether the room that the receiver would wait for is there. Asked once more before it sleeps.
    pub fn room(&mut self, counts: &ReceiverCounts) -> bool {
        let all_gone = self.flush(counts);
        match self.stall {
            None => all_gone,
            Some(Stall::Batch) => self.pool.has_spare(),
            Some(Stall::Lane(lane)) => self.hand_over(lane, true, counts),
        }
    }

    /// Returns whether a batch with datagrams in it is open.
    #[must_use]
    pub fn has_open(&self) -> bool {
        self.open.iter().flatten().any(|batch| !batch.is_empty())
    }

    /// Returns the number of datagrams in open batches.
    #[must_use]
    pub fn open_datagrams(&self) -> u64 {
        self.open.iter().flatten().map(Batch::len).sum()
    }

    /// Closes the way of batches. Workers end when every receiver has closed; an inline handler is finished now.
    pub fn close(&mut self) {
        for batch in self.open.iter_mut().filter_map(Option::take) {
            debug_assert!(batch.is_empty(), "closed before the flush");
            self.pool.put(batch);
        }
        match &mut self.route {
            Route::Inline(worker) => worker.finish(),
            Route::Queues(_) | Route::Closed => self.route = Route::Closed,
        }
    }

    /// Returns whether the handler runs on the receiver's own thread.
    #[must_use]
    pub fn is_inline(&self) -> bool {
        matches!(self.route, Route::Inline(_))
    }

    /// Returns when the deadline of an inline handler is, ns; `None`: it has none, or the handler is not inline.
    #[must_use]
    pub fn deadline_ns(&self) -> Option<u64> {
        match &self.route {
            Route::Inline(worker) => worker.deadline_ns(),
            Route::Queues(_) | Route::Closed => None,
        }
    }

    /// Calls an inline handler if its deadline has passed.
    pub fn meet_deadline(&mut self, now_ns: u64) {
        if let Route::Inline(worker) = &mut self.route {
            worker.meet_deadline(now_ns);
        }
    }

    /// Returns how long nothing must come before an inline handler gets a tick; `None`: it gets none.
    #[must_use]
    pub fn idle_tick(&self) -> Option<Duration> {
        match &self.route {
            Route::Inline(worker) => worker.idle_tick(),
            Route::Queues(_) | Route::Closed => None,
        }
    }

    /// Gives an inline handler its tick.
    pub fn idle(&mut self) {
        if let Route::Inline(worker) = &mut self.route {
            worker.idle();
        }
    }

    /// Returns whether an inline handler was called and has not returned.
    #[must_use]
    pub fn is_in_handler(&self) -> bool {
        matches!(&self.route, Route::Inline(worker) if worker.is_in_handler())
    }

    /// Returns the datagrams of the batch that an inline handler was given and has not returned from.
    #[must_use]
    pub fn inline_in_hand(&self) -> u64 {
        match &self.route {
            Route::Inline(worker) => worker.counts().taken - worker.counts().handled,
            Route::Queues(_) | Route::Closed => 0,
        }
    }

    /// Ends the dispatcher. Returns what an inline handler leaves, or `None` if there is no inline handler.
    #[must_use]
    pub fn into_remains(self) -> Option<Remains> {
        match self.route {
            Route::Inline(worker) => Some(worker.into_parts().1),
            Route::Queues(_) | Route::Closed => None,
        }
    }

    /// Returns how many batches are not home, an inline handler's reply batches included.
    pub fn missing(&mut self) -> usize {
        let replies = match &mut self.route {
            Route::Inline(worker) => worker.replies_missing(),
            Route::Queues(_) | Route::Closed => 0,
        };
        self.pool.missing() + replies
    }
}

enum Enqueued {
    Yes,
    /// No empty batch.
    NoBatch,
    /// The worker of this lane has a full queue.
    NoRoom(usize),
}

/// The thing that a stalled frame waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stall {
    /// An empty batch.
    Batch,
    /// The open batch of a lane is handed over.
    Lane(usize),
}

/// Returns the lane, and so the worker, of a peer's datagrams: a multiplicative hash of address and port, with a
/// seed of each engine so that no sender can aim at one worker.
fn lane_of(peer: SocketAddr, seed: u64, lanes: usize) -> usize {
    let folded = match peer {
        SocketAddr::V4(v4) => u64::from(v4.ip().to_bits()),
        SocketAddr::V6(v6) => {
            let bits = v6.ip().to_bits();
            #[expect(clippy::cast_possible_truncation, reason = "both halves are folded in")]
            let (high, low) = ((bits >> 64) as u64, bits as u64);
            high.wrapping_mul(GOLDEN).rotate_left(31) ^ low
        }
    };
    let mixed = ((folded << 16 | u64::from(peer.port())) ^ seed).wrapping_mul(GOLDEN);
    let mixed = (mixed ^ mixed >> 32).wrapping_mul(GOLDEN);
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
