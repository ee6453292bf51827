//! Writes one worker's segments: records into buffers, buffers into a file, commits behind them.
//!
//! ```text
//!  append ─► buffer ─► write … write ─► group closed (interval, or bytes) ─► sync ─► committed
//!                        several under way; the worker goes on meanwhile
//! ```
//! Counts are cumulative numbers of datagrams: appended ≥ committed. When a write or a sync fails,
//! everything uncommitted is given up, the segment is cut at its last commit, and a new segment is tried
//! [`RETRY_AFTER`] later; datagrams that arrive until then are given up too. The writer waits only when all
//! buffers are full, so a disk that stalls for seconds has no effect while there is room. Nothing here
//! calls the disk directly: files are created, cut and removed elsewhere.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::journal::disk::interface::{Disk, Done, SLOTS, Write};
use crate::journal::format::{HEADER_BYTES, Header, Record, record_bytes};
use crate::journal::names::path_of;
use crate::journal::writer::parts::{
    BUFFER_BYTES, Buffer, CommitGroup, Environment, OpenSegment, Refused,
};
use crate::journal::writer::spec::WriterSpec;
use crate::settle::run::{Committed, Event, Run, WriterCounts};

/// When this many writes are under way, only full buffers are written: while a disk stalls, each commit
/// interval would add another write.
const WRITES_UNDER_WAY: usize = 128;

/// How often to poll for completions when no datagram comes. Longer: commits are reported later than they
/// happen.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// Pause after a disk error before the next attempt.
const RETRY_AFTER: Duration = Duration::from_millis(250);

/// Writes one worker's segments. See the module's description.
#[derive(Debug)]
pub(crate) struct Writer<D> {
    pub(super) disk: D,
    pub(super) dir: PathBuf,
    pub(super) worker: u16,
    pub(super) sequence: u64,
    pub(super) spec: WriterSpec,
    pub(super) segments: [Option<OpenSegment>; SLOTS],
    /// Slot of the segment that records are appended to.
    pub(super) slot: usize,
    pub(super) buffers: Vec<Buffer>,
    pub(super) current: usize,
    pub(super) groups: VecDeque<CommitGroup>,
    /// Writes under way, by number: the buffer of each, and whether it has ended.
    pub(super) writes: VecDeque<(u64, usize, bool)>,
    pub(super) writes_begun: u64,
    pub(super) appended: u64,
    pub(super) committed: u64,
    pub(super) undelivered: u64,
    /// When the oldest uncommitted datagram was appended, and the segment's offset then.
    pub(super) since: Option<(Instant, u64)>,
    /// Records of the current datagram so far, and why it cannot be appended.
    pub(super) records: u64,
    pub(super) refused: Option<Refused>,
    pub(super) failed_at: Option<Instant>,
    /// The disk failed, and operations begun before have not ended: they still read from the buffers.
    pub(super) is_draining: bool,
    /// Whether a sync is under way.
    pub(super) syncing: bool,
    /// Whether no commit has succeeded since the disk failed.
    pub(super) is_failing: bool,
    pub(super) events: Vec<Event>,
    pub(super) runs: VecDeque<Run>,
    pub(super) done: Vec<Done>,
    pub(super) environment: Environment,
}

impl<D: Disk> Writer<D> {
    /// Creates a writer of `worker`'s segments, numbered from `sequence`. Creates no file before the first
    /// record.
    pub(crate) fn new(
        disk: D,
        buffers: usize,
        (dir, worker, sequence): (&Path, u16, u64),
        spec: WriterSpec,
        environment: Environment,
    ) -> Self {
        Self {
            disk,
            dir: dir.to_owned(),
            worker,
            sequence,
            spec,
            segments: [None, None],
            slot: 0,
            buffers: vec![Buffer::default(); buffers],
            current: 0,
            groups: VecDeque::new(),
            writes: VecDeque::new(),
            writes_begun: 0,
            appended: 0,
            committed: 0,
            undelivered: 0,
            since: None,
            records: 0,
            refused: None,
            failed_at: None,
            is_draining: false,
            syncing: false,
            is_failing: false,
            events: Vec::new(),
            runs: VecDeque::new(),
            done: Vec::new(),
            environment,
        }
    }

    pub(crate) fn counts(&self) -> WriterCounts {
        WriterCounts {
            committed: self.committed,
            undelivered: self.undelivered,
            pending: self.appended - self.committed,
        }
    }

