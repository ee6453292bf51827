//! Compresses sealed segments. `read/packed.rs` describes the file format and reads it.
//!
//! ```text
//!  NAME.seg ─► NAME.seg.zst.tmp ─► fsync ─► rename to NAME.seg.zst ─► fsync of the directory
//!           └──────────────────────────────────────────────────────► and only then removed
//! ```
//! After a crash at any point, one of the two files is complete. While both exist, the plain one is used.

use std::fs::{self, File, FileTimes, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use zstd::bulk::Compressor;
use zstd::zstd_safe::CParameter;

use crate::journal::format::HEADER_BYTES;
use crate::journal::names;
use crate::journal::read::gaps::read_at;
use crate::journal::read::packed;
use crate::journal::read::packed::{
    CHECKSUM_OF_NOTHING, ENTRY_BYTES, FRAME_BYTES, FRAMES_MAX, HEAD_BYTES, SEEKABLE_MAGIC,
    TABLE_BYTES, TABLE_MAGIC, WITH_CHECKSUMS,
};
use crate::journal::read::reader::{ReadError, Reader};

/// Level of `--compress zstd` without a number: a third of the size for log lines, faster than any network
/// delivers them.
pub const LEVEL_DEFAULT: i32 = 3;
/// File extension of an unfinished compressed file.
const UNFINISHED: &str = "tmp";

/// Returns the supported compression levels.
#[must_use]
pub fn levels() -> std::ops::RangeInclusive<i32> {
    1..=*zstd::compression_level_range().end()
}

/// Compresses a sealed segment, and removes the plain one. A segment that differs from what was sealed is
/// left as it is, so that no recoverable data is lost.
///
/// # Errors
/// The segment cannot be read or written, is not sealed, or is damaged. The plain segment then still
/// exists.
pub fn compress(path: &Path, level: i32) -> Result<(), ReadError> {
    compress_while(path, level, &mut || true).map(drop)
}

/// Compresses like [`compress`] as long as `go_on`, called before each frame, returns `true`. Returns
/// `false` if it was stopped.
pub(crate) fn compress_while(
    path: &Path,
    level: i32,
    go_on: &mut dyn FnMut() -> bool,
) -> Result<bool, ReadError> {
    let target = names::packed_path(path).ok_or(ReadError::NoSegment("compressed already"))?;
    let unfinished = target.with_added_extension(UNFINISHED);
    let written = write(path, &unfinished, level, go_on);
    match written.and_then(|whole| Ok(whole && fs::rename(&unfinished, &target).map(|()| true)?)) {
        Ok(true) => {}
        not_done => {
            // If this fails, the next start removes it.
            let _ = fs::remove_file(&unfinished);
            return not_done;
        }
    }
    sync_names(path)?;
    fs::remove_file(path)?;
    Ok(true)
}

/// Syncs the directory of `path`, so that created and removed names are durable.
fn sync_names(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}

/// Writes the compressed file. Returns `false` if `go_on` stopped it before the end.
fn write(
    path: &Path,
    unfinished: &Path,
    level: i32,
    go_on: &mut dyn FnMut() -> bool,
) -> Result<bool, ReadError> {
    let plain = File::open(path)?;
    let facts = plain.metadata()?;
    let reader = Reader::from_file(plain.try_clone()?)?;
    let footer = *reader.footer().ok_or(ReadError::NoSegment("not sealed"))?;
    if facts.len() > (FRAMES_MAX * FRAME_BYTES) as u64 {
        return Err(ReadError::NoSegment("too large to be compressed"));
    }
    let mut header = [0; HEADER_BYTES];
    read_at(&plain, &mut header, 0)?;
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o640).open(unfinished)?;
    let mut out = BufWriter::with_capacity(1 << 20, file);
    out.write_all(&packed::head(&header, &footer.encode(reader.header().salt)))?;
    let sealed_bytes = footer.data_end + footer.index_bytes();
    let frames = write_frames(&plain, &mut out, (level, sealed_bytes), go_on)?;
    let Some((hash, entries)) = frames else { return Ok(false) };
    if hash != footer.hash {
        return Err(ReadError::NoSegment("not what was sealed (its hash differs)"));
    }
    out.write_all(&table(&entries))?;
    let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    // The file keeps the segment's time of modification, which retention uses.
    file.set_times(FileTimes::new().set_modified(facts.modified()?))?;
    file.sync_all()?;
    Ok(true)
}

/// A seek table entry: bytes of the frame in the file, bytes of the segment in it, checksum.
type Entry = [u32; 3];

/// Writes a segment as frames. Returns the hash of its first `sealed_bytes` and the seek table's entries,
/// or `None` if `go_on` stopped it.
fn write_frames(
    plain: &File,
    out: &mut impl Write,
    (level, sealed_bytes): (i32, u64),
    go_on: &mut dyn FnMut() -> bool,
) -> io::Result<Option<([u8; 32], Vec<Entry>)>> {
    let mut codec = Compressor::new(level)?;
    codec.set_parameter(CParameter::ChecksumFlag(true))?;
    codec.set_parameter(CParameter::ContentSizeFlag(true))?;
    let length = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
    let mut entries = vec![[length(HEAD_BYTES), 0, CHECKSUM_OF_NOTHING]];
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; FRAME_BYTES];
    let mut offset = 0;
    while go_on() {
        let got = read_at(plain, &mut buffer, offset)?;
        if got == 0 {
            return Ok(Some((*hasher.finalize().as_bytes(), entries)));
        }
        let sealed = sealed_bytes.saturating_sub(offset);
        hasher.update(&buffer[..usize::try_from(sealed).unwrap_or(usize::MAX).min(got)]);
        let frame = codec.compress(&buffer[..got])?;
        out.write_all(&frame)?;
        // A frame ends in the checksum that the seek table repeats.
        let checksum = frame.last_chunk().map_or(0, |sum| u32::from_le_bytes(*sum));
        entries.push([length(frame.len()), length(got), checksum]);
        offset += got as u64;
    }
    Ok(None)
}

/// Encodes the seek table.
fn table(entries: &[Entry]) -> Vec<u8> {
    let count = u32::try_from(entries.len()).unwrap_or(0);
    let bytes = TABLE_BYTES - 8 + entries.len() * ENTRY_BYTES;
    let mut table = Vec::with_capacity(8 + bytes);
    table.extend(TABLE_MAGIC.to_le_bytes());
    table.extend(u32::try_from(bytes).unwrap_or(0).to_le_bytes());
    table.extend(entries.iter().flatten().flat_map(|word| word.to_le_bytes()));
    table.extend(count.to_le_bytes());
    table.push(WITH_CHECKSUMS);
    table.extend(SEEKABLE_MAGIC.to_le_bytes());
    table
}

/// Removes the leftovers of a crash during compression: unfinished files, and compressed files beside their
/// plain segment. Only the process that writes the journal may call it.
///
/// # Errors
/// The directory cannot be read, or a file cannot be removed.
pub fn remove_leftovers(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let without = path.with_extension("");
        let unfinished = path.extension().is_some_and(|extension| extension == UNFINISHED);
        let doomed = if unfinished {
            names::is_packed(&without) && names::is_segment(&without)
        } else {
            names::is_packed(&path) && names::is_segment(&path) && without.try_exists()?
        };
        if doomed {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}
