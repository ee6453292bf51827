//! The longest burst without loss (RFC 9004, back-to-back frames). It tells how many datagrams the
//! receive buffer holds, beside the bytes it was configured with.

use crate::document::report::BurstRecord;
use crate::modes::campaign::{Campaign, interval};
use crate::talk::link::BenchError;
use ringest_load::spec::Rate;

/// The parameters of the bench.
#[derive(Clone, Copy, Debug)]
pub struct BurstSpec {
    /// Number of searches. RFC 9004, section 5.4, asks for many; each takes about twenty trials.
    pub repetitions: usize,
    /// The longest burst to try, datagrams.
    pub max: u64,
}

/// A search ends when its bounds differ by less than one part in this many.
const RESOLUTION: u64 = 64;
/// The shortest burst that is tried.
const SHORTEST: u64 = 16;

/// Makes all trials and writes the results into the report.
///
/// # Errors
/// Those of [`Campaign::run`].
pub fn run(campaign: &mut Campaign<'_>, spec: BurstSpec) -> Result<(), BenchError> {
    // Measures how fast the receiver empties the buffer while a burst fills it.
    let mut overrun = campaign.trial("overrun: how fast the receiver drains");
    overrun.load.rate = Rate::Max;
    let tried = campaign.run_sound(&overrun)?;
    let (send_pps, drain_pps) = (tried.sent.rate_pps(), tried.record.handled_pps);
    let mut repetitions = Vec::new();
    for repetition in 0..spec.repetitions {
        let longest = Longest::new(spec.max);
        let found = search(campaign, longest, repetition)?;
        repetitions.push(found);
    }
    #[expect(clippy::cast_precision_loss, reason = "bursts are far below 2^53")]
    let values: Vec<f64> = repetitions.iter().map(|&burst| burst as f64).collect();
    let longest = interval(&values, campaign.base.seed).unwrap_or_default();
    #[expect(clippy::cast_precision_loss, reason = "bursts are far below 2^53")]
    let unbounded = longest.median >= spec.max as f64;
    let buffer_datagrams = (!unbounded && drain_pps < send_pps && longest.median > 0.0)
        .then(|| longest.median * (1.0 - drain_pps / send_pps));
    let granted = campaign.report.setting.rcvbuf_granted_bytes;
    #[expect(clippy::cast_precision_loss, reason = "buffers are far below 2^53")]
    let bytes_per_datagram = buffer_datagrams.map(|datagrams| granted as f64 / datagrams);
    campaign.report.burst = Some(BurstRecord {
        longest,
        repetitions,
        send_pps,
        drain_pps,
        buffer_datagrams,
        bytes_per_datagram,
        unbounded,
    });
    Ok(())
}

fn search(
    campaign: &mut Campaign<'_>,
    mut longest: Longest,
    repetition: usize,
) -> Result<u64, BenchError> {
    while let Some(burst) = longest.next() {
        let mut wanted = campaign.trial(format!("repetition {}: burst of {burst}", repetition + 1));
        wanted.load.rate = Rate::Max;
        wanted.load.count = Some(burst);
        wanted.load.duration = None;
        let record = campaign.run_sound(&wanted)?.record;
        longest.record(burst, record.lost.total() == 0);
    }
    Ok(longest.whole)
}

/// A search for the longest burst: doubles until something is lost, then halves the interval.
#[derive(Clone, Copy, Debug)]
struct Longest {
    /// The longest burst without loss.
    whole: u64,
    /// The shortest burst with loss.
    broken: Option<u64>,
    max: u64,
}

impl Longest {
    fn new(max: u64) -> Self {
        Self { whole: 0, broken: None, max }
    }

    /// Returns the next burst to try, or `None` when the search is over.
    fn next(&self) -> Option<u64> {
        match self.broken {
            None if self.whole >= self.max => None,
            None => Some((self.whole * 2).max(SHORTEST).min(self.max)),
            Some(broken) => {
                let close = broken - self.whole <= (broken / RESOLUTION).max(1);
                (!close).then(|| u64::midpoint(self.whole, broken))
            }
        }
    }

    fn record(&mut self, burst: u64, whole: bool) {
        if whole {
            self.whole = burst;
        } else {
            self.broken = Some(burst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn found(depth: u64, max: u64) -> (u64, usize) {
        let mut longest = Longest::new(max);
        let mut trials = 0;
        while let Some(burst) = longest.next() {
            longest.record(burst, burst <= depth);
            trials += 1;
        }
        (longest.whole, trials)
    }

    proptest! {
        #[test]
        fn the_depth_is_found_to_its_resolution(depth in 0u64..2_000_000, max in 1u64..1_000_000) {
            let (whole, trials) = found(depth, max);
            let depth = depth.min(max);
            prop_assert!(whole <= depth && depth - whole <= depth / RESOLUTION + 1, "{whole}");
            prop_assert!(trials <= 40);
        }
    }
}
