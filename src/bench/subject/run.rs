//! The receiver under test: an engine or a bare loop, started for one trial, marked when the warm-up
//! is through, finished when its counts stand still.

use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use crate::document::facts::HostFacts;
use crate::document::report::Setup;
use crate::rivals::rival::{Call, Peer, PeerSpec};
use crate::subject::handler::{Desk, Findings, Gate, Stages, TrialHandler};
use crate::subject::layers::{Layers, Sockets, backlog_waiting, interface_of};
use crate::subject::threads::Usage;
use crate::wire::message::{EngineSpec, Kind, Outcome, ReceiverSpec, Seen};
use ringest_base::host::resources::allowed_cores;
use ringest_engine::control::builder::Builder;
use ringest_engine::control::config::{ArrivalsChoice, BackendChoice};
use ringest_engine::control::engine::Engine;
use ringest_engine::count::ledger::{Ledger, Unit};
use ringest_engine::count::summary::Summary;
use ringest_engine::error::{Error, Result};
use ringest_engine::receive::dispatch::Overload;
use ringest_load::account::Account;
use ringest_load::stamp::FLOWS_MAX;

/// What the accounts of a receiver showed at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    arrived: Option<u64>,
    received: u64,
    /// Dropped at the sockets as the kernel counts it now, in buffers.
    kernel_buffers: u64,
    ring_exhausted: u64,
    truncated: u64,
    pool: u64,
    queue: u64,
    handled: u64,
}

/// The state of everything where the trial begins.
#[derive(Clone, Debug)]
struct Mark {
    counts: Counts,
    layers: Layers,
    /// Of each thread, receivers first.
    usage: Vec<Usage>,
    /// Datagrams of the warm-up that were sent.
    warm_sent: u64,
}

enum Subject {
    // The gate first, so that handlers are let go before the engine waits for them to end.
    Engine { gate: Option<OpenAtEnd>, engine: Box<Engine>, desk: Desk },
    Bare(Peer),
}

/// Opens a gate when the receiver ends, however that comes: a client may vanish in the middle.
struct OpenAtEnd(Arc<Gate>);

impl Drop for OpenAtEnd {
    fn drop(&mut self) {
        self.0.open();
    }
}

/// A running receiver.
pub(crate) struct Receiver {
    subject: Subject,
    spec: ReceiverSpec,
    /// Names and kernel ids, receivers first.
    threads: Vec<(String, i32)>,
    workers: usize,
    /// The interface that has our address.
    interface: Option<String>,
    mark: Option<Mark>,
}

/// The longest that counts are waited for to stand still.
const SETTLE_MAX: Duration = Duration::from_secs(20);
/// No receiver that has datagrams in its socket takes this long to take the next, unless it was kept from
/// its core.
const PAUSE: Duration = Duration::from_millis(40);
/// How often they are looked at. There is no event that says that nothing will come.
const LOOK_EVERY: Duration = Duration::from_millis(2);

impl Receiver {
    /// Starts one that listens on `address`, with what `template` says of its sockets.
    ///
    /// # Errors
    /// It cannot be had; the message is for the client's user.
    pub(crate) fn start(
        spec: ReceiverSpec,
        address: SocketAddr,
        template: &Builder,
    ) -> Result<Self> {
        check(&spec)?;
        let (subject, threads) = match &spec.kind {
            Kind::Bare { call } => start_bare(&spec, call, address, template)?,
            Kind::Engine(engine) => start_engine(&spec, engine, template.clone().listen(address))?,
        };
        let workers = threads.iter().filter(|(name, _)| name.contains("work")).count();
        let interface = interface_of(address.ip());
        Ok(Self { subject, spec, threads, workers, interface, mark: None })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        match &self.subject {
            Subject::Engine { engine, .. } => engine.addresses()[0],
            Subject::Bare(peer) => peer.address(),
        }
    }

