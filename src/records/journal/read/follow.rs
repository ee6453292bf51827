//! Follows the end of a journal: its last records, and those that arrive later.
//!
//! ```text
//!  inotify: a file was written to ──► read on in the segments that are open
//!           one came, or went      ──► list the directory: open what is new
//! ```
//! A segment is followed until it is sealed or removed. Compressing it meanwhile makes no difference: the
//! open file is still the plain one.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use crate::journal::format::Record;
use crate::journal::read::merge::{
    Trouble, Wanted, What, by_worker, next_wanted, open, unreadable,
};
use crate::journal::read::reader::{ReadError, Reader};
use crate::journal::read::select::Selection;
use crate::journal::segment;
use crate::journal::segment::SegmentFile;

/// Newest segments of a worker that may still be written to: two are open, and one more may have just
/// ended.
const OPEN_MAX: usize = 3;

/// An owned record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedRecord {
    received_unix_ns: u64,
    peer: SocketAddr,
    listener: u16,
    continued: bool,
    payload: Vec<u8>,
}

impl From<Record<'_>> for OwnedRecord {
    fn from(record: Record<'_>) -> Self {
        let Record { received_unix_ns, peer, listener, continued, payload } = record;
        Self { received_unix_ns, peer, listener, continued, payload: payload.to_vec() }
    }
}

impl OwnedRecord {
    /// Returns the record, borrowed.
    #[must_use]
    pub fn record(&self) -> Record<'_> {
        let Self { received_unix_ns, peer, listener, continued, ref payload } = *self;
        Record { received_unix_ns, peer, listener, continued, payload }
    }
}

/// Why a journal cannot be followed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FollowError {
    /// A file system operation failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The inotify limit of the kernel is reached, or inotify failed.
    #[error(
        "inotify: {0}; fs.inotify.max_user_instances and max_user_watches say how much there may be"
    )]
    Watch(Errno),
    /// The directory was removed.
    #[error("the directory was removed")]
    Removed,
}

/// A segment that is being followed.
#[derive(Debug)]
struct Source {
    path: PathBuf,
    reader: Reader,
    /// Receive time of the next record, ns since 1970; `None` if there is none yet.
    next_unix_ns: Option<u64>,
    /// Whether the segment is finished: no more records will come.
    done: bool,
}

/// Follows a journal. See the module's description.
#[derive(Debug)]
pub struct Follow {
    dir: PathBuf,
    selection: Selection,
    inotify: Inotify,
    /// Highest segment number seen of each worker.
    newest_seen: BTreeMap<u16, u64>,
    /// Whether a segment had no header yet when the directory was last listed.
    headerless: bool,
    sources: Vec<Source>,
}

/// Returns the last `count` selected records of a journal, in the order of arrival.
///
/// # Errors
/// The directory cannot be read.
pub fn last(
    dir: &Path,
    selection: &Selection,
    count: usize,
    report: &mut dyn FnMut(Trouble),
) -> io::Result<Vec<OwnedRecord>> {
    let mut last = Vec::new();
    for lane in by_worker(segment::list(dir)?) {
        last.extend(last_of(&lane, selection, count, report).0);
    }
    Ok(latest(last, count))
}

impl Follow {
    /// Returns the last `count` selected records, and a follower for those that come later.
    ///
    /// # Errors
    /// The directory cannot be read or watched.
    pub fn open(
        dir: &Path,
        selection: Selection,
        count: usize,
        report: &mut dyn FnMut(Trouble),
    ) -> Result<(Vec<OwnedRecord>, Self), FollowError> {
        let inotify = watch(dir).map_err(FollowError::Watch)?;
        let mut newest_seen = BTreeMap::new();
        let (mut last, mut sources, mut headerless) = (Vec::new(), Vec::new(), false);
        for mut lane in by_worker(segment::list(dir)?) {
            if lane.last().is_some_and(SegmentFile::has_no_header) {
                headerless = true;
                lane.pop();
            }
            if let Some(newest) = lane.last() {
                newest_seen.insert(newest.worker, newest.sequence);
            }
            let (found, open) = last_of(&lane, &selection, count, report);
            last.extend(found);
            sources.extend(open);
        }
        let follow =
            Self { dir: dir.to_owned(), selection, inotify, newest_seen, headerless, sources };
        Ok((latest(last, count), follow))
    }

