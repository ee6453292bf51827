//! Reads a segment from its first record to its last, past damage.
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

/// Bytes read at once. At least twice the largest record.
const WINDOW_BYTES: usize = 1 << 20;
/// Index entries read at once. The index is as long as its footer claims, so it is never read whole.
const ENTRIES_AT_ONCE: usize = 4096;

/// A segment that is open for reading, whether plain or compressed.
#[derive(Debug)]
pub struct Reader {
    bytes: Bytes,
    header: Header,
    footer: Option<Footer>,
    /// Whether one of the two copies of the header is damaged.
    header_is_damaged: bool,
    /// Whether the file ends in a damaged footer.
    footer_is_damaged: bool,
    window: Vec<u8>,
    /// Offset of the window in the segment, bytes.
    window_offset: u64,
    /// Offset at which reading ends, whatever is behind it, bytes.
    limit: u64,
    /// Whether the window was filled since the last call of `read_next`.
    window_is_fresh: bool,
    /// Offset of the next record, bytes.
    offset: u64,
    /// Known end of the records, bytes. An open segment grows.
    end: u64,
    /// Range of the last record in the window.
    last: Range<usize>,
    running_hash: Option<RunningHash>,
}

/// A running hash of what was read, so that no byte is read twice for it.
#[derive(Debug)]
struct RunningHash {
    hasher: blake3::Hasher,
    /// Offset up to which bytes are hashed.
    upto: u64,
}

/// The result of reading on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next<'a> {
    /// A record.
    Record {
        /// Offset of the record, bytes.
        offset: u64,
        /// The record.
        record: Record<'a>,
    },
    /// Damaged bytes, with records behind them.
    Damaged {
        /// Offset of the first damaged byte.
        offset: u64,
        /// Number of damaged bytes.
        bytes: u64,
    },
    /// The end. Bytes behind the last record are not a record: a crash cut one off, or one is being written
    /// now.
    End {
        /// Offset of the end of the last record, bytes.
        offset: u64,
        /// Number of bytes behind it.
        torn_bytes: u64,
    },
}

/// Why a file cannot be read as a segment.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A file system operation failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The file is not a segment, or its header is damaged.
    #[error("{0}")]
    NoSegment(&'static str),
    /// A newer version of the program wrote it.
    #[error("{OTHER_VERSION}")]
    OtherVersion,
}

impl Reader {
    /// Opens a segment; opens the compressed file if the plain one is gone. Reads only header and footer at
    /// first.
    ///
    /// # Errors
    /// The file cannot be read, or its header is damaged.
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

