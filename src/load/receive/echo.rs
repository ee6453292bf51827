//! What comes back from an echo server: which datagrams, in which order, after how long.

use std::io;

use hdrhistogram::Histogram;

use crate::receive::tracker::{Taken, Tracker, TrackerSpec};
use crate::report::{EchoReport, histogram};
use ringest_base::sys::clock;
use ringest_engine::backend::interface::{Arm, Backend, Outcome, Wait};

/// The receiving side of one sending thread. Flow `i` of the thread comes back at listener `i`.
#[derive(Debug)]
pub(crate) struct Echoes {
    tracker: Tracker,
    /// The number in the whole load of each of this thread's flows.
    flows: Vec<usize>,
    from_intended_ns: Histogram<u64>,
    from_actual_ns: Histogram<u64>,
}

/// An errno that a socket reported, and its listener.
pub(crate) type Told = Option<(i32, usize)>;

impl Echoes {
    /// How long after the last one the next is still waited for at the end.
    pub(crate) const PATIENCE_NS: u64 = 500_000_000;

    /// For the given flows of a load that has `total` of them.
    pub(crate) fn new(run: u32, flows: &[usize], total: usize) -> Self {
        Self {
            tracker: Tracker::new(&TrackerSpec::new(run, total)),
            flows: flows.to_vec(),
            from_intended_ns: histogram(),
            from_actual_ns: histogram(),
        }
    }

    /// Starts to receive on every socket.
    ///
    /// # Errors
    /// The backend is unusable.
    pub(crate) fn arm<B: Backend>(backend: &mut B) -> io::Result<()> {
        (0..backend.listeners()).try_for_each(|listener| backend.arm(listener, Arm::Listen))
    }

    /// Datagrams of this run that have come back so far, each counted once; those too short for a
    /// number each time.
    pub(crate) fn received(&self) -> u64 {
        let tally = self.tracker.tally();
        tally.distinct + tally.unstamped
    }

    /// Takes what is there; with `lingering`, waits a little for it. Returns an error that a socket
    /// reported, for whoever knows what it means.
    ///
    /// # Errors
    /// The backend is unusable.
    pub(crate) fn take<B: Backend>(
        &mut self,
        backend: &mut B,
        lingering: bool,
    ) -> io::Result<Told> {
        backend.enter(if lingering {
            Wait::Sleep { gather_us: 0, timeout_ns: 10_000_000, frames: true }
        } else {
            Wait::Poll
        })?;
        let now_ns = clock::monotonic_ns();
        let mut told = None;
        while let Some(completion) = backend.peek() {
            let (listener, more) = (completion.listener, completion.more);
            match completion.outcome {
                Outcome::Frame(frame) => self.note(frame.payload, listener, now_ns),
                Outcome::Failed(errno @ (libc::ECONNREFUSED | libc::EHOSTUNREACH)) => {
                    told = Some((errno, listener));
                }
                // Out of slots, interrupted, ended: armed again below.
                Outcome::Failed(_) => {}
            }
            backend.release();
            if !more {
                backend.arm(listener, Arm::Listen)?;
            }
        }
        Ok(told)
    }

    fn note(&mut self, payload: &[u8], listener: usize, now_ns: u64) {
        let flow = self.flows.get(listener).copied();
        if let Taken::Ours { seen, .. } = self.tracker.take(payload, now_ns, flow) {
            if let Some(intended_ns) = seen.intended_ns {
                self.from_intended_ns.saturating_record(now_ns.saturating_sub(intended_ns));
            }
            if let Some(sent_ns) = seen.sent_ns {
                self.from_actual_ns.saturating_record(now_ns.saturating_sub(sent_ns));
            }
        }
    }

    /// The accounts, once `issued` numbers of each flow of this thread have been sent; `failed` of them
    /// never left.
    pub(crate) fn report(self, issued: &[u64], failed: u64) -> EchoReport {
        let last = self.flows.iter().max().map_or(0, |last| last + 1);
        let mut by_flow = vec![0; last];
        for (&flow, &issued) in self.flows.iter().zip(issued) {
            by_flow[flow] = issued;
        }
        let settled = self.tracker.settle(&by_flow);
        let tally = self.tracker.tally();
        EchoReport {
            received: tally.distinct + tally.unstamped,
            lost: settled.lost.saturating_sub(failed),
            reordered: tally.reordered,
            duplicates: tally.duplicates,
            foreign: tally.foreign + tally.other_run,
            from_intended_ns: self.from_intended_ns,
            from_actual_ns: self.from_actual_ns,
        }
    }
}