    /// Calls `each` with the records that arrived since the last call, in the order of arrival as far as it
    /// is known.
    ///
    /// # Errors
    /// An error of `each`, or following ended.
    pub fn take<E: From<FollowError>>(
        &mut self,
        report: &mut dyn FnMut(Trouble),
        mut each: impl FnMut(&Record<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.read_events()? || self.headerless {
            self.open_new(report)?;
        }
        let selection = &self.selection;
        self.sources.iter_mut().for_each(|source| source.advance(selection, report));
        while let Some(source) = earliest(&mut self.sources) {
            if let Some(record) = source.reader.last() {
                each(&record)?;
            }
            source.advance(selection, report);
        }
        self.sources.retain(|source| !source.done);
        Ok(())
    }

    /// Reads the inotify events. Returns whether there may be new segments.
    fn read_events(&self) -> Result<bool, FollowError> {
        let mut news = false;
        loop {
            let events = match self.inotify.read_events() {
                Ok(events) => events,
                Err(Errno::EAGAIN) => return Ok(news),
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(FollowError::Watch(errno)),
            };
            let end = AddWatchFlags::IN_DELETE_SELF
                | AddWatchFlags::IN_MOVE_SELF
                | AddWatchFlags::IN_UNMOUNT
                | AddWatchFlags::IN_IGNORED;
            // IN_Q_OVERFLOW: events were lost, and one of them may have been a new file.
            let new = AddWatchFlags::IN_CREATE
                | AddWatchFlags::IN_MOVED_TO
                | AddWatchFlags::IN_Q_OVERFLOW;
            for event in events {
                if event.mask.intersects(end) {
                    return Err(FollowError::Removed);
                }
                news |= event.mask.intersects(new);
            }
        }
    }

    /// Opens the segments that are new in the directory.
    fn open_new(&mut self, report: &mut dyn FnMut(Trouble)) -> Result<(), FollowError> {
        let listed = segment::list(&self.dir)?;
        self.headerless = false;
        for (index, one) in listed.iter().enumerate() {
            if self
                .newest_seen
                .get(&one.worker)
                .is_some_and(|newest_seen| *newest_seen >= one.sequence)
            {
                continue;
            }
            let newest = listed.get(index + 1).is_none_or(|next| next.worker != one.worker);
            match Reader::open(&one.path) {
                Ok(mut reader) => {
                    reader.skip_gaps();
                    self.sources.push(Source::new(one, reader));
                }
                // The newest segment may not have its header yet.
                Err(ReadError::NoSegment(_)) if newest => {
                    self.headerless = true;
                    continue;
                }
                Err(error) => report(unreadable(one.path.clone(), error)),
            }
            self.newest_seen.insert(one.worker, one.sequence);
        }
        Ok(())
    }
}

/// Watches a directory with inotify.
fn watch(dir: &Path) -> nix::Result<Inotify> {
    let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
    let flags = AddWatchFlags::IN_CREATE
        | AddWatchFlags::IN_MODIFY
        | AddWatchFlags::IN_MOVED_TO
        | AddWatchFlags::IN_DELETE
        | AddWatchFlags::IN_DELETE_SELF
        | AddWatchFlags::IN_MOVE_SELF
        | AddWatchFlags::IN_ONLYDIR;
    inotify.add_watch(dir, flags)?;
    Ok(inotify)
}

impl AsFd for Follow {
    /// Becomes readable when [`Follow::take`] should be called.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

/// Returns the source with the earliest next record.
fn earliest(sources: &mut [Source]) -> Option<&mut Source> {
    let known = sources.iter_mut().filter(|source| source.next_unix_ns.is_some());
    known.min_by_key(|source| source.next_unix_ns)
}

impl Source {
    fn new(segment: &SegmentFile, reader: Reader) -> Self {
        Self { path: segment.path.clone(), reader, next_unix_ns: None, done: false }
    }

