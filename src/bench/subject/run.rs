//! The receiver under test: an engine or a bare loop. It is started for one trial, marked after the
//! warm-up, and finished when its counts no longer change.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::document::facts::HostFacts;
use crate::document::report::Setup;
use crate::rivals::rival::{Call, Rival, RivalSpec};
use crate::subject::handler::{Findings, Gate, Stages, TrialHandler};
use crate::subject::layers::{Layers, Sockets, backlog_waiting, interface_of};
use crate::subject::threads::Usage;
use crate::wire::message::{EngineSpec, Kind, ReceiverOutcome, ReceiverSpec, SeenCounts};
use ringest_base::host::resources::allowed_cores;
use ringest_engine::control::builder::Builder;
use ringest_engine::control::config::{ArrivalsChoice, BackendChoice};
use ringest_engine::control::engine::Engine;
use ringest_engine::count::ledger::{Ledger, Unit};
use ringest_engine::count::summary::Summary;
use ringest_engine::error::{Error, Result};
use ringest_engine::receive::dispatch::Overload;
use ringest_load::account::RunAccount;
use ringest_load::stamp::FLOWS_MAX;

/// The counts of a receiver at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    arrived: Option<u64>,
    received: u64,
    /// Drops at the sockets as the kernel counts them now, in buffers.
    kernel_buffers: u64,
    ring_exhausted: u64,
    truncated: u64,
    pool: u64,
    queue: u64,
    handled: u64,
}

/// All counts at the start of a trial.
#[derive(Clone, Debug)]
struct Mark {
    counts: Counts,
    layers: Layers,
    /// The usage of each thread, receivers first.
    usage: Vec<Usage>,
    /// Datagrams sent in the warm-up.
    warm_sent: u64,
}

enum Subject {
    // Drop order: the gate first, so that handlers can end before the engine waits for them.
    Engine { gate: Option<OpenAtEnd>, engine: Box<Engine> },
    Bare(Rival),
}

/// Opens a gate when dropped: a client may vanish in the middle of a trial.
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
    /// The interface that has the receiver's address.
    interface: Option<String>,
    mark: Option<Mark>,
}

/// The longest wait for counts to stop changing.
const SETTLE_MAX: Duration = Duration::from_secs(20);
/// A receiver with datagrams in its socket takes the next one within this time, unless other threads
/// keep it from its core.
const PAUSE: Duration = Duration::from_millis(40);
/// Interval between looks at the counts. No event tells that nothing more will come.
const LOOK_EVERY: Duration = Duration::from_millis(2);

impl Receiver {
    /// Starts a receiver that listens on `address`, with the socket options of `template`.
    ///
    /// # Errors
    /// The receiver cannot be started; the message is for the client's user.
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

    /// Returns the address it listens on.
    pub(crate) fn address(&self) -> SocketAddr {
        match &self.subject {
            Subject::Engine { engine, .. } => engine.addresses()[0],
            Subject::Bare(peer) => peer.address(),
        }
    }

