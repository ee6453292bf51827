//! The tables of a report. The terminal and the page show the same ones.

use crate::document::report::{Mode, Report};
use crate::document::trial::TrialRecord;
use crate::report::findings;
use crate::report::findings::{LossAccount, stage_name};
use crate::report::interval::interval;
use ringest_base::text::figures;
use ringest_base::text::figures::{count, nanos, percent, pps, ratio, real, share};

/// The tone of a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tone {
    /// Neutral.
    #[default]
    Plain,
    /// Better than what it is compared with.
    Good,
    /// Worse, or lost.
    Bad,
    /// Not used.
    Faint,
}

/// One row, with a cell for each column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The cells, in the order of the columns.
    pub cells: Vec<String>,
    /// The tone.
    pub tone: Tone,
}

/// A table. The first column names the row, the others hold figures unless they are named in `words`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// The title.
    pub title: String,
    /// The heading of each column.
    pub head: Vec<String>,
    /// Columns besides the first that hold words; they are aligned left.
    pub words: Vec<usize>,
    /// The rows.
    pub lines: Vec<Line>,
    /// A note on how to read it; empty for none.
    pub note: String,
}

impl Table {
    /// Returns a table without rows.
    pub(crate) fn new(title: impl Into<String>, head: &[&str]) -> Self {
        let head = head.iter().map(|name| (*name).to_owned()).collect();
        Self { title: title.into(), head, ..Self::default() }
    }

    /// Returns whether a column holds figures, which are aligned right.
    #[must_use]
    pub fn holds_figures(&self, column: usize) -> bool {
        column > 0 && !self.words.contains(&column)
    }

    pub(crate) fn line(&mut self, tone: Tone, cells: impl Into<Vec<String>>) {
        self.lines.push(Line { cells: cells.into(), tone });
    }

    fn plain(&mut self, cells: impl Into<Vec<String>>) {
        self.line(Tone::Plain, cells);
    }
}

/// Returns the answers to the mode's question, then losses and costs. Empty tables are left out.
#[must_use]
pub fn all(report: &Report) -> Vec<Table> {
    let mut tables = answers(report);
    tables.extend([ledger(report), costs(report)]);
    tables.retain(|table| !table.lines.is_empty());
    tables
}

/// Returns the tables that answer the mode's question.
pub(crate) fn answers(report: &Report) -> Vec<Table> {
    let mut tables = match report.mode {
        Mode::Ndr => vec![goals(report)],
        Mode::Compare => vec![compare(report), compare_more(report)],
        Mode::Burst => vec![burst(report)],
        Mode::Latency => {
            let mut tables: Vec<Table> = latency(report);
            tables.push(goals(report));
            tables
        }
        Mode::Curve => vec![curve(report)],
    };
    tables.retain(|table| !table.lines.is_empty());
    tables
}

fn goals(report: &Report) -> Table {
    let mut table = Table::new(
        "Rates found",
        &["goal", "loss agreed to", "kept at", "not kept at", "throughput"],
    );
    for goal in &report.goals {
        table.plain([
            figures::cut(&goal.name.to_uppercase(), 20),
            percent(goal.loss_ratio),
            pps(goal.lower_pps),
            goal.upper_pps.map_or_else(|| "never".to_owned(), |rate| pps(Some(rate))),
            pps(goal.throughput_pps),
        ]);
    }
    if let Some(goal) = report.goals.first() {
        table.note = format!(
            "By MLRsearch: both rates within {} of each other, and up to {} of the trials, by time, may \
             lose more. Throughput is what was forwarded at the rate that was kept.",
            percent(goal.relative_width),
            percent(goal.exceed_ratio)
        );
    }
    table
}

fn compare(report: &Report) -> Table {
    let mut table = Table::new(
        "CPU time of the receiving thread per datagram, by receive API",
        &["receiver", "ns [95 % interval]", "of the reference", "verdict"],
    );
    table.words = vec![3];
    for variant in &report.variants {
        let verdict = variant.verdict.as_deref().unwrap_or("");
        let tone = match verdict {
            "cheaper" => Tone::Good,
            "dearer" => Tone::Bad,
            _ => Tone::Plain,
        };
        let verdict = if variant.reference { "the reference" } else { verdict };
        table.line(
            tone,
            [
                variant.name.clone(),
                interval(variant.receiver_ns.as_ref(), figure_ns),
                interval(variant.ratio.as_ref(), ratio),
                if verdict.is_empty() { figures::dash() } else { verdict.to_owned() },
            ],
        );
    }
    table.note =
        "Medians with bootstrap 95 % intervals. Ratios are of receiver and workers together, \
                  and taken within a round, so that what disturbed a round disturbed both. Where the interval of a ratio holds 1, no \
                  difference is shown."
            .to_owned();
    table
}

