//! The receiver: one pinned thread that takes frames from its sockets and hands them on.
//!
//! A turn: enter the kernel once ─ take what completed ─ arm again what ended ─ hand over ─ send
//! replies ─ publish the counters. The life of a receiver:
//!
//! ```text
//!  Listening ──stop──► Disarming ──► Draining ──► Flushing ──► Lingering ──► Done
//!                      await the     read every   open batches  send the
//!                      last CQE of   socket to    to workers    workers' last
//!                      each receive  EAGAIN                     replies
//! ```

use std::io;
use std::sync::Arc;

use crate::backend::enter::Wait;
use crate::backend::rx::{Arm, Outcome, Rx};
use crate::backend::sockets::ListenSockets;
use crate::backend::tx::Tx;
use crate::count::counters::{PublishedReceiver, ReceiverCounts};
use crate::receive::coalesce::Coalescer;
use crate::receive::dispatch::{Dispatcher, Offered};
use crate::receive::fault;
use crate::send::transmitter::{Pumped, Transmitter};
use crate::sync::stop::{Stop, StopKind};
use crate::sync::waker::{REPLIES, ROOM, Waker};
use crate::work::handler::Handler;
use crate::work::remains::Remains;
use ringest_base::sys::clock;

/// From this many frames in one turn on, more are likely waiting: look before flushing. Too low and
/// batches leave half empty; too high and a busy receiver sleeps for the next frame.
const BUSY_FRAMES: u64 = 16;
/// How often CPU time, kernel drops and the wall clock are read, ns.
const TICK_NS: u64 = 1_000_000_000;
/// The most frames of one turn, so that replies, deadlines and a stop get their turn under full load.
const TURN_FRAMES_MAX: u64 = 4096;

/// The objects that a receiver shares with the rest of the engine.
#[derive(Clone, Debug)]
pub struct ReceiverLinks {
    /// The receiver's counters, readable by all threads.
    pub published: Arc<PublishedReceiver>,
    /// Wakes it.
    pub waker: Arc<Waker>,
    /// The stop signal.
    pub stop: Arc<Stop>,
    /// Wakers of all receivers: the one that reaches the limit wakes the others.
    pub all_wakers: Vec<Arc<Waker>>,
}

/// The state of the receive on one listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Receive {
    /// The backend holds it.
    Armed,
    /// The receive ended, and is armed again as soon as a slot is free.
    Ended,
    /// Drained: the socket is empty.
    Dry,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Listening,
    Disarming,
    Draining,
    Flushing,
    Lingering,
    Done,
}

impl Phase {
    /// Returns whether an inline handler may still be called: it is finished when flushing ends.
    fn has_handler(self) -> bool {
        !matches!(self, Self::Lingering | Self::Done)
    }
}

/// The datagrams and batches that a receiver left when it ended; none, unless it was aborted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftBehind {
    /// Datagrams in batches that were never handed over.
    pub open_datagrams: u64,
    /// Batches that did not come home.
    pub batches_missing: usize,
}

/// Whether the receiver wants another turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Yes.
    Again,
    /// It has finished.
    Done,
}

/// A receiver: its backend, dispatcher and transmitter, and the phase of its life.
#[derive(Debug)]
pub struct Receiver<B, H> {
    backend: B,
    dispatcher: Dispatcher<H>,
    transmitter: Transmitter,
    coalescer: Coalescer,
    links: ReceiverLinks,
    counts: ReceiverCounts,
    receives: Vec<Receive>,
    /// Frames that each listener's receive brought since it was armed.
    frames_since_arm: Vec<u64>,
    phase: Phase,
    /// A frame is waiting for room.
    stalled: bool,
    /// The last turn took many frames: more are likely waiting.
    busy: bool,
    replies: Pumped,
    drain_bound_ns: u64,
    /// When draining ends and the rest is discarded, ns.
    drain_until_ns: u64,
    next_tick_ns: u64,
    /// CPU time of the thread before the first turn, ns: setting up is not a cost of datagrams.
    cpu_before_ns: u64,
    /// When an inline handler gets a tick if nothing comes; `u64::MAX`: it gets none.
    next_idle_ns: u64,
}