    /// Returns the events since the last call.
    pub(crate) fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// Returns the outcomes of datagrams since the last call, in the order of the datagrams.
    pub(crate) fn take_runs(&mut self) -> VecDeque<Run> {
        std::mem::take(&mut self.runs)
    }

    /// Appends a record of the current datagram.
    pub(crate) fn push(&mut self, record: &Record<'_>, now: Instant) {
        if self.refused.is_none() {
            self.refused = self.append_record(record, now).err();
            self.records += 1;
        }
    }

    /// Ends the current datagram: it is committed, or given up, as a whole.
    pub(crate) fn end_datagram(&mut self, now: Instant) {
        let records = std::mem::take(&mut self.records);
        match self.refused.take() {
            // Without records there is nothing to write: it is as durable as the datagram before it.
            None if records == 0 => {
                self.committed += u64::from(self.appended == self.committed);
                self.appended += 1;
            }
            None => {
                self.appended += 1;
                if let Some(open) = &mut self.segments[self.slot] {
                    open.datagrams += 1;
                    open.records += records;
                }
                let offset = self.offset();
                self.since.get_or_insert((now, offset));
            }
            Some(Refused::BackingOff) => self.give_up(1),
            Some(Refused::Failed(error)) => {
                self.fail(error, now);
                self.give_up(1);
            }
        }
    }

    pub(super) fn give_up(&mut self, datagrams: u64) {
        self.undelivered += datagrams;
        Run::note(&mut self.runs, Run { datagrams, lost: true });
    }

    fn offset(&self) -> u64 {
        self.segments[self.slot].as_ref().map_or(0, |open| open.offset)
    }

    fn append_record(&mut self, record: &Record<'_>, now: Instant) -> Result<(), Refused> {
        if self.is_draining || self.failed_at.is_some_and(|at| now.duration_since(at) < RETRY_AFTER)
        {
            return Err(Refused::BackingOff);
        }
        let bytes = record_bytes(record.payload.len());
        let full = |open: &OpenSegment| {
            open.offset + bytes as u64 > self.spec.segment_bytes
                && open.offset > HEADER_BYTES as u64
                || self.is_old(open, now)
        };
        // All records of a datagram are in one segment, even if that makes it a little too large.
        if self.records == 0 && self.segments[self.slot].as_ref().is_some_and(full) {
            self.rotate()?;
        }
        if self.segments[self.slot].is_none() {
            self.begin(now)?;
        }
        self.make_room(bytes)?;
        let Some(open) = &mut self.segments[self.slot] else { return Err(Refused::BackingOff) };
        let buffer = &mut self.buffers[self.current];
        let room = &mut self.disk.buffer(self.current)[buffer.fill..buffer.fill + bytes];
        let record = Record { continued: self.records > 0, ..*record };
        record.encode(room, open.header.salt, open.offset);
        step!("record-encoded");
        buffer.fill += bytes;
        open.offset += bytes as u64;
        Ok(())
    }

    fn is_old(&self, open: &OpenSegment, now: Instant) -> bool {
        now.duration_since(open.begun) >= self.spec.segment_age
    }

    /// Begins a new segment in the current slot.
    fn begin(&mut self, now: Instant) -> Result<(), Refused> {
        let header = Header {
            worker: self.worker,
            sequence: self.sequence,
            salt: (self.environment.salt)(),
            created_unix_ns: (self.environment.now_unix_ns)(),
        };
        let path = path_of(&self.dir, self.worker, self.sequence);
        // A number is never used twice, even if creating its file fails.
        self.sequence += 1;
        self.disk.create(self.slot, &path).map_err(Refused::Failed)?;
        self.segments[self.slot] = Some(OpenSegment {
            path,
            header,
            offset: HEADER_BYTES as u64,
            datagrams: 0,
            records: 0,
            committed: 0,
            creating: true,
            begun: now,
            closing: false,
        });
        self.make_room(HEADER_BYTES)?;
        let buffer = &mut self.buffers[self.current];
        let room = &mut self.disk.buffer(self.current)[buffer.fill..buffer.fill + HEADER_BYTES];
        room.copy_from_slice(&header.encode());
        buffer.fill += HEADER_BYTES;
        step!("header-encoded");
        self.failed_at = None;
        Ok(())
    }

    /// Ends the current segment, unless the one before it still waits for its last commit.
    fn rotate(&mut self) -> Result<(), Refused> {
        let next = (self.slot + 1) % SLOTS;
        if self.segments[next].is_some() {
            self.progress(false)?;
        }
        if self.segments[next].is_some() {
            return Ok(());
        }
        if let Some(open) = &mut self.segments[self.slot] {
            open.closing = true;
        }
        step!("rotation-begun");
        self.close_group()?;
        self.slot = next;
        Ok(())
    }

