//! The two sides of a bench, and what they say to each other.

/// The client's end of the conversation with a bench server.
pub mod link;
/// The host under test.
pub mod server;
/// One trial, from the intention to the handler.
pub mod trial;
