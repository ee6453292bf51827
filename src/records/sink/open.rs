//! An open sink, as the control thread holds it while workers write to their ends.

use std::any::Any;
use std::fmt::Debug;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::settle::tally::Tally;
use crate::sink::file::FileSink;
use crate::sink::handler::SinkEnd;
use crate::sink::stdout::Stdout;
use crate::sink::writer_thread::WriterThread;
use ringest_engine::error::Error;

/// An open sink. A kind of sink is a type with this trait, and a row in [`KINDS`](crate::sink::kinds::KINDS).
///
/// Its life: the workers get their ends; the carriers start; the workers finish their ends and drop them; the
/// carriers are flushed and stopped; the sink is closed. Only a sink that others carry datagrams on from, such
/// as a journal with brokers, has carriers.
pub trait OpenSink: Send + Debug {
    /// Makes the end of worker `worker` of `workers`.
    fn end(&self, worker: usize, workers: usize) -> SinkEnd;

    /// Returns the number of lanes it takes in a tally: one for each carrier, or one for itself.
    fn lanes(&self) -> usize {
        1
    }

    /// Returns the longest time after which a worker without datagrams must move its end on, or `None` if it
    /// need not.
    fn idle_tick(&self) -> Option<Duration> {
        None
    }

    /// Starts the carriers. They settle datagrams in `tallies`, one per worker, in the lanes from
    /// `first_lane` on.
    ///
    /// # Errors
    /// A thread cannot be started.
    fn start_carriers(&mut self, _tallies: &[Arc<Tally>], _first_lane: usize) -> Result<(), Error> {
        Ok(())
    }

    /// Returns how long to wait at a stop until the carriers have everything.
    fn flush_timeout(&self) -> Duration {
        Duration::ZERO
    }

    /// Waits until the carriers have everything, at most until `until`.
    fn flush(&self, _until: Instant) {}

    /// Takes the carriers out. They stop when they are dropped, which may wait for a disk.
    fn take_carriers(&mut self) -> Option<Box<dyn Any + Send>> {
        None
    }

    /// Opens a file anew by its name, after a program such as logrotate renamed it.
    fn reopen(&self) {}

    /// Closes the sink, after all ends were dropped. May wait for a disk.
    fn close(self: Box<Self>) {}
}

/// How often a worker without datagrams checks for answers of a writer thread at the latest; it checks sooner
/// while it waits for one.
const IDLE_TICK: Duration = Duration::from_secs(1);

impl<W: Write + Send + Debug + 'static> OpenSink for Stdout<W> {
    fn end(&self, _: usize, _: usize) -> SinkEnd {
        SinkEnd { sink: Box::new(self.printer()), carriers: 0 }
    }
}

impl OpenSink for WriterThread {
    fn end(&self, _: usize, _: usize) -> SinkEnd {
        SinkEnd { sink: Box::new(self.printer()), carriers: 0 }
    }

    fn idle_tick(&self) -> Option<Duration> {
        Some(IDLE_TICK)
    }
}

impl OpenSink for FileSink {
    fn end(&self, _: usize, _: usize) -> SinkEnd {
        SinkEnd { sink: Box::new(self.printer()), carriers: 0 }
    }

    fn idle_tick(&self) -> Option<Duration> {
        Some(IDLE_TICK)
    }

    fn reopen(&self) {
        Self::reopen(self);
    }
}
