//! Compares two reports of one mode.
//!
//! Two figures differ if their intervals do not overlap. If they overlap, no difference is shown, though
//! there may be one. Sources of the intervals:
//!
//! ```text
//! compare, burst, curve    the report's bootstrap 95 % intervals
//! rates found              the two bounds of the search
//! latency percentiles      ranks that hold the percentile 95 % of the time (binomial), and 1 % for
//!                          the histogram's steps
//! CPU per datagram         bootstrap over the trials that lost nothing
//! ```

use crate::document::report::{Interval, Mode, Report};
use crate::report::tables::{Table, Tone};
use ringest_base::text::figures;

/// The figures of a report, each with its interval.
mod measures;
/// Reasons why two reports may differ that have nothing to do with the change under study.
mod caveats;

use crate::diff::caveats::caveats;
use crate::diff::measures::{Figure, Unit, Wanted, figures};

/// The reason why two reports cannot be compared.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum DiffError {
    /// They are of different modes.
    #[error(
        "the first report is of `bench {}`, the second of `bench {}`: they have no figure in common. \
         Name two reports of one mode",
        .0.as_str(),
        .1.as_str()
    )]
    Modes(Mode, Mode),
    /// They have different versions.
    #[error("the first report has version {0}, the second {1}: measure both with one ringest")]
    Versions(u32, u32),
}

/// The conclusion from two intervals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeVerdict {
    /// Better, beyond both intervals.
    Better,
    /// Worse, beyond both intervals.
    Worse,
    /// The intervals overlap.
    NotShown,
    /// At least one figure comes from too few trials.
    TooFew,
    /// The second report lacks the figure.
    OnlyFirst,
    /// The first report lacks the figure.
    OnlySecond,
}

impl ChangeVerdict {
    /// Returns the words that tables show.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Better => "better",
            Self::Worse => "worse",
            Self::NotShown => "no difference shown",
            Self::TooFew => "too few trials to say",
            Self::OnlyFirst => "only in the first",
            Self::OnlySecond => "only in the second",
        }
    }
}

/// One figure in both reports.
#[derive(Clone, Debug)]
pub struct Change {
    /// The group, such as a variant or a load.
    pub group: String,
    /// The name within the group.
    pub name: String,
    /// The value in the first report.
    pub before: Option<Interval>,
    /// The value in the second report.
    pub after: Option<Interval>,
    /// The conclusion.
    pub verdict: ChangeVerdict,
    figure: Unit,
}

impl Change {
    /// Returns the change of the median as a share of the first one, or `None` without both.
    #[must_use]
    pub fn relative(&self) -> Option<f64> {
        let (before, after) = (self.before?.median, self.after?.median);
        (before > 0.0 && after.is_finite()).then(|| after / before - 1.0)
    }
}

/// Two reports, figure by figure.
#[derive(Clone, Debug)]
pub struct Diff {
    /// Other reasons why figures may differ, the most serious first.
    pub caveats: Vec<String>,
    /// The figures, the answers to the mode's question first.
    pub changes: Vec<Change>,
}

/// Compares `after` with `before`.
///
/// # Errors
/// The reports differ in mode or version.
pub fn diff(before: &Report, after: &Report) -> Result<Diff, DiffError> {
    if before.version != after.version {
        return Err(DiffError::Versions(before.version, after.version));
    }
    if before.mode != after.mode {
        return Err(DiffError::Modes(before.mode, after.mode));
    }
    let mut changes = Vec::new();
    let mut rest = figures(after);
    for first in figures(before) {
        let same = |second: &Figure| second.group == first.group && second.name == first.name;
        let second = rest.iter().position(same).map(|at| rest.remove(at));
        changes.push(change(first, second));
    }
    changes.extend(rest.into_iter().map(|second| Change {
        group: second.group,
        name: second.name,
        before: None,
        after: Some(second.interval),
        verdict: ChangeVerdict::OnlySecond,
        figure: second.unit,
    }));
    Ok(Diff { caveats: caveats(before, after), changes })
}

fn change(first: Figure, second: Option<Figure>) -> Change {
    let verdict = match &second {
        None => ChangeVerdict::OnlyFirst,
        Some(second) if !(first.sound && second.sound) => ChangeVerdict::TooFew,
        Some(second) => compare(&first.interval, &second.interval, first.wanted),
    };
    Change {
        group: first.group,
        name: first.name,
        before: Some(first.interval),
        after: second.map(|second| second.interval),
        verdict,
        figure: first.unit,
    }
}

