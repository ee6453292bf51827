//! Searches for the highest rates with an agreed loss: **MLRsearch**, Multiple Loss Ratio search
//! (draft-ietf-bmwg-mlrsearch; words in quotes are its terms). Pure: no clock, no thread, no I/O.
//!
//! ```text
//!                 Trial { load, duration }
//! Search ─────────────────────────────────────► the caller sends, counts, and settles
//!    ▲                                                         │
//!    └────────────────── TrialOutcome { intended, forwarded } ◄─────┘
//! ```
//!
//! Datagrams that were intended but not sent count as lost: a load that was not offered does not show that
//! the device can take it. Trials start short and coarse and end as long and narrow as the goals ask for;
//! each trial counts for every goal. A load becomes a lower or an upper bound as soon as no further trial
//! could change that. So one unlucky trial does not decide, and no load is measured more often than needed.
//!
//! | file | content |
//! |---|---|
//! | `grid` | the loads that may be tried, and how intervals are cut |
//! | `goal` | the goals and limits, and their checks |
//! | `evidence` | classifies loads by their trials |
//! | `opening` | the first three trials |
//! | `chase` | chooses the next load for one goal |
//!
//! Loads, trials and bounds are the same as those of the published controller (PyPI `MLRsearch`
//! 1.2.1) on the same device: `tests/it/bench/mlrsearch.rs` runs both.

use std::time::Duration;

/// The loads that a search may try: a geometric grid.
mod grid;
/// The goals and limits of a search, and the coarser targets that lead to a goal.
mod goal;
/// Classifies each load by the trials so far.
mod evidence;
/// The first trials: at most three, each closer to the load at which loss begins.
mod opening;
/// The search for one goal: chooses the load of its next trial.
mod chase;
#[cfg(test)]
mod tests;

pub use crate::search::goal::{Goal, SearchError, SearchSpec};

use crate::search::chase::{Chase, Next, Wish};
use crate::search::evidence::{Evidence, Sample};
use crate::search::grid::Grid;
use crate::search::opening::{Opening, Terms};

/// A trial to be made ("Trial Input").
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trial {
    /// Datagrams a second to intend ("Trial Load").
    pub load_pps: f64,
    /// For how long ("Trial Duration").
    pub duration: Duration,
    /// The index in [`SearchSpec::goals`] of the goal that asked for it; `None` for the first trials,
    /// which are for all goals.
    pub goal: Option<usize>,
}

/// The outcome of a trial ("Trial Output").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrialOutcome {
    /// Datagrams that were due, sent or not.
    pub intended: u64,
    /// Those of them that arrived.
    pub forwarded: u64,
    /// Its weight in sums of durations, if the trial took longer than intended ("Trial Effective
    /// Duration"); `None` for the intended duration.
    pub effective: Option<Duration>,
}

impl TrialOutcome {
    /// Makes the outcome of a trial that took as long as intended.
    #[must_use]
    pub fn new(intended: u64, forwarded: u64) -> Self {
        Self { intended, forwarded, effective: None }
    }

    /// Returns the missing share, 0 to 1 ("Trial Loss Ratio"); 0 if nothing was intended. An excess
    /// counts as a loss of the same size, so it leads the search to lower loads.
    #[must_use]
    pub fn loss_ratio(&self) -> f64 {
        if self.intended == 0 {
            return 0.0;
        }
        (self.intended.abs_diff(self.forwarded) as f64 / self.intended as f64).min(1.0)
    }
}

/// A trial and its outcome.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Made {
    /// The trial.
    pub trial: Trial,
    /// Its outcome.
    pub outcome: TrialOutcome,
}

/// The reason why a search has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Every goal has its result.
    Reached,
    /// Even the lowest load is too high for the goal of this index, which has `fail_fast`.
    FailedFast(usize),
    /// The next trial would exceed [`SearchSpec::duration_max`].
    DurationSpent,
    /// [`SearchSpec::trials_max`] were made.
    TrialsSpent,
}

