//! The JSON object of a load.

use hdrhistogram::Histogram;
use ringest_load::replay::Skipped;
use ringest_load::report::{LoadReport, percentiles};
use ringest_load::spec::{LoadSpec, Replay};
use serde::{Deserialize, Serialize};

use crate::cli::failure::Failure;
use crate::cli::show::json;

/// The JSON object of `--json`. Its keys are a contract with scripts: they stay, and new keys may be added at the end
/// of each object.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct LoadObject {
    pub(crate) version: u32,
    pub(crate) intended: u64,
    pub(crate) sent: u64,
    pub(crate) unsent: u64,
    /// Datagrams that this host refused, `qdisc_dropped` included.
    pub(crate) send_failed: u64,
    pub(crate) elapsed_s: f64,
    pub(crate) rate_pps: f64,
    pub(crate) lateness_ns: Late,
    #[serde(skip_serializing_if = "Option::is_none")]
    rtt_ns: Option<RoundTrips>,
    #[serde(skip_serializing_if = "Option::is_none")]
    received: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lost: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reordered: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    duplicates: Option<u64>,
    /// Datagrams of `send_failed` that the queueing discipline dropped.
    qdisc_dropped: u64,
    /// Datagrams that found the send buffer full and were sent later.
    blocked: u64,
    /// ICMP errors that came back.
    unreachable: u64,
    backend: String,
    /// Lateness by powers of ten: (upper bound in ns, datagrams). Bounds without datagrams are left out.
    lateness_histogram: Vec<(u64, u64)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    capture: Option<CaptureFacts>,
}

/// The recording that was replayed.
#[derive(Debug, Deserialize, Serialize)]
struct CaptureFacts {
    file: String,
    /// Datagrams that can be replayed.
    datagrams: u64,
    /// Different senders.
    flows: usize,
    /// Source ports they were sent from.
    sent_from: usize,
    /// Datagrams with an earlier time than one before them; they are sent together with that one.
    backwards: u64,
    skipped: SkippedFacts,
}

/// Packets of the recording that are not replayed, by reason.
#[derive(Debug, Deserialize, Serialize)]
struct SkippedFacts {
    not_ip: u64,
    not_udp: u64,
    fragments: u64,
    truncated: u64,
    malformed: u64,
    oversize: u64,
    link_unsupported: u64,
    damaged: u64,
}

impl From<Skipped> for SkippedFacts {
    fn from(skipped: Skipped) -> Self {
        Self {
            not_ip: skipped.not_ip,
            not_udp: skipped.not_udp,
            fragments: skipped.fragments,
            truncated: skipped.truncated,
            malformed: skipped.malformed,
            oversize: skipped.oversize,
            link_unsupported: skipped.link_unsupported,
            damaged: skipped.damaged,
        }
    }
}

fn capture_facts(spec: &LoadSpec, replay: &Replay) -> CaptureFacts {
    CaptureFacts {
        file: replay.recording.to_string(),
        datagrams: replay.survey.datagrams,
        flows: replay.survey.flows,
        sent_from: spec.flows,
        backwards: replay.survey.backwards,
        skipped: replay.survey.skipped.into(),
    }
}

#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Late {
    p50: u64,
    p99: u64,
    max: u64,
}

#[derive(Debug, Deserialize, Serialize)]
struct RoundTrips {
    from_intended: Option<Trip>,
    from_actual: Option<Trip>,
}

#[derive(Debug, Deserialize, Serialize)]
struct Trip {
    p50: u64,
    p90: u64,
    p99: u64,
    p999: u64,
    max: u64,
}

fn trip(histogram: &Histogram<u64>) -> Option<Trip> {
    let found = percentiles(histogram);
    (!histogram.is_empty()).then_some(Trip {
        p50: found.p50,
        p90: found.p90,
        p99: found.p99,
        p999: found.p999,
        max: found.max,
    })
}