    /// How it is set up.
    pub(crate) fn setup(&self) -> Setup {
        match &self.subject {
            Subject::Engine { engine, .. } => {
                let stats = engine.stats();
                Setup {
                    backend: stats.backend.to_owned(),
                    receiver_cores: stats.receivers.iter().map(|r| r.core).collect(),
                    worker_cores: match self.workers {
                        0 => Vec::new(),
                        _ => stats.workers.iter().map(|w| w.core).collect(),
                    },
                    // getsockopt(2) reports twice what was granted.
                    rcvbuf_bytes: stats.receivers.iter().map(|r| r.rcvbuf_bytes).min().unwrap_or(0)
                        / 2,
                    arrivals: stats.arrivals_reason,
                }
            }
            Subject::Bare(peer) => Setup {
                backend: match &self.spec.kind {
                    Kind::Bare { call } => call.clone(),
                    Kind::Engine(engine) => engine.backend.clone(),
                },
                receiver_cores: self.spec.cores.first().copied().into_iter().collect(),
                worker_cores: Vec::new(),
                rcvbuf_bytes: peer.rcvbuf_bytes() / 2,
                arrivals: "not counted: a bare loop".to_owned(),
            },
        }
    }

    fn counts(&self) -> Counts {
        let kernel_buffers = Sockets::at(self.address()).drops;
        match &self.subject {
            Subject::Engine { engine, .. } => {
                Counts { kernel_buffers, ..counts_of(&engine.stats()) }
            }
            Subject::Bare(peer) => {
                let received = peer.received();
                Counts { received, handled: received, kernel_buffers, ..Counts::default() }
            }
        }
    }

    /// Waits until all of `sent` is accounted for, or nothing has moved for `quiet`; either way until
    /// nothing is left in a socket or in a hand. `false`: counts still moved when the time was up, or
    /// nobody is left to wait for.
    fn settle(&self, sent: u64, quiet: Duration, gone: &dyn Fn() -> bool) -> bool {
        let began = Instant::now();
        let address = self.address();
        // Over a network the last may have been overtaken by a copy of another: only quiet tells.
        let at_once = address.ip().is_loopback();
        let (mut last, mut moved_at) = (Counts::default(), began);
        while began.elapsed() < SETTLE_MAX && !gone() {
            let counts = self.counts();
            if counts != last {
                (last, moved_at) = (counts, Instant::now());
            }
            let after = counts.truncated + counts.pool + counts.queue;
            let all_through = counts.handled + after >= counts.received || self.is_stalled();
            // Received is certain. Arrived is at the socket, or dropped there; which of both is shown by
            // standing still, as is all of it where arrivals are not counted.
            let all_arrived = counts.arrived.is_some_and(|arrived| arrived >= sent);
            let wait = match counts.received >= sent {
                true if at_once => Duration::ZERO,
                false if at_once && all_arrived => quiet.min(PAUSE),
                _ => quiet,
            };
            if all_through && moved_at.elapsed() >= wait && backlog_waiting() == 0 {
                // A receiver that was kept from its core moves nothing, and yet is not done.
                if self.is_stalled() || Sockets::at(address).unread_bytes == 0 {
                    return true;
                }
                moved_at = Instant::now();
            }
            std::thread::sleep(LOOK_EVERY);
        }
        false
    }

    fn usage(&self) -> Vec<Usage> {
        self.threads.iter().map(|(_, id)| Usage::of(*id)).collect()
    }

    fn is_stalled(&self) -> bool {
        matches!(&self.subject, Subject::Engine { gate: Some(_), .. })
    }

    /// The warm-up is through: the trial begins.
    pub(crate) fn mark(&mut self, warm_sent: u64, quiet: Duration, gone: &dyn Fn() -> bool) {
        // One that does not stand still shows in the trial, which then does not either.
        if warm_sent > 0 {
            self.settle(warm_sent, quiet, gone);
        }
        if let Subject::Engine { gate: Some(gate), .. } = &self.subject {
            gate.0.close();
        }
        self.mark = Some(Mark {
            counts: self.counts(),
            layers: Layers::read(self.interface.as_deref()),
            usage: self.usage(),
            warm_sent,
        });
    }

