//! `ringest send`: sends each message to each peer as one datagram, and reports errors and replies that come back.
//!
//! ```text
//!  input ─► message ─► pace ─► each peer: client ──► sent, or refused and reported
//!                                 │ replies (--wait-reply) ─► stdout
//!                                 └ errors of earlier datagrams ─► reported once for each peer and kind
//!  end ─► wait for the last errors (--linger) ─► summary ─► exit code
//! ```

/// The flags of `ringest send`.
pub(crate) mod flags;
/// Reads messages from words, lines or frames.
pub(crate) mod input;
/// Divides a stream into lines or frames.
pub(crate) mod pieces;
/// Flags of a sending socket.
pub(crate) mod options;
/// When the next datagram is due, and the progress line.
pub(crate) mod pace;
/// Reads and resolves peers.
pub(crate) mod peers;
/// Counts and prints replies.
pub(crate) mod replies;
/// The tally of a run: summary, JSON and exit code.
pub(crate) mod report;
/// A run: opens the input and the client, and sends.
pub(crate) mod session;

pub(crate) use crate::cli::send::flags::SendArgs;
pub(crate) use crate::cli::send::session::run;
