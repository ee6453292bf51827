//! `--json`: prints the summary as one object, `ringest::Document`.

use std::io::{self, Write};

use ringest::{Document, Summary};
use ringest_engine::count::document::{Destination, rounded};
use ringest_ship::fleet::ShipStats;
use serde::Serialize;

use crate::cli::failure::Failure;

fn document(summary: &Summary, shipped: &[ShipStats]) -> Document {
    let mut document = Document::new(summary);
    document.destinations = shipped.iter().map(destination).collect();
    document
}

fn destination(stats: &ShipStats) -> Destination {
    let ShipStats { name, counts, backlog } = stats;
    Destination {
        name: name.clone(),
        acknowledged: counts.acknowledged,
        dead_lettered: counts.dead_lettered,
        undelivered: counts.undelivered,
        resends: counts.resends,
        in_flight: counts.in_flight,
        backlog_records: backlog.records,
        backlog_bytes: backlog.bytes,
        oldest_age_s: stats.oldest_age().map(|age| rounded(age.as_secs_f64(), 3)),
        trouble: counts.trouble.clone(),
    }
}

/// Prints the summary as one line of JSON on stdout.
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

    /// The text is the contract, with the values of this summary.
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
