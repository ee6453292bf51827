//! What became of one worker's datagrams where each goes to several places: delivered when all of them
//! have it, undelivered when one gave it up. Exact, however far one is ahead of the others.
//!
//! ```text
//!  lane 0  stdout            ok 5 · lost 2 · ok 9
//!  lane 1  journal ► broker  ok 3                        ► in common: the first 3
//! ```
//! Datagrams are known by their order: each lane settles them from the first to the last.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::settle::run::Run;

/// See the module's description. Shared by a worker and the shippers.
#[derive(Debug)]
pub struct Tally {
    lanes: Mutex<Vec<Lane>>,
    settled: Condvar,
    /// Datagrams that were given to the places.
    landed: AtomicU64,
    delivered: AtomicU64,
    undelivered: AtomicU64,
    abandoned: AtomicBool,
}

/// One place that datagrams go to.
#[derive(Debug, Default)]
struct Lane {
    /// Datagrams that the place, or the journal before it, has for good or gave up.
    met: u64,
    /// Committed to the journal and not carried on yet; and in between, what the journal gave up.
    coming: VecDeque<Run>,
    /// Settled here, and not everywhere yet.
    settled: VecDeque<Run>,
}

impl Tally {
    /// For so many places.
    #[must_use]
    pub fn new(lanes: usize) -> Self {
        let lanes = (0..lanes.max(1)).map(|_| Lane::default()).collect();
        Self {
            lanes: Mutex::new(lanes),
            settled: Condvar::new(),
            landed: AtomicU64::new(0),
            delivered: AtomicU64::new(0),
            undelivered: AtomicU64::new(0),
            abandoned: AtomicBool::new(false),
        }
    }

    fn lanes(&self) -> MutexGuard<'_, Vec<Lane>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// So many datagrams were given to the places by now.
    pub fn landed(&self, datagrams: u64) {
        self.landed.store(datagrams, Ordering::Release);
    }

    /// Datagrams that a place was given and has not written: they are lost if the process ends now.
    #[must_use]
    pub fn unwritten(&self) -> u64 {
        let met = self.lanes().iter().map(|lane| lane.met).min().unwrap_or(0);
        self.landed.load(Ordering::Acquire).saturating_sub(met)
    }

    /// Datagrams that were given to the places and are not settled everywhere.
    #[must_use]
    pub fn pending(&self) -> u64 {
        let (delivered, undelivered) = self.totals();
        self.landed.load(Ordering::Acquire).saturating_sub(delivered.saturating_add(undelivered))
    }

    /// The next datagrams are settled in `lane`.
    pub fn settle(&self, lane: usize, run: Run) {
        let mut lanes = self.lanes();
        if let Some(lane) = lanes.get_mut(lane) {
            lane.met += run.datagrams;
            Run::note(&mut lane.settled, run);
        }
        self.combine(&mut lanes);
    }

    /// The next datagrams of `lane` are in the journal, for [`carried`](Self::carried) to settle, or were
    /// given up there.
    pub fn hand_over(&self, lane: usize, run: Run) {
        let mut lanes = self.lanes();
        if let Some(lane) = lanes.get_mut(lane) {
            lane.met += run.datagrams;
            Run::note(&mut lane.coming, run);
            lane.pass_lost();
        }
        self.combine(&mut lanes);
    }

    /// The next of those that were handed over are where they should go, or were given up on the way.
    pub fn carried(&self, lane: usize, run: Run) {
        let mut lanes = self.lanes();
        if let Some(lane) = lanes.get_mut(lane) {
            lane.carry(run);
        }
        self.combine(&mut lanes);
    }

    /// How many were delivered, and how many were given up.
    #[must_use]
    pub fn totals(&self) -> (u64, u64) {
        (self.delivered.load(Ordering::Acquire), self.undelivered.load(Ordering::Acquire))
    }

    /// Nobody carries anything on any more: there is nothing to wait for.
    pub fn abandon(&self) {
        self.abandoned.store(true, Ordering::Release);
        // Under the lock, so that nobody is between looking and waiting.
        drop(self.lanes());
        self.settled.notify_all();
    }

