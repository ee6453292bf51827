//! One worker's decoders, with their counters.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::decode::decoder::{Decoded, Decoder, Later, Records, Reject};
use crate::decode::formats::Decode;
use crate::decode::held::HeldDatagram;
use crate::decode::rejects::Rejects;
use ringest_engine::batch::arena::Datagram;
use ringest_engine::work::handler::Outcome;

/// The format of each listen address, and the file for samples of rejects. Makes each worker's
/// [`DecodeStage`].
#[derive(Clone, Debug)]
pub struct Formats {
    /// By listen address; an address without a format is raw.
    by_listener: Vec<Decode>,
    rejects: Option<Arc<Rejects>>,
}

impl Formats {
    /// Sets one format per listen address, in the order of the addresses.
    #[must_use]
    pub fn new(by_listener: Vec<Decode>, rejects: Option<Arc<Rejects>>) -> Self {
        Self { by_listener, rejects }
    }

    /// Sets no format: each datagram is one record.
    #[must_use]
    pub fn raw() -> Self {
        Self::new(Vec::new(), None)
    }

    /// Returns whether each datagram is one record, on every listen address.
    #[must_use]
    pub fn are_raw(&self) -> bool {
        self.by_listener.iter().all(|format| format.is_raw())
    }

    /// Makes the decoders of one worker.
    #[must_use]
    pub fn stage(&self) -> DecodeStage {
        let decoders = self.by_listener.iter().map(|format| format.decoder()).collect();
        DecodeStage::new(decoders, self.rejects.clone())
    }
}

/// Takes the records of a stage, datagram by datagram.
pub trait Consumer {
    /// Takes the next record of `datagram`.
    fn record(&mut self, datagram: &Datagram<'_>, record: &[u8]);

    /// Ends a datagram that was not rejected, after all of its `records`. It stands for `datagrams`: itself
    /// and those that were held for it. Not called for held and rejected datagrams.
    fn end(&mut self, datagram: &Datagram<'_>, records: u64, datagrams: u64);
}

/// One worker's decoders, with their counters since the start.
#[derive(Debug)]
pub struct DecodeStage {
    /// By listen address.
    decoders: Vec<Box<dyn Decoder>>,
    rejects: Option<Arc<Rejects>>,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    records: u64,
    /// Parts of datagrams that were no record.
    parts_rejected: u64,
    datagrams_rejected: u64,
    /// Datagrams that decoders hold now.
    held: u64,
    /// Rejected parts by reason. There are a few reasons per format.
    reasons: Vec<(&'static str, u64)>,
}

impl Counts {
    fn reject(&mut self, parts: u64, reason: &'static str) {
        self.parts_rejected += parts;
        match self.reasons.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, count)) => *count += parts,
            None => self.reasons.push((reason, parts)),
        }
    }

    /// Ends the hold of `datagrams`. Returns how many were held: a decoder that settles more than it held
    /// must not unbalance the ledger.
    fn settle(&mut self, datagrams: u64) -> u64 {
        debug_assert!(datagrams <= self.held, "a decoder settles more than it holds");
        let settled = datagrams.min(self.held);
        self.held -= settled;
        settled
    }
}

impl DecodeStage {
    /// Makes a stage of one decoder per listen address.
    #[must_use]
    pub fn new(decoders: Vec<Box<dyn Decoder>>, rejects: Option<Arc<Rejects>>) -> Self {
        Self { decoders, rejects, counts: Counts::default() }
    }

    /// Hands the records of `datagram` to `to`, in order. A part that is no record is counted and sampled;
    /// a datagram that holds nothing else is rejected.
    pub fn take(&mut self, datagram: &Datagram<'_>, to: &mut impl Consumer) {
        let Some(decoder) = self.decoders.get_mut(datagram.listener()) else {
            self.counts.records += 1;
            to.record(datagram, datagram.payload());
            return to.end(datagram, 1, 1);
        };
        let rejects = self.rejects.as_deref();
        let mut unit = Unit::new(datagram, to, &mut self.counts, rejects);
        let decoded = decoder.decode(datagram, &mut unit);
        unit.end(decoded);
    }

    /// Settles held datagrams whose time is over. Cheap while nothing is held.
    pub fn tick(&mut self, now: Instant, to: &mut impl Consumer) {
        if self.counts.held == 0 {
            return;
        }
        let mut between =
            Between { to, counts: &mut self.counts, rejects: self.rejects.as_deref() };
        for decoder in &mut self.decoders {
            if decoder.due_within(now).is_some_and(|within| within.is_zero()) {
                decoder.tick(now, &mut between);
            }
        }
    }

