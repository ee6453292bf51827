//! Index of the committed part of each segment, and of how far each reader has read. Writers record
//! commits, shippers read up to them, and the janitor sees which segments it may remove.

use std::cmp::Ordering;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::settle::run::Committed;

/// The state of one segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SegmentState {
    /// The committed part.
    pub holds: Committed,
    /// Whether this process wrote it, so that its datagrams are in the ledger.
    pub own: bool,
    /// Whether the segment is complete: nothing more will be committed to it.
    pub complete: bool,
    /// Whether retention removed it before every reader had read it.
    pub gone: bool,
}

/// A reader's position in a worker's segments. Everything before it is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// Number of the segment. Segments before it are read.
    pub sequence: u64,
    /// Offset of the next record, bytes; 0 for the first record.
    pub offset: u64,
    /// Records before it in the segment.
    pub records: u64,
    /// Datagrams before it in the segment.
    pub datagrams: u64,
}

/// The unread part of a segment that was removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone {
    /// Worker that wrote the segment.
    pub worker: u16,
    /// Position behind the segment's end.
    pub after: Position,
    /// Whether this process wrote it.
    pub own: bool,
    /// Number of unread records.
    pub records: u64,
    /// Number of unread datagrams.
    pub datagrams: u64,
}

/// The records that one reader has not read yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Number of committed records.
    pub records: u64,
    /// Their size on disk with record heads and padding, bytes.
    pub bytes: u64,
}

/// Index of committed segments. Shared by writers, shippers, the janitor and status displays.
#[derive(Debug, Default)]
pub struct CommitIndex {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Segments of each worker, sorted by number.
    segments: BTreeMap<u16, VecDeque<SegmentState>>,
    /// Highest segment number of each worker that is taken although that segment cannot be read.
    taken: BTreeMap<u16, u64>,
    /// Position of each reader, by worker.
    positions: Vec<BTreeMap<u16, Position>>,
    /// Whether all readers have stopped: segments they did not read are kept.
    readers_stopped: bool,
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

    /// Adds a segment of an earlier run. Segments of a worker must be added in order.
    pub(crate) fn add_earlier(&self, worker: u16, holds: Committed) {
        let segment = SegmentState { holds, own: false, complete: true, gone: false };
        self.change(|state| state.segments.entry(worker).or_default().push_back(segment));
    }

    /// Reserves the number of a segment that cannot be read, so that it is not used again.
    pub(crate) fn reserve_number(&self, worker: u16, sequence: u64) {
        let mut state = self.state();
        let highest = state.taken.entry(worker).or_default();
        *highest = sequence.max(*highest);
    }

    /// Records a commit to a segment of this process.
    pub(crate) fn record_commit(&self, worker: u16, holds: Committed) {
        self.change(|state| match state.segment(worker, holds.sequence) {
            Some(segment) => segment.holds = holds,
            None => {
                let segment = SegmentState { holds, own: true, complete: false, gone: false };
                state.segments.entry(worker).or_default().push_back(segment);
            }
        });
    }

    /// Marks a segment as complete: nothing more will be committed to it.
    pub(crate) fn mark_complete(&self, worker: u16, sequence: u64) {
        self.change(|state| {
            if let Some(segment) = state.segment(worker, sequence) {
                segment.complete = true;
            }
        });
    }

    /// Marks a segment as gone, before it is removed although a reader still needs it: its unread records
    /// will be counted as lost. Returns `false` if all readers have stopped, so that none would count them:
    /// the segment must then be kept.
    pub(crate) fn give_up(&self, worker: u16, sequence: u64) -> bool {
        let mut given_up = true;
        self.change(|state| {
            let needed = state.is_unread(worker, sequence);
            given_up = !(needed && state.readers_stopped);
            if let Some(segment) = state.segment(worker, sequence) {
                segment.gone |= needed && given_up;
            }
        });
        given_up
    }

    /// Undoes [`give_up`](Self::give_up): the segment could not be removed, so readers can still read it.
    pub(crate) fn undo_give_up(&self, worker: u16, sequence: u64) {
        self.change(|state| {
            if let Some(segment) = state.segment(worker, sequence) {
                segment.gone = false;
            }
        });
    }

    /// Notes that all readers are stopping. Unread segments are kept from now on, for the next start.
    pub fn stop_readers(&self) {
        self.change(|state| state.readers_stopped = true);
    }

    /// Returns whether a segment is indexed and not gone.
    pub(crate) fn contains(&self, worker: u16, sequence: u64) -> bool {
        self.state().segment(worker, sequence).is_some_and(|segment| !segment.gone)
    }

