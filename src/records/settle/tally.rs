//! Tallies the fate of one worker's datagrams, each of which goes to several sinks: delivered when all sinks
//! have it, undelivered when one gave it up. Exact, however far one sink is ahead of the others.
//!
//! ```text
//!  lane 0  stdout            ok 5 · lost 2 · ok 9
//!  lane 1  journal ► broker  ok 3                        ► in common: the first 3
//! ```
//! Datagrams are known by their order: each lane settles them from the first to the last. A datagram that held ones
//! joined also counts for them.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::settle::run::Run;

/// The tally of one worker; see the module's description. Its worker and the shippers share it.
#[derive(Debug)]
pub struct Tally {
    state: Mutex<State>,
    /// Notified when datagrams were settled, and when the tally is abandoned.
    settled: Condvar,
    /// Datagrams given to the sinks, without those that joined them.
    landed: AtomicU64,
    /// Datagrams that joined others.
    joined: AtomicU64,
    /// Datagrams that decoders hold.
    held: AtomicU64,
    delivered: AtomicU64,
    undelivered: AtomicU64,
    abandoned: AtomicBool,
}

#[derive(Debug)]
struct State {
    lanes: Vec<Lane>,
    /// Datagrams settled in all lanes, without those that joined them.
    combined: u64,
    /// Datagrams that stand for others, by number (from 0, in the order they were given to the sinks), and how
    /// many joined each. Settled ones are removed.
    joins: VecDeque<(u64, u64)>,
}

/// One sink, or one destination of a sink.
#[derive(Debug, Default)]
struct Lane {
    /// Datagrams that the sink, or the journal before it, has for good or gave up.
    met: u64,
    /// Runs that were handed over and not carried to their destination yet. Lost runs keep their place.
    coming: VecDeque<Run>,
    /// Runs settled here, and not in every lane yet.
    settled: VecDeque<Run>,
}

