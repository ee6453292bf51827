//! What all rounds found: medians, ratios, the table, and whether the targets were met.

use std::fmt::Write;

use super::Trial;
use super::case::{Case, FLOOR, IO_URING, Row, Subject, peer};
use super::engine::EngineSpec;
use crate::peers::Call;

/// A figure of a trial.
type Field = fn(&Trial) -> Option<f64>;

/// One figure over all rounds: what most of them said, and how far apart they were.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Spread {
    median: f64,
    min: f64,
    max: f64,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let half = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            values[half]
        } else {
            values[half - 1].midpoint(values[half])
        };
        Some(Self { median, min, max })
    }
}

/// Trials by case and round.
#[derive(Debug)]
pub(crate) struct Results {
    cases: Vec<Case>,
    trials: Vec<Vec<Trial>>,
}

impl Results {
    pub(crate) fn new(cases: &[Case]) -> Self {
        Self { cases: cases.to_vec(), trials: vec![Vec::new(); cases.len()] }
    }

    /// Adds the next round's trial of a case.
    pub(crate) fn add(&mut self, case: usize, trial: Trial) {
        self.trials[case].push(trial);
    }

    fn of(&self, row: Row, subject: Subject) -> Option<&[Trial]> {
        let index = self.cases.iter().position(|case| *case == Case { row, subject })?;
        Some(&self.trials[index])
    }

    /// `combine` of two cases' figures, round by round: two trials of one round saw the same weather.
    fn paired(
        &self,
        (above, below): (Option<&[Trial]>, Option<&[Trial]>),
        field: Field,
        combine: fn(f64, f64) -> f64,
    ) -> Option<Spread> {
        let rounds = above?.iter().zip(below?);
        Spread::of(rounds.filter_map(|(a, b)| Some(combine(field(a)?, field(b)?))).collect())
    }

    fn ratio(&self, case: &Case) -> Option<Spread> {
        let reference = case.row.reference().filter(|subject| *subject != case.subject)?;
        let trials = (self.of(case.row, case.subject), self.of(case.row, reference));
        self.paired(trials, |trial| trial.receiver_ns, |a, b| a / b)
    }

    /// The table, in Markdown.
    pub(crate) fn table(&self) -> String {
        let mut table = String::from(
            "| | receiver CPU, ns per datagram | x reference | worker CPU, ns per datagram \
             | received, 1000/s | lost, % | sent → handler, µs: p50 | p99 |\n\
             |---|---:|---:|---:|---:|---:|---:|---:|\n",
        );
        for row in Row::ALL {
            let mut lines = self.cases.iter().zip(&self.trials).filter(|(c, _)| c.row == row);
            if lines.clone().next().is_none() {
                continue;
            }
            let _ = writeln!(table, "| **{}** | | | | | | | |", row.title());
            lines.by_ref().for_each(|(case, trials)| self.line(&mut table, case, trials));
        }
        table
    }

    fn line(&self, table: &mut String, case: &Case, trials: &[Trial]) {
        let cell = |field: Field, digits: usize| {
            let spread = Spread::of(trials.iter().filter_map(field).collect());
            spread.map_or_else(String::new, |spread| show(spread, digits))
        };
        let receiver = match cell(|trial| trial.idle_percent, 3) {
            idle if idle.is_empty() => cell(|trial| trial.receiver_ns, 1),
            idle => format!("{idle} % of a core, all threads"),
        };
        let ratio = match self.ratio(case) {
            Some(spread) => show(spread, 2),
            None if case.row.reference() == Some(case.subject) => "1 (reference)".to_owned(),
            None => String::new(),
        };
        let _ = writeln!(
            table,
            "| {} | {receiver} | {ratio} | {} | {} | {} | {} | {} |",
            case.subject,
            cell(|trial| trial.worker_ns, 1),
            cell(|trial| trial.received_pps.map(|pps| pps / 1e3), 1),
            cell(|trial| trial.lost_percent, 1),
            cell(|trial| trial.p50_us, 1),
            cell(|trial| trial.p99_us, 1),
        );
    }