    /// The load has been sent: waits for it, and ends the receiver.
    ///
    /// # Errors
    /// The engine ended badly, or nobody is left to tell.
    pub(crate) fn finish(
        mut self,
        (sent, failed): (u64, u64),
        issued_by_flow: &[u64],
        quiet: Duration,
        gone: &dyn Fn() -> bool,
    ) -> Result<Outcome> {
        let Some(mark) = self.mark.take() else {
            return Err(Error::setting("finish", "", "there was no mark before it"));
        };
        let total = issued_by_flow.iter().try_fold(sent, |sum, more| sum.checked_add(*more));
        if total.is_none_or(|total| total.checked_add(mark.warm_sent).is_none()) {
            return Err(Error::setting("finish", "", "nobody can have sent so many"));
        }
        let settled = self.settle(mark.warm_sent + sent, quiet, gone);
        if gone() {
            return Err(Error::setting("finish", "", "the client has gone"));
        }
        let layers = Layers::read(self.interface.as_deref());
        let kernel_buffers = Sockets::at(self.address()).drops;
        let usage: Vec<Usage> =
            self.usage().iter().zip(&mark.usage).map(|(now, then)| now.since(then)).collect();
        let (receivers, workers) = usage.split_at(usage.len() - self.workers);
        let (receivers, workers) = (Usage::sum(receivers), Usage::sum(workers));
        let threads = self.threads.iter().zip(&usage);
        let threads = threads.map(|((name, _), usage)| (name.clone(), usage.cpu_ns)).collect();
        let has_workers = self.workers > 0;
        let kernel_buffers = kernel_buffers.saturating_sub(mark.counts.kernel_buffers);
        let outcome = self.end(&mark.counts, kernel_buffers, (issued_by_flow, failed))?;
        Ok(Outcome {
            kernel_buffers,
            unsettled: !settled,
            layers: layers.losses_since(&mark.layers),
            threads,
            receiver_cpu_ns: receivers.cpu_ns,
            worker_cpu_ns: has_workers.then_some(workers.cpu_ns),
            softirq_ns: layers.softirq_ns_since(&mark.layers),
            host_ns: layers.busy_ns_since(&mark.layers),
            switches: Usage::sum(&[receivers, workers]).switches,
            ..outcome
        })
    }

    /// Stops it; what its own accounts say of the time since the mark.
    fn end(
        self,
        mark: &Counts,
        kernel_buffers: u64,
        (issued_by_flow, failed): (&[u64], u64),
    ) -> Result<Outcome> {
        match self.subject {
            Subject::Engine { engine, desk, gate } => {
                drop(gate);
                let summary = engine.stop()?;
                let findings =
                    std::mem::take(&mut *desk.lock().unwrap_or_else(PoisonError::into_inner));
                Ok(engine_outcome(mark, &summary, findings, (issued_by_flow, failed)))
            }
            Subject::Bare(peer) => {
                let address = peer.address();
                let tally = peer.stop().map_err(|source| Error::Socket {
                    address,
                    step: "receiving",
                    source,
                })?;
                let received = tally.datagrams.saturating_sub(mark.received);
                let kernel_exact = !self.spec.gro || kernel_buffers == 0;
                let kernel = kernel_buffers;
                Ok(Outcome {
                    received,
                    handled: received,
                    kernel,
                    kernel_exact,
                    ..Outcome::default()
                })
            }
        }
    }
}

