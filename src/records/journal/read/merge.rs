//! Merges the records of all workers in the order of arrival.
//!
//! ```text
//!  worker 0:  segment ─► segment ─► …  ─┐
//!  worker 1:  segment ─► …             ─┼─► the earliest of those at hand
//! ```
//! One segment of each worker is open at a time. The end of each segment is fixed at the start, so reading
//! a journal that is being written ends.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::vec::IntoIter;

use crate::journal::format::Record;
use crate::journal::names;
use crate::journal::read::reader::{Next, ReadError, Reader};
use crate::journal::read::select::Selection;
use crate::journal::segment;
use crate::journal::segment::SegmentFile;

/// A problem with a segment, or with a part of it.
#[derive(Debug)]
pub struct Trouble {
    /// The segment's file.
    pub path: PathBuf,
    /// The problem.
    pub what: What,
}

/// The kinds of [`Trouble`].
#[derive(Debug)]
pub enum What {
    /// Retention removed the segment before it was read.
    Gone,
    /// The segment, or the rest of it, cannot be read.
    Unreadable(ReadError),
    /// Damaged bytes with records behind them.
    Damaged {
        /// Offset of the first damaged byte.
        offset: u64,
        /// Number of bytes.
        bytes: u64,
    },
    /// Bytes between the last record and the index that should be records.
    Missing {
        /// Number of bytes.
        bytes: u64,
    },
    /// It is not sealed although a later segment of its worker is.
    Endless,
}

/// Explanation of [`What::Endless`].
pub const ENDLESS: &str = "its end is missing: records behind the last one, if there were any, are lost (or it could \
     not be sealed yet, and its writer retries)";

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.path.file_name().unwrap_or_default().to_string_lossy())?;
        match &self.what {
            What::Gone => f.write_str("it was removed before it was read"),
            What::Unreadable(error) => write!(f, "{error}"),
            What::Damaged { offset, bytes } => {
                write!(f, "{bytes} bytes at offset {offset} are not a record")
            }
            What::Missing { bytes } => {
                write!(f, "the last {bytes} bytes before its index are not a record")
            }
            What::Endless => f.write_str(ENDLESS),
        }
    }
}

/// The result of reading on.
#[derive(Debug)]
pub enum Step<'a> {
    /// A selected record.
    Record(Record<'a>),
    /// A problem. Records behind it follow.
    Trouble(Trouble),
    /// Many records were skipped, and more may follow: a chance for the caller to stop.
    Pause,
}

/// Records skipped before [`Step::Pause`]. Fewer: more calls. More: a caller that wants to stop waits
/// longer.
const PASSED_OVER_MAX: u32 = 16_384;

/// Reads a journal in the order of arrival. See the module's description.
#[derive(Debug)]
pub struct Merge {
    selection: Selection,
    lanes: Vec<Lane>,
    /// Lanes whose next record is known, by its receive time.
    known: BinaryHeap<Reverse<(u64, usize)>>,
    /// Lanes whose next record must still be found.
    due: Vec<usize>,
}

/// One worker's segments.
#[derive(Debug)]
struct Lane {
    current: Option<(SegmentFile, Reader)>,
    rest: IntoIter<SegmentFile>,
}

/// The result of advancing a lane.
enum Found {
    /// The reader has a record, received at this time.
    Record(u64),
    Trouble(Trouble),
    Pause,
    End,
}

/// Groups sorted segments by worker.
pub(crate) fn by_worker(segments: Vec<SegmentFile>) -> Vec<Vec<SegmentFile>> {
    let mut lanes: Vec<Vec<SegmentFile>> = Vec::new();
    for one in segments {
        match lanes.last_mut() {
            Some(lane) if lane.last().is_some_and(|last| last.worker == one.worker) => {
                lane.push(one);
            }
            _ => lanes.push(vec![one]),
        }
    }
    lanes
}

impl Merge {
    /// Reads the selected records of a journal, up to its present end.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn open(dir: &Path, selection: Selection) -> io::Result<Self> {
        Ok(Self::of(segment::list(dir)?, selection))
    }

    /// Reads the selected records of `segments`, sorted as [`segment::list`] returns them.
    #[must_use]
    pub fn of(segments: Vec<SegmentFile>, selection: Selection) -> Self {
        let lane = |segments: Vec<_>| Lane { current: None, rest: segments.into_iter() };
        let lanes: Vec<Lane> = by_worker(segments).into_iter().map(lane).collect();
        Self { selection, due: (0..lanes.len()).collect(), lanes, known: BinaryHeap::new() }
    }

    /// Returns the next record, or a problem before it, or `None` at the end.
    pub fn next_step(&mut self) -> Option<Step<'_>> {
        while let Some(index) = self.due.last().copied() {
            match self.lanes[index].advance(&self.selection) {
                Found::Trouble(trouble) => return Some(Step::Trouble(trouble)),
                Found::Pause => return Some(Step::Pause),
                Found::Record(unix_ns) => self.known.push(Reverse((unix_ns, index))),
                Found::End => {}
            }
            self.due.pop();
        }
        let Reverse((_, index)) = self.known.pop()?;
        self.due.push(index);
        let (_, reader) = self.lanes[index].current.as_ref()?;
        reader.last().map(Step::Record)
    }
}

