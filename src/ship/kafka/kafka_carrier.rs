//! A carrier for Apache Kafka, on librdkafka's idempotent producer.
//!
//! ```text
//!  submit ─► producer (batches, retries in order, for ever) ─► brokers
//!  poll  ◄── reports ◄──────────── acks=all ◄──────────────────┘
//! ```
//! An unreachable broker is not an error: librdkafka keeps the records in order, and sends them when the
//! broker is back. A final failure stops the producer (`enable.gapless.guarantee`), so that no record
//! overtakes it; the shipper then resets and sends again.
//!
//! A broker refuses a batch as a whole. To find the record at fault, the records of the batch are sent once
//! more, one at a time ([`Careful`]); a record refused then is refused for good.
//!
//! Without idempotence (some brokers do not support it) a refused batch does not stop the batches behind
//! it, and is sent again after them. No record is lost, but the order of a peer is not kept.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use crate::carrier::{Carrier, Message, MessageId, Submitted, Verdict};
use crate::kafka::causes;
use crate::kafka::delivery_events::{DeliveryEvents, Received};
use crate::kafka::properties;
use crate::kafka::spec::{KafkaSpec, Refused};
use ringest_base::text::rfc3339::Rfc3339;

/// Pause between two polls of librdkafka. Longer: verdicts are late. Shorter: more polls. rdkafka's own
/// `poll` with a timeout is not used: it waits to its end whatever arrives, and spins through the last
/// millisecond.
const POLL_PAUSE: Duration = Duration::from_millis(1);

/// Pause between two polls after [`QUIET`] without a report.
const POLL_PAUSE_QUIET: Duration = Duration::from_millis(5);

/// Time without a report after which polls become less frequent.
const QUIET: Duration = Duration::from_secs(1);

/// Time without any acknowledgement, while records are under way, after which trouble is reported.
const STALLED: Duration = Duration::from_secs(10);

/// How long to wait for delivery reports after a producer stopped. Unreported records are sent again.
const REPORT_TIMEOUT: Duration = Duration::from_secs(1);

/// Events handled in one poll at most, so that a poll ends.
const EVENTS_MAX: u32 = 10_000;

/// Smallest batch size, bytes, to which batches shrink when a broker refuses larger ones.
const BATCH_BYTES_MIN: usize = 4 << 10;

/// Records sent one at a time at most, even if a suspect was not among them: the journal may have removed
/// it.
const CAREFUL_MAX: usize = 100_000;

/// A carrier that writes records to one topic.
pub struct Kafka {
    config: ClientConfig,
    topic: String,
    /// `None` until the next record, for which a new producer is created.
    producer: Option<BaseProducer<DeliveryEvents>>,
    under_way: BTreeMap<u64, MessageId>,
    /// Ticket of the first record to be sent again, and the reason; reported in the next poll.
    failed: Option<(u64, String)>,
    /// Whether that was reported. Nothing is taken until the reset.
    stopped: bool,
    /// When the producer failed for good, and why.
    fatal: Option<(Instant, String)>,
    /// Records of refused batches, one of which is at fault.
    suspects: HashSet<MessageId>,
    careful: Option<Careful>,
    /// Whether the last refusal was about size.
    too_large: bool,
    batch_bytes: usize,
    trouble: Option<String>,
    /// Whether the last report was an acknowledgement.
    works: bool,
    last_report: Instant,
    last_acknowledged: Instant,
    received: Received,
}

/// Returns a carrier for the topic of `spec`. It does not wait for a connection.
///
/// # Errors
/// A property is unknown, may not be set, or contradicts another; or a file that it names cannot be read.
pub fn carrier(spec: &KafkaSpec) -> Result<Box<dyn Carrier>, Refused> {
    Ok(Box::new(Kafka::new(spec)?))
}

/// The state while records are sent one at a time to find the refused one.
#[derive(Debug)]
struct Careful {
    /// Records that may still be sent one at a time.
    left: usize,
    /// Whether a record was refused when sent alone.
    found: bool,
}

