//! Standard output beside other sinks: nobody waits for its reader.
//!
//! ```text
//!  worker: lines ─► room? ─► queue ─► writer thread ─► pipe
//!                    └ lost     ◄── how much of it was written
//! ```
//! What waits for the reader is bounded. What does not fit is undelivered, as is everything once the reader
//! has gone; the other sinks go on.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};

use crate::settle::notices::Notices;
use crate::settle::run::Run;
use crate::sink::handler::Sink;
use crate::sink::stdout::{Format, Stdout, WRITE_BYTES, write_line};
use ringest_base::sys::threads::spawn_named;
use ringest_engine::batch::arena::Datagram;
use ringest_engine::error::Result;

/// Bytes that may wait for the reader, of all workers, and one chunk of each more: lower loses more when it is slow for a moment, higher
/// costs memory.
const ROOM_BYTES: usize = 4 << 20;

/// What a chunk takes beside its lines.
const CHUNK_BYTES: usize = 256;

/// How often to look what has been written, while anything is on its way.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// How long the reader is waited for at the end.
const PATIENCE: Duration = Duration::from_secs(2);

/// Lines on their way to the reader.
#[derive(Debug)]
struct Chunk {
    lines: Vec<u8>,
    /// Where those of each datagram end.
    ends: Vec<usize>,
    /// What it takes of the room.
    bytes: usize,
    answer: Sender<[Run; 2]>,
}

/// See the module's description. Its thread is not waited for: it may be writing to a reader that stands
/// still for ever.
#[derive(Debug)]
pub struct StdoutThread {
    chunks: Sender<Chunk>,
    /// Bytes that wait.
    waiting: Arc<AtomicUsize>,
    notices: Arc<Notices>,
    format: Format,
}

impl StdoutThread {
    /// Writes to `stdout` from here on; what goes wrong is said by `notices`.
    ///
    /// # Errors
    /// There can be no thread.
    pub fn start<W>(stdout: Stdout<W>, notices: &Arc<Notices>) -> Result<Self>
    where
        W: Write + Send + Debug + 'static,
    {
        let (chunks, queue) = unbounded();
        let waiting = Arc::new(AtomicUsize::new(0));
        let format = stdout.format();
        let (room, said) = (Arc::clone(&waiting), Arc::clone(notices));
        spawn_named("ringest-stdout".to_owned(), None, move || {
            write_all(&stdout, &queue, &room, &said);
        })?;
        Ok(Self { chunks, waiting, notices: Arc::clone(notices), format })
    }

    /// One worker's end.
    #[must_use]
    pub fn printer(&self) -> AsidePrinter {
        AsidePrinter {
            chunks: self.chunks.clone(),
            waiting: Arc::clone(&self.waiting),
            notices: Arc::clone(&self.notices),
            format: self.format,
            lines: Vec::new(),
            ends: Vec::new(),
            handed: VecDeque::new(),
            answers: unbounded(),
        }
    }
}

/// Writes what comes until nothing can come any more.
fn write_all<W: Write + Send>(
    stdout: &Stdout<W>,
    queue: &Receiver<Chunk>,
    waiting: &AtomicUsize,
    notices: &Notices,
) {
    let mut is_told = false;
    for chunk in queue {
        let runs = stdout.write(&chunk.lines, &chunk.ends);
        if let (false, Some(error)) = (is_told, stdout.failure()) {
            is_told = true;
            let what = match error.kind() {
                io::ErrorKind::BrokenPipe => "stdout was closed by its reader".to_owned(),
                _ => format!("cannot write to stdout: {error}"),
            };
            notices.repeated("stdout", || {
                format!("{what}: what arrives is counted as undelivered, and the other sinks go on")
            });
        }
        waiting.fetch_sub(chunk.bytes, Ordering::AcqRel);
        // A worker that has ended asks no more.
        let _ = chunk.answer.send(runs);
    }
}

/// One worker's end; made by [`StdoutThread::printer`].
#[derive(Debug)]
pub struct AsidePrinter {
    chunks: Sender<Chunk>,
    waiting: Arc<AtomicUsize>,
    notices: Arc<Notices>,
    format: Format,
    lines: Vec<u8>,
    ends: Vec<usize>,
    /// Datagrams in their order: a run for each chunk that is not answered yet, and of those in between that
    /// were lost.
    handed: VecDeque<Run>,
    answers: (Sender<[Run; 2]>, Receiver<[Run; 2]>),
}

impl Sink for AsidePrinter {
    fn record(&mut self, datagram: &Datagram<'_>, record: &[u8], _: Instant) {
        write_line(&mut self.lines, self.format, datagram, record);
    }

    fn end_datagram(&mut self, _: Instant) {
        // One datagram may be more lines than there is ever room for: it takes nobody with it.
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
        (!self.handed.is_empty()).then_some(LOOK_EVERY)
    }

    fn finish(&mut self, now: Instant, tell: &mut dyn FnMut(Run)) {
        self.hand_over();
        self.settle(tell);
        while !self.handed.is_empty() {
            let Ok(runs) = self.answers.1.recv_deadline(now + PATIENCE) else { break };
            self.answered(runs, tell);
            self.settle(tell);
        }
        let left = self.handed.drain(..);
        left.for_each(|run| tell(Run { lost: true, ..run }));
    }
}

