//! Axes: the place of a value on a scale, and the values that have a label.
//!
//! All coordinates of the page come from [`pixel`]. It returns a whole number within the axis for any
//! value, infinite ones and NaN included.

use ringest_base::text::figures::{nanos, percent, short, trimmed};

/// Maps values to lengths.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Scale {
    /// Equal steps have equal lengths.
    Linear,
    /// Equal ratios have equal lengths.
    Log,
    /// As `Log`, with a place for 0 below all others. Holds the smallest value above 0.
    LogOrZero(f64),
    /// Percentiles from 0 to 100. Each further nine (90, 99, 99.9) has the same length.
    Tail,
}

impl Scale {
    fn length(self, value: f64, low: f64) -> f64 {
        match self {
            Self::Linear => value,
            Self::LogOrZero(least) if value < least => low,
            Self::Log | Self::LogOrZero(_) => value.log10(),
            Self::Tail => -(1.0 - value / 100.0).max(1e-9).log10(),
        }
    }
}

/// One axis of a chart.
#[derive(Clone, Debug)]
pub(crate) struct Axis {
    scale: Scale,
    /// Both ends as lengths of the scale; `low < high`.
    low: f64,
    high: f64,
    /// Labelled values, ascending.
    ticks: Vec<(f64, String)>,
    /// The quantity and its unit.
    pub(crate) title: &'static str,
}

/// The largest value that is drawn. No rate, time or count is above it, and sums of two stay finite.
const MOST: f64 = 1e30;

/// Returns the smallest and the largest of the finite values, or `None` without one.
fn bounds(values: impl IntoIterator<Item = f64>) -> Option<(f64, f64)> {
    let finite = values.into_iter().filter(|value| value.is_finite());
    finite.map(|value| (value, value)).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
}

impl Axis {
    fn new(
        scale: Scale,
        (low, high): (f64, f64),
        ticks: impl IntoIterator<Item = f64>,
        label: impl Fn(f64) -> String,
    ) -> Self {
        let ticks = ticks.into_iter().map(|value| (value, label(value))).collect();
        Self { scale, low, high, ticks, title: "" }
    }

    /// Names the quantity.
    pub(crate) fn titled(self, title: &'static str) -> Self {
        Self { title, ..self }
    }

    /// Makes a linear axis from 0 to the largest value, in about `most` round steps.
    pub(crate) fn from_zero(
        values: impl IntoIterator<Item = f64>,
        most: u32,
        label: fn(f64) -> String,
    ) -> Self {
        let high = bounds(values).map_or(1.0, |(_, high)| high);
        let high = if high > 0.0 { high.clamp(1e-12, MOST) } else { 1.0 };
        let rough = high / f64::from(most.max(1));
        let unit = 10f64.powf(rough.log10().floor());
        let steps = [1.0, 2.0, 2.5, 5.0, 10.0].map(|factor| factor * unit);
        let step = steps.into_iter().find(|step| *step >= rough * 0.999).unwrap_or(rough);
        let last = (1..=most + 1).find(|n| f64::from(*n) * step >= high).unwrap_or(most + 1);
        let ticks: Vec<f64> = (0..=last).map(|n| f64::from(n) * step).collect();
        let high = high.max(f64::from(last) * step);
        Self::new(Scale::Linear, (0.0, high), ticks, label)
    }

    /// Makes an axis for rates: linear from 0, or logarithmic if they span a factor above 30.
    pub(crate) fn rates(values: &[f64], most: u32) -> Self {
        match bounds(values.iter().copied().filter(|rate| *rate > 0.0)) {
            Some((low, high)) if high / low > 30.0 => Self::log(low, high, most, short),
            _ => Self::from_zero(values.iter().copied(), most, short),
        }
    }

    /// Makes a logarithmic axis for times in ns.
    pub(crate) fn times(values: impl IntoIterator<Item = f64>, most: u32) -> Self {
        let least_1 = values.into_iter().map(|time| time.max(1.0));
        let (low, high) = bounds(least_1).unwrap_or((1.0, 1e3));
        Self::log(low, high, most, nanos)
    }

