//! The summary at the end of a run, as text.

use ringest::{BackendKind, ROWS, Summary, Unit};
use ringest_engine::count::row::Part;
use ringest_engine::count::summary::RecordSummary;

use crate::cli::show::advice::{Advice, advise};
use crate::cli::show::paint;
use crate::cli::show::paint::{Paint, count};

/// Width of the ledger's names, their indent included.
const NAME_WIDTH: usize = 30;
/// Width of the ledger's figures.
const FIGURE_WIDTH: usize = 16;

/// Renders the summary. `unwritten` is the number of pending datagrams that are not on disk yet; `undelivered` is the
/// text for datagrams that the sink gave up.
pub(crate) fn render(
    (title, reason): (&str, &str),
    summary: &Summary,
    unwritten: u64,
    undelivered: &str,
    paint: Paint,
) -> String {
    let mut text = format!(
        "\n{}  {:.2} s, {reason}\n\n",
        paint.bold(&format!("ringest {title}")),
        summary.elapsed.as_secs_f64()
    );
    text += &headline(summary, paint);
    text += &facts(summary);
    text += &ledger(summary, unwritten, paint);
    text += &losses(summary, undelivered, paint);
    text += &threads(summary, paint);
    text
}

fn fact(name: &str, value: &str) -> String {
    let wrapped = paint::paragraph(value, 16);
    format!("  {name:<14}{}\n", wrapped.trim())
}

fn headline(summary: &Summary, paint: Paint) -> String {
    let ledger = &summary.ledger;
    let seconds = summary.elapsed.as_secs_f64().max(1e-9);
    let mut value = format!(
        "{} datagrams   {}/s   {:.1} Mbit/s   {}",
        count(ledger.received),
        paint::whole(ledger.received as f64 / seconds),
        ledger.received_bytes as f64 * 8.0 / 1e6 / seconds,
        paint::bytes(ledger.received_bytes),
    );
    if summary.trains > 0 {
        value += &format!("   {} trains", count(summary.trains));
    }
    format!("  {:<14}{}\n", "received", paint.bold(&value))
}

fn facts(summary: &Summary) -> String {
    let latency = &summary.queue_latency_ns;
    let mut text = String::new();
    let RecordSummary { found, rejected } = summary.records;
    if found + rejected > 0 {
        let value = format!("{} found, {} rejected", count(found), count(rejected));
        text += &fact("records", &value);
    }
    if summary.ledger.handled > 0 {
        let [p50, p90, p99, p999, max] =
            [latency.p50, latency.p90, latency.p99, latency.p999, latency.max].map(paint::nanos);
        text += &format!(
            "  {:<14}p50 {p50}   p90 {p90}   p99 {p99}   p99.9 {p999}   max {max}\n",
            "queue latency"
        );
        text += &fact(
            "CPU/datagram",
            &format!(
                "receivers {}, workers {}",
                paint::cost_or_none(summary.receiver_ns_per_datagram()),
                paint::cost_or_none(summary.worker_ns_per_datagram())
            ),
        );
    }
    let bound = summary.coalesce_bound;
    text += &fact("backend", &format!("{} ({})", summary.backend, summary.backend_reason));
    text += &fact("arrivals", &summary.arrivals_reason);
    text += &fact(
        "kernel drops",
        match summary.ledger.kernel_unit {
            Unit::Datagrams => "counted in datagrams",
            Unit::Buffers => "counted in buffers: one may be a whole train of datagrams",
        },
    );
    let coalesce = if bound.is_zero() {
        "off: gathering adds no latency".to_owned()
    } else {
        format!("under load adds at most {}, nothing when quiet", humantime::format_duration(bound))
    };
    text += &fact("coalesce", &coalesce);
    if summary.backend == BackendKind::IoUring {
        let value = format!(
            "receives armed {}, slots exhausted {}, completion queue overflowed {}",
            count(summary.rearmed),
            count(summary.ring_exhausted),
            count(summary.cq_overflow)
        );
        text += &fact("ring", &value);
    }
    text += &fact("memory", &format!("{} resident", paint::bytes(summary.rss_bytes)));
    let replies = &summary.replies;
    if replies.sent + replies.send_timed_out + replies.failed > 0 {
        let value = format!(
            "{} sent, {} timed out, {} failed",
            count(replies.sent),
            count(replies.send_timed_out),
            count(replies.failed)
        );
        text += &fact("replies", &value);
    }
    text
}