/// The result for a goal ("Goal Result"), final once the search has ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GoalResult {
    /// The highest load known to be within the goal, below the relevant upper bound.
    pub relevant_lower_pps: Option<f64>,
    /// The lowest load known to be beyond it.
    pub relevant_upper_pps: Option<f64>,
    /// The rate forwarded at the relevant lower bound ("Conditional Throughput"): its load less the
    /// largest loss of a trial within the exceed ratio. The figure to quote.
    pub conditional_throughput_pps: Option<f64>,
    /// The meaning of the bounds.
    pub standing: Standing,
}

impl GoalResult {
    /// Returns whether both bounds exist and are close enough.
    #[must_use]
    pub fn goal_achieved(&self) -> bool {
        self.standing == Standing::Regular
    }
}

/// The meaning of a goal's bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Both exist, within the goal's width ("Regular Goal Result").
    Regular,
    /// Even the highest load is within the goal: the real bound is above it.
    AboveMaxLoad,
    /// Even the lowest load is beyond the goal: the real bound is below it.
    BelowMinLoad,
    /// The search was not finished.
    Unfinished,
}

/// A search, driven by its caller: call [`Search::next_trial`], make the trial, pass its outcome to
/// [`Search::record`], until no trial is returned. Then read [`Search::results`].
///
/// It always ends: the specification limits the number of trials and their time.
#[derive(Debug)]
pub struct Search {
    spec: SearchSpec,
    grid: Grid,
    evidence: Evidence,
    terms: Terms,
    opening: Opening,
    /// One for each goal; empty until the opening is over.
    chases: Vec<Chase>,
    /// First and last index of each goal's targets in the evidence.
    rungs: Vec<(usize, usize)>,
    /// Stride of the last trial made; see [`Chase::next_wish`].
    common_stride: i64,
    asked: Option<Asked>,
    ending: Option<Ending>,
    made: Vec<Made>,
    spent: Duration,
}

/// A trial that was asked for and is not yet recorded.
#[derive(Clone, Copy, Debug)]
struct Asked {
    trial: Trial,
    step: i64,
    stride: i64,
}

impl Search {
    /// Starts a search.
    ///
    /// # Errors
    /// A parameter is invalid; the error names it and the valid values.
    pub fn new(spec: SearchSpec) -> Result<Self, SearchError> {
        spec.check()?;
        let widths: Vec<f64> = spec.goals.iter().map(|goal| goal.relative_width).collect();
        let grid = Grid::new(spec.min_load_pps, spec.max_load_pps, &widths);
        let mut targets = Vec::new();
        let mut rungs = Vec::new();
        let mut terms = Terms { loss_ratio: 1.0, duration: Duration::ZERO, width: 0 };
        for goal in &spec.goals {
            let first = targets.len();
            targets.extend(goal.ladder(&grid));
            rungs.push((first, targets.len() - 1));
            terms.loss_ratio = terms.loss_ratio.min(goal.loss_ratio);
            terms.duration = terms.duration.max(targets[first].trial);
            terms.width = terms.width.max(targets[first].width);
        }
        Ok(Self {
            spec,
            grid,
            evidence: Evidence::new(targets),
            terms,
            opening: Opening::First,
            chases: Vec::new(),
            rungs,
            common_stride: 0,
            asked: None,
            ending: None,
            made: Vec::new(),
            spent: Duration::ZERO,
        })
    }

    /// Returns the trial to make next, or `None` when the search has ended. Returns the same one until
    /// it is recorded, so a failed trial can be repeated; the caller should limit that.
    pub fn next_trial(&mut self) -> Option<Trial> {
        if self.ending.is_some() {
            return None;
        }
        if self.asked.is_none() {
            match self.choose() {
                Ok(asked) => self.asked = Some(asked),
                Err(ending) => self.ending = Some(ending),
            }
        }
        self.asked.map(|asked| asked.trial)
    }

    /// Records the outcome of the trial that was asked for.
    ///
    /// # Errors
    /// [`SearchError::NotAsked`] if no trial was asked for; nothing changes.
    pub fn record(&mut self, outcome: TrialOutcome) -> Result<(), SearchError> {
        let Asked { trial, step, stride } = self.asked.take().ok_or(SearchError::NotAsked)?;
        let effective = outcome.effective.unwrap_or(trial.duration).max(trial.duration);
        let loss_ratio = outcome.loss_ratio();
        let weight_s = effective.as_secs_f64();
        self.evidence.add(step, &Sample { duration: trial.duration, weight_s, loss_ratio });
        self.made.push(Made { trial, outcome });
        self.spent = self.spent.saturating_add(effective);
        let Some(goal) = trial.goal else {
            self.opening = self.opening.after(loss_ratio, &self.terms, &self.grid);
            return Ok(());
        };
        self.common_stride = stride;
        if let Some(longer) = self.chases[goal].granted(step, &self.evidence) {
            self.common_stride = longer;
        }
        Ok(())
    }

