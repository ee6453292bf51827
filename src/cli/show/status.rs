//! The live line: one a second on a terminal's stderr, rewritten in place; nothing elsewhere.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use ringest::{Dropped, Summary, Unit};
use ringest_records::settle::notices::Notices;
use ringest_ship::fleet::Watch;

use crate::cli::show::{paint, shipments};

/// The line and what its rates are measured from.
#[derive(Debug)]
pub(crate) struct Status {
    on: bool,
    indent: usize,
    last: Sample,
    shown: bool,
    /// What is said above the line, also where the line itself is off.
    notices: Option<Arc<Notices>>,
    /// Brokers, whose backlogs are shown.
    watch: Option<Watch>,
}

/// The figures of one moment.
#[derive(Clone, Copy, Debug, Default)]
struct Sample {
    elapsed: Duration,
    received: u64,
    bytes: u64,
    dropped: Dropped,
}

impl Sample {
    fn of(summary: &Summary) -> Self {
        Self {
            elapsed: summary.elapsed,
            received: summary.ledger.received,
            bytes: summary.ledger.received_bytes,
            dropped: summary.ledger.dropped,
        }
    }
}

impl Status {
    /// How often it is shown.
    pub(crate) const EVERY: Duration = Duration::from_secs(1);

    /// On if stderr is a terminal and nobody asked for quiet.
    pub(crate) fn on_stderr(quiet: bool) -> Self {
        let on = !quiet && paint::is_terminal(&io::stderr());
        Self { on, indent: 0, last: Sample::default(), shown: false, notices: None, watch: None }
    }

    /// The same, shown further to the right.
    pub(crate) fn indented(self, indent: usize) -> Self {
        Self { indent, ..self }
    }

    /// The same, with what a sink has to say.
    pub(crate) fn with_notices(self, notices: Option<&Arc<Notices>>) -> Self {
        Self { notices: notices.map(Arc::clone), ..self }
    }

    /// The same, with what waits for brokers.
    pub(crate) fn with_watch(self, watch: Option<&Watch>) -> Self {
        Self { watch: watch.cloned(), ..self }
    }

    /// Whether there is anything to show now and then.
    pub(crate) fn is_on(&self) -> bool {
        self.on || self.notices.is_some()
    }

    /// Rewrites the line.
    pub(crate) fn show(&mut self, summary: &Summary) {
        let said = self.notices.as_ref().map(|notices| notices.take()).unwrap_or_default();
        for text in said {
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
        // Back to the margin and clear what the last line left; a line that wrapped could not be
        // rewritten, so it is cut.
        let cut: String = line.chars().take(width().saturating_sub(1)).collect();
        paint::say(&format!("\r{cut}\x1b[K"));
    }

    /// Takes the line away, so that what follows starts at the margin.
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
    let drops: Vec<_> = causes(&now.dropped)
        .iter()
        .zip(causes(&last.dropped))
        // A cause that has lost anything stays in sight.
        .filter(|((_, total), _)| *total > 0)
        .map(|((cause, total), (_, before))| {
            let is_buffers = *cause == "kernel" && summary.ledger.kernel_unit == Unit::Buffers;
            let unit = if is_buffers { " buffers" } else { "" };
            format!("{cause} {}{unit}", paint::whole(rate(*total, before)))
        })
        .collect();
    let drops = if drops.is_empty() { "none".to_owned() } else { drops.join(", ") };
    let mut parts = vec![
        format!("{:.0} s", now.elapsed.as_secs_f64()),
        format!("{} datagrams/s", paint::whole(rate(now.received, last.received))),
        // Before the rest, so that a narrow terminal does not cut the loss, nor what waits.
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

/// Drops by cause, in the order a datagram meets them.
pub(crate) fn causes(dropped: &Dropped) -> [(&'static str, u64); 6] {
    [
        ("kernel", dropped.kernel),
        ("denied", dropped.denied),
        ("rate_limited", dropped.rate_limited),
        ("truncated", dropped.truncated),
        ("pool_empty", dropped.pool_empty),
        ("queue_full", dropped.queue_full),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::show::table::tests::summary;

    #[test]
    fn rates_are_of_the_last_second_and_losses_stay_in_sight() {
        let mut summary = summary();
        let last = Sample::default();
        let mut now = Sample { elapsed: Duration::from_secs(1), received: 1000, ..last };
        now.bytes = 125_000;
        let first = line(&last, &now, &summary, Vec::new());
        assert!(first.starts_with("1 s  1,000 datagrams/s  drops/s none  1.0 Mbit/s"), "{first}");
        now.dropped.kernel = 50;
        summary.ledger.kernel_unit = Unit::Buffers;
        let shipped = vec!["LOGS 7 wait".to_owned()];
        let second = line(&last, &now, &summary, shipped);
        assert!(
            second.contains("drops/s kernel 50 buffers  LOGS 7 wait  1.0 Mbit/s  queue"),
            "{second}"
        );
        let later = Sample { elapsed: Duration::from_secs(2), ..now };
        assert!(line(&now, &later, &summary, Vec::new()).contains("drops/s kernel 0 buffers"));
    }
}
