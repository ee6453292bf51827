//! One trial: start a receiver, load it, and find out what each datagram cost and where it went.
//!
//! ```text
//!  start ─► warm-up ─► settle ─► MARK ─► load ─► backlog empty ─► stop (reads all) ─► END ─► ledger
//!                                  └──────────── the window ─────────────────────────┘
//! ```
//! The same window for peers and engines: it begins with an idle receiver and an empty socket and
//! ends when the receiving thread does, so every datagram and every nanosecond of it is inside, and
//! what set-up and warm-up cost is not.

pub(crate) mod case;
pub(crate) mod engine;
pub(crate) mod host;
pub(crate) mod results;
pub(crate) mod sender;

use std::net::SocketAddr;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::peers::{Peer, THREAD_NAME};
use case::{Case, Load, Row, Subject};
use engine::RunningEngine;
use host::{Cores, ThreadClock};
use sender::{Order, Sender};

/// Why a run cannot go on.
pub(crate) type Failure = Box<dyn std::error::Error>;

/// What every receiver asks for: the engine's default.
pub(crate) const RCVBUF_BYTES: usize = 4 << 20;

/// How long the parts of a trial take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Windows {
    pub(crate) warm_ms: u64,
    pub(crate) load_ms: u64,
    /// Where little happens, it takes longer to see.
    pub(crate) quiet_ms: u64,
}

impl Windows {
    pub(crate) const FULL: Self = Self { warm_ms: 200, load_ms: 1000, quiet_ms: 2000 };
    pub(crate) const QUICK: Self = Self { warm_ms: 50, load_ms: 200, quiet_ms: 400 };
    pub(crate) const SMOKE: Self = Self { warm_ms: 5, load_ms: 10, quiet_ms: 10 };

    fn load(&self, row: Row) -> u64 {
        if matches!(row, Row::Paced100 | Row::Idle) { self.quiet_ms } else { self.load_ms }
    }
}

/// What a trial found; `None` where there is nothing to say.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Trial {
    /// CPU time of the receiving thread per datagram, ns.
    pub(crate) receiver_ns: Option<f64>,
    pub(crate) worker_ns: Option<f64>,
    pub(crate) received_pps: Option<f64>,
    /// Share of what was sent, per cent.
    pub(crate) lost_percent: Option<f64>,
    /// From the sender's stamp to the handler, µs.
    pub(crate) p50_us: Option<f64>,
    pub(crate) p99_us: Option<f64>,
    /// CPU time of all threads of an idle engine, per cent of one core.
    pub(crate) idle_percent: Option<f64>,
}

/// The state of a receiver where the window begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    pub(crate) received: u64,
    pub(crate) receiver_cpu_ns: u64,
    pub(crate) worker_cpu_ns: u64,
}

/// The accounts of a receiver that has ended.
#[derive(Debug)]
pub(crate) struct Ending {
    pub(crate) received: u64,
    pub(crate) receiver_cpu_ns: u64,
    /// `None` where no worker ran.
    pub(crate) worker_cpu_ns: Option<u64>,
    /// Received, or known to be lost where.
    pub(crate) accounted: u64,
    /// Whether that must be all that was sent. Not where the kernel's drops are counted in trains.
    pub(crate) exact: bool,
    pub(crate) latency_ns: Option<Histogram<u64>>,
}

/// A peer or an engine, running.
enum Running {
    Peer(Peer, ThreadClock),
    Engine(Box<RunningEngine>),
}

impl Running {
    fn start(case: &Case, cores: Cores) -> Result<Self, Failure> {
        match case.subject {
            Subject::Peer(spec) => {
                let peer = Peer::start(spec, cores.receiver)?;
                Ok(Self::Peer(peer, ThreadClock::of(THREAD_NAME)?))
            }
            Subject::Engine(spec) => {
                Ok(Self::Engine(Box::new(RunningEngine::start(spec, case.row, cores)?)))
            }
        }
    }

    fn address(&self) -> SocketAddr {
        match self {
            Self::Peer(peer, _) => peer.address(),
            Self::Engine(engine) => engine.address(),
        }
    }

    fn received(&self) -> u64 {
        match self {
            Self::Peer(peer, _) => peer.received(),
            Self::Engine(engine) => engine.received(),
        }
    }

    /// Waits until what was sent has been received or dropped: the count stands still. From outside
    /// there is no event that says so; bounded, and an error here only blurs the mark.
    fn settle(&self) {
        host::await_empty_backlog();
        let mut before = self.received();
        for _ in 0..200 {
            std::thread::sleep(Duration::from_millis(3));
            let now = self.received();
            if now == before {
                return;
            }
            before = now;
        }
    }

