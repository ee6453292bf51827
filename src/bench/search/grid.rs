//! The loads a search may try: a geometric grid, so that a relative width is a whole number of steps.
//!
//! ```text
//! min_pps                                                                        max_pps
//!    |----|----|----|----|----|----|----|----|----|----|----|----|----|----|----|----|
//!    0    1    2   ...         each step the same ratio                             top
//! ```
//!
//! Intervals are widened and cut in whole steps. So a doubled interval can be halved exactly, which
//! floating point loads would not guarantee.

/// The smallest share of a goal's width that whole steps must reach. Lower: the grid is coarser, and a
/// search ends narrower, and so later, than asked for.
const FIT_MIN: f64 = 0.99;
/// The largest such share. Higher: rounding could make an interval too wide.
const FIT_MAX: f64 = 0.999_999;
/// The most tries to find a grid. A few dozen are enough, unless rounding prevents a fit.
const TRIES_MAX: u32 = 10_000;

/// Loads between two limits, numbered from 0 to `top`.
#[derive(Clone, Debug)]
pub(crate) struct Grid {
    min_pps: f64,
    max_pps: f64,
    /// The number of the highest load; 0 if both limits are the same.
    top: i64,
}

impl Grid {
    /// Makes a grid so fine that each of the relative `widths` is nearly a whole number of steps.
    /// Limits and widths must have been checked by [`crate::search::SearchSpec`].
    pub(crate) fn new(min_pps: f64, max_pps: f64, widths: &[f64]) -> Self {
        let span = max_pps.ln() - min_pps.ln();
        if span <= 0.0 {
            return Self { min_pps, max_pps: min_pps, top: 0 };
        }
        let mut steps = 1.0_f64;
        for _ in 0..TRIES_MAX {
            match finer(steps, span, widths) {
                None => break,
                Some(more) => steps = more,
            }
        }
        Self { min_pps, max_pps, top: whole(steps) }
    }

    /// Returns the number of the highest load.
    pub(crate) fn top(&self) -> i64 {
        self.top
    }

    /// Returns the load of a step; numbers outside the grid stand for its ends.
    pub(crate) fn load_pps(&self, step: i64) -> f64 {
        if step <= 0 {
            self.min_pps
        } else if step >= self.top {
            self.max_pps
        } else {
            let part = step as f64 / self.top as f64;
            self.min_pps * ((self.max_pps.ln() - self.min_pps.ln()) * part).exp()
        }
    }

    /// Returns the highest step whose load is not above `load_pps`, or 0 if there is none.
    pub(crate) fn floor(&self, load_pps: f64) -> i64 {
        let (mut low, mut above) = (0, self.top + 1);
        while above - low > 1 {
            let middle = low + (above - low) / 2;
            if self.load_pps(middle) <= load_pps {
                low = middle;
            } else {
                above = middle;
            }
        }
        low
    }

    /// Returns the most steps between two loads that differ by at most `relative` of the higher one.
    pub(crate) fn width(&self, relative: f64) -> i64 {
        if self.top == 0 {
            return 1;
        }
        let step = (self.max_pps.ln() - self.min_pps.ln()) / self.top as f64;
        whole(log_width(relative) / step).max(1)
    }

    /// Moves `wanted` to a step inside the grid and at least `width` away from the known steps (`below`
    /// and `above`, which are never returned). Near a limit it returns the limit. Returns `None` if the
    /// interval is narrow enough.
    pub(crate) fn place(
        &self,
        wanted: i64,
        width: i64,
        below: Option<i64>,
        above: Option<i64>,
    ) -> Option<i64> {
        let wanted = wanted.clamp(0, self.top);
        let (low, high) = (below.unwrap_or(0), above.unwrap_or(self.top));
        if below.is_some_and(|below| wanted <= below) || above.is_some_and(|above| wanted >= above)
        {
            return None;
        }
        if high - low <= width {
            return match (below, above) {
                (None, _) => Some(low),
                (_, None) => Some(high),
                _ => None,
            };
        }
        let (mut near_low, mut near_high) = (low + width, high - width);
        if near_low > near_high {
            near_low = cut(low, high, width);
            near_high = near_low;
        }
        Some(if wanted < near_low {
            if below.is_some() { near_low } else { low }
        } else if wanted > near_high {
            if above.is_some() { near_high } else { high }
        } else {
            wanted
        })
    }
}

/// Returns the next number of steps to try, or `None` if `steps` fit all widths.
fn finer(steps: f64, span: f64, widths: &[f64]) -> Option<f64> {
    let mut next = None;
    for relative in widths {
        let wide = log_width(*relative) / (span / steps);
        let fit = wide.floor() / wide;
        if !(FIT_MIN..=FIT_MAX).contains(&fit) {
            let wanted = (wide.floor() + 1.0) / FIT_MAX / wide * steps;
            next = Some(wanted.max(next.unwrap_or(steps + 1.0)));
        }
    }
    next.map(f64::ceil)
}

