//! What a journal holds at the moment, and how far those who read it for others have come: the writers
//! put up what is committed, shippers take it from there, the janitor sees what may go.

use std::cmp::Ordering;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::settle::run::Committed;

/// One segment, as far as it is committed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Volume {
    /// What is on disk of it.
    pub holds: Committed,
    /// Written by this process: its datagrams are in the ledger.
    pub own: bool,
    /// Nothing more will be committed to it.
    pub complete: bool,
    /// Retention took it before everybody had read it.
    pub gone: bool,
}

/// Up to where a reader has come in a worker's segments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// In which segment; those before it are passed.
    pub sequence: u64,
    /// Where the next record begins; 0: at the first.
    pub offset: u64,
    /// Records before that.
    pub records: u64,
    /// Datagrams before that.
    pub datagrams: u64,
}

/// What a reader has not read of a segment that is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone {
    /// Whose segment it was.
    pub worker: u16,
    /// The position behind it.
    pub after: Position,
    /// Written by this process.
    pub own: bool,
    /// Records that were not read.
    pub records: u64,
    /// Datagrams that were not read.
    pub datagrams: u64,
}

/// What somebody has not read yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Records that are committed.
    pub records: u64,
    /// Their bytes on disk, with what frames them.
    pub bytes: u64,
}

/// See the module's description. Shared by writers, shippers, the janitor and whoever prints.
#[derive(Debug, Default)]
pub struct CommitIndex {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// By worker, in the order of their numbers.
    rows: BTreeMap<u16, VecDeque<Volume>>,
    /// Numbers that are taken though there is no segment to read, the highest of each worker.
    taken: BTreeMap<u16, u64>,
    /// By reader, by worker.
    positions: Vec<BTreeMap<u16, Position>>,
    /// The readers have told their last: what they have not read stays.
    left: bool,
    changes: u64,
}