fn compare(before: &Interval, after: &Interval, wanted: Wanted) -> ChangeVerdict {
    // A NaN fails both comparisons, so it shows no difference.
    let (more, less) = (after.low > before.high, after.high < before.low);
    match (wanted, more, less) {
        (Wanted::More, true, _) | (Wanted::Less, _, true) => ChangeVerdict::Better,
        (Wanted::More, _, true) | (Wanted::Less, true, _) => ChangeVerdict::Worse,
        _ => ChangeVerdict::NotShown,
    }
}

impl Diff {
    /// Returns the number of figures that got worse.
    #[must_use]
    pub fn worse(&self) -> usize {
        self.changes.iter().filter(|change| change.verdict == ChangeVerdict::Worse).count()
    }

    /// Returns the number of figures without a difference that is shown.
    #[must_use]
    pub fn unchanged(&self) -> usize {
        let shows_none = |change: &&Change| !changed(change);
        self.changes.iter().filter(shows_none).count()
    }

    /// Returns a table for each group, with the changed figures or with `all`.
    #[must_use]
    pub fn tables(&self, all: bool) -> Vec<Table> {
        let mut tables: Vec<Table> = Vec::new();
        for change in self.changes.iter().filter(|change| all || changed(change)) {
            if tables.last().is_none_or(|table| table.title != change.group) {
                let head = ["", "first [interval]", "second [interval]", "change", "verdict"];
                let mut table = Table::new(change.group.clone(), &head);
                table.words = vec![4];
                tables.push(table);
            }
            let Some(table) = tables.last_mut() else { continue };
            let tone = match change.verdict {
                ChangeVerdict::Better => Tone::Good,
                ChangeVerdict::Worse => Tone::Bad,
                ChangeVerdict::NotShown | ChangeVerdict::TooFew => Tone::Faint,
                ChangeVerdict::OnlyFirst | ChangeVerdict::OnlySecond => Tone::Plain,
            };
            let relative = change.relative().map_or_else(figures::dash, |relative| {
                let sign = if relative > 0.0 { "+" } else { "" };
                format!("{sign}{}", figures::percent(relative)).replace('-', "−")
            });
            table.line(
                tone,
                [
                    change.name.clone(),
                    crate::report::interval::interval(change.before.as_ref(), change.figure),
                    crate::report::interval::interval(change.after.as_ref(), change.figure),
                    relative,
                    change.verdict.as_str().to_owned(),
                ],
            );
        }
        tables
    }
}

