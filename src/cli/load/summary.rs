//! A load in words: the line before it, and the summary after it.

use std::io;
use std::time::Duration;

use ringest_load::replay::Recording;
use ringest_load::report::{EchoReport, LoadReport, percentiles};
use ringest_load::spec::{LoadSpec, Pattern, Replay, Sizes};

use crate::cli::load::object::decades;
use crate::cli::show::paint::{self, Paint, count};

/// Returns a line that says what will be sent.
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

/// Returns the text of an errno of sending, with its likely cause.
pub(crate) fn explain(errno: i32) -> String {
    let error = io::Error::from_raw_os_error(errno);
    match errno {
        libc::EPERM | libc::EACCES => {
            format!("{error}: a firewall rule of this host forbids it, or a permission is missing")
        }
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

/// A sender that ended this far behind its schedule, in ns, did not keep it. Lower, and one short delay at the end
/// would be called a failure.
const BEHIND_NS: u64 = 10_000_000;

/// Returns the warning that the schedule was not kept, or `None` if it was. It stands before all figures.
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
    // `journal replay` has no --gso: it always uses trains where it can.
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

/// Returns the summary of a load.
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

/// Returns the rows about a recording: what it holds, and what of it is not replayed.
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
    use crate::cli::load::object::tests::{report, spec};

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
