//! Reads one worker's segments for a shipper, record by record, up to what is committed.

use std::io;
use std::net::SocketAddr;

use crate::carrier::{Message, MessageId};
use ringest_records::journal::dir::JournalDir;
use ringest_records::journal::format::HEADER_BYTES;
use ringest_records::journal::keep::commit_index::{CommitIndex, Position, SegmentState};
use ringest_records::journal::read::gaps::is_eio;
use ringest_records::journal::read::reader::{Next, ReadError, Reader};

/// How often reading a place of the journal may fail with EIO before it is skipped: about 10 seconds of
/// attempts.
const GAP_TRIES: u32 = 8;

/// The next record.
#[derive(Debug, Default)]
struct Head {
    id: Option<MessageId>,
    peer: Option<SocketAddr>,
    listener: u16,
    received_unix_ns: u64,
    payload: Vec<u8>,
    continued: bool,
    /// Offset of the record after it, bytes.
    end: u64,
}

/// The next thing in a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ahead {
    /// A record, in the lane's head.
    Record,
    /// Committed records and datagrams that can no longer be read.
    Missing { records: u64, datagrams: u64 },
    /// Nothing that is committed.
    Nothing,
}

/// A step past a record, or past missing records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Step {
    /// Position after the step.
    pub(crate) after: Position,
    /// Whether this process wrote the segment.
    pub(crate) own: bool,
    /// Whether a datagram ends there.
    pub(crate) ends: bool,
}

/// Reads one worker's segments.
#[derive(Debug)]
pub(crate) struct Lane {
    worker: u16,
    /// Position up to which records were taken. The record in the head is not.
    position: Position,
    /// Whether this process wrote the current segment.
    own: bool,
    reader: Option<Reader>,
    /// Position at which the disk last failed to read, and how often it did.
    failed_at: Option<Position>,
    gap_tries: u32,
    /// Number of the last segment in which unreadable places are skipped.
    gaps_passed: Option<u64>,
    /// Message ID of the current segment at offset 0.
    first: MessageId,
    /// Offset up to which the reader may read, bytes.
    end: u64,
    head: Head,
    has_head: bool,
}

impl Lane {
    pub(crate) fn new(worker: u16, position: Position) -> Self {
        Self {
            worker,
            position,
            own: false,
            reader: None,
            failed_at: None,
            gap_tries: 0,
            gaps_passed: None,
            first: MessageId::default(),
            end: 0,
            head: Head::default(),
            has_head: false,
        }
    }

    /// Moves to `position`, backward or forward.
    pub(crate) fn rewind(&mut self, position: Position) {
        let Self { worker, failed_at, gap_tries, gaps_passed, .. } = *self;
        *self = Self { failed_at, gap_tries, gaps_passed, ..Self::new(worker, position) };
    }

    /// Counts failed reads. After [`GAP_TRIES`] at one place, unreadable places of this segment are
    /// skipped: their records are missing, and no others are.
    fn failed(&mut self, error: &io::Error) {
        if !is_eio(error) {
            return;
        }
        let again = self.failed_at == Some(self.position);
        self.gap_tries = if again { self.gap_tries + 1 } else { 1 };
        self.failed_at = Some(self.position);
        if self.gap_tries == GAP_TRIES {
            self.gaps_passed = Some(self.position.sequence);
        }
    }