impl Lane {
    /// Advances to the next selected record.
    fn advance(&mut self, selection: &Selection) -> Found {
        loop {
            let Some((segment, reader)) = &mut self.current else {
                let Some(segment) = self.rest.next() else { return Found::End };
                match open(&segment, selection) {
                    Ok(reader) => self.current = reader.map(|reader| (segment, reader)),
                    Err(error) => return Found::Trouble(unreadable(segment.path, error)),
                }
                continue;
            };
            let what = match next_wanted(reader, selection) {
                Ok(Wanted::Record(unix_ns)) => return Found::Record(unix_ns),
                Ok(Wanted::Pause) => return Found::Pause,
                Ok(Wanted::Damaged { offset, bytes }) => What::Damaged { offset, bytes },
                Ok(Wanted::End { torn_bytes }) => {
                    let path = std::mem::take(&mut segment.path);
                    let what = if reader.is_read_to_its_index() && torn_bytes > 0 {
                        Some(What::Missing { bytes: torn_bytes })
                    } else if reader.footer().is_none() && reader.gaps_end() > reader.offset() {
                        // An unreadable end is not known to be torn.
                        Some(What::Unreadable(io::Error::from_raw_os_error(libc::EIO).into()))
                    } else if reader.footer().is_none() && is_endless(&path, self.rest.as_slice()) {
                        Some(What::Endless)
                    } else {
                        None
                    };
                    self.current = None;
                    match what {
                        Some(what) => return Found::Trouble(Trouble { path, what }),
                        None => continue,
                    }
                }
                Err(error) => {
                    let path = std::mem::take(&mut segment.path);
                    self.current = None;
                    return Found::Trouble(unreadable(path, error.into()));
                }
            };
            return Found::Trouble(Trouble { path: segment.path.clone(), what });
        }
    }
}

/// Returns whether a segment that was not sealed when it was opened should have been: a worker's segments
/// are sealed in order, and a later one is sealed.
#[must_use]
pub fn is_endless<'a>(path: &Path, behind: impl IntoIterator<Item = &'a SegmentFile>) -> bool {
    let is_sealed =
        |path: &Path| matches!(Reader::open(path), Ok(reader) if reader.footer().is_some());
    behind.into_iter().any(|one| is_sealed(&one.path))
        // It may have been sealed, compressed or removed meanwhile, so open it again.
        && matches!(Reader::open(path), Ok(reader) if reader.footer().is_none())
}

pub(crate) fn unreadable(path: PathBuf, error: ReadError) -> Trouble {
    let what = match error {
        ReadError::Io(error) if error.kind() == io::ErrorKind::NotFound => What::Gone,
        error => What::Unreadable(error),
    };
    Trouble { path, what }
}

/// Opens a segment at the first record that may be selected. Returns `None` if none is.
pub(crate) fn open(
    segment: &SegmentFile,
    selection: &Selection,
) -> Result<Option<Reader>, ReadError> {
    if segment.has_no_header() {
        return Ok(None);
    }
    let mut reader = Reader::open(&segment.path)?;
    reader.skip_gaps();
    if reader.footer().is_some_and(|footer| !selection.may_want(footer)) {
        return Ok(None);
    }
    if let Some(since) = selection.since_unix_ns {
        reader.seek_time(since)?;
    }
    // The size of a compressed file does not limit the segment, but a compressed segment no longer grows.
    if !names::is_packed(&segment.path) {
        reader.set_limit(segment.bytes);
    }
    Ok(Some(reader))
}

/// The result of reading on to the next selected record.
pub(crate) enum Wanted {
    /// A selected record, received at this time; [`Reader::last`] returns it.
    Record(u64),
    Damaged {
        offset: u64,
        bytes: u64,
    },
    End {
        torn_bytes: u64,
    },
    /// Only records that are not selected so far.
    Pause,
}

/// Reads on to the next selected record. In a segment being written, later records may reach the disk
/// before earlier ones; the segment then ends before the missing ones.
pub(crate) fn next_wanted(reader: &mut Reader, selection: &Selection) -> io::Result<Wanted> {
    for _ in 0..PASSED_OVER_MAX {
        match reader.read_next()? {
            Next::Record { record, .. } => {
                if selection.wants(&record) {
                    return Ok(Wanted::Record(record.received_unix_ns));
                }
            }
            Next::Damaged { offset, bytes } => {
                if reader.footer().is_none() && reader.is_blank(offset)? {
                    reader.go_back(offset);
                    return Ok(Wanted::End { torn_bytes: bytes });
                }
                return Ok(Wanted::Damaged { offset, bytes });
            }
            Next::End { torn_bytes, .. } => return Ok(Wanted::End { torn_bytes }),
        }
    }
    Ok(Wanted::Pause)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::tests::packed::write_segment;

    #[test]
    fn who_looks_for_what_is_not_there_can_stop() {
        let place = tempfile::tempdir().unwrap();
        let starts = write_segment(&names::path_of(place.path(), 3, 1), 10 << 20);
        let nobody = Some(("192.0.2.99".parse().unwrap(), None));
        let selection = Selection { peer: nobody, ..Selection::default() };
        let mut merge = Merge::open(place.path(), selection).unwrap();
        let mut pauses = 0;
        while let Some(step) = merge.next_step() {
            assert!(matches!(step, Step::Pause), "{step:?}");
            pauses += 1;
        }
        assert_eq!(pauses, starts.len() / PASSED_OVER_MAX as usize);
        assert!(pauses > 0);
    }
}
