//! What is handed to the kernel in one go: frames of one flow each, and when each of their datagrams
//! was due.
//!
//! ```text
//!  entries   │ frame │ train of 3   │ frame │        as in a batch
//!  staged    │ 0     │ 1            │ 4     │        where its datagrams begin in …
//!  due_ns    │ t0    │ t1 │ t2 │ t3 │ t4    │
//!                      ▲ cursor: what is before it is settled
//! ```

use ringest_engine::backend::outgoing::SENDS_MAX;
use ringest_engine::backend::tx::Cursor;
use ringest_engine::batch::arena::{Batch, Entry, Frame, TrainLimits, datagrams_of};

/// What a single datagram takes of a send buffer beside its bytes: headers, and the kernel's own
/// book-keeping. Too low and a send may be refused that was said to fit; too high only makes the sender
/// careful too early.
const OVERHEAD_BYTES: usize = 2048;
/// The kernel's memory comes in sizes that are up to twice what was asked for, and a datagram longer
/// than the MTU is cut into several.
const BYTES_FACTOR: usize = 3;

/// Of one entry.
#[derive(Clone, Copy, Debug)]
struct Staged {
    /// Where its datagrams begin in `due_ns`.
    first: usize,
    /// It has found the send buffer full.
    was_full: bool,
}

/// What one flow wants of its send buffer in one round.
#[derive(Clone, Copy, Debug, Default)]
struct Demand {
    round: u64,
    sends: u32,
    bytes: usize,
}

/// See the module's description. All memory is taken at construction.
#[derive(Debug)]
pub(crate) struct Round {
    pub(crate) batch: Batch,
    /// What is before it is settled.
    pub(crate) cursor: Cursor,
    staged: Vec<Staged>,
    due_ns: Vec<u64>,
    number: u64,
    /// By flow.
    demands: Vec<Demand>,
    /// Flows with more than one frame in this round.
    repeated: Vec<u16>,
    has_trains: bool,
    /// A datagram is left of whose flow a later one was sent.
    overtaken: bool,
}

impl Round {
    /// For frames of at most `frame_bytes` and `train` datagrams, of `flows` flows.
    pub(crate) fn new(frame_bytes: usize, train: usize, flows: usize) -> Self {
        Self {
            batch: Batch::new(SENDS_MAX * frame_bytes.max(1), SENDS_MAX, 0),
            cursor: Cursor::default(),
            staged: Vec::with_capacity(SENDS_MAX),
            due_ns: Vec::with_capacity(SENDS_MAX * train),
            number: 0,
            demands: vec![Demand::default(); flows],
            repeated: Vec::with_capacity(SENDS_MAX),
            has_trains: false,
            overtaken: false,
        }
    }

    /// Begins the next one.
    pub(crate) fn clear(&mut self) {
        self.batch.clear();
        self.cursor = Cursor::default();
        self.staged.clear();
        self.due_ns.clear();
        self.number += 1;
        self.repeated.clear();
        self.has_trains = false;
        self.overtaken = false;
    }

    /// Whether nothing of it is left to be sent.
    pub(crate) fn is_settled(&self) -> bool {
        self.cursor.entry == self.batch.entries().len()
    }

    /// Whether it takes no more frames.
    pub(crate) fn is_full(&self) -> bool {
        self.batch.entries().len() == SENDS_MAX
    }

    /// The entry to be sent next. There must be one.
    pub(crate) fn current(&self) -> Entry {
        self.batch.entries()[self.cursor.entry]
    }

    /// Adds a frame whose datagrams are due at these times. `false`: it does not fit.
    #[must_use]
    pub(crate) fn push(&mut self, frame: &Frame<'_>, due_ns: &[u64]) -> bool {
        if !self.batch.push(frame, 0) {
            return false;
        }
        self.note(frame, due_ns, true);
        true
    }

    /// Adds a datagram, to the train before it if that is of its flow and size. `false`: it does not
    /// fit.
    #[must_use]
    pub(crate) fn join(&mut self, frame: &Frame<'_>, due_ns: u64, limits: TrainLimits) -> bool {
        let before = self.batch.entries().len();
        if !self.batch.push_reply(frame, limits) {
            return false;
        }
        let is_new = self.batch.entries().len() > before;
        self.note(frame, &[due_ns], is_new);
        true
    }

