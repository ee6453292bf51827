//! Replayed datagrams of a capture or a journal: unchanged, in order, each flow from a source port of its own.
//!
//! ```text
//!  capture ─► datagram n ─► flow ─► whose socket? ─┬─ this thread's: due at its time
//!                                                  └─ another's: passed over
//! ```
//! Each thread reads the whole file and sends its own sockets' share, so nothing is handed between
//! threads and one start holds for all. One datagram is read ahead. A disk that cannot keep up makes
//! datagrams late, which the lateness shows.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::net::SocketAddr;

use crate::replay::Tape;
use crate::report::LoadError;
use crate::send::round::Round;
use crate::send::share::Share;
use crate::spec::{LoadSpec, Replay};
use crate::stamp::FLOWS_MAX;
use ringest_engine::batch::arena::{Frame, TrainLimits};

/// Datagrams of other threads passed over before `stop` is read again.
const STRIDE: u32 = 4096;

/// When the datagrams of a capture are due.
#[derive(Clone, Copy, Debug)]
enum Pace {
    /// As captured, this many times as fast.
    Own(f64),
    /// Evenly, ns from one to the next.
    Even(f64),
    /// When they are sent.
    FlatOut,
}

impl Pace {
    fn of(spec: &LoadSpec, replay: &Replay) -> Self {
        match (replay.speed, spec.rate_pps()) {
            (Some(speed), _) => Self::Own(speed),
            (None, Some(rate)) => Self::Even(1e9 / rate),
            (None, None) => Self::FlatOut,
        }
    }

    /// When datagram `number`, captured `offset_ns` after the first, is due after the start, ns.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "saturates; exact to 1 ns within three months"
    )]
    fn due_ns(self, number: u64, offset_ns: u64) -> u64 {
        match self {
            Self::Own(speed) => (offset_ns as f64 / speed) as u64,
            Self::Even(gap_ns) => (number as f64 * gap_ns) as u64,
            Self::FlatOut => 0,
        }
    }
}

/// The socket of each flow of the capture.
#[derive(Debug)]
struct Sockets {
    count: usize,
    /// By first appearance, in turn. Beyond [`FLOWS_MAX`] a flow's socket follows from its address.
    known: HashMap<SocketAddr, usize>,
}

impl Sockets {
    fn of(&mut self, source: SocketAddr) -> usize {
        if let Some(socket) = self.known.get(&source) {
            return *socket;
        }
        if self.known.len() < FLOWS_MAX {
            let socket = self.known.len() % self.count;
            self.known.insert(source, socket);
            return socket;
        }
        // Without a key: all threads must come to the same socket.
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(source);
        usize::try_from(hash % self.count as u64).unwrap_or(0)
    }
}

/// The datagram that is due next; its payload is in `ReplaySource::payload`.
#[derive(Clone, Copy, Debug)]
struct Next {
    due_ns: u64,
    /// Index among this thread's sockets.
    flow: usize,
}

/// A thread's share of a capture, in order.
#[derive(Debug)]
pub(crate) struct ReplaySource {
    tape: Tape,
    name: String,
    target: SocketAddr,
    pace: Pace,
    limits: TrainLimits,
    sockets: Sockets,
    /// Index of this thread.
    index: usize,
    threads: usize,
    next: Option<Next>,
    payload: Vec<u8>,
    ended: bool,
    /// Datagrams of the capture read so far, those of other threads included.
    read: u64,
    /// Where the capture ends for this replay.
    count: Option<u64>,
    /// Datagrams of this thread staged so far, and one more than the number of the last.
    staged: u64,
    reached: u64,
    issued: Vec<u64>,
    start_ns: u64,
    end_ns: u64,
}

impl ReplaySource {
    /// Opens the capture and reads this thread's first datagram.
    ///
    /// # Errors
    /// The capture cannot be read any more.
    pub(crate) fn new(spec: &LoadSpec, replay: &Replay, share: &Share) -> Result<Self, LoadError> {
        let limits = TrainLimits::of(spec.train());
        let mut played = Self {
            tape: replay.recording.open()?,
            name: replay.recording.to_string(),
            target: spec.target,
            pace: Pace::of(spec, replay),
            limits,
            sockets: Sockets { count: spec.flows, known: HashMap::new() },
            index: share.index,
            threads: spec.threads,
            next: None,
            payload: Vec::with_capacity(replay.survey.payload_max),
            ended: false,
            read: 0,
            count: spec.count,
            staged: 0,
            reached: 0,
            issued: vec![0; share.flows.len()],
            start_ns: 0,
            end_ns: u64::MAX,
        };
        played.fetch()?;
        Ok(played)
    }

