//! Medians with bootstrap confidence intervals, by seeded resampling.
//!
//! The same numbers and the same seed give the same interval, on every machine.

use std::ops::RangeInclusive;

use ringest_base::sys::chance::Chance;

/// Resamples behind one interval. With fewer, its ends move visibly from seed to seed.
const RESAMPLES: usize = 10_000;
/// The middle part of the resampled medians that makes the interval.
const CONFIDENCE: f64 = 0.95;
/// With n numbers, not even the range from the smallest to the largest holds the true median more
/// often than 1 - 2 / 2^n of the time: 94 % for 5, 97 % for 6. With fewer nothing can be shown.
pub const SAMPLES_MIN: usize = 6;

/// Returns the median; of an even count, the mean of the middle two. Returns `None` without numbers, or
/// if one of them is not finite.
#[must_use]
pub fn median(values: &[f64]) -> Option<f64> {
    let is_sound = !values.is_empty() && values.iter().all(|value| value.is_finite());
    is_sound.then(|| median_of(&mut values.to_vec()))
}

/// Returns the median of at least one number; reorders the numbers.
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
    /// The number of samples. With fewer than [`SAMPLES_MIN`] the interval covers less than 95 %.
    pub samples: usize,
}

impl Estimate {
    /// Returns whether there are enough samples for a 95 % interval.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.samples >= SAMPLES_MIN
    }
}

/// Returns the median of `values` with its interval, or `None` where [`median`] returns it.
#[must_use]
pub fn median_interval(values: &[f64], seed: u64) -> Option<Estimate> {
    let value = median(values)?;
    let mut chance = Chance::new(seed);
    let mut again = values.to_vec();
    let resampled =
        (0..RESAMPLES).map(|_| resampled_median(values, &mut again, &mut chance)).collect();
    Some(Estimate { value, interval: middle_part(resampled), samples: values.len() })
}

/// Returns the median of as many numbers, drawn from `values` with repetition into `again`.
fn resampled_median(values: &[f64], again: &mut [f64], chance: &mut Chance) -> f64 {
    for slot in again.iter_mut() {
        *slot = values[chance.below(values.len())];
    }
    median_of(again)
}

/// Returns the range from the 2.5th to the 97.5th percentile.
fn middle_part(mut resampled: Vec<f64>) -> RangeInclusive<f64> {
    resampled.sort_unstable_by(f64::total_cmp);
    let outside = (1.0 - CONFIDENCE) / 2.0;
    // The number of resamples in one tail, counted so that no float is rounded to an index.
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

    /// About 95 % of the intervals from samples with a known median must hold it. Far fewer would
    /// promise too much; all of them would be too wide.
    #[test]
    fn intervals_hold_the_truth_as_often_as_they_say() {
        let mut chance = Chance::new(1);
        let mut sample = || (0..12).map(|_| chance.below(1 << 20) as f64).sum::<f64>();
        let truth = 12.0 * f64::from((1 << 20) - 1) / 2.0;
        let held = (0..400)
            .filter(|seed| {
                let values: Vec<f64> = (0..21).map(|_| sample()).collect();
                median_interval(&values, *seed).unwrap().interval.contains(&truth)
            })
            .count();
        assert!((365..398).contains(&held), "{held} of 400");
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
