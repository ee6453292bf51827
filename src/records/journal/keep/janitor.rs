//! The background thread that seals complete segments, cuts failed ones, compresses them and removes old
//! ones, because a worker must not wait for a disk.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{Receiver, RecvTimeoutError, TryRecvError};

use crate::journal::dir::DirLock;
use crate::journal::keep::commit_index::CommitIndex;
use crate::journal::keep::compress::compress_while;
use crate::journal::keep::seal::seal_from;
use crate::journal::names;
use crate::journal::read::reader::{ReadError, Reader};
use crate::journal::segment;
use crate::journal::segment::SegmentFile;
use crate::settle::notices::Notices;

/// How long segments are kept. Records that a shipper has not sent are kept in any case, up to
/// `spool_bytes`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Remove the oldest sealed segments when all together are larger than this, bytes.
    pub bytes: Option<u64>,
    /// Remove a sealed segment when it is older than this.
    pub age: Option<Duration>,
    /// Remove a sealed segment as soon as every reader has read it.
    pub only_unsent: bool,
    /// Remove the oldest unsent segments when all unsent ones together are larger than this, bytes.
    pub spool_bytes: Option<u64>,
    /// Compress sealed segments with zstd at this level.
    pub compress: Option<i32>,
}

/// A task from a writer.
#[derive(Debug)]
pub(crate) enum Task {
    /// Seal a complete segment.
    Seal(PathBuf),
    /// Cut a failed segment after this many bytes, which are committed; remove it if that is 0.
    Cut(PathBuf, u64),
    /// A file or the directory was removed: create the directory again.
    Restore,
}

/// Pause before tasks that the disk refused are tried again.
const RETRY_PAUSE: Duration = Duration::from_secs(5);

/// Upper bound of empty segment files queued for another removal attempt. The next start removes any that
/// are left.
const REFUSED_MAX: usize = 4096;

/// How often reading a segment to seal it may fail with EIO. After that, the unreadable place counts as
/// damaged.
const GAP_TRIES: u32 = 3;

/// How often retention is applied. Shorter: the directory is listed for nothing. Longer: sent segments take
/// up space.
const RETENTION_INTERVAL: Duration = Duration::from_secs(1);

/// The janitor: what it works on.
#[derive(Debug)]
pub(crate) struct Janitor {
    pub(crate) dir: PathBuf,
    /// Weak, so that the lock is released with the journal.
    pub(crate) dir_lock: Weak<DirLock>,
    pub(crate) retention: Retention,
    pub(crate) commit_index: Arc<CommitIndex>,
    pub(crate) notices: Arc<Notices>,
    /// Segments of earlier runs.
    pub(crate) found: Vec<SegmentFile>,
}

/// Work that is queued.
#[derive(Debug, Default)]
pub(crate) struct Queued {
    /// Segments that this run sealed, to be compressed: first, and before the thread ends.
    own: VecDeque<PathBuf>,
    /// Tasks that the disk refused, and how often.
    refused: VecDeque<(Task, u32)>,
    /// Segments of earlier runs to be compressed when there is time, the oldest first.
    left: VecDeque<PathBuf>,
}

