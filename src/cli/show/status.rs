//! The status line: shown once a second on stderr if that is a terminal, and rewritten in place.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use ringest::Summary;
use ringest_engine::count::rows;
use ringest_records::settle::notices::Notices;
use ringest_ship::fleet::Watch;

use crate::cli::show::{paint, shipments};

/// The line, and the counts that its rates are measured from.
#[derive(Debug)]
pub(crate) struct Status {
    on: bool,
    indent: usize,
    last: Sample,
    shown: bool,
    /// Messages of the sinks, printed above the line. They are printed also if the line itself is off.
    notices: Option<Arc<Notices>>,
    /// The brokers' shippers, whose backlogs are shown.
    watch: Option<Watch>,
}

/// Counts of one moment.
#[derive(Clone, Debug, Default)]
struct Sample {
    elapsed: Duration,
    received: u64,
    bytes: u64,
    /// Drops, in the order of `rows::drops`; empty before the first moment.
    dropped: Vec<u64>,
}

impl Sample {
    fn of(summary: &Summary) -> Self {
        Self {
            elapsed: summary.elapsed,
            received: summary.ledger.received,
            bytes: summary.ledger.received_bytes,
            dropped: rows::drops().map(|row| row.count(summary)).collect(),
        }
    }
}

impl Status {
    /// Time between two updates.
    pub(crate) const EVERY: Duration = Duration::from_secs(1);

    /// Makes a status line that is on if stderr is a terminal and `quiet` is not set.
    pub(crate) fn on_stderr(quiet: bool) -> Self {
        let on = !quiet && paint::is_terminal(&io::stderr());
        Self { on, indent: 0, last: Sample::default(), shown: false, notices: None, watch: None }
    }

    /// Moves the line `indent` columns to the right.
    pub(crate) fn indented(self, indent: usize) -> Self {
        Self { indent, ..self }
    }

    /// Adds the messages of the sinks.
    pub(crate) fn with_notices(self, notices: Option<&Arc<Notices>>) -> Self {
        Self { notices: notices.map(Arc::clone), ..self }
    }

    /// Adds the backlogs of the brokers.
    pub(crate) fn with_watch(self, watch: Option<&Watch>) -> Self {
        Self { watch: watch.cloned(), ..self }
    }

    /// Returns whether `show` has anything to print.
    pub(crate) fn is_on(&self) -> bool {
        self.on || self.notices.is_some()
    }

    /// Prints new messages and rewrites the line.
    pub(crate) fn show(&mut self, summary: &Summary) {
        let messages = self.notices.as_ref().map(|notices| notices.take()).unwrap_or_default();
        for text in messages {
            self.clear();
            paint::say(&format!("{text}\n"));
        }
        if !self.on {
            return;
        }
        let now = Sample::of(summary);
        let shipped = self.watch.as_ref().map(Watch::stats).unwrap_or_default();
        let shipped = shipped.iter().map(shipments::brief).collect();
        let line = format!("{:1$}{2}", "", self.indent, line(&self.last, &now, summary, shipped));
        self.last = now;
        self.shown = true;
        // Return to the margin and clear the rest of the old line. A line that wrapped could not be
        // rewritten, so it is cut at the terminal's width.
        let cut: String = line.chars().take(width().saturating_sub(1)).collect();
        paint::say(&format!("\r{cut}\x1b[K"));
    }

    /// Removes the line, so that following output starts at the margin.
    pub(crate) fn clear(&mut self) {
        if std::mem::take(&mut self.shown) {
            paint::say("\r\x1b[K");
        }
    }
}

fn width() -> usize {
    terminal_size::terminal_size_of(io::stderr()).map_or(80, |(width, _)| usize::from(width.0))
}

fn line(last: &Sample, now: &Sample, summary: &Summary, shipped: Vec<String>) -> String {
    let seconds = now.elapsed.saturating_sub(last.elapsed).as_secs_f64().max(1e-3);
    let rate = |now: u64, last: u64| now.saturating_sub(last) as f64 / seconds;
    let megabits = rate(now.bytes, last.bytes) * 8.0 / 1e6;
    let latency = &summary.queue_latency_ns;
    let drops: Vec<_> = rows::drops()
        .zip(&now.dropped)
        .enumerate()
        // A cause that has dropped any datagram stays on the line.
        .filter(|(_, (_, total))| **total > 0)
        .map(|(index, (row, total))| {
            let before = last.dropped.get(index).copied().unwrap_or(0);
            let unit =
                if row.unit.is_buffers(summary.ledger.kernel_unit) { " buffers" } else { "" };
            format!("{} {}{unit}", row.name, paint::whole(rate(*total, before)))
        })
        .collect();
    let drops = if drops.is_empty() { "none".to_owned() } else { drops.join(", ") };
    let mut parts = vec![
        format!("{:.0} s", now.elapsed.as_secs_f64()),
        format!("{} datagrams/s", paint::whole(rate(now.received, last.received))),
        // Drops and backlogs come first: a narrow terminal cuts the end of the line.
        format!("drops/s {drops}"),
    ];
    parts.extend(shipped);
    parts.push(format!("{megabits:.1} Mbit/s"));
    if latency.max > 0 {
        let [p50, p99] = [latency.p50, latency.p99].map(paint::nanos);
        parts.push(format!("queue p50 {p50} p99 {p99}"));
    }
    parts.join("  ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::show::table::tests::summary;
    use ringest::{Dropped, Unit};

    #[test]
    fn rates_are_of_the_last_second_and_losses_stay_in_sight() {
        let mut summary = summary();
        let last = Sample::default();
        let mut now = Sample { elapsed: Duration::from_secs(1), received: 1000, ..last.clone() };
        now.bytes = 125_000;
        let first = line(&last, &now, &summary, Vec::new());
        assert!(first.starts_with("1 s  1,000 datagrams/s  drops/s none  1.0 Mbit/s"), "{first}");
        summary.ledger.dropped = Dropped { kernel: 50, ..Dropped::default() };
        now.dropped = Sample::of(&summary).dropped;
        summary.ledger.kernel_unit = Unit::Buffers;
        let shipped = vec!["LOGS 7 wait".to_owned()];
        let second = line(&last, &now, &summary, shipped);
        assert!(
            second.contains("drops/s kernel 50 buffers  LOGS 7 wait  1.0 Mbit/s  queue"),
            "{second}"
        );
        let later = Sample { elapsed: Duration::from_secs(2), ..now.clone() };
        assert!(line(&now, &later, &summary, Vec::new()).contains("drops/s kernel 0 buffers"));
    }
}
