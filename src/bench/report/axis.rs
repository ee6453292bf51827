//! An axis: which value is where, and which values are named.
//!
//! plotters asks for pixels as whole numbers; they are made here and nowhere else, and are within the
//! axis whatever the value: a figure that is not a number cannot reach the page as a coordinate.

use std::ops::Range;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};

use ringest_base::text::figures::{nanos, percent, short, trimmed};

/// How values are spread.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Scale {
    /// Evenly.
    Linear,
    /// By their logarithm.
    Log,
    /// By their logarithm, with a place below all others for 0; holds the smallest value above it.
    LogOrZero(f64),
    /// Percentiles, 0 to 100: each further nine of the tail takes the same width.
    Tail,
}

/// One axis.
#[derive(Clone, Debug)]
pub(crate) struct Axis {
    scale: Scale,
    /// Ends, in the scale's own measure; `low < high`.
    low: f64,
    high: f64,
    /// (value, what stands beside it).
    ticks: Vec<(f64, String)>,
}

/// The smallest and the largest of the finite ones.
fn bounds(values: impl IntoIterator<Item = f64>) -> Option<(f64, f64)> {
    values.into_iter().filter(|value| value.is_finite()).fold(None, |bounds, value| {
        Some(
            bounds.map_or((value, value), |(low, high): (f64, f64)| {
                (low.min(value), high.max(value))
            }),
        )
    })
}

/// Beyond this no rate, time or count goes; it keeps sums and differences finite.
const MOST: f64 = 1e30;

