//! Collects librdkafka's delivery reports and errors, without acting on them.

use std::sync::{Mutex, MutexGuard, PoisonError};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::ProducerContext;

/// The callback target of a producer: collects reports and errors until they are taken.
#[derive(Debug, Default)]
pub(crate) struct DeliveryEvents {
    received: Mutex<Received>,
}

/// The reports and errors since they were last taken.
#[derive(Debug, Default)]
pub(crate) struct Received {
    /// Ticket of each record, and its error if it failed.
    pub(crate) reports: Vec<(usize, Option<RDKafkaErrorCode>)>,
    /// Errors that belong to no record, oldest first.
    pub(crate) errors: Vec<(RDKafkaErrorCode, String)>,
    /// Number of callbacks so far, of any kind.
    pub(crate) events: u64,
}

impl Received {
    fn add_error(&mut self, code: RDKafkaErrorCode, reason: &str) {
        if self.errors.len() == ERRORS_MAX {
            self.errors.remove(0);
        }
        self.errors.push((code, reason.to_owned()));
    }
}

/// Errors that are kept until they are taken. The last ones say enough.
const ERRORS_MAX: usize = 16;

impl DeliveryEvents {
    /// Takes the collected events. Reuses the memory of `reused`.
    pub(crate) fn take(&self, reused: &mut Received) {
        reused.reports.clear();
        reused.errors.clear();
        let mut received = self.received();
        std::mem::swap(&mut *received, reused);
        received.events = reused.events;
    }

    pub(crate) fn count(&self) -> u64 {
        self.received().events
    }

    fn received(&self) -> MutexGuard<'_, Received> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for DeliveryEvents {
    /// Handles a log line. Everything important also arrives as an error, except a connection that fails
    /// without being refused.
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        let mut received = self.received();
        received.events += 1;
        let is_no_error = matches!(
            level,
            RDKafkaLogLevel::Warning | RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info
        );
        if facility == "FAIL" && is_no_error {
            // The prefix names one of librdkafka's threads.
            let text = text.split_once("]: ").map_or(text, |(_, text)| text);
            received.add_error(RDKafkaErrorCode::BrokerTransportFailure, text);
        }
    }

    /// Ignores statistics, which a user may have enabled, instead of parsing them.
    fn stats_raw(&self, _: &[u8]) {
        self.received().events += 1;
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let mut received = self.received();
        received.events += 1;
        let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
        received.add_error(code, reason);
    }
}

impl ProducerContext for DeliveryEvents {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, ticket: usize) {
        let failure = match result {
            Ok(_) => None,
            Err((error, _)) => Some(error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail)),
        };
        let mut received = self.received();
        received.events += 1;
        received.reports.push((ticket, failure));
    }
}
