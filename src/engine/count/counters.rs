//! Counters with one writer and any number of readers.
//!
//! A thread counts in a plain struct of its own and *publishes* a copy when it has finished a turn.
//! The copy is guarded by a sequence number (a seqlock), so a reader always sees the counters of
//! one moment: `received = dropped + enqueued` holds in every snapshot, not only at rest.
//!
//! ```text
//!  owner:   seq+1 (odd) ── store every value ── seq+2 (even)
//!  reader:  seq even? ── load every value ── seq unchanged? ── else again
//! ```

use std::sync::atomic::{AtomicU64, Ordering, fence};

/// Declares a struct of `u64` counters together with its published form.
macro_rules! counters {
    ($(#[$meta:meta])* $name:ident, $published:ident { $($(#[$field_meta:meta])* $field:ident,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $name {
            $($(#[$field_meta])* pub $field: u64,)*
        }

        /// The published copy, alone on its cache lines: a reader must not slow the neighbour.
        #[derive(Debug, Default)]
        #[repr(align(128))]
        pub struct $published {
            sequence: AtomicU64,
            $($field: AtomicU64,)*
        }

        impl $published {
            /// Makes `counts` visible. Only the owning thread may call this.
            pub fn publish(&self, counts: &$name) {
                let sequence = self.sequence.load(Ordering::Relaxed);
                self.sequence.store(sequence.wrapping_add(1), Ordering::Relaxed);
                fence(Ordering::Release);
                $(self.$field.store(counts.$field, Ordering::Relaxed);)*
                self.sequence.store(sequence.wrapping_add(2), Ordering::Release);
            }

            /// The counters of one moment. Retries while the owner is writing, which takes it a
            /// few nanoseconds.
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

counters! {
    /// What one receiver counted. Datagrams unless the name says otherwise.
    ReceiverCounts, PublishedReceiver {
        /// Taken from the sockets.
        received,
        /// Payload bytes of those.
        received_bytes,
        /// Frames that held two or more datagrams (UDP_GRO).
        trains,
        /// Put into a batch on its way to a handler.
        enqueued,
        /// Dropped: the slot or its control room was too small for what came.
        truncated,
        /// Dropped under `overload = drop`: no empty batch was left.
        pool_empty,
        /// Dropped under `overload = drop`: the worker's queue was full.
        queue_full,
        /// Left in the sockets when they were closed.
        unread_at_stop,
        /// What the kernel dropped at our sockets, in its own unit: buffers (a train counts 1).
        kernel_buffers,
        /// Times the slots ran out and a receive ended for it (ENOBUFS).
        ring_exhausted,
        /// Times the completion queue overflowed.
        cq_overflow,
        /// Times a receive was armed again after it had ended.
        rearmed,
        /// Errors a socket reported and the receiver lived through.
        socket_errors,
        /// Replies the kernel took.
        replies_sent,
        /// Replies given up at the send deadline: the send buffer stayed full.
        replies_timed_out,
        /// Replies the kernel refused, or that found no room.
        replies_failed,
        /// When it took the last datagram, CLOCK_MONOTONIC ns; 0: none came yet.
        last_received_ns,
        /// Times the thread slept in the kernel for more to do.
        sleeps,
        /// CPU time of the thread, ns.
        cpu_ns,
    }
}

counters! {
    /// What one worker (or one inline handler) counted. Datagrams unless the name says otherwise.
    WorkerCounts, PublishedWorker {
        /// Taken out of the queue.
        taken,
        /// Given to the handler, which has returned.
        handled,
        /// The handler or its decoder refused it.
        rejected,
        /// The sink accepted it.
        delivered,
        /// The sink gave up on it.
        undelivered,
        /// In the sink now.
        pending,
        /// Records found in datagrams.
        records,
        /// Parts of datagrams that were no record.
        records_rejected,
        /// Replies that found no room on the worker's side.
        replies_failed,
        /// Batches handled.
        batches,
        /// CPU time of the thread, ns (0 for an inline handler: the receiver's says it).
        cpu_ns,
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