impl Tally {
    /// Makes a tally of `lanes` lanes, at least one.
    #[must_use]
    pub fn new(lanes: usize) -> Self {
        let lanes = (0..lanes.max(1)).map(|_| Lane::default()).collect();
        Self {
            state: Mutex::new(State { lanes, combined: 0, joins: VecDeque::new() }),
            settled: Condvar::new(),
            landed: AtomicU64::new(0),
            joined: AtomicU64::new(0),
            held: AtomicU64::new(0),
            delivered: AtomicU64::new(0),
            undelivered: AtomicU64::new(0),
            abandoned: AtomicBool::new(false),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Publishes the number of datagrams given to the sinks so far, without those that joined them, and of
    /// those that decoders hold now.
    pub fn landed(&self, datagrams: u64, held: u64) {
        self.held.store(held, Ordering::Release);
        self.landed.store(datagrams, Ordering::Release);
    }

    /// Gives `datagrams` more the fate of the datagram `number`, which was not settled yet. Numbers rise from
    /// call to call.
    pub fn join(&self, number: u64, datagrams: u64) {
        self.state().joins.push_back((number, datagrams));
        self.joined.fetch_add(datagrams, Ordering::AcqRel);
    }

    /// Returns the number of datagrams that were given to the sinks and are not written in all of them. They
    /// are lost if the process ends now.
    #[must_use]
    pub fn unwritten(&self) -> u64 {
        let state = self.state();
        let met = state.lanes.iter().map(|lane| lane.met).min().unwrap_or(0);
        let joined = state.joins.iter().filter(|(number, _)| *number >= met).map(|(_, n)| n);
        self.landed.load(Ordering::Acquire).saturating_sub(met) + joined.sum::<u64>()
    }

    /// Returns the number of datagrams that are held, or were given to the sinks and are not settled
    /// everywhere.
    #[must_use]
    pub fn pending(&self) -> u64 {
        let (delivered, undelivered) = self.totals();
        let landed = self.landed.load(Ordering::Acquire) + self.joined.load(Ordering::Acquire);
        landed.saturating_sub(delivered.saturating_add(undelivered))
            + self.held.load(Ordering::Acquire)
    }

    /// Settles the next datagrams of `lane`.
    pub fn settle(&self, lane: usize, run: Run) {
        let mut state = self.state();
        if let Some(lane) = state.lanes.get_mut(lane) {
            lane.met += run.datagrams;
            Run::note(&mut lane.settled, run);
        }
        self.combine(&mut state);
    }

    /// Notes that the next datagrams of `lane` are in the journal, for [`carried`](Self::carried) to settle, or
    /// were given up there.
    pub fn hand_over(&self, lane: usize, run: Run) {
        let mut state = self.state();
        if let Some(lane) = state.lanes.get_mut(lane) {
            lane.met += run.datagrams;
            Run::note(&mut lane.coming, run);
            lane.pass_lost();
        }
        self.combine(&mut state);
    }

    /// Settles the next datagrams that were handed over: they are at their destination, or were given up on
    /// the way.
    pub fn carried(&self, lane: usize, run: Run) {
        let mut state = self.state();
        if let Some(lane) = state.lanes.get_mut(lane) {
            lane.carry(run);
        }
        self.combine(&mut state);
    }

    /// Returns the numbers of delivered and of undelivered datagrams.
    #[must_use]
    pub fn totals(&self) -> (u64, u64) {
        (self.delivered.load(Ordering::Acquire), self.undelivered.load(Ordering::Acquire))
    }

    /// Ends all waiting: nobody carries datagrams any more.
    pub fn abandon(&self) {
        self.abandoned.store(true, Ordering::Release);
        // Takes the lock once: a waiter that has checked the flag is then asleep and gets the notification.
        drop(self.state());
        self.settled.notify_all();
    }

    /// Waits until all datagrams that were given to the sinks are settled: `landed` and those that joined
    /// them. Returns at `deadline` at the latest, and when the tally is abandoned.
    pub fn wait_for(&self, landed: u64, deadline: Instant) {
        let datagrams = landed + self.joined.load(Ordering::Acquire);
        let mut state = self.state();
        loop {
            let (delivered, undelivered) = self.totals();
            let left = deadline.saturating_duration_since(Instant::now());
            let abandoned = self.abandoned.load(Ordering::Acquire);
            if delivered + undelivered >= datagrams || left.is_zero() || abandoned {
                return;
            }
            state = match self.settled.wait_timeout(state, left) {
                Ok((state, _)) => state,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
    }

    /// Counts the datagrams that all lanes have settled.
    fn combine(&self, state: &mut State) {
        loop {
            let fronts = state.lanes.iter().map(|lane| lane.settled.front());
            let Some(datagrams) = fronts
                .map(|run| run.map_or(0, |run| run.datagrams))
                .min()
                .filter(|least| *least > 0)
            else {
                break;
            };
            let lanes = state.lanes.iter_mut();
            let lost = lanes.fold(false, |lost, lane| lane.take(datagrams) | lost);
            let total = if lost { &self.undelivered } else { &self.delivered };
            total.fetch_add(datagrams + state.take_joined(datagrams), Ordering::AcqRel);
        }
        self.settled.notify_all();
    }
}

impl State {
    /// Moves past the next datagrams. Returns how many joined them.
    fn take_joined(&mut self, datagrams: u64) -> u64 {
        self.combined += datagrams;
        let mut joined = 0;
        while let Some((_, more)) = self.joins.pop_front_if(|(number, _)| *number < self.combined) {
            joined += more;
        }
        joined
    }
}

impl Lane {
    /// Takes settled datagrams, at most as many as the first run has. Returns whether they are lost.
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
            // Never more than was handed over: a record is handed over before it can be read.
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

    /// Settles runs that the journal gave up, as soon as all runs before them are settled.
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
        tally.landed(10, 0);
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

    #[test]
    fn a_datagram_stands_for_those_that_joined_it() {
        let tally = Tally::new(2);
        tally.join(1, 3);
        tally.join(4, 2);
        tally.landed(5, 1);
        assert_eq!((tally.unwritten(), tally.pending()), (10, 11));
        tally.settle(0, ok(5));
        assert_eq!(tally.unwritten(), 10, "the other sink has none");
        tally.settle(1, ok(1));
        assert_eq!((tally.totals(), tally.unwritten()), ((1, 0), 9));
        tally.settle(1, lost(1));
        assert_eq!((tally.totals(), tally.unwritten()), ((1, 4), 5));
        tally.settle(1, ok(3));
        assert_eq!((tally.totals(), tally.unwritten(), tally.pending()), ((6, 4), 0, 1));
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
