//! The summary as a document that programs read: the object that `--json` prints. Its keys and their order
//! are a contract with scripts; `version` changes when a key changes its meaning or goes away.

use serde::{Deserialize, Serialize};

use crate::count::latency::Percentiles;
use crate::count::ledger::Dropped;
use crate::count::summary::{RecordSummary, ReplySummary, Summary};

/// The summary of a run. [`ROWS`](crate::count::rows::ROWS) says what each count means.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Document {
    /// Version of the keys; 1.
    pub version: u32,
    /// Name of the backend: `io_uring` or `recvmmsg`.
    pub backend: String,
    /// Reason for that backend.
    pub backend_reason: String,
    /// Length of the run, seconds.
    pub elapsed_s: f64,
    /// Datagrams that reached the sockets; `None` (`null`) where they cannot be counted exactly.
    pub arrived: Option<u64>,
    /// Datagrams taken from the sockets.
    pub received: u64,
    /// Payload of those, bytes.
    pub received_bytes: u64,
    /// Unit of `dropped.kernel`: `datagrams` or `buffers`.
    pub kernel_unit: String,
    /// Drops by cause.
    pub dropped: Dropped,
    /// Datagrams on the way to a handler.
    pub queued: u64,
    /// Datagrams given to a handler that returned.
    pub handled: u64,
    /// Datagrams that the handler refused.
    pub rejected: u64,
    /// Datagrams that the sink accepted.
    pub delivered: u64,
    /// Datagrams that the sink gave up.
    pub undelivered: u64,
    /// Datagrams left in the sockets at the end.
    pub unread_at_stop: u64,
    /// Difference between the two sides of the ledger's equations; 0 unless ringest has a bug.
    pub residual: i64,
    /// Times the slots ran out.
    pub ring_exhausted: u64,
    /// Times the completion queue overflowed.
    pub cq_overflow: u64,
    /// Replies by outcome.
    pub replies: ReplySummary,
    /// Frames that held two or more datagrams.
    pub trains: u64,
    /// Time from the socket to the handler, ns.
    pub queue_latency_ns: Percentiles,
    /// CPU time per datagram, ns.
    pub cpu_ns_per_datagram: Cpu,
    /// Resident memory of the process, bytes.
    pub rss_bytes: u64,
    /// One entry per receiver.
    pub receivers: Vec<Receiver>,
    /// One entry per worker.
    pub workers: Vec<Worker>,
    /// Records by outcome; `None` (absent) if no decoder found or rejected any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub records: Option<RecordSummary>,
    /// Datagrams in the sinks at the end; `None` (absent) if there were none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<u64>,
    /// One entry per broker; absent without brokers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub destinations: Vec<Destination>,
}

/// CPU time per datagram, ns; `None` (`null`) before the first datagram.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cpu {
    /// CPU time of all receivers, per datagram received.
    pub receivers: Option<f64>,
    /// CPU time of all workers, per datagram handled; `None` also where handlers run on the receivers.
    pub workers: Option<f64>,
}

/// One receiver's share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receiver {
    /// Core that the thread is pinned to.
    pub core: usize,
    /// Datagrams taken from its sockets.
    pub received: u64,
    /// Drops of the kernel at its sockets, in `kernel_unit`.
    pub dropped_kernel: u64,
    /// Receive buffer granted, bytes, the sum of its sockets.
    pub rcvbuf_bytes: usize,
}

/// One worker's share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Worker {
    /// Core that the thread is pinned to.
    pub core: usize,
    /// Datagrams handled.
    pub handled: u64,
}

/// One broker's stream or topic. Counts are records.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Destination {
    /// Name of the sink, as it was given.
    pub name: String,
    /// Records that the broker acknowledged.
    pub acknowledged: u64,
    /// Records put aside because the broker refuses them.
    pub dead_lettered: u64,
    /// Records given up.
    pub undelivered: u64,
    /// Records sent more than once.
    pub resends: u64,
    /// Records sent and not acknowledged yet.
    pub in_flight: u64,
    /// Records in the journal that the broker has not acknowledged.
    pub backlog_records: u64,
    /// Bytes of those.
    pub backlog_bytes: u64,
    /// Age of the oldest of those, seconds; `None` (`null`) if there are none.
    pub oldest_age_s: Option<f64>,
    /// Reason why nothing is sent at present; `None` (`null`) if there is none.
    pub trouble: Option<String>,
}

