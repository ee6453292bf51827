//! The figures of a report, each with its interval.

use crate::document::report::{GoalRecord, Interval, Mode, Report, StageRecord};
use crate::document::stats;
use crate::document::trial::{PercentilesRecord, TrialRecord};
use crate::report::findings::{lost_total, stage_name, valid};
use ringest_base::text::figures;
use ringest_base::text::figures::real;

/// Formats a figure.
pub(crate) type Unit = fn(f64) -> String;
/// Reads one kind of cost from a trial.
type CostOf = fn(&TrialRecord) -> Option<f64>;

/// The direction that is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    More,
    Less,
}

/// A named figure of one report.
pub(crate) struct Figure {
    pub(crate) group: String,
    pub(crate) name: String,
    pub(crate) interval: Interval,
    /// Whether it comes from enough trials to be compared.
    pub(crate) sound: bool,
    pub(crate) wanted: Wanted,
    pub(crate) unit: Unit,
}

/// Returns all figures of a report, the answers to its mode's question first.
pub(crate) fn figures(report: &Report) -> Vec<Figure> {
    let mut figures: Vec<Figure> = report.goals.iter().filter_map(goal).collect();
    figures.extend(variants(report));
    figures.extend(burst(report));
    figures.extend(latency(report));
    figures.extend(curve(report));
    // A comparison holds these by variant already.
    if report.mode != Mode::Compare {
        figures.extend(costs(report));
    }
    figures
}

/// Formats a rate; infinity stands for a bound that was never reached.
fn rate(pps: f64) -> String {
    if pps == f64::INFINITY { "no bound".to_owned() } else { figures::whole(pps) }
}

fn cost(ns: f64) -> String {
    figures::cost(Some(ns))
}

fn goal(goal: &GoalRecord) -> Option<Figure> {
    let low = goal.lower_pps?;
    let high = goal.upper_pps.unwrap_or(f64::INFINITY);
    let median = goal.throughput_pps.unwrap_or(low);
    Some(Figure {
        group: "Rates found, datagrams a second, between the bounds of the search".to_owned(),
        name: figures::cut(&goal.name.to_uppercase(), 20),
        interval: Interval { median, low, high, samples: 0 },
        // Bounds of a search, not an interval of figures.
        sound: true,
        wanted: Wanted::More,
        unit: rate,
    })
}

fn variants(report: &Report) -> impl Iterator<Item = Figure> {
    report.variants.iter().flat_map(|variant| {
        let figures: [(_, _, _, Unit); 5] = [
            ("CPU of the receiver", variant.receiver_ns, Wanted::Less, cost),
            ("CPU of the workers", variant.worker_ns, Wanted::Less, cost),
            ("CPU of the whole host", variant.host_ns, Wanted::Less, cost),
            ("received a second", variant.received_pps, Wanted::More, figures::whole),
            ("lost", variant.loss_ratio, Wanted::Less, figures::percent),
        ];
        figures.into_iter().filter_map(|(name, interval, wanted, unit)| {
            let interval = interval?;
            Some(Figure {
                group: variant.name.clone(),
                name: name.to_owned(),
                interval,
                sound: interval.samples >= stats::SAMPLES_MIN,
                wanted,
                unit,
            })
        })
    })
}

fn burst(report: &Report) -> Option<Figure> {
    let burst = report.burst.as_ref()?;
    let mut interval = burst.longest;
    if burst.unbounded {
        interval.high = f64::INFINITY;
    }
    Some(Figure {
        group: "Longest burst without loss, datagrams".to_owned(),
        name: "median".to_owned(),
        interval,
        sound: burst.repetitions.len() >= stats::SAMPLES_MIN,
        wanted: Wanted::More,
        unit: rate,
    })
}