impl Axis {
    /// From 0, with at most about `ticks` names.
    pub(crate) fn from_zero(
        values: impl IntoIterator<Item = f64>,
        ticks: usize,
        name: fn(f64) -> String,
    ) -> Self {
        let (_, high) = bounds(values).unwrap_or((0.0, 1.0));
        let high = if high > 0.0 { high.clamp(1e-12, MOST) } else { 1.0 };
        let parts = f64::from(u32::try_from(ticks.max(1)).unwrap_or(8));
        let rough = high / parts;
        let unit = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 2.5, 5.0, 10.0]
            .map(|factor| factor * unit)
            .into_iter()
            .find(|step| *step >= rough * 0.999)
            .unwrap_or(rough);
        let mut named = Vec::new();
        let mut value = 0.0;
        while named.len() <= ticks + 1 {
            named.push((value, name(value)));
            if value >= high {
                break;
            }
            value += step;
        }
        let high = named.last().map_or(high, |(last, _)| last.max(high));
        Self { scale: Scale::Linear, low: 0.0, high, ticks: named }
    }

    /// Rates: from 0, or by decades where they span more than one and a half.
    pub(crate) fn rates(values: &[f64], ticks: usize) -> Self {
        match bounds(values.iter().copied().filter(|rate| *rate > 0.0)) {
            Some((low, high)) if high / low > 30.0 => {
                Self::log(low.log10(), high.log10(), ticks, short)
            }
            _ => Self::from_zero(values.iter().copied(), ticks, short),
        }
    }

    /// Times in ns, by decades.
    pub(crate) fn times(values: impl IntoIterator<Item = f64>, ticks: usize) -> Self {
        let (low, high) =
            bounds(values.into_iter().map(|time| time.max(1.0))).unwrap_or((1.0, 1e3));
        Self::log(low.log10(), high.log10(), ticks, nanos)
    }

    /// Whole decades around `low` and `high`, which are logarithms.
    fn log(low: f64, high: f64, ticks: usize, name: fn(f64) -> String) -> Self {
        let low = low.clamp(-MOST.log10(), MOST.log10()).floor();
        let high = high.clamp(low + 0.1, MOST.log10() + 1.0).ceil().max(low + 1.0);
        let ticks = decades(low, high, ticks).map(|value| (value, name(value))).collect();
        Self { scale: Scale::Log, low, high, ticks }
    }

    /// Loss ratios, 0 to 1, by decades and with a place for none at all.
    pub(crate) fn losses(values: impl IntoIterator<Item = f64>, ticks: usize) -> Self {
        let (low, high) =
            bounds(values.into_iter().filter(|loss| *loss > 0.0)).unwrap_or((0.001, 1.0));
        let low = low.clamp(1e-9, 0.01).log10().floor();
        let high = high.clamp(0.1, 1.0).log10().ceil();
        let mut named = vec![(0.0, percent(0.0))];
        // The lowest decade is left to the step from nothing to something.
        let ticks = decades(low, high, ticks.saturating_sub(1));
        named.extend(ticks.map(|value| (value, format!("{} %", short(value * 100.0)))));
        let scale = Scale::LogOrZero(10f64.powf(low));
        Self { scale, low: low - 0.7, high, ticks: named }
    }

    /// Shares, from about `from` to 1.
    pub(crate) fn up_to_all(from: f64, ticks: usize) -> Self {
        // What is missing to 1 is what has round steps.
        let missing = Self::from_zero([1.0 - from.clamp(0.0, 1.0 - 1e-9)], ticks, short);
        let name = |share: f64| format!("{} %", trimmed(share * 100.0, 7));
        let named = missing.ticks.iter().rev().map(|(missing, _)| 1.0 - missing);
        let ticks = named.map(|share| (share, name(share))).collect();
        Self { scale: Scale::Linear, low: 1.0 - missing.high, high: 1.0, ticks }
    }

    /// Percentiles up to `most`, which is below 100.
    pub(crate) fn percentiles(most: f64) -> Self {
        let most = if most.is_finite() { most.clamp(99.0, 99.9999) } else { 99.9 };
        let mut axis = Self { scale: Scale::Tail, low: 0.0, high: 1.0, ticks: Vec::new() };
        axis.high = axis.measure(most).max(2.0);
        axis.ticks = [(0.0, "0"), (50.0, "50"), (90.0, "90"), (99.0, "99"), (99.9, "99.9")]
            .into_iter()
            .chain([(99.99, "99.99"), (99.999, "99.999"), (99.9999, "99.9999")])
            .filter(|(value, _)| axis.measure(*value) <= axis.high + 0.001)
            .map(|(value, name)| (value, name.to_owned()))
            .collect();
        axis
    }

    /// 1 to `count`, with room at both ends.
    pub(crate) fn positions(count: usize, ticks: usize) -> Self {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        let most = u32::try_from(ticks.max(1)).unwrap_or(8);
        let step = count.div_ceil(most).max(1);
        // 1, then the multiples of the step that are not right beside it.
        let multiples = (1..=most).map(|times| times.saturating_mul(step));
        let ticks = std::iter::once(1)
            .chain(multiples.filter(|at| *at > 1 && *at <= count && *at > step / 2))
            .map(|at| (f64::from(at), at.to_string()))
            .collect();
        Self { scale: Scale::Linear, low: 0.4, high: f64::from(count) + 0.6, ticks }
    }

    /// Its named values.
    pub(crate) fn named(&self) -> impl Iterator<Item = (f64, &str)> + Clone {
        self.ticks.iter().map(|(value, name)| (*value, name.as_str()))
    }

    /// The names beside it.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.ticks.iter().map(|(_, name)| name.as_str())
    }

    fn measure(&self, value: f64) -> f64 {
        match self.scale {
            Scale::Linear => value,
            Scale::Log => value.log10(),
            Scale::LogOrZero(least) if value < least => self.low,
            Scale::LogOrZero(_) => value.log10(),
            Scale::Tail => -((1.0 - value / 100.0).max(1e-9)).log10(),
        }
    }

    /// Where on the axis, 0 to 1.
    pub(crate) fn fraction(&self, value: f64) -> f64 {
        let fraction = (self.measure(value) - self.low) / (self.high - self.low);
        if fraction.is_nan() { 0.0 } else { fraction.clamp(0.0, 1.0) }
    }
}

/// Powers of ten from 10^low to 10^high, about `most` of them; with 2 and 5 between where few.
fn decades(low: f64, high: f64, most: usize) -> impl Iterator<Item = f64> {
    let most = f64::from(u32::try_from(most.max(2)).unwrap_or(8));
    let step = ((high - low) / most).ceil().max(1.0);
    let between: &[f64] = if (high - low) * 3.0 <= most { &[1.0, 2.0, 5.0] } else { &[1.0] };
    let mut values = Vec::new();
    let mut exponent = low;
    while exponent <= high + 1e-9 && values.len() < 64 {
        values.extend(between.iter().map(|factor| factor * 10f64.powf(exponent)));
        exponent += step;
    }
    let top = 10f64.powf(high) * 1.001;
    values.into_iter().filter(move |value| *value <= top)
}

