//! What librdkafka tells, as it is heard: nothing is decided here.

use std::sync::{Mutex, MutexGuard, PoisonError};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::ProducerContext;

/// Where a producer tells what becomes of records, and what troubles it.
#[derive(Debug, Default)]
pub(crate) struct DeliveryEvents {
    heard: Mutex<Heard>,
}

/// What was told since it was last asked.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    /// The ticket, and why it failed, if it did.
    pub(crate) reports: Vec<(usize, Option<RDKafkaErrorCode>)>,
    /// Errors of no record in particular, oldest first.
    pub(crate) errors: Vec<(RDKafkaErrorCode, String)>,
    /// How often anything was told, whatever it was.
    pub(crate) events: u64,
}

impl Heard {
    fn tell(&mut self, code: RDKafkaErrorCode, reason: &str) {
        if self.errors.len() == ERRORS_MAX {
            self.errors.remove(0);
        }
        self.errors.push((code, reason.to_owned()));
    }
}

/// Errors kept at most until they are asked for: the last ones say enough.
const ERRORS_MAX: usize = 16;

impl DeliveryEvents {
    /// Takes what was told; the room of `reused` is used again.
    pub(crate) fn take(&self, reused: &mut Heard) {
        reused.reports.clear();
        reused.errors.clear();
        let mut heard = self.heard();
        std::mem::swap(&mut *heard, reused);
        heard.events = reused.events;
    }

    pub(crate) fn events(&self) -> u64 {
        self.heard().events
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for DeliveryEvents {
    /// What matters comes as an error, too, but for this: a connection that fails without being refused.
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        let mut heard = self.heard();
        heard.events += 1;
        let is_no_error = matches!(
            level,
            RDKafkaLogLevel::Warning | RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info
        );
        if facility == "FAIL" && is_no_error {
            // Before it stands which of librdkafka's threads says so.
            let text = text.split_once("]: ").map_or(text, |(_, text)| text);
            heard.tell(RDKafkaErrorCode::BrokerTransportFailure, text);
        }
    }

    /// Whoever sets `statistics.interval.ms` shall not pay for their being read.
    fn stats_raw(&self, _: &[u8]) {
        self.heard().events += 1;
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let mut heard = self.heard();
        heard.events += 1;
        let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
        heard.tell(code, reason);
    }
}

impl ProducerContext for DeliveryEvents {
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