/// Whether this can be started without harm: the spec comes from another host.
fn check(spec: &ReceiverSpec) -> Result<()> {
    let cores = allowed_cores();
    if let Some(core) = spec.cores.iter().find(|core| !cores.contains(core)) {
        let reason = format!("the host under test may use these cores: {cores:?}");
        return Err(Error::setting("server-cores", core, reason));
    }
    if !(1..=FLOWS_MAX).contains(&spec.flows) {
        return Err(Error::setting("flows", spec.flows, "1 to 65536"));
    }
    if !(1..=RCVBUF_MAX_BYTES).contains(&spec.rcvbuf_bytes) {
        return Err(Error::setting("rcvbuf", spec.rcvbuf_bytes, "1 byte to 1 GiB"));
    }
    let Kind::Engine(engine) = &spec.kind else { return Ok(()) };
    for (name, threads, least) in
        [("receivers", engine.receivers, 1), ("workers", engine.workers, 0)]
    {
        let most = THREADS_PER_CORE * cores.len();
        if !(least..=most).contains(&threads) {
            let reason = format!("{least} to {most} on a host with {} cores", cores.len());
            return Err(Error::setting(name, threads, reason));
        }
    }
    Ok(())
}

/// More threads than this share their cores and measure each other.
const THREADS_PER_CORE: usize = 4;
/// No host's buffers are larger.
const RCVBUF_MAX_BYTES: usize = 1 << 30;

/// Names and kernel ids of a subject's threads, receivers first.
type Threads = Vec<(String, i32)>;

fn start_bare(
    spec: &ReceiverSpec,
    call: &str,
    address: SocketAddr,
    template: &Builder,
) -> Result<(Subject, Threads)> {
    let call = match call {
        "recvmsg" => Call::Recvmsg,
        "recvmmsg" => Call::Recvmmsg,
        "recvmmsg_epoll" => Call::RecvmmsgEpoll,
        "recvmmsg_naps" => Call::RecvmmsgNap,
        other => {
            let reason = "there is recvmsg, recvmmsg, recvmmsg_epoll and recvmmsg_naps";
            return Err(Error::setting("call", other, reason));
        }
    };
    let copies = call != Call::RecvmmsgNap;
    let peer_spec = PeerSpec { call, gro: spec.gro, copies, size_max: spec.size_max };
    let core = spec.cores.first().copied().or_else(|| allowed_cores().first().copied());
    let socket = (spec.rcvbuf_bytes, &template.config().socket);
    let peer = Peer::start(peer_spec, address, socket, core)?;
    let threads = vec![("bare-loop".to_owned(), peer.thread_id())];
    Ok((Subject::Bare(peer), threads))
}

fn start_engine(
    spec: &ReceiverSpec,
    engine: &EngineSpec,
    template: Builder,
) -> Result<(Subject, Threads)> {
    let desk = Desk::default();
    let gate = engine.stalled.then(|| Arc::new(Gate::new(false)));
    let clocks_shared = HostFacts::boot_id_here() == spec.sender_boot_id;
    let timestamps = template.config().timestamps || spec.stages;
    let mut builder = template
        .receivers(engine.receivers)
        .workers(engine.workers)
        .slots(engine.slots)
        .gro(spec.gro)
        .timestamps(timestamps)
        .rcvbuf_bytes(spec.rcvbuf_bytes)
        .reply_bytes(if spec.echoes { 4 << 20 } else { 0 })
        .backend(backend_choice(&engine.backend)?)
        .overload(match engine.overload.as_str() {
            "wait" => Overload::Wait,
            "drop" => Overload::Drop,
            other => return Err(Error::setting("overload", other, "wait or drop")),
        })
        .arrivals(if engine.arrivals { ArrivalsChoice::Auto } else { ArrivalsChoice::Off });
    if !spec.cores.is_empty() {
        builder = builder.cores(spec.cores.clone());
    }
    if let Some(bound) = engine.coalesce_us {
        builder = builder.coalesce(Duration::from_micros(bound));
    }
    let engine = builder
        .start(|_| TrialHandler::new(spec, clocks_shared, gate.clone(), Arc::clone(&desk)))?;
    let mut threads = engine.thread_ids();
    threads.sort();
    let engine = Box::new(engine);
    Ok((Subject::Engine { gate: gate.map(OpenAtEnd), engine, desk }, threads))
}

