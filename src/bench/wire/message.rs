//! The messages between the two sides of a bench: one JSON object a line, over TCP.
//!
//! ```text
//!  client                                server (the host under test)
//!  hello {version, token}          ─►
//!                                  ◄─    welcome {version, host}
//!  prepare {receiver}              ─►    starts a receiver
//!                                  ◄─    ready {address}
//!  … sends the warm-up, then …
//!  mark                            ─►    waits until it has arrived, reads all counters
//!                                  ◄─    marked
//!  … sends the load, then …
//!  finish {sent, by flow}          ─►    waits until counts stop changing, reads them, stops
//!                                  ◄─    outcome {…}        or at any time: error {message}
//! ```
//! Lines are bounded. Version and token are checked first. When a client disconnects, its receiver stops.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::document::facts::HostFacts;
use crate::document::report::{Setup, StageRecord};
use crate::document::trial::{Losses, Switches};

/// The version of the protocol; both sides must have the same. Any change of a message changes it.
pub const VERSION: u32 = 1;

/// A message from the client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// The first message.
    Hello {
        /// [`VERSION`].
        version: u32,
        /// The server's `--token`, if it has one.
        token: Option<String>,
    },
    /// Starts a receiver; stops the current one.
    Prepare {
        /// The receiver to start.
        receiver: ReceiverSpec,
    },
    /// The warm-up has been sent.
    Mark {
        /// Datagrams that left the sender.
        sent: u64,
        /// As in [`Request::Finish`].
        settle_ms: u64,
    },
    /// The load has been sent.
    Finish {
        /// Datagrams that left the sender.
        sent: u64,
        /// Sequence numbers used in each flow.
        issued_by_flow: Vec<u64>,
        /// Those of them that never left the sender.
        failed: u64,
        /// The pause after which counts are final although datagrams are missing, ms.
        settle_ms: u64,
    },
}

/// A message from the server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Reply {
    /// The client is accepted.
    Welcome {
        /// [`VERSION`].
        version: u32,
        /// The host under test.
        host: HostFacts,
    },
    /// A receiver is ready.
    Ready {
        /// Its address.
        address: SocketAddr,
        /// Its setup.
        setup: Setup,
    },
    /// The warm-up is over; counts start here.
    Marked,
    /// The receiver's counts of a trial.
    Outcome {
        /// The counts.
        outcome: Box<ReceiverOutcome>,
    },
    /// The request failed; the connection is closed if the client broke the protocol.
    Error {
        /// The error for the user.
        message: String,
        /// Whether the request was invalid (exit code 2).
        #[serde(default)]
        usage: bool,
    },
}

/// The receiver to start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReceiverSpec {
    /// The kind of receiver.
    pub kind: Kind,
    /// Whether to receive trains whole (UDP_GRO).
    pub gro: bool,
    /// Receive buffer to ask for, bytes.
    pub rcvbuf_bytes: usize,
    /// Cores, receivers first; empty if the server is to choose.
    pub cores: Vec<usize>,
    /// The run id of the load.
    pub run: u32,
    /// Number of flows.
    pub flows: usize,
    /// The largest payload, bytes; the slots of a bare loop have this size.
    pub size_max: usize,
    /// Whether to read every datagram's stamp; if not, it only counts, as the bare loops do.
    pub tracks: bool,
    /// Whether to measure latency by stage, with the kernel's receive time.
    pub stages: bool,
    /// Whether to send each datagram back.
    pub echoes: bool,
    /// The boot id of the sender's kernel. With the same id, both share a clock.
    pub sender_boot_id: String,
}

/// The kind of receiver.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Kind {
    /// The engine.
    Engine(EngineSpec),
    /// A bare loop around one system call.
    Bare {
        /// `recvmsg`, `recvmmsg`, `recvmmsg_epoll` or `recvmmsg_naps`.
        call: String,
    },
}

/// The parameters of the engine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EngineSpec {
    /// `auto`, `io_uring` or `recvmmsg`.
    pub backend: String,
    /// Receiver threads.
    pub receivers: usize,
    /// Worker threads; 0 if receivers handle the datagrams.
    pub workers: usize,
    /// Slots per receiver.
    pub slots: usize,
    /// The most latency that batching may add, us; `None` for the default.
    pub coalesce_us: Option<u64>,
    /// `wait` or `drop`.
    pub overload: String,
    /// Whether to count arrivals by eBPF if possible.
    pub arrivals: bool,
    /// Whether handlers hold their first batch until the trial is over, to cause losses on purpose.
    pub stalled: bool,
}

/// The receiver's counts between mark and finish, in datagrams.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ReceiverOutcome {
    /// Reached the sockets; `None` if arrivals are not counted.
    pub arrived: Option<u64>,
    /// Taken from the sockets.
    pub received: u64,
    /// Dropped by the kernel at the sockets.
    pub kernel: u64,
    /// The same as the kernel counts it, in buffers.
    pub kernel_buffers: u64,
    /// Whether `kernel` counts datagrams; if not, buffers, each perhaps a train.
    pub kernel_exact: bool,
    /// Longer than a slot.
    pub truncated: u64,
    /// Dropped because no batch was empty.
    pub pool: u64,
    /// Dropped because the worker's queue was full.
    pub queue: u64,
    /// Left in the sockets.
    pub unread: u64,
    /// Given to handlers.
    pub handled: u64,
    /// The residual of the engine's ledger; 0 if it balances.
    pub residual: i64,
    /// Times that the slots ran out; no loss by itself.
    pub ring_exhausted: u64,
    /// Whether counts still changed at the end of the settling time.
    pub unsettled: bool,
    /// The handlers' counts, if they read stamps.
    pub seen: Option<SeenCounts>,
    /// Drops that the kernel counted elsewhere.
    pub layers: Losses,
    /// CPU time of each thread by its name, ns.
    pub threads: Vec<(String, u64)>,
    /// CPU time of the receiving threads, ns.
    pub receiver_cpu_ns: u64,
    /// CPU time of the workers, ns; `None` without workers.
    pub worker_cpu_ns: Option<u64>,
    /// CPU time of interrupts and softirqs of the whole host, ns.
    pub softirq_ns: u64,
    /// CPU time of the whole host, ns.
    pub host_ns: u64,
    /// Context switches of the receiving threads and workers.
    pub switches: Switches,
    /// Latency by stage.
    pub stages: Vec<StageRecord>,
}

/// The handlers' counts by stamp.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenCounts {
    /// Datagrams of the run, each counted once.
    pub distinct: u64,
    /// Duplicates.
    pub duplicates: u64,
    /// Arrived after a later one.
    pub reordered: u64,
    /// The largest reordering extent, datagrams (RFC 4737, section 4.2).
    pub extent_max: u32,
    /// Interarrival jitter, the mean over flows, ns (RFC 3550, section 6.4.1); `None` if datagrams
    /// hold no send time.
    pub jitter_ns: Option<u64>,
    /// Too late to be distinguished from duplicates.
    pub late: u64,
    /// Not of the run, since the mark.
    pub foreign: u64,
    /// As `foreign`, plus datagrams too short for a run id. They are foreign too, unless the load's own
    /// datagrams are that short.
    pub not_named_ours: u64,
    /// Sent but not seen, by sequence numbers.
    pub lost: u64,
    /// Whether nothing arrived that was not sent.
    pub sound: bool,
}
