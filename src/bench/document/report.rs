//! What a bench writes down: the document behind `--json FILE`, the table and the HTML page.
//!
//! One version number for all of it. Fields are only ever added; a reader ignores those it does not
//! know. Rates are datagrams a second, times nanoseconds where the name does not say otherwise,
//! counts are datagrams, never calls.

use serde::{Deserialize, Serialize};

use crate::document::facts::HostFacts;
use crate::subject::layers::Losses;
use crate::talk::wire::Setup;

/// Of the document, and of the protocol between the two hosts.
pub const VERSION: u32 = 1;

/// The question a bench asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The highest rate without loss, and with 0.5 % of it.
    Ndr,
    /// The same work with each receive API.
    Compare,
    /// The longest burst without loss (RFC 9004).
    Burst,
    /// How long a datagram takes, by stage.
    Latency,
    /// Loss against rate.
    Curve,
}

impl Mode {
    /// The word on the command line and in the document.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ndr => "ndr",
            Self::Compare => "compare",
            Self::Burst => "burst",
            Self::Latency => "latency",
            Self::Curve => "curve",
        }
    }
}

/// Everything one run of `ringest bench` found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`VERSION`].
    pub version: u32,
    /// What was asked.
    pub mode: Mode,
    /// The no-drop rate: the conditional throughput at a loss ratio of 0. `None` where it was not
    /// looked for or not found.
    pub ndr_pps: Option<f64>,
    /// The same at a loss ratio of 0.5 %.
    pub pdr_pps: Option<f64>,
    /// The host under test.
    pub host: HostFacts,
    /// The host that sent; the same one on loopback.
    pub sender: HostFacts,
    /// Sender and receiver share a kernel: no network was between them.
    pub loopback: bool,
    /// The version of ringest.
    pub ringest: String,
    /// When it began, seconds since 1970-01-01T00:00:00Z.
    pub started_at_unix_s: u64,
    /// What to type to have it again.
    pub command: String,
    /// What was sent and how it was received, the same for every trial unless the trial says so.
    pub setting: Setting,
    /// What a reader must know before quoting a figure; the most important first.
    pub warnings: Vec<String>,
    /// `ndr`, `latency`: what the search found.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub goals: Vec<GoalRecord>,
    /// `compare`: one per variant, in the order they were named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub variants: Vec<VariantRecord>,
    /// `burst`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<BurstRecord>,
    /// `latency`: one per load.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub latencies: Vec<LatencyRecord>,
    /// `curve`: one per number of flows and rate.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub curve: Vec<CurvePoint>,
    /// Every trial, in the order they ran.
    pub trials: Vec<TrialRecord>,
}

/// What was the same in all trials.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Setting {
    /// Payload bytes, as they were asked for: `64`, `64-1400`, `imix`.
    pub size: String,
    /// Datagrams per send (UDP_SEGMENT); 1: each alone.
    pub train: usize,
    /// Sockets, and so source ports, that sent.
    pub flows: usize,
    /// Threads that sent.
    pub threads: usize,
    /// `constant` or `poisson`.
    pub pattern: String,
    /// Seconds of a full-length trial.
    pub trial_s: f64,
    /// The order of trials, and everything else drawn by lot, follows from it.
    pub seed: u64,
    /// Who received: `io_uring`, `recvmmsg`.
    pub backend: String,
    /// Whether trains were taken whole.
    pub gro: bool,
    /// Receiver threads and where they were pinned.
    pub receiver_cores: Vec<usize>,
    /// Worker threads and where they were pinned; empty: handled inline.
    pub worker_cores: Vec<usize>,
    /// Where the sending threads were pinned.
    pub sender_cores: Vec<usize>,
    /// Receive buffer per socket, asked for, bytes.
    pub rcvbuf_asked_bytes: usize,
    /// And granted.
    pub rcvbuf_granted_bytes: usize,
}

/// What a search found for one goal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GoalRecord {
    /// `ndr` or `pdr`.
    pub name: String,
    /// Loss that is agreed to, 0 to 1.
    pub loss_ratio: f64,
    /// Share of trials that may lose more, by time.
    pub exceed_ratio: f64,
    /// How near the two bounds had to come.
    pub relative_width: f64,
    /// The highest rate that kept the goal.
    pub lower_pps: Option<f64>,
    /// The lowest rate that did not; `None`: even the highest tried did.
    pub upper_pps: Option<f64>,
    /// What was forwarded at the lower bound, as MLRsearch defines it.
    pub throughput_pps: Option<f64>,
}

