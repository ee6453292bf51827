//! A thread that writes lines for all workers, so that no worker waits for a reader or a disk.
//!
//! ```text
//!  worker: lines ─► room? ─► queue ─► writer thread ─► pipe, file
//!                    └ lost     ◄── datagrams written
//! ```
//! The lines that wait are bounded. Lines that do not fit, and lines that cannot be written, are undelivered;
//! other sinks go on.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};

use crate::settle::notices::Notices;
use crate::settle::run::Run;
use crate::sink::handler::Sink;
use crate::sink::lines::{Format, WRITE_BYTES, write_line};
use ringest_base::sys::threads::spawn_named;
use ringest_engine::batch::arena::Datagram;
use ringest_engine::error::Result;

/// Bytes that may wait, of all workers, and one chunk of each more. Lower loses more when the reader is slow
/// for a moment, higher costs memory.
pub(crate) const ROOM_BYTES: usize = 4 << 20;

/// Bytes that a chunk takes beside its lines.
const CHUNK_BYTES: usize = 256;

/// How often a worker checks what was written, while something is on its way and no datagrams come.
const CHECK_EVERY: Duration = Duration::from_millis(10);

/// How long a worker waits at the end until its lines are written.
const FINISH_TIMEOUT: Duration = Duration::from_secs(2);

/// Writes lines on the thread.
pub(crate) trait WriteLines: Send + Debug {
    /// Writes the lines of datagrams that end at `ends`. Returns the datagrams that were written and those that
    /// were not, in their order.
    fn write(&mut self, lines: &[u8], ends: &[usize], notices: &Notices) -> [Run; 2];

    /// Opens the place again, if it has a name.
    fn reopen(&mut self, _notices: &Notices) {}
}

/// Work for the thread, done in the order it was given.
#[derive(Debug)]
enum Work {
    Write(Chunk),
    Reopen,
}

/// Lines on their way to the thread.
#[derive(Debug)]
struct Chunk {
    lines: Vec<u8>,
    /// Where the lines of each datagram end.
    ends: Vec<usize>,
    /// Bytes of the room that it takes.
    bytes: usize,
    answer: Sender<[Run; 2]>,
}

/// The thread; see the module's description. Nobody joins it: it may be writing to a reader that never reads
/// again. It ends when all workers' ends and this are dropped.
#[derive(Debug)]
pub struct WriterThread {
    work: Sender<Work>,
    /// Bytes that wait.
    waiting: Arc<AtomicUsize>,
    notices: Arc<Notices>,
    format: Format,
    /// The place that is slow when there is no room, as a notice names it.
    slow: Arc<str>,
}

impl WriterThread {
    /// Starts the thread `name`, which writes with `writer`. `slow` names the place in the notice that there
    /// is no room.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub(crate) fn start(
        name: &str,
        mut writer: impl WriteLines + 'static,
        format: Format,
        slow: &str,
        notices: &Arc<Notices>,
    ) -> Result<Self> {
        let (work, queue) = unbounded();
        let waiting = Arc::new(AtomicUsize::new(0));
        let (room, own) = (Arc::clone(&waiting), Arc::clone(notices));
        spawn_named(name.to_owned(), None, move || write_all(&mut writer, &queue, &room, &own))?;
        Ok(Self { work, waiting, notices: Arc::clone(notices), format, slow: slow.into() })
    }

    /// Makes one worker's end.
    #[must_use]
    pub fn printer(&self) -> QueuedPrinter {
        QueuedPrinter {
            work: self.work.clone(),
            waiting: Arc::clone(&self.waiting),
            notices: Arc::clone(&self.notices),
            format: self.format,
            slow: Arc::clone(&self.slow),
            lines: Vec::new(),
            ends: Vec::new(),
            handed: VecDeque::new(),
            answers: unbounded(),
        }
    }

    /// Has the thread open its place again, after the lines that wait already.
    pub(crate) fn reopen(&self) {
        // The thread has ended only if it panicked.
        let _ = self.work.send(Work::Reopen);
    }
}

/// Does the work until no more can come.
fn write_all(
    writer: &mut impl WriteLines,
    queue: &Receiver<Work>,
    waiting: &AtomicUsize,
    notices: &Notices,
) {
    for work in queue {
        match work {
            Work::Write(chunk) => {
                let runs = writer.write(&chunk.lines, &chunk.ends, notices);
                waiting.fetch_sub(chunk.bytes, Ordering::AcqRel);
                // A worker that has ended takes no answer.
                let _ = chunk.answer.send(runs);
            }
            Work::Reopen => writer.reopen(notices),
        }
    }
}

