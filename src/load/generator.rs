//! The load generator: starts all sending threads together, watches and stops them, adds up their reports.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver as Inbox, RecvTimeoutError, Sender as Outbox, bounded};

use crate::receive::echo::{Echo, Echoes, NoEchoes};
use crate::report::{LoadError, LoadReport};
use crate::send::sender::Sender;
use crate::send::share::{Progress, Share};
use crate::spec::LoadSpec;
use ringest_base::host::resources::allow_descriptors;
use ringest_base::sys::clock;
use ringest_base::sys::threads::{run_on_own_thread, spawn_named};
use ringest_engine::backend::kind::{BackendKind, BuildError, RunOn, SendOn};
use ringest_engine::backend::rx::Rx;
use ringest_engine::backend::sockets::Sockets;
use ringest_engine::backend::tx::Tx;
use ringest_engine::backend::uring::setup::RingSize;
use ringest_engine::socket::connected::Connected;

/// Send and receive buffer to ask for, bytes a socket. The send buffer holds the datagrams that a slow
/// path queues. With more than 64 flows it is divided among them.
const BUFFER_BYTES: usize = 4 << 20;
/// Time from all threads being ready to the first datagram, so that every thread sees the start.
const COUNTDOWN_NS: u64 = 1_000_000;

/// A load being sent. Dropping it stops it.
#[derive(Debug)]
pub struct Generator {
    threads: Vec<JoinHandle<Result<LoadReport, LoadError>>>,
    stop: Arc<AtomicBool>,
    progress: Vec<Arc<Progress>>,
    /// Disconnected when the last thread has ended.
    ended: Inbox<()>,
    flows: usize,
}

/// The counts of all threads so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SoFar {
    /// Accepted by the kernel.
    pub sent: u64,
    /// Refused by the kernel or dropped on this host.
    pub failed: u64,
    /// Echoes received.
    pub echoed: u64,
    /// Delay of the slowest thread against its deadlines when it last sent, ns.
    pub behind_ns: u64,
}

/// The barrier at which all threads wait, so that all have the same start time.
#[derive(Debug)]
struct Startline {
    barrier: Barrier,
    /// A thread failed to get ready.
    off: AtomicBool,
    start_ns: AtomicU64,
}

impl Startline {
    /// Waits for the others. Returns the start time, or `None` if any thread is not ready.
    fn await_start(&self, ready: bool) -> Option<u64> {
        if !ready {
            self.off.store(true, Ordering::SeqCst);
        }
        if self.barrier.wait().is_leader() {
            self.start_ns.store(clock::monotonic_ns() + COUNTDOWN_NS, Ordering::SeqCst);
        }
        self.barrier.wait();
        (!self.off.load(Ordering::SeqCst)).then(|| self.start_ns.load(Ordering::SeqCst))
    }
}

impl Generator {
    /// Starts the threads; they open their sockets and begin together.
    ///
    /// # Errors
    /// The load is invalid, or a thread cannot be started. Later errors are returned by
    /// [`finish`](Self::finish).
    pub fn start(spec: &LoadSpec) -> Result<Self, LoadError> {
        spec.check()?;
        allow_descriptors(spec.flows as u64 + 64);
        let ring = BackendKind::IoUring;
        let uses_ring =
            spec.io_uring && run_on_own_thread("ringest-probe", move || ring.probe())?.is_ok();
        let kind = if uses_ring { ring } else { BackendKind::Recvmmsg };
        let line = Arc::new(Startline {
            barrier: Barrier::new(spec.threads),
            off: AtomicBool::new(false),
            start_ns: AtomicU64::new(0),
        });
        let (alive, ended) = bounded(0);
        let stop = Arc::new(AtomicBool::new(false));
        let mut generator =
            Self { threads: Vec::new(), stop, progress: Vec::new(), ended, flows: spec.flows };
        for index in 0..spec.threads {
            let progress = Arc::new(Progress::default());
            generator.progress.push(Arc::clone(&progress));
            let share = share(spec, index, Arc::clone(&generator.stop), progress);
            let seat = Seat {
                spec: spec.clone(),
                share,
                kind,
                line: Arc::clone(&line),
                _alive: alive.clone(),
            };
            let core = spec.cores.get(index % spec.cores.len().max(1)).copied();
            let thread = spawn_named(format!("load-{index}"), core, move || seat.send());
            match thread {
                Ok(thread) => generator.threads.push(thread),
                Err(error) => {
                    // The others wait for this one: arrive in its place, and cancel the start.
                    let missing = spec.threads - index;
                    call_off(&line, missing);
                    return Err(error.into());
                }
            }
        }
        Ok(generator)
    }

