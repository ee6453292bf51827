//! Echoes: the datagrams that an echo server sends back, their order and their round-trip times.

use std::io;

use hdrhistogram::Histogram;

use crate::receive::tracker::{Taken, Tracker, TrackerSpec};
use crate::report::{EchoReport, histogram};
use ringest_base::sys::clock;
use ringest_engine::backend::enter::Wait;
use ringest_engine::backend::rx::{Arm, Outcome, Rx};

/// How long the next echo is still waited for after the last one, at the end, ns.
pub(crate) const ECHO_SILENCE_NS: u64 = 500_000_000;
/// Below this a wait polls instead of sleeping: a sleep is not that exact. Too low and wake-ups come late, which the
/// lateness shows; too high only burns the sender's own core.
const SPIN_NS: u64 = 100_000;

/// An errno that a socket reported, and its listener.
pub(crate) type SocketError = Option<(i32, usize)>;

/// The receiving side of a sending thread on backend `B`: [`Echoes`], or [`NoEchoes`] where none are expected.
pub(crate) trait Echo<B> {
    /// Starts to receive on every socket.
    ///
    /// # Errors
    /// The backend is unusable.
    fn arm(&mut self, backend: &mut B) -> io::Result<()>;

    /// Takes the echoes that are there; with `lingering`, waits a little for them. Returns an error that a socket
    /// reported.
    ///
    /// # Errors
    /// The backend is unusable.
    fn take(&mut self, backend: &mut B, lingering: bool) -> io::Result<SocketError>;

    /// Waits for the deadline (`CLOCK_MONOTONIC`, ns) or the next echo. Returns `false` at once if no echo is expected.
    ///
    /// # Errors
    /// The backend is unusable.
    fn wait(&mut self, backend: &mut B, deadline_ns: u64) -> io::Result<bool>;

    /// Returns how many datagrams of this run have come back, each counted once; those too short for a number each
    /// time. `None`: no echo is expected.
    fn received(&self) -> Option<u64>;

    /// Returns the final accounts, once `issued` numbers of each flow of this thread were sent; `failed` of them never
    /// left. `None`: no echo was expected.
    fn report(&self, issued: &[u64], failed: u64) -> Option<EchoReport>;
}

/// The receiving side of a load that expects no echoes.
#[derive(Debug)]
pub(crate) struct NoEchoes;

impl<B> Echo<B> for NoEchoes {
    fn arm(&mut self, _: &mut B) -> io::Result<()> {
        Ok(())
    }

    fn take(&mut self, _: &mut B, _: bool) -> io::Result<SocketError> {
        Ok(None)
    }

    fn wait(&mut self, _: &mut B, _: u64) -> io::Result<bool> {
        Ok(false)
    }

    fn received(&self) -> Option<u64> {
        None
    }

    fn report(&self, _: &[u64], _: u64) -> Option<EchoReport> {
        None
    }
}

/// Echoes of one sending thread. Flow `i` of the thread comes back at listener `i`.
#[derive(Debug)]
pub(crate) struct Echoes {
    tracker: Tracker,
    /// The number in the whole load of each of this thread's flows.
    flows: Vec<usize>,
    from_intended_ns: Histogram<u64>,
    from_actual_ns: Histogram<u64>,
}

impl Echoes {
    /// Expects echoes of the given flows of a load that has `total` of them.
    pub(crate) fn new(run: u32, flows: &[usize], total: usize) -> Self {
        Self {
            tracker: Tracker::new(&TrackerSpec::new(run, total)),
            flows: flows.to_vec(),
            from_intended_ns: histogram(),
            from_actual_ns: histogram(),
        }
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
}

impl<B: Rx> Echo<B> for Echoes {
    fn arm(&mut self, backend: &mut B) -> io::Result<()> {
        (0..backend.listeners()).try_for_each(|listener| backend.arm(listener, Arm::Listen))
    }

    fn take(&mut self, backend: &mut B, lingering: bool) -> io::Result<SocketError> {
        backend.enter(if lingering {
            Wait::Sleep { gather_us: 0, timeout_ns: 10_000_000, frames: true }
        } else {
            Wait::Poll
        })?;
        let now_ns = clock::monotonic_ns();
        let mut reported = None;
        while let Some(completion) = backend.peek() {
            let (listener, more) = (completion.listener, completion.more);
            match completion.outcome {
                Outcome::Frame(frame) => self.note(frame.payload, listener, now_ns),
                Outcome::Failed(errno @ (libc::ECONNREFUSED | libc::EHOSTUNREACH)) => {
                    reported = Some((errno, listener));
                }
                // Out of slots, interrupted or ended: armed again below.
                Outcome::Failed(_) => {}
            }
            backend.release();
            if !more {
                backend.arm(listener, Arm::Listen)?;
            }
        }
        Ok(reported)
    }

    fn wait(&mut self, backend: &mut B, deadline_ns: u64) -> io::Result<bool> {
        let left_ns = deadline_ns.saturating_sub(clock::monotonic_ns());
        // epoll's timeouts are whole milliseconds, rounded up: a shorter sleep than that must be spun.
        let margin_ns = if backend.can_gather() { SPIN_NS } else { 2_000_000 };
        let wait = if left_ns > margin_ns {
            Wait::Sleep { gather_us: 0, timeout_ns: left_ns - margin_ns / 2, frames: true }
        } else {
            Wait::Poll
        };
        backend.enter(wait)?;
        Ok(true)
    }

    fn received(&self) -> Option<u64> {
        let tally = self.tracker.tally();
        Some(tally.distinct + tally.unstamped)
    }

    fn report(&self, issued: &[u64], failed: u64) -> Option<EchoReport> {
        let last = self.flows.iter().max().map_or(0, |last| last + 1);
        let mut by_flow = vec![0; last];
        for (&flow, &issued) in self.flows.iter().zip(issued) {
            by_flow[flow] = issued;
        }
        let settled = self.tracker.settle(&by_flow);
        let tally = self.tracker.tally();
        Some(EchoReport {
            received: tally.distinct + tally.unstamped,
            lost: settled.lost.saturating_sub(failed),
            reordered: tally.reordered,
            duplicates: tally.duplicates,
            foreign: tally.foreign + tally.other_run,
            from_intended_ns: self.from_intended_ns.clone(),
            from_actual_ns: self.from_actual_ns.clone(),
        })
    }
}