    /// Makes a logarithmic axis of whole decades around `low` and `high`.
    fn log(low: f64, high: f64, most: u32, label: fn(f64) -> String) -> Self {
        let low = low.clamp(1.0 / MOST, MOST).log10().floor();
        let high = high.clamp(1.0 / MOST, MOST).log10().ceil().max(low + 1.0);
        Self::new(Scale::Log, (low, high), decades(low, high, most), label)
    }

    /// Makes a logarithmic axis for loss ratios from 0 to 1, with a place for 0.
    pub(crate) fn losses(values: impl IntoIterator<Item = f64>, most: u32) -> Self {
        let lossy = values.into_iter().filter(|loss| *loss > 0.0);
        let (low, high) = bounds(lossy).unwrap_or((0.001, 1.0));
        let (low, high) = (low.clamp(1e-9, 0.01).log10().floor(), high.clamp(0.1, 1.0));
        let high = high.log10().ceil();
        let ticks = std::iter::once(0.0).chain(decades(low, high, most.saturating_sub(1)));
        let label = |loss| {
            if loss > 0.0 { format!("{} %", short(loss * 100.0)) } else { percent(0.0) }
        };
        Self::new(Scale::LogOrZero(10f64.powf(low)), (low - 0.7, high), ticks, label)
    }

    /// Makes a linear axis for shares, from about `from` to 1. Steps are round in what is missing to 1.
    pub(crate) fn up_to_all(from: f64, most: u32) -> Self {
        let missing = Self::from_zero([1.0 - from.clamp(0.0, 1.0 - 1e-9)], most, short);
        let ticks = missing.ticks.iter().rev().map(|(missing, _)| 1.0 - missing);
        let label = |share: f64| format!("{} %", trimmed(share * 100.0, 7));
        Self::new(Scale::Linear, (1.0 - missing.high, 1.0), ticks, label)
    }

    /// Makes an axis for percentiles up to `most`, which is below 100.
    pub(crate) fn percentiles(most: f64) -> Self {
        let most = if most.is_finite() { most.clamp(99.0, 99.9999) } else { 99.9 };
        let high = Scale::Tail.length(most, 0.0);
        let ticks = [0.0, 50.0, 90.0, 99.0, 99.9, 99.99, 99.999, 99.9999].into_iter();
        let ticks = ticks.filter(|value| Scale::Tail.length(*value, 0.0) <= high + 0.001);
        Self::new(Scale::Tail, (0.0, high), ticks, |percentile| percentile.to_string())
    }

    /// Makes an axis for the numbers from 1 to `count`, with room at both ends.
    pub(crate) fn positions(count: usize, most: u32) -> Self {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        let step = count.div_ceil(most.max(1)).max(1);
        let multiples = (1..=most).map(|times| times.saturating_mul(step));
        let ticks = multiples.filter(|at| *at > 1 && *at <= count);
        let ticks = std::iter::once(1).chain(ticks).map(f64::from);
        let ends = (0.4, f64::from(count) + 0.6);
        Self::new(Scale::Linear, ends, ticks, |at| format!("{at:.0}"))
    }

    /// Returns the labelled values, ascending.
    pub(crate) fn ticks(&self) -> impl Iterator<Item = (f64, &str)> {
        self.ticks.iter().map(|(value, label)| (*value, label.as_str()))
    }

    /// Returns the place of `value` between `start` and `end`, both pixels.
    pub(crate) fn pixel(&self, value: f64, ends: (i32, i32)) -> i32 {
        let length = self.scale.length(value, self.low);
        pixel((length - self.low) / (self.high - self.low), ends)
    }
}

