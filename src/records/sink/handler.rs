//! One worker's datagrams to their places: decoded once, given to each sink, counted when all have them.
//!
//! ```text
//!  batch ─► intake ─► record ─┬─► stdout ──────────────────► tally
//!                             └─► journal ─► (shippers) ───► tally ─► delivered, undelivered
//! ```

use std::fmt::Debug;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::decode::stage::DecodeStage;
use crate::settle::run::Run;
use crate::settle::tally::Tally;
use ringest_engine::batch::arena::{Batch, Datagram};
use ringest_engine::send::reply::Replies;
use ringest_engine::work::handler::{Handler, Outcome};

/// One worker's end of a place that records go to.
pub trait Sink: Send + Debug {
    /// Takes a record of the datagram at hand.
    fn record(&mut self, datagram: &Datagram<'_>, record: &[u8], now: Instant);

    /// The datagram at hand has no more records, and had at least one.
    fn end_datagram(&mut self, now: Instant);

    /// Moves on. Called after each batch and when none comes; tells what became of datagrams since, in
    /// their order.
    fn pump(&mut self, now: Instant, tell: &mut dyn FnMut(Run));

    /// The same, at the end, when nothing may be left.
    fn finish(&mut self, now: Instant, tell: &mut dyn FnMut(Run)) {
        self.pump(now, tell);
    }

    /// How soon it wants to move on though nothing comes, if it does.
    fn due_within(&self, _: Instant) -> Option<Duration> {
        None
    }
}

/// Gives one worker's records to its sinks. See the module's description.
#[derive(Debug)]
pub struct SinkHandler {
    intake: DecodeStage,
    places: Vec<Place>,
    tally: Arc<Tally>,
    /// Datagrams that hold a record.
    landed: u64,
    /// Those that hold none, and nothing that is wrong either.
    empty: u64,
    /// How long to wait at the end for those who carry on what the journal has.
    flush: Duration,
}

#[derive(Debug)]
struct Place {
    sink: Box<dyn Sink>,
    settles: Settles,
}

/// Who settles the datagrams of a sink.
#[derive(Debug)]
enum Settles {
    /// The sink itself, in this lane of the tally.
    Itself(usize),
    /// Those who carry them on from there, in these lanes.
    Carriers(Range<usize>),
}

impl SinkHandler {
    /// With one worker's decoders, and its end of each sink.
    #[must_use]
    pub fn new(intake: DecodeStage, sinks: Vec<Box<dyn Sink>>) -> Self {
        let tally = Arc::new(Tally::new(sinks.len()));
        let settled = |(lane, sink)| Place { sink, settles: Settles::Itself(lane) };
        let places = sinks.into_iter().enumerate().map(settled).collect();
        Self { intake, places, tally, landed: 0, empty: 0, flush: Duration::ZERO }
    }

    /// With one more sink, whose datagrams so many others carry on; these settle them in the tally, from
    /// the lane after the other sinks on. At the end they are waited for.
    #[must_use]
    pub fn carried(mut self, sink: Box<dyn Sink>, carriers: usize, flush: Duration) -> Self {
        let first = self.places.len();
        self.places.push(Place { sink, settles: Settles::Carriers(first..first + carriers) });
        self.tally = Arc::new(Tally::new(first + carriers));
        self.flush = flush;
        self
    }

    /// Where datagrams are settled.
    #[must_use]
    pub fn tally(&self) -> &Arc<Tally> {
        &self.tally
    }

    fn pump(&mut self, finish: bool) {
        // The journal stands behind stdout: at the end it is done before a reader is waited for.
        for place in self.places.iter_mut().rev() {
            let (tally, settles) = (&self.tally, &place.settles);
            let mut tell = |run| match settles {
                Settles::Itself(lane) => tally.settle(*lane, run),
                Settles::Carriers(lanes) => {
                    lanes.clone().for_each(|lane| tally.hand_over(lane, run));
                }
            };
            // The one before it may have waited for a disk.
            let now = Instant::now();
            match finish {
                true => place.sink.finish(now, &mut tell),
                false => place.sink.pump(now, &mut tell),
            }
        }
    }
}

impl Handler for SinkHandler {
    fn handle(&mut self, batch: &Batch, _: &mut Replies) {
        let now = Instant::now();
        for datagram in batch {
            let (places, mut records) = (&mut self.places, 0);
            let stands = self.intake.take(&datagram, |record| {
                records += 1;
                places.iter_mut().for_each(|place| place.sink.record(&datagram, record, now));
            });
            if records > 0 {
                self.landed += 1;
                places.iter_mut().for_each(|place| place.sink.end_datagram(now));
            } else if stands {
                self.empty += 1;
            }
        }
        self.pump(false);
    }

    fn outcome(&self, _: u64) -> Outcome {
        // What is in hand is not among them: it is queued.
        self.tally.landed(self.landed);
        let (delivered, undelivered) = self.tally.totals();
        Outcome {
            delivered: delivered + self.empty,
            undelivered,
            pending: self.landed - delivered - undelivered,
            ..self.intake.outcome()
        }
    }

    fn on_idle(&mut self) {
        self.pump(false);
    }

    fn idle_within(&self) -> Option<Duration> {
        let now = Instant::now();
        self.places.iter().filter_map(|place| place.sink.due_within(now)).min()
    }

    fn finish(&mut self) {
        self.pump(true);
        self.tally.wait_for(self.landed, Instant::now() + self.flush);
    }
}
