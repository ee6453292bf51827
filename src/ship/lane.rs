//! One worker's segments as a shipper reads them: record by record, up to what is committed.

use std::io;
use std::net::SocketAddr;

use crate::carrier::{Message, MessageId};
use ringest_records::journal::dir::JournalDir;
use ringest_records::journal::format::HEADER_BYTES;
use ringest_records::journal::keep::commit_index::{CommitIndex, Position, Volume};
use ringest_records::journal::read::gaps::is_eio;
use ringest_records::journal::read::reader::{Next, ReadError, Reader};

/// How often the disk may fail to read a place of the journal, until it is passed over: some 10 seconds of trying.
const GAP_TRIES: u32 = 8;

/// A record that is next.
#[derive(Debug, Default)]
struct Head {
    id: Option<MessageId>,
    peer: Option<SocketAddr>,
    listener: u16,
    received_unix_ns: u64,
    payload: Vec<u8>,
    continued: bool,
    /// Where the next one begins.
    end: u64,
}

/// What a lane has next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ahead {
    /// A record: [`Lane::head`].
    Record,
    /// So many records and datagrams that were committed and cannot be read any more.
    Missing { records: u64, datagrams: u64 },
    /// Nothing that is committed.
    Nothing,
}

/// A step over what was ahead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Step {
    /// The position behind it.
    pub(crate) after: Position,
    /// Whether its segment was written by this process.
    pub(crate) own: bool,
    /// Whether a datagram ends there.
    pub(crate) ends: bool,
}

/// See the module's description.
#[derive(Debug)]
pub(crate) struct Lane {
    worker: u16,
    /// Up to where it was read; the head is not.
    position: Position,
    /// Whether the segment it is in was written by this process.
    own: bool,
    reader: Option<Reader>,
    /// Where the disk could not read what is next, and how often.
    failed_at: Option<Position>,
    gap_tries: u32,
    /// What the disk cannot read is passed over in segments up to this one.
    gaps_passed: Option<u64>,
    /// What its records are called.
    first: MessageId,
    /// Up to where the reader may read.
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

    /// Goes back, or on.
    pub(crate) fn rewind(&mut self, position: Position) {
        let Self { worker, failed_at, gap_tries, gaps_passed, .. } = *self;
        *self = Self { failed_at, gap_tries, gaps_passed, ..Self::new(worker, position) };
    }

    /// What the disk did not read again and again it never will: those records are missing, and all others are not.
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

    /// The head as a message.
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

    /// When the head was received.
    pub(crate) fn waiting_since(&self) -> Option<u64> {
        self.has_head.then_some(self.head.received_unix_ns)
    }

    /// Looks at what is next, and stays before it.
    pub(crate) fn look(&mut self, home: &JournalDir, shelf: &CommitIndex) -> io::Result<Ahead> {
        self.look_on(home, shelf).inspect_err(|error| self.failed(error))
    }

    fn look_on(&mut self, home: &JournalDir, shelf: &CommitIndex) -> io::Result<Ahead> {
        // Most of the time there is more of what was known to be committed.
        if self.has_head || self.position.offset < self.end && self.read()? {
            return Ok(Ahead::Record);
        }
        loop {
            let Some(volume) = shelf.from(self.worker, self.position.sequence) else {
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
            if volume.gone || !self.open(home)? {
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
            // Damaged up to the end of what is committed: what is missing is told once it is complete.
            if !volume.complete {
                return Ok(Ahead::Nothing);
            }
            // Nothing is missing by number where damage was not counted: the position settles behind it all the same.
            return Ok(missing.unwrap_or(Ahead::Missing { records: 0, datagrams: 0 }));
        }
    }

    /// Steps over what [`look`](Self::look) has shown.
    pub(crate) fn step(
        &mut self,
        ahead: Ahead,
        home: &JournalDir,
        shelf: &CommitIndex,
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
                let held = shelf.from(self.worker, self.position.sequence);
                let end = held.map_or(HEADER_BYTES as u64, |volume| volume.holds.offset);
                self.position.offset = self.position.offset.max(end);
            }
            Ahead::Nothing => {}
        }
        let after = self.position;
        // A datagram's records are in one segment, and are committed together.
        let more = self.look(home, shelf)? == Ahead::Record
            && self.position.sequence == after.sequence
            && self.head.continued;
        Ok(Step { after, own, ends: !more })
    }

    /// Goes on to the next segment; `false`: no number is left for one.
    fn next_segment(&mut self) -> bool {
        let next = self.position.sequence.checked_add(1);
        if let Some(sequence) = next {
            self.rewind(Position { sequence, ..Position::default() });
        }
        next.is_some()
    }

    /// Opens the segment it is in; `false` if it is not there any more.
    fn open(&mut self, home: &JournalDir) -> io::Result<bool> {
        if self.reader.is_some() {
            return Ok(true);
        }
        let (worker, sequence) = (self.worker, self.position.sequence);
        match Reader::find(home.dir(), worker, sequence) {
            Ok(mut reader) => {
                reader.seek(self.position.offset);
                if self.gaps_passed.is_some_and(|passed| sequence <= passed) {
                    reader.pass_gaps();
                }
                self.first = MessageId::first_of(reader.header(), worker, sequence);
                self.reader = Some(reader);
                Ok(true)
            }
            // Or its disk is away, and it will be back.
            Err(ReadError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {
                home.check().map(|()| false)
            }
            // Its header is damaged: nothing of it can be read.
            Err(ReadError::NoSegment(_)) => Ok(false),
            Err(ReadError::Io(error)) => Err(error),
            Err(error @ ReadError::OtherVersion) => Err(io::Error::other(error)),
        }
    }

    /// Reads the next record that is known to be committed into the head.
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

/// What a segment held, and is not met from `position` on.
fn missing(volume: &Volume, position: Position) -> Option<Ahead> {
    let records = volume.holds.records.saturating_sub(position.records);
    let datagrams = volume.holds.datagrams.saturating_sub(position.datagrams);
    (records > 0 && (volume.complete || volume.gone))
        .then_some(Ahead::Missing { records, datagrams })
}
