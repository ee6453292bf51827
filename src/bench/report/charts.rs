//! The charts of a report: which there are in each mode, and the marks on them. A chart without figures
//! is empty markup.

use maud::{Markup, html};

use crate::document::report::{LatencyRecord, Mode, Report, StageRecord};
use crate::document::trial::TrialRecord;
use crate::report::axis::Axis;
use crate::report::chart::{Chart, Mark, Role, Side, Swatch};
use crate::report::findings::{self, LossAccount, flows, lost_total, stage_name};
use crate::report::tables::{STEPS, place};
use ringest_base::text::figures::{self, count, pps, real, share};

/// Draws loss against rate, for the modes that vary the rate.
pub(crate) fn loss(report: &Report) -> Markup {
    match report.mode {
        Mode::Curve => curve(report),
        Mode::Ndr | Mode::Latency => search(report),
        Mode::Compare | Mode::Burst => html! {},
    }
}

const RATE: &str = "intended, datagrams a second";

fn curve(report: &Report) -> Markup {
    if report.curve.is_empty() {
        return html! {};
    }
    let (mut marks, mut key) = (Vec::new(), Vec::new());
    for (index, flows) in flows(report).into_iter().enumerate() {
        let role = Role::Series(index);
        let plural = if flows == 1 { "" } else { "s" };
        key.push((Swatch::Line, role, format!("{flows} flow{plural}")));
        let mut points: Vec<_> = report.curve.iter().filter(|point| point.flows == flows).collect();
        points.sort_by(|a, b| a.intended_pps.total_cmp(&b.intended_pps));
        let line = points.iter().map(|point| (point.intended_pps, point.loss_ratio.median));
        marks.push(Mark::Line(line.collect(), role, 2));
        for point in points {
            let (x, loss) = (point.intended_pps, &point.loss_ratio);
            marks.push(Mark::Range([(x, loss.low), (x, loss.high)], role));
            marks.push(Mark::Dot((x, loss.median), role));
        }
    }
    let rates: Vec<f64> = report.curve.iter().map(|point| point.intended_pps).collect();
    let losses = report.curve.iter().map(|point| point.loss_ratio.high.min(1.0));
    Chart {
        id: "chart-loss",
        title: "Loss against rate.",
        says: "Lost of what was intended, unsent included; bars are bootstrap 95 % intervals. For \
               scale: Splunk Connect for Syslog publishes 0 % at 9,000/s and 51 % at 27,000/s for its \
               defaults with one sender, on other hardware and with other work per datagram.",
        key,
        x: Axis::rates(&rates, 8).titled(RATE),
        y: Side::Values(Axis::from_zero(losses, 5, figures::percent_tick).titled("lost")),
        marks,
    }
    .figure()
}

/// Returns the lost part of the intended datagrams; unlike [`TrialRecord::loss_ratio`] for counts of any
/// size.
fn loss_ratio(trial: &TrialRecord) -> f64 {
    real(lost_total(&trial.lost)) / real(trial.intended.max(1))
}

fn search(report: &Report) -> Markup {
    let rated: Vec<(f64, &TrialRecord)> = findings::valid(report)
        .filter_map(|trial| Some((trial.intended_pps.filter(|rate| rate.is_finite())?, trial)))
        .collect();
    if rated.is_empty() {
        return html! {};
    }
    let found = [("NDR", report.ndr_pps), ("PDR", report.pdr_pps)].into_iter();
    let found =
        found.filter_map(|(name, rate)| Some((name, rate.filter(|rate| rate.is_finite())?)));
    let limit = |(name, rate)| Mark::Limit(rate, format!("{name} {}", figures::whole(rate)));
    let mut marks: Vec<Mark> = found.map(limit).collect();
    let unsent = |trial: &TrialRecord| trial.lost.unsent > lost_total(&trial.lost) / 2;
    for (rate, trial) in &rated {
        let at = (*rate, loss_ratio(trial));
        marks.push(match (lost_total(&trial.lost), unsent(trial)) {
            (0, _) => Mark::Dot(at, Role::Kept),
            (_, false) => Mark::Dot(at, Role::Lost),
            (_, true) => Mark::Ring(at, Role::Muted),
        });
    }
    let mut key = vec![
        (Swatch::Dot, Role::Kept, "nothing lost".to_owned()),
        (Swatch::Dot, Role::Lost, "lost on the way or by the receiver".to_owned()),
    ];
    if rated.iter().any(|(_, trial)| unsent(trial)) {
        key.push((Swatch::Ring, Role::Muted, "mostly unsent: the generator's loss".to_owned()));
    }
    let rates: Vec<f64> = rated.iter().map(|(rate, _)| *rate).collect();
    let losses = rated.iter().map(|(_, trial)| loss_ratio(trial));
    Chart {
        id: "chart-loss",
        title: "Loss against rate.",
        says: "One point per trial that counts. The scale of loss is logarithmic, with none at all at \
               the bottom; vertical lines are the rates found.",
        key,
        x: Axis::rates(&rates, 8).titled(RATE),
        y: Side::Values(Axis::losses(losses, 7).titled("lost")),
        marks,
    }
    .figure()
}

