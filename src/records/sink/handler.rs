//! Gives one worker's datagrams to its sinks: decoded once, handed to each sink, counted when all have them.
//!
//! ```text
//!  batch ─► decode stage ─► record ─┬─► stdout ──────────────────► tally
//!                                   └─► journal ─► (shippers) ───► tally ─► delivered, undelivered
//! ```
//! Listen addresses may have sets of sinks of their own. Each set has a tally.

use std::fmt::Debug;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::decode::stage::{Consumer, DecodeStage};
use crate::settle::run::Run;
use crate::settle::tally::Tally;
use ringest_base::sys::clock;
use ringest_engine::batch::arena::{Batch, Datagram};
use ringest_engine::send::reply::Replies;
use ringest_engine::work::handler::{Handler, Outcome};

/// One worker's end of a sink.
pub trait Sink: Send + Debug {
    /// Takes the next record of the datagram at hand.
    fn record(&mut self, datagram: &Datagram<'_>, record: &[u8], now: Instant);

    /// Ends the datagram at hand, which had at least one record.
    fn end_datagram(&mut self, now: Instant);

    /// Moves on, without waiting. Calls `tell` with the fate of datagrams that were settled since the last
    /// call, in their order. Called after each batch, and now and then while no datagrams come.
    fn pump(&mut self, now: Instant, tell: &mut dyn FnMut(Run));

    /// Settles all datagrams, and may wait for that. No datagrams follow.
    fn finish(&mut self, now: Instant, tell: &mut dyn FnMut(Run)) {
        self.pump(now, tell);
    }

    /// Returns how soon [`pump`](Self::pump) is due while no datagrams come, or `None` if it is not.
    fn due_within(&self, _: Instant) -> Option<Duration> {
        None
    }
}

/// Gives one worker's records to its sinks. See the module's description.
#[derive(Debug)]
pub struct SinkHandler {
    stage: DecodeStage,
    sets: Sets,
    /// How long to wait at the end for those who carry datagrams on from a sink.
    flush: Duration,
}

/// The sets of sinks, and which datagrams each gets.
#[derive(Debug)]
struct Sets {
    /// The first set gets the datagrams of all listen addresses that have none of their own.
    sets: Vec<Set>,
    /// The set of each listen address; an address behind the end has the first.
    by_listener: Vec<usize>,
    /// Datagrams that hold no record, and nothing that is wrong either. They are delivered: no sink gets
    /// them.
    empty: u64,
}

/// The sinks that get the same datagrams.
#[derive(Debug)]
struct Set {
    places: Vec<Place>,
    tally: Arc<Tally>,
    /// Datagrams given to the sinks, without those that joined them.
    landed: u64,
    /// Datagrams that joined others.
    joined: u64,
}

#[derive(Debug)]
struct Place {
    sink: Box<dyn Sink>,
    settles: Settles,
}

/// Settles the datagrams of a sink.
#[derive(Debug)]
enum Settles {
    /// The sink itself, in this lane of the tally.
    Itself(usize),
    /// Those who carry datagrams on from there, in these lanes.
    Carriers(Range<usize>),
}

/// A sink of a set, as [`SinkHandler::with_sets`] takes it.
#[derive(Debug)]
pub struct SinkEnd {
    /// One worker's end of the sink.
    pub sink: Box<dyn Sink>,
    /// The number of others that carry its datagrams on, and settle them; 0 for a sink that settles them
    /// itself.
    pub carriers: usize,
}

impl From<Box<dyn Sink>> for SinkEnd {
    fn from(sink: Box<dyn Sink>) -> Self {
        Self { sink, carriers: 0 }
    }
}

impl Set {
    fn new(ends: impl IntoIterator<Item = SinkEnd>) -> Self {
        let mut lanes = 0;
        let place = |end: SinkEnd| {
            let first = lanes;
            lanes += end.carriers.max(1);
            let settles = match end.carriers {
                0 => Settles::Itself(first),
                _ => Settles::Carriers(first..lanes),
            };
            Place { sink: end.sink, settles }
        };
        let places = ends.into_iter().map(place).collect();
        Self { places, tally: Arc::new(Tally::new(lanes)), landed: 0, joined: 0 }
    }

    fn pump(&mut self, finish: bool) {
        // Sinks that wait for a reader come before the journal: at the end it is committed first.
        for place in self.places.iter_mut().rev() {
            let (tally, settles) = (&self.tally, &place.settles);
            let mut tell = |run| match settles {
                Settles::Itself(lane) => tally.settle(*lane, run),
                Settles::Carriers(lanes) => {
                    lanes.clone().for_each(|lane| tally.hand_over(lane, run));
                }
            };
            // Read again for each sink: the one before may have waited for a disk.
            let now = Instant::now();
            match finish {
                true => place.sink.finish(now, &mut tell),
                false => place.sink.pump(now, &mut tell),
            }
        }
    }
}

impl SinkHandler {
    /// Makes a handler of one worker's decoders, and its ends of the sinks that get all datagrams.
    #[must_use]
    pub fn new(stage: DecodeStage, sinks: Vec<Box<dyn Sink>>) -> Self {
        let ends = sinks.into_iter().map(SinkEnd::from).collect();
        Self::with_sets(stage, vec![ends], Vec::new(), Duration::ZERO)
    }

