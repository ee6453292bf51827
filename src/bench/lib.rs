//! Trials: what a host can receive, where the first datagram is lost, and at what cost.
//!
//! ```text
//!   client: generator ── datagrams ──► [network] ──► receiver :server (the host under test)
//!      └────── one JSON object a line, TCP: prepare, mark, finish, outcome ──────┘
//!   trial = intended → unsent → sent → network → nic → backlog → socket → ring → queue → handled
//! ```
//! The counts of a trial balance, or the trial is void and its figures are not used.
//!
//! A module uses only those above it:
//!
//! ```text
//! document          the report as it is written to JSON
//! wire    rivals    search
//! subject           the receiver under test: an engine, or a rival
//! talk              both ends of the control connection, and one trial over it
//! modes             the benches: which trials, and what they add up to
//! report            tables, charts and the page (uses document only)
//! diff              two reports compared (uses document and report)
//! ```

/// The report of a bench: the types behind `--json FILE`.
pub mod document;
/// The protocol between client and server.
pub mod wire;
/// Bare receive loops that the engine is compared with.
pub mod rivals;
/// The search for the highest rates with an agreed loss.
pub mod search;
/// The receiver under test.
pub mod subject;
/// The client and the server of a bench, and one trial between them.
pub mod talk;
/// One file for each mode of `ringest bench`.
pub mod modes;
/// Turns a [`Report`](crate::document::report::Report) into tables, charts and a page.
pub mod report;
/// Compares two reports of one mode.
pub mod diff;
#[cfg(test)]
mod chaos;
