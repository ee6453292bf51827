//! Standard output beside other sinks: a thread writes it, and nobody waits for its reader. Once the reader has
//! gone, everything is undelivered, and the other sinks go on.

use std::fmt::Debug;
use std::io::{self, Write};
use std::sync::Arc;

use crate::settle::notices::Notices;
use crate::settle::run::Run;
use crate::sink::stdout::Stdout;
use crate::sink::writer_thread::{WriteLines, WriterThread};
use ringest_engine::error::Result;

/// Starts the thread that writes to `stdout`. Trouble goes to `notices`.
///
/// # Errors
/// The thread cannot be started.
pub fn start<W>(stdout: Stdout<W>, notices: &Arc<Notices>) -> Result<WriterThread>
where
    W: Write + Send + Debug + 'static,
{
    let format = stdout.format();
    let writer = StdoutWriter { stdout, is_reported: false };
    WriterThread::start("ringest-stdout", writer, format, "the reader of stdout", notices)
}

/// Writes lines to stdout until its reader has gone.
#[derive(Debug)]
struct StdoutWriter<W> {
    stdout: Stdout<W>,
    /// The failure was reported: there is only one.
    is_reported: bool,
}

impl<W: Write + Send + Debug> WriteLines for StdoutWriter<W> {
    fn write(&mut self, lines: &[u8], ends: &[usize], notices: &Notices) -> [Run; 2] {
        let runs = self.stdout.write(lines, ends);
        if let (false, Some(error)) = (self.is_reported, self.stdout.failure()) {
            self.is_reported = true;
            let failed = match error.kind() {
                io::ErrorKind::BrokenPipe => "stdout was closed by its reader".to_owned(),
                _ => format!("cannot write to stdout: {error}"),
            };
            notices.repeated("stdout", || {
                format!(
                    "{failed}: datagrams that arrive are counted as undelivered, and the other sinks go on"
                )
            });
        }
        runs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::stage::Formats;
    use crate::sink::handler::SinkHandler;
    use crate::sink::lines::Format;
    use crate::sink::stdout::tests::{batch, no_replies};
    use crate::sink::writer_thread::ROOM_BYTES;
    use crossbeam_channel::{Receiver, Sender, unbounded};
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
        let aside = start(stdout, &notices).unwrap();
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
        let aside = start(stdout, &notices).unwrap();
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
