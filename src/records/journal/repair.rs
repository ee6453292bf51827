//! Repairs what a crash left in a journal, and indexes the segments of earlier runs.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::journal::error::JournalError;
use crate::journal::format::HEADER_BYTES;
use crate::journal::keep::commit_index::CommitIndex;
use crate::journal::keep::seal::{Survey, seal, survey};
use crate::journal::names;
use crate::journal::read::gaps::is_eio;
use crate::journal::read::reader::{ReadError, Reader};
use crate::journal::segment;
use crate::journal::segment::SegmentFile;
use crate::settle::notices::Notices;
use crate::settle::run::Committed;

/// A segment that was not sealed when the journal was opened, and the result of its repair.
#[derive(Clone, Debug)]
pub struct Repaired {
    /// Path of the segment before the repair.
    pub path: PathBuf,
    /// Contents of the segment. `None` if it was empty and removed, or was set aside.
    pub found: Option<Survey>,
    /// New path of the segment if it was set aside because nothing of it can be read.
    pub aside: Option<PathBuf>,
    /// Why the segment was set aside, if not for a damaged header; or why it was left unsealed (a full
    /// disk, for example, has no room for the footer). A segment left unsealed can still be read, and the
    /// next start tries again.
    pub left: Option<String>,
}

impl Repaired {
    /// Returns whether committed records may be lost, or the segment could not be repaired. A crash alone
    /// causes neither.
    #[must_use]
    pub fn is_loss(&self) -> bool {
        let is_damaged = self.found.is_some_and(|found| found.damaged > 0);
        is_damaged || self.aside.is_some() || self.left.is_some()
    }
}

/// Seals unsealed segments, and removes empty ones. A disk error does not keep the journal from opening.
pub(crate) fn repair(segments: &[SegmentFile]) -> Result<Vec<Repaired>, JournalError> {
    let mut repaired = Vec::new();
    for one in segments {
        let opened = Reader::open(&one.path);
        if let Err(ReadError::OtherVersion) = opened {
            let (dir, segment) = named(&one.path);
            return Err(JournalError::OtherVersion { dir, segment });
        }
        let sealed = matches!(opened, Ok(reader) if reader.footer().is_some());
        // A compressed segment was sealed before; it is never written to, even if it is damaged.
        if sealed || names::is_packed(&one.path) {
            continue;
        }
        step!("repair");
        let repair = repair_one(one);
        let mut repaired_one =
            Repaired { path: one.path.clone(), found: None, aside: None, left: None };
        match repair {
            Ok(Repair::Sealed(found)) => repaired_one.found = Some(found),
            Ok(Repair::Removed) => {}
            Ok(Repair::SetAside(path)) => repaired_one.aside = Some(path),
            Err(error) => repaired_one.left = Some(error.to_string()),
        }
        repaired.push(repaired_one);
    }
    Ok(repaired)
}

/// The result of repairing one segment.
enum Repair {
    Sealed(Survey),
    /// The segment was empty and was removed.
    Removed,
    /// Nothing of it can be read. It was renamed, for somebody to examine.
    SetAside(PathBuf),
}

fn repair_one(one: &SegmentFile) -> io::Result<Repair> {
    let path = &one.path;
    match seal(path) {
        Ok(found) if found.records == 0 && found.damaged == 0 => fs::remove_file(path)?,
        Ok(found) => return Ok(Repair::Sealed(found)),
        // The header, which is written first, is torn: nothing was committed.
        Err(ReadError::NoSegment(_)) if one.bytes <= HEADER_BYTES as u64 => {
            fs::remove_file(path)?;
        }
        // The header is damaged, and records may follow.
        Err(ReadError::NoSegment(_)) => return segment::set_aside(path).map(Repair::SetAside),
        Err(ReadError::Io(error)) => return Err(error),
        Err(error @ ReadError::OtherVersion) => return Err(io::Error::other(error)),
    }
    Ok(Repair::Removed)
}

/// Adds the segments of earlier runs to the index. A segment that cannot be read is set aside: it is
/// unknown which of its records were sent, so it can neither be shipped nor be removed.
pub(crate) fn index_segments(
    segments: &[SegmentFile],
    commit_index: &CommitIndex,
    notices: &Notices,
) -> Result<Vec<Repaired>, JournalError> {
    let mut unknown = Vec::new();
    for one in segments {
        let error = match extent(&one.path) {
            Ok((offset, records)) => {
                let holds = Committed { sequence: one.sequence, offset, records, datagrams: 0 };
                commit_index.add_earlier(one.worker, holds);
                continue;
            }
            // Retention or a person removed it meanwhile.
            Err(ReadError::Io(error)) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(ReadError::Io(source)) if !is_eio(&source) => {
                let (dir, segment) = named(&one.path);
                return Err(JournalError::Unreadable { dir, segment, source });
            }
            Err(error) => error.to_string(),
        };
        match segment::set_aside(&one.path) {
            Ok(aside) => unknown.push(Repaired {
                path: one.path.clone(),
                found: None,
                aside: Some(aside),
                left: Some(error),
            }),
            Err(_) => {
                commit_index.reserve_number(one.worker, one.sequence);
                let name = one.path.display().to_string();
                notices.repeated(&name, || {
                    format!("cannot read {name}: {error}; its records will not be shipped")
                });
            }
        }
    }
    Ok(unknown)
}

/// Splits a segment's path into its directory and file name.
fn named(path: &Path) -> (PathBuf, String) {
    let dir = path.parent().unwrap_or(path).to_owned();
    (dir, path.file_name().unwrap_or_default().to_string_lossy().into_owned())
}

/// Returns where the records of a segment end (offset, bytes), and how many they are.
fn extent(path: &Path) -> Result<(u64, u64), ReadError> {
    let mut reader = Reader::open(path)?;
    if let Some(footer) = reader.footer() {
        return Ok((footer.data_end, footer.records));
    }
    let found = survey(&mut reader, |_| {})?;
    Ok((found.data_end, found.records))
}
