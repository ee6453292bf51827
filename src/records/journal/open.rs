//! A journal that is written to: opened, repaired, one writer a worker, sealed behind them.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, unbounded};

use crate::journal::dir::{DirLock, JournalDir};
use crate::journal::disk::threaded::Plain;
use crate::journal::disk::uring::Uring;
use crate::journal::format::Record;
use crate::journal::keep::commit_index::{CommitIndex, Position};
use crate::journal::keep::compress;
use crate::journal::keep::janitor::{Retention, Rounds, Task};
use crate::journal::keep::seal::{Survey, seal, survey};
use crate::journal::read::bytes::is_eio;
use crate::journal::read::reader::{ReadError, Reader};
use crate::journal::segment;
use crate::journal::segment::SegmentFile;
use crate::journal::writer::{BUFFER_BYTES, Outside, Writer, WriterSpec};
use crate::settle::notices::Notices;
use crate::settle::run::{Committed, Event, Run, WriterCounts};
use ringest_base::sys::clock;
use ringest_base::sys::threads::lower_priority;
use ringest_base::sys::threads::spawn_named;

/// How a journal is to be written.
#[derive(Clone, Debug)]
pub struct JournalSpec {
    /// The directory; made if it is not there.
    pub dir: PathBuf,
    /// When to commit, and how large segments get.
    pub writer: WriterSpec,
    /// Memory for what the disk has not taken yet, bytes, of all workers.
    pub buffer_bytes: usize,
    /// How long segments are kept.
    pub retention: Retention,
    /// Those who carry on what it holds, and how far each had come; they are the readers of its
    /// [shelf](Journal::shelf), in this order.
    pub readers: Vec<BTreeMap<u16, Position>>,
}