fn latency(report: &Report) -> Vec<Figure> {
    let mut figures = Vec::new();
    for record in &report.latencies {
        for stage in record.stages.iter().filter(|stage| stage.percentiles.count > 0) {
            let p = &stage.percentiles;
            let read = [("p50", 50.0, p.p50), ("p90", 90.0, p.p90), ("p99", 99.0, p.p99)];
            for (name, percentile, time) in read.into_iter().chain([("p99.9", 99.9, p.p999)]) {
                figures.push(Figure {
                    group: format!("Latency at {} % of NDR", figures::whole(record.load * 100.0)),
                    name: format!("{}, {name}", stage_name(&stage.name)),
                    interval: ranks(stage, percentile, time),
                    sound: tail(p, percentile) >= 6.0,
                    wanted: Wanted::Less,
                    unit: figures::nanos,
                });
            }
        }
    }
    figures
}

/// Returns the number of datagrams that were slower than the percentile.
fn tail(percentiles: &PercentilesRecord, percentile: f64) -> f64 {
    real(percentiles.count) * (1.0 - percentile / 100.0)
}

/// The times at the ranks that hold a percentile 95 % of the time. Delays come in groups, so this is
/// the least an interval can be; the caveats say so.
fn ranks(stage: &StageRecord, percentile: f64, time: u64) -> Interval {
    let share = percentile / 100.0;
    let spread = 196.0 * (share * (1.0 - share) / real(stage.percentiles.count.max(1))).sqrt();
    let below = stage.curve.iter().rev().find(|(at, _)| *at <= percentile - spread);
    let above = stage.curve.iter().find(|(at, _)| *at >= percentile + spread);
    let time = real(time);
    let low = below.or_else(|| stage.curve.first()).map_or(time, |(_, ns)| real(*ns)).min(time);
    let high = above.or_else(|| stage.curve.last()).map_or(time, |(_, ns)| real(*ns)).max(time);
    let samples = usize::try_from(stage.percentiles.count).unwrap_or(usize::MAX);
    Interval { median: time, low: low * 0.99, high: high * 1.01, samples }
}

fn curve(report: &Report) -> impl Iterator<Item = Figure> {
    report.curve.iter().map(|point| Figure {
        group: format!("Lost of what was intended, {} flows", point.flows),
        name: format!("at {}", figures::pps(Some(point.intended_pps))),
        interval: point.loss_ratio,
        sound: point.loss_ratio.samples >= stats::SAMPLES_MIN,
        wanted: Wanted::Less,
        unit: figures::percent,
    })
}

fn costs(report: &Report) -> Vec<Figure> {
    let kind = |trial: &TrialRecord| match report.mode {
        Mode::Latency => trial.purpose.clone(),
        Mode::Curve => format!("{}, {} flows", trial.variant, trial.flows),
        Mode::Ndr | Mode::Compare | Mode::Burst => trial.variant.clone(),
    };
    let clean = || valid(report).filter(|trial| trial.handled > 0 && lost_total(&trial.lost) == 0);
    let mut kinds: Vec<String> = Vec::new();
    for name in clean().map(kind) {
        if !kinds.contains(&name) && kinds.len() < 24 {
            kinds.push(name);
        }
    }
    let parts: [(_, CostOf); 3] = [
        ("receiver", |trial| trial.cpu_ns_per_datagram.receiver),
        ("worker", |trial| trial.cpu_ns_per_datagram.worker),
        ("softirq", |trial| trial.cpu_ns_per_datagram.softirq),
    ];
    let mut figures = Vec::new();
    for name in kinds {
        for (part, of) in parts {
            let costs = clean().filter(|trial| kind(trial) == name).filter_map(of);
            let costs: Vec<f64> = costs.collect();
            let Some(found) = stats::median_interval(&costs, report.setting.seed) else { continue };
            figures.push(Figure {
                group: "CPU per datagram, trials without loss".to_owned(),
                name: format!("{name}, {part}"),
                interval: Interval {
                    median: found.value,
                    low: *found.interval.start(),
                    high: *found.interval.end(),
                    samples: found.samples,
                },
                sound: found.is_sound(),
                wanted: Wanted::Less,
                unit: cost,
            });
        }
    }
    figures
}
