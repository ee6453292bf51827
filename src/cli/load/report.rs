//! What a load came to: for a person, and as JSON.

use std::io;
use std::time::Duration;

use hdrhistogram::Histogram;
use ringest_load::replay::{Recording, Skipped};
use ringest_load::report::{EchoReport, LoadReport, percentiles};
use ringest_load::spec::{LoadSpec, Pattern, Replay, Sizes};
use serde::{Deserialize, Serialize};

use crate::cli::failure::Failure;
use crate::cli::show::json;
use crate::cli::show::paint::{self, Paint, count};

/// The contract with scripts: its keys stay, others may be added at the end of each object.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Document {
    pub(crate) version: u32,
    pub(crate) intended: u64,
    pub(crate) sent: u64,
    pub(crate) unsent: u64,
    /// The queueing discipline's drops included.
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
    /// Of `send_failed`, by the queueing discipline.
    qdisc_dropped: u64,
    /// Found the send buffer full, and left later.
    blocked: u64,
    /// ICMP errors that came back.
    unreachable: u64,
    backend: String,
    /// How many were sent how late: (at most so many ns, datagrams), by powers of ten, empty ones left
    /// out.
    lateness_histogram: Vec<(u64, u64)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    capture: Option<CaptureFacts>,
}

/// What was replayed.
#[derive(Debug, Deserialize, Serialize)]
struct CaptureFacts {
    file: String,
    /// That can be replayed.
    datagrams: u64,
    /// Different senders.
    flows: usize,
    /// Source ports they were sent from.
    sent_from: usize,
    /// Stamped earlier than one before them; sent with it.
    backwards: u64,
    skipped: SkippedFacts,
}

/// Packets of the capture that are not replayed, by reason.
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

