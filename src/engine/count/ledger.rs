//! The ledger: the number of datagrams at each place on their way, computed from the threads' counters.
//!
//! ```text
//! received = dropped (without kernel) + queued + handled
//! handled  = rejected + delivered + undelivered + pending
//! arrived  = received + dropped.kernel + unread_at_stop      (after a stop)
//! residual = difference between the two sides of these equations: 0
//! ```

use crate::count::counters::{ReceiverCounts, WorkerCounts};

/// Unit of the kernel's drops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Datagrams, exactly.
    Datagrams,
    /// Buffers of the kernel. With UDP_GRO, one buffer may hold a whole train of datagrams.
    Buffers,
}

impl Unit {
    /// Returns the word used in JSON and tables.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Datagrams => "datagrams",
            Self::Buffers => "buffers",
        }
    }
}

/// Declares the causes of drops after a receive. Each is a counter of the receiver with the same name.
macro_rules! dropped {
    ($($(#[$meta:meta])* $cause:ident,)*) => {
        /// Drops by cause, in datagrams (`kernel` in [`Ledger::kernel_unit`]).
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        pub struct Dropped {
            /// Dropped by the kernel at our sockets because the receive buffer was full. These were
            /// never received.
            pub kernel: u64,
            $($(#[$meta])* pub $cause: u64,)*
        }

        impl Dropped {
            fn new(kernel: u64, receivers: &ReceiverCounts) -> Self {
                Self { kernel, $($cause: receivers.$cause,)* }
            }

            /// Returns the number of datagrams dropped after they had been received.
            #[must_use]
            pub fn after_receive(&self) -> u64 {
                0 $(+ self.$cause)*
            }
        }
    };
}

dropped! {
    /// Dropped by an access list. There is none yet, so always 0.
    denied,
    /// Dropped by a rate limit. There is none yet, so always 0.
    rate_limited,
    /// Longer than the slot, or with more control messages than it has room for.
    truncated,
    /// No empty batch was left (`overload = drop`).
    pool_empty,
    /// The worker's queue was full (`overload = drop`).
    queue_full,
}

/// Number of datagrams at each place on their way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ledger {
    /// Reached our sockets; `None` where they cannot be counted exactly.
    pub arrived: Option<u64>,
    /// Taken from the sockets.
    pub received: u64,
    /// Payload bytes of those.
    pub received_bytes: u64,
    /// Unit of `dropped.kernel`.
    pub kernel_unit: Unit,
    /// Dropped, by cause.
    pub dropped: Dropped,
    /// On the way to a handler now.
    pub queued: u64,
    /// Given to the handler.
    pub handled: u64,
    /// Refused by the handler.
    pub rejected: u64,
    /// Accepted by the sink.
    pub delivered: u64,
    /// Given up by the sink, which failed or was stopped first.
    pub undelivered: u64,
    /// In the sink now.
    pub pending: u64,
    /// Left in the sockets when they were closed.
    pub unread_at_stop: u64,
    /// Sum of the differences between the two sides of each equation; anything but 0 is a bug.
    pub residual: i64,
}

/// Facts known only at the end of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// Datagrams found in queues and open batches after the threads had ended. They are counted there, not
    /// derived from other counters, so that the residual is a real check.
    pub abandoned: u64,
}

/// Datagrams that reached one receiver's sockets, or `None` if they are not counted.
pub type Arrived = Option<u64>;

/// Returns the kernel's drops at one receiver's sockets, and their unit.
#[must_use]
pub fn kernel_drops(
    counts: &ReceiverCounts,
    arrived: Arrived,
    gro: bool,
    ended: bool,
) -> (u64, Unit) {
    match arrived {
        // Before the end, the number still in the sockets is not known, so the difference would be wrong.
        Some(arrived) if ended => {
            (arrived.saturating_sub(counts.received + counts.unread_at_stop), Unit::Datagrams)
        }
        _ if gro => (counts.kernel_buffers, Unit::Buffers),
        _ => (counts.kernel_buffers, Unit::Datagrams),
    }
}

/// Makes the ledger from the counters. Read the workers' counters before the receivers': otherwise more may be
/// handled than was queued.
#[must_use]
pub fn balance(
    receivers: &[(ReceiverCounts, Arrived)],
    workers: &[WorkerCounts],
    gro: bool,
    ended: Option<Ended>,
) -> Ledger {
    let rx = ReceiverCounts::total(receivers.iter().map(|(counts, _)| counts));
    let wk = WorkerCounts::total(workers);
    let mut kernel = 0;
    let mut kernel_unit = Unit::Datagrams;
    for (counts, arrived) in receivers {
        let (drops, unit) = kernel_drops(counts, *arrived, gro, ended.is_some());
        kernel += drops;
        if unit == Unit::Buffers {
            kernel_unit = unit;
        }
    }
    let counted: Option<u64> = receivers.iter().map(|(_, arrived)| *arrived).sum();
    let countable = ended.is_some() && (kernel_unit == Unit::Datagrams || kernel == 0);
    let arrived = counted.or_else(|| countable.then_some(rx.received + kernel + rx.unread_at_stop));
    let queued = match ended {
        Some(ended) => ended.abandoned + wk.taken - wk.handled,
        None => rx.enqueued.saturating_sub(wk.handled),
    };
    let mut ledger = Ledger {
        arrived,
        received: rx.received,
        received_bytes: rx.received_bytes,
        kernel_unit,
        dropped: Dropped::new(kernel, &rx),
        queued,
        handled: wk.handled,
        rejected: wk.rejected,
        delivered: wk.delivered,
        undelivered: wk.undelivered,
        pending: wk.pending,
        unread_at_stop: rx.unread_at_stop,
        residual: 0,
    };
    ledger.residual = ledger.off_by(rx.enqueued, ended.is_some());
    ledger
}

impl Ledger {
    /// Moves datagrams that were settled after the workers had ended out of `pending`. `undelivered` and
    /// `pending` are the totals as they are now.
    pub fn settled_late(&mut self, undelivered: u64, pending: u64) {
        let settled = self.pending.saturating_sub(pending);
        let lost = undelivered.saturating_sub(self.undelivered).min(settled);
        self.pending -= settled;
        self.undelivered += lost;
        self.delivered += settled - lost;
    }

    /// Returns the sum of the differences between the two sides of each equation. Absolute values, so that two
    /// errors do not cancel out.
    fn off_by(&self, enqueued: u64, ended: bool) -> i64 {
        let received = self.received.abs_diff(self.dropped.after_receive() + enqueued);
        let carried = enqueued.abs_diff(self.queued + self.handled);
        let settled =
            self.handled.abs_diff(self.rejected + self.delivered + self.undelivered + self.pending);
        let arrived = match (self.arrived, self.kernel_unit) {
            (Some(arrived), Unit::Datagrams) if ended => {
                arrived.abs_diff(self.received + self.dropped.kernel + self.unread_at_stop)
            }
            _ => 0,
        };
        i64::try_from(received + carried + settled + arrived).unwrap_or(i64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn receiver() -> ReceiverCounts {
        ReceiverCounts {
            received: 100,
            enqueued: 90,
            truncated: 1,
            pool_empty: 4,
            queue_full: 5,
            kernel_buffers: 3,
            unread_at_stop: 7,
            ..ReceiverCounts::default()
        }
    }

    fn worker() -> WorkerCounts {
        WorkerCounts {
            taken: 90,
            handled: 90,
            rejected: 2,
            delivered: 80,
            undelivered: 8,
            ..WorkerCounts::default()
        }
    }

    #[test]
    fn balances_after_a_stop() {
        let end = Some(Ended::default());
        let plain = balance(&[(receiver(), None)], &[worker()], false, end);
        assert_eq!((plain.residual, plain.arrived), (0, Some(110)));
        assert_eq!(plain.kernel_unit, Unit::Datagrams);
        let counted = balance(&[(receiver(), Some(203))], &[worker()], true, end);
        assert_eq!((counted.residual, counted.dropped.kernel), (0, 96));
        assert_eq!(counted.kernel_unit, Unit::Datagrams);
        let uncounted = balance(&[(receiver(), None)], &[worker()], true, end);
        assert_eq!((uncounted.residual, uncounted.arrived), (0, None));
        assert_eq!((uncounted.kernel_unit, uncounted.dropped.kernel), (Unit::Buffers, 3));
    }

    #[test]
    fn every_missing_datagram_shows() {
        let end = Some(Ended::default());
        let residual = |rx: ReceiverCounts, wk: WorkerCounts, arrived, ended| {
            balance(&[(rx, arrived)], &[wk], true, ended).residual
        };
        let lost_in_receiver = ReceiverCounts { received: 101, ..receiver() };
        assert_eq!(residual(lost_in_receiver, worker(), None, end), 1);
        let lost_in_queue = WorkerCounts { taken: 89, handled: 89, delivered: 79, ..worker() };
        assert_eq!(residual(receiver(), lost_in_queue, None, end), 1);
        let lost_in_sink = WorkerCounts { delivered: 79, ..worker() };
        assert_eq!(residual(receiver(), lost_in_sink, None, end), 1);
        assert_eq!(residual(receiver(), worker(), Some(100), end), 7, "fewer arrived than read");
        assert_eq!(residual(receiver(), worker(), None, None), 0);
    }

    #[test]
    fn what_is_settled_late_still_balances() {
        let waits = WorkerCounts { delivered: 50, pending: 30, ..worker() };
        let mut ledger = balance(&[(receiver(), None)], &[waits], false, Some(Ended::default()));
        let (delivered, undelivered) = (ledger.delivered, ledger.undelivered);
        ledger.settled_late(undelivered + 11, 7);
        assert_eq!((ledger.delivered, ledger.undelivered), (delivered + 12, undelivered + 11));
        assert_eq!((ledger.pending, ledger.off_by(90, true)), (7, 0));
        ledger.settled_late(undelivered, 9);
        assert_eq!((ledger.pending, ledger.off_by(90, true)), (7, 0), "nothing is unsettled");
    }

    #[test]
    fn what_an_abort_leaves_is_queued() {
        let aborted = WorkerCounts { taken: 70, handled: 60, delivered: 50, ..worker() };
        let left = Some(Ended { abandoned: 20 });
        let ledger = balance(&[(receiver(), None)], &[aborted], false, left);
        assert_eq!((ledger.queued, ledger.residual), (30, 0));
    }

    proptest! {
        /// A snapshot taken at any moment balances, whatever is on the way.
        #[test]
        fn a_live_snapshot_balances(
            enqueued in 0u64..1 << 40, handled in 0u64..1 << 40, full in 0u64..1000,
        ) {
            let handled = handled.min(enqueued);
            let rx = ReceiverCounts {
                received: enqueued + full, enqueued, queue_full: full, ..ReceiverCounts::default()
            };
            let wk = WorkerCounts {
                taken: handled, handled, delivered: handled, ..WorkerCounts::default()
            };
            let ledger = balance(&[(rx, None)], &[wk], true, None);
            prop_assert_eq!(ledger.residual, 0);
            prop_assert_eq!(ledger.queued, enqueued - handled);
        }
    }
}
