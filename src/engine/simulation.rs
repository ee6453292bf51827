//! The real receiver, dispatcher, workers and replies on the simulated kernel, in one thread and so
//! repeatable: after every step the ledger must balance, and at the end every datagram that was
//! offered must be accounted for, exactly once.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use crossbeam_channel::{Receiver as Inbox, Sender, bounded};

use crate::backend::sim::{Sim, Truth};
use crate::batch::arena::Batch;
use crate::batch::pool::Pool;
use crate::count::counters::{PublishedReceiver, WorkerCounts};
use crate::count::ledger::{Ended, balance};
use crate::receive::coalesce::Coalescer;
use crate::receive::dispatch::{Dispatch, DispatchSpec, Dispatcher, Overload, Route};
use crate::receive::receiver::{Receiver, ReceiverLinks, Turn};
use crate::send::reply::{Replies, ReplyLane};
use crate::send::transmitter::Transmitter;
use crate::sync::stop::{Stop, StopKind};
use crate::sync::waker::Waker;
use crate::wire::path::Path;
use crate::work::handler::Handler;
use crate::work::worker::{Worker, WorkerShared};
use ringest_base::sys::chance::Chance;

/// Seeds of the short form; `RINGEST_SIM_SEEDS` asks for more.
const SEEDS: u64 = 10_000;
/// Steps before the world falls silent.
const BUSY_STEPS: usize = 60;
/// Steps after which a receiver that still has work is deaf or stuck.
const STEPS_MAX: usize = 5_000;

/// Remembers every number it was given, and answers some datagrams.
#[derive(Clone)]
struct Witness {
    seen: Arc<Mutex<HashSet<u64>>>,
    chance: Chance,
    answers: u64,
    /// Paths to answer at the deadline, not before.
    later: Vec<Path>,
}

impl Handler for Witness {
    fn handle(&mut self, batch: &Batch, replies: &mut Replies) {
        let mut seen = self.seen.lock().unwrap();
        for datagram in batch {
            if let Some(number) = datagram.payload().first_chunk() {
                assert!(seen.insert(u64::from_le_bytes(*number)), "a datagram came twice");
            }
            if self.chance.one_in(3) {
                replies.send(&datagram, datagram.payload());
                self.answers += 1;
            } else if self.chance.one_in(8) {
                self.later.push(datagram.path());
            }
        }
    }

    /// Due at once, as soon as one answer is owed.
    fn deadline_ns(&self) -> Option<u64> {
        (!self.later.is_empty()).then_some(0)
    }

    fn on_deadline(&mut self, _: u64, replies: &mut Replies) {
        for path in self.later.drain(..) {
            replies.send_to(&path, b"later");
            self.answers += 1;
        }
    }
}

/// A worker that is stepped by hand.
struct Bench {
    worker: Option<Worker<Witness>>,
    queue: Inbox<Batch>,
}

