//! What the two sides of a bench say to each other: one JSON object a line, over TCP.
//!
//! ```text
//!  client                                server (the host under test)
//!  hello {version, token}          ─►
//!                                  ◄─    welcome {version, host}
//!  prepare {receiver}              ─►    starts a receiver
//!                                  ◄─    ready {address}
//!  … sends the warm-up, then …
//!  mark                            ─►    waits until it has arrived, snapshots every layer
//!                                  ◄─    marked
//!  … sends the load, then …
//!  finish {sent, by flow}          ─►    waits until counts stand still, snapshots, stops
//!                                  ◄─    outcome {…}        or at any time: error {message}
//! ```
//! Lines are bounded, versions and the token are checked before anything else, and a client that goes
//! away takes its receiver with it.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::document::facts::HostFacts;
use crate::document::report::{Setup, StageRecord};
use crate::document::trial::{Losses, Switches};

/// Of the protocol; both sides must have the same. Anything said or heard that changes, changes it.
pub const VERSION: u32 = 1;

/// From the client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// The first thing said.
    Hello {
        /// [`VERSION`].
        version: u32,
        /// What the server was started with, if anything.
        token: Option<String>,
    },
    /// Start a receiver; ends the one there is.
    Prepare {
        /// What to start.
        receiver: ReceiverSpec,
    },
    /// The warm-up has been sent.
    Mark {
        /// Datagrams of it that left the sender.
        sent: u64,
        /// As in `finish`.
        settle_ms: u64,
    },
    /// The load has been sent.
    Finish {
        /// Datagrams of it that left the sender.
        sent: u64,
        /// Numbers given out in each flow.
        issued_by_flow: Vec<u64>,
        /// Of those, the ones that never left the sender.
        failed: u64,
        /// How long nothing may come before counts are taken for final, if not all has come, ms.
        settle_ms: u64,
    },
}

/// From the server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Reply {
    /// The client may go on.
    Welcome {
        /// [`VERSION`].
        version: u32,
        /// The host under test.
        host: HostFacts,
    },
    /// A receiver stands.
    Ready {
        /// Where it listens.
        address: SocketAddr,
        /// How it is set up.
        setup: Setup,
    },
    /// The warm-up has been taken off the accounts.
    Marked,
    /// A trial's receiving half.
    Outcome {
        /// What was found.
        outcome: Box<Outcome>,
    },
    /// It cannot be done; the connection is closed where the client is at fault.
    Error {
        /// What, why, and the next move.
        message: String,
        /// The client asked for something that cannot be.
        #[serde(default)]
        usage: bool,
    },
}

/// Which receiver to start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReceiverSpec {
    /// Who receives.
    pub kind: Kind,
    /// Take trains whole (UDP_GRO).
    pub gro: bool,
    /// Receive buffer to ask for, bytes.
    pub rcvbuf_bytes: usize,
    /// Cores, receivers first; empty: the server chooses.
    pub cores: Vec<usize>,
    /// The run whose datagrams are to be counted as ours.
    pub run: u32,
    /// Its flows.
    pub flows: usize,
    /// The largest payload, bytes: a bare loop has slots for it.
    pub size_max: usize,
    /// Look at every datagram; else only count, as the bare loops do.
    pub tracks: bool,
    /// Split latency into stages by the kernel's receive time.
    pub stages: bool,
    /// Send each datagram back.
    pub echoes: bool,
    /// The kernel's boot id at the sender: with the same one, clocks are shared.
    pub sender_boot_id: String,
}

/// Who receives.
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

/// How to run the engine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EngineSpec {
    /// `auto`, `io_uring` or `recvmmsg`.
    pub backend: String,
    /// Receiver threads.
    pub receivers: usize,
    /// Worker threads; 0: inline.
    pub workers: usize,
    /// Provided buffers per receiver.
    pub slots: usize,
    /// Most latency that gathering may add, us; `None`: the default.
    pub coalesce_us: Option<u64>,
    /// `wait` or `drop`.
    pub overload: String,
    /// Count arrivals by eBPF where that can be had.
    pub arrivals: bool,
    /// Handlers hold their first batch until the trial is over: for finding losses where they are made.
    pub stalled: bool,
}

/// What the receiving side found between mark and finish, in datagrams.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Reached the sockets, where counted.
    pub arrived: Option<u64>,
    /// Taken from the sockets.
    pub received: u64,
    /// Dropped by the kernel at the sockets.
    pub kernel: u64,
    /// The same as the kernel itself counts it, in buffers.
    pub kernel_buffers: u64,
    /// `kernel` is in datagrams; else in buffers, each perhaps a train.
    pub kernel_exact: bool,
    /// Longer than a slot.
    pub truncated: u64,
    /// No empty batch.
    pub pool: u64,
    /// The worker's queue was full.
    pub queue: u64,
    /// Left in the sockets.
    pub unread: u64,
    /// Given to handlers.
    pub handled: u64,
    /// What the engine's own ledger is off by.
    pub residual: i64,
    /// Times the slots ran out; no loss by itself.
    pub ring_exhausted: u64,
    /// Counts still moved when the time to settle was over.
    pub unsettled: bool,
    /// What the handlers counted, where they looked.
    pub seen: Option<Seen>,
    /// What the kernel counted elsewhere.
    pub layers: Losses,
    /// CPU time of each thread by its name, ns.
    pub threads: Vec<(String, u64)>,
    /// CPU time of the receiving threads, ns.
    pub receiver_cpu_ns: u64,
    /// Of the workers; `None` without any.
    pub worker_cpu_ns: Option<u64>,
    /// Interrupts and softirqs of the whole host, ns.
    pub softirq_ns: u64,
    /// Everything the host did, ns.
    pub host_ns: u64,
    /// Context switches of the receiving threads and workers.
    pub switches: Switches,
    /// Latency by stage.
    pub stages: Vec<StageRecord>,
}

/// What the handlers saw in the datagrams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Of the run, each counted once.
    pub distinct: u64,
    /// Came again.
    pub duplicates: u64,
    /// Came after a later one.
    pub reordered: u64,
    /// How far out of order one was at most, datagrams (RFC 4737, section 4.2).
    pub extent_max: u32,
    /// Interarrival jitter, the mean over flows, ns (RFC 3550, section 6.4.1); `None` where datagrams do
    /// not say when they were sent.
    pub jitter_ns: Option<u64>,
    /// Too late to be told from a duplicate.
    pub late: u64,
    /// Not of the run, since the mark.
    pub foreign: u64,
    /// The same and what was too short to say whose it is: foreign too, unless the run's own are so short.
    pub not_named_ours: u64,
    /// Sent and not seen, by the numbers.
    pub lost: u64,
    /// Nothing came that was not sent.
    pub sound: bool,
}
