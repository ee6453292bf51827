//! Classifies each load by the trials so far ("Load Classification").
//!
//! ```text
//! load     trials            for this target
//! 4        bad               upper bound  <- relevant upper: the lowest of them
//! 3        good bad          undecided
//! 2        good good good    lower bound  <- relevant lower: the highest below it
//! 1        good good good    lower bound
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use crate::search::goal::Target;

/// The result of one trial at a load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// The intended duration. It decides whether the trial was long enough for a target.
    pub(crate) duration: Duration,
    /// Its weight in sums of durations, seconds.
    pub(crate) weight_s: f64,
    /// The part of the intended datagrams that was not forwarded, 0 to 1.
    pub(crate) loss_ratio: f64,
}

/// The class of a load for a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Lower,
    Upper,
    Undecided,
}

/// The relevant bounds of a target, as steps of the grid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// "Relevant Lower Bound": the highest lower bound below the relevant upper bound.
    pub(crate) lower: Option<i64>,
    /// "Relevant Upper Bound": the lowest load that is an upper bound. A better result above it
    /// (a "loss inversion") is ignored.
    pub(crate) upper: Option<i64>,
}

impl Bounds {
    /// Returns whether the bounds are within `width` of each other.
    pub(crate) fn narrow(&self, width: i64) -> bool {
        matches!((self.lower, self.upper), (Some(low), Some(high)) if high - low <= width)
    }

    /// Returns whether a trial at `step` can create or move a relevant bound.
    pub(crate) fn open_at(&self, step: i64, width: i64) -> bool {
        self.lower.is_none_or(|lower| lower < step)
            && self.upper.is_none_or(|upper| step < upper)
            && !self.narrow(width)
    }
}

/// The sums over the trials of one load for one target, in seconds.
#[derive(Clone, Debug, Default)]
struct LoadTally {
    good_long_s: f64,
    bad_long_s: f64,
    good_short_s: f64,
    bad_short_s: f64,
    /// Loss ratio and seconds of each trial that was long enough.
    long: Vec<(f64, f64)>,
}

impl LoadTally {
    fn add(&mut self, target: &Target, sample: &Sample) {
        let is_good = sample.loss_ratio <= target.loss_ratio;
        let is_long = sample.duration >= target.trial;
        let sum = match (is_good, is_long) {
            (true, true) => &mut self.good_long_s,
            (false, true) => &mut self.bad_long_s,
            (true, false) => &mut self.good_short_s,
            (false, false) => &mut self.bad_short_s,
        };
        *sum += sample.weight_s;
        if is_long {
            self.long.push((sample.loss_ratio, sample.weight_s));
        }
    }

    /// Classifies the load twice: as if all missing seconds turned out good, and as if they turned out
    /// bad. If both results are the same, no more trials are needed.
    ///
    /// A short trial cannot make a load good. A bad short trial can make it bad, but each good short
    /// second offsets as many bad seconds as the exceed ratio allows.
    fn class(&self, target: &Target) -> Class {
        let allowed = target.exceed_ratio;
        let excused_s = self.good_short_s * allowed / (1.0 - allowed);
        let bad_s = self.bad_long_s + (self.bad_short_s - excused_s).max(0.0);
        let whole_s = (self.good_long_s + bad_s).max(target.duration_sum.as_secs_f64());
        let limit_s = whole_s * allowed;
        let good_at_best = bad_s <= limit_s;
        let good_at_worst = whole_s - self.good_long_s <= limit_s;
        match (good_at_best, good_at_worst) {
            (true, true) => Class::Lower,
            (true, false) => Class::Undecided,
            (false, _) => Class::Upper,
        }
    }

    /// Returns the loss ratio for the "Conditional Throughput". The long trials are sorted by loss, with
    /// missing seconds last as total loss; it is the one at which the exceed ratio is used up.
    fn worst_admitted_loss(&self, target: &Target) -> f64 {
        let whole_s = (self.good_long_s + self.bad_long_s).max(target.duration_sum.as_secs_f64());
        let mut left_s = whole_s * (1.0 - target.exceed_ratio);
        let mut long = self.long.clone();
        long.sort_by(|a, b| a.0.total_cmp(&b.0));
        for (loss_ratio, seconds) in long {
            left_s -= seconds;
            if left_s <= 0.0 {
                return loss_ratio;
            }
        }
        1.0
    }
}

/// All trials so far, by load and by target.
#[derive(Debug)]
pub(crate) struct Evidence {
    targets: Vec<Target>,
    /// By step of the grid; one tally for each target.
    loads: BTreeMap<i64, Vec<LoadTally>>,
}

impl Evidence {
    pub(crate) fn new(targets: Vec<Target>) -> Self {
        Self { targets, loads: BTreeMap::new() }
    }

    pub(crate) fn target(&self, index: usize) -> &Target {
        &self.targets[index]
    }

    pub(crate) fn add(&mut self, step: i64, sample: &Sample) {
        let fresh = || vec![LoadTally::default(); self.targets.len()];
        let tallies = self.loads.entry(step).or_insert_with(fresh);
        for (tally, target) in tallies.iter_mut().zip(&self.targets) {
            tally.add(target, sample);
        }
    }

    /// Returns the relevant bounds for the target of that index.
    pub(crate) fn bounds(&self, target: usize) -> Bounds {
        let mut bounds = Bounds::default();
        for (step, tallies) in &self.loads {
            match tallies[target].class(&self.targets[target]) {
                Class::Lower => bounds.lower = Some(*step),
                Class::Upper => {
                    bounds.upper = Some(*step);
                    break;
                }
                Class::Undecided => {}
            }
        }
        bounds
    }

