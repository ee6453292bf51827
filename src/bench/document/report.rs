//! What a bench writes down: the document behind `--json FILE`, the table and the HTML page.
//!
//! One version number for all of it. Fields are only ever added; a reader ignores those it does not
//! know. Rates are datagrams a second, times nanoseconds where the name does not say otherwise,
//! counts are datagrams, never calls.

use serde::{Deserialize, Serialize};

use crate::document::facts::HostFacts;
use crate::document::trial::{PercentilesRecord, TrialRecord};

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

/// How a receiver is set up.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Setup {
    /// `io_uring`, `recvmmsg`, or the call of a bare loop.
    pub backend: String,
    /// Where receivers are pinned.
    pub receiver_cores: Vec<usize>,
    /// Where workers are pinned.
    pub worker_cores: Vec<usize>,
    /// Receive buffer granted, bytes.
    pub rcvbuf_bytes: usize,
    /// How arrivals are counted, or why not.
    pub arrivals: String,
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
