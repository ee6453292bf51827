//! `--json`: the summary as one object. Its keys and their order are a contract with scripts;
//! `version` changes when a key changes its meaning or goes away.

use std::io::{self, Write};

use ringest::Summary;
use ringest_ship::fleet::ShipStats;
use serde::Serialize;

use crate::cli::failure::Failure;

#[derive(Serialize)]
struct Document<'a> {
    version: u32,
    backend: &'a str,
    backend_reason: &'a str,
    elapsed_s: f64,
    arrived: Option<u64>,
    received: u64,
    received_bytes: u64,
    kernel_unit: &'a str,
    dropped: Dropped,
    queued: u64,
    handled: u64,
    rejected: u64,
    delivered: u64,
    undelivered: u64,
    unread_at_stop: u64,
    residual: i64,
    ring_exhausted: u64,
    cq_overflow: u64,
    replies: Replies,
    trains: u64,
    queue_latency_ns: Latency,
    cpu_ns_per_datagram: Cpu,
    rss_bytes: u64,
    receivers: Vec<Receiver>,
    workers: Vec<Worker>,
    /// Only where datagrams were decoded.
    #[serde(skip_serializing_if = "Option::is_none")]
    records: Option<Records>,
    /// In the sinks when it ended; only where something is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pending: Option<u64>,
    /// Only where there are brokers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    destinations: Vec<Destination<'a>>,
}

/// One broker's stream or topic. Counts are of records.
#[derive(Serialize)]
struct Destination<'a> {
    name: &'a str,
    acknowledged: u64,
    dead_lettered: u64,
    undelivered: u64,
    resends: u64,
    in_flight: u64,
    backlog_records: u64,
    backlog_bytes: u64,
    /// `null` without a backlog.
    oldest_age_s: Option<f64>,
    trouble: Option<&'a str>,
}

fn destination(stats: &ShipStats) -> Destination<'_> {
    let ShipStats { name, counts, backlog } = stats;
    Destination {
        name,
        acknowledged: counts.acknowledged,
        dead_lettered: counts.dead_lettered,
        undelivered: counts.undelivered,
        resends: counts.resends,
        in_flight: counts.in_flight,
        backlog_records: backlog.records,
        backlog_bytes: backlog.bytes,
        oldest_age_s: stats.oldest_age().map(|age| rounded(age.as_secs_f64(), 3)),
        trouble: counts.trouble.as_deref(),
    }
}

#[derive(Serialize)]
struct Records {
    found: u64,
    rejected: u64,
}

#[derive(Serialize)]
struct Dropped {
    kernel: u64,
    denied: u64,
    rate_limited: u64,
    truncated: u64,
    pool_empty: u64,
    queue_full: u64,
}

#[derive(Serialize)]
struct Replies {
    sent: u64,
    send_timed_out: u64,
    failed: u64,
}

#[derive(Serialize)]
struct Latency {
    p50: u64,
    p90: u64,
    p99: u64,
    p999: u64,
    max: u64,
}

/// `null` before the first datagram.
#[derive(Serialize)]
struct Cpu {
    receivers: Option<f64>,
    workers: Option<f64>,
}

#[derive(Serialize)]
struct Receiver {
    core: usize,
    received: u64,
    dropped_kernel: u64,
    rcvbuf_bytes: usize,
}

#[derive(Serialize)]
struct Worker {
    core: usize,
    handled: u64,
}

/// More decimals would claim a precision nobody measured.
fn rounded(value: f64, decimals: i32) -> f64 {
    let scale = 10f64.powi(decimals);
    (value * scale).round() / scale
}

