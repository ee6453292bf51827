//! The record of one trial: its accounts, its costs and its times.

use serde::{Deserialize, Serialize};

/// One trial: every datagram from the intention to the handler.
///
/// ```text
/// intended = unsent + send_failed + qdisc + sent
/// sent     = network + nic + backlog + checksum + socket + unplaced + unread + (received, ours)
/// received = truncated + pool + queue + handled     ours: without foreign, duplicates and late
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TrialRecord {
    /// The receiver's name.
    pub variant: String,
    /// The purpose, such as `round 3` or `50 % of NDR`.
    pub purpose: String,
    /// The intended rate, datagrams a second; `None` for as fast as possible.
    pub intended_pps: Option<f64>,
    /// Time of sending, seconds.
    pub duration_s: f64,
    /// Number of source ports.
    pub flows: usize,
    /// Datagrams that were due.
    pub intended: u64,
    /// Due, but not sent in time.
    pub unsent: u64,
    /// Taken by the sender's kernel.
    pub sent: u64,
    /// Reached the sockets; `None` if arrivals are not counted.
    pub arrived: Option<u64>,
    /// Taken from the sockets.
    pub received: u64,
    /// Given to the handler.
    pub handled: u64,
    /// Handled, but from another run or without a stamp.
    pub foreign: u64,
    /// Duplicates; also counted in `received` and `handled`.
    pub duplicates: u64,
    /// Arrived after a later one of the same flow (RFC 4737).
    pub reordered: u64,
    /// The largest reordering extent, datagrams (RFC 4737, section 4.2).
    #[serde(default)]
    pub reorder_extent: u32,
    /// Too late to be distinguished from duplicates; also counted in `received` and `handled`.
    #[serde(default)]
    pub late: u64,
    /// Interarrival jitter, the mean over flows, ns (RFC 3550, section 6.4.1).
    #[serde(default)]
    pub jitter_ns: Option<u64>,
    /// Missing datagrams, by cause.
    pub lost: Lost,
    /// CPU time a datagram.
    pub cpu_ns_per_datagram: Costs,
    /// CPU time of each thread of the receiver per datagram received, ns, by its name.
    #[serde(default)]
    pub thread_ns_per_datagram: Vec<(String, f64)>,
    /// Drops that the receiving host's kernel counted during the trial, of all programs.
    #[serde(default)]
    pub host_drops: Losses,
    /// The same on the sending host; on loopback it is the same host.
    #[serde(default)]
    pub sender_drops: Losses,
    /// Drops at our sockets as the kernel itself counts them: in buffers, each perhaps a train.
    #[serde(default)]
    pub socket_drop_buffers: u64,
    /// `datagrams`: `lost.socket` is exact; `buffers`: it is the least, the rest is in `unplaced`.
    #[serde(default)]
    pub kernel_unit: String,
    /// Times that the receiver ran out of slots. No loss by itself: the socket buffers datagrams.
    #[serde(default)]
    pub ring_exhausted: u64,
    /// ICMP errors that came back to the sender: port or host unreachable, or a firewall that says no.
    #[serde(default)]
    pub unreachable: u64,
    /// Context switches of the receiving threads and workers.
    pub context_switches: Switches,
    /// Datagrams handled, divided by the time of sending.
    pub handled_pps: f64,
    /// Delay from the intended to the actual time of sending.
    pub lateness_ns: PercentilesRecord,
    /// Whether the counts do not balance or the trial was disturbed. Its figures are not used then.
    pub void: bool,
    /// The reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub void_reason: Option<String>,
}

/// Lost datagrams by cause, in the order of a datagram's way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// Never sent: the generator was late.
    pub unsent: u64,
    /// Refused by the sender's kernel.
    pub send_failed: u64,
    /// Dropped by the sender's queueing discipline (ENOBUFS).
    pub qdisc: u64,
    /// Lost between the two kernels: the rest that no other line accounts for.
    pub network: u64,
    /// Dropped by the receiver's network interfaces.
    pub nic: u64,
    /// Dropped at the receiver's per-CPU backlog (net.core.netdev_max_backlog).
    pub backlog: u64,
    /// A wrong checksum.
    pub checksum: u64,
    /// The socket's receive buffer was full.
    pub socket: u64,
    /// Missing, and either further datagrams of trains that the socket dropped, or lost in the network:
    /// only without CAP_BPF on the receiving host, and with UDP_GRO.
    #[serde(default)]
    pub unplaced: u64,
    /// Longer than a slot.
    pub truncated: u64,
    /// No empty batch.
    pub pool: u64,
    /// The worker's queue was full.
    pub queue: u64,
    /// Left in the socket when it was closed.
    pub unread: u64,
}

