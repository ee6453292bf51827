//! Counters with one writer and any number of readers.
//!
//! A thread counts in a plain struct of its own and *publishes* a copy at the end of each turn. A sequence
//! number guards the copy (a seqlock), so a reader always sees the counters of one moment:
//! `received = dropped + enqueued` holds in every snapshot, also while the thread runs.
//!
//! ```text
//!  owner:   seq+1 (odd) ── store every value ── seq+2 (even)
//!  reader:  seq even? ── load every value ── seq unchanged? ── else again
//! ```

use std::sync::atomic::{AtomicU64, Ordering, fence};

/// Declares a struct of `u64` counters, its published form, and their sum over threads. `sum` or `max` behind a
/// counter says how the values of several threads make one.
macro_rules! counters {
    ($(#[$meta:meta])* $name:ident, $published:ident {
        $($(#[$field_meta:meta])* $field:ident: $over_threads:ident,)*
    }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $name {
            $($(#[$field_meta])* pub $field: u64,)*
        }

        impl $name {
            /// Names of all counters, each with access to its value.
            pub const FIELDS: &'static [(&'static str, fn(&mut Self) -> &mut u64)] =
                &[$((stringify!($field), |counts| &mut counts.$field),)*];

            /// Returns the counters of several threads as one.
            #[must_use]
            pub fn total<'a>(all: impl IntoIterator<Item = &'a Self>) -> Self {
                let mut total = Self::default();
                for counts in all {
                    $(total.$field = $over_threads(total.$field, counts.$field);)*
                }
                total
            }
        }

        /// The published copy. It has its cache lines to itself, so that reading it does not slow a
        /// neighbouring thread.
        #[derive(Debug, Default)]
        #[repr(align(128))]
        pub struct $published {
            sequence: AtomicU64,
            $($field: AtomicU64,)*
        }

        impl $published {
            /// Makes `counts` visible to readers. Only the owning thread may call this.
            pub fn publish(&self, counts: &$name) {
                let sequence = self.sequence.load(Ordering::Relaxed);
                self.sequence.store(sequence.wrapping_add(1), Ordering::Relaxed);
                fence(Ordering::Release);
                $(self.$field.store(counts.$field, Ordering::Relaxed);)*
                self.sequence.store(sequence.wrapping_add(2), Ordering::Release);
            }

            /// Returns the counters of one moment. Retries while the owner is writing, which takes the
            /// owner a few nanoseconds.
            #[must_use]
            pub fn read(&self) -> $name {
                loop {
                    let before = self.sequence.load(Ordering::Acquire);
                    let counts = $name { $($field: self.$field.load(Ordering::Relaxed),)* };
                    fence(Ordering::Acquire);
                    if before % 2 == 0 && self.sequence.load(Ordering::Relaxed) == before {
                        return counts;
                    }
                    std::hint::spin_loop();
                }
            }
        }
    };
}

fn sum(total: u64, more: u64) -> u64 {
    total + more
}

fn max(total: u64, more: u64) -> u64 {
    total.max(more)
}

counters! {
    /// Counters of one receiver, in datagrams unless the name says otherwise.
    ReceiverCounts, PublishedReceiver {
        /// Taken from the sockets.
        received: sum,
        /// Payload bytes of those.
        received_bytes: sum,
        /// Frames that held two or more datagrams (UDP_GRO).
        trains: sum,
        /// Put into a batch on its way to a handler.
        enqueued: sum,
        /// Dropped by an access list. There is none yet.
        denied: sum,
        /// Dropped by a rate limit. There is none yet.
        rate_limited: sum,
        /// Dropped: the slot, or its room for control messages, was too small.
        truncated: sum,
        /// Dropped under `overload = drop`: no empty batch was left.
        pool_empty: sum,
        /// Dropped under `overload = drop`: the worker's queue was full.
        queue_full: sum,
        /// Left in the sockets when they were closed.
        unread_at_stop: sum,
        /// Dropped by the kernel at our sockets, in the kernel's unit: buffers (a train counts 1).
        kernel_buffers: sum,
        /// Times the slots ran out, which ends a receive (ENOBUFS).
        ring_exhausted: sum,
        /// Times the completion queue overflowed.
        cq_overflow: sum,
        /// Times a receive was armed: once at the start, and after each end.
        rearmed: sum,
        /// Errors that a socket reported and the receiver survived.
        socket_errors: sum,
        /// Replies taken by the kernel.
        replies_sent: sum,
        /// Replies given up at the send deadline: the send buffer stayed full.
        replies_timed_out: sum,
        /// Replies that the kernel refused, or for which there was no room.
        replies_failed: sum,
        /// Time of the last datagram, CLOCK_MONOTONIC ns; 0 before the first.
        last_received_ns: max,
        /// Times the thread slept in the kernel because there was nothing to do.
        sleeps: sum,
        /// CPU time of the thread, ns.
        cpu_ns: sum,
    }
}

counters! {
    /// Counters of one worker (or one inline handler), in datagrams unless the name says otherwise.
    WorkerCounts, PublishedWorker {
        /// Taken off the queue.
        taken: sum,
        /// Given to the handler, which has returned.
        handled: sum,
        /// Refused by the handler or its decoder.
        rejected: sum,
        /// Accepted by the sink.
        delivered: sum,
        /// Given up by the sink.
        undelivered: sum,
        /// In the sink now.
        pending: sum,
        /// Records found in datagrams.
        records: sum,
        /// Parts of datagrams that were no record.
        records_rejected: sum,
        /// Replies that found no room on the worker's side.
        replies_failed: sum,
        /// Batches handled.
        batches: sum,
        /// CPU time of the thread, ns; 0 for an inline handler, whose time is its receiver's.
        cpu_ns: sum,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_never_sees_half_a_turn() {
        let published = PublishedReceiver::default();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut counts = ReceiverCounts::default();
                for n in 1..=200_000 {
                    counts.received = n;
                    counts.enqueued = n;
                    counts.cpu_ns = n;
                    published.publish(&counts);
                }
            });
            let mut last = 0;
            while last < 200_000 {
                let counts = published.read();
                assert_eq!(counts.received, counts.enqueued);
                assert_eq!(counts.received, counts.cpu_ns);
                assert!(counts.received >= last, "counters never go back");
                last = counts.received;
            }
        });
    }
}
