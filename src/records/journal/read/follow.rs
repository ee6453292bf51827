//! The end of a journal: its last records, and those that come while somebody looks on.
//!
//! ```text
//!  inotify: a file was written to ──► read on in the segments that are open
//!           one came, or went      ──► list the directory: open what is new
//! ```
//! A segment is followed until it is sealed or gone. That it is compressed meanwhile makes no
//! difference: the file that is open is still the one that was written.

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

/// Segments of a worker that may still be written to: two are, and one more has just been ended.
const OPEN_MAX: usize = 3;

/// A record of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    received_unix_ns: u64,
    peer: SocketAddr,
    listener: u16,
    continued: bool,
    payload: Vec<u8>,
}

impl From<Record<'_>> for Kept {
    fn from(record: Record<'_>) -> Self {
        let Record { received_unix_ns, peer, listener, continued, payload } = record;
        Self { received_unix_ns, peer, listener, continued, payload: payload.to_vec() }
    }
}

impl Kept {
    /// As a record.
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
    /// The file system said no.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The kernel watches nothing more.
    #[error(
        "inotify: {0}; fs.inotify.max_user_instances and max_user_watches say how much there may be"
    )]
    Watch(Errno),
    /// The directory is not there any more.
    #[error("the directory was removed")]
    Removed,
}

/// A segment that is followed.
#[derive(Debug)]
struct Source {
    path: PathBuf,
    reader: Reader,
    /// When the record at hand was received; `None`: there is none.
    at_hand: Option<u64>,
    /// Nothing more will come of it.
    done: bool,
}

/// See the module's description.
#[derive(Debug)]
pub struct Follow {
    dir: PathBuf,
    selection: Selection,
    inotify: Inotify,
    /// The highest number met of each worker's segments.
    met: BTreeMap<u16, u64>,
    /// There is a segment that had no header yet.
    unborn: bool,
    sources: Vec<Source>,
}

/// The last `count` records of a journal that are wanted, in the order of their arrival.
///
/// # Errors
/// The directory cannot be read.
pub fn last(
    dir: &Path,
    selection: &Selection,
    count: usize,
    tell: &mut dyn FnMut(Trouble),
) -> io::Result<Vec<Kept>> {
    let mut last = Vec::new();
    for lane in by_worker(segment::list(dir)?) {
        last.extend(last_of(&lane, selection, count, tell).0);
    }
    Ok(latest(last, count))
}

impl Follow {
    /// The same, and whatever comes behind them.
    ///
    /// # Errors
    /// The directory cannot be read or watched.
    pub fn open(
        dir: &Path,
        selection: Selection,
        count: usize,
        tell: &mut dyn FnMut(Trouble),
    ) -> Result<(Vec<Kept>, Self), FollowError> {
        let inotify = watch(dir).map_err(FollowError::Watch)?;
        let mut met = BTreeMap::new();
        let (mut last, mut sources, mut unborn) = (Vec::new(), Vec::new(), false);
        for mut lane in by_worker(segment::list(dir)?) {
            if lane.last().is_some_and(SegmentFile::is_unborn) {
                unborn = true;
                lane.pop();
            }
            if let Some(newest) = lane.last() {
                met.insert(newest.worker, newest.sequence);
            }
            let (found, open) = last_of(&lane, &selection, count, tell);
            last.extend(found);
            sources.extend(open);
        }
        let follow = Self { dir: dir.to_owned(), selection, inotify, met, unborn, sources };
        Ok((latest(last, count), follow))
    }