    /// Reads on to the next selected record.
    fn advance(&mut self, selection: &Selection, report: &mut dyn FnMut(Trouble)) {
        // A file without a name is complete: it was sealed, then compressed or removed.
        let complete = !self.reader.is_linked();
        let mut report = |what| report(Trouble { path: self.path.clone(), what });
        self.next_unix_ns = loop {
            match next_wanted(&mut self.reader, selection) {
                Ok(Wanted::Record(unix_ns)) => break Some(unix_ns),
                Ok(Wanted::Pause) => {}
                Ok(Wanted::Damaged { offset, bytes }) => report(What::Damaged { offset, bytes }),
                Ok(Wanted::End { torn_bytes }) => {
                    let sealed = self.reader.footer().is_some();
                    if sealed && torn_bytes > 0 {
                        report(What::Missing { bytes: torn_bytes });
                    }
                    self.done = sealed || complete;
                    // Later records must be read from the file, not from the window.
                    self.reader.go_back(self.reader.offset());
                    break None;
                }
                Err(error) => {
                    report(What::Unreadable(error.into()));
                    self.done = true;
                    break None;
                }
            }
        };
    }

    /// Reads to the end, and returns the last `count` selected records.
    fn last(
        &mut self,
        selection: &Selection,
        count: usize,
        report: &mut dyn FnMut(Trouble),
    ) -> VecDeque<OwnedRecord> {
        let mut last = VecDeque::new();
        if let Some(records) = self.reader.footer().map(|footer| footer.records) {
            if count == 0 {
                self.done = true;
                return last;
            }
            let before = records.saturating_sub(count as u64);
            if selection.wants_all() {
                // If this fails, the segment is read from its beginning, and unreadable parts are reported.
                let _ = self.reader.seek_record(before);
            }
        }
        loop {
            self.advance(selection, report);
            let Some(record) = self.next_unix_ns.and_then(|_| self.reader.last()) else {
                return last;
            };
            if last.len() == count {
                last.pop_front();
            }
            if count > 0 {
                last.push_back(OwnedRecord::from(record));
            }
        }
    }
}

/// Returns the last `count` selected records of one worker, and its segments that are still open, read to
/// their end.
fn last_of(
    lane: &[SegmentFile],
    selection: &Selection,
    count: usize,
    report: &mut dyn FnMut(Trouble),
) -> (VecDeque<OwnedRecord>, Vec<Source>) {
    let mut last = VecDeque::new();
    let mut sources = Vec::new();
    for (age, one) in lane.iter().rev().enumerate() {
        let wanted = count - last.len();
        if wanted == 0 && age >= OPEN_MAX {
            break;
        }
        let mut reader = match open(one, selection) {
            Ok(Some(reader)) => reader,
            Ok(None) => continue,
            Err(error) => {
                report(unreadable(one.path.clone(), error));
                continue;
            }
        };
        reader.set_limit(u64::MAX);
        let mut source = Source::new(one, reader);
        let mut found = source.last(selection, wanted, report);
        found.append(&mut last);
        last = found;
        if !source.done {
            sources.push(source);
        }
    }
    (last, sources)
}

/// Returns the latest `count` records, sorted by receive time.
fn latest(mut records: Vec<OwnedRecord>, count: usize) -> Vec<OwnedRecord> {
    records.sort_by_key(|kept| kept.received_unix_ns);
    let surplus = records.len().saturating_sub(count);
    records.split_off(surplus)
}