/// Returns the powers of ten from 10^low to 10^high, about `most`; if they are few, also 2 and 5 times
/// each.
fn decades(low: f64, high: f64, most: u32) -> Vec<f64> {
    let most = f64::from(most.max(2));
    let step = ((high - low) / most).ceil().max(1.0);
    let factors: &[f64] = if (high - low) * 3.0 <= most { &[1.0, 2.0, 5.0] } else { &[1.0] };
    let exponents = (0..64).map(|n| low + f64::from(n) * step);
    let exponents = exponents.take_while(|exponent| *exponent <= high + 1e-9);
    let values =
        exponents.flat_map(|exponent| factors.iter().map(move |f| f * 10f64.powf(exponent)));
    values.filter(|value| *value <= 10f64.powf(high) * 1.001).collect()
}

/// Returns the pixel at `fraction` of the way from `start` to `end`; values beyond an end are at it.
#[expect(clippy::cast_possible_truncation, reason = "rounded, and between two 32-bit numbers")]
pub(crate) fn pixel(fraction: f64, (start, end): (i32, i32)) -> i32 {
    let fraction = if fraction.is_nan() { 0.0 } else { fraction.clamp(0.0, 1.0) };
    (f64::from(start) + fraction * (f64::from(end) - f64::from(start))).round() as i32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn labels(axis: &Axis) -> Vec<&str> {
        axis.ticks().map(|(_, label)| label).collect()
    }

    #[test]
    fn ticks_are_round_and_hold_the_values() {
        let axis = Axis::from_zero([3.0, 870.0], 5, short);
        assert_eq!(labels(&axis), ["0", "200", "400", "600", "800", "1 k"]);
        assert_eq!(axis.pixel(500.0, (0, 1000)), 500);
        let axis = Axis::times([130.0, 2.0e6], 8);
        assert_eq!(labels(&axis), ["100 ns", "1.0 µs", "10 µs", "100 µs", "1.0 ms", "10 ms"]);
        let axis = Axis::rates(&[1e4, 1e6], 8);
        assert_eq!(labels(&axis), ["10 k", "20 k", "50 k", "100 k", "200 k", "500 k", "1 M"]);
        assert_eq!(labels(&Axis::positions(20, 8)), ["1", "3", "6", "9", "12", "15", "18"]);
    }

    #[test]
    fn no_loss_has_a_place_below_the_least() {
        let axis = Axis::losses([0.0, 0.0002, 0.3], 6);
        assert_eq!(labels(&axis)[..2], ["0 %", "0.01 %"]);
        assert!(axis.pixel(0.0, (0, 1000)) == 0 && axis.pixel(0.0001, (0, 1000)) > 100);
        assert_eq!(axis.pixel(1.0, (0, 1000)), 1000);
    }

    #[test]
    fn each_nine_takes_the_same_width() {
        let axis = Axis::percentiles(99.99);
        let at = |percentile| axis.pixel(percentile, (0, 1000));
        assert!(((at(99.0) - at(90.0)) - (at(99.9) - at(99.0))).abs() <= 1);
        assert_eq!(labels(&axis), ["0", "50", "90", "99", "99.9", "99.99"]);
    }

    fn any() -> impl Strategy<Value = f64> {
        let special = [0.0, f64::NAN, f64::INFINITY, f64::MAX];
        prop_oneof![proptest::num::f64::ANY, proptest::sample::select(special.to_vec()), 0.0..1e7]
    }

    proptest! {
        #[test]
        fn whatever_the_value_its_pixel_is_on_the_axis(
            values in proptest::collection::vec(any(), 0..8), value in any(), most in 0u32..12,
        ) {
            for axis in [
                Axis::from_zero(values.iter().copied(), most, short),
                Axis::rates(&values, most),
                Axis::times(values.iter().copied(), most),
                Axis::losses(values.iter().copied(), most),
                Axis::percentiles(values.first().copied().unwrap_or(0.0)),
                Axis::positions(values.len(), most),
            ] {
                prop_assert!(axis.ticks.len() <= 70);
                for value in values.iter().chain([&value]) {
                    prop_assert!((40..=700).contains(&axis.pixel(*value, (40, 700))));
                    prop_assert!((20..=300).contains(&axis.pixel(*value, (300, 20))));
                }
                prop_assert!(axis.ticks().all(|(value, _)| value.is_finite()));
            }
        }
    }
}
