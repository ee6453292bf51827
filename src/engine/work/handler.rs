//! The handler: the program's own code, which gets every batch. The contract between it and the engine.

use std::time::Duration;

use crate::batch::arena::Batch;
use crate::send::reply::Replies;

/// What is done with the datagrams. A closure `FnMut(&Batch, &mut Replies)` is a handler.
///
/// One handler serves one worker, so it needs no lock. A handler that panics stops the engine.
pub trait Handler: Send {
    /// Handles one batch. Datagrams of one peer come to one handler in the order they were taken
    /// from the socket (`Dispatch::Flow`).
    fn handle(&mut self, batch: &Batch, replies: &mut Replies);

    /// What became of the first `handled` datagrams. The default says that handling is delivering;
    /// a sink that can refuse, fail or hold back says so here.
    fn outcome(&self, handled: u64) -> Outcome {
        Outcome { delivered: handled, ..Outcome::default() }
    }

    /// Nothing came for as long as the engine was told to wait
    /// ([`Builder::idle_tick`](crate::control::builder::Builder::idle_tick)), and again each time that passes: flush what
    /// need not be held any longer.
    fn on_idle(&mut self) {}

    /// How soon [`on_idle`](Self::on_idle) is to be called if nothing comes, where that is sooner than at every
    /// tick: there is something to be done, or something under way whose end is to be noted.
    fn idle_within(&self) -> Option<Duration> {
        None
    }

    /// No batch will follow: flush what is held.
    fn finish(&mut self) {}
}

impl<F: FnMut(&Batch, &mut Replies) + Send> Handler for F {
    fn handle(&mut self, batch: &Batch, replies: &mut Replies) {
        self(batch, replies);
    }
}

/// Totals since the start, in datagrams; the first four add up to what was handled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The handler or its decoder refused them.
    pub rejected: u64,
    /// The sink accepted them.
    pub delivered: u64,
    /// The sink gave up on them.
    pub undelivered: u64,
    /// In the sink now.
    pub pending: u64,
    /// Records found in them, by a sink that looks for records.
    pub records: u64,
    /// Parts of datagrams that were no record.
    pub records_rejected: u64,
}