impl CommitIndex {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, what: impl FnOnce(&mut State)) {
        let mut state = self.state();
        what(&mut state);
        state.changes += 1;
        drop(state);
        self.changed.notify_all();
    }

    /// Puts up a segment of an earlier process. Those of a worker in their order.
    pub(crate) fn put(&self, worker: u16, holds: Committed) {
        let volume = Volume { holds, own: false, complete: true, gone: false };
        self.change(|state| state.rows.entry(worker).or_default().push_back(volume));
    }

    /// There was a segment of this number, of which nothing can be read.
    pub(crate) fn remember(&self, worker: u16, sequence: u64) {
        let mut state = self.state();
        let highest = state.taken.entry(worker).or_default();
        *highest = sequence.max(*highest);
    }

    /// More of a segment of this process is committed.
    pub(crate) fn committed(&self, worker: u16, holds: Committed) {
        self.change(|state| match state.volume(worker, holds.sequence) {
            Some(volume) => volume.holds = holds,
            None => {
                let volume = Volume { holds, own: true, complete: false, gone: false };
                state.rows.entry(worker).or_default().push_back(volume);
            }
        });
    }

    /// Nothing more will be committed to a segment.
    pub(crate) fn complete(&self, worker: u16, sequence: u64) {
        self.change(|state| {
            if let Some(volume) = state.volume(worker, sequence) {
                volume.complete = true;
            }
        });
    }

    /// A segment is about to be removed, whoever still needs it: what is unread of it counts as gone. `false`:
    /// nobody would count it any more, so it is to be kept.
    pub(crate) fn give_up(&self, worker: u16, sequence: u64) -> bool {
        let mut given_up = true;
        self.change(|state| {
            let needed = state.is_unread(worker, sequence);
            given_up = !(needed && state.left);
            if let Some(volume) = state.volume(worker, sequence) {
                volume.gone |= needed && given_up;
            }
        });
        given_up
    }

    /// It could not be removed: who has not passed it yet can read it.
    pub(crate) fn take_back(&self, worker: u16, sequence: u64) {
        self.change(|state| {
            if let Some(volume) = state.volume(worker, sequence) {
                volume.gone = false;
            }
        });
    }

    /// The readers are about to end: what is unread from now on is there at the next start.
    pub fn leave(&self) {
        self.change(|state| state.left = true);
    }

    /// Whether a segment is there, as far as anybody has said.
    pub(crate) fn has(&self, worker: u16, sequence: u64) -> bool {
        self.state().volume(worker, sequence).is_some_and(|volume| !volume.gone)
    }

    /// A segment was removed; if somebody still needs it, that is to be found here.
    pub(crate) fn removed(&self, worker: u16, sequence: u64) {
        self.change(|state| {
            let needed = state.is_unread(worker, sequence);
            match state.volume(worker, sequence) {
                Some(volume) if needed => volume.gone = true,
                _ => {
                    let row = state.rows.entry(worker).or_default();
                    row.retain(|volume| volume.holds.sequence != sequence);
                }
            }
        });
    }

    /// Whether a segment is complete, and whether a reader still needs it.
    pub(crate) fn is_free(&self, worker: u16, sequence: u64) -> (bool, bool) {
        let mut state = self.state();
        // One that nobody has put up is on its way: its first commit has not ended.
        let complete = state.volume(worker, sequence).is_some_and(|volume| volume.complete);
        (complete, state.is_unread(worker, sequence))
    }

    /// What is committed of a segment, as far as anybody knows.
    pub(crate) fn holds(&self, worker: u16, sequence: u64) -> Option<Committed> {
        self.state().volume(worker, sequence).map(|volume| volume.holds)
    }

    /// Bytes of a segment that a reader has not read yet: of the one that is furthest behind.
    pub(crate) fn unread_bytes(&self, worker: u16, sequence: u64) -> u64 {
        let mut state = self.state();
        let Some(Volume { holds, .. }) = state.volume(worker, sequence).copied() else { return 0 };
        let position =
            |own: &BTreeMap<u16, Position>| own.get(&worker).copied().unwrap_or_default();
        state.positions.iter().map(|own| unread_bytes(&holds, position(own))).max().unwrap_or(0)
    }

    /// The highest number a segment of this worker has had, as far as anybody remembers.
    pub(crate) fn last_sequence(&self, worker: u16) -> u64 {
        let state = self.state();
        let row = state.rows.get(&worker).and_then(|row| row.back());
        let read = state.positions.iter().filter_map(|positions| positions.get(&worker));
        let read = read.map(|position| position.sequence).max().unwrap_or(0);
        let taken = state.taken.get(&worker).copied().unwrap_or(0);
        row.map_or(0, |volume| volume.holds.sequence).max(read).max(taken)
    }

    /// Adds a reader that has come so far. Readers are numbered from 0 up.
    pub(crate) fn register(&self, positions: BTreeMap<u16, Position>) {
        self.state().positions.push(positions);
    }

    /// A reader needs nothing before these positions any more.
    pub fn passed(&self, reader: usize, positions: &BTreeMap<u16, Position>) {
        let mut state = self.state();
        let own = state.positions.get_mut(reader);
        if let Some(own) = own.filter(|own| *own != positions) {
            own.clone_from(positions);
            state.changes += 1;
            self.changed.notify_all();
        }
        // What is gone and needed by nobody is forgotten.
        let State { rows, positions, .. } = &mut *state;
        for (worker, row) in rows {
            let passed = |position: Option<&Position>, volume: &Volume| {
                position.is_some_and(|position| position.sequence > volume.holds.sequence)
            };
            row.retain(|volume| {
                !volume.gone || !positions.iter().all(|own| passed(own.get(worker), volume))
            });
        }
    }

    /// The workers there are segments of.
    #[must_use]
    pub fn workers(&self) -> Vec<u16> {
        self.state().rows.keys().copied().collect()
    }

    /// A worker's first segment from number `sequence` on.
    #[must_use]
    pub fn from(&self, worker: u16, sequence: u64) -> Option<Volume> {
        let state = self.state();
        let row = state.rows.get(&worker)?;
        let place = row.partition_point(|volume| volume.holds.sequence < sequence);
        row.get(place).copied()
    }

    /// What is gone unread in front of everything else behind these positions.
    #[must_use]
    pub fn gone(&self, positions: &BTreeMap<u16, Position>) -> Vec<Gone> {
        let state = self.state();
        let mut found = Vec::new();
        for (worker, row) in &state.rows {
            let position = positions.get(worker).copied().unwrap_or_default();
            let place = row.partition_point(|one| one.holds.sequence < position.sequence);
            let ahead = row.range(place..);
            let ahead = ahead.filter(|one| !one.complete || unread(&one.holds, position) > 0);
            for Volume { holds, own, .. } in ahead.take_while(|one| one.gone) {
                let is_within = holds.sequence == position.sequence;
                let before = if is_within { position.datagrams } else { 0 };
                let Committed { sequence, offset, records, datagrams } = *holds;
                found.push(Gone {
                    worker: *worker,
                    after: Position { sequence, offset, records, datagrams },
                    own: *own,
                    records: unread(holds, position),
                    datagrams: datagrams.saturating_sub(before),
                });
            }
        }
        found
    }

    /// What a reader has before it.
    #[must_use]
    pub fn backlog(&self, reader: usize) -> Backlog {
        let state = self.state();
        let mut sum = Backlog::default();
        let Some(positions) = state.positions.get(reader) else { return sum };
        for (worker, row) in &state.rows {
            let position = positions.get(worker).copied().unwrap_or_default();
            for Volume { holds, .. } in row {
                // What is found in a journal may say anything of itself.
                sum.records = sum.records.saturating_add(unread(holds, position));
                sum.bytes = sum.bytes.saturating_add(unread_bytes(holds, position));
            }
        }
        sum
    }

    /// How often anything has changed so far.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.state().changes
    }

    /// Waits until there are more than so many changes, at most for `bound`.
    pub fn wait(&self, changes: u64, bound: Duration) {
        let same = |state: &mut State| state.changes == changes;
        // A poisoned lock is one somebody panicked with; what it holds is whole all the same.
        drop(self.changed.wait_timeout_while(self.state(), bound, same));
    }

    /// Wakes everybody who waits.
    pub fn wake(&self) {
        self.change(|_| {});
    }
}

