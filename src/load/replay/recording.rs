//! A recording to replay: a capture file, or records of a journal.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use crate::replay::capture::{Capture, Captured};
use crate::replay::error::{ReplayError, Skipped};
use ringest_engine::wire::limits::PAYLOAD_BYTES_MAX;
use ringest_records::journal::read::merge::{Merge, Step, What};
use ringest_records::journal::read::select::Selection;
use ringest_records::journal::segment;
use ringest_records::journal::segment::SegmentFile;

/// A recording. Each thread reads it separately, and all read the same.
#[derive(Clone, Debug)]
pub enum Recording {
    /// A capture file.
    Capture(PathBuf),
    /// Records of a journal.
    Journal(Box<Records>),
}

/// Records of a journal at one moment.
#[derive(Clone, Debug)]
pub struct Records {
    dir: PathBuf,
    segments: Vec<SegmentFile>,
    selection: Selection,
}

impl Records {
    /// Selects the records that the journal holds now; later ones are not replayed.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn of(dir: &Path, selection: Selection) -> std::io::Result<Self> {
        Ok(Self { dir: dir.to_owned(), segments: segment::list(dir)?, selection })
    }
}

impl fmt::Display for Recording {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Capture(path) => path.display().fmt(f),
            Self::Journal(records) => records.dir.display().fmt(f),
        }
    }
}

impl Recording {
    /// Opens the recording at its beginning.
    ///
    /// # Errors
    /// The recording cannot be read.
    pub fn open(&self) -> Result<Tape, ReplayError> {
        Ok(match self {
            Self::Capture(path) => Tape::Capture(Box::new(Capture::open(path)?)),
            Self::Journal(records) => Tape::Journal(Box::new(Playback {
                name: self.to_string(),
                merge: Merge::of(records.segments.clone(), records.selection.clone()),
                datagrams: 0,
                first_unix_ns: None,
                offset_ns: 0,
                backwards: 0,
                skipped: Skipped::default(),
                payload: Vec::new(),
            })),
        })
    }
}

/// A recording that is being read.
#[derive(Debug)]
pub enum Tape {
    /// A capture file.
    Capture(Box<Capture>),
    /// Records of a journal.
    Journal(Box<Playback>),
}

impl Tape {
    /// Returns the next datagram, or `None` at the end.
    ///
    /// # Errors
    /// Those of [`Capture::next_datagram`]; for a journal, part of it was removed meanwhile, or it has no
    /// record to replay.
    pub fn next_datagram(&mut self) -> Result<Option<Captured<'_>>, ReplayError> {
        match self {
            Self::Capture(capture) => capture.next_datagram(),
            Self::Journal(playback) => playback.next_datagram(),
        }
    }

    /// Returns the number of datagrams returned so far.
    #[must_use]
    pub fn datagrams(&self) -> u64 {
        match self {
            Self::Capture(capture) => capture.datagrams(),
            Self::Journal(playback) => playback.datagrams,
        }
    }

    /// Returns the number of datagrams with a time before that of an earlier one.
    #[must_use]
    pub fn backwards(&self) -> u64 {
        match self {
            Self::Capture(capture) => capture.backwards(),
            Self::Journal(playback) => playback.backwards,
        }
    }

    /// Returns the packets or records skipped so far.
    #[must_use]
    pub fn skipped(&self) -> Skipped {
        match self {
            Self::Capture(capture) => capture.skipped(),
            Self::Journal(playback) => playback.skipped,
        }
    }
}

/// Records of a journal that are being read.
#[derive(Debug)]
pub struct Playback {
    name: String,
    merge: Merge,
    datagrams: u64,
    first_unix_ns: Option<u64>,
    offset_ns: u64,
    backwards: u64,
    skipped: Skipped,
    payload: Vec<u8>,
}

impl Playback {
    fn next_datagram(&mut self) -> Result<Option<Captured<'_>>, ReplayError> {
        let source = loop {
            let record = match self.merge.next_step() {
                Some(Step::Record(record)) => record,
                Some(Step::Trouble(trouble)) => {
                    if let What::Gone = trouble.what {
                        return Err(ReplayError::Gone { name: self.name.clone() });
                    }
                    self.skipped.damaged += 1;
                    continue;
                }
                Some(Step::Pause) => continue,
                None if self.datagrams == 0 => {
                    let (name, skipped) = (self.name.clone(), self.skipped);
                    return Err(ReplayError::NoRecord { name, skipped });
                }
                None => return Ok(None),
            };
            if record.payload.len() > PAYLOAD_BYTES_MAX {
                self.skipped.oversize += 1;
                continue;
            }
            let first = *self.first_unix_ns.get_or_insert(record.received_unix_ns);
            let offset_ns = record.received_unix_ns.saturating_sub(first);
            self.backwards += u64::from(offset_ns < self.offset_ns);
            self.offset_ns = self.offset_ns.max(offset_ns);
            self.payload.clear();
            self.payload.extend_from_slice(record.payload);
            break record.peer;
        };
        self.datagrams += 1;
        Ok(Some(Captured {
            offset_ns: self.offset_ns,
            source,
            // The journal holds the number of the listener, not its address.
            destination: SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0),
            payload: &self.payload,
        }))
    }
}