    /// Makes sure that the current buffer has room for `bytes`. Waits for a buffer if all are being
    /// written.
    fn make_room(&mut self, bytes: usize) -> Result<(), Refused> {
        if self.buffers[self.current].fill + bytes <= BUFFER_BYTES {
            return Ok(());
        }
        self.submit_current()?;
        loop {
            let free = |buffer: &Buffer| buffer.under_way == 0 && buffer.fill == buffer.submitted;
            if let Some(index) = self.buffers.iter().position(free) {
                self.buffers[index] = Buffer::default();
                self.current = index;
                return Ok(());
            }
            self.progress(true)?;
        }
    }

    /// Begins to write the unwritten part of the current buffer.
    fn submit_current(&mut self) -> Result<(), Refused> {
        let (index, slot) = (self.current, self.slot);
        let Buffer { fill, submitted, .. } = self.buffers[index];
        let Some(open) = &self.segments[slot] else { return Ok(()) };
        if fill == submitted {
            return Ok(());
        }
        let offset = open.offset - (fill - submitted) as u64;
        let number = self.writes_begun;
        let write = Write { number, slot, buffer: index, from: submitted, to: fill, offset };
        self.disk.write(write).map_err(Refused::Failed)?;
        step!("write-begun");
        self.writes_begun += 1;
        self.writes.push_back((number, index, false));
        self.buffers[index].submitted = fill;
        self.buffers[index].under_way += 1;
        Ok(())
    }

    /// Closes a group over everything that was appended so far.
    fn close_group(&mut self) -> Result<(), Refused> {
        self.since = None;
        let Some(open) = &self.segments[self.slot] else { return Ok(()) };
        let holds = Committed {
            sequence: open.header.sequence,
            offset: open.offset,
            records: open.records,
            datagrams: open.datagrams,
        };
        let last = self.groups.back().map_or(self.committed, |group| group.appended);
        if last == self.appended && !open.closing && open.offset == open.committed {
            return Ok(());
        }
        self.submit_current()?;
        let (slot, appended, writes) = (self.slot, self.appended, self.writes_begun);
        self.groups.push_back(CommitGroup { slot, appended, writes, holds, syncing: false });
        Ok(())
    }

    /// Commits what is due, and handles completions. Ends a segment that got too old even if no record
    /// comes: retention counts its age from its end.
    pub(crate) fn pump(&mut self, now: Instant) {
        if self.is_draining {
            self.drain();
            return;
        }
        let room = self.writes.len() < WRITES_UNDER_WAY;
        let due = room
            && self.since.is_some_and(|(since, from)| {
                now.duration_since(since) >= self.spec.commit_interval
                    || self.offset().saturating_sub(from) >= self.spec.commit_bytes
            });
        let aged =
            room && self.segments[self.slot].as_ref().is_some_and(|open| self.is_old(open, now));
        let ended = if aged { self.rotate() } else { Ok(()) };
        let closed = ended.and_then(|()| if due { self.close_group() } else { Ok(()) });
        if let Err(Refused::Failed(error)) = closed.and_then(|()| self.progress(false)) {
            self.fail(error, now);
        }
    }

    /// Returns how soon [`pump`](Self::pump) must be called if no datagram comes: to commit what is due, or
    /// to handle completions.
    pub(crate) fn due_within(&self, now: Instant) -> Option<Duration> {
        if self.is_draining || !self.groups.is_empty() {
            return Some(LOOK_EVERY);
        }
        let (since, _) = self.since?;
        let waited = now.saturating_duration_since(since);
        Some(self.spec.commit_interval.saturating_sub(waited).max(LOOK_EVERY))
    }

    /// Commits everything, and waits for it. No record may follow.
    pub(crate) fn finish(&mut self, now: Instant) {
        if let Some(open) = &mut self.segments[self.slot] {
            open.closing = true;
        }
        self.commit(now);
    }

    /// Commits everything, and waits for it.
    pub(crate) fn commit(&mut self, now: Instant) {
        self.await_drained();
        let mut finish = || -> Result<(), Refused> {
            self.close_group()?;
            while !self.groups.is_empty() {
                self.progress(true)?;
            }
            Ok(())
        };
        if let Err(Refused::Failed(error)) = finish() {
            self.fail(error, now);
            self.await_drained();
        }
    }

    #[cfg(test)]
    pub(crate) fn disk(&mut self) -> &mut D {
        &mut self.disk
    }
}
