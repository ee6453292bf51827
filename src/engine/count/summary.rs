//! The summary of a run: the ledger, costs and latencies, by thread and in total.

use std::net::SocketAddr;
use std::time::Duration;

use crate::backend::kind::BackendKind;
use crate::count::counters::{ReceiverCounts, WorkerCounts};
use crate::count::latency::Percentiles;
use crate::count::ledger::{Arrived, Ended, Ledger, balance, kernel_drops};

/// State of an engine at one moment; after a stop, its final state.
#[derive(Clone, Debug)]
pub struct Summary {
    /// The backend.
    pub backend: BackendKind,
    /// Reason for that backend.
    pub backend_reason: String,
    /// Method by which arrivals are counted, or the reason why they are not.
    pub arrivals_reason: String,
    /// Listen addresses, with the ports that the kernel chose.
    pub listen: Vec<SocketAddr>,
    /// Time since the start.
    pub elapsed: Duration,
    /// Number of datagrams at each place on their way.
    pub ledger: Ledger,
    /// Frames that held two or more datagrams.
    pub trains: u64,
    /// Times the slots ran out.
    pub ring_exhausted: u64,
    /// Times the completion queue overflowed.
    pub cq_overflow: u64,
    /// Times a receive was armed: once at the start, and after each end.
    pub rearmed: u64,
    /// Errors that sockets reported and the receivers survived.
    pub socket_errors: u64,
    /// The handlers' replies, by outcome.
    pub replies: ReplySummary,
    /// Records that decoders found in the datagrams; 0 where no decoder ran.
    pub records: RecordSummary,
    /// Time from the socket to the handler.
    pub queue_latency_ns: Percentiles,
    /// Upper bound of the latency added by gathering datagrams into batches; zero if it is off.
    pub coalesce_bound: Duration,
    /// Resident memory of the process, bytes.
    pub rss_bytes: u64,
    /// One per receiver.
    pub receivers: Vec<ReceiverSummary>,
    /// One per worker; with inline handlers, one per receiver.
    pub workers: Vec<WorkerSummary>,
}

/// Records by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct RecordSummary {
    /// Records found.
    pub found: u64,
    /// Parts of datagrams that were no record.
    pub rejected: u64,
}

/// Replies by outcome, in datagrams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ReplySummary {
    /// Taken by the kernel. Whether they reached their peer is not known.
    pub sent: u64,
    /// Given up: the send buffer stayed full until the send deadline.
    pub send_timed_out: u64,
    /// Refused by the kernel, or given up because no room was left for them.
    pub failed: u64,
}

/// One receiver's share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceiverSummary {
    /// Core that the thread is pinned to.
    pub core: usize,
    /// Datagrams taken from its sockets.
    pub received: u64,
    /// Drops of the kernel at its sockets, in the ledger's `kernel_unit`.
    pub dropped_kernel: u64,
    /// The same drops by the kernel's own counter, in buffers. Equal to `dropped_kernel` if there were no
    /// trains.
    pub kernel_buffers: u64,
    /// Receive buffer granted, bytes, the sum of its sockets.
    pub rcvbuf_bytes: usize,
    /// CPU time, ns; up to a second old while running.
    pub cpu_ns: u64,
    /// Times it slept because there was nothing to do.
    pub sleeps: u64,
}

/// One worker's share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerSummary {
    /// Core that the thread is pinned to.
    pub core: usize,
    /// Datagrams handled.
    pub handled: u64,
    /// Batches handled.
    pub batches: u64,
    /// CPU time, ns; up to a second old while running; 0 for an inline handler.
    pub cpu_ns: u64,
}

impl Summary {
    /// Returns the CPU time of all receivers per datagram received, ns; `None` before the first datagram.
    #[must_use]
    pub fn receiver_ns_per_datagram(&self) -> Option<f64> {
        per(self.receivers.iter().map(|r| r.cpu_ns).sum(), self.ledger.received)
    }

    /// Returns the CPU time of all workers per datagram handled, ns; `None` before the first datagram, and
    /// for inline handlers, whose time is their receiver's.
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

/// A receiver's counters, with its core, buffer and arrivals.
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

/// Facts that do not change during a run.
#[derive(Clone, Debug)]
pub(crate) struct RunFacts {
    pub(crate) backend: BackendKind,
    pub(crate) backend_reason: String,
    pub(crate) arrivals_reason: String,
    pub(crate) listen: Vec<SocketAddr>,
    pub(crate) gro: bool,
    pub(crate) coalesce_bound: Duration,
}

/// Makes a summary from the counters of all threads.
pub(crate) fn summarize(
    facts: &RunFacts,
    receivers: &[ReceiverRow],
    workers: &[WorkerRow],
    queue_latency_ns: Percentiles,
    (elapsed, ended): (Duration, Option<Ended>),
) -> Summary {
    let rx: Vec<_> = receivers.iter().map(|row| (row.counts, row.arrived)).collect();
    let wk: Vec<_> = workers.iter().map(|row| row.counts).collect();
    let receiving = ReceiverCounts::total(rx.iter().map(|(counts, _)| counts));
    let working = WorkerCounts::total(&wk);
    Summary {
        backend: facts.backend,
        backend_reason: facts.backend_reason.clone(),
        arrivals_reason: facts.arrivals_reason.clone(),
        listen: facts.listen.clone(),
        elapsed,
        ledger: balance(&rx, &wk, facts.gro, ended),
        trains: receiving.trains,
        ring_exhausted: receiving.ring_exhausted,
        cq_overflow: receiving.cq_overflow,
        rearmed: receiving.rearmed,
        socket_errors: receiving.socket_errors,
        replies: ReplySummary {
            sent: receiving.replies_sent,
            send_timed_out: receiving.replies_timed_out,
            failed: receiving.replies_failed + working.replies_failed,
        },
        records: RecordSummary { found: working.records, rejected: working.records_rejected },
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

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Returns the summary of an engine with one receiver and one worker that counted this.
    pub(crate) fn summary_of(
        receiver: ReceiverCounts,
        worker: WorkerCounts,
        ended: Option<Ended>,
    ) -> Summary {
        let facts = RunFacts {
            backend: BackendKind::IoUring,
            backend_reason: String::new(),
            arrivals_reason: String::new(),
            listen: Vec::new(),
            gro: false,
            coalesce_bound: Duration::ZERO,
        };
        let receivers = [ReceiverRow { core: 0, rcvbuf_bytes: 0, counts: receiver, arrived: None }];
        let workers = [WorkerRow { core: 1, counts: worker }];
        let when = (Duration::from_secs(1), ended);
        summarize(&facts, &receivers, &workers, Percentiles::default(), when)
    }
}
