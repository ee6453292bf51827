//! Reads a segment from its first record to its last, past whatever is damaged.
//!
//! ```text
//!  record ─ record ─ ▒▒▒▒ damaged ─ record ─ record ─ torn
//!                    └ searched, 8 bytes at a time, for the next record
//! ```

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;

use crate::journal::format::{
    FOOTER_BYTES, Footer, Found, HEADER_BYTES, Header, INDEX_ENTRY_BYTES, INDEX_EVERY_BYTES,
    IndexEntry, OTHER_VERSION, RECORD_PAYLOAD_BYTES_MAX, Record, known_record, record_at,
    record_bytes,
};
use crate::journal::names;
use crate::journal::read::bytes::Bytes;
use crate::journal::read::gaps::is_eio;

/// How much is read at once. Not less than two of the largest records.
const WINDOW_BYTES: usize = 1 << 20;
/// Index entries read at once: an index is as long as its footer says, so it is never read whole.
const ENTRIES_AT_ONCE: usize = 4096;

/// A segment that is read, compressed or not.
#[derive(Debug)]
pub struct Reader {
    bytes: Bytes,
    header: Header,
    footer: Option<Footer>,
    /// One of the header's copies is damaged.
    header_is_worn: bool,
    /// The file ends in what was a footer.
    footer_is_worn: bool,
    window: Vec<u8>,
    /// Where in the segment the window begins.
    window_offset: u64,
    /// Where reading ends, whatever is behind.
    limit: u64,
    /// The window was filled since the last call.
    window_is_fresh: bool,
    /// Where the next record should be.
    offset: u64,
    /// Up to where there is something, as far as is known: an open segment grows.
    end: u64,
    /// Where in the window the last record is.
    last: Range<usize>,
    tally: Option<Tally>,
}

/// The hash of what was read, so that nothing is read twice for it.
#[derive(Debug)]
struct Tally {
    hasher: blake3::Hasher,
    /// Up to where it goes.
    upto: u64,
}

/// What came next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next<'a> {
    /// A record.
    Record {
        /// Where it stands.
        offset: u64,
        /// What it says.
        record: Record<'a>,
    },
    /// Bytes that are no record, with records behind them.
    Damaged {
        /// Where they begin.
        offset: u64,
        /// How many they are.
        bytes: u64,
    },
    /// The end. `torn` bytes behind the last record are none: a crash cut one off, or one is being
    /// written now.
    End {
        /// Where the last record ends.
        offset: u64,
        /// Bytes behind it.
        torn_bytes: u64,
    },
}

/// Why a file cannot be read as a segment.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file system said no.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It is none, or its beginning is damaged.
    #[error("{0}")]
    NoSegment(&'static str),
    /// A program that is newer wrote it.
    #[error("{OTHER_VERSION}")]
    OtherVersion,
}

