//! The demo's table: both phases side by side, and the check that no datagram is missing.

use ringest::{Summary, Unit};
use ringest_engine::count::row::RowUnit;
use ringest_engine::count::rows;

use crate::cli::demo::phase::Phase;
use crate::cli::failure::Failure;
use crate::cli::show::paint;
use crate::cli::show::paint::{Paint, count};

const NAME_WIDTH: usize = 34;
const COLUMN_WIDTH: usize = 20;

/// The sender's report.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Report {
    /// Datagrams that the sender's kernel took.
    pub(crate) sent: u64,
    pub(crate) elapsed_ns: u64,
}

/// Result of one phase, from sender and receiver.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) report: Report,
    pub(crate) summary: Summary,
}

/// Result of comparing sender and receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Check {
    /// sent = arrived = received + kernel + unread, exactly.
    Exact,
    /// The kernel dropped trains, and only the number of trains is known. The counts are possible, but not proven.
    Unproven,
    /// The two sides do not agree.
    Off,
}

impl Outcome {
    /// Returns the number of datagrams sent that were neither received nor left in the socket.
    fn missing(&self) -> i128 {
        let ledger = &self.summary.ledger;
        i128::from(self.report.sent)
            - i128::from(ledger.received)
            - i128::from(ledger.unread_at_stop)
    }

    /// Returns the same number as text.
    fn missing_text(&self) -> String {
        let missing = self.missing();
        match u64::try_from(missing) {
            Ok(missing) => count(missing),
            Err(_) => missing.to_string(),
        }
    }

    fn check(&self, train: usize) -> Check {
        let ledger = &self.summary.ledger;
        let kernel = i128::from(ledger.dropped.kernel);
        if ledger.residual != 0 || ledger.queued != 0 {
            return Check::Off;
        }
        let exact = self.missing() == kernel
            && ledger.arrived.is_none_or(|arrived| arrived == self.report.sent);
        match ledger.kernel_unit {
            Unit::Datagrams if exact => Check::Exact,
            Unit::Buffers if kernel == 0 && exact => Check::Exact,
            // A buffer held at least one datagram and at most a train.
            Unit::Buffers if (kernel..=kernel * train as i128).contains(&self.missing()) => {
                Check::Unproven
            }
            _ => Check::Off,
        }
    }
}

fn per_second(number: u64, nanos: u128) -> String {
    paint::whole(number as f64 * 1e9 / (nanos.max(1) as f64))
}

/// Returns one line about a phase, printed at its end.
pub(crate) fn one_line(outcome: &Outcome) -> String {
    let sending_ns = u128::from(outcome.report.elapsed_ns);
    format!(
        "sent {}/s, received {}/s",
        per_second(outcome.report.sent, sending_ns),
        per_second(outcome.summary.ledger.received, sending_ns)
    )
}

type Outcomes<'a> = [(&'a Phase, Outcome)];

fn row(name: &str, cells: impl IntoIterator<Item = String>) -> String {
    let cells: String = cells.into_iter().map(|cell| format!("{cell:>COLUMN_WIDTH$}")).collect();
    format!("  {name:<NAME_WIDTH$}{cells}\n")
}

/// Renders the table, the check, and commands to try next.
pub(crate) fn render(outcomes: &Outcomes<'_>, program: &str, paint: Paint) -> String {
    let head = row("", outcomes.iter().map(|(phase, _)| phase.title.to_owned()));
    let mut text = format!("\n{}\n", paint.bold(head.trim_end()));
    let each = |cell: fn(&Outcome) -> String| outcomes.iter().map(move |(_, o)| cell(o));
    text +=
        &row("sent per second", each(|o| per_second(o.report.sent, o.report.elapsed_ns.into())));
    // By the sender's clock, so that the two rates can be compared.
    let received = each(|o| per_second(o.summary.ledger.received, o.report.elapsed_ns.into()));
    text += &paint.bold(row("received per second", received).trim_end());
    text.push('\n');
    text += &row(
        "lost of what was sent",
        each(|o| {
            let lost = u64::try_from(o.missing()).unwrap_or(0);
            paint::percent(lost, o.report.sent)
        }),
    );
    text += &row(
        "CPU per datagram, receiver",
        outcomes.iter().map(|(_, o)| paint::cost_or_none(o.summary.receiver_ns_per_datagram())),
    );
    text += &row(
        "CPU per datagram, worker",
        outcomes.iter().map(|(_, o)| paint::cost_or_none(o.summary.worker_ns_per_datagram())),
    );
    text += &row("queue latency, p50", each(|o| paint::nanos(o.summary.queue_latency_ns.p50)));
    text += &row("queue latency, p99", each(|o| paint::nanos(o.summary.queue_latency_ns.p99)));
    text += &books(outcomes, paint);
    text += &notes(outcomes);
    text += &next(program, paint);
    text
}

