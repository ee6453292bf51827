//! A histogram with one writer and any number of readers. Recording neither allocates nor locks.
//!
//! There are 64 cells for every power of two, so a value is off by at most 1/64. Readers merge the cells into
//! an `hdrhistogram::Histogram` ([`crate::count::latency`]). That crate's own concurrent histogram is not
//! used because its reader waits until every writer has recorded a value, which an idle worker never does.

use std::sync::atomic::{AtomicU64, Ordering};

const SUB_BITS: u32 = 6;
const SUB_CELLS: usize = 1 << SUB_BITS;
/// Largest exponent with cells of its own: values from 2^42 ns (73 minutes) up share the last cell.
const EXPONENT_MAX: u32 = 41;
const CELLS: usize = (EXPONENT_MAX - SUB_BITS) as usize * SUB_CELLS + 2 * SUB_CELLS;

/// Number of values recorded, by size.
#[derive(Debug)]
pub struct Histogram {
    cells: Box<[AtomicU64]>,
    max: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        let cells = std::iter::repeat_with(AtomicU64::default).take(CELLS).collect();
        Self { cells, max: AtomicU64::new(0) }
    }
}

impl Histogram {
    /// Records `value` `times` times. Only the owning thread may call this.
    pub fn record(&self, value: u64, times: u64) {
        let cell = &self.cells[cell_of(value)];
        cell.store(cell.load(Ordering::Relaxed) + times, Ordering::Relaxed);
        if value > self.max.load(Ordering::Relaxed) {
            self.max.store(value, Ordering::Relaxed);
        }
    }

    /// Returns the largest value recorded, 0 if there is none.
    #[must_use]
    pub fn max(&self) -> u64 {
        self.max.load(Ordering::Relaxed)
    }

    /// Returns every cell that is not empty: the value in its middle, and the number of values recorded.
    pub fn cells(&self) -> impl Iterator<Item = (u64, u64)> {
        self.cells.iter().enumerate().filter_map(|(index, cell)| {
            let times = cell.load(Ordering::Relaxed);
            (times > 0).then(|| (middle_of(index), times))
        })
    }
}

/// Returns the index of the cell of `value`: its floating-point form with a 6-bit mantissa.
fn cell_of(value: u64) -> usize {
    let exponent = value.max(1).ilog2().min(EXPONENT_MAX);
    let shift = exponent.saturating_sub(SUB_BITS);
    let mantissa = usize::try_from(value >> shift).unwrap_or(usize::MAX).min(2 * SUB_CELLS - 1);
    shift as usize * SUB_CELLS + mantissa
}

/// Returns the value in the middle of a cell.
fn middle_of(index: usize) -> u64 {
    let shift = (index / SUB_CELLS).saturating_sub(1);
    let lowest = ((index - shift * SUB_CELLS) as u64) << shift;
    lowest + (1u64 << shift) / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lands_within_a_sixty_fourth() {
        for exponent in 0..41 {
            for offset in [0u64, 1, 3, 77, 999_999_937] {
                let value = (1u64 << exponent) + offset % (1 << exponent);
                let got = middle_of(cell_of(value));
                assert!(got.abs_diff(value) <= value / 64, "{value} became {got}");
            }
        }
        assert_eq!(cell_of(0), 0);
        assert_eq!(cell_of(u64::MAX), CELLS - 1);
    }

    #[test]
    fn counts_what_was_recorded() {
        let histogram = Histogram::default();
        histogram.record(10, 3);
        histogram.record(1_000_000, 2);
        let cells: Vec<_> = histogram.cells().collect();
        assert_eq!(cells.iter().map(|c| c.1).sum::<u64>(), 5);
        assert_eq!(cells[0], (10, 3));
        assert_eq!(histogram.max(), 1_000_000);
    }
}
