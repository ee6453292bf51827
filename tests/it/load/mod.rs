//! The load generator and replay.

/// What the tests of `ringest load` share
pub(crate) mod rig;
/// `ringest load`, the program
pub(crate) mod basics;
/// `ringest load` where a network, a firewall or a queueing discipline is in its way
pub(crate) mod network;
/// `ringest load --pcap`
pub(crate) mod replay;
