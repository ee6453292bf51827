//! Standard output, or any other writer, as the only sink: one line a record.
//!
//! Each worker formats a batch into its own buffer and writes it under one lock, so lines of two workers never
//! interleave, and appear as soon as their batch was handled. When the writer fails (its reader went away),
//! that datagram and all that follow are undelivered, and the descriptor of `Stdout` becomes readable.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::settle::run::Run;
use crate::sink::handler::Sink;
use ringest_base::sys::event::Event;

use crate::sink::lines::{Format, WRITE_BYTES, write_line};
use ringest_engine::batch::arena::Datagram;

/// A writer that all workers share. Clones share it, too. Its descriptor is readable once the writer has failed.
#[derive(Debug)]
pub struct Stdout<W> {
    shared: Arc<Shared<W>>,
    format: Format,
}

#[derive(Debug)]
struct Shared<W> {
    door: Mutex<Door<W>>,
    /// Set once. Spares the formatting of lines that cannot be written.
    failed: AtomicBool,
    event: Event,
}

#[derive(Debug)]
struct Door<W> {
    writer: W,
    failure: Option<io::Error>,
}

impl<W> Clone for Stdout<W> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), format: self.format }
    }
}

impl<W: Write + Send> Stdout<W> {
    /// Makes a sink of a writer.
    ///
    /// # Errors
    /// eventfd(2) failed.
    pub fn new(writer: W, format: Format) -> io::Result<Self> {
        let event = Event::new()?;
        let door = Mutex::new(Door { writer, failure: None });
        let shared = Shared { door, failed: AtomicBool::new(false), event };
        Ok(Self { shared: Arc::new(shared), format })
    }

    /// Makes one worker's end.
    #[must_use]
    pub fn printer(&self) -> Printer<W> {
        Printer {
            shared: Arc::clone(&self.shared),
            format: self.format,
            lines: Vec::with_capacity(WRITE_BYTES),
            ends: Vec::new(),
            runs: VecDeque::new(),
        }
    }

    pub(crate) fn format(&self) -> Format {
        self.format
    }

    /// See [`Shared::write_whole`].
    pub(crate) fn write(&self, lines: &[u8], ends: &[usize]) -> [Run; 2] {
        self.shared.write_whole(lines, ends)
    }

    /// Returns the error of the writer, or `None` if it has not failed.
    #[must_use]
    pub fn failure(&self) -> Option<io::Error> {
        // Checked without the lock: a writer that blocks for ever holds it, and has not failed.
        if !self.shared.failed.load(Ordering::Acquire) {
            return None;
        }
        let door = self.shared.door();
        door.failure.as_ref().map(|error| match error.raw_os_error() {
            Some(code) => io::Error::from_raw_os_error(code),
            None => io::Error::new(error.kind(), error.to_string()),
        })
    }
}

impl<W> AsFd for Stdout<W> {
    /// Readable once the writer has failed.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.event.as_fd()
    }
}

impl<W> Shared<W> {
    fn door(&self) -> MutexGuard<'_, Door<W>> {
        // A writer that panics stops the engine, so nobody reads the state it left.
        self.door.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<W: Write> Shared<W> {
    /// Writes `lines` unless the writer has failed. Returns the number of bytes written.
    fn write(&self, lines: &[u8]) -> usize {
        let mut door = self.door();
        if door.failure.is_some() {
            return 0;
        }
        let mut written = 0;
        while written < lines.len() {
            match door.writer.write(&lines[written..]) {
                Ok(0) => return self.fail(&mut door, io::ErrorKind::WriteZero.into(), written),
                Ok(bytes) => written += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return self.fail(&mut door, error, written),
            }
        }
        match door.writer.flush() {
            Ok(()) => written,
            // Bytes may be in a buffer of the writer: none of them counts as delivered.
            Err(error) => self.fail(&mut door, error, 0),
        }
    }

    /// Writes the lines of datagrams that end at `ends`. Returns the datagrams that were written, and those that
    /// were not.
    fn write_whole(&self, lines: &[u8], ends: &[usize]) -> [Run; 2] {
        let written = self.write(lines);
        let whole = ends.partition_point(|end| *end <= written) as u64;
        let lost = ends.len() as u64 - whole;
        [Run { datagrams: whole, lost: false }, Run { datagrams: lost, lost: true }]
    }

    fn fail(&self, door: &mut Door<W>, error: io::Error, written: usize) -> usize {
        door.failure = Some(error);
        self.failed.store(true, Ordering::Release);
        self.event.raise();
        written
    }
}

/// One worker's end of a [`Stdout`].
#[derive(Debug)]
pub struct Printer<W> {
    shared: Arc<Shared<W>>,
    format: Format,
    lines: Vec<u8>,
    /// Where the lines of each datagram end in `lines`.
    ends: Vec<usize>,
    /// The fate of datagrams that was not told yet.
    runs: VecDeque<Run>,
}

impl<W: Write + Send + Debug> Sink for Printer<W> {
    fn record(&mut self, datagram: &Datagram<'_>, record: &[u8], _: Instant) {
        if !self.shared.failed.load(Ordering::Acquire) {
            write_line(&mut self.lines, self.format, datagram, record);
        }
    }

    fn end_datagram(&mut self, _: Instant) {
        // After a failure the end lies behind the lines, so that the datagram does not count as written.
        let nothing = usize::from(self.shared.failed.load(Ordering::Acquire));
        self.ends.push(self.lines.len() + nothing);
        if self.lines.len() >= WRITE_BYTES {
            self.write_out();
        }
    }

