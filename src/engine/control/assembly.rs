//! Puts an engine together: pools, queues and threads, from a plan and open sockets.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use crossbeam_channel::{Receiver as Inbox, Sender, bounded};

use crate::backend::kind::BackendKind;
use crate::backend::uring::setup::RingSize;
use crate::batch::arena::Batch;
use crate::batch::pool::Pool;
use crate::control::config::Config;
use crate::control::engine::{Engine, Parts, ReceiverHandle, WorkerHandle};
use crate::control::plan::Plan;
use crate::control::shared::Shared;
use crate::control::sockets::{Groups, Sockets};
use crate::control::threads::{ReceiverThread, WorkerThread};
use crate::count::counters::PublishedReceiver;
use crate::count::summary::RunFacts;
use crate::error::{Error, Result};
use crate::receive::coalesce::Coalescer;
use crate::receive::dispatch::{DispatchSpec, Dispatcher, Route};
use crate::receive::receiver::ReceiverLinks;
use crate::send::reply::{Replies, ReplyLane};
use crate::send::transmitter::Transmitter;
use crate::socket::listener::Listener;
use crate::sync::waker::Waker;
use crate::work::handler::Handler;
use crate::work::worker::{Worker, WorkerShared};
use ringest_base::sys::entropy::unpredictable;

/// Everything that is decided before the first thread is made.
pub(crate) struct Assembly<'a> {
    pub(crate) config: &'a Config,
    pub(crate) plan: &'a Plan,
    pub(crate) kind: BackendKind,
    /// The smallest receive buffer granted, bytes.
    pub(crate) rcvbuf_bytes: usize,
}

/// Both ends of every channel between the threads, before they are handed out.
struct Channels {
    shared: Arc<Shared>,
    /// Batches to the workers, one queue per worker.
    queues: Vec<(Sender<Batch>, Inbox<Batch>)>,
    /// Replies to the receivers: the receiving ends, one per receiver.
    inboxes: Vec<Inbox<Batch>>,
    /// The sending ends of those.
    lanes: Vec<ReplyLane>,
    /// Ways back to each receiver's pool of batches.
    homes: Vec<Sender<Batch>>,
    /// Ways back to each worker's pool of reply batches.
    reply_homes: Vec<Sender<Batch>>,
}

