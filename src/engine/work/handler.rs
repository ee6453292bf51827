//! The handler: the program's own code, which gets every batch. The contract between it and the engine.

use crate::batch::arena::Batch;
use crate::send::reply::Replies;
use crate::work::remains::Remains;

/// Handles datagrams. A closure `FnMut(&Batch, &mut Replies)` is a handler.
///
/// One handler serves one worker, so it needs no lock. A handler that panics stops the engine.
pub trait Handler: Send {
    /// Handles one batch. Datagrams of one peer come to one handler in the order they were taken
    /// from the socket (`Dispatch::Flow`).
    fn handle(&mut self, batch: &Batch, replies: &mut Replies);

    /// Returns the outcome of the first `handled` datagrams. By default a handled datagram is delivered; a sink that
    /// can refuse, fail or hold datagrams back reports that here.
    fn outcome(&self, handled: u64) -> Outcome {
        Outcome { delivered: handled, ..Outcome::default() }
    }

    /// Flushes data that need not be held any longer. Called when no batch came for as long as the engine was told to wait
    /// ([`Builder::idle_tick`](crate::control::builder::Builder::idle_tick)), and again each time that time passes.
    fn on_idle(&mut self) {}

    /// Returns when [`on_deadline`](Self::on_deadline) is to be called, ns on the clock of
    /// [`Datagram::received_at_ns`](crate::batch::arena::Datagram::received_at_ns) (`CLOCK_MONOTONIC`); `None`: not at
    /// all. Asked after every call to the handler.
    fn deadline_ns(&self) -> Option<u64> {
        None
    }

    /// Does the work that the deadline was set for. Called once the deadline has passed, between two batches if they
    /// follow each other without a pause. `now_ns`: the time, on the deadline's clock. A deadline that is left in the past
    /// is met again at once.
    fn on_deadline(&mut self, _now_ns: u64, _replies: &mut Replies) {}

    /// Flushes everything held: no batch will follow.
    fn finish(&mut self) {}

    /// Returns what the handler leaves when its thread ends, for
    /// [`Engine::stop_with_remains`](crate::control::engine::Engine::stop_with_remains). Called after
    /// [`finish`](Self::finish); after an abort `finish` was not called. The default leaves nothing.
    fn into_remains(self) -> Remains
    where
        Self: Sized,
    {
        Remains::none()
    }
}

impl<F: FnMut(&Batch, &mut Replies) + Send> Handler for F {
    fn handle(&mut self, batch: &Batch, replies: &mut Replies) {
        self(batch, replies);
    }
}

/// Totals since the start, in datagrams; the first four add up to what was handled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Datagrams that the handler or its decoder refused.
    pub rejected: u64,
    /// Datagrams that the sink accepted.
    pub delivered: u64,
    /// Datagrams that the sink gave up.
    pub undelivered: u64,
    /// Datagrams in the sink whose outcome is open.
    pub pending: u64,
    /// Records found in the datagrams, by a sink that looks for records.
    pub records: u64,
    /// Parts of datagrams that were not a record.
    pub records_rejected: u64,
}