struct World {
    receiver: Receiver<Sim, Witness>,
    benches: Vec<Bench>,
    shared: Vec<Arc<WorkerShared>>,
    home: Sender<Batch>,
    stop: Arc<Stop>,
    chance: Chance,
    reply_pools: Vec<Pool>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut chance = Chance::new(seed ^ 0x5eed);
        let workers = chance.below(4);
        let repliers = workers.max(1);
        let arena = 600 + chance.below(2000);
        let batches = repliers + 1 + chance.below(4);
        let (pool, home) = Pool::new(batches, || Batch::new(arena, 1 + arena / 100, 0));
        let waker = Arc::new(Waker::new().unwrap());
        let (inbox_sender, inbox) = bounded(64);
        let lane = ReplyLane { inbox: inbox_sender, waker: Arc::clone(&waker) };
        let seen = Arc::new(Mutex::new(HashSet::new()));
        let (mut made, mut reply_homes, mut shared) = (Vec::new(), Vec::new(), Vec::new());
        for index in 0..repliers {
            let owner = u16::try_from(index).unwrap();
            let (pool, home) = Pool::new(3, || Batch::new(arena, 8, owner));
            reply_homes.push(home);
            let witness = Witness {
                seen: Arc::clone(&seen),
                chance: Chance::new(seed + 7),
                answers: 0,
                later: Vec::new(),
            };
            let accounts = Arc::new(WorkerShared::default());
            shared.push(Arc::clone(&accounts));
            let replies = Replies::new(pool, vec![lane.clone()], false);
            made.push(Worker::new(witness, replies, accounts));
        }
        drop(lane);
        let mut benches = Vec::new();
        let route = if workers == 0 {
            Route::Inline(Box::new(made.remove(0)))
        } else {
            let mut senders = Vec::new();
            for worker in made {
                let (sender, queue) = bounded(1 + chance.below(3));
                senders.push(sender);
                benches.push(Bench { worker: Some(worker), queue });
            }
            Route::Queues(senders)
        };
        let published = Arc::new(PublishedReceiver::default());
        let spec = DispatchSpec {
            dispatch: if chance.one_in(2) { Dispatch::Flow } else { Dispatch::Spread },
            overload: if chance.one_in(2) { Overload::Wait } else { Overload::Drop },
            receiver: 0,
            seed,
            limit: None,
        };
        let stop = Arc::new(Stop::default());
        let links = ReceiverLinks {
            published: Arc::clone(&published),
            waker: Arc::clone(&waker),
            stop: Arc::clone(&stop),
            all_wakers: vec![waker],
        };
        let receiver = Receiver::new(
            Sim::new(seed),
            Dispatcher::new(pool, route, spec, published),
            Transmitter::new(inbox, reply_homes, 50_000_000),
            Coalescer::new(1000, 8 << 20),
            links,
        );
        Self { receiver, benches, shared, home, stop, chance, reply_pools: Vec::new() }
    }

    /// One turn of the receiver, then some workers do some of their work.
    fn step(&mut self, eager: bool) -> Turn {
        let turn = self.receiver.turn().unwrap();
        for index in 0..self.benches.len() {
            while eager || self.chance.one_in(2) {
                let bench = &mut self.benches[index];
                let Some(worker) = &mut bench.worker else { break };
                match bench.queue.try_recv() {
                    Ok(mut batch) => {
                        worker.process(&batch);
                        worker.meet_deadline(1);
                        batch.clear();
                        self.home.send(batch).unwrap();
                    }
                    Err(crossbeam_channel::TryRecvError::Empty) => break,
                    Err(crossbeam_channel::TryRecvError::Disconnected) => {
                        worker.finish();
                        self.reply_pools
                            .extend(bench.worker.take().map(|worker| worker.into_parts().0));
                        break;
                    }
                }
            }
        }
        self.check();
        turn
    }

    fn worker_counts(&self) -> Vec<WorkerCounts> {
        self.shared.iter().map(|shared| shared.counts.read()).collect()
    }

    fn check(&self) {
        let counts = self.receiver.counts();
        let ledger = balance(&[(counts, None)], &self.worker_counts(), true, None);
        assert_eq!(ledger.residual, 0, "{ledger:?}");
        let truth = self.truth();
        assert_eq!(truth.taken, counts.received + counts.unread_at_stop);
        let on_the_way = self.receiver.backend().on_the_way();
        assert_eq!(truth.offered, truth.taken + truth.dropped_datagrams + on_the_way);
    }

    fn truth(&self) -> Truth {
        self.receiver.backend().truth
    }

    /// Busy, then silent until nothing is left in the sockets, then stopped. Returns a digest of the
    /// run.
    fn live(mut self) -> u64 {
        for _ in 0..BUSY_STEPS {
            self.step(false);
        }
        self.receiver.backend_mut().sending = false;
        let mut steps = 0;
        while !self.receiver.backend().sockets_empty() {
            self.step(true);
            steps += 1;
            assert!(steps < STEPS_MAX, "deaf: datagrams wait in a socket nobody reads");
        }
        // The last moments are busy again: a stop under load.
        self.receiver.backend_mut().sending = true;
        self.step(false);
        self.stop.begin(StopKind::Drain);
        while self.step(self.chance.clone().one_in(2)) == Turn::Again {
            steps += 1;
            assert!(steps < STEPS_MAX, "the stop does not end");
        }
        self.settle()
    }

    fn settle(mut self) -> u64 {
        let left = self.receiver.left_behind();
        assert_eq!((left.open_datagrams, left.batches_missing), (0, 0));
        let missing: usize = self.reply_pools.iter_mut().map(Pool::missing).sum();
        assert_eq!(missing, 0, "reply batches");
        let (counts, truth) = (self.receiver.counts(), self.truth());
        let ended = Some(Ended::default());
        let arrived = Some(counts.received + truth.dropped_datagrams + counts.unread_at_stop);
        let workers = self.worker_counts();
        let ledger = balance(&[(counts, arrived)], &workers, true, ended);
        assert_eq!(ledger.residual, 0, "{ledger:?}");
        assert_eq!(self.receiver.backend().on_the_way(), 0, "left in a socket by the drain");
        assert_eq!(ledger.arrived, Some(truth.offered));
        assert_eq!(ledger.queued, 0);
        assert_eq!(counts.kernel_buffers, truth.dropped_buffers);
        assert_eq!(counts.replies_sent, truth.replies);
        self.receiver.backend().trace ^ counts.received.rotate_left(17) ^ counts.rearmed
    }
}

fn seeds() -> u64 {
    std::env::var("RINGEST_SIM_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(SEEDS)
}

#[test]
fn every_seed_balances_at_every_step() {
    for seed in 0..seeds() {
        let lived = std::panic::catch_unwind(|| World::new(seed).live());
        assert!(lived.is_ok(), "seed {seed} failed, see the panic above");
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let mut digests = HashSet::new();
    for seed in 0..200 {
        let first = World::new(seed).live();
        assert_eq!(first, World::new(seed).live(), "seed {seed}");
        digests.insert(first);
    }
    assert!(digests.len() > 190, "different seeds give different runs");
}

/// A receiver that forgets to arm a receive again must not pass.
#[cfg(feature = "fault-skip-rearm")]
#[test]
fn the_skipped_rearm_is_caught() {
    use crate::receive::fault::{Fault, with};
    let live = |seed| std::panic::catch_unwind(|| World::new(seed).live());
    let caught = (0..100).filter(|&seed| with(Fault::SkipRearm, || live(seed)).is_err());
    assert_eq!(caught.count(), 100, "every seed ends a receive, so every seed must notice");
    assert!(live(0).is_ok(), "without the fault the same seed passes");
}