    /// Waits until so many datagrams are settled, at most until `deadline`.
    pub fn wait_for(&self, datagrams: u64, deadline: Instant) {
        let mut lanes = self.lanes();
        loop {
            let (delivered, undelivered) = self.totals();
            let left = deadline.saturating_duration_since(Instant::now());
            let abandoned = self.abandoned.load(Ordering::Acquire);
            if delivered + undelivered >= datagrams || left.is_zero() || abandoned {
                return;
            }
            lanes = match self.settled.wait_timeout(lanes, left) {
                Ok((lanes, _)) => lanes,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
    }

    /// Counts what all lanes have settled.
    fn combine(&self, lanes: &mut [Lane]) {
        loop {
            let fronts = lanes.iter().map(|lane| lane.settled.front());
            let Some(datagrams) = fronts
                .map(|run| run.map_or(0, |run| run.datagrams))
                .min()
                .filter(|least| *least > 0)
            else {
                break;
            };
            let lost = lanes.iter_mut().fold(false, |lost, lane| lane.take(datagrams) | lost);
            let total = if lost { &self.undelivered } else { &self.delivered };
            total.fetch_add(datagrams, Ordering::AcqRel);
        }
        self.settled.notify_all();
    }
}

impl Lane {
    /// Takes settled datagrams, at most as many as the first run has; returns whether they are lost.
    fn take(&mut self, datagrams: u64) -> bool {
        let Some(front) = self.settled.front_mut() else { return false };
        front.datagrams -= datagrams;
        let lost = front.lost;
        if front.datagrams == 0 {
            self.settled.pop_front();
        }
        lost
    }

    fn carry(&mut self, mut run: Run) {
        while run.datagrams > 0 {
            self.pass_lost();
            // More than was handed over cannot be: it is handed over before it can be read.
            let Some(front) = self.coming.front_mut() else { return };
            let datagrams = front.datagrams.min(run.datagrams);
            front.datagrams -= datagrams;
            run.datagrams -= datagrams;
            if front.datagrams == 0 {
                self.coming.pop_front();
            }
            Run::note(&mut self.settled, Run { datagrams, lost: run.lost });
        }
        self.pass_lost();
    }

    /// What the journal gave up is settled as soon as what came before it is.
    fn pass_lost(&mut self) {
        while let Some(run) = self.coming.pop_front_if(|run| run.lost) {
            Run::note(&mut self.settled, run);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ok(datagrams: u64) -> Run {
        Run { datagrams, lost: false }
    }

    fn lost(datagrams: u64) -> Run {
        Run { datagrams, lost: true }
    }

    #[test]
    fn what_one_place_lost_is_lost_once() {
        let tally = Tally::new(2);
        tally.settle(0, ok(5));
        assert_eq!(tally.totals(), (0, 0), "the other has none yet");
        tally.settle(0, lost(2));
        tally.settle(1, ok(3));
        assert_eq!(tally.totals(), (3, 0));
        tally.settle(1, lost(3));
        assert_eq!(tally.totals(), (3, 3), "two lost here, one of them there too");
        tally.settle(1, ok(1));
        assert_eq!(tally.totals(), (3, 4));
    }

    #[test]
    fn what_the_journal_gave_up_keeps_its_place() {
        let tally = Tally::new(1);
        tally.hand_over(0, ok(2));
        tally.hand_over(0, lost(3));
        tally.hand_over(0, ok(1));
        assert_eq!(tally.totals(), (0, 0));
        tally.carried(0, ok(1));
        assert_eq!(tally.totals(), (1, 0));
        tally.carried(0, ok(1));
        assert_eq!(tally.totals(), (2, 3));
        tally.carried(0, lost(1));
        assert_eq!(tally.totals(), (2, 4));
    }

    #[test]
    fn what_is_in_the_journal_is_written_though_it_is_not_settled() {
        let tally = Tally::new(2);
        tally.landed(10);
        assert_eq!(tally.unwritten(), 10);
        tally.settle(0, ok(9));
        assert_eq!(tally.unwritten(), 10, "the journal has none of it");
        tally.hand_over(1, ok(5));
        tally.hand_over(1, lost(2));
        assert_eq!(
            (tally.unwritten(), tally.totals()),
            (3, (0, 0)),
            "what is lost waits for nothing"
        );
        tally.carried(1, ok(5));
        assert_eq!((tally.unwritten(), tally.totals()), (3, (5, 2)));
    }

    /// The same by a list of every datagram's fate in every lane.
    fn expected(lanes: &[Vec<bool>]) -> (u64, u64) {
        let settled = lanes.iter().map(Vec::len).min().unwrap_or(0);
        let lost = (0..settled).filter(|n| lanes.iter().any(|lane| lane[*n])).count();
        ((settled - lost) as u64, lost as u64)
    }

    proptest! {
        #[test]
        fn totals_are_those_of_a_list(
            steps in proptest::collection::vec((0..3usize, 1..6u64, any::<bool>()), 0..60),
        ) {
            let tally = Tally::new(3);
            let mut lanes = vec![Vec::new(); 3];
            for (lane, datagrams, lost) in steps {
                tally.settle(lane, Run { datagrams, lost });
                lanes[lane].extend((0..datagrams).map(|_| lost));
                prop_assert_eq!(tally.totals(), expected(&lanes));
            }
        }
    }
}
