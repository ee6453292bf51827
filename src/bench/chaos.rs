//! Whatever the figures are, there is a page, and every coordinate on it is a number within its
//! chart. A report may come from another host, and a division by nothing from this one.

use proptest::prelude::*;

use crate::diff::diff;
use crate::document::report::{Interval, Report};
use crate::document::trial::PercentilesRecord;
use crate::report::{page, sample, tables};

fn numbers() -> impl Strategy<Value = Vec<f64>> {
    let special = [0.0, -0.0, -1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, 1e-300];
    let number = prop_oneof![
        proptest::sample::select(special.to_vec()),
        proptest::num::f64::ANY,
        0.0..1.0,
        1.0..1e7
    ];
    proptest::collection::vec(number, 1..40)
}

fn counts() -> impl Strategy<Value = Vec<u64>> {
    let count = prop_oneof![Just(0), Just(1), Just(u64::MAX), any::<u64>(), 0u64..100_000];
    proptest::collection::vec(count, 1..40)
}

/// Every figure of `report` replaced, in turn, by those given.
fn replace(report: &mut Report, numbers: &[f64], counts: &[u64]) {
    let mut numbers = numbers.iter().copied().cycle();
    let mut number = move || numbers.next().unwrap();
    let mut counts = counts.iter().copied().cycle();
    let mut count = move || counts.next().unwrap();
    report.ndr_pps = Some(number());
    report.pdr_pps = Some(number());
    report.started_at_unix_s = count();
    report.setting.trial_s = number();
    for goal in &mut report.goals {
        goal.lower_pps = Some(number());
        goal.upper_pps = Some(number());
        goal.throughput_pps = Some(number());
        goal.loss_ratio = number();
        goal.exceed_ratio = number();
        goal.relative_width = number();
    }
    let mut interval = || Interval { median: number(), low: number(), high: number(), samples: 7 };
    for variant in &mut report.variants {
        variant.receiver_ns = Some(interval());
        variant.worker_ns = Some(interval());
        variant.host_ns = Some(interval());
        variant.received_pps = Some(interval());
        variant.loss_ratio = Some(interval());
        variant.ratio = Some(interval());
    }
    if let Some(burst) = &mut report.burst {
        burst.longest = interval();
        burst.bytes_per_datagram = Some(interval().low);
        burst.repetitions.iter_mut().for_each(|repetition| *repetition = count());
    }
    for point in &mut report.curve {
        point.loss_ratio = interval();
        point.receiver_loss_ratio = interval();
        point.intended_pps = interval().median;
    }
    for latency in &mut report.latencies {
        latency.load = interval().low;
        latency.rate_pps = interval().low;
        for stage in &mut latency.stages {
            stage.percentiles = percentiles(&mut count);
            for (percentile, time) in &mut stage.curve {
                (*percentile, *time) = (interval().low, count());
            }
        }
    }
    for trial in &mut report.trials {
        trial.intended_pps = Some(interval().low);
        trial.duration_s = interval().low;
        trial.handled_pps = interval().low;
        trial.cpu_ns_per_datagram.receiver = Some(interval().low);
        trial.cpu_ns_per_datagram.worker = Some(interval().low);
        trial.cpu_ns_per_datagram.softirq = Some(interval().low);
        trial.lateness_ns = percentiles(&mut count);
        for part in [&mut trial.intended, &mut trial.unsent, &mut trial.sent, &mut trial.received] {
            *part = count();
        }
        for part in [&mut trial.handled, &mut trial.lost.unsent, &mut trial.lost.socket] {
            *part = count();
        }
        for part in [&mut trial.lost.queue, &mut trial.lost.nic, &mut trial.lost.unread] {
            *part = count();
        }
    }
}

fn percentiles(count: &mut impl FnMut() -> u64) -> PercentilesRecord {
    PercentilesRecord {
        count: count(),
        p50: count(),
        p90: count(),
        p99: count(),
        p999: count(),
        max: count(),
    }
}

/// The first attribute of a drawing that is no number within it.
fn stray_coordinate(page: &str) -> Option<String> {
    let names = ["x", "y", "x1", "y1", "x2", "y2", "cx", "cy", "r", "width", "height", "points"];
    let drawings =
        page.split("<svg class=\"chart").skip(1).filter_map(|rest| rest.split("</svg>").next());
    for drawing in drawings {
        let (_, view) = drawing.split_once("viewBox=\"0 0 ")?;
        let view: Vec<f64> = view.split('"').next()?.split(' ').flat_map(str::parse).collect();
        for name in names {
            for value in drawing.split(&format!(" {name}=\"")).skip(1) {
                let value = value.split('"').next().unwrap_or_default();
                let within = |number: &str| {
                    number
                        .parse()
                        .is_ok_and(|n: f64| (-20.0..view[0].max(view[1]) + 20.0).contains(&n))
                };
                if !value.split([' ', ',']).filter(|number| !number.is_empty()).all(within) {
                    return Some(format!("{name}=\"{value}\""));
                }
            }
        }
    }
    None
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_figures_make_a_page_with_coordinates_that_are_numbers(
        numbers in numbers(), counts in counts(), mode in 0..sample::CHARTS.len(),
    ) {
        let mut report = sample::report(sample::CHARTS[mode].0);
        replace(&mut report, &numbers, &counts);
        let page = page(&report);
        prop_assert!(!page.contains("NaN"));
        prop_assert_eq!(stray_coordinate(&page), None);
        let _ = tables::all(&report);
        let diff = diff(&sample::report(report.mode), &report).unwrap();
        let _ = diff.tables(true);
    }
}

#[test]
fn a_stray_coordinate_is_found() {
    let chart =
        "<svg class=\"chart wide\" viewBox=\"0 0 880 360\"><circle cx=\"4\" cy=\"NaN\"/></svg>";
    assert_eq!(stray_coordinate(chart), Some("cy=\"NaN\"".to_owned()));
    assert_eq!(stray_coordinate(&chart.replace("NaN", "5000")), Some("cy=\"5000\"".to_owned()));
    assert_eq!(stray_coordinate(&chart.replace("NaN", "50")), None);
}
