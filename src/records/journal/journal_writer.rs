//! One worker's end of an open journal.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use crate::journal::disk::threaded::Plain;
use crate::journal::disk::uring::Uring;
use crate::journal::format::Record;
use crate::journal::keep::commit_index::CommitIndex;
use crate::journal::keep::janitor::Task;
use crate::journal::writer::Writer;
use crate::settle::notices::Notices;
use crate::settle::run::{Event, Run, WriterCounts};

#[derive(Debug)]
pub(crate) enum AnyWriter {
    Ring(Box<Writer<Uring>>),
    Plain(Box<Writer<Plain>>),
}

/// One worker's end of a journal. Dropping it commits nothing; [`finish`](Self::finish) does.
#[derive(Debug)]
pub struct JournalWriter {
    pub(crate) writer: AnyWriter,
    pub(crate) worker: u16,
    pub(crate) janitor_tasks: Sender<Task>,
    pub(crate) notices: Arc<Notices>,
    pub(crate) commit_index: Arc<CommitIndex>,
    /// The disk's last error, until a commit succeeds again.
    pub(crate) trouble: Option<String>,
}

/// Evaluates an expression with either kind of writer.
macro_rules! with_writer {
    ($journal_writer:expr, $writer:ident => $what:expr) => {
        match &mut $journal_writer.writer {
            AnyWriter::Ring($writer) => $what,
            AnyWriter::Plain($writer) => $what,
        }
    };
}

impl JournalWriter {
    /// Appends a record of the current datagram.
    pub fn push(&mut self, record: &Record<'_>, now: Instant) {
        with_writer!(self, writer => writer.push(record, now));
    }

    /// Ends the current datagram: it is committed, or given up, as a whole.
    pub fn end_datagram(&mut self, now: Instant) {
        with_writer!(self, writer => writer.end_datagram(now));
    }

    /// Commits what is due, and calls `report` with the outcome of datagrams. Call it after each batch, and
    /// when [`due_within`](Self::due_within) says so.
    pub fn pump(&mut self, now: Instant, report: &mut dyn FnMut(Run)) {
        with_writer!(self, writer => writer.pump(now));
        self.report(report);
    }

    /// Commits everything, and waits for it. More records may follow.
    pub fn commit(&mut self, now: Instant, report: &mut dyn FnMut(Run)) {
        with_writer!(self, writer => writer.commit(now));
        self.report(report);
    }

    /// Commits everything, and waits for it. The last segment is complete then.
    pub fn finish(&mut self, now: Instant, report: &mut dyn FnMut(Run)) {
        with_writer!(self, writer => writer.finish(now));
        self.report(report);
    }

    /// Returns how soon [`pump`](Self::pump) must be called even if no datagram comes, or `None` if it need
    /// not be.
    #[must_use]
    pub fn due_within(&self, now: Instant) -> Option<Duration> {
        match &self.writer {
            AnyWriter::Ring(writer) => writer.due_within(now),
            AnyWriter::Plain(writer) => writer.due_within(now),
        }
    }

    /// Returns how many datagrams are committed, undelivered and pending.
    #[must_use]
    pub fn counts(&self) -> WriterCounts {
        match &self.writer {
            AnyWriter::Ring(writer) => writer.counts(),
            AnyWriter::Plain(writer) => writer.counts(),
        }
    }

    /// Returns the disk error that keeps records from being written now, or `None`.
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    fn report(&mut self, report: &mut dyn FnMut(Run)) {
        with_writer!(self, writer => writer.take_runs()).into_iter().for_each(report);
        for event in with_writer!(self, writer => writer.take_events()) {
            match event {
                // A send cannot fail: the journal holds the receiver until it is closed.
                Event::Committed(holds) => {
                    self.trouble = None;
                    self.commit_index.record_commit(self.worker, holds);
                }
                Event::Complete(sequence, path) => {
                    self.commit_index.mark_complete(self.worker, sequence);
                    drop(self.janitor_tasks.send(Task::Seal(path)));
                }
                Event::GivenUp(sequence, path, kept) => {
                    self.commit_index.mark_complete(self.worker, sequence);
                    drop(self.janitor_tasks.send(Task::Cut(path, kept)));
                }
                Event::Failed(error, lost) => {
                    self.trouble = Some(error.to_string());
                    self.notices.failed("the journal", &error, lost);
                    if error.kind() == io::ErrorKind::NotFound {
                        drop(self.janitor_tasks.send(Task::Restore));
                    }
                }
                Event::Resumed => self.notices.resumed("the journal"),
            }
        }
    }
}