    /// Notes that a segment was removed. While a reader still needs it, its entry stays, marked as gone.
    pub(crate) fn removed(&self, worker: u16, sequence: u64) {
        self.change(|state| {
            let needed = state.is_unread(worker, sequence);
            match state.segment(worker, sequence) {
                Some(segment) if needed => segment.gone = true,
                _ => {
                    let own_segments = state.segments.entry(worker).or_default();
                    own_segments.retain(|segment| segment.holds.sequence != sequence);
                }
            }
        });
    }

    /// Returns whether a segment is complete, and whether a reader still needs it.
    pub(crate) fn is_free(&self, worker: u16, sequence: u64) -> (bool, bool) {
        let mut state = self.state();
        // A segment that is not indexed is new: its first commit has not ended.
        let complete = state.segment(worker, sequence).is_some_and(|segment| segment.complete);
        (complete, state.is_unread(worker, sequence))
    }

    /// Returns the committed part of a segment, or `None` if it is not indexed.
    pub(crate) fn committed(&self, worker: u16, sequence: u64) -> Option<Committed> {
        self.state().segment(worker, sequence).map(|segment| segment.holds)
    }

    /// Returns the unread bytes of a segment, for the reader that is furthest behind.
    pub(crate) fn unread_bytes(&self, worker: u16, sequence: u64) -> u64 {
        let mut state = self.state();
        let Some(SegmentState { holds, .. }) = state.segment(worker, sequence).copied() else {
            return 0;
        };
        let position =
            |own: &BTreeMap<u16, Position>| own.get(&worker).copied().unwrap_or_default();
        state.positions.iter().map(|own| unread_bytes(&holds, position(own))).max().unwrap_or(0)
    }

    /// Returns the highest segment number that is known of this worker, or 0.
    pub(crate) fn last_sequence(&self, worker: u16) -> u64 {
        let state = self.state();
        let own_segments = state.segments.get(&worker).and_then(|own_segments| own_segments.back());
        let read = state.positions.iter().filter_map(|positions| positions.get(&worker));
        let read = read.map(|position| position.sequence).max().unwrap_or(0);
        let taken = state.taken.get(&worker).copied().unwrap_or(0);
        own_segments.map_or(0, |segment| segment.holds.sequence).max(read).max(taken)
    }

    /// Adds a reader with its positions. Readers are numbered from 0.
    pub(crate) fn register(&self, positions: BTreeMap<u16, Position>) {
        self.state().positions.push(positions);
    }

    /// Moves a reader's positions forward: it no longer needs anything before them.
    pub fn advance_reader(&self, reader: usize, positions: &BTreeMap<u16, Position>) {
        let mut state = self.state();
        let own = state.positions.get_mut(reader);
        if let Some(own) = own.filter(|own| *own != positions) {
            own.clone_from(positions);
            state.changes += 1;
            self.changed.notify_all();
        }
        // Drop entries that are gone and that no reader needs.
        let State { segments, positions, .. } = &mut *state;
        for (worker, own_segments) in segments {
            let passed = |position: Option<&Position>, segment: &SegmentState| {
                position.is_some_and(|position| position.sequence > segment.holds.sequence)
            };
            own_segments.retain(|segment| {
                !segment.gone || !positions.iter().all(|own| passed(own.get(worker), segment))
            });
        }
    }

    /// Returns the workers that have segments.
    #[must_use]
    pub fn workers(&self) -> Vec<u16> {
        self.state().segments.keys().copied().collect()
    }

    /// Returns a worker's first segment with number `sequence` or higher.
    #[must_use]
    pub fn first_from(&self, worker: u16, sequence: u64) -> Option<SegmentState> {
        let state = self.state();
        let own_segments = state.segments.get(&worker)?;
        let place = own_segments.partition_point(|segment| segment.holds.sequence < sequence);
        own_segments.get(place).copied()
    }

