//! The two sides of a bench.

/// The client's end of the control connection.
pub mod link;
/// The server, on the host under test.
pub mod server;
/// Makes one trial, and adds up its counts.
pub mod trial;
