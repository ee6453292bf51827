//! The report of a load: datagrams sent, not sent and why, and lateness; and the errors that end a load.

use std::io;
use std::net::SocketAddr;

use hdrhistogram::Histogram;

use crate::spec::SpecError;
use ringest_engine::count::latency::Percentiles;

/// The counts of the datagrams that were due.
///
/// ```text
/// intended = sent + unsent + qdisc_dropped + send_failed
/// ```
#[derive(Clone, Debug)]
pub struct LoadReport {
    /// Due by the end; at full speed, all that were tried.
    pub intended: u64,
    /// Accepted by the kernel. Whether they arrived is not known.
    pub sent: u64,
    /// Due, but not sent when the time was up.
    pub unsent: u64,
    /// Dropped by the queueing discipline of this host (ENOBUFS). The kernel does not
    /// report a train (UDP_SEGMENT) that is dropped in part: its datagrams count as sent.
    pub qdisc_dropped: u64,
    /// Refused by this host's kernel for another reason.
    pub send_failed: u64,
    /// Refusals by errno, the most frequent first.
    pub errors: Vec<(i32, u64)>,
    /// Datagrams that found the send buffer full (EAGAIN) and were retried; each counted once.
    pub blocked: u64,
    /// ICMP errors received: port or host unreachable.
    pub unreachable: u64,
    /// Sequence numbers used in each flow, including those of refused and dropped datagrams.
    pub issued_by_flow: Vec<u64>,
    /// Time from the start to the last send, ns; at a constant rate it includes the last datagram's
    /// interval.
    pub elapsed_ns: u64,
    /// Delay from the intended to the actual send of each datagram, ns; empty at full speed.
    pub lateness_ns: Histogram<u64>,
    /// Delay of the last datagram, ns; large if the sender was too slow all along.
    pub behind_at_end_ns: u64,
    /// Whether the path refused trains, so that datagrams were sent one by one.
    pub trains_refused: bool,
    /// `io_uring` or `sendmmsg`.
    pub backend: &'static str,
    /// The echoes, if they were expected.
    pub echo: Option<EchoReport>,
}

/// The counts and times of echoes.
#[derive(Clone, Debug)]
pub struct EchoReport {
    /// Echoes of this run, each counted once.
    pub received: u64,
    /// Sent, and no echo seen.
    pub lost: u64,
    /// Echoes that arrived after a later one of their flow (RFC 4737).
    pub reordered: u64,
    /// Echoes that arrived more than once.
    pub duplicates: u64,
    /// Datagrams received that are not of this run.
    pub foreign: u64,
    /// Round trip from the intended time, ns. Empty if datagrams are too short to hold it.
    pub from_intended_ns: Histogram<u64>,
    /// Round trip from the time of sending, ns. It hides the sender's own delays.
    pub from_actual_ns: Histogram<u64>,
}

impl LoadReport {
    /// Returns a report without datagrams.
    #[must_use]
    pub fn empty(flows: usize, backend: &'static str) -> Self {
        Self {
            intended: 0,
            sent: 0,
            unsent: 0,
            qdisc_dropped: 0,
            send_failed: 0,
            errors: Vec::new(),
            blocked: 0,
            unreachable: 0,
            issued_by_flow: vec![0; flows],
            elapsed_ns: 0,
            lateness_ns: histogram(),
            behind_at_end_ns: 0,
            trains_refused: false,
            backend,
            echo: None,
        }
    }

    /// Adds the report of another thread.
    pub(crate) fn add(&mut self, other: &Self) {
        self.intended += other.intended;
        self.sent += other.sent;
        self.unsent += other.unsent;
        self.qdisc_dropped += other.qdisc_dropped;
        self.send_failed += other.send_failed;
        self.blocked += other.blocked;
        self.unreachable += other.unreachable;
        for &(errno, count) in &other.errors {
            note_error(&mut self.errors, errno, count);
        }
        self.errors.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        for (mine, theirs) in self.issued_by_flow.iter_mut().zip(&other.issued_by_flow) {
            *mine += theirs;
        }
        self.elapsed_ns = self.elapsed_ns.max(other.elapsed_ns);
        // Same bounds on both sides, so it cannot fail.
        let _ = self.lateness_ns.add(&other.lateness_ns);
        self.behind_at_end_ns = self.behind_at_end_ns.max(other.behind_at_end_ns);
        self.trains_refused |= other.trains_refused;
        self.backend = other.backend;
        match (&mut self.echo, &other.echo) {
            (Some(mine), Some(theirs)) => mine.add(theirs),
            (None, Some(theirs)) => self.echo = Some(theirs.clone()),
            (_, None) => {}
        }
    }

