//! The pool: every batch a thread may fill, made at start, and the way home for each.
//!
//! ```text
//!   owner (receiver, or worker for replies)            the other side
//!   take ◄── spare: a stack, last used first           handles the batch
//!              ▲                                            │
//!              └────────── home: a bounded channel ◄────────┘
//! ```
//!
//! The stack comes before the channel so that the batch used last, still in cache, is used next.

use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::batch::arena::Batch;

/// How long a thread blocks once at its start; see [`Pool::settle_in`]. Too short and the channel only spins; too long and
/// the start is delayed.
pub const SETTLE_IN: Duration = Duration::from_millis(1);

/// One thread's supply of empty batches.
#[derive(Debug)]
pub struct Pool {
    spare: Vec<Batch>,
    home: Receiver<Batch>,
    total: usize,
}

impl Pool {
    /// Makes `total` batches with `make`. Returns the pool, and the end of the channel through which batches come home. The
    /// channel has room for all of them, so sending one home never blocks.
    pub fn new(total: usize, make: impl Fn() -> Batch) -> (Self, Sender<Batch>) {
        let (sender, home) = bounded(total.max(1));
        let spare = std::iter::repeat_with(make).take(total).collect();
        (Self { spare, home, total }, sender)
    }

    /// Returns an empty batch, or `None` while none is here.
    pub fn take(&mut self) -> Option<Batch> {
        self.gather();
        self.spare.pop()
    }

    /// Returns an empty batch, waiting for one to come home. `None` if none ever can: the other side has ended, or the pool
    /// was made empty.
    pub fn take_waiting(&mut self) -> Option<Batch> {
        if self.total == 0 {
            return None;
        }
        self.take().or_else(|| self.home.recv().ok())
    }

    /// Returns whether [`take`](Self::take) would find a batch; `true` for a pool made empty, whose owner waits for none.
    pub fn has_spare(&mut self) -> bool {
        self.gather();
        self.total == 0 || !self.spare.is_empty()
    }

    /// Blocks once on the home channel, for [`SETTLE_IN`]: a thread's first blocking receive allocates, and that must happen
    /// before the first datagram.
    pub fn settle_in(&mut self) {
        self.spare.extend(self.home.recv_timeout(SETTLE_IN));
    }

    /// Puts back a batch that never left the thread.
    pub fn put(&mut self, mut batch: Batch) {
        batch.clear();
        self.spare.push(batch);
    }

    /// Returns how many batches the stack does not hold: open, in a queue, with a handler, or coming home.
    #[must_use]
    pub fn away(&self) -> usize {
        self.total - self.spare.len()
    }

    /// Returns how many batches are not home. After a complete stop this is 0, or a batch was lost.
    #[must_use]
    pub fn missing(&mut self) -> usize {
        self.gather();
        self.total - self.spare.len()
    }

    fn gather(&mut self) {
        self.spare.extend(self.home.try_iter());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hands_out_the_batch_used_last_and_counts_the_missing() {
        let (mut pool, home) = Pool::new(2, || Batch::new(4096, 4, 0));
        let mut first = pool.take().unwrap();
        let second = pool.take().unwrap();
        assert!(pool.take().is_none());
        assert_eq!(pool.missing(), 2);
        first.open(5, 0);
        pool.put(second);
        pool.put(first);
        assert_eq!(pool.take().map(|b| b.receiver), Some(5), "last in, first out");
        assert_eq!(pool.missing(), 1);
        home.send(Batch::new(4096, 4, 0)).unwrap();
        assert_eq!(pool.missing(), 0);
    }

    #[test]
    fn waiting_ends_when_nobody_can_bring_one() {
        let (mut pool, home) = Pool::new(1, || Batch::new(4096, 4, 0));
        let _out = pool.take_waiting().unwrap();
        drop(home);
        assert!(pool.take_waiting().is_none());
    }
}
