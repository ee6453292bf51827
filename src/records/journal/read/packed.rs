//! A compressed segment, read as if it were plain. docs/journal.md describes the format in prose.
//!
//! ```text
//!  │ head: skippable frame  │ frame │ frame │ … │ seek table: skippable frame │
//!    copies of the segment's  128 KiB of the segment each, compressed
//!    header and footer
//! ```
//! This is zstd's seekable format, so `zstd -dc` restores the segment. A damaged frame reads as zeros, in
//! which no record is ever found: it costs only the records in it. Header and footer are stored twice, and
//! where the seek table is damaged, the frames are found by walking them.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::io;

use zstd::bulk::Decompressor;
use zstd::zstd_safe::{compress_bound, find_frame_compressed_size, get_frame_content_size};

use crate::journal::format::{FOOTER_BYTES, Footer, HEADER_BYTES, Header};
use crate::journal::read::gaps::{is_eio, read_at};

/// Bytes of a segment in one frame, except for the last. Smaller: compresses worse. Larger: damage costs
/// more records, and reading one record costs more work.
pub(crate) const FRAME_BYTES: usize = 128 << 10;
/// Frames of a segment at most: 128 GiB. Bounds the memory for a seek table to 32 MiB.
pub(crate) const FRAMES_MAX: usize = 1 << 20;
/// Bytes of the first skippable frame: magic number, length, header, footer.
pub(crate) const HEAD_BYTES: usize = 8 + HEADER_BYTES + FOOTER_BYTES;
/// Magic number of the head.
pub(crate) const HEAD_MAGIC: u32 = 0x184d_2a50;
/// Magic number of the seek table, from zstd's seekable format.
pub(crate) const TABLE_MAGIC: u32 = 0x184d_2a5e;
/// Last four bytes of the seek table.
pub(crate) const SEEKABLE_MAGIC: u32 = 0x8f92_eab1;
/// Flags of the seek table: entries have checksums. The other bits are 0.
pub(crate) const WITH_CHECKSUMS: u8 = 0x80;
/// The lowest 32 bits of the XXH64 of no bytes: the checksum of the head, which holds nothing of the
/// segment.
pub(crate) const CHECKSUM_OF_NOTHING: u32 = 0x51d8_e999;
/// Bytes of a seek table entry: compressed size, plain size, checksum.
pub(crate) const ENTRY_BYTES: usize = 12;
/// Bytes of the seek table without its entries: magic number and length before them, count, flags and magic
/// number behind.
pub(crate) const TABLE_BYTES: usize = 8 + 9;
const ZSTD_MAGIC: u32 = 0xfd2f_b528;

/// Returns whether a file that begins with these bytes is compressed.
pub(crate) fn is_packed(head: &[u8]) -> bool {
    let magic = head.first_chunk().map(|magic| u32::from_le_bytes(*magic));
    magic.is_some_and(|magic| magic == HEAD_MAGIC || magic == ZSTD_MAGIC)
}

/// Returns the first skippable frame of a segment with this header and footer.
pub(crate) fn head(header: &[u8; HEADER_BYTES], footer: &[u8; FOOTER_BYTES]) -> Vec<u8> {
    let length = u32::try_from(HEAD_BYTES - 8).unwrap_or(0);
    let words = [HEAD_MAGIC.to_le_bytes(), length.to_le_bytes()].concat();
    [&words[..], header, footer].concat()
}

/// A frame: where it is in the file, and which part of the segment it holds.
#[derive(Clone, Copy, Debug)]
struct Frame {
    /// Offset in the file, bytes.
    at: u64,
    /// Bytes in the file.
    stored: u32,
    /// Offset in the segment, bytes.
    start: u64,
    /// Bytes of the segment in it.
    plain: u32,
    /// Checksum from the seek table; `None` if there is no table.
    checksum: Option<u32>,
}

/// A compressed segment that is open for reading.
pub(crate) struct Packed {
    file: File,
    header: Option<Header>,
    footer: Option<Footer>,
    frames: Vec<Frame>,
    codec: Decompressor<'static>,
    stored: Vec<u8>,
    /// Number of the decompressed frame in `cache`.
    cached: Option<usize>,
    cache: Vec<u8>,
    /// Frames that cannot be read, or that differ from the seek table.
    bad: BTreeSet<usize>,
    /// Whether the head or the seek table is damaged.
    wrapping_is_bad: bool,
    /// Whether a frame that the disk cannot read counts as damaged, instead of being an error.
    gaps_are_skipped: bool,
}

