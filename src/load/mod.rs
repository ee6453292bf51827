//! The load generator: an open loop on absolute deadlines, whose datagrams know who they are.
//!
//! ```text
//!  spec ─► made: schedule, stamp ─┬─► sender (a thread: sockets, round, ring) ─► kernel
//!          played: a capture ─────┘
//!  report ◄── unsent, refused, lateness ◄──┘        echoes ─► tracker ─► lost, reordered, rtt
//! ```

/// What to send, and whether that can be.
pub mod spec;
/// When each datagram is due.
pub mod schedule;
/// What a generated datagram carries.
pub mod stamp;
/// Numbers of one flow that have come.
mod window;
/// The receiving half's books, added up.
pub mod account;
/// The receiving half's books on one run.
pub mod tracker;
/// Datagrams that are made to be sent.
mod made;
/// Datagrams out of a capture.
mod played;
/// Either of them.
mod source;
/// What is handed to the kernel in one go.
mod round;
/// Waiting for a deadline.
mod wait;
/// What comes back from an echo server.
mod echo;
/// One sending thread.
pub mod sender;
/// What became of each send.
mod settle;
#[cfg(test)]
mod scripted;
/// All of them: starts, watches, adds up.
pub mod generator;
/// What came of it.
pub mod report;
/// The receiving half: a handler that keeps the books of a run.
pub mod receiver;
/// The datagrams of a capture, in time.
pub mod replay;
