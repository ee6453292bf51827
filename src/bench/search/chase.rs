//! The search for one goal: chooses the load of its next trial.
//!
//! A goal is reached over a ladder of targets, each half as wide and longer in trials than the one
//! before. What the last rung found (`floor`, `ceiling`) is where the next one starts:
//!
//! ```text
//!            floor                 ceiling
//! rung 1       |----------------------|
//! rung 2       |----------?           |      1. the middle, if that ends it
//!              ?          |           |      2. then the floor, 3. then the ceiling: do they hold?
//!  ?<----------x                             4. a floor that fell: down, each stride longer
//!                                     x-->?  5. a ceiling that held: up, each stride longer
//!              |----?-----------------|      6. both bounds there, but too far apart: cut
//! ```

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::search::evidence::{Bounds, Evidence};
use crate::search::goal::Target;
use crate::search::grid::{Grid, cut};

/// The trial that a goal asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wish {
    pub(crate) step: i64,
    pub(crate) duration: Duration,
    /// The distance from the known bounds, in steps; see [`Chase::next_wish`].
    pub(crate) stride: i64,
}

/// The answer of a goal that is asked for its next trial.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Next {
    Trial(Wish),
    /// Its bounds are found, or one of them does not exist.
    Reached,
}

/// The direction of a wish. It tells whether an outcome of the same kind was in vain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Below an upper bound, to find a lower one.
    Down,
    /// Above a lower bound, to find an upper one.
    Up,
    /// At a load where either outcome helps.
    Settle,
}

/// The state of one goal.
#[derive(Debug)]
pub(crate) struct Chase {
    /// Indices of its targets in the evidence, coarsest first.
    rungs: RangeInclusive<usize>,
    rung: usize,
    /// The bounds when the previous rung was reached; at first, the ends of the opening. Trials for
    /// other goals do not change them, so that every rung makes progress.
    floor: Option<i64>,
    ceiling: Option<i64>,
    /// Length of the next step outside known bounds.
    stride: i64,
    way: Way,
}

impl Chase {
    /// Starts at `low` and `high`, the loads at which the opening ended.
    pub(crate) fn new(
        rungs: RangeInclusive<usize>,
        low: i64,
        high: i64,
        evidence: &Evidence,
    ) -> Self {
        let rung = *rungs.start();
        let (floor, ceiling) = (Some(low), Some(high));
        let mut chase = Self { rungs, rung, floor, ceiling, stride: 0, way: Way::Settle };
        chase.set_stride((high - low).max(0), evidence.target(rung));
        chase
    }

    /// Returns the index of the goal itself among the targets.
    pub(crate) fn goal(&self) -> usize {
        *self.rungs.end()
    }

    /// Returns the trial that this goal asks for. `common_stride` is that of the last trial of any goal.
    /// Steps outside known bounds are never shorter, or distant goals would take turns in small steps.
    pub(crate) fn next_wish(
        &mut self,
        evidence: &Evidence,
        grid: &Grid,
        common_stride: i64,
    ) -> Next {
        loop {
            let target = evidence.target(self.rung);
            let bounds = evidence.bounds(self.rung);
            if let Some((step, stride)) = self.pick(target, &bounds, grid, common_stride) {
                return Next::Trial(Wish { step, duration: target.trial, stride });
            }
            if self.rung == *self.rungs.end() {
                return Next::Reached;
            }
            self.rung += 1;
            self.floor = bounds.lower;
            self.ceiling = bounds.upper;
            let between = match (bounds.lower, bounds.upper) {
                (Some(lower), Some(upper)) => upper - lower,
                _ => 0,
            };
            self.set_stride(between, evidence.target(self.rung));
        }
    }

    /// Takes note that the trial it asked for was recorded. Returns a new common stride if this goal
    /// stepped outwards in vain and will take a longer step.
    pub(crate) fn granted(&mut self, step: i64, evidence: &Evidence) -> Option<i64> {
        let bounds = evidence.bounds(self.rung);
        let in_vain = match self.way {
            Way::Down => bounds.upper == Some(step),
            Way::Up => bounds.lower == Some(step),
            Way::Settle => false,
        };
        in_vain.then(|| {
            let target = evidence.target(self.rung);
            self.stride = self.stride.saturating_mul(target.expansion);
            self.stride
        })
    }

    fn set_stride(&mut self, last: i64, target: &Target) {
        self.stride = last.max(target.width).saturating_mul(target.expansion);
    }

    /// Returns step and stride of the first applicable case of the six in the picture above.
    fn pick(
        &mut self,
        target: &Target,
        bounds: &Bounds,
        grid: &Grid,
        common_stride: i64,
    ) -> Option<(i64, i64)> {
        for step in [self.middle(target), self.floor, self.ceiling].into_iter().flatten() {
            if bounds.open_at(step, target.width) {
                self.way = Way::Settle;
                self.set_stride(target.width, target);
                return Some((step, target.width));
            }
        }
        let stride = self.stride.max(common_stride);
        match (bounds.lower, bounds.upper) {
            (None, None) => None,
            (None, Some(upper)) => {
                self.way = Way::Down;
                let step =
                    grid.place(upper.saturating_sub(stride), target.width, None, Some(upper));
                step.map(|step| (step, stride))
            }
            (Some(lower), None) if lower >= grid.top() => None,
            (Some(lower), None) => {
                self.way = Way::Up;
                let step =
                    grid.place(lower.saturating_add(stride), target.width, Some(lower), None);
                step.map(|step| (step, stride))
            }
            (Some(_), Some(_)) if bounds.narrow(target.width) => None,
            (Some(lower), Some(upper)) => {
                Some(self.between((lower, upper), target, grid, common_stride))
            }
        }
    }

    /// Returns the load between floor and ceiling if, with either outcome, a trial there leaves an
    /// interval that is narrow enough.
    fn middle(&self, target: &Target) -> Option<i64> {
        let (floor, ceiling) = (self.floor?, self.ceiling?);
        let between = ceiling - floor;
        let one_cut = target.width < between && between <= 2 * target.width;
        one_cut.then(|| cut(floor, ceiling, target.width))
    }

    /// Chooses a load between bounds that are too far apart. They may have been found for another goal,
    /// far from this one's last trial. A step outwards from the bound on its own side is then better
    /// than a cut, as long as it does not go beyond the cut.
    fn between(
        &mut self,
        (lower, upper): (i64, i64),
        target: &Target,
        grid: &Grid,
        common_stride: i64,
    ) -> (i64, i64) {
        let at = cut(lower, upper, target.width);
        let stride = self.stride.max(common_stride);
        let place = |wanted| grid.place(wanted, target.width, Some(lower), Some(upper));
        if let Some(ceiling) = self.ceiling
            && let Some(step) = place(upper.saturating_sub(stride))
            && (at + 1..ceiling).contains(&step)
        {
            self.way = Way::Down;
            return (step, stride);
        }
        if let Some(floor) = self.floor
            && let Some(step) = place(lower.saturating_add(stride))
            && (floor + 1..at).contains(&step)
        {
            self.way = Way::Up;
            return (step, stride);
        }
        self.way = Way::Settle;
        let piece = (at - lower).min(upper - at);
        self.set_stride(piece, target);
        (at, piece)
    }
}