/// Returns a relative width as a difference of logarithms.
fn log_width(relative: f64) -> f64 {
    -(-relative).ln_1p()
}

/// Returns a small non-negative number without its fraction.
fn whole(number: f64) -> i64 {
    #[expect(clippy::cast_possible_truncation, reason = "the fraction is to go; `as` saturates")]
    let whole = number as i64;
    whole
}

/// Returns the step at which to cut an interval wider than `width` in two.
///
/// One piece is `width` times a power of two, so that further cuts come out even and no piece is just too
/// wide. It is the power that cuts most evenly. The smaller piece is the lower one, because lossy loads
/// take the most time.
pub(crate) fn cut(low: i64, high: i64, width: i64) -> i64 {
    let all = high - low;
    if all < 2 * width {
        // No such cut exists. Half the width may suit a finer goal.
        return if width % 2 == 0 { cut(low, high, width / 2) } else { low + all / 2 };
    }
    let mut piece = width;
    while all - 2 * piece > 2 * piece {
        piece *= 2;
    }
    let rest = all - 2 * piece;
    // The larger product is the more even cut.
    if piece * (all - piece) > 2 * piece * rest { low + piece } else { low + rest }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ends_are_exact_and_steps_even() {
        let grid = Grid::new(1e3, 1e7, &[0.005]);
        assert_eq!(grid.load_pps(0).to_bits(), 1e3_f64.to_bits());
        assert_eq!(grid.load_pps(grid.top()).to_bits(), 1e7_f64.to_bits());
        assert_eq!(grid.load_pps(-3).to_bits(), 1e3_f64.to_bits());
        let ratio = grid.load_pps(1) / grid.load_pps(0);
        let there = grid.load_pps(grid.top() / 2 + 1) / grid.load_pps(grid.top() / 2);
        assert!((ratio - there).abs() < 1e-9);
        assert_eq!(grid.floor(5.0), 0);
        assert_eq!(grid.floor(1e9), grid.top());
    }

    #[test]
    fn one_load_is_a_grid() {
        let grid = Grid::new(5e5, 5e5, &[0.005]);
        assert_eq!((grid.top(), grid.width(0.005), grid.floor(5e5)), (0, 1, 0));
        assert_eq!(grid.place(0, 1, None, None), Some(0));
        assert_eq!(grid.place(-1, 1, None, Some(0)), None);
    }

    #[test]
    fn cuts_leave_powers_of_two() {
        assert_eq!(cut(0, 8, 4), 4);
        assert_eq!(cut(0, 12, 4), 4, "the smaller piece is below");
        assert_eq!(cut(0, 20, 4), 8, "8 and 12 is more even than 4 and 16");
        assert_eq!(cut(0, 9, 4), 4);
        assert_eq!(cut(0, 7, 5), 3, "no even half of an odd width");
        assert_eq!(cut(10, 13, 2), 11);
    }

    proptest! {
        #[test]
        fn every_width_fits(
            min in 1.0f64..1e6, times in 1.0001f64..1e6,
            widths in prop::collection::vec(1e-4f64..0.9, 1..4),
        ) {
            let grid = Grid::new(min, min * times, &widths);
            for relative in &widths {
                let steps = grid.width(*relative);
                let got = 1.0 - grid.load_pps(0) / grid.load_pps(steps);
                prop_assert!(got <= *relative, "{got} is wider than {relative}");
                if steps < grid.top() {
                    prop_assert!(got > 0.97 * relative, "{got} is far below {relative}");
                }
            }
        }

        #[test]
        fn floor_undoes_load(min in 1.0f64..1e6, times in 1.1f64..1e6, part in 0.0f64..1.0) {
            let grid = Grid::new(min, min * times, &[0.003]);
            let step = whole(part * grid.top() as f64);
            prop_assert_eq!(grid.floor(grid.load_pps(step)), step);
        }

        #[test]
        fn a_cut_is_inside(low in 0i64..1000, width in 1i64..300, more in 1i64..5000) {
            let high = low + width + more;
            let at = cut(low, high, width);
            prop_assert!(low < at && at < high);
            prop_assert!(at - low <= high - at);
        }

        #[test]
        fn a_place_is_new_and_inside(
            wanted in -500i64..6000, width in 1i64..300, a in 0i64..5000, b in 0i64..5000,
            known in 0u8..4,
        ) {
            let grid = Grid { min_pps: 1.0, max_pps: 1e6, top: 5000 };
            let below = (known & 1 != 0).then_some(a.min(b));
            let above = (known & 2 != 0).then_some(a.max(b));
            if let Some(at) = grid.place(wanted, width, below, above) {
                prop_assert!((0..=5000).contains(&at));
                prop_assert!(below.is_none_or(|below| below < at));
                prop_assert!(above.is_none_or(|above| at < above));
            }
        }
    }
}