/// Renders the ledger of both phases, from sent to delivered.
fn books(outcomes: &Outcomes<'_>, paint: Paint) -> String {
    let each = |cell: fn(&Outcome) -> String| outcomes.iter().map(move |(_, o)| cell(o));
    let mut text = format!("\n  {}\n", paint.bold("Where every datagram went"));
    text += &row("sent", each(|o| count(o.report.sent)));
    text += &row(
        "arrived at the socket",
        each(|o| o.summary.ledger.arrived.map_or_else(|| "?".to_owned(), count)),
    );
    text += &row(
        "  dropped by the kernel",
        each(|o| {
            let unit = match o.summary.ledger.kernel_unit {
                Unit::Buffers if o.summary.ledger.dropped.kernel > 0 => " buffers",
                _ => "",
            };
            count(o.summary.ledger.dropped.kernel) + unit
        }),
    );
    text += &row("  left in the socket", each(|o| count(o.summary.ledger.unread_at_stop)));
    text += &row("  received", each(|o| count(o.summary.ledger.received)));
    for drop in rows::drops().filter(|row| row.unit != RowUnit::Kernel) {
        let all = outcomes.iter().map(|(_, o)| drop.count(&o.summary));
        if all.clone().any(|dropped| dropped > 0) {
            text += &row(&format!("    {}", drop.label), all.map(count));
        }
    }
    text += &row("    delivered to the handler", each(|o| count(o.summary.ledger.delivered)));
    let checks = outcomes.iter().map(|(phase, o)| match o.check(phase.train) {
        Check::Exact => paint.green(&format!("{:>COLUMN_WIDTH$}", "adds up")),
        Check::Unproven => paint.yellow(&format!("{:>COLUMN_WIDTH$}", "not provable")),
        Check::Off => paint.red(&format!("{:>COLUMN_WIDTH$}", "DOES NOT ADD UP")),
    });
    text += &row("sent = received + dropped + left", checks);
    text.push('\n');
    text + &conclusion(outcomes, paint)
}

fn conclusion(outcomes: &Outcomes<'_>, paint: Paint) -> String {
    let mut text = String::new();
    for (phase, outcome) in outcomes {
        let ledger = &outcome.summary.ledger;
        match outcome.check(phase.train) {
            Check::Exact => {}
            Check::Unproven => {
                let why = format!(
                    "{}: the kernel dropped {} buffers, each a datagram or a whole train of up to \
                     {}, and {} datagrams are missing. That fits, but it is no proof: arrivals were \
                     {}. As root it can be proven.",
                    phase.title,
                    count(ledger.dropped.kernel),
                    phase.train,
                    outcome.missing_text(),
                    outcome.summary.arrivals_reason
                );
                text += &paint.yellow(paint::paragraph(&why, 2).trim_end());
                text.push('\n');
            }
            Check::Off => {
                let why = format!(
                    "{}: {} of the {} sent are missing, the kernel says it dropped {} at the \
                     socket, and the ledger's residual is {}. A full backlog can lose datagrams \
                     before the socket: see the second column of /proc/net/softnet_stat.",
                    phase.title,
                    outcome.missing_text(),
                    count(outcome.report.sent),
                    count(ledger.dropped.kernel),
                    ledger.residual
                );
                text += &paint.red(paint::paragraph(&why, 2).trim_end());
                text.push('\n');
            }
        }
    }
    if text.is_empty() {
        let sent: u64 = outcomes.iter().map(|(_, o)| o.report.sent).sum();
        let line = format!("  every datagram accounted for: {} of {}", count(sent), count(sent));
        text = paint.green(&line) + "\n";
    }
    text
}