    /// Reads a segment from an open file.
    ///
    /// # Errors
    /// The file cannot be read, or its header is damaged.
    pub fn from_file(file: File) -> Result<Self, ReadError> {
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
            header_is_damaged: !Header::is_whole(&head[..got]),
            footer_is_damaged: false,
            window: Vec::new(),
            window_offset: 0,
            limit: u64::MAX,
            window_is_fresh: false,
            offset: HEADER_BYTES as u64,
            end: 0,
            last: 0..0,
            running_hash: None,
        };
        this.refresh_end()?;
        Ok(this)
    }

    /// Returns the offset up to which records may be read.
    fn end(&self) -> u64 {
        self.end.min(self.limit)
    }

    /// Reads the footer and the file's size again. Returns whether the end of the records has changed.
    fn refresh_end(&mut self) -> io::Result<bool> {
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
            // Treated as damaged: the records can still be read.
            Err(error) if is_eio(&error) => 0,
            got => got?,
        };
        let is_gap = got == 0 || self.bytes.gaps_end() > at;
        // A record may end in bytes that look like a footer, so its numbers must fit the file.
        let fits = |footer: &Footer| {
            footer.data_end.checked_add(footer.index_bytes()) == Some(at) && could_be(footer)
        };
        let footer = Footer::decode(&tail[..got], self.header.salt).filter(fits);
        self.footer_is_damaged =
            footer.is_none() && (is_gap || Footer::was_one(&tail[..got], self.header.salt));
        Ok(footer)
    }

    /// Returns the header.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Returns whether one of the two copies of the header is damaged.
    #[must_use]
    pub fn header_is_damaged(&self) -> bool {
        self.header_is_damaged
    }

    /// Returns whether the file ends in a damaged footer. The last record may end in bytes that look like
    /// one.
    #[must_use]
    pub fn footer_is_damaged(&self) -> bool {
        self.footer_is_damaged
    }

    /// Returns the footer, or `None` if the segment is not sealed.
    #[must_use]
    pub fn footer(&self) -> Option<&Footer> {
        self.footer.as_ref()
    }

    /// Returns whether the file is compressed. Only sealed segments are.
    #[must_use]
    pub fn is_compressed(&self) -> bool {
        self.bytes.packed().is_some()
    }

    /// Returns the number of damaged places of the compressed file, among what has been read so far. The
    /// segment itself may have been restored undamaged.
    #[must_use]
    pub fn flaws(&self) -> u64 {
        self.bytes.packed().map_or(0, crate::journal::read::packed::Packed::flaws)
    }

    /// Returns the offset at which the next record is looked for.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Continues at `offset`, where a record begins.
    pub fn seek(&mut self, offset: u64) {
        (self.offset, self.last) = (offset.max(HEADER_BYTES as u64), 0..0);
    }

    /// From now on, a place that the disk cannot read counts as damaged, and costs only the records in it.
    pub fn skip_gaps(&mut self) {
        self.bytes.skip_gaps();
    }

    /// Returns where the last unreadable place ends (offset, bytes), or 0 if there was none.
    pub(crate) fn gaps_end(&self) -> u64 {
        self.bytes.gaps_end()
    }

    /// Sets the offset at which reading ends; what is behind it is still being written.
    pub fn set_limit(&mut self, offset: u64) {
        self.limit = offset;
    }

    /// Returns the record that was read last, until the next is looked for.
    #[must_use]
    pub fn last(&self) -> Option<Record<'_>> {
        known_record(self.window.get(self.last.clone())?)
    }

    /// Continues at the last indexed record before which all records are earlier than `unix_ns`. Does
    /// nothing without an index.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn seek_time(&mut self, unix_ns: u64) -> io::Result<()> {
        self.seek_entry(|entry| entry.latest_unix_ns < unix_ns)
    }

    /// Continues at the last indexed record that has at most `records` records before it. Does nothing
    /// without an index.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn seek_record(&mut self, records: u64) -> io::Result<()> {
        self.seek_entry(|entry| entry.records_before <= records)
    }

    /// Continues at the last of the leading index entries for which `before` holds.
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

    /// Continues at an offset that [`Next`] reported, and reads it from the file again.
    pub fn go_back(&mut self, offset: u64) {
        self.drop_window(offset);
        (self.offset, self.last) = (offset, 0..0);
    }

    /// Returns whether `offset` begins with 8 zero bytes: in a segment being written, records behind such a
    /// place were written early.
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

    /// Returns whether the segment is sealed and no limit ends the reading before its index.
    pub(crate) fn is_read_to_its_index(&self) -> bool {
        self.footer.is_some_and(|footer| footer.data_end <= self.limit)
    }

    /// Returns whether the file still has a name. Returns `true` if that cannot be known.
    pub(crate) fn is_linked(&self) -> bool {
        self.bytes.is_linked()
    }

    /// Reads on. After [`Next::End`] it may be called again, because an open segment grows.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read_next(&mut self) -> io::Result<Next<'_>> {
        let start = self.offset;
        self.window_is_fresh = false;
        loop {
            match self.search(start)? {
                Some(place) if place == start => break,
                // Bytes that were missing when the window was filled may exist now.
                Some(_) if self.footer.is_none() && !self.window_is_fresh => {
                    self.drop_window(start);
                }
                Some(place) => {
                    self.offset = place;
                    return Ok(Next::Damaged { offset: start, bytes: place - start });
                }
                None if self.footer.is_none() && self.refresh_end()? => self.drop_window(start),
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

    /// Drops the window, so that bytes from `place` on are read from the file again.
    fn drop_window(&mut self, place: u64) {
        self.hash_up_to(place);
        self.window.clear();
    }

    /// Returns the offset of the first record at or behind `place`, or `None`.
    fn search(&mut self, mut place: u64) -> io::Result<Option<u64>> {
        while place < self.end() {
            let here = self.at(place)?;
            if here.is_empty() {
                // The file ends before the offset that its footer claims.
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

    /// Returns the range in the window of the bytes from `place` on: as many as the largest record takes,
    /// or as many as exist.
    fn at(&mut self, place: u64) -> io::Result<Range<usize>> {
        let left = usize::try_from(self.end() - place).unwrap_or(usize::MAX);
        let wanted = RECORD_ROOM.min(left);
        let begin =
            place.checked_sub(self.window_offset).and_then(|skip| usize::try_from(skip).ok());
        let begin = match begin.filter(|begin| begin + wanted <= self.window.len()) {
            Some(begin) => begin,
            None => {
                self.hash_up_to(place);
                self.window.resize(WINDOW_BYTES.min(left), 0);
                let got = self.bytes.read_at(&mut self.window, place)?;
                self.window.truncate(got);
                (self.window_offset, self.window_is_fresh) = (place, true);
                0
            }
        };
        Ok(begin..(begin + wanted).min(self.window.len()))
    }

    /// Starts to hash what is read. Must be called before anything is read.
    pub(crate) fn start_hash(&mut self) -> io::Result<()> {
        let mut hasher = blake3::Hasher::new();
        let mut head = [0; HEADER_BYTES];
        let got = self.bytes.read_at(&mut head, 0)?;
        hasher.update(&head[..got]);
        self.running_hash = Some(RunningHash { hasher, upto: HEADER_BYTES as u64 });
        Ok(())
    }

    /// Hashes the bytes in the window up to `place`.
    fn hash_up_to(&mut self, place: u64) {
        let Some(running_hash) = &mut self.running_hash else { return };
        let range = |place: u64| {
            let skip = place.saturating_sub(self.window_offset);
            usize::try_from(skip).unwrap_or(usize::MAX).min(self.window.len())
        };
        let part = range(running_hash.upto)..range(place);
        if running_hash.upto >= self.window_offset && !part.is_empty() {
            running_hash.upto += part.len() as u64;
            running_hash.hasher.update(&self.window[part]);
        }
    }

    /// Returns a hasher that has hashed the first `bytes` bytes of the segment.
    pub(crate) fn hasher(&mut self, bytes: u64) -> io::Result<blake3::Hasher> {
        self.hash_up_to(bytes);
        let fresh = || (blake3::Hasher::new(), 0);
        // A torn end longer than a window was hashed before it was known to be torn; then hash again from
        // the start.
        let known = self.running_hash.take().filter(|running_hash| running_hash.upto <= bytes);
        let (mut hasher, mut upto) =
            known.map_or_else(fresh, |running_hash| (running_hash.hasher, running_hash.upto));
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

    /// Returns whether a sealed segment is byte for byte what was sealed, or `None` if it is not sealed.
    pub(crate) fn is_intact(&mut self) -> io::Result<Option<bool>> {
        let Some(footer) = self.footer else {
            return Ok(self.is_compressed().then_some(false));
        };
        let hasher = self.hasher(footer.data_end + footer.index_bytes())?;
        Ok(Some(*hasher.finalize().as_bytes() == footer.hash && self.flaws() == 0))
    }
}

/// Bytes of the largest record.
const RECORD_ROOM: usize = record_bytes(RECORD_PAYLOAD_BYTES_MAX);