    /// Returns the counts so far.
    #[must_use]
    pub fn so_far(&self) -> SoFar {
        let mut so_far = SoFar::default();
        for progress in &self.progress {
            so_far.sent += progress.sent.load(Ordering::Relaxed);
            so_far.failed += progress.failed.load(Ordering::Relaxed);
            so_far.echoed += progress.echoed.load(Ordering::Relaxed);
            so_far.behind_ns = so_far.behind_ns.max(progress.behind_ns.load(Ordering::Relaxed));
        }
        so_far
    }

    /// Waits until all threads have ended or the time is up. Returns whether they have ended.
    #[must_use]
    pub fn wait(&self, timeout: Duration) -> bool {
        self.ended.recv_timeout(timeout) != Err(RecvTimeoutError::Timeout)
    }

    /// Asks the threads to end. Datagrams that are due but not sent by then count as `unsent`.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Waits for the end and returns the sum of all reports.
    ///
    /// # Errors
    /// The first error of any thread; the other threads are stopped then.
    pub fn finish(mut self) -> Result<LoadReport, LoadError> {
        let mut total = LoadReport::empty(self.flows, "");
        let mut failure: Option<LoadError> = None;
        for thread in std::mem::take(&mut self.threads) {
            match thread.join() {
                Ok(Ok(report)) => total.add(&report),
                Ok(Err(error)) => {
                    self.stop.store(true, Ordering::Relaxed);
                    failure.get_or_insert(error);
                }
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        failure.map_or(Ok(total), Err)
    }
}

impl Drop for Generator {
    fn drop(&mut self) {
        self.stop();
        for thread in std::mem::take(&mut self.threads) {
            // The report is not needed: the load was dropped.
            let _ = thread.join();
        }
    }
}

/// Sends a load to its end.
///
/// # Errors
/// Those of [`Generator::finish`].
pub fn run(spec: &LoadSpec) -> Result<LoadReport, LoadError> {
    Generator::start(spec)?.finish()
}

/// Arrives at the start barrier in place of threads that failed to start, so that the others do not wait
/// for ever.
fn call_off(line: &Arc<Startline>, missing: usize) {
    let stand_ins = (0..missing).filter_map(|_| {
        let line = Arc::clone(line);
        spawn_named("load-off".to_owned(), None, move || line.await_start(false)).ok()
    });
    for stand_in in stand_ins.collect::<Vec<_>>() {
        let _ = stand_in.join();
    }
}

/// Returns the part of the load that thread `index` sends.
fn share(spec: &LoadSpec, index: usize, stop: Arc<AtomicBool>, progress: Arc<Progress>) -> Share {
    let flows: Vec<usize> = (index..spec.flows).step_by(spec.threads).collect();
    #[expect(clippy::cast_precision_loss, reason = "a few thousand at most")]
    let (part, offset) =
        (flows.len() as f64 / spec.flows as f64, index as f64 / spec.threads as f64);
    Share {
        index,
        count: spec.count.map(|count| count_of(count, spec, &flows)),
        flows,
        rate_pps: spec.rate_pps().map(|rate| rate * part),
        offset,
        stop,
        progress,
    }
}

/// Returns how many of `count` datagrams go to these flows if groups go to all flows in turn. The rate is
/// divided in the same way, so all threads end together.
fn count_of(count: u64, spec: &LoadSpec, flows: &[usize]) -> u64 {
    let together = spec.group() as u64;
    let groups = count.div_ceil(together);
    let all = spec.flows as u64;
    let missing = groups * together - count;
    let of_flow = |flow: usize| {
        let flow = flow as u64;
        let groups_of_flow = groups / all + u64::from(flow < groups % all);
        // The last group may be short.
        let short = if groups > 0 && (groups - 1) % all == flow { missing } else { 0 };
        groups_of_flow * together - short
    };
    flows.iter().map(|&flow| of_flow(flow)).sum()
}

/// The state of one sending thread before its start.
struct Seat {
    spec: LoadSpec,
    share: Share,
    kind: BackendKind,
    line: Arc<Startline>,
    _alive: Outbox<()>,
}

/// Slots of a thread that takes echoes.
const ECHO_SLOTS: u16 = 256;

impl Seat {
    fn send(self) -> Result<LoadReport, LoadError> {
        crate::send::wait::exact_timers();
        let stop = Arc::clone(&self.share.stop);
        let sockets = match open_sockets(&self.spec, self.share.flows.len()) {
            Ok(sockets) => sockets,
            Err(error) => {
                self.line.await_start(false);
                return Err(error);
            }
        };
        let kind = self.kind;
        let sent = if self.spec.echo {
            let size = RingSize { slots: ECHO_SLOTS, cq_entries: 0 };
            kind.build(sockets, None, size, self)
        } else {
            kind.build_sender(sockets, self)
        };
        if sent.is_err() {
            // The whole load has failed, so the other threads stop too.
            stop.store(true, Ordering::Relaxed);
        }
        sent
    }

    /// Waits for the other threads, then sends.
    fn start<B: Tx + Sockets<Socket = Connected>, E: Echo<B>>(
        self,
        built: Result<B, BuildError>,
        echoes: E,
    ) -> Result<LoadReport, LoadError> {
        let Self { spec, share, kind, line, .. } = self;
        let failed = |(step, source)| LoadError::Backend { step, source };
        let backend = built.map_err(failed);
        let sender = backend.and_then(|backend| Sender::new(&spec, share, (backend, kind), echoes));
        match (line.await_start(sender.is_ok()), sender) {
            (Some(start_ns), Ok(sender)) => sender.run(start_ns),
            (_, Err(error)) => Err(error),
            // Another thread returns the error.
            (None, Ok(_)) => Ok(LoadReport::empty(0, "")),
        }
    }
}

impl RunOn<Connected> for Seat {
    type Output = Result<LoadReport, LoadError>;

    fn run<B: Rx + Tx + Sockets<Socket = Connected>>(
        self,
        built: Result<B, BuildError>,
    ) -> Self::Output {
        let echoes = Echoes::new(self.spec.run, &self.share.flows, self.spec.flows);
        self.start(built, echoes)
    }
}

impl SendOn<Connected> for Seat {
    type Output = Result<LoadReport, LoadError>;

    fn run<B: Tx + Sockets<Socket = Connected>>(
        self,
        built: Result<B, BuildError>,
    ) -> Self::Output {
        self.start(built, NoEchoes)
    }
}

fn open_sockets(spec: &LoadSpec, flows: usize) -> Result<Vec<Connected>, LoadError> {
    let target = spec.target;
    let any =
        if target.is_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
    let bind = SocketAddr::from((spec.bind.unwrap_or(any), 0));
    let buffer_bytes = (BUFFER_BYTES * 64 / spec.flows.max(64)).max(256 << 10);
    (0..flows)
        .map(|opened| {
            Connected::open(target, bind, buffer_bytes).map_err(|(step, source)| {
                match (step, source.raw_os_error()) {
                    ("bind(2)", Some(libc::EADDRINUSE)) | ("connect(2)", Some(libc::EAGAIN)) => {
                        LoadError::NoPorts { target, opened, wanted: flows }
                    }
                    ("connect(2)", Some(libc::ENETUNREACH | libc::EHOSTUNREACH)) => {
                        LoadError::Unreachable { target, source }
                    }
                    _ => LoadError::Socket { target, step, source },
                }
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Gso, Pattern, Payload, Rate, Sizes};
    use crate::stamp;
    use crate::stamp::Seen;
    use std::net::UdpSocket;

    fn receiver() -> UdpSocket {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket2::SockRef::from(&receiver).set_recv_buffer_size(4 << 20).unwrap();
        receiver.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        receiver
    }

    fn spec(receiver: &UdpSocket) -> LoadSpec {
        LoadSpec {
            count: Some(100),
            sizes: Sizes::Fixed(100),
            payload: Payload::Random,
            ..LoadSpec::new(receiver.local_addr().unwrap())
        }
    }

    #[test]
    fn sends_every_datagram_once_in_order() {
        for (io_uring, gso) in
            [(true, Gso::Off), (true, Gso::Trains(8)), (false, Gso::Auto), (true, Gso::Auto)]
        {
            let receiver = receiver();
            let spec = LoadSpec { io_uring, gso, ..spec(&receiver) };
            let report = run(&spec).unwrap();
            assert_eq!((report.intended, report.sent, report.unsent), (100, 100, 0), "{gso:?}");
            assert_eq!(report.issued_by_flow, [100]);
            let mut buffer = [0; 256];
            for number in 0..100 {
                let len = receiver.recv(&mut buffer).unwrap();
                assert_eq!(len, 100);
                assert!(stamp::is_intact(&buffer[..len]));
                let seen = Seen::read(&buffer[..len]);
                assert_eq!((seen.sequence, seen.origin), (Some(number), Some((spec.run, 0))));
            }
        }
    }

    #[test]
    fn flows_and_threads_share_rate_and_count() {
        let receiver = receiver();
        let spec = LoadSpec {
            flows: 5,
            threads: 2,
            count: Some(1001),
            rate: Rate::Pps(50_000.0),
            ..spec(&receiver)
        };
        let report = run(&spec).unwrap();
        assert_eq!((report.intended, report.sent, report.unsent), (1001, 1001, 0));
        assert_eq!(report.issued_by_flow.iter().sum::<u64>(), 1001);
        assert_eq!(report.lateness_ns.len(), 1001, "each datagram's lateness is known");
        let mut next = [0; 5];
        let mut peers = std::collections::HashMap::new();
        let mut buffer = [0; 256];
        for _ in 0..1001 {
            let (len, peer) = receiver.recv_from(&mut buffer).unwrap();
            let seen = Seen::read(&buffer[..len]);
            let (run, flow) = seen.origin.unwrap();
            assert_eq!((run, seen.sequence), (spec.run, Some(next[usize::from(flow)])));
            assert!(seen.sent_ns >= seen.intended_ns, "never early");
            assert_eq!(*peers.entry(flow).or_insert(peer), peer, "a flow is a source port");
            next[usize::from(flow)] += 1;
        }
        assert_eq!(peers.len(), 5);
        assert_eq!(next.map(|issued: u64| issued).to_vec(), report.issued_by_flow);
    }

    #[test]
    fn counts_are_shared_as_the_rate_is() {
        let receiver = receiver();
        for (flows, threads, burst, count) in
            [(5, 2, 1, 1001), (5, 2, 10, 1001), (3, 3, 7, 1), (64, 3, 64, 5), (1, 1, 9, 100)]
        {
            let rate = Rate::Pps(1e6);
            let spec =
                LoadSpec { flows, threads, burst, count: Some(count), rate, ..spec(&receiver) };
            let shares: Vec<u64> = (0..threads)
                .map(|index| share(&spec, index, Arc::default(), Arc::default()).count.unwrap())
                .collect();
            assert_eq!(shares.iter().sum::<u64>(), count, "{shares:?}");
            for (index, share) in shares.into_iter().enumerate() {
                let of_thread = (flows - index).div_ceil(threads) as u64;
                let even = count * of_thread / flows as u64;
                let group = burst as u64;
                assert!(share.abs_diff(even) <= of_thread * group, "{spec:?}: {share}, not {even}");
            }
        }
    }

    /// As many senders would: not all at once.
    #[test]
    fn threads_draw_their_own_gaps() {
        let receiver = receiver();
        let spec = LoadSpec {
            flows: 2,
            threads: 2,
            count: Some(60),
            pattern: Pattern::Poisson,
            rate: Rate::Pps(20_000.0),
            ..spec(&receiver)
        };
        assert_eq!(run(&spec).unwrap().sent, 60);
        let mut due = [Vec::new(), Vec::new()];
        let mut buffer = [0; 256];
        for _ in 0..60 {
            let len = receiver.recv(&mut buffer).unwrap();
            let seen = Seen::read(&buffer[..len]);
            due[usize::from(seen.origin.unwrap().1)].push(seen.intended_ns.unwrap());
        }
        assert_eq!([due[0].len(), due[1].len()], [30, 30]);
        // The same gaps would make all of them the same. Two may be by chance: once in thousands of
        // runs one was.
        let same = due[0].iter().filter(|time| due[1].contains(time)).count();
        assert!(same <= 2, "{due:?}");
    }

    #[test]
    fn what_is_due_and_cannot_be_sent_is_unsent() {
        let receiver = receiver();
        let spec = LoadSpec {
            rate: Rate::Pps(1e9),
            count: None,
            duration: Some(Duration::from_millis(50)),
            ..spec(&receiver)
        };
        let report = run(&spec).unwrap();
        assert_eq!(report.intended, 50_000_000);
        assert!(report.sent > 0 && report.unsent > 0, "{report:?}");
        assert_eq!(report.intended, report.sent + report.unsent);
    }

    #[test]
    fn flat_out_nothing_is_unsent() {
        let receiver = receiver();
        let duration = Some(Duration::from_millis(20));
        for gso in [Gso::Off, Gso::Trains(32)] {
            let spec = LoadSpec { count: None, duration, gso, ..spec(&receiver) };
            let report = run(&spec).unwrap();
            assert!(report.sent > 0);
            assert_eq!((report.intended, report.unsent), (report.sent, 0), "{report:?}");
        }
    }

    /// One at 1/s takes a second, however soon its only send was.
    #[test]
    fn a_rate_is_never_found_higher_than_it_was() {
        let receiver = receiver();
        for (count, rate) in [(1, 1.0), (20, 1000.0), (100, 1e5)] {
            let spec = LoadSpec { count: Some(count), rate: Rate::Pps(rate), ..spec(&receiver) };
            let report = run(&spec).unwrap();
            assert!(report.rate_pps() <= rate * 1.000_001, "{rate}: {}", report.rate_pps());
        }
    }

    #[test]
    fn a_closed_port_is_said() {
        let closed = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        for count in [1, 1000] {
            let spec =
                LoadSpec { count: Some(count), needs_receiver: true, ..LoadSpec::new(closed) };
            let error = run(&spec).unwrap_err();
            assert!(matches!(error, LoadError::Refused { .. }), "{error}");
        }
    }
}