impl fmt::Debug for Kafka {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Kafka")
            .field("topic", &self.topic)
            .field("under_way", &self.under_way.len())
            .field("stopped", &self.stopped)
            .field("suspects", &self.suspects.len())
            .field("careful", &self.careful)
            .field("batch_bytes", &self.batch_bytes)
            .field("trouble", &self.trouble)
            .finish_non_exhaustive()
    }
}

impl Kafka {
    /// Creates a carrier for a topic. It does not wait for a connection.
    ///
    /// # Errors
    /// A property is unknown, may not be set, or contradicts another; or a file that it names cannot be
    /// read.
    pub fn new(spec: &KafkaSpec) -> Result<Self, Refused> {
        let config = properties::config(spec)?;
        let batch_bytes = properties::effective(&config, "batch.size");
        let now = Instant::now();
        let mut kafka = Self {
            config,
            topic: spec.topic.clone(),
            producer: None,
            under_way: BTreeMap::new(),
            failed: None,
            stopped: false,
            fatal: None,
            suspects: HashSet::new(),
            careful: None,
            too_large: false,
            batch_bytes: batch_bytes.and_then(|text| text.parse().ok()).unwrap_or(1_000_000),
            trouble: None,
            works: false,
            last_report: now,
            last_acknowledged: now,
            received: Received::default(),
        };
        kafka.start().map_err(Refused::because)?;
        Ok(kafka)
    }

    fn start(&mut self) -> Result<(), String> {
        let mut config = self.config.clone();
        if self.careful.is_some() {
            // With one record at a time, order needs no guarantee, and a refused record stops nothing.
            config.set("linger.ms", "0").set("enable.gapless.guarantee", "false");
        } else {
            config.set("batch.size", self.batch_bytes.to_string());
        }
        match config.create_with_context(DeliveryEvents::default()) {
            Ok(producer) => self.producer = Some(producer),
            Err(error) => {
                let reason = format!(
                    "no Kafka client can be had: {}",
                    causes::printable(&error.to_string())
                );
                return Err(reason);
            }
        }
        Ok(())
    }

    /// Handles all events that librdkafka has.
    fn drain_events(&mut self, verdicts: &mut Vec<(u64, Verdict)>) {
        let Some(producer) = &self.producer else { return };
        let events = producer.context();
        let before = events.count();
        // With a timeout of 0, librdkafka handles one event a call.
        let mut seen = events.count();
        for _ in 0..EVENTS_MAX {
            producer.poll(Duration::ZERO);
            let now = events.count();
            if now == seen {
                break;
            }
            seen = now;
        }
        if seen == before {
            return;
        }
        let mut received = std::mem::take(&mut self.received);
        events.take(&mut received);
        for (code, reason) in &received.errors {
            self.note_error(*code, reason);
        }
        for (ticket, failure) in &received.reports {
            self.reported(*ticket as u64, *failure, verdicts);
        }
        self.received = received;
    }

    /// Notes an error that belongs to no record.
    fn note_error(&mut self, code: Code, reason: &str) {
        if code == Code::Fatal {
            self.note_fatal();
        } else if code != Code::AllBrokersDown || self.trouble.is_none() {
            // "All brokers down" follows the error that caused it, which says more.
            self.trouble = Some(causes::of_client(code, reason, &self.topic));
        }
    }

    /// Notes whether the producer has failed for good, and why.
    fn note_fatal(&mut self) {
        let cause = self.producer.as_ref().and_then(|producer| producer.client().fatal_error());
        if let (Some((code, reason)), None) = (cause, &self.fatal) {
            self.fatal = Some((Instant::now(), causes::of_client(code, &reason, &self.topic)));
        }
    }