/// One worker's end of a [`WriterThread`].
#[derive(Debug)]
pub struct QueuedPrinter {
    work: Sender<Work>,
    waiting: Arc<AtomicUsize>,
    notices: Arc<Notices>,
    format: Format,
    slow: Arc<str>,
    lines: Vec<u8>,
    ends: Vec<usize>,
    /// Datagrams in their order: a run for each chunk without an answer, and for the lost datagrams in
    /// between.
    handed: VecDeque<Run>,
    answers: (Sender<[Run; 2]>, Receiver<[Run; 2]>),
}

impl Sink for QueuedPrinter {
    fn record(&mut self, datagram: &Datagram<'_>, record: &[u8], _: Instant) {
        write_line(&mut self.lines, self.format, datagram, record);
    }

    fn end_datagram(&mut self, _: Instant) {
        // One datagram may be more lines than there is ever room for. It gets a chunk of its own, so that no
        // other is lost with it.
        let before = self.ends.last().copied().unwrap_or(0);
        if before > 0 && self.lines.len() - before > WRITE_BYTES {
            let own = self.lines.split_off(before);
            self.hand_over();
            self.lines = own;
        }
        self.ends.push(self.lines.len());
        if self.lines.len() >= WRITE_BYTES {
            self.hand_over();
        }
    }

    fn pump(&mut self, _: Instant, tell: &mut dyn FnMut(Run)) {
        self.hand_over();
        self.settle(tell);
    }

    fn due_within(&self, _: Instant) -> Option<Duration> {
        (!self.handed.is_empty()).then_some(CHECK_EVERY)
    }

    fn finish(&mut self, now: Instant, tell: &mut dyn FnMut(Run)) {
        self.hand_over();
        self.settle(tell);
        while !self.handed.is_empty() {
            let Ok(runs) = self.answers.1.recv_deadline(now + FINISH_TIMEOUT) else { break };
            self.answered(runs, tell);
            self.settle(tell);
        }
        let left = self.handed.drain(..);
        left.for_each(|run| tell(Run { lost: true, ..run }));
    }
}

impl QueuedPrinter {
    /// Hands the lines to the thread, or gives them up if there is no room.
    fn hand_over(&mut self) {
        let datagrams = self.ends.len() as u64;
        if datagrams == 0 {
            return;
        }
        let bytes = CHUNK_BYTES + self.lines.len() + self.ends.len() * size_of::<usize>();
        let before = self.waiting.fetch_add(bytes, Ordering::AcqRel);
        // A chunk may be larger than the room left: one datagram can be more lines than the whole room.
        if before >= ROOM_BYTES {
            self.waiting.fetch_sub(bytes, Ordering::AcqRel);
            self.lines.clear();
            self.ends.clear();
            let slow = &self.slow;
            self.notices.repeated(&format!("{slow} is behind"), || {
                format!(
                    "{slow} is behind: datagrams that do not fit into the buffer before it are counted as \
                     undelivered, and the other sinks go on"
                )
            });
            self.lose(datagrams);
            return;
        }
        let (lines, ends) = (std::mem::take(&mut self.lines), std::mem::take(&mut self.ends));
        let answer = self.answers.0.clone();
        match self.work.send(Work::Write(Chunk { lines, ends, bytes, answer })) {
            Ok(()) => self.handed.push_back(Run { datagrams, lost: false }),
            Err(_) => self.lose(datagrams),
        }
    }

    fn lose(&mut self, datagrams: u64) {
        match self.handed.back_mut() {
            Some(run) if run.lost => run.datagrams += datagrams,
            _ => self.handed.push_back(Run { datagrams, lost: true }),
        }
    }

    /// Tells the fate of datagrams that is known by now.
    fn settle(&mut self, tell: &mut dyn FnMut(Run)) {
        while let Some(run) = self.handed.front() {
            if run.lost {
                tell(*run);
                self.handed.pop_front();
                continue;
            }
            let Ok(runs) = self.answers.1.try_recv() else { return };
            self.answered(runs, tell);
        }
    }

    /// Takes the answer for the first chunk. Runs before it have been told.
    fn answered(&mut self, runs: [Run; 2], tell: &mut dyn FnMut(Run)) {
        self.handed.pop_front();
        runs.into_iter().filter(|run| run.datagrams > 0).for_each(tell);
    }
}