    /// Returns the removed segments that come next at these positions, before any segment that still
    /// exists.
    #[must_use]
    pub fn gone(&self, positions: &BTreeMap<u16, Position>) -> Vec<Gone> {
        let state = self.state();
        let mut found = Vec::new();
        for (worker, own_segments) in &state.segments {
            let position = positions.get(worker).copied().unwrap_or_default();
            let place = own_segments.partition_point(|one| one.holds.sequence < position.sequence);
            let ahead = own_segments.range(place..);
            let ahead = ahead.filter(|one| !one.complete || unread(&one.holds, position) > 0);
            for SegmentState { holds, own, .. } in ahead.take_while(|one| one.gone) {
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

    /// Returns what a reader has not read yet.
    #[must_use]
    pub fn backlog(&self, reader: usize) -> Backlog {
        let state = self.state();
        let mut sum = Backlog::default();
        let Some(positions) = state.positions.get(reader) else { return sum };
        for (worker, own_segments) in &state.segments {
            let position = positions.get(worker).copied().unwrap_or_default();
            for SegmentState { holds, .. } in own_segments {
                // The numbers of a segment from disk may be anything.
                sum.records = sum.records.saturating_add(unread(holds, position));
                sum.bytes = sum.bytes.saturating_add(unread_bytes(holds, position));
            }
        }
        sum
    }

    /// Returns the number of changes so far.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.state().changes
    }

    /// Waits until there are more than `changes` changes, at most for `bound`.
    pub fn wait(&self, changes: u64, bound: Duration) {
        let same = |state: &mut State| state.changes == changes;
        // A poisoned lock means a panic elsewhere; the state is consistent all the same.
        drop(self.changed.wait_timeout_while(self.state(), bound, same));
    }

    /// Wakes all waiting threads.
    pub fn wake(&self) {
        self.change(|_| {});
    }
}

impl State {
    fn segment(&mut self, worker: u16, sequence: u64) -> Option<&mut SegmentState> {
        let own_segments = self.segments.get_mut(&worker)?;
        let place =
            own_segments.binary_search_by_key(&sequence, |segment| segment.holds.sequence).ok()?;
        own_segments.get_mut(place)
    }

    fn is_unread(&mut self, worker: u16, sequence: u64) -> bool {
        let Some(SegmentState { holds, .. }) = self.segment(worker, sequence).copied() else {
            return false;
        };
        let position = |positions: &BTreeMap<u16, Position>| positions.get(&worker).copied();
        self.positions.iter().any(|own| unread(&holds, position(own).unwrap_or_default()) > 0)
    }
}

/// Returns the number of records of a segment behind a position.
fn unread(holds: &Committed, position: Position) -> u64 {
    if holds.sequence == position.sequence {
        // Damage before the position reduces the count of records; records behind the position are unread
        // all the same.
        let left = holds.records.saturating_sub(position.records);
        left.max(u64::from(holds.offset > position.offset && position.offset > 0))
    } else if holds.sequence > position.sequence {
        holds.records
    } else {
        0
    }
}

/// Returns the bytes of a segment behind a position.
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
        let commit_index = CommitIndex::default();
        commit_index.add_earlier(0, holds(1, 10));
        commit_index.record_commit(0, holds(2, 3));
        commit_index.record_commit(1, holds(1, 5));
        commit_index.register(BTreeMap::new());
        let reader = 0;
        assert_eq!(commit_index.backlog(reader), Backlog { records: 18, bytes: 3 * 64 + 1800 });
        assert_eq!(commit_index.is_free(0, 1), (true, true));
        assert_eq!(commit_index.is_free(0, 3), (false, false), "nothing of it is committed yet");
        let at = |sequence, records: u64| Position {
            sequence,
            offset: 64 + 100 * records,
            records,
            datagrams: records,
        };
        commit_index.advance_reader(reader, &BTreeMap::from([(0, at(2, 1)), (1, at(1, 5))]));
        assert_eq!(commit_index.backlog(reader), Backlog { records: 2, bytes: 200 });
        assert_eq!(commit_index.is_free(0, 1), (true, false));
        assert_eq!(commit_index.is_free(0, 2), (false, true));
        assert_eq!(commit_index.is_free(1, 1), (false, false));
    }

    #[test]
    fn what_waits_of_a_segment_is_what_the_slowest_has_not_read() {
        let commit_index = CommitIndex::default();
        commit_index.add_earlier(0, holds(1, 10));
        assert_eq!(commit_index.unread_bytes(0, 1), 0, "nobody reads");
        let at = |records| {
            let Committed { sequence, offset, records, datagrams } = holds(1, records);
            BTreeMap::from([(0, Position { sequence, offset, records, datagrams })])
        };
        commit_index.register(at(9));
        assert_eq!(commit_index.unread_bytes(0, 1), 100);
        commit_index.register(at(4));
        assert_eq!((commit_index.unread_bytes(0, 1), commit_index.unread_bytes(0, 2)), (600, 0));
        commit_index.register(BTreeMap::new());
        assert_eq!(commit_index.unread_bytes(0, 1), 64 + 1000);
    }

