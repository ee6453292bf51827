//! What librdkafka tells, as it is heard: nothing is decided here.

use std::sync::{Mutex, MutexGuard, PoisonError};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::ProducerContext;

/// Where a producer tells what becomes of records, and what troubles it.
#[derive(Debug, Default)]
pub(super) struct Ear {
    heard: Mutex<Heard>,
}

/// What was told since it was last asked.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// The ticket, and why it failed, if it did.
    pub(super) reports: Vec<(usize, Option<RDKafkaErrorCode>)>,
    /// Errors of no record in particular, oldest first.
    pub(super) errors: Vec<(RDKafkaErrorCode, String)>,
    /// How often anything was told, whatever it was.
    pub(super) events: u64,
}

/// Errors kept at most until they are asked for: the last ones say enough.
const ERRORS_MAX: usize = 16;

impl Ear {
    /// Takes what was told; the room of `reused` is used again.
    pub(super) fn take(&self, reused: &mut Heard) {
        reused.reports.clear();
        reused.errors.clear();
        let mut heard = self.heard();
        std::mem::swap(&mut *heard, reused);
        heard.events = reused.events;
    }

    pub(super) fn events(&self) -> u64 {
        self.heard().events
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Ear {
    /// What matters comes as an error, too.
    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {
        self.heard().events += 1;
    }

    /// Whoever sets `statistics.interval.ms` shall not pay for their being read.
    fn stats_raw(&self, _: &[u8]) {
        self.heard().events += 1;
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let mut heard = self.heard();
        heard.events += 1;
        let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
        if heard.errors.len() == ERRORS_MAX {
            heard.errors.remove(0);
        }
        heard.errors.push((code, reason.to_owned()));
    }
}

impl ProducerContext for Ear {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, ticket: usize) {
        let failure = match result {
            Ok(_) => None,
            Err((error, _)) => Some(error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail)),
        };
        let mut heard = self.heard();
        heard.events += 1;
        heard.reports.push((ticket, failure));
    }
}
