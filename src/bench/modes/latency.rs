//! How long a datagram takes, by stage, at a few shares of the no-drop rate.

use crate::document::report::LatencyRecord;
use crate::modes::campaign::Campaign;
use crate::modes::ndr;
use crate::modes::ndr::NdrSpec;
use crate::talk::link::BenchError;
use crate::talk::trial::Tried;
use ringest_load::spec::{Gso, Rate};

/// What to try.
#[derive(Clone, Debug)]
pub struct LatencySpec {
    /// Shares of the no-drop rate.
    pub loads: Vec<f64>,
    /// The no-drop rate, if it is known.
    pub ndr_pps: Option<f64>,
    /// How to find it, if not.
    pub search: NdrSpec,
}

/// Makes all trials, and writes what they show into the report. At each load one-way times are taken in
/// one trial and round trips in another: a receiver that answers is not the same receiver.
///
/// # Errors
/// As [`Campaign::run`]; or no rate without loss was found.
pub fn run(campaign: &mut Campaign<'_>, spec: &LatencySpec) -> Result<(), BenchError> {
    // Each by itself, in the search as well: company due at the same time would be waited for.
    campaign.base.load.gso = Gso::Off;
    campaign.report.setting.train = 1;
    let ndr_pps = match spec.ndr_pps {
        Some(ndr_pps) => ndr_pps,
        None => {
            ndr::run(campaign, &spec.search)?;
            campaign.report.ndr_pps.ok_or(BenchError::NoRate)?
        }
    };
    campaign.report.ndr_pps = Some(ndr_pps);
    for &load in &spec.loads {
        let rate_pps = ndr_pps * load;
        let percent = load * 100.0;
        let mut wanted = campaign.trial(format!("one-way at {percent:.0} % of the NDR"));
        wanted.load.rate = Rate::Pps(rate_pps);
        wanted.receiver.stages = true;
        let one_way = campaign.run(&wanted)?;
        wanted.purpose = format!("round trip at {percent:.0} % of the NDR");
        wanted.receiver.stages = false;
        wanted.receiver.echoes = true;
        wanted.load.echo = true;
        let round_trip = campaign.run(&wanted)?;
        let sound = |tried: &Tried| !tried.record.void;
        let there = Some(one_way).filter(sound).into_iter().flat_map(|tried| tried.stages);
        let back = Some(round_trip).filter(sound).into_iter().flat_map(|tried| tried.stages);
        let stages = there.chain(back.filter(|stage| stage.name.starts_with("rtt_"))).collect();
        campaign.report.latencies.push(LatencyRecord { load, rate_pps, stages });
    }
    Ok(())
}
