//! The ledger table: one row per count of a run, with everything that is said about it.
//!
//! ```text
//!             ┌─► JSON (document)       key, value
//!  ROWS ──────┼─► summary, status line  label, unit, part of the ledger, advice
//!  (a row     ├─► metrics               metric, meaning
//!   a count)  └─► docs/ledger.md        key, unit, meaning
//! ```
//! A new count takes a counter in `counters.rs`, the place that counts it, a field of the summary, and a row here. The tests
//! below fail for a thread's counter that
//! changes no row, for one that is never counted, and for a table in docs/ledger.md that differs from `ROWS`.

use crate::count::row::{Help, Part, Row, RowUnit};

/// All counts, in the order of the ledger's tree and then of the summary.
pub const ROWS: &[Row] = &[
    Row {
        name: "arrived",
        label: "arrived at the sockets",
        meaning: "reached our sockets; `null` where that cannot be counted exactly",
        unit: RowUnit::Datagrams,
        key: Some("arrived"),
        metric: "ringest_arrived_total",
        part: Part::Passed(0),
        help: Help::None,
        get: |s| s.ledger.arrived,
    },
    Row {
        name: "kernel",
        label: "dropped: kernel",
        meaning: "dropped by the kernel at our sockets, in `kernel_unit`: the receive buffer was full",
        unit: RowUnit::Kernel,
        key: Some("dropped.kernel"),
        metric: r#"ringest_dropped_total{cause="kernel"}"#,
        part: Part::Dropped(1),
        help: Help::Buffers,
        get: |s| Some(s.ledger.dropped.kernel),
    },
    Row {
        name: "unread_at_stop",
        label: "unread_at_stop",
        meaning: "left in the sockets at the end: `--count` was reached, or the drain took longer than 5 s",
        unit: RowUnit::Datagrams,
        key: Some("unread_at_stop"),
        metric: "ringest_unread_at_stop_total",
        part: Part::Lost(1),
        help: Help::Loss(
            "They were still in the sockets when those were closed: more came in than could be \
             taken within the time a stop may take. Next: stop the senders first.",
        ),
        get: |s| Some(s.ledger.unread_at_stop),
    },
    Row {
        name: "received",
        label: "received",
        meaning: "taken from the sockets",
        unit: RowUnit::Datagrams,
        key: Some("received"),
        metric: "ringest_received_total",
        part: Part::Passed(1),
        help: Help::None,
        get: |s| Some(s.ledger.received),
    },
    Row {
        name: "denied",
        label: "dropped: denied",
        meaning: "dropped by an access list; there is none yet, so always 0",
        unit: RowUnit::Datagrams,
        key: Some("dropped.denied"),
        metric: r#"ringest_dropped_total{cause="denied"}"#,
        part: Part::Dropped(2),
        help: Help::Loss("An access list refused their peer."),
        get: |s| Some(s.ledger.dropped.denied),
    },
    Row {
        name: "rate_limited",
        label: "dropped: rate_limited",
        meaning: "dropped by a rate limit; there is none yet, so always 0",
        unit: RowUnit::Datagrams,
        key: Some("dropped.rate_limited"),
        metric: r#"ringest_dropped_total{cause="rate_limited"}"#,
        part: Part::Dropped(2),
        help: Help::Loss("Their peer sent more than it may."),
        get: |s| Some(s.ledger.dropped.rate_limited),
    },
    Row {
        name: "truncated",
        label: "dropped: truncated",
        meaning: "dropped because longer than a slot; slots hold the largest datagram, so this stays 0",
        unit: RowUnit::Datagrams,
        key: Some("dropped.truncated"),
        metric: r#"ringest_dropped_total{cause="truncated"}"#,
        part: Part::Dropped(2),
        help: Help::Loss(
            "They were longer than a slot or came with more control data than there is room for, \
             and half a datagram is not delivered as a whole one. Next: report how they were sent.",
        ),
        get: |s| Some(s.ledger.dropped.truncated),
    },
    Row {
        name: "pool_empty",
        label: "dropped: pool_empty",
        meaning: "dropped under `--overload drop`: no empty batch was left",
        unit: RowUnit::Datagrams,
        key: Some("dropped.pool_empty"),
        metric: r#"ringest_dropped_total{cause="pool_empty"}"#,
        part: Part::Dropped(2),
        help: Help::Loss(
            "All batches were in use, so --overload drop dropped what came. Next: a larger \
             --pool-bytes rides out longer bursts; more --workers or a faster handler is needed if \
             it lasts.",
        ),
        get: |s| Some(s.ledger.dropped.pool_empty),
    },
    Row {
        name: "queue_full",
        label: "dropped: queue_full",
        meaning: "dropped under `--overload drop`: the worker's queue was full",
        unit: RowUnit::Datagrams,
        key: Some("dropped.queue_full"),
        metric: r#"ringest_dropped_total{cause="queue_full"}"#,
        part: Part::Dropped(2),
        help: Help::Loss(
            "A worker's queue was full, so --overload drop dropped whole batches. Next: more \
             --workers, or --dispatch spread if a single peer sends it all.",
        ),
        get: |s| Some(s.ledger.dropped.queue_full),
    },
    Row {
        name: "queued",
        label: "queued",
        meaning: "on the way to a handler; 0 after a stop, unless a second signal abandoned them",
        unit: RowUnit::Datagrams,
        key: Some("queued"),
        metric: "ringest_queued",
        part: Part::Lost(2),
        help: Help::Loss(
            "They were received and abandoned on their way to the handler: the second signal stops \
             at once. Next: send one signal and wait.",
        ),
        get: |s| Some(s.ledger.queued),
    },
    Row {
        name: "handled",
        label: "handled",
        meaning: "given to the handler, which has returned",
        unit: RowUnit::Datagrams,
        key: Some("handled"),
        metric: "ringest_handled_total",
        part: Part::Passed(2),
        help: Help::None,
        get: |s| Some(s.ledger.handled),
    },
    Row {
        name: "rejected",
        label: "rejected",
        meaning: "refused by the handler or its decoder",
        unit: RowUnit::Datagrams,
        key: Some("rejected"),
        metric: "ringest_rejected_total",
        part: Part::Lost(3),
        help: Help::Loss("The handler refused them as malformed."),
        get: |s| Some(s.ledger.rejected),
    },
    Row {
        name: "undelivered",
        label: "undelivered",
        meaning: "given up by the sink, or not accepted before it was stopped",
        unit: RowUnit::Datagrams,
        key: Some("undelivered"),
        metric: "ringest_undelivered_total",
        part: Part::Lost(3),
        help: Help::Sink,
        get: |s| Some(s.ledger.undelivered),
    },
    Row {
        name: "pending",
        label: "pending",
        meaning: "accepted and not settled: in the journal, for the next start to send; after a second signal also those not written yet. In the JSON only where there are any",
        unit: RowUnit::Datagrams,
        key: Some("pending"),
        metric: "ringest_pending",
        part: Part::Held(3),
        help: Help::None,
        get: |s| Some(s.ledger.pending),
    },
    Row {
        name: "delivered",
        label: "delivered",
        meaning: "accepted by the sink",
        unit: RowUnit::Datagrams,
        key: Some("delivered"),
        metric: "ringest_delivered_total",
        part: Part::Passed(3),
        help: Help::None,
        get: |s| Some(s.ledger.delivered),
    },
    Row {
        name: "residual",
        label: "residual",
        meaning: "difference between the two sides of the equations above; anything but 0 is a bug in ringest",
        unit: RowUnit::Datagrams,
        key: Some("residual"),
        metric: "ringest_ledger_residual",
        part: Part::Check,
        help: Help::None,
        get: |s| Some(s.ledger.residual.unsigned_abs()),
    },
    Row {
        name: "received_bytes",
        label: "received_bytes",
        meaning: "payload of the datagrams received",
        unit: RowUnit::Bytes,
        key: Some("received_bytes"),
        metric: "ringest_received_bytes_total",
        part: Part::Beside,
        help: Help::None,
        get: |s| Some(s.ledger.received_bytes),
    },
    Row {
        name: "trains",
        label: "trains",
        meaning: "received frames that held two or more datagrams (UDP_GRO)",
        unit: RowUnit::Trains,
        key: Some("trains"),
        metric: "ringest_trains_total",
        part: Part::Beside,
        help: Help::None,
        get: |s| Some(s.trains),
    },
    Row {
        name: "records_found",
        label: "records found",
        meaning: "found in datagrams by a decoder; in the JSON only where one ran",
        unit: RowUnit::Records,
        key: Some("records.found"),
        metric: "ringest_records_found_total",
        part: Part::Beside,
        help: Help::None,
        get: |s| Some(s.records.found),
    },
    Row {
        name: "records_rejected",
        label: "records rejected",
        meaning: "parts of datagrams that were no record; in the JSON only where a decoder ran",
        unit: RowUnit::Records,
        key: Some("records.rejected"),
        metric: "ringest_records_rejected_total",
        part: Part::Beside,
        help: Help::None,
        get: |s| Some(s.records.rejected),
    },
    Row {
        name: "replies_sent",
        label: "replies sent",
        meaning: "taken by the kernel; whether they reached their peer is not known",
        unit: RowUnit::Replies,
        key: Some("replies.sent"),
        metric: "ringest_replies_sent_total",
        part: Part::Beside,
        help: Help::None,
        get: |s| Some(s.replies.sent),
    },
    Row {
        name: "send_timed_out",
        label: "replies timed out",
        meaning: "given up because the send buffer stayed full until the send deadline",
        unit: RowUnit::Replies,
        key: Some("replies.send_timed_out"),
        metric: "ringest_replies_timed_out_total",
        part: Part::Beside,
        help: Help::Loss(
            "The send buffer stayed full until the reply's deadline. Next: a faster link or fewer \
             answers; `ss -uamn` shows the buffer.",
        ),
        get: |s| Some(s.replies.send_timed_out),
    },
    Row {
        name: "failed",
        label: "replies failed",
        meaning: "refused by the kernel, or given up because no room was left for them",
        unit: RowUnit::Replies,
        key: Some("replies.failed"),
        metric: "ringest_replies_failed_total",
        part: Part::Beside,
        help: Help::Loss(
            "The kernel refused them (no route, a firewall), or there was no room for them. Next: \
             `ip route get PEER`, `nft list ruleset`.",
        ),
        get: |s| Some(s.replies.failed),
    },
    Row {
        name: "ring_exhausted",
        label: "ring_exhausted",
        meaning: "times the slots ran out; nothing is lost by that",
        unit: RowUnit::Times,
        key: Some("ring_exhausted"),
        metric: "ringest_ring_exhausted_total",
        part: Part::Beside,
        help: Help::Sign(
            "All slots were full; nothing is lost by that, the socket buffer holds what comes. \
             Next, if the kernel dropped too: more --slots.",
        ),
        get: |s| Some(s.ring_exhausted),
    },
    Row {
        name: "cq_overflow",
        label: "cq_overflow",
        meaning: "times the completion queue overflowed; nothing is lost by that",
        unit: RowUnit::Times,
        key: Some("cq_overflow"),
        metric: "ringest_cq_overflow_total",
        part: Part::Beside,
        help: Help::Sign(
            "The completion queue overflowed; nothing is lost by that, receiving was armed again.",
        ),
        get: |s| Some(s.cq_overflow),
    },
    Row {
        name: "rearmed",
        label: "rearmed",
        meaning: "times a receive was armed, the first time included",
        unit: RowUnit::Times,
        key: None,
        metric: "ringest_rearmed_total",
        part: Part::Beside,
        help: Help::None,
        get: |s| Some(s.rearmed),
    },
    Row {
        name: "socket_errors",
        label: "socket_errors",
        meaning: "errors that a socket reported and the receiver survived; nothing is lost by that",
        unit: RowUnit::Times,
        key: None,
        metric: "ringest_socket_errors_total",
        part: Part::Beside,
        help: Help::Sign(
            "A socket reported an error and receiving went on; nothing is lost by that. Next, if it \
             keeps growing: `ss -uamn` and the kernel's log.",
        ),
        get: |s| Some(s.socket_errors),
    },
];