impl Janitor {
    /// Runs tasks until all senders are dropped, then finishes what is queued.
    pub(crate) fn run(&self, tasks: &Receiver<Task>) {
        let mut waiting = self.waiting();
        let mut changes = None;
        let mut tried_at = Instant::now();
        loop {
            if !waiting.refused.is_empty() && tried_at.elapsed() >= RETRY_PAUSE {
                self.retry_refused(&mut waiting);
                tried_at = Instant::now();
            }
            // Without a change in the index only the age of segments can have changed anything.
            let now = Some(self.commit_index.changes());
            if changes != now || self.retention.age.is_some() {
                self.apply_retention();
            }
            changes = now;
            let is_idle = waiting.own.is_empty() && waiting.left.is_empty();
            match tasks.recv_timeout(if is_idle { RETENTION_INTERVAL } else { Duration::ZERO }) {
                Ok(task) => self.perform(task, &mut waiting),
                Err(RecvTimeoutError::Timeout) => self.compress_one(&mut waiting, tasks),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        for (task, _) in std::mem::take(&mut waiting.refused) {
            self.try_task(&task, GAP_TRIES, &mut waiting.own);
        }
        waiting.left.clear();
        while !waiting.own.is_empty() {
            self.compress_one(&mut waiting, tasks);
        }
        self.apply_retention();
    }

    pub(crate) fn waiting(&self) -> Queued {
        Queued { left: self.uncompressed(), ..Queued::default() }
    }

    /// Returns the sealed segments that are not compressed, the oldest first: from runs without
    /// compression, or left by a crash.
    pub(crate) fn uncompressed(&self) -> VecDeque<PathBuf> {
        if self.retention.compress.is_none() {
            return VecDeque::new();
        }
        let is_plain = |one: &&SegmentFile| !names::is_packed(&one.path);
        let is_sealed = |one: &&SegmentFile| {
            Reader::open(&one.path).is_ok_and(|reader| reader.footer().is_some())
        };
        let mut left = Vec::new();
        for one in self.found.iter().filter(is_plain).filter(is_sealed) {
            let written = fs::metadata(&one.path).and_then(|facts| facts.modified());
            left.extend(written.map(|written| (written, one.path.clone())));
        }
        left.sort();
        left.into_iter().map(|(_, path)| path).collect()
    }

    fn perform(&self, task: Task, waiting: &mut Queued) {
        // Each attempt on an absent disk leaves one more empty segment.
        let is_nothing = matches!(task, Task::Cut(_, 0));
        let is_kept = !is_nothing || waiting.refused.len() < REFUSED_MAX;
        if !self.try_task(&task, 0, &mut waiting.own) && is_kept {
            waiting.refused.push_back((task, 1));
        }
    }

    /// Tries refused tasks again, and stops at the first that is refused again, because each attempt reads
    /// a whole segment.
    fn retry_refused(&self, waiting: &mut Queued) {
        while let Some((task, tries)) = waiting.refused.pop_front() {
            if !self.try_task(&task, tries, &mut waiting.own) {
                waiting.refused.push_back((task, tries.saturating_add(1)));
                return;
            }
        }
    }

    /// Runs a task. Returns whether it needs no further attempt.
    fn try_task(&self, task: &Task, tries: u32, own: &mut VecDeque<PathBuf>) -> bool {
        match task {
            Task::Seal(path) => self.seal(path, tries, own),
            Task::Cut(path, kept) => match cut(path, *kept) {
                Ok(()) => *kept == 0 || self.seal(path, tries, own),
                Err(error) => error.kind() == io::ErrorKind::NotFound && self.dir_exists(),
            },
            Task::Restore => {
                self.restore();
                true
            }
        }
    }

    /// Creates the directory again if it was removed, so that records can be written again.
    fn restore(&self) {
        match self.dir_lock.upgrade().map(|dir_lock| dir_lock.restore()) {
            Some(Ok(true)) => {
                self.notices.repeated("made again", || {
                    format!("{} was removed, and is made again", self.dir.display())
                });
            }
            // This runs four times a second, so the notice is limited.
            Some(Err(error)) => self.notices.repeated("restore", || error.to_string()),
            Some(Ok(false)) | None => {}
        }
    }

    /// Seals a segment. Returns whether it needs no further attempt.
    fn seal(&self, path: &Path, tries: u32, own: &mut VecDeque<PathBuf>) -> bool {
        let number = names::number_of(path);
        let holds =
            number.and_then(|(worker, sequence)| self.commit_index.committed(worker, sequence));
        let (committed_bytes, committed) =
            holds.map_or((0, 0), |holds| (holds.offset, holds.records));
        match seal_from(path, committed_bytes, tries >= GAP_TRIES) {
            Ok(found) => {
                if found.records < committed {
                    self.notices.repeated("damaged", || {
                        format!(
                            "{}: {} of {committed} records that were committed cannot be read any more: its disk \
                             has damaged them (`ringest journal verify` says where)",
                            path.display(),
                            committed.saturating_sub(found.records)
                        )
                    });
                }
                if self.retention.compress.is_some() {
                    own.push_back(path.to_owned());
                }
            }
            Err(ReadError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {
                // Otherwise retention removed it before.
                if self.is_expected(path) {
                    self.notices.repeated("seal", || cannot_seal(path, &error.into()));
                    return self.dir_exists();
                }
            }
            // An unsealed segment can still be read. A file that is not a segment is set aside by the next
            // start.
            Err(error) => {
                self.notices.repeated("seal", || cannot_seal(path, &error));
                return matches!(error, ReadError::NoSegment(_));
            }
        }
        true
    }

    /// Returns whether the directory exists on its file system. While its disk is absent, a missing file
    /// will be back.
    fn dir_exists(&self) -> bool {
        self.dir_lock.upgrade().is_none_or(|dir_lock| dir_lock.journal_dir().check().is_ok())
    }

    fn is_expected(&self, path: &Path) -> bool {
        let number = names::number_of(path);
        number.is_none_or(|(worker, sequence)| self.commit_index.contains(worker, sequence))
    }

    /// Compresses the next segment. Tasks that arrive meanwhile are run between frames, so that sealing
    /// never waits. A segment of an earlier run does not delay a stop.
    pub(crate) fn compress_one(&self, waiting: &mut Queued, tasks: &Receiver<Task>) {
        let Some(level) = self.retention.compress else { return };
        let (path, is_own) = match waiting.own.pop_front() {
            Some(path) => (path, true),
            None => match waiting.left.pop_front() {
                Some(path) => (path, false),
                None => return,
            },
        };
        let mut go_on = || loop {
            match tasks.try_recv() {
                Ok(task) => self.perform(task, waiting),
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return is_own,
            }
        };
        match compress_while(&path, level, &mut go_on) {
            // Retention removed it before its turn.
            Err(ReadError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                self.notices.repeated("compress", || {
                    format!("cannot compress {}: {error}; it stays uncompressed", path.display())
                });
            }
            Ok(_) => {}
        }
    }

    /// Removes complete segments that retention does not keep, the oldest first. Never removes a worker's
    /// newest one, because its number must be remembered.
    fn apply_retention(&self) {
        let Retention { bytes, age, only_unsent, spool_bytes, .. } = self.retention;
        if self.retention == Retention::default() {
            return;
        }
        let Ok(segments) = segment::list(&self.dir) else { return };
        let mut total: u64 = segments.iter().map(|segment| segment.bytes).sum();
        let mut old = Vec::new();
        let mut unsent_bytes = 0;
        let mut latest = (0, SystemTime::UNIX_EPOCH);
        for (index, one) in segments.iter().enumerate() {
            let (complete, unsent) = self.commit_index.is_free(one.worker, one.sequence);
            // Unread bytes, not the file's size: most of it may have been sent.
            let waits_bytes = self.commit_index.unread_bytes(one.worker, one.sequence);
            unsent_bytes += waits_bytes;
            let newest = segments.get(index + 1).is_none_or(|next| next.worker != one.worker);
            let written = fs::metadata(&one.path).and_then(|facts| facts.modified());
            if let (true, false, Ok(written)) = (complete, newest, written) {
                // A worker's segments are removed in order even if their times are not, so that a gap is
                // always in front.
                let before = if latest.0 == one.worker { latest.1 } else { written };
                latest = (one.worker, written.max(before));
                old.push((latest.1, written, one, unsent, waits_bytes));
            }
        }
        old.sort_by_key(|(turn, ..)| *turn);
        let now = SystemTime::now();
        for (_, written, one, unsent, waits_bytes) in old {
            let too_old =
                age.is_some_and(|kept| now.duration_since(written).unwrap_or_default() > kept);
            let too_large = bytes.is_some_and(|kept| total > kept);
            let spool_full = unsent && spool_bytes.is_some_and(|kept| unsent_bytes > kept);
            if unsent && !(spool_full && self.commit_index.give_up(one.worker, one.sequence))
                || !(unsent || too_old || too_large || only_unsent)
            {
                continue;
            }
            // A segment that cannot be removed does not keep the others.
            if !self.remove(one, unsent) {
                continue;
            }
            total -= one.bytes;
            unsent_bytes -= waits_bytes;
        }
    }

    fn remove(&self, one: &SegmentFile, unsent: bool) -> bool {
        step!("retention");
        if let Err(error) = fs::remove_file(&one.path) {
            self.notices
                .repeated("remove", || format!("cannot remove {}: {error}", one.path.display()));
            if unsent {
                self.commit_index.undo_give_up(one.worker, one.sequence);
            }
            return false;
        }
        self.commit_index.removed(one.worker, one.sequence);
        if unsent {
            self.notices.repeated("spool", || {
                "the spool is full (--spool-bytes): the oldest unsent records are removed, and counted as \
                 undelivered"
            });
        }
        true
    }
}

fn cannot_seal(path: &Path, error: &ReadError) -> String {
    format!("cannot seal {}: {error}; retrying", path.display())
}

/// Truncates a segment after its committed bytes. Removes the file if that is 0.
fn cut(path: &Path, kept: u64) -> io::Result<()> {
    step!("given-up");
    if kept == 0 {
        return fs::remove_file(path);
    }
    File::options().write(true).open(path)?.set_len(kept)
}