/// Draws the first account of the ledger, from the intended datagrams down to the handled ones.
pub(crate) fn waterfall(report: &Report) -> Markup {
    let accounts = findings::accounts(report);
    let Some(account) = accounts.first() else { return html! {} };
    let (rows, marks) = steps(account);
    let mut says = format!(
        "Of the {}: from what was due to what the handler got, and where the rest went.",
        account.title.strip_prefix("all ").unwrap_or(&account.title)
    );
    // On an axis from 0 a loss of a few per mille would be too narrow to see.
    let lost = 1.0 - real(account.handled) / real(account.intended.max(1));
    let from = if lost > 0.0 && lost < 0.1 { 1.0 - lost * 1.25 } else { 0.0 };
    if from > 0.0 {
        says += " Little was lost, so the axis does not begin at 0 and the bars are cut off at the left.";
    }
    Chart {
        id: "chart-ledger",
        title: "The ledger.",
        says: &says,
        key: Vec::new(),
        x: Axis::up_to_all(from, 6).titled("of what was intended"),
        y: Side::Rows(rows),
        marks,
    }
    .figure()
}

/// Returns a row for each count that remains and for each loss, and their bars.
fn steps(account: &LossAccount) -> (Vec<(String, String)>, Vec<Mark>) {
    let whole = account.intended;
    let (mut rows, mut marks) = (Vec::new(), Vec::new());
    let mut row = |name: String, number: u64, (from, to): (u64, u64), role| {
        let part = |number: u64| real(number) / real(whole.max(1));
        if to > 0 {
            let row = u32::try_from(rows.len()).unwrap_or(u32::MAX);
            marks.push(Mark::Bar([part(from), part(to)], f64::from(row), role));
        }
        rows.push((
            name,
            format!("{} ({})", count(number), share(number, whole)).replace(" ()", ""),
        ));
    };
    row("intended".to_owned(), whole, (0, whole), Role::Whole);
    let mut left = whole;
    for step in STEPS {
        for at in step.places {
            let (name, lost) = account.lost.lines()[*at];
            if lost > 0 {
                let after = left.saturating_sub(lost);
                row(format!("− {}", place(name)), lost, (after, left), Role::Lost);
                left = after;
            }
        }
        left = (step.count)(account);
        let role = if step.left == "handled" { Role::Kept } else { Role::Whole };
        row(step.left.to_owned(), left, (0, left), role);
    }
    (rows, marks)
}

/// Draws latency by percentile, one chart a load. All have the same scale, so that they can be compared.
pub(crate) fn latency(report: &Report) -> Markup {
    let stages = report.latencies.iter().flat_map(|record| &record.stages);
    let times: Vec<f64> = stages.flat_map(curve_of).map(|(_, time)| time).collect();
    html! {
        @for (record, number) in report.latencies.iter().zip(1..) { (at_load(number, record, &times)) }
    }
}

/// Returns the distribution of a stage as points, without percentile 100, which has no place among
/// nines.
fn curve_of(stage: &StageRecord) -> impl Iterator<Item = (f64, f64)> {
    let tail = stage.curve.iter().filter(|(percentile, _)| (0.0..100.0).contains(percentile));
    tail.map(|(percentile, time)| (*percentile, real(*time)))
}

fn at_load(number: usize, record: &LatencyRecord, times: &[f64]) -> Markup {
    let (mut marks, mut key) = (Vec::new(), Vec::new());
    for (index, stage) in record.stages.iter().enumerate() {
        let points: Vec<(f64, f64)> = curve_of(stage).collect();
        if points.is_empty() {
            continue;
        }
        let whole = stage.name.starts_with("one_way") || stage.name.starts_with("rtt");
        key.push((Swatch::Line, Role::Series(index), stage_name(&stage.name)));
        marks.push(Mark::Line(points, Role::Series(index), if whole { 3 } else { 2 }));
    }
    if marks.is_empty() {
        return html! {};
    }
    let most = record.stages.iter().flat_map(curve_of).map(|(at, _)| at).fold(99.0, f64::max);
    let rate = pps(Some(record.rate_pps));
    Chart {
        id: &format!("chart-latency-{number}"),
        title: &format!("Latency at {} of NDR, {rate}.", findings::load(record.load)),
        says: "By percentile, both scales logarithmic: each further nine of the tail takes the same \
               width.",
        key,
        x: Axis::percentiles(most).titled("percentile"),
        y: Side::Values(Axis::times(times.iter().copied(), 9).titled("time")),
        marks,
    }
    .figure()
}