impl fmt::Debug for Packed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Packed").field("file", &self.file).field("bad", &self.bad).finish()
    }
}

impl Packed {
    pub(crate) fn open(file: File) -> io::Result<Self> {
        let bytes = file.metadata()?.len();
        let mut begin = [0; HEAD_BYTES];
        let got = read_at(&file, &mut begin, 0)?;
        let copies = &begin[8.min(got)..got];
        let header = Header::decode(copies).ok();
        let footer = Some(copies).filter(|copies| copies.len() == HEADER_BYTES + FOOTER_BYTES);
        let footer =
            footer.zip(header).and_then(|(copies, head)| Footer::decode(copies, head.salt));
        let length = u32::try_from(HEAD_BYTES - 8).unwrap_or(0);
        let expected = [HEAD_MAGIC.to_le_bytes(), length.to_le_bytes()].concat();
        // A table whose sizes do not add up to the segment is treated as missing.
        let segment = footer.and_then(|footer| footer.segment_bytes());
        let fits = |frames: &Vec<Frame>| segment.is_none_or(|bytes| bytes == plain_bytes(frames));
        let (table, whole) = match read_table(&file, bytes)?.filter(fits) {
            Some(frames) => (frames, true),
            None => (walk(&file, bytes)?, false),
        };
        Ok(Self {
            wrapping_is_bad: !whole
                || begin[..8] != expected[..]
                || !Header::is_whole(copies)
                || footer.is_none(),
            file,
            header,
            footer,
            frames: table,
            codec: Decompressor::new()?,
            stored: Vec::new(),
            cached: None,
            cache: Vec::new(),
            bad: BTreeSet::new(),
            gaps_are_skipped: false,
        })
    }

    pub(crate) fn skip_gaps(&mut self) {
        self.gaps_are_skipped = true;
    }

    /// Returns the copy of the segment's header, or `None` if it is damaged.
    pub(crate) fn header(&self) -> Option<Header> {
        self.header
    }

    /// Returns the copy of the segment's footer, or `None` if it is damaged.
    pub(crate) fn footer(&self) -> Option<Footer> {
        self.footer
    }

    /// Returns the length of the segment, bytes, as far as its frames exist.
    pub(crate) fn len(&self) -> u64 {
        plain_bytes(&self.frames)
    }

    /// Returns the number of damaged places of the file, among what has been read so far.
    pub(crate) fn flaws(&self) -> u64 {
        self.bad.len() as u64 + u64::from(self.wrapping_is_bad)
    }

    /// Fills `buffer` from `offset` of the segment on, as far as it goes. Returns the bytes read.
    pub(crate) fn read_at(&mut self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            let place = offset + filled as u64;
            // If several frames have the same start, all but the last are empty.
            let behind = self.frames.partition_point(|frame| frame.start <= place);
            let Some(index) = behind.checked_sub(1) else { break };
            let (start, plain) = (self.frames[index].start, size(self.frames[index].plain));
            let skip = usize::try_from(place - start).unwrap_or(usize::MAX);
            if skip >= plain {
                break;
            }
            let rest = &mut buffer[filled..];
            if skip == 0 && rest.len() >= plain {
                self.unpack(index, &mut rest[..plain])?;
                filled += plain;
                continue;
            }
            if self.cached != Some(index) {
                let mut cache = std::mem::take(&mut self.cache);
                cache.resize(plain, 0);
                self.cached = None;
                self.unpack(index, &mut cache)?;
                (self.cache, self.cached) = (cache, Some(index));
            }
            let wanted = rest.len().min(plain - skip);
            rest[..wanted].copy_from_slice(&self.cache[skip..skip + wanted]);
            filled += wanted;
        }
        Ok(filled)
    }

    /// Decompresses a frame into `out`; fills it with zeros if the frame is damaged.
    fn unpack(&mut self, index: usize, out: &mut [u8]) -> io::Result<()> {
        let frame = self.frames[index];
        self.stored.resize(size(frame.stored), 0);
        let read = read_at(&self.file, &mut self.stored, frame.at);
        let got = match read {
            Err(error) if self.gaps_are_skipped && is_eio(&error) => 0,
            got => got?,
        };
        let stored = &self.stored[..got];
        // A frame ends in its checksum, which the decoder has verified.
        let same = frame.checksum.is_none_or(|checksum| stored.ends_with(&checksum.to_le_bytes()));
        let unpacked = self.codec.decompress_to_buffer(stored, out);
        let whole = unpacked.is_ok_and(|bytes| bytes == out.len());
        if !whole {
            out.fill(0);
        }
        if !whole || !same {
            self.bad.insert(index);
        }
        Ok(())
    }
}

