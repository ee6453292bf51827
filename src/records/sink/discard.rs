//! Sinks that count datagrams and keep nothing. They show the cost of receiving itself.

use std::time::Instant;

use crate::decode::stage::{Consumer, DecodeStage};
use ringest_base::sys::clock;
use ringest_engine::batch::arena::{Batch, Datagram};
use ringest_engine::send::reply::Replies;
use ringest_engine::work::handler::{Handler, Outcome};

/// Accepts every datagram. In the ledger all are delivered.
#[derive(Clone, Copy, Debug, Default)]
pub struct Discard;

impl Handler for Discard {
    fn handle(&mut self, _: &Batch, _: &mut Replies) {}
}

/// Decodes every datagram and drops its records. In the ledger all are delivered but the rejected ones.
#[derive(Debug)]
pub struct DiscardRecords {
    stage: DecodeStage,
}

impl DiscardRecords {
    /// Makes a handler of one worker's decoders.
    #[must_use]
    pub fn new(stage: DecodeStage) -> Self {
        Self { stage }
    }
}

/// Drops records.
struct Dropped;

impl Consumer for Dropped {
    fn record(&mut self, _: &Datagram<'_>, _: &[u8]) {}
    fn end(&mut self, _: &Datagram<'_>, _: u64, _: u64) {}
}

impl Handler for DiscardRecords {
    fn handle(&mut self, batch: &Batch, _: &mut Replies) {
        for datagram in batch {
            self.stage.take(&datagram, &mut Dropped);
        }
        self.stage.tick(Instant::now(), &mut Dropped);
    }

    fn outcome(&self, handled: u64) -> Outcome {
        let found = self.stage.outcome();
        Outcome { delivered: handled - found.rejected - found.pending, ..found }
    }

    fn on_idle(&mut self) {
        self.stage.tick(Instant::now(), &mut Dropped);
    }

    fn deadline_ns(&self) -> Option<u64> {
        self.stage.due_within(Instant::now()).map(clock::monotonic_ns_after)
    }

    fn on_deadline(&mut self, _: u64, _: &mut Replies) {
        self.on_idle();
    }

    fn finish(&mut self) {
        self.stage.finish(&mut Dropped);
    }
}