/// Draws CPU time per datagram, stacked by the thread or context that spent it.
pub(crate) fn costs(report: &Report) -> Markup {
    let costs = findings::costs(report);
    let (mut rows, mut marks, mut ends) = (Vec::new(), Vec::new(), Vec::new());
    let mut shown = [false; 3];
    for (row, cost) in (0u32..).zip(&costs) {
        let mut from = 0.0;
        for (index, part) in [cost.receiver, cost.worker, cost.softirq].into_iter().enumerate() {
            let Some(part) = part.filter(|part| part.is_finite() && *part > 0.0) else { continue };
            marks.push(Mark::Bar([from, from + part], f64::from(row), Role::Series(index)));
            from += part;
            shown[index] = true;
        }
        ends.push(from);
        rows.push((cost.name.clone(), figures::cost(Some(from))));
    }
    if marks.is_empty() {
        return html! {};
    }
    let key =
        ["receiver", "worker", "softirq"].into_iter().enumerate().filter(|(at, _)| shown[*at]);
    Chart {
        id: "chart-costs",
        title: "CPU time per datagram.",
        says: "Stacked by who spent it. Softirq is of all cores of the receiving host.",
        key: key.map(|(at, name)| (Swatch::Bar, Role::Series(at), name.to_owned())).collect(),
        x: Axis::from_zero(ends, 8, figures::plain).titled("ns per datagram"),
        y: Side::Rows(rows),
        marks,
    }
    .figure()
}

/// Draws the CPU time of the receiving thread with each variant, with its interval.
pub(crate) fn compare(report: &Report) -> Markup {
    let (mut rows, mut marks, mut ends) = (Vec::new(), Vec::new(), Vec::new());
    let measured =
        report.variants.iter().filter_map(|variant| Some((variant, variant.receiver_ns?)));
    for (row, (variant, cost)) in
        (0u32..).map(f64::from).zip(measured.filter(|(_, cost)| cost.median.is_finite()))
    {
        let role = match (variant.reference, variant.verdict.as_deref()) {
            (true, _) => Role::Ink,
            (_, Some("cheaper")) => Role::Kept,
            (_, Some("dearer")) => Role::Lost,
            _ => Role::Muted,
        };
        marks.push(Mark::Range([(cost.low, row), (cost.high, row)], role));
        marks.push(Mark::Dot((cost.median, row), role));
        ends.push(cost.high);
        rows.push((variant.name.clone(), figures::cost(Some(cost.median))));
    }
    if rows.is_empty() {
        return html! {};
    }
    let key = [
        (Role::Ink, "the reference"),
        (Role::Kept, "cheaper"),
        (Role::Lost, "dearer"),
        (Role::Muted, "no difference shown"),
    ];
    Chart {
        id: "chart-compare",
        title: "CPU time of the receiving thread per datagram.",
        says: "Medians with bootstrap 95 % intervals.",
        key: key.map(|(role, name)| (Swatch::Dot, role, name.to_owned())).into(),
        x: Axis::from_zero(ends, 8, figures::plain).titled("ns per datagram"),
        y: Side::Rows(rows),
        marks,
    }
    .figure()
}

/// Draws the longest burst of each repetition, with the median and its interval.
pub(crate) fn burst(report: &Report) -> Markup {
    let Some(burst) = report.burst.as_ref().filter(|burst| !burst.repetitions.is_empty()) else {
        return html! {};
    };
    let found = &burst.longest;
    let bursts: Vec<f64> = burst.repetitions.iter().map(|longest| real(*longest)).collect();
    let lines = [(found.median, Role::Ink), (found.low, Role::Muted), (found.high, Role::Muted)];
    let lines = lines.into_iter().map(|(y, role)| Mark::Level(y, role));
    let dots = (1u32..).map(f64::from).zip(&bursts);
    let dots = dots.map(|(at, longest)| Mark::Dot((at, *longest), Role::Kept));
    Chart {
        id: "chart-burst",
        title: "Longest burst without loss.",
        says: "One point per repetition; lines are the median and its bootstrap 95 % interval.",
        key: vec![
            (Swatch::Dot, Role::Kept, "repetition".to_owned()),
            (Swatch::Line, Role::Ink, "median".to_owned()),
            (Swatch::Line, Role::Muted, "95 % interval".to_owned()),
        ],
        x: Axis::positions(bursts.len(), 20).titled("repetition"),
        y: {
            let values = bursts.iter().copied().chain([found.high]);
            Side::Values(Axis::from_zero(values, 5, figures::plain).titled("datagrams"))
        },
        marks: lines.chain(dots).collect(),
    }
    .figure()
}