    fn note(&mut self, frame: &Frame<'_>, due_ns: &[u64], is_new: bool) {
        self.has_trains |= !is_new || frame.segment_bytes > 0;
        if is_new {
            self.staged.push(Staged { first: self.due_ns.len(), was_full: false });
        }
        self.due_ns.extend_from_slice(due_ns);
        let demand = &mut self.demands[usize::from(frame.listener)];
        if demand.round != self.number {
            *demand = Demand { round: self.number, ..Demand::default() };
        }
        demand.sends += u32::from(is_new);
        demand.bytes += BYTES_FACTOR * frame.payload.len() + OVERHEAD_BYTES;
        if is_new && demand.sends == 2 {
            self.repeated.push(frame.listener);
        }
    }

    /// Whether one of its sends is a train.
    pub(crate) fn has_trains(&self) -> bool {
        self.has_trains
    }

    /// Flows with several sends in this round, and the room that all of them take at most.
    pub(crate) fn repeated(&self) -> impl Iterator<Item = (usize, usize)> {
        self.repeated.iter().map(|&flow| {
            let flow = usize::from(flow);
            (flow, self.demands[flow].bytes)
        })
    }

    /// When the datagrams of an entry were due.
    pub(crate) fn due_ns(&self, entry: usize) -> &[u64] {
        let first = self.staged[entry].first;
        let count = usize::try_from(datagrams_of(&self.batch.entries()[entry])).unwrap_or(0);
        &self.due_ns[first..first + count]
    }

    /// When the oldest datagram that is left was due.
    pub(crate) fn oldest_due_ns(&self) -> Option<u64> {
        let staged = self.staged.get(self.cursor.entry).filter(|_| !self.is_settled())?;
        self.due_ns.get(staged.first).copied()
    }

    /// Notes that an entry found the send buffer full; returns whether that is new.
    pub(crate) fn note_full(&mut self, entry: usize) -> bool {
        !std::mem::replace(&mut self.staged[entry].was_full, true)
    }

    /// Of the `tried` entries from the cursor on, keeps those that `again` tells, in order.
    pub(crate) fn keep(&mut self, tried: usize, again: &[bool; SENDS_MAX]) {
        let start = self.cursor.entry;
        self.overtaken |= Self::is_overtaken(&self.batch.entries()[start..start + tried], again);
        let entry = self.batch.keep_entries(start, tried, |distance| again[distance]);
        let mut at = start + tried;
        for distance in (0..tried).rev().filter(|distance| again[*distance]) {
            at -= 1;
            self.staged[at] = self.staged[start + distance];
        }
        self.cursor = Cursor { entry, offset: 0 };
    }

    fn is_overtaken(entries: &[Entry], again: &[bool; SENDS_MAX]) -> bool {
        let kept = |at: usize| entries[at].listener;
        let gone = |from: usize, flow: u16| {
            (from..entries.len()).any(|at| !again[at] && entries[at].listener == flow)
        };
        (0..entries.len()).any(|at| again[at] && gone(at + 1, kept(at)))
    }

    /// The next datagram of the train at the cursor is settled.
    pub(crate) fn step_in_train(&mut self) {
        let entry = self.current();
        self.staged[self.cursor.entry].was_full = false;
        self.cursor.offset += usize::from(entry.segment_bytes);
        if self.cursor.offset >= entry.len as usize {
            self.cursor = Cursor { entry: self.cursor.entry + 1, offset: 0 };
        }
    }

    /// Flow and number of datagrams of all that is left, and was to be the last of its flow. After an ICMP
    /// error a later one may have been sent, and the numbers of what is left are gaps then.
    pub(crate) fn left_at_the_tail(&self) -> impl Iterator<Item = (usize, u64)> {
        let mut offset = self.cursor.offset;
        let left = self.batch.entries()[self.cursor.entry..].iter();
        left.filter(|_| !self.overtaken).map(move |entry| {
            let gone = offset / usize::from(entry.segment_bytes).max(1);
            offset = 0;
            (usize::from(entry.listener), datagrams_of(entry) - gone as u64)
        })
    }
}