    /// Damage reduces the count of a segment's records that were read already; those behind it are still
    /// unread.
    #[test]
    fn what_is_unread_behind_damage_is_not_let_go() {
        let commit_index = CommitIndex::default();
        commit_index.add_earlier(0, Committed { records: 6, ..holds(1, 10) });
        let Committed { sequence, offset, records, datagrams } = holds(1, 6);
        let position = Position { sequence, offset, records, datagrams };
        commit_index.register(BTreeMap::from([(0, position)]));
        assert_eq!(commit_index.is_free(0, 1), (true, true));
        let end = Position { offset: holds(1, 10).offset, ..position };
        commit_index.advance_reader(0, &BTreeMap::from([(0, end)]));
        assert_eq!(commit_index.is_free(0, 1), (true, false));
    }

    #[test]
    fn a_number_that_is_taken_is_not_given_again() {
        let commit_index = CommitIndex::default();
        commit_index.add_earlier(3, holds(4, 1));
        commit_index.reserve_number(3, 9);
        commit_index.reserve_number(3, 2);
        assert_eq!((commit_index.last_sequence(3), commit_index.last_sequence(4)), (9, 0));
    }

    #[test]
    fn that_a_reader_has_moved_is_a_change() {
        let commit_index = CommitIndex::default();
        commit_index.add_earlier(0, holds(1, 10));
        commit_index.register(BTreeMap::new());
        let end = BTreeMap::from([(0, Position { sequence: 2, ..Position::default() })]);
        let before = commit_index.changes();
        commit_index.advance_reader(0, &end);
        assert_eq!(commit_index.changes(), before + 1, "the janitor may let it go now");
        commit_index.advance_reader(0, &end);
        assert_eq!(commit_index.changes(), before + 1, "nobody is woken for nothing");
    }

    #[test]
    fn what_is_given_up_is_gone_until_the_readers_have_left() {
        let commit_index = CommitIndex::default();
        (1..6).for_each(|sequence| commit_index.add_earlier(0, holds(sequence, 4)));
        let within = Position { sequence: 1, offset: 164, records: 1, datagrams: 1 };
        let positions = BTreeMap::from([(0, within)]);
        commit_index.register(positions.clone());
        assert!(commit_index.give_up(0, 3));
        assert_eq!(commit_index.gone(&positions), [], "what is before it is not passed yet");
        assert!(commit_index.give_up(0, 1) && commit_index.give_up(0, 2));
        assert!(!commit_index.contains(0, 2) && commit_index.contains(0, 4));
        let gone = commit_index.gone(&positions);
        let unread: Vec<_> =
            gone.iter().map(|one| (one.after.sequence, one.records, one.datagrams)).collect();
        assert_eq!(unread, [(1, 3, 3), (2, 4, 4), (3, 4, 4)]);
        commit_index.undo_give_up(0, 2);
        assert_eq!(commit_index.gone(&positions).len(), 1);
        commit_index.stop_readers();
        assert!(!commit_index.give_up(0, 4));
        assert!(commit_index.contains(0, 4), "there is nobody left to count it");
        let behind = BTreeMap::from([(0, Position { sequence: 5, ..Position::default() })]);
        commit_index.advance_reader(0, &behind);
        assert_eq!((commit_index.gone(&behind), commit_index.give_up(0, 4)), (Vec::new(), true));
    }

    #[test]
    fn what_a_journal_says_of_itself_adds_up_without_end() {
        let commit_index = CommitIndex::default();
        let all =
            |sequence| Committed { sequence, offset: u64::MAX, records: u64::MAX, datagrams: 0 };
        (1..3).for_each(|sequence| commit_index.add_earlier(0, all(sequence)));
        commit_index.register(BTreeMap::new());
        assert_eq!(commit_index.backlog(0), Backlog { records: u64::MAX, bytes: u64::MAX });
    }

    #[test]
    fn what_goes_unread_is_remembered_until_it_was_met() {
        let commit_index = CommitIndex::default();
        (1..4).for_each(|sequence| commit_index.add_earlier(0, holds(sequence, 2)));
        commit_index.register(BTreeMap::new());
        let reader = 0;
        commit_index.removed(0, 1);
        assert!(commit_index.first_from(0, 0).is_some_and(|segment| segment.gone));
        let next = Position { sequence: 2, ..Position::default() };
        commit_index.advance_reader(reader, &BTreeMap::from([(0, next)]));
        assert_eq!(commit_index.first_from(0, 0).map(|segment| segment.holds.sequence), Some(2));
        // Numbers are not used twice, even if nothing is left.
        (2..4).for_each(|sequence| commit_index.removed(0, sequence));
        let end = Position { sequence: 4, ..Position::default() };
        commit_index.advance_reader(reader, &BTreeMap::from([(0, end)]));
        assert_eq!((commit_index.first_from(0, 0), commit_index.last_sequence(0)), (None, 4));
    }
}