    pub(crate) fn start(&mut self, start_ns: u64, end_ns: u64) {
        (self.start_ns, self.end_ns) = (start_ns, end_ns);
    }

    pub(crate) fn is_exhausted(&self) -> bool {
        self.ended && self.next.is_none()
    }

    /// Returns when the next datagram is due, ns; at once if it has yet to be found.
    pub(crate) fn next_ns(&self) -> u64 {
        match self.next {
            Some(next) => self.start_ns.saturating_add(next.due_ns),
            None if self.ended => u64::MAX,
            None => 0,
        }
    }

    /// Stages the datagrams that are due, as many as the round takes.
    pub(crate) fn stage(&mut self, now_ns: u64, round: &mut Round) -> Result<(), LoadError> {
        let limit_ns = if self.is_flat_out() { now_ns } else { self.next_ns() };
        if limit_ns >= self.end_ns {
            return Ok(());
        }
        while !round.is_full() && self.next_ns() <= now_ns.min(self.end_ns - 1) {
            let Some(next) = self.next else {
                self.fetch()?;
                return Ok(());
            };
            let frame = Frame::datagram(self.target, &self.payload).at_listener(next.flow);
            let due_ns = self.start_ns.saturating_add(next.due_ns);
            let due_ns = if self.is_flat_out() { now_ns } else { due_ns };
            if !round.join(&frame, due_ns, self.limits) {
                // A round holds datagrams as large as any that was there before the start.
                return if round.is_settled() { Err(self.changed()) } else { Ok(()) };
            }
            self.issued[next.flow] += 1;
            self.staged += 1;
            self.reached = self.read;
            self.fetch()?;
        }
        Ok(())
    }

    fn is_flat_out(&self) -> bool {
        matches!(self.pace, Pace::FlatOut)
    }

    fn changed(&self) -> LoadError {
        LoadError::CaptureChanged { name: self.name.clone() }
    }

    /// Reads on to this thread's next datagram, or for a while.
    fn fetch(&mut self) -> Result<(), LoadError> {
        self.next = None;
        for _ in 0..STRIDE {
            let over = self.count.is_some_and(|count| self.read >= count);
            let captured = if over || self.ended { None } else { self.tape.next_datagram()? };
            let Some(captured) = captured else {
                self.ended = true;
                return Ok(());
            };
            let due_ns = self.pace.due_ns(self.read, captured.offset_ns);
            self.read += 1;
            let socket = self.sockets.of(captured.source);
            if socket % self.threads == self.index {
                self.payload.clear();
                self.payload.extend_from_slice(captured.payload);
                self.next = Some(Next { due_ns, flow: socket / self.threads });
                return Ok(());
            }
        }
        Ok(())
    }

    /// Stops building trains: each datagram is a frame of its own from now on.
    pub(crate) fn refuse_trains(&mut self) {
        self.limits.datagrams_max = 1;
    }

    /// Takes back `count` datagrams of a flow that were staged and never sent.
    pub(crate) fn take_back(&mut self, flow: usize, count: u64) {
        self.issued[flow] -= count;
    }

    pub(crate) fn issued(&self) -> &[u64] {
        &self.issued
    }

    /// Returns how many datagrams were due when the load ended; `tried` were sent or refused. Reads on to find the rest.
    pub(crate) fn intended(&mut self, ended_ns: u64, tried: u64) -> Result<u64, LoadError> {
        if self.is_flat_out() && self.count.is_none() {
            return Ok(tried);
        }
        let mut intended = self.staged;
        while !self.is_exhausted() {
            match self.next {
                Some(next) if next.due_ns >= ended_ns && !self.is_flat_out() => break,
                next => intended += u64::from(next.is_some()),
            }
            self.fetch()?;
        }
        Ok(intended)
    }

    /// Returns the time that all datagrams up to the last staged take at an even rate, ns, its own gap included; 0 without an
    /// even rate.
    pub(crate) fn span_ns(&self) -> u64 {
        if let Pace::Even(_) = self.pace { self.pace.due_ns(self.reached, 0) } else { 0 }
    }
}
