//! Loss against rate, for a few, some and many flows.

use crate::document::report::CurvePoint;
use crate::document::trial::TrialRecord;
use crate::modes::campaign::{Campaign, flat_out_pps, interval};
use crate::talk::link::BenchError;
use ringest_base::sys::chance::Chance;
use ringest_load::spec::Rate;

/// The parameters of the bench.
#[derive(Clone, Debug)]
pub struct CurveSpec {
    /// The numbers of source ports to try.
    pub flows: Vec<usize>,
    /// Number of rates for each.
    pub points: usize,
    /// The highest rate; `None` to measure the sender's highest rate with one flow.
    pub max_pps: Option<f64>,
    /// Trials for each point.
    pub rounds: usize,
}

/// Makes all trials and writes the results into the report.
///
/// # Errors
/// Those of [`Campaign::run`].
pub fn run(campaign: &mut Campaign<'_>, spec: &CurveSpec) -> Result<(), BenchError> {
    let max_pps = match spec.max_pps {
        Some(max_pps) => max_pps,
        // Rounded, so that two curves of one host have the same points.
        None => rounded(flat_out_pps(campaign, "what the sender can do")?),
    };
    #[expect(clippy::cast_precision_loss, reason = "a dozen")]
    let rate = |point: usize| max_pps * (point + 1) as f64 / spec.points as f64;
    let mut plan: Vec<(usize, usize)> = (0..spec.flows.len())
        .flat_map(|flows| (0..spec.points).map(move |point| (flows, point)))
        .collect();
    let before = campaign.report.trials.len();
    campaign.expect(before + plan.len() * spec.rounds);
    let mut found: Vec<Vec<Vec<TrialRecord>>> =
        vec![vec![Vec::new(); spec.points]; spec.flows.len()];
    let mut chance = Chance::new(campaign.base.seed);
    for round in 0..spec.rounds {
        chance.shuffle(&mut plan);
        for &(flows, point) in &plan {
            let (count, pps) = (spec.flows[flows], rate(point));
            let mut wanted =
                campaign.trial(format!("round {}: {count} flows at {pps:.0}/s", round + 1));
            wanted.load.flows = count;
            wanted.load.threads = wanted.load.threads.min(count);
            wanted.load.rate = Rate::Pps(pps);
            let record = campaign.run(&wanted)?.record;
            if !record.void {
                found[flows][point].push(record);
            }
        }
    }
    let seed = campaign.base.seed;
    for (flows, points) in spec.flows.iter().zip(&found) {
        for (point, trials) in points.iter().enumerate() {
            let ratios = |figure: &dyn Fn(&TrialRecord) -> f64| -> Vec<f64> {
                trials.iter().map(figure).collect()
            };
            let (Some(loss_ratio), Some(receiver_loss_ratio)) = (
                interval(&ratios(&TrialRecord::loss_ratio), seed),
                interval(&ratios(&TrialRecord::receiver_loss_ratio), seed),
            ) else {
                continue;
            };
            campaign.report.curve.push(CurvePoint {
                flows: *flows,
                intended_pps: rate(point),
                loss_ratio,
                receiver_loss_ratio,
                trials: trials.len(),
            });
        }
    }
    Ok(())
}

/// Rounds to two significant digits.
fn rounded(rate: f64) -> f64 {
    let step = 10_f64.powf(rate.max(10.0).log10().floor() - 1.0);
    (rate / step).round() * step
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_rounded_to_two_digits() {
        for (rate, wanted) in [(1_749_832.0, 1.7e6), (96.0, 96.0), (994_999.0, 990_000.0)] {
            assert!((rounded(rate) - wanted).abs() < 1e-6, "{rate}: {}", rounded(rate));
        }
    }
}
