//! Part of [ringest](https://crates.io/crates/ringest): the engine. Receives UDP datagrams, hands them to worker
//! threads, sends their replies, and accounts for every datagram.
//!
//! ```text
//!              one RECEIVER thread per core, pinned                 WORKER threads, pinned
//!  ┌──────────────────────────────────────────────────────┐   ┌──────────────────────────┐
//!  │ socket ──► backend ────► receive ────► batch ────────┼──►│ queue ─► work: handler   │
//!  │                                         ▲            │   │              │           │
//!  │                                        pool ◄────────┼───┼── batch goes home        │
//!  │ socket ◄── backend ◄── send ◄───────── queue ◄───────┼───┼── replies    ◄           │
//!  └──────────────────────────────────────────────────────┘   └──────────────────────────┘
//!  control: config ─► plan ─► engine (spawn, pin, stop, join) ─► count: ledger, summary
//! ```

/// How frames are taken from sockets and put on them: io_uring, or recvmmsg with epoll.
pub mod backend;
/// Batches of datagrams, and the pool that owns them.
pub mod batch;
/// Programs for the kernel: bpf(2) without a compiler or a library.
pub mod bpf;
/// Decides once, then watches: config, plan, engine. Never sees a payload.
pub mod control;
/// Counters of the threads, and the ledger made of them.
pub mod count;
/// One variant per step that can fail, each with the operator's next move.
pub mod error;
/// A receiver: takes frames, copies them into batches, hands the batches over.
pub mod receive;
/// The way back: replies.
pub mod send;
#[cfg(test)]
pub(crate) mod simulation;
/// Listening sockets: opened, set, joined to groups, steered to.
pub mod socket;
/// How threads of an engine signal each other.
pub mod sync;
/// Addresses, control messages and headers as the kernel writes them, read as bytes.
pub mod wire;
/// A worker: runs the handler over each batch.
pub mod work;