    fn pump(&mut self, _: Instant, tell: &mut dyn FnMut(Run)) {
        self.write_out();
        self.runs.drain(..).for_each(tell);
    }
}

impl<W: Write> Printer<W> {
    fn write_out(&mut self) {
        for run in self.shared.write_whole(&self.lines, &self.ends) {
            Run::note(&mut self.runs, run);
        }
        self.lines.clear();
        self.ends.clear();
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::decode::stage::Formats;
    use crate::sink::handler::SinkHandler;
    use proptest::prelude::*;
    use ringest_engine::batch::arena::{Batch, Frame};
    use ringest_engine::batch::pool::Pool;
    use ringest_engine::send::reply::Replies;
    use ringest_engine::work::handler::{Handler, Outcome};

    /// Takes `room` bytes, then its reader is gone.
    #[derive(Debug)]
    struct Pipe {
        taken: Vec<u8>,
        room: usize,
    }

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = bytes.len().min(self.room).min(7);
            if count == 0 {
                return Err(io::Error::from_raw_os_error(libc::EPIPE));
            }
            self.room -= count;
            self.taken.extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    pub(crate) fn batch(payloads: &[&[u8]]) -> Batch {
        let mut batch = Batch::new(1 << 20, 64, 0);
        batch.open(0, 1_700_000_000_000_000_000);
        for payload in payloads {
            let frame = Frame::datagram("127.0.0.1:514".parse().unwrap(), payload);
            assert!(batch.push(&frame, 1));
        }
        batch
    }

    pub(crate) fn no_replies() -> Replies {
        let (pool, _) = Pool::new(0, || Batch::new(4096, 1, 0));
        Replies::new(pool, Vec::new(), false)
    }

    fn handler(sink: &Stdout<Pipe>) -> SinkHandler {
        SinkHandler::new(Formats::raw().stage(), vec![Box::new(sink.printer())])
    }

    fn written(format: Format, room: usize, payloads: &[&[u8]]) -> (String, Outcome, bool) {
        let sink = Stdout::new(Pipe { taken: Vec::new(), room }, format).unwrap();
        let mut handler = handler(&sink);
        handler.handle(&batch(payloads), &mut no_replies());
        let text = String::from_utf8(sink.shared.door().writer.taken.clone()).unwrap();
        (text, handler.outcome(payloads.len() as u64), sink.failure().is_some())
    }

    #[test]
    fn one_line_a_datagram_in_each_format() {
        let payloads: [&[u8]; 3] = [b"hello", b"", b"\x1b\xff"];
        let (text, outcome, failed) = written(Format::Text, 1000, &payloads);
        assert_eq!(text, "hello\n\n\\u{1b}\\xff\n");
        assert_eq!((outcome.delivered, outcome.undelivered, failed), (3, 0, false));
        assert_eq!(written(Format::Hex, 1000, &payloads).0, "68656c6c6f\n\n1bff\n");
        assert_eq!(
            written(Format::Json, 1000, &payloads).0,
            concat!(
                r#"{"peer":"127.0.0.1:514","time":"2023-11-14T22:13:20.000000001Z","length":5,"#,
                r#""payload":"hello"}"#,
                "\n",
                r#"{"peer":"127.0.0.1:514","time":"2023-11-14T22:13:20.000000001Z","length":0,"#,
                r#""payload":""}"#,
                "\n",
                r#"{"peer":"127.0.0.1:514","time":"2023-11-14T22:13:20.000000001Z","length":2,"#,
                r#""payload_hex":"1bff"}"#,
                "\n",
            )
        );
    }

    #[test]
    fn what_a_closed_pipe_did_not_take_is_undelivered() {
        let (text, outcome, failed) = written(Format::Text, 8, &[b"one", b"two", b"three"]);
        assert_eq!(text, "one\ntwo\n");
        assert_eq!((outcome.delivered, outcome.undelivered, failed), (2, 1, true));
    }

    #[test]
    fn after_a_failure_nothing_is_tried_and_everything_counted() {
        let sink = Stdout::new(Pipe { taken: Vec::new(), room: 0 }, Format::Text).unwrap();
        let (mut first, mut second) = (handler(&sink), handler(&sink));
        first.handle(&batch(&[b"a", b"b"]), &mut no_replies());
        second.handle(&batch(&[b"c"]), &mut no_replies());
        assert_eq!(first.outcome(2).undelivered + second.outcome(1).undelivered, 3);
        assert_eq!(sink.failure().unwrap().raw_os_error(), Some(libc::EPIPE));
    }

    proptest! {
        /// Whatever comes and wherever the pipe breaks: no control byte but the line ends gets out,
        /// and every datagram is counted once.
        #[test]
        fn no_datagram_drives_a_terminal_and_each_is_counted(
            payloads in proptest::collection::vec(
                proptest::collection::vec(any::<u8>(), 0..60), 0..20),
            room in 0usize..4000,
            format in prop_oneof![Just(Format::Text), Just(Format::Hex), Just(Format::Json)],
        ) {
            let slices: Vec<&[u8]> = payloads.iter().map(Vec::as_slice).collect();
            let sink = Stdout::new(Pipe { taken: Vec::new(), room }, format).unwrap();
            let mut handler = handler(&sink);
            handler.handle(&batch(&slices), &mut no_replies());
            let taken = sink.shared.door().writer.taken.clone();
            let outcome = handler.outcome(0);
            prop_assert_eq!(outcome.delivered + outcome.undelivered, slices.len() as u64);
            let lines = taken.split(|byte| *byte == b'\n').count() - 1;
            prop_assert_eq!(outcome.delivered, lines as u64);
            let text = String::from_utf8_lossy(&taken).replace('\n', "");
            prop_assert!(!text.chars().any(char::is_control), "{:?}", text);
        }
    }
}