impl State {
    fn volume(&mut self, worker: u16, sequence: u64) -> Option<&mut Volume> {
        let row = self.rows.get_mut(&worker)?;
        let place = row.binary_search_by_key(&sequence, |volume| volume.holds.sequence).ok()?;
        row.get_mut(place)
    }

    fn is_unread(&mut self, worker: u16, sequence: u64) -> bool {
        let Some(Volume { holds, .. }) = self.volume(worker, sequence).copied() else {
            return false;
        };
        let position = |positions: &BTreeMap<u16, Position>| positions.get(&worker).copied();
        self.positions.iter().any(|own| unread(&holds, position(own).unwrap_or_default()) > 0)
    }
}

/// Records of a segment behind a position.
fn unread(holds: &Committed, position: Position) -> u64 {
    if holds.sequence == position.sequence {
        // Damage before the position takes records that were counted there; those behind it are still unread.
        let left = holds.records.saturating_sub(position.records);
        left.max(u64::from(holds.offset > position.offset && position.offset > 0))
    } else if holds.sequence > position.sequence {
        holds.records
    } else {
        0
    }
}

/// Bytes of a segment behind a position.
fn unread_bytes(holds: &Committed, position: Position) -> u64 {
    match holds.sequence.cmp(&position.sequence) {
        Ordering::Less => 0,
        Ordering::Equal => holds.offset.saturating_sub(position.offset),
        Ordering::Greater => holds.offset,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(sequence: u64, records: u64) -> Committed {
        Committed { sequence, offset: 64 + 100 * records, records, datagrams: records }
    }

    #[test]
    fn a_backlog_is_what_is_committed_and_not_passed() {
        let shelf = CommitIndex::default();
        shelf.put(0, holds(1, 10));
        shelf.committed(0, holds(2, 3));
        shelf.committed(1, holds(1, 5));
        shelf.register(BTreeMap::new());
        let reader = 0;
        assert_eq!(shelf.backlog(reader), Backlog { records: 18, bytes: 3 * 64 + 1800 });
        assert_eq!(shelf.is_free(0, 1), (true, true));
        assert_eq!(shelf.is_free(0, 3), (false, false), "nothing of it is committed yet");
        let at = |sequence, records: u64| Position {
            sequence,
            offset: 64 + 100 * records,
            records,
            datagrams: records,
        };
        shelf.passed(reader, &BTreeMap::from([(0, at(2, 1)), (1, at(1, 5))]));
        assert_eq!(shelf.backlog(reader), Backlog { records: 2, bytes: 200 });
        assert_eq!(shelf.is_free(0, 1), (true, false));
        assert_eq!(shelf.is_free(0, 2), (false, true));
        assert_eq!(shelf.is_free(1, 1), (false, false));
    }

    #[test]
    fn what_waits_of_a_segment_is_what_the_slowest_has_not_read() {
        let shelf = CommitIndex::default();
        shelf.put(0, holds(1, 10));
        assert_eq!(shelf.unread_bytes(0, 1), 0, "nobody reads");
        let at = |records| {
            let Committed { sequence, offset, records, datagrams } = holds(1, records);
            BTreeMap::from([(0, Position { sequence, offset, records, datagrams })])
        };
        shelf.register(at(9));
        assert_eq!(shelf.unread_bytes(0, 1), 100);
        shelf.register(at(4));
        assert_eq!((shelf.unread_bytes(0, 1), shelf.unread_bytes(0, 2)), (600, 0));
        shelf.register(BTreeMap::new());
        assert_eq!(shelf.unread_bytes(0, 1), 64 + 1000);
    }

    /// Damage takes records that were read already from what a segment holds; those behind it are unread all the same.
    #[test]
    fn what_is_unread_behind_damage_is_not_let_go() {
        let shelf = CommitIndex::default();
        shelf.put(0, Committed { records: 6, ..holds(1, 10) });
        let Committed { sequence, offset, records, datagrams } = holds(1, 6);
        let position = Position { sequence, offset, records, datagrams };
        shelf.register(BTreeMap::from([(0, position)]));
        assert_eq!(shelf.is_free(0, 1), (true, true));
        let end = Position { offset: holds(1, 10).offset, ..position };
        shelf.passed(0, &BTreeMap::from([(0, end)]));
        assert_eq!(shelf.is_free(0, 1), (true, false));
    }

    #[test]
    fn a_number_that_is_taken_is_not_given_again() {
        let shelf = CommitIndex::default();
        shelf.put(3, holds(4, 1));
        shelf.remember(3, 9);
        shelf.remember(3, 2);
        assert_eq!((shelf.last_sequence(3), shelf.last_sequence(4)), (9, 0));
    }

    #[test]
    fn that_a_reader_has_moved_is_a_change() {
        let shelf = CommitIndex::default();
        shelf.put(0, holds(1, 10));
        shelf.register(BTreeMap::new());
        let end = BTreeMap::from([(0, Position { sequence: 2, ..Position::default() })]);
        let before = shelf.changes();
        shelf.passed(0, &end);
        assert_eq!(shelf.changes(), before + 1, "the janitor may let it go now");
        shelf.passed(0, &end);
        assert_eq!(shelf.changes(), before + 1, "nobody is woken for nothing");
    }

    #[test]
    fn what_is_given_up_is_gone_until_the_readers_have_left() {
        let shelf = CommitIndex::default();
        (1..6).for_each(|sequence| shelf.put(0, holds(sequence, 4)));
        let within = Position { sequence: 1, offset: 164, records: 1, datagrams: 1 };
        let positions = BTreeMap::from([(0, within)]);
        shelf.register(positions.clone());
        assert!(shelf.give_up(0, 3));
        assert_eq!(shelf.gone(&positions), [], "what is before it is not passed yet");
        assert!(shelf.give_up(0, 1) && shelf.give_up(0, 2));
        assert!(!shelf.has(0, 2) && shelf.has(0, 4));
        let gone = shelf.gone(&positions);
        let unread: Vec<_> =
            gone.iter().map(|one| (one.after.sequence, one.records, one.datagrams)).collect();
        assert_eq!(unread, [(1, 3, 3), (2, 4, 4), (3, 4, 4)]);
        shelf.take_back(0, 2);
        assert_eq!(shelf.gone(&positions).len(), 1);
        shelf.leave();
        assert!(!shelf.give_up(0, 4));
        assert!(shelf.has(0, 4), "there is nobody left to count it");
        let behind = BTreeMap::from([(0, Position { sequence: 5, ..Position::default() })]);
        shelf.passed(0, &behind);
        assert_eq!((shelf.gone(&behind), shelf.give_up(0, 4)), (Vec::new(), true));
    }

    #[test]
    fn what_a_journal_says_of_itself_adds_up_without_end() {
        let shelf = CommitIndex::default();
        let all =
            |sequence| Committed { sequence, offset: u64::MAX, records: u64::MAX, datagrams: 0 };
        (1..3).for_each(|sequence| shelf.put(0, all(sequence)));
        shelf.register(BTreeMap::new());
        assert_eq!(shelf.backlog(0), Backlog { records: u64::MAX, bytes: u64::MAX });
    }

    #[test]
    fn what_goes_unread_is_remembered_until_it_was_met() {
        let shelf = CommitIndex::default();
        (1..4).for_each(|sequence| shelf.put(0, holds(sequence, 2)));
        shelf.register(BTreeMap::new());
        let reader = 0;
        shelf.removed(0, 1);
        assert!(shelf.from(0, 0).is_some_and(|volume| volume.gone));
        let next = Position { sequence: 2, ..Position::default() };
        shelf.passed(reader, &BTreeMap::from([(0, next)]));
        assert_eq!(shelf.from(0, 0).map(|volume| volume.holds.sequence), Some(2));
        // Numbers are not used twice, even if nothing is left.
        (2..4).for_each(|sequence| shelf.removed(0, sequence));
        let end = Position { sequence: 4, ..Position::default() };
        shelf.passed(reader, &BTreeMap::from([(0, end)]));
        assert_eq!((shelf.from(0, 0), shelf.last_sequence(0)), (None, 4));
    }
}
