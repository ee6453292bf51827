//! Reads a segment from its first record to its last, past whatever is damaged.
//!
//! ```text
//!  record ─ record ─ ▒▒▒▒ damaged ─ record ─ record ─ torn
//!                    └ searched, 8 bytes at a time, for the next record
//! ```

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::format::{
    FOOTER_BYTES, Footer, Found, HEADER_BYTES, Header, INDEX_ENTRY_BYTES, IndexEntry,
    PAYLOAD_BYTES_MAX, Record, known_record, record_at, record_bytes,
};

/// How much is read at once. Not less than two of the largest records.
const WINDOW_BYTES: usize = 1 << 20;

/// A segment that is read.
#[derive(Debug)]
pub struct Reader {
    file: File,
    header: Header,
    footer: Option<Footer>,
    window: Vec<u8>,
    /// Where in the file the window begins.
    window_offset: u64,
    /// Where reading ends, whatever is behind.
    limit: u64,
    /// Where the next record should be.
    offset: u64,
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
#[non_exhaustive]
pub enum ReadError {
    /// The file system said no.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It is none, or its beginning is damaged.
    #[error("{0}")]
    NoSegment(&'static str),
}

impl Reader {
    /// Opens a segment. What is behind its header is looked at only as it is read.
    ///
    /// # Errors
    /// It cannot be read, or its header is not sound.
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        Self::of(File::open(path)?)
    }

    /// The same of a file that is open.
    ///
    /// # Errors
    /// It cannot be read, or its header is not sound.
    pub fn of(file: File) -> Result<Self, ReadError> {
        let mut head = [0; HEADER_BYTES];
        let got = read_at(&file, &mut head, 0)?;
        let header = Header::decode(&head[..got]).map_err(ReadError::NoSegment)?;
        let mut this = Self {
            file,
            header,
            footer: None,
            window: Vec::new(),
            window_offset: 0,
            limit: u64::MAX,
            offset: HEADER_BYTES as u64,
        };
        this.footer = this.read_footer()?;
        Ok(this)
    }

    fn read_footer(&self) -> io::Result<Option<Footer>> {
        let bytes = self.file.metadata()?.len();
        let mut tail = [0; FOOTER_BYTES];
        let Some(at) = bytes.checked_sub(FOOTER_BYTES as u64) else { return Ok(None) };
        let got = read_at(&self.file, &mut tail, at)?;
        let index_bytes =
            |footer: &Footer| footer.index_entries.checked_mul(INDEX_ENTRY_BYTES as u64);
        // A record may end in bytes that look like a footer; its numbers must fit the file.
        let fits = |footer: &Footer| {
            index_bytes(footer).and_then(|index| footer.data_end.checked_add(index)) == Some(at)
                && footer.data_end >= HEADER_BYTES as u64
        };
        Ok(Footer::decode(&tail[..got]).filter(fits))
    }

    /// What its first bytes say.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// What its last bytes say, once it is sealed.
    #[must_use]
    pub fn footer(&self) -> Option<&Footer> {
        self.footer.as_ref()
    }

    /// Where the next record is looked for.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Goes on at `offset`, where a record begins.
    pub(crate) fn seek(&mut self, offset: u64) {
        self.offset = offset.max(HEADER_BYTES as u64);
    }

    /// Reads nothing from `offset` on: there is what is still being written.
    pub(crate) fn set_limit(&mut self, offset: u64) {
        self.limit = offset;
    }

    /// Goes on at the last record of the index that is not later than `unix_ns`; stays where there is no
    /// index. What comes may be a little earlier still.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn seek_time(&mut self, unix_ns: u64) -> io::Result<()> {
        let Some(footer) = self.footer else { return Ok(()) };
        let entries = usize::try_from(footer.index_entries).unwrap_or(0);
        let mut index = vec![0; entries.saturating_mul(INDEX_ENTRY_BYTES)];
        let got = read_at(&self.file, &mut index, footer.data_end)?;
        let entries = index[..got].chunks_exact(INDEX_ENTRY_BYTES).filter_map(IndexEntry::decode);
        let before = entries.take_while(|entry| entry.received_unix_ns < unix_ns).last();
        if let Some(entry) = before
            && entry.offset >= self.offset
            && entry.offset < footer.data_end
        {
            self.offset = entry.offset;
        }
        Ok(())
    }

    /// Where records end: at the index of a sealed segment, else at the end of the file.
    fn data_end(&self) -> io::Result<u64> {
        match self.footer {
            Some(footer) => Ok(footer.data_end),
            None => Ok(self.file.metadata()?.len()),
        }
    }

    /// The next thing there is. After [`Next::End`] it may be called again: an open segment grows.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read_next(&mut self) -> io::Result<Next<'_>> {
        let (start, salt) = (self.offset, self.header.salt);
        let end = self.data_end()?.min(self.limit);
        let mut place = start;
        while place < end {
            let here = self.at(place, end, RECORD_ROOM)?;
            let Found::Record(_, whole) = record_at(&self.window[here.clone()], salt, place) else {
                place += 8;
                continue;
            };
            if place > start {
                self.offset = place;
                return Ok(Next::Damaged { offset: start, bytes: place - start });
            }
            self.offset = place + whole as u64;
            let record = known_record(&self.window[here]);
            let record =
                record.ok_or_else(|| io::Error::other("a record that was there is gone"))?;
            return Ok(Next::Record { offset: place, record });
        }
        Ok(Next::End { offset: start, torn_bytes: end.saturating_sub(start) })
    }

    /// Where in the window the bytes from `place` on are: `wanted` of them, or as many as there are up to
    /// `end`.
    fn at(&mut self, place: u64, end: u64, wanted: usize) -> io::Result<Range<usize>> {
        let left = usize::try_from(end - place).unwrap_or(usize::MAX);
        let wanted = wanted.min(left);
        let begin =
            place.checked_sub(self.window_offset).and_then(|skip| usize::try_from(skip).ok());
        let begin = match begin.filter(|begin| begin + wanted <= self.window.len()) {
            Some(begin) => begin,
            None => {
                self.window.resize(WINDOW_BYTES.min(left), 0);
                let got = read_at(&self.file, &mut self.window, place)?;
                self.window.truncate(got);
                self.window_offset = place;
                0
            }
        };
        Ok(begin..(begin + wanted).min(self.window.len()))
    }
}

/// The most a record takes.
const RECORD_ROOM: usize = record_bytes(PAYLOAD_BYTES_MAX);

/// As much of `buffer` as the file has from `offset` on.
fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(bytes) => filled += bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