fn compare_more(report: &Report) -> Table {
    let mut table = Table::new(
        "What else it took",
        &["receiver", "workers, ns", "whole host, ns", "received/s", "lost"],
    );
    for variant in &report.variants {
        table.plain([
            variant.name.clone(),
            interval(variant.worker_ns.as_ref(), figure_ns),
            interval(variant.host_ns.as_ref(), figure_ns),
            interval(variant.received_pps.as_ref(), figures::rounded),
            interval(variant.loss_ratio.as_ref(), percent),
        ]);
    }
    if report.loopback {
        table.note = "On loopback the whole host's time holds the sender's.".to_owned();
    }
    table
}

/// Formats ns without the unit, for a column that names it.
fn figure_ns(nanos: f64) -> String {
    figures::cost(Some(nanos)).replace(" ns", "")
}

fn burst(report: &Report) -> Table {
    let mut table = Table::new("Longest burst without loss", &["repetition", "datagrams"]);
    let Some(burst) = &report.burst else { return table };
    let found = &burst.longest;
    for (name, figure) in [
        ("median", found.median),
        ("95 % interval from", found.low),
        ("95 % interval to", found.high),
    ] {
        table.line(Tone::Good, [name.to_owned(), figures::whole(figure)]);
    }
    for (index, longest) in burst.repetitions.iter().enumerate().take(100) {
        table.plain([(index + 1).to_string(), count(*longest)]);
    }
    let granted = report.setting.rcvbuf_granted_bytes;
    table.note = format!(
        "RFC 9004 back-to-back: the longest burst at the sender's full rate of which nothing was lost. \
         Of the receive buffer {} were asked for and {} granted.",
        figures::bytes(real(u64::try_from(report.setting.rcvbuf_asked_bytes).unwrap_or(0))),
        figures::bytes(real(u64::try_from(granted).unwrap_or(0)))
    );
    if burst.unbounded {
        table.note += " Even the longest burst tried lost nothing: the buffer is deeper than this.";
    }
    table
}

fn latency(report: &Report) -> Vec<Table> {
    let table = |record: &crate::document::report::LatencyRecord| {
        let mut table = Table::new(
            format!(
                "Latency at {} of NDR, {}",
                findings::load(record.load),
                pps(Some(record.rate_pps))
            ),
            &["stage", "p50", "p90", "p99", "p99.9", "max", "datagrams"],
        );
        for stage in &record.stages {
            let p = &stage.percentiles;
            let mut cells = vec![stage_name(&stage.name)];
            cells.extend([p.p50, p.p90, p.p99, p.p999, p.max].map(|time| nanos(real(time))));
            cells.push(count(p.count));
            table.plain(cells);
        }
        table
    };
    let mut tables: Vec<Table> = report.latencies.iter().map(table).collect();
    if let Some(last) = tables.last_mut() {
        last.note =
            "Percentiles of stages do not add up to the percentile of the whole. Times from \
                     the intended time hold the generator's own delays."
                .to_owned();
    }
    tables
}

fn curve(report: &Report) -> Table {
    let mut table = Table::new(
        "Loss against rate",
        &["flows", "intended", "lost [95 % interval]", "of what was sent", "trials"],
    );
    for point in &report.curve {
        table.plain([
            point.flows.to_string(),
            pps(Some(point.intended_pps)),
            interval(Some(&point.loss_ratio), percent),
            percent(point.receiver_loss_ratio.median),
            point.trials.to_string(),
        ]);
    }
    table.note =
        "Lost is of what was intended, unsent included; the next column leaves out what the \
                  sender did not send."
            .to_owned();
    table
}

/// Returns the ledger: a row for each place with a loss, a column for each account.
pub(crate) fn ledger(report: &Report) -> Table {
    let accounts = findings::accounts(report);
    let mut head = vec!["datagrams".to_owned()];
    head.extend(accounts.iter().map(|account| account.title.clone()));
    let mut table = Table { title: "Where every datagram went".into(), head, ..Table::default() };
    if accounts.is_empty() {
        return table;
    }
    let mut cells = |tone: Tone, name: &str, of: &dyn Fn(&LossAccount) -> u64| {
        let figures = accounts.iter().map(|account| {
            let share = share(of(account), account.intended);
            format!("{} ({share})", count(of(account))).replace(" ()", "")
        });
        table.line(tone, [name.to_owned()].into_iter().chain(figures).collect::<Vec<_>>());
    };
    let mut none = Vec::new();
    cells(Tone::Plain, "intended", &|account| account.intended);
    for step in STEPS {
        for at in step.places {
            let lost = |account: &LossAccount| account.lost.lines()[*at].1;
            let (name, _) = accounts[0].lost.lines()[*at];
            if accounts.iter().any(|account| lost(account) > 0) {
                cells(Tone::Bad, &format!("  − {}", place(name)), &lost);
            } else {
                none.push(place(name));
            }
        }
        cells(Tone::Plain, step.left, &step.count);
    }
    if !none.is_empty() {
        table.note = format!("None were lost at: {}.", none.join(", "));
    }
    table
}