fn counts_of(summary: &Summary) -> Counts {
    let Ledger { arrived, received, dropped, handled, .. } = summary.ledger;
    Counts {
        arrived,
        received,
        kernel_buffers: summary.receivers.iter().map(|r| r.kernel_buffers).sum(),
        ring_exhausted: summary.ring_exhausted,
        truncated: dropped.truncated,
        pool: dropped.pool_empty,
        queue: dropped.queue_full,
        handled,
    }
}

/// The difference between an engine's final accounts and those at the mark.
fn engine_outcome(
    mark: &Counts,
    summary: &Summary,
    findings: Vec<Findings>,
    (issued_by_flow, failed): (&[u64], u64),
) -> Outcome {
    let end = counts_of(summary);
    let ledger = &summary.ledger;
    let kernel_exact = ledger.kernel_unit == Unit::Datagrams || ledger.dropped.kernel == 0;
    // At the mark the sockets were empty, so what had arrived and was not received had been dropped.
    let dropped_before = match (mark.arrived, ledger.kernel_unit) {
        (Some(arrived), Unit::Datagrams) => arrived.saturating_sub(mark.received),
        _ => mark.kernel_buffers,
    };
    let (datagrams, bytes) =
        findings.iter().fold((0, 0), |sum, found| (sum.0 + found.datagrams, sum.1 + found.bytes));
    let mut residual = ledger.residual;
    if (datagrams, bytes) != (ledger.handled, ledger.received_bytes)
        && ledger.dropped.after_receive() == 0
    {
        residual += i64::try_from(datagrams.abs_diff(ledger.handled).max(1)).unwrap_or(i64::MAX);
    }
    let mut stages: Option<Stages> = None;
    let mut account: Option<Account> = None;
    for found in findings {
        match (&mut stages, found.stages) {
            (Some(all), Some(more)) => all.add(&more),
            (all @ None, more) => *all = more,
            (Some(_), None) => {}
        }
        match (&mut account, found.account) {
            (Some(all), Some(more)) => all.merge(&more),
            (all @ None, more) => *all = more,
            (Some(_), None) => {}
        }
    }
    Outcome {
        arrived: ledger
            .arrived
            .zip(mark.arrived.or(Some(mark.received)))
            .map(|(a, b)| a - b.min(a)),
        received: end.received - mark.received,
        kernel: ledger.dropped.kernel.saturating_sub(dropped_before),
        kernel_exact,
        truncated: end.truncated - mark.truncated,
        pool: end.pool - mark.pool,
        queue: end.queue - mark.queue,
        unread: ledger.unread_at_stop,
        handled: end.handled - mark.handled,
        residual,
        ring_exhausted: end.ring_exhausted - mark.ring_exhausted,
        seen: account.map(|account| seen(&account, mark, issued_by_flow, failed)),
        stages: stages.map(|stages| stages.records()).unwrap_or_default(),
        ..Outcome::default()
    }
}

/// What the books say; the warm-up, which is another run, was foreign to them.
fn seen(account: &Account, mark: &Counts, issued_by_flow: &[u64], failed: u64) -> Seen {
    let tally = &account.tally;
    let settled = account.settle(issued_by_flow);
    let foreign = tally.foreign + tally.other_run + tally.implausible;
    Seen {
        distinct: tally.distinct,
        duplicates: tally.duplicates,
        reordered: tally.reordered,
        extent_max: account.extent_max(),
        jitter_ns: account.jitter_mean_ns(),
        late: tally.late,
        foreign: foreign.saturating_sub(mark.handled),
        not_named_ours: (foreign + tally.unstamped).saturating_sub(mark.handled),
        lost: settled.lost.saturating_sub(failed),
        sound: settled.is_sound(),
    }
}

fn backend_choice(word: &str) -> Result<BackendChoice> {
    match word {
        "auto" => Ok(BackendChoice::Auto),
        "io_uring" => Ok(BackendChoice::IoUring),
        "recvmmsg" => Ok(BackendChoice::Recvmmsg),
        other => Err(Error::setting("backend", other, "auto, io_uring or recvmmsg")),
    }
}
