//! The goals and limits of a search, and the coarser targets that lead to a goal.

use std::time::Duration;

use crate::search::grid::Grid;

/// The most goals of one search; more are taken for a mistake.
const GOALS_MAX: usize = 16;
/// The most targets before a goal. Each doubles the width, so this many span all loads.
const PRECEDING_MAX: u8 = 16;
/// The smallest width. Below a millionth, clock errors are larger than the differences measured.
const WIDTH_MIN: f64 = 1e-6;
/// The highest load, datagrams a second; no host reaches it.
const LOAD_MAX_PPS: f64 = 1e12;

/// A goal: the highest load with at most the agreed loss, and the certainty that is needed ("Search Goal"
/// in draft-ietf-bmwg-mlrsearch; each field is one of its attributes).
#[derive(Clone, Debug, PartialEq)]
pub struct Goal {
    /// A trial with a larger loss ratio is bad; from 0 to below 1 ("Goal Loss Ratio").
    pub loss_ratio: f64,
    /// The part of `duration_sum` that bad trials may take at a load that still counts as good; from
    /// 0 to below 1. 0.5 makes the median trial decide ("Goal Exceed Ratio").
    pub exceed_ratio: f64,
    /// The largest distance of the bounds as a share of the upper one ("Goal Width"), from 1e-6 to
    /// below 1.
    pub relative_width: f64,
    /// Length of the first, exploring trials ("Goal Initial Trial Duration").
    pub initial_trial: Duration,
    /// Length of the trials that decide; shorter ones only hint ("Goal Final Trial Duration").
    pub final_trial: Duration,
    /// The trials of a load must last this long in all before it is classified, unless the missing time
    /// cannot change the result ("Goal Duration Sum").
    pub duration_sum: Duration,
    /// The number of coarser targets before the goal. Each has half the width and longer trials than the
    /// one before. At least 1 unless the initial trial already lasts `duration_sum`.
    pub preceding_targets: u8,
    /// The factor by which steps grow while no bound is found on one side; 2 or more.
    pub expansion: u32,
    /// Whether to end the search when even the lowest load is too high for this goal.
    pub fail_fast: bool,
}

impl Goal {
    /// Returns the goal of the no-drop rate: more than half of 21 trials of one second lose nothing, to 0.5 %.
    #[must_use]
    pub fn ndr() -> Self {
        Self {
            loss_ratio: 0.0,
            exceed_ratio: 0.5,
            relative_width: 0.005,
            initial_trial: Duration::from_secs(1),
            final_trial: Duration::from_secs(1),
            duration_sum: Duration::from_secs(21),
            preceding_targets: 2,
            expansion: 2,
            fail_fast: false,
        }
    }

    /// Returns the goal of the partial-drop rate: as [`Goal::ndr`], but a trial may lose 0.5 %.
    #[must_use]
    pub fn pdr() -> Self {
        Self { loss_ratio: 0.005, ..Self::ndr() }
    }

    /// Returns the goal of throughput by RFC 2544, section 26.1: one trial of 60 s without a loss. Shorter
    /// trials only narrow the range.
    #[must_use]
    pub fn rfc2544() -> Self {
        Self {
            exceed_ratio: 0.0,
            final_trial: Duration::from_secs(60),
            duration_sum: Duration::from_secs(60),
            ..Self::ndr()
        }
    }

    fn check(&self) -> Result<(), SearchError> {
        fraction("loss ratio", self.loss_ratio)?;
        fraction("exceed ratio", self.exceed_ratio)?;
        if !(WIDTH_MIN..1.0).contains(&self.relative_width) {
            let reason = "must be a part from 0.000001 to below 1; 0.005 is usual";
            return Err(refused("relative width", self.relative_width, reason));
        }
        if self.initial_trial.is_zero() {
            let reason = "a trial must last; 1 s is usual";
            return Err(refused("initial trial", seconds(self.initial_trial), reason));
        }
        if self.final_trial < self.initial_trial {
            let reason = "shorter than the initial trial; make it at least as long";
            return Err(refused("final trial", seconds(self.final_trial), reason));
        }
        if self.duration_sum < self.final_trial {
            let reason = "shorter than one final trial; make it at least as long";
            return Err(refused("duration sum", seconds(self.duration_sum), reason));
        }
        if self.preceding_targets > PRECEDING_MAX
            || (self.preceding_targets == 0 && self.initial_trial < self.duration_sum)
        {
            let reason = "must be 1 to 16 (2 is usual), or 0 if the initial trial lasts as long as \
                          the duration sum";
            return Err(refused("preceding targets", self.preceding_targets, reason));
        }
        if !(2..=1000).contains(&self.expansion) {
            return Err(refused("expansion", self.expansion, "must be 2 to 1000; 2 is usual"));
        }
        Ok(())
    }

