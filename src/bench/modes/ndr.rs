//! The no-drop rate and the partial-drop rate, by MLRsearch.

use crate::document::report::GoalRecord;
use crate::modes::campaign::{Campaign, flat_out_pps};
use crate::search::{Goal, Search, SearchSpec, Standing, TrialOutcome};
use crate::talk::link::BenchError;
use ringest_load::spec::Rate;

/// The parameters of the bench.
#[derive(Clone, Debug)]
pub struct NdrSpec {
    /// The goals and their names, NDR first.
    pub goals: Vec<(String, Goal)>,
    /// The lowest rate to try.
    pub min_pps: f64,
    /// The highest rate to try; `None` to measure the sender's highest rate.
    pub max_pps: Option<f64>,
}

/// Searches and writes the results into the report.
///
/// # Errors
/// Those of [`Campaign::run`]; the goals are invalid; or a trial was void each time.
pub fn run(campaign: &mut Campaign<'_>, spec: &NdrSpec) -> Result<(), BenchError> {
    let max_pps = match spec.max_pps {
        Some(max_pps) => max_pps,
        None => flat_out_pps(campaign, "what the sender can do")?,
    };
    if spec.min_pps >= max_pps {
        return Err(BenchError::Usage(format!(
            "the lowest rate (--min-rate), {:.0}/s, is not below the highest (--max-rate, or what the \
             sender can do), {max_pps:.0}/s",
            spec.min_pps
        )));
    }
    let goals = spec.goals.iter().map(|(_, goal)| goal.clone()).collect();
    let search = SearchSpec { goals, ..SearchSpec::ndr_and_pdr(spec.min_pps, max_pps) };
    let usage = |error: crate::search::SearchError| BenchError::Usage(error.to_string());
    let mut search = Search::new(search).map_err(usage)?;
    while let Some(trial) = search.next_trial() {
        let name = trial.goal.map_or("opening", |goal| spec.goals[goal].0.as_str());
        let mut wanted = campaign.trial(format!("{name} at {:.0}/s", trial.load_pps));
        wanted.load.rate = Rate::Pps(trial.load_pps);
        wanted.load.duration = Some(trial.duration);
        let record = campaign.run_sound(&wanted)?.record;
        // Unsent counts as loss: it was intended, and not forwarded.
        let forwarded = record.intended.saturating_sub(record.lost.total());
        search.record(TrialOutcome::new(record.intended, forwarded)).map_err(usage)?;
    }
    let results = search.results();
    for ((name, goal), result) in spec.goals.iter().zip(results) {
        let throughput_pps = match result.standing {
            Standing::BelowMinLoad => None,
            _ => result.conditional_throughput_pps,
        };
        match name.as_str() {
            "ndr" => campaign.report.ndr_pps = throughput_pps,
            "pdr" => campaign.report.pdr_pps = throughput_pps,
            _ => {}
        }
        campaign.report.goals.push(GoalRecord {
            name: name.clone(),
            loss_ratio: goal.loss_ratio,
            exceed_ratio: goal.exceed_ratio,
            relative_width: goal.relative_width,
            lower_pps: result.relevant_lower_pps,
            upper_pps: result.relevant_upper_pps,
            throughput_pps,
        });
    }
    Ok(())
}
