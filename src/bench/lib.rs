//! Trials: what a host can receive, where the first datagram is lost, and at what cost.
//!
//! ```text
//!   client: generator ── datagrams ──► [network] ──► receiver :server (the host under test)
//!      └────── one JSON object a line, TCP: prepare, mark, finish, outcome ──────┘
//!   trial = intended → unsent → sent → network → nic → backlog → socket → ring → queue → handled
//! ```
//! A trial's accounts balance, or it is void.

/// What changed beyond noise between two reports of one mode.
pub mod diff;
/// The report of a bench as a document, and what it is made of.
pub mod document;
/// One file per question that a bench answers.
pub mod modes;
/// A [`Report`](crate::document::report::Report) as something to look at.
pub mod report;
/// What the engine is compared with.
pub mod rivals;
/// The search for the highest rates with an agreed loss.
pub mod search;
/// The receiver under test.
pub mod subject;
/// The two sides of a bench, and what they say to each other.
pub mod talk;