    /// Returns its setup.
    pub(crate) fn setup(&self) -> Setup {
        match &self.subject {
            Subject::Engine { engine, .. } => {
                let stats = engine.stats();
                Setup {
                    backend: stats.backend.to_string(),
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

    /// Waits until all of `sent` is accounted for or no count has changed for `quiet`, and until sockets
    /// and handlers are empty. Returns `false` if counts still changed after [`SETTLE_MAX`], or if the
    /// client is gone.
    fn settle(&self, sent: u64, quiet: Duration, gone: &dyn Fn() -> bool) -> bool {
        let began = Instant::now();
        let address = self.address();
        // Over a network duplicates may make up the number while others are still on their way.
        let at_once = address.ip().is_loopback();
        let (mut last, mut moved_at) = (Counts::default(), began);
        while began.elapsed() < SETTLE_MAX && !gone() {
            let counts = self.counts();
            if counts != last {
                (last, moved_at) = (counts, Instant::now());
            }
            let after = counts.truncated + counts.pool + counts.queue;
            let all_through = counts.handled + after >= counts.received || self.is_stalled();
            // Received datagrams are certain. Arrived ones are in the socket or dropped there; only a pause
            // tells which. Without arrival counts a pause is the only sign.
            let all_arrived = counts.arrived.is_some_and(|arrived| arrived >= sent);
            let wait = match counts.received >= sent {
                true if at_once => Duration::ZERO,
                false if at_once && all_arrived => quiet.min(PAUSE),
                _ => quiet,
            };
            if all_through && moved_at.elapsed() >= wait && backlog_waiting() == 0 {
                // A receiver without its core changes no counts although it has not finished.
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

    /// Waits for the warm-up to end, and begins the trial.
    pub(crate) fn mark(&mut self, warm_sent: u64, quiet: Duration, gone: &dyn Fn() -> bool) {
        // If counts still change here, they will change in the trial too, which then is void.
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

    /// Waits until the load has arrived, and stops the receiver.
    ///
    /// # Errors
    /// The engine failed, or the client is gone.
    pub(crate) fn finish(
        mut self,
        (sent, failed): (u64, u64),
        issued_by_flow: &[u64],
        quiet: Duration,
        gone: &dyn Fn() -> bool,
    ) -> Result<ReceiverOutcome> {
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
        Ok(ReceiverOutcome {
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

    /// Stops the receiver and returns its own counts since the mark.
    fn end(
        self,
        mark: &Counts,
        kernel_buffers: u64,
        (issued_by_flow, failed): (&[u64], u64),
    ) -> Result<ReceiverOutcome> {
        match self.subject {
            Subject::Engine { engine, gate } => {
                drop(gate);
                let (summary, findings) = engine.stop_with_remains()?;
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
                Ok(ReceiverOutcome {
                    received,
                    handled: received,
                    kernel,
                    kernel_exact,
                    ..ReceiverOutcome::default()
                })
            }
        }
    }
}

/// Checks the limits of a spec, which comes from another host.
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

/// The most threads a core. With more, threads would measure each other.
const THREADS_PER_CORE: usize = 4;
/// The largest receive buffer, above any host's limit.
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
    let peer_spec = RivalSpec { call, gro: spec.gro, copies, size_max: spec.size_max };
    let core = spec.cores.first().copied().or_else(|| allowed_cores().first().copied());
    let socket = (spec.rcvbuf_bytes, &template.config().socket);
    let peer = Rival::start(peer_spec, address, socket, core)?;
    let threads = vec![("bare-loop".to_owned(), peer.thread_id())];
    Ok((Subject::Bare(peer), threads))
}

fn start_engine(
    spec: &ReceiverSpec,
    engine: &EngineSpec,
    template: Builder,
) -> Result<(Subject, Threads)> {
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
    let engine = builder.start(|_| TrialHandler::new(spec, clocks_shared, gate.clone()))?;
    let mut threads = engine.thread_ids();
    threads.sort();
    let engine = Box::new(engine);
    Ok((Subject::Engine { gate: gate.map(OpenAtEnd), engine }, threads))
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

/// Returns the difference between an engine's final counts and those at the mark.
fn engine_outcome(
    mark: &Counts,
    summary: &Summary,
    findings: Vec<Findings>,
    (issued_by_flow, failed): (&[u64], u64),
) -> ReceiverOutcome {
    let end = counts_of(summary);
    let ledger = &summary.ledger;
    let kernel_exact = ledger.kernel_unit == Unit::Datagrams || ledger.dropped.kernel == 0;
    // At the mark the sockets were empty, so arrived datagrams that were not received were dropped.
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
    let mut account: Option<RunAccount> = None;
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
    ReceiverOutcome {
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
        ..ReceiverOutcome::default()
    }
}

/// Returns the counts of the handlers, without the warm-up, which has another run id and so counts as
/// foreign.
fn seen(account: &RunAccount, mark: &Counts, issued_by_flow: &[u64], failed: u64) -> SeenCounts {
    let tally = &account.tally;
    let settled = account.settle(issued_by_flow);
    let foreign = tally.foreign + tally.other_run + tally.implausible;
    SeenCounts {
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
    word.parse().map_err(|reason: String| Error::setting("backend", word, reason))
}
