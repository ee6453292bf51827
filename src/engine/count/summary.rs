//! What a run came to: the ledger, costs and latencies, by thread and in total.

use std::net::SocketAddr;
use std::time::Duration;

use crate::count::counters::{ReceiverCounts, WorkerCounts};
use crate::count::latency::Percentiles;
use crate::count::ledger::{Arrived, Ended, Ledger, balance, kernel_drops};

/// The engine's state at one moment; after a stop, its final accounts.
#[derive(Clone, Debug)]
pub struct Summary {
    /// `io_uring` or `recvmmsg`.
    pub backend: &'static str,
    /// Why that one.
    pub backend_reason: String,
    /// How arrivals are counted, or why they are not.
    pub arrivals_reason: String,
    /// Addresses listened on, with the ports the kernel chose.
    pub listen: Vec<SocketAddr>,
    /// Since the start.
    pub elapsed: Duration,
    /// Where every datagram is.
    pub ledger: Ledger,
    /// Frames that held two or more datagrams.
    pub trains: u64,
    /// Times the slots ran out.
    pub ring_exhausted: u64,
    /// Times the completion queue overflowed.
    pub cq_overflow: u64,
    /// Times a receive was armed, again after each end.
    pub rearmed: u64,
    /// Errors that sockets reported and the receivers lived through.
    pub socket_errors: u64,
    /// What became of the handlers' replies.
    pub replies: ReplySummary,
    /// What decoders found in the datagrams; nothing where none ran.
    pub records: RecordSummary,
    /// From the socket to the handler.
    pub queue_latency_ns: Percentiles,
    /// The most that gathering datagrams may have added to a latency; zero: nothing.
    pub coalesce_bound: Duration,
    /// Resident memory of the process, bytes.
    pub rss_bytes: u64,
    /// One per receiver.
    pub receivers: Vec<ReceiverSummary>,
    /// One per worker; with inline handlers, one per receiver.
    pub workers: Vec<WorkerSummary>,
}

/// What decoders found, in records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordSummary {
    /// Records.
    pub found: u64,
    /// Parts of datagrams that were none.
    pub rejected: u64,
}

/// What became of replies, in datagrams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplySummary {
    /// The kernel took them. That they arrived is not known.
    pub sent: u64,
    /// Given up: the send buffer stayed full until the send deadline.
    pub send_timed_out: u64,
    /// Refused by the kernel, or there was no room for them.
    pub failed: u64,
}

/// One receiver's share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceiverSummary {
    /// Where it is pinned.
    pub core: usize,
    /// Datagrams taken.
    pub received: u64,
    /// Drops of the kernel at its sockets, in the ledger's `kernel_unit`.
    pub dropped_kernel: u64,
    /// What the kernel's own counter showed, in buffers: equal to `dropped_kernel` without trains,
    /// however that was counted.
    pub kernel_buffers: u64,
    /// Receive buffer granted, the sum of its sockets.
    pub rcvbuf_bytes: usize,
    /// CPU time, ns; up to a second old while running.
    pub cpu_ns: u64,
    /// Times it slept for more to do.
    pub sleeps: u64,
}

/// One worker's share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerSummary {
    /// Where it is pinned.
    pub core: usize,
    /// Datagrams handled.
    pub handled: u64,
    /// Batches they came in.
    pub batches: u64,
    /// CPU time, ns; up to a second old while running; 0 for an inline handler.
    pub cpu_ns: u64,
}

impl Summary {
    /// CPU time of all receivers per datagram received, ns; `None` before the first.
    #[must_use]
    pub fn receiver_ns_per_datagram(&self) -> Option<f64> {
        per(self.receivers.iter().map(|r| r.cpu_ns).sum(), self.ledger.received)
    }

    /// CPU time of all workers per datagram handled, ns; `None` before the first, and for inline
    /// handlers, whose time is their receiver's.
    #[must_use]
    pub fn worker_ns_per_datagram(&self) -> Option<f64> {
        let cpu_ns = self.workers.iter().map(|w| w.cpu_ns).sum();
        per(cpu_ns, self.ledger.handled).filter(|_| cpu_ns > 0)
    }
}

#[expect(clippy::cast_precision_loss, reason = "an average needs no 53 bits")]
fn per(total: u64, datagrams: u64) -> Option<f64> {
    (datagrams > 0).then(|| total as f64 / datagrams as f64)
}

/// A receiver's counters with what the engine knows of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReceiverRow {
    pub(crate) core: usize,
    pub(crate) rcvbuf_bytes: usize,
    pub(crate) counts: ReceiverCounts,
    pub(crate) arrived: Arrived,
}

/// A worker's counters with its core.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WorkerRow {
    pub(crate) core: usize,
    pub(crate) counts: WorkerCounts,
}

/// The facts of a run that do not change.
#[derive(Clone, Debug)]
pub(crate) struct RunFacts {
    pub(crate) backend: &'static str,
    pub(crate) backend_reason: String,
    pub(crate) arrivals_reason: String,
    pub(crate) listen: Vec<SocketAddr>,
    pub(crate) gro: bool,
    pub(crate) coalesce_bound: Duration,
}

/// Puts a summary together.
pub(crate) fn summarize(
    facts: &RunFacts,
    receivers: &[ReceiverRow],
    workers: &[WorkerRow],
    queue_latency_ns: Percentiles,
    (elapsed, ended): (Duration, Option<Ended>),
) -> Summary {
    let rx: Vec<_> = receivers.iter().map(|row| (row.counts, row.arrived)).collect();
    let wk: Vec<_> = workers.iter().map(|row| row.counts).collect();
    let sum = |field: fn(&ReceiverCounts) -> u64| -> u64 {
        receivers.iter().map(|row| field(&row.counts)).sum()
    };
    Summary {
        backend: facts.backend,
        backend_reason: facts.backend_reason.clone(),
        arrivals_reason: facts.arrivals_reason.clone(),
        listen: facts.listen.clone(),
        elapsed,
        ledger: balance(&rx, &wk, facts.gro, ended),
        trains: sum(|c| c.trains),
        ring_exhausted: sum(|c| c.ring_exhausted),
        cq_overflow: sum(|c| c.cq_overflow),
        rearmed: sum(|c| c.rearmed),
        socket_errors: sum(|c| c.socket_errors),
        replies: ReplySummary {
            sent: sum(|c| c.replies_sent),
            send_timed_out: sum(|c| c.replies_timed_out),
            failed: sum(|c| c.replies_failed) + wk.iter().map(|c| c.replies_failed).sum::<u64>(),
        },
        records: RecordSummary {
            found: wk.iter().map(|c| c.records).sum(),
            rejected: wk.iter().map(|c| c.records_rejected).sum(),
        },
        queue_latency_ns,
        coalesce_bound: facts.coalesce_bound,
        rss_bytes: 0,
        receivers: receivers
            .iter()
            .map(|row| ReceiverSummary {
                core: row.core,
                received: row.counts.received,
                dropped_kernel: kernel_drops(&row.counts, row.arrived, facts.gro, ended.is_some())
                    .0,
                kernel_buffers: row.counts.kernel_buffers,
                rcvbuf_bytes: row.rcvbuf_bytes,
                cpu_ns: row.counts.cpu_ns,
                sleeps: row.counts.sleeps,
            })
            .collect(),
        workers: workers
            .iter()
            .map(|row| WorkerSummary {
                core: row.core,
                handled: row.counts.handled,
                batches: row.counts.batches,
                cpu_ns: row.counts.cpu_ns,
            })
            .collect(),
    }
}
