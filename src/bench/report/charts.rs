//! Which charts a report has, and what is on them.

use crate::document::report::{LatencyRecord, Mode, Report, StageRecord};
use crate::document::trial::TrialRecord;
use crate::report::axis::Axis;
use crate::report::findings;
use crate::report::findings::{Account, flows, lost_total, stage_name};
use crate::report::plots::{Plot, Shape, Weight};
use crate::report::rows::{Mark, Row, Rows};
use crate::report::svg::{Caption, Layout, Role, Swatch, figure};
use crate::report::tables::{STEPS, place};
use ringest_base::text::figures;
use ringest_base::text::figures::{count, pps, real, share};

/// All charts there are figures for, by the section they belong to.
pub(crate) fn loss(report: &Report) -> String {
    match report.mode {
        Mode::Curve => curve(report),
        Mode::Ndr | Mode::Latency => search(report),
        Mode::Compare | Mode::Burst => String::new(),
    }
}

fn curve(report: &Report) -> String {
    if report.curve.is_empty() {
        return String::new();
    }
    let mut shapes = Vec::new();
    let mut legend = Vec::new();
    for (index, flows) in flows(report).into_iter().enumerate() {
        let role = Role::Series(index);
        legend.push((
            Swatch::Line,
            role,
            format!("{flows} flow{}", if flows == 1 { "" } else { "s" }),
        ));
        let mut points: Vec<_> = report.curve.iter().filter(|point| point.flows == flows).collect();
        points.sort_by(|a, b| a.intended_pps.total_cmp(&b.intended_pps));
        let line = points.iter().map(|point| (point.intended_pps, point.loss_ratio.median));
        shapes.push(Shape::Line(line.collect(), role, Weight::Light));
        shapes.extend(points.iter().map(|point| {
            let loss = &point.loss_ratio;
            Shape::Interval(point.intended_pps, [loss.low, loss.median, loss.high], role)
        }));
    }
    let rates: Vec<f64> = report.curve.iter().map(|point| point.intended_pps).collect();
    let losses = || report.curve.iter().map(|point| point.loss_ratio.high.min(1.0));
    let caption = Caption {
        id: "chart-loss",
        title: "Loss against rate.",
        says: "Lost of what was intended, unsent included; bars are bootstrap 95 % intervals. For \
               scale: Splunk Connect for Syslog publishes 0 % at 9,000/s and 51 % at 27,000/s for its \
               defaults with one sender, on hardware and with work per datagram that are not these.",
        legend,
    };
    figure(&caption, |layout| {
        Plot {
            x: Axis::rates(&rates, layout.pick(8, 4)),
            y: Axis::from_zero(losses(), 5, figures::percent_tick),
            titles: ("intended, datagrams a second", "lost"),
            shapes: &shapes,
        }
        .draw(layout)
    })
}

/// Lost of what was intended; as [`TrialRecord::loss_ratio`], for any counts.
fn loss_ratio(trial: &TrialRecord) -> f64 {
    real(lost_total(&trial.lost)) / real(trial.intended.max(1))
}

fn search(report: &Report) -> String {
    let rated: Vec<(f64, &TrialRecord)> = findings::valid(report)
        .filter_map(|trial| Some((trial.intended_pps.filter(|rate| rate.is_finite())?, trial)))
        .collect();
    if rated.is_empty() {
        return String::new();
    }
    let mut shapes: Vec<Shape> = [("NDR", report.ndr_pps), ("PDR", report.pdr_pps)]
        .into_iter()
        .filter_map(|(name, rate)| {
            let rate = rate.filter(|rate| rate.is_finite())?;
            Some(Shape::Mark(rate, format!("{name} {}", figures::whole(rate))))
        })
        .collect();
    let unsent = |trial: &TrialRecord| trial.lost.unsent > lost_total(&trial.lost) / 2;
    for (rate, trial) in &rated {
        let role = match (lost_total(&trial.lost), unsent(trial)) {
            (0, _) => Role::Kept,
            (_, false) => Role::Lost,
            (_, true) => Role::Muted,
        };
        shapes.push(Shape::Point(*rate, loss_ratio(trial), role, role == Role::Muted));
    }
    let mut legend = vec![
        (Swatch::Dot, Role::Kept, "nothing lost".to_owned()),
        (Swatch::Dot, Role::Lost, "lost on the way or by the receiver".to_owned()),
    ];
    if rated.iter().any(|(_, trial)| unsent(trial)) {
        legend.push((Swatch::Ring, Role::Muted, "mostly unsent: the generator's loss".to_owned()));
    }
    let rates: Vec<f64> = rated.iter().map(|(rate, _)| *rate).collect();
    let says = "One point per trial that counts. The scale of loss is logarithmic, with none at all at \
                the bottom; vertical lines are the rates found.";
    let caption = Caption { id: "chart-loss", title: "Loss against rate.", says, legend };
    figure(&caption, |layout| {
        Plot {
            x: Axis::rates(&rates, layout.pick(8, 4)),
            y: Axis::losses(rated.iter().map(|(_, trial)| loss_ratio(trial)), 7),
            titles: ("intended, datagrams a second", "lost"),
            shapes: &shapes,
        }
        .draw(layout)
    })
}

