//! Percentiles of the threads' histograms.

use hdrhistogram::Histogram as Hdr;

use crate::count::histogram::Histogram;

/// Percentiles of a latency, ns; all 0 while nothing was recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Percentiles {
    /// Median.
    pub p50: u64,
    /// 90th percentile.
    pub p90: u64,
    /// 99th percentile.
    pub p99: u64,
    /// 99.9th percentile.
    pub p999: u64,
    /// Maximum, exact.
    pub max: u64,
}

impl Percentiles {
    /// Merges the histograms of several threads. Values are off by at most 1/64; the maximum is exact.
    #[must_use]
    pub fn merge<'a>(histograms: impl IntoIterator<Item = &'a Histogram>) -> Self {
        // Cannot fail: the crate accepts these bounds. Three digits are finer than our cells.
        let Ok(mut merged) = Hdr::<u64>::new_with_bounds(1, 1 << 43, 3) else {
            return Self::default();
        };
        let mut max = 0;
        for histogram in histograms {
            max = max.max(histogram.max());
            for (value, times) in histogram.cells() {
                merged.saturating_record_n(value, times);
            }
        }
        let at = |quantile| merged.value_at_quantile(quantile).min(max);
        Self { p50: at(0.5), p90: at(0.9), p99: at(0.99), p999: at(0.999), max }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merges_threads_and_never_exceeds_the_maximum() {
        let (fast, slow) = (Histogram::default(), Histogram::default());
        fast.record(1000, 99);
        slow.record(1_000_000, 1);
        let merged = Percentiles::merge([&fast, &slow]);
        assert!(merged.p50.abs_diff(1000) <= 1000 / 64 + 1, "{merged:?}");
        assert!(merged.p90 <= 1016);
        assert_eq!(merged.max, 1_000_000);
        assert!(merged.p999 <= merged.max);
        assert_eq!(Percentiles::merge([]), Percentiles::default());
    }
}
