//! A journal that is open for writing: locked, repaired, with one writer a worker and a janitor thread
//! behind them.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Sender, unbounded};

use crate::journal::dir::{DirLock, JournalDir};
use crate::journal::disk::threaded::Plain;
use crate::journal::disk::uring::Uring;
use crate::journal::error::JournalError;
use crate::journal::journal_writer::{AnyWriter, JournalWriter};
use crate::journal::keep::commit_index::{CommitIndex, Position};
use crate::journal::keep::compress;
use crate::journal::keep::janitor::{Janitor, Retention, Task};
use crate::journal::repair::{Repaired, index_segments, repair};
use crate::journal::segment;
use crate::journal::writer::{BUFFER_BYTES, Environment, Writer, WriterSpec};
use crate::settle::notices::Notices;
use ringest_base::sys::clock;
use ringest_base::sys::entropy::unpredictable;
use ringest_base::sys::threads::{lower_priority, spawn_named};

/// Settings of a journal that is opened for writing.
#[derive(Clone, Debug)]
pub struct JournalSpec {
    /// The directory. It is created if it does not exist.
    pub dir: PathBuf,
    /// When to commit, and how large and old segments get.
    pub writer: WriterSpec,
    /// Memory of all workers together for records that the disk has not taken yet, bytes.
    pub buffer_bytes: usize,
    /// Returns how long segments are kept.
    pub retention: Retention,
    /// Positions of the readers (shippers) that consume the journal, by worker. Reader numbers in the
    /// [commit index](Journal::commit_index) follow this order.
    pub readers: Vec<BTreeMap<u16, Position>>,
}

impl JournalSpec {
    /// Describes a journal in `dir` that commits every 50 ms or 4 MiB, begins a segment every 256 MiB or hour,
    /// buffers 32 MiB, and keeps everything.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            writer: WriterSpec {
                commit_interval: Duration::from_millis(50),
                commit_bytes: 4 << 20,
                segment_bytes: 256 << 20,
                segment_age: Duration::from_secs(3600),
            },
            buffer_bytes: 32 << 20,
            retention: Retention::default(),
            readers: Vec::new(),
        }
    }
}

/// Number of buffers a worker. At least two: one is filled while another is written. At most 1024: an
/// io_uring ring registers no more.
const BUFFERS: RangeInclusive<usize> = 2..=1024;

/// An open journal. Dropping it releases the lock; [`close`](Self::close) also waits until everything is
/// sealed.
#[derive(Debug)]
pub struct Journal {
    spec: JournalSpec,
    repaired: Vec<Repaired>,
    notices: Arc<Notices>,
    commit_index: Arc<CommitIndex>,
    janitor_tasks: Sender<Task>,
    janitor: JoinHandle<()>,
    /// Holds the lock on the directory while the journal is open.
    dir_lock: Arc<DirLock>,
}

impl Journal {
    /// Opens a journal, and repairs what a crash left.
    ///
    /// # Errors
    /// The directory cannot be used, or another process writes to the journal.
    pub fn open(spec: JournalSpec) -> Result<Self, JournalError> {
        Self::open_with(spec, &Arc::default())
    }

    /// Opens a journal like [`open`](Self::open), and adds its notices to `notices`, which other sinks may
    /// share.
    ///
    /// # Errors
    /// The directory cannot be used, or another process writes it.
    pub fn open_with(spec: JournalSpec, notices: &Arc<Notices>) -> Result<Self, JournalError> {
        let fail = |step| {
            let dir = spec.dir.clone();
            move |source| JournalError::Io { dir, step, source }
        };
        let dir_lock = Arc::new(DirLock::take(&spec.dir)?);
        compress::remove_leftovers(&spec.dir).map_err(fail("remove unfinished files"))?;
        let found = segment::list(&spec.dir).map_err(fail("readdir"))?;
        let mut repaired = repair(&found)?;
        let commit_index = Arc::new(CommitIndex::default());
        spec.readers.iter().for_each(|positions| commit_index.register(positions.clone()));
        let found = segment::list(&spec.dir).map_err(fail("readdir"))?;
        for unknown in index_segments(&found, &commit_index, notices)? {
            repaired.retain(|one: &Repaired| one.path != unknown.path);
            repaired.push(unknown);
        }
        let aside = segment::aside(&spec.dir).map_err(fail("readdir"))?;
        aside.iter().for_each(|one| commit_index.reserve_number(one.worker, one.sequence));
        let (janitor_tasks, inbox) = unbounded();
        let background = Janitor {
            dir: spec.dir.clone(),
            dir_lock: Arc::downgrade(&dir_lock),
            retention: spec.retention,
            commit_index: Arc::clone(&commit_index),
            notices: Arc::clone(notices),
            found,
        };
        let body = move || {
            lower_priority();
            background.run(&inbox);
        };
        let janitor = spawn_named("ringest-journal".to_owned(), None, body)?;
        let notices = Arc::clone(notices);
        Ok(Self { spec, repaired, notices, commit_index, janitor_tasks, janitor, dir_lock })
    }

