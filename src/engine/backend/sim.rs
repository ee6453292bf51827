//! The simulated backend: a kernel in miniature, driven by a seed, with all the faults that a real kernel may show to a
//! receiver. It counts the datagrams offered and dropped, so a test can compare the receiver's ledger with the truth.
//!
//! Faults: slots run out, the completion queue overflows, a multishot ends without a reason, a
//! payload is truncated, EINTR, socket errors, zero-length datagrams, completions out of order,
//! sends refused or short of room.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;

use crate::backend::enter::{Enter, Wait};
use crate::backend::outgoing::SENDS_MAX;
use crate::backend::rx::{Arm, Completion, Outcome, Rx};
use crate::backend::sockets::ListenSockets;
use crate::backend::tx::{Cursor, SendOrder, Sent, Tx};
use crate::batch::arena::{Batch, Frame};
use ringest_base::sys::chance::Chance;

/// A datagram or train on its way through the simulation.
#[derive(Clone, Debug)]
struct SimFrame {
    payload: Vec<u8>,
    peer: SocketAddr,
    segment_bytes: u16,
}

impl SimFrame {
    fn datagrams(&self) -> u64 {
        self.frame(0, false).datagrams()
    }

    fn frame(&self, listener: usize, truncated: bool) -> Frame<'_> {
        Frame::datagram(self.peer, &self.payload)
            .at_listener(listener)
            .in_segments(self.segment_bytes)
            .with_truncated(truncated)
    }
}

/// A completion not released yet.
#[derive(Debug)]
struct SimCompletion {
    listener: usize,
    outcome: Result<(SimFrame, bool), i32>,
    more: bool,
}

#[derive(Debug, Default)]
struct SimSocket {
    queue: VecDeque<SimFrame>,
    armed: Option<Arm>,
    cancelled: bool,
    shut: bool,
}

/// The true counts, in datagrams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Truth {
    pub(crate) offered: u64,
    pub(crate) dropped_datagrams: u64,
    pub(crate) dropped_buffers: u64,
    /// Datagrams that the receiver released.
    pub(crate) taken: u64,
    /// Replies that the simulated kernel took.
    pub(crate) replies: u64,
}

/// A simulated kernel with its sockets.
#[derive(Debug)]
pub(crate) struct Sim {
    pub(crate) chance: Chance,
    sockets: Vec<SimSocket>,
    pending: VecDeque<SimCompletion>,
    slots: usize,
    slots_held: usize,
    cq_entries: usize,
    socket_frames_max: usize,
    /// One in this many completions goes wrong.
    fault_every: usize,
    now_ns: u64,
    next_number: u64,
    overflows: u64,
    drops_unread: u64,
    pub(crate) truth: Truth,
    /// A digest of all calls of the receiver.
    pub(crate) trace: u64,
    /// Whether datagrams still arrive.
    pub(crate) sending: bool,
    /// The result of every train and of every single datagram; `None`: by chance.
    sends: Option<(Sent, Sent)>,
}

impl Sim {
    pub(crate) fn new(seed: u64) -> Self {
        let mut chance = Chance::new(seed);
        let listeners = 1 + chance.below(3);
        Self {
            sockets: std::iter::repeat_with(SimSocket::default).take(listeners).collect(),
            pending: VecDeque::new(),
            slots: 2 << chance.below(7),
            slots_held: 0,
            cq_entries: 2 + chance.below(200),
            socket_frames_max: 1 + chance.below(150),
            fault_every: 5 + chance.below(200),
            now_ns: 1,
            next_number: 0,
            overflows: 0,
            drops_unread: 0,
            truth: Truth::default(),
            trace: 0,
            sending: true,
            sends: None,
            chance,
        }
    }

    /// Returns a kernel that takes single datagrams only.
    pub(crate) fn refusing_trains() -> Self {
        Self { sends: Some((Sent::Failed(libc::EMSGSIZE), Sent::All)), ..Self::new(1) }
    }

    /// Returns a kernel whose send buffers stay full.
    pub(crate) fn without_send_room() -> Self {
        let full = Sent::Failed(libc::EAGAIN);
        Self { sends: Some((full, full)), ..Self::new(1) }
    }

    pub(crate) fn advance_to(&mut self, now_ns: u64) {
        self.now_ns = now_ns;
    }

