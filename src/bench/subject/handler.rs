//! The handler of the engine under test: accounts for the datagrams of the run, or only counts them.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use hdrhistogram::Histogram;

use crate::document::report::StageRecord;
use crate::document::trial::PercentilesRecord;
use crate::wire::message::ReceiverSpec;
use ringest_base::sys::clock;
use ringest_engine::batch::arena::Batch;
use ringest_engine::send::reply::Replies;
use ringest_engine::work::handler::Handler;
use ringest_engine::work::remains::Remains;
use ringest_load::account::RunAccount;
use ringest_load::receive::tracker::{Taken, Tracker, TrackerSpec};
use ringest_load::report::{histogram, percentiles};
use ringest_load::stamp::Seen;

/// The results of one handler, which it leaves at the stop.
#[derive(Debug)]
pub(crate) struct Findings {
    pub(crate) datagrams: u64,
    pub(crate) bytes: u64,
    /// `None` if datagrams are only counted.
    pub(crate) account: Option<RunAccount>,
    pub(crate) stages: Option<Stages>,
}

/// Latency by stage, ns.
#[derive(Clone, Debug)]
pub(crate) struct Stages {
    /// From sending to the kernel's receive time; empty unless both hosts share a clock.
    wire: Histogram<u64>,
    /// From the kernel's to the engine's receive time.
    socket: Histogram<u64>,
    /// From the engine's receive time to the handler.
    queue: Histogram<u64>,
    /// In the handler, for the whole batch.
    handler: Histogram<u64>,
    /// From the intended time to the end of the handler; empty unless both hosts share a clock.
    one_way: Histogram<u64>,
}

impl Stages {
    pub(crate) fn new() -> Self {
        let [wire, socket, queue, handler, one_way] = std::array::from_fn(|_| histogram());
        Self { wire, socket, queue, handler, one_way }
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (mine, theirs) in [
            (&mut self.wire, &other.wire),
            (&mut self.socket, &other.socket),
            (&mut self.queue, &other.queue),
            (&mut self.handler, &other.handler),
            (&mut self.one_way, &other.one_way),
        ] {
            // Both have the same bounds, so this cannot fail.
            let _ = mine.add(theirs);
        }
    }

    /// Returns the stages in the order of a datagram's way, without empty ones.
    pub(crate) fn records(&self) -> Vec<StageRecord> {
        [
            ("wire", &self.wire),
            ("socket", &self.socket),
            ("queue", &self.queue),
            ("handler", &self.handler),
            ("one_way", &self.one_way),
        ]
        .into_iter()
        .filter_map(|(name, histogram)| stage(name, histogram))
        .collect()
    }
}

/// Returns the record of a histogram, or `None` if it is empty.
pub(crate) fn stage(name: &str, histogram: &Histogram<u64>) -> Option<StageRecord> {
    if histogram.is_empty() {
        return None;
    }
    let curve = histogram
        .iter_quantiles(2)
        .map(|step| (step.quantile() * 100.0, step.value_iterated_to().min(histogram.max())))
        .collect();
    Some(StageRecord { name: name.to_owned(), percentiles: percentiles_record(histogram), curve })
}

/// Returns the percentiles of a histogram.
pub(crate) fn percentiles_record(histogram: &Histogram<u64>) -> PercentilesRecord {
    let found = percentiles(histogram);
    PercentilesRecord {
        count: histogram.len(),
        p50: found.p50,
        p90: found.p90,
        p99: found.p99,
        p999: found.p999,
        max: found.max,
    }
}

/// A gate that holds handlers back until it is opened.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    closed: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    pub(crate) fn new(closed: bool) -> Self {
        Self { closed: Mutex::new(closed), opened: Condvar::new() }
    }

    fn closed(&self) -> MutexGuard<'_, bool> {
        self.closed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn close(&self) {
        *self.closed() = true;
    }

    pub(crate) fn open(&self) {
        *self.closed() = false;
        self.opened.notify_all();
    }

    fn pass(&self) {
        let waited = self.opened.wait_while(self.closed(), |closed| *closed);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }
}

/// One worker's handler.
pub(crate) struct TrialHandler {
    tracker: Option<Tracker>,
    stages: Option<Stages>,
    clocks_shared: bool,
    echoes: bool,
    gate: Option<Arc<Gate>>,
    datagrams: u64,
    bytes: u64,
    /// The timed datagrams of the current batch.
    marks: Vec<Mark>,
}

/// The times of a datagram that its stages are computed from.
struct Mark {
    seen: Seen,
    received_ns: u64,
    kernel_unix_ns: Option<u64>,
}

impl TrialHandler {
    pub(crate) fn new(spec: &ReceiverSpec, clocks_shared: bool, gate: Option<Arc<Gate>>) -> Self {
        let tracker = || Tracker::new(&TrackerSpec::new(spec.run, spec.flows));
        Self {
            tracker: spec.tracks.then(tracker),
            stages: spec.stages.then(Stages::new),
            clocks_shared,
            echoes: spec.echoes,
            gate,
            datagrams: 0,
            bytes: 0,
            marks: Vec::with_capacity(if spec.stages { 16_384 } else { 0 }),
        }
    }

    /// Records the stages of the timed datagrams.
    fn time(&mut self, began_ns: u64) {
        let Some(stages) = &mut self.stages else { return };
        // The wall clock may have stepped since the last batch; within one it is assumed steady.
        let unix_offset_ns = clock::unix_offset_ns();
        let ended_ns = clock::monotonic_ns();
        for mark in self.marks.drain(..) {
            let sent_ns = mark.seen.sent_ns.filter(|_| self.clocks_shared);
            if let Some(kernel_unix_ns) = mark.kernel_unix_ns {
                let kernel_ns = kernel_unix_ns.saturating_sub(unix_offset_ns);
                stages.socket.saturating_record(mark.received_ns.saturating_sub(kernel_ns));
                if let Some(sent_ns) = sent_ns {
                    stages.wire.saturating_record(kernel_ns.saturating_sub(sent_ns));
                }
            }
            stages.queue.saturating_record(began_ns.saturating_sub(mark.received_ns));
            stages.handler.saturating_record(ended_ns.saturating_sub(began_ns));
            if let Some(intended_ns) = mark.seen.intended_ns.filter(|_| self.clocks_shared) {
                stages.one_way.saturating_record(ended_ns.saturating_sub(intended_ns));
            }
        }
    }
}

impl Handler for TrialHandler {
    fn handle(&mut self, batch: &Batch, replies: &mut Replies) {
        if let Some(gate) = &self.gate {
            gate.pass();
        }
        let timed = self.stages.is_some();
        let began_ns = if timed { clock::monotonic_ns() } else { 0 };
        for datagram in batch {
            self.datagrams += 1;
            self.bytes += datagram.payload().len() as u64;
            if let Some(tracker) = &mut self.tracker {
                let taken = tracker.take(datagram.payload(), datagram.received_at_ns(), None);
                if let Taken::Ours { seen, .. } = taken
                    && timed
                {
                    let received_ns = datagram.received_at_ns();
                    let kernel_unix_ns = datagram.kernel_unix_ns();
                    self.marks.push(Mark { seen, received_ns, kernel_unix_ns });
                }
            }
            if self.echoes {
                replies.send(&datagram, datagram.payload());
            }
        }
        if timed {
            self.time(began_ns);
        }
    }

    fn into_remains(self) -> Remains {
        Remains::new(Findings {
            datagrams: self.datagrams,
            bytes: self.bytes,
            account: self.tracker.as_ref().map(Tracker::account),
            stages: self.stages,
        })
    }
}
