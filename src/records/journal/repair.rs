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

/// A segment that was not sealed when the journal was opened, and what was found in it.
#[derive(Clone, Debug)]
pub struct Repaired {
    /// Which.
    pub path: PathBuf,
    /// What was found; `None`: it held nothing, and was removed, or was set aside.
    pub found: Option<Survey>,
    /// Nothing of it can be read: what it is called now.
    pub aside: Option<PathBuf>,
    /// Why that is, if its beginning is not just damaged; or why it was left as it is: a disk that is full does
    /// not take a segment's end. It can be read all the same, and the next start tries again.
    pub left: Option<String>,
}

impl Repaired {
    /// Whether something that was committed may be lost, or stays as it is: a crash alone does neither.
    #[must_use]
    pub fn is_loss(&self) -> bool {
        let is_damaged = self.found.is_some_and(|found| found.damaged > 0);
        is_damaged || self.aside.is_some() || self.left.is_some()
    }
}

/// Seals what is not; removes what is empty. What the disk does not let it do is no reason not to start.
pub(crate) fn repair(segments: &[SegmentFile]) -> Result<Vec<Repaired>, JournalError> {
    let mut repaired = Vec::new();
    for one in segments {
        let opened = Reader::open(&one.path);
        if let Err(ReadError::OtherVersion) = opened {
            let (dir, segment) = named(&one.path);
            return Err(JournalError::OtherVersion { dir, segment });
        }
        let sealed = matches!(opened, Ok(reader) if reader.footer().is_some());
        // What is compressed was sealed, and is not written to, whatever became of it.
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

/// What became of a segment that was not sealed.
enum Repair {
    Sealed(Survey),
    /// It held nothing.
    Removed,
    /// Nothing of it can be read. Somebody may want to look at it.
    SetAside(PathBuf),
}

fn repair_one(one: &SegmentFile) -> io::Result<Repair> {
    let path = &one.path;
    match seal(path) {
        Ok(found) if found.records == 0 && found.damaged == 0 => fs::remove_file(path)?,
        Ok(found) => return Ok(Repair::Sealed(found)),
        // The header itself is torn: it was the first thing written, so nothing was committed.
        Err(ReadError::NoSegment(_)) if one.bytes <= HEADER_BYTES as u64 => {
            fs::remove_file(path)?;
        }
        // Or it is damaged.
        Err(ReadError::NoSegment(_)) => return segment::set_aside(path).map(Repair::SetAside),
        Err(ReadError::Io(error)) => return Err(error),
        Err(error @ ReadError::OtherVersion) => return Err(io::Error::other(error)),
    }
    Ok(Repair::Removed)
}

/// Puts up what earlier processes left. What cannot be read is set aside: nobody knows what of it was sent, so
/// it can neither be carried on nor be let go.
pub(crate) fn put_up(
    segments: &[SegmentFile],
    shelf: &CommitIndex,
    notices: &Notices,
) -> Result<Vec<Repaired>, JournalError> {
    let mut unknown = Vec::new();
    for one in segments {
        let error = match extent(&one.path) {
            Ok((offset, records)) => {
                let holds = Committed { sequence: one.sequence, offset, records, datagrams: 0 };
                shelf.put(one.worker, holds);
                continue;
            }
            // It went by itself.
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
                shelf.remember(one.worker, one.sequence);
                let name = one.path.display().to_string();
                notices.repeated(&name, || {
                    format!("cannot read {name}: {error}; its records are not carried on")
                });
            }
        }
    }
    Ok(unknown)
}

/// A segment's directory, and its name there.
fn named(path: &Path) -> (PathBuf, String) {
    let dir = path.parent().unwrap_or(path).to_owned();
    (dir, path.file_name().unwrap_or_default().to_string_lossy().into_owned())
}

/// Where the records of a segment end, and how many they are.
fn extent(path: &Path) -> Result<(u64, u64), ReadError> {
    let mut reader = Reader::open(path)?;
    if let Some(footer) = reader.footer() {
        return Ok((footer.data_end, footer.records));
    }
    let found = survey(&mut reader, |_| {})?;
    Ok((found.data_end, found.records))
}
