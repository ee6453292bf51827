//! Puts sinks behind an engine: opened, one end a worker, carriers started, and all of it stopped in order.
//!
//! ```text
//!  Sinks ─► start(builder, formats) ─► Engine          workers write to their ends
//!                                  └─► RunningSinks    notices, tallies, reopen, flush, close
//! ```

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::decode::stage::Formats;
use crate::settle::notices::Notices;
use crate::settle::tally::Tally;
use crate::sink::handler::{SinkEnd, SinkHandler};
use crate::sink::kinds::SinkSpec;
use crate::sink::open::OpenSink;
use ringest_engine::control::builder::Builder;
use ringest_engine::control::engine::Engine;
use ringest_engine::count::summary::Summary;
use ringest_engine::error::Error;

/// Why sinks could not be opened, or the engine behind them did not start or failed.
pub type AssembleError = Box<dyn std::error::Error + Send + Sync>;

/// The sinks of an engine. Datagrams go to all of them, or those of a listen address to a set of its own: a
/// datagram is delivered when all sinks of its set have it.
#[derive(Debug, Default)]
pub struct Sinks {
    notices: Arc<Notices>,
    /// The first set is for all listen addresses without one of their own.
    sets: Vec<Vec<Box<dyn OpenSink>>>,
    /// By listen address.
    by_listener: Vec<usize>,
}

impl Sinks {
    /// Makes an empty list.
    #[must_use]
    pub fn new() -> Self {
        Self { notices: Arc::default(), sets: vec![Vec::new()], by_listener: Vec::new() }
    }

    /// Returns where sinks report trouble while they run.
    #[must_use]
    pub fn notices(&self) -> &Arc<Notices> {
        &self.notices
    }

    /// Opens a sink for the datagrams of all listen addresses that have no set of their own.
    ///
    /// # Errors
    /// The sink cannot be opened.
    pub fn to(self, spec: impl SinkSpec + 'static) -> Result<Self, AssembleError> {
        let sink = Box::new(spec).open(&self.notices)?;
        Ok(self.to_open(sink))
    }

    /// Adds an open sink for the datagrams of all listen addresses that have no set of their own.
    #[must_use]
    pub fn to_open(mut self, sink: Box<dyn OpenSink>) -> Self {
        match self.sets.first_mut() {
            Some(first) => first.push(sink),
            None => self.sets.push(vec![sink]),
        }
        self
    }

    /// Opens a set of sinks for the datagrams of one listen address alone: `listener` is its place in
    /// [`Engine::addresses`]. A second call for the same address replaces the first.
    ///
    /// # Errors
    /// A sink cannot be opened.
    pub fn sinks_for(
        mut self,
        listener: usize,
        specs: Vec<Box<dyn SinkSpec>>,
    ) -> Result<Self, AssembleError> {
        let open = specs.into_iter().map(|spec| spec.open(&self.notices));
        let set = open.collect::<Result<Vec<_>, _>>()?;
        if self.sets.is_empty() {
            self.sets.push(Vec::new());
        }
        if self.by_listener.len() <= listener {
            self.by_listener.resize(listener + 1, 0);
        }
        self.by_listener[listener] = self.sets.len();
        self.sets.push(set);
        Ok(self)
    }

    /// Starts an engine whose workers decode datagrams by `formats` and write to these sinks, and then the
    /// carriers of the sinks. The builder's idle tick is shortened to the shortest that a sink needs.
    ///
    /// # Errors
    /// The engine, or a thread of a carrier, cannot be started.
    pub fn start(
        self,
        mut builder: Builder,
        formats: &Formats,
    ) -> Result<(Engine, RunningSinks), Error> {
        let Self { notices, mut sets, by_listener } = self;
        let workers = builder.plan()?.handlers();
        let all = || sets.iter().flatten();
        let ticks = all().filter_map(|sink| sink.idle_tick());
        if let Some(tick) = ticks.chain(builder.config().idle_tick).min() {
            builder = builder.idle_tick(tick);
        }
        let flush = all().map(|sink| sink.flush_timeout()).max().unwrap_or_default();
        let mut tallies: Vec<Vec<Arc<Tally>>> = vec![Vec::new(); sets.len()];
        let engine = builder.start(|worker| {
            let ends = |set: &Vec<Box<dyn OpenSink>>| -> Vec<SinkEnd> {
                set.iter().map(|sink| sink.end(worker, workers)).collect()
            };
            let ends = sets.iter().map(ends).collect();
            let handler = SinkHandler::with_sets(formats.stage(), ends, by_listener.clone(), flush);
            for (of_set, tally) in tallies.iter_mut().zip(handler.tallies()) {
                of_set.push(Arc::clone(tally));
            }
            handler
        })?;
        for (set, tallies) in sets.iter_mut().zip(&tallies) {
            let mut first_lane = 0;
            for sink in set {
                sink.start_carriers(tallies, first_lane)?;
                first_lane += sink.lanes();
            }
        }
        let tallies = tallies.into_iter().flatten().collect();
        let sinks = sets.into_iter().flatten().collect();
        Ok((engine, RunningSinks { notices, sinks, tallies, flush }))
    }
}

/// The sinks of a running engine.
#[derive(Debug)]
pub struct RunningSinks {
    notices: Arc<Notices>,
    sinks: Vec<Box<dyn OpenSink>>,
    /// The tallies of all workers and sets.
    tallies: Vec<Arc<Tally>>,
    flush: Duration,
}

impl RunningSinks {
    /// Stops the engine, waits until carriers have everything (at most as long as they were told to), and closes
    /// the sinks. Returns the final accounts.
    ///
    /// # Errors
    /// A thread of the engine had failed.
    pub fn stop(mut self, engine: Engine) -> Result<Summary, Error> {
        let until = Instant::now() + self.flush;
        let mut summary = engine.stop()?;
        self.sinks.iter().for_each(|sink| sink.flush(until));
        drop(self.take_carriers());
        self.settle_late(&mut summary);
        self.close();
        Ok(summary)
    }

    /// Returns where sinks report trouble.
    #[must_use]
    pub fn notices(&self) -> &Arc<Notices> {
        &self.notices
    }

    /// Returns how long to wait at a stop until the carriers have everything.
    #[must_use]
    pub fn flush_timeout(&self) -> Duration {
        self.flush
    }

    /// Has all sinks open their files anew.
    pub fn reopen(&self) {
        self.sinks.iter().for_each(|sink| sink.reopen());
    }

    /// Makes workers that wait for carriers wait no longer.
    pub fn abandon(&self) {
        self.tallies.iter().for_each(|tally| tally.abandon());
    }

    /// Returns the number of datagrams that a sink was given and has not written.
    #[must_use]
    pub fn unwritten(&self) -> u64 {
        self.tallies.iter().map(|tally| tally.unwritten()).sum()
    }

    /// Takes the carriers out. They stop when they are dropped, which may wait for a disk.
    #[must_use]
    pub fn take_carriers(&mut self) -> Vec<Box<dyn Any + Send>> {
        self.sinks.iter_mut().filter_map(|sink| sink.take_carriers()).collect()
    }

    /// Corrects a summary by datagrams that carriers settled after the workers had ended.
    pub fn settle_late(&self, summary: &mut Summary) {
        let undelivered = self.tallies.iter().map(|tally| tally.totals().1).sum();
        let pending = self.tallies.iter().map(|tally| tally.pending()).sum();
        summary.ledger.settled_late(undelivered, pending);
    }

    /// Closes the sinks. May wait for a disk.
    pub fn close(self) {
        self.sinks.into_iter().for_each(|sink| sink.close());
    }
}
