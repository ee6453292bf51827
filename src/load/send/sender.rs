//! One sending thread. Datagrams that are due are staged into a round, the round leaves through the engine's own send
//! path, and each send is counted.
//!
//! ```text
//!  due? ─► stage: frames of one flow each ─► transmit ─► settle: sent, dropped, again
//!   └─ no: sleep to the next deadline (or take echoes)        └─ full: wait for room, then the rest
//! ```
//!
//! A flow's datagrams leave in order. Sends of one submission are independent of each other, so one that
//! found the send buffer full could be overtaken by the next; chained (IORING_SQE_LINK) they are not, but
//! cost half as much again. So a round is chained only where it must be (see `order`).

use std::io;
use std::sync::atomic::Ordering;

use crate::receive::echo::{ECHO_SILENCE_NS, Echo};
use crate::report::{LoadError, LoadReport};
use crate::send::round::Round;
use crate::send::share::Share;
use crate::send::source::Source;
use crate::send::wait;
use crate::spec::LoadSpec;
use ringest_base::sys::clock;
use ringest_engine::backend::enter::Wait;
use ringest_engine::backend::kind::BackendKind;
use ringest_engine::backend::outgoing::SENDS_MAX;
use ringest_engine::backend::sockets::Sockets;
use ringest_engine::backend::tx::{SendOrder, Sent, Tx};
use ringest_engine::socket::connected::Connected;

/// After a send that had to be tried again, this many rounds are chained whatever room there is.
const CAUTION_ROUNDS: u32 = 1000;
/// How long after the end a datagram that was due before it may still leave, ns. The last deadline is often a few
/// microseconds before the end, and without this every run would lose its last datagram to the wake-up. Too high and a
/// sender that cannot keep its rate would hide that; at 1 ms it can hide a thousandth of a second's load.
const GRACE_NS: u64 = 1_000_000;
/// The longest sleep before `stop` is read again, ns.
const WAIT_MAX_NS: u64 = 50_000_000;
/// The shortest pause that is used to look for errors, ns.
const LOOK_NS: u64 = 200_000;
/// Sockets asked for errors in one pause.
const LOOKS: usize = 16;

/// A sending thread at work.
pub(crate) struct Sender<'a, B, E> {
    pub(crate) spec: &'a LoadSpec,
    pub(crate) share: Share,
    pub(crate) backend: B,
    pub(crate) source: Source,
    pub(crate) round: Round,
    pub(crate) results: Vec<Sent>,
    /// Datagrams have no due time, so none is late.
    pub(crate) flat_out: bool,
    pub(crate) start_ns: u64,
    /// When the last transmission began and ended, ns.
    pub(crate) sent_between_ns: (u64, u64),
    /// Rounds that are still to be chained.
    pub(crate) caution: u32,
    /// ICMP errors since the last datagram that was sent.
    pub(crate) errors_in_a_row: usize,
    /// The socket that is asked for errors next.
    look: usize,
    pub(crate) report: LoadReport,
    echoes: E,
}

impl<'a, B: Tx + Sockets<Socket = Connected>, E: Echo<B>> Sender<'a, B, E> {
    pub(crate) fn new(
        spec: &'a LoadSpec,
        share: Share,
        (backend, kind): (B, BackendKind),
        echoes: E,
    ) -> Result<Self, LoadError> {
        Ok(Self {
            source: Source::new(spec, &share)?,
            backend,
            round: Round::new(spec.frame_bytes(), spec.train(), share.flows.len()),
            results: Vec::with_capacity(SENDS_MAX),
            flat_out: spec.is_flat_out(),
            start_ns: 0,
            sent_between_ns: (0, 0),
            caution: 0,
            errors_in_a_row: 0,
            look: 0,
            report: LoadReport::empty(spec.flows, kind.send_name()),
            echoes,
            spec,
            share,
        })
    }