    /// One line per target: what was asked, what was measured, whether that is met.
    pub(crate) fn verdicts(&self) -> String {
        let mut text = String::new();
        for target in self.targets() {
            let verdict = match target.measured {
                None => "not measured".to_owned(),
                Some(spread) => {
                    let met = if target.asks.holds(spread.median) { "met" } else { "**not met**" };
                    format!("{}: {met}", show(spread, 2))
                }
            };
            let _ = writeln!(text, "- {} ({}): {verdict}", target.name, target.asks.text());
        }
        text
    }

    fn targets(&self) -> Vec<Target> {
        let uring = Subject::Engine(IO_URING);
        let at_once = Subject::Engine(EngineSpec { coalesces: false, ..IO_URING });
        let receiver: Field = |trial| trial.receiver_ns;
        let of = |row, subject| self.of(row, subject);
        let over = |row, above, below, field| {
            self.paired((of(row, above), of(row, below)), field, |a, b| a / b)
        };
        let bare = peer(Call::Recvmmsg, false);
        let epoll = peer(Call::RecvmmsgEpoll, false);
        let worker = of(Row::Trains64, uring).and_then(|trials| {
            Spread::of(trials.iter().filter_map(|trial| trial.worker_ns).collect())
        });
        let idle = of(Row::Idle, uring).and_then(|trials| {
            Spread::of(trials.iter().filter_map(|trial| trial.idle_percent).collect())
        });
        let trains = (of(Row::Singles64, uring), of(Row::Trains64, uring));
        let after = (of(Row::Trains64, uring), of(Row::Trains64, FLOOR));
        let target = |name, asks, measured| Target { name, asks, measured };
        vec![
            target(
                "(a) receiver CPU, one by one, of the bare recvmmsg loop's",
                Asks::AtMost(1.10),
                over(Row::Singles64, uring, bare, receiver),
            ),
            target(
                "(b) receiver CPU one by one over that in trains",
                Asks::AtLeast(12.0),
                self.paired(trains, receiver, |single, train| single / train),
            ),
            target(
                "(b) after the kernel, receiver ns per datagram",
                Asks::AtMost(25.0),
                self.paired(after, receiver, |engine, floor| engine - floor),
            ),
            target("(b) worker ns per datagram", Asks::AtMost(15.0), worker),
            target(
                "(c) receiver CPU at 50 000/s of the bare recvmmsg + epoll loop's",
                Asks::AtMost(0.6),
                over(Row::Paced50k, uring, epoll, receiver),
            ),
            target(
                "(c) receiver CPU at 100 000/s of the bare recvmmsg + epoll loop's",
                Asks::AtMost(0.6),
                over(Row::Paced100k, uring, epoll, receiver),
            ),
            target(
                "(d) latency p50 at 100/s, coalesce auto over coalesce 0",
                Asks::AtMost(1.10),
                over(Row::Paced100, uring, at_once, |trial| trial.p50_us),
            ),
            target("(f) idle, % of a core", Asks::AtMost(0.5), idle),
        ]
    }
}

/// What is asked of one figure.
#[derive(Clone, Copy, Debug)]
enum Asks {
    AtMost(f64),
    AtLeast(f64),
}

impl Asks {
    fn holds(self, value: f64) -> bool {
        match self {
            Self::AtMost(limit) => value <= limit,
            Self::AtLeast(limit) => value >= limit,
        }
    }

    fn text(self) -> String {
        match self {
            Self::AtMost(limit) => format!("at most {limit}"),
            Self::AtLeast(limit) => format!("at least {limit}"),
        }
    }
}

/// One promise of the project, and what came of it in this run.
#[derive(Debug)]
struct Target {
    name: &'static str,
    asks: Asks,
    measured: Option<Spread>,
}

fn show(spread: Spread, digits: usize) -> String {
    let Spread { median, min, max } = spread;
    if min.total_cmp(&max).is_eq() {
        return format!("{median:.digits$}");
    }
    format!("{median:.digits$} ({min:.digits$}..{max:.digits$})")
}