    /// Returns the share of a load that counts as forwarded, for the target of that index.
    pub(crate) fn forwarded_part(&self, step: i64, target: usize) -> f64 {
        let tally = self.loads.get(&step).map(|tallies| &tallies[target]);
        1.0 - tally.map_or(1.0, |tally| tally.worst_admitted_loss(&self.targets[target]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn target(exceed_ratio: f64, trial_s: u64, sum_s: u64) -> Target {
        Target {
            loss_ratio: 0.01,
            exceed_ratio,
            width: 4,
            trial: Duration::from_secs(trial_s),
            duration_sum: Duration::from_secs(sum_s),
            expansion: 2,
        }
    }

    fn sample(seconds: u64, loss_ratio: f64) -> Sample {
        let duration = Duration::from_secs(seconds);
        Sample { duration, weight_s: duration.as_secs_f64(), loss_ratio }
    }

    fn class(target: &Target, samples: &[Sample]) -> Class {
        let mut tally = LoadTally::default();
        samples.iter().for_each(|sample| tally.add(target, sample));
        tally.class(target)
    }

    #[test]
    fn a_load_is_decided_as_soon_as_nothing_can_change_it() {
        let median = target(0.5, 1, 21);
        let (good, bad) = (sample(1, 0.01), sample(1, 0.02));
        assert_eq!(class(&median, &[]), Class::Undecided);
        assert_eq!(class(&median, &[good; 10]), Class::Undecided);
        assert_eq!(class(&median, &[good; 11]), Class::Lower);
        assert_eq!(class(&median, &[bad; 10]), Class::Undecided);
        assert_eq!(class(&median, &[bad; 11]), Class::Upper);
        let mixed = [[good; 10], [bad; 10]].concat();
        assert_eq!(class(&median, &mixed), Class::Undecided);
        let strict = target(0.0, 60, 60);
        assert_eq!(class(&strict, &[sample(60, 0.0)]), Class::Lower);
        assert_eq!(class(&strict, &[sample(60, 0.02)]), Class::Upper);
    }

    #[test]
    fn a_short_trial_can_make_a_load_bad_but_never_good() {
        let strict = target(0.0, 60, 60);
        assert_eq!(class(&strict, &[sample(1, 0.02)]), Class::Upper);
        assert_eq!(class(&strict, &[sample(1, 0.0); 500]), Class::Undecided);
        let median = target(0.5, 10, 30);
        assert_eq!(class(&median, &[sample(4, 0.5); 4]), Class::Upper);
        let excused = [[sample(4, 0.5); 4], [sample(4, 0.0); 4]].concat();
        assert_eq!(class(&median, &excused), Class::Undecided);
    }

    #[test]
    fn the_lowest_upper_bound_rules() {
        let mut evidence = Evidence::new(vec![target(0.0, 1, 1)]);
        for (step, loss) in [(10, 0.0), (20, 0.0), (30, 0.5), (40, 0.0), (50, 0.5)] {
            evidence.add(step, &sample(1, loss));
        }
        assert_eq!(evidence.bounds(0), Bounds { lower: Some(20), upper: Some(30) });
        evidence.add(5, &sample(1, 0.5));
        assert_eq!(evidence.bounds(0), Bounds { lower: None, upper: Some(5) });
    }

    #[test]
    fn conditional_throughput_takes_the_trial_that_the_exceed_ratio_ends_at() {
        let mut evidence = Evidence::new(vec![target(0.5, 1, 4)]);
        for loss in [0.9, 0.004, 0.0, 0.002] {
            evidence.add(7, &sample(1, loss));
        }
        // Two of four seconds may be bad, so the second best trial is the last that counts.
        assert!((evidence.forwarded_part(7, 0) - 0.998).abs() < 1e-12);
        assert!(evidence.forwarded_part(8, 0) < 1e-12, "nothing is known of it");
        let mut early = Evidence::new(vec![target(0.5, 1, 21)]);
        (0..10).for_each(|_| early.add(7, &sample(1, 0.0)));
        assert!(early.forwarded_part(7, 0) < 1e-12, "what is missing counts as lost");
        early.add(7, &sample(1, 0.003));
        assert!((early.forwarded_part(7, 0) - 0.997).abs() < 1e-12);
    }

    proptest! {
        /// Once a target's own trials last long enough, a load is decided, whatever they showed.
        #[test]
        fn enough_long_trials_always_decide(
            exceed in 0.0f64..0.99, bads in prop::collection::vec(any::<bool>(), 7..30),
            shorts in prop::collection::vec(any::<bool>(), 0..30),
        ) {
            let target = target(exceed, 3, 21);
            let loss = |bad: bool| if bad { 0.5 } else { 0.0 };
            let shorts = shorts.into_iter().map(|bad| sample(1, loss(bad)));
            let longs = bads.into_iter().map(|bad| sample(3, loss(bad)));
            let samples: Vec<Sample> = shorts.chain(longs).collect();
            prop_assert_ne!(class(&target, &samples), Class::Undecided);
        }

        /// A load that is a lower bound admits no more loss than the goal does.
        #[test]
        fn a_lower_bound_keeps_the_loss_ratio(
            exceed in 0.0f64..0.9,
            losses in prop::collection::vec(prop_oneof![Just(0.0), 0.0f64..0.02], 1..40),
        ) {
            let target = target(exceed, 1, 21);
            let mut evidence = Evidence::new(vec![target]);
            losses.iter().for_each(|loss| evidence.add(0, &sample(1, *loss)));
            if evidence.bounds(0).lower.is_some() {
                prop_assert!(1.0 - evidence.forwarded_part(0, 0) <= 0.01 + 1e-9);
            }
        }
    }
}