    /// Returns the reason for the end, or `None` while the search goes on.
    #[must_use]
    pub fn ending(&self) -> Option<Ending> {
        self.ending
    }

    /// Returns all trials so far, in order.
    #[must_use]
    pub fn made(&self) -> &[Made] {
        &self.made
    }

    /// Returns the sum of the trials' effective durations.
    #[must_use]
    pub fn spent(&self) -> Duration {
        self.spent
    }

    /// Returns the result for each goal, in the order of [`SearchSpec::goals`].
    #[must_use]
    pub fn results(&self) -> Vec<GoalResult> {
        self.rungs.iter().map(|(_, goal)| self.result(*goal)).collect()
    }

    fn result(&self, goal: usize) -> GoalResult {
        let bounds = self.evidence.bounds(goal);
        let load = |step: Option<i64>| step.map(|step| self.grid.load_pps(step));
        let standing = match (bounds.lower, bounds.upper) {
            (Some(_), Some(_)) if bounds.narrow(self.evidence.target(goal).width) => {
                Standing::Regular
            }
            (Some(lower), None) if lower == self.grid.top() => Standing::AboveMaxLoad,
            (None, Some(0)) => Standing::BelowMinLoad,
            _ => Standing::Unfinished,
        };
        GoalResult {
            relevant_lower_pps: load(bounds.lower),
            relevant_upper_pps: load(bounds.upper),
            conditional_throughput_pps: bounds
                .lower
                .map(|step| self.grid.load_pps(step) * self.evidence.forwarded_part(step, goal)),
            standing,
        }
    }

    /// Returns the next trial, or the reason for the end.
    fn choose(&mut self) -> Result<Asked, Ending> {
        let asked = match self.opening.step(&self.grid) {
            Some(step) => self.ask(step, self.terms.duration, None, 0),
            None => self.follow()?,
        };
        if self.made.len() >= usize::try_from(self.spec.trials_max).unwrap_or(usize::MAX) {
            return Err(Ending::TrialsSpent);
        }
        if self.spent.saturating_add(asked.trial.duration) > self.spec.duration_max {
            return Err(Ending::DurationSpent);
        }
        Ok(asked)
    }

    fn ask(&self, step: i64, duration: Duration, goal: Option<usize>, stride: i64) -> Asked {
        let load_pps = self.grid.load_pps(step);
        Asked { trial: Trial { load_pps, duration, goal }, step, stride }
    }

    /// Chooses among the goals' wishes: the lowest load, which most likely stays valid for the others;
    /// then the longest trial, the longest stride, the first goal.
    fn follow(&mut self) -> Result<Asked, Ending> {
        if let (Opening::Over { low, high }, true) = (self.opening, self.chases.is_empty()) {
            self.common_stride = high - low;
            let chase = |&(first, last): &(usize, usize)| {
                Chase::new(first..=last, low, high, &self.evidence)
            };
            self.chases = self.rungs.iter().map(chase).collect();
        }
        let mut best: Option<(_, Wish, usize)> = None;
        for (goal, chase) in self.chases.iter_mut().enumerate() {
            match chase.next_wish(&self.evidence, &self.grid, self.common_stride) {
                Next::Trial(wish) => {
                    let rank = (-wish.step, wish.duration, wish.stride);
                    if best.is_none_or(|(best_rank, ..)| rank > best_rank) {
                        best = Some((rank, wish, goal));
                    }
                }
                Next::Reached => {
                    let no_lower = self.evidence.bounds(chase.goal()).lower.is_none();
                    if self.spec.goals[goal].fail_fast && no_lower {
                        return Err(Ending::FailedFast(goal));
                    }
                }
            }
        }
        let (_, wish, goal) = best.ok_or(Ending::Reached)?;
        Ok(self.ask(wish.step, wish.duration, Some(goal), wish.stride))
    }
}
