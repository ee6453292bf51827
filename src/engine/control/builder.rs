//! How an engine is asked for, and how it is put together.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use crossbeam_channel::{Receiver as Inbox, Sender, bounded};

use crate::backend::mmsg::MESSAGES_MAX;
use crate::backend::uring::probe;
use crate::backend::uring::setup::RingSize;
use crate::batch::arena::Batch;
use crate::batch::pool::Pool;
use crate::control::config::{ArrivalsChoice, BackendChoice, Config, ListenAddr};
use crate::control::engine::{Engine, Parts, ReceiverSeat, WorkerSeat};
use crate::control::plan::{Plan, plan};
use crate::control::sockets::{Groups, Sockets, open_sockets};
use crate::control::threads::{BackendKind, ReceiverLife, Shared, WorkerLife};
use crate::count::counters::PublishedReceiver;
use crate::count::summary::RunFacts;
use crate::error::{Error, Result};
use crate::receive::coalesce::Coalescer;
use crate::receive::dispatch::{Dispatch, DispatchSpec, Dispatcher, Overload, Route};
use crate::receive::receiver::ReceiverLinks;
use crate::send::reply::{Replies, ReplyLane, Transmitter};
use crate::socket::listener::Listener;
use crate::socket::multicast::Group;
use crate::socket::options::SocketOptions;
use crate::socket::steer::Steer;
use crate::sync::waker::Waker;
use crate::work::handler::Handler;
use crate::work::worker::{Worker, WorkerShared};
use ringest_base::host::resources::Host;
use ringest_base::sys::threads::run_on_own_thread;

/// Collects settings; [`start`](Self::start) makes the engine. Every setting has a default but
/// [`listen`](Self::listen).
#[derive(Clone, Debug, Default)]
pub struct Builder {
    config: Config,
}