impl Document {
    /// Copies a summary. `destinations` stays empty: the engine knows no brokers.
    #[must_use]
    pub fn new(summary: &Summary) -> Self {
        let ledger = &summary.ledger;
        Self {
            version: 1,
            backend: summary.backend.to_string(),
            backend_reason: summary.backend_reason.clone(),
            elapsed_s: rounded(summary.elapsed.as_secs_f64(), 6),
            arrived: ledger.arrived,
            received: ledger.received,
            received_bytes: ledger.received_bytes,
            kernel_unit: ledger.kernel_unit.as_str().to_owned(),
            dropped: ledger.dropped,
            queued: ledger.queued,
            handled: ledger.handled,
            rejected: ledger.rejected,
            delivered: ledger.delivered,
            undelivered: ledger.undelivered,
            unread_at_stop: ledger.unread_at_stop,
            residual: ledger.residual,
            ring_exhausted: summary.ring_exhausted,
            cq_overflow: summary.cq_overflow,
            replies: summary.replies,
            trains: summary.trains,
            queue_latency_ns: summary.queue_latency_ns,
            cpu_ns_per_datagram: Cpu {
                receivers: summary.receiver_ns_per_datagram().map(|ns| rounded(ns, 1)),
                workers: summary.worker_ns_per_datagram().map(|ns| rounded(ns, 1)),
            },
            rss_bytes: summary.rss_bytes,
            receivers: summary
                .receivers
                .iter()
                .map(|receiver| Receiver {
                    core: receiver.core,
                    received: receiver.received,
                    dropped_kernel: receiver.dropped_kernel,
                    rcvbuf_bytes: receiver.rcvbuf_bytes,
                })
                .collect(),
            workers: summary
                .workers
                .iter()
                .map(|worker| Worker { core: worker.core, handled: worker.handled })
                .collect(),
            records: (summary.records != RecordSummary::default()).then_some(summary.records),
            pending: (ledger.pending > 0).then_some(ledger.pending),
            destinations: Vec::new(),
        }
    }
}

/// Rounds to `decimals` places. More would claim a precision that was not measured.
#[must_use]
pub fn rounded(value: f64, decimals: i32) -> f64 {
    let scale = 10f64.powi(decimals);
    (value * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::count::counters::{ReceiverCounts, WorkerCounts};
    use crate::count::ledger::Ended;
    use crate::count::rows::ROWS;
    use crate::count::summary::tests::summary_of;
    use serde_json::Value;

    /// A run in which every counter has a value of its own.
    fn summary() -> Summary {
        let (mut receiver, mut worker) = (ReceiverCounts::default(), WorkerCounts::default());
        for (number, (_, field)) in (1..).zip(ReceiverCounts::FIELDS) {
            *field(&mut receiver) = 1000 * number;
        }
        for (number, (_, field)) in (1..).zip(WorkerCounts::FIELDS) {
            *field(&mut worker) = 100_000 * number;
        }
        // Handled no more than taken, as in any run.
        worker.taken = worker.handled;
        summary_of(receiver, worker, Some(Ended::default()))
    }

    /// All counts in the object, by their paths.
    fn counts(value: &Value, path: &str, found: &mut Vec<(String, u64)>) {
        match value {
            Value::Object(object) => {
                for (key, value) in object {
                    let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                    counts(value, &path, found);
                }
            }
            Value::Number(number) => found.extend(number.as_u64().map(|n| (path.to_owned(), n))),
            _ => {}
        }
    }

    #[test]
    fn every_row_is_in_the_document_and_every_count_is_a_row() {
        let summary = summary();
        let mut found = Vec::new();
        counts(&serde_json::to_value(Document::new(&summary)).unwrap(), "", &mut found);
        let keyed = ROWS.iter().filter_map(|row| Some((row.key?, (row.get)(&summary)?)));
        for (key, value) in keyed.clone() {
            assert!(
                found.contains(&(key.to_owned(), value)),
                "{key} = {value} is not in {found:?}"
            );
        }
        for (path, _) in &found {
            let measured = path.starts_with("queue_latency_ns.") || path.starts_with("cpu_ns_");
            let known = ["version", "rss_bytes"].contains(&path.as_str()) || measured;
            assert!(known || keyed.clone().any(|(key, _)| key == path), "{path} is no row");
        }
    }

    #[test]
    fn a_document_is_read_back_as_it_was_written() {
        let mut document = Document::new(&summary());
        for destinations in [0, 1] {
            document.destinations.resize(
                destinations,
                Destination {
                    name: "nats:127.0.0.1:4222/LOGS/logs".to_owned(),
                    acknowledged: 1,
                    dead_lettered: 2,
                    undelivered: 3,
                    resends: 4,
                    in_flight: 5,
                    backlog_records: 6,
                    backlog_bytes: 7,
                    oldest_age_s: Some(0.5),
                    trouble: None,
                },
            );
            let text = serde_json::to_string(&document).unwrap();
            assert_eq!(serde_json::from_str::<Document>(&text).unwrap(), document, "{text}");
        }
    }
}
