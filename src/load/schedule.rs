//! Computes when each datagram is due: absolute deadlines that never move.
//!
//! ```text
//!  group 0        group 1        group 2          a group is due at once: 1 datagram, or a burst
//!  ├── gap ──────┼── gap ──────┼──────►          constant: together / rate
//!  start         due 1         due 2              Poisson: exponential with that mean
//! ```
//! A group's deadline is counted from the start, not from the last send. After a delay more groups are due,
//! and datagrams that cannot be sent by the end count as `unsent`.

use crate::spec::Pattern;
use ringest_base::sys::chance::Chance;

/// A thread's deadlines, in order.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    pattern: Pattern,
    /// Mean time from group to group, ns; 0 if everything is due at once.
    gap_ns: f64,
    /// Deadline of the first group, ns after the start.
    first_ns: f64,
    /// Datagrams in a group.
    together: u64,
    /// Groups taken so far.
    groups: u64,
    /// Deadline of the next group, ns after the start.
    next_ns: f64,
    chance: Chance,
}

impl Schedule {
    /// Makes the schedule of one thread. `rate_pps` is the thread's rate, or `None` if everything is due at
    /// once. `first` is the share of a gap by which the thread starts later, so that threads take turns.
    pub(crate) fn new(
        rate_pps: Option<f64>,
        together: usize,
        pattern: Pattern,
        first: f64,
        seed: u64,
    ) -> Self {
        let together = u64::try_from(together).unwrap_or(1).max(1);
        #[expect(clippy::cast_precision_loss, reason = "a burst is far below 2^53")]
        let gap_ns = rate_pps.map_or(0.0, |rate| together as f64 * 1e9 / rate);
        let first_ns = gap_ns * first;
        let mut schedule = Self {
            pattern,
            gap_ns,
            first_ns,
            together,
            groups: 0,
            next_ns: first_ns,
            chance: Chance::new(seed),
        };
        if pattern == Pattern::Poisson {
            schedule.next_ns = schedule.exponential();
        }
        schedule
    }

    /// Returns the deadline of the next group, ns after the start.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
    pub(crate) fn next_ns(&self) -> u64 {
        self.next_ns as u64
    }

    /// Returns the datagrams in a group.
    pub(crate) fn together(&self) -> u64 {
        self.together
    }

    /// Moves on to the next group.
    pub(crate) fn advance(&mut self) {
        self.groups += 1;
        self.next_ns = match self.pattern {
            // Computed from the group's number, so that rounding errors do not add up.
            #[expect(clippy::cast_precision_loss, reason = "exact to 0.01 ns within a month")]
            Pattern::Constant => self.first_ns + self.groups as f64 * self.gap_ns,
            Pattern::Poisson => self.next_ns + self.exponential(),
        };
    }

    /// Skips all groups due before `end_ns` and returns their number. Beyond a million the number is
    /// estimated from the rate: drawing each of them could take longer than the run.
    pub(crate) fn skip_to(&mut self, end_ns: u64) -> u64 {
        if self.gap_ns <= 0.0 {
            return 0;
        }
        let mut skipped = 0;
        while self.next_ns() < end_ns && skipped < 1_000_000 {
            self.advance();
            skipped += 1;
        }
        if self.next_ns() < end_ns {
            #[expect(clippy::cast_precision_loss, reason = "an estimate")]
            let left = (end_ns - self.next_ns()) as f64 / self.gap_ns;
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "saturates"
            )]
            let left = left.ceil() as u64;
            skipped += left;
        }
        skipped
    }

    /// Returns the time that `datagrams` take at a constant rate, including the last one's gap, ns; 0 for
    /// random gaps.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "saturates; exact to 0.01 ns within a month"
    )]
    pub(crate) fn span_ns(&self, datagrams: u64) -> u64 {
        match self.pattern {
            Pattern::Constant => (datagrams as f64 / self.together as f64 * self.gap_ns) as u64,
            Pattern::Poisson => 0,
        }
    }

    /// Draws a gap of the Poisson process, ns.
    fn exponential(&mut self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "53 bits are taken")]
        let even = (self.chance.next() >> 11) as f64 / (1_u64 << 53) as f64;
        -(1.0 - even).ln() * self.gap_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deadlines(mut schedule: Schedule, count: usize) -> Vec<u64> {
        let next = || {
            let due = schedule.next_ns();
            schedule.advance();
            due
        };
        std::iter::repeat_with(next).take(count).collect()
    }

    #[test]
    fn a_constant_rate_never_drifts() {
        let schedule = Schedule::new(Some(3.0), 1, Pattern::Constant, 0.0, 0);
        let due = deadlines(schedule, 3_000_001);
        assert_eq!(due[..4], [0, 333_333_333, 666_666_666, 1_000_000_000]);
        assert_eq!(due[3_000_000], 1_000_000_000_000_000);
    }

    #[test]
    fn bursts_are_due_together_and_threads_take_turns() {
        let schedule = Schedule::new(Some(1000.0), 10, Pattern::Constant, 0.5, 0);
        assert_eq!(deadlines(schedule, 3), [5_000_000, 15_000_000, 25_000_000]);
    }

    #[test]
    fn a_poisson_process_has_its_rate_and_its_spread() {
        let schedule = Schedule::new(Some(1e6), 1, Pattern::Poisson, 0.0, 7);
        let due = deadlines(schedule, 100_001);
        let gaps: Vec<f64> = due
            .windows(2)
            .map(|pair| u32::try_from(pair[1] - pair[0]).map(f64::from).unwrap())
            .collect();
        let mean = gaps.iter().sum::<f64>() / 1e5;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / 1e5;
        assert!((mean / 1000.0 - 1.0).abs() < 0.02, "{mean}");
        assert!((variance.sqrt() / mean - 1.0).abs() < 0.03, "as wide as its mean: {variance}");
    }

    #[test]
    fn what_is_due_before_the_end_is_counted() {
        for pattern in [Pattern::Constant, Pattern::Poisson] {
            let mut schedule = Schedule::new(Some(1e6), 1, pattern, 0.0, 3);
            let skipped = schedule.skip_to(10_000_000);
            let due = deadlines(Schedule::new(Some(1e6), 1, pattern, 0.0, 3), 20_000);
            let wanted = due.iter().filter(|due| **due < 10_000_000).count();
            assert_eq!(skipped, wanted as u64);
        }
        let mut absurd = Schedule::new(Some(1e9), 1, Pattern::Constant, 0.0, 0);
        assert_eq!(absurd.skip_to(3_600_000_000_000), 3_600_000_000_000);
        let mut flat_out = Schedule::new(None, 1, Pattern::Constant, 0.0, 0);
        assert_eq!(flat_out.skip_to(1_000_000), 0);
    }
}