/// Returns the rows of drops, in the order in which a datagram meets them.
pub fn drops() -> impl Iterator<Item = &'static Row> {
    ROWS.iter().filter(|row| row.is_drop())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::count::counters::{ReceiverCounts, WorkerCounts};
    use crate::count::ledger::Ended;
    use crate::count::ledger::Unit;
    use crate::count::summary::tests::summary_of;
    use std::fs;
    use std::path::{Path, PathBuf};

    /// Counters that are no row, because they are shown a thread at a time or only lead to others.
    const INTERNAL: [&str; 4] = ["last_received_ns", "sleeps", "cpu_ns", "batches"];
    /// Counters of features that do not exist yet: nothing counts them.
    const RESERVED: [&str; 2] = ["denied", "rate_limited"];

    /// Renders the table of docs/ledger.md.
    fn markdown() -> String {
        let mut text = "| JSON key | unit | counts | metric |\n|---|---|---|---|\n".to_owned();
        for row in ROWS {
            let key = row.key.map_or_else(|| format!("({})", row.name), |key| format!("`{key}`"));
            let unit = match row.unit {
                RowUnit::Kernel => "`kernel_unit`",
                unit => unit.word(Unit::Datagrams),
            };
            text += &format!("| {key} | {unit} | {} | `{}` |\n", row.meaning, row.metric);
        }
        text
    }

    fn values(receiver: ReceiverCounts, worker: WorkerCounts) -> Vec<Vec<Option<u64>>> {
        [None, Some(Ended::default())]
            .map(|ended| {
                // No worker has handled more than it took.
                let taken = worker.taken.max(worker.handled);
                let summary = summary_of(receiver, WorkerCounts { taken, ..worker }, ended);
                ROWS.iter().map(|row| (row.get)(&summary)).collect()
            })
            .into()
    }

    #[test]
    fn every_counter_of_a_thread_changes_a_row() {
        let none = values(ReceiverCounts::default(), WorkerCounts::default());
        let mut hidden = Vec::new();
        for (name, field) in ReceiverCounts::FIELDS {
            let mut counts = ReceiverCounts::default();
            *field(&mut counts) = 7;
            if values(counts, WorkerCounts::default()) == none {
                hidden.push(*name);
            }
        }
        for (name, field) in WorkerCounts::FIELDS {
            let mut counts = WorkerCounts::default();
            *field(&mut counts) = 7;
            if values(ReceiverCounts::default(), counts) == none && !hidden.contains(name) {
                hidden.push(*name);
            }
        }
        assert_eq!(hidden, INTERNAL, "a counter needs a row in ROWS, or a reason to have none");
    }

    /// All source files of this crate.
    fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                sources(&entry, found);
            } else if entry.extension().is_some_and(|extension| extension == "rs") {
                found.push(entry);
            }
        }
    }

    #[test]
    fn every_counter_of_a_thread_is_counted_and_read() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut files = Vec::new();
        sources(root, &mut files);
        let text = |inside: &[&str]| -> String {
            let wanted = files.iter().filter(|file| {
                let file = file.strip_prefix(root).unwrap();
                inside.iter().any(|folder| file.starts_with(folder))
            });
            wanted.map(|file| fs::read_to_string(file).unwrap()).collect()
        };
        let (counting, reading) = (text(&["receive", "send", "work"]), text(&["count", "control"]));
        let names = ReceiverCounts::FIELDS.iter().map(|(name, _)| *name);
        for name in names.chain(WorkerCounts::FIELDS.iter().map(|(name, _)| *name)) {
            let counted = [" += ", " -= ", " = "]
                .iter()
                .any(|operator| counting.contains(&format!(".{name}{operator}")));
            assert_eq!(counted, !RESERVED.contains(&name), "{name}: counted in the data path?");
            let word = format!(".{name}");
            let is_read = reading.match_indices(&word).any(|(at, _)| {
                let next = reading[at + word.len()..].chars().next();
                next.is_none_or(|c| !c.is_ascii_alphanumeric() && c != '_')
            });
            assert!(is_read, "{name} is never read by the ledger, the summary or the engine");
        }
    }

    #[test]
    fn names_keys_and_metrics_are_unique_and_well_formed() {
        let well_formed = |text: &str, more: &str| {
            text.chars().all(|c| c.is_ascii_lowercase() || c == '_' || more.contains(c))
        };
        for (index, row) in ROWS.iter().enumerate() {
            let earlier = &ROWS[..index];
            let is_new = |same: fn(&Row, &Row) -> bool| !earlier.iter().any(|one| same(one, row));
            assert!(is_new(|a, b| a.name == b.name), "{}", row.name);
            assert!(row.key.is_none() || is_new(|a, b| a.key == b.key), "{:?}", row.key);
            assert!(is_new(|a, b| a.metric == b.metric), "{}", row.metric);
            assert!(row.key.is_none_or(|key| well_formed(key, ".")), "{:?}", row.key);
            assert!(row.metric.starts_with("ringest_"), "{}", row.metric);
            assert!(well_formed(row.metric, "{=\"}"), "{}", row.metric);
            assert!(!row.meaning.is_empty() && !row.meaning.ends_with('.'), "{}", row.meaning);
            if let Help::Loss(text) | Help::Sign(text) = row.help {
                assert!(text.ends_with('.'), "{text}");
            }
        }
    }

    #[test]
    fn the_docs_show_the_same_table() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/ledger.md");
        let text = fs::read_to_string(&path).unwrap();
        let (begin, end) = ("<!-- table: begin -->\n", "<!-- table: end -->");
        let table = text.split_once(begin).and_then(|(_, rest)| rest.split_once(end));
        let (table, _) = table.expect("docs/ledger.md has the markers of the table");
        let wanted = markdown();
        assert!(
            table == wanted,
            "docs/ledger.md differs from ROWS. Put this between its markers:\n{wanted}"
        );
    }
}