/// Why a journal cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// The file system said no.
    #[error("journal {dir}: {step}: {source}")]
    Io {
        /// The directory.
        dir: PathBuf,
        /// What was tried.
        step: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// Somebody writes it.
    #[error(
        "journal {dir}: another process writes it (it holds {dir}/lock); give each its own directory"
    )]
    Taken {
        /// The directory.
        dir: PathBuf,
    },
    /// A newer program wrote to it.
    #[error(
        "journal {dir}: {segment} is of another version than this program knows; use the program that wrote it, or \
         give this one a directory of its own"
    )]
    OtherVersion {
        /// The directory.
        dir: PathBuf,
        /// The segment's file.
        segment: String,
    },
    /// A segment cannot be read, though its disk can: it would be taken for one that was sent.
    #[error(
        "journal {dir}: cannot read {segment}: {source}; make it readable, or move it elsewhere if it is not to be \
         carried on"
    )]
    Unreadable {
        /// The directory.
        dir: PathBuf,
        /// The segment's file.
        segment: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The janitor could not be started.
    #[error(transparent)]
    Thread(#[from] ringest_base::sys::threads::ThreadError),
}

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

/// Buffers of a worker: one is filled while another is written; a ring can register no more than the most.
const BUFFERS: RangeInclusive<usize> = 2..=1024;

/// See the module's description.
#[derive(Debug)]
pub struct Journal {
    spec: JournalSpec,
    repaired: Vec<Repaired>,
    notices: Arc<Notices>,
    shelf: Arc<CommitIndex>,
    complete: Sender<Task>,
    janitor: JoinHandle<()>,
    /// Held as long as it is open.
    place: Arc<DirLock>,
}

impl Journal {
    /// Opens a journal and repairs what a crash left.
    ///
    /// # Errors
    /// The directory cannot be had, or another process writes it.
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
        let place = Arc::new(DirLock::take(&spec.dir)?);
        compress::tidy(&spec.dir).map_err(fail("tidy"))?;
        let found = segment::list(&spec.dir).map_err(fail("readdir"))?;
        let mut repaired = repair(&found)?;
        let shelf = Arc::new(CommitIndex::default());
        spec.readers.iter().for_each(|positions| shelf.register(positions.clone()));
        let found = segment::list(&spec.dir).map_err(fail("readdir"))?;
        for unknown in put_up(&found, &shelf, notices)? {
            repaired.retain(|one: &Repaired| one.path != unknown.path);
            repaired.push(unknown);
        }
        let aside = segment::aside(&spec.dir).map_err(fail("readdir"))?;
        aside.iter().for_each(|one| shelf.remember(one.worker, one.sequence));
        let (complete, inbox) = unbounded();
        let rounds = Rounds {
            dir: spec.dir.clone(),
            place: Arc::downgrade(&place),
            retention: spec.retention,
            shelf: Arc::clone(&shelf),
            notices: Arc::clone(notices),
            found,
        };
        let life = move || {
            lower_priority();
            rounds.run(&inbox);
        };
        let janitor = spawn_named("ringest-journal".to_owned(), None, life)?;
        let notices = Arc::clone(notices);
        Ok(Self { spec, repaired, notices, shelf, complete, janitor, place })
    }

    /// What had to be repaired.
    #[must_use]
    pub fn repaired(&self) -> &[Repaired] {
        &self.repaired
    }

    /// Returns where the journal reports trouble while it runs.
    #[must_use]
    pub fn notices(&self) -> &Arc<Notices> {
        &self.notices
    }

    /// Where it is.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.spec.dir
    }

    /// The same, for those who read it.
    pub fn home(&self) -> &JournalDir {
        self.place.home()
    }

    /// How long segments are kept.
    #[must_use]
    pub fn retention(&self) -> &Retention {
        &self.spec.retention
    }

    /// What it holds, for those who carry it on.
    #[must_use]
    pub fn shelf(&self) -> &Arc<CommitIndex> {
        &self.shelf
    }

    /// What so many workers can buffer together, bytes; [`JournalSpec::buffer_bytes`] is brought into that.
    #[must_use]
    pub fn buffer_bytes(workers: usize) -> RangeInclusive<usize> {
        let all = BUFFER_BYTES * workers.max(1);
        BUFFERS.start() * all..=BUFFERS.end() * all
    }

    /// The end that worker `index` of `workers` writes to.
    #[must_use]
    pub fn pen(&self, index: usize, workers: usize) -> JournalWriter {
        let buffers = self.spec.buffer_bytes / BUFFER_BYTES / workers.max(1);
        let buffers = buffers.clamp(*BUFFERS.start(), *BUFFERS.end());
        let memory = vec![vec![0; BUFFER_BYTES].into_boxed_slice(); buffers];
        let worker = u16::try_from(index).unwrap_or(u16::MAX);
        let sequence = self.shelf.last_sequence(worker).saturating_add(1);
        let place = (self.spec.dir.as_path(), worker, sequence);
        let outside = Outside { salt, now_unix_ns: clock::unix_ns };
        let writer = match Uring::new(memory, self.place.device()) {
            Ok(ring) => AnyWriter::Ring(Box::new(Writer::new(
                ring,
                buffers,
                place,
                self.spec.writer,
                outside,
            ))),
            Err(memory) => {
                let plain = Plain::new(memory, worker, self.place.device());
                AnyWriter::Plain(Box::new(Writer::new(
                    plain,
                    buffers,
                    place,
                    self.spec.writer,
                    outside,
                )))
            }
        };
        JournalWriter {
            writer,
            worker,
            complete: self.complete.clone(),
            notices: Arc::clone(&self.notices),
            shelf: Arc::clone(&self.shelf),
            trouble: None,
        }
    }

    /// Waits until all that was written is sealed. The pens must have been dropped.
    pub fn close(self) {
        drop(self.complete);
        // A panic there is a bug, and no record is lost by it: segments are sealed at the next start.
        let _ = self.janitor.join();
    }
}