    /// Returns how soon [`tick`](Self::tick) is due, or `None` while nothing is held.
    #[must_use]
    pub fn due_within(&self, now: Instant) -> Option<Duration> {
        match self.counts.held {
            0 => None,
            _ => self.decoders.iter().filter_map(|decoder| decoder.due_within(now)).min(),
        }
    }

    /// Settles all held datagrams: no more will come.
    pub fn finish(&mut self, to: &mut impl Consumer) {
        let mut between =
            Between { to, counts: &mut self.counts, rejects: self.rejects.as_deref() };
        self.decoders.iter_mut().for_each(|decoder| decoder.stop(&mut between));
    }

    /// Returns the counters as a handler's outcome: `rejected`, the records, and held datagrams as
    /// `pending`. The sinks know the rest.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        Outcome {
            rejected: self.counts.datagrams_rejected,
            pending: self.counts.held,
            records: self.counts.records,
            records_rejected: self.counts.parts_rejected,
            ..Outcome::default()
        }
    }

    /// Returns how many parts were rejected, by reason, in the order the reasons first came up.
    #[must_use]
    pub fn rejected_by_reason(&self) -> &[(&'static str, u64)] {
        &self.counts.reasons
    }
}

/// One datagram on its way through a decoder.
struct Unit<'a, C> {
    datagram: &'a Datagram<'a>,
    to: &'a mut C,
    counts: &'a mut Counts,
    sample: Option<&'a Rejects>,
    records: u64,
    rejected: u64,
    /// Held datagrams that share its fate.
    joined: u64,
}

impl<'a, C: Consumer> Unit<'a, C> {
    fn new(
        datagram: &'a Datagram<'a>,
        to: &'a mut C,
        counts: &'a mut Counts,
        sample: Option<&'a Rejects>,
    ) -> Self {
        Self { datagram, to, counts, sample, records: 0, rejected: 0, joined: 0 }
    }

    fn end(self, decoded: Decoded) {
        let handed_over = self.records + self.rejected;
        debug_assert!(decoded == Decoded::Whole || handed_over == 0, "held, but not whole");
        self.counts.records += self.records;
        if decoded == Decoded::Held && handed_over == 0 {
            self.counts.held += 1 + self.joined;
            return;
        }
        let datagrams = 1 + self.joined;
        if self.rejected == 0 || self.records > 0 {
            self.to.end(self.datagram, self.records, datagrams);
        } else {
            self.counts.datagrams_rejected += datagrams;
        }
    }
}

impl<C: Consumer> Records for Unit<'_, C> {
    fn record(&mut self, record: &[u8]) {
        self.records += 1;
        self.to.record(self.datagram, record);
    }

    fn reject(&mut self, reject: Reject<'_>) {
        self.rejected += 1;
        self.counts.reject(1, reject.reason);
        if let Some(sample) = self.sample {
            sample.sample(self.datagram, &reject);
        }
    }

    fn join(&mut self, datagrams: u64) {
        self.joined += self.counts.settle(datagrams);
    }
}

impl<C: Consumer> Later for Unit<'_, C> {
    fn release(&mut self, held: &HeldDatagram, decode: &mut dyn FnMut(&mut dyn Records)) {
        debug_assert!(self.records == 0, "a sink has begun another datagram");
        Between { to: self.to, counts: self.counts, rejects: self.sample }.release(held, decode);
    }

    fn refuse(&mut self, held: &HeldDatagram, datagrams: u64, reason: &'static str) {
        Between { to: self.to, counts: self.counts, rejects: self.sample }
            .refuse(held, datagrams, reason);
    }
}

/// Takes the results for held datagrams.
struct Between<'a, C> {
    to: &'a mut C,
    counts: &'a mut Counts,
    rejects: Option<&'a Rejects>,
}

impl<C: Consumer> Later for Between<'_, C> {
    fn release(&mut self, held: &HeldDatagram, decode: &mut dyn FnMut(&mut dyn Records)) {
        if self.counts.settle(1) == 0 {
            return;
        }
        held.with(|datagram| {
            let mut unit = Unit::new(datagram, self.to, self.counts, self.rejects);
            decode(&mut unit);
            unit.end(Decoded::Whole);
        });
    }

    fn refuse(&mut self, held: &HeldDatagram, datagrams: u64, reason: &'static str) {
        let settled = self.counts.settle(datagrams);
        self.counts.datagrams_rejected += settled;
        self.counts.reject(settled, reason);
        if let Some(rejects) = self.rejects {
            held.with(|datagram| {
                rejects.sample(datagram, &Reject { bytes: datagram.payload(), reason });
            });
        }
    }
}