impl<B: Rx + Tx + ListenSockets, H: Handler> Receiver<B, H> {
    /// Returns a receiver that has not armed anything yet. Make it on the thread that will run it: its CPU time counts from
    /// here.
    #[must_use]
    pub fn new(
        backend: B,
        dispatcher: Dispatcher<H>,
        transmitter: Transmitter,
        coalescer: Coalescer,
        links: ReceiverLinks,
    ) -> Self {
        let receives = vec![Receive::Ended; backend.listeners()];
        let frames_since_arm = vec![0; backend.listeners()];
        Self {
            frames_since_arm,
            backend,
            dispatcher,
            transmitter,
            coalescer,
            links,
            counts: ReceiverCounts::default(),
            receives,
            phase: Phase::Listening,
            stalled: false,
            busy: false,
            replies: Pumped::Idle,
            drain_bound_ns: 5_000_000_000,
            drain_until_ns: u64::MAX,
            next_tick_ns: 0,
            next_idle_ns: u64::MAX,
            cpu_before_ns: clock::thread_cpu_ns(),
        }
    }

    /// Bounds the drain at a stop (5 s unless set).
    #[must_use]
    pub fn with_drain_bound_ns(mut self, bound_ns: u64) -> Self {
        self.drain_bound_ns = bound_ns;
        self
    }

    /// Receives until a stop has been carried out. Returns what was left behind.
    ///
    /// # Errors
    /// The backend or a socket became unusable.
    pub fn run(&mut self) -> io::Result<LeftBehind> {
        while self.turn()? == Turn::Again {}
        Ok(self.left_behind())
    }

