//! Nowhere: datagrams are counted and forgotten. What is left is the cost of receiving itself.

use crate::decode::stage::DecodeStage;
use ringest_engine::batch::arena::Batch;
use ringest_engine::send::reply::Replies;
use ringest_engine::work::handler::{Handler, Outcome};

/// Accepts everything; in the ledger it is delivered.
#[derive(Clone, Copy, Debug, Default)]
pub struct Discard;

impl Handler for Discard {
    fn handle(&mut self, _: &Batch, _: &mut Replies) {}
}

/// Accepts every datagram that holds a record, and forgets it.
#[derive(Debug)]
pub struct DiscardRecords {
    intake: DecodeStage,
}

impl DiscardRecords {
    /// With one worker's decoders.
    #[must_use]
    pub fn new(intake: DecodeStage) -> Self {
        Self { intake }
    }
}

impl Handler for DiscardRecords {
    fn handle(&mut self, batch: &Batch, _: &mut Replies) {
        for datagram in batch {
            self.intake.take(&datagram, |_| {});
        }
    }

    fn outcome(&self, handled: u64) -> Outcome {
        let found = self.intake.outcome();
        Outcome { delivered: handled - found.rejected, ..found }
    }
}