/// Renders one line of the ledger: indent, name, figure, note.
fn entry(depth: usize, name: &str, figure: u64, note: &str) -> String {
    let name = format!("{:1$}{name}", "", depth * 2);
    let line = format!("  {name:<NAME_WIDTH$}{:>FIGURE_WIDTH$}   {note}", count(figure));
    format!("{}\n", line.trim_end())
}

/// The ledger, one line a row. Losses of 0 share one line at the end.
fn ledger(summary: &Summary, unwritten: u64, paint: Paint) -> String {
    let mut text = format!("\n  {}\n", paint.bold("Ledger, in datagrams"));
    let mut none = Vec::new();
    for row in ROWS {
        let figure = (row.get)(summary);
        match (row.part, figure) {
            (Part::Passed(depth), Some(figure)) => {
                text += &entry(depth, row.label, figure, &share(summary, figure));
            }
            (Part::Passed(_), None) => {
                let unknown = "not known: trains may have been dropped";
                let (name, figure) = (row.label, "?");
                text += &format!("  {name:<NAME_WIDTH$}{figure:>FIGURE_WIDTH$}   {unknown}\n");
            }
            (Part::Dropped(_) | Part::Lost(_), None | Some(0)) => none.push(row.name),
            (Part::Dropped(depth) | Part::Lost(depth), Some(figure)) => {
                let note = match row.unit.is_buffers(summary.ledger.kernel_unit) {
                    true => "buffers".to_owned(),
                    false => share(summary, figure),
                };
                text += &loss(&entry(depth, row.label, figure, &note), paint);
            }
            (Part::Held(depth), Some(figure)) => {
                text += &held((depth, row.label), figure, summary, unwritten, paint);
            }
            (Part::Check, _) => text += &residual(summary.ledger.residual, paint),
            (Part::Held(_), None) | (Part::Beside, _) => {}
        }
    }
    if !none.is_empty() {
        let line = paint::paragraph(&format!("none were {}", none.join(", ")), 2);
        text += &format!("{}\n", paint.dim(line.trim_end()));
    }
    text
}

/// Returns `figure` in percent of what arrived, or of what was received if arrivals are not known.
fn share(summary: &Summary, figure: u64) -> String {
    paint::percent(figure, summary.ledger.arrived.unwrap_or(summary.ledger.received))
}

fn loss(line: &str, paint: Paint) -> String {
    paint.yellow(line.trim_end()) + "\n"
}

/// The line of datagrams whose outcome is open; empty if there are none.
fn held(
    (depth, label): (usize, &str),
    figure: u64,
    summary: &Summary,
    unwritten: u64,
    paint: Paint,
) -> String {
    let (share, unwritten) = (share(summary, figure), unwritten.min(figure));
    match (figure, unwritten) {
        (0, _) => String::new(),
        (_, 0) => entry(depth, label, figure, &format!("{share} wait in the journal")),
        _ => {
            let note = format!("{share}, {} of them not written", count(unwritten));
            loss(&entry(depth, label, figure, &note), paint)
        }
    }
}

fn residual(residual: i64, paint: Paint) -> String {
    let figure = count(residual.unsigned_abs());
    let line = format!("  {:<NAME_WIDTH$}{figure:>FIGURE_WIDTH$}", "residual");
    let verdict = match residual {
        0 => paint.green("every datagram received is accounted for"),
        _ => paint.red("the ledger does not balance: a bug in ringest"),
    };
    format!("{line}   {verdict}\n")
}

fn losses(summary: &Summary, undelivered: &str, paint: Paint) -> String {
    let (losses, signs): (Vec<_>, Vec<_>) =
        advise(summary, undelivered).into_iter().partition(|advice| advice.is_loss);
    explain("What was lost, and what to do", &losses, paint)
        + &explain("Worth knowing", &signs, paint)
}

fn explain(title: &str, advice: &[Advice], paint: Paint) -> String {
    if advice.is_empty() {
        return String::new();
    }
    let mut text = format!("\n  {}\n", paint.bold(title));
    for advice in advice {
        let unit = if advice.count == 1 { advice.unit.trim_end_matches('s') } else { advice.unit };
        let head = format!("{}: {} {unit}", advice.name, count(advice.count));
        let head = if advice.is_loss { paint.yellow(&head) } else { head };
        text += &format!("  {head}\n{}", paint::paragraph(&advice.text, 4));
    }
    text
}