    /// Returns the segments that had to be repaired when the journal was opened.
    #[must_use]
    pub fn repaired(&self) -> &[Repaired] {
        &self.repaired
    }

    /// Returns where the journal reports trouble while it runs.
    #[must_use]
    pub fn notices(&self) -> &Arc<Notices> {
        &self.notices
    }

    /// Returns the journal's directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.spec.dir
    }

    /// Returns the directory with its file system, for readers that must notice an unmounted disk.
    pub fn journal_dir(&self) -> &JournalDir {
        self.dir_lock.journal_dir()
    }

    /// Returns how long a record waits before it is committed, at most.
    #[must_use]
    pub fn commit_interval(&self) -> Duration {
        self.spec.writer.commit_interval
    }

    /// Returns how long segments are kept.
    #[must_use]
    pub fn retention(&self) -> &Retention {
        &self.spec.retention
    }

    /// Returns the index of committed segments, for readers.
    #[must_use]
    pub fn commit_index(&self) -> &Arc<CommitIndex> {
        &self.commit_index
    }

    /// Returns the allowed range of [`JournalSpec::buffer_bytes`] for this many workers, bytes. A value
    /// outside of it is clamped.
    #[must_use]
    pub fn buffer_bytes(workers: usize) -> RangeInclusive<usize> {
        let all = BUFFER_BYTES * workers.max(1);
        BUFFERS.start() * all..=BUFFERS.end() * all
    }

    /// Creates the writer for worker `index` of `workers`.
    #[must_use]
    pub fn writer(&self, index: usize, workers: usize) -> JournalWriter {
        let buffers = self.spec.buffer_bytes / BUFFER_BYTES / workers.max(1);
        let buffers = buffers.clamp(*BUFFERS.start(), *BUFFERS.end());
        let memory = vec![vec![0; BUFFER_BYTES].into_boxed_slice(); buffers];
        let worker = u16::try_from(index).unwrap_or(u16::MAX);
        let sequence = self.commit_index.last_sequence(worker).saturating_add(1);
        let start = (self.spec.dir.as_path(), worker, sequence);
        let environment = Environment { salt: unpredictable, now_unix_ns: clock::unix_ns };
        let writer = match Uring::new(memory, self.dir_lock.device()) {
            Ok(ring) => AnyWriter::Ring(Box::new(Writer::new(
                ring,
                buffers,
                start,
                self.spec.writer,
                environment,
            ))),
            Err(memory) => {
                let plain = Plain::new(memory, worker, self.dir_lock.device());
                AnyWriter::Plain(Box::new(Writer::new(
                    plain,
                    buffers,
                    start,
                    self.spec.writer,
                    environment,
                )))
            }
        };
        JournalWriter {
            writer,
            worker,
            janitor_tasks: self.janitor_tasks.clone(),
            notices: Arc::clone(&self.notices),
            commit_index: Arc::clone(&self.commit_index),
            trouble: None,
        }
    }

    /// Waits until everything that was written is sealed. All writers must have been dropped before.
    pub fn close(self) {
        drop(self.janitor_tasks);
        // A panic of that thread is a bug, but loses no record: the next start seals the segments.
        let _ = self.janitor.join();
    }
}
