//! The load generator: an open loop on absolute deadlines, whose datagrams know who they are.
//!
//! ```text
//!  spec ─► made: schedule, stamp ─┬─► sender (a thread: sockets, round, ring) ─► kernel
//!          played: a capture ─────┘
//!  report ◄── unsent, refused, lateness ◄──┘        echoes ─► tracker ─► lost, reordered, rtt
//! ```

/// What became of the datagrams of a run, as far as their receiver can tell, and what that makes of
/// the sender's final counts.
pub mod account;
/// All sending threads of a load.
pub mod generator;
/// The receiving half: which datagrams came.
pub mod receive;
/// The UDP payloads of a capture file (pcap or pcapng), or the records of a journal, in order and
/// with their pace.
pub mod replay;
/// What came of a load.
pub mod report;
/// When each datagram is due.
pub mod schedule;
/// The sending half: from a datagram that is due to the kernel.
pub mod send;
/// What to send.
pub mod spec;
/// What a generated datagram carries, so that its receiver can tell whose it is, which one it is,
/// how long it took and whether a byte of it changed.
pub mod stamp;