    /// Handles the delivery report of a record.
    fn reported(&mut self, ticket: u64, failure: Option<Code>, verdicts: &mut Vec<(u64, Verdict)>) {
        let Some(id) = self.under_way.remove(&ticket) else { return };
        self.last_report = Instant::now();
        let Some(code) = failure else {
            self.last_acknowledged = self.last_report;
            self.works = true;
            self.trouble = None;
            verdicts.push((ticket, Verdict::Acknowledged));
            return self.note_sent_alone(id, false);
        };
        let reason = causes::of_record(code, &self.topic);
        if causes::is_refusal(code) {
            self.too_large = causes::is_size(code);
            if self.careful.is_some() {
                verdicts.push((ticket, Verdict::Rejected(reason)));
                return self.note_sent_alone(id, true);
            }
            self.suspects.insert(id);
            let reason = format!("a batch was refused, its records are sent one by one: {reason}");
            return self.fail(ticket, reason, true);
        }
        self.note_fatal();
        // The error of a purged record does not say why it was purged.
        let of_all = self.fatal.as_ref().map(|(_, reason)| reason.clone());
        let is_cause = !matches!(code, Code::PurgeQueue | Code::PurgeInflight | Code::Fatal);
        self.fail(ticket, of_all.filter(|_| !is_cause).unwrap_or(reason), is_cause);
    }

    /// Notes that a record, and everything behind it, must be sent again. Nothing is taken until then.
    fn fail(&mut self, ticket: u64, reason: String, is_cause: bool) {
        match &mut self.failed {
            Some((first, told)) => {
                *first = ticket.min(*first);
                if is_cause && self.suspects.is_empty() {
                    told.clone_from(&reason);
                }
            }
            None => self.failed = Some((ticket, reason)),
        }
    }

    /// Reports that records must be sent again, once it is known from which on.
    fn report_failure(&mut self, verdicts: &mut Vec<(u64, Verdict)>) {
        if self.stopped {
            return;
        }
        if self.failed.is_some() {
            self.note_fatal();
        }
        if let Some((since, reason)) = &self.fatal {
            // A stopped producer still reports on its records. Waiting a moment for that means fewer are
            // sent again, and refused ones are known.
            if !self.under_way.is_empty() && since.elapsed() < REPORT_TIMEOUT {
                return;
            }
            if let (None, Some((&first, _))) = (&self.failed, self.under_way.first_key_value()) {
                self.failed = Some((first, reason.clone()));
            }
        }
        if let Some((failed, reason)) = self.failed.take() {
            let first =
                self.under_way.first_key_value().map_or(failed, |(first, _)| failed.min(*first));
            let verdict = self.resend_verdict(reason);
            verdicts.push((first, verdict));
        }
    }

    /// Returns the verdict for records that must be sent again.
    fn resend_verdict(&mut self, reason: String) -> Verdict {
        self.stopped = true;
        self.works = false;
        self.trouble = Some(reason.clone());
        Verdict::Again(reason)
    }

    /// Notes that a record was sent alone, if the carrier is in that mode. Returns to batches once all
    /// suspects were sent.
    fn note_sent_alone(&mut self, id: MessageId, refused: bool) {
        let Some(careful) = &mut self.careful else { return };
        careful.left -= 1;
        careful.found |= refused;
        self.suspects.remove(&id);
        if !self.suspects.is_empty() && careful.left > 0 {
            return;
        }
        if self.too_large && !careful.found {
            // No single record was too large, so the batch was.
            self.batch_bytes = (self.batch_bytes / 2).max(BATCH_BYTES_MIN);
        }
        self.suspects.clear();
        self.careful = None;
        // Nothing is under way: the reported record was alone.
        self.producer = None;
    }

    /// Returns the answer after the producer failed for good, or `None`. Records under way are reported
    /// first.
    fn fatal_answer(&mut self) -> Option<Submitted> {
        let (_, reason) = self.fatal.as_ref()?;
        if !self.under_way.is_empty() {
            return Some(Submitted::Full);
        }
        let reason = reason.clone();
        Some(Submitted::Refused(self.resend_verdict(reason)))
    }