/// A figure with how far it can be trusted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The median.
    pub median: f64,
    /// Lower end of the bootstrap 95 % interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Figures behind it; with fewer than six the interval is narrower than 95 % would be.
    #[serde(default)]
    pub samples: usize,
}

/// One way to receive, over all rounds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VariantRecord {
    /// Such as `ringest io_uring` or `bare recvmmsg, UDP_GRO`.
    pub name: String,
    /// What those with the same UDP_GRO are divided by.
    pub reference: bool,
    /// How it was set up.
    #[serde(default)]
    pub setup: Setup,
    /// CPU time of the receiving thread per datagram, ns.
    pub receiver_ns: Option<Interval>,
    /// CPU time of the workers per datagram, ns.
    pub worker_ns: Option<Interval>,
    /// CPU time of the whole host per datagram received, ns.
    pub host_ns: Option<Interval>,
    /// Received a second.
    pub received_pps: Option<Interval>,
    /// Lost of what was intended, 0 to 1.
    pub loss_ratio: Option<Interval>,
    /// CPU time of receiver and workers together over the reference's, within one round.
    pub ratio: Option<Interval>,
    /// What `ratio` allows to say: `cheaper`, `dearer`, `no difference shown`; `None` for the
    /// reference.
    pub verdict: Option<String>,
}

/// RFC 9004 back-to-back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BurstRecord {
    /// The longest burst without loss, datagrams, over the repetitions.
    pub longest: Interval,
    /// Each repetition's.
    pub repetitions: Vec<u64>,
    /// How fast bursts were sent.
    #[serde(default)]
    pub send_pps: f64,
    /// How fast the receiver takes datagrams when overrun: it empties the buffer while a burst fills it.
    #[serde(default)]
    pub drain_pps: f64,
    /// Datagrams that the buffer itself holds: `longest` less what was taken meanwhile (RFC 9004,
    /// section 5.5, corrected buffer time). `None` where the sender is no faster than the receiver.
    #[serde(default)]
    pub buffer_datagrams: Option<f64>,
    /// What a datagram of this size takes of the buffer, by that: granted bytes over `buffer_datagrams`.
    pub bytes_per_datagram: Option<f64>,
    /// Even the longest burst tried lost nothing: the buffer is deeper than this.
    pub unbounded: bool,
}

/// Where time went at one load.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LatencyRecord {
    /// Share of the NDR, 0 to 1.
    pub load: f64,
    /// The rate that was.
    pub rate_pps: f64,
    /// In the order a datagram meets them.
    pub stages: Vec<StageRecord>,
}

/// One stage of a datagram's way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageRecord {
    /// `lateness` (intended to sent), `wire` (sent to the socket), `socket` (socket to engine),
    /// `queue` (engine to handler), `handler`, `one_way` (intended to handled), `rtt_intended`,
    /// `rtt_actual`.
    pub name: String,
    /// The usual percentiles.
    pub percentiles: PercentilesRecord,
    /// The whole distribution for a chart: (percentile 0 to 100, ns), ascending.
    pub curve: Vec<(f64, u64)>,
}

/// Percentiles, ns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PercentilesRecord {
    /// How many were recorded.
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

/// Loss at one rate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CurvePoint {
    /// Source ports.
    pub flows: usize,
    /// The rate that was intended.
    pub intended_pps: f64,
    /// Lost of what was intended, 0 to 1, unsent included.
    pub loss_ratio: Interval,
    /// Lost of what was sent, 0 to 1.
    pub receiver_loss_ratio: Interval,
    /// Trials behind it.
    pub trials: usize,
}

