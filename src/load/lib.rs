//! The load generator: sends stamped datagrams in an open loop on absolute deadlines. The receiving half
//! tells which of them arrived.
//!
//! ```text
//!  spec ─► generated: schedule, stamp ─┬─► sender (a thread: sockets, round, ring) ─► kernel
//!          replayed: a capture ────────┘
//!  report ◄── unsent, refused, lateness ◄────┘      echoes ─► tracker ─► lost, reordered, rtt
//! ```
//! A module uses only those above it.

/// The stamp of a generated datagram.
pub mod stamp;
/// The receiver's counts of a run, and the losses.
pub mod account;
/// Reads captures and journals to replay.
pub mod replay;
/// The parameters of a load.
pub mod spec;
/// Deadlines of datagrams.
pub mod schedule;
/// The report of a load, and its errors.
pub mod report;
/// The receiving half: tells which datagrams arrived.
pub mod receive;
/// The sending half: hands due datagrams to the kernel.
pub mod send;
/// Starts and stops all sending threads.
pub mod generator;