fn notes(outcomes: &Outcomes<'_>) -> String {
    let mut text = String::from("\n");
    let dropped = outcomes.iter().any(|(_, o)| o.summary.ledger.dropped.kernel > 0);
    if dropped {
        text += &paint::paragraph(
            "The sender is faster than the receiver, so the socket's buffer fills and the kernel \
             drops the rest. That is what overload looks like; what counts is that it is counted.",
            2,
        );
    }
    if let Some((_, last)) = outcomes.last() {
        let summary = &last.summary;
        let text_of = format!(
            "Received with {} ({}). Arrivals {}. Loopback shows what the engine costs; a network \
             card adds its driver, and merges plain datagrams into trains by itself.",
            summary.backend, summary.backend_reason, summary.arrivals_reason
        );
        text += &paint::paragraph(&text_of, 2);
    }
    text
}

fn next(program: &str, paint: Paint) -> String {
    let commands = [
        (format!("{program} listen 127.0.0.1:9000 --sink stdout"), "print what arrives,"),
        (format!("{program} send 127.0.0.1:9000 hello"), "sent from a second shell"),
        (
            format!("{program} listen '*:9000' --plan"),
            "which thread on which core, how much memory",
        ),
    ];
    let width = commands.iter().map(|(command, _)| command.chars().count()).max().unwrap_or(0);
    let lines: String = commands
        .iter()
        .map(|(command, what)| format!("    {command:<width$}   {what}\n"))
        .collect();
    format!("\n  {}\n{lines}\n", paint.bold("Next"))
}

/// Whether the demo kept its promise.
pub(crate) fn judge(outcomes: &Outcomes<'_>) -> Result<(), Failure> {
    match outcomes.iter().find(|(phase, o)| o.check(phase.train) == Check::Off) {
        None => Ok(()),
        Some((phase, _)) => Err(Failure::Failed(format!(
            "not every datagram is accounted for ({}); see the table above",
            phase.title
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::demo::phase::PHASES;
    use crate::cli::show::table::tests::summary;

    /// 110 arrived: 100 received, 3 dropped, 7 unread.
    fn outcome(sent: u64) -> Outcome {
        let report = Report { sent, elapsed_ns: 1_000_000_000 };
        Outcome { report, summary: summary() }
    }

    #[test]
    fn only_exact_books_are_called_exact() {
        assert_eq!(outcome(110).check(32), Check::Exact);
        assert_eq!(outcome(111).check(32), Check::Off);
        assert_eq!(outcome(109).check(32), Check::Off);
        let mut off = outcome(110);
        off.summary.ledger.residual = 1;
        assert_eq!(off.check(32), Check::Off);
    }

    #[test]
    fn buffers_prove_nothing_but_can_be_contradicted() {
        let uncounted = |sent| {
            let mut outcome = outcome(sent);
            outcome.summary.ledger.arrived = None;
            outcome.summary.ledger.kernel_unit = Unit::Buffers;
            outcome
        };
        // Three buffers: from 3 datagrams to 96.
        assert_eq!(uncounted(107 + 3).check(32), Check::Unproven);
        assert_eq!(uncounted(107 + 96).check(32), Check::Unproven);
        assert_eq!(uncounted(107 + 97).check(32), Check::Off);
        assert_eq!(uncounted(107 + 2).check(32), Check::Off);
        let mut lossless = uncounted(107);
        lossless.summary.ledger.dropped.kernel = 0;
        assert_eq!(lossless.check(32), Check::Exact);
    }

    #[test]
    fn a_claim_is_made_only_where_it_is_proven() {
        let proven = conclusion(&[(&PHASES[1], outcome(110))], Paint::PLAIN);
        assert_eq!(proven, "  every datagram accounted for: 110 of 110\n");
        let mut unproven = outcome(140);
        unproven.summary.ledger.arrived = None;
        unproven.summary.ledger.kernel_unit = Unit::Buffers;
        let unproven = [(&PHASES[1], unproven)];
        let text = render(&unproven, "ringest", Paint::PLAIN);
        assert!(!text.contains("every datagram accounted for"), "{text}");
        for wanted in ["3 buffers", "not provable", "33 datagrams are missing", "no proof"] {
            assert!(text.contains(wanted), "{wanted:?} is not in\n{text}");
        }
        assert!(judge(&unproven).is_ok());
        let off = [(&PHASES[0], outcome(111))];
        let text = render(&off, "ringest", Paint::PLAIN);
        assert!(text.contains("DOES NOT ADD UP"), "{text}");
        assert!(judge(&off).is_err());
    }
}