/// A setter that only stores its argument.
macro_rules! setters {
    ($($(#[$meta:meta])* $name:ident: $type:ty => $field:ident $(as $wrap:path)?;)*) => {
        $($(#[$meta])*
        #[must_use]
        pub fn $name(mut self, $name: $type) -> Self {
            self.config.$field = setters!(@value $name $($wrap)?);
            self
        })*
    };
    (@value $value:ident) => { $value };
    (@value $value:ident $wrap:path) => { $wrap($value) };
}

impl Builder {
    /// Adds an address to listen on. Port 0 lets the kernel choose; [`Engine::addresses`] tells.
    #[must_use]
    pub fn listen(mut self, address: impl Into<ListenAddr>) -> Self {
        self.config.listen.push(address.into());
        self
    }

    /// Adds a multicast group to join, on every listen address that can take it: those of its family
    /// that are a wildcard or the group itself.
    #[must_use]
    pub fn join(mut self, group: Group) -> Self {
        self.config.groups.push(group);
        self
    }

    setters! {
        /// Take IPv6 alone on `[::]`. Default: IPv4 too, its peers shown as IPv4.
        only_v6: bool => only_v6;
        /// Which receiver's socket gets a datagram. Default: the kernel's hash of its addresses.
        steer: Steer => steer;
        /// What else to set on every socket. Default: nothing.
        socket_options: SocketOptions => socket;
        /// Receiver threads, each with one socket per address. Default: half of the cores.
        receivers: usize => receivers as Some;
        /// Worker threads; 0 runs handlers on the receivers, without a queue. Default: the other
        /// half of the cores.
        workers: usize => workers as Some;
        /// Cores to pin threads to, receivers first. Default: those this process may use.
        cores: Vec<usize> => cores as Some;
        /// How datagrams are taken from the sockets. Default: io_uring where it works.
        backend: BackendChoice => backend;
        /// Which worker gets a datagram. Default: always the same for one peer.
        dispatch: Dispatch => dispatch;
        /// What to do when workers fall behind. Default: wait, and let the kernel drop.
        overload: Overload => overload;
        /// Provided buffers per receiver, rounded up to a power of two. Default: 256.
        slots: usize => slots;
        /// Bytes of a batch, at least 65536. Default: 131072.
        batch_bytes: usize => batch_bytes;
        /// Bytes of all batches. Default: 16 MiB.
        pool_bytes: usize => pool_bytes;
        /// Batches a worker's queue holds. Default: 32.
        queue_batches: usize => queue_batches;
        /// Bytes for replies on their way out; 0: handlers do not reply. Default: 4 MiB.
        reply_bytes: usize => reply_bytes;
        /// Receive buffer per socket, as SO_RCVBUF counts. Default: 4 MiB.
        rcvbuf_bytes: usize => rcvbuf_bytes;
        /// The most latency that gathering datagrams may add under load; zero: none. Default: 1 ms.
        coalesce: Duration => coalesce;
        /// Whether the kernel may hand over trains (UDP_GRO). Default: yes.
        gro: bool => gro;
        /// Whether the kernel's receive time comes with each datagram. Default: no; it costs the
        /// kernel a clock read and the slots 32 bytes a datagram.
        timestamps: bool => timestamps;
        /// Whether [`Datagram::destination`](crate::batch::arena::Datagram::destination),
        /// [`hop_limit`](crate::batch::arena::Datagram::hop_limit) and
        /// [`traffic_class`](crate::batch::arena::Datagram::traffic_class) are known. Default: no; it costs the slots
        /// 136 bytes a datagram. Always with
        /// [`SocketOptions::transparent`](crate::socket::options::SocketOptions).
        ip_headers: bool => ip_headers;
        /// Whether arrivals are counted by a socket filter. Default: where CAP_BPF allows.
        arrivals: ArrivalsChoice => arrivals;
        /// Stop by itself after this many datagrams; a train that crosses the mark is taken whole.
        limit: u64 => limit as Some;
        /// How long a worker is without a datagram before its handler's
        /// [`on_idle`](crate::work::handler::Handler::on_idle) is called, and between calls. Default: never.
        idle_tick: Duration => idle_tick as Some;
        /// How long a reply may wait for room in the send buffer. Default: 1 s.
        send_timeout: Duration => send_timeout;
        /// How long a stop may spend handing over what the sockets hold. Default: 5 s.
        drain: Duration => drain;
        /// Completion queue entries; 0: enough that it cannot overflow (the default). For tests.
        cq_entries: u32 => cq_entries;
    }

    /// The same settings for other addresses.
    pub fn without_addresses(mut self) -> Self {
        self.config.listen.clear();
        self
    }

    /// What was set so far.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What [`start`](Self::start) would set up on this host.
    ///
    /// # Errors
    /// [`Error::Setting`] if the settings cannot be.
    pub fn plan(&self) -> Result<Plan> {
        plan(&self.config, &Host::read())
    }

    /// Starts the engine. `make_handler` is called once per worker, with its index (once per
    /// receiver if there are no workers).
    ///
    /// # Errors
    /// What failed and the next move; nothing is left behind then.
    pub fn start<H: Handler + 'static>(
        self,
        make_handler: impl FnMut(usize) -> H,
    ) -> Result<Engine> {
        let config = self.config;
        let host = Host::read();
        let plan = plan(&config, &host)?;
        let Chosen { kind, name: backend, reason: backend_reason, gathers } =
            choose_backend(&config, &plan)?;
        let (sockets, arrivals_reason) = open_sockets(&config, &plan)?;
        let rcvbuf = sockets.rcvbuf_bytes();
        let mut warnings = plan.warnings.clone();
        warnings.extend(sockets.warnings());
        warnings.extend(rcvbuf_warning(config.rcvbuf_bytes, rcvbuf, &host));
        let facts = RunFacts {
            backend,
            backend_reason,
            arrivals_reason,
            listen: sockets.addresses.clone(),
            gro: config.gro,
            coalesce_bound: if gathers { config.coalesce } else { Duration::ZERO },
        };
        let assembly = Assembly { config: &config, plan: &plan, kind, rcvbuf };
        assembly.start(sockets, make_handler, facts, warnings)
    }
}

/// The way datagrams will be taken, and why.
struct Chosen {
    kind: BackendKind,
    name: &'static str,
    reason: String,
    /// Whether sleeps can gather datagrams.
    gathers: bool,
}

fn choose_backend(config: &Config, plan: &Plan) -> Result<Chosen> {
    let recvmmsg = |reason: String| Chosen {
        kind: BackendKind::Recvmmsg { messages: MESSAGES_MAX.min(plan.slots.into()) },
        name: "recvmmsg",
        reason,
        gathers: false,
    };
    if config.backend == BackendChoice::Recvmmsg {
        return Ok(recvmmsg("asked for".to_owned()));
    }
    match (run_on_own_thread("ringest-probe", probe::io_uring)?, config.backend) {
        (Ok(features), choice) => {
            let asked = if choice == BackendChoice::IoUring { "asked for" } else { "probe passed" };
            let gathers = if features.min_wait {
                "multishot recvmsg, min_wait"
            } else {
                "multishot recvmsg; no min_wait before Linux 6.12, so wake-ups are not coalesced"
            };
            Ok(Chosen {
                kind: BackendKind::IoUring(RingSize {
                    slots: plan.slots,
                    cq_entries: config.cq_entries,
                }),
                name: "io_uring",
                reason: format!("{asked}: {gathers}"),
                gathers: features.min_wait,
            })
        }
        (Err(reason), BackendChoice::IoUring) => Err(Error::IoUringRefused { reason }),
        (Err(reason), _) => Ok(recvmmsg(format!("io_uring refused: {reason}"))),
    }
}

/// A clamped receive buffer loses datagrams in bursts, silently; so it is said.
fn rcvbuf_warning(asked: usize, granted: usize, host: &Host) -> Option<String> {
    let wanted = asked.saturating_mul(2);
    (granted < wanted).then(|| {
        format!(
            "receive buffer: asked for {asked} bytes, granted {} (net.core.rmem_max is {}); \
             `sysctl -w net.core.rmem_max={asked}` or CAP_NET_ADMIN allows it",
            granted / 2,
            host.rmem_max_bytes.map_or_else(|| "unknown".to_owned(), |bytes| bytes.to_string()),
        )
    })
}

struct Assembly<'a> {
    config: &'a Config,
    plan: &'a Plan,
    kind: BackendKind,
    rcvbuf: usize,
}

/// What the two sides of every channel are dealt from.
struct Wiring {
    shared: Arc<Shared>,
    /// One per worker.
    queues: Vec<(Sender<Batch>, Inbox<Batch>)>,
    /// Replies, one per receiver.
    inboxes: Vec<Inbox<Batch>>,
    lanes: Vec<ReplyLane>,
    /// The way home of each receiver's batches, and of each replier's.
    homes: Vec<Sender<Batch>>,
    reply_homes: Vec<Sender<Batch>>,
}

impl Assembly<'_> {
    fn pools(&self, count: usize, batches: usize) -> (Vec<Pool>, Vec<Sender<Batch>>) {
        let (arena, entries) = (self.config.batch_bytes, self.plan.batch_entries);
        let owners = (0..count).map(|owner| u16::try_from(owner).unwrap_or(u16::MAX));
        owners.map(|owner| Pool::new(batches, || Batch::new(arena, entries, owner))).unzip()
    }

    fn wire(
        &self,
        shared: &Arc<Shared>,
        homes: Vec<Sender<Batch>>,
        reply_homes: Vec<Sender<Batch>>,
    ) -> Wiring {
        let queue = |_| bounded(self.config.queue_batches);
        // Every reply batch there is fits every inbox, so a worker never waits there.
        let inbox_places = (reply_homes.len() * self.plan.reply_batches).max(1);
        let (lanes, inboxes) = shared
            .wakers
            .iter()
            .map(|waker| {
                let (sender, inbox) = bounded(inbox_places);
                (ReplyLane { inbox: sender, waker: Arc::clone(waker) }, inbox)
            })
            .unzip();
        Wiring {
            shared: Arc::clone(shared),
            queues: (0..self.plan.worker_cores.len()).map(queue).collect(),
            inboxes,
            lanes,
            homes,
            reply_homes,
        }
    }

    fn start<H: Handler + 'static>(
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
        let wiring = self.wire(&shared, homes, reply_homes);
        let seats = self.seats(&sockets);
        let groups = Groups::new(self.plan, &sockets)?;
        let mut engine = Engine::new(Parts {
            shared,
            facts,
            warnings,
            options: sockets.options(),
            groups,
            seats,
            queues: wiring.queues.iter().map(|(_, queue)| queue.clone()).collect(),
            reports: report_inbox,
        });
        let repliers = self.repliers(reply_pools, &wiring, &engine, make_handler);
        let (ready, ready_inbox) = bounded(receivers);
        let routes = match self.start_workers(&mut engine, repliers, &wiring) {
            Ok(routes) => routes,
            Err(error) => {
                // Before the engine: workers end when nobody can send to them any more.
                drop(wiring);
                return Err(error);
            }
        };
        self.start_receivers(&mut engine, (pools, sockets.by_receiver, routes), wiring, &ready)?;
        drop(ready);
        for _ in 0..receivers {
            if ready_inbox.recv() != Ok(true) {
                // A receiver could not be set up; stopping tells which and why.
                engine.abort();
                return Err(engine.stop().err().unwrap_or(Error::BatchesMissing { missing: 0 }));
            }
        }
        engine.begin();
        Ok(engine)
    }

    fn seats(&self, sockets: &Sockets) -> (Vec<ReceiverSeat>, Vec<WorkerSeat>) {
        let receivers = self.plan.receiver_cores.iter().enumerate().map(|(index, &core)| {
            let listeners = &sockets.by_receiver[index];
            ReceiverSeat {
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
            .map(|&core| WorkerSeat { core, shared: Arc::new(WorkerShared::default()) });
        (receivers.collect(), workers.collect())
    }

    /// One handler with its accounts per worker, or per receiver if there are no workers.
    fn repliers<H: Handler>(
        &self,
        reply_pools: Vec<Pool>,
        wiring: &Wiring,
        engine: &Engine,
        mut make_handler: impl FnMut(usize) -> H,
    ) -> Vec<Worker<H>> {
        // An inline handler must not wait for the receiver: it is the receiver.
        let waits = !self.plan.worker_cores.is_empty();
        let make = |(index, pool)| {
            let replies = Replies::new(pool, wiring.lanes.clone(), waits);
            Worker::new(make_handler(index), replies, engine.worker_shared(index))
                .with_idle_tick(self.config.idle_tick)
        };
        reply_pools.into_iter().enumerate().map(make).collect()
    }

    /// Starts the workers and returns the receivers' routes to them; without workers, the routes
    /// hold the handlers themselves.
    fn start_workers<H: Handler + 'static>(
        &self,
        engine: &mut Engine,
        repliers: Vec<Worker<H>>,
        wiring: &Wiring,
    ) -> Result<Vec<Route<H>>> {
        if self.plan.worker_cores.is_empty() {
            return Ok(repliers.into_iter().map(|w| Route::Inline(Box::new(w))).collect());
        }
        for (index, worker) in repliers.into_iter().enumerate() {
            let life = WorkerLife {
                index,
                core: self.plan.worker_cores[index],
                worker,
                queue: wiring.queues[index].1.clone(),
                homes: wiring.homes.clone(),
            };
            engine.spawn(format!("ringest-work-{index}"), move |shared| life.run(shared))?;
        }
        let senders = || wiring.queues.iter().map(|(sender, _)| sender.clone()).collect();
        Ok(self.plan.receiver_cores.iter().map(|_| Route::Queues(senders())).collect())
    }

    /// Starts the receivers. Takes the wiring, so that no end of a channel stays here and keeps it
    /// open.
    fn start_receivers<H: Handler + 'static>(
        &self,
        engine: &mut Engine,
        (pools, sockets, routes): (Vec<Pool>, Vec<Vec<Listener>>, Vec<Route<H>>),
        wiring: Wiring,
        ready: &Sender<bool>,
    ) -> Result<()> {
        let config = self.config;
        let seed = seed();
        let limit = config.limit.map(|limit| Arc::new(AtomicU64::new(limit)));
        let dealt = pools.into_iter().zip(sockets).zip(routes).zip(wiring.inboxes).enumerate();
        for (index, (((pool, listeners), route), inbox)) in dealt {
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
                waker: Arc::clone(&wiring.shared.wakers[index]),
                stop: Arc::clone(&wiring.shared.stop),
                all_wakers: wiring.shared.wakers.clone(),
            };
            let life = ReceiverLife {
                index,
                core: self.plan.receiver_cores[index],
                listeners,
                kind: self.kind,
                dispatcher: Dispatcher::new(pool, route, spec, published),
                transmitter: Transmitter::new(
                    inbox,
                    wiring.reply_homes.clone(),
                    nanos(config.send_timeout),
                ),
                coalescer: Coalescer::new(micros(config.coalesce), self.rcvbuf),
                links,
                drain_bound_ns: nanos(config.drain),
                twins: engine.group_sockets(),
                ready: ready.clone(),
            };
            engine.spawn(format!("ringest-recv-{index}"), move |shared| life.run(shared))?;
        }
        Ok(())
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX).min(u64::MAX / 4)
}

fn micros(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)
}

/// A seed nobody outside can know: std's hasher keys come from the kernel's random source.
fn seed() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    RandomState::new().build_hasher().finish()
}