    fn mark(&self) -> Result<Mark, Failure> {
        match self {
            Self::Peer(peer, clock) => Ok(Mark {
                received: peer.received(),
                receiver_cpu_ns: clock.ns()?,
                worker_cpu_ns: 0,
            }),
            Self::Engine(engine) => engine.mark(),
        }
    }

    fn finish(self, gro: bool) -> Result<Ending, Failure> {
        match self {
            Self::Peer(peer, _) => {
                let (tally, kernel_buffers) = peer.stop()?;
                if tally.bytes == 0 && tally.datagrams > 0 {
                    return Err("a peer counted datagrams without bytes".into());
                }
                Ok(Ending {
                    received: tally.datagrams,
                    receiver_cpu_ns: tally.cpu_ns,
                    worker_cpu_ns: None,
                    accounted: tally.datagrams + kernel_buffers,
                    exact: !gro || kernel_buffers == 0,
                    latency_ns: None,
                })
            }
            Self::Engine(engine) => engine.finish(),
        }
    }
}

/// Runs one trial of `case`.
pub(crate) fn measure(
    case: &Case,
    windows: Windows,
    cores: Cores,
    sender: &mut Sender,
) -> Result<Trial, Failure> {
    let backlog_before = host::backlog_drops();
    let running = Running::start(case, cores)?;
    let Some(load) = case.row.load() else { return idle(running, windows) };
    let threads = if case.row.is_flat_out() { cores.senders } else { 1 };
    let Load { size, train, rate_pps } = load;
    let target = running.address();
    let order = |for_ms| Order { target, size, train, rate_pps, for_ms, threads };
    let warm = sender.send(&order(windows.warm_ms))?;
    running.settle();
    let mark = running.mark()?;
    let report = sender.send(&order(windows.load(case.row)))?;
    host::await_empty_backlog();
    let ending = running.finish(case.gro())?;
    let backlog_lost = host::backlog_drops() - backlog_before;
    balance(&ending, warm.sent + report.sent, backlog_lost)?;
    if report.unsent > report.sent / 20 && load.rate_pps.is_some() {
        eprintln!("note: {case}: the sender fell behind, {} of its datagrams", report.unsent);
    }
    Ok(figures(&mark, &ending, &report))
}

/// Every datagram sent is accounted for, but for what the kernel's backlog refused before any
/// socket of ours saw it.
fn balance(ending: &Ending, sent: u64, backlog_lost: u64) -> Result<(), Failure> {
    if ending.received > sent || (ending.exact && ending.accounted > sent) {
        return Err(format!("sent {sent}, but more is accounted for: {ending:?}").into());
    }
    let missing = sent.saturating_sub(ending.accounted);
    if ending.exact && missing > backlog_lost {
        return Err(format!("sent {sent}, and {missing} of them are nowhere: {ending:?}").into());
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "averages need no 53 bits")]
fn figures(mark: &Mark, ending: &Ending, report: &sender::Report) -> Trial {
    let received = ending.received.saturating_sub(mark.received);
    let each = |cpu_ns: u64, before_ns: u64| {
        (received > 0).then(|| cpu_ns.saturating_sub(before_ns) as f64 / received as f64)
    };
    let percentile = |percent: f64| {
        let latency = ending.latency_ns.as_ref().filter(|latency| !latency.is_empty())?;
        Some(latency.value_at_percentile(percent) as f64 / 1e3)
    };
    Trial {
        receiver_ns: each(ending.receiver_cpu_ns, mark.receiver_cpu_ns),
        worker_ns: ending.worker_cpu_ns.and_then(|cpu_ns| each(cpu_ns, mark.worker_cpu_ns)),
        received_pps: Some(received as f64 * 1e9 / report.elapsed_ns.max(1) as f64),
        lost_percent: Some(
            100.0 * report.sent.saturating_sub(received) as f64 / report.sent.max(1) as f64,
        ),
        p50_us: percentile(50.0),
        p99_us: percentile(99.0),
        idle_percent: None,
    }
}

/// No traffic: what the engine's threads use all the same. The window is time itself.
#[expect(clippy::cast_precision_loss, reason = "a percentage needs no 53 bits")]
fn idle(running: Running, windows: Windows) -> Result<Trial, Failure> {
    running.settle();
    let before = running.mark()?;
    let from = std::time::Instant::now();
    std::thread::sleep(Duration::from_millis(windows.load(Row::Idle)));
    let (after, elapsed) = (running.mark()?, from.elapsed());
    running.finish(true)?;
    let used_ns = |mark: &Mark| mark.receiver_cpu_ns + mark.worker_cpu_ns;
    let percent = (used_ns(&after) - used_ns(&before)) as f64 / elapsed.as_nanos() as f64 * 100.0;
    Ok(Trial { idle_percent: Some(percent), ..Trial::default() })
}