/// The ledger's first account, falling from what was intended to what was handled.
pub(crate) fn waterfall(report: &Report) -> String {
    let accounts = findings::accounts(report);
    let Some(account) = accounts.first() else { return String::new() };
    let rows = steps(account);
    let mut says = format!(
        "Of the {}: from what was due to what the handler got, and where the rest went.",
        account.title.strip_prefix("all ").unwrap_or(&account.title)
    );
    // A loss of some per mille would be a hair's breadth on an axis from 0.
    let lost = 1.0 - real(account.handled) / real(account.intended.max(1));
    let from = if lost > 0.0 && lost < 0.1 { 1.0 - lost * 1.25 } else { 0.0 };
    if from > 0.0 {
        says += " Little was lost, so the axis does not begin at 0 and the bars are cut off at the left.";
    }
    let caption =
        Caption { id: "chart-ledger", title: "The ledger.", says: &says, legend: Vec::new() };
    figure(&caption, |layout| {
        let axis = Axis::up_to_all(from, layout.pick(6, 3));
        Rows { rows: &rows, axis, axis_title: Some("of what was intended") }.draw(layout)
    })
}

fn steps(account: &Account) -> Vec<Row> {
    let whole = account.intended;
    let part = |number: u64| real(number) / real(whole.max(1));
    let row = |name: &str, number: u64, marks: Vec<Mark>| {
        let figure = format!("{} ({})", count(number), share(number, whole)).replace(" ()", "");
        Row { name: name.to_owned(), figure, marks }
    };
    let mut rows = vec![row("intended", whole, vec![Mark::Bar(0.0, part(whole), Role::Whole)])];
    let mut left = whole;
    for step in STEPS {
        for at in step.places {
            let (name, lost) = account.lost.lines()[*at];
            if lost > 0 {
                let after = left.saturating_sub(lost);
                let bar = Mark::Bar(part(after), part(left), Role::Lost);
                rows.push(row(&format!("− {}", place(name)), lost, vec![bar]));
                left = after;
            }
        }
        let kept = (step.count)(account);
        let role = if step.left == "handled" { Role::Kept } else { Role::Whole };
        let marks = if kept > 0 { vec![Mark::Bar(0.0, part(kept), role)] } else { Vec::new() };
        rows.push(row(step.left, kept, marks));
        left = kept;
    }
    rows
}

/// Where time went, one chart per load.
pub(crate) fn latency(report: &Report) -> String {
    // One scale for all, so that loads can be compared by eye.
    let stages = report.latencies.iter().flat_map(|record| &record.stages);
    let times: Vec<f64> = stages.flat_map(curve_of).map(|(_, time)| time).collect();
    let records = report.latencies.iter().enumerate();
    records.map(|(index, record)| at_load(index, record, &times)).collect()
}

/// A stage's distribution as points. The last percentile is 100, the slowest of all: it has no place
/// among nines.
fn curve_of(stage: &StageRecord) -> impl Iterator<Item = (f64, f64)> {
    let tail = stage.curve.iter().filter(|(percentile, _)| (0.0..100.0).contains(percentile));
    tail.map(|(percentile, time)| (*percentile, real(*time)))
}

fn at_load(index: usize, record: &LatencyRecord, times: &[f64]) -> String {
    let mut shapes = Vec::new();
    let mut legend = Vec::new();
    for (index, stage) in record.stages.iter().enumerate() {
        let points: Vec<(f64, f64)> = curve_of(stage).collect();
        if points.is_empty() {
            continue;
        }
        let role = Role::Series(index);
        let whole = stage.name.starts_with("one_way") || stage.name.starts_with("rtt");
        let weight = if whole { Weight::Heavy } else { Weight::Light };
        legend.push((Swatch::Line, role, stage_name(&stage.name)));
        shapes.push(Shape::Line(points, role, weight));
    }
    if shapes.is_empty() {
        return String::new();
    }
    let most = record.stages.iter().flat_map(curve_of).map(|(at, _)| at).fold(99.0, f64::max);
    let title = format!(
        "Latency at {} of NDR, {}.",
        findings::load(record.load),
        pps(Some(record.rate_pps))
    );
    let id = format!("chart-latency-{}", index + 1);
    let says = "By percentile, both scales logarithmic: each further nine of the tail takes the same \
                width.";
    let caption = Caption { id: &id, title: &title, says, legend };
    figure(&caption, |layout| {
        Plot {
            x: Axis::percentiles(most),
            y: Axis::times(times.iter().copied(), 9),
            titles: ("percentile", "time"),
            shapes: &shapes,
        }
        .draw(layout)
    })
}

