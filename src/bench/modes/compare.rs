//! The same work with each receive API: variants in rounds and in random order, each compared with the
//! reference of its own round.

use crate::document::report::Setup;
use crate::document::report::{Interval, VariantRecord};
use crate::document::stats::SAMPLES_MIN;
use crate::document::trial::TrialRecord;
use crate::modes::campaign::{Campaign, interval};
use crate::talk::link::BenchError;
use crate::wire::message::ReceiverSpec;
use ringest_base::sys::chance::Chance;
use ringest_load::spec::Rate;

/// The parameters of the bench.
#[derive(Clone, Debug)]
pub struct CompareSpec {
    /// Name and receiver of each; the first with UDP_GRO and the first without are the references.
    pub variants: Vec<(String, ReceiverSpec)>,
    /// Trials of each variant. With fewer than six no difference can be shown.
    pub rounds: usize,
    /// Datagrams a second; `None` for as fast as possible.
    pub fixed_pps: Option<f64>,
}

/// Makes all trials and writes the results into the report.
///
/// # Errors
/// Those of [`Campaign::run`].
pub fn run(campaign: &mut Campaign<'_>, spec: &CompareSpec) -> Result<(), BenchError> {
    let count = spec.variants.len();
    campaign.expect(count * spec.rounds);
    let mut chance = Chance::new(campaign.base.seed);
    // By variant, then by round; `None` for a void trial.
    let mut found: Vec<Vec<Option<TrialRecord>>> = vec![Vec::new(); count];
    let mut setups = vec![Setup::default(); count];
    for round in 0..spec.rounds {
        let mut order: Vec<usize> = (0..count).collect();
        chance.shuffle(&mut order);
        for variant in order {
            let (name, receiver) = &spec.variants[variant];
            let mut wanted =
                campaign.trial(format!("round {} of {}: {name}", round + 1, spec.rounds));
            wanted.variant.clone_from(name);
            wanted.receiver = receiver.clone();
            wanted.load.rate = spec.fixed_pps.map_or(Rate::Max, Rate::Pps);
            let tried = campaign.run(&wanted)?;
            setups[variant] = tried.setup;
            found[variant].push(Some(tried.record).filter(|record| !record.void));
        }
    }
    let seed = campaign.base.seed;
    campaign.report.variants = spec
        .variants
        .iter()
        .enumerate()
        .map(|(index, (name, receiver))| {
            // Variants with and without UDP_GRO are not comparable, so each group has its own reference.
            let same = |(_, other): &(String, ReceiverSpec)| other.gro == receiver.gro;
            let base = spec.variants.iter().position(same).unwrap_or(index);
            let setup = setups[index].clone();
            let record = variant(name, &found[index], &found[base], index == base, seed);
            VariantRecord { setup, ..record }
        })
        .collect();
    Ok(())
}

fn variant(
    name: &str,
    rounds: &[Option<TrialRecord>],
    base: &[Option<TrialRecord>],
    reference: bool,
    seed: u64,
) -> VariantRecord {
    let over = |figure: &dyn Fn(&TrialRecord) -> Option<f64>| -> Option<Interval> {
        let values: Vec<f64> = rounds.iter().flatten().filter_map(figure).collect();
        interval(&values, seed)
    };
    let receiver = |record: &TrialRecord| record.cpu_ns_per_datagram.receiver;
    // Workers count too, or a receiver that hands its work on would seem cheaper.
    let cost = |record: &TrialRecord| {
        Some(receiver(record)? + record.cpu_ns_per_datagram.worker.unwrap_or(0.0))
    };
    let ratios: Vec<f64> = rounds
        .iter()
        .zip(base)
        .filter_map(|(mine, theirs)| {
            let (mine, theirs) = (cost(mine.as_ref()?)?, cost(theirs.as_ref()?)?);
            (theirs > 0.0).then(|| mine / theirs)
        })
        .collect();
    let ratio = if reference { None } else { interval(&ratios, seed) };
    VariantRecord {
        name: name.to_owned(),
        reference,
        setup: Setup::default(),
        receiver_ns: over(&receiver),
        worker_ns: over(&|record| record.cpu_ns_per_datagram.worker),
        host_ns: over(&|record| record.cpu_ns_per_datagram.host),
        received_pps: over(&|record| Some(record.handled_pps)),
        loss_ratio: over(&|record| Some(record.loss_ratio())),
        ratio,
        verdict: ratio.map(|ratio| verdict(ratio, ratios.len()).to_owned()),
    }
}

/// Returns the conclusion from an interval of ratios.
fn verdict(ratio: Interval, samples: usize) -> &'static str {
    match ratio {
        _ if samples < SAMPLES_MIN => "no difference shown",
        Interval { high, .. } if high < 1.0 => "cheaper",
        Interval { low, .. } if low > 1.0 => "dearer",
        _ => "no difference shown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_needs_an_interval_beside_one_and_enough_rounds() {
        let ratio =
            |low, high| Interval { median: f64::midpoint(low, high), low, high, samples: 0 };
        assert_eq!(verdict(ratio(0.8, 0.9), 7), "cheaper");
        assert_eq!(verdict(ratio(1.1, 1.2), 7), "dearer");
        assert_eq!(verdict(ratio(0.9, 1.1), 7), "no difference shown");
        assert_eq!(verdict(ratio(0.8, 0.9), 5), "no difference shown");
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        let record = |cost| {
            let mut record = TrialRecord::default();
            record.cpu_ns_per_datagram.receiver = Some(cost);
            Some(record)
        };
        // The host slows down from round to round; the ratio stays the same.
        let base: Vec<_> = (1..=8).map(|n| record(f64::from(n) * 100.0)).collect();
        let mut mine: Vec<_> = (1..=8).map(|n| record(f64::from(n) * 50.0)).collect();
        mine[3] = None;
        let found = variant("mine", &mine, &base, false, 1);
        assert_eq!(found.ratio.unwrap(), Interval { median: 0.5, low: 0.5, high: 0.5, samples: 7 });
        assert_eq!(found.verdict.unwrap(), "cheaper");
        let reference = variant("base", &base, &base, true, 1);
        assert_eq!((reference.ratio, reference.verdict), (None, None));
    }
}
