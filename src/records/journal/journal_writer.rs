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

/// One worker's end of the journal. Dropping it commits nothing; [`finish`](Self::finish) does.
#[derive(Debug)]
pub struct JournalWriter {
    pub(crate) writer: AnyWriter,
    pub(crate) worker: u16,
    pub(crate) complete: Sender<Task>,
    pub(crate) notices: Arc<Notices>,
    pub(crate) shelf: Arc<CommitIndex>,
    /// What the disk said when it failed, until it takes something again.
    pub(crate) trouble: Option<String>,
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
