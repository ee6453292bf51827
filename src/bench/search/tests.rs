//! The whole search against devices with a known answer, and against devices that lie.

use crate::search::*;
use proptest::prelude::*;

/// Runs a search against a device that says which part of a trial's load it loses.
fn search(spec: SearchSpec, mut loss: impl FnMut(&Trial) -> f64) -> Search {
    let mut search = Search::new(spec).unwrap();
    while let Some(trial) = search.next_trial() {
        let intended = 1 << 40;
        let lost = loss(&trial).clamp(0.0, 1.0) * intended as f64;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 2^40")]
        let forwarded = intended - lost as u64;
        search.record(TrialOutcome::new(intended, forwarded)).unwrap();
    }
    search
}

/// Loses exactly what is above `knee_pps`.
fn above(knee_pps: f64) -> impl FnMut(&Trial) -> f64 {
    move |trial| 1.0 - knee_pps / trial.load_pps
}

#[test]
fn both_rates_of_a_sharp_knee_are_found() {
    let spec = SearchSpec::ndr_and_pdr(1e3, 1e7);
    let search = search(spec, above(250_000.0));
    assert_eq!(search.ending(), Some(Ending::Reached));
    let knees = [250_000.0, 250_000.0 / 0.995];
    for (result, knee) in search.results().iter().zip(knees) {
        let (lower, upper) =
            (result.relevant_lower_pps.unwrap(), result.relevant_upper_pps.unwrap());
        assert!(result.goal_achieved());
        assert!(lower <= knee && knee < upper, "{lower} {knee} {upper}");
        assert!((upper - lower) / upper <= 0.005);
        let quoted = result.conditional_throughput_pps.unwrap();
        assert!(quoted <= lower && quoted >= 0.995 * lower);
    }
    assert!(search.made().len() < 100, "{} trials", search.made().len());
    assert_eq!(search.spent(), Duration::from_secs(search.made().len() as u64));
}

#[test]
fn what_lies_beyond_the_limits_is_said() {
    let standing = |loss: f64| {
        let search = search(SearchSpec::ndr_and_pdr(1e3, 1e6), |_| loss);
        assert_eq!(search.ending(), Some(Ending::Reached));
        search.results()[0]
    };
    let lossless = standing(0.0);
    assert_eq!(lossless.standing, Standing::AboveMaxLoad);
    assert_eq!((lossless.relevant_lower_pps, lossless.relevant_upper_pps), (Some(1e6), None));
    assert_eq!(lossless.conditional_throughput_pps, Some(1e6));
    let deaf = standing(1.0);
    assert_eq!(deaf.standing, Standing::BelowMinLoad);
    assert_eq!((deaf.relevant_lower_pps, deaf.relevant_upper_pps), (None, Some(1e3)));
    assert!(!deaf.goal_achieved() && deaf.conditional_throughput_pps.is_none());
}

#[test]
fn one_load_is_classified() {
    let standing = |knee| {
        let search = search(SearchSpec::ndr_and_pdr(5e4, 5e4), above(knee));
        assert_eq!(search.ending(), Some(Ending::Reached));
        assert!(
            search.made().iter().all(|made| made.trial.load_pps.to_bits() == 5e4_f64.to_bits())
        );
        search.results()[0].standing
    };
    assert_eq!(standing(6e4), Standing::AboveMaxLoad);
    assert_eq!(standing(4e4), Standing::BelowMinLoad);
}

#[test]
fn limits_closer_than_the_width_are_both_tried() {
    let search = search(SearchSpec::ndr_and_pdr(99_900.0, 1e5), above(99_950.0));
    let result = search.results()[0];
    assert_eq!(result.standing, Standing::Regular);
    assert_eq!(result.relevant_lower_pps, Some(99_900.0));
    assert_eq!(result.relevant_upper_pps, Some(1e5));
}

#[test]
fn what_was_not_sent_is_lost() {
    assert!((TrialOutcome::new(1000, 995).loss_ratio() - 0.005).abs() < 1e-12);
    assert!((TrialOutcome::new(1000, 1005).loss_ratio() - 0.005).abs() < 1e-12, "duplicates");
    assert!((TrialOutcome::new(10, 1000).loss_ratio() - 1.0).abs() < 1e-12);
    assert!(TrialOutcome::new(0, 0).loss_ratio() < 1e-12);
}

#[test]
fn a_trial_is_asked_for_until_it_is_recorded() {
    let mut search = Search::new(SearchSpec::ndr_and_pdr(1e3, 1e6)).unwrap();
    assert_eq!(search.record(TrialOutcome::new(1, 1)), Err(SearchError::NotAsked));
    let first = search.next_trial().unwrap();
    assert_eq!(first, Trial { load_pps: 1e6, duration: Duration::from_secs(1), goal: None });
    assert_eq!(search.next_trial(), Some(first));
    search.record(TrialOutcome::new(100, 50)).unwrap();
    assert_eq!(search.record(TrialOutcome::new(1, 1)), Err(SearchError::NotAsked));
    assert_ne!(search.next_trial(), Some(first));
    assert_eq!(search.results()[0].standing, Standing::Unfinished);
    assert_eq!(search.ending(), None);
}