impl Reader {
    /// Opens a segment, the compressed one if the plain one is gone. What is behind its header is looked
    /// at only as it is read.
    ///
    /// # Errors
    /// It cannot be read, or its header is not sound.
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let packed = names::packed_path(path).ok_or(error)?;
                Self::from_bytes(Bytes::open(File::open(packed)?, true)?)
            }
            file => Self::from_bytes(Bytes::open(file?, names::is_packed(path))?),
        }
    }

    /// Opens segment `sequence` of `worker` in the journal `dir`, compressed or not.
    ///
    /// # Errors
    /// The segment does not exist, cannot be read, or its header is damaged.
    pub fn find(dir: &Path, worker: u16, sequence: u64) -> Result<Self, ReadError> {
        let path = names::path_of(dir, worker, sequence);
        match (Self::open(&path), names::packed_path(&path)) {
            (Err(ReadError::Io(error)), Some(packed))
                if error.kind() == io::ErrorKind::NotFound =>
            {
                Self::open(&packed)
            }
            (opened, _) => opened,
        }
    }

    /// The same of a file that is open.
    ///
    /// # Errors
    /// It cannot be read, or its header is not sound.
    pub fn of(file: File) -> Result<Self, ReadError> {
        Self::from_bytes(Bytes::open(file, false)?)
    }

    fn from_bytes(mut bytes: Bytes) -> Result<Self, ReadError> {
        let copy = bytes.packed().and_then(crate::journal::read::packed::Packed::header);
        let mut head = [0; HEADER_BYTES];
        let got = bytes.read_at(&mut head, 0)?;
        let header = match copy {
            Some(header) => header,
            None => Header::decode(&head[..got]).map_err(|why| match why {
                OTHER_VERSION => ReadError::OtherVersion,
                why => ReadError::NoSegment(why),
            })?,
        };
        let mut this = Self {
            bytes,
            header,
            footer: None,
            header_is_worn: !Header::is_whole(&head[..got]),
            footer_is_worn: false,
            window: Vec::new(),
            window_offset: 0,
            limit: u64::MAX,
            window_is_fresh: false,
            offset: HEADER_BYTES as u64,
            end: 0,
            last: 0..0,
            tally: None,
        };
        this.look_at_the_end()?;
        Ok(this)
    }

    /// Up to where records may be read.
    fn end(&self) -> u64 {
        self.end.min(self.limit)
    }

    /// Finds out where records end by now; returns whether that is another place than before.
    fn look_at_the_end(&mut self) -> io::Result<bool> {
        let before = self.end;
        let bytes = self.bytes.len()?;
        self.footer = self.read_footer(bytes)?;
        self.end = self.footer.map_or(bytes, |footer| footer.data_end);
        Ok(self.end != before)
    }

    fn read_footer(&mut self, bytes: u64) -> io::Result<Option<Footer>> {
        let could_be = |footer: &Footer| {
            footer.data_end >= HEADER_BYTES as u64
                && footer.index_entries <= footer.data_end / INDEX_EVERY_BYTES + 1
        };
        let copy = self.bytes.packed().and_then(crate::journal::read::packed::Packed::footer);
        if copy.as_ref().is_some_and(could_be) {
            return Ok(copy);
        }
        let mut tail = [0; FOOTER_BYTES];
        let Some(at) = bytes.checked_sub(FOOTER_BYTES as u64) else { return Ok(None) };
        let got = match self.bytes.read_at(&mut tail, at) {
            // As good as damaged: the records can be read all the same.
            Err(error) if is_eio(&error) => 0,
            got => got?,
        };
        let is_gap = got == 0 || self.bytes.gaps_end() > at;
        // A record may end in bytes that look like a footer; its numbers must fit the file.
        let fits = |footer: &Footer| {
            footer.data_end.checked_add(footer.index_bytes()) == Some(at) && could_be(footer)
        };
        let footer = Footer::decode(&tail[..got], self.header.salt).filter(fits);
        self.footer_is_worn =
            footer.is_none() && (is_gap || Footer::was_one(&tail[..got], self.header.salt));
        Ok(footer)
    }

    /// What its first bytes say.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Whether one of the header's two copies is damaged.
    #[must_use]
    pub fn header_is_worn(&self) -> bool {
        self.header_is_worn
    }

    /// Whether the file ends in what was a footer. The last record may end in bytes that look like one.
    #[must_use]
    pub fn footer_is_worn(&self) -> bool {
        self.footer_is_worn
    }

    /// What its last bytes say, once it is sealed.
    #[must_use]
    pub fn footer(&self) -> Option<&Footer> {
        self.footer.as_ref()
    }

    /// Whether it was compressed, as only sealed ones are.
    #[must_use]
    pub fn is_compressed(&self) -> bool {
        self.bytes.packed().is_some()
    }

    /// Places where the compressed file is not as it was written, among what has been read so far. What
    /// was read of the segment may be sound all the same.
    #[must_use]
    pub fn flaws(&self) -> u64 {
        self.bytes.packed().map_or(0, crate::journal::read::packed::Packed::flaws)
    }

    /// Where the next record is looked for.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Goes on at `offset`, where a record begins.
    pub fn seek(&mut self, offset: u64) {
        (self.offset, self.last) = (offset.max(HEADER_BYTES as u64), 0..0);
    }

    /// From here on, a place that the disk cannot read is one that is damaged, and costs no record beside it.
    pub fn pass_gaps(&mut self) {
        self.bytes.pass_gaps();
    }

    /// Where the last place that the disk could not read ends; 0: there was none.
    pub(crate) fn gaps_end(&self) -> u64 {
        self.bytes.gaps_end()
    }

    /// Reads nothing from `offset` on: there is what is still being written.
    pub fn set_limit(&mut self, offset: u64) {
        self.limit = offset;
    }

    /// The record that was read last, until the next is looked for.
    #[must_use]
    pub fn last(&self) -> Option<Record<'_>> {
        known_record(self.window.get(self.last.clone())?)
    }

    /// Goes on at the last record of the index before which all are earlier than `unix_ns`; stays where there is
    /// no index.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn seek_time(&mut self, unix_ns: u64) -> io::Result<()> {
        self.seek_entry(|entry| entry.latest_unix_ns < unix_ns)
    }

    /// Goes on at the last record of the index that has at most so many before it; stays where there is
    /// no index.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn seek_record(&mut self, records: u64) -> io::Result<()> {
        self.seek_entry(|entry| entry.records_before <= records)
    }

    /// Goes on at the last of the index's first entries that are `before` what is sought.
    fn seek_entry(&mut self, before: impl Fn(&IndexEntry) -> bool) -> io::Result<()> {
        let Some(footer) = self.footer else { return Ok(()) };
        let (mut place, mut left) = (footer.data_end, footer.index_bytes());
        let mut some = vec![0; ENTRIES_AT_ONCE * INDEX_ENTRY_BYTES];
        let mut found = None;
        while left > 0 {
            let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(some.len());
            let got = self.bytes.read_at(&mut some[..wanted], place)?;
            let entries = some[..got].chunks_exact(INDEX_ENTRY_BYTES);
            let entries: Vec<_> = entries.filter_map(IndexEntry::decode).collect();
            let reached = entries.iter().take_while(|entry| before(entry)).count();
            found = entries[..reached].last().copied().or(found);
            if reached < entries.len() || got < wanted {
                break;
            }
            (place, left) = (place + got as u64, left - got as u64);
        }
        let fits = |entry: &IndexEntry| {
            (self.offset..footer.data_end).contains(&entry.offset) && entry.offset.is_multiple_of(8)
        };
        if let Some(entry) = found.filter(fits) {
            self.offset = entry.offset;
        }
        Ok(())
    }

    /// Goes on at a place where something begins, as told by [`Next`].
    pub fn go_back(&mut self, offset: u64) {
        self.forget(offset);
        (self.offset, self.last) = (offset, 0..0);
    }

    /// Whether nothing but zeros begins at a place: in a segment that is being written, what is behind it
    /// was written ahead.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn is_blank(&mut self, offset: u64) -> io::Result<bool> {
        if self.bytes.is_gap(offset) {
            return Ok(false);
        }
        let mut head = [0; 8];
        self.bytes.read_at(&mut head, offset)?;
        Ok(head == [0; 8])
    }

    /// Whether all up to the index of a sealed segment was to be read, and was.
    pub(crate) fn is_read_to_its_index(&self) -> bool {
        self.footer.is_some_and(|footer| footer.data_end <= self.limit)
    }

    /// Whether the file still has a name; if that cannot be known, it has.
    pub(crate) fn is_linked(&self) -> bool {
        self.bytes.is_linked()
    }

    /// The next thing there is. After [`Next::End`] it may be called again: an open segment grows.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read_next(&mut self) -> io::Result<Next<'_>> {
        let start = self.offset;
        self.window_is_fresh = false;
        loop {
            match self.search(start)? {
                Some(place) if place == start => break,
                // What was not there when the window was filled may be by now.
                Some(_) if self.footer.is_none() && !self.window_is_fresh => self.forget(start),
                Some(place) => {
                    self.offset = place;
                    return Ok(Next::Damaged { offset: start, bytes: place - start });
                }
                None if self.footer.is_none() && self.look_at_the_end()? => self.forget(start),
                None => {
                    let torn_bytes = self.end().saturating_sub(start);
                    return Ok(Next::End { offset: start, torn_bytes });
                }
            }
        }
        self.offset += self.last.len() as u64;
        let record = known_record(&self.window[self.last.clone()]);
        let record = record.ok_or_else(|| io::Error::other("a record that was there is gone"))?;
        Ok(Next::Record { offset: start, record })
    }

    /// Reads again what is behind `place`.
    fn forget(&mut self, place: u64) {
        self.count_up_to(place);
        self.window.clear();
    }

    /// Where the first record from `place` on is.
    fn search(&mut self, mut place: u64) -> io::Result<Option<u64>> {
        while place < self.end() {
            let here = self.at(place)?;
            if here.is_empty() {
                // The file ends before its footer, or a copy of it, says so.
                break;
            }
            if let Found::Record(_, whole) =
                record_at(&self.window[here.clone()], self.header.salt, place)
            {
                self.last = here.start..here.start + whole;
                return Ok(Some(place));
            }
            place += 8;
        }
        self.last = 0..0;
        Ok(None)
    }

    /// Where in the window the bytes from `place` on are: as many as the largest record takes, or as
    /// there are.
    fn at(&mut self, place: u64) -> io::Result<Range<usize>> {
        let left = usize::try_from(self.end() - place).unwrap_or(usize::MAX);
        let wanted = RECORD_ROOM.min(left);
        let begin =
            place.checked_sub(self.window_offset).and_then(|skip| usize::try_from(skip).ok());
        let begin = match begin.filter(|begin| begin + wanted <= self.window.len()) {
            Some(begin) => begin,
            None => {
                self.count_up_to(place);
                self.window.resize(WINDOW_BYTES.min(left), 0);
                let got = self.bytes.read_at(&mut self.window, place)?;
                self.window.truncate(got);
                (self.window_offset, self.window_is_fresh) = (place, true);
                0
            }
        };
        Ok(begin..(begin + wanted).min(self.window.len()))
    }

    /// From here on, what is read is hashed. To be asked for before anything is read.
    pub(crate) fn count(&mut self) -> io::Result<()> {
        let mut hasher = blake3::Hasher::new();
        let mut head = [0; HEADER_BYTES];
        let got = self.bytes.read_at(&mut head, 0)?;
        hasher.update(&head[..got]);
        self.tally = Some(Tally { hasher, upto: HEADER_BYTES as u64 });
        Ok(())
    }

    /// Hashes what the window has of the bytes before `place`.
    fn count_up_to(&mut self, place: u64) {
        let Some(tally) = &mut self.tally else { return };
        let range = |place: u64| {
            let skip = place.saturating_sub(self.window_offset);
            usize::try_from(skip).unwrap_or(usize::MAX).min(self.window.len())
        };
        let part = range(tally.upto)..range(place);
        if tally.upto >= self.window_offset && !part.is_empty() {
            tally.upto += part.len() as u64;
            tally.hasher.update(&self.window[part]);
        }
    }

    /// The hash of the first `bytes`, to go on with.
    pub(crate) fn hasher(&mut self, bytes: u64) -> io::Result<blake3::Hasher> {
        self.count_up_to(bytes);
        let fresh = || (blake3::Hasher::new(), 0);
        // A torn end that is longer than a window has been hashed before it was known to be one.
        let known = self.tally.take().filter(|tally| tally.upto <= bytes);
        let (mut hasher, mut upto) = known.map_or_else(fresh, |tally| (tally.hasher, tally.upto));
        let mut buffer = vec![0; WINDOW_BYTES];
        while upto < bytes {
            let wanted = usize::try_from(bytes - upto).unwrap_or(usize::MAX).min(buffer.len());
            let got = self.bytes.read_at(&mut buffer[..wanted], upto)?;
            if got == 0 {
                break;
            }
            hasher.update(&buffer[..got]);
            upto += got as u64;
        }
        Ok(hasher)
    }

    /// Whether a sealed segment is to the byte what was sealed; `None` if it is not sealed.
    pub(crate) fn is_intact(&mut self) -> io::Result<Option<bool>> {
        let Some(footer) = self.footer else {
            return Ok(self.is_compressed().then_some(false));
        };
        let hasher = self.hasher(footer.data_end + footer.index_bytes())?;
        Ok(Some(*hasher.finalize().as_bytes() == footer.hash && self.flaws() == 0))
    }
}

/// The most a record takes.
const RECORD_ROOM: usize = record_bytes(RECORD_PAYLOAD_BYTES_MAX);
