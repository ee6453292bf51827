//! Reproducible randomness for tests, schedules and resampling. Not for secrets.

/// 2^64 divided by the golden ratio, rounded to an odd number: as a step or a factor it spreads neighbouring numbers
/// over all of `u64`.
pub const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// Returns a number whose every bit depends on every bit of `number` (one step of SplitMix64). Different numbers give
/// different results.
#[inline]
#[must_use]
pub fn mix(number: u64) -> u64 {
    let mixed = number.wrapping_add(GOLDEN);
    let mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

/// A seeded generator (SplitMix64): the same seed gives the same numbers on every host.
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// Starts at `seed`; every seed is as good as another.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns the next number, uniform over all of `u64`.
    #[expect(clippy::should_implement_trait, reason = "it never ends, so it is no iterator")]
    pub fn next(&mut self) -> u64 {
        let number = mix(self.0);
        self.0 = self.0.wrapping_add(GOLDEN);
        number
    }

    /// Returns a number below `bound`, or 0 if `bound` is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound.max(1) as u64).unwrap_or(0)
    }

    /// Puts `items` into a random order; all orders are equally likely (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }

    /// Returns whether something happens that does so once in `n` times.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_order_comes_up() {
        let mut chance = Chance::new(9);
        let mut counts = std::collections::HashMap::new();
        for _ in 0..6000 {
            let mut items = [1, 2, 3];
            chance.shuffle(&mut items);
            *counts.entry(items).or_insert(0) += 1;
        }
        assert_eq!(counts.len(), 6);
        assert!(counts.values().all(|count| (850..1150).contains(count)), "{counts:?}");
        assert_eq!(chance.below(0), 0);
    }
}