fn document<'a>(summary: &'a Summary, shipped: &'a [ShipStats]) -> Document<'a> {
    let ledger = &summary.ledger;
    let latency = &summary.queue_latency_ns;
    let (dropped, records) = (&ledger.dropped, &summary.records);
    Document {
        version: 1,
        backend: summary.backend,
        backend_reason: &summary.backend_reason,
        elapsed_s: rounded(summary.elapsed.as_secs_f64(), 6),
        arrived: ledger.arrived,
        received: ledger.received,
        received_bytes: ledger.received_bytes,
        kernel_unit: ledger.kernel_unit.as_str(),
        dropped: Dropped {
            kernel: dropped.kernel,
            denied: dropped.denied,
            rate_limited: dropped.rate_limited,
            truncated: dropped.truncated,
            pool_empty: dropped.pool_empty,
            queue_full: dropped.queue_full,
        },
        queued: ledger.queued,
        handled: ledger.handled,
        rejected: ledger.rejected,
        delivered: ledger.delivered,
        undelivered: ledger.undelivered,
        unread_at_stop: ledger.unread_at_stop,
        residual: ledger.residual,
        ring_exhausted: summary.ring_exhausted,
        cq_overflow: summary.cq_overflow,
        replies: Replies {
            sent: summary.replies.sent,
            send_timed_out: summary.replies.send_timed_out,
            failed: summary.replies.failed,
        },
        trains: summary.trains,
        queue_latency_ns: Latency {
            p50: latency.p50,
            p90: latency.p90,
            p99: latency.p99,
            p999: latency.p999,
            max: latency.max,
        },
        cpu_ns_per_datagram: Cpu {
            receivers: summary.receiver_ns_per_datagram().map(|ns| rounded(ns, 1)),
            workers: summary.worker_ns_per_datagram().map(|ns| rounded(ns, 1)),
        },
        rss_bytes: summary.rss_bytes,
        receivers: summary.receivers.iter().map(receiver).collect(),
        workers: summary
            .workers
            .iter()
            .map(|worker| Worker { core: worker.core, handled: worker.handled })
            .collect(),
        records: (records.found + records.rejected > 0)
            .then_some(Records { found: records.found, rejected: records.rejected }),
        pending: (ledger.pending > 0).then_some(ledger.pending),
        destinations: shipped.iter().map(destination).collect(),
    }
}

fn receiver(receiver: &ringest_engine::count::summary::ReceiverSummary) -> Receiver {
    Receiver {
        core: receiver.core,
        received: receiver.received,
        dropped_kernel: receiver.dropped_kernel,
        rcvbuf_bytes: receiver.rcvbuf_bytes,
    }
}

/// Prints the object and a line end on stdout.
pub(crate) fn print(summary: &Summary, shipped: &[ShipStats]) -> Result<(), Failure> {
    print_line(&document(summary, shipped))
}

/// Prints `value` as one line of JSON on stdout.
pub(crate) fn print_line(value: &impl Serialize) -> Result<(), Failure> {
    let mut line = serde_json::to_vec(value).map_err(|error| Failure::stdout(&error.into()))?;
    line.push(b'\n');
    let mut stdout = io::stdout().lock();
    stdout.write_all(&line).and_then(|()| stdout.flush()).map_err(|error| Failure::stdout(&error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::show::table::tests::summary;

    /// The contract, word for word, with this summary's values.
    #[test]
    fn keys_and_their_order_are_the_contract() {
        let text = serde_json::to_string(&document(&summary(), &[])).unwrap();
        assert_eq!(
            text,
            concat!(
                r#"{"version":1,"backend":"io_uring","backend_reason":"probe passed","#,
                r#""elapsed_s":2.0,"arrived":110,"received":100,"received_bytes":6400,"#,
                r#""kernel_unit":"datagrams","dropped":{"kernel":3,"denied":0,"rate_limited":0,"#,
                r#""truncated":1,"pool_empty":4,"queue_full":5},"queued":0,"handled":90,"#,
                r#""rejected":2,"delivered":80,"undelivered":8,"unread_at_stop":7,"residual":0,"#,
                r#""ring_exhausted":0,"cq_overflow":0,"#,
                r#""replies":{"sent":0,"send_timed_out":0,"failed":0},"trains":2,"#,
                r#""queue_latency_ns":{"p50":10000,"p90":20000,"p99":30000,"p999":40000,"#,
                r#""max":50000},"cpu_ns_per_datagram":{"receivers":500.0,"workers":20.0},"#,
                r#""rss_bytes":1048576,"receivers":[{"core":0,"received":100,"#,
                r#""dropped_kernel":3,"rcvbuf_bytes":8388608}],"#,
                r#""workers":[{"core":1,"handled":90}]}"#,
            )
        );
    }

    #[test]
    fn what_is_not_known_is_null() {
        let mut summary = summary();
        summary.ledger.arrived = None;
        summary.ledger.received = 0;
        summary.ledger.handled = 0;
        let value = serde_json::to_value(document(&summary, &[])).unwrap();
        assert!(value["arrived"].is_null());
        assert!(value["cpu_ns_per_datagram"]["receivers"].is_null());
        assert!(value["cpu_ns_per_datagram"]["workers"].is_null());
    }
}