    /// Returns the targets, coarsest first and the goal last. From one to the next the duration sum grows by
    /// the same factor and the width halves.
    pub(crate) fn ladder(&self, grid: &Grid) -> Vec<Target> {
        let count = u32::from(self.preceding_targets);
        let sum = self.duration_sum;
        let shrink = match count {
            0 => 1.0,
            _ => {
                (self.initial_trial.as_secs_f64() / sum.as_secs_f64()).powf(1.0 / f64::from(count))
            }
        };
        let width = grid.width(self.relative_width);
        let target = |before: u32| {
            let duration_sum = match before {
                0 => sum,
                _ if before == count => self.initial_trial,
                _ => sum.mul_f64(shrink.powi(i32::try_from(before).unwrap_or(i32::MAX))),
            };
            Target {
                loss_ratio: self.loss_ratio,
                exceed_ratio: self.exceed_ratio,
                width: width << before,
                trial: self.final_trial.min(duration_sum),
                duration_sum,
                expansion: i64::from(self.expansion),
            }
        };
        (0..=count).rev().map(target).collect()
    }
}

/// A goal, or a coarser target before it, in steps of a grid.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) loss_ratio: f64,
    pub(crate) exceed_ratio: f64,
    /// The width in steps.
    pub(crate) width: i64,
    /// Length of the trials that decide.
    pub(crate) trial: Duration,
    pub(crate) duration_sum: Duration,
    pub(crate) expansion: i64,
}

/// The parameters of a search.
#[derive(Clone, Debug, PartialEq)]
pub struct SearchSpec {
    /// The goals, searched for together. If two ask for the same trial, it is made for the first one.
    pub goals: Vec<Goal>,
    /// The lowest load to try ("Min Load").
    pub min_load_pps: f64,
    /// The highest load to try ("Max Load"). If it equals the lowest, that load is classified.
    pub max_load_pps: f64,
    /// The longest sum of trial durations.
    pub duration_max: Duration,
    /// The largest number of trials.
    pub trials_max: u32,
}

impl SearchSpec {
    /// Returns a search for both rates of `bench ndr`, with at most an hour of trials.
    #[must_use]
    pub fn ndr_and_pdr(min_load_pps: f64, max_load_pps: f64) -> Self {
        Self {
            goals: vec![Goal::ndr(), Goal::pdr()],
            min_load_pps,
            max_load_pps,
            duration_max: Duration::from_secs(3600),
            trials_max: 10_000,
        }
    }

    pub(crate) fn check(&self) -> Result<(), SearchError> {
        if self.goals.is_empty() || self.goals.len() > GOALS_MAX {
            return Err(refused("goals", self.goals.len(), "name 1 to 16 of them"));
        }
        self.goals.iter().try_for_each(Goal::check)?;
        if !(f64::MIN_POSITIVE..=LOAD_MAX_PPS).contains(&self.min_load_pps) {
            let reason = "must be above 0 and at most 1e12 datagrams a second";
            return Err(refused("lowest load", self.min_load_pps, reason));
        }
        if !(self.min_load_pps..=LOAD_MAX_PPS).contains(&self.max_load_pps) {
            let reason = "must be at least the lowest load and at most 1e12 datagrams a second";
            return Err(refused("highest load", self.max_load_pps, reason));
        }
        if self.duration_max.is_zero() {
            let reason = "leaves no time for a trial; allow some minutes";
            return Err(refused("longest search", seconds(self.duration_max), reason));
        }
        if self.trials_max == 0 {
            return Err(refused("most trials", 0, "allows none; 10000 is plenty"));
        }
        Ok(())
    }
}

