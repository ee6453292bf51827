//! The report of a bench: `--json FILE` writes it, tables and the HTML page show it.
//!
//! One version number for all of it. Fields are only ever added; a reader ignores those it does not
//! know. Rates are datagrams a second, times nanoseconds where the name does not say otherwise,
//! counts are datagrams, never calls.

use serde::{Deserialize, Serialize};

use crate::document::facts::HostFacts;
use crate::document::trial::{PercentilesRecord, TrialRecord};

/// The version of the report format.
pub const VERSION: u32 = 1;

/// The mode of a bench: the question that it answers.
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
    /// Returns the word on the command line and in JSON.
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

/// The results of one run of `ringest bench`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`VERSION`].
    pub version: u32,
    /// The mode of the bench.
    pub mode: Mode,
    /// The no-drop rate: the conditional throughput at a loss ratio of 0. `None` if it was not
    /// searched for or not found.
    pub ndr_pps: Option<f64>,
    /// The same at a loss ratio of 0.5 %.
    pub pdr_pps: Option<f64>,
    /// The host under test.
    pub host: HostFacts,
    /// The host that sent; the same one on loopback.
    pub sender: HostFacts,
    /// Whether sender and receiver shared a kernel, with no network between them.
    pub loopback: bool,
    /// The version of ringest that wrote it.
    pub ringest: String,
    /// Start of the run, seconds since 1970-01-01T00:00:00Z.
    pub started_at_unix_s: u64,
    /// The command that repeats the run.
    pub command: String,
    /// The load and the receiver; a trial may differ where it says so.
    pub setting: Setting,
    /// Warnings that a reader must know before quoting a figure, the most important first.
    pub warnings: Vec<String>,
    /// `ndr`, `latency`: the results of the search.
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

/// The settings that all trials share.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Setting {
    /// Payload bytes, as they were asked for: `64`, `64-1400`, `imix`.
    pub size: String,
    /// Datagrams per send (UDP_SEGMENT); 1: each alone.
    pub train: usize,
    /// Sending sockets; each has its own source port.
    pub flows: usize,
    /// Sending threads.
    pub threads: usize,
    /// `constant` or `poisson`.
    pub pattern: String,
    /// Length of a full trial, seconds.
    pub trial_s: f64,
    /// The seed of everything random, such as the order of trials.
    pub seed: u64,
    /// The receive backend: `io_uring` or `recvmmsg`.
    pub backend: String,
    /// Whether UDP_GRO was on.
    pub gro: bool,
    /// Cores of the receiver threads.
    pub receiver_cores: Vec<usize>,
    /// Cores of the worker threads; empty if the receivers handled the datagrams.
    pub worker_cores: Vec<usize>,
    /// Cores of the sending threads; empty if they were not pinned.
    pub sender_cores: Vec<usize>,
    /// Receive buffer asked for, bytes a socket.
    pub rcvbuf_asked_bytes: usize,
    /// Receive buffer granted, bytes a socket.
    pub rcvbuf_granted_bytes: usize,
}

/// The result of a search for one goal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GoalRecord {
    /// `ndr` or `pdr`.
    pub name: String,
    /// The loss ratio that the goal allows, 0 to 1.
    pub loss_ratio: f64,
    /// The share of the trial time that may exceed it.
    pub exceed_ratio: f64,
    /// The largest distance of the two bounds, as a share of the upper one.
    pub relative_width: f64,
    /// The highest rate that met the goal.
    pub lower_pps: Option<f64>,
    /// The lowest rate that did not; `None` if even the highest rate tried did.
    pub upper_pps: Option<f64>,
    /// The rate forwarded at the lower bound: the "Conditional Throughput" of MLRsearch.
    pub throughput_pps: Option<f64>,
}

/// A median with its 95 % confidence interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The median.
    pub median: f64,
    /// Lower end of the bootstrap 95 % interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// The number of samples; with fewer than six the interval covers less than 95 %.
    #[serde(default)]
    pub samples: usize,
}

