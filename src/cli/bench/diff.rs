//! `ringest bench diff`: shows the changes between two reports that are larger than noise.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use ringest_bench::diff::{Diff, diff};
use ringest_bench::document::read::read;

use crate::cli::bench::table;
use crate::cli::failure::Failure;
use crate::cli::show::paint;
use crate::cli::show::paint::Paint;

const EXAMPLES: &str = "\
Examples:
  ringest bench ndr --json before.json            before a change
  ringest bench ndr --json after.json             after it, on the same host with the same settings
  ringest bench diff before.json after.json       show changes larger than noise

Exit codes: 0 compared, 1 a file is not a report, or a figure got worse and --fail-on-worse is given, 2 wrong usage.";

/// Show changes larger than noise between two reports of one mode
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DiffArgs {
    /// The first report, from `ringest bench … --json FILE`
    first: PathBuf,
    /// The second report
    second: PathBuf,
    /// Show every figure, not only changed ones
    #[arg(long)]
    all: bool,
    /// Exit with 1 if a figure got worse by more than noise
    #[arg(long)]
    fail_on_worse: bool,
}

/// Reads two reports and prints their differences on stdout.
pub(crate) fn run(args: &DiffArgs) -> Result<(), Failure> {
    let read = |path| read(path).map_err(|error| Failure::Failed(error.to_string()));
    let (first, second) = (read(&args.first)?, read(&args.second)?);
    let diff = diff(&first, &second).map_err(|error| Failure::Failed(error.to_string()))?;
    let text = render(&diff, args.all, Paint::stdout());
    io::stdout().lock().write_all(text.as_bytes()).map_err(|error| Failure::stdout(&error))?;
    match diff.worse() {
        worse if worse > 0 && args.fail_on_worse => Err(Failure::Failed(format!(
            "{worse} figure{} got worse by more than noise (--fail-on-worse)",
            if worse == 1 { "" } else { "s" }
        ))),
        _ => Ok(()),
    }
}

fn render(diff: &Diff, all: bool, paint: Paint) -> String {
    let mut text = String::new();
    if !diff.caveats.is_empty() {
        text += &format!("\n  {}\n", paint.bold("Know this first"));
        for caveat in &diff.caveats {
            text += &table::noted(caveat, paint);
        }
    }
    let tables = diff.tables(all);
    for table in &tables {
        text += &table::table(table, paint);
    }
    if diff.changes.is_empty() {
        return text + "\n  The reports contain no figures to compare.\n";
    }
    let unchanged = diff.unchanged();
    let more = if all || unchanged == 0 { "" } else { " (--all shows them)" };
    let plural = if unchanged == 1 { "" } else { "s" };
    let line = format!(
        "{} of {} figure{plural} show no difference beyond noise{more}. That does not prove that there is \
         none.",
        paint::count(u64::try_from(unchanged).unwrap_or(u64::MAX)),
        paint::count(u64::try_from(diff.changes.len()).unwrap_or(u64::MAX)),
    );
    text + "\n" + &paint::paragraph(&line, 2)
}

#[cfg(test)]
mod tests {
    use ringest_bench::document::report::Mode;

    use super::*;
    use crate::cli::bench::table::sample;

    #[test]
    fn only_changes_are_shown_unless_all_is_asked_for() {
        let before = sample::report(Mode::Ndr);
        let mut after = before.clone();
        after.goals[0].lower_pps = Some(900_000.0);
        after.goals[0].upper_pps = Some(904_000.0);
        after.goals[0].throughput_pps = Some(900_000.0);
        let diff = diff(&before, &after).unwrap();
        let text = render(&diff, false, Paint::PLAIN);
        assert!(
            text.contains("NDR") && text.contains("+10.8 %") && text.contains("better"),
            "{text}"
        );
        assert!(!text.contains("PDR") && text.contains("(--all shows them)"), "{text}");
        let text = render(&diff, true, Paint::PLAIN);
        assert!(text.contains("PDR") && text.contains("no difference shown"), "{text}");
    }

    #[test]
    fn a_file_that_is_no_report_says_so() {
        let args = DiffArgs {
            first: "/dev/null".into(),
            second: "/dev/null".into(),
            all: false,
            fail_on_worse: false,
        };
        let Err(Failure::Failed(text)) = run(&args) else { panic!() };
        assert!(text.contains("/dev/null is not a report of ringest bench"), "{text}");
    }
}