impl AsidePrinter {
    /// Gives the lines to the writer, or up.
    fn hand_over(&mut self) {
        let datagrams = self.ends.len() as u64;
        if datagrams == 0 {
            return;
        }
        let bytes = CHUNK_BYTES + self.lines.len() + self.ends.len() * size_of::<usize>();
        let before = self.waiting.fetch_add(bytes, Ordering::AcqRel);
        // The last one in may be larger than what is left: one datagram can be more lines than there is room for.
        if before >= ROOM_BYTES {
            self.waiting.fetch_sub(bytes, Ordering::AcqRel);
            self.lines.clear();
            self.ends.clear();
            self.notices.repeated("stdout is behind", || {
                "the reader of stdout is behind: what does not fit before it is counted as undelivered, and \
                 the other sinks go on"
            });
            self.lose(datagrams);
            return;
        }
        let (lines, ends) = (std::mem::take(&mut self.lines), std::mem::take(&mut self.ends));
        let answer = self.answers.0.clone();
        match self.chunks.send(Chunk { lines, ends, bytes, answer }) {
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

    /// Tells what is known by now.
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

    /// The first chunk that was not answered is. What was lost before it has been told.
    fn answered(&mut self, runs: [Run; 2], tell: &mut dyn FnMut(Run)) {
        self.handed.pop_front();
        runs.into_iter().filter(|run| run.datagrams > 0).for_each(tell);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::stage::Formats;
    use crate::sink::handler::SinkHandler;
    use crate::sink::stdout::tests::{batch, no_replies};
    use ringest_engine::work::handler::{Handler, Outcome};

    /// Takes a write for each permit; without any more permits its reader is gone.
    #[derive(Debug)]
    struct Gate {
        permits: Receiver<()>,
        taken: Sender<Vec<u8>>,
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let gone = |_| io::Error::from_raw_os_error(libc::EPIPE);
            self.permits.recv().map_err(gone)?;
            // Nobody may look at it.
            let _ = self.taken.send(bytes.to_vec());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Rig {
        permits: Sender<()>,
        taken: Receiver<Vec<u8>>,
        notices: Arc<Notices>,
        landing: SinkHandler,
    }

    fn rig() -> Rig {
        let (permits, asked) = unbounded();
        let (give, taken) = unbounded();
        let stdout = Stdout::new(Gate { permits: asked, taken: give }, Format::Text).unwrap();
        let notices = Arc::new(Notices::default());
        let aside = StdoutThread::start(stdout, &notices).unwrap();
        let landing = SinkHandler::new(Formats::raw().stage(), vec![Box::new(aside.printer())]);
        Rig { permits, taken, notices, landing }
    }

    impl Rig {
        fn handle(&mut self, payloads: &[&[u8]]) {
            self.landing.handle(&batch(payloads), &mut no_replies());
        }

        fn outcome(&self) -> (u64, u64, u64) {
            let Outcome { delivered, undelivered, pending, .. } = self.landing.outcome(0);
            (delivered, undelivered, pending)
        }
    }

    #[test]
    fn a_reader_that_stands_still_is_not_waited_for() {
        let mut rig = rig();
        let long = vec![b'x'; 60_000];
        // Handling returns though nothing is written: what fits waits, the rest is given up behind it.
        for _ in 0..100 {
            rig.handle(&[&long]);
        }
        assert_eq!(rig.outcome(), (0, 0, 100), "told in their order, and the first is not written");
        assert!(rig.notices.take()[0].contains("is behind"));
        // It reads on, and all that waited is delivered.
        (0..100).for_each(|_| rig.permits.send(()).unwrap());
        rig.landing.finish();
        let (delivered, undelivered, pending) = rig.outcome();
        let fits = ROOM_BYTES as u64 / 60_500;
        assert!(delivered >= fits && delivered < 100, "{delivered}");
        assert_eq!((delivered + undelivered, pending), (100, 0));
        assert_eq!(rig.taken.try_iter().count() as u64, delivered);
        assert_eq!(rig.notices.take(), Vec::<String>::new());
    }

    /// 65,507 empty lines are more JSON than there is room for.
    #[test]
    fn a_datagram_larger_than_the_room_takes_no_other_with_it() {
        let (permits, asked) = unbounded();
        let (give, taken) = unbounded();
        let stdout = Stdout::new(Gate { permits: asked, taken: give }, Format::Json).unwrap();
        let notices = Arc::new(Notices::default());
        let aside = StdoutThread::start(stdout, &notices).unwrap();
        let formats = Formats::new(vec!["lines".parse().unwrap()], None);
        let mut landing = SinkHandler::new(formats.stage(), vec![Box::new(aside.printer())]);
        (0..2).for_each(|_| permits.send(()).unwrap());
        landing.handle(&batch(&[b"one", &[b'\n'; 65_507]]), &mut no_replies());
        landing.finish();
        let Outcome { delivered, undelivered, .. } = landing.outcome(0);
        assert_eq!((delivered, undelivered), (2, 0), "{:?}", notices.take());
        let written: Vec<u8> = taken.try_iter().flatten().collect();
        assert_eq!(written.iter().filter(|byte| **byte == b'\n').count(), 65_508);
    }

    #[test]
    fn a_reader_that_goes_leaves_its_datagrams_undelivered_and_is_told_of_once() {
        let mut rig = rig();
        rig.permits.send(()).unwrap();
        rig.handle(&[b"one", b"two"]);
        assert_eq!(rig.taken.recv().unwrap(), b"one\ntwo\n");
        rig.handle(&[b"three"]);
        rig.permits = unbounded().0;
        rig.handle(&[b"four", b"five"]);
        rig.landing.finish();
        assert_eq!(rig.outcome(), (2, 3, 0));
        let told = rig.notices.take();
        assert!(told.len() == 1 && told[0].contains("closed by its reader"), "{told:?}");
    }

    #[test]
    fn a_stop_does_not_wait_for_ever() {
        let mut rig = rig();
        rig.handle(&[b"one", b"two"]);
        rig.landing.finish();
        assert_eq!(rig.outcome(), (0, 2, 0));
    }
}