/// The setup of a receiver as it runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Setup {
    /// `io_uring`, `recvmmsg`, or the call of a bare loop.
    pub backend: String,
    /// Cores of the receiver threads.
    pub receiver_cores: Vec<usize>,
    /// Cores of the worker threads.
    pub worker_cores: Vec<usize>,
    /// Receive buffer granted, bytes.
    pub rcvbuf_bytes: usize,
    /// The way arrivals are counted, or the reason why they are not.
    pub arrivals: String,
}

/// One variant of the receiver, over all rounds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VariantRecord {
    /// The name, such as `ringest io_uring` or `bare recvmmsg, UDP_GRO`.
    pub name: String,
    /// Whether the variants with the same UDP_GRO setting are compared with this one.
    pub reference: bool,
    /// The setup.
    #[serde(default)]
    pub setup: Setup,
    /// CPU time of the receiving thread per datagram, ns.
    pub receiver_ns: Option<Interval>,
    /// CPU time of the workers per datagram, ns.
    pub worker_ns: Option<Interval>,
    /// CPU time of the whole host per datagram received, ns.
    pub host_ns: Option<Interval>,
    /// Datagrams handled a second.
    pub received_pps: Option<Interval>,
    /// Lost of what was intended, 0 to 1.
    pub loss_ratio: Option<Interval>,
    /// CPU time of receiver and workers together, divided by that of the reference in the same round.
    pub ratio: Option<Interval>,
    /// The conclusion from `ratio`: `cheaper`, `dearer` or `no difference shown`; `None` for the
    /// reference.
    pub verdict: Option<String>,
}

/// The result of a burst bench (RFC 9004, back-to-back frames).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BurstRecord {
    /// The longest burst without loss, datagrams, over the repetitions.
    pub longest: Interval,
    /// The longest burst of each repetition, datagrams.
    pub repetitions: Vec<u64>,
    /// Sending rate of the bursts, datagrams a second.
    #[serde(default)]
    pub send_pps: f64,
    /// Rate of the receiver when overrun, datagrams a second: it empties the buffer during a burst.
    #[serde(default)]
    pub drain_pps: f64,
    /// Datagrams that the buffer holds: `longest` less those received during the burst (RFC 9004,
    /// section 5.5, corrected buffer time). `None` if the sender is no faster than the receiver.
    #[serde(default)]
    pub buffer_datagrams: Option<f64>,
    /// Buffer memory of one datagram, bytes: granted bytes over `buffer_datagrams`.
    pub bytes_per_datagram: Option<f64>,
    /// Whether even the longest burst tried lost nothing, so that the buffer is larger than this.
    pub unbounded: bool,
}

/// Latency by stage at one load.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LatencyRecord {
    /// Share of the NDR, 0 to 1.
    pub load: f64,
    /// The rate, datagrams a second.
    pub rate_pps: f64,
    /// The stages, in the order in which a datagram passes them.
    pub stages: Vec<StageRecord>,
}

/// Latency of one stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageRecord {
    /// `lateness` (intended to sent), `wire` (sent to the socket), `socket` (socket to engine),
    /// `queue` (engine to handler), `handler`, `one_way` (intended to handled), `rtt_intended`,
    /// `rtt_actual`.
    pub name: String,
    /// The percentiles.
    pub percentiles: PercentilesRecord,
    /// The whole distribution for a chart: (percentile 0 to 100, ns), ascending.
    pub curve: Vec<(f64, u64)>,
}

/// Loss at one rate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CurvePoint {
    /// Number of source ports.
    pub flows: usize,
    /// The intended rate, datagrams a second.
    pub intended_pps: f64,
    /// Lost of what was intended, 0 to 1, unsent included.
    pub loss_ratio: Interval,
    /// Lost of what was sent, 0 to 1.
    pub receiver_loss_ratio: Interval,
    /// Number of trials.
    pub trials: usize,
}
