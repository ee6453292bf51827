//! The engine as a subject: public surface only, defaults wherever the case does not say otherwise.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use hdrhistogram::Histogram;
use ringest::datapath::clock;
use ringest::load::stamp::Stamp;
use ringest::{ArrivalsChoice, BackendChoice, Batch, Engine, Handler, Replies, Summary, Unit};

use super::case::Row;
use super::host::{Cores, ThreadClock};
use super::{Ending, Failure, Mark, RCVBUF_BYTES};

/// Names the engine gives its first threads.
const RECEIVER_THREAD: &str = "ringest-recv-0";
const WORKER_THREAD: &str = "ringest-work-0";

/// One way to run the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EngineSpec {
    pub(crate) backend: BackendChoice,
    /// The handler runs on the receiver, no worker.
    pub(crate) inline: bool,
    /// `--coalesce auto`, else 0.
    pub(crate) coalesces: bool,
    /// `--arrivals auto`, else off.
    pub(crate) arrivals: bool,
}

/// What the handler saw.
#[derive(Debug)]
struct Handled {
    datagrams: u64,
    bytes: u64,
    latency_ns: Histogram<u64>,
}

/// Reads each payload's stamp and counts: about the least a handler can do with a datagram.
struct Count {
    handled: Handled,
    /// All numbers seen, folded; nobody asks, but the stamps must have been read.
    numbers: u64,
    /// Whether latencies are wanted now.
    timing: Arc<AtomicBool>,
    result: mpsc::Sender<Handled>,
}

impl Handler for Count {
    fn handle(&mut self, batch: &Batch, _: &mut Replies) {
        if self.timing.load(Ordering::Relaxed) {
            let now_ns = clock::monotonic_ns();
            let sent_at = batch.iter().filter_map(|d| Stamp::read(d.payload()).sent_at_ns);
            for sent_at_ns in sent_at {
                self.handled.latency_ns.saturating_record(now_ns.saturating_sub(sent_at_ns));
            }
        }
        for datagram in batch {
            self.handled.datagrams += 1;
            self.handled.bytes += datagram.payload().len() as u64;
            self.numbers ^= Stamp::read(datagram.payload()).number.unwrap_or(0);
        }
    }

    fn finish(&mut self) {
        std::hint::black_box(self.numbers);
        let empty = Handled { datagrams: 0, bytes: 0, latency_ns: blank() };
        // The trial may have given up; then nobody wants it.
        let _ = self.result.send(std::mem::replace(&mut self.handled, empty));
    }
}

/// Three digits from 1 ns to a minute, allocated at once.
fn blank() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).unwrap_or_else(|_| unreachable!("1 < 2 x 1"))
}

/// An engine under measurement.
pub(crate) struct RunningEngine {
    engine: Engine,
    receiver: ThreadClock,
    /// What the receiver had used when it stood; the summary does not count it.
    set_up_ns: u64,
    worker: Option<ThreadClock>,
    /// Whether this row asks for latencies, and the handler's switch for them.
    timed: bool,
    timing: Arc<AtomicBool>,
    handled: mpsc::Receiver<Handled>,
}

impl RunningEngine {
    pub(crate) fn start(spec: EngineSpec, row: Row, cores: Cores) -> Result<Self, Failure> {
        let (result, handled) = mpsc::channel();
        let timing = Arc::new(AtomicBool::new(false));
        let make = |_| Count {
            handled: Handled { datagrams: 0, bytes: 0, latency_ns: blank() },
            numbers: 0,
            timing: Arc::clone(&timing),
            result: result.clone(),
        };
        let mut builder = Engine::builder()
            .listen(SocketAddr::from(([127, 0, 0, 1], 0)))
            .receivers(1)
            .workers(usize::from(!spec.inline))
            .cores(vec![cores.receiver, cores.worker(!row.is_flat_out())])
            .backend(spec.backend)
            .gro(row.engine_gro())
            .rcvbuf_bytes(RCVBUF_BYTES);
        if !spec.coalesces {
            builder = builder.coalesce(Duration::ZERO);
        }
        if !spec.arrivals {
            builder = builder.arrivals(ArrivalsChoice::Off);
        }
        let engine = builder.start(make)?;
        let worker = if spec.inline { None } else { Some(ThreadClock::of(WORKER_THREAD)?) };
        let receiver = ThreadClock::of(RECEIVER_THREAD)?;
        let set_up_ns = receiver.ns()?;
        let timed = !row.is_flat_out();
        Ok(Self { engine, set_up_ns, receiver, worker, timed, timing, handled })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.engine.addresses()[0]
    }

    pub(crate) fn received(&self) -> u64 {
        self.engine.stats().ledger.received
    }

    pub(crate) fn mark(&self) -> Result<Mark, Failure> {
        self.timing.store(self.timed, Ordering::Relaxed);
        Ok(Mark {
            received: self.received(),
            receiver_cpu_ns: self.receiver.ns()?.saturating_sub(self.set_up_ns),
            worker_cpu_ns: self.worker.map_or(Ok(0), ThreadClock::ns)?,
        })
    }

    /// Stops the engine and checks its own accounts. The CPU times are those behind
    /// [`Summary::receiver_ns_per_datagram`], from when the engine stood; the caller takes off what was
    /// used before the mark.
    pub(crate) fn finish(self) -> Result<Ending, Failure> {
        let summary = self.engine.stop()?;
        let handled = self.handled.try_recv()?;
        check(&summary, &handled)?;
        let ledger = &summary.ledger;
        let worker_cpu_ns = summary.workers.iter().map(|worker| worker.cpu_ns).sum();
        Ok(Ending {
            received: ledger.received,
            receiver_cpu_ns: summary.receivers.iter().map(|receiver| receiver.cpu_ns).sum(),
            worker_cpu_ns: self.worker.map(|_| worker_cpu_ns),
            accounted: ledger.received + ledger.dropped.kernel + ledger.unread_at_stop,
            exact: ledger.kernel_unit == Unit::Datagrams || ledger.dropped.kernel == 0,
            latency_ns: self.timed.then_some(handled.latency_ns),
        })
    }
}

fn check(summary: &Summary, handled: &Handled) -> Result<(), Failure> {
    let ledger = &summary.ledger;
    let seen = (handled.datagrams, handled.bytes);
    if ledger.residual != 0 || seen != (ledger.received, ledger.received_bytes) {
        return Err(format!("the ledger is off; the handler saw {seen:?}: {ledger:?}").into());
    }
    Ok(())
}
