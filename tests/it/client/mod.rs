//! The client library and `ringest send`.

/// What the tests of the client share
pub(crate) mod rig;
/// `ringest::Client` on the loopback
pub(crate) mod basics;
/// `ringest send` on the loopback
pub(crate) mod send;
/// The client on a cable
pub(crate) mod network;
/// The client with a router before the server
pub(crate) mod path;
/// `ringest send` against programs that are not ours
pub(crate) mod others;
