//! The first trials: at most three, each closer to the load at which loss begins.
//!
//! The highest load shows the rate that the device forwards when overloaded. That rate, corrected for the
//! loss that the strictest goal allows, is the next load. A third trial near it makes an interval that
//! often holds the results of all goals.

use std::time::Duration;

use crate::search::grid::Grid;

/// The parameters that all goals share at the start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// The smallest loss ratio of any goal.
    pub(crate) loss_ratio: f64,
    /// The longest trial of any goal's first target.
    pub(crate) duration: Duration,
    /// The widest of any goal's first target, steps.
    pub(crate) width: i64,
}

/// The state of the opening.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opening {
    /// The highest load is next.
    First,
    /// This load is next.
    Second(i64),
    /// The last load, with the one before it.
    Third { before: i64, last: i64 },
    /// The opening is over; the goals start from these two loads, which may be the same.
    Over { low: i64, high: i64 },
}

impl Opening {
    /// Returns the load to try next, or `None` when the opening is over.
    pub(crate) fn step(self, grid: &Grid) -> Option<i64> {
        match self {
            Self::First => Some(grid.top()),
            Self::Second(step) | Self::Third { last: step, .. } => Some(step),
            Self::Over { .. } => None,
        }
    }

    /// Returns the next state after a trial with this loss ratio.
    pub(crate) fn after(self, loss_ratio: f64, terms: &Terms, grid: &Grid) -> Self {
        // Assumes that every datagram above the sought rate was lost.
        let hint = |step: i64| {
            grid.floor(grid.load_pps(step) * (1.0 - loss_ratio) * (1.0 / (1.0 - terms.loss_ratio)))
        };
        let top = grid.top();
        match self {
            Self::First => {
                let second = hint(top);
                let second =
                    (second < top).then(|| grid.place(second, terms.width, None, Some(top)));
                second.flatten().map_or(Self::Over { low: top, high: top }, Self::Second)
            }
            Self::Second(before) => {
                let last = if loss_ratio > terms.loss_ratio {
                    grid.place(hint(before), terms.width, None, Some(before))
                } else {
                    grid.place(before + terms.width, terms.width, Some(before), Some(top))
                };
                last.map_or(Self::Over { low: before, high: before }, |last| Self::Third {
                    before,
                    last,
                })
            }
            Self::Third { before, last } => {
                Self::Over { low: before.min(last), high: before.max(last) }
            }
            Self::Over { .. } => self,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERMS: Terms = Terms { loss_ratio: 0.0, duration: Duration::from_secs(1), width: 40 };

    #[test]
    fn a_sharp_knee_is_found_in_three_trials() {
        let grid = Grid::new(1e3, 1e7, &[0.005]);
        let knee = 123_456.0;
        let loss = |step: i64| (1.0 - knee / grid.load_pps(step)).max(0.0);
        let mut opening = Opening::First;
        let mut trials = 0;
        while let Some(step) = opening.step(&grid) {
            opening = opening.after(loss(step), &TERMS, &grid);
            trials += 1;
        }
        let Opening::Over { low, high } = opening else { panic!("still open") };
        assert_eq!((trials, high - low), (3, 40));
        assert!(grid.load_pps(low) <= knee && knee < grid.load_pps(high));
    }

    #[test]
    fn it_ends_early_at_either_limit() {
        let grid = Grid::new(1e3, 1e7, &[0.005]);
        let top = grid.top();
        let lossless = Opening::First.after(0.0, &TERMS, &grid);
        assert_eq!(lossless, Opening::Over { low: top, high: top });
        let deaf = Opening::First.after(1.0, &TERMS, &grid);
        assert_eq!(deaf, Opening::Second(0));
        assert_eq!(deaf.after(1.0, &TERMS, &grid), Opening::Over { low: 0, high: 0 });
        let single = Grid::new(5.0, 5.0, &[0.005]);
        assert_eq!(Opening::First.after(1.0, &TERMS, &single), Opening::Over { low: 0, high: 0 });
    }
}
