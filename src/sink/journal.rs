//! The journal as a sink: what is delivered is on disk.

use std::time::Instant;

use crate::datapath::batch::Batch;
use crate::datapath::reply::Replies;
use crate::datapath::worker::{Handler, Outcome};
use crate::decode::intake::Intake;
use crate::journal::format::Record;
use crate::journal::open::Pen;

/// Writes one worker's records.
#[derive(Debug)]
pub struct JournalHandler {
    intake: Intake,
    pen: Pen,
}

impl JournalHandler {
    /// With one worker's decoders and its end of the journal. The engine should be given an
    /// [idle tick](crate::Builder::idle_tick) of the commit interval.
    #[must_use]
    pub fn new(intake: Intake, pen: Pen) -> Self {
        Self { intake, pen }
    }
}

impl Handler for JournalHandler {
    fn handle(&mut self, batch: &Batch, _: &mut Replies) {
        let now = Instant::now();
        for datagram in batch {
            let pen = &mut self.pen;
            let stands = self.intake.take(&datagram, |payload| {
                let record = Record {
                    received_unix_ns: datagram.unix_time_ns(),
                    peer: datagram.peer(),
                    listener: u16::try_from(datagram.listener()).unwrap_or(u16::MAX),
                    payload,
                };
                pen.push(&record, now);
            });
            if stands {
                pen.end_datagram(now);
            }
        }
        self.pen.pump(now);
    }

    fn outcome(&self, _: u64) -> Outcome {
        let counts = self.pen.counts();
        Outcome {
            delivered: counts.committed,
            undelivered: counts.undelivered,
            pending: counts.pending,
            ..self.intake.outcome()
        }
    }

    fn on_idle(&mut self) {
        self.pen.pump(Instant::now());
    }

    fn finish(&mut self) {
        self.pen.finish(Instant::now());
    }
}