/// Seals what is not; removes what is empty. What the disk does not let it do is no reason not to start.
fn repair(segments: &[SegmentFile]) -> Result<Vec<Repaired>, JournalError> {
    let mut repaired = Vec::new();
    for one in segments {
        let opened = Reader::open(&one.path);
        if let Err(ReadError::OtherVersion) = opened {
            let (dir, segment) = named(&one.path);
            return Err(JournalError::OtherVersion { dir, segment });
        }
        let sealed = matches!(opened, Ok(reader) if reader.footer().is_some());
        // What is compressed was sealed, and is not written to, whatever became of it.
        if sealed || segment::is_packed(&one.path) {
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
        Err(ReadError::NoSegment(_))
            if one.bytes <= crate::journal::format::HEADER_BYTES as u64 =>
        {
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
fn put_up(
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

/// What nobody outside can know: std's hasher keys come from the kernel's random source.
fn salt() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    RandomState::new().build_hasher().finish()
}

#[derive(Debug)]
enum AnyWriter {
    Ring(Box<Writer<Uring>>),
    Plain(Box<Writer<Plain>>),
}

/// One worker's end of the journal. Dropping it commits nothing; [`finish`](Self::finish) does.
#[derive(Debug)]
pub struct JournalWriter {
    writer: AnyWriter,
    worker: u16,
    complete: Sender<Task>,
    notices: Arc<Notices>,
    shelf: Arc<CommitIndex>,
    /// What the disk said when it failed, until it takes something again.
    trouble: Option<String>,
}

/// Does the same to either writer.
macro_rules! with_writer {
    ($pen:expr, $writer:ident => $what:expr) => {
        match &mut $pen.writer {
            AnyWriter::Ring($writer) => $what,
            AnyWriter::Plain($writer) => $what,
        }
    };
}

impl JournalWriter {
    /// Appends a record of the datagram at hand.
    pub fn push(&mut self, record: &Record<'_>, now: Instant) {
        with_writer!(self, writer => writer.push(record, now));
    }

    /// The datagram at hand has no more records: it is committed, or given up, as a whole.
    pub fn end_datagram(&mut self, now: Instant) {
        with_writer!(self, writer => writer.end_datagram(now));
    }

    /// Commits what is due, and tells what became of datagrams. To be called after each batch, and when
    /// none comes.
    pub fn pump(&mut self, now: Instant, tell: &mut dyn FnMut(Run)) {
        with_writer!(self, writer => writer.pump(now));
        self.tell(tell);
    }

    /// Commits everything there is, and waits for it; more may follow.
    pub fn commit(&mut self, now: Instant, tell: &mut dyn FnMut(Run)) {
        with_writer!(self, writer => writer.commit(now));
        self.tell(tell);
    }

    /// Commits everything, and waits for it: the last segment is complete then.
    pub fn finish(&mut self, now: Instant, tell: &mut dyn FnMut(Run)) {
        with_writer!(self, writer => writer.finish(now));
        self.tell(tell);
    }

    /// How soon [`pump`](Self::pump) is to be called though nothing comes, if it is.
    #[must_use]
    pub fn due_within(&self, now: Instant) -> Option<Duration> {
        match &self.writer {
            AnyWriter::Ring(writer) => writer.due_within(now),
            AnyWriter::Plain(writer) => writer.due_within(now),
        }
    }

    /// What became of the datagrams so far.
    #[must_use]
    pub fn counts(&self) -> WriterCounts {
        match &self.writer {
            AnyWriter::Ring(writer) => writer.counts(),
            AnyWriter::Plain(writer) => writer.counts(),
        }
    }

    /// Why nothing is written at the moment.
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    fn tell(&mut self, tell: &mut dyn FnMut(Run)) {
        with_writer!(self, writer => writer.take_runs()).into_iter().for_each(tell);
        for event in with_writer!(self, writer => writer.take_events()) {
            match event {
                // The journal holds the other end until it is closed.
                Event::Committed(holds) => {
                    self.trouble = None;
                    self.shelf.committed(self.worker, holds);
                }
                Event::Complete(sequence, path) => {
                    self.shelf.complete(self.worker, sequence);
                    drop(self.complete.send(Task::Seal(path)));
                }
                Event::GivenUp(sequence, path, kept) => {
                    self.shelf.complete(self.worker, sequence);
                    drop(self.complete.send(Task::Cut(path, kept)));
                }
                Event::Failed(error, lost) => {
                    self.trouble = Some(error.to_string());
                    self.notices.failed("the journal", &error, lost);
                    if error.kind() == io::ErrorKind::NotFound {
                        drop(self.complete.send(Task::Restore));
                    }
                }
                Event::Resumed => self.notices.resumed("the journal"),
            }
        }
    }
}