/// CPU per datagram, stacked by who spent it.
pub(crate) fn costs(report: &Report) -> String {
    let costs = findings::costs(report);
    let named = [("receiver", 0), ("worker", 1), ("softirq", 2)];
    let parts = |cost: &findings::Cost| [cost.receiver, cost.worker, cost.softirq];
    let rows: Vec<Row> = costs
        .iter()
        .map(|cost| {
            let mut from = 0.0;
            let mut marks = Vec::new();
            for (index, part) in parts(cost).into_iter().enumerate() {
                let part = part.filter(|part| part.is_finite() && *part > 0.0).unwrap_or(0.0);
                if part > 0.0 {
                    marks.push(Mark::Bar(from, from + part, Role::Series(index)));
                }
                from += part;
            }
            Row { name: cost.name.clone(), figure: figures::cost(Some(from)), marks }
        })
        .collect();
    if rows.iter().all(|row| row.marks.is_empty()) {
        return String::new();
    }
    let shown = |index: usize| costs.iter().any(|cost| parts(cost)[index].is_some_and(|c| c > 0.0));
    let legend = named.into_iter().filter(|(_, index)| shown(*index));
    let caption = Caption {
        id: "chart-costs",
        title: "CPU time per datagram.",
        says: "Stacked by who spent it. Softirq is of all cores of the receiving host.",
        legend: legend
            .map(|(name, index)| (Swatch::Bar, Role::Series(index), name.to_owned()))
            .collect(),
    };
    let ends = rows.iter().flat_map(|row| &row.marks).map(|mark| match mark {
        Mark::Bar(_, to, _) | Mark::Span(_, to, _) | Mark::Dot(to, _) => *to,
    });
    let ends: Vec<f64> = ends.collect();
    figure(&caption, |layout| {
        let axis = Axis::from_zero(ends.iter().copied(), layout.pick(8, 5), figures::plain);
        Rows { rows: &rows, axis, axis_title: Some("ns per datagram") }.draw(layout)
    })
}

/// What the receiving thread spends with each variant, with how far it can be trusted.
pub(crate) fn compare(report: &Report) -> String {
    let measured = report.variants.iter().filter_map(|variant| {
        let cost = variant.receiver_ns.filter(|cost| cost.median.is_finite())?;
        let role = match (variant.reference, variant.verdict.as_deref()) {
            (true, _) => Role::Ink,
            (_, Some("cheaper")) => Role::Kept,
            (_, Some("dearer")) => Role::Lost,
            _ => Role::Muted,
        };
        let marks = vec![Mark::Span(cost.low, cost.high, role), Mark::Dot(cost.median, role)];
        Some(Row { name: variant.name.clone(), figure: figures::cost(Some(cost.median)), marks })
    });
    let rows: Vec<Row> = measured.collect();
    if rows.is_empty() {
        return String::new();
    }
    let high =
        report.variants.iter().filter_map(|variant| variant.receiver_ns).map(|cost| cost.high);
    let caption = Caption {
        id: "chart-compare",
        title: "CPU time of the receiving thread per datagram.",
        says: "Medians with bootstrap 95 % intervals.",
        legend: vec![
            (Swatch::Dot, Role::Ink, "the reference".to_owned()),
            (Swatch::Dot, Role::Kept, "cheaper".to_owned()),
            (Swatch::Dot, Role::Lost, "dearer".to_owned()),
            (Swatch::Dot, Role::Muted, "no difference shown".to_owned()),
        ],
    };
    figure(&caption, |layout: Layout| {
        let axis = Axis::from_zero(high.clone(), layout.pick(8, 5), figures::plain);
        Rows { rows: &rows, axis, axis_title: Some("ns per datagram") }.draw(layout)
    })
}

/// Each repetition's longest burst, with the median and its interval.
pub(crate) fn burst(report: &Report) -> String {
    let Some(burst) = report.burst.as_ref().filter(|burst| !burst.repetitions.is_empty()) else {
        return String::new();
    };
    let found = &burst.longest;
    let mut shapes = vec![
        Shape::Level(found.median, Role::Ink),
        Shape::Level(found.low, Role::Muted),
        Shape::Level(found.high, Role::Muted),
    ];
    let repetitions = || (1u32..).map(f64::from).zip(burst.repetitions.iter().map(|n| real(*n)));
    shapes.extend(repetitions().map(|(at, longest)| Shape::Point(at, longest, Role::Kept, false)));
    let caption = Caption {
        id: "chart-burst",
        title: "Longest burst without loss.",
        says: "One point per repetition; lines are the median and its bootstrap 95 % interval.",
        legend: vec![
            (Swatch::Dot, Role::Kept, "repetition".to_owned()),
            (Swatch::Line, Role::Ink, "median".to_owned()),
            (Swatch::Line, Role::Muted, "95 % interval".to_owned()),
        ],
    };
    let values = || repetitions().map(|(_, longest)| longest).chain([found.high]);
    figure(&caption, |layout| {
        Plot {
            x: Axis::positions(burst.repetitions.len(), layout.pick(20, 8)),
            y: Axis::from_zero(values(), 5, figures::plain),
            titles: ("repetition", "datagrams"),
            shapes: &shapes,
        }
        .draw(layout)
    })
}