    /// Returns the next record as a message.
    pub(crate) fn message(&self, ticket: u64) -> Option<Message<'_>> {
        Some(Message {
            ticket,
            id: self.head.id?,
            peer: self.head.peer?,
            listener: self.head.listener,
            received_unix_ns: self.head.received_unix_ns,
            payload: &self.head.payload,
        })
    }

    /// Returns the receive time of the next record, or `None` if it is not known.
    pub(crate) fn waiting_since(&self) -> Option<u64> {
        self.has_head.then_some(self.head.received_unix_ns)
    }

    /// Looks at what is next, without stepping past it.
    pub(crate) fn look(
        &mut self,
        journal_dir: &JournalDir,
        commit_index: &CommitIndex,
    ) -> io::Result<Ahead> {
        self.look_on(journal_dir, commit_index).inspect_err(|error| self.failed(error))
    }

    fn look_on(
        &mut self,
        journal_dir: &JournalDir,
        commit_index: &CommitIndex,
    ) -> io::Result<Ahead> {
        // Usually more of the part that was known to be committed is left.
        if self.has_head || self.position.offset < self.end && self.read()? {
            return Ok(Ahead::Record);
        }
        loop {
            let Some(volume) = commit_index.first_from(self.worker, self.position.sequence) else {
                return Ok(Ahead::Nothing);
            };
            if volume.holds.sequence != self.position.sequence {
                self.rewind(Position { sequence: volume.holds.sequence, ..Position::default() });
            }
            self.own = volume.own;
            let missing = missing(&volume, self.position);
            if self.position.offset >= volume.holds.offset {
                match (missing, volume.complete) {
                    (None, true) if self.next_segment() => {}
                    (None, _) => return Ok(Ahead::Nothing),
                    (Some(missing), _) => return Ok(missing),
                }
                continue;
            }
            if volume.gone || !self.open(journal_dir)? {
                match (missing, volume.complete) {
                    (Some(missing), _) => return Ok(missing),
                    (None, true) if self.next_segment() => {}
                    (None, _) => return Ok(Ahead::Nothing),
                }
                continue;
            }
            self.end = volume.holds.offset;
            if self.read()? {
                return Ok(Ahead::Record);
            }
            // Damaged up to the end of the committed part: missing records are reported once the segment is
            // complete.
            if !volume.complete {
                return Ok(Ahead::Nothing);
            }
            // If damage was not counted, no record is missing by number; the position still moves behind
            // it.
            return Ok(missing.unwrap_or(Ahead::Missing { records: 0, datagrams: 0 }));
        }
    }

    /// Steps past what [`look`](Self::look) returned.
    pub(crate) fn step(
        &mut self,
        ahead: Ahead,
        journal_dir: &JournalDir,
        commit_index: &CommitIndex,
    ) -> io::Result<Step> {
        let own = self.own;
        match ahead {
            Ahead::Record => {
                self.has_head = false;
                self.position.offset = self.head.end;
                let begins = u64::from(!self.head.continued);
                self.position.records = self.position.records.saturating_add(1);
                self.position.datagrams = self.position.datagrams.saturating_add(begins);
            }
            Ahead::Missing { records, datagrams } => {
                self.position.records = self.position.records.saturating_add(records);
                self.position.datagrams = self.position.datagrams.saturating_add(datagrams);
                let held = commit_index.first_from(self.worker, self.position.sequence);
                let end = held.map_or(HEADER_BYTES as u64, |volume| volume.holds.offset);
                self.position.offset = self.position.offset.max(end);
            }
            Ahead::Nothing => {}
        }
        let after = self.position;
        // A datagram's records are in one segment, and are committed together.
        let more = self.look(journal_dir, commit_index)? == Ahead::Record
            && self.position.sequence == after.sequence
            && self.head.continued;
        Ok(Step { after, own, ends: !more })
    }

    /// Moves to the next segment. Returns `false` if there is no higher number.
    fn next_segment(&mut self) -> bool {
        let next = self.position.sequence.checked_add(1);
        if let Some(sequence) = next {
            self.rewind(Position { sequence, ..Position::default() });
        }
        next.is_some()
    }

    /// Opens the current segment. Returns `false` if it was removed or is unreadable.
    fn open(&mut self, journal_dir: &JournalDir) -> io::Result<bool> {
        if self.reader.is_some() {
            return Ok(true);
        }
        let (worker, sequence) = (self.worker, self.position.sequence);
        match Reader::find(journal_dir.dir(), worker, sequence) {
            Ok(mut reader) => {
                reader.seek(self.position.offset);
                if self.gaps_passed.is_some_and(|passed| sequence <= passed) {
                    reader.skip_gaps();
                }
                self.first = MessageId::first_of(reader.header(), worker, sequence);
                self.reader = Some(reader);
                Ok(true)
            }
            // If its disk is absent, it will be back: that is an error.
            Err(ReadError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {
                journal_dir.check().map(|()| false)
            }
            // The header is damaged: nothing of the segment can be read.
            Err(ReadError::NoSegment(_)) => Ok(false),
            Err(ReadError::Io(error)) => Err(error),
            Err(error @ ReadError::OtherVersion) => Err(io::Error::other(error)),
        }
    }

    /// Reads the next committed record into the head. Returns `false` if there is none before the known
    /// end.
    fn read(&mut self) -> io::Result<bool> {
        let Some(reader) = &mut self.reader else { return Ok(false) };
        reader.set_limit(self.end);
        loop {
            match reader.read_next()? {
                Next::Record { offset, record } => {
                    let head = &mut self.head;
                    head.id = Some(MessageId { offset, ..self.first });
                    head.peer = Some(record.peer);
                    (head.listener, head.continued) = (record.listener, record.continued);
                    head.received_unix_ns = record.received_unix_ns;
                    head.payload.clear();
                    head.payload.extend_from_slice(record.payload);
                    break;
                }
                Next::Damaged { .. } => {}
                Next::End { .. } => return Ok(false),
            }
        }
        self.head.end = reader.offset();
        self.has_head = true;
        Ok(true)
    }
}

/// Returns the records of a complete or removed segment behind `position`, as missing, or `None`.
fn missing(volume: &SegmentState, position: Position) -> Option<Ahead> {
    let records = volume.holds.records.saturating_sub(position.records);
    let datagrams = volume.holds.datagrams.saturating_sub(position.datagrams);
    (records > 0 && (volume.complete || volume.gone))
        .then_some(Ahead::Missing { records, datagrams })
}
