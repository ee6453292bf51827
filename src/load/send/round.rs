//! A round: the frames handed to the kernel in one go, each of one flow, and when each of their datagrams was due.
//!
//! ```text
//!  entries   │ frame │ train of 3   │ frame │        as in a batch
//!  staged    │ 0     │ 1            │ 4     │        where its datagrams begin in …
//!  due_ns    │ t0    │ t1 │ t2 │ t3 │ t4    │
//!                      ▲ cursor: everything before it is settled
//! ```

use ringest_engine::backend::outgoing::SENDS_MAX;
use ringest_engine::backend::tx::Cursor;
use ringest_engine::batch::arena::{Batch, Entry, Frame, TrainLimits, datagrams_of};

/// Bytes of the send buffer that a datagram takes beside its payload: headers, and the kernel's own book-keeping. Too low
/// and a send that should fit may be refused; too high only makes the sender careful too early.
const OVERHEAD_BYTES: usize = 2048;
/// Bytes of the send buffer for each payload byte, at most: the kernel's allocations are up to twice the size asked for,
/// and a datagram longer than the MTU is cut into several.
const BYTES_FACTOR: usize = 3;

/// The state of one entry.
#[derive(Clone, Copy, Debug)]
struct Staged {
    /// Index of its first datagram in `due_ns`.
    first: usize,
    /// It has found the send buffer full.
    was_full: bool,
}

/// The sends of one flow in one round, and the room they take.
#[derive(Clone, Copy, Debug, Default)]
struct Demand {
    round: u64,
    sends: u32,
    bytes: usize,
}

/// A round of sends. All memory is taken at construction.
#[derive(Debug)]
pub(crate) struct Round {
    pub(crate) batch: Batch,
    /// Everything before it is settled.
    pub(crate) cursor: Cursor,
    staged: Vec<Staged>,
    due_ns: Vec<u64>,
    number: u64,
    /// By flow.
    demands: Vec<Demand>,
    /// Flows with more than one frame in this round.
    repeated: Vec<u16>,
    has_trains: bool,
    /// Whether a datagram is left although a later one of its flow was sent.
    overtaken: bool,
}

impl Round {
    /// Returns an empty round for frames of at most `frame_bytes` and `train` datagrams, of `flows` flows.
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

    /// Empties the round for the next one.
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

    /// Returns whether no send is left.
    pub(crate) fn is_settled(&self) -> bool {
        self.cursor.entry == self.batch.entries().len()
    }

    /// Returns whether no more frames fit.
    pub(crate) fn is_full(&self) -> bool {
        self.batch.entries().len() == SENDS_MAX
    }

    /// Returns the entry to be sent next. There must be one.
    pub(crate) fn current(&self) -> Entry {
        self.batch.entries()[self.cursor.entry]
    }

    /// Adds a frame whose datagrams are due at these times. Returns `false` if it does not fit.
    #[must_use]
    pub(crate) fn push(&mut self, frame: &Frame<'_>, due_ns: &[u64]) -> bool {
        if !self.batch.push(frame, 0) {
            return false;
        }
        self.note(frame, due_ns, true);
        true
    }

    /// Adds a datagram, to the train before it if flow and size are the same. Returns `false` if it does not fit.
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

    /// Returns whether one of the sends is a train.
    pub(crate) fn has_trains(&self) -> bool {
        self.has_trains
    }

    /// Returns the flows with several sends in this round, and the room that the sends of each take at most, bytes.
    pub(crate) fn repeated(&self) -> impl Iterator<Item = (usize, usize)> {
        self.repeated.iter().map(|&flow| {
            let flow = usize::from(flow);
            (flow, self.demands[flow].bytes)
        })
    }

    /// Returns when the datagrams of an entry were due, ns.
    pub(crate) fn due_ns(&self, entry: usize) -> &[u64] {
        let first = self.staged[entry].first;
        let count = usize::try_from(datagrams_of(&self.batch.entries()[entry])).unwrap_or(0);
        &self.due_ns[first..first + count]
    }

    /// Returns when the oldest datagram that is left was due, ns; `None`: none is left.
    pub(crate) fn oldest_due_ns(&self) -> Option<u64> {
        let staged = self.staged.get(self.cursor.entry).filter(|_| !self.is_settled())?;
        self.due_ns.get(staged.first).copied()
    }

    /// Notes that an entry found the send buffer full; returns whether that is new.
    pub(crate) fn note_full(&mut self, entry: usize) -> bool {
        !std::mem::replace(&mut self.staged[entry].was_full, true)
    }

    /// Keeps, of the `tried` entries from the cursor on, those marked in `again`, in order.
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

    /// Notes that the next datagram of an entry has not found the send buffer full yet.
    pub(crate) fn forget_full(&mut self, entry: usize) {
        self.staged[entry].was_full = false;
    }

    /// Returns flow and number of datagrams of every entry that is left, if these are the last of their flows. After an
    /// ICMP error a later datagram may have been sent, and the numbers of the entries left are gaps then.
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