    /// Makes a handler of one worker's decoders, and its ends of several sets of sinks. `by_listener` is the
    /// set of each listen address; addresses behind its end have the first. At the end, those who carry
    /// datagrams on from a sink are waited for, at most for `flush`.
    #[must_use]
    pub fn with_sets(
        stage: DecodeStage,
        sets: Vec<Vec<SinkEnd>>,
        by_listener: Vec<usize>,
        flush: Duration,
    ) -> Self {
        let mut sets: Vec<_> = sets.into_iter().map(Set::new).collect();
        if sets.is_empty() {
            sets.push(Set::new([]));
        }
        Self { stage, sets: Sets { sets, by_listener, empty: 0 }, flush }
    }

    /// Returns the tally of each set.
    pub fn tallies(&self) -> impl Iterator<Item = &Arc<Tally>> {
        self.sets.sets.iter().map(|set| &set.tally)
    }

    #[cfg(test)]
    pub(crate) fn stage(&self) -> &DecodeStage {
        &self.stage
    }

    fn pump(&mut self, finish: bool) {
        self.sets.sets.iter_mut().for_each(|set| set.pump(finish));
    }
}

/// The sets of sinks, while records come at one time.
struct Now<'a>(&'a mut Sets, Instant);

impl Sets {
    fn of(&mut self, datagram: &Datagram<'_>) -> Option<&mut Set> {
        let place = self.by_listener.get(datagram.listener()).copied().unwrap_or(0);
        self.sets.get_mut(place)
    }
}

impl Consumer for Now<'_> {
    #[inline]
    fn record(&mut self, datagram: &Datagram<'_>, record: &[u8]) {
        let Self(sets, now) = self;
        if let Some(set) = sets.of(datagram) {
            set.places.iter_mut().for_each(|place| place.sink.record(datagram, record, *now));
        }
    }

    #[inline]
    fn end(&mut self, datagram: &Datagram<'_>, records: u64, datagrams: u64) {
        let Self(sets, now) = self;
        match sets.of(datagram) {
            Some(set) if records > 0 && !set.places.is_empty() => {
                if datagrams > 1 {
                    set.tally.join(set.landed, datagrams - 1);
                    set.joined += datagrams - 1;
                }
                set.landed += 1;
                set.places.iter_mut().for_each(|place| place.sink.end_datagram(*now));
            }
            _ => sets.empty += datagrams,
        }
    }
}

impl SinkHandler {
    /// Returns how soon a sink or a held datagram must be looked after; `None`: none must.
    pub(crate) fn due_within(&self) -> Option<Duration> {
        let now = Instant::now();
        let places = self.sets.sets.iter().flat_map(|set| &set.places);
        let sinks = places.filter_map(|place| place.sink.due_within(now));
        sinks.chain(self.stage.due_within(now)).min()
    }
}

impl Handler for SinkHandler {
    fn handle(&mut self, batch: &Batch, _: &mut Replies) {
        let mut to = Now(&mut self.sets, Instant::now());
        for datagram in batch {
            self.stage.take(&datagram, &mut to);
        }
        self.stage.tick(to.1, &mut to);
        self.pump(false);
    }

    fn outcome(&self, _: u64) -> Outcome {
        let found = self.stage.outcome();
        let mut outcome = Outcome { delivered: self.sets.empty, ..found };
        let mut held = found.pending;
        for set in &self.sets.sets {
            // Datagrams at hand are not among them: those are queued.
            set.tally.landed(set.landed, std::mem::take(&mut held));
            let (delivered, undelivered) = set.tally.totals();
            outcome.delivered += delivered;
            outcome.undelivered += undelivered;
            outcome.pending += set.landed + set.joined - delivered - undelivered;
        }
        outcome
    }

    fn on_idle(&mut self) {
        let now = Instant::now();
        self.stage.tick(now, &mut Now(&mut self.sets, now));
        self.pump(false);
    }

    fn deadline_ns(&self) -> Option<u64> {
        self.due_within().map(clock::monotonic_ns_after)
    }

    fn on_deadline(&mut self, _: u64, _: &mut Replies) {
        self.on_idle();
    }

    fn finish(&mut self) {
        self.stage.finish(&mut Now(&mut self.sets, Instant::now()));
        self.pump(true);
        let deadline = Instant::now() + self.flush;
        self.sets.sets.iter().for_each(|set| set.tally.wait_for(set.landed, deadline));
    }
}