impl Lost {
    /// Returns name and count of each line, in the order of a datagram's way.
    #[must_use]
    pub fn lines(&self) -> [(&'static str, u64); 13] {
        [
            ("unsent", self.unsent),
            ("send_failed", self.send_failed),
            ("qdisc", self.qdisc),
            ("network", self.network),
            ("nic", self.nic),
            ("backlog", self.backlog),
            ("checksum", self.checksum),
            ("socket", self.socket),
            ("unplaced", self.unplaced),
            ("truncated", self.truncated),
            ("pool", self.pool),
            ("queue", self.queue),
            ("unread", self.unread),
        ]
    }

    /// Returns the sum of all lines.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.lines().iter().map(|(_, count)| count).sum()
    }
}

/// Drops by layer, of the whole host (of the network namespace, where the kernel tells them apart).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Losses {
    /// At the interface: rx_dropped, rx_missed_errors and rx_fifo_errors of /sys/class/net/*/statistics.
    pub nic: u64,
    /// The backlog of a CPU was full, or the flow limit held it back (/proc/net/softnet_stat, columns
    /// 2 and 11).
    pub backlog: u64,
    /// UDP: wrong checksums (InCsumErrors).
    pub checksum: u64,
    /// UDP: receive buffers were full, in buffers (RcvbufErrors); our sockets are part of it.
    pub rcvbuf: u64,
    /// UDP: no socket was bound to the port (NoPorts).
    pub no_port: u64,
    /// UDP: could not be sent, for want of memory or dropped by a queueing discipline (SndbufErrors).
    #[serde(default)]
    pub sndbuf: u64,
    /// Interfaces sent what the queueing discipline had let through, and dropped it (tx_dropped).
    pub nic_tx: u64,
}

/// Percentiles, ns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PercentilesRecord {
    /// Number of values.
    pub count: u64,
    /// Half are faster.
    pub p50: u64,
    /// Nine in ten are faster.
    pub p90: u64,
    /// 99 in 100 are faster.
    pub p99: u64,
    /// 999 in 1000 are faster.
    pub p999: u64,
    /// The slowest.
    pub max: u64,
}

/// CPU time per datagram received (`worker`: handled), ns; `None` without datagrams or without such a
/// thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Costs {
    /// Receiver threads.
    pub receiver: Option<f64>,
    /// Worker threads.
    pub worker: Option<f64>,
    /// Interrupt and softirq time of the receiving host, all cores (/proc/stat).
    pub softirq: Option<f64>,
    /// All activity of the receiving host, all cores; on loopback this includes the sender.
    pub host: Option<f64>,
}

/// Context switches of the receiving threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Switches {
    /// The thread gave up its core to wait.
    pub voluntary: u64,
    /// The kernel took the core from the thread.
    pub involuntary: u64,
}

impl TrialRecord {
    /// Returns whether intended equals handled plus lost, to the datagram.
    #[must_use]
    pub fn balances(&self) -> bool {
        let before = self.lost.unsent + self.lost.send_failed + self.lost.qdisc;
        let extra = self.foreign + self.duplicates + self.late;
        self.intended == before + self.sent
            && self.intended + extra == self.lost.total() + self.handled
    }

    /// Returns lost over intended, 0 to 1; unsent counts as lost.
    #[must_use]
    pub fn loss_ratio(&self) -> f64 {
        share(self.lost.total(), self.intended)
    }

    /// Returns lost after sending over sent, 0 to 1.
    #[must_use]
    pub fn receiver_loss_ratio(&self) -> f64 {
        let before = self.lost.unsent + self.lost.send_failed + self.lost.qdisc;
        share(self.lost.total() - before, self.sent)
    }
}

#[expect(clippy::cast_precision_loss, reason = "a ratio needs no 53 bits")]
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}