impl Assembly<'_> {
    fn pools(&self, count: usize, batches: usize) -> (Vec<Pool>, Vec<Sender<Batch>>) {
        let (arena, entries) = (self.config.batch_bytes, self.plan.batch_entries);
        let owners = (0..count).map(|owner| u16::try_from(owner).unwrap_or(u16::MAX));
        owners.map(|owner| Pool::new(batches, || Batch::new(arena, entries, owner))).unzip()
    }

    fn channels(
        &self,
        shared: &Arc<Shared>,
        homes: Vec<Sender<Batch>>,
        reply_homes: Vec<Sender<Batch>>,
    ) -> Channels {
        let queue = |_| bounded(self.config.queue_batches);
        // An inbox has room for every reply batch there is, so a worker never waits to send one.
        let inbox_places = (reply_homes.len() * self.plan.reply_batches).max(1);
        let (lanes, inboxes) = shared
            .wakers
            .iter()
            .map(|waker| {
                let (sender, inbox) = bounded(inbox_places);
                (ReplyLane { inbox: sender, waker: Arc::clone(waker) }, inbox)
            })
            .unzip();
        Channels {
            shared: Arc::clone(shared),
            queues: (0..self.plan.worker_cores.len()).map(queue).collect(),
            inboxes,
            lanes,
            homes,
            reply_homes,
        }
    }

    /// Starts all threads and returns when every receiver is receiving.
    pub(crate) fn start<H: Handler + 'static>(
        &self,
        sockets: Sockets,
        make_handler: impl FnMut(usize) -> H,
        facts: RunFacts,
        warnings: Vec<String>,
    ) -> Result<Engine> {
        let receivers = self.plan.receiver_cores.len();
        let workers = self.plan.worker_cores.len();
        let repliers = if workers == 0 { receivers } else { workers };
        let fail = |error: nix::Error| Error::Receiver {
            receiver: 0,
            step: "eventfd(2)",
            source: error.into(),
        };
        let wakers = (0..receivers).map(|_| Waker::new().map(Arc::new));
        let wakers = wakers.collect::<nix::Result<_>>().map_err(fail)?;
        let (reports, report_inbox) = bounded(receivers + workers);
        let shared = Arc::new(Shared::new(wakers, reports).map_err(fail)?);
        let (pools, homes) = self.pools(receivers, self.plan.batches);
        let (reply_pools, reply_homes) = self.pools(repliers, self.plan.reply_batches);
        let channels = self.channels(&shared, homes, reply_homes);
        let handles = self.handles(&sockets);
        let groups = Groups::new(self.plan, &sockets)?;
        let mut engine = Engine::new(Parts {
            shared,
            facts,
            warnings,
            options: sockets.options(),
            groups,
            handles,
            queues: channels.queues.iter().map(|(_, queue)| queue.clone()).collect(),
            reports: report_inbox,
        });
        let repliers = self.repliers(reply_pools, &channels, &engine, make_handler);
        let (ready, ready_inbox) = bounded(receivers);
        let routes = match self.start_workers(&mut engine, repliers, &channels) {
            Ok(routes) => routes,
            Err(error) => {
                // Dropped before the engine: workers end once every sending end of their queues is closed.
                drop(channels);
                return Err(error);
            }
        };
        self.start_receivers(&mut engine, (pools, sockets.by_receiver, routes), channels, &ready)?;
        drop(ready);
        for _ in 0..receivers {
            if ready_inbox.recv() != Ok(true) {
                // A receiver could not be set up; `stop` returns its error.
                engine.abort();
                return Err(engine.stop().err().unwrap_or(Error::BatchesMissing { missing: 0 }));
            }
        }
        engine.begin();
        Ok(engine)
    }

    fn handles(&self, sockets: &Sockets) -> (Vec<ReceiverHandle>, Vec<WorkerHandle>) {
        let receivers = self.plan.receiver_cores.iter().enumerate().map(|(index, &core)| {
            let listeners = &sockets.by_receiver[index];
            ReceiverHandle {
                core,
                rcvbuf_bytes: listeners.iter().map(Listener::rcvbuf_bytes).sum(),
                published: Arc::new(PublishedReceiver::default()),
                arrivals: sockets.arrivals[index].clone(),
            }
        });
        let handler_cores = match self.plan.worker_cores.as_slice() {
            [] => &self.plan.receiver_cores,
            cores => cores,
        };
        let workers = handler_cores
            .iter()
            .map(|&core| WorkerHandle { core, shared: Arc::new(WorkerShared::default()) });
        (receivers.collect(), workers.collect())
    }

    /// Makes the handlers with their counters: one per worker, or one per receiver if there are no workers.
    fn repliers<H: Handler>(
        &self,
        reply_pools: Vec<Pool>,
        channels: &Channels,
        engine: &Engine,
        mut make_handler: impl FnMut(usize) -> H,
    ) -> Vec<Worker<H>> {
        // An inline handler runs on the receiver's thread, so it must not wait for the receiver.
        let waits = !self.plan.worker_cores.is_empty();
        let make = |(index, pool)| {
            let replies = Replies::new(pool, channels.lanes.clone(), waits);
            Worker::new(make_handler(index), replies, engine.worker_shared(index))
                .with_idle_tick(self.config.idle_tick)
        };
        reply_pools.into_iter().enumerate().map(make).collect()
    }

    /// Starts the workers and returns each receiver's route to them. Without workers, the routes hold
    /// the handlers themselves.
    fn start_workers<H: Handler + 'static>(
        &self,
        engine: &mut Engine,
        repliers: Vec<Worker<H>>,
        channels: &Channels,
    ) -> Result<Vec<Route<H>>> {
        if self.plan.worker_cores.is_empty() {
            return Ok(repliers.into_iter().map(|w| Route::Inline(Box::new(w))).collect());
        }
        for (index, worker) in repliers.into_iter().enumerate() {
            let thread = WorkerThread {
                index,
                core: self.plan.worker_cores[index],
                worker,
                queue: channels.queues[index].1.clone(),
                homes: channels.homes.clone(),
            };
            engine.spawn(format!("ringest-work-{index}"), move |shared| thread.run(shared))?;
        }
        let senders = || channels.queues.iter().map(|(sender, _)| sender.clone()).collect();
        Ok(self.plan.receiver_cores.iter().map(|_| Route::Queues(senders())).collect())
    }

    /// Starts the receivers. Consumes the channels: an end kept here would keep the channel open.
    fn start_receivers<H: Handler + 'static>(
        &self,
        engine: &mut Engine,
        (pools, sockets, routes): (Vec<Pool>, Vec<Vec<Listener>>, Vec<Route<H>>),
        channels: Channels,
        ready: &Sender<bool>,
    ) -> Result<()> {
        let config = self.config;
        let seed = unpredictable();
        let limit = config.limit.map(|limit| Arc::new(AtomicU64::new(limit)));
        let parts = pools.into_iter().zip(sockets).zip(routes).zip(channels.inboxes).enumerate();
        for (index, (((pool, listeners), route), inbox)) in parts {
            let spec = DispatchSpec {
                dispatch: config.dispatch,
                overload: config.overload,
                receiver: u16::try_from(index).unwrap_or(u16::MAX),
                seed,
                limit: limit.clone(),
            };
            let published = engine.receiver_published(index);
            let links = ReceiverLinks {
                published: Arc::clone(&published),
                waker: Arc::clone(&channels.shared.wakers[index]),
                stop: Arc::clone(&channels.shared.stop),
                all_wakers: channels.shared.wakers.clone(),
            };
            let thread = ReceiverThread {
                index,
                core: self.plan.receiver_cores[index],
                listeners,
                kind: self.kind,
                size: RingSize { slots: self.plan.slots, cq_entries: config.cq_entries },
                dispatcher: Dispatcher::new(pool, route, spec, published),
                transmitter: Transmitter::new(
                    inbox,
                    channels.reply_homes.clone(),
                    nanos(config.send_timeout),
                ),
                coalescer: Coalescer::new(micros(config.coalesce), self.rcvbuf_bytes),
                links,
                drain_bound_ns: nanos(config.drain),
                group_sockets: engine.group_sockets(),
                ready: ready.clone(),
            };
            engine.spawn(format!("ringest-recv-{index}"), move |shared| thread.run(shared))?;
        }
        Ok(())
    }
}

/// Converts to nanoseconds, capped so that adding it to a clock reading cannot overflow.
fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX).min(u64::MAX / 4)
}

/// Converts to microseconds; a longer time becomes `u32::MAX`.
fn micros(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)
}