    fn verdict(&mut self, train: bool) -> Sent {
        if let Some((trains, singles)) = self.sends {
            return if train { trains } else { singles };
        }
        match self.chance.below(12) {
            0 => Sent::Failed(libc::EAGAIN),
            1 if train => Sent::Failed(libc::EMSGSIZE),
            2 => Sent::Failed(libc::EPERM),
            _ => Sent::All,
        }
    }

    fn note(&mut self, what: u64) {
        self.trace = (self.trace ^ what).wrapping_mul(0x0100_0000_01b3).rotate_left(23);
    }

    /// Returns the datagrams in sockets and in completions that were not released.
    pub(crate) fn on_the_way(&self) -> u64 {
        let queued: u64 = self.sockets.iter().flat_map(|s| &s.queue).map(SimFrame::datagrams).sum();
        let held = self.pending.iter().filter_map(|c| c.outcome.as_ref().ok());
        queued + held.map(|(frame, _)| frame.datagrams()).sum::<u64>()
    }

    pub(crate) fn sockets_empty(&self) -> bool {
        self.sockets.iter().all(|socket| socket.queue.is_empty())
    }

    /// Lets a few datagrams arrive; a full or shut socket drops them.
    fn arrive(&mut self) {
        for _ in 0..self.chance.below(30) {
            let frame = self.make_frame();
            let listener = self.chance.below(self.sockets.len());
            let socket = &mut self.sockets[listener];
            let datagrams = frame.datagrams();
            if socket.shut {
                // As in the kernel, the drop counter includes datagrams that the filter refused.
                self.drops_unread += 1;
                continue;
            }
            self.truth.offered += datagrams;
            if socket.queue.len() >= self.socket_frames_max {
                self.truth.dropped_datagrams += datagrams;
                self.truth.dropped_buffers += 1;
                self.drops_unread += 1;
            } else {
                socket.queue.push_back(frame);
            }
        }
    }

    /// Returns a frame whose datagrams of 8 bytes or more begin with their number.
    fn make_frame(&mut self) -> SimFrame {
        let port = u16::try_from(1000 + self.chance.below(20)).unwrap();
        let peer = SocketAddr::from(([192, 0, 2, 1], port));
        let datagrams = if self.chance.one_in(3) { 2 + self.chance.below(8) } else { 1 };
        let size = if self.chance.one_in(10) { 0 } else { 8 + self.chance.below(40) };
        let mut payload = Vec::new();
        let trains = datagrams > 1 && size > 0;
        for _ in 0..if trains { datagrams } else { 1 } {
            let start = payload.len();
            payload.extend(self.next_number.to_le_bytes());
            self.next_number += 1;
            payload.resize(start + size, 0xab);
        }
        let segment_bytes = if trains { u16::try_from(size).unwrap() } else { 0 };
        SimFrame { payload, peer, segment_bytes }
    }

    fn complete(&mut self, listener: usize, outcome: Result<(SimFrame, bool), i32>, more: bool) {
        if outcome.is_ok() {
            self.slots_held += 1;
        }
        if !more {
            self.sockets[listener].armed = None;
        }
        self.pending.push_back(SimCompletion { listener, outcome, more });
    }

    /// Runs an armed receive until it has to stop.
    fn serve(&mut self, listener: usize) {
        if std::mem::take(&mut self.sockets[listener].cancelled) {
            return self.complete(listener, Err(libc::ECANCELED), false);
        }
        for _ in 0..33 {
            let Some(arm) = self.sockets[listener].armed else { return };
            if self.chance.one_in(self.fault_every) {
                let errnos = [libc::EINTR, libc::ECONNREFUSED, libc::ENOMEM, libc::ECANCELED];
                let errno = errnos[self.chance.below(errnos.len())];
                return self.complete(listener, Err(errno), false);
            }
            if self.slots_held == self.slots {
                return self.complete(listener, Err(libc::ENOBUFS), false);
            }
            let Some(frame) = self.sockets[listener].queue.pop_front() else {
                if arm == Arm::Drain {
                    self.complete(listener, Err(libc::EAGAIN), false);
                }
                return;
            };
            let overflow = self.pending.len() >= self.cq_entries;
            self.overflows += u64::from(overflow);
            let ends = overflow || frame.payload.is_empty() || self.chance.one_in(self.fault_every);
            let truncated = self.chance.one_in(self.fault_every);
            self.complete(listener, Ok((frame, truncated)), !ends);
        }
        // After 33 frames the kernel lets others have a turn. A multishot that must not wait ends
        // there, with the same EAGAIN as at an empty socket.
        if self.sockets[listener].armed == Some(Arm::Drain) {
            self.complete(listener, Err(libc::EAGAIN), false);
        }
    }
}