#[test]
fn limits_of_time_and_number_hold() {
    let spec = SearchSpec { trials_max: 7, ..SearchSpec::ndr_and_pdr(1e3, 1e7) };
    let few = search(spec, above(1e5));
    assert_eq!((few.ending(), few.made().len()), (Some(Ending::TrialsSpent), 7));
    let spec = SearchSpec {
        goals: vec![Goal::rfc2544()],
        duration_max: Duration::from_secs(100),
        ..SearchSpec::ndr_and_pdr(1e3, 1e7)
    };
    let short = search(spec.clone(), above(1e5));
    assert_eq!(short.ending(), Some(Ending::DurationSpent));
    assert!(short.spent() <= Duration::from_secs(100));
    let mut slow = Search::new(spec).unwrap();
    while slow.next_trial().is_some() {
        let effective = Some(Duration::from_secs(30));
        slow.record(TrialOutcome { intended: 10, forwarded: 10, effective }).unwrap();
    }
    // The trials were to last 1 s and 7 s and took 60 s in all; a third of 60 s would exceed the limit.
    assert_eq!((slow.made().len(), slow.spent()), (2, Duration::from_secs(60)));
}

#[test]
fn failing_fast_ends_the_search_for_all() {
    let mut spec = SearchSpec::ndr_and_pdr(1e5, 1e6);
    spec.goals[0].fail_fast = true;
    let search = search(spec, |trial| if trial.load_pps < 5e5 { 0.004 } else { 1.0 });
    assert_eq!(search.ending(), Some(Ending::FailedFast(0)));
    assert_eq!(search.results()[0].standing, Standing::BelowMinLoad);
}

#[test]
fn an_unlucky_trial_does_not_decide_but_two_thirds_do() {
    let one_in = |bad_of_three: u32| {
        let mut count = 0;
        search(SearchSpec::ndr_and_pdr(1e3, 1e6), move |trial| {
            count += 1;
            if trial.load_pps > 4e5 {
                0.5
            } else if count % 3 < bad_of_three {
                0.1
            } else {
                0.0
            }
        })
    };
    let lower = one_in(1).results()[0].relevant_lower_pps.unwrap();
    assert!(lower > 0.99 * 4e5 && lower <= 4e5, "{lower}");
    assert_eq!(one_in(3).results()[0].standing, Standing::BelowMinLoad);
}

/// Any specification that is allowed, up to a size that a test can bear.
fn any_goal() -> impl Strategy<Value = Goal> {
    let durations = (1u64..5, 0u64..5, 0u64..20);
    let shape = (1u8..5, 2u32..5, any::<bool>());
    (prop_oneof![Just(0.0), 0.0f64..0.9], 0.0f64..0.9, 0.002f64..0.5, durations, shape).prop_map(
        |(loss_ratio, exceed_ratio, relative_width, (initial, longer, more), shape)| Goal {
            loss_ratio,
            exceed_ratio,
            relative_width,
            initial_trial: Duration::from_secs(initial),
            final_trial: Duration::from_secs(initial + longer),
            duration_sum: Duration::from_secs(initial + longer + more),
            preceding_targets: shape.0,
            expansion: shape.1,
            fail_fast: shape.2,
        },
    )
}

proptest! {
    /// A device that answers whatever it likes cannot keep a search from ending, make it leave its
    /// limits, or end it with bounds that are out of order.
    #[test]
    fn a_lying_device_cannot_keep_it_busy(
        goals in prop::collection::vec(any_goal(), 1..4), min in 1.0f64..1e6, times in 1.0f64..1e4,
        lies in prop::collection::vec(prop_oneof![Just(0.0), Just(1.0), 0.0f64..1.0], 1..200),
    ) {
        let spec = SearchSpec {
            goals: goals.into_iter().map(|goal| Goal { fail_fast: false, ..goal }).collect(),
            min_load_pps: min,
            max_load_pps: min * times,
            duration_max: Duration::from_secs(1 << 40),
            trials_max: 100_000,
        };
        let mut lies = lies.into_iter().cycle();
        let search = search(spec.clone(), |_| lies.next().unwrap());
        prop_assert_eq!(search.ending(), Some(Ending::Reached), "{} trials", search.made().len());
        for made in search.made() {
            let load = made.trial.load_pps;
            prop_assert!(spec.min_load_pps <= load && load <= spec.max_load_pps);
        }
        for (result, goal) in search.results().iter().zip(&spec.goals) {
            prop_assert_ne!(result.standing, Standing::Unfinished);
            if let (Some(low), Some(high)) = (result.relevant_lower_pps, result.relevant_upper_pps) {
                prop_assert!(low < high && (high - low) / high <= goal.relative_width);
            }
        }
    }

    /// On a device with one knee, every goal finds it, whatever the goals are.
    #[test]
    fn an_honest_device_is_found_out(
        goals in prop::collection::vec(any_goal(), 1..4), min in 1.0f64..1e6, times in 1.0f64..1e4,
        place in -0.2f64..1.2,
    ) {
        let knee = min * times.powf(place);
        let spec = SearchSpec {
            goals,
            min_load_pps: min,
            max_load_pps: min * times,
            duration_max: Duration::from_secs(1 << 40),
            trials_max: 100_000,
        };
        let search = search(spec.clone(), above(knee));
        for (result, goal) in search.results().iter().zip(&spec.goals) {
            // 2^-40 is what the device of this test can tell apart.
            let knee = knee / (1.0 - goal.loss_ratio);
            if let Some(low) = result.relevant_lower_pps {
                prop_assert!(low <= knee * (1.0 + 1e-9), "{low} {knee}");
            }
            if let Some(high) = result.relevant_upper_pps {
                prop_assert!(high >= knee * (1.0 - 1e-9), "{high} {knee}");
            }
            if matches!(search.ending(), Some(Ending::Reached)) {
                prop_assert_ne!(result.standing, Standing::Unfinished);
            }
        }
        prop_assert!(search.made().len() < 3000, "{} trials", search.made().len());
    }
}
