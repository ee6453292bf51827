//! Medians and how far they can be trusted: bootstrap intervals by seeded resampling.
//!
//! The same numbers and the same seed give the same interval, on every machine.

use std::ops::RangeInclusive;

/// Resamples behind one interval. With fewer, its ends move visibly from seed to seed.
const RESAMPLES: usize = 10_000;
/// The middle part of the resampled medians that makes the interval.
const CONFIDENCE: f64 = 0.95;
/// With n numbers, not even the range from the smallest to the largest holds the true median more
/// often than 1 - 2 / 2^n of the time: 94 % for 5, 97 % for 6. With fewer nothing can be shown.
pub const SAMPLES_MIN: usize = 6;

/// A seeded source of chance (splitmix64).
#[derive(Clone, Debug)]
pub struct Draw(u64);

impl Draw {
    /// The same seed draws the same numbers.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// A number below `bound`, each as likely (to one part in 2^64 / bound); 0 if `bound` is.
    pub fn below(&mut self, bound: usize) -> usize {
        // The high half of the product, which needs no division and is below `bound`.
        let high = (u128::from(self.bits()) * bound as u128) >> 64;
        usize::try_from(high).unwrap_or(0)
    }

    /// Every order of `items` as likely as any other (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

/// The median: of an even count, the mean of the middle two. `None` for no numbers, or if one of
/// them is not finite.
#[must_use]
pub fn median(values: &[f64]) -> Option<f64> {
    let is_sound = !values.is_empty() && values.iter().all(|value| value.is_finite());
    is_sound.then(|| median_of(&mut values.to_vec()))
}

/// The median of at least one number, which it may put in another order.
fn median_of(values: &mut [f64]) -> f64 {
    let half = values.len() / 2;
    let is_even = values.len().is_multiple_of(2);
    let (lower, middle, _) = values.select_nth_unstable_by(half, f64::total_cmp);
    let below = lower.iter().copied().max_by(f64::total_cmp);
    match below {
        Some(below) if is_even => below.midpoint(*middle),
        _ => *middle,
    }
}

/// A value with its 95 % interval.
#[derive(Clone, Debug, PartialEq)]
pub struct Estimate {
    /// The median.
    pub value: f64,
    /// Percentile bootstrap: the middle 95 % of what resampling the same numbers gives.
    pub interval: RangeInclusive<f64>,
    /// How many numbers are behind it. With fewer than
    /// [`SAMPLES_MIN`] the interval is narrower than 95 % would be.
    pub samples: usize,
}

impl Estimate {
    /// There are enough numbers for the interval to be what it says.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.samples >= SAMPLES_MIN
    }
}

/// The median of `values` with its interval; `None` where [`median`] has none.
#[must_use]
pub fn median_interval(values: &[f64], seed: u64) -> Option<Estimate> {
    let value = median(values)?;
    let mut draw = Draw::new(seed);
    let mut again = values.to_vec();
    let resampled =
        (0..RESAMPLES).map(|_| resampled_median(values, &mut again, &mut draw)).collect();
    Some(Estimate { value, interval: middle_part(resampled), samples: values.len() })
}

/// The median of as many numbers, drawn from `values` with repetition into `again`.
fn resampled_median(values: &[f64], again: &mut [f64], draw: &mut Draw) -> f64 {
    for slot in again.iter_mut() {
        *slot = values[draw.below(values.len())];
    }
    median_of(again)
}

/// From the 2.5th to the 97.5th percentile.
fn middle_part(mut resampled: Vec<f64>) -> RangeInclusive<f64> {
    resampled.sort_unstable_by(f64::total_cmp);
    let outside = (1.0 - CONFIDENCE) / 2.0;
    // Counted, not computed: how many of the resamples lie in one tail.
    let tail = (0..RESAMPLES).take_while(|n| (*n as f64) < outside * RESAMPLES as f64).count();
    resampled[tail]..=resampled[RESAMPLES - 1 - tail]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn medians() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[1.0, f64::NAN]), None);
        assert_eq!(median(&[7.0]), Some(7.0));
        assert_eq!(median(&[9.0, 1.0, 5.0]), Some(5.0));
        assert_eq!(median(&[4.0, 1.0, 9.0, 2.0]), Some(3.0));
    }

    #[test]
    fn the_same_seed_gives_the_same_interval() {
        let values: Vec<f64> = (0..15).map(|n| f64::from(n * n)).collect();
        assert_eq!(median_interval(&values, 7), median_interval(&values, 7));
        assert_eq!(median_interval(&values, 7).unwrap().value.to_bits(), 49.0_f64.to_bits());
    }

    /// Of normal-like samples with a known median, about 95 % of the intervals must hold it: far
    /// fewer would promise too much, all of them would say nothing.
    #[test]
    fn intervals_hold_the_truth_as_often_as_they_say() {
        let mut draw = Draw::new(1);
        let mut sample = || (0..12).map(|_| draw.below(1 << 20) as f64).sum::<f64>();
        let truth = 12.0 * f64::from((1 << 20) - 1) / 2.0;
        let held = (0..400)
            .filter(|seed| {
                let values: Vec<f64> = (0..21).map(|_| sample()).collect();
                median_interval(&values, *seed).unwrap().interval.contains(&truth)
            })
            .count();
        assert!((365..398).contains(&held), "{held} of 400");
    }

    #[test]
    fn every_order_comes_up() {
        let mut draw = Draw::new(9);
        let mut counts = std::collections::HashMap::new();
        for _ in 0..6000 {
            let mut items = [1, 2, 3];
            draw.shuffle(&mut items);
            *counts.entry(items).or_insert(0) += 1;
        }
        assert_eq!(counts.len(), 6);
        assert!(counts.values().all(|count| (850..1150).contains(count)), "{counts:?}");
        assert_eq!(draw.below(0), 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn an_interval_holds_its_median_and_stays_in_range(
            values in prop::collection::vec(-1e9f64..1e9, 1..40), seed in any::<u64>(),
        ) {
            let estimate = median_interval(&values, seed).unwrap();
            let low = values.iter().copied().fold(f64::INFINITY, f64::min);
            let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            prop_assert!(*estimate.interval.start() <= estimate.value);
            prop_assert!(estimate.value <= *estimate.interval.end());
            prop_assert!(low <= *estimate.interval.start() && *estimate.interval.end() <= high);
        }
    }
}