/// The pixel at `fraction` of the way from `start` to `end`.
#[expect(clippy::cast_possible_truncation, reason = "rounded, and between two 32-bit numbers")]
pub(crate) fn pixel(fraction: f64, (start, end): (i32, i32)) -> i32 {
    let length = f64::from(end) - f64::from(start);
    (f64::from(start) + fraction.clamp(0.0, 1.0) * length).round() as i32
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        pixel(self.fraction(*value), limit)
    }

    fn key_points<Hint: KeyPointHint>(&self, _hint: Hint) -> Vec<f64> {
        self.ticks.iter().map(|(value, _)| *value).collect()
    }

    fn range(&self) -> Range<f64> {
        self.low..self.high
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, value: &f64) -> String {
        self.ticks
            .iter()
            .find(|(tick, _)| tick.total_cmp(value).is_eq())
            .map_or_else(String::new, |(_, name)| name.clone())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn names(axis: &Axis) -> Vec<&str> {
        axis.names().collect()
    }

    #[test]
    fn ticks_are_round_and_hold_the_values() {
        let axis = Axis::from_zero([3.0, 870.0], 5, short);
        assert_eq!(names(&axis), ["0", "200", "400", "600", "800", "1 k"]);
        assert!((axis.fraction(500.0) - 0.5).abs() < 1e-9);
        let axis = Axis::times([130.0, 2.0e6], 8);
        assert_eq!(names(&axis), ["100 ns", "1.0 µs", "10 µs", "100 µs", "1.0 ms", "10 ms"]);
        let axis = Axis::rates(&[1e4, 1e6], 8);
        assert_eq!(names(&axis), ["10 k", "20 k", "50 k", "100 k", "200 k", "500 k", "1 M"]);
        assert_eq!(names(&Axis::positions(20, 8)), ["1", "3", "6", "9", "12", "15", "18"]);
    }

    #[test]
    fn no_loss_has_a_place_below_the_least() {
        let axis = Axis::losses([0.0, 0.0002, 0.3], 6);
        assert_eq!(names(&axis)[..2], ["0 %", "0.01 %"]);
        assert!(axis.fraction(0.0) == 0.0 && axis.fraction(0.0001) > 0.1);
        assert!(axis.fraction(1.0) >= 0.999);
    }

    #[test]
    fn each_nine_takes_the_same_width() {
        let axis = Axis::percentiles(99.99);
        let at = |percentile| axis.fraction(percentile);
        assert!(((at(99.0) - at(90.0)) - (at(99.9) - at(99.0))).abs() < 1e-9);
        assert_eq!(names(&axis), ["0", "50", "90", "99", "99.9", "99.99"]);
    }

    fn any() -> impl Strategy<Value = f64> {
        prop_oneof![
            proptest::num::f64::ANY,
            Just(0.0),
            Just(f64::NAN),
            Just(f64::INFINITY),
            Just(f64::MAX),
            0.0..1e7
        ]
    }

    proptest! {
        #[test]
        fn whatever_the_value_its_pixel_is_on_the_axis(
            values in proptest::collection::vec(any(), 0..8), value in any(), ticks in 0usize..12,
        ) {
            for axis in [
                Axis::from_zero(values.iter().copied(), ticks, short),
                Axis::rates(&values, ticks),
                Axis::times(values.iter().copied(), ticks),
                Axis::losses(values.iter().copied(), ticks),
                Axis::percentiles(values.first().copied().unwrap_or(0.0)),
                Axis::positions(values.len(), ticks),
            ] {
                prop_assert!(axis.ticks.len() <= 70);
                for value in values.iter().chain([&value]) {
                    prop_assert!((40..=700).contains(&axis.map(value, (40, 700))));
                    prop_assert!((20..=300).contains(&axis.map(value, (300, 20))));
                }
                for tick in axis.key_points(8usize) {
                    prop_assert!(tick.is_finite());
                }
            }
        }
    }
}