    /// Runs one turn.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn turn(&mut self) -> io::Result<Turn> {
        self.arm_ended()?;
        let wait = self.next_wait();
        if matches!(wait, Wait::Sleep { .. }) {
            self.counts.sleeps += 1;
        }
        self.backend.enter(wait)?;
        self.links.waker.retract();
        let now_ns = self.backend.now_ns();
        let bytes_before = self.counts.received_bytes;
        let taken = self.take(now_ns)?;
        self.counts.cq_overflow = self.backend.overflows();
        self.busy = taken >= BUSY_FRAMES && !self.stalled;
        if self.phase == Phase::Listening {
            self.coalescer.observe(now_ns, taken, self.counts.received_bytes - bytes_before);
        }
        if !self.busy {
            self.dispatcher.flush(&self.counts);
        }
        let worth_a_try = match self.replies {
            Pumped::Blocked { deadline_ns } => {
                self.backend.take_writable() || now_ns >= deadline_ns
            }
            Pumped::Idle | Pumped::Closed => true,
        };
        if worth_a_try {
            self.replies = self.transmitter.pump(&mut self.backend, &mut self.counts)?;
        }
        if now_ns >= self.next_tick_ns {
            self.tick(now_ns)?;
        }
        self.idle_or_not(now_ns, taken);
        self.advance(now_ns)?;
        self.publish();
        Ok(if self.phase == Phase::Done { Turn::Done } else { Turn::Again })
    }

    /// Notes when the last datagram came; gives an inline handler its tick when none comes, and meets its deadline.
    fn idle_or_not(&mut self, now_ns: u64, taken: u64) {
        if taken > 0 {
            self.counts.last_received_ns = now_ns;
        }
        if taken > 0 || self.next_idle_ns == u64::MAX {
            self.next_idle_ns = self.idle_at(now_ns);
        } else if now_ns >= self.next_idle_ns && self.phase == Phase::Listening {
            self.dispatcher.idle();
            self.next_idle_ns = self.idle_at(now_ns);
        }
        // Met under load too, where no turn is idle.
        if self.phase.has_handler() {
            self.dispatcher.meet_deadline(now_ns);
        }
    }

    fn idle_at(&self, now_ns: u64) -> u64 {
        let tick = self.dispatcher.idle_tick().map(|tick| u64::try_from(tick.as_nanos()));
        tick.map_or(u64::MAX, |ns| now_ns.saturating_add(ns.unwrap_or(u64::MAX)))
    }

    /// Decides how to spend the time until the next frame.
    fn next_wait(&mut self) -> Wait {
        let waits_for_room = self.stalled || self.dispatcher.has_open();
        if self.busy {
            return Wait::Poll;
        }
        // Announce, look once more, sleep: in this order nothing can be missed.
        self.links.waker.announce(if waits_for_room { REPLIES | ROOM } else { REPLIES });
        let mail = self.replies == Pumped::Idle && self.transmitter.has_mail();
        let stopping = (self.phase == Phase::Listening && self.links.stop.has_begun())
            || self.links.stop.is_abort();
        if mail || stopping || (waits_for_room && self.dispatcher.room(&self.counts)) {
            return Wait::Poll;
        }
        let now_ns = self.backend.now_ns();
        let mut until_ns = self.next_tick_ns.min(self.next_idle_ns);
        if self.phase.has_handler() {
            until_ns = until_ns.min(self.dispatcher.deadline_ns().unwrap_or(u64::MAX));
        }
        if let Pumped::Blocked { deadline_ns } = self.replies {
            until_ns = until_ns.min(deadline_ns);
        }
        if self.drain_until_ns > now_ns {
            until_ns = until_ns.min(self.drain_until_ns);
        }
        let listening = self.phase == Phase::Listening && !self.stalled;
        let gather = listening && self.backend.can_gather();
        Wait::Sleep {
            gather_us: if gather { self.coalescer.next_wait_us() } else { 0 },
            timeout_ns: until_ns.saturating_sub(now_ns).max(1),
            frames: !self.stalled,
        }
    }

    /// Takes completions until there are none, or none can be taken. Returns the number of frames taken.
    fn take(&mut self, now_ns: u64) -> io::Result<u64> {
        let discarding = now_ns >= self.drain_until_ns || self.links.stop.is_abort();
        let mut taken = 0;
        self.stalled = false;
        while taken < TURN_FRAMES_MAX {
            let Some(completion) = self.backend.peek() else { break };
            let (listener, more) = (completion.listener, completion.more);
            let mut errno = None;
            match &completion.outcome {
                Outcome::Frame(frame) => {
                    if discarding || self.dispatcher.limit_reached() {
                        self.counts.unread_at_stop += frame.datagrams();
                    } else if self.dispatcher.offer(frame, now_ns, &mut self.counts)
                        == Offered::Stalled
                    {
                        self.stalled = true;
                        break;
                    }
                    taken += 1;
                    self.frames_since_arm[listener] += 1;
                }
                Outcome::Failed(libc::EBADMSG) => {
                    // A slot that cannot be read: it held a datagram, so it is counted as one.
                    self.counts.received += 1;
                    self.counts.truncated += 1;
                }
                Outcome::Failed(code) => errno = Some(*code),
            }
            self.backend.release();
            if !more {
                self.ended(listener, errno)?;
            }
        }
        if self.phase == Phase::Listening && self.dispatcher.limit_reached() {
            self.links.stop.begin(StopKind::Drain);
            self.links.all_wakers.iter().for_each(|waker| waker.wake());
        }
        Ok(taken)
    }

    /// The one place that decides what follows the end of a receive.
    fn ended(&mut self, listener: usize, errno: Option<i32>) -> io::Result<()> {
        match errno {
            // A zero-length datagram and an overflown completion queue end a multishot too.
            None | Some(libc::ECANCELED | libc::EINTR) => {}
            Some(libc::EAGAIN) => {
                // After 33 datagrams a drain ends with EAGAIN too, empty or not: only one that
                // brought nothing has found the socket empty.
                if self.phase == Phase::Draining && self.frames_since_arm[listener] == 0 {
                    self.receives[listener] = Receive::Dry;
                    return Ok(());
                }
            }
            Some(libc::ENOBUFS) => self.counts.ring_exhausted += 1,
            Some(
                fatal @ (libc::EBADF
                | libc::ENOTSOCK
                | libc::EINVAL
                | libc::EFAULT
                | libc::EOPNOTSUPP
                | libc::ENOSYS),
            ) => return Err(io::Error::from_raw_os_error(fatal)),
            // An error that an ICMP message or memory pressure left on the socket: the socket goes on working.
            Some(_) => self.counts.socket_errors += 1,
        }
        // Tests only: a planted fault marks the receive as armed, so it is never armed again.
        self.receives[listener] =
            if fault::skips_rearm() { Receive::Armed } else { Receive::Ended };
        Ok(())
    }

    /// Arms ended receives again, once a slot is free; without one they would end at once.
    fn arm_ended(&mut self) -> io::Result<()> {
        let arm = match self.phase {
            Phase::Listening => Arm::Listen,
            Phase::Draining => Arm::Drain,
            Phase::Disarming | Phase::Flushing | Phase::Lingering | Phase::Done => return Ok(()),
        };
        for listener in 0..self.receives.len() {
            if self.receives[listener] == Receive::Ended && self.backend.slots_free() > 0 {
                self.backend.arm(listener, arm)?;
                self.receives[listener] = Receive::Armed;
                self.frames_since_arm[listener] = 0;
                self.counts.rearmed += 1;
            }
        }
        Ok(())
    }

    /// Goes on to the next phase when the present one is over.
    fn advance(&mut self, now_ns: u64) -> io::Result<()> {
        if !self.links.stop.has_begun() {
            return Ok(());
        }
        if self.phase == Phase::Listening {
            self.drain_until_ns = now_ns + self.drain_bound_ns;
            self.phase = Phase::Disarming;
            for listener in 0..self.receives.len() {
                match self.backend.refuse_all(listener) {
                    // net.core.optmem_max is used up, as by many multicast groups: the socket goes on accepting, and is
                    // read all the same.
                    Err(error) if error.raw_os_error() == Some(libc::ENOMEM) => {
                        self.counts.socket_errors += 1;
                    }
                    shut => shut?,
                }
                if self.receives[listener] == Receive::Armed {
                    self.backend.disarm(listener)?;
                }
            }
            // The last reading: from here on the kernel's counter includes datagrams that the filter refused, which are not
            // a loss of this run.
            self.counts.kernel_buffers += self.backend.new_kernel_drops()?;
        }
        if self.phase == Phase::Disarming && !self.receives.contains(&Receive::Armed) {
            self.phase = Phase::Draining;
        }
        let dry = self.receives.iter().all(|receive| *receive == Receive::Dry);
        // All sockets can be dry while frames still wait unread in the completion queue.
        if self.phase == Phase::Draining && dry && self.backend.peek().is_none() {
            self.phase = Phase::Flushing;
        }
        if self.phase == Phase::Flushing {
            if self.dispatcher.flush(&self.counts) {
                self.dispatcher.close();
                self.phase = Phase::Lingering;
            } else if self.links.stop.is_abort() {
                self.phase = Phase::Done;
            }
        }
        let no_more_replies = self.replies == Pumped::Closed || self.dispatcher.is_inline();
        let aborting = self.links.stop.is_abort();
        if self.phase == Phase::Lingering && (aborting || self.lingered(no_more_replies)?) {
            self.phase = Phase::Done;
        }
        if self.phase == Phase::Done {
            if aborting {
                self.transmitter.abandon(&mut self.counts);
            }
            self.tick(now_ns)?;
        }
        Ok(())
    }

    /// Returns whether every reply has been sent or given up. The inbox of an inline handler is never closed, as the receiver
    /// itself holds the other end; it is done when it is idle.
    fn lingered(&mut self, no_more_replies: bool) -> io::Result<bool> {
        if !no_more_replies || matches!(self.replies, Pumped::Blocked { .. }) {
            return Ok(false);
        }
        self.replies = self.transmitter.pump(&mut self.backend, &mut self.counts)?;
        Ok(!matches!(self.replies, Pumped::Blocked { .. }))
    }

    fn tick(&mut self, now_ns: u64) -> io::Result<()> {
        self.next_tick_ns = now_ns + TICK_NS;
        if self.phase == Phase::Listening {
            self.counts.kernel_buffers += self.backend.new_kernel_drops()?;
        }
        self.counts.cpu_ns = clock::thread_cpu_ns().saturating_sub(self.cpu_before_ns);
        self.dispatcher.tick();
        Ok(())
    }

    /// Datagrams an inline handler was given and has not returned from.
    #[must_use]
    pub fn inline_in_hand(&self) -> u64 {
        self.dispatcher.inline_in_hand()
    }

    /// Whether an inline handler was called and has not returned.
    #[must_use]
    pub fn is_in_handler(&self) -> bool {
        self.dispatcher.is_in_handler()
    }

    fn publish(&self) {
        self.links.published.publish(&self.counts);
    }

    /// Returns the datagrams never handed over, and the batches not home.
    pub(crate) fn left_behind(&mut self) -> LeftBehind {
        LeftBehind {
            open_datagrams: self.dispatcher.open_datagrams(),
            batches_missing: self.dispatcher.missing(),
        }
    }

    /// Ends the receiver. Returns what an inline handler leaves, or `None` if there is no inline handler.
    #[must_use]
    pub fn into_remains(self) -> Option<Remains> {
        self.dispatcher.into_remains()
    }

    #[cfg(test)]
    pub(crate) fn backend(&self) -> &B {
        &self.backend
    }

    #[cfg(test)]
    pub(crate) fn backend_mut(&mut self) -> &mut B {
        &mut self.backend
    }

    /// Returns the counters as of now.
    #[must_use]
    pub fn counts(&self) -> ReceiverCounts {
        self.counts
    }
}