fn object(spec: &LoadSpec, report: &LoadReport) -> LoadObject {
    let late = percentiles(&report.lateness_ns);
    let echo = report.echo.as_ref();
    LoadObject {
        version: 1,
        intended: report.intended,
        sent: report.sent,
        unsent: report.unsent,
        send_failed: report.send_failed + report.qdisc_dropped,
        elapsed_s: report.elapsed_ns as f64 / 1e9,
        rate_pps: (report.rate_pps() * 10.0).round() / 10.0,
        lateness_ns: Late { p50: late.p50, p99: late.p99, max: late.max },
        rtt_ns: echo.map(|echo| RoundTrips {
            from_intended: trip(&echo.from_intended_ns),
            from_actual: trip(&echo.from_actual_ns),
        }),
        received: echo.map(|echo| echo.received),
        lost: echo.map(|echo| echo.lost),
        reordered: echo.map(|echo| echo.reordered),
        duplicates: echo.map(|echo| echo.duplicates),
        qdisc_dropped: report.qdisc_dropped,
        blocked: report.blocked,
        unreachable: report.unreachable,
        backend: report.backend.to_owned(),
        lateness_histogram: decades(&report.lateness_ns),
        capture: spec.replay.as_ref().map(|replay| capture_facts(spec, replay)),
    }
}

pub(crate) fn print_json(spec: &LoadSpec, report: &LoadReport) -> Result<(), Failure> {
    json::print_line(&object(spec, report))
}

/// Counts values by powers of ten: (upper bound in ns, how many values are above the bound before and up to this
/// one). Bounds run from 1 us to 10000 s; those without values are left out.
pub(crate) fn decades(histogram: &Histogram<u64>) -> Vec<(u64, u64)> {
    let mut counted: Vec<(u64, u64)> = (3..=13).map(|power| (10_u64.pow(power), 0)).collect();
    for step in histogram.iter_recorded() {
        let value = step.value_iterated_to();
        if let Some((_, times)) = counted.iter_mut().find(|(most, _)| value <= *most) {
            *times += step.count_at_value();
        }
    }
    counted.retain(|(_, times)| *times > 0);
    counted
}

#[cfg(test)]
pub(crate) mod tests {
    use ringest_load::report::EchoReport;

    use super::*;

    pub(crate) fn spec() -> LoadSpec {
        LoadSpec::new("127.0.0.1:9".parse().unwrap())
    }

    pub(crate) fn report() -> LoadReport {
        let mut report = LoadReport::empty(1, "io_uring");
        (report.intended, report.sent, report.unsent) = (100, 90, 7);
        (report.qdisc_dropped, report.send_failed) = (2, 1);
        report.elapsed_ns = 1_000_000_000;
        report.lateness_ns.saturating_record_n(1000, 90);
        report
    }

    /// The contract, word for word.
    #[test]
    fn keys_and_their_order_are_the_contract() {
        let text = serde_json::to_string(&object(&spec(), &report())).unwrap();
        assert!(
            text.starts_with(concat!(
                r#"{"version":1,"intended":100,"sent":90,"unsent":7,"send_failed":3,"#,
                r#""elapsed_s":1.0,"rate_pps":90.0,"lateness_ns":{"p50":1000,"p99":1000,"max":1000},"#
            )),
            "{text}"
        );
        let mut report = report();
        report.echo = Some(EchoReport {
            received: 80,
            lost: 10,
            reordered: 2,
            duplicates: 1,
            foreign: 0,
            from_intended_ns: report.lateness_ns.clone(),
            from_actual_ns: ringest_load::report::histogram(),
        });
        let text = serde_json::to_string(&object(&spec(), &report)).unwrap();
        assert!(
            text.contains(concat!(
                r#""rtt_ns":{"from_intended":{"p50":1000,"p90":1000,"p99":1000,"p999":1000,"#,
                r#""max":1000},"from_actual":null},"received":80,"lost":10,"reordered":2,"#,
                r#""duplicates":1"#
            )),
            "{text}"
        );
    }

    #[test]
    fn lateness_is_a_histogram_that_misses_nothing() {
        let mut histogram = ringest_load::report::histogram();
        for (value, times) in [(1, 5), (1000, 2), (1500, 3), (3_000_000_000, 1)] {
            histogram.saturating_record_n(value, times);
        }
        assert_eq!(decades(&histogram), [(1000, 7), (10_000, 3), (10_000_000_000, 1)]);
        assert_eq!(decades(&ringest_load::report::histogram()), []);
    }
}