/// Returns the bytes of the segment that these frames hold.
fn plain_bytes(frames: &[Frame]) -> u64 {
    frames.last().map_or(0, |last| last.start + u64::from(last.plain))
}

fn size(bytes: u32) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|word| u32::from_le_bytes(*word))
}

/// Returns the largest possible size of a compressed frame, bytes.
fn stored_max() -> usize {
    compress_bound(FRAME_BYTES)
}

/// Reads the seek table. Returns `None` if it is missing, damaged, or does not fit the file.
fn read_table(file: &File, bytes: u64) -> io::Result<Option<Vec<Frame>>> {
    let mut end = [0; 9];
    let Some(at) = bytes.checked_sub(end.len() as u64) else { return Ok(None) };
    let got = read_at(file, &mut end, at)?;
    let count = u32_at(&end, 0).map_or(usize::MAX, size);
    let sound = got == end.len()
        && end[4] == WITH_CHECKSUMS
        && u32_at(&end, 5) == Some(SEEKABLE_MAGIC)
        && count <= FRAMES_MAX;
    let table_bytes = TABLE_BYTES as u64 + (count.min(FRAMES_MAX) * ENTRY_BYTES) as u64;
    let Some(at) = bytes.checked_sub(table_bytes).filter(|_| sound) else { return Ok(None) };
    let mut table = vec![0; 8 + count * ENTRY_BYTES];
    let got = read_at(file, &mut table, at)?;
    let length = u32::try_from(table_bytes - 8).ok();
    if got < table.len() || u32_at(&table, 0) != Some(TABLE_MAGIC) || u32_at(&table, 4) != length {
        return Ok(None);
    }
    Ok(frames_of(&table[8..])
        .filter(|frames| frames.last().map_or(0, |last| last.at + u64::from(last.stored)) == at))
}

/// Decodes the entries of a seek table. Returns `None` if they are impossible.
fn frames_of(entries: &[u8]) -> Option<Vec<Frame>> {
    let (mut at, mut start) = (0, 0);
    let mut frames: Vec<Frame> = Vec::with_capacity(entries.len() / ENTRY_BYTES);
    for entry in entries.chunks_exact(ENTRY_BYTES) {
        let (stored, plain, checksum) = (u32_at(entry, 0)?, u32_at(entry, 4)?, u32_at(entry, 8)?);
        let is_head = (size(stored), plain, checksum) == (HEAD_BYTES, 0, CHECKSUM_OF_NOTHING);
        if !(is_head && frames.is_empty())
            && (size(stored) > stored_max() || size(plain) > FRAME_BYTES || plain == 0)
        {
            return None;
        }
        frames.push(Frame { at, stored, start, plain, checksum: Some(checksum) });
        at += u64::from(stored);
        start += u64::from(plain);
    }
    Some(frames)
}

/// Finds the frames of a file without a valid seek table by walking them, up to the first that is not a
/// frame.
fn walk(file: &File, bytes: u64) -> io::Result<Vec<Frame>> {
    let (mut at, mut start) = (HEAD_BYTES as u64, 0);
    let mut frames = Vec::new();
    let mut window = vec![0; stored_max()];
    while at < bytes && frames.len() < FRAMES_MAX {
        let got = read_at(file, &mut window, at)?;
        let here = &window[..got];
        let stored = find_frame_compressed_size(here).ok().filter(|stored| *stored <= got);
        let plain = get_frame_content_size(here).ok().flatten();
        let plain = plain.and_then(|plain| u32::try_from(plain).ok());
        let (Some(stored), Some(plain)) = (stored.and_then(|s| u32::try_from(s).ok()), plain)
        else {
            break;
        };
        if stored == 0 || plain == 0 || size(plain) > FRAME_BYTES {
            break;
        }
        frames.push(Frame { at, stored, start, plain, checksum: None });
        at += u64::from(stored);
        start += u64::from(plain);
    }
    Ok(frames)
}