/// The reason why a search or a record is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SearchError {
    /// A parameter is invalid, on its own or with another.
    #[error("search, {setting} = {value}: {reason}")]
    Setting {
        /// The parameter.
        setting: &'static str,
        /// Its value.
        value: String,
        /// The reason, and the valid values.
        reason: &'static str,
    },
    /// An outcome was recorded without a trial that was asked for.
    #[error("a trial was recorded that was not asked for; ask for the next one first")]
    NotAsked,
}

fn refused(
    setting: &'static str,
    value: impl std::fmt::Display,
    reason: &'static str,
) -> SearchError {
    SearchError::Setting { setting, value: value.to_string(), reason }
}

fn seconds(duration: Duration) -> String {
    format!("{} s", duration.as_secs_f64())
}

fn fraction(setting: &'static str, value: f64) -> Result<(), SearchError> {
    if (0.0..1.0).contains(&value) {
        return Ok(());
    }
    Err(refused(setting, value, "must be a part from 0 to below 1; 0.005 is half a percent"))
}

#[cfg(test)]
mod tests {
    use super::*;

    type Change = fn(&mut SearchSpec);

    fn spec(change: impl FnOnce(&mut SearchSpec)) -> Result<(), SearchError> {
        let mut spec = SearchSpec::ndr_and_pdr(1e3, 1e7);
        change(&mut spec);
        spec.check()
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_a_way_out() {
        assert_eq!(spec(|_| {}), Ok(()));
        assert_eq!(spec(|s| s.goals.push(Goal::rfc2544())), Ok(()));
        assert_eq!(spec(|s| s.max_load_pps = s.min_load_pps), Ok(()));
        let refusals: [(&str, Change); 18] = [
            ("goals", |s| s.goals.clear()),
            ("goals", |s| s.goals = vec![Goal::ndr(); 17]),
            ("loss ratio", |s| s.goals[1].loss_ratio = 1.0),
            ("loss ratio", |s| s.goals[1].loss_ratio = f64::NAN),
            ("exceed ratio", |s| s.goals[0].exceed_ratio = -0.1),
            ("relative width", |s| s.goals[0].relative_width = 0.0),
            ("relative width", |s| s.goals[0].relative_width = 1.0),
            ("initial trial", |s| s.goals[0].initial_trial = Duration::ZERO),
            ("final trial", |s| s.goals[0].final_trial = Duration::from_millis(1)),
            ("duration sum", |s| s.goals[0].duration_sum = Duration::from_millis(1)),
            ("preceding targets", |s| s.goals[0].preceding_targets = 0),
            ("preceding targets", |s| s.goals[0].preceding_targets = 17),
            ("expansion", |s| s.goals[0].expansion = 1),
            ("lowest load", |s| s.min_load_pps = 0.0),
            ("highest load", |s| s.max_load_pps = 1.0),
            ("highest load", |s| s.max_load_pps = f64::INFINITY),
            ("longest search", |s| s.duration_max = Duration::ZERO),
            ("most trials", |s| s.trials_max = 0),
        ];
        for (setting, change) in refusals {
            let error = spec(change).unwrap_err();
            assert!(matches!(error, SearchError::Setting { setting: s, .. } if s == setting));
            assert!(error.to_string().starts_with(&format!("search, {setting} = ")), "{error}");
        }
    }

    #[test]
    fn a_ladder_leads_from_coarse_and_short_to_the_goal() {
        let grid = Grid::new(1e3, 1e7, &[0.005]);
        let width = grid.width(0.005);
        let ladder = Goal::rfc2544().ladder(&grid);
        let widths: Vec<i64> = ladder.iter().map(|target| target.width).collect();
        assert_eq!(widths, [4 * width, 2 * width, width]);
        let trials: Vec<u64> = ladder.iter().map(|target| target.trial.as_secs()).collect();
        assert_eq!(trials, [1, 7, 60]);
        let short = Goal::ndr().ladder(&grid);
        assert!(short.iter().all(|target| target.trial == Duration::from_secs(1)));
        let sums: Vec<u64> = short.iter().map(|target| target.duration_sum.as_secs()).collect();
        assert_eq!(sums, [1, 4, 21]);
        let once = Goal {
            preceding_targets: 0,
            initial_trial: Duration::from_secs(21),
            final_trial: Duration::from_secs(21),
            ..Goal::ndr()
        };
        assert_eq!(once.ladder(&grid).len(), 1);
    }
}