fn changed(change: &Change) -> bool {
    !matches!(change.verdict, ChangeVerdict::NotShown | ChangeVerdict::TooFew)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    fn verdicts(before: &Report, after: &Report) -> Vec<(String, ChangeVerdict)> {
        let diff = diff(before, after).unwrap();
        diff.changes.into_iter().map(|change| (change.name, change.verdict)).collect()
    }

    #[test]
    fn a_report_does_not_differ_from_itself() {
        for (mode, _) in sample::CHARTS {
            let report = sample::report(*mode);
            let diff = diff(&report, &report).unwrap();
            assert!(!diff.changes.is_empty() && diff.worse() == 0, "{mode:?}");
            assert_eq!(diff.unchanged(), diff.changes.len(), "{mode:?}: {:?}", diff.tables(false));
            assert!(diff.tables(false).is_empty());
        }
    }

    #[test]
    fn only_what_leaves_both_intervals_has_changed() {
        let before = sample::report(Mode::Compare);
        let mut after = before.clone();
        let scale = |interval: &mut Option<Interval>, by: f64| {
            let found = interval.as_mut().unwrap();
            *found = Interval {
                median: found.median * by,
                low: found.low * by,
                high: found.high * by,
                ..*found
            };
        };
        // Intervals are 4 % to each side: 5 % more overlaps, 10 % does not.
        scale(&mut after.variants[0].receiver_ns, 1.05);
        scale(&mut after.variants[1].receiver_ns, 1.10);
        scale(&mut after.variants[2].receiver_ns, 0.90);
        scale(&mut after.variants[3].received_pps, 1.10);
        after.variants[5].name = "another".into();
        let diff = diff(&before, &after).unwrap();
        let verdict = |group: &str, name: &str| {
            let found = diff.changes.iter().find(|c| c.group == group && c.name == name);
            found.unwrap().verdict
        };
        assert_eq!(verdict("ringest io_uring", "CPU of the receiver"), ChangeVerdict::NotShown);
        assert_eq!(verdict("ringest recvmmsg", "CPU of the receiver"), ChangeVerdict::Worse);
        assert_eq!(verdict("bare recvmmsg, UDP_GRO", "CPU of the receiver"), ChangeVerdict::Better);
        assert_eq!(verdict("bare recvmmsg", "received a second"), ChangeVerdict::Better);
        assert_eq!(verdict("bare recvmsg", "lost"), ChangeVerdict::OnlyFirst);
        assert_eq!(verdict("another", "lost"), ChangeVerdict::OnlySecond);
        assert_eq!(diff.worse(), 1);
        let table = &diff.tables(false)[0];
        assert_eq!(table.title, "ringest recvmmsg");
        assert_eq!(table.lines[0].cells[3], "+10.0 %");
    }

    #[test]
    fn a_rate_differs_when_the_bounds_do_not_meet() {
        let before = sample::report(Mode::Ndr);
        let mut after = before.clone();
        after.goals[0].lower_pps = Some(816_300.0 - 1.0);
        after.goals[1].lower_pps = Some(900_000.0);
        after.goals[1].upper_pps = None;
        let found = verdicts(&before, &after);
        assert_eq!(found[0], ("NDR".to_owned(), ChangeVerdict::NotShown));
        assert_eq!(found[1], ("PDR".to_owned(), ChangeVerdict::Better));
        assert_eq!(verdicts(&after, &before)[1].1, ChangeVerdict::Worse);
    }

    #[test]
    fn a_few_trials_show_nothing() {
        let before = sample::report(Mode::Latency);
        let mut after = before.clone();
        for trial in &mut after.trials {
            trial.cpu_ns_per_datagram.receiver = Some(9000.0);
        }
        let found = verdicts(&before, &after);
        let costs = found.iter().filter(|(name, _)| name.ends_with(", receiver"));
        let few = costs.filter(|(_, verdict)| *verdict == ChangeVerdict::TooFew).count();
        assert_eq!(few, 4, "{found:?}");
    }

    #[test]
    fn a_slower_tail_is_seen_and_a_histogram_step_is_not() {
        let before = sample::report(Mode::Latency);
        let mut after = before.clone();
        let stage = &mut after.latencies[1].stages[5];
        stage.percentiles.p99 *= 3;
        stage.percentiles.p50 += stage.percentiles.p50 / 100;
        for (_, time) in stage.curve.iter_mut().filter(|(at, _)| *at >= 98.0) {
            *time *= 3;
        }
        let diff = diff(&before, &after).unwrap();
        let worse = diff.changes.iter().filter(|change| change.verdict == ChangeVerdict::Worse);
        assert_eq!(worse.map(|change| change.name.as_str()).collect::<Vec<_>>(), ["one way, p99"]);
    }

    #[test]
    fn what_cannot_be_compared_is_said_or_refused() {
        let ndr = sample::report(Mode::Ndr);
        let error = diff(&ndr, &sample::report(Mode::Burst)).unwrap_err();
        assert!(error.to_string().contains("`bench ndr`, the second of `bench burst`"), "{error}");
        let mut after = ndr.clone();
        after.version = 2;
        assert_eq!(diff(&ndr, &after).unwrap_err(), DiffError::Versions(1, 2));
        after.version = 1;
        after.setting.size = "1400\x1b[2J".into();
        after.setting.seed = 43;
        after.host.kernel = "7.0".into();
        after.loopback = false;
        let caveats = diff(&ndr, &after).unwrap().caveats;
        assert!(caveats[0].contains("size 64 → 1400\u{fffd}[2J; over loopback → network"));
        assert!(caveats[1].contains("kernel 6.12.48+deb13-amd64 → 7.0"), "{caveats:?}");
        assert!(!caveats.concat().contains("seed"));
        assert!(caveats.iter().any(|caveat| caveat.starts_with("In the first: The generator")));
    }
}