    /// Returns the answer after librdkafka did not take a record.
    fn not_taken(&mut self, code: Code) -> Submitted {
        match code {
            Code::QueueFull => Submitted::Full,
            // Larger than message.max.bytes, a limit of the client: no broker was asked.
            Code::MessageSizeTooLarge => Submitted::Refused(Verdict::Rejected(
                "it is larger than message.max.bytes in --kafka-config".to_owned(),
            )),
            code => {
                self.note_fatal();
                self.fatal_answer().unwrap_or_else(|| {
                    let reason = causes::of_record(code, &self.topic);
                    Submitted::Refused(self.resend_verdict(reason))
                })
            }
        }
    }
}

impl Carrier for Kafka {
    fn submit(&mut self, message: &Message<'_>) -> Submitted {
        let waits = self.careful.is_some() && !self.under_way.is_empty();
        if self.stopped || self.failed.is_some() || waits {
            return Submitted::Full;
        }
        if let Some(answer) = self.fatal_answer() {
            return answer;
        }
        if self.producer.is_none()
            && let Err(reason) = self.start()
        {
            return Submitted::Refused(self.resend_verdict(reason));
        }
        let (Some(producer), Ok(ticket)) = (&self.producer, usize::try_from(message.ticket)) else {
            return Submitted::Full;
        };
        let (id, time) = (message.id.to_string(), Rfc3339(message.received_unix_ns).to_string());
        let (key, listener) = (message.peer.to_string(), message.listener.to_string());
        let headers =
            [("ringest-id", &id), ("ringest-time", &time), ("ringest-listener", &listener)]
                .into_iter()
                .fold(OwnedHeaders::new_with_capacity(3), |headers, (key, value)| {
                    headers.insert(Header { key, value: Some(value) })
                });
        let received_unix_ms =
            i64::try_from(message.received_unix_ns / 1_000_000).unwrap_or(i64::MAX);
        let record = BaseRecord::with_opaque_to(&self.topic, ticket)
            .key(&key)
            .payload(message.payload)
            .timestamp(received_unix_ms)
            .headers(headers);
        let refused = producer.send(record).err().map(|(error, _)| error.rdkafka_error_code());
        if let Some(code) = refused {
            return self.not_taken(code.unwrap_or(Code::Fail));
        }
        if self.under_way.is_empty() {
            self.last_acknowledged = Instant::now();
        }
        self.under_way.insert(message.ticket, message.id);
        Submitted::Taken
    }

    fn poll(&mut self, bound: Duration, verdicts: &mut Vec<(u64, Verdict)>) {
        let until = Instant::now() + bound;
        let before = verdicts.len();
        self.drain_events(verdicts);
        while verdicts.len() == before {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || self.producer.is_none() {
                break;
            }
            let quiet = self.last_report.elapsed() > QUIET;
            std::thread::sleep(left.min(if quiet { POLL_PAUSE_QUIET } else { POLL_PAUSE }));
            self.drain_events(verdicts);
        }
        self.report_failure(verdicts);
    }

    fn reset(&mut self) {
        // Dropping the producer purges its records, so that none is sent any more.
        self.producer = None;
        self.under_way.clear();
        self.stopped = false;
        self.failed = None;
        self.fatal = None;
        if self.careful.is_none() && !self.suspects.is_empty() {
            self.careful = Some(Careful { left: CAREFUL_MAX, found: false });
        }
    }

    fn trouble(&self) -> Option<String> {
        if self.works && self.under_way.is_empty() {
            // A broker may close an idle connection, which is no trouble.
            return None;
        }
        let stalled = || {
            (!self.under_way.is_empty() && self.last_acknowledged.elapsed() > STALLED).then(|| {
                "no broker has acknowledged anything for a while, and none says why; see \
                 security.protocol in --kafka-config"
                    .to_owned()
            })
        };
        self.trouble.clone().or_else(stalled)
    }
}