impl Enter for Sim {
    fn enter(&mut self, wait: Wait) -> io::Result<()> {
        if self.sending {
            self.arrive();
        }
        let before = self.pending.len();
        let first = self.chance.below(self.sockets.len());
        for step in 0..self.sockets.len() {
            self.serve((first + step) % self.sockets.len());
        }
        // Completions of one enter come in any order.
        for index in before..self.pending.len() {
            if self.chance.one_in(4) {
                let other = before + self.chance.below(self.pending.len() - before);
                self.pending.swap(index, other);
            }
        }
        let slept_ns = match wait {
            Wait::Poll => 1_000,
            Wait::Sleep { gather_us, timeout_ns, frames } => {
                self.note(u64::from(gather_us) << 1 | u64::from(frames));
                let idle = self.pending.len() == before;
                let longest = if idle { timeout_ns } else { timeout_ns.min(1_000_000) };
                1_000 + self.chance.next() % longest.max(1)
            }
        };
        self.now_ns += slept_ns;
        Ok(())
    }

    fn now_ns(&self) -> u64 {
        self.now_ns
    }
}

impl Rx for Sim {
    fn arm(&mut self, listener: usize, arm: Arm) -> io::Result<()> {
        self.note(1 + listener as u64);
        assert!(self.sockets[listener].armed.is_none(), "armed twice");
        self.sockets[listener].armed = Some(arm);
        Ok(())
    }

    fn disarm(&mut self, listener: usize) -> io::Result<()> {
        self.note(10 + listener as u64);
        // A cancel that finds nothing armed completes nothing, as in the kernel.
        let socket = &mut self.sockets[listener];
        socket.cancelled = socket.armed.is_some();
        Ok(())
    }

    fn peek(&mut self) -> Option<Completion<'_>> {
        let completion = self.pending.front()?;
        let outcome = match &completion.outcome {
            Ok((frame, truncated)) => Outcome::Frame(frame.frame(completion.listener, *truncated)),
            Err(errno) => Outcome::Failed(*errno),
        };
        Some(Completion { listener: completion.listener, outcome, more: completion.more })
    }

    fn release(&mut self) {
        let completion = self.pending.pop_front().unwrap();
        self.note(100 + completion.listener as u64);
        if let Ok((frame, _)) = completion.outcome {
            self.slots_held -= 1;
            self.truth.taken += frame.datagrams();
        }
    }

    fn slots_free(&self) -> usize {
        self.slots - self.slots_held
    }

    fn overflows(&self) -> u64 {
        self.overflows
    }

    fn can_gather(&self) -> bool {
        true
    }

    fn listeners(&self) -> usize {
        self.sockets.len()
    }
}

impl Tx for Sim {
    fn transmit(
        &mut self,
        batch: &Batch,
        from: Cursor,
        order: SendOrder,
        results: &mut Vec<Sent>,
    ) -> io::Result<()> {
        let split = order == SendOrder::Split;
        for entry in batch.entries()[from.entry..].iter().take(SENDS_MAX) {
            let size = usize::from(entry.segment_bytes);
            let pieces =
                if split { (entry.len as usize - from.offset).div_ceil(size.max(1)) } else { 1 };
            for _ in 0..pieces.min(SENDS_MAX) {
                let sent = self.verdict(size > 0 && !split);
                if sent == Sent::All {
                    let whole = crate::batch::arena::datagrams_of(entry);
                    self.truth.replies += if split { 1 } else { whole };
                }
                results.push(sent);
                if order != SendOrder::Free && sent != Sent::All {
                    return Ok(());
                }
            }
            if split {
                return Ok(());
            }
        }
        Ok(())
    }

    fn send_room_bytes(&mut self, _: usize) -> io::Result<usize> {
        Ok(usize::MAX)
    }

    fn await_writable(&mut self, listener: usize) -> io::Result<()> {
        self.note(50 + listener as u64);
        Ok(())
    }

    fn take_writable(&mut self) -> bool {
        self.chance.one_in(2)
    }
}

impl ListenSockets for Sim {
    fn refuse_all(&mut self, listener: usize) -> io::Result<()> {
        self.sockets[listener].shut = true;
        Ok(())
    }

    fn new_kernel_drops(&mut self) -> io::Result<u64> {
        Ok(std::mem::take(&mut self.drops_unread))
    }
}