    /// Returns the datagrams sent a second.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a rate needs no 53 bits")]
    pub fn rate_pps(&self) -> f64 {
        if self.elapsed_ns == 0 { 0.0 } else { self.sent as f64 * 1e9 / self.elapsed_ns as f64 }
    }
}

impl EchoReport {
    fn add(&mut self, other: &Self) {
        self.received += other.received;
        self.lost += other.lost;
        self.reordered += other.reordered;
        self.duplicates += other.duplicates;
        self.foreign += other.foreign;
        let _ = self.from_intended_ns.add(&other.from_intended_ns);
        let _ = self.from_actual_ns.add(&other.from_actual_ns);
    }
}

pub(crate) fn note_error(errors: &mut Vec<(i32, u64)>, errno: i32, count: u64) {
    match errors.iter_mut().find(|(known, _)| *known == errno) {
        Some((_, counted)) => *counted += count,
        None => errors.push((errno, count)),
    }
}

/// Makes a histogram with three digits from 1 ns to an hour; allocates all memory.
#[must_use]
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 3_600_000_000_000, 3)
        .unwrap_or_else(|_| unreachable!("the bounds are constants that the crate accepts"))
}

/// Returns the percentiles that reports show.
#[must_use]
pub fn percentiles(histogram: &Histogram<u64>) -> Percentiles {
    if histogram.is_empty() {
        return Percentiles::default();
    }
    let at = |quantile| histogram.value_at_quantile(quantile).min(histogram.max());
    Percentiles { p50: at(0.5), p90: at(0.9), p99: at(0.99), p999: at(0.999), max: histogram.max() }
}

/// The reason why a load could not be sent, or ended early.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The parameters are invalid.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// A socket could not be opened.
    #[error("cannot send to {target}: {step} failed: {source}{}", socket_hint(source))]
    Socket {
        /// The target.
        target: SocketAddr,
        /// The call or option.
        step: &'static str,
        /// The kernel's error.
        source: io::Error,
    },
    /// More flows than source ports.
    #[error(
        "cannot open flow {opened} of {wanted} to {target}: no source port is free; lower --flows, or \
         widen net.ipv4.ip_local_port_range"
    )]
    NoPorts {
        /// The target.
        target: SocketAddr,
        /// Flows that could be opened.
        opened: usize,
        /// Flows asked for.
        wanted: usize,
    },
    /// The port is closed.
    #[error(
        "{target} refuses: no socket is bound to that port (ICMP port unreachable, after {sent} \
         datagrams); start the receiver first, or check the port"
    )]
    Refused {
        /// The target.
        target: SocketAddr,
        /// Datagrams sent before.
        sent: u64,
    },
    /// The host cannot be reached.
    #[error("{target} cannot be reached: {source}; check the address, and `ip route get {}`", target.ip())]
    Unreachable {
        /// The target.
        target: SocketAddr,
        /// The error of the kernel or of a router.
        source: io::Error,
    },
    /// The kernel refuses such datagrams.
    #[error("the kernel refuses these datagrams: {source}; {hint}")]
    Impossible {
        /// The kernel's error.
        source: io::Error,
        /// The next move.
        hint: &'static str,
    },
    /// The capture cannot be read.
    #[error(transparent)]
    Capture(#[from] crate::replay::ReplayError),
    /// The capture has changed since it was surveyed.
    #[error("{name} has changed since it was looked through; replay a copy that nobody writes to")]
    CaptureChanged {
        /// The file.
        name: String,
    },
    /// A thread could not be started, or the ring failed.
    #[error(transparent)]
    Engine(#[from] ringest_engine::error::Error),
    /// A thread could not be started.
    #[error(transparent)]
    Thread(#[from] ringest_base::sys::threads::ThreadError),
    /// The ring or epoll failed.
    #[error("sending failed: {step}: {source}")]
    Backend {
        /// The step.
        step: &'static str,
        /// The kernel's error.
        source: io::Error,
    },
}

impl LoadError {
    /// Returns whether the parameters were invalid (exit code 2).
    #[must_use]
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Spec(_))
    }
}

fn socket_hint(source: &io::Error) -> &'static str {
    match source.raw_os_error() {
        Some(libc::EMFILE) => "; each flow is a descriptor: raise `ulimit -n`, or lower --flows",
        Some(libc::ENFILE) => "; the host is out of descriptors: see fs.file-max",
        Some(libc::EADDRNOTAVAIL) => "; --bind takes an address of this host, see `ip addr`",
        Some(libc::EINVAL) => "; source and target must be able to reach each other",
        Some(libc::EAFNOSUPPORT) => "; this host has no such address family",
        _ => "",
    }
}