/// A section of a datagram's way.
pub(crate) struct LedgerStep {
    /// The losses in it, as indices of [`crate::document::trial::Lost::lines`].
    pub(crate) places: &'static [usize],
    /// The name of the count after it.
    pub(crate) left: &'static str,
    /// Reads that count.
    pub(crate) count: fn(&LossAccount) -> u64,
}

/// The sections: sender, kernel and network, engine.
pub(crate) const STEPS: [LedgerStep; 3] = [
    LedgerStep { places: &[0, 1, 2], left: "sent", count: |account| account.sent },
    LedgerStep {
        places: &[3, 4, 5, 6, 7, 11],
        left: "received",
        count: |account| account.received,
    },
    LedgerStep { places: &[8, 9, 10], left: "handled", count: |account| account.handled },
];

/// Returns the label of a cause of loss.
pub(crate) fn place(name: &str) -> &str {
    match name {
        "send_failed" => "send failed",
        "qdisc" => "sender's qdisc",
        "nic" => "network card",
        "backlog" => "CPU backlog",
        "socket" => "socket buffer",
        "truncated" => "too long",
        "pool" => "no empty batch",
        "queue" => "worker queue",
        "unread" => "left in socket",
        other => other,
    }
}

/// Returns CPU time per datagram.
pub(crate) fn costs(report: &Report) -> Table {
    let mut table = Table::new(
        "CPU time per datagram",
        &["", "receiver", "worker", "softirq", "whole host", "trials"],
    );
    for cost in findings::costs(report) {
        table.plain([
            cost.name,
            figures::cost(cost.receiver),
            figures::cost(cost.worker),
            figures::cost(cost.softirq),
            figures::cost(cost.host),
            cost.trials.to_string(),
        ]);
    }
    table.note = match report.mode {
        Mode::Compare => "Medians over all rounds that count.",
        _ => "Medians over the trials that lost nothing, where there are any: an overloaded receiver \
              drops cheaply.",
    }
    .to_owned();
    if report.loopback {
        table.note += " On loopback softirq and the whole host hold the sender's share.";
    }
    table
}

/// Returns all trials; void ones with the reason.
pub(crate) fn trials(report: &Report) -> Table {
    let mut table = Table::new(
        "All trials, in the order they ran",
        &[
            "#",
            "for",
            "receiver",
            "flows",
            "intended/s",
            "s",
            "intended",
            "unsent",
            "sent",
            "received",
            "handled",
            "handled/s",
            "lost",
            "where",
            "receiver CPU",
            "late p99",
            "void",
        ],
    );
    table.words = vec![1, 2, 13, 16];
    for (index, trial) in report.trials.iter().enumerate() {
        let tone = match trial.void {
            true => Tone::Faint,
            false => Tone::Plain,
        };
        let lost = findings::lost_total(&trial.lost);
        table.line(
            tone,
            [
                (index + 1).to_string(),
                trial.purpose.clone(),
                trial.variant.clone(),
                trial.flows.to_string(),
                trial.intended_pps.map_or_else(|| "as fast as it can".to_owned(), figures::whole),
                figures::seconds(trial.duration_s).replace(" s", ""),
                count(trial.intended),
                count(trial.unsent),
                count(trial.sent),
                count(trial.received),
                count(trial.handled),
                figures::whole(trial.handled_pps),
                share(lost, trial.intended),
                wheres(trial),
                figures::cost(trial.cpu_ns_per_datagram.receiver),
                nanos(real(trial.lateness_ns.p99)),
                match (trial.void, trial.void_reason.as_deref()) {
                    (false, _) => String::new(),
                    (true, reason) => reason.unwrap_or("void").to_owned(),
                },
            ],
        );
    }
    table
}

/// Lists the losses of a trial: `socket buffer 12, worker queue 3`.
fn wheres(trial: &TrialRecord) -> String {
    let lines = trial.lost.lines();
    let places = lines.iter().filter(|(_, lost)| *lost > 0);
    places
        .map(|(name, lost)| format!("{} {}", place(name), count(*lost)))
        .collect::<Vec<_>>()
        .join(", ")
}
