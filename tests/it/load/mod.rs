//! The load generator and replay.

/// Tools: the real binary, its output, and captures to replay.
pub(crate) mod rig;
/// `ringest load` on the loopback.
pub(crate) mod basics;
/// `ringest load` through a network, a firewall or a queueing discipline that drops or delays.
pub(crate) mod network;
/// `ringest load --pcap`.
pub(crate) mod replay;
