//! How long a datagram takes, by stage, at a few shares of the no-drop rate.

use crate::document::report::LatencyRecord;
use crate::modes::campaign::Campaign;
use crate::modes::ndr;
use crate::modes::ndr::NdrSpec;
use crate::talk::link::BenchError;
use crate::talk::trial::Tried;
use ringest_load::spec::{Gso, Rate};

/// The parameters of the bench.
#[derive(Clone, Debug)]
pub struct LatencySpec {
    /// Shares of the no-drop rate.
    pub loads: Vec<f64>,
    /// The no-drop rate, datagrams a second, if it is known.
    pub ndr_pps: Option<f64>,
    /// The search for it, if not.
    pub search: NdrSpec,
}

/// Makes all trials and writes the results into the report. At each load one trial
/// measures one-way times and another round trips: replies change the load on the receiver.
///
/// # Errors
/// Those of [`Campaign::run`], or no rate without loss was found.
pub fn run(campaign: &mut Campaign<'_>, spec: &LatencySpec) -> Result<(), BenchError> {
    // Single datagrams, in the search as well: in a train a datagram waits for the others.
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