/// Renders a row for each thread.
fn threads(summary: &Summary, paint: Paint) -> String {
    let head = format!(
        "  {:<12}{:>6}{:>16}{:>14}{:>14}{:>12}",
        "Thread", "core", "datagrams", "CPU/datagram", "kernel drops", "rcvbuf"
    );
    let mut text = format!("\n{}\n", paint.bold(&head));
    // A handler that runs inline has no CPU time of its own.
    let cost = |cpu_ns: u64, datagrams: u64| match (cpu_ns, datagrams) {
        (0, _) | (_, 0) => "-".to_owned(),
        _ => paint::cost(cpu_ns as f64 / datagrams as f64),
    };
    for (index, row) in summary.receivers.iter().enumerate() {
        text += &format!(
            "  {:<12}{:>6}{:>16}{:>14}{:>14}{:>12}\n",
            format!("receiver {index}"),
            row.core,
            count(row.received),
            cost(row.cpu_ns, row.received),
            count(row.dropped_kernel),
            paint::bytes(row.rcvbuf_bytes as u64)
        );
    }
    for (index, row) in summary.workers.iter().enumerate() {
        text += &format!(
            "  {:<12}{:>6}{:>16}{:>14}\n",
            format!("worker {index}"),
            row.core,
            count(row.handled),
            cost(row.cpu_ns, row.handled)
        );
    }
    text
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use ringest::{Dropped, Ledger};
    use ringest_engine::count::latency::Percentiles;
    use ringest_engine::count::summary::{ReceiverSummary, ReplySummary, WorkerSummary};
    use std::time::Duration;

    /// A run that lost something in every way there is and balances.
    pub(crate) fn summary() -> Summary {
        Summary {
            backend: BackendKind::IoUring,
            backend_reason: "probe passed".to_owned(),
            arrivals_reason: "counted by a socket filter (eBPF)".to_owned(),
            listen: vec!["127.0.0.1:9000".parse().unwrap()],
            elapsed: Duration::from_secs(2),
            ledger: Ledger {
                arrived: Some(110),
                received: 100,
                received_bytes: 6400,
                kernel_unit: Unit::Datagrams,
                dropped: Dropped {
                    kernel: 3,
                    truncated: 1,
                    pool_empty: 4,
                    queue_full: 5,
                    ..Dropped::default()
                },
                queued: 0,
                handled: 90,
                rejected: 2,
                delivered: 80,
                undelivered: 8,
                pending: 0,
                unread_at_stop: 7,
                residual: 0,
            },
            trains: 2,
            ring_exhausted: 0,
            cq_overflow: 0,
            rearmed: 1,
            socket_errors: 0,
            replies: ReplySummary::default(),
            records: RecordSummary::default(),
            queue_latency_ns: Percentiles {
                p50: 10_000,
                p90: 20_000,
                p99: 30_000,
                p999: 40_000,
                max: 50_000,
            },
            coalesce_bound: Duration::from_millis(1),
            rss_bytes: 1 << 20,
            receivers: vec![ReceiverSummary {
                core: 0,
                received: 100,
                dropped_kernel: 3,
                kernel_buffers: 3,
                rcvbuf_bytes: 8 << 20,
                cpu_ns: 50_000,
                sleeps: 9,
            }],
            workers: vec![WorkerSummary { core: 1, handled: 90, batches: 3, cpu_ns: 1800 }],
        }
    }

    #[test]
    fn every_figure_of_the_ledger_is_shown() {
        let text =
            render(("listen", "stopped by SIGINT"), &summary(), 0, "So it is.", Paint::PLAIN);
        let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for wanted in [
            "ringest listen 2.00 s, stopped by SIGINT",
            "100 datagrams 50/s 0.0 Mbit/s 6.2 KiB 2 trains",
            "arrived at the sockets 110 100.0 %",
            "dropped: kernel 3 2.73 %",
            "dropped: queue_full 5 4.55 %",
            "unread_at_stop 7 6.36 %",
            "handled 90 81.8 %",
            "residual 0 every datagram received is accounted for",
            "none were denied, rate_limited, queued",
            "p50 10 µs p90 20 µs p99 30 µs p99.9 40 µs max 50 µs",
            "receivers 500 ns, workers 20 ns",
            "under load adds at most 1ms",
            "receiver 0 0 100 500 ns 3 8.0 MiB",
            "worker 0 1 90 20 ns",
        ] {
            assert!(words.contains(wanted), "{wanted:?} is not in\n{text}");
        }
        assert!(!text.contains('\x1b'));
    }

    #[test]
    fn what_cannot_be_known_is_not_claimed() {
        let mut summary = summary();
        summary.ledger.arrived = None;
        summary.ledger.kernel_unit = Unit::Buffers;
        let text = render(("listen", ""), &summary, 0, "", Paint::PLAIN);
        assert!(text.contains("?   not known"), "{text}");
        assert!(text.contains("3   buffers"), "{text}");
    }
}