fn document(spec: &LoadSpec, report: &LoadReport) -> Document {
    let late = percentiles(&report.lateness_ns);
    let echo = report.echo.as_ref();
    Document {
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
    json::print_line(&document(spec, report))
}

/// What will be sent, in a line.
pub(crate) fn describe(spec: &LoadSpec) -> String {
    let rate = spec.rate_pps().map_or_else(
        || "as fast as it goes".to_owned(),
        |pps| format!("at {}/s", if pps < 10.0 { format!("{pps:.2}") } else { paint::whole(pps) }),
    );
    if let Some(replay) = &spec.replay {
        return describe_replay(spec, replay, &rate);
    }
    let size = match spec.sizes {
        Sizes::Fixed(size) => format!("{size} B"),
        Sizes::Range(low, high) => format!("{low} to {high} B"),
        Sizes::Imix => "IMIX (18, 548 and 1472 B)".to_owned(),
    };
    let mut text = format!("{rate}, {size}");
    if spec.flows > 1 {
        text += &format!(", {} flows", count(spec.flows as u64));
    }
    if spec.together() > 1 {
        text += &format!(", {} due together", spec.together());
    }
    if spec.pattern == Pattern::Poisson && spec.rate_pps().is_some() {
        text += ", exponential gaps";
    }
    text += &length(spec);
    if let Some(number) = spec.count {
        text += &format!(", {} datagrams", count(number));
    }
    text
}

fn length(spec: &LoadSpec) -> String {
    let length = spec.duration.map(humantime::format_duration);
    length.map_or_else(String::new, |length| format!(", for {length}"))
}

fn describe_replay(spec: &LoadSpec, replay: &Replay, rate: &str) -> String {
    let survey = &replay.survey;
    let pace = match replay.speed {
        None => rate.to_owned(),
        Some(speed) => {
            let span = Duration::try_from_secs_f64(survey.span_ns as f64 / 1e9 / speed);
            let span_ns = span.map_or(u128::MAX, |span| span.as_nanos());
            let took = paint::nanos(u64::try_from(span_ns).unwrap_or(u64::MAX));
            let how = if speed == 1.0 {
                "at their own pace".to_owned()
            } else {
                format!("{speed} times as fast as captured")
            };
            format!("{how} ({took})")
        }
    };
    let datagrams = count(survey.datagrams);
    let name = &replay.recording;
    let mut text = format!("the {datagrams} datagrams of {name}, {pace}");
    text += &format!(", {} flows", count(survey.flows as u64));
    if spec.flows < survey.flows {
        text += &format!(" from {} source ports", count(spec.flows as u64));
    }
    if spec.count.is_some_and(|number| number < survey.datagrams) {
        text += &format!(", the first {} only", count(spec.count.unwrap_or(0)));
    }
    text + &length(spec)
}

/// An errno of sending, explained.
pub(crate) fn explain(errno: i32) -> String {
    let error = io::Error::from_raw_os_error(errno);
    match errno {
        libc::EPERM | libc::EACCES => format!("{error}: a firewall rule of this host, or no right"),
        libc::ENOMEM => {
            format!("{error}: the kernel's memory for sockets (net.ipv4.udp_mem) is used up")
        }
        _ => error.to_string(),
    }
}

fn row(name: &str, figure: u64, total: u64, note: &str) -> String {
    let share = paint::percent(figure, total);
    format!("{}\n", format!("  {name:<22}{:>16}   {share:<9} {note}", count(figure)).trim_end())
}

/// A sender that ended this far behind was not just held up for a moment.
const BEHIND_NS: u64 = 10_000_000;

/// Whether the schedule was kept: to be said before anything else.
fn warning(spec: &LoadSpec, report: &LoadReport) -> Option<String> {
    let slower = if spec.replay.as_ref().is_some_and(|replay| replay.speed.is_some()) {
        "--speed"
    } else {
        "--rate"
    };
    let replays_journal = spec
        .replay
        .as_ref()
        .is_some_and(|replay| matches!(replay.recording, Recording::Journal(_)));
    // A journal's replay has no --gso: it uses trains where it can.
    let faster = if replays_journal { "--threads" } else { "--gso, --threads" };
    let hint = format!(
        "this is the sender's limit, not the receiver's. Try {faster}, or a lower {slower}"
    );
    if report.unsent > 0 {
        let share = paint::percent(report.unsent, report.intended);
        return Some(format!(
            "the sender could not keep the schedule: {} of {} datagrams ({share}) were due and not \
             sent; {hint}",
            count(report.unsent),
            count(report.intended)
        ));
    }
    let behind_ns = report.behind_at_end_ns;
    let much = behind_ns > BEHIND_NS && behind_ns > report.elapsed_ns / 20;
    much.then(|| {
        format!(
            "the sender could not keep the schedule: it ended {} behind, after {}; {hint}",
            paint::nanos(behind_ns),
            paint::nanos(report.elapsed_ns)
        )
    })
}

/// The summary at the end.
pub(crate) fn render(
    spec: &LoadSpec,
    report: &LoadReport,
    stopped_by: Option<&str>,
    paint: Paint,
) -> String {
    let seconds = report.elapsed_ns as f64 / 1e9;
    let reason = stopped_by.map(|by| format!(", stopped by {by}")).unwrap_or_default();
    let title = match &spec.replay {
        Some(Replay { recording: Recording::Journal(_), .. }) => "ringest journal replay",
        _ => "ringest load",
    };
    let mut text = format!("\n{}  {seconds:.2} s{reason}\n\n", paint.bold(title));
    if let Some(warning) = warning(spec, report) {
        text += &paint.red(&paint::paragraph(&warning, 2));
        text += "\n";
    }
    let bits = report.rate_pps() * spec.mean_bytes() * 8.0 / 1e6;
    let headline = format!(
        "{} datagrams   {}/s   {bits:.1} Mbit/s",
        count(report.sent),
        paint::whole(report.rate_pps())
    );
    text += &format!("  {:<22}{}\n", "sent", paint.bold(&headline));
    text += &late(report);
    text += &format!("  {:<22}{}\n\n", "through", through(report));
    text += &row("intended", report.intended, 0, "");
    text += &row("  unsent", report.unsent, report.intended, "");
    let note = match report.qdisc_dropped {
        0 => "",
        _ => "the queueing discipline of this host (ENOBUFS)",
    };
    text += &row("  dropped by qdisc", report.qdisc_dropped, report.intended, note);
    let errors: Vec<_> = report
        .errors
        .iter()
        .map(|(errno, times)| format!("{} x {}", count(*times), explain(*errno)))
        .collect();
    text += &row("  refused", report.send_failed, report.intended, &errors.join(", "));
    text += &row("sent", report.sent, report.intended, "");
    if report.blocked > 0 {
        let note = "found the send buffer full first, and left later";
        text += &row("  of these delayed", report.blocked.min(report.sent), 0, note);
    }
    if report.unreachable > 0 {
        text +=
            &row("ICMP errors", report.unreachable, 0, "port or host unreachable: sent, and lost");
    }
    if let Some(replay) = &spec.replay {
        text += &capture(spec, replay);
    }
    if let Some(echo) = &report.echo {
        text += &echoes(echo, report.sent, spec);
    }
    text
}

/// What was in the capture, and what of it is not replayed.
fn capture(spec: &LoadSpec, replay: &Replay) -> String {
    let survey = &replay.survey;
    let skipped = survey.skipped;
    let packets = survey.datagrams + skipped.total();
    let what = match replay.recording {
        Recording::Capture(_) => "packets captured",
        Recording::Journal(_) => "records and damage",
    };
    let mut text = format!("\n{}", row(what, packets, 0, ""));
    for (reason, figure) in skipped.reasons().into_iter().filter(|(_, figure)| *figure > 0) {
        text += &row("  not replayed", figure, packets, reason);
    }
    text += &row("  UDP datagrams", survey.datagrams, packets, "");
    let mut senders = format!("sent from {} source ports", count(spec.flows as u64));
    if spec.flows < survey.flows {
        senders += ": some share one, see --flows";
    }
    text += &row("  senders", survey.flows as u64, 0, &senders);
    if survey.backwards > 0 {
        let note = "stamped earlier than the one before, and sent with it";
        text += &row("  out of time", survey.backwards, survey.datagrams, note);
    }
    text
}

fn late(report: &LoadReport) -> String {
    if report.lateness_ns.is_empty() {
        return String::new();
    }
    let found = percentiles(&report.lateness_ns);
    let [p50, p99, p999, max] = [found.p50, found.p99, found.p999, found.max].map(paint::nanos);
    let mut text = format!("  {:<22}p50 {p50}   p99 {p99}   p99.9 {p999}   max {max}\n", "late by");
    let parts: Vec<_> = decades(&report.lateness_ns)
        .into_iter()
        .map(|(most_ns, times)| {
            let share = paint::percent(times, report.lateness_ns.len());
            format!("up to {} {share}", paint::nanos(most_ns))
        })
        .collect();
    text += &format!("  {:<22}{}\n", "", parts.join("   "));
    text
}

/// How many values are at most 1 us, 10 us, … , each in the first that holds it; empty ones left out.
fn decades(histogram: &Histogram<u64>) -> Vec<(u64, u64)> {
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

fn through(report: &LoadReport) -> String {
    let trains = if report.trains_refused {
        "; this path takes no trains (UDP_SEGMENT), so each datagram was sent alone"
    } else {
        ""
    };
    format!("{}{trains}", report.backend)
}

fn echoes(echo: &EchoReport, sent: u64, spec: &LoadSpec) -> String {
    let mut text = "\n".to_owned();
    text += &row("came back", echo.received, sent, "");
    text += &row("  lost", echo.lost, sent, "sent, and not seen again");
    text += &row("  reordered", echo.reordered, sent, "after a later one of their flow (RFC 4737)");
    text += &row("  duplicates", echo.duplicates, sent, "");
    if echo.foreign > 0 {
        text += &row("  foreign", echo.foreign, 0, "not of this run");
    }
    for (name, histogram) in [
        ("round trip, from intended", &echo.from_intended_ns),
        ("round trip, from actual", &echo.from_actual_ns),
    ] {
        if histogram.is_empty() {
            continue;
        }
        let found = percentiles(histogram);
        let [p50, p90, p99, p999, max] =
            [found.p50, found.p90, found.p99, found.p999, found.max].map(paint::nanos);
        text +=
            &format!("  {name:<26} p50 {p50}   p90 {p90}   p99 {p99}   p99.9 {p999}   max {max}\n");
    }
    if spec.sizes.min() < 32 {
        text += "  datagrams below 32 bytes carry no times: their round trips are not known\n";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> LoadSpec {
        LoadSpec::new("127.0.0.1:9".parse().unwrap())
    }

    fn report() -> LoadReport {
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
        let text = serde_json::to_string(&document(&spec(), &report())).unwrap();
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
        let text = serde_json::to_string(&document(&spec(), &report)).unwrap();
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

    #[test]
    fn a_schedule_that_was_not_kept_is_said_first() {
        let text = render(&spec(), &report(), None, Paint::PLAIN);
        let warning = text.find("could not keep the schedule").unwrap();
        assert!(warning < text.find("datagrams   ").unwrap(), "{text}");
        assert!(text.contains("7 of 100 datagrams (7.00 %)"), "{text}");
        // All was sent in the end, but not in time.
        let mut stretched = report();
        (stretched.intended, stretched.sent, stretched.unsent) = (100, 100, 0);
        stretched.behind_at_end_ns = 400_000_000;
        let text = render(&spec(), &stretched, None, Paint::PLAIN);
        assert!(text.contains("it ended 400 ms behind, after 1.0 s"), "{text}");
        stretched.behind_at_end_ns = 9_000_000;
        let text = render(&spec(), &stretched, None, Paint::PLAIN);
        assert!(!text.contains("could not keep"), "{text}");
    }
}
