//! What a sink asks of a datagram: its records, by the format of the address it came to, with what is
//! none counted and sampled.

use std::sync::Arc;

use crate::decode::rejects::Rejects;
use crate::decode::{Decode, Decoder};
use ringest_engine::batch::arena::Datagram;
use ringest_engine::work::handler::Outcome;

/// How datagrams are decoded: what the workers' intakes are made from.
#[derive(Clone, Debug)]
pub struct Formats {
    /// By listen address; one that is not here is raw.
    by_listener: Vec<Decode>,
    rejects: Option<Arc<Rejects>>,
}

impl Formats {
    /// One format per listen address, in their order.
    #[must_use]
    pub fn new(by_listener: Vec<Decode>, rejects: Option<Arc<Rejects>>) -> Self {
        Self { by_listener, rejects }
    }

    /// Datagrams as they come.
    #[must_use]
    pub fn raw() -> Self {
        Self::new(Vec::new(), None)
    }

    /// Whether datagrams are taken apart at all.
    #[must_use]
    pub fn are_raw(&self) -> bool {
        self.by_listener.iter().all(|format| *format == Decode::Raw)
    }

    /// For one worker.
    #[must_use]
    pub fn intake(&self) -> DecodeStage {
        let decoders = self.by_listener.iter().map(|format| format.decoder()).collect();
        DecodeStage::new(decoders, self.rejects.clone())
    }
}

/// One worker's decoders, and what they found since the start.
#[derive(Debug)]
pub struct DecodeStage {
    decoders: Vec<Box<dyn Decoder>>,
    rejects: Option<Arc<Rejects>>,
    records: u64,
    records_rejected: u64,
    datagrams_rejected: u64,
}

impl DecodeStage {
    /// With decoders of any make, one per listen address.
    #[must_use]
    pub fn new(decoders: Vec<Box<dyn Decoder>>, rejects: Option<Arc<Rejects>>) -> Self {
        Self { decoders, rejects, records: 0, records_rejected: 0, datagrams_rejected: 0 }
    }

    /// Calls `each` for every record of a datagram, in order. Returns whether the datagram stands: a part
    /// of it that is no record is counted and sampled, and only one that holds nothing else is rejected
    /// as a whole.
    pub fn take<'a>(&mut self, datagram: &Datagram<'a>, mut each: impl FnMut(&'a [u8])) -> bool {
        let payload = datagram.payload();
        let Some(decoder) = self.decoders.get_mut(datagram.listener()) else {
            each(payload);
            self.records += 1;
            return true;
        };
        let (mut records, mut rejected) = (0, 0);
        let rejects = self.rejects.as_deref();
        decoder.decode(
            payload,
            &mut |record| {
                records += 1;
                each(record);
            },
            &mut |reject| {
                rejected += 1;
                if let Some(rejects) = rejects {
                    rejects.sample(datagram, &reject);
                }
            },
        );
        self.records += records;
        self.records_rejected += rejected;
        let stands = rejected == 0 || records > 0;
        self.datagrams_rejected += u64::from(!stands);
        stands
    }

    /// What was found so far, as a handler's outcome: the rest is the sink's to say.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        Outcome {
            rejected: self.datagrams_rejected,
            records: self.records,
            records_rejected: self.records_rejected,
            ..Outcome::default()
        }
    }
}