/// One trial: every datagram from the intention to the handler.
///
/// ```text
/// intended = unsent + send_failed + qdisc + sent
/// sent     = network + nic + backlog + checksum + socket + unplaced + unread + (received, ours)
/// received = truncated + pool + queue + handled     ours: without foreign, duplicates and late
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TrialRecord {
    /// Who received.
    pub variant: String,
    /// What it was for, such as `round 3` or `50 % of NDR`.
    pub purpose: String,
    /// `None`: as fast as the sender can.
    pub intended_pps: Option<f64>,
    /// Seconds of sending.
    pub duration_s: f64,
    /// Source ports.
    pub flows: usize,
    /// Datagrams that were due.
    pub intended: u64,
    /// Due, but the sender did not get to them in time.
    pub unsent: u64,
    /// Taken by the sender's kernel.
    pub sent: u64,
    /// Reached the sockets, where that can be counted.
    pub arrived: Option<u64>,
    /// Taken from the sockets.
    pub received: u64,
    /// Given to the handler.
    pub handled: u64,
    /// Handled, but not of this trial: another run's, or no stamp.
    pub foreign: u64,
    /// Came again; counted in `received` and `handled` as well.
    pub duplicates: u64,
    /// Came after a later one of its flow (RFC 4737).
    pub reordered: u64,
    /// How far out of order one was at most, datagrams (RFC 4737, section 4.2).
    #[serde(default)]
    pub reorder_extent: u32,
    /// Too late to be told from a duplicate; counted in `received` and `handled` as well.
    #[serde(default)]
    pub late: u64,
    /// Interarrival jitter, the mean over flows, ns (RFC 3550, section 6.4.1).
    #[serde(default)]
    pub jitter_ns: Option<u64>,
    /// What is missing, by where it went.
    pub lost: Lost,
    /// Costs.
    pub cpu_ns_per_datagram: Costs,
    /// CPU time of each thread of the receiver per datagram received, ns, by its name.
    #[serde(default)]
    pub thread_ns_per_datagram: Vec<(String, f64)>,
    /// What the receiving host's kernel counted meanwhile, whoever's it was.
    #[serde(default)]
    pub host_drops: Losses,
    /// The same of the sending host; on loopback they are one.
    #[serde(default)]
    pub sender_drops: Losses,
    /// Drops at our sockets as the kernel itself counts them: in buffers, each perhaps a train.
    #[serde(default)]
    pub socket_drop_buffers: u64,
    /// `datagrams`: `lost.socket` is exact; `buffers`: it is the least, the rest is in `unplaced`.
    #[serde(default)]
    pub kernel_unit: String,
    /// Times the receiver's slots ran out: no loss by itself, the socket holds what comes.
    #[serde(default)]
    pub ring_exhausted: u64,
    /// ICMP errors that came back to the sender: port or host unreachable, or a firewall that says no.
    #[serde(default)]
    pub unreachable: u64,
    /// Context switches of the receiving threads and workers.
    pub context_switches: Switches,
    /// Handled a second of sending.
    pub handled_pps: f64,
    /// Intended to sent.
    pub lateness_ns: PercentilesRecord,
    /// The accounts do not balance, or the trial was disturbed: its figures are not used.
    pub void: bool,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub void_reason: Option<String>,
}

/// What was lost, by where; in the order of a datagram's way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// Never sent: the generator was late.
    pub unsent: u64,
    /// The sender's kernel refused them.
    pub send_failed: u64,
    /// The sender's queueing discipline dropped them (ENOBUFS).
    pub qdisc: u64,
    /// Between the sender's kernel and the receiver's: what no other line accounts for.
    pub network: u64,
    /// The receiver's network interfaces.
    pub nic: u64,
    /// The receiver's per-CPU backlog (net.core.netdev_max_backlog).
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
    /// Name and count of each line, in the order of a datagram's way.
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

    /// All of it.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.lines().iter().map(|(_, count)| count).sum()
    }
}

/// CPU time per datagram received (`worker`: handled), ns; `None` where there was none, or no such thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Costs {
    /// Receiver threads.
    pub receiver: Option<f64>,
    /// Worker threads.
    pub worker: Option<f64>,
    /// Interrupt and softirq time of the receiving host, all cores (/proc/stat).
    pub softirq: Option<f64>,
    /// Everything the receiving host did, all cores; on loopback this holds the sender as well.
    pub host: Option<f64>,
}

/// Context switches of the receiving threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Switches {
    /// Gave up the core to wait.
    pub voluntary: u64,
    /// Was taken off it.
    pub involuntary: u64,
}

impl TrialRecord {
    /// Whether what was intended is what was handled and what was lost, to the datagram.
    #[must_use]
    pub fn balances(&self) -> bool {
        let before = self.lost.unsent + self.lost.send_failed + self.lost.qdisc;
        let extra = self.foreign + self.duplicates + self.late;
        self.intended == before + self.sent
            && self.intended + extra == self.lost.total() + self.handled
    }

    /// Lost of what was intended, 0 to 1; unsent counts.
    #[must_use]
    pub fn loss_ratio(&self) -> f64 {
        share(self.lost.total(), self.intended)
    }

    /// Lost of what was sent, 0 to 1.
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
