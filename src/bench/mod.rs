//! Trials: what a host can receive, where the first datagram is lost, and at what cost.
//!
//! ```text
//!   client: generator ── datagrams ──► [network] ──► receiver :server (the host under test)
//!      └────── one JSON object a line, TCP: prepare, mark, finish, outcome ──────┘
//!   trial = intended → unsent → sent → network → nic → backlog → socket → ring → queue → handled
//! ```
//! A trial's accounts balance, or it is void.

/// What a host says of itself.
pub mod facts;
/// What a bench writes down.
pub mod record;
/// What the two sides say to each other.
pub mod wire;
/// What the kernel counts outside of our sockets.
pub mod layers;
/// The leanest loops around each receive call.
pub(crate) mod peers;
/// What the engine under test does with datagrams.
mod handler;
/// CPU time and context switches of threads.
mod threads;
/// The receiver under test: started, marked, finished.
mod receiver;
/// The host under test.
pub mod server;
/// The client's end of the conversation.
pub mod link;
/// One trial, from the intention to the handler.
pub mod trial;
/// The search for the highest rates with an agreed loss (MLRsearch).
pub mod search;
/// Medians and how far they can be trusted.
pub mod stats;
/// Many trials over one link.
pub mod campaign;
// One file per question.
/// The no-drop rate.
pub mod ndr;
/// The same work with each receive API.
pub mod compare;
/// The longest burst without loss.
pub mod burst;
/// How long a datagram takes.
pub mod latency;
/// Loss against rate.
pub mod curve;
/// A report as something to look at.
pub mod report;
/// Two reports side by side.
pub mod diff;
/// A report from a file.
pub mod read;
