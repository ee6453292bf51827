//! Seals a segment: cuts off its torn end, then writes index and footer behind the records.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::journal::format::{FOOTER_BYTES, Footer, HEADER_BYTES, INDEX_EVERY_BYTES, IndexEntry};
use crate::journal::read::reader::{Next, ReadError, Reader};

/// The contents of a segment, as found by reading all of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// Number of valid records.
    pub records: u64,
    /// Bytes of their payloads.
    pub payload_bytes: u64,
    /// Number of damaged places with records behind them, plus a damaged header or footer.
    pub damaged: u64,
    /// Number of those places that hold only zeros: in a segment being written, later records may reach the
    /// disk first, and are not committed yet.
    pub blank: u64,
    /// Offset of the first damaged place, bytes.
    pub first_damage: Option<u64>,
    /// Bytes behind the last record that are not a record.
    pub torn_bytes: u64,
    /// Offset of the end of the last record, bytes.
    pub data_end: u64,
    /// Receive time of the earliest record, ns since 1970; 0 if there is none.
    pub first_unix_ns: u64,
    /// Receive time of the latest record, ns since 1970; 0 if there is none.
    pub last_unix_ns: u64,
    /// Whether the segment is byte for byte what was sealed. `None` if it is not sealed.
    pub intact: Option<bool>,
}

/// Reads a segment to its end, and hashes it on the way. The reader must not have read anything yet.
///
/// # Errors
/// The segment cannot be read.
pub fn survey(reader: &mut Reader, each: impl FnMut(&IndexEntry)) -> io::Result<Survey> {
    reader.skip_gaps();
    reader.start_hash()?;
    let mut found = read_records(reader, each)?;
    found.intact = reader.is_intact()?;
    if reader.header_is_damaged() {
        found.damaged += 1;
        found.first_damage = Some(0);
    }
    // An unreadable end is not known to be torn, nor is a damaged footer.
    let is_unread = found.intact.is_none() && reader.gaps_end() > found.data_end;
    let is_damaged = reader.footer_is_damaged() && found.torn_bytes >= FOOTER_BYTES as u64;
    if is_unread || is_damaged {
        found.damaged += 1;
        found.first_damage.get_or_insert(found.data_end);
    }
    Ok(found)
}

fn read_records(reader: &mut Reader, mut each: impl FnMut(&IndexEntry)) -> io::Result<Survey> {
    let mut found = Survey { data_end: HEADER_BYTES as u64, ..Survey::default() };
    loop {
        match reader.read_next()? {
            Next::Record { offset, record } => {
                let time = record.received_unix_ns;
                each(&IndexEntry {
                    offset,
                    records_before: found.records,
                    latest_unix_ns: found.last_unix_ns.max(time),
                });
                found.first_unix_ns =
                    if found.records == 0 { time } else { found.first_unix_ns.min(time) };
                found.last_unix_ns = found.last_unix_ns.max(time);
                found.records += 1;
                found.payload_bytes += record.payload.len() as u64;
            }
            Next::Damaged { offset, .. } => {
                found.damaged += 1;
                found.blank += u64::from(reader.is_blank(offset)?);
                found.first_damage.get_or_insert(offset);
            }
            Next::End { offset, torn_bytes } => {
                (found.data_end, found.torn_bytes) = (offset, torn_bytes);
                return Ok(found);
            }
        }
    }
}

/// Seals a segment: cuts off its torn end, writes index and footer, and syncs it. A sealed segment is left
/// as it is.
///
/// # Errors
/// The file cannot be read or written, or is not a segment.
pub fn seal(path: &Path) -> Result<Survey, ReadError> {
    seal_from(path, 0, true)
}

/// Seals a segment of which `committed_bytes` are known to be committed: bytes before that which are not a
/// record are damaged, not torn, and stay. With `passes_gaps`, so do places that the disk cannot read.
///
/// # Errors
/// The same as of [`seal`].
pub(crate) fn seal_from(
    path: &Path,
    committed_bytes: u64,
    passes_gaps: bool,
) -> Result<Survey, ReadError> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let mut reader = Reader::from_file(file.try_clone()?)?;
    // Only sealed segments are compressed, and nothing may be written into them.
    if reader.footer().is_some() || reader.is_compressed() {
        return Ok(survey(&mut reader, |_| {})?);
    }
    if passes_gaps {
        reader.skip_gaps();
    }
    reader.start_hash()?;
    let mut index: Vec<IndexEntry> = Vec::new();
    let mut next_mark = 0;
    let mut found = read_records(&mut reader, |entry| {
        if entry.offset >= next_mark {
            index.push(*entry);
            next_mark = entry.offset + INDEX_EVERY_BYTES;
        }
    })?;
    let file_bytes = file.metadata()?.len();
    // A record that begins in an unreadable place may end anywhere behind it.
    let is_unread = reader.gaps_end() > found.data_end;
    let known_end = if is_unread { file_bytes } else { committed_bytes.min(file_bytes) };
    let data_end = known_end.max(found.data_end);
    found.torn_bytes = found.torn_bytes.saturating_sub(data_end - found.data_end);
    if data_end > found.data_end {
        found.damaged += 1;
        found.first_damage.get_or_insert(found.data_end);
        found.data_end = data_end;
    }
    file.set_len(found.data_end)?;
    step!("seal-cut");
    let index_bytes: Vec<u8> = index.iter().flat_map(IndexEntry::encode).collect();
    let mut hasher = reader.hasher(found.data_end)?;
    hasher.update(&index_bytes);
    let footer = Footer {
        data_end: found.data_end,
        index_entries: index.len() as u64,
        records: found.records,
        payload_bytes: found.payload_bytes,
        first_unix_ns: found.first_unix_ns,
        last_unix_ns: found.last_unix_ns,
        hash: *hasher.finalize().as_bytes(),
    };
    // One write: if a crash tears it, the next start cuts it off again.
    let tail = [&index_bytes[..], &footer.encode(reader.header().salt)].concat();
    file.write_all_at(&tail, found.data_end)?;
    step!("seal-written");
    file.sync_data()?;
    step!("seal-synced");
    Ok(found)
}

/// Returns whether a sealed segment is byte for byte what was sealed, or `None` if it is not sealed.
///
/// # Errors
/// The file cannot be read, or is not a segment.
pub fn is_intact(path: &Path) -> Result<Option<bool>, ReadError> {
    Ok(Reader::open(path)?.is_intact()?)
}
