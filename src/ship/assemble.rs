//! A journal with the brokers that its records are shipped to, as one sink.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::carrier::Carrier;
use crate::fleet::{CursorPositions, Destination, Fleet, Watch};
use ringest_engine::control::plan::BillLine;
use ringest_engine::error::Error;
use ringest_records::journal::keep::commit_index::Position;
use ringest_records::journal::open::{Journal, JournalSpec};
use ringest_records::settle::notices::Notices;
use ringest_records::settle::tally::Tally;
use ringest_records::sink::assemble::AssembleError;
use ringest_records::sink::handler::SinkEnd;
use ringest_records::sink::kinds::SinkSpec;
use ringest_records::sink::open::OpenSink;

/// Describes a [`ShippedJournal`]. A datagram is delivered when all destinations have it.
#[derive(Debug)]
pub struct ShippedSpec {
    /// The journal. Its `readers` are filled in when it is opened.
    pub journal: JournalSpec,
    /// The brokers, at least one.
    pub destinations: Vec<Destination>,
    /// Most records under way to a broker. Twice as many may be repeated after a crash.
    pub window: usize,
    /// How long to wait at a stop until brokers have everything. The rest is sent at the next start.
    pub flush_timeout: Duration,
}

impl ShippedSpec {
    /// Describes a journal without a destination yet, with a window of 4096 records, flushed for 5 s.
    #[must_use]
    pub fn new(journal: JournalSpec) -> Self {
        let flush_timeout = Duration::from_secs(5);
        Self { journal, destinations: Vec::new(), window: 4096, flush_timeout }
    }

    /// Adds a broker. Its cursor in the journal's directory is kept by `name`, so a name must not change
    /// from start to start, nor appear twice.
    #[must_use]
    pub fn to(mut self, name: &str, carrier: impl Carrier + 'static) -> Self {
        self.destinations.push(Destination { name: name.to_owned(), carrier: Box::new(carrier) });
        self
    }
}

impl SinkSpec for ShippedSpec {
    fn memory(&self, workers: usize) -> Option<BillLine> {
        self.journal.memory(workers)
    }

    fn open(self: Box<Self>, notices: &Arc<Notices>) -> Result<Box<dyn OpenSink>, AssembleError> {
        Ok(Box::new(ShippedJournal::open(*self, notices)?))
    }
}

/// An open journal and its shippers.
#[derive(Debug)]
pub struct ShippedJournal {
    journal: Journal,
    /// Until the shippers start.
    destinations: Vec<Destination>,
    positions: Vec<BTreeMap<u16, Position>>,
    damaged: Vec<String>,
    watch: Watch,
    fleet: Option<Fleet>,
    window: usize,
    flush_timeout: Duration,
}

impl ShippedJournal {
    /// Reads the destinations' cursors and opens the journal. Trouble goes to `notices`.
    ///
    /// # Errors
    /// A cursor cannot be read, or the journal cannot be opened.
    pub fn open(spec: ShippedSpec, notices: &Arc<Notices>) -> Result<Self, AssembleError> {
        let ShippedSpec { mut journal, destinations, window, flush_timeout } = spec;
        let cursors = CursorPositions::read(&journal.dir, &destinations)
            .map_err(|error| format!("{}: {error}", journal.dir.display()))?;
        journal.readers = cursors.positions.clone();
        let journal = Journal::open_with(journal, notices)?;
        let watch = Watch::new(&journal, &destinations);
        let CursorPositions { positions, damaged } = cursors;
        let fleet = None;
        Ok(Self { journal, destinations, positions, damaged, watch, fleet, window, flush_timeout })
    }

    /// Returns the open journal.
    #[must_use]
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Returns the cursors that are damaged, and why. Their destinations begin at the oldest record again.
    #[must_use]
    pub fn damaged(&self) -> &[String] {
        &self.damaged
    }

    /// Returns the figures of the shippers.
    #[must_use]
    pub fn watch(&self) -> &Watch {
        &self.watch
    }
}

impl OpenSink for ShippedJournal {
    fn end(&self, worker: usize, workers: usize) -> SinkEnd {
        let carriers = self.positions.len();
        SinkEnd { carriers, ..self.journal.end(worker, workers) }
    }

    fn lanes(&self) -> usize {
        self.positions.len().max(1)
    }

    fn idle_tick(&self) -> Option<Duration> {
        self.journal.idle_tick()
    }

    fn start_carriers(&mut self, tallies: &[Arc<Tally>], first_lane: usize) -> Result<(), Error> {
        let destinations = std::mem::take(&mut self.destinations);
        self.fleet = Some(Fleet::start_watched(
            &self.journal,
            self.watch.clone(),
            destinations,
            (self.positions.clone(), self.window),
            (tallies, first_lane),
        )?);
        Ok(())
    }

    fn flush_timeout(&self) -> Duration {
        self.flush_timeout
    }

    fn flush(&self, until: Instant) {
        self.watch.await_empty(until);
    }

    fn take_carriers(&mut self) -> Option<Box<dyn Any + Send>> {
        self.fleet.take().map(|fleet| -> Box<dyn Any + Send> { Box::new(fleet) })
    }

    fn close(self: Box<Self>) {
        let Self { journal, fleet, .. } = *self;
        drop(fleet);
        journal.close();
    }
}