    /// Hands over what has come since the last call: in the order of arrival, as far as it has come.
    ///
    /// # Errors
    /// Those of `each`, and what ends the following.
    pub fn take<E: From<FollowError>>(
        &mut self,
        tell: &mut dyn FnMut(Trouble),
        mut each: impl FnMut(&Record<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.look()? || self.unborn {
            self.meet(tell)?;
        }
        let selection = &self.selection;
        self.sources.iter_mut().for_each(|source| source.advance(selection, tell));
        while let Some(source) = earliest(&mut self.sources) {
            if let Some(record) = source.reader.last() {
                each(&record)?;
            }
            source.advance(selection, tell);
        }
        self.sources.retain(|source| !source.done);
        Ok(())
    }

    /// What has happened to the directory; whether there may be new segments.
    fn look(&self) -> Result<bool, FollowError> {
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
            // Too many events, and some were thrown away: one of those.
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

    /// Opens the segments that were not there before.
    fn meet(&mut self, tell: &mut dyn FnMut(Trouble)) -> Result<(), FollowError> {
        let listed = segment::list(&self.dir)?;
        self.unborn = false;
        for (index, one) in listed.iter().enumerate() {
            if self.met.get(&one.worker).is_some_and(|met| *met >= one.sequence) {
                continue;
            }
            let newest = listed.get(index + 1).is_none_or(|next| next.worker != one.worker);
            match Reader::open(&one.path) {
                Ok(mut reader) => {
                    reader.pass_gaps();
                    self.sources.push(Source::new(one, reader));
                }
                // Its header may be on its way, as long as it is the newest.
                Err(ReadError::NoSegment(_)) if newest => {
                    self.unborn = true;
                    continue;
                }
                Err(error) => tell(unreadable(one.path.clone(), error)),
            }
            self.met.insert(one.worker, one.sequence);
        }
        Ok(())
    }
}

/// Watches a directory.
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
    /// Readable when something has happened that [`Follow::take`] should see.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

/// The source whose record at hand is the earliest.
fn earliest(sources: &mut [Source]) -> Option<&mut Source> {
    let known = sources.iter_mut().filter(|source| source.at_hand.is_some());
    known.min_by_key(|source| source.at_hand)
}

impl Source {
    fn new(segment: &SegmentFile, reader: Reader) -> Self {
        Self { path: segment.path.clone(), reader, at_hand: None, done: false }
    }

    /// Reads on to the next record that is wanted.
    fn advance(&mut self, selection: &Selection, tell: &mut dyn FnMut(Trouble)) {
        // What has no name any more is complete: it was sealed, and compressed or let go.
        let complete = !self.reader.is_linked();
        let mut tell = |what| tell(Trouble { path: self.path.clone(), what });
        self.at_hand = loop {
            match next_wanted(&mut self.reader, selection) {
                Ok(Wanted::Record(unix_ns)) => break Some(unix_ns),
                Ok(Wanted::Pause) => {}
                Ok(Wanted::Damaged { offset, bytes }) => tell(What::Damaged { offset, bytes }),
                Ok(Wanted::End { torn_bytes }) => {
                    let sealed = self.reader.footer().is_some();
                    if sealed && torn_bytes > 0 {
                        tell(What::Missing { bytes: torn_bytes });
                    }
                    self.done = sealed || complete;
                    // What is there by the next time must be read from the file.
                    self.reader.go_back(self.reader.offset());
                    break None;
                }
                Err(error) => {
                    tell(What::Unreadable(error.into()));
                    self.done = true;
                    break None;
                }
            }
        };
    }

    /// Reads to the end, and keeps the last `count` that are wanted.
    fn last(
        &mut self,
        selection: &Selection,
        count: usize,
        tell: &mut dyn FnMut(Trouble),
    ) -> VecDeque<Kept> {
        let mut last = VecDeque::new();
        if let Some(records) = self.reader.footer().map(|footer| footer.records) {
            if count == 0 {
                self.done = true;
                return last;
            }
            let before = records.saturating_sub(count as u64);
            if selection.wants_all() {
                // If that fails it is read from its beginning, and what cannot be read is told of.
                let _ = self.reader.seek_record(before);
            }
        }
        loop {
            self.advance(selection, tell);
            let Some(record) = self.at_hand.and_then(|_| self.reader.last()) else { return last };
            if last.len() == count {
                last.pop_front();
            }
            if count > 0 {
                last.push_back(Kept::from(record));
            }
        }
    }
}

/// The last `count` records of one worker that are wanted, and those of its segments that are still open,
/// read to their end.
fn last_of(
    lane: &[SegmentFile],
    selection: &Selection,
    count: usize,
    tell: &mut dyn FnMut(Trouble),
) -> (VecDeque<Kept>, Vec<Source>) {
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
                tell(unreadable(one.path.clone(), error));
                continue;
            }
        };
        reader.set_limit(u64::MAX);
        let mut source = Source::new(one, reader);
        let mut found = source.last(selection, wanted, tell);
        found.append(&mut last);
        last = found;
        if !source.done {
            sources.push(source);
        }
    }
    (last, sources)
}

/// The latest `count` of some records, in order.
fn latest(mut records: Vec<Kept>, count: usize) -> Vec<Kept> {
    records.sort_by_key(|kept| kept.received_unix_ns);
    let surplus = records.len().saturating_sub(count);
    records.split_off(surplus)
}