    /// Sends from `start_ns` on, until the source, the duration or stop ends it.
    pub(crate) fn run(mut self, start_ns: u64) -> Result<LoadReport, LoadError> {
        self.start_ns = start_ns;
        let length = self.spec.duration.map(|d| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX));
        let end_ns = length.map_or(u64::MAX, |length| start_ns.saturating_add(length));
        self.source.start(start_ns, end_ns);
        self.echoes.arm(&mut self.backend).map_err(backend_failed("arm"))?;
        while !self.share.stop.load(Ordering::Relaxed) && !self.is_complete() {
            let now_ns = clock::monotonic_ns();
            if now_ns >= end_ns.saturating_add(GRACE_NS) {
                break;
            }
            let fresh = self.round.is_settled();
            if fresh {
                self.source.stage(now_ns, &mut self.round)?;
            }
            if self.round.is_settled() {
                if now_ns >= end_ns {
                    break;
                }
                let until_ns = self.source.next_ns().min(end_ns).min(now_ns + WAIT_MAX_NS);
                self.idle(now_ns, until_ns)?;
            } else {
                // A round that was staged just now was stamped with this time.
                let began_ns = if fresh { now_ns } else { clock::monotonic_ns() };
                self.send(began_ns)?;
            }
            self.take_echoes(false)?;
        }
        let ended_ns = clock::monotonic_ns().min(end_ns).saturating_sub(start_ns);
        self.finish(ended_ns)
    }

    fn is_complete(&self) -> bool {
        self.source.is_exhausted() && self.round.is_settled()
    }

    /// Sends one round.
    fn send(&mut self, began_ns: u64) -> Result<(), LoadError> {
        let order = self.order().map_err(backend_failed("SO_MEMINFO"))?;
        self.caution = self.caution.saturating_sub(1);
        self.results.clear();
        self.backend
            .transmit(&self.round.batch, self.round.cursor, order, &mut self.results)
            .map_err(backend_failed("send"))?;
        self.sent_between_ns = (began_ns, clock::monotonic_ns());
        let full = self.settle(order == SendOrder::Split)?;
        self.publish();
        if let Some(listener) = full {
            self.await_room(listener).map_err(backend_failed("wait for room"))?;
        }
        Ok(())
    }

    /// Returns how the round may be sent. Sends are independent only if none can overtake another of its flow: each flow
    /// has one send, or room for all its sends. A refused train is sent in pieces. Where there are trains there are few
    /// sends, so a chain costs nothing.
    fn order(&mut self) -> io::Result<SendOrder> {
        if self.report.trains_refused && self.round.current().segment_bytes > 0 {
            return Ok(SendOrder::Split);
        }
        if self.caution > 0 || self.round.has_trains() {
            return Ok(SendOrder::InOrder);
        }
        for (flow, bytes) in self.round.repeated() {
            if self.backend.send_room_bytes(flow)? <= bytes {
                return Ok(SendOrder::InOrder);
            }
        }
        Ok(SendOrder::Free)
    }

    /// Chains the next rounds: no datagram overtakes one that must be tried again.
    pub(crate) fn be_careful(&mut self) {
        self.caution = CAUTION_ROUNDS;
    }

    /// Sleeps until the socket can be written to, at most a millisecond.
    fn await_room(&mut self, listener: usize) -> io::Result<()> {
        self.backend.await_writable(listener)?;
        let sleep = Wait::Sleep { gather_us: 0, timeout_ns: 1_000_000, frames: false };
        self.backend.enter(sleep)?;
        self.backend.take_writable();
        Ok(())
    }

    /// Waits until the next datagram is due.
    fn idle(&mut self, now_ns: u64, until_ns: u64) -> Result<(), LoadError> {
        if self.echoes.wait(&mut self.backend, until_ns).map_err(backend_failed("wait"))? {
            return Ok(());
        }
        // The next send would report the error, but at a low rate that is too late.
        if self.is_greeting(now_ns) && until_ns.saturating_sub(now_ns) > LOOK_NS {
            let sockets = self.backend.sockets().len();
            self.look_for_errors(self.look, LOOKS.min(sockets))?;
            self.look = (self.look + LOOKS) % sockets.max(1);
        }
        wait::until(until_ns);
        Ok(())
    }

    /// Asks `count` sockets from `first` on for pending errors.
    fn look_for_errors(&mut self, first: usize, count: usize) -> Result<(), LoadError> {
        let sockets = self.backend.sockets().len();
        for step in 0..count {
            let listener = (first + step) % sockets;
            let errno = self.backend.sockets()[listener].take_error();
            if let Some(errno) = errno.filter(|errno| {
                matches!(*errno, libc::ECONNREFUSED | libc::EHOSTUNREACH | libc::ENETUNREACH)
            }) {
                self.note_unreachable(errno, listener)?;
            }
        }
        Ok(())
    }

    fn take_echoes(&mut self, lingering: bool) -> Result<(), LoadError> {
        let told =
            self.echoes.take(&mut self.backend, lingering).map_err(backend_failed("receive"))?;
        if let Some(received) = self.echoes.received() {
            self.share.progress.echoed.store(received, Ordering::Relaxed);
        }
        told.map_or(Ok(()), |(errno, listener)| self.note_unreachable(errno, listener))
    }

    fn publish(&self) {
        let progress = &self.share.progress;
        progress.sent.store(self.report.sent, Ordering::Relaxed);
        let failed = self.report.qdisc_dropped + self.report.send_failed;
        progress.failed.store(failed, Ordering::Relaxed);
        if let Some(due_ns) = self.round.oldest_due_ns() {
            let behind_ns = self.sent_between_ns.1.saturating_sub(due_ns);
            progress.behind_ns.store(behind_ns, Ordering::Relaxed);
        }
    }

    /// Completes the report, and waits for the last echoes.
    fn finish(mut self, ended_ns: u64) -> Result<LoadReport, LoadError> {
        let report = &mut self.report;
        let tried = report.sent + report.qdisc_dropped + report.send_failed;
        report.intended = self.source.intended(ended_ns, tried)?;
        report.unsent = report.intended.saturating_sub(tried);
        // Every datagram takes its share of the time, the last one too: one datagram at one a second takes a second.
        let last_ns = self.sent_between_ns.1.saturating_sub(self.start_ns);
        report.elapsed_ns = last_ns.max(self.source.span_ns(tried));
        // Staged, but never sent: the last datagrams of their flows.
        for (flow, count) in self.round.left_at_the_tail() {
            self.source.take_back(flow, count);
        }
        for (&flow, &issued) in self.share.flows.iter().zip(self.source.issued()) {
            report.issued_by_flow[flow] = issued;
        }
        self.await_last_echoes()?;
        let issued = self.source.issued();
        let never_left = issued.iter().sum::<u64>().saturating_sub(self.report.sent);
        self.report.echo = self.echoes.report(issued, never_left);
        Ok(self.report)
    }

    /// Waits for echoes that are still on their way, then looks for errors that came back after the last send.
    fn await_last_echoes(&mut self) -> Result<(), LoadError> {
        let mut quiet_since_ns = clock::monotonic_ns();
        while let Some(before) = self.echoes.received() {
            let now_ns = clock::monotonic_ns();
            if before >= self.report.sent || now_ns - quiet_since_ns > ECHO_SILENCE_NS {
                break;
            }
            self.take_echoes(true)?;
            if self.echoes.received() > Some(before) {
                quiet_since_ns = now_ns;
            }
        }
        let sockets = self.backend.sockets().len();
        self.look_for_errors(0, sockets)
    }
}

fn backend_failed(step: &'static str) -> impl Fn(io::Error) -> LoadError {
    move |source| LoadError::Backend { step, source }
}
